"""What ``bundle.json`` holds, key by key: its shape is checked once, before anything of it is used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any

from serkit.errors import SerkitError, on_one_line

HEAD = "bundle.json"
TEXT, NAME, FLAG, NUMBER, ANY = "text", "text on one line", "true or false", "a number", "anything"
WHOLE, WHOLE_OR_NULL = "a whole number", "a whole number or null"
_KINDS: Mapping[str, tuple[type, ...]] = {
    TEXT: (str,), NAME: (str,), FLAG: (bool,), WHOLE: (int,), WHOLE_OR_NULL: (int, type(None)), NUMBER: (int, float),
}  # fmt: skip
_CORPUS = {"corpus?": TEXT, "manifest?": TEXT, "recipe?": TEXT, "*": ANY}
_LEVEL = {"confidence": NUMBER, "precision": NUMBER, "*": ANY}

# A key with ? may be missing; * is any other key; [shape] is a list.
SHAPE: Mapping[str, Any] = {
    "format?": WHOLE,
    "name": NAME,
    "serkit?": NAME,
    "description?": TEXT,
    "labels": [NAME],
    "network_labels?": [NAME],
    "attributes?": [TEXT],
    "rating_scale?": [NUMBER],
    "system?": TEXT,
    "features": {
        "*": {
            "name": NAME,
            "parameters": {"*": ANY},
            "spec": {"name": TEXT, "modality": TEXT, "*": ANY},  # an encoder of one's own may have a revision 2
            "fingerprint": TEXT,
            "tokenizer?": NAME,
            "*": ANY,
        }
    },
    "networks": [
        {
            "system": NAME, "model": NAME, "file": NAME, "features": [NAME], "batches": FLAG, "attributes?": FLAG,
            "*": ANY,
        }
    ],
    "stack": {"kind": NAME, "systems": [NAME], "labels": [NAME], "decimals?": WHOLE_OR_NULL, "*": ANY},
    "calibration": {
        "method": TEXT, "labels": [TEXT], "weights": [NUMBER], "bias": [NUMBER], "record": {"*": ANY}, "*": ANY,
    },
    "unsure_below?": NUMBER,
    "levels?": [_LEVEL],
    "weights?": TEXT,
    "largest_difference?": NUMBER,
    "max_clip_s": NUMBER,
    "hears_calls?": FLAG,
    "licence": {"weights": TEXT, "code?": TEXT, "*": ANY},
    "trained_on?": _CORPUS,
    "calibrated_on?": {"splits?": [TEXT], "*": ANY},
    "adapted?": {"from": TEXT, "*": ANY},
    "labelled?": {"from": TEXT, "manifest?": TEXT, "split?": TEXT, "*": ANY},
    "files": {"*": {"bytes?": WHOLE, "blake2b": TEXT, "*": ANY}},
    "*": ANY,
}  # fmt: skip


@dataclass(frozen=True)
class NetworkEntry:
    """One network of a bundle.

    Attributes:
        system: its name in the recipe. model: which fold's, or ``full``. file: where its graph is.
        features: keys of the features it reads, in the order of its inputs.
        batches: whether a clip's numbers are the same in any batch. attributes: whether it answers them too.
    """

    system: str
    model: str
    file: str
    features: tuple[str, ...]
    batches: bool = True
    attributes: bool = False


def check_head(head: object, source: str) -> None:
    """Refuse a head with a key that is missing or of another kind; numbers have to be finite.

    Args:
        head: content of ``bundle.json``. source: the bundle, for the message.

    Raises:
        SerkitError: the first that is wrong: its key, what was expected, and what is there.
    """
    wrong = _wrong(head, SHAPE, "")
    scale = head.get("rating_scale", [0, 1]) if isinstance(head, dict) and not wrong else [0, 1]
    if len(scale) != 2 or not scale[0] < scale[1]:
        wrong = f"rating_scale is {_said(str(scale))}, expected the lowest and the highest rating"
    if wrong:
        raise SerkitError(f"{source}: {HEAD} is damaged: {wrong}")
    check_names(head["files"] if isinstance(head, dict) else (), source)


def check_names(names: Iterable[str], source: str) -> None:
    """Refuse names of files that lead out of a bundle, such as one takes over from another.

    Raises:
        SerkitError: the first one.
    """
    for name in names:
        path = PureWindowsPath(name)  # which also takes whatever leads out elsewhere for that
        if not path.parts or path.anchor or ".." in path.parts or "\\" in name:
            raise SerkitError(
                f"{source}: {HEAD} is damaged: a file is called {_said(name)}, which is no name inside the bundle"
            )


def _wrong(value: Any, shape: Any, at: str) -> str:
    """What is wrong below a key; empty where nothing is."""
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{at} is {_said(value)}, expected a list"
        return next((said for k, one in enumerate(value) if (said := _wrong(one, shape[0], f"{at}[{k}]"))), "")
    if isinstance(shape, Mapping):
        return _wrong_keys(value, shape, at)
    if shape == ANY:
        return ""
    fits = isinstance(value, _KINDS[shape]) and (shape == FLAG or not isinstance(value, bool))
    if fits and shape == NAME:
        fits = on_one_line(value)
    elif fits and isinstance(value, int | float):
        fits = abs(value) < 2**63  # which no NaN is
    return "" if fits else f"{at} is {_said(value)}, expected {shape}"


def _wrong_keys(value: Any, shape: Mapping[str, Any], at: str) -> str:
    if not isinstance(value, dict):
        return f"{at or HEAD} is {_said(value)}, expected an object"
    left = dict(value)
    for key, one in shape.items():
        if key == "*":
            continue
        name = key.removesuffix("?")
        place = f"{at}.{name}".lstrip(".")
        if name not in left and name == key:
            return f"{place} is missing"
        if name in left and (said := _wrong(left.pop(name), one, place)):
            return said
    return next(
        (said for key, one in left.items() if (said := _wrong(one, shape["*"], f"{at}.{key!r}".lstrip(".")))), ""
    )


def _said(value: object) -> str:
    """A value in few words.

    >>> _said(None), _said([1, 2]), _said("x" * 50)
    ('null', 'a list', "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…")
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    said = repr(value)
    return said if len(said) <= 40 else said[:40] + "…"
