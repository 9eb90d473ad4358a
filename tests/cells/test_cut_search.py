"""Cuttings chosen on tuning images."""

import numpy as np
import pytest

from overread.cells.cut_search import STARTS, pooled_precision, snapshot_precision, tune
from overread.cells.instance_cut import Maps, cut
from overread.networks.instance_heads import Layout
from overread.stats.overlap import Instances, average_precision_over_iou

LAYOUT = Layout("offsets", 1, 8, 1)


@pytest.fixture
def truth():
    labels = np.zeros((32, 32), np.int64)
    labels[4:12, 4:12], labels[18:28, 18:28] = 1, 2
    return labels


def unsure(truth, centres):
    """Maps of one place a pixel: each points at the nearest of the centres, of none of which the network is sure."""
    rows, columns = np.indices(truth.shape)
    away = np.array([[row - rows, column - columns] for row, column in centres])
    nearest = np.abs(away).sum(1).argmin(0)
    heat = np.zeros(truth.shape)
    heat[tuple(np.array(centres).T)] = 0.15
    places = [heat, *(np.take_along_axis(away[:, axis], nearest[None], 0)[0] for axis in (0, 1))]
    return Maps((255 * (truth > 0))[None].astype(np.uint8), np.array(places).astype(np.float16))


def test_snapshots_that_are_unsure_of_everything_are_told_apart(truth):
    good, bad = unsure(truth, [(7, 7), (22, 22)]), unsure(truth, [(0, 31), (31, 0)])
    assert pooled_precision([Instances.of(truth, cut(good, LAYOUT, STARTS["offsets"]).astype(np.int64))]) == 0
    assert snapshot_precision([good], [truth], LAYOUT) == 1
    assert snapshot_precision([bad], [truth], LAYOUT) < 0.5


def test_the_score_of_one_image_is_that_of_the_statistics_room(truth):
    found = np.where(truth == 2, 0, truth)
    found[20:27, 18:28] = 2
    expected = average_precision_over_iou(truth, found).value
    assert pooled_precision([Instances.of(truth, found)]) == pytest.approx(expected)


def test_groups_count_alike_whatever_their_size(truth):
    right, nothing = Instances.of(truth, truth), Instances.of(truth, np.zeros_like(truth))
    assert pooled_precision([right, right, right, nothing], ["a", "a", "a", "b"]) == pytest.approx(0.5)


def test_tuning_finds_the_threshold_of_an_unsure_network(truth):
    cutting, score, before = tune([unsure(truth, [(7, 7), (22, 22)])], [truth], LAYOUT)
    assert (before, score) == (0, 1)
    assert cutting.centre < 0.15
