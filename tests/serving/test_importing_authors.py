"""Published classifiers whose class is their authors' own: the baseline of Odyssey 2024, and vox-profile."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import serkit
from command_line import ask
from serkit.errors import SerkitError

from .signals import RATE, quiet, talk, voice, wide

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnx")

from safetensors.torch import load_file, save_file  # noqa: E402  # what it needs is an extra

from author_checkpoints import ODYSSEY_LABELS, VOX_LABELS, odyssey, vox_profile  # noqa: E402  # the same
from serkit import checkpoints  # noqa: E402  # the same
from serkit.foundation import classifiers  # noqa: E402  # the same
from serkit.serving import importing  # noqa: E402  # the same
from serkit.serving.bundle import open_bundle  # noqa: E402  # the same
from tiny_checkpoints import edit  # noqa: E402  # the same

pytestmark = pytest.mark.usefixtures("no_hub")

ODYSSEY = ("anger", "sadness", "happiness", "surprise", "fear", "disgust", "contempt", "neutral")
VOX = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "other")
WHISPER = "whisper_large"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each class; tests copy it before they change it."""
    root = tmp_path_factory.mktemp("authors")
    odyssey(root / "odyssey")
    vox_profile(root / "vox")
    vox_profile(root / "lora", rank=4)
    vox_profile(root / "whisper", WHISPER, rank=4)
    return {name: root / name for name in ("odyssey", "vox", "lora", "whisper")}


def bundled(folder: Path, out: Path, **how: Any) -> importing.Imported:
    return importing.import_checkpoint(f"path:{folder}", out, **({"max_clip_s": 15.0} | how))


@pytest.mark.parametrize(
    ("make", "labels"),
    [
        (odyssey, ODYSSEY),
        (lambda folder: odyssey(folder, n_hidden=2, old=True), ODYSSEY),
        (vox_profile, VOX),
        (lambda folder: vox_profile(folder, rank=4, use_conv_output=False), VOX),
        (lambda folder: vox_profile(folder, WHISPER, rank=4, use_conv_output=False), VOX),
    ],
    ids=["odyssey", "odyssey-bin", "wavlm", "wavlm-lora", "whisper-lora"],
)
def test_answers_are_those_of_the_class(make: Callable[[Path], Any], labels: tuple[str, ...], tmp_path: Path) -> None:
    """Of clips whose last step of 160 or frame of 320 samples is begun, too, and in a batch."""
    model = make(tmp_path / "er")
    found = bundled(tmp_path / "er", tmp_path / "er.zip")
    assert max(found.difference, open_bundle(found.path).head["largest_difference"]) < 1e-4
    answering = serkit.load(tmp_path / "er.zip")
    assert answering.labels == labels
    clips = [wide(0.7), wide(1.305, 5, 240.0), talk(2), 0.05 * voice(2.009, 3, 300.0), wide(0.0301, 4)]
    clips = [clip - clip.mean() for clip in clips]  # serkit removes a constant offset
    assert {len(clip) % 320 // 160 for clip in clips} == {0, 1}
    wanted = [torch.from_numpy(model.logits(clip)).softmax(-1).numpy() for clip in clips]
    alone = [list(answering.predict(clip, rate_hz=RATE).probabilities.values()) for clip in clips]
    together = [list(one.probabilities.values()) for one in answering.predict_many(clips, rate_hz=RATE)]
    np.testing.assert_allclose(alone, wanted, atol=1e-4)
    np.testing.assert_allclose(together, wanted, atol=1e-4)
    assert np.ptp(wanted, axis=0).max() > 0.05, "the answers should differ from clip to clip"


def test_whisper_without_adapters(tmp_path: Path) -> None:
    model = vox_profile(tmp_path / "er", WHISPER)
    found = importing.load(classifiers.read(f"path:{tmp_path / 'er'}"))
    clips = [wide(0.7), wide(1.305, 5, 240.0)]
    np.testing.assert_allclose(found.logits(clips), [model.logits(clip) for clip in clips], atol=1e-4)


def test_half_a_frame_counts_as_in_vox_profile(made: dict[str, Path]) -> None:
    """``(n // 160 - 1) // 2 + 1``, where serkit's own Whisper has ``ceil(n / 320)``."""
    network = importing.network_of(importing.load(classifiers.read(f"path:{made['whisper']}")), 9)
    assert not network.backbone.begun
    for n, own, of_serkit in ((320, 1, 1), (400, 1, 2), (480, 2, 2), (100, 1, 1)):
        samples, lengths = torch.zeros(1, n), torch.tensor([n])
        network.backbone.begun = False
        assert network.backbone(samples, lengths)[1].tolist() == [own]
        network.backbone.begun = True
        assert network.backbone(samples, lengths)[1].tolist() == [of_serkit]


def test_the_variance_has_a_least_value(made: dict[str, Path]) -> None:
    """As in the class: 1e-5 is its least, where serkit's own pooling adds it."""
    network = importing.network_of(importing.load(classifiers.read(f"path:{made['odyssey']}")), 8)
    frames, mask = torch.full((1, 5, 16), 3.0), torch.ones(1, 5, dtype=torch.bool)
    spread = network.head.pool(frames + 0.002 * torch.arange(5.0)[None, :, None], mask)[0, 16:]
    assert torch.allclose(spread, torch.full((16,), 1e-5**0.5), rtol=1e-4)


def test_the_command_says_what_is_not_known(made: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made["odyssey"], tmp_path / "SER-Odyssey"))
    (folder / "README.md").write_text("---\nlicense: mit\nlanguage: en\n---\n")
    out = tmp_path / "odyssey.zip"
    code, shown, said = ask("import", f"path:{folder}", "-o", out, "--max-clip", 12)
    assert code == 0, said
    for line in ("Angry -> anger", "Contempt -> contempt", "never on the published ones", "--max-clip 12", "mit"):
        assert line in shown
    assert "not among serkit's own labels" not in shown
    bundle = open_bundle(out)
    assert "`SERModel` of MSP-UTD/MSP-Podcast_Challenge as serkit computes it" in bundle.text("card.md")
    assert bundle.head["imported"]["class"] == "SERModel"
    code, shown, said = ask("import", f"path:{made['lora']}", "-o", tmp_path / "lora.zip")
    assert code == 0, said
    for line in ("Fear -> fear", "Other -> other", "labels, which are those of the examples", "adapters were added"):
        assert line in shown
    card = open_bundle(tmp_path / "lora.zip").text("card.md")
    assert "sum of all layers, the last one after its normalisation" in card
    (tmp_path / "talk.wav").write_bytes(b"")
    soundfile.write(tmp_path / "talk.wav", talk(3), RATE)
    code, shown, said = ask("predict", tmp_path / "talk.wav", "--model", out, "--timeline", "--format", "json")
    assert code == 0, said
    assert len(json.loads(shown)["segments"]) == 3


def test_a_window_of_15_s(made: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(SerkitError, match="WhisperWrapper hears 15 s at a time; give --max-clip 15 or less"):
        bundled(made["whisper"], tmp_path / "x.zip", max_clip_s=20.0)
    bundled(made["whisper"], tmp_path / "x.zip", max_clip_s=3.0)
    assert "where its own class hears its first 15 s." in open_bundle(tmp_path / "x.zip").text("card.md")
    model = serkit.load(tmp_path / "x.zip")
    sound = np.concatenate([talk(3), quiet(1.0), voice(2.0, 300)])
    answer, stream = model.predict(sound, rate_hz=RATE), model.stream(rate_hz=RATE, partial_s=None)
    for at in range(0, len(sound), 5_000):
        stream.push(sound[at : at + 5_000])
    stream.finish()
    assert stream.prediction.probabilities == pytest.approx(dict(answer.probabilities), abs=1e-6)


def test_adapting_with_labels(made: dict[str, Path], tmp_path: Path) -> None:
    bundled(made["odyssey"], tmp_path / "er.zip", max_clip_s=12.0)
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "emotion", "speaker"])
        for k in range(24):
            angry = k % 2 == 1
            soundfile.write(tmp_path / f"{k}.wav", wide(0.6, k, 220.0 if angry else 110.0), RATE)
            rows.writerow([f"{k}.wav", "anger" if angry else "neutral", f"s{k // 6}"])
    words = ("adapt", "--model", tmp_path / "er.zip", "--corpus", "table", "--root", tmp_path / "labels.csv")
    code, _, said = ask(*words, "-o", tmp_path / "mine.zip", "--draws", 20)
    assert code == 0, said
    models = [serkit.load(tmp_path / f"{name}.zip") for name in ("er", "mine")]
    clips = {"neutral": wide(0.6, 77, 110.0), "anger": wide(0.6, 77, 220.0)}
    before, after = (
        [np.log(model.predict(clip, rate_hz=RATE).probabilities[label]) for label, clip in clips.items()]
        for model in models
    )
    assert np.mean(after) > np.mean(before) + 0.1
    assert "## Adapted with labels" in models[1].bundle.text("card.md")


# ---------------------------------------------------------------- where they come from


def test_from_the_cache_of_the_hub(made: dict[str, Path], tmp_path: Path) -> None:
    """Neither has a front end's file, and one names no model_type."""
    for model, name, labels in (("me/odyssey", "odyssey", ODYSSEY_LABELS), ("me/vox", "vox", VOX_LABELS)):
        commit, place = "0123456789" * 4, tmp_path / "hub" / f"models--{model.replace('/', '--')}"
        shutil.copytree(made[name], place / "snapshots" / commit)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(commit)
        found = classifiers.read(f"hub:{model}")
        assert (found.title, found.revision, found.words) == (f"hub:{model}", commit, labels)
    with pytest.raises(SerkitError, match="cannot be downloaded"):
        classifiers.read("hub:me/none")
    with pytest.raises(SerkitError, match="cannot be downloaded"):
        classifiers.read("hub:a/b/c")


def test_a_folder_in_the_place_of_the_hub(made: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "roots.yaml").write_text(f"checkpoints:\n  'hub:me/vox': {made['vox']}\n")
    found = classifiers.read("hub:me/vox")
    assert found.title == "hub:me/vox (the files of a local folder in its place)"
    assert found.revision == f"weights-{found.weights}"


def test_they_are_no_encoders(made: dict[str, Path]) -> None:
    with pytest.raises(SerkitError, match="model_type 'ser', expected one of"):
        checkpoints.resolve(f"path:{made['odyssey']}")
    with pytest.raises(SerkitError, match="names no model_type"):
        checkpoints.resolve(f"path:{made['vox']}")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("odyssey", {"ssl_type": "facebook/hubert-large-ll60k"}, "ssl_type .*expected microsoft/wavlm-large"),
        ("odyssey", {"sampling_rate": 8000}, "sampling_rate of its config.json is 8000, expected 16000"),
        ("odyssey", {"mean": None}, "mean None and std 0.09, expected"),
        ("odyssey", {"std": 0.0}, "std 0.0, expected"),
        ("odyssey", {"num_classes": 7}, "names 8 labels and says num_classes 7"),
        ("odyssey", {"classifier_hidden_layers": 2}, r"lacks weight 'ser_model\.fc\.1\."),
        ("odyssey", {"classifier_hidden_layers": None}, "classifier_hidden_layers of its config.json is None, exp"),
        ("odyssey", {"num_hidden_layers": 24}, "says num_hidden_layers 24, and its weights 3"),
        ("odyssey", {"id2label": {"0": "arousal", "1": "dominance", "2": "valence"}}, "as numbers, and no labels"),
        ("odyssey", {"id2label": {"0": "arousal"}, "num_classes": 1}, "as numbers, and no labels"),
        ("odyssey", {"id2label": None}, "does not say what its classes are: LABEL_0, LABEL_1"),
        ("odyssey", {"id2label": {"0": "sad", "1": "neu"}, "num_classes": 2}, r"another shape for weight '.*out\.0"),
        ("vox", {"pretrain_model": "wavlm"}, "vox-profile model on 'wavlm', expected wavlm_large or whisper_large"),
        ("vox", {"pretrain_model": "whisper_large"}, r"unexpected weight 'backbone_model\.feature_"),
        ("vox", {"finetune_method": "adapter"}, "finetune_method .*'adapter', expected lora or finetune"),
        ("vox", {"finetune_method": "lora"}, r"lacks weight 'backbone_model\.encoder\.layers\.2\..*lora_A'"),
        ("vox", {"predict_gender": False}, "arousal, valence and dominance as numbers"),
        ("vox", {"apply_reg": False}, "has apply_reg, which vox-profile's classifiers of emotions do not"),
        ("vox", {"hidden_dim": 256}, r"another shape for weight 'model_seq\.0\.weight'"),
        ("vox", {"use_conv_output": False}, r"'weights' of the layers are \(4,\), expected \(3,\)"),
        ("vox", {"use_conv_output": "no"}, "use_conv_output of its config.json is no"),
        ("vox", {"output_class_num": 4}, "does not say what its classes are: LABEL_0"),
        ("vox", {"id2label": {"0": "sad", "1": "neu"}}, "names 2 labels and says output_class_num 9"),
        ("vox", {"id2label": [1]}, "its labels are none, expected two or more"),
        ("vox", {"output_class_num": True}, "output_class_num of its config.json is True, expected a whole number"),
        ("lora", {"lora_rank": 8}, r"lora_A': \(4, 16\), expected \(8, 16\), as lora_rank"),
        ("lora", {"finetune_method": "finetune"}, r"unexpected weight 'backbone_model\..*lora_A' and 3 more"),
        ("whisper", {"architectures": ["Other"]}, "names no model_type"),
    ],
)  # fmt: skip
def test_other_configurations(
    name: str, changes: dict[str, Any], said: str, made: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(made[name], tmp_path / "copy"))
    edit(folder / "config.json", **changes)
    with pytest.raises(SerkitError, match=said) as caught:
        bundled(folder, tmp_path / "x.zip")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.zip").exists()


def positions(weights: dict[str, Any]) -> None:
    weights["embed_positions"] = weights["embed_positions"][:500]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("odyssey", lambda w: w.pop("pool_model.attention"), r"lacks weight 'pool_model\.attention'"),
        ("odyssey", lambda w: w.update({"more": torch.zeros(2)}), "unexpected weight 'more'"),
        ("odyssey", lambda w: w.update({"ser_model.fc.1.0.bias": torch.zeros(2)}), r"unexpected weight 'ser_model\.fc"),
        ("odyssey", lambda w: w.pop("ssl_model.encoder.layer_norm.bias"), r"lacks weight 'ssl_model\.enc.*norm\.bias'"),
        (
            "odyssey",
            lambda w: w.pop("ssl_model.feature_extractor.conv_layers.1.layer_norm.weight"),
            "another network than WavLM large",
        ),
        ("odyssey", lambda w: w["ser_model.out.0.bias"].fill_(torch.nan), "no finite numbers"),
        ("vox", lambda w: [w.pop(key) for key in list(w) if key.startswith("emotion_")], "no classifier of emotions"),
        ("vox", lambda w: w.pop("weights"), "'weights' of the layers are none, expected"),
        ("vox", lambda w: w.update({"age_dist_layer.0.bias": torch.zeros(2)}), "unexpected weight 'age_dist_layer"),
        ("vox", lambda w: w.update({"weights.more": torch.zeros(2)}), r"unexpected weight 'weights\.more'"),
        ("whisper", positions, "has 500 positions in 'embed_positions', expected 750"),
        (
            "whisper",
            lambda w: w.pop("backbone_model.encoder.conv1.weight"),
            r"lacks weight '.*encoder\.conv1\.weight'",
        ),
    ],
)
def test_other_weights(
    name: str, change: Callable[[dict[str, Any]], Any], said: str, made: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(made[name], tmp_path / "copy"))
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SerkitError, match=said) as caught:
        bundled(folder, tmp_path / "x.zip")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.zip").exists()


def test_labels_of_the_examples_are_for_nine_classes_only(tmp_path: Path) -> None:
    """With another number, they are named by whoever imports it."""
    vox_profile(tmp_path / "er", n_classes=3)
    found = bundled(tmp_path / "er", tmp_path / "er.zip", labels={"0": "neutral", "1": "anger", "2": "sadness"})
    assert tuple(found.labels.values()) == ("neutral", "anger", "sadness")
    assert not any("examples" in note for note in found.notes)


def test_labels_that_a_file_names_are_its_own(made: dict[str, Path], tmp_path: Path) -> None:
    """The class never writes them, but whoever trained on other data may."""
    folder = Path(shutil.copytree(made["vox"], tmp_path / "copy"))
    others = (*reversed(VOX_LABELS[:8]), "Other")
    edit(folder / "config.json", id2label={str(k): label for k, label in enumerate(others)})
    found = bundled(folder, tmp_path / "x.zip")
    assert tuple(found.labels.values()) == (*reversed(VOX[:8]), "other")
    assert not any("examples" in note for note in found.notes)


def test_heads_that_the_class_does_not_use_are_not_asked_for(made: dict[str, Path], tmp_path: Path) -> None:
    """WavLM is built by its own file; what ``SERModel`` says of its heads decides nothing."""
    folder = Path(shutil.copytree(made["odyssey"], tmp_path / "copy"))
    edit(folder / "config.json", num_attention_heads=24)
    answers = [importing.load(classifiers.read(f"path:{one}")).logits([wide(1.0)]) for one in (made["odyssey"], folder)]
    np.testing.assert_array_equal(*answers)


def test_positions_that_are_the_encoders_own(made: dict[str, Path], tmp_path: Path) -> None:
    """A file that was saved after an answer has them once: both are one tensor then."""
    folder = Path(shutil.copytree(made["whisper"], tmp_path / "copy"))
    weights = load_file(folder / "model.safetensors")
    weights["backbone_model.encoder.embed_positions.weight"] = weights.pop("embed_positions")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    answers = [importing.load(classifiers.read(f"path:{one}")).logits([wide(1.0)]) for one in (made["whisper"], folder)]
    np.testing.assert_allclose(*answers, atol=1e-5)
