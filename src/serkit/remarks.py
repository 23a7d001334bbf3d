"""Remarks on a recording besides its samples: channels that cancel, a missing end, its width."""

from __future__ import annotations

import io
import struct
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np

from serkit import riff
from serkit.containers import Source
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError

CANCELLED_DB = 20.0
APART_DB = 12.0  # by which one channel is above the other while its speaker alone is heard
_FRAME_S = 0.1
_QUIETEST_DB, _HEARD_DB = -100, 35  # of a level that is told from others; below the loudest frame: a pause
_LEAST_FRAMES = 10  # in which each side of a call is heard
_LEAST_SHARE, _TOGETHER = 0.1, 0.7  # of the frames with sound: of each side, and of both sides
_LEAST_TALK = 30  # frames from which it is told whether two levels rise and fall together
_TIED, _LEAST_DB = 0.3, 3.0  # correlation from which they do; deviation of the level of whoever speaks
_FAINT = 1e-10  # power re full scale, -100 dB: less is rounding
_OGG_PAGE = 27 + 255 + 255 * 255  # bytes of the longest page
_MOST_BOXES, _MOST_INDEX = 100_000, 1 << 24  # of an MP4: boxes, bytes of one index
_XING_PLACES = (13, 15, 21, 23, 36, 38)  # after a frame's header and side information, with and without a checksum
_XING = struct.Struct(">4sIII")  # its mark, which fields follow, frames, bytes
_MOST_TAGS = 16
_LOST_FRAMES = 3  # of an MP3: less may be a matter of how its writer counts
_FRAME_SAMPLES = 1152
_GUESSED = 0.05  # of the length of an MP3 that does not say it: its bit rate may differ from its first frame's tenfold


class Damage(str):
    """A note which says that a part of the recording is missing; of other notes, ordinary texts, nothing is."""

    __slots__ = ()


class Remarks:
    """Gathered by :func:`serkit.audio.blocks` and :func:`serkit.audio.to_mono_16k` while they go through a recording.

    Attributes:
        ending: how an MP3, Ogg or container breaks off or is damaged; empty where it is not, or nothing tells.
        rate_hz: sampling rate of the recording as it came; 0 where nobody said it.
    """

    def __init__(self) -> None:
        self.ending = ""
        self.rate_hz = 0.0
        self._apart = self._together = 0.0  # power of the channels and of their mean, times samples
        self._peak, self._dtype = 0, ""
        self._sides = _Sides()
        self._short: tuple[int, int, int] | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each remark, for whoever reads the answer."""
        lines: list[str] = [Damage(self.ending)] if self.ending else []
        if self.cancelled:
            lines.append(
                f"the channels cancel each other: their mean, which was used, is more than {CANCELLED_DB:g} "
                "dB below them; invert the polarity of one of them, or give only one"
            )
        return tuple(lines)

    @property
    def cancelled(self) -> bool:
        """Whether the channels cancel each other when averaged."""
        return self._apart > 0 and self._together <= self._apart * 10 ** (-CANCELLED_DB / 10)

    @property
    def two_sided(self) -> bool:
        """Whether two channels hold different voices, as a call does with a side on each.

        Most of what is heard is then on one channel alone, some of it on the one and some on the other; or, where both
        talk all the time, each rises and falls by itself. Not so where both have the same sound, where a room or music
        is on both, or where one is silent or steady.
        """
        return self._sides.found

    def hear(self, block: np.ndarray, mono: np.ndarray) -> None:
        """Compare (samples, channels) with their mean (samples,), each without its offset."""
        if block.shape[1] == 2:
            self._sides.hear(block, round((self.rate_hz or SAMPLE_RATE_HZ) * _FRAME_S))
        if block.shape[1] > 1:
            apart = float(np.mean([channel.var() for channel in block.T]))
            self._apart += len(block) * (apart if apart > _FAINT else 0.0)
            self._together += len(block) * float(mono.var())

    def measure(self, samples: np.ndarray) -> None:
        """Keep the peak of integers that could be narrower than their dtype."""
        if samples.dtype.kind in "iu" and samples.dtype.itemsize == 4:
            self._peak = max(self._peak, int(samples.max()), -int(samples.min()))
            self._dtype = samples.dtype.name

    def refuse_narrow(self) -> None:
        """Refuse 32-bit integers that never left the range of 16 bits: they would be taken for silence.

        Raises:
            SerkitError: all that was measured stayed below 2^16, and was not 0.
        """
        if 0 < self._peak < 1 << 16:
            raise SerkitError(
                f"array of dtype {self._dtype} that reaches {self._peak}: these look like 16-bit values; expected "
                "integers at the full scale of their dtype, so convert them: samples.astype(np.int16)"
            )

    def fell_short(self, decoded: int, promised: int, rate_hz: int) -> None:
        """Fewer samples of a file could be decoded than its header says."""
        self._short = (decoded, promised, rate_hz)

    def was_complained_of(self, said: str, decoded_s: float) -> None:
        """The decoder of a container did not fail, but found fault with the file: it ends too early, or is damaged."""
        self.ending = (
            f"the recording seems to be truncated or damaged: ffmpeg says '{said}'; only the {decoded_s:.2f} s that "
            "could be decoded were used"
        )

    def look_at(self, source: Source) -> None:
        """Read how a file ends; it is left where it was."""
        if isinstance(source, bytes):
            source = io.BytesIO(source)
        try:
            with Path(source).open("rb") if isinstance(source, (str, Path)) else nullcontext(source) as file:
                at = file.tell()
                self.ending = broken_off(file) or self._damaged(file)
                file.seek(at)
        except OSError:  # whoever decodes it says so
            self.ending = ""

    def _damaged(self, file: BinaryIO) -> str:
        """What a decoder left out of a file that is all there: it stops where it finds no next frame."""
        if self._short is None:
            return ""
        decoded, promised, rate_hz = self._short
        exact = promised - decoded >= _LOST_FRAMES * _FRAME_SAMPLES and _says_length(file)
        if not exact and decoded >= _GUESSED * promised:
            return ""
        there = f"only {decoded / rate_hz:.2f} s of {promised / rate_hz:.2f} s could be decoded"
        return f"the recording is damaged: {there}, and only that was used"


class _Sides:
    """Frames of two channels, summed up by the level of the louder one: memory stays constant."""

    def __init__(self) -> None:
        self._counts = np.zeros((1 - _QUIETEST_DB, 3), dtype=np.int64)  # left alone, right alone, both
        self._levels = np.zeros((1 - _QUIETEST_DB, 5))  # sums of left, right, their squares, and their product
        self._rest = np.zeros((0, 2), dtype=np.float32)

    def hear(self, block: np.ndarray, size: int) -> None:
        """(samples, 2); chunks of any size count the same."""
        heard = np.concatenate([self._rest, block.astype(np.float32)])
        n = len(heard) // size
        self._rest = heard[n * size :].copy()
        power = heard[: n * size].reshape(n, size, 2).astype(np.float64).var(axis=1)
        level = 10 * np.log10(power + 10 ** (_QUIETEST_DB / 10))
        lead = level[:, 0] - level[:, 1]
        side = np.where(lead > APART_DB, 0, np.where(lead < -APART_DB, 1, 2))
        loud = np.clip(np.round(level.max(axis=1)), _QUIETEST_DB, 0).astype(np.int64)
        np.add.at(self._counts, (loud - _QUIETEST_DB, side), 1)
        one, other = level.T
        sums = np.stack([one, other, one**2, other**2, one * other], axis=1)
        np.add.at(self._levels, loud - _QUIETEST_DB, sums)

    @property
    def found(self) -> bool:
        """Whether each channel has much of what is heard for itself, and both together most of it, or goes its way."""
        levels = np.flatnonzero(self._counts.sum(axis=1))
        if not len(levels):
            return False
        first = max(1, int(levels[-1]) - _HEARD_DB)  # 0: nothing at all
        left, right, both = self._counts[first:].sum(axis=0)
        total = left + right + both
        least = max(_LEAST_FRAMES, _LEAST_SHARE * total)
        if min(left, right) >= least and left + right >= _TOGETHER * total:
            return True
        if total < _LEAST_TALK or min(left, right) + both < least:
            return False
        one, other, one_2, other_2, product = self._levels[first:].sum(axis=0) / total
        deviations = np.sqrt(np.maximum(0.0, [one_2 - one**2, other_2 - other**2]))
        return bool(deviations.min() >= _LEAST_DB and product - one * other < _TIED * deviations.prod())


def broken_off(file: BinaryIO) -> str:
    """How a recording breaks off, as far as its format tells.

    An Ogg tells it by its last page, an MP3 by its first frame, an MP4 in fragments by its index.

    Args:
        file: an open file.

    Returns:
        A line; empty for a whole one, for another format, and where nothing tells (an MP3 without the Xing header,
        an Ogg that was cut between two pages, an MP4 without an index between two fragments).
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(10)
    if head[:4] == b"OggS":
        file.seek(max(0, size - _OGG_PAGE))
        tail = file.read(_OGG_PAGE)
        page = tail[max(0, tail.rfind(b"OggS")) :]
        whole = len(page) > 26 and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
        return "" if whole else "the Ogg file is truncated within a page: the rest is missing"
    if head[4:8] == b"ftyp":
        end = _indexed_end(file, size)
        return f"the MP4 is truncated: {size / end:.0%} of what its index lists is present" if end > size else ""
    if head[:4] == b"RIFF":
        there = riff.share(file)
        return f"the WAV is truncated: {there:.0%} of what its header declares is present" if there < 1 else ""
    tag, frame = first_frame(file)
    share = _mp3_share(frame, size - tag)
    return "" if share is None else f"the MP3 is truncated: {share:.0%} of what its header declares is present"


def _indexed_end(file: BinaryIO, size: int) -> int:
    """Where the last fragment ends that an MP4 lists (ISO 14496-12, box sidx), in bytes; 0 where it lists none."""
    at = end = 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 16:
            break
        length, kind = struct.unpack_from(">I4s", head)
        if length == 1:
            length = struct.unpack_from(">Q", head, 8)[0]
        if length < 8 or at + length > size:  # to the end of the file, or past it, of which the decoder complains
            break
        if kind == b"sidx" and length <= _MOST_INDEX:
            file.seek(at)
            end = max(end, at + length + _listed(file.read(length)[8:]))
        at += length
    return end


def _listed(index: bytes) -> int:
    """Bytes of what an index lists, from the end of the index on."""
    place = 20 if index[:1] == b"\0" else 28  # of the first offset's end: times and offsets of 4 bytes or 8
    if len(index) < place + 4:
        return 0
    (offset,) = struct.unpack_from(">I" if place == 20 else ">Q", index, 16 if place == 20 else 20)
    listed = np.frombuffer(index, ">u4", offset=place + 4, count=(len(index) - place - 4) // 12 * 3)[::3]
    return int(offset + (listed & 0x7FFFFFFF).sum(dtype=np.int64))


def first_frame(file: BinaryIO) -> tuple[int, bytes]:
    """Where the first frame of an MP3 or AAC begins, behind its ID3 tags, and its first bytes."""
    at, head = 0, b""
    for _ in range(_MOST_TAGS):
        file.seek(at)
        head = file.read(64)
        if head[:3] != b"ID3" or len(head) < 10:
            break
        footer = 10 if head[5] & 0x10 else 0
        at += 10 + footer + sum((byte & 0x7F) << 7 * (3 - k) for k, byte in enumerate(head[6:10]))
    return at, head


def _says_length(file: BinaryIO) -> bool:
    """Whether the length of an MP3 or Ogg is written in it: of an MP3 without a Xing header it is guessed."""
    file.seek(0)
    if file.read(4) == b"OggS":
        return True
    frame = first_frame(file)[1]
    marks = (frame[place : place + 4] for place in _XING_PLACES)
    return any(mark in (b"Xing", b"Info") for mark in marks)


def _mp3_share(frame: bytes, size: int) -> float | None:
    """How much is there of an MP3 by its Xing header; ``None`` for all of it, or where there is no such header.

    Args:
        frame: begin of the first frame. size: bytes from there to the end of the file.
    """
    if len(frame) < 64 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        return None
    for place in _XING_PLACES:
        mark, fields, frames, promised = _XING.unpack_from(frame, place)
        if mark in (b"Xing", b"Info") and fields & 3 == 3 and (promised - size) * frames >= _LOST_FRAMES * promised > 0:
            return float(size / promised)
    return None
