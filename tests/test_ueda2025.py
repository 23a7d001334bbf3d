"""The published recipe, small, on the real classes: tiny checkpoints in folders that roots.yaml names."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from serkit import pipeline
from serkit.corpora.ravdess import ravdess
from serkit.corpora.toy import toy
from serkit.errors import SerkitError
from serkit.pipeline.inputs import make_encoder
from serkit.recipe import Recipe, load_recipe, parse_recipe
from serkit.types import Manifest
from tiny_checkpoints import in_roots

pytest.importorskip("transformers")
pytest.importorskip("sentencepiece")

DATA = Path(os.environ.get("SERKIT_DATA", Path(__file__).resolve().parents[1].parent / "shared" / "data"))
NAMES = {
    "whisper/large-v3": "openai/whisper-large-v3",
    "hubert/xlarge-ls960-ft": "facebook/hubert-xlarge-ls960-ft",
    "wavlm/large": "microsoft/wavlm-large",
    "roberta/large": "FacebookAI/roberta-large",
    "deberta/xxlarge-v2": "microsoft/deberta-v2-xxlarge",
    "facodec/prosody": "lifeiteng/naturalspeech3_facodec",
}
FOUR = ("wavlm_roberta_neutral", "whisper_deberta", "hubert_whisper", "whisper_roberta_prosody_neutral")
SMALL = ("model.hidden=8", "train.epochs=1", "train.batch_size=32", "train.lr=1e-3", "crossfit.folds=2",
         "stack.trees=5", "stack.min_leaf=2", "stack.min_split=2", "stack.folds=2", "evaluate.draws=10")  # fmt: skip


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A tiny checkpoint of the real class for each of the six names, in ``roots.yaml`` of this machine."""
    changes = {"whisper": {"num_mel_bins": 128}}
    return in_roots(tmp_path, monkeypatch, {name: changes.get(name.split("/")[0], {}) for name in NAMES})


def small(systems: tuple[str, ...] | None, *overrides: str) -> Recipe:
    """The published recipe with small networks, and only some of its systems where they are named."""
    tree = load_recipe("ueda2025", SMALL).model_dump(mode="json")
    if systems is not None:
        tree["systems"] = {name: tree["systems"][name] for name in systems}
    return parse_recipe(yaml.safe_dump(tree), overrides)


def finish(recipe: Recipe, manifest: Manifest, tmp_path: Path) -> tuple[pipeline.Run, dict[str, Any]]:
    run = pipeline.prepare(recipe, manifest, tmp_path / "run")
    page = pipeline.run_all(run, pipeline.Machine(tmp_path / "store", "cpu", jobs=1))
    shown = page.read_text(encoding="utf-8").replace("<wbr>", "")
    for hub in NAMES.values():
        assert f"in place of {hub}" in shown, "people read the page, not the JSON"
    assert "Texts by whisper/large-v3 (substituted: " in shown
    tree: dict[str, Any] = json.loads((run.folder / "report" / "report.json").read_text(encoding="utf-8"))
    return pipeline.Run(run.folder), tree


def check(run: pipeline.Run, tree: dict[str, Any], folders: dict[str, Path]) -> None:
    """Every substitution is marked, every clip was heard, every system is measured."""
    from serkit.checkpoint_files import weights_hash

    features = {key.split("[")[0]: row for key, row in tree["provenance"]["features"].items()}
    assert set(features) == set(NAMES)
    for name, row in features.items():
        assert row["source"] == "local"
        assert row["licence"] == "unknown", "the licence of the published weights says nothing about these"
        assert row["revision"] == f"weights-{weights_hash(folders[name])}"
        assert row["note"] == f"substituted: weights from {folders[name]} in place of {NAMES[name]}"
        assert row["dim"] == 16, "read from the folder, not from the table"
    heard = [json.loads(line) for line in (run.folder / "transcripts.jsonl").read_text().splitlines()]
    used = run.manifest.where(lambda u: u.split is not None)
    texts = tree["provenance"]["transcripts"]
    assert texts["name"] == "whisper/large-v3"
    assert texts["note"] == features["whisper/large-v3"]["note"], "who heard the words is marked too"
    assert texts["texts"] == len(used)
    assert texts["wer"]["texts"] == len(used), "both corpora say what was spoken"
    assert texts["wer"]["rate"] > 0.5, "random weights cannot hear"
    assert [row["id"] for row in heard] == list(used.ids)
    assert any(row["text"] for row in heard)
    assert {row["language"] for row in heard} <= {"en", "de", None}
    for found in run.features.values():
        assert not found.missing
    assert set(tree["systems"]) >= {*run.recipe.systems, "stack", "vote", "mean_logit"}
    for name in (*run.recipe.systems, "stack"):
        assert 0.0 <= tree["systems"][name]["test"]["macro_f1"]["value"] <= 1.0
        assert tree["systems"][name]["test"]["macro_f1"]["n"] == len(run.manifest.split("test"))


def test_four_systems_with_all_six_encoders_end_to_end(
    folders: dict[str, Path], toy_root: Path, tmp_path: Path
) -> None:
    first = toy(toy_root).where(lambda u: u.id.endswith("_1"))
    run, tree = finish(small(FOUR), first, tmp_path)
    check(run, tree, folders)


@pytest.mark.slow
def test_all_twelve_systems(folders: dict[str, Path], toy_root: Path, tmp_path: Path) -> None:
    first = toy(toy_root).where(lambda u: u.id.endswith("_1"))
    run, tree = finish(small(None, "train.epochs=2"), first, tmp_path)
    check(run, tree, folders)
    assert len(run.recipe.systems) == 12


@pytest.mark.slow
def test_real_recordings(folders: dict[str, Path], tmp_path: Path) -> None:
    if not (DATA / "ravdess").is_dir():
        pytest.skip(f"no real recordings at {DATA / 'ravdess'} (set SERKIT_DATA)")
    actors = ("01", "02", "04", "05", "09", "10", "11", "12")  # a woman and a man of test and dev, four of train
    clips = ravdess(DATA / "ravdess").where(
        lambda u: u.speaker in actors and u.meta["repetition"] == 1 and u.meta["statement"] == 1
        and u.meta["intensity"] == "normal"
    )  # fmt: skip
    run, tree = finish(small(FOUR), clips, tmp_path)
    check(run, tree, folders)


def test_a_recipe_may_name_a_folder_or_the_hub(folders: dict[str, Path]) -> None:
    text = "name: mine\nsystems:\n  one: {{features: [{{name: {name}, layer: 1}}], model: {{name: cross_attention}}}}\n"
    recipe = parse_recipe(text.format(name=f"path:{folders['wavlm/large']}"))
    encoder = make_encoder(next(iter(recipe.features.values())))
    assert type(encoder).__name__ == "Wavlm"
    assert (encoder.spec.layer, encoder.spec.dim) == (1, 16)
    text_encoder = parse_recipe(text.format(name=f"path:{folders['deberta/xxlarge-v2']}"))
    assert type(make_encoder(next(iter(text_encoder.features.values())))).__name__ == "Deberta"
    misspelt = parse_recipe(text.replace("layer", "layr").format(name=f"path:{folders['wavlm/large']}"))
    with pytest.raises(SerkitError, match="encoder 'wavlm' has no parameter 'layr'; did you mean 'layer'"):
        make_encoder(next(iter(misspelt.features.values())))
    absent = parse_recipe(text.format(name="hub:some/model"))
    with pytest.raises(SerkitError, match=r"config\.json of some/model cannot be downloaded"):
        make_encoder(next(iter(absent.features.values())))
