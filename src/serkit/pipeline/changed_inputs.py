"""Recordings and texts that have changed since the features of a run were computed: its numbers are not of these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from serkit.contents import item_key, text_key
from serkit.errors import SerkitError
from serkit.hashes import ContentHashes
from serkit.pipeline.run import Machine, Run
from serkit.progress import Meter
from serkit.text_rows import json_object
from serkit.types import Manifest


def unchanged(run: Run, machine: Machine, listener: Callable[[Any], None] | None = None) -> bool:
    """Whether features are still of the recordings and texts as they are; ``True`` where nothing is extracted.

    Files are read only where their time or size is another one. What is gone is not compared: a finished run needs
    neither its recordings nor its store.

    Args:
        listener: told the progress of reading, if there is something to read.

    Returns:
        ``False`` where features have to be extracted again: something has changed, and no network has begun.

    Raises:
        SerkitError: something has changed, and there are networks, which learned from what was there before.
    """
    then: dict[str, dict[str, str]] = {"audio": {}, "text": {}}
    store = Path()
    for path in sorted((run.folder / "features").glob("*.json")):
        row = json_object(path)
        then.get(row.get("modality", ""), {}).update(row.get("keys", {}))  # runs of earlier versions do not say it
        store = Path(row["store"]).parent
    what, names = "recording", []
    if then["audio"]:
        names = _other_recordings(run.manifest, then["audio"], store / "hashes.jsonl", machine, listener)
    if then["text"] and not names:
        what, names = "transcript", _other_texts(run, then["text"])
    if names and any((run.folder / "systems").glob("*/*")):
        more = f" (and of {len(names) - 1} more)" if len(names) > 1 else ""
        raise SerkitError(
            f"the {what} of '{names[0]}'{more} has changed since {run.folder} was made, and its networks learned from "
            "what was there before; choose another --out, or restore it"
        )
    return not names


def _other_recordings(
    manifest: Manifest, then: dict[str, str], kept: Path, machine: Machine, listener: Callable[[Any], None] | None
) -> list[str]:
    """Ids whose file has other bytes than those that the keys were made of."""
    if not kept.parent.is_dir():
        return []
    rows = [u for u in manifest if u.id in then]
    paths = {u.id: manifest.audio_path(u) for u in rows}
    hashes = ContentHashes(kept)
    known = hashes.known(list(paths.values()))
    unread = [path for path in dict.fromkeys(paths.values()) if path not in known]
    meter = Meter("compare recordings", len(unread), listener, unit="files") if unread else None
    found = {**known, **hashes.of(unread, jobs=machine.workers, meter=meter)}
    other = []
    for u in rows:
        content = found[paths[u.id]]
        if isinstance(content, SerkitError):
            continue
        if item_key(content, u.start_s, u.end_s, u.channel) != then[u.id]:
            other.append(u.id)
    return other


def _other_texts(run: Run, then: dict[str, str]) -> list[str]:
    """Ids with another text than then, where a table of the user's own has the texts."""
    from serkit.transcripts import read_table

    source = run.recipe.transcripts
    if source is None or not source.name.endswith(".csv") or not Path(source.name).is_file():
        return []
    now = read_table(Path(source.name), list(then))
    return [name for name, key in then.items() if text_key(now[name].text) != key]
