"""How a picture of any size is cut into tiles at levels that halve it, as a viewer of deep zoom asks for them."""

from __future__ import annotations

from dataclasses import dataclass

from overread.core.errors import checked, require

#: Pixels of the side of a tile.
TILE = 512


@dataclass(frozen=True)
class TileGrid:
    """The tiles of a picture of ``width`` × ``height`` pixels at its finest level, :attr:`most`; each level below halves it.

    ``least``: the coarsest level that is offered; a tile of a coarser one would take more pixels than may be read at once.
    """

    width: int
    height: int
    least: int = 0

    def __post_init__(self) -> None:
        require(self.width > 0 and self.height > 0, "a picture has pixels", given=(self.width, self.height))
        require(0 <= self.least <= self.most, "least is a level", given=self.least)

    @property
    def most(self) -> int:
        """The finest level; level 0 is one tile."""
        return max(0, (-(-max(self.width, self.height) // TILE) - 1).bit_length())

    @checked
    def reduction(self, level: int) -> int:
        """Pixels of the finest level to the side of one of ``level``.

        >>> TileGrid(2048, 512).reduction(0), TileGrid(2048, 512).reduction(2)
        (4, 1)
        """
        return 1 << (self.most - level)

    @checked
    def has(self, level: int, column: int, row: int) -> bool:
        """Whether there is such a tile.

        >>> [TileGrid(1025, 512).has(*tile) for tile in ((2, 2, 0), (2, 3, 0), (2, 0, 1), (3, 0, 0), (-1, 0, 0))]
        [True, False, False, False, False]
        """
        if not self.least <= level <= self.most:
            return False
        width, height = self._size(level)
        return 0 <= column * TILE < width and 0 <= row * TILE < height

    @checked
    def box(self, level: int, column: int, row: int) -> tuple[int, int, int, int]:
        """Left, top, width and height of a tile in pixels of its level.

        >>> TileGrid(1025, 512).box(2, 2, 0)
        (1024, 0, 1, 512)
        """
        require(self.has(level, column, row), "there is no such tile", given=(level, column, row))
        width, height = self._size(level)
        left, top = column * TILE, row * TILE
        return left, top, min(TILE, width - left), min(TILE, height - top)

    def _size(self, level: int) -> tuple[int, int]:
        by = self.reduction(level)
        return -(-self.width // by), -(-self.height // by)


@checked
def coarsest(width: int, height: int, side: int) -> int:
    """The coarsest level of which a tile takes at most ``side`` × ``side`` pixels of the finest one.

    >>> coarsest(100_000, 50_000, 4096)
    5
    """
    most = TileGrid(width, height).most
    spared = max(0, (side // TILE).bit_length() - 1)
    return max(0, most - spared)
