"""Where things lie on this machine: roots of corpora, folders of checkpoints, the cache. Never in a recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serkit.errors import SerkitError, did_you_mean

KEYS = ("corpora", "checkpoints", "store")


def config_path() -> Path:
    """``roots.yaml``: of ``SERKIT_CONFIG``, else in the user's configuration folder."""
    given = os.environ.get("SERKIT_CONFIG")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "serkit" / "roots.yaml"


def load_config() -> Mapping[str, Any]:
    """``{corpora: {name: folder}, checkpoints: {name: folder}, store: folder}``; empty where there is no file.

    Raises:
        SerkitError: not YAML, or a key that is not known.
    """
    path = config_path()
    if not path.is_file():
        return {}
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SerkitError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise SerkitError(f"{path}: expected a mapping with {', '.join(KEYS)}")
    for key in found:
        if key not in KEYS:
            raise SerkitError(f"{path}: unknown key '{key}'" + did_you_mean(str(key), KEYS))
    return found


def cache_folder() -> Path:
    """The user's cache folder of serkit."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "serkit"


def store_folder(given: Path | None = None) -> Path:
    """Where features lie: as given, else as configured, else in the cache."""
    if given is not None:
        return given
    configured = load_config().get("store")
    return Path(str(configured)).expanduser() if configured else cache_folder() / "store"


def corpus_root(corpus: str) -> Path | None:
    """The configured root of a corpus, if there is one."""
    roots = load_config().get("corpora") or {}
    found = roots.get(corpus) if isinstance(roots, dict) else None
    return Path(str(found)).expanduser() if found else None
