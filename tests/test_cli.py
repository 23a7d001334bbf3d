"""The command line as people meet it, above all with bad input: one clear line, the right exit code, nothing lost."""

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from serkit import __version__, cli
from serkit.errors import DiskFull, RunFailed, SerkitError
from serkit.metrics import METRICS

RATE_HZ = 16_000


def ask(*words):
    """Run the command line in this process as ``main`` does: exit code, standard output, the line of an error."""
    result = CliRunner().invoke(cli.app, [str(w) for w in words])
    error = result.exception
    if isinstance(error, SerkitError):
        return error.exit_code, result.stdout, str(error)
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def recipe(tmp_path, small_text):
    path = tmp_path / "small.yaml"
    path.write_text(small_text)
    return path


@pytest.fixture
def clips(tmp_path):
    """A table of 36 short clips of 6 speakers and 3 emotions; a test spoils one of them."""
    rng = np.random.default_rng(0)
    rows = ["path,emotion,speaker,text"]
    folder = tmp_path / "clips"
    folder.mkdir()
    for k in range(36):
        emotion = ("anger", "neutral", "sadness")[k % 3]
        samples = 0.1 * rng.normal(size=RATE_HZ // 2) * (1 + k % 3)
        soundfile.write(folder / f"c{k}.wav", samples.astype(np.float32), RATE_HZ, subtype="PCM_16")
        rows.append(f"clips/c{k}.wav,{emotion},s{k // 3 % 6},words {emotion}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


def test_prepare_says_what_it_left_out(recipe, clips, tmp_path):
    head, *rows = clips.read_text().splitlines()
    odd = ['"{""anger"": 2, ""pride"": 1}"' if k < 3 else '"{""pride"": 1}"' if k < 5 else "" for k in range(len(rows))]
    clips.write_text("\n".join([head + ",votes", *(f"{row},{votes}" for row, votes in zip(rows, odd, strict=True))]))
    where = ["--corpus", "table", "--root", clips, "--set", "drop_labels=[sadness]"]
    code, said, notes = ask("prepare", recipe, *where, "--out", tmp_path / "run")
    assert (code, said.count("\n")) == (0, 1)
    assert [line.strip() for line in notes.splitlines()] == [
        "note  clips left out: 12 of 'sadness'; 24 remain",
        "note  rater votes left out, because their label is not a class of the clip's corpus here: pride (4 clips); "
        "2 clips lost every vote",
    ]


def run_table(recipe, clips, tmp_path, *more):
    where = ["--out", tmp_path / "run", "--store", tmp_path / "store", "--jobs", 1, "--device", "cpu"]
    return ask("run", recipe, "--corpus", "table", "--root", clips, *where, *more)


# ---------------------------------------------------------------- what it says when all is well


def test_version_and_lists():
    assert ask("--version")[:2] == (0, f"serkit {__version__}\n")
    for words in ("corpora", "encoders", "recipes", "models", "losses", "augmentations"):
        code, said, _ = ask(words)
        assert code == 0
        rows = json.loads(ask(words, "--json")[1])
        assert len(rows) == len(said.splitlines())
        assert all(said.count(r["name"]) for r in rows)


def test_run_prepare_and_the_stages_alone(recipe, clips, tmp_path):
    code, said, _ = ask("prepare", recipe, "--corpus", "table", "--root", clips, "--out", tmp_path / "run")
    assert (code, "{'train': " in said) == (0, True)
    code, said, error = run_table(recipe, clips, tmp_path)
    assert code == 0, error
    assert "report: " in said
    assert re.search(r"^stack +\d\.\d{3} +\d\.\d{3}", said, re.MULTILINE)
    again, said_again, _ = run_table(recipe, clips, tmp_path)
    assert (again, said_again) == (0, said)
    for stage in ("stack", "evaluate", "report"):
        assert ask(stage, tmp_path / "run")[0] == 0, stage
    code, said, _ = ask("compare", tmp_path / "run", tmp_path / "run", "--system-b", "vote", "--draws", 20, "--json")
    assert code == 0
    assert {"metric", "difference", "low", "high"} <= set(json.loads(said)[0])
    code, said, _ = ask("audit", tmp_path / "run", "--json")
    assert code in (0, 1)
    json.loads(said)


def test_compare_refuses_what_does_not_compare(finished, clips, recipe, tmp_path):
    ask("prepare", recipe, "--corpus", "table", "--root", clips, "--out", tmp_path / "run")
    assert ask("compare", finished, tmp_path / "run")[0] == 2
    said = ask("compare", finished, tmp_path / "run")[2]
    assert "not on the same splits" in said
    assert f"{tmp_path / 'run'} (table, table-as-given, fold 1)" in said
    assert "holds no run" in ask("compare", finished, tmp_path)[2]
    assert ask("compare", finished, finished, "--system-a", "stak")[0::2] == (
        2, f"{finished} has no system 'stak'; did you mean 'stack'?",
    )  # fmt: skip
    assert ask("compare", finished, finished, "--split", "tset")[0::2] == (2, "no split 'tset'; did you mean 'test'?")


def test_compare_refuses_runs_whose_clips_mean_something_else(recipe, clips, tmp_path):
    """Same clips, same splits, same labels, and yet no two answers to the same question."""
    for run, label in (("a", "anger"), ("b", "neutral")):
        where = ["--corpus", "table", "--root", clips, "--out", tmp_path / run]
        assert ask("prepare", recipe, *where, "--set", f"map_labels={{sadness: {label}}}")[0] == 0
    code, _, said = ask("compare", tmp_path / "a", tmp_path / "b")
    assert code == 2
    assert re.search(r"label \d+ test clips differently: 'anger' and 'neutral' for '[\w-]+' \(see map_labels\)", said)


def test_compare_says_p_of_both_tests(recipe, clips, tmp_path):
    assert run_table(recipe, clips, tmp_path)[0] == 0
    code, said, _ = ask("compare", tmp_path / "run", tmp_path / "run", "--system-b", "vote", "--draws", 20)
    assert code == 0
    assert len(re.findall(r"p = \d\.\d{3}, permuted [01]\.\d{3}   95% paired", said)) == len(METRICS)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--corpus", "toy", "--root", "FILE"], "is a file; --root is"),
        (["--corpus", "RAVDES"], "no corpus 'RAVDES'; did you mean 'ravdess'"),
        (["--corpus", "toy", "--root", "TOY", "--store", "FILE"], "FILE is a file; give a folder"),
        (["--corpus", "tooy"], "no corpus 'tooy'; did you mean 'toy'"),
        (["--corpus", "ravdess", "--root", "/no/such"], "ravdess: no folder /no/such"),
        (["--corpus", "ravdess", "--root", "EMPTY"], "is empty; expected"),
        (["--corpus", "table", "--root", "/no/such.csv"], "/no/such.csv"),
        (["--corpus", "toy", "--root", "TOY", "--fold", "9"], "has folds 1 to 4, got fold 9"),
        (["--corpus", "toy", "--root", "TOY", "--protocol", "x"], "toy has no protocol 'x'"),
        (["--corpus", "toy", "--root", "TOY", "--set", "train.epoch=3"], "did you mean 'train.epochs'"),
        (["--corpus", "toy", "--root", "TOY", "--set", "crossfit.folds=40"], "train has 4 speakers"),
        (["--corpus", "toy", "--root", "TOY", "--set", "drop_labels=[fera]"], "did you mean 'fear'"),
        (["--corpus", "toy", "--root", "TOY", "--set", "labels=[anger]"], "name it in drop_labels or map_labels"),
        (["--corpus", "toy", "--root", "TOY", "--set", "exclude=[nobody]"], "exclude: no utterance 'nobody'"),
        (["--corpus", "toy", "--root", "TOY", "--option", "x=1"], "--option x: no reader of toy takes it"),
        (["--corpus", "toy", "--root", "TOY", "--root", "TOY"], "1 --corpus and 2 --root"),
        (["--corpus", "toy", "--root", "TOY", "--device", "gpu"], "'gpu' is not one of 'auto', 'cpu', 'cuda'"),
        (["--corpus", "toy", "--root", "TOY", "--jobs", "-1"], "for '--jobs'"),
        (["--corpus", "toy", "--root", "TOY", "--job", "1"], "No such option: --job"),
        (["--corpus", "toy", "--root", "TOY", "--address", "h:1"], "the engine is local; add --engine ray"),
        ([], "Missing option '--corpus'"),
    ],
)
def test_usage_that_is_wrong_is_one_line_and_2(recipe, toy_root, tmp_path, words, message):
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "FILE").write_text("x")
    places = {"TOY": toy_root, "EMPTY": tmp_path / "EMPTY", "FILE": tmp_path / "FILE"}
    words = [places.get(w, w) for w in words]
    code, _, said = ask("run", recipe, "--out", tmp_path / "run", *words)
    assert code == 2
    assert message in said
    if "Usage:" not in said:  # typer's own three lines
        assert len(said.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_recipes_that_are_wrong_are_one_line_and_2(tmp_path, toy_root):
    assert ask("run", "ofline12", "--corpus", "toy")[0::2] == (2, "no recipe 'ofline12'; did you mean 'offline12'?")
    typo = tmp_path / "typo.yaml"
    typo.write_text("name: x\nsystems: {a: {features: [logmel], balanc: null}}\n")
    assert ask("run", typo, "--corpus", "toy")[0::2] == (
        2, "typo.yaml: unknown key 'systems.a.balanc'; did you mean 'balance'?",
    )  # fmt: skip
    for words, said in {
        "model: {name: cross_attention, hidden: many}": "is 'many', expected a whole number, at least 1, such as 512",
        "losses: [{name: focal, gamma: high}]": "is 'high', expected a number",
        "model: {name: cross_attention, attention: per_quer}": "is 'per_quer'; did you mean 'per_query'?",
        "model: {name: cross_attention, noise: -0.5}": "is -0.5, expected a number, at least 0",
        "losses: [{name: cross_entropy, label_smoothing: 7}]": "is 7, expected a number, at least 0, at most 1",
        "model: {name: cross_attention, neutral_head: perhaps}": "is 'perhaps', expected true or false",
    }.items():
        typo.write_text(f"name: x\nsystems: {{a: {{features: [logmel/24], {words}}}}}\n")
        code, _, line = ask("run", typo, "--corpus", "toy")
        assert code == 2
        assert said in line, line
    typo.write_text(
        "name: x\nsystems: {a: {features: [logmel/24, mfcc/13], model: {name: cross_attention, hidden: 8, heads: 3}}}\n"
    )
    code, _, line = ask("prepare", typo, "--corpus", "toy", "--root", toy_root, "--out", tmp_path / "run")
    assert (code, line) == (2, "systems.a: attention: heads 3 does not divide the width 16")
    for feature, said in {
        "{name: mfcc/13, pool: 0}": "encoder 'mfcc/13': dim 26 and pool 0 must be at least 1",
        "{name: mfcc/13, pool: 2.5}": "features: pool of encoder 'mfcc' is 2.5, expected a whole number",
        "{name: wavlm/large, precison: bf16}": "has no parameter 'precison'; did you mean 'precision'?",
        "mfc/13": "no encoder 'mfc'; did you mean 'mfcc'?",
    }.items():
        typo.write_text(f"name: x\nsystems: {{a: {{features: [{feature}]}}}}\n")
        code, _, line = ask("prepare", typo, "--corpus", "toy", "--root", toy_root, "--out", tmp_path / "run")
        assert code == 2
        assert said in line, line
    assert not (tmp_path / "run").exists()
    typo.write_text("")
    assert "got an empty file" in ask("run", typo, "--corpus", "toy")[2]
    unknown = tmp_path / "unknown.yaml"
    unknown.write_text("name: x\nsystems: {a: {features: [logmel/23x]}}\n")
    words = ["--root", toy_root, "--out", tmp_path / "r", "--store", tmp_path / "s", "--jobs", 1]
    code, _, said = ask("run", unknown, "--corpus", "toy", *words)
    assert code == 2
    assert "logmel/23x" in said


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda p: p.unlink(), r"no such file|not found|is missing|does not exist"),
        (lambda p: p.write_text("this is a text, not a sound\n" * 9), r"text|not .*audio|cannot be (read|decoded)"),
        (lambda p: p.write_bytes(b""), r"empty|0 bytes"),
        (lambda p: soundfile.write(p, np.full(RATE_HZ, np.nan, np.float32), RATE_HZ, subtype="FLOAT"), r"NaN|finite"),
        (lambda p: p.write_bytes(p.read_bytes()[:30]), r"c4\.wav"),
    ],
    ids=["missing", "text", "empty", "nan", "cut"],
)
def test_a_broken_recording_is_named_with_its_reason(recipe, clips, tmp_path, spoil, reason):
    spoil(clips.parent / "clips" / "c4.wav")
    code, _, said = run_table(recipe, clips, tmp_path)
    assert code == 2, said
    assert len(said.splitlines()) == 1
    assert re.search(reason, said), said
    assert re.search(r"1 of 36 utterances have no features: '(\S+)' .*exclude: \[\1\]", said), said


def test_copies_of_a_broken_recording_are_named_by_their_own_paths(recipe, clips, tmp_path):
    """They are one content in the store, which met it under the first path, perhaps in another corpus."""
    for k in (4, 7):
        (clips.parent / "clips" / f"c{k}.wav").write_bytes(b"")
    for _ in range(2):
        said = run_table(recipe, clips, tmp_path)[2]
        assert re.search(r"'clips_c4' \(\S+/c4\.wav: is empty", said), said
        assert re.search(r"'clips_c7' \(\S+/c7\.wav: is empty", said), said


def test_a_broken_recording_is_left_out_when_it_is_named(recipe, clips, tmp_path):
    (clips.parent / "clips" / "c4.wav").write_bytes(b"")
    said = run_table(recipe, clips, tmp_path)[2]
    name = re.search(r"exclude: \[(\S+)\]", said)
    assert name
    shutil.rmtree(tmp_path / "run")
    code, said, error = run_table(recipe, clips, tmp_path, "--set", "train.epochs=1", "--set", f"exclude=[{name[1]}]")
    assert code == 0, error
    assert "stack" in said


def test_20_ms_and_silence_pass_and_the_audit_names_them(recipe, clips, tmp_path):
    """A clip shorter than a window is padded to one: it trains, and the audit says what to look at."""
    soundfile.write(clips.parent / "clips" / "c4.wav", np.full(320, 0.1), RATE_HZ)
    soundfile.write(clips.parent / "clips" / "c7.wav", np.zeros(RATE_HZ), RATE_HZ)
    code, _, error = run_table(recipe, clips, tmp_path, "--set", "train.epochs=1")
    assert code == 0, error
    noted = next(line for line in error.splitlines() if "nothing audible" in line)
    assert re.search(r"2 of \d+ recordings, .*exclude: \[\S*c4, \S*c7\]", noted), "said while it runs, too"
    code, said, _ = ask("audit", tmp_path / "run")
    lines = said.splitlines()
    assert any("too-short" in line and "c4" in line for line in lines), said
    assert any("silen" in line and "c7" in line for line in lines), said


def edit(clips, change):
    lines = clips.read_text().splitlines()
    clips.write_text("\n".join([lines[0], *(change(line.split(","), k) for k, line in enumerate(lines[1:]))]) + "\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, k: ",".join([c[0], "happy-ish" if k == 5 else c[1], *c[2:]]), "happy-ish"),
        (lambda c, k: ",".join([*c[:2], "s0", c[3]]), "1 speaker here"),
        (lambda c, k: ",".join([*c[:2], "", c[3]]), "have no speaker"),
        (lambda c, k: ",".join([c[0], "" if k else "anger", *c[2:]]), "label|emotion|class|split"),
    ],
    ids=["label", "one speaker", "no speaker", "one labelled"],
)
def test_a_table_that_cannot_be_split_or_labelled_is_one_line(recipe, clips, tmp_path, change, message):
    edit(clips, change)
    code, _, said = run_table(recipe, clips, tmp_path)
    assert code == 2, said
    assert len(said.splitlines()) == 1
    assert re.search(message, said), said


def test_a_table_is_not_audited_and_the_way_is_told(clips):
    code, _, said = ask("audit", clips)
    assert code == 2
    assert len(said.splitlines()) == 1
    assert f"serkit prepare RECIPE --corpus table --root {clips} --out RUN, then serkit audit RUN" in said


def test_a_folder_without_a_manifest_is_not_audited_and_the_way_is_told(tmp_path):
    code, _, said = ask("audit", tmp_path)
    assert (code, len(said.splitlines())) == (2, 1)
    assert f"serkit prepare RECIPE --corpus NAME --root {tmp_path} --out RUN, then serkit audit RUN" in said
    (tmp_path / "fold1").mkdir()
    (tmp_path / "fold1" / "manifest.jsonl").touch()
    assert f"name a fold, such as {tmp_path / 'fold1'}" in ask("audit", tmp_path)[2]


def test_a_table_in_jsonl_is_told_from_a_manifest(recipe, clips, tmp_path):
    """The way that is told works, with the very table; the manifest it leaves is audited by folder and by file."""
    head, *rows = (line.split(",") for line in clips.read_text().splitlines())
    table = clips.with_suffix(".jsonl")
    table.write_text("\n".join(json.dumps(dict(zip(["Path", *head[1:]], row, strict=True))) for row in rows))
    code, _, said = ask("audit", table)
    assert code == 2
    assert f"serkit prepare RECIPE --corpus table --root {table} --out RUN, then serkit audit RUN" in said
    run = tmp_path / "run"
    assert ask("prepare", recipe, "--corpus", "table", "--root", table, "--out", run)[0] == 0
    for manifest in (run, run / "manifest.jsonl"):
        code, found, _ = ask("audit", manifest, "--json")
        assert (code, "36 recordings decoded" in found) == (0, True)
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "audio": "a.wav"}\n')
    assert ask("audit", tmp_path / "rows.jsonl")[2] == (
        f"{tmp_path / 'rows.jsonl'} is not a manifest: its first line has no '_manifest'"
    )
    assert "no manifest at" in ask("audit", tmp_path / "nowhere.jsonl")[2]


@pytest.mark.parametrize("clips_of_it", [1, 2])
def test_a_class_with_two_clips_is_named_with_what_to_do(recipe, clips, tmp_path, clips_of_it):
    edit(clips, lambda c, k: ",".join([c[0], "fear" if k < clips_of_it else c[1], *c[2:]]))
    code, _, said = run_table(recipe, clips, tmp_path)
    assert code == 2, said
    assert len(said.splitlines()) == 1
    assert "'fear'" in said
    assert "drop_labels" in said
    assert not (tmp_path / "run").exists()
    assert run_table(recipe, clips, tmp_path, "--set", "drop_labels=[fear]", "--set", "train.epochs=1")[0] == 0


def test_a_label_with_a_typo_is_named_with_the_one_it_resembles(recipe, clips, tmp_path):
    edit(clips, lambda c, k: ",".join([c[0], "angr" if k == 5 else c[1], *c[2:]]))
    code, _, said = run_table(recipe, clips, tmp_path)
    assert code == 2
    assert "label 'angr' (1 row, first: line 7) is not a known emotion; did you mean 'anger'?" in said
    said = run_table(recipe, clips, tmp_path, "--option", "own_labels=angr")[2]
    assert "name it in drop_labels, or, if 'anger' is meant, set map_labels={angr: anger}" in said


def test_a_speaker_in_two_splits_is_refused(recipe, clips, tmp_path):
    lines = clips.read_text().splitlines()
    splits = [("train", "dev", "test")[k % 3] for k in range(36)]
    clips.write_text("\n".join([lines[0] + ",split", *(f"{x},{s}" for x, s in zip(lines[1:], splits, strict=True))]))
    code, _, said = run_table(recipe, clips, tmp_path)
    assert code == 2
    assert re.search(r"speaker .*'s0'.* (train|dev|test)", said), said


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("*.npy", halve),
        ("*.npy", Path.unlink),
        ("*.json", halve),
        ("*.json", Path.unlink),
        ("*.npy", lambda p: p.write_bytes(b"")),
    ],
    ids=["half", "gone", "half an index", "no index", "empty"],
)
def test_a_half_written_shard_is_done_again(recipe, clips, tmp_path, kind, spoil):
    assert run_table(recipe, clips, tmp_path, "--set", "train.epochs=1")[0] == 0
    before = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    spoilt = [p for p in (tmp_path / "store").rglob(kind) if p.with_suffix(".npy").exists()]
    assert spoilt
    for shard in spoilt:
        spoil(shard)
    shutil.rmtree(tmp_path / "run")
    code, _, said = run_table(recipe, clips, tmp_path, "--set", "train.epochs=1")
    assert code == 0, said
    after = json.loads((tmp_path / "run" / "report" / "report.json").read_text())
    assert after["systems"] == before["systems"]


# ---------------------------------------------------------------- main(): exit codes and the one line


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (SerkitError("wrong input"), 2, "serkit: wrong input\n"),
        (RunFailed("it failed"), 1, "serkit: it failed\n"),
        (OSError(28, "No space left on device", "/data/x"), 1, "serkit: No space left on device: /data/x\n"),
        (OSError(27, "File too large"), 1, "serkit: File too large\n"),
        (PermissionError(13, "Permission denied", "/root/x"), 1, "serkit: Permission denied: /root/x"),
        (KeyboardInterrupt(), 130, "serkit: stopped\n"),
    ],
)
def test_errors_become_a_line_and_a_code(monkeypatch, capsys, raised, code, said):
    def fail():
        raise raised

    monkeypatch.setattr("serkit.listing.recipes", fail)
    monkeypatch.setattr(sys, "argv", ["serkit", "recipes"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == code
    shown = capsys.readouterr().err
    assert shown.startswith(said), shown
    assert len(shown.splitlines()) == 1


def exit_code(monkeypatch, folder, words, called, instead):
    """How the command line ends in a folder where something else stands in for what it calls."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(called, instead)
    monkeypatch.setattr(sys, "argv", ["serkit", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


@pytest.mark.parametrize(
    ("words", "called", "kept"),
    [
        (["run", "toy", "--corpus", "toy"], "serkit.recipe.load_recipe", True),
        (["cv", "toy", "--corpus", "toy"], "serkit.recipe.load_recipe", True),
        (["ablate", "toy", "--corpus", "toy"], "serkit.recipe.load_recipe", True),
        (["extract", "run"], "serkit.pipeline.extract_run", True),
        (["train", "run"], "serkit.pipeline.train_run", True),
        (["report", "run"], "serkit.pipeline.report_run", False),
        (["bundle", "run", "-o", "out"], "serkit.serving.building.build", False),
        (["adapt", "a.wav", "-o", "out"], "serkit.serving.predicting.gather", False),
        (["predict", "a.wav", "--out", "a.json"], "serkit.serving.predicting.predict", False),
    ],
)
def test_only_a_command_that_goes_on_says_so_after_ctrl_c(monkeypatch, capsys, finished, tmp_path, words, called, kept):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    (tmp_path / "run").symlink_to(finished)
    assert exit_code(monkeypatch, tmp_path, words, called, stopped) == 130
    more = "; run the same command again to resume" if kept else ""
    assert capsys.readouterr().err == f"serkit: stopped{more}\n"


@pytest.mark.parametrize("raised", [OSError(28, "No space left", "/data/x"), DiskFull("the disk is full")], ids=repr)
@pytest.mark.parametrize(
    ("words", "called", "kept"),
    [
        (["extract", "run"], "serkit.pipeline.extract_run", True),
        (["report", "run"], "serkit.pipeline.report_run", False),
        (["bundle", "run", "-o", "out"], "serkit.serving.building.build", False),
    ],
)
def test_only_a_command_that_goes_on_says_so_of_a_full_disk(
    monkeypatch, capsys, finished, tmp_path, words, called, kept, raised
):
    def full(*_, **__):
        raise copy.copy(raised)

    (tmp_path / "run").symlink_to(finished)
    assert exit_code(monkeypatch, tmp_path, words, called, full) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.endswith("; finished work is kept\n") == kept, said
    assert ("kept" in said) == kept


def test_an_error_of_our_own_making_is_not_hidden(monkeypatch):
    monkeypatch.setattr("serkit.listing.recipes", lambda: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["serkit", "recipes"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_ctrl_c_before_a_command_is_known_is_one_line(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.main.get_command", interrupted)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    assert capsys.readouterr().err == "serkit: stopped\n"


def command(recipe, toy_root, tmp_path, jobs):
    where = ["--root", toy_root, "--out", tmp_path / "run", "--store", tmp_path / "store", "--jobs", jobs]
    return [sys.executable, "-m", "serkit", "run", recipe, "--corpus", "toy", *where, "--device", "cpu"]


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("stage", ["extract", "train"])
def test_ctrl_c_is_one_line_130_and_resumable(recipe, toy_root, tmp_path, stage, jobs):
    """SIGINT to the whole process group, as a terminal sends it."""
    words = [str(w) for w in command(recipe, toy_root, tmp_path, jobs)]
    log = tmp_path / "log"
    with log.open("w") as said:
        process = subprocess.Popen(
            [*words, "--set", "train.epochs=100"], stdout=said, stderr=said, start_new_session=True
        )
        wanted = stage if stage == "train" else "to extract"
        limit = time.monotonic() + 90
        while wanted not in log.read_text() and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.05)
        time.sleep(0.7)
        try:
            os.killpg(process.pid, signal.SIGINT)
            code = process.wait(timeout=60)
        finally:
            process.kill()
    shown = log.read_text()
    # where the signal met code that a library runs while it is imported, Python ends by that signal itself: a shell
    # shows 130 for both
    assert code in (130, -signal.SIGINT), shown
    assert "Traceback" not in shown, shown
    assert shown.splitlines()[-1] == "serkit: stopped; run the same command again to resume"
    assert shown.count("stopped") == 1
    assert (tmp_path / "run" / "manifest.jsonl").is_file()


def test_ctrl_c_while_the_program_is_still_loading_is_one_line():
    """The signal comes in the middle of the first import of the command line."""
    code = """
import os, signal, sys
from serkit import __main__ as door
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "serkit.commands":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
door.main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "serkit: stopped; nothing was started\n"


@pytest.mark.parametrize(
    "moments_s", [(1.0, 2.0, 3.5), pytest.param([1.0 + 0.4 * k for k in range(20)], marks=pytest.mark.slow)],
    ids=["three", "twenty"],
)  # fmt: skip
def test_ctrl_c_at_any_moment_is_one_line_and_loses_nothing(recipe, toy_root, tmp_path, finished, moments_s):
    """Each run goes on where the last one was stopped."""
    words = [str(w) for w in command(recipe, toy_root, tmp_path, 1)]
    for moment in moments_s:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            shown, _ = process.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            shown, _ = process.communicate(timeout=60)
            assert "Traceback" not in shown, shown
            if shown.splitlines()[-1].startswith("report: "):
                continue  # it had said its last word before the signal came
            assert process.returncode in (130, -signal.SIGINT), shown
            assert shown.splitlines()[-1].startswith("serkit: stopped; "), shown
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    whole, resumed = (json.loads((f / "report" / "report.json").read_text()) for f in (finished, tmp_path / "run"))
    assert resumed["systems"] == whole["systems"], "the same numbers as a run that nobody stopped"


@pytest.mark.parametrize("kib", [160, *(pytest.param(k, marks=pytest.mark.slow) for k in (4, 40))])
def test_a_disk_that_fills_is_one_line_and_nothing_is_lost(recipe, toy_root, tmp_path, kib):
    """A limit on the size of files stands in for the disk: 4 KiB hold no manifest, 40 no shard, 160 no network."""
    words = " ".join(f"'{w}'" for w in command(recipe, toy_root, tmp_path, 1))
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    full = subprocess.run(
        ["bash", "-c", f"ulimit -f {kib}; exec {words} --set train.epochs=2 --set model.hidden=64"],
        capture_output=True, text=True, timeout=200, check=False, env=env,
    )  # fmt: skip
    assert full.returncode == 1, full.stderr
    assert "Traceback" not in full.stderr
    last = full.stderr.splitlines()[-1]
    assert last.startswith("serkit: the disk is full (File too large) while writing "), last
    where = {4: r"/run/manifest\.jsonl", 40: "features under /.*", 160: r"/run/systems/.*/state\.pt"}[kib]
    assert re.search(where, last), last
    assert re.search("finished .* kept", last), last
    assert "free some space" in last
    assert not list((tmp_path / "run").rglob("*.part"))
    done = subprocess.run(
        ["bash", "-c", f"exec {words} --set train.epochs=2 --set model.hidden=64"],
        capture_output=True, text=True, timeout=200, check=False, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_killed_worker_leaves_nobody_behind(recipe, toy_root, tmp_path):
    """kill -9 of the parent while two processes train: they end too."""
    words = [str(w) for w in command(recipe, toy_root, tmp_path, 2)]
    with (tmp_path / "log").open("w") as said:
        process = subprocess.Popen([*words, "--set", "train.epochs=500"], stderr=said, start_new_session=True)
        limit = time.monotonic() + 90
        while not list((tmp_path / "run").rglob("state.pt")) and time.monotonic() < limit:
            time.sleep(0.1)
        process.kill()
        process.wait()
    limit = time.monotonic() + 30
    while _alive(process.pid) and time.monotonic() < limit:
        time.sleep(0.2)
    assert not _alive(process.pid)


def _alive(group: int) -> list[int]:
    """Processes of a group, from /proc; none where there is no /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found
