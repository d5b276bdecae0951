"""Every error that a user can cause, as one tree.

ThinkRecError
├── ConfigError      a preset, a field, or a contradiction between fields
├── DataError        interactions or items that cannot be read or used
├── AssetError       a pinned download whose bytes are not the expected ones
├── ModelError       a base LM or adapter folder that cannot be loaded
├── TeacherError     the reasoning teacher does not answer as an OpenAI-compatible server
├── TrainingError    a worker that stopped, or a loss that is not finite
├── StoreError       the artifact store cannot be written, or an artifact is damaged
└── PlatformError    a port, server, or worker of the platform is not available

A message is one line: what was found, what was expected, what to do next. The command line prints it alone on stderr and
exits with code 2; anything that is not a ThinkRecError is a bug and keeps its traceback.
"""

from __future__ import annotations


class ThinkRecError(Exception):
    """A mistake that the user can mend, told in one line: found, expected, next step.

    Args:
        found: what is wrong, naming the offending value.
        expected: what would have been right; empty where `found` says it already.
        next_step: what to do now; empty where it is obvious.
    """

    exit_code = 2

    def __init__(self, found: str, expected: str = "", next_step: str = "") -> None:
        self.found, self.expected, self.next_step = found, expected, next_step
        parts = [found]
        if expected:
            parts.append(f"expected {expected}")
        if next_step:
            parts.append(next_step)
        super().__init__(one_line("; ".join(parts)))

    def __reduce__(self) -> tuple[type[ThinkRecError], tuple[str, str, str]]:
        # Errors cross process and task boundaries; the default would rebuild them from the joined text.
        return type(self), (self.found, self.expected, self.next_step)


class ConfigError(ThinkRecError):
    """A preset, a field, or a contradiction between fields."""


class DataError(ThinkRecError):
    """Interactions or items that cannot be read or used."""


class AssetError(ThinkRecError):
    """A pinned download whose bytes are not the expected ones, or that is missing."""


class ModelError(ThinkRecError):
    """A base LM or adapter folder that cannot be loaded."""


class TeacherError(ThinkRecError):
    """The reasoning teacher does not answer as an OpenAI-compatible chat server."""


class TrainingError(ThinkRecError):
    """A training worker that stopped, or a loss that is not finite."""


class StoreError(ThinkRecError):
    """The artifact store cannot be written, or an artifact is damaged."""


class PlatformError(ThinkRecError):
    """A port, server, or worker of the platform is not available."""


def one_line(text: str, limit: int = 500) -> str:
    """`text` with every run of whitespace as one space, cut at `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
