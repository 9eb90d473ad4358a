"""Does a map depend on what the network learned? Its weights are redrawn from the head down, and the maps compared.

Adebayo et al. 2018, "Sanity checks for saliency maps", section 3: a map that stays as it is when the weights are random
shows the image, not the network. What it is then most often is an edge detector, so edges are held beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from overread.core import random
from overread.core.errors import checked, require
from overread.learning.ensemble import Committee, sides_of

#: A network and what it sees, (B, C, [D,] H, W) or (B, V, C, [D,] H, W), to maps (B, [V,] [D,] H, W).
Method: TypeAlias = Callable[[nn.Module, Tensor], Tensor]
Floats = NDArray[np.float64]

#: Side of the window of SSIM, scikit-image's default.
_WINDOW = 7
#: The coarse edges that a map of low resolution is held against are blurred by this part of the side.
_COARSE = 1 / 16


@dataclass(frozen=True)
class Likeness:
    """How alike two maps are: rank correlation (Spearman) without and with sign, and SSIM of what is seen, −1 … 1.

    NaN where one of the maps is the same everywhere or holds numbers that are not finite.
    """

    rank: float
    signed: float
    ssim: float


@dataclass(frozen=True)
class Step:
    """Likeness to the trained network's map once everything from the head down to ``layer`` is random."""

    layer: str
    rank: float
    signed: float
    ssim: float


@checked
def cascade(
    method: Method, network: nn.Module, x: Tensor, *, maps: Tensor | None = None, steps: int = 4, draws: int = 3,
    seed: int = 0,
) -> tuple[tuple[Step, ...], ...]:  # fmt: skip
    """The cascading randomisation of B cases: of each, a :class:`Step` for every depth, from the head down to all weights.

    ``maps``: the trained network's maps (B, …), where they are at hand. ``steps``: depths, the head first, the rest in
    equal parts in the order in which the network runs them; of an ensemble all members at once. ``draws``: how often all
    weights are redrawn; the last step is the mean over them. Every parameter is redrawn from a normal distribution with
    the mean and spread of its trained values, so also scale and shift of batch norm; running statistics stay as they are.
    A map that is blank or not finite with random weights is as unlike as can be: 0.

    Only a copy of the network is redrawn: the trained weights cannot be left random by an error, a kill, or another
    thread that predicts meanwhile.
    """
    require(steps >= 1 and draws >= 1, "the randomisation needs a step and a draw at least", given=(steps, draws))
    trained = as_maps(method(network, x) if maps is None else maps)
    depths = depths_of(network, x, steps)
    found: list[list[Step]] = [[] for _ in trained]
    for last in range(len(depths)):
        many = draws if last == len(depths) - 1 else 1
        made = [as_maps(method(redrawn(network, depths[: last + 1], seed + draw), x)) for draw in range(many)]
        for case, before in enumerate(trained):
            numbers = np.array([_changed(before, each[case]) for each in made]).mean(axis=0)
            found[case].append(Step(depths[last][-1], *map(float, numbers)))
    return tuple(tuple(each) for each in found)


@checked
def redrawn(network: nn.Module, depths: Sequence[tuple[str, ...]], seed: int = 0) -> nn.Module:
    """A copy of a network in which the modules of these names are random; see :func:`cascade`."""
    copied = copy.deepcopy(network)
    with torch.no_grad():
        for name in (name for depth in depths for name in depth):
            for key, parameter in copied.get_submodule(name).named_parameters(recurse=False):
                generator = torch.Generator().manual_seed(int(random.bits(seed, 0, 0, f"{name}.{key}") >> np.uint64(1)))
                values = parameter.float()
                spread = float(values.std()) if values.numel() > 1 else 0.0
                drawn = torch.randn(parameter.shape, generator=generator) * spread + float(values.mean())
                parameter.copy_(drawn.to(parameter))
    return copied


@checked
def depths_of(network: nn.Module, x: Tensor, steps: int) -> list[tuple[str, ...]]:
    """The names of the modules with parameters, in at most ``steps`` groups from the head down; of a committee, all
    members' heads are the first group.
    """
    if isinstance(network, Committee):
        each = [
            _grouped([f"members.{i}.{name}".rstrip(".") for name in _in_order(member, x)], steps)  # type: ignore[arg-type]
            for i, member in enumerate(network.members)
        ]
        longest = max(map(len, each))
        return [tuple(name for found in each for name in (found[i] if i < len(found) else ())) for i in range(longest)]
    return _grouped(_in_order(network, x), steps)


def _grouped(names: list[str], steps: int) -> list[tuple[str, ...]]:
    head, rest = names[:1], names[1:]
    parts = [part.tolist() for part in np.array_split(np.array(rest, dtype=object), max(1, steps - 1)) if len(part)]
    return [tuple(part) for part in ([head, *parts] if steps > 1 else [names])]


def _in_order(network: nn.Module, x: Tensor) -> list[str]:
    """Names of the modules that hold parameters, last run first; what never runs goes with what it is part of."""
    names = {module: name for name, module in network.named_modules()}
    first: dict[str, int] = {}

    def note(module: nn.Module, _: Any) -> None:
        first.setdefault(names[module], len(first))

    hooks = [module.register_forward_pre_hook(note) for module in names]
    try:
        with torch.inference_mode():
            network(x[:1])
    finally:
        for hook in hooks:
            hook.remove()

    def when(name: str) -> int:
        while name and name not in first:
            name = name.rpartition(".")[0]
        return first.get(name, 0)

    held = [name for module, name in names.items() if any(True for _ in module.parameters(recurse=False))]
    require(bool(held), "the network has no weights that could be random")
    return sorted(held, key=when, reverse=True)


def _changed(before: Floats, after: Floats) -> tuple[float, float, float]:
    found = likeness(before, after)
    return tuple(0.0 if np.isnan(number) else number for number in (found.rank, found.signed, found.ssim))  # type: ignore[return-value]


# -- how alike two maps are -------------------------------------------------------------------------------------------


@checked
def likeness(one: NDArray[Any], other: NDArray[Any]) -> Likeness:
    """How alike two maps of one shape, ([V,] [D,] H, W), are.

    Ranks: Spearman's correlation of absolute values, and of values with their sign (Adebayo 2018, section 3). SSIM (Wang
    2004; scikit-image's, window 7, or the largest odd one that fits) of absolute values divided by their largest.

    >>> ramp = np.arange(64.0).reshape(8, 8)
    >>> alike = likeness(ramp, 2 * ramp)
    >>> round(alike.rank, 6), round(alike.signed, 6), round(alike.ssim, 6)
    (1.0, 1.0, 1.0)
    """
    require(one.shape == other.shape, "maps can be compared only in one shape", given=f"{one.shape}, {other.shape}")
    if is_blank(one) or is_blank(other):
        return Likeness(np.nan, np.nan, np.nan)
    return Likeness(_rank(abs(one), abs(other)), _rank(one, other), _ssim(abs(one), abs(other)))


@checked
def is_blank(values: NDArray[Any]) -> bool:
    """Whether a map is the same everywhere (but for rounding), or not finite somewhere."""
    return not np.isfinite(values).all() or bool(np.ptp(values) <= 1e-6 * np.abs(values).max())


def _rank(one: NDArray[Any], other: NDArray[Any]) -> float:
    if is_blank(one) or is_blank(other):
        return float("nan")
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def _ssim(one: NDArray[Any], other: NDArray[Any]) -> float:
    one, other = one / one.max(), other / other.max()
    shortest = min(one.shape[-2:])
    window = min(_WINDOW, shortest - 1 + shortest % 2)
    if window < 3:
        return float("nan")
    planes = one.ndim == 3 and one.shape[0] < window  # views, or a volume of few slices
    return float(structural_similarity(one, other, win_size=window, data_range=1.0, channel_axis=0 if planes else None))


@checked
def edge_likeness(values: NDArray[Any], x: NDArray[Any], network: nn.Module | None = None) -> float:
    """Spearman's correlation of a map's absolute values with the edges of the image ``x`` ([V,] C, [D,] H, W).

    Edges are Sobel's, of the mean channel; also blurred by 1/16 of the side, for maps of low resolution. The larger counts.
    NaN where map or image is the same everywhere.
    """
    sides = sides_of(network) if network is not None else 0
    sharp = edges(x, sides)
    blur = [0.0] * (sharp.ndim - _sides(x, sides)) + [_COARSE * n for n in sharp.shape[-_sides(x, sides) :]]
    found = [_rank(abs(values), each) for each in (sharp, ndimage.gaussian_filter(sharp, blur))]
    return float(np.nanmax(found)) if np.isfinite(found).any() else float("nan")


@checked
def edges(x: NDArray[Any], sides: int = 0) -> Floats:
    """The magnitude of Sobel's derivatives of an image ([V,] C, [D,] H, W), its channels averaged: ([V,] [D,] H, W).

    ``sides``: 2 or 3 where ``x`` holds several images or volumes, 0 for a single one. A missing image (NaN) has none.
    """
    sides = _sides(x, sides)
    grey = np.nan_to_num(np.asarray(x, np.float64).mean(axis=x.ndim - sides - 1))
    planes = grey.reshape(-1, *grey.shape[grey.ndim - sides :])  # Sobel blurs across, which must not reach another view
    found = [np.sqrt(sum(ndimage.sobel(plane, axis) ** 2 for axis in range(sides))) for plane in planes]
    return np.stack(found).reshape(grey.shape)


def _sides(x: NDArray[Any], sides: int) -> int:
    return sides or x.ndim - 1


@checked
def as_maps(maps: Tensor) -> list[Floats]:
    """Maps (B, …) as arrays of float64, a missing image's NaN as 0."""
    values = maps.detach().to("cpu", torch.float64).numpy()
    return [np.nan_to_num(each, nan=0.0) if np.isnan(each).any() and _missing(each) else each for each in values]


def _missing(values: Floats) -> bool:
    """Whether NaN fills whole images and nothing else of a case's maps, ([V,] …)."""
    nan = np.isnan(values)
    return values.ndim > 2 and all(plane.all() or not plane.any() for plane in nan) and not nan.all()
