"""A small report.json, and a reader of pages that notices what is not closed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from serkit.reporting import write_report

LABELS = ["anger", "neutral", "sadness"]
ROUGH = "95% speaker bootstrap (500 draws), rough: 6 speakers"
VALUES = {
    "voice_text": 0.50, "voice_neutral": 0.40, "stack": 0.61, "random_forest": 0.61, "logistic": 0.58, "vote": 0.52,
    "mean_logit": 0.55,
}  # fmt: skip


def metric(value: float, interval: str = ROUGH) -> dict[str, Any]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": 60, "speakers": 6, "interval": interval}


def numbers(value: float) -> dict[str, Any]:
    named = {
        k: metric(value + d) for k, d in (("macro_f1", 0.0), ("uar", 0.01), ("accuracy", 0.02), ("weighted_f1", 0))
    }
    return {
        **named,
        "bs_f1": metric(value - 0.01, "min-max of 100 balanced subsets, 15 per class"),
        "ece": metric(0.123),
    }


def reliability(value: float) -> list[dict[str, float]]:
    row = {"n": 30, "low": value - 0.1, "high": value + 0.1, "accuracy": value}
    return [
        {**row, "from": 0.4, "to": 0.4667, "confidence": 0.45},
        {**row, "from": 0.8, "to": 0.8667, "confidence": 0.84},
    ]


def scaled() -> dict[str, Any]:
    row = {"temperature": [1.5], "fitted": "on dev", "ece": metric(0.05), "reliability": reliability(0.6)}
    return {"stack": {"dev": row, "test": row}}


def details(value: float) -> dict[str, Any]:
    scores = {"precision": value, "recall": value, "f1": value, "support": 20.0}
    one = {"macro_f1": metric(value), "uar": metric(value), "accuracy": metric(value)}
    return {
        "per_class": dict.fromkeys(LABELS, scores),
        "confusion": [[14, 5, 1], [2, 16, 2], [0, 9, 11]],
        "draws": {"bs_f1": [value] * 3},
        "slices": {
            "gender": {"female": one, "male": one, "other": one},
            "duration": {"1 below 2.00 s": one, "3 from 4.00 s": one},
        },
        "reliability": reliability(value),
    }


def gap(highest: str, lowest: str, low: float, high: float, p: float | None) -> dict[str, Any]:
    middle = (low + high) / 2
    return {
        "values": {highest: 0.5 + middle, lowest: 0.5}, "highest": highest, "lowest": lowest, "difference": middle,
        "low": low, "high": high, "p": p, "p_holm": p, "detectable": 0.09,
    }  # fmt: skip


def gaps() -> dict[str, Any]:
    """Of gender a gap that is larger than chance, of duration nothing to compare."""
    found, open_ = gap("male", "female", 0.1, 0.3, 0.004), gap("female", "male", -0.05, 0.11, 0.4)
    size = {"female": 30, "male": 30}
    return {
        "gender": {
            "clips": size, "speakers": dict.fromkeys(size, 3), "left_out": {"other": "2 clips, fewer than 30"},
            "note": "", "moved": "speakers", "crossed": 1, "interval": ROUGH, "classes": LABELS[:2],
            "missing": ["sadness"], "metrics": {"uar": found, "macro_f1": open_},
            "recall": {"anger": found, "neutral": open_}, "share": {x: {**open_, "p_holm": None} for x in LABELS[:2]},
            "truth": {x: {"female": 0.31, "male": 0.42} for x in LABELS[:2]},
        },
        "duration": {
            "clips": {}, "speakers": {}, "left_out": {"3 from 4.00 s": "3 speakers, fewer than 5"},
            "note": "fewer than two groups are large enough to be compared", "moved": "", "crossed": 0, "interval": "",
            "classes": [], "missing": [], "metrics": {}, "recall": {}, "share": {}, "truth": {},
        },
    }  # fmt: skip


def difference(
    other: str, low: float, high: float, p: float, *, split: str = "test", swapped: float = 0.01
) -> dict[str, Any]:
    return {
        "split": split, "metric": "macro_f1", "a": "stack", "b": other, "value_a": 0.61, "value_b": 0.5,
        "difference": (low + high) / 2, "low": low, "high": high, "p": p, "p_permutation": swapped, "p_mcnemar": None,
        "p_holm": min(1.0, 3 * p), "detectable": 0.08, "n": 60, "speakers": 6, "interval": ROUGH,
    }  # fmt: skip


def report() -> dict[str, Any]:
    """A whole report.json of two systems, small enough to read."""
    epochs = [{"epoch": k, "loss": 1.5 / k, "dev_macro_f1": 0.1 * k, "dev_cross_entropy": 1.6 / k} for k in (1, 2, 3)]
    design = {"model": "cross_attention", "losses": ["cross_entropy"], "balance": None, "augment": []}
    mistake = {
        "id": "s1_a", "audio": "audio/s1_a.wav", "corpus": "small", "speaker": "s1", "duration_s": 2.5, "text": "hello",
        "truth": "anger", "answer": "neutral", "confidence": 0.91, "truth_probability": 0.04,
    }  # fmt: skip
    return {
        "format": 1,
        "name": "two",
        "description": "Two systems",
        "corpus": "small",
        "labels": LABELS,
        "best_on_dev": "voice_text",
        "systems": {n: {s: numbers(v) for s in ("train", "dev", "test")} for n, v in VALUES.items()},
        "details": {n: {s: details(v) for s in ("dev", "test")} for n, v in VALUES.items()},
        "gaps": {"stack": {"test": gaps()}},
        "scaled": scaled(),
        "design": {
            "voice_text": {**design, "features": ["voice[pool=4]", "hashed_text/32"], "weights": 12_345},
            "voice_neutral": {**design, "features": ["voice[pool=4]"], "balance": "neutral"},
        },
        "curves": {n: {"fold0": epochs, "fold1": epochs[:2]} for n in ("voice_text", "voice_neutral")},
        "comparisons": [
            difference("voice_text", 0.05, 0.17, 0.004),
            difference("vote", -0.02, 0.11, 0.2),
            difference("mean_logit", 0.02, 0.12, 0.01),
            difference("voice_text", 0.01, 0.1, 0.03, split="dev"),
        ],
        "stack": {
            "kept": "random_forest", "metric": "macro_f1", "out_of_fold": {"random_forest": 0.55, "logistic": 0.57},
            "best_out_of_fold": "logistic",
            "settings": {"trees": 200, "max_depth": 8, "min_leaf": 10, "min_split": 10, "folds": 5},
        },
        "mistakes": {"system": "stack", "split": "test", "rows": [mistake]},
        "counts": {s: dict.fromkeys(LABELS, 20) for s in ("train", "dev", "test")},
        "speakers": {"train": 9, "dev": 3, "test": 6},
        "provenance": {
            "recipe": {"crossfit": {"folds": 3}, "stack": {"in_sample": False}},
            "recipe_fingerprint": "aaaa1111",
            "manifest_fingerprint": "bbbb2222",
            "split_hash": "cccc3333",
            "corpus_info": {
                "corpus_version": "1.0", "protocol": "small-3fold", "protocol_version": 2, "fold": 1, "folds": 3,
                "notes": ["partial copy"], "class_findings": [], "label_map": {"angry": "anger"},
                "count_findings": [{"what": "utterances", "here": 60, "published": 99, "source": "its paper"}],
                "labels": {"mapped": {"calm -> neutral": 12}, "dropped": {"surprise": 4}, "excluded": ["s9"]},
            },
            "speakers_shared": False,
            "features": {
                "voice[pool=4]": {
                    "fingerprint": "dddd4444", "dim": 27, "source": "serkit", "revision": "1",
                    "licence": "Apache-2.0", "note": "stands in for the encoder of the paper",
                }
            },
            "seed": 7,
            "models": ["fold0", "fold1"],
            "versions": {"python": "3.11"},
            "run": {"finished": "2026-01-01T00:00:00+00:00", "cores": 2,
                    "rounding_error": {"voice[pool=4]": 0.000213}},
        },
    }  # fmt: skip


def write(tree: dict[str, Any], folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(tree), encoding="utf-8")
    return write_report(folder).read_text(encoding="utf-8")


class Page(HTMLParser):
    """Reads a page and holds it to what every page promises.

    All tags are closed, nothing runs, links lead to what is on the page or to ``pages`` beside it, there is one title.
    """

    VOID = frozenset({"meta", "link", "br", "hr", "img", "input", "wbr"})

    def __init__(self, text: str, pages: Sequence[str] = ()) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []
        assert not {"script", "img"} & set(self.tags)
        assert self.handlers == []
        assert [a for a in self.addresses if not a.startswith(("#", "data:"))] == list(pages)
        assert {a[1:] for a in self.addresses if a.startswith("#")} <= set(self.ids)
        assert len(self.ids) == len(set(self.ids))
        assert self.tags.count("h1") == 1

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
                self.addresses.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
            if name == "id":
                self.ids.append(value or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def check_drawings(folder: Path, names: set[str] | None = None) -> None:
    """The figures of a page are drawings in which nothing runs or leads elsewhere, and are called so."""
    files = list((folder / "figures").iterdir())
    assert names is None or {f.stem for f in files} == names
    for file in files:
        root = ElementTree.parse(file).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        inside = {e.tag.rpartition("}")[2] for e in root.iter()}
        assert not inside & {"script", "img", "image", "foreignObject", "a", "use"}


def check_tables(markdown: str) -> int:
    """The tables of a text are rectangular; how many they are."""
    n_tables = 0
    for block in re.split(r"\n(?!\|)", markdown):
        rows = [len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines() if row.startswith("|")]
        assert len(set(rows)) <= 1, block
        n_tables += bool(rows)
    return n_tables


def in_browser(folder: Path) -> str:
    """What Chromium makes of ``report.html`` on a narrow page: its width, its headings, whether wide drawings show."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here")
    probe = "<body><iframe id=f src=report.html style='width:380px;height:900px;border:0'></iframe><script>\
onload=()=>{const d=document.getElementById('f').contentDocument;document.title='width '+d.documentElement.scrollWidth+\
' h1 '+d.querySelectorAll('h1').length+' narrow '+getComputedStyle(d.querySelector('.wide')).display}</script>"
    (folder / "probe.html").write_text(probe, encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--allow-file-access-from-files", "--virtual-time-budget=3000",
        "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}", "--dump-dom", f"file://{folder / 'probe.html'}",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("chromium does not answer here")
    return done.stdout
