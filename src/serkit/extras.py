"""Packages: those that come with an extra of serkit, the message if one is not installed, and their versions."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

from serkit.errors import MissingExtra


def optional(module: str, extra: str, purpose: str, package: str = "") -> Any:
    """Import a module of an extra.

    Args:
        module: as it is imported. extra: that brings it. purpose: what it is needed for, a few words.
        package: what is installed, where it is called otherwise.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtra(package or module, extra, purpose) from None


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of Python and of packages by name, ``not installed`` of what is not here."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
