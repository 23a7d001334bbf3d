"""WAV files that do not say how long they are: read to the end of the file, in bounded memory."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serkit import audio
from serkit.errors import SerkitError

RATE = 16_000
INFO = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf60.16.100\0"  # as ffmpeg has it


def made(size: int, whole: int = 0xFFFFFFFF, subtype: str = "PCM_16", channels: int = 1, tail: bytes = b"") -> bytes:
    """Two seconds whose header says ``size`` of the samples and ``whole`` of the file, with ffmpeg's chunk before."""
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal((2 * RATE, channels))).astype(np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, RATE, format="WAV", subtype=subtype)
    content = bytearray(buffer.getvalue())
    at = content.index(b"data")
    content[4:8], content[at + 4 : at + 8] = struct.pack("<I", whole), struct.pack("<I", size)
    content[at:at] = INFO
    return bytes(content) + tail


def closed(subtype: str = "PCM_16", channels: int = 1) -> np.ndarray:
    """The same with a header that says how long it is."""
    whole = made(2 * RATE * channels * {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}[subtype], 0, subtype, channels)
    return audio.load(whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:])


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
@pytest.mark.parametrize("whole", [0, 8, 36, 0xFFFFFFFF])
@pytest.mark.parametrize(("subtype", "channels"), [("PCM_16", 1), ("PCM_24", 2), ("FLOAT", 1)])
def test_it_is_read_to_the_end_however_it_comes(
    tmp_path: Path, size: int, whole: int, subtype: str, channels: int
) -> None:
    content, truth = made(size, whole, subtype, channels), closed(subtype, channels)
    assert len(truth) == 2 * RATE
    path = tmp_path / "pipé.wav"
    path.write_bytes(content)
    np.testing.assert_array_equal(audio.load(content), truth)
    np.testing.assert_array_equal(audio.load(path), truth)
    np.testing.assert_array_equal(audio.load(path, start_s=0.5, end_s=1.25), truth[8_000:20_000])
    assert audio.info(path) == audio.info(content)
    assert audio.info(path).frames == 2 * RATE
    with path.open("rb") as file:
        np.testing.assert_array_equal(audio.load(file), truth)
        assert not file.closed
    np.testing.assert_array_equal(audio.load(content + b"\x01"), truth)  # a writer that was stopped within a sample


@pytest.mark.parametrize("n_bytes", [50, 100_001])
@pytest.mark.parametrize("size", [4 * RATE, 0xFFFFFFFF])
def test_one_behind_an_id3_tag_is_read_whole(n_bytes: int, size: int, tmp_path: Path) -> None:
    """Its tag was counted as samples, so it was refused as truncated."""
    tag = b"ID3\x04\0\0" + bytes(n_bytes >> 7 * k & 127 for k in (3, 2, 1, 0)) + bytes(n_bytes)
    content, path = tag + made(size, 4 * RATE + 80), tmp_path / "a.wav"
    path.write_bytes(content)
    for source in (content, path, io.BytesIO(content)):
        assert np.array_equal(audio.load(source), closed())
        assert audio.info(source).frames == 2 * RATE
    if size != 0xFFFFFFFF:
        with pytest.raises(SerkitError, match=f"promises {size} bytes of samples, {size - 999} are there"):
            audio.load(content[:-999])


@pytest.mark.parametrize("tail", [b"", INFO, INFO + INFO, b"note\x03\0\0\0abc", b"note\x03\0\0\0abc\0"])
def test_one_that_is_truly_empty_is_still_refused(tail: bytes) -> None:
    content = made(0)
    content = content[: content.index(b"data") + 8] + tail
    for source in (content, io.BytesIO(content)):
        with pytest.raises(SerkitError, match="no samples"):
            audio.load(source)


def test_a_size_that_is_said_is_believed() -> None:
    assert len(audio.load(made(2 * RATE, tail=INFO))) == RATE  # what follows the samples is none of them
    with pytest.raises(SerkitError, match="truncated"):
        audio.load(made(5 * RATE))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(SerkitError, match=r"pipe\.wav: is a pipe or device.* standard input"):
        audio.load(tmp_path / "pipe.wav")


def test_more_than_four_gigabytes_in_little_memory(tmp_path: Path) -> None:
    for size in (0, 0xFFFFFFFF):
        path = tmp_path / f"{size}.wav"
        content = made(size)
        with path.open("wb") as file:
            file.write(content)
            file.truncate(5 << 30)  # a hole that reads as zeros
        frames = ((5 << 30) - content.index(b"data") - 8) // 2
        assert audio.info(path).frames == frames
        tracemalloc.start()
        blocks = audio.blocks(path)
        heard = sum(len(block) for block, _ in zip(blocks, range(40), strict=False))
        blocks.close()  # type: ignore[attr-defined]  # a generator
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert heard == 40 * 10 * RATE
        assert peak < 10e6
        with pytest.raises(SerkitError, match="the limit is"):
            audio.load(path, max_s=3600.0)
        path.unlink()
