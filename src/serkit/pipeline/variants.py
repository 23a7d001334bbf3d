"""Variants of a recipe: the same system with one loss, augmentation or way of pooling left out or replaced."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from serkit import registry
from serkit.errors import SerkitError, check_known, did_you_mean
from serkit.recipe import Recipe, parse_recipe
from serkit.reporting.text import listed
from serkit.settings import Loss, Named, System

Over = Literal["losses", "augment", "pooling"]
OVERS: tuple[Over, ...] = get_args(Over)
FULL = "full"
MIXES = ("eam", "lam")
SHORT = {"eam": "EAM", "lam": "LAM"}
FLAM_HEADS = 16
SEEDS = 3
QUICK_SEEDS = 1
QUICK_EPOCHS = 12
LIGHT = 1e-4  # weight of a loss that has to stay, with which it moves what other losses train hardly at all


@dataclass(frozen=True)
class Variant:
    """One system of an ablation.

    Attributes:
        key: name of its folder. over: what it takes apart; ``plain`` where it is several at once, ``full`` as it is.
        title: how the page calls it, such as ``without focal``. part: what the full recipe has in its place, such as
            ``focal``. instead: what it has, such as ``LAM``; empty where it has nothing.
        recipe: one system, without cross-fit and stack.
    """

    key: str
    over: str
    title: str
    part: str
    instead: str
    recipe: Recipe

    @property
    def system(self) -> System:
        """Its one system."""
        return next(iter(self.recipe.systems.values()))


@dataclass(frozen=True)
class Plan:
    """What an ablation trains.

    Attributes:
        variants: the full recipe first. system: which one of the recipe. over: what is taken apart.
        left_out: what makes no sense to train, each with its reason, as one line.
    """

    variants: tuple[Variant, ...]
    system: str
    over: tuple[Over, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Design:
    """Everything that an ablation trains.

    Attributes:
        plan: the variants. seeds: of networks and draws; each variant is trained once with each. folds: of the
            corpus's protocol, their test rows pooled. epochs: (recipe's, used here) where a quick look has fewer.
    """

    plan: Plan
    seeds: tuple[int, ...]
    folds: tuple[int, ...]
    epochs: tuple[int, int] | None = None

    @property
    def runs(self) -> list[tuple[Variant, int, int]]:
        """(variant, fold, seed) of every run: all variants with one seed before the next seed."""
        return [(v, fold, seed) for seed in self.seeds for fold in self.folds for v in self.plan.variants]


def design(
    recipe: Recipe,
    *,
    over: Sequence[str] = (),
    seeds: int | None = None,
    folds: Sequence[int] = (1,),
    system: str | None = None,
    quick: bool = False,
) -> Design:
    """What to train.

    Args:
        recipe: resolved. over, system: as for :func:`serkit.pipeline.variants.plan`.
        seeds: how many, from the recipe's own upwards; by default 3, with ``quick`` 1.
        folds: numbers of folds. quick: at most 12 epochs and one seed, for a first look.

    Raises:
        SerkitError: no seed, or as :func:`serkit.pipeline.variants.plan`.
    """
    n_seeds = seeds if seeds is not None else QUICK_SEEDS if quick else SEEDS
    if n_seeds < 1:
        raise SerkitError(f"--seeds {n_seeds}: expected at least 1")
    found = plan(recipe, over, system=system)
    own = found.variants[0].system.train.epochs
    epochs = None
    if quick and own > QUICK_EPOCHS:
        found, epochs = plan(recipe, over, system=system, epochs=QUICK_EPOCHS), (own, QUICK_EPOCHS)
    return Design(found, tuple(recipe.seed + k for k in range(n_seeds)), tuple(folds), epochs)


def plan(recipe: Recipe, over: Sequence[str] = (), *, system: str | None = None, epochs: int | None = None) -> Plan:
    """The variants of a recipe.

    - ``losses``: each loss off, and, of more than two, the first alone. Where networks are chosen by CCC, the only loss
      that trains the classes gets a weight of :data:`LIGHT` instead.
    - ``augment``: EAM exchanged for LAM (or LAM for EAM) with the same probability, each step off, and, of several,
      all of them off.
    - ``pooling``: FLAM, mean and max, whichever the recipe has not. Mean and max come without self-attention.

    Of several of these there is one variant more, ``plain``: the first loss alone, no augmentation, mean pooling.

    Args:
        recipe: resolved. over: of :data:`OVERS`; empty is every one that applies. system: which system of the
            recipe; needed where it has several. epochs: instead of the recipe's.

    Raises:
        SerkitError: an unknown name, several systems and none chosen, or nothing to take apart.
    """
    for name in over:
        check_known(name, OVERS, f"--over {name}: expected {', '.join(OVERS)}")
    full = _alone(recipe, system, epochs)
    chosen = next(iter(full.systems))
    made: list[Variant] = []
    used: list[Over] = []
    left_out: list[str] = []
    for name in OVERS:
        if over and name not in over:
            continue
        reason = _refusal(full.systems[chosen], name)
        if reason is None:
            used.append(name)
            made += _MAKERS[name](full)
            left_out += _losses_kept(full) if name == "losses" else []
        elif over:
            raise SerkitError(f"--over {name}: '{recipe.name}' has no such variants: {reason}")
        else:
            left_out.append(f"{name}: {reason}")
    if not used:
        raise SerkitError(f"'{recipe.name}' has nothing to vary: " + "; ".join(left_out))
    if len(used) > 1 and "losses" in used and _selects_by_nothing(full.systems[chosen], _plain_losses(full)):
        left_out.append(f"plain: {_UNTAUGHT}")
    elif len(used) > 1:
        made.append(_plain(full, used))
    whole = Variant(FULL, FULL, "full recipe", "", "", full)
    return Plan(tuple(_distinct([whole, *made])), chosen, tuple(used), tuple(left_out))


def _alone(recipe: Recipe, system: str | None, epochs: int | None) -> Recipe:
    """The recipe with one of its systems, and nothing that would train it more than once."""
    names = list(recipe.systems)
    if system is None and len(names) > 1:
        raise SerkitError(f"'{recipe.name}' has {len(names)} systems; choose one with --system: {', '.join(names)}")
    name = system or names[0]
    if name not in recipe.systems:
        raise SerkitError(f"--system {name}: '{recipe.name}' has no such system" + did_you_mean(name, names))
    settings = recipe.systems[name]
    if epochs is not None:
        settings = settings.model_copy(update={"train": settings.train.model_copy(update={"epochs": epochs})})
    return _checked(recipe.model_copy(update={"systems": {name: settings}, "crossfit": None, "stack": None}))


def _checked(recipe: Recipe) -> Recipe:
    """The same recipe, validated as if it had been read."""
    return parse_recipe(recipe.to_yaml(), where=recipe.name)


def _changed(full: Recipe, **changes: Any) -> Recipe:
    """The recipe with other losses, augmentation or model in its one system."""
    ((name, system),) = full.systems.items()
    return _checked(full.model_copy(update={"systems": {name: system.model_copy(update=changes)}}))


def _refusal(system: System, over: Over) -> str | None:
    """Why a system cannot be taken apart so; ``None`` where it can."""
    if over == "losses" and len(system.losses) < 2:
        return f"its only loss is {system.losses[0].name}"
    if over == "augment" and not system.augment:
        return "it has no augmentation"
    if over == "pooling" and not _has_flam_head(system.model.name):
        able = ", ".join(name for name in registry.names("models") if _has_flam_head(name))
        return f"its model '{system.model.name}' has no frame-level attention to replace (these have: {able})"
    return None


def _of_losses(full: Recipe) -> Iterator[Variant]:
    system = next(iter(full.systems.values()))
    losses = system.losses
    for loss in losses:
        rest = tuple(x for x in losses if x is not loss)
        if _why_not(system, rest) is None:
            recipe = _changed(full, **_taught_by(system, rest))
            yield Variant(f"without-{_file(loss.name)}", "losses", f"without {loss.name}", loss.name, "", recipe)
        elif _beside_ratings(system, rest):
            title = f"{loss.name} with weight {LIGHT:g}"
            recipe = _changed(full, **_lightened(system, loss))
            yield Variant(f"light-{_file(loss.name)}", "losses", title, loss.name, title, recipe)
    if len(losses) > 2 and _reads(losses[0], "emotion") and not _selects_by_nothing(system, losses[:1]):
        first, others = losses[0].name, listed([x.name for x in losses[1:]])
        recipe = _changed(full, **_taught_by(system, losses[:1]))
        yield Variant(f"only-{_file(first)}", "losses", f"only {first}", f"the other losses ({others})", "", recipe)


_EXCHANGED = "serkit tune --try 'losses=[…],[…]' compares it with another"
_UNTAUGHT = "train.select is ccc, but no loss would be left that learns arousal, valence and dominance"


def _beside_ratings(system: System, rest: Sequence[Loss]) -> bool:
    """Whether a loss alone trains the classes, and networks are chosen by ratings, which the others learn."""
    return system.train.select == "ccc" and any(_reads(x, "attributes") for x in rest)


def _lightened(system: System, loss: Loss) -> dict[str, Any]:
    """The change that leaves a loss nearly without weight in both stages: it trains its classifier, and little else."""

    def light(losses: Sequence[Loss]) -> tuple[Loss, ...]:
        return tuple(x.model_copy(update={"weight": LIGHT}) if x.name == loss.name else x for x in losses)

    changes: dict[str, Any] = {"losses": light(system.losses)}
    second = system.second_stage
    if second is not None and second.losses is not None:
        changes["second_stage"] = second.model_copy(update={"losses": light(second.losses)})
    return changes


def _why_not(system: System, losses: Sequence[Loss]) -> str | None:
    """Why a system cannot be trained with these losses alone; ``None`` where it can."""
    if not any(_reads(x, "emotion") for x in losses):
        return f"{listed([x.name for x in losses])} would be left, which cannot train the classifier: {_EXCHANGED}"
    return _UNTAUGHT if _selects_by_nothing(system, losses) else None


def _losses_kept(full: Recipe) -> list[str]:
    """The losses that cannot be left out, one line each."""
    system = next(iter(full.systems.values()))
    found = []
    for loss in system.losses:
        rest = [x for x in system.losses if x is not loss]
        reason = _why_not(system, rest)
        if reason is not None and not _beside_ratings(system, rest):
            found.append(f"without {loss.name}: {reason}")
    return found


def _selects_by_nothing(system: System, losses: Sequence[Loss]) -> bool:
    return system.train.select == "ccc" and not any(_reads(x, "attributes") for x in losses)


def _taught_by(system: System, losses: Sequence[Loss]) -> dict[str, Any]:
    """The change to these losses in both stages, the attribute head left out where none of them teaches it."""
    changes: dict[str, Any] = {"losses": losses}
    second = system.second_stage
    if second is not None and second.losses is not None:
        gone = {x.name for x in system.losses} - {x.name for x in losses}
        rest = tuple(x for x in second.losses if x.name not in gone)
        changes["second_stage"] = second.model_copy(update={"losses": rest or None})
    if not system.model.parameters.get("attribute_head") or any(_reads(x, "attributes") for x in losses):
        return changes
    kept = {key: value for key, value in system.model.model_dump().items() if not key.startswith("attribute_")}
    return {**changes, "model": Named.model_validate(kept)}


def _of_augment(full: Recipe) -> Iterator[Variant]:
    steps = next(iter(full.systems.values())).augment
    for k, step in enumerate(steps):
        if step.name in MIXES:
            other = next(name for name in MIXES if name != step.name)
            kept = {k: v for k, v in step.parameters.items() if k == "probability"}
            swapped = (*steps[:k], Named.model_validate({"name": other, **kept}), *steps[k + 1 :])
            recipe = _changed(full, augment=swapped)
            yield Variant(
                f"{other}-for-{step.name}", "augment", f"{SHORT[other]} instead of {SHORT[step.name]}",
                SHORT[step.name], SHORT[other], recipe,
            )  # fmt: skip
        name = SHORT.get(step.name, step.name)
        recipe = _changed(full, augment=(*steps[:k], *steps[k + 1 :]))
        yield Variant(f"without-{_file(step.name)}", "augment", f"without {name}", name, "", recipe)
    if len(steps) > 1:
        names = listed([SHORT.get(s.name, s.name) for s in steps])
        recipe = _changed(full, augment=())
        yield Variant("no-augmentation", "augment", "no augmentation", f"augmentation ({names})", "", recipe)


def _of_pooling(full: Recipe) -> Iterator[Variant]:
    model = next(iter(full.systems.values())).model
    heads, pooling = _head(model)
    mine = _pooling_name(heads, pooling)
    widest = heads or _default_heads(model)
    for name, settings in (
        ("FLAM", {"heads": widest, "pooling": "attention"}),
        ("mean pooling", {"heads": 0, "pooling": "mean"}),
        ("max pooling", {"heads": 0, "pooling": "max"}),
    ):
        if (settings["heads"], settings["pooling"]) != (heads, pooling):
            recipe = _changed(full, model=Named.model_validate({**model.model_dump(), **settings}))
            yield Variant(name.lower().replace(" ", "-"), "pooling", f"{name} instead of {mine}", mine, name, recipe)


def _plain_losses(full: Recipe) -> tuple[Loss, ...]:
    losses = next(iter(full.systems.values())).losses
    return (next((x for x in losses if _reads(x, "emotion")), losses[0]),)


def _plain(full: Recipe, used: Sequence[Over]) -> Variant:
    """All that is taken apart, away at once."""
    system = next(iter(full.systems.values()))
    changes: dict[str, Any] = _taught_by(system, _plain_losses(full)) if "losses" in used else {}
    if "augment" in used:
        changes["augment"] = ()
    if "pooling" in used:
        model = changes.get("model", system.model)
        changes["model"] = Named.model_validate({**model.model_dump(), "heads": 0, "pooling": "mean"})
    return Variant("plain", "plain", "plain: all of it off", "all of it together", "", _changed(full, **changes))


def _distinct(variants: Sequence[Variant]) -> list[Variant]:
    """Each recipe once, each key once: the first variant that is so."""
    found: dict[str, Variant] = {}
    for v in variants:
        found.setdefault(v.recipe.fingerprint, v)
    keys: dict[str, int] = {}
    for fingerprint, v in found.items():
        keys[v.key] = keys.get(v.key, 0) + 1
        if keys[v.key] > 1:
            found[fingerprint] = Variant(f"{v.key}-{keys[v.key]}", v.over, v.title, v.part, v.instead, v.recipe)
    return list(found.values())


def _reads(loss: Loss, output: Literal["emotion", "attributes"]) -> bool:
    """Whether a loss reads the numbers of an output, as its source says (a dotted one is believed to)."""
    if "." in loss.name:
        return True
    read = {node for node in _nodes("losses", loss.name) if isinstance(node, ast.Attribute)}
    about = {node.value for node in read if node.attr in ("device", "dtype", "shape")}
    return any(node.attr == output for node in read - about)


def _has_flam_head(model: str) -> bool:
    """Whether a model ends in the head of :mod:`serkit.models._flam_head`, as its source says.

    A dotted one is believed to where it takes ``heads`` and ``pooling``.
    """
    if "." in model:
        return {"heads", "pooling"} <= set(registry.member("models", model).parameters)
    return any(isinstance(node, ast.Name) and node.id == "FlamHead" for node in _nodes("models", model))


def _nodes(kind: registry.Kind, name: str) -> Iterator[ast.AST]:
    """The syntax of a member's file."""
    path = Path(registry.__file__).parent / kind / f"{name}.py"
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def _head(model: Named) -> tuple[int, str]:
    """Heads and pooling of a model, its own defaults where the recipe says nothing."""
    described = registry.member("models", model.name).parameters
    heads = model.parameters.get("heads", ast.literal_eval(described["heads"] or str(FLAM_HEADS)))
    pooling = model.parameters.get("pooling", ast.literal_eval(described["pooling"] or "'attention'"))
    return int(heads), str(pooling)


def _default_heads(model: Named) -> int:
    heads = ast.literal_eval(registry.member("models", model.name).parameters["heads"] or "0")
    return int(heads) or FLAM_HEADS


def _pooling_name(heads: int, pooling: str) -> str:
    if heads and pooling == "attention":
        return "FLAM"
    return f"{pooling.replace('_', ' ')} pooling" + (" after self-attention" if heads else "")


def _file(name: str) -> str:
    return name.replace(".", "_")


_MAKERS = {"losses": _of_losses, "augment": _of_augment, "pooling": _of_pooling}
