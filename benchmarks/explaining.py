"""Do the stretches that `serkit explain` names matter to the model more than others do?

    python benchmarks/explaining.py --corpus ravdess --root DIR [--model default] [--clips 48]

In each clip the five stretches with the highest effects are silenced together, and as many of the loudest, and of those
drawn at random among the stretches of speech (three draws). The fall of the answer's log-odds says how much the model
needed them. Clips are evenly chosen, and those too long to explain are left out.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from serkit import audio
from serkit.errors import SerkitError
from serkit.readers import read_corpora
from serkit.serving import explaining
from serkit.serving.predictor import Model, load


def fall(model: Model, samples: np.ndarray, pieces: Sequence[tuple[int, int]], label: int, level: float) -> float:
    """How far the log-odds of a label fall when some stretches are silenced."""
    silenced = functools.reduce(lambda clip, piece: explaining.silence(clip, *piece, level), pieces, samples)
    before, after = model.scorer.several([samples, silenced], [None, None])[:, label]
    return explaining.log_odds(before) - explaining.log_odds(after)


def main() -> None:
    """Ask, and print a line for each choice of stretches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--root", required=True)
    parser.add_argument("--model", default="default")
    parser.add_argument("--clips", type=int, default=48)
    given = parser.parse_args()
    model, rng = load(given.model, calls="none"), np.random.default_rng(0)
    manifest = read_corpora([given.corpus], [Path(given.root)])
    falls: dict[str, list[float]] = {"five most telling": [], "five loudest": [], "five at random": []}
    chosen = np.linspace(0, len(manifest) - 1, given.clips).round().astype(int)
    for k in chosen:
        samples = np.asarray(audio.load(manifest.audio_path(manifest.utterances[k])), dtype=np.float32)
        try:
            found = model.explain(samples, rate_hz=16_000)
        except SerkitError:
            continue
        pieces, level = explaining.pieces_of(samples), explaining.quiet_level(samples)
        loudness = np.array([np.sqrt((samples[a:b] ** 2).mean()) for a, b in pieces])
        effects = np.array([s.effect for s in found.stretches])
        speech = np.flatnonzero(loudness > 3 * level)
        label, n = model.labels.index(found.label), min(explaining.N_SALIENT, len(speech))
        orders = {"five most telling": [np.argsort(-effects)], "five loudest": [np.argsort(-loudness)]}
        orders["five at random"] = [rng.permutation(speech) for _ in range(3)]
        for name, several in orders.items():
            drops = [fall(model, samples, [pieces[j] for j in order[:n]], label, level) for order in several]
            falls[name].append(float(np.mean(drops)))
    told = np.array(falls["five most telling"])
    print(f"{given.corpus}: {len(told)} of {given.clips} clips, model {model.id}")
    for name, values in falls.items():
        ahead = (
            "" if name == "five most telling" else f"; the most telling fall farther in {np.mean(told > values):.0%}"
        )
        print(f"  {name:18} mean fall of the log-odds {np.mean(values):5.2f} nats{ahead}")


if __name__ == "__main__":
    main()
