"""Stacks on disk: the same scores again, the same bytes, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from made_scores import make_manifest, planted
from serkit.errors import SerkitError
from serkit.stacking import RandomForestStack, load, make

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["random_forest", "logistic", "log_pool", "vote", "mean_logit", "mean_probability"])
def test_saved_and_loaded_it_gives_the_same_scores(tmp_path, name):
    train, test = make_manifest(300), make_manifest(40, seed=1, split="test", prefix="t")
    stack = make(name, **({"trees": 10} if name == "random_forest" else {})).fit(planted(train), train)
    stack.save(tmp_path / "stack")
    again = load(tmp_path / "stack")
    asked = planted(test, seed=9)
    assert np.array_equal(again.predict(asked).scores, stack.predict(asked).scores)
    assert again.parameters() == stack.parameters()
    assert (again.systems_, again.labels_, again.ids_) == (stack.systems_, stack.labels_, stack.ids_)
    assert not list(tmp_path.rglob("*.part"))


FITTED = {"random_forest": {"trees": 5}, "logistic": {}}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A folder with a stack of each kind, fitted and saved by another process."""
    folder = tmp_path_factory.mktemp("elsewhere")
    program = (
        f"import sys; ballast = [bytearray(k) for k in range(10_000)]; sys.path.insert(0, {str(HERE)!r})\n"
        "from made_scores import make_manifest, planted\n"
        "from serkit.stacking import make\n"
        f"train = make_manifest(300)\nfor name, given in {FITTED!r}.items():\n"
        f"    make(name, **given).fit(planted(train), train).save({str(folder)!r} + '/' + name)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)
    return folder


@pytest.mark.parametrize("name", FITTED)
def test_the_same_stack_is_the_same_bytes_at_another_time_and_in_another_process(
    tmp_path, monkeypatch, name, elsewhere
):
    """A resumed run fits its stack again: nothing in the file may tell."""
    train = make_manifest(300)
    stack = make(name, **FITTED[name]).fit(planted(train), train)
    stack.save(tmp_path / "one")
    monkeypatch.setattr("time.time", lambda: 2e9)  # zip archives hold the time of each member
    again = make(name, **FITTED[name]).fit(planted(train), train)
    again.save(tmp_path / "two")
    load(tmp_path / "one").save(tmp_path / "three")
    first = {p.name: p.read_bytes() for p in sorted((tmp_path / "one").iterdir())}
    assert set(first) == {"models.skops", "stack.json"}
    for other in (tmp_path / "two", elsewhere / name):
        assert {p.name: p.read_bytes() for p in sorted(other.iterdir())} == first, other
    assert np.array_equal(load(tmp_path / "three").predict(planted(train)).scores, stack.predict(planted(train)).scores)


def test_loading_refuses_what_is_not_a_stack(tmp_path):
    import skops.io

    with pytest.raises(SerkitError, match=r"stack.json is missing"):
        load(tmp_path / "nothing")
    train = make_manifest(200)
    RandomForestStack(trees=2, min_leaf=2).fit(planted(train), train).save(tmp_path)
    kept = (tmp_path / "models.skops").read_bytes()
    skops.io.dump([np.vectorize(len)], tmp_path / "models.skops")
    with pytest.raises(SerkitError, match="holds types a stack does not use"):
        load(tmp_path)
    (tmp_path / "models.skops").write_bytes(kept[:500])
    with pytest.raises(SerkitError, match="cannot be read"):
        load(tmp_path)
    for schema in ("[]", "5", "[" * 100_000, '{"__class__": [], "__module__": 1, "protocol": null}'):
        with zipfile.ZipFile(tmp_path / "models.skops", "w") as archive:
            archive.writestr("schema.json", schema)
        with pytest.raises(SerkitError, match="cannot be read"):
            load(tmp_path)
    (tmp_path / "models.skops").write_bytes(kept)
    head = json.loads((tmp_path / "stack.json").read_text())
    (tmp_path / "stack.json").write_text(json.dumps({**head, "systems": ["one"]}))
    with pytest.raises(SerkitError, match=r"the models take 12 scores, stack.json says 4"):
        load(tmp_path)
    (tmp_path / "stack.json").write_text("{}")
    with pytest.raises(SerkitError, match="is not a saved stack"):
        load(tmp_path)


def test_a_tree_that_points_outside_itself_is_not_walked():
    from serkit.fitted_models import check_model

    rng = np.random.default_rng(0)
    forest = RandomForestClassifier(2, random_state=0).fit(rng.normal(size=(60, 4)), rng.integers(0, 2, 60))
    check_model(forest, 4, np.arange(2), "here")
    forest.estimators_[1].tree_.children_left[0] = 10_000
    with pytest.raises(SerkitError, match="points outside itself"):
        check_model(forest, 4, np.arange(2), "here")
