"""What conditions change: a bundle's answers under each of them, in pairs with its answers to the unchanged recordings.

Where two bundles are measured, they are compared in pairs under each condition as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serkit.comparison import Difference, with_holm
from serkit.progress import Meter, ProgressCallback
from serkit.serving.measuring import Measured, differences


def changes(
    found: Sequence[Measured], *, draws: int = 1000, seed: int = 0, meter: Meter | None = None
) -> list[list[Difference]]:
    """Each condition minus the unchanged recordings, metric by metric Holm-adjusted over the conditions.

    Args:
        found: of :func:`serkit.serving.measuring.measure_under`, the unchanged recordings first.
        draws, seed: as for :func:`serkit.comparison.compare`. meter: counts each condition.

    Raises:
        SerkitError: no recording was answered both as it is and under a condition.
    """
    return _compared([(one, found[0]) for one in found[1:]], draws, seed, meter)


def between(
    one: Sequence[Measured],
    other: Sequence[Measured],
    *,
    draws: int = 1000,
    seed: int = 0,
    meter: Meter | None = None,
) -> list[list[Difference]]:
    """One bundle minus another under each condition, adjusted likewise; args and errors as for :func:`changes`."""
    return _compared(list(zip(one[1:], other[1:], strict=True)), draws, seed, meter)


def rows(
    found: Sequence[Sequence[Measured]],
    *,
    draws: int = 1000,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> list[dict[str, Any]]:
    """A JSON-able row for each condition.

    Args:
        found: for one or two bundles, as for :func:`changes`, under the same conditions.
        draws, seed: as for :func:`changes`. progress: is told how many comparisons are done.

    Returns:
        ``condition``, ``steps`` (augmentations with their parameters), ``models`` (a row of each bundle),
        ``changes`` (of each bundle, from the unchanged recordings) and ``differences`` (between two bundles).
    """
    n_tables = 1 if len(found) == 1 else 3
    meter = Meter("compare", n_tables * (len(found[0]) - 1), progress, unit="comparisons")
    changed = [changes(one, draws=draws, seed=seed, meter=meter) for one in found]
    compared = between(found[0], found[1], draws=draws, seed=seed, meter=meter) if len(found) == 2 else None
    told = []
    for k, condition in enumerate(m.condition for m in found[0][1:]):
        if condition is None:
            continue
        told.append(
            {
                "condition": condition.name,
                "steps": condition.to_row(),
                "models": [one[k + 1].to_row() for one in found],
                "changes": [[d.to_row() for d in one[k]] for one in changed],
                "differences": [] if compared is None else [d.to_row() for d in compared[k]],
            }
        )
    return told


def _compared(
    pairs: Sequence[tuple[Measured, Measured]], draws: int, seed: int, meter: Meter | None
) -> list[list[Difference]]:
    """The differences of each pair with both p adjusted, each metric over all pairs that have it."""
    found: list[list[Difference]] = []
    for one, other in pairs:
        found.append(list(differences(one, other, draws=draws, seed=seed)))
        if meter is not None:
            meter.advance()
    adjusted: list[list[Difference]] = [[] for _ in found]
    for metric in dict.fromkeys(d.metric for table in found for d in table):
        places = [(k, d) for k, table in enumerate(found) for d in table if d.metric == metric]
        for (k, _), d in zip(places, with_holm([d for _, d in places]), strict=True):
            adjusted[k].append(d)
    return adjusted
