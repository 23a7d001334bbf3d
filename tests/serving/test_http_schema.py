"""Requests made from the service's own OpenAPI: every answer is one that it describes, and none is a 500.

About 15 s here; ``make test-all`` goes on for longer.
"""

from __future__ import annotations

import base64
import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("schemathesis")

import schemathesis
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from serkit.serving.http.schemas import MAX_TEXT, MAX_TURNS

from .service import Service
from .signals import voice, wav

QUICK_S, LONG_S = 20.0, 300.0
# What a schema can describe is a file; which bytes are a recording it cannot say, so that most are refused rightly.
NOT_PROMISED = ("positive_data_acceptance",)
# In a form the number 0 and the text 0 are one and the same, and of several files that are no recordings each gets its
# own error in an answer of 200.
NOT_PROMISED_OF_FORMS = (*NOT_PROMISED, "negative_data_rejection")


MEMORY = 4 << 30  # bytes that making requests up may take
PANICS = 3  # of the tool's own compiled part, such as "PyObject pointer is null"


class TimeIsUp(Exception):
    """Enough was asked."""


def panicked(error: BaseException) -> bool:
    """Whether the tool that makes the requests broke, not what it asks: an error of its compiled part."""
    return type(error).__module__ == "pyo3_runtime" or isinstance(error, MemoryError)


def small(tree: Any) -> Any:
    """A schema without its large limits: to break them, lists of 20 000 texts are made, in any amount of memory."""
    if isinstance(tree, dict):
        large = {key for key in ("maxLength", "maxItems") if isinstance(tree.get(key), int) and tree[key] > 1000}
        return {key: small(value) for key, value in tree.items() if key not in large}
    return [small(value) for value in tree] if isinstance(tree, list) else tree


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """What is made up may still be large: then Python says so, and the system need not end anything."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def operations(service: Service) -> dict[str, Any]:
    """The operations of the service by method and path."""
    schema = schemathesis.openapi.from_dict(small(service.client.get("/openapi.json").json()))
    found = (o.ok() for o in schema.get_all_operations())
    return {f"{o.method.upper()} {o.path}": o for o in found}


def ask(service: Service, name: str, seconds: float) -> int:
    """Requests to one operation for so long, half of them against its schema; how many."""
    load_all_checks()
    operation = operations(service)[name]
    n = 0
    modes = list(GenerationMode) if "POST" in name else [GenerationMode.POSITIVE]  # the others take no wrong input
    for mode in modes:
        end = time.monotonic() + seconds / len(modes)

        def check(case: Any) -> None:
            nonlocal n
            if time.monotonic() > end:  # noqa: B023  # called within this turn of the loop
                raise TimeIsUp
            n += 1
            form = case.media_type == "multipart/form-data"
            excluded = CHECKS.get_by_names(list(NOT_PROMISED_OF_FORMS if form else NOT_PROMISED))
            case.call_and_validate(base_url=service.url, excluded_checks=excluded, timeout=60)

        strategy = operation.as_strategy(generation_mode=mode)
        rules = settings(
            max_examples=max(5, int(100 * seconds)), deadline=None, suppress_health_check=list(HealthCheck),
            phases=[Phase.generate], database=None, derandomize=seconds < QUICK_S,
            report_multiple_bugs=False,
        )  # fmt: skip
        for attempt in range(1 + PANICS):
            try:
                with bounded_memory():
                    asking = rules(given(strategy)(check))
                    (asking if rules.derandomize else seed(attempt)(asking))()  # the same requests in every run
            except TimeIsUp:
                pass
            except BaseException as error:
                if attempt < PANICS and panicked(error):
                    continue
                raise
            break
    return n


NAMES = (
    "GET /healthz",
    "GET /readyz",
    "GET /metrics",
    "GET /v1/model",
    "POST /v1/predict",
    "POST /v1/jobs",
    "GET /v1/jobs/{job}",
    "DELETE /v1/jobs/{job}",
)


def test_no_operation_is_left_out(service: Service) -> None:
    assert set(operations(service)) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_as_described(service: Service, name: str) -> None:
    share = 0.2 if "/v1/predict" in name else 0.1 if "POST" in name else 0.4 / 6
    ask(service, name, QUICK_S * share)
    assert service.client.get("/readyz").status_code == 200
    assert service.metric("serkit_worker_restarts_total", lane="predict") == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["POST /v1/predict", "POST /v1/jobs"])
def test_answers_are_as_described_for_long(service: Service, name: str) -> None:
    assert ask(service, name, LONG_S / 2) > 100
    assert service.client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text": "a" * (MAX_TEXT + 1)}, f"text: String should have at most {MAX_TEXT} characters"),
        ({"turns": [{"start_s": 0, "end_s": 1}] * (MAX_TURNS + 1)}, f"turns: List should have at most {MAX_TURNS}"),
    ],
    ids=["text", "turns"],
)
def test_its_large_limits_hold(service: Service, options: dict[str, Any], said: str) -> None:
    audio = base64.b64encode(wav(voice(0.5))).decode()
    answer = service.client.post("/v1/predict", json={"audio": audio, **options})
    assert answer.status_code == 422, answer.text[:500]
    assert answer.json()["error"]["code"] == "bad_option"
    assert said in answer.json()["error"]["message"]
