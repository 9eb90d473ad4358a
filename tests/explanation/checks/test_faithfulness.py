"""Insertion, deletion, and maps against a mask, each beside a slow restatement or another library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import auc, precision_recall_curve
from torch import nn

from overread.core.errors import ArgumentError
from overread.explanation.checks.faithfulness import (
    blanked,
    centred,
    insertion_deletion,
    points_at,
    precision_recall_area,
    random_maps,
)
from overread.networks.backbones import build
from overread.networks.fusion import Fused

RNG = np.random.Generator(np.random.Philox(key=6))


class Total(nn.Module):
    """A 'network' whose output is a weighted sum of pixels: what each curve must be is known."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights, requires_grad=False)

    def forward(self, x):
        return torch.nan_to_num(x).mul(self.weights).flatten(1).sum(dim=1, keepdim=True)


def first(outputs):
    return outputs[:, 0]


def slow(network, x, values, steps, blank):
    """Petsiuk 2018, algorithm 1, a pixel at a time."""
    order = sorted(range(values.size), key=lambda i: -values.ravel()[i])
    insertion, deletion = [], []
    for step in range(steps + 1):
        into, from_ = blank.clone(), x.clone()
        for i in order[: round(values.size * step / steps)]:
            at = (slice(None), slice(None), *(int(k) for k in np.unravel_index(i, values.shape)))
            into[at], from_[at] = x[at], blank[at]
        insertion.append(float(first(network(into))))
        deletion.append(float(first(network(from_))))
    return insertion, deletion


@pytest.mark.parametrize("fill", ["blurred", "mean"])
@pytest.mark.parametrize("shape", [(6, 7), (3, 5, 4)])
def test_agrees_with_a_slow_restatement(shape, fill):
    x = torch.from_numpy(RNG.normal(size=(1, 2, *shape)))
    network, maps = Total(torch.from_numpy(RNG.normal(size=(2, *shape)))), RNG.normal(size=(2, *shape))
    found = insertion_deletion(network, x, maps, first, steps=5, cell=1, fill=fill, batch=3)
    for i, values in enumerate(maps):
        insertion, deletion = slow(network, x, values, 5, blanked(x, fill))
        assert found.insertion[i] == pytest.approx(insertion, abs=1e-5)
        assert found.deletion[i] == pytest.approx(deletion, abs=1e-5)
        assert found.inserted[i] == pytest.approx(auc(np.linspace(0, 1, 6), insertion), abs=1e-5)
    every = np.concatenate([found.insertion, found.deletion])
    assert (found.lowest, found.highest) == (every.min(), every.max())


def test_squares_go_by_their_mean_and_all_pixels_of_one_together():
    x = torch.ones(1, 1, 4, 4)
    x[0, 0, :2, :2] = 3
    values = np.zeros((1, 4, 4))
    values[0, 0, 0] = 1  # one pixel speaks for its square
    weights = torch.zeros(1, 4, 4)
    weights[0, :2, :2] = 1
    found = insertion_deletion(Total(weights), x, values, first, steps=4, cell=2, fill="mean")
    assert found.deletion[0].tolist() == pytest.approx([12, 6, 6, 6, 6])
    assert found.insertion[0].tolist() == pytest.approx([6, 12, 12, 12, 12])


def test_the_true_map_beats_maps_that_know_nothing():
    weights = torch.zeros(1, 28, 28)
    weights[0, 3:9, 15:23] = 0.2
    x = torch.from_numpy(RNG.uniform(size=(1, 1, 28, 28))).float()
    x[0, 0, 3:9, 15:23] += 1
    maps = np.concatenate([weights.numpy(), centred((28, 28))[None], random_maps((28, 28), 3)])
    found = insertion_deletion(Total(weights), x, maps, lambda outputs: (outputs[:, 0] - 11).sigmoid())
    effect = found.inserted - found.deleted
    assert effect[0] > effect[1:].max() + 0.2


def test_of_several_images_each_has_its_own_squares_and_a_missing_one_stays_missing():
    network = Fused(build("lenet5", outputs=2, channels=1), "mean", outputs=2).eval()
    x = torch.from_numpy(RNG.uniform(size=(1, 3, 1, 32, 32))).float()
    x[0, 1] = torch.nan
    seen = []
    network.register_forward_pre_hook(lambda _, args: seen.append(network.present(args[0])))
    found = insertion_deletion(network, x, RNG.uniform(size=(1, 3, 32, 32)), first, steps=4)
    assert np.isfinite(found.insertion).all()
    assert all(each.tolist() == [[True, False, True]] * len(each) for each in seen)


def test_maps_of_other_sides_are_refused():
    with pytest.raises(ArgumentError, match="sides of one case"):
        insertion_deletion(Total(torch.ones(1, 4, 4)), torch.ones(1, 1, 4, 4), np.ones((1, 3, 4)), first)


class TestBlind:
    def test_random_maps_are_smooth_seeded_and_one_a_seed(self):
        one, two = random_maps((56, 56), 2, seed=4)
        assert np.array_equal(one, random_maps((56, 56), 1, seed=4)[0])
        assert not np.array_equal(one, two)
        assert abs(np.diff(one, axis=0)).max() < 0.2
        assert random_maps((3, 8, 9), 2, sides=2).shape == (2, 3, 8, 9)
        assert random_maps((8, 9, 10), 2).shape == (2, 8, 9, 10)

    def test_the_spot_is_a_gaussian_of_a_quarter_of_the_side(self):
        spot = centred((41, 81))
        assert spot[20, 40] == 1
        assert spot[20, 40 + 20] == pytest.approx(np.exp(-0.5 * (20 / 20.25) ** 2))
        assert np.array_equal(*centred((2, 8, 8), sides=2))


class TestMasks:
    def test_the_area_is_the_average_precision(self):
        mask = RNG.uniform(size=(12, 12)) < 0.2
        values = RNG.normal(size=(12, 12)) + mask
        precision, recall, _ = precision_recall_curve(mask.ravel(), values.ravel())
        assert precision_recall_area(values, mask) == pytest.approx(-np.sum(np.diff(recall) * precision[:-1]))
        assert precision_recall_area(np.zeros((12, 12)), mask) == pytest.approx(mask.mean())

    def test_an_empty_or_full_mask_has_no_area(self):
        for mask in (np.zeros((3, 3), bool), np.ones((3, 3), bool)):
            assert np.isnan(precision_recall_area(np.eye(3), mask))
            assert np.isnan(points_at(np.eye(3), mask))

    def test_several_largest_places_count_by_their_share(self):
        mask = np.array([[True, False], [False, False]])
        assert points_at(np.array([[2.0, 1], [0, 0]]), mask) == 1
        assert points_at(np.array([[2.0, 2], [0, 0]]), mask) == 0.5
