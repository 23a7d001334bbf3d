"""The recordings that files and folders of a command line stand for, each once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from serkit.errors import SerkitError
from serkit.progress import Meter, ProgressCallback
from serkit.serving import example, formats
from serkit.serving.resuming import STDIN
from serkit.suffixes import CONTAINERS, SOUND

_AUDIO = frozenset({*SOUND, *CONTAINERS})
SOON_S = 2.0  # what is found or looked at by then needs no word


def gather(
    inputs: Sequence[str],
    complain: Callable[[str], None] = lambda line: None,
    progress: ProgressCallback | None = None,
) -> list[str]:
    """Files, and the recordings in folders, sorted within each; each once.

    Args:
        complain: told in one line of a folder that cannot be read; the others count all the same.
        progress: told how many are found, where that takes a while.

    Raises:
        SerkitError: nothing given, a folder without recordings, ``-`` beside other inputs.
    """
    if not inputs:
        raise SerkitError("nothing to predict: give a recording, a folder, or - for standard input")
    if STDIN in inputs and len(inputs) > 1:
        raise SerkitError("- (standard input) cannot be combined with files; give them in another call")
    found: dict[str, None] = {}
    seen: set[str] = set()
    unread: list[OSError] = []
    meter = Meter("find", 0, progress, unit="files found", after_s=SOON_S)
    for given in map(example.recording, inputs):
        path = Path(given)
        if given == STDIN or not os.path.isdir(given):  # noqa: PTH112  # Path raises where it may not look
            found[given] = None
            continue
        known, n_unread = os.path.realpath(path) in seen, len(unread)
        inside = _inside(path, seen, unread.append, meter.advance)
        if not inside and not known and len(unread) == n_unread:
            raise SerkitError(f"{given}: no recordings in this folder ({', '.join(SOUND[:6])} …)")
        found.update(dict.fromkeys(map(str, inside)))
    for error in unread:
        complain(formats.shown(f"{error.filename}: this folder cannot be read: {error.strerror or error}"))
    return list(found)


def _inside(
    folder: Path, seen: set[str], unread: Callable[[OSError], None], found_more: Callable[[int], None]
) -> list[Path]:
    """The recordings in a folder and below it, by name; hidden ones left alone.

    Links to folders are followed after the folders themselves, so that a recording keeps its own name where both lead
    to it; a link to a folder that holds this one is not.

    Args:
        seen: true paths of folders, to which this adds; those that are in it are left out.
        unread: is handed the error of a folder that cannot be read. found_more: how many are found in one.
    """
    found: list[Path] = []
    above = {os.path.realpath(folder), *map(str, Path(os.path.realpath(folder)).parents)}
    pending = [folder]
    while pending:
        for at, folders, names in os.walk(pending.pop(0), onerror=unread):
            here = os.path.realpath(at)
            if here in seen:
                folders.clear()
                continue
            seen.add(here)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            links = [Path(at, name) for name in folders if Path(at, name).is_symlink()]
            pending += [link for link in links if os.path.realpath(link) not in above]
            paths = [Path(at, n) for n in names if not n.startswith(".")]
            heard = [p for p in paths if p.suffix.lower() in _AUDIO]
            found += heard
            found_more(len(heard))
    return sorted(found, key=lambda path: path.parts)  # as paths themselves are, only faster
