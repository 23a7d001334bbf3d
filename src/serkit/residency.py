"""Which encoders are in memory at once: as many as fit together, the others in later turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serkit.encoding import Encoder, WithWeights

# What a process needs beside the weights: the libraries, a batch, and the largest states of a model that computes it.
# Computed for WavLM-large and one clip of 60 s on a CPU (attention of 16 heads over 3 000 frames, three times over),
# and for a GPU's batches, which are eight times as large. Clips of a few seconds need much less.
WORKING_BYTES, GPU_WORKING_BYTES = 2 * 10**9, 16 * 10**9
SHARE = 0.8  # of the free memory that is taken; the rest is for whatever else the machine does


@dataclass(frozen=True)
class Turn:
    """Encoders that work at the same time, on one decoding of the audio.

    Attributes:
        names: of the encoders. jobs: processes, each with all of them. threads: that each process computes on.
        bytes: what a process needs, about; 0 where no encoder has weights worth a thought.
    """

    names: tuple[str, ...]
    jobs: int
    threads: int = 1
    bytes: int = 0


def turns(encoders: Mapping[str, Encoder], jobs: int, device: str, free_bytes: float) -> list[Turn]:
    """Put encoders into turns by the memory at hand.

    A turn holds what fits ``jobs`` times (once on a GPU, where one process computes), in the recipe's order. One
    that does not fit so often has a turn of its own, with as many processes as fit, one at least, and the more threads
    in each. Encoders without weights are part of the first turn.

    Args:
        encoders: by name. jobs: processes that were asked for. device: where they compute.
        free_bytes: of the device's memory; 0: unknown, and each encoder with weights has a turn of its own.

    >>> class Heavy:
    ...     loaded = False
    ...     def __init__(self, gb): self.gb = gb
    ...     def resident_bytes(self, device="cpu"): return int(self.gb * 1e9)
    ...     fetch = unload = lambda self: None
    >>> six = {"whisper": Heavy(2.5), "hubert": Heavy(3.8), "wavlm": Heavy(1.2), "mfcc": object()}
    >>> [(t.names, t.jobs, t.threads) for t in turns(six, 4, "cpu", 25e9)]
    [(('mfcc', 'whisper'), 4, 1), (('hubert',), 3, 1), (('wavlm',), 4, 1)]
    >>> [(t.names, t.jobs) for t in turns(six, 4, "cpu", 60e9)]
    [(('mfcc', 'whisper', 'hubert', 'wavlm'), 4)]
    """
    sizes = {name: e.resident_bytes(device) if isinstance(e, WithWeights) else 0 for name, e in encoders.items()}
    if not any(sizes.values()):
        return [Turn(tuple(encoders), jobs)]
    one = device != "cpu"
    working, copies = (GPU_WORKING_BYTES, 1) if one else (WORKING_BYTES, jobs)
    room = SHARE * free_bytes
    groups: list[list[str]] = []
    for name in (n for n, size in sizes.items() if size):
        for group in groups:
            if sum(sizes[n] for n in (*group, name)) + working <= room / copies:
                group.append(name)
                break
        else:
            groups.append([name])
    groups[0] = [*(n for n, size in sizes.items() if not size), *groups[0]]
    found: list[Turn] = []
    for group in groups:
        needed = sum(sizes[n] for n in group) + working
        fit = jobs if one or not free_bytes else max(1, min(jobs, int(room // needed)))
        found.append(Turn(tuple(group), fit, max(1, jobs // fit), needed))
    return found


def free_memory(device: str) -> float:
    """Bytes that are free on a device: of a GPU as it says; of the machine, within the limit of its container.

    0 where the system does not say.
    """
    if device != "cpu":
        import torch

        return float(torch.cuda.mem_get_info(torch.device(device))[0]) if torch.cuda.is_available() else 0.0
    found = [_available(Path("/proc/meminfo"))]
    for limit, used in (("memory.max", "memory.current"),
                        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):  # fmt: skip
        try:
            most, now = ((Path("/sys/fs/cgroup") / name).read_text().strip() for name in (limit, used))
        except OSError:
            continue
        if most.isdecimal():
            found.append(max(0.0, float(most) - float(now)))
    return min((f for f in found if f is not None), default=0.0)


def _available(path: Path) -> float | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((1024.0 * float(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
