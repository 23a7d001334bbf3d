"""Recordings and manifests made up for an audit."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from serkit.findings import Finding
from serkit.types import Manifest, Utterance

RATE = 16_000


@cache
def speech(seed: int, seconds: float = 2.0) -> np.ndarray:
    """(samples,) float32: syllables of gliding harmonics through moving formants; another seed, another clip."""
    rng = np.random.default_rng(seed)
    parts = []
    while sum(map(len, parts)) < seconds * RATE:
        n = int(rng.uniform(0.12, 0.3) * RATE)
        t = np.arange(n) / RATE
        pitch = rng.uniform(90, 260) * (1 + rng.uniform(-0.6, 0.6) * t)
        formants = [(rng.uniform(*span), rng.uniform(-800, 800)) for span in ((300, 900), (900, 2300), (2200, 3300))]
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        tone = np.zeros(n)
        for k in range(1, 30):
            gain = sum(np.exp(-(((k * pitch - f - slope * t) / 150) ** 2)) for f, slope in formants)
            tone += (0.02 + gain) / k**0.5 * np.sin(k * phase + rng.uniform(0, 6))
        parts.append(tone * np.hanning(n) + rng.normal(0, 0.01, n))
        parts.append(np.zeros(int(rng.uniform(0.01, 0.06) * RATE)))
    x = np.concatenate(parts)[: int(seconds * RATE)]
    x = np.round(0.4 * 32768 * x / np.abs(x).max()) / 32768  # what 16 bits hold, so that files keep it exactly
    return np.asarray(x, dtype=np.float32)


def save(root: Path, name: str, samples: np.ndarray, rate: int = RATE, **how: Any) -> None:
    sf.write(root / name, samples, rate, **how)


def manifest(root: Path, rows: list[Utterance], labels: tuple[str, ...] = ("anger", "neutral"), **how: Any) -> Manifest:
    return Manifest("test", labels, tuple(rows), str(root), **how)


def good(root: Path, n: int = 6) -> list[Utterance]:
    """A clip by each of ``n`` speakers, splits and emotions in turn."""
    rows = []
    for k in range(n):
        save(root, f"c{k}.wav", speech(k))
        split = ("train", "dev", "test")[k % 3]
        rows.append(
            Utterance(f"c{k}", f"c{k}.wav", speaker=f"s{k}", split=split, emotion=("anger", "neutral")[k // 3 % 2])
        )
    return rows


def by_code(findings: list[Finding]) -> dict[str, Finding]:
    assert all("\n" not in f.message for f in findings)
    order = {"error": 0, "warning": 1, "info": 2}
    assert [order[f.severity] for f in findings] == sorted(order[f.severity] for f in findings)
    return {f.code: f for f in findings}
