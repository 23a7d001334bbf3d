"""The base of every pretrained encoder: a spec without loading, one selected layer, results independent of batches."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from serkit import checkpoints, fetching
from serkit.encoding import EncoderSpec, pool_frames
from serkit.errors import SerkitError, check_known, did_you_mean
from serkit.foundation.loading import transformers_package
from serkit.foundation.tiny import tiny_folder

if TYPE_CHECKING:
    from torch import Tensor

Layer = int | str
Precision = Literal["float32", "bf16", "fp16"]
PRECISIONS = ("float32", "bf16", "fp16")
LAYER_WORDS = ("last", "mean_last_4", "all")


class Pretrained:
    """Common ground of the encoders with downloaded weights.

    A subclass names its ``FAMILY`` and ``MODALITY`` and writes :meth:`_load` and :meth:`_encode`.

    Attributes:
        spec: known without loading torch or transformers.
        resolved: where the weights come from on this machine.
        device: where :meth:`load` put the model.
    """

    FAMILY: ClassVar[str]
    MODALITY: ClassVar[Literal["audio", "text"]]
    COMMERCIAL: ClassVar[bool | None] = True  # of the random weights; what is published is in the table
    TRANSFORMERS: ClassVar[bool] = True  # whether the package computes it

    spec: EncoderSpec
    resolved: checkpoints.Resolved
    _model: Any
    device: str = "cpu"

    def _resolved(self, name: str, source: Path | str | None) -> checkpoints.Resolved:
        """Where the weights come from; ``FAMILY/random`` are tiny random ones, made on the spot."""
        if source is None and name == f"{self.FAMILY}/random" and name not in checkpoints.replaced_sources():
            source = tiny_folder(self.FAMILY)
        return checkpoints.resolve(name, source, family=self.FAMILY)

    def _specify(
        self,
        name: str,
        *,
        layer: Layer,
        pool: int,
        dtype: Literal["float16", "float32"],
        precision: Precision,
        window: int = 0,
        hop: int = 0,
        padding: int = 0,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        check_known(precision, PRECISIONS, f"encoder '{name}': precision '{precision}'")
        self._loaded = False
        self._of_load: set[str] = set()
        self.precision = precision
        layer = int(layer) if isinstance(layer, str) and layer.isdecimal() else layer
        n_layers = self.resolved.layers
        self.taken = layers_taken(name, layer, n_layers)
        chosen: dict[str, Any] = dict(params or {})
        if precision != "float32":
            chosen["precision"] = precision
        if layer == "all":
            chosen["n_layers"] = len(self.taken)
        self.spec = EncoderSpec(
            name=name,
            modality=self.MODALITY,
            dim=self.resolved.dim * (len(self.taken) if layer == "all" else 1),
            window=window,
            hop=hop,
            padding=padding,
            layer=layer,
            source=self.resolved.source,
            revision=self.resolved.revision,
            pool=pool,
            dtype=dtype,
            params=chosen,
            licence=self.resolved.licence,
            note=self.resolved.note,
        )

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """Name to one line of description with its licence."""
        known = {row.name: row.line() for row in checkpoints.rows(cls.FAMILY)}
        return known | {f"{cls.FAMILY}/random": "tiny random weights, for toys and tests (Apache-2.0)"}

    def load(self, device: str = "cpu") -> None:
        """Bring weights into memory, fetching them where they are not on this machine; cheap to call again.

        Raises:
            MissingExtra: a package of ``serkit[foundation]`` is not installed.
            SerkitError: no weights, or weights that do not fit the model name by name.
        """
        import torch

        wanted = torch.device(device)
        if self._loaded and self.device == str(wanted):
            return
        if not self._loaded:
            before = set(vars(self))
            self._load(fetching.fetch(self.resolved))
            self._of_load = set(vars(self)) - before
            self._loaded = True
        self.device = str(wanted)
        self._to(wanted, {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.precision])

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._loaded

    def resident_bytes(self, device: str = "cpu") -> int:
        """About what the weights take: on a GPU in ``precision``, on a CPU in float32, through which they come."""
        return self.n_weights * (4 if device == "cpu" or self.precision == "float32" else 2)

    @property
    def n_weights(self) -> int:
        """About how many numbers the model has, from its width and depth (computed).

        12 dim² for each layer, 8 dim² and 5 million for convolutions (of audio; speech models have dim² / 16 times
        128 for the position of a frame), and a row for each piece of the vocabulary, 128 000 where that is not known.
        """
        dim, layers = self.resolved.dim, self.resolved.layers
        if self.MODALITY == "text":
            return 12 * dim**2 * layers + int(self.resolved.config.get("vocab_size") or 128_000) * dim
        return 12 * dim**2 * layers + 8 * dim**2 + 5_000_000

    def fetch(self) -> None:
        """Bring the files of the weights to this machine.

        Raises:
            MissingExtra, SerkitError: as for :meth:`load`, as far as that is known without reading the weights.
        """
        if self.TRANSFORMERS:
            transformers_package(self.spec.name)
        fetching.fetch(self.resolved)

    def unload(self) -> None:
        """Give the memory of the weights back; the next call loads them again."""
        if not self._loaded:
            return
        for name in self._of_load:
            delattr(self, name)
        self._loaded = False
        gc.collect()  # hooks make a model a circle of references
        if self.device != "cpu":
            import torch

            torch.cuda.empty_cache()

    def __call__(self, items: Sequence[Any]) -> list[np.ndarray]:
        """One (frames, dim) float32 array per item, in order; no padding, no influence of neighbours."""
        import torch

        if not self._loaded:
            self.load(self.device)
        checked = [self._checked(item) for item in items]
        if not checked:
            return []
        low = self.precision != "float32"
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=low):
            frames = self._encode(checked)
        return [np.ascontiguousarray(pool_frames(f, self.spec.pool), dtype=np.float32) for f in frames]

    def _checked(self, item: Any) -> Any:
        if self.MODALITY == "text":
            if not isinstance(item, str):
                raise SerkitError(f"encoder '{self.spec.name}': item of type {type(item).__name__}, expected str")
            return item.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # halves of a pair become U+FFFD
        samples = np.asarray(item, dtype=np.float32)
        if samples.ndim != 1:
            raise SerkitError(f"encoder '{self.spec.name}': waveform of shape {samples.shape}, expected (samples,)")
        return samples

    def _combined(self, hidden: Mapping[int, Tensor]) -> Tensor:
        """Hidden states by layer, (batch, time, dim) each, to what the spec asks for, float32 on the CPU."""
        import torch

        states = [hidden[k].float() for k in self.taken]
        if self.spec.layer == "mean_last_4":
            return torch.stack(states).mean(dim=0).cpu()
        return torch.cat(states, dim=-1).cpu()

    def _load(self, folder: Path) -> None:
        raise NotImplementedError

    def _to(self, device: Any, dtype: Any) -> None:
        """Move what :meth:`_load` made; a model of several parts says how."""
        self._model.to(device=device, dtype=dtype)

    def _encode(self, items: list[Any]) -> list[np.ndarray]:
        raise NotImplementedError


def layers_taken(name: str, layer: Layer, n_layers: int) -> tuple[int, ...]:
    """Which hidden states a choice of layer needs: 0 is the input of the first layer, ``n_layers`` the output.

    Args:
        name: encoder, for messages. layer: a number, ``last``, ``mean_last_4`` or ``all``.

    Raises:
        SerkitError: a number out of range, or an unknown word.
    """
    if isinstance(layer, int) and not isinstance(layer, bool):
        if not 0 <= layer <= n_layers:
            raise SerkitError(f"encoder '{name}': layer {layer}, expected 0 (before the first) to {n_layers}")
        return (layer,)
    if layer == "last":
        return (n_layers,)
    if layer == "all":
        return tuple(range(n_layers + 1))
    if layer == "mean_last_4":
        if n_layers < 4:
            raise SerkitError(f"encoder '{name}': mean_last_4 needs 4 layers, the model has {n_layers}")
        return tuple(range(n_layers - 3, n_layers + 1))
    raise SerkitError(f"encoder '{name}': layer '{layer}'" + did_you_mean(str(layer), LAYER_WORDS) + ", or a number")


class LayerTap:
    """Keeps chosen hidden states of a stack of transformer layers while it runs.

    Hidden state ``k`` is the output of layer ``k`` (1 is the first), 0 the input of the first layer;
    the last one is the model's own output, after its final normalisation: what the published features
    took, and what ``hidden_states[-1]`` was in transformers 4 (transformers 5 leaves the norm out of it).
    Layers above the highest one wanted are cut off, so that they cost nothing.

    Args:
        layers: ``nn.ModuleList`` of the stack. wanted: which hidden states.
    """

    def __init__(self, layers: Any, wanted: Iterable[int]) -> None:
        self.n_layers = len(layers)
        self.wanted = sorted(set(wanted))
        self.found: dict[int, Any] = {}
        top = max(self.wanted)
        if top < self.n_layers:
            del layers[max(top, 1) :]
        if 0 in self.wanted:
            layers[0].register_forward_pre_hook(self._keep_input, with_kwargs=True)
        for k in self.wanted:
            if 0 < k < self.n_layers:
                layers[k - 1].register_forward_hook(self._keeper(k))

    def states(self, last: Any) -> dict[int, Any]:
        """Hidden states by number, with ``last`` as the model's output; forgets them."""
        found, self.found = self.found, {}
        if self.n_layers in self.wanted:
            found[self.n_layers] = last
        return found

    def _keep_input(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.found[0] = (args[0] if args else kwargs["hidden_states"]).clone()

    def _keeper(self, k: int) -> Any:
        def keep(_: Any, __: Any, output: Any) -> None:
            self.found[k] = output[0] if isinstance(output, tuple) else output

        return keep
