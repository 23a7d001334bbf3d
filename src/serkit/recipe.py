"""YAML to a frozen, validated recipe: one file is one whole system.

Unknown keys and names are refused before any work, with the nearest known one. ``x-`` keys at the
top are a shelf for YAML anchors and are ignored. PyYAML reads ``1e-5`` as a string; the loader here
follows YAML 1.2 and reads a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from serkit import registry, yaml_text
from serkit.errors import SerkitError, check_known, did_you_mean
from serkit.evaluate_settings import Evaluate, Published
from serkit.files import fingerprint, is_file_name
from serkit.idle import idle_everywhere
from serkit.settings import (
    Crossfit,
    Feature,
    Frozen,
    Named,
    SecondStage,
    Stack,
    System,
    Train,
    Transcripts,
    from_name,
)

RECIPES = Path(__file__).parent / "recipes"
FINETUNE_LR = 1e-4  # of a backbone under a head that trains at train.lr (read in the code of LAM and SeeNet)
_FRONT_ENDS = ("compact", "speech_backbone")
_LISTS = ("features", "losses", "augment")
_KINDS: dict[str, registry.Kind] = {"losses": "losses", "augment": "augment"}
_EXPECTED = {  # by pydantic's name of what went wrong
    **dict.fromkeys(("int", "int_from_float"), "a whole number"),
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    **dict.fromkeys(("model", "dict", "mapping"), "a mapping"),
}
TOLD = {"description", "published"}  # what a recipe says of itself, which changes no number
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
            known = recipe_names()
            raise SerkitError(f"no recipe '{source}'" + did_you_mean(str(source), known))
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
        for override in sorted(overrides, key=lambda o: not _names_backbone(o)):  # first what has further keys
            _override(tree, override)
        recipe = _validate(tree, where)
        for override in overrides:
            _refuse_idle(recipe, override.partition("=")[0].strip())
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
        at = f"{where}: systems.{name}"
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
    for copy in recipe.copies:
        for step in copy:
            registry.check_parameters("augment", step.name, step.parameters, f"{where}: copies")
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
    return recipe


def _explain(error: ValidationError) -> str:
    """One line for the first thing that is wrong, with the nearest known key."""
    errors = error.errors()
    first = min(errors, key=lambda e: e["type"] != "extra_forbidden")  # a typo explains what is missing
    spot = _keys(first["loc"])
    at = ".".join(spot)
    if first["type"] == "extra_forbidden":
        parent: Any = Recipe
        for part in spot[:-1]:
            parent = _field_model(parent, part)
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


def _field_model(parent: Any, part: str) -> Any:
    """The model class that a step of an error's location leads to; the parent where it is a name."""
    if not (isinstance(parent, type) and issubclass(parent, BaseModel)) or part not in parent.model_fields:
        return parent
    pending = [parent.model_fields[part].annotation]
    while pending:
        candidate = pending.pop(0)
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
        pending.extend(get_args(candidate))
    return parent


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise SerkitError(f"--set {override!r}: expected KEY=VALUE, such as train.epochs=3")
    value = yaml_text.parse(text, f"--set {key}") if text else None
    parts = key.strip().split(".")
    if parts == ["systems"]:
        tree["systems"] = value
        return
    systems = _mappings(tree["systems"], f"--set {key}: systems", "a mapping of systems by name")
    if parts[0] == "systems":
        check_known(parts[1], systems, f"--set {key}: no system '{parts[1]}'")
        if len(parts) < 3:
            raise SerkitError(f"--set {key}: a system is set key by key, such as {key.strip()}.train.epochs=3")
        if not _set_in_system(systems[parts[1]], parts[2:], value, key):
            near = _nearest(systems, parts[1:2], parts[2:])
            raise SerkitError(f"--set {key}: system '{parts[1]}' has no such key{near}")
        return
    if parts[0] in Recipe.model_fields:
        field = _field_model(Recipe, parts[0])
        if len(parts) == 1:
            tree[parts[0]] = value
            return
        if field is not Recipe and len(parts) == 2 and parts[1] in field.model_fields:
            before = from_name(tree[parts[0]])
            if before is not None and not isinstance(before, Mapping):
                raise SerkitError(f"--set {key}: {parts[0]} is {before!r}, expected a mapping")
            tree[parts[0]] = {**(before or {}), parts[1]: value}
            return
        if len(parts) > 2 and field is not Recipe and parts[1] in field.model_fields:
            raise SerkitError(f"--set {key}: '{parts[0]}.{parts[1]}' is one value, without keys of its own")
        known = field.model_fields if field is not Recipe else ()
        raise SerkitError(f"--set {key}: '{parts[0]}' has no key '{parts[1]}'" + did_you_mean(parts[1], known))
    hits = [_set_in_system(system, parts, value, key) for system in systems.values()]
    if not any(hits):
        raise SerkitError(f"--set {key}: no system has this key" + _nearest(systems, list(systems), parts))


def _refuse_idle(recipe: Recipe, key: str) -> None:
    """Refuse an override that changes nothing, because of another setting, in every system that it reaches."""
    parts = key.split(".", 2)
    of_one = parts[0] == "systems" and len(parts) == 3
    reached = {name: s for name, s in recipe.systems.items() if not of_one or name == parts[1]}
    why = idle_everywhere(reached).get(parts[2] if of_one else key)
    if why:
        raise SerkitError(f"--set {key}: it {why}")


def _set_in_system(system: dict[str, Any], parts: Sequence[str], value: Any, key: str) -> bool:
    """Set a key in one system where it has that key; say whether it has."""
    head, rest = parts[0], list(parts[1:])
    if head not in System.model_fields:
        return False
    if not rest:
        system[head] = deepcopy(value)  # each system has its own, which another override may change
        return True
    if head == "second_stage" and system.get(head) is not None:
        _mappings({head: system[head]}, f"--set {key}: {head}", "a mapping")
        stage = system[head]
        if len(rest) == 1 and rest[0] in SecondStage.model_fields:
            stage[rest[0]] = value
            return True
        return rest[0] == "losses" and bool(stage.get("losses")) and _set_in_list(stage, rest, value, key)
    if head == "train" and len(rest) == 1 and rest[0] in Train.model_fields:
        _spell_out(system, "train", key)[rest[0]] = value
        return True
    if head == "model" and len(rest) == 1:
        model = _spell_out(system, "model", key)
        features = _spell_out(system, "features", key)
        if rest == ["backbone"] and model["name"] in _FRONT_ENDS:
            return _put_backbone(system, value)
        known = {"name", *registry.member("models", model["name"]).parameters}
        stacks = any(f.get("layer") == "all" for f in features)
        if rest[0] in known | ({"layer_weights"} if stacks else set()):
            model[rest[0]] = value
            return True
    return head in _LISTS and _set_in_list(system, parts, value, key)


def _set_in_list(holder: dict[str, Any], parts: Sequence[str], value: Any, key: str) -> bool:
    """Set ``losses.focal.gamma`` and the like, where there is such an entry; say whether there is."""
    if len(parts) != 3:
        return False
    hits = [item for item in _spell_out(holder, parts[0], key) if item["name"] == parts[1]]
    for item in hits:
        item[parts[2]] = value
    return bool(hits)


def _spell_out(system: dict[str, Any], head: str, key: str) -> Any:
    """A part of a system as mappings, put in its place, where an earlier override left it out or wrote it short.

    Raises:
        SerkitError: an earlier override made it something that has no keys.
    """
    at = f"--set {key}: {head}"
    if head not in system:
        if head == "features":
            return []  # there is no default, which is said when the whole is checked
        system[head] = System.model_validate({"features": ["none"]}).model_dump(mode="json")[head]
    if head in _LISTS:
        given = system[head]
        if not isinstance(given, list | tuple):
            raise SerkitError(f"{at} is {given!r}, expected a list")
        named = [from_name(item) for item in given]
        _mappings({str(k): item for k, item in enumerate(named)}, at, "a list of names or mappings with a name", "name")
    else:
        named = from_name(system[head])
        needed = "name" if head == "model" else None
        _mappings({head: named}, at, "a name, or a mapping with a name" if needed else "a mapping", needed)
    system[head] = named
    return named


def _mappings(value: Any, at: str, expected: str, needed: str | None = None) -> dict[str, Any]:
    """The value, where it is a mapping of mappings, each with a text under the key ``needed``."""
    inner = list(value.values()) if isinstance(value, Mapping) else [None]
    for item in inner:
        if not isinstance(item, Mapping) or (needed is not None and not isinstance(item.get(needed), str)):
            raise SerkitError(f"{at}: expected {expected}")
    return dict(value)


def _names_backbone(override: str) -> bool:
    return override.partition("=")[0].strip().endswith("model.backbone")


def _put_backbone(system: dict[str, Any], value: Any) -> bool:
    """Another front end under the same head, and the features it reads: ``compact``, or a pretrained network."""
    compact = value == "compact"
    name = _FRONT_ENDS[not compact]
    if system["model"]["name"] != name:
        shared = registry.member("models", name).parameters.keys() - {"backbone"}
        rate = {} if compact else {"backbone_lr": FINETUNE_LR}
        system["model"] = {"name": name, **rate, **{k: v for k, v in system["model"].items() if k in shared}}
        trims = [{"trim": f["trim"]} for f in system["features"] if f.get("trim")]
        system["features"] = [{"name": "logmel/80" if compact else "waveform", **(trims or [{}])[0]}]
    system["model"] |= {} if compact else {"backbone": value}
    return True


def _nearest(systems: Mapping[str, Any], names: Sequence[str], parts: Sequence[str]) -> str:
    """The nearest key that one of some systems has."""
    known = list(System.model_fields) + [f"train.{f}" for f in Train.model_fields]
    stages = [systems[n]["second_stage"] for n in names if systems[n].get("second_stage") is not None]
    if parts[0] == "second_stage" and not stages:
        return "; there is no second stage: set second_stage={after_epochs: 4, lr: 1e-6}, or the like, first"
    known += [f"second_stage.{f}" for f in SecondStage.model_fields if stages]
    for stage in stages:
        known += [f"second_stage.losses.{item['name']}.weight" for item in map(from_name, stage.get("losses") or ())]
    for system in (systems[n] for n in names):
        key = ".".join(parts)
        known += [f"model.{p}" for p in registry.member("models", _spell_out(system, "model", key)["name"]).parameters]
        for head, kind in _KINDS.items():
            for item in _spell_out(system, head, key):
                settable = [*registry.member(kind, item["name"]).parameters, *(["weight"] if head == "losses" else [])]
                known += [f"{head}.{item['name']}.{p}" for p in settable]
    return did_you_mean(".".join(parts), known)


def _tidy(tree: Any) -> Any:
    """Tuples and mappings as plain lists and dicts, for YAML."""
    if isinstance(tree, Mapping):
        return {k: _tidy(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [_tidy(v) for v in tree]
    return tree
