"""Sound to probabilities: the encoders, networks, stack and calibration of a bundle, in this order.

Knows nothing of files, parts or thresholds: what goes in is a clip, what comes out are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from serkit.dsp import without_offset
from serkit.encoding import Encoder
from serkit.errors import SerkitError
from serkit.extraction import compute
from serkit.predictions import Predictions
from serkit.serving import inputs
from serkit.serving.bundle import Bundle
from serkit.serving.correction import uniform
from serkit.types import ATTRIBUTES

Features = dict[str, np.ndarray]  # (time, dim) float32 by feature
Modality = Literal["audio", "text"]
Logits = dict[tuple[str, str], np.ndarray]  # (rows, classes), attributes and embedding beside, by system and model


class Scorer:
    """What a bundle computes.

    Args:
        bundle: what it is. threads: of each network in onnxruntime.
        embeds: whether embeddings are asked of the networks with every answer, as a bundle with a correction needs.

    Attributes:
        reads_text: whether any encoder reads words.
        attributes: those of arousal, valence and dominance that the bundle answers.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1, embeds: bool = False) -> None:
        self._bundle, self._threads = bundle, threads
        self._embeds = embeds or bundle.correction is not None
        self.attributes = bundle.attributes
        self._places = [ATTRIBUTES.index(name) for name in bundle.attributes]
        self._encoders: dict[str, Encoder] = bundle.encoders()
        for encoder in self._encoders.values():
            encoder.load()
        self.reads_text = any(e.spec.modality == "text" for e in self._encoders.values())
        self._last: tuple[Features, Logits] | None = None  # the features answered last, and how

    def check(self) -> None:
        """Refuse a bundle whose answers could not be made of its networks' scores, before a recording is read.

        Raises:
            SerkitError: its stack, its calibration or what corrects its answers is damaged.
        """
        _ = self._bundle.stack, self._bundle.calibration, self._bundle.correction

    def heard(self, samples: np.ndarray, text: str | None, *, only: Modality | None = None) -> Features:
        """Features of (samples,) float32 mono 16 kHz as the encoders give them, or those of one modality alone."""
        asked = {name: e for name, e in self._encoders.items() if only in (None, e.spec.modality)}
        return compute(without_offset(samples), asked, text=text or "")

    def features(self, samples: np.ndarray, text: str | None) -> Features:
        """Features as the networks see them: those that were heard, moved where the bundle is adapted."""
        return self._adapted(self.heard(samples, text))

    def one(self, samples: np.ndarray, text: str | None) -> np.ndarray:
        """(1, classes + attributes) calibrated probabilities, then attributes, of (samples,) float32 mono 16 kHz.

        Networks whose features are those of the last answer are not run again: of a clip with one stretch of speech,
        whole and stretch are often the same sound once the silence around it is trimmed.
        """
        features, last = self.features(samples, text), self._last
        before = {} if last is None else self._known(*last, features)
        logits = self.logits([features], before)
        self._last = features, logits
        return self._combined(logits, 1)

    def several(self, clips: Sequence[np.ndarray], texts: Sequence[str | None]) -> np.ndarray:
        """(clips, classes + attributes) as :meth:`one`, the networks run once on all clips together."""
        rows = [self.heard(clip, text) for clip, text in zip(clips, texts, strict=True)]
        return self.answered(rows)

    def answered(self, rows: Sequence[Features]) -> np.ndarray:
        """(clips, classes + attributes) as :meth:`several`, of clips whose features were :meth:`heard` already."""
        return self._combined(self.logits([self._adapted(row) for row in rows], {}), len(rows))

    def alone(self, samples: np.ndarray, text: str | None) -> list[tuple[str, np.ndarray]]:
        """Each system's (classes,) probabilities of a clip: the mean logit of its networks, not calibrated.

        None where the labels are not those of the networks.
        """
        if self._bundle.own_labels:
            return []
        logits = self.logits([self.features(samples, text)], {})
        n = len(self._bundle.labels)
        found = []
        for system in dict.fromkeys(system for system, _ in logits):
            mean = np.mean([values[0, :n] for (of, _), values in logits.items() if of == system], axis=0)
            shares = np.exp(mean - mean.max())
            found.append((system, shares / shares.sum()))
        return found

    def embedded_answers(self, rows: Sequence[Features]) -> tuple[np.ndarray, np.ndarray]:
        """(clips, classes) calibrated probabilities, and (clips, dim) embeddings of all networks, each of length 1.

        Args:
            rows: features of clips as they were :meth:`heard`; of a scorer that ``embeds``.
        """
        logits = self.logits([self._adapted(row) for row in rows], {})
        return self._combined(logits, len(rows))[:, : len(self._bundle.labels)], self._embeddings(logits)

    def embedded(self, samples: np.ndarray, text: str | None) -> list[np.ndarray]:
        """Each network's (dim,) float32 embedding of a clip, of length 1."""
        features = self.features(samples, text)
        found = []
        for name, session in self.sessions.items():
            fed = inputs.feed([features], self.entries[name].features)
            found.append(inputs.of_length_1(self._run(session, self.entries[name], ["embedding"], fed)[0][0]))
        return found

    def logits(self, rows: list[Features], known: Logits) -> Logits:
        """Each network's answer to clips given by their features, but for those that are known.

        Returns:
            (rows, classes) logits, of a network with attributes (rows, classes + 3); embeddings after them.
        """
        found = dict(known)
        for key, session in self.sessions.items():
            if key in known:
                continue
            entry = self.entries[key]
            together = [rows] if entry.batches else [[row] for row in rows]
            outputs = ["emotion", *["attributes"] * entry.attributes, *["embedding"] * self._embeds]
            fed = (inputs.feed(some, entry.features) for some in together)
            parts = [np.hstack(self._run(session, entry, outputs, some)) for some in fed]
            found[key] = np.concatenate(parts)
        return found

    def _run(self, session: Any, entry: Any, outputs: list[str], fed: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            found: list[np.ndarray] = session.run(outputs, fed)
        except Exception as error:  # its kinds of error have no other base: inputs, outputs or shapes that it has not
            said = " ".join(str(error).split())[:300]
            raise SerkitError(f"{self._bundle.source}: '{entry.file}' does not take these features: {said}") from error
        return found

    @cached_property
    def entries(self) -> dict[tuple[str, str], Any]:
        """What the bundle says of each network, by system and model."""
        return {(n.system, n.model): n for n in self._bundle.networks}

    @cached_property
    def sessions(self) -> dict[tuple[str, str], Any]:
        """The networks in onnxruntime, loaded at the first answer.

        Raises:
            SerkitError: one that cannot be loaded, or whose weights are in a file that the bundle does not hold.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._threads, 1
        options.log_severity_level = 4  # what is wrong is in its exceptions
        providers = ["CPUExecutionProvider"]
        found = {}
        for key, entry in self.entries.items():
            content = self._bundle.network(entry)
            try:
                found[key] = onnxruntime.InferenceSession(content, options, providers=providers)
            except Exception as error:  # its kinds of error have no other base
                said = " ".join(str(error).split())[:300]
                at = f"{self._bundle.source}: '{entry.file}'"
                raise SerkitError(f"{at} is no network that onnxruntime can load: {said}") from error
        return found

    def _adapted(self, features: Features) -> Features:
        return features if self._bundle.adaptation is None else self._bundle.adaptation.apply(features)

    def _known(self, features: Features, logits: Logits, asked: Features) -> Logits:
        """Of logits for some features, those that hold for others too: of networks that read none that differ."""
        same = inputs.unchanged(features, asked)
        return {key: found for key, found in logits.items() if same.issuperset(self.entries[key].features)}

    def _combined(self, logits: Logits, n: int) -> np.ndarray:
        """(n, classes + attributes) calibrated probabilities, and attributes, from each network's answer."""
        ids = tuple(str(k) for k in range(n))
        scores: dict[str, list[tuple[str, np.ndarray]]] = {}
        for system, model in self.sessions:
            scores.setdefault(system, []).append((model, logits[system, model]))
        tables = {}
        for system, found in scores.items():
            models = tuple(model for model, _ in found for _ in ids)
            values = np.concatenate([values for _, values in found])
            seen = np.zeros(len(models), dtype=bool)
            labels = self._bundle.scored
            classes, attributes = values[:, : len(labels)], None
            if self.entries[system, found[0][0]].attributes:
                attributes = values[:, len(labels) : len(labels) + len(ATTRIBUTES)]
            tables[system] = Predictions(system, labels, "logit", ids * len(found), models, seen, classes, attributes)
        answered = self._bundle.stack.predict(tables).take(ids)
        shares = self._bundle.calibration.apply(answered.probabilities())
        if self._bundle.own_labels:
            shares = uniform(n, len(self._bundle.labels))
        if self._bundle.correction is not None:
            shares = self._bundle.correction.apply(shares, self._embeddings(logits))
        if answered.attributes is None:
            return shares
        return np.hstack([shares, answered.attributes[:, self._places]])

    def _embeddings(self, logits: Logits) -> np.ndarray:
        """(rows, dim) float32 embeddings of all networks, each of length 1, from what they answered."""
        n = len(self._bundle.scored)
        found = [
            [inputs.of_length_1(row[n + len(ATTRIBUTES) * self.entries[key].attributes :]) for row in logits[key]]
            for key in self.sessions
        ]
        return np.concatenate([np.stack(rows) for rows in found], axis=1)
