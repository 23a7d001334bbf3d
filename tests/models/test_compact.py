from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from serkit.errors import SerkitError
from serkit.models.compact import Compact
from serkit.tensors import Batch, pad_sequences

STEMS = ["time", "time_frequency"]


def batch_of(clips: list[torch.Tensor], extra: int = 0) -> Batch:
    padded, lengths = pad_sequences(clips)
    padded = F.pad(padded, (0, 0, 0, extra))
    return Batch(
        tuple(map(str, range(len(clips)))), {"logmel": padded}, {"logmel": lengths}, torch.zeros(len(clips)).long()
    )


def drawn(*lengths: int, dim: int = 24) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, dim, generator=generator) for n in lengths]


def made(stem: str, **options: object) -> Compact:
    torch.manual_seed(0)
    options = {"channels": 32, "dropout": 0.0, **options}
    return Compact(dims={"logmel": 24}, n_classes=3, stem=stem, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("stem", STEMS)
def test_frames_are_a_quarter_rounded_up(stem: str) -> None:
    lengths = [1, 2, 4, 5, 8, 9, 33]
    outputs = made(stem)(batch_of(drawn(*lengths)))
    assert outputs.frames_mask.sum(dim=1).tolist() == [1, 1, 1, 2, 2, 3, 9]
    assert outputs.frames.shape == (7, 9, 32)
    assert outputs.embedding.shape == (7, 64)
    assert not outputs.frames[~outputs.frames_mask].any()


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("normalize", ["none", "utterance"])
def test_a_clip_is_alone_in_its_batch_in_training_too(stem: str, normalize: str) -> None:
    network, clips = made(stem, normalize=normalize).train(), drawn(40, 7, 22)
    together = network(batch_of(clips, extra=13))
    for row, clip in enumerate(clips):
        alone = network(batch_of([clip]))
        assert torch.allclose(alone.emotion[0], together.emotion[row], atol=1e-5)
        n = int(alone.frames_mask.sum())
        assert torch.allclose(alone.frames[0, :n], together.frames[row, :n], atol=1e-5)


def test_convolutions_agree_with_pytorch_on_a_single_clip() -> None:
    network = made("time", heads=0, n_blocks=1, normalize="none")
    (clip,) = drawn(21)
    x = clip[None]
    stem = network.stems[0]
    for layer in (stem.first, stem.second):
        y = F.conv1d(x.transpose(1, 2), layer.conv.weight, layer.conv.bias, stride=2, padding=2).transpose(1, 2)
        x = F.gelu(F.layer_norm(y, (32,), layer.norm.weight, layer.norm.bias))
    block = network.blocks[0][0]
    y = F.conv1d(x.transpose(1, 2), block.conv.weight, block.conv.bias, padding=2).transpose(1, 2)
    x = x + F.gelu(F.layer_norm(y, (32,), block.norm.weight, block.norm.bias))
    assert torch.allclose(network(batch_of([clip])).frames, x, atol=1e-5)


@pytest.mark.parametrize("stem", STEMS)
def test_learns_a_toy_task_from_nothing(stem: str) -> None:
    """Three classes: a band that is louder in the middle of the clip, at another place for each."""
    network = made(stem)
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(24) % 3
    clips = []
    for label in labels.tolist():
        clip = torch.randn(int(torch.randint(20, 40, (1,), generator=generator)), 24, generator=generator)
        clip[5:12, 8 * label : 8 * label + 4] += 2.0
        clips.append(clip)
    batch = batch_of(clips)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(30):
        optimiser.zero_grad()
        loss = F.cross_entropy(network(batch).emotion, labels)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.3
    assert (network.eval()(batch).emotion.argmax(dim=1) == labels).float().mean() > 0.9


def test_loudness_is_kept_under_train_statistics_and_lost_by_utterance() -> None:
    (clip,) = drawn(30)
    louder = clip + 3.0  # a gain is an offset of log-mel
    kept = made("time", normalize="train").eval()
    kept.set_statistics("logmel", torch.zeros(24), torch.ones(24))
    lost = made("time", normalize="utterance").eval()
    assert not torch.allclose(kept(batch_of([clip])).emotion, kept(batch_of([louder])).emotion, atol=1e-3)
    assert torch.allclose(lost(batch_of([clip])).emotion, lost(batch_of([louder])).emotion, atol=1e-4)


def test_misuse_is_refused() -> None:
    with pytest.raises(SerkitError, match="did you mean 'time'"):
        made("tim")
    with pytest.raises(SerkitError, match="must be odd"):
        made("time", kernel=4)
    with pytest.raises(SerkitError, match="heads 16 does not divide"):
        made("time", channels=40)
    with pytest.raises(SerkitError, match="got 5"):
        made("time")(batch_of(drawn(9, dim=5)))
