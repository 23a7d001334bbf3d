"""Files of the user's own that a recipe names: a run and stored features belong to the code they were made with.

What a file is is a hash of its lines, without blank ones and those of a comment. What it imports is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from serkit import registry
from serkit.encoding import Encoder
from serkit.errors import SerkitError
from serkit.files import fingerprint, write_json
from serkit.pipeline.run import Run
from serkit.recipe import Recipe
from serkit.text_rows import json_object

RECORD = "own_files.json"
"""In a run: hash by part. In a store: hash by the fingerprint of an encoder's spec."""


def write_record(folder: Path, recipe: Recipe) -> None:
    """Write down what the parts of the user's own are as a run begins; nothing where the recipe has none."""
    if parts := _hashes(recipe):
        write_json(folder / RECORD, parts)


def check_record(run: Run) -> None:
    """Refuse to go on with networks that other code made; a run without a record gets one.

    Raises:
        SerkitError: a file has changed since the run was prepared.
    """
    before = _read(run.folder / RECORD)
    for part, code in _hashes(run.recipe).items():
        if before.get(part, code) != code:
            raise SerkitError(
                f"{run.folder} was made with another version of {part}, whose file has changed since; choose another "
                "--out, or restore the file"
            )
    if not before:
        write_record(run.folder, run.recipe)


def check_store(store: Path, recipe: Recipe, encoders: dict[str, Encoder]) -> None:
    """Refuse features in a store that another version of an encoder of the user's own made; remembers new ones.

    Args:
        encoders: of the recipe, by feature key.

    Raises:
        SerkitError: the file of an encoder has changed, and its spec has not.
    """
    known = _read(store / RECORD)
    found = dict(known)
    for key, feature in recipe.features.items():
        code = _hash("encoders", feature.family) if "." in feature.family else None
        if code is None:
            continue
        spec = encoders[key].spec
        if found.setdefault(spec.fingerprint, code) != code:
            raise SerkitError(
                f"encoder '{feature.name}': its file has changed, and {store} has features of its earlier spec: give "
                f"its spec another revision (now '{spec.revision}'), or use another --store"
            )
    if found != known:
        write_json(store / RECORD, found)


def _read(path: Path) -> dict[str, str]:
    return json_object(path) if path.is_file() else {}


def _parts(recipe: Recipe) -> Iterator[tuple[registry.Kind, str]]:
    for system in recipe.systems.values():
        yield "models", system.model.name
        yield from (("losses", loss.name) for stage in system.stages for loss in stage.losses)
        yield from (("augment", step.name) for step in system.augment)
        yield from (("encoders", feature.family) for feature in system.features)
    yield from (("augment", step.name) for copy in recipe.copies for step in copy)


def _hashes(recipe: Recipe) -> dict[str, str]:
    """Hash by what a message calls the part, of the user's own alone."""
    own = {(kind, name): _hash(kind, name) for kind, name in _parts(recipe) if "." in name}
    return {f"{registry.singular(kind)} '{name}'": code for (kind, name), code in own.items() if code is not None}


def _hash(kind: registry.Kind, name: str) -> str | None:
    """Of the lines of the part's file; ``None`` where it has no file."""
    for file in registry.file_of(kind, name):
        lines = [line.rstrip() for line in Path(file).read_text(encoding="utf-8").splitlines()]
        return fingerprint([line for line in lines if line and not line.lstrip().startswith("#")])
    return None
