"""Published classifiers on Whisper's encoder: every clip is padded to a window, whose silence counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import serkit
from command_line import ask
from serkit.errors import SerkitError

from .signals import RATE, quiet, talk, voice

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("onnx")

from serkit.serving import importing  # noqa: E402  # what it needs is an extra
from serkit.serving.bundle import open_bundle  # noqa: E402  # the same
from tiny_checkpoints import edit, whisper_classifier  # noqa: E402  # the same

pytestmark = pytest.mark.usefixtures("no_hub")

LABELS = ("anger", "happiness", "neutral", "sadness")
WINDOW_S = 2.0  # of the tiny one


def by_transformers(folder: Path, model: Any, samples: np.ndarray) -> np.ndarray:
    """(classes,) probabilities of a clip alone."""
    front = transformers.AutoFeatureExtractor.from_pretrained(folder)
    with torch.inference_mode():
        logits = model(**front(samples, sampling_rate=RATE, return_tensors="pt")).logits
    return np.asarray(logits.softmax(-1)[0])


@pytest.mark.parametrize(
    "how", [{}, {"weighted": True}, {"bands": 128, "normalise": True}], ids=["last", "weighted", "do_normalize"]
)
def test_answers_are_those_of_transformers(how: Any, tmp_path: Path) -> None:
    folder = tmp_path / "er"
    model = whisper_classifier(folder, **how)
    made = importing.import_checkpoint(f"path:{folder}", tmp_path / "er.zip", max_clip_s=WINDOW_S)
    assert made.difference < 1e-4
    assert open_bundle(made.path).head["largest_difference"] < 1e-4
    assert tuple(made.labels.values()) == LABELS
    loaded = serkit.load(tmp_path / "er.zip")
    clips = [voice(0.1), voice(0.7, 150), voice(WINDOW_S, 220), 0.01 * voice(1.3, 300)]
    clips = [clip - clip.mean() for clip in clips]  # serkit removes a constant offset
    wanted = [by_transformers(folder, model, clip) for clip in clips]
    assert np.ptp(wanted, axis=0).max() > 0.05, "it answers the same to everything, and this shows nothing"
    for clip, probabilities in zip(clips, wanted, strict=True):
        found = loaded.predict(clip, rate_hz=RATE)
        assert list(found.probabilities) == list(LABELS)
        assert list(found.probabilities.values()) == pytest.approx(probabilities.tolist(), abs=2e-4)
    found = loaded.predict_many(clips, rate_hz=RATE)
    assert [list(f.probabilities.values()) for f in found] == [
        pytest.approx(probabilities.tolist(), abs=2e-4) for probabilities in wanted
    ]


def test_the_silence_of_the_window_counts(tmp_path: Path) -> None:
    """As in transformers: a mean over the clip's own frames would be another answer."""
    folder = tmp_path / "er"
    whisper_classifier(folder)
    network = importing.network_of(importing.load(importing.classifiers.read(f"path:{folder}")), 4)
    samples, lengths = torch.from_numpy(voice(0.5))[None], torch.tensor([RATE // 2])
    with torch.inference_mode():
        states, n_frames = network.backbone.states(samples, lengths)
        assert n_frames.tolist() == [100]
        assert states[0].shape == (1, 100, 16)
        network.backbone.whole = False
        states, n_frames = network.backbone.states(samples, lengths)
    assert n_frames.tolist() == [25]


def test_a_longer_recording_is_answered_in_parts(tmp_path: Path) -> None:
    folder, out = tmp_path / "er", tmp_path / "er.zip"
    whisper_classifier(folder)
    code, said, _ = ask("import", f"path:{folder}", "-o", out, "--max-clip", WINDOW_S)
    assert code == 0, said
    assert "angry -> anger" in said
    card = open_bundle(out).text("card.md")
    assert "`WhisperForAudioClassification` of transformers" in card
    assert "where its own class hears its first 2 s." in card
    model = serkit.load(out)
    sound = np.concatenate([talk(3), quiet(1), voice(3, 300)])
    found = model.predict(sound, rate_hz=RATE)
    assert len(found.segments) > 1
    stream = model.stream(rate_hz=RATE, partial_s=None)
    for at in range(0, len(sound), 5_000):
        stream.push(sound[at : at + 5_000])
    stream.finish()
    assert stream.prediction.probabilities == pytest.approx(dict(found.probabilities), abs=1e-6)


def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "er"
    whisper_classifier(folder)
    out = tmp_path / "er.zip"
    with pytest.raises(SerkitError, match="hears 2 s at a time; give --max-clip 2 or less"):
        importing.import_checkpoint(f"path:{folder}", out)
    edit(folder / "preprocessor_config.json", hop_length=200)
    with pytest.raises(SerkitError, match="windows of 400 every 200"):
        importing.import_checkpoint(f"path:{folder}", out, max_clip_s=WINDOW_S)
    edit(folder / "preprocessor_config.json", feature_extractor_type="Wav2Vec2FeatureExtractor")
    with pytest.raises(SerkitError, match="front end Wav2Vec2FeatureExtractor, expected WhisperFeatureExtractor"):
        importing.import_checkpoint(f"path:{folder}", out, max_clip_s=WINDOW_S)
    edit(folder / "config.json", architectures=["WhisperForConditionalGeneration"])
    with pytest.raises(SerkitError, match="recognises words"):
        importing.import_checkpoint(f"path:{folder}", out, max_clip_s=WINDOW_S)
    assert not out.exists()
