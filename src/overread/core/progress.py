"""How a long step tells how far it is, without knowing who listens.

Lower floors call ``progress("reading images", done, total)``; the command line draws a bar with the time left, a
program may pass any function of that shape.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

#: ``(what, done, total)``: called often and cheaply; ``done == total`` ends a step.
Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Say nothing: the default of every function that takes a ``progress``."""


#: Says one line to the person who waits.
Say = Callable[[str], None]


def unheard(line: str) -> None:
    """Say nothing: the default of every function that takes a ``say``."""


class Clock:
    """Seconds of work so far, also across crashes, and seconds left of a budget. Monotonic: the wall clock may jump.

    >>> Clock().left
    inf
    """

    def __init__(self, limit: float | None = None, before: float = 0.0) -> None:
        self.limit, self._before, self._start = limit, before, time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since birth, plus those before."""
        return self._before + time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds left of the limit; infinite without one."""
        return math.inf if self.limit is None else self.limit - self.elapsed

    def credit(self, seconds: float) -> None:
        """Count the time of an earlier, interrupted process (told by its checkpoint)."""
        self._before = max(self._before, seconds)
