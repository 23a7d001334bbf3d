"""report.json as read from disk → what the pages need. Its texts are cleaned, never trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serkit.errors import RunFailed, SerkitError
from serkit.leads import OF_RATERS
from serkit.reporting.text import clean, finite
from serkit.stacking import ENSEMBLES, leading

FORMAT = 1
NEEDED = {"name": str, "corpus": str, "labels": list, "best_on_dev": str, "systems": dict}
BY_SPLIT = ("train", "dev", "test")


@dataclass(frozen=True)
class Source:
    """A measured run.

    Attributes:
        tree: the content of report.json, its texts cleaned.
    """

    tree: Mapping[str, Any]

    @property
    def labels(self) -> list[str]:
        """The classes."""
        return [str(label) for label in self.tree["labels"]]

    @property
    def best(self) -> str:
        """The single system that is best on dev."""
        return str(self.tree["best_on_dev"])

    @property
    def kept(self) -> str | None:
        """Which meta-model is the stack."""
        return self.part("stack").get("kept")

    @property
    def ensemble(self) -> str | None:
        """What the leading ensemble is called in a sentence: ``stack``, ``mean logit``, or nothing without one."""
        return ENSEMBLES.get(self.lead)

    @property
    def singles(self) -> list[str]:
        """Base systems, in the order of the recipe."""
        return [n for n in self.tree["systems"] if n not in ENSEMBLES]

    @property
    def members(self) -> list[str]:
        """Systems that ensembles combine: those of the recipe, without the best of each fold's dev."""
        return [n for n in self.singles if n in self.part("design")] or self.singles

    @property
    def ensembles(self) -> list[str]:
        """Ensembles, without the one that the stack is a copy of."""
        twin = self.kept if "stack" in self.tree["systems"] else None
        return [n for n in ENSEMBLES if n in self.tree["systems"] and n != twin]

    @property
    def lead(self) -> str:
        """Whose numbers the page leads with: what a bundle of the run answers with.

        The stack; where there is none the mean logit; where there is no ensemble the best single system.
        """
        said, systems = self.tree.get("lead"), self.tree["systems"]
        if isinstance(said, str) and said in systems:
            return said
        return leading(systems) or self.best  # as an earlier serkit left it to the reader

    @property
    def authors_answer(self) -> str | None:
        """The row that the authors of a published recipe answer with, where the page leads with another one."""
        said = self.tree.get("published_answer")
        return said if isinstance(said, str) and said in self.tree["systems"] and said != self.lead else None

    @property
    def split(self) -> str:
        """Where it leads: test, or dev where test has no labels or was left out."""
        return "test" if "test" in self.tree["systems"].get(self.lead, {}) else "dev"

    @property
    def why_dev(self) -> str:
        """Why it leads on dev: test was left out, or has no labels."""
        left_out = any(info.get("no_test") for info in self.corpora.values())
        return "Test was left out" if left_out else "Test has no labels here"

    @property
    def splits(self) -> list[str]:
        """The splits that were measured."""
        return [s for s in BY_SPLIT if s in self.tree["systems"].get(self.lead, {})]

    @property
    def folds(self) -> list[Mapping[str, Any]]:
        """The numbers of each fold of a cross-validation; none of one run."""
        return [f for f in self.tree.get("folds") or [] if isinstance(f, dict)]

    @property
    def across(self) -> list[dict[str, Any]]:
        """Numbers of each corpus that is test as a whole; none of other runs."""
        needed = ("tested_on", "trained_on", "shared", "systems", "n", "speakers")
        rows = self.tree.get("across") or []
        return [r for r in rows if isinstance(r, dict) and all(k in r for k in needed) and r["shared"]]

    @property
    def pooled(self) -> list[str]:
        """The numbers of the folds whose rows are pooled; none of one run."""
        found = [str(f.get("fold") if isinstance(f, dict) else f) for f in self.tree.get("folds") or []]
        return found if len(found) > 1 else []

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the numbers come from."""
        return self.part("provenance")

    @property
    def corpora(self) -> dict[str, Mapping[str, Any]]:
        """What is known of each corpus, by name."""
        about = self.provenance.get("corpus_info") or {}
        several = about.get("corpora")
        if isinstance(several, dict):
            return {name: info if isinstance(info, dict) else {} for name, info in several.items()}
        return {str(self.tree["corpus"]): about}

    def part(self, key: str) -> dict[str, Any]:
        """A part of the tree that is a mapping, empty where it is absent."""
        found = self.tree.get(key)
        return found if isinstance(found, dict) else {}

    def metric(self, system: str, split: str, name: str) -> dict[str, Any]:
        """``{value, low, high, n, speakers, interval}``, empty where it was not measured."""
        found = self.tree["systems"].get(system, {}).get(split, {}).get(name)
        return found if isinstance(found, dict) and finite(found.get("value")) is not None else {}

    def details(self, system: str, split: str) -> dict[str, Any]:
        """Per class, confusion, draws and slices."""
        found = self.part("details").get(system, {}).get(split)
        return found if isinstance(found, dict) else {}

    def labels_of(self, split: str) -> list[str]:
        """The classes that can be an answer on a split: of a test on other corpora those that training shares."""
        shared = {str(label) for row in self.across for label in row["shared"]}
        return [label for label in self.labels if not shared or split != "test" or label in shared]

    def per_class(self, system: str, split: str) -> dict[str, Any]:
        """Precision, recall, F1 and support by class of :meth:`labels_of`."""
        found = self.details(system, split).get("per_class") or {}
        return {label: found[label] for label in self.labels_of(split) if label in found}

    def confusion(self, system: str, split: str) -> list[list[int]]:
        """Counts, truth by row, of the classes of :meth:`labels_of`; empty where none was measured."""
        matrix = self.details(system, split).get("confusion") or []
        kept = [k for k, label in enumerate(self.labels) if label in self.labels_of(split)]
        return [[matrix[r][c] for c in kept] for r in kept] if matrix else []

    def display(self, system: str) -> str:
        """How a system is called on the page."""
        if system == "stack" and self.kept:
            return f"stack ({ENSEMBLES.get(self.kept, self.kept)})"
        return ENSEMBLES.get(system, system)

    @property
    def out_of_fold(self) -> bool:
        """Whether the scores on train are by networks that did not hear the clip."""
        return bool((self.provenance.get("recipe") or {}).get("crossfit"))

    @property
    def learned_on(self) -> str:
        """Where stacks were fitted, to begin a sentence with."""
        return "Out of fold" if self.out_of_fold else "On clips that the systems were trained on"

    def named(self, system: str) -> str:
        """The same in a sentence: an ensemble has an article, a system of the recipe is a name."""
        return f"the {self.display(system)}" if system in ENSEMBLES else self.display(system)

    def kind(self, system: str) -> str:
        """``stack``, ``lead`` (an ensemble that leads without being a stack), ``best``, ``ensemble`` or ``system``.

        The only single system is not called the best of them.
        """
        if system in ENSEMBLES and system == self.lead:
            return "stack" if system == "stack" else "lead"
        if system == self.best and len(self.singles) > 1:
            return "best"
        return "ensemble" if system in ENSEMBLES else "system"

    @property
    def comparisons(self) -> list[dict[str, Any]]:
        """The paired comparisons, without the stack against its own copy."""
        return [c for c in self.tree.get("comparisons") or [] if isinstance(c, dict) and c.get("b") != self.kept]

    @property
    def best_by(self) -> str:
        """The metric by which :attr:`best` is best: ``macro_f1``, ``ccc`` or ``kl``."""
        said = self.tree.get("best_by")
        return said if isinstance(said, str) and said in OF_RATERS else "macro_f1"

    @property
    def led_by(self) -> str:
        """What the page begins with: ``ccc`` or ``kl`` where every network was chosen by it, else ``macro_f1``.

        What leads must have been measured by it on the leading split.
        """
        systems = list(((self.provenance.get("recipe") or {}).get("systems") or {}).values())
        chosen = {(s.get("train") or {}).get("select") for s in systems}
        name = chosen.pop() if len(chosen) == 1 else None
        return name if name in OF_RATERS and self.metric(self.lead, self.split, name) else "macro_f1"

    @property
    def by_ccc(self) -> bool:
        """Whether the page begins with the CCC."""
        return self.led_by == "ccc"

    @property
    def rough(self) -> bool:
        """Whether the leading interval is called rough."""
        return "rough" in str(self.metric(self.lead, self.split, "macro_f1").get("interval", ""))


def read(folder: Path) -> Source:
    """Read ``folder/report.json``.

    Raises:
        SerkitError: there is none, it is not JSON, or it is not a report of this format.
        RunFailed: it cannot be read from disk.
    """
    file = folder / "report.json"
    tree = read_tree(file, "a report", FORMAT, NEEDED, "serkit evaluate")
    if tree["best_on_dev"] not in tree["systems"]:
        raise SerkitError(f"'{file}': best_on_dev '{tree['best_on_dev']}' is none of its systems")
    return Source(tree)


def read_tree(file: Path, what: str, form: int, needed: Mapping[str, type], command: str) -> dict[str, Any]:
    """The content of a JSON file that a command wrote, its texts cleaned.

    Args:
        what: it is, in a message. form: its ``format``. needed: keys that the pages count on, with their types.
        command: that writes it.

    Raises:
        SerkitError: there is none, it is not JSON, or it has another format or lacks a key.
        RunFailed: it cannot be read from disk.
    """
    if not file.is_file():
        raise SerkitError(f"no {file.name} in '{file.parent}'; run `{command}` first")
    again = f"run `{command}` again"
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunFailed(f"'{file}' cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SerkitError(f"'{file}' is no JSON ({error}); {again}") from error
    if not isinstance(tree, dict) or tree.get("format") != form:
        found = tree.get("format") if isinstance(tree, dict) else type(tree).__name__
        raise SerkitError(f"'{file}': expected {what} of format {form}, got {found!r}; {again}")
    for key, kind in needed.items():
        if not isinstance(tree.get(key), kind):
            raise SerkitError(f"'{file}': '{key}' is missing or no {kind.__name__}; {again}")
    return {clean(key): clean(value) for key, value in tree.items()}
