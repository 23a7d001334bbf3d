"""serkit: recorded speech in, emotion out, with numbers you can trust."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from serkit.errors import SerkitError as SerkitError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from serkit.serving.predictor import Model
    from serkit.types import Manifest

__version__ = "0.1.0"

# onnxruntime 1.29 and later reports its use to Microsoft unless told not to before it is imported. Recordings are
# private: nothing leaves this machine, unless ORT_DISABLE_TELEMETRY=0 is set outside.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def load(source: str | Path = "default", **options: Any) -> Model:
    """Load a trained system that answers: ``serkit.load("my_bundle").predict("call.wav")``.

    Args:
        source: folder or file of a bundle, or the name of one that comes with serkit.
        options: as for :func:`serkit.serving.predictor.load`: ``threads``, ``max_s`` (seconds), ``calls``.

    Returns:
        The model: :class:`serkit.serving.predictor.Model`.

    Raises:
        SerkitError: no such bundle, damaged, or of a later serkit.
    """
    from serkit.serving.predictor import load as load_model

    return load_model(source, **options)


def adapt(
    recordings: Sequence[str | Path] | Manifest, out: str | Path, model: str | Path = "default", **options: Any
) -> Model:
    """Adapt a trained system to your recordings, as ``serkit adapt`` does, write it and load it.

    Args:
        recordings: files and folders without labels, a fair sample of what will be asked; or labelled clips, as a
            corpus reader makes them: ``serkit.corpora.table.table("labels.csv", test_only=True)``.
        out: folder, or a file ending in .zip or .serkit, to write. model: what is adapted.
        options: as for :func:`serkit.serving.adapting.adapt`, with labels :func:`serkit.serving.labelled.adapt`.

    Returns:
        The adapted model, loaded from ``out``.

    Raises:
        SerkitError: see there; or something is at ``out`` already.
    """
    from pathlib import Path

    from serkit.serving import adapting, labelled
    from serkit.serving.gathering import gather
    from serkit.types import Manifest

    if isinstance(recordings, Manifest):
        return load(labelled.adapt_to(model, recordings, Path(out), **options)[0].source)
    files = gather([str(r) for r in recordings], *([options["complain"]] if "complain" in options else []))
    return load(adapting.adapt_to(model, files, Path(out), **options).source)


def example() -> Path:
    """Path of the recording included in serkit: a short talk of two synthetic voices (9.6 s), to try things on.

    >>> example().name
    'example.flac'
    """
    from serkit.serving.example import path

    return path()
