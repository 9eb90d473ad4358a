"""MSE, PSNR and SSIM against slow restatements; awkward images."""

import math

import numpy as np
import pytest

from overread.core.errors import ArgumentError
from overread.stats.image_error import image_error, mean_image_error


def pair(seed=0, shape=(20, 24)):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 256, shape).astype(float)
    return truth, np.clip(truth + rng.normal(0, 20, shape), 0, 255)


def slow_ssim(a, b, span):
    """Wang et al. 2004, equation by equation: an 11 × 11 Gaussian window at every place where it fits."""
    k = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(k, k) / np.outer(k, k).sum()
    c1, c2, found = (0.01 * span) ** 2, (0.03 * span) ** 2, []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            p, q = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            both = (window * (p - mp) * (q - mq)).sum()
            found.append((2 * mp * mq + c1) * (2 * both + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return np.mean(found)


def test_values_are_those_of_the_definition():
    a, b = pair()
    mse, psnr, ssim = (e.value for e in image_error(a, b, span=255))
    assert mse == pytest.approx(sum((x - y) ** 2 for x, y in zip(a.flat, b.flat)) / a.size)
    assert psnr == pytest.approx(10 * math.log10(255**2 / mse))
    assert ssim == pytest.approx(slow_ssim(a, b, 255), abs=1e-9)


def test_colours_are_averaged():
    a, b = pair(shape=(15, 16, 3))
    each = [slow_ssim(a[..., c], b[..., c], 255) for c in range(3)]
    assert image_error(a, b, span=255)[2].value == pytest.approx(np.mean(each), abs=1e-9)


def test_what_has_no_value_says_why():
    a, b = pair()
    mse, psnr, ssim = image_error(a, a, span=255)
    assert (mse.value, psnr.undefined, ssim.value) == (0, "the two images are equal", 1)
    assert "11 × 11" in image_error(a[:8], b[:8], span=255)[2].undefined
    b[2, 3] = math.nan
    assert {e.undefined for e in image_error(a, b, span=255)} == {"1 of 480 pixels are not finite"}
    assert {e.undefined for e in image_error(a[:0], a[:0], span=1)} == {"the image has no pixels"}
    for bad in (lambda: image_error(a, b[1:], span=255), lambda: image_error(a, b, span=0),
                lambda: image_error(a[0], a[0], span=1), lambda: mean_image_error([a], [], span=1)):  # fmt: skip
        with pytest.raises(ArgumentError):
            bad()


def test_means_over_images_are_by_patient():
    pairs = [pair(seed) for seed in range(8)]
    pairs[5] = (pairs[5][0], pairs[5][0])
    found = mean_image_error(*zip(*pairs), np.arange(8) // 2, span=255, resamples=200)
    each = [[e.value for e in image_error(a, b, span=255)] for a, b in pairs]
    assert [e.value for e in found] == pytest.approx(np.nanmean(each, axis=0))
    assert all(e.low < e.value < e.high for e in found)
    assert [(e.images, e.patients) for e in found] == [(8, 4), (7, 4), (8, 4)]
    assert found[2].high <= 1
