"""The page with several recordings, and with options that change after the answer."""

from __future__ import annotations

import math
from typing import Any

import pytest

from serkit.serving.predictor import Model

from .page import SOUND, Open, answered, until
from .signals import talk, voice, wav
from .test_web_channels import CALL


def given(page: Any, *files: tuple[str, bytes]) -> None:
    page.set_input_files("#file", [{"name": n, "mimeType": "audio/wav", "buffer": content} for n, content in files])


def test_several_recordings_are_answered_in_turn_and_chosen_from_a_list(opened: Open, model: Model) -> None:
    page = opened()
    assert page.get_attribute("#file", "multiple") is not None
    one, other = wav(SOUND), wav(voice(2.0, 7, 210.0))
    given(page, ("one.wav", one), ("bad.wav", b"dear diary, this is no sound"), ("other.wav", other))
    page.wait_for_selector("#result:not([hidden])")
    assert page.inner_text("#about").startswith("one.wav · ")
    until(page, "document.getElementById('files-title').textContent === '2 of 3 recordings answered'")
    until(page, "!document.getElementById('choose').disabled")
    assert page.inner_text("#about").startswith("one.wav · "), "the first one stays until another is chosen"
    assert page.is_hidden("#work")
    listed = [text.split("\n") for text in page.locator("#files-list button").all_inner_texts()]
    assert [name for name, *_ in listed] == ["one.wav", "bad.wav", "other.wav"]
    assert listed[1][-1] == "no answer"
    assert model.predict(one).label in listed[0][-1].lower()
    assert page.locator("#files-list [aria-current]").inner_text().startswith("one.wav")

    page.locator("#files-list button").nth(2).click()
    until(page, "document.getElementById('about').textContent.startsWith('other.wav')")
    assert model.predict(other).label in page.inner_text("#answer").lower()
    page.locator("#files-list button").nth(1).click()
    assert page.inner_text("#problem").startswith("bad.wav: not audio")
    assert page.is_hidden("#result")
    page.locator("#files-list button").nth(0).click()
    page.wait_for_selector("#result:not([hidden])")
    assert page.is_hidden("#problem")
    answered(page, other)
    assert page.is_hidden("#files"), "one recording has no list"


def states(page: Any) -> list[str]:
    """What the list says of each recording."""
    return [text.split("\n")[-1] for text in page.locator("#files-list button").all_inner_texts()]


def test_as_many_are_asked_at_once_as_the_service_answers(opened: Open) -> None:
    """The service of the tests has one worker; it is made to say two, and keeps each answer until it is let go."""
    page, held = opened(), []
    page.route("**/v1/model", lambda route: _with_workers(route, 2))
    page.route("**/v1/predict", lambda route: held.append(route))  # playwright marks what it calls
    page.reload()
    page.wait_for_selector("#labels input", state="attached")
    given(page, *[(f"{name}.wav", wav(voice(1.0 + k, k))) for k, name in enumerate(("one", "two", "three"))])
    until(page, "document.querySelectorAll('#files-list .muted')[1].textContent.startsWith('sending')")
    _wait_for(page, held, 2)
    assert states(page) == ["sending …", "sending …", "waits"]
    two = next(route for route in held if b"two.wav" in route.request.post_data_buffer)  # they come in any order
    two.continue_()
    page.wait_for_selector("#result:not([hidden])")
    assert page.inner_text("#about").startswith("two.wav"), "whichever is answered first"
    until(page, "document.querySelectorAll('#files-list .muted')[2].textContent.startsWith('sending')")
    _wait_for(page, held, 3)
    assert page.inner_text("#work-text") == "2 of 3 still to come …"
    for route in held:
        if route is not two:
            route.continue_()
    until(page, "!document.getElementById('choose').disabled")
    assert page.inner_text("#files-title") == "3 of 3 recordings answered"
    assert page.inner_text("#about").startswith("two.wav")


def _wait_for(page: Any, held: list[Any], n: int) -> None:
    """Until the browser has told of that many requests, which it may do after the page says that it sends."""
    for _ in range(500):
        if len(held) >= n:
            break
        page.wait_for_timeout(20)
    assert len(held) == n


def _with_workers(route: Any, n: int) -> None:
    answer = route.fetch()
    row = answer.json()
    row["limits"]["workers"] = n
    route.fulfill(response=answer, json=row)


def test_of_several_one_that_finds_the_service_busy_waits(opened: Open) -> None:
    page, asked = opened(), []

    def busy_once(route: Any) -> None:
        asked.append(route)
        if len(asked) == 1:
            route.fulfill(status=429, headers={"Retry-After": "1"}, json={"error": {"code": "busy", "message": "x"}})
        else:
            route.continue_()

    page.route("**/v1/predict", busy_once)
    given(page, ("one.wav", wav(SOUND)), ("two.wav", wav(SOUND)))
    until(page, "document.getElementById('files-list').textContent.includes('the server is busy')")
    until(page, "document.getElementById('files-title').textContent === '2 of 2 recordings answered'")
    assert len(asked) == 3


def test_what_was_cancelled_is_left_out(opened: Open) -> None:
    page = opened()
    page.route("**/v1/predict", lambda route: None)  # never answered
    given(page, ("one.wav", wav(SOUND)), ("two.wav", wav(SOUND)))
    page.wait_for_selector("#work:not([hidden])")
    assert page.inner_text("#work-text") == "2 of 2 still to come …"
    page.click("#cancel")
    until(page, "!document.getElementById('choose').disabled")
    assert [t.split("\n")[-1] for t in page.locator("#files-list button").all_inner_texts()] == ["left out"] * 2
    assert page.inner_text("#files-title") == "0 of 2 recordings answered"


def test_other_options_can_be_asked_of_the_same_recording(opened: Open, model: Model) -> None:
    page = answered(opened(), CALL)
    assert page.locator("#notes li").first.inner_text().startswith("The two channels hold different voices")
    tops = page.evaluate("['notes', 'summary'].map(n => document.getElementById(n).getBoundingClientRect().top)")
    assert tops[0] < tops[1], "what changes how the answer is read stands before its parts"
    assert page.locator("#speakers p").count() == 0
    page.click("#options summary")
    assert page.is_hidden("#again")
    page.select_option("#by", "channel")
    assert page.is_visible("#again")
    page.select_option("#by", "segment")
    assert page.is_hidden("#again"), "these were asked"
    page.select_option("#by", "channel")
    page.click("#again")
    page.wait_for_selector("#speakers p")
    assert page.is_hidden("#again")
    truth = model.predict(CALL, by="channel")
    said = page.locator("#speakers p").all_inner_texts()
    for text, speaker in zip(said, truth.speakers, strict=True):
        assert text.startswith(f"{speaker.speaker}: ")
        assert f"{speaker.label}, {round(100 * speaker.confidence)}\xa0%" in text
    summary = page.inner_text("#summary")
    assert "pauses within parts included" in summary
    for label, seconds in truth.summary.items():
        assert f"{label} {math.floor(10 * seconds + 0.5) / 10:.1f} s (" in summary
    assert page.locator("#notes li").count() == 0


@pytest.mark.slow
def test_the_example_and_what_was_spoken_can_be_asked_again(opened: Open) -> None:
    page = opened()
    page.click("#example")
    page.wait_for_selector("#parts td.words")
    page.click("#options summary")
    page.select_option("#by", "window")
    page.click("#again")
    until(page, "document.querySelectorAll('#parts tbody tr').length > 5")
    assert page.locator("#parts td.words").first.inner_text(), "its words are still known"
    page.click("#speak")
    page.wait_for_selector("#live-parts li")
    page.click("#stop")
    until(page, "document.getElementById('about').textContent.startsWith('microphone.wav')")
    page.select_option("#by", "segment")
    page.click("#again")
    until(page, "!document.getElementById('choose').disabled")
    assert page.inner_text("#about").startswith("microphone.wav")


def test_names_of_emotions_are_not_cut_in_the_drawing(opened: Open) -> None:
    page = opened(360)
    page.evaluate(
        "() => { window.drawn = []; const plain = CanvasRenderingContext2D.prototype.fillText;"
        " CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {"
        " window.drawn.push(text); return plain.call(this, text, ...rest); }; }"
    )
    answered(page, wav(talk(12)))
    names = {text for text in page.evaluate("window.drawn") if text.isalpha()}
    assert names <= {"anger", "fear", "happiness", "neutral", "sadness"}
    assert names
