"""Places in an image, in pixels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """Rows ``top`` … ``bottom`` and columns ``left`` … ``right``, the ends left out, as slices take them."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """The box as an index of pixels (H, W, C)."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True)
class Circle:
    """A circle around ``row`` and ``column``; it may reach beyond the image."""

    row: float
    column: float
    radius: float
