"""Texts of a run: what the recipe says reaches the recogniser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serkit import pipeline, transcripts
from serkit.corpora.toy import toy
from serkit.errors import RunFailed, SerkitError
from serkit.foundation.asr import Heard
from serkit.recipe import parse_recipe


class Parrot:
    """A recogniser that says how long each window is; the class remembers how it was made and asked."""

    made: list[tuple[Any, ...]]
    sizes: list[int]

    def __init__(self, *given: Any) -> None:
        Parrot.made.append(given)

    def __call__(self, windows: Sequence[np.ndarray]) -> list[Heard]:
        Parrot.sizes.append(len(windows))
        return [Heard(((0.0, len(w) / 16_000, f"{len(w)} samples"),), "en", 0.0) for w in windows]


@pytest.fixture(autouse=True)
def _parrot(monkeypatch: pytest.MonkeyPatch) -> None:
    Parrot.made, Parrot.sizes = [], []
    monkeypatch.setattr(transcripts, "FasterWhisper", Parrot)
    monkeypatch.setattr(transcripts, "TransformersWhisper", Parrot)


def test_engine_language_and_batch_size_reach_the_recogniser(small_text: str, toy_root: Path, tmp_path: Path) -> None:
    said = "transcripts={name: whisper/base, engine: faster-whisper, language: de, precision: fp16, batch_size: 3}"
    run = pipeline.prepare(parse_recipe(small_text, [said]), toy(toy_root), tmp_path / "run")
    pipeline.extract_run(run, pipeline.Machine(tmp_path / "store", "cpu", jobs=1))
    assert Parrot.made == [("base", "de", "cpu", "float16")]
    assert max(Parrot.sizes) == 3
    told = json.loads((run.folder / "transcripts.json").read_text(encoding="utf-8"))
    assert (told["name"], told["engine"], told["language"]) == ("whisper/base", "faster-whisper", "de")


def test_what_cannot_be_extracted_is_said_before_anything_is_heard(
    small_text: str, toy_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    machine = pipeline.Machine(tmp_path / "store", "cpu", jobs=1)
    heard = "transcripts={name: whisper/base, engine: faster-whisper}"
    absent = parse_recipe(small_text, [heard, "systems.sound.features=[hubert/base-ls960]"])
    run = pipeline.prepare(absent, toy(toy_root), tmp_path / "absent")
    with pytest.raises(SerkitError, match="encoder 'hubert/base-ls960': facebook/hubert-base-ls960 cannot be"):
        pipeline.extract_run(run, machine)
    assert Parrot.made == [], "no recogniser is built"
    several = "systems.sound.features=[hubert/base-ls960, wavlm/base]"
    run = pipeline.prepare(
        parse_recipe(small_text, ["transcripts=whisper/base", several]), toy(toy_root), tmp_path / "several"
    )
    with pytest.raises(SerkitError, match=r"^3 models cannot .*: whisper/base \(.*hubert/base-ls960 \(.*wavlm/base \("):
        pipeline.extract_run(run, machine)
    assert Parrot.made == []
    run = pipeline.prepare(parse_recipe(small_text, [several]), toy(toy_root), tmp_path / "unheard")
    roots = tmp_path / "roots.yaml"
    roots.write_text("checkpoints: {hubert/base-ls960: /nowhere/a, wavlm/base: /nowhere/b}\n", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setenv("SERKIT_CONFIG", str(roots))
        with pytest.raises(SerkitError, match=r"no folder /nowhere/a .*; encoder 'wavlm/base': no folder /nowhere/b "):
            pipeline.extract_run(run, machine)
    with pytest.raises(SerkitError, match=r"^2 models cannot .*: hubert/base-ls960 \(.*wavlm/base \("):
        pipeline.extract_run(run, machine)
    run = pipeline.prepare(parse_recipe(small_text, [heard]), toy(toy_root), tmp_path / "small")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=99))
        with pytest.raises(RunFailed, match="has 99 B left: choose another place with --store"):
            pipeline.extract_run(run, machine)
    assert Parrot.made == []
    pipeline.extract_run(run, machine)
    assert len(Parrot.made) == 1
