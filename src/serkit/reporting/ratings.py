"""What a page says first where networks were chosen by their CCC: arousal, valence and dominance before the classes."""

from __future__ import annotations

from dataclasses import replace

from serkit.reporting.reading import Source
from serkit.reporting.text import ATTRIBUTE_NAMES, between, count, listed, number, voices
from serkit.reporting.verdict import SPLIT_WORDS, Verdict
from serkit.types import ATTRIBUTES


def led(source: Source, verdict: Verdict) -> Verdict:
    """A verdict that begins with the mean CCC; as it is of other reports."""
    if not source.by_ccc:
        return verdict
    m = source.metric(source.lead, source.split, "ccc")
    who, where = source.named(source.lead), SPLIT_WORDS[source.split]
    taught = {n: one["value"] for n in source.singles if (one := source.metric(n, source.split, "ccc"))}
    if source.ensemble and len(taught) > 1:  # what each ensemble says of attributes
        who = f"the mean of {len(taught)} systems"
    headline = f"{where[0].upper()}{where[1:]}, {who} reaches a mean CCC of {number(m['value'])}."
    lead = (
        f"{who.replace('the ', 'The ', 1) if source.ensemble else who} has a CCC of "
        f"{listed(_each(source))} {where}, mean {number(m['value'])} {between(m.get('low'), m.get('high'))}: "
        f"{count(m.get('n'), 'rated utterance')} of {voices(m.get('speakers'))} ({m.get('interval')})."
    )
    best = max(taught, key=lambda name: taught[name], default="")
    ahead = [f"{source.display(best)} alone has {number(taught[best])}."] if taught.get(best, 0) > m["value"] else []
    own = [] if verdict.tone == "alone" else [f"{verdict.headline.removesuffix('.')} in Macro-F1."]
    return replace(verdict, headline=headline, lead=lead, sentences=(*ahead, verdict.lead, *own, *verdict.sentences))


def tiles(source: Source) -> list[dict[str, str]]:
    """The mean CCC as the first of the numbers at the top; nothing of other reports."""
    if not source.by_ccc:
        return []
    m = source.metric(source.lead, source.split, "ccc")
    name = f"{ATTRIBUTE_NAMES['ccc']}, {source.ensemble or source.lead}"
    sub = f"{between(m.get('low'), m.get('high'))} {source.split}"
    return [{"value": number(m["value"]), "name": name, "sub": sub, "kind": "stack"}]


def _each(source: Source) -> list[str]:
    """The attributes that were measured, each with its CCC."""
    found = {name: source.metric(source.lead, source.split, f"ccc_{name}") for name in ATTRIBUTES}
    return [f"{number(m['value'])} for {name}" for name, m in found.items() if m]
