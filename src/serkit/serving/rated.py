"""A published model of ratings as a network of serkit: it gives the ratings, and regions of their space as classes.

Such a model has no classes. A bundle has some, so the rating space is divided at the middle of its scale, as
:mod:`serkit.regions` divides the ratings of a corpus. Which region a clip is in follows from its ratings alone. Its
probability does not: that takes the error of a rating, which nobody published. It is supposed to be logistic, the same
and independent for all ratings, with a standard deviation of :data:`ERROR` of the scale. Then the probability that a
rating r is above the middle m is ``sigmoid((r − m) / s)``, that of a region is the product over its ratings, and this
is a softmax of numbers that are linear in the ratings: ``Σ ±(r − m) / 2s``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from serkit import regions
from serkit.errors import SerkitError
from serkit.regions import RATED_BY, Kind
from serkit.types import ATTRIBUTES

if TYPE_CHECKING:
    from serkit.foundation.classifiers import Published
    from serkit.models.speech_backbone import SpeechBackbone
    from serkit.serving.graphs import Weights

Scale = tuple[float, float]
ERROR = 1.0 / 6.0  # of the width of a scale: one point of a scale of seven. Chosen, not measured
EXPORTED: Mapping[Weights, float] = {"float32": 1e-4, "float16": 0.01, "int8": 0.1}  # widths of the scale
USUAL: Scale = (0.0, 1.0)  # "approximately 0...1": README of audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim


@dataclass(frozen=True)
class Rated:
    """What becomes of a model of ratings.

    Attributes:
        names: of its ratings, in its order. kind: into which regions their space is divided.
        scale: lowest and highest rating of the model; regions meet in its middle. answered: what the bundle gives for
            these two. stated: whether somebody said which scale it is.
    """

    names: tuple[str, ...]
    kind: Kind
    scale: Scale
    answered: Scale
    stated: bool

    @property
    def labels(self) -> tuple[str, ...]:
        """The regions."""
        return regions.classes(self.kind)

    @property
    def attributes(self) -> list[str]:
        """The ratings in serkit's order."""
        return [name for name in ATTRIBUTES if name in self.names]

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not known, in sentences."""
        low, high = self.scale
        taken = (
            f"its ratings are taken to be on {low:g} to {high:g}, which its config.json does not say: if its README "
            "says otherwise, import again with --rating-scale"
        )
        return (*([] if self.stated else [taken]), f"{not_classes(self.labels)} {PROBABILITIES}")

    def placed(self, network: SpeechBackbone) -> SpeechBackbone:
        """The network, whose logits are this model's ratings, with these as attributes and the regions as classes.

        Its layers below the last one are the same for both.
        """
        import torch
        from torch import nn

        from serkit.models._attributes import AttributeHead

        *below, top = network.head.emotion
        last = cast(nn.Linear, top)
        weight, bias = (part.detach().double() for part in (last.weight, last.bias))
        dim, (low, high), (least, most) = weight.shape[1], self.scale, self.answered
        rating, region = nn.Linear(dim, len(ATTRIBUTES)), nn.Linear(dim, len(self.labels))
        there = torch.tensor([name in self.names for name in ATTRIBUTES])
        rows = [self.names.index(name) for name in RATED_BY[self.kind]]
        signs = torch.tensor(regions.signs(self.kind), dtype=torch.float64)
        signs /= 2 * ERROR * (high - low) * math.sqrt(3) / math.pi  # a logistic deviation is s π / √3
        with torch.no_grad():
            for own in (rating.weight, rating.bias):
                own.zero_()
            own_rows = [self.names.index(name) for name in self.attributes]
            rating.weight[there], rating.bias[there] = weight[own_rows].float(), bias[own_rows].float()
            region.weight.copy_(signs @ weight[rows])
            region.bias.copy_(signs @ (bias[rows] - (low + high) / 2))
        head = AttributeHead(*copy.deepcopy(below), rating)
        step = (most - least) / (high - low)
        # both in widths of the scale: region logits are steep, and no less exact for that
        steepest = float(signs.abs().sum(dim=1).max()) * (high - low)
        network.units = {"attributes": np.full(3, most - least), "emotion": np.full(1, steepest)}  # type: ignore[assignment]  # no part of it
        head.set_scale(torch.full((3,), least - low * step), torch.where(there, step, 0.0))
        network.head.attributes, network.head.emotion = head, nn.Sequential(*below, region)
        return network.eval().requires_grad_(False)

    def check(self, difference: float, weights: Weights) -> None:
        """Refuse a graph whose ratings are too far from the network's.

        Args:
            difference: in widths of the scale. weights: how they are stored.

        Raises:
            SerkitError: it is more than :data:`EXPORTED`.
        """
        if difference > EXPORTED[weights]:
            raise SerkitError(
                f"with --weights {weights} ratings differ by {difference:.2g} of the width of their scale, allowed are "
                f"{EXPORTED[weights]:g}: use weights with more digits"
            )

    def head(self) -> dict[str, Any]:
        """What ``bundle.json`` says of its ratings."""
        return {"attributes": self.attributes, "rating_scale": list(self.answered)}

    def facts(self) -> dict[str, Any]:
        """What it says of how they were made."""
        return {"order": list(self.names), "scale": list(self.scale), "regions": self.kind, "error": ERROR}


PROBABILITIES = (
    "The probability of a region supposes that the error of every rating has a standard deviation of a sixth of its "
    "scale, which nobody measured"
)


def not_classes(labels: tuple[str, ...]) -> str:
    """That regions of ratings are no trained classes, in sentences; empty of other labels.

    >>> not_classes(("anger", "fear"))
    ''
    """
    said = regions.meaning(labels)
    return (
        f"the labels are regions of the ratings, and no classes that the model was trained on: {said}" if said else ""
    )


def rated(
    published: Published, kind: Kind | None = None, scale: Scale | None = None, answered: Scale | None = None
) -> Rated | None:
    """How a checkpoint of ratings is imported; ``None`` of one with classes.

    Args:
        kind: of the regions; quadrants where ``None``. scale: of its ratings; 0 to 1 where ``None``.
        answered: what the bundle gives for the ends of that scale; the same where ``None``.

    Raises:
        SerkitError: octants without dominance, a scale that has no width, or any of the three for a classifier.
    """
    given = [
        option
        for option, value in (("--regions", kind), ("--rating-scale", scale), ("--answer-scale", answered))
        if value is not None
    ]
    if not published.rated:
        if given:
            raise SerkitError(
                f"{given[0]} is for a model that gives ratings, and '{published.name}' has classes: "
                f"{', '.join(published.words)}"
            )
        return None
    for option, ends in (("--rating-scale", scale), ("--answer-scale", answered)):
        if ends is not None and not (math.isfinite(ends[0]) and math.isfinite(ends[1]) and ends[0] < ends[1]):
            raise SerkitError(f"{option} {ends[0]:g},{ends[1]:g}: expected the lowest and the highest rating")
    chosen: Kind = kind or "quadrants"
    if missing := [name for name in RATED_BY[chosen] if name not in published.labels]:
        raise SerkitError(
            f"--regions {chosen}: '{published.name}' gives no {missing[0]}, only {', '.join(published.words)}: use "
            "--regions quadrants"
        )
    own = scale or USUAL
    return Rated(published.labels, chosen, own, answered or own, scale is not None)
