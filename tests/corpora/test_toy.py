from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serkit.corpora.toy import toy
from serkit.errors import SerkitError


def build(root: Path) -> Path:
    toy(root)
    return root


N_ROWS = 160
EXPECTED = {
    "s1_anger_1": {
        "audio": "audio/s1_anger_1.wav",
        "speaker": "s1",
        "gender": "female",
        "language": "en",
        "emotion": "anger",
        "split": "test",
        "meta": {"label": "anger", "repetition": 1},
    },
    "s4_fear_2": {"gender": "male", "split": "dev", "emotion": "fear"},
    "s8_sadness_4": {"split": "train", "emotion": "sadness"},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("toy"))


def test_it_has_everything_a_pipeline_can_use(root: Path) -> None:
    manifest = toy(root)
    assert set(manifest.counts().values()) == {32}
    assert manifest.info["count_findings"] == []
    for u in manifest:
        assert u.text
        assert u.votes is not None
        assert sum(u.votes.values()) == 5
        assert u.arousal is not None
        assert 1 <= u.arousal <= 7
    agree = np.mean([max(u.votes, key=lambda k: u.votes[k]) == u.emotion for u in manifest if u.votes])
    assert 0.7 < agree < 1.0, "raters do not all agree"


def test_the_sound_is_short_16_khz_and_alive(root: Path) -> None:
    manifest = toy(root)
    for u in manifest.utterances[::16]:
        samples, rate_hz = soundfile.read(manifest.audio_path(u))
        assert rate_hz == 16_000
        assert 0.6 < len(samples) / rate_hz < 3.0
        assert np.isfinite(samples).all()
        assert 0.001 < np.sqrt(np.mean(samples**2)) < 0.5
        assert np.abs(samples).max() < 1.0


def test_it_is_the_same_everywhere_and_is_not_written_twice(root: Path, tmp_path: Path) -> None:
    other = toy(tmp_path / "new" / "folder")
    assert other.fingerprint == toy(root).fingerprint
    for name in ("audio/s1_anger_1.wav", "audio/s8_sadness_4.wav", "toy.jsonl"):
        assert (tmp_path / "new" / "folder" / name).read_bytes() == (root / name).read_bytes()
    stamp = (root / "audio" / "s1_anger_1.wav").stat().st_mtime_ns
    toy(root)
    assert (root / "audio" / "s1_anger_1.wav").stat().st_mtime_ns == stamp


def test_half_a_corpus_is_written_again_and_a_strange_folder_is_left_alone(root: Path, tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "s1_anger_1.wav").write_bytes(b"half")
    assert len(toy(tmp_path)) == 160
    assert (tmp_path / "audio" / "s1_anger_1.wav").read_bytes() == (root / "audio" / "s1_anger_1.wav").read_bytes()
    strange = tmp_path / "thesis"
    strange.mkdir()
    (strange / "chapter.txt").write_text("precious")
    with pytest.raises(SerkitError, match="holds other files"):
        toy(strange)
    assert [p.name for p in strange.iterdir()] == ["chapter.txt"]
    (tmp_path / "toy.jsonl").write_text((tmp_path / "toy.jsonl").read_text().replace("fear", "anger", 1))
    with pytest.raises(SerkitError, match="delete the folder"):
        toy(tmp_path)


def _simple_features(samples: np.ndarray) -> list[float]:
    """Loudness, pitch by autocorrelation, band energies: a dozen numbers anyone would think of."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 400)[::160] * np.hanning(400)
    power = 10 * np.log10((frames**2).mean(axis=1) + 1e-9)
    spectrum = np.abs(np.fft.rfft(frames, 1024)) ** 2
    correlation = np.fft.irfft(spectrum)
    correlation /= correlation[:, :1] + 1e-9
    peak = correlation[:, 40:230]
    voiced = (peak.max(axis=1) > 0.45) & (power > power.max() - 25)
    pitch = np.log(16_000 / (peak.argmax(axis=1)[voiced] + 40)) if voiced.sum() > 3 else np.full(4, 5.0)
    edges = (4, 16, 32, 64, 128, 256, 512)
    bands = [10 * np.log10(spectrum[:, a:b].sum(axis=1) + 1e-9) for a, b in itertools.pairwise(edges)]
    shape = [float((band - power)[voiced].mean()) if voiced.any() else 0.0 for band in bands]
    slope = float(np.polyfit(np.arange(len(pitch)), pitch, 1)[0])
    return [power.mean(), power.std(), pitch.mean(), pitch.std(), slope, voiced.mean(), len(samples) / 16_000, *shape]


def test_a_simple_classifier_does_well_but_not_perfectly_on_unheard_speakers(root: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import recall_score
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    manifest = toy(root)
    x = np.array([_simple_features(soundfile.read(manifest.audio_path(u))[0]) for u in manifest])
    y = [u.emotion for u in manifest]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=2000))
    guess = cross_val_predict(model, x, y, groups=[u.speaker for u in manifest], cv=LeaveOneGroupOut())
    uar = recall_score(y, guess, average="macro")
    assert 0.55 < uar < 0.92


def test_words_tell_something_and_not_everything(root: Path) -> None:
    rows = list(toy(root))
    said: dict[str, set[str | None]] = {}
    for u in rows:
        said.setdefault(u.text or "", set()).add(u.emotion)
    assert any(len(emotions) >= 4 for emotions in said.values())
    best = sum(max(sum(u.text == t and u.emotion == e for u in rows) for e in said[t]) for t in said)
    assert 0.4 < best / len(rows) < 0.85
