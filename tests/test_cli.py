"""The command line as people meet it, above all with bad input: one clear line, the right exit code, nothing lost."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer

from command_line import RATE_HZ, ask, run_table
from serkit import __version__, cli
from serkit.commands.options import difference_lines
from serkit.comparison import Difference
from serkit.metrics import METRICS
from serkit.store import FeatureStore
from serkit.types import Manifest, Utterance


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


# ---------------------------------------------------------------- what it says when all is well


def test_version_and_lists():
    assert ask("--version")[:2] == (0, f"serkit {__version__}\n")
    for words in ("corpora", "encoders", "recipes", "models", "losses", "augmentations"):
        code, said, _ = ask(words)
        assert code == 0
        rows = json.loads(ask(words, "--json")[1])
        assert len(rows) == len(said.splitlines())
        assert all(said.count(r["name"]) for r in rows)


def test_help_lists_every_command_once_with_its_whole_first_sentence():
    named = [name for names in cli.SECTIONS.values() for name in names]
    known = typer.main.get_command(cli.app).commands
    assert sorted(named) == sorted(known)
    said = " ".join(ask("--help")[1].split())
    for name, command in known.items():
        sentence = " ".join(command.help.split()).split(". ")[0].rstrip(".")
        assert f"{name} {sentence}." in said
    assert "serkit predict example --timeline" in said


@pytest.mark.parametrize("command", [("bundle", "run"), ("adapt", "calls"), ("import", "path:x")])
def test_a_name_is_one_line(command):
    for name in ("two\nlines", " ", ""):
        code, _, said = ask(*command, "-o", "out.zip", "--name", name)
        assert (code, said.count("is no name: expected characters that can be printed, on one line")) == (2, 1)


def test_run_prepare_and_the_stages_alone(recipe, clips, tmp_path):
    code, said, _ = ask("prepare", recipe, "--corpus", "table", "--root", clips, "--out", tmp_path / "run")
    assert (code, "{'train': " in said) == (0, True)
    code, said, error = run_table(recipe, clips, tmp_path)
    assert code == 0, error
    assert "report: " in said
    assert re.search(r"^stack +\d\.\d{3} +\d\.\d{3}", said, re.MULTILINE)
    assert re.search(r"^intervals: 95% .* bootstrap \(\d+ draws\), rough: ", said, re.MULTILINE)
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
    other = clips.with_name("other.csv")
    head, *rows = clips.read_text().splitlines()
    names = [row.split("/")[1].partition(".")[0] for row in rows]
    other.write_text("\n".join([f"{head},id", *(f"{r},other-{n}" for r, n in zip(rows, names, strict=True))]))
    ask("prepare", recipe, "--corpus", "table", "--root", other, "--out", tmp_path / "run")
    code, _, said = ask("compare", finished, tmp_path / "run")
    assert code == 2
    assert "have no labelled test clip in common" in said
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
    assert re.search(
        r"\d+ test clips have other labels in .*/a than in .*/b: 'anger' and 'neutral' for '[\w-]+' \(see map_labels\)",
        said,
    )


def test_compare_says_p_of_both_tests(finished):
    code, said, _ = ask("compare", finished, finished, "--system-b", "vote", "--draws", 20)
    assert code == 0
    found = re.findall(r"p = (\d\.\d{3}) \(bootstrap (\d\.\d{3}), permuted ([01]\.\d{3})\)   95% paired", said)
    assert len(found) == len(METRICS)
    assert all(p == max(each) for p, *each in found), "the larger one is to be believed"
    assert said.splitlines()[-1].endswith("not adjusted for the others: decide by the one chosen beforehand")


def test_of_too_few_speakers_compare_says_that_nothing_can_be_shown():
    """Regression: with two speakers p = 0.004 stood beside 'permuted 1.000', and nothing said which holds."""
    row = Difference(
        "uar", "a", "b", 0.9, 0.2, 0.7, 0.5, 0.8, p=0.004, p_permutation=0.5, p_mcnemar=None, p_holm=None,
        p_permutation_holm=None, detectable=0.1, n=40, speakers=2, interval="95% paired speaker bootstrap",
    )  # fmt: skip
    line, note = difference_lines([row])
    assert "p = 0.500 (bootstrap 0.004, permuted 0.500)" in line
    assert note.startswith("  with 2 speakers p cannot go below 0.5: these clips cannot show a difference")
    assert len(difference_lines([dataclasses.replace(row, speakers=6)])) == 1
    singly = "95% paired speaker bootstrap, 30 clips of unknown speakers drawn singly"
    assert len(difference_lines([dataclasses.replace(row, interval=singly)])) == 1


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
        (
            ["--corpus", "toy", "--root", "TOY", "--device", "gpu"],
            "'auto', 'cpu', 'cuda'; did you mean 'cpu'?",
        ),
        (["--corpus", "toy", "--root", "TOY", "--jobs", "-1"], "for '--jobs'"),
        (["--corpus", "toy", "--root", "TOY", "--job", "1"], "no such option: --job; did you mean '--jobs'? (see"),
        (["--corpus", "toy", "--root", "TOY", "--address", "h:1"], "the engine is local; add --engine ray"),
        ([], "missing option '--corpus' (see"),
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
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_recipes_that_are_wrong_are_one_line_and_2(tmp_path, toy_root):
    assert ask("run", "ofline12", "--corpus", "toy")[0::2] == (2, "no recipe 'ofline12'; did you mean 'offline12'?")
    assert ask("run", "zzz", "--corpus", "toy")[0::2] == (2, "no recipe 'zzz'; serkit recipes lists them")
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
        "zzzz/1": "no encoder 'zzzz'; serkit encoders lists them",
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


def test_rows_without_a_recording_or_a_label_are_told_before_anything_is_heard(recipe, clips, tmp_path):
    lines = clips.read_text().splitlines()
    lines[3] = lines[3].replace(".wav", "x.wav")
    cells = lines[4].split(",")
    cells[lines[0].split(",").index("emotion")] = ""
    clips.write_text("\n".join([*lines[:4], ",".join(cells), *lines[5:]]) + "\n")
    asked = ("prepare", recipe, "--corpus", "table", "--root", clips, "--out", tmp_path / "run")
    code, _, error = ask(*asked)
    assert code == 0, error
    n = len(lines) - 1
    gone = re.search(rf"note\s+1 of {n} rows have no recording \(such as (\S+x\.wav)\): .*exclude: \[(\S+)\]", error)
    assert gone, error
    assert re.search(r"note\s+clips without a label \(.*\): 1 of \d+ in (train|dev|test)\n", error), error
    code, _, error = ask(*asked[:-1], tmp_path / "without", "--set", f"exclude=[{gone[2]}]")
    assert code == 0, error
    assert "no recording" not in error
    assert "clips left out: 1 by name" in error


def test_20_ms_and_silence_pass_and_the_audit_names_them(recipe, clips, tmp_path):
    """A clip shorter than a window is padded to one: it trains, and the audit says what to look at."""
    soundfile.write(clips.parent / "clips" / "c4.wav", 0.1 * np.sin(np.arange(320)), RATE_HZ)
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


def test_a_label_in_a_manifest_does_not_control_the_terminal(tmp_path):
    label = "x\x1b[31m"
    rows = tuple(Utterance(f"u{k}", f"{k}.wav", split="train", emotion=label, speaker="s") for k in range(2))
    Manifest("c", (label, "y"), rows).save(tmp_path / "manifest.jsonl")
    _, said, _ = ask("audit", tmp_path / "manifest.jsonl", "--no-decode")
    assert "x\\x1b[31m" in said
    assert "x'" not in said, "click takes out what a terminal would obey, where it writes to none"


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


@pytest.mark.parametrize(
    ("words", "corpus"),
    [(["--corpus", "toy"], "toy"), (["--root", "X"], "NAME"), (["--root", "X", "--corpus", "a"], "")],
)
def test_audit_of_a_corpus_says_how_to_get_a_manifest(words, corpus):
    code, _, said = ask("audit", *words)
    assert code == 2
    assert f"serkit prepare RECIPE --corpus {corpus}" in said
    assert said.endswith("--out RUN, then serkit audit RUN/manifest.jsonl")


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["predict", "example", "--format", "tabl3"], "'vtt'; did you mean 'table'?"),
        (["predict", "example", "--by", "turm"], "'channel'; did you mean 'turn'?"),
        (["bundle", "RUN", "-o", "x", "--weights", "flaot16"], "'int8'; did you mean 'float16'?"),
    ],
)
def test_a_word_that_an_option_does_not_take_is_told_with_the_nearest(words, near):
    code, _, said = ask(*words)
    assert code == 2
    assert near in said


@pytest.mark.parametrize("clips_of_it", [1, 2])
def test_a_class_with_two_clips_is_named_with_what_to_do(recipe, clips, tmp_path, clips_of_it):
    edit(clips, lambda c, k: ",".join([c[0], "fear" if k < clips_of_it else c[1], *c[2:]]))
    code, _, said = run_table(recipe, clips, tmp_path)
    assert code == 2, said
    assert len(said.splitlines()) == 1
    assert "'fear'" in said
    assert "drop_labels" in said
    assert not (tmp_path / "run").exists()
    where = ["--corpus", "table", "--root", clips, "--out", tmp_path / "run"]
    assert ask("prepare", recipe, *where, "--set", "drop_labels=[fear]")[0] == 0


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
    before = features_of(recipe, clips, tmp_path)
    spoilt = [p for p in (tmp_path / "store").rglob(kind) if p.with_suffix(".npy").exists()]
    assert spoilt
    for shard in spoilt:
        spoil(shard)
    shutil.rmtree(tmp_path / "run")
    after = features_of(recipe, clips, tmp_path)
    assert [len(keys) for keys in after] == [3, 36, 36], "three texts, and the clips for each of two encoders"
    for old, new in zip(before, after, strict=True):
        assert old.keys() == new.keys()
        assert all(np.array_equal(old[key], new[key]) for key in old)


def features_of(recipe, clips, tmp_path):
    """What every encoder of a run has in the store, by key, after prepare and extract."""
    assert ask("prepare", recipe, "--corpus", "table", "--root", clips, "--out", tmp_path / "run")[0] == 0
    code, _, said = ask("extract", tmp_path / "run", "--store", tmp_path / "store", "--jobs", 1, "--device", "cpu")
    assert code == 0, said
    stores = [FeatureStore.open(folder) for folder in sorted((tmp_path / "store").iterdir()) if folder.is_dir()]
    return [{key: np.array(store.get(key)) for key in store} for store in stores]
