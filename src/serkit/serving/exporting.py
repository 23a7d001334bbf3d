"""A whole model as one ONNX file: samples in, calibrated probabilities out, for any program with onnxruntime.

The file holds what :class:`serkit.serving.scorer.Scorer` computes of a clip: encoders, adaptation, networks, stack,
calibration and correction. It answers one clip; finding speech in long recordings is left to the program.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import RunFailed, SerkitError
from serkit.files import check_writable, write_bytes
from serkit.progress import Meter, ProgressCallback
from serkit.serving import example
from serkit.serving.bundle_graph import to_onnx
from serkit.serving.graphs import onnx_package
from serkit.serving.inputs import whole
from serkit.serving.predictor import Model
from serkit.serving.rated import not_classes

TOLERANCE = 0.01  # of a probability or an attribute, on the clips that every export is checked on
_STEP_S = 2.0  # of the recording that comes with serkit, a clip begins every so many seconds


@dataclass(frozen=True)
class Exported:
    """What was written, and how its answers compare with those of the model.

    Attributes:
        path: the file. n_bytes: its size. labels: classes, in the order of its output.
        differences: (clips,) largest difference of any probability or attribute of each clip that was compared.
        changed: how many of them have another most probable class.
        ratio: its processor time over that of the model, one thread each.
        notes: what a reader should know of it.
    """

    path: Path
    n_bytes: int
    labels: tuple[str, ...]
    differences: np.ndarray
    changed: int
    ratio: float
    notes: tuple[str, ...]


def export(
    model: Model,
    out: Path | str,
    *,
    check: Sequence[Path | str] = (),
    complain: Callable[[str], None] = lambda line: None,
    progress: ProgressCallback | None = None,
) -> Exported:
    """Write a model as one ONNX file and compare its answers with those of the model.

    The graph takes ``samples`` (samples,) float32, mono, 16 kHz, in [-1, 1], and gives ``probabilities`` (classes,),
    ``embedding`` (dim,) as :meth:`serkit.serving.predictor.Model.embed`, and of a model that has them ``attributes``.
    Metadata: ``labels``, ``attributes``, ``max_clip_s``, ``rate_hz``, ``unsure_below``, ``name``, ``licence``.

    Args:
        model: what to write. out: the file, ending in ``.onnx``; it is replaced, after all is compared.
        check: recordings to compare on, beside the one that comes with serkit; of a long one its first ``max_clip_s``.
        complain: told in one line of one that cannot be read; the others count all the same.
        progress: is told how many clips were compared.

    Raises:
        SerkitError: an encoder or a stack without an ONNX form, a model that reads text, no recording that can be
            read, a place that cannot be written.
        RunFailed: answers that differ by more than :data:`TOLERANCE` on the recording that comes with serkit. After
            any error nothing is written.
        MissingExtra: the package onnx is not installed.
    """
    onnx_package()
    out = Path(out)
    if out.suffix != ".onnx":
        raise SerkitError(f"{out}: expected a name that ends in .onnx")
    check_writable(out)
    content = to_onnx(model.bundle)
    with threadpool_limits(1):
        compared = _compared(model, _session(content), check, complain, progress)
    write_bytes(out, content)
    ratio = compared.spent_s / compared.model_spent_s
    return Exported(
        out, len(content), model.labels, np.array(compared.differences), compared.changed, ratio, _notes(model)
    )


def _compared(
    model: Model,
    session: Any,
    check: Sequence[Path | str],
    complain: Callable[[str], None],
    progress: ProgressCallback | None,
) -> _Comparison:
    """Graph and model on serkit's own recording and on those of :func:`export`, whose errors it raises."""
    own = list(_example_clips(model))
    compared = _Comparison(model, session)
    meter = Meter("compare", len(own) + len(check), progress, unit="clips")
    for clip in own:
        compared.add(clip)
        meter.advance()
    worst = float(np.max(compared.differences))
    if not worst <= TOLERANCE:
        raise RunFailed(
            f"the graph's answers differ by up to {worst:.3f} from those of {model.id} on serkit's own recording, more "
            f"than {TOLERANCE:g}: nothing was written"
        )
    for recording in check:
        try:
            compared.add(_clip(model, recording))
        except SerkitError as error:
            if len(check) == 1:
                raise
            complain(str(error))
            meter.advance(failed=1)
            continue
        meter.advance()
    if check and len(compared.differences) == len(own):
        raise SerkitError(f"none of the {len(check)} recordings to compare on can be read: nothing was written")
    return compared


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _clip(model: Model, recording: Path | str) -> np.ndarray:
    """(samples,) of a recording, at most the first ``max_clip_s``."""
    longest, parts, n = int(model.max_clip_s * SAMPLE_RATE_HZ), [], 0
    with closing(model.blocks(Path(recording), None)) as blocks:
        for block in blocks:
            parts.append(block)
            n += len(block)
            if n >= longest:
                break
    return np.concatenate(parts)[:longest]


def _example_clips(model: Model) -> Iterator[np.ndarray]:
    """Parts of the recording that comes with serkit, a faint, a short and a silent one among them."""
    samples = whole(model.blocks(example.path(), None), float("inf"))
    n, step = int(min(model.max_clip_s, 3.0) * SAMPLE_RATE_HZ), int(_STEP_S * SAMPLE_RATE_HZ)
    if samples is None:
        raise SerkitError("the recording that comes with serkit cannot be read")
    for start in range(0, len(samples) - step, step):
        yield samples[start : start + n]
    yield samples[:n] * np.float32(0.01)
    yield samples[step : step + SAMPLE_RATE_HZ // 10]
    yield np.zeros(SAMPLE_RATE_HZ, dtype=np.float32)


class _Comparison:
    """Answers of a graph beside those of the model: largest differences by clip, and the processor time of both."""

    def __init__(self, model: Model, session: Any) -> None:
        self._model, self._session = model, session
        self._outputs = ["probabilities", *["attributes"] * bool(model.attributes)]
        self._begin()
        self.add(np.zeros(SAMPLE_RATE_HZ, dtype=np.float32))  # the first answer of each makes ready what it needs
        self._begin()

    def _begin(self) -> None:
        self.differences: list[float] = []
        self.changed, self.spent_s, self.model_spent_s = 0, 0.0, 0.0

    def add(self, clip: np.ndarray) -> None:
        """Compare on one more clip, (samples,) float32."""
        begin, n = time.process_time(), len(self._model.labels)
        found = np.concatenate(self._session.run(self._outputs, {"samples": clip}))
        middle = time.process_time()
        expected = self._model.scorer.one(clip, None)[0]
        self.model_spent_s += time.process_time() - middle
        self.spent_s += middle - begin
        self.differences.append(float(np.abs(found - expected).max()))
        self.changed += int(found[:n].argmax() != expected[:n].argmax())


def _notes(model: Model) -> tuple[str, ...]:
    longest = f"it answers one clip of at most {model.max_clip_s:g} s"
    found: tuple[str, ...] = (f"{longest}; of a longer recording give it the stretches of speech",)
    if "imported" in model.bundle.head and model.bundle.correction is None:
        found += ("its probabilities are not calibrated: it was imported",)
    if "imported" in model.bundle.head and (said := not_classes(model.labels)):
        found += (said.removesuffix("."),)
    return found
