"""How many images an address may have read in a minute: a bucket that fills steadily and may not be overdrawn twice."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

#: Addresses remembered; the one heard of longest ago is forgotten first, when its bucket is as good as full.
_REMEMBERED = 4096


class RateLimit:
    """``rate`` images a minute for each address; a minute's worth may come at once. 0: no limit.

    >>> now = [0.0]
    >>> limit = RateLimit(2, clock=lambda: now[0])
    >>> [limit.take("a"), limit.take("a"), limit.take("a"), limit.take("b")]
    [0.0, 0.0, 30.0, 0.0]
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, who: str, images: int = 1) -> float:
        """0 if ``who`` may have ``images`` read now; otherwise the seconds after which to come again.

        A request of many images is taken as long as one is left, and the debt is paid off before the next.
        """
        if not self._rate:
            return 0.0
        now, full = self._clock(), float(self._rate)
        left, since = self._left.pop(who, (full, now))
        left = min(full, left + (now - since) * self._rate / 60)
        wait = 0.0 if left >= 1 else (1 - left) * 60 / self._rate
        self._left[who] = (left if wait else left - images, now)
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        return wait
