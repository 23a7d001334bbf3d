"""Formatting of numbers and names, and text from report.json made safe for layout."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ABSENT = "–"
# control characters, halves of surrogate pairs, and characters that reorder the text around them
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")

METRICS = {
    "macro_f1": "Macro-F1",
    "uar": "UAR",
    "accuracy": "Accuracy",
    "weighted_f1": "Weighted F1",
    "bs_f1": "BS-F1",
    "ece": "ECE",
}
LEAD_NAMES = {**METRICS, "ccc": "Mean CCC", "kl": "KL divergence"}
"""The metrics that a recipe can choose its networks by."""
DISTANCE_NAMES = {"kl": "closeness to votes", "kl_disputed": "closeness to votes"}
ATTRIBUTE_NAMES = {"ccc_arousal": "Arousal", "ccc_valence": "Valence", "ccc_dominance": "Dominance", "ccc": "Mean CCC"}


NOT_KNOWN = "data that serkit does not know"
"""What an imported bundle was trained on, beside the names of corpora."""
OWN = "table"
"""The corpus of a table: a name that says nothing of which recordings they are."""
NOT_NAMED = "whether it was trained on these recordings is not known: a table does not name their corpus"


def all_folds(provenance: Mapping[str, Any]) -> str:
    """The options with which a command takes every fold; empty where there is one fold, or several corpora are joined.

    A table's own splits are one fold, but it has a protocol of several.

    >>> all_folds({"corpus_info": {"protocol": "table-as-given", "folds": 1}})
    '--protocol table-5fold-speaker --fold all'
    >>> all_folds({"corpus_info": {"protocol": "ravdess-6fold-actor", "folds": 6}})
    '--fold all'
    >>> all_folds({"corpus_info": {"protocol": "msp-podcast-release", "folds": 1}})
    ''
    """
    info = provenance.get("corpus_info") or {}
    if str(info.get("protocol")) == "table-as-given":
        return "--protocol table-5fold-speaker --fold all"
    return "--fold all" if (finite(info.get("folds")) or 0) > 1 else ""


def trained_on_too(corpora: Sequence[str]) -> str:
    """That numbers may be of speakers a model knows, and why; a sentence without its end.

    Args:
        corpora: what it was trained on of the recordings that were measured, :data:`NOT_KNOWN` among it.

    >>> trained_on_too([NOT_KNOWN])
    'its training data are unknown: it may know these speakers'
    >>> trained_on_too(["ravdess", "ased"])
    'trained on ravdess and ased too: it may know these speakers'
    """
    named = [name for name in corpora if name != NOT_KNOWN]
    why = ["its training data are unknown"] * (NOT_KNOWN in corpora) + [f"trained on {listed(named)} too"] * bool(named)
    return f"{'; '.join(why)}: it may know these speakers"


def other_scales(scales: Sequence[Sequence[float]]) -> str:
    """Why there is no CCC; a sentence without its end.

    Args:
        scales: what the model learned, and what the recordings are rated on, each lowest and highest.

    >>> other_scales([(1, 7), (1, 5)])
    'no CCC: the model learned ratings from 1 to 7, these recordings are rated from 1 to 5'
    """
    (low, high), (least, most) = scales
    return (
        f"no CCC: the model learned ratings from {low:g} to {high:g}, these recordings are rated from {least:g} to "
        f"{most:g}"
    )


def without_text(n: int, rows: int) -> str:
    """That a model which reads texts had none of some recordings; a sentence without its end."""
    return f"{n} of {rows} recordings have no text, and this model reads texts: an empty one was used"


def clean(value: Any) -> Any:
    """The same JSON tree with characters that no page may carry replaced by U+FFFD, in keys and values."""
    if isinstance(value, str):
        return _UNSAFE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {clean(str(k)): clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    return value


def finite(value: Any) -> float | None:
    """A finite number as float, anything else as ``None`` (booleans do not count)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def number(value: Any, digits: int = 3) -> str:
    """``0.409`` or a dash; what rounds to zero has no sign.

    >>> number(0.4094), number(None), number(-0.25), number(-0.0003)
    ('0.409', '–', '−0.250', '0.000')
    """
    found = finite(value)
    return ABSENT if found is None else f"{found:z.{digits}f}".replace("-", "−")


def signed(value: Any, digits: int = 3) -> str:
    """A difference with its sign, zero without one.

    >>> signed(0.019), signed(-0.2), signed(0)
    ('+0.019', '−0.200', '0.000')
    """
    found = finite(value)
    if found is None:
        return ABSENT
    text = f"{abs(found):.{digits}f}"
    return text if not float(text) else ("+" if found > 0 else "−") + text


def p_value(value: Any) -> str:
    """``0.031``, ``< 0.001`` or a dash.

    >>> p_value(0.0314), p_value(0.0002)
    ('0.031', '< 0.001')
    """
    found = finite(value)
    if found is None:
        return ABSENT
    return "< 0.001" if found < 0.001 else f"{found:.3f}"


def p_is(value: Any) -> str:
    """``p = 0.031`` or ``p < 0.001``, for sentences."""
    text = p_value(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}".replace(" ", "\u00a0")


def between(low: Any, high: Any, form: Any = number) -> str:
    """``[0.366, 0.423]``, or nothing where there is no interval."""
    if finite(low) is None or finite(high) is None:
        return ""
    return f"[{form(low)}, {form(high)}]"


def intervals(numbers: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line on how the intervals of some numbers came about, rough ones called so; none where there are none.

    >>> intervals([{"interval": "95% speaker bootstrap (200 draws), rough: 2 speakers"}, {}])
    ['intervals: 95% speaker bootstrap (200 draws), rough: 2 speakers']
    """
    kinds = dict.fromkeys(str(m["interval"]) for m in numbers if m.get("interval"))
    return [f"intervals: {'; '.join(kinds)}"] if kinds else []


def count(n: Any, noun: str, plural: str = "") -> str:
    """``1 speaker``, ``1 200 clips`` (a narrow space).

    >>> count(1, "speaker"), count(660, "utterance"), count(2, "class"), count(2, "stretch", "stretches")
    ('1 speaker', '660 utterances', '2 classes', '2 stretches')
    """
    if n == 1:
        return f"1 {noun}"
    return f"{whole(n)} {plural or noun + ('es' if noun.endswith('s') else 's')}"


def voices(n: Any) -> str:
    """``1 speaker``, ``12 speakers``; 0 is how a number says that it does not know them.

    >>> voices(1), voices(12), voices(0)
    ('1 speaker', '12 speakers', 'unknown speakers')
    """
    return count(n, "speaker") if n != 0 else "unknown speakers"


def whole(n: Any) -> str:
    """A count with thin spaces between thousands, or a dash."""
    found = finite(n)
    return ABSENT if found is None else f"{round(found):,}".replace(",", "\u202f")


def listed(items: Sequence[str], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``.

    >>> listed(["the vote", "the mean logit"], "or")
    'the vote or the mean logit'
    """
    found = list(items)
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} {last} {found[-1]}" if found else ""


def capital(words: str) -> str:
    """The same words to begin a sentence with: only the first letter is changed.

    >>> capital("uAR of MSP")
    'UAR of MSP'
    """
    return words[:1].upper() + words[1:]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines for a terminal: indented, in columns as wide as their longest cell.

    >>> aligned([("a", "b"), ("long", "")])
    ['  a     b', '  long']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(f"{c:{w}}" for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def spaced(name: str) -> str:
    """A name of the code as words: ``cross_entropy`` → ``cross entropy``."""
    return name.replace("_", " ")
