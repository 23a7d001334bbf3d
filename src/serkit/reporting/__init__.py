"""Numbers as JSON → one HTML page, the same in Markdown, figures as files; of a report also a LaTeX table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FIGURES = (
    "forest", "differences", "confusion_stack", "confusion_best", "classes", "slices", "curves", "components",
    "reliability",
)  # fmt: skip
_CONDITIONS = "conditions"  # page and figure


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
    write_text(folder / "report.tex", pages.tex_table(found))
    return _write(folder, "report", found, FIGURES)


def write_ablation(folder: Path) -> Path:
    """Write ``ablation.html``, ``ablation.md`` and figures beside ``ablation.json``, as :func:`write_report` does."""
    from serkit.reporting.ablation import ablation_content, read_ablation

    folder = Path(folder)
    figures = ("differences", "seeds", "curves", "components")
    return _write(folder, "ablation", ablation_content(read_ablation(folder)), figures)


def write_tuning(folder: Path) -> Path:
    """Write ``tuning.html``, ``tuning.md`` and figures beside ``tuning.json``, as :func:`write_report` does."""
    from serkit.reporting.tuning import read_tuning, tuning_content

    folder = Path(folder)
    found = tuning_content(read_tuning(folder))
    return _write(folder, "tuning", found, tuple(found["figures"]))


def write_measured(folder: Path, tree: Mapping[str, Any]) -> Path:
    """Write ``report.html``, ``report.md`` and ``figures/*.svg`` of one or two measured bundles.

    The same tree gives the same bytes. Its texts are shown as text, never as markup. A page of conditions that an
    earlier command left in the folder goes where this one has none: its numbers are not of this report.

    Args:
        folder: where they go. tree: what ``serkit measure`` found, as its report.json has it.

    Returns:
        The path of the HTML page.
    """
    from serkit.reporting.measured import FIGURES as OF_MEASURED
    from serkit.reporting.measured import measured_content

    if "under" not in tree:
        for left in (*(f"{_CONDITIONS}.{suffix}" for suffix in ("html", "md")), f"figures/{_CONDITIONS}.svg"):
            (folder / left).unlink(missing_ok=True)
    return _write(folder, "report", measured_content(tree), OF_MEASURED, "measured")


def write_conditions(folder: Path, tree: Mapping[str, Any]) -> Path:
    """Write ``conditions.html``, ``conditions.md`` and ``figures/conditions.svg``, beside :func:`write_measured`.

    Args:
        folder: where they go. tree: what ``serkit measure --under`` found, as its report.json has it.

    Returns:
        The path of the HTML page.
    """
    from serkit.reporting.conditions import conditions_content

    return _write(folder, _CONDITIONS, conditions_content(tree), (_CONDITIONS,))


def write_matrix(folder: Path) -> Path:
    """Write ``matrix.html`` and ``matrix.md``, train by test, beside ``matrix.json``, as :func:`write_report` does."""
    from serkit.reporting.matrix import matrix_content, read_matrix

    folder = Path(folder)
    return _write(folder, "matrix", matrix_content(read_matrix(folder)), ())


def _write(folder: Path, name: str, found: dict[str, Any], figures: Sequence[str], template: str = "") -> Path:
    """Write a page as HTML and Markdown, and those of its figures that it has; the path of the HTML page.

    Args:
        name: of the files. found, figures: what the page has, and the figures that it may have. template: if it is
            not called as the files are.
    """
    from serkit.files import write_text
    from serkit.reporting import pages

    style = pages.css("figure.css")
    for key in figures:
        file = folder / "figures" / f"{key}.svg"
        if key in found["figures"]:
            write_text(file, found["figures"][key].file(style))
        else:
            file.unlink(missing_ok=True)
    write_text(folder / f"{name}.md", pages.markdown_page(found, template or name))
    page = folder / f"{name}.html"
    write_text(page, pages.html_page(found, template or name))
    return page
