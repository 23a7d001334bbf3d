"""Event files of TensorBoard hold every epoch and result once, whatever happened to the run in between."""

from __future__ import annotations

import json
import shutil
import struct
import sys
import threading

import pytest
from typer.testing import CliRunner

from reported import report
from serkit import cli
from serkit.errors import SerkitError
from serkit.pipeline import Run, tensorboard
from serkit.pipeline.tensorboard import Curves, runs_in, scalars

pytest.importorskip("tensorboardX")


def scalars_of(folder):
    """All ``(tag, step, value)`` of a folder's event files: records of length, checksum, protocol buffer, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in folder.glob("events.out.tfevents.*"):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack("<Q", data[at : at + 8])
            event = Event.FromString(data[at + 12 : at + 12 + length])
            found += [(v.tag, event.step, v.simple_value) for v in event.summary.value if v.HasField("simple_value")]
            at += 16 + length
    return sorted(found)


def expected(rows):
    """What the lines of a history should come to."""
    names = {"loss": "train/loss", "lr": "train/learning_rate"}
    return sorted(
        (names.get(k) or (f"dev/{k[4:]}" if k.startswith("dev_") else f"train/{k}"), row["epoch"], pytest.approx(v))
        for row in rows
        for k, v in row.items()
        if k != "epoch"
    )


def history(run, system, network):
    path = run.network(system, network) / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_epoch_and_every_result_is_there_once(finished):
    run = Run(finished)
    for _ in range(2):  # the second time replaces what the first wrote
        written = tensorboard.write(finished)
    assert (written.folder, written.networks, written.epochs, written.unread) == (
        finished / "tensorboard", 4, sum(len(history(run, s, n)) for s in ("sound", "both") for n in run.models), {},
    )  # fmt: skip
    for system in ("sound", "both"):
        for network in ("fold0", "fold1"):
            found = scalars_of(finished / "tensorboard" / system / network)
            assert found == expected(history(run, system, network))
            assert {"train/loss", "train/learning_rate", "dev/macro_f1", "dev/uar"} <= {tag for tag, _, _ in found}
    systems = report(finished)["systems"]
    assert written.systems == len(systems)
    for name, splits in systems.items():
        assert scalars_of(finished / "tensorboard" / "results" / name) == sorted(
            (f"results/{split}_{metric}", 0, pytest.approx(found["value"]))
            for split, metrics in splits.items()
            for metric, found in metrics.items()
        )
    assert any((finished / "tensorboard" / "recipe").iterdir())


def test_a_run_is_followed_and_a_network_trained_anew_is_begun_anew(finished, tmp_path):
    run = Run(finished)
    path = run.network("sound", "fold1") / "history.jsonl"
    whole, place = path.read_text(), tmp_path / "out" / "sound" / "fold1"
    rows = history(run, "sound", "fold1")
    path.write_text(whole.splitlines(keepends=True)[0])
    curves = Curves(finished, tmp_path / "out")
    curves.write()
    assert scalars_of(place) == expected(rows[:1])
    path.write_text(whole)
    assert curves.write().epochs == sum(len(history(run, s, n)) for s in ("sound", "both") for n in run.models)
    assert scalars_of(place) == expected(rows)
    other = [{**row, "loss": row["loss"] + 1} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in other))
    curves.write()
    assert scalars_of(place) == expected(other)


def test_following_ends_with_the_report_of_the_run_and_misses_nothing(finished, tmp_path):
    page = finished / "report" / "report.html"
    kept = page.read_text()
    page.unlink()
    found = []
    thread = threading.Thread(
        target=lambda: found.append(tensorboard.write(finished, tmp_path / "out", follow=True, every_s=0.02)),
        daemon=True,
    )
    thread.start()
    thread.join(0.3)
    assert thread.is_alive(), "there is no report yet"
    page.write_text(kept)
    thread.join(60)
    assert not thread.is_alive()
    assert found[0].systems == len(report(finished)["systems"])


def test_following_a_search_ends_with_its_page(finished, tmp_path):
    """Its trials are runs that are never reported, for lack of test clips."""
    top = tmp_path / "tuned"
    for name in ("trials/lr=1/fold1-seed7", "test/lr=1/fold1-seed7"):
        shutil.copytree(finished, top / name)
    trial = Run(top / "trials/lr=1/fold1-seed7")
    shutil.rmtree(trial.folder / "report")
    curves = Curves(top, tmp_path / "out")
    curves.write()
    assert not curves.finished(), "the search has no page"
    (top / "report").mkdir()
    (top / "report/tuning.html").touch()
    assert curves.finished()
    trial.mark("train")
    assert not curves.finished(), "a trial is not finished"
    trial.mark("stack")
    (top / "test/lr=1/fold1-seed7/report/report.html").unlink()
    assert not curves.finished(), "what is measured on test is not"


@pytest.mark.parametrize("content", ["{}", '{"format": 1}', "["])
def test_a_report_that_another_version_left_costs_no_other_run(finished, tmp_path, content):
    top = tmp_path / "runs"
    for name in ("a", "b"):
        shutil.copytree(finished, top / name)
    page = top / "b/report/report.json"
    whole = page.read_text()
    page.write_text(content)
    curves = Curves(top, tmp_path / "out")
    written = curves.write()
    assert list(written.unread) == ["b"]
    assert "report.json" in written.unread["b"]
    assert (written.networks, written.systems) == (8, len(report(finished)["systems"]))
    page.write_text(whole)
    again = curves.write()
    assert (again.unread, again.systems) == ({}, 2 * written.systems)


def test_several_runs_stand_beside_each_other_and_a_broken_one_is_told(finished, tmp_path):
    top = tmp_path / "runs"
    for name in ("cv/fold1", "cv/fold2", "tuned/trials/lr=1/fold1-seed7"):
        shutil.copytree(finished, top / name)
    assert sorted(runs_in(top)) == ["cv/fold1", "cv/fold2", "tuned/trials/lr=1/fold1-seed7"]
    (top / "cv/fold2/recipe.yaml").write_text("name: [", encoding="utf-8")
    found = CliRunner().invoke(cli.app, ["tensorboard", str(top), "--out", str(top / "out")])
    assert found.exit_code == 0, found.output
    assert "cv/fold2 is left out: " in found.stderr
    assert f"{top / 'out'}: " in found.stdout
    whole = scalars_of(top / "out/cv/fold1/both/fold0")
    assert whole == scalars_of(top / "out/tuned/trials/lr=1/fold1-seed7/both/fold0") != []
    assert not (top / "out/cv/fold2").exists()


def test_what_cannot_be_written_is_one_line(tmp_path, finished, monkeypatch):
    found = CliRunner().invoke(cli.app, ["tensorboard", str(tmp_path / "none")])
    assert "holds no run: expected the folder of a run" in str(found.exception)
    (tmp_path / "file").touch()
    found = CliRunner().invoke(cli.app, ["tensorboard", str(finished), "--out", str(tmp_path / "file")])
    assert isinstance(found.exception, SerkitError)
    assert f"{tmp_path / 'file'} " in str(found.exception)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    found = CliRunner().invoke(cli.app, ["tensorboard", str(finished)])
    assert "serkit[tensorboard]" in str(found.exception)


def test_numbers_alone_become_points():
    row = {"epoch": 3, "loss": 1.5, "lr": 0.1, "loss_focal": 2, "dev_uar": 0.5}
    row |= {"member": 1, "soup": [1], "dev_ccc": None, "dev_kl": float("nan")}
    assert scalars(row) == {"train/loss": 1.5, "train/learning_rate": 0.1, "train/loss_focal": 2.0, "dev/uar": 0.5}
