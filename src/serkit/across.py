"""Train on some corpora, test on others: which rows are test, and which classes both sides know.

What is decided here stands in ``Manifest.info["across"]``: ``trained_on`` and ``tested_on`` (names of corpora), and
``own_test`` where the test speakers of the training corpora are test too. Once a recipe's labels are applied, it has
``shared`` (the classes of each tested corpus that training knows; its clips are answered among these alone) and
``left_out`` (its clips of other classes, counted by label).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from serkit.errors import SerkitError
from serkit.protocols import shared_speakers, with_split
from serkit.types import SPLITS, Manifest, Utterance

KEY = "across"
PROTOCOL = "cross-corpus-test"


def with_test_corpora(manifest: Manifest, names: Sequence[str], *, keep_own_test: bool = False) -> Manifest:
    """Joined corpora with all rows of some as test, and the others for training alone.

    Every row of a tested corpus that its protocol uses is test. The other corpora keep their dev; their test speakers
    train too, as nothing of theirs is measured.

    Args:
        manifest: of :func:`serkit.labels.join`. names: of the corpora to test on.
        keep_own_test: the test speakers of the training corpora stay test, measured beside the others.

    Raises:
        SerkitError: one corpus only, or none left to train on.
    """
    corpora = list(manifest.info.get("corpora") or {manifest.corpus: manifest.info})
    training = [name for name in corpora if name not in names]
    if len(corpora) < 2:
        raise SerkitError(
            f"a test on another corpus needs two corpora or more, got '{corpora[0]}' alone; repeat --corpus and --root"
        )
    if not training:
        raise SerkitError(f"--test-on names every corpus given ({', '.join(corpora)}); leave one to train on")

    def split(u: Utterance) -> str | None:
        if u.corpus in names:
            return "test" if u.split else None
        return "train" if u.split == "test" and not keep_own_test else u.split

    rows = tuple(with_split(u, split(u)) for u in manifest)
    infos = {
        name: _info(info, [u for u in rows if u.corpus == name], name in names, keep_own_test)
        for name, info in manifest.info["corpora"].items()
    }
    said = {"trained_on": training, "tested_on": list(names), **({"own_test": True} if keep_own_test else {})}
    return dataclasses.replace(
        manifest,
        utterances=rows,
        speakers_shared=any(info["speakers_shared"] for info in infos.values()),
        info={**manifest.info, "corpora": infos, KEY: said},
    )


def _info(info: Mapping[str, Any], rows: Sequence[Utterance], tested: bool, keep_own_test: bool) -> dict[str, Any]:
    """What a report says of one corpus, with the splits it has now."""
    overlap = shared_speakers(rows)
    notes = [n for n in info.get("notes") or [] if not str(n).startswith("speakers shared: ")]
    found = {
        **info,
        "speakers": {s: sorted({u.speaker for u in rows if u.split == s and u.speaker}) for s in SPLITS},
        "speakers_shared": overlap if any(overlap.values()) else False,
        "rows_by_split": dict(sorted(Counter(str(u.split) for u in rows).items())),
    }
    if tested:
        own = info.get("protocol")
        found |= {
            "protocol": PROTOCOL,
            "protocol_version": 1,
            "protocol_description": f"Every clip that {own or 'the corpus'} uses is test; its own splits are not used.",
            "protocol_source": None,
            "fold": None,
            "folds": None,
        }
    elif not keep_own_test:
        notes.append("its test speakers train too: nothing of this corpus is measured")
    if any(overlap.values()):
        notes.append(f"speakers shared: {', '.join(f'{n} in {pair}' for pair, n in overlap.items() if n)}")
    return {**found, "notes": notes}


def trained_on(manifest: Manifest) -> str:
    """Names of the corpora that networks are trained on, joined by ``+``; of an ordinary manifest its own name."""
    said = manifest.info.get(KEY)
    return "+".join(said["trained_on"]) if said else manifest.corpus


def learnable(manifest: Manifest) -> tuple[str, ...]:
    """The labels that a training corpus has; of an ordinary manifest all of them."""
    said = manifest.info.get(KEY)
    if not said:
        return manifest.labels
    known = {label for corpus in said["trained_on"] for label in manifest.class_sets[corpus]}
    return tuple(label for label in manifest.labels if label in known)


def shared_classes(
    manifest: Manifest, label_of: Callable[[Utterance], str | None], labels: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The classes that each tested corpus shares with training; nothing of an ordinary manifest.

    Args:
        manifest: of :func:`with_test_corpora`. label_of: an utterance's label as the recipe has it.
        labels: of the recipe.

    Raises:
        SerkitError: fewer than two of a corpus.
    """
    shared: dict[str, tuple[str, ...]] = {}
    for corpus in (manifest.info.get(KEY) or {}).get("tested_on", ()):
        there = {label_of(u) for u in manifest if u.corpus == corpus and u.split} - {None}
        shared[corpus] = names = tuple(label for label in labels if label in there)
        if len(names) < 2:
            n = "1 class" if names else "no class"
            raise SerkitError(
                f"'{corpus}' and the corpora to train on ({trained_on(manifest)}) share {n}"
                f"{' (' + names[0] + ')' if names else ''}, two are needed; '{corpus}' has "
                f"{', '.join(sorted(map(str, there))) or 'no label'}, training has {', '.join(labels) or 'none'}: see "
                "map_labels"
            )
    return shared


def noted(
    manifest: Manifest, shared: Mapping[str, Sequence[str]], left_out: Mapping[str, Mapping[str, int]]
) -> dict[str, Any]:
    """What ``info`` says once the classes are known: the shared ones, and clips of other classes by label."""
    if KEY not in manifest.info:
        return {}
    gone = {corpus: {label: n for label, n in sorted(counts.items()) if n} for corpus, counts in left_out.items()}
    return {KEY: {**manifest.info[KEY], "shared": {c: list(names) for c, names in shared.items()}, "left_out": gone}}


def lines(manifest: Manifest) -> list[str]:
    """What is trained and tested, and which clips are left out, one line for each tested corpus."""
    said = manifest.info.get(KEY)
    if not said:
        return []
    found = []
    for corpus, shared in said["shared"].items():
        rows = [u for u in manifest.split("test") if u.corpus == corpus and u.emotion is not None]
        gone = said["left_out"].get(corpus) or {}
        line = f"trained on {', '.join(said['trained_on'])}, tested on {corpus}: {len(rows)} clips, answered among "
        line += f"{len(shared)} shared classes ({', '.join(shared)})"
        if gone:
            each = ", ".join(f"{n} of '{label}'" for label, n in gone.items())
            line += f"; {sum(gone.values())} clips left out, of classes that training does not know: {each}"
        found.append(line)
    return found
