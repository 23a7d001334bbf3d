"""What is set once for this machine: roots of corpora, folders of checkpoints, the cache, trusted plug-ins."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serkit.errors import SerkitError, check_known

KEYS = ("corpora", "checkpoints", "store", "plugins")


def config_path() -> Path:
    """``roots.yaml`` of this machine: the file, or in the folder, that ``SERKIT_CONFIG`` names, else of the user."""
    given = os.environ.get("SERKIT_CONFIG")
    if given:
        path = _expanded(given)
        return path if path.suffix in (".yaml", ".yml") else path / "roots.yaml"
    return _expanded(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "serkit" / "roots.yaml"


def load_config() -> Mapping[str, Any]:
    """``{corpora: {name: folder}, checkpoints: {name: folder}, store: folder, plugins: [module]}``, or empty.

    Raises:
        SerkitError: not YAML, or a key that is not known.
    """
    path = config_path()
    if not path.is_file():
        return {}
    from serkit.yaml_text import parse

    try:
        found = parse(path.read_text(encoding="utf-8"), str(path)) or {}
    except UnicodeDecodeError as error:
        raise SerkitError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(found, dict):
        raise SerkitError(f"{path}: expected a mapping with {', '.join(KEYS)}")
    for key in found:
        check_known(key, KEYS, f"{path}: unknown key '{key}'")
    return found


def cache_folder() -> Path:
    """Folder for what can be made again: ``SERKIT_CACHE``, else ``serkit`` in the user's cache folder."""
    given = os.environ.get("SERKIT_CACHE")
    if given:
        return _expanded(given)
    return _expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "serkit"


def store_folder(given: Path | None = None) -> Path:
    """The folder of features: as given, else as configured, else in the cache."""
    if given is not None:
        return given
    configured = load_config().get("store")
    return _path(configured, "store") if configured else cache_folder() / "store"


def corpus_root(corpus: str) -> Path | None:
    """The configured root of a corpus, if there is one."""
    return _folders("corpora").get(corpus)


def checkpoint_folders() -> dict[str, Path]:
    """Folder by checkpoint name, in place of the published source."""
    return _folders("checkpoints")


def plugins() -> tuple[str, ...]:
    """Modules and packages of the user's own that a bundle may import: ``SERKIT_PLUGINS``, else as configured.

    Raises:
        SerkitError: something else than a list of names stands in ``roots.yaml``.
    """
    given = os.environ.get("SERKIT_PLUGINS")
    found = load_config().get("plugins") or [] if given is None else given.split(",")
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise SerkitError(f"{config_path()}: plugins is {found!r}, expected a list of modules, such as [mylab]")
    return tuple(name.strip() for name in found if name.strip())


def _folders(key: str) -> dict[str, Path]:
    table = load_config().get(key) or {}
    if not isinstance(table, dict):
        raise SerkitError(f"{config_path()}: expected '{key}:' with a folder by name, got {type(table).__name__}")
    return {str(name): _path(value, f"{key}.{name}") for name, value in table.items()}


def _path(value: Any, key: str) -> Path:
    """A folder as written, relative to the file that names it."""
    if not isinstance(value, str):
        raise SerkitError(f"{config_path()}: {key} is {value!r}, expected a folder")
    return (config_path().parent / _expanded(value)).resolve()


def _expanded(path: str) -> Path:
    """With the home folder in the place of ``~``, which a user of a container may not have."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise SerkitError(
            f"{path}: this user has no home folder; set HOME, or SERKIT_CONFIG and SERKIT_CACHE to other folders"
        ) from None
