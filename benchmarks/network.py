"""Training speed of the cross-modal network at its published size, on the real lengths of a large corpus.

    python benchmarks/network.py [--full] [--threads N] [--batches N] [--small]

Whisper-like features (1280 wide, 50 frames/s) and RoBERTa-like ones (1024 wide, about 3.1 tokens/s: an
assumption, the corpus's transcripts are not at hand) are random numbers; clip lengths are drawn from
``data/msp_podcast_lengths.csv``, the histogram of the 23 126 MSP-Podcast turns that EmoBox lists. Features
are made before the clock starts; a step is forward, loss, backward and AdamW.

``plain`` is the same network in ``nn.GRU`` and ``nn.MultiheadAttention`` on zero-padded, unmasked batches
in random order, what a first loop would be. ``serkit`` is :class:`serkit.models.cross_attention.CrossAttention`,
masked, on the length-bucketed batches of ``serkit.sampling``. Each is timed, in turns, on batches spread evenly
over an epoch's batch lengths, 3 each: minutes on two cores. The ratio is printed by the clock and by processor time,
which other work on the machine disturbs less. Before that, loss and gradients of the network on a padded batch are
compared with one clip at a time through PyTorch's own layers. ``--full`` times more batches, and each of the two
changes alone.
``--small`` times hidden 64, 80 frames, batch 32 instead, beside a packed ``nn.GRU``.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from serkit.layers import BidirectionalGRU
from serkit.models.cross_attention import PUBLISHED_CODE, CrossAttention
from serkit.sampling import bucket_batches
from serkit.tensors import Batch

DIMS = {"whisper/large-v3": 1280, "roberta/large": 1024}
N_CLASSES, BATCH = 8, 64
Network = Callable[[Batch], Tensor]


class Plain(nn.Module):
    """The network as one writes it first: no lengths anywhere; the layers of a serkit network, shared."""

    def __init__(self, source: CrossAttention) -> None:
        super().__init__()
        self.source = source

    def forward(self, batch: Batch) -> Tensor:
        """(batch, classes) logits of a padded batch."""
        net = self.source
        encoded = [net.recurrent[k].gru(net.project[k](batch.features[n]))[0] for k, n in enumerate(net.dims)]
        pooled = []
        for m, (own, other) in enumerate((encoded, encoded[::-1])):
            attend = net.attention[f"{m}_from_{1 - m}"].inner
            aligned = own + attend(own, other, other, need_weights=False)[0]
            scores = net.pool[m].score(aligned) / aligned.shape[2] ** 0.5
            pooled.append((scores.softmax(1) * aligned).sum(1))
        return net.head.emotion(net.head.norm(torch.cat(pooled, 1)))


def clip_lengths(seed: int) -> np.ndarray:
    """(clips, 2) int64 frames and tokens of every clip of the histogram, shuffled."""
    path = Path(__file__).parent / "data" / "msp_podcast_lengths.csv"
    with path.open(encoding="utf-8") as file:
        rows = [(float(row["length_s"]), int(row["clips"])) for row in csv.DictReader(file)]
    seconds = np.repeat([s for s, _ in rows], [n for _, n in rows])
    np.random.default_rng(seed).shuffle(seconds)
    return np.stack([np.round(seconds * 50), np.round(2 + 3.1 * seconds)], 1).astype(np.int64)


def make_batch(lengths: np.ndarray, dims: dict[str, int], seed: int) -> Batch:
    """Random features of the given (rows, modalities) lengths, zeros in the padding."""
    g = torch.Generator().manual_seed(seed)
    sizes = {name: torch.from_numpy(lengths[:, k].copy()) for k, name in enumerate(dims)}
    features = {}
    for name, dim in dims.items():
        features[name] = torch.randn(len(lengths), int(sizes[name].max()), dim, generator=g)
        for row, n in enumerate(sizes[name].tolist()):
            features[name][row, n:] = 0
    labels = torch.randint(0, N_CLASSES, (len(lengths),), generator=g)
    return Batch(tuple(str(k) for k in range(len(lengths))), features, sizes, labels)


@dataclass
class Timing:
    """What some steps took: wall clock and processor time, and how far memory rose above its start."""

    clips: int
    wall_s: float
    cpu_s: float
    peak_bytes: float

    def __add__(self, other: Timing) -> Timing:
        peak = max(self.peak_bytes, other.peak_bytes)
        return Timing(self.clips + other.clips, self.wall_s + other.wall_s, self.cpu_s + other.cpu_s, peak)

    def row(self, name: str) -> str:
        """One printed line."""
        return (
            f"{name:34s} {self.clips / self.wall_s:8.2f} clips/s  {self.clips / self.cpu_s:8.2f} per CPU second  "
            f"peak +{self.peak_bytes / 2**20:6.0f} MiB"
        )


def _resident(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return float(line.split()[1]) * 1024
    return float("nan")


def _memory_start() -> float:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak so far
        return _resident("VmRSS")
    except OSError:
        return float("nan")


def train(run: nn.Module | Network, optimiser: torch.optim.Optimizer, make: Callable[[], Batch]) -> Timing:
    """Time one training step; the batch is made just before, off the clock."""
    batch = make()
    start = _memory_start()
    wall, cpu = time.perf_counter(), time.process_time()
    optimiser.zero_grad()
    F.cross_entropy(run(batch), batch.labels).backward()
    optimiser.step()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Timing(len(batch), wall, cpu, _resident("VmHWM") - start)


def spread(batches: list[np.ndarray], lengths: np.ndarray, n: int) -> list[Callable[[], Batch]]:
    """``n`` of an epoch's full batches at evenly spaced ranks of their longest clip, in random order."""
    full = sorted((b for b in batches if len(b) == BATCH), key=lambda b: int(lengths[b, 0].max()))
    ranks = ((np.arange(n) + 0.5) / n * len(full)).astype(int)
    picked = [full[k] for k in np.random.default_rng(0).permutation(ranks)]
    return [lambda rows=rows, k=k: make_batch(lengths[rows], DIMS, k) for k, rows in enumerate(picked)]


def exactness(lengths: np.ndarray) -> tuple[float, float]:
    """Largest difference of loss and of any gradient from one clip at a time through PyTorch's layers."""
    torch.manual_seed(0)
    network = CrossAttention(dims=DIMS, n_classes=N_CLASSES, dropout=0.0)
    network.head.neutral = None
    plain = Plain(network)
    batch = make_batch(lengths, DIMS, 0)

    def alone(row: int) -> Tensor:
        return plain(make_row(batch, row))

    results = []
    for run in (lambda: network(batch).emotion, lambda: torch.cat([alone(row) for row in range(len(batch))])):
        network.zero_grad()
        loss = F.cross_entropy(run(), batch.labels)
        loss.backward()
        results.append((loss.detach(), [p.grad.clone() for p in network.parameters() if p.grad is not None]))
    (loss, grads), (exact_loss, exact_grads) = results
    worst = max(float((a - b).abs().max()) for a, b in zip(grads, exact_grads, strict=True))
    return float((loss - exact_loss).abs()), worst


def make_row(batch: Batch, row: int) -> Batch:
    """One clip of a batch, without padding."""
    features = {n: x[row : row + 1, : int(batch.lengths[n][row])] for n, x in batch.features.items()}
    lengths = {n: x[row : row + 1] for n, x in batch.lengths.items()}
    return Batch((batch.ids[row],), features, lengths, batch.labels[row : row + 1])


def full_size(n_batches: int, parts: bool) -> None:
    """Print exactness, both timings and their ratio at the published size."""
    lengths = clip_lengths(0)
    count = sum(p.numel() for p in CrossAttention(dims=DIMS, n_classes=N_CLASSES, **PUBLISHED_CODE).parameters())
    loss_gap, grad_gap = exactness(lengths[:6])
    print(f"parameters of the published code's network: {count:,}")
    print(f"against one clip at a time: loss differs by {loss_gap:.1e}, gradients by at most {grad_gap:.1e}")
    torch.manual_seed(0)
    network = CrossAttention(dims=DIMS, n_classes=N_CLASSES)
    plain = Plain(network)
    rng = np.random.default_rng(1)
    order = rng.permutation(len(lengths))
    random = [order[k : k + BATCH] for k in range(0, len(order), BATCH)]
    buckets = bucket_batches(order, lengths.max(axis=1), np.zeros(len(lengths), dtype=np.int64), BATCH, rng)
    ours: Network = lambda batch: network(batch).emotion  # noqa: E731  # a name for the report's rows
    arms = {
        "plain, random order": (plain, random),
        "serkit, length buckets": (ours, buckets),
    }
    if parts:
        arms |= {"serkit network, random order": (ours, random), "plain network, length buckets": (plain, buckets)}
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-5, weight_decay=1e-6)
    train(ours, optimiser, spread(buckets, lengths, 1)[0])  # warm up
    timings = dict.fromkeys(arms, Timing(0, 0.0, 0.0, 0.0))
    steps = {name: spread(rows, lengths, n_batches) for name, (_, rows) in arms.items()}
    for k in range(n_batches):  # in turns, so that another process on the machine slows all alike
        for name, (run, _) in arms.items():
            timings[name] += train(run, optimiser, steps[name][k])
    for name, timing in timings.items():
        print(timing.row(name))
    first, second = timings["plain, random order"], timings["serkit, length buckets"]
    print(f"ratio: {first.wall_s / second.wall_s:.2f} x by the clock, {first.cpu_s / second.cpu_s:.2f} x by CPU time")


def small_size(repeats: int = 12) -> None:
    """Print milliseconds of a training step at hidden 64, 80 frames, batch 32: GRU alone, then the network."""
    dims = {"logmel": 64, "prosody": 40}
    lengths = np.random.default_rng(0).integers(60, 81, (32, 2))
    batch = make_batch(lengths, dims, 0)
    gru = BidirectionalGRU(64, 64)
    frames = torch.randn(32, 80, 64, requires_grad=True)
    n = torch.from_numpy(lengths[:, 0].copy())

    def packed() -> Tensor:
        out = gru.gru(pack_padded_sequence(frames, n, batch_first=True, enforce_sorted=False))[0]
        return pad_packed_sequence(out, batch_first=True, total_length=80)[0]

    network = CrossAttention(dims=dims, n_classes=N_CLASSES, hidden=64)
    runs: dict[str, Callable[[], Tensor]] = {
        "GRU: nn.GRU packed (exact)": packed,
        "GRU: nn.GRU padded (inexact)": lambda: gru.gru(frames)[0],
        "GRU: serkit (exact)": lambda: gru(frames, n),
        "network: plain": lambda: Plain(network)(batch),
        "network: serkit": lambda: network(batch).emotion,
    }
    for name, run in runs.items():
        walls, cpus = [], []
        for _ in range(repeats):
            w, c = time.perf_counter(), time.process_time()
            run().sum().backward()
            walls.append(time.perf_counter() - w)
            cpus.append(time.process_time() - c)
        print(f"{name:34s} {min(walls) * 1e3:7.1f} ms, {min(cpus) * 1e3:7.1f} ms of CPU")


def main() -> None:
    """Parse the options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="4 batches each, and each change alone")
    parser.add_argument("--batches", type=int, help="batches per timing (default 3)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--small", action="store_true", help="the small network only")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} thread(s)")
    if options.small:
        small_size()
    else:
        full_size(options.batches or (4 if options.full else 3), options.full)


if __name__ == "__main__":
    main()
