"""Conditions by name: what they do, that it is the same every time, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serkit import registry
from serkit.augment import Example
from serkit.bandwidth import narrow
from serkit.errors import SerkitError
from serkit.serving.conditions import DEFAULTS, FIXED, Condition, parse

from .signals import quiet, wav, wide

CLIP = wide(1.0)


def one(text: str) -> Condition:
    [found] = parse([text])
    return found


def test_all_are_the_defaults_each_once() -> None:
    found = parse(["all", "noise", "noise:10.0", "8khz"])
    assert tuple(c.name for c in found) == DEFAULTS
    assert set(FIXED) == {name.partition(":")[0] for name in DEFAULTS}
    changed = [c.heard(CLIP) for c in found]
    assert all(c.dtype == np.float32 and len(c) == len(CLIP) and np.abs(c).max() <= 1 for c in changed)
    assert not any(np.array_equal(c, CLIP) for c in changed)


def test_a_condition_is_the_augmentation_at_that_strength() -> None:
    noise = one("noise:10").heard(CLIP) - CLIP
    assert 10 * np.log10(np.mean(CLIP**2) / np.mean(noise**2)) == pytest.approx(10, abs=0.01)
    assert one("gain:-20").heard(CLIP) == pytest.approx(CLIP / 10, abs=1e-6)
    assert np.abs(one("clipping:6").heard(CLIP)).max() == pytest.approx(np.abs(CLIP).max() / 10**0.3, rel=1e-5)
    assert len(one("speed:0.8").heard(CLIP)) == pytest.approx(len(CLIP) / 0.8, abs=2)
    assert narrow(one("8khz").heard(CLIP))
    assert not narrow(CLIP)
    inverted = registry.find("augment", "polarity")()(Example(np.ones(1), CLIP), np.random.default_rng(0))
    assert np.array_equal(one("polarity").heard(CLIP), inverted.samples)


def test_parameters_have_their_own_names_and_the_rest_stays_fixed() -> None:
    assert one("gain:-6").parts == one("gain:low_db=-6,high_db=-6").parts
    assert one("noise:20,color=brown").to_row() == [
        {"name": "noise", "snr_low_db": 20.0, "snr_high_db": 20.0, "color": "brown"}
    ]
    assert one("8khz:codec=a-law").to_row()[0]["high_to_hz"] == 3900.0
    assert one("equalizer:3").to_row() == [{"name": "equalizer", "deviation_db": 3.0}]
    assert one("speed").to_row() == [{"name": "speed"}], "drawn as the augmentation draws it"


def test_noise_of_a_folder_has_no_colour(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(quiet(0.5, level=0.1)))
    assert one(f"noise:5,folder={tmp_path}").to_row() == [
        {"name": "noise", "snr_low_db": 5.0, "snr_high_db": 5.0, "folder": str(tmp_path)}
    ]
    with pytest.raises(SerkitError, match="color has no effect while folder is"):
        parse([f"noise:5,folder={tmp_path},color=brown"])
    with pytest.raises(SerkitError, match="rt60_low_s has no effect while folder is"):
        parse([f"reverb:0.8,folder={tmp_path}"])


def test_steps_are_applied_in_order() -> None:
    assert one("gain:-20+clipping:6").heard(CLIP) == pytest.approx(one("clipping:6").heard(CLIP) / 10, abs=1e-6)
    assert [s["name"] for s in one("reverb+8khz+noise:0").to_row()] == ["reverb", "telephone", "noise"]
    assert one("gain:+6+polarity").to_row()[0] == {"name": "gain", "low_db": 6.0, "high_db": 6.0}


def test_same_clip_and_seed_same_bytes_and_strengths_share_their_noise() -> None:
    noise = one("noise:10")
    assert np.array_equal(noise.heard(CLIP, 3), noise.heard(CLIP.copy(), 3))
    assert not np.array_equal(noise.heard(CLIP, 3), noise.heard(CLIP, 4))
    other = wide(1.0, seed=1)
    added = [noise.heard(clip, 3) - clip for clip in (CLIP, other)]
    assert abs(np.corrcoef(added)[0, 1]) < 0.5, "each clip has noise of its own"
    loud = one("noise:0").heard(CLIP, 3) - CLIP
    assert np.corrcoef(added[0], loud)[0, 1] > 0.999


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nois", "condition 'nois': 'nois' is not known; did you mean 'noise'"),
        ("reverb+telphone", "'telphone' is not known; did you mean 'telephone'"),
        ("al", "did you mean 'all'"),
        ("", "'' is not known; known: 8khz, all, clipping"),
        ("spec_augment", "'spec_augment' does not change the samples of one clip; known:"),
        ("eam", "does not change the samples of one clip"),
        ("noise:loud", "expected a number or KEY=VALUE after 'noise:', got 'loud'"),
        ("noise:", "expected a number or KEY=VALUE after 'noise:', got ''"),
        ("telephone:300", "'telephone' has no single strength; write telephone:KEY=VALUE"),
        ("polarity:1", "'polarity' has no single strength"),
        ("noise:snr_lo_db=5", "augmentation 'noise' has no parameter 'snr_lo_db'; did you mean 'snr_low_db'"),
        ("noise:color=pnk", "color of augmentation 'noise' is 'pnk'; did you mean 'pink'"),
        ("noise:snr_low_db=20", "the SNR in dB runs from 20 to 10.0, expected low ≤ high"),
        ("noise:5,snr_low_db=6", "'snr_low_db' is given twice"),
        ("gain:probability=0.5", "probability cannot be set; a condition is applied to every recording"),
        ("noise:folder=/nowhere", "no folder of recordings at /nowhere"),
        ("noise:1e6", "condition 'noise:1e6': "),
        ("noise:" + "9" * 400, "expected a number or KEY=VALUE after 'noise:'"),
        ("reverb:1e12", "condition 'reverb:1e12': "),
        ("all+noise", "'all' stands for a list of conditions; give it alone"),
        ("mylab.noises.mine", "cannot be imported"),
        ("noise=5", "condition 'noise=5': a strength follows a colon; did you mean 'noise:5'?"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(SerkitError) as caught:
        parse([text])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
