"""What the networks of an ablation save by making their mixtures once: an epoch of mixtures made anew, and remembered.

    python benchmarks/mixtures.py [--clips N] [--rounds N]

The system is that of the recipe `mll_offline` (EAM on waveforms, log-mel frames, the compact network, four losses) on
one thread. Clips are noise of 2 to 4 seconds, about what is left of RAVDESS's once silence is cut off. Both sides train
two equal networks on the same epochs, in turns; the ratio is printed by the clock and by processor time, for batches
alone and for whole epochs of training, and both networks must end with the same weights, to the bit.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from serkit.encoders.logmel import Logmel
from serkit.encoders.waveform import Waveform
from serkit.encoding import SAMPLE_RATE_HZ, Encoder
from serkit.examples import Examples, Hearing, Remembered
from serkit.extraction import compute
from serkit.fitting import Fitting, make_accelerator
from serkit.networks import NetworkConfig, build_network
from serkit.recipe import load_recipe
from serkit.types import Manifest, Utterance

LABELS = ("anger", "calm", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")


class Made:
    """Frames of noise, as extraction leaves them."""

    def __init__(self, waves: Sequence[np.ndarray], names: Sequence[str], encoder: Encoder) -> None:
        self.known = {n: compute(w, {"x": encoder})["x"] for n, w in zip(names, waves, strict=True)}

    def get(self, utterance_id: str) -> np.ndarray:
        """(frames, dim) of one utterance."""
        return self.known[utterance_id]

    def frames(self, utterance_id: str) -> int:
        """Its number of frames."""
        return len(self.known[utterance_id])


def made_examples(n: int) -> tuple[Examples, str]:
    """Noise with labels, and the key of its feature."""
    rng = np.random.default_rng(0)
    rows = tuple(
        Utterance(id=f"u{k:04d}", audio=f"u{k:04d}.wav", speaker=f"s{k % 12}", split="train", emotion=LABELS[k % 8])
        for k in range(n)
    )
    manifest = Manifest("noise", LABELS, rows)
    waves = [
        (0.1 * rng.standard_normal(round(s * SAMPLE_RATE_HZ))).astype(np.float32) for s in rng.uniform(2.0, 4.0, n)
    ]
    encoder = Logmel("logmel/80", pool=2, trim=True)
    key = load_recipe("mll_offline").systems["mll"].features[0].key
    hearing = Hearing(Made(waves, manifest.ids, Waveform()), {key: encoder})
    return Examples.of(manifest, {key: Made(waves, manifest.ids, encoder)}, hearing=hearing), key


def fitting(examples: Examples, key: str) -> Fitting:
    """The recipe's network at the start of its training."""
    system = load_recipe("mll_offline").systems["mll"]
    model = {"name": system.model.name, **system.model.parameters}
    config = NetworkConfig("mll", model, {key: 81}, {}, LABELS, 7, system.train.model_dump(mode="json"))
    torch.manual_seed(7)
    network = build_network(config)
    return Fitting(system, config, "full", examples, network, make_accelerator(system.train, "cpu"))


def timed(work: Callable[[], object]) -> np.ndarray:
    """(clock, processor) seconds of some work."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter() - wall, time.process_time() - cpu])


def batches(one: Fitting, epoch: int) -> None:
    """Make the batches of an epoch."""
    for rows in one.loaders[0].batch_rows(epoch):
        one.loaders[0].collate(rows, epoch)


def trained(one: Fitting, epoch: int, state: torch.Tensor) -> torch.Tensor:
    """Train one epoch from a state of the random numbers; the state after it."""
    torch.set_rng_state(state)
    one.epoch(epoch)
    return torch.get_rng_state()


def main() -> None:
    """Parse the options and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    anew, key = made_examples(options.clips)
    assert anew.hearing is not None
    known = dataclasses.replace(anew, hearing=dataclasses.replace(anew.hearing, remembered=Remembered()))
    sides = {"made anew": fitting(anew, key), "remembered": fitting(known, key)}
    for k in range(options.rounds):  # another network of the ablation has made them
        batches(sides["remembered"], k)
    spent = {(what, name): np.zeros(2) for what in ("batches", "training") for name in sides}
    states = dict.fromkeys(sides, torch.get_rng_state())
    for k in range(options.rounds):
        for name, one in sides.items():
            spent["batches", name] += timed(lambda one=one, k=k: batches(one, k))
        for name, one in sides.items():
            start = states[name]

            def work(name: str = name, one: Fitting = one, start: torch.Tensor = start, k: int = k) -> None:
                states[name] = trained(one, k, start)

            spent["training", name] += timed(work)
    pairs = zip(*(one.network.state_dict().values() for one in sides.values()), strict=True)
    same = all(torch.equal(a, b) for a, b in pairs)
    print(f"torch {torch.__version__}, one thread, {options.clips} clips, {options.rounds} epochs a side")
    for what in ("batches", "training"):
        for name in sides:
            wall, cpu = spent[what, name] / options.rounds
            print(f"{what:9s} {name:11s} {wall:7.2f} s an epoch, {cpu:6.2f} s of processor time")
        wall, cpu = spent[what, "made anew"] / spent[what, "remembered"]
        print(f"{what}: ratio {wall:.2f} x by the clock, {cpu:.2f} x by processor time")
    print(f"weights after it: {'the same, to the bit' if same else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
