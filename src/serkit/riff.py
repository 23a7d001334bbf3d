"""WAV files whose header does not state the number of samples, as written into a pipe."""

from __future__ import annotations

import io
import re
import struct
from typing import BinaryIO

from serkit.errors import SerkitError

_UNSAID = (0, 0xFFFFFFFF)
_STREAMED = 0x7FFF0000  # other writers of streams put a number near 2^31 there
_MOST_CHUNKS = 1000
_READ = (1, 2, 3, 6, 7, 0x11, 0x31, 0x38, 0x40, 0xFFFE)  # codings that libsndfile reads; the last: says it later
_UNCLOSED = 8  # the size of the whole with which libsndfile takes a size of 0 as one that was never filled in


class Unclosed(io.RawIOBase):
    """A WAV file that reads as one whose writer was stopped: libsndfile decodes it to the end of the file.

    Nothing is copied: four bytes of the header, or eight, are read as others.

    Args:
        file: the open file. data_at: where the size of its samples stands.
    """

    def __init__(self, file: BinaryIO, data_at: int) -> None:
        super().__init__()
        self._file = file
        self._fields = ((4, struct.pack("<I", _UNCLOSED)), (data_at, struct.pack("<I", 0)))

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte; a place that is none, as a damaged header may name, changes nothing."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return self.tell()

    def tell(self) -> int:
        """Which byte comes next."""
        return self._file.tell()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # as the C code calls it
        """Fill a buffer; how many bytes there were."""
        view = memoryview(buffer).cast("B")
        begin = self._file.tell()
        found = self._file.read(len(view))
        view[: len(found)] = found
        for place, value in self._fields:
            first, last = max(place, begin), min(place + len(value), begin + len(found))
            if first < last:
                view[first - begin : last - begin] = value[first - place : last - place]
        return len(found)


def unsaid(file: BinaryIO) -> int | None:
    """Where the size of the samples would stand, if a WAV does not say it; the file is left where it was.

    It is 0 or 2^32 - 1 there, and more follows. After a size of 0, whole chunks up to the end of the file are what
    they say, and the recording is empty.

    Returns:
        The place of the field in bytes from the beginning; ``None`` for any other file.
    """
    back = file.tell()
    try:
        file.seek(0)
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return None
        size = file.seek(0, io.SEEK_END)
        at = 12
        for _ in range(_MOST_CHUNKS):
            name, length = _chunk(file, at)
            if name == b"data":
                silent = length not in _UNSAID or at + 8 >= size or (length == 0 and _whole_chunks(file, at + 8, size))
                return None if silent else at + 4
            if not name:
                return None
            at += 8 + length + length % 2
        return None
    finally:
        file.seek(back)


def is_foreign(file: BinaryIO) -> bool:
    """Whether a WAV is in a coding that libsndfile does not read, such as G.723.1, G.726 or G.729 of recorded calls.

    MP3 is such a coding too: libsndfile guesses how long it is in a WAV, and stops there.
    """
    at, length = _found(file, b"fmt ")
    if length < 16:
        return False
    file.seek(at)
    return int.from_bytes(file.read(2), "little") not in _READ


def share(file: BinaryIO) -> float:
    """How much is there of the samples that a WAV promises: 1 for all of them, and where it promises nothing."""
    at, promised = _found(file, b"data")
    present = file.seek(0, io.SEEK_END) - at
    return present / promised if at and present < promised < _STREAMED else 1.0


def _found(file: BinaryIO, wanted: bytes) -> tuple[int, int]:
    """Where the content of a chunk begins, and its length as it stands there; 0 and 0 where it is missing."""
    at = 12
    for _ in range(_MOST_CHUNKS):
        name, length = _chunk(file, at)
        if not name or name == wanted:
            return (at + 8, length) if name else (0, 0)
        at += 8 + length + length % 2
    return 0, 0


def refuse_truncated(log: str, name: str) -> None:
    """Refuse a WAV whose data ends early, which libsndfile shortens without a word.

    Args:
        log: what libsndfile says of the header. name: of the recording.

    Raises:
        SerkitError: the header promises more samples than there are.
    """
    found = re.search(r"data : (\d+) \(should be (\d+)\)", log)
    if not found:
        return
    promised, present = int(found[1]), int(found[2])
    if present < promised < _STREAMED:
        raise SerkitError(
            f"{name}: truncated: the header promises {promised} bytes of samples, {present} are there; "
            "download the recording again"
        )


def _chunk(file: BinaryIO, at: int) -> tuple[bytes, int]:
    """Name and length of the chunk at a byte; no name at the end."""
    file.seek(at)
    head = file.read(8)
    return (head[:4], struct.unpack("<I", head[4:])[0]) if len(head) == 8 else (b"", 0)


def _whole_chunks(file: BinaryIO, at: int, size: int) -> bool:
    """Whether chunks with printable names fill the file from here to its end."""
    for _ in range(_MOST_CHUNKS):
        name, length = _chunk(file, at)
        if not name or not all(32 <= byte < 127 for byte in name):
            return False
        at += 8 + length + length % 2
        if size <= at <= size + 1:  # the last one may lack the byte that makes it even
            return at == size or length % 2 == 1
    return False
