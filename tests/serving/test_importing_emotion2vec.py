"""emotion2vec+ as a bundle: the answers of its own classifier, on every path of serving; and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import serkit
from command_line import ask
from serkit.errors import SerkitError

from .signals import RATE, talk, voice, wav, wide

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnx")

from serkit.foundation.emotion2vec_model import Emotion2vecClassifier  # noqa: E402  # what it needs is an extra
from serkit.foundation.tiny import tiny_folder  # noqa: E402  # the same
from serkit.serving import importing  # noqa: E402  # the same
from serkit.serving.bundle import open_bundle  # noqa: E402  # the same

pytestmark = pytest.mark.usefixtures("no_hub")

LABELS = ("anger", "disgust", "fear", "happiness", "neutral", "other", "sadness", "surprise", "unknown")
SEED = "生气/angry\nunuse_0\nunuse_1\n开心/happy\n中立/neutral\nunuse_2\n难过/sad\nunuse_3\n<unk>\n"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published files with random weights; a classifier whose answers differ from clip to clip."""
    folder = Path(shutil.copytree(tiny_folder("emotion2vec"), tmp_path_factory.mktemp("models") / "plus"))
    weight = torch.randn(9, 16, generator=torch.Generator().manual_seed(3))
    change(folder, {"proj.weight": lambda old: weight, "proj.bias": torch.zeros_like})
    usual = torch.from_numpy(Emotion2vecClassifier.load(folder).logits([wide(1.0)])[0])
    change(folder, {"proj.bias": lambda old: -usual})
    head = "---\nlicense: other\nlicense_name: model-license\n---\n"
    (folder / "README.md").write_text(f"{head}# emotion2vec+\n", encoding="utf-8")
    return folder


def change(folder: Path, changes: dict[str, Any]) -> None:
    """Put what a function makes of it in the place of each named weight; ``None`` takes it out."""
    saved = torch.load(folder / "model.pt", weights_only=True)
    for name, made in changes.items():
        old = saved["model"].pop(name)
        if made is not None:
            saved["model"][name] = made(old)
    torch.save(saved, folder / "model.pt")


def by_its_classifier(folder: Path, samples: np.ndarray) -> np.ndarray:
    """(used classes,) probabilities."""
    loaded = Emotion2vecClassifier.load(folder)
    logits = torch.from_numpy(loaded.logits([samples])[0])
    logits[[label is None for label in loaded.labels]] = -torch.inf
    return np.asarray(logits.softmax(-1))[[label is not None for label in loaded.labels]]


def answered(model: Any, clip: np.ndarray) -> list[float]:
    return list(model.predict(clip, rate_hz=RATE).probabilities.values())


def test_answers_are_those_of_its_classifier(published: Path, bundle: Path) -> None:
    model = serkit.load(bundle)
    assert model.labels == LABELS
    found, short = [], voice(0.012)  # zeros follow it up to a frame, and serkit removes an offset before that
    for clip in (wide(1.3), wide(0.7, 5, 240.0), talk(2), short - short.mean()):
        found.append(answered(model, clip))
        np.testing.assert_allclose(found[-1], by_its_classifier(published, clip), atol=1e-4)
    assert np.ptp(found, axis=0).max() > 0.02, "the answers should differ from clip to clip"


def test_classes_that_are_not_used_get_no_probability(copy: Path, tmp_path: Path) -> None:
    (copy / "tokens.txt").write_text(SEED, encoding="utf-8")
    importing.import_checkpoint(f"path:{copy}", tmp_path / "seed.zip", labels={"unknown": "no_emotion"})
    model, clip = serkit.load(tmp_path / "seed.zip"), wide(1.1)
    assert model.labels == ("anger", "happiness", "neutral", "sadness", "no_emotion")
    np.testing.assert_allclose(answered(model, clip), by_its_classifier(copy, clip), atol=1e-4)


def test_an_answer_does_not_depend_on_its_batch(published: Path, bundle: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(open_bundle(bundle).read("networks/imported.onnx"))
    clips = [wide(1.6), wide(0.3, 2), voice(0.012), wide(0.9, 3)]
    x, n = np.zeros((4, len(clips[0]), 1), np.float32), np.array([len(clip) for clip in clips])
    for row, clip in zip(x, clips, strict=True):
        row[: len(clip), 0] = clip
    logits, embedding = session.run(["emotion", "embedding"], {"x0": x, "n0": n})
    assert embedding.shape == (4, 16)
    for k, clip in enumerate(clips):
        given = {"x0": clip[None, :, None].astype(np.float32), "n0": n[k : k + 1]}
        alone = session.run(["emotion", "embedding"], given)
        np.testing.assert_allclose(alone[0][0], logits[k], atol=1e-4)
        np.testing.assert_allclose(alone[1][0], embedding[k], atol=1e-4)
    np.testing.assert_allclose(logits, Emotion2vecClassifier.load(published).logits(clips), atol=1e-4)


def test_a_timeline_and_a_stream_without_torch(bundle: Path, tmp_path: Path) -> None:
    sound = talk(3)
    (tmp_path / "a.wav").write_bytes(wav(sound))
    code = (
        "import sys, serkit\n"
        f"model = serkit.load({str(bundle)!r})\n"
        f"print(len(model.predict({str(tmp_path / 'a.wav')!r}, by='segment').segments))\n"
        "assert not {'torch', 'transformers', 'onnx', 'funasr'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "3"
    model = serkit.load(bundle)
    stream = model.stream(rate_hz=RATE)
    for k in range(0, len(sound), 4000):
        stream.push(sound[k : k + 4000])
    stream.finish()
    assert stream.prediction.segments == model.predict(sound, rate_hz=RATE, by="segment").segments


@pytest.mark.parametrize("weights", ["float16", "int8"])
def test_smaller_weights(weights: Any, published: Path, bundle: Path, tmp_path: Path) -> None:
    importing.import_checkpoint(f"path:{published}", tmp_path / "small", weights=weights)
    clip = wide(1.0)
    np.testing.assert_allclose(
        answered(serkit.load(tmp_path / "small"), clip), answered(serkit.load(bundle), clip), atol=0.1
    )


def test_the_output_and_the_card_say_what_was_not_checked(copy: Path, tmp_path: Path) -> None:
    code, shown, told = ask("import", f"path:{copy}", "-o", tmp_path / "x.zip")
    assert code == 0, told
    assert "angry -> anger" in shown
    assert "unknown -> unknown" in shown
    assert "never on the published ones" in shown
    assert "licence of the weights: other (model-license)" in shown
    card = open_bundle(tmp_path / "x.zip").read("card.md").decode()
    assert "`Emotion2vec` of FunASR as serkit computes it" in card
    assert "never on the published ones" in card


def test_a_name_of_the_table_and_its_id_on_the_hub_take_the_folder_in_their_place(
    published: Path, tmp_path: Path
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "roots.yaml").write_text(f"checkpoints: {{emotion2vec/plus-base: {published}}}\n")
    for k, name in enumerate(("emotion2vec/plus-base", "hub:emotion2vec/emotion2vec_plus_base")):
        made = importing.import_checkpoint(name, tmp_path / f"{k}.zip")
        assert made.name == "emotion2vec_plus_base"
    assert (tmp_path / "0.zip").read_bytes() == (tmp_path / "1.zip").read_bytes()


def test_what_is_refused(copy: Path, tmp_path: Path) -> None:
    def refused(source: str, match: str) -> None:
        with pytest.raises(SerkitError, match=match):
            importing.import_checkpoint(source, tmp_path / "x.zip")

    refused("emotion2vec/base", r"is emotion2vec without a classifier .*features: \[emotion2vec/base\]")
    refused("hub:emotion2vec/emotion2vec_base", "is emotion2vec without a classifier")
    refused("emotion2vec/plus-bas", "did you mean 'emotion2vec/plus-base'")
    refused("emotion2vec/plus-large", "cannot reach the hub")
    (copy / "tokens.txt").write_text("生气/angry\n开心/happy\n", encoding="utf-8")
    refused(f"path:{copy}", r"another shape for weight 'proj\..*: tokens\.txt names 2 classes")
    (copy / "tokens.txt").write_text("生气/angry\nunuse_1\n", encoding="utf-8")
    refused(f"path:{copy}", "has 1 used class, expected two or more")
    (copy / "tokens.txt").unlink()
    refused(f"path:{copy}", "is emotion2vec without a classifier")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"proj.weight": None}, r"lacks weight 'proj\.weight'"),
        ({"proj.bias": lambda old: old * torch.nan}, "no finite numbers in Emotion2vec: is the file damaged"),
    ],
)
def test_damaged_weights_are_refused(changes: dict[str, Any], match: str, copy: Path, tmp_path: Path) -> None:
    change(copy, changes)
    with pytest.raises(SerkitError, match=match):
        importing.import_checkpoint(f"path:{copy}", tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_a_file_that_was_cut_short_is_refused(copy: Path, tmp_path: Path) -> None:
    content = (copy / "model.pt").read_bytes()
    (copy / "model.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(SerkitError, match="truncated or damaged"):
        importing.import_checkpoint(f"path:{copy}", tmp_path / "x.zip")
