"""The figures of a report, and everything its templates lay out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serkit.reporting import data_tables, elsewhere, groups, ratings, tables, votes
from serkit.reporting.charts import component_curves, confusion_figure, learning_curves
from serkit.reporting.figures import Interval, class_figure, class_scores, differences, forest
from serkit.reporting.reading import Source
from serkit.reporting.reliability import reliability
from serkit.reporting.svg import Drawing, Figure, both
from serkit.reporting.text import METRICS, between, count, finite, listed, number, whole
from serkit.reporting.verdict import by, judge


def content(source: Source) -> dict[str, Any]:
    """What the templates need: texts, tables and figures by name."""
    return {
        "source": source,
        "tree": source.tree,
        "description": str(source.tree.get("description") or ""),
        "about": about(source),
        "verdict": elsewhere.led(source, votes.led(source, ratings.led(source, judge(source)))),
        "tiles": _tiles(source),
        "adds": f"What the {source.ensemble or 'stack'} adds",
        "figures": figures(source),
        "across": elsewhere.table(source),
        "systems": tables.systems(source),
        "comparisons": tables.comparisons(source),
        "confusions": tables.confusions(source),
        "classes": tables.classes(source),
        "groups": groups.sections(source),
        "group_notes": groups.notes(source),
        "mistakes": tables.mistakes(source),
        "everything": data_tables.everything(source),
        "calibration": data_tables.calibration(source),
        "raters": data_tables.raters(source),
        "attributes": data_tables.attributes(source),
        "folds": data_tables.folds(source),
        "counts": data_tables.counts(source),
        "published": data_tables.published(source),
        "changes": data_tables.changes(source),
        "networks": data_tables.networks(source),
        "features": data_tables.features(source),
        "settings": data_tables.settings(source),
    }


def about(source: Source) -> str:
    """Corpus, protocol, fold and sizes in a line."""
    parts = []
    for name, info in source.corpora.items():
        text = name
        if info.get("corpus_version") not in (None, "", "unknown"):
            text += f" (version {info['corpus_version']})"
        if info.get("protocol"):
            text += f", protocol {info['protocol']}"
            text += f" v{info['protocol_version']}" if info.get("protocol_version") is not None else ""
        pooled = source.pooled
        if source.across and source.folds:
            pass  # each corpus is a fold
        elif pooled:
            text += f", folds {', '.join(pooled)}" + (f" of {info['folds']}" if info.get("folds") else "") + " pooled"
        elif info.get("fold") is not None:
            text += f", fold {info['fold']}" + (f" of {info['folds']}" if info.get("folds") else "")
        parts.append(text)
    return " · ".join([*parts, *_elsewhere(source)])


def _elsewhere(source: Source) -> list[str]:
    """What trains and what is test, where these are other corpora and no row of the page says it."""
    said = (source.provenance.get("corpus_info") or {}).get("across")
    if not isinstance(said, Mapping) or source.across:
        return []
    shared = (said.get("shared") or {}).items()
    tested = [f"{corpus} (answers among {count(len(labels), 'shared class')})" for corpus, labels in shared]
    return [f"trained on {listed(said.get('trained_on') or [])}, tested on {listed(tested)}"]


def _tiles(source: Source) -> list[dict[str, str]]:
    """The few numbers at the top: value, what it is, and its interval or a remark."""
    split, found = source.split, elsewhere.tiles(source)  # of several test corpora each has its own
    if not found:
        found = [*ratings.tiles(source), *votes.tiles(source)]
        for metric in ("macro_f1", "uar"):
            m = source.metric(source.lead, split, metric)
            if m:
                text = {"value": number(m["value"]), "name": f"{METRICS[metric]}, {source.ensemble or source.lead}"}
                found.append({**text, "sub": f"{between(m.get('low'), m.get('high'))} {split}", "kind": "stack"})
        m = source.metric(source.authors_answer or "", split, "macro_f1")
        if m and source.authors_answer:
            text = {"value": number(m["value"]), "name": f"Macro-F1, {source.display(source.authors_answer)}"}
            found.append({**text, "sub": f"{between(m.get('low'), m.get('high'))} the authors' answer", "kind": ""})
        m = source.metric(source.best, split, "macro_f1")
        if m and source.lead != source.best:
            text = {"value": number(m["value"]), "name": f"Macro-F1, best single on dev{by(source)}"}
            found.append({**text, "sub": f"{between(m.get('low'), m.get('high'))} {source.best}", "kind": "best"})
    m = source.metric(source.lead, split, "macro_f1")
    if m:
        sub = count(m.get("speakers"), "speaker") + (", rough" if source.rough else "")
        found.append({"value": whole(m.get("n")), "name": f"utterances on {split}", "sub": sub, "kind": ""})
    return found


def figures(source: Source) -> dict[str, Figure]:
    """All figures that the report's content allows, by name."""
    found = [
        _forest(source), _differences(source), *_confusions(source), _classes(source), groups.figure(source),
        _curves(source), _components(source), reliability(source),
    ]  # fmt: skip
    return {f.key: f for f in found if f is not None}


def _forest(source: Source) -> Figure | None:
    rows = []
    for name in [*source.singles, *source.ensembles]:
        m = source.metric(name, source.split, "macro_f1")
        if m:
            rows.append(Interval.of(source.display(name), m, source.kind(name)))
    if not rows:
        return None
    rows.sort(key=lambda r: -r.value)
    at = next((r.value for r in rows if r.kind in ("stack", "lead")), None)
    alt = "Macro-F1 with intervals, best first: " + "; ".join(r.hint for r in rows)
    lead = source.metric(source.lead, source.split, "macro_f1")
    caption = (
        f"Macro-F1 on {source.split}, best first. Lines: {lead.get('interval')}; n = {whole(lead.get('n'))}. "
        "Overlapping lines do not mean that two systems are equal: see the paired differences."
    )
    drawn = both(forest, rows, alt=alt, axis=f"Macro-F1 on {source.split}", at=at)
    return Figure("forest", f"All systems on {source.split}", caption, *drawn)


def _differences(source: Source) -> Figure | None:
    rows = []
    for c in source.comparisons:
        if c.get("a", source.lead) != source.lead:
            continue
        if c.get("split") == source.split and c.get("metric") == "macro_f1" and finite(c.get("difference")) is not None:
            other = str(c.get("b"))
            label = f"against {source.display(other)}"
            rows.append(Interval.of(label, {**c, "value": c["difference"]}, source.kind(other)))
    if not rows:
        return None
    axis = f"Macro-F1 of the {source.ensemble} minus the other, {source.split}"
    first = next(c for c in source.comparisons if c.get("split") == source.split)
    caption = f"To the right of zero the {source.ensemble} is ahead. Lines: {first.get('interval')}."
    return Figure("differences", f"What the {source.ensemble} adds", caption, *differences(rows, axis))


def _confusions(source: Source) -> list[Figure]:
    found = []
    for key, name in dict.fromkeys([("stack", source.lead), ("best", source.best)]):
        matrix = source.confusion(name, source.split)
        if matrix and not (key == "best" and name == source.lead):
            title = f"{source.display(name)}, {source.split}"
            found.append(confusion_figure(f"confusion_{key}", matrix, source.labels_of(source.split), title))
    return found


def _classes(source: Source) -> Figure | None:
    names = list(dict.fromkeys([source.lead, source.best]))
    each = [source.per_class(n, source.split) for n in names]
    rows = class_scores(each, source.labels, "f1")
    if not rows:
        return None
    return class_figure(rows, [source.display(n) for n in names], f"F1 by class on {source.split}")


def _curves(source: Source) -> Figure | None:
    drawings: Sequence[Drawing] = learning_curves(source.part("curves"))
    if not drawings:
        return None
    models = max(len(m) for m in source.part("curves").values())
    recipe = source.provenance.get("recipe") or {}
    crossfit = recipe.get("crossfit") or {}
    rows = "each network's held-out clips" if crossfit.get("with_dev") else "dev"
    kept = {(system.get("train") or {}).get("select") for system in (recipe.get("systems") or {}).values()}
    names = {**METRICS, "ccc": "CCC", "kl": "KL divergence from the votes"}
    others = listed([name for key, name in names.items() if key in kept - {"macro_f1"}])
    dot = "the best epoch" if kept <= {None, "macro_f1"} else "the highest epoch"
    if kept == {"last"}:
        dot += " (the last one is kept)"
    elif others:
        dot += f" (if train.select says so, the kept one is chosen by {others})"
    soup = any(design.get("soup") for design in source.part("design").values())
    kinds = "folds, networks of a soup" if soup else "folds"
    if crossfit.get("refit"):
        kinds += ", and those on all of train" + (" and dev, which hold out none" if crossfit.get("with_dev") else "")
    caption = (
        f"Above: Macro-F1 on {rows}, a dot at {dot}. Below: loss on train (solid) and on {rows} (dashed). "
        + (f"Thin lines: the {models} models ({kinds}) of a system; thick: their mean. " if models > 1 else "")
        + "All panels share their axes."
    )
    return Figure("curves", "Learning curves", caption, tuple(drawings))


COMPONENTS = (
    "Above: what each loss adds to the sum, after scaling and weighting. Below: the raw value of each loss, relative "
    "to its first epoch. Means over models (folds or seeds)."
)


def _components(source: Source) -> Figure | None:
    drawings: Sequence[Drawing] = component_curves(source.part("curves"))
    if not drawings:
        return None
    return Figure("components", "The losses, one by one", COMPONENTS, tuple(drawings))
