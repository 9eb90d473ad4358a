"""Augmentation in two pure steps: draw parameters, then apply them.

What is drawn depends on (seed, epoch, sample, operation) only, so an image gets the same pixels in any
batch, on any number of threads, and in a process that resumed. Here the parameters are applied by cv2;
``learning`` applies the same ones by torch on a device.

The order: warp (one affine map with bilinear interpolation) → stain → blur → CLAHE → colour (one affine map of the channels:
hue, saturation, contrast, brightness) → gamma → noise → erasing. Every step rounds and clips to the type of the image.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.core import random
from overread.core.errors import checked, one_of, require
from overread.core.files import cores, later
from overread.images.slides.stain import perturb

BORDERS = {"reflect": cv2.BORDER_REFLECT_101, "zero": cv2.BORDER_CONSTANT}
#: Weights of red, green and blue in the luminance (ITU-R BT.601).
LUMINANCE = np.array([0.299, 0.587, 0.114])
#: RGB → YIQ (NTSC 1953, as in FCC 47 CFR 73.682): hue is the angle and saturation the length of (I, Q).
YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_YIQ_BACK = np.linalg.inv(YIQ)
#: CLAHE (Pizer et al. 1987, Zuiderveld 1994): clip limit and tiles per side.
CLAHE_CLIP, CLAHE_TILES = 2.0, 8
_SMALL = 1 << 20  # values of a batch below which threads cost more than they give


@dataclass(frozen=True)
class Augmentation:
    """Ranges from which parameters are drawn for training images; everything is off by default.

    ``flip_horizontal``, ``flip_vertical``, ``flip_depth`` (the planes of a volume), ``clahe``: probabilities; ``turn``:
    that of a turn by 90, 180 or 270° in the plane, ``turn_depth``: that of one by 90° which lays the planes of a cubic
    volume across its rows or its columns (a volume of unequal sides stays), ``erase``: that of a grey rectangle of 2 to
    20 % of the image (Zhong 2020, arXiv:1708.04896). ``rotate``: ± degrees; ``inscribed``: of what was turned only the
    largest upright part of the image's shape is kept, so that nothing comes in from outside (Esteva 2017). ``gamma``:
    the exponent of the grey levels lies within 1 + gamma and its inverse. ``scale``: the range of the magnification,
    drawn on the log scale. ``shift``: ± fraction of the side. ``brightness``: ± fraction of full scale, added.
    ``contrast``: ± relative, about mid-grey. ``saturation``: ± relative, ``hue``: ± fraction of the circle (colour
    only). ``noise``: largest standard deviation, fraction of full scale. ``blur``: largest sigma, pixels. ``border``:
    what comes in from outside, ``reflect`` (about the edge pixels) or ``zero``. ``random_crop``: the share of the side
    that is kept, of a part which lies anywhere and is enlarged to the whole (227 of 256 pixels: 0.887; 1: off).
    ``clahe_clip``: the most that a grey level may count in a tile, in multiples of an even histogram; ``clahe_tiles``: tiles
    along a side. ``stain``: of slides in haematoxylin and eosin, ± of the amount of each of three stains, relative and added
    (colour only; see :func:`.stain.perturb`; Tellez 2018 takes 0.05, Tellez 2019 up to 0.2).
    """

    flip_horizontal: float = 0.0
    flip_vertical: float = 0.0
    rotate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    clahe: float = 0.0
    border: str = "reflect"
    flip_depth: float = 0.0
    turn: float = 0.0
    turn_depth: float = 0.0
    inscribed: bool = False
    gamma: float = 0.0
    erase: float = 0.0
    random_crop: float = later(1.0)
    clahe_clip: float = later(CLAHE_CLIP)
    clahe_tiles: int = later(CLAHE_TILES)
    stain: float = later(0.0)

    def __post_init__(self) -> None:
        limits = {"rotate": 180.0, "hue": 0.5, "blur": 100.0}
        for field in fields(self):
            if field.name not in ("scale", "border", "inscribed", "random_crop", "clahe_clip", "clahe_tiles"):
                value, top = getattr(self, field.name), limits.get(field.name, 1.0)
                require(0 <= value <= top, f"{field.name} must lie within 0 … {top:g}", given=value)
        low, high = self.scale
        require(0.05 <= low <= high <= 20, "scale must be (low, high) within 0.05 … 20", given=self.scale)
        require(
            0.05 <= self.random_crop <= 1, "random_crop is a share of the side within 0.05 … 1", given=self.random_crop
        )
        require(0 < self.clahe_clip <= 100, "clahe_clip must lie above 0 and up to 100", given=self.clahe_clip)
        require(1 <= self.clahe_tiles <= 64, "clahe_tiles must lie within 1 … 64", given=self.clahe_tiles)
        one_of(self.border, BORDERS, "border")


@dataclass(frozen=True, eq=False)
class Drawn:
    """Parameters for a batch of B images; neutral where an operation is off.

    ``matrices``: (B, 2, 3), from output to input in pixel coordinates (x, y), pixel centres at whole numbers: what
    ``cv2.warpAffine`` takes with ``WARP_INVERSE_MAP``. ``colours``: (B, C, C+1), the affine map of the channels on the
    scale 0 … 1 that stands for hue, saturation, contrast and brightness. ``noise``: (B,) standard deviations on the
    scale 0 … 1; ``blur``: (B,) sigmas in pixels; ``clahe``, ``flip_depth``: (B,) bool. ``turn``: (B,) quarter turns, in the
    matrices already. ``turn_depth``: (B,) the axis that the planes are laid across: 1 rows, 2 columns, 0 none.
    ``gamma``: (B,) exponents. ``stain``: (B, 2, 3) by what the amounts of three stains are multiplied, and what is added. ``erased``: (B, 4), from row to row and from column to column, empty
    where nothing is. The arrays ``flip_horizontal`` … ``hue`` (B,)
    are what the maps were made of. ``seed``, ``epoch``, ``samples`` (B,) key the noise.
    """

    matrices: NDArray[np.float64]
    colours: NDArray[np.float64]
    flip_horizontal: NDArray[np.bool_]
    flip_vertical: NDArray[np.bool_]
    rotate: NDArray[np.float64]
    scale: NDArray[np.float64]
    shift: NDArray[np.float64]
    brightness: NDArray[np.float64]
    contrast: NDArray[np.float64]
    saturation: NDArray[np.float64]
    hue: NDArray[np.float64]
    noise: NDArray[np.float64]
    blur: NDArray[np.float64]
    clahe: NDArray[np.bool_]
    flip_depth: NDArray[np.bool_]
    turn: NDArray[np.int64]
    turn_depth: NDArray[np.int64]
    gamma: NDArray[np.float64]
    stain: NDArray[np.float64]
    erased: NDArray[np.int64]
    border: str
    clahe_clip: float
    clahe_tiles: int
    seed: int
    epoch: int
    samples: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.samples)


@checked
def draw(
    augmentation: Augmentation, *, seed: int, epoch: int, samples: ArrayLike, size: tuple[int, int], channels: int
) -> Drawn:
    """Parameters for ``samples`` (the rows of the pack, shape (B,)) in an epoch.

    ``size``: (height, width) in pixels; ``channels``: 1, 3 (RGB), or another number, whose hue and
    saturation stay. A pure function of its arguments.

    >>> mild = Augmentation(flip_horizontal=0.5, rotate=15.0, scale=(0.9, 1.1), shift=0.05)
    >>> drawn = draw(mild, seed=1, epoch=0, samples=[4, 7], size=(8, 8), channels=1)
    >>> alone = draw(mild, seed=1, epoch=0, samples=[7], size=(8, 8), channels=1)
    >>> bool((drawn.matrices[1] == alone.matrices[0]).all())
    True
    """
    require(channels >= 1, "an image has at least 1 channel", given=channels)
    rows = np.asarray(samples, dtype=np.int64).ravel()
    a = augmentation

    def spread(operation: str, top: float) -> NDArray[np.float64]:
        return random.uniform(seed, epoch, rows, operation, -top, top) if top else np.zeros(len(rows))

    def happens(operation: str, probability: float) -> NDArray[np.bool_]:
        return random.uniform(seed, epoch, rows, operation) < probability if probability else np.zeros(len(rows), bool)

    low, high = np.log(a.scale)
    colour = channels == 3
    values = {
        "flip_horizontal": happens("flip horizontal", a.flip_horizontal),
        "flip_vertical": happens("flip vertical", a.flip_vertical),
        "rotate": spread("rotate", a.rotate),
        "scale": np.exp(
            random.uniform(seed, epoch, rows, "scale", low, high) if high > low else np.full(len(rows), low)
        ),
        "shift": np.stack([spread("shift x", a.shift), spread("shift y", a.shift)], axis=1),
        "brightness": spread("brightness", a.brightness),
        "contrast": spread("contrast", a.contrast),
        "saturation": spread("saturation", a.saturation if colour else 0.0),
        "hue": spread("hue", a.hue if colour else 0.0),
        "noise": np.abs(spread("noise", a.noise)),
        "blur": np.abs(spread("blur", a.blur)),
        "clahe": happens("clahe", a.clahe),
        "flip_depth": happens("flip depth", a.flip_depth),
        "turn": happens("turn", a.turn) * (1 + random.integers(seed, epoch, rows, "quarter turns", 3)),
        "turn_depth": happens("turn depth", a.turn_depth)
        * (1 + random.integers(seed, epoch, rows, "axis of depth", 2)),
        "gamma": np.exp(spread("gamma", float(np.log1p(a.gamma)))),
        "stain": np.stack([[at + spread(f"stain {what} {stain}", a.stain if colour else 0.0) for stain in range(3)] for at, what in ((1.0, "scale"), (0.0, "shift"))]).transpose(2, 0, 1),
    }  # fmt: skip
    if a.random_crop < 1:
        values["scale"] = values["scale"] / a.random_crop
        margin = (1 / a.random_crop - 1) / 2
        values["shift"] = values["shift"] + np.stack([spread("crop x", margin), spread("crop y", margin)], axis=1)
    values["erased"] = _rectangles(happens("erase", a.erase), rows, seed, epoch, size)
    matrices = _matrices(values, size, inscribed=a.inscribed)
    colours = _colours(values, channels)
    return Drawn(
        matrices,
        colours,
        **values,
        border=a.border,
        clahe_clip=a.clahe_clip,
        clahe_tiles=a.clahe_tiles,
        seed=seed,
        epoch=epoch,
        samples=rows,
    )


def _rectangles(
    happens: NDArray[np.bool_], rows: NDArray[np.int64], seed: int, epoch: int, size: tuple[int, int]
) -> NDArray[np.int64]:
    """(B, 4) rectangles within the image, of an area and a ratio of the sides drawn on log scales; 0 where none."""
    if not happens.any():
        return np.zeros((len(rows), 4), np.int64)
    area = np.exp(random.uniform(seed, epoch, rows, "erased area", np.log(0.02), np.log(0.2))) * size[0] * size[1]
    ratio = np.exp(random.uniform(seed, epoch, rows, "erased ratio", -np.log(3), np.log(3)))
    sides = [np.clip(np.rint(np.sqrt(area * r)), 1, side).astype(np.int64) for r, side in zip((ratio, 1 / ratio), size, strict=True)]  # fmt: skip
    edges = [
        np.floor(random.uniform(seed, epoch, rows, f"erased from {axis}") * (size[axis] - sides[axis] + 1))
        for axis in (0, 1)
    ]
    boxes = [edge.astype(np.int64) + more for edge, extent in zip(edges, sides, strict=True) for more in (0, extent)]
    return np.stack(boxes, axis=1) * happens[:, None]


def _matrices(drawn: dict[str, NDArray], size: tuple[int, int], *, inscribed: bool) -> NDArray[np.float64]:
    """(B, 2, 3) from output to input: x_in = R(−θ) F (x_out − centre − shift) / scale + centre."""
    angle, scale = np.deg2rad(drawn["rotate"] + 90.0 * drawn["turn"]), drawn["scale"]
    if inscribed:  # a rectangle w × h of this shape lies in the turned image if w |cos| + h |sin| ≤ W, and so across;
        # counted between centres of pixels, so that those at its corners look at none outside
        long = (max(size) - 1) / max(min(size) - 1, 1)
        scale = scale * (np.abs(np.cos(angle)) + long * np.abs(np.sin(angle)))
    cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
    across = np.where(drawn["flip_horizontal"], -1.0, 1.0)
    down = np.where(drawn["flip_vertical"], -1.0, 1.0)
    linear = np.stack([np.stack([across * cosine, across * sine], 1), np.stack([-down * sine, down * cosine], 1)], 1)
    centre = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])  # (x, y)
    moved = drawn["shift"] * np.array([size[1], size[0]]) + centre
    offset = centre - np.einsum("bij,bj->bi", linear, moved)
    return np.concatenate([linear, offset[..., None]], axis=2)


def _colours(drawn: dict[str, NDArray], channels: int) -> NDArray[np.float64]:
    """(B, C, C+1) on the scale 0 … 1: contrast about mid-grey and brightness after a turn of the (I, Q) plane."""
    gain = 1.0 + drawn["contrast"]
    linear = np.eye(channels) * gain[:, None, None]
    if channels == 3 and (drawn["hue"].any() or drawn["saturation"].any()):
        angle, length = 2 * np.pi * drawn["hue"], 1.0 + drawn["saturation"]
        turn = np.zeros((len(gain), 3, 3))
        turn[:, 0, 0] = 1.0
        turn[:, 1, 1] = turn[:, 2, 2] = length * np.cos(angle)
        turn[:, 1, 2], turn[:, 2, 1] = -length * np.sin(angle), length * np.sin(angle)
        linear = gain[:, None, None] * (_YIQ_BACK @ turn @ YIQ)
    offset = np.broadcast_to((0.5 - 0.5 * gain + drawn["brightness"])[:, None, None], (len(gain), channels, 1))
    return np.concatenate([linear, offset], axis=2)


@checked
def apply(
    images: NDArray, drawn: Drawn, *, rows: ArrayLike | None = None, out: NDArray | None = None, threads: int = 0
) -> NDArray:
    """The augmented images, same type and shape as the batch.

    ``images``: (B, H, W, C) or (B, D, H, W, C), uint8 or uint16; with ``rows`` (B,), images ``images[rows]`` of a pack,
    read straight from the memory map. ``out``: where to write. Every plane of a volume gets the same map. Each image
    depends on its own parameters only, whatever the batch and the number of ``threads`` (0 = all cores).
    """
    picked = np.arange(len(images)) if rows is None else np.asarray(rows, dtype=np.int64)
    require(images.dtype in (np.uint8, np.uint16), "images must be uint8 or uint16", given=images.dtype)
    require(images.ndim in (4, 5), "images must be (B, H, W, C) or (B, D, H, W, C)", given=images.shape)
    given = f"{len(drawn)} for {len(picked)}"
    require(len(picked) == len(drawn), "one set of parameters per image is needed", given=given)
    shape = (len(picked), *images.shape[1:])
    result = np.empty(shape, images.dtype) if out is None else out
    fits = result.shape == shape and result.dtype == images.dtype and result.flags.c_contiguous
    what = "out must be a C-contiguous array of the batch's shape and type"
    require(fits, what, given=f"{result.dtype} {result.shape}")
    plan = _Plan(drawn, 255 if images.dtype == np.uint8 else 65535)
    count = min(threads or cores(), len(picked)) if result.size >= _SMALL else 1
    plain = images.view(np.ndarray)  # slices of a memory map are slow to make
    if images.ndim == 4:
        plain, result = plain[:, None], result[:, None]
    work = partial(_apply_part, plain, picked, plan, result)
    if count <= 1:
        work(range(len(picked)))
    else:
        edges = np.linspace(0, len(picked), count + 1).astype(int).tolist()
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(work, map(range, edges, edges[1:])))  # the first error is raised here
    return result.reshape(shape) if out is None else out


class _Plan:
    """What is to be done with each image, decided once for the batch."""

    def __init__(self, drawn: Drawn, full: int) -> None:
        self.drawn, self.full = drawn, full
        self.border = BORDERS[drawn.border]
        identity = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        self.warps = (np.abs(drawn.matrices - identity).max(axis=(1, 2)) > 1e-9).tolist()
        colours = drawn.colours.copy()
        self.recolours = (np.abs(colours - np.eye(*colours.shape[1:])).max(axis=(1, 2)) > 1e-9).tolist()
        colours[:, :, -1] *= full
        self.colours = colours
        # Decided for each image alone: a batch's company must not change a pixel.
        self.mixes = ((drawn.hue != 0) | (drawn.saturation != 0) | (full > 255)).tolist()
        # Contrast and brightness of each image as a look-up table, (B, 256).
        grey = np.arange(256)[None] * colours[:, 0, 0, None] + colours[:, 0, -1, None]
        self.tables = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
        self.blurs = ((drawn.blur > 0.05) | drawn.clahe).tolist()
        self.noises = (drawn.noise > 0).tolist()
        self.bends = (np.abs(drawn.gamma - 1) > 1e-9).tolist()
        self.stains = (np.abs(drawn.stain - [[1.0], [0.0]]).max(axis=(1, 2)) > 1e-9).tolist()
        self.erases = [bool(box.any()) for box in drawn.erased]


def _apply_part(images: NDArray, rows: NDArray, plan: _Plan, out: NDArray, part: range) -> None:
    for i in part:
        planes = images[rows[i]]
        planes = planes[::-1] if plan.drawn.flip_depth[i] and len(planes) > 1 else planes
        axis = int(plan.drawn.turn_depth[i])
        if axis and len(planes) == planes.shape[axis]:
            planes = np.ascontiguousarray(np.rot90(planes, axes=(0, axis)))
        for plane, (pixels, place) in enumerate(zip(planes, out[i])):
            _apply_one(pixels, place, plan, i, plane)


def _apply_one(pixels: NDArray, place: NDArray, plan: _Plan, i: int, plane: int) -> None:
    """One (H, W, C) image into its place."""
    height, width = pixels.shape[:2]
    if plan.warps[i]:
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(pixels, plan.drawn.matrices[i], (width, height), place, how, plan.border)
    else:
        place[...] = pixels
    if plan.stains[i]:
        place[...] = perturb(place, *plan.drawn.stain[i])
    if plan.blurs[i]:
        _blur_and_clahe(place, plan, i)
    if plan.recolours[i]:
        if plan.mixes[i]:
            cv2.transform(place, plan.colours[i], place)
        else:
            cv2.LUT(place, plan.tables[i], place)
    if plan.bends[i]:
        _bend(place, plan, i)
    if plan.noises[i]:
        _noise(place, plan, i, plane)
    if plan.erases[i]:
        top, bottom, left, right = plan.drawn.erased[i].tolist()
        place[top:bottom, left:right] = round(plan.full / 2)


def _bend(place: NDArray, plan: _Plan, i: int) -> None:
    """Grey levels on the scale 0 … 1 to the power of gamma; as a look-up table for 8 bits."""
    gamma, full = float(plan.drawn.gamma[i]), plan.full
    if full == 255:
        cv2.LUT(place, np.rint((np.arange(256) / full) ** gamma * full).astype(np.uint8), place)
    else:
        place[...] = np.rint((place / full) ** gamma * full)


def _blur_and_clahe(place: NDArray, plan: _Plan, i: int) -> None:
    sigma = float(plan.drawn.blur[i])
    if sigma > 0.05:
        cv2.GaussianBlur(place, (0, 0), sigma, place, borderType=cv2.BORDER_REFLECT_101)
    if plan.drawn.clahe[i]:
        clahe = cv2.createCLAHE(plan.drawn.clahe_clip, (plan.drawn.clahe_tiles,) * 2)
        if place.shape[-1] == 1:
            place[..., 0] = clahe.apply(place[..., 0])
        else:  # on the luminance; the colours move along
            grey = cv2.cvtColor(place, cv2.COLOR_RGB2GRAY)
            gain = clahe.apply(grey).astype(np.float32) - grey
            place[...] = np.clip(place + gain[..., None], 0, plan.full)


def _noise(place: NDArray, plan: _Plan, i: int, plane: int) -> None:
    """Gaussian noise from a counter-based generator (Philox, Salmon et al. 2011) keyed by the sample."""
    drawn = plan.drawn
    key = int(random.bits(drawn.seed, drawn.epoch, int(drawn.samples[i]), f"noise of plane {plane}"))
    noise = np.random.Generator(np.random.Philox(key=key)).standard_normal(place.shape, dtype=np.float32)
    noise *= np.float32(drawn.noise[i] * plan.full)
    noise += place
    place[...] = np.clip(np.rint(noise), 0, plan.full)
