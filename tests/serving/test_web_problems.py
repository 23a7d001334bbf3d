"""What the page says when something is wrong: files, names, the service, the microphone."""

from __future__ import annotations

import pytest

from .page import SOUND, Open, answered, give, until
from .signals import wav


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"dear diary, this is no sound", "not audio"), (wav(SOUND)[:4000], "truncated")],
)
def test_what_is_wrong_is_said(opened: Open, content: bytes, said: str) -> None:
    page = answered(opened())
    give(page, content)
    page.wait_for_selector("#problem:not([hidden])")
    assert said in page.inner_text("#problem")
    assert page.get_attribute("#problem", "role") == "alert"
    assert page.is_hidden("#result")
    assert page.is_enabled("#choose")


@pytest.mark.parametrize(("content", "said"), [(b"", "rec.webm is empty"), (b"dear diary", "rec.webm: not audio")])
def test_a_file_is_named_as_it_is_called(opened: Open, content: bytes, said: str) -> None:
    page = opened()
    give(page, content, "rec.webm")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem").startswith(said)


def test_a_service_that_is_gone_or_busy(opened: Open) -> None:
    page = opened()
    page.route("**/v1/predict", lambda route: route.abort())
    give(page, wav(SOUND))
    page.wait_for_selector("#problem:not([hidden])")
    assert "does not answer" in page.inner_text("#problem")
    page.unroute("**/v1/predict")
    busy = {"error": {"code": "busy", "message": "later"}}
    page.route("**/v1/predict", lambda r: r.fulfill(status=429, headers={"Retry-After": "7"}, json=busy))
    give(page, wav(SOUND))
    until(page, "document.getElementById('problem').textContent.includes('7 s')")


def test_what_a_file_is_called_is_text(opened: Open) -> None:
    page = opened()
    page.set_input_files(
        "#file", {"name": "<img src=x onerror=alert(1)>.wav", "mimeType": "audio/wav", "buffer": wav(SOUND)}
    )
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator("main img").count() == 0
    assert "<img" in page.inner_text("#about")


def test_without_a_microphone_it_says_why(opened: Open) -> None:
    page = opened()
    absent = "async () => { throw new DOMException('', 'NotFoundError') }"
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {absent} }}")
    page.click("#speak")
    page.wait_for_selector("#problem:not([hidden])")
    assert "No microphone was found" in page.inner_text("#problem")
    page.evaluate("Object.defineProperty(window, 'isSecureContext', {value: false})")
    page.click("#speak")
    until(page, "document.getElementById('problem').textContent.includes('https://')")


def test_a_recording_may_be_called_as_what_every_object_has(opened: Open) -> None:
    page = opened()
    page.click("#options summary")
    names = ("constructor", "__proto__", "call")
    rttm = "".join(f"SPEAKER {name} 1 0 9 <NA> <NA> of-{name} <NA> <NA>\n" for name in names)
    page.set_input_files("#rttm", {"name": "calls.rttm", "mimeType": "text/plain", "buffer": rttm.encode()})
    for name in names:
        give(page, wav(SOUND), f"{name}.wav")
        until(page, f"document.getElementById('about').textContent.startsWith('{name}.wav')")
        rows = page.locator("#parts tbody tr").all_inner_texts()
        assert rows
        assert all(f"of-{name}" in row for row in rows)
