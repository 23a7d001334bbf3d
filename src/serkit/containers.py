"""Sound in M4A, MP4, Matroska and other containers, through the programs ``ffmpeg`` and ``ffprobe``.

They are run where they are installed, see one local file and no network, and are stopped when the reader stops.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError

Source = Path | str | bytes | BinaryIO

_BLOCK_BYTES = 10 * SAMPLE_RATE_HZ * 4  # ten seconds


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a recording says.

    Attributes:
        duration_s: length in seconds. rate_hz: sampling rate. channels: how many.
        frames: samples per channel. format: container and coding, such as ``WAV/PCM_16``.
    """

    duration_s: float
    rate_hz: int
    channels: int
    frames: int
    format: str


def blocks(source: Source, name: str, start_s: float, longest_s: float | None) -> Generator[np.ndarray]:
    """Yield the first sound track of a container in order, ten seconds at a time.

    Args:
        source: the container. name: what an error calls it.
        start_s: where to begin. longest_s: seconds to decode at most; ``None`` is to the end.

    Yields:
        (samples,) float32 mono 16 kHz as ffmpeg says, never empty; neither finite nor in [-1, 1] for certain.

    Raises:
        SerkitError: ffmpeg is not installed, or finds no sound.
    """
    program = _program("ffmpeg", name)
    with _on_disk(source) as path, tempfile.TemporaryFile() as errors:
        command = [program, "-v", "error", "-nostdin", "-protocol_whitelist", "file", "-ss", f"{start_s:.6f}"]
        command += ["-i", f"file:{path}", "-map", "0:a:0", "-vn"]
        command += [] if longest_s is None else ["-t", f"{longest_s:.6f}"]
        command += ["-ac", "1", "-ar", str(SAMPLE_RATE_HZ), "-f", "f32le", "pipe:1"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL)
        given, finished = 0, False
        try:
            while process.stdout is not None and (data := process.stdout.read(_BLOCK_BYTES)):
                part = np.frombuffer(data[: len(data) // 4 * 4], dtype="<f4")
                given += len(part)
                if len(part):
                    yield part
            finished = True
        finally:
            if not finished:
                process.kill()
            if process.stdout is not None:
                process.stdout.close()
            code = process.wait()
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip().split("\n")[-1]
    if code != 0 or given == 0:
        raise SerkitError(f"{name}: ffmpeg found no sound in it ({said or f'exit {code}'})")


def probe(source: Source, name: str) -> AudioInfo:
    """Read the header of a container.

    Raises:
        SerkitError: ffprobe is not installed, or finds no sound.
    """
    program = _program("ffprobe", name)
    with _on_disk(source) as path:
        command = [program, "-v", "error", "-protocol_whitelist", "file", "-select_streams", "a:0", "-of", "json"]
        command += ["-show_entries", "stream=codec_name,sample_rate,channels,duration:format=duration,format_name"]
        done = subprocess.run([*command, f"file:{path}"], capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout)
        stream = answer["streams"][0]
        duration = float(stream.get("duration") or answer["format"]["duration"])
        rate, channels = int(stream["sample_rate"]), int(stream["channels"])
    except (json.JSONDecodeError, KeyError, IndexError, ValueError):
        raise SerkitError(f"{name}: ffprobe found no sound in it ({done.stderr.strip()[:200]})") from None
    kind = f"{answer['format'].get('format_name', 'unknown')}/{stream.get('codec_name', 'unknown')}"
    return AudioInfo(duration, rate, channels, round(duration * rate), kind)


@contextmanager
def _on_disk(source: Source) -> Iterator[str]:
    """A path for ffmpeg: MPEG-4 cannot always be read from a pipe."""
    if isinstance(source, (str, Path)):
        yield str(Path(source).absolute())
        return
    with tempfile.NamedTemporaryFile(prefix="serkit-") as file:
        file.write(source if isinstance(source, bytes) else source.read())
        file.flush()
        yield file.name


def _program(name: str, of: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SerkitError(
            f"{of}: this container (M4A, MP4, video) is read by the program '{name}', which is not "
            "installed; install ffmpeg, or convert the recording to WAV or FLAC"
        )
    return found
