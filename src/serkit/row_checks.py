"""What an audit learns from the rows of a manifest without audio: speakers, labels, counts, stretches, words."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from serkit import regions
from serkit.findings import Finding, Severity, finding
from serkit.recordings import near_label
from serkit.types import ATTRIBUTES, CANONICAL_LABELS, SPLITS, Manifest, Utterance

THIN_CLIPS = 20
FAR_RATING = 10.0  # times the width of the middle half of the ratings, from their median


def check_rows(manifest: Manifest) -> Iterable[Finding]:
    """Findings about the rows, in a fixed order; no recording is opened."""
    for check in (_speakers, _names, _labels, _ratings, _counts, _stretches, _words):
        yield from check(manifest)


def _speakers(manifest: Manifest) -> Iterable[Finding]:
    rows: dict[str, list[Utterance]] = {s: [u for u in manifest if u.split == s] for s in SPLITS}
    names = {s: {u.speaker for u in rows[s] if u.speaker is not None} for s in SPLITS}
    for one, two in combinations(SPLITS, 2):
        shared = names[one] & names[two]
        if shared:
            hit = [u for u in rows[two] if u.speaker in shared]
            text = (
                f"{len(shared)} of {len(names[two])} {two} speakers ({', '.join(sorted(shared)[:5])}) also speak in "
                f"{one}, {len(hit)} {two} rows: call results 'speakers shared', or take a protocol split by speaker"
            )
            yield finding("warning", "speakers-shared", text, hit)
    unknown = [u for u in manifest if u.split is not None and u.speaker is None]
    if unknown:
        text = (
            f"{len(unknown)} rows in splits have no speaker: leakage is not detected; in intervals each counts as one"
        )
        yield finding("warning", "speaker-unknown", text, unknown)
    everyone = {u.speaker for u in manifest}
    if len(everyone) == 1 and None not in everyone:
        yield finding("warning", "one-speaker", f"only {everyone.pop()} speaks: nothing can be said about other voices")


def _names(manifest: Manifest) -> Iterable[Finding]:
    """Names that differ as people write the same name: in case, in zeros before a number, in what joins the two."""
    alike: dict[str, dict[str, list[Utterance]]] = defaultdict(lambda: defaultdict(list))
    for u in manifest:
        if u.speaker is not None:
            joined = re.sub(r"(?<=[^\W\d_])[\s_-]+(?=\d)", "", u.speaker.casefold())
            alike[re.sub(r"(?<!\d)0+(?=\d)", "", joined)][u.speaker].append(u)
    groups = [names for names in alike.values() if len(names) > 1]
    hit = [u for names in groups for rows in names.values() for u in rows]
    if hit:
        across = any(len({u.split for rows in names.values() for u in rows} - {None}) > 1 for names in groups)
        some = "; ".join(", ".join(names) for names in groups[:3])
        where = ", in several splits" if across else ""
        text = f"{len(groups)} speakers may have several names ({some}){where}: give one person one name"
        yield finding("warning" if across else "info", "speakers-alike", text, hit)


def _labels(manifest: Manifest) -> Iterable[Finding]:
    rated_only = not manifest.labels and any(u.is_rated for u in manifest)
    if rated_only:
        rated = [u for u in manifest if u.is_rated]
        text = (
            f"no row has an emotion label, {len(rated)} of {len(manifest)} have ratings: train on classes made from "
            "these, with labels: quadrants or octants in the recipe"
        )
        yield finding("info", "rated-only", text, rated)
    for split in SPLITS:
        rows = [u for u in manifest if u.split == split]
        if not rows:
            yield finding("warning", "empty-split", f"no row is in {split}: choose a protocol, or give a split column")
        elif not rated_only:
            yield from _labels_of(split, rows, manifest)
    yield from _rare(manifest)


def _labels_of(split: str, rows: Sequence[Utterance], manifest: Manifest) -> Iterable[Finding]:
    """What is wrong with the labels of the rows of one split."""
    bare = [u for u in rows if u.emotion is None]
    if len(bare) == len(rows):
        text = f"no row of {split} has a label: it can be predicted, but not used for training or measured"
        yield finding("warning" if split == "dev" else "error", f"unlabelled-{split}", text, bare)
        return
    if bare:
        text = (
            f"{len(bare)} of {len(rows)} {split} rows have no label (no agreement, or not annotated): they are not "
            "scored; report how many were left out"
        )
        yield finding("warning" if split == "test" else "info", f"unlabelled-{split}", text, bare)
    yield from _thin(manifest, split, rows)


def _rare(manifest: Manifest) -> Iterable[Finding]:
    """Labels of one clip in the whole manifest, which may be typos, and of none."""
    total = manifest.counts()
    once = [label for label, n in total.items() if n == 1]
    if once:
        known = dict.fromkeys((*(label for label, n in total.items() if n > 1), *CANONICAL_LABELS))
        words = [label for label in once if label not in CANONICAL_LABELS and regions.KEY not in manifest.info]
        meant = {label: near_label(label, known) for label in words}
        said = ", ".join(f"{label}, did you mean '{meant[label]}'?" if meant.get(label) else label for label in once)
        text = f"labels of one clip only ({said}): a typo? Otherwise drop_labels or map_labels"
        yield finding("error", "label-once", text, (u for u in manifest if u.emotion in once))
    empty = [label for label, n in total.items() if n == 0]
    if empty:
        text = f"labels without a clip ({', '.join(empty)}): drop_labels, or averages include a class with no hits"
        yield finding("warning", "label-without-clips", text)


def _thin(manifest: Manifest, split: str, rows: Sequence[Utterance]) -> Iterable[Finding]:
    thin: dict[str, list[Utterance]] = {}
    for label, n_all in manifest.counts().items():
        hit = [u for u in rows if u.emotion == label]
        speakers = {u.speaker for u in hit}
        if not hit and n_all:
            text = f"no '{label}' in {split}: take another fold or protocol, or drop the label"
            yield finding("error" if split == "train" else "warning", "class-missing", text)
        elif 0 < len(hit) < THIN_CLIPS:
            thin[label] = hit
        elif hit and len(speakers) == 1 and None not in speakers:
            text = f"every '{label}' in {split} is spoken by {speakers.pop()}: the voice alone predicts this label"
            yield finding("warning", "class-of-one-speaker", text, hit)
    if thin:
        said = ", ".join(f"{label} {len(hit)}" for label, hit in thin.items())
        least = min(thin, key=lambda label: len(thin[label]))
        text = (
            f"classes of few clips in {split} (under {THIN_CLIPS}): {said}; one clip of {least} is "
            f"{100 / len(thin[least]):.0f} points of its recall"
        )
        yield finding("warning", "thin-class", text, (u for hit in thin.values() for u in hit))


def _counts(manifest: Manifest) -> Iterable[Finding]:
    """What the reader of each corpus wrote down."""
    parts = manifest.info.get("corpora") or {manifest.corpus: manifest.info}
    for name, info in parts.items():
        of = f"{name}: " if len(parts) > 1 else ""
        yield from _not_as_published(info.get("count_findings", ()), of)
        kept = (info.get("missing_audio") or {}).get("rows_kept")
        left = "have no recording and were left out" if not kept else "have no recording; they are in the manifest"
        said: tuple[tuple[str, Severity, str, str], ...] = (
            ("missing_audio", "warning", "rows-without-audio", f"listed rows {left}"),
            ("unrecognised_audio", "info", "files-not-used", "recordings under the root belong to no row"),
            ("duplicate_names", "info", "files-twice", "recordings are twice under the root; one copy is used"),
        )
        for key, severity, code, text in said:
            about = info.get(key)
            if isinstance(about, dict) and about.get("count"):
                some = ", ".join(map(str, about.get("examples", ())[:3]))
                yield finding(severity, code, f"{of}{about['count']} {text} (such as {some}): check the copy")


def _not_as_published(checks: Sequence[Mapping[str, Any]], of: str) -> Iterable[Finding]:
    """The counts of one corpus that are above the published ones in one line, those that are below in another.

    Args:
        of: the corpus, as a line begins with it where there are several.
    """
    sides: tuple[tuple[Severity, bool], ...] = (("warning", True), ("info", False))
    for severity, above in sides:
        hit = [c for c in checks if (c["here"] > c["published"]) is above]
        if hit:
            said = ", ".join(f"{c['what']}: {c['here']} here, {c['published']} published" for c in hit)
            sources = "; ".join(dict.fromkeys(str(c["source"]) for c in hit))
            text = f"{of}{said} ({sources}): a partial copy, a protocol that uses fewer, or another version; say which"
            yield finding(severity, "count-differs", text)


def _stretches(manifest: Manifest) -> Iterable[Finding]:
    """Rows that share a stretch of a recording, and recordings with rows in several splits."""
    across: list[tuple[Utterance, Utterance]] = []
    within: list[tuple[Utterance, Utterance]] = []
    for one, two in _overlapping(manifest):
        (across if one.split and two.split and one.split != two.split else within).append((one, two))
    yield from _divided_recordings(manifest, {u.id for pair in across for u in pair})
    if across:
        text = f"{len(across)} pairs of rows share a stretch of one recording with a row of another split: give them "
        yield finding("error", "same-audio-across-splits", text + "one split", (u for pair in across for u in pair))
    if within:
        text = f"{len(within)} pairs of rows share a stretch of one recording: remove the copies, or correct start_s, "
        yield finding("warning", "same-audio-twice", text + "end_s and channel", (u for pair in within for u in pair))


def _overlapping(manifest: Manifest) -> Iterable[tuple[Utterance, Utterance]]:
    """Pairs of rows of one file, and of one channel as far as that is known, whose times overlap."""
    by_file: dict[tuple[str | None, str], list[Utterance]] = defaultdict(list)
    for u in manifest:
        by_file[u.corpus, os.path.normpath(u.audio)].append(u)
    for rows in by_file.values():
        ordered = sorted(rows, key=lambda u: u.start_s or 0.0)
        for k, one in enumerate(ordered):
            stop = float("inf") if one.end_s is None else one.end_s
            for two in ordered[k + 1 :]:
                if (two.start_s or 0.0) >= stop:
                    break
                if one.channel == two.channel or None in (one.channel, two.channel):
                    yield one, two


def _divided_recordings(manifest: Manifest, told: Collection[str]) -> Iterable[Finding]:
    """Recordings with rows in several splits, but for those of which a row, by its id, was told of already."""
    by_recording: dict[tuple[str | None, str], list[Utterance]] = defaultdict(list)
    for u in manifest:
        by_recording[u.corpus, os.path.normpath(u.recording)].append(u)
    divided = [rows for rows in by_recording.values() if len({u.split for u in rows} - {None}) > 1]
    apart = [rows for rows in divided if not any(u.id in told for u in rows)]
    hit = [u for rows in apart for u in rows]
    if hit:
        unknown = any(u.speaker is None for u in hit)
        sides = any(u.channel is not None for u in hit)
        what = "stretches or channels" if sides else "stretches"
        shared = "a conversation, or a room and a microphone" if sides else "a room and a microphone"
        text = (
            f"{len(apart)} recordings have {what} in several splits, which share {shared}"
            f"{', and maybe a voice' * unknown}: give a recording one split"
        )
        yield finding("warning" if unknown else "info", "recording-across-splits", text, hit)


def _ratings(manifest: Manifest) -> Iterable[Finding]:
    """Ratings of arousal, valence and dominance off the corpus's scale; where none is known, far off all others."""
    infos = manifest.info.get("corpora") or {manifest.corpus: manifest.info}
    hit: dict[str, list[Utterance]] = defaultdict(list)
    for corpus, info in infos.items():
        rows = [u for u in manifest if u.is_rated and (len(infos) == 1 or u.corpus == corpus)]
        for k, name in enumerate(ATTRIBUTES):
            known = [(u, u.attributes[k]) for u in rows if u.attributes[k] is not None]
            values = np.array([value for _, value in known], dtype=np.float64)
            if not len(values):
                continue
            low, high = info.get("rating_scale") or _usual(values)
            hit[name] += [u for (u, _), off in zip(known, (values < low) | (values > high), strict=True) if off]
    for name, rows in hit.items():
        if rows:
            first = getattr(rows[0], name)
            text = f"{name}: {len(rows)} rows are rated off the scale of the others (such as {first:g}): correct them"
            yield finding("warning", "rating-off-scale", text, rows)


def _usual(values: np.ndarray) -> tuple[float, float]:
    """Where (rows,) ratings may lie by the others'; anywhere, where half of them are one number."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    width = FAR_RATING * float(high - low)
    return (middle - width, middle + width) if width else (-np.inf, np.inf)


def _words(manifest: Manifest) -> Iterable[Finding]:
    """Do the words alone give the label? (In ASED 25 of 27 sentences are spoken with one emotion only.)"""
    emotions: dict[str, Counter[str]] = defaultdict(Counter)
    rows = [(u.split, u.text.strip().lower(), u.emotion) for u in manifest if u.text and u.emotion]
    for split, text, emotion in rows:
        if split == "train":
            emotions[text][emotion] += 1
    n_test = sum(split == "test" for split, _, _ in rows)
    seen = [(text, emotion) for split, text, emotion in rows if split == "test" and text in emotions]
    if len(seen) < max(10, n_test / 5):
        return
    right = sum(emotions[text].most_common(1)[0][0] == emotion for text, emotion in seen)
    most = max(Counter(emotion for _, emotion in seen).values())
    if right > max(0.5 * len(seen), 1.5 * most):
        yield finding(
            "warning",
            "text-gives-label",
            f"{len(seen)} of {n_test} test sentences are also in train, and the words alone predict the emotion of "
            f"{right}: leave text out, or report it separately",
        )
