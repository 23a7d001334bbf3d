"""The page with sets of emotions: how they are asked for, shown, said and saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serkit.serving import formats
from serkit.serving.predictor import Model

from .page import SOUND, Open, answered, give, until
from .signals import quiet, talk, voice, wav
from .test_web_channels import CALL, by_channel
from .test_web_layout import OUTSIDE

NOTE = "document.getElementById('coverage-note').textContent"
CLIP = wav(voice(2.0, 7, 210.0))


def asking(page: Any, coverage: str = "0.95") -> Any:
    page.click("#options summary")
    page.select_option("#coverage", coverage)
    return page


def shown(page: Any) -> list[str]:
    """The emotions of the set, as they can be read."""
    return list(page.locator("#set li").all_inner_texts())


def saved(page: Any, kind: str) -> str:
    with page.expect_download() as found:
        page.click(f"[data-save={kind}]")
    return Path(found.value.path()).read_text(encoding="utf-8")


def patched(page: Any, place: str, **fields: Any) -> None:
    """From here on the service answers there with other fields, in each result where it has results."""

    def change(route: Any) -> None:
        answer = route.fetch()
        row = answer.json()
        for one in row.get("results", [row]):
            one.update(fields)
        route.fulfill(response=answer, json=row)

    page.route(place, change)


def test_nothing_of_sets_unless_one_is_asked_for(opened: Open) -> None:
    page = opened()
    page.click("#options summary")
    choices = page.locator("#coverage option").all_inner_texts()
    assert choices == ["no set", *(f"in {n}\xa0% of cases" for n in (80, 90, 95))]
    assert page.input_value("#coverage") == ""
    sent = []
    page.route("**/v1/predict", lambda route: (sent.append(route.request.post_data_buffer), route.continue_()))
    answered(page)
    assert b"coverage" not in sent[0]
    assert (page.is_hidden("#set"), page.is_hidden("#set-saved")) == (True, True)
    assert not {"coverage", "set"} & set(json.loads(saved(page, "json")))


def test_a_set_is_asked_for_by_keyboard_shown_said_and_saved(opened: Open, model: Model) -> None:
    page = answered(opened(), CLIP)
    page.click("#options summary")
    page.focus("#coverage")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    assert page.input_value("#coverage") == "0.95"
    page.click("#again")
    page.wait_for_selector("#set:not([hidden])")
    truth = model.predict(CLIP, coverage=0.95)
    assert truth.set is not None
    assert len(truth.set) > 1
    assert shown(page) == list(truth.set)
    assert page.get_by_role("list", name="95\xa0% set").get_by_role("listitem").count() == len(truth.set)
    assert page.inner_text("#said").endswith(f"; 95\xa0% set: {', '.join(truth.set)}")
    for told in (
        "held-out clips of the training corpora, at least 95\xa0%",
        "less often",
        "parts and speakers have none",
    ):
        assert told in page.inner_text("#set")
    assert page.inner_text("#set-saved") == "The set is saved in JSON only: the other formats have parts only."
    told, row = json.loads(saved(page, "json")), truth.to_row()
    assert list(told) == list(row)  # key by key in the same order: the file is that of `serkit predict`
    assert (told["coverage"], told["set"]) == (0.95, row["set"])
    assert saved(page, "csv").replace("call.wav,", "-,") == formats.document("csv", [truth], timeline=True)
    page.select_option("#coverage", "")
    page.click("#again")
    page.wait_for_selector("#set", state="hidden")
    assert "set" not in json.loads(saved(page, "json"))


@pytest.mark.slow
def test_each_of_several_recordings_has_its_set_in_the_list(opened: Open, model: Model) -> None:
    page = asking(opened())
    sounds = {"one.wav": CLIP, "two.wav": wav(SOUND), "still.wav": wav(quiet(2.0, level=1e-5))}
    page.set_input_files("#file", [{"name": n, "mimeType": "audio/wav", "buffer": x} for n, x in sounds.items()])
    until(page, "document.getElementById('files-title').textContent === '3 of 3 recordings answered'")
    said = [text.split("\n")[-1] for text in page.locator("#files-list button").all_inner_texts()]
    for text, content in zip(said[:2], (CLIP, wav(SOUND)), strict=True):
        truth = model.predict(content, coverage=0.95)
        assert text.endswith(f"; 95\xa0% set: {', '.join(truth.set or ())}")
    assert said[2] == "no speech"
    page.locator("#files-list button").nth(2).click()
    until(page, "document.getElementById('answer').textContent.startsWith('No speech')")
    assert (page.is_hidden("#set"), page.is_hidden("#set-saved")) == (True, True)


@pytest.mark.slow
def test_what_was_spoken_has_a_set_too(opened: Open) -> None:
    page = asking(opened(), "0.9")
    page.click("#speak")
    page.wait_for_selector("#live-parts li")
    page.click("#stop")
    page.wait_for_selector("#set:not([hidden])")
    assert shown(page)[0] in page.inner_text("#answer").lower()


@pytest.mark.slow
def test_a_recording_beyond_a_clip_says_that_its_set_was_not_measured(opened: Open) -> None:
    page = asking(opened(), "0.9")
    answered(page, wav(talk(16)))
    assert shown(page)
    assert "the coverage of such a set was not measured" in page.inner_text("#notes")


def test_channels_have_none_and_the_page_says_why(opened: Open, model: Model) -> None:
    page = by_channel(opened())
    assert page.is_disabled("#coverage")
    assert page.evaluate(NOTE).startswith("There are no sets by channel")
    page.select_option("#by", "segment")
    page.select_option("#coverage", "0.9")
    assert "less often" in page.evaluate(NOTE)
    page.select_option("#by", "channel")
    answered(page, CALL)
    assert page.locator("#speakers p").count() == 2
    assert page.is_hidden("#set")
    page.select_option("#by", "segment")  # the choice is kept
    page.click("#again")
    page.wait_for_selector("#set:not([hidden])")
    assert shown(page) == list(model.predict(CALL, coverage=0.9).set or ())


@pytest.mark.slow
def test_a_model_without_sets_says_so(opened: Open) -> None:
    page = opened()
    patched(page, "**/v1/model", coverages=[])
    page.reload()
    page.wait_for_selector("#labels input", state="attached")
    page.click("#options summary")
    assert page.is_disabled("#coverage")
    assert page.evaluate(NOTE) == "This model cannot give sets: it was not measured on enough clips."
    assert page.get_attribute("#coverage", "aria-describedby") == "coverage-note"
    answered(page)
    assert page.is_hidden("#set")


@pytest.mark.slow
def test_labels_that_too_few_measured_clips_have_are_refused_in_one_line(opened: Open) -> None:
    page = asking(opened())
    refused = {"error": {"code": "bad_option", "message": "no sets of 'tiny' for fear, anger: coverage 0.95: 3 clips"}}
    page.route("**/v1/predict", lambda route: route.fulfill(status=422, json=refused))
    give(page, CLIP)
    page.wait_for_selector("#problem:not([hidden])")
    assert page.inner_text("#problem") == "No sets of 'tiny' for fear, anger: coverage 0.95: 3 clips"


@pytest.mark.parametrize(("width", "scheme"), [pytest.param(1100, "light", marks=pytest.mark.slow), (320, "dark")])
def test_a_set_of_all_emotions_rules_none_out_and_fits(opened: Open, model: Model, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    page = asking(opened(width, scheme))
    known = model.predict(CLIP).probabilities
    many = [*known, "boredom", "disappointment_mixed_with_resignation"]
    patched(page, "**/v1/predict", set=many, scores={**dict.fromkeys(many, 0.0), **known})
    answered(page, CLIP)
    assert shown(page) == many
    assert "All emotions are in it, so it rules none out." in page.inner_text("#set")
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.run(page).response["violations"]
    assert [(v["id"], [n["target"] for n in v["nodes"]]) for v in found] == []
    page.select_option("#by", "channel")
    assert axe.run(page).response["violations"] == []
