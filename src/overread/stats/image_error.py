"""How far a made image (denoised, filled in, translated) is from the true one: MSE, PSNR, SSIM."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from overread.core.errors import checked, require
from overread.stats.arrays import Floats, Patients, real_numbers
from overread.stats.estimate import Estimate
from overread.stats.regression import means_over_images, one_image
from overread.stats.resample import Scale

#: For Python alone: no command makes images yet.
__all__ = ["image_error", "mean_image_error"]

#: What :func:`image_error` gives, in its order, and the scale of the interval of each one's mean.
METRICS: dict[str, Scale] = {"mse": "positive", "psnr": "plain", "ssim": "below one"}
#: Pixels that the Gaussian window of SSIM spans: 3.5 standard deviations of 1.5 on either side.
WINDOW = 11


@checked
def image_error(truth: ArrayLike, made: ArrayLike, *, span: float) -> list[Estimate]:
    """Mean squared error, peak signal-to-noise ratio in dB and structural similarity of one image.

    ``truth`` and ``made`` grey (H, W) or colour (H, W, C) of one shape and unit; ``span``: the highest minus
    the lowest value that an image can take (255 for 8 bits), never guessed from the image. PSNR is
    10·log10(span² / MSE), undefined for equal images. SSIM as Wang et al. 2004 (Gaussian window of standard
    deviation 1.5, K1 .01, K2 .03), the mean over pixels and colours, by scikit-image; undefined below 11 × 11
    pixels. Undefined where a pixel is not finite. One image has no interval.

    >>> [e.value for e in image_error([[0, 100]], [[0, 200]], span=255)][0]
    5000.0
    """
    require(math.isfinite(span) and span > 0, "span must be a positive number", given=span)
    a, b = _pixels(truth, "truth"), _pixels(made, "made")
    require(a.shape == b.shape, "both images must have one shape", given=f"{a.shape}, {b.shape}")
    bad = int((~np.isfinite(a) | ~np.isfinite(b)).sum())
    if bad or not a.size:
        reason = f"{bad} of {a.size} pixels are not finite" if bad else "the image has no pixels"
        return [one_image(metric, math.nan, reason) for metric in METRICS]
    error = float(np.mean((a - b) ** 2))
    noise = 20 * math.log10(span) - 10 * math.log10(error) if error > 0 else math.nan
    return [
        one_image("mse", error, ""),
        one_image("psnr", noise, "the two images are equal"),
        one_image("ssim", _similarity(a, b, span), f"SSIM needs at least {WINDOW} × {WINDOW} pixels"),
    ]


def _pixels(image: ArrayLike, name: str) -> Floats:
    given = real_numbers(image, name)
    require(given.ndim in (2, 3), f"{name} must be an image (H, W) or (H, W, C)", given=given.shape)
    return given


def _similarity(a: Floats, b: Floats, span: float) -> float:
    if min(a.shape[:2]) < WINDOW:
        return math.nan
    from skimage.metrics import structural_similarity

    axis = 2 if a.ndim == 3 else None
    wang = {"gaussian_weights": True, "use_sample_covariance": False}
    return float(structural_similarity(a, b, data_range=span, channel_axis=axis, **wang))


@checked
def mean_image_error(
    truths: Sequence[ArrayLike],
    made: Sequence[ArrayLike],
    patients: Patients = None,
    *,
    span: float,
    level: float = 0.95,
    of: str = "",
    resamples: int | None = None,
    seed: int = 0,
) -> list[Estimate]:
    """The mean over images of each metric of :func:`image_error`, with an interval over patients.

    ``truths`` and ``made`` N images, pair by pair of one shape; ``patients`` (N,) or None; ``span`` of all.
    Images where a metric is undefined are left out of its mean and counted in its method.

    >>> blank = np.zeros((12, 12))
    >>> [round(e.value, 3) for e in mean_image_error([blank] * 2, [blank + 1, blank + 3], span=10)][:2]
    [5.0, 15.229]
    """
    require(len(truths) == len(made), "each image needs its truth", given=f"{len(truths)}, {len(made)}")
    each = [image_error(a, b, span=span) for a, b in zip(truths, made)]
    return means_over_images(METRICS, each, patients, level=level, of=of, resamples=resamples, seed=seed)
