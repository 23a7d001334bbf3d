"""Packages that come with an extra of serkit, and the message if one is not installed."""

from __future__ import annotations

import importlib
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
