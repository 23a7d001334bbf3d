"""Every format holds the answer, and reads back."""

from __future__ import annotations

import csv
import io
import itertools
import json
import random
import re
from dataclasses import replace

import pytest

from serkit.commands.answers import Format
from serkit.errors import SerkitError
from serkit.serving.formats import FORMATS, clock, document, header, rows
from serkit.serving.results import Prediction, Segment, Speaker

SHARES = {"anger": 0.7, "joy": 0.2, "neutral": 0.1}
PARTS = (
    Segment(0.5, 2.0, "anger", 0.7, SHARES, "", "anger", "Ann B", 'she said "no", then\nleft', 1.2),
    Segment(1.8, 3.0, "joy", 0.5, {"anger": 0.4, "joy": 0.5, "neutral": 0.1}, "unsure", "anger", None, None, 1.0),
)


def prediction(path: str | None = "a, b/ü.wav", parts: tuple[Segment, ...] = PARTS) -> Prediction:
    return Prediction("anger", 0.7, SHARES, "", False, parts, "segment", 75.25, 2.2, "m@1", path, ("a note",))


def test_the_command_line_names_every_format() -> None:
    assert [kind.value for kind in Format] == list(FORMATS)


def test_csv_of_files() -> None:
    text = document("csv", [prediction(), prediction("c.wav")], timeline=False)
    found = list(csv.DictReader(io.StringIO(text)))
    assert text.splitlines()[0] == "path,label,confidence,abstain,anger,joy,neutral"
    assert [r["path"] for r in found] == ["a, b/ü.wav", "c.wav"]
    assert found[0]["label"] == "anger"
    assert float(found[0]["joy"]) == 0.2
    assert found[0]["abstain"] == ""


def test_a_rating_of_nearly_zero_has_no_sign_in_a_table() -> None:
    ratings = {"arousal": -0.001, "valence": -0.02}
    rated = replace(prediction(parts=(replace(PARTS[0], attributes=ratings),)), attributes=ratings)
    text = document("table", [rated], timeline=True)
    assert "; arousal 0.00, valence -0.02" in text
    assert "-0.00" not in text
    assert re.search(r"\b0\.00 +-0\.02 ", text), text


def test_seconds_are_rounded_in_one_way() -> None:
    """Times of the detector end in 0.01 s: halves are common, and 5.85 in binary is below it."""
    part = replace(PARTS[0], start_s=0.15, end_s=6.0, speech_s=5.85)
    who = Speaker("A", "anger", 0.7, SHARES, "", 5.85, {"anger": 5.85})
    found = replace(prediction(parts=(part,)), duration_s=8.05, speech_s=5.85, speakers=(who,))
    lines = document("table", [found], timeline=True).splitlines()
    assert lines[1] == "  8.1 s, 5.9 s of speech, by segment"
    assert lines[3].split()[:2] == ["0:00.2", "0:06.0"]
    assert lines[4].endswith(": anger 5.9 s")
    assert lines[5] == "  A: anger 0.70, 5.9 s of speech; held: anger 5.9 s"


def test_csv_of_a_timeline() -> None:
    found = list(csv.DictReader(io.StringIO(document("csv", [prediction()], timeline=True))))
    assert [r["label"] for r in found] == ["anger", "joy"]
    assert found[0]["text"] == 'she said "no", then\nleft'
    assert found[1]["speaker"] == ""
    assert found[1]["abstain"] == "unsure"
    assert found[1]["state"] == "anger"


def test_json_and_lines() -> None:
    one = json.loads(document("json", [prediction()], timeline=True))
    assert one["label"] == "anger"
    assert one["granularity"] == "segment"
    assert one["segments"][0]["speaker"] == "Ann B"
    assert one["summary"] == {"anger": 2.7}
    many = json.loads(document("json", [prediction(), prediction()], timeline=True))
    assert len(many) == 2
    lines = document("jsonl", [prediction(), prediction("c.wav")], timeline=True).splitlines()
    assert [json.loads(x)["path"] for x in lines] == ["a, b/ü.wav", "c.wav"]


def test_no_second_counts_twice_where_windows_overlap() -> None:
    parts = tuple(
        Segment(1.5 * k, 1.5 * k + 3.0, "joy", 0.5, SHARES, state="anger" if k < 2 else "joy") for k in range(4)
    )
    found = Prediction("joy", 0.5, SHARES, "", False, parts, "window", 7.5, 7.0, "m@1").summary
    assert sum(found.values()) == pytest.approx(7.5)
    assert found["anger"] == pytest.approx(3.75)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0, "0:00.0"), (0.85, "0:00.9"), (0.8496, "0:00.9"), (0.8494, "0:00.8"), (75.24, "1:15.2"), (59.97, "1:00.0"),
     (3599.96, "1:00:00.0"), (3725.05, "1:02:05.1")],
)  # fmt: skip
def test_the_clock_is_the_page_s(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_rttm_reads_back(tmp_path: object) -> None:
    lines = document("rttm", [prediction("x/my call.wav")], timeline=True).splitlines()
    assert lines[0] == "SPEAKER my_call 1 0.500 1.500 <NA> <NA> Ann_B/anger 0.7000 <NA>"
    assert lines[1].split()[7] == "joy"
    assert all(len(line.split()) == 10 for line in lines)
    part = Segment(0, 1, "very sad", 0.6, {"very sad": 0.6, "joy": 0.4})
    lines = document("rttm", [prediction("x.wav", parts=(part,))], timeline=True).splitlines()
    assert [line.split()[7] for line in lines] == ["very_sad"]


def test_textgrid_has_no_gap_and_no_overlap() -> None:
    text = document("textgrid", [prediction()], timeline=True)
    assert 'text = "she said ""no"", then left"' in text
    for tier in text.split("item [")[2:]:
        spans = [(float(a), float(b)) for a, b in re.findall(r"xmin = ([\d.]+)\n\s+xmax = ([\d.]+)\n\s+text", tier)]
        assert spans[0][0] == 0
        assert spans[-1][1] == 75.25
        assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))
    assert "emotion Ann B" in text
    empty = document("textgrid", [prediction(parts=())], timeline=True)
    assert "size = 1" in empty
    with pytest.raises(SerkitError, match="one by one"):
        document("textgrid", [prediction(), prediction()], timeline=True)


TIME = r"(\d\d):([0-5]\d):([0-5]\d)[.,](\d{3})"
SRT = re.compile(rf"(\d+)\n{TIME.replace('[.,]', ',')} --> {TIME.replace('[.,]', ',')}\n((?:.+\n)+)(?:\n|$)")
VTT = re.compile(rf"{TIME.replace('[.,]', '[.]')} --> {TIME.replace('[.,]', '[.]')}\n((?:.+\n)+)(?:\n|$)")


def read_cues(kind: str, text: str) -> list[tuple[float, float, list[str]]]:
    """Cues of subtitles, by the grammar of the format; every character has to belong to one of them."""
    if kind == "vtt":  # https://www.w3.org/TR/webvtt1/#syntax
        assert text.startswith("WEBVTT\n")
        text = text.removeprefix("WEBVTT\n").removeprefix("\n")
    found, at = [], 0
    while at < len(text):
        match = (SRT if kind == "srt" else VTT).match(text, at)
        assert match is not None, text[at:]
        groups = list(match.groups())
        if kind == "srt":
            assert int(groups.pop(0)) == len(found) + 1
        start, end = (
            3600 * int(h) + 60 * int(m) + int(s) + int(ms) / 1000 for h, m, s, ms in (groups[:4], groups[4:8])
        )
        assert start < end
        lines = groups[8].splitlines()
        assert not any("-->" in line for line in lines)
        if kind == "vtt":  # nothing but three escapes, so no tag and no other entity
            assert not any(re.search(r"[<>]|&(?!amp;|lt;|gt;)", line) for line in lines)
            lines = [line.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for line in lines]
        found.append((start, end, lines))
        at = match.end()
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(found))
    return found


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitles_have_a_line_for_each_who_speaks(kind: str) -> None:
    found = read_cues(kind, document(kind, [prediction()], timeline=True))
    ann = 'Ann B: [anger 0.70] she said "no", then left'
    assert found == [
        (0.5, 1.8, [ann]), (1.8, 2.0, [ann, "[joy 0.50?]"]), (2.0, 3.0, ["[joy 0.50?]"]),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_words_of_subtitles_are_no_markup(kind: str) -> None:
    part = replace(PARTS[0], start_s=3725.0004, end_s=3726.9996, text="a <b> & c --> d\r\n\n&lt; ü 你")
    text = document(kind, [replace(prediction(parts=(part,)), duration_s=4000.0)], timeline=True)
    shown = "a <b> & c --> d &lt; ü 你" if kind == "vtt" else "a <b> & c -> d &lt; ü 你"
    assert read_cues(kind, text) == [(3725.0, 3727.0, [f"Ann B: [anger 0.70] {shown}"])]


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitles_of_nothing_and_of_parts_that_overlap(kind: str) -> None:
    assert document(kind, [prediction(parts=())], timeline=True) == ("" if kind == "srt" else "WEBVTT\n")
    windows = tuple(Segment(1.5 * k, 1.5 * k + 3.0, "joy", 0.5, SHARES) for k in range(4))
    found = read_cues(kind, document(kind, [replace(prediction(parts=windows), duration_s=7.0)], timeline=True))
    assert [(a, b) for a, b, _ in found] == [(0.0, 3.0), (3.0, 4.5), (4.5, 6.0), (6.0, 7.0)]
    assert all(lines == ["[joy 0.50]"] for _, _, lines in found)
    short = tuple(replace(PARTS[0], start_s=a, end_s=b) for a, b in ((0.0, 1.0), (0.9996, 1.0), (1.0, 1.0004)))
    assert len(read_cues(kind, document(kind, [prediction(parts=short)], timeline=True))) == 1
    silent = (replace(PARTS[0], abstain="no_speech", text=None),)
    assert read_cues(kind, document(kind, [prediction(parts=silent)], timeline=True))[0][2] == ["Ann B: [no speech]"]
    with pytest.raises(SerkitError, match=r"file holds one recording, got 2; predict them one by one"):
        document(kind, [prediction(), prediction()], timeline=True)


@pytest.mark.parametrize("seed", range(5))
def test_subtitles_hold_every_part_as_long_as_its_speaker_says_nothing_else(seed: int) -> None:
    """Compared, at every millisecond, with who speaks then."""
    rng = random.Random(seed)
    parts = []
    for _ in range(12):
        start = rng.randrange(0, 900) / 1000
        end = start + rng.randrange(1, 200) / 1000
        parts.append(Segment(start, end, "joy", 0.5, SHARES, "", "joy", rng.choice(["A", "B", None]), str(len(parts))))
    parts.sort(key=lambda s: s.start_s)
    found = read_cues("vtt", document("vtt", [replace(prediction(parts=tuple(parts)), duration_s=1.0)], timeline=True))
    for ms in range(1000):
        at = (ms + 0.5) / 1000
        wanted = set()
        for who in ("A", "B", None):
            reached, said = 0.0, None
            for s in (s for s in parts if s.speaker == who):
                if max(s.start_s, reached) <= at < s.end_s and said is None:
                    said = s.text
                reached = max(reached, s.end_s)
            if said is not None:
                wanted.add(said)
        shown = [lines for a, b, lines in found if a <= at < b]
        assert {line.split()[-1] for lines in shown for line in lines} == wanted


def test_the_table_says_what_matters() -> None:
    short = document("table", [prediction()], timeline=False)
    assert short == "a, b/ü.wav  anger 0.70  (joy 0.20, neutral 0.10)\n"
    long = document("table", [prediction()], timeline=True)
    assert "0:00.5" in long
    assert "Ann B" in long
    assert "0.50?" in long
    assert "  how long each was held, pauses within parts included: anger 2.7 s\n  ?: unsure\n" in long
    assert 'she said "no", then left\n' in long
    silent = Prediction("joy", 0.4, SHARES, "no_speech", True, (), "clip", 3.0, 0.0, "m")
    assert document("table", [silent], timeline=False).endswith("[no speech found]\n")
    nobody = Speaker("channel 1", "joy", 0.4, SHARES, "no_speech", 0.0, {})
    shown = document("table", [replace(silent, by="channel", speakers=(nobody,))], timeline=True)
    assert shown.endswith("  channel 1: no speech, 0.0 s of speech\n"), "what ? means where there is none"


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(SerkitError, match="did you mean 'json'"):
        document("jsn", [prediction()], timeline=False)
    with pytest.raises(SerkitError, match="format 'table'"):
        rows("table", prediction(), timeline=False)
    assert header("jsonl", ("a",), timeline=False) == ""
