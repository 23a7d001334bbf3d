"""Strict loading of published weights: every name accounted for, no code from the hub, no pickles with code."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from serkit.checkpoint_files import weight_files
from serkit.config import cache_folder
from serkit.errors import SerkitError
from serkit.extras import optional
from serkit.files import replacing_folder

LEAST_VOCABULARY = 10  # tokens besides the special ones
_UNREADABLE = (
    RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError,
    ArithmeticError,
)  # fmt: skip


def transformers_package(name: str) -> Any:
    """The ``transformers`` package.

    Raises:
        MissingExtra: it is not installed.
    """
    return optional("transformers", "foundation", f"encoder '{name}'")


def peft_package() -> Any:
    """The ``peft`` package.

    Raises:
        MissingExtra: it is not installed.
    """
    return optional("peft", "finetune", "tuning: lora")


def load_model(
    name: str,
    build: Any,
    folder: Path,
    *,
    ignored: Sequence[str] = (),
    missing_ok: Sequence[str] = (),
    key_mapping: Mapping[str, str] | None = None,
    **kwargs: Any,
) -> Any:
    """Load a transformers model from a folder, in float32 and evaluation mode, and account for every weight.

    Args:
        name: encoder, for messages. build: a transformers class with ``from_pretrained``.
        folder: the hub's layout: ``config.json`` with ``model.safetensors`` or ``pytorch_model.bin`` (or shards).
        ignored: prefixes of names in the file that the encoder has no use for, such as a decoder's.
        missing_ok: names that evaluation does not use and that a file may lack.
        key_mapping: regular expressions to replacements, where names carry a prefix.
        kwargs: for the class.

    Raises:
        SerkitError: weights missing, unexpected or of another shape, named; or a ``.bin`` with more than tensors.
    """
    import torch
    from safetensors import SafetensorError

    source = safe_folder(name, folder)
    refused: tuple[type[Exception], ...] = (*_UNREADABLE, *_refused_settings(), SafetensorError)
    with quiet():
        try:
            model, info = build.from_pretrained(
                source, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32,
                output_loading_info=True, ignore_mismatched_sizes=True, key_mapping=dict(key_mapping or {}) or None,
                **kwargs,
            )  # fmt: skip
        except refused as error:
            raise SerkitError(f"encoder '{name}': {folder} cannot be loaded: {' '.join(str(error).split())}") from None
    unexpected = sorted(k for k in info["unexpected_keys"] if not k.startswith(tuple(ignored)))
    missing = sorted(k for k in info["missing_keys"] if k not in missing_ok)
    mismatched = sorted(str(k[0]) for k in info["mismatched_keys"])
    refuse_weights(name, folder, missing, unexpected, mismatched)
    return model.eval().requires_grad_(False)


def refuse_weights(
    name: str, folder: Path, missing: Sequence[str], unexpected: Sequence[str], mismatched: Sequence[str]
) -> None:
    """Raise :class:`SerkitError`, which names the first, where a folder has other weights than its network."""
    for what, found in (("lacks", missing), ("has an unexpected", unexpected), ("has another shape for", mismatched)):
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            raise SerkitError(f"encoder '{name}': {folder} {what} weight '{found[0]}'{more}")


def _refused_settings() -> tuple[type[Exception], ...]:
    """What transformers 5 raises of a setting of another type than it expects, such as a null; nothing of 4."""
    from huggingface_hub import errors

    found = getattr(errors, "StrictDataclassError", None)
    return () if found is None else (found,)


def config_of(name: str, folder: Path) -> Any:
    """The configuration of a model, as transformers reads it.

    Raises:
        SerkitError: it is missing, or holds what transformers does not take.
    """
    build = transformers_package(name).AutoConfig.from_pretrained
    refused: tuple[type[Exception], ...] = (*_UNREADABLE, *_refused_settings())
    with quiet():
        try:
            return build(folder, local_files_only=True, trust_remote_code=False)
        except refused as error:
            said = " ".join(str(error).split())[:300]
            raise SerkitError(f"encoder '{name}': {folder}/config.json cannot be read: {said}") from None


def front_end(name: str, folder: Path) -> Any:
    """The feature extractor of a speech model.

    Raises:
        SerkitError: its file is missing or damaged.
    """
    with quiet():
        try:
            build = transformers_package(name).AutoFeatureExtractor.from_pretrained
            return build(folder, local_files_only=True, trust_remote_code=False)
        except _UNREADABLE as error:
            reason = " ".join(str(error).split())[:200]
            raise SerkitError(f"encoder '{name}': no front end can be read from {folder}: {reason}") from None


def tokenizer_of(name: str, folder: Path) -> Any:
    """The tokenizer of a model that reads or writes text.

    Raises:
        SerkitError: its files are missing or damaged; transformers makes an empty one then, without a word.
    """
    build = transformers_package(name).AutoTokenizer.from_pretrained
    with quiet():
        try:
            tokenizer = build(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # noqa: BLE001  # what the tokenizers package raises has no type of its own
            reason = _of_pieces(folder) or f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise SerkitError(f"encoder '{name}': no tokenizer can be read from {folder}: {reason}") from None
    ordinary = len(set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens))
    if ordinary < LEAST_VOCABULARY:
        raise SerkitError(
            f"encoder '{name}': the tokenizer of {folder} knows {ordinary} words; its vocabulary is missing "
            "(tokenizer.json, vocab.json and merges.txt, vocab.txt, or spm.model)"
        )
    return tokenizer


def _of_pieces(folder: Path) -> str:
    """Why a file of SentencePiece cannot be read: transformers takes such a one for another kind of file."""
    try:
        import sentencepiece
    except ImportError:
        return ""
    files = sorted(folder.glob("*.model"))
    for file in files:
        try:
            sentencepiece.SentencePieceProcessor(model_file=str(file))
        except (RuntimeError, OSError):
            return f"{file.name} is damaged"
    return _misfit() if files else ""


def _misfit() -> str:
    """Whether sentencepiece was made for a later protobuf; transformers asks for tiktoken then."""
    try:
        import sentencepiece.sentencepiece_model_pb2  # noqa: F401  # whether it can be imported
    except Exception as error:  # noqa: BLE001  # protobuf has a type of its own for it
        said = " ".join(str(error).split(". ")[0].split())
        return f"the packages sentencepiece and protobuf do not fit each other ({said}): pip install -U protobuf"
    return ""


def safe_folder(name: str, folder: Path) -> Path:
    """The folder itself where it holds safetensors; otherwise a converted copy in the cache, made once.

    A ``.bin`` or ``.pt`` is read with ``weights_only=True``: tensors and plain containers, never code.

    Raises:
        SerkitError: no weights, or a ``.bin`` that holds more than tensors.
    """
    files = weight_files(folder)
    if all(f.suffix == ".safetensors" for f in files):
        return folder
    state = [[str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns] for f in files]
    key = hashlib.blake2b(json.dumps(state).encode(), digest_size=12).hexdigest()
    target = cache_folder() / "converted" / key
    if target.is_dir():
        return target
    tensors: dict[str, Any] = {}
    for file in files:
        tensors.update(read_bin(name, file))
    from safetensors.torch import save_file

    with contextlib.suppress(FileExistsError), replacing_folder(target) as part:  # or another process was first
        save_file({k: t.contiguous().clone() for k, t in tensors.items()}, part / "model.safetensors", {"format": "pt"})
        for small in folder.iterdir():
            if small.suffix in (".json", ".txt", ".model") and not small.name.startswith("pytorch_model"):
                shutil.copyfile(small, part / small.name)
    return target


def read_bin(name: str, file: Path) -> dict[str, Any]:
    """Tensors of a ``.bin``, ``.pt`` or ``.safetensors`` file by name, on the CPU.

    Raises:
        SerkitError: it holds more than tensors, or is damaged.
    """
    import pickle
    import struct

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    except (*_UNREADABLE, pickle.UnpicklingError, SafetensorError, struct.error) as error:
        first = " ".join(str(error).split())[:160]
        raise SerkitError(f"encoder '{name}': {file} is damaged or holds more than tensors: {first}") from None
    if isinstance(tensors, dict) and isinstance(tensors.get("model"), dict):
        tensors = tensors["model"]  # of fairseq, which keeps its optimiser beside it
    if not isinstance(tensors, dict) or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        raise SerkitError(f"encoder '{name}': {file} is not a table of tensors")
    return dict(tensors)


def read_some(name: str, folder: Path, prefix: str) -> dict[str, Any]:
    """Those tensors of a folder whose names begin with ``prefix``, by name, on the CPU; a ``.bin`` is converted first.

    Raises:
        SerkitError: as :func:`safe_folder`, or a file that is damaged.
    """
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, Any] = {}
    for path in weight_files(safe_folder(name, folder)):
        try:
            with safe_open(path, "pt") as file:
                names = file.keys()
                tensors |= {key: file.get_tensor(key) for key in names if key.startswith(prefix)}
        except (OSError, SafetensorError) as error:
            raise SerkitError(f"encoder '{name}': {folder} cannot be loaded: {' '.join(str(error).split())}") from None
    return tensors


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from printing progress bars and load reports while it loads."""
    import importlib

    logging: Any = importlib.import_module("transformers.utils.logging")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
