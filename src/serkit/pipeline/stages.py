"""The stages of a run, each resumable and each callable alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serkit import extraction, groupings, stacking
from serkit.combining import Ensemble
from serkit.encoding import Encoder
from serkit.errors import SerkitError
from serkit.features import Features, nothing_to_hear, require_complete
from serkit.files import NO_PLACE, remove_parts, write_text
from serkit.labels import apply_labels, left_out, without_label
from serkit.pipeline.changed_inputs import unchanged
from serkit.pipeline.elsewhere import check_recordings
from serkit.pipeline.inputs import (
    check_backbones,
    copy_encoders,
    make_encoders,
    needed_features,
)
from serkit.pipeline.measure import measure_run
from serkit.pipeline.networks_of_run import learned_from
from serkit.pipeline.own_files import RECORD, check_record, check_store, write_record
from serkit.pipeline.rehearsal import check_parts
from serkit.pipeline.run import STAGES, Machine, Run, device_of, networks_key
from serkit.pipeline.splits import check_splits
from serkit.pipeline.texts_of_run import texts_of
from serkit.pipeline.workers import Task, train_many
from serkit.predictions import Predictions
from serkit.recipe import Recipe, load_recipe
from serkit.recordings import not_there
from serkit.types import SPLITS, Manifest

Listener = Callable[[Any], None]


@dataclass(frozen=True)
class StageBegins:
    """Told to the listener before a stage.

    Attributes:
        stage: its name. detail: what it is about to do, a few words.
    """

    stage: str
    detail: str = ""


@dataclass(frozen=True)
class Notice:
    """Told to the listener where something deserves a look and stops nothing: ``text`` is one line."""

    text: str


def tell_left_out(manifests: Iterable[Manifest], listener: Listener | None) -> None:
    """Tell the listener what was left out of manifests with a recipe's labels, and what is missing, each line once."""
    if listener is not None:
        told = (left_out, without_label, not_there)
        for line in dict.fromkeys(line for m in manifests for said in told for line in said(m)):
            listener(Notice(line))


def fit(recipe: Recipe, manifest: Manifest) -> Manifest:
    """The manifest with the recipe's labels, once everything is checked that can be before any work.

    Raises:
        SerkitError: labels, splits or groups that the recipe cannot use; parameters that do not go together.
    """
    fitted = apply_labels(manifest, recipe)
    groupings.check(fitted.utterances, recipe.evaluate.groups)
    check_splits(fitted, recipe)
    check_parts(recipe, fitted)
    return fitted


def prepare(recipe: Recipe, manifest: Manifest, folder: Path | str) -> Run:
    """:func:`fit`, and :func:`begin`."""
    return begin(recipe, fit(recipe, manifest), folder)


def begin(recipe: Recipe, fitted: Manifest, folder: Path | str) -> Run:
    """Make the folder of a run, or find the same run there already.

    Where only ``stack`` or ``evaluate`` differ, the networks stay and those stages run again.

    Args:
        recipe: resolved. fitted: of :func:`fit`. folder: of the run.

    Raises:
        SerkitError: the folder holds another run or cannot be made; a file of the user's own that has changed since.
    """
    folder = Path(folder)
    if (folder / "manifest.jsonl").is_file():
        remove_parts(folder)
        run = Run(folder)
        if networks_key(run.recipe) != networks_key(recipe):
            raise SerkitError(f"{folder} holds a run of another recipe or other settings; choose another --out")
        if run.manifest.fingerprint != fitted.fingerprint:
            raise SerkitError(f"{folder} holds a run on other data, labels or splits; choose another --out")
        check_record(run)
        if run.recipe.fingerprint != recipe.fingerprint:
            write_text(folder / "recipe.yaml", recipe.to_yaml())  # the same networks, stacked or measured otherwise
        if run.manifest.root != fitted.root:
            fitted.save(folder / "manifest.jsonl")  # the same recordings, moved
        return Run(folder)
    if folder.exists() and (not folder.is_dir() or any(not _begun(p, recipe) for p in folder.iterdir())):
        raise SerkitError(f"{folder} is not empty and holds no run; choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in NO_PLACE:
            raise
        raise SerkitError(f"{folder} cannot be made: {error.strerror}; choose another --out") from None
    write_text(folder / "recipe.yaml", recipe.to_yaml())
    write_record(folder, recipe)
    fitted.save(folder / "manifest.jsonl")
    run = Run(folder)
    run.mark("prepare")
    return run


def extract_run(run: Run, machine: Machine, listener: Listener | None = None) -> None:
    """Bring every feature of the recipe into the store.

    Raises:
        SerkitError: an encoder that is not installed, recordings without features, a recording that is in a test
            corpus and in training, or one that has changed since networks learned from it.
    """
    if check_backbones(run.recipe):
        check_parts(run.recipe, run.manifest)  # again, now that all of them is known
    needed = needed_features(run.recipe)
    _tell(listener, "extract", ", ".join(needed))
    encoders = make_encoders(needed)
    check_record(run)
    unchanged(run, machine, listener)
    check_store(machine.store, run.recipe, encoders)
    check_recordings(run.manifest, machine, listener)
    used = run.manifest.where(lambda u: u.split is not None)
    texts = texts_of(run, used, encoders, machine, listener)
    learned, copies, later = learned_from(run.manifest, run.recipe), copy_encoders(run.recipe), 0
    if copies:
        size = extraction.lacking(learned, copies, machine.store, jobs=machine.workers, progress=listener)
        later = size.total_bytes
        if listener is not None and later:
            listener(Notice(f"the copies of training clips, which are extracted last, will take {size.total_size}"))
    found = _extracted(used, encoders, machine, listener, texts, later)
    if copies:
        _tell(listener, "extract", f"{len(run.recipe.copies)} copies of every training clip")
        found |= _extracted(learned, copies, machine, listener)
    require_complete(found)
    if listener is not None and (silent := sorted({name for features in found.values() for name in features.silent})):
        listener(Notice(nothing_to_hear(silent, len(used))))
    run.save_features(found)
    run.__dict__.pop("features", None)
    run.mark("extract")


def verify_features(run: Run) -> None:
    """Read all that the stores of a run's features hold, and compare it with the checksums of what was written.

    Raises:
        SerkitError: extraction has not run, or items that are no longer what was written; the line names their folder.
    """
    for name, features in run.features.items():
        changed = features.store.verify()
        if changed:
            raise SerkitError(
                f"features '{name}': {len(changed)} of {len(features.store)} items in {features.store.folder} are no "
                f"longer what was written, first '{changed[0]}'; delete that folder and run extract again"
            )


def _extracted(
    manifest: Manifest,
    encoders: Mapping[str, Encoder],
    machine: Machine,
    listener: Listener | None,
    texts: Mapping[str, str] | None = None,
    reserved: int = 0,
) -> dict[str, Features]:
    return extraction.extract(
        manifest,
        encoders,
        machine.store,
        jobs=machine.workers,
        device=device_of(machine),
        engine=machine.engine,
        address=machine.address,
        progress=listener,
        announce=listener,
        texts=texts,
        reserved=reserved,
    )


def train_run(run: Run, machine: Machine, listener: Listener | None = None) -> None:
    """Train every network that is not finished, several at once, and gather their scores."""
    check_record(run)
    tasks = [Task(s, m) for m in run.models for s in run.recipe.systems if not run.is_trained(s, m)]
    _tell(listener, "train", f"{len(tasks)} of {run.n_networks} networks")
    _ = run.features
    train_many([(run, task) for task in tasks], machine, total=run.n_networks, listener=listener)
    for system in run.recipe.systems:
        for split in run.splits:
            _gather(run, system, split).save(run.predictions_path(system, split))
    run.mark("train")


def stack_run(run: Run, listener: Listener | None = None) -> None:
    """Fit the stack on out-of-fold scores, and make the ensembles that need no fitting beside it."""
    names = list(run.recipe.systems)
    settings = run.recipe.stack
    if len(names) < 2:
        _tell(listener, "stack", "one system: nothing to combine")
        _forget_others(run, ())
        run.mark("stack")
        return
    _tell(listener, "stack", settings.name if settings is not None else "vote, mean logit, mean probability")
    scores = {split: {n: run.predictions(n, split) for n in names} for split in run.splits}
    ensembles = {name: stacking.make(name) for name in stacking.UNFITTED}
    if settings is not None:
        ensembles |= stacks_of(settings)
        choice = stacking.choose(
            {n: ensembles[n] for n in stacking.FITTED}, scores["train"], run.manifest, seed=settings.seed
        )
        kept = choice.best if settings.name == "auto" else settings.name
        write_text(run.folder / "stack" / "choice.json", _choice_text(choice, kept))
    for name, ensemble in ensembles.items():
        fitted = ensemble.fit(scores["train"], run.manifest)
        fitted.save(run.folder / "stack" / name)
        if isinstance(fitted, stacking.RandomForestStack) and fitted.never_splits() and listener is not None:
            listener(
                Notice(
                    f"no tree of the random forest splits its {len(fitted.ids_)} training rows in leaves of "
                    f"{fitted.min_leaf} or more, so it gives every clip the same answer: lower stack.min_leaf and "
                    "stack.min_split, or name another stack"
                )
            )
        for split in run.splits:
            if split == "train" and name in stacking.FITTED:
                table = choice.predictions[name]
            else:
                table = fitted.predict(scores[split], run.manifest)
            table = replace(table, system=name)
            table.save(run.predictions_path(name, split))
            if settings is not None and name == kept:
                replace(table, system="stack").save(run.predictions_path("stack", split))
    _forget_others(run, ensembles)
    run.mark("stack")


def _forget_others(run: Run, made: Collection[str]) -> None:
    """Remove what another ``stack`` setting left: no ensemble that this recipe does not make may be read."""
    stays = {*made, "stack"} if run.recipe.stack and made else set(made)
    gone = [name for name in stacking.ENSEMBLES if name not in stays]
    for name in gone:
        shutil.rmtree(run.folder / "stack" / name, ignore_errors=True)
        for split in SPLITS:
            run.predictions_path(name, split).unlink(missing_ok=True)
    if "stack" in gone:
        (run.folder / "stack" / "choice.json").unlink(missing_ok=True)


def evaluate_run(run: Run, machine: Machine | None = None, listener: Listener | None = None) -> None:
    """Measure every system and ensemble on every split: ``report/report.json``.

    Raises:
        SerkitError: the ensembles there are, if any, are not of the recipe as it is now; a group that is no column.
    """
    if not run.done("stack"):
        raise SerkitError(f"{run.folder}: there is no stack yet for this recipe.yaml; run stack first")
    groupings.check(run.manifest.utterances, run.recipe.evaluate.groups)
    _tell(listener, "evaluate", f"{run.recipe.evaluate.draws} bootstrap draws")
    measure_run(run, machine)
    run.mark("evaluate")


def report_run(run: Run, listener: Listener | None = None) -> Path:
    """Write the pages of ``report/`` from ``report.json``; returns the HTML page."""
    from serkit.reporting import write_report

    _tell(listener, "report", str(run.folder / "report"))
    page = write_report(run.folder / "report")
    run.mark("report")
    return page


def run_all(run: Run, machine: Machine, listener: Listener | None = None) -> Path:
    """Every stage that is not finished, in order; returns the HTML page.

    Raises:
        SerkitError: as for each stage; what training would refuse of the machine is refused before extraction. A
            recording or a text that has changed since networks learned from it.
    """
    stale = run.done("extract") and not unchanged(run, machine, listener)
    if not run.done("train"):
        from serkit.fitting import check_device

        for system in run.recipe.systems.values():
            check_device(system.train, machine.device)
    steps: dict[str, Callable[[], Any]] = {
        "extract": lambda: extract_run(run, machine, listener),
        "train": lambda: train_run(run, machine, listener),
        "stack": lambda: stack_run(run, listener),
        "evaluate": lambda: evaluate_run(run, machine, listener),
        "report": lambda: report_run(run, listener),
    }
    for stage in STAGES[1:]:
        again = stage == "extract" and (stale or (not run.done("train") and not readable(run)))
        if again or not run.done(stage):
            steps[stage]()
    return run.folder / "report" / "report.html"


def stacks_of(settings: Any) -> dict[str, Ensemble]:
    """All stacks with the recipe's parameters, unfitted."""
    forest = {k: getattr(settings, k) for k in ("trees", "max_depth", "min_leaf", "min_split", "folds", "per_class")}
    shared = {"in_sample": settings.in_sample, "seed": settings.seed}
    return {
        "random_forest": stacking.make("random_forest", **forest, **shared, decimals=settings.decimals),
        "logistic": stacking.make("logistic", **shared, decimals=settings.decimals),
        "log_pool": stacking.make("log_pool", **shared),
    }


def lacks_features(run: Run, machine: Machine, listener: Listener | None = None) -> bool:
    """Whether features have to be extracted before the run goes on; errors as for :func:`unchanged`."""
    there = run.done("train") or (run.done("extract") and readable(run))
    return not unchanged(run, machine, listener) or not there


def readable(run: Run) -> bool:
    """Whether the features of a run still lie where extraction left them."""
    try:
        return all(not found.missing for found in run.features.values())
    except SerkitError:
        return False


def _begun(path: Path, recipe: Recipe) -> bool:
    """Whether a file is what a :func:`prepare` that was stopped leaves of the same run."""
    if path.name == "recipe.yaml":
        return load_recipe(path).fingerprint == recipe.fingerprint
    return path.name == RECORD or (path.name.startswith(".") and path.name.endswith(".part"))


def _gather(run: Run, system: str, split: str) -> Predictions:
    """Scores of a system's networks on a split as one table; train (and dev ``with_dev``) out-of-fold if it can be."""
    folds = run.recipe.crossfit.fold_models if run.recipe.crossfit is not None else ()
    held_out = split if split in run.scored_splits else "train"
    models = folds if folds and held_out == "train" else run.served
    whole = Predictions.joined([Predictions.load(run.network(system, m) / f"{held_out}.parquet") for m in models])
    if held_out == "train" and folds:
        order = [u.id for u in run.manifest if u.split == split]
        whole = whole.take(order)
    return whole


def _choice_text(choice: Any, kept: str) -> str:
    row = {"kept": kept, "metric": choice.metric, "out_of_fold": choice.scores, "best_out_of_fold": choice.best}
    return json.dumps(row, indent=1) + "\n"


def _tell(listener: Listener | None, stage: str, detail: str) -> None:
    if listener is not None:
        listener(StageBegins(stage, detail))
