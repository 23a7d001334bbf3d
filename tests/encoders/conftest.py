"""What the tests of pretrained families share: a folder with tiny weights of the family a test file is named after."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from serkit.foundation.tiny import tiny_folder

    family = request.module.__name__.removeprefix("test_")
    return tiny_folder(family, tmp_path_factory.mktemp(family) / "tiny")
