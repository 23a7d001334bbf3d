"""The commands that inspect existing files: ``audit`` a manifest, ``compare`` two runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from serkit.commands.options import AsJson, difference_lines, say, watcher
from serkit.errors import SerkitError, check_known


def _refuse(context: typer.Context, parameter: typer.CallbackParam, given: str | None) -> None:
    """Called before the argument can be missed."""
    if given is not None:
        raise SerkitError(
            f"audit takes no --{parameter.name} but a manifest, which a run has: serkit prepare RECIPE --corpus "
            f"{given if parameter.name == 'corpus' else 'NAME'} --out RUN, then serkit audit RUN/manifest.jsonl"
        )


NotOfAudit = Annotated[str | None, typer.Option("--corpus", hidden=True, is_eager=True, callback=_refuse)]
NotOfAuditRoot = Annotated[str | None, typer.Option("--root", hidden=True, is_eager=True, callback=_refuse)]


def audit(
    manifest: Annotated[Path, typer.Argument(help="manifest.jsonl, or the folder of a run.", metavar="MANIFEST")],
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
            say(f"{row['severity']:8}{row['code']:{width}}{row['message']}{who}")
        if not findings:
            say("nothing found")
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
    b: Annotated[Path, typer.Argument(help="Folder of another run with clips in common.", metavar="RUN_B")],
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
    from serkit.pipeline.pairing import Side, pair
    from serkit.types import SPLITS

    check_known(split, SPLITS, f"no split '{split}'")
    one, two = (Side.of(f, pipeline.runs_of(f), s) for f, s in ((a, system_a), (b, system_b)))
    rows = pair(one, two, split)
    found = paired(rows.a, rows.b, rows.manifests, split=split, draws=draws, present_only=rows.present_only)
    rated = compare_attributes(rows.a, rows.b, rows.manifests, split=split, draws=draws)
    for note in rows.notes:
        say(f"note: {note}", err=as_json)
    if as_json:
        notes = {"notes": list(rows.notes)} if rows.notes else {}
        typer.echo(json.dumps([{**d.to_row(), **notes} for d in (*found, *rated)], indent=1))
        return
    name, other = _told_apart(a, b)
    say(f"{name}:{one.system} against {other}:{two.system}, {split}, n = {found[0].n}")
    if rated and rated[-1].n != found[0].n:
        say(f"  CCC is of rated clips: n = {rated[-1].n}")
    for line in difference_lines((*found, *rated)):
        say(line)


def _told_apart(a: Path, b: Path) -> tuple[str, str]:
    """The names of two folders, with as much of the folders above as tells them apart.

    >>> _told_apart(Path("tuned/test/as-it-is/fold1"), Path("tuned/test/lr=1/fold1"))
    ('as-it-is/fold1', 'lr=1/fold1')
    >>> _told_apart(Path("runs/a"), Path("runs/a"))
    ('a', 'a')
    """
    one, two = a.absolute().parts, b.absolute().parts
    k = next((k for k in range(1, min(len(one), len(two)) + 1) if one[-k:] != two[-k:]), 1)
    return "/".join(one[-k:]), "/".join(two[-k:])


COMMANDS = (audit, compare)
