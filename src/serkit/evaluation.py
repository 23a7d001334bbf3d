"""Predictions × Manifest → Report: every number with its interval, its n and its slices. Never imports torch.

Several models per utterance are averaged first. An answer is the class with the highest score among those
the utterance's corpus can have. Rows are matched by id; whatever is missing is an error, never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from serkit import calibration, metrics
from serkit.bootstrap import Clusters, bs_f1, clusters, percentile_interval, resampled_confusions, resampled_means
from serkit.combining import allowed_classes
from serkit.concordance import concordance
from serkit.errors import SerkitError, check_known
from serkit.evaluate_settings import Group
from serkit.groupings import duration_s, groupings
from serkit.predictions import Metric, Predictions, Report
from serkit.probabilities import masked
from serkit.raters import closeness
from serkit.types import SPLITS, Manifest, Utterance


@dataclass(frozen=True)
class Decisions:
    """What a system answered on the labelled utterances of a split.

    Attributes:
        system, split, labels: whose answers, on what, among which classes.
        utterances: (rows,) the labelled utterances, in the order of the manifest.
        truth, answer: (rows,) int64 classes.
        probabilities: (rows, classes) float64 with impossible classes at 0.
        possible: (classes,) bool: classes that some corpus of these rows can have.
        unlabelled: utterances of the split left out because nobody labelled them.
    """

    system: str
    split: str
    labels: tuple[str, ...]
    utterances: tuple[Utterance, ...]
    truth: np.ndarray
    answer: np.ndarray
    probabilities: np.ndarray
    possible: np.ndarray
    unlabelled: int

    @property
    def speakers(self) -> list[str | None]:
        """(rows,) speaker of each row."""
        return [u.speaker for u in self.utterances]

    def confusion(self) -> np.ndarray:
        """(classes, classes) int64, truth by row."""
        return metrics.confusion_matrix(self.truth, self.answer, len(self.labels))

    def where(self, keep: np.ndarray) -> Decisions:
        """The rows where (rows,) bool ``keep`` is true."""
        rows = np.flatnonzero(keep)
        return Decisions(
            self.system, self.split, self.labels, tuple(self.utterances[k] for k in rows),
            self.truth[rows], self.answer[rows], self.probabilities[rows], self.possible, self.unlabelled,
        )  # fmt: skip


def decide(predictions: Predictions, manifest: Manifest, *, split: str, in_sample: bool = False) -> Decisions:
    """Match predictions with the labelled utterances of a split, by id, and answer each.

    Args:
        predictions: rows of the split; rows of the manifest's other splits are passed over.
        manifest: the gold labels. split: ``train``, ``dev`` or ``test``.
        in_sample: accept scores of models that were trained on the same utterances.

    Raises:
        SerkitError: other labels than the manifest's, an id the manifest does not know, an utterance without
            a row, no labelled utterance, or scores of utterances the model was trained on.
    """
    who = f"predictions '{predictions.system}'"
    check_known(split, SPLITS, f"no split {split!r}")
    if predictions.labels != manifest.labels:
        raise SerkitError(
            f"{who}: columns are {', '.join(predictions.labels)}; "
            f"the manifest's labels are {', '.join(manifest.labels)}"
        )
    known = set(manifest.ids)
    strange = [i for i in predictions.ids if i not in known]
    if strange:
        count = len(strange)
        raise SerkitError(f"{who}: {count} rows match no utterance of '{manifest.corpus}', first '{strange[0]}'")
    rows = [u for u in manifest if u.split == split]
    labelled = tuple(u for u in rows if u.emotion is not None)
    if not rows:
        raise SerkitError(f"'{manifest.corpus}' has no utterance in split '{split}'")
    if not labelled:
        raise SerkitError(f"none of the {len(rows)} utterances in split '{split}' has a label; nothing can be measured")
    taken = predictions.pooled().take([u.id for u in labelled])
    if taken.seen.any() and not in_sample:
        first = taken.ids[int(taken.seen.argmax())]
        raise SerkitError(
            f"{who}: {int(taken.seen.sum())} of {len(taken)} rows in '{split}' are of utterances the model was trained "
            f"on, first '{first}'; score out-of-fold, or set in_sample=True"
        )
    place = {label: k for k, label in enumerate(manifest.labels)}
    truth = np.array([place[u.emotion or ""] for u in labelled], dtype=np.int64)
    possible = allowed_classes(taken.ids, manifest)
    wrong = np.flatnonzero(~possible[np.arange(len(truth)), truth])
    if len(wrong):
        u = labelled[int(wrong[0])]
        raise SerkitError(f"utterance '{u.id}': emotion '{u.emotion}' is outside the class set of corpus '{u.corpus}'")
    answer = np.where(possible, taken.scores, -np.inf).argmax(axis=1)
    probabilities = masked(taken.probabilities(), possible)
    return Decisions(
        predictions.system, split, manifest.labels, labelled, truth, answer, probabilities,
        np.asarray(possible.any(axis=0)), len(rows) - len(labelled),
    )  # fmt: skip


def pool(parts: Sequence[Decisions]) -> Decisions:
    """The rows of several folds as one set: a metric of the pool, not a mean of the folds' metrics.

    Raises:
        SerkitError: nothing to pool, different labels or systems, or an utterance in two folds.
    """
    if not parts:
        raise SerkitError("nothing to pool: expected the predictions of at least one fold")
    first = parts[0]
    for part in parts[1:]:
        if part.labels != first.labels or part.system != first.system:
            raise SerkitError(
                f"folds do not belong together: '{first.system}' with {len(first.labels)} labels and '{part.system}' "
                f"with {len(part.labels)} labels; expected one system and one label set"
            )
    utterances = tuple(u for part in parts for u in part.utterances)
    seen: set[str] = set()
    for u in utterances:
        if u.id in seen:
            raise SerkitError(f"utterance '{u.id}' is in '{first.split}' of two folds; pooled rows must be distinct")
        seen.add(u.id)
    return Decisions(
        first.system, first.split, first.labels, utterances,
        np.concatenate([p.truth for p in parts]), np.concatenate([p.answer for p in parts]),
        np.concatenate([p.probabilities for p in parts]), np.any([p.possible for p in parts], axis=0),
        sum(p.unlabelled for p in parts),
    )  # fmt: skip


def gather(
    predictions: Predictions | Sequence[Predictions],
    manifest: Manifest | Sequence[Manifest],
    *,
    split: str,
    in_sample: bool = False,
) -> Decisions:
    """:func:`decide` for one manifest, or fold by fold and pooled for several.

    Raises:
        SerkitError: not as many predictions as manifests, or as :func:`decide` and :func:`pool`.
    """
    tables = [predictions] if isinstance(predictions, Predictions) else list(predictions)
    manifests = [manifest] if isinstance(manifest, Manifest) else list(manifest)
    if len(tables) != len(manifests):
        raise SerkitError(f"{len(tables)} tables of predictions and {len(manifests)} manifests; expected one for each")
    pairs = zip(tables, manifests, strict=True)
    return pool([decide(p, m, split=split, in_sample=in_sample) for p, m in pairs])


def evaluate(
    predictions: Predictions | Sequence[Predictions],
    manifest: Manifest | Sequence[Manifest],
    *,
    split: str,
    draws: int = 1000,
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
    in_sample: bool = False,
    groups: Sequence[Group] = (),
) -> Report:
    """Measure one system on one split.

    Metrics: ``macro_f1, uar, accuracy, weighted_f1`` and ``ece`` with 95 % speaker-bootstrap intervals,
    ``bs_f1`` as published (mean, minimum and maximum of 100 balanced subsets), and, where utterances have
    votes, how close scores come to them (``kl``, ``kl_prior`` …: :func:`serkit.raters.closeness`), over all rated
    rows: those without agreement count there and in no label metric. Of a system with attributes, ``ccc`` and
    ``ccc_arousal`` … (:func:`serkit.concordance.concordance`), over all rows with a rating.

    Macro averages run over all labels that the corpora of these rows can have, present or not. A bootstrap
    draw that loses all clips of a class leaves that class out of its average
    (:func:`serkit.metrics.counted_when_drawn`). A slice (by gender, language, corpus, duration, and by each of
    ``groups``) averages over the classes that have a clip in it.

    Args:
        predictions, manifest: one of each, or one per fold, whose rows are pooled.
        split: which rows. draws: bootstrap resamples. seed: same seed, same report.
        provenance: added to what is recorded here (fingerprints, counts, seed).
        in_sample: accept scores on training utterances. groups: further columns to slice by.

    Raises:
        SerkitError: as :func:`decide`.
    """
    rows = gather(predictions, manifest, split=split, in_sample=in_sample)
    manifests = [manifest] if isinstance(manifest, Manifest) else list(manifest)
    units = clusters(rows.speakers)
    confusion = rows.confusion()
    numbers = classification(rows, units, rows.possible, draws=draws, seed=seed)
    subsets, name = bs_f1(confusion, seed=seed)
    n, speakers = len(rows.truth), units.speakers
    low, high = float(subsets.min()), float(subsets.max())
    mean = min(max(float(subsets.mean()), low), high)  # of equal numbers, rounding would put it outside their range
    numbers["bs_f1"] = Metric(mean, low, high, n, speakers, name)
    numbers["ece"] = ece(rows, units, draws=draws, seed=seed)
    tables = [predictions] if isinstance(predictions, Predictions) else list(predictions)
    numbers.update(closeness(tables, manifests, split=split, draws=draws, seed=seed))
    numbers.update(concordance(tables, manifests, split=split, draws=draws, seed=seed))
    recorded = {
        "corpus": manifests[0].corpus,
        "manifests": [m.fingerprint for m in manifests],
        "split_hashes": [m.split_hash for m in manifests],
        "info": [dict(m.info) for m in manifests],
        "speakers_shared": any(m.speakers_shared for m in manifests),
        "unlabelled": rows.unlabelled,
        "in_sample": in_sample,
        "draws": draws,
        "seed": seed,
    }
    return Report(
        rows.system, split, rows.labels, numbers, metrics.per_class(confusion, rows.labels),
        tuple(tuple(int(c) for c in line) for line in confusion), {"bs_f1": tuple(float(d) for d in subsets)},
        slices(rows, groups, draws=draws, seed=seed), {**recorded, **(provenance or {})},
        reliability(rows, units, draws=draws, seed=seed),
    )  # fmt: skip


def classification(
    rows: Decisions, groups: Clusters, counted: np.ndarray, *, draws: int, seed: int
) -> dict[str, Metric]:
    """The metrics of :data:`serkit.metrics.METRICS` with bootstrap intervals over (classes,) ``counted``."""
    confusion = rows.confusion()
    drawn = resampled_confusions(rows.truth, rows.answer, len(rows.labels), groups, draws=draws, seed=seed)
    kept = metrics.counted_when_drawn(counted, confusion, drawn)
    found = {}
    for name in metrics.METRICS:
        value = float(metrics.measure(name, confusion, counted))
        low, high = percentile_interval(metrics.measure(name, drawn, kept))
        found[name] = Metric(value, low, high, len(rows.truth), groups.speakers, groups.interval(draws))
    return found


def ece(rows: Decisions, groups: Clusters, *, draws: int, seed: int) -> Metric:
    """The expected calibration error with its bootstrap interval.

    Chance alone makes it larger than it is, for the absolute gaps of few clips a bin add up, and makes it larger once
    more in draws of these clips: their percentiles often lie above the value itself. So where that is lower, ``low`` is
    ``2 value - high``, of the basic bootstrap (Davison and Hinkley 1997, section 5.2), at least 0.
    """
    gaps = metrics.calibration_gaps(rows.probabilities, rows.truth)
    drawn = np.abs(resampled_means(gaps, groups, draws=draws, seed=seed)).sum(axis=1)
    value = metrics.ece(rows.probabilities, rows.truth)
    low, high = percentile_interval(drawn)
    low, high = max(0.0, min(low, 2 * value - high)), max(value, high)
    return Metric(value, low, high, len(rows.truth), groups.speakers, groups.interval(draws))


def reliability(rows: Decisions, groups: Clusters, *, draws: int, seed: int) -> tuple[dict[str, float], ...]:
    """What a reliability diagram shows: :func:`serkit.calibration.reliability` with wider ``low`` and ``high``.

    They are those of the bootstrap by speaker where they reach beyond Wilson's, which takes clips as
    independent but does not shrink to a point in a bin of a few answers that were all right.
    """
    found = calibration.reliability(rows.probabilities, rows.truth)
    column = metrics.confidence_bins(rows.probabilities.max(axis=1))
    inside = (column[:, None] == np.unique(column)).astype(np.float64)
    right = inside * (rows.probabilities.argmax(axis=1) == rows.truth)[:, None]
    drawn = resampled_means(np.concatenate([right, inside], axis=1), groups, draws=draws, seed=seed)
    for k, row in enumerate(found):
        there = drawn[:, len(found) + k] > 0
        if there.any():
            low, high = percentile_interval(drawn[there, k] / drawn[there, len(found) + k])
            row["low"], row["high"] = min(low, row["low"]), max(high, row["high"])
    return tuple(found)


def slices(
    rows: Decisions, groups: Sequence[Group] = (), *, draws: int, seed: int
) -> dict[str, dict[str, dict[str, Metric]]]:
    """Metrics by group of :func:`serkit.groupings.groupings`: ``{column: {group: {metric: number}}}``.

    Utterances of which the column is not known are a group of their own, ``unknown``. Macro averages run over
    the classes that have a clip in the group.
    """
    found: dict[str, dict[str, dict[str, Metric]]] = {}
    for grouping in groupings(rows.utterances, groups):
        found[grouping.name] = {}
        for k, name in enumerate(grouping.groups):
            part = rows.where(grouping.index == k)
            present = metrics.with_truth(part.confusion())
            numbers = classification(part, clusters(part.speakers), present, draws=draws, seed=seed)
            found[grouping.name][name] = numbers
    return found


@dataclass(frozen=True)
class Mistake:
    """A wrong answer with what one needs to go and listen.

    Attributes:
        id, audio, corpus, speaker, duration_s: which clip. text: what is said, where the corpus says so.
        truth, answer: labels. confidence: probability of the answer. truth_probability: of the truth.
        start_s: where in the recording it begins, if it is a part of one. channel: of its channels, if it names one.
    """

    id: str
    audio: str
    corpus: str | None
    speaker: str | None
    duration_s: float | None
    text: str | None
    truth: str
    answer: str
    confidence: float
    truth_probability: float
    start_s: float | None = None
    channel: int | None = None

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row; without ``start_s`` and ``channel`` where there are none."""
        return {k: v for k, v in asdict(self).items() if k not in ("start_s", "channel") or v is not None}


def most_confident_mistakes(rows: Decisions, n: int = 20) -> tuple[Mistake, ...]:
    """The ``n`` wrong answers given with the highest probability, most confident first; ties by id."""
    wrong = np.flatnonzero(rows.truth != rows.answer)
    confidence = rows.probabilities[np.arange(len(rows.truth)), rows.answer]
    order = sorted(wrong.tolist(), key=lambda k: (-confidence[k], rows.utterances[k].id))[:n]
    found = []
    for k in order:
        u = rows.utterances[k]
        truth, answer = int(rows.truth[k]), int(rows.answer[k])
        mistake = Mistake(
            u.id, u.audio, u.corpus, u.speaker, duration_s(u), u.text, rows.labels[truth], rows.labels[answer],
            float(confidence[k]), float(rows.probabilities[k, truth]), u.start_s, u.channel,
        )  # fmt: skip
        found.append(mistake)
    return tuple(found)


def mistake_rows(rows: Decisions) -> list[dict[str, Any]]:
    """:func:`most_confident_mistakes` as JSON-able rows."""
    return [mistake.to_row() for mistake in most_confident_mistakes(rows)]
