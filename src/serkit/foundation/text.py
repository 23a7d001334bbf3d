"""Text encoders: token states of a transformer, without a trace of padding, long texts in windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from serkit.checkpoints import FAMILY_OF_TYPE
from serkit.errors import SerkitError, check_known
from serkit.foundation.base import Layer, Precision, Pretrained
from serkit.foundation.loading import config_of, load_model, quiet, tokenizer_of, transformers_package
from serkit.foundation.pieces import Window, encoded, pieces
from serkit.foundation.tokenizing import longest_window, markers

Special = Literal["keep", "drop"]
SPECIALS = ("keep", "drop")
HEADS = (
    "lm_head.", "cls.", "lm_predictions.", "mask_predictions.", "head.", "decoder.", "pooler.", "classifier.",
    "qa_outputs.",
)  # fmt: skip
WITHOUT_POOLER = ("roberta", "xlm-roberta", "camembert", "bert")


def load_text_model(name: str, folder: Path, kind: str, **changes: Any) -> Any:
    """The transformer of a text model's folder, without any head, every weight accounted for.

    Args:
        kind: its ``model_type``. changes: of its configuration.

    Raises:
        SerkitError: as for :func:`serkit.foundation.loading.load_model`.
    """
    prefix = "deberta" if kind.startswith("deberta") else kind
    heads = (*HEADS, f"{prefix}.pooler.", "bert.pooler.", "roberta.pooler.")
    without: dict[str, Any] = {"add_pooling_layer": False} if kind in WITHOUT_POOLER else {}
    build = transformers_package(name).AutoModel
    return load_model(name, build, folder, ignored=heads, **without, **changes)


class TextEncoder(Pretrained):
    """Texts to one state per token.

    A text is never cut: one longer than ``max_tokens`` is read in windows that overlap by ``overlap`` tokens
    on each side, and every token is taken from the window where it has the most context. An empty text is
    one frame, the state of the first special token.

    Args:
        name: ``FAMILY/…``, or ``hub:ORG/MODEL`` or ``path:DIR`` of the family's architecture (a
            sentence-transformer-shaped folder too).
        layer: hidden state: a number (0 is what enters the first layer), ``last``, ``mean_last_4``, or ``all``
            side by side, (tokens, layers x dim), with ``n_layers`` in the spec's parameters.
        special_tokens: ``keep`` the states of the markers at both ends (as published), or ``drop`` them.
        max_tokens: longest window, markers counted; never more than the model's own limit.
        overlap: tokens that a window sees beyond those it gives, on each side, where a text needs several.
        pad_to: cut or pad every text to so many tokens and keep the states of the padding, as the released code
            of Ueda et al. 2025 does with 80; ``None``: texts as long as they are.
        pool: frames averaged into one. dtype: how features are stored.
        source: a local folder in the hub's layout that replaces the source.
        precision: arithmetic of the model: ``float32``, ``bf16`` or ``fp16``.
        batch_tokens: tokens computed together, padding counted; does not change the numbers.

    Raises:
        SerkitError: an unknown name or choice.
    """

    MODALITY: ClassVar[Literal["audio", "text"]] = "text"

    def __init__(
        self,
        name: str,
        *,
        layer: Layer = "last",
        special_tokens: Special = "keep",
        max_tokens: int = 512,
        overlap: int = 64,
        pad_to: int | None = None,
        pool: int = 1,
        dtype: Literal["float16", "float32"] = "float16",
        source: Path | str | None = None,
        precision: Precision = "float32",
        batch_tokens: int | None = None,
    ) -> None:
        check_known(special_tokens, SPECIALS, f"encoder '{name}': special_tokens '{special_tokens}'")
        if not (max_tokens >= 8 and 0 <= overlap < max_tokens // 2):
            raise SerkitError(
                f"encoder '{name}': max_tokens {max_tokens}, overlap {overlap}; expected at least 8, and less than half"
            )
        if pad_to is not None and pad_to < 8:
            raise SerkitError(f"encoder '{name}': pad_to {pad_to}; expected at least 8 tokens, or nothing")
        self.resolved = self._resolved(name, source)
        self.batch_tokens = batch_tokens
        self._pad_to = pad_to
        self._keep_special, self._max_tokens, self._overlap = special_tokens == "keep", max_tokens, overlap
        self._specify(
            name, layer=layer, pool=pool, dtype=dtype, precision=precision,
            params={
                "special_tokens": special_tokens, "max_tokens": int(max_tokens), "overlap": int(overlap),
                **({} if pad_to is None else {"pad_to": int(pad_to)}),
            },
        )  # fmt: skip

    @classmethod
    def tiny(cls) -> Self:
        """Small random weights of the real class, saved and loaded like a download."""
        return cls(f"{cls.FAMILY}/random")

    def _load(self, folder: Path) -> None:
        name = self.spec.name
        config = config_of(name, folder)
        self._tokenizer: Any = tokenizer_of(name, folder)
        if FAMILY_OF_TYPE.get(config.model_type) != self.FAMILY:
            raise SerkitError(f"encoder '{name}': {folder} holds a '{config.model_type}' model, expected {self.FAMILY}")
        self._model: Any = load_text_model(name, folder, config.model_type)
        if (config.hidden_size, config.num_hidden_layers) != (self.resolved.dim, self.resolved.layers):
            raise SerkitError(
                f"encoder '{name}': weights with dim {config.hidden_size} and {config.num_hidden_layers} layers, "
                f"expected {self.resolved.dim} and {self.resolved.layers}"
            )
        inner, outer = (self._tokenizer("a", **how)["input_ids"] for how in ({"add_special_tokens": False}, {}))
        self._prefix, self._suffix = markers(name, inner, outer)
        limit = longest_window(config, self._tokenizer, self._max_tokens)
        self._room = limit - len(self._prefix) - len(self._suffix)
        if self._room < 1:
            raise SerkitError(f"encoder '{name}': no room for a token among {limit} positions")

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text without special tokens; ``<s>`` in a transcript is four characters, not a marker."""
        if not self._loaded:
            self.load(self.device)
        with quiet():
            ids = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True, truncation=False)[
                "input_ids"
            ]
        return [int(i) for i in ids]

    def _padded(self, items: list[str], length: int) -> list[np.ndarray]:
        """Every text cut or padded to ``length`` tokens, with the states of the padding (code of Ueda et al. 2025)."""
        room = length - len(self._prefix) - len(self._suffix)
        rows = [[*self._prefix, *self.tokens(text)[:room], *self._suffix] for text in items]
        return [frames for row in rows for frames in self._batch([row], length)]

    def _encode(self, items: list[str]) -> list[np.ndarray]:
        if self._pad_to is not None:
            return self._padded(items, self._pad_to)
        windows: list[Window[list[int]]] = []
        first, last = len(self._prefix), len(self._suffix)
        for index, text in enumerate(items):
            ids = self.tokens(text)
            cut = pieces(len(ids), self._room, self._overlap)
            for k, piece in enumerate(cut):
                kept = slice(first + piece.kept.start, first + piece.kept.stop)
                if not ids:
                    kept = slice(0, 1)
                elif self._keep_special:
                    kept = slice(0 if k == 0 else kept.start, kept.stop + (last if k == len(cut) - 1 else 0))
                seen = [*self._prefix, *ids[piece.start : piece.end], *self._suffix]
                windows.append(Window(index, seen, kept))
        return encoded(windows, self._batch, self.batch_tokens or (4_096 if self.device == "cpu" else 65_536))

    def _batch(self, rows: list[list[int]], length: int | None = None) -> list[np.ndarray]:
        """Token ids of each window to (tokens, dim) each, padded together; the padding is masked.

        With ``length`` the rows are padded to it, and the states of the padding are part of the result.
        """
        import torch

        longest = length or max(len(r) for r in rows)
        pad = int(self._tokenizer.pad_token_id or 0)
        ids = torch.tensor([r + [pad] * (longest - len(r)) for r in rows], device=self.device)
        there = int(self._model.get_input_embeddings().num_embeddings)
        if int(ids.max()) >= there:
            raise SerkitError(
                f"encoder '{self.spec.name}': its tokenizer gives token {int(ids.max())} and its weights have {there} "
                "tokens: they are of different models"
            )
        mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows], device=self.device)
        output = self._model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        states = dict(enumerate(output.hidden_states))
        states[self.resolved.layers] = output.last_hidden_state
        combined = self._combined(states).numpy()
        return [combined[k, : length or len(r)] for k, r in enumerate(rows)]
