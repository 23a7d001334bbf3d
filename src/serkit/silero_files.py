"""Where the files of the package silero-vad are; it is not imported, because that loads torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from serkit.errors import SerkitError

PACKAGE = "silero-vad>=6.2.3,<6.3"  # as in pyproject.toml; a later version may have other weights


def find(name: str, purpose: str) -> Path:
    """A file in the data folder of the installed package.

    Args:
        name: of the file. purpose: what it is needed for, to begin the message with.

    Raises:
        SerkitError: the package or the file is not there; says what to install.
    """
    found = importlib.util.find_spec("silero_vad")
    places = list(found.submodule_search_locations or []) if found is not None else []
    if not places:
        raise SerkitError(f"{purpose} needs the package silero-vad, which is not installed: pip install '{PACKAGE}'")
    path = Path(places[0]) / "data" / name
    if not path.is_file():
        raise SerkitError(
            f"the silero-vad that is installed has no {name}, which {purpose} needs: pip install '{PACKAGE}'"
        )
    return path
