"""The files of a checkpoint's folder: which hold its weights, and what is missing or cut short, before any loading."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any, TypeVar

from serkit.errors import SerkitError

Tree = TypeVar("Tree", dict[str, Any], list[Any])
FACODEC_STEMS = ("ns3_facodec_encoder_v2", "ns3_facodec_decoder_v2")
_VOCABULARIES = (
    "tokenizer.json", "vocab.json", "vocab.txt", "spm.model", "spiece.model", "tokenizer.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
_FRONT_ENDS = ("preprocessor_config.json", "processor_config.json")
_HEARING = ("whisper", "wavlm", "hubert", "wav2vec2", "distilhubert")


def read_json(path: Path, kind: type[Tree]) -> Tree:
    """A small file of a checkpoint: a ``kind`` of dict or list.

    Raises:
        SerkitError: absent, no JSON (a download that was cut short), or JSON of another kind.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SerkitError(f"{path} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise SerkitError(f"{path} is damaged, perhaps a download that was cut short ({error})") from None
    if not isinstance(tree, kind):
        wanted = "keys with values" if kind is dict else "a list"
        raise SerkitError(f"{path} is damaged: expected {wanted}, got {str(tree)[:40]!r}")
    return tree


def transformer_folder(folder: Path) -> Path:
    """The folder that holds the transformer: ``folder``, or the module of a sentence-transformer-shaped one."""
    listing = folder / "modules.json"
    if not listing.is_file():
        return folder
    for module in read_json(listing, list):
        if isinstance(module, dict) and str(module.get("type", "")).endswith("Transformer"):
            return folder / str(module.get("path", ""))
    return folder


def weight_files(folder: Path) -> list[Path]:
    """Files that hold the weights: safetensors where there are any, otherwise ``.bin``; shards in order.

    Raises:
        SerkitError: none there, or a shard that the index names is not.
    """
    for stem in ("model.safetensors", "pytorch_model.bin"):
        if (folder / stem).is_file():
            return [folder / stem]
        index = folder / f"{stem}.index.json"
        if index.is_file():
            table = read_json(index, dict).get("weight_map")
            if not isinstance(table, dict) or not table:
                raise SerkitError(f"{index} is damaged: it names no shards in weight_map")
            shards = [folder / shard for shard in sorted({str(shard) for shard in table.values()})]
            absent = [shard.name for shard in shards if not shard.is_file()]
            if absent:
                raise SerkitError(f"{len(absent)} of {len(shards)} shards are missing in {folder}: {absent[0]}")
            return shards
    found = [folder / f"{stem}{end}" for stem in FACODEC_STEMS for end in (".safetensors", ".bin")]
    first = {p.stem: p for p in reversed(found) if p.is_file()}
    if first:
        return [first[stem] for stem in FACODEC_STEMS if stem in first]
    if older := older_facodec(folder):
        raise SerkitError(
            f"{folder} holds FACodec's V1 ({older}), whose features are others; expected its V2: "
            + " and ".join(f"{stem}.bin" for stem in FACODEC_STEMS)
        )
    raise SerkitError(f"no weights in {folder}: expected model.safetensors or pytorch_model.bin (or their shards)")


def is_facodec(folder: Path) -> bool:
    """Whether a folder holds files of FACodec's V2 by their published names."""
    return any((folder / f"{stem}{end}").is_file() for stem in FACODEC_STEMS for end in (".safetensors", ".bin"))


def older_facodec(folder: Path) -> str:
    """A file of FACodec's V1 in a folder, by its published name; empty where there is none."""
    stems = [stem.removesuffix("_v2") for stem in FACODEC_STEMS]
    names = [f"{stem}{end}" for stem in stems for end in (".bin", ".safetensors")]
    return next((name for name in names if (folder / name).is_file()), "")


def lacking(folder: Path, family: str) -> str:
    """What a folder lacks to be loaded as a model of a family, in one line; empty where it lacks nothing.

    Sizes and names alone are looked at, no weight: a file that was cut short is found, one with other bytes is not.
    """
    try:
        files = weight_files(folder)
    except SerkitError as error:
        return str(error)
    for file in files:
        if reason := _cut_short(file):
            return f"{file} {reason}"
    if family == "facodec":
        absent = set(FACODEC_STEMS) - {file.stem for file in files}
        return f"no {min(absent)}.bin in {folder}" if len(absent) == 1 else ""
    needed = _FRONT_ENDS if family in _HEARING else _VOCABULARIES
    if not any((folder / name).is_file() for name in needed):
        what = "front end" if family in _HEARING else "vocabulary"
        return f"no {what} in {folder}: expected {' or '.join(needed)}"
    return ""


def _cut_short(file: Path) -> str:
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(8)
        if head.startswith(b"version "):
            return "is a pointer of Git LFS, not the weights; fetch them with git lfs pull"
        if file.suffix == ".safetensors":
            if len(head) < 8:
                return f"is cut short: {size} bytes"
            (length,) = struct.unpack("<Q", head)
            try:
                table = json.loads(stream.read(length)) if 8 + length <= size else {}
                end = max((row["data_offsets"][1] for name, row in table.items() if name != "__metadata__"), default=0)
            except (ValueError, TypeError, KeyError):
                return "is no safetensors file"
            whole = 8 + length + end
            return "" if size >= whole else f"is cut short: {size} bytes, expected {whole}"
    if not size or (head.startswith(b"PK") and not zipfile.is_zipfile(file)):
        return f"is cut short: {size} bytes"
    return ""
