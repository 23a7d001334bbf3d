"""Lost packets: how many, how many in a row, and what is heard in their place."""

from __future__ import annotations

import numpy as np
import pytest

from serkit.augment import Example
from serkit.augment.packet_loss import JOIN, LAGS, PACKET, PacketLoss, _concealed, _lost
from serkit.errors import SerkitError

TONE = (0.3 * np.sin(2 * np.pi * 160 * np.arange(16000) / 16000)).astype(np.float32)  # 100 samples a period


def packets(*lost: int) -> np.ndarray:
    found = np.zeros(50, dtype=bool)
    found[list(lost)] = True
    return found


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


@pytest.mark.parametrize(("rate", "burst"), [(0.02, 2.0), (0.1, 1.0), (0.1, 2.0), (0.3, 4.0), (0.5, 1.0)])
def test_rate_and_mean_burst_are_as_asked(rate: float, burst: float) -> None:
    lost = _lost(200_000, rate, burst, np.random.default_rng(0))
    starts = lost & ~np.concatenate([[False], lost[:-1]])
    assert lost.mean() == pytest.approx(rate, rel=0.05)
    assert lost.sum() / starts.sum() == pytest.approx(burst, rel=0.05)


def test_packets_that_arrive_are_unchanged_but_for_the_join() -> None:
    noise = (0.1 * np.random.default_rng(0).standard_normal(16000)).astype(np.float32)
    lost = packets(0, 7, 20, 21, 49)
    heard = _concealed(noise, lost)
    same = np.repeat(~lost, PACKET)
    for k in (1, 8, 22):
        same[k * PACKET : k * PACKET + JOIN] = False
    for k in (7, 20, 49):
        same[k * PACKET - LAGS[1] // 4 : k * PACKET] = False
    assert np.array_equal(heard[same], noise[same])
    assert not heard[:PACKET].any(), "nothing was heard before the first packet"
    assert all(
        (heard[k * PACKET : (k + 1) * PACKET] != noise[k * PACKET : (k + 1) * PACKET]).any() for k in (7, 20, 49)
    )


def test_a_steady_tone_goes_on_and_fades_out_in_a_long_gap() -> None:
    heard = _concealed(TONE, packets(10, *range(30, 40)))
    gap = slice(10 * PACKET, 10 * PACKET + PACKET // 2)  # before the fade
    assert heard[gap] == pytest.approx(TONE[gap], abs=0.005)
    levels = [rms(heard[k * PACKET : (k + 1) * PACKET]) / rms(TONE) for k in range(30, 40)]
    assert levels[0] > levels[1] > levels[2] > 0
    assert levels[3:] == [0.0] * 7
    assert np.abs(np.diff(heard)).max() < 1.5 * np.abs(np.diff(TONE)).max(), "no click"


def test_no_loss_and_nothing_but_loss_leave_the_clip() -> None:
    clip = Example(np.ones(1), TONE)
    assert PacketLoss(low_percent=0.0, high_percent=0.0)(clip, np.random.default_rng(0)) is clip
    short = Example(np.ones(1), TONE[:200])
    half = PacketLoss(low_percent=50.0, high_percent=50.0)
    assert all(half(short, np.random.default_rng(k)) is short for k in range(20))


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"high_percent": 60.0}, "runs from 2.0 to 60.0, expected low ≤ high from 0 to 50"),
        ({"low_percent": -1.0}, "the loss in percent runs from -1.0"),
        ({"burst_packets": 0.5}, "the mean burst in packets runs from 0.5"),
    ],
)
def test_what_cannot_be_is_refused(parameters: dict[str, float], said: str) -> None:
    with pytest.raises(SerkitError) as caught:
        PacketLoss(**parameters)
    assert said in str(caught.value)
