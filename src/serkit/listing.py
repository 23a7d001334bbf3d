"""What there is, one row each: corpora, encoders, recipes, and the members of a folder."""

from __future__ import annotations

from typing import Any

from serkit import registry
from serkit.errors import MissingExtra
from serkit.readers import card
from serkit.recipe import load_recipe, recipe_names


def corpora() -> list[dict[str, Any]]:
    """Corpora with title, languages, licence, protocols and source."""
    rows = []
    for name in registry.names("corpora"):
        c = card(name)
        languages = ",".join(c.languages)
        rows.append(
            {
                "name": name,
                "line": f"{c.title} ({languages}, {c.kind}; licence: {c.licence}; {c.url})",
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
            }
        )
    return rows


def encoders() -> list[dict[str, Any]]:
    """Encoders by full name, with what each is and its licence."""
    rows = []
    for family in registry.names("encoders"):
        try:
            known = registry.find("encoders", family).names()  # type: ignore[attr-defined]
        except MissingExtra as error:
            known = {family: str(error)}
        rows += [{"name": name, "line": line, "family": family} for name, line in known.items()]
    return rows


def recipes() -> list[dict[str, Any]]:
    """Recipes with their description and number of systems."""
    rows = []
    for name in recipe_names():
        recipe = load_recipe(name)
        n = len(recipe.systems)
        rows.append(
            {
                "name": name,
                "line": f"{recipe.description} ({n} system{'s' * (n != 1)})",
                "systems": list(recipe.systems),
                "features": list(recipe.features),
            }
        )
    return rows


def members(kind: registry.Kind) -> list[dict[str, Any]]:
    """Members of a folder with their first docstring line and parameters."""
    rows = []
    for name in registry.names(kind):
        member = registry.member(kind, name)
        shown = ", ".join(k if v is None else f"{k}={v}" for k, v in member.parameters.items())
        line = f"{member.doc} [{shown}]" if shown else member.doc
        rows.append({"name": name, "line": line, "doc": member.doc, "parameters": dict(member.parameters)})
    return rows
