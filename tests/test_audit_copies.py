"""What an audit says of copies: recordings changed, cut up, or under two names."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from made_clips import RATE, by_code, good, manifest, speech
from serkit.audit import audit
from serkit.duplicates import Fingerprint, bit_error, fingerprint_audio, near_pairs
from serkit.findings import Finding
from serkit.types import Utterance

DATA = Path(os.environ.get("SERKIT_DATA", Path(__file__).resolve().parents[1].parent / "shared" / "data"))


# ---------------------------------------------------------------- the fingerprint


def changed(x: np.ndarray, how: str) -> np.ndarray:
    rng = np.random.default_rng(7)
    if how == "gain":
        return x * 0.1
    if how == "noise":  # 30 dB; what real speech bears is in the docstring of serkit.duplicates
        return x + rng.normal(0, 0.03 * x.std(), len(x))
    if how == "telephone":
        spectrum = np.fft.rfft(x)
        spectrum[np.fft.rfftfreq(len(x), 1 / RATE) > 3800] = 0
        return np.fft.irfft(spectrum, len(x))
    if how == "eight-bit":
        return np.round(x * 127) / 127
    if how == "cut":
        return x[7001:23001]
    return np.concatenate([np.zeros(4321), x])


@pytest.mark.parametrize("how", ["gain", "noise", "telephone", "eight-bit", "cut", "shift"])
def test_a_copy_is_found_after(how: str) -> None:
    clips = [speech(k) for k in range(12)]
    copies = [changed(x, how).astype(np.float32) for x in clips]
    pairs = near_pairs([fingerprint_audio(x) for x in [*clips, *copies]])
    assert sum((k, k + 12) in pairs for k in range(12)) >= 11
    assert all(b - a == 12 for a, b in pairs), "and nothing else"


def test_what_a_fingerprint_may_be_given() -> None:
    assert near_pairs([]) == []
    tiny = fingerprint_audio(np.ones(5, dtype=np.float32))
    assert len(tiny.bits) == 1
    silence = fingerprint_audio(np.zeros(RATE, dtype=np.float32))
    assert not silence.loud.any()
    assert near_pairs([silence, silence, tiny]) == []
    one = fingerprint_audio(speech(1))
    assert bit_error(one, one, 0) == 0.0
    assert bit_error(one, one, 10_000) == 1.0
    assert bit_error(one, one, 40) > 0.3
    for n, error in ((7, 1.0), (8, 0.0)):  # so few frames say nothing
        few = Fingerprint(one.bits[:n], np.ones(n, dtype=bool))
        assert bit_error(few, few, 0) == error


@pytest.mark.slow
def test_real_recordings() -> None:
    """RAVDESS holds one clip twice, under two names: a true copy, and no false one among 582 660 pairs."""
    folder = DATA / "ravdess"
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder} (set SERKIT_DATA)")
    from serkit.corpora.ravdess import ravdess

    found = by_code(audit(ravdess(folder)))
    assert found["duplicate"].ids == ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07")
    assert not [code for code in found if code.startswith("near-duplicate")]
    assert "speakers-shared" not in found


@pytest.mark.slow
def test_real_recordings_of_ased_hold_copies() -> None:
    """Take 1 and take 2 are one recording in about forty sentences, and two speakers share a clip."""
    folder = DATA / "ased"
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder} (set SERKIT_DATA)")
    from serkit.corpora.ased import ased

    found = by_code(audit(ased(folder)))
    copies = {i for code, f in found.items() if "duplicate" in code for i in f.ids}
    assert {"h3-07-01-02-39", "h3-07-01-02-45"} <= copies
    assert len(copies) == 84


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("Anna", "anna"), "warning"),
        (("s1", "s01"), "warning"),
        (("spk_7", "spk7"), "warning"),
        (("SPK-07", "spk 7"), "warning"),
        (("x.s1", "x.s001"), "warning"),
        (("s1", "s10"), None),
        (("1-1", "11"), None),
        (("x.s1", "y.s1"), None),
        (("Ses01F", "Ses01M"), None),
    ],
)
def test_one_speaker_under_two_names_is_suspected(tmp_path: Path, names: tuple[str, str], found: str | None) -> None:
    """Written in two ways a person is in train and in test, and nothing else can tell."""
    rows = [replace(u, split=s) for u, s in zip(good(tmp_path, 4), ("train", "test", "dev", "train"), strict=True)]
    rows[:2] = [replace(u, speaker=name) for u, name in zip(rows[:2], names, strict=True)]
    hit = [f for f in audit(manifest(tmp_path, rows), decode=False) if f.code == "speakers-alike"]
    assert [f.severity for f in hit] == ([found] if found else [])
    for f in hit:
        assert f"1 speakers may have several names ({names[0]}, {names[1]}), in several splits" in f.message
        assert f.ids == ("c0", "c1")
    together = [replace(u, split="train") for u in rows]
    said = [f for f in audit(manifest(tmp_path, together), decode=False) if f.code == "speakers-alike"]
    assert [f.severity for f in said] == (["info"] if found else []), "folds of train part speakers, too"


def test_a_recording_that_is_cut_into_several_splits_is_told(tmp_path: Path) -> None:
    rows = good(tmp_path, 6)
    cut = [
        replace(rows[0], id=f"cut{k}", start_s=k * 0.5, end_s=k * 0.5 + 0.4, split=split, speaker=f"t{k}")
        for k, split in enumerate(("train", "test"))
    ]

    def of(*clips: Utterance) -> dict[str, Finding]:
        return {f.code: f for f in audit(manifest(tmp_path, [*rows[1:], *clips]), decode=False)}

    told = of(*cut)["recording-across-splits"]
    assert (told.severity, told.ids) == ("info", ("cut0", "cut1"))
    assert told.message.startswith(
        "1 recordings have stretches in several splits, which share a room and a microphone:"
    )
    unknown = of(*(replace(u, speaker=None) for u in cut))["recording-across-splits"]
    assert unknown.severity == "warning"
    assert "and maybe a voice: give a recording one split" in unknown.message
    assert "recording-across-splits" not in of(*(replace(u, split="train") for u in cut))
    overlapping = of(cut[0], replace(cut[1], start_s=0.2))
    assert "recording-across-splits" not in overlapping
    assert "same-audio-across-splits" in overlapping
