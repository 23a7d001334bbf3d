"""Decoding: what comes out, and the one clear line for what cannot be read."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serkit import audio
from serkit.errors import SerkitError

RATE = 16_000


def tone(seconds: float = 1.0, rate: int = RATE, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def wav_bytes(samples: np.ndarray, rate: int = RATE, **options: str) -> bytes:
    handle = io.BytesIO()
    soundfile.write(handle, samples, rate, format=options.pop("format", "WAV"), **options)
    return handle.getvalue()


def one_line(error: pytest.ExceptionInfo[SerkitError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_path_bytes_and_stream_give_the_same_samples(tmp_path: Path) -> None:
    path = tmp_path / "a b é.wav"
    soundfile.write(path, tone(), RATE, subtype="PCM_16")
    first = audio.load(path)
    assert first.dtype == np.float32
    assert first.shape == (RATE,)
    np.testing.assert_allclose(first, tone(), atol=1 / 32000)
    np.testing.assert_array_equal(first, audio.load(str(path)))
    np.testing.assert_array_equal(first, audio.load(path.read_bytes()))
    with path.open("rb") as file:
        np.testing.assert_array_equal(first, audio.load(file))


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_other_rates_are_resampled_to_the_same_tone(rate: int) -> None:
    samples = audio.load(wav_bytes(tone(1.0, rate), rate, subtype="FLOAT"))
    assert abs(len(samples) - RATE) <= 1
    middle = slice(2_000, 14_000)
    np.testing.assert_allclose(samples[middle], tone()[middle], atol=2e-3)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_long_file_decoded_in_blocks_equals_one_conversion(rate: int) -> None:
    rng = np.random.default_rng(0)
    whole = (0.1 * rng.standard_normal(25 * rate)).astype(np.float32)
    data = wav_bytes(whole, rate, subtype="FLOAT")
    np.testing.assert_allclose(audio.load(data), audio.to_mono_16k(whole, rate), atol=1e-5)
    parts = list(audio.blocks(data))
    assert len(parts) >= 3
    np.testing.assert_array_equal(np.concatenate(parts), audio.load(data))


def test_eight_bits_and_eight_channels() -> None:
    eight = audio.load(wav_bytes(tone(), subtype="PCM_U8"))
    np.testing.assert_allclose(eight, tone(), atol=1.5 / 128)
    channels = np.stack([tone() * k / 8 for k in range(8)], axis=1)
    np.testing.assert_allclose(audio.load(wav_bytes(channels)), tone() * 3.5 / 8, atol=1e-4)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_a_stretch_equals_that_slice_of_the_whole(rate: int) -> None:
    rng = np.random.default_rng(1)
    data = wav_bytes((0.1 * rng.standard_normal(12 * rate)).astype(np.float32), rate, subtype="FLOAT")
    whole = audio.load(data)
    for start, end in [(0.0, 0.5), (1.2345, 3.3), (10.01, 11.0), (11.5, None)]:
        part = audio.load(data, start_s=start, end_s=end)
        expected = whole[round(start * RATE) : None if end is None else round(end * RATE)]
        assert len(part) == len(expected)
        np.testing.assert_allclose(part, expected, atol=0 if rate == RATE else 2e-3)


def test_a_stretch_outside_is_refused_and_a_small_overshoot_is_cut() -> None:
    data = wav_bytes(tone(1.0))
    assert len(audio.load(data, start_s=0.5, end_s=1.2)) == RATE // 2
    for start, end, word in [(2.0, None, "after the end"), (0.0, 3.0, "after the end"), (0.5, 0.5, "expected")]:
        with pytest.raises(SerkitError, match=word) as error:
            audio.load(data, start_s=start, end_s=end)
        one_line(error)
    with pytest.raises(SerkitError, match="expected"):
        audio.load(data, start_s=float("nan"))


def test_bad_files_give_one_line_that_names_them(tmp_path: Path) -> None:
    good = wav_bytes(tone())
    flac = wav_bytes(tone(3.0) + 0.01 * np.random.default_rng(0).standard_normal(48_000), format="FLAC")
    cases = {
        "text.wav": (b"hello, this is no sound at all\n", "looks like text"),
        "empty.wav": (b"", "0 bytes"),
        "cut.wav": (good[: len(good) // 2], "truncated"),
        "cut.flac": (flac[: len(flac) // 2], "truncated"),
        "head.wav": (good[:44], "truncated|no samples"),
        "begun.wav": (good[:30], "looks like a damaged WAV file"),
        "other.wav": (b"RIFX" + good[4:], "looks like a damaged WAV file"),
        "begun.flac": (flac[:30], "looks like a damaged FLAC file, or one in a coding that libsndfile does not know"),
        "junk.mp3": (bytes(np.random.default_rng(2).integers(0, 256, 999, dtype=np.uint8)), "not audio|declares no"),
    }
    for name, (data, word) in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(SerkitError, match=word) as error:
            audio.load(path)
        assert name in one_line(error)
        with pytest.raises(SerkitError) as error:
            audio.load(data)
        one_line(error)
    with pytest.raises(SerkitError, match="no such file"):
        audio.load(tmp_path / "absent.wav")
    with pytest.raises(SerkitError, match="folder"):
        audio.load(tmp_path)


def test_a_flac_that_is_cut_says_between_which_seconds() -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 24 * RATE)
    whole = wav_bytes(noise, format="FLAC")
    for share, between in ((0.5, "10.00 and 20.00"), (0.95, "20.00 and 24.00")):
        with pytest.raises(SerkitError, match=rf"damaged or truncated between {between} s") as error:
            audio.load(whole[: int(share * len(whole))])
        one_line(error)


def test_a_wav_written_as_a_stream_is_not_called_truncated() -> None:
    data = bytearray(wav_bytes(tone(), subtype="PCM_16"))
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    assert len(audio.load(bytes(data))) == RATE


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_samples_are_refused(bad: float) -> None:
    samples = tone()
    samples[123] = bad
    with pytest.raises(SerkitError, match="NaN or infinite") as error:
        audio.load(wav_bytes(samples, subtype="FLOAT"))
    one_line(error)
    with pytest.raises(SerkitError, match="NaN or infinite"):
        audio.to_mono_16k(samples, RATE)


def test_where_a_sample_that_is_no_number_lies_is_counted_from_the_beginning() -> None:
    """It was counted from the beginning of some block of ten seconds."""
    samples = np.tile(tone(), 25)
    samples[20 * RATE + 5] = np.nan
    for apart in (False, True):
        with pytest.raises(SerkitError, match=rf"\(first at sample {20 * RATE + 5}\)"):
            list(audio.blocks(wav_bytes(samples, subtype="FLOAT"), apart=apart))


def test_overshoot_is_cut_and_a_foreign_scale_refused() -> None:
    assert np.abs(audio.load(wav_bytes(tone() * 3, subtype="FLOAT"))).max() == 1.0
    with pytest.raises(SerkitError, match="full scale"):
        audio.load(wav_bytes(tone() * 30_000, subtype="FLOAT"))


def test_limits() -> None:
    data = wav_bytes(tone(3.0))
    assert len(audio.load(data, max_s=3.0)) == 3 * RATE
    assert len(audio.load(data, start_s=1.0, end_s=2.0, max_s=1.0)) == RATE
    with pytest.raises(SerkitError, match="limit"):
        audio.load(data, max_s=2.0)
    with pytest.raises(SerkitError, match="limit"):
        audio.load(data, end_s=2.5, max_s=2.0)
    bomb = wav_bytes(np.zeros(2 * 3600 * 8_000, dtype=np.int16), 8_000, format="FLAC")
    assert len(bomb) < 1_000_000
    with pytest.raises(SerkitError, match="limit is 3600 s"):
        audio.load(bomb)


@pytest.mark.parametrize("n", [1, 7, 240, 320])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_very_short_recordings_are_allowed(n: int, rate: int) -> None:
    samples = audio.load(wav_bytes(tone(1.0)[:n], rate))
    assert 1 <= len(samples) <= 2 * n + 1


def test_silence_is_allowed_and_flagged() -> None:
    assert audio.is_silent(audio.load(wav_bytes(np.zeros(1_000, dtype=np.float32))))
    assert audio.is_silent(np.full(1_000, 0.5, dtype=np.float32))
    assert not audio.is_silent(tone() * 0.01)


def test_a_stream_that_was_written_to_its_end_is_told_apart_from_an_empty_one() -> None:
    written = io.BytesIO()
    written.write(wav_bytes(tone(0.1)))
    with pytest.raises(SerkitError, match=r"^audio stream: was read to its end already: seek\(0\) first$"):
        audio.load(written)
    written.seek(0)
    assert len(audio.load(written)) == RATE // 10
    with pytest.raises(SerkitError, match="0 bytes"):
        audio.load(io.BytesIO())


def test_arrays_of_any_width(tmp_path: Path) -> None:
    np.testing.assert_allclose(audio.to_mono_16k((tone() * 32768).astype(np.int16), RATE), tone(), atol=1e-4)
    np.testing.assert_allclose(audio.to_mono_16k(((tone() + 1) * 128).astype(np.uint8), RATE), tone(), atol=1e-2)
    stereo = np.stack([tone(), np.zeros(RATE, dtype=np.float32)], axis=1)
    np.testing.assert_allclose(audio.to_mono_16k(stereo, RATE), tone() / 2, atol=1e-6)
    assert len(audio.to_mono_16k(tone(1.0, 48_000), 48_000)) == RATE
    for bad, rate in [(stereo.T, RATE), (np.zeros(0), RATE), (np.zeros((2, 2, 2)), RATE), (tone(), 0), (tone(), 1e9)]:
        with pytest.raises(SerkitError):
            audio.to_mono_16k(bad, rate)


def test_info_reads_the_header_only(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.zeros((44_100, 2)), 44_100)
    found = audio.info(path)
    assert (found.duration_s, found.rate_hz, found.channels, found.frames) == (1.0, 44_100, 2, 44_100)
    assert found.format == "FLAC/PCM_16"
    with pytest.raises(SerkitError, match="no such file"):
        audio.info(tmp_path / "b.flac")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=300), head=st.sampled_from(["wav", "flac", "none"]), cut=st.integers(0, 200))
def test_damaged_bytes_never_raise_anything_else(data: bytes, head: str, cut: int) -> None:
    if head != "none":
        whole = wav_bytes(tone(0.02), format=head.upper())
        data = whole[:cut] + data + whole[cut + len(data) :]
    with contextlib.suppress(SerkitError):
        samples = audio.load(data, max_s=60.0)
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() <= 1.0
