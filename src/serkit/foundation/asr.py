"""Speech recognisers: windows of at most 30 s to words with times, language and the probability of no speech."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from serkit import checkpoints, fetching
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError, did_you_mean, in_one_line
from serkit.extras import optional
from serkit.foundation.loading import front_end, load_model, quiet, tokenizer_of, transformers_package
from serkit.hub import hub_errors, hub_package, unreached

WINDOW_S = 30
NO_SPEECH_TOKENS = ("<|nospeech|>", "<|nocaptions|>")  # the older checkpoints say captions
UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})  # languages without spaces, as transformers lists them
_PROGRESS_S = 1.0  # what the decoder must have heard, and must be left, for another pass
_CUT = "\ufffd"  # what a decoder writes for part of a character
Timed = tuple[float, float, str]


@dataclass(frozen=True)
class Heard:
    """What a recogniser makes of one window.

    Attributes:
        segments: (start_s, end_s, text) in the window. language: ISO 639 code it took the window for.
        no_speech: probability that nobody speaks.
        words: of each segment (start_s, end_s, word), where they were asked for and can be had; else empty.
    """

    segments: tuple[Timed, ...]
    language: str
    no_speech: float
    words: tuple[tuple[Timed, ...], ...] = ()


class Recogniser(Protocol):
    """Windows of at most 30 s, (samples,) float32 mono 16 kHz, to what is said in each, in order."""

    def __call__(self, windows: Sequence[np.ndarray]) -> list[Heard]:
        """One answer per window."""


class TransformersWhisper:
    """Whisper through transformers: greedy, with timestamps, a batch of windows at a time.

    Args:
        found: where the weights come from. language: ISO 639 code, or ``None`` to let the model say.
        device: such as ``cpu`` or ``cuda``. precision: ``float32``, ``bf16`` or ``fp16``.
        words: also find the times of words, by dynamic time warping of the cross-attention (transformers, after
            OpenAI's ``timing.py``); a checkpoint that does not name its alignment heads gives none.

    Raises:
        MissingExtra: transformers is not installed.
        SerkitError: no weights, other weights, or an unknown language.
    """

    def __init__(
        self, found: checkpoints.Resolved, language: str | None, device: str, precision: str, *, words: bool = False
    ) -> None:
        folder = fetching.fetch(found)  # before the seconds that the packages take to load: they may be for nothing
        import torch

        transformers = transformers_package(found.name)
        self._device, self._torch, self._name = device, torch, found.name
        self._model: Any = load_model(
            found.name, transformers.WhisperForConditionalGeneration, folder, missing_ok=("proj_out.weight",)
        )
        self._tokenizer: Any = tokenizer_of(found.name, folder)
        self._front: Any = front_end(found.name, folder)
        bands, taken = self._front.feature_size, self._model.config.num_mel_bins
        if bands != taken:
            raise SerkitError(
                f"'{found.name}': {folder} has a front end of {bands} mel bands, its weights take {taken}"
            )
        kind = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._model.to(device=device, dtype=kind)
        table = getattr(self._model.generation_config, "lang_to_id", None) or {}
        if not isinstance(table, dict) or not all(isinstance(index, int) for index in table.values()):
            raise SerkitError(
                f"'{found.name}': {folder}/generation_config.json is damaged: lang_to_id is {table!r:.60}"
            )
        self._languages = {str(token).strip("<|>"): index for token, index in table.items()}
        if language is not None and language not in self._languages:
            raise SerkitError(
                f"'{found.name}' does not know the language '{language}'" + did_you_mean(language, self._languages)
            )
        self._language = language
        unknown = self._tokenizer.unk_token_id
        ids = [self._tokenizer.convert_tokens_to_ids(t) for t in NO_SPEECH_TOKENS]
        self._silent = next((i for i in ids if i is not None and i != unknown), None)
        settings = self._model.generation_config
        first = getattr(settings, "decoder_start_token_id", None)  # what transformers' own generate() begins with
        self._first = self._model.config.decoder_start_token_id if first is None else first
        self._times = words and bool(getattr(settings, "alignment_heads", None))
        if self._times:
            self._model.set_attn_implementation("eager")  # transformers does so itself after the first window
        self._marks = {*self._tokenizer.all_special_ids, settings.eos_token_id}
        self._first_time = getattr(settings, "no_timestamps_token_id", None)

    def __call__(self, windows: Sequence[np.ndarray]) -> list[Heard]:
        """See :class:`Recogniser`.

        Raises:
            SerkitError: settings of generation or a tokenizer that are of another model than the weights.
        """
        try:
            return self._answers(windows)
        except (LookupError, AttributeError, TypeError, ValueError) as error:  # of what transformers finds in them
            raise SerkitError(
                f"'{self._name}': its generation_config.json or its tokenizer does not fit its weights: "
                f"{in_one_line(error)}"
            ) from error

    def _answers(self, windows: Sequence[np.ndarray]) -> list[Heard]:
        found, reached = self._hear(windows, [self._language] * len(windows))
        from_s = [0.0] * len(windows)
        while left := [k for k, until_s in enumerate(reached) if until_s is not None and until_s >= _PROGRESS_S]:
            for k in left:  # it stopped between two segments: what follows is heard like a window of its own
                from_s[k] += reached[k] or 0.0
            rest = [windows[k][round(from_s[k] * SAMPLE_RATE_HZ) :] for k in left]
            there = [place for place, window in enumerate(rest) if len(window) >= _PROGRESS_S * SAMPLE_RATE_HZ]
            reached = [None] * len(windows)
            if not there:
                break
            spoken = [found[left[place]].language for place in there]
            more, until = self._hear([rest[place] for place in there], spoken)
            for place, heard, until_s in zip(there, more, until, strict=True):
                k = left[place]
                found[k] = _joined(found[k], heard, from_s[k])
                reached[k] = until_s
        return found

    def _hear(
        self, windows: Sequence[np.ndarray], spoken: Sequence[str | None]
    ) -> tuple[list[Heard], list[float | None]]:
        """One pass of the decoder: what it makes of windows, and where it stopped if that was before its end.

        Args:
            spoken: language of each window; ``None`` lets the model say.
        """
        torch, model = self._torch, self._model
        values = self._front(list(windows), sampling_rate=SAMPLE_RATE_HZ, return_tensors="np")["input_features"]
        mel = torch.from_numpy(np.asarray(values)).to(self._device, model.dtype)
        with torch.inference_mode(), quiet(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"std\(\): degrees of freedom")  # of a segment without a word
            encoded = model.model.encoder(mel)
            start = torch.full((len(windows), 1), self._first, device=self._device)
            logits = model(encoder_outputs=(encoded.last_hidden_state,), decoder_input_ids=start).logits[:, -1].float()
            silent = logits.softmax(-1)[:, self._silent] if self._silent is not None else torch.zeros(len(windows))
            names = list(self._languages)
            choice = logits[:, list(self._languages.values())].argmax(-1).tolist() if names else [0] * len(windows)
            languages = [said or (names[c] if names else "en") for said, c in zip(spoken, choice, strict=True)]
            heard: list[Heard] = [Heard((), language, 0.0) for language in languages]
            reached: list[float | None] = [None] * len(windows)
            for language in sorted(set(languages)):
                rows = [k for k, said in enumerate(languages) if said == language]
                states = type(encoded)(encoded.last_hidden_state[rows])
                given: dict[str, Any] = {"language": language, "task": "transcribe"} if names else {}
                if self._times:
                    frames = [self._n_frames(windows[row], mel.shape[-1]) for row in rows]
                    mask = torch.arange(mel.shape[-1])[None] < torch.tensor(frames)[:, None]
                    given |= {"return_token_timestamps": True, "attention_mask": mask.long().to(self._device)}
                found = model.generate(
                    encoder_outputs=states, return_timestamps=True, return_segments=True, num_beams=1, do_sample=False,
                    force_unique_generate_call=True, **given,
                )  # fmt: skip  # further calls would hear the same states again
                for row, segments in zip(rows, found["segments"], strict=True):
                    length_s = len(windows[row]) / SAMPLE_RATE_HZ
                    said, words = self._said(segments, length_s, language)
                    heard[row] = Heard(said, language, float(silent[row]), words)
                    reached[row] = self._reached(segments)
        return heard, reached

    def _reached(self, segments: Any) -> float | None:
        """Where the decoder stopped between two segments: it ended with two times; ``None``: it heard all."""
        if not segments or self._first_time is None:
            return None
        last = [int(token) for token in segments[-1]["tokens"][-2:]]
        return float(segments[-1]["end"]) if len(last) == 2 and min(last) > self._first_time else None

    def _n_frames(self, window: np.ndarray, most: int) -> int:
        """Frames of the spectrogram that a window fills; at least the two that make a position."""
        return min(max(-(-len(window) // int(self._front.hop_length)), 2), most)

    def _said(
        self, segments: Any, length_s: float, language: str
    ) -> tuple[tuple[Timed, ...], tuple[tuple[Timed, ...], ...]]:
        """Segments and their words, held to the window: the model may name times, and say something, after its end."""
        said: list[Timed] = []
        words: list[tuple[Timed, ...]] = []
        for segment in segments:
            text = self._tokenizer.decode(segment["tokens"], skip_special_tokens=True).strip()
            start_s = max(float(segment["start"]), 0.0)
            if text and start_s < length_s:
                said.append((start_s, min(max(float(segment["end"]), start_s), length_s), text))
                words += [self._words(segment, length_s, language)] if self._times else []
        return tuple(said), tuple(words)

    def _words(self, segment: Any, length_s: float, language: str) -> tuple[Timed, ...]:
        """The words of a segment with their times; a token lasts from the end of the one before it."""
        tokens = [int(t) for t in segment["tokens"]]
        ends = [min(max(float(t), 0.0), length_s) for t in segment["token_timestamps"]]
        begins = [min(max(float(segment["start"]), 0.0), length_s), *ends]
        spoken = [
            (begin, max(begin, end), token)
            for begin, end, token in zip(begins, ends, tokens, strict=False)
            if token not in self._marks and (self._first_time is None or token < self._first_time)
        ]
        return timed_words(spoken, self._tokenizer.decode, spaced=language not in UNSPACED)


def timed_words(
    tokens: Sequence[tuple[float, float, int]], decode: Callable[[list[int]], str], *, spaced: bool
) -> tuple[Timed, ...]:
    """Words with times from tokens with times.

    Args:
        tokens: (start_s, end_s, token) of text alone. decode: tokens to text.
        spaced: words begin with a space; otherwise each token that is more than punctuation begins one.

    Returns:
        (start_s, end_s, word) without spaces around it.
    """
    words: list[list[Any]] = []
    part: list[int] = []
    begin_s = 0.0
    for place, (start_s, end_s, token) in enumerate(tokens, start=1):
        begin_s = begin_s if part else start_s
        part.append(token)
        text = decode(part)
        if text.endswith(_CUT) and place < len(tokens):
            continue  # in the middle of a character
        new = text[:1].isspace() if spaced else any(c.isalnum() for c in text)
        if new or not words:
            words.append([begin_s, end_s, text])
        else:
            words[-1][1:] = end_s, words[-1][2] + text
        part = []
    told = ((start_s, end_s, word.strip(f" \n\t{_CUT}")) for start_s, end_s, word in words)
    return tuple(word for word in told if word[2])


def _joined(first: Heard, more: Heard, from_s: float) -> Heard:
    """What was heard of a window, and of its rest from a time on."""
    segments = tuple((from_s + a, from_s + b, text) for a, b, text in more.segments)
    words = tuple(tuple((from_s + a, from_s + b, word) for a, b, word in of_one) for of_one in more.words)
    return replace(first, segments=(*first.segments, *segments), words=(*first.words, *words))


class FasterWhisper:
    """Whisper through faster-whisper (CTranslate2): the quick choice on a CPU, without torch.

    Args:
        size: a model name of faster-whisper such as ``large-v3``, or a folder with a converted model.
        language: ISO 639 code, or ``None`` to let the model say. device: ``cpu`` or ``cuda``.
        compute: CTranslate2's arithmetic, such as ``int8`` or ``float16``. words: also give the times of words.

    Raises:
        MissingExtra: faster-whisper is not installed.
        SerkitError: its files are not here, and this machine does not reach the hub; or they are damaged, or not for
            this device.
    """

    def __init__(
        self, size: str, language: str | None, device: str, compute: str = "default", *, words: bool = False
    ) -> None:
        package = optional("faster_whisper", "asr", "transcripts with engine 'faster-whisper'", "faster-whisper")
        _bring(package, size)
        try:
            self._model: Any = package.WhisperModel(size, device=device, compute_type=compute)
        except (RuntimeError, ValueError, OSError) as error:  # CTranslate2's of a damaged file, or of its arithmetic
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise SerkitError(f"faster-whisper '{size}' cannot be loaded: {reason}") from None
        self._language, self._times = language, words

    def __call__(self, windows: Sequence[np.ndarray]) -> list[Heard]:
        """See :class:`Recogniser`."""
        heard = []
        for window in windows:
            times = {"word_timestamps": True} if self._times else {}
            segments, info = self._model.transcribe(
                window, language=self._language, condition_on_previous_text=False, **times
            )
            said = list(segments)
            silent = max((float(s.no_speech_prob) for s in said), default=1.0)
            kept = [s for s in said if s.text.strip()]
            heard.append(
                Heard(
                    tuple((float(s.start), float(s.end), s.text.strip()) for s in kept),
                    str(info.language),
                    silent,
                    tuple(
                        tuple((float(w.start), float(w.end), w.word.strip()) for w in s.words or () if w.word.strip())
                        for s in kept
                    )
                    if self._times
                    else (),
                )
            )
        return heard


def is_converted(folder: Path) -> bool:
    """Whether a folder holds a model that was converted for faster-whisper."""
    return (folder / "model.bin").is_file()


def folder_of(name: str, source: Path | str | None = None) -> Path | None:
    """The folder that stands for a name: the source, that of ``path:DIR``, or what ``roots.yaml`` puts in its place."""
    given = source if source is not None else checkpoints.replaced_sources().get(name)
    if given is None and name.startswith("path:"):
        given = name.removeprefix("path:")
    return None if given is None else Path(given).expanduser()


def converted_folder(name: str, source: Path | str | None = None) -> Path | None:
    """The folder that faster-whisper reads; ``None``: the model that it has published under that name.

    Raises:
        SerkitError: a source or ``path:DIR`` without a converted model. What ``roots.yaml`` has for transformers is
            passed over: the published conversion is of the same model.
    """
    folder = folder_of(name, source)
    if folder is None or is_converted(folder):
        return folder
    if source is None and not name.startswith("path:"):
        return None
    raise SerkitError(
        f"transcripts '{name}': {folder} holds no model for faster-whisper (model.bin); engine: transformers reads "
        "folders in the hub's layout"
    )


def _bring(package: Any, size: str) -> None:
    """Refuse a model that is neither here nor to be had; brings nothing, which the package does when it loads.

    Raises:
        SerkitError: see above.
    """
    if Path(size).is_dir():
        return
    hub = hub_package(size)
    try:
        package.download_model(size, local_files_only=True)
    except hub_errors(hub):
        if reason := unreached(hub):
            raise SerkitError(
                f"faster-whisper '{size}' cannot be downloaded here: this machine cannot reach the hub ({reason}); "
                "give the folder of a converted model in its place"
            ) from None
