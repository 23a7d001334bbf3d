"""Statistics of a whole clip: one frame with the distribution and change of its descriptors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from serkit import dsp
from serkit.encoders._offline import WHOLE_CLIP, OfflineEncoder
from serkit.encoders.logmel import Logmel
from serkit.encoders.voice import FEATURES, Voice

QUANTILES = (0.05, 0.2, 0.5, 0.8, 0.95)
MODULATION_HZ = ((0.7, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 16.0), (16.0, 32.0))
FRAME_RATE_HZ, MODULATION_FRAMES = 100.0, 256
BANDS, N_CEPSTRA, N_CORRELATED = 40, 20, 13
CONTOURS = ("energy_db", "loudness", "voicing", "f0_semitones")
CONTOUR_POINTS, CONTOUR_TERMS = 32, 8
VOICED_FROM = 0.5  # height of the autocorrelation's peak
LAG_FRAMES = 2  # a frame of `voice` is centred on the log-mel frame two later
VOICING_COLUMN = FEATURES.index("voicing")
CONTOUR_COLUMNS = [FEATURES.index(name) for name in CONTOURS]


class Functionals(OfflineEncoder):
    """Functionals of log-mel bands, cepstra and voice descriptors: one frame of 2111 numbers a clip.

    The classical way of the field (B. Schuller et al. 2009, the Interspeech emotion challenge; F. Eyben et al.
    2016, eGeMAPS): low-level descriptors, then statistics over the clip. The descriptors are ``logmel/40`` (41),
    20 cepstra of it, and ``voice`` (27); the choice of statistics is serkit's:

    - of each descriptor: mean, standard deviation, quantiles 5, 20, 50, 80, 95 %, mean size and standard deviation
      of the slope, standard deviation of its slope, skewness, the mean of each third of the clip less the clip's,
      and the log energy of its modulation from 0.7 to 32 Hz in five octaves;
    - of ``voice`` in voiced frames: mean, standard deviation, quantiles 20, 50, 80 %; over the clip, a linear trend;
    - of log-mel in voiced and in unvoiced frames: mean and standard deviation;
    - of energy, loudness, voicing and F0: eight terms of the cosine transform of the contour at 32 points;
    - correlations of the first 13 cepstra; share of voiced frames, voiced stretches a second, length in seconds.

    Args:
        name: ``functionals``. trim: see :class:`OfflineEncoder`.
    """

    WINDOW = Voice.WINDOW
    HOP = WHOLE_CLIP

    def __init__(self, name: str = "functionals", *, trim: bool | Mapping[str, float] = False) -> None:
        self._logmel, self._voice = Logmel(f"logmel/{BANDS}"), Voice()
        per_descriptor = 2 + len(QUANTILES) + 3 + 1 + 3 + len(MODULATION_HZ)
        widths = BANDS + 1 + N_CEPSTRA + len(FEATURES)
        dim = per_descriptor * widths + 6 * len(FEATURES) + 4 * (BANDS + 1) + len(CONTOURS) * CONTOUR_TERMS
        dim += N_CORRELATED * (N_CORRELATED - 1) // 2 + 3
        self._specify(name, dim, 1, "mean", trim)

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """Name to one line of description with its licence."""
        return {
            "functionals": "2111 statistics of log-mel, cepstra and voice descriptors, one frame a clip (Apache-2.0)"
        }

    @classmethod
    def tiny(cls) -> Functionals:
        """The whole: it has no weights."""
        return cls()

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        logmel = self._logmel.frames(samples).astype(np.float64)
        voice = self._voice.frames(samples).astype(np.float64)
        cepstra = logmel[:, :BANDS] @ dsp.cosine_basis(BANDS, N_CEPSTRA)
        voiced = voice[:, VOICING_COLUMN] > VOICED_FROM
        heard = voiced[np.clip(np.arange(len(logmel)) - LAG_FRAMES, 0, len(voice) - 1)]
        spoken = _some(voice, voiced)
        parts = [part for frames in (logmel, cepstra, voice) for part in _statistics(frames)]
        parts += [spoken.mean(0), spoken.std(0), np.quantile(spoken, (0.2, 0.5, 0.8), axis=0).ravel(), _trend(voice)]
        for frames in (_some(logmel, heard), _some(logmel, ~heard)):
            parts += [frames.mean(0), frames.std(0)]
        stretches = np.count_nonzero(np.diff(voiced.astype(np.int8)) == 1)
        length_s = len(voice) / FRAME_RATE_HZ
        parts += [_contours(voice), _correlations(cepstra[:, :N_CORRELATED])]
        parts.append(np.array([voiced.mean(), stretches / length_s, length_s]))
        return np.concatenate(parts)[None].astype(np.float32)


def _some(frames: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The chosen frames, or all of them where these are fewer than four."""
    return frames[chosen] if np.count_nonzero(chosen) > 3 else frames


def _statistics(frames: np.ndarray) -> list[np.ndarray]:
    """(time, dim) to vectors, one after the other in the order the class names them."""
    mean, spread = frames.mean(0), frames.std(0)
    centred = frames - mean
    slope = np.diff(frames, axis=0) if len(frames) > 1 else np.zeros((1, frames.shape[1]))
    bend = np.diff(slope, axis=0) if len(slope) > 1 else np.zeros((1, frames.shape[1]))
    thirds = [part.mean(0) if len(part) else np.zeros(frames.shape[1]) for part in np.array_split(centred, 3)]
    return [
        mean,
        spread,
        np.quantile(frames, QUANTILES, axis=0).ravel(),
        np.abs(slope).mean(0),
        slope.std(0),
        bend.std(0),
        (centred**3).mean(0) / (spread + 1e-2) ** 3,
        *thirds,
        _modulation(centred).ravel(),
    ]


def _modulation(centred: np.ndarray) -> np.ndarray:
    """(octaves, dim) log energy of the modulation spectrum, averaged over stretches of 2.56 s that overlap by half."""
    size, step = MODULATION_FRAMES, MODULATION_FRAMES // 2
    window = np.hanning(size)[:, None]
    starts = range(0, max(1, len(centred) - step), step)
    power = np.zeros((size // 2 + 1, centred.shape[1]))
    for start in starts:
        piece = centred[start : start + size]
        padded = np.concatenate([piece, np.zeros((size - len(piece), piece.shape[1]))])
        power += np.abs(np.fft.rfft(padded * window, axis=0)) ** 2
    power /= len(starts)
    rate_hz = np.fft.rfftfreq(size, 1.0 / FRAME_RATE_HZ)
    bands = [power[(rate_hz >= low) & (rate_hz < high)].mean(0) for low, high in MODULATION_HZ]
    return np.asarray(np.log(np.stack(bands) + 1e-3))


def _trend(frames: np.ndarray) -> np.ndarray:
    """(dim,) slope of the regression on time from -1 to 1."""
    if len(frames) < 2:
        return np.zeros(frames.shape[1])
    time = np.linspace(-1.0, 1.0, len(frames))[:, None]
    return np.asarray((frames * time).mean(0) / (time**2).mean())


def _contours(voice: np.ndarray) -> np.ndarray:
    """Terms of the cosine transform of four contours, each brought to the same number of points."""
    at = np.linspace(0, len(voice) - 1, CONTOUR_POINTS)
    points = [np.interp(at, np.arange(len(voice)), voice[:, column]) for column in CONTOUR_COLUMNS]
    return np.asarray(dsp.cosine_basis(CONTOUR_POINTS, CONTOUR_TERMS).T @ np.stack(points, axis=1)).ravel()


def _correlations(cepstra: np.ndarray) -> np.ndarray:
    """Upper triangle of the correlation matrix; towards 0 where a cepstrum hardly moves."""
    centred = cepstra - cepstra.mean(0)
    spread = cepstra.std(0) + 1e-3
    matrix = centred.T @ centred / len(cepstra) / np.outer(spread, spread)
    return np.asarray(matrix[np.triu_indices(len(matrix), 1)])
