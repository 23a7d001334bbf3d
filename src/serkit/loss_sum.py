"""The weighted sum of several losses, each brought to a common scale by a named rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from serkit.errors import SerkitError, check_known

Rule = Literal["fixed", "initial", "running_max", "uncertainty"]
_SMALLEST = 1e-12


class LossSum(nn.Module):
    """``Σ_k weight_k · scaled_k`` with the scaling of one rule.

    - ``fixed``: each loss as it is.
    - ``initial``: each loss divided by its own first value that is not zero.
    - ``running_max``: each divided by the largest value that it has had so far, the present one
      included, which keeps it in [0, 1]. This is how "scaling factors normalise each component into the [0, 1]
      range" (Wang et al. 2026) is read here; the paper's factors themselves are unknown.
    - ``uncertainty``: ``exp(−s_k) · L_k + s_k / 2`` with one learned ``s_k`` a loss, 0 at first (Kendall
      et al. 2018, the form for classification losses).

    Divisors are constants to the gradient, they change in training mode only, and they are part of ``state_dict``,
    so that a resumed run goes on exactly. With ``initial`` and ``running_max`` they see every call: the sum of
    accumulated small batches is that of the large batch only up to their change in between.

    Args:
        names: of the losses, each once. weights: one per loss, not negative. rule: see above.

    Raises:
        SerkitError: no loss, a name twice, a weight missing or negative, an unknown rule.
    """

    divisors: Tensor
    weights: Tensor

    def __init__(self, names: Sequence[str], weights: Sequence[float], rule: Rule = "fixed") -> None:
        super().__init__()
        self.names, self.rule = tuple(names), rule
        check_known(rule, get_args(Rule), f"no rule '{rule}' to scale a sum of losses")
        if not self.names or len(set(self.names)) != len(self.names) or len(weights) != len(self.names):
            raise SerkitError(
                f"a sum of losses needs each name once, and a weight for each; got {self.names}, {list(weights)}"
            )
        self.register_buffer("weights", _checked(weights), persistent=False)
        self.register_buffer("divisors", torch.zeros(len(self.names), dtype=torch.float32))
        self.log_variances = nn.Parameter(torch.zeros(len(self.names))) if rule == "uncertainty" else None

    def set_weights(self, weights: Sequence[float]) -> None:
        """Take other weights, one per loss, for the sums from now on; they are not part of ``state_dict``.

        Under every rule a loss is scaled first and weighted then: what its scale has taken note of stays as it is.

        Raises:
            SerkitError: one is missing, negative or not finite.
        """
        if len(weights) != len(self.names):
            raise SerkitError(f"a sum of the losses {list(self.names)} was given the weights {list(weights)}")
        self.weights.copy_(_checked(weights))

    def forward(self, values: Mapping[str, Tensor], shares: Mapping[str, float] | None = None) -> Tensor:
        """Scalar sum of the scalars in ``values``, one by name; in training mode the divisors take note of them.

        Args:
            values: of one batch. shares: what part of its scaled loss a batch of several counts, by name.

        Raises:
            SerkitError: a loss is missing or unknown.
        """
        if set(values) != set(self.names):
            raise SerkitError(f"a sum of the losses {list(self.names)} was given {list(values)}")
        if self.training:
            self._take_note(values)
        parts = self._weighted(values)
        if shares is not None:
            parts = {name: shares[name] * part for name, part in parts.items()}
        return torch.stack(list(parts.values())).sum()

    @torch.no_grad()
    def components(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """What each loss adds to the sum, by name, for a curve; changes no state."""
        return {name: float(part) for name, part in self._weighted(values).items()}

    def param_groups(self) -> list[dict[str, Any]]:
        """The learned scales, which must not decay; empty for the other rules."""
        return [] if self.log_variances is None else [{"params": [self.log_variances], "weight_decay": 0.0}]

    def _weighted(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        parts = {}
        for k, name in enumerate(self.names):
            value, weight = values[name], self.weights[k]
            if self.log_variances is not None:
                s = self.log_variances[k]
                parts[name] = weight * (torch.exp(-s) * value + 0.5 * s)
            elif self.rule == "fixed":
                parts[name] = weight * value
            else:
                seen = self.divisors[k]
                divisor = torch.where(seen > _SMALLEST, seen, torch.ones_like(seen))
                parts[name] = weight * value / divisor.to(value.dtype)
        return parts

    @torch.no_grad()
    def _take_note(self, values: Mapping[str, Tensor]) -> None:
        if self.rule not in ("initial", "running_max"):
            return
        now = torch.stack([values[name].detach().abs().to(self.divisors) for name in self.names])
        now = torch.where(torch.isfinite(now), now, torch.zeros_like(now))
        if self.rule == "running_max":
            self.divisors.copy_(torch.maximum(self.divisors, now))
        else:
            self.divisors.copy_(torch.where(self.divisors > _SMALLEST, self.divisors, now))


def _checked(weights: Sequence[float]) -> Tensor:
    """Weights as a float32 tensor.

    Raises:
        SerkitError: one is negative or not finite.
    """
    if any(not math.isfinite(w) or w < 0 for w in weights):
        raise SerkitError(f"weights of losses must be finite and not negative; got {list(weights)}")
    return torch.tensor(list(weights), dtype=torch.float32)
