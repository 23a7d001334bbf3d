"""Supervised contrastive loss, on frames or on whole clips."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor

from serkit.errors import SerkitError, did_you_mean
from serkit.losses._contrast import contrast
from serkit.losses._targets import Mixed, not_half, settle_mixed, target_rows
from serkit.parameters import Needs, Positive, Whole
from serkit.tensors import Batch, Outputs


def supcon(
    outputs: Outputs,
    batch: Batch,
    *,
    temperature: Positive = 0.07,
    level: Literal["frame", "utterance"] = "frame",
    context_broadcasting: Annotated[bool, Needs("level", "frame")] = True,
    max_frames: Annotated[Whole, Needs("level", "frame")] = 32,
    within_clip: Annotated[bool, Needs("level", "frame")] = True,
    mixed: Mixed = "dominant",
) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, L_out) with weighted positives.

    For each anchor ``a`` of unit length, ``−Σ_p m_ap log softmax_{j≠a}(z_a·z_j / τ)_p / Σ_p m_ap``; the mean over
    anchors that have a positive. ``m_ap`` is the agreement of the two labels, ``Σ_c t_ac t_pc``: 1 or 0 for plain
    labels. On frames (Wang et al. 2026, arXiv 2512.04551) each frame is first averaged with the mean of its clip,
    ``x_t ← (x_t + mean x)/2`` (context broadcasting, Hyeon-Woo et al., remembered). How frames become anchors,
    the temperature and the part of mixed labels are unknown in the paper: they are parameters.

    Args:
        outputs: ``frames`` (batch, time, dim) with ``frames_mask``, or ``embedding`` (batch, dim).
        batch: labels or ``targets``; rows with neither are neither anchors nor contrasts.
        temperature: τ (a proposal: 0.07, Khosla's). level: what is contrasted.
        context_broadcasting: frames only. max_frames: anchors per clip, spread evenly over its frames; 0 takes all.
        within_clip: frames of one clip contrast with each other too.
        mixed: ``dominant`` (a proposal; a tie is left out), ``soft`` (labels agree in part), ``skip``.

    Returns:
        Scalar; 0 where no anchor has a positive.

    Raises:
        SerkitError: the network gives no frames or no embedding, or a parameter is out of range.
    """
    if temperature <= 0 or max_frames < 0:
        raise SerkitError(
            f"supcon: temperature {temperature} must be more than 0 and max_frames {max_frames} at least 0"
        )
    clips = torch.arange(len(batch), device=outputs.emotion.device)
    if level == "utterance":
        if outputs.embedding is None:
            raise SerkitError("the loss 'supcon' at utterance level needs a network with an embedding")
        vectors = outputs.embedding
    elif level == "frame":
        if outputs.frames is None or outputs.frames_mask is None:
            raise SerkitError("the loss 'supcon' at frame level needs a network with frames; or set level: utterance")
        vectors, clips = _anchors(outputs.frames, outputs.frames_mask, context_broadcasting, max_frames)
    else:
        raise SerkitError(f"supcon: no level '{level}'" + did_you_mean(level, ("frame", "utterance")))
    vectors = not_half(vectors)
    targets, known = target_rows(batch, outputs.emotion.shape[1], vectors)
    targets, known = settle_mixed(targets, known, mixed)
    kept = known[clips]
    vectors, clips = vectors[kept], clips[kept]
    items = torch.arange(len(vectors), device=vectors.device) if within_clip else clips
    return contrast(vectors, targets[clips], items, temperature)


def _anchors(frames: Tensor, mask: Tensor, broadcast: bool, max_frames: int) -> tuple[Tensor, Tensor]:
    """(anchors, dim) frames, evenly chosen among the real ones of each clip, and (anchors,) their clip."""
    lengths = mask.sum(dim=1)
    if broadcast:
        mean = (frames * mask[:, :, None]).sum(dim=1) / lengths.clamp(min=1)[:, None]
        frames = 0.5 * (frames + mean[:, None, :])
    widest = int(lengths.max()) if max_frames == 0 else min(int(lengths.max()), max_frames)
    chosen = lengths.clamp(max=widest)
    step = torch.arange(widest, device=mask.device)[None, :]
    rank = torch.div((2 * step + 1) * lengths[:, None], 2 * chosen.clamp(min=1)[:, None], rounding_mode="floor")
    order = torch.argsort((~mask).to(torch.int8), dim=1, stable=True)  # real frames first, in their order
    position = order.gather(1, rank.clamp(max=mask.shape[1] - 1))
    real = step < chosen[:, None]
    picked = frames.gather(1, position[:, :, None].expand(-1, -1, frames.shape[2]))
    clips = torch.arange(len(mask), device=mask.device)[:, None].expand_as(real)
    return picked[real], clips[real]
