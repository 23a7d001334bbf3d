"""ablation.json → one HTML page, the same in Markdown, and its figures as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serkit.errors import SerkitError
from serkit.metrics import ABLATED
from serkit.reporting import data_tables
from serkit.reporting.ablation_words import (
    cautions,
    changed,
    claim,
    difference,
    ended,
    headline,
    lead,
    lead_metric,
    lead_split,
    method,
    outcomes,
    sentences,
)
from serkit.reporting.charts import component_curves, learning_curves
from serkit.reporting.content import COMPONENTS, about
from serkit.reporting.figures import Interval, Seeds, differences, seeds_figure
from serkit.reporting.lead_words import minus
from serkit.reporting.reading import Source, read_tree
from serkit.reporting.svg import Figure
from serkit.reporting.tables import Cell, Column, Row, Table, difference_cell, mean_cell
from serkit.reporting.text import (
    ABSENT,
    LEAD_NAMES,
    count,
    finite,
    number,
    p_value,
    voices,
    whole,
)
from serkit.reporting.verdict import permuted

FORMAT = 1
NEEDED = {"name": str, "corpus": str, "labels": list, "variants": list, "seeds": list, "folds": list, "left_out": list}
GROUPS = (("system", "a loss"), ("ensemble", "augmentation"), ("best", "pooling"), ("stack", "all at once"))
KINDS = {"losses": "system", "augment": "ensemble", "pooling": "best", "plain": "stack", "full": "stack"}


def read_ablation(folder: Path) -> dict[str, Any]:
    """Read ``folder/ablation.json``; its texts are cleaned.

    Raises:
        SerkitError: there is none, it is not JSON, or it is not an ablation of this format.
        RunFailed: it cannot be read from disk.
    """
    file = folder / "ablation.json"
    tree = read_tree(file, "an ablation", FORMAT, NEEDED, "serkit ablate")
    if len(tree["variants"]) < 2:
        raise SerkitError(f"'{file}': expected the full recipe and at least one variant; run `serkit ablate` again")
    return tree


def ablation_content(tree: Mapping[str, Any]) -> dict[str, Any]:
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
        "numbers": numbers(tree),
        "tests": [t for m in measured(tree) if (t := tests(tree, m, lead_split(tree)))],
        "tests_dev": [t for m in measured(tree) if lead_split(tree) != "dev" and (t := tests(tree, m, "dev"))],
        "changes": changes(tree),
        "counts": data_tables.counts(source),
        "data": data_tables.changes(source),
        "published": data_tables.published(source),
        "features": data_tables.features(source),
        "settings": data_tables.settings(source),
    }


def measured(tree: Mapping[str, Any]) -> list[str]:
    """The metrics of the tables, what leads first."""
    return list(dict.fromkeys((lead_metric(tree), *ABLATED)))


def _tiles(tree: Mapping[str, Any]) -> list[dict[str, str]]:
    split, full = lead_split(tree), tree["variants"][0]
    found = []
    for metric in list(dict.fromkeys((lead_metric(tree), "uar", "macro_f1")))[:2]:
        m = full["values"][split][metric]
        spread = f"± {number(m['sd'])} over {count(len(tree['seeds']), 'seed')}" if m["sd"] is not None else "one seed"
        name = f"{LEAD_NAMES[metric]}, full recipe"
        found.append({"value": number(m["mean"]), "name": name, "sub": f"{spread}, {split}", "kind": "stack"})
    results = list(outcomes(tree).values())
    sure = sum(r in ("better", "worse") for r in results)
    words = f"of {count(len(results), 'change')} shown to matter"
    found.append(
        {"value": str(sure), "name": words, "sub": f"by {LEAD_NAMES[lead_metric(tree)]} on {split}", "kind": ""}
    )
    d = difference(tree["variants"][-1], split, lead_metric(tree))
    who = count(d.get("speakers"), "speaker")
    found.append({"value": whole(d.get("n")), "name": f"utterances on {split}", "sub": who, "kind": ""})
    return found


def _figures(tree: Mapping[str, Any]) -> dict[str, Figure]:
    found = [_differences(tree), _seeds(tree), *_curves(tree)]
    return {f.key: f for f in found if f is not None}


def _differences(tree: Mapping[str, Any]) -> Figure:
    split = lead_split(tree)
    rows = []
    for v in tree["variants"][1:]:
        d = difference(v, split, lead_metric(tree))
        ends = [finite(d.get(k)) for k in ("difference", "low", "high")]
        value, low, high = (x if x is not None else 0.0 for x in ends)
        rows.append(Interval(v["title"], value, low, high, KINDS.get(str(v.get("over")), "system")))
    axis = f"{LEAD_NAMES[lead_metric(tree)]} of {minus(lead_metric(tree), 'the full recipe', 'the variant')}, {split}"
    first = difference(tree["variants"][1], split, lead_metric(tree))
    caption = (
        f"To the right of zero the full recipe is ahead: the removed part helps. Lines: {first.get('interval')}; "
        f"n = {whole(first.get('n'))}."
    )
    drawn = differences(rows, axis, legend=GROUPS, strong=("stack",))
    return Figure("differences", "What each part adds", caption, *drawn)


def _seeds(tree: Mapping[str, Any]) -> Figure:
    split = lead_split(tree)
    rows = []
    for v in tree["variants"]:
        values = tuple(x for x in map(finite, v["values"][split][lead_metric(tree)]["by_seed"]) if x is not None)
        rows.append(Seeds(v["title"], values, KINDS.get(str(v.get("over")), "system")))
    axis = f"{LEAD_NAMES[lead_metric(tree)]} on {split}, one dot per seed"
    caption = (
        "A dot is one trained network (with several folds: their pooled rows), the bar the mean over seeds. "
        * (len(tree["seeds"]) > 1)
        + "The dashed line is the full recipe."
    )
    return seeds_figure("seeds", "Variation between seeds", caption, rows, axis, rows[0].mean)


def _curves(tree: Mapping[str, Any]) -> list[Figure]:
    curves = tree.get("curves") if isinstance(tree.get("curves"), dict) else {}
    titles = {v["key"]: v["title"] for v in tree["variants"]}
    named = {titles[k]: rows for k, rows in (curves or {}).items() if k in titles}
    found = []
    panels = learning_curves(named)
    if panels:
        caption = (
            "Above: Macro-F1 on dev, a dot at each network's best epoch. Below: loss on train (solid), which cannot be "
            "compared between variants with different losses, and cross-entropy on dev (dashed). Thin lines: seeds "
            "(and folds); thick: their mean. All panels share their axes."
        )
        found.append(Figure("curves", "Learning curves", caption, tuple(panels)))
    parts = component_curves({k: rows for k, rows in named.items() if k == tree["variants"][0]["title"]})
    if parts:
        found.append(Figure("components", "The losses of the full recipe", COMPONENTS, tuple(parts)))
    return found


def numbers(tree: Mapping[str, Any]) -> Table:
    """Every variant on dev and test by all metrics, mean ± standard deviation over seeds."""
    splits = [s for s in ("test", "dev") if s in tree["variants"][0]["values"]]
    asked = [(s, m) for s in splits for m in measured(tree) if s != "dev" or m != "accuracy"]
    columns = (Column("Variant"), *(Column(f"{s} {LEAD_NAMES[m]}", numeric=True) for s, m in asked))
    rows = []
    for v in tree["variants"]:
        cells = [Cell(v["title"])]
        for split, metric in asked:
            cells.append(mean_cell(v["values"][split][metric]))
        rows.append(Row(tuple(cells), "stack" if v["key"] == "full" else ""))
    seeds = ", ".join(str(s) for s in tree["seeds"])
    one = tree["variants"][0]["values"]
    notes = (
        f"Mean ± standard deviation over seeds {seeds}." if len(tree["seeds"]) > 1 else f"One seed, {seeds}.",
        *(
            f"{s}: n = {whole(one[s][lead_metric(tree)]['n'])}, {voices(one[s][lead_metric(tree)]['speakers'])}."
            for s in splits
        ),
    )
    return Table("numbers", "The variants", columns, tuple(rows), notes)


def tests(tree: Mapping[str, Any], metric: str, split: str) -> Table | None:
    """Full recipe against each variant by one metric on one split; ``None`` if not measured."""
    if not difference(tree["variants"][1], split, metric):
        return None
    titles = ("Variant", "What it shows", "Difference [95%]", "p Holm", "p permuted", "Detectable")
    columns = tuple(Column(t, numeric=k >= 2) for k, t in enumerate(titles))
    rows = []
    for v in tree["variants"][1:]:
        d = difference(v, split, metric)
        cells = (
            Cell(v["title"]),
            Cell(claim(v, ended(tree, d))),
            difference_cell(d),
            *(Cell(p_value(p)) for p in (d.get("p_holm"), permuted(d))),
            Cell(number(d.get("detectable"))),
        )
        rows.append(Row(cells))
    first = difference(tree["variants"][1], split, metric)
    notes = (f"{first.get('interval')}; n = {whole(first.get('n'))}.",)
    title = f"{LEAD_NAMES[metric]} on {split}: {minus(metric, 'the full recipe', 'each variant')}"
    return Table(f"tests-{split}-{metric}", title, columns, tuple(rows), notes)


def changes(tree: Mapping[str, Any]) -> Table:
    """What each variant trains with."""
    full = tree["variants"][0]
    rows = []
    for v in tree["variants"]:
        text = changed(v, full) if v is not full else changed(full, {})
        rows.append(Row((Cell(v["title"]), Cell(text or ABSENT), Cell(whole(v.get("epochs"))), Cell(str(v["key"])))))
    columns = (Column("Variant"), Column("Trained with"), Column("Epochs", numeric=True), Column("Folder", code=True))
    return Table("changes", "What was trained", columns, tuple(rows))
