"""tuning.json → one HTML page, the same in Markdown, and its figures as files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serkit.errors import SerkitError
from serkit.metrics import METRICS
from serkit.reporting import data_tables
from serkit.reporting.content import about
from serkit.reporting.figures import Interval, Seeds, differences, seeds_figure
from serkit.reporting.lead_words import minus
from serkit.reporting.reading import Source, read_tree
from serkit.reporting.svg import Figure
from serkit.reporting.tables import Cell, Column, Row, Table, difference_cell, mean_cell
from serkit.reporting.text import (
    ABSENT,
    LEAD_NAMES,
    between,
    count,
    finite,
    number,
    p_value,
    signed,
    voices,
    whole,
)
from serkit.reporting.tuning_words import (
    best_of,
    cautions,
    headline,
    lead,
    method,
    outcomes,
    places,
    ranked,
    sentences,
    subject,
    value_said,
)
from serkit.reporting.verdict import larger_p, permuted

FORMAT = 1
NEEDED = {
    "name": str, "corpus": str, "labels": list, "trials": list, "keys": dict, "seeds": list, "folds": list,
    "left_out": list, "best": str, "chosen": dict, "metric": str,
}  # fmt: skip
MOST_DRAWN = 24  # trials in a figure
KINDS = (("stack", "chosen on dev"), ("system", "another trial"), ("best", "the recipe as it is"))


def read_tuning(folder: Path) -> dict[str, Any]:
    """Read ``folder/tuning.json``; its texts are cleaned.

    Raises:
        SerkitError: there is none, it is not JSON, or it is not a search of this format.
        RunFailed: it cannot be read from disk.
    """
    file = folder / "tuning.json"
    tree = read_tree(file, "a search", FORMAT, NEEDED, "serkit tune")
    if len(tree["trials"]) < 2 or tree["best"] not in [t.get("key") for t in tree["trials"]]:
        raise SerkitError(f"'{file}': expected at least two trials, and the best among them; run `serkit tune` again")
    return tree


def tuning_content(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What the templates need: texts, tables and figures by name."""
    source = Source(tree)
    return {
        "tree": tree,
        "about": about(source),
        "headline": headline(tree),
        "lead": lead(tree),
        "sentences": sentences(tree),
        "cautions": cautions(tree, source),
        "left_out": tree["left_out"],
        "tiles": _tiles(tree),
        "method": method(tree),
        "figures": _figures(tree),
        "trials": trials(tree),
        "tested": tested(tree),
        "counts": data_tables.counts(source),
        "data": data_tables.changes(source),
        "published": data_tables.published(source),
        "features": data_tables.features(source),
        "settings": data_tables.settings(source),
    }


def _tiles(tree: Mapping[str, Any]) -> list[dict[str, str]]:
    metric, best = tree["metric"], best_of(tree)
    m = best["values"][metric]
    spread = f"± {number(m['sd'])} over {count(len(tree['seeds']), 'seed')}" if m["sd"] is not None else "one seed"
    found = [
        {"value": number(m["mean"]), "name": f"{LEAD_NAMES[metric]} on dev, chosen", "sub": spread, "kind": "stack"}
    ]
    test = tree.get("test")
    if isinstance(test, dict):
        t = test["values"]["chosen"][metric]
        sub = f"{count(t['n'], 'utterance')}, {voices(t['speakers'])}"
        found.append({"value": number(t["mean"]), "name": f"{LEAD_NAMES[metric]} on test", "sub": sub, "kind": "stack"})
        d = test.get("difference")
        if isinstance(d, dict):
            ends = between(d.get("low"), d.get("high"), signed)
            name = minus(metric, "chosen", "as it is").replace("minus", "−") + ", test"
            found.append({"value": signed(d.get("difference")), "name": name, "sub": ends, "kind": "best"})
    close = sum(r != "better" for r in outcomes(tree).values())
    name = f"of {count(len(tree['trials']) - 1, 'other trial')} not shown to be worse"
    found.append({"value": str(close), "name": name, "sub": f"by {LEAD_NAMES[metric]} on dev", "kind": ""})
    return found


def _figures(tree: Mapping[str, Any]) -> dict[str, Figure]:
    found = [_trials(tree), _behind(tree), *_keys(tree)]
    return {f.key: f for f in found}


def _kind(tree: Mapping[str, Any], trial: Mapping[str, Any]) -> str:
    if trial["key"] == tree["best"]:
        return "stack"
    return "system" if trial["settings"] else "best"


def _cut(tree: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], str]:
    """The best trials and the recipe as it is, and what is said of those that are not drawn."""
    rows = ranked(tree)
    kept = [t for k, t in enumerate(rows) if k < MOST_DRAWN or not t["settings"]]
    hidden = len(rows) - len(kept)
    return kept, f" {count(hidden, 'trial')} behind these: in the table." if hidden else ""


def _trials(tree: Mapping[str, Any]) -> Figure:
    metric = tree["metric"]
    kept, more = _cut(tree)
    place = places(tree)
    rows = [Seeds(f"{place[t['key']]}. {t['title']}", _by_seed(t, metric), _kind(tree, t)) for t in kept]
    axis = f"{LEAD_NAMES[metric]} on dev, one dot per seed"
    own = next(t for t in tree["trials"] if not t["settings"])
    at = finite(own["values"][metric]["mean"])
    caption = "Numbered as in the table. The dashed line is the recipe as it is." + more
    return seeds_figure("trials", "The trials", caption, rows, axis, at)


def _behind(tree: Mapping[str, Any]) -> Figure:
    metric = tree["metric"]
    kept, more = _cut(tree)
    place = places(tree)
    rows = []
    for t in kept:
        d = t.get("behind")
        if isinstance(d, dict):
            value, low, high = (finite(d.get(k)) or 0.0 for k in ("difference", "low", "high"))
            rows.append(Interval(f"{place[t['key']]}. {t['title']}", value, low, high, _kind(tree, t)))
    axis = f"{LEAD_NAMES[metric]} of {minus(metric, 'the chosen trial', 'the other')}, dev"
    caption = (
        "A line that crosses zero: this trial is not shown to be worse than the chosen one. Another one may be chance "
        "as well, among so many trials or so few speakers: the first sentence above counts those that are not." + more
    )
    drawn = differences(rows, axis, legend=KINDS, strong=("best",))
    return Figure("behind", "How far behind the others are", caption, *drawn)


def _keys(tree: Mapping[str, Any]) -> list[Figure]:
    """For each key the trials by its value: where they cluster, the key matters."""
    metric, best, found = tree["metric"], best_of(tree), []
    for number_, (key, values) in enumerate(tree["keys"].items()):
        groups = {
            value_said(v): [t for t in tree["trials"] if key in t["tried"] and _same(t["tried"][key], v)]
            for v in values
        }
        rows = [
            Seeds(
                f"{key} {text}",
                tuple(v for t in trials_ if (v := finite(t["values"][metric]["mean"])) is not None),
                "stack" if best in trials_ else "system",
            )
            for text, trials_ in groups.items()
            if trials_
        ]
        if len(rows) < 2:
            continue
        axis = f"{LEAD_NAMES[metric]} on dev, one dot per trial"
        caption = f"Trials by {key}, the other keys varying; the bar is their mean."
        found.append(seeds_figure(f"key-{number_ + 1}", key, caption, rows, axis))
    return found


def _same(value: object, other: object) -> bool:
    """Whether two values are written alike: ``true`` and ``1`` are two."""
    return json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)


def _by_seed(trial: Mapping[str, Any], metric: str) -> tuple[float, ...]:
    return tuple(x for x in map(finite, trial["values"][metric]["by_seed"]) if x is not None)


def trials(tree: Mapping[str, Any]) -> Table:
    """Every trial on dev, the best first, and how it compares with it."""
    metric = tree["metric"]
    others = [m for m in ("macro_f1", "uar", "accuracy") if m != metric]
    names = (f"dev {LEAD_NAMES[metric]}", *(f"dev {LEAD_NAMES[m]}" for m in others), "Behind [95%]", "p Holm")
    numeric = (Column(n, numeric=True) for n in names)
    columns = (Column("Trial"), *numeric, Column("Folder", code=True))
    rows = []
    for place, t in enumerate(ranked(tree), 1):
        cells = [Cell(f"{place}. {t['title']}"), *(mean_cell(t["values"][m]) for m in (metric, *others))]
        d = t.get("behind") or {}
        behind = difference_cell(d) if d else Cell(ABSENT)
        cells += [behind, Cell(p_value(d.get("p_holm")) if d else ABSENT), Cell(f"trials/{t['key']}")]
        rows.append(Row(tuple(cells), "stack" if t["key"] == tree["best"] else ""))
    m = best_of(tree)["values"][metric]
    seeds = ", ".join(str(s) for s in tree["seeds"])
    notes = (
        f"Mean ± standard deviation over seeds {seeds}." if len(tree["seeds"]) > 1 else f"One seed, {seeds}.",
        f"dev: n = {whole(m['n'])}, {voices(m['speakers'])}.",
    )
    return Table("trials", "The trials, on dev", columns, tuple(rows), notes)


def tested(tree: Mapping[str, Any]) -> Table | None:
    """The chosen trial and the recipe as it is, on test; ``None`` if test has no labels."""
    test = tree.get("test")
    if not isinstance(test, dict):
        return None
    shown = METRICS if tree["metric"] in METRICS else (tree["metric"], *METRICS)
    rows = []
    for key, values in test["values"].items():
        name = subject(tree) if key == "chosen" else "the recipe as it is"
        cells = [Cell(name), *(mean_cell(values[m]) for m in shown)]
        rows.append(Row(tuple(cells), "stack" if key == "chosen" else ""))
    columns = (Column("Trial"), *(Column(f"test {LEAD_NAMES[m]}", numeric=True) for m in shown))
    one = next(iter(test["values"].values()))[tree["metric"]]
    notes = [f"test: n = {whole(one['n'])}, {voices(one['speakers'])}."]
    d = test.get("difference")
    if isinstance(d, dict):
        ends = between(d.get("low"), d.get("high"), signed)
        what = minus(tree["metric"], "chosen", "as it is").capitalize()
        notes.append(
            f"{what}, {LEAD_NAMES[tree['metric']]}: {signed(d.get('difference'))} {ends}, p = "
            f"{p_value(larger_p(d))} (bootstrap {p_value(d.get('p_holm'))}, permuted {p_value(permuted(d))}); "
            f"{d.get('interval')}."
        )
    return Table("tested", "On test", columns, tuple(rows), tuple(notes))
