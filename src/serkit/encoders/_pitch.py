"""Fundamental frequency, harmonicity, and the periods of the voice, for the voice descriptors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from serkit import dsp
from serkit.encoding import SAMPLE_RATE_HZ

WINDOW = 960  # 60 ms: three periods of the lowest voice
HOP = 160
N_FFT = 1280  # window and the longest lag: no wrap-around
LOW_HZ, HIGH_HZ = 55.0, 800.0
MIN_LAG, MAX_LAG = int(SAMPLE_RATE_HZ / HIGH_HZ), int(SAMPLE_RATE_HZ / LOW_HZ) + 1
N_CANDIDATES = 6
HARMONIC_BINS = 361  # of the 12.5-Hz spectrum that is kept: up to 4.5 kHz
BIN_HZ = SAMPLE_RATE_HZ / N_FFT
# Boersma (1993) and the defaults of Praat's manual; costs are per 10 ms
VOICING_THRESHOLD, SILENCE_THRESHOLD = 0.45, 0.03
OCTAVE_COST, OCTAVE_JUMP_COST, VOICING_COST = 0.01, 0.35, 0.14


@dataclass(frozen=True)
class Pitch:
    """A pitch track, 100 frames a second.

    Attributes:
        f0_hz: (time,) float32, 0 where unvoiced.
        harmonicity: (time,) float32 in [0, 1], normalised autocorrelation at the period, or its highest peak.
        power: (time, HARMONIC_BINS) float32 power spectrum of the 60-ms frames, 12.5 Hz a bin.
    """

    f0_hz: np.ndarray
    harmonicity: np.ndarray
    power: np.ndarray


@lru_cache(maxsize=1)
def window_correlation() -> np.ndarray:
    """(MAX_LAG + 2,) float32: what undoes the fall of the autocorrelation with the lag that the window makes."""
    power = np.abs(np.fft.rfft(dsp.hann(WINDOW).astype(np.float64), N_FFT)) ** 2
    correlation = np.fft.irfft(power, N_FFT)[: MAX_LAG + 2]
    return np.asarray(correlation[0] / correlation, dtype=np.float32)


def track(samples: np.ndarray) -> Pitch:
    """Track F0 by Boersma's method: autocorrelation over the window's own, path by Viterbi.

    Source: P. Boersma (1993), Accurate short-term analysis of the fundamental frequency and the
    harmonics-to-noise ratio of a sampled sound, IFA Proceedings 17, eq. 9 (correlation), 23-27 (path).

    Args:
        samples: (samples,) float32, at least WINDOW long.
    """
    window, undo = dsp.hann(WINDOW), window_correlation()
    lags, peaks, powers, loudest = [], [], [], []
    for frames in dsp.chunks(dsp.framed(samples, WINDOW, HOP)):
        centred = frames - frames.mean(axis=1, keepdims=True)
        loudest.append(np.abs(centred).max(axis=1))
        power = dsp.power_spectrum(centred * window, N_FFT)
        correlation = np.fft.irfft(power, N_FFT)[:, : MAX_LAG + 2].astype(np.float32)
        correlation *= undo / np.maximum(correlation[:, :1], 1e-12)
        lag, peak = _candidates(correlation)
        lags.append(lag)
        peaks.append(peak)
        powers.append(power[:, :HARMONIC_BINS].copy())
    lag, peak, local = np.concatenate(lags), np.concatenate(peaks), np.concatenate(loudest)
    f0, harmonicity = _path(lag, peak, local / max(float(local.max()), 1e-4))
    return Pitch(f0, harmonicity, np.concatenate(powers))


def _candidates(correlation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest local maxima: (time, N_CANDIDATES) lags in samples, and heights (0 where there is none)."""
    body = correlation[:, MIN_LAG : MAX_LAG + 1]
    before, after = correlation[:, MIN_LAG - 1 : MAX_LAG], correlation[:, MIN_LAG + 1 : MAX_LAG + 2]
    tilt = (OCTAVE_COST * np.log2(LOW_HZ / SAMPLE_RATE_HZ * np.arange(MIN_LAG, MAX_LAG + 1))).astype(np.float32)
    ranked = np.where((body > before) & (body >= after) & (body > 0), body - tilt, -1.0)
    best = np.argpartition(-ranked, N_CANDIDATES, axis=1)[:, :N_CANDIDATES]
    rows = np.arange(len(body))[:, None]
    left, middle, right = before[rows, best], body[rows, best], after[rows, best]
    bend = np.minimum(left - 2 * middle + right, -1e-9)
    shift = np.clip(0.5 * (left - right) / bend, -0.5, 0.5)
    height = np.where(ranked[rows, best] > -1.0, middle - 0.25 * (left - right) * shift, 0.0)
    return (best + MIN_LAG + shift).astype(np.float32), np.clip(height, 0.0, 1.0).astype(np.float32)


def _path(lag: np.ndarray, peak: np.ndarray, loudness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest path through the candidates and the unvoiced state (the last)."""
    n = len(lag)
    octave = np.log2(SAMPLE_RATE_HZ / lag)  # (time, K)
    strength = peak + OCTAVE_COST * (octave - np.log2(LOW_HZ))
    strength = np.where(peak > 0, strength, -2.0)
    unvoiced = VOICING_THRESHOLD + np.maximum(0.0, 2.0 - loudness / (SILENCE_THRESHOLD / (1.0 + VOICING_THRESHOLD)))
    gain = np.concatenate([strength, unvoiced[:, None]], axis=1)
    k = gain.shape[1]
    cost = np.full((max(n - 1, 0), k, k), VOICING_COST)
    cost[:, :-1, :-1] = OCTAVE_JUMP_COST * np.abs(octave[:-1, :, None] - octave[1:, None, :])
    cost[:, -1, -1] = 0.0
    score, back, columns = gain[0], np.empty((n, k), dtype=np.intp), np.arange(k)
    for t in range(1, n):
        total = score[:, None] - cost[t - 1]
        back[t] = best = total.argmax(axis=0)
        score = total[best, columns] + gain[t]
    state = np.empty(n, dtype=np.intp)
    state[-1] = score.argmax()
    for t in range(n - 1, 0, -1):
        state[t - 1] = back[t, state[t]]
    voiced, rows = state < k - 1, np.arange(n)
    chosen = np.where(voiced, state, 0)
    f0 = np.where(voiced, SAMPLE_RATE_HZ / lag[rows, chosen], 0.0)
    harmonicity = np.where(voiced, peak[rows, chosen], peak.max(axis=1))
    return f0.astype(np.float32), harmonicity.astype(np.float32)


def _detrended(signal: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Subtract the mean over ``reach`` samples to each side, a different reach at each sample."""
    total = np.concatenate([[0.0], np.cumsum(signal)])
    at = np.arange(len(signal))
    low, high = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(signal))
    return np.asarray(signal - (total[high] - total[low]) / (high - low))


def _peaks(samples: np.ndarray, epochs: np.ndarray, period: np.ndarray) -> np.ndarray:
    """The waveform's peak in every period, to a fraction of a sample.

    Filtered epochs move with the amplitude; the peaks do not. Positive or negative peaks, within half a
    period around the epochs or between them: whichever repeats most evenly.
    """
    bounds = np.append(epochs[0] - 0.5 * period[0], 0.5 * (epochs[:-1] + epochs[1:]))
    best, evenness = epochs, np.inf
    for edges in (bounds, epochs):
        starts = np.clip(np.round(edges).astype(np.intp), 0, len(samples) - 2)
        starts = np.maximum.accumulate(starts + np.arange(len(starts))) - np.arange(len(starts))
        sizes = np.diff(np.append(starts, min(int(starts[-1] + period[-1]), len(samples))))
        if (sizes < 1).any():
            continue
        body = samples[starts[0] : starts[0] + sizes.sum()]
        for wave in (body, -body):
            top = np.maximum.reduceat(wave, starts - starts[0])
            hits = np.flatnonzero(wave == np.repeat(top, sizes))
            at = hits[np.searchsorted(hits, starts - starts[0])]
            inside = np.clip(at, 1, len(wave) - 2)
            left, middle, right = wave[inside - 1], wave[inside], wave[inside + 1]
            bend = np.minimum(left - 2 * middle + right, -1e-12)
            marks = starts[0] + inside + np.clip(0.5 * (left - right) / bend, -0.5, 0.5)
            unevenness = float(np.median(np.abs(np.diff(marks, 2)) / period[1:-1]))
            if unevenness < evenness:
                best, evenness = marks, unevenness
    return np.asarray(best, dtype=np.float64)


def perturbation(samples: np.ndarray, f0_hz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Jitter and shimmer of each frame from the periods within its 60 ms.

    Periods lie between epochs found by zero-frequency filtering with a window that follows F0
    (K. S. R. Murty and B. Yegnanarayana (2008), IEEE TASLP 16(8), section III), moved to the waveform's
    peaks. Jitter (local) is
    the mean absolute difference of neighbouring periods over their mean; shimmer (local, dB) the mean
    absolute level difference of neighbouring periods' peak-to-peak amplitudes (Eyben et al. 2016).

    Args:
        samples: (samples,) float32. f0_hz: (time,), 0 where unvoiced.

    Returns:
        jitter (time,), a ratio, and shimmer (time,) in dB, float32; 0 where there are no two periods.
    """
    n = len(f0_hz)
    nothing = np.zeros(n, dtype=np.float32)
    voiced = f0_hz > 0
    if not voiced.any():
        return nothing, nothing.copy()
    step = 4  # the filtered signal is close to a sine: 4 kHz and interpolated crossings are enough
    low = samples[: len(samples) // step * step].reshape(-1, step).mean(axis=1, dtype=np.float64)
    centres = np.arange(n) * HOP + WINDOW / 2
    where = np.arange(len(low)) * step + (step - 1) / 2
    period = np.interp(where, centres[voiced], SAMPLE_RATE_HZ / f0_hz[voiced].astype(np.float64))
    reach = np.maximum(np.round(0.75 * period / step).astype(np.intp), 1)
    signal = low - low.mean()
    for _ in range(3):
        signal = _detrended(np.cumsum(signal), reach)
    rise = np.flatnonzero((signal[:-1] < 0) & (signal[1:] >= 0))
    if len(rise) < 4:
        return nothing, nothing.copy()
    epochs = where[rise] + step * signal[rise] / (signal[rise] - signal[rise + 1])
    marks = _peaks(samples, epochs, period[rise])
    length = np.diff(marks)
    expected = period[rise[:-1]]
    frame = np.clip(np.round((marks[:-1] + length / 2 - WINDOW / 2) / HOP).astype(np.intp), 0, n - 1)
    good = (length > 0.75 * expected) & (length < 1.33 * expected) & voiced[frame]
    starts = np.round(epochs).astype(np.intp)
    height = np.maximum.reduceat(samples, starts)[:-1] - np.minimum.reduceat(samples, starts)[:-1]
    good &= height > 0
    level = 20 * np.log10(np.maximum(height.astype(np.float64), 1e-9))
    change = np.abs(np.diff(length))
    pair = good[1:] & good[:-1] & (change < 0.2 * expected[1:])
    sums = np.stack([pair.astype(np.float64), change * pair, 0.5 * (length[1:] + length[:-1]) * pair])
    sums = np.concatenate([sums, (np.abs(np.diff(level)) * pair)[None]])
    running = np.concatenate([np.zeros((4, 1)), np.cumsum(sums, axis=1)], axis=1)
    first = np.searchsorted(marks[:-2], centres - WINDOW / 2)
    last = np.maximum(np.searchsorted(marks[2:], centres + WINDOW / 2), first)
    count, jitter, mean, shimmer = running[:, last] - running[:, first]
    enough = voiced & (count > 0.5)
    jitter = np.where(enough, jitter / np.maximum(mean, 1e-9), 0.0)
    shimmer = np.where(enough, shimmer / np.maximum(count, 1.0), 0.0)
    return jitter.astype(np.float32), shimmer.astype(np.float32)
