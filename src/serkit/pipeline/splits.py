"""What a run asks of the splits and classes of a manifest, before any work."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from serkit import readers, recordings, regions, registry
from serkit.crossfit import crossfit_folds
from serkit.errors import SerkitError
from serkit.labels import learns_votes, taught_by
from serkit.pipeline.networks_of_run import learned_from
from serkit.recipe import Recipe
from serkit.settings import System
from serkit.types import ATTRIBUTES, CANONICAL_LABELS, GENDERS, NEUTRAL, Manifest, Utterance

_OF_ATTRIBUTES = ("attribute_mse", "ccc")  # losses that learn arousal, valence and dominance


def check_splits(manifest: Manifest, recipe: Recipe) -> None:
    """Refuse a manifest whose splits or classes a recipe cannot be run on.

    Args:
        manifest: with the recipe's labels. recipe: resolved.

    Raises:
        SerkitError: a split without rows or labels, a class too thin to be learned, crossed or stacked, or a balance
            without its groups; the line says what to do.
    """
    for check in (_splits_have_rows, _two_classes, _enough_of_each_class, _dev_has_labels, _crossed, _stacked):
        check(manifest, recipe)
    for name, system in recipe.systems.items():
        places = (f"systems.{name}", f"systems.{name}.second_stage")
        for stage, at in zip(system.stages, places, strict=False):
            for of_system in (
                _has_votes,
                _votes_count_raters,
                _has_genders,
                _learns_attributes,
                _selects_by_ccc,
                _selects_by_kl,
                _balanced,
            ):
                of_system(manifest, recipe, stage, at)


def _splits_have_rows(manifest: Manifest, recipe: Recipe) -> None:
    present = {u.split for u in manifest}
    parts = [manifest.info, *manifest.info.get("corpora", {}).values()]
    needed = ("train", "dev") if any(part.get("no_test") for part in parts) else ("train", "dev", "test")
    for split in needed:
        if split not in present:
            raise SerkitError(
                f"'{manifest.corpus}' has no utterance in split '{split}'; a run needs {', '.join(needed)}"
                + _ways_out(manifest, split)
            )


def _two_classes(manifest: Manifest, recipe: Recipe) -> None:
    if not manifest.labels and any(u.is_rated for u in manifest):
        raise SerkitError(
            f"'{manifest.corpus}' has ratings and no emotion labels: set labels to quadrants or octants, classes made "
            "from the ratings"
        )
    if len(manifest.labels) < 2:
        raise SerkitError(
            f"'{manifest.corpus}' has one class left, '{''.join(manifest.labels)}', and at least two are "
            "needed: see labels, drop_labels and map_labels"
        )


def _enough_of_each_class(manifest: Manifest, recipe: Recipe) -> None:
    found = taught_by(manifest.split("train"), recipe)
    counts = {label: found[label] for label in manifest.labels}
    thin = [label for label, n in counts.items() if n < 2]
    if thin:
        others = [label for label, n in counts.items() if label != thin[0] and n]
        if regions.KEY in manifest.info:
            raise SerkitError(
                f"class '{thin[0]}' has fewer than 2 training clips in '{manifest.corpus}': name it in map_labels or "
                "drop_labels" + regions.fewer(manifest)
            )
        close = difflib.get_close_matches(thin[0], others, n=1)
        near = close[0] if close else recordings.near_label(thin[0], CANONICAL_LABELS)
        typo = f", or, if '{near}' is meant, set map_labels={{{thin[0]}: {near}}}" if near else ""
        which = "training clips with a vote for it" if learns_votes(recipe) else "training clips"
        votes = ", or, as its raters voted for it, learn their votes: train.targets=votes"
        raised = not learns_votes(recipe) and any((u.votes or {}).get(thin[0]) for u in manifest.split("train"))
        raise SerkitError(
            f"label '{thin[0]}' has fewer than 2 {which} in '{manifest.corpus}'{_first_of(manifest, thin[0])}; name it "
            f"in drop_labels{typo}"
            + (votes if raised else "")
            + (f"; the same holds for {', '.join(thin[1:])}" if len(thin) > 1 else "")
        )


def _first_of(manifest: Manifest, label: str) -> str:
    """Where a class is met: how many clips of any split have it, and the first."""
    named = [u.id for u in manifest if u.emotion == label]
    return f" ({len(named)} in all, first '{named[0]}')" if named else ""


def _dev_has_labels(manifest: Manifest, recipe: Recipe) -> None:
    if not any(manifest.split("dev").counts().values()):
        raise SerkitError(
            f"no utterance of split 'dev' in '{manifest.corpus}' has a label; networks are selected on dev"
        )


def _crossed(manifest: Manifest, recipe: Recipe) -> None:
    if recipe.crossfit is not None:
        crossfit_folds(learned_from(manifest, recipe), recipe.crossfit.folds, recipe.crossfit.seed)


def _stacked(manifest: Manifest, recipe: Recipe) -> None:
    if recipe.stack is None or len(recipe.systems) < 2:
        return
    label, n = min(manifest.split("train").counts().items(), key=lambda item: item[1])
    wanted = recipe.stack.folds if recipe.stack.per_class == "auto" else recipe.stack.per_class
    if n < wanted:
        raise SerkitError(
            f"label '{label}' has {n} training clips in '{manifest.corpus}' and the stack needs {wanted}: name it "
            "in drop_labels, lower stack.folds or stack.per_class, or set stack=null"
        )


def _has_votes(manifest: Manifest, recipe: Recipe, system: System, at: str) -> None:
    if system.train.targets == "votes" and not any(u.votes for u in manifest.split("train")):
        gone = (manifest.info.get("labels") or {}).get("votes_all_left_out")
        why = "has votes for the recipe's labels" if gone else "comes with rater votes"
        raise SerkitError(
            f"{at}: train.targets is votes, and no training clip of '{manifest.corpus}' {why}; set train.targets=labels"
        )


def _votes_count_raters(manifest: Manifest, recipe: Recipe, system: System, at: str) -> None:
    """Refuse to leave out raters where a corpus says their shares alone, and not how many there were."""
    steps = [step for step in system.augment if step.name == "annotator_dropout"]
    if system.train.targets != "votes" or all(step.parameters.get("n_raters") for step in steps):
        return
    for corpus in sorted({u.corpus or manifest.corpus for u in manifest}):
        votes = [u.votes for u in manifest.split("train") if u.votes and (u.corpus or manifest.corpus) == corpus]
        parts = any(n % 1 for each in votes for n in each.values())
        if parts and max(sum(each.values()) for each in votes) < 1.01:
            raise SerkitError(
                f"{at}: the augmentation 'annotator_dropout' leaves out raters, and the votes of '{corpus}' are shares "
                "of them: give it n_raters, the number of raters per clip, or leave it out of augment"
            )


def _has_genders(manifest: Manifest, recipe: Recipe, system: System, at: str) -> None:
    known = {u.gender for u in manifest.split("train")} & set(GENDERS)
    if any(loss.name == "gender" for loss in system.losses) and len(known) < 2:
        found = f"only {known.pop()} speakers" if known else "no gender of a speaker"
        raise SerkitError(
            f"{at}: the loss 'gender' needs {' and '.join(GENDERS)} speakers, and split 'train' of "
            f"'{manifest.corpus}' has {found}: leave the loss out"
        )


def _learns_attributes(manifest: Manifest, recipe: Recipe, system: System, at: str) -> None:
    if system.model.parameters.get("attribute_head") or any(loss.name in _OF_ATTRIBUTES for loss in system.losses):
        _one_scale(manifest, at)
        _rated_in_folds(learned_from(manifest, recipe), recipe, at)


def _selects_by_ccc(manifest: Manifest, recipe: Recipe, system: System, at: str) -> None:
    if system.train.select == "ccc" and not _rated_twice(manifest.split("train")) & _rated_twice(manifest.split("dev")):
        raise SerkitError(
            f"{at}: train.select is ccc, and split 'dev' of '{manifest.corpus}' has no two ratings of an "
            "attribute that split 'train' has; select another metric"
        )


def _selects_by_kl(manifest: Manifest, recipe: Recipe, system: System, at: str) -> None:
    if system.train.select == "kl" and not any(u.votes for u in manifest.split("dev")):
        raise SerkitError(
            f"{at}: train.select is kl, the divergence from rater votes, and no clip of split 'dev' of "
            f"'{manifest.corpus}' has votes; select another metric"
        )


def _balanced(manifest: Manifest, recipe: Recipe, system: System, at: str) -> None:
    train = manifest.split("train")
    if system.balance == "neutral" and not train.counts().get(NEUTRAL):
        raise SerkitError(f"{at}: balance: neutral needs clips of '{NEUTRAL}'; labels are {list(manifest.labels)}")
    if system.balance == "corpus" and len({u.corpus for u in train}) < 2:
        raise SerkitError(f"{at}: balance: corpus needs two corpora; give --corpus twice or set it null")


def _rated_in_folds(learned: Manifest, recipe: Recipe, at: str) -> None:
    """Refuse a cross-fit of which one network would have no ratings to learn from."""
    if recipe.crossfit is None or not _rated_twice(learned):
        return
    fold = crossfit_folds(learned, recipe.crossfit.folds, recipe.crossfit.seed)
    for k in range(recipe.crossfit.folds):
        if not _rated_twice([u for u, own in zip(learned, fold, strict=True) if own != k]):
            raise SerkitError(
                f"{at}: without the speakers of fold {k} no two training clips are rated by arousal, valence or "
                "dominance: leave the attribute head and its loss out, or set another crossfit.seed or crossfit.folds"
            )


def _rated_twice(utterances: Iterable[Utterance]) -> set[str]:
    """Attributes that two clips or more are rated by, of those that a network can be trained or measured on."""
    heard = [u for u in utterances if u.emotion is not None or u.votes]
    return {name for name in ATTRIBUTES if sum(getattr(u, name) is not None for u in heard) > 1}


def _one_scale(manifest: Manifest, at: str) -> None:
    """Refuse to learn attributes of joined corpora whose raters used other scales: a 4 of 5 is not a 4 of 7."""
    rated = {u.corpus for u in manifest if u.is_rated}
    corpora = {name: info for name, info in (manifest.info.get("corpora") or {}).items() if name in rated}
    scales = {name: tuple(info["rating_scale"]) for name, info in corpora.items() if info.get("rating_scale")}
    if len(set(scales.values())) > 1:
        told = ", ".join(f"{name} from {low:g} to {high:g}" for name, (low, high) in scales.items())
        raise SerkitError(
            f"{at}: it learns arousal, valence and dominance, and these corpora rate them on other scales ({told}): "
            "leave the attribute head and its loss out, or train on one corpus"
        )


def _ways_out(manifest: Manifest, split: str) -> str:
    """What helps where a split has no rows: other protocols, what the corpus itself says, or a run without a test."""
    ways: list[str] = []
    parts = manifest.info.get("corpora") or {manifest.corpus: manifest.info}
    for name, info in parts.items():
        if info.get("without_test") and split == "test":
            ways.append(str(info["without_test"]))
        elif name in registry.names("corpora"):
            others = [p.name for p in readers.card(name).protocols if p.name != info.get("protocol")]
            ways += [f"another --protocol ({', '.join(others)})"] if others else []
    if split == "test":
        ways.append("--no-test, if nothing is to be measured")
    return f": use {'; or '.join(ways)}" if ways else ""
