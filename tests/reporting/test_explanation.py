"""An explanation as text and as a page: every part is there, and no text is trusted."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from serkit import cli
from serkit.errors import SerkitError
from serkit.reporting.explanation import explanation_page, explanation_text
from serving.signals import GOLDEN

from .example import Page

ROW: dict[str, Any] = {
    "label": "anger", "probability": 0.7, "answer": "anger", "confidence": 0.7, "abstain": "",
    "probabilities": {"anger": 0.7, "fear": 0.2, "calm": 0.1},
    "stretches": [
        {"start_s": 0.0, "end_s": 0.15, "effect": 0.0},
        {"start_s": 0.15, "end_s": 0.3, "effect": 1.25},
        {"start_s": 0.3, "end_s": 0.45, "effect": -0.5},
    ],
    "cues": [
        {"name": "f0_semitones", "words": "pitch", "unit": "Hz", "salient": 300.0, "clip": 200.0, "deviations": 1.5,
         "n_frames": 20}
    ],
    "words": [{"text": "<b>never</b>", "effect": 0.4}, {"text": "mind", "effect": -0.3}],
    "altered": [{"name": "softer", "words": "10 dB softer", "label": "calm", "confidence": 0.6, "probability": 0.3}],
    "systems": [{"system": "voice", "label": "anger", "confidence": 0.9, "probability": 0.9}],
    "n_salient": 1, "peaks": [0.1] * 18, "peak_s": 0.025, "start_s": 0.0, "end_s": 0.45, "model": "m@1",
    "path": "a.wav",
}  # fmt: skip


def test_text_says_where_what_and_which() -> None:
    text = explanation_text(ROW)
    assert "a.wav, 0.00 to 0.45 s: anger 0.70; then fear 0.20, calm 0.10" in text
    assert "  for     ·█·\n  against ··▄\n" in text
    assert "strongest for it: 0.15-0.30 s +1.25\n" in text
    assert "strongest against it: 0.30-0.45 s −0.50\n" in text
    assert "pitch  300 Hz  200 Hz  +1.5 sd" in text
    assert "'<b>never</b>' +0.40" in text
    assert "10 dB softer  calm 0.60  anger 0.30" in text
    assert "voice  anger 0.90\n" in text


def test_text_says_what_is_explained_where_it_is_not_the_answer() -> None:
    other = {**ROW, "label": "fear", "probability": 0.2, "abstain": "unsure", "words": [], "cues": []}
    text = explanation_text(other)
    assert "anger 0.70 (unsure); then fear 0.20, calm 0.10; explained: fear 0.20" in text
    assert "Words" not in text
    assert "Voice" not in text


def test_page_is_well_formed_and_trusts_no_text() -> None:
    text = explanation_page(ROW)
    page = Page(text)
    assert page.tags.count("svg") == 2
    assert "<b>never</b>" not in text
    assert "&lt;b&gt;never" in text
    assert "0.15 to 0.30 s: +1.25 nats" in text
    bare = copy.deepcopy(ROW)
    bare.update(words=[], cues=[], n_salient=0)
    assert 'id="voice"' not in explanation_page(bare)


@pytest.mark.parametrize("suffix", [".html", ".json", ".txt"])
def test_the_command_writes_what_the_name_of_the_file_asks_for(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"why{suffix}"
    done = CliRunner().invoke(
        cli.app, ["explain", "example", "--model", str(GOLDEN), "--end", "2.0", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    start = {".html": "<!doctype html>", ".json": '{\n "label"', ".txt": "example, 0.00 to 2.00 s: "}[suffix]
    assert start in out.read_text(encoding="utf-8")[:200]


def test_the_command_refuses_where_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(SerkitError, match=r"no format ends in '\.pdf'"):
        CliRunner().invoke(cli.app, ["explain", "example", "--out", "a.pdf"], catch_exceptions=False)
    (tmp_path / "file").touch()
    with pytest.raises(SerkitError, match=r"^--out \S+/file/a\.html cannot be written: File exists$"):
        CliRunner().invoke(
            cli.app, ["explain", "nothing.wav", "--out", str(tmp_path / "file" / "a.html")], catch_exceptions=False
        )  # before anything is explained
