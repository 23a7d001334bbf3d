"""A service of its own process, as somebody runs it, for tests that talk to it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import httpx
from websockets.sync.client import ClientConnection, connect

from .signals import GOLDEN

PROGRAM = "from serkit.cli import main; main()"


class Service:
    """``serkit serve`` on a free port, with a folder for temporary files that nobody else uses.

    Args:
        folder: for temporary files. options: of the command, such as ``read_timeout=1``.

    Attributes:
        lines: what it has written. url: where it is.
    """

    def __init__(self, folder: Path, environment: dict[str, str] | None = None, **options: Any) -> None:
        given = {"model": str(GOLDEN), "port": 0, "workers": 2, "grace": 3, **options}
        words = [x for k, v in given.items() for x in (f"--{k.replace('_', '-')}", str(v))]
        self.folder = folder
        self.lines: list[str] = []
        self._begun = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "serve", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1", **(environment or {})},
        )
        self.url = ""
        self._warm = False
        self._found = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._found.wait(120) or not self.url:
            self.process.kill()
            raise RuntimeError("the service did not start:\n" + self.log)
        self.client = httpx.Client(base_url=self.url, timeout=120)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            match = re.search(r"running on (http://[\d.]+:\d+)", line)
            if match:
                self.url = match[1]
                self._found.set()
        self._found.set()

    @property
    def log(self) -> str:
        """Everything it has written."""
        return "".join(self.lines)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rsplit(":", 1)[1])

    def predict(self, content: bytes, name: str = "a.wav", **options: Any) -> httpx.Response:
        """``POST /v1/predict`` with one file."""
        return self.client.post("/v1/predict", files={"file": (name, content)}, params=options)

    def result(self, content: bytes, **options: Any) -> dict[str, Any]:
        """The answer for one file, which has to be one."""
        answer = self.predict(content, **options)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["results"][0]
        return found

    def finished(self, url: str) -> dict[str, Any]:
        """A job, once it is done or has failed."""
        end = time.monotonic() + 90
        while (found := self.client.get(url).json())["status"] in ("queued", "running"):
            assert time.monotonic() < end, found
            time.sleep(0.05)
        return dict(found)

    def until_draining(self) -> None:
        """Wait until it has heard the signal that it was sent, and takes nothing more."""
        end = time.monotonic() + 60
        while self.client.get("/readyz").status_code != 503:
            assert time.monotonic() < end, self.log
            time.sleep(0.01)

    def until_at_work(self) -> None:
        """Wait until its workers compute: a tenth of a second more than they had by now."""
        before, end = self._computed_s(), time.monotonic() + 60
        while self._computed_s() < before + 0.1:
            assert time.monotonic() < end, self.log
            time.sleep(0.01)

    def _computed_s(self) -> float:
        said = [_text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split() for pid in self.children()]
        return sum(int(row[11]) + int(row[12]) for row in said if row) / os.sysconf("SC_CLK_TCK")

    def stream(self, **options: Any) -> ClientConnection:
        """An open WebSocket."""
        return connect(self.url.replace("http", "ws", 1) + "/v1/stream", open_timeout=60, **options)

    def metric(self, name: str, **labels: str) -> float:
        """A value of ``/metrics``; 0 where it is not there yet."""
        text = self.client.get("/metrics").text
        wanted = "{" + ",".join(f'{k}="{v}"' for k, v in labels.items()) + "}" if labels else ""
        found = re.search(rf"^{re.escape(name + wanted)} (\S+)$", text, re.M)
        return float(found[1]) if found else 0.0

    def children(self) -> list[int]:
        """Process ids of its workers."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        found = {int(x) for task in tasks for x in _text(task / "children").split()}
        return sorted(p for p in found if "spawn_main" in _text(Path(f"/proc/{p}/cmdline")))

    def memory_mb(self) -> float:
        """Resident memory of all its processes, in MB, once each has loaded its model."""
        if not self._warm:  # the worker of streams starts behind the others
            with self.stream() as socket:
                socket.send('{"type": "start"}')
                socket.recv(60)
            self._warm = True
        said = [_text(Path(f"/proc/{pid}/status")) for pid in (self.process.pid, *self.children())]
        return sum(int(kib) for text in said for kib in re.findall(r"VmRSS:\s+(\d+)", text)) / 1024

    def stop(self, sign: int = signal.SIGTERM, timeout_s: float = 60) -> int:
        """Send a signal and wait for the end; the exit status."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(sign)
        try:
            return self.process.wait(timeout_s)
        finally:
            self.process.kill()
            self._reader.join(60)
            assert self.process.stderr is not None
            self.process.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *rest: object) -> None:
        self.stop()


def _text(path: Path) -> str:
    """What ``/proc`` says; nothing of what is gone meanwhile."""
    try:
        return path.read_text()
    except OSError:
        return ""
