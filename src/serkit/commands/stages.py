"""The commands that make a run: ``run`` and ``cv``, and each stage of ``run`` separately."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serkit.commands.options import (
    Address,
    Corpus,
    Device,
    DeviceOption,
    Engine,
    EngineOption,
    Fold,
    Jobs,
    LeaveOut,
    Option,
    Out,
    Protocol,
    Recipe,
    Root,
    RunFolder,
    Seed,
    Set,
    Store,
    Test,
    TestOn,
    corpus_reader,
    machine,
    read_recipe,
    say,
    watcher,
)
from serkit.errors import SerkitError
from serkit.interrupts import resumable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from serkit.pipeline import Run


@resumable()
def run(
    recipe: Recipe,
    corpus: Corpus,
    root: Root = None,
    protocol: Protocol = None,
    fold: Fold = 1,
    test: Test = True,
    test_on: TestOn = None,
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
    """Run the whole pipeline, from corpus to evaluated ensemble and report. Run again to resume."""
    from serkit import pipeline

    here = machine(store, device, jobs, engine, address)
    made = _prepare(recipe, corpus, root, protocol, fold, test, test_on, option, out, set_, seed)
    with watcher() as watch:
        page = pipeline.run_all(made, here, watch)
    _summary(made.folder)
    say(f"report: {page}")


def _refuse_test_on(given: list[str] | None) -> None:
    """Called before the corpora are read."""
    if given:
        raise SerkitError(
            "cv takes no --test-on, because every fold would have the same test clips: take serkit run --test-on, or "
            "cv --leave-out corpus, where each corpus is the test once"
        )


NotOfCv = Annotated[list[str] | None, typer.Option("--test-on", hidden=True, callback=_refuse_test_on)]


@resumable()
def cv(
    recipe: Recipe,
    corpus: Corpus,
    root: Root = None,
    protocol: Protocol = None,
    folds: Annotated[
        str,
        typer.Option(
            "--folds",
            "--fold",
            help="all, or fold numbers such as 1,3,5. With --leave-out one number: the fold of each corpus's own "
            "protocol [1].",
        ),
    ] = "all",
    leave_out: Annotated[
        LeaveOut | None,
        typer.Option(
            "--leave-out",
            help="corpus: each corpus in turn is the test, and the others train. others: each in turn trains alone, "
            "and all are the test.",
        ),
    ] = None,
    option: Option = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder [default: runs/RECIPE-CORPUS-cv].")] = None,
    store: Store = None,
    set_: Set = None,
    seed: Seed = None,
    device: DeviceOption = Device.auto,
    jobs: Jobs = 0,
    engine: EngineOption = Engine.local,
    address: Address = None,
    test_on: NotOfCv = None,
) -> None:
    """Run every fold of a corpus's protocol, or leave out each of several corpora in turn; evaluate all test rows."""
    from serkit import pipeline
    from serkit.readers import fold_numbers

    _ = test_on
    here = machine(store, device, jobs, engine, address)
    resolved = read_recipe(recipe, set_, seed)
    of_fold = corpus_reader(corpus, root, protocol, option, resolved.seed)
    if leave_out is None:
        numbers, name = fold_numbers(corpus, protocol, folds, at_least=2), f"{'+'.join(corpus)}-cv"
    else:
        if folds != "all" and not folds.isdecimal():
            raise SerkitError(
                f"--fold {folds}: with --leave-out each corpus is a fold; expected one number, the fold of each "
                "corpus's own protocol"
            )
        own = 1 if folds == "all" else int(folds)
        joined = of_fold(own)
        of_fold = pipeline.leave_out(joined, others=leave_out is LeaveOut.others)
        numbers, name = list(range(1, len(corpus) + 1)), f"{joined.corpus}-leave-out-{leave_out}"
        name += f"-fold{own}" if own != 1 else ""
    folder = out or Path("runs") / f"{resolved.name}-{name}"
    with watcher() as watch:
        page = pipeline.cross_validate(resolved, of_fold, numbers, folder, here, watch)
    if leave_out is LeaveOut.others:
        _matrix(folder)
    else:
        _summary(folder)
        if leave_out is None:
            _by_fold(folder)
    say(f"report: {page}")


def prepare(
    recipe: Recipe,
    corpus: Corpus,
    root: Root = None,
    protocol: Protocol = None,
    fold: Fold = 1,
    test: Test = True,
    test_on: TestOn = None,
    option: Option = None,
    out: Out = None,
    set_: Set = None,
    seed: Seed = None,
) -> None:
    """Read the corpus and check the recipe against it; writes recipe.yaml and manifest.jsonl into RUN."""
    made = _prepare(recipe, corpus, root, protocol, fold, test, test_on, option, out, set_, seed)
    counts = {s: len(made.manifest.split(s)) for s in made.splits}
    say(f"{made.folder}: {made.manifest.corpus}, {counts}")


@resumable()
def extract(
    run: RunFolder,
    store: Store = None,
    device: DeviceOption = Device.auto,
    jobs: Jobs = 0,
    engine: EngineOption = Engine.local,
    address: Address = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Then read all of it again and compare it with its checksums.")
    ] = False,
) -> None:
    """Extract the features of a run into the store."""
    from serkit import pipeline

    made = pipeline.Run(run)
    with watcher() as watch:
        pipeline.extract_run(made, machine(store, device, jobs, engine, address), watch)
    if verify:
        pipeline.verify_features(made)


@resumable()
def train(run: RunFolder, store: Store = None, device: DeviceOption = Device.auto, jobs: Jobs = 0) -> None:
    """Train the unfinished networks of a run."""
    from serkit import pipeline

    with watcher() as watch:
        pipeline.train_run(pipeline.Run(run), machine(store, device, jobs), watch)


def stack(run: RunFolder) -> None:
    """Fit the stack of a run on its out-of-fold scores."""
    from serkit import pipeline

    with watcher() as watch:
        pipeline.stack_run(pipeline.Run(run), watch)


def evaluate(run: RunFolder) -> None:
    """Evaluate the systems and ensembles of a run."""
    from serkit import pipeline

    with watcher() as watch:
        pipeline.evaluate_run(pipeline.Run(run), None, watch)
    _summary(run)


def report(
    run: Annotated[Path, typer.Argument(help="Its folder.", metavar="RUN")],
) -> None:
    """Write the report of a run, a cross-validation, an ablation or a search."""
    from serkit import pipeline
    from serkit.reporting import write_ablation, write_matrix, write_report, write_tuning

    if (run / "report" / "ablation.json").is_file():
        page = write_ablation(run / "report")
    elif (run / "report" / "tuning.json").is_file():
        page = write_tuning(run / "report")
    elif (run / "report" / "matrix.json").is_file():
        page = write_matrix(run / "report")
    elif (run / "report" / "report.json").is_file() and not (run / "recipe.yaml").is_file():
        page = write_report(run / "report")  # the pooled folds of a cross-validation
    else:
        page = pipeline.report_run(pipeline.Run(run))
    say(f"report: {page}")


def _prepare(
    recipe: str,
    corpus: list[str],
    root: list[Path] | None,
    protocol: str | None,
    fold: int,
    test: bool,
    test_on: list[str] | None,
    option: list[str] | None,
    out: Path | None,
    set_: list[str] | None,
    seed: int | None,
) -> Run:
    from serkit import pipeline
    from serkit.across import trained_on
    from serkit.pipeline.stages import Notice, tell_left_out
    from serkit.readers import read_corpora

    resolved = read_recipe(recipe, set_, seed)
    manifest = read_corpora(
        corpus, root or [], protocol=protocol, fold=fold, seed=resolved.seed, options=option or [], test=test,
        test_on=test_on or [],
    )  # fmt: skip
    name = f"{resolved.name}-{trained_on(manifest)}-"
    name += f"on-{'+'.join(manifest.info['across']['tested_on'])}-" if test_on else ""
    folder = out or Path("runs") / (name + (f"fold{fold}" if test else "all"))
    made = pipeline.prepare(resolved, manifest, folder)
    tell = watcher()
    tell_left_out([made.manifest], tell)
    if any("." in system.model.name for system in made.recipe.systems.values()):
        from serkit.serving.checked import not_bundled

        for line in not_bundled(made.recipe, made.manifest.labels):
            tell(Notice(line))
    return made


def _summary(folder: Path) -> None:
    """Print a short table of a run's report."""
    from serkit.reporting import elsewhere
    from serkit.reporting.reading import read
    from serkit.reporting.text import intervals

    source = read(folder / "report")
    tree = source.tree
    split = source.split
    shown = [("dev", "macro_f1", "dev macro-F1")]
    shown += [(split, "macro_f1", f"{split} macro-F1")] if split != "dev" else []
    shown += [(split, "uar", f"{split} UAR"), (split, "uar_interval", "95% interval")]
    systems = tree["systems"]
    measured = [numbers.get(split, {}) for numbers in systems.values()]
    shown += [(split, "ccc", f"{split} CCC")] if any("ccc" in numbers for numbers in measured) else []
    shown += [(split, "kl", f"{split} KL"), (split, "kl_prior", "constant")] if source.led_by == "kl" else []
    table = [("", *(title for _, _, title in shown))]
    table += [(name, *(_cell(numbers.get(of, {}), key) for of, key, _ in shown)) for name, numbers in systems.items()]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *cells in table:
        say(f"{name:{widths[0]}}" + "".join(f"{cell:>{w + 2}}" for cell, w in zip(cells, widths[1:], strict=True)))
    for line in intervals(numbers.get("uar", {}) for numbers in measured):
        say(line)
    for line in elsewhere.lines(source):
        say(line)
    answers = folder / "predictions" / f"{source.lead}.test.parquet"
    if source.split == "dev":
        say(f"{source.why_dev}" + (f"; its predictions are in {answers}" if answers.is_file() else ""))


def _cell(numbers: Mapping[str, Any], key: str) -> str:
    """A number of a split as text, or a dash; ``uar_interval`` is that of UAR."""
    found = numbers.get(key.removesuffix("_interval"))
    if not found:
        return "-"
    return f"{found['value']:z.3f}" if key in numbers else f"[{found['low']:.3f}, {found['high']:.3f}]"


def _matrix(folder: Path) -> None:
    """Print a table of train by test."""
    from serkit.reporting.matrix import lines, read_matrix

    for line in lines(read_matrix(folder / "report")):
        say(line)


def _by_fold(folder: Path) -> None:
    """Print WA (accuracy) and UA (UAR) by fold, their mean and the pooled numbers, of the lead or of each system."""
    from serkit.reporting.data_tables import mean_and_spread
    from serkit.text_rows import json_object

    tree = json_object(folder / "report" / "report.json")
    names, best = [tree["lead"]], tree["best_on_dev"]
    if tree["lead"] == best:
        names = [n for n in tree["systems"] if n != best] or names
    for name in names:
        rows = [(str(f["fold"]), f["systems"][name]) for f in tree["folds"]]
        say(f"{name} by fold: " + "  ".join(f"{k}: WA {m['accuracy']:.3f} UA {m['uar']:.3f}" for k, m in rows))
        words = []
        for metric, title in (("accuracy", "WA"), ("uar", "UA")):
            mean, sd = mean_and_spread([m[metric] for _, m in rows])
            pooled = "{value:.3f} [{low:.3f}, {high:.3f}]".format(**tree["systems"][name]["test"][metric])
            words.append(f"{title} {mean:.3f} ± {sd:.3f}, pooled {pooled}")
        say(f"{name}, mean of folds ± sd: {'; '.join(words)}, n = {tree['systems'][name]['test']['uar']['n']}")


COMMANDS = (run, cv, prepare, extract, train, stack, evaluate, report)
