"""Tables of a run's details: all metrics, calibration, clips and speakers, features, settings, versions."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from serkit import regions
from serkit.reporting.reading import Source
from serkit.reporting.tables import (
    Cell,
    Column,
    Row,
    Table,
    bold_best,
    interval_notes,
    measured_cell,
    published_figures,
)
from serkit.reporting.text import (
    ABSENT,
    ATTRIBUTE_NAMES,
    METRICS,
    capital,
    count,
    finite,
    listed,
    number,
    spaced,
    whole,
)

DISTANCES = {
    "kl": ("KL divergence, votes to scores (nats)", "lower"),
    "jsd": ("Jensen–Shannon divergence (nats)", "lower"),
    "cosine": ("cosine similarity", "higher"),
    "intersection": ("intersection", "higher"),
    "chebyshev": ("Chebyshev", "lower"),
    "clark": ("Clark", "lower"),
    "canberra": ("Canberra", "lower"),
    "entropy_correlation": ("correlation of entropies", "higher"),
}


FIELD_NAMES = {"accuracy": "WA", "uar": "UA", "macro_f1": "Macro-F1"}


def everything(source: Source) -> list[Table]:
    """All metrics of all systems, a table for each split."""
    found = []
    for split in source.splits:
        columns = (Column("System"), *(Column(t, numeric=True) for t in METRICS.values()))
        rows = []
        for name in [*source.singles, *source.ensembles]:
            cells = [measured_cell(source.metric(name, split, m), True) for m in METRICS]
            rows.append(Row((Cell(source.display(name)), *cells), source.kind(name)))
        seen = "out-of-fold: each clip scored by models not trained on it" if source.out_of_fold else "seen in training"
        words = {"train": f"train ({seen})"}
        notes = tuple(interval_notes(source, [split], ["macro_f1", "bs_f1"]))
        found.append(Table(f"all-{split}", f"All metrics on {words.get(split, split)}", columns, tuple(rows), notes))
    return found


def calibration(source: Source) -> Table | None:
    """ECE, lower is better, of every system on dev and test."""
    splits = [s for s in ("dev", "test") if s in source.splits]
    names = [n for n in [*source.singles, *source.ensembles] if any(source.metric(n, s, "ece") for s in splits)]
    if not names:
        return None
    rows, values = [], []
    for name in names:
        found = [source.metric(name, s, "ece") for s in splits]
        rows.append(Row((Cell(source.display(name)), *(measured_cell(m, True) for m in found)), source.kind(name)))
        values.append([finite(m.get("value")) for m in found])
    columns = (Column("System"), *(Column(f"{s} ECE [95%]", numeric=True) for s in splits))
    notes = (
        "ECE: distance of confidence from the share of right answers; 0 is perfect, the lowest is bold.",
        *interval_notes(source, splits, ["ece"]),
    )
    return Table("calibration", "Calibration", columns, tuple(bold_best(rows, values, 1, lowest=True)), notes)


def raters(source: Source) -> list[Table]:
    """Closeness to the votes of raters, beside the constant prior of train; then of the clips without agreement."""
    found = [_closeness(source, "raters", f"Closeness to the raters' votes on {source.split}", "")]
    disputed = source.metric(source.lead, source.split, "kl_disputed")
    if disputed:
        title = f"The same for the {count(disputed.get('n'), 'clip')} without agreement"
        found.append(_closeness(source, "raters-disputed", title, "_disputed"))
    return [t for t in found if t is not None]


def _closeness(source: Source, key: str, title: str, ending: str) -> Table | None:
    kinds = [d for d in DISTANCES if source.metric(source.lead, source.split, d + ending)]
    if not kinds:
        return None
    names = dict.fromkeys([source.lead, source.best])
    columns = [Column("Distance"), *(Column(source.display(n), numeric=True) for n in names)]
    columns += [Column("constant prior of train", numeric=True)] if not ending else []
    columns.append(Column("Better is"))
    rows = []
    for kind in kinds:
        title_of, better = DISTANCES[kind]
        cells = [measured_cell(source.metric(n, source.split, kind + ending), True) for n in names]
        if not ending:
            cells.append(measured_cell(source.metric(source.lead, source.split, f"{kind}_prior"), True))
        rows.append(Row((Cell(title_of), *cells, Cell(better))))
    notes = interval_notes(source, [source.split], [kinds[0] + ending])
    if not ending:
        disputed = source.metric(source.lead, source.split, "kl_disputed")
        told = (
            f"All clips with votes, {whole(disputed['n'])} of them without agreement: these count here and in no label "
            "metric."
            if disputed
            else "All clips with votes; every one of them has a label."
        )
        lazy = (
            "The constant prior knows nothing of a clip. A system can be farther from the votes than that because it "
            "is too sure, though it knows much: calibrate it, and look at the correlation of entropies."
        )
        notes = [told, lazy, *notes]
    return Table(key, title, tuple(columns), tuple(rows), tuple(notes))


def attributes(source: Source) -> Table | None:
    """CCC of arousal, valence and dominance of every system that learned them, and of their mean; ``None`` of none."""
    split = source.split
    names = [n for n in source.singles if source.metric(n, split, "ccc")]
    if not names:
        return None
    kinds = [m for m in ATTRIBUTE_NAMES if any(source.metric(n, split, m) for n in names)]
    if source.metric(source.lead, split, "ccc") and source.lead not in names and len(names) > 1:
        names.append(source.lead)
    rows, values = [], []
    for name in names:
        found = [source.metric(name, split, m) for m in kinds]
        title = source.display(name) if name in source.singles else "mean of these"
        rows.append(Row((Cell(title), *(measured_cell(m, True) for m in found)), source.kind(name)))
        values.append([finite(m.get("value")) for m in found])
    columns = (Column("System"), *(Column(f"{ATTRIBUTE_NAMES[m]} [95%]", numeric=True) for m in kinds))
    notes = (
        "CCC: concordance with the raters' mean; 1 is perfect, 0 is none, the highest is bold. An attribute that no "
        "loss of a system trains is left out of its row and mean. All rated clips that the recipe keeps, including "
        "those without a label.",
        *interval_notes(source, [split], ["ccc"]),
        *(published_figures(source) if source.by_ccc else []),
    )
    rows = bold_best(rows, values, 1)
    return Table("attributes", f"CCC of arousal, valence and dominance on {split}", columns, tuple(rows), notes)


def folds(source: Source) -> Table | None:
    """WA, UA and Macro-F1 of every fold of a cross-validation, their mean and spread, and the pooled numbers.

    The leading system, and the best single one; ``None`` for one run.
    """
    given = source.folds
    names = [n for n in dict.fromkeys([source.lead, source.best]) if all(n in (f.get("systems") or {}) for f in given)]
    if not given or not names or source.across:  # each test corpus has a row of its own elsewhere
        return None
    columns = [Column("Fold"), Column("Test speakers")]
    columns += [Column(f"{t}, {source.display(n)}", numeric=True) for n in names for t in FIELD_NAMES.values()]
    rows = []
    for f in given:
        cells = [Cell(number(f["systems"][n].get(m))) for n in names for m in FIELD_NAMES]
        speakers = [str(s) for s in f.get("speakers") or []]
        shown = ", ".join(speakers[:8]) + (f" and {len(speakers) - 8} more" if len(speakers) > 8 else "")
        rows.append(Row((Cell(str(f.get("fold"))), Cell(shown or ABSENT), *cells)))
    spreads, pooled = [], []
    for n in names:
        for m in FIELD_NAMES:
            mean, sd = mean_and_spread([finite(f["systems"][n].get(m)) for f in given])
            spreads.append(Cell(number(mean), f"± {number(sd)}"))
            pooled.append(measured_cell(source.metric(n, "test", m), True))
    rows.append(Row((Cell("mean of folds ± sd"), Cell(ABSENT), *spreads)))
    rows.append(Row((Cell("pooled"), Cell(ABSENT), *pooled), "stack"))
    notes = (
        "WA, weighted accuracy, is the accuracy; UA, unweighted accuracy, is the mean of the classes' recalls (UAR). "
        "Papers mostly report the mean of folds; the pooled row counts every clip once, and this report uses it.",
        *interval_notes(source, ["test"], ["uar"]),
    )
    return Table("folds", "By fold, as reported in the literature", tuple(columns), tuple(rows), notes)


def mean_and_spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Mean and standard deviation (n - 1) of the numbers that are known; ``None`` where there are too few."""
    known = [v for v in values if v is not None]
    mean = statistics.fmean(known) if known else None
    return mean, statistics.stdev(known) if len(known) > 1 else None


def counts(source: Source) -> Table:
    """Clips of each class in each split, those without a label, and the speakers."""
    by_split = source.part("counts")
    splits = [s for s in ("train", "dev", "test") if s in by_split]
    whole_row = not source.pooled  # of several folds a clip stands in more than one split
    columns = (Column("Class"), *(Column(s, numeric=True) for s in splits))
    columns += (Column("Total", numeric=True),) if whole_row else ()
    names = dict.fromkeys([*source.labels, *(c for s in splits for c in by_split[s])])

    def line(title: str, numbers: list[Any], total: bool = True) -> Row:
        known = [int(finite(k) or 0) for k in numbers]
        end = (Cell(whole(sum(known)) if total else ABSENT),) if whole_row else ()
        return Row((Cell(title), *(Cell(whole(k)) for k in known), *end))

    rows = [line(str(c), [by_split[s].get(c, 0) for s in splits]) for c in names]
    rows.append(line("all labelled clips", [sum(int(finite(k) or 0) for k in by_split[s].values()) for s in splits]))
    bare = source.part("unlabelled")
    if any(finite(bare.get(s)) for s in splits):
        rows.append(line("clips without a label", [bare.get(s, 0) for s in splits]))
    rows.append(line("speakers", [source.part("speakers").get(s, 0) for s in splits], total=False))
    notes = ("All folds together: a clip that is dev in one of them is test in another.",) if source.pooled else ()
    return Table("counts", "Clips and speakers", columns, tuple(rows), notes)


def published(source: Source) -> Table | None:
    """Where counts differ from published ones."""
    rows = []
    for name, info in source.corpora.items():
        for d in info.get("count_findings") or []:
            if isinstance(d, dict):
                texts = (name, d.get("what"), whole(d.get("here")), whole(d.get("published")), d.get("source"))
                rows.append(Row(tuple(Cell(str(t)) for t in texts)))
    if not rows:
        return None
    columns = (Column("Corpus"), Column("What"), Column("Here", True), Column("Published", True), Column("Source"))
    return Table("published", "Counts that differ from published ones", columns, tuple(rows))


def changes(source: Source) -> list[str]:
    """What became of labels: left out by a corpus's reader; mapped, dropped, excluded by the recipe."""
    info = source.provenance.get("corpus_info") or {}
    about, made = info.get("labels") or {}, info.get(regions.KEY)
    lines = [f"{capital(line)}." for line in regions.told(made)] if made else []
    lines += [said] if (said := regions.meaning(source.labels)) else []
    for key, words in (("mapped", "Labels mapped"), ("dropped", "Labels dropped")):
        found = about.get(key) or {}
        if found:
            lines.append(f"{words}: {listed([f'{k} ({whole(n)} clips)' for k, n in found.items()])}.")
    excluded = about.get("excluded") or []
    if excluded:
        lines.append(f"Excluded by name: {count(len(excluded), 'clip')} ({listed([str(e) for e in excluded[:5]])}).")
    outside = about.get("not_in_corpus") or []
    if outside:
        lines.append(f"Labels outside the recipe's list: {listed([str(o) for o in outside])}.")
    votes = about.get("votes_left_out") or {}
    if votes:
        gone = finite(about.get("votes_all_left_out")) or 0
        lost = f"; {count(int(gone), 'clip')} lost every vote" if gone else ""
        named = listed([f"{k} ({count(n, 'clip')})" for k, n in votes.items()])
        lines.append(
            f"Rater votes left out, because their label is not a class of the clip's corpus here: {named}{lost}."
        )
    lines = lines or ["No label was mapped or dropped by the recipe, and no clip was excluded."]
    return [*_not_read(source), *lines]


def _not_read(source: Source) -> list[str]:
    """What each corpus has beside the protocol's splits and classes, which its reader leaves out."""
    lines = []
    for name, info in source.corpora.items():
        found = info.get("left_out")
        if isinstance(found, Mapping) and found:
            named = listed([f"{k} ({count(int(finite(n) or 0), 'clip')})" for k, n in found.items()])
            kept = f"; {info['kept_by']}" if info.get("kept_by") else ""
            lines.append(f"Left out by the reader of {name}: {named}{kept}.")
    return lines


def networks(source: Source) -> Table | None:
    """What each system's networks are, and how large."""
    found = {name: d for name, d in source.part("design").items() if finite(d.get("weights")) is not None}
    if not found:
        return None
    names = ("System", "Network", "Features", "Weights")
    columns = tuple(Column(n, numeric=n == "Weights", code=n in ("Network", "Features")) for n in names)
    rows = []
    for name, design in found.items():
        read = " + ".join(map(str, design.get("features") or []))
        cells = (Cell(name), Cell(str(design.get("model"))), Cell(read), Cell(whole(design["weights"])))
        rows.append(Row(cells))
    note = (
        "Weights: numbers that one network keeps, means and deviations of its features included. Those of the encoders "
        "whose features it reads are not counted: they belong to the size of the whole model too."
    )
    return Table("networks", "Networks", columns, tuple(rows), (note,))


def features(source: Source) -> Table | None:
    """Features with their sources, licences and substitutions."""
    found = source.provenance.get("features") or {}
    if not found:
        return None
    errors = (source.provenance.get("run") or {}).get("rounding_error") or {}
    titles = ("Feature", "Dim", "Rounding", "Source", "Revision", "Licence", "Fingerprint", "Note")
    columns = tuple(Column(t, numeric=t in ("Dim", "Rounding"), code=t in ("Feature", "Fingerprint")) for t in titles)
    rows = []
    for key, f in found.items():
        texts = [
            key,
            whole(f.get("dim")),
            _percent(errors.get(key)),
            *(f.get(k) for k in ("source", "revision", "licence", "fingerprint", "note")),
        ]
        rows.append(Row(tuple(Cell(str(t) if t not in (None, "") else ABSENT) for t in texts)))
    note = "Rounding: error of the stored number format, root of squared errors over squares of all stored values."
    return Table("features", "Features", columns, tuple(rows), (*_texts(source), *((note,) if errors else ())))


def _percent(share: Any) -> str:
    found = finite(share)
    return "" if found is None else f"{100 * found:.2g} %"


def _texts(source: Source) -> tuple[str, ...]:
    """One sentence about the source of the texts and their accuracy."""
    found = source.provenance.get("transcripts") or {}
    if not found:
        return ()
    name = "the corpus itself" if found["name"] == "corpus" else found["name"]
    said = f"Texts by {name}" + (f" ({found['note']})" if found.get("note") else "")
    parts = [count(int(found["texts"]), "clip")]
    parts += [f"{whole(n)} flagged {flag}" for flag, n in (found.get("flags") or {}).items()]
    for key, words in (("wer", "word error rate"), ("cer", "character error rate")):
        rate = finite((found.get(key) or {}).get("rate"))
        if rate is not None:
            parts.append(f"{words} {100 * rate:.1f} % against the corpus's own text of {whole(found[key]['texts'])}")
    return (f"{said}: {', '.join(parts)}.",)


def fact_table(key: str, title: str, pairs: Mapping[str, Any], notes: tuple[str, ...] = ()) -> Table:
    """A row for each thing that is known, by name."""
    rows = [Row((Cell(k), Cell(_plain(v)))) for k, v in pairs.items() if v not in (None, "", {}, [])]
    return Table(key, title, (Column("What"), Column("Value")), tuple(rows), notes)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def settings(source: Source) -> list[Table]:
    """Fingerprints and seeds; each corpus; versions; the machine, apart."""
    p = source.provenance
    models = [str(m) for m in p.get("models") or []]
    run = {
        "recipe": source.tree["name"],
        "recipe fingerprint": p.get("recipe_fingerprint"),
        "manifest fingerprint": p.get("manifest_fingerprint"),
        "split hash": p.get("split_hash"),
        "speakers shared between splits": bool(p.get("speakers_shared")),
        "seed": p.get("seed"),
        "models of each system": models,
    }
    found = [fact_table("run", "The run", run)]
    shown = ["corpus_version", "protocol", "protocol_version", "protocol_description", "protocol_source", "fold"]
    shown += ["folds", "seed", "speakers_present", "speakers_shared", "label_map", "licence", "citation"]
    for name, info in source.corpora.items():
        pairs = {spaced(k): info.get(k) for k in shown}
        pairs["fold"] = ("" if source.across else ", ".join(source.pooled)) or info.get("fold")
        scale = info.get("rating_scale")
        pairs["ratings of attributes"] = f"{scale[0]:g} to {scale[1]:g}" if scale else None
        pairs["label map"] = _label_map(info.get("label_map"))
        pairs["options of its reader"] = _options(info.get("options"))
        found.append(fact_table(f"corpus-{len(found)}", f"Corpus {name}", pairs))
    found.append(fact_table("versions", "Versions", p.get("versions") or {}))
    machine = {spaced(k): v for k, v in (p.get("run") or {}).items() if k != "rounding_error"}
    note = ("Clock and hardware: the only part that differs between two runs with the same seed.",)
    found.append(fact_table("machine", "The machine of this run", machine, note))
    return [t for t in found if t.rows]


def _options(found: Any) -> str:
    """As ``--option`` takes them: ``other=none, unlabelled_test=true``."""
    pairs = found.items() if isinstance(found, Mapping) else ()
    return ", ".join(f"{k}={v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)}" for k, v in pairs)


def _label_map(found: Any) -> str:
    """Renamed labels only, or that none was renamed."""
    if not isinstance(found, dict) or not found:
        return ""
    renamed = [f"{k} → {v if v is not None else 'no label'}" for k, v in found.items() if k != v]
    return ", ".join(renamed) or "the corpus's own names"
