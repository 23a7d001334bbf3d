"""The page in a real browser: what its tests share. They skip where there is no Chromium."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .signals import GOLDEN, talk, wav

pytest.importorskip("fastapi", reason="the service needs serkit[serve]")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("SERKIT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium on this machine (SERKIT_CHROMIUM names another)", allow_module_level=True)

SOUND = np.round(talk(3) * 32768) / 32768
Open = Callable[..., Any]
PATIENCE_S = 60.0  # nobody waits for it who is answered


@contextmanager
def served(model: str = str(GOLDEN)) -> Iterator[str]:
    """A running ``serkit serve``, with the tiny model unless another is named."""
    from .service import Service

    with tempfile.TemporaryDirectory() as folder, Service(Path(folder), workers=1, model=model) as server:
        yield f"{server.url}/"


@contextmanager
def launched(folder: Path) -> Iterator[Any]:
    """Chromium whose microphone hears :data:`SOUND` over and over."""
    heard = folder / "talk.wav"
    heard.write_bytes(wav(SOUND))
    flags = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    flags += [f"--use-file-for-fake-audio-capture={heard}", "--autoplay-policy=no-user-gesture-required"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags, timeout=PATIENCE_S * 1000)
        yield browser
        browser.close()


@contextmanager
def opening(browser: Any, address: str) -> Iterator[Open]:
    """A function that opens the page; afterwards nothing may have been wrong in it, or gone elsewhere."""
    contexts, wrong, asked = [], [], []

    def open_page(width: int = 1000, scheme: str = "light", motion: str = "reduce", **options: Any) -> Any:
        looks = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "reduced_motion": motion}
        context = browser.new_context(**looks, **options)  # still unless asked: what glides has no one place
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        until(page, "document.getElementById('model').textContent !== ''")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith((address, "blob:"))] == []


def until(page: Any, condition: str, within_s: float = PATIENCE_S) -> None:
    """Wait for a JavaScript condition; asked from outside, since the page's own policy lets no text be code."""
    end = time.monotonic() + within_s
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def give(page: Any, content: bytes, name: str = "call.wav") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "audio/wav", "buffer": content})


def answered(page: Any, content: bytes | None = None) -> Any:
    give(page, wav(SOUND) if content is None else content)
    page.wait_for_selector("#result:not([hidden])")
    return page
