"""Lists of what is available, one row each: corpora, encoders, recipes, and the members of a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from serkit import availability, costs, registry
from serkit.checkpoint_table import BY_NAME
from serkit.checkpoints import FAMILIES, replaced_sources
from serkit.errors import MissingExtra, SerkitError
from serkit.package_files import PIPECAT
from serkit.readers import card
from serkit.recipe import Recipe, load_recipe, recipe_names

_TOKENS = "tokens/"  # stands before the name of a text model, whose tokenizer is all that is needed


def corpora() -> list[dict[str, Any]]:
    """Corpora with title, languages, licence, protocols and source."""
    rows = []
    for name in registry.names("corpora"):
        c = card(name)
        what = ", ".join([*([",".join(c.languages)] if c.languages else []), c.kind])
        source = f"; {c.url}" if c.url else ""
        rows.append(
            {
                "name": name,
                "line": f"{c.title} ({what}; licence: {c.licence}{source})",
                "title": c.title,
                "languages": list(c.languages),
                "kind": c.kind,
                "licence": c.licence,
                "url": c.url,
                "citation": c.citation,
                "labels": list(c.labels),
                "protocols": [p.name for p in c.protocols],
                "layout": c.layout,
                "notes": list(c.notes),
                "rating_scale": list(c.rating_scale) if c.rating_scale else None,
            }
        )
    return rows


def encoders(*, commercial: bool = False) -> list[dict[str, Any]]:
    """Encoders by full name, with what each is and its licence.

    Args:
        commercial: only those whose licence is known to allow commercial use.
    """
    rows = []
    for family in registry.names("encoders"):
        try:
            encoder: Any = registry.find("encoders", family)
            known, own = encoder.names(), getattr(encoder, "COMMERCIAL", None)
        except MissingExtra as error:
            known, own = {family: str(error)}, None
        for name, line in known.items():
            row = BY_NAME.get(name.removeprefix(_TOKENS))
            allowed = row.commercial if row is not None else own
            if allowed is True or not commercial:
                rows.append({"name": name, "line": line, "family": family, "commercial": allowed})
    return rows


def checked(names: Sequence[str]) -> list[dict[str, Any]]:
    """Whether encoders can be loaded here, from where, how large they are and what an hour of audio costs.

    Of tokens it is said of the text model that they are for. A name that there is not, or a folder that holds no model,
    is a row that says why, and stops no other.

    Raises:
        SerkitError: ``roots.yaml`` cannot be used.
    """
    replaced_sources()
    speed = availability.processor_gflops()
    rows = []
    for name in names:
        try:
            model = name.removeprefix(_TOKENS)
            rows.append(_pretrained(model, speed) if _is_pretrained(model) else _own(name))
        except SerkitError as error:
            rows.append({"name": name, "loadable": False, "where": "nowhere", "reason": str(error), "line": str(error)})
    return rows


def _is_pretrained(name: str) -> bool:
    family, _, rest = name.partition("/")
    return ":" in name or name in replaced_sources() or (family in FAMILIES and rest != "random")


def _pretrained(name: str, speed: float) -> dict[str, Any]:
    found = availability.check(name)
    size = "size unknown" if found.size_gb is None else f"{found.size_gb:.3g} GB"
    source = {"hub": "to be downloaded"}.get(found.where, f"{found.where} {found.folder}")
    seen = f"yes, by its {found.looked_at}; its values are read when it is loaded"
    tflop, here = found.tflop_per_audio_hour, seen if found.loadable else f"no ({found.reason})"
    clip = found.tflop_window_clip
    whole = "" if clip is None else f" (each is computed as 30 s; with window: clip {_three(clip)})"
    line = (
        f"loadable: {here}; from: {source}; {size}; licence: {found.licence}; an hour of audio in {costs.CLIP_S:g}-s "
        f"clips: {_three(tflop)} TFLOP{whole}, at best {_time(1000 * tflop / speed)} on this processor, "
        f"{found.gb_per_audio_hour:.2g} GB of features"
    )
    row = {**dataclasses.asdict(found), "folder": str(found.folder) if found.folder else None}
    return {**row, "processor_gflops": round(speed, 1), "line": line}


def _three(number: float) -> str:
    return f"{float(f'{number:.3g}'):g}"


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{max(seconds / 60, 0.1):.1f} min"


def _own(name: str) -> dict[str, Any]:
    """An encoder without a checkpoint: what it needs is a package, if anything."""
    encoder = registry.find("encoders", name.partition("/")[0])(name)
    reason = ""
    try:
        encoder.load()
    except MissingExtra as error:
        reason = str(error)
    licence = encoder.spec.licence
    here = f"no ({reason})" if reason else "yes"
    line = f"loadable: {here}; nothing to download; licence: {licence}"
    return {"name": name, "loadable": not reason, "where": "serkit", "licence": licence, "reason": reason, "line": line}


def recipes() -> list[dict[str, Any]]:
    """Recipes with their description, number of systems, the encoders they read and the extras these need."""
    rows = []
    for name in recipe_names():
        recipe = load_recipe(name)
        n = len(recipe.systems)
        reads, extras = _needs(recipe)
        needs = f"extra: {', '.join(extras)}" if extras else "base install"
        if any(name.partition("/")[0] == "smart_turn" for name in reads):
            needs += f" and {PIPECAT.install}"
        rows.append(
            {
                "name": name,
                "line": f"{recipe.description} ({n} system{'s' * (n != 1)}; reads {', '.join(reads)}; {needs})",
                "systems": list(recipe.systems),
                "features": list(recipe.features),
                "encoders": reads,
                "extras": extras,
            }
        )
    return rows


def _needs(recipe: Recipe) -> tuple[list[str], list[str]]:
    """Encoders and backbones that a recipe reads, by name, and the extras of the install that they need."""
    reads = dict.fromkeys(f.name for f in recipe.features.values())  # of tokens, the model is among the backbones
    extras = set()
    for system in recipe.systems.values():
        reads |= dict.fromkeys(system.backbones.values())
        if system.has_adapters:
            extras.add("finetune")
    for name in reads:
        family = name.partition("/")[0]
        extras |= {"foundation"} if ":" in name or family in FAMILIES else {family} & {"opensmile"}
    return list(reads), sorted(extras)


def members(kind: registry.Kind) -> list[dict[str, Any]]:
    """Members of a folder with their first docstring line and parameters."""
    rows = []
    for name in registry.names(kind):
        member = registry.member(kind, name)
        shown = ", ".join(k if v is None else f"{k}={v}" for k, v in member.parameters.items())
        line = f"{member.doc} [{shown}]" if shown else member.doc
        rows.append({"name": name, "line": line, "doc": member.doc, "parameters": dict(member.parameters)})
    return rows
