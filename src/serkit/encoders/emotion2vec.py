"""Hidden states of emotion2vec and emotion2vec+."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from serkit.foundation.speech import SpeechEncoder

if TYPE_CHECKING:
    from torch import Tensor


class Emotion2vec(SpeechEncoder):
    """emotion2vec and emotion2vec+ (Ma et al. 2023, arXiv 2312.15185) without FunASR, 50 frames a second."""

    FAMILY: ClassVar[str] = "emotion2vec"
    TRANSFORMERS: ClassVar[bool] = False

    def _load(self, folder: Path) -> None:
        from serkit.foundation.emotion2vec_model import load_emotion2vec
        from serkit.foundation.speech import widen_groups

        self._model = load_emotion2vec(self.spec.name, folder)
        self._check_sizes(self._model.dim, len(self._model.layers), self._model.window, self._model.hop)
        self._model.cut(max(self.taken))
        widen_groups(self._model)

    def _prepared(self, samples: np.ndarray) -> np.ndarray:
        from serkit.foundation.emotion2vec_model import normalised

        return normalised(samples, self.spec.window)

    def _states(self, values: Tensor, lengths: list[int]) -> Mapping[int, Tensor]:
        import torch

        frames = None
        if min(lengths) < max(lengths):
            frames = torch.tensor([self._n_frames(n) for n in lengths], device=values.device)
        states: dict[int, Tensor] = self._model.states(values, frames, self.taken)
        return states
