"""What counts as unsure, and what is in a set of classes: measured on the held-out clips that a bundle keeps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serkit import calibration, conformal
from serkit.errors import SerkitError, check_known
from serkit.probabilities import restricted
from serkit.serving.bundle import Bundle

LONG_SET = (
    "the recording is longer than {longest:g} s, so its answer is the mean over its parts; the coverage of such a set "
    "was not measured"
)


class Thresholds:
    """Cuts of a bundle, each measured once.

    Args:
        bundle: whose held-out clips are asked.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._held: dict[tuple[str, ...], tuple[np.ndarray, np.ndarray]] = {}
        self._cuts: dict[tuple[tuple[str, ...], float | None], float] = {}
        self._least: dict[tuple[tuple[str, ...], float], float] = {}

    def columns(self, labels: Sequence[str] | None) -> list[int]:
        """Places of some labels in the class order; all where ``None``.

        Raises:
            SerkitError: a label the model does not have, one twice, or fewer than two.
        """
        known = self._bundle.labels
        if labels is None:
            return list(range(len(known)))
        for label in labels:
            check_known(label, known, f"the model has no label '{label}'")
        if len(set(labels)) != len(labels) or len(labels) < 2:
            raise SerkitError(f"labels {', '.join(labels) or '(none)'}: expected two or more, each once")
        return [known.index(label) for label in labels]

    def unsure_below(self, labels: Sequence[str], threshold: float | None) -> float:
        """The confidence below which an answer counts as unsure, measured on held-out speakers.

        Args:
            labels: that the answer is restricted to. threshold: precision wanted; ``None``: right more often
                than wrong.

        Raises:
            SerkitError: that precision was never reached.
        """
        asked = (tuple(labels), threshold)
        if asked not in self._cuts:
            self._cuts[asked] = self._measured(*asked)
        return self._cuts[asked]

    def in_set_from(self, labels: Sequence[str], coverage: float) -> float:
        """The probability from which on a class is in the set: see :func:`serkit.conformal.least_probability`.

        Args:
            labels: that the answer is restricted to; measured on held-out clips of these. coverage: wanted.

        Raises:
            SerkitError: a coverage out of range, too few held-out clips of these labels, or a bundle that was adapted
                to recordings without labels.
        """
        conformal.refuse_coverage(coverage)
        asked = (tuple(labels), coverage)
        if asked not in self._least:
            bundle = self._bundle
            if bundle.adaptation is not None and bundle.correction is None:
                raise SerkitError(
                    f"no sets at coverage {coverage:g}: '{bundle.name}' is adapted to recordings without labels, and "
                    "what it answers to clips like these was never measured; leave --coverage out, or adapt it to "
                    "labelled clips (serkit adapt --corpus)"
                )
            try:
                self._least[asked] = conformal.least_probability(coverage, *self._held_out(asked[0]))
            except SerkitError as error:
                raise SerkitError(f"no sets of '{bundle.name}' for {', '.join(labels)}: {error}") from None
        return self._least[asked]

    def coverages(self) -> tuple[float, ...]:
        """Those of :data:`serkit.conformal.COVERAGES` that sets can be asked at, among all labels."""
        return tuple(coverage for coverage in conformal.COVERAGES if self._gives(coverage))

    def _gives(self, coverage: float) -> bool:
        try:
            self.in_set_from(self._bundle.labels, coverage)
        except SerkitError:  # too few clips, or answers that were never measured
            return False
        return True

    def _measured(self, labels: tuple[str, ...], threshold: float | None) -> float:
        probabilities, truth = self._held_out(labels)
        if threshold is not None and not len(truth):
            raise SerkitError(
                f"no threshold for {', '.join(labels)}: the model keeps no measured clips of these labels; "
                "leave --threshold out, or ask for other labels"
            )
        if threshold is not None:
            return calibration.confidence_for(threshold, probabilities, truth).confidence
        if len(truth) < calibration.LEAST_ROWS:
            return 0.0
        return calibration.unsure_below(probabilities, truth)

    def _held_out(self, labels: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Held-out scores of the rows whose truth is among ``labels``, restricted to them."""
        if labels not in self._held:
            probabilities, truth = self._bundle.held_out
            columns = self.columns(labels)
            place = {c: k for k, c in enumerate(columns)}
            rows = np.array([int(t) in place for t in truth], dtype=bool)
            inside = np.array([place[int(t)] for t in truth[rows]], dtype=np.int64)
            self._held[labels] = (restricted(probabilities[rows], columns), inside)
        return self._held[labels]
