"""Log lines for unexpected errors: their type and where they happened, never their message.

Words of an error are made of what was being worked on, which here is somebody's recording, its transcript or its name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from serkit.errors import RunFailed

LOG = logging.getLogger("serkit.serving")
_NOT_LOADED = f"{RunFailed.__module__}.{RunFailed.__name__}: "  # as a traceback ends with it
_PLACES = 8  # the last of them; what is above is the framework's


def where(error: BaseException) -> str:
    """Kind and places of an error and of what it came from, in one line without its words.

    >>> try:
    ...     {}["a name"]
    ... except KeyError as error:
    ...     where(error).partition(" at ")[0]
    'KeyError'
    """
    said, seen = [_alone(error)], {id(error)}
    while (cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__)) is not None:
        if id(cause) in seen:
            break
        seen.add(id(cause))
        said.append(_alone(cause))
        error = cause
    return ", from ".join(said)


def _alone(error: BaseException) -> str:
    kind = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        kind += f" ({os.strerror(error.errno)})"  # the system's words, not the error's, which name a file
    if isinstance(error, BaseExceptionGroup):
        kind += f" of {'; '.join(where(one) for one in error.exceptions[:3])}"
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)][-_PLACES:]
    places = [f"{'/'.join(Path(code.co_filename).parts[-3:])}:{line} {code.co_name}" for code, line in frames]
    return kind + (f" at {' > '.join(places)}" if places else "")


class Wordless(logging.Filter):
    """Has a record say where an error happened in place of its traceback, whose last line are its words.

    That the service was ended at once, by a second signal, is no error: the traceback of it is not logged. Nor is that
    of a model that cannot be loaded, which the command says in a line of its own, nor are lines that name a client.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is logged; it may say less."""
        message = record.getMessage()
        if record.levelno <= logging.INFO and ('"WebSocket ' in message or message.startswith("connection ")):
            return False  # uvicorn's lines for a stream have the address of the client, and its query
        if message.startswith("Traceback"):
            last = message.rstrip().rpartition("\n")[2]
            if last.endswith("CancelledError") or last.startswith(_NOT_LOADED):
                return False
        if record.exc_info and record.exc_info[1] is not None:
            record.msg, record.args = f"{record.getMessage().strip()}: {where(record.exc_info[1])}", ()
            record.exc_info = record.exc_text = None
        return True


def of_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What an event loop says of an error that nobody waited for; its own way names what was worked on."""
    error = context.get("exception")
    LOG.error("%s%s", context["message"], "" if error is None else f": {where(error)}")


def of_interpreter(unraisable: sys.UnraisableHookArgs) -> None:
    """What the interpreter says of an error that could be raised nowhere, as of a connection that has vanished."""
    error = unraisable.exc_value
    said = unraisable.err_msg or "Exception ignored"
    LOG.error("%s: %s", said, unraisable.exc_type.__name__ if error is None else where(error))
