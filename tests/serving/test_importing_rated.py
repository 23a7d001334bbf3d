"""Published models of arousal, dominance and valence: their own numbers, and regions of them as classes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import serkit
from command_line import ask
from serkit import regions
from serkit.errors import SerkitError

from .signals import RATE, talk, voice, wav, wide

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("onnx")

from safetensors.torch import load_file, save_file  # noqa: E402  # what it needs is an extra

from author_checkpoints import DenseHead  # noqa: E402  # the same
from serkit.serving import importing, rated  # noqa: E402  # the same
from serkit.serving.bundle import open_bundle  # noqa: E402  # the same
from tiny_checkpoints import classifier, edit, with_dense_head, with_ratings  # noqa: E402  # the same

pytestmark = pytest.mark.usefixtures("no_hub")

WORDS = ("arousal", "dominance", "valence")
CLIPS = (wide(1.3), wide(0.7, 5, 240.0), talk(2))


def ratings_of(body: Any, tensors: dict[str, Any], folder: Path, samples: np.ndarray) -> np.ndarray:
    """Its own numbers of a clip alone, in its own order, as the README does it: the mean over all frames."""
    n, width = tensors["classifier.out_proj.weight"].shape
    head = DenseHead(width, n)
    head.load_state_dict({key.removeprefix("classifier."): value for key, value in tensors.items()})
    front = transformers.AutoFeatureExtractor.from_pretrained(folder)
    given = torch.from_numpy(np.reshape(front(samples, sampling_rate=RATE)["input_values"][0], (1, -1)))
    with torch.inference_mode():
        found = head.eval()(torch.mean(body.eval()(given)[0], dim=1))
    return np.asarray(found[0], dtype=np.float64)


def shares_of(ratings: dict[str, float], kind: Any, low: float, high: float) -> list[float]:
    """Of each region, the product of the chances that logistic errors leave: a sixth of the scale as a deviation."""
    spread = (high - low) / 6 * np.sqrt(3) / np.pi
    found = []
    for label in regions.classes(kind):
        share = 1.0
        for letter, sign in zip(label[::2], label[1::2], strict=True):
            (value,) = (v for name, v in ratings.items() if name.startswith(letter))
            above = 1 / (1 + np.exp(-(value - (low + high) / 2) / spread))
            share *= above if sign == "+" else 1 - above
        found.append(share)
    return found


@pytest.mark.parametrize(
    ("words", "says", "kind", "how"),
    [
        (WORDS, None, "quadrants", {}),
        (WORDS, "EmotionModel", "octants", {}),
        (("valence", "arousal"), None, "quadrants", {"stable": False, "normalise": False}),
        (("Valence", "Dominance", "Arousal"), None, "octants", {"kind": "Hubert"}),
        (WORDS, None, "octants", {"kind": "WavLM"}),
    ],
)
def test_ratings_are_its_own_and_regions_follow(
    words: tuple[str, ...], says: str | None, kind: Any, how: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "vad"
    body, head = with_ratings(folder, words=words, says=says, **how)
    made = importing.import_checkpoint(f"path:{folder}", tmp_path / "vad.zip", regions=kind)
    assert made.regions == regions.classes(kind)
    model = serkit.load(tmp_path / "vad.zip")
    assert model.labels == regions.classes(kind)
    assert model.attributes == tuple(a for a in ("arousal", "valence", "dominance") if a in [w.lower() for w in words])
    found = []
    for clip in CLIPS:
        answer = model.predict(clip, rate_hz=RATE, by="clip")
        wanted = dict(zip((w.lower() for w in words), ratings_of(body, head, folder, clip), strict=True))
        assert dict(answer.attributes) == pytest.approx(wanted, abs=1e-4)
        assert list(answer.probabilities.values()) == pytest.approx(shares_of(wanted, kind, 0, 1), abs=1e-3)
        sides = "".join(f"{a[0]}{'+' if wanted[a] >= 0.5 else '-'}" for a in regions.RATED_BY[kind])
        assert answer.label == sides
        found.append(list(wanted.values()))
    assert np.ptp(found, axis=0).min() > 0.01, "the ratings should differ from clip to clip"


def test_the_head_of_transformers_may_give_ratings_too(tmp_path: Path) -> None:
    folder = tmp_path / "vad"
    own = classifier(folder, labels=WORDS, problem_type="regression")
    importing.import_checkpoint(f"path:{folder}", tmp_path / "vad.zip", rating_scale=(-3.0, 3.0))
    front = transformers.AutoFeatureExtractor.from_pretrained(folder)
    with torch.inference_mode():
        wanted = own(**front(CLIPS[0], sampling_rate=RATE, return_tensors="pt")).logits[0].tolist()
    answer = serkit.load(tmp_path / "vad.zip").predict(CLIPS[0], rate_hz=RATE, by="clip")
    assert dict(answer.attributes) == pytest.approx(dict(zip(WORDS, wanted, strict=True)), abs=1e-3)


def test_a_second_of_zeros_is_answered_as_in_its_readme(tmp_path: Path) -> None:
    """Whose example is that: whoever has the published weights can compare."""
    body, head = with_ratings(tmp_path / "vad")
    importing.import_checkpoint(f"path:{tmp_path / 'vad'}", tmp_path / "vad.zip")
    silence = np.zeros(RATE, np.float32)
    arousal, dominance, valence = ratings_of(body, head, tmp_path / "vad", silence)
    found = serkit.load(tmp_path / "vad.zip").score_clips([silence])[0, -3:]
    assert found == pytest.approx([arousal, valence, dominance], abs=1e-4)


def test_ratings_without_names_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "vad"
    body, head = with_ratings(folder, words=("LABEL_0", "LABEL_1", "activation"))
    given = {"0": "valence", "LABEL_1": "dominance", "activation": "arousal"}
    made = importing.import_checkpoint(f"path:{folder}", tmp_path / "vad.zip", labels=given)
    assert made.labels == {"LABEL_0": "valence", "LABEL_1": "dominance", "activation": "arousal"}
    answer = serkit.load(tmp_path / "vad.zip").predict(CLIPS[0], rate_hz=RATE, by="clip")
    own = ratings_of(body, head, folder, CLIPS[0])
    assert [answer.attributes[a] for a in ("valence", "dominance", "arousal")] == pytest.approx(list(own), abs=1e-4)


def test_scales_are_told_apart(tmp_path: Path) -> None:
    """The middle is that of its own scale; the answers may be given on another one."""
    folder = tmp_path / "vad"
    body, head = with_ratings(folder, width=10.0)
    given = {"rating_scale": (0.0, 10.0), "answer_scale": (1.0, 7.0)}
    importing.import_checkpoint(f"path:{folder}", tmp_path / "seven.zip", **given)
    model, own = serkit.load(tmp_path / "seven.zip"), ratings_of(body, head, folder, CLIPS[0])
    assert model.bundle.head["rating_scale"] == [1.0, 7.0]
    answer = model.predict(CLIPS[0], rate_hz=RATE, by="clip")
    assert [answer.attributes[word] for word in WORDS] == pytest.approx(1 + 0.6 * own, abs=1e-3)
    shares = shares_of(dict(zip(WORDS, own, strict=True)), "quadrants", 0, 10)
    assert list(answer.probabilities.values()) == pytest.approx(shares, abs=1e-3)
    assert not any("--rating-scale" in note for note in model.bundle.head["imported"]["notes"]), "it was stated"


def test_smaller_weights_are_told_by_ratings_and_too_coarse_ones_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits of regions are steeper than ratings: both are compared in widths of the scale, whatever that is."""
    differences = []
    for width in (1.0, 100.0):
        folder = tmp_path / f"vad{width:g}"
        body, head = with_ratings(folder, width=width)
        out, scale = tmp_path / f"{width:g}.zip", (0.0, width)
        made = importing.import_checkpoint(f"path:{folder}", out, weights="float16", rating_scale=scale)
        differences.append(open_bundle(made.path).head["largest_difference"])
        answer = serkit.load(out).predict(CLIPS[0], rate_hz=RATE, by="clip")
        off = np.abs([answer.attributes[w] for w in WORDS] - ratings_of(body, head, folder, CLIPS[0])) / width
        assert 0 < off.max() < 0.01
    assert differences[1] == pytest.approx(differences[0], rel=0.2)
    monkeypatch.setitem(rated.EXPORTED, "float16", open_bundle(made.path).head["largest_difference"] / 2)
    with pytest.raises(SerkitError, match=r"with --weights float16 ratings differ by .* of the width of their scale"):
        importing.import_checkpoint(f"path:{folder}", tmp_path / "x.zip", weights="float16", rating_scale=scale)
    assert not (tmp_path / "x.zip").exists()


def test_it_says_everywhere_that_regions_are_no_trained_classes(tmp_path: Path) -> None:
    with_ratings(tmp_path / "vad")
    code, shown, said = ask("import", f"path:{tmp_path / 'vad'}", "-o", tmp_path / "vad.zip")
    assert code == 0, said
    assert "ratings: arousal, dominance, valence; labels: a+v+, a+v-, a-v+, a-v-" in shown
    assert "ratings within" in shown
    notes = [line for line in shown.splitlines() if line.startswith("note: ")]
    assert "taken to be on 0 to 1" in notes[0]
    assert "no classes that the model was trained on: a+ is high arousal" in notes[1]
    assert "a sixth of its scale, which nobody measured" in notes[1]
    card = open_bundle(tmp_path / "vad.zip").text("card.md")
    for part in (
        "Also predicts arousal, valence and dominance, as numbers on 0 to 1.",
        "These are classes of ratings, no emotions: a+ is high arousal", "no classes that the model was trained on",
        "None. The probability of a region supposes", "| dominance | dominance |",
    ):  # fmt: skip
        assert part in card
    assert "softmax of the network" not in card
    clip = tmp_path / "a.wav"
    clip.write_bytes(wav(voice(1.5)))
    code, shown, said = ask("predict", clip, "--model", tmp_path / "vad.zip")
    assert code == 0
    assert "note: the labels are regions of the ratings, and no classes that the model was trained on" in said
    code, shown, _ = ask("predict", clip, "--model", tmp_path / "vad.zip", "--format", "csv")
    assert shown.splitlines()[0].endswith("a+v+,a+v-,a-v+,a-v-,arousal,valence,dominance")
    code, shown, said = ask("export", tmp_path / "vad.zip", "-o", tmp_path / "vad.onnx")
    assert (code, "note: the labels are regions of the ratings, and no classes" in shown + said) == (0, True)


def test_a_stream_gives_the_ratings_of_the_file(tmp_path: Path) -> None:
    with_ratings(tmp_path / "vad")
    importing.import_checkpoint(f"path:{tmp_path / 'vad'}", tmp_path / "vad.zip")
    model, samples = serkit.load(tmp_path / "vad.zip"), talk(3)
    whole = model.predict(samples, rate_hz=RATE)
    stream = model.stream(rate_hz=RATE)
    for start in range(0, len(samples), 4321):
        stream.push(samples[start : start + 4321])
    stream.finish()
    assert [dict(s.attributes) for s in stream.prediction.segments] == [
        pytest.approx(dict(s.attributes), abs=1e-5) for s in whole.segments
    ]
    assert whole.segments, "there is something to compare"


@pytest.fixture
def ratings_table(tmp_path: Path) -> Path:
    """24 clips of two speakers, rated from 1 to 7, the higher voice as more aroused."""
    with (tmp_path / "rated.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "speaker", "arousal", "valence", "dominance"])
        for k in range(24):
            high = k % 2
            soundfile.write(tmp_path / f"{k}.wav", wide(0.8, k, 220.0 if high else 110.0), RATE)
            rows.writerow([f"{k}.wav", f"s{k // 12}", 2.5 + 3 * high, 3 + 2 * (k % 4 > 1), 4])
    return tmp_path / "rated.csv"


def test_measured_on_ratings_with_a_ccc_where_the_scale_is_the_same(ratings_table: Path, tmp_path: Path) -> None:
    with_ratings(tmp_path / "vad")
    asked = ("--corpus", "table", "--root", ratings_table, "--option", "rating_scale=[1,7]", "--draws", 20)
    for scale, ccc in (((), False), (("--answer-scale", "1,7"), True)):
        out = tmp_path / f"{ccc}.zip"
        assert ask("import", f"path:{tmp_path / 'vad'}", "-o", out, *scale)[0] == 0
        code, shown, said = ask("measure", out, *asked)
        assert code == 0, said
        assert "classes are quadrants of the ratings" in shown
        assert ("ccc_arousal" in shown, "no CCC: the model learned ratings from 0 to 1" in shown) == (ccc, not ccc)


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        (("arousal", "dominance"), (), "gives arousal, dominance as numbers, expected arousal and valence"),
        (("LABEL_0", "LABEL_1", "LABEL_2"), (), "does not say what its classes are: LABEL_0, LABEL_1, LABEL_2"),
        (("LABEL_0", "LABEL_1"), ("--labels", "0=arousal,1=arousal"), "gives arousal, arousal as numbers, expected"),
        (("up", "down"), (), "is for regression, expected single_label_classification of up, down; if its numbers are"),
        (("valence", "arousal"), ("--regions", "octants"), "gives no dominance, only valence, arousal: use --regions"),
        (WORDS, ("--labels", "0=anger"), "is for regression, expected single_label_classification of anger, "),
        (WORDS, ("--rating-scale", "7,1"), "--rating-scale 7,1: expected the lowest and the highest rating"),
        (WORDS, ("--answer-scale", "1,nan"), "--answer-scale 1,nan: expected the lowest and the highest rating"),
        (WORDS, ("--answer-scale", "1"), "--answer-scale 1: expected two numbers, such as 1,7"),
        (("angry", "calm", "happy"), ("--regions", "octants"), "--regions is for a model that gives ratings, and"),
        (("angry", "calm", "happy"), ("--rating-scale", "0,1"), "--rating-scale is for a model that gives ratings"),
    ],
)
def test_what_does_not_fit_is_refused(words: Any, given: tuple[str, ...], said: str, tmp_path: Path) -> None:
    folder = tmp_path / "vad"
    with_dense_head(folder, labels=words) if "angry" in words else with_ratings(folder, words=words)
    code, _, told = ask("import", f"path:{folder}", "-o", tmp_path / "x.zip", *given)
    assert (code, said in told) == (2, True), told
    assert not (tmp_path / "x.zip").exists()


def test_other_tasks_and_other_weights_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "vad"
    with_ratings(folder)
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"classifier.norm.weight": torch.zeros(16)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SerkitError, match=r"unexpected weight 'classifier\.norm\.weight'"):
        importing.import_checkpoint(f"path:{folder}", tmp_path / "x.zip")
    edit(folder / "config.json", problem_type="multi_label_classification")
    with pytest.raises(SerkitError, match="is for multi_label_classification, expected regression of arousal"):
        importing.import_checkpoint(f"path:{folder}", tmp_path / "x.zip")
    with_dense_head(tmp_path / "er", says="EmotionModel")
    with pytest.raises(SerkitError, match="is of the class EmotionModel, which is code of its author's own"):
        importing.import_checkpoint(f"path:{tmp_path / 'er'}", tmp_path / "x.zip")
