"""Numbers as JSON → one HTML page, the same in Markdown, figures as files; of a report also a LaTeX table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FIGURES = (
    "forest", "differences", "confusion_stack", "confusion_best", "classes", "slices", "curves", "components",
    "reliability",
)  # fmt: skip


def write_report(folder: Path) -> Path:
    """Write ``report.html``, ``report.md``, ``report.tex`` and ``figures/*.svg`` beside ``report.json``.

    The same report.json gives the same bytes. The page asks the network for nothing, runs no script, and
    treats every text of report.json as text.

    Args:
        folder: where report.json lies, such as ``RUN/report``.

    Returns:
        The path of the HTML page.

    Raises:
        SerkitError: report.json is missing, or is not a report of this version.
    """
    from serkit.files import write_text
    from serkit.reporting import pages
    from serkit.reporting.content import content
    from serkit.reporting.reading import read

    folder = Path(folder)
    found = content(read(folder))
    style = pages.css("figure.css")
    for key in FIGURES:
        file = folder / "figures" / f"{key}.svg"
        if key in found["figures"]:
            write_text(file, found["figures"][key].file(style))
        else:
            file.unlink(missing_ok=True)
    write_text(folder / "report.md", pages.markdown_page(found))
    write_text(folder / "report.tex", pages.tex_table(found))
    page = folder / "report.html"
    write_text(page, pages.html_page(found))
    return page


def write_ablation(folder: Path) -> Path:
    """Write ``ablation.html``, ``ablation.md`` and ``figures/*.svg`` beside ``ablation.json``.

    Args:
        folder: where ablation.json lies, such as ``OUT/report``.

    Returns:
        The path of the HTML page.

    Raises:
        SerkitError: ablation.json is missing, or is not one of this version.
    """
    from serkit.files import write_text
    from serkit.reporting import pages
    from serkit.reporting.ablation import ablation_content, read_ablation

    folder = Path(folder)
    found = ablation_content(read_ablation(folder))
    style = pages.css("figure.css")
    for key in ("differences", "seeds", "curves", "components"):
        file = folder / "figures" / f"{key}.svg"
        if key in found["figures"]:
            write_text(file, found["figures"][key].file(style))
        else:
            file.unlink(missing_ok=True)
    write_text(folder / "ablation.md", pages.markdown_page(found, "ablation"))
    page = folder / "ablation.html"
    write_text(page, pages.html_page(found, "ablation"))
    return page


def write_conditions(folder: Path, tree: Mapping[str, Any]) -> Path:
    """Write ``conditions.html``, ``conditions.md`` and ``figures/conditions.svg``.

    Args:
        folder: where they go. tree: what ``serkit measure --under`` found, as its report.json has it.

    Returns:
        The path of the HTML page.
    """
    from serkit.files import write_text
    from serkit.reporting import pages
    from serkit.reporting.conditions import conditions_content

    found = conditions_content(tree)
    figure = found["figures"]["conditions"]
    write_text(folder / "figures" / "conditions.svg", figure.file(pages.css("figure.css")))
    write_text(folder / "conditions.md", pages.markdown_page(found, "conditions"))
    page = folder / "conditions.html"
    write_text(page, pages.html_page(found, "conditions"))
    return page


def write_matrix(folder: Path) -> Path:
    """Write ``matrix.html`` and ``matrix.md`` beside ``matrix.json``: a table of train by test.

    Args:
        folder: where matrix.json lies, such as ``OUT/report``.

    Returns:
        The path of the HTML page.

    Raises:
        SerkitError: matrix.json is missing, or is not one of this version.
    """
    from serkit.files import write_text
    from serkit.reporting import pages
    from serkit.reporting.matrix import matrix_content, read_matrix

    folder = Path(folder)
    found = matrix_content(read_matrix(folder))
    write_text(folder / "matrix.md", pages.markdown_page(found, "matrix"))
    page = folder / "matrix.html"
    write_text(page, pages.html_page(found, "matrix"))
    return page
