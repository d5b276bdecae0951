"""Tiny models run on one thread here."""

from tests.tiny_model import one_thread

__all__ = ["one_thread"]
