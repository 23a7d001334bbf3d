"""What a page says first where networks were chosen by their KL divergence from the raters' votes."""

from __future__ import annotations

from dataclasses import replace

from serkit.reporting.reading import Source
from serkit.reporting.text import between, capital, count, finite, listed, number, voices
from serkit.reporting.verdict import SPLIT_WORDS, Verdict, compared

CONSTANT = "the constant (the mean vote of train)"


def led(source: Source, verdict: Verdict) -> Verdict:
    """A verdict that begins with the KL divergence beside that of a constant; as it is of other reports."""
    if source.led_by != "kl":
        return verdict
    m, constant = (source.metric(source.lead, source.split, name) for name in ("kl", "kl_prior"))
    who, where = source.named(source.lead), SPLIT_WORDS[source.split]
    beside = ""
    if constant:
        nearer = m["value"] < constant["value"]
        beside = f", {CONSTANT} {number(constant['value'])}"
        beside += "" if nearer else ": it does not come nearer to the votes than a constant"
    headline = f"{capital(where)}, {who} has a KL divergence of {number(m['value'])} from the votes{beside}."
    lead = (
        f"{who.replace('the ', 'The ', 1)} has a KL divergence of {_said(source, 'kl')} from the raters' votes {where}"
        f"{_of_constant(source)} (less is nearer): {count(m.get('n'), 'clip')} with votes of "
        f"{voices(m.get('speakers'))} ({m.get('interval')})."
    )
    own = [] if verdict.tone == "alone" else [f"{verdict.headline.removesuffix('.')} in Macro-F1."]
    first = [*compared(source), *_others(source), *_ahead(source), f"{verdict.lead} {_absent(source)}"]
    return replace(verdict, headline=headline, lead=lead, sentences=(*first, *own, *verdict.sentences))


def tiles(source: Source) -> list[dict[str, str]]:
    """The KL divergence and that of the constant as the first of the numbers at the top; nothing of other reports."""
    if source.led_by != "kl":
        return []
    found = []
    for name, said, kind in (
        ("kl", f"KL from the votes, {source.ensemble or source.lead}", "stack"),
        ("kl_prior", "KL from the votes, mean vote of train", "best"),
    ):
        m = source.metric(source.lead, source.split, name)
        if m:
            sub = f"{between(m.get('low'), m.get('high'))} {source.split}, less is nearer"
            found.append({"value": number(m["value"]), "name": said, "sub": sub, "kind": kind})
    return found


def _said(source: Source, name: str) -> str:
    m = source.metric(source.lead, source.split, name)
    return f"{number(m['value'])} {between(m.get('low'), m.get('high'))}"


def _of_constant(source: Source) -> str:
    there = source.metric(source.lead, source.split, "kl_prior")
    return f", {CONSTANT} {_said(source, 'kl_prior')}" if there else ""


def _others(source: Source) -> list[str]:
    """Other measures of closeness beside those of the constant."""
    found = []
    for name, title in (("jsd", "Jensen–Shannon divergence"), ("cosine", "cosine similarity")):
        m, constant = (source.metric(source.lead, source.split, n) for n in (name, f"{name}_prior"))
        if m:
            beside = f" (the constant {number(constant['value'])})" if constant else ""
            found.append(f"{title} {number(m['value'])}{beside}")
    return [f"Closeness to the votes otherwise: {listed(found)}."] if found else []


def _ahead(source: Source) -> list[str]:
    """That a single system is nearer to the votes on test, and whether dev pointed to it."""
    found = {n: finite(source.metric(n, "test", "kl").get("value")) for n in source.singles}
    known = {n: v for n, v in found.items() if v is not None}
    top = min(known, key=lambda n: known[n], default="")
    if source.split != "test" or top in ("", source.lead):
        return []
    if known[top] >= source.metric(source.lead, "test", "kl")["value"]:
        return []
    said = f"{source.display(top)} alone has {number(known[top])} on test"
    if top == source.best and source.best_by == "kl":
        return [f"{said}; dev pointed to it."]
    return [f"{said}; choosing it for that would be hindsight."]


def _absent(source: Source) -> str:
    """That Macro-F1 counts a class without a clip of that label as 0, and which classes these are."""
    counts = source.part("counts").get(source.split) or {}
    absent = [label for label, n in counts.items() if not n] if len(source.corpora) == 1 else []
    here = f"{len(absent)} of {len(counts)}" if len(absent) > 6 else listed(absent)
    return f"Macro-F1 counts a class that is the label of no clip as 0{f': here {here}' if absent else ''}."
