"""serkit's network with the weights of a class that is its author's own."""

from __future__ import annotations

from typing import cast

from serkit.foundation.odyssey import STD_MORE, LoadedOdyssey
from serkit.foundation.trainable import WaveBackbone, WhisperBackbone
from serkit.foundation.vox_profile import LoadedVoxProfile
from serkit.foundation.whisper import mel_filters
from serkit.models._flam_head import FramePool
from serkit.models.speech_backbone import SpeechBackbone
from serkit.pipeline.inputs import WAVEFORM

Authored = LoadedOdyssey | LoadedVoxProfile


def network_of(loaded: Authored, n_classes: int) -> SpeechBackbone:
    """serkit's network that computes the same, in evaluation mode; the model's own modules become part of it."""
    import torch

    with torch.no_grad():
        network = _odyssey(loaded, n_classes) if isinstance(loaded, LoadedOdyssey) else _vox_profile(loaded, n_classes)
    return network.eval()


def _odyssey(loaded: LoadedOdyssey, n_classes: int) -> SpeechBackbone:
    import torch
    from torch import nn

    network = SpeechBackbone(
        dims={WAVEFORM: 1}, n_classes=n_classes, backbone=WaveBackbone(loaded.model, normalise=False), tuning="frozen",
        wave_normalize="train", pooling="attentive_statistics",
    )  # fmt: skip
    network.set_statistics(WAVEFORM, torch.tensor([loaded.config.mean]), torch.tensor([loaded.config.std + STD_MORE]))
    pool, head = cast(FramePool, network.head.pool), loaded.head
    first, last = (part for part in cast(nn.Module, pool.score).children() if isinstance(part, nn.Linear))
    first.load_state_dict(head.sap_linear.state_dict())
    last.weight.copy_(head.attention.T)
    pool.least_variance = True
    network.head.emotion = nn.Sequential(*(part for layer in head.fc for part in cast(nn.Sequential, layer)), *head.out)
    return network


def _vox_profile(loaded: LoadedVoxProfile, n_classes: int) -> SpeechBackbone:
    import torch
    from torch import Tensor, nn

    backbone: WaveBackbone | WhisperBackbone
    if loaded.sums is None:
        config = loaded.model.config
        filters = mel_filters(loaded.architecture, int(config.num_mel_bins))
        backbone = WhisperBackbone(
            loaded.model, normalise=False, filters=filters, frames=int(config.max_source_positions), begun=False
        )
    else:
        backbone = WaveBackbone(loaded.model, normalise=True)
    network = SpeechBackbone(
        dims={WAVEFORM: 1}, n_classes=n_classes, backbone=backbone, tuning="frozen",
        states="last" if loaded.sums is None else "weighted", frame_layers=3, frame_width=loaded.config.hidden_dim,
    )  # fmt: skip
    if network.layer_weights is not None and loaded.sums is not None:
        n_out = network.layer_weights.n_layers - len(loaded.sums)  # states that are no part of the sum
        network.layer_weights.logits.copy_(torch.cat([torch.full((n_out,), -torch.inf), loaded.sums]))
    placed = [part for part in cast(nn.Sequential, network.frame_layers) if isinstance(part, nn.Linear)]
    convolutions = [part for part in loaded.frames if isinstance(part, nn.Conv1d)]
    for part, convolution in zip(placed, convolutions, strict=True):
        part.weight.copy_(convolution.weight[:, :, 0])
        part.bias.copy_(cast(Tensor, convolution.bias))
    network.head.emotion = loaded.emotion
    return network
