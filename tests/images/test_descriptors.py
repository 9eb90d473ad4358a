"""Classical descriptors against scikit-image, and against their definitions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from skimage.feature import hog, local_binary_pattern
from skimage.filters import threshold_otsu

from overread.core.errors import ArgumentError
from overread.images import descriptors
from overread.images.descriptors import DESCRIPTORS, describe, uniform_patterns

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 40, 48, 3), dtype=np.uint8)
VOLUMES = RNG.integers(0, 65536, (3, 12, 20, 16, 1), dtype=np.uint16)


@pytest.mark.parametrize(("points", "radius"), [(8, 1), (16, 2), (24, 3), (12, 1.5)])
def test_uniform_patterns_are_scikit_images(points, radius) -> None:
    plane = np.random.default_rng(1).random((40, 50)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = local_binary_pattern(plane.astype(np.float64), points, radius, "uniform")
    inner = (slice(4, -4), slice(4, -4))  # they think black around the image, we repeat its border
    assert (uniform_patterns(plane, points, radius)[inner] == wanted[inner]).all()


def test_a_flat_plane_is_brighter_nowhere() -> None:
    assert (uniform_patterns(np.full((9, 9), 0.3, np.float32), 16, 2) == 16).all()


def test_oriented_gradients_are_scikit_images() -> None:
    image = np.random.default_rng(2).integers(0, 256, (1, 64, 64, 1), dtype=np.uint8)
    wanted = hog(image[0, ..., 0] / 255, 9, (16, 16), (2, 2), "L2-Hys")
    assert np.abs(describe(image, ["hog"])[0] - wanted).max() < 1e-5


def test_histograms_and_statistics_by_their_definition() -> None:
    found = describe(COLOUR, ["colour"])
    red = np.histogram(COLOUR[1, ..., 0] / 255, bins=16, range=(0, 1))[0] / (40 * 48)
    assert np.abs(found[1, 32:48] ** 2 - red).max() < 2e-3
    assert np.abs((found[:, :32] ** 2).sum(1) - 1).max() < 1e-5
    numbers = describe(COLOUR, ["intensity"])
    x = COLOUR[2] / 255
    assert np.abs(numbers[2, :3] - x.mean((0, 1))).max() < 1e-5
    assert np.abs(numbers[2, 3:6] - x.std((0, 1))).max() < 1e-5
    assert np.abs(numbers[2, 9:30] - np.quantile(x, descriptors._QUANTILES, axis=(0, 1)).ravel()).max() < 1e-5


def test_the_form_of_a_bright_box() -> None:
    image = np.full((1, 40, 80, 1), 20, np.uint8)
    image[0, 10:20, 20:60] = 200
    border, share, down, across, narrow, wide = describe(image, ["size"])[0, :6]
    assert share == pytest.approx(10 * 40 / 3200)
    assert (down, across) == pytest.approx((15 / 40, 40 / 80), abs=1e-6)
    assert narrow == pytest.approx(np.sqrt((10**2 - 1) / 12) / 40, abs=1e-5)
    assert wide == pytest.approx(np.sqrt((40**2 - 1) / 12) / 80, abs=1e-5)
    assert border == pytest.approx((2 * 40 / (39 * 80) + 2 * 10 / (40 * 79)) / 2, abs=1e-5)


def test_the_threshold_is_otsus() -> None:
    values = np.concatenate([RNG.normal(60, 10, 500), RNG.normal(180, 20, 300)]).clip(0, 255).astype(np.uint8)
    assert descriptors._otsu(np.bincount(values, minlength=256)) == threshold_otsu(values)


def test_gist_tells_the_direction_and_the_place_of_stripes() -> None:
    y, x = np.mgrid[:64, :64]
    upright, lying = (np.rint(127 + 100 * np.sin(2 * np.pi * 0.25 * axis)).astype(np.uint8) for axis in (x, y))
    half = np.where(x < 32, upright, 127).astype(np.uint8)
    across, down, left = describe(np.stack([upright, lying, half])[..., None], ["gist"]).reshape(3, 20, 4, 4)
    assert across.sum((1, 2)).argmax() != down.sum((1, 2)).argmax()
    strongest = across.sum((1, 2)).argmax()
    assert left[strongest, :, 0].mean() > 5 * left[strongest, :, 3].mean()


@pytest.mark.parametrize("images", [COLOUR, COLOUR[..., :1], VOLUMES, COLOUR.astype(np.uint16) * 257], ids=str)
def test_batches_and_threads_change_nothing(images, monkeypatch) -> None:
    whole = describe(images)
    monkeypatch.setattr(descriptors, "_AT_A_TIME", 2)
    assert (describe(images, threads=3) == whole).all()
    assert (describe(images, rows=np.array([2, 0])) == whole[[2, 0]]).all()
    assert describe(images, rows=np.array([], np.int64)).shape == (0, whole.shape[1])


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 2, 300, 3), (1, 7, 3, 1), (1, 1, 1, 1, 1), (1, 2, 30, 31, 1)])
@pytest.mark.parametrize("value", [0, 255, "noise"])
def test_every_shape_gives_finite_numbers(shape, value) -> None:
    images = RNG.integers(0, 256, shape, dtype=np.uint8) if value == "noise" else np.full(shape, value, np.uint8)
    assert np.isfinite(describe(images)).all()


def test_eight_and_sixteen_bits_say_the_same() -> None:
    small = COLOUR[:, :30, :30]
    assert np.abs(describe(small) - describe(small.astype(np.uint16) * 257)).max() < 1e-3


def test_names_are_chosen_in_one_order_and_unknown_ones_refused() -> None:
    assert (describe(COLOUR, ["lbp", "colour"]) == describe(COLOUR, ["colour", "lbp"])).all()
    assert describe(COLOUR).shape[1] == sum(describe(COLOUR, [name]).shape[1] for name in DESCRIPTORS)
    with pytest.raises(ArgumentError, match="hog"):
        describe(COLOUR, ["hogg"])
    with pytest.raises(ArgumentError, match="uint8"):
        describe(COLOUR.astype(np.float32))
