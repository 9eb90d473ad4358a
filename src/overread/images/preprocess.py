"""How pixels become the input of a network: resize, then normalise. ``Preprocess`` is saved inside the weights.

Shrinking averages: by whole boxes where they fit, then bilinearly below a factor of two; otherwise by area.
Every normalisation is (x − mean) / std on the scale 0 … 1; the five differ in what stands for mean and std.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite, prod
from os import PathLike
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.core.errors import ImageError, checked, one_of, require
from overread.core.files import later
from overread.images.address import Address, parse
from overread.images.conversions import parse_window
from overread.images.crop import crop, crop_alike
from overread.images.formats import npz
from overread.images.read import LIMITS, Image, Limits, read_image
from overread.images.slides.stain import STAINS, with_stain


@runtime_checkable
class Packed(Protocol):
    """What is asked of a pack here: its images and the rows that failed."""

    @property
    def images(self) -> NDArray[Any]: ...

    @property
    def failed(self) -> dict[int, str]: ...


#: Frames that may become channels.
MOST_CHANNELS = 64
FITS = ("squash", "crop", "pad")
CROPS = ("none", "border", "field")
NORMALISATIONS = ("channel mean and std", "min-max", "z-score", "mean image", "channel mean")


@dataclass(frozen=True)
class Preprocess:
    """How pixels become network input.

    ``size``: (height, width), or (depth, height, width) for volumes, in pixels. ``channels``: 3 (grey is
    repeated) or 1 (colour becomes luminance, ITU-R BT.601; frames as channels become their mean), or as many as images have frames as channels. ``fit``: ``squash`` to the size, ``crop`` the
    centre, or ``pad`` with black; along the depth of volumes always squash. ``normalise``: one of the five
    names; ``mean`` and ``std`` on the scale 0 … 1, one per channel, are filled in by
    :func:`fit_normalisation`. ``bits`` of the pack: 8 or 16. ``window`` for DICOM and volumes: ``""`` for that
    of the file, a preset's name, ``centre/width`` or ``low:high`` (see :func:`.parse_window`). ``crop`` before resizing: ``none``,
    the black ``border``, or to the circular ``field`` of a fundus photograph (see :func:`.circular_field`). ``stain``: the look that
    slides stained with haematoxylin and eosin are brought to (see :func:`.with_stain`): ``none``, ``reinhard`` or ``macenko``.
    """

    size: tuple[int, ...]
    channels: int = 3
    fit: str = "squash"
    normalise: str = "channel mean and std"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    bits: int = 8
    window: str = ""
    crop: str = "none"
    stain: str = later("none")

    def __post_init__(self) -> None:
        parse_window(self.window)
        one_of(self.crop, CROPS, "crop")
        one_of(self.stain, STAINS, "stain")
        coloured = self.stain == "none" or (self.channels == 3 and self.bits == 8 and len(self.size) == 2)
        require(coloured, "a stain needs flat images of three channels and 8 bits", given=self.stain)
        sized = len(self.size) in (2, 3) and all(1 <= side <= 16_384 for side in self.size)
        require(sized, "size must be (height, width) or (depth, height, width)", given=self.size)
        require(prod(self.size) <= 16_384**2, "the size holds more pixels than any image", given=self.size)
        require(
            1 <= self.channels <= MOST_CHANNELS,
            f"channels must be 1, 3, or up to {MOST_CHANNELS} of frames",
            given=self.channels,
        )
        require(self.channels == 1 or len(self.size) == 2, "volumes have one channel", given=self.channels)
        require(self.bits in (8, 16), "bits must be 8 or 16", given=self.bits)
        one_of(self.fit, FITS, "fit")
        one_of(self.normalise, NORMALISATIONS, "normalise")
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            require(len(numbers) in (0, self.channels), f"{name} needs one number per channel", given=numbers)
            require(all(map(isfinite, numbers)), f"{name} must be finite numbers", given=numbers)
        require(all(number > 0 for number in self.std), "std must be above 0", given=self.std)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a prepared image: the size, then the channels."""
        return (*self.size, self.channels)

    @property
    def dtype(self) -> np.dtype:
        """The type of a prepared image: uint8 or uint16."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def full(self) -> int:
        """White: 255 or 65535."""
        return 2**self.bits - 1


@checked
def geometry(preprocess: Preprocess) -> Preprocess:
    """Only what a pack depends on: size, channels, fit, bits, window, crop, stain; the rest at its defaults."""
    return replace(preprocess, normalise="channel mean and std", mean=(), std=())


@checked
def load(source: str | PathLike[str] | bytes, preprocess: Preprocess, *, limits: Limits = LIMITS) -> NDArray[Any]:
    """Read an image and resize it: what stands in a pack, for one image.

    A JPEG at least twice the size is decoded at a fraction of its size. Raises :class:`ImageError`.
    """
    return _load(source, preprocess, limits)[0]


def _load(source: Any, preprocess: Preprocess, limits: Limits) -> tuple[NDArray[Any], str]:
    """Prepared pixels and the digest of the bytes they came from."""
    height, width = preprocess.size[-2:]
    at_least = (height, width) if len(preprocess.size) == 2 and preprocess.crop == "none" else None
    image = read_image(source, limits=limits, at_least=at_least, window=preprocess.window)
    return prepared(image, preprocess, source), image.digest


@checked
def prepared(image: Image, preprocess: Preprocess, source: str | PathLike[str] | bytes = b"") -> NDArray[Any]:
    """What :func:`load` gives, of an image that has been read in the window of ``preprocess``: cropped, resized, and with the
    look of its stain. ``source``: where it was read from, so that a tile is changed as the whole of its slide is."""
    if preprocess.crop != "none" and image.mode != "volume":
        pixels = resize(crop(image.pixels, preprocess.crop)[0], preprocess)
    else:
        pixels = resize(image, preprocess)
    if preprocess.stain == "none" or image.mode != "colour":
        return pixels
    return with_stain(pixels, preprocess.stain, _address(source))


def _address(source: str | PathLike[str] | bytes) -> Address | None:
    """The address that a source is; none of bytes and arrays."""
    if isinstance(source, bytes) or npz.is_address(str(source)):
        return None
    return parse(str(source))


@checked
def load_mask(
    source: str | PathLike[str] | bytes, image: str | PathLike[str] | bytes, preprocess: Preprocess, *, limits: Limits = LIMITS
) -> NDArray[np.bool_]:  # fmt: skip
    """The mask of an image, (H, W) or (D, H, W), cropped and resized as :func:`load` does the image: where it is not 0.

    A mask of another size than its image is taken to cover the whole of it. Raises :class:`ImageError`.
    """
    found = read_image(source, limits=limits)
    marked = (found.pixels.max(axis=-1, keepdims=True) > 0).astype(np.uint8) * np.uint8(255)
    if preprocess.crop != "none" and found.mode != "volume":
        pixels = read_image(image, limits=limits, window=preprocess.window).pixels
        if marked.shape[:2] != pixels.shape[:2]:
            marked = cv2.resize(marked, pixels.shape[1::-1], interpolation=cv2.INTER_NEAREST)[..., None]
        marked = np.ascontiguousarray(crop_alike(marked, pixels, preprocess.crop))
    return np.asarray(resize(marked, replace(geometry(preprocess), channels=1, bits=8))[..., 0] > 127)


@checked
def resize(image: Image | NDArray[Any], preprocess: Preprocess) -> NDArray[Any]:
    """One image (H, W, C) or volume (D, H, W, 1) at the size, channels and bits of ``preprocess``.

    uint8, uint16 or float32 in; uint8 or uint16 out. Full scale maps to full scale; floats within 0 … 1 are taken as
    they are, others stretched from smallest to largest. Raises :class:`ImageError` if a volume meets a flat size.

    >>> resize(np.zeros((10, 20, 1), np.uint8), Preprocess((8, 8))).shape
    (8, 8, 3)
    """
    pixels = image.pixels if isinstance(image, Image) else np.asarray(image)
    volume = len(preprocess.size) == 3
    if pixels.ndim != len(preprocess.size) + 1:
        flat = "a flat image needs a size (height, width)" if volume else "an image has 3 axes"
        what = "a volume needs a size (depth, height, width)" if pixels.ndim == 4 else flat
        raise ImageError(what, given=f"shape {pixels.shape}, size {preprocess.size}")
    pixels = _as_bits(pixels, preprocess)
    if volume:
        planes = np.stack([_fit(plane, preprocess) for plane in pixels])
        return _resize_depth(planes, preprocess)
    return _fit(_as_channels(pixels, preprocess.channels, late=False), preprocess)


def _as_bits(pixels: NDArray[Any], preprocess: Preprocess) -> NDArray[Any]:
    """uint8 or uint16 by ``preprocess``, full scale to full scale."""
    if pixels.dtype == preprocess.dtype:
        return pixels
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * np.uint16(257)
    if pixels.dtype == np.uint16:
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    require(np.issubdtype(pixels.dtype, np.floating), "pixels must be uint8, uint16 or float32", given=pixels.dtype)
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0.0 or high > 1.0:
        pixels = (pixels - low) / (high - low) if high > low else np.zeros_like(pixels)
    return np.rint(pixels * preprocess.full).astype(preprocess.dtype)


def _as_channels(pixels: NDArray[Any], channels: int, *, late: bool) -> NDArray[Any]:
    """Colour to luminance before resizing, grey to three after it: the cheap side of each; of more channels their mean."""
    if pixels.shape[-1] not in (1, 3, channels):
        pixels = np.rint(pixels.mean(axis=-1, keepdims=True)).astype(pixels.dtype)
    if pixels.shape[-1] == 3 and channels == 1:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY))[..., None]
    if late and pixels.shape[-1] == 1 and channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    return pixels


def _fit(pixels: NDArray[Any], preprocess: Preprocess) -> NDArray[Any]:
    """(H, W, C) to the last two sides of the size by the policy."""
    height, width = preprocess.size[-2:]
    have = pixels.shape[:2]
    if preprocess.fit == "crop":
        scale = min(have[0] / height, have[1] / width)
        inner = (min(have[0], max(1, round(height * scale))), min(have[1], max(1, round(width * scale))))
        pixels = _centre(pixels, inner)
    if preprocess.fit == "pad":
        scale = max(have[0] / height, have[1] / width)
        inner = (min(height, max(1, round(have[0] / scale))), min(width, max(1, round(have[1] / scale))))
        canvas = np.zeros((height, width, pixels.shape[2]), pixels.dtype)
        _centre(canvas, inner)[...] = _scale(pixels, *inner)
        return _as_channels(canvas, preprocess.channels, late=True)
    return _as_channels(_scale(pixels, height, width), preprocess.channels, late=True)


def _centre(pixels: NDArray[Any], inner: tuple[int, int]) -> NDArray[Any]:
    top, left = (pixels.shape[0] - inner[0]) // 2, (pixels.shape[1] - inner[1]) // 2
    return pixels[top : top + inner[0], left : left + inner[1]]


def _scale(pixels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """(H, W, C) to (height, width, C)."""
    have = pixels.shape[:2]
    if have == (height, width):
        return pixels
    down, across = max(1, have[0] // height), max(1, have[1] // width)
    if (down > 1 or across > 1) and have[0] % down == 0 and have[1] % across == 0:
        pixels = cv2.resize(pixels, (have[1] // across, have[0] // down), interpolation=cv2.INTER_AREA)
        have = pixels.shape[:2]
    small = have[0] < 2 * height and have[1] < 2 * width
    if have != (height, width):
        how = cv2.INTER_LINEAR if small else cv2.INTER_AREA
        pixels = cv2.resize(pixels, (width, height), interpolation=how)
    return np.asarray(pixels if pixels.ndim == 3 else pixels[..., None])


def _resize_depth(planes: NDArray[Any], preprocess: Preprocess) -> NDArray[Any]:
    """(D, H, W, 1) to the first side of the size: by area when there are fewer planes, linear when more."""
    depth, wanted = len(planes), preprocess.size[0]
    if depth == wanted:
        return planes
    weights = _depth_weights(depth, wanted)
    mixed = weights @ planes.reshape(depth, -1).astype(np.float32)
    return np.rint(mixed).astype(planes.dtype).reshape(wanted, *planes.shape[1:])


def _depth_weights(have: int, want: int) -> NDArray[np.float32]:
    """(want, have) weights of the old planes in the new ones; rows add up to 1."""
    step = have / want
    if want < have:  # overlap of the intervals [i step, (i+1) step) and [j, j+1)
        start, plane = np.arange(want)[:, None] * step, np.arange(have)[None]
        overlap = np.minimum(start + step, plane + 1) - np.maximum(start, plane)
        return (np.clip(overlap, 0, 1) / step).astype(np.float32)
    at = np.clip((np.arange(want) + 0.5) * step - 0.5, 0, have - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(have)[None])).astype(np.float32)


# -- normalisation ---------------------------------------------------------------------------------------


@checked
def fit_normalisation(
    pack: Packed, rows: ArrayLike, preprocess: Preprocess
) -> tuple[Preprocess, NDArray[np.float32] | None]:
    """``preprocess`` with mean and std fitted on the ``rows`` of a pack, and the mean image where one is needed.

    Pass training rows only. One streamed pass; rows that failed are left out. On the scale 0 … 1:

    - ``channel mean and std``: of each channel; ``channel mean``: std is 1.
    - ``z-score``: one mean and std over all channels; ``min-max``: mean is the smallest, std the range.
    - ``mean image``: the second result, float32 of one image's shape; mean 0, std 1.

    Raises :class:`ArgumentError` for rows outside the pack or none that can be read.
    """
    chosen = np.asarray(rows, dtype=np.int64).ravel()
    within = bool(chosen.size) and chosen.min() >= 0 and chosen.max() < len(pack.images)
    require(within, "rows must lie within the pack", given=f"{chosen.size} rows of {len(pack.images)}")
    chosen = chosen[~np.isin(chosen, list(pack.failed))]
    require(bool(chosen.size), "none of the rows could be read", given=f"{len(pack.failed)} failed")
    if preprocess.normalise == "mean image":
        total = sum((pack.images[row] for row in chosen), np.zeros(pack.images.shape[1:], np.float64))
        return _with(preprocess, 0.0, 1.0), (total / (len(chosen) * preprocess.full)).astype(np.float32)
    mean, std, low, high = _moments(pack.images, chosen, preprocess.full)
    if preprocess.normalise == "min-max":
        return _with(preprocess, low, high - low), None
    if preprocess.normalise == "z-score":
        whole = float(np.sqrt(np.mean(std**2 + mean**2) - mean.mean() ** 2))
        return _with(preprocess, float(mean.mean()), whole), None
    return _with(preprocess, mean, std if preprocess.normalise == "channel mean and std" else 1.0), None


def _with(preprocess: Preprocess, mean: ArrayLike, std: ArrayLike) -> Preprocess:
    """``preprocess`` with these numbers for every channel; a std of nothing becomes 1."""
    spread = np.where(np.asarray(std) > 1e-6, std, 1.0)
    numbers = (tuple(np.broadcast_to(each, preprocess.channels).astype(float).tolist()) for each in (mean, spread))
    return replace(preprocess, mean=next(numbers), std=next(numbers))


def _moments(
    images: NDArray[Any], rows: NDArray[np.int64], full: int
) -> tuple[NDArray[Any], NDArray[Any], float, float]:
    """Mean and std per channel, smallest and largest value, over the rows, on 0 … 1."""
    channels = images.shape[-1]
    total, squares, low, high = np.zeros(channels), np.zeros(channels), np.inf, -np.inf
    for row in rows:
        flat = images[row].reshape(1, -1, channels)
        mean, std = (part.ravel() for part in cv2.meanStdDev(flat))
        total += mean
        squares += std**2 + mean**2
        low, high = min(low, int(flat.min())), max(high, int(flat.max()))
    mean = total / len(rows)
    std = np.sqrt(np.maximum(squares / len(rows) - mean**2, 0.0))
    return mean / full, std / full, low / full, high / full


@checked
def normalise(
    batch: NDArray[Any], preprocess: Preprocess, mean_image: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """A batch (B, H, W, C) of uint8 or uint16 as float32 input, same layout: (x / full − mean) / std.

    ``mean_image``: what :func:`fit_normalisation` gave for ``mean image``, shape of one image, scale 0 … 1.

    >>> fitted = Preprocess((1, 1), 1, mean=(0.5,), std=(0.25,))
    >>> normalise(np.full((1, 1, 1, 1), 255, np.uint8), fitted).item()
    2.0
    """
    given = f"{batch.dtype} for {preprocess.bits} bits"
    require(batch.dtype == preprocess.dtype, "the batch does not have the bits of the preprocessing", given=given)
    about, needed = "a mean image goes with the normalisation 'mean image'", preprocess.normalise == "mean image"
    require((mean_image is not None) == needed, about, given=preprocess.normalise)
    fitted = len(preprocess.mean) == len(preprocess.std) == preprocess.channels
    require(fitted, "the preprocessing has not been fitted", todo="call fit_normalisation on training rows")
    std = np.asarray(preprocess.std, np.float32)
    result = np.multiply(batch, np.float32(1.0 / preprocess.full) / std, dtype=np.float32)
    mean = np.asarray(preprocess.mean, np.float32)
    result -= (mean if mean_image is None else mean + mean_image) / std
    return result
