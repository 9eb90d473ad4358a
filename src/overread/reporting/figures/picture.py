"""A figure as pages and files hold it; nothing here loads matplotlib."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A drawing for a page: ``svg`` holds ``title`` and ``alt`` for those who cannot see it; ``caption`` says N.

    ``wide`` ones take a row of their own. ``drawing`` is the sheet a PNG is drawn from, when one is asked for.
    """

    name: str
    title: str
    alt: str
    caption: str
    svg: str
    wide: bool = False
    drawing: Any = field(default=None, repr=False, compare=False)
