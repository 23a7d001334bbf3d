"""The page with a speaker on each channel: two waves, two rows, and files as predict writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from serkit.serving import formats
from serkit.serving.predictor import Model

from .page import Open, answered, until
from .signals import quiet, voice, wav

LEFT, RIGHT = voice(1.6, 1, 110.0), voice(1.6, 2, 190.0)
#: The right one speaks first.
PAUSE = quiet(1.0)
CALL = wav(
    np.stack(
        [np.concatenate([PAUSE, *x, PAUSE]) for x in ((0 * RIGHT, PAUSE, LEFT), (RIGHT, PAUSE, 0 * LEFT))], axis=1
    ),
    subtype="PCM_16",
)


def by_channel(page: Any) -> Any:
    page.click("#options summary")
    page.select_option("#by", "channel")
    return page


#: How high the drawing reaches between two heights and two shares of the time, in pixels of the page.
DRAWN = """([top, bottom, from, to]) => {
    const canvas = document.querySelector("#timeline canvas");
    const ratio = canvas.width / canvas.clientWidth;
    const gutter = canvas.width * 0.2;
    const left = Math.round(gutter + from * (canvas.width - gutter));
    const wide = Math.round((to - from) * (canvas.width - gutter));
    const pixels = canvas.getContext("2d").getImageData(left, top * ratio, wide, (bottom - top) * ratio);
    const rows = new Set();
    pixels.data.forEach((value, k) => { if (k % 4 === 3 && value) rows.add(Math.floor(k / 4 / pixels.width)); });
    return rows.size / ratio;
}"""


def test_each_channel_has_its_wave_and_its_row(opened: Open, model: Model) -> None:
    page = answered(by_channel(opened(1000)), CALL)
    truth = model.predict(CALL, by="channel")
    assert [s.speaker for s in truth.segments] == ["channel 2", "channel 1"]
    assert page.locator("#parts td.speaker").all_inner_texts() == ["channel 2", "channel 1"]
    first, second = (4, 60), (84, 140)  # a wave of 56 pixels each, and below it who speaks: 24
    early, late = (0.2, 0.3), (0.75, 0.85)
    high = {(wave, span): page.evaluate(DRAWN, [*wave, *span]) for wave in (first, second) for span in (early, late)}
    assert high[second, early] > 20 > 3 > high[first, early]
    assert high[first, late] > 20 > 3 > high[second, late]
    page.focus("#timeline")
    page.keyboard.press("Shift+ArrowRight")
    assert ", channel 2, " in page.get_attribute("#timeline", "aria-valuetext")
    mixed = opened(1000)
    answered(mixed, CALL)  # not by channel: one wave, in which both are seen
    assert min(mixed.evaluate(DRAWN, [4, 88, *span]) for span in (early, late)) > 20


def test_it_is_saved_as_predict_writes_it(opened: Open, model: Model) -> None:
    page = answered(by_channel(opened()), CALL)
    truth = model.predict(CALL, by="channel")
    for kind in ("rttm", "textgrid", "srt", "vtt", "json"):
        with page.expect_download() as saved:
            page.click(f"[data-save={kind}]")
        text = Path(saved.value.path()).read_text(encoding="utf-8")
        if kind == "json":
            told, row = json.loads(text), truth.to_row()
            assert told["granularity"] == "channel"
            assert list(told) == list(row)  # key by key in the same order: the file is that of `serkit predict`
            assert list(told["speakers"][0]) == list(row["speakers"][0])
            assert list(told["segments"][0]) == list(row["segments"][0])
        elif kind == "rttm":
            assert text.replace(" call ", " - ") == formats.document(kind, [truth], timeline=True)
        else:
            if kind == "textgrid":
                assert text.index('"emotion channel 1"') < text.index('"emotion channel 2"')
            assert text == formats.document(kind, [truth], timeline=True)


def test_a_transcript_without_channels_does_not_go_with_it_and_the_example_does(opened: Open) -> None:
    page = by_channel(opened())
    page.click("#example")  # mono: one speaker, and no words
    page.wait_for_selector("#result:not([hidden])")
    assert set(page.locator("#parts td.speaker").all_inner_texts()) == {"channel 1"}
    words = json.dumps([{"start_s": 0, "end_s": 1, "text": "well"}]).encode()
    page.set_input_files("#transcript", {"name": "w.json", "mimeType": "application/json", "buffer": words})
    page.wait_for_selector("#by option[value=sentence]:not([disabled])", state="attached")
    page.set_input_files("#file", {"name": "call.wav", "mimeType": "audio/wav", "buffer": CALL})
    until(page, "document.getElementById('problem').textContent.includes('ords of nobody: by')")
