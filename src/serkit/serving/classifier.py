"""What makes a model a scikit-learn classifier, without scikit-learn: it is loaded only when asked for through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from serkit.errors import SerkitError, did_you_mean


class Classifier:
    """The part of scikit-learn's contract that goes beyond ``classes_`` and ``predict_proba``.

    A model is trained when it is loaded. ``cross_val_predict`` and its like, which train anew in every fold, are for
    ``sklearn.frozen.FrozenEstimator(model)``, which does not.
    """

    _estimator_type = "classifier"  # what scikit-learn 1.5 asks for; later ones ask for the tags
    classes_: np.ndarray

    def predict_proba(
        self, recordings: Sequence[Any], *, rate_hz: float | None = None, texts: Sequence[str] | None = None
    ) -> np.ndarray:
        """(recordings, classes) probabilities, in the order of ``classes_``."""
        raise NotImplementedError

    def fit(self, recordings: Any = None, labels: Any = None, **options: Any) -> Self:
        """Refused: a bundle is trained, and a fit that does nothing would look like training.

        Raises:
            SerkitError: always.
        """
        raise SerkitError(
            "the model is already trained and cannot be fitted: `serkit run` trains one. For functions that fit "
            "before they predict, such as cross_val_predict, wrap it: sklearn.frozen.FrozenEstimator(model)"
        )

    def score(
        self,
        recordings: Sequence[Any],
        labels: Sequence[str],
        sample_weight: Sequence[float] | np.ndarray | None = None,
        *,
        rate_hz: float | None = None,
        texts: Sequence[str] | None = None,
    ) -> float:
        """Accuracy, as scikit-learn's ``ClassifierMixin.score`` has it: the share of right answers.

        Args:
            recordings, rate_hz, texts: as for :meth:`predict_proba`.
            labels: (recordings,) the truth. sample_weight: (recordings,) how much each counts, at least 0.

        Raises:
            SerkitError: not one label and one weight for each recording, a label that the model does not have (it could
                only ever count as wrong), or weights below 0 or without any above it.
        """
        truth = [str(label) for label in np.asarray(labels).ravel()]
        known = [str(label) for label in self.classes_]
        for label in dict.fromkeys(truth):
            if label not in known:
                said = f"the model has no label '{label}', which would count as wrong every time"
                raise SerkitError(said + did_you_mean(label, known))
        shares = self.predict_proba(recordings, rate_hz=rate_hz, texts=texts)
        if len(truth) != len(shares) or not truth:
            raise SerkitError(f"{len(shares)} recordings and {len(truth)} labels: expected one for each, and some")
        right = self.classes_[shares.argmax(axis=1)] == np.array(truth)
        if sample_weight is None:
            return float(right.mean())
        weights = np.asarray(sample_weight, dtype=np.float64).ravel()
        if len(weights) != len(truth) or not (np.isfinite(weights).all() and weights.min() >= 0 < weights.sum()):
            raise SerkitError(
                f"{len(weights)} weights for {len(truth)} recordings: expected one for each, 0 or more, not all 0"
            )
        return float(np.average(right, weights=weights))

    def __sklearn_clone__(self) -> Self:
        """A trained model is its own copy; see :meth:`fit` for what then refuses to train it."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        """It is."""
        return True

    def __sklearn_tags__(self) -> Any:
        """A classifier of recordings, not of a table of numbers (scikit-learn 1.6 and later)."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=False),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(two_d_array=False, string=True),
            requires_fit=False,
        )
