"""Predictions as text: a human-readable table, CSV, JSON, RTTM, TextGrid, subtitles."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

from serkit.errors import SerkitError, check_known, did_you_mean
from serkit.serving import example, subtitles
from serkit.serving.results import Prediction, Segment, Speaker

FORMATS = ("table", "json", "jsonl", "csv", "rttm", "textgrid", "srt", "vtt")
RESUMED = ("jsonl", "csv")  # files of these go on where they were stopped
BY_ROW = (*RESUMED, "rttm")  # of rows that say which recording they are of
BY_SUFFIX = {f".{name}": name for name in FORMATS if name != "table"}
OF_PARTS = ("rttm", "textgrid", "srt", "vtt")  # of a timeline alone
OF_ONE = {"textgrid": "a TextGrid", "srt": "an SRT file", "vtt": "a WebVTT file"}  # of one recording alone
_TIMELINE_COLUMNS = ("path", "start_s", "end_s", "speaker", "text", "label", "confidence", "abstain", "state")


def of_file(out: Path) -> str:
    """The format that the name of a file asks for: a table where it ends in ``.txt`` or in nothing.

    Raises:
        SerkitError: another ending.
    """
    ending = out.suffix.lower()
    if ending in ("", ".txt"):
        return "table"
    if ending not in BY_SUFFIX:
        raise SerkitError(
            f"no format ends in '{ending}'" + did_you_mean(ending, [*BY_SUFFIX, ".txt"]) + "; or --format"
        )
    return BY_SUFFIX[ending]


def shown(path: str) -> str:
    """A path as text: ``example`` for the recording that comes with serkit, bytes that are not UTF-8 as ``\\xff``."""
    if path == str(example.path()):
        return example.NAME
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def header(
    kind: str, labels: Sequence[str], attributes: Sequence[str] = (), *, timeline: bool, sets: bool = False
) -> str:
    """What stands before the first prediction of a model with such labels and attributes, with or without sets."""
    if kind != "csv":
        return ""
    columns = _TIMELINE_COLUMNS if timeline else ("path", "label", "confidence", "abstain", *("set",) * sets)
    return csv_line([*columns, *labels, *attributes])


def rows(kind: str, prediction: Prediction, *, timeline: bool) -> str:
    """One prediction in a format that is written row by row.

    Raises:
        SerkitError: a format that is not.
    """
    path = prediction.path or "-"
    if kind == "jsonl":
        return json.dumps(prediction.to_row(), ensure_ascii=False) + "\n"
    if kind == "rttm":
        return _rttm(path, prediction)
    if kind != "csv":
        raise SerkitError(f"format '{kind}'" + did_you_mean(kind, BY_ROW))
    if not timeline:
        numbers = [f"{p:.6f}" for p in prediction.numbers]
        known = [path, prediction.label, f"{prediction.confidence:.6f}", prediction.abstain]
        return csv_line([*known, *([] if prediction.set is None else ["|".join(prediction.set)]), *numbers])
    lines = []
    for s in prediction.segments:
        numbers = [f"{p:.6f}" for p in s.numbers]
        known = [path, f"{s.start_s:.3f}", f"{s.end_s:.3f}", s.speaker or "", s.text or "", s.label]
        lines.append(csv_line([*known, f"{s.confidence:.6f}", s.abstain, s.state, *numbers]))
    return "".join(lines)


def document(kind: str, predictions: Sequence[Prediction], *, timeline: bool, listed: bool | None = None) -> str:
    """Predictions in any format, as one text.

    Args:
        listed: JSON is a list of them; where ``None``, unless there is just one.

    Raises:
        SerkitError: an unknown format, or several recordings in one that holds one.
    """
    check_known(kind, FORMATS, f"format '{kind}'")
    refuse_several(kind, len(predictions))
    if kind in BY_ROW:
        first = [(tuple(p.probabilities), tuple(p.attributes)) for p in predictions[:1]]
        sets = any(p.set is not None for p in predictions[:1])
        head = header(kind, *(first[0] if first else ((),)), timeline=timeline, sets=sets)
        return head + "".join(rows(kind, p, timeline=timeline) for p in predictions)
    if kind == "json":
        content = [p.to_row() for p in predictions]
        alone = len(content) == 1 and not listed
        return json.dumps(content[0] if alone else content, ensure_ascii=False, indent=1) + "\n"
    if kind in OF_ONE:
        return {"textgrid": _textgrid, "srt": subtitles.srt, "vtt": subtitles.vtt}[kind](predictions[0])
    if timeline:
        return "\n".join(_timeline_table(p) for p in predictions)
    return "".join(_line(p) + "\n" for p in predictions)


def refuse_several(kind: str, n: int) -> None:
    """Refuse all but one recording in a format that holds one.

    Raises:
        SerkitError: there are ``n``.
    """
    if kind in OF_ONE and n != 1:
        raise SerkitError(f"{OF_ONE[kind]} holds one recording, got {n}; predict them one by one")


def csv_line(cells: Sequence[str]) -> str:
    """Cells as one row of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _line(p: Prediction) -> str:
    """One line: label, how sure, the runners-up."""
    ranked = sorted(p.probabilities.items(), key=lambda item: -item[1])
    others = ", ".join(f"{label} {share:.2f}" for label, share in ranked[1:3])
    doubt = {"": "", "no_speech": "  [no speech found]", "unsure": "  [unsure]"}[p.abstain]
    return f"{p.path or '-'}  {p.label} {p.confidence:.2f}  ({others}){doubt}{_attributes(p)}{_set(p)}"


def _set(p: Prediction) -> str:
    """``; 90% set: anger, disgust``, or nothing."""
    return "" if p.set is None or p.coverage is None else f"; {100 * p.coverage:g}% set: {', '.join(p.set)}"


def _attributes(p: Prediction | Speaker) -> str:
    """``; arousal 4.21, valence 3.05``, or nothing: two digits, for a scale may be 0 to 1."""
    known = ", ".join(f"{name} {value:z.2f}" for name, value in p.attributes.items())
    return f"; {known}" if known else ""


def _timeline_table(p: Prediction) -> str:
    lines = [_line(p), f"  {_seconds(p.duration_s)}, {_seconds(p.speech_s)} of speech, by {p.by}"]
    if p.segments:
        lines += _part_lines(p)
        shares = ", ".join(f"{label} {_seconds(seconds)}" for label, seconds in p.summary.items())
        lines.append(f"  how long each was held, pauses within parts included: {shares}")
    lines += [_speaker_line(one) for one in p.speakers]
    if any(s.abstain for s in p.segments) or any(one.abstain == "unsure" for one in p.speakers):
        lines.append("  ?: unsure")
    return "".join(line.rstrip() + "\n" for line in lines)


def _part_lines(p: Prediction) -> list[str]:
    """The parts of an answer as a table with its head; a column of speakers only where one is known."""
    wide = max(5, *(max(len(s.label), len(s.state)) for s in p.segments))
    voice = max(7, *(len(s.speaker or "") for s in p.segments)) if any(s.speaker for s in p.segments) else 0
    names = "".join(f"  {name}" for name in p.attributes)
    who = f"{'speaker':{voice}}  " if voice else ""
    lines = [f"  {'from':>9}  {'to':>9}  {who}{'label':{wide}}  sure  {'holds':{wide}}{names}"]
    for s in p.segments:
        who = f"{s.speaker or '':{voice}}  " if voice else ""
        sure = f"{s.confidence:.2f}" + ("?" if s.abstain else " ")
        numbers = "".join(f"  {value:z{len(name)}.2f}" for name, value in s.attributes.items())
        words = numbers + (f"  {' '.join(s.text.split())}" if s.text else "")
        lines.append(
            f"  {clock(s.start_s):>9}  {clock(s.end_s):>9}  {who}{s.label:{wide}}  {sure} {s.state:{wide}}{words}"
        )
    return lines


def _speaker_line(one: Speaker) -> str:
    """What is said of a speaker over all parts."""
    sure = f"{one.label} {one.confidence:.2f}" + ("?" if one.abstain else "")
    if one.abstain == "no_speech":
        sure = "no speech"
    shares = ", ".join(f"{label} {_seconds(seconds)}" for label, seconds in one.summary.items())
    held = f"; held: {shares}" if shares else ""
    return f"  {one.speaker}: {sure}, {_seconds(one.speech_s)} of speech{_attributes(one)}{held}"


def clock(seconds: float) -> str:
    """75.24 as ``1:15.2``; hours where there are some. Rounds as the page does: of milliseconds, halves up.

    >>> clock(75.24), clock(0.85), clock(3599.96)
    ('1:15.2', '0:00.9', '1:00:00.0')
    """
    minutes, rest = divmod(_tenths(seconds), 600)
    hours, minutes = divmod(minutes, 60)
    seconds = rest / 10
    return f"{hours}:{minutes:02d}:{seconds:04.1f}" if hours else f"{minutes}:{seconds:04.1f}"


def _seconds(seconds: float) -> str:
    """5.85 as ``5.9 s``: rounded as :func:`clock` does."""
    return f"{_tenths(seconds) / 10:.1f} s"


def _tenths(seconds: float) -> int:
    return math.floor(round(seconds, 3) * 10 + 0.5)


def rttm_name(path: str) -> str:
    """What RTTM calls a recording: its file name, without the ending and without blanks."""
    return "_".join(Path(path).stem.split()) or "-"


def _rttm(path: str, p: Prediction) -> str:
    """SPEAKER lines whose speaker field is the speaker, with the emotion as ``speaker/emotion``, or the emotion."""
    name = rttm_name(path)
    parts = []
    for s in p.segments:
        who = "/".join("_".join(name.split()) for name in (s.speaker, s.label) if name)
        length = s.end_s - s.start_s
        channel = s.speaker.split()[-1] if p.by == "channel" and s.speaker else "1"
        parts.append(f"SPEAKER {name} {channel} {s.start_s:.3f} {length:.3f} <NA> <NA> {who} {s.confidence:.4f} <NA>\n")
    return "".join(parts)


def _textgrid(p: Prediction) -> str:
    """Praat's long text format: tiers of emotion, and of words where they are known, for each speaker."""
    tiers: list[tuple[str, list[tuple[float, float, str]]]] = []
    speakers = dict.fromkeys(s.speaker for s in p.segments)
    for speaker in sorted(speakers, key=str) if p.by == "channel" else speakers:
        own = [s for s in p.segments if s.speaker == speaker]
        title = "emotion" if speaker is None else f"emotion {speaker}"
        tiers.append((title, _filled(own, [s.label for s in own], p.duration_s)))
        if any(s.text for s in own):
            title = "words" if speaker is None else f"words {speaker}"
            tiers.append((title, _filled(own, [s.text or "" for s in own], p.duration_s)))
    if not tiers:
        tiers = [("emotion", [(0.0, p.duration_s, "")])]
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {p.duration_s:.6f}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for k, (title, intervals) in enumerate(tiers, 1):
        lines += [f"    item [{k}]:", '        class = "IntervalTier"', f'        name = "{_quoted(title)}"']
        lines += ["        xmin = 0", f"        xmax = {p.duration_s:.6f}"]
        lines.append(f"        intervals: size = {len(intervals)}")
        for i, (start, end, text) in enumerate(intervals, 1):
            lines += [f"        intervals [{i}]:", f"            xmin = {start:.6f}", f"            xmax = {end:.6f}"]
            lines.append(f'            text = "{_quoted(text)}"')
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace('"', '""').replace("\n", " ")


def _filled(segments: Sequence[Segment], texts: Sequence[str], duration_s: float) -> list[tuple[float, float, str]]:
    """Intervals without a gap or an overlap: where two parts overlap, the later one begins where the other ends."""
    found: list[tuple[float, float, str]] = []
    at = 0.0
    for s, text in zip(segments, texts, strict=True):
        start, end = max(s.start_s, at), min(s.end_s, duration_s)
        if end - start < 1e-6:
            continue
        if start - at > 1e-6:
            found.append((at, start, ""))
        found.append((start, end, text))
        at = end
    if duration_s - at > 1e-6:
        found.append((at, duration_s, ""))
    return found
