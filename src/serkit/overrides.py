"""``--set KEY=VALUE``: keys of a recipe set before it is validated, in every system that has them or in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, get_args

from pydantic import BaseModel

from serkit import registry, yaml_text
from serkit.errors import SerkitError, check_known, did_you_mean
from serkit.idle import idle_everywhere
from serkit.settings import SecondStage, System, Train, from_name

FINETUNE_LR = 1e-4  # of a backbone under a head that trains at train.lr (read in the code of LAM and SeeNet)
_FRONT_ENDS = ("compact", "speech_backbone")
_LISTS = ("features", "losses", "augment")
_KINDS: dict[str, registry.Kind] = {"losses": "losses", "augment": "augment"}


def set_key(tree: dict[str, Any], override: str, top: type[BaseModel]) -> None:
    """Set a key of a recipe's tree.

    Args:
        tree: a valid recipe as plain values; changed in place. override: ``KEY=VALUE``, as for
            :func:`serkit.recipe.load_recipe`. top: the model of a whole recipe.

    Raises:
        SerkitError: no such key, with the nearest one; or a part that an earlier override gave another shape.
    """
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
    if parts[0] in top.model_fields:
        _set_at_top(tree, parts, value, key, top)
        return
    hits = [_set_in_system(system, parts, value, key) for system in systems.values()]
    if not any(hits):
        raise SerkitError(f"--set {key}: no system has this key" + _nearest(systems, list(systems), parts))


def _set_at_top(tree: dict[str, Any], parts: Sequence[str], value: Any, key: str, top: type[BaseModel]) -> None:
    """Set a key of the recipe itself, or one below it (``crossfit.folds``)."""
    field = field_model(top, parts[0])
    if len(parts) == 1:
        tree[parts[0]] = value
        return
    if field is not top and len(parts) == 2 and parts[1] in field.model_fields:
        before = from_name(tree[parts[0]])
        if before is not None and not isinstance(before, Mapping):
            raise SerkitError(f"--set {key}: {parts[0]} is {before!r}, expected a mapping")
        tree[parts[0]] = {**(before or {}), parts[1]: value}
        return
    if len(parts) > 2 and field is not top and parts[1] in field.model_fields:
        raise SerkitError(f"--set {key}: '{parts[0]}.{parts[1]}' is one value, without keys of its own")
    known = field.model_fields if field is not top else ()
    raise SerkitError(f"--set {key}: '{parts[0]}' has no key '{parts[1]}'" + did_you_mean(parts[1], known))


def refuse_idle(systems: Mapping[str, System], key: str) -> None:
    """Refuse an override that changes nothing, because of another setting, in every system that it reaches.

    Raises:
        SerkitError: it does so.
    """
    parts = key.split(".", 2)
    of_one = parts[0] == "systems" and len(parts) == 3
    reached = {name: s for name, s in systems.items() if not of_one or name == parts[1]}
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


def names_backbone(override: str) -> bool:
    """Whether it puts another front end under a head, which changes what further keys there are."""
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


def field_model(parent: Any, part: str) -> Any:
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
