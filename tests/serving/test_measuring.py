"""A bundle measured on labelled recordings: the numbers are those of its own answers."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from command_line import ask
from serkit import cli, pipeline
from serkit.augment import _recordings
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.extras import versions
from serkit.gaps import Gap, Gaps
from serkit.metrics import confusion_matrix
from serkit.metrics import measure as metric
from serkit.pipeline import Run
from serkit.predictions import Predictions
from serkit.progress import Progress
from serkit.recipe import parse_recipe
from serkit.reporting.measured_words import cautions
from serkit.serving import asking, labelled, measuring
from serkit.serving.building import build
from serkit.serving.conditions import parse
from serkit.serving.measured_lines import lines
from serkit.serving.measuring import differences, measure
from serkit.serving.predictor import Model
from serkit.serving.shared_labels import learned_votes
from serkit.types import Manifest

from .signals import GOLDEN, RATE, voice, wav


@pytest.fixture(scope="module")
def rows(toy_root: Path) -> Manifest:
    return toy(toy_root).where(lambda u: u.split == "test")


def test_numbers_are_those_of_the_models_answers(model: Model, rows: Manifest) -> None:
    seen: list[Progress] = []
    found = measure(GOLDEN, rows, draws=50, progress=seen.append)
    assert set(found.labels) <= set(model.labels)
    kept = [u for u in rows if u.emotion in found.labels]
    answers = [model.predict(rows.audio_path(u), labels=found.labels, by="clip") for u in kept]
    place = {label: k for k, label in enumerate(found.labels)}
    matrix = confusion_matrix(
        np.array([place[str(u.emotion)] for u in kept]), np.array([place[a.label] for a in answers]), len(place)
    )
    assert found.report.metrics["uar"].value == pytest.approx(float(metric("uar", matrix)))
    assert found.report.metrics["uar"].n == len(kept) == len(found.predictions)
    assert np.array(found.report.confusion).tolist() == matrix.tolist()
    assert found.predictions.scores[3] == pytest.approx(list(answers[3].probabilities.values()))
    assert seen[-1].done == len(kept)
    assert sum(found.left_out.values()) == len(rows) - len(kept)
    text = "\n".join(lines(found))
    assert f"n = {len(kept)}, {len(found.labels)} classes" in text
    assert f"{found.report.metrics['uar'].value:.3f} [" in text


def test_processes_split_and_labels(rows: Manifest) -> None:
    alone = measure(GOLDEN, rows, labels=["anger", "sadness"], draws=20)
    assert alone.labels == ("anger", "sadness")
    assert all(reason.startswith("of '") for reason in alone.left_out)
    assert measure(GOLDEN, rows, labels=["anger", "sadness"], draws=20, jobs=2).to_row() == alone.to_row()
    with pytest.raises(SerkitError, match=r"no recording of split .train.; splits there: test"):
        measure(GOLDEN, rows, split="train")
    with pytest.raises(SerkitError, match="did you mean 'train'"):
        measure(GOLDEN, rows, split="trian")
    with pytest.raises(SerkitError, match="did you mean 'anger'"):
        measure(GOLDEN, rows, labels=["angre", "fear"])
    with pytest.raises(SerkitError, match=r"share 1 label \(anger\), two are needed"):
        measure(GOLDEN, rows, labels=["anger"])


def test_a_model_that_reads_says_how_many_had_nothing_to_read(finished: Path, rows: Manifest, tmp_path: Path) -> None:
    both = build(Run(finished), tmp_path / "both").path
    silent = replace(rows, utterances=tuple(replace(u, text=None) for u in rows))
    found = measure(both, silent, draws=20)
    n = len(found.manifest)
    assert found.no_text == found.to_row()["no_text"] == n
    assert f"  {n} of {n} recordings have no text, and this model reads texts: an empty one was used" in lines(found)
    assert any("have no text" in line for line in cautions({"models": [found.to_row()]}))
    spoken = measure(both, rows, draws=20)
    assert spoken.no_text == 0
    assert "no_text" not in spoken.to_row()
    assert measure(GOLDEN, silent, draws=20).no_text == 0, "it reads none"


def test_a_model_of_votes_is_measured_on_them_as_its_run_was(toy_root: Path, tmp_path: Path) -> None:
    """Clips without agreement take part, and so does a class that labels none; beside a model of labels they do not."""
    text = """
name: votes
labels: votes
systems:
  net:
    features: [{name: logmel/24, pool: 8}]
    model: {name: mean_pool, hidden: 8, neutral_head: false}
    losses: [kl_soft]
    train: {epochs: 1, lr: 1e-2, batch_size: 16, targets: votes}
crossfit: null
stack: null
evaluate: {draws: 20}
"""
    clips = []
    for k, u in enumerate(toy(toy_root)):
        torn = u.split == "test" and k % 4 == 3
        clips.append(replace(u, votes={str(u.emotion): 2.0, "awe": 1.0 + torn}, emotion=None if torn else u.emotion))
    manifest = replace(toy(toy_root), utterances=tuple(clips))
    run = pipeline.prepare(parse_recipe(text), manifest, tmp_path / "run")
    pipeline.run_all(run, pipeline.Machine(tmp_path / "store", "cpu", jobs=1))
    wanted = json.loads((run.folder / "report" / "report.json").read_text())["systems"]["net"]["test"]
    made = build(Run(run.folder), tmp_path / "votes", method="none").path
    found = measure(made, manifest, split="test", coverage=0.8, draws=20)
    assert found.labels == run.manifest.labels
    assert found.labels[-1] == "awe"
    said = found.report.metrics
    for name in ("kl", "cosine", "kl_disputed", "macro_f1", "uar"):
        assert said[name].n == wanted[name]["n"], name
        assert said[name].value == pytest.approx(wanted[name]["value"], abs=1e-4), name
    n = said["kl_disputed"].n
    assert said["kl"].n == said["uar"].n + n == len(found.manifest)
    assert n > 0
    assert f"  {n} clips without a label: counted in the closeness to votes alone" in lines(found)
    assert found.sets is not None
    assert found.sets.held.n == said["uar"].n
    (plain,) = measuring.measure_under(made, manifest, (), split="test", votes=False, draws=20)
    assert "awe" not in plain.labels
    assert plain.left_out == {"without a label": n}
    assert (learned_votes(made), learned_votes(GOLDEN)) == (True, False)
    taught, _ = labelled.adapt_to(made, manifest, tmp_path / "taught", draws=20)
    again = measure(taught.source, manifest, split="test", draws=20)
    assert again.labels[-1] == "awe"
    assert "these clips" in again.trained_on


def test_two_models_are_compared_on_what_both_answered(rows: Manifest) -> None:
    one = measure(GOLDEN, rows, draws=20)
    other = measure("default", rows, labels=one.labels, draws=20)
    found = {d.metric: d for d in differences(one, other, draws=50)}
    assert found["uar"].value_a == pytest.approx(one.report.metrics["uar"].value)
    assert found["uar"].value_b == pytest.approx(other.report.metrics["uar"].value)
    assert all(d.difference == 0 for d in differences(one, one, draws=20))
    with pytest.raises(SerkitError, match="ask both for the labels that they share"):
        differences(one, measure(GOLDEN, rows, labels=one.labels[:2], draws=20))


def test_the_command_on_a_table_names_what_failed_and_writes_what_it_found(tmp_path: Path) -> None:
    table = ["path,emotion,speaker,start_s,end_s"]
    for k in range(8):
        (tmp_path / f"{k}.wav").write_bytes(wav(voice(1.5, seed=k, pitch_hz=100.0 + 20 * k)))
        stretch = "0.2,1.4" if k == 7 else ","
        table.append(f"{k}.wav,{('anger', 'sadness')[k % 2]},s{k // 4},{stretch}")
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    (tmp_path / "t.csv").write_text("\n".join([*table, "broken.wav,anger,s0,,", "0.wav,calm,s0,0,1"]))
    command = ["measure", str(GOLDEN), "--corpus", "table", "--root", str(tmp_path / "t.csv"), "--draws", "20"]
    done = CliRunner().invoke(cli.app, [*command, "--beside", "default", "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "broken: " in done.stderr
    assert "n = 8, 2 classes (anger, sadness)" in done.stdout
    assert "left out: 1 of 'calm'" in done.stdout
    assert "uar           " in done.stdout
    tree = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert [m["metrics"]["uar"]["n"] for m in tree["models"]] == [8, 8]
    assert {d["metric"] for d in tree["differences"]} >= {"uar", "macro_f1"}
    tables = sorted((tmp_path / "out").glob("*.parquet"))
    assert [len(Predictions.load(t)) for t in tables] == [8, 8]
    page = tmp_path / "out" / "report.html"
    assert done.stdout.endswith(f"report: {page}\n")
    told = page.read_text(encoding="utf-8")
    assert "1 recording could not be answered" in told
    assert "Whether it was trained on these recordings is not known" in told
    for one in tree["models"]:
        wrong, matrix = one["mistakes"], one["confusion"]
        assert len(wrong) == matrix[0][1] + matrix[1][0], "every wrong answer, as there are few"
        assert [m["confidence"] for m in wrong] == sorted((m["confidence"] for m in wrong), reverse=True)
        assert all(m["confidence"] >= m["truth_probability"] for m in wrong)
        assert all(m.get("start_s") == (0.2 if m["audio"] == "7.wav" else None) for m in wrong)
        assert all(m["audio"] in told for m in wrong)
    assert any(one["mistakes"] for one in tree["models"])
    assert set(tree["provenance"]) == {"split", "coverage", "calls", "versions"}
    assert tree["provenance"]["versions"] == versions(measuring.PACKAGES)
    assert "not installed" not in tree["provenance"]["versions"].values()
    assert versions(["no-such-package"])["no-such-package"] == "not installed"
    files = {f: f.read_bytes() for f in (tmp_path / "out").rglob("*") if f.is_file() and f.suffix != ".jsonl"}
    again = CliRunner().invoke(cli.app, [*command, "--beside", "default", "--out", str(tmp_path / "out"), "--json"])
    assert json.loads(again.stdout) == tree
    assert again.stderr.endswith(f"report: {page}\n")
    assert {f: f.read_bytes() for f in files} == files
    (tmp_path / "few.csv").write_text("path,emotion\n0.wav,anger\n1.wav,sadness\n")
    bare = CliRunner().invoke(cli.app, [*command[:5], str(tmp_path / "few.csv"), "--json", "--draws", "20"])
    assert bare.exit_code == 0, bare.output
    [report] = json.loads(bare.stdout)["models"]
    assert (report["metrics"]["uar"]["n"], report["metrics"]["uar"]["speakers"]) == (2, 0)


def test_recordings_with_two_voices_mixed_are_told(tmp_path: Path) -> None:
    """A table of stereo calls was measured on both sides mixed, without a word."""
    one, other = voice(3.0, pitch_hz=110), voice(3.0, pitch_hz=210)
    none = np.zeros_like(one)
    call = np.stack([np.concatenate([one, none, one]), np.concatenate([none, other, none])], axis=1)
    for name in ("first.wav", "second.wav"):
        (tmp_path / name).write_bytes(wav(call))
    (tmp_path / "alone.wav").write_bytes(wav(call[:, 0]))
    table = tmp_path / "calls.csv"
    table.write_text(
        "path,emotion,speaker,start_s,end_s\nfirst.wav,anger,a,,\nsecond.wav,sadness,b,0,9\nalone.wav,anger,c,,\n"
    )
    given = ["measure", str(GOLDEN), "--corpus", "table", "--root", str(table), "--draws", "20", "--under", "gain:-3"]
    done = CliRunner().invoke(cli.app, [*given, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    told = [line for line in done.stderr.splitlines() if "note:" in line]
    assert told == [f"serkit: note: first and 1 more: {asking.MIXED}"]
    assert CliRunner().invoke(cli.app, [*given, "--out", str(tmp_path / "out")]).stderr.count("note:") == 1
    tree = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert [len(ids) for ids in tree["models"][0]["remarked"].values()] == [2]
    assert "remarked" not in tree["under"][0]["models"][0]
    assert f"2 recordings, such as first: {asking.MIXED}." in cautions(tree)


def test_columns_of_a_table_are_groups(tmp_path: Path) -> None:
    table = ["path,emotion,speaker,accent,age"]
    for k in range(12):
        (tmp_path / f"{k}.wav").write_bytes(wav(voice(1.0, seed=k, pitch_hz=100.0 + 20 * k)))
        table.append(f"{k}.wav,{('anger', 'sadness')[k % 2]},s{k // 2},{('north', 'south')[k // 6]},{20 + k}")
    (tmp_path / "t.csv").write_text("\n".join(table))
    command = ["measure", str(GOLDEN), "--corpus", "table", "--root", str(tmp_path / "t.csv"), "--draws", "20"]
    done = CliRunner().invoke(cli.app, [*command, "--group", "accent", "--group", "age=25"])
    assert done.exit_code == 0, done.output
    assert re.search(r"by accent: UAR north 0\.\d+ \(n = 6\); south 0\.\d+ \(n = 6\)", done.stdout)
    assert "not compared: north (6 clips, fewer than 30) and south (6 clips, fewer than 30)" in done.stdout
    told = CliRunner().invoke(cli.app, [*command, "--group", "age=25", "--json"])
    [report] = json.loads(told.stdout)["models"]
    assert list(report["slices"]) == ["age"]
    assert {name: m["uar"]["n"] for name, m in report["slices"]["age"].items()} == {"below 25": 5, "from 25": 7}
    assert report["gaps"]["age"]["note"] == "fewer than two groups are large enough to be compared"
    for wrong, said in (("acccent", "did you mean 'accent'"), ("age=3,2", "rising edges")):
        refused = CliRunner().invoke(cli.app, [*command, "--group", wrong])
        assert isinstance(refused.exception, SerkitError)
        assert said in str(refused.exception)


def test_gaps_are_told_with_what_is_needed_to_read_them(rows: Manifest) -> None:
    found = measure(GOLDEN, rows, draws=50)
    gap = Gap({"a": 0.7, "b": 0.5}, "a", "b", 0.2, 0.1, 0.3, 0.001, 0.002, 0.12)
    told = Gaps({}, {}, {"c": "2 clips, fewer than 30"}, interval="95% speaker bootstrap", metrics={"uar": gap})
    text = "\n".join(lines(replace(found, gaps=dict.fromkeys(found.report.slices, told))))
    assert "gap 0.200 [0.100, 0.300] (a minus b), p Holm 0.002: larger than chance, detectable 0.120; 95% sp" in text
    assert "not compared: c (2 clips, fewer than 30)" in text


def test_a_corpus_of_its_training_is_named(rows: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    assert measure(GOLDEN, rows, draws=20).trained_on == ("toy",)
    assert "trained on toy too" in "\n".join(lines(measure(GOLDEN, rows, draws=20)))
    assert measure("default", rows, draws=20).trained_on == ()


def test_that_labels_were_answers_is_told_beside_the_numbers(rows: Manifest) -> None:
    said = "3 of 20 labels differ from the answers of serkit predict beside them"
    found = measure(GOLDEN, replace(rows, info={**rows.info, "answers": [said]}), draws=20)
    assert f"  {said}" in lines(found)
    assert f"{said}." in cautions({"models": [{**found.to_row(), "system": "golden"}]})
    assert not any("labels differ" in line for line in lines(measure(GOLDEN, rows, draws=20)))


def test_what_was_answered_before_ctrl_c_is_not_asked_again(
    rows: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = measure(GOLDEN, rows, draws=20)
    keep, asked = tmp_path / "answers.jsonl", []
    answer = asking._answer

    def stopped(model: Model, task: asking.Job) -> asking.Answer | str:
        if len(asked) == 5:
            raise KeyboardInterrupt
        asked.append(task.path)
        return answer(model, task)

    monkeypatch.setattr(asking, "_answer", stopped)
    with pytest.raises(KeyboardInterrupt):
        measure(GOLDEN, rows, draws=20, keep=keep)
    again: list[str] = []

    def counted(model: Model, task: asking.Job) -> asking.Answer | str:
        again.append(task.path)
        return answer(model, task)

    monkeypatch.setattr(asking, "_answer", counted)
    assert measure(GOLDEN, rows, draws=20, keep=keep).to_row() == whole.to_row()
    assert not set(asked) & set(again)
    assert len(asked) + len(again) == len(whole.predictions)
    again.clear()
    measure(GOLDEN, rows, draws=20, keep=keep, labels=whole.labels[:2])
    assert again, "another question"


def test_without_recordings_it_says_how_to_name_ones_own() -> None:
    code, _, said = ask("measure", "default")
    assert code == 2
    assert said.startswith("measure needs labelled recordings: --corpus table --root my.csv for your own")


def test_answers_under_noise_of_a_folder_are_asked_again_where_the_folder_has_changed(
    rows: Manifest, tmp_path: Path
) -> None:
    few, keep = rows.where(lambda u: u.id in set(rows.ids[:6])), tmp_path / "answers.jsonl"
    (tmp_path / "noises").mkdir()

    def under(seed: int) -> tuple[measuring.Measured, ...]:
        rng = np.random.default_rng(seed)
        (tmp_path / "noises" / "one.wav").write_bytes(wav(rng.normal(0, 0.1, (2 + seed) * RATE).astype(np.float32)))
        _recordings._read.cache_clear()  # another run of the command
        return measuring.measure_under(
            GOLDEN, few, parse([f"noise:0,folder={tmp_path / 'noises'}"]), draws=20, keep=keep
        )

    first, second = under(0)[1], under(1)[1]
    keep.unlink()
    assert second.to_row() == under(1)[1].to_row() != first.to_row()


def test_the_name_of_a_bundle_leads_to_no_other_folder(rows: Manifest) -> None:
    few = rows.where(lambda u: u.id in set(rows.ids[:6]))
    plain, under = measuring.measure_under(GOLDEN, few, parse(["gain:-6"]), draws=20)
    for one in (plain, under):
        table = replace(one.predictions, models=("../../a b@1",) * len(one.predictions))
        name = replace(one, predictions=table).file_name
        assert name.startswith("__.._a_b@1")
        assert "/" not in name


def test_a_file_in_the_place_of_the_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SerkitError, match="cannot be a folder: a file is in its place"):
        CliRunner().invoke(
            cli.app, ["measure", "default", "--corpus", "toy", "--out", str(tmp_path / "file")], catch_exceptions=False
        )
