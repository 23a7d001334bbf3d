"""Weights that lie in another installed package, which is not imported: that would load what it needs itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import NamedTuple

from serkit.errors import MissingExtra, SerkitError


class Package(NamedTuple):
    """A package with weights: its name as it is imported, what pip installs, and how."""

    module: str
    requirement: str
    options: str = ""

    @property
    def name(self) -> str:
        """As pip calls it, without versions."""
        return self.requirement.split(">")[0]

    @property
    def install(self) -> str:
        """The command that installs it."""
        return " ".join(f"pip install {self.options} '{self.requirement}'".split())

    @property
    def reinstall(self) -> str:
        """The command that brings its files again, also where pip has the version, and nothing else."""
        return f"pip install --force-reinstall --no-deps '{self.requirement}'"


SILERO = Package("silero_vad", "silero-vad>=6.2.3,<6.3")  # as in pyproject.toml; a later version may have other weights
PIPECAT = Package("pipecat", "pipecat-ai>=1.0,<2", "--no-deps")  # one file of it is read; nothing that it needs is


def find(package: Package, name: str, purpose: str) -> Path:
    """A file in the folder of an installed package.

    Args:
        name: of the file, relative to the folder. purpose: what it is needed for, to begin the message with.

    Raises:
        MissingExtra: the package is not there. SerkitError: it has no such file. Both say what to install.
    """
    found = importlib.util.find_spec(package.module)
    places = list(found.submodule_search_locations or []) if found is not None else []
    if not places:
        raise MissingExtra(package.name, "", purpose, package.install)
    path = Path(places[0]) / name
    if not path.is_file():
        raise SerkitError(
            f"the {package.name} that is installed has no {path.name}, which {purpose} needs: {package.reinstall}"
        )
    return path
