"""What the server accepts before it says no."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one server."""

    body_bytes: int = 262_144
    """Larger bodies are answered 413."""
    body_seconds: float = 10.0
    """Bodies that drip in for longer are answered 408."""
    queue: int = 64
    """Requests that wait; one more is answered 429."""
    seconds: float = 30.0
    """A request that has to wait or work longer is answered 503; one that would surely have to, 429 at once."""
    batch_rows: int = 32
    """Rows of /score of several requests that are scored together."""
    gather_seconds: float = 0.002
    """How long the first of them waits for others, at least."""
    gather_share: float = 0.03
    """And at least this part of the time that scoring it takes: requests of the same moment do not arrive at once, and one that
    misses the batch waits for all of it."""
    gather_most: float = 0.05
    """But no longer than this."""
    drain_seconds: int = 10
    """At a shutdown, how long what was accepted may still take."""
