"""Some dimensions of a clip's features put in another order of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serkit.augment import Example, change_features, check_probability
from serkit.errors import SerkitError


@dataclass(frozen=True)
class SeqAug:
    """SeqAug (Georgiou and Potamianos 2023, arXiv 2305.01954): chosen dimensions are permuted along time.

    As in the released code of the UFG team (arXiv 2506.02088): a share ``w ~ Beta(alpha, alpha)`` of the dimensions is
    drawn, and the frames of these dimensions, all in the same new order, replace the old ones. Each dimension keeps its
    values and so its mean, deviation and every other statistic over the clip. A network that pools before it mixes
    dimensions, such as ``mean_pool``, therefore sees nothing of it.

    Attributes:
        alpha: of the Beta distribution (read: 0.5).
        encoders: names of the features to change; ``None`` changes all of them, each with its own draw. For a
            decision of its own for each encoder, as read, name the step once for each.
        probability: how often a chain applies it (read: 0.5).
    """

    alpha: float = 0.5
    encoders: tuple[str, ...] | None = None
    probability: float = 0.5

    kind = "features"
    needs_partner = False

    def __post_init__(self) -> None:
        check_probability("seq_aug", self.probability)
        if not self.alpha > 0.0:
            raise SerkitError(f"augmentation 'seq_aug': alpha is {self.alpha}, expected more than 0")

    def __call__(self, example: Example, rng: np.random.Generator, partner: Example | None = None) -> Example:
        """Permute.

        Raises:
            SerkitError: ``encoders`` names features that the example does not have.
        """
        return change_features("seq_aug", example, self.encoders, lambda frames: self._permuted(frames, rng))

    def _permuted(self, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        time, dim = frames.shape
        chosen = rng.choice(dim, size=int(rng.beta(self.alpha, self.alpha) * dim), replace=False)
        result = frames.copy()
        result[:, chosen] = frames[rng.permutation(time)][:, chosen]
        return result
