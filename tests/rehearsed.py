"""A recipe that is prepared, as far as the first work."""

from __future__ import annotations

from made import made_manifest
from serkit import pipeline
from serkit.recipe import parse_recipe


def prepare(tmp_path, system, manifest=None):
    text = f"name: r\nsystems:\n  mine: {{features: [logmel/24], {system}}}\ncrossfit: null\nstack: null\n"
    return pipeline.prepare(parse_recipe(text), manifest or made_manifest(), tmp_path / "run")
