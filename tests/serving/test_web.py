"""The page in a real browser: what a person sees, hears, presses and saves. Skips where there is no Chromium."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serkit.serving import example, formats
from serkit.serving.predictor import Model
from serkit.serving.results import Prediction, Segment

from .signals import GOLDEN, RATE, quiet, talk, wav

pytest.importorskip("fastapi", reason="the service needs serkit[serve]")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("SERKIT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium on this machine (SERKIT_CHROMIUM names another)", allow_module_level=True)

SOUND = np.round(talk(3) * 32768) / 32768
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A running ``serkit serve`` with the tiny model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "serkit.cli", "serve", "--model", str(GOLDEN), "--port", str(port)]
    server = subprocess.Popen([*command, "--workers", "1", "--quiet"], stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(200):
            time.sleep(0.1)
            try:
                with urllib.request.urlopen(url + "readyz") as answer:
                    if answer.status == 200:
                        break
            except OSError:
                continue
        else:
            server.kill()
            pytest.fail(f"the service did not start: {server.communicate()[1][-800:]}")
        yield url
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium whose microphone hears :data:`SOUND` over and over."""
    heard = tmp_path_factory.mktemp("microphone") / "talk.wav"
    heard.write_bytes(wav(SOUND))
    flags = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    flags += [f"--use-file-for-fake-audio-capture={heard}", "--autoplay-policy=no-user-gesture-required"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Open]:
    """A function that opens the page; afterwards nothing may have been wrong in it, or gone elsewhere."""
    contexts, wrong, asked = [], [], []

    def open_page(width: int = 1000, scheme: str = "light", **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        until(page, "document.getElementById('model').textContent !== ''")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith((address, "blob:"))] == []


def until(page: Any, condition: str, within_s: float = 10.0) -> None:
    """Wait for a JavaScript condition; asked from outside, since the page's own policy lets no text be code."""
    end = time.monotonic() + within_s
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


#: Elements that stick out of the page, but for a table of every probability, which moves sideways in its box.
OUTSIDE = """() => [...document.querySelectorAll("body *")].filter((e) => {
    const box = e.getBoundingClientRect();
    return box.width && (box.left < -0.5 || box.right > innerWidth + 0.5) && !e.closest(".skip, table.every");
}).map((e) => e.outerHTML.slice(0, 80))"""
#: Rows and cells of the table that are not where the table is, and numbers broken over two lines.
RAGGED = """() => {
    const table = document.querySelector("#parts table").getBoundingClientRect();
    const within = document.querySelector("#parts").clientWidth;
    const wrong = Math.abs(table.width - within) > 1.5 ? [`table ${table.width} of ${within}`] : [];
    for (const row of document.querySelectorAll("#parts tr")) {
        const box = row.getBoundingClientRect();
        if (Math.abs(box.left - table.left) > 1 || Math.abs(box.right - table.right) > 1) wrong.push(row.outerHTML);
        for (const inner of row.querySelectorAll("td, th, .tag, .share"))
            if (inner.getBoundingClientRect().right > box.right + 0.5) wrong.push(inner.outerHTML);
    }
    for (const share of document.querySelectorAll("#parts .share, #here .share")) {
        const range = document.createRange();
        range.selectNodeContents(share);
        if (new Set([...range.getClientRects()].map((r) => Math.round(r.top))).size > 1) wrong.push(share.outerHTML);
    }
    return wrong;
}"""

#: From here on every part is marked as unsure: the longest row there is.
UNSURE = """() => {
    const { get } = Object.getOwnPropertyDescriptor(XMLHttpRequest.prototype, "response");
    Object.defineProperty(XMLHttpRequest.prototype, "response", { get() {
        const body = get.call(this);
        for (const part of body?.results?.[0]?.segments ?? []) part.abstain = "unsure";
        return body;
    } });
}"""


def give(page: Any, content: bytes, name: str = "call.wav") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "audio/wav", "buffer": content})


def answered(page: Any, content: bytes | None = None) -> Any:
    give(page, wav(SOUND) if content is None else content)
    page.wait_for_selector("#result:not([hidden])")
    return page


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
    page.locator("#parts tbody button").nth(1).click()
    until(page, "!document.getElementById('audio').paused")
    until(page, "document.getElementById('audio').paused")
    assert page.evaluate("document.getElementById('audio').currentTime") == pytest.approx(part.end_s, abs=0.4)
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
    for kind in ("json", "csv", "rttm", "textgrid"):
        with page.expect_download() as saved:
            page.click(f"[data-save={kind}]")
        assert saved.value.suggested_filename == f"example.{'TextGrid' if kind == 'textgrid' else kind}"
        texts[kind] = Path(saved.value.path()).read_text(encoding="utf-8")
    told = json.loads(texts["json"])
    parts = tuple(Segment(**s) for s in told["segments"])
    fields = {**told, "by": told["granularity"], "segments": parts, "notes": tuple(told["notes"])}
    prediction = Prediction(**{k: fields[k] for k in Prediction.__dataclass_fields__})
    assert json.loads(formats.document("json", [prediction], timeline=True)) == told
    for kind in ("csv", "rttm", "textgrid"):
        assert texts[kind] == formats.document(kind, [prediction], timeline=True)


@pytest.mark.parametrize(("width", "scheme"), [(1100, "light"), (360, "dark")])
def test_nothing_that_axe_finds_wrong(opened: Open, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    page = opened(width, scheme, reduced_motion="reduce")
    page.click("#options summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.run(page).response["violations"]
    page.click("#options summary")
    page.click("#example")
    page.wait_for_selector("#result:not([hidden])")
    found += axe.run(page).response["violations"]
    page.check("#all-classes")
    found += axe.run(page).response["violations"]
    answered(page, wav(quiet(3.0, level=1e-5)))
    until(page, "document.getElementById('answer').textContent.startsWith('No speech')")
    page.click("#here summary")
    found += axe.run(page).response["violations"]
    give(page, b"no audio at all, only words")
    page.wait_for_selector("#problem:not([hidden])")
    found += axe.run(page).response["violations"]
    assert [(v["id"], [n["target"] for n in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#choose").bounding_box()["height"] >= 40


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (360, "dark"), (768, "light"), (1280, "dark")])
def test_nothing_is_cut_off_or_broken_at_any_width(opened: Open, width: int, scheme: str) -> None:
    page = opened(width, scheme, reduced_motion="reduce")
    page.evaluate(UNSURE)
    assert page.evaluate(OUTSIDE) == []
    give(page, wav(SOUND), f"{'one_long_name_without_a_space_' * 6}.wav")
    page.wait_for_selector("#parts .tag")
    assert (page.evaluate(OUTSIDE), page.evaluate(RAGGED)) == ([], [])
    assert page.locator("#parts td .track").first.is_visible() == (width >= 768)
    page.check("#all-classes")
    assert page.evaluate(OUTSIDE) == []
    page.uncheck("#all-classes")
    page.click("#example")  # with speakers and words
    page.wait_for_selector("#parts td.words")
    assert (page.evaluate(OUTSIDE), page.evaluate(RAGGED)) == ([], [])
    assert page.locator("#parts td.words").last.is_visible()
    give(page, b"no audio at all, only words", f"{'one_long_name_without_a_space_' * 6}.wav")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.evaluate(OUTSIDE) == []


def test_light_and_dark_differ_and_motion_can_be_still(opened: Open) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    assert opened(scheme="light").evaluate(colour) != opened(scheme="dark").evaluate(colour)
    dot = "getComputedStyle(document.querySelector('.dot')).animationName"
    assert opened(reduced_motion="reduce").evaluate(dot) == "none"


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


def named_in(page: Any, place: str, model: Model) -> list[str]:
    """The emotions that can be read there."""
    return [label for label in model.labels if page.locator(place).get_by_text(label).locator("visible=true").count()]


def test_silence_has_no_answer(opened: Open, model: Model) -> None:
    silence = wav(quiet(3.0, level=1e-5))
    scores = model.predict(silence).probabilities
    page = answered(opened(), silence)
    assert page.inner_text("#answer").strip() == "No speech found"
    assert page.is_visible("#doubt")
    assert "No part of it is speech" in page.inner_text("#parts")
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


def test_what_a_file_is_called_is_text(opened: Open) -> None:
    page = opened()
    page.set_input_files(
        "#file", {"name": "<img src=x onerror=alert(1)>.wav", "mimeType": "audio/wav", "buffer": wav(SOUND)}
    )
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator("main img").count() == 0
    assert "<img" in page.inner_text("#about")


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
