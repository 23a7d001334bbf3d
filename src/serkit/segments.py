"""A recording of any length → stretches of speech, block by block, in constant memory.

A detector gives a speech score for every hop; a state machine turns scores into stretches. Both take
chunks of any size and work on a fixed grid, so that a stream and a file give the same stretches to the
sample. Imports numpy only; Silero's network runs in onnxruntime, loaded where it is asked for.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from serkit import dsp, package_files
from serkit.encoding import SAMPLE_RATE_HZ
from serkit.errors import SerkitError, check_known
from serkit.not_speech import NotSpeech

VADS = ("spectral", "silero")
_AGAIN_S = 0.25  # of an open stretch, before it is judged again


@dataclass(frozen=True)
class SegmentSettings:
    """How speech is found and cut.

    Attributes:
        vad: ``spectral``: energy over the background in mel bands (:class:`SpectralVad`, part of serkit);
            ``silero``: the network of the package silero-vad, better in noise and music.
        on, off: a stretch begins where the score reaches ``on`` and lasts while it reaches ``off``.
        min_speech_s: shorter stretches are dropped. min_silence_s: shorter pauses stay inside.
        pad_s: kept before and after; at most half of ``min_silence_s`` is used.
        max_s: longer stretches are cut, at the frame least like speech in their last third.
        drop_tones: leave out stretches that are dial tones, beeps or music (:mod:`serkit.tones`); with
            ``spectral`` only.
        drop_noises: leave out stretches of blows, clatter or coloured noise without a voice
            (:mod:`serkit.noises`); with ``spectral`` only.

    Raises:
        SerkitError: an unknown detector, or a number out of range.
    """

    vad: Literal["spectral", "silero"] = "spectral"
    on: float = 0.5
    off: float = 0.35
    min_speech_s: float = 0.2
    min_silence_s: float = 0.4
    pad_s: float = 0.2
    max_s: float = 12.0
    drop_tones: bool = True
    drop_noises: bool = True

    def __post_init__(self) -> None:
        check_known(self.vad, VADS, f"no voice activity detector '{self.vad}'")
        if not 0 < self.off <= self.on < 1:
            raise SerkitError(f"segments: off {self.off} and on {self.on}, expected 0 < off <= on < 1")
        if not (self.min_speech_s >= 0 and self.min_silence_s > 0 and self.pad_s >= 0 and self.max_s >= 1):
            raise SerkitError(f"segments: durations out of range (max_s at least 1 s): {self}")


@dataclass(frozen=True)
class Stretch:
    """A stretch of speech in samples at 16 kHz: ``start`` to ``end``, pads included; ``speech`` of them are speech."""

    start: int
    end: int
    speech: int

    @property
    def start_s(self) -> float:
        """Where it begins, in seconds."""
        return self.start / SAMPLE_RATE_HZ

    @property
    def end_s(self) -> float:
        """Where it ends, in seconds."""
        return self.end / SAMPLE_RATE_HZ


class Vad(Protocol):
    """A detector: chunks of samples in, speech scores in [0, 1] out, one for every ``hop`` samples."""

    hop: int

    def push(self, samples: np.ndarray) -> np.ndarray:
        """(n,) float32 mono 16 kHz to the (k,) scores that have become known."""

    def finish(self) -> np.ndarray:
        """The scores of what is left."""


class SpectralVad:
    """Energy over the background, band by band: a detector without weights.

    Powers of 24 mel bands (25-ms frames every 10 ms) are averaged over five frames. The background of a
    band is the smallest of these within the last three seconds, never below -75 dB re full scale, or in a
    faint recording 30 dB below the loudest band so far, but not below -90 dB; after
    R. Martin (2001), Noise power spectral density estimation based on optimal smoothing and minimum
    statistics, IEEE TSAP 9(5), without its bias correction. The score is ``1 / (1 + exp(-(d - 1.3) / 0.4))``
    where d is the mean over the bands of 100 to 6000 Hz of the decibels above background, less 5 dB, cut
    to 0 … 25. Scores come at most a second late. Music moves as speech does and scores as speech: it is for
    :class:`serkit.not_speech.NotSpeech` to find.

    Measured against Silero 6.2 as reference: see ``docs/benchmarks.md``.
    """

    hop = 160
    _WINDOW, _BLOCK, _N_FFT, _BANDS = 400, 20, 512, 24
    _SMOOTH, _BLOCKS, _FIRST = 5, 15, 5
    _FLOOR_DB, _LOWEST_DB, _BELOW_PEAK_DB = -75.0, -90.0, 30.0

    def __init__(self) -> None:
        self._pending = np.zeros((self._WINDOW - self.hop) // 2, dtype=np.float32)
        self._last = np.zeros((0, self._BANDS))
        self._minima: deque[np.ndarray] = deque(maxlen=self._BLOCKS)
        self._held: list[np.ndarray] = []
        self._samples = self._given = 0
        self._peak_db = -120.0
        weights = dsp.mel_weights(self._BANDS, self._N_FFT, 100.0, 6000.0)
        self._weights = weights / weights.sum(axis=0) / dsp.hann(self._WINDOW).sum() ** 2 * 4

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Scores of the frames that are whole, in blocks of 0.2 s; the first second comes at once."""
        self._samples += len(samples)
        pending = np.concatenate([self._pending, samples])
        step, size = self._BLOCK * self.hop, (self._BLOCK - 1) * self.hop + self._WINDOW
        found, at = [], 0
        while len(pending) - at >= size:
            found += self._block(pending[at : at + size])
            at += step
        self._pending = pending[at:].copy()
        return self._counted(found)

    def finish(self) -> np.ndarray:
        """The rest, padded with zeros; one score for every begun hop."""
        missing = -(-self._samples // self.hop) - self._given - len(self._held) * self._BLOCK
        size, step, found = (self._BLOCK - 1) * self.hop + self._WINDOW, self._BLOCK * self.hop, []
        for first in range(0, missing, self._BLOCK):
            found += self._block(dsp.at_least(self._pending, size)[:size], real=min(self._BLOCK, missing - first))
            self._pending = self._pending[step:]
        found += self._release()
        return self._counted(found)

    def _counted(self, found: list[np.ndarray]) -> np.ndarray:
        scores = np.concatenate(found) if found else np.zeros(0)
        scores = scores[: -(-self._samples // self.hop) - self._given]
        self._given += len(scores)
        return scores

    def _block(self, samples: np.ndarray, real: int = _BLOCK) -> list[np.ndarray]:
        """Always the same number of frames at a time, so that chunking does not reach the last digit."""
        frames = dsp.framed(samples, self._WINDOW, self.hop) * dsp.hann(self._WINDOW)
        bands = (dsp.power_spectrum(frames, self._N_FFT) @ self._weights).astype(np.float64)
        rows = np.concatenate([self._last, bands])
        total = np.concatenate([np.zeros((1, self._BANDS)), np.cumsum(rows, axis=0)])
        ends = np.arange(len(self._last), len(rows)) + 1
        begins = np.maximum(ends - self._SMOOTH, 0)
        smooth = np.maximum((total[ends] - total[begins]) / (ends - begins)[:, None], 0.0)
        decibel = 10 * np.log10(smooth + 1e-12)
        settled = self._SMOOTH - len(self._last) - 1 if len(self._last) < self._SMOOTH - 1 < real else 0
        self._last = rows[-(self._SMOOTH - 1) :]
        self._minima.append(decibel[settled:real].min(axis=0))
        self._peak_db = max(self._peak_db, float(decibel[settled:real].max()))
        self._held.append(decibel)
        return self._release() if len(self._minima) >= self._FIRST else []

    def _release(self) -> list[np.ndarray]:
        """Scores of the blocks held back, over the background as it is known now."""
        if not self._held:
            return []
        least = min(max(self._peak_db - self._BELOW_PEAK_DB, self._LOWEST_DB), self._FLOOR_DB)
        floor = np.maximum(np.min(list(self._minima), axis=0), least)
        held, self._held = self._held, []
        above = (np.clip(decibel - floor - 5.0, 0.0, 25.0).mean(axis=1) for decibel in held)
        return [1.0 / (1.0 + np.exp(-(a - 1.3) / 0.4)) for a in above]


class SileroVad:
    """The network of the package silero-vad (MIT) in onnxruntime; torch is not loaded.

    Scores come every 512 samples; the network carries its state from one to the next, and sees the 64
    samples before (read in silero-vad 6.2's ``utils_vad.py``).

    Raises:
        SerkitError: the package is not installed, or its network is another than the one known here.
    """

    hop = 512
    _CONTEXT = 64

    def __init__(self) -> None:
        self._session = _silero()
        self._state = np.zeros((2, 1, 128), dtype=np.float32)
        self._pending = np.zeros(self._CONTEXT, dtype=np.float32)
        self._samples = self._given = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Scores of the hops that are whole."""
        self._samples += len(samples)
        pending = np.concatenate([self._pending, samples])
        size, at, found = self._CONTEXT + self.hop, 0, []
        while len(pending) - at >= size:
            inputs = {"input": pending[None, at : at + size], "state": self._state, "sr": np.array(SAMPLE_RATE_HZ)}
            score, self._state = self._session.run(None, inputs)
            found.append(float(score[0, 0]))
            at += self.hop
        self._pending = pending[at:].copy()
        self._given += len(found)
        return np.array(found)

    def finish(self) -> np.ndarray:
        """The score of the last hop, padded with zeros."""
        missing = self._given * self.hop + self.hop - self._samples
        if missing == self.hop:
            return np.zeros(0)
        scores = self.push(np.zeros(missing, dtype=np.float32))
        self._samples -= missing
        return scores


def _silero() -> Any:
    path = package_files.find(package_files.SILERO, "data/silero_vad.onnx", "vad: silero")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    if {i.name for i in session.get_inputs()} != {"input", "state", "sr"}:
        raise SerkitError("the network of the installed silero-vad is not that of version 6")
    return session


def make_vad(settings: SegmentSettings) -> Vad:
    """The detector that is asked for.

    Raises:
        SerkitError: as for :class:`SileroVad`.
    """
    return SpectralVad() if settings.vad == "spectral" else SileroVad()


def make_not_speech(settings: SegmentSettings) -> NotSpeech:
    """What hears the tones and noises that are to be left out."""
    spectral = settings.vad == "spectral"
    return NotSpeech(tones=spectral and settings.drop_tones, noises=spectral and settings.drop_noises)


class Segmenter:
    """Chunks of a recording in, stretches of speech out, as soon as they are certain.

    Args:
        settings: how speech is found and cut.

    Attributes:
        speech: samples so far in hops whose score reached ``off`` inside a stretch that was kept or is open.
    """

    def __init__(self, settings: SegmentSettings | None = None) -> None:
        self.settings = settings or SegmentSettings()
        self._vad, self._not_speech = make_vad(self.settings), make_not_speech(self.settings)
        self._judged = (0, 0, False)  # start and end of an open stretch, and whether it was none
        hop_s = self._vad.hop / SAMPLE_RATE_HZ
        self._pad = round(min(self.settings.pad_s, self.settings.min_silence_s / 2) * SAMPLE_RATE_HZ)
        self._silence = max(1, round(self.settings.min_silence_s / hop_s))
        self._longest = max(3, round(self.settings.max_s / hop_s))
        self._least = round(self.settings.min_speech_s * SAMPLE_RATE_HZ)
        self._samples = self._hops = 0
        self._begin: int | None = None  # hop where the open stretch begins
        self._last = 0  # last hop of speech in it
        self._scores: list[float] = []  # of the open stretch
        self._cut = False  # the open stretch follows a cut, without a pause
        self._end = 0  # sample where the last stretch ended
        self._kept = 0

    @property
    def speech(self) -> int:
        """Samples of speech so far."""
        return self._kept + self._voiced(self._scores)

    @property
    def open_speech(self) -> int:
        """Samples of speech so far in the stretch that has begun and not ended; 0 where none has."""
        return 0 if self._begin is None else self._voiced(self._scores)

    @property
    def open_from(self) -> int | None:
        """First sample of a stretch that has begun and not ended, pad included; ``None`` while it is no voice."""
        start = None if self._begin is None else self._padded_begin()
        if start is None or self._not_speech.is_tonal(start, self._samples):
            return None
        if self._judged[0] != start or self._samples - self._judged[1] >= _AGAIN_S * SAMPLE_RATE_HZ:
            self._judged = (start, self._samples, self._not_speech.is_noise_or_melody(start, self._samples))
        return None if self._judged[2] else start

    @property
    def needed_from(self) -> int:
        """Samples before this one will be in no further stretch."""
        begin = self._hops * self._vad.hop if self._begin is None else self._begin * self._vad.hop
        return max(self._end, begin - self._pad)

    def push(self, samples: np.ndarray) -> list[Stretch]:
        """(n,) float32 mono 16 kHz to the stretches that have ended."""
        self._samples += len(samples)
        self._not_speech.push(samples)
        found = self._step(self._vad.push(samples))
        self._not_speech.forget(self.needed_from)
        return found

    def finish(self) -> list[Stretch]:
        """The stretches that the end of the recording ends."""
        found = self._step(self._vad.finish())
        if self._begin is not None:
            found += self._close(self._last + 1, cut=False)
        return found

    def _step(self, scores: np.ndarray) -> list[Stretch]:
        found: list[Stretch] = []
        on, off = self.settings.on, self.settings.off
        for score in scores.tolist():
            hop, self._hops = self._hops, self._hops + 1
            if self._begin is None:
                if score < on:
                    continue
                self._begin, self._last, self._scores, self._cut = hop, hop, [], False
            self._scores.append(score)
            if score >= off:
                self._last = hop
            if hop - self._last >= self._silence:
                found += self._close(self._last + 1, cut=False)
            elif len(self._scores) >= self._longest:
                weakest = self._longest * 2 // 3 + int(np.argmin(self._scores[self._longest * 2 // 3 :]))
                found += self._close(self._begin + max(1, weakest), cut=True)
        return found

    def _voiced(self, scores: list[float]) -> int:
        return sum(score >= self.settings.off for score in scores) * self._vad.hop

    def _padded_begin(self) -> int:
        begin = (self._begin or 0) * self._vad.hop
        return begin if self._cut else max(self._end, begin - self._pad)

    def _close(self, until: int, *, cut: bool) -> list[Stretch]:
        """End the open stretch before hop ``until``; after a cut the next one begins there."""
        begin = self._begin or 0
        inside, rest = self._scores[: until - begin], self._scores[until - begin :]
        speech = self._voiced(inside)
        start, end = self._padded_begin(), min(self._samples, until * self._vad.hop + (0 if cut else self._pad))
        self._begin, self._scores = (until, rest) if cut else (None, [])
        whole = speech >= self._least or self._cut
        self._cut = cut
        if not whole or end <= start or self._not_speech.between(start, end):
            return []
        self._end = end
        self._kept += min(speech, end - start)
        return [Stretch(start, end, min(speech, end - start))]
