"""Open slides: for each thread its own, a bounded number of them, with a bounded cache.

An open slide holds its directories and the tiles that were decoded last. A thousand slides that stay open are what eats
the memory of other programs. Here a thread keeps its last :data:`HANDLES` slides open and closes the one that was not
asked for the longest; what it has open ends with the thread, and a forked process opens its own.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

#: Endings of files that are slides and nothing else.
SLIDE_ENDINGS = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu")
#: Of these the file is an index, whose pixels lie in files beside it.
INDEX_ENDINGS = (".mrxs", ".vms", ".vmu")
#: Slides that a thread keeps open.
HANDLES = 8
#: Bytes of decoded tiles that a thread keeps, of all its open slides together.
CACHE = 32 * 2**20


@dataclass(frozen=True)
class SlideHeader:
    """What a file says of its slide.

    ``sizes``: (width, height) of each level in pixels, the finest first. ``mpp``: microns of a pixel of level 0 across
    and down, 0 where the file does not say or says what no slide has. ``background``: RGB of what was never scanned.
    """

    format: str
    sizes: tuple[tuple[int, int], ...]
    mpp: tuple[float, float] = (0.0, 0.0)
    background: tuple[int, int, int] = (255, 255, 255)
    objective: float = 0.0
    notes: tuple[str, ...] = ()


class OpenedSlide(Protocol):
    """An open slide, for one thread."""

    header: SlideHeader

    def read(self, level: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """(height, width, 3) pixels of a level, all within it; raises whatever the decoder raises."""

    def close(self) -> None:
        """Let go of the file and of what was decoded of it."""


class _Pool(threading.local):
    def __init__(self) -> None:
        self.opened: OrderedDict[Hashable, OpenedSlide] = OrderedDict()


_POOL = _Pool()
#: Handles of the parent of a forked process: never closed here, for the parent reads on with them.
_OF_THE_PARENT: list[OpenedSlide] = []


def borrowed(key: Hashable, path: str, opener: Callable[[str], OpenedSlide]) -> OpenedSlide:
    """This thread's handle of the file that ``key`` stands for: the one that it has open, or one opened now by ``opener``.

    ``key`` changes when the file does. Raises as ``opener`` does.
    """
    opened = _POOL.opened
    if key in opened:
        opened.move_to_end(key)
        return opened[key]
    while len(opened) >= HANDLES:
        opened.popitem(last=False)[1].close()
    opened[key] = made = opener(path)
    return made


def dropped(handle: OpenedSlide) -> None:
    """Close a handle of this thread: after an error, OpenSlide answers everything with that error."""
    for key in [key for key, one in _POOL.opened.items() if one is handle]:
        del _POOL.opened[key]
    handle.close()


def _forked() -> None:
    _OF_THE_PARENT.extend(_POOL.opened.values())
    _POOL.opened.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
