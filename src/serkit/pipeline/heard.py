"""What a report says about the texts of a run: who wrote or heard them, and how right they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from serkit import checkpoints, word_errors
from serkit.types import Manifest


def describe_texts(manifest: Manifest, source: str, texts: Mapping[str, tuple[str, Sequence[str]]]) -> dict[str, Any]:
    """Source, number, flags and error rates of transcripts, as plain values.

    Args:
        manifest: rows with the corpus's own text, where it has any: the reference.
        source: ``corpus``, a CSV file, or a recogniser's name. texts: text and flags by utterance id.

    Returns:
        ``name``, ``texts``, ``flags`` (how many carry each) and, for a recogniser, its ``revision``, ``licence``
        and ``note``, and ``wer`` and ``cer`` (rate, errors, n, texts) over the utterances with a reference.
    """
    flags = Counter(flag for _, given in texts.values() for flag in given)
    row: dict[str, Any] = {"name": source, "texts": len(texts), "flags": dict(sorted(flags.items()))}
    if source == "corpus":
        return row
    if not source.endswith(".csv") and not source.endswith("/random"):
        found = checkpoints.resolve(source, family="whisper")
        row |= {"revision": found.revision, "licence": found.licence, "note": found.note}
    given = {u.id: u.text for u in manifest if u.text is not None and u.id in texts}
    if given:
        heard = [texts[name][0] for name in given]
        for key, measure in (("wer", word_errors.wer), ("cer", word_errors.cer)):
            found_rate = measure(list(given.values()), heard)
            row[key] = {"rate": found_rate.rate if found_rate.n else None, "errors": found_rate.errors,
                        "n": found_rate.n, "texts": found_rate.texts}  # fmt: skip
    return row
