"""What a command prints: words for people, or with --json one object on the last line of stdout and nothing else there.

Under --json the process's own standard output is turned away from file descriptor 1, so that neither a library nor a child
can write into it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, Self

from rich.console import Console

from tasks.view import View


class Output:
    """The output of one command.

    Args:
        as_json: the result is for a program.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._stdout = os.dup(1) if as_json else 1
        terminal = sys.stderr.isatty()
        if as_json:
            sys.stdout.flush()
            away = 2 if terminal else os.open(os.devnull, os.O_WRONLY)
            os.dup2(away, 1)
        self.console = Console(stderr=as_json, highlight=False, soft_wrap=True) if not as_json or terminal else None
        """For progress and results in words; None where nobody reads them."""

    @classmethod
    def of(cls, as_json: bool) -> Self:
        """The output of a command with this value of --json."""
        return cls(as_json)

    @property
    def view(self) -> View:
        """What stages speak to."""
        return View(self.console)

    def say(self, text: str) -> None:
        """One line of progress."""
        self.view.say(text)

    def result(self, values: Mapping[str, Any]) -> None:
        """Under --json, `values` as one line on the real standard output."""
        if self.as_json:
            os.write(self._stdout, (json.dumps(values) + "\n").encode())
