"""Is what a map points at what moves the output? Insertion and deletion, beside maps that know nothing of the network.

Petsiuk et al. 2018 (RISE), section 4: the most important places are taken away from the image first (deletion) or put into
a blank one first (insertion), and the area under the probability is read. We take squares rather than pixels, as region
perturbation does (Samek et al. 2017), so that a map is not rewarded for the noise that scattered pixels make; and the same
blank image for both. ``cell=1`` is RISE's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from overread.core import random
from overread.core.errors import checked, one_of, require
from overread.learning.ensemble import sides_of

Floats = NDArray[np.float64]
#: Outputs (B, K) of a network to the number (B,) that a map explains, such as a probability.
Score: TypeAlias = Callable[[Tensor], Tensor]

#: Squares along a side by default: those of a ViT at 224 pixels and of the last maps of most networks.
CELLS = 14
#: The random maps are as coarse as Grad-CAM's of most networks: 7 numbers along a side, as RISE's masks have.
_GRAIN = 7
#: The spot in the centre has a quarter of the side as its standard deviation.
_SPOT = 1 / 4
#: The blurred image has lost what is smaller than this part of the side.
_BLUR = 1 / 8
FILLS = ("blurred", "mean")


@dataclass(frozen=True, eq=False)
class Curves:
    """Scores of M maps as ever more of the image is put in or taken away, (M, steps + 1), at equal shares from 0 to 1."""

    insertion: Floats
    deletion: Floats

    @property
    def inserted(self) -> Floats:
        """(M,) area under the insertion curves: larger is better."""
        return _area(self.insertion)

    @property
    def deleted(self) -> Floats:
        """(M,) area under the deletion curves: smaller is better."""
        return _area(self.deletion)

    @property
    def lowest(self) -> float:
        """The least score on any curve: half a lesion may look less like one than none."""
        return float(min(self.insertion.min(), self.deletion.min()))

    @property
    def highest(self) -> float:
        """The largest score on any curve."""
        return float(max(self.insertion.max(), self.deletion.max()))


def _area(curves: Floats) -> Floats:
    return np.asarray((curves[:, 1:] + curves[:, :-1]).mean(axis=1) / 2)


@checked
def insertion_deletion(
    network: nn.Module, x: Tensor, maps: NDArray[Any], score: Score, *, steps: int = 8, cell: int = 0,
    fill: str = "blurred", batch: int = 32, seed: int = 0,
) -> Curves:  # fmt: skip
    """Insertion and deletion of one case ``x`` (1, [V,] C, [D,] H, W) by each of M ``maps`` (M, [V,] [D,] H, W).

    ``cell``: side of the squares in pixels, 0 for a fourteenth of the image. ``fill``: what the blank image is: ``blurred``,
    by an eighth of the side, or the ``mean`` of each channel. Squares go by the mean of the map within them, largest first;
    among equal ones ``seed`` draws.
    """
    require(steps >= 1 and batch >= 1, "insertion needs a step and a batch at least", given=(steps, batch))
    sides = sides_of(network) or x.ndim - 2
    require(len(x) == 1 and maps.shape[1:] == _spatial(x, sides)[1:], "the maps must have the sides of one case",
            given=f"{tuple(x.shape)}, maps {maps.shape}")  # fmt: skip
    index, count = _cells(maps.shape[1:], sides, cell)
    places = torch.from_numpy(np.stack([_places(each, index, count, seed) for each in maps])).to(x.device)  # (M, …)
    blank = blanked(x, fill, sides)
    axis = x.ndim - sides - 1
    jobs = [(m, k, put) for put in (True, False) for m in range(len(maps)) for k in range(1, steps)]
    found = np.empty((2, len(maps), steps + 1))
    ends = _scores(network, torch.cat([blank, x]), score)
    found[0, :, 0], found[0, :, -1] = ends[0], ends[1]
    found[1, :, 0], found[1, :, -1] = ends[1], ends[0]
    for start in range(0, len(jobs), batch):
        some = jobs[start : start + batch]
        first = torch.stack([places[m] < round(count * k / steps) for m, k, _ in some]).unsqueeze(axis)
        put = torch.tensor([put for *_, put in some], device=x.device).view(-1, *[1] * (x.ndim - 1))
        values = _scores(network, torch.where(first == put, x, blank), score)
        for (m, k, inserted), value in zip(some, values, strict=True):
            found[0 if inserted else 1, m, k] = value
    return Curves(found[0], found[1])


@torch.inference_mode()
def _scores(network: nn.Module, x: Tensor, score: Score) -> Floats:
    return score(network(x).float()).double().cpu().numpy()


def _spatial(x: Tensor, sides: int) -> tuple[int, ...]:
    """The shape of the maps of ``x``: its own without the channels."""
    axis = x.ndim - sides - 1
    return tuple(x.shape[:axis] + x.shape[axis + 1 :])


def _cells(shape: tuple[int, ...], sides: int, cell: int) -> tuple[NDArray[np.int64], int]:
    """Which square each place of a map belongs to, and how many there are; views have their own."""
    whole = len(shape) - sides
    steps = [1] * whole + [cell or max(1, round(n / CELLS)) for n in shape[whole:]]
    counts = [-(-n // step) for n, step in zip(shape, steps)]
    grids = np.meshgrid(*(np.arange(n) // step for n, step in zip(shape, steps)), indexing="ij")
    return np.ravel_multi_index(tuple(grids), counts), int(np.prod(counts))


def _places(values: Floats, index: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """The rank of the square that each place is in, 0 for the largest mean."""
    means = ndimage.mean(np.nan_to_num(values), index, np.arange(count))
    shuffled = random.permutation(seed, 0, count, "ties")
    order = shuffled[np.argsort(-means[shuffled], kind="stable")]
    ranks = np.empty(count, np.int64)
    ranks[order] = np.arange(count)
    return ranks[index]


@checked
def blanked(x: Tensor, fill: str = "blurred", sides: int = 0) -> Tensor:
    """Images without what they show: ``blurred`` by an eighth of the side, or the ``mean`` of each channel.

    ``x`` (B, [V,] C, [D,] H, W); ``sides``: 2 or 3 where it holds several images or volumes.
    """
    one_of(fill, FILLS, "the fill")
    sides = sides or x.ndim - 2
    space = tuple(range(x.ndim - sides, x.ndim))
    if fill == "mean":
        return x.mean(dim=space, keepdim=True).expand_as(x).contiguous()
    sigma = [0.0] * (x.ndim - sides) + [_BLUR * n for n in x.shape[-sides:]]
    return torch.from_numpy(ndimage.gaussian_filter(x.cpu().numpy(), sigma, mode="nearest")).to(x)


# -- maps that know nothing of the network ----------------------------------------------------------------------------


@checked
def centred(shape: tuple[int, ...], sides: int = 0) -> Floats:
    """A Gaussian spot in the centre of each image, ([V,] [D,] H, W): what a photographer points at knows as much.

    >>> [int(place) for place in np.unravel_index(centred((9, 5)).argmax(), (9, 5))]
    [4, 2]
    """
    sides = sides or len(shape)
    exponent = np.zeros(shape[-sides:])
    for axis, n in enumerate(shape[-sides:]):
        away = (np.arange(n) - (n - 1) / 2) / (_SPOT * n)
        exponent = exponent + (away**2 / 2).reshape([-1 if i == axis else 1 for i in range(sides)])
    return np.broadcast_to(np.exp(-exponent), shape).copy()


@checked
def random_maps(shape: tuple[int, ...], count: int, seed: int = 0, sides: int = 0) -> Floats:
    """``count`` random maps (count, [V,] [D,] H, W), as smooth as Grad-CAM's: a coarse grid of numbers, enlarged."""
    sides = sides or len(shape)
    whole, sizes = shape[: len(shape) - sides], shape[len(shape) - sides :]
    grid = [min(_GRAIN, n) for n in sizes]
    many = count * int(np.prod(whole, dtype=int))
    drawn = random.uniform(seed, 0, np.arange(many * int(np.prod(grid))), "random map").reshape(many, 1, *grid)
    mode = "trilinear" if sides == 3 else "bilinear"
    made = nn.functional.interpolate(torch.from_numpy(drawn), size=list(sizes), mode=mode, align_corners=False)
    return made[:, 0].reshape(count, *shape).numpy()


# -- against a mask ---------------------------------------------------------------------------------------------------


@checked
def precision_recall_area(values: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """AUPRC: the average precision of a map's places as a detector of the mask (Arun 2021); NaN where the mask is empty or full.

    >>> precision_recall_area(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([[False, True], [True, False]]))
    1.0
    """
    require(values.shape == mask.shape, "map and mask must have one shape", given=f"{values.shape}, {mask.shape}")
    if not mask.any() or mask.all():
        return float("nan")
    return float(average_precision_score(mask.ravel(), np.nan_to_num(values).ravel()))


@checked
def points_at(values: NDArray[Any], mask: NDArray[np.bool_]) -> float:
    """The pointing game (Zhang et al. 2018), without tolerance: the share of a map's largest places that lie in the mask.

    1 or 0 where one place is the largest. NaN where the mask is empty or full.
    """
    require(values.shape == mask.shape, "map and mask must have one shape", given=f"{values.shape}, {mask.shape}")
    if not mask.any() or mask.all():
        return float("nan")
    largest = np.nan_to_num(values) == np.nanmax(values)
    return float(mask[largest].mean())
