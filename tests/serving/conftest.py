"""The model that most tests of this folder ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import serkit
from serkit.serving.predictor import Model

from .signals import GOLDEN, talk, voice, wav

if TYPE_CHECKING:
    from .page import Open
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


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Where a page is served."""
    from .page import served

    with served() as found:
        yield found


@pytest.fixture(scope="module")  # not longer: while it is open, nothing else in this process can have an event loop
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium."""
    from .page import launched

    with launched(tmp_path_factory.mktemp("microphone")) as found:
        yield found


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Open]:
    """A function that opens the page; afterwards nothing may have been wrong in it, or gone elsewhere."""
    from .page import opening

    with opening(browser, address) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "calls"
    (root / "ünter weg").mkdir(parents=True)
    (root / "a.wav").write_bytes(wav(voice(1.0)))
    (root / "b.wav").write_bytes(b"not audio")
    (root / "ünter weg" / "c d.flac").write_bytes(wav(talk(2), kind="FLAC"))
    (root / "notes.txt").write_text("no recording")
    return root
