"""The page in a real browser: what a person sees, hears, presses and saves."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serkit.serving import example, formats
from serkit.serving.predictor import Model
from serkit.serving.results import Prediction, Segment, Speaker
from serkit.serving.timeline import read_transcript, turn_of

from .page import SOUND, Open, answered, give, until
from .signals import RATE, quiet, wav


def test_a_recording_becomes_a_timeline(opened: Open, model: Model) -> None:
    page = answered(opened())
    truth = model.predict(wav(SOUND))
    assert page.evaluate("document.activeElement.id") == "answer"
    assert page.inner_text("#about").startswith("call.wav · ")
    assert truth.label in page.inner_text("#answer").lower()
    rows = [page.locator("#parts tbody tr").nth(k).inner_text() for k in range(len(truth.segments))]
    for row, part in zip(rows, truth.segments, strict=True):
        assert part.label in row
        assert f"{round(100 * part.confidence)}\xa0%" in row  # a space at which no line breaks
    assert page.locator("#parts tbody tr").count() == len(truth.segments) == 3
    page.check("#all-classes")
    assert page.locator("#parts thead th").count() == 4 + len(model.labels)
    slider = page.locator("#timeline")
    assert float(slider.get_attribute("aria-valuemax")) == pytest.approx(truth.duration_s, abs=0.06)
    assert "no speech" in slider.get_attribute("aria-valuetext")
    painted = page.evaluate(
        "() => { const c = document.querySelector('#timeline canvas');"
        " const d = c.getContext('2d').getImageData(0, 0, c.width, 90).data;"
        " return new Set(Array.from({length: d.length / 4}, (_, k) => d.slice(4 * k, 4 * k + 3).join())).size }"
    )
    assert painted > 5  # the waveform in the colours of what holds


def test_all_of_it_by_keyboard(opened: Open, model: Model) -> None:
    page = opened()
    order = []
    for _ in range(5):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert order == ["skip", "choose", "speak", "example", ""]
    answered(page)
    page.focus("#timeline")
    at = lambda: float(page.get_attribute("#timeline", "aria-valuenow"))  # noqa: E731
    page.keyboard.press("ArrowRight")
    assert at() == 1.0
    page.keyboard.press("ArrowLeft")
    assert at() == 0.0
    starts = [s.start_s for s in model.predict(wav(SOUND)).segments]
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert at() == pytest.approx(starts[1], abs=0.06)
    assert "%" in page.get_attribute("#timeline", "aria-valuetext")
    assert page.locator("#parts tr.current").get_attribute("aria-current") == "true"
    page.keyboard.press("End")
    assert at() == pytest.approx(len(SOUND) / RATE, abs=0.06)
    page.keyboard.press("+")
    page.keyboard.press("0")
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    until(page, "document.getElementById('timeline').getAttribute('aria-valuenow') > 0.2")
    assert page.get_attribute("#play", "aria-label") == "Pause"
    page.keyboard.press("Space")
    until(page, "document.getElementById('play').getAttribute('aria-label') === 'Play'")


def test_hearing_a_part_and_scrubbing(opened: Open, model: Model) -> None:
    page = answered(opened())
    part = model.predict(wav(SOUND)).segments[1]
    page.evaluate(
        "() => { window.heard = []; for (const kind of ['play', 'pause'])"
        " document.getElementById('audio').addEventListener(kind, () => window.heard.push(kind)); }"
    )
    page.locator("#parts tbody button").nth(1).click()
    until(page, "window.heard.join() === 'play,pause'")
    stopped_s = page.evaluate("document.getElementById('audio').currentTime")
    assert -0.05 < stopped_s - part.end_s < 1.5  # the browser says where it is four times a second, or when it can
    page.locator("#timeline").scroll_into_view_if_needed()
    box = page.locator("#timeline canvas").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 40)
    page.mouse.up()
    assert 0.6 < float(page.get_attribute("#timeline", "aria-valuenow")) / (len(SOUND) / RATE) < 0.9


def test_the_example_shows_who_says_what_and_is_saved_as_predict_writes_it(opened: Open) -> None:
    page = opened()
    page.click("#example")
    page.wait_for_selector("#result:not([hidden])")
    table = page.inner_text("#parts")
    for sentence in json.loads(example.transcript_path().read_text(encoding="utf-8")):
        assert sentence["text"] in table
        assert sentence["speaker"] in table
    texts = {}
    for kind in ("json", "csv", "rttm", "textgrid", "srt", "vtt"):
        with page.expect_download() as saved:
            page.click(f"[data-save={kind}]")
        assert saved.value.suggested_filename == f"example.{'TextGrid' if kind == 'textgrid' else kind}"
        texts[kind] = Path(saved.value.path()).read_text(encoding="utf-8")
    told = json.loads(texts["json"])
    parts = tuple(Segment(**s) for s in told["segments"])
    fields = {**told, "by": told["granularity"], "segments": parts, "notes": tuple(told["notes"])}
    fields["speakers"] = tuple(Speaker(**s) for s in told["speakers"])
    assert {s.speaker for s in fields["speakers"]} == {s.speaker for s in parts} == {"Ada", "Ben"}
    prediction = Prediction(**{k: fields[k] for k in Prediction.__dataclass_fields__ if k in fields})
    assert json.loads(formats.document("json", [prediction], timeline=True)) == told
    for kind in ("csv", "rttm", "textgrid", "srt", "vtt"):
        assert texts[kind] == formats.document(kind, [prediction], timeline=True)


def named_in(page: Any, place: str, model: Model) -> list[str]:
    """The emotions that can be read there."""
    return [label for label in model.labels if page.locator(place).get_by_text(label).locator("visible=true").count()]


def test_silence_has_no_answer(opened: Open, model: Model) -> None:
    silence = wav(quiet(3.0, level=1e-5))
    scores = model.predict(silence).probabilities
    page = answered(opened(), silence)
    assert page.inner_text("#answer").strip() == "No speech found"
    assert page.is_visible("#doubt")
    assert "No part of the recording is speech" in page.inner_text("#parts")
    assert page.is_hidden("#all-classes")
    assert named_in(page, "#result", model) == []
    page.focus("#here summary")
    page.keyboard.press("Enter")  # the scores are there for those who ask, none of them as the answer
    assert page.locator("#here dt").all_inner_texts() == sorted(model.labels, key=lambda x: -scores[x])
    assert page.locator("#here .best, #here h3, #here .swatch").count() == 0


def test_turns_of_silence_have_no_answer_either(opened: Open, model: Model) -> None:
    page = opened()
    page.click("#options summary")
    rttm = b"SPEAKER call 1 0 2.2 <NA> <NA> Ann <NA> <NA>\n"
    page.set_input_files("#rttm", {"name": "call.rttm", "mimeType": "text/plain", "buffer": rttm})
    page.wait_for_selector("#by option[value=turn]:not([disabled])", state="attached")
    page.select_option("#by", "turn")
    answered(page, wav(quiet(3.0, level=1e-5)))
    assert page.inner_text("#answer").strip() == "No speech found"
    assert "no speech" in page.inner_text("#parts tbody tr")
    assert page.inner_text("#here h3") == "No speech"
    assert named_in(page, "#result", model) == []
    assert page.get_attribute("#timeline", "aria-valuetext").endswith("no speech")


def test_speaking(opened: Open) -> None:
    page = opened()
    page.click("#speak")
    page.wait_for_selector("#live-parts li")
    assert re.search(r"\d:\d\d\.\d to .*%", page.inner_text("#live-parts li"))
    page.click("#stop")
    page.wait_for_selector("#result:not([hidden])")
    assert page.inner_text("#about").startswith("microphone.wav")
    assert page.locator("#parts tbody tr").count() >= 1
    assert page.evaluate("document.getElementById('audio').readyState") >= 0
    assert page.is_hidden("#live")


def test_labels_and_speakers_can_be_given(opened: Open) -> None:
    page = opened()
    page.click("#options summary")
    for label in ("fear", "sadness", "neutral"):
        page.uncheck(f"#labels input[value={label}]")
    rttm = b"SPEAKER call 1 0 2.2 <NA> <NA> Ann <NA> <NA>\nSPEAKER call 1 2.2 6 <NA> <NA> Bob <NA> <NA>\n"
    page.set_input_files("#rttm", {"name": "call.rttm", "mimeType": "text/plain", "buffer": rttm})
    page.wait_for_selector("#by option[value=turn]:not([disabled])", state="attached")
    page.select_option("#by", "turn")
    answered(page)
    assert page.locator("#parts tbody tr").count() == 2
    assert "Bob" in page.inner_text("#parts")
    assert page.locator("#here dt").all_inner_texts() in (["anger", "happiness"], ["happiness", "anger"])
    page.set_input_files("#rttm", {"name": "x.rttm", "mimeType": "text/plain", "buffer": b"no turns"})
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem").startswith("x.rttm holds no SPEAKER line")


def test_turns_go_by_the_name_of_the_recording_and_words_by_their_times(opened: Open, model: Model) -> None:
    """As `serkit predict` has it: all turns of an RTTM were taken for those of the recording that is asked."""
    page = opened()
    parts = model.predict(wav(SOUND)).segments
    page.click("#options summary")
    rttm = "".join(
        f"SPEAKER {name} 1 0 9 <NA> <NA> {who} <NA> <NA>\n" for name, who in (("other", "Wrong"), ("call", "Ann"))
    )
    words = [
        {"start": p.start_s, "end": p.end_s, "word": w} for p, w in zip(parts[::2], ("first", "last"), strict=True)
    ]
    said = {"segments": [{"start": 0, "end": 9, "text": "first last", "speaker": 1, "words": words}]}
    for field, name, content in (("#rttm", "calls.rttm", rttm), ("#transcript", "call.json", json.dumps(said))):
        page.set_input_files(field, {"name": name, "mimeType": "text/plain", "buffer": content.encode()})
    page.wait_for_selector("#by option[value=sentence]:not([disabled])", state="attached")
    answered(page)
    rows = page.locator("#parts tbody tr").all_inner_texts()
    assert all("Ann" in row for row in rows)
    assert [[w for w in ("first", "last") if w in row] for row in rows] == [["first"], [], ["last"]]
    give(page, wav(SOUND), "third.wav")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem") == "The RTTM has no turns of 'third'; it names call, other."


def test_a_transcript_is_read_as_by_the_command(opened: Open, tmp_path: Path) -> None:
    """Times that are null were the beginning of the recording, and a cue had one voice."""
    page = opened()
    cues = "WEBVTT\n\n00:01.000 --> 00:02.000\n- <v.loud Ann>Come <b>here</b> &amp;lt;&#233;&nbsp;!</v>"
    cues += "\n<v B&amp;b>No &constructor;, l&rsquo;&Eacute;t&eacute;&hellip; &notit;&#32;."
    cues += "\n\n00:03.000 --> 00:04.000\nHm."
    words = [{"word": "at", "start": 0, "end": 0.5}, {"word": "7", "start": None, "end": None}]
    rows = [{"start": 0, "end": 1, "text": "at 7", "speaker": " ", "words": words}]
    for name, text in (
        ("a.vtt", cues),
        ("a.srt", "1\n00:00:01,5 --> 00:00:02,000\nYes."),
        ("A.JSON", json.dumps(rows)),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        found = page.evaluate("async (x) => (await import('./turns.js')).readTranscript(...x)", [text, name])
        assert [turn_of(row) for row in found] == read_transcript(tmp_path / name)


def test_by_word_is_offered_where_words_have_times(opened: Open) -> None:
    page = opened()
    page.click("#options summary")
    words = [{"start": 0.4, "end": 0.8, "word": "first"}, {"start": 2.0, "end": 2.5, "word": "last"}]

    def transcribed(times: list[dict[str, Any]]) -> None:
        said = json.dumps([{"start": 0.2, "end": 3.0, "text": "first last", "words": times}])
        page.set_input_files("#transcript", {"name": "w.json", "mimeType": "text/plain", "buffer": said.encode()})

    transcribed(words)
    page.wait_for_selector("#by option[value=word]:not([disabled])", state="attached")
    page.select_option("#by", "word")
    answered(page)
    rows = page.locator("#parts tbody tr").all_inner_texts()
    assert [[w for w in ("first", "last") if w in row] for row in rows] == [["first"], ["last"]]
    transcribed([])
    page.wait_for_selector("#by option[value=word][disabled]", state="attached")
    assert page.input_value("#by") == "segment"
    assert page.locator("#by option[value=sentence]:not([disabled])").count() == 1


@pytest.mark.slow
def test_long_files_become_jobs(opened: Open) -> None:
    page = opened()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.method} {request.url.rsplit('/v1/')[-1]}"))
    long = wav(np.tile(SOUND, 300_000 * 15 // len(SOUND)))
    assert len(long) > 8e6
    give(page, long)
    page.wait_for_selector("#result:not([hidden])", timeout=60_000)
    assert "POST jobs" in asked
    assert any(a.startswith("DELETE jobs/") for a in asked)
