"""The generated tables of the documentation, between ``<!-- table:NAME -->`` and ``<!-- /table -->``.

``python tests/doc_tables.py`` (``make docs``) writes them anew; cells that a person wrote are kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from serkit import recipe as recipes
from serkit import registry, settings
from serkit.readers import card
from serkit.serving.conditions import parse

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(p.relative_to(ROOT)) for p in DOCUMENTS]
TABLE = re.compile(r"(<!-- table:(?P<name>[\w-]+) -->\n)(?P<body>.*?)(<!-- /table -->)", re.S)


def row(*cells: str) -> str:
    return "| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in cells) + " |"


def cells(line: str) -> list[str]:
    return [c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def table(header: tuple[str, ...], rows: list[tuple[str, ...]], old: str, kept: int) -> str:
    """A Markdown table whose last ``kept`` columns come from the old table, by the first cell."""
    before = {cells(x)[0]: cells(x) for x in old.splitlines() if x.startswith("|")}
    lines = [row(*header), row(*["---"] * len(header))]
    for r in rows:
        mine = before.get(r[0], [])
        lines.append(row(*r, *(mine[-kept:] if kept and len(mine) == len(header) else [""] * kept)))
    return "\n".join(lines) + "\n"


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        shown, fields = value.model_dump(), type(value).model_fields
        changed = {
            k: shown[k] for k, f in fields.items() if getattr(value, k) != f.get_default(call_default_factory=True)
        }
        return f"`{_short(changed)}`" if changed else "all its defaults"
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return f"`[{', '.join(v.name for v in value)}]`"  # type: ignore[attr-defined]
    return f"`{_short(value)}`"


def range_of(field: FieldInfo) -> str:
    """What a key may be, as far as its type says."""
    options: list[str] = []
    limits = [f"> {m.gt:.10g}" for m in field.metadata if isinstance(m, Gt)]
    limits += [f"≥ {m.ge:.10g}" for m in field.metadata if isinstance(m, Ge)]
    limits += [f"< {m.lt:.10g}" for m in field.metadata if isinstance(m, Lt)]
    limits += [f"≤ {m.le:.10g}" for m in field.metadata if isinstance(m, Le)]
    pending = [field.annotation]
    while pending:
        kind = pending.pop(0)
        if get_origin(kind) is Literal:
            options += [f"`{choice}`" for choice in get_args(kind)]
        elif get_origin(kind) in (Union, UnionType):
            pending = [*get_args(kind), *pending]
        elif kind is NoneType:
            options.append("`null`")
        elif kind is bool:
            options += ["`true`", "`false`"]
        elif kind in (int, float):
            options.append(" ".join(["whole number" if kind is int else "number", ", ".join(limits)]).strip())
        elif get_origin(kind) is tuple:
            options.append("list")
        elif get_origin(kind) is Mapping:
            options.append("mapping")
        elif kind is str:
            options.append("text")
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            named = issubclass(kind, (recipes.Named, recipes.Transcripts))
            options.append("name or mapping" if named else "mapping")
    return ", ".join(options)


def _short(value: Any) -> str:
    if value is None:
        return "null"
    if value == "":
        return '""'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_short, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_short(v)}" for k, v in value.items()) + "}"
    return str(value)


SETTINGS = ("Recipe", "Transcripts", "System", "Train", "SecondStage", "Crossfit", "Stack", "Evaluate")


def schema(model: str) -> Callable[[str], str]:
    """A table of one pydantic model of a recipe; source and meaning are written by hand."""

    def made(old: str) -> str:
        fields = getattr(recipes if hasattr(recipes, model) else settings, model).model_fields
        rows = [(f"`{key}`", default_of(field), range_of(field)) for key, field in fields.items()]
        return table(("key", "default", "may be", "source of the default", "meaning"), rows, old, 2)

    return made


def corpora_table(old: str) -> str:
    rows = []
    for name in registry.names("corpora"):
        c = card(name)
        n_speakers, n_clips = (str(count.value or "unknown") for count in (c.speakers, c.utterances))
        protocols = ", ".join(f"`{p.name}`" + (" (speakers shared)" if p.speakers_shared else "") for p in c.protocols)
        languages = ", ".join(c.languages) or "any"
        rows.append((f"`{name}`", languages, c.kind, n_speakers, n_clips, c.licence, protocols))
    header = ("name", "language", "speech", "speakers", "clips", "licence", "protocols, the first is the default")
    return table(header, rows, old, 0)


def members_table(kind: registry.Kind) -> Callable[[str], str]:
    def made(old: str) -> str:
        rows = []
        for name in registry.names(kind):
            m = registry.member(kind, name)
            shown = ", ".join(f"`{k}`" if v is None else f"`{k}={v}`" for k, v in m.parameters.items())
            rows.append((f"`{name}`", m.doc, shown))
        return table(("name", "what it is", "parameters"), rows, old, 0)

    return made


def encoders_table(old: str) -> str:
    """One row a family; the options that all speech models or all text models share are in a row of their own."""

    def shown(options: Mapping[str, object]) -> str:
        return ", ".join(f"`{k}={v}`" for k, v in options.items() if k != "name" and v is not None)

    families = {family: registry.member("encoders", family) for family in registry.names("encoders")}
    shared = {"speech models": families["wavlm"].parameters, "text models": families["roberta"].parameters}
    rows = [(f"*{kind}*", "the options that they share", shown(options)) for kind, options in shared.items()]
    for family, m in families.items():
        kinds = [kind for kind, options in shared.items() if options.items() <= m.parameters.items()]
        own = {k: v for k, v in m.parameters.items() if not any(k in shared[kind] for kind in kinds)}
        rows.append((f"`{family}`", m.doc, ", ".join([*(f"*{kind}*" for kind in kinds), *filter(None, [shown(own)])])))
    return table(("family", "what it gives", "choices"), rows, old, 0)


def conditions_table(old: str) -> str:
    """What each condition of ``serkit measure --under all`` is made of; the meaning is written by hand."""
    rows = []
    for condition in parse(["all"]):
        steps = [
            f"`{s['name']}: {', '.join(f'{k}={v}' for k, v in s.items() if k != 'name')}`" for s in condition.to_row()
        ]
        rows.append((f"`{condition.name}`", ", ".join(steps)))
    return table(("condition", "augmentation", "meaning"), rows, old, 1)


TABLES: dict[str, Callable[[str], str]] = {
    **{f"schema-{m.lower()}": schema(m) for m in SETTINGS},
    "corpora": corpora_table,
    "models": members_table("models"),
    "losses": members_table("losses"),
    "augment": members_table("augment"),
    "encoders": encoders_table,
    "conditions": conditions_table,
}


def written(text: str) -> str:
    """The document with its tables made anew."""
    return TABLE.sub(lambda m: m[1] + TABLES[m["name"]](m["body"]) + m[4], text)


if __name__ == "__main__":
    for document in DOCUMENTS:
        before = document.read_text(encoding="utf-8")
        after = written(before)
        if after != before:
            document.write_text(after, encoding="utf-8")
            print(f"written: {document.relative_to(ROOT)}")
