"""What the value of a parameter may be, read from the annotation in the source: a word, a number, a range.

``dropout: Rate = 0.5`` is checked when a recipe is read, with nothing imported: the annotation is followed through
the aliases of its file, and of the files these come from. ``Annotated[Size, Needs("tuning", "lora")]`` says besides
that the parameter changes nothing unless another one has that value.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from serkit.errors import did_you_mean


@dataclass(frozen=True)
class Range:
    """Where a number may lie.

    Attributes:
        low, high: the smallest and the largest. above, below: bounds that are themselves outside.
    """

    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high and self.above < value < self.below

    def __str__(self) -> str:
        lower = f"at least {self.low:g}" if self.low > -math.inf else ""
        lower = f"more than {self.above:g}" if self.above > -math.inf else lower
        upper = f"at most {self.high:g}" if self.high < math.inf else ""
        upper = f"less than {self.below:g}" if self.below < math.inf else upper
        return ", ".join(word for word in (lower, upper) if word)


@dataclass(frozen=True, init=False)
class Needs:
    """Which other setting a setting needs in order to change anything.

    Attributes:
        key: the other setting, of the same group, or of the system that the group belongs to.
        values: what it must be, one of them; none: anything but null, false, 0 and ``none``.
    """

    key: str
    values: tuple[Any, ...]

    def __init__(self, key: str, *values: Any) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "values", values)

    def unmet(self, value: Any) -> str:
        """Why nothing changes where the other setting has this value, and what would; empty where something does.

        >>> Needs("schedule", "exponential").unmet("cosine")
        "has no effect while schedule is 'cosine'; it needs schedule 'exponential'"
        >>> Needs("balance").unmet("class")
        ''
        """
        if value in self.values if self.values else value not in (None, False, 0, "none"):
            return ""
        wanted = " or ".join(map(_shown, self.values)) if self.values else "to be on"
        return f"has no effect while {self.key} is {_shown(value)}; it needs {self.key} {wanted}"


Size = Annotated[int, Range(low=1)]
Whole = Annotated[int, Range(low=0)]
Rate = Annotated[float, Range(low=0, below=1)]
Share = Annotated[float, Range(low=0, high=1)]
Fraction = Annotated[float, Range(above=0, high=1)]
Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(low=0)]

_NAMES = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "a word",
    "None": "null",
    "Mapping": "a mapping",
    "Sequence": "a list",
}
_LISTS = ("Sequence", "tuple", "list")


@dataclass(frozen=True)
class Allowed:
    """One of the things that a value may be.

    Attributes:
        name: ``int``, ``float``, ``bool``, ``str``, ``None``, ``Mapping``, ``Sequence``, ``word``, or ``any``.
        words: of a ``word``, those there are. range: of a number. items: of a list or mapping, what its values may be.
    """

    name: str
    words: tuple[Any, ...] = ()
    range: Range = Range()
    items: tuple[Allowed, ...] = ()

    def takes(self, value: Any) -> bool:
        """Whether the value is such a thing."""
        if self.name in ("int", "float"):
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            return number and (self.name == "float" or isinstance(value, int)) and value in self.range
        if self.name in ("Mapping", "Sequence"):
            if not isinstance(value, Mapping if self.name == "Mapping" else list | tuple):
                return False
            inner = value.values() if isinstance(value, Mapping) else value
            return not self.items or all(any(k.takes(v) for k in self.items) for v in inner)
        return {
            "bool": isinstance(value, bool),
            "str": isinstance(value, str),
            "None": value is None,
            "word": any(value == word and type(value) is type(word) for word in self.words),
        }.get(self.name, True)

    def __str__(self) -> str:
        if self.name == "word":
            return " or ".join(map(_shown, self.words))
        bounds = str(self.range)
        text = _NAMES.get(self.name, "another value") + (f", {bounds}" if bounds else "")
        return f"{text} ({' or '.join(map(str, self.items))} each)" if self.items else text


def objection(kinds: tuple[Allowed, ...], value: Any, default: Any = None) -> str:
    """What is wrong with a value, to stand behind "KEY of model 'x'"; empty where nothing is.

    Args:
        kinds: what it may be; none allow everything. value: what it is. default: an example of what is expected.

    >>> objection((Allowed("float", range=Range(low=0, below=1)),), 2)
    'is 2, expected a number, at least 0, less than 1'
    >>> objection((Allowed("word", ("mean", "max")),), "men")
    "is 'men'; did you mean 'mean'?"
    """
    if not kinds or any(kind.takes(value) for kind in kinds):
        return ""
    words = [str(word) for kind in kinds for word in kind.words if isinstance(word, str)]
    if words and isinstance(value, str):
        return f"is {_shown(value)}" + did_you_mean(value, words)
    example = isinstance(default, int | float) and not isinstance(default, bool)
    such = f", such as {default}" if example and isinstance(value, str) else ""
    return f"is {_shown(value)}, expected {' or '.join(map(str, kinds))}{such}"


def kinds_of(annotation: ast.expr | None, path: Path) -> tuple[Allowed, ...]:
    """What an annotation in the file ``path`` allows; nothing where it says nothing that can be read here."""
    found = tuple(_kinds(annotation, path)) if annotation is not None else ()
    return () if any(kind.name == "any" for kind in found) else found


def definition(name: str, path: Path) -> tuple[ast.Assign | ast.ClassDef, Path] | None:
    """The class or assignment that a name stands for at the top of a file of serkit, and the file it is written in."""
    for node in _tree(path).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node, path
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return node, path
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("serkit."):
            for entry in node.names:
                if (entry.asname or entry.name) == name:
                    return definition(entry.name, _file(str(node.module)))
    return None


def needs_of(annotation: ast.expr | None) -> Needs | None:
    """The other setting that an annotation names with ``Needs``."""
    for call in _calls(annotation, "Needs"):
        return Needs(*map(ast.literal_eval, call.args))
    return None


def _calls(annotation: ast.expr | None, name: str) -> list[ast.Call]:
    """What stands beside the type in ``Annotated[type, name(…)]``."""
    if not isinstance(annotation, ast.Subscript) or ast.unparse(annotation.value) != "Annotated":
        return []
    beside = annotation.slice.elts[1:] if isinstance(annotation.slice, ast.Tuple) else []
    return [n for n in beside if isinstance(n, ast.Call) and ast.unparse(n.func) == name]


def _kinds(node: ast.expr, path: Path) -> Iterator[Allowed]:
    if isinstance(node, ast.BinOp):  # int | None
        yield from _kinds(node.left, path)
        yield from _kinds(node.right, path)
    elif isinstance(node, ast.Constant) and node.value is None:
        yield Allowed("None")
    elif isinstance(node, ast.Name) and node.id in _NAMES:
        yield Allowed(node.id)
    elif isinstance(node, ast.Name) and node.id in _LISTS:
        yield Allowed("Sequence")
    elif isinstance(node, ast.Name):
        meaning = definition(node.id, path)
        if meaning is not None and isinstance(meaning[0], ast.Assign):
            yield from _kinds(meaning[0].value, meaning[1])
        else:
            yield Allowed("any")
    elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id == "Literal":
            yield Allowed("word", tuple(ast.literal_eval(word) for word in inner))
        elif node.value.id == "Annotated":
            found = [
                Range(**{str(k.arg): ast.literal_eval(k.value) for k in c.keywords}) for c in _calls(node, "Range")
            ]
            for kind in _kinds(inner[0], path):
                yield Allowed(kind.name, range=found[0]) if found else kind
        elif node.value.id == "Mapping":
            yield Allowed("Mapping", items=kinds_of(inner[1], path))
        elif node.value.id in _LISTS:
            yield Allowed("Sequence", items=kinds_of(inner[0], path))
        else:
            yield Allowed("any")
    else:
        yield Allowed("any")


def _file(module: str) -> Path:
    stem = Path(__file__).parents[1].joinpath(*module.split("."))
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _shown(value: Any) -> str:
    """A value as a recipe writes it, short."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
