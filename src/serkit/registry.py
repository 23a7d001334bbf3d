"""The file tree is the registry: ``focal`` among the losses is the public callable of ``losses/focal.py``.

Nothing registers itself. Names, parameters and one-line descriptions are read from the source text,
so that a recipe is checked and a listing printed without importing torch. A dotted name
(``mylab.losses.mine``) is imported as it stands: that is the whole plug-in system.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from serkit.errors import SerkitError, check_known, did_you_mean, in_one_line
from serkit.parameters import Allowed, Needs, definition, kinds_of, needs_of, objection

Kind = Literal["corpora", "augment", "encoders", "models", "losses"]
CONTEXT = frozenset(
    {"self", "outputs", "batch", "class_counts", "label_names", "dims", "n_classes", "dim", "layer_dims"}
)
"""Arguments that the pipeline hands in and a recipe cannot set."""


@dataclass(frozen=True)
class Member:
    """One file of a kind, as its source says.

    Attributes:
        name: as recipes write it. attribute: the public callable's own name.
        parameters: what a recipe may set, with the source text of each default (``None``: required).
        doc: first line of its docstring.
        open: it takes any further keyword.
        kinds: by parameter, what its value may be, where its annotation says so.
        needs: by parameter, the other one without which it changes nothing, where its annotation says so.
    """

    name: str
    attribute: str
    parameters: Mapping[str, str | None]
    doc: str
    open: bool = False
    kinds: Mapping[str, tuple[Allowed, ...]] = field(default_factory=dict)
    needs: Mapping[str, Needs] = field(default_factory=dict)


def names(kind: Kind) -> tuple[str, ...]:
    """Names of all members of a kind, from the files of its folder."""
    folder = Path(__file__).parent / kind
    return tuple(sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_")))


@cache
def member(kind: Kind, name: str) -> Member:
    """Describe one member without importing it (a dotted name is imported).

    Raises:
        SerkitError: no such name, with the nearest known one; or a file without its public callable.
    """
    if "." in name:
        return _imported(kind, name)
    path = Path(__file__).parent / kind / f"{name}.py"
    listed = "augmentations" if kind == "augment" else kind
    check_known(name, names(kind), f"no {singular(kind)} '{name}'", listed=f"serkit {listed}")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    wanted = {name, camel_case(name)}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in wanted:
            return _member(name, node, node, path)
        if isinstance(node, ast.ClassDef) and node.name in wanted:
            return _member(name, node, *_constructor(node, path))
    raise SerkitError(f"{kind}/{name}.py has no public '{name}' or '{camel_case(name)}'")


def find(kind: Kind, name: str) -> Callable[..., Any]:
    """Import the callable that a name stands for.

    Raises:
        SerkitError: unknown name, or a dotted name that cannot be imported, whatever its file raises.
    """
    if "." in name:
        module, _, attribute = name.rpartition(".")
        try:
            holder = importlib.import_module(module)
            if not hasattr(holder, attribute) and hasattr(holder, "__path__") and importlib.util.find_spec(name):
                importlib.import_module(name)  # a file of a package is its attribute only once it is imported
        except ImportError as error:
            unseen = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
            way = "; install it, or put its folder on PYTHONPATH (PYTHONPATH=. for this folder)" if unseen else ""
            raise SerkitError(f"{singular(kind)} '{name}' cannot be imported: {error}{way}") from None
        except Exception as error:  # of a file of the user's own, which may raise anything
            raise SerkitError(f"{singular(kind)} '{name}' cannot be imported: {in_one_line(error)}") from error
        if not hasattr(holder, attribute):
            there = [key for key, value in vars(holder).items() if callable(value) or f"{module}.{key}" in sys.modules]
            raise SerkitError(
                f"{singular(kind)} '{name}' cannot be imported: module '{module}' has no '{attribute}'"
                + did_you_mean(attribute, (key for key in there if not key.startswith("_")))
            )
        found = getattr(holder, attribute)
        if inspect.ismodule(found):  # mylab.losses.mine is a file: take its one public callable
            found = getattr(found, attribute, None) or getattr(found, camel_case(attribute), None)
        if not callable(found):
            raise SerkitError(f"{singular(kind)} '{name}' is not callable")
        return found  # type: ignore[no-any-return]  # what a name holds
    described = member(kind, name)
    module_found = importlib.import_module(f"serkit.{kind}.{name}")
    return getattr(module_found, described.attribute)  # type: ignore[no-any-return]  # what a name holds


def file_of(kind: Kind, name: str) -> frozenset[str]:
    """The file of a member with a dotted name, one of the user's own; nothing for the others, or if it has no file."""
    found = inspect.unwrap(find(kind, name)) if "." in name else None
    at = inspect.getsourcefile(found) if inspect.isroutine(found) or inspect.isclass(found) else None
    return frozenset({at} if at else ())


def check_parameters(kind: Kind, name: str, given: Mapping[str, Any], where: str) -> None:
    """Refuse a parameter that the named member does not take, a value it cannot have, and a required one not given.

    Args:
        where: place in the recipe, for the message.

    Raises:
        SerkitError: naming the nearest known parameter or word, or the range of a number.
    """
    described = member(kind, name)
    for key in given:
        if key not in described.parameters and not described.open:
            known = [*described.parameters, *(["weight"] if kind == "losses" else [])]  # which every loss has
            raise SerkitError(f"{where}: {singular(kind)} '{name}' has no parameter '{key}'" + did_you_mean(key, known))
        wrong = wrong_value(described, key, given[key])
        if wrong:
            raise SerkitError(f"{where}: {key} of {singular(kind)} '{name}' {wrong}")
    missing = [k for k, default in described.parameters.items() if default is None and k not in given]
    if missing:
        raise SerkitError(f"{where}: {singular(kind)} '{name}' needs the parameter '{missing[0]}'")


def wrong_value(described: Member, key: str, value: Any) -> str:
    """What is wrong with the value of a parameter, to stand behind "KEY of NAME"; empty where nothing is."""
    return objection(_kinds(described, key), value, literal(described.parameters.get(key)))


def _kinds(described: Member, key: str) -> tuple[Allowed, ...]:
    """What a parameter may be: as annotated; else no word where the default is a number or a truth value."""
    default = literal(described.parameters.get(key))
    if key in described.kinds or not isinstance(default, bool | int | float):
        return described.kinds.get(key, ())
    return tuple(map(Allowed, ("bool",) if isinstance(default, bool) else ("float", "None")))


def literal(source: str | None) -> Any:
    """The value of a default, where it is written out."""
    try:
        return None if source is None else ast.literal_eval(source)
    except (ValueError, SyntaxError):
        return None


def camel_case(name: str) -> str:
    """``center_loss`` → ``CenterLoss``.

    >>> camel_case("center_loss")
    'CenterLoss'
    """
    return "".join(part.capitalize() for part in name.split("_"))


def singular(kind: Kind) -> str:
    """What one member of a kind is called in a message.

    >>> singular("losses")
    'loss'
    """
    return {"corpora": "corpus", "augment": "augmentation", "encoders": "encoder", "models": "model", "losses": "loss"}[
        kind
    ]


def _constructor(node: ast.ClassDef, path: Path) -> tuple[ast.FunctionDef | None, Path]:
    """The ``__init__`` of a class, its own or that of a base class in serkit, and the file it is written in."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return item, path
    for base in node.bases:
        above = definition(base.id, path) if isinstance(base, ast.Name) else None
        if above is not None and isinstance(above[0], ast.ClassDef):
            return _constructor(above[0], above[1])
    return None, path


def _member(name: str, node: ast.ClassDef | ast.FunctionDef, signature: ast.FunctionDef | None, path: Path) -> Member:
    defaults: dict[str, str | None] = {}
    annotations: dict[str, ast.expr | None] = {}
    open_ = False
    if signature is not None:
        args = signature.args
        positional = args.posonlyargs + args.args
        first: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults)) + list(args.defaults)
        pairs = list(zip(positional, first, strict=True)) + list(zip(args.kwonlyargs, args.kw_defaults, strict=True))
        pairs = [(a, d) for a, d in pairs if a.arg not in CONTEXT]
        defaults = {a.arg: ast.unparse(d) if d is not None else None for a, d in pairs}
        annotations = {a.arg: a.annotation for a, _ in pairs}
        open_ = args.kwarg is not None
    elif isinstance(node, ast.ClassDef):  # a dataclass: its annotated fields are its parameters
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                defaults[item.target.id] = ast.unparse(item.value) if item.value is not None else None
                annotations[item.target.id] = item.annotation
    doc = (ast.get_docstring(node) or "").split("\n", 1)[0]
    kinds = {key: kinds_of(annotation, path) for key, annotation in annotations.items()}
    needs = {key: found for key, annotation in annotations.items() if (found := needs_of(annotation)) is not None}
    return Member(name, node.name, defaults, doc, open_, kinds, needs)


def _imported(kind: Kind, name: str) -> Member:
    found = find(kind, name)
    signature = inspect.signature(found)
    defaults = {
        k: None if p.default is p.empty else repr(p.default)
        for k, p in signature.parameters.items()
        if k not in CONTEXT and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    open_ = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    doc = (inspect.getdoc(found) or "").split("\n", 1)[0]
    return Member(name, getattr(found, "__name__", name), defaults, doc, open_)
