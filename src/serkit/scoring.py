"""A network's scores for examples, and their accuracy: numbers during training, tables after it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from serkit import metrics
from serkit.examples import Examples
from serkit.predictions import Predictions
from serkit.probabilities import masked
from serkit.sampling import Loader
from serkit.types import ATTRIBUTES


@torch.inference_mode()
def score(
    network: nn.Module,
    examples: Examples,
    *,
    system: str,
    model: str,
    seen: frozenset[str] = frozenset(),
    batch_size: int = 64,
    device: str | torch.device = "cpu",
) -> Predictions:
    """Logits of a network for every example, in the examples' own order; attributes where it has that head.

    Args:
        seen: ids that this network was trained on.
    """
    network.eval()
    position = {i: k for k, i in enumerate(examples.ids)}
    scores = np.zeros((len(examples), len(examples.label_names)))
    attributes = None
    for batch in Loader(examples, batch_size).in_order():
        outputs = network(batch.to(device))
        rows = [position[i] for i in batch.ids]
        scores[rows] = outputs.emotion.float().cpu().numpy()
        if outputs.attributes is not None:
            attributes = np.full((len(examples), len(ATTRIBUTES)), np.nan) if attributes is None else attributes
            attributes[rows] = outputs.attributes.float().cpu().numpy()
    flags = np.array([i in seen for i in examples.ids])
    models = (model,) * len(examples)
    return Predictions(system, examples.label_names, "logit", examples.ids, models, flags, scores, attributes)


def measure_scores(predictions: Predictions, examples: Examples) -> dict[str, float]:
    """Metrics of one table of scores, without intervals.

    Label metrics and cross-entropy are of the rows with a label, as in a report; where no row has one, the class
    that most raters named stands for it. A class that a row's corpus cannot have is never the answer.

    Args:
        predictions: of :func:`score` for ``examples``, which all have a label or rater votes.

    Returns:
        Every metric of :data:`serkit.metrics.METRICS`; ``cross_entropy``, unweighted, in nats; of examples with
        distributions, ``kl`` from the votes over all rows that have some, those without agreement included, among the
        classes of each row's corpus, as in a report; and, of a network that learned attributes, ``ccc_arousal`` and
        so on and their mean, ``ccc``, over all rated rows.
    """
    truth = examples.labels
    if examples.targets is not None and not (truth >= 0).any():
        truth = examples.targets.argmax(axis=1)
    allowed = predictions.scores
    if examples.class_mask is not None:
        allowed = np.where(examples.class_mask, allowed, -np.inf)
    kept = np.flatnonzero(truth >= 0)
    confusion = metrics.confusion_matrix(truth[kept], allowed[kept].argmax(axis=1), len(examples.label_names))
    row = {name: float(metrics.measure(name, confusion)) for name in metrics.METRICS}
    probabilities = predictions.probabilities()
    own = probabilities[kept, truth[kept]]
    row["cross_entropy"] = float(-np.log(np.maximum(own, 1e-12)).mean())
    if examples.targets is not None and examples.votes is not None and examples.votes.any():
        rated = np.flatnonzero(examples.votes.any(axis=1))
        answers = probabilities if examples.class_mask is None else masked(probabilities, examples.class_mask)
        row["kl"] = float(metrics.distribution_distances(examples.targets[rated], answers[rated])["kl"].mean())
    row.update(_concordance(predictions, examples))
    return row


def _concordance(predictions: Predictions, examples: Examples) -> dict[str, float]:
    """CCC of each attribute that was learned and is known of two rows or more, and their mean."""
    if predictions.attributes is None or not len(examples.attributes):
        return {}
    known = np.isfinite(predictions.attributes) & np.isfinite(examples.attributes)
    found = {
        f"ccc_{name}": metrics.ccc(examples.attributes[known[:, k], k], predictions.attributes[known[:, k], k])
        for k, name in enumerate(ATTRIBUTES)
        if known[:, k].sum() > 1
    }
    return {**found, "ccc": sum(found.values()) / len(found)} if found else {}
