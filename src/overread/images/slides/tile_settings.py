"""How a slide is cut into tiles, for training and for its heat map: the group ``tiles`` of a recipe."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from overread.core.errors import one_of, require
from overread.images.slides.tissue import TissueSettings

#: What is pooled: each tile has an answer and the slide's is made of its heat map, or the slide alone has one, of all its
#: tiles by attention.
POOLINGS_OF_SLIDES = ("tiles", "attention")
#: Magnifications that are seen together at most.
MOST_MAGNIFICATIONS = 4
_SCORE = re.compile(r"auto|maximum|mean of [1-9]\d{0,4}")


@dataclass(frozen=True)
class Tiles:
    """How a slide is cut into tiles; lengths in microns (µm) or in pixels of a tile, as said.

    ``size``: pixels of a side. ``mpp``: microns a pixel, the finest first; of several, tiles of each are centred on the same
    point and are the views of one case (Liu 2017, arXiv:1703.02442, section 3, "multi-scale"). ``centre``: the label is
    tumour where an outline meets the middle square of so many pixels of the finest tile (128 of 299 there). ``jitter``: a
    drawn tile is moved by at most so many pixels, each way. ``number`` of tiles that are drawn for training, by class, then
    slide, then tile; 0: as many as the budget and the disk allow. ``hard_negatives``: rounds in which normal tiles of
    training slides that the model takes for tumour are added; ``hard_looked``: tiles it looks at in a round and
    ``hard_added``: those that are added (0: as many as were drawn, and a quarter of these).

    ``stride``: pixels of the finest tile between two places of a heat map. ``score`` of a slide, of its heat map: the
    ``maximum``, ``mean of 5`` (the highest), or ``auto``, chosen on tuning slides. ``radius`` in µm within which the highest
    place of a heat map stands for a lesion; ``window``: of a square of so many places a side the mean is the score of the
    place in its middle, 1, 3, 5 …; 0: chosen on tuning slides. ``least_tissue``: share of the middle square of a tile that must
    be tissue for it to be drawn for training, and to be looked at in a heat map.
    ``bits`` of a heat map, 8 or 16. ``pooling``: ``tiles``, or ``attention`` where slides have a label and no outlines (Ilse
    2018, arXiv:1802.04712); ``bag``: tiles of a slide that it weighs at most, evenly spread. ``tissue``: how it is told
    from glass, see :class:`overread.images.slides.tissue.TissueSettings`.

    >>> Tiles(mpp=(0.5, 1.0, 2.0)).views
    ('0.5', '1', '2')
    """

    size: int = 256
    mpp: tuple[float, ...] = (0.5,)
    centre: int = 128
    jitter: int = 8
    number: int = 0
    hard_negatives: int = 0
    hard_looked: int = 0
    hard_added: int = 0
    stride: int = 128
    score: str = "auto"
    radius: float = 100.0
    window: int = 0
    least_tissue: float = 0.25
    bits: int = 16
    pooling: str = "tiles"
    bag: int = 128
    tissue: TissueSettings = field(default_factory=TissueSettings)

    def __post_init__(self) -> None:
        one_of(self.pooling, POOLINGS_OF_SLIDES, "tiles.pooling")
        require(16 <= self.size <= 2048, "tiles.size must lie within 16 … 2048 pixels", given=self.size)
        many = f"tiles.mpp names 1 to {MOST_MAGNIFICATIONS} magnifications"
        require(1 <= len(self.mpp) <= MOST_MAGNIFICATIONS, many, given=self.mpp)
        require(all(0.05 <= mpp <= 64 for mpp in self.mpp), "tiles.mpp must lie within 0.05 … 64 µm a pixel", given=self.mpp)  # fmt: skip
        require(list(self.mpp) == sorted(set(self.mpp)), "tiles.mpp must rise, the finest first", given=self.mpp)
        require(len(set(self.views)) == len(self.mpp), "two magnifications of tiles.mpp are written alike", given=self.mpp)  # fmt: skip
        require(1 <= self.centre <= self.size, "tiles.centre must lie within 1 … size pixels", given=f"centre {self.centre}, size {self.size}",
                todo=f"set both: --set tiles.centre={max(1, self.size // 2)}")  # fmt: skip
        require(1 <= self.stride <= self.size, "tiles.stride must lie within 1 … size pixels, or places between are never looked at",
                given=f"stride {self.stride}, size {self.size}", todo=f"set both: --set tiles.stride={max(1, self.size // 2)}")  # fmt: skip
        require(0 <= self.jitter <= self.size // 2, "tiles.jitter must lie within 0 … half of the size", given=self.jitter)  # fmt: skip
        for name in ("number", "hard_negatives", "hard_looked", "hard_added"):
            require(getattr(self, name) >= 0, f"tiles.{name} must not be negative", given=getattr(self, name))
        require(_SCORE.fullmatch(self.score) is not None, "there is no such score of a slide", given=self.score,
                todo="say auto, maximum, or mean of K, such as mean of 5")  # fmt: skip
        require(0 < self.radius <= 1e5, "tiles.radius must lie above 0 and up to 100,000 µm", given=self.radius)
        require(self.window == 0 or (self.window % 2 == 1 and 1 <= self.window <= 99), "tiles.window must be 0, or odd and up to 99", given=self.window)  # fmt: skip
        require(0 <= self.least_tissue <= 1, "tiles.least_tissue is a share within 0 … 1", given=self.least_tissue)
        require(self.bits in (8, 16), "tiles.bits must be 8 or 16", given=self.bits)
        require(1 <= self.bag <= 4096, "tiles.bag must lie within 1 … 4096 tiles", given=self.bag)

    @property
    def views(self) -> tuple[str, ...]:
        """What the view of each magnification is called: its microns a pixel."""
        return tuple(f"{mpp:g}" for mpp in self.mpp)

    @property
    def side(self) -> float:
        """Microns of a side of the finest tile.

        >>> Tiles(size=256, mpp=(0.5, 2.0)).side
        128.0
        """
        return self.size * self.mpp[0]

    @property
    def middle(self) -> float:
        """Microns of a side of the middle square, whose content is the label of a tile and whose tissue decides whether it is
        looked at.

        >>> Tiles(centre=128, mpp=(0.5, 2.0)).middle
        64.0
        """
        return self.centre * self.mpp[0]

    @property
    def step(self) -> float:
        """Microns between two places of a heat map."""
        return self.stride * self.mpp[0]
