"""What is wrong with a corpus before anything is trained on it: leakage, counts, broken sound, thin classes.

:func:`audit` takes a manifest and returns findings, worst first. Each says what was found, where, and
what to do about it. Nothing is changed and nothing is skipped silently. Near duplicates are found by
the fingerprint of :mod:`serkit.duplicates`, which says how robust it is.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, Literal

import numpy as np

from serkit.audio import SILENCE_DB
from serkit.duplicates import Fingerprint, fingerprint_audio, near_pairs
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.progress import Meter, ProgressCallback
from serkit.recordings import near_label
from serkit.types import CANONICAL_LABELS, SPLITS, Manifest, Utterance

Severity = Literal["error", "warning", "info"]
SHORT_S = 0.3
LONG_S = 60.0
CLIPPED_SHARE = 0.001
THIN_CLIPS = 20
_ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing before a number is believed.

    Attributes:
        severity: ``error`` (a result would be wrong), ``warning`` (it needs a sentence), ``info``.
        code: short name that stays the same between versions, such as ``speakers-shared``.
        message: one line: what, where, what to do.
        ids: the utterances it is about, in manifest order; empty where it is about the whole.
    """

    severity: Severity
    code: str
    message: str
    ids: tuple[str, ...] = ()

    def to_row(self) -> dict[str, Any]:
        """As a JSON-able row."""
        return {"severity": self.severity, "code": self.code, "message": self.message, "ids": list(self.ids)}


@dataclass(frozen=True)
class _Clip:
    """What decoding one row told: header, silence, hash of the samples, fingerprint; or why it failed."""

    id: str
    problem: str | None = None
    rate_hz: int = 0
    duration_s: float = 0.0
    silent: bool = False
    clipped: float = 0.0
    digest: str = ""
    fingerprint: Fingerprint | None = None


def audit(
    manifest: Manifest,
    *,
    decode: bool = True,
    max_files: int | None = None,
    progress: ProgressCallback | None = None,
    jobs: int | None = None,
) -> list[Finding]:
    """Look for what would make a result on this manifest wrong or hard to believe.

    Args:
        manifest: any manifest; its audio is looked for under its root.
        decode: also read the sound: rates, lengths, silence, clipping, NaN, duplicates.
        max_files: decode at most so many rows, spread evenly over the manifest; a finding says so.
        progress: handed a :class:`serkit.progress.Progress` now and then while recordings are decoded.
        jobs: threads that decode; default: one a processor.

    Returns:
        Findings, errors first, otherwise in a fixed order: same manifest and files, same list.
    """
    found = [*_speakers(manifest), *_labels(manifest), *_counts(manifest), *_stretches(manifest), *_words(manifest)]
    missing = _missing(manifest)
    if missing:
        some = ", ".join(manifest.audio_path(u).name for u in missing[:3])
        text = f"{len(missing)} recordings are not there or empty (such as {some}): complete the copy, or exclude them"
        found.append(_of("error", "missing-files", text, missing))
    if decode:
        absent = {u.id for u in missing}
        rows = [u for u in manifest if u.id not in absent]
        if max_files is not None and len(rows) > max_files:
            text = f"{max_files} of {len(rows)} recordings were decoded: the others may be broken or copies"
            found.append(_of("info", "partly-decoded", text))
            picked = np.linspace(0, len(rows) - 1, max(max_files, 0)).round().astype(int)
            rows = [rows[k] for k in sorted(set(picked.tolist()))]
        clips = _decode_all(manifest, rows, progress, jobs)
        found += [*_signals(clips), *_duplicates(manifest, clips)]
    return sorted(found, key=lambda f: _ORDER[f.severity])


def to_rows(findings: Iterable[Finding], show: int = 5) -> list[dict[str, str]]:
    """Findings as plain rows for a table: ``severity, code, message, ids`` (at most ``show`` of them)."""
    rows = []
    for f in findings:
        more = f" and {len(f.ids) - show} more" if len(f.ids) > show else ""
        ids = ", ".join(f.ids[:show]) + more
        rows.append({"severity": f.severity, "code": f.code, "message": f.message, "ids": ids})
    return rows


def to_json(manifest: Manifest, findings: Sequence[Finding]) -> dict[str, Any]:
    """The whole audit as one JSON-able object, findings with all their ids.

    Keys: ``corpus, fingerprint, split_hash, protocol, n_utterances, n_speakers, splits`` (rows by split),
    ``errors, warnings, infos`` (how many) and ``findings`` (as :meth:`Finding.to_row`).
    """
    tally = Counter(f.severity for f in findings)
    return {
        "corpus": manifest.corpus,
        "fingerprint": manifest.fingerprint,
        "split_hash": manifest.split_hash,
        "protocol": manifest.info.get("protocol"),
        "n_utterances": len(manifest),
        "n_speakers": len({u.speaker for u in manifest if u.speaker is not None}),
        "splits": {name: sum(u.split == name for u in manifest) for name in SPLITS},
        "errors": tally["error"],
        "warnings": tally["warning"],
        "infos": tally["info"],
        "findings": [f.to_row() for f in findings],
    }


def _of(severity: Severity, code: str, message: str, rows: Iterable[Utterance | _Clip] = ()) -> Finding:
    return Finding(severity, code, message, tuple(dict.fromkeys(u.id for u in rows)))


# ---------------------------------------------------------------- what the table alone tells


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
            yield _of("warning", "speakers-shared", text, hit)
    unknown = [u for u in manifest if u.split is not None and u.speaker is None]
    if unknown:
        text = f"{len(unknown)} rows in splits have no speaker: leakage is unseen; in intervals each counts as one"
        yield _of("warning", "speaker-unknown", text, unknown)
    everyone = {u.speaker for u in manifest}
    if len(everyone) == 1 and None not in everyone:
        yield _of("warning", "one-speaker", f"only {everyone.pop()} speaks: nothing can be said about other voices")


def _labels(manifest: Manifest) -> Iterable[Finding]:
    for split in SPLITS:
        rows = [u for u in manifest if u.split == split]
        bare = [u for u in rows if u.emotion is None]
        if not rows:
            yield _of("warning", "empty-split", f"no row is in {split}: choose a protocol, or give a split column")
            continue
        if len(bare) == len(rows):
            text = f"no row of {split} has a label: it can be predicted, but not learned from or measured"
            yield _of("warning" if split == "dev" else "error", f"unlabelled-{split}", text, bare)
            continue
        if bare:
            text = (
                f"{len(bare)} of {len(rows)} {split} rows have no label (no agreement, or nobody annotated them): they "
                "are not scored; say how many were left out"
            )
            yield _of("warning" if split == "test" else "info", f"unlabelled-{split}", text, bare)
        yield from _thin(manifest, split, rows)
    total = manifest.counts()
    once = [label for label, n in total.items() if n == 1]
    if once:
        known = dict.fromkeys((*(label for label, n in total.items() if n > 1), *CANONICAL_LABELS))
        meant = {label: near_label(label, known) for label in once if label not in CANONICAL_LABELS}
        said = ", ".join(f"{label}, did you mean '{meant[label]}'?" if meant.get(label) else label for label in once)
        text = f"labels of one clip only ({said}): a typo? Otherwise drop_labels or map_labels"
        yield _of("error", "label-once", text, (u for u in manifest if u.emotion in once))
    empty = [label for label, n in total.items() if n == 0]
    if empty:
        text = f"labels without a clip ({', '.join(empty)}): drop_labels, or averages count a class nobody can hit"
        yield _of("warning", "label-without-clips", text)


def _thin(manifest: Manifest, split: str, rows: Sequence[Utterance]) -> Iterable[Finding]:
    for label, n_all in manifest.counts().items():
        hit = [u for u in rows if u.emotion == label]
        speakers = {u.speaker for u in hit}
        if not hit and n_all:
            text = f"no '{label}' in {split}: take another fold or protocol, or drop the label"
            yield _of("error" if split == "train" else "warning", "class-missing", text)
        elif 0 < len(hit) < THIN_CLIPS:
            text = f"'{label}' has {len(hit)} clips in {split} (under {THIN_CLIPS}): one of them is "
            yield _of("warning", "thin-class", text + f"{100 / len(hit):.0f} points of its recall", hit)
        elif hit and len(speakers) == 1 and None not in speakers:
            text = f"every '{label}' in {split} is spoken by {speakers.pop()}: the voice gives the label away"
            yield _of("warning", "class-of-one-speaker", text, hit)


def _counts(manifest: Manifest) -> Iterable[Finding]:
    """What the reader of each corpus wrote down."""
    parts = manifest.info.get("corpora") or {manifest.corpus: manifest.info}
    for name, info in parts.items():
        of = f"{name}: " if len(parts) > 1 else ""
        for check in info.get("count_findings", ()):
            text = (
                f"{of}{check['what']}: {check['here']} here, {check['published']} published ({check['source']}): a "
                "partial copy, a protocol that uses fewer, or another version; say which"
            )
            yield _of("warning" if check["here"] > check["published"] else "info", "count-differs", text)
        kept = (info.get("missing_audio") or {}).get("rows_kept")
        left = "have no recording and were left out" if not kept else "have no recording; they stand in the manifest"
        said: tuple[tuple[str, Severity, str, str], ...] = (
            ("missing_audio", "warning", "rows-without-audio", f"listed rows {left}"),
            ("unrecognised_audio", "info", "files-not-used", "recordings under the root belong to no row"),
            ("duplicate_names", "info", "files-twice", "recordings stand twice under the root; one copy is used"),
        )
        for key, severity, code, text in said:
            about = info.get(key)
            if isinstance(about, dict) and about.get("count"):
                some = ", ".join(map(str, about.get("examples", ())[:3]))
                yield _of(severity, code, f"{of}{about['count']} {text} (such as {some}): check the copy")


def _stretches(manifest: Manifest) -> Iterable[Finding]:
    by_file: dict[tuple[str | None, str], list[Utterance]] = defaultdict(list)
    for u in manifest:
        by_file[u.corpus, os.path.normpath(u.audio)].append(u)
    across: list[Utterance] = []
    within: list[Utterance] = []
    for rows in by_file.values():
        ordered = sorted(rows, key=lambda u: u.start_s or 0.0)
        for k, one in enumerate(ordered):
            stop = float("inf") if one.end_s is None else one.end_s
            for two in ordered[k + 1 :]:
                if (two.start_s or 0.0) >= stop:
                    break
                (across if one.split and two.split and one.split != two.split else within).extend((one, two))
    if across:
        text = "of rows share a stretch of one recording with a row of another split: give them one split"
        yield _of("error", "same-audio-across-splits", f"{len(across) // 2} pairs {text}", across)
    if within:
        text = "of rows share a stretch of one recording: remove the copies, or correct start_s and end_s"
        yield _of("warning", "same-audio-twice", f"{len(within) // 2} pairs {text}", within)


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
        yield _of(
            "warning",
            "text-gives-label",
            f"{len(seen)} of {n_test} test sentences are in train, too, and the words alone name the emotion of "
            f"{right}: leave text out, or report it apart",
        )


def _missing(manifest: Manifest) -> list[Utterance]:
    there: dict[Any, bool] = {}
    missing = []
    for u in manifest:
        path = manifest.audio_path(u)
        if path not in there:
            there[path] = path.is_file() and path.stat().st_size > 0
        if not there[path]:
            missing.append(u)
    return missing


# ---------------------------------------------------------------- what the sound tells


def _decode_all(
    manifest: Manifest, rows: Sequence[Utterance], progress: ProgressCallback | None, jobs: int | None
) -> list[_Clip]:
    clips: list[_Clip] = []
    meter = Meter("listen", len(rows), progress)
    with ThreadPoolExecutor(max_workers=jobs or os.cpu_count()) as pool:
        try:
            for clip in pool.map(lambda u: _decode(manifest, u), rows):
                clips.append(clip)
                meter.advance()
        except BaseException:  # Ctrl-C, or the caller's progress: do not decode the rest first
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return clips


def _decode(manifest: Manifest, row: Utterance) -> _Clip:
    from serkit import audio

    path = manifest.audio_path(row)
    try:
        rate_hz = audio.info(path).rate_hz
        samples = audio.load(path, start_s=row.start_s, end_s=row.end_s)
    except (SerkitError, OSError) as error:
        return _Clip(row.id, problem=str(error))
    peak = float(np.abs(samples).max(initial=0.0))
    flat = np.abs(samples) >= 0.999 * peak
    runs = flat[2:] & flat[1:-1] & flat[:-2]  # three in a row at the top: a recording that was cut off
    return _Clip(
        id=row.id,
        rate_hz=rate_hz,
        duration_s=len(samples) / SAMPLE_RATE_HZ,
        silent=audio.is_silent(samples),
        clipped=float(runs.mean()) if runs.size and peak > 0.5 else 0.0,
        digest=hashlib.blake2b(np.round(samples * 32768).astype(np.int32).tobytes(), digest_size=16).hexdigest(),
        fingerprint=fingerprint_audio(samples),
    )


def _signals(clips: Sequence[_Clip]) -> Iterable[Finding]:
    for code, word in (("not-finite", "hold NaN or infinite samples"), ("unreadable", "cannot be read")):
        broken = [c for c in clips if c.problem and ("NaN" in c.problem) == (code == "not-finite")]
        if broken:
            text = f"{len(broken)} recordings {word}: replace them, or exclude them by name; {broken[0].problem}"
            yield _of("error", code, text, broken)
    good = [c for c in clips if not c.problem]
    checks: tuple[tuple[str, str, Callable[[_Clip], bool]], ...] = (
        ("silent", f"never rise above {SILENCE_DB:.0f} dB: exclude them by name", lambda c: c.silent),
        ("too-short", f"are under {SHORT_S} s: check their times, or exclude them", lambda c: c.duration_s < SHORT_S),
        ("too-long", f"are over {LONG_S:.0f} s: cut them with start_s and end_s", lambda c: c.duration_s > LONG_S),
        ("clipped", "are cut off at full scale: their loudness is not real", lambda c: c.clipped > CLIPPED_SHARE),
    )
    for code, text, holds in checks:
        hit = [c for c in good if holds(c)]
        if hit:
            yield _of("warning", code, f"{len(hit)} recordings {text}", hit)
    rates = Counter(c.rate_hz for c in good).most_common()
    if len(rates) > 1:
        said = ", ".join(f"{n} at {rate} Hz" for rate, n in rates)
        text = f"sample rates differ ({said}): all become {SAMPLE_RATE_HZ} Hz, yet bandwidth may tell them apart"
        yield _of("warning", "mixed-rates", text, (c for c in good if c.rate_hz != rates[0][0]))
    narrow = [c for c in good if c.rate_hz < SAMPLE_RATE_HZ]
    if narrow:
        text = f"{len(narrow)} recordings are below {SAMPLE_RATE_HZ} Hz: nothing lies above half their rate"
        yield _of("info", "narrow-band", text, narrow)
    if good:
        s = np.array([c.duration_s for c in good])
        text = f"{len(good)} recordings decoded, {s.sum() / 3600:.2f} h, median {np.median(s):.2f} s"
        yield _of("info", "durations", f"{text}, {s.min():.2f} to {s.max():.2f} s")


def _duplicates(manifest: Manifest, clips: Sequence[_Clip]) -> Iterable[Finding]:
    rows = {u.id: u for u in manifest}
    heard = [c for c in clips if c.fingerprint is not None and not c.silent]
    same: dict[str, list[str]] = defaultdict(list)
    for c in heard:
        same[c.digest].append(c.id)
    exact = [pair for group in same.values() for pair in pairwise(group)]
    digest = {c.id: c.digest for c in heard}
    near = [(heard[i].id, heard[j].id) for i, j in near_pairs([c.fingerprint for c in heard if c.fingerprint])]
    near = [(one, two) for one, two in near if digest[one] != digest[two]]
    for code, what, pairs in (("duplicate", "the same", exact), ("near-duplicate", "nearly the same", near)):
        sure = code == "duplicate"
        kinds: dict[tuple[str, Severity, str], list[tuple[str, str]]] = {
            ("-across-splits", "error" if sure else "warning", "give them one split, or remove one"): [],
            ("", "warning" if sure else "info", "remove the copies"): [],
            ("-other-label", "warning", "one of the labels is wrong"): [],
        }
        leaks, copies, labels = kinds.values()
        for one, two in pairs:
            a, b = rows[one], rows[two]
            (leaks if a.split and b.split and a.split != b.split else copies).append((one, two))
            if a.emotion != b.emotion:
                labels.append((one, two))
        for (kind, severity, advice), group in kinds.items():
            if group:
                text = f"{len(group)} pairs of rows hold {what} sound ({group[0][0]} and {group[0][1]}): {advice}"
                yield _of(severity, code + kind, text, (rows[i] for pair in group for i in pair))
