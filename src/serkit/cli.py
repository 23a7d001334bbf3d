"""The command line: parses, and calls one function per command. Everything heavy is imported inside."""

from __future__ import annotations

import errno
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from serkit import __version__
from serkit.errors import SerkitError
from serkit.serving.command_line import add_commands

app = typer.Typer(
    name="serkit",
    help="Speech emotion recognition: corpora, features, cross-modal networks, a balanced stack, honest reports.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


STOPPED = 130  # what typer exits with after Ctrl-C
OUTSIDE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EPERM, errno.EIO)


class Device(StrEnum):
    """Where networks and encoders run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Engine(StrEnum):
    """Who extracts features."""

    local = "local"
    ray = "ray"


Recipe = Annotated[str, typer.Argument(help="Name of a recipe (see: serkit recipes) or path of a YAML file.")]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a prepared run.", metavar="RUN")]
Corpus = Annotated[list[str], typer.Option("--corpus", help="Corpus (see: serkit corpora); repeat to join several.")]
Root = Annotated[list[Path] | None, typer.Option("--root", help="Its folder, or the file of a table; one per corpus.")]
Protocol = Annotated[str | None, typer.Option(help="Named split of the corpus; its first by default.")]
Fold = Annotated[int, typer.Option(help="Fold of the protocol, counted from 1.")]
Option = Annotated[list[str] | None, typer.Option("--option", help="KEY=VALUE for the corpus reader.")]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of the run [default: runs/RECIPE-CORPUS-foldK].")]
Store = Annotated[Path | None, typer.Option("--store", help="Folder of the features [default: the user's cache].")]
Set = Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE in every system that has KEY.")]
Seed = Annotated[int | None, typer.Option(help="Seed of networks and draws [default: the recipe's].")]
DeviceOption = Annotated[Device, typer.Option(help="Where networks and encoders run.")]
EngineOption = Annotated[Engine, typer.Option(help="Who extracts features: this machine, or a Ray cluster.")]
Address = Annotated[str | None, typer.Option(help="Of the Ray cluster, such as auto or HOST:6379.")]
Jobs = Annotated[int, typer.Option(help="Processes at once; 0: one per core.", min=0)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def run(
    recipe: Recipe,
    corpus: Corpus,
    root: Root = None,
    protocol: Protocol = None,
    fold: Fold = 1,
    option: Option = None,
    out: Out = None,
    store: Store = None,
    set_: Set = None,
    seed: Seed = None,
    device: DeviceOption = Device.auto,
    jobs: Jobs = 0,
    engine: EngineOption = Engine.local,
    address: Address = None,
) -> None:
    """Do everything: corpus in, stacked and measured ensemble out. Run again to go on where it stopped."""
    from serkit import pipeline

    made = _prepare(recipe, corpus, root, protocol, fold, option, out, set_, seed)
    with _watcher() as watcher:
        page = pipeline.run_all(made, _machine(store, device, jobs, engine, address), watcher)
    _summary(made.folder)
    typer.echo(f"report: {page}")


@app.command()
def cv(
    recipe: Recipe,
    corpus: Corpus,
    root: Root = None,
    protocol: Protocol = None,
    folds: Annotated[str, typer.Option(help="all, or numbers such as 1,3,5.")] = "all",
    option: Option = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder [default: runs/RECIPE-CORPUS-cv].")] = None,
    store: Store = None,
    set_: Set = None,
    seed: Seed = None,
    device: DeviceOption = Device.auto,
    jobs: Jobs = 0,
) -> None:
    """Run every fold of a corpus's protocol, and measure their test rows together."""
    from serkit import pipeline
    from serkit.readers import fold_numbers, read_corpora
    from serkit.recipe import load_recipe

    resolved = load_recipe(recipe, _overrides(set_, seed))
    numbers = fold_numbers(corpus, protocol, folds)

    def read(fold: int) -> Any:
        return read_corpora(corpus, root or [], protocol=protocol, fold=fold, seed=resolved.seed, options=option or [])

    folder = out or Path("runs") / f"{resolved.name}-{'+'.join(corpus)}-cv"
    with _watcher() as watcher:
        page = pipeline.cross_validate(resolved, read, numbers, folder, _machine(store, device, jobs), watcher)
    _summary(folder)
    typer.echo(f"report: {page}")


@app.command()
def prepare(
    recipe: Recipe,
    corpus: Corpus,
    root: Root = None,
    protocol: Protocol = None,
    fold: Fold = 1,
    option: Option = None,
    out: Out = None,
    set_: Set = None,
    seed: Seed = None,
) -> None:
    """Read the corpus and check the recipe against it: makes RUN with recipe.yaml and manifest.jsonl."""
    made = _prepare(recipe, corpus, root, protocol, fold, option, out, set_, seed)
    counts = {s: len(made.manifest.split(s)) for s in made.splits}
    typer.echo(f"{made.folder}: {made.manifest.corpus}, {counts}")


@app.command()
def extract(
    run: RunFolder,
    store: Store = None,
    device: DeviceOption = Device.auto,
    jobs: Jobs = 0,
    engine: EngineOption = Engine.local,
    address: Address = None,
) -> None:
    """Bring the features of a run into the store."""
    from serkit import pipeline

    with _watcher() as watcher:
        pipeline.extract_run(pipeline.Run(run), _machine(store, device, jobs, engine, address), watcher)


@app.command()
def train(run: RunFolder, store: Store = None, device: DeviceOption = Device.auto, jobs: Jobs = 0) -> None:
    """Train the networks of a run that are not finished."""
    from serkit import pipeline

    with _watcher() as watcher:
        pipeline.train_run(pipeline.Run(run), _machine(store, device, jobs), watcher)


@app.command()
def stack(run: RunFolder) -> None:
    """Fit the stack of a run on its out-of-fold scores."""
    from serkit import pipeline

    with _watcher() as watcher:
        pipeline.stack_run(pipeline.Run(run), watcher)


@app.command()
def evaluate(run: RunFolder) -> None:
    """Measure the systems and ensembles of a run."""
    from serkit import pipeline

    with _watcher() as watcher:
        pipeline.evaluate_run(pipeline.Run(run), None, watcher)
    _summary(run)


@app.command()
def report(run: RunFolder) -> None:
    """Write the pages of a run's report."""
    from serkit import pipeline

    typer.echo(f"report: {pipeline.report_run(pipeline.Run(run))}")


@app.command()
def audit(
    manifest: Annotated[Path, typer.Argument(help="manifest.jsonl, or the folder of a run.")],
    decode: Annotated[bool, typer.Option(help="Also listen to every recording.")] = True,
    as_json: AsJson = False,
) -> None:
    """Look for leakage and nonsense in a manifest; exits 1 where there is an error among the findings."""
    from serkit import audit as auditing
    from serkit.types import Manifest

    rows = Manifest.load(manifest / "manifest.jsonl" if manifest.is_dir() else manifest)
    with _watcher() as watcher:
        findings = auditing.audit(rows, decode=decode, progress=watcher)
    if as_json:
        typer.echo(json.dumps(auditing.to_json(rows, findings), indent=1, ensure_ascii=False))
    else:
        for row in auditing.to_rows(findings):
            who = f" ({row['ids']})" if row["ids"] else ""
            typer.echo(f"{row['severity']:8}{row['code']:22}{row['message']}{who}")
        if not findings:
            typer.echo("nothing found")
    if any(f.severity == "error" for f in findings):
        raise typer.Exit(1)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Folder of a run.", metavar="RUN_A")],
    b: Annotated[Path, typer.Argument(help="Folder of another run on the same rows.", metavar="RUN_B")],
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    system_a: Annotated[str | None, typer.Option(help="System of A [default: stack, or its only one].")] = None,
    system_b: Annotated[str | None, typer.Option(help="System of B [default: stack, or its only one].")] = None,
    draws: Annotated[int, typer.Option(help="Bootstrap draws.", min=10)] = 1000,
    as_json: AsJson = False,
) -> None:
    """Paired differences between two runs, with intervals."""
    from serkit import pipeline
    from serkit.comparison import compare as paired

    runs = (pipeline.Run(a), pipeline.Run(b))
    if runs[0].manifest.split_hash != runs[1].manifest.split_hash:
        raise SerkitError(f"{a} and {b} are not on the same splits of the same utterances; they do not compare")
    if runs[0].manifest.labels != runs[1].manifest.labels:
        raise SerkitError(f"{a} and {b} have different labels; they do not compare")
    names = [_default_system(r, s) for r, s in zip(runs, (system_a, system_b), strict=True)]
    tables = [r.predictions(n, split) for r, n in zip(runs, names, strict=True)]
    found = paired(tables[0], tables[1], runs[0].manifest, split=split, draws=draws)
    if as_json:
        typer.echo(json.dumps([d.to_row() for d in found], indent=1))
        return
    typer.echo(f"{a.name}:{names[0]} against {b.name}:{names[1]}, {split}, n = {found[0].n}")
    for d in found:
        typer.echo(
            f"  {d.metric:12} {d.value_a:.4f}  {d.value_b:.4f}  difference {d.difference:+.4f} "
            f"[{d.low:+.4f}, {d.high:+.4f}]  p = {d.p:.3f}   {d.interval}"
        )


@app.command()
def corpora(as_json: AsJson = False) -> None:
    """Corpora that can be read, with their licences."""
    from serkit.listing import corpora as rows

    _table(rows(), as_json)


@app.command()
def encoders(
    check: Annotated[
        list[str] | None, typer.Option("--check", metavar="NAME", help="Can it be loaded here, and at what cost?")
    ] = None,
    lock: Annotated[bool, typer.Option("--lock", help="Pin every model to its newest commit on the hub.")] = False,
    commercial: Annotated[bool, typer.Option(help="Only with a licence that allows commercial use.")] = False,
    as_json: AsJson = False,
) -> None:
    """Encoders that features can be named after, with their licences. With --check, exits 1 where one is not here."""
    from serkit import availability, listing

    if lock:
        _table([{"name": n, "line": c} for n, c in sorted(availability.lock(check).items())], as_json)
        return
    rows = listing.checked(check) if check else listing.encoders(commercial=commercial)
    _table(rows, as_json)
    if check and not all(row["loadable"] for row in rows):
        raise typer.Exit(1)


@app.command()
def recipes(as_json: AsJson = False) -> None:
    """Recipes: whole systems in one file each."""
    from serkit.listing import recipes as rows

    _table(rows(), as_json)


@app.command()
def models(as_json: AsJson = False) -> None:
    """Networks that a recipe can name, with their parameters."""
    from serkit.listing import members

    _table(members("models"), as_json)


@app.command()
def losses(as_json: AsJson = False) -> None:
    """Losses that a recipe can name, with their parameters."""
    from serkit.listing import members

    _table(members("losses"), as_json)


@app.command()
def augmentations(as_json: AsJson = False) -> None:
    """Augmentations that a recipe can name, with their parameters."""
    from serkit.listing import members

    _table(members("augment"), as_json)


add_commands(app)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"serkit {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Entry point: exit 0 done, 2 the input or usage is wrong, 1 it failed, 130 stopped by Ctrl-C."""
    try:
        app()
    except SystemExit as end:
        if end.code == STOPPED:
            print("serkit: stopped; what was finished is kept, run the same command again to go on", file=sys.stderr)
        raise
    except SerkitError as error:
        print(f"serkit: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in OUTSIDE:
            raise
        where = f": {error.filename}" if error.filename else ""
        print(f"serkit: {error.strerror or error}{where}; finished work is kept", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _prepare(
    recipe: str,
    corpus: list[str],
    root: list[Path] | None,
    protocol: str | None,
    fold: int,
    option: list[str] | None,
    out: Path | None,
    set_: list[str] | None,
    seed: int | None,
) -> Any:
    from serkit import pipeline
    from serkit.readers import read_corpora
    from serkit.recipe import load_recipe

    resolved = load_recipe(recipe, _overrides(set_, seed))
    manifest = read_corpora(corpus, root or [], protocol=protocol, fold=fold, seed=resolved.seed, options=option or [])
    folder = out or Path("runs") / f"{resolved.name}-{manifest.corpus}-fold{fold}"
    return pipeline.prepare(resolved, manifest, folder)


def _overrides(set_: list[str] | None, seed: int | None) -> list[str]:
    return [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]


def _machine(
    store: Path | None, device: Device, jobs: int, engine: Engine = Engine.local, address: str | None = None
) -> Any:
    from serkit.config import store_folder
    from serkit.pipeline import Machine

    if address is not None and engine is not Engine.ray:
        raise SerkitError("--address names a Ray cluster and the engine is local; say --engine ray")
    if engine is Engine.ray:
        from serkit.engines import ray_package

        ray_package()  # absent, it is said before hours of transcription
    return Machine(store_folder(store), device.value, jobs, engine.value, address)


def _watcher() -> Any:
    from serkit.console import Watcher

    return Watcher()


def _default_system(run: Any, given: str | None) -> str:
    if given is not None:
        return given
    if run.predictions_path("stack", "test").is_file():
        return "stack"
    return str(next(iter(run.recipe.systems)))


def _summary(folder: Path) -> None:
    """The table of a run's report, short."""
    tree = json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))
    width = max(len(name) for name in tree["systems"]) + 2
    typer.echo(f"{'':{width}}{'dev macro-F1':>14}{'test macro-F1':>15}{'test UAR':>10}{'95% interval':>18}")
    for name, splits in tree["systems"].items():
        dev, test = splits.get("dev", {}), splits.get("test", {})
        uar = test.get("uar")
        interval = f"[{uar['low']:.3f}, {uar['high']:.3f}]" if uar else "-"
        cells = [f"{row['macro_f1']['value']:.3f}" if row else "-" for row in (dev, test)]
        typer.echo(f"{name:{width}}{cells[0]:>14}{cells[1]:>15}{uar['value'] if uar else 0:>10.3f}{interval:>18}")


def _table(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    width = max((len(row["name"]) for row in rows), default=0) + 2
    for row in rows:
        typer.echo(f"{row['name']:{width}}{row['line']}")


if __name__ == "__main__":
    main()
