"""A bundle as files: reading them from a folder or a zip, a place for a new one, writing the zip."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from serkit.errors import SerkitError
from serkit.files import remove_parts_of
from serkit.interrupts import interrupts_after
from serkit.serving.bundle_head import HEAD

MOST_BYTES = 1 << 31  # of a file: no larger graph can be read, and arrays and texts are smaller by far
MOST_HEAD_BYTES = 1 << 24  # of bundle.json, which has some kilobytes


def in_folder(root: Path) -> Callable[[str], bytes]:
    """How to read a file of a bundle that is a folder.

    Raises:
        SerkitError: it is not a bundle; and, from what is returned, no such file, or one that is too large.
    """
    if not (root / HEAD).is_file():
        run = (root / "recipe.yaml").is_file() and (root / "manifest.jsonl").is_file()
        hint = f"; it is a run: make a bundle of it with 'serkit bundle {root} -o DIR'" if run else ""
        raise SerkitError(f"{root} is not a bundle: {HEAD} is missing{hint}")

    def read(name: str) -> bytes:
        if (place := root / name).exists() and not place.is_file():  # a device or a pipe might never end
            raise SerkitError(f"{root}: '{name}' is not a file")
        try:
            _refuse_larger(place.stat().st_size, name, root)
            return place.read_bytes()
        except OSError as error:
            raise SerkitError(f"{root}: '{name}' cannot be read: {error.strerror}") from None

    return read


def in_archive(path: Path) -> Callable[[str], bytes]:
    """How to read a file of a bundle that is one file.

    Raises:
        SerkitError: it is not a bundle; and, from what is returned, no such member, or one damaged or too large.
    """
    if path.suffix == ".onnx":
        raise SerkitError(f"{path} is not a bundle: it is a graph, as serkit export writes it, for onnxruntime alone")
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is a pipe or device, expected a file")
        archive = zipfile.ZipFile(path)
        members = {m.filename: m for m in archive.infolist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:  # the last of a later version
        raise SerkitError(f"{path} is not a bundle: {error}") from None
    packed = [m.filename for m in members.values() if m.compress_type != zipfile.ZIP_STORED]
    if packed or HEAD not in members:
        reason = f"its member '{packed[0]}' is compressed" if packed else f"{HEAD} is missing"
        raise SerkitError(f"{path} is not a bundle: {reason}")

    def read(name: str) -> bytes:
        if name not in members:
            raise SerkitError(f"{path}: '{name}' is missing")
        _refuse_larger(max(members[name].file_size, members[name].compress_size), name, path)
        try:
            return archive.read(members[name])
        except (zipfile.BadZipFile, RuntimeError, EOFError, OSError, ValueError) as error:  # RuntimeError: encrypted
            raise SerkitError(f"{path}: '{name}' is damaged or encrypted: {error}") from None

    return read


def _refuse_larger(n_bytes: int, name: str, source: Path) -> None:
    """Refuse, before it is read, what would fill the memory: a sparse file takes no room on disk."""
    most = MOST_HEAD_BYTES if name == HEAD else MOST_BYTES
    if n_bytes > most:
        raise SerkitError(f"{source}: '{name}' has {n_bytes} bytes, expected at most {most}: it is damaged")


def check_new(out: Path) -> None:
    """Refuse a place where something is, or nothing can be.

    Raises:
        SerkitError: ``out`` is there already, and not an empty folder; or it cannot be written.
    """
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):  # a link to nothing counts
        raise SerkitError(f"{out} exists already; choose another place, or remove it first")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SerkitError(f"{out} cannot be written: {error.strerror or error}") from None
    if not os.access(out.parent, os.W_OK):
        raise SerkitError(f"{out} cannot be written: no permission in {out.parent}")
    remove_parts_of(out)


def write_archive(content: Mapping[str, bytes], part: Path) -> None:
    """Write a zip whose members are stored; files with the same content have the same bytes."""
    with interrupts_after(), zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # no clock in it
