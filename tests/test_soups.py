"""The mean of the weights of several trainings, and the trainings it is made of."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import warm
from made import made_config, made_examples, made_system, voted
from serkit import fitting as parts
from serkit import training
from serkit.errors import SerkitError
from serkit.networks import load_network
from serkit.sampling import Loader
from serkit.scoring import measure_scores, score
from serkit.soups import greedy_members, mean_weights, put_mean
from serkit.tensors import Outputs
from trained import DROPOUT, HARD, content, fit, history, in_two_processes

WEIGHTS = "model.safetensors"


@pytest.fixture
def members_kept(monkeypatch):
    """What a soup is made of stays, to be looked at."""
    monkeypatch.setattr(training, "forget_members", lambda folder: None)


def of_members(folder, n):
    return [load_file(folder / training.MEMBERS / str(k + 1) / WEIGHTS) for k in range(n)]


def test_it_is_the_mean_of_its_networks_and_as_large_as_one(tmp_path, members_kept):
    network = fit(tmp_path, made_system(**DROPOUT, train={"epochs": 2, "soup": 3}))
    members = of_members(tmp_path, 3)
    found = load_file(tmp_path / WEIGHTS)
    assert found.keys() == members[0].keys()
    for name, value in found.items():
        expected = np.mean([m[name].numpy().astype(np.float64) for m in members], axis=0)
        assert np.allclose(value.numpy(), expected, atol=1e-7), name
        assert torch.equal(network.state_dict()[name], value)
    assert any(not torch.equal(members[0][n], members[1][n]) for n in found)
    row = history(tmp_path)[-1]
    assert row["soup"] == [1, 2, 3]
    _, dev = made_examples()
    scores = score(load_network(tmp_path)[0], dev, system="x", model="x")
    assert {k: v for k, v in row.items() if k != "soup"} == pytest.approx(
        {f"dev_{k}": v for k, v in measure_scores(scores, dev).items()}, abs=1e-7
    )


def test_its_first_network_is_the_one_without_a_soup(tmp_path, members_kept):
    for name, more in (("alone", {}), ("soup", {"soup": 2})):
        fit(tmp_path / name, made_system(**HARD, **DROPOUT, train={"epochs": 3, "ema": 0.9, **more}))
    first = tmp_path / "soup" / training.MEMBERS / "1"
    assert (first / WEIGHTS).read_bytes() == (tmp_path / "alone" / WEIGHTS).read_bytes()
    assert history(first) == history(tmp_path / "alone")
    rows = history(tmp_path / "soup")
    assert [{k: v for k, v in r.items() if k != "member"} for r in rows if r.get("member") == 1] == history(first)


def test_members_begin_with_the_same_weights_and_go_other_ways(tmp_path, members_kept, monkeypatch):
    begun, order = [], []
    epoch = parts.Fitting.epoch

    def spy(self, number):
        if number == 0:
            begun.append(torch.cat([p.detach().reshape(-1) for p in self.network.parameters()]).clone())
            begun[-1] = torch.cat([begun[-1], *(p.detach().reshape(-1) for p in self.losses[0].parameters())])
            order.append([b.ids for b in self.loaders[0].epoch(0)])
            order[-1].append(torch.rand(1, generator=torch.Generator().set_state(torch.get_rng_state())).item())
        return epoch(self, number)

    monkeypatch.setattr(parts.Fitting, "epoch", spy)
    fit(tmp_path, made_system(losses=["cross_entropy", "center_loss"], train={"epochs": 1, "soup": 3}))
    assert all(torch.equal(begun[0], other) for other in begun[1:])
    assert len({str(o[:-1]) for o in order}) == len({o[-1] for o in order}) == 3, "other draws, other dropout"


def test_statistics_of_the_training_frames_stay_to_the_bit(tmp_path, members_kept):
    fit(tmp_path, made_system(**DROPOUT, train={"epochs": 1, "soup": 3}))
    found = load_file(tmp_path / WEIGHTS)
    buffers = [name for name in found if "mean_" in name or "std_" in name]
    assert len(buffers) == 2
    for member in of_members(tmp_path, 3):
        for name in buffers:
            assert torch.equal(found[name], member[name])


def test_nothing_but_the_network_is_left(tmp_path):
    fit(tmp_path, made_system(train={"epochs": 2, "soup": 2, "shared_epochs": 1}))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "history.jsonl", WEIGHTS]


def test_shared_epochs_are_trained_once_and_none_of_them_is_selected(tmp_path, members_kept, monkeypatch):
    told = []
    measured, best = training.measure_scores, iter([0.9, 0.9, 0.1, 0.2, 0.2, 0.1, 0.1, 0.1])
    monkeypatch.setattr(training, "measure_scores", lambda *a: {**measured(*a), "uar": next(best, 0.0)})
    train = {"epochs": 4, "soup": 3, "shared_epochs": 2, "select": "uar", "patience": 1}
    fit(tmp_path, made_system(**DROPOUT, train=train), on_epoch=told.append)
    rows = history(tmp_path)
    by_member = [[r for r in rows if r.get("member") == k] for k in (1, 2, 3)]
    assert [len(each) for each in by_member] == [4, 4, 4]
    bare = [[{k: v for k, v in r.items() if k != "member"} for r in each] for each in by_member]
    assert bare[0][:2] == bare[1][:2] == bare[2][:2]
    assert bare[0][2]["loss"] != bare[1][2]["loss"] != bare[2][2]["loss"]
    assert [e.member for e in told] == [1, 1, 1, 1, 2, 2, 3, 3, 3]
    assert [e.epoch for e in told] == [1, 2, 3, 4, 5, 6, 7, 8, 8]
    assert [e.epochs for e in told] == [8] * 9
    assert [e.last for e in told] == [False] * 8 + [True]


@pytest.mark.parametrize("patience", [None, 1])
def test_progress_counts_all_networks_and_the_time_left_knows_them(tmp_path, monkeypatch, patience):
    clock = iter(range(1000))
    monkeypatch.setattr(training.time, "monotonic", lambda: float(next(clock)))  # every epoch takes a second
    told = []
    fit(tmp_path, made_system(train={"epochs": 3, "soup": 2, "patience": patience}), on_epoch=told.append)
    if patience is None:
        assert [e.epoch for e in told] == [1, 2, 3, 4, 5, 6, 6]
        assert [e.left_s for e in told] == pytest.approx([5, 4, 3, 2, 1, 0, 0])
        assert [e.share for e in told] == pytest.approx([k / 6 for k in (1, 2, 3, 4, 5, 6, 6)])
    assert {e.members for e in told} == {2}
    assert [e.member for e in told][-2:] == [2, 2]
    assert [e.last for e in told] == [False] * (len(told) - 1) + [True]
    shares = [e.share for e in told]
    assert shares == sorted(shares)
    assert all(r["left_s"] >= 0 for r in map(vars, told))
    assert [e.share for e in told if e.member == 1][-1] == pytest.approx(0.5)
    assert (told[-1].left_s, told[-1].utterances_s, told[-1].row["soup"]) == (0.0, 0.0, [1, 2])


@pytest.mark.parametrize("stop_after", [1, *(pytest.param(k, marks=pytest.mark.slow) for k in (2, 3, 5)), 4, 6])
@pytest.mark.parametrize("shared", [0, 1])
def test_stopped_and_resumed_is_uninterrupted_bit_for_bit(tmp_path, uninterrupted, stop_after, shared):
    train = {"epochs": 2 + shared, "soup": 3, "shared_epochs": shared, "ema": 0.9, "members": "greedy"}
    system = made_system(**HARD, **DROPOUT, train=train)
    n = 6 + shared

    def stop(event):
        if event.epoch == stop_after + shared and not event.last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", system, on_epoch=stop)
    assert not (tmp_path / "cut" / WEIGHTS).exists()
    torch.manual_seed(99)
    told = []
    fit(tmp_path / "cut", system, on_epoch=told.append)
    assert [e.epoch for e in told] == [*range(stop_after + shared + 1, n + 1), n], "what is finished is kept"
    assert content(tmp_path / "cut") == uninterrupted(system)


KILLED = """
import sys, os, signal
from pathlib import Path
sys.path.insert(0, {tests!r})
from trained import DROPOUT, fit
from made import made_system
from serkit import training
replace = os.replace
def die(a, b, *more, **options):
    replace(a, b, *more, **options)
    if str(b).endswith({at!r}):
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = die
import torch
torch.set_num_threads({threads})
fit(Path({folder!r}), made_system(**DROPOUT, train=dict(epochs=2, soup=2, shared_epochs=1)))
"""


@pytest.mark.parametrize("at", [
    "shared.pt", "2/model.safetensors",
    *(pytest.param(at, marks=pytest.mark.slow) for at in ("1/state.pt", "1/model.safetensors", "2/state.pt")),
])  # fmt: skip
def test_killed_for_real_and_resumed_is_uninterrupted(tmp_path, uninterrupted, at):
    here = str(Path(__file__).parent)
    code = KILLED.format(tests=here, folder=str(tmp_path / "cut"), threads=torch.get_num_threads(), at=at)
    warm.killed(code, tmp_path / "program")
    system = made_system(**DROPOUT, train={"epochs": 2, "soup": 2, "shared_epochs": 1})
    fit(tmp_path / "cut", system)
    assert content(tmp_path / "cut") == uninterrupted(system)
    assert not (tmp_path / "cut" / training.MEMBERS).exists()


def test_a_damaged_state_of_what_is_shared_is_told(tmp_path):
    system = made_system(train={"epochs": 2, "soup": 2, "shared_epochs": 1})

    def stop(event):
        if event.member == 1 and event.epoch == 2:
            (tmp_path / training.MEMBERS / training.SHARED).write_bytes(b"not a state")

    with pytest.raises(SerkitError, match=r"shared\.pt is damaged; delete .*members and train again"):
        fit(tmp_path, system, on_epoch=stop)


def test_members_of_other_settings_are_trained_again(tmp_path):
    def stop(event):
        if event.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "a", made_system(train={"epochs": 2, "soup": 2}), on_epoch=stop)
    told, system = [], made_system(train={"epochs": 2, "soup": 2, "lr": 3e-3})
    fit(tmp_path / "a", system, on_epoch=told.append)
    fit(tmp_path / "b", system)
    assert [e.epoch for e in told] == [1, 2, 3, 4, 4]
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_soup_of_second_stages_shares_the_first(tmp_path):
    train = {"epochs": 4, "soup": 2, "shared_epochs": 2}
    fit(tmp_path, made_system(**DROPOUT, train=train, second_stage={"after_epochs": 2, "lr": 1e-3}))
    rows = history(tmp_path)
    assert [(r["member"], r["stage"]) for r in rows[:-1]] == [
        (1, 1), (1, 1), (1, 2), (1, 2), (2, 1), (2, 1), (2, 2), (2, 2)
    ]  # fmt: skip


# ---------------------------------------------------------------- which networks


def test_a_greedy_soup_adds_what_does_no_harm():
    worth = {(2,): 0.7, (2, 0): 0.69, (2, 3): 0.7, (2, 3, 1): 0.8}
    asked = []

    def measure(members):
        asked.append(tuple(members))
        return worth[tuple(members)]

    assert greedy_members([0.6, 0.2, 0.7, 0.5], measure) == [2, 3, 1]
    assert asked == [(2, 0), (2, 3), (2, 3, 1)]
    assert greedy_members([0.5, 0.5], lambda m: 0.4) == [0]


def test_a_greedy_soup_is_no_worse_on_dev_than_its_best_network(tmp_path, members_kept):
    system = made_system(**DROPOUT, train={"epochs": 2, "soup": 4, "members": "greedy", "select": "uar", "lr": 0.1})
    fit(tmp_path, system)
    *rows, last = history(tmp_path)
    best = {k: max(r["dev_uar"] for r in rows if r["member"] == k) for k in range(1, 5)}
    assert last["dev_uar"] >= max(best.values())
    assert last["soup"][0] == max(best, key=lambda k: (best[k], -k))
    members = of_members(tmp_path, 4)
    for name, value in load_file(tmp_path / WEIGHTS).items():
        expected = np.mean([members[k - 1][name].numpy().astype(np.float64) for k in last["soup"]], axis=0)
        assert np.allclose(value.numpy(), expected, atol=1e-7)


def test_a_greedy_soup_by_divergence_begins_with_the_smallest(tmp_path, members_kept):
    train = {"epochs": 2, "soup": 3, "members": "greedy", "select": "kl", "lr": 0.1, "targets": "votes"}
    fit(tmp_path, made_system(**DROPOUT, losses=["kl_soft"], train=train), voted(), targets="votes")
    *rows, last = history(tmp_path)
    best = {k: min(r["dev_kl"] for r in rows if r["member"] == k) for k in range(1, 4)}
    assert last["soup"][0] == min(best, key=lambda k: best[k])
    assert last["dev_kl"] <= min(best.values()) + 1e-9


# ---------------------------------------------------------------- what a mean is of


def test_a_mean_of_the_same_is_the_same_and_whole_numbers_are_the_first_s(tmp_path):
    torch.manual_seed(0)
    same, files = torch.randn(1000) * 1e-3, []
    for k in range(3):
        state = {"same": same.clone(), "other": torch.tensor([float(k), 1e8]), "count": torch.tensor(k + 5)}
        save_file(state | {"half": torch.tensor([k], dtype=torch.bfloat16)}, tmp_path / f"{k}.safetensors")
        files.append(tmp_path / f"{k}.safetensors")
    mean = mean_weights(files)
    assert torch.equal(mean["same"], same)
    assert mean["other"].tolist() == [1.0, 1e8]
    assert int(mean["count"]) == 5
    assert (mean["half"].dtype, float(mean["half"])) == (torch.bfloat16, 1.0)


class Normed(nn.Module):
    """A network of one's own with batch normalisation."""

    def __init__(self, dims, n_classes):
        super().__init__()
        self.norm = nn.BatchNorm1d(sum(dims.values()))
        self.out = nn.Linear(sum(dims.values()), n_classes)
        self.frozen = nn.BatchNorm1d(2).eval()

    def forward(self, batch):
        ((name, frames),) = batch.features.items()  # padded with zeros
        return Outputs(emotion=self.out(self.norm(frames.float().sum(dim=1) / batch.lengths[name][:, None])))


def test_batch_normalisation_is_measured_anew_with_the_mean(tmp_path):
    torch.manual_seed(1)
    train, _ = made_examples()
    files = []
    for k in range(2):
        network = Normed({"x": 4}, 3)
        network.norm.running_mean.fill_(10.0 * k)
        network.frozen.running_mean.fill_(7.0)
        save_file(network.state_dict(), tmp_path / f"{k}.safetensors")
        files.append(tmp_path / f"{k}.safetensors")
    momentum = network.norm.momentum
    put_mean(network, files, train, 8)
    seen = []
    network.norm.register_forward_pre_hook(lambda m, x: seen.append(x[0].clone()))
    for batch in Loader(train, 8).in_order():
        network(batch)
    every = torch.cat(seen)
    assert torch.allclose(network.norm.running_mean, every.mean(dim=0), atol=0.05)
    assert torch.equal(network.frozen.running_mean, torch.full((2,), 7.0)), "what nothing has trained stays"
    assert (network.norm.momentum, network.norm.training, network.training) == (momentum, False, False)
    put_mean(network, files[:1], train, 8)
    assert torch.equal(network.norm.running_mean, torch.zeros(4)), "one network alone is what it was"


def test_a_soup_of_a_network_with_batch_normalisation(tmp_path):
    system = made_system(model="test_soups.Normed", train={"epochs": 2, "soup": 2})
    train, dev = made_examples()
    training.train_network(system, made_config(system), train, dev, tmp_path, device="cpu")
    state = load_file(tmp_path / WEIGHTS)
    assert torch.isfinite(state["norm.running_var"]).all()
    assert int(state["norm.num_batches_tracked"]) == len(Loader(train, 8))


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"soup": 1}, "greater than or equal to 2"),
        ({"soup": 3, "epochs": 0}, "a soup needs more epochs than 0, which it shares; got 0"),
        ({"soup": 3, "epochs": 4, "shared_epochs": 4}, "a soup needs more epochs than 4, which it shares; got 4"),
        ({"soup": 3, "members": "greedy", "select": "last"}, "members: greedy adds networks by the dev metric"),
    ],
)
def test_a_soup_of_nothing_is_refused(train, said):
    with pytest.raises(ValueError, match=said):
        made_system(train=train)


EVEN = made_system(
    model={"name": "cross_attention", "hidden": 8, "dropout": 0.0},
    losses=[{"name": "cross_entropy", "soft": True}],
    train={"epochs": 3, "batch_size": 8, "targets": "votes", "soup": 2, "shared_epochs": 1},
    second_stage={
        "after_epochs": 1, "lr": 1e-3, "balance": "class", "draw": "undersample", "without_agreement": 0.125,
        "losses": ["kl_soft"],
    },
)  # fmt: skip


@pytest.mark.slow
def test_two_processes_follow_the_course_of_one(tmp_path):
    in_two_processes('fit(Path(sys.argv[1]), test_soups.EVEN, voted(), targets="votes")', tmp_path / "two")
    fit(tmp_path / "one", EVEN, voted(), targets="votes")
    one, two = history(tmp_path / "one"), history(tmp_path / "two")
    assert len(one) == len(two) == 7
    for name in ("dev_macro_f1", "dev_cross_entropy"):
        assert [r[name] for r in two] == pytest.approx([r[name] for r in one], abs=1e-4)
