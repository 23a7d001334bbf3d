"""Limits and keys of the service."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from serkit.errors import SerkitError
from serkit.processes import cores

MIB = 1 << 20
PAGE = Path(__file__).resolve().parents[1] / "web"
KEYS_ENVIRONMENT = "SERKIT_API_KEYS"
_PORTS = {"http": ":80", "https": ":443"}  # which browsers leave out


@dataclass(frozen=True)
class ServiceSettings:
    """How much the service takes on.

    Attributes:
        model: name or place of a bundle. calls: the one for calls.
        workers: processes that answer requests. batch: clips one of them answers together.
        concurrency: requests held at once, those still being read included. queue: requests read whole that wait.
        streams: streams at once. jobs: jobs kept at once, finished ones included.
        max_mb, max_minutes: of the recordings of a request. job_max_mb, job_max_minutes: of a job.
        stream_max_minutes: of a stream. max_files: recordings in one request.
        timeout_s: from the body's last byte to the answer. job_timeout_s: of each recording of a job, once it begins.
        read_s: patience with a client: for headers, for the next piece of a body, for a stream's first message, for a
            sign that it reads what it is sent; a body has to come at :attr:`least_rate` on the whole.
        idle_s: a stream that sends nothing for so long is closed. keep_s: how long finished jobs are kept.
        grace_s: after SIGTERM, for what was taken to be finished.
        keys: API keys; none means that nobody is asked. origins: web pages of other origins that may call.
        page: folder of the web page, or ``None``.
    """

    model: str = "default"
    calls: str = "auto"
    workers: int = field(default_factory=cores)
    batch: int = 8
    concurrency: int = 128
    queue: int = 64
    streams: int = 16
    jobs: int = 100
    max_mb: float = 100.0
    max_minutes: float = 30.0
    job_max_mb: float = 1500.0
    job_max_minutes: float = 720.0
    stream_max_minutes: float = 120.0
    max_files: int = 32
    timeout_s: float = 120.0
    job_timeout_s: float = 3600.0
    read_s: float = 10.0
    idle_s: float = 30.0
    keep_s: float = 3600.0
    grace_s: float = 30.0
    keys: tuple[str, ...] = field(default=(), repr=False)
    origins: tuple[str, ...] = ()
    page: Path | None = PAGE

    least_rate = 16_000  # bytes a second: half of what live speech makes as 16-bit samples at 16 kHz

    def __post_init__(self) -> None:
        for name in (
            "workers", "batch", "concurrency", "queue", "streams", "jobs", "max_mb", "max_minutes", "job_max_mb",
            "job_max_minutes", "stream_max_minutes", "max_files", "timeout_s", "job_timeout_s", "read_s", "idle_s",
            "keep_s", "grace_s",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise SerkitError(f"{name} is {getattr(self, name)}, expected more than 0")
        for origin in self.origins:
            _check_origin(origin)

    @property
    def max_bytes(self) -> int:
        """Of the body of a request."""
        return int(self.max_mb * 1e6)

    @property
    def job_max_bytes(self) -> int:
        """Of the body of a job."""
        return int(self.job_max_mb * 1e6)

    @property
    def held_bytes(self) -> int:
        """Of all bodies held at once: room for eight of the largest, or for two jobs."""
        return max(8 * self.max_bytes, 2 * self.job_max_bytes)

    def owner(self, key: str | None) -> str | None:
        """Whose key it is, as a short hash that tells nobody the key; ``None`` where it opens nothing.

        Every key is compared, in constant time. Without keys everybody is ``""``.
        """
        if not self.keys:
            return ""
        given, found = _hash(key or ""), None
        for known in self.keys:
            if hmac.compare_digest(given, _hash(known)):
                found = given.hex()[:12]
        return found


def read_keys(given: str | None, file: Path | None) -> tuple[str, ...]:
    """API keys from an option, a file with one a line (``#`` begins a remark), and the environment.

    An empty key, as of a variable of the shell that is not set, must not open the service to everybody. An empty
    environment variable is one that is not set: ``compose.yaml`` hands it on so.

    Raises:
        SerkitError: a source that is named and holds no key, a file that cannot be read, or a key below 8 characters or
            that no header can carry.
    """
    found = [] if given is None else [given.strip()]
    if "" in found:
        raise SerkitError("--api-key is empty, expected a key; without the option, nobody is asked for one")
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise SerkitError(f"{file}: keys cannot be read: it is not text in UTF-8") from None
        except OSError as error:
            raise SerkitError(f"{file}: keys cannot be read: {error.strerror or error}") from None
        keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not keys:
            raise SerkitError(f"{file} holds no key; expected one per line")
        found += keys
    listed = os.environ.get(KEYS_ENVIRONMENT, "")
    keys = [key.strip() for key in listed.split(",") if key.strip()]
    if listed and not keys:
        raise SerkitError(f"{KEYS_ENVIRONMENT} holds no key; expected KEY or KEY,KEY")
    found += keys
    if any(len(key) < 8 for key in found):
        raise SerkitError("an API key is shorter than 8 characters; make one with: openssl rand -hex 16")
    if not all(key.isascii() and key.isprintable() for key in found):
        raise SerkitError("an API key has characters outside printable ASCII, which headers do not carry")
    return tuple(dict.fromkeys(found))


def _check_origin(origin: str) -> None:
    """Refuse what no browser sends as an origin: it is ``SCHEME://HOST``, with ``:PORT`` where it is no usual one."""
    if origin in ("*", "null"):  # null: pages from a file
        return
    scheme, middle, rest = origin.strip().lower().partition("://")
    host = re.split(r"[/?#]", rest if middle else scheme, maxsplit=1)[0].rpartition("@")[2]
    if port := _PORTS.get(scheme):
        host = host.removesuffix(port)
    right = f"{scheme if middle else 'https'}://{host}"
    if "*" in host:
        raise SerkitError(f"origin '{origin}': there are no patterns; expected each origin whole, or * for all")
    if not host or not middle or origin != right:
        nearest = f"; did you mean '{right}'?" if host else ""
        raise SerkitError(f"origin '{origin}': expected it as browsers send it, such as https://example.org{nearest}")


def _hash(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=32).digest()
