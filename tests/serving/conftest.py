"""The model that most tests of this folder ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import serkit
from serkit.serving.predictor import Model

from .signals import GOLDEN

if TYPE_CHECKING:
    from .service import Service


@pytest.fixture(scope="session")
def model() -> Model:
    return serkit.load(GOLDEN)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service, as it comes."""
    from .service import Service

    with Service(tmp_path_factory.mktemp("service")) as found:
        yield found
