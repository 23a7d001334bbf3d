"""A pretrained speech network trained further, with frame-level attention, pooling and a classifier on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from torch import Tensor, nn

from serkit.errors import SerkitError, check_known
from serkit.foundation.backbones import merge_adapters
from serkit.foundation.trainable import Backbone
from serkit.layer_weights import LayerWeights
from serkit.layers import FeatureNormalisation, Normalised
from serkit.models._backbones import (
    Tuning,
    WaveNormalize,
    first_seconds,
    graph_of,
    parameter_group,
    tune,
)
from serkit.models._flam_head import FlamHead, FramePooling, HiddenActivation
from serkit.models._style_pooling import StylePooling
from serkit.parameters import Fraction, Needs, Positive, Rate, Size, Whole
from serkit.tensors import Batch, Outputs, length_mask

States = Literal["last", "weighted"]


class SpeechBackbone(Normalised):
    """A pretrained network on waveforms, trained too, then frame attention and pooling (after Wang et al. 2026).

    Reads the feature ``waveform``. In a recipe ``backbone`` is a name (``wavlm/large``, ``hub:ORG/MODEL``,
    ``path:DIR``) or a mapping of it with ``layers``, ``dropout``, ``layer_drop`` and ``window``; see
    :func:`serkit.foundation.backbones.describe`. A saved network holds all weights and needs no hub; adapters
    are merged into them.

    Args:
        dims: ``{"waveform": 1}``. n_classes: emotions.
        backbone: samples and lengths to frames and lengths, already built.
        tuning: ``full``; ``frozen`` (only what stands on it is trained, and it is in evaluation mode); ``lora``.
        freeze_feature_encoder: leave the convolutions that read samples as they are.
        frozen_layers: leave the first so many transformer layers, and everything below them, as they are.
        backbone_lr: learning rate of the backbone at its last layer; ``None`` is ``train.lr``.
        layer_decay: factor on the rate from each layer to the one below it.
        lora_rank, lora_alpha, lora_dropout: of the adapters. lora_targets: linear layers that get one.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
        wave_normalize: of the samples, ``checkpoint``: each clip as the pretrained network expects it; ``train``:
            mean and standard deviation of the training set; ``none``.
        states: ``last``: the frames are those of the last layer; ``weighted``: a sum of those of all layers and of what
            enters the first, whose weights are learned and begin equal (SAILER, arXiv 2505.22133; SUPERB).
        frame_layers: linear layers on each frame after that, with ReLU and dropout between them (SAILER: 3).
        frame_width, frame_dropout: of these (SAILER: 256 and 0.1).
        max_s: only so many seconds of a longer clip are read, in training and answering; ``None`` reads all.
        pooling: as in ``FramePool``, or ``style``: convolutions and self-attention before the mean (EmoSphere-SER,
            arXiv 2505.19693). style_width, style_kernel, style_heads, style_dropout: see ``StylePooling``.
        heads: of the self-attention before that, 0 leaves it out. bottleneck, hidden, activation, dropout,
            attention_dropout, layer_norm, attribute_head, neutral_head: see ``FlamHead``.

    Raises:
        SerkitError: features other than one waveform, or a setting out of range.
    """

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        n_classes: int,
        backbone: Backbone,
        tuning: Tuning = "full",
        freeze_feature_encoder: Annotated[bool, Needs("tuning", "full")] = True,
        frozen_layers: Annotated[Whole, Needs("tuning", "full", "lora")] = 0,
        backbone_lr: Annotated[Positive | None, Needs("tuning", "full", "lora")] = None,
        layer_decay: Annotated[Fraction, Needs("tuning", "full", "lora")] = 1.0,
        lora_rank: Annotated[Size, Needs("tuning", "lora")] = 8,
        lora_alpha: Annotated[Size, Needs("tuning", "lora")] = 16,
        lora_dropout: Annotated[Rate, Needs("tuning", "lora")] = 0.0,
        lora_targets: Annotated[Sequence[str], Needs("tuning", "lora")] = ("q_proj", "v_proj"),
        gradient_checkpointing: Annotated[bool, Needs("tuning", "full", "lora")] = False,
        wave_normalize: WaveNormalize = "checkpoint",
        states: States = "last",
        frame_layers: Whole = 0,
        frame_width: Annotated[Size, Needs("frame_layers")] = 256,
        frame_dropout: Annotated[Rate, Needs("frame_layers")] = 0.1,
        max_s: Positive | None = None,
        heads: Whole = 0,
        pooling: FramePooling | Literal["style"] = "mean",
        style_width: Annotated[Size, Needs("pooling", "style")] = 1024,
        style_kernel: Annotated[Size, Needs("pooling", "style")] = 5,
        style_heads: Annotated[Size, Needs("pooling", "style")] = 2,
        style_dropout: Annotated[Rate, Needs("pooling", "style")] = 0.1,
        bottleneck: Whole = 0,
        hidden: Whole = 0,
        activation: Annotated[HiddenActivation, Needs("hidden")] = "relu",
        dropout: Rate = 0.0,
        attention_dropout: Annotated[Rate, Needs("heads")] = 0.0,
        layer_norm: bool = False,
        attribute_head: bool = False,
        neutral_head: bool = False,
    ) -> None:
        super().__init__()
        self.dims = dict(dims)
        if list(self.dims.values()) != [1]:
            raise SerkitError(f"speech_backbone reads one waveform: features: [waveform]; got {self.dims}")
        check_known(tuning, get_args(Tuning), f"speech_backbone: no tuning '{tuning}'")
        check_known(wave_normalize, get_args(WaveNormalize), f"speech_backbone: no wave_normalize '{wave_normalize}'")
        check_known(states, get_args(States), f"speech_backbone: no states '{states}'")
        n_layers = len(backbone.layers)
        if not 0 <= frozen_layers <= n_layers:
            raise SerkitError(f"speech_backbone: frozen_layers {frozen_layers}, the backbone has {n_layers} layers")
        if not 0.0 < layer_decay <= 1.0 or (backbone_lr is not None and backbone_lr <= 0) or lora_rank < 1:
            raise SerkitError(
                f"speech_backbone: layer_decay {layer_decay} (expected more than 0, at most 1), backbone_lr "
                f"{backbone_lr} (more than 0) or lora_rank {lora_rank} (at least 1) is out of range"
            )
        self.backbone, self.tuning = backbone, tuning
        self.backbone_lr, self.layer_decay, self.max_s = backbone_lr, layer_decay, max_s
        self.normalisation = FeatureNormalisation(self.dims, "train" if wave_normalize == "train" else "none")
        backbone.normalise = backbone.normalise and wave_normalize == "checkpoint"
        tune(
            backbone, tuning, rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout, targets=lora_targets,
            freeze_front=freeze_feature_encoder, frozen_layers=frozen_layers, checkpointing=gradient_checkpointing,
        )  # fmt: skip
        self.layer_weights = LayerWeights(n_layers + 1) if states == "weighted" else None
        self.frame_layers = (
            _frame_layers(backbone.dim, frame_width, frame_layers, frame_dropout) if frame_layers else None
        )
        dim = frame_width if frame_layers else backbone.dim
        styled = pooling == "style"
        self.head = FlamHead(
            dim=dim,
            n_classes=n_classes,
            heads=heads,
            pooling="mean" if pooling == "style" else pooling,
            pool=StylePooling(dim, style_width, style_kernel, style_heads, style_dropout) if styled else None,
            bottleneck=bottleneck,
            hidden=hidden,
            activation=activation,
            dropout=dropout,
            attention_dropout=attention_dropout,
            layer_norm=layer_norm,
            attribute_head=attribute_head,
            neutral_head=neutral_head,
        )
        self.embedding_dim = self.head.embedding_dim

    def train(self, mode: bool = True) -> SpeechBackbone:
        """Training mode, in which a frozen backbone stays without dropout."""
        super().train(mode)
        if self.tuning == "frozen":
            self.backbone.eval()
        return self

    def forward(self, batch: Batch) -> Outputs:
        """Score a batch.

        Returns:
            Outputs with ``embedding`` (batch, embedding_dim) and ``frames`` (batch, time, dim of the backbone, or
            ``frame_width``) with ``frames_mask``; a clip's are its own, whatever it is padded with.

        Raises:
            SerkitError: the waveform is missing.
        """
        (name,) = self.dims
        samples, mask, lengths = first_seconds(batch, name, self.max_s)
        samples = self.normalisation(name, samples, mask)
        with graph_of(self.tuning):
            states, n_frames = self.backbone.states(samples[:, :, 0], lengths, every=self.layer_weights is not None)
        frames = states[0] if self.layer_weights is None else _weighted(self.layer_weights.weights(), states)
        if self.frame_layers is not None:
            frames = self.frame_layers(frames)
        outputs: Outputs = self.head(frames, length_mask(n_frames, frames.shape[1]))
        return outputs

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """Parameters that are trained, by learning rate: what stands on the backbone, then that from the top down."""
        last = self.backbone_lr if self.backbone_lr is not None else lr
        placed: set[int] = set()
        own = [m for m in (self.head, self.layer_weights, self.frame_layers) if m is not None]
        groups = [parameter_group(nn.ModuleList(own), lr, placed)]
        layers = self.backbone.layers
        groups.append(parameter_group(nn.ModuleList(self.backbone.top), last, placed))
        for below, layer in enumerate(reversed(layers)):
            groups.append(parameter_group(layer, last * self.layer_decay**below, placed))
        groups.append(parameter_group(self.backbone, last * self.layer_decay ** len(layers), placed))
        return [group for group in groups if group["params"]]

    def finish(self) -> None:
        """After training: adapters become part of the weights."""
        if self.tuning == "lora":
            merge_adapters(self.backbone)


def _frame_layers(dim: int, width: int, n_layers: int, dropout: float) -> nn.Sequential:
    """Linear layers from ``dim`` to ``width``, ReLU and dropout between them."""
    layers: list[nn.Module] = [nn.Linear(dim, width)]
    for _ in range(n_layers - 1):
        layers += [nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width)]
    return nn.Sequential(*layers)


def _weighted(weights: Tensor, states: Sequence[Tensor]) -> Tensor:
    """The sum of (batch, time, dim) states by their (states,) weights."""
    frames = weights[0] * states[0]
    for weight, state in zip(weights[1:], states[1:], strict=True):
        frames = frames + weight * state
    return frames
