"""What a network says of each place of an image so that objects can be cut out of it; without torch.

A head is what is learned of a place. All of them say how probable an object is there, pixel by pixel; the stronger ones
say besides what keeps objects apart that touch:

- ``sigmoid``: nothing. Objects are the connected parts of the foreground: the baseline of courses.
- ``boundary``: how probable it is that the pixel lies at the rim of its object (Ronneberger 2015, arXiv:1505.04597, as
  a class of its own: Caicedo 2019, doi:10.1002/cyto.a.23863). The parts within the rims grow by a watershed.
- ``offsets``: how near the centre of the object is, and where: each pixel goes to the centre that it points at (Cheng
  2020, arXiv:1911.10194; the maps to the centre of Graham 2019, arXiv:1812.06499).
- ``stars``: how near the centre is, and how far the rim along each of some rays (Schmidt 2018, arXiv:1806.03535).

The network answers on a grid of one place in ``stride`` × ``stride`` pixels. What is said pixel by pixel has as many
channels as the place has pixels (Shi 2016, arXiv:1609.05158).
"""

from __future__ import annotations

from dataclasses import dataclass

from overread.core.errors import checked, one_of, require
from overread.core.files import later

INSTANCE_HEADS = ("sigmoid", "boundary", "offsets", "stars")
#: The one that a plan takes; see docs/decisions/cells.md.
STRONGEST = "offsets"
STRIDES = (1, 2, 4)
#: Offsets and rays are learned in so many pixels, so that a network has to say small numbers.
UNIT = 16.0


@dataclass(frozen=True)
class Segmentation:
    """How outlines of objects are learned; 0 or "" is chosen by the plan.

    ``head``: one of :data:`INSTANCE_HEADS`. ``tile``: the side in pixels of what is shown in training. ``tiles``: how many
    an epoch has. ``stride``: pixels along a side of a place of the network's answer. ``depth``: how often the encoder
    halves the image before the decoder begins. ``rays`` of a star. ``boundary_weight`` w0 and ``boundary_sigma`` σ, in
    pixels, of the loss ``boundary-weighted``. ``low`` and ``high``: the percentiles of each channel of an image that
    become 0 and 1. ``invert`` and ``grey``: the share of training tiles that are shown as their negative, and without
    their colours. ``margin``: pixels around a tile that are seen and not answered for where an image is taken tile by
    tile; ``largest``: the side of such a tile. ``zoom``: pixels of the image that become one of the network's along a side, so
    that objects are of a size that it sees whole; tiles, margins and rays are counted in the network's pixels. ``enlarge``:
    the most times that an image is shown larger whose objects are small, 1 never; ``as_it_is``: the share of training tiles
    that are not enlarged, of which the network learns to tell how large the objects of a new image are.
    """

    head: str = ""
    tile: int = 0
    tiles: int = 0
    stride: int = 2
    depth: int = 4
    rays: int = 32
    boundary_weight: float = 10.0
    boundary_sigma: float = 5.0
    low: float = 1.0
    high: float = 99.8
    invert: float = 0.15
    grey: float = 0.2
    margin: int = 64
    largest: int = 640
    zoom: int = 0
    enlarge: float = later(0.0)
    as_it_is: float = later(0.25)

    def __post_init__(self) -> None:
        one_of(self.head, ("", *INSTANCE_HEADS), "the head")
        require(self.stride in STRIDES, "the stride of a place is 1, 2 or 4 pixels", given=self.stride)
        require(2 <= self.depth <= 5, "depth must lie within 2 … 5", given=self.depth)
        require(
            self.rays % 4 == 0 and 8 <= self.rays <= 128, "rays must be a multiple of 4 within 8 … 128", given=self.rays
        )
        require(
            0 <= self.low < self.high <= 100,
            "low and high are percentiles, low below high",
            given=f"{self.low:g}, {self.high:g}",
        )
        require(self.boundary_weight >= 0 and self.boundary_sigma > 0, "boundary_weight must not be negative, boundary_sigma above 0",
                given=f"{self.boundary_weight:g}, {self.boundary_sigma:g}")  # fmt: skip
        require(
            0 <= self.invert <= 1 and 0 <= self.grey <= 1,
            "invert and grey are shares within 0 … 1",
            given=f"{self.invert:g}, {self.grey:g}",
        )
        require(
            self.tile == 0 or (64 <= self.tile <= 1024 and self.tile % 32 == 0),
            "tile must be a multiple of 32 within 64 … 1024",
            given=self.tile,
        )
        require(self.tiles >= 0, "tiles must not be negative", given=self.tiles)
        require(self.margin >= 0 and self.margin % 32 == 0, "margin must be a multiple of 32", given=self.margin)
        require(self.zoom in (0, 1, 2, 4, 8), "zoom must be 1, 2, 4 or 8, or 0 for the plan to choose", given=self.zoom)
        require(
            self.enlarge == 0 or 1 <= self.enlarge <= 8,
            "enlarge must lie within 1 … 8, or be 0 for the plan to choose",
            given=f"{self.enlarge:g}",
        )
        require(0 <= self.as_it_is <= 1, "as_it_is is a share within 0 … 1", given=f"{self.as_it_is:g}")
        fits = self.largest % 32 == 0 and 2 * self.margin < self.largest <= 4096
        require(fits, "largest must be a multiple of 32, above twice the margin and at most 4096", given=self.largest)


@dataclass(frozen=True)
class Cutting:
    """How objects are cut out of what a network says: chosen on tuning images, kept in the model.

    ``foreground``: the least probability of a pixel of an object; ``centre``: of the place that stands for an object, or
    of ``boundary`` the most that a pixel within the rims may say of a rim. ``apart``: within so many places there is one
    centre; of stars the share of a ray within which another centre counts as the same object. ``compactness`` of the
    watershed. ``minimum``: the least pixels of an object; what is smaller is left out.
    """

    foreground: float = 0.5
    centre: float = 0.4
    apart: float = 1.0
    compactness: float = 0.0
    minimum: int = 16

    def __post_init__(self) -> None:
        within = 0 <= self.foreground <= 1 and 0 <= self.centre <= 1
        require(within, "foreground and centre are probabilities", given=f"{self.foreground:g}, {self.centre:g}")
        require(self.apart >= 0 and self.compactness >= 0 and self.minimum >= 0, "apart, compactness and minimum must not be negative",
                given=f"{self.apart:g}, {self.compactness:g}, {self.minimum}")  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Which channels of a network's answer hold what, of one head.

    ``pixels``: maps that are said pixel by pixel; ``places``: those that are said place by place, in the order ``heat``,
    then two offsets (down, right) or the rays, then classes.
    """

    head: str
    stride: int
    rays: int
    classes: int

    @property
    def pixels(self) -> int:
        """Maps with a value for each pixel: the foreground, and of ``boundary`` the rims."""
        return 2 if self.head == "boundary" else 1

    @property
    def geometry(self) -> int:
        """Maps that keep objects apart: none, heat and two offsets, or heat and the rays."""
        return {"offsets": 3, "stars": 1 + self.rays}.get(self.head, 0)

    @property
    def places(self) -> int:
        """Maps with a value for each place."""
        return self.geometry + (self.classes if self.classes > 1 else 0)

    @property
    def channels(self) -> int:
        """Channels of the network's answer."""
        return self.pixels * self.stride**2 + self.places


@checked
def layout_of(segmentation: Segmentation, classes: int) -> Layout:
    """What the answer of a network with this head holds, of objects of so many classes.

    >>> layout_of(Segmentation(head="stars"), classes=1).channels
    37
    """
    require(bool(segmentation.head), "the head is still open", todo="settle it with a plan")
    require(classes >= 1, "objects have at least one class", given=classes)
    return Layout(segmentation.head, segmentation.stride, segmentation.rays, classes)
