"""Predictions of k systems → a meta-model → predictions: the published forest, a logistic one, and a weighted pool.

A stack is fitted on out-of-fold scores, the only kind that look like those of a new clip; scores of models
that were trained on the same utterance are refused unless ``in_sample=True`` is said. scikit-learn is
imported where it is used; torch never.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from serkit.combining import (
    FORMAT,
    Aligned,
    Ensemble,
    MajorityVote,
    MeanLogit,
    Scores,
    TrainingRows,
    Unfitted,
    align,
    balanced_rows,
    speaker_folds,
    training_rows,
)
from serkit.errors import SerkitError, check_known
from serkit.fitted_models import check_model, load_models, save_models
from serkit.metrics import from_labels
from serkit.pooling import LogPool, MeanProbability
from serkit.predictions import Predictions
from serkit.probabilities import COMBINED_FLOOR, masked
from serkit.text_rows import json_object
from serkit.types import Manifest

MODELS = "models.skops"
MANY_ROWS = 1000
CHOSEN_BY = "macro_f1"


@dataclass(eq=False)
class _Stack(Ensemble):
    """An ensemble with a fitted model on the concatenated scores.

    Attributes:
        in_sample: accept scores of models trained on the same utterances.
        classes_: (k,) int64: the classes that had training rows; others get probability 0.
        models_: the fitted scikit-learn models, whose probabilities are averaged.
    """

    in_sample: bool = False
    seed: int = 42
    decimals: int | None = None
    n_jobs: int = 0
    classes_: np.ndarray = field(init=False, repr=False)
    models_: list[Any] = field(init=False, repr=False)

    def fit(self, predictions: Scores, manifest: Manifest) -> Self:
        """Fit on the labelled rows of ``predictions``.

        Raises:
            SerkitError: rows that may not be learned from (:func:`training_rows`), or too few of them.
        """
        table = align(predictions)
        rows = training_rows(table, manifest, in_sample=self.in_sample)
        self._learn(table.features(self.decimals)[rows.index], rows, table.labels)
        self.systems_, self.labels_ = table.systems, table.labels
        return self

    @abstractmethod
    def _learn(self, features: np.ndarray, rows: TrainingRows, labels: Sequence[str]) -> None:
        """Set ``models_``, ``classes_`` and ``ids_`` from (rows, systems x classes) features."""

    def _combine(self, table: Aligned, allowed: np.ndarray) -> Predictions:
        features = table.features(self.decimals)
        mean = np.mean([model.predict_proba(features) for model in self.models_], axis=0)
        probabilities = np.zeros((len(features), len(table.labels)))
        probabilities[:, self.classes_] = mean
        if not allowed.all():
            probabilities = masked(probabilities, allowed)
        return Predictions(self.system, table.labels, "prob", table.ids, table.models, table.seen, probabilities)

    def _save_models(self, folder: Path) -> dict[str, Any]:
        import sklearn

        save_models(self.models_, folder / MODELS)
        return {"classes": self.classes_.tolist(), "scikit_learn": sklearn.__version__}

    def _load_models(self, folder: Path, head: Mapping[str, Any]) -> None:
        self.classes_ = np.array(head["classes"], dtype=np.int64)
        self.models_ = load_models(folder / MODELS)
        for model in self.models_:
            check_model(model, len(self.systems_) * len(self.labels_), self.classes_, folder)


@dataclass(eq=False)
class RandomForestStack(_Stack):
    """The published stack (Ueda et al. 2025, section on ensembles): forests on a class-balanced subset.

    The rows are balanced to the smallest class, split into ``folds`` by class, and one gini forest is
    fitted on the training part of each; the answer is the mean probability of the forests. Published:
    twelve systems of eight classes, so 96 logits rounded to 4 decimals, 1 120 rows a class, seed 42. The
    release fits on scores of the models' own training utterances and reports dev by its last forest alone;
    here the scores are out-of-fold and all forests answer.

    Attributes:
        trees, max_depth, min_leaf, min_split: of each forest.
        folds: how many forests. per_class: rows of each class, ``auto`` for as many as the smallest has.
        decimals: scores are rounded to so many places, ``None`` leaves them.
        n_jobs: threads of the fit, on which the result does not depend; 0: one per core, and one in all for fewer
            than 1 000 rows, where more would only wait for each other.
    """

    trees: int = 200
    max_depth: int | None = 8
    min_leaf: int = 10
    min_split: int = 10
    folds: int = 5
    per_class: int | Literal["auto"] = "auto"

    def within(self, smallest: int) -> RandomForestStack:
        """An unfitted one that ``smallest`` rows of the smallest class suffice for: no more rows a class, or folds."""
        size = self.per_class if self.per_class == "auto" else min(self.per_class, smallest)
        return dataclasses.replace(self, per_class=size, folds=max(2, min(self.folds, smallest)))

    def _learn(self, features: np.ndarray, rows: TrainingRows, labels: Sequence[str]) -> None:
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.model_selection import StratifiedKFold

        chosen = balanced_rows(rows.truth, self.per_class, self.seed, labels)
        X, y = features[chosen], rows.truth[chosen]
        size = int(np.unique(y, return_counts=True)[1].min())
        if self.folds < 2 or size < self.folds:
            thin = labels[int(np.bincount(rows.truth, minlength=len(labels))[np.unique(rows.truth)].argmin())]
            raise SerkitError(
                f"the stack has {self.folds} folds and {size} rows of each class (smallest: '{thin}'); it needs "
                "2 folds or more and a row of each class in every fold: lower stack.folds or drop the class"
            )
        splitter = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
        self.models_ = []
        threads = self.n_jobs or (-1 if len(X) >= MANY_ROWS else 1)
        for train, _ in splitter.split(X, y):
            forest = RandomForestClassifier(
                n_estimators=self.trees, criterion="gini", max_depth=self.max_depth, min_samples_leaf=self.min_leaf,
                min_samples_split=self.min_split, random_state=self.seed, n_jobs=threads,
            )  # fmt: skip
            forest.fit(X[train], y[train])
            forest.n_jobs = 1  # threads would add the trees up in any order, and sums would differ in the last digit
            self.models_.append(forest)
        self.classes_ = np.unique(y)
        self.ids_ = tuple(rows.ids[k] for k in chosen)

    def never_splits(self) -> bool:
        """Whether no tree of the fitted forests splits, so that every clip gets the same answer."""
        return all(tree.tree_.node_count == 1 for forest in self.models_ for tree in forest.estimators_)


@dataclass(eq=False)
class LogisticStack(_Stack):
    """Regularised multinomial logistic regression on standardised scores, classes weighted equally.

    The strength C is the one of ``strengths`` with the smallest class-balanced log loss in cross-validation
    by speaker on the training scores themselves (ties: the stronger regularisation).

    Attributes:
        strengths: values of scikit-learn's C to choose from. folds: of that choice.
        c_: what was chosen. losses_: balanced log loss by C.
    """

    strengths: tuple[float, ...] = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
    folds: int = 5
    c_: float = field(init=False, repr=False)
    losses_: dict[float, float] = field(init=False, repr=False)

    def _learn(self, features: np.ndarray, rows: TrainingRows, labels: Sequence[str]) -> None:
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):  # products of a few dozen columns: threads would mostly wait for each other
            self._learn_alone(features, rows, labels)

    def _learn_alone(self, features: np.ndarray, rows: TrainingRows, labels: Sequence[str]) -> None:
        present = np.unique(rows.truth)
        if len(present) < 2:
            raise SerkitError(f"a stack needs at least two classes, got {[labels[k] for k in present]}")
        fold = speaker_folds(rows.truth, rows.speakers, self.folds, self.seed)
        share = np.bincount(rows.truth, minlength=len(labels))[rows.truth]
        self.losses_ = {}
        for c in sorted(self.strengths):
            given = np.zeros((len(fold), len(labels)))
            for k in np.unique(fold):
                inside, outside = fold != k, np.flatnonzero(fold == k)
                if len(np.unique(rows.truth[inside])) > 1:
                    model = self._model(c).fit(features[inside], rows.truth[inside])
                    given[np.ix_(outside, model.classes_)] = model.predict_proba(features[outside])
            right = np.maximum(given[np.arange(len(fold)), rows.truth], COMBINED_FLOOR)
            self.losses_[c] = float((-np.log(right) / share).sum() / len(present))
        self.c_ = min(self.losses_, key=lambda c: (self.losses_[c], c))
        self.models_ = [self._model(self.c_).fit(features, rows.truth)]
        self.classes_, self.ids_ = present, rows.ids

    def _model(self, c: float) -> Any:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(), LogisticRegression(C=c, class_weight="balanced", max_iter=2000))


_KNOWN: Mapping[str, tuple[type[Ensemble], str]] = {
    "random_forest": (RandomForestStack, "random forest"),
    "logistic": (LogisticStack, "logistic stack"),
    "log_pool": (LogPool, "weighted mean logit"),
    "vote": (MajorityVote, "majority vote"),
    "mean_logit": (MeanLogit, "mean logit"),
    "mean_probability": (MeanProbability, "mean probability"),
}
FITTED = tuple(name for name, (kind, _) in _KNOWN.items() if not issubclass(kind, Unfitted))
"""Names of the ensembles that learn from scores; ``auto`` chooses among them."""
UNFITTED = tuple(name for name in _KNOWN if name not in FITTED)
"""Names of those that do not."""
ENSEMBLES: Mapping[str, str] = {"stack": "stack", **{name: words for name, (_, words) in _KNOWN.items()}}
"""The ensembles of a run, ``stack`` being the one of :data:`FITTED` that is kept, and what a sentence calls them."""


def leading(names: Collection[str]) -> str | None:
    """Which of some ensembles is the answer: the stack, where there is none the mean logit, or none.

    >>> leading(["vote", "mean_logit"])
    'mean_logit'
    """
    return next((name for name in ("stack", "mean_logit") if name in names), None)


def make(name: str, **parameters: Any) -> Ensemble:
    """Build the ensemble that a recipe names.

    Args:
        name: one of :data:`FITTED` or :data:`UNFITTED`. parameters: as the class takes them.

    Raises:
        SerkitError: no such ensemble or parameter.
    """
    check_known(name, _KNOWN, f"no stack '{name}'")
    kind = _KNOWN[name][0]
    accepted = kind().parameters()
    for key in parameters:
        check_known(key, accepted, f"stack '{name}' has no parameter '{key}'")
    return kind(**parameters)


def load(directory: Path | str) -> Ensemble:
    """Read what ``save`` of any ensemble wrote, without pickle.

    The models are read with skops, which builds only types it knows; the node tables of trees, which it cannot
    vouch for, are checked here before anything walks them.

    Raises:
        SerkitError: no such folder, another format, an unknown type, or a tree that points outside itself.
    """
    folder = Path(directory)
    if not (folder / "stack.json").is_file():
        raise SerkitError(f"no stack at {folder}: stack.json is missing")
    head = json_object(folder / "stack.json")
    try:
        kinds = {kind.__name__: kind for kind, _ in _KNOWN.values()}
        if head["format"] != FORMAT or head["class"] not in kinds:
            raise SerkitError(f"{folder}: stack format {head['format']} '{head['class']}', expected format {FORMAT}")
        stack = kinds[head["class"]](**_plain(head["parameters"]))
        stack.systems_, stack.labels_, stack.ids_ = tuple(head["systems"]), tuple(head["labels"]), tuple(head["ids"])
        stack._load_models(folder, head)
    except (KeyError, TypeError, ValueError) as error:
        raise SerkitError(f"{folder}/stack.json is not a saved stack: {error}") from None
    return stack


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in parameters.items()}


@dataclass(frozen=True)
class Choice:
    """Which stack does best on out-of-fold scores.

    Attributes:
        best: its name. scores: cross-fitted value of the metric by name. metric: which one.
        predictions: out-of-fold answers of each stack on its training rows: evaluate them as split ``train``.
    """

    best: str
    scores: Mapping[str, float]
    metric: str
    predictions: Mapping[str, Predictions]


def cross_fitted(
    stack: Ensemble, predictions: Scores, manifest: Manifest, *, folds: int = 5, seed: int = 0, among_all: bool = False
) -> Predictions:
    """Answers of a stack on its own training rows, each by a copy fitted on other speakers.

    Args:
        stack: parameters to use; it is not touched. predictions: out-of-fold scores of the systems.
        folds, seed: of the split by speaker. A copy of the forest has fewer rows, and takes fewer of each class and
            fewer forests where its rows do not suffice; it does not learn a class of which one row is left.
        among_all: whether answers are among all classes, not only those that the corpus of a row can have.
    """
    table = align(predictions)
    rows = training_rows(table, manifest, in_sample=getattr(stack, "in_sample", False))
    fold = speaker_folds(rows.truth, rows.speakers, folds, seed)
    named = dict(predictions) if isinstance(predictions, Mapping) else {p.system: p for p in predictions}
    parts = []
    for k in np.unique(fold):
        learned = fold != k
        outside = [i for i, f in zip(rows.ids, fold, strict=True) if f == k]
        copy = stack.unfitted()
        if isinstance(copy, RandomForestStack):
            present, counts = np.unique(rows.truth[learned], return_counts=True)
            learned &= ~np.isin(rows.truth, present[counts < 2])
            copy = copy.within(int(counts[counts >= 2].min(initial=len(fold))))
        inside = [i for i, f in zip(rows.ids, learned, strict=True) if f]
        copy = copy.fit({name: p.take(inside) for name, p in named.items()}, manifest)
        asked = {name: p.take(outside) for name, p in named.items()}
        parts.append(copy.predict(asked, None if among_all else manifest))
    return Predictions.joined(parts).take(rows.ids)


def choose(
    stacks: Mapping[str, Ensemble], predictions: Scores, manifest: Manifest, *, folds: int = 5, seed: int = 0
) -> Choice:
    """Compare stacks by cross-fitting on out-of-fold training scores; dev and test are not looked at.

    Args:
        stacks: candidates by name, unfitted. The best by :data:`CHOSEN_BY` over all labels; ties go to the first.

    Raises:
        SerkitError: no candidate, or rows that may not be learned from.
    """
    if not stacks:
        raise SerkitError("nothing to choose from: expected at least one stack")
    found = {name: cross_fitted(s, predictions, manifest, folds=folds, seed=seed) for name, s in stacks.items()}
    label = {name: k for k, name in enumerate(manifest.labels)}
    emotion = {u.id: label[u.emotion] for u in manifest if u.emotion is not None}
    scores = {
        name: from_labels(CHOSEN_BY, [emotion[i] for i in p.ids], p.scores.argmax(axis=1), len(manifest.labels))
        for name, p in found.items()
    }
    return Choice(max(scores, key=lambda name: scores[name]), scores, CHOSEN_BY, found)
