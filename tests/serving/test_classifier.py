"""A model as a scikit-learn classifier: score, predict on lists, what scikit-learn asks of it, and nothing loaded."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serkit.errors import SerkitError
from serkit.serving.predictor import Model

from .signals import GOLDEN, RATE, talk, voice, wav

PITCHES = (100.0, 130.0, 160.0, 190.0, 220.0, 250.0)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Six recordings, the last one longer than a clip may be."""
    folder = tmp_path_factory.mktemp("clips")
    for k, pitch in enumerate(PITCHES):
        (folder / f"{k}.wav").write_bytes(wav(voice(1.0 + 0.2 * k, k, pitch) if k < 5 else talk(14)))
    return [str(folder / f"{k}.wav") for k in range(6)]


@pytest.fixture(scope="module")
def answers(model: Model, paths: list[str]) -> list[str]:
    """What the model says of each, asked one by one."""
    found = [model.predict(path, by="clip").label for path in paths]
    assert len(set(found)) > 1
    return found


def test_a_list_is_answered_with_a_label_each(model: Model, paths: list[str], answers: list[str]) -> None:
    contents = [Path(p).read_bytes() for p in paths]
    ways: list[Any] = [paths, tuple(paths), [Path(p) for p in paths], contents, [io.BytesIO(c) for c in contents]]
    ways += [np.array(paths), np.array(paths, dtype=object)]
    for way in ways:
        found: Any = model.predict(way)
        assert isinstance(found, np.ndarray)
        assert found.tolist() == answers
    sounds = [voice(1.0, k, pitch) for k, pitch in enumerate(PITCHES)]
    alone = [model.predict(x, rate_hz=RATE, by="clip").label for x in sounds]
    assert model.predict(sounds, rate_hz=RATE).tolist() == alone
    with pytest.raises(SerkitError, match="predict_many takes the rest"):
        model.predict(paths, threshold=0.3)  # type: ignore[call-overload]
    none: Any = model.predict([])
    assert (none.shape, none.dtype.kind) == ((0,), "U")
    assert model.predict_proba([]).shape == (0, len(model.labels))
    assert model.predict_many([]) == []
    for single in ("call.wav", b"RIFF", Path("call.wav"), voice(1.0), np.array("call.wav")):
        for call in (model.predict_proba, model.predict_many):
            with pytest.raises(SerkitError, match=rf"{call.__name__} takes a list of recordings, got a single one"):
                call(single)  # type: ignore[arg-type]
    with pytest.raises(SerkitError, match="no such file"):
        model.predict([*paths, "absent.wav"])


def test_a_column_of_paths_is_a_list(model: Model, paths: list[str], answers: list[str]) -> None:
    pandas = pytest.importorskip("pandas")
    column = pandas.DataFrame({"path": paths, "emotion": answers})
    assert model.predict(column["path"]).tolist() == answers
    assert model.score(column["path"], column["emotion"]) == 1.0


def test_score_is_scikit_learn_s_accuracy(model: Model, paths: list[str], answers: list[str]) -> None:
    from sklearn.base import ClassifierMixin
    from sklearn.metrics import accuracy_score

    other = {label: model.labels[k - 1] for k, label in enumerate(model.labels)}
    truth = [label if k % 3 else other[label] for k, label in enumerate(answers)]
    weights = np.array([5, 1, 2, 0, 3, 0.5])
    assert model.score(paths, answers) == 1.0
    for given in (truth, np.array(truth), tuple(truth)):
        assert model.score(paths, given) == accuracy_score(truth, answers) == 4 / 6
        assert model.score(paths, given, weights) == accuracy_score(truth, answers, sample_weight=weights)
        assert model.score(paths, given) == ClassifierMixin.score(model, paths, given)
    assert model.score(paths, truth, sample_weight=[0, 0, 0, 1, 0, 0]) == 0.0
    sounds = [voice(1.0, k, pitch) for k, pitch in enumerate(PITCHES)]
    assert model.score(sounds, model.predict(sounds, rate_hz=RATE), rate_hz=RATE) == 1.0


def test_what_cannot_be_scored_is_one_line(model: Model, paths: list[str], answers: list[str]) -> None:
    cases: list[tuple[Any, Any, Any, str]] = [
        (paths, answers[:-1], None, "6 recordings and 5 labels"),
        ([], [], None, "0 recordings and 0 labels"),
        (paths, ["hapiness", *answers[1:]], None, "no label 'hapiness'.*did you mean 'happiness'"),
        (paths, [2, 1, 0, 0, 1, 2], None, "no label '2'"),
        (paths, answers, [1, 1], "2 weights for 6 recordings"),
        (paths, answers, [0] * 6, "not all 0"),
        (paths, answers, [-1, 1, 1, 1, 1, 1], "0 or more"),
        (paths, answers, [np.nan, 1, 1, 1, 1, 1], "0 or more"),
        (paths[0], answers[:1], None, r"put it into \[ \]"),
    ]
    for recordings, labels, weights, words in cases:
        with pytest.raises(SerkitError, match=words) as error:
            model.score(recordings, labels, weights)
        assert "\n" not in str(error.value)


def test_scikit_learn_takes_it_for_a_trained_classifier(model: Model) -> None:
    from sklearn.base import clone, is_classifier, is_regressor
    from sklearn.utils.validation import check_is_fitted

    assert is_classifier(model)
    assert not is_regressor(model)
    assert clone(model) is model
    check_is_fitted(model)
    with pytest.raises(SerkitError, match=r"already trained.*FrozenEstimator") as error:
        model.fit([], [])
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
def test_cross_validation_of_what_is_trained(model: Model, paths: list[str], answers: list[str]) -> None:
    frozen = pytest.importorskip("sklearn.frozen", reason="scikit-learn 1.6 and later")
    from sklearn.metrics import balanced_accuracy_score, get_scorer
    from sklearn.model_selection import KFold, cross_val_predict, cross_val_score

    ready = frozen.FrozenEstimator(model)
    folds = KFold(3)
    assert cross_val_predict(ready, paths, answers, cv=folds).tolist() == answers
    every = [*model.labels, model.labels[0]]  # scikit-learn wants all classes of a model among the truth here
    shares = cross_val_predict(ready, paths, every, cv=folds, method="predict_proba")
    np.testing.assert_allclose(shares, model.predict_proba(paths), atol=1e-5)
    assert cross_val_score(ready, paths, answers, cv=folds).tolist() == [1.0, 1.0, 1.0]
    truth = [answers[0]] * 6
    scorer = get_scorer("balanced_accuracy")
    assert scorer(model, paths, answers) == balanced_accuracy_score(answers, answers) == 1.0
    assert scorer(model, paths, truth) == balanced_accuracy_score(truth, answers)
    with pytest.raises(SerkitError, match="FrozenEstimator"):  # a fold would have to train it
        cross_val_predict(model, paths, answers, cv=folds)


def test_scikit_learn_is_not_loaded_for_it(paths: list[str]) -> None:
    code = f"""
import sys, serkit
model = serkit.load({str(GOLDEN)!r})
paths = {paths[:2]!r}
labels = model.predict(paths)
assert model.score(paths, labels, [1, 2]) == 1.0
model.predict_proba(paths), model.predict(paths[0]), model.predict(paths[0], by="channel")
print(*(m for m in ("sklearn", "torch", "scipy", "pandas") if m in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
