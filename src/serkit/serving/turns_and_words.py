"""What is known about a recording besides its audio: who speaks when, and which words; from files, or recognised."""

from __future__ import annotations

import importlib
import math
import os
import unicodedata
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from serkit import audio
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import MissingExtra, SerkitError
from serkit.segments import SegmentSettings
from serkit.serving import formats
from serkit.serving.channels import refuse_many, speaker_of
from serkit.serving.example import transcript
from serkit.serving.pieces import SpeechClips
from serkit.serving.timeline import Turn, read_rttm, read_transcript, turns_of

if TYPE_CHECKING:
    from serkit.transcripts import Transcript

Recording = Path | str | BinaryIO
SUFFIXES = (".srt", ".vtt", ".json", ".jsonl")
_CLIP_S = 28.0  # Whisper hears 30 s at a time


class Beside:
    """Turns and sentences of recordings, from wherever they come.

    Args:
        rttm: file with the turns of one recording or several. transcript: file with the sentences of a
            recording, or a folder with a file for each, called as the recording is, with or without its suffix;
            ``example`` is the package's own.
        asr: Whisper that hears the words where no transcript is given: see :func:`serkit.transcripts.listener`.
        diariser: diarisation pipeline that hears the speakers where no RTTM is given: see :class:`Diariser`.
        language: ISO 639 code for ``asr``.

    Raises:
        SerkitError: a file that cannot be read, both a file and a listener for the same, or an extra that is missing.
    """

    def __init__(
        self,
        *,
        rttm: Path | str | None = None,
        transcript: Path | str | None = None,
        asr: str | None = None,
        diariser: str | None = None,
        language: str | None = None,
    ) -> None:
        if transcript is not None and asr is not None:
            raise SerkitError("words are either given (--transcript) or recognised (--asr), not both")
        if rttm is not None and diariser is not None:
            raise SerkitError("speakers are either given (--rttm) or found (--diarise), not both")
        if language is not None and asr is None:
            raise SerkitError("--language needs --asr, which recognises the words")
        self._rttm = read_rttm(rttm) if rttm is not None else None
        self._folder, self._sentences = _transcripts(transcript)
        self._words = Words(asr, language) if asr is not None else None
        self._diariser = Diariser(diariser) if diariser is not None else None

    @property
    def has_turns(self) -> bool:
        """Whether speakers may become known."""
        return self._rttm is not None or self._diariser is not None or self.has_sentences

    @property
    def has_sentences(self) -> bool:
        """Whether words with times will be known."""
        return bool(self._sentences) or self._folder is not None or self._words is not None

    def check(self, names: Sequence[str]) -> None:
        """Refuse what is of one recording for several: words and turns would be another's.

        Args:
            names: of the recordings that are asked about.

        Raises:
            SerkitError: a transcript of one, a folder in which two have the same, or an RTTM that names a single one.
        """
        n_recordings = len(names)
        if self._folder is not None:
            _refuse_shared(self._folder, names)
        if n_recordings > 1 and self._sentences:
            raise SerkitError(
                f"--transcript has the words of one recording, but there are {n_recordings}; give a folder with a "
                "transcript of the same name for each"
            )
        if n_recordings > 1 and self._rttm is not None and len(self._rttm) == 1:
            known = next(iter(self._rttm))
            raise SerkitError(
                f"--rttm has only the turns of '{known}', but there are {n_recordings} recordings; give one that names "
                "each"
            )

    def of(self, name: str, recording: Recording, *, apart: bool = False) -> tuple[list[Turn], list[Turn]]:
        """The turns and the sentences of a recording; none of either where nothing was asked for.

        With ``apart`` every channel is a speaker: there are no turns, and words are heard in each channel alone.

        Raises:
            SerkitError: an RTTM or a folder without it, or it cannot be heard.
        """
        turns = turns_of(self._rttm, name) if self._rttm is not None else []
        if self._diariser is not None:
            turns = self._diariser(_rewound(recording))
        sentences = self._sentences
        if self._folder is not None:
            sentences = read_transcript(_beside(self._folder, name))
        elif self._words is not None:
            sentences = self._words(_rewound(recording), apart=apart)
        return ([] if apart else turns), sentences


class Words:
    """Sentences and words with times, as a Whisper hears them; speech is found first, so none are invented in silence.

    Args:
        name, language: see :func:`serkit.transcripts.listener`.
    """

    def __init__(self, name: str, language: str | None = None) -> None:
        from serkit.transcripts import listener  # not at the top: it may load torch

        self._hear: Callable[[Sequence[np.ndarray]], list[Transcript]] = listener(name, language=language, words=True)

    def __call__(self, recording: Recording, *, apart: bool = False) -> list[Turn]:
        """The sentences of a recording of any length, in constant memory, by time.

        Args:
            apart: hear every channel as a recording of its own would be heard, its sentences said by ``channel 1``, …
        """
        found = []
        for channel, start_s, clip in speech_clips(recording, apart=apart):
            heard = self._hear([clip])[0]
            length_s = len(clip) / SAMPLE_RATE_HZ
            each = heard.words or ((),) * len(heard.segments)
            for (begin_s, end_s, text), words in zip(heard.segments, each, strict=True):
                until_s = min(max(end_s, begin_s + 0.02), length_s)
                if until_s > begin_s:
                    said = tuple(
                        Turn(start_s + min(a, length_s), start_s + min(b, length_s), None, word) for a, b, word in words
                    )
                    speaker = speaker_of(channel) if apart else None
                    found.append(Turn(start_s + begin_s, start_s + until_s, speaker, text, said))
        return sorted(found, key=lambda t: t.start_s)


class Diariser:
    """Who speaks when, as a pipeline of pyannote.audio hears it.

    Not tried with real weights here: they are behind a form on the Hugging Face hub. Reads the whole
    recording into memory, as the pipeline wants it.

    Args:
        name: of the pipeline on the hub, or the path of its ``config.yaml``.

    Raises:
        MissingExtra: pyannote.audio is not installed.
        SerkitError: no such pipeline, or no right to it.
    """

    def __init__(self, name: str) -> None:
        try:
            package: Any = importlib.import_module("pyannote.audio")
        except ImportError:
            raise MissingExtra("pyannote.audio", "diarise", "finding speakers (--diarise)") from None
        try:
            self._pipeline: Any = package.Pipeline.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise SerkitError(f"no diarisation pipeline '{name}': {str(error).splitlines()[0]}") from None
        if self._pipeline is None:
            raise SerkitError(
                f"diarisation pipeline '{name}': its licence has to be accepted on the Hugging Face hub first"
            )

    def __call__(self, recording: Recording) -> list[Turn]:
        """The turns of a recording, by time."""
        import torch

        samples = audio.load(recording, max_s=None)
        answer = self._pipeline({"waveform": torch.from_numpy(samples)[None], "sample_rate": SAMPLE_RATE_HZ})
        annotation = getattr(answer, "speaker_diarization", answer)  # pyannote.audio 4 wraps what 3 returned
        turns = [
            Turn(float(span.start), float(span.end), str(speaker))
            for span, _, speaker in annotation.itertracks(yield_label=True)
            if math.isfinite(span.end) and span.end > span.start
        ]
        return sorted(turns, key=lambda t: t.start_s)


def speech_clips(recording: Recording, *, apart: bool = False) -> Iterator[tuple[int, float, np.ndarray]]:
    """The stretches of speech, none longer than what Whisper hears at once.

    Args:
        apart: of each channel, instead of their mean.

    Yields:
        Channel from 0, start in seconds, (samples,) float32 at 16 kHz; of each channel in order of time.

    Raises:
        SerkitError: not audio; more than 8 channels apart.
    """
    ears: list[SpeechClips] = []
    for block in audio.blocks(recording, apart=apart):
        columns = block.reshape(len(block), -1).T
        if not ears:
            refuse_many(len(columns))
            ears = [SpeechClips(SegmentSettings(max_s=_CLIP_S, min_silence_s=0.6)) for _ in columns]
        for k, (ear, samples) in enumerate(zip(ears, columns, strict=True)):
            for stretch, clip in ear.push(np.ascontiguousarray(samples)):
                yield k, stretch.start_s, clip
    for k, ear in enumerate(ears):
        for stretch, clip in ear.finish():
            yield k, stretch.start_s, clip


def _transcripts(given: Path | str | None) -> tuple[Path | None, list[Turn]]:
    """The folder of transcripts, or the sentences of the one that is given."""
    if given is None:
        return None, []
    path = transcript(given)
    return (path, []) if path.is_dir() else (None, read_transcript(path))


def words_of(folder: Path, name: str, listed: Container[str] | None = None) -> Path | None:
    """The transcript in a folder that is called as the recording is; ``None`` where there is none.

    One that is called as the whole file (``a.wav.srt``) goes before one without its suffix (``a.srt``).

    Args:
        listed: what :func:`names_in` found in the folder: what is not among it is not looked for on the disk.
    """
    path = Path(name)
    suffixes = (*SUFFIXES, *map(str.upper, SUFFIXES))
    found = (f"{called}{suffix}" for called in (path.name, path.stem) for suffix in suffixes)
    some = (one for one in found if listed is None or _alike(one) in listed)
    return next((folder / one for one in some if (folder / one).is_file()), None)


def names_in(folder: Path) -> frozenset[str] | None:
    """The names in a folder, for :func:`words_of` of many recordings; ``None`` where it cannot be listed."""
    try:
        return frozenset(map(_alike, os.listdir(folder)))  # noqa: PTH208  # names alone, no path of each
    except OSError:
        return None


def _alike(name: str) -> str:
    """What names of one file have in common, also where a system tells upper case or composed letters apart."""
    return name if name.isascii() and name.islower() else unicodedata.normalize("NFC", name).casefold()


def _refuse_shared(folder: Path, names: Sequence[str]) -> None:
    """Refuse two recordings with one transcript: ``a.wav`` and ``a.flac``, or ``a.wav`` of two folders."""
    of: dict[Path, str] = {}
    listed = names_in(folder)
    for name in names:
        words = words_of(folder, name, listed)
        other = name if words is None else of.setdefault(words, name)
        if words is not None and other != name:
            one, two = Path(other).name, Path(name).name
            apart = "" if one == two else f"call theirs {one}{words.suffix} and {two}{words.suffix}, or "
            raise SerkitError(
                formats.shown(f"{other} and {name} would both have the words of {words}: {apart}")
                + "predict them in calls of their own"
            )


def _beside(folder: Path, name: str) -> Path:
    if (found := words_of(folder, name)) is not None:
        return found
    raise SerkitError(f"{name}: no transcript {Path(name).stem}({'|'.join(SUFFIXES)}) in {folder}")


def _rewound(recording: Recording) -> Recording:
    if not isinstance(recording, (str, Path)):
        recording.seek(0)
    return recording
