"""What Prometheus can ask: requests, waiting time, batch sizes, reloads. One registry per server."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        on = {"registry": self.registry}
        self.requests = Counter("thinkrec_requests", "answered requests", ["path", "status"], **on)  # type: ignore[arg-type]
        self.seconds = Histogram("thinkrec_request_seconds", "seconds from request to answer", ["path"], **on)  # type: ignore[arg-type]
        self.waiting = Gauge("thinkrec_waiting", "accepted requests that are not answered yet", **on)  # type: ignore[arg-type]
        buckets = (1, 2, 4, 8, 16, 32, 64, 128, 256)
        self.batch_rows = Histogram("thinkrec_batch_rows", "rows scored in one batch", buckets=buckets, **on)  # type: ignore[arg-type]
        self.refused = Counter("thinkrec_refused", "requests that met a limit", ["limit"], **on)  # type: ignore[arg-type]
        self.reloads = Counter("thinkrec_reloads", "bundles loaded after the first", ["result"], **on)  # type: ignore[arg-type]
        self.bundle = Gauge("thinkrec_bundle", "1 for the bundle that is served", ["run", "digest"], **on)  # type: ignore[arg-type]

    def serving(self, run: str, digest: str) -> None:
        """The bundle that is served from now on."""
        self.bundle.clear()
        self.bundle.labels(run, digest[:16]).set(1)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self.registry)
