"""Published models that do not become a bundle: what is said of each, and that nothing is left behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from command_line import ask
from serkit.errors import MissingExtra, SerkitError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnx")

from serkit.serving import importing  # noqa: E402  # what it needs is an extra
from tiny_checkpoints import edit  # noqa: E402  # the same

pytestmark = pytest.mark.usefixtures("no_hub")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["HubertForCTC"]}, r"recognises words \(HubertForCTC\).*serkit run finetune --set"),
        ({"architectures": ["HubertModel"]}, r"a network without a classifier \(HubertModel\)"),
        ({"architectures": ["EmotionModel"]}, "code of its author's own.*Wav2Vec2ForSequence"),
        ({"architectures": ["Wav2Vec2ForSpeechClassification"]}, "which do not agree"),
        ({"architectures": ["WhisperForAudioClassification"]}, "model_type 'hubert', which do not agree"),
        (
            {"architectures": ["ASTForAudioClassification"], "model_type": "audio-spectrogram-transformer"},
            "model_type '",
        ),
        ({"architectures": None}, "names no architectures"),
        ({"model_type": "wavlm"}, "which do not agree"),
        ({"problem_type": "regression"}, "is for regression"),
        ({"id2label": {"0": "neu", "1": "sad"}}, r"another shape.*config\.json names 2 labels"),
        ({"hidden_act": "relu"}, "activations other than gelu"),
    ],
)
def test_other_models_are_told_apart(changes: dict[str, Any], said: str, copy: Path, tmp_path: Path) -> None:
    edit(copy / "config.json", **changes)
    with pytest.raises(SerkitError, match=said):
        importing.import_checkpoint(f"path:{copy}", tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampling_rate": 8000}, "trained at 8000 Hz, expected 16000"),
        ({"feature_extractor_type": "WhisperFeatureExtractor"}, "front end WhisperFeatureExtractor"),
    ],
)
def test_other_front_ends_are_refused(changes: dict[str, Any], said: str, copy: Path, tmp_path: Path) -> None:
    edit(copy / "preprocessor_config.json", **changes)
    with pytest.raises(SerkitError, match=said):
        importing.import_checkpoint(f"path:{copy}", tmp_path / "x.zip")


def test_a_setting_that_transformers_refuses_is_one_line(copy: Path, tmp_path: Path) -> None:
    """As ``vocab_size: null`` of a HuBERT, which stands in configurations that older versions wrote."""
    row = json.loads((copy / "config.json").read_text()) | {"vocab_size": None}
    (copy / "config.json").write_text(json.dumps(row))
    code, _, said = ask("import", f"path:{copy}", "-o", tmp_path / "x.zip")
    if code == 2:  # of transformers 5 so far
        assert "cannot be loaded: Validation error for field 'vocab_size'" in said.strip().splitlines()[-1]
    assert code in (0, 2)


def test_weights_that_do_not_belong(copy: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = copy / "model.safetensors"
    whole = load_file(file)
    own = {k: v for k, v in whole.items() if not k.startswith(("classifier", "projector"))}
    own |= {"classifier.hidden.weight": torch.zeros(16, 16), "classifier.out_proj.weight": torch.zeros(4, 16)}
    for weights, said in (
        (own, r"lacks weight 'classifier\.bias' and 3 more: its classifier is not that of HubertFor.*author's own"),
        (whole | {"hubert.more": torch.zeros(2)}, r"unexpected weight 'hubert\.more'"),
        (whole | {"classifier.bias": torch.full((4,), torch.nan)}, "no finite numbers"),
    ):
        save_file(weights, file, {"format": "pt"})
        with pytest.raises(SerkitError, match=said):
            importing.import_checkpoint(f"path:{copy}", tmp_path / "x.zip")
    file.unlink()
    with pytest.raises(SerkitError, match="no weights in"):
        importing.import_checkpoint(f"path:{copy}", tmp_path / "x.zip")
    torch.save({"a": torch.nn.Linear(2, 2)}, copy / "pytorch_model.bin")
    with pytest.raises(SerkitError, match="more than tensors"):
        importing.import_checkpoint(f"path:{copy}", tmp_path / "x.zip")


def test_other_numbers_than_transformers_are_refused(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing.Loaded, "raw_end", False)
    with pytest.raises(
        SerkitError, match=r"differ from those of transformers by .*this variant of the network is not supported"
    ):
        importing.import_checkpoint(f"path:{published}", tmp_path / "x.zip")


def test_too_large_for_one_file(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for most, said in (
        (20_000, "use --weights float16 or int8"),
        (10_000, "use --weights int8"),
        (100, "cannot be imp"),
    ):
        monkeypatch.setattr(importing, "MOST_BYTES", most)
        with pytest.raises(SerkitError, match=said):
            importing.import_checkpoint(f"path:{published}", tmp_path / "x.zip")


def test_wrong_words_on_the_command_line(published: Path, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.zip"
    for source, said in (
        (str(published), f"did you mean path:{published}?"), ("superb/er", "did you mean hub:superb/er?"),
        ("wavlm/large", "a network without a classifier: serkit run finetune"), ("path:none", "no folder none"),
        ("roberta/large", "a network without a classifier: features: [roberta/large]"),
        ("hub:superb/er", "cannot be downloaded (this machine cannot reach the hub"), ("x", "expected hub:ORG/MODEL"),
    ):  # fmt: skip
        code, _, told = ask("import", source, "-o", out)
        assert (code, said in told) == (2, True), told
    code, _, told = ask("import", f"path:{published}", "-o", bundle)
    assert (code, "exists already" in told) == (2, True)
    code, _, told = ask("import", f"path:{published}", "-o", out, "--max-clip", "0")
    assert (code, "expected 1 s or more" in told) == (2, True)


@pytest.mark.parametrize(("package", "extra"), [("transformers", "foundation"), ("onnx", "onnx")])
def test_a_missing_package_is_named_with_its_extra(
    package: str, extra: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"serkit\[{extra}\]"):
        importing.import_checkpoint(f"path:{published}", tmp_path / "x.zip")


def test_a_stop_leaves_nothing(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importing, "checked_graph", stopped)
    (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt):
        importing.import_checkpoint(f"path:{published}", tmp_path / "out" / "x.zip")
    assert list((tmp_path / "out").iterdir()) == []
