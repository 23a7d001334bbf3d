"""Content → HTML, Markdown and LaTeX: three templates over the same tables."""

from __future__ import annotations

import functools
import re
from typing import Any

from markupsafe import Markup, escape

# characters of Markdown that would start a link, a tag, a list, an emphasis or a column
_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#&~$])")
_TEX = {
    "\\": r"\textbackslash{}", "[": "{[}", "]": "{]}",
    "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "−": "$-$", "…": r"\ldots{}",
    "\u202f": r"\,", "\u00a0": "~", "→": r"$\to$", "<": r"\textless{}", ">": r"\textgreater{}", "“": "``", "”": "''",
}  # fmt: skip


def breakable(value: Any) -> Markup:
    """Escaped text that may break after an underscore, a slash or a comma, but not inside an interval; and before @.

    >>> print(breakable("[0.1, 0.2] of a, b@1"))
    [0.1, 0.2] of a,<wbr> b<wbr>@1
    """
    return Markup(re.sub(r"([_/]|,(?! [+−]?\d)|(?=@))", r"\1<wbr>", str(escape(value))))


def markdown_text(value: Any) -> str:
    """Text that Markdown shows as it is, on one line.

    >>> markdown_text("a|b\\n<i>_x_")
    'a\\\\|b \\\\<i\\\\>\\\\_x\\\\_'
    """
    text = re.sub(r"[ \t\r\n]+", " ", str(value)).strip()
    text = _MARKDOWN.sub(r"\\\1", text)
    # an address must not become a link by itself
    return text.replace("://", ":\u200b//").replace("www.", "www\u200b.")


def tex_text(value: Any) -> str:
    """Text that LaTeX sets as it is, on one line.

    >>> tex_text("50 % of a_b")
    '50 \\\\% of a\\\\_b'
    """
    text = re.sub(r"[ \t\r\n]+", " ", str(value)).strip()
    return "".join(_TEX.get(c, c) for c in text)


@functools.lru_cache(maxsize=2)
def _environment(autoescape: bool) -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("serkit.reporting", "templates"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["breakable"] = breakable
    environment.filters["md"] = markdown_text
    environment.filters["tex"] = tex_text
    return environment


def css(name: str) -> str:
    """A stylesheet of the templates folder."""
    from importlib.resources import files

    return files("serkit.reporting").joinpath("templates", name).read_text(encoding="utf-8")


def html_page(found: dict[str, Any], name: str = "report") -> str:
    """The report, or another page by name, as one page that needs nothing else."""
    template = _environment(autoescape=True).get_template(f"{name}.html.j2")
    # our own stylesheets, the only text that is not escaped
    style = Markup(css("figure.css") + css("page.css"))
    return str(template.render(style=style, **found))


def markdown_page(found: dict[str, Any], name: str = "report") -> str:
    """The report, or another page by name, as GitHub-flavoured Markdown, figures beside it."""
    text = str(_environment(autoescape=False).get_template(f"{name}.md.j2").render(**found))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def tex_table(found: dict[str, Any]) -> str:
    """The table of systems for a paper (needs booktabs)."""
    return str(_environment(autoescape=False).get_template("report.tex.j2").render(**found))
