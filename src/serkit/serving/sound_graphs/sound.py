"""A clip in a graph, and what serkit's encoders make of it: the numbers that the networks were trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from serkit.encoders._offline import LARGE, OfflineEncoder
from serkit.encoders.functionals import BANDS, Functionals
from serkit.encoders.logmel import Logmel
from serkit.encoders.mfcc import Mfcc
from serkit.encoders.silero import Silero
from serkit.encoders.voice import Voice
from serkit.encoders.waveform import Waveform
from serkit.encoding import Encoder
from serkit.errors import SerkitError
from serkit.serving.graphs import Graph
from serkit.serving.sound_graphs import bands, clip, detector
from serkit.serving.sound_graphs.functionals import functionals
from serkit.serving.sound_graphs.periods import perturbation
from serkit.serving.sound_graphs.pitch import track
from serkit.serving.sound_graphs.pooling import pooled
from serkit.serving.sound_graphs.signals import at_least
from serkit.serving.sound_graphs.voice import voice


class Sound:
    """The samples of one clip. What several encoders need is in the graph once.

    Args:
        graph: to add to. samples: name of (samples,) float32 mono 16 kHz in [-1, 1], at least one.
    """

    def __init__(self, graph: Graph, samples: str) -> None:
        self._graph, self._samples = graph, clip.without_offset(graph, samples)
        self._made: dict[tuple[Any, ...], Any] = {}

    def features(self, name: str, encoder: Encoder) -> str:
        """(frames, dim) float32 of an encoder, rounded as the store keeps them.

        An encoder that serkit does not know may have a method ``write_onnx(graph, samples)``: ``samples`` names
        (samples,) float32, and it returns the name of (frames, dim) float32, what calling it gives.

        Args:
            name: of the encoder, for messages.

        Raises:
            SerkitError: it has no ONNX form.
        """
        graph, own = self._graph, getattr(encoder, "write_onnx", None)
        if callable(own):
            found = str(own(graph, self._samples))
        elif isinstance(encoder, OfflineEncoder) and type(encoder) in _FORMS:
            found = self._described(encoder)
        else:
            known = ", ".join(sorted(form.__name__.lower() for form in _FORMS))
            raise SerkitError(
                f"no ONNX form of the encoder '{name}'; those of {known} have one, and an encoder of your own that has "
                "a method write_onnx(graph, samples)"
            )
        return graph.cast(graph.cast(found, np.float16), np.float32) if encoder.spec.dtype == "float16" else found

    def _described(self, encoder: Any) -> str:
        """As ``OfflineEncoder._one``."""
        graph, spec = self._graph, encoder.spec
        trim: Mapping[str, float] = spec.params.get("trim") or {}
        whole = self._once(("trim", *sorted(trim.items())), lambda: self._prepared(trim))
        samples = self._once((whole, encoder.WINDOW), lambda: at_least(graph, whole, encoder.WINDOW))
        frames = _FORMS[type(encoder)](self, samples, encoder)
        if spec.pool > 1 or encoder.pooling != "mean":
            frames = pooled(graph, frames, spec.pool, spread=encoder.pooling == "mean+std")
        if encoder.DTYPE == "float16":
            frames = graph("Clip", frames, graph.constant(-LARGE), graph.constant(LARGE))
        return frames

    def _prepared(self, trim: Mapping[str, float]) -> str:
        return clip.trimmed(self._graph, self._samples, **trim) if trim else self._samples

    def _once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _waveform(self, samples: str, encoder: Waveform) -> str:
        return self._graph.unsqueeze(samples, 1)

    def _logmel(self, samples: str, encoder: Logmel) -> str:
        return self._bands(samples, encoder.n_bands)

    def _bands(self, samples: str, n_bands: int) -> str:
        frames, power = self._spectra(samples)
        return str(self._once((samples, "logmel", n_bands), lambda: bands.logmel(self._graph, frames, power, n_bands)))

    def _mfcc(self, samples: str, encoder: Mfcc) -> str:
        return bands.mfcc(self._graph, self._spectra(samples)[1], encoder)

    def _spectra(self, samples: str) -> tuple[str, str]:
        found: tuple[str, str] = self._once((samples, "spectra"), lambda: bands.spectra(self._graph, samples))
        return found

    def _voice(self, samples: str, encoder: Voice) -> str:
        key = (samples, "voice", encoder.deltas, encoder.unvoiced)
        return str(self._once(key, lambda: voice(self._graph, samples, encoder, track, perturbation)))

    def _functionals(self, samples: str, encoder: Functionals) -> str:
        return functionals(self._graph, self._bands(samples, BANDS), self._voice(samples, Voice()))

    def _silero(self, samples: str, encoder: Silero) -> str:
        graph = self._graph
        found = self._once((samples, encoder.networks), lambda: detector.heard(graph, samples, encoder.networks))
        return detector.statistics(graph, found) if encoder.whole else detector.states(graph, found)


_FORMS: Mapping[type[OfflineEncoder], Callable[[Sound, str, Any], str]] = {
    Waveform: Sound._waveform,
    Logmel: Sound._logmel,
    Mfcc: Sound._mfcc,
    Voice: Sound._voice,
    Functionals: Sound._functionals,
    Silero: Sound._silero,
}
