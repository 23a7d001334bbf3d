"""What the service costs: latency at 1, 8 and 32 clients, and throughput against one request at a time.

Run: ``python benchmarks/service.py [--model BUNDLE] [--requests N] [--seconds S] [--memory MINUTES]``. It starts
``serkit serve`` on a free port four times, with one worker and with one per core, with batches and without, and asks
them in turns. The clients are coroutines of this process that keep their connection and ask again as soon as they are
answered. Clips are made (a buzz with syllables, seeds 0 to 15). At the end: what batches gain in the model itself,
without a service.

With ``--memory 11`` it measures memory alone (Linux): one service as it comes, at start, after the requests of 32
clients, after as many at 8 kHz, and while a job of so many minutes of sound is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

RATE = 16_000
CLIENTS = (1, 8, 32)
PROGRAM = "from serkit.cli import main; main()"


def clip(seconds: float, seed: int) -> np.ndarray:
    """(samples,) float32: a buzz whose loudness and pitch move as in speech."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * RATE)) / RATE
    pitch = rng.uniform(90, 230) * (1 + 0.15 * np.sin(2 * np.pi * 0.7 * time_s + seed))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = sum(np.sin(k * phase) / k for k in range(1, 25))
    loud = 0.05 + np.maximum(0, np.sin(2 * np.pi * 4 * time_s)) ** 2
    return np.asarray(0.15 * loud * sound + 1e-3 * rng.standard_normal(len(time_s)), dtype=np.float32)


def request(sound: np.ndarray, query: str, rate_hz: int = RATE) -> bytes:
    """A whole HTTP request with a WAV file."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate_hz, format="WAV", subtype="PCM_16")
    body = buffer.getvalue()
    lines = [f"POST /v1/predict{query} HTTP/1.1", "Host: x", "Content-Type: audio/wav", f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


@contextmanager
def service(model: str, *options: str) -> Iterator[tuple[int, int]]:
    """Port and process of a service, while it runs."""
    command = [sys.executable, "-c", PROGRAM, "serve", "--model", model, "--port", "0", "--quiet", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"running on http://[\d.]+:(\d+)", line):
                yield int(found[1]), process.pid
                return
        raise SystemExit("the service did not start:\n" + "".join(said))
    finally:
        process.terminate()
        process.wait(60)


def processor_s(pid: int) -> float:
    """Seconds of processor that a process and those it started have used; 0 where /proc is none."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if pid in (int(path.parent.name), int(fields[1])):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def client(port: int, requests: list[bytes], seconds: list[float], left: Iterator[int]) -> None:
    """Ask until nothing is left."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for k in left:
        began = time.perf_counter()
        writer.write(requests[k % len(requests)])
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        body = await reader.readexactly(length)
        if b" 200 " not in head[:16]:
            raise SystemExit(f"not answered: {(head + body)[:300]!r}")
        seconds.append(time.perf_counter() - began)
    writer.close()


async def load(port: int, requests: list[bytes], n_clients: int, n: int) -> tuple[float, list[float]]:
    """Seconds in all, and of each request."""
    seconds: list[float] = []
    left = iter(range(n))
    began = time.perf_counter()
    await asyncio.gather(*(client(port, requests, seconds, left) for _ in range(n_clients)))
    return time.perf_counter() - began, seconds


def in_turns(
    ports: dict[str, tuple[int, int]], requests: list[bytes], n: int, rounds: int
) -> dict[tuple[str, int], tuple[list[float], float, float]]:
    """Seconds of each request, in all, and of the service's processor time, by service and number of clients.

    In rounds, so that other work on the machine slows all alike.
    """
    found: dict[tuple[str, int], tuple[list[float], float, float]] = {}
    for port, _ in ports.values():
        asyncio.run(load(port, requests, 8, 32))
    for _ in range(rounds):
        for n_clients in CLIENTS:
            for name, (port, pid) in ports.items():
                used = processor_s(pid)
                spent, seconds = asyncio.run(load(port, requests, n_clients, n // rounds))
                before, sum_s, sum_used = found.get((name, n_clients), ([], 0.0, 0.0))
                used = processor_s(pid) - used
                found[name, n_clients] = (before + seconds, sum_s + spent, sum_used + used)
    return found


def summary(seconds: list[float], spent: float, used: float, clip_s: float, n_clients: int) -> tuple[float, str]:
    """Requests per second, and a row of the table."""
    p50, p95, p99 = (1000 * float(np.quantile(seconds, q)) for q in (0.5, 0.95, 0.99))
    rate = len(seconds) / spent
    used_ms = 1000 * used / len(seconds)
    return rate, f"{n_clients:8}{rate:12.1f}{rate * clip_s:12.0f}{p50:9.1f}{p95:9.1f}{p99:9.1f}{used_ms:9.1f}"


def batches(model: str, sounds: list[np.ndarray]) -> list[str]:
    """What the model itself takes for a clip, in batches of 1 to 16."""
    from serkit.serving.predictor import load as load_model

    found = load_model(model)
    found.score_clips(sounds[:1])
    lines = []
    for size in (1, 2, 4, 8, 16):
        best = min(_timed(found, sounds, size) for _ in range(3))
        lines.append(f"{size:8}{1000 * best:16.2f}")
    return lines


def _timed(model: object, sounds: list[np.ndarray], size: int) -> float:
    began = time.process_time()
    for at in range(0, len(sounds), size):
        model.score_clips(sounds[at : at + size])  # type: ignore[attr-defined]
    return (time.process_time() - began) / len(sounds)


def resident_mb(pid: int) -> list[int]:
    """Megabytes in memory (VmRSS) of a process, and of each that it started, the largest first."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if pid in (int(fields["Pid"]), int(fields["PPid"])) and "VmRSS" in fields:
            found[int(fields["Pid"])] = round(int(fields["VmRSS"].split()[0]) / 1000)
    return [found.pop(pid, 0), *sorted(found.values(), reverse=True)]


def memory(model: str, requests: list[bytes], n: int, minutes: float) -> None:
    """Print what a service keeps in memory: megabytes of the service, and of each process that answers."""

    def told(when: str, megabytes: list[int]) -> None:
        print(
            f"{when:44}{megabytes[0]:6} +{', '.join(map(str, megabytes[1:])):>20}  = {sum(megabytes):5} MB", flush=True
        )

    with service(model) as (port, pid):
        before: list[int] = []
        while before != (now := resident_mb(pid)):  # the processes that answer are still loading
            before = now
            time.sleep(3)
        told("at start", now)
        _, seconds = asyncio.run(load(port, requests, 32, n))
        told(f"after {len(seconds)} requests of 32 clients", resident_mb(pid))
        calls = [request(clip(3.0, k)[::2], "", RATE // 2) for k in range(16)]  # answered by the model for calls
        asyncio.run(load(port, calls, 32, n))
        told("after as many at 8 kHz", resident_mb(pid))
        sound = np.concatenate([clip(20.0, k) for k in range(round(3 * minutes))])
        asked = request(sound, "?timeline=true").replace(b"POST /v1/predict", b"POST /v1/jobs", 1)
        told(f"largest in a job of {minutes:g} minutes", asyncio.run(_job(port, asked, pid)))
        time.sleep(2)
        told("two seconds after it", resident_mb(pid))


async def _job(port: int, asked: bytes, pid: int) -> list[int]:
    """Hand a job over, and wait for it; the most that was in memory meanwhile."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def answered(words: bytes) -> dict[str, object]:
        writer.write(words)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        found: dict[str, object] = json.loads(await reader.readexactly(length))
        return found

    job = await answered(asked)
    most = resident_mb(pid)
    while job.get("status") in ("queued", "running"):
        await asyncio.sleep(0.1)
        job = await answered(f"GET /v1/jobs/{job['id']} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        most = max(most, resident_mb(pid), key=sum)
    if job.get("status") != "done":
        raise SystemExit(f"the job failed: {job}")
    writer.close()
    return most


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="default")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--timeline", action="store_true")
    parser.add_argument("--memory", type=float, metavar="MINUTES", help="of memory alone; length of the job")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sounds = [clip(args.seconds, k) for k in range(16)]
    requests = [request(x, "?timeline=true" if args.timeline else "") for x in sounds]
    if args.memory:
        memory(args.model, requests, args.requests, args.memory)
        return
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"model {args.model}, clips of {args.seconds:g} s, {args.requests} requests each in {args.rounds} rounds,")
    print(f"{n_cores} cores, Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f} at the start")
    ways = {
        "one worker, no batches": ("--workers", "1", "--batch", "1"),
        "one worker, batches": ("--workers", "1", "--batch", "8"),
        "all cores, no batches": ("--batch", "1"),
        "all cores, batches": ("--batch", "8"),
    }
    with ExitStack() as stack:
        ports = {name: stack.enter_context(service(args.model, *options)) for name, options in ways.items()}
        found = in_turns(ports, requests, args.requests, args.rounds)
    base = 0.0
    for name, options in ways.items():
        print(f"\n{name} ({' '.join(options)})")
        print(f"{'clients':>8}{'requests/s':>12}{'× real time':>12}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}", end="")
        print(f"{'CPU ms':>9}{'ratio':>8}")
        for n_clients in CLIENTS:
            rate, row = summary(*found[name, n_clients], args.seconds, n_clients)
            base = base or rate
            print(f"{row}{rate / base:8.2f}", flush=True)
    print("\nCPU ms: processor time of the service and its workers for each request, which other work disturbs less.")
    print(
        "ratio: requests/s to one client and one worker, which is one request at a time. The model alone, one thread:"
    )
    print(f"{'batch':>8}{'CPU ms per clip':>16}")
    for line in batches(args.model, sounds * 4):
        print(line)
    print(f"load average {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
