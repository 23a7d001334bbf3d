"""What ``serkit measure`` found → one HTML page to read first, and the same in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serkit.reporting import conditions, groups
from serkit.reporting.charts import confusion_figure
from serkit.reporting.data_tables import DISTANCES, fact_table
from serkit.reporting.figures import Interval, class_figure, class_scores, differences
from serkit.reporting.measured_words import (
    KINDS,
    Model,
    about,
    cautions,
    difference_in,
    findings,
    headline,
    lead,
    metric,
    names,
    short_names,
)
from serkit.reporting.reliability import CAPTION, bins, error_words, panel
from serkit.reporting.streamed import streamed_cautions, streamed_content, streamed_failed, streamed_figure
from serkit.reporting.svg import Figure
from serkit.reporting.tables import (
    Cell,
    Column,
    Row,
    Table,
    class_table,
    difference_cells,
    measured_cell,
    mistake_table,
)
from serkit.reporting.text import (
    ATTRIBUTE_NAMES,
    METRICS,
    between,
    clean,
    finite,
    listed,
    number,
    spaced,
    voices,
    whole,
)
from serkit.reporting.verdict import DETECTABLE

MOST_FAILED = 50  # rows of the table of what could not be answered
CONFUSION, SLICES = ("confusion", "confusion_beside"), ("slices", "slices_beside")
FIGURES = (*CONFUSION, "classes", "reliability", "differences", *SLICES, "streamed")
SETS_MEAN = "A set holds the classes that serkit predict --coverage gives."
RATINGS_MEAN = "CCC: concordance with the raters' mean; 1 is perfect, 0 is none. All measured clips with a rating."
DIFFERENCES_MEAN = (
    "On the recordings that both answered. “Better” and “worse” need an interval without zero, and p and p permuted < "
    f"0.05. p is not adjusted over metrics. {DETECTABLE}"
)


def measured_content(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates need: texts, tables and figures by name.

    Args:
        given: report.json of ``serkit measure``, of one bundle or of two; what it does not have is left out.
    """
    tree = clean(dict(given))
    models = tree["models"]
    return {
        "systems": [str(m["system"]) for m in models],
        "corpus": _corpus(models[0]),
        "about": about(tree),
        "headline": headline(tree),
        "lead": lead(tree),
        "tiles": _tiles(models),
        "findings": findings(tree),
        "cautions": [*cautions(tree), *streamed_cautions(tree)],
        "under": conditions.headline(tree) if tree.get("under") else "",
        "figures": {f.key: f for f in _figures(tree) if f is not None},
        "numbers": _numbers(models, "numbers", "All metrics", _metric_names(models)),
        "differences": _differences(tree),
        "classes": _classes(models),
        "attributes": _numbers(models, "attributes", "CCC by attribute", ATTRIBUTE_NAMES, (RATINGS_MEAN,)),
        "votes": _votes(models),
        "sets": [t for k in range(len(models)) if (t := _sets(models, k))],
        "groups": _groups(models),
        "group_notes": next((lines for m in models if (lines := groups.notes_of(m.get("gaps") or {}))), []),
        "streamed": streamed_content(tree),
        "mistakes": [t for m in models if (t := mistake_table(m.get("mistakes"), str(m["system"])))],
        "failed": _failed(tree),
        "facts": _facts(tree),
    }


def _corpus(model: Model) -> str:
    """The corpora that were read, with the file of a table."""
    provenance = model.get("provenance") or {}
    infos = [i for i in provenance.get("info") or [] if isinstance(i, dict)]
    joined = [i for info in infos for i in (info.get("corpora") or {"": info}).values()]
    tables = [str(i["table"]) for i in joined if i.get("table")]
    name = str(provenance.get("corpus") or "recordings")
    return f"{name} ({listed(tables)})" if tables else name


def _tiles(models: Sequence[Model]) -> list[dict[str, str]]:
    """The few numbers at the top: UAR, Macro-F1 and accuracy of one bundle, UAR and Macro-F1 of two."""
    found = []
    for k, model in enumerate(models):
        for name in ("uar", "macro_f1", "accuracy")[: 2 if len(models) > 1 else 3]:
            m = metric(model, name)
            if m:
                title = f"{METRICS[name]}, {names(models)[k]}" if len(models) > 1 else METRICS[name]
                sub = between(m.get("low"), m.get("high"))
                found.append({"value": number(m["value"]), "name": title, "sub": sub, "kind": KINDS[k]})
    error = metric(models[0], "ece")
    if error and len(models) == 1:
        sub = between(error.get("low"), error.get("high"))
        found.append({"value": number(error["value"]), "name": "ECE, 0 is perfect", "sub": sub, "kind": ""})
    return found


def _figures(tree: Mapping[str, Any]) -> list[Figure | None]:
    models = tree["models"]
    found: list[Figure | None] = []
    for k, (called, model) in enumerate(zip(short_names(models), models, strict=True)):
        at = finite(metric(model, "uar").get("value"))
        if model.get("confusion"):
            found.append(confusion_figure(CONFUSION[k], model["confusion"], _labels(model), called))
        slices, gaps = model.get("slices") or {}, model.get("gaps") or {}
        found.append(groups.group_figure(SLICES[k], slices, gaps, at, f"UAR of {called}", "all recordings"))
    return [*found, _class_figure(models), _reliability(models), _difference_figure(tree), streamed_figure(tree)]


def _labels(model: Model) -> list[str]:
    return [str(label) for label in model["labels"]]


def _class_figure(models: Sequence[Model]) -> Figure | None:
    """Recall by class, of the classes that all bundles were measured on."""
    each = [m.get("per_class") or {} for m in models]
    rows = class_scores(each, _labels(models[0]), "recall")
    return class_figure(rows, short_names(models), "Recall by class") if rows else None


def _reliability(models: Sequence[Model]) -> Figure | None:
    """Confidence against the share of right answers."""
    drawings = []
    for called, model, kind in zip(short_names(models), models, KINDS, strict=False):
        rows = bins(model.get("reliability"))
        if rows:
            drawings.append(panel(rows, title=called, sub=error_words(metric(model, "ece")), kind=kind))
    return Figure("reliability", "Reliability", CAPTION.strip(), tuple(drawings)) if drawings else None


def _difference_figure(tree: Mapping[str, Any]) -> Figure | None:
    """Paired differences between two bundles, a line for each metric."""
    rows = []
    for d in _compared(tree):
        value, low, high = (finite(d.get(k)) for k in ("difference", "low", "high"))
        if value is not None and low is not None and high is not None:
            rows.append(Interval(_name(str(d.get("metric"))), value, low, high, KINDS[0]))
    if not rows:
        return None
    one, other = short_names(tree["models"])
    axis = f"{one} minus {other}"
    caption = f"To the right of zero {one} is ahead. Lines: {_compared(tree)[0].get('interval')}."
    return Figure("differences", f"Differences: {axis}", caption, *differences(rows, axis, strong=()))


def _compared(tree: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The paired differences between two bundles, UAR first as in the headline."""
    rows = [d for d in tree.get("differences") or [] if isinstance(d, dict)] if len(tree["models"]) == 2 else []
    order = sorted((str(d.get("metric")) for d in rows), key=lambda name: name != "uar")
    return [difference_in(rows, name) for name in order]


def _name(key: str) -> str:
    """What a metric is called."""
    return {**METRICS, **ATTRIBUTE_NAMES}.get(key, spaced(key))


def _metric_names(models: Sequence[Model]) -> dict[str, str]:
    """Every metric that has no table of its own: UAR first, then as a run's report has them, then any other."""
    keys = dict.fromkeys(["uar", *METRICS, *(k for m in models for k in m.get("metrics") or {})])
    return {k: _name(k) for k in keys if k not in ATTRIBUTE_NAMES and k not in DISTANCES}


def _numbers(
    models: Sequence[Model], key: str, title: str, shown: Mapping[str, str], notes: tuple[str, ...] = ()
) -> Table | None:
    """A row for each bundle, a column for each metric that was measured; ``None`` without one.

    Args:
        key, title, notes: of the table. shown: names of metrics, by key.
    """
    kept = _kept(models, shown)
    if not kept:
        return None
    rows = [
        Row((Cell(called), *(measured_cell(metric(m, k), True) for k in kept)))
        for called, m in zip(names(models), models, strict=True)
    ]
    columns = (Column("Model"), *(Column(name, numeric=True) for name in kept.values()))
    return Table(key, title, columns, tuple(rows), (*notes, *_rests(models, kept)))


def _kept(models: Sequence[Model], shown: Mapping[str, str]) -> dict[str, str]:
    return {k: name for k, name in shown.items() if any(metric(m, k) for m in models)}


def _rests(models: Sequence[Model], kept: Mapping[str, str]) -> list[str]:
    """What the intervals of metrics rest on, those of the same kind in a line."""
    found: dict[str, list[str]] = {}
    for k, name in kept.items():
        m = next(one for model in models if (one := metric(model, k)))
        rest = f"{m.get('interval')}; n = {whole(m.get('n'))}, {voices(m.get('speakers'))}."
        found.setdefault(rest, []).append(name)
    return [f"{listed(of)}: {rest}" if len(found) > 1 else rest for rest, of in found.items()]


def _votes(models: Sequence[Model]) -> Table | None:
    """Closeness to the votes of raters, where the recordings have them."""
    kept = _kept(models, {k: name for k, (name, _) in DISTANCES.items()})
    if not kept:
        return None
    rows = [
        Row((Cell(name), *(measured_cell(metric(m, k), True) for m in models), Cell(DISTANCES[k][1])))
        for k, name in kept.items()
    ]
    columns = (Column("Distance"), *(Column(c, numeric=True) for c in names(models)), Column("Better is"))
    return Table("votes", "Closeness to the raters' votes", columns, tuple(rows), tuple(_rests(models, kept)))


def _differences(tree: Mapping[str, Any]) -> Table | None:
    """Every paired difference between two bundles."""
    found = _compared(tree)
    if not found:
        return None
    one, other = names(tree["models"])
    titles = ("Metric", one, other, "Difference [95%]", "p", "p permuted", "Detectable", "Result")
    columns = tuple(Column(t, numeric=0 < k < 7) for k, t in enumerate(titles))
    rows = [
        Row((
            Cell(_name(str(d.get("metric")))), Cell(number(d.get("value_a"))), Cell(number(d.get("value_b"))),
            *difference_cells(d),
        ))
        for d in found
    ]  # fmt: skip
    kinds = dict.fromkeys(f"{d.get('interval')}; n = {whole(d.get('n'))}." for d in found)
    return Table("differences", f"{one} minus {other}", columns, tuple(rows), (DIFFERENCES_MEAN, *kinds))


def _classes(models: Sequence[Model]) -> Table | None:
    """Precision, recall and F1 by class of the first bundle, recall and F1 of the second."""
    per_class = models[0].get("per_class") or {}
    if not per_class:
        return None
    beside = []
    for called, model in list(zip(names(models), models, strict=True))[1:]:
        other = model.get("per_class") or {}
        beside += [(f"Recall of {called}", "recall", other), (f"F1 of {called}", "f1", other)]
    return class_table(f"By class: {models[0]['system']}", per_class, beside)


def _sets(models: Sequence[Model], k: int) -> Table | None:
    """How often the sets of classes of one bundle hold the true one, if a coverage was asked for."""
    sets = models[k].get("sets")
    if not isinstance(sets, dict):
        return None
    held, size = sets["held"], sets["size"]
    spread = between(size.get("low"), size.get("high"), lambda value: number(value, 2))
    every = (Cell("all"), measured_cell(held, True), Cell(number(size.get("value"), 2), spread))
    rows = [Row((*every, Cell(whole(held.get("n")))), "stack")]
    for label, one in sets["by_class"].items():
        cells = (Cell(number(one.get("held"))), Cell(number(one.get("size"), 2)), Cell(whole(one.get("n"))))
        rows.append(Row((Cell(label), *cells)))
    titles = ("Class", "Right class in the set", "Classes in a set", "Clips")
    notes = [SETS_MEAN, f"{sets['alone']:.0%} of the sets have one class. {held.get('interval')}."]
    by = sets.get("by_speaker") or {}
    if by:
        notes.append(
            f"By speaker, every one weighing the same: {number(by.get('mean'), 2)} on average, "
            f"{number(by.get('low'), 2)} for the tenth with the lowest shares."
        )
    columns = tuple(Column(t, numeric=j > 0) for j, t in enumerate(titles))
    title = f"Sets of classes at a coverage of {sets['coverage']:g}: {models[k]['system']}"
    return Table("sets", title, columns, tuple(rows), tuple(notes))


def _groups(models: Sequence[Model]) -> list[dict[str, Any]]:
    """By bundle: the key of its figure, and a section for each column."""
    found = []
    for key, model in zip(SLICES, models, strict=False):
        sections = groups.grouped(model.get("slices") or {}, model.get("gaps") or {}, str(model["system"]))
        if sections:
            found.append({"figure": key, "sections": sections})
    return found


def _failed(tree: Mapping[str, Any]) -> Table | None:
    """The recordings that could not be answered, each with its reason."""
    reasons: dict[str, str] = {}
    for failed in (*((m.get("failed") or {}) for m in tree["models"]), streamed_failed(tree)):
        for name, reason in failed.items():
            reasons.setdefault(str(name), str(reason))
    if not reasons:
        return None
    rows = [Row((Cell(name), Cell(reason))) for name, reason in list(reasons.items())[:MOST_FAILED]]
    more = len(reasons) - len(rows)
    notes = (f"And {whole(more)} more: see “failed” in report.json.",) if more else ()
    columns = (Column("Recording", code=True), Column("Reason"))
    return Table("failed", "Recordings that could not be answered", columns, tuple(rows), notes)


def _facts(tree: Mapping[str, Any]) -> list[Table]:
    """What is needed to get the same numbers again."""
    models = tree["models"]
    first, asked = models[0], tree.get("provenance") or {}
    provenance, uar = first.get("provenance") or {}, metric(first, "uar")
    of_bundles = dict(zip(("bundle", "beside"), (str(m["system"]) for m in models), strict=False))
    facts = {
        **of_bundles,
        "recordings": _corpus(first),
        "split": asked.get("split"),
        "manifest fingerprint": [str(f) for f in provenance.get("manifests") or []],
        "classes": _labels(first),
        "recordings measured": whole(uar.get("n")),
        "speakers": voices(uar.get("speakers")),
        "coverage of sets": asked.get("coverage"),
        "calls": asked.get("calls"),
        "conditions": [str(u.get("condition")) for u in tree.get("under") or []],
        "bootstrap draws": provenance.get("draws"),
        "seed": provenance.get("seed"),
    }
    found = [fact_table("measured", "The measurement", facts)]
    found.append(fact_table("versions", "Versions", asked.get("versions") or {}))
    return [t for t in found if t.rows]
