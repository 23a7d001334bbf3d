"""What all ensembles share: aligning systems, and the two that need no fitting. Never imports torch.

An ensemble reads scikit-learn style: parameters in the constructor, ``fit(predictions, manifest)``, names
that fitting sets end in ``_``, ``predict(predictions)`` gives :class:`~serkit.predictions.Predictions`.
"""

from __future__ import annotations

import dataclasses
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from serkit.errors import SerkitError, check_known
from serkit.files import write_json
from serkit.predictions import Predictions
from serkit.probabilities import COMBINED_FLOOR, log_softmax, masked
from serkit.types import Manifest

Scores = Mapping[str, Predictions] | Sequence[Predictions]
FORMAT = 1


@dataclass(frozen=True)
class Aligned:
    """Scores of several systems, row by row of the same utterance and model.

    Attributes:
        systems: names, in the order of the second axis. labels: classes, in the order of the third.
        ids, models: (rows,) as in Predictions. seen: (rows,) bool: some system was trained on the row.
        scores: (rows, systems, classes) float64 as the systems gave them.
        probabilities: the same shape, softmax of logits, probabilities as they are.
        kinds: (systems,) ``logit`` or ``prob``.
    """

    systems: tuple[str, ...]
    labels: tuple[str, ...]
    ids: tuple[str, ...]
    models: tuple[str, ...]
    seen: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray
    kinds: tuple[Literal["logit", "prob"], ...]

    def features(self, decimals: int | None = None) -> np.ndarray:
        """(rows, systems x classes) float64: the scores side by side, rounded where ``decimals`` is set."""
        flat = self.scores.reshape(len(self.ids), -1)
        return flat if decimals is None else np.round(flat, decimals)


def align(predictions: Scores, systems: Sequence[str] | None = None) -> Aligned:
    """Line systems up by (id, model). Every system must have every row: there is no outer join.

    Args:
        predictions: by name of the system, or in a row under their own names.
        systems: names to take, in this order; all of them in the order given where ``None``.

    Raises:
        SerkitError: no system, a name twice or missing, different labels, or a row that one system lacks.
    """
    named = dict(predictions) if isinstance(predictions, Mapping) else {p.system: p for p in predictions}
    if len(named) != len(predictions):
        raise SerkitError(f"{len(predictions)} tables of predictions with {len(named)} names; names must be distinct")
    order = tuple(named) if systems is None else tuple(systems)
    if not order:
        raise SerkitError("an ensemble needs the predictions of at least one system, got none")
    for name in order:
        check_known(name, named, f"no predictions of system '{name}'")
    first = named[order[0]]
    keys = list(zip(first.ids, first.models, strict=True))
    chosen = [first] + [_in_order(named[name], name, first, order[0], keys) for name in order[1:]]
    return Aligned(
        order, first.labels, first.ids, first.models,
        np.any([p.seen for p in chosen], axis=0),
        np.stack([p.scores for p in chosen], axis=1),
        np.stack([p.probabilities() for p in chosen], axis=1),
        tuple(p.kind for p in chosen),
    )  # fmt: skip


def _in_order(
    table: Predictions, name: str, first: Predictions, first_name: str, keys: Sequence[tuple[str, str]]
) -> Predictions:
    if table.labels != first.labels:
        raise SerkitError(
            f"system '{name}' has columns {', '.join(table.labels)}; '{first_name}' has {', '.join(first.labels)}"
        )
    if table.ids == first.ids and table.models == first.models:
        return table
    place = {key: k for k, key in enumerate(zip(table.ids, table.models, strict=True))}
    for key in keys:
        if key not in place:
            raise SerkitError(f"system '{name}' has no row of '{key[0]}' by model '{key[1]}', which '{first_name}' has")
    if len(place) != len(keys):
        extra = next(iter(place.keys() - set(keys)))
        raise SerkitError(f"system '{first_name}' has no row of '{extra[0]}' by model '{extra[1]}', which '{name}' has")
    rows = [place[key] for key in keys]
    ids, models, seen, scores = first.ids, first.models, table.seen[rows], table.scores[rows]
    return dataclasses.replace(table, ids=ids, models=models, seen=seen, scores=scores, attributes=None)


def allowed_classes(ids: Sequence[str], manifest: Manifest) -> np.ndarray:
    """(rows, classes) bool: the classes that the corpus of each utterance can have.

    Raises:
        SerkitError: an id that the manifest does not know.
    """
    corpora = {u.id: u.corpus or "" for u in manifest}
    missing = [i for i in ids if i not in corpora]
    if missing:
        raise SerkitError(f"{len(missing)} predicted rows are not in '{manifest.corpus}', first '{missing[0]}'")
    sets = {
        corpus: np.array([label in labels for label in manifest.labels])
        for corpus, labels in manifest.class_sets.items()
    }
    everything = np.ones(len(manifest.labels), dtype=bool)
    found = [sets.get(corpora[i], everything) for i in ids]
    return np.array(found, dtype=bool).reshape(len(ids), len(manifest.labels))


@dataclass(frozen=True)
class TrainingRows:
    """Labelled rows a stack learns from, in the order of the manifest.

    Attributes:
        ids: (rows,). truth: (rows,) int64. speakers: (rows,), ``None`` where unknown.
        index: (rows,) position in the aligned table.
    """

    ids: tuple[str, ...]
    truth: np.ndarray
    speakers: tuple[str | None, ...]
    index: np.ndarray


def training_rows(table: Aligned, manifest: Manifest, *, in_sample: bool = False) -> TrainingRows:
    """The rows a stack may learn from; utterances without a label are left out.

    Raises:
        SerkitError: several models per utterance, other labels, an unknown id, a row of the test split, a row
            that its own model was trained on (unless ``in_sample``), or nothing labelled.
    """
    if table.labels != manifest.labels:
        raise SerkitError(
            f"predictions have the labels {', '.join(table.labels)}; the manifest has {', '.join(manifest.labels)}"
        )
    place = {i: k for k, i in enumerate(table.ids)}
    if len(place) != len(table.ids):
        raise SerkitError("a stack is fitted on one row per utterance, scored by the fold model that did not see it")
    if table.seen.any() and not in_sample:
        first = table.ids[int(table.seen.argmax())]
        raise SerkitError(
            f"{int(table.seen.sum())} of {len(table.ids)} rows are scored by a model trained on them, first '{first}'; "
            "fit the stack on out-of-fold scores, or set in_sample=True"
        )
    known = {u.id: u for u in manifest}
    strange = [i for i in table.ids if i not in known]
    if strange:
        raise SerkitError(f"{len(strange)} predicted rows are not in '{manifest.corpus}', first '{strange[0]}'")
    rows = [u for u in manifest if u.id in place and u.emotion is not None]
    held = [u.id for u in rows if u.split == "test"]
    if held:
        raise SerkitError(f"{len(held)} rows are of the test split, first '{held[0]}'; a stack is never fitted on test")
    if not rows:
        raise SerkitError("no row has a label; a stack needs labelled training scores")
    label = {name: k for k, name in enumerate(manifest.labels)}
    truth = np.array([label[u.emotion or ""] for u in rows], dtype=np.int64)
    index = np.array([place[u.id] for u in rows], dtype=np.int64)
    return TrainingRows(tuple(u.id for u in rows), truth, tuple(u.speaker for u in rows), index)


def balanced_rows(truth: np.ndarray, per_class: int | Literal["auto"], seed: int, labels: Sequence[str]) -> np.ndarray:
    """Positions of a class-balanced subset, ascending, drawn without replacement.

    Args:
        truth: (rows,) integer classes. per_class: rows of each class, or as many as the smallest has.

    Raises:
        SerkitError: fewer than two classes, or a class with fewer rows than ``per_class``.
    """
    present, counts = np.unique(truth, return_counts=True)
    if len(present) < 2:
        raise SerkitError(f"a stack needs at least two classes, got {[labels[k] for k in present]}")
    thin = int(counts.argmin())
    size = int(counts[thin]) if per_class == "auto" else int(per_class)
    if size > counts[thin] or size < 1:
        raise SerkitError(
            f"per_class is {size}, but class '{labels[present[thin]]}' has {counts[thin]} rows; use per_class: auto"
        )
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(np.flatnonzero(truth == k), size=size, replace=False) for k in present]
    return np.sort(np.concatenate(drawn))


def speaker_folds(truth: np.ndarray, speakers: Sequence[str | None], folds: int, seed: int) -> np.ndarray:
    """(rows,) int64: a fold for each row, no speaker in two, classes spread as evenly as that allows.

    A row without a speaker is its own group; with fewer than two groups the rows themselves are split.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names: dict[str, int] = {}
    keys = [f"row {k}" if s is None else f"speaker {s}" for k, s in enumerate(speakers)]
    if len(set(keys)) < 2:
        keys = [f"row {k}" for k in range(len(keys))]
    groups = np.array([names.setdefault(key, len(names)) for key in keys])
    number = min(folds, len(names))
    if number < 2:
        raise SerkitError(f"cross-validation needs at least two rows, got {len(truth)}")
    largest = int(np.unique(truth, return_counts=True)[1].max())
    splitter = StratifiedGroupKFold(min(number, max(largest, 2)), shuffle=True, random_state=seed)
    fold = np.zeros(len(truth), dtype=np.int64)
    with warnings.catch_warnings():  # a class with fewer rows than folds is in fewer of them, as a small corpus has it
        warnings.filterwarnings("ignore", "The least populated class in y", UserWarning)
        for k, (_, test) in enumerate(splitter.split(np.zeros((len(truth), 1)), truth, groups)):
            fold[test] = k
    return fold


@dataclass(eq=False)
class Ensemble(ABC):
    """Predictions of k systems in, predictions of one out.

    Attributes:
        system: name of the ensemble in its predictions.
        systems_: the systems in the order of the features, once fitted. labels_: the classes.
        ids_: utterances the ensemble was fitted on; their rows are ``seen`` in what it predicts.
    """

    system: str = "stack"
    systems_: tuple[str, ...] = field(init=False, repr=False)
    labels_: tuple[str, ...] = field(init=False, repr=False)
    ids_: tuple[str, ...] = field(init=False, repr=False, default=())

    def parameters(self) -> dict[str, Any]:
        """Constructor arguments, enough to make the same unfitted ensemble."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.init}

    def unfitted(self) -> Self:
        """A new ensemble with the same parameters."""
        return type(self)(**self.parameters())

    def save(self, directory: Path | str) -> None:
        """Write ``stack.json``: kind, parameters, systems, labels, fitted rows. ``serkit.stacking.load`` reads it.

        Raises:
            SerkitError: not fitted.
        """
        if not hasattr(self, "systems_"):
            raise SerkitError(f"ensemble '{self.system}' is not fitted; there is nothing to save")
        head = {
            "format": FORMAT,
            "class": type(self).__name__,
            "parameters": self.parameters(),
            "systems": list(self.systems_),
            "labels": list(self.labels_),
            "ids": list(self.ids_),
            **self._save_models(Path(directory)),
        }
        write_json(Path(directory) / "stack.json", head)

    def _save_models(self, folder: Path) -> dict[str, Any]:
        """Write fitted models into ``folder`` and return what ``stack.json`` should say of them."""
        return {}

    def _load_models(self, folder: Path, head: Mapping[str, Any]) -> None:  # noqa: B027  # most have nothing to load
        """Take over what :meth:`_save_models` wrote into ``folder`` and returned, from what ``stack.json`` says."""

    @abstractmethod
    def fit(self, predictions: Scores, manifest: Manifest) -> Self:
        """Learn from the scores of the systems and the labels of the manifest."""

    @abstractmethod
    def _combine(self, table: Aligned, allowed: np.ndarray) -> Predictions:
        """Scores of (rows,) the aligned table, one row per utterance and model."""

    def predict(self, predictions: Scores, manifest: Manifest | None = None) -> Predictions:
        """Combine the systems: one row per utterance.

        Where several fold models scored an utterance, the ensemble is applied to the scores of each fold
        and its answers are averaged, so that it sees the kind of score it was fitted on. Attributes are the mean of
        the systems that learned them.

        Args:
            predictions: as in :meth:`fit`, of any utterances; systems beyond the fitted ones are passed over.
            manifest: where given, classes that an utterance's corpus cannot have get no vote and no share.

        Raises:
            SerkitError: not fitted, other labels, or systems that do not line up.
        """
        if not hasattr(self, "systems_"):
            raise SerkitError(f"ensemble '{self.system}' is not fitted; call fit(predictions, manifest) first")
        table = align(predictions, self.systems_)
        if table.labels != self.labels_:
            raise SerkitError(
                f"ensemble '{self.system}' was fitted on the labels {', '.join(self.labels_)}; "
                f"these predictions have {', '.join(table.labels)}"
            )
        shape = (len(table.ids), len(table.labels))
        allowed = np.ones(shape, dtype=bool) if manifest is None else allowed_classes(table.ids, manifest)
        own = set(self.ids_)
        found = self._combine(table, allowed)
        seen = found.seen | np.array([i in own for i in found.ids], dtype=bool)
        named = predictions if isinstance(predictions, Mapping) else {p.system: p for p in predictions}
        return (
            dataclasses.replace(found, seen=seen).pooled().with_attributes_of([named[name] for name in self.systems_])
        )


def log_shares(table: Aligned) -> np.ndarray:
    """(rows, systems, classes) log probabilities: log-softmax of logits, logarithms (at least 1e-12) of the others."""
    logs = np.log(np.maximum(table.probabilities, COMBINED_FLOOR))
    for k, kind in enumerate(table.kinds):
        if kind == "logit":
            logs[:, k] = log_softmax(table.scores[:, k])
    return np.asarray(logs)


@dataclass(eq=False)
class Unfitted(Ensemble):
    """An ensemble that has nothing to learn."""

    def fit(self, predictions: Scores, manifest: Manifest) -> Self:
        """Remember which systems, in which order."""
        table = align(predictions)
        self.systems_, self.labels_ = table.systems, table.labels
        return self


@dataclass(eq=False)
class MeanLogit(Unfitted):
    """The mean of the systems' logits.

    Each system's logits enter as log-softmax, which differs from them by a constant per row and so gives the
    same answers; a system that gives probabilities enters with their logarithm (at least 1e-12).
    """

    system: str = "mean_logit"

    def _combine(self, table: Aligned, allowed: np.ndarray) -> Predictions:
        mean = log_shares(table).mean(axis=1)
        mean = np.where(allowed, mean, mean.min(axis=1, keepdims=True) + np.log(COMBINED_FLOOR))
        return Predictions(self.system, table.labels, "logit", table.ids, table.models, table.seen, mean)


@dataclass(eq=False)
class MajorityVote(Unfitted):
    """One vote per system; ties go to the tied class with the highest mean probability.

    A system votes for its highest score, as it is evaluated: its fold models are averaged first. The
    score of a class is ``(votes + mean probability) / (systems + 1)``; a mean probability is below 1,
    so that it decides ties and never overrules a vote.
    """

    system: str = "vote"

    def _combine(self, table: Aligned, allowed: np.ndarray) -> Predictions:
        mask = {i: allowed[k] for k, i in enumerate(table.ids)}
        votes = total = np.zeros(0)
        ids: tuple[str, ...] = ()
        seen = np.zeros(0, dtype=bool)
        for k, name in enumerate(table.systems):
            every = Predictions(
                name, table.labels, table.kinds[k], table.ids, table.models, table.seen, table.scores[:, k]
            )
            one = every.pooled()
            possible = np.array([mask[i] for i in one.ids], dtype=bool).reshape(one.scores.shape)
            probabilities = masked(one.probabilities(), possible)
            vote = np.zeros_like(probabilities)
            vote[np.arange(len(one)), np.where(possible, one.scores, -np.inf).argmax(axis=1)] = 1.0
            ids, seen = one.ids, one.seen
            votes, total = (vote, probabilities) if not k else (votes + vote, total + probabilities)
        n = len(table.systems)
        scores = (votes + total / n) / (n + 1)
        return Predictions(self.system, table.labels, "prob", ids, ("mean",) * len(ids), seen, scores)
