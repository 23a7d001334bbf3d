"""Tiny checkpoints of the real classes in the place of published ones, as this machine's ``roots.yaml`` may say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml


def without_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration, a cache and a hub's cache of the test's own, all empty; nothing is asked of the hub."""
    monkeypatch.setenv("SERKIT_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("SERKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def in_roots(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: Mapping[str, Mapping[str, Any]],
    models: Path | None = None,
) -> dict[str, Path]:
    """A folder for each name, with what its configuration has otherwise; nothing is asked of the hub.

    Args:
        models: where the folders are, for several tests; one that is there already is taken as it is.
    """
    from serkit.foundation.tiny import tiny_folder

    without_hub(tmp_path, monkeypatch)
    made = {name: (models or tmp_path / "models") / name.replace("/", "-") for name in names}
    for name, changes in names.items():
        if not made[name].is_dir():
            tiny_folder(name.split("/")[0], made[name], **changes)
    (tmp_path / "config").mkdir()
    table = yaml.safe_dump({"checkpoints": {name: str(folder) for name, folder in made.items()}})
    (tmp_path / "config" / "roots.yaml").write_text(table)
    return made


def classifier(
    folder: Path,
    kind: str = "Wav2Vec2",
    *,
    stable: bool = False,
    weighted: bool = False,
    normalise: bool = True,
    labels: tuple[str, ...] = ("neu", "hap", "ang", "sad"),
    written_by: str | None = None,
    **changes: Any,
) -> Any:
    """A checkpoint of a class of transformers ``…ForSequenceClassification``, as ``save_pretrained`` writes it.

    Args:
        kind: Wav2Vec2, Hubert or WavLM. stable: layer normalisation in all convolutions and before each layer, or else
            a group normalisation in the first. weighted: a sum of all states. normalise: of its feature extractor.
        written_by: version of transformers that its config names, instead of the one that is here.
        changes: to its configuration.

    Returns:
        The model, in evaluation mode: its answers differ from clip to clip.
    """
    import torch
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        **{
            "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
            "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
            "feat_extract_norm": "layer" if stable else "group", "conv_bias": stable, "do_stable_layer_norm": stable,
            "num_buckets": 32, "max_bucket_distance": 80, "classifier_proj_size": 12,
            "use_weighted_layer_sum": weighted, "id2label": dict(enumerate(labels)),
            "label2id": {label: k for k, label in enumerate(labels)},
        } | changes
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(3.0) if parameter.dim() > 1 else parameter.add_(0.1 * torch.randn_like(parameter))
            model.classifier.weight.mul_(30.0)
            if weighted:
                model.layer_weights.copy_(torch.linspace(-1.0, 1.0, len(model.layer_weights)))
            model.classifier.bias.sub_(model(torch.randn(1, 16_000)).logits[0])
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise, return_attention_mask=stable).save_pretrained(folder)
    if written_by is not None:
        edit(folder / "config.json", transformers_version=written_by)
    return model


def whisper_classifier(
    folder: Path,
    *,
    weighted: bool = False,
    positions: int = 100,
    bands: int = 80,
    normalise: bool = False,
    labels: tuple[str, ...] = ("angry", "happy", "neutral", "sad"),
) -> Any:
    """A checkpoint of transformers' ``WhisperForAudioClassification``, in evaluation mode.

    Args:
        weighted: a sum of all states. positions: of its window, 320 samples each (a published one has 1500).
        bands: of its spectrogram. normalise: of its feature extractor.
    """
    import torch
    import transformers

    config = transformers.WhisperConfig(
        vocab_size=60, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, d_model=16,
        encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=24, decoder_layers=1, decoder_attention_heads=2,
        decoder_ffn_dim=16, num_mel_bins=bands, max_source_positions=positions, classifier_proj_size=12,
        use_weighted_layer_sum=weighted, id2label=dict(enumerate(labels)),
        label2id={label: k for k, label in enumerate(labels)},
    )  # fmt: skip
    front = transformers.WhisperFeatureExtractor(bands, chunk_length=positions // 50, do_normalize=normalise)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = transformers.WhisperForAudioClassification(config).eval()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "embed_positions" not in key:
                    parameter.mul_(3.0) if parameter.dim() > 1 else parameter.add_(0.1 * torch.randn_like(parameter))
            model.classifier.weight.mul_(10.0)
            if weighted:
                model.layer_weights.copy_(torch.linspace(-1.0, 1.0, len(model.layer_weights)))
            silence = front(torch.zeros(16_000).numpy(), sampling_rate=16_000, return_tensors="pt")
            model.classifier.bias.sub_(model(silence["input_features"]).logits[0])
    model.save_pretrained(folder)
    front.save_pretrained(folder)
    return model


def with_dense_head(
    folder: Path,
    kind: str = "Wav2Vec2",
    *,
    last: str = "out_proj",
    says: str | None = None,
    pooling: str | None = "mean",
    labels: tuple[str, ...] = ("angry", "calm", "happy", "sad"),
    **how: Any,
) -> tuple[Any, dict[str, Any]]:
    """A checkpoint of the class ``…ForSpeechClassification`` of m3hrdadfi/soxan, which is no part of transformers.

    Args:
        kind: Wav2Vec2, Hubert or WavLM. last: name of its last layer. says: class that its config names, where it is
            another one. pooling: ``pooling_mode`` of its config, ``None`` for none. how: see :func:`classifier`.

    Returns:
        The network below the head, in evaluation mode, and the four tensors of the head by name.
    """
    import torch
    from safetensors.torch import load_file, save_file

    body = classifier(folder, kind, labels=labels, written_by="4.8.2", **how).base_model
    width, draw = body.config.hidden_size, torch.Generator().manual_seed(3)
    head = {
        "classifier.dense.weight": torch.randn(width, width, generator=draw),
        "classifier.dense.bias": 0.3 * torch.randn(width, generator=draw),
        f"classifier.{last}.weight": torch.randn(len(labels), width, generator=draw),
        f"classifier.{last}.bias": 0.3 * torch.randn(len(labels), generator=draw),
    }
    file = folder / "model.safetensors"
    own = {k: v for k, v in load_file(file).items() if k.startswith(f"{kind.lower()}.")}
    save_file(own | head, file, {"format": "pt"})
    edit(folder / "config.json", architectures=[says or f"{kind}ForSpeechClassification"], pooling_mode=pooling)
    return body, head


def with_ratings(
    folder: Path,
    *,
    words: tuple[str, ...] = ("arousal", "dominance", "valence"),
    says: str | None = None,
    width: float = 1.0,
    **how: Any,
) -> tuple[Any, dict[str, Any]]:
    """A checkpoint in the layout of audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim: ratings and no classes.

    Args:
        words: names of its ratings, in its order. says: class that its config names. width: of the scale from 0 on,
            around whose middle the ratings of noise lie. how: see :func:`with_dense_head`.

    Returns:
        As of that.
    """
    import torch
    from safetensors.torch import load_file, save_file

    body, head = with_dense_head(folder, says=says, labels=words, **{"stable": True, **how})
    hidden = torch.tanh(
        body(torch.randn(1, 16_000, generator=torch.Generator().manual_seed(5)))[0].mean(1)
        @ head["classifier.dense.weight"].T
        + head["classifier.dense.bias"]
    )
    head["classifier.out_proj.weight"] *= 0.15 * width
    head["classifier.out_proj.bias"] = 0.5 * width - (hidden @ head["classifier.out_proj.weight"].T)[0].detach()
    file = folder / "model.safetensors"
    save_file(load_file(file) | head, file, {"format": "pt"})
    more = {"problem_type": "regression", "finetuning_task": "wav2vec2_reg", "gradient_checkpointing": False}
    edit(folder / "config.json", **more, _name_or_path="torch", num_adapter_layers=3)
    if how.get("kind", "Wav2Vec2") == "Wav2Vec2":
        row = json.loads((folder / "config.json").read_text()) | {"vocab_size": None}  # null, as the published one has
        (folder / "config.json").write_text(json.dumps(row))
    return body, head


def edit(file: Path, **changes: Any) -> None:
    """Change fields of a JSON file; ``None`` takes one away."""
    row = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in row.items() if value is not None}))
