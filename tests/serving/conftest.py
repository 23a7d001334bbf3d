"""The model that most tests of this folder ask, and a published classifier with its bundle."""

from __future__ import annotations

import shutil
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


@pytest.fixture
def no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiny_checkpoints import without_hub

    without_hub(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier in the hub's layout, with a README; tests copy it before they change it."""
    from tiny_checkpoints import classifier

    folder = tmp_path_factory.mktemp("models") / "ready-er"
    classifier(folder, "Hubert", stable=True, weighted=True)
    head = "---\nlicense: other\nlicense_name: ours\nlanguage: [en]\ndatasets:\n- iemocap\n---\n"
    (folder / "README.md").write_text(f"{head}# Ready\n\nlicense: mit\n")
    return folder


@pytest.fixture(scope="module")
def bundle(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``serkit import`` makes of it."""
    from serkit.serving import importing

    out = tmp_path_factory.mktemp("bundles") / "ready.zip"
    importing.import_checkpoint(f"path:{published}", out)
    return out


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    """The classifier, to be changed."""
    return Path(shutil.copytree(published, tmp_path / "copy"))
