"""What a search shows, in sentences made from its numbers: a choice on dev is told as one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from serkit.bootstrap import ROUGH_BELOW
from serkit.leads import LESS_IS_BETTER, sign
from serkit.reporting.lead_words import apart, extreme
from serkit.reporting.reading import Source
from serkit.reporting.text import LEAD_NAMES, all_folds, between, count, finite, listed, number, signed, voices
from serkit.reporting.verdict import MORE_DRAWS, absent_classes, corpus_cautions, few_draws, outcome

METHOD = (
    "Every trial is the recipe with other values of the keys tried, trained with each seed on the same rows. Its test "
    "clips are in no split: no trial reads them. The trial with the highest mean over seeds on dev is chosen.",
    "A number on dev is optimistic twice: the checkpoint of each network is chosen on dev, and then the highest of "
    "several trials is taken. So only the chosen trial and the recipe as it is are measured on test, once, after the "
    "choice. With several folds each chooses on its own dev alone, because its dev speakers are test speakers of "
    "another fold: the number on test is that of choosing so, and best.yaml is the choice on the dev clips of all.",
    "Behind is the chosen trial minus another one, seed by seed, averaged. Each bootstrap draw takes speakers with "
    "replacement, the same for all networks, and, independently, seeds with replacement (the pigeonhole bootstrap, "
    "Owen 2007). With one seed an interval holds only for these networks. As the chosen trial is the highest of all, "
    "its lead is somewhat too large. p Holm is adjusted for all trials, not for that choice: in simulated searches "
    "without any difference (6 or 18 trials, 12 to 50 speakers), another trial was called behind in 6 to 15 % of them.",
)


_LESS = {"the chosen trial minus another one": "another one minus the chosen trial", "highest": "lowest"}


def method(tree: Mapping[str, Any]) -> tuple[str, ...]:
    """How the numbers came about, a paragraph each."""
    if tree["metric"] not in LESS_IS_BETTER:
        return METHOD
    found: tuple[str, ...] = METHOD
    for word, instead in _LESS.items():
        found = tuple(text.replace(word, instead) for text in found)
    return (*found, "The KL divergence is that of the scores from the raters' votes, over all clips with votes.")


def best_of(tree: Mapping[str, Any]) -> Mapping[str, Any]:
    """The chosen trial."""
    found: Mapping[str, Any] = next(t for t in tree["trials"] if t["key"] == tree["best"])
    return found


def ranked(tree: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The trials, the best on dev first; of equal ones the earlier."""

    def place(trial: Mapping[str, Any]) -> float:
        mean = finite(trial["values"][tree["metric"]]["mean"])
        return math.inf if mean is None else -sign(tree["metric"]) * mean

    return sorted(tree["trials"], key=place)


def places(tree: Mapping[str, Any]) -> dict[str, int]:
    """The place of each trial on dev, by key; 1 is the best."""
    return {t["key"]: k for k, t in enumerate(ranked(tree), 1)}


def value_said(value: Any) -> str:
    """A value as short as it is written: ``0.001``, ``true``, ``cross_entropy + focal``."""
    if isinstance(value, list):
        return " + ".join(map(value_said, value)) or "none"
    if isinstance(value, dict):
        named = dict(value)
        name = str(named.pop("name", ""))
        rest = ", ".join(f"{k} {value_said(v)}" for k, v in named.items())
        return f"{name} ({rest})" if name and rest else name or rest
    if isinstance(value, str):
        return value
    return json.dumps(value)


def outcomes(tree: Mapping[str, Any]) -> dict[str, str]:
    """By trial, how the chosen one's comparison with it on dev ends."""
    return {t["key"]: outcome(t["behind"]) for t in tree["trials"] if isinstance(t.get("behind"), dict)}


def headline(tree: Mapping[str, Any]) -> str:
    """One sentence: what was chosen, and whether test shows that it is better."""
    best, test = best_of(tree), tree.get("test")
    d = test.get("difference") if isinstance(test, dict) else None
    if not best["settings"] and not isinstance(d, dict):
        return f"On dev, no trial is ahead of {tree['name']} as it is."
    if not isinstance(test, dict):
        return f"On dev, {best['title']} is chosen; there is no test to measure it on."
    if not isinstance(d, dict):
        return f"On dev of all folds, {best['title']} is chosen, but each fold alone chooses the recipe as it is."
    once = ", by one training of each"  # two networks differ, and another training of one recipe may differ as much
    single = len(tree["seeds"]) == 1
    shown = {
        "better": f"seems better than the recipe as it is{once}" if single else "is better than the recipe as it is",
        "worse": f"seems worse than the recipe as it is{once}" if single else "is worse than the recipe as it is",
        "leaning+": "seems better than the recipe as it is, not certain",
        "leaning-": "seems worse than the recipe as it is, not certain",
        "open": "is not shown to differ from the recipe as it is",
    }[outcome(d)]
    return f"On test, {subject(tree)} {shown}."


def subject(tree: Mapping[str, Any]) -> str:
    """What is measured on test: the chosen trial, or what each fold chose."""
    first, *others = dict.fromkeys(tree["chosen"].values())
    if others:
        return "what each fold chooses on its dev"
    return str(next(t["title"] for t in tree["trials"] if t["key"] == first))


def _all_choose_the_best(tree: Mapping[str, Any]) -> bool:
    """Whether each fold chooses what all of them together do: what test measures is then the chosen trial."""
    return set(tree["chosen"].values()) == {tree["best"]}


def lead(tree: Mapping[str, Any]) -> str:
    """The chosen trial's numbers on dev and test."""
    metric, best = tree["metric"], best_of(tree)
    m = best["values"][metric]
    trials = count(len(tree["trials"]), "trial")
    text = (
        f"{LEAD_NAMES[metric]} {number(m['mean'])} on dev, the {extreme(metric)} of {trials} with "
        f"{count(len(tree['seeds']), 'seed')} each ({count(m['n'], 'utterance')} of {voices(m['speakers'])})"
    )
    test = tree.get("test")
    if not isinstance(test, dict):
        return text + "."
    t = test["values"]["chosen"][metric]
    of = "" if _all_choose_the_best(tree) else f", {subject(tree)}"
    return f"{text}; {number(t['mean'])} on test{of} ({count(t['n'], 'utterance')} of {voices(t['speakers'])})."


def sentences(tree: Mapping[str, Any]) -> list[str]:
    """What the choice is worth, one line each."""
    metric, found = tree["metric"], []
    results = list(outcomes(tree).values())
    worse, seeming = results.count("better"), results.count("leaning+")
    rest, chance = len(results) - worse - seeming, "speakers and seeds" if len(tree["seeds"]) > 1 else "speakers"
    found.append(
        f"{worse} of {count(len(results), 'other trial')} {_are(worse)} behind the chosen one on dev by more than "
        f"chance among {chance} explains; {seeming} {'seems' if seeming == 1 else 'seem'} so, not certain; {rest} "
        f"{_are(rest)} not shown to be worse."
    )
    test = tree.get("test")
    d = test.get("difference") if isinstance(test, dict) else None
    if isinstance(d, dict):
        ends = between(d.get("low"), d.get("high"), signed)
        found.append(
            f"On test, {subject(tree)} has {LEAD_NAMES[metric]} {number(d.get('value_a'))}, the recipe as it is "
            f"{number(d.get('value_b'))}: {apart(metric)} {signed(d.get('difference'))} {ends}; under "
            f"{number(d.get('detectable'))} a difference would often be missed."
        )
    if not _all_choose_the_best(tree):
        place = places(tree)
        found.append("By fold: " + ", ".join(f"{fold}: no. {place[key]}" for fold, key in tree["chosen"].items()) + ".")
    if tree["drawn"] < tree["combinations"]:
        found.append(f"{tree['drawn']} of {count(tree['combinations'], 'combination')} were drawn at random.")
    return found


def _were(n: int) -> str:
    return "was" if n == 1 else "were"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def cautions(tree: Mapping[str, Any], source: Source) -> list[str]:
    """What a reader must know before trusting the choice."""
    lines = []
    if len(tree["seeds"]) == 1:
        lines.append("one seed: another training of the same recipe may differ as much as two trials do (--seeds 3).")
    lines += few_draws(tree.get("draws"), len(outcomes(tree)), "other trial", MORE_DRAWS)
    measured = {"dev": best_of(tree)["values"]}
    if isinstance(test := tree.get("test"), dict):
        measured["test"] = test["values"]["chosen"]
    n_speakers = {split: values[tree["metric"]]["speakers"] for split, values in measured.items()}
    if few := [f"{voices(n)} on {split}" for split, n in n_speakers.items() if n < ROUGH_BELOW]:
        how = all_folds(source.provenance) if len(tree["folds"]) == 1 else ""
        more = f" Several folds ({how}) pool more." if how else ""
        lines.append(f"rough intervals: {listed(few)}; below {ROUGH_BELOW} they are too narrow.{more}")
    if source.provenance.get("speakers_shared"):
        lines.append("speakers shared: some speakers are in two splits, so the numbers overstate new voices.")
    if isinstance(test, dict) and (before := test.get("before")):
        others = f"{count(len(before), 'other choice')} of this folder {_were(len(before))}"
        lines.append(
            f"test again: {others} measured on test before; choose by dev alone, or the number on test is too high."
        )
    absent = [line for split in ("dev", "test") for line in absent_classes(source, split)]
    return [*lines, *absent, *corpus_cautions(source)]
