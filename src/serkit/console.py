"""The progress display of a stage: one live line per stage, plain lines without a terminal."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from serkit.errors import visible
from serkit.pipeline.stages import Notice, StageBegins
from serkit.progress import Progress as StageProgress
from serkit.progress import duration
from serkit.sizes import SizeEstimate

EVERY_S = 20.0


class Watcher:
    """Listens to a pipeline and draws; a context manager and a callable.

    Args:
        console: where to draw; a terminal gets bars, anything else a line now and then.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._finished: set[str] = set()
        self._said = 0.0
        self._networks = 0
        self._share: dict[str, float] = {}
        self._begun = time.monotonic()

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:  # rich would end bars that were never shown with an empty line
            self._bars.stop()

    def __call__(self, event: Any) -> None:
        """Draw an event of :mod:`serkit.pipeline`."""
        if isinstance(event, StageBegins):
            self._begin(event)
        elif isinstance(event, Notice):
            self.console.print(f"  [yellow]note[/yellow]  {escape(visible(event.text))}", soft_wrap=True)
        elif isinstance(event, SizeEstimate):
            self.console.print(f"  to extract: {event}", markup=False, soft_wrap=True)
        elif isinstance(event, StageProgress):
            self._stage(event)
        else:
            self._epoch(event)

    def _begin(self, event: StageBegins) -> None:
        for task in self._tasks.values():
            self._bars.remove_task(task)
        self._tasks.clear()
        self._finished.clear()
        self._share.clear()
        self._begun = self._said = time.monotonic()
        self._networks = int(event.detail.split()[0]) if event.stage == "train" else 0
        self.console.print(f"[bold]{event.stage}[/bold]  {escape(visible(event.detail))}", soft_wrap=True)

    def _stage(self, event: StageProgress) -> None:
        left = f", {duration(event.left_s)} left" if event.left_s is not None and event.done < event.total else ""
        speed = f" ({event.audio_h_per_h:.0f} × real time)" if event.audio_s else ""
        failed = f", {event.failed} failed" if event.failed else ""
        note = f"{event.unit}, {event.rate_hz:.0f}/s{speed}{left}{failed}"
        self._show(event.stage, event.done, event.total, note, event.done >= event.total)

    def _epoch(self, event: Any) -> None:
        name = f"{event.system}/{event.model}"
        row = event.row
        ccc = f"  CCC {row['dev_ccc']:z.3f}" if "dev_ccc" in row else ""
        kl = f"  KL {row['dev_kl']:.3f}" if "dev_kl" in row else ""
        loss = f"loss {row['loss']:.3f}  " if "loss" in row else ""  # a network that was solved has none
        if "soup" in row:
            loss = f"mean of {len(row['soup'])} of {event.members} networks  "
        elif event.members > 1:
            loss = f"{event.member} of {event.members} networks  {loss}"
        rate = f"  {event.utterances_s:.0f} utterances/s" if event.utterances_s else ""
        f1 = f"dev F1 {row['dev_macro_f1']:.3f}" if "dev_macro_f1" in row else "no clips held out"
        done_note = f"{loss}{f1}{ccc}{kl}{rate}"
        note = f"{done_note}, {duration(event.left_s)} left"
        self._share[name] = 1.0 if event.last else event.share
        done = sum(share == 1.0 for share in self._share.values())
        spent, share = time.monotonic() - self._begun, sum(self._share.values())
        whole = f"networks, {duration(spent / share * (self._networks - share))} left"
        if event.last:  # also in a terminal: what became of each network stays to be read
            self._show(name, event.epoch, event.epochs, done_note, True)
            self._show("all", done, self._networks, whole, done == self._networks)
        else:
            self._show(name, event.epoch, event.epochs, note, False)
            if self.console.is_terminal:
                self._show("all", done, self._networks, whole, False)

    def _show(self, name: str, done: float, total: float, note: str, last: bool) -> None:
        """Move a bar, or say a line: the last one of each name once, any other every 20 s."""
        if last and name in self._finished:
            return
        if self.console.is_terminal and not last:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=total, note=note)
            self._bars.update(self._tasks[name], completed=done, total=total, note=note)
            return
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))
        if last:
            self._finished.add(name)
        if last or time.monotonic() - self._said > EVERY_S:
            self._said = time.monotonic()
            self.console.print(f"  {name}  {done:.0f}/{total:.0f} {note}", markup=False, soft_wrap=True)
