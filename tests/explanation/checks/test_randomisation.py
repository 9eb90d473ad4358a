"""Weights redrawn from the head down, and how alike maps are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from skimage.filters import sobel
from skimage.metrics import structural_similarity
from tests.explanation.conftest import grad_cam, untrained
from torch import nn

from overread.core.errors import ArgumentError
from overread.explanation.checks.randomisation import (
    as_maps,
    cascade,
    depths_of,
    edge_likeness,
    edges,
    is_blank,
    likeness,
    redrawn,
)
from overread.images.preprocess import Preprocess
from overread.learning.ensemble import Committee, Member
from overread.networks.backbones import build

RNG = np.random.Generator(np.random.Philox(key=5))


def gradient(network, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(network(x)[:, 1].sum(), x)[0].sum(dim=1)


class TestLikeness:
    def test_agrees_with_scipy_and_scikit_image(self):
        one, other = RNG.normal(size=(2, 20, 24))
        found = likeness(one, other + one)
        assert found.signed == pytest.approx(spearmanr(one.ravel(), (other + one).ravel()).statistic)
        assert found.rank == pytest.approx(spearmanr(abs(one).ravel(), abs(other + one).ravel()).statistic)
        a, b = abs(one) / abs(one).max(), abs(other + one) / abs(other + one).max()
        assert found.ssim == pytest.approx(structural_similarity(a, b, data_range=1.0))

    def test_a_turned_sign_is_seen_by_the_signed_rank_alone(self):
        one = RNG.normal(size=(16, 16))
        found = likeness(one, -one)
        assert (found.rank, found.signed, found.ssim) == pytest.approx((1, -1, 1))

    @pytest.mark.parametrize("blank", [np.zeros((9, 9)), np.full((9, 9), 3.3), np.full((9, 9), np.nan)])
    def test_a_blank_map_is_like_nothing(self, blank):
        assert is_blank(blank)
        assert np.isnan(likeness(blank, np.eye(9)).rank)

    def test_of_views_the_windows_stay_within_a_view(self):
        one, other = RNG.uniform(size=(2, 3, 12, 12))
        a, b = one / one.max(), other / other.max()
        each = [structural_similarity(x, y, data_range=1.0) for x, y in zip(a, b)]
        assert likeness(one, other).ssim == pytest.approx(np.mean(each))

    def test_of_volumes(self):
        one = RNG.uniform(size=(8, 9, 10))
        assert likeness(one, one**2).rank == pytest.approx(1)

    def test_maps_of_two_shapes_are_refused(self):
        with pytest.raises(ArgumentError, match="one shape"):
            likeness(np.eye(3), np.eye(4))


class TestEdges:
    def test_are_those_of_scikit_image_but_for_its_factor(self):
        image = RNG.uniform(size=(1, 15, 17))
        ours, theirs = edges(image)[1:-1, 1:-1], sobel(image[0])[1:-1, 1:-1]
        assert ours / theirs == pytest.approx(np.full_like(ours, (ours / theirs).mean()))

    def test_an_edge_map_is_like_the_edges_and_noise_is_not(self):
        image = np.zeros((1, 40, 40))
        image[0, 10:30, 12:28] = 1
        image += RNG.normal(size=image.shape) * 0.05
        assert edge_likeness(edges(image), image) > 0.99
        assert abs(edge_likeness(RNG.normal(size=(40, 40)), image)) < 0.1

    def test_a_missing_view_has_none(self):
        views = RNG.uniform(size=(2, 1, 9, 9))
        views[1] = np.nan
        found = edges(views, sides=2)
        assert found.shape == (2, 9, 9)
        assert found[0].any()
        assert not found[1].any()


class TestRedrawn:
    def test_the_trained_network_is_never_touched(self, world):
        before = {name: value.clone() for name, value in world.network.state_dict().items()}

        def breaks(network, x):
            raise RuntimeError("a method that breaks")

        with pytest.raises(RuntimeError):
            cascade(breaks, world.network, world.cases.x[:1], maps=torch.rand(1, 28, 28))
        cascade(grad_cam, world.network, world.cases.x[:1], steps=3)
        after = world.network.state_dict()
        assert all(torch.equal(value, after[name]) for name, value in before.items())

    def test_a_depth_changes_its_modules_alone_and_batch_norm_keeps_its_statistics(self, world):
        copied = redrawn(world.network, [("head",), ("b1",)], seed=3)
        same = {
            name: torch.equal(value, copied.state_dict()[name]) for name, value in world.network.state_dict().items()
        }
        changed = {name for name, value in same.items() if not value}
        assert changed == {"head.weight", "head.bias", "b1.weight", "b1.bias"}

    def test_keeps_mean_and_spread(self):
        network = build("lenet5", outputs=2, channels=1).eval()
        name, weight = max(network.named_parameters(), key=lambda each: each[1].numel())
        drawn = dict(redrawn(network, [(name.rpartition(".")[0],)]).named_parameters())[name]
        assert float(drawn.detach().std()) == pytest.approx(float(weight.detach().std()), rel=0.05)

    def test_the_same_seed_draws_the_same(self, world):
        one, two, three = (redrawn(world.network, [("c1", "c2")], seed=seed) for seed in (1, 1, 2))
        assert torch.equal(one.c1.weight, two.c1.weight)
        assert not torch.equal(one.c1.weight, three.c1.weight)


class TestDepths:
    def test_go_from_the_head_to_the_image(self, world):
        assert depths_of(world.network, world.cases.x, 3) == [("head",), ("c2", "b1"), ("c1",)]
        assert depths_of(world.network, world.cases.x, 9) == [("head",), ("c2",), ("b1",), ("c1",)]
        assert depths_of(world.network, world.cases.x, 1) == [("head", "c2", "b1", "c1")]

    def test_hold_every_weight_of_a_transformer(self):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        network = nn.Sequential(
            nn.Flatten(2), nn.Linear(16, 8), nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(8, 2)
        )
        network.eval()
        found = {name for depth in depths_of(network, torch.zeros(1, 1, 4, 4), 4) for name in depth}
        assert found == {n for n, m in network.named_modules() if any(True for _ in m.parameters(recurse=False))}

    def test_of_a_committee_take_all_heads_first(self, world):
        committee, x = committee_of(untrained(0), untrained(1)), world.cases.x
        first = depths_of(committee, x, 3)[0]
        assert first == ("members.0.network.head", "members.1.network.head")


class TestCascade:
    def test_is_of_each_case_what_it_is_alone(self, world):
        both = cascade(grad_cam, world.network, world.cases.x[:2], steps=3, draws=2)
        alone = cascade(grad_cam, world.network, world.cases.x[1:2], steps=3, draws=2)
        assert len(both) == 2
        assert [step.layer for step in both[1]] == ["head", "b1", "c1"]
        assert [step.rank for step in both[1]] == pytest.approx([step.rank for step in alone[0]], abs=1e-3)

    def test_a_gradient_changes_and_an_edge_detector_does_not(self, world):
        x = world.cases.x[:1]
        edge = cascade(lambda _, x: torch.from_numpy(edges(x[0].numpy()))[None], world.network, x)[0]
        assert all((step.rank, step.signed, step.ssim) == pytest.approx((1, 1, 1)) for step in edge)
        last = cascade(gradient, world.network, x)[0][-1]
        assert abs(last.signed) < 0.3
        assert last.ssim < 0.5

    def test_a_map_that_goes_blank_has_changed(self, world):
        def only_trained(network, x):
            return torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0)) * (network is world.network)

        assert cascade(only_trained, world.network, world.cases.x[:1])[0][-1].rank == 0


def committee_of(*networks: nn.Module) -> Committee:
    one = Preprocess(size=(28, 28), channels=1, mean=(0.5,), std=(0.25,))
    return Committee([Member(network, one, one) for network in networks], [1 / len(networks)] * len(networks)).eval()


def test_a_missing_image_is_no_fault_of_the_map_and_a_broken_pixel_is():
    maps = torch.ones(2, 2, 4, 4)
    maps[0, 1] = torch.nan
    maps[1, 1, 0, 0] = torch.nan
    whole, broken = as_maps(maps)
    assert np.isfinite(whole).all()
    assert is_blank(broken)
