"""The reference is the log-softmax of the head, row by row in NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from made import MadeSource, made_config, made_manifest, made_system
from serkit.augment._signal import mixed
from serkit.fitting import Fitting, make_accelerator
from serkit.losses.gender import Gender
from serkit.networks import build_network
from serkit.objective import Objective
from serkit.sampling import Examples, Loader
from serkit.tensors import Batch, Mixture, Outputs


def batch_of(genders: list[int] | None) -> Batch:
    n = 4 if genders is None else len(genders)
    given = None if genders is None else torch.tensor(genders)
    return Batch(tuple(str(k) for k in range(n)), {}, {}, torch.full((n,), -1), genders=given)


def made(dim: int = 5) -> Gender:
    torch.manual_seed(0)
    return Gender(dim=dim, width=7)


def outputs_of(embedding: torch.Tensor) -> Outputs:
    return Outputs(torch.zeros(len(embedding), 3), embedding=embedding)


def test_agrees_with_numpy_over_the_known_ones() -> None:
    loss, embedding = made(), torch.randn(4, 5)
    first, _, second = loss.head
    hidden = np.maximum(embedding.numpy() @ first.weight.detach().numpy().T + first.bias.detach().numpy(), 0)
    scores = hidden @ second.weight.detach().numpy().T + second.bias.detach().numpy()
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    expected = -np.mean([log_p[0, 1], log_p[2, 0], log_p[3, 1]])
    value = loss(outputs_of(embedding), batch_of([1, -1, 0, 1]))
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_nobody_known_is_nothing_learned() -> None:
    loss, embedding = made(), torch.randn(4, 5, requires_grad=True)
    for batch in (batch_of(None), batch_of([-1] * 4)):
        value = loss(outputs_of(embedding), batch)
        assert value.item() == 0
        assert not torch.autograd.grad(value, embedding)[0].any()


def with_genders() -> Examples:
    manifest = made_manifest(48)
    names = ("female", "male", "other", None)
    rows = tuple(replace(u, gender=names[int(str(u.speaker)[1:]) % 4]) for u in manifest)
    manifest = replace(manifest, utterances=rows)
    return Examples.of(manifest.split("train"), {"x": MadeSource(manifest)})


def test_batches_hold_the_gender_of_each_speaker_others_and_unknown_ones_as_unknown() -> None:
    examples = with_genders()
    for batch in Loader(examples, 8).epoch(0):
        speakers = [int(i[1:]) % 6 % 4 for i in batch.ids]  # as made_manifest gives them
        assert batch.genders.tolist() == [(0, 1, -1, -1)[k] for k in speakers]
        assert batch.to("cpu").genders.tolist() == batch.genders.tolist()


def test_the_gender_of_two_speakers_who_differ_in_it_is_unknown() -> None:
    examples = with_genders()
    she, he, other = examples.example(0), examples.example(1), examples.example(2)
    assert (she.gender, he.gender, other.gender) == (0, 1, -1)
    assert [mixed(she, b, 0.3).gender for b in (she, he, other)] == [0, -1, -1]
    assert mixed(she, he, 0.0).gender == 0
    system = made_system(losses=["cross_entropy", {"name": "gender", "width": 4}])
    objective = Objective(system, examples, build_network(made_config(system)))
    seen: list[list[int]] = []
    objective.parts["gender"] = lambda outputs, batch: (seen.append(batch.genders.tolist()), outputs.emotion.sum())[1]
    mixture = Mixture(torch.tensor([1, 2, 3, 0]), torch.tensor([0.5, 0.0, 0.2, 0.1]))
    objective(replace(outputs_of(torch.randn(4, 5)), mixture=mixture), batch_of([0, 1, 1, 1]))
    assert seen == [[-1, 1, 1, -1]]


def test_it_is_learned_with_the_network_and_stays_out_of_it() -> None:
    system = made_system(losses=["cross_entropy", {"name": "gender", "weight": 0.1, "width": 4}])
    config = made_config(system)
    torch.manual_seed(1)
    network = build_network(config)
    fitting = Fitting(system, config, "full", with_genders(), network, make_accelerator(system.train, "cpu"))
    before = [p.detach().clone() for p in fitting.losses[0].parameters()]
    rows = [fitting.epoch(k) for k in range(3)]
    assert all(not torch.equal(a, b) for a, b in zip(before, fitting.losses[0].parameters(), strict=True))
    assert rows[0]["scaled_gender"] == pytest.approx(0.1 * rows[0]["loss_gender"], rel=1e-4)
    assert network.state_dict().keys() == build_network(config).state_dict().keys()


def test_parts_of_a_batch_count_by_the_clips_whose_gender_is_known() -> None:
    """What ``train.accumulate`` adds up is the loss of one large batch, wherever the unknown ones are."""
    system = made_system(losses=["cross_entropy", {"name": "gender", "width": 4}])
    objective = Objective(system, with_genders(), build_network(made_config(system)))
    genders, embedding = [[0, -1, -1, -1], [1, 0, 1, 0]], torch.randn(8, objective.parts["gender"].head[0].in_features)
    shares = [share["gender"] for share in objective.shares([batch_of(one) for one in genders])]
    assert shares == pytest.approx([0.2, 0.8])
    parts = [objective.parts["gender"](outputs_of(embedding[4 * k : 4 * k + 4]), batch_of(genders[k])) for k in (0, 1)]
    whole = objective.parts["gender"](outputs_of(embedding), batch_of(genders[0] + genders[1]))
    assert sum(s * p.item() for s, p in zip(shares, parts, strict=True)) == pytest.approx(whole.item(), rel=1e-5)
