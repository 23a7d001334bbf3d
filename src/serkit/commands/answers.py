"""The commands ``predict`` and ``bundle``. Imports lazily, like the whole command line."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from serkit.commands.options import (
    BundleOut,
    Calls,
    Jobs,
    Labels,
    MaxClip,
    Threshold,
    WeightKind,
    Weights,
    comma_separated,
    printable,
    say,
)
from serkit.errors import SerkitError
from serkit.serving.results import COVERAGE_MEANS


class Format(StrEnum):
    """How answers are written."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"
    rttm = "rttm"
    textgrid = "textgrid"
    srt = "srt"
    vtt = "vtt"


class Division(StrEnum):
    """How a recording is divided."""

    clip = "clip"
    segment = "segment"
    window = "window"
    sentence = "sentence"
    word = "word"
    turn = "turn"
    channel = "channel"


class Detector(StrEnum):
    """How speech is found."""

    spectral = "spectral"
    silero = "silero"


class Scaling(StrEnum):
    """How probabilities are calibrated."""

    temperature = "temperature"
    vector = "vector"
    none = "none"


def _version(context: typer.Context, given: bool) -> None:
    """Called after ``--model`` was read, which is eager, and before an argument can be missed."""
    if given:
        from serkit import __version__
        from serkit.serving.predicting import about

        typer.echo(f"serkit {__version__} (Apache-2.0); {about(context.params['model'])}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", help="Print version, model and licence of the weights.", callback=_version)
]


def predict(
    inputs: Annotated[
        list[str], typer.Argument(help="Recordings, folders, 'example', or - for standard input.", metavar="FILE|DIR|-")
    ],
    model: Annotated[str, typer.Option(help="Bundle: a folder, a file, or a name.", is_eager=True)] = "default",
    calls: Calls = "auto",
    format_: Annotated[
        Format | None, typer.Option("--format", help="Output format [default: by the extension of --out, else table].")
    ] = None,
    timeline: Annotated[bool, typer.Option("--timeline", help="Emotion over time, part by part.")] = False,
    by: Annotated[
        Division | None,
        typer.Option(
            help="Parts of the timeline [default: segment, of speech]; turn: a speaker turn; channel: each alone."
        ),
    ] = None,
    labels: Labels = None,
    text: Annotated[str | None, typer.Option(help="The spoken words, for models that use text.")] = None,
    threshold: Threshold = None,
    coverage: Annotated[float | None, typer.Option(help=COVERAGE_MEANS)] = None,
    rttm: Annotated[Path | None, typer.Option(help="Who speaks when: RTTM file of a diarisation.")] = None,
    transcript: Annotated[
        Path | None, typer.Option(help="Sentences with times: .srt, .vtt, .json, or a folder with one per recording.")
    ] = None,
    asr: Annotated[str | None, typer.Option(help="Transcribe with this recogniser, e.g. whisper/small.")] = None,
    language: Annotated[str | None, typer.Option(help="Spoken language, for --asr: en, de, …")] = None,
    diarise: Annotated[str | None, typer.Option(help="Find speakers with this pyannote.audio pipeline.")] = None,
    window: Annotated[float | None, typer.Option(help="Length of a window in seconds [default: 3].")] = None,
    hop: Annotated[
        float | None, typer.Option(help="Seconds from one window to the next [default: half of it].")
    ] = None,
    vad: Annotated[Detector, typer.Option(help="How speech is found.")] = Detector.spectral,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write, or -; csv and jsonl resume where they stopped.")
    ] = None,
    jobs: Jobs = 1,
    version: Version = False,
) -> None:
    """Recognise the emotion in recordings: one answer each, or a timeline of who, when, which words, which emotion."""
    from serkit.serving import pool, predicting
    from serkit.serving.ticker import Ticker

    _ = version
    chosen = comma_separated(labels)
    asked = pool.Asked(
        inputs=tuple(inputs), model=model, calls=calls, kind=None if format_ is None else format_.value,
        timeline=timeline or by not in (None, Division.clip),
        labels=chosen, text=text, by=None if by is None else by.value, threshold=threshold,
        coverage=coverage, window_s=window, hop_s=hop, vad=vad.value, rttm=rttm, transcript=transcript,
        out=None if out == Path("-") else out, jobs=jobs, asr=asr, language=language, diariser=diarise,
    )  # fmt: skip
    with Ticker() as ticker:
        failed = predicting.predict(asked, ticker.write, ticker.complain, ticker)
    if failed:
        raise typer.Exit(1)


def bundle(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN")],
    out: BundleOut,
    system: Annotated[
        str | None, typer.Option(help="System or ensemble [default: the stack, or the only one].")
    ] = None,
    name: Annotated[
        str | None, typer.Option(callback=printable, help="Name of the model [default: the recipe's].")
    ] = None,
    weights: Weights = WeightKind.float32,
    calibration: Annotated[Scaling, typer.Option(help="How probabilities are calibrated.")] = Scaling.temperature,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights.")] = None,
    max_clip: MaxClip = 20.0,
    notes: Annotated[Path | None, typer.Option(help="Markdown file appended to the model card.")] = None,
) -> None:
    """Make a bundle of a run: everything needed for prediction, in one folder or file."""
    from serkit.pipeline import Run
    from serkit.serving.building import build

    words = _text(notes) if notes is not None else ""
    made = build(
        Run(run), out, system=system, name=name, weights=weights.value, method=calibration.value, licence=licence,
        max_clip_s=max_clip, notes=words, progress=lambda line: say(line, err=True),
    )  # fmt: skip
    say(
        f"{made.path}: '{made.system}', {made.n_networks} networks, {made.n_bytes / 1e6:.2f} MB, logits within "
        f"{made.difference:.1e} of torch"
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SerkitError(f"--notes {path}: cannot be read as a text file ({error})") from None


COMMANDS = (predict, bundle)
