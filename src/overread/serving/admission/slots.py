"""Who may have an image read: so many at a time in a process, a bounded number waits, and who has gone gives up the place."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
from anyio import to_thread

from overread.core.progress import Progress
from overread.serving.admission.counters import Counters
from overread.serving.admission.refusal import Refusal

T = TypeVar("T")


class Call:
    """What is done for one request, until it is no longer wanted; ``count`` hears how many images it turns out to hold."""

    def __init__(self, count: Callable[[int], None]) -> None:
        self.unwanted = threading.Event()
        self.count = count

    @property
    def progress(self) -> Progress:
        """A listener to progress that ends the work at its next step once nobody waits for it."""

        def progress(what: str, done: int, total: int) -> None:
            if self.unwanted.is_set():
                raise gone()

        return progress


def gone() -> Refusal:
    """What is written down of a request whose answer nobody waits for."""
    return Refusal(499, "whoever asked has gone", code="gone")


class Slots:
    """``at_once`` images are read at a time (one: with all threads of this process); ``waiting`` requests more are let in."""

    def __init__(self, waiting: int, counters: Counters, at_once: int = 1) -> None:
        self._places, self._counters = waiting + at_once, counters
        self._taken = 0
        self._seconds = 1.0  # what the last ones cost, for those who are to come again
        self._slot = anyio.Semaphore(at_once)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place in the queue, held from before the body is read: what waits is bounded in number and in bytes.

        Raises :class:`Refusal`, 503 with ``Retry-After``, where none is free.
        """
        if self._taken >= self._places:
            again = max(1, round(self._seconds * self._places))
            raise Refusal(503, "the server is busy", "come again later", {"Retry-After": str(again)}, code="queue-full")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def run(self, work: Callable[[], T]) -> T:
        """``work()`` in a thread, when it is its turn. Cancelled while it waits, it leaves at once; while it works, the
        slot stays taken until the thread has ended."""
        self._counters.waiting += 1
        try:
            await self._slot.acquire()
        finally:
            self._counters.waiting -= 1
        self._counters.running += 1
        started = anyio.current_time()
        try:
            return await to_thread.run_sync(work)
        finally:
            self._counters.running -= 1
            self._seconds += 0.2 * (anyio.current_time() - started - self._seconds)
            self._slot.release()
