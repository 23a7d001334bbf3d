"""Runs that test on other corpora than they train on: what is measured, pooled, compared and refused."""

import dataclasses
import json
import re

import numpy as np
import pytest

from command_line import ask
from serkit import evaluation, pipeline
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.labels import join
from serkit.metrics import measure, with_truth
from serkit.recipe import parse_recipe
from serkit.reporting.matrix import headline, lines, sentences
from serkit.types import Manifest

PARTS = {
    "one": {"s1": "train", "s2": "dev", "s3": "test"},
    "two": {"s4": "train", "s5": "dev"},
    "three": {"s6": "train", "s7": "train", "s8": "dev"},
}


def corpora(root):
    """Three corpora of the toy's speakers: 'two' has no fear, and what 'three' calls boredom nobody else knows."""
    whole = toy(root)
    made = []
    for name, split in PARTS.items():
        rows = [dataclasses.replace(u, split=split[u.speaker], corpus=name) for u in whole if u.speaker in split]
        if name == "two":
            rows = [u for u in rows if u.emotion != "fear"]
        if name == "three":
            rows = [dataclasses.replace(u, emotion="boredom", votes=None) if u.emotion == "fear" else u for u in rows]
        labels = tuple(sorted({u.emotion for u in rows}))
        info = {"protocol": "made", "fold": 1, "folds": 1}
        made.append(
            dataclasses.replace(
                whole, corpus=name, labels=labels, utterances=tuple(rows), class_sets={name: labels}, info=info
            )
        )
    return join(made)


@pytest.fixture(scope="module")
def left_out(tmp_path_factory, toy_root, toy_store, small_text):
    """Each of three corpora left out in turn."""
    out = tmp_path_factory.mktemp("across") / "cv"
    recipe = parse_recipe(small_text, ["train.epochs=1"])
    machine = pipeline.Machine(toy_store, "cpu", jobs=1)
    told = []
    folds = pipeline.leave_out(corpora(toy_root))
    page = pipeline.cross_validate(recipe, folds, (1, 2, 3), out, machine, told.append)
    assert page == out / "report" / "report.html"
    return out


def tree_of(folder, name="report.json"):
    return json.loads((folder / "report" / name).read_text())


def test_each_corpus_is_test_once_and_never_in_its_own_training(left_out):
    for run, name in zip(pipeline.runs_of(left_out), PARTS, strict=True):
        assert {u.corpus for u in run.manifest.split("test")} == {name}
        assert {u.corpus for u in run.manifest if u.split in ("train", "dev")} == set(PARTS) - {name}
        assert not {u.speaker for u in run.manifest.split("test")} & {
            u.speaker for u in run.manifest if u.split in ("train", "dev")
        }
        assert run.manifest.info["fold"] == name


def test_each_corpus_is_measured_among_shared_classes_with_its_own_n(left_out):
    tree = tree_of(left_out)
    assert [r["tested_on"] for r in tree["across"]] == list(PARTS)
    one, two, three = tree["across"]
    assert one["shared"] == ["anger", "happiness", "neutral", "sadness"]
    assert one["left_out"] == {"fear": 6}
    assert one["untested"] == ["boredom"]
    assert two["left_out"] == {}
    assert three["left_out"] == {"boredom": 6}
    assert "fear" in three["untested"]
    for row, run in zip(tree["across"], pipeline.runs_of(left_out), strict=True):
        for system in ("sound", "both", "stack", "vote"):
            rows = evaluation.decide(run.predictions(system, "test"), run.manifest, split="test")
            said = {rows.labels[k] for k in rows.answer}
            assert said <= set(row["shared"]), "an answer outside the shared classes"
            value = float(measure("uar", rows.confusion(), with_truth(rows.confusion())))
            found = row["systems"][system]["uar"]
            assert found["value"] == pytest.approx(value, abs=1e-12)
            assert (found["n"], found["speakers"]) == (len(rows.truth), row["speakers"])
            assert found["low"] <= found["value"] <= found["high"]
            assert "speaker bootstrap" in found["interval"]


def test_the_pool_holds_every_test_clip_once_under_all_labels(left_out):
    tree = tree_of(left_out)
    assert tree["labels"] == ["anger", "boredom", "fear", "happiness", "neutral", "sadness"]
    assert set(tree["systems"]["stack"]) == {"test"}
    runs = pipeline.runs_of(left_out)
    right = []
    for run in runs:
        rows = evaluation.decide(run.predictions("stack", "test"), run.manifest, split="test")
        right += (rows.answer == rows.truth).tolist()
    found = tree["systems"]["stack"]["test"]["accuracy"]
    assert found["n"] == len(right) == sum(r["n"] for r in tree["across"])
    assert found["value"] == pytest.approx(np.mean(right))
    by_corpus = tree["details"]["stack"]["test"]["slices"]["corpus"]
    for row in tree["across"]:
        assert by_corpus[row["tested_on"]]["uar"]["value"] == pytest.approx(row["systems"]["stack"]["uar"]["value"])
    assert set(tree["scaled"]["stack"]) == {"test"}
    assert len(tree["scaled"]["stack"]["test"]["temperature"]) == 3


def test_the_page_says_who_trained_who_is_test_and_what_is_left_out(left_out):
    text = (left_out / "report" / "report.md").read_text()
    assert "Each of 3 corpora was left out in turn: UAR " in text
    assert "No speaker and no recording of a test corpus is in its training" in text
    assert "Trained on two and three, tested on one: the stack" in text
    assert re.search(r"the stack has a UAR of .* \(rough\) among", text)
    assert "Left out are 6 clips of classes that training does not know: fear (6)." in text
    assert "Classes of training that are never an answer here: boredom." in text
    assert "| mean of corpora ± sd" in text
    assert "The stack has a mean UAR of " in text
    assert "rough intervals: one (3 speakers), two (2 speakers) and three (3 speakers); below 20" in text
    assert "### By fold" not in text
    assert "dev Macro-F1" not in text
    one = (left_out / "fold1" / "report" / "report.md").read_text()
    assert "**Trained on two and three, tested on one: UAR " in one
    assert " among 4 shared classes.**" in one
    classes = one[one.index("## By class") : one.index("## By group")]
    assert "boredom" not in classes, "a class that could not be answered has no row"


def test_a_second_call_trains_nothing_again(left_out, toy_root, toy_store, small_text):
    networks = {p: p.stat().st_mtime_ns for p in left_out.glob("fold*/systems/*/*/model.safetensors")}
    assert len(networks) == 12
    before = tree_of(left_out)
    (left_out / "report" / "report.json").unlink()
    recipe = parse_recipe(small_text, ["train.epochs=1"])
    machine = pipeline.Machine(toy_store, "cpu", jobs=1)
    pipeline.cross_validate(recipe, pipeline.leave_out(corpora(toy_root)), (1, 2, 3), left_out, machine)
    assert {p: p.stat().st_mtime_ns for p in networks} == networks
    after = tree_of(left_out)
    before["provenance"].pop("run"), after["provenance"].pop("run")
    assert after == before


def test_two_such_runs_are_compared(left_out):
    code, out, _ = ask(
        "compare", left_out, left_out, "--system-a", "both", "--system-b", "sound", "--json", "--draws", 20
    )
    assert code == 0
    found = {d["metric"]: d for d in json.loads(out)}
    tree = tree_of(left_out)
    for side, system in (("value_a", "both"), ("value_b", "sound")):
        assert found["uar"][side] == pytest.approx(tree["systems"][system]["test"]["uar"]["value"])
    assert found["uar"]["n"] == tree["systems"]["both"]["test"]["uar"]["n"]
    code, out, _ = ask("compare", left_out / "fold1", left_out / "fold1", "--system-b", "vote", "--draws", 20)
    assert code == 0
    assert "test, n = 24" in out


def test_a_recording_in_training_and_test_is_refused_before_anything_is_extracted(tmp_path, toy_root, small_text):
    joined = corpora(toy_root)
    first = next(u for u in joined if u.corpus == "one")
    other = next(u for u in joined if u.corpus == "two")
    copied = tmp_path / "copy.wav"
    copied.write_bytes(joined.audio_path(first).read_bytes())
    rows = tuple(dataclasses.replace(u, audio=str(copied)) if u is other else u for u in joined)
    joined = dataclasses.replace(joined, utterances=rows)
    run = pipeline.prepare(parse_recipe(small_text), pipeline.leave_out(joined)(2), tmp_path / "run")
    with pytest.raises(SerkitError, match=r"1 test clips? of 'two' .*recording.*'two\..*' and 'one\..*'\).*exclude"):
        pipeline.extract_run(run, pipeline.Machine(tmp_path / "store", "cpu", jobs=1))
    assert not list((tmp_path / "store").glob("*/*.npy"))
    recipe = parse_recipe(small_text, [f"exclude=[{other.id}]"])
    run = pipeline.prepare(recipe, pipeline.leave_out(joined)(2), tmp_path / "other")
    pipeline.elsewhere.check_recordings(run.manifest, pipeline.Machine(tmp_path / "store", "cpu", jobs=1))


@pytest.fixture(scope="module")
def matrix(tmp_path_factory, toy_root, toy_store, small_text):
    """Each of three corpora trains alone, and all are test."""
    out = tmp_path_factory.mktemp("across") / "matrix"
    text = parse_recipe(small_text, ["train.epochs=1", "stack=null", "crossfit=null"])
    recipe = text.model_copy(update={"systems": {"sound": text.systems["sound"]}})
    machine = pipeline.Machine(toy_store, "cpu", jobs=1)
    folds = pipeline.leave_out(corpora(toy_root), others=True)
    page = pipeline.cross_validate(recipe, folds, (1, 2, 3), out, machine)
    assert page == out / "report" / "matrix.html"
    return out


def test_the_matrix_has_every_pair_and_the_own_test_speakers(matrix):
    tree = tree_of(matrix, "matrix.json")
    pairs = [(r["trained_on"], r["tested_on"], r["own"]) for r in tree["rows"]]
    assert pairs == [
        (["one"], "two", False), (["one"], "three", False), (["one"], "one", True),
        (["two"], "one", False), (["two"], "three", False),
        (["three"], "one", False), (["three"], "two", False),
    ]  # fmt: skip
    own = tree["rows"][2]
    assert (own["n"], own["speakers"], own["left_out"]) == (10, 1, {})
    assert tree["rows"][3]["left_out"] == {"fear": 6}
    assert lines(tree)[-2] == "intervals on two, three and one are rough: fewer than 20 speakers"
    text = (matrix / "report" / "matrix.md").read_text()
    assert "Trained on one corpus, tested on another: UAR " in text
    assert "own speakers" in text
    page = (matrix / "report" / "matrix.html").read_bytes()
    assert b"left out: fear 6" in page
    (matrix / "report" / "matrix.html").unlink()
    code, out, _ = ask("report", matrix)
    assert (code, out.strip()) == (0, f"report: {matrix / 'report' / 'matrix.html'}")
    assert (matrix / "report" / "matrix.html").read_bytes() == page


def test_a_matrix_of_splits_that_share_speakers_says_so(matrix):
    tree = tree_of(matrix, "matrix.json")
    assert sentences(tree)[0].startswith("No speaker and no recording is on both sides of a cell: speakers are told")
    tree["provenance"]["speakers_shared"] = True
    assert "On the diagonal this does not hold: the splits of some corpus share speakers." in sentences(tree)[0]
    assert "on other clips, some of known speakers, of the same corpus" in headline(tree)


def test_matrices_are_compared_fold_by_fold(matrix):
    code, _, said = ask("compare", matrix, matrix)
    assert code == 2
    assert "is a table of train by test; name a fold of it, such as" in said
    assert ask("compare", matrix / "fold1", matrix / "fold1")[0] == 0


@pytest.fixture
def tables(tmp_path, toy_root):
    """Two tables of the toy's recordings: four speakers with a split to be made, and three others without speakers."""
    found = []
    for name, speakers in (("mine", ("s1", "s2", "s3", "s4")), ("other", ("s6", "s7", "s8"))):
        lines = ["path,emotion,speaker"]
        for u in toy(toy_root):
            if u.speaker in speakers:
                lines.append(f"{toy_root / u.audio},{u.emotion},{u.speaker if name == 'mine' else ''}")
        path = tmp_path / f"{name}.csv"
        path.write_text("\n".join(lines) + "\n")
        found += ["--corpus", "table", "--root", path]
    return found


@pytest.mark.parametrize("option", [["--test-on", "table-other"], ["--no-test"]])
def test_a_table_that_only_trains_needs_no_test_rows(option, tables, recipe, tmp_path):
    mine = tmp_path / "mine.csv"
    rows = mine.read_text().splitlines()[1:]
    split = [f"{row},{'dev' if row.endswith('s4') else 'train'}" for row in rows]
    mine.write_text("\n".join(["path,emotion,speaker,split", *split]) + "\n")
    corpora = tables if option[0] == "--test-on" else ["--corpus", "table", "--root", mine]
    more = ["--set", "transcripts=null", "--set", "systems.both.features=[logmel/24]", "--out", tmp_path / "run"]
    code, _, said = ask("prepare", recipe, *corpora, *option, *more)
    assert code == 0, said
    made = Manifest.load(tmp_path / "run" / "manifest.jsonl")
    assert {u.speaker.rpartition(".")[2] for u in made.split("dev")} == {"s4"}
    assert len(made.split("test")) == (30 if option[0] == "--test-on" else 0)


def test_run_tests_on_a_table_that_needs_no_split_and_no_speakers(tables, recipe, tmp_path, toy_store):
    where = ["--out", tmp_path / "run", "--store", toy_store, "--jobs", 1, "--device", "cpu", "--set", "train.epochs=1"]
    where += ["--set", "transcripts=null", "--set", "systems.both.features=[logmel/24]"]
    code, out, said = ask("run", recipe, *tables, "--test-on", "table-other", *where)
    assert code == 0, said
    assert "Trained on table-mine, tested on table-other: the stack (" in out
    tree = tree_of(tmp_path / "run")
    assert tree["across"][0]["n"] == 30
    assert tree["across"][0]["train"]["clips"] == 30, "three speakers train, one is dev"


ABLATED = """
name: apart
systems:
  net:
    features: [{name: logmel/24, pool: 8}]
    model: {name: flam, heads: 2, width: 8, bottleneck: 4}
    losses: [kl_soft, center_loss]
    train: {epochs: 1, batch_size: 32}
evaluate: {draws: 20}
"""


def test_an_ablation_tests_on_another_corpus(tables, tmp_path, toy_store):
    path = tmp_path / "apart.yaml"
    path.write_text(ABLATED)
    where = ["--out", tmp_path / "out", "--store", toy_store, "--jobs", 1, "--device", "cpu", "--seeds", 1]
    code, _, said = ask("ablate", path, *tables, "--test-on", "table-other", "--over", "losses", *where)
    assert code == 0, said
    run = pipeline.Run(next((tmp_path / "out" / "runs" / "full").iterdir()))
    assert {u.corpus for u in run.manifest.split("test")} == {"table-other"}
    tree = tree_of(tmp_path / "out", "ablation.json")
    rows = evaluation.decide(run.predictions("net", "test"), run.manifest, split="test")
    value = float(measure("macro_f1", rows.confusion(), rows.possible))
    found = tree["variants"][0]["values"]["test"]["macro_f1"]
    assert (found["mean"], found["n"]) == (pytest.approx(value, abs=1e-12), 30)
    page = (tmp_path / "out" / "report" / "ablation.md").read_text()
    assert "trained on table-mine, tested on table-other (answers among 5 shared classes)" in page
    assert "--fold all" not in page, "folds of several corpora are not pooled"
    code, _, line = ask("ablate", path, *tables, "--test-on", "table-otter", *where)
    assert (code, line.split(";")[-1]) == (2, " did you mean 'table-other'?")


def test_a_search_tests_its_choice_on_another_corpus_that_no_trial_sees(tables, tmp_path, toy_store):
    path, out = tmp_path / "apart.yaml", tmp_path / "out"
    path.write_text(ABLATED)
    where = ["--out", out, "--store", toy_store, "--jobs", 1, "--device", "cpu"]
    tried = ["--try", "train.lr=3e-2"]
    code, _, said = ask("tune", path, *tables, "--test-on", "table-other", *tried, *where)
    assert code == 0, said
    assert "tested on table-other: 30 clips, answered among 5 shared classes" in said
    places = sorted(out.glob("trials/*/fold1-*"))
    assert len(places) == 2
    for place in places:
        run = pipeline.Run(place)
        assert {u.corpus for u in run.manifest if u.split} == {"table-mine"}
        assert "across" not in run.manifest.info
        assert not list(place.rglob("*test*"))
        assert not any(key.startswith("table-other") for found in run.features.values() for key in found.keys)
    tree = tree_of(out, "tuning.json")
    run = pipeline.Run(next(out.glob(f"test/{tree['best']}/fold1-*")))
    assert {u.corpus for u in run.manifest.split("test")} == {"table-other"}
    trial = pipeline.Run(out / "trials" / tree["best"] / run.folder.name)
    assert trial.manifest.labels == run.manifest.labels
    networks = [next(r.folder.rglob("model.safetensors")).read_bytes() for r in (trial, run)]
    assert networks[0] == networks[1], "the network that dev chose is the one measured"
    rows = evaluation.decide(run.predictions(run.lead, "test"), run.manifest, split="test")
    found = tree["test"]["values"]["chosen"]["macro_f1"]
    assert found["mean"] == pytest.approx(float(measure("macro_f1", rows.confusion(), rows.possible)))
    page = (out / "report" / "tuning.md").read_text()
    assert "trained on table-mine, tested on table-other (answers among 5 shared classes)" in page


def test_a_search_refuses_a_test_recording_that_trains_before_its_first_trial(tables, tmp_path, toy_store):
    path, other = tmp_path / "apart.yaml", tmp_path / "other.csv"
    path.write_text(ABLATED)
    heard = (tmp_path / "mine.csv").read_text().splitlines()[1].split(",")[0]
    head, first, *rest = other.read_text().splitlines()
    other.write_text("\n".join([head, ",".join([heard, *first.split(",")[1:]]), *rest]) + "\n")
    where = ["--out", tmp_path / "out", "--store", toy_store, "--jobs", 1, "--device", "cpu"]
    code, _, line = ask("tune", path, *tables, "--test-on", "table-other", "--try", "train.lr=3e-2", *where)
    assert code == 2
    assert line.startswith("1 test clips of 'table-other' are recordings of the training corpora too")
    assert not list((tmp_path / "out").rglob("model.safetensors"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--test-on", "table-othr"], "did you mean 'table-other'"),
        (["--test-on", "table-mine", "--test-on", "table-other"], "names every corpus given"),
        (["--test-on", "table-other", "--no-test"], "contradict each other"),
    ],
)
def test_what_cannot_be_tested_on_is_one_line(tables, recipe, tmp_path, words, said):
    code, _, line = ask("run", recipe, *tables, *words, "--out", tmp_path / "run")
    assert code == 2
    assert said in line
    assert "\n" not in line.strip()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("command", "fold", "said"),
    [
        (["tune", "--try", "train.lr=3e-2"], "all", "with 2 corpora (--test-on too) give one number"),
        (["ablate", "--over", "losses"], "1,2", "with 2 corpora (--test-on too) give one number"),
        (["cv"], "all", "cv takes no --test-on, because every fold would have the same test clips"),
    ],
)
def test_folds_of_a_test_on_another_corpus_are_one_line(tables, recipe, tmp_path, command, fold, said):
    """Regression: tune and ablate spoke of cross-validation and --leave-out, which they do not have; cv of --store."""
    words = [*command, *tables, "--test-on", "table-other", "--fold", fold, "--out", tmp_path / "out"]
    code, _, line = ask(words[0], recipe, *words[1:])
    assert (code, said in line, "\n" in line.strip()) == (2, True, False)
    assert not (tmp_path / "out").exists()


def test_leave_out_needs_two_corpora_and_at_most_one_fold(recipe, tmp_path, toy_root):
    words = ["cv", recipe, "--corpus", "toy", "--root", toy_root, "--leave-out", "corpus", "--out", tmp_path / "cv"]
    code, _, line = ask(*words)
    assert (code, "needs two corpora or more, got 'toy' alone" in line) == (2, True)
    code, _, line = ask(*words, "--folds", "1,2")
    assert (code, "with --leave-out each corpus is a fold" in line) == (2, True)
    code, _, line = ask(*words, "--fold", "9")
    assert (code, "has folds 1 to 4, got fold 9" in line) == (2, True)


def test_leave_out_reads_the_fold_that_is_named(recipe, tmp_path, toy_root, monkeypatch):
    read = []

    def reading(*_, fold, **__):
        read.append(fold)
        raise SerkitError("that was all")

    monkeypatch.setattr("serkit.readers.read_corpora", reading)
    words = ["cv", recipe, "--corpus", "toy", "--corpus", "ased", "--leave-out", "corpus", "--out", tmp_path / "cv"]
    for more in ([], ["--fold", "1"], ["--folds", "2"]):
        assert ask(*words, *more)[2] == "that was all"
    assert read == [1, 1, 2]
