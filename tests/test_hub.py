"""Whether the hub is reached is asked once and quickly, and told in one line."""

from __future__ import annotations

import http.server
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serkit import checkpoints, fetching
from serkit.errors import SerkitError
from serkit.recipe import load_recipe

pytest.importorskip("huggingface_hub")

from serkit.hub import hub_package, unreached, why  # its package is an extra


class _NotFound(http.server.BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012 - of the class: one server a test

    def do_HEAD(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    do_GET = do_HEAD  # noqa: N815 - as http.server calls it

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub that has nothing."""
    _NotFound.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _NotFound) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str, tmp_path: Path) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_any_answer_is_an_answer(answering: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, answering, tmp_path)
    assert unreached(hub_package("x")) == ""
    assert _NotFound.asked == ["/"]


def test_switched_off_it_is_not_asked(answering: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, answering, tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert unreached(hub_package("x")) == "OfflineModeIsEnabled"
    assert _NotFound.asked == []


def test_the_models_of_a_recipe_are_refused_at_once_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    use(monkeypatch, "http://127.0.0.1:9", tmp_path)
    names = [feature.name for feature in load_recipe("ueda2025").features.values()]
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with caplog.at_level(logging.WARNING), pytest.raises(SerkitError) as refused:
        fetching.require(checkpoints.resolve(name) for name in names)
    said = str(refused.value)
    assert not slept, "five tries for each of them take minutes"
    assert said.startswith(f"{len(set(names))} models cannot be downloaded here: this machine cannot reach the hub (")
    assert "put downloaded folders into" in said
    assert "roots.yaml" in said
    assert "\n" not in said
    assert not caplog.records
    for name in ("whisper/tiny", "hub:openai/whisper-tiny"):
        with pytest.raises(SerkitError, match="this machine cannot reach the hub"):
            fetching.fetch(checkpoints.resolve(name))
    assert not slept
    assert not caplog.records


def test_it_is_asked_by_a_program_that_has_loaded_nothing_else(tmp_path: Path) -> None:
    code = "from serkit.hub import hub_package, unreached; print(unreached(hub_package('x')))"
    env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")} | {
        "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0",
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.strip() in ("ConnectError", "ConnectionError")


def test_a_model_for_members_is_told_with_the_way_in() -> None:
    from huggingface_hub import errors

    response = type("Response", (), {"headers": {}, "request": None})()
    refused = errors.GatedRepoError("401 Client Error", response=response)  # type: ignore[arg-type]  # enough of one
    assert why(refused).startswith("GatedRepoError: ")
    assert "HF_TOKEN" in why(refused)
    assert why(OSError("reset")) == "OSError"
