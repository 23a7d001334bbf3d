"""From names and folders on a command line to one manifest."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from serkit import across, config, registry, yaml_text
from serkit.cards import Card
from serkit.errors import SerkitError, check_known, did_you_mean, in_one_line
from serkit.labels import join
from serkit.protocols import choose_protocol
from serkit.recordings import safe_id
from serkit.types import Manifest

_OWN = {"root", "protocol", "fold", "seed"}


def read_corpora(
    names: Sequence[str],
    roots: Sequence[Path],
    *,
    protocol: str | None = None,
    fold: int = 1,
    seed: int = 0,
    options: Sequence[str] = (),
    test: bool = True,
    test_on: Sequence[str] = (),
) -> Manifest:
    """Read one corpus, or several as one.

    Args:
        names: of the corpora. roots: a folder or file for each; a corpus without one is looked up in
            ``roots.yaml``, and the toy corpus is made in the user's cache.
        protocol, fold, seed: of the split. options: ``KEY=VALUE`` for the readers that take KEY, or
            ``CORPUS.KEY=VALUE`` for one of them (of several tables ``table-FILE.KEY``), which goes before the other.
        test: ``False`` puts the test rows into train: for a model that is to be used, once others measured it.
        test_on: corpora of which every row is test; the others train (:func:`serkit.across.with_test_corpora`).

    Raises:
        SerkitError: an unknown corpus, a root that is missing, an option that no reader takes, a value that it cannot
            have, or as :func:`serkit.across.with_test_corpora`.
    """
    if roots and len(roots) != len(names):
        raise SerkitError(f"{len(names)} --corpus and {len(roots)} --root: give one --root for each --corpus")
    called = _called(names, roots)
    _check_tested(called, test_on, test)
    takes = {name: set(registry.member("corpora", name).parameters) - _OWN for name in names}
    given = parse_options(options, called)
    _refuse_untaken(given, names, called, takes)
    manifests = []
    for index, name in enumerate(names):
        is_test = called[index] in test_on
        meant = [one for one in given if one.name in takes[name] and one.corpus in (None, called[index])]
        accepted = {one.name: _value(name, one) for one in meant}
        said = dict(accepted)
        reader = registry.find("corpora", name)
        root = roots[index] if roots else default_root(name)
        if is_test and "test_only" in takes[name]:
            accepted["test_only"] = True  # no split is needed, and speakers may be unknown
        elif (test_on or not test) and "train_only" in takes[name]:
            accepted["train_only"] = True
        chosen = protocol if protocol is None or len(names) == 1 else _known_protocol(name, protocol)
        own = 1 if is_test else fold
        manifest = _read(name, partial(reader, root, protocol=chosen, fold=own, seed=seed, **accepted))
        manifest = _told_options(manifest, said)
        manifests.append(manifest if test else _without_test(manifest))
    if list(names).count("table") > 1:
        manifests = _tables_apart(names, roots, manifests)
    joined = join(manifests)
    tested = [m.corpus for name, m in zip(called, manifests, strict=True) if name in test_on]
    return across.with_test_corpora(joined, tested) if tested else joined


def _called(names: Sequence[str], roots: Sequence[Path]) -> list[str]:
    """What each corpus is called here: of several tables each by its file."""
    if list(names).count("table") < 2 or not roots:
        return list(names)
    return [_table_name(roots[k]) if name == "table" else name for k, name in enumerate(names)]


@dataclass(frozen=True)
class GivenOption:
    """An option of a reader, as a command line gives it: ``table-mine.rating_scale=1,7``.

    Attributes:
        key: all before the ``=``. corpus: which alone is meant; ``None``: all. name: of the option.
        text: all after the ``=``. value: what YAML makes of it.
    """

    key: str
    corpus: str | None
    name: str
    text: str
    value: Any


def parse_options(options: Sequence[str], called: Sequence[str] = ()) -> list[GivenOption]:
    """``KEY=VALUE`` and ``CORPUS.KEY=VALUE``; those for one corpus come last, so that they go before those for all.

    Args:
        called: names of the corpora.

    Raises:
        SerkitError: no ``=``, or a value that is not YAML.
    """
    found = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not equals:
            raise SerkitError(f"--option {option!r}: expected KEY=VALUE")
        corpus, _, name = key.rpartition(".")
        alone, name = (corpus, name) if corpus in called else (None, key)
        found[key] = GivenOption(key, alone, name, text, yaml_text.parse(text, f"--option {key}"))
    return sorted(found.values(), key=lambda one: one.corpus is not None)


def _refuse_untaken(
    given: Sequence[GivenOption], names: Sequence[str], called: Sequence[str], takes: Mapping[str, set[str]]
) -> None:
    """Refuse an option that no reader takes of those that are meant, before any corpus is read."""
    for one in given:
        asked = [name for name, own in zip(names, called, strict=True) if one.corpus in (None, own)]
        if not any(one.name in takes[name] for name in asked):
            near = did_you_mean(one.name, set().union(*(takes[name] for name in asked)))
            raise SerkitError(f"--option {one.key}: no reader of {', '.join(dict.fromkeys(asked))} takes it{near}")


def _check_tested(called: Sequence[str], test_on: Sequence[str], test: bool) -> None:
    """Refuse a test on corpora that are not given, before any is read."""
    if test_on and not test:
        raise SerkitError("--no-test and --test-on contradict each other: the one measures nothing; leave one out")
    for name in test_on:
        check_known(name, called, f"--test-on {name}: it is none of the corpora given ({', '.join(called)})")


def read_labelled(
    names: Sequence[str], roots: Sequence[Path], *, protocol: str | None = None, options: Sequence[str] = ()
) -> Manifest:
    """:func:`read_corpora` of recordings that a finished model is asked about: a table needs no split of its own."""
    own = ["test_only=true"] if "table" in names and protocol is None else []
    return read_corpora(names, roots, protocol=protocol, options=[*own, *options])


def _read(name: str, read: Callable[[], Any]) -> Manifest:
    """What a reader makes; anything that one of the user's own raises is said in one line.

    Raises:
        SerkitError: it cannot read, or makes something else.
    """
    try:
        found = read()
    except SerkitError:
        raise
    except Exception as error:  # re-raised, but for a reader of the user's own, which may raise anything
        if "." not in name:
            raise
        said = in_one_line(error, registry.file_of("corpora", name))
        raise SerkitError(f"corpus '{name}' cannot be read: {said}") from error
    if not isinstance(found, Manifest):
        raise SerkitError(f"corpus '{name}' makes a {type(found).__name__}, expected a serkit.types.Manifest")
    return found


def _table_name(file: Path) -> str:
    return f"table-{safe_id(file.stem)}"


def _tables_apart(names: Sequence[str], roots: Sequence[Path], manifests: Sequence[Manifest]) -> list[Manifest]:
    """Several tables, each under the name of its file: ``table-mine`` and ``table-other``.

    Raises:
        SerkitError: the same file twice, or two of one name.
    """
    places = [k for k, name in enumerate(names) if name == "table"]
    files = {k: Path(roots[k]).expanduser().resolve() if roots else default_root("table") for k in places}
    called: dict[str, int] = {}
    made = list(manifests)
    for k, file in files.items():
        name = _table_name(file)
        if name in called:
            first = files[called[name]]
            how = (
                f"with the same file {file}; give it once"
                if first == file
                else (f"with files of one name, {first} and {file}: rename one, for ids and reports to tell them apart")
            )
            raise SerkitError(f"--corpus table is given twice {how}")
        called[name] = k
        made[k] = dataclasses.replace(made[k], corpus=name)
    for one, two in combinations(called.values(), 2):
        same = {u.speaker for u in made[one]} & {u.speaker for u in made[two]} - {None}
        if same:
            note = (
                f"{len(same)} speaker names ({', '.join(sorted(map(str, same))[:3])}) stand in {made[one].corpus}, "
                "too: taken for other people; where they are the same, make one table"
            )
            info = {**made[two].info, "notes": [*made[two].info.get("notes", []), note]}
            made[two] = dataclasses.replace(made[two], info=info)
    return made


def _told_options(manifest: Manifest, said: Mapping[str, Any]) -> Manifest:
    """The same rows; ``info["options"]`` has what was asked of the reader, beside what it says itself."""
    found = manifest.info.get("options")
    options = {**(found if isinstance(found, Mapping) else {}), **said}
    return dataclasses.replace(manifest, info={**manifest.info, "options": options}) if said else manifest


def _without_test(manifest: Manifest) -> Manifest:
    """The same rows, those of test in train."""
    rows = tuple(dataclasses.replace(u, split="train") if u.split == "test" else u for u in manifest)
    notes = [
        *manifest.info.get("notes", []),
        "no test split: its speakers are used for training, and nothing here is a test result",
    ]
    return dataclasses.replace(manifest, utterances=rows, info={**manifest.info, "notes": notes, "no_test": True})


def fold_numbers(names: Sequence[str], protocol: str | None, folds: str, *, at_least: int = 1) -> list[int]:
    """The folds that ``all`` or ``1,3,5`` stands for, ``at_least`` so many.

    Raises:
        SerkitError: several corpora, not numbers, folds that the protocol does not have, or too few of them.
    """
    if len(names) != 1 and at_least > 1:
        raise SerkitError(
            "cross-validation takes one corpus: folds of several corpora do not match; --leave-out corpus makes each "
            "of them the test once"
        )
    if len(names) != 1:
        raise SerkitError(
            f"--fold {folds}: several folds are of one corpus, for those of several do not match; with {len(names)} "
            "corpora (--test-on too) give one number, the fold of each corpus's own protocol"
        )
    chosen = choose_protocol(card(names[0]), protocol)
    n_folds = chosen.folds
    if n_folds < at_least:
        more = [other.name for other in card(names[0]).protocols if other.folds >= at_least]
        raise SerkitError(
            f"protocol '{chosen.name}' of '{names[0]}' has one fold, and cross-validation needs two or more: "
            + (f"take --protocol {' or '.join(more)}, or serkit run" if more else "use serkit run")
        )
    if folds == "all":
        return list(range(1, n_folds + 1))
    numbers = [part.strip() for part in folds.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= n_folds for part in numbers):
        raise SerkitError(f"--fold {folds!r}: expected all, or numbers from 1 to {n_folds} with commas")
    return list(dict.fromkeys(int(part) for part in numbers))


def default_root(name: str) -> Path:
    """Where a corpus lies when no ``--root`` says it.

    Raises:
        SerkitError: nowhere.
    """
    found = config.corpus_root(name)
    if found is not None:
        return found
    if name == "toy":
        return config.cache_folder() / "toy"
    what = "FILE" if name == "table" else "DIR"
    raise SerkitError(f"corpus '{name}' needs --root {what}, or a line under corpora in {config.config_path()}")


def card(name: str) -> Card:
    """The card of a corpus: ``CARD`` of the module with its reader.

    Raises:
        SerkitError: no such corpus, or one of the user's own without a card.
    """
    found = getattr(inspect.getmodule(registry.find("corpora", name)), "CARD", None)
    if not isinstance(found, Card):
        raise SerkitError(f"corpus '{name}' has no card with its protocols and folds: define CARD next to it")
    return found


def _value(corpus: str, given: GivenOption) -> Any:
    """The value of an option as its reader takes it: what YAML makes of the text, else the words that stand there.

    A label ``no``, which YAML reads as false, or ``1``, is a word to a reader that takes words.

    Raises:
        SerkitError: the reader takes neither.
    """
    described, text, value = registry.member("corpora", corpus), given.text, given.value
    words = [str(part).strip() for part in yaml.load(text, Loader=yaml.BaseLoader)] if isinstance(value, list) else []
    for candidate in (value, *([words] if words else []), text.strip()):
        if not registry.wrong_value(described, given.name, candidate):
            return candidate
    wrong = registry.wrong_value(described, given.name, value)
    raise SerkitError(f"--option {given.name} of corpus '{corpus}' {wrong}")


def _known_protocol(name: str, protocol: str) -> str | None:
    return protocol if protocol in {p.name for p in card(name).protocols} else None
