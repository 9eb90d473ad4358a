"""How many images an address may have read in a minute: a bucket that fills steadily and may not be overdrawn twice."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

#: Addresses remembered; the one heard of longest ago is forgotten first, when its bucket is as good as full.
_REMEMBERED = 4096


class RateLimit:
    """``rate`` images a minute for each address; a minute's worth may come at once, and one always. 0: no limit.

    >>> now = [0.0]
    >>> limit = RateLimit(2, clock=lambda: now[0])
    >>> [limit.take("a"), limit.take("a"), limit.take("a"), limit.take("b")]
    [0.0, 0.0, 30.0, 0.0]
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._full = max(1.0, float(rate))
        self._lock = threading.Lock()  # images are counted by the threads that find them
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str) -> float:
        """0 if ``who`` may have an image read now, which is then counted; otherwise the seconds after which to come again."""
        if not self._rate:
            return 0.0
        with self._lock:
            left = self._now(who)
            wait = 0.0 if left >= 1 else (1 - left) * 60 / self._rate
            if not wait:
                self._left[who] = (left - 1, self._clock())
        return wait

    def charge(self, who: str, images: int) -> None:
        """Count further images of a request that was let in, however few are left: the debt is paid off before the next.

        >>> now = [0.0]
        >>> limit = RateLimit(2, clock=lambda: now[0])
        >>> limit.take("a"), limit.take("a"), limit.charge("a", 9), limit.take("a")
        (0.0, 0.0, None, 300.0)
        """
        if self._rate:
            with self._lock:
                self._left[who] = (self._now(who) - images, self._clock())

    def _now(self, who: str) -> float:
        """What is left to ``who`` now, remembered as heard of last."""
        now = self._clock()
        left, since = self._left.pop(who, (self._full, now))
        left = min(self._full, left + (now - since) * self._rate / 60)
        self._left[who] = (left, now)
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        return left
