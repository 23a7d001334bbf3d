"""A folder that lacks something is refused in one line, before anything is loaded and never with made-up numbers."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from serkit import availability, checkpoints, fetching
from serkit.checkpoint_files import lacking, transformer_folder, weights_hash
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


def told(**changes: object) -> Callable[[Path], None]:
    """config.json says something else than the weights are."""

    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return spoil


def header(change: Callable[[dict[str, dict[str, list[int]]]], None]) -> Callable[[Path], None]:
    """The header says something else, in as many bytes."""

    def spoil(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        length = int.from_bytes(data[:8], "little")
        table = json.loads(data[8 : 8 + length])
        change(table)
        said = json.dumps(table, separators=(",", ":")).encode()
        assert len(said) <= length
        (folder / "model.safetensors").write_bytes(data[:8] + said.ljust(length) + data[8 + length :])

    return spoil


def other_bytes(folder: Path) -> None:
    size = (folder / "model.safetensors").stat().st_size
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * (size // 256) + bytes(size % 256))


def zeros(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(bytes((folder / "model.safetensors").stat().st_size))


def longer(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(bytes(4))


def twice(table: dict[str, dict[str, list[int]]]) -> None:
    rows = [row for name, row in table.items() if name != "__metadata__"]
    one, other = next((a, b) for a in rows for b in rows if a is not b and a["shape"] == b["shape"])
    other["data_offsets"] = one["data_offsets"]


def wider(table: dict[str, dict[str, list[int]]]) -> None:
    row = next(row for row in table.values() if row.get("shape") == [16])
    row["shape"] = [99]


def bare(folder: Path) -> None:
    """A .bin that begins as one and holds something else."""
    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as file:
        file.writestr("readme.txt", "nothing")


def page(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"<!DOCTYPE html>")


VOCABULARY = ("tokenizer.json", "vocab.json", "merges.txt", "vocab.txt", "spm.model")
BROKEN = [
    ("wavlm", without("preprocessor_config.json"), "no front end in"),
    ("whisper", without("preprocessor_config.json"), "no front end in"),
    ("roberta", without(*VOCABULARY), "no vocabulary in"),
    ("bert", without(*VOCABULARY), "no vocabulary in"),
    ("deberta", without(*VOCABULARY), "no vocabulary in"),
    ("hubert", halved("model.safetensors"), r"model\.safetensors is truncated: \d+ bytes, expected \d+"),
    ("wavlm", pointer, "is a pointer of Git LFS"),
    ("wavlm", shard_gone, "1 of 2 shards are missing"),
    ("wavlm", without("model.safetensors"), "no weights in"),
    ("wavlm", other_bytes, r"model\.safetensors is not a safetensors file"),
    ("roberta", zeros, r"model\.safetensors is not a safetensors file"),
    ("roberta", longer, r"model\.safetensors is damaged: \d+ bytes, expected \d+"),
    ("hubert", header(twice), "tensors leave gaps or overlap"),
    ("hubert", header(wider), "64 bytes, which do not fit its shape"),
    ("wavlm", told(num_hidden_layers=6), "lacks 2 of the 6 layers that config.json declares, layer 4 first"),
    ("bert", told(num_hidden_layers=40), r"layers that config\.json declares"),
    ("whisper", told(encoder_layers=7), "lacks 3 of the 7 layers that config.json declares, layer 4 first"),
    ("modernbert", told(hidden_size=50), "no weight of width 50, which config.json says, in layer 0"),
    ("deberta", bare, r"pytorch_model\.bin is damaged: it contains no table of tensors"),
    ("hubert", page, r"pytorch_model\.bin is damaged: torch writes no file with this beginning"),
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
    ("wavlm", written("config.json", "[1]"), r"config\.json is damaged, it is not a JSON object: '\[1\]'"),
    ("wavlm", written("preprocessor_config.json", "[1]"), "no front end can be read from"),
    ("roberta", written("modules.json", "{}"), r"modules\.json is damaged, it is not a JSON array: '\{\}'"),
    ("roberta", written("tokenizer.json", "{}"), "no tokenizer can be read from .*model: KeyError"),
    ("roberta", written("tokenizer.json", "[]"), "no tokenizer can be read from .*model: TypeError"),
    ("roberta", written("tokenizer.json", '{"added_tokens": []}'), "from .*model: Exception: Model missing"),
    ("deberta", written("spm.model", b"abc"), r"no tokenizer can be read from .*model: spm\.model is damaged"),
    ("facodec", written("ns3_facodec_decoder_v2.bin", b"abc"), r"decoder_v2\.bin is truncated: 3 bytes"),
    ("facodec", written("ns3_facodec_decoder_v2.bin", b"\x80\x02u." * 9), r"_v2\.bin is damaged or holds more than"),
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


def test_packages_that_do_not_fit_are_told_from_a_damaged_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With protobuf 6 beside sentencepiece 0.2.3 transformers asks for tiktoken, which is no help."""
    import transformers

    def asks_for_tiktoken(*_: object, **__: object) -> None:
        raise ValueError("`tiktoken` is required to read a `tiktoken` file.")

    folder = tiny_folder("deberta", tmp_path / "model")
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", asks_for_tiktoken)
    monkeypatch.setitem(sys.modules, "sentencepiece.sentencepiece_model_pb2", None)
    said = (
        r"no tokenizer can be read from .*model: the packages sentencepiece and protobuf do not fit each other \(.*\)"
    )
    with pytest.raises(SerkitError, match=rf"{said}: pip install -U protobuf"):
        find("encoders", "deberta")(f"path:{folder}").load()


def test_an_index_without_shards_is_one_line(tmp_path: Path) -> None:
    folder = tiny_folder("wavlm", tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("{}")
    assert "names no shards in weight_map" in lacking(folder, "wavlm")


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/hostname", "a/../../x"])
def test_a_shard_or_a_module_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert f"it names '{name}', which is not in its folder" in lacking(tmp_path, "wavlm")
    (tmp_path / "modules.json").write_text(
        json.dumps([{"type": "sentence_transformers.models.Transformer", "path": name}])
    )
    with pytest.raises(SerkitError, match=r"modules\.json is damaged: it names .* not in its folder"):
        transformer_folder(tmp_path)


def test_an_adapter_beside_the_weights_is_refused(tmp_path: Path) -> None:
    """transformers would add it with peft, and leave it out without: other numbers under the same hash."""
    for name in ("model.safetensors", "adapter_config.json"):
        (tmp_path / name).write_text("{}")
    assert "holds an adapter (adapter_config.json)" in lacking(tmp_path, "wavlm")
    with pytest.raises(SerkitError, match="merge it into them first"):
        weights_hash(tmp_path)


def test_a_configuration_that_transformers_does_not_take_is_one_line(tmp_path: Path) -> None:
    folder = tiny_folder("roberta", tmp_path / "model")
    row = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**row, "hidden_dropout_prob": "much"}))
    with pytest.raises(SerkitError, match=r"config\.json cannot be read|cannot be loaded") as refused:
        find("encoders", "roberta")(f"path:{folder}").load()
    assert "\n" not in str(refused.value)


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

    for module in (checkpoints, fetching):
        monkeypatch.setattr(module, "hub_package", lambda name: Hub)
        monkeypatch.setattr(module, "unreached", lambda hub: "")
    assert fetching.fetch(checkpoints.resolve("hub:me/wavlm")) == whole
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
