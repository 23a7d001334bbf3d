"""Extraction engines: batches of items in, features or failure reasons out.

A batch is decoded once for all encoders that want it. In a worker process, on this machine or on another of a
Ray cluster, the encoders come pickled, and each loads its weights at the first batch that wants it; processes of
this machine compute on one thread unless they are few. Only the process that asked writes.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import pickle
import platform
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from serkit.audio import SHORTEST_S, is_silent, load
from serkit.batching import Batch
from serkit.encoding import SAMPLE_RATE_HZ, Encoder, WithWeights
from serkit.errors import RunFailed, SerkitError, plain
from serkit.extras import optional
from serkit.interrupts import interrupts_after
from serkit.processes import WorkerDied, in_processes

LOG = logging.getLogger(__name__)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_RAY_RETRIES = 4  # of a batch whose machine or process died


@dataclass(frozen=True)
class Outcome:
    """What became of an item: by encoder name its (frames, dim) float32 features, or one line of reason.

    ``silent``: it is audio, and holds nothing to hear: silence, or less than :data:`serkit.audio.SHORTEST_S`.
    """

    features: dict[str, np.ndarray] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    silent: bool = False


Run = Generator[tuple[Batch, list[Outcome]], None, None]


def encode(encoder: Encoder, items: Sequence[Any], ids: Sequence[str]) -> list[np.ndarray | SerkitError]:
    """Call an encoder on waveforms or texts; an item that it refuses costs that item and no other.

    Args:
        encoder: loaded. items: as in :class:`serkit.encoding.Encoder`. ids: to name the item that fails.

    Returns:
        One (frames, dim) float32 array per item, or the encoder's own error about it.

    Raises:
        RunFailed: the encoder failed in a way that is not the item's fault, or broke its contract.
    """
    try:
        found: list[np.ndarray | SerkitError] = [*encoder(items)]
    except RunFailed:
        raise
    except SerkitError as error:
        if len(items) == 1:
            return [error]
        return [encode(encoder, [item], [name])[0] for item, name in zip(items, ids, strict=True)]
    except Exception as error:  # re-raised with the name of the item, once that is known
        if len(items) == 1:
            raise RunFailed(
                f"encoder '{encoder.spec.name}' failed on utterance '{ids[0]}': {type(error).__name__}: "
                f"{' '.join(str(error).split())[:300]}; to continue without it: exclude: [{ids[0]}]"
            ) from error
        LOG.warning("encoder '%s' failed on a batch of %d (%s); one by one", encoder.spec.name, len(items), error)
        return [encode(encoder, [item], [name])[0] for item, name in zip(items, ids, strict=True)]
    if len(found) != len(items):
        raise RunFailed(f"encoder '{encoder.spec.name}' gave {len(found)} arrays for {len(items)} items")
    return found


def run_local(
    work: Sequence[Batch], encoders: Mapping[str, Encoder], *, jobs: int, device: str, threads: int = 1
) -> Run:
    """Encode batches on this machine and yield each with its outcomes, in the order given.

    Args:
        work: batches. encoders: by name, not loaded.
        jobs: processes; 1, or a ``device`` other than ``cpu``, encodes here while ``jobs`` threads decode ahead.
        device: handed to :meth:`Encoder.load`. threads: of each process, unless the user has said how many.

    Weights that this process loads for the purpose are given back at the end; those that were loaded stay.

    Raises:
        RunFailed: an encoder failed, or a process died.
        SerkitError: an encoder cannot be loaded or sent to another process.
    """
    jobs = min(jobs, len(work))
    if jobs <= 1 or device != "cpu":
        return _in_this_process(work, encoders, max(1, jobs), device)
    return _in_processes(work, encoders, jobs, device, threads)


def run_ray(work: Sequence[Batch], encoders: Mapping[str, Encoder], *, device: str, memory: int = 0) -> Run:
    """Encode batches on a Ray cluster and yield each with its outcomes, in the order given.

    Every machine of the cluster needs serkit, and the recordings and local checkpoints under the same paths. A
    batch whose machine dies is done again on another one.

    Args:
        work: batches. encoders: by name, not loaded.
        device: ``cpu``, or ``cuda``: then each batch takes a GPU.
        memory: bytes that a process needs, where that is worth a thought: Ray starts no more beside each other on a
            machine than have so much, or one on the largest machine where none has.

    Raises:
        MissingExtra: Ray is not installed.
        RunFailed: an encoder failed, or a machine does not see a recording.
        SerkitError: an encoder cannot be loaded or sent to another process.
    """
    return _on_ray(ray_package(), work, _packed(encoders), device, memory)


@contextlib.contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Connected to a Ray cluster, for :func:`run_ray`; one that was connected before stays connected.

    Args:
        address: of the cluster, such as ``auto`` or ``10.0.0.1:6379``; ``None``: one that is connected already,
            the one in ``RAY_ADDRESS``, or a cluster of this machine alone, started for the purpose.

    Raises:
        MissingExtra: Ray is not installed. RunFailed: the cluster cannot be reached.
    """
    ray = ray_package()
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RunFailed(f"no Ray cluster at {address or 'the default address'}: {reason}") from None
    try:
        yield
    finally:
        with interrupts_after():  # a second Ctrl-C would leave its processes behind
            ray.shutdown()


def ray_package() -> Any:
    """Ray, if it is installed.

    Raises:
        MissingExtra: it is not.
    """
    return optional("ray", "ray", "extraction with engine 'ray'")


def _on_ray(ray: Any, work: Sequence[Batch], packed: bytes, device: str, memory: int) -> Run:
    ahead: deque[tuple[Batch, Any]] = deque()
    try:
        options: dict[str, Any] = {"num_cpus": 1, "num_gpus": 0 if device == "cpu" else 1, "max_retries": _RAY_RETRIES}
        if memory and device == "cpu":
            options["memory"] = min(memory, _largest_memory(ray))
        task = ray.remote(_work_far).options(**options)
        shared = ray.put(packed)
        for batch in work:
            sent = tuple(replace(i, path=str(Path(i.path).absolute())) if i.path else i for i in batch)
            ahead.append((batch, task.remote(shared, device, sent)))
            if len(ahead) >= _n_ahead(ray, device):
                ready, found = ahead.popleft()
                yield ready, _arrived(ray, found)
        while ahead:
            ready, found = ahead.popleft()
            yield ready, _arrived(ray, found)
    finally:
        for _, found in ahead:
            ray.cancel(found, force=True)


def _largest_memory(ray: Any) -> int:
    """Bytes that Ray gives out on the machine with the most: a task that asks for more would wait forever."""
    return max((int(node["Resources"].get("memory", 0)) for node in ray.nodes() if node["Alive"]), default=0)


def _n_ahead(ray: Any, device: str) -> int:
    """Batches under way: four for every worker that the cluster has room for at the moment."""
    found = ray.cluster_resources().get("CPU" if device == "cpu" else "GPU", 0)
    return 4 * max(1, int(found))


def _arrived(ray: Any, found: Any) -> list[Outcome]:
    """Outcomes of one batch; errors of the far side are raised here as one line."""
    try:
        outcomes: list[Outcome] = ray.get(found)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, SerkitError):
            raise plain(cause) from None
        raise RunFailed(
            f"a batch failed on the cluster: {type(cause).__name__}: {' '.join(str(cause).split())}"
        ) from None
    except ray.exceptions.RayError as error:
        reason = " ".join(str(error).split())[:300]
        raise RunFailed(f"a batch was lost on the cluster ({reason}); finished shards are kept: run again") from None
    return outcomes


def _work_far(packed: bytes, device: str, batch: Batch) -> list[Outcome]:
    """Decode and encode a batch on a machine of the cluster, whose process may serve several extractions."""
    for item in batch:
        if item.path and not Path(item.path).is_file():  # it was read on the machine that asked
            raise RunFailed(f"machine {platform.node()} of the cluster cannot see {item.path}; share that folder")
    if _Worker.packed != packed or _Worker.device != device:
        _Worker.packed, _Worker.device, _Worker.encoders, _Worker.loaded = packed, device, None, set()
        gc.collect()
    try:
        return _work(batch)
    except SerkitError as error:  # of a subclass that may not survive the journey
        raise plain(error) from None


def _packed(encoders: Mapping[str, Encoder]) -> bytes:
    try:
        return pickle.dumps(dict(encoders))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise SerkitError(f"an encoder cannot be sent to another process ({error}); extract with jobs=1") from error


def _decoded(batch: Batch) -> list[Any]:
    """For each item its waveform (samples,) float32, its text, or the error of decoding it."""
    found: list[Any] = []
    for item in batch:
        if item.text is not None:
            found.append(item.text)
            continue
        try:
            found.append(load(item.path, start_s=item.start_s, end_s=item.end_s, channel=item.channel))
        except SerkitError as error:
            found.append(error)
    return found


def _nothing_to_hear(content: Any) -> bool:
    """Whether a waveform is silent, or too short to be a word; texts and errors are not."""
    if not isinstance(content, np.ndarray):
        return False
    return len(content) < SHORTEST_S * SAMPLE_RATE_HZ or is_silent(content)


def _outcomes(batch: Batch, contents: list[Any], encoders: Mapping[str, Encoder]) -> list[Outcome]:
    outcomes = [Outcome(silent=_nothing_to_hear(content)) for content in contents]
    for item, content, outcome in zip(batch, contents, outcomes, strict=True):
        if isinstance(content, SerkitError):
            outcome.reasons.update(dict.fromkeys(item.encoders, str(content)))
    for name in dict.fromkeys(name for item in batch for name in item.encoders):
        rows = [
            row
            for row, item in enumerate(batch)
            if name in item.encoders and not isinstance(contents[row], SerkitError)
        ]
        if not rows:
            continue
        found = encode(encoders[name], [contents[row] for row in rows], [batch[row].id for row in rows])
        for row, result in zip(rows, found, strict=True):
            if isinstance(result, SerkitError):
                outcomes[row].reasons[name] = str(result)
            else:
                outcomes[row].features[name] = result
    return outcomes


def _in_this_process(work: Sequence[Batch], encoders: Mapping[str, Encoder], threads: int, device: str) -> Run:
    ours = [e for e in encoders.values() if isinstance(e, WithWeights) and not e.loaded]
    ahead: deque[tuple[Batch, Future[list[Any]]]] = deque()
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        for encoder in encoders.values():
            encoder.load(device)
        for batch in work:
            ahead.append((batch, pool.submit(_decoded, batch)))
            if len(ahead) > threads + 1:
                ready, decoded = ahead.popleft()
                yield ready, _outcomes(ready, decoded.result(), encoders)
        while ahead:
            ready, decoded = ahead.popleft()
            yield ready, _outcomes(ready, decoded.result(), encoders)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for weights in ours:
            weights.unload()


def _in_processes(work: Sequence[Batch], encoders: Mapping[str, Encoder], jobs: int, device: str, threads: int) -> Run:
    begin = functools.partial(_begin, _packed(encoders), device)
    with _computing_on(threads), contextlib.closing(in_processes(_work, work, jobs=jobs, begin=begin)) as found:
        try:
            yield from zip(work, found, strict=True)
        except WorkerDied as error:
            raise RunFailed(
                f"{error}: killed, out of memory, or started from a script without if __name__ == '__main__'; finished "
                "shards are kept: run again, with fewer jobs"
            ) from error


@contextlib.contextmanager
def _computing_on(threads: int) -> Iterator[None]:
    """Processes started within compute on so many threads, unless the user has said how many."""
    added = [name for name in _THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, str(threads)))
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


class _Worker:
    """State of a worker process."""

    packed = b""
    device = "cpu"
    encoders: Mapping[str, Encoder] | None = None
    loaded: ClassVar[set[str]] = set()


def _begin(packed: bytes, device: str) -> None:
    _Worker.packed, _Worker.device = packed, device


def _work(batch: Batch) -> list[Outcome]:
    """Decode and encode a batch in a worker."""
    if _Worker.encoders is None:
        _Worker.encoders = pickle.loads(_Worker.packed)
    for name in {name for item in batch for name in item.encoders} - _Worker.loaded:
        _Worker.encoders[name].load(_Worker.device)
        _Worker.loaded.add(name)
    return _outcomes(batch, _decoded(batch), _Worker.encoders)
