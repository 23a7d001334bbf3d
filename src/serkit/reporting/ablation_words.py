"""What an ablation shows, in sentences made from its numbers: nothing is claimed beyond what an interval shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serkit.leads import LESS_IS_BETTER
from serkit.reporting.lead_words import apart
from serkit.reporting.reading import Source
from serkit.reporting.text import (
    LEAD_NAMES,
    all_folds,
    between,
    capital,
    count,
    finite,
    listed,
    number,
    p_is,
    signed,
    voices,
)
from serkit.reporting.verdict import (
    DETECTABLE,
    LEVEL,
    MORE_DRAWS,
    absent_classes,
    corpus_cautions,
    few_draws,
    least_permuted,
    outcome,
    permuted,
)

LEAD = "uar"  # of an ablation that does not say what leads
SURE = {"better", "worse"}
METHOD = (
    "Every variant is the recipe with one thing changed, trained again with each seed on the same rows; the checkpoint "
    "is chosen on dev. A number is the mean over seeds, ± the standard deviation over seeds.",
    "A difference is the full recipe minus the variant, seed by seed, averaged. Each of its bootstrap draws takes "
    "speakers with replacement, the same for all networks, and, independently, seeds with replacement (the "
    "pigeonhole bootstrap, Owen 2007), the seeds' deviations widened by √(S / (S − 1)) for S seeds. With one seed an "
    "interval holds only for these networks.",
    "p Holm comes from the same draws, or, of several seeds, from a t-test over speakers and seeds if that p is "
    "larger; p permuted swaps full recipe and variant for whole speakers, in all seeds together. Both are adjusted for "
    "all variants of the table. A part helps or harms if the interval excludes zero and both are below 0.05; if only "
    "the interval excludes zero, or with one seed, it seems to.",
    f"{DETECTABLE} “Not shown” is not “no effect”.",
)


def lead_split(tree: Mapping[str, Any]) -> str:
    """Where the page leads: test, or dev where test has no labels."""
    return "test" if "test" in tree["variants"][0]["values"] else "dev"


def method(tree: Mapping[str, Any]) -> tuple[str, ...]:
    """How the numbers came about, a paragraph each."""
    if lead_metric(tree) not in LESS_IS_BETTER:
        return METHOD
    text = "Of the KL divergence from the votes less is better: its differences are the variant minus the full recipe."
    return (*METHOD, text)


def lead_metric(tree: Mapping[str, Any]) -> str:
    """What the page leads with."""
    said = tree.get("metric")
    return said if isinstance(said, str) and said in LEAD_NAMES else LEAD


def difference(variant: Mapping[str, Any], split: str, metric: str) -> dict[str, Any]:
    """Full recipe minus a variant, empty where there is none."""
    found = variant.get("differences", {}).get(split, {}).get(metric)
    return found if isinstance(found, dict) else {}


def claim(variant: Mapping[str, Any], result: str) -> str:
    """What an outcome says of a part, without a number: ``focal helps``, ``EAM seems better than LAM``."""
    part, instead = str(variant.get("part")), str(variant.get("instead") or "")
    if instead:
        if result == "open":
            return f"{part} and {instead} are not distinguishable"
        side = "better" if result in ("better", "leaning+") else "worse"
        return f"{part} {'is' if result in SURE else 'seems'} {side} than {instead}"
    several = part.startswith("the other losses")
    if result == "open":
        return f"{part} {'are' if several else 'is'} not shown to matter"
    verb = "help" if result in ("better", "leaning+") else "harm"
    if result in SURE:
        return f"{part} {verb}" if several else f"{part} {verb}s"
    return f"{part} {'seem' if several else 'seems'} to {verb}"


def outcomes(tree: Mapping[str, Any]) -> dict[str, str]:
    """By variant, how its comparison with the full recipe ends on the leading split and metric."""
    split = lead_split(tree)
    return {v["key"]: ended(tree, difference(v, split, lead_metric(tree))) for v in tree["variants"][1:]}


def ended(tree: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """How a comparison ends (:func:`serkit.reporting.verdict.outcome`); with one seed it is never sure.

    What then differs are two networks: of recipes that do not differ, another training may do as much.
    """
    found = outcome(row)
    once = {"better": "leaning+", "worse": "leaning-"}
    return once.get(found, found) if len(tree["seeds"]) == 1 else found


def headline(tree: Mapping[str, Any]) -> str:
    """One sentence: what is shown to help or to harm, or that nothing is."""
    split, results = lead_split(tree), outcomes(tree)
    opening = f"On {split}, by {LEAD_NAMES[lead_metric(tree)]},"
    sure = [claim(v, results[v["key"]]) for v in tree["variants"][1:] if results[v["key"]] in SURE]
    rest = len(results) - len(sure)
    if not sure:
        once = ": none can be by one training of each" if len(tree["seeds"]) == 1 else ""
        return f"{opening} no part of {tree['name']} is shown to help or to harm{once}."
    end = f"; {count(rest, 'other change')}: nothing shown" if rest else ""
    return f"{opening} {listed(sure)}{end}."


def lead(tree: Mapping[str, Any]) -> str:
    """The full recipe's number, and what a difference must be to be seen."""
    split = lead_split(tree)
    m = tree["variants"][0]["values"][split][lead_metric(tree)]
    seeds = count(len(tree["seeds"]), "seed")
    spread = f" ± {number(m['sd'])} over {seeds}" if finite(m.get("sd")) is not None else f" ({seeds})"
    return (
        f"The full recipe reaches a {LEAD_NAMES[lead_metric(tree)]} of {number(m['mean'])}{spread} on {split}: "
        f"{count(m.get('n'), 'utterance')} of {voices(m.get('speakers'))}. {detectable(tree)}"
    )


def detectable(tree: Mapping[str, Any]) -> str:
    """The differences whose intervals would leave out zero, over the variants."""
    split = lead_split(tree)
    found = [finite(difference(v, split, lead_metric(tree)).get("detectable")) for v in tree["variants"][1:]]
    known = sorted(x for x in found if x is not None)
    if not known:
        return ""
    low, high = number(known[0]), number(known[-1])
    size = low if low == high else f"{low} to {high} (by variant)"
    rough = any("rough" in str(difference(v, split, lead_metric(tree)).get("interval")) for v in tree["variants"][1:])
    more = " (with few speakers, less often)" if rough else ""
    larger = "" if len(tree["seeds"]) == 1 else "; to be called certain, it must be larger"
    return f"The interval of a true difference of {size} would leave out zero four times in five{more}{larger}."


def sentences(tree: Mapping[str, Any]) -> list[str]:
    """One sentence for each variant, sure ones first, then those that seem so, then the open ones."""
    results = outcomes(tree)
    order = {"better": 0, "worse": 0, "leaning+": 1, "leaning-": 1, "open": 2}
    rows = sorted(tree["variants"][1:], key=lambda v: order[results[v["key"]]])
    return [_sentence(tree, v, results[v["key"]]) for v in rows]


def _sentence(tree: Mapping[str, Any], variant: Mapping[str, Any], result: str) -> str:
    metric = lead_metric(tree)
    d = difference(variant, lead_split(tree), metric)
    text = claim(variant, result)
    if text.startswith(("the ", "all ", "augmentation ")):  # anything else is a name, which is written as it is
        text = capital(text)
    numbers = (
        f"{LEAD_NAMES[metric]} {number(d.get('value_a'))} against {number(d.get('value_b'))} ({variant['title']}), "
        f"{apart(metric)} {signed(d.get('difference'))} {between(d.get('low'), d.get('high'), signed)}"
    )
    if result == "open":
        return f"{text}: {numbers}; under {number(d.get('detectable'))} a difference would often be missed."
    tests = f"Holm {p_is(d.get('p_holm'))}, permuted {p_is(permuted(d))}"
    return f"{text}{'' if result in SURE else ', not certain'}: {numbers}, {tests}."


def cautions(tree: Mapping[str, Any], source: Source) -> list[str]:
    """What a reader must know before trusting the table."""
    lines = []
    split = lead_split(tree)
    quick = tree.get("quick")
    if isinstance(quick, dict):
        lines.append(
            f"quick look: {count(quick.get('epochs'), 'epoch')} instead of {quick.get('of')}, "
            f"{count(len(tree['seeds']), 'seed')}; with full training the ranking may differ."
        )
    if len(tree["seeds"]) == 1:
        lines.append(
            "one seed: intervals hold for these networks. Another training run of the same recipe may differ as much, "
            "so nothing is shown to help or to harm (--seeds 3 or more)."
        )
    lines += few_draws(tree.get("draws"), len(tree["variants"]) - 1, "variant", MORE_DRAWS)
    d = difference(tree["variants"][-1], split, lead_metric(tree))
    speakers = int(finite(d.get("speakers")) or 0)
    singly = "drawn singly" in str(d.get("interval")) or "speakers unknown" in str(d.get("interval"))
    n = len(tree["variants"]) - 1 if finite(d.get("p_permutation_holm")) is not None else 1
    least = least_permuted(speakers, n)
    if speakers >= 2 and least >= LEVEL and not singly:
        how = all_folds(source.provenance) if len(tree["folds"]) == 1 else ""
        more = f" Several folds ({how}) pool more speakers." if how else ""
        lines.append(
            f"too few speakers: with {speakers} on {split} the permutation test cannot go below about "
            f"{number(least, 2)}, so nothing can be shown to help or to harm.{more}"
        )
    if "rough" in str(d.get("interval")):
        lines.append(f"rough intervals: {voices(speakers)} on {split}; below 20 they are too narrow.")
    if split == "dev":
        lines.append(f"{source.why_dev}: these are numbers on dev, on which checkpoints were chosen.")
    if source.provenance.get("speakers_shared"):
        lines.append("speakers shared: some speakers are in two splits, so the numbers overstate new voices.")
    return [*lines, *absent_classes(source, split), *corpus_cautions(source)]


def changed(variant: Mapping[str, Any], full: Mapping[str, Any]) -> str:
    """What a variant trains with, where it differs from the full recipe: losses, augmentation, head."""
    parts = []
    for key in ("losses", "augment"):
        if variant.get(key) != full.get(key):
            parts.append(f"{key}: {' + '.join(str(x) for x in _items(variant.get(key))) or 'none'}")
    mine, its = _pairs(variant.get("model")), _pairs(full.get("model"))
    differs = [f"{k} {v}" for k, v in mine.items() if its.get(k) != v]
    return "; ".join([*parts, *([f"model: {', '.join(differs)}"] if differs else [])])


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _pairs(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
