"""A folder that lacks something is refused in one line, before anything is loaded and never with made-up numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from serkit import availability, checkpoints
from serkit.checkpoint_files import lacking
from serkit.errors import SerkitError
from serkit.foundation.loading import tokenizer_of
from serkit.foundation.tiny import tiny_folder
from serkit.registry import find

pytest.importorskip("transformers")


def without(*names: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink(missing_ok=True)

    return spoil


def halved(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return spoil


def pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def shard_gone(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


VOCABULARY = ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "spm.model")
BROKEN = [
    ("wavlm", without("preprocessor_config.json"), "no front end in"),
    ("whisper", without("preprocessor_config.json"), "no front end in"),
    ("roberta", without(*VOCABULARY), "no vocabulary in"),
    ("bert", without(*VOCABULARY), "no vocabulary in"),
    ("deberta", without(*VOCABULARY), "no vocabulary in"),
    ("hubert", halved("model.safetensors"), r"model\.safetensors is cut short: \d+ bytes, expected \d+"),
    ("wavlm", pointer, "is a pointer of Git LFS"),
    ("wavlm", shard_gone, "1 of 2 shards are missing"),
    ("wavlm", without("model.safetensors"), "no weights in"),
]


@pytest.mark.parametrize(("kind", "spoil", "reason"), BROKEN, ids=[f"{k}-{r[:12]}" for k, _, r in BROKEN])
def test_what_is_missing_is_said_by_check_and_by_loading(
    kind: str, spoil: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    folder = tiny_folder(kind, tmp_path / "model")
    assert lacking(folder, kind) == ""
    spoil(folder)
    with pytest.raises(SerkitError, match=reason):
        find("encoders", kind)(f"path:{folder}").load()
    try:
        found = availability.check(f"path:{folder}")
        said = "loadable" if found.loadable else found.reason
    except SerkitError as error:  # what decides the revision is gone too
        said = str(error)
    assert re.search(reason, said)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_small_file_that_was_cut_short_is_one_line(name: str, tmp_path: Path) -> None:
    folder = tiny_folder("wavlm", tmp_path / "model")
    halved(name)(folder)
    with pytest.raises(SerkitError, match=name.split("_")[0] if name == "config.json" else "front end"):
        find("encoders", "wavlm")(f"path:{folder}").load()


def written(name: str, content: str | bytes) -> Callable[[Path], None]:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data) and None


DAMAGED = [
    ("wavlm", written("config.json", "[1]"), r"config\.json is damaged: expected keys with values, got '\[1\]'"),
    ("wavlm", written("preprocessor_config.json", "[1]"), "no front end can be read from"),
    ("roberta", written("modules.json", "{}"), r"modules\.json is damaged: expected a list, got '\{\}'"),
    ("roberta", written("tokenizer.json", "{}"), "no tokenizer can be read from .*model: KeyError"),
    ("roberta", written("tokenizer.json", "[]"), "no tokenizer can be read from .*model: TypeError"),
    ("roberta", written("tokenizer.json", '{"added_tokens": []}'), "from .*model: Exception: Model missing"),
    ("deberta", written("spm.model", b"abc"), r"no tokenizer can be read from .*model: spm\.model is damaged"),
    ("facodec", written("ns3_facodec_decoder_v2.bin", b"abc"), r"decoder_v2\.bin is damaged or holds more than"),
    ("facodec", written("ns3_facodec_decoder_v2.bin", b"\x80\x02u."), r"decoder_v2\.bin is damaged or holds more than"),
]


@pytest.mark.parametrize(("kind", "spoil", "reason"), DAMAGED, ids=[f"{k}-{i}" for i, (k, _, _) in enumerate(DAMAGED)])
def test_a_file_with_other_bytes_is_one_line_that_names_it(
    kind: str, spoil: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    """What transformers, tokenizers and torch raise of such files has a dozen types, and names no file."""
    folder = tiny_folder(kind, tmp_path / "model")
    spoil(folder)
    with pytest.raises(SerkitError, match=reason):
        find("encoders", kind)(f"path:{folder}").load()


def test_an_index_without_shards_is_one_line(tmp_path: Path) -> None:
    folder = tiny_folder("wavlm", tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("{}")
    assert "names no shards in weight_map" in lacking(folder, "wavlm")


def test_a_part_of_a_model_in_the_hubs_cache_is_not_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """hub:NAME leaves config.json alone there; up to now that counted as the model, and nothing was ever downloaded."""
    whole, part = tiny_folder("wavlm", tmp_path / "whole"), tmp_path / "part"
    part.mkdir()
    (part / "config.json").write_bytes((whole / "config.json").read_bytes())
    asked: list[bool] = []

    class Hub:
        class HfApi:
            def list_repo_files(self, **what: object) -> list[str]:
                return [p.name for p in whole.iterdir()]

        class errors:  # noqa: N801 - as the package calls it
            class HfHubHTTPError(Exception):
                pass

        @staticmethod
        def snapshot_download(local_files_only: bool = False, **what: object) -> str:
            asked.append(local_files_only)
            return str(part if local_files_only else whole)

        @staticmethod
        def hf_hub_download(hub_id: str, name: str, **what: object) -> str:
            return str(part / name)

    monkeypatch.setattr(checkpoints, "hub_package", lambda name: Hub)
    monkeypatch.setattr(checkpoints, "unreached", lambda hub: "")
    assert checkpoints.fetch(checkpoints.resolve("hub:me/wavlm")) == whole
    assert asked == [True, False]


def test_other_storage_types_are_refused(tmp_path: Path) -> None:
    folder = tiny_folder("wavlm", tmp_path / "model")
    for family, name in (("wavlm", f"path:{folder}"), ("waveform", "waveform")):
        for dtype in ("int8", "float64", "bfloat16"):
            with pytest.raises(SerkitError, match=f"dtype '{dtype}'"):
                find("encoders", family)(name, dtype=dtype)


def test_a_tokenizer_without_words_is_refused(tmp_path: Path) -> None:
    folder = tiny_folder("bert", tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", encoding="utf-8")
    with pytest.raises(SerkitError, match=r"encoder 'mine': the tokenizer of .*model knows 0 words; its vocabulary is"):
        tokenizer_of("mine", folder)
