"""Tiny checkpoints of the real classes in the place of published ones, as this machine's ``roots.yaml`` may say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml


def in_roots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: Mapping[str, Mapping[str, Any]]
) -> dict[str, Path]:
    """A folder for each name, with what its configuration has otherwise; nothing is asked of the hub."""
    from serkit.foundation.tiny import tiny_folder

    monkeypatch.setenv("SERKIT_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("SERKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    made = {
        name: tiny_folder(name.split("/")[0], tmp_path / "models" / name.replace("/", "-"), **changes)
        for name, changes in names.items()
    }
    (tmp_path / "config").mkdir()
    table = yaml.safe_dump({"checkpoints": {name: str(folder) for name, folder in made.items()}})
    (tmp_path / "config" / "roots.yaml").write_text(table)
    return made
