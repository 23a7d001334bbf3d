"""The page at ``/docs``: the service's OpenAPI in readable form. It runs no script and loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

_STYLE = Path(__file__).with_name("reference.css")
_CURL = {
    "multipart/form-data": "curl {key}-F file=@call.wav {url}",
    "application/json": "curl {key}-H 'Content-Type: application/json' -d @request.json {url}",
    "audio/wav": "curl {key}-H 'Content-Type: audio/wav' --data-binary @call.wav {url}",
}

Json = Mapping[str, Any]


@cache
def _style() -> str:
    return _STYLE.read_text(encoding="utf-8")


def policy() -> str:
    """The Content-Security-Policy of the page: nothing but its own style, known by its hash."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def page(openapi: Json, base: str = "") -> str:
    """The whole page.

    Args:
        openapi: the schema, of version 3.1. base: address of the service without a slash at its end, for the examples.

    Returns:
        HTML, in which all that the schema says is text.
    """
    schemas: Json = openapi.get("components", {}).get("schemas", {})
    operations = [(m.upper(), path, row) for path, rows in openapi["paths"].items() for m, row in rows.items()]
    title = f"{openapi['info']['title']} {openapi['info']['version']}: HTTP interface"
    said = "".join(f"<p>{_marked(text)}</p>" for text in openapi["info"].get("description", "").strip().split("\n\n"))
    keyed = bool(openapi.get("security"))
    key = "<p>This service requires a key: <code>X-API-Key: KEY</code>, or <code>Authorization: Bearer KEY</code>.</p>"
    parts = [
        f"<h1>{escape(title)}</h1>{said}{key * keyed}",
        '<p class="muted">Machine-readable: <a href="openapi.json">openapi.json</a>.</p>',
        f'<nav aria-label="Contents"><ul>{"".join(_entry(method, path) for method, path, _ in operations)}</ul></nav>',
        '<h2 id="operations">Requests</h2>',
        *(_operation(method, path, row, base, keyed=keyed) for method, path, row in operations),
        '<h2 id="schemas">Input and output</h2>',
        *(_schema(name, row) for name, row in schemas.items()),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{_style()}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#operations">Skip to the requests</a>\n<main>\n' + "\n".join(parts) + "\n</main>\n"
        "</body>\n</html>\n"
    )


def _place(method: str, path: str) -> str:
    words = "".join(c if c.isalnum() else " " for c in path).split()
    return "-".join([method.lower(), *words])


def _entry(method: str, path: str) -> str:
    name = f'<span class="method">{method}</span> <code>{escape(path)}</code>'
    return f'<li><a href="#{_place(method, path)}">{name}</a></li>'


def _operation(method: str, path: str, row: Json, base: str, *, keyed: bool) -> str:
    """A request: what it is for, what it takes, how it is asked, what it answers."""
    head = f'<h3><span class="method">{method}</span> <code>{escape(path)}</code></h3>'
    parts = [head, *(f"<p>{_marked(text)}</p>" for text in row.get("description", "").split("\n\n") if text)]
    given = row.get("parameters", ())
    if given:
        lines = [
            (p["name"], f"{p['in']}, required" if p.get("required") else p["in"], _kind(p["schema"]), _about(p))
            for p in given
        ]
        parts.append(_table(f"Parameters of {method} {path}", ("parameter", "in", "type", "meaning"), lines))
    bodies: Json = row.get("requestBody", {}).get("content", {})
    for kind, content in bodies.items():
        parts.append(f"<h4>Body as <code>{escape(kind)}</code></h4>")
        parts.append(_body(f"Fields of {kind}, {method} {path}", content["schema"]))
    parts.append("<h4>Example</h4>")
    flag = "-H 'X-API-Key: KEY' " if keyed and path.startswith("/v1/") and path != "/v1/model" else ""
    url = base + path.replace("{job}", "JOB")
    verb = "" if method in ("GET", "POST") else f"-X {method} "
    asked = [_CURL[k].format(key=flag, url=url) for k in bodies if k in _CURL] or [f"curl {flag}{verb}{url}"]
    parts.append(_code("\n".join(asked), f"Example of {method} {path}"))
    answers = [(status, _answer_kind(answer), answer["description"]) for status, answer in row["responses"].items()]
    parts.append("<h4>Answers</h4>")
    parts.append(_table(f"Answers of {method} {path}", ("status", "body", "meaning"), answers))
    return f'<section id="{_place(method, path)}">{"".join(parts)}</section>'


def _answer_kind(answer: Json) -> str:
    kinds = [_kind(row["schema"]) if row.get("schema") else _word(kind) for kind, row in _content(answer)]
    return " or ".join(kinds) or "none"


def _content(answer: Json) -> Iterable[tuple[str, Json]]:
    found: Json = answer.get("content", {})
    return found.items()


def _body(title: str, schema: Json) -> str:
    """The fields of a body, or where they are told."""
    if "$ref" in schema or "properties" not in schema:
        return f"<p>{_kind(schema)}</p>" if "$ref" in schema else "<p>The bytes of a recording.</p>"
    return _fields(title, schema)


def _schema(name: str, schema: Json) -> str:
    """A type by name: its fields, and an example."""
    parts = [f"<h3><code>{escape(name)}</code></h3>"]
    parts += [f"<p>{_marked(text)}</p>" for text in schema.get("description", "").split("\n\n") if text]
    if "properties" in schema:
        parts.append(_fields(f"Fields of {name}", schema))
    if "example" in schema:
        text = json.dumps(schema["example"], ensure_ascii=False, indent=1)
        shown = _code(text, f"Example of {name}")
        parts.append(f"<details><summary>Example of <code>{escape(name)}</code></summary>{shown}</details>")
    return f'<section id="schema-{escape(name)}">{"".join(parts)}</section>'


def _fields(title: str, schema: Json) -> str:
    needed = schema.get("required", ())
    lines = [
        (name, _kind(row) + (", required" if name in needed else ""), _about(row))
        for name, row in schema["properties"].items()
    ]
    return _table(title, ("field", "type", "meaning"), lines)


def _about(row: Json) -> str:
    """What a parameter or field means, its default, its example."""
    schema: Json = row.get("schema", row)
    found = [str(row["description"])] if row.get("description") else []
    if schema.get("default") not in (None, [], {}):
        found.append(f"Default: `{json.dumps(schema['default'])}`.")
    if "example" in schema and "properties" not in schema:
        found.append(f"Example: `{schema['example']}`.")
    return " ".join(found)


def _kind(schema: Json) -> str:
    """A type in words, as HTML; one with a name is a link to it."""
    if "$ref" in schema:
        name = escape(str(schema["$ref"]).rsplit("/", 1)[-1])
        return f'<a href="#schema-{name}"><code>{name}</code></a>'
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(_word(json.dumps(x)) for x in schema.get("enum", [schema.get("const")]))
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"{_kind(schema['additionalProperties'])} by name"
    bounds = [
        f"{sign} {schema[key]:g}"
        for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
        if key in schema
    ]
    return escape(" ".join([kind, ", ".join(bounds)]).strip())


def _table(title: str, head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Rows whose first cell is a name, whose last is text, and whose others are HTML."""
    top = "".join(f'<th scope="col">{name}</th>' for name in head)
    rows = "".join(
        f'<tr><th scope="row">{_word(first)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}'
        f"<td>{_marked(last)}</td></tr>"
        for first, *cells, last in lines
    )
    table = f"<table><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">{table}</div>'


def _code(text: str, title: str) -> str:
    return f'<pre tabindex="0" role="region" aria-label="{escape(title)}"><code>{escape(text)}</code></pre>'


def _word(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _marked(text: str) -> str:
    """Text as HTML, with what stands between backquotes as code."""
    pieces = escape(" ".join(text.split())).replace("``", "`").split("`")
    if len(pieces) % 2 == 0:  # one that is not closed
        return "`".join(pieces)
    return "".join(f"<code>{piece}</code>" if k % 2 else piece for k, piece in enumerate(pieces))
