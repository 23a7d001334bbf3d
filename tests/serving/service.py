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
        self._found = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._found.wait(60) or not self.url:
            self.process.kill()
            raise RuntimeError("the service did not start:\n" + self.log)
        self.client = httpx.Client(base_url=self.url, timeout=60)

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

    def stream(self, **options: Any) -> ClientConnection:
        """An open WebSocket."""
        return connect(self.url.replace("http", "ws", 1) + "/v1/stream", open_timeout=20, **options)

    def metric(self, name: str, **labels: str) -> float:
        """A value of ``/metrics``; 0 where it is not there yet."""
        text = self.client.get("/metrics").text
        wanted = "{" + ",".join(f'{k}="{v}"' for k, v in labels.items()) + "}" if labels else ""
        found = re.search(rf"^{re.escape(name + wanted)} (\S+)$", text, re.M)
        return float(found[1]) if found else 0.0

    def children(self) -> list[int]:
        """Process ids of its workers."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        found = [int(x) for x in text.split()]
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            found += [int(x) for x in (task / "children").read_text().split()]
        return sorted(p for p in set(found) if "spawn_main" in Path(f"/proc/{p}/cmdline").read_text())

    def memory_mb(self) -> float:
        """Resident memory of all its processes, in MB."""
        total = 0.0
        for pid in (self.process.pid, *self.children()):
            text = Path(f"/proc/{pid}/status").read_text()
            total += int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024  # type: ignore[index]
        return total

    def stop(self, sign: int = signal.SIGTERM, timeout_s: float = 30) -> int:
        """Send a signal and wait for the end; the exit status."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(sign)
        try:
            return self.process.wait(timeout_s)
        finally:
            self.process.kill()
            self._reader.join(5)
            assert self.process.stderr is not None
            self.process.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *rest: object) -> None:
        self.stop()
