"""YAML as people write recipes: 1.2 floats (PyYAML reads ``1e-5`` as a string), and no key twice."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from serkit.errors import SerkitError

MOST = 100_000  # values that aliases add to those of a file


def parse(text: str, where: str) -> Any:
    """Text to plain values.

    Args:
        where: the file, or what else the message should name.

    Raises:
        SerkitError: not YAML, a key that occurs twice, or aliases that add more than :data:`MOST` values.

    >>> parse("lr: 1e-5", "recipe")
    {'lr': 1e-05}
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # the second of a date that there is not, such as 2024-13-45
        message = " ".join(str(error).split())
        raise SerkitError(f"{where} is not valid YAML: {message}") from None


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2 floats (``1e-5``), refusing a key that occurs twice, and aliases without an end."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        known: dict[int, int] = {}
        if node is not None and _n_values(node, known) > MOST + len(known):
            raise yaml.constructor.ConstructorError(None, None, f"aliases add more than {MOST} values", node.start_mark)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, f"{key} cannot be a key", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' occurs twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _n_values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values it is with every alias written out; one within itself counts as too many."""
    if id(node) not in known:
        known[id(node)] = MOST + 1  # while it is counted
        inside = [node.value] if isinstance(node, yaml.ScalarNode) else node.value
        parts = (part for one in inside for part in (one if isinstance(one, tuple) else (one,)))
        known[id(node)] = 1 + sum(_n_values(part, known) for part in parts if isinstance(part, yaml.Node))
    return known[id(node)]


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)
