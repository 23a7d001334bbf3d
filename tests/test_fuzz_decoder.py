"""Damaged recordings: whatever the bytes, an answer or one clear line, in bounded time and memory.

About 20 s here; ``make test-all`` goes on for longer.
"""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import serkit
from serkit import audio
from serkit.errors import SerkitError
from serkit.serving.predictor import Model

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
GOLDEN = Path(__file__).parent / "serving" / "golden" / "tiny.zip"
RATE = 16_000
KINDS = (
    ("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("WAVEX", "PCM_24"),
    ("W64", "PCM_16"), ("RF64", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("AU", "ULAW"), ("CAF", "ALAC_16"), ("NIST", "PCM_16"),
    ("VOC", "PCM_16"),
)  # fmt: skip
MAX_S = 30.0
QUICK = settings(
    max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.explicit]
)
LONG = settings(QUICK, max_examples=20_000)


def made(kind: str, subtype: str, channels: int) -> bytes:
    """A quarter of a second of a chirp."""
    time = np.arange(RATE // 4) / RATE
    sound = 0.3 * np.sin(2 * np.pi * (200 + 800 * time) * time)
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", RATE, channels, subtype, format=kind) as file:
        file.write(np.repeat(sound[:, None], channels, axis=1))
    return buffer.getvalue()


SEEDS = [made(kind, subtype, channels) for kind, subtype in KINDS for channels in (1, 2)]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A recording in which bytes were changed, cut out, doubled or put in, mostly near its header."""
    content = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        near = draw(st.booleans())
        place = draw(st.integers(0, min(len(content), 120 if near else len(content))))
        how = draw(st.sampled_from(("set", "cut", "insert", "double", "number", "end")))
        if how == "set" and place < len(content):
            content[place] = draw(st.sampled_from((0, 1, 0x7F, 0x80, 0xFF)) | st.integers(0, 255))
        elif how == "number":
            value = draw(st.sampled_from((0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)))
            order = draw(st.sampled_from(("little", "big")))
            content[place : place + 4] = value.to_bytes(4, order)  # type: ignore[arg-type]
        elif how == "cut":
            del content[place : place + draw(st.integers(1, 64))]
        elif how == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=16))
        elif how == "double":
            content[place:place] = content[place : place + draw(st.integers(1, 256))]
        elif how == "end":
            del content[max(1, place) :]
    return bytes(content)


def check_line(error: SerkitError) -> None:
    """One line."""
    assert str(error)
    assert "\n" not in str(error)


def check_decoding(content: bytes) -> None:
    """Samples as promised, or a line."""
    try:
        found = audio.load(content, max_s=MAX_S)
    except SerkitError as error:
        return check_line(error)
    assert found.dtype == np.float32
    assert found.ndim == 1
    assert 1 <= len(found) <= MAX_S * RATE + 1
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 1.0
    return None


def check_answering(model: Model, content: bytes) -> None:
    """An answer whose shares sum to 1, or a line."""
    try:
        found = model.predict(content)
    except SerkitError as error:
        return check_line(error)
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert found.label in model.labels
    assert all(0 <= s.start_s < s.end_s <= found.duration_s + 0.1 for s in found.segments)
    return None


@pytest.fixture(scope="module")
def model() -> Model:
    return serkit.load(GOLDEN, max_s=MAX_S)


def test_the_seeds_themselves_are_answered(model: Model) -> None:
    for content in SEEDS:
        assert model.predict(content).duration_s == pytest.approx(0.25, abs=0.1)


@settings(QUICK, max_examples=500)
@given(damaged())
def test_decoding_damaged_recordings(content: bytes) -> None:
    check_decoding(content)


@QUICK
@given(damaged())
def test_answering_damaged_recordings(model: Model, content: bytes) -> None:
    check_answering(model, content)


@settings(QUICK, max_examples=500)
@given(st.sampled_from((b"", b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM", b"\xff\xfb", b".snd", b"caff")), st.binary())
def test_noise_behind_a_known_signature(head: bytes, rest: bytes) -> None:
    check_decoding(head + rest)


def test_memory_is_bounded_whatever_a_header_claims() -> None:
    """Rates, channel counts and lengths at their largest in every header field: what is allocated stays small."""
    peaks = []
    for content in SEEDS:
        for place in range(0, min(80, len(content)), 2):
            broken = bytearray(content)
            broken[place : place + 4] = b"\x7f\xff\xff\x7f"
            tracemalloc.start()
            check_decoding(bytes(broken))
            peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
            tracemalloc.stop()
    assert max(peaks) < 400


def long_run(check: Callable[[bytes], None], examples: int) -> None:
    settings(LONG, max_examples=examples)(given(damaged())(check))()


@pytest.mark.slow
def test_decoding_for_long() -> None:
    long_run(check_decoding, 20_000)


@pytest.mark.slow
def test_answering_for_long(model: Model) -> None:
    long_run(lambda content: check_answering(model, content), 4_000)
