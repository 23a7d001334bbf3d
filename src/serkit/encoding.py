"""What an encoder is: its spec, the one frame-count rule, and the contract of every family.

Imports numpy only, so that the store, the command line and serving can reason about features
without loading a model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from serkit.errors import SerkitError, check_known
from serkit.files import fingerprint

SAMPLE_RATE_HZ = 16_000
DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class EncoderSpec:
    """Everything that decides the numbers an encoder gives; what does not (device, workers) is absent.

    Attributes:
        name: ``family`` or ``family/checkpoint``, as recipes write it.
        modality: ``audio`` (items are waveforms) or ``text`` (items are strings).
        dim: width of a frame.
        window, hop: samples at 16 kHz a frame spans, and between frames; 0 for text.
        padding: samples of zeros put before and after every clip, together.
        layer: which hidden layer: a number, ``last``, ``mean_last_4`` or ``all``; ``None`` where there is one.
        source: hub id, folder or ``serkit``. revision: commit, hash of the weights, or version of the code.
        pool: frames averaged into one (1: none). dtype: how features are stored.
        params: further choices that change the numbers.
        licence, note: for people; not part of the fingerprint.

    Raises:
        SerkitError: a number out of range, or an unknown dtype.
    """

    name: str
    modality: Literal["audio", "text"]
    dim: int
    window: int = 0
    hop: int = 0
    padding: int = 0
    layer: int | str | None = None
    source: str = "serkit"
    revision: str = "1"
    pool: int = 1
    dtype: Literal["float16", "float32"] = "float16"
    params: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "unknown"
    note: str = ""

    def __post_init__(self) -> None:
        if self.dim < 1 or self.pool < 1:
            raise SerkitError(f"encoder '{self.name}': dim {self.dim} and pool {self.pool} must be at least 1")
        check_known(self.dtype, DTYPES, f"encoder '{self.name}': dtype '{self.dtype}'")
        if self.modality == "audio" and (self.window < 1 or self.hop < 1):
            raise SerkitError(f"encoder '{self.name}': window {self.window} and hop {self.hop} must be at least 1")

    @property
    def fingerprint(self) -> str:
        """Hash of what changes the numbers: two specs with the same one may share features."""
        row = dataclasses.asdict(self)
        for key in ("licence", "note"):
            row.pop(key)
        return fingerprint(row)

    @property
    def rate_hz(self) -> float:
        """Frames per second after pooling (nan for text)."""
        return SAMPLE_RATE_HZ / self.hop / self.pool if self.hop else float("nan")


def n_frames(n_samples: int, spec: EncoderSpec) -> int:
    """Number of frames an audio encoder gives for a clip: the one rule for every family.

    A clip shorter than a window is zero-padded to one window, so there is always a frame. After
    the encoder, ``spec.pool`` frames become one, the last of fewer.

    >>> n_frames(16_000, EncoderSpec("x", "audio", dim=1, window=400, hop=160))
    98
    """
    length = max(n_samples + spec.padding, spec.window)
    frames = 1 + (length - spec.window) // spec.hop
    return -(-frames // spec.pool)


def pool_frames(frames: np.ndarray, pool: int) -> np.ndarray:
    """Average every ``pool`` neighbouring frames; the last group may be smaller.

    Args:
        frames: (time, dim) float. pool: frames per group; 1 returns the input.

    Returns:
        (ceil(time / pool), dim), same dtype.
    """
    if pool == 1:
        return frames
    starts = np.arange(0, len(frames), pool)
    sizes = np.minimum(pool, len(frames) - starts)[:, None]
    return np.asarray(np.add.reduceat(frames, starts, axis=0) / sizes, dtype=frames.dtype)


class Encoder(Protocol):
    """What every member of ``serkit/encoders/`` is, once built.

    Calling it on a list of items (waveforms ``(samples,)`` float32 mono 16 kHz in [-1, 1], or
    strings) returns one ``(frames, dim)`` float32 array per item, in order: no padding frames, and
    no dependence on the other items of the list. Heavy packages load in :meth:`load`, not before.
    """

    spec: EncoderSpec

    def __call__(self, items: Sequence[Any]) -> list[np.ndarray]:
        """Encode items; see the class."""

    def load(self, device: str = "cpu") -> None:
        """Bring weights into memory; called once before the first item, cheap to call again."""

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """Name (``family`` or ``family/checkpoint``) to one line of description with its licence."""

    @classmethod
    def tiny(cls) -> Encoder:
        """A small one with deterministic weights, made without any download: for tests and toys."""


@runtime_checkable
class WithWeights(Protocol):
    """What an encoder says and does beyond :class:`Encoder` where its weights take much memory."""

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""

    def resident_bytes(self, device: str = "cpu") -> int:
        """About what the weights take on the device, known without loading them; 0: not worth a thought."""

    def fetch(self) -> None:
        """Bring the files of the weights to this machine, and nothing into memory; raises what :meth:`load` would."""

    def unload(self) -> None:
        """Give the memory back; the next call loads again."""
