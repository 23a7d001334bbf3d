"""What Prometheus reads: counts and times, nothing about what was said or by whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """The counters of one service."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

        self.registry: CollectorRegistry = CollectorRegistry()
        own = self.registry
        self.requests = Counter(
            "serkit_requests", "Requests by endpoint and status.", ["endpoint", "status"], registry=own
        )
        self.seconds = Histogram(
            "serkit_request_seconds",
            "From the request line to the answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=own,
        )
        self.refused = Counter("serkit_refused", "Requests not answered, by reason.", ["code"], registry=own)
        self.audio = Counter(
            "serkit_audio_seconds", "Seconds of sound answered; of streams, heard.", ["lane"], registry=own
        )
        self.work = Counter("serkit_work_seconds", "Seconds that workers were busy.", ["lane"], registry=own)
        self.batches = Histogram(
            "serkit_batch_clips", "Clips answered together.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=own
        )
        self.restarts = Counter("serkit_worker_restarts", "Workers that died or were stopped.", ["lane"], registry=own)
        self.streams = Gauge("serkit_streams", "Streams open now.", registry=own)
        self._gauges = {
            "held": Gauge(
                "serkit_requests_held", "Requests in progress now, including those being read.", registry=own
            ),
            "bytes": Gauge("serkit_held_bytes", "Bytes of bodies held now.", registry=own),
            "queued": Gauge("serkit_queued", "Recordings that wait for a worker.", registry=own),
            "jobs": Gauge("serkit_jobs", "Jobs kept now, including finished ones.", registry=own),
        }
        self._model = Info("serkit_model", "The model that answers.", registry=own)

    def about(self, model: str) -> None:
        """Say which model answers."""
        self._model.info({"model": model})

    def watch(self, name: str, value: Callable[[], float]) -> None:
        """Read a gauge (held, bytes, queued, jobs) from a function whenever it is asked for."""
        self._gauges[name].set_function(value)

    def text(self) -> bytes:
        """The page of ``/metrics``."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
