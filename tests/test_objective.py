from dataclasses import replace

import pytest
import torch

from made import made_config, made_examples, made_system
from serkit.errors import SerkitError
from serkit.losses.cross_entropy import cross_entropy
from serkit.losses.kl_soft import kl_soft
from serkit.losses.neutral_margin import neutral_margin
from serkit.networks import build_network
from serkit.objective import Objective
from serkit.sampling import Loader
from serkit.tensors import Batch, Mixture, Outputs


def made(**changes):
    system = made_system(**changes)
    train, _ = made_examples()
    torch.manual_seed(0)
    network = build_network(made_config(system))
    batch = next(Loader(train, 8).epoch(0))
    return Objective(system, train, network), network(batch), batch, train


def test_it_is_the_weighted_sum_of_what_the_losses_say():
    losses = [
        {"name": "cross_entropy", "class_weights": "inverse_frequency"},
        {"name": "neutral_margin", "weight": 0.3},
    ]
    objective, outputs, batch, train = made(losses=losses)
    total, parts = objective(outputs, batch)
    counts = torch.from_numpy(train.class_counts()).float()
    first = cross_entropy(outputs, batch, class_weights="inverse_frequency", class_counts=counts)
    second = neutral_margin(outputs, batch, label_names=train.label_names)
    assert torch.allclose(parts["cross_entropy"], first)
    assert torch.allclose(total, first + 0.3 * second)
    total.backward()


def test_before_any_epoch_a_loss_has_the_largest_of_its_weights():
    """What asks which losses act at all does not know the epoch."""
    ramps = [{"first": 0.0, "last": 2.0, "epochs": 4}, {"first": 1.0, "last": 0.0, "epochs": 2}]
    losses = [{"name": n, "weight": w} for n, w in zip(("cross_entropy", "neutral_margin"), ramps, strict=True)]
    objective, outputs, batch, _ = made(losses=losses)
    for epoch, (first, second) in {
        None: (2.0, 1.0),
        0: (0.0, 1.0),
        1: (0.5, 0.5),
        2: (1.0, 0.0),
        9: (2.0, 0.0),
    }.items():
        if epoch is not None:
            objective.begin_epoch(epoch)
        total, parts = objective(outputs, batch)
        assert torch.allclose(total, first * parts["cross_entropy"] + second * parts["neutral_margin"]), epoch


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_shares_make_parts_of_a_batch_the_whole(soft, masked):
    """Unlabelled rows, soft labels and classes that a corpus cannot have, by parts of other sums of weights."""
    losses = [{"name": "cross_entropy", "class_weights": "inverse_frequency", "soft": soft}, {"name": "neutral_margin"}]
    objective, *_ = made(losses=losses, train={"loss_scale": "fixed"})
    torch.manual_seed(1)
    labels = torch.tensor([0, -1, 2, 1, 0, 0, 0, -1, 2, 0])
    targets = torch.rand(10, 3).softmax(1) if soft else None
    mask = torch.ones(10, 3, dtype=torch.bool)
    mask[labels == 0, 1] = False
    whole = Batch(tuple("abcdefghij"), {}, {}, labels, targets, mask if masked else None)
    logits, neutral = torch.randn(10, 3), torch.randn(10)
    spans = [slice(0, 3), slice(3, 4), slice(4, 8), slice(8, 10)]
    parts = [
        replace(
            whole, ids=whole.ids[s], labels=labels[s], targets=targets[s] if soft else None,
            class_mask=mask[s] if masked else None,
        )
        for s in spans
    ]  # fmt: skip
    shares = objective.shares(parts)
    for name in ("cross_entropy", "neutral_margin"):
        assert sum(s[name] for s in shares) == pytest.approx(1)
    total = sum(
        objective(Outputs(logits[s], neutral[s]), part, share)[0]
        for s, part, share in zip(spans, parts, shares, strict=True)
    )
    assert float(total) == pytest.approx(float(objective(Outputs(logits, neutral), whole)[0]), abs=1e-6)


def test_losses_with_state_bring_their_parameters_and_a_learned_scale_too():
    objective, outputs, batch, _ = made(losses=["cross_entropy", {"name": "center_loss", "weight": 0.1}])
    trained = {id(p) for group in objective.param_groups() for p in group["params"]}
    assert trained == {id(p) for p in objective.parameters()}
    assert trained
    objective(outputs, batch)[0].backward()
    learned, *_ = made(losses=["cross_entropy", "neutral_margin"], train={"loss_scale": "uncertainty"})
    groups = learned.param_groups()
    assert [p.shape for g in groups for p in g["params"]] == [torch.Size([2])]
    assert groups[0]["weight_decay"] == 0.0


def test_what_cannot_be_summed_is_refused():
    with pytest.raises(SerkitError, match="'cross_entropy' occurs twice"):
        made(losses=["cross_entropy", "cross_entropy"])
    system = made_system(losses=["center_loss"])
    with pytest.raises(SerkitError, match="needs a network with an embedding"):
        Objective(system, made_examples()[0], torch.nn.Linear(1, 1))
    with pytest.raises(SerkitError, match="'multi_layer_contrastive' needs a network with layers: use the model cross"):
        made(model={"name": "mean_pool", "hidden": 8}, losses=["cross_entropy", "multi_layer_contrastive"])


def test_labels_are_mixed_as_the_network_mixed_its_rows():
    """Distributions, hard labels, unknown ones, attributes and classes that a corpus cannot have, by hand."""
    objective, *_ = made(losses=["kl_soft", "attribute_mse"], train={"loss_scale": "fixed"})
    nan = float("nan")
    labels = torch.tensor([0, 1, -1, 2])
    ratings = torch.tensor([[2.0, 4.0, nan], [4.0, 6.0, 1.0], [1.0, 1.0, 1.0], [5.0, 5.0, 5.0]])
    can = torch.tensor([[True, False, True]]).expand(4, 3).clone()
    can[1] = True
    batch = Batch(tuple("abcd"), {}, {}, labels, class_mask=can, attributes=ratings)
    mixture = Mixture(torch.tensor([1, 2, 3, 0]), torch.tensor([0.25, 0.5, 0.5, 0.0]))
    outputs = Outputs(torch.randn(4, 3), attributes=torch.randn(4, 3), mixture=mixture)
    _, parts = objective(outputs, batch)
    by_hand = Batch(
        batch.ids, {}, {}, labels,
        targets=torch.tensor([[0.75, 0.25, 0.0], [nan] * 3, [nan] * 3, [0.0, 0.0, 1.0]]),
        class_mask=torch.tensor([[True, True, True], [True, True, True], [True, False, True], [True, False, True]]),
        attributes=torch.tensor([[2.5, 4.5, nan], [2.5, 3.5, 1.0], [3.0, 3.0, 3.0], [5.0, 5.0, 5.0]]),
    )  # fmt: skip
    by_hand = replace(by_hand, labels=torch.tensor([0, -1, -1, 2]))
    torch.testing.assert_close(parts["kl_soft"], kl_soft(outputs, by_hand))
    away = (outputs.attributes - by_hand.attributes) ** 2
    torch.testing.assert_close(parts["attribute_mse"], away.nanmean())
    assert batch.labels is labels, "what the loader gave is as it was"


def test_a_mixture_of_votes_is_the_votes_mixed():
    objective, *_ = made(losses=["kl_soft"], train={"loss_scale": "fixed"})
    votes = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 5.0]])  # counts: whoever has more raters weighs no more
    batch = Batch(("a", "b"), {}, {}, torch.tensor([0, -1]), targets=votes)
    outputs = Outputs(torch.randn(2, 3), mixture=Mixture(torch.tensor([1, 0]), torch.tensor([0.5, 0.0])))
    _, parts = objective(outputs, batch)
    mixed = torch.tensor([[0.375, 0.125, 0.5], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(parts["kl_soft"], kl_soft(outputs, replace(batch, targets=mixed)))
