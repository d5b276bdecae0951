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
from tasks.serving.pace import Pace

T = TypeVar("T")


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
    """What it costs, in rows of its kind."""
    kind: str = "score"
    """Work of one kind costs the same per row; candidates of a list cost less than rows of many users."""
    scored: list[Any] = field(default_factory=list)
    """Pairs to score."""
    estimate: float = 0.0
    """Seconds, as known when it was accepted."""
    future: Future[T] = field(default_factory=Future)


class Worker:
    """Runs jobs one after the other in a thread of its own.

    Args:
        score: the results of the pairs of several jobs, one per pair; an exception in the place of a result is its own.
    """

    def __init__(self, score: Callable[[list[Any]], list[Any]], limits: Limits, metrics: Metrics) -> None:
        self._score, self._limits, self._metrics = score, limits, metrics
        self.pace = Pace()
        self._queue: queue.Queue[Job[Any] | None] = queue.Queue()
        self._lock = threading.Lock()
        self._waiting, self._estimates = 0, 0.0
        self._running: tuple[float, float] | None = None
        """When the work that runs was begun, and its estimate."""
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
            ahead, job.estimate = self._ahead(), self.pace.seconds(job.kind, job.rows)
            late = ahead + job.estimate - self._limits.seconds
            if self._closed:
                raise self._refused(503, "the server stops", 5)
            if self._waiting >= self._limits.queue:
                raise self._refused(429, "the queue is full", ahead)
            if self._waiting and late > 0:
                raise self._refused(429, "the queue is too long", late)
            self._waiting += 1
            self._estimates += job.estimate
            self._metrics.waiting.set(self._waiting)
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

    def _ahead(self) -> float:
        """Seconds of accepted work that is still to be done."""
        if self._running is None:
            return self._estimates
        started, estimate = self._running
        return max(0.0, self._estimates - min(estimate, time.monotonic() - started))

    def _left(self, job: Job[Any]) -> None:
        with self._lock:
            self._waiting -= 1
            self._estimates = self._estimates - job.estimate if self._waiting else 0.0
            self._metrics.waiting.set(self._waiting)

    def _work(self) -> None:
        held: Job[Any] | None = None
        while True:
            job = held or self._queue.get()
            held = None
            if job is None:
                return
            if job.run is not None:
                self._run(job, job.run)
                continue
            jobs, rows, until = [job], job.rows, time.monotonic() + self._gathering(job.rows)
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

    def _gathering(self, rows: int) -> float:
        limits = self._limits
        return max(
            limits.gather_seconds, min(limits.gather_most, limits.gather_share * self.pace.seconds("score", rows))
        )

    def _score_together(self, jobs: list[Job[Any]]) -> None:
        live = self._live(jobs)
        pairs = [pair for job in live for pair in job.scored]
        if not pairs:
            return
        self._metrics.batch_rows.observe(len(pairs))
        try:
            results, seconds = self._timed(live, lambda: self._score(pairs))
        except BaseException as error:
            for job in live:
                job.future.set_exception(error)
            return
        self._learn("score", sum(not isinstance(each, Exception) for each in results), seconds)
        for job in live:
            own, results = results[: len(job.scored)], results[len(job.scored) :]
            failed = next((each for each in own if isinstance(each, Exception)), None)
            if failed is not None:
                job.future.set_exception(failed)
            else:
                job.future.set_result(own)

    def _run(self, job: Job[Any], run: Callable[[], Any]) -> None:
        if not self._live([job]):
            return
        try:
            found, seconds = self._timed([job], run)
        except BaseException as error:
            job.future.set_exception(error)
        else:
            self._learn(job.kind, job.rows, seconds)
            job.future.set_result(found)

    def _timed(self, jobs: list[Job[Any]], run: Callable[[], T]) -> tuple[T, float]:
        """What `run` gives, and the seconds that it took."""
        started = time.monotonic()
        with self._lock:
            self._running = started, sum(job.estimate for job in jobs)
        try:
            return run(), time.monotonic() - started
        finally:
            with self._lock:
                self._running = None

    def _learn(self, kind: str, rows: int, seconds: float) -> None:
        if rows:
            with self._lock:
                self.pace.learn(kind, rows, seconds)

    def _live(self, jobs: list[Job[Any]]) -> list[Job[Any]]:
        """Those that somebody still waits for; from here on they cannot be cancelled."""
        return [job for job in jobs if job.future.set_running_or_notify_cancel()]
