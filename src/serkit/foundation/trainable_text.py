"""Pretrained text models on padded batches of token ids, to train further: no trace of the padding in the states."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from serkit.foundation.trainable import Trainable


class TextBackbone(Trainable):
    """A text transformer; a text's states are its own, whatever it is padded with.

    In evaluation mode they are those of the encoder of the same name. A text longer than ``window`` is read in windows,
    as :func:`serkit.foundation.pieces.pieces` cuts them: they overlap by ``overlap`` tokens on each side, and every
    token is taken from the window where it has the most context.

    Args:
        model: of transformers. layers, top: its transformer layers, and what follows them. dim: of a state.
        window: tokens that it sees at once, markers counted. overlap: see above.
        prefix, suffix: ids of the markers before and after a text. pad: id that fills a batch.
        tokenizer: content of the ``tokenizer.json`` that made the ids, to be kept with the trained network.
    """

    def __init__(
        self,
        model: Any,
        *,
        layers: Any,
        top: Any,
        dim: int,
        window: int,
        overlap: int,
        prefix: list[int],
        suffix: list[int],
        pad: int,
        tokenizer: bytes = b"",
    ) -> None:
        super().__init__(model, front=(), layers=layers, top=top, dim=dim)
        self.room, self.pad, self.tokenizer = window - len(prefix) - len(suffix), pad, tokenizer
        self.context = min(overlap, (self.room - 1) // 2)
        self.prefix, self.suffix = list(prefix), list(suffix)

    def states(
        self, tokens: Tensor, lengths: Tensor, *, every: bool = True, most: int | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Hidden states of some texts: what enters the first layer, then what each layer gives.

        Args:
            tokens: (batch, time) ids of the encoder ``tokens``, anything in the padding. lengths: (batch,) int64.
            every: or else the last one alone.
            most: of a longer text only so many tokens are read, markers counted.

        Returns:
            (batch, time, dim) each, and (batch,) int64 numbers of real tokens.
        """
        before, after = len(self.prefix), len(self.suffix)
        n = (lengths - before - after).clamp(min=0)  # tokens without markers
        if most is not None:
            n = n.clamp(max=max(1, most - before - after))
        rows = self._marked(tokens.round().long(), before + n)
        count = torch.where(n <= self.room, 1, -(-n // (self.room - 2 * self.context)))
        windows = int(count.max())
        k = torch.arange(windows, device=n.device)[None, :].clamp(max=count[:, None] - 1)
        start, end = self._seen(n[:, None], count[:, None], k)
        place = torch.arange(before + int((end - start).max()) + after, device=n.device)
        seen = (end - start)[:, :, None]  # of each window, tokens without markers
        beside = torch.where(place < before + seen, start[:, :, None], n[:, None, None] - seen)
        at = place + torch.where(place < before, 0, beside)
        real = place < before + seen + after
        ids = rows[:, None].expand(-1, windows, -1).gather(2, at.clamp(max=rows.shape[1] - 1))
        found = self._windows(ids.masked_fill(~real, self.pad).flatten(0, 1), real.flatten(0, 1), every)
        n_frames = torch.where(n > 0, before + n + after, 1)
        if windows == 1:
            return [state[:, : int(n_frames.max())] for state in found], n_frames
        place = torch.arange(int(n_frames.max()), device=n.device)[None, :]
        token = (place - before).clamp(min=0).minimum((n[:, None] - 1).clamp(min=0))
        k = torch.div(token * count[:, None], n[:, None].clamp(min=1), rounding_mode="floor")
        start, _ = self._seen(n[:, None], count[:, None], k)
        at = k * ids.shape[2] + torch.where(place < before, place, place - start).clamp(max=ids.shape[2] - 1)
        at = at[:, :, None].expand(-1, -1, self.dim)
        return [state.reshape(len(n), -1, self.dim).gather(1, at) for state in found], n_frames

    def _seen(self, n: Tensor, count: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """First and last token (without markers) that window ``k`` of ``count`` sees of a text of ``n`` tokens."""
        first, last = -(-n * k // count), -(-n * (k + 1) // count)
        return (first - self.context).clamp(min=0), (last + self.context).minimum(n)

    def _marked(self, ids: Tensor, ends: Tensor) -> Tensor:
        """(batch, time) ids, longer by their markers: those before a text first, the others from (batch,) ends on."""
        ids = torch.nn.functional.pad(ids, (0, len(self.prefix) + len(self.suffix)))
        ids[:, : len(self.prefix)] = torch.tensor(self.prefix, device=ids.device)
        for k, marker in enumerate(self.suffix):
            ids = ids.scatter(1, (ends + k)[:, None], marker)
        return ids

    def _windows(self, ids: Tensor, real: Tensor, every: bool) -> list[Tensor]:
        found = self.model(input_ids=ids, attention_mask=real.long(), output_hidden_states=every)
        return [*(found.hidden_states[:-1] if every else ()), found.last_hidden_state]
