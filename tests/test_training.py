import math

import numpy as np
import pytest
import torch

from made import LABELS, MadeSource, made_config, made_examples, made_manifest, made_system, voted
from serkit import first_values
from serkit import fitting as parts
from serkit.errors import RunFailed, SerkitError
from serkit.metrics import confusion_matrix, distribution_distances, measure
from serkit.networks import build_network, load_network
from serkit.sampling import Examples
from serkit.scoring import score
from serkit.tensors import Batch, Outputs
from serkit.training import train_network
from serkit.types import Manifest
from trained import DROPOUT, HARD, content, fit, history


def weights(network):
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


def test_it_learns_and_leaves_a_network_that_can_be_read(tmp_path):
    network = fit(tmp_path, made_system(train={"epochs": 8}))
    rows = history(tmp_path)
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    assert max(r["dev_macro_f1"] for r in rows) > 0.6
    again, config = load_network(tmp_path)
    assert torch.equal(weights(again), weights(network))
    assert config.labels == LABELS
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "history.jsonl", "model.safetensors"]


def test_same_seed_same_bytes_and_another_seed_others(tmp_path):
    system = made_system(**HARD, **DROPOUT)
    for name in "ab":
        fit(tmp_path / name, system)
    fit(tmp_path / "c", system, seed=2)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a")[0] != content(tmp_path / "c")[0]


def test_every_batch_moves_the_weights(tmp_path, monkeypatch):
    moves, sizes = [], []
    update = parts.Fitting.update

    def spy(self, group, sums, epoch):
        before = weights(self.network).clone()
        update(self, group, sums, epoch)
        moves.append(float((weights(self.network) - before).abs().max()))
        sizes.append(sum(len(b) for b in group))

    monkeypatch.setattr(parts.Fitting, "update", spy)
    manifest = made_manifest(57)
    fit(tmp_path, made_system(train={"epochs": 2, "accumulate": 2, "batch_size": 8}), manifest)
    n = len(manifest.split("train"))
    assert len(moves) == 2 * math.ceil(math.ceil(n / 8) / 2)
    assert sum(sizes) == 2 * n
    assert min(moves) > 0


@pytest.mark.parametrize("class_weights", [None, "inverse_frequency", [0.5, 1.0, 2.0]])
def test_accumulation_is_the_large_batch(class_weights):
    """Also where a loss divides by a sum of class weights, which differs from batch to batch."""
    losses = [{"name": "cross_entropy", "class_weights": class_weights}, {"name": "neutral_margin", "weight": 0.5}]
    found = {}
    for batch_size, accumulate in ((32, 1), (8, 4)):
        train = {"epochs": 1, "batch_size": batch_size, "accumulate": accumulate, "bucket": False}
        system = made_system(losses=losses, train=train, model={"name": "cross_attention", "hidden": 8, "dropout": 0.0})
        network = build_network(made_config(system))
        examples, _ = made_examples(made_manifest(48))
        fitting = parts.Fitting(
            system, made_config(system), "full", examples, network, parts.make_accelerator(system.train, "cpu")
        )
        torch.manual_seed(0)
        for p in network.parameters():
            torch.nn.init.normal_(p, std=0.3)
        steps = []
        fitting.optimizer.step = lambda steps=steps, f=fitting: steps.append(
            torch.cat([p.grad.reshape(-1).clone() for p in f.network.parameters() if p.grad is not None])
        )
        fitting.epoch(0)
        found[batch_size] = steps
    assert len(found[32]) == len(found[8]) == 1
    assert float((found[32][0] - found[8][0]).abs().max()) < 1e-6


def test_the_dev_metric_is_over_the_whole_dev_set(tmp_path):
    network = fit(tmp_path, made_system(train={"epochs": 1, "batch_size": 3}))
    _, dev = made_examples()
    scores = score(network, dev, system="x", model="full").scores
    confusion = confusion_matrix(dev.labels, scores.argmax(axis=1), 3)
    assert int(confusion.sum()) == len(dev) == 10
    row = history(tmp_path)[0]
    for name in ("macro_f1", "uar", "accuracy", "weighted_f1"):
        assert row[f"dev_{name}"] == pytest.approx(measure(name, confusion), abs=1e-12)


def test_the_best_epoch_is_kept_and_patience_ends_it(tmp_path):
    told = []
    system = made_system(train={"epochs": 30, "patience": 2, "lr": 3e-2, "select": "uar"})
    network = fit(tmp_path, system, on_epoch=told.append)
    values = [r["dev_uar"] for r in history(tmp_path)]
    best = int(np.argmax(values))
    assert len(values) == best + 3 < 30
    assert [e.last for e in told] == [False] * (len(told) - 1) + [True]
    assert told[-1].left_s == 0
    _, dev = made_examples()
    scores = score(network, dev, system="x", model="full").scores
    assert measure("uar", confusion_matrix(dev.labels, scores.argmax(axis=1), 3)) == pytest.approx(max(values))


def test_last_keeps_the_last_epoch_whatever_dev_says(tmp_path):
    network = fit(tmp_path, made_system(train={"epochs": 6, "lr": 3e-2, "select": "last"}))
    values = [r["dev_uar"] for r in history(tmp_path)]
    assert max(values) > values[-1]  # another epoch was better, and is not kept
    _, dev = made_examples()
    scores = score(network, dev, system="x", model="full").scores
    assert measure("uar", confusion_matrix(dev.labels, scores.argmax(axis=1), 3)) == pytest.approx(values[-1])
    with pytest.raises(ValueError, match="patience"):
        made_system(train={"select": "last", "patience": 2})


def test_the_epoch_nearest_to_the_votes_is_kept_and_patience_waits_for_a_nearer_one(tmp_path):
    train = {"epochs": 40, "patience": 3, "lr": 5e-2, "select": "kl", "targets": "votes"}
    network = fit(tmp_path, made_system(losses=["kl_soft"], train=train), voted(), targets="votes")
    values = [r["dev_kl"] for r in history(tmp_path)]
    best = int(np.argmin(values))
    assert best > 0, "the first one is not the nearest"
    assert len(values) == best + 4 < 40
    _, dev = made_examples(voted(), targets="votes")
    predictions = score(network, dev, system="x", model="full")
    distances = distribution_distances(dev.targets, predictions.probabilities())
    assert distances["kl"].mean() == pytest.approx(min(values), rel=1e-6)
    with pytest.raises(ValueError, match="select: kl is the divergence from votes; set targets: votes"):
        made_system(train={"select": "kl"})


def test_the_moving_average_is_what_is_kept(tmp_path, monkeypatch):
    seen = []
    update = parts.Fitting.update

    def spy(self, group, sums, epoch):
        update(self, group, sums, epoch)
        seen.append({k: v.clone() for k, v in self.network.state_dict().items()})

    monkeypatch.setattr(parts.Fitting, "update", spy)
    system = made_system(train={"epochs": 1, "ema": 0.8})
    config = made_config(system)
    torch.manual_seed(config.seed)
    expected = {k: v.clone() for k, v in build_network(config).state_dict().items()}
    network = fit(tmp_path, system)
    for state in seen:
        expected = {k: 0.8 * v + 0.2 * state[k] if v.is_floating_point() else state[k] for k, v in expected.items()}
    for key, value in network.state_dict().items():
        assert torch.allclose(value, expected[key], atol=1e-6), key
    assert not torch.equal(
        weights(network), torch.cat([p.reshape(-1) for p in seen[-1].values()])[: len(weights(network))]
    )


@pytest.mark.parametrize("rule", ["fixed", "initial", "running_max", "uncertainty"])
def test_the_history_has_each_loss_by_name_and_what_it_adds(tmp_path, rule):
    losses = [{"name": "cross_entropy", "weight": 0.5}, "focal"]
    system = made_system(train={"epochs": 2, "loss_scale": rule}, losses=losses)
    train, dev = made_examples()
    train_network(system, made_config(system), train, dev, tmp_path, device="cpu")
    for row in history(tmp_path):
        assert {k for k in row if k.startswith(("loss_", "scaled_"))} == {
            "loss_cross_entropy", "loss_focal", "scaled_cross_entropy", "scaled_focal",
        }  # fmt: skip
        assert row["scaled_cross_entropy"] + row["scaled_focal"] == pytest.approx(row["loss"], rel=1e-5)
        if rule == "fixed":
            assert row["scaled_cross_entropy"] == pytest.approx(0.5 * row["loss_cross_entropy"], rel=1e-5)
        if rule == "running_max":
            assert row["scaled_focal"] <= 1.0


RAMP = {"first": 1.0, "last": 0.01, "epochs": 3}


@pytest.mark.parametrize("rule", ["fixed", "initial", "running_max"])
def test_a_falling_weight_reaches_its_floor_and_stays_there_for_ever(tmp_path, rule):
    """In the released code of EmoSphere-SER the term is dropped once its weight is at the floor."""
    losses = ["focal", {"name": "cross_entropy", "weight": RAMP}]
    fit(tmp_path, made_system(train={"epochs": 6, "loss_scale": rule}, losses=losses))
    rows = history(tmp_path)
    plain = [1.0, 0.67, 0.34, 0.01, 0.01, 0.01]
    for row, weight in zip(rows, plain, strict=True):
        assert row["loss"] == pytest.approx(row["scaled_focal"] + row["scaled_cross_entropy"], rel=1e-5)
        if rule == "fixed":
            assert row["scaled_cross_entropy"] == pytest.approx(weight * row["loss_cross_entropy"], rel=1e-5)
        else:
            assert 0 < row["scaled_cross_entropy"] <= weight * 1.5
    assert rows[-1]["scaled_cross_entropy"] > 0


def test_the_last_weight_still_moves_the_network(tmp_path):
    """After the ramp its loss has a gradient: another floor, other weights; before it ends, none."""
    found = {}
    for last in (0.01, 0.5):
        for epochs in (1, 3):
            losses = ["focal", {"name": "cross_entropy", "weight": {"first": 1.0, "last": last, "epochs": 1}}]
            network = fit(
                tmp_path / f"{last}-{epochs}", made_system(train={"epochs": epochs, "select": "last"}, losses=losses)
            )
            found[last, epochs] = weights(network)
    assert torch.equal(found[0.01, 1], found[0.5, 1])
    assert not torch.equal(found[0.01, 3], found[0.5, 3])


def test_a_weight_that_does_not_change_is_a_number_in_every_byte(tmp_path):
    for name, weight in (("number", 0.5), ("ramp", {"first": 0.5, "last": 0.5, "epochs": 2})):
        fit(tmp_path / name, made_system(losses=["focal", {"name": "cross_entropy", "weight": weight}]))
    assert content(tmp_path / "number")[:2] == content(tmp_path / "ramp")[:2]


def test_of_one_loss_there_is_no_second_curve(tmp_path):
    system = made_system(train={"epochs": 1})
    train, dev = made_examples()
    train_network(system, made_config(system), train, dev, tmp_path, device="cpu")
    assert not [k for k in history(tmp_path)[0] if k.startswith("scaled_")]


def test_a_loss_that_is_not_a_number_stops_with_advice(tmp_path):
    system = made_system()
    manifest = made_manifest()
    source = MadeSource(manifest)
    source.get = lambda i: np.full((source.frames(i), 4), np.nan, dtype=np.float32)
    train = Examples.of(manifest.split("train"), {"x": source})
    with pytest.raises(RunFailed, match=r"made/full: the loss is nan in epoch 1; lower train.lr \(now 0.01\)"):
        train_network(system, made_config(system), train, train, tmp_path, device="cpu")
    assert not (tmp_path / "model.safetensors").exists()


def test_gradients_are_clipped_to_the_norm(tmp_path, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def spy(self, *args, **kwargs):
        grads = [p.grad.norm() for g in self.param_groups for p in g["params"] if p.grad is not None]
        norms.append(float(torch.stack(grads).norm()))
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    fit(tmp_path / "free", made_system(train={"epochs": 1}))
    assert max(norms) > 0.02
    norms.clear()
    fit(tmp_path / "clipped", made_system(train={"epochs": 1, "clip_norm": 0.01}))
    assert norms
    assert max(norms) < 0.0101


def test_the_rate_of_an_epoch_is_the_schedule_s(tmp_path):
    fit(tmp_path, made_system(train={"epochs": 4, "lr": 1e-2, "lr_min": 1e-3, "schedule": "cosine_epoch"}))
    expected = [1e-3 + 9e-3 * 0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(4)]
    assert [r["lr"] for r in history(tmp_path)] == pytest.approx(expected)


def test_statistics_come_from_training_rows_alone(tmp_path):
    manifest = made_manifest()
    source = MadeSource(manifest)
    system = made_system(**DROPOUT, train={"epochs": 1})
    train = Examples.of(manifest.split("train"), {"x": source})
    first_values.set_statistics(network := build_network(made_config(system)), train)
    assert set(source.reads) == set(manifest.split("train").ids)
    frames = np.concatenate([np.float64(source.get(i)) for i in train.ids])
    buffers = {k: v for k, v in network.state_dict().items() if "mean" in k or "std" in k}
    assert len(buffers) == 2
    for key, value in buffers.items():
        wanted = frames.mean(axis=0) if "mean" in key else frames.std(axis=0)
        assert np.allclose(value.numpy().reshape(-1), wanted, atol=1e-5)
    trained = fit(tmp_path, system).state_dict()
    assert all(np.allclose(trained[key], value, atol=1e-5) for key, value in buffers.items()), "not of dev"


def test_the_company_of_a_batch_changes_no_logit(tmp_path):
    network = fit(tmp_path, made_system(**DROPOUT, train={"epochs": 1}))
    _, dev = made_examples()
    alone = score(network, dev, system="x", model="full", batch_size=1)
    together = score(network, dev, system="x", model="full", batch_size=100)
    assert alone.ids == together.ids == dev.ids
    assert np.abs(alone.scores - together.scores).max() < 1e-5


def test_scores_say_which_rows_the_network_has_seen(tmp_path):
    network = fit(tmp_path, made_system(train={"epochs": 1}))
    train, dev = made_examples()
    assert score(network, train, system="x", model="m", seen=frozenset(train.ids)).seen.all()
    assert not score(network, dev, system="x", model="m", seen=frozenset(train.ids)).seen.any()


def test_votes_and_unlabelled_rows_train_with_distributions(tmp_path):
    import dataclasses

    manifest = made_manifest()
    rows = tuple(
        dataclasses.replace(u, emotion=None if k % 5 == 0 else u.emotion, votes={"anger": 1, "neutral": 2})
        for k, u in enumerate(manifest)
    )
    voted = Manifest("made", LABELS, rows)
    system = made_system(losses=[{"name": "cross_entropy", "soft": True}], train={"targets": "votes", "epochs": 2})
    fit(tmp_path, system, voted, targets="votes")
    assert all(math.isfinite(r["dev_cross_entropy"]) for r in history(tmp_path))


def test_bf16_runs_and_an_unknown_device_is_refused(tmp_path):
    fit(tmp_path / "bf16", made_system(train={"epochs": 1, "precision": "bf16"}))
    fit(tmp_path / "fp32", made_system(train={"epochs": 1}))  # the other precision, in the same process
    assert content(tmp_path / "bf16")[0] != content(tmp_path / "fp32")[0]
    system = made_system()
    train, dev = made_examples()
    with pytest.raises(SerkitError, match="expected auto, cpu or cuda"):
        train_network(system, made_config(system), train, dev, tmp_path / "x", device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(SerkitError, match="this torch finds no GPU"):
            train_network(system, made_config(system), train, dev, tmp_path / "x", device="cuda")


def plain_mean(outputs: Outputs, batch: Batch) -> torch.Tensor:
    """Mean squared logit: a loss of the user's own, found by its dotted name."""
    return (outputs.emotion**2).mean()


def test_a_loss_of_one_s_own_by_dotted_name(tmp_path):
    fit(tmp_path, made_system(losses=["cross_entropy", {"name": "test_training.plain_mean", "weight": 0.1}]))
    assert "loss_test_training.plain_mean" in history(tmp_path)[0]


def test_an_augmentation_that_could_not_act_is_refused(tmp_path):
    system = made_system(augment=["gain"])
    train, dev = made_examples()
    with pytest.raises(SerkitError, match="'gain' changes waveforms, and these examples have none"):
        train_network(system, made_config(system), train, dev, tmp_path, device="cpu")
