"""Labelled recordings fed to a stream: what is shown after so much speech, how it changes, and that it ends right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from command_line import ask
from serkit import audio, cli
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.progress import Progress
from serkit.reporting.streamed import streamed_text
from serkit.serving import streamed, watched
from serkit.serving.asking import Job
from serkit.serving.measured_lines import stream_complaints
from serkit.serving.measuring import Measured, measure
from serkit.serving.predictor import Model
from serkit.serving.watched import Pace, Watched, watch
from serkit.types import Manifest

from .signals import GOLDEN, quiet, talk, voice, wav

FAST = Pace(0.1, 0.5)


def seen(shown: list[tuple[float, int]], final: int, speech: tuple[tuple[float, float], ...], **more: Any) -> Watched:
    """What was shown: (seconds, class) each of three, sure; and the class at the end."""
    sure = np.eye(3) * 0.7 + 0.1
    options: dict[str, Any] = {
        "duration_s": 6.0, "speech_s": speech, "at_s": tuple(at for at, _ in shown),
        "shown": tuple(tuple(sure[k]) for _, k in shown), "unsure": (False,) * len(shown), "final": tuple(sure[final]),
        "abstain": "", "chunks_us": ((1000, 500), (3000, 900)), "answered": (False, True), "end_us": (2000, 600),
        "processes": 1,
    }  # fmt: skip
    return Watched(**{**options, **more})


@pytest.fixture(scope="module")
def clips(toy_root: Path) -> Manifest:
    return toy(toy_root).where(lambda u: u.split == "test")


@pytest.fixture(scope="module")
def answered(clips: Manifest) -> Measured:
    return measure(GOLDEN, clips, draws=20)


def test_what_stands_there_is_the_last_answer_that_has_come() -> None:
    one = seen([(1.6, 0), (2.1, 1), (4.6, 2)], 2, ((1.03, 2.03), (4.0, 5.0)))
    assert one.heard_by(0.5) == pytest.approx(1.53)
    assert one.heard_by(1.5) == pytest.approx(4.5), "what is between the stretches does not count"
    assert one.heard_by(2.0) == pytest.approx(5.0)
    assert one.heard_by(2.1) is None
    assert one.shown_after(0.5, 0.1) == 0, "the chunk that ends at 1.6 s completes 0.5 s"
    assert one.shown_after(0.5, 0.01) == -1, "in chunks of 10 ms nothing has come by 1.53 s"
    assert one.shown_after(1.0, 0.1) == 1
    assert one.shown_after(1.5, 0.1) == 1
    assert one.shown_after(2.0, 0.1) == 2
    assert one.shown_after(3.0, 0.1) is None, "it has less speech"
    assert Watched.of(json.loads(json.dumps(one.to_row()))) == one


def test_a_stream_is_watched_as_it_answers(model: Model, tmp_path: Path) -> None:
    samples = np.concatenate([quiet(0.7), voice(2.4), quiet(1.0), voice(1.3, seed=2, pitch_hz=190.0), quiet(0.6)])
    (tmp_path / "a.wav").write_bytes(wav(samples))
    found = watch(model, Job(str(tmp_path / "a.wav"), None, None, None, model.labels), FAST)
    samples = audio.load(tmp_path / "a.wav")
    stream = model.stream(partial_s=0.5)
    events = [e for k in range(0, len(samples), 1600) for e in stream.push(samples[k : k + 1600])]
    stream.finish()
    assert found.at_s == pytest.approx([e.at_s for e in events])
    assert np.array(found.shown) == pytest.approx(np.array([list(e.segment.probabilities.values()) for e in events]))
    assert {e.kind for e in events} == {"partial", "final"}
    assert len(found.chunks_us) == len(found.answered) == -(-len(samples) // 1600)
    assert sum(found.answered) == len({e.at_s for e in events})
    assert found.final == tuple(stream.prediction.probabilities.values())
    assert list(found.final) == list(model.predict(tmp_path / "a.wav", by="clip").probabilities.values())
    assert len(found.speech_s) == 2
    later = watch(model, Job(str(tmp_path / "a.wav"), None, None, None, model.labels), Pace(0.1, 1.0))
    assert len(later.at_s) < len(found.at_s)
    whole = watch(model, Job(str(tmp_path / "a.wav"), 0.5, 2.0, None, model.labels), FAST)
    assert whole.duration_s == pytest.approx(1.5)


def test_accuracy_over_the_seconds_changes_and_delays_are_counted(answered: Measured) -> None:
    labels = answered.labels[:3]
    rows = [next(u for u in answered.manifest if u.emotion == label) for label in labels]
    rows.append(next(u for u in answered.manifest if u.emotion == labels[0] and u not in rows))
    speakers = ("a", "a", "b", "c")
    manifest = replace(
        answered.manifest, labels=labels, class_sets={},
        utterances=tuple(replace(u, speaker=s) for u, s in zip(rows, speakers, strict=True)),
    )  # fmt: skip
    truth = [labels.index(str(u.emotion)) for u in rows]
    other = [(k + 1) % 3 for k in truth]
    table = answered.predictions.take([u.id for u in rows]).among(labels)
    sure = np.eye(3) * 0.7 + 0.1
    one = replace(
        answered, manifest=manifest, labels=labels, predictions=replace(table, scores=sure[truth], attributes=None)
    )
    speech = ((1.0, 3.5),)
    watched_rows = [
        seen([(1.5, other[0]), (2.0, truth[0])], truth[0], speech),  # right from 1 s on
        seen([(1.5, truth[1]), (2.0, other[1]), (2.5, truth[1])], truth[1], speech, unsure=(True, False, False)),
        seen([(1.9, other[2])], truth[2], ((1.0, 1.8),)),  # ended by 1 s, and the end changes it
        seen([], truth[3], speech),  # never an answer before the end
    ]
    ids = [u.id for u in rows]
    found = streamed.measured(one, ids, watched_rows, FAST, draws=50, seed=0, failed={})
    by = {row["after_s"]: row for row in found.heard}
    assert list(by) == [0.5, 1.0, 1.5, 2.0, 3.0, 5.0, None]
    half, second, end = by[0.5], by[1.0], by[None]
    assert (half["n"], half["waiting"], half["running"], half["ended"]) == (2, 2, 4, 0)
    assert half["metrics"]["accuracy"]["value"] == 0.5
    assert half["metrics"]["accuracy"]["n"] == 2
    assert half["unsure"] == 0.5
    assert (second["n"], second["waiting"], second["running"], second["ended"]) == (3, 1, 3, 1)
    assert second["metrics"]["accuracy"]["value"] == pytest.approx(2 / 3), "the one that has ended counts as right"
    assert second["right_running"] == 0.5
    assert second["as_final"] == pytest.approx(2 / 3)
    assert by[5.0]["ended"] == end["n"] == 4
    assert by[5.0]["right_running"] is None
    assert end["metrics"]["uar"]["value"] == end["metrics"]["accuracy"]["value"] == 1.0
    assert "rough: 3 speakers" in end["metrics"]["uar"]["interval"]
    changes = found.changes
    assert changes["each"]["value"] == pytest.approx((1 + 2 + 1 + 0) / 4)
    assert changes["none"]["value"] == 0.25
    assert changes["per_minute"] == pytest.approx(4 / ((2.5 * 3 + 0.8) / 60))
    assert (changes["n"], changes["silent"], changes["at_end"]) == (3, 1, 1)
    assert changes["first_is_final"]["value"] == pytest.approx(1 / 3)
    assert changes["stable_s"]["n"] == 3
    assert changes["stable_s"]["p50"] == pytest.approx(1.5)
    assert changes["stable_s"]["largest"] == pytest.approx(5.0), "at the end, 6 s into it"
    assert found.first_s["speech"]["p50"] == pytest.approx(0.5)
    assert found.first_s["audio"]["largest"] == pytest.approx(1.9)
    assert found.run["chunk_ms"]["n"] == 8
    assert found.run["answering_ms"]["p50"] == pytest.approx(3.0)
    assert found.run["answering_processor_ms"]["p50"] == pytest.approx(0.9)
    assert found.run["real_time_factor"] == pytest.approx(4 * 0.006 / 24)
    assert found.run["processor_per_s"] == pytest.approx(4 * 0.002 / 24)
    assert found.run["processor"]
    assert (found.finals["beyond"], found.finals["other"], found.differs) == (0, 0, 0)
    silent = [
        replace(watched_rows[0], abstain="no_speech"),
        replace(watched_rows[1], abstain="unsure"),
        *watched_rows[2:],
    ]
    end = streamed.measured(one, ids, silent, FAST, draws=20, seed=0, failed={}).heard[-1]
    assert end["unsure"] == 0.25, "where no speech was heard is another thing"
    nobody = streamed.measured(one, ids, [replace(w, at_s=(), shown=(), unsure=()) for w in watched_rows], FAST,
                               draws=20, seed=0, failed={})  # fmt: skip
    assert nobody.heard[0]["metrics"] is None
    assert nobody.changes["first_is_final"] is None
    assert "–" in streamed_text({"streamed": [nobody.to_row()]})[2]
    told = [streamed_text({"streamed": [{**nobody.to_row(), "reads": reads}]})[-1] for reads in (True, False)]
    assert ["it reads texts" in line for line in told] == [True, False]


def test_an_end_that_is_not_the_files_is_a_defect_and_is_said(answered: Measured) -> None:
    ids = list(answered.predictions.ids)
    rows = [replace(seen([], 0, ((0.5, 1.5),)), final=tuple(f)) for f in answered.predictions.scores]
    moved = np.array(rows[0].final) + np.where(np.arange(len(answered.labels)) == 0, 1e-4, 0.0)
    rows[0] = replace(rows[0], final=tuple(moved))
    found = streamed.measured(answered, ids, rows, FAST, draws=20, seed=0, failed={"x": "gone"})
    assert found.differs == 1
    assert found.finals["largest"] == pytest.approx(1e-4)
    told = stream_complaints(found)
    assert told[0] == "x (streamed): gone"
    assert f"1 of {len(ids)} streams end with other probabilities" in told[1]


def test_the_numbers_at_the_end_are_those_of_the_files(answered: Measured, tmp_path: Path) -> None:
    told: list[Progress] = []
    keep = tmp_path / "kept.jsonl"
    found = streamed.stream(GOLDEN, answered, FAST, draws=20, progress=told.append, keep=keep)
    end = found.heard[-1]
    assert end["metrics"]["uar"] == answered.report.metrics["uar"].to_row()
    assert end["metrics"]["accuracy"]["value"] == answered.report.metrics["accuracy"].value
    assert found.finals == {"n": found.n, "other": 0, "beyond": 0, "largest": 0.0, "tolerance": 1e-5}
    assert found.n == len(answered.predictions) == told[-1].done
    assert any(row["metrics"] and row["waiting"] == 0 for row in found.heard[:-1])
    again = streamed.stream(GOLDEN, answered, FAST, draws=20, keep=keep)
    assert again.to_row() == found.to_row(), "nothing was heard once more, not even the times differ"
    kept = keep.read_bytes().split(b"\n")
    keep.write_bytes(b"\n".join(kept[:5]))  # stopped in the middle
    other = streamed.stream(GOLDEN, answered, FAST, draws=20, keep=keep, jobs=2)
    assert {**other.to_row(), "run": {}} == {**found.to_row(), "run": {}}
    assert other.run["processes"] == 2
    coarse = streamed.stream(GOLDEN, answered, Pace(0.5, 2.0), draws=20, keep=keep)
    assert coarse.run["chunk_ms"]["n"] < found.run["chunk_ms"]["n"] / 3
    assert coarse.heard[0]["waiting"] == found.n


def test_a_recording_that_no_stream_can_answer_costs_no_other(answered: Measured, monkeypatch: Any) -> None:
    watch_one = watched.watch

    def broken(model: Model, task: Job, *rest: Any) -> Watched:
        if task.path == str(answered.manifest.audio_path(next(iter(answered.manifest)))):
            raise SerkitError("it is gone")
        return watch_one(model, task, *rest)

    monkeypatch.setattr(watched, "watch", broken)
    found = streamed.stream(GOLDEN, answered, FAST, draws=20)
    assert list(found.failed.values()) == ["it is gone"]
    assert found.n == len(answered.manifest) - 1
    monkeypatch.setattr(watched, "watch", lambda *_: (_ for _ in ()).throw(SerkitError("it is gone")))
    with pytest.raises(SerkitError, match="recordings could be streamed; the first: it is gone"):
        streamed.stream(GOLDEN, answered, FAST, draws=20)


def test_the_command_streams_what_it_measured(tmp_path: Path) -> None:
    table = ["path,emotion,speaker"]
    for k in range(6):
        (tmp_path / f"{k}.wav").write_bytes(
            wav(talk(2, seed=k) if k == 5 else voice(1.8, seed=k, pitch_hz=100 + 20 * k))
        )
        table.append(f"{k}.wav,{('anger', 'sadness')[k % 2]},s{k // 2}")
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    (tmp_path / "t.csv").write_text("\n".join([*table, "broken.wav,anger,s0"]))
    command = ["measure", str(GOLDEN), "--corpus", "table", "--root", str(tmp_path / "t.csv"), "--draws", "20"]
    out = ["--streamed", "--beside", str(GOLDEN), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli.app, [*command, *out])
    assert done.exit_code == 1, "a recording is broken"
    assert done.stderr.count("broken: ") == 2, "once for each bundle, and not once more for its stream"
    assert "streamed: 6 recordings in chunks of 0.1 s, an answer after every 0.5 s of speech" in done.stdout
    assert "of 6 answers at the end, 0 differ from the file's (0 by the label)" in done.stdout
    assert done.stdout.index("\n  0.5 s  ") < done.stdout.index("\n  at the end  ")
    tree = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert [one["n"] for one in tree["streamed"]] == [6, 6]
    assert [one["system"] for one in tree["streamed"]] == [m["system"] for m in tree["models"]]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert 'id="streamed"' in page
    assert (tmp_path / "out" / "figures" / "streamed.svg").is_file()
    again = CliRunner().invoke(cli.app, [*command, *out, "--json"])
    assert json.loads(again.stdout) == tree
    plain = CliRunner().invoke(cli.app, [*command, "--out", str(tmp_path / "out")])
    assert "streamed" not in plain.stdout
    assert not (tmp_path / "out" / "figures" / "streamed.svg").exists()
    for wrong, said in (
        (["--chunk", "0.2"], "--chunk is of --streamed"),
        (["--partial", "0.2"], "--partial is of --streamed"),
    ):
        assert ask(*command, *wrong) == (2, "", f"{said}: add it (see serkit measure --help)")
    for wrong, said in ((["--chunk", "0"], "--chunk 0: expected 0.01 to 5"), (["--partial", "nan"], "expected 0.2 to")):
        refused = CliRunner().invoke(cli.app, [*command, "--streamed", *wrong])
        assert isinstance(refused.exception, SerkitError)
        assert said in str(refused.exception)
