"""Sound in M4A, MP4, Matroska and other containers and codings, through the programs ``ffmpeg`` and ``ffprobe``.

They are run where they are installed, see one local file and no network, and are stopped when the reader stops.
"""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from serkit.errors import SerkitError

Source = Path | str | bytes | BinaryIO

UNKNOWN_FRAMES = 2**62
_PART = re.compile(r"^(\[[^\]]* @ 0x[0-9a-f]+\] ?)+")
_BLOCK_BYTES = 1 << 20
_AU = struct.Struct(">4s5I")  # .snd, where the samples begin, their size, their coding, rate, channels
_AU_FLOAT = 6


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a recording says.

    Attributes:
        duration_s: length in seconds; infinite where the header does not say it, as that of a stream.
        rate_hz: sampling rate. channels: how many.
        frames: samples per channel, at least ``UNKNOWN_FRAMES`` where that is not known.
        format: container and coding, such as ``WAV/PCM_16``.
    """

    duration_s: float
    rate_hz: int
    channels: int
    frames: int
    format: str


class Track:
    """The first sound track of a container while it is decoded: what is used of a ``soundfile.SoundFile``.

    All channels come at the track's own rate, so that what follows is what follows for a WAV. Time is counted in
    decoded samples, never in the container's own, which are rounded: a stretch is decoded from the beginning.

    Attributes:
        samplerate, channels: as the decoder says, which knows better than a header. frames: ``UNKNOWN_FRAMES``.
        complaint: at the end of the track, what the decoder complained of though it did not fail, as it does of a file
            that ends too early; empty where of nothing.
    """

    format, frames = "container", UNKNOWN_FRAMES

    def __init__(self, pipe: BinaryIO, name: str, ended: Callable[[], tuple[int, str]]) -> None:
        """Arguments: what it is decoded to; what an error calls it; exit code and complaint, once it has ended."""
        self._pipe, self._name, self._ended = pipe, name, ended
        self._given, self.complaint = 0, ""
        self.samplerate, self.channels = self._header()

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> np.ndarray:
        """Decode at most so many frames.

        Returns:
            (samples, channels) float32, fewer only at the end; neither finite nor in [-1, 1] for certain.

        Raises:
            SerkitError: ffmpeg failed, or the track has no samples at all.
        """
        width = 4 * self.channels
        data = self._pipe.read(frames * width)
        found = np.frombuffer(data, dtype=">f4", count=len(data) // width * self.channels)
        self._given += len(found)
        if len(data) < frames * width:
            code, self.complaint = self._ended()
            if code or not self._given:
                raise self._silent(code, self.complaint)
        return found.astype(np.float32).reshape(-1, self.channels)

    def seek(self, frame: int) -> None:
        """Go on to a frame, from the beginning; the end of the track is as far as it goes."""
        while frame > 0 and (passed := len(self.read(min(frame, max(1, _BLOCK_BYTES // (4 * self.channels)))))):
            frame -= passed

    def _silent(self, code: int, said: str) -> SerkitError:
        why = said or (f"exit {code}" if code else "no samples")
        return SerkitError(f"{self._name}: ffmpeg found no sound in it ({why})")

    def _header(self) -> tuple[int, int]:
        """Rate and channels; the pipe is left at the first sample."""
        head = self._pipe.read(_AU.size)
        if len(head) < _AU.size:
            raise self._silent(*self._ended())
        magic, offset, _, coding, rate, channels = _AU.unpack(head)
        if magic != b".snd" or coding != _AU_FLOAT or offset < _AU.size or channels < 1:
            raise SerkitError(f"{self._name}: ffmpeg did not write the samples it was asked for")
        self._pipe.read(offset - _AU.size)
        return rate, channels


@contextmanager
def opened(source: Source, name: str, kind: str) -> Iterator[Track]:
    """Decode the first sound track of a container.

    Args:
        source: the container. name: what an error calls it. kind: what ffmpeg calls it, such as ``mov``.

    Raises:
        SerkitError: ffmpeg is not installed, or finds no sound.
    """
    program = _program("ffmpeg", name)
    with _on_disk(source) as path, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            _decoder(program, path, kind), stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL
        )

        def ended() -> tuple[int, str]:
            """The exit code of ffmpeg, and the first it complained of."""
            code = process.wait()
            errors.seek(0)
            return code, _reason(errors.read().decode("utf-8", "replace"))

        pipe = cast("BinaryIO", process.stdout)
        try:
            yield Track(pipe, name, ended)
        finally:
            process.kill()
            pipe.close()
            process.wait()


def _decoder(program: str, path: str, kind: str) -> list[str]:
    """The command: every channel (ffmpeg's own mix is not a mean: it gets louder by the channels), nothing sought."""
    command = [program, "-v", "error", "-nostdin", "-protocol_whitelist", "file", "-f", kind, "-i", f"file:{path}"]
    return [*command, "-map", "0:a:0", "-vn", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]


def _reason(said: str) -> str:
    """The first line of a complaint, which is nearest to its cause, without which part of the program it came from."""
    return _PART.sub("", said.strip().split("\n")[0])[:200]


def probe(source: Source, name: str, kind: str) -> AudioInfo:
    """Read the header of a container; arguments as for :func:`opened`.

    Raises:
        SerkitError: ffprobe is not installed, or finds no sound. A length that is not there is no error.
    """
    program = _program("ffprobe", name)
    with _on_disk(source) as path:
        shown = "stream=codec_name,sample_rate,channels,duration:format=duration,format_name"
        command = [program, "-v", "error", "-protocol_whitelist", "file", "-f", kind, "-select_streams", "a:0"]
        command += ["-of", "json", "-show_entries", shown]
        done = subprocess.run(
            [*command, f"file:{path}"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
    found = _told(done.stdout)
    if found is None:
        said = _reason(done.stderr)
        raise SerkitError(f"{name}: ffprobe found no sound in it" + (f" ({said})" if said else ""))
    return found


def _told(answer: str) -> AudioInfo | None:
    """What ffprobe said, as JSON; ``None`` where it found no sound."""
    try:
        told = json.loads(answer)
        stream, container = told["streams"][0], told.get("format", {})
        rate, channels = int(stream["sample_rate"]), int(stream["channels"])
        duration_s = float(stream.get("duration") or container.get("duration") or math.inf)
    except (json.JSONDecodeError, KeyError, IndexError, TypeError, ValueError):
        return None
    kind = f"{container.get('format_name', 'unknown')}/{stream.get('codec_name', 'unknown')}"
    frames = round(duration_s * rate) if math.isfinite(duration_s) else UNKNOWN_FRAMES
    return AudioInfo(duration_s, rate, channels, frames, kind)


@contextmanager
def _on_disk(source: Source) -> Iterator[str]:
    """A path for ffmpeg: MPEG-4 cannot always be read from a pipe."""
    if isinstance(source, (str, Path)):
        yield str(Path(source).absolute())
        return
    with tempfile.NamedTemporaryFile(prefix="serkit-") as file:
        shutil.copyfileobj(io.BytesIO(source) if isinstance(source, bytes) else source, file, _BLOCK_BYTES)
        file.flush()
        yield file.name


def _program(name: str, of: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SerkitError(
            f"{of}: this container or coding (M4A, MP4, video, WAV in G.729 and the like) is read by the program "
            f"'{name}', which is not installed; install ffmpeg, or convert the recording to WAV or FLAC"
        )
    return found
