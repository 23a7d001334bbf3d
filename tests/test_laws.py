"""The three laws of the house (docs/architecture.md), held up by reading the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import serkit
from serkit import registry

SOURCE = Path(serkit.__file__).parent
TESTS = Path(__file__).parent

# Law 1: a room (a module or a folder) imports only from rooms above it. This is the one place that says the order.
_ORDER = """
    errors extras files yaml_text text_rows config cards types probabilities predictions
    journal progress hashes interrupts processes parameters registry
    settings evaluate_settings idle overrides recipe
    checkpoint_table emotion2vec_files checkpoint_files hub checkpoints fetching costs availability
    suffixes recordings counts protocols corpora across regions labels readers crossfit
    encoding bandwidth dsp recent tones noises not_speech containers riff remarks opening audio
    onnx_weights package_files segments
    foundation
    contents word_errors transcripts
    duplicates findings row_checks audit
    augment encoders
    copies
    shards store features batching residency engines sizes extraction
    metrics
    tensors layers layer_weights models losses loss_sum networks
    schedules examples sampling objective scoring first_values fitting soups training
    bootstrap paired combining pooling fitted_models stacking calibration conformal raters concordance groupings
    evaluation comparison leads exchanges gaps
    reporting listing pipeline serving console commands cli __main__
"""
ORDER = tuple(_ORDER.split())
HEAVY = ("torch", "sklearn", "transformers", "scipy", "matplotlib", "pyarrow")
TORCH_ROOMS = {
    "tensors", "layers", "layer_weights", "models", "losses", "loss_sum", "networks", "sampling", "objective",
    "scoring", "first_values", "fitting", "soups", "training",
}  # fmt: skip


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def sources() -> list[Path]:
    return sorted(p for p in SOURCE.rglob("*.py") if p != SOURCE / "__init__.py" and "recipes" not in p.parts)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a file imports from, also inside functions and for type checkers."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module == "serkit":
            found |= {alias.name for alias in node.names if not alias.name.startswith("__")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("serkit."):
            found.add(str(node.module).split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("serkit.")}
    return found - {room(path)}


def test_every_room_has_its_place_in_the_order():
    assert len(set(ORDER)) == len(ORDER)
    assert {room(p) for p in sources()} == set(ORDER)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_module_imports_only_from_above(path):
    place = {name: k for k, name in enumerate(ORDER)}
    below = {name for name in imported_rooms(path) if place[name] > place[room(path)]}
    assert not below, f"{path.relative_to(SOURCE)} imports from rooms below it: {sorted(below)}"


def test_no_relative_import_hides_from_the_law():
    for path in sources():
        for node in ast.walk(parsed(path)):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path


@pytest.mark.parametrize("kind", registry.Kind.__args__)
def test_a_file_is_one_public_callable_with_its_test(kind):
    for name in registry.names(kind):
        path = SOURCE / kind / f"{name}.py"
        public = [
            node.name
            for node in parsed(path).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        ]
        assert public in ([name], [registry.camel_case(name)]), f"{path.name}: {public}"
        assert (TESTS / kind / f"test_{name}.py").is_file(), f"tests/{kind}/test_{name}.py is missing"


def test_files_are_short_and_well_named():
    for path in sources():
        assert path.name != "utils.py"
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
    for path in [*SOURCE.rglob("*.py"), *TESTS.rglob("*.py")]:
        assert path.name.islower(), path


def loads(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["serkit", "serkit.types", "serkit.recipe", "serkit.evaluation", "serkit.stacking"])
def test_what_starts_the_command_line_is_light(module):
    assert not loads(f"import {module}") & {"torch", "sklearn", "transformers"}


def test_help_and_lists_load_nothing_heavy():
    asked = [["--help"], ["run", "--help"], ["losses"], ["recipes"], ["corpora", "--json"]]
    statement = (
        f"import io, contextlib\nfrom serkit.cli import app\nfor words in {asked!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n        app(words, standalone_mode=False)"
    )
    assert not loads(statement) & {"torch", "sklearn", "transformers", "scipy", "matplotlib"}


def test_torch_is_imported_at_the_top_in_torch_rooms_alone():
    for path in sources():
        top = parsed(path).body
        names = {a.name.split(".")[0] for n in top if isinstance(n, ast.Import) for a in n.names}
        names |= {str(n.module).split(".")[0] for n in top if isinstance(n, ast.ImportFrom)}
        if names & set(HEAVY):
            assert names & set(HEAVY) <= {"torch"}, path
            assert room(path) in TORCH_ROOMS or path.parent.name == "foundation", path


def test_nothing_prints_or_asserts_outside_the_command_line():
    for path in sources():
        if room(path) in ("cli",):
            continue
        for node in ast.walk(parsed(path)):
            assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"), path
            assert not isinstance(node, ast.Assert), path


def test_commands_print_what_others_named_by_say():
    """Control characters of names reach no terminal; JSON has escapes of its own, a moving line needs its return."""
    for path in (SOURCE / "commands").glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if "typer.echo(" in line and path.name != "options.py":
                assert re.search(r"json|\\r|\{start\}|__version__", line), f"{path.name}: {line.strip()}"


def test_the_tables_of_a_run_open_without_serkit(finished):
    """Law 3: only plain tables cross a border."""
    code = f"""
import json, sys
from functools import cache
from pathlib import Path
import numpy, pyarrow.parquet, safetensors.numpy, yaml
run = Path({str(finished)!r})
rows = [json.loads(line) for line in (run / "manifest.jsonl").read_text().split("\\n") if line]
assert {{"id", "audio", "emotion"}} <= set(rows[1])
assert pyarrow.parquet.read_table(run / "predictions" / "sound.test.parquet").num_rows > 0
assert yaml.safe_load((run / "recipe.yaml").read_text())["name"] == "small"
assert json.loads((run / "report" / "report.json").read_text())["systems"]["sound"]
assert safetensors.numpy.load_file(run / "systems" / "sound" / "fold0" / "model.safetensors")
features = json.loads(next((run / "features").glob("*.json")).read_text())
shard = next(Path(features["store"]).rglob("*.npy"))
assert numpy.load(shard, mmap_mode="r").ndim == 2
assert "serkit" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_ignore_has_its_reason():
    """``# noqa: X  # why`` or ``# noqa: X - why``; the same of mypy's."""
    bare = re.compile(r"# (noqa: [A-Z0-9, ]+|type: ignore\[[a-z, -]+\])\s*$|# (noqa|type: ignore)\s*$")
    found = [
        f"{p.name}:{n}" for p in sources() for n, line in enumerate(p.read_text().splitlines(), 1) if bare.search(line)
    ]
    assert found == []


@cache
def defined(path: Path) -> set[str]:
    """Whatever a file gives a name to: functions, classes, their members, constants, and what it imports."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def leads_somewhere(name: str) -> bool:
    """Whether ``serkit.room.module.Name.member`` is there: the module, and all names after it in its file."""
    parts, place = name.split(".")[1:], SOURCE
    while parts and (place / parts[0]).is_dir():
        place = place / parts.pop(0)
    if not parts:
        return True  # a folder
    file = place / f"{parts[0]}.py"
    names, file = (parts[1:], file) if file.is_file() else (parts, place / "__init__.py")
    return file.is_file() and set(names) <= defined(file)


def test_what_a_docstring_refers_to_is_there():
    text = {path: path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py")}
    found = {(path.name, name) for path in text for name in re.findall(r":\w+:`~?(serkit\.[\w.]+)`", text[path])}
    assert len(found) > 100
    assert sorted(x for x in found if not leads_somewhere(x[1])) == []
