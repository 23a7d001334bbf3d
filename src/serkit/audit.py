"""What is wrong with a corpus before anything is trained on it: leakage, counts, broken audio, small classes.

:func:`audit` takes a manifest and returns findings, worst first. Each says what was found, where, and
what to do about it. Nothing is changed and nothing is skipped silently. Near duplicates are found by
the fingerprint of :mod:`serkit.duplicates`, which says how robust it is.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, compress, pairwise
from typing import Any

import numpy as np

from serkit.audio import SILENCE_DB
from serkit.duplicates import Fingerprint, fingerprint_audio, near_pairs
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.findings import Finding, Severity, finding
from serkit.processes import cores
from serkit.progress import Meter, ProgressCallback
from serkit.remarks import Remarks
from serkit.row_checks import check_rows
from serkit.types import Manifest, Utterance

SHORT_S = 0.3
LONG_S = 60.0
CLIPPED_SHARE = 0.001
CANCELLED = "channels that cancel each other when averaged: invert one, or keep only one (column channel of a table)"
_ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class _Clip:
    """What decoding one row told: header, silence, hash of the samples, fingerprint; or why it failed."""

    id: str
    problem: str | None = None
    rate_hz: int = 0
    duration_s: float = 0.0
    silent: bool = False
    clipped: float = 0.0
    broken: str = ""
    cancelled: bool = False
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
    found = [*check_rows(manifest)]
    missing = _missing(manifest)
    if missing:
        some = ", ".join(manifest.audio_path(u).name for u in missing[:3])
        text = f"{len(missing)} recordings are missing or empty (such as {some}): complete the copy, or exclude them"
        found.append(finding("error", "missing-files", text, missing))
    if decode:
        absent = {u.id for u in missing}
        rows = [u for u in manifest if u.id not in absent]
        if max_files is not None and len(rows) > max_files:
            text = f"{max_files} of {len(rows)} recordings were decoded: the others may be broken or copies"
            found.append(finding("info", "partly-decoded", text))
            picked = np.linspace(0, len(rows) - 1, max(max_files, 0)).round().astype(int)
            rows = [rows[k] for k in sorted(set(picked.tolist()))]
        clips = _decode_all(manifest, rows, progress, jobs)
        found += [*_signals(clips), *_duplicates(manifest, clips)]
    return sorted(found, key=lambda f: _ORDER[f.severity])


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


def _decode_all(
    manifest: Manifest, rows: Sequence[Utterance], progress: ProgressCallback | None, jobs: int | None
) -> list[_Clip]:
    clips: list[_Clip] = []
    meter = Meter("listen", len(rows), progress)
    with ThreadPoolExecutor(max_workers=jobs or cores()) as pool:
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

    path, remarks = manifest.audio_path(row), Remarks()
    try:
        rate_hz = audio.info(path).rate_hz
        samples = audio.load(path, start_s=row.start_s, end_s=row.end_s, channel=row.channel, remarks=remarks)
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
        broken=remarks.ending,
        cancelled=remarks.cancelled,
        digest=hashlib.blake2b(np.round(samples * 32768).astype(np.int32).tobytes(), digest_size=16).hexdigest(),
        fingerprint=fingerprint_audio(samples),
    )


def _signals(clips: Sequence[_Clip]) -> Iterable[Finding]:
    for code, word in (("not-finite", "hold NaN or infinite samples"), ("unreadable", "cannot be read")):
        broken = [c for c in clips if c.problem and ("NaN" in c.problem) == (code == "not-finite")]
        if broken:
            text = f"{len(broken)} recordings {word}: replace them, or exclude them by name; {broken[0].problem}"
            yield finding("error", code, text, broken)
    good = [c for c in clips if not c.problem]
    checks: tuple[tuple[str, str, Callable[[_Clip], bool]], ...] = (
        ("silent", f"never rise above {SILENCE_DB:.0f} dB: exclude them by name", lambda c: c.silent),
        ("too-short", f"are under {SHORT_S} s: check their times, or exclude them", lambda c: c.duration_s < SHORT_S),
        ("too-long", f"are over {LONG_S:.0f} s: cut them with start_s and end_s", lambda c: c.duration_s > LONG_S),
        ("channels-cancel", f"have {CANCELLED}", lambda c: c.cancelled),
        ("clipped", "are clipped at full scale: their loudness is not real", lambda c: c.clipped > CLIPPED_SHARE),
    )
    for code, text, holds in checks:
        hit = [c for c in good if holds(c)]
        if hit:
            yield finding("warning", code, f"{len(hit)} recordings {text}", hit)
    cut = [c for c in good if c.broken]
    if cut:
        text = f"{len(cut)} recordings are truncated: complete them, or exclude them; {cut[0].broken}"
        yield finding("warning", "broken-off", text, cut)
    rates = Counter(c.rate_hz for c in good).most_common()
    if len(rates) > 1:
        said = ", ".join(f"{n} at {rate} Hz" for rate, n in rates)
        text = f"sample rates differ ({said}): all become {SAMPLE_RATE_HZ} Hz, but bandwidth may still tell them apart"
        yield finding("warning", "mixed-rates", text, (c for c in good if c.rate_hz != rates[0][0]))
    narrow = [c for c in good if c.rate_hz < SAMPLE_RATE_HZ]
    if narrow:
        text = f"{len(narrow)} recordings are below {SAMPLE_RATE_HZ} Hz: they contain nothing above half their rate"
        yield finding("info", "narrow-band", text, narrow)
    if good:
        s = np.array([c.duration_s for c in good])
        text = f"{len(good)} recordings decoded, {s.sum() / 3600:.2f} h, median {np.median(s):.2f} s"
        yield finding("info", "durations", f"{text}, {s.min():.2f} to {s.max():.2f} s")


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
    yield from _copies("duplicate", "the same", [(rows[a], rows[b]) for a, b in exact], ("error", "warning"))
    yield from _copies("near-duplicate", "nearly the same", [(rows[a], rows[b]) for a, b in near], ("warning", "info"))


def _copies(
    code: str, what: str, pairs: Sequence[tuple[Utterance, Utterance]], grave: tuple[Severity, Severity]
) -> Iterable[Finding]:
    """Findings about pairs of rows with one sound; ``grave``: how bad it is across splits, and within one."""
    apart = [a.split is not None and b.split is not None and a.split != b.split for a, b in pairs]
    kinds: tuple[tuple[str, Severity, str, Iterable[bool]], ...] = (
        ("-across-splits", grave[0], "give them one split, or remove one", apart),
        ("", grave[1], "remove the copies", (not x for x in apart)),
        ("-other-label", "warning", "one of the labels is wrong", (a.emotion != b.emotion for a, b in pairs)),
    )
    for kind, severity, advice, concerned in kinds:
        if group := list(compress(pairs, concerned)):
            n = "1 pair of rows holds" if len(group) == 1 else f"{len(group)} pairs of rows hold"
            text = f"{n} {what} sound ({group[0][0].id} and {group[0][1].id}): {advice}"
            yield finding(severity, code + kind, text, chain.from_iterable(group))
