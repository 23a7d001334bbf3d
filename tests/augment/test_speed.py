from __future__ import annotations

import numpy as np
import pytest

from serkit.augment import Example
from serkit.augment.speed import Speed
from serkit.errors import SerkitError


def peak_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), n=1 << 17))
    return float(np.argmax(spectrum) * 16000 / (1 << 17))


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.1, 1.25])
def test_duration_is_divided_and_pitch_multiplied(factor: float) -> None:
    tone = Example(np.array([1.0]), (0.5 * np.sin(2 * np.pi * 400 * np.arange(16000) / 16000)).astype(np.float32))
    result = Speed(low=factor, high=factor)(tone, np.random.default_rng(0)).samples
    assert len(result) == pytest.approx(16000 / factor, abs=2)
    assert peak_hz(result) == pytest.approx(400 * factor, abs=1)
    assert np.abs(result[2000:-2000]).max() == pytest.approx(0.5, abs=0.01)


def test_factor_one_changes_nothing_and_zero_is_refused() -> None:
    tone = Example(np.array([1.0]), np.ones(50, dtype=np.float32))
    assert Speed(low=1, high=1)(tone, np.random.default_rng(0)) is tone
    with pytest.raises(SerkitError, match=r"from 0\.1 on"):
        Speed(low=0.0)
