"""Two runs, or two cross-validations, on the same clips: which clips both have, and the scores of each for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from serkit import across
from serkit.errors import SerkitError, check_known
from serkit.labels import teaching
from serkit.pipeline.elsewhere import common_labels, is_matrix, manifest_among, predictions_among
from serkit.pipeline.run import Run
from serkit.predictions import Predictions
from serkit.recordings import order_labels
from serkit.reporting.text import count, voices
from serkit.types import ATTRIBUTES, Manifest, Utterance


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes:
        folder: as it was given. runs: the run, or the folds. system: whose scores are compared.
    """

    folder: Path
    runs: Sequence[Run]
    system: str

    @classmethod
    def of(cls, folder: Path, runs: Sequence[Run], system: str | None) -> Side:
        """A side with its default system: the answer of the run.

        Raises:
            SerkitError: a table of train by test, or no such system.
        """
        if is_matrix(runs):
            raise SerkitError(f"{folder} is a table of train by test; name a fold of it, such as {runs[0].folder}")
        if system is not None:
            known = [*runs[0].recipe.systems, *runs[0].ensembles]
            check_known(system, known, f"{runs[0].folder} has no system '{system}'")
        return cls(folder, runs, system or runs[0].lead or next(iter(runs[0].recipe.systems)))

    @property
    def data(self) -> str:
        """Short description: corpus, protocol and folds."""
        infos = [r.manifest.info for r in self.runs]
        folds = [str(info["fold"]) for info in infos if info.get("fold") is not None]
        said = [self.runs[0].manifest.corpus, infos[0].get("protocol"), f"fold {', '.join(folds)}" if folds else None]
        return ", ".join(word for word in said if word)


@dataclass(frozen=True)
class Clip:
    """A clip of one side: as it is called where corpora are joined, and the run that scores it."""

    utterance: Utterance
    run: Run

    @property
    def classes(self) -> set[str]:
        """What an answer to it can be."""
        manifest = self.run.manifest
        return set(manifest.class_sets.get(str(self.utterance.corpus), manifest.labels))


@dataclass(frozen=True)
class Pair:
    """Scores of two systems for the same clips, ready for :func:`serkit.comparison.compare`.

    Attributes:
        a, b: a table for each manifest. manifests: the clips with their labels.
        present_only: the classes without a clip are no part of macro averages, because clips were left out.
        notes: what has to be known to read the differences; nothing where both had the same rows in every split.
    """

    a: list[Predictions]
    b: list[Predictions]
    manifests: list[Manifest]
    present_only: bool = False
    notes: tuple[str, ...] = ()


def pair(a: Side, b: Side, split: str) -> Pair:
    """Match two sides clip by clip.

    With the same split of the same clips, all clips of ``split`` are compared. Otherwise those that both sides have in
    ``split``, and the notes say how many they are and what each side trained on. A note says so where the networks of a
    side were chosen on dev, and dev is compared.

    Raises:
        SerkitError: no clip in common; a clip that has another recording, label or ratings on the other side, or that
            several folds of one side score; other classes for the same corpus.
    """
    splits = [[(r.manifest.corpus, r.manifest.split_hash) for r in side.runs] for side in (a, b)]
    found = _same_split(a, b, split) if splits[0] == splits[1] else _in_common(a, b, split)
    return dataclasses.replace(found, notes=(*found.notes, *_chosen_on(a, b, split)))


def _in_common(a: Side, b: Side, split: str) -> Pair:
    """The clips of other splits, or of other corpora, that both have."""
    mine, other = _clips(a, split), _clips(b, split)
    shared = [key for key in mine if key in other]
    if not shared:
        raise SerkitError(
            f"{a.folder} ({a.data}) and {b.folder} ({b.data}) have no labelled {split} clip in common; they cannot be "
            "compared"
        )
    both = [(mine[key].utterance, other[key].utterance) for key in shared]
    for what, seen in (("recordings", _recording), ("labels", _label), ("ratings", _ratings)):
        _refuse_others(a, b, what, [(u.id, seen(u), seen(v)) for u, v in both], split)
    sets = _class_sets(a, b, [(mine[key], other[key]) for key in shared])
    labels = order_labels(label for each in sets.values() for label in each)
    class_sets = {corpus: tuple(label for label in labels if label in each) for corpus, each in sets.items()}
    manifest = Manifest("+".join(sets), labels, tuple(u for u, _ in both), class_sets=class_sets)
    one, two = (_table(side, labels, manifest.ids, split) for side in (a, b))
    return Pair([one], [two], [manifest], True, _notes((a, b), (mine, other), shared, split))


def _same_split(a: Side, b: Side, split: str) -> Pair:
    """Both have the same clips in every split: fold by fold, as they are."""
    labels = common_labels(a.runs)
    if labels != common_labels(b.runs):
        raise SerkitError(f"{a.folder} and {b.folder} have different labels; they cannot be compared")
    rows = [(u, v) for r, s in zip(a.runs, b.runs, strict=True) for u, v in _in_both(r, s, split)]
    for what, seen in (("labels", _label), ("ratings", _ratings)):
        _refuse_others(a, b, what, [(u.id, seen(u), seen(v)) for u, v in rows], split)
    tables = [[predictions_among(r, side.system, split, labels) for r in side.runs] for side in (a, b)]
    return Pair(tables[0], tables[1], [manifest_among(r, labels) for r in a.runs])


def _in_both(a: Run, b: Run, split: str) -> list[tuple[Utterance, Utterance]]:
    other = {u.id: u for u in b.manifest}
    return [(u, other[u.id]) for u in a.manifest.split(split)]


def _clips(side: Side, split: str) -> dict[str, Clip]:
    """The labelled clips of a split in all folds, under the ids that :func:`serkit.labels.join` gives them.

    Raises:
        SerkitError: a clip that several folds have there: their mean would be an ensemble.
    """
    found: dict[str, Clip] = {}
    for run in side.runs:
        for u in run.manifest.split(split):
            if u.emotion is None:
                continue
            clip = Clip(_as_joined(run, u), run)
            if clip.utterance.id in found:
                raise SerkitError(
                    f"{side.folder}: '{clip.utterance.id}' is in '{split}' of several folds, whose mean would be an "
                    f"ensemble; compare single folds, such as {run.folder}"
                )
            found[clip.utterance.id] = clip
    return found


def _label(u: Utterance) -> str:
    return str(u.emotion)


def _recording(u: Utterance) -> str:
    """The file, and where in it the clip is."""
    part = "" if (u.start_s, u.end_s) == (None, None) else f" from {u.start_s} to {u.end_s} s"
    return u.audio + part + ("" if u.channel is None else f", channel {u.channel}")


def _ratings(u: Utterance) -> str:
    return ", ".join(str(getattr(u, name)) for name in ATTRIBUTES)


def _refuse_others(
    a: Side, b: Side, what: str, values: Sequence[tuple[str, str | None, str | None]], split: str
) -> None:
    """Refuse clips of which the two sides know something else: (id, what a has, what b has)."""
    wrong = [row for row in values if row[1] != row[2]]
    if wrong:
        key, one, two = wrong[0]
        hint = " (see map_labels)" if what == "labels" else ""
        raise SerkitError(
            f"{len(wrong)} {split} clips have other {what} in {a.folder} than in {b.folder}: '{one}' and '{two}' for "
            f"'{key}'{hint}; they cannot be compared"
        )


def _class_sets(a: Side, b: Side, clips: Sequence[tuple[Clip, Clip]]) -> dict[str, set[str]]:
    """The classes that clips of each corpus are answered with, the same on both sides and in all their folds."""
    found: dict[str, set[str]] = {}
    for one, two in clips:
        corpus = str(one.utterance.corpus)
        for classes in (one.classes, two.classes):
            if found.setdefault(corpus, classes) != classes:
                told = " and ".join(", ".join(order_labels(each)) for each in (found[corpus], classes))
                raise SerkitError(
                    f"{a.folder} and {b.folder} answer the clips of '{corpus}' with other classes ({told}); they "
                    "cannot be compared"
                )
    return found


def _is_joined(run: Run) -> bool:
    return "corpora" in run.manifest.info


def _corpora(run: Run) -> tuple[str, ...]:
    return tuple(run.manifest.info["corpora"]) if _is_joined(run) else (run.manifest.corpus,)


def _key(run: Run, utterance: Utterance) -> str:
    """The id that the clip has where several corpora are joined."""
    return utterance.id if _is_joined(run) else f"{run.manifest.corpus}.{utterance.id}"


def _as_joined(run: Run, utterance: Utterance) -> Utterance:
    """The clip under the names that it has in joined corpora."""
    if _is_joined(run):
        return utterance
    corpus, speaker = run.manifest.corpus, utterance.speaker
    return dataclasses.replace(
        utterance, id=_key(run, utterance), speaker=None if speaker is None else f"{corpus}.{speaker}", corpus=corpus
    )


def _table(side: Side, labels: tuple[str, ...], keys: Sequence[str], split: str) -> Predictions:
    """Probabilities of one system for the clips of all its folds, in the order of ``keys``."""
    parts = []
    for run in side.runs:
        table = run.predictions(side.system, split).among(labels)
        names = {u.id: _key(run, u) for u in run.manifest.split(split)}
        parts.append(dataclasses.replace(table, ids=tuple(names[i] for i in table.ids)))
    return Predictions.joined(parts).take(keys)


def _notes(
    sides: tuple[Side, Side], clips: tuple[Mapping[str, Clip], Mapping[str, Clip]], shared: Sequence[str], split: str
) -> tuple[str, ...]:
    """What was left out, and that the training data differ."""
    (a, b), found = sides, []
    sizes = [len(each) for each in clips]
    if sizes != [len(shared)] * 2:
        found.append(
            f"only the {len(shared)} labelled {split} clips that both have are compared: {a.folder} has {sizes[0]}, "
            f"{b.folder} {sizes[1]}"
        )
    taught = [{id(run): _learned(run) for run in side.runs} for side in sides]
    if any(taught[0][id(clips[0][key].run)] != taught[1][id(clips[1][key].run)] for key in shared):
        told = " and ".join(f"{_trained_on(side)} ({side.folder})" for side in sides)
        found.append(f"a difference is one of systems and of training data: trained on {told}")
    return tuple(found)


def _chosen_on(a: Side, b: Side, split: str) -> tuple[str, ...]:
    """That the clips compared chose the epochs of the networks."""
    systems = [system for side in (a, b) for run in side.runs for system in run.recipe.systems.values()]
    if split != "dev" or all(system.train.select == "last" for system in systems):
        return ()
    return ("epochs were chosen on these dev clips, so numbers here are too high; a difference is shown by test alone",)


def _learned(run: Run) -> tuple[frozenset[str], frozenset[str]]:
    """The clips that a run trained on, and those that chose its epochs."""
    train, dev = (frozenset(_key(run, u) for u in run.manifest.split(name)) for name in ("train", "dev"))
    return train, dev


def _trained_on(side: Side) -> str:
    """Such as ``720 clips of 12 speakers of ravdess``; of folds the mean."""
    clips, speakers = [], []
    corpora: dict[str, None] = {}
    for run in side.runs:
        rows = teaching(run.manifest.split("train"), run.recipe)
        clips.append(len(rows))
        speakers.append(len({u.speaker for u in rows} - {None}))
        said = run.manifest.info.get(across.KEY)
        corpora |= dict.fromkeys(said["trained_on"] if said else _corpora(run))
    n, k = round(sum(clips) / len(clips)), round(sum(speakers) / len(speakers))
    mean = " on average" if len(side.runs) > 1 else ""
    return f"{count(n, 'clip')} of {voices(k)} of {', '.join(corpora)}{mean}"
