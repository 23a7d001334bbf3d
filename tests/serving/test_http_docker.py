"""The Dockerfile and the compose file: held to what the code needs, since no image is built here."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from packaging.requirements import Requirement

from serkit import package_files

from .signals import GOLDEN

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["serkit"]
LOADED = f"""
import asyncio, json, sys
import numpy as np
from serkit.cli import app as program
from serkit.serving.http import app, server
from serkit.serving.http.answering import Answerer
from serkit.serving.http.worker import Task
sys.path.insert(0, "tests")
from serving.signals import talk, wav
answerer = Answerer({str(GOLDEN)!r})
found = answerer.predict([Task(wav(talk(2), 8000)), Task(wav(talk(2), kind="FLAC"))], [None, None], print)
assert all(isinstance(x, dict) for x in found), found
app.create_app().openapi()
print(json.dumps(sorted({{m.split(".")[0] for m in sys.modules}})))
"""


def requirements(name: str) -> list[Requirement]:
    lines = (ROOT / "docker" / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(x) for x in lines if x and not x.startswith(("#", "-"))]


def closure(wanted: list[Requirement]) -> set[str]:
    """Distributions that come with some requirements, by the metadata of what is installed here."""
    found: set[str] = set()
    left = [(r.name, tuple(r.extras)) for r in wanted]
    while left:
        name, extras = left.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        found.add(key)
        for line in metadata.requires(name) or []:
            inner = Requirement(line)
            environments = [{"extra": e} for e in ("", *extras)]
            if inner.marker is None or any(inner.marker.evaluate(e) for e in environments):
                inner_key = re.sub(r"[-_.]+", "-", inner.name).lower()
                if inner_key not in found:
                    left.append((inner.name, tuple(inner.extras)))
    return found


def test_the_image_has_all_that_the_service_imports_and_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    owners = metadata.packages_distributions()
    packages = {re.sub(r"[-_.]+", "-", owners[m][0]).lower() for m in loaded if m in owners}
    there = closure(requirements("requirements.txt")) | {"serkit", "pip", "setuptools"}
    assert packages - there == set()
    assert there & {"torch", "scikit-learn", "scipy", "pyarrow", "pandas", "transformers"} == set()


def test_versions_are_those_of_the_project() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(x for v in project["optional-dependencies"].values() for x in v)]
    known = {r.name: r.specifier for r in map(Requirement, lines)}
    for name in ("requirements.txt", "training.txt"):
        for r in requirements(name):
            assert r.specifier == known[r.name], r


def test_weights_that_encoders_read_are_in_the_image_without_torch() -> None:
    assert requirements("weights.txt") == [Requirement(package_files.SILERO.requirement)]
    assert "--no-deps --requirement docker/weights.txt" in DOCKERFILE


def test_the_image_copies_what_is_there_and_runs_as_nobody() -> None:
    listed = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M):
        for name in line.split():
            assert (ROOT / name).exists(), name
            assert f"!{name}" in listed, name
    assert re.search(r"^USER \d+$", DOCKERFILE, re.M)
    assert re.search(r"^HEALTHCHECK", DOCKERFILE, re.M)
    assert "ORT_DISABLE_TELEMETRY=1" in DOCKERFILE


def test_the_commands_of_image_and_compose_are_understood() -> None:
    from typer.main import get_command

    from serkit.cli import app

    entry = re.search(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.M)
    assert entry
    words = [*json.loads(entry[1]), *COMPOSE["command"]]
    assert words[:2] == ["serkit", "serve"]
    serve = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    with serve.make_context("serve", words[2:], resilient_parsing=False) as context:
        assert context.params["host"] == "0.0.0.0"
        assert context.params["job_max_mb"] == 500


def test_compose_leaves_nothing_on_disk_and_time_to_finish() -> None:
    from serkit.serving.http.settings import ServiceSettings

    settings = ServiceSettings(job_max_mb=500)
    assert COMPOSE["read_only"] is True
    size = re.search(r"/tmp:size=(\d+)m", COMPOSE["tmpfs"][0])
    assert size
    assert int(size[1]) * 1e6 > settings.held_bytes
    assert int(COMPOSE["stop_grace_period"].removesuffix("s")) > settings.grace_s + 5
    assert COMPOSE["ports"][0].startswith("127.0.0.1:")
    assert COMPOSE["cap_drop"] == ["ALL"]


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="hadolint is not installed")
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(shlex.split("hadolint Dockerfile"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
