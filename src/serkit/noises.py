"""Impacts and noises, as opposed to speech: they decay or keep their spectrum, without a voice. numpy only."""

from __future__ import annotations

import numpy as np

from serkit import dsp
from serkit.encoding import SAMPLE_RATE_HZ

_STEP = 80  # samples of a value of the envelope
_SIZE, _HOP, _BANDS = 1024, 800, 24  # of the spectra whose shape is watched
_SLOW = 10  # of them together
_VOICE_SIZE, _VOICE_HOP, _VOICE_FFT = 800, 320, 2048
_PITCH_HZ, _VOICE_HZ = (65.0, 500.0), (250.0, 3600.0)
_RUN, _GLIDE = 3, 0.15  # frames in a row, and how far the pitch of one may be from that of the frame before


def is_noise(samples: np.ndarray) -> bool:
    """Whether a stretch is blows or noise, and no voice; the limits are set so that no speech is lost.

    A drum, a clap, a step or a key rises in a few milliseconds and dies away slowly, over and over, and rain or a
    fan keeps its colour while its loudness moves. Speech does neither: its consonants rise as fast, but the
    shape of its spectrum never rests, a whisper's included. So a stretch is dropped only where its attacks outweigh its
    decays by far more than its spectrum changes, or where the spectrum hardly changes at all, and no pitch is heard.

    Measured on real speech, clean, in noise, over the telephone, in rooms and whispered: see ``docs/benchmarks.md``.

    Args:
        samples: (n,) float32 mono 16 kHz.
    """
    if len(samples) < 0.2 * SAMPLE_RATE_HZ:
        return False
    blows, change = strikes(samples), colour_change(samples)
    times = 4.0 if len(samples) >= SAMPLE_RATE_HZ else 5.0
    if blows > 8.0 and blows > times * change:
        return not has_pitch(samples, 0.5)
    if change < 1.6 and len(samples) >= 0.8 * SAMPLE_RATE_HZ:
        return not has_pitch(samples, 0.4)
    if change < 3.0 and len(samples) >= 3 * SAMPLE_RATE_HZ and colour_change(samples, _SLOW) < 1.1:
        return not has_pitch(samples, 0.4)
    return False


def strikes(samples: np.ndarray) -> float:
    """How much more the loudness jumps up than down, in square decibels per 10 ms; around 0 where it moves evenly.

    Of the envelope in steps of 5 ms, high frequencies raised, down to 35 dB below its loud parts: the mean square
    of the rises less that of the falls.

    Args:
        samples: (n,) float32 mono 16 kHz.
    """
    raised = np.append(samples[:1], samples[1:] - 0.95 * samples[:-1]).astype(np.float64)
    n = len(raised) // _STEP
    if n < 8:
        return 0.0
    level = 10 * np.log10((raised[: n * _STEP].reshape(n, _STEP) ** 2).mean(axis=1) + 1e-10)
    level = np.maximum(level, np.percentile(level, 95) - 35.0)
    moves = level[2:] - level[:-2]
    return float((np.maximum(moves, 0.0) ** 2).mean() - (np.minimum(moves, 0.0) ** 2).mean())


def colour_change(samples: np.ndarray, together: int = 1) -> float:
    """How far the shape of the spectrum moves: 24 mel bands in dB, less their mean, and the standard deviation in time.

    Of the frames within 20 dB of the loud ones, four at least; infinite where the sound is too short for that.

    Args:
        samples: (n,) float32 mono 16 kHz. together: neighbouring frames (50 ms each) whose powers are averaged: the
            many blows of rain and applause come to rest in half a second, words do not.
    """
    if len(samples) < _SIZE + (4 * together - 1) * _HOP:
        return float("inf")
    frames = dsp.framed(samples, _SIZE, _HOP) * dsp.hann(_SIZE)
    weights = dsp.mel_weights(_BANDS, _SIZE, 100.0, 6000.0)
    bands = dsp.power_spectrum(frames, _SIZE) @ (weights / weights.sum(axis=0))
    bands = bands[: len(bands) // together * together].reshape(-1, together, _BANDS).mean(axis=1)
    level = 10 * np.log10(bands.astype(np.float64) + 1e-12)
    loud = level.mean(axis=1)
    kept = level[loud > min(np.percentile(loud, 95) - 20.0, np.sort(loud)[-4] - 1e-9)]
    kept = np.maximum(kept, kept.max() - 60.0)
    return float((kept - kept.mean(axis=1, keepdims=True)).std(axis=0).mean())


def has_pitch(samples: np.ndarray, clear: float) -> bool:
    """Whether three frames in a row (80 ms) have a pitch of 65 to 500 Hz that stays within 15 %.

    The pitch is heard between 250 and 3600 Hz, by the autocorrelation of the compressed spectrum: a kick drum has none
    there, a telephone voice has.

    Args:
        samples: (n,) float32 mono 16 kHz. clear: autocorrelation from which a frame counts, of 1.
    """
    first, last = (int(SAMPLE_RATE_HZ / f) for f in reversed(_PITCH_HZ))
    at_hz = np.fft.rfftfreq(_VOICE_FFT, 1 / SAMPLE_RATE_HZ)
    inside = (at_hz >= _VOICE_HZ[0]) & (at_hz <= _VOICE_HZ[1])
    run, before = 0, 0
    for start in range(0, len(samples) - _VOICE_SIZE + 1, _VOICE_HOP):
        frame = samples[start : start + _VOICE_SIZE] * dsp.hann(_VOICE_SIZE)
        power = np.abs(np.fft.rfft(frame.astype(np.float64), _VOICE_FFT)) ** 2 * inside
        echo = np.fft.irfft(power**0.6, _VOICE_FFT)
        lag = first + int(echo[first:last].argmax())
        if echo[lag] <= clear * echo[0] or echo[0] <= 0:
            run = 0
            continue
        run = run + 1 if run and abs(np.log(lag / before)) < _GLIDE else 1
        before = lag
        if run >= _RUN:
            return True
    return False
