"""Answers of many conversations on their way into one journal: a thread that writes all that came meanwhile at once.

The disk takes milliseconds to confirm a write. Waiting for it in the event loop would hold up every other request, and one
confirmation per answer would bound the answers per second; here those that arrive during one write share the next.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from types import TracebackType
from typing import Any, Self

from storage.journal import Entry, Journal

_Waiting = tuple[Entry, "asyncio.Future[dict[str, Any]]"]


class JournalWriter:
    """Appends to `journal` from one event loop, used as an async context manager; leaving it waits for the last write."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)

    async def append(self, entry: Entry) -> dict[str, Any]:
        """The answer that counts from now on, `entry`'s or an earlier one under its key; it is on the disk.

        An entry once given is written, also where the caller is cancelled while it waits.

        Raises:
            StoreError: it cannot be written.
        """
        future: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._queue.put((entry, future))
        return await future

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        self._thread.join()

    def _write(self) -> None:
        open_ = True
        while open_:
            came = [self._queue.get()]
            while not self._queue.empty():
                came.append(self._queue.get())
            open_ = None not in came
            batch = [waiting for waiting in came if waiting is not None]
            if not batch:
                continue
            try:
                kept: list[dict[str, Any]] | BaseException = self._journal.append_all([entry for entry, _ in batch])
            except BaseException as error:  # handed to those who wait
                kept = error
            self._loop.call_soon_threadsafe(_tell, [future for _, future in batch], kept)


def _tell(futures: list[asyncio.Future[dict[str, Any]]], kept: list[dict[str, Any]] | BaseException) -> None:
    for number, future in enumerate(futures):
        if future.done():
            continue  # whoever asked was cancelled
        if isinstance(kept, BaseException):
            future.set_exception(kept)
        else:
            future.set_result(kept[number])
