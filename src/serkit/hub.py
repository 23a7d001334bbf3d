"""The hub of pretrained models: the package that talks to it, what it raises, and whether it can be reached."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from serkit.extras import optional

REACH_S = 10.0  # an answer within this time, of whatever kind, says that the hub is reached


def hub_package(name: str) -> Any:
    """The package that speaks to the hub.

    Args:
        name: of the encoder that needs it, for the message.

    Raises:
        MissingExtra: it is not installed.
    """
    hub = optional("huggingface_hub", "foundation", f"encoder '{name}'")
    for part in ("constants", "errors", "utils"):
        importlib.import_module(f"huggingface_hub.{part}")
    return hub


def hub_errors(hub: Any) -> tuple[type[Exception], ...]:
    """What a call to the hub raises when it fails: the package's own errors, and those of its network client."""
    found: list[type[Exception]] = [OSError, ValueError, hub.errors.HfHubHTTPError]
    for client in ("httpx", "httpx2"):  # its name changed between versions
        if client in sys.modules:
            found.append(sys.modules[client].HTTPError)
    return tuple(found)


def why(error: Exception) -> str:
    """What a call to the hub failed of, in a word; with the way out where the hub shows a model to members alone."""
    name = type(error).__name__
    if name not in ("GatedRepoError", "RepositoryNotFoundError"):
        return name
    return f"{name}: there is none, or only members see it; for these, ask for access on its page and set HF_TOKEN"


def unreached(hub: Any) -> str:
    """Why the hub is not reached from this machine, a word; empty where it answers, be it with a refusal.

    Asks once, for at most :data:`REACH_S`: the package itself tries five times over 23 s, says so each time, and does
    it again for every model.
    """
    try:
        hub.utils.get_session().head(hub.constants.ENDPOINT, timeout=REACH_S)
    except hub_errors(hub) as error:
        return type(error).__name__
    return ""
