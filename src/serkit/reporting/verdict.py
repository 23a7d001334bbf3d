"""The results in sentences: whether the stack wins, with what confidence, and caveats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serkit.reporting.reading import Source
from serkit.reporting.text import (
    LEAD_NAMES,
    between,
    capital,
    count,
    finite,
    listed,
    number,
    p_is,
    signed,
    spaced,
    voices,
)

LEVEL = 0.05
MORE_DRAWS = "the same again with more draws (--set evaluate.draws=…) trains nothing anew"
# Ueda et al. (2025), section on stacking and released code
PUBLISHED_FOREST = {"trees": 200, "max_depth": 8, "min_leaf": 10, "min_split": 10, "folds": 5}
DETECTABLE = (
    "Detectable (2.80 standard errors): the interval of a true difference of that size leaves out zero about four "
    "times in five. To be found with certainty it must be larger, of few speakers or many comparisons by far."
)
SPLIT_WORDS = {"dev": "on dev", "test": "on test", "train": "out of fold on train"}


@dataclass(frozen=True)
class Verdict:
    """What the page says first.

    Attributes:
        headline: one sentence. lead: the leading number with its interval. sentences: one per comparison.
        tone: ``won``, ``mixed``, ``open`` or ``lost``, or ``alone`` without comparisons.
        cautions: what would mislead a reader who did not know it.
    """

    headline: str
    lead: str
    sentences: tuple[str, ...]
    tone: str
    cautions: tuple[str, ...]


def outcome(row: Mapping[str, Any]) -> str:
    """``better``, ``worse`` or ``open``: how a paired comparison ends.

    A side wins where the interval of the difference leaves out zero and both tests agree (bootstrap and permutation of
    whole speakers, each Holm-adjusted, at 5 %). With few speakers the second cannot be small: the answer is then
    ``leaning+`` or ``leaning-``, never a win.
    """
    low, high = finite(row.get("low")), finite(row.get("high"))
    if low is None or high is None or low <= 0 <= high:
        return "open"
    tests = [finite(row.get("p_holm")), permuted(row)]
    sure = all(p is not None and p < LEVEL for p in tests)
    return ("better" if low > 0 else "worse") if sure else ("leaning+" if low > 0 else "leaning-")


def larger_p(row: Mapping[str, Any]) -> float | None:
    """The larger p of both tests, each adjusted: what one column shows, as :func:`outcome` needs both to be small."""
    tests = [p for p in (finite(row.get("p_holm")), permuted(row)) if p is not None]
    return max(tests) if len(tests) == 2 else None


def permuted(row: Mapping[str, Any]) -> float | None:
    """The p of whole speakers swapped, adjusted where the comparison is one of several."""
    adjusted = finite(row.get("p_permutation_holm"))
    return finite(row.get("p_permutation")) if adjusted is None else adjusted


def judge(source: Source) -> Verdict:
    """The verdict of a run on its leading split."""
    asked = [c for c in source.comparisons if c.get("split") == source.split and c.get("metric") == "macro_f1"]
    n_asked = len(asked)
    asked = [c for c in asked if not _is_itself(c)]
    leading = [c for c in asked if c.get("a") == source.lead]
    rows = leading or asked
    others = [c for c in asked if c not in rows]
    results = {str(c["b"]): outcome(c) for c in rows}
    tone, headline = _headline(source, results)
    sentences = [_sentence(source, c, results[str(c["b"])]) for c in rows]
    sentences += [_sentence(source, c, outcome(c), of=True) for c in others]
    sentences += [
        *_authors(source),
        *_too_few(rows, results, n_asked),
        *_better_unchosen(source),
        *_forest(source, tone),
    ]
    return Verdict(headline, _lead(source), tuple(sentences), tone, tuple(cautions(source)))


def _headline(source: Source, results: Mapping[str, str]) -> tuple[str, str]:
    """Tone and first sentence, by what became of the comparison with each system."""
    main = {b: r for b, r in results.items() if b in (source.best, "vote", "mean_logit")}
    won = [_called(source, b) for b, r in main.items() if r == "better"]
    lost = [_called(source, b) for b, r in main.items() if r == "worse"]
    rest = [_called(source, b) for b, r in main.items() if r not in ("better", "worse")]
    opening = capital(SPLIT_WORDS[source.split])
    subject = f"{opening}, the {source.ensemble}"
    if not main:
        value = number(source.metric(source.lead, source.split, "macro_f1").get("value"))
        return "alone", f"{opening}, {source.named(source.lead)} reaches a Macro-F1 of {value}."
    if len(won) == len(main):
        return "won", f"{subject} beats {listed(won)}."
    if won:
        others = [f"does worse than {listed(lost)}"] * bool(lost)
        others += [f"is not shown to beat {listed(rest, 'or')}"] * bool(rest)
        return "mixed", f"{subject} beats {listed(won)}, but {listed(others)}."
    if lost:
        also = f", and is not shown to beat {listed(rest, 'or')}" if rest else ""
        return "lost", f"{subject} does worse than {listed(lost)}{also}."
    return "open", f"{subject} is not shown to beat {listed(rest, 'or')}."


def by(source: Source) -> str:
    """By which metric a system is the best on dev, to follow ``on dev``; nothing where that is Macro-F1, as usual."""
    return f" by {LEAD_NAMES[source.best_by].replace('Mean', 'mean')}" if source.best_by != "macro_f1" else ""


def _called(source: Source, system: str) -> str:
    if system == source.best:
        return "the best single system"
    return {"vote": "the majority vote", "mean_logit": "the mean logit"}.get(system, f"the {source.display(system)}")


def _lead(source: Source) -> str:
    m = source.metric(source.lead, source.split, "macro_f1")
    who = source.named(source.lead)
    who = f"The{who.removeprefix('the')}" if who.startswith("the ") else who
    if not m:
        return f"{who} was not measured."
    interval = between(m.get("low"), m.get("high"))
    return (
        f"{who} reaches a Macro-F1 of {number(m['value'])} {interval} {SPLIT_WORDS[source.split]}: "
        f"{count(m.get('n'), 'utterance')} of {voices(m.get('speakers'))} "
        f"({m.get('interval')})."
    )


def _is_itself(row: Mapping[str, Any]) -> bool:
    """Whether both sides gave the same answers: the stack and the kind of stack that was kept."""
    return finite(row.get("low")) == finite(row.get("high")) == finite(row.get("difference")) == 0.0


def _sentence(source: Source, row: Mapping[str, Any], result: str, *, of: bool = False) -> str:
    """One comparison in words; ``of`` names its first side too, where that is not the leading one."""
    other = _called(source, str(row["b"]))
    if row["b"] == source.best:
        other += f" ({source.best}, chosen on dev{by(source)})"
    words = {
        "better": f"Better than {other}",
        "worse": f"Worse than {other}",
        "leaning+": f"Ahead of {other}, but not with certainty",
        "leaning-": f"Behind {other}, but not with certainty",
        "open": f"Not distinguishable from {other}",
    }[result]
    if of:
        who = _called(source, str(row["a"]))
        words = f"{capital(who)}: {words[0].lower()}{words[1:]}"
    numbers = (
        f"{signed(row.get('difference'))} {between(row.get('low'), row.get('high'), signed)}, "
        f"{p_is(row.get('p'))}, Holm {p_is(row.get('p_holm'))}"
    )
    tail = f", permuted {p_is(permuted(row))}" if result != "open" else ""
    detectable = finite(row.get("detectable"))
    if result == "open" and detectable is not None:
        tail = f"; a difference under {number(detectable)} would often be missed"
    return f"{words}: {numbers}{tail}."


def compared(source: Source) -> list[str]:
    """The paired difference with the single system that is best on dev, by what the page begins with."""
    rows = [c for c in source.comparisons if c.get("metric") == source.led_by and c.get("split") == source.split]
    name = {"kl": "KL divergence (a plus is nearer to the votes)", "ccc": "Mean CCC"}.get(source.led_by)
    return [f"{name}: {text[0].lower()}{text[1:]}" for c in rows if (text := _sentence(source, c, outcome(c)))]


def few_draws(draws: Any, n: int, what: str, more: str) -> list[str]:
    """A line if the draws are so few that no p can be small after Holm over n comparisons.

    Args:
        draws: of a report, a number or nothing. what: is compared, one of them. more: what helps.

    >>> few_draws(1000, 39, "trial", "more --draws")
    ['with 1\u202f000 draws and 39 trials no p Holm is below 0.078: more --draws']
    >>> few_draws(1000, 5, "trial", "")
    []
    """
    least = min(1.0, 2 * n / ((finite(draws) or math.inf) + 1))
    line = f"with {count(draws, 'draw')} and {count(n, what)} no p Holm is below {least:.3f}: {more}"
    return [line] * (least >= LEVEL)


def least_permuted(speakers: int, n: int) -> float:
    """The smallest p that swapping k speakers can give, Holm-adjusted over n comparisons: n · 2 / 2ᵏ.

    >>> least_permuted(6, 1), least_permuted(6, 4), least_permuted(2, 4)
    (0.03125, 0.125, 1.0)
    """
    return float(min(1.0, n * 2.0 ** (1 - speakers)))


def _authors(source: Source) -> list[str]:
    """What the authors of a published recipe answer with, where that is not what the page leads with."""
    answer = source.authors_answer
    m = source.metric(answer, source.split, "macro_f1") if answer else {}
    if not answer or not m:
        return []
    return [
        f"The authors' own answer is the row “{source.display(answer)}”: Macro-F1 {number(m.get('value'))} "
        f"{between(m.get('low'), m.get('high'))} {SPLIT_WORDS[source.split]}; compare it with their figures. A bundle "
        f"answers with {source.named(source.lead)}."
    ]


def _too_few(rows: Sequence[Mapping[str, Any]], results: Mapping[str, str], n: int) -> list[str]:
    """Says so where no win was possible, n comparisons being adjusted together."""
    speakers = min((int(finite(r.get("speakers")) or 0) for r in rows), default=0)
    singly = any("drawn singly" in str(r.get("interval")) for r in rows)
    leaning = any(r.startswith("leaning") for r in results.values())
    n = n if any(finite(r.get("p_permutation_holm")) is not None for r in rows) else 1
    least = least_permuted(speakers, n)
    if not leaning or singly or speakers < 2 or least < LEVEL:
        return []
    adjusted = f", adjusted for {n} comparisons," if n > 1 else ""
    return [
        f"With {speakers} speakers the permutation test{adjusted} cannot go below about {number(least, 2)}: no "
        "difference can be certain."
    ]


def _better_unchosen(source: Source) -> list[str]:
    """A single system that is ahead of the leading one, though dev did not point to it."""
    values = {n: finite(source.metric(n, source.split, "macro_f1").get("value")) for n in source.singles}
    known = {n: v for n, v in values.items() if v is not None}
    lead = finite(source.metric(source.lead, source.split, "macro_f1").get("value"))
    top = max(known, key=lambda n: known[n], default=None)
    if top is None or lead is None or known[top] <= lead or top in (source.best, source.lead):
        return []
    return [
        f"{top} reaches {number(known[top])} {SPLIT_WORDS[source.split]}, more than {source.named(source.lead)}; "
        f"on dev it was behind {source.best}{by(source)}, so choosing it now would be hindsight."
    ]


def _forest(source: Source, tone: str) -> list[str]:
    """What became of the published forest."""
    about = source.part("stack")
    scores, kept = about.get("out_of_fold") or {}, source.kept
    if not kept:
        return []
    lines = []
    listed_scores = listed([f"{source.display(n)} {number(v)}" for n, v in scores.items()])
    if kept == "random_forest" and tone not in ("won", "alone"):
        settings = about.get("settings") or {}
        same = all(settings.get(k, v) == v for k, v in PUBLISHED_FOREST.items())
        differs = ", ".join(f"{spaced(k)} {settings.get(k, v)}" for k, v in PUBLISHED_FOREST.items())
        which = "the published random forest" if same else f"a random forest as published, but with {differs}"
        end = {
            "mixed": "it is not shown to beat every simpler choice",
            "lost": "on these recordings it does not win",
        }.get(tone, "on these recordings its win is not established")
        lines.append(f"The stack is {which}: {end}.")
    if kept != "random_forest" and "random_forest" in source.tree["systems"]:
        m = source.metric("random_forest", source.split, "macro_f1")
        reached = f"; the forest reaches {number(m['value'])} {SPLIT_WORDS[source.split]}" if m else ""
        chosen = (about.get("settings") or {}).get("name") == "auto"
        why = f"the {source.display(kept)} was kept" if chosen else f"the recipe names the {source.display(kept)}"
        lines.append(f"The random forest of Ueda et al. (2025) is not the stack here: {why}{reached}.")
    best = about.get("best_out_of_fold")
    if best and best != kept:
        lines.append(
            f"{source.learned_on} the {source.display(best)} was ahead ({listed_scores}); the recipe names {kept}."
        )
    elif listed_scores:
        lines.append(f"{source.learned_on}, Macro-F1 by which stacks are chosen: {listed_scores}.")
    return lines


def cautions(source: Source) -> list[str]:
    """What a reader must know before trusting a number."""
    lines = []
    m = source.metric(source.lead, source.split, "macro_f1")
    if source.provenance.get("speakers_shared"):
        if source.across:
            lines.append("speakers shared: some are in train and in dev, so dev is optimistic; test shares none.")
        else:
            lines.append("speakers shared: some speakers are in two splits, so the numbers overstate new voices.")
    if source.rough:
        speakers = int(finite(m.get("speakers")) or 0)
        few = f"{count(speakers, 'speaker')} {SPLIT_WORDS[source.split]}" if speakers else "unknown speakers"
        lines.append(f"rough intervals: {few}; below 20 speakers a bootstrap interval is too narrow.")
    recipe = source.provenance.get("recipe") or {}
    crossfit = recipe.get("crossfit") or {}
    with_dev, refits = bool(crossfit.get("with_dev")), int(crossfit.get("refit") or 0)
    systems = list((recipe.get("systems") or {}).values())
    kept_last = bool(systems) and all((s.get("train") or {}).get("select") == "last" for s in systems)
    if source.split == "dev":
        said = "where no epoch was chosen" if kept_last else "on which models were chosen, so they are optimistic"
        if with_dev:
            said += "; dev speakers are used for training too, and each is scored by networks not trained on it"
        lines.append(f"{source.why_dev}: these are numbers on dev, {said}.")
    elif with_dev:
        lines.append(
            "dev speakers are used for training too: each is scored on dev by networks not trained on it; test is "
            "separate."
        )
        if not kept_last:
            lines.append("epochs were chosen on those same clips, so dev and out-of-fold scores are optimistic.")
    if refits:
        of, scored = ("train and dev", "test is") if with_dev else ("train", "dev and test are")
        lines.append(
            f"{scored} scored by {count(refits, 'network')} of each system on all of {of}; other scores are those of "
            "the fold networks, which learned from fewer clips."
        )
    if "stack" in source.tree["systems"] and not recipe.get("crossfit"):
        lines.append("in sample: the stack was fitted on scores of clips that its systems were trained on.")
    return [*lines, *_one_answer(source), *absent_classes(source, source.split), *corpus_cautions(source)]


def _one_answer(source: Source) -> list[str]:
    """That systems give every clip the same answer, where the clips are of several classes."""
    found: dict[str, list[str]] = {}
    for name in [*source.singles, *source.ensembles]:
        matrix = source.confusion(name, source.split)
        answered = [k for k, column in enumerate(zip(*matrix, strict=True)) if any(column)]
        if len(answered) == 1 and sum(any(row) for row in matrix) > 1:
            found.setdefault(source.labels_of(source.split)[answered[0]], []).append(name)
    lines = []
    for label, names in found.items():
        lines.append(
            f"one answer: {listed([source.named(n) for n in names])} {'says' if len(names) == 1 else 'say'} {label} "
            f"of every clip {SPLIT_WORDS[source.split]}"
        )
        if "random_forest" in names or ("stack" in names and source.kept == "random_forest"):
            lines[-1] += " (a forest does where its rows are too few for leaves of stack.min_leaf)"
    return [f"{line}." for line in lines]


def absent_classes(source: Source, split: str) -> list[str]:
    """That classes without a clip in a split count as 0 in what is averaged over classes."""
    absent = [label for label, n in (source.part("counts").get(split) or {}).items() if not n]
    if not absent or len(source.corpora) != 1:
        return []
    return [
        f"no clip of {listed(absent)} {SPLIT_WORDS[split]}: counted as 0 in Macro-F1 and UAR, which cannot "
        f"exceed {number(1 - len(absent) / len(source.labels))}."
    ]


def corpus_cautions(source: Source) -> list[str]:
    """What the corpora say about themselves: notes, classes without clips, counts, recordings that are missing."""
    lines: list[str] = []
    for name, info in source.corpora.items():
        before = f"{name}: " if len(source.corpora) > 1 else ""
        lines += [f"{before}{note}" for note in info.get("notes") or [] if isinstance(note, str)]
        lines += [f"{before}{line}" for line in info.get("class_findings") or [] if isinstance(line, str)]
        missing = finite((info.get("missing_audio") or {}).get("count")) or 0
        differs = sum(isinstance(d, Mapping) for d in info.get("count_findings") or [])
        if differs:
            lines.append(f"{before}{count(differs, 'count')} of clips or speakers not as published: see Data.")
        if missing:
            lines.append(f"{before}{count(int(missing), 'listed recording')} missing on disk.")
    return list(dict.fromkeys(lines))
