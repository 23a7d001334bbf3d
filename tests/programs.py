"""Stand-ins for ffmpeg and ffprobe, and the real ones where they are installed."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

MP4 = b"\x00\x00\x00\x20ftypM4A " + bytes(100)
stand_ins = pytest.mark.skipif(os.name == "nt", reason="the stand-ins for ffmpeg and ffprobe are scripts")
real = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None, reason="ffmpeg and ffprobe are not installed"
)


def au(samples: np.ndarray, rate_hz: int, more: bytes = b"") -> bytes:
    """(n, channels) as ffmpeg writes them to a pipe: Sun audio of big-endian float, of a size not known."""
    head = struct.pack(">4s5I", b".snd", 24 + len(more), 0xFFFFFFFF, 6, rate_hz, samples.shape[1])
    return head + more + samples.astype(">f4").tobytes()


def stand_in(folder: Path, name: str, says: bytes, *, complains: str = "", code: int = 0) -> None:
    """A program that says one thing, complains of another, and keeps its arguments in ``NAME.arguments``."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.says").write_bytes(says)
    program = folder / name
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"open({str(folder / name)!r} + '.arguments', 'w').write('\\n'.join(sys.argv[1:]))\n"
        f"sys.stdout.buffer.write(open({str(folder / name)!r} + '.says', 'rb').read())\n"
        f"sys.stderr.write({complains!r})\nsys.exit({code})\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def contained(samples: np.ndarray, rate_hz: int, path: Path | None, *options: str) -> bytes:
    """(n, channels) in a container, by the real ffmpeg; without a path, written to a pipe and so of no known length."""
    wav = io.BytesIO()
    soundfile.write(wav, samples, rate_hz, format="WAV", subtype="PCM_16")
    command = ["ffmpeg", "-v", "error", "-f", "wav", "-i", "pipe:0", *options, "-y", str(path or "pipe:1")]
    written = subprocess.run(command, input=wav.getvalue(), capture_output=True, check=True).stdout
    return written if path is None else path.read_bytes()
