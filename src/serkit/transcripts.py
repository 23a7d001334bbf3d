"""Waveforms to text: Whisper, the corpus's own text, or a table; one JSONL, resumable, hallucinations flagged.

A row is named by the hash of the recording's bytes, the stretch, and the model with everything that changes
its answer, so that a moved folder reuses its transcripts and another model does not::

    {"audio": "…", "model": "…", "text": "…", "language": "en", "no_speech": 0.01, "speech": 0.62,
     "flags": [], "segments": [[0.0, 1.8, "…"]]}
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from serkit import audio, checkpoints
from serkit.checkpoint_files import converted_revision
from serkit.contents import item_key
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import MissingExtra, SerkitError, check_known, did_you_mean, without
from serkit.foundation import asr
from serkit.foundation.asr import WINDOW_S, FasterWhisper, Heard, Recogniser, Timed, TransformersWhisper
from serkit.foundation.tiny import tiny_folder
from serkit.hashes import ContentHashes
from serkit.journal import append_rows, read_rows
from serkit.progress import Meter, ProgressCallback
from serkit.segments import SpectralVad
from serkit.types import Manifest, Utterance

Engine = Literal["transformers", "faster-whisper"]
ENGINES = ("transformers", "faster-whisper")
CTRANSLATE2 = {"float32": "default", "bf16": "bfloat16", "fp16": "float16"}  # its names of a precision
NO_SPEECH = 0.6  # probability above which Whisper's own decoder calls a window silent (Radford et al. 2022, 4.5)
COMPRESSION = 2.4  # text that zlib shrinks more than this repeats itself (same section)
SPEECH_SHARE = 0.02  # less of a clip than this being speech, by energy, is none
MAX_CHARACTERS_HZ = 40.0  # proposal: nobody speaks forty characters a second
TEXT_COLUMNS, ID_COLUMNS = ("text", "transcript", "transcription"), ("id", "utterance", "file")


@dataclass(frozen=True)
class Transcript:
    """What is said in one clip.

    Attributes:
        text: the words; empty where nobody speaks. language: ISO 639 code, or ``None``.
        segments: (start_s, end_s, text) from the clip's begin. words: of each segment (start_s, end_s, word), where
            they were asked for (:func:`listener`) and can be had; else empty. They are not kept in the file.
        no_speech: the recogniser's probability that nobody speaks. speech: share of frames that are speech by energy.
        flags: ``silent`` (nothing to hear; the recogniser was not asked), ``no_speech`` (it answered, but it and the
            energy say nobody speaks: its words are dropped), ``doubtful`` (it alone says so: its words are kept),
            ``repetitive``, ``too_fast``.
    """

    text: str
    language: str | None = None
    segments: tuple[tuple[float, float, str], ...] = ()
    no_speech: float | None = None
    speech: float | None = None
    flags: tuple[str, ...] = field(default=())
    words: tuple[tuple[Timed, ...], ...] = ()


def transcribe(
    manifest: Manifest,
    name: str,
    path: Path | str,
    *,
    language: str | None = None,
    engine: Engine = "transformers",
    source: Path | str | None = None,
    device: str = "cpu",
    precision: Literal["float32", "bf16", "fp16"] = "float32",
    batch_size: int = 8,
    hashes: ContentHashes | None = None,
    callback: ProgressCallback | None = None,
    before: Callable[[], None] | None = None,
) -> dict[str, Transcript]:
    """Transcripts of a manifest by utterance id; what ``path`` already holds is not computed again.

    Args:
        manifest: what to hear. name: ``corpus`` (its own text), a ``.csv`` file with the columns ``id`` and
            ``text``, or a Whisper name such as ``whisper/large-v3``.
        path: the JSONL that keeps them; rows are appended batch by batch, each whole on the disk.
        language: ISO 639 code; ``None`` takes the utterance's own where the corpus says it, else the model's guess.
        engine: ``transformers``, or ``faster-whisper`` on a CPU without torch.
        source: a local folder that replaces the source. device, precision: of the model.
        batch_size: windows of 30 s at a time; does not change the text.
        hashes: known hashes of the recordings. callback: is handed the progress.
        before: called once before anything is heard, and not at all where nothing has to be; may raise.

    Raises:
        SerkitError: utterances without text in the corpus or the table, an unknown name; or, once all others are
            heard and kept, recordings that cannot be read, by id and with reasons.
    """
    if name == "corpus":
        return _of_corpus(manifest)
    if name.endswith(".csv"):
        return read_table(Path(name), manifest.ids)
    check_known(engine, ENGINES, f"transcripts: no engine '{engine}'")
    if source is None and name == "whisper/random":
        source = tiny_folder("whisper")
    resolved = checkpoints.resolve(name, source, family="whisper") if engine == "transformers" else None
    converted = asr.converted_folder(name, source) if resolved is None else None
    revision = resolved.revision if resolved is not None else converted_revision(converted)
    path = Path(path)
    kept = read_transcripts(path)
    keys, lost = _keys(manifest, hashes or ContentHashes(path.with_suffix(".hashes.jsonl")))
    done: dict[str, Transcript] = {}
    waiting: dict[str | None, list[Utterance]] = {}
    for u in manifest:
        if u.id in lost:
            continue
        spoken = language or u.language
        found = kept.get((keys[u.id], model_key(name, engine, revision, spoken, precision)))
        if found is not None:
            done[u.id] = found
        else:
            waiting.setdefault(spoken, []).append(u)
    meter = Meter("transcribe", len(manifest), callback)
    meter.advance(len(done) + len(lost), failed=len(lost))
    if waiting and before is not None:
        before()
    for spoken, utterances in waiting.items():
        model = model_key(name, engine, revision, spoken, precision)
        recogniser = _recogniser(name, resolved, converted, spoken, device, precision)
        for batch in _batches(manifest, utterances, batch_size, lost):
            results = _hear(recogniser, [samples for _, samples in batch], batch_size)
            fresh = dict(zip([u.id for u, _ in batch], results, strict=True))
            append_rows(path, [_row(keys[i], model, t) for i, t in fresh.items()], sync=True)
            done |= fresh
            meter.advance(len(fresh))
    if lost:
        raise SerkitError(without({i: lost[i] for i in manifest.ids if i in lost}, len(manifest), "no transcript"))
    return {u.id: done[u.id] for u in manifest}


def listener(
    name: str,
    *,
    language: str | None = None,
    engine: Engine | None = None,
    device: str = "cpu",
    words: bool = False,
) -> Callable[[Sequence[np.ndarray]], list[Transcript]]:
    """Open a recogniser for clips that are at hand: (samples,) float32 mono 16 kHz each → their transcripts.

    Args:
        name: a Whisper name such as ``whisper/small`` (``roots.yaml`` may name its folder), ``path:DIR``, or the
            folder itself.
        language: ISO 639 code; ``None`` takes the model's guess. device: ``cpu`` or ``cuda``.
        engine: ``None`` takes that of the folder, and without one faster-whisper where it is installed.
        words: also find the times of words.

    Raises:
        MissingExtra: neither engine is installed.
        SerkitError: an unknown name, or no weights.
    """
    source = Path(name) if Path(name).is_dir() else asr.folder_of(name)
    if source is None and name == "whisper/random":
        source = tiny_folder("whisper")
    asked = engine
    if engine is None:
        converted = source is not None and asr.is_converted(source)
        engine = "faster-whisper" if converted or (source is None and find_spec("faster_whisper")) else "transformers"
        if engine == "transformers" and find_spec("transformers") is None:
            raise MissingExtra("faster-whisper", "asr", f"transcribing with '{name}'")
    if engine == "faster-whisper":
        recogniser: Recogniser = FasterWhisper(str(source or name.split("/", 1)[-1]), language, device, words=words)
    else:
        try:
            found = checkpoints.resolve(name if source is None else f"path:{source}", family="whisper")
            recogniser = TransformersWhisper(found, language, device, "float32", words=words)
        except SerkitError as error:
            if source is not None or asked is not None:
                raise
            raise SerkitError(
                f"{error}. The engine was transformers; faster-whisper has its own weights and is not installed: "
                "pip install 'serkit[asr]'"
            ) from None
    return lambda clips: _hear(recogniser, clips, 8)


def model_key(name: str, engine: str, revision: str, language: str | None, precision: str) -> str:
    """Name of a recogniser in a row: model, revision, engine, language, precision."""
    return f"{name}@{revision},{engine},{language or 'detect'},{precision}"


def read_transcripts(path: Path | str) -> dict[tuple[str, str], Transcript]:
    """Transcripts by (audio key, model key) of a file that :func:`transcribe` wrote; the last row of a key counts."""
    found: dict[tuple[str, str], Transcript] = {}
    for row in read_rows(Path(path)):
        if isinstance(row, dict) and {"audio", "model", "text"} <= set(row):
            segments = tuple((float(a), float(b), str(t)) for a, b, t in row.get("segments", []))
            found[row["audio"], row["model"]] = Transcript(
                row["text"], row.get("language"), segments,
                row.get("no_speech"), row.get("speech"), tuple(row.get("flags", [])),
            )  # fmt: skip
    return found


def read_table(path: Path, ids: Iterable[str]) -> dict[str, Transcript]:
    """Transcripts of the given utterances from a CSV with the columns ``id`` and ``text``.

    Raises:
        SerkitError: no such file, other columns, an id twice, or utterances without a row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            columns = rows.fieldnames or []
            key = next((c for c in ID_COLUMNS if c in columns), None)
            text = next((c for c in TEXT_COLUMNS if c in columns), None)
            if key is None or text is None:
                raise SerkitError(f"{path}: expected the columns id and text, got {', '.join(columns) or 'none'}")
            table: dict[str, str] = {}
            for row in rows:
                if row[key] in table:
                    raise SerkitError(f"{path}: utterance '{row[key]}' occurs twice")
                table[row[key]] = row[text] or ""
    except FileNotFoundError:
        raise SerkitError(f"no transcripts at {path}") from None
    except UnicodeDecodeError as error:
        raise SerkitError(f"{path} is not UTF-8: {error}") from None
    wanted = list(ids)
    absent = [i for i in wanted if i not in table]
    if absent:
        raise SerkitError(
            f"{path}: {len(absent)} of {len(wanted)} utterances have no text, first '{absent[0]}'"
            + did_you_mean(absent[0], list(table)[:5000])
        )
    return {i: Transcript(table[i]) for i in wanted}


def speech_share(samples: np.ndarray) -> float:
    """Share of 10-ms frames in which somebody speaks, by energy over the background (:class:`SpectralVad`)."""
    vad = SpectralVad()
    scores = np.concatenate([vad.push(samples), vad.finish()])
    return float((scores >= 0.5).mean()) if len(scores) else 0.0


def windows(samples: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Cut a clip into windows of at most 30 s with their first samples, where it is quietest in the last 5 s."""
    longest, step = WINDOW_S * SAMPLE_RATE_HZ, SAMPLE_RATE_HZ // 10
    found, start = [], 0
    while len(samples) - start > longest:
        tail = samples[start + longest - 50 * step : start + longest].reshape(50, step)
        quiet = int(np.argmin(np.square(tail, dtype=np.float64).mean(axis=1)))
        end = start + longest - 50 * step + quiet * step + step // 2
        found.append((start, samples[start:end]))
        start = end
    return [*found, (start, samples[start:])]


def _of_corpus(manifest: Manifest) -> dict[str, Transcript]:
    absent = [u.id for u in manifest if u.text is None]
    if absent:
        raise SerkitError(
            f"transcripts of the corpus: {len(absent)} of {len(manifest)} utterances have no text, first '{absent[0]}'"
            ": name a recogniser (such as whisper/large-v3) or a CSV file with id and text, where an empty cell is an "
            "empty text, or leave these utterances out (exclude)"
        )
    return {u.id: Transcript(u.text or "", u.language) for u in manifest}


def _keys(manifest: Manifest, hashes: ContentHashes) -> tuple[dict[str, str], dict[str, str]]:
    """Content key by id, and by id the reason where there is none."""
    paths = {u.id: manifest.audio_path(u) for u in manifest}
    content = hashes.of(list(paths.values()))
    keys, lost = {}, {}
    for u in manifest:
        found = content[paths[u.id]]
        if isinstance(found, SerkitError):
            lost[u.id] = str(found)
        else:
            keys[u.id] = item_key(found, u.start_s, u.end_s, u.channel)
    return keys, lost


def _recogniser(
    name: str,
    resolved: checkpoints.Resolved | None,
    converted: Path | None,
    language: str | None,
    device: str,
    precision: str,
) -> Recogniser:
    if resolved is None:
        size = name.split("/", 1)[-1] if converted is None else str(converted)
        return FasterWhisper(size, language, device, CTRANSLATE2[precision])
    return TransformersWhisper(resolved, language, device, precision)


def _batches(
    manifest: Manifest, utterances: Sequence[Utterance], batch_size: int, lost: dict[str, str]
) -> Iterator[list[tuple[Utterance, np.ndarray]]]:
    """Utterances with their samples, about ``batch_size`` windows at a time; into ``lost`` what cannot be read."""
    batch: list[tuple[Utterance, np.ndarray]] = []
    n_windows = 0
    for u in utterances:
        try:
            samples = audio.load(manifest.audio_path(u), start_s=u.start_s, end_s=u.end_s, channel=u.channel)
        except SerkitError as error:
            lost[u.id] = str(error)
            continue
        batch.append((u, samples))
        n_windows += 1 + len(samples) // (WINDOW_S * SAMPLE_RATE_HZ)
        if n_windows >= batch_size:
            yield batch
            batch, n_windows = [], 0
    if batch:
        yield batch


def _hear(recogniser: Recogniser, clips: Sequence[np.ndarray], batch_size: int) -> list[Transcript]:
    shares = [0.0 if audio.is_silent(c, -60.0) else speech_share(c) for c in clips]
    cut = {k: windows(c) for k, c in enumerate(clips) if not audio.is_silent(c, -60.0)}
    flat = [w for k in cut for _, w in cut[k]]
    answers = iter([a for k in range(0, len(flat), batch_size) for a in recogniser(flat[k : k + batch_size])])
    found = []
    for k, clip in enumerate(clips):
        if k not in cut:
            found.append(Transcript("", no_speech=1.0, speech=0.0, flags=("silent",)))
            continue
        heard = [(start / SAMPLE_RATE_HZ, next(answers)) for start, _ in cut[k]]
        found.append(_judged(heard, shares[k], len(clip) / SAMPLE_RATE_HZ))
    return found


def _judged(heard: Sequence[tuple[float, Heard]], speech: float, duration_s: float) -> Transcript:
    """One transcript of a clip's windows, with what speaks against it."""
    flags: list[str] = []
    segments: list[Timed] = []
    words: list[tuple[Timed, ...]] = []
    for start_s, window in heard:
        if window.no_speech > NO_SPEECH and window.segments:
            if speech < SPEECH_SHARE:
                flags.append("no_speech")
                continue
            flags.append("doubtful")
        elif speech < SPEECH_SHARE and window.segments:
            flags.append("doubtful")  # it is sure of words where hardly anybody speaks
        segments += _later(window.segments, start_s)
        words += [_later(of_one, start_s) for of_one in window.words]
    text = " ".join(t for _, _, t in segments)
    raw = text.encode()
    if len(raw) > 60 and len(raw) / len(zlib.compress(raw)) > COMPRESSION:
        flags.append("repetitive")
    if len(text) > MAX_CHARACTERS_HZ * max(duration_s, 0.1):
        flags.append("too_fast")
    language = max((h.language for _, h in heard), key=[h.language for _, h in heard].count)
    silent = max(h.no_speech for _, h in heard)
    told = tuple(dict.fromkeys(flags))
    return Transcript(text, language, tuple(segments), round(silent, 4), round(speech, 4), told, tuple(words))


def _later(said: Sequence[Timed], start_s: float) -> tuple[Timed, ...]:
    return tuple((round(start_s + a, 3), round(start_s + b, 3), text) for a, b, text in said)


def _row(audio_key: str, model: str, transcript: Transcript) -> Mapping[str, Any]:
    return {
        "audio": audio_key,
        "model": model,
        "text": transcript.text,
        "language": transcript.language,
        "no_speech": transcript.no_speech,
        "speech": transcript.speech,
        "flags": list(transcript.flags),
        "segments": [list(s) for s in transcript.segments],
    }
