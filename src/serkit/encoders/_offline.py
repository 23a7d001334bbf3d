"""What the descriptor encoders share: parameters, trimming, padding to a window, pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from serkit import dsp
from serkit.encoding import EncoderSpec, pool_frames
from serkit.errors import SerkitError, did_you_mean

Pooling = Literal["mean", "mean+std"]
POOLINGS = ("mean", "mean+std")
TRIM_DEFAULTS: Mapping[str, float] = {"threshold_db": -40.0, "margin_s": 0.1}
LARGE = 3.0e4  # features are stored as float16, which ends at 65504


class OfflineEncoder:
    """Waveforms to frames without weights: a subclass says how one clip becomes ``(frames, dim)``.

    Args:
        name: one of :meth:`names`.
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
        if name not in self.names():
            raise SerkitError(f"no encoder '{name}'" + did_you_mean(name, self.names()))
        if pooling not in POOLINGS:
            raise SerkitError(f"encoder '{name}': pooling '{pooling}'" + did_you_mean(pooling, POOLINGS))
        chosen: dict[str, Any] = dict(params or {})
        if pooling != "mean":
            chosen["pooling"] = pooling
        if trim:
            given = dict(trim) if isinstance(trim, Mapping) else {}
            for key in given:
                if key not in TRIM_DEFAULTS:
                    raise SerkitError(f"encoder '{name}': trim has no '{key}'" + did_you_mean(key, TRIM_DEFAULTS))
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
        frames = self._frames(samples)
        pooled = pool_frames(frames, self.spec.pool)
        if self.pooling == "mean+std":
            square = pool_frames(frames.astype(np.float64) ** 2, self.spec.pool)
            spread = np.sqrt(np.maximum(square - pooled.astype(np.float64) ** 2, 0.0))
            pooled = np.concatenate([pooled, spread.astype(np.float32)], axis=1)
        if self.DTYPE == "float16":
            pooled = np.clip(pooled, -LARGE, LARGE)
        return np.ascontiguousarray(pooled, dtype=np.float32)

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        """(samples,) float32, at least one window, to (frames, dim) float32 before pooling."""
        raise NotImplementedError
