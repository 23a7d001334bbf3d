"""Turns and words from files, and the emotion that holds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serkit.errors import SerkitError
from serkit.serving.timeline import (
    Hysteresis,
    Turn,
    joined,
    read_rttm,
    read_transcript,
    speaker_at,
    text_at,
    turns_of,
)


def test_an_emotion_holds_until_another_leads_clearly_or_twice() -> None:
    held = Hysteresis(margin=0.2)
    rows = [(0.6, 0.4), (0.45, 0.55), (0.6, 0.4), (0.45, 0.55), (0.45, 0.55), (0.55, 0.45), (0.9, 0.1)]
    assert [held.step(np.array(row)) for row in rows] == [0, 0, 0, 0, 1, 1, 0]


def test_rivals_that_change_do_not_take_over() -> None:
    held = Hysteresis(margin=0.2)
    rows = [(0.5, 0.3, 0.2), (0.32, 0.36, 0.32), (0.32, 0.32, 0.36), (0.32, 0.36, 0.32)]
    assert [held.step(np.array(row)) for row in rows] == [0, 0, 0, 0]


def test_rttm(tmp_path: Path) -> None:
    path = tmp_path / "x.rttm"
    path.write_text(
        ";; comment\nSPEAKER call 1 3.0 1.5 <NA> <NA> B <NA> <NA>\nSPEAKER call 1 0.5 2 <NA> <NA> A <NA> <NA>\n"
        "SPEAKER call 1 9 0 <NA> <NA> A <NA> <NA>\nSPKR-INFO call 1 <NA> <NA> <NA> unknown A <NA> <NA>\n"
    )
    turns = read_rttm(path)
    assert turns == {"call": [Turn(0.5, 2.5, "A"), Turn(3.0, 4.5, "B")]}
    assert turns_of(turns, "/elsewhere/other.wav") == turns["call"]
    several = {"call": [], "talk": [Turn(0, 1, "A")]}
    assert turns_of(several, "a/talk.flac") == several["talk"]
    with pytest.raises(SerkitError, match="no turns of 'other'; it names call, talk"):
        turns_of(several, "other.wav")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("SPEAKER call 1 x 1 <NA> <NA> A <NA>", "line 1: not an RTTM line"),
        ("SPEAKER call 1 0 1", "line 1: not an RTTM line"),
        ("SPEAKER call 1 -2 1 <NA> <NA> A <NA>", "not a stretch of time"),
        ("SPEAKER call 1 nan 1 <NA> <NA> A <NA>", "not a stretch of time"),
        ("", "holds no SPEAKER line"),
    ],
)
def test_bad_rttm(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "x.rttm").write_text(content)
    with pytest.raises(SerkitError, match=reason):
        read_rttm(tmp_path / "x.rttm")
    with pytest.raises(SerkitError, match="no such file"):
        read_rttm(tmp_path / "none.rttm")


def test_subtitles(tmp_path: Path) -> None:
    srt = tmp_path / "a.srt"
    srt.write_text(
        "1\r\n00:00:01,500 --> 00:00:02,750\r\nHello <i>you</i>\r\nthere\r\n\r\n2\r\n01:00:00,000 --> 01:00:01,5\r\nBye"
    )
    assert read_transcript(srt) == [Turn(1.5, 2.75, None, "Hello you there"), Turn(3600.0, 3601.5, None, "Bye")]
    vtt = tmp_path / "a.vtt"
    vtt.write_text("WEBVTT\n\n00:05.000 --> 00:06.000 align:start\n<v Ann Lee>Right.</v>\n\nNOTE x\n")
    assert read_transcript(vtt) == [Turn(5.0, 6.0, "Ann Lee", "Right.")]


def test_every_voice_of_a_cue_has_its_own_words(tmp_path: Path) -> None:
    """Those of the second went to the first, and where a cue does not begin with a name all went to nobody."""
    vtt = tmp_path / "a.vtt"
    vtt.write_text(
        "WEBVTT\n\n00:01.000 --> 00:02.000\n- <v.loud Ann>Come <b>here</b>!</v>\n<v Bob>No.\n\n"
        "00:03.000 --> 00:04.000\nHm. <v Ann>Now!\n"
    )
    assert read_transcript(vtt) == [
        Turn(1.0, 2.0, "Ann", "Come here!"), Turn(1.0, 2.0, "Bob", "No."),
        Turn(3.0, 4.0, None, "Hm."), Turn(3.0, 4.0, "Ann", "Now!"),
    ]  # fmt: skip


def test_characters_that_webvtt_escapes(tmp_path: Path) -> None:
    """They stayed as they are written, in files of serkit's own too. SubRip has no such thing."""
    cue = "AT&amp;T &lt;rings&gt; &amp;lt; &#233;&nbsp;&unknown; R&D"
    for name, text in (("a.vtt", "AT&T <rings> &lt; é\xa0&unknown; R&D"), ("a.srt", cue)):
        path = tmp_path / name
        path.write_text(f"00:00.000 --> 00:02.000\n<v R&amp;D>{cue}\n")
        assert read_transcript(path) == [Turn(0.0, 2.0, "R&D" if name == "a.vtt" else "R&amp;D", text)]


def test_json_rows_of_several_kinds(tmp_path: Path) -> None:
    rows = [{"start_s": 2, "end_s": 3, "text": " b "}, {"start": 0, "end": 1, "text": "a", "speaker": "A"}]
    wanted = [Turn(0.0, 1.0, "A", "a"), Turn(2.0, 3.0, None, "b")]
    path = tmp_path / "a.json"
    for content in (rows, {"segments": rows, "language": "en"}):
        path.write_text(json.dumps(content))
        assert read_transcript(path) == wanted
    for name in ("a.jsonl", "A.JSONL"):
        lines = tmp_path / name
        lines.write_text("\n".join(json.dumps(r) for r in rows) + "\n")
        assert read_transcript(lines) == wanted


@pytest.mark.parametrize("missing", [{"word": "7"}, {"word": "7", "start": None, "end": None}])
def test_a_word_without_its_times_costs_the_sentence_nothing_else(tmp_path: Path, missing: dict[str, Any]) -> None:
    path = tmp_path / "a.json"
    row = {"start": 0, "end": 1, "text": "at 7", "words": [{"word": "at", "start": 0, "end": 0.5}, missing]}
    path.write_text(json.dumps([row]))
    assert read_transcript(path) == [Turn(0.0, 1.0, None, "at 7")]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.srt", "just words", "no sentence with times"),
        ("a.srt", "1\nnow --> then\nx", "not a time line"),
        ("a.json", "{}", "not sentences"),
        ("a.json", "[1]", "not sentences"),
        ("a.json", '[{"start": 3, "end": 1, "text": "x"}]', "not a stretch of time"),
        ("a.json", "[", "not sentences"),
        ("a.json", '[{"start": null, "end": 1, "text": "x"}]', "not sentences .*: a row has no time 'start'$"),
    ],
)
def test_bad_transcripts(tmp_path: Path, name: str, content: str, reason: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SerkitError, match=reason):
        read_transcript(tmp_path / name)


def test_a_transcript_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_bytes("1\n00:00:01,000 --> 00:00:02,000\nGrüße\n".encode("cp1252"))
    with pytest.raises(SerkitError, match=r"a\.srt is not text in UTF-8: save it as that$"):
        read_transcript(path)


def test_who_speaks_longest_and_what_is_said() -> None:
    turns = [Turn(0, 2, "A", "one"), Turn(2, 5, "B", "two"), Turn(4, 4.2, "A", "three")]
    assert speaker_at(turns, 1, 4) == "B"
    assert speaker_at(turns, 0, 3) == "A"
    assert speaker_at(turns, 7, 9) is None
    assert text_at(turns, 3, 6) == "two three"
    assert text_at(turns, 6, 9) is None


def test_words_are_spaced_as_their_sentence_is() -> None:
    """Chinese has no spaces; a sentence with a word that it does not hold gets one."""
    words = (Turn(0, 1, None, "今天"), Turn(1, 2, None, "天"), Turn(2, 3, None, "气"))
    sentence = Turn(0, 3, None, "今天天气", words)
    assert text_at([sentence], 0, 3) == "今天天气"
    assert text_at([sentence], 1, 3) == "天气"
    assert text_at([sentence], 5, 6) is None
    other = dataclasses.replace(sentence, text="oh, well", words=(Turn(0, 1, None, "oh,"), Turn(1, 2, None, "done")))
    assert text_at([other], 0, 1) == "oh,"
    assert text_at([sentence, other], 0, 1.6) == "今天天 oh, well"
    alone = dataclasses.replace(other, words=(Turn(0, 1, None, "a"), Turn(1, 2, None, "b"), Turn(2, 3, None, "c")))
    assert text_at([alone], 1, 3) == "b c"


def test_a_word_whose_middle_is_where_two_parts_meet_is_in_the_second() -> None:
    said = [Turn(0, 4, None, "one two", (Turn(0, 1, None, "one"), Turn(1.5, 2.5, None, "two")))]
    assert [text_at(said, 0, 2), text_at(said, 2, 4)] == ["one", "two"]


def test_a_sentence_within_another_of_the_same_speaker_does_not_end_the_turn() -> None:
    sentences = [Turn(0.0, 5.0, "Ann", "a long one"), Turn(1.0, 2.0, "Ann", "yes"), Turn(5.5, 6.0, "Ann", "well")]
    assert joined(sentences) == [Turn(0.0, 6.0, "Ann")]
    assert joined(sentences[:2]) == [Turn(0.0, 5.0, "Ann")]
