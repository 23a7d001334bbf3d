from __future__ import annotations

import pytest
import torch

from serkit.errors import SerkitError
from serkit.losses.center_loss import CenterLoss
from serkit.tensors import Batch, Outputs


def batch_of(labels: list[int], targets: torch.Tensor | None = None) -> Batch:
    return Batch(tuple(str(k) for k in range(len(labels))), {}, {}, torch.tensor(labels), targets=targets)


def outputs_of(embedding: torch.Tensor | None, n: int = 4) -> Outputs:
    return Outputs(torch.zeros(n, 3), embedding=embedding)


def made(dim: int = 64, **more: object) -> CenterLoss:
    torch.manual_seed(0)
    return CenterLoss(n_classes=3, dim=dim, **more).double()  # type: ignore[arg-type]


@pytest.mark.parametrize("soft", [False, True])
def test_agrees_with_a_slow_reference_and_its_gradients(soft: bool) -> None:
    loss = made()
    x = torch.randn(4, 64, dtype=torch.float64, requires_grad=True)
    labels = [0, 2, -1, 1]
    targets = torch.tensor([[0.6, 0.4, 0], [0, 0, 1], [0, 0, 0], [0.2, 0.5, 0.3]], dtype=torch.float64)
    if not soft:
        targets = torch.tensor([[1, 0, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=torch.float64)
    value = loss(outputs_of(x), batch_of(labels, targets if soft else None))
    expected = torch.zeros((), dtype=torch.float64)
    for i in (0, 1, 3):
        for c in range(3):
            expected = expected + 0.5 * targets[i, c] * sum((x[i, d] - loss.centers[c, d]) ** 2 for d in range(64)) / 3
    assert value.item() == pytest.approx(expected.item(), abs=1e-6)
    for ours, theirs in zip(
        torch.autograd.grad(value, [x, loss.centers]), torch.autograd.grad(expected, [x, loss.centers]), strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_centers_move_to_the_means_of_their_classes() -> None:
    loss = made(dim=64)
    x = torch.randn(4, 64, dtype=torch.float64)
    optimiser = torch.optim.SGD(loss.param_groups(), lr=1.0)
    for group in optimiser.param_groups:
        group["lr"] = 0.5
    for _ in range(200):
        optimiser.zero_grad()
        loss(outputs_of(x), batch_of([0, 0, 1, 1])).backward()
        optimiser.step()
    assert torch.allclose(loss.centers[0], x[:2].mean(dim=0), atol=1e-6)
    assert torch.allclose(loss.centers[1], x[2:].mean(dim=0), atol=1e-6)


def test_a_wide_embedding_is_projected_by_a_fixed_orthonormal_basis() -> None:
    loss = made(dim=100)
    assert loss.basis is not None
    assert torch.allclose(loss.basis.T @ loss.basis, torch.eye(64, dtype=torch.float64), atol=1e-5)
    assert torch.equal(loss.basis, made(dim=100).basis)
    assert [p.shape for g in loss.param_groups() for p in g["params"]] == [(3, 64)]
    x = torch.randn(4, 100, dtype=torch.float64)
    moved = made(dim=64)
    moved.load_state_dict({"centers": loss.centers.detach()}, strict=False)
    ours, projected = (m(outputs_of(e), batch_of([0, 1, 2, 0])) for m, e in ((loss, x), (moved, x @ loss.basis)))
    assert ours.item() == pytest.approx(projected.item())
    assert set(loss.state_dict()) == {"basis", "centers"}


def test_a_narrow_embedding_stays_as_it_is_and_a_learned_projection_is_trained() -> None:
    assert made(dim=10).centers.shape == (3, 10)
    learned = made(dim=10, projection="learned")
    assert learned.centers.shape == (3, 64)
    groups = learned.param_groups()
    assert groups[0]["lr"] == 5e-3
    assert groups[0]["weight_decay"] == 0.0
    assert "lr" not in groups[1]
    assert groups[1]["params"][0].shape == (64, 10)


@pytest.mark.parametrize(("mixed", "rows"), [("dominant", [0, 1]), ("skip", [0])])
def test_mixed_labels_count_by_rule(mixed: str, rows: list[int]) -> None:
    loss = made(mixed=mixed)
    x = torch.randn(4, 64, dtype=torch.float64)
    targets = torch.tensor([[1, 0, 0], [0.1, 0.7, 0.2], [0.5, 0.5, 0], [0, 0, 0]], dtype=torch.float64)
    value = loss(outputs_of(x), batch_of([-1] * 4, targets))
    plain = loss(outputs_of(x[rows]), batch_of([0, 1][: len(rows)]))
    assert value.item() == pytest.approx(plain.item())


def test_misuse_is_refused() -> None:
    with pytest.raises(SerkitError, match="embedding"):
        made()(outputs_of(None), batch_of([0, 1, 2, 0]))
    with pytest.raises(SerkitError, match="no rule 'sof'"):
        made(mixed="sof")
    with pytest.raises(SerkitError, match="did you mean 'learned'"):
        made(projection="learnt")
    with pytest.raises(SerkitError, match="width"):
        made(width=0)
