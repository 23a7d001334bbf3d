"""Tiny checkpoints of classes that are their authors' own, in the hub's layout, and the classes stated once more.

They were written from the code of MSP-UTD/MSP-Podcast_Challenge (``net/``, ``utils/dataset/``) and of
tiantiaf0627/vox-profile-release (``src/model/emotion/``), apart from serkit's networks and from each other: padding,
masks, frame counts and adapters are computed as there, in the forward pass. Weights are random.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

RATE = 16_000
ODYSSEY_LABELS = ("Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral")
VOX_LABELS = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise", "Other")
_OLD = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def tiny_wavlm(n_layers: int = 3) -> Any:
    """WavLM of large's kind, 16 wide."""
    return transformers.WavLMModel(
        transformers.WavLMConfig(
            hidden_size=16, num_hidden_layers=n_layers, num_attention_heads=2, intermediate_size=24, conv_dim=(8,) * 7,
            num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, feat_extract_norm="layer",
            do_stable_layer_norm=True, num_buckets=32,
        )
    )  # fmt: skip


class DenseHead(nn.Module):
    """The head as m3hrdadfi/soxan and the README of audEERING's checkpoint state it."""

    def __init__(self, width: int, n: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)
        self.out_proj = nn.Linear(width, n)

    def forward(self, features: Any) -> Any:
        return self.out_proj(self.dropout(torch.tanh(self.dense(self.dropout(features)))))


# ---------------------------------------------------------------- Odyssey 2024


class Pooling(nn.Module):
    """``AttentiveStatisticsPooling``."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.sap_linear = nn.Linear(size, size)
        self.attention = nn.Parameter(torch.randn(size, 1))

    def forward(self, xs: Any, mask: Any) -> Any:
        lengths = torch.div(mask.sum(1) - 1, RATE * 0.02, rounding_mode="floor") + 1
        pooled = []
        for x, n in zip(xs, lengths.int().tolist(), strict=True):
            x = x[:n]
            w = torch.softmax(torch.tanh(self.sap_linear(x)) @ self.attention, dim=0)
            mu = (x * w).sum(0)
            pooled.append(torch.cat([mu, torch.sqrt(((x**2) * w).sum(0).sub(mu**2).clamp(min=1e-5))]))
        return torch.stack(pooled)


class EmotionRegression(nn.Module):
    """Of any number of outputs, for classes as well."""

    def __init__(self, size: int, hidden: int, n_layers: int, n_out: int, dropout: float) -> None:
        super().__init__()
        widths = [size] + [hidden] * n_layers
        self.fc = nn.ModuleList(
            nn.Sequential(nn.Linear(widths[k], hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Dropout(dropout))
            for k in range(n_layers)
        )
        self.out = nn.Sequential(nn.Linear(hidden, n_out))
        self.inp_drop = nn.Dropout(dropout)

    def forward(self, x: Any) -> Any:
        x = self.inp_drop(x)
        for layer in self.fc:
            x = layer(x)
        return self.out(x)


class SERModel(nn.Module):
    """The class of ``3loi/SER-Odyssey-Baseline-WavLM-…``."""

    def __init__(self, n_hidden: int, n_classes: int, mean: float, std: float) -> None:
        super().__init__()
        self.ssl_model = tiny_wavlm()
        size = self.ssl_model.config.hidden_size
        self.pool_model = Pooling(size)
        self.ser_model = EmotionRegression(2 * size, size, n_hidden, n_classes, 0.5)
        self.mean, self.std = mean, std

    def forward(self, x: Any, mask: Any) -> Any:
        return self.ser_model(self.pool_model(self.ssl_model(x, attention_mask=mask).last_hidden_state, mask))

    def logits(self, clip: np.ndarray) -> np.ndarray:
        """(classes,) of a clip alone, as the page of the checkpoint asks for it."""
        wave = torch.tensor((clip - self.mean) / (self.std + 0.000001), dtype=torch.float32)[None]
        with torch.inference_mode():
            return self(wave, torch.ones(1, wave.shape[1]))[0].numpy()


def odyssey(
    folder: Path,
    *,
    n_hidden: int = 1,
    labels: tuple[str, ...] = ODYSSEY_LABELS,
    mean: float = -0.003,
    std: float = 0.09,
    old: bool = False,
) -> SERModel:
    """A checkpoint of :class:`SERModel`.

    Args:
        n_hidden: layers of its classifier below the last. mean, std: in its configuration.
        old: a ``pytorch_model.bin`` with the names that weights had before torch 2.1.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        model = SERModel(n_hidden, len(labels), mean, std).eval()
        with torch.no_grad():
            for parameter in model.ssl_model.parameters():
                parameter.mul_(3.0) if parameter.dim() > 1 else parameter.add_(0.1 * torch.randn_like(parameter))
            model.pool_model.attention.mul_(3.0)
            model.ser_model.out[0].weight.mul_(8.0)
            model.ser_model.out[0].bias.sub_(model(torch.randn(1, RATE), torch.ones(1, RATE))[0])
    row = {
        "architectures": ["SERModel"],
        "auto_map": {"AutoConfig": "pipeline_utils.SERConfig"},
        "classifier_dropout_prob": 0.5, "classifier_hidden_layers": n_hidden, "hidden_size": 16,
        "id2label": {str(k): label for k, label in enumerate(labels)}, "maxlen": 192000, "mean": mean,
        "model_type": "ser", "num_attention_heads": 2, "num_classes": len(labels), "num_hidden_layers": 3,
        "sampling_rate": RATE, "ssl_type": "microsoft/wavlm-large", "std": std, "transformers_version": "4.34.0.dev0",
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(row))
    _save(folder, model, old=old)
    return model


# ---------------------------------------------------------------- vox-profile


class LoraLinear(nn.Linear):
    """``loralib.Linear(…, r=rank)``, before its weights are merged."""

    def __init__(self, of: nn.Linear, rank: int) -> None:
        super().__init__(of.in_features, of.out_features)
        self.load_state_dict(of.state_dict())
        self.lora_A = nn.Parameter(torch.randn(rank, of.in_features) / math.sqrt(rank))
        self.lora_B = nn.Parameter(torch.randn(of.out_features, rank))

    def forward(self, x: Any) -> Any:
        return F.linear(x, self.weight, self.bias) + x @ self.lora_A.T @ self.lora_B.T * (1 / len(self.lora_A))


class Wrapper(nn.Module):
    """What ``WavLMWrapper`` and ``WhisperWrapper`` have in common above the backbone."""

    def __init__(self, size: int, n_layers: int, hidden_dim: int, n_classes: int, use_conv_output: bool) -> None:
        super().__init__()
        self.use_conv_output = use_conv_output
        self.model_seq = nn.Sequential(
            nn.Conv1d(size, hidden_dim, 1), nn.ReLU(), nn.Dropout(p=0.1), nn.Conv1d(hidden_dim, hidden_dim, 1),
            nn.ReLU(), nn.Dropout(p=0.1), nn.Conv1d(hidden_dim, hidden_dim, 1),
        )  # fmt: skip
        self.weights = nn.Parameter(torch.randn(n_layers + use_conv_output))
        for name, n in {"emotion": n_classes, "detailed_out": 17, "arousal": 1, "valence": 1, "dominance": 1}.items():
            part = nn.Sequential(nn.Linear(hidden_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, n))
            setattr(self, f"{name}_layer", part)

    def on_frames(self, features: Any, n: int) -> Any:
        """(classes,) of (1, time, size) of which the first n count."""
        features = self.model_seq(features.transpose(1, 2)).transpose(1, 2)
        return self.emotion_layer(features[0, :n].mean(0))


class WavLMWrapper(Wrapper):
    def __init__(self, hidden_dim: int, n_classes: int, use_conv_output: bool, rank: int) -> None:
        backbone = tiny_wavlm()
        n_layers = backbone.config.num_hidden_layers
        super().__init__(backbone.config.hidden_size, n_layers, hidden_dim, n_classes, use_conv_output)
        self.backbone_model = backbone
        self.processor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
        for index in range(n_layers // 2 + 1, n_layers if rank else 0):
            part = backbone.encoder.layers[index].feed_forward
            part.intermediate_dense = LoraLinear(part.intermediate_dense, rank)
            part.output_dense = LoraLinear(part.output_dense, rank)

    def logits(self, clip: np.ndarray) -> np.ndarray:
        """(classes,) of a clip alone. The last state is normalised, as in transformers 4."""
        encoder = self.backbone_model.encoder
        states: list[Any] = []
        hooks = [encoder.layers[0].register_forward_pre_hook(lambda _, args: states.append(args[0]))]
        hooks += [layer.register_forward_hook(lambda *_: states.append(_[2][0])) for layer in encoder.layers]
        given = self.processor(clip, sampling_rate=RATE, return_tensors="pt", padding=True)["input_values"]
        with torch.inference_mode():
            states_of_model = self.backbone_model(given, attention_mask=torch.ones_like(given, dtype=torch.bool))
            for hook in hooks:
                hook.remove()
            states[-1] = encoder.layer_norm(states[-1])
            assert torch.allclose(states[-1], states_of_model.last_hidden_state, atol=1e-6)
            kept = torch.stack(states if self.use_conv_output else states[1:])
            summed = torch.einsum("l,lbtd->btd", self.weights.softmax(-1), kept)
            return self.on_frames(summed, summed.shape[1]).numpy()


class WhisperWrapper(Wrapper):
    def __init__(self, hidden_dim: int, n_classes: int, use_conv_output: bool, rank: int) -> None:
        config = transformers.WhisperConfig(
            vocab_size=60, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, d_model=128,
            encoder_layers=3, encoder_attention_heads=2, encoder_ffn_dim=24, decoder_layers=1,
            decoder_attention_heads=2, decoder_ffn_dim=16, num_mel_bins=128, max_source_positions=750,
        )  # fmt: skip
        super().__init__(128, 3, hidden_dim, n_classes, use_conv_output)
        self.backbone_model = transformers.WhisperModel(config)
        self.feature_extractor = transformers.WhisperFeatureExtractor(128)
        self.embed_positions = nn.Parameter(self.backbone_model.encoder.embed_positions.weight.detach().clone())
        for index in range(2, 3 if rank else 0):
            layer = self.backbone_model.encoder.layers[index]
            layer.fc1, layer.fc2 = LoraLinear(layer.fc1, rank), LoraLinear(layer.fc2, rank)

    def logits(self, clip: np.ndarray) -> np.ndarray:
        """(classes,) of a clip alone."""
        given = self.feature_extractor(clip, return_tensors="pt", sampling_rate=RATE, max_length=15 * RATE)
        encoder = self.backbone_model.encoder
        kept = encoder.embed_positions
        encoder.embed_positions = nn.Embedding.from_pretrained(self.embed_positions[:750])
        with torch.inference_mode():
            states = encoder(given["input_features"]).last_hidden_state
            encoder.embed_positions = kept
            return self.on_frames(states, (len(clip) // 160 - 1) // 2 + 1).numpy()


def vox_profile(
    folder: Path,
    kind: str = "wavlm_large",
    *,
    rank: int = 0,
    use_conv_output: bool = True,
    hidden_dim: int = 12,
    n_classes: int = 9,
) -> WavLMWrapper | WhisperWrapper:
    """A checkpoint of a class of vox-profile, as ``PyTorchModelHubMixin`` writes it.

    Args:
        kind: ``pretrain_model``. rank: of its adapters, 0 for ``finetune``. hidden_dim, n_classes, use_conv_output:
            arguments of the class.
    """
    build = {"wavlm_large": WavLMWrapper, "whisper_large": WhisperWrapper}[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(13)
        model = build(hidden_dim, n_classes, use_conv_output, rank).eval()
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if key.startswith("backbone_model.") and "embed_positions" not in key and "lora_" not in key:
                    parameter.mul_(3.0) if parameter.dim() > 1 else parameter.add_(0.1 * torch.randn_like(parameter))
            if isinstance(model, WhisperWrapper):  # what the class puts into the encoder is another one's
                model.embed_positions.add_(0.2 * torch.randn_like(model.embed_positions))
            model.emotion_layer[2].weight.mul_(60.0 if isinstance(model, WavLMWrapper) else 400.0)
            noise = 0.1 * np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
            model.emotion_layer[2].bias.sub_(torch.from_numpy(model.logits(noise)))
    row = {
        "detailed_class_num": 17, "finetune_method": "lora" if rank else "finetune", "freeze_params": True,
        "hidden_dim": hidden_dim, "lora_rank": rank or 16, "output_class_num": n_classes, "pretrain_model": kind,
        "use_conv_output": use_conv_output,
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(row))
    _save(folder, model)
    return model


def _save(folder: Path, model: nn.Module, *, old: bool = False) -> None:
    tensors = {key: tensor.detach().clone().contiguous() for key, tensor in model.state_dict().items()}
    if not old:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return
    for new, name in _OLD.items():
        tensors = {key.replace(new, name): tensor for key, tensor in tensors.items()}
    torch.save(tensors, folder / "pytorch_model.bin")
