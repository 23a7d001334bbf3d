"""The bundle: a whole trained system as one folder or one file, read without pickle, torch or scikit-learn.

::

    bundle.json                    what it is: labels, encoders, networks, stack, calibration, files and hashes
    recipe.yaml                    the recipe it was trained by; an imported one has only a card and its network
    card.md                        for people: data, licences, measured results, known failures
    reliability.svg                the card's reliability diagram
    networks/SYSTEM.MODEL.onnx     one network each (see serkit.serving.export)
    tokenizers/HASH.json           of a network with a text model in it, what makes its tokens of a text
    stack.safetensors              node tables or weights of the stack (see serkit.serving.ensembles)
    calibration.safetensors        scores and truth of held-out speakers, from which thresholds are measured
    adapted.safetensors            what moves the features (serkit.serving.adaptation), if it was adapted
    labelled.safetensors           what corrects the answers (serkit.serving.correction), if labelled clips taught it

As one file it is a zip whose members are stored, not compressed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from serkit.calibration import Calibration
from serkit.combining import Ensemble
from serkit.config import config_path, plugins
from serkit.encoding import Encoder
from serkit.errors import SerkitError, did_you_mean
from serkit.files import content_hash, fingerprint, replacing, replacing_folder
from serkit.serving.adaptation import Adaptation
from serkit.serving.adaptation import from_arrays as feature_arrays
from serkit.serving.bundle_encoders import encoders_of, own_modules
from serkit.serving.bundle_files import check_new, in_archive, in_folder, write_archive
from serkit.serving.bundle_head import HEAD, NetworkEntry, check_head, check_names
from serkit.serving.correction import Correction
from serkit.serving.ensembles import from_arrays
from serkit.types import ATTRIBUTES

FORMAT = 4  # the newest that is read; written is the lowest that says all, so that earlier versions read it
STACK, HELD_OUT = "stack.safetensors", "calibration.safetensors"
INPUTS, ADAPTED, LABELLED = "inputs.safetensors", "adapted.safetensors", "labelled.safetensors"
NAMED = Path(__file__).resolve().parents[1] / "bundles"
CALLS = {"default": "telephone"}  # of the bundles that come with serkit: which one answers calls in place of which
_ELSEWHERE = re.compile(rb"(\x0a|\x8a\x80*[\x00-\x7f])(\x08|\x88\x80*\x00)location")  # of weights: a key of protobuf
SUFFIXES = (".zip", ".serkit")


class Bundle:
    """A bundle on disk; what it holds is read and checked when it is asked for.

    Args:
        head: content of ``bundle.json``. read: bytes of a file of the bundle. source: where it is, for messages.

    Attributes:
        name: of the bundle. labels: class order. scored: that of the networks and the stack, which is another one where
            labelled clips taught labels of their own (``own_labels``). fingerprint: hash of everything it says of
            itself, file hashes included. attributes: those of arousal, valence and dominance that it answers.
        features: what its encoders are, by the key that networks name. networks: in the order of ``bundle.json``.
        max_clip_s: longer recordings are answered part by part.

    Raises:
        SerkitError: a head that is damaged, or whose parts do not fit each other. Files are checked when they are read.
    """

    def __init__(self, head: Mapping[str, Any], read: Callable[[str], bytes], source: str) -> None:
        self.head, self._read, self.source = head, read, source
        check_head(head, source)
        self.name: str = head["name"]
        self.labels: tuple[str, ...] = tuple(head["labels"])
        self.own_labels = "network_labels" in head
        self.scored: tuple[str, ...] = tuple(head.get("network_labels", self.labels))
        self.features: Mapping[str, Mapping[str, Any]] = head["features"]
        self.networks = tuple(
            NetworkEntry(
                n["system"], n["model"], n["file"], tuple(n["features"]), n["batches"], n.get("attributes", False)
            )
            for n in head["networks"]
        )
        self.max_clip_s = float(head["max_clip_s"])
        self.attributes = tuple(name for name in ATTRIBUTES if name in head.get("attributes", ()))
        self._files: Mapping[str, Mapping[str, Any]] = head["files"]
        try:
            json.dumps(head, ensure_ascii=False).encode()
        except ValueError as error:  # half a surrogate pair
            raise SerkitError(f"{source}: {HEAD} is damaged: {error}") from None
        self.fingerprint = fingerprint(head)
        if self.max_clip_s <= 0.0:
            raise SerkitError(f"{source}: {HEAD} is damaged: max_clip_s is {self.max_clip_s:g}, expected more than 0")
        unknown = {f for n in self.networks for f in n.features} - set(self.features)
        if unknown or not self.networks or len(set(self.labels)) != len(self.labels):
            raise SerkitError(f"{source}: {HEAD} is damaged: networks, features and labels do not fit each other")

    @property
    def id(self) -> str:
        """Name and the begin of the fingerprint: what answers say of the model they are by."""
        return f"{self.name}@{self.fingerprint[:12]}"

    def read(self, name: str) -> bytes:
        """A file of the bundle, if it is the one that was written.

        Raises:
            SerkitError: the bundle lists no such file, or its content is another.
        """
        entry = self._files.get(name)
        if entry is None:
            raise SerkitError(f"{self.source}: the bundle has no file '{name}'" + did_you_mean(name, self._files))
        content = self._read(name)
        if content_hash(content) != entry["blake2b"]:
            raise SerkitError(f"{self.source}: '{name}' is damaged: its content is not what {HEAD} says")
        return content

    def network(self, entry: NetworkEntry) -> bytes:
        """The graph of a network; errors as for :meth:`read`, and for one with weights in a file of its own."""
        content = self.read(entry.file)
        if b"location" in content and _ELSEWHERE.search(content):
            raise SerkitError(f"{self.source}: '{entry.file}' has weights in another file, which is not in the bundle")
        return content

    def text(self, name: str) -> str:
        """A text file of the bundle, such as ``card.md``; errors as for :meth:`read`."""
        return self.read(name).decode("utf-8")

    @cached_property
    def stack(self) -> Ensemble:
        """What makes one answer of the networks' scores.

        Raises:
            SerkitError: it is damaged, or not of these networks and labels.
        """
        found = from_arrays(self.head["stack"], self._arrays(STACK) if STACK in self._files else {})
        models = {system: {n.model for n in self.networks if n.system == system} for system in found.systems_}
        first = models[found.systems_[0]] if found.systems_ else set()
        if found.labels_ != self.scored or not first or any(of != first for of in models.values()):
            said = "its systems, their models or its labels differ"
            raise SerkitError(f"{self.source}: the stack does not belong to these networks: {said}")
        return found

    @cached_property
    def calibration(self) -> Calibration:
        """The scaling of the stack's probabilities.

        Raises:
            SerkitError: it is of no known method, or of other labels.
        """
        found = Calibration.from_row(self.head["calibration"])
        if found.labels != self.scored:
            raise SerkitError(f"{self.source}: the calibration does not belong to this stack: its labels differ")
        return found

    @cached_property
    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """(rows, classes) float64 calibrated probabilities and (rows,) int64 truth of speakers not trained on.

        There are no rows where the bundle keeps none, such as an imported one.

        Raises:
            SerkitError: they are not of these labels.
        """
        if HELD_OUT not in self._files:
            return np.zeros((0, len(self.labels))), np.zeros(0, dtype=np.int64)
        arrays, n = self._arrays(HELD_OUT), len(self.labels)
        shapes = tuple(arrays[name].shape if name in arrays else () for name in ("probabilities", "truth"))
        if len(shapes[1]) != 1 or shapes[0] != (*shapes[1], n):
            raise SerkitError(f"{self.source}: '{HELD_OUT}' does not fit {n} labels: its arrays are of shape {shapes}")
        probabilities, truth = arrays["probabilities"].astype(np.float64), arrays["truth"].astype(np.int64)
        if not np.isfinite(probabilities).all() or not ((truth >= 0) & (truth < n)).all():
            raise SerkitError(f"{self.source}: '{HELD_OUT}' does not fit {n} labels: its values are others")
        return probabilities, truth

    @cached_property
    def inputs(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """(dim,) float64 mean and deviation of training's frames, of the features that networks standardise by them."""
        arrays = self._arrays(INPUTS) if INPUTS in self._files else {}
        where = f"{self.source}: '{INPUTS}'"
        mean, deviation = feature_arrays(arrays, ("mean", "deviation"), self.features, where)
        return {key: (mean[key].astype(np.float64), deviation[key].astype(np.float64)) for key in mean}

    @cached_property
    def adaptation(self) -> Adaptation | None:
        """What is done to features before the networks, where the bundle was adapted to recordings."""
        if ADAPTED not in self._files:
            return None
        where = f"{self.source}: '{ADAPTED}'"
        return Adaptation(*feature_arrays(self._arrays(ADAPTED), ("scale", "offset"), self.features, where))

    @cached_property
    def correction(self) -> Correction | None:
        """What is done to answers, where the bundle was adapted to labelled clips."""
        if LABELLED not in self._files and self.own_labels:
            raise SerkitError(f"{self.source}: {LABELLED} is missing, without which it has no answers")
        return Correction.from_arrays(self._arrays(LABELLED), self.labels) if LABELLED in self._files else None

    def contents(self) -> dict[str, bytes]:
        """Every file but ``bundle.json``, by name; errors as for :meth:`read`."""
        return {name: self.read(name) for name in self._files}

    def encoders(self) -> dict[str, Encoder]:
        """The encoders by feature key, not loaded.

        Raises:
            SerkitError: this serkit's encoder gives other numbers than the one the bundle was trained with; or it is
                code of somebody's own, which :func:`serkit.config.plugins` does not allow.
            MissingExtra: an encoder's package is not installed.
        """
        self.check_plugins()
        return encoders_of(self.features, str(self.source), str(self.head.get("serkit")), self.read)

    def check_plugins(self) -> None:
        """Refuse a dotted encoder whose module is not allowed here: importing it runs code that the bundle names.

        Raises:
            SerkitError: :func:`serkit.config.plugins` has neither the module nor a package around it.
        """
        for module, name in own_modules(str(row["name"]) for row in self.features.values()).items():
            if any(f"{module}.".startswith(f"{allowed}.") for allowed in plugins()):
                continue
            raise SerkitError(
                f"{self.source}: its encoder '{name}' is code that is not in the bundle, and importing it would run "
                f"it. If you trust the module '{module}', allow it: SERKIT_PLUGINS={module}, or plugins: [{module}] in "
                f"{config_path()}"
            )

    def _arrays(self, name: str) -> dict[str, np.ndarray]:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            found: dict[str, np.ndarray] = load(self.read(name))
        except SafetensorError as error:
            raise SerkitError(f"{self.source}: '{name}' cannot be read: {error}") from None
        return found


def names() -> tuple[str, ...]:
    """Names of the bundles that come with serkit."""
    if not NAMED.is_dir():
        return ()
    return tuple(sorted({p.stem if p.suffix in SUFFIXES else p.name for p in NAMED.iterdir() if _is_bundle(p)}))


def open_bundle(source: str | Path) -> Bundle:
    """Open a bundle: a folder, a file, or the name of one that comes with serkit.

    Raises:
        SerkitError: nothing there, not a bundle, damaged, or written by a later serkit.
    """
    path = Path(source)
    if not path.exists():
        if str(source) in names():
            path = next(p for p in (NAMED / f"{source}{s}" for s in ("", *SUFFIXES)) if p.exists())
        elif path.suffix or len(path.parts) > 1:
            raise SerkitError(f"no bundle at {source}")
        else:
            near = did_you_mean(str(source), names()) if names() else ""
            none = "; no model is included in this version: make one with serkit bundle RUN -o DIR, and name DIR"
            raise SerkitError(f"no bundle '{source}': neither a path nor a name{near or none}")
    read = in_folder(path) if path.is_dir() else in_archive(path)
    try:
        head = json.loads(read(HEAD).decode("utf-8"))
        if not isinstance(head, dict) or not isinstance(head.get("format"), int):
            raise SerkitError(f"{path}: {HEAD} does not describe a bundle")
    except (ValueError, RecursionError) as error:
        raise SerkitError(f"{path}: {HEAD} is damaged: {error}") from None
    if head["format"] > FORMAT:
        raise SerkitError(f"{path} was written by a later serkit ({head.get('serkit')}); upgrade to read it")
    return Bundle(head, read, str(path))


def for_calls(bundle: Bundle, source: str | Path, calls: str | Path) -> Bundle | None:
    """The bundle that answers calls in place of another one; ``None`` where that one does.

    Args:
        bundle, source: the other one, and how it was named. calls: a bundle, ``none``, or ``auto``: ``telephone`` for
            ``default``, where that is meant by its name.

    Raises:
        SerkitError: no such bundle, or it has other labels or attributes.
    """
    if calls == "auto":
        calls = "none" if Path(source).exists() else CALLS.get(str(source), "none")
    if calls == "none":
        return None
    found = open_bundle(calls)
    if (found.labels, found.attributes) != (bundle.labels, bundle.attributes):
        raise SerkitError(
            f"calls: '{found.name}' answers with {', '.join((*found.labels, *found.attributes))}, expected what "
            f"'{bundle.name}' answers with: {', '.join((*bundle.labels, *bundle.attributes))}"
        )
    return found


def write_bundle(head: dict[str, Any], files: Mapping[str, bytes], out: Path) -> Path:
    """Write a bundle, whole or not at all: a folder, or one file where ``out`` ends in .zip or .serkit.

    Args:
        head: what ``bundle.json`` says, without ``format`` and ``files``. files: content by name.

    Raises:
        SerkitError: ``out`` is there already. DiskFull: there is no room.
    """
    check_new(out)
    listed = {name: {"bytes": len(data), "blake2b": content_hash(data)} for name, data in sorted(files.items())}
    needed = 4 if "network_labels" in head else 3 if LABELLED in files else 2 if ADAPTED in files else 1
    text = json.dumps({**head, "format": needed, "files": listed}, indent=1, ensure_ascii=False) + "\n"
    content = {HEAD: text.encode(), **files}
    check_names(files, str(out))
    if out.suffix in SUFFIXES:
        with replacing(out) as part:
            write_archive(content, part)
            if out.is_dir():
                out.rmdir()
        return out
    try:
        with replacing_folder(out) as part:
            for name, data in content.items():
                place = part / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
    except FileExistsError:
        check_new(out)
        raise
    return out


def _is_bundle(path: Path) -> bool:
    return (path / HEAD).is_file() or (path.is_file() and path.suffix in SUFFIXES)
