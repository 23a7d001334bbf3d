"""What the descriptor encoders share: parameters, trimming, padding to a window, pooling."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from serkit import dsp
from serkit.encoding import EncoderSpec, pool_frames
from serkit.errors import SerkitError, check_known, did_you_mean

Pooling = Literal["mean", "mean+std"]
POOLINGS = ("mean", "mean+std")
TRIM_DEFAULTS: Mapping[str, float] = {"threshold_db": -40.0, "margin_s": 0.1}
WHOLE_CLIP = 1 << 40  # samples between frames: a clip of less than two years has one
LARGE = 3.0e4  # features are stored as float16, which ends at 65504


class OfflineEncoder:
    """Waveforms to frames without weights: a subclass says how one clip becomes ``(frames, dim)``.

    Args:
        name: one of :meth:`names`, or the dotted name of a class of the user's own.
        pool: neighbouring frames put together into one.
        pooling: ``mean``, or ``mean+std`` (the standard deviation within the group follows, dim doubles).
        trim: cut leading and trailing silence first (:func:`serkit.dsp.trim_silence`): ``True``, or its
            parameters ``{"threshold_db": …, "margin_s": …}``.

    Raises:
        SerkitError: an unknown name or a parameter out of range.
    """

    WINDOW: ClassVar[int] = 400
    HOP: ClassVar[int] = 160
    REVISION: ClassVar[str] = "1"
    LICENCE: ClassVar[str] = "Apache-2.0"
    COMMERCIAL: ClassVar[bool | None] = True  # whether the licence allows commercial use; None: nobody has asked
    DTYPE: ClassVar[Literal["float16", "float32"]] = "float16"

    spec: EncoderSpec

    def _specify(
        self,
        name: str,
        dim: int,
        pool: int,
        pooling: str,
        trim: bool | Mapping[str, float],
        params: Mapping[str, Any] | None = None,
    ) -> None:
        own = "." in name and "/" not in name  # a dotted name in a recipe, by which this class was found
        if not own and name not in self.names():
            raise SerkitError(f"no encoder '{name}'" + did_you_mean(name, self.names()))
        check_known(pooling, POOLINGS, f"encoder '{name}': pooling '{pooling}'")
        chosen: dict[str, Any] = dict(params or {})
        if pooling != "mean":
            chosen["pooling"] = pooling
        if trim:
            given = dict(trim) if isinstance(trim, Mapping) else {}
            for key in given:
                check_known(key, TRIM_DEFAULTS, f"encoder '{name}': trim has no '{key}'")
            chosen["trim"] = {**TRIM_DEFAULTS, **given}
        self.pooling = pooling
        self.spec = EncoderSpec(
            name=name,
            modality="audio",
            dim=dim * (2 if pooling == "mean+std" else 1),
            window=self.WINDOW,
            hop=self.HOP,
            source="serkit",
            revision=self.REVISION,
            pool=pool,
            dtype=self.DTYPE,
            params=chosen,
            licence=self.LICENCE,
        )

    def __call__(self, items: Sequence[np.ndarray]) -> list[np.ndarray]:
        """One (frames, dim) float32 array per (samples,) float32 waveform; each alone."""
        return [self._one(item) for item in items]

    def load(self, device: str = "cpu") -> None:
        """Nothing to load."""

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """Name to one line of description with its licence."""
        raise NotImplementedError

    def _one(self, samples: np.ndarray) -> np.ndarray:
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 1:
            raise SerkitError(f"encoder '{self.spec.name}': waveform of shape {samples.shape}, expected (samples,)")
        samples = dsp.at_least(dsp.prepared(samples, self.spec), self.WINDOW)
        frames = self.frames(samples)
        pooled = pool_frames(frames, self.spec.pool)
        if self.pooling == "mean+std":
            square = pool_frames(frames.astype(np.float64) ** 2, self.spec.pool)
            spread = np.sqrt(np.maximum(square - pooled.astype(np.float64) ** 2, 0.0))
            pooled = np.concatenate([pooled, spread.astype(np.float32)], axis=1)
        if self.DTYPE == "float16":
            pooled = np.clip(pooled, -LARGE, LARGE)
        return np.ascontiguousarray(pooled, dtype=np.float32)

    def frames(self, samples: np.ndarray) -> np.ndarray:
        """(samples,) float32, at least one window, to (frames, dim) float32, read-only, trimming and pooling apart.

        The last ones are remembered: a clip's descriptors are often wanted several times, pooled in several ways.
        """
        choices = {k: v for k, v in self.spec.params.items() if k not in ("pooling", "trim")}
        kind = (type(self), f"{self.spec.name} {self.spec.layer} {sorted(choices.items())}")
        return _RECENT.get(kind, np.ascontiguousarray(samples, dtype=np.float32), self._frames)

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        """(samples,) float32, at least one window, to (frames, dim) float32 before pooling."""
        raise NotImplementedError


class _Recent:
    """Frames by what computed them and the samples they are of; the oldest go when there are too many bytes."""

    def __init__(self, largest_bytes: int = 32 << 20) -> None:
        self._known: OrderedDict[tuple[Hashable, bytes], np.ndarray] = OrderedDict()
        self._bytes, self._largest, self._lock = 0, largest_bytes, threading.Lock()

    def get(self, kind: Hashable, samples: np.ndarray, make: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """What ``make`` gives for these samples, perhaps from before."""
        key = (kind, hashlib.blake2b(samples.tobytes(), digest_size=16).digest())
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        frames = make(samples)
        frames.flags.writeable = False
        if frames.nbytes > self._largest // 4:
            return frames
        with self._lock:
            if key not in self._known:
                self._known[key] = frames
                self._bytes += frames.nbytes
            while self._bytes > self._largest:
                self._bytes -= self._known.popitem(last=False)[1].nbytes
        return frames


_RECENT = _Recent()


def remembered(kind: str, samples: np.ndarray, make: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """What ``make`` gives for (samples,) float32, read-only: perhaps from before, for encoders that share it."""
    return _RECENT.get(kind, samples, make)
