"""Measures of objects against closed forms, another library, and slow restatements of their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
from skimage.draw import disk, ellipse
from skimage.feature import graycomatrix, local_binary_pattern

from overread.cells.measure import AREA, HARALICK, LENGTHS, LEVELS, PERCENTILES, haralick, measure
from overread.core.errors import ArgumentError, InputError
from overread.images.outlines.outlines import Outlines, outlines_of


def drawn(shape: tuple[int, int], *objects: tuple[np.ndarray, np.ndarray]) -> Outlines:
    labels = np.zeros(shape, np.int32)
    for number, place in enumerate(objects, 1):
        labels[place] = number
    return outlines_of(labels)


def blobs(seed: int = 3) -> Outlines:
    rng = np.random.default_rng(seed)
    places = [ellipse(y, x, *rng.uniform(6, 14, 2), rotation=rng.uniform(-3, 3)) for y in range(20, 180, 40) for x in range(20, 180, 40)]  # fmt: skip
    return drawn((200, 200), *places)


@pytest.mark.parametrize("radius", [15, 40])
def test_a_disc_has_the_numbers_of_a_disc(radius: int) -> None:
    row = measure(drawn((101, 101), disk((50, 47), radius))).iloc[0]
    assert row["area"] == pytest.approx(math.pi * radius**2, rel=0.02)
    assert row["perimeter"] == pytest.approx(2 * math.pi * radius, rel=0.015)
    assert row["equivalent diameter"] == pytest.approx(2 * radius, rel=0.01)
    assert row["major axis"] == pytest.approx(2 * radius, rel=0.02) == pytest.approx(row["minor axis"], rel=0.02)
    assert row["eccentricity"] < 0.1
    assert row["solidity"] > 0.95
    assert row["circularity"] == pytest.approx(1, abs=0.02)
    assert (row["y"], row["x"]) == (50, 47)
    assert row["touches border"] == 0


def test_an_ellipse_has_its_axes_and_its_turn() -> None:
    for degrees in (-60, 0, 30, 85):
        # scikit-image turns counter-clockwise as the picture is seen, from the radius along the rows
        row = measure(drawn((161, 161), ellipse(80, 80, 20, 50, rotation=math.radians(degrees)))).iloc[0]
        assert row["major axis"] == pytest.approx(100, rel=0.02)
        assert row["minor axis"] == pytest.approx(40, rel=0.02)
        assert row["eccentricity"] == pytest.approx(math.sqrt(1 - (20 / 50) ** 2), abs=0.01)
        assert row["orientation"] == pytest.approx(degrees, abs=1)


def test_orientation_is_counter_clockwise_as_the_picture_is_seen() -> None:
    labels = np.zeros((40, 40), np.int32)
    for step in range(30):
        labels[35 - step, 4 + step : 7 + step] = 1  # from the lower left to the upper right
    assert measure(outlines_of(labels))["orientation"].iloc[0] == pytest.approx(45, abs=1)


def test_a_square_has_the_numbers_of_a_square() -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[10:30, 10:30] = 1
    row = measure(outlines_of(labels)).iloc[0]
    assert row["area"] == 400
    assert row["perimeter"] == pytest.approx(80, rel=0.07)
    assert row["solidity"] == 1
    assert row["major axis"] == pytest.approx(4 * math.sqrt((20**2 - 1) / 12 + 1 / 12), abs=0.1)


def test_geometry_is_that_of_another_library() -> None:
    outlines = blobs()
    made = measure(outlines).set_index("object")
    stats = sitk.LabelShapeStatisticsImageFilter()
    stats.Execute(sitk.GetImageFromArray(outlines.labels.astype(np.uint32)))
    assert list(stats.GetLabels()) == list(made.index)
    for label in stats.GetLabels():
        row = made.loc[label]
        assert row["area"] == stats.GetNumberOfPixels(label)
        assert (row["x"], row["y"]) == pytest.approx(stats.GetCentroid(label))
        assert row["perimeter"] == pytest.approx(stats.GetPerimeter(label), rel=0.03)
        minor, major = stats.GetPrincipalMoments(label)
        # ITK adds nothing for the width of a pixel, scikit-image neither
        assert row["major axis"] == pytest.approx(4 * math.sqrt(major), rel=0.01)
        assert row["minor axis"] == pytest.approx(4 * math.sqrt(minor), rel=0.01)
        diameter = 2 * stats.GetEquivalentSphericalRadius(label)
        assert row["equivalent diameter"] == pytest.approx(diameter)


def test_intensity_is_that_of_another_library() -> None:
    outlines, rng = blobs(), np.random.default_rng(0)
    pixels = rng.integers(0, 4096, (200, 200, 2)).astype(np.uint16)
    made = measure(outlines, pixels).set_index("object")
    stats = sitk.LabelIntensityStatisticsImageFilter()
    for channel in (0, 1):
        stats.Execute(sitk.GetImageFromArray(outlines.labels.astype(np.uint32)), sitk.GetImageFromArray(pixels[..., channel].astype(np.float32)))  # fmt: skip
        for label in stats.GetLabels():
            inside = pixels[..., channel][outlines.labels == label]
            assert made.loc[label, f"intensity mean {channel + 1}"] == pytest.approx(stats.GetMean(label))
            assert made.loc[label, f"intensity sd {channel + 1}"] == pytest.approx(inside.std())
            for share in PERCENTILES:
                assert made.loc[label, f"intensity p{share} {channel + 1}"] == pytest.approx(np.percentile(inside, share))  # fmt: skip


def test_texture_is_that_of_a_slow_restatement() -> None:
    rng = np.random.default_rng(5)
    outlines = drawn((60, 60), ellipse(20, 25, 9, 14, rotation=0.4), disk((45, 45), 8))
    pixels = rng.integers(0, 256, (60, 60), dtype=np.uint8)
    pixels[0, 0], pixels[0, 1] = 0, 255
    made = measure(outlines, pixels).set_index("object")
    levels = np.minimum((pixels / np.float32(255) * LEVELS).astype(int), LEVELS - 1)
    patterns = local_binary_pattern(pixels, 8, 1, "uniform")
    for label in (1, 2):
        inside = outlines.labels == label
        marked = np.where(inside, levels, LEVELS).astype(np.uint8)  # one level more stands for the outside
        counted = graycomatrix(marked, [1], [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4], LEVELS + 1)[:LEVELS, :LEVELS, 0]
        share = counted.sum(axis=2).astype(float)
        share = (share + share.T) / (2 * share.sum())
        expected = dict.fromkeys(HARALICK, 0.0)
        mean = sum(i * share[i, j] for i in range(LEVELS) for j in range(LEVELS))
        spread = sum((i - mean) ** 2 * share[i, j] for i in range(LEVELS) for j in range(LEVELS))
        for i in range(LEVELS):
            for j in range(LEVELS):
                p = share[i, j]
                expected["contrast"] += p * (i - j) ** 2
                expected["homogeneity"] += p / (1 + (i - j) ** 2)
                expected["energy"] += p * p
                expected["correlation"] += p * (i - mean) * (j - mean) / spread
                expected["entropy"] -= p * math.log2(p) if p else 0
        for name in HARALICK:
            assert made.loc[label, f"texture {name}"] == pytest.approx(expected[name], abs=1e-9), name
        for pattern in range(10):
            expected_share = (patterns[inside] == pattern).mean()
            assert made.loc[label, f"texture lbp {pattern}"] == pytest.approx(expected_share, abs=0.02)


def test_a_blank_object_has_no_texture_and_one_pixel_no_pair() -> None:
    assert haralick(np.full((4, 4), 7), np.ones((4, 4), bool)) == (0.0, 1.0, 1.0, 1.0, 0.0)
    assert all(map(math.isnan, haralick(np.array([[3]]), np.ones((1, 1), bool))))


def test_neighbours_and_the_nearest_one() -> None:
    outlines = drawn((80, 120), disk((40, 20), 10), disk((40, 45), 10), disk((40, 100), 10))
    made = measure(outlines)  # gaps: 25 − 19 + … between the outermost pixels of the first two: 7; the third is far
    assert made["neighbours"].tolist() == [1, 1, 0]
    assert made["nearest"].tolist() == [25, 25, 55]
    assert measure(outlines, reach=6)["neighbours"].tolist() == [0, 0, 0]
    assert measure(outlines, reach=7)["neighbours"].tolist() == [1, 1, 0]
    assert measure(outlines, reach=50)["neighbours"].tolist() == [1, 2, 1]
    assert math.isnan(measure(drawn((30, 30), disk((15, 15), 5)))["nearest"].iloc[0])


def test_touching_objects_are_neighbours_and_those_at_the_border_are_marked() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[:10, 5:10], labels[:10, 10:15] = 1, 2
    made = measure(outlines_of(labels, classes=["red", "white"]))
    assert made["neighbours"].tolist() == [1, 1]
    assert made["touches border"].tolist() == [1, 1]
    assert made["class"].tolist() == ["red", "white"]


def test_microns_stand_beside_pixels_where_their_size_is_known() -> None:
    outlines = blobs()
    plain, sized = measure(outlines), measure(outlines, pixel_size=0.5)
    assert not [name for name in plain if name.endswith((" um", " um2"))]
    assert np.allclose(sized[f"{AREA} um2"], plain[AREA] * 0.25)
    for name in LENGTHS:
        assert np.allclose(sized[f"{name} um"], plain[name] * 0.5)


def test_an_image_without_objects_has_the_columns_of_one_with() -> None:
    pixels = np.zeros((30, 30, 3), np.uint8)
    empty = Outlines(np.zeros((30, 30), np.int32))
    full = measure(drawn((30, 30), disk((15, 15), 5)), pixels, pixel_size=2.0)
    assert list(measure(empty, pixels, pixel_size=2.0)) == list(full)
    assert len(measure(empty, pixels)) == 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="not of one size"):
        measure(blobs(), np.zeros((100, 100), np.uint8))
    with pytest.raises(ArgumentError, match="microns"):
        measure(blobs(), pixel_size=-1.0)
