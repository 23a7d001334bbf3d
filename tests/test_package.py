"""What is shipped: the wheel's content, the base install's promises, and doors that open quickly."""

from __future__ import annotations

import ast
import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from serkit import package_files

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "serkit"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMPORT_NAMES = {
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "faster-whisper": "faster_whisper",
    "huggingface-hub": "huggingface_hub",
    "onnxruntime": "onnxruntime",
    "pipecat-ai": "pipecat",
    "tensorboardx": "tensorboardX",
}
COMES_WITH = {  # imported here, brought by a declared package that cannot be without it
    "huggingface_hub": "transformers",
    "click": "typer",
    "threadpoolctl": "sklearn",
}
HEAVY = ("torch", "sklearn", "scipy", "transformers", "pyarrow", "matplotlib", "pandas", "soundfile", "accelerate")


def packages(requirements: list[str]) -> set[str]:
    """Import names of requirement lines."""
    names = {re.split(r"[<>=!~\[; ]", line, maxsplit=1)[0].lower() for line in requirements}
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}


def imported() -> dict[str, set[str]]:
    """Third-party package to the files of serkit that import it."""
    found: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules = [node.module]
            for module in modules:
                top = module.split(".")[0]
                if top != "serkit" and top not in sys.stdlib_module_names:
                    found.setdefault(top, set()).add(str(path.relative_to(SOURCE)))
    return found


def test_every_import_is_declared() -> None:
    base = packages(PROJECT["dependencies"])
    extras = {name: packages(lines) for name, lines in PROJECT["optional-dependencies"].items() if name != "dev"}
    known = base.union(*extras.values())
    known |= {name for name, owner in COMES_WITH.items() if owner in known}
    undeclared = {name: sorted(files) for name, files in imported().items() if name not in known}
    assert undeclared == {}


def test_every_dependency_is_used() -> None:
    assert packages(PROJECT["dependencies"]) - set(imported()) == {package_files.SILERO.module}


SAFE = {"skops": "0.12", "starlette": "0.49.1", "torch": "2.6"}  # what files and requests of others could do before


def test_no_version_is_allowed_that_a_file_of_others_makes_run_code() -> None:
    asked = [*PROJECT["dependencies"], *itertools.chain(*PROJECT["optional-dependencies"].values())]
    for file in (ROOT / "docker").glob("*.txt"):
        asked += [line for line in file.read_text(encoding="utf-8").splitlines() if line[:1].isalpha()]
    bounds = {match[0] for line in asked for name in SAFE if (match := re.match(rf"{name}\b[^;,]*", line))}
    assert bounds == {f"{name}>={version}" for name, version in SAFE.items()}


def test_what_is_read_and_not_imported_is_asked_for_as_it_is_declared() -> None:
    assert package_files.SILERO.requirement in PROJECT["dependencies"]


def test_the_base_install_needs_no_heavy_audio_stack() -> None:
    refused = {"torchaudio", "librosa", "ffmpeg", "ffmpeg_python", "av", "numba", "pydub", "tensorflow", "transformers"}
    assert packages(PROJECT["dependencies"]) & refused == set()
    for path in (ROOT / "constraints.txt",):
        lines = [x for x in path.read_text(encoding="utf-8").splitlines() if x and not x.startswith("#")]
        assert "torch==2.13.0" in lines


@pytest.mark.parametrize("code", ["import serkit", "import serkit.cli", "import serkit.recipe, serkit.corpora.ravdess"])
def test_light_doors_load_nothing_heavy(code: str) -> None:
    check = f"{code}\nimport sys, json\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("room", ["evaluation", "stacking", "comparison", "readers", "listing"])
def test_rooms_without_torch(room: str) -> None:
    check = f"import serkit.{room}, sys\nprint('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "False"]


def test_version_stands_once() -> None:
    import serkit

    assert PROJECT["version"] == serkit.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{serkit.__version__}]" in changes or "## [Unreleased]" in changes


def test_the_command_is_installed() -> None:
    try:
        scripts = metadata.distribution("serkit").entry_points
    except metadata.PackageNotFoundError:
        pytest.skip("serkit is on the path but not installed")
    assert {s.name: s.value for s in scripts if s.group == "console_scripts"} == PROJECT["scripts"]


@pytest.mark.slow
def test_the_wheel_holds_everything(tmp_path: Path) -> None:
    """Built from a copy of the tracked files, as a release would be."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        if name.startswith(("src/", "pyproject", "README", "LICENSE")) and (ROOT / name).is_file():
            target = tmp_path / "tree" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "-w",
        str(tmp_path),
        str(tmp_path / "tree"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and "setuptools" in done.stdout + done.stderr and "No matching" in done.stdout + done.stderr:
        pytest.skip("no package index at hand to build with")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
        licence = [n for n in inside if n.endswith("LICENSE")]
    expected = {f"serkit/{p.relative_to(SOURCE).as_posix()}" for p in SOURCE.rglob("*.py")}
    expected |= {f"serkit/recipes/{p.name}" for p in (SOURCE / "recipes").glob("*.yaml")}
    expected |= {f"serkit/reporting/templates/{p.name}" for p in (SOURCE / "reporting" / "templates").glob("*")}
    expected.add("serkit/py.typed")
    assert expected - inside == set()
    assert licence
    assert not [n for n in inside if n.startswith(("tests/", "benchmarks/", "docs/"))]


def test_nothing_is_reported_to_the_maker_of_onnxruntime(tmp_path: Path) -> None:
    """Where it reports, it keeps a file on its session among the temporary ones."""
    code = "import serkit, onnxruntime"
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], check=True, env={**environment, "TMPDIR": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []
