"""Augmentations of waveforms, features or labels: one file each, always applied after the split.

The contract every file of this folder keeps. Its public callable is a frozen dataclass whose fields
are the parameters a recipe may set, checked when it is made (``SerkitError``). Beside them it has

- ``probability``: how often a chain applies it. Calling the object itself applies it always;
- ``kind`` (class attribute): ``"samples"``, ``"features"`` or ``"target"``, the part it reads and changes;
- ``needs_partner`` (class attribute): it mixes the clip with a second one;
- ``__call__(example, rng, partner=None) -> Example``: a new :class:`Example`. Nothing given is changed in
  place; everything random comes from ``rng``, so that the same generator state gives the same bytes.

What holds for all of them:

- Waveforms are ``(samples,)`` float32 mono 16 kHz. A result louder than full scale is scaled down as a
  whole to a peak of 1, which changes no signal-to-noise ratio.
- A silent, empty or too short clip or partner leaves the example as it was, label included: a label never
  claims an emotion that cannot be heard.
- Mixing two clips gives the target ``(1 − share) · own + share · partner's``; where either has no target
  (all zeros) the mixture has none. Rater counts end with the first mixing; label augmentations go before it.
- numpy only; soxr where the speed changes. audiomentations offers some of this and is not used: it knows no
  labels, which is the point of half of this folder, draws from the global random state, and brings librosa,
  scipy and numba; its mixing formula for additive noise is the one in ``noise.py``.

A sampler calls :func:`apply_chain` with a generator of its own for every (seed, epoch, utterance), which
makes the result independent of workers and of where training was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from serkit.errors import SerkitError

KINDS = ("samples", "features", "target")


@dataclass(frozen=True)
class Example:
    """One utterance on its way into a batch.

    Attributes:
        target: (classes,) float64 label distribution summing to 1; all zeros where there is no label.
        samples: (n,) float32 waveform, mono 16 kHz, or ``None`` where the example has features only.
        features: by encoder name, (time, dim) float32.
        votes: (classes,) number of raters by class, where the corpus has them and no clip was mixed in yet.
        attributes: (3,) float64 arousal, valence, dominance; NaN where unknown.
        gender: of the speaker, as in ``Batch.genders``; -1 where unknown, or where two speakers differ in it.

    Raises:
        SerkitError: the target is not a distribution, or an array has the wrong number of axes.
    """

    target: np.ndarray
    samples: np.ndarray | None = None
    features: Mapping[str, np.ndarray] = field(default_factory=dict)
    votes: np.ndarray | None = None
    attributes: np.ndarray | None = None
    gender: int = -1

    def __post_init__(self) -> None:
        target = np.asarray(self.target, dtype=np.float64)
        object.__setattr__(self, "target", target)
        total = float(target.sum()) if target.ndim == 1 else float("nan")
        if not (abs(total - 1.0) < 1e-6 or total == 0.0) or bool((target < 0).any()):
            raise SerkitError(f"example: the target {target.tolist()} is not a distribution over the classes")
        if self.samples is not None and self.samples.ndim != 1:
            raise SerkitError(f"example: samples have shape {self.samples.shape}; expected (samples,), mono")
        for name, frames in self.features.items():
            if frames.ndim != 2:
                raise SerkitError(f"example: features '{name}' have shape {frames.shape}; expected (time, dim)")


class Augmentation(Protocol):
    """What every file of this folder makes; see the module's text."""

    @property
    def probability(self) -> float:
        """How often a chain applies it, from 0 to 1."""

    @property
    def kind(self) -> Literal["samples", "features", "target"]:
        """The part of an example it reads and changes."""

    @property
    def needs_partner(self) -> bool:
        """Whether it mixes the clip with a second one."""

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Apply it, always."""


def check_probability(name: str, probability: float) -> None:
    """Refuse a probability outside [0, 1]; for ``__post_init__``.

    Args:
        name: of the augmentation, for the message.

    Raises:
        SerkitError: see above.
    """
    if not 0.0 <= probability <= 1.0:
        raise SerkitError(f"augmentation '{name}': probability is {probability}, expected a number from 0 to 1")


def change_features(
    name: str, example: Example, encoders: Sequence[str] | None, change: Callable[[np.ndarray], np.ndarray]
) -> Example:
    """The example with the features of some encoders changed, each (frames, dim) on its own; ``None``: of all.

    Raises:
        SerkitError: ``encoders`` names features that the example does not have; ``name`` is the augmentation.
    """
    missing = [one for one in encoders or () if one not in example.features]
    if missing:
        raise SerkitError(
            f"augmentation '{name}': no features '{missing[0]}'; the example has {sorted(example.features)}"
        )
    features = {
        key: change(frames) if encoders is None or key in encoders else frames
        for key, frames in example.features.items()
    }
    return replace(example, features=features)


def apply_chain(
    chain: Sequence[Augmentation],
    example: Example,
    rng: np.random.Generator,
    draw_partner: Callable[[np.random.Generator], Example] | None = None,
) -> Example:
    """Apply each step with its probability, in order.

    A partner is drawn only for a step that is applied, and first goes through the steps before that one,
    except those that would need a partner themselves.

    Args:
        chain: the steps. example: the clip. rng: source of everything random.
        draw_partner: gives another training clip, unaugmented; needed where a step mixes.

    Returns:
        The augmented example; ``example`` itself where no step was applied.

    Raises:
        SerkitError: a step mixes and there is no ``draw_partner``.
    """
    for position, step in enumerate(chain):
        if not rng.random() < step.probability:
            continue
        partner = None
        if step.needs_partner:
            if draw_partner is None:
                raise SerkitError(
                    f"augmentation {type(step).__name__} mixes two clips, and no partner can be drawn here"
                )
            before = [earlier for earlier in chain[:position] if not earlier.needs_partner]
            partner = apply_chain(before, draw_partner(rng), rng)
        example = step(example, rng, partner)
    return example


def split_chain(chain: Sequence[Augmentation]) -> tuple[list[Augmentation], list[Augmentation]]:
    """The steps that come before features are computed (samples, target), and those after, each in order.

    Raises:
        SerkitError: a step on samples stands after one on features, where it could not act.
    """
    before = [step for step in chain if step.kind != "features"]
    after = [step for step in chain if step.kind == "features"]
    first = next((k for k, step in enumerate(chain) if step.kind == "features"), len(chain))
    late = [step for step in chain[first:] if step.kind == "samples"]
    if late:
        raise SerkitError(
            f"augmentation {type(late[0]).__name__} changes the waveform and comes after "
            f"{type(chain[first]).__name__}, which changes features; put waveforms first"
        )
    return before, after
