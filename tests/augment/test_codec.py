"""Opus and MP3: the bit rate that was asked for, and a clip of the same length at the same time."""

from __future__ import annotations

import io

import numpy as np
import pytest

from serkit.augment import Example
from serkit.augment._coding import coded
from serkit.augment.codec import Codec
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError


def voiced(seconds: float = 1.0) -> np.ndarray:
    """(samples,) float32: 40 harmonics of a gliding pitch whose loudness comes and goes, up to 7 kHz."""
    time = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    phase = 2 * np.pi * np.cumsum(160 + 20 * np.sin(2 * np.pi * time)) / SAMPLE_RATE_HZ
    sound = sum(np.sin(k * phase) / k for k in range(1, 41))
    return (0.1 * sound * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))).astype(np.float32)


def heard(samples: np.ndarray, kbps: float, name: str = "opus") -> np.ndarray:
    step = Codec(low_kbps=kbps, high_kbps=kbps, format=name)  # type: ignore[arg-type]
    return np.asarray(step(Example(np.ones(1), samples), np.random.default_rng(0)).samples)


def lag(a: np.ndarray, b: np.ndarray) -> int:
    """By how many samples b is later than a."""
    both = np.fft.irfft(np.fft.rfft(a, 2 * len(a)).conj() * np.fft.rfft(b, 2 * len(a)))
    best = int(np.argmax(both))
    return best if best < len(a) else best - 2 * len(a)


@pytest.mark.parametrize(
    ("name", "kbps"), [("opus", 8), ("opus", 24), ("mp3", 16), ("mp3", 24), ("mp3", 40), ("mp3", 160)]
)
def test_length_and_timing_stay_and_more_bits_are_nearer(name: str, kbps: float) -> None:
    noise = (0.1 * np.random.default_rng(1).standard_normal(9001)).astype(np.float32)
    clip = voiced()
    for samples in (clip, noise):
        after = heard(samples, kbps, name)
        assert len(after) == len(samples)
        assert abs(lag(samples, after)) <= 1
    better = heard(clip, 96, name)
    error = [float(np.mean((clip - after) ** 2)) for after in (heard(clip, kbps, name), better)]
    assert kbps > 96 or error[0] > error[1]


@pytest.mark.parametrize(("name", "kbps"), [("opus", 32), ("opus", 96), ("mp3", 24), ("mp3", 64)])
def test_what_is_coded_has_the_bit_rate(name: str, kbps: float, monkeypatch: pytest.MonkeyPatch) -> None:
    buffers: list[io.BytesIO] = []

    class Kept(io.BytesIO):
        def __init__(self) -> None:
            super().__init__()
            buffers.append(self)

    monkeypatch.setattr("serkit.augment._coding.io.BytesIO", Kept)
    heard((0.1 * np.random.default_rng(1).standard_normal(2 * SAMPLE_RATE_HZ)).astype(np.float32), kbps, name)
    assert len(buffers[0].getvalue()) * 8 / 2000 == pytest.approx(kbps, rel=0.12)


def test_eight_kbps_of_opus_leave_little_above_4_khz() -> None:
    hz = np.fft.rfftfreq(SAMPLE_RATE_HZ, 1 / SAMPLE_RATE_HZ)

    def above_db(samples: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(samples)) ** 2
        return float(10 * np.log10(power[hz > 4300].mean() / power[(hz > 300) & (hz < 3400)].mean()))

    assert above_db(heard(voiced(), 8)) < -35 < -30 < above_db(heard(voiced(), 16))


def test_a_full_scale_clip_stays_within_full_scale() -> None:
    square = np.sign(np.sin(2 * np.pi * 200 * np.arange(8000) / SAMPLE_RATE_HZ)).astype(np.float32)
    assert np.abs(heard(square, 16)).max() <= 1.0
    assert np.abs(heard(1.5 * square, 16) - heard(square, 16)).max() == 0


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"low_kbps": 4.0}, "of opus in kbit/s runs from 4.0 to 32.0, expected low ≤ high from 6 to 256"),
        ({"format": "mp3"}, "of mp3 in kbit/s runs from 10.0 to 32.0, expected low ≤ high from 16 to 160"),
        ({"low_kbps": 64.0}, "the bit rate of opus in kbit/s runs from 64.0 to 32.0"),
        ({"format": "opsu"}, "format is 'opsu'; did you mean 'opus'"),
    ],
)
def test_what_cannot_be_is_refused(parameters: dict[str, object], said: str) -> None:
    with pytest.raises(SerkitError) as caught:
        Codec(**parameters)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_a_libsndfile_without_the_codec_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import soundfile

    monkeypatch.setattr(soundfile, "check_format", lambda *_: False)
    monkeypatch.setattr(soundfile, "__libsndfile_version__", "1.0.28")
    with pytest.raises(
        SerkitError, match=r"^augmentation 'codec': libsndfile 1\.0\.28 has no OGG with OPUS; .* soundfile"
    ):
        Codec()


def test_of_one_sample_one_is_left() -> None:
    for container, coding, level in (("OGG", "OPUS", 0.96), ("MP3", "MPEG_LAYER_III", 0.9), ("RAW", "GSM610", None)):
        assert len(coded(np.full(1, 0.25, dtype=np.float32), 8000, container, coding, level)) == 1
