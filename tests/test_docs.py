"""The documentation is true: its blocks run, its tables are what the code says, its paths exist.

What runs: every ``python`` block, and every line ``$ serkit …`` (or ``$ NAME=VALUE serkit …``) of a ``console``
block, top to bottom, one folder for each document. Lines under a command must be found in what it prints (``…``
stands for anything). A block under a line such as ```two.yaml`:`` is written to that file. A block under a line
that starts with ``*Not run in the tests`` is passed over, which a reader sees as well. ``bash`` blocks (git, make,
pip) are not run and may not hold serkit commands.

Generated tables are those of ``doc_tables.py``.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
import yaml

import warm
from doc_tables import DOCUMENTS, NAMES, ROOT, TABLE, TABLES, cells, written
from serkit import cli
from serkit.recipe import parse_recipe

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
FILE_LINE = re.compile(r"`(?P<name>[\w./-]+\.\w+)`:")
NOT_RUN = "*Not run in the tests"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, first line number, text, and the line of text above it."""

    language: str
    line: int
    text: str
    above: str

    @property
    def is_run(self) -> bool:
        return not self.above.startswith(NOT_RUN)

    @property
    def file(self) -> str | None:
        match = FILE_LINE.search(self.above) if self.above.endswith(":") else None
        return match["name"] if match else None


def blocks(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        above = next((x.strip() for x in reversed(before.splitlines()) if x.strip()), "")
        body = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.M)
        found.append(Block(match["language"], before.count("\n") + 1, body, above))
    return found


# ---------------------------------------------------------------- blocks run


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A home of its own, so that neither the user's settings nor features are touched; shared by all documents."""
    home = tmp_path_factory.mktemp("home")
    return {
        **os.environ,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "SERKIT_CONFIG": str(home / "config"),
        "PYTHONPATH": os.pathsep.join(["src", *os.environ.get("PYTHONPATH", "").split(os.pathsep)]).replace(
            "src", str(ROOT / "src"), 1
        ),
        "COLUMNS": "160",
        "HF_HUB_OFFLINE": "1",
    }


def run(words: list[str], folder: Path, environment: dict[str, str], where: str) -> str:
    out = folder.with_name(f"{folder.name}.printed")
    out.unlink(missing_ok=True)
    code = warm.run(words, folder, environment, out, timeout_s=600)
    printed = out.read_text(encoding="utf-8")
    assert code == 0, f"{where}: exit {code}\n{printed[-3000:]}"
    return printed


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Each ``$ command`` (with continued lines) and the output shown under it."""
    lines = text.replace("\\\n", " ").splitlines()
    command, shown = "", []
    for line in [*lines, "$ "]:
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(shown)
            command, shown = line[2:], []
        else:
            shown.append(line)


def normal(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("name", [
    pytest.param(n, marks=[pytest.mark.slow] * (n == "docs/finetune.md"))  # it trains a transformer
    for n, p in zip(NAMES, DOCUMENTS, strict=True)
    if any(b.is_run and b.language in ("python", "console") for b in blocks(p))
])  # fmt: skip
def test_blocks_run(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    for block in blocks(ROOT / name):
        where = f"{name}:{block.line}"
        if not block.is_run:
            continue
        if block.file:
            target = tmp_path / block.file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            run(["-c", block.text], tmp_path, environment, where)
        elif block.language == "console":
            for command, shown in commands(block.text):
                words = shlex.split(command, comments=True)
                here = environment
                while "=" in words[0]:
                    key, _, value = words.pop(0).partition("=")
                    old = environment.get(key, "")
                    here = {**here, key: os.pathsep.join([value, old]) if key == "PYTHONPATH" else value}
                assert words[0] == "serkit", f"{where}: '$ {command}': a console block holds serkit commands"
                printed = normal(run(["-m", "serkit.cli", *words[1:]], tmp_path, here, where))
                pattern = ".*".join(re.escape(normal(part)) for part in shown.split("…"))
                assert re.search(pattern, printed, re.S), f"{where}: expected\n{shown}\nprinted\n{printed[-2000:]}"


@pytest.mark.parametrize("name", NAMES)
def test_blocks_are_of_a_known_kind(name: str) -> None:
    for block in blocks(ROOT / name):
        where = f"{name}:{block.line}"
        assert block.language in ("python", "console", "bash", "yaml", "text", "csv", "json"), f"{where}: no language"
        if block.language == "bash" and block.is_run:
            serkit = [x for x in block.text.splitlines() if re.match(r"(\$ )?(.*/)?serkit ", x)]
            assert not serkit, f"{where}: make it a console block, or say '{NOT_RUN}: why.*' above it"
        if block.language == "yaml":
            tree = yaml.safe_load(block.text)
            plugged = re.search(r"name: \w+\.\w+", block.text)  # a dotted name is there only when the page is run
            if isinstance(tree, dict) and "systems" in tree and not plugged:
                parse_recipe(block.text, where=where)


# ---------------------------------------------------------------- command lines and options

COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
OPTIONS = {o for c in COMMANDS.values() for p in c.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}


def refused(line: str, part: bool) -> str | None:
    """Why the program does not take ``serkit LINE``; without running it. A ``part`` of a line may lack values."""
    name, *words = shlex.split(line, comments=True)
    if name not in COMMANDS:
        return f"no command {name}"
    try:
        with COMMANDS[name].make_context(name, [w for w in words if w not in ("…", "--help", "--version")]):
            return None
    except Exception as error:  # noqa: BLE001  # click's, or those of the copy of click in newer typer
        said = str(getattr(error, "message", error))
        missing = type(error).__name__ == "MissingParameter" or "requires an argument" in said
        example = re.search(r"'[A-Z]+' is not|'/data/\S+' does not exist", said)
        number = "valid integer" in said and re.search(r" [A-Z]\b", line)  # --fold K
        return None if example or number or (part and missing) else said


def test_every_command_line_is_one_that_the_program_takes() -> None:
    """Those of blocks that are not run and those inside sentences, in the documentation and in the source."""
    lines = {}
    for path in (*DOCUMENTS, ROOT / "CHANGELOG.md"):
        for block in blocks(path):
            text = block.text.replace("\\\n", " ") if block.language in ("console", "bash") else ""
            for line in re.findall(r"^(?:\$ )?(?:\w+=\S+ )*(?:\S+/)?serkit (.*)", text, re.M):
                lines[f"{path.name}:{block.line}: {line}"] = (line, False)
    sources = [p for folder in ("src", "benchmarks") for p in (ROOT / folder).rglob("*.py")]
    for path in (*DOCUMENTS, ROOT / "CHANGELOG.md", *sources):
        for line in re.findall(r"`serkit ([a-z][^`{]*)`", FENCE.sub("", path.read_text(encoding="utf-8"))):
            plain = line if "'" in line else re.sub(r"[][]", "", line)
            lines[f"{path.name}: {line}"] = (plain, True)
    assert len(lines) > 200
    assert {where: why for where, line in lines.items() if (why := refused(*line))} == {}


def test_every_option_that_a_page_names_is_there() -> None:
    known = OPTIONS.union(*(re.findall(r"\"(--[\w-]+)\"", p.read_text()) for p in (ROOT / "benchmarks").glob("*.py")))
    named = {(n, o) for n in NAMES for o in re.findall(r"`(--[a-z][\w-]*)", (ROOT / n).read_text(encoding="utf-8"))}
    assert {(page, option) for page, option in named if option not in known} == set()


# ---------------------------------------------------------------- paths and links


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"(?:\]\(|src(?:set)?=\")(?!https?://|#)([^)#\s\"]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{name}: {target}"


def anchors(path: Path) -> set[str]:
    """What ``#…`` may name in a document: its headings, as GitHub writes them in addresses."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", h) for h in re.findall(r"^#+ (.*)$", text, re.M)]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_a_heading(name: str) -> None:
    path = ROOT / name
    links = re.findall(r"\]\((?!https?://)([^)#\s]*)#([^)\s]+)\)", FENCE.sub("", path.read_text(encoding="utf-8")))
    assert [f"{to}#{part}" for to, part in links if part not in anchors(path.parent / to if to else path)] == []


def test_every_picture_is_shown_in_light_and_dark() -> None:
    shown = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    pictures = {path.stem for path in (ROOT / "docs" / "pictures").glob("*.png")}
    assert pictures
    assert not [stem for stem in pictures if f"pictures/{stem}.png" not in shown]
    named = {stem.rpartition("-")[0] for stem in pictures}
    assert pictures == {f"{name}-{scheme}" for name in named for scheme in ("light", "dark")}


@pytest.mark.parametrize("name", NAMES)
def test_paths_exist(name: str) -> None:
    text = FENCE.sub("", (ROOT / name).read_text(encoding="utf-8"))
    examples = ("NAME", "my_", "brier")  # what a reader is asked to write
    for path in re.findall(r"`((?:src|tests|docs|benchmarks|\.ci)/[\w./-]+)`", text):
        assert any(e in path for e in examples) or (ROOT / path).exists(), f"{name}: {path}"


def tree_rows(path: Path) -> dict[str, str]:
    """Entries of a document's tree of ``src/serkit``, with what is said of each."""
    block = next(b for b in blocks(path) if b.text.startswith("src/serkit/"))
    rows = re.findall(r"^[├└]── (\S+)\s+(\S.*)$", block.text, re.M)
    return {name.rstrip("/"): said for name, said in rows}


@pytest.mark.parametrize("name", ["README.md", "docs/architecture.md"])
def test_trees_name_what_is_there(name: str) -> None:
    rows = tree_rows(ROOT / name)
    absent = [r for r in rows if not (ROOT / "src" / "serkit" / r).exists()]
    assert absent == [], f"{name} names what is not there"


def test_the_tree_of_the_architecture_is_the_order_of_the_law() -> None:
    order = pytest.importorskip("test_laws").ORDER
    shown = [r.removesuffix(".py") for r in tree_rows(ROOT / "docs" / "architecture.md")]
    shown = [r for r in shown if r not in ("recipes", "bundles")]  # data, no rooms of their own in the law
    assert shown == list(order), "the tree of docs/architecture.md and ORDER of tests/test_laws.py differ"


def test_what_the_architecture_tells_to_read_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = text.partition("## Where to begin reading")[2].partition("\n## ")[0]
    paths = re.findall(r"`([\w/]+\.py)`", section)
    assert len(paths) > 30
    assert [p for p in paths if not (ROOT / "src" / "serkit" / p).is_file()] == []


def test_functions_that_are_told_with_their_files_are_there() -> None:
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("docs/architecture.md", "CONTRIBUTING.md"))
    found = re.findall(r"`([\w/]+\.py)` \(((?:`\w+`(?:, )?)+)", text)
    told = [(path, name) for path, names in found for name in re.findall(r"\w+", names)]
    assert len(told) > 20
    sources = {path: (ROOT / "src" / "serkit" / path).read_text(encoding="utf-8") for path, _ in told}
    kinds = r"^ *(?:async def|def|class) {0}\b|^{0} = "
    assert [x for x in told if not re.search(kinds.format(x[1]), sources[x[0]], re.M)] == []


def is_source(path: Path) -> bool:
    """Whether there is something to find in a file: not in an ``__init__.py`` of a docstring and names alone."""
    if path.name == "__init__.py":
        return any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in ast.parse(path.read_text()).body)
    return path.suffix in (".py", ".js", ".css", ".html")


FOLDERS = "commands pipeline reporting foundation serving serving/http serving/sound_graphs serving/web"


@pytest.mark.parametrize("folder", FOLDERS.split())
def test_the_architecture_names_every_file(folder: str) -> None:
    path, here = ROOT / "docs" / "architecture.md", ROOT / "src" / "serkit" / folder
    (block,) = [b for b in blocks(path) if b.text.startswith(f"src/serkit/{folder}/\n")]
    rows = re.findall(r"^[├└]── (\S+)\s{2,}\S.*$", block.text, re.M)
    there = [p.name for p in here.iterdir() if p.is_file() and is_source(p)]
    there += [f"{p.name}/" for p in here.iterdir() if p.is_dir() and p.name != "__pycache__"]
    assert sorted(rows) == sorted(there), f"{path.name}: the files of src/serkit/{folder}, one line each"


def test_the_short_tree_of_the_readme_has_the_same_order() -> None:
    short, whole = (tree_rows(ROOT / name) for name in ("README.md", "docs/architecture.md"))
    assert list(short) == [r for r in whole if r in short]


def test_the_page_of_the_service_names_every_error() -> None:
    from serkit.serving.http.errors import STATUS

    text = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    assert [code for code in STATUS if f"`{code}`" not in text] == []


def test_the_source_names_no_page_that_is_not_there() -> None:
    pages = {p.name for p in (ROOT / "docs").glob("*.md")} | {p.name for p in ROOT.glob("*.md")}
    pages |= {p.name for p in (ROOT / "src" / "serkit" / "bundles").glob("*.md")}
    written = ("report.md", "conditions.md", "matrix.md", "card.md", "LICENCE.md")  # by serkit itself
    files = [p for folder in ("src", "benchmarks") for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".yaml")]
    named = {(p.name, n) for p in files for n in re.findall(r"\b[\w-]+\.md\b", p.read_text(encoding="utf-8"))}
    assert {(file, page) for file, page in named if page not in pages and page not in written} == set()


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {p.name for p in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {page for page in pages if f"({page})" not in index} == set()


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_what_the_code_says(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for old, new in zip(TABLE.finditer(text), TABLE.finditer(written(text)), strict=True):
        wrong = [x for x in new["body"].splitlines() if x not in old["body"].splitlines()]
        assert old["body"] == new["body"], f"{name}: table {old['name']}: make docs writes it anew; new: {wrong[:3]}"


def test_every_table_stands_somewhere() -> None:
    found = {m["name"] for p in DOCUMENTS for m in TABLE.finditer(p.read_text(encoding="utf-8"))}
    assert found == set(TABLES)


def test_every_key_has_a_source_and_a_meaning() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    for match in TABLE.finditer(text):
        for line in match["body"].splitlines()[2:]:
            assert all(cells(line)), f"docs/recipes.md, {match['name']}: fill in {line}"
