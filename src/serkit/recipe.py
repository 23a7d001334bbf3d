"""YAML to a frozen, validated recipe: one file is one whole system.

Unknown keys and names are refused before any work, with the nearest known one. ``x-`` keys at the
top are a shelf for YAML anchors and are ignored. PyYAML reads ``1e-5`` as a string; the loader here
follows YAML 1.2 and reads a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from serkit import registry, yaml_text
from serkit.errors import SerkitError, check_known, did_you_mean
from serkit.evaluate_settings import Evaluate, Published
from serkit.files import fingerprint, is_file_name
from serkit.overrides import field_model, names_backbone, refuse_idle, set_key
from serkit.settings import (
    Crossfit,
    Feature,
    Frozen,
    Named,
    Stack,
    System,
    Transcripts,
    from_name,
)

RECIPES = Path(__file__).parent / "recipes"
_EXPECTED = {  # by pydantic's name of what went wrong
    **dict.fromkeys(("int", "int_from_float"), "a whole number"),
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    **dict.fromkeys(("model", "dict", "mapping"), "a mapping"),
}
TOLD = {"description", "published"}  # what a recipe says of itself, which changes no number
ENSEMBLES = ("stack", "random_forest", "logistic", "log_pool", "vote", "mean_logit", "mean_probability")
"""Rows of a report beside the systems: those of :data:`serkit.stacking.ENSEMBLES`, without its import."""
LAYER_WEIGHTS = ("softmax", "layer_norm", "none")


class Recipe(Frozen):
    """A whole system; see the module's docstring and ``docs/recipes.md``."""

    name: str
    description: str = ""
    published: tuple[Published, ...] = ()
    labels: Literal["corpus", "votes", "quadrants", "octants"] | tuple[str, ...] = "corpus"
    drop_labels: tuple[str, ...] = ()
    map_labels: Mapping[str, str] = Field(default_factory=dict)
    transcripts: Annotated[Transcripts | None, BeforeValidator(from_name)] = None
    exclude: tuple[str, ...] = ()
    copies: tuple[tuple[Annotated[Named, BeforeValidator(from_name)], ...], ...] = ()
    systems: Mapping[str, System] = Field(min_length=1)
    crossfit: Crossfit | None = Crossfit()
    stack: Stack | None = Stack()
    evaluate: Evaluate = Evaluate()
    seed: int = Field(7, ge=0, le=2**32 - 1)

    @property
    def features(self) -> dict[str, Feature]:
        """Every feature of every system, by key, in order of first use."""
        return {f.key: f for s in self.systems.values() for f in s.features}

    @property
    def fingerprint(self) -> str:
        """Hash of everything that changes the numbers (not :data:`TOLD`)."""
        return fingerprint(self.model_dump(mode="json", exclude=TOLD))

    def to_yaml(self) -> str:
        """The resolved recipe as YAML; loading it gives an equal recipe."""
        return str(yaml.safe_dump(_tidy(self.model_dump(mode="json")), sort_keys=False, allow_unicode=True, width=100))


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name (of the package) or path, with ``KEY=VALUE`` overrides.

    Args:
        source: ``offline12`` or ``my/recipe.yaml``.
        overrides: ``KEY=V`` sets KEY in every system that has it (``train.epochs=3``,
            ``model.hidden=64``), ``systems.NAME.KEY=V`` in one; top-level keys (``crossfit.folds``)
            are set at the top. V is read as YAML. ``model.backbone=NAME`` puts another front end under the head
            of ``compact`` and ``speech_backbone``.

    Raises:
        SerkitError: no such recipe, not YAML, an unknown key or name, a value out of range, an override that changes
            nothing because of another setting (``train.decay`` with ``schedule: cosine``).
    """
    path = Path(source)
    if not path.suffix:
        path = RECIPES / f"{source}.yaml"
        if not path.is_file():
            check_known(source, recipe_names(), f"no recipe '{source}'", listed="serkit recipes")
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError):
        raise SerkitError(f"no recipe file at {path}") from None
    except UnicodeDecodeError:
        raise SerkitError(f"{path} is not a text file") from None
    return parse_recipe(text, overrides, where=path.name)


def parse_recipe(text: str, overrides: Sequence[str] = (), where: str = "recipe") -> Recipe:
    """Like :func:`load_recipe`, from YAML text."""
    tree = yaml_text.parse(text, where)
    if not isinstance(tree, dict):
        got = "an empty file" if tree is None else type(tree).__name__
        raise SerkitError(f"{where}: expected a mapping with name and systems, got {got}")
    tree = {k: v for k, v in tree.items() if not str(k).startswith("x-")}
    recipe = _validate(tree, where)
    if overrides:
        tree = recipe.model_dump(mode="json")
        for override in sorted(overrides, key=lambda o: not names_backbone(o)):  # first what has further keys
            set_key(tree, override, Recipe)
        recipe = _validate(tree, where)
        for override in overrides:
            refuse_idle(recipe.systems, override.partition("=")[0].strip())
    return recipe


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes in the package."""
    return tuple(sorted(p.stem for p in RECIPES.glob("*.yaml")))


def _validate(tree: Mapping[str, Any], where: str) -> Recipe:
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        raise SerkitError(f"{where}: {_explain(error)}") from None
    for key, name in (("name", recipe.name), *(("systems", name) for name in recipe.systems)):
        if not is_file_name(name):
            raise SerkitError(
                f"{where}: {key}: {name[:40]!r} cannot be the name of a file, expected such as my_model-2"
            )
    for name, system in recipe.systems.items():
        _check_parts(system, f"{where}: systems.{name}")
    for copy in recipe.copies:
        for step in copy:
            registry.check_parameters("augment", step.name, step.parameters, f"{where}: copies")
    _check_folds(recipe, where)
    _check_published(recipe, where)
    return recipe


def _check_published(recipe: Recipe, where: str) -> None:
    """Refuse figures on a corpus that is none: no report would have them. A dotted name is one of the user's own."""
    for figures in recipe.published:
        for corpus in figures.corpus.split("+"):
            if "." not in corpus and not corpus.startswith("table-"):
                known = registry.names("corpora")
                check_known(corpus, known, f"{where}: published.corpus: no corpus '{corpus}'")
        if figures.answer is not None:
            rows = (*ENSEMBLES, *recipe.systems)
            check_known(figures.answer, rows, f"{where}: published.answer: no ensemble or system '{figures.answer}'")


def _check_parts(system: System, at: str) -> None:
    """Refuse a model, loss, augmentation or encoder that is not known, and parameters that it does not have."""
    parameters = system.model.parameters
    kind = parameters.pop("layer_weights", "softmax") if system.has_stack else "softmax"
    check_known(kind, LAYER_WEIGHTS, f"{at}.model: layer_weights '{kind}'")
    registry.check_parameters("models", system.model.name, parameters, f"{at}.model")
    later = (system.second_stage.losses or ()) if system.second_stage is not None else ()
    for part, losses in (("losses", system.losses), ("second_stage.losses", later)):
        for loss in losses:
            registry.check_parameters("losses", loss.name, loss.parameters, f"{at}.{part}")
    for step in system.augment:
        registry.check_parameters("augment", step.name, step.parameters, f"{at}.augment")
    for feature in system.features:
        if ":" not in feature.name:
            registry.member("encoders", feature.family)


def _check_folds(recipe: Recipe, where: str) -> None:
    """Refuse a stack without out-of-fold scores, and a refit without clips to choose its epoch on."""
    if recipe.stack is not None and recipe.crossfit is None and not recipe.stack.in_sample:
        raise SerkitError(
            f"{where}: a stack needs out-of-fold scores: set crossfit, or set stack.in_sample: true explicitly"
        )
    dealt = recipe.crossfit is not None and recipe.crossfit.with_dev and recipe.crossfit.refit
    if dealt and (choosing := [name for name, s in recipe.systems.items() if s.train.select != "last"]):
        raise SerkitError(
            f"{where}: crossfit.with_dev leaves no clips to choose an epoch of a refit on, and '{choosing[0]}' has "
            f"train.select: {recipe.systems[choosing[0]].train.select}; set train.select=last, or crossfit.refit=false"
        )


def _explain(error: ValidationError) -> str:
    """One line for the first thing that is wrong, with the nearest known key."""
    errors = error.errors()
    first = min(errors, key=lambda e: e["type"] != "extra_forbidden")  # a typo explains what is missing
    spot = _keys(first["loc"])
    at = ".".join(spot)
    if first["type"] == "extra_forbidden":
        parent: Any = Recipe
        for part in spot[:-1]:
            parent = field_model(parent, part)
        known = parent.model_fields if isinstance(parent, type) and issubclass(parent, BaseModel) else ()
        return f"unknown key '{at}'" + did_you_mean(spot[-1], known)
    value = first.get("input")
    shown = "" if isinstance(value, dict | list) or value is None else f", got {value!r}"
    ways = dict.fromkeys(_expected(e) for e in errors if _keys(e["loc"]) == spot)
    return f"{at or 'recipe'}: {' or '.join(ways)}{shown}"


def _keys(place: Sequence[int | str]) -> list[str]:
    """The keys that lead to an error, without pydantic's names for the kinds of value that a key may have."""
    return [str(part) for part in place if not str(part).startswith(("literal[", "constrained-", "tuple["))]


def _expected(error: Mapping[str, Any]) -> str:
    """What a value should have been."""
    if error["type"] == "tuple_type":
        value = error.get("input")
        return "expected a list" + (f", such as [{value}]" if isinstance(value, str) else "")
    kind = error["type"].removesuffix("_type").removesuffix("_parsing").removesuffix("_attributes")
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}"
    said = str(error["msg"]).removeprefix("Value error, ")  # pydantic's word for what a check of ours says
    return said[0].lower() + said[1:]


def _tidy(tree: Any) -> Any:
    """Tuples and mappings as plain lists and dicts, for YAML."""
    if isinstance(tree, Mapping):
        return {k: _tidy(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [_tidy(v) for v in tree]
    return tree
