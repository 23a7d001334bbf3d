"""From a published classifier, or model of ratings, to a bundle: no run is behind it, nothing in it is calibrated.

Needs torch and onnx, and transformers for its classes; what it writes needs none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from serkit import __version__
from serkit.calibration import Calibration
from serkit.checkpoint_table import UNKNOWN
from serkit.encoders.waveform import Waveform
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError
from serkit.foundation import classifiers
from serkit.foundation.classifier_networks import AnyLoaded, Loaded, LoadedEmotion2vec, load
from serkit.foundation.classifiers import Published
from serkit.foundation.trainable import Backbone, Emotion2vecBackbone, WaveBackbone, WhisperBackbone
from serkit.foundation.whisper import mel_filters
from serkit.models.speech_backbone import SpeechBackbone
from serkit.pipeline.inputs import WAVEFORM
from serkit.regions import Kind
from serkit.reporting.text import listed
from serkit.serving import author_networks, ensembles
from serkit.serving.building import MAX_CLIP_S
from serkit.serving.bundle import write_bundle
from serkit.serving.bundle_files import check_new
from serkit.serving.bundle_parts import check_max_clip
from serkit.serving.card_parts import INTENDED, literal
from serkit.serving.checked import TOLERANCE, checked_graph
from serkit.serving.graphs import Weights, onnx_package
from serkit.serving.model_card import of_ratings
from serkit.serving.rated import PROBABILITIES, Rated, Scale, rated
from serkit.tensors import Batch
from serkit.types import CANONICAL_LABELS

SYSTEM = "imported"
MODEL = "speech_backbone"
MOST_BYTES = 2_000_000_000  # of one ONNX file; protobuf ends a little above
_BYTES: Mapping[Weights, int] = {"float32": 4, "float16": 2, "int8": 1}
_COMPARED_S = (0.3, 1.0, 2.5)


@dataclass(frozen=True)
class Imported:
    """What was written.

    Attributes:
        path: of the bundle. name: of the model. labels: by the checkpoint's own words; or names of its ratings.
        regions: the bundle's labels, where the checkpoint has no classes but ratings.
        licence: as its README has it. n_bytes: size of the bundle's files.
        difference: largest difference of a logit (or rating), in torch, from its own class's.
        origin: whose class that is. notes: what was decided by the weights, or is not known.
    """

    path: Path
    name: str
    labels: Mapping[str, str]
    licence: str
    n_bytes: int
    difference: float
    origin: str
    notes: tuple[str, ...]
    regions: tuple[str, ...] = ()

    @property
    def unclear(self) -> tuple[str, ...]:
        """The labels that are none of serkit's own."""
        return () if self.regions else tuple(x for x in self.labels.values() if x not in CANONICAL_LABELS)


def import_checkpoint(
    source: str,
    out: Path,
    *,
    name: str | None = None,
    labels: Mapping[str, str] | None = None,
    weights: Weights = "float32",
    licence: str | None = None,
    max_clip_s: float = MAX_CLIP_S,
    regions: Kind | None = None,
    rating_scale: Scale | None = None,
    answer_scale: Scale | None = None,
    progress: Callable[[str], None] | None = None,
) -> Imported:
    """Make a bundle of a published classifier, or of a model of arousal, valence and dominance.

    Args:
        source: ``hub:ORG/MODEL``, or ``path:DIR``, a folder in the hub's layout; or ``emotion2vec/plus-base``.
        out: folder, or a file ending in .zip or .serkit. name: of the bundle; the model's where ``None``.
        labels: names of its classes by its own words, see :func:`serkit.foundation.classifiers.labels_of`.
        weights: how matrices are stored. licence: of the weights; where ``None`` what its README says.
        max_clip_s: a longer recording is answered by its stretches of speech.
        regions, rating_scale, answer_scale: of a model of ratings, see :func:`serkit.serving.rated.rated`.
        progress: told what is being done.

    Raises:
        SerkitError: ``out`` is there already; a checkpoint that is not read, see :mod:`serkit.foundation.classifiers`;
            numbers that are not those of its class. MissingExtra: transformers or onnx is not installed.
    """
    check_max_clip(max_clip_s)
    check_new(out)
    onnx_package()
    tell = progress or (lambda line: None)
    tell(f"reading the files of {source}")
    published = classifiers.read(source, labels)
    ratings = rated(published, regions, rating_scale, answer_scale)
    known = published.labels if ratings is None else ratings.labels
    tell(f"loading {published.architecture}")
    loaded = load(published)
    _refuse_large(loaded, weights)
    if loaded.window_s is not None and max_clip_s > loaded.window_s:
        raise SerkitError(
            f"clips of at most {max_clip_s:g} s: {loaded.architecture} hears {loaded.window_s:g} s at a time; give "
            f"--max-clip {loaded.window_s:g} or less"
        )
    network, difference = compared(loaded, len(published.labels))
    if ratings is not None:
        network = ratings.placed(network)
    numbers = "logits" if ratings is None else "ratings"
    tell(f"{numbers} differ from those of {loaded.origin} by {difference:.1e}; writing the graph")
    graph, exported = checked_graph(network, MODEL, known, weights, network.dims)
    if ratings is not None:
        ratings.check(exported, weights)
    tell(f"{len(graph)} bytes, differs from torch by {exported:.1e}")
    about = _about(published, loaded, name or published.short, weights, licence, max_clip_s, ratings)
    file = f"networks/{SYSTEM}.onnx"
    about["networks"] = [
        {
            "system": SYSTEM, "model": "full", "file": file, "features": [WAVEFORM], "batches": True,
            "bytes": len(graph), "largest_difference": exported, **({"attributes": True} if ratings else {}),
        }
    ]  # fmt: skip
    about["largest_difference"] = exported
    about["imported"] |= {"largest_difference": difference, "sum": _sum(network)}
    files = {file: graph, "card.md": _card(about, sum(p.numel() for p in network.parameters())).encode()}
    write_bundle(about, files, out)
    return Imported(
        out, str(about["name"]), about["imported"]["labels"], about["licence"]["weights"],
        sum(map(len, files.values())), difference, loaded.origin, tuple(about["imported"]["notes"]),
        () if ratings is None else known,
    )  # fmt: skip


def compared(loaded: AnyLoaded, n_classes: int) -> tuple[SpeechBackbone, float]:
    """serkit's network with the weights of a classifier, and the largest difference of a logit from its class's.

    Raises:
        SerkitError: they differ by more than 1e-4.
    """
    import torch

    rng = np.random.default_rng(0)
    lengths_s = [min(s, loaded.window_s or s) for s in _COMPARED_S]
    clips = [(0.1 * rng.standard_normal(round(s * SAMPLE_RATE_HZ)) + 0.02).astype(np.float32) for s in lengths_s]
    wanted = loaded.logits(clips)  # first: the network is built of the model's own modules, and changes some
    network = network_of(loaded, n_classes)
    found = []
    with torch.inference_mode():
        for clip in clips:
            features, lengths = {WAVEFORM: torch.from_numpy(clip[None, :, None])}, {WAVEFORM: torch.tensor([len(clip)])}
            found.append(network(Batch(("clip",), features, lengths, torch.tensor([-1]))).emotion.numpy())
    if not np.isfinite(wanted).all():
        raise SerkitError(f"the weights give no finite numbers in {loaded.architecture}: is the file damaged?")
    difference = float(np.abs(np.concatenate(found) - wanted).max())
    if not difference <= TOLERANCE["float32"]:
        raise SerkitError(
            f"serkit's logits differ from those of {loaded.origin} by {difference:.2g}, allowed are "
            f"{TOLERANCE['float32']:g}: this variant of the network is not supported"
        )
    return network, difference


def network_of(loaded: AnyLoaded, n_classes: int) -> SpeechBackbone:
    """serkit's network that computes the same, in evaluation mode; the model's own modules become part of it."""
    import torch

    if isinstance(loaded, LoadedEmotion2vec):
        return _of_emotion2vec(loaded)
    if isinstance(loaded, author_networks.Authored):
        return author_networks.network_of(loaded, n_classes)
    model, config, dense = loaded.model, loaded.model.config, loaded.dense
    weighted = dense is None and bool(config.use_weighted_layer_sum)
    raw_end = weighted and loaded.raw_end
    network = SpeechBackbone(
        dims={WAVEFORM: 1},
        n_classes=n_classes,
        backbone=_backbone(loaded, raw_end),
        tuning="frozen",
        states="weighted" if weighted else "last",
        frame_layers=1 if dense is None else 0,
        frame_width=int(config.classifier_proj_size),
        pooling="mean",
        hidden=0 if dense is None else int(config.hidden_size),
        activation="relu" if dense is None else "tanh",
    )
    layers = (model.classifier,) if dense is None else (dense.dense, dense.out)
    with torch.no_grad():
        if network.layer_weights is not None:
            network.layer_weights.logits.copy_(model.layer_weights)
        if network.frame_layers is not None:
            network.frame_layers[0].load_state_dict(model.projector.state_dict())
        placed = [part for part in network.head.emotion if isinstance(part, torch.nn.Linear)]
        for part, layer in zip(placed, layers, strict=True):
            part.load_state_dict(layer.state_dict())
    return network.eval()


def _of_emotion2vec(loaded: LoadedEmotion2vec) -> SpeechBackbone:
    """The same of emotion2vec+: its classes that are not used are left out, as FunASR gives them no probability."""
    import torch

    model, used = loaded.classifier.model, loaded.used
    network = SpeechBackbone(
        dims={WAVEFORM: 1}, n_classes=len(used), backbone=Emotion2vecBackbone(model), tuning="frozen", pooling="mean"
    )
    last, proj = (cast(torch.nn.Linear, layer) for layer in (network.head.emotion[-1], model.proj))
    with torch.no_grad():
        last.weight.copy_(proj.weight[used])
        last.bias.copy_(proj.bias[used])
    model.proj = None  # it is in the head now
    return network.eval()


def _backbone(loaded: Loaded, raw_end: bool) -> Backbone:
    """The network below the head, on samples."""
    if not loaded.hears_windows:
        return WaveBackbone(loaded.body, normalise=bool(loaded.front.do_normalize), raw_end=raw_end)
    filters = mel_filters(loaded.architecture, int(loaded.front.feature_size))
    positions = int(loaded.model.config.max_source_positions)
    # its front end has do_normalize too, and normalises only where a call asks it to
    return WhisperBackbone(loaded.body, normalise=False, filters=filters, frames=positions, whole=True)


def _refuse_large(loaded: AnyLoaded, weights: Weights) -> None:
    """Refuse what does not fit into one ONNX file."""
    n = loaded.n_parameters
    if n * _BYTES[weights] <= MOST_BYTES:
        return
    fitting = [kind for kind, size in _BYTES.items() if n * size <= MOST_BYTES]
    raise SerkitError(
        f"{n / 1e6:.0f} million weights are {n * _BYTES[weights] / 1e9:.1f} GB as {weights}, and an ONNX file holds "
        f"{MOST_BYTES / 1e9:g} GB: " + (f"use --weights {' or '.join(fitting)}" if fitting else "it cannot be imported")
    )


def _sum(network: SpeechBackbone) -> str:
    """How the layers are summed, in words; empty where they are not."""
    if network.layer_weights is None:
        return ""
    if not getattr(network.backbone.model.config, "do_stable_layer_norm", False):
        return "all layers"
    return f"all layers, the last one {'before' if network.backbone.raw_end else 'after'} its normalisation"


def _about(
    published: Published,
    loaded: AnyLoaded,
    name: str,
    weights: Weights,
    licence: str | None,
    max_clip_s: float,
    ratings: Rated | None,
) -> dict[str, Any]:
    """What ``bundle.json`` says, but for the network."""
    spec = Waveform().spec
    labels = published.labels if ratings is None else ratings.labels
    n = len(labels)
    unfitted = Calibration("none", labels, (1.0,) * n, (0.0,) * n, {})
    facts = {
        "from": published.title,
        "class": loaded.architecture,
        "class_of": loaded.origin,
        "notes": [*loaded.notes, *(ratings.notes if ratings else ())],
        **({"ratings": ratings.facts()} if ratings else {}),
        "longer": "reads it whole" if loaded.window_s is None else f"hears its first {loaded.window_s:g} s",
        "revision": published.revision,
        "weights": published.weights,
        "labels": dict(zip(published.words, published.labels, strict=True)),
        "licence_by": "whoever imported it" if licence else "its README" if published.licence != UNKNOWN else "",
        "datasets": list(published.datasets),
        "languages": list(published.languages),
    }
    return {
        "name": name,
        "serkit": __version__,
        "description": f"Imported from {published.title}.",
        "labels": list(labels),
        **(ratings.head() if ratings else {}),
        "system": SYSTEM,
        "features": {
            WAVEFORM: {"name": WAVEFORM, "parameters": {}, "spec": asdict(spec), "fingerprint": spec.fingerprint}
        },
        "stack": ensembles.alone(SYSTEM, labels),
        "calibration": unfitted.to_row(),
        "weights": weights,
        "max_clip_s": max_clip_s,
        "licence": {"weights": licence or published.licence, "code": "Apache-2.0"},
        "imported": facts,
    }


def _card(about: Mapping[str, Any], n_parameters: int) -> str:
    """The card as Markdown: frank about what is not known."""
    facts = about["imported"]
    said = [f"data sets: {literal(listed(facts['datasets']))}"] if facts["datasets"] else []
    said += [f"languages: {literal(listed(facts['languages']))}"] if facts["languages"] else []
    readme = f" Its README names {'; '.join(said)}. serkit did not check this." if said else ""
    words = ["| the checkpoint's word | label here |", "|---|---|"]
    words += [f"| {literal(word)} | {literal(label)} |" for word, label in facts["labels"].items()]
    by = {"": "its README names none", "its README": "as its README says"}.get(
        facts["licence_by"], "as given by the person who imported it"
    )
    unsure = (
        f"{PROBABILITIES}."
        if "ratings" in facts
        else "Its confidence is the softmax of the network, which is often too high."
    )
    numbers = "a rating (of ONNX in widths of its scale)" if "ratings" in facts else "a logit"
    parts = [
        f"# {about['name']}",
        f"Imported from {facts['from']}. serkit neither trained nor measured this model.",
        f"Labels: {literal(', '.join(about['labels']))}." + of_ratings(about),
        "## Intended use",
        INTENDED,
        "## Data",
        f"Unknown to serkit: what it was trained on, on how many speakers, in which languages.{readme} Recordings that "
        "you measure it with may have been in its training.",
        "## Measured results",
        "None. Measure it on labelled recordings of your own: `serkit measure`.",
        "## Calibration",
        f"None. {unsure} No answer is marked unsure, and "
        "`--threshold` is refused, because no held-out clips are known. `serkit adapt --corpus` corrects the "
        "probabilities by labelled clips of yours, and measures thresholds on them.",
        "## Known failures",
        f"Unknown to serkit. A recording longer than {about['max_clip_s']:g} s is answered by its stretches of speech, "
        "where its own class " + facts["longer"] + ".",
        "## What is in it",
        f"1 network ({about['weights']} weights), {n_parameters} parameters: `{facts['class']}` of "
        f"{facts['class_of']}, revision `{facts['revision']}`, hash of its weights `{facts['weights']}`. "
        + (f"Weighted sum of {facts['sum']}. " if facts["sum"] else "")
        + f"It needs no other weights. Largest difference of {numbers}: {facts['largest_difference']:.1e} between "
        f"serkit and that class, {about['largest_difference']:.1e} between ONNX and torch. serkit {about['serkit']}.",
        *(f"Note: {literal(note)}." for note in facts["notes"]),
        "\n".join(words),
        "## Licence",
        f"Weights: {literal(about['licence']['weights'])} ({by}). The pretrained network and the recordings that they "
        f"were computed from may have licences of their own.\n\nCode: {about['licence']['code']}",
    ]
    return "\n\n".join(parts) + "\n"
