from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from serkit.augment import Example
from serkit.augment.noise import Noise
from serkit.errors import SerkitError


def tone(n: int = 16000, level: float = 0.1) -> Example:
    return Example(np.array([1.0]), (level * np.sin(np.arange(n) * 0.2)).astype(np.float32))


def added(step: Noise, example: Example, seed: int) -> tuple[np.ndarray, float]:
    """The noise in the result and the SNR measured there, undoing a common scale by least squares on 60 dB."""
    noisy = step(example, np.random.default_rng(seed)).samples.astype(float)
    noise = noisy - example.samples
    return noise, 10 * np.log10(np.mean(example.samples.astype(float) ** 2) / np.mean(noise**2))


@pytest.mark.parametrize("color", ["white", "pink", "brown"])
@pytest.mark.parametrize("snr_db", [0.0, 12.5, 40.0])
def test_snr_of_the_result_is_the_snr_asked_for(color: str, snr_db: float) -> None:
    step = Noise(snr_low_db=snr_db, snr_high_db=snr_db, color=color)  # type: ignore[arg-type]
    assert added(step, tone(), 0)[1] == pytest.approx(snr_db, abs=1e-3)


def test_snr_is_drawn_from_its_range() -> None:
    drawn = [added(Noise(snr_low_db=5, snr_high_db=25), tone(4000), s)[1] for s in range(200)]
    assert min(drawn) >= 4.99
    assert max(drawn) <= 25.01
    assert np.mean(drawn) == pytest.approx(15, abs=1.5)


@pytest.mark.parametrize(("color", "slope"), [("white", 0.0), ("pink", -1.0), ("brown", -2.0)])
def test_colour_falls_as_it_should(color: str, slope: float) -> None:
    """Power by octave bands, fitted in log-log."""
    noise, _ = added(Noise(snr_low_db=5, snr_high_db=5, color=color), tone(1 << 17), 1)  # type: ignore[arg-type]
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    edges = 2 ** np.arange(6, 16)
    density = [spectrum[a : 2 * a].mean() for a in edges]
    assert np.polyfit(np.log(edges), np.log(density), 1)[0] == pytest.approx(slope, abs=0.15)


def test_recorded_noise_repeats_where_it_is_too_short(tmp_path: Path) -> None:
    pattern = np.array([0.5, -0.25, 0.125, 0.0], dtype=np.float32)
    soundfile.write(tmp_path / "n.wav", np.tile(pattern, 400), 16000, subtype="FLOAT")
    step = Noise(snr_low_db=6, snr_high_db=6, folder=str(tmp_path))
    noise, snr_db = added(step, tone(16000), 0)
    assert snr_db == pytest.approx(6, abs=1e-3)
    assert noise[4:] == pytest.approx(noise[:-4], abs=1e-6)
    short = np.array([added(step, tone(100), seed)[0] for seed in range(8)])
    assert short[:, 4:] == pytest.approx(short[:, :-4], abs=1e-6)
    assert len(np.unique(np.abs(short[:, :4]).argmax(axis=1))) > 1, "it always began at the same place"


def test_missing_and_empty_folders_are_said(tmp_path: Path) -> None:
    with pytest.raises(SerkitError, match="no folder"):
        Noise(folder=str(tmp_path / "none"))(tone(), np.random.default_rng(0))
    with pytest.raises(SerkitError, match="no recording"):
        Noise(folder=str(tmp_path))(tone(), np.random.default_rng(0))
