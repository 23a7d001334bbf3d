"""How the page looks: nothing cut off at any width, light and dark, and what axe-core has to say."""

from __future__ import annotations

import pytest

from .page import SOUND, Open, answered, give, until
from .signals import quiet, wav

#: Elements that stick out of the page.
OUTSIDE = """() => [...document.querySelectorAll("body *")].filter((e) => {
    const box = e.getBoundingClientRect();
    return box.width && (box.left < -0.5 || box.right > innerWidth + 0.5) && !e.closest(".skip");
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

#: By how much the table moves sideways in its box.
SIDEWAYS = """() => {
    const box = document.getElementById("parts");
    return box.scrollWidth - box.clientWidth;
}"""

#: From here on every answer has nine more emotions, one of them with a long name.
MANY = """() => {
    const { get } = Object.getOwnPropertyDescriptor(XMLHttpRequest.prototype, "response");
    const more = ["boredom", "calm", "contempt", "disgust", "frustration", "surprise", "pride", "shame"];
    Object.defineProperty(XMLHttpRequest.prototype, "response", { get() {
        const body = get.call(this);
        for (const answer of (body?.results ?? []).flatMap((r) => [r, ...r.segments]))
            for (const label of [...more, "disappointment_mixed_with_resignation"]) answer.scores[label] = 0;
        return body;
    } });
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


@pytest.mark.parametrize(("width", "scheme"), [pytest.param(1100, "light", marks=pytest.mark.slow), (360, "dark")])
def test_nothing_that_axe_finds_wrong(opened: Open, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    page = opened(width, scheme)
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


@pytest.mark.parametrize(("width", "scheme"), [
    (320, "light"), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((360, "dark"), (768, "light"))),
    (1280, "dark"),
])  # fmt: skip
def test_nothing_is_cut_off_or_broken_at_any_width(opened: Open, width: int, scheme: str) -> None:
    page = opened(width, scheme)
    page.evaluate(UNSURE)
    assert page.evaluate(OUTSIDE) == []
    give(page, wav(SOUND), f"{'one_long_name_without_a_space_' * 6}.wav")
    page.wait_for_selector("#parts .tag")
    assert (page.evaluate(OUTSIDE), page.evaluate(RAGGED)) == ([], [])
    assert page.locator("#parts td .track").first.is_visible() == (width >= 768)
    page.check("#all-classes")
    assert (page.evaluate(OUTSIDE), page.evaluate(RAGGED), page.evaluate(SIDEWAYS)) == ([], [], 0)
    page.uncheck("#all-classes")
    page.click("#example")  # with speakers and words
    page.wait_for_selector("#parts td.words")
    assert (page.evaluate(OUTSIDE), page.evaluate(RAGGED)) == ([], [])
    assert page.locator("#parts td.words").last.is_visible()
    page.check("#all-classes")
    assert (page.evaluate(OUTSIDE), page.evaluate(RAGGED), page.evaluate(SIDEWAYS)) == ([], [], 0)
    assert page.locator("#parts td.words").last.is_visible()
    give(page, b"no audio at all, only words", f"{'one_long_name_without_a_space_' * 6}.wav")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.evaluate(OUTSIDE) == []


@pytest.mark.parametrize(
    ("width", "scheme"), [(320, "dark"), pytest.param(360, "light", marks=pytest.mark.slow), (1000, "dark")]
)
def test_every_probability_of_many_emotions_fits(opened: Open, width: int, scheme: str) -> None:
    page = opened(width, scheme)
    page.evaluate(MANY)
    answered(page)
    page.check("#all-classes")
    assert (page.evaluate(OUTSIDE), page.evaluate(RAGGED), page.evaluate(SIDEWAYS)) == ([], [], 0)
    assert page.locator("#parts tbody tr").first.locator("dt").count() == 14
    named = page.locator("#parts tbody tr").first.locator(".best dt").inner_text()
    assert named == page.locator("#parts tbody td.emotion").first.inner_text()


def test_the_table_follows_the_width_of_the_window(opened: Open) -> None:
    page = answered(opened(1000))
    page.check("#all-classes")
    page.locator("#parts tbody button").nth(1).click()
    current = "document.querySelector('#parts tr.current button').getAttribute('aria-label')"
    heard = page.evaluate(current)
    columns = page.locator("#parts thead th")
    assert columns.count() == 9
    page.set_viewport_size({"width": 500, "height": 800})
    until(page, "document.querySelector('#parts table').classList.contains('stacked')")
    assert (columns.count(), page.evaluate(SIDEWAYS), page.evaluate(current)) == (5, 0, heard)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == heard
    page.set_viewport_size({"width": 1000, "height": 800})
    until(page, "!document.querySelector('#parts table').classList.contains('stacked')")
    assert columns.count() == 9


def test_light_and_dark_differ_and_motion_can_be_still(opened: Open) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    assert opened(scheme="light").evaluate(colour) != opened(scheme="dark").evaluate(colour)
    dot = "getComputedStyle(document.querySelector('.dot')).animationName"
    assert opened(motion="reduce").evaluate(dot) == "none"
    assert opened(motion="no-preference").evaluate(dot) != "none"


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), pytest.param(360, "dark", marks=pytest.mark.slow)])
def test_the_page_of_the_interface_is_styled_by_itself_and_axe_finds_nothing(
    opened: Open, address: str, width: int, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    page = opened(width, scheme)
    page.goto(address + "docs")
    assert page.evaluate("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.run(page).response["violations"]
    assert [(v["id"], n["html"][:120]) for v in found for n in v["nodes"]] == []
