"""How a request ends that is not answered."""

from __future__ import annotations


class RequestFailed(Exception):
    """A request that could not be answered, in one line without secrets.

    Attributes:
        transient: the way failed, not the request: it is worth asking again later.
        own: the request was not sent, for a reason of its own.
        next_step: what to do where every request fails like this one.
    """

    def __init__(self, told: str, *, transient: bool, own: bool = False, next_step: str = "") -> None:
        super().__init__(told)
        self.transient, self.own, self.next_step = transient, own, next_step


class OutOfTime(Exception):
    """The time of a request with all its tries and waits is over."""


class Stopped(Exception):
    """The request was not sent, since the run stops."""
