from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from serkit import audio
from serkit.augment import Example
from serkit.augment.eam import Eam
from serkit.errors import SerkitError

MAIN = Example(np.array([1.0, 0.0]), np.array([0.5, -0.5, 0.5, -0.5, 0.1, 0.1, 0.1, 0.1], dtype=np.float32))
OTHER = Example(np.array([0.0, 1.0]), np.array([0.0, 0.2, -0.2, 0.0], dtype=np.float32))


def random_clip(rng: np.random.Generator, n: int, scale: float, label: int) -> Example:
    return Example(np.eye(2)[label], (scale * rng.standard_normal(n)).astype(np.float32))


def test_hand_computed_example_at_0_db() -> None:
    """Pieces [-0.5, 0.5] and [0.2, -0.2]: powers 0.25 and 0.04, so the piece is scaled by 2.5; λ = 2/8 · 1/2."""
    mixed = Eam().mix(MAIN, OTHER, start=1, start_other=1, length=2, snr_db=0.0)
    assert mixed.samples.tolist() == pytest.approx([0.5, 0.0, 0.0, -0.5, 0.1, 0.1, 0.1, 0.1])
    assert mixed.target.tolist() == pytest.approx([0.875, 0.125])


def test_hand_computed_example_at_20_db() -> None:
    """20 dB is a hundredth of the power: factor 0.25; λ = 2/8 · 1/101."""
    mixed = Eam().mix(MAIN, OTHER, start=1, start_other=1, length=2, snr_db=20.0)
    assert mixed.samples[1:3].tolist() == pytest.approx([-0.45, 0.45])
    assert mixed.target[1] == pytest.approx(0.25 / 101)


def test_overwrite_replaces_and_takes_its_share_of_the_energy() -> None:
    """The new piece has energy 0.5 of 0.5 + 0.25 + 0.25 + 4 · 0.01."""
    mixed = Eam(mode="overwrite").mix(MAIN, OTHER, start=1, start_other=1, length=2, snr_db=0.0)
    assert mixed.samples.tolist() == pytest.approx([0.5, 0.5, -0.5, -0.5, 0.1, 0.1, 0.1, 0.1])
    assert mixed.target[1] == pytest.approx(0.5 / 1.04)


def test_reference_utterance_compares_whole_clips() -> None:
    """Whole powers (4 · 0.25 + 4 · 0.01) / 8 = 0.13 and 0.02: factor √6.5."""
    mixed = Eam(reference="utterance").mix(MAIN, OTHER, start=4, start_other=1, length=2, snr_db=0.0)
    assert mixed.samples[4:6].tolist() == pytest.approx([0.1 + 0.2 * 6.5**0.5, 0.1 - 0.2 * 6.5**0.5])
    assert mixed.target[1] == pytest.approx(0.125)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 3.3, 10.0])
@pytest.mark.parametrize("scale", [0.01, 0.2, 3.0])
def test_snr_of_the_result_is_the_snr_asked_for(snr_db: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    main, other = random_clip(rng, 16000, 0.1, 0), random_clip(rng, 9000, scale, 1)
    mixed = Eam().mix(main, other, 2000, 500, 6000, snr_db)
    peak = 1.0 if np.abs(mixed.samples).max() < 1 else np.abs(main.samples[0] / mixed.samples[0])
    added = (mixed.samples * peak - main.samples)[2000:8000].astype(float)
    measured = 10 * np.log10(np.mean(main.samples[2000:8000].astype(float) ** 2) / np.mean(added**2))
    assert measured == pytest.approx(snr_db, abs=1e-3)
    outside = np.r_[mixed.samples[:2000], mixed.samples[8000:]] * peak
    assert outside == pytest.approx(np.r_[main.samples[:2000], main.samples[8000:]], abs=1e-6)


def test_louder_than_full_scale_is_scaled_down_as_a_whole() -> None:
    loud = dataclasses.replace(MAIN, samples=(MAIN.samples * 2).astype(np.float32))
    mixed = Eam().mix(loud, dataclasses.replace(OTHER, samples=-OTHER.samples), 1, 1, 2, 0.0)
    raw = np.array([1.0, -2.0, 2.0, -1.0, 0.2, 0.2, 0.2, 0.2])
    assert mixed.samples.tolist() == pytest.approx((raw / 2).tolist())


def test_share_stays_within_its_derived_bound_and_reaches_near_it() -> None:
    """λ ≤ ½ · 1/(1 + 10^−½) = 0.38 for SNR from −5 dB on: the main label dominates."""
    rng = np.random.default_rng(1)
    main, other = random_clip(rng, 4001, 0.1, 0), random_clip(rng, 4001, 0.3, 1)
    shares = np.array([Eam()(main, np.random.default_rng(s), other).target[1] for s in range(3000)])
    bound = 0.5 / (1 + 10**-0.5)
    assert shares.max() < bound == pytest.approx(0.37987, abs=1e-5)
    assert shares.max() > 0.9 * bound
    assert shares.min() > 0
    expected = 0.25 * np.mean(1 / (1 + 10 ** (np.linspace(-5, 10, 10001) / 10)))
    assert shares.mean() == pytest.approx(expected, rel=0.05)


def test_piece_is_shorter_than_half_and_than_the_partner() -> None:
    rng = np.random.default_rng(2)
    main, tiny = random_clip(rng, 100, 0.1, 0), random_clip(rng, 7, 0.1, 1)
    for seed in range(200):
        changed = np.flatnonzero(Eam()(main, np.random.default_rng(seed), tiny).samples != main.samples)
        assert 1 <= changed[-1] - changed[0] + 1 <= 7
    widest = 0
    for seed in range(600):
        other = random_clip(rng, 300, 0.1, 1)
        changed = np.flatnonzero(Eam()(main, np.random.default_rng(seed), other).samples != main.samples)
        widest = max(widest, changed[-1] - changed[0] + 1)
    assert widest == 49


def test_silent_pieces_and_too_short_clips_change_nothing() -> None:
    hush = dataclasses.replace(OTHER, samples=np.array([0, 0, 0.5, 0.5], dtype=np.float32))
    assert Eam().mix(MAIN, hush, 0, 0, 2, 0.0) is MAIN
    pause = dataclasses.replace(MAIN, samples=np.array([0, 0, 0.5, 0.5, 0.5, 0.5], dtype=np.float32))
    assert Eam().mix(pause, OTHER, 0, 1, 2, 0.0) is pause
    for n in (1, 2):
        short = dataclasses.replace(MAIN, samples=np.full(n, 0.5, dtype=np.float32))
        assert Eam()(short, np.random.default_rng(0), OTHER) is short


def test_pauses_are_left_alone() -> None:
    """Speech between 200 ms of faint noise: no piece is laid into a pause, and none is taken from one."""
    rng = np.random.default_rng(3)
    envelope = np.repeat([1e-4, 0.2, 1e-4], [6400, 3200, 6400]).astype(np.float32)
    main, other = (Example(np.eye(2)[k], envelope * rng.standard_normal(16000).astype(np.float32)) for k in (0, 1))
    n_mixed = 0
    for seed in range(100):
        added = Eam()(main, np.random.default_rng(seed), other).samples - main.samples
        changed = np.flatnonzero(added)
        if len(changed):
            n_mixed += 1
            assert changed[-1] >= 6400, "the piece reaches into the speech"
            assert changed[0] < 9600
            assert np.abs(added).max() > 1e-2, "and can be heard"
    assert n_mixed > 80
    always = [Eam(silence_db=200)(main, np.random.default_rng(s), other).target[1] for s in range(100)]
    assert min(always) > 0


def test_wrong_parameters_and_positions_are_refused() -> None:
    with pytest.raises(SerkitError, match="low ≤ high"):
        Eam(snr_low_db=10, snr_high_db=-5)
    with pytest.raises(SerkitError, match="did you mean 'overwrite'"):
        Eam(mode="overwrit")  # type: ignore[arg-type]
    with pytest.raises(SerkitError, match="silence_db"):
        Eam(silence_db=-1)
    with pytest.raises(SerkitError, match="max_fraction"):
        Eam(max_fraction=0.0)
    with pytest.raises(SerkitError, match="do not lie inside"):
        Eam().mix(MAIN, OTHER, 7, 0, 2, 0.0)


def test_on_real_speech() -> None:
    root = Path(os.environ.get("SERKIT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "ravdess"
    if not root.is_dir():
        pytest.skip("needs RAVDESS under SERKIT_DATA")
    anger, sad = (
        Example(np.eye(2)[k], audio.load(root / "Actor_01" / f"03-01-{emotion}-01-01-01-01.flac"))
        for k, emotion in enumerate(("05", "04"))
    )
    shares = []
    for seed in range(40):
        mixed = Eam()(anger, np.random.default_rng(seed), sad)
        assert np.isfinite(mixed.samples).all()
        assert len(mixed.samples) == len(anger.samples)
        shares.append(mixed.target[1])
    assert max(shares) < 0.38
    assert sum(s > 0 for s in shares) >= 38, "clips begin and end in near silence; other places are found"
