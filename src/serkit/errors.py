"""What serkit raises, and the 'did you mean' at the end of its messages."""

from __future__ import annotations

import difflib
import re
import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence

# of terminals (all but tab and newline), and marks that change the direction or the line of what follows
_CONTROLS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069]")
_JOINERS = dict.fromkeys(map(ord, "\u00a0\u200c\u200d\u3000"))  # and spaces, which str.isprintable refuses


class SerkitError(Exception):
    """The input or the usage is wrong; the message is one line a user can act on.

    Attributes:
        exit_code: what the command line exits with.
    """

    exit_code = 2


class RunFailed(SerkitError):
    """The work was asked for correctly and failed: a full disk, a diverged loss, a dead worker."""

    exit_code = 1


class DiskFull(RunFailed):
    """The disk is full: a file could not be written; nothing of it is left behind."""


class Stopped(SerkitError):
    """Ctrl-C ended work that the same command takes up again; see :func:`serkit.interrupts.resumable`."""

    exit_code = 130


class MissingExtra(SerkitError):
    """A package of an optional extra is needed and not installed.

    Args:
        package: distribution that could not be imported, such as ``opensmile``.
        extra: the extra of serkit that brings it.
        purpose: what it is needed for, a few words.
        install: the command that installs it, where that is not the one of the extra.
    """

    def __init__(self, package: str, extra: str, purpose: str, install: str = "") -> None:
        command = install or f"pip install 'serkit[{extra}]'"
        super().__init__(f"{purpose} needs the package '{package}', which is not installed: {command}")


def plain(error: SerkitError) -> SerkitError:
    """The same message as one of the two kinds that are made of a message alone, and can travel between processes.

    >>> plain(DiskFull("the disk is full"))
    RunFailed('the disk is full')
    """
    return RunFailed(str(error)) if isinstance(error, RunFailed) else SerkitError(str(error))


def refuse(errors: Sequence[SerkitError]) -> None:
    """Raise what was gathered: one error as it is, several in one line, none not at all.

    Raises:
        SerkitError: there is one.
    """
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise SerkitError("; ".join(dict.fromkeys(str(error) for error in errors)))


def in_one_line(error: Exception, files: Collection[str] = ()) -> str:
    """Kind and message of an error that a file of the user's own raised, and the line it comes from.

    Args:
        files: names of files, of which the last that the error passed through is named; empty: wherever it was raised.
    """
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} ({error.filename}, line {error.lineno})"
    said = " ".join(str(error).split())
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    at = [f"{f.filename}, line {f.lineno}" for f in frames if not files or f.filename in files] or sorted(files)
    return f"{type(error).__name__}: {said}" + (f" ({at[-1]})" if at else "")


def without(reasons: Mapping[str, str], total: int, what: str) -> str:
    """One line about utterances that lack something: how many, the first with their reasons, and how to go on.

    >>> without({"a": "empty file"}, 9, "no features")
    "1 of 9 utterances have no features: 'a' (empty file). Repair them and run again, or leave them out by name in \
the recipe: exclude: [a]"
    """
    shown = "; ".join(f"'{name}' ({reason})" for name, reason in list(reasons.items())[:3])
    more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
    names = ", ".join(list(reasons)[:20]) + (", …" if len(reasons) > 20 else "")
    return (
        f"{len(reasons)} of {total} utterances have {what}: {shown}{more}. Repair them and run again, or leave "
        f"them out by name in the recipe: exclude: [{names}]"
    )


def visible(text: str) -> str:
    """Text for a terminal: characters that would control it, as a name or a transcript may hold, are written out.

    >>> visible("a \\x1b[31mred\\n")
    'a \\\\x1b[31mred\\n'
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def on_one_line(name: object) -> bool:
    """Whether a name is text that can be printed on one line; what joins letters of Persian or parts of emoji can be.

    >>> on_one_line("بی\\u200cتفاوت"), on_one_line("a\\nb"), on_one_line("\\x1b[31mred")
    (True, False, False)
    """
    return isinstance(name, str) and name.translate(_JOINERS).isprintable()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or the list of all, or nothing.

    >>> did_you_mean("focall", ["focal", "cross_entropy"])
    "; did you mean 'focal'?"
    >>> did_you_mean("RAVDES", ["ravdess", "table"])
    "; did you mean 'ravdess'?"

    Of names such as ``FAMILY/SIZE``, those of the same family are nearer than any other.

    >>> did_you_mean("hubert/large", ["hubert/base-ls960", "hubert/large-ls960-ft", "roberta/large"])
    "; did you mean 'hubert/large-ls960-ft'?"
    """
    choices = sorted(set(known))
    family, slash, _ = name.partition("/")
    if slash and (related := [choice for choice in choices if choice.startswith(f"{family}/")]):
        choices = related
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if not near:  # in another case
        lower = {choice.lower(): choice for choice in reversed(choices)}
        near = [lower[found] for found in difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.6)]
    if near:
        return f"; did you mean '{near[0]}'?"
    if choices and len(choices) <= 20:
        return f"; known: {', '.join(choices)}"
    return ""


def check_known(name: object, known: Collection[str], said: str, listed: str = "") -> None:
    """Refuse a name that is none of the known ones.

    Args:
        listed: the command that lists them, named where they are many and none is near.

    >>> check_known("focall", ["focal"], "no loss 'focall'")
    Traceback (most recent call last):
        ...
    serkit.errors.SerkitError: no loss 'focall'; did you mean 'focal'?

    Raises:
        SerkitError: ``said``, and the nearest.
    """
    if name not in known:
        raise SerkitError(said + (did_you_mean(str(name), known) or (f"; {listed} lists them" if listed else "")))
