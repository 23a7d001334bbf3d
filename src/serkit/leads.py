"""The metric that a recipe chooses its networks by, measured and compared by it. Never imports torch.

Label metrics are of labelled clips. The mean CCC is of all rated clips (:mod:`serkit.concordance`), the KL divergence
from the raters' votes of all clips with votes (:mod:`serkit.raters`), clips without agreement included in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serkit import comparison, evaluation, metrics, paired, raters
from serkit.bootstrap import Clusters, clusters, resample, unit_sums
from serkit.comparison import SeededDifference
from serkit.concordance import MEAN, MOMENTS, Rated, ccc_of, row_moments
from serkit.errors import SerkitError
from serkit.predictions import Predictions
from serkit.settings import System
from serkit.types import ATTRIBUTES, Manifest

CCC, KL = MEAN, "kl"
OF_RATERS = (CCC, KL)
LEADS = (*metrics.METRICS, *OF_RATERS)
LESS_IS_BETTER = (KL,)


def sign(name: str) -> float:
    """1, or -1 of a metric of which less is better."""
    return -1.0 if name in LESS_IS_BETTER else 1.0


def chosen_by(systems: Iterable[System]) -> str | None:
    """The metric that the networks of all systems are chosen by; ``None`` of several, or where the last is kept."""
    found = {system.train.select for system in systems}
    name = found.pop() if len(found) == 1 else None
    return name if name in LEADS else None


def lacking(name: str, manifest: Manifest, split: str) -> str | None:
    """What a split has not that a metric needs, in words; ``None`` where it has it, or has no clips."""
    rows = [u for u in manifest if u.split == split and (u.emotion is not None or u.votes)]  # others are not scored
    if not rows:
        return None
    if name == CCC and all(sum(getattr(u, a) is not None for u in rows) < 2 for a in ATTRIBUTES):
        return "no two ratings of an attribute"
    known = set(manifest.labels)
    if name == KL and not any(w > 0 and label in known for u in rows for label, w in (u.votes or {}).items()):
        return "no votes"
    return None


@dataclass(frozen=True)
class Measured:
    """value: of the metric. n, speakers: clips that it is of, and known speakers among them."""

    value: float
    n: int
    speakers: int


def measured(name: str, tables: Sequence[Predictions], manifests: Sequence[Manifest], split: str) -> Measured:
    """A metric of :data:`LEADS` of one system, the rows of all folds pooled; the value that a report has.

    Args:
        tables, manifests: one of each for every fold.

    Raises:
        SerkitError: there are no votes or ratings, or the system did not learn what is rated.
    """
    if name in OF_RATERS:
        sums = _sums(name, [tables], manifests, split)
        value = float(sums.values(sums.columns.sum(axis=0)[None])[0, 0])
        return Measured(value, len(sums.columns), sums.groups.speakers)
    rows = evaluation.gather(tables, manifests, split=split)
    value = float(metrics.measure(name, rows.confusion(), rows.possible))
    return Measured(value, len(rows.truth), len(set(rows.speakers) - {None}))


def over_seeds(
    scores: Sequence[Sequence[Predictions]], manifests: Sequence[Manifest], split: str, names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Mean, standard deviation over seeds (``None`` of one) and each seed's number, by metric.

    Args:
        scores: for each seed, the predictions of every fold. manifests: of the folds. split: whose rows are measured.
        names: of :data:`LEADS`.

    Returns:
        By metric ``mean``, ``sd``, ``by_seed``, ``n`` clips and ``speakers`` (0: unknown).
    """
    found = {}
    for name in names:
        of_each = [measured(name, tables, manifests, split) for tables in scores]
        each = [m.value for m in of_each]
        found[name] = {
            "mean": float(np.mean(each)),
            "sd": float(np.std(each, ddof=1)) if len(each) > 1 else None,
            "by_seed": each,
            "n": of_each[0].n,
            "speakers": of_each[0].speakers,
        }
    return found


def compare_seeds(
    name: str,
    a: Sequence[Sequence[Predictions]],
    b: Sequence[Sequence[Predictions]],
    manifests: Sequence[Manifest],
    *,
    split: str,
    draws: int = 1000,
    seed: int = 0,
) -> SeededDifference:
    """How much better system a is than system b by a metric of :data:`LEADS`, on average over seeds of training.

    As :func:`serkit.comparison.compare_seeds`, over the rows that have what the metric needs. The difference is
    positive where a is better: of KL, of which less is better, it is ``value_b - value_a``.

    Args:
        a, b: for each seed, the predictions of every fold. manifests: of the folds. split: which rows.
        draws, seed: of bootstrap and permutation.

    Raises:
        SerkitError: as :func:`measured` and :func:`serkit.comparison.compare_seeds`.
    """
    if name not in OF_RATERS:
        return comparison.compare_seeds(a, b, manifests, split=split, metrics=[name], draws=draws, seed=seed)[0]
    if len(a) != len(b) or not a:
        raise SerkitError(f"{len(a)} seeds of the one system and {len(b)} of the other; expected the same seeds")
    sums = _sums(name, [*a, *b], manifests, split)
    units = unit_sums(sums.columns, sums.groups)

    def gaps_of(drawn: np.ndarray) -> np.ndarray:
        """(draws, seeds) how much better a is."""
        return sign(name) * paired.gap(sums.values(drawn).reshape(-1, 2, len(a)))

    whole = sums.values(sums.columns.sum(axis=0)[None]).reshape(2, len(a))
    by_speakers = gaps_of(resample(units, draws, np.random.default_rng([seed, 4])))
    gaps = paired.over_seeds(by_speakers, np.random.default_rng([seed, 6]))
    by_seed = sign(name) * (whole[0] - whole[1])
    ways, exact = paired.trades(units.times, draws, np.random.default_rng([seed, 5]))
    null = gaps_of(paired.swapped(units, ways)).mean(axis=1)
    return SeededDifference.of(
        name, (a[0][0].system, b[0][0].system), whole, by_seed, gaps, null,
        exact=exact, draws=draws, n=len(sums.columns), groups=sums.groups,
        p_seeds=paired.seeded_p(by_speakers, by_seed, int(units.times.sum())),
    )  # fmt: skip


@dataclass(frozen=True)
class _Sums:
    """What each row adds, for several networks side by side.

    Attributes:
        name: of the metric. networks: how many. columns: (rows, networks x width). groups: speakers of the rows.
    """

    name: str
    networks: int
    columns: np.ndarray
    groups: Clusters

    def values(self, sums: np.ndarray) -> np.ndarray:
        """(draws, networks) the metric, from (draws, networks x width) sums over rows."""
        parts = sums.reshape(len(sums), self.networks, -1)
        if self.name == KL:
            return np.asarray(parts[..., 1] / parts[..., 0])
        each = parts.reshape(len(sums), self.networks, -1, MOMENTS)
        return np.asarray(np.nanmean(np.where(each[..., 0] > 0, ccc_of(each), np.nan), axis=-1))


def _sums(name: str, networks: Sequence[Sequence[Predictions]], manifests: Sequence[Manifest], split: str) -> _Sums:
    return (_of_ratings if name == CCC else _of_votes)(networks, manifests, split)


def _of_ratings(networks: Sequence[Sequence[Predictions]], manifests: Sequence[Manifest], split: str) -> _Sums:
    """Moments of ratings and answers, for each network and each attribute that all of them learned."""
    rated = Rated.of(networks, manifests, split)
    places = [] if rated is None else np.flatnonzero(rated.known.sum(axis=0) > 1).tolist()
    if rated is None or not places:
        raise SerkitError(
            f"'{networks[0][0].system}' cannot be measured by CCC on {split}: expected a network that learned arousal, "
            "valence or dominance, and two rated clips; choose another metric"
        )
    known = rated.known
    parts = [row_moments(rated.truth[:, k], answers[:, k], known[:, k]) for answers in rated.answers for k in places]
    rows = np.asarray(known[:, places].any(axis=1))
    return _Sums(CCC, len(networks), np.concatenate(parts, axis=1)[rows], rated.groups(rows))


def _of_votes(networks: Sequence[Sequence[Predictions]], manifests: Sequence[Manifest], split: str) -> _Sums:
    """A one and the KL divergence from the votes, for each network, over the clips with votes that all scored."""
    parts: list[np.ndarray] = []
    speakers: list[str | None] = []
    for fold, manifest in enumerate(manifests):
        found = [raters.rated(folds[fold], manifest, split=split) for folds in networks]
        rated = [r for r in found if r is not None]
        if len(rated) < len(found):
            continue
        shared = set.intersection(*(set(r.ids) for r in rated))
        columns: list[np.ndarray] = []
        for r in rated:
            kept = [k for k, i in enumerate(r.ids) if i in shared]
            distance = metrics.distribution_distances(r.votes[kept], r.probabilities[kept])[KL]
            columns += [np.ones(len(kept)), distance]
        parts.append(np.column_stack(columns))
        speakers += [s for i, s in zip(rated[0].ids, rated[0].speakers, strict=True) if i in shared]
    if not speakers:
        raise SerkitError(
            f"'{networks[0][0].system}' cannot be measured by KL divergence: no clip of {split} has rater votes; "
            "choose another metric"
        )
    return _Sums(KL, len(networks), np.concatenate(parts), clusters(speakers))
