"""What a page says first where networks were chosen by their CCC: arousal, valence and dominance before the classes."""

from __future__ import annotations

from dataclasses import replace

from serkit.reporting.reading import Source
from serkit.reporting.text import ATTRIBUTE_NAMES, between, capital, count, listed, number, voices
from serkit.reporting.verdict import SPLIT_WORDS, Verdict, compared
from serkit.types import ATTRIBUTES


def led(source: Source, verdict: Verdict) -> Verdict:
    """A verdict that begins with the mean CCC; as it is of other reports."""
    if not source.by_ccc:
        return verdict
    m = source.metric(source.lead, source.split, "ccc")
    who, where = _who(source), SPLIT_WORDS[source.split]
    headline = f"{capital(where)}, {who} reaches a mean CCC of {number(m['value'])}."
    lead = (
        f"{who.replace('the ', 'The ', 1) if source.ensemble else who} has a CCC of "
        f"{listed(_each(source))} {where}, mean {number(m['value'])} {between(m.get('low'), m.get('high'))}: "
        f"{count(m.get('n'), 'rated utterance')} of {voices(m.get('speakers'))} ({m.get('interval')})."
    )
    own = [] if verdict.tone == "alone" else [f"{verdict.headline.removesuffix('.')} in Macro-F1."]
    return replace(
        verdict,
        headline=headline,
        lead=lead,
        sentences=(*compared(source), *_ahead(source), verdict.lead, *own, *verdict.sentences),
    )


def tiles(source: Source) -> list[dict[str, str]]:
    """The mean CCC as the first of the numbers at the top; nothing of other reports."""
    if not source.by_ccc:
        return []
    m = source.metric(source.lead, source.split, "ccc")
    name = f"{ATTRIBUTE_NAMES['ccc']}, {_who(source, source.ensemble or source.lead).removeprefix('the ')}"
    sub = f"{between(m.get('low'), m.get('high'))} {source.split}"
    return [{"value": number(m["value"]), "name": name, "sub": sub, "kind": "stack"}]


def _taught(source: Source) -> dict[str, float]:
    """The mean CCC of each system that learned attributes."""
    found = {name: source.metric(name, source.split, "ccc") for name in source.singles}
    return {name: m["value"] for name, m in found.items() if m}


def _who(source: Source, otherwise: str = "") -> str:
    """Whose CCC the page leads with: what every ensemble says of attributes is the mean of the systems."""
    n = len(_taught(source))
    return f"the mean of {n} systems" if source.ensemble and n > 1 else otherwise or source.named(source.lead)


def _ahead(source: Source) -> list[str]:
    """That a single system has a higher CCC on test, where it is so."""
    taught, value = _taught(source), source.metric(source.lead, source.split, "ccc")["value"]
    best = max(taught, key=lambda name: taught[name], default="")
    if source.split != "test" or not taught.get(best, value) > value:
        return []
    said = f"{source.display(best)} alone has a mean CCC of {number(taught[best])} on test"
    if best == source.best and source.best_by == "ccc":
        return [f"{said}; dev pointed to it."]
    return [f"{said}; choosing it for that would be hindsight."]


def _each(source: Source) -> list[str]:
    """The attributes that were measured, each with its CCC."""
    found = {name: source.metric(source.lead, source.split, f"ccc_{name}") for name in ATTRIBUTES}
    return [f"{number(m['value'])} for {name}" for name, m in found.items() if m]
