"""Numbers of a system that was trained several times: mean and spread over seeds, rows of several folds pooled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from serkit import leads
from serkit.predictions import Predictions
from serkit.types import Manifest


def over_seeds(
    scores: Sequence[Sequence[Predictions]], manifests: Sequence[Manifest], split: str, names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Mean, standard deviation over seeds (``None`` of one) and each seed's number, by metric.

    Args:
        scores: for each seed, the predictions of every fold. manifests: of the folds. split: whose rows are measured.
        names: of :data:`serkit.leads.LEADS`.

    Returns:
        By metric ``mean``, ``sd``, ``by_seed``, ``n`` clips and ``speakers`` (0: unknown).
    """
    found = {}
    for name in names:
        measured = [leads.measured(name, tables, manifests, split) for tables in scores]
        each = [m.value for m in measured]
        found[name] = {
            "mean": float(np.mean(each)),
            "sd": float(np.std(each, ddof=1)) if len(each) > 1 else None,
            "by_seed": each,
            "n": measured[0].n,
            "speakers": measured[0].speakers,
        }
    return found
