"""What was heard of recordings to adapt to: sums over features, and the same in a file, for work that is stopped.

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
    """The sums over the first recordings of a list, kept in a file.

    Args:
        path: of the file; ``None``: nothing is kept. question: all that the sums depend on but the recordings.
        chosen: the recordings, in their order.

    Attributes:
        total: what was heard of the first ones. done: how many they are: 0 without a file of the same question whose
            recordings are unchanged.
    """

    def __init__(self, path: Path | None, question: Mapping[str, Any], chosen: Sequence[str | Path]) -> None:
        self._path, self._question = path, json.loads(json.dumps(question))
        self._stamps: list[Any] = []
        self._chosen, self._saved_s = chosen, time.monotonic()
        self.total, self.done = Listened(), 0
        if path is not None and path.is_file():
            self._restore(path)

    def add(self, found: Listened) -> None:
        """The next recording was heard.

        Raises:
            OSError, DiskFull: the file cannot be written.
        """
        self.total.add(found)
        self._stamps.append(stamp(Path(self._chosen[self.done])))
        self.done += 1
        if time.monotonic() - self._saved_s >= _EVERY_S:
            self.save()

    def save(self) -> None:
        """Write the file now."""
        self._saved_s = time.monotonic()
        if self._path is None or not self.done:
            return
        from safetensors.numpy import save

        moments = self.total.moments
        arrays = {f"{k}.total": m.total for k, m in enumerate(moments.values())}
        arrays |= {f"{k}.squares": m.squares for k, m in enumerate(moments.values())}
        counts = {name: getattr(self.total, name) for name in _COUNTS}
        frames = {key: m.frames for key, m in moments.items()}
        said = {"question": self._question, "of": self._stamps, "counts": counts, "frames": frames}
        write_bytes(self._path, save(arrays, {"heard": json.dumps(said)}))

    def remove(self) -> None:
        """The file is of no more use."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _restore(self, path: Path) -> None:
        """Take up what the file says; one that is damaged, of another question or of other recordings says nothing."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "numpy") as file:
                said = json.loads(file.metadata()["heard"])
                stamps = [stamp(Path(p)) for p in self._chosen[: len(said["of"])]]
                if said["question"] != self._question or stamps != said["of"]:
                    return
                moments = {
                    key: Moments(n, file.get_tensor(f"{k}.total"), file.get_tensor(f"{k}.squares"))
                    for k, (key, n) in enumerate(said["frames"].items())
                }
                self.total = Listened(moments, **said["counts"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            return
        self._stamps, self.done = stamps, len(stamps)
