"""From the folder of a run to a bundle. Needs torch, scikit-learn and onnx; what it writes needs none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from serkit import __version__, across, calibration, conformal, evaluation, metrics, stacking
from serkit.calibration import Method
from serkit.concordance import rating_scale
from serkit.errors import MissingExtra, SerkitError, did_you_mean
from serkit.files import content_hash
from serkit.layers import FeatureNormalisation
from serkit.models._attributes import AttributeHead
from serkit.networks import NetworkConfig, load_config, load_network, tokenizer_of
from serkit.pipeline.run import Run
from serkit.predictions import Predictions
from serkit.recipe import Recipe
from serkit.serving import adaptation, ensembles
from serkit.serving.bundle import HELD_OUT, INPUTS, STACK, write_bundle
from serkit.serving.bundle_encoders import TOKENIZER, encoders_of, own_modules
from serkit.serving.bundle_files import check_new
from serkit.serving.bundle_parts import arrays_file, check_max_clip, held_out_file, sureness
from serkit.serving.card_parts import DIAGRAM, reliability_diagram
from serkit.serving.checked import checked_graph
from serkit.serving.graphs import Weights
from serkit.serving.model_card import write_card
from serkit.text_rows import json_object
from serkit.types import ATTRIBUTES

LEAST_DEV = 100  # with fewer labelled dev clips, out-of-fold training scores are added
MAX_CLIP_S = 20.0  # a longer recording is answered by its stretches of speech
DATA_LICENCES = "see card.md: the weights are a derivative of the data they were trained on"


_Statistics = dict[str, list[tuple[np.ndarray, np.ndarray]]]  # mean and deviation of each network, by feature


@dataclass(frozen=True)
class Built:
    """What was written.

    Attributes:
        path: of the bundle. n_networks, n_bytes: how many, and how large it is.
        difference: largest difference of a network's logits from torch's on random clips.
        system: what answers.
    """

    path: Path
    system: str
    n_networks: int
    n_bytes: int
    difference: float


def build(
    run: Run,
    out: Path,
    *,
    system: str | None = None,
    name: str | None = None,
    weights: Weights = "float32",
    method: Method = "temperature",
    licence: str | None = None,
    max_clip_s: float = MAX_CLIP_S,
    notes: str = "",
    progress: Callable[[str], None] | None = None,
) -> Built:
    """Make a bundle of a trained run.

    Args:
        out: folder, or a file ending in .zip or .serkit. system: a system or ensemble of the run; the stack
            where there is one, else the mean logit, else the only system.
        name: of the bundle; the recipe's where ``None``.
        weights: how matrices are stored. method: of the calibration.
        licence: of the weights; where ``None`` the bundle refers to the licences of its data.
        max_clip_s: a longer recording is answered by its stretches of speech; not much above the length of the
            training clips, as statistics of a whole clip change with its length.
        notes: what else its card has to say, as Markdown: other measurements, what was tried.
        progress: told what is being done.

    Raises:
        SerkitError: ``out`` is there already; an unfinished run, an unknown system, encoders whose weights are others
            than those the run was trained with, or a network that
            :func:`serkit.serving.checked.checked_graph` refuses.
    """
    check_max_clip(max_clip_s)
    check_new(out)
    tell = progress or (lambda line: None)
    chosen, head, arrays = _stack(run, system)
    files: dict[str, bytes] = {"recipe.yaml": run.recipe.to_yaml().encode()}
    networks, features, inputs, worst, attributes = _networks(run, head["systems"], weights, files, tell)
    if arrays:
        files[STACK] = arrays_file(arrays)
    if inputs:
        files[INPUTS] = arrays_file(_mean_statistics(inputs, features))
    tell(f"calibrating '{chosen}' ({method})")
    fitted, held, sets, extra = _calibrated(run, chosen, method)
    files[HELD_OUT] = held_out_file(*held)
    about: dict[str, Any] = {
        "name": name or run.recipe.name,
        "serkit": __version__,
        "description": run.recipe.description,
        "labels": list(run.manifest.labels),
        **({"attributes": attributes, **_scale(run)} if attributes else {}),
        "system": chosen,
        "features": features,
        "networks": networks,
        "stack": head,
        "calibration": fitted.to_row(),
        **sureness(*held),
        "sets": sets,
        "weights": weights,
        "largest_difference": worst,
        "max_clip_s": max_clip_s,
        "hears_calls": hears_calls(run.recipe),
        "licence": {"weights": licence or DATA_LICENCES, "code": "Apache-2.0"},
        "trained_on": _trained_on(run),
        "calibrated_on": extra,
    }
    files[DIAGRAM] = reliability_diagram(about).encode()
    files["card.md"] = write_card(run, about, notes).encode()
    if licence:
        files["LICENCE.md"] = _licence_text(about).encode()
    encoders_of(features, str(run.folder), __version__, files.__getitem__)  # what could not be opened is not written
    write_bundle(about, files, out)
    for module in own_modules(str(row["name"]) for row in features.values()):
        tell(f"to use it, the module '{module}' is needed too, and SERKIT_PLUGINS={module}: no code is in a bundle")
    size = sum(len(content) for content in files.values())
    return Built(out, chosen, len(networks), size, worst)


def _scale(run: Run) -> dict[str, list[float]]:
    """The scale of the ratings that were learned, if it is known: lowest and highest."""
    scale = rating_scale(run.manifest)
    return {} if scale is None else {"rating_scale": list(scale)}


def _trained_on(run: Run) -> dict[str, str]:
    manifest = run.manifest
    return {"corpus": across.trained_on(manifest), "manifest": manifest.fingerprint, "recipe": run.recipe.fingerprint}


def hears_calls(recipe: Recipe) -> bool:
    """Whether all systems of a recipe were trained on the band of a telephone too, by a copy or an augmentation."""
    copied = any(step.name == "telephone" for copy in recipe.copies for step in copy)
    return copied or all(any(s.name == "telephone" for s in system.augment) for system in recipe.systems.values())


def _stack(run: Run, system: str | None) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """What answers, and what a bundle keeps of it."""
    singles = list(run.recipe.systems)
    built = run.ensembles
    system = system or run.lead
    if system is None:
        raise SerkitError(f"{run.folder}: the run has {len(singles)} systems and no ensemble yet; run stack first")
    if system in singles:
        return system, ensembles.alone(system, run.manifest.labels), {}
    if system not in built:
        raise SerkitError(f"{run.folder}: no system or ensemble '{system}'" + did_you_mean(system, [*singles, *built]))
    kept = _kept(run, system)
    head, arrays = ensembles.to_arrays(stacking.load(run.folder / "stack" / kept))
    return system, {**head, "name": kept}, arrays


def _kept(run: Run, system: str) -> str:
    """The ensemble that a name stands for: ``stack`` for the one that was chosen."""
    return str(json_object(run.folder / "stack" / "choice.json").get("kept")) if system == "stack" else system


def _networks(
    run: Run, systems: list[str], weights: Weights, files: dict[str, bytes], tell: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, Any], _Statistics, float, list[str]]:
    """Graphs into ``files``; their entries, the features they read with their statistics of training, the largest
    difference from torch, and the attributes that some system learned in all its models."""
    entries: list[dict[str, Any]] = []
    features: dict[str, Any] = {}
    inputs: _Statistics = {}
    worst = 0.0
    taught: dict[str, set[str]] = {}
    for system in systems:
        for model in run.served:
            folder = run.network(system, model)
            config = load_config(folder)
            network, _ = load_network(folder)
            try:
                content, difference = checked_graph(
                    network, str(config.model["name"]), config.labels, weights, config.dims
                )
            except MissingExtra:
                raise
            except SerkitError as error:
                raise SerkitError(f"{system}/{model}: {error}") from None
            worst = max(worst, difference)
            learned = _taught(network)
            taught.setdefault(system, set(ATTRIBUTES)).intersection_update(learned)
            file = f"networks/{system}.{model}.onnx"
            files[file] = content
            batches = getattr(network, "masked", True) is not False
            row: dict[str, Any] = {"system": system, "model": model, "file": file, "features": list(config.features)}
            row |= {"attributes": True} if learned else {}
            entries.append({**row, "batches": batches, "bytes": len(content), "largest_difference": difference})
            for key, feature in config.features.items():
                features.setdefault(key, dict(feature))
                if config.text_backbone is not None and str(feature["name"]).startswith("tokens/"):
                    features[key][TOKENIZER] = _kept_tokenizer(folder, config, files)
            layer = getattr(network, "normalisation", None)
            for key, (mean, std) in layer.statistics().items() if isinstance(layer, FeatureNormalisation) else ():
                inputs.setdefault(key, []).append((mean.numpy(), std.numpy()))
            tell(f"{system}/{model}: {len(content)} bytes, differs from torch by {difference:.1e}")
    return entries, features, inputs, worst, [name for name in ATTRIBUTES if name in set().union(*taught.values())]


def _kept_tokenizer(folder: Path, config: NetworkConfig, files: dict[str, bytes]) -> str:
    """The tokenizer of a network as one of the files; its name."""
    content = tokenizer_of(folder, config)
    name = f"tokenizers/{content_hash(content)}.json"
    files[name] = content
    return name


def _taught(network: Any) -> set[str]:
    """The attributes that a network learned."""
    heads = [part for part in network.modules() if isinstance(part, AttributeHead)]
    return {name for head in heads for name, mean in zip(ATTRIBUTES, head.mean.tolist(), strict=True) if mean == mean}


def _mean_statistics(inputs: _Statistics, features: Iterable[str]) -> dict[str, np.ndarray]:
    """Of the networks of all folds, for the file of a bundle."""
    means = [{key: np.mean([pair[k] for pair in found], axis=0) for key, found in inputs.items()} for k in (0, 1)]
    return adaptation.to_arrays(means, ("mean", "deviation"), features)


def _calibrated(
    run: Run, system: str, method: Method
) -> tuple[calibration.Calibration, tuple[np.ndarray, np.ndarray], list[dict[str, Any]], dict[str, Any]]:
    """The calibration, held-out calibrated scores with their truth, the sets of these, and what is to be said."""
    crossfit = run.recipe.crossfit
    dealt = crossfit is not None and crossfit.with_dev
    splits = ["dev (out-of-fold)" if dealt else "dev"]
    parts = [_as_served(run, system, "dev")]
    if crossfit is not None and (dealt or len(parts[0].truth) < LEAST_DEV):
        parts.append(_as_served(run, system, "train"))
        splits.append("train (out-of-fold)")
    probabilities = np.concatenate([p.probabilities for p in parts])
    truth = np.concatenate([p.truth for p in parts])
    speakers = [s for p in parts for s in p.speakers]
    fitted, held = calibration.fit_and_measure(probabilities, truth, speakers, run.manifest.labels, method)
    record: dict[str, Any] = {**fitted.record, "splits": splits}
    if any(u.split == "test" and u.emotion is not None for u in run.manifest):
        test = _as_served(run, system, "test")
        after = fitted.apply(test.probabilities)
        record["test"] = {
            "rows": len(test.truth),
            "speakers": len({s for s in test.speakers if s is not None}),
            "ece_before": metrics.ece(test.probabilities, test.truth),
            "ece_after": metrics.ece(after, test.truth),
            "reliability": calibration.reliability(after, test.truth),
            "levels": [vars(level) for level in calibration.levels(after, test.truth, (0.0, 0.5, 0.7, 0.9))],
        }
    sets = conformal.crossed(held, truth, run.manifest.labels, speakers)
    return replace(fitted, record=record), (held, truth), sets, {"splits": splits, "rows": len(truth)}


def _as_served(run: Run, system: str, split: str) -> evaluation.Decisions:
    """Answers among all classes: whoever asks a bundle does not say of which corpus the recording could be."""
    given = run.predictions(system, split)
    rows = evaluation.decide(given, run.manifest, split=split)
    if system not in run.recipe.systems and any(len(s) < len(given.labels) for s in run.manifest.class_sets.values()):
        given = _among_all(run, _kept(run, system), split)  # what the run keeps is among the classes of each corpus
    table = given.pooled().take([u.id for u in rows.utterances])
    return replace(rows, answer=table.scores.argmax(axis=1), probabilities=table.probabilities())


def _among_all(run: Run, ensemble: str, split: str) -> Predictions:
    """Answers of an ensemble of a run, as its tables have them, but among all classes."""
    scores = {name: run.predictions(name, split) for name in run.recipe.systems}
    fitted = stacking.load(run.folder / "stack" / ensemble)
    if split == "train" and ensemble in stacking.FITTED and run.recipe.stack is not None:
        return stacking.cross_fitted(fitted, scores, run.manifest, seed=run.recipe.stack.seed, among_all=True)
    return fitted.predict(scores)


def _licence_text(about: dict[str, Any]) -> str:
    return (
        f"# Licence of the weights of '{about['name']}'\n\n{about['licence']['weights']}\n\n"
        "It covers the files under networks/, stack.safetensors and calibration.safetensors of this bundle, which were "
        f"computed from the recordings named in card.md. serkit's code is licensed separately, "
        f"{about['licence']['code']}.\n"
    )
