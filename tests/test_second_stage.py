"""A second stage of training: what it changes, from when on, and what goes on as it was."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from made import made_config, made_examples, made_system, voted
from serkit.errors import SerkitError
from serkit.fitting import Fitting, make_accelerator
from serkit.networks import build_network
from serkit.sampling import Loader
from serkit.settings import System
from trained import DROPOUT, content, fit, history

STAGE = {"after_epochs": 2, "lr": 1e-3}


def made_fitting(system, manifest=None, **options):
    torch.manual_seed(1)
    config = made_config(system)
    examples, _ = made_examples(manifest, **options)
    return Fitting(system, config, "full", examples, build_network(config), make_accelerator(system.train, "cpu"))


def test_before_it_nothing_is_different(tmp_path):
    """The first epochs of two stages are those of one, where the rate is constant."""
    fit(tmp_path / "one", made_system(train={"epochs": 2, "schedule": "constant", "select": "last"}))
    fit(tmp_path / "two", made_system(train={"epochs": 4, "schedule": "constant"}, second_stage=STAGE))
    one, two = history(tmp_path / "one"), history(tmp_path / "two")
    assert [{k: v for k, v in row.items() if k != "stage"} for row in two[:2]] == one
    assert [row["stage"] for row in two] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("schedule", "later"),
    [
        ("constant", [1e-3] * 4),
        ("cosine", [1e-4 + 9e-4 * 0.5 * (1 + math.cos(math.pi * k / 4)) for k in (0, 1, 2, 3)]),
    ],
)
def test_each_stage_has_a_schedule_of_its_own(tmp_path, schedule, later):
    train = {"epochs": 6, "lr": 1e-2, "lr_min": 1e-4, "schedule": "cosine_epoch"}
    system = made_system(train=train, second_stage={**STAGE, "schedule": schedule})
    fitting = made_fitting(system)
    rates = [[], []]
    step = fitting.optimizer.step
    fitting.optimizer.step = lambda: (rates[-1].append(fitting.optimizer.param_groups[0]["lr"]), step())
    fitting.epoch(0), fitting.epoch(1)
    first = rates[-1]
    assert first[0] == pytest.approx(1e-2)
    assert first[-1] == pytest.approx(1e-4 + 99e-4 * 0.5 * (1 + math.cos(math.pi / 2))), "half of its own two epochs"
    per_epoch = len(first) // 2
    found = []
    for epoch in range(2, 6):
        rates.append([])
        fitting.epoch(epoch)
        assert len(rates[-1]) == per_epoch
        found.append(rates[-1][0])
    assert found == pytest.approx(later)


def test_groups_with_a_rate_of_their_own_change_in_proportion():
    losses = ["cross_entropy", {"name": "center_loss", "lr": 0.5}]
    system = made_system(losses=losses, train={"epochs": 3, "lr": 1e-2, "schedule": "constant"}, second_stage=STAGE)
    fitting = made_fitting(system)
    for epoch in (0, 2):
        fitting.epoch(epoch)
        assert [g["lr"] for g in fitting.optimizer.param_groups] == pytest.approx(
            [1e-2, 0.5] if epoch == 0 else [1e-3, 0.05]
        )


def test_the_optimiser_is_one_over_both_stages():
    """Regression: MEDUSA's released script makes a new AdamW in every epoch of its second stage."""
    system = made_system(train={"epochs": 4}, second_stage={**STAGE, "losses": ["focal"]})
    fitting = made_fitting(system)
    optimizer = fitting.optimizer
    for epoch in range(4):
        fitting.epoch(epoch)
    assert fitting.optimizer is optimizer
    steps = {float(v["step"]) for v in optimizer.state_dict()["state"].values()}
    assert steps == {4.0 * len(fitting.loaders[0])}


def test_its_losses_are_those_that_are_minimised_and_reported(tmp_path):
    second = {**STAGE, "losses": [{"name": "focal", "weight": 2.0}]}
    system = made_system(train={"epochs": 3}, losses=["cross_entropy", "neutral_margin"], second_stage=second)
    fit(tmp_path, system)
    first, _, last = history(tmp_path)
    assert {k for k in first if k.startswith("loss_")} == {"loss_cross_entropy", "loss_neutral_margin"}
    assert {k for k in last if k.startswith("loss_")} == {"loss_focal"}
    assert last["loss"] == pytest.approx(2.0 * last["loss_focal"])


def test_a_weight_that_changes_counts_the_epochs_of_its_own_stage():
    """Where the losses are those of the first stage, it goes on."""
    ramp = {"name": "cross_entropy", "weight": {"first": 1.0, "last": 0.0, "epochs": 4}}
    for losses, expected in ((None, [1.0, 0.75, 0.5, 0.25]), (["focal", ramp], [1.0, 0.75, 1.0, 0.75])):
        first = ["neutral_margin", ramp]
        fitting = made_fitting(made_system(train={"epochs": 4}, losses=first, second_stage={**STAGE, "losses": losses}))
        found = []
        for epoch in range(4):
            fitting.epoch(epoch)
            found.append(float(fitting.losses[fitting.stage(epoch)].sum.weights[1]))
        assert found == pytest.approx(expected)


def test_a_loss_with_state_goes_on_where_it_is_given_as_before():
    center, other = {"name": "center_loss", "lr": 0.5}, {"name": "center_loss", "lr": 0.1}
    for given, same in ((center, True), ({**center, "weight": 0.2}, True), (other, False)):
        second = {**STAGE, "losses": ["focal", given]}
        fitting = made_fitting(made_system(train={"epochs": 3}, losses=["cross_entropy", center], second_stage=second))
        first, later = fitting.losses
        assert (later.stateful["center_loss"] is first.stateful["center_loss"]) == same
        learned = [id(p) for g in fitting.optimizer.param_groups for p in g["params"]]
        assert len(learned) == len(set(learned))
        assert id(later.stateful["center_loss"].centers) in learned
        before = later.stateful["center_loss"].centers.detach().clone()
        fitting.epoch(2)
        assert not torch.equal(before, later.stateful["center_loss"].centers)


def test_undersampling_takes_as_many_of_each_class_as_the_rarest_has():
    manifest = voted(alone=10_000)
    examples, _ = made_examples(manifest)
    smallest = int(examples.class_counts().min())
    assert smallest < examples.class_counts().max()
    anew, once = (Loader(examples, 8, 3, "class", draw) for draw in ("undersample", "undersample_once"))
    for loader in (anew, once):
        for epoch in (0, 1):
            rows = np.concatenate(loader.batch_rows(epoch))
            assert np.bincount(examples.labels[rows]).tolist() == [smallest] * 3
            assert len(set(rows.tolist())) == len(rows) == loader.n_rows
            assert len(loader.batch_rows(epoch)) == len(loader)
    kept = [{tuple(sorted(np.concatenate(x.batch_rows(k)))) for k in range(4)} for x in (anew, once)]
    assert len(kept[0]) == 4
    assert len(kept[1]) == 1
    orders = {tuple(np.concatenate(once.batch_rows(k))) for k in range(4)}
    assert len(orders) == 4, "the same clips in another order"
    assert kept[1] != {tuple(sorted(np.concatenate(Loader(examples, 8, 4, "class", "undersample_once").batch_rows(0))))}


@pytest.mark.parametrize("draw", ["undersample", "undersample_once", "replacement", "passes"])
@pytest.mark.parametrize("share", [0.0, 0.125, 0.3, 100.0])
def test_clips_without_agreement_come_as_a_share_of_those_with_it(draw, share):
    examples, _ = made_examples(voted(), targets="votes")
    alone = int((examples.labels < 0).sum())
    assert alone > 5
    loader = Loader(examples, 8, 3, "class", draw, without_agreement=share)
    seen = set()
    for epoch in range(6):
        rows = np.concatenate(loader.batch_rows(epoch))
        others = rows[examples.labels[rows] < 0]
        n_with = len(rows) - len(others)
        assert len(others) == min(alone, int(share * n_with + 1e-9))
        assert len(set(others.tolist())) == len(others)
        counts = np.bincount(examples.targets[rows[examples.labels[rows] >= 0]].argmax(axis=1))
        assert counts.max() - counts.min() <= (0 if draw.startswith("under") else 1)
        assert len(rows) == loader.n_rows
        seen.add(tuple(sorted(others)))
    assert (len(seen) > 1) == (0 < share < 100), "other ones in each epoch, where there is a choice"


def test_without_a_share_they_are_drawn_as_any_clip():
    examples, _ = made_examples(voted(), targets="votes")
    rows = np.concatenate(Loader(examples, 8, 3).batch_rows(0))
    assert sorted(rows) == list(range(len(examples)))
    bare = dataclasses.replace(examples, labels=np.full(len(examples), -1))
    with pytest.raises(SerkitError, match="without_agreement: no training clip has a label"):
        Loader(bare, 8, without_agreement=0.5).batch_rows(0)


def test_two_processes_share_the_draw():
    examples, _ = made_examples(voted(), targets="votes")
    loader = Loader(examples, 8, 3, "class", "undersample", without_agreement=0.5)
    whole = [sorted(b.ids) for b in loader.epoch(5)]
    halves = [list(loader.epoch(5, rank=r, world=2)) for r in range(2)]
    assert [sorted([*a.ids, *b.ids]) for a, b in zip(*halves, strict=True)] == whole


MEDUSA = {
    "losses": [{"name": "kl_soft", "class_weights": "sqrt_inverse_frequency"}],
    "second_stage": {
        "after_epochs": 2, "lr": 1e-3, "schedule": "cosine", "balance": "class", "draw": "undersample",
        "without_agreement": 0.125, "losses": ["kl_soft"],
    },
}  # fmt: skip


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
@pytest.mark.parametrize("losses", [["kl_soft"], ["kl_soft", {"name": "center_loss", "lr": 0.5}]])
def test_stopped_and_resumed_is_uninterrupted_bit_for_bit(tmp_path, uninterrupted, stop_after, losses):
    train = {"epochs": 5, "ema": 0.9, "targets": "votes", "loss_scale": "running_max", "patience": 3}
    second = {**MEDUSA["second_stage"], "losses": losses}
    system = made_system(**{**MEDUSA, "second_stage": second}, **DROPOUT, train=train)

    def stop(event):
        if event.epoch == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", system, voted(), targets="votes", on_epoch=stop)
    torch.manual_seed(99)
    fit(tmp_path / "cut", system, voted(), targets="votes")
    assert content(tmp_path / "cut") == uninterrupted(system, voted(), targets="votes")
    assert len(history(tmp_path / "cut")) == 5


def test_the_second_stage_is_shorter_and_the_time_left_knows_it(tmp_path, monkeypatch):
    from serkit import training

    clock = iter(range(1000))
    monkeypatch.setattr(training.time, "monotonic", lambda: float(next(clock)))  # every epoch takes a second
    told = []
    system = made_system(**MEDUSA, train={"epochs": 4, "targets": "votes"})
    fit(tmp_path, system, voted(), on_epoch=told.append, targets="votes")
    fitting = made_fitting(system, voted(), targets="votes")
    n = [fitting.rows(k) for k in range(4)]
    assert n[0] == n[1] > n[2] == n[3]
    assert [e.utterances_s for e in told] == n
    assert [e.left_s for e in told] == pytest.approx([sum(n[k + 1 :]) / n[k] for k in range(4)])
    assert [e.share for e in told] == pytest.approx([sum(n[: k + 1]) / sum(n) for k in range(4)])


def test_patience_stops_nothing_before_it_and_counts_anew(tmp_path, monkeypatch):
    from serkit import training

    values = iter([0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    measured = training.measure_scores
    monkeypatch.setattr(training, "measure_scores", lambda *a: {**measured(*a), "uar": next(values)})
    train = {"epochs": 9, "patience": 2, "select": "uar"}
    fit(tmp_path, made_system(train=train, second_stage={"after_epochs": 5, "lr": 1e-3}))
    assert len(history(tmp_path)) == 7


@pytest.mark.parametrize("best", [1, 3])
def test_the_best_epoch_may_be_of_either_stage(tmp_path, monkeypatch, best):
    from serkit import training

    count, kept = iter(range(9)), {}
    measured = training.measure_scores
    monkeypatch.setattr(training, "measure_scores", lambda *a: {**measured(*a), "uar": float(next(count) == best)})

    def look(event):
        kept[event.epoch - 1] = torch.load(tmp_path / training.STATE, weights_only=True)["fitting"]["network"]

    network = fit(tmp_path, made_system(train={"epochs": 4, "select": "uar"}, second_stage=STAGE), on_epoch=look)
    for name, value in kept[best].items():
        assert torch.equal(network.state_dict()[name], value)


def test_a_training_that_ends_before_it_has_one_stage():
    system = made_system(train={"epochs": 2}, second_stage=STAGE)
    assert system.stages == (system,)
    first, second = System.model_validate({**system.model_dump(), "train": {"epochs": 7}}).stages
    assert (first.train.epochs, second.train.epochs) == (2, 5)
    assert first.second_stage is None is second.second_stage
    assert (second.balance, second.losses, second.train.draw) == (first.balance, first.losses, first.train.draw)
    balanced = made_system(balance="class", train={"epochs": 3}, second_stage={**STAGE, "balance": "none"})
    assert [s.balance for s in balanced.stages] == ["class", None]
