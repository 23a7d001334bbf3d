"""The command ``listen``: live recognition. Imports lazily, like the whole command line."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serkit.commands.options import Calls, Labels, Model, Threshold, comma_separated, say
from serkit.errors import SerkitError

if TYPE_CHECKING:
    from serkit.serving.listening import Heard
    from serkit.serving.stream import StreamEvent


def listen(
    from_: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="A recording instead of the microphone.")
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="With --from: process the recording faster than real time.")
    ] = False,
    model: Model = "default",
    calls: Calls = "auto",
    labels: Labels = None,
    threshold: Threshold = None,
    partial: Annotated[
        float, typer.Option(help="Seconds of speech between provisional answers; 0: none.", min=0)
    ] = 1.0,
    seconds: Annotated[float | None, typer.Option(help="Stop after this many seconds [default: at Ctrl-C].")] = None,
    device: Annotated[str | None, typer.Option(help="Microphone: its number, or part of its name.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON row for each answer, and one for the whole.")
    ] = False,
) -> None:
    """Recognise emotion live from the microphone, or from a recording played in real time."""
    from serkit.encoding import SAMPLE_RATE_HZ
    from serkit.remarks import Remarks
    from serkit.serving import listening
    from serkit.serving.example import recording
    from serkit.serving.predictor import load

    if fast and from_ is None:
        raise SerkitError("--fast needs --from FILE: a microphone cannot be read faster than real time")
    if device is not None and from_ is not None:
        raise SerkitError("--device chooses a microphone, and --from reads a recording: leave one of the two out")
    if seconds is not None and not seconds > 0:
        raise SerkitError(f"--seconds {seconds:g}: expected a time above 0")
    chosen = comma_separated(labels)
    microphone = listening.Microphone(device) if from_ is None else None
    answering = load(model, calls=calls)
    remarks = Remarks() if from_ is not None else None
    chunks = listening.played(recording(from_), paced=not fast, remarks=remarks) if from_ is not None else None
    teller = _JsonTeller() if as_json else _Teller()
    if microphone is not None:
        say("serkit: listening; Ctrl-C ends it", err=True)
    heard = listening.listen(
        answering, chunks if chunks is not None else microphone.chunks(),  # type: ignore[union-attr]  # one of them is
        microphone.rate_hz if microphone is not None else SAMPLE_RATE_HZ, teller.event, longest_s=seconds,
        labels=chosen, threshold=threshold, partial_s=partial or None, remarks=remarks,
    )  # fmt: skip
    teller.whole(heard, microphone.lost if microphone is not None else 0)


class _JsonTeller:
    """A row for every answer."""

    def event(self, event: StreamEvent) -> None:
        """One answer."""
        row = {"type": event.kind, "at_s": round(event.at_s, 3), "latency_s": round(event.latency_s, 3)}
        self._put({**row, **event.segment.to_row()})

    def whole(self, heard: Heard, lost: int) -> None:
        """The answer for all of it."""
        row = {"type": "whole", "real_time_factor": round(heard.real_time_factor, 4), "lost": lost}
        self._put({**row, **heard.prediction.to_row()})

    def _put(self, row: dict[str, Any]) -> None:
        typer.echo(json.dumps(row, ensure_ascii=False))
        sys.stdout.flush()


class _Teller:
    """Text lines; in a terminal the line of the current speech is overwritten."""

    def __init__(self) -> None:
        self._moving = sys.stdout.isatty()

    def event(self, event: StreamEvent) -> None:
        """One answer."""
        from serkit.serving.formats import clock

        s = event.segment
        doubt = "?" if s.abstain else " "
        line = f"{clock(s.start_s):>9}  {clock(s.end_s):>9}  {s.label:10}  {s.confidence:.2f}{doubt}"
        if event.kind == "partial":
            typer.echo(f"\r{line}  …" if self._moving else f"{line}  …", nl=not self._moving)
        else:
            holds = f"holds {s.state}" if s.state != s.label else ""
            start = "\r" if self._moving else ""
            typer.echo(f"{start}{line}  {event.latency_s:5.2f} s after its end  {holds}".rstrip())
        sys.stdout.flush()

    def whole(self, heard: Heard, lost: int) -> None:
        """The answer for all of it."""
        from serkit.serving.formats import document

        say(document("table", [heard.prediction], timeline=False).replace("-  ", "in all: ", 1), nl=False)
        late = sorted(heard.latencies_s)
        if late:
            median = late[len(late) // 2]
            say(f"answers came {median:.2f} s after the speech ended (median; at most {late[-1]:.2f})")
        factor = f"real-time factor {heard.real_time_factor:.3f}"
        say(f"{heard.heard_s:.1f} s heard, {heard.work_s:.2f} s of computing: {factor}")
        for note in heard.prediction.notes:
            say(f"serkit: note: {note}", err=True)
        if lost:
            say(f"serkit: the microphone's buffer overflowed {lost} times; that sound was lost", err=True)


COMMANDS = (listen,)
