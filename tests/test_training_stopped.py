"""A training that is stopped, killed, spread over processes or out of disk ends as one that was not."""

import io
from pathlib import Path

import pytest
import torch

import warm
from made import made_system
from serkit import training
from trained import DROPOUT, HARD, content, fit, history, in_two_processes


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_stopped_and_resumed_is_uninterrupted_bit_for_bit(tmp_path, uninterrupted, stop_after):
    system = made_system(
        **HARD,
        **DROPOUT,
        train={"epochs": 4, "ema": 0.9, "loss_scale": "running_max", "schedule": "cosine", "warmup_steps": 3},
    )

    def stop(event):
        if event.epoch == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", system, on_epoch=stop)
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    torch.manual_seed(99)  # what the process did in between must not matter
    told = []
    fit(tmp_path / "cut", system, on_epoch=told.append)
    assert [e.epoch for e in told] == list(range(stop_after + 1, 5))
    assert content(tmp_path / "cut") == uninterrupted(system)


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_weight_that_changes_goes_on_where_it_was(tmp_path, uninterrupted, stop_after):
    ramp = {"name": "cross_entropy", "weight": {"first": 1.0, "last": 0.1, "epochs": 2}}
    system = made_system(losses=[ramp, "focal"], **DROPOUT, train={"epochs": 4, "loss_scale": "initial"})

    def stop(event):
        if event.epoch == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", system, on_epoch=stop)
    fit(tmp_path / "cut", system)
    assert content(tmp_path / "cut") == uninterrupted(system)


KILLED = """
import sys, os, signal
from pathlib import Path
sys.path.insert(0, {tests!r})
from trained import DROPOUT, HARD, fit
from made import made_system
def die(event):
    if event.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
import torch
torch.set_num_threads({threads})
fit(Path({folder!r}), made_system(**HARD, **DROPOUT, train=dict(epochs=4)), on_epoch=die)
"""


def test_killed_for_real_and_resumed_is_uninterrupted(tmp_path):
    here = str(Path(__file__).parent)
    code = KILLED.format(tests=here, folder=str(tmp_path / "cut"), threads=torch.get_num_threads())
    warm.killed(code, tmp_path / "program")
    system = made_system(**HARD, **DROPOUT, train={"epochs": 4})
    fit(tmp_path / "cut", system)
    fit(tmp_path / "whole", system)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_a_state_whose_history_was_not_written_any_more_leaves_one_all_the_same(tmp_path):
    """Regression: killed between the two files of the last epoch, the history had no line for it."""

    def stop(event):
        if event.epoch == 3:
            (tmp_path / "cut" / "history.jsonl").unlink()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", on_epoch=stop)
    for name in ("cut", "whole"):
        fit(tmp_path / name)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def state(value):
    """The bytes of a state file that holds something else."""
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


FLIPPED = state({"fingerprint": 1}).replace(b"fingerprint", b"\xffingerprint")


@pytest.mark.parametrize("damage", [b"", b"not a state", FLIPPED, state([1]), None], ids=range(5))
def test_a_damaged_or_foreign_state_is_passed_over(tmp_path, damage):
    def stop(event):
        raise KeyboardInterrupt

    other = made_system(train={"epochs": 2})
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "a", other, on_epoch=stop)
    if damage is not None:
        (tmp_path / "a" / training.STATE).write_bytes(damage)
        system = other
    else:
        system = made_system(train={"epochs": 2, "lr": 3e-3})
    told = []
    fit(tmp_path / "a", system, on_epoch=told.append)
    fit(tmp_path / "b", system)
    assert [e.epoch for e in told] == [1, 2]
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_full_disk_leaves_the_state_before(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    def fill(event):
        monkeypatch.setattr(training, "write_bytes", full)

    with pytest.raises(OSError, match="No space left"):
        fit(tmp_path / "cut", on_epoch=fill)
    monkeypatch.undo()
    told = []
    fit(tmp_path / "cut", on_epoch=told.append)
    assert [e.epoch for e in told] == [2, 3]
    fit(tmp_path / "whole")
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


EVEN = made_system(
    model={"name": "cross_attention", "hidden": 8, "dropout": 0.0},
    losses=["cross_entropy"],
    train={"epochs": 3, "batch_size": 8},
)


@pytest.mark.slow
def test_two_processes_follow_the_course_of_one(tmp_path):
    """Gradients of the shares of a batch are averaged: with a plain mean that is the batch's own gradient."""
    in_two_processes("fit(Path(sys.argv[1]), test_training_stopped.EVEN)", tmp_path / "two")
    fit(tmp_path / "one", EVEN)
    one, two = history(tmp_path / "one"), history(tmp_path / "two")
    for name in ("dev_macro_f1", "dev_cross_entropy"):
        assert [r[name] for r in two] == pytest.approx([r[name] for r in one], abs=1e-4)
