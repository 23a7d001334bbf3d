"""Prosody and voice quality, frame by frame, by the standard definitions of the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from serkit import dsp
from serkit.encoders import _formants, _pitch, _voice_tables
from serkit.encoders._offline import OfflineEncoder, Pooling
from serkit.encoders._voice_tables import BIN_HZ, N_BANDS, N_FFT, SHORT
from serkit.errors import check_known

SPECTRAL = (
    "energy_db",
    "loudness",
    "alpha_ratio_db",
    "hammarberg_db",
    "slope_0_500",
    "slope_500_1500",
    "spectral_flux",
    "mfcc_1",
    "mfcc_2",
    "mfcc_3",
    "mfcc_4",
)
PERIODIC = ("voicing", "hnr_db")
VOICED = (
    "f0_semitones",
    "jitter",
    "shimmer_db",
    "h1_h2_db",
    "h1_a3_db",
    *(f"f{k}_{what}" for k in (1, 2, 3) for what in ("khz", "bandwidth_khz", "amplitude_db")),
)
FEATURES = (*SPECTRAL, *PERIODIC, *VOICED)
UNVOICED = ("interpolate", "zero")


class Voice(OfflineEncoder):
    """The low-level descriptors that eGeMAPS is made of, and energy and voicing, in numpy.

    Definitions: F. Eyben et al. (2016), The Geneva Minimalistic Acoustic Parameter Set, IEEE TAC 7(2),
    section 3. 100 frames a second of 60 ms; spectra are of the 25 ms in the middle.

    ======================  ==========================================================================
    feature                 what
    ======================  ==========================================================================
    energy_db               10 log10 of the mean square, floor -100
    loudness                sum of an auditory spectrum: 26 mel bands, equal-loudness weights, cube root
    alpha_ratio_db          energy of 1-5 kHz over 50-1000 Hz
    hammarberg_db           highest peak of 0-2 kHz over that of 2-5 kHz
    slope_0_500, _500_1500  regression of the log power spectrum, dB per kHz
    spectral_flux           root mean square change of the cube-root magnitude spectrum below 5 kHz
    mfcc_1 … mfcc_4         cepstrum of 26 mel bands, lifter 22
    voicing                 height of the autocorrelation's peak, 0 to 1
    hnr_db                  harmonics to noise: 10 log10(r / (1 - r)), -30 to 30
    f0_semitones            above 27.5 Hz
    jitter, shimmer_db      local perturbation of period (ratio) and amplitude (dB)
    h1_h2_db, h1_a3_db      first harmonic over the second, and over the strongest near F3
    fK_khz, _bandwidth_khz  formants 1 to 3 by linear prediction
    fK_amplitude_db         strongest harmonic near the formant over the first harmonic
    ======================  ==========================================================================

    Measured on vowels of known make-up: F0 within 0.1 semitone from 70 to 600 Hz, formants within 40 Hz
    up to a pitch of 220 Hz (drawn to harmonics above), harmonics-to-noise within 1 dB of the ratio mixed,
    jitter and shimmer within 20 %. Beside openSMILE 2.6's eGeMAPS v02, frame by frame on 45 RAVDESS clips:
    voicing agrees on 92 % of frames, median F0 difference 0.06 semitones; correlation 0.99 loudness, 0.95
    alpha ratio, 0.98 Hammarberg, 0.95 and 0.90 slopes, 0.90 flux, 0.98 MFCC, 0.88 HNR (openSMILE's
    saturates at 8 to 14 dB), 0.54 H1-A3, 0.64 shimmer. Jitter (0.2), H1-H2 (0.1), formant frequencies
    (0.1) and bandwidths do *not* agree: on vowels whose truth is known, these are within the bounds above, and
    openSMILE's H1-H2 and formants are not (docs/encoders_measured.md has the table). Do not feed these to a model
    trained on openSMILE's.

    Args:
        name: ``voice``. pool, pooling, trim: see :class:`OfflineEncoder`.
        deltas: append the slope over five frames of every feature; dim doubles.
        unvoiced: what features of the voice hold where there is none: ``interpolate`` between the
            voiced neighbours (0 in a clip without voice), or ``zero`` as openSMILE does.
    """

    WINDOW = _pitch.WINDOW
    HOP = _pitch.HOP

    def __init__(
        self,
        name: str = "voice",
        *,
        pool: int = 1,
        pooling: Pooling = "mean",
        trim: bool | Mapping[str, float] = False,
        deltas: bool = False,
        unvoiced: Literal["interpolate", "zero"] = "interpolate",
    ) -> None:
        check_known(unvoiced, UNVOICED, f"encoder '{name}': unvoiced '{unvoiced}'")
        self.deltas, self.unvoiced = bool(deltas), unvoiced
        params = {"deltas": self.deltas, "unvoiced": unvoiced}
        self._specify(name, len(FEATURES) * (2 if deltas else 1), pool, pooling, trim, params)

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """Name to one line of description with its licence."""
        return {"voice": f"{len(FEATURES)} prosody and voice-quality descriptors, 100 frames a second (Apache-2.0)"}

    @classmethod
    def tiny(cls) -> Voice:
        """Four frames pooled."""
        return cls(pool=4)

    def _frames(self, samples: np.ndarray) -> np.ndarray:
        pitch = _pitch.track(samples)
        voiced = pitch.f0_hz > 0
        spectral, power = _spectral(samples, voiced)
        r = np.clip(pitch.harmonicity, 1e-3, 1 - 1e-3)
        periodic = np.stack([pitch.harmonicity, 10 * np.log10(r / (1 - r))], axis=1)
        of_voice = np.zeros((len(voiced), len(VOICED)), dtype=np.float32)
        if voiced.any():
            of_voice[voiced] = _voiced(samples, pitch, power)
            if self.unvoiced == "interpolate":
                of_voice = _interpolated(of_voice, voiced)
        frames = np.concatenate([spectral, periodic, of_voice], axis=1).astype(np.float32)
        return np.concatenate([frames, dsp.deltas(frames)], axis=1) if self.deltas else frames


def _interpolated(frames: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill the rows that are not known on the straight line between their known neighbours."""
    rows, at = np.arange(len(frames)), np.flatnonzero(known)
    left = np.clip(np.searchsorted(at, rows, side="right") - 1, 0, len(at) - 1)
    right = np.clip(np.searchsorted(at, rows), 0, len(at) - 1)
    low, high = at[left], at[right]
    share = np.where(high > low, (rows - low) / np.maximum(high - low, 1), 0.0)[:, None]
    return np.asarray(frames[low] * (1 - share) + frames[high] * share, dtype=np.float32)


def _spectral(samples: np.ndarray, voiced: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(time, len(SPECTRAL)) features, and the (voiced frames, N_FFT // 2 + 1) power spectra of voiced frames."""
    offset = (_pitch.WINDOW - SHORT) // 2
    inner = samples[offset : len(samples) - offset]
    window, weights = dsp.hann(SHORT), dsp.mel_weights(N_BANDS, N_FFT)
    features, powers, last, done = [], [], None, 0
    top = round(5000 / BIN_HZ) + 1
    one, two, low = round(1000 / BIN_HZ) + 1, round(2000 / BIN_HZ) + 1, round(50 / BIN_HZ)
    for frames in dsp.chunks(dsp.framed(inner, SHORT, _pitch.HOP)):
        power = dsp.power_spectrum(frames * window, N_FFT) / np.float32(window.sum() ** 2)
        bands = power @ weights
        decibel = 10 * np.log10(np.maximum(power[:, :top], 1e-12))
        root = np.cbrt(power[:, :top])
        change = np.diff(root, axis=0, prepend=root[:1] if last is None else last)
        last = root[-1:]
        energy = np.einsum("ij,ij->i", frames, frames) / SHORT
        columns = [
            10 * np.log10(np.maximum(energy, 1e-10)),
            np.cbrt(bands * _voice_tables.equal_loudness()).sum(axis=1),
            10 * np.log10((power[:, one:top].sum(axis=1) + 1e-12) / (power[:, low:one].sum(axis=1) + 1e-12)),
            decibel[:, :two].max(axis=1) - decibel[:, two:].max(axis=1),
            *(decibel @ _voice_tables.slope_basis()[:top]).T,
            np.sqrt(np.einsum("ij,ij->i", change, change) / top),
            *(np.log(np.maximum(bands, 1e-10)) @ _voice_tables.cepstrum_basis()).T,
        ]
        features.append(np.stack(columns, axis=1))
        powers.append(power[voiced[done : done + len(frames)]])
        done += len(frames)
    return np.concatenate(features), np.concatenate(powers)


def _voiced(samples: np.ndarray, pitch: _pitch.Pitch, power: np.ndarray) -> np.ndarray:
    """(voiced frames, len(VOICED)) float32."""
    voiced = pitch.f0_hz > 0
    f0 = pitch.f0_hz[voiced]
    jitter, shimmer = _pitch.perturbation(samples, pitch.f0_hz)
    found = [_formants.formants(part, N_FFT) for part in dsp.chunks(power)]
    frequency = _filled(np.concatenate([f for f, _ in found]), (500.0, 1500.0, 2500.0))
    bandwidth = _filled(np.concatenate([b for _, b in found]), (100.0, 150.0, 200.0))
    spectrum = pitch.power[voiced]
    near = np.arange(-2, 3)
    first = _peak_db(spectrum, f0, near)
    wide = np.arange(-8, 9)
    amplitude = np.stack([_peak_db(spectrum, frequency[:, k], wide) - first for k in range(3)], axis=1)
    columns = [
        12 * np.log2(f0 / 27.5),
        jitter[voiced],
        shimmer[voiced],
        first - _peak_db(spectrum, 2 * f0, near),
        -amplitude[:, 2],
    ]
    for k in range(3):
        columns += [frequency[:, k] / 1000, bandwidth[:, k] / 1000, amplitude[:, k]]
    return np.stack(columns, axis=1).astype(np.float32)


def _filled(values: np.ndarray, default: tuple[float, float, float]) -> np.ndarray:
    """Replace NaN in each column by the column's median, or by ``default`` where all are NaN."""
    values = values.copy()
    for column, fallback in enumerate(default):
        absent = np.isnan(values[:, column])
        values[absent, column] = fallback if absent.all() else np.median(values[~absent, column])
    return values


def _peak_db(power: np.ndarray, frequency_hz: np.ndarray, near: np.ndarray) -> np.ndarray:
    """(rows,) highest power around a frequency of each row, in dB, floor -120."""
    bins = np.clip(np.round(frequency_hz / _pitch.BIN_HZ).astype(np.intp)[:, None] + near, 0, power.shape[1] - 1)
    return np.asarray(10 * np.log10(np.maximum(np.take_along_axis(power, bins, axis=1).max(axis=1), 1e-12)))
