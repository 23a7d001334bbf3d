"""Statistics of the recordings to adapt to: sums over features, also in a file so that work can be resumed.

The file lies beside the bundle that is to be written: safetensors of the sums, whose metadata say of which recordings
they are. It has one size however many these are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serkit.files import write_bytes
from serkit.interrupts import interrupts_after
from serkit.serving.adaptation import Moments
from serkit.serving.resuming import stamp

_EVERY_S = 1.0  # how much work a process that is killed may lose
_COUNTS = ("pieces", "seconds", "recordings", "silent", "failed")


@dataclass
class Listened:
    """What was heard of recordings.

    Attributes:
        moments: by feature. pieces: stretches of speech, or whole clips. seconds: heard, silence included.
        recordings: with speech in them. silent: without. failed: that could not be read.
    """

    moments: dict[str, Moments] = field(default_factory=dict)
    pieces: int = 0
    seconds: float = 0.0
    recordings: int = 0
    silent: int = 0
    failed: int = 0

    def add(self, other: Listened) -> None:
        """Put another's beside this."""
        for key, moments in other.moments.items():
            self.moments[key] = self.moments[key] + moments if key in self.moments else moments
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Kept:
    """The sums over the recordings of a list that were heard so far, kept in a file.

    What could not be read is not among them: it is tried again by whoever goes on.

    Args:
        path: of the file; ``None``: nothing is kept. question: all that the sums depend on but the recordings.
        chosen: the recordings.

    Attributes:
        total: what was heard. heard: places of these recordings in ``chosen``; none without a file of the same question
            whose recordings are unchanged.
    """

    def __init__(self, path: Path | None, question: Mapping[str, Any], chosen: Sequence[str | Path]) -> None:
        self._path, self._question = path, json.loads(json.dumps(question))
        self._stamps = [] if path is None else [stamp(Path(p)) for p in chosen]  # before anything is heard
        self._n, self._saved_s = len(chosen), time.monotonic()
        self.total, self.heard = Listened(), list[int]()
        if path is not None and path.is_file():
            self._restore(path)

    @property
    def left(self) -> list[int]:
        """Places of the recordings that are still to be heard, in order."""
        return sorted(set(range(self._n)) - set(self.heard))

    def add(self, place: int, found: Listened) -> None:
        """A recording was heard, or could not be.

        Raises:
            OSError, DiskFull: the file cannot be written.
        """
        with interrupts_after():  # sums and places go together
            self.total.add(found)
            if not found.failed:
                self.heard.append(place)
        if time.monotonic() - self._saved_s >= _EVERY_S:
            self.save()

    def save(self) -> None:
        """Write the file now."""
        self._saved_s = time.monotonic()
        if self._path is None or not self.heard:
            return
        from safetensors.numpy import save

        moments = self.total.moments
        arrays = {f"{k}.total": m.total for k, m in enumerate(moments.values())}
        arrays |= {f"{k}.squares": m.squares for k, m in enumerate(moments.values())}
        counts = {name: getattr(self.total, name) for name in _COUNTS if name != "failed"}
        frames = {key: m.frames for key, m in moments.items()}
        of = [self._stamps[place] for place in self.heard]
        said = {"question": self._question, "places": self.heard, "of": of, "counts": counts, "frames": frames}
        write_bytes(self._path, save(arrays, {"heard": json.dumps(said)}))

    def _restore(self, path: Path) -> None:
        """Take up what the file says; one that is damaged, of another question or of other recordings says nothing."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "numpy") as file:
                said = json.loads(file.metadata()["heard"])
                places = [int(place) for place in said["places"]]
                if said["question"] != self._question or [self._stamps[place] for place in places] != said["of"]:
                    return
                moments = {
                    key: Moments(n, file.get_tensor(f"{k}.total"), file.get_tensor(f"{k}.squares"))
                    for k, (key, n) in enumerate(said["frames"].items())
                }
                self.total = Listened(moments, **said["counts"])
        except (SafetensorError, OSError, LookupError, TypeError, ValueError):
            return
        self.heard = places
