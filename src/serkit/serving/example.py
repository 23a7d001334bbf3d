"""The recording that comes with serkit: a short talk of two synthetic voices, to try things on."""

from __future__ import annotations

from pathlib import Path

NAME = "example"
_FOLDER = Path(__file__).parent / "web"
_PATH = _FOLDER / "example.flac"


def path() -> Path:
    """Its path: 9.6 s, 16 kHz mono FLAC, written by ``benchmarks/example_recording.py``.

    Voices, words and emotions are generated and belong to nobody; what a model says of them shows that it
    runs, and nothing about how well.
    """
    return _PATH


def transcript_path() -> Path:
    """Who says what when in it: JSON rows with ``start_s, end_s, speaker, text``."""
    return _FOLDER / "example.json"


def recording(given: str) -> str:
    """What is meant on the command line: ``example`` is this recording, unless a file is called so."""
    return str(path()) if given == NAME and not Path(given).exists() else given


def transcript(given: Path | str) -> Path:
    """Likewise for a transcript."""
    return transcript_path() if str(given) == NAME and not Path(given).exists() else Path(given)
