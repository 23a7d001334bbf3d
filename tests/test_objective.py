import pytest
import torch

from made import made_config, made_examples, made_system
from serkit.errors import SerkitError
from serkit.losses.cross_entropy import cross_entropy
from serkit.losses.neutral_margin import neutral_margin
from serkit.networks import build_network
from serkit.objective import Objective
from serkit.sampling import Loader


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
    with pytest.raises(SerkitError, match="'cross_entropy' stands twice"):
        made(losses=["cross_entropy", "cross_entropy"])
    system = made_system(losses=["center_loss"])
    with pytest.raises(SerkitError, match="needs a network with an embedding"):
        Objective(system, made_examples()[0], torch.nn.Linear(1, 1))
