"""The inputs of a model: recordings of every kind, names, and the padded inputs of its networks."""

from __future__ import annotations

import io
from collections.abc import Generator, Sequence
from contextlib import closing
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
    if isinstance(recording, io.TextIOBase):
        raise SerkitError('a file opened as text; expected one opened as binary: open(path, "rb")')
    if isinstance(recording, (bytearray, memoryview)):
        return bytes(recording)
    if isinstance(recording, (str, bytes, Path, np.ndarray)) or (
        hasattr(recording, "read") and hasattr(recording, "seek")
    ):
        return recording  # type: ignore[no-any-return]  # one of them by now
    if hasattr(recording, "__array__"):
        try:
            return np.asarray(recording)
        except (TypeError, RuntimeError, ValueError) as error:  # a tensor on a GPU, or one with a gradient
            raise SerkitError(f"a {type(recording).__name__} that numpy cannot read: {error}") from None
    several = "; for several recordings see predict_many" if isinstance(recording, (list, tuple)) else ""
    raise SerkitError(
        f"got a {type(recording).__name__}; expected a path, the bytes of a file, an open binary file, or an array "
        f"with rate_hz{several}"
    )


def listed(recordings: Any, call: str) -> Any:
    """The recordings of a call that takes several; a single one is refused, whose letters or samples these would be."""
    is_one = isinstance(recordings, (str, bytes, bytearray, Path))
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
    if not isinstance(recordings, (list, tuple)) and not (is_text and hasattr(recordings, "__iter__")):
        return None
    many = list(recordings)
    if not many:
        return many
    first = many[0]
    return many if isinstance(first, (str, bytes, Path, np.ndarray)) or hasattr(first, "read") else None
