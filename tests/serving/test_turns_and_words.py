"""Who and which words, from files and from listeners, through ``serkit predict``."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import runpy
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from serkit import transcripts
from serkit.errors import MissingExtra, SerkitError
from serkit.serving import example, predicting, turns_and_words
from serkit.serving.pool import Asked
from serkit.serving.timeline import Turn, joined, read_transcript, text_at
from serkit.serving.turns_and_words import Beside, Diariser, Words, speech_clips
from serkit.transcripts import Transcript

from .signals import GOLDEN, find_speech, quiet, talk, voice, wav


def row(*inputs: object, **options: Any) -> dict[str, Any]:
    asked = Asked(tuple(map(str, inputs)), model=str(GOLDEN), kind="json", timeline=True, **options)
    written: list[str] = []
    complaints: list[str] = []
    assert predicting.predict(asked, written.append, complaints.append) == 0, complaints
    found: dict[str, Any] = json.loads("".join(written))
    return found


def test_the_example_says_who_when_which_words() -> None:
    parts = row("example", transcript=Path("example"))["segments"]
    assert [(p["speaker"], p["text"]) for p in parts] == [
        ("Ada", "tell me about it"), ("Ben", "we did it at last"), ("Ben", "that is great news"),
        ("Ada", "you ruined it again"), ("Ben", "i miss her so much"),
    ]  # fmt: skip
    turns = row("example", transcript=Path("example"), by="turn")["segments"]
    assert [t["speaker"] for t in turns] == ["Ada", "Ben", "Ada", "Ben"]
    assert turns[1]["text"] == "we did it at last that is great news"
    sentences = row("example", transcript=Path("example"), by="sentence")["segments"]
    assert [s["text"] for s in sentences] == [p["text"] for p in parts]


def test_the_example_is_what_its_script_makes() -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "example_recording.py"))
    made, sentences = script["make"]()
    sound, rate = soundfile.read(example.path())
    assert rate == 16_000
    assert np.abs(sound - made).max() <= script["STEP"]
    assert json.loads(example.transcript_path().read_text(encoding="utf-8")) == sentences
    assert example.path().stat().st_size <= 60_000


def test_a_folder_of_transcripts(tmp_path: Path) -> None:
    for name, word in (("a", "one"), ("b", "two")):
        (tmp_path / f"{name}.wav").write_bytes(wav(talk(1)))
        (tmp_path / f"{name}.srt").write_text(f"1\n00:00:01,000 --> 00:00:01,500\n{word}\n")
    parts = row(tmp_path, transcript=tmp_path)
    assert [p["segments"][0]["text"] for p in parts] == ["one", "two"]
    (tmp_path / "b.srt").rename(tmp_path / "b.SRT")
    assert [p["segments"][0]["text"] for p in row(tmp_path, transcript=tmp_path)] == ["one", "two"]
    (tmp_path / "b.SRT").unlink()
    asked = Asked((str(tmp_path),), model=str(GOLDEN), transcript=tmp_path)
    complaints: list[str] = []
    assert predicting.predict(asked, lambda text: None, complaints.append) == 1
    assert "no transcript b(.srt" in complaints[0]


def test_two_recordings_do_not_share_a_transcript(tmp_path: Path) -> None:
    def srt(name: str, word: str) -> None:
        (tmp_path / name).write_text(f"1\n00:00:01,000 --> 00:00:01,500\n{word}\n")

    for name in ("a.wav", "a.flac", "b.wav"):
        (tmp_path / name).write_bytes(wav(talk(1)))
    srt("a.srt", "one")
    srt("b.srt", "two")
    with pytest.raises(SerkitError) as caught:
        row(tmp_path, transcript=tmp_path)
    said = str(caught.value)
    assert f"{tmp_path}/a.flac and {tmp_path}/a.wav would both have the words of {tmp_path}/a.srt" in said
    assert "a.flac.srt and a.wav.srt" in said
    assert "\n" not in said
    assert row(tmp_path / "a.wav", transcript=tmp_path)["segments"][0]["text"] == "one"
    srt("a.wav.srt", "three")
    parts = row(tmp_path, transcript=tmp_path)
    assert [p["segments"][0]["text"] for p in parts] == ["one", "three", "two"]


@pytest.mark.parametrize("listed", [True, False])
def test_recordings_of_one_name_in_two_folders_do_not_share_a_transcript(
    listed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listdir(path: Path) -> list[str]:
        raise PermissionError

    if not listed:  # a folder whose files may be read by name alone
        monkeypatch.setattr(os, "listdir", listdir)
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.wav").write_bytes(wav(talk(1)))
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:01,500\none\n")
    with pytest.raises(SerkitError, match=r"a\.srt: predict them in calls of their own$"):
        row(tmp_path, transcript=tmp_path)


def test_words_with_times_go_to_the_part_they_are_said_in(tmp_path: Path) -> None:
    words = [{"word": "left", "start": 0.1, "end": 0.4}, {"word": "right", "start": 2.1, "end": 2.4}]
    whisper = {"segments": [{"start": 0.0, "end": 3.0, "text": " left right", "words": words}]}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(whisper))
    (sentence,) = read_transcript(path)
    assert sentence.text == "left right"
    assert [text_at([sentence], a, b) for a, b in ((0, 1), (1, 2), (2, 3))] == ["left", None, "right"]
    whisper["segments"][0]["words"] = [words[0], {"word": "2"}]  # type: ignore[index]
    path.write_text(json.dumps(whisper))
    assert text_at(read_transcript(path), 1, 2) == "left right"


def test_turns_of_sentences() -> None:
    said = [Turn(0, 1, "A", "x"), Turn(1.5, 2, "A", "y"), Turn(2.1, 3, None, "z"), Turn(3, 4, "B"), Turn(6, 7, "B")]
    assert joined(said) == [Turn(0, 2, "A"), Turn(3, 4, "B"), Turn(6, 7, "B")]
    assert joined([Turn(0, 1, None, "x")]) == []


def test_stretches_for_a_recogniser_are_those_of_the_recording(tmp_path: Path) -> None:
    sound = np.concatenate([talk(2), quiet(12), voice(40), quiet(1)])
    path = tmp_path / "long.wav"
    path.write_bytes(wav(sound, subtype="FLOAT"))
    clips = list(speech_clips(path))
    settings = turns_and_words.SegmentSettings(max_s=28.0, min_silence_s=0.6)
    stretches = list(find_speech([sound], settings))
    assert [round(start * 16_000) for _, start, _ in clips] == [s.start for s in stretches]
    for (_, _, clip), stretch in zip(clips, stretches, strict=True):
        assert np.array_equal(clip, sound[stretch.start : stretch.end])
    assert max(len(clip) for *_, clip in clips) <= 29 * 16_000
    assert len(clips) >= 4


def test_words_that_are_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def fake(name: str, *, language: str | None = None, **options: Any) -> Any:
        asked.append((name, language))
        words = ((0.2, 0.5, "oh"), (0.5, 99.0, "well"))
        return lambda clips: [Transcript("oh well", "en", ((0.2, 99.0, "oh well"),), words=(words,)) for _ in clips]

    monkeypatch.setattr(transcripts, "listener", fake)
    path = tmp_path / "x.wav"
    path.write_bytes(wav(talk(2)))
    parts = row(path, asr="whisper/small", language="en", by="word")["segments"]
    assert [p["text"] for p in parts] == ["oh", "well"] * 2
    assert parts[0]["end_s"] - parts[0]["start_s"] == pytest.approx(0.3)
    assert parts[1]["end_s"] < parts[2]["start_s"], "a word ends with the stretch of speech it is in"
    asked.clear()
    parts = row(path, asr="whisper/small", language="en", by="sentence")["segments"]
    assert asked == [("whisper/small", "en")]
    assert [p["text"] for p in parts] == ["oh well", "oh well"]
    assert parts[0]["end_s"] < parts[1]["start_s"]
    assert row(path, asr="whisper/small")["segments"][1]["text"] == "oh well"


def test_a_whisper_with_random_weights_is_heard(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the tiny Whisper needs serkit[foundation]")
    path = tmp_path / "x.wav"
    path.write_bytes(wav(talk(2)))
    heard = Words("whisper/random", "en")(path)
    for sentence in heard:
        assert 0 <= sentence.start_s < sentence.end_s <= 5.6
        assert sentence.text
        assert all(0 <= w.start_s <= w.end_s <= 5.6 for w in sentence.words)
    said = [w.text for s in heard for w in s.words]
    assert len(said) > 1
    parts = row(path, asr="whisper/random", language="en", by="word")["segments"]
    assert set(said) & {p["text"] for p in parts}
    silent = tmp_path / "silent.wav"
    silent.write_bytes(wav(quiet(3)))
    for by in ("word", "sentence"):
        assert row(silent, asr="whisper/random", by=by)["no_speech"]


def test_a_word_beyond_the_end_of_the_sound_is_put_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recognisers name such times; the recording is answered all the same."""

    def fake(name: str, **options: Any) -> Any:
        words = ((0.2, 0.5, "oh"), (50.0, 50.2, "well"))
        return lambda clips: [Transcript("oh well", "en", ((0.2, 99.0, "oh well"),), words=(words,)) for _ in clips]

    monkeypatch.setattr(transcripts, "listener", fake)
    path = tmp_path / "x.wav"
    path.write_bytes(wav(talk(1)))
    (sentence,) = Words("whisper/small")(path)
    assert sentence.words[1].start_s == sentence.words[1].end_s == sentence.end_s
    assert row(path, asr="whisper/small", by="word")["segments"][0]["text"] == "oh"


def test_a_recogniser_without_the_times_of_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(name: str, **options: Any) -> Any:
        return lambda clips: [Transcript("well", "en", ((0.2, 0.9, "well"),)) for _ in clips]

    monkeypatch.setattr(transcripts, "listener", fake)
    path = tmp_path / "x.wav"
    path.write_bytes(wav(talk(1)))
    complaints: list[str] = []
    asked = Asked((str(path),), model=str(GOLDEN), kind="json", by="word", asr="whisper/small")
    assert predicting.predict(asked, lambda _: None, complaints.append) == 1
    assert "x.wav: 'whisper/small' gives no times of words" in complaints[-1]
    assert "--by sentence" in complaints[-1]


def test_each_channel_is_heard_as_its_own_file_is(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the tiny Whisper needs serkit[foundation]")
    left, right = np.concatenate([talk(2), quiet(31)]), np.concatenate([quiet(29), talk(1)])
    n = min(len(left), len(right))
    sound = np.stack([left[:n], right[:n]], axis=1)
    hear = Words("whisper/random", "en")
    expected = []
    for k in (0, 1):
        (tmp_path / f"{k}.wav").write_bytes(wav(sound[:, k]))
        own = hear(tmp_path / f"{k}.wav")
        assert own
        assert all(s.speaker is None for s in own)
        expected += [dataclasses.replace(s, speaker=f"channel {k + 1}") for s in own]
    path = tmp_path / "call.wav"
    path.write_bytes(wav(sound))
    assert hear(path, apart=True) == sorted(expected, key=lambda s: s.start_s)
    parts = row(path, asr="whisper/random", language="en", by="channel")["segments"]
    assert {p["speaker"] for p in parts if p["text"]} == {"channel 1", "channel 2"}
    nine = tmp_path / "nine.wav"
    nine.write_bytes(wav(np.repeat(talk(1)[:, None], 9, axis=1)))
    with pytest.raises(SerkitError, match="at most 8"):
        hear(nine, apart=True)


def test_listeners_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(transcripts, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"serkit\[asr\]"):
        Words("whisper/small")
    monkeypatch.setattr(transcripts, "find_spec", lambda name: None if name == "faster_whisper" else True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("whisper/small", "small"):  # known to transformers, but not to be had; and not known
        with pytest.raises(SerkitError, match=r"encoder '.*small'.* pip install 'serkit\[asr\]'"):
            Words(name)
    with pytest.raises(SerkitError, match="config") as wrong:
        Words(str(tmp_path))
    assert "serkit[asr]" not in str(wrong.value), "a folder that lacks something is not helped by another package"
    monkeypatch.setitem(sys.modules, "pyannote.audio", None)
    with pytest.raises(MissingExtra, match=r"serkit\[diarise\]"):
        Diariser("pyannote/speaker-diarization-3.1")
    cases = [
        ({"transcript": tmp_path, "asr": "whisper/small"}, "not both"),
        ({"rttm": tmp_path, "diariser": "x"}, "not both"),
        ({"language": "en"}, "--language needs --asr"),
    ]
    for options, reason in cases:
        with pytest.raises(SerkitError, match=reason):
            Beside(**options)


class _Annotation:
    def itertracks(self, *, yield_label: bool) -> Any:
        assert yield_label
        spans = [(2.2, 6.0, "SPEAKER_01"), (0.0, 2.2, "SPEAKER_00"), (3.0, 3.0, "SPEAKER_00")]
        return [(types.SimpleNamespace(start=a, end=b), k, who) for k, (a, b, who) in enumerate(spans)]


def test_speakers_that_are_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pyannote.audio 3 and 4 document; its own weights were not at hand."""
    heard: list[tuple[int, ...]] = []

    class Pipeline:
        version = 3

        @classmethod
        def from_pretrained(cls, name: str) -> Any:
            return None if name == "gated" else cls()

        def __call__(self, file: dict[str, Any]) -> Any:
            heard.append(tuple(file["waveform"].shape))
            found = _Annotation()
            return found if self.version == 3 else types.SimpleNamespace(speaker_diarization=found)

    package = types.ModuleType("pyannote.audio")
    package.Pipeline = Pipeline  # type: ignore[attr-defined]
    imported = importlib.import_module
    monkeypatch.setattr(
        turns_and_words.importlib, "import_module", lambda name: package if name == "pyannote.audio" else imported(name)
    )
    path = tmp_path / "x.wav"
    path.write_bytes(wav(talk(3)))
    for Pipeline.version in (3, 4):
        parts = row(path, diariser="pyannote/speaker-diarization-3.1", by="turn")["segments"]
        assert [p["speaker"] for p in parts] == ["SPEAKER_00", "SPEAKER_01"]
    assert heard[0] == (1, len(talk(3)))
    with pytest.raises(SerkitError, match="licence has to be accepted"):
        Diariser("gated")
