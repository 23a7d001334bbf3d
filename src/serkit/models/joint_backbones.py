"""A pretrained speech network and a pretrained text model trained together, with the cross-modal network on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, get_args

from torch import Tensor, nn

from serkit.errors import SerkitError, check_known
from serkit.foundation.backbones import merge_adapters
from serkit.foundation.trainable import Backbone, Trainable
from serkit.foundation.trainable_text import TextBackbone
from serkit.layers import FeatureNormalisation, Pooling
from serkit.models._backbones import (
    Tuning,
    WaveNormalize,
    first_seconds,
    graph_of,
    parameter_group,
    tune,
)
from serkit.models.cross_attention import CrossAttention
from serkit.parameters import Needs, Positive, Rate, Size
from serkit.tensors import Batch, Outputs

_READS = {"backbone": "waveform", "text_backbone": "tokens"}


class JointBackbones(nn.Module):
    """Pretrained networks on waveforms and texts, trained with ``cross_attention`` on their states (after Crab, 2026).

    Crab (Ueda et al., arXiv 2603.23673) fine-tunes WavLM, without its convolutions, and RoBERTa. Reads the features
    ``waveform`` and ``tokens/NAME``, or one of the two, each with its backbone; a saved network holds all weights and
    the tokenizer, and needs no hub; adapters are merged into the weights.

    Args:
        dims: ``{"waveform": 1, "tokens/NAME": 1}`` or one of them. n_classes: emotions.
        backbone: samples and lengths to frames, already built; in a recipe as for ``speech_backbone``.
        text_backbone: token ids and lengths to states, already built; in a recipe the NAME of the tokens, or a mapping
            of it with ``layers`` and ``dropout``: see :func:`serkit.foundation.text_backbones.describe`.
        tuning: of the speech network, ``full``, ``frozen`` or ``lora``, as for ``speech_backbone``.
        text_tuning: of the text model; ``None`` is ``tuning``.
        freeze_feature_encoder: leave the convolutions that read samples as they are.
        backbone_lr: learning rate of both; ``None`` is ``train.lr`` (Crab: a tenth of it).
        lora_rank, lora_alpha, lora_dropout: of the adapters. lora_targets, text_lora_targets: linear layers that get
            one.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
        wave_normalize: of the samples, as for ``speech_backbone``.
        max_s: only so many seconds of a longer clip are read. max_tokens: only so many tokens of a longer text, markers
            counted, the last of which stay; both in training and answering; ``None`` reads all.
        hidden, heads, dropout, attention_dropout, pooling, neutral_head, gru_layers, layer_dropout, input_dropout,
            attribute_head: of the network on top, see :class:`serkit.models.cross_attention.CrossAttention`.

    Raises:
        SerkitError: features other than these, one without its backbone or the reverse, or a word out of range.
    """

    def __init__(
        self,
        *,
        dims: Mapping[str, int],
        n_classes: int,
        backbone: Backbone | None = None,
        text_backbone: TextBackbone | None = None,
        tuning: Tuning = "full",
        text_tuning: Tuning | None = None,
        freeze_feature_encoder: Annotated[bool, Needs("tuning", "full")] = True,
        backbone_lr: Positive | None = None,
        lora_rank: Size = 8,
        lora_alpha: Size = 16,
        lora_dropout: Rate = 0.0,
        lora_targets: Annotated[Sequence[str], Needs("tuning", "lora")] = ("q_proj", "v_proj"),
        text_lora_targets: Sequence[str] = ("query", "value"),
        gradient_checkpointing: bool = False,
        wave_normalize: WaveNormalize = "checkpoint",
        max_s: Positive | None = None,
        max_tokens: Size | None = None,
        hidden: Size = 512,
        heads: Size | Mapping[str, Size] = 1,
        dropout: Rate = 0.5,
        attention_dropout: Rate | None = None,
        pooling: Pooling = "scaled",
        neutral_head: bool = True,
        gru_layers: Size = 1,
        layer_dropout: Rate = 0.0,
        input_dropout: Rate = 0.0,
        attribute_head: bool = False,
    ) -> None:
        super().__init__()
        self.dims = dict(dims)
        check_known(tuning, get_args(Tuning), f"joint_backbones: no tuning '{tuning}'")
        check_known(
            text_tuning or tuning, get_args(Tuning), f"joint_backbones: no text_tuning '{text_tuning or tuning}'"
        )
        check_known(wave_normalize, get_args(WaveNormalize), f"joint_backbones: no wave_normalize '{wave_normalize}'")
        self.backbone, self.text_backbone = backbone, text_backbone
        self.tuning, self.text_tuning = tuning, text_tuning or tuning
        self.backbone_lr, self.max_s, self.max_tokens = backbone_lr, max_s, max_tokens
        self.reads = {name: self._reader(name) for name in self.dims}
        given = [key for key in _READS if getattr(self, key) is not None]
        if sorted(self.reads.values()) != sorted(given) or set(self.dims.values()) != {1}:
            raise SerkitError(
                "joint_backbones reads one waveform by a backbone, one tokens/NAME by a text_backbone, or both; got "
                f"{', '.join(self.dims)} with {' and '.join(given) or 'neither'}"
            )
        speech = [name for name, key in self.reads.items() if key == "backbone"]
        self.normalisation = FeatureNormalisation(
            dict.fromkeys(speech, 1), "train" if wave_normalize == "train" and speech else "none"
        )
        adapters: dict[str, Any] = {"rank": lora_rank, "alpha": lora_alpha, "dropout": lora_dropout}
        if backbone is not None:
            backbone.normalise = backbone.normalise and wave_normalize == "checkpoint"
            tune(
                backbone, tuning, **adapters, targets=lora_targets, freeze_front=freeze_feature_encoder,
                checkpointing=gradient_checkpointing,
            )  # fmt: skip
        if text_backbone is not None:
            tune(
                text_backbone, self.text_tuning, **adapters, targets=text_lora_targets,
                checkpointing=gradient_checkpointing,
            )  # fmt: skip
        self.head = CrossAttention(
            dims={name: int(getattr(self, key).dim) for name, key in self.reads.items()},
            n_classes=n_classes,
            hidden=hidden,
            heads=heads,
            dropout=dropout,
            attention_dropout=attention_dropout,
            pooling=pooling,
            neutral_head=neutral_head,
            gru_layers=gru_layers,
            layer_dropout=layer_dropout,
            input_dropout=input_dropout,
            attribute_head=attribute_head,
        )
        self.layer_dims, self.embedding_dim = self.head.layer_dims, self.head.embedding_dim

    @staticmethod
    def _reader(name: str) -> str:
        """The backbone that reads a feature: of ``waveform[trim=true]`` the one on waveforms."""
        family = name.partition("[")[0].partition("/")[0]
        return next((key for key, read in _READS.items() if read == family), "")

    @property
    def _tuned(self) -> list[tuple[Trainable, Tuning]]:
        """The backbones that there are, and how each is trained."""
        both = ((self.backbone, self.tuning), (self.text_backbone, self.text_tuning))
        return [(backbone, tuning) for backbone, tuning in both if backbone is not None]

    def set_statistics(self, name: str, mean: Tensor, std: Tensor) -> None:
        """Keep (1,) mean and standard deviation of the training samples (``wave_normalize: train``); not of tokens."""
        if name in self.normalisation.dims:
            self.normalisation.set_statistics(name, mean, std)

    def train(self, mode: bool = True) -> JointBackbones:
        """Training mode, in which a frozen backbone stays without dropout."""
        super().train(mode)
        for backbone, tuning in self._tuned:
            if tuning == "frozen":
                backbone.eval()
        return self

    def forward(self, batch: Batch) -> Outputs:
        """Score a batch.

        Returns:
            Outputs as :meth:`serkit.models.cross_attention.CrossAttention.forward` gives them for the frames of the
            backbones; a clip's are its own, whatever it is padded with.

        Raises:
            SerkitError: a feature is missing.
        """
        frames, lengths = {}, {}
        for name, key in self.reads.items():
            frames[name], lengths[name] = self._speech(batch, name) if key == "backbone" else self._text(batch, name)
        outputs: Outputs = self.head(replace(batch, features=frames, lengths=lengths))
        return outputs

    def _speech(self, batch: Batch, name: str) -> tuple[Tensor, Tensor]:
        samples, mask, lengths = first_seconds(batch, name, self.max_s)
        samples = self.normalisation(name, samples, mask)
        with graph_of(self.tuning):
            states, n_frames = self.backbone.states(samples[:, :, 0], lengths, every=False)  # type: ignore[union-attr]  # it reads this
        return states[0], n_frames

    def _text(self, batch: Batch, name: str) -> tuple[Tensor, Tensor]:
        tokens, _ = batch.frames(name, 1)
        with graph_of(self.text_tuning):
            states, n_frames = self.text_backbone.states(  # type: ignore[union-attr]  # it reads this
                tokens[:, :, 0], batch.lengths[name], every=False, most=self.max_tokens
            )
        return states[0], n_frames

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """Parameters that are trained, by learning rate: the network on top, then each backbone."""
        placed: set[int] = set()
        slower = self.backbone_lr if self.backbone_lr is not None else lr
        groups = [parameter_group(self.head, lr, placed)]
        groups += [parameter_group(backbone, slower, placed) for backbone, _ in self._tuned]
        return [group for group in groups if group["params"]]

    def finish(self) -> None:
        """After training: adapters become part of the weights."""
        for backbone, tuning in self._tuned:
            if tuning == "lora":
                merge_adapters(backbone)
