"""The data of a training, and its batches: order, augmentation and normalisation are functions of (seed, epoch, row)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional

from overread.cases.arrange import Arrangement, arrange
from overread.cases.cases import Cases, paths
from overread.cases.extra_inputs import ExtraInput, extra_values, fit_extra_inputs
from overread.core import random
from overread.core.errors import InputError, checked, require
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.images.augment import Augmentation, Drawn, apply, draw
from overread.images.preprocess import Preprocess, fit_normalisation
from overread.images.slides.stain import DARKEST, stain_maps
from overread.images.store import pack
from overread.learning.device import standardise, to_unit
from overread.learning.recipe import Recipe
from overread.networks.backbones import BACKBONES
from overread.networks.numeric_inputs import with_planes

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What models are fitted on: decoded images with their answers, and which rows teach and which tune.

    ``images`` (N, H, W, C) or (N, D, H, W, C), memory-mapped, of the geometry of ``preprocess``; row i is the image of
    row i of ``cases``, whose columns say which case and which patient it belongs to. ``digests``: SHA-256 of the bytes
    of each. ``training`` and ``tuning``: rows, ascending, disjoint; others are neither learned from nor looked at.
    """

    cases: Cases
    images: NDArray[Any]
    digests: tuple[str, ...]
    preprocess: Preprocess
    training: NDArray[np.int64]
    tuning: NDArray[np.int64]

    def __post_init__(self) -> None:
        require(len(self.images) == len(self.cases), "there must be one image for each row of the cases",
                given=f"{len(self.images)} for {len(self.cases)}")  # fmt: skip
        require(bool(len(self.training) and len(self.tuning)), "rows for training and for tuning are needed",
                given=f"{len(self.training)} and {len(self.tuning)}")  # fmt: skip
        require(not np.intersect1d(self.training, self.tuning).size, "a row cannot both teach and tune")

    @property
    def failed(self) -> dict[int, str]:
        """Rows without an image: none, for :func:`decode` refuses them."""
        return {}

    def on(self, training: NDArray[np.int64], tuning: NDArray[np.int64]) -> TrainingData:
        """The same images with other rows: a fold, a member of an ensemble, fewer patients. Nothing is decoded again."""
        return replace(self, training=np.sort(training), tuning=np.sort(tuning))

    def extra(self, recipe: Recipe) -> tuple[ExtraInput, ...]:
        """The columns that the recipe shows beside the pixels, with their mean and deviation in the training rows."""
        return fit_extra_inputs(self.cases.take(self.training), recipe.extra_inputs) if recipe.extra_inputs else ()

    def numbers(self, recipe: Recipe) -> NDArray[np.float32] | None:
        """What the recipe shows beside the pixels of each image, (N, E), as the table has it; None where nothing is."""
        return extra_values(self.cases, recipe.extra_inputs) if recipe.extra_inputs else None


@dataclass(frozen=True, eq=False)
class Samples:
    """What a network answers for: each image, or each case of several.

    ``first`` (M,): the row of the data that stands for each sample, by its label and patient. ``training`` and
    ``tuning``: which samples teach and which tune. ``cases`` (M, V): the rows of the images of each case in their
    places, −1 where one is missing; None where a sample is an image. ``views``: the names of the places, if they have any.
    """

    first: NDArray[np.int64]
    training: NDArray[np.int64]
    tuning: NDArray[np.int64]
    cases: NDArray[np.int64] | None = None
    views: tuple[str, ...] = ()

    def one_by_one(self, training: NDArray[np.int64]) -> Samples:
        """Each image of the cases as a sample of its own, in its place: what one classifier a view learns from.

        ``training``: the cases whose images teach; those of tuning tune.
        """
        if self.cases is None:
            return replace(self, training=training)
        case, place = np.nonzero(self.cases >= 0)
        alone = np.full((len(case), self.cases.shape[1]), -1, np.int64)
        alone[np.arange(len(case)), place] = self.cases[case, place]
        return replace(self, first=self.cases[case, place], cases=alone, training=np.flatnonzero(np.isin(case, training)),
                       tuning=np.flatnonzero(np.isin(case, self.tuning)))  # fmt: skip


@checked
def samples_of(data: TrainingData, recipe: Recipe) -> Samples:
    """The samples of a training by the recipe's ``fusion``; raises :class:`InputError` as :func:`arranged` does."""
    if recipe.fusion == "single":
        return Samples(np.arange(len(data.cases)), data.training, data.tuning)
    teaching, choosing = arranged(data.cases, data.training, data.tuning, recipe)
    places = max(teaching.rows.shape[1], choosing.rows.shape[1])
    parts = [(data.training, teaching.rows), (data.tuning, choosing.rows)]
    rows = np.concatenate([
        np.pad(np.where(found >= 0, own[found], -1), ((0, 0), (0, places - found.shape[1])), constant_values=-1)
        for own, found in parts
    ])  # fmt: skip
    first = np.where(rows >= 0, rows, len(data.cases)).min(axis=1)
    _refuse_torn_labels(data.cases, rows, first)
    return Samples(first, np.arange(len(teaching)), np.arange(len(teaching), len(rows)), rows, teaching.views)


@checked
def arranged(
    cases: Cases, training: NDArray[np.int64], tuning: NDArray[np.int64], recipe: Recipe
) -> tuple[Arrangement, Arrangement]:
    """The images of the training cases and of the tuning cases in their places, rows counted within each part.

    Raises :class:`InputError` where the fusion of the recipe cannot be had of these cases.
    """
    most, fusion = recipe.images_per_case, recipe.fusion
    teaching = arrange(cases.take(training), fusion, most=most)
    if int(teaching.per_case.max()) == 1:
        raise InputError(f"the fusion {fusion} needs cases of several images", given=f"{count(len(teaching), 'training case')} of one image each",
                         todo="name with --case the column that the images of one case share (and with --view or --time what tells them apart), or leave --fusion out")  # fmt: skip
    return teaching, arrange(cases.take(tuning), fusion, views=teaching.views, most=most)


def _refuse_torn_labels(cases: Cases, rows: NDArray[np.int64], first: NDArray[np.int64]) -> None:
    """Raise :class:`InputError` where the images of one case have different labels: there is no one answer for it."""
    labels = np.asarray(cases.labels, np.float64).reshape(len(cases), -1)
    case, place = np.nonzero(rows >= 0)
    torn = ~np.isclose(labels[rows[case, place]], labels[first[case]], equal_nan=True).all(axis=1)
    if torn.any():
        raise InputError("the images of one case have different labels", given=f"{count(len(np.unique(case[torn])), 'case')} of {len(rows):,}",
                         todo="correct the labels, choose another column with --case, or leave --fusion out")  # fmt: skip


class UnreadImagesError(InputError):
    """Images of a training cannot be read; ``addresses``: which ones, for the caller alone, as they name files."""

    addresses: tuple[str, ...] = ()


@checked
def decode(
    cases: Cases,
    training: NDArray[np.int64],
    tuning: NDArray[np.int64],
    preprocess: Preprocess,
    cache: Path,
    *,
    digests: dict[str, str] | None = None,
    threads: int = 0,
    progress: Progress = silent,
    say: Say = unheard,
) -> TrainingData:
    """The data of a training, its images decoded once into a store under ``cache``.

    ``digests``: SHA-256 of image files by address, as far as they are known. ``say`` hears how many images of the store
    were damaged and have been decoded again. Raises :class:`UnreadImagesError` where images cannot be read, and
    :class:`InputError` where a file has changed since its digest was taken.
    """
    addresses = paths(cases)
    known = [(digests or {}).get(address, "") for address in addresses]
    store = pack(addresses, preprocess, cache, digests=known, threads=threads, progress=progress)
    if store.rebuilt:
        say(f"  {store.rebuilt} of {len(store)} decoded images were damaged in the cache: they are decoded again")
    if store.failed:
        error = UnreadImagesError(f"{count(len(store.failed), 'image')} cannot be read", given=next(iter(store.failed.values())),
                                  todo="run `overread audit`, which sets them aside")  # fmt: skip
        error.addresses = tuple(addresses[row] for row in sorted(store.failed))
        raise error
    return TrainingData(cases, store.images, store.digests, preprocess, training, tuning)


@checked
def normalisation(data: TrainingData, recipe: Recipe) -> tuple[Preprocess, NDArray | None]:
    """The preprocessing with its numbers: what pretrained weights were trained with, else fitted on training rows.

    Descriptors alone need none. The second result is the mean image, where the recipe asks for it.
    """
    preprocess = data.preprocess
    if recipe.method == "features" and not recipe.backbone:  # descriptors, which are made from pixels as they are
        neutral = (0.0,) * preprocess.channels, (1.0,) * preprocess.channels
        return replace(preprocess, normalise="channel mean and std", mean=neutral[0], std=neutral[1]), None
    usual = preprocess.normalise == "channel mean and std" and preprocess.channels == 3
    if recipe.method in ("features", "finetune") and usual:
        contract = BACKBONES[recipe.backbone]
        return replace(preprocess, mean=contract.mean, std=contract.std), None
    return fit_normalisation(data, data.training, preprocess)


@runtime_checkable
class BatchSource(Protocol):
    """What a training asks of its data, whatever an answer is."""

    def __len__(self) -> int:
        """Steps in an epoch."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
        """``(rows, images, labels)`` from step ``start`` on; a pure function of its arguments."""
        ...

    def mixture(self, rows: NDArray[np.int64], epoch: int) -> Mixture | None:
        """What a batch of these rows is mixed by; None where nothing is."""
        ...


@dataclass(frozen=True, eq=False)
class Batches:
    """The training images of a pack, batch by batch.

    ``images`` (N, H, W, C) memory-mapped, ``rows`` the training rows, ``labels`` for all N rows. ``strata``: of the
    rows, to be drawn alike; None: every row once an epoch. ``mix``, ``mix_alpha``: as in the recipe. With ``cases`` (M,
    V), the rows of the images of each case and −1 for what it lacks, a row is a case: ``rows`` and ``labels`` are of the
    M cases, and their images come together. ``augment_by``: whether the images of a case are augmented alike (``case``)
    or each anew (``image``); the noise is always each image's own. ``numbers`` (N, E): what is shown beside the pixels.
    """

    images: NDArray[Any]
    rows: NDArray[np.int64]
    labels: Tensor
    size: int
    preprocess: Preprocess
    augmentation: Augmentation
    mean_image: NDArray[np.float32] | None = None
    seed: int = 0
    device: str = "cpu"
    threads: int = 0
    strata: NDArray[np.int64] | None = None
    mix: str = "none"
    mix_alpha: float = 0.2
    cases: NDArray[np.int64] | None = None
    augment_by: str = "case"
    numbers: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Steps in an epoch. Batches differ by at most one image, so none is too small for batch normalisation."""
        return max(1, round(len(self.rows) / self.size))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
        """``(rows, images (B, C, H, W), labels)`` from step ``start`` on, one batch prepared ahead."""
        places, copies = self._order(epoch)
        parts = np.array_split(np.stack([self.rows[places], copies]), len(self), axis=1)[start:]
        yield from ahead(self._load(rows, copy, epoch) for rows, copy in parts)

    def mixture(self, rows: NDArray[np.int64], epoch: int) -> Mixture | None:
        """What a batch of these rows is mixed by; None where nothing is."""
        if self.mix == "none":
            return None
        sides = self.images.shape[1:-1] if self.mix == "cutmix" else ()
        return draw_mixture(self.mix_alpha, sides, seed=self.seed, epoch=epoch, rows=rows)

    def _order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        if self.strata is not None:
            return balanced(self.strata, seed=self.seed, epoch=epoch)
        places = random.permutation(self.seed, epoch, len(self.rows))
        return places, np.zeros_like(places)

    def _load(
        self, rows: NDArray[np.int64], copies: NDArray[np.int64], epoch: int
    ) -> tuple[NDArray[np.int64], Tensor, Tensor]:
        labels = self.labels[torch.from_numpy(rows)].to(self.device)
        again = copies * len(self.images)  # a row that comes twice is not augmented alike
        if self.cases is None:
            x, mixture = self._images(rows, rows + again, epoch), self.mixture(rows, epoch)
            return rows, x if mixture is None else mixture.apply(x), labels
        members = self.cases[rows]  # (B, V)
        there = members >= 0
        first = np.where(there, members, len(self.images)).min(axis=1, keepdims=True)
        keys = np.broadcast_to(first if self.augment_by == "case" else members, members.shape) + again[:, None]
        return rows, side_by_side(self._images(members[there], keys[there], epoch), there), labels

    def _images(self, rows: NDArray[np.int64], keys: NDArray[np.int64], epoch: int) -> Tensor:
        """The images (B, C, H, W) at ``rows``, augmented by what is drawn for ``keys``: the same for equal keys."""
        *size, channels = self.images.shape[-3:]
        drawn = draw(self.augmentation, seed=self.seed, epoch=epoch, samples=keys, size=tuple(size), channels=channels)
        if self.cases is not None:
            drawn = replace(drawn, samples=keys // len(self.images) * len(self.images) + rows)  # which key the noise
        x = standardise(self._augmented(rows, drawn), self.preprocess, self.mean_image)
        return with_planes(x, None if self.numbers is None else self.numbers[rows])

    def _augmented(self, rows: NDArray[np.int64], drawn: Drawn) -> Tensor:
        """On the CPU by OpenCV, four to ten times quicker there; on another device by torch, but for CLAHE."""
        if self.device == "cpu" or drawn.clahe.any():
            return to_unit(apply(self.images, drawn, rows=rows, threads=self.threads), self.device)
        return augment(to_unit(self.images[rows], self.device), drawn)


@dataclass(frozen=True, eq=False)
class Bags:
    """The features of the images of cases, batch by batch: what a fusion on a frozen network learns from.

    ``features`` (N, F) of all images; ``cases`` (M, V), the rows of those of each case and −1 for what it lacks; ``rows`` the
    training cases, ``labels`` of all M; ``strata``: as in :class:`Batches`.
    """

    features: Tensor
    cases: NDArray[np.int64]
    rows: NDArray[np.int64]
    labels: Tensor
    size: int
    seed: int = 0
    device: str = "cpu"
    strata: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Steps in an epoch."""
        return max(1, round(len(self.rows) / self.size))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
        """``(rows, features (B, V, F), labels)`` from step ``start`` on; missing images are NaN."""
        if self.strata is None:
            places = random.permutation(self.seed, epoch, len(self.rows))
        else:
            places, _ = balanced(self.strata, seed=self.seed, epoch=epoch)
        for rows in np.array_split(self.rows[places], len(self))[start:]:
            yield rows, self.shown(rows), self.labels[torch.from_numpy(rows)].to(self.device)

    def mixture(self, rows: NDArray[np.int64], epoch: int) -> Mixture | None:
        """Nothing is mixed."""
        return None

    def shown(self, rows: NDArray[np.int64]) -> Tensor:
        """The features (B, V, F) of these cases."""
        members = torch.from_numpy(self.cases[rows])
        found = self.features[members.clamp(min=0)]
        return found.masked_fill((members < 0)[..., None], math.nan).to(self.device)


@checked
def balanced(strata: NDArray[np.int64], *, seed: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order of an epoch with as many of each stratum: places among the rows (N,), and which copy each is (N,).

    Every row of a stratum comes once before one comes again. A pure function of its arguments.

    >>> places, copies = balanced(np.array([0, 0, 0, 1]), seed=0, epoch=0)
    >>> sorted(np.array([0, 0, 0, 1])[places].tolist()), int(copies.max())
    ([0, 0, 1, 1], 1)
    """
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    places, copies = [], []
    for index, group in enumerate(groups):
        quota = len(strata) // len(groups) + ((index + epoch) % len(groups) < len(strata) % len(groups))
        for copy in range(-(-quota // len(group))):
            drawn = np.argsort(random.bits(seed, epoch, group, f"balanced sampling, copy {copy}"), kind="stable")
            places.append(group[drawn][: quota - copy * len(group)])
            copies.append(np.full(len(places[-1]), copy))
    order = random.permutation(seed, epoch, len(strata))
    return np.concatenate(places)[order], np.concatenate(copies)[order]


@dataclass(frozen=True, eq=False)
class Mixture:
    """How B images and their labels are mixed, each with another of the batch.

    ``partner`` (B,) places in the batch; ``own`` (B,) the share that is left of the image's own label. ``boxes`` (B,
    sides, 2): from where to where the partner's pixels are laid in (CutMix, Yun 2019, arXiv:1905.04899); None: both
    images laid over each other by their shares (mixup, Zhang 2018, arXiv:1710.09412).
    """

    partner: NDArray[np.int64]
    own: NDArray[np.float64]
    boxes: NDArray[np.int64] | None = None

    def apply(self, x: Tensor) -> Tensor:
        """The mixed images (B, C, H, W), volumes (B, C, D, H, W), or cases of several, (B, V, C, …)."""
        other = x[torch.from_numpy(self.partner).to(x.device)]
        if self.boxes is None:
            own = torch.as_tensor(self.own, dtype=x.dtype, device=x.device).reshape(-1, *[1] * (x.ndim - 1))
            return x * own + other * (1 - own)
        made = x.clone()
        for index, box in enumerate(self.boxes):
            inside: tuple[Any, ...] = (..., *(slice(int(low), int(high)) for low, high in box))
            made[index][inside] = other[index][inside]
        return made


@checked
def draw_mixture(alpha: float, sides: tuple[int, ...], *, seed: int, epoch: int, rows: NDArray[np.int64]) -> Mixture:
    """What each image of a batch is mixed with; a pure function of its arguments.

    ``sides``: of the images, for boxes that hold a share of the pixels; none for mixup.
    """
    ring = np.argsort(random.bits(seed, epoch, rows, "partner"), kind="stable")
    partner = np.empty(len(rows), np.int64)
    partner[ring] = np.roll(ring, -1)
    own = betaincinv(alpha, alpha, random.uniform(seed, epoch, rows, "mixing share"))
    if not sides:
        return Mixture(partner, own)
    boxes = np.empty((len(rows), len(sides), 2), np.int64)
    for axis, side in enumerate(sides):
        extent = side * (1 - own) ** (1 / len(sides))
        centre = random.uniform(seed, epoch, rows, f"box along {axis}", 0, side)
        boxes[:, axis, 0] = np.clip(np.rint(centre - extent / 2), 0, side)
        boxes[:, axis, 1] = np.clip(np.rint(centre + extent / 2), 0, side)
    return Mixture(partner, 1 - np.prod(boxes[..., 1] - boxes[..., 0], axis=1) / np.prod(sides), boxes)


@checked
def side_by_side(images: Tensor, there: NDArray[np.bool_]) -> Tensor:
    """Images (n, C, H, W) at their places in cases, (B, V, C, H, W); NaN where ``there`` (B, V) says that one is missing."""
    made = images.new_full((*there.shape, *images.shape[1:]), torch.nan)
    made[torch.from_numpy(there).to(images.device)] = images
    return made


@checked
def ahead(items: Iterable[T]) -> Iterator[T]:
    """The ``items``, the next one made in a thread while the present one is used."""
    return _ahead(iter(items))


def _ahead(iterator: Iterator[T]) -> Iterator[T]:
    end = object()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, iterator, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, iterator, end)
            yield item  # type: ignore[misc]


# -- augmentation on a device: the parameters that :mod:`overread.images.augment` draws, applied by torch to a batch ---


_PADDING = {"reflect": "reflection", "zero": "zeros"}


@checked
def augment(images: Tensor, drawn: Drawn) -> Tensor:
    """The augmented images, (B, C, H, W) or (B, C, D, H, W) on the scale 0 … 1, on their device.

    The same maps as :func:`overread.images.augment.apply` to within its rounding to whole grey levels; the noise has
    the same standard deviation but other numbers. CLAHE has no counterpart here: raises :class:`ArgumentError`.
    """
    require(not drawn.clahe.any(), "CLAHE is applied on the CPU only", given="a batch with CLAHE")
    given = f"{len(drawn)} for {len(images)}"
    require(len(images) == len(drawn), "one set of parameters per image is needed", given=given)
    planes = images.movedim(2, 1) if images.ndim == 5 else images[:, None]  # (B, D, C, H, W)
    depth = planes.shape[1]
    turned = torch.as_tensor(drawn.flip_depth, device=images.device)[:, None, None, None, None]
    planes = torch.where(turned, planes.flip(1), planes) if drawn.flip_depth.any() else planes
    planes = _across(planes, drawn)
    flat = planes.reshape(-1, *planes.shape[2:])
    flat = _stain(_warp(flat, drawn, depth), drawn, depth)
    flat = _colour(_blur(flat, drawn, depth), drawn, depth)
    flat = _erase(_noise(_bend(flat, drawn, depth), drawn, depth), drawn, depth)
    made = flat.reshape(planes.shape)
    return made.movedim(1, 2) if images.ndim == 5 else made[:, 0]


def _across(planes: Tensor, drawn: Drawn) -> Tensor:
    """Volumes (B, D, C, H, W) whose planes lie across their rows or columns, where that was drawn and the sides are equal."""
    for axis in (1, 2):
        chosen = torch.as_tensor(drawn.turn_depth == axis, device=planes.device)[:, None, None, None, None]
        if bool(chosen.any()) and planes.shape[1] == planes.shape[axis + 2]:
            planes = torch.where(chosen, planes.rot90(dims=(1, axis + 2)), planes)
    return planes


def _each(values: np.ndarray, like: Tensor, depth: int) -> Tensor:
    """Parameters of B images for B × D planes."""
    return torch.as_tensor(values, dtype=like.dtype, device=like.device).repeat_interleave(depth, 0)


def _warp(x: Tensor, drawn: Drawn, depth: int) -> Tensor:
    """Pixel coordinates to those of ``grid_sample`` with aligned corners: u = 2 x / (W − 1) − 1."""
    height, width = x.shape[-2:]
    to_unit = np.array([[2 / max(width - 1, 1), 0, -1], [0, 2 / max(height - 1, 1), -1], [0, 0, 1]])
    square = np.concatenate([drawn.matrices, np.tile([[[0.0, 0.0, 1.0]]], (len(drawn), 1, 1))], axis=1)
    theta = (to_unit @ square @ np.linalg.inv(to_unit))[:, :2]
    grid = functional.affine_grid(_each(theta, x, depth), list(x.shape), align_corners=True)
    return functional.grid_sample(x, grid, mode="bilinear", padding_mode=_PADDING[drawn.border], align_corners=True)


def _stain(x: Tensor, drawn: Drawn, depth: int) -> Tensor:
    """Other amounts of stains, by affine maps of the optical densities."""
    if not (drawn.stain != [[1.0], [0.0]]).any():
        return x
    maps = _each(stain_maps(drawn.stain), x, depth)
    dense = torch.einsum("bij,bjhw->bihw", maps[:, :, :-1], -x.clamp(min=DARKEST).log())
    return (-(dense + maps[:, :, -1, None, None]).clamp(min=0)).exp()


def _blur(x: Tensor, drawn: Drawn, depth: int) -> Tensor:
    """Gaussian blur, one sigma an image, along rows and then columns."""
    if not (drawn.blur > 0.05).any():
        return x
    count, channels = x.shape[:2]
    radius = min(math.ceil(4 * float(drawn.blur.max())), min(x.shape[-2:]) - 1)
    place = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    sigma = _each(np.maximum(drawn.blur, 1e-3), x, depth)[:, None]
    kernel = torch.exp(-(place**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]  # (B·D·C, 1, k)
    y = x.reshape(1, count * channels, *x.shape[-2:])
    for shape, pad in (((1, -1), (radius, radius, 0, 0)), ((-1, 1), (0, 0, radius, radius))):
        padded = functional.pad(y, pad, mode="reflect")
        y = functional.conv2d(padded, kernel.reshape(count * channels, 1, *shape), groups=count * channels)
    return y.reshape(x.shape)


def _colour(x: Tensor, drawn: Drawn, depth: int) -> Tensor:
    maps = _each(drawn.colours, x, depth)  # (B·D, C, C + 1)
    mixed = torch.einsum("bij,bjhw->bihw", maps[:, :, :-1], x)
    return (mixed + maps[:, :, -1, None, None]).clamp(0, 1)


def _bend(x: Tensor, drawn: Drawn, depth: int) -> Tensor:
    if not (drawn.gamma != 1).any():
        return x
    return x.clamp(min=0) ** _each(drawn.gamma, x, depth)[:, None, None, None]


def _erase(x: Tensor, drawn: Drawn, depth: int) -> Tensor:
    if not drawn.erased.any():
        return x
    top, bottom, left, right = _each(drawn.erased, x, depth).T[:, :, None, None]  # (B·D, 1, 1) each
    down = torch.arange(x.shape[-2], device=x.device)[None, :, None]
    across = torch.arange(x.shape[-1], device=x.device)[None, None]
    inside = (down >= top) & (down < bottom) & (across >= left) & (across < right)
    return torch.where(inside[:, None], 0.5, x)


def _noise(x: Tensor, drawn: Drawn, depth: int) -> Tensor:
    if not drawn.noise.any():
        return x
    generator = torch.Generator(x.device)
    seeds = random.bits(drawn.seed, drawn.epoch, drawn.samples, "noise on a device") >> np.uint64(1)
    made = []
    for seed, planes in zip(seeds.tolist(), x.split(depth), strict=True):
        generator.manual_seed(seed)
        made.append(torch.randn(planes.shape, generator=generator, device=x.device, dtype=x.dtype))
    return (x + torch.cat(made) * _each(drawn.noise, x, depth)[:, None, None, None]).clamp(0, 1)
