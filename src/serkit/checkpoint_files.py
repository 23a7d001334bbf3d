"""The files of a checkpoint: which hold its weights, their hash, and what is missing or damaged, before any loading."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from serkit.config import cache_folder
from serkit.emotion2vec_files import CONFIG, is_emotion2vec
from serkit.emotion2vec_files import WEIGHTS as PT
from serkit.errors import SerkitError
from serkit.hashes import ContentHashes
from serkit.text_rows import Tree, json_tree

ADAPTER = "adapter_config.json"
FACODEC_STEMS = ("ns3_facodec_encoder_v2", "ns3_facodec_decoder_v2")
_VOCABULARIES = (
    "tokenizer.json", "vocab.json", "vocab.txt", "spm.model", "spiece.model", "tokenizer.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
_FRONT_ENDS = ("preprocessor_config.json", "processor_config.json")
_HASHED_SMALL = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json",
                 "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt", "spm.model",
                 "sentencepiece.bpe.model", "spiece.model")  # fmt: skip
_CONVERTED = (
    "model.bin",
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "vocabulary.json",
    "vocabulary.txt",
)
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64,
}  # fmt: skip
_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")
_HEARING = ("whisper", "wavlm", "hubert", "wav2vec2", "distilhubert")
_OF_AUTHORS = ("odyssey", "vox_profile")  # classes that bring their front end along in their code


def read_json(path: Path, kind: type[Tree]) -> Tree:
    """A small file of a checkpoint: a ``kind`` of dict or list.

    Raises:
        SerkitError: absent, no JSON (a download that was cut short), or JSON of another kind.
    """
    if not path.is_file():
        raise SerkitError(f"{path} is missing")
    try:
        return json_tree(path, kind)
    except SerkitError as error:
        raise SerkitError(f"{error}; perhaps an incomplete download") from None


def transformer_folder(folder: Path) -> Path:
    """The folder that holds the transformer: ``folder``, or the module of a sentence-transformer-shaped one."""
    listing = folder / "modules.json"
    if not listing.is_file():
        return folder
    for module in read_json(listing, list):
        if isinstance(module, dict) and str(module.get("type", "")).endswith("Transformer"):
            return _within(folder, str(module.get("path", "")), listing)
    return folder


def _within(folder: Path, name: str, listing: Path) -> Path:
    """A place in a folder that one of its files names; refused where it leads out of it, as no published one does."""
    if PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise SerkitError(f"{listing} is damaged: it names '{name}', which is not in its folder")
    return folder / name


def weight_files(folder: Path) -> list[Path]:
    """Files that hold the weights: safetensors where there are any, otherwise ``.bin`` or ``.pt``; shards in order.

    Raises:
        SerkitError: none there, a shard that the index names is not, or not in the folder, or an adapter beside them.
    """
    if (folder / ADAPTER).is_file():  # transformers adds it to the weights if peft is installed, and else it does not
        raise SerkitError(
            f"{folder} holds an adapter ({ADAPTER}), which changes the weights beside it; merge it into them first "
            "(merge_and_unload of peft, then save_pretrained)"
        )
    for stem in ("model.safetensors", "pytorch_model.bin"):
        if (folder / stem).is_file():
            return [folder / stem]
        index = folder / f"{stem}.index.json"
        if index.is_file():
            table = read_json(index, dict).get("weight_map")
            if not isinstance(table, dict) or not table:
                raise SerkitError(f"{index} is damaged: it names no shards in weight_map")
            shards = [_within(folder, name, index) for name in sorted({str(shard) for shard in table.values()})]
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
    if is_emotion2vec(folder):
        if found := [folder / name for name in PT if (folder / name).is_file()]:
            return found[:1]
        raise SerkitError(f"no weights in {folder}: expected {' or '.join(PT)} (or model.safetensors)")
    raise SerkitError(f"no weights in {folder}: expected model.safetensors or pytorch_model.bin (or their shards)")


def wanted_files(listed: Iterable[str]) -> list[str]:
    """Of the files of a repository those with weights and configurations: safetensors where there are any."""
    files = [f for f in listed if "/" not in f or f.endswith("config.json")]
    safe = [f for f in files if f == "model.safetensors" or (f.startswith("model-") and f.endswith(".safetensors"))]
    codec = [f for f in files if Path(f).stem in FACODEC_STEMS]
    whole = [f for f in files if f.startswith("pytorch_model") and f.endswith(".bin")]
    return safe or codec or whole or [f for f in files if f in PT]


def is_facodec(folder: Path) -> bool:
    """Whether a folder holds files of FACodec's V2 by their published names."""
    return any((folder / f"{stem}{end}").is_file() for stem in FACODEC_STEMS for end in (".safetensors", ".bin"))


def older_facodec(folder: Path) -> str:
    """A file of FACodec's V1 in a folder, by its published name; empty where there is none."""
    stems = [stem.removesuffix("_v2") for stem in FACODEC_STEMS]
    names = [f"{stem}{end}" for stem in stems for end in (".bin", ".safetensors")]
    return next((name for name in names if (folder / name).is_file()), "")


def weights_hash(folder: Path) -> str:
    """16 hex digits over the weights and the files that decide what goes into them (tokenizer, front end).

    Files are read once: the hash of each is kept in the cache folder.

    Raises:
        SerkitError: a file cannot be read.
    """
    folder = transformer_folder(folder)
    named = (*_HASHED_SMALL, CONFIG) if is_emotion2vec(folder) else _HASHED_SMALL
    small = [folder / n for n in named if (folder / n).is_file()]
    return _hash([*weight_files(folder), *small])


def converted_revision(folder: Path | None) -> str:
    """Revision of a model in CTranslate2's layout: a hash as :func:`weights_hash`; ``published`` without a folder.

    Raises:
        SerkitError: a file cannot be read.
    """
    if folder is None:
        return "published"
    return f"weights-{_hash([path for name in _CONVERTED if (path := folder / name).is_file()])}"


def _hash(paths: Iterable[Path]) -> str:
    files = {path: path.resolve() for path in paths}
    hashes = ContentHashes(cache_folder() / "weights.jsonl").of(list(files.values()))
    digest = hashlib.blake2b(digest_size=8)
    for path, resolved in files.items():
        content = hashes[resolved]
        if isinstance(content, SerkitError):
            raise content
        digest.update(f"{path.name}\n{content}\n".encode())
    return digest.hexdigest()


def lacking(folder: Path, family: str) -> str:
    """What a folder lacks to be loaded as a model of a family, in one line; empty where it lacks nothing.

    No weight is read. Of safetensors the header has to be whole, what it says of each tensor to fit the file, and every
    layer that ``config.json`` counts to be there with its width; of a ``.bin`` the list of what is in it. That the
    numbers are those that were published is not seen.
    """
    try:
        files = weight_files(folder)
        config = read_json(folder / "config.json", dict) if (folder / "config.json").is_file() else {}
    except SerkitError as error:
        return str(error)
    shapes: dict[str, list[int]] = {}
    for file in files:
        reason = _unlike_safetensors(file, shapes) if file.suffix == ".safetensors" else _unlike_torch(file)
        if reason:
            return f"{file} {reason}"
    if family == "facodec":
        absent = set(FACODEC_STEMS) - {file.stem for file in files}
        return f"no {min(absent)}.bin in {folder}" if len(absent) == 1 else ""
    if family == "emotion2vec":
        return "" if (folder / CONFIG).is_file() else f"no {CONFIG} in {folder}"
    if family in _OF_AUTHORS:
        return ""
    needed = _FRONT_ENDS if family in _HEARING else _VOCABULARIES
    if not any((folder / name).is_file() for name in needed):
        what = "front end" if family in _HEARING else "vocabulary"
        return f"no {what} in {folder}: expected {' or '.join(needed)}"
    reason = _unlike_config(shapes, config) if shapes else ""
    return f"{files[0]} {reason}" if reason else ""


def looked_at(files: Sequence[Path], family: str) -> str:
    """What :func:`lacking` has looked at of files of weights, in words."""
    if not all(file.suffix == ".safetensors" for file in files):
        return "files, sizes"
    seen = "files, sizes, shapes"
    return seen if family in ("facodec", "emotion2vec") else f"{seen}, names of the layers"


def _head(file: Path) -> tuple[int, bytes, str]:
    """Size, first eight bytes, and what is wrong with any file of weights that begins so."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(8)
    if head.startswith(b"version "):
        return size, head, "is a pointer of Git LFS, not the weights; fetch them with git lfs pull"
    return size, head, f"is truncated: {size} bytes" if len(head) < 8 else ""


def _unlike_safetensors(file: Path, shapes: dict[str, list[int]]) -> str:
    """What is wrong with a file of safetensors by its header; ``shapes`` takes up the shape of each tensor."""
    size, head, reason = _head(file)
    if reason:
        return reason
    (length,) = struct.unpack("<Q", head)
    with file.open("rb") as stream:
        stream.seek(8)
        if stream.read(1) != b"{":  # as every header begins
            return "is not a safetensors file"
        if 8 + length > size:
            return f"is truncated: {size} bytes, expected more than {8 + length}"
        try:
            table = json.loads(b"{" + stream.read(length - 1))
            spans = {name: row["data_offsets"] for name, row in table.items() if name != "__metadata__"}
            for name in spans:
                shapes[name] = [int(n) for n in table[name]["shape"]]
                bits = _BITS.get(table[name]["dtype"])
                begin, end = spans[name]
                if bits is not None and 8 * (end - begin) != bits * math.prod(shapes[name]):
                    return f"is damaged: '{name}' has {end - begin} bytes, which do not fit its shape {shapes[name]}"
        except (ValueError, TypeError, KeyError, AttributeError):
            return "is not a safetensors file"
    at = 0
    for begin, end in sorted(spans.values()):
        if begin != at:
            return f"is damaged: by its header, tensors leave gaps or overlap at byte {8 + length + at}"
        at = end
    if size != 8 + length + at:
        what = "is truncated" if size < 8 + length + at else "is damaged"
        return f"{what}: {size} bytes, expected {8 + length + at}"
    return ""


def _unlike_torch(file: Path) -> str:
    """What is wrong with a ``.bin`` by its beginning and the list of what is in it."""
    size, head, reason = _head(file)
    if reason:
        return reason
    if not head.startswith(b"PK"):  # before torch 1.6: a row of pickles
        return "" if head.startswith(b"\x80") else "is damaged: torch writes no file with this beginning"
    try:
        with zipfile.ZipFile(file) as parts:
            names = parts.namelist()
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError):
        return f"is truncated or damaged: {size} bytes"
    return "" if any(name.endswith("/data.pkl") for name in names) else "is damaged: it contains no table of tensors"


def _unlike_config(shapes: Mapping[str, Sequence[int]], config: Mapping[str, Any]) -> str:
    """What the layers of a transformer lack of what ``config.json`` says of them: their number and their width."""
    n = next((config[key] for key in ("encoder_layers", "num_hidden_layers") if isinstance(config.get(key), int)), 0)
    width = next((config[key] for key in ("d_model", "hidden_size") if isinstance(config.get(key), int)), None)
    layers: dict[int, list[Sequence[int]]] = {}
    for name, shape in shapes.items():
        if (match := _LAYER.search(name)) and "decoder." not in name:
            layers.setdefault(int(match[1]), []).append(shape)
    if absent := [k for k in range(n) if k not in layers]:
        return f"lacks {len(absent)} of the {n} layers that config.json declares, layer {absent[0]} first"
    for k in range(n if width is not None else 0):
        if not any(width in shape for shape in layers[k]):
            return f"has no weight of width {width}, which config.json says, in layer {k}"
    return ""
