"""The inputs of a model: recordings of every kind, names, and the padded inputs of its networks."""

from __future__ import annotations

import io
import os
from collections.abc import Generator, Sequence
from contextlib import closing
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.serving import example

Recording = Path | str | bytes | np.ndarray | BinaryIO


def known(recording: Any) -> Recording:
    """A recording of a kind that can be heard; tensors and other arrays as numpy's.

    Raises:
        SerkitError: anything else, such as a file opened as text or a list.
    """
    if isinstance(recording, str) and recording == example.NAME and not Path(recording).exists():
        raise SerkitError(f"{recording}: no such file; the recording included with serkit is serkit.example()")
    if isinstance(recording, os.PathLike):
        return Path(os.fsdecode(recording))
    if isinstance(recording, (bytearray, memoryview)):
        return bytes(recording)
    if isinstance(recording, (str, bytes)):
        return recording
    if hasattr(recording, "read") and hasattr(recording, "seek"):
        _refuse_unreadable(recording)
        return recording  # type: ignore[no-any-return]  # an open file
    if hasattr(recording, "__array__"):
        try:
            samples = np.asarray(recording)
        except (TypeError, RuntimeError, ValueError) as error:  # a tensor on a GPU, or one with a gradient
            raise SerkitError(f"a {type(recording).__name__} that numpy cannot read: {error}") from None
        if samples.dtype.kind not in "OUT":
            return samples
        if samples.ndim == 0 and isinstance(samples.item(), (str, os.PathLike)):
            return known(samples.item())
        raise SerkitError(
            f"got a {type(recording).__name__} of texts or objects; expected samples, or one column of paths as a list"
        )
    several = "; for several recordings see predict_many" if isinstance(recording, (list, tuple)) else ""
    raise SerkitError(
        f"got a {type(recording).__name__}; expected a path, the bytes of a file, an open binary file, or an array "
        f"with rate_hz{several}"
    )


def _refuse_unreadable(file: Any) -> None:
    """Refuse an open file that is not one for reading from the place where it is, and back to it."""
    if isinstance(file, io.TextIOBase):
        raise SerkitError('a file opened as text; expected one opened as binary: open(path, "rb")')
    if getattr(file, "closed", False):
        raise SerkitError("a file that is closed; expected an open one, or its path")
    if hasattr(file, "readable") and not file.readable():
        raise SerkitError('a file opened for writing; expected one opened for reading: open(path, "rb")')
    if hasattr(file, "seekable") and not file.seekable():
        raise SerkitError("a stream that cannot be read twice, such as a pipe; give its content: predict(file.read())")


def listed(recordings: Any, call: str) -> Any:
    """The recordings of a call that takes several; a single one is refused, whose letters or samples these would be."""
    if hasattr(recordings, "columns"):  # those of a table would be taken for recordings
        raise SerkitError(
            f"{call} takes a list of recordings, got a {type(recordings).__name__}: give one column of it"
        )
    is_one = isinstance(recordings, (str, bytes, bytearray, os.PathLike))
    if isinstance(recordings, np.ndarray):
        is_one = recordings.ndim == 0 or (recordings.ndim == 1 and recordings.dtype.kind not in "UOT")
    if is_one:
        raise SerkitError(f"{call} takes a list of recordings, got a single one: put it into [ ]")
    return recordings


def names(labels: Sequence[str] | None) -> tuple[str, ...] | None:
    """Labels as a tuple; a single text is refused."""
    if isinstance(labels, str):
        split = [name.strip() for name in labels.split(",")]
        raise SerkitError(f"labels is a list of names, got the text '{labels}': write {split}")
    return None if labels is None else tuple(labels)


def unchanged(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> set[str]:
    """The names of the features that are equal to the last digit in both."""
    return {name for name in one.keys() & other.keys() if np.array_equal(one[name], other[name])}


def feed(rows: Sequence[dict[str, np.ndarray]], features: Sequence[str]) -> dict[str, np.ndarray]:
    """Padded inputs of a network: ``x{k}`` (batch, time, dim) float32 and ``n{k}`` (batch,) int64."""
    found: dict[str, np.ndarray] = {}
    for k, name in enumerate(features):
        lengths = np.array([len(row[name]) for row in rows], dtype=np.int64)
        padded = np.zeros((len(rows), int(lengths.max()), rows[0][name].shape[1]), dtype=np.float32)
        for row, values in enumerate(rows):
            padded[row, : lengths[row]] = values[name]
        found[f"x{k}"], found[f"n{k}"] = padded, lengths
    return found


def whole(blocks: Generator[np.ndarray], longest_s: float) -> np.ndarray | None:
    """(samples,) of a recording no longer than that; ``None`` of a longer one, of which no more is read.

    Args:
        blocks: (n,) float32 mono 16 kHz each, in order; closed.
    """
    parts, n = [], 0
    with closing(blocks):
        for block in blocks:
            parts.append(block)
            n += len(block)
            if n > longest_s * SAMPLE_RATE_HZ:
                return None
    return np.concatenate(parts)


def of_length_1(vector: np.ndarray) -> np.ndarray:
    """(dim,) float32: the same direction; zeros stay zeros."""
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), dtype=np.float32)


def refuse_empty(samples: np.ndarray) -> np.ndarray:
    """The same samples, if there are any; :class:`SerkitError` if not."""
    if samples.size == 0:
        raise SerkitError(f"array of shape {samples.shape}: expected (samples,) or (samples, channels), not empty")
    return samples


def several(recordings: Any) -> list[Any] | None:
    """A list of recordings, however it comes: a list or tuple, an array or a table's column of paths; else ``None``."""
    if isinstance(recordings, (str, bytes)):  # numpy's own texts look like arrays
        return None
    is_text = getattr(getattr(recordings, "dtype", None), "kind", "") in ("U", "O", "T")
    is_column = is_text and hasattr(recordings, "__iter__") and getattr(recordings, "ndim", 1) == 1
    if not isinstance(recordings, (list, tuple)) and not is_column:
        return None
    many = list(recordings)
    if len(many) == 2 and sorted(map(_is_samples, many)) == [False, True] and any(isinstance(x, Real) for x in many):
        raise SerkitError("got samples together with their rate; expected predict(samples, rate_hz=rate)")
    if not many:
        return many
    first = many[0]
    is_one = isinstance(first, (str, bytes, bytearray, memoryview, os.PathLike)) or hasattr(first, "read")
    return many if is_one or _is_samples(first) else None


def _is_samples(value: Any) -> bool:
    """Whether it is an array or a tensor; a single number of numpy is none."""
    return hasattr(value, "__array__") and getattr(value, "ndim", 0) > 0
