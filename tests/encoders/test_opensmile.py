from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
import pytest

from serkit.encoders.opensmile import Opensmile
from serkit.encoding import n_frames
from serkit.errors import MissingExtra, SerkitError

SAMPLES = (0.1 * np.random.default_rng(0).standard_normal(8_000)).astype(np.float32)


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    encoder = Opensmile()
    with pytest.raises(MissingExtra, match=r"pip install 'serkit\[opensmile\]'"):
        encoder([SAMPLES])


def test_names_say_that_it_is_not_for_products() -> None:
    assert all("research and private use only" in line for line in Opensmile.names().values())


@pytest.mark.parametrize(("name", "dim"), [("opensmile/egemaps", 25), ("opensmile/compare", 65)])
def test_frames_are_those_of_the_package(name: str, dim: int) -> None:
    package = pytest.importorskip("opensmile")
    encoder = pickle.loads(pickle.dumps(Opensmile(name)))
    found = encoder([SAMPLES])[0]
    assert found.shape == (n_frames(len(SAMPLES), encoder.spec), dim)
    feature_set = {"egemaps": "eGeMAPSv02", "compare": "ComParE_2016"}[name.rpartition("/")[2]]
    smile = package.Smile(getattr(package.FeatureSet, feature_set), package.FeatureLevel.LowLevelDescriptors)
    table = smile.process_signal(SAMPLES, 16_000).to_numpy()
    assert len(table) == len(found)
    np.testing.assert_array_equal(found, table.astype(np.float32))


@pytest.mark.parametrize(("name", "dim"), [("egemaps", 88), ("compare", 6373)])
def test_functionals_are_those_of_the_package(name: str, dim: int) -> None:
    package = pytest.importorskip("opensmile")
    encoder = pickle.loads(pickle.dumps(Opensmile(f"opensmile/{name}-functionals")))
    found = encoder([SAMPLES])[0]
    assert found.shape == (1, dim)
    assert n_frames(len(SAMPLES), encoder.spec) == n_frames(100 * len(SAMPLES), encoder.spec) == 1
    feature_set = {"egemaps": "eGeMAPSv02", "compare": "ComParE_2016"}[name]
    smile = package.Smile(getattr(package.FeatureSet, feature_set), package.FeatureLevel.Functionals)
    np.testing.assert_array_equal(found, smile.process_signal(SAMPLES, 16_000).to_numpy().astype(np.float32))
    assert np.isfinite(encoder([SAMPLES[:300]])[0]).all(), "19 ms"
    assert np.isfinite(encoder([np.zeros(4000, dtype=np.float32)])[0]).all()


@pytest.mark.parametrize("choices", [{"pool": 2}, {"pooling": "mean+std"}])
def test_functionals_are_not_pooled(choices: dict[str, Any]) -> None:
    with pytest.raises(SerkitError, match="it has one frame a clip"):
        Opensmile("opensmile/egemaps-functionals", **choices)
