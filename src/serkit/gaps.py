"""How far apart a system's numbers are between groups of speakers or clips, with intervals and tests. Never torch.

Where a group is a property of a speaker (gender, accent), speakers are drawn within their groups for an interval, and
change groups in a permutation. Where most speakers have clips in several groups (duration), speakers are drawn with
all of these, and a permutation lets the clips of one speaker and true class change groups among themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from serkit import metrics
from serkit.bootstrap import clusters, percentile_interval, resample, unit_sums
from serkit.comparison import holm
from serkit.evaluate_settings import Group
from serkit.evaluation import Decisions
from serkit.exchanges import Members, f1s, p_values, recalls
from serkit.groupings import UNKNOWN, Grouping, groupings
from serkit.paired import POWER_80

COMPARED = ("uar", "macro_f1")
LEAST_SPEAKERS = 5  # a group below one of these is shown, and left out of gaps; so is a class in one of the groups
LEAST_CLIPS = 30
LEAST_OF_CLASS = 10  # clips of a class in a group, for its recall to be compared
Values = Callable[[np.ndarray], np.ndarray]  # (..., groups, classes, classes) counts → (..., groups) numbers


@dataclass(frozen=True)
class Gap:
    """The largest difference between groups in one number.

    Attributes:
        values: the number of each group that was compared. highest, lowest: the groups that are farthest apart.
        difference: of these two. low, high: its 95 % bootstrap interval. Where there are more groups these two are the
            farthest apart, and the interval leaves out 0 much too often: ``p`` decides.
        p: of exchanges of members between the groups (:func:`serkit.exchanges.p_values`); ``None`` of a number that
            is not tested.
        p_holm: ``p`` adjusted for the groupings (UAR, Macro-F1) or for the classes of one grouping (recall).
        detectable: the true difference whose interval would leave out 0 four times in five with this spread: 2.80
            standard errors. It is called larger than chance less often where several columns or classes are adjusted.
    """

    values: Mapping[str, float]
    highest: str
    lowest: str
    difference: float
    low: float
    high: float
    p: float | None
    p_holm: float | None
    detectable: float


@dataclass(frozen=True)
class Gaps:
    """One system's gaps between the groups of one column.

    Attributes:
        clips, speakers: of each group. left_out: groups that are not compared, and why.
        note: why nothing was compared, ``""`` where something was.
        moved: what changes groups in a permutation. crossed: speakers with clips in several of the groups compared.
        interval: how low and high of each gap came about. classes: those that every group compared has, of
            :data:`LEAST_SPEAKERS` speakers or more unless most of these are in several groups.
        missing: the other classes; their clips are in no gap.
        metrics: the gap of ``uar`` and ``macro_f1`` over these classes.
        recall: by class, gap of the share of its clips that are answered so (equal opportunity).
        share: by class, gap of the share of all clips that are answered so (demographic parity); not tested.
        truth: by class and group, share of the clips that are of the class: what a parity gap may come from.
    """

    clips: Mapping[str, int]
    speakers: Mapping[str, int]
    left_out: Mapping[str, str]
    note: str = ""
    moved: str = ""
    crossed: int = 0
    interval: str = ""
    classes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    metrics: Mapping[str, Gap] = dataclasses.field(default_factory=dict)
    recall: Mapping[str, Gap] = dataclasses.field(default_factory=dict)
    share: Mapping[str, Gap] = dataclasses.field(default_factory=dict)
    truth: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row."""
        return dataclasses.asdict(self)


def gaps(rows: Decisions, groups: Sequence[Group] = (), *, draws: int = 1000, seed: int = 0) -> dict[str, Gaps]:
    """The gaps between the groups of each column, by its name.

    Args:
        rows: of one system. groups: columns beside those of :func:`serkit.groupings.groupings`.
        draws: bootstrap resamples, and permutations. seed: the same seed gives the same numbers.

    Raises:
        SerkitError: a column that cannot be cut into groups.
    """
    found = {g.name: _of(rows, g, draws, seed) for g in groupings(rows.utterances, groups)}
    for name in COMPARED:
        columns = [column for column, one in found.items() if name in one.metrics]
        adjusted = _adjusted({column: found[column].metrics[name] for column in columns})
        for column in columns:
            found[column] = dataclasses.replace(
                found[column], metrics={**found[column].metrics, name: adjusted[column]}
            )
    return found


def _adjusted(found: Mapping[str, Gap]) -> dict[str, Gap]:
    """The same gaps with ``p_holm`` over all of them."""
    tested = holm([gap.p or 0.0 for gap in found.values()])
    return {k: dataclasses.replace(gap, p_holm=p) for (k, gap), p in zip(found.items(), tested, strict=True)}


def _of(rows: Decisions, grouping: Grouping, draws: int, seed: int) -> Gaps:
    """The gaps of one column, its metrics not adjusted yet."""
    clips, speakers, left_out, who = {}, {}, {}, rows.speakers
    for k, name in enumerate(grouping.groups):
        inside = np.flatnonzero(grouping.index == k)
        clips[name] = len(inside)
        speakers[name] = len({who[r] for r in inside} - {None})
        if reason := _reason(name, clips[name], speakers[name]):
            left_out[name] = reason
    compared = [name for name in grouping.groups if name not in left_out]
    if len(compared) < 2:
        return Gaps(clips, speakers, left_out, note="fewer than two groups are large enough to be compared")
    place = {grouping.groups.index(name): k for k, name in enumerate(compared)}
    index = np.array([place.get(int(k), -1) for k in grouping.index])
    placed = index >= 0
    every = _Sets.of(rows.where(placed), index[placed], tuple(compared), np.ones(len(rows.labels), dtype=bool))
    voices = every.voices()
    counted = np.asarray((voices >= (1 if every.within else LEAST_SPEAKERS)).all(axis=0))
    missing = tuple(rows.labels[k] for k in np.flatnonzero(voices.any(axis=0) & ~counted))
    if counted.sum() < 2:
        note = "the groups have fewer than two classes in common"
        note += "" if every.within else f", counting those of {LEAST_SPEAKERS} speakers or more in each"
        return Gaps(clips, speakers, left_out, note=note)
    keep = placed & counted[rows.truth]
    sets = _Sets(rows.where(keep), index[keep], every.names, counted, every.crossed, every.within)
    return sets.measured(Gaps(clips, speakers, left_out, missing=missing), draws, seed)


def _reason(name: str, clips: int, speakers: int) -> str:
    """Why a group is not compared, ``""`` where it is. Of a group whose speakers are all unknown only clips count."""
    if name == UNKNOWN:
        return "no value in this column"
    if clips < LEAST_CLIPS:
        return f"{clips} clip{'s'[: clips != 1]}, fewer than {LEAST_CLIPS}"
    if 0 < speakers < LEAST_SPEAKERS:
        return f"{speakers} speaker{'s'[: speakers != 1]}, fewer than {LEAST_SPEAKERS}"
    return ""


@dataclass(frozen=True)
class _Sets:
    """The rows that are compared.

    Attributes:
        rows: labelled. index: (rows,) position of each row's group in ``names``.
        counted: (classes,) bool: the classes that are compared. crossed: how many speakers have clips in several
            groups. within: whether at least half of them have.
    """

    rows: Decisions
    index: np.ndarray
    names: tuple[str, ...]
    counted: np.ndarray
    crossed: int
    within: bool

    @classmethod
    def of(cls, rows: Decisions, index: np.ndarray, names: tuple[str, ...], counted: np.ndarray) -> _Sets:
        """With what is known of how speakers and groups cross."""
        of_speaker: dict[str, set[int]] = {}
        for speaker, group in zip(rows.speakers, index.tolist(), strict=True):
            if speaker is not None:
                of_speaker.setdefault(speaker, set()).add(group)
        crossed = sum(len(found) > 1 for found in of_speaker.values())
        return cls(rows, index, names, counted, crossed, crossed > 0 and 2 * crossed >= len(of_speaker))

    def voices(self) -> np.ndarray:
        """(groups, classes) int64: how many speakers have clips of each class; a clip of an unknown one counts as one.

        What one or two speakers say of a class has no spread to measure a gap by, so the test would call it a gap.
        """
        found: dict[tuple[int, int], set[str | int]] = {}
        for r, speaker in enumerate(self.rows.speakers):
            place = int(self.index[r]), int(self.rows.truth[r])
            found.setdefault(place, set()).add(r if speaker is None else speaker)
        counts = np.zeros((len(self.names), len(self.counted)), dtype=np.int64)
        for place, some in found.items():
            counts[place] = len(some)
        return counts

    def measured(self, about: Gaps, draws: int, seed: int) -> Gaps:
        """All gaps of these rows, each class's recall adjusted over the classes."""
        rng = np.random.default_rng([seed, 7])
        n, c = len(self.names), len(self.counted)
        whole = np.bincount(self.index * c * c + self._kinds, minlength=n * c * c).reshape(n, c, c)
        drawn = self._drawn(draws, rng)
        support = whole.sum(axis=2)
        compared, everyone = support >= LEAST_OF_CLASS, np.ones(n, dtype=bool)
        places = np.flatnonzero(self.counted)
        labels = {int(k): self.rows.labels[k] for k in places}
        single = {k: recalls(np.array([k]), c, compared[:, k]) for k in labels if compared[:, k].sum() > 1}
        tested = {"uar": recalls(places, c, everyone), "macro_f1": f1s(places, c, everyone)}
        p = p_values(self._members(), {**tested, **{f"recall {k}": r for k, r in single.items()}}, draws=draws, rng=rng)
        recall = {
            labels[k]: self._gap(partial(_recall, k), whole, drawn, r.among, p[f"recall {k}"])
            for k, r in single.items()
        }
        share = {label: self._gap(partial(_share, k), whole, drawn, everyone, None) for k, label in labels.items()}
        averages = {
            name: self._gap(partial(_average, name, self.counted, whole), whole, drawn, everyone, p[name])
            for name in COMPARED
        }
        shares = support / support.sum(axis=1, keepdims=True)
        truth = {label: {name: float(shares[g, k]) for g, name in enumerate(self.names)} for k, label in labels.items()}
        return dataclasses.replace(
            about, moved=self._moved, crossed=self.crossed, interval=self._interval(draws),
            classes=tuple(labels.values()), metrics=averages, recall=_adjusted(recall), share=share, truth=truth,
        )  # fmt: skip

    def _gap(self, number: Values, whole: np.ndarray, drawn: np.ndarray, among: np.ndarray, p: float | None) -> Gap:
        """The gap in one number between (groups,) bool ``among``."""
        places = np.flatnonzero(among)
        values = number(whole)
        order = places[np.argsort(-values[places], kind="stable")]
        highest, lowest = int(order[0]), int(order[-1])
        difference = float(values[highest] - values[lowest])
        found = number(drawn)
        differences = found[:, highest] - found[:, lowest]
        known = differences[np.isfinite(differences)]  # a draw can lose a class of a group, few draws all of them
        known = known if len(known) else np.array([difference])
        return Gap(
            {self.names[k]: float(values[k]) for k in places}, self.names[highest], self.names[lowest], difference,
            *percentile_interval(known), p, None, POWER_80 * float(known.std()),
        )  # fmt: skip

    @property
    def _kinds(self) -> np.ndarray:
        """(rows,) int64: truth and answer of each row as one number below classes²."""
        return np.asarray(self.rows.truth * len(self.counted) + self.rows.answer)

    def _drawn(self, draws: int, rng: np.random.Generator) -> np.ndarray:
        """(draws, groups, classes, classes): counts after speakers were drawn with replacement."""
        n, c = len(self.names), len(self.counted)
        found, who = np.zeros((draws, n * c * c)), self.rows.speakers
        everyone = np.arange(len(self.index))
        for inside in [everyone] if self.within else [np.flatnonzero(self.index == g) for g in range(n)]:
            used, kind = np.unique((self.index * c * c + self._kinds)[inside], return_inverse=True)
            units = clusters([who[r] for r in inside])
            found[:, used] = resample(unit_sums(np.eye(len(used)), units, kind.reshape(-1)), draws, rng)
        return found.reshape(draws, n, c, c)

    def _members(self) -> Members:
        """What changes groups in the test: speakers, or the clips of one speaker and class among themselves."""
        c = len(self.counted)
        who = [f"clip {k}" if s is None else f"speaker {s}" for k, s in enumerate(self.rows.speakers)]
        _, who_of = np.unique(who, return_inverse=True)
        if self.within:
            block = who_of * c + self.rows.truth
            return Members(np.eye(c * c)[self._kinds], self.index, block, len(self.names), in_errors=False)
        parts, part_of = np.unique(np.column_stack([who_of, self.index]), axis=0, return_inverse=True)
        counts = np.zeros((len(parts), c * c))
        np.add.at(counts, (part_of.reshape(-1), self._kinds), 1.0)
        known = any(s is not None for s in self.rows.speakers)
        return Members(counts, parts[:, 1], np.zeros(len(parts), dtype=np.int64), len(self.names), in_errors=known)

    @property
    def _moved(self) -> str:
        if self.within:
            return "clips of the same speaker and class"
        return "speakers" if any(s is not None for s in self.rows.speakers) else "clips, as speakers are unknown"

    def _interval(self, draws: int) -> str:
        """What the intervals are called; rough where the smallest group is."""
        who = self.rows.speakers
        if self.within:
            return clusters(who).interval(draws).replace("% ", "% paired ", 1)
        sides = [clusters([who[r] for r in np.flatnonzero(self.index == g)]) for g in range(len(self.names))]
        return min(sides, key=lambda units: units.speakers).interval(draws) + " in the smallest group"


def _recall(k: int, counts: np.ndarray) -> np.ndarray:
    """(..., groups) share of the clips of class k that were answered so, NaN without one."""
    return _ratio(counts[..., k, k], counts[..., k, :].sum(axis=-1))


def _share(k: int, counts: np.ndarray) -> np.ndarray:
    """(..., groups) share of all clips that were answered k, NaN without one."""
    return _ratio(counts[..., :, k].sum(axis=-1), counts.sum(axis=(-2, -1)))


def _average(name: str, counted: np.ndarray, whole: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(..., groups) a metric over the counted classes, NaN of a group without a clip."""
    found = metrics.measure(name, counts, metrics.counted_when_drawn(counted, whole, counts))
    return np.where(counts.sum(axis=(-2, -1)) > 0, found, np.nan)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0))
