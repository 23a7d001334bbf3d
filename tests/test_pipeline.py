import dataclasses
import errno
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from reported import report
from serkit import pipeline
from serkit.corpora.toy import toy
from serkit.crossfit import crossfit_folds
from serkit.errors import SerkitError
from serkit.files import made_folder
from serkit.labels import join
from serkit.pipeline.stages import Notice, StageBegins
from serkit.predictions import Predictions
from serkit.readers import read_corpora
from serkit.recipe import parse_recipe
from serkit.serving import model_card
from serkit.stacking import ENSEMBLES, UNFITTED
from serkit.training import MEMBERS
from serkit.types import Manifest


@pytest.fixture
def machine(toy_store):
    return pipeline.Machine(toy_store, "cpu", jobs=1)


def run_of(text, manifest, folder, machine, *overrides):
    run = pipeline.prepare(parse_recipe(text, overrides), manifest, folder)
    stages = []
    pipeline.run_all(run, machine, lambda e: stages.append(e) if isinstance(e, StageBegins) else None)
    return run, [s.stage for s in stages]


def test_a_run_leaves_everything_it_promises(finished, toy_root):
    run = pipeline.Run(finished)
    for name in ("recipe.yaml", "manifest.jsonl", "report/report.json", "report/report.html", "report/report.md"):
        assert (finished / name).stat().st_size > 0, name
    for system in ("sound", "both"):
        for model in ("fold0", "fold1"):
            files = {p.name for p in run.network(system, model).iterdir()}
            assert {"model.safetensors", "config.json", "history.jsonl"} <= files
            assert "state.pt" not in files
    tree = report(finished)
    kept = load_file(run.network("sound", "fold0") / "model.safetensors")
    assert tree["design"]["sound"]["weights"] == sum(tensor.size for tensor in kept.values()) > 1000
    assert set(tree["systems"]) >= {"sound", "both", "stack", "vote", "mean_logit", "mean_probability"}
    assert "mean_probability" not in {c[side] for c in tree["comparisons"] for side in "ab"}  # Holm stays as it was
    for name in ("sound", "both", "stack", "vote", "mean_logit", "mean_probability"):
        for split in ("train", "dev", "test"):
            for metric in ("macro_f1", "uar", "accuracy", "weighted_f1", "bs_f1"):
                found = tree["systems"][name][split][metric]
                assert set(found) == {"value", "low", "high", "n", "speakers", "interval"}
                assert found["low"] <= found["value"] <= found["high"] or metric == "bs_f1"
    assert not list(finished.rglob("*.part"))


def test_training_scores_are_out_of_fold_and_every_row_is_there_once(finished):
    run = pipeline.Run(finished)
    train = run.manifest.split("train")
    speaker = {u.id: u.speaker for u in train}
    for system in ("sound", "both"):
        table = run.predictions(system, "train")
        assert table.ids == train.ids
        assert not table.seen.any()
        by_model = [
            {speaker[i] for i, m in zip(table.ids, table.models, strict=True) if m == f"fold{k}"} for k in (0, 1)
        ]
        assert not by_model[0] & by_model[1]
        for split in ("dev", "test"):
            scores = run.predictions(system, split)
            assert len(scores) == 2 * len(run.manifest.split(split))
            assert set(scores.models) == {"fold0", "fold1"}
            assert not scores.seen.any()


def test_done_is_done(finished, machine):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    told = []
    pipeline.run_all(pipeline.Run(finished), machine, told.append)
    assert not [e for e in told if isinstance(e, StageBegins)]  # files just written may be compared once more
    assert before == {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}


def test_a_report_that_is_gone_is_made_again(finished, machine):
    before = report(finished)
    for name, stages in {"report.html": ["report"], "report.json": ["evaluate", "report"]}.items():
        (finished / "report" / name).unlink()
        begun = []
        pipeline.run_all(pipeline.Run(finished), machine, begun.append)
        assert [e.stage for e in begun if isinstance(e, StageBegins)] == stages
        assert (finished / "report" / "report.html").is_file()
    assert report(finished)["systems"] == before["systems"]


def test_networks_and_scores_that_are_gone_are_made_again(finished, machine):
    before = report(finished)
    run = pipeline.Run(finished)
    network = run.network("sound", "fold1") / "model.safetensors"
    weights = network.read_bytes()
    for gone, stages in {
        network: ["train", "stack", "evaluate", "report"],
        run.predictions_path("sound", "dev"): ["train", "stack", "evaluate", "report"],
        run.predictions_path("mean_logit", "test"): ["stack", "evaluate", "report"],
    }.items():
        gone.unlink()
        begun = []
        pipeline.run_all(pipeline.Run(finished), machine, begun.append)
        assert [event.stage for event in begun if isinstance(event, StageBegins)] == stages
        assert gone.is_file()
    assert network.read_bytes() == weights
    assert report(finished) == before


def test_columns_asked_for_are_in_the_report(small_text, finished, toy_root, tmp_path, machine):
    folder = shutil.copytree(finished, tmp_path / "grouped")
    manifest = toy(toy_root)
    asked = parse_recipe(small_text, ["evaluate.groups=[repetition, speaker]"])
    with pytest.raises(SerkitError, match="no utterance has a value in the column 'repetiton'"):
        pipeline.prepare(parse_recipe(small_text, ["evaluate.groups=[repetiton]"]), manifest, folder)
    run = pipeline.prepare(asked, manifest, folder)
    begun = []
    pipeline.run_all(run, machine, lambda event: begun.append(getattr(event, "stage", "")))
    assert [stage for stage in begun if stage] == ["stack", "evaluate", "report"], "no network is trained again"
    tree, before = report(folder), report(finished)
    speakers = {u.speaker for u in run.manifest.split("test")}
    slices = tree["details"]["stack"]["test"]["slices"]
    assert set(slices["speaker"]) == speakers
    assert {k: v for k, v in slices.items() if k in before["details"]["stack"]["test"]["slices"]} == before["details"][
        "stack"
    ]["test"]["slices"]
    assert set(tree["gaps"]) == {tree["lead"]}
    assert tree["gaps"][tree["lead"]]["test"]["speaker"]["left_out"].keys() == speakers
    page = (folder / "report" / "report.md").read_text(encoding="utf-8")
    assert "### Speaker: " in page


def test_a_folder_that_cannot_be_made_is_refused(small_text, toy_root, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file" / "run", tmp_path / "file" / "deep" / "run", Path("/proc/serkit-run")):
        with pytest.raises(SerkitError, match=f"{folder} cannot be made: .*; choose another --out"):
            pipeline.prepare(parse_recipe(small_text), toy(toy_root), folder)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_place_where_nothing_may_be_written_is_wrong_input(small_text, toy_root, tmp_path, monkeypatch, number):
    """It was a failure that claimed to have kept finished work."""
    folder, mkdir = tmp_path / "locked" / "run", Path.mkdir

    def locked(self, *args, **kwargs):
        if self == folder:
            raise OSError(number, os.strerror(number), str(self))
        mkdir(self, *args, **kwargs)

    corpus = toy(toy_root)
    monkeypatch.setattr(Path, "mkdir", locked)
    with pytest.raises(SerkitError, match=f"{folder} cannot be made: .*; choose another --out") as caught:
        pipeline.prepare(parse_recipe(small_text), corpus, folder)
    assert caught.value.exit_code == 2
    with pytest.raises(SerkitError, match=f"{folder} cannot be made: .*; choose another --out"):
        made_folder(folder)


def test_stages_alone_are_the_run(finished, small_text, toy_root, tmp_path, machine):
    run = pipeline.prepare(parse_recipe(small_text), toy(toy_root), tmp_path / "alone")
    pipeline.extract_run(run, machine)
    pipeline.train_run(pipeline.Run(run.folder), machine)
    pipeline.stack_run(pipeline.Run(run.folder))
    pipeline.evaluate_run(pipeline.Run(run.folder))
    pipeline.report_run(pipeline.Run(run.folder))
    assert report(run.folder) == report(finished)
    for path in sorted((finished / "systems").rglob("model.safetensors")):
        assert path.read_bytes() == (run.folder / path.relative_to(finished)).read_bytes()


def test_worker_processes_give_what_one_process_gives(finished, small_text, toy_root, tmp_path, toy_store):
    run = pipeline.prepare(parse_recipe(small_text), toy(toy_root), tmp_path / "two")
    events = []
    machine = pipeline.Machine(toy_store, "cpu", jobs=2)
    pipeline.extract_run(run, machine)
    pipeline.train_run(run, machine, events.append)
    for split in ("train", "dev", "test"):
        for system in ("sound", "both"):
            a, b = (pipeline.Run(f).predictions(system, split) for f in (finished, run.folder))
            assert (a.ids, a.models) == (b.ids, b.models)
            assert np.allclose(a.scores, b.scores, atol=1e-4)
    told = [(e.system, e.model) for e in events if getattr(e, "last", False)]
    assert sorted(told) == sorted((s, f"fold{k}") for s in ("sound", "both") for k in (0, 1))


def test_a_stage_before_its_time_says_what_to_run(small_text, toy_root, tmp_path, machine):
    run = pipeline.prepare(parse_recipe(small_text), toy(toy_root), tmp_path / "early")
    with pytest.raises(SerkitError, match="not extracted; run extract first"):
        pipeline.train_run(run, machine)
    with pytest.raises(SerkitError, match="no predictions at"):
        pipeline.stack_run(run)
    with pytest.raises(SerkitError, match=r"early: there is no stack yet for this recipe.yaml; run stack first"):
        pipeline.evaluate_run(run)
    with pytest.raises(SerkitError, match="holds no run"):
        pipeline.Run(tmp_path)


def test_the_stack_of_other_settings_is_not_measured_as_that_of_these(finished, small_text, toy_root, machine):
    """Between prepare and stack, what lies in the folder is of the recipe before."""
    before = report(finished)
    pipeline.prepare(parse_recipe(small_text, ["stack.seed=9", "stack.min_leaf=900"]), toy(toy_root), finished)
    with pytest.raises(SerkitError, match=r"there is no stack yet for this recipe.yaml; run stack first"):
        pipeline.evaluate_run(pipeline.Run(finished), machine)
    assert report(finished) == before
    told = []
    pipeline.stack_run(pipeline.Run(finished), told.append)
    (notice,) = (event.text for event in told if isinstance(event, Notice))
    assert re.match(r"no tree of the random forest splits its \d+ training rows in leaves of 900 or more", notice)
    pipeline.evaluate_run(pipeline.Run(finished), machine)
    assert report(finished)["stack"]["settings"]["seed"] == 9
    pipeline.run_all(pipeline.prepare(parse_recipe(small_text), toy(toy_root), finished), machine)
    assert report(finished) == before


def test_trained_and_not_scored_is_scored_and_not_trained(finished, machine):
    run = pipeline.Run(finished)
    out = run.network("sound", "fold1")
    scores = Predictions.load(out / "dev.parquet").scores
    stamp = (out / "model.safetensors").stat().st_mtime_ns
    (out / "dev.parquet").unlink()
    events = []
    pipeline.train_run(run, machine, events.append)
    assert [e.stage for e in events] == ["train"]
    assert (out / "model.safetensors").stat().st_mtime_ns == stamp
    assert np.array_equal(Predictions.load(out / "dev.parquet").scores, scores)


def test_another_run_in_the_folder_is_refused(finished, small_text, toy_root, tmp_path):
    with pytest.raises(SerkitError, match="another recipe or other settings; choose another --out"):
        pipeline.prepare(parse_recipe(small_text, ["seed=8"]), toy(toy_root), finished)
    with pytest.raises(SerkitError, match="other data, labels or splits"):
        pipeline.prepare(parse_recipe(small_text), toy(toy_root, fold=2), finished)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(SerkitError, match="not empty and holds no run"):
        pipeline.prepare(parse_recipe(small_text), toy(toy_root), tmp_path / "mine")


def test_a_half_made_folder_is_taken_up(small_text, toy_root, tmp_path):
    recipe = parse_recipe(small_text)
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    (folder / ".manifest.jsonl.77-1.part").write_text("{")
    assert len(pipeline.prepare(recipe, toy(toy_root), folder).manifest) == 80


def test_moved_recordings_are_the_same_run(finished, small_text, toy_root, tmp_path):
    moved = Path(shutil.copytree(toy_root, tmp_path / "moved"))
    run = pipeline.prepare(parse_recipe(small_text), toy(moved), finished)
    assert run.manifest.root == str(moved)


def test_refit_scores_dev_and_test_with_one_network(small_text, toy_root, tmp_path, machine):
    run, _ = run_of(small_text, toy(toy_root), tmp_path / "r", machine, "crossfit.refit=true", "train.epochs=1")
    assert run.models == ("fold0", "fold1", "full")
    assert not run.predictions("sound", "train").seen.any()
    assert set(run.predictions("sound", "test").models) == {"full"}
    assert len(run.predictions("stack", "test").ids) == len(run.manifest.split("test"))


def test_with_dev_in_the_cross_fit_every_speaker_trains_and_nothing_is_scored_by_who_heard_it(
    small_text, toy_root, tmp_path, machine
):
    changes = ("crossfit.with_dev=true", "crossfit.folds=3", "train.epochs=1", "train.select=last")
    run, _ = run_of(small_text, toy(toy_root), tmp_path / "r", machine, *changes)
    by_split = {s: {u.speaker for u in run.manifest.split(s)} for s in ("train", "dev")}
    folds = [{run.manifest.utterances[run.manifest.ids.index(i)].speaker for i in held} for held in _held(run)]
    assert set().union(*folds) == by_split["train"] | by_split["dev"]
    assert sum(map(len, folds)) == len(set().union(*folds))
    for split in ("train", "dev"):
        table = run.predictions("sound", split)
        assert table.ids == tuple(u.id for u in run.manifest.split(split))
        assert not table.seen.any()
    assert set(run.predictions("sound", "test").models) == {"fold0", "fold1", "fold2"}
    assert {"train", "dev", "test"} <= set(report(run.folder)["systems"]["stack"])
    assert pipeline.run_all(run, machine).is_file()  # nothing is left to do


def test_several_refits_are_trained_on_every_speaker_and_differ(small_text, toy_root, tmp_path, machine):
    changes = ("crossfit={folds: 2, refit: 2, with_dev: true}", "train.epochs=1", "train.select=last")
    run, _ = run_of(small_text, toy(toy_root), tmp_path / "r", machine, *changes)
    assert run.models == ("fold0", "fold1", "full", "full2")
    learned = {u.id for u in run.manifest if u.split in ("train", "dev")}
    first, second = (Predictions.load(run.network("sound", m) / "train.parquet") for m in ("full", "full2"))
    assert set(first.ids) == set(second.ids) == learned
    assert np.concatenate([first.seen, second.seen]).all()
    assert not np.allclose(first.scores, second.scores)
    for split in ("train", "dev"):  # what measures the run is held out
        assert set(run.predictions("sound", split).models) == {"fold0", "fold1"}
        assert not run.predictions("sound", split).seen.any()
    assert set(run.predictions("sound", "test").models) == {"full", "full2"}
    assert not any(key.startswith("dev_") for row in run.history("sound")["full2"] for key in row)
    assert "dev_macro_f1" in run.history("sound")["fold1"][0]
    assert report(run.folder)["systems"]["stack"]["test"]["macro_f1"]["n"] == len(run.manifest.split("test"))
    card = model_card._results(report(run.folder), "mean_logit", run)
    assert "predictions are the average of other networks, 2 of each system, that were trained on all of these" in card
    assert "Calibration, thresholds and sets were fitted on those out-of-fold scores." in card


def test_a_refit_with_dev_in_the_cross_fit_has_no_clips_to_choose_an_epoch_on(small_text):
    with pytest.raises(SerkitError, match=r"no clips to choose an epoch of a refit on, and 'sound' has"):
        parse_recipe(small_text, ["crossfit.with_dev=true", "crossfit.refit=true", "train.select=macro_f1"])
    with pytest.raises(SerkitError, match=r"crossfit\.refit: input should be greater than or equal to 0, got -1"):
        parse_recipe(small_text, ["crossfit.refit=-1"])


def _held(run):
    return [Predictions.load(run.network("sound", m) / "train.parquet").ids for m in run.models]


def test_without_cross_fit_or_stack(small_text, toy_root, tmp_path, machine):
    run, _ = run_of(small_text, toy(toy_root), tmp_path / "r", machine, "crossfit=null", "stack=null", "train.epochs=1")
    assert run.models == ("full",)
    assert run.predictions("sound", "train").seen.all()
    tree = report(run.folder)
    assert "stack" not in tree["systems"]
    assert set(UNFITTED) <= set(tree["systems"])
    assert run.lead == tree["lead"] == tree["mistakes"]["system"] == "mean_logit"
    assert {c["a"] for c in tree["comparisons"]} == {"mean_logit"}
    assert {c["b"] for c in tree["comparisons"]} == {tree["best_on_dev"], "vote"}
    assert "the mean logit" in (run.folder / "report" / "report.md").read_text().splitlines()[2]


def test_a_second_stage_and_a_soup_are_in_the_report(small_text, toy_root, tmp_path, machine):
    stage = "second_stage={after_epochs: 1, lr: 1e-3, balance: class, draw: undersample, losses: [focal]}"
    run, _ = run_of(
        small_text, toy(toy_root), tmp_path / "r", machine, "train.epochs=2", "systems.both.train.soup=2",
        f"systems.sound.{stage}", "crossfit=null", "stack=null",
    )  # fmt: skip
    tree = report(run.folder)
    assert tree["design"]["both"]["soup"] == 2
    assert "soup" not in tree["design"]["sound"]
    assert "second_stage" not in tree["design"]["both"]
    assert tree["design"]["sound"]["second_stage"] == {
        "after_epochs": 1, "lr": 1e-3, "losses": ["focal"], "balance": "class",
        "loss_settings": [{"name": "focal", "weight": 1.0}],
    }  # fmt: skip
    assert tree["design"]["both"]["weights"] == pipeline.Run(run.folder).n_weights("both")
    assert {k: len(rows) for k, rows in tree["curves"]["both"].items()} == {"full.1": 2, "full.2": 2}
    assert [r["stage"] for r in tree["curves"]["sound"]["full"]] == [1, 2]
    assert not list(run.folder.rglob("members"))
    for page in ("report.md", "report.html"):
        text = (run.folder / "report" / page).read_text()
        assert "soup of 2 networks" in text
        assert "(after epoch 1: focal, balanced: class)" in text


def test_what_a_soup_was_made_of_is_removed_where_it_was_stopped_before(small_text, toy_root, tmp_path, machine):
    text = small_text[: small_text.index("  both:")] + "crossfit: null\nstack: null\nevaluate: {draws: 20}\n"
    run, _ = run_of(text, toy(toy_root), tmp_path / "r", machine, "train.epochs=1", "train.soup=2")
    folder = run.network("sound", "full")
    (folder / MEMBERS / "1").mkdir(parents=True)
    (folder / "test.parquet").unlink()
    before = (folder / "model.safetensors").read_bytes()
    pipeline.train_run(pipeline.Run(run.folder), machine)
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == []
    assert (folder / "model.safetensors").read_bytes() == before


def test_an_in_sample_stack_only_when_said_aloud(small_text, toy_root, tmp_path, machine):
    with pytest.raises(SerkitError, match="out-of-fold"):
        parse_recipe(small_text, ["crossfit=null"])
    run, _ = run_of(
        small_text, toy(toy_root), tmp_path / "r", machine, "stack.in_sample=true", "crossfit=null", "train.epochs=1"
    )
    assert "stack" in report(run.folder)["systems"]
    text = (run.folder / "report" / "report.md").read_text()
    assert "On clips that the systems were trained on" in text
    assert "All metrics on train (seen in training)" in text
    assert "ut of fold" not in text


def test_one_system_alone(small_text, toy_root, tmp_path, machine):
    text = small_text[: small_text.index("  both:")] + "crossfit: {folds: 2}\nevaluate: {draws: 20}\n"
    run, stages = run_of(text, toy(toy_root), tmp_path / "r", machine, "train.epochs=1")
    assert stages == ["extract", "train", "stack", "evaluate", "report"]
    assert set(report(run.folder)["systems"]) == {"sound"}


@pytest.fixture
def table(toy_root, tmp_path):
    """The toy corpus as a table that cannot have fear, with other speakers' names."""
    manifest = toy(toy_root)
    path = tmp_path / "clips.csv"
    rows = ["path,emotion,speaker,split,text"]
    rows += [
        f"{toy_root / u.audio},{u.emotion},t{u.speaker},{u.split},{u.text}" for u in manifest if u.emotion != "fear"
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_two_corpora_at_once(small_text, toy_root, table, tmp_path, machine):
    manifest = read_corpora(["toy", "table"], [toy_root, table])
    assert len(manifest) == 80 + 64
    assert all(u.id.startswith(f"{u.corpus}.") and u.speaker.startswith(f"{u.corpus}.") for u in manifest)
    run, _ = run_of(small_text, manifest, tmp_path / "r", machine, "systems.both.balance=corpus", "train.epochs=1")
    assert run.manifest.class_sets["table"] == ("anger", "happiness", "neutral", "sadness")
    tree = report(run.folder)
    slices = tree["details"]["sound"]["test"]["slices"]["corpus"]
    assert set(slices) == {"toy", "table"}
    with pytest.raises(SerkitError, match="each corpus once"):
        join([toy(toy_root), toy(toy_root)])
    with pytest.raises(SerkitError, match="needs two corpora"):
        pipeline.prepare(parse_recipe(small_text, ["balance=corpus"]), toy(toy_root), tmp_path / "one")


def test_what_cannot_work_is_refused_before_extraction(small_text, toy_root, tmp_path):
    manifest = toy(toy_root)

    def refused(match, given=manifest, *overrides):
        with pytest.raises(SerkitError, match=match):
            pipeline.prepare(parse_recipe(small_text, overrides), given, tmp_path / "no")
        assert not (tmp_path / "no").exists()

    refused("crossfit.folds is 9 and train has 4 speakers", manifest, "crossfit.folds=9")
    refused("no utterance in split 'test'.*: use .*--no-test", manifest.where(lambda u: u.split != "test"))
    refused("of split 'dev' in 'toy' has a label", _unlabelled(manifest, "dev"))
    few = manifest.where(lambda u: u.emotion != "fear" or u.split != "train" or u.id == _first(manifest, "fear"))
    refused(r"'fear' has fewer than 2 training clips in 'toy' \(\d+ in all, first '\S+'\); name it in drop", few)
    lone = manifest.where(lambda u: u.emotion != "fear" or u.split != "train" or u.speaker == _speaker(manifest))
    refused("'fear' is by speakers of one cross-fitting fold", lone)
    without = manifest.where(lambda u: u.emotion != "neutral")
    others = [label for label in manifest.labels if label != "fear"]
    refused("'toy' has one class left, 'fear', and at least two are needed", manifest, f"drop_labels={others}")
    refused("balance: neutral needs clips of 'neutral'", without, "drop_labels=[neutral]")


def _unlabelled(manifest, split):
    rows = tuple(dataclasses.replace(u, emotion=None) if u.split == split else u for u in manifest)
    return dataclasses.replace(manifest, utterances=rows)


def _first(manifest: Manifest, emotion: str) -> str:
    return next(u.id for u in manifest if u.emotion == emotion and u.split == "train")


def _speaker(manifest: Manifest) -> str | None:
    return next(u.speaker for u in manifest if u.split == "train")


def test_an_unlabelled_test_split_is_scored_and_not_measured(small_text, toy_root, tmp_path, machine):
    run, _ = run_of(small_text, _unlabelled(toy(toy_root), "test"), tmp_path / "r", machine, "train.epochs=1")
    assert len(run.predictions("stack", "test").pooled()) == 20
    tree = report(run.folder)
    assert "test" not in tree["systems"]["stack"]
    assert "dev" in tree["systems"]["stack"]
    assert (run.folder / "report" / "report.html").is_file()


def test_a_class_with_two_clips_goes_through(small_text, toy_root, tmp_path, machine):
    manifest = toy(toy_root)
    fold = crossfit_folds(manifest.split("train"), 2, 0)
    fearful = [(int(k), u.id) for k, u in zip(fold, manifest.split("train"), strict=True) if u.emotion == "fear"]
    two = {next(i for k, i in fearful if k == wanted) for wanted in (0, 1)}
    thin = manifest.where(lambda u: u.emotion != "fear" or u.split != "train" or u.id in two)
    with pytest.raises(SerkitError, match="has 2 training clips in 'toy' and the stack needs 5"):
        pipeline.prepare(parse_recipe(small_text, ["stack.folds=5"]), thin, tmp_path / "r")
    run = pipeline.prepare(parse_recipe(small_text, ["train.epochs=1", "stack=null"]), thin, tmp_path / "r")
    pipeline.run_all(run, machine)
    assert report(run.folder)["counts"]["train"]["fear"] == 2


def test_another_stack_keeps_the_networks(finished, small_text, toy_root, machine):
    before = {p: p.stat().st_mtime_ns for p in (finished / "systems").rglob("*.*")}
    old = report(finished)
    run, stages = run_of(small_text, toy(toy_root), finished, machine, "stack.trees=12", "evaluate.draws=30")
    assert stages == ["stack", "evaluate", "report"]
    assert before == {p: p.stat().st_mtime_ns for p in (finished / "systems").rglob("*.*")}
    assert report(finished)["systems"]["stack"] != old["systems"]["stack"]
    assert run.recipe.stack.trees == 12


def test_a_stack_that_is_taken_back_leads_no_more(finished, small_text, toy_root, machine):
    run, stages = run_of(small_text, toy(toy_root), finished, machine, "stack=null")
    assert stages == ["stack", "evaluate", "report"]
    tree = report(finished)
    assert tree["lead"] == run.lead == "mean_logit"
    assert set(UNFITTED) == set(tree["systems"]) & set(ENSEMBLES)
    assert {p.name for p in (finished / "stack").iterdir()} == set(UNFITTED)


def test_features_that_changed_on_disk_are_found_when_asked_for(finished, tmp_path, machine):
    run = pipeline.Run(finished)
    pipeline.verify_features(run)
    store = Path(shutil.copytree(machine.store, tmp_path / "store"))
    run = pipeline.Run(finished)
    pipeline.extract_run(run, pipeline.Machine(store, "cpu", jobs=1))
    features = next(iter(run.features.values()))
    shard = max(features.store.folder.glob("*.npy"), key=lambda path: path.stat().st_size)
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(SerkitError, match=r": 1 of \d+ items in .*store.* are no longer what was written"):
        pipeline.verify_features(pipeline.Run(finished))


def test_a_store_that_is_gone_is_filled_again(finished, small_text, tmp_path):
    run = pipeline.Run(finished)
    for path in (finished / "features").glob("*.json"):
        row = json.loads(path.read_text())
        path.write_text(json.dumps({**row, "store": str(tmp_path / "gone")}))
    shutil.rmtree(run.network("sound", "fold0"))
    state = json.loads((finished / "state.json").read_text())
    (finished / "state.json").write_text(json.dumps({k: state[k] for k in ("prepare", "extract")}))
    before = report(finished)
    pipeline.run_all(pipeline.Run(finished), pipeline.Machine(tmp_path / "new", "cpu", jobs=1))
    assert report(finished) == before
