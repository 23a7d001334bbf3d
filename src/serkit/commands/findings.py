"""The commands that inspect existing files: ``audit`` a manifest, ``compare`` two runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serkit.commands.options import AsJson, difference_line, watcher
from serkit.errors import SerkitError, did_you_mean

if TYPE_CHECKING:
    from serkit.pipeline import Run


def _refuse(context: typer.Context, parameter: typer.CallbackParam, given: str | None) -> None:
    """Called before the argument can be missed."""
    if given is not None:
        raise SerkitError(
            f"audit takes no --{parameter.name} but a manifest, which a run has: serkit prepare RECIPE --corpus "
            f"{given if parameter.name == 'corpus' else 'NAME'} --out RUN, then serkit audit RUN/manifest.jsonl"
        )


NotOfAudit = Annotated[str | None, typer.Option("--corpus", hidden=True, is_eager=True, callback=_refuse)]
NotOfAuditRoot = Annotated[str | None, typer.Option("--root", hidden=True, is_eager=True, callback=_refuse)]


def add_commands(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    for command in (audit, compare):
        app.command()(command)


def audit(
    manifest: Annotated[Path, typer.Argument(help="manifest.jsonl, or the folder of a run.")],
    decode: Annotated[bool, typer.Option(help="Also decode and check every recording.")] = True,
    as_json: AsJson = False,
    corpus: NotOfAudit = None,
    root: NotOfAuditRoot = None,
) -> None:
    """Check a manifest for leakage and implausible data; exits 1 if there are errors."""
    from serkit.audit import audit as look
    from serkit.findings import to_json, to_rows
    from serkit.types import Manifest

    _ = corpus, root
    if _is_table(manifest):
        raise SerkitError(
            f"{manifest} is a table, and audit takes a manifest, which a run has: serkit prepare RECIPE --corpus table "
            f"--root {manifest} --out RUN, then serkit audit RUN"
        )
    if manifest.is_dir() and not (manifest / "manifest.jsonl").is_file():
        folds = sorted(p.parent for p in manifest.glob("fold*/manifest.jsonl"))
        raise SerkitError(
            f"{manifest} holds no manifest.jsonl, which a run has: "
            + (
                f"it is a cross-validation, so name a fold, such as {folds[0]}"
                if folds
                else f"serkit prepare RECIPE --corpus NAME --root {manifest} --out RUN, then serkit audit RUN"
            )
        )
    rows = Manifest.load(manifest / "manifest.jsonl" if manifest.is_dir() else manifest)
    with watcher() as watch:
        findings = look(rows, decode=decode, progress=watch)
    if as_json:
        typer.echo(json.dumps(to_json(rows, findings), indent=1, ensure_ascii=False))
    else:
        width = max((len(f.code) for f in findings), default=0) + 2
        for row in to_rows(findings):
            who = f" ({row['ids']})" if row["ids"] else ""
            typer.echo(f"{row['severity']:8}{row['code']:{width}}{row['message']}{who}")
        if not findings:
            typer.echo("nothing found")
    if any(f.severity == "error" for f in findings):
        raise typer.Exit(1)


def _is_table(path: Path) -> bool:
    """Whether a file is a table of the user's own: by its suffix, or JSONL whose first row names a recording."""
    if path.suffix.lower() != ".jsonl" or not path.is_file():
        return path.suffix.lower() in (".csv", ".tsv", ".parquet")
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        try:
            first = json.loads(next((line for line in lines if line.strip()), ""))
        except json.JSONDecodeError:
            return False
    return isinstance(first, dict) and "path" in {str(key).strip().lower() for key in first}


def compare(
    a: Annotated[Path, typer.Argument(help="Folder of a run or a cross-validation.", metavar="RUN_A")],
    b: Annotated[Path, typer.Argument(help="Folder of another run on the same rows.", metavar="RUN_B")],
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    system_a: Annotated[str | None, typer.Option(help="System of A [default: stack, or its only one].")] = None,
    system_b: Annotated[str | None, typer.Option(help="System of B [default: stack, or its only one].")] = None,
    draws: Annotated[int, typer.Option(help="Bootstrap draws.", min=10)] = 1000,
    as_json: AsJson = False,
) -> None:
    """Paired differences between two runs, or two cross-validations with their folds pooled, with intervals."""
    from serkit import pipeline
    from serkit.comparison import compare as paired
    from serkit.comparison import compare_attributes
    from serkit.pipeline import elsewhere
    from serkit.types import SPLITS

    if split not in SPLITS:
        raise SerkitError(f"no split '{split}'" + did_you_mean(split, SPLITS))
    sides = (pipeline.runs_of(a), pipeline.runs_of(b))
    for folder, runs in zip((a, b), sides, strict=True):
        if elsewhere.is_matrix(runs):
            raise SerkitError(f"{folder} is a table of train by test; name a fold of it, such as {runs[0].folder}")
    hashes = [[r.manifest.split_hash for r in runs] for runs in sides]
    if hashes[0] != hashes[1]:
        told = " and ".join(f"{folder} ({_data(runs)})" for folder, runs in zip((a, b), sides, strict=True))
        raise SerkitError(f"{told} are not on the same splits of the same utterances; they cannot be compared")
    labels = [elsewhere.common_labels(runs) for runs in sides]
    if labels[0] != labels[1]:
        raise SerkitError(f"{a} and {b} have different labels; they cannot be compared")
    gold = [{u.id: u.emotion for r in runs for u in r.manifest.split(split)} for runs in sides]
    other = [name for name, emotion in gold[0].items() if gold[1].get(name) != emotion]
    if other:
        said = " and ".join(f"'{truth.get(other[0])}'" for truth in gold)
        raise SerkitError(
            f"{a} and {b} label {len(other)} {split} clips differently: {said} for '{other[0]}' "
            "(see map_labels); they cannot be compared"
        )
    names = [_default_system(runs[0], s) for runs, s in zip(sides, (system_a, system_b), strict=True)]
    tables = [
        [elsewhere.predictions_among(r, n, split, labels[0]) for r in runs]
        for runs, n in zip(sides, names, strict=True)
    ]
    manifests = [elsewhere.manifest_among(r, labels[0]) for r in sides[0]]
    found = paired(tables[0], tables[1], manifests, split=split, draws=draws)
    rated = compare_attributes(tables[0], tables[1], manifests, split=split, draws=draws)
    if as_json:
        typer.echo(json.dumps([d.to_row() for d in (*found, *rated)], indent=1))
        return
    typer.echo(f"{a.name}:{names[0]} against {b.name}:{names[1]}, {split}, n = {found[0].n}")
    if rated and rated[-1].n != found[0].n:
        typer.echo(f"  CCC is of rated clips: n = {rated[-1].n}")
    for d in (*found, *rated):
        typer.echo(difference_line(d))


def _data(runs: Sequence[Run]) -> str:
    """Short description of one side: corpus, protocol and folds."""
    infos = [r.manifest.info for r in runs]
    folds = [str(info["fold"]) for info in infos if info.get("fold") is not None]
    said = [runs[0].manifest.corpus, infos[0].get("protocol"), f"fold {', '.join(folds)}" if folds else None]
    return ", ".join(word for word in said if word)


def _default_system(run: Run, given: str | None) -> str:
    if given is not None:
        known = [*run.recipe.systems, *run.ensembles]
        if given not in known:
            raise SerkitError(f"{run.folder} has no system '{given}'" + did_you_mean(given, known))
        return given
    return run.lead or next(iter(run.recipe.systems))
