"""The model that most tests of this folder ask."""

from __future__ import annotations

import pytest

import serkit
from serkit.serving.predictor import Model

from .signals import GOLDEN


@pytest.fixture(scope="session")
def model() -> Model:
    return serkit.load(GOLDEN)
