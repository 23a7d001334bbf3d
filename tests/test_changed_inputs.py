"""Recordings and texts that change after a run has used them: no number is given for what is no longer there."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from serkit import pipeline
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.pipeline import side_by_side, tune
from serkit.progress import Progress
from serkit.recipe import parse_recipe
from serkit.types import Manifest

RECIPE = """
name: r
transcripts: TEXTS
systems:
  mine:
    features: [{name: logmel/24, pool: 8}, hashed_text/32]
    model: {name: mean_pool, hidden: 4}
    train: {epochs: 1, batch_size: 64}
crossfit: null
stack: null
evaluate: {draws: 10}
"""
CHANGED = (
    r"^the {} of '{}'( \(and of \d+ more\))? has changed since .*run was made, .*; choose another --out, or restore"
)


@pytest.fixture
def corpus(toy_root: Path, tmp_path: Path) -> Manifest:
    """A few clips in a folder of their own."""
    few = toy(toy_root).where(lambda u: u.id.endswith("_1"))
    for u in few:
        place = tmp_path / "clips" / u.audio
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(few.audio_path(u), place)
    return dataclasses.replace(few, root=str(tmp_path / "clips"))


def write_texts(path: Path, corpus: Manifest, said: str) -> Path:
    path.write_text("id,text\n" + "".join(f"{name},{said}\n" for name in corpus.ids))
    return path


def begun(corpus: Manifest, folder: Path, texts: Path | str = "corpus") -> pipeline.Run:
    return pipeline.prepare(parse_recipe(RECIPE.replace("TEXTS", str(texts))), corpus, folder / "run")


def replaced(corpus: Manifest) -> str:
    """Give one clip the sound of another; its id."""
    one, other = corpus.utterances[0], corpus.utterances[1]
    shutil.copy(corpus.audio_path(other), corpus.audio_path(one))
    return one.id


def test_a_finished_run_is_refused_once_a_recording_is_another_one(corpus, tmp_path):
    machine = pipeline.Machine(tmp_path / "store", "cpu", jobs=1)
    pipeline.run_all(begun(corpus, tmp_path), machine)
    told: list[object] = []
    kept = corpus.audio_path(corpus.utterances[0]).read_bytes()
    name = replaced(corpus)
    for again in (pipeline.run_all, pipeline.extract_run):
        with pytest.raises(SerkitError, match=CHANGED.format("recording", name)):
            again(begun(corpus, tmp_path), machine, told.append)
    corpus.audio_path(corpus.utterances[0]).write_bytes(kept)
    assert pipeline.run_all(begun(corpus, tmp_path), machine).is_file()


def test_a_search_and_an_ablation_are_refused_like_a_run(corpus, tmp_path):
    machine, run = pipeline.Machine(tmp_path / "store", "cpu", jobs=1), begun(corpus, tmp_path)
    pipeline.run_all(run, machine)
    asked = (
        lambda: tune._trained({("a", 1, 42): run}, "trials", machine, None, side_by_side=1),
        lambda: side_by_side.extract_all({("a", 1, 42): run}, machine, None),
    )
    for ask in asked:
        ask()
    name = replaced(corpus)
    for ask in asked:
        with pytest.raises(SerkitError, match=CHANGED.format("recording", name)):
            ask()


def test_what_only_looks_changed_is_not_refused(corpus, tmp_path):
    """Touched, moved, behind a link; a copy of the run; and a run of an earlier version, which does not say enough."""
    machine = pipeline.Machine(tmp_path / "store", "cpu", jobs=1)
    folder = begun(corpus, tmp_path).folder
    pipeline.run_all(pipeline.Run(folder), machine)
    told: list[object] = []
    for u in corpus:
        os.utime(corpus.audio_path(u))
    pipeline.run_all(begun(corpus, tmp_path), machine, told.append)
    assert {p.stage for p in told if isinstance(p, Progress)} == {"compare recordings"}
    (tmp_path / "clips").rename(tmp_path / "elsewhere")
    (tmp_path / "clips").symlink_to(tmp_path / "elsewhere")
    for root in ("clips", "elsewhere"):
        moved = dataclasses.replace(corpus, root=str(tmp_path / root))
        pipeline.run_all(begun(moved, tmp_path), machine)
    shutil.copytree(folder, tmp_path / "copy" / "run")
    pipeline.run_all(begun(moved, tmp_path / "copy"), machine)
    for path in (folder / "features").glob("*.json"):
        row = json.loads(path.read_text())
        del row["modality"]
        path.write_text(json.dumps(row))
    replaced(moved)
    pipeline.run_all(begun(moved, tmp_path), machine)
    with pytest.raises(SerkitError, match="has changed since"):
        pipeline.run_all(begun(moved, tmp_path / "copy"), machine)


def test_a_recording_that_changes_before_any_network_is_extracted_again(corpus, tmp_path):
    machine = pipeline.Machine(tmp_path / "store", "cpu", jobs=1)
    run = begun(corpus, tmp_path)
    pipeline.extract_run(run, machine)
    name = replaced(corpus)
    pipeline.run_all(run, machine)
    keys = pipeline.Run(run.folder).features["logmel/24[pool=8]"].keys
    assert keys[name] == keys[corpus.ids[1]]


def test_a_finished_run_is_refused_once_its_table_of_texts_is_another_one(corpus, tmp_path):
    machine = pipeline.Machine(tmp_path / "store", "cpu", jobs=1)
    texts = write_texts(tmp_path / "texts.csv", corpus, "one")
    pipeline.run_all(begun(corpus, tmp_path, texts), machine)
    write_texts(texts, corpus, "two")
    with pytest.raises(SerkitError, match=CHANGED.format("transcript", corpus.ids[0])):
        pipeline.run_all(begun(corpus, tmp_path, texts), machine)


def test_a_finished_run_needs_neither_recordings_nor_texts_nor_store(corpus, tmp_path):
    machine = pipeline.Machine(tmp_path / "store", "cpu", jobs=1)
    texts = write_texts(tmp_path / "texts.csv", corpus, "one")
    run = begun(corpus, tmp_path, texts)
    pipeline.run_all(run, machine)
    shutil.rmtree(tmp_path / "clips")
    texts.unlink()
    assert pipeline.run_all(pipeline.Run(run.folder), machine).is_file()
    shutil.rmtree(tmp_path / "store")
    assert pipeline.run_all(pipeline.Run(run.folder), machine).is_file()
