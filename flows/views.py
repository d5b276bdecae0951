"""Where a run says what it does: the terminal of the command line, or the log of a deployed run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from flows.pages import progress_page
from tasks.view import Advance, View

_shown: ContextVar[View | None] = ContextVar("thinkrec_view", default=None)


class LogView(View):
    """Lines go to the log of the current Prefect run, which the server's pages show; there are no progress bars."""

    def say(self, text: str) -> None:
        """Log one line; outside of a Prefect run it is dropped."""
        with contextlib.suppress(MissingContextError):
            get_run_logger().info("%s", text.strip())

    @contextlib.contextmanager
    def progress(self, description: str, total: int) -> Iterator[Advance]:
        """A progress bar in the server's pages."""
        with progress_page(description, total) as advance:
            yield advance


@contextlib.contextmanager
def showing(view: View) -> Iterator[None]:
    """Flows called within the block speak to `view`: a view is no parameter of a flow, whose parameters are stored."""
    token = _shown.set(view)
    try:
        yield
    finally:
        _shown.reset(token)


def current_view() -> View:
    """The view of the surrounding `showing` block, else the log of the run."""
    return _shown.get() or LogView()
