"""Overlap, distance and instances against SimpleITK and slow restatements; awkward inputs."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from overread.core.errors import ArgumentError
from overread.stats.overlap import (
    AP,
    METRICS,
    average_precision_over_iou,
    dice,
    hausdorff,
    jaccard,
    mean_overlap,
    merges_and_splits,
    overlap,
    panoptic_quality,
)


def disks(rng, count, shape=(60, 80), wobble=3.0):
    """Two label images of the same disks, the second a little moved; the last disk is missing, one is added."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    images = np.zeros((2, *shape), int)
    for k in range(count):
        centre, radius = rng.uniform((8, 8), np.array(shape) - 8), rng.uniform(4, 9)
        for i in range(2):
            cy, cx = centre + i * rng.normal(0, wobble, 2)
            if not (i and k == count - 1):
                images[i][(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = k + 1
    images[1][:4, :4] = 77
    return images


@pytest.mark.parametrize("seed", range(3))
def test_masks_are_those_of_simpleitk(seed):
    a, b = disks(np.random.default_rng(seed), 4)
    spacing = (0.7, 0.4)
    images = [sitk.GetImageFromArray((x > 0).astype(np.uint8)) for x in (a, b)]
    for image in images:
        image.SetSpacing(spacing[::-1])
    both = sitk.LabelOverlapMeasuresImageFilter()
    both.Execute(*images)
    assert dice(a, b).value == pytest.approx(both.GetDiceCoefficient(), abs=1e-12)
    assert jaccard(a, b).value == pytest.approx(both.GetJaccardCoefficient(), abs=1e-12)
    far = sitk.HausdorffDistanceImageFilter()
    far.Execute(*images)
    assert hausdorff(a, b, spacing=spacing, share=1).value == pytest.approx(far.GetHausdorffDistance(), rel=1e-6)


def slow_border(mask):
    """A pixel without four neighbours (six in three dimensions) in the mask."""
    inside, found = set(map(tuple, np.argwhere(mask))), []
    for point in inside:
        steps = [tuple(p + (a == k) * s for k, p in enumerate(point)) for a in range(mask.ndim) for s in (-1, 1)]
        if not all(step in inside for step in steps):
            found.append(point)
    return np.array(found, float)


@pytest.mark.parametrize("shape", [(14, 17), (6, 7, 8)])
def test_distances_are_those_between_all_pairs_of_border_pixels(shape):
    rng = np.random.default_rng(3)
    spacing = np.array([1.5, 0.8, 0.6][: len(shape)])
    a, b = (np.zeros(shape, int) for _ in range(2))
    a[tuple(slice(0, 4) for _ in shape)] = 1
    b[tuple(slice(2, 6) for _ in shape)] = 5
    b[tuple(rng.integers(0, s) for s in shape)] = 2
    p, q = (slow_border(x > 0) * spacing for x in (a, b))
    apart = np.linalg.norm(p[:, None] - q[None], axis=2)
    for share in (0.95, 0.5):
        known = max(np.quantile(apart.min(axis=1), share), np.quantile(apart.min(axis=0), share))
        assert hausdorff(a, b, spacing=spacing.tolist(), share=share).value == pytest.approx(known, rel=1e-12)


def slow_instances(a, b):
    """Every true instance against every predicted one."""
    trues, drawns = ([x == k for k in np.unique(x) if k] for x in (a, b))
    iou = np.array([[(t & p).sum() / (t | p).sum() for p in drawns] for t in trues]).reshape(len(trues), len(drawns))
    precision = []
    for k in range(10):
        tp = sum(1 for row in iou for v in row if v > (10 + k) / 20 + 1e-12)
        precision.append(tp / (len(trues) + len(drawns) - tp))
    good = [v for row in iou for v in row if v > 0.5 + 1e-12]
    tp, fp, fn = len(good), len(drawns) - len(good), len(trues) - len(good)
    rq, sq = tp / (tp + fp / 2 + fn / 2), sum(good) / tp
    merges = sum(max(0, sum((t & p).sum() > t.sum() / 2 for t in trues) - 1) for p in drawns)
    splits = sum(max(0, sum((t & p).sum() > p.sum() / 2 for p in drawns) - 1) for t in trues)
    return np.mean(precision), sq * rq, sq, rq, merges, splits


@pytest.mark.parametrize("seed", range(4))
def test_instances_are_those_of_the_definition(seed):
    rng = np.random.default_rng(seed)
    a, b = disks(rng, 9, wobble=1.5)
    a[30, 30:44] = 50
    b[30, 30:36], b[30, 36:44] = 60, 61
    values = {e.metric: e.value for e in overlap(a, b)}
    assert list(values) == list(METRICS)
    assert [values[m] for m in list(METRICS)[3:]] == pytest.approx(slow_instances(a, b), abs=1e-12)
    again = [average_precision_over_iou(a, b), *panoptic_quality(a, b), *merges_and_splits(a, b)]
    assert [e.value for e in again] == [values[m] for m in list(METRICS)[3:]]


def test_merges_and_splits_by_hand():
    truth = np.array([[1, 1, 1, 0, 2, 2, 2, 0, 3, 3, 3, 3]])
    drawn = np.array([[9, 9, 9, 9, 9, 9, 9, 0, 4, 4, 5, 5]])
    assert [e.value for e in merges_and_splits(truth, drawn)] == [1, 1]
    assert [e.value for e in merges_and_splits(drawn, truth)] == [1, 1]
    assert [e.value for e in merges_and_splits(truth, truth)] == [0, 0]


def test_a_match_must_exceed_one_half():
    """Two predicted halves of one instance: neither may match, whatever the rounding."""
    assert panoptic_quality([[1, 1]], [[1, 2]])[2].value == 0
    assert average_precision_over_iou([[1, 1]], [[1, 2]]).value == 0


def test_empty_against_empty_is_undefined_with_a_reason():
    none, some = np.zeros((5, 6), int), np.eye(5, 6, dtype=int)
    assert {e.undefined for e in overlap(none, none)} == {"both images are empty"}
    found = {e.metric: e for e in overlap(some, none)}
    assert (found["dice"].value, found["panoptic quality"].value, found[AP].value) == (0, 0, 0)
    assert found["hausdorff 95 %"].undefined == "one of the two images is empty"
    assert found["segmentation quality"].undefined == "no instance is matched"
    assert {e.undefined for e in overlap(np.zeros((0, 4), int), np.zeros((0, 4), int))} == {"both images are empty"}
    assert all(e.undefined == "no images" for e in mean_overlap([], []))
    assert all(e.undefined == "undefined for every image" for e in mean_overlap([none], [none]))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(arrays.arrays(np.uint8, (2, 4, 5), elements=st.integers(0, 3)))
def test_any_two_images_have_values_in_range_or_reasons(pair):
    for e in overlap(*pair):
        assert bool(e.undefined) == math.isnan(e.value)
        assert e.undefined or (e.value >= 0 and (e.value <= 1 or METRICS[e.metric] == "positive"))
    same = {e.metric: e for e in overlap(pair[0], pair[0])}
    assert pair[0].max() == 0 or (same["panoptic quality"].value, same["hausdorff 95 %"].value) == (1, 0)


def test_the_mean_over_images_leaves_out_what_is_undefined_and_says_so():
    rng = np.random.default_rng(0)
    pairs = [disks(rng, 5) for _ in range(12)]
    pairs[3][:] = 0
    patients = np.arange(12) // 2
    found = mean_overlap(*zip(*pairs), patients, spacings=[(0.5, 0.5)] * 12, resamples=300)
    each = np.array([[e.value for e in overlap(a, b, spacing=(0.5, 0.5))] for a, b in pairs])
    assert [e.value for e in found] == pytest.approx(np.nanmean(each, axis=0), abs=1e-12)
    assert all(e.low <= e.value <= e.high for e in found)
    assert (found[0].images, found[0].patients) == (11, 6)
    assert "1 without a value left out" in found[0].method


def test_bad_images_are_refused():
    good = np.ones((3, 3), int)
    for a, b in ((good, good[:2]), (good[0], good[0]), (good * 0.5, good), (-good, good)):
        with pytest.raises(ArgumentError):
            overlap(a, b)
    for spacing in ((1.0,), (1.0, 0.0), (1.0, math.nan)):
        with pytest.raises(ArgumentError, match="spacing"):
            hausdorff(good, good, spacing=spacing)
    with pytest.raises(ArgumentError, match="share"):
        hausdorff(good, good, share=0)
    with pytest.raises(ArgumentError, match="needs its truth"):
        mean_overlap([good], [])
