"""The reference loops over anchors, positives and contrasts one pair at a time."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from serkit.errors import SerkitError
from serkit.losses.supcon import supcon
from serkit.tensors import Batch, Outputs, length_mask


def batch_of(labels: list[int], targets: torch.Tensor | None = None) -> Batch:
    return Batch(tuple(str(k) for k in range(len(labels))), {}, {}, torch.tensor(labels), targets=targets)


def outputs_of(embedding: torch.Tensor) -> Outputs:
    return Outputs(torch.zeros(len(embedding), 3), embedding=embedding)


def framed(frames: torch.Tensor, lengths: list[int]) -> Outputs:
    mask = length_mask(torch.tensor(lengths), frames.shape[1])
    return Outputs(torch.zeros(len(frames), 3), frames=frames, frames_mask=mask)


def reference(
    vectors: list[torch.Tensor], agree: list[list[float]], temperature: float, clips: list[int] | None = None
) -> torch.Tensor:
    unit = [v / v.norm() for v in vectors]
    terms = []
    for a in range(len(unit)):
        others = [j for j in range(len(unit)) if j != a and (clips is None or clips[j] != clips[a])]
        positives = [p for p in others if agree[a][p] > 0]
        if not positives:
            continue
        below = sum(torch.exp(unit[a] @ unit[j] / temperature) for j in others)
        each = [agree[a][p] * torch.log(torch.exp(unit[a] @ unit[p] / temperature) / below) for p in positives]
        terms.append(-sum(each) / sum(agree[a][p] for p in positives))
    return sum(terms) / len(terms)  # type: ignore[return-value]


def agreement(labels: list[int]) -> list[list[float]]:
    return [[float(a == b) for b in labels] for a in labels]


def compare(value: torch.Tensor, expected: torch.Tensor, leaf: torch.Tensor) -> None:
    assert value.item() == pytest.approx(expected.item(), abs=1e-6)
    ours, theirs = (torch.autograd.grad(v, leaf, retain_graph=True)[0] for v in (value, expected))
    assert torch.allclose(ours, theirs, atol=1e-6)


def drawn(*shape: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_utterances_agree_with_the_reference(temperature: float) -> None:
    x, labels = drawn(6, 5), [0, 1, 0, 2, 1, 0]  # class 2 has one clip: no positive, but a contrast
    value = supcon(outputs_of(x), batch_of(labels), level="utterance", temperature=temperature)
    compare(value, reference(list(x), agreement(labels), temperature), x)


def test_frames_agree_with_the_reference_after_context_broadcasting() -> None:
    x, labels, lengths = drawn(3, 4, 5), [0, 1, 0], [4, 2, 3]
    vectors, clips = [], []
    for k, n in enumerate(lengths):
        mean = sum(x[k, t] for t in range(n)) / n
        for t in range(n):
            vectors.append((x[k, t] + mean) / 2)
            clips.append(k)
    agree = agreement([labels[k] for k in clips])
    compare(supcon(framed(x, lengths), batch_of(labels)), reference(vectors, agree, 0.07), x)
    apart = supcon(framed(x, lengths), batch_of(labels), within_clip=False)
    agree = [[v * (clips[a] != clips[b]) for b, v in enumerate(row)] for a, row in enumerate(agree)]
    compare(apart, reference(vectors, agree, 0.07, clips), x)


def test_frames_as_they_are_without_broadcasting() -> None:
    x, labels = drawn(2, 3, 5), [0, 0]
    value = supcon(framed(x, [3, 1]), batch_of(labels), context_broadcasting=False)
    compare(value, reference([x[0, 0], x[0, 1], x[0, 2], x[1, 0]], agreement([0] * 4), 0.07), x)


def test_anchors_are_spread_evenly_over_the_real_frames() -> None:
    x = drawn(2, 12, 5)
    value = supcon(framed(x, [12, 5]), batch_of([0, 1]), context_broadcasting=False, max_frames=3)
    picked = [x[0, 2], x[0, 6], x[0, 10], x[1, 0], x[1, 2], x[1, 4]]
    compare(value, reference(picked, agreement([0, 0, 0, 1, 1, 1]), 0.07), x)
    everything = supcon(framed(x, [12, 5]), batch_of([0, 1]), max_frames=0)
    assert everything.item() == pytest.approx(supcon(framed(x, [12, 5]), batch_of([0, 1]), max_frames=99).item())


def test_padding_and_its_content_change_nothing() -> None:
    x = drawn(3, 4, 5).detach()
    longer = torch.cat([x, torch.full((3, 6, 5), 99.0, dtype=torch.float64)], dim=1)
    short, long = (supcon(framed(f, [4, 2, 3]), batch_of([0, 1, 0]), max_frames=2).item() for f in (x, longer))
    assert short == pytest.approx(long, abs=1e-9)


def test_order_of_the_batch_changes_nothing() -> None:
    x, order = drawn(3, 4, 5).detach(), [2, 0, 1]
    lengths, labels = [4, 2, 3], [0, 1, 0]
    turned = supcon(framed(x[order], [lengths[k] for k in order]), batch_of([labels[k] for k in order]))
    assert turned.item() == pytest.approx(supcon(framed(x, lengths), batch_of(labels)).item(), abs=1e-9)


TARGETS = torch.tensor([[1, 0, 0], [0.7, 0.3, 0], [0.5, 0.5, 0], [0.2, 0.8, 0], [0, 1, 0]], dtype=torch.float64)


def test_mixed_labels_count_as_their_dominant_class_and_ties_are_left_out() -> None:
    x = drawn(5, 4)
    value = supcon(outputs_of(x), batch_of([-1] * 5, TARGETS), level="utterance")
    compare(value, reference([x[0], x[1], x[3], x[4]], agreement([0, 0, 1, 1]), 0.07), x)


def test_mixed_labels_can_agree_in_part_or_be_skipped() -> None:
    x = drawn(5, 4)
    value = supcon(outputs_of(x), batch_of([-1] * 5, TARGETS), level="utterance", mixed="soft")
    compare(value, reference(list(x), (TARGETS @ TARGETS.T).tolist(), 0.07), x)
    more = torch.cat([TARGETS, TARGETS[:1]])
    y = drawn(6, 4)
    skipped = supcon(outputs_of(y), batch_of([-1] * 6, more), level="utterance", mixed="skip")
    compare(skipped, reference([y[0], y[4], y[5]], agreement([0, 1, 0]), 0.07), y)


def test_rows_without_label_are_neither_anchors_nor_contrasts() -> None:
    x = drawn(5, 4)
    value = supcon(outputs_of(x), batch_of([0, -1, 0, 1, -1]), level="utterance")
    compare(value, reference([x[0], x[2], x[3]], agreement([0, 0, 1]), 0.07), x)


@pytest.mark.parametrize("labels", [[0, 1, 2], [-1, -1, -1], [-1, 0, -1]])
def test_no_pair_is_zero_with_a_graph(labels: list[int]) -> None:
    x = drawn(3, 4)
    value = supcon(outputs_of(x), batch_of(labels), level="utterance")
    assert value.item() == 0
    assert not torch.autograd.grad(value, x)[0].any()


def test_alike_clips_of_one_class_cost_least() -> None:
    near = torch.tensor([[1.0, 0], [1, 0.01], [0, 1], [0.01, 1]])
    right = supcon(outputs_of(near), batch_of([0, 0, 1, 1]), level="utterance").item()
    wrong = supcon(outputs_of(near), batch_of([0, 1, 0, 1]), level="utterance").item()
    assert right < 1e-3 < 5 < wrong
    assert math.isfinite(wrong)


def test_misuse_is_refused() -> None:
    outputs = outputs_of(torch.zeros(2, 3))
    with pytest.raises(SerkitError, match="set level: utterance"):
        supcon(outputs, batch_of([0, 0]))
    with pytest.raises(SerkitError, match="embedding"):
        supcon(dataclasses.replace(outputs, embedding=None), batch_of([0, 0]), level="utterance")
    with pytest.raises(SerkitError, match="did you mean 'frame'"):
        supcon(outputs, batch_of([0, 0]), level="frames")  # type: ignore[arg-type]
    with pytest.raises(SerkitError, match="temperature"):
        supcon(outputs, batch_of([0, 0]), temperature=0)
