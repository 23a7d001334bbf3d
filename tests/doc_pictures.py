"""The pictures of the documentation, ``docs/pictures``, taken anew in Chromium in light and dark.

``python tests/doc_pictures.py`` takes those of the service's page, with the default model and the example recording.
``python tests/doc_pictures.py REPORT.html`` takes those of a report as well: its head, and its first confusions.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from doc_tables import ROOT
from serving.page import CHROMIUM, served

FOLDER = ROOT / "docs" / "pictures"
SCHEMES = ("light", "dark")
WIDTH = 920
MARGIN = 8


def save(name: str, page: Any, first: str, last: str) -> None:
    """What a page shows from the top of one element to the bottom of another."""
    page.evaluate("window.scrollTo(0, 0)")
    top, bottom = page.locator(first).first.bounding_box(), page.locator(last).first.bounding_box()
    y = max(top["y"] - MARGIN, 0)
    clip = {"x": 0, "y": y, "width": WIDTH, "height": bottom["y"] + bottom["height"] + MARGIN - y}
    page.screenshot(path=FOLDER / f"{name}.png", full_page=True, clip=clip)


def take(report: Path | None) -> None:
    """Take them all."""
    with served("default") as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for scheme in SCHEMES:
            page = browser.new_page(
                viewport={"width": WIDTH, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
            )
            page.goto(url)
            page.click("#example")
            page.wait_for_selector("#result:not([hidden])")
            page.wait_for_selector("#timeline canvas, #timeline svg")
            save(f"page-{scheme}", page, "#result", "#timeline")
            if report is not None:
                page.goto(report.resolve().as_uri())
                save(f"report-{scheme}", page, "header", "aside")
                save(f"confusions-{scheme}", page, "#confusion", "#confusion figure")
        browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
