"""A path, bytes or an open file as what decodes it: libsndfile's file, or a track that ffmpeg decodes."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from serkit import riff
from serkit.containers import Source
from serkit.errors import SerkitError
from serkit.remarks import first_frame
from serkit.suffixes import CONTAINERS

_ARCHIVES = {b"\x1f\x8b": "a gzip archive, to be unpacked first", b"PK": "a zip archive, to be unpacked first"}


def label(source: Source) -> str:
    """What an error calls a recording: its path, or the name of the open file."""
    if isinstance(source, bytes):
        return f"audio of {len(source)} bytes"
    if isinstance(source, (str, Path)):
        return str(source)
    return str(getattr(source, "name", None) or "audio stream")


def _head(source: Source, n_bytes: int = 64) -> bytes:
    """First bytes of a source; refuses what is missing, empty or no file."""
    name = label(source)
    if isinstance(source, bytes):
        head = source[:n_bytes]
    elif isinstance(source, (str, Path)):
        if not name:
            raise SerkitError("an empty name; expected the path of a recording")
        path = Path(source)
        try:
            if path.is_dir():
                raise SerkitError(f"{name}: is a folder, expected an audio file")
            if path.exists() and not path.is_file():  # it could not be opened twice
                raise SerkitError(
                    f"{name}: is a pipe or device, not a file; pass it to standard input: serkit predict -"
                )
            with path.open("rb") as file:
                head = file.read(n_bytes)
        except FileNotFoundError:
            raise SerkitError(f"{name}: no such file{_meant(name)}") from None
        except (OSError, ValueError) as error:
            raise SerkitError(f"{name}: cannot be read: {error}") from None
    else:
        at = source.tell()
        head = source.read(n_bytes)
        source.seek(at)
        if at and not head:  # as after writing into it
            raise SerkitError(f"{name}: was read to its end already: seek(0) first")
    if not head:
        raise SerkitError(f"{name}: is empty (0 bytes), expected audio")
    return head


def _meant(name: str) -> str:
    """Why a name that is no file's may have been given, and what to give; empty for an ordinary one.

    >>> _meant("s3://calls/a.wav"), _meant("calls/a.wav")
    ('; addresses are not fetched: give the data, as bytes or on standard input', '')
    """
    if name.startswith("file:/"):
        return "; give the path itself, without file://"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", name):  # of one letter it is a drive; pathlib makes one slash of two
        return "; addresses are not fetched: give the data, as bytes or on standard input"
    return "; ~ is expanded by shells alone" if name.startswith("~") else ""


def container(source: Source) -> str:
    """What ffmpeg calls the container that a recording is by its signature; empty where libsndfile reads it.

    A WAV or Ogg in a coding that libsndfile does not read is such a container too.

    ffmpeg is told to read it as that and nothing else: a playlist, which names other files, may begin like any of them.
    """
    head = _head(source)
    if head[:3] == b"ID3":
        with _looked_at(source) as file:
            head = first_frame(file)[1]
    if head[4:8] == b"ftyp":
        return "mov"  # MPEG-4
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        with _looked_at(source) as file:
            return "wav" * riff.is_foreign(file)
    if head[:4] == b"OggS" and head[28:36] == b"Speex   ":
        return "ogg"
    if head[:5] == b"#!AMR":
        return "amr"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:  # ADTS
        return "aac"
    return {b"\x1a\x45\xdf\xa3": "matroska", b"\x30\x26\xb2\x75": "asf"}.get(head[:4], "")


@contextmanager
def _looked_at(source: Source) -> Iterator[BinaryIO]:
    """A source as an open file, which is left where it was."""
    if isinstance(source, (str, Path)):
        with Path(source).open("rb") as file:
            yield file
        return
    held = io.BytesIO(source) if isinstance(source, bytes) else source
    at = held.tell()
    try:
        yield held
    finally:
        held.seek(at)


class _Bytes(io.BytesIO):
    """The bytes of a file, in which a damaged header may send the decoder to before the beginning."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a file on disk does: a place that is none changes nothing."""
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


class _Behind(io.RawIOBase):
    """An open file from a byte on, as libsndfile is handed it.

    Args:
        file: the open file, which stays open. begin: the byte that is the first here.
    """

    def __init__(self, file: BinaryIO, begin: int) -> None:
        super().__init__()
        self._file, self._begin = file, begin
        file.seek(begin)

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a byte; a place that is none, as a damaged header may name, changes nothing."""
        origin = {io.SEEK_SET: self._begin, io.SEEK_CUR: self._file.tell()}.get(whence)
        at = (self._file.seek(0, io.SEEK_END) if origin is None else origin) + offset
        with suppress(OSError, ValueError, OverflowError):
            self._file.seek(max(self._begin, at))
        return self.tell()

    def tell(self) -> int:
        """Which byte comes next."""
        return self._file.tell() - self._begin

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; how many bytes there were."""
        view = memoryview(buffer).cast("B")
        found = self._file.read(len(view))
        view[: len(found)] = found
        return len(found)


def _wav_behind_tags(source: Source, head: bytes) -> int:
    """Where a WAV begins behind ID3 tags, which libsndfile counts as its samples; 0 for any other recording."""
    if head[:3] != b"ID3":
        return 0
    with _looked_at(source) as file:
        at, frame = first_frame(file)
    return at * (frame[:4] == b"RIFF" and frame[8:12] == b"WAVE")


@contextmanager
def opened(source: Source) -> Iterator[Any]:
    """Decode a recording with libsndfile; a WAV that does not say how long it is goes to the end of its file.

    Yields:
        An open ``soundfile.SoundFile`` that is audio, and whole.

    Raises:
        SerkitError: no such file, empty, not audio, truncated.
    """
    import soundfile

    name, head = label(source), _head(source)
    suffix = Path(source).suffix.lower() if isinstance(source, (str, Path)) else ""
    if suffix == ".raw":
        raise SerkitError(f"{name}: headerless audio has no rate or width; convert it to WAV or FLAC")
    with _handle(source, _wav_behind_tags(source, head), wav=head[:4] == b"RIFF") as handle:
        try:
            file = soundfile.SoundFile(handle)
        except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
            kind = "text" if _is_text(head) else _ARCHIVES.get(head[:2], "something else")
            if begun := _begun(head):
                kind = f"a damaged {begun}, or one in a coding that libsndfile does not know"
            hint = "; containers need ffmpeg and a known signature" if suffix in CONTAINERS else ""
            reason = str(getattr(error, "error_string", error)).split("\n")[0]
            reason = "" if "does not exist" in reason else f" ({reason})"  # so it says of what begins like an MP3
            raise SerkitError(f"{name}: not audio that serkit can read, it looks like {kind}{reason}{hint}") from None
        with closing(file):
            if file.frames <= 0:
                raise SerkitError(f"{name}: the header declares no samples; the recording is empty or truncated")
            riff.refuse_truncated(str(file.extra_info), name)
            yield file


@contextmanager
def _handle(source: Source, behind: int, *, wav: bool) -> Iterator[Any]:
    """What libsndfile is handed: the name of a file, or a file; of a WAV behind tags what begins at ``behind``."""
    if behind:
        with _looked_at(source) as file:
            part: Any = _Behind(file, behind)
            at = riff.unsaid(part)
            yield part if at is None else riff.Unclosed(part, at)
        return
    if not isinstance(source, (str, Path)):
        held: Any = _Bytes(source) if isinstance(source, bytes) else source
        at = riff.unsaid(held) if wav else None
        yield held if at is None else riff.Unclosed(held, at)
        return
    if wav:
        with Path(source).open("rb") as file:
            if (at := riff.unsaid(file)) is not None:
                yield riff.Unclosed(file, at)
                return
    # a name that is not UTF-8 is a file like any other
    yield os.fsencode(str(source)) if os.name == "posix" else str(source)


def _begun(head: bytes) -> str:
    """The format whose signature a file begins with; empty for none that libsndfile reads."""
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return "WAV file"
    return {b"fLaC": "FLAC file", b"OggS": "Ogg file", b"FORM": "AIFF file"}.get(head[:4], "")


def _is_text(head: bytes) -> bool:
    return all(32 <= byte < 127 or byte in (9, 10, 13) or byte > 127 for byte in head)
