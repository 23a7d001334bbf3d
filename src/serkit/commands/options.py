"""Options that several commands share, and the objects made from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serkit.errors import SerkitError, on_one_line, visible
from serkit.serving.results import CALLS_MEANS, THRESHOLD_MEANS

if TYPE_CHECKING:
    from serkit import recipe as recipes
    from serkit.comparison import Difference
    from serkit.console import Watcher
    from serkit.pipeline import Machine
    from serkit.types import Manifest


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text in which names and words of others do not control the terminal."""
    typer.echo(visible(text), err=err, nl=nl)


def printable(name: str | None) -> str | None:
    """The name of a model as given; refused where it would break the lines that it stands in."""
    if name is not None and not (name.strip() and on_one_line(name)):
        raise typer.BadParameter(f"{name!r} is no name: expected characters that can be printed, on one line")
    return name


class Device(StrEnum):
    """Where networks and encoders run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Engine(StrEnum):
    """Where features are extracted."""

    local = "local"
    ray = "ray"


class WeightKind(StrEnum):
    """How a bundle stores matrices."""

    float32 = "float32"
    float16 = "float16"
    int8 = "int8"


class LeaveOut(StrEnum):
    """What training leaves out, for each of several corpora in turn."""

    corpus = "corpus"
    others = "others"


Recipe = Annotated[
    str, typer.Argument(help="Name of a recipe (see: serkit recipes) or path of a YAML file.", metavar="RECIPE")
]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a prepared run.", metavar="RUN")]
Corpus = Annotated[list[str], typer.Option("--corpus", help="Corpus (see: serkit corpora); repeat to join several.")]
Root = Annotated[
    list[Path] | None, typer.Option("--root", help="Folder of the corpus, or file of a table; one per corpus.")
]
Protocol = Annotated[str | None, typer.Option(help="Named split of the corpus [default: its first].")]
Fold = Annotated[int, typer.Option(help="Fold of the protocol, counted from 1.")]
Test = Annotated[
    bool,
    typer.Option(
        "--test/--no-test",
        help="With --no-test, test speakers are used for training too: for a model to use, not to measure.",
    ),
]
TestOn = Annotated[
    list[str] | None,
    typer.Option(
        "--test-on",
        help="One of the corpora: all its clips are test, and the other corpora train; repeat for several. It takes "
        "one --fold.",
    ),
]
Option = Annotated[list[str] | None, typer.Option("--option", help="KEY=VALUE for the corpus reader; repeat.")]
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder of the run [default: runs/RECIPE-CORPUS-foldK (-all)].")
]
Store = Annotated[Path | None, typer.Option("--store", help="Folder of the features [default: the user's cache].")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE: set KEY in the recipe, or in every system that has it.")
]
Seed = Annotated[int | None, typer.Option(help="Seed of networks and random draws [default: the recipe's].")]
DeviceOption = Annotated[Device, typer.Option(help="Where networks and encoders run.")]
EngineOption = Annotated[
    Engine, typer.Option(help="Where features are extracted: on this machine (local) or on a Ray cluster.")
]
Address = Annotated[str | None, typer.Option(help="Address of the Ray cluster, such as auto or HOST:6379.")]
Jobs = Annotated[int, typer.Option(help="Processes at once; 0: one per core.", min=0)]
Model = Annotated[str, typer.Option(help="Bundle: a folder, a file, or a name.")]
ModelArgument = Annotated[str, typer.Argument(help="Bundle: a folder, a file, or a name.", metavar="MODEL")]
Calls = Annotated[str, typer.Option(help=CALLS_MEANS)]
Labels = Annotated[str | None, typer.Option(help="Restrict answers to these labels, comma-separated.")]
Threshold = Annotated[float | None, typer.Option(help=THRESHOLD_MEANS)]
BundleOut = Annotated[Path, typer.Option("-o", "--out", help="Folder to write, or a file ending in .zip or .serkit.")]
MaxClip = Annotated[float, typer.Option(help="Seconds; a longer recording is processed in parts.")]
Weights = Annotated[WeightKind, typer.Option(help="How matrices are stored.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def comma_separated(given: str | None) -> tuple[str, ...] | None:
    """The words of ``a, b,c``; ``None`` where nothing was given."""
    return None if given is None else tuple(word.strip() for word in given.split(",") if word.strip())


def difference_lines(differences: Sequence[Difference]) -> list[str]:
    """Paired differences of two systems as lines of the terminal, and what their p are worth."""
    from serkit.reporting.verdict import LEVEL, least_permuted

    lines = [
        f"  {d.metric:13} {d.value_a:.4f}  {d.value_b:.4f}  difference {d.difference:+.4f} "
        f"[{d.low:+.4f}, {d.high:+.4f}]  p = {d.larger_p:.3f} (bootstrap {d.p:.3f}, permuted {d.p_permutation:.3f})"
        f"   {d.interval}"
        for d in differences
    ]
    speakers = min((d.speakers for d in differences if "drawn singly" not in d.interval), default=0)
    if speakers > 1 and (least := least_permuted(speakers, 1)) >= LEVEL:
        lines.append(
            f"  with {speakers} speakers p cannot go below {least:.2g}: these clips cannot show a difference, however "
            "large; p of the bootstrap is too small, and the intervals are too narrow"
        )
    if len(differences) > 1:
        lines.append("  each p is of its own metric, not adjusted for the others: decide by the one chosen beforehand")
    return lines


def read_recipe(recipe: str, set_: list[str] | None, seed: int | None) -> recipes.Recipe:
    """The recipe with ``--set`` and ``--seed`` applied; reports settings in it that have no effect."""
    from serkit.idle import idle_notes
    from serkit.pipeline.stages import Notice
    from serkit.recipe import load_recipe

    found = load_recipe(recipe, [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])])
    tell = watcher()
    for line in idle_notes(found.systems, load_recipe(recipe).systems):
        tell(Notice(line))
    return found


def corpus_reader(
    corpus: list[str],
    root: list[Path] | None,
    protocol: str | None,
    option: list[str] | None,
    seed: int,
    test_on: list[str] | None = None,
) -> Callable[[int], Manifest]:
    """What reads the corpora of a command as one manifest, given the number of a fold."""
    from serkit.readers import read_corpora

    return lambda fold: read_corpora(
        corpus, root or [], protocol=protocol, fold=fold, seed=seed, options=option or [], test_on=test_on or []
    )


def machine(
    store: Path | None, device: Device, jobs: int, engine: Engine = Engine.local, address: str | None = None
) -> Machine:
    """Where a run computes and stores its features.

    Raises:
        SerkitError: an address without a cluster, a store that is a file. MissingExtra: the package of the engine is
            not installed.
    """
    from serkit.config import store_folder
    from serkit.pipeline import Machine

    if address is not None and engine is not Engine.ray:
        raise SerkitError("--address names a Ray cluster, but the engine is local; add --engine ray")
    if engine is Engine.ray:
        from serkit.engines import ray_package

        ray_package()  # if it is missing, fail before hours of transcription
    folder = store_folder(store)
    if folder.exists() and not folder.is_dir():
        raise SerkitError(f"--store {folder} is a file; give a folder (it is created if missing)")
    return Machine(folder, device.value, jobs, engine.value, address)


def watcher() -> Watcher:
    """The progress display of a stage."""
    from serkit.console import Watcher

    return Watcher()
