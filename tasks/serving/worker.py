"""The one thread that computes: a bounded queue in front of it, rows of many requests scored together.

PyTorch uses all cores for one forward, so a second thread would only make both slower, and the event loop must never wait for
one. Requests to score that are waiting run in one batch, each row on the route of its own user.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tasks.serving.limits import Limits
from tasks.serving.metrics import Metrics

T = TypeVar("T")
LEARNING = 0.2
"""Weight of the newest batch in the estimate of seconds per row."""


class Refused(Exception):
    """A request that a limit stops.

    Args:
        status: 429 before, 503 after it was accepted.
        limit: which.
        seconds: after which another try makes sense.
    """

    def __init__(self, status: int, limit: str, seconds: float) -> None:
        super().__init__(f"{limit}; try again in {max(1, math.ceil(seconds))} s")
        self.status, self.limit, self.retry_after = status, limit, max(1, math.ceil(seconds))


@dataclass(eq=False)
class Job(Generic[T]):
    """Work for the thread."""

    run: Callable[[], T] | None
    """None for rows to score."""
    rows: int
    """What it costs, in scored rows."""
    scored: list[Any] = field(default_factory=list)
    """Pairs to score."""
    until: float = 0.0
    future: Future[T] = field(default_factory=Future)


class Worker:
    """Runs jobs one after the other in a thread of its own.

    Args:
        score: the results of the pairs of several jobs, one per pair; an exception in the place of a result is its own.
    """

    def __init__(self, score: Callable[[list[Any]], list[Any]], limits: Limits, metrics: Metrics) -> None:
        self._score, self._limits, self._metrics = score, limits, metrics
        self._queue: queue.Queue[Job[Any] | None] = queue.Queue()
        self._lock = threading.Lock()
        self._waiting = self._rows = 0
        self._per_row = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="thinkrec-worker", daemon=True)
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether new work is refused because the server stops."""
        return self._closed

    def submit(self, job: Job[T]) -> Future[T]:
        """The result of `job`, some time.

        Raises:
            Refused: the queue is full, the work before it takes too long, or the server stops.
        """
        with self._lock:
            ahead = self._rows * self._per_row
            if self._closed:
                raise self._refused(503, "the server stops", 5)
            if self._waiting >= self._limits.queue:
                raise self._refused(429, "the queue is full", ahead)
            if self._waiting and ahead + job.rows * self._per_row > self._limits.seconds:
                raise self._refused(
                    429, "the queue is too long", ahead + job.rows * self._per_row - self._limits.seconds
                )
            self._waiting += 1
            self._rows += job.rows
            self._metrics.waiting.set(self._waiting)
        job.until = time.monotonic() + self._limits.seconds
        job.future.add_done_callback(lambda done: self._left(job))
        self._queue.put(job)
        return job.future

    def close(self, seconds: float) -> None:
        """Refuse what comes, finish what was accepted, for at most `seconds`."""
        with self._lock:
            self._closed = True
        self._queue.put(None)
        self._thread.join(seconds)

    def _refused(self, status: int, limit: str, seconds: float) -> Refused:
        self._metrics.refused.labels(limit).inc()
        return Refused(status, limit, seconds)

    def _left(self, job: Job[Any]) -> None:
        with self._lock:
            self._waiting -= 1
            self._rows -= job.rows
            self._metrics.waiting.set(self._waiting)

    def _work(self) -> None:
        held: Job[Any] | None = None
        while True:
            job = held or self._queue.get()
            held = None
            if job is None:
                return
            if job.run is not None:
                self._start([job], lambda one=job: one.run())  # type: ignore[misc]
                continue
            jobs, rows, until = [job], job.rows, time.monotonic() + self._limits.gather_seconds
            while rows < self._limits.batch_rows:
                try:
                    held = self._queue.get(timeout=max(0.0, until - time.monotonic()))
                except queue.Empty:
                    break
                if held is None:
                    self._queue.put(None)  # the end comes after this batch
                    break
                if held.run is not None or rows + held.rows > self._limits.batch_rows:
                    break
                jobs.append(held)
                rows += held.rows
                held = None
            self._score_together(jobs)

    def _score_together(self, jobs: list[Job[Any]]) -> None:
        live = self._live(jobs)
        pairs = [pair for job in live for pair in job.scored]
        if not pairs:
            return
        self._metrics.batch_rows.observe(len(pairs))
        started = time.monotonic()
        try:
            results = self._score(pairs)
        except BaseException as error:
            for job in live:
                job.future.set_exception(error)
            return
        self._learn(len(pairs), time.monotonic() - started)
        for job in live:
            own, results = results[: len(job.scored)], results[len(job.scored) :]
            failed = next((each for each in own if isinstance(each, Exception)), None)
            if failed is not None:
                job.future.set_exception(failed)
            else:
                job.future.set_result(own)

    def _start(self, jobs: list[Job[Any]], run: Callable[[], Any]) -> None:
        for job in self._live(jobs):
            started = time.monotonic()
            try:
                found = run()
            except BaseException as error:
                job.future.set_exception(error)
            else:
                self._learn(job.rows, time.monotonic() - started)
                job.future.set_result(found)

    def _live(self, jobs: list[Job[Any]]) -> list[Job[Any]]:
        """Those that somebody still waits for; from here on they cannot be cancelled."""
        return [job for job in jobs if job.future.set_running_or_notify_cancel()]

    def _learn(self, rows: int, seconds: float) -> None:
        if rows:
            with self._lock:
                self._per_row += (LEARNING if self._per_row else 1.0) * (seconds / rows - self._per_row)
