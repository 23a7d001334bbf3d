"""The tables that leave a network and an evaluation: scores by utterance, and measured numbers.

Imports numpy only; Parquet is read and written with pyarrow, loaded where it is needed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from serkit.errors import SerkitError
from serkit.files import replacing
from serkit.probabilities import masked, softmax
from serkit.types import ATTRIBUTES

_COLUMN = "attribute:"  # before the name, as a label may be called the same


@dataclass(frozen=True)
class Predictions:
    """Scores of one system: a row per utterance and per model that scored it.

    Attributes:
        system: name of the system.
        labels: class of each column.
        kind: ``logit`` (any real number) or ``prob`` (rows sum to 1).
        ids: (rows,) utterance id. models: (rows,) which fold's model scored the row.
        seen: (rows,) bool: that model was trained on this utterance.
        scores: (rows, classes) float64.
        attributes: (rows, 3) float64 arousal, valence, dominance on the corpus's own scale, NaN for one that was not
            learned; ``None`` of a system without them.

    Raises:
        SerkitError: shapes differ, (id, model) twice, a score not finite, probabilities below 0 or not summing to 1.
    """

    system: str
    labels: tuple[str, ...]
    kind: Literal["logit", "prob"]
    ids: tuple[str, ...]
    models: tuple[str, ...]
    seen: np.ndarray
    scores: np.ndarray
    attributes: np.ndarray | None = None

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "labels", tuple(self.labels))
        set_(self, "ids", tuple(str(i) for i in self.ids))
        set_(self, "models", tuple(str(m) for m in self.models))
        set_(self, "seen", np.asarray(self.seen, dtype=bool).reshape(-1))
        set_(self, "scores", np.asarray(self.scores, dtype=np.float64))
        n = len(self.ids)
        if self.kind not in ("logit", "prob"):
            raise SerkitError(f"predictions '{self.system}': kind {self.kind!r} is neither 'logit' nor 'prob'")
        if self.scores.shape != (n, len(self.labels)) or len(self.models) != n or len(self.seen) != n:
            raise SerkitError(
                f"predictions '{self.system}': {n} ids, {len(self.models)} models, {len(self.seen)} seen flags, "
                f"scores {self.scores.shape}; expected ({n}, {len(self.labels)})"
            )
        if self.attributes is not None:
            set_(self, "attributes", np.asarray(self.attributes, dtype=np.float64))
            if self.attributes.shape != (n, len(ATTRIBUTES)):
                raise SerkitError(
                    f"predictions '{self.system}': attributes {self.attributes.shape}; expected ({n}, 3), a column "
                    "each for arousal, valence and dominance"
                )
        if len(set(zip(self.ids, self.models, strict=True))) != n:
            raise SerkitError(f"predictions '{self.system}': an utterance occurs twice for the same model")
        if not np.isfinite(self.scores).all():
            row = int(np.flatnonzero(~np.isfinite(self.scores).all(axis=1))[0])
            raise SerkitError(f"predictions '{self.system}': the scores of '{self.ids[row]}' are not finite")
        if self.kind == "prob" and n:
            off, least = np.abs(self.scores.sum(axis=1) - 1.0), self.scores.min(axis=1)
            if off.max() > 1e-4:
                first = self.ids[int(off.argmax())]
                raise SerkitError(f"predictions '{self.system}': probabilities of '{first}' do not sum to 1")
            if least.min() < -1e-9:
                first = self.ids[int(least.argmin())]
                raise SerkitError(
                    f"predictions '{self.system}': a probability of '{first}' is {least.min():.3g}, below 0"
                )

    def __len__(self) -> int:
        return len(self.ids)

    def pooled(self) -> Predictions:
        """One row per utterance: the mean of its models' scores, model ``mean``, in order of first sight."""
        order: dict[str, int] = {}
        index = np.array([order.setdefault(i, len(order)) for i in self.ids], dtype=np.int64)
        count = np.maximum(np.bincount(index, minlength=len(order))[:, None], 1)
        seen = np.zeros(len(order), dtype=bool)
        np.logical_or.at(seen, index, self.seen)

        def mean(values: np.ndarray) -> np.ndarray:
            total = np.zeros((len(order), values.shape[1]))
            np.add.at(total, index, values)
            return total / count

        return Predictions(
            self.system, self.labels, self.kind, tuple(order), ("mean",) * len(order), seen, mean(self.scores),
            None if self.attributes is None else mean(self.attributes),
        )  # fmt: skip

    def with_attributes_of(self, tables: Sequence[Predictions]) -> Predictions:
        """These rows with the mean attributes of the systems that have them; as they are where none has.

        What an ensemble says of arousal, valence and dominance: each is the mean over the systems that learned it.

        Raises:
            SerkitError: several models per utterance here, or an utterance that a system has no row of.
        """
        given = [t.pooled().take(self.ids).attributes for t in tables if t.attributes is not None]
        if not given:
            return self
        stacked = np.stack([a for a in given if a is not None])
        known = np.isfinite(stacked)
        total = np.where(known, stacked, 0.0).sum(axis=0)
        mean = np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
        return dataclasses.replace(self, attributes=mean)

    def probabilities(self) -> np.ndarray:
        """(rows, classes) float64: ``scores`` as they are, or their softmax where they are logits."""
        if self.kind == "prob":
            return self.scores
        return softmax(self.scores)

    def among(self, labels: Sequence[str]) -> Predictions:
        """One row per utterance, with probabilities of other labels: 0 of one that is new, the others summing to 1."""
        whole = self.pooled()
        known = np.array([label in self.labels for label in labels])
        scores = np.zeros((len(whole), len(labels)))
        scores[:, known] = whole.probabilities()[:, [self.labels.index(x) for x in labels if x in self.labels]]
        scores = masked(scores, np.broadcast_to(known, scores.shape))
        return dataclasses.replace(whole, labels=tuple(labels), kind="prob", scores=scores)

    def take(self, ids: Sequence[str]) -> Predictions:
        """The rows of ``ids``, in that order; needs one row per utterance (see :meth:`pooled`).

        Raises:
            SerkitError: an id has no row here, or several.
        """
        position: dict[str, int] = {i: k for k, i in enumerate(self.ids)}
        if len(position) != len(self.ids):
            raise SerkitError(f"predictions '{self.system}': several models per utterance; pool them first")
        missing = [i for i in ids if i not in position]
        if missing:
            raise SerkitError(
                f"predictions '{self.system}': {len(missing)} of {len(ids)} utterances have no row, "
                f"first '{missing[0]}'"
            )
        index = np.array([position[i] for i in ids], dtype=np.int64)
        return Predictions(
            self.system, self.labels, self.kind, tuple(self.ids[k] for k in index),
            tuple(self.models[k] for k in index), self.seen[index], self.scores[index],
            None if self.attributes is None else self.attributes[index],
        )  # fmt: skip

    @classmethod
    def joined(cls, tables: Sequence[Predictions]) -> Predictions:
        """The rows of several tables of one system, one table after the other."""
        attributes = [t.attributes for t in tables if t.attributes is not None]
        return dataclasses.replace(
            tables[0],
            ids=tuple(i for t in tables for i in t.ids),
            models=tuple(m for t in tables for m in t.models),
            seen=np.concatenate([t.seen for t in tables]),
            scores=np.concatenate([t.scores for t in tables]),
            attributes=np.concatenate(attributes) if len(attributes) == len(tables) else None,
        )

    def save(self, path: Path | str) -> None:
        """Write Parquet: ``id, model, seen``, one double per label; system, kind, labels in the metadata.

        Arousal, valence and dominance, where there are any, are the columns ``attribute:arousal`` and so on.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns: dict[str, Any] = {"id": list(self.ids), "model": list(self.models), "seen": self.seen}
        for k, label in enumerate(self.labels):
            columns[label] = self.scores[:, k]
        for k, name in enumerate(ATTRIBUTES if self.attributes is not None else ()):
            columns[_COLUMN + name] = self.attributes[:, k]  # type: ignore[index]  # taught, so there
        table = pa.table(columns)
        meta = {"system": self.system, "kind": self.kind, "labels": json.dumps(list(self.labels))}
        table = table.replace_schema_metadata(meta)
        with replacing(path) as part:
            pq.write_table(table, part)

    @classmethod
    def load(cls, path: Path | str) -> Predictions:
        """Read what :meth:`save` wrote.

        Raises:
            SerkitError: no such file, or not a table of predictions.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
            meta = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
            labels = tuple(json.loads(meta["labels"]))
            scores = np.stack([table.column(label).to_numpy() for label in labels], axis=1)
            there = [_COLUMN + name for name in ATTRIBUTES if _COLUMN + name in table.column_names]
            attributes = np.stack([table.column(name).to_numpy() for name in there], axis=1) if there else None
            ids, models = table.column("id").to_pylist(), table.column("model").to_pylist()
            seen, system, kind = table.column("seen").cast(pa.bool_()).to_numpy(), meta["system"], meta["kind"]
            scores = scores.astype(np.float64)
            attributes = None if attributes is None else attributes.astype(np.float64)
        except FileNotFoundError:
            raise SerkitError(f"no predictions at {path}") from None
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
            said = " ".join(str(error).split())[:300]
            raise SerkitError(f"{path} is not a table of predictions: {said}") from None
        if kind not in ("logit", "prob"):
            raise SerkitError(f"{path}: its kind is {kind!r}, expected logit or prob")
        return cls(system, labels, kind, tuple(ids), tuple(models), seen, scores, attributes)


@dataclass(frozen=True)
class Metric:
    """A number with what it needs to be read.

    Attributes:
        value: the number. low, high: its 95 % interval, or the range that ``interval`` names.
        n: utterances it rests on. speakers: distinct known speakers among them.
        interval: how low and high came about, such as ``95% speaker bootstrap``; ``rough`` is part of
            it below 20 speakers.
    """

    value: float
    low: float
    high: float
    n: int
    speakers: int
    interval: str

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Report:
    """One system measured on one split.

    Attributes:
        system, split: what was measured on what.
        labels: class order of ``confusion``.
        metrics: by name; each with its n and interval.
        per_class: by label: ``precision, recall, f1, support``.
        confusion: (classes, classes) counts, truth by row, answer by column.
        draws: distribution behind an interval, by metric, such as the 100 subsets of ``bs_f1``.
        slices: by field (gender, language, duration, corpus) and value: metrics.
        reliability: by bin of confidence: see :func:`serkit.evaluation.reliability`.
        provenance: recipe, fingerprints, versions, seed; clock and hardware apart under ``run``.
    """

    system: str
    split: str
    labels: tuple[str, ...]
    metrics: Mapping[str, Metric]
    per_class: Mapping[str, Mapping[str, float]]
    confusion: tuple[tuple[int, ...], ...]
    draws: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    slices: Mapping[str, Mapping[str, Mapping[str, Metric]]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    reliability: tuple[Mapping[str, float], ...] = ()

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row."""
        return dataclasses.asdict(self)
