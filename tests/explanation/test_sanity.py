"""The mechanism: what looks at the lesion passes, what does not is said not to."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from tests.explanation.checks.test_randomisation import committee_of
from tests.explanation.conftest import grad_cam, untrained
from torch import nn

from overread.explanation.checks.randomisation import edges, likeness
from overread.explanation.sanity import agreement, check, completeness_gap
from overread.explanation.verdict import Checks, verdict

RNG = np.random.Generator(np.random.Philox(key=8))


def edge_map(_, x):
    return torch.from_numpy(np.stack([edges(each) for each in x.numpy()]))


def of(world, i, method=grad_cam, network=None, **more):
    return check(method, network or world.network, world.cases.x[i : i + 1], target=1, mask=world.cases.mask[i], **more)


class TestVerdict:
    def test_grad_cam_of_the_trained_network_passes(self, world):
        found = [of(world, i) for i in range(6)]
        assert sum(each.verdict.startswith("This map passed") for each in found) >= 5
        assert sum(each.hit for each in found) >= 5

    def test_with_random_weights_it_is_said_to_fail(self, world):
        found = [of(world, i, network=untrained(4)) for i in range(6)]
        assert not any("passed" in each.verdict for each in found)
        assert all("faithfulness" in each.failed or each.nothing or each.span < 0.1 for each in found)
        assert sum("localisation" in each.failed or each.nothing for each in found) >= 2

    def test_every_step_of_the_cascade_is_told(self, world):
        found = of(world, 0)
        assert len(found.cascade) == 4
        assert found.cascade[-1] == found.rank
        assert {f"rank correlation at step {i} of 4 from the head down" for i in (1, 2, 3)} <= set(found.numbers)
        steady = of(world, 0, edge_map)
        assert steady.cascade == pytest.approx((1.0,) * 4)

    def test_an_edge_detector_is_called_one(self, world):
        found = of(world, 0, edge_map)
        assert found.verdict.startswith("This map is no better than an edge detector")
        assert found.failed[0] == "weight randomisation"
        assert found.edges == pytest.approx(1)

    def test_a_map_that_hears_nothing_of_the_weights_is_said_not_to_change(self, world):
        held = torch.from_numpy(RNG.uniform(size=(1, 28, 28)))
        assert "does not change when the weights are random" in of(world, 0, lambda *_: held).verdict

    @pytest.mark.parametrize("value", [0.0, 1.0, -1.0, math.nan])
    def test_a_constant_map_says_nothing(self, world, value):
        found = of(world, 0, lambda _, x: torch.full((len(x), 28, 28), value))
        assert found.verdict == "This map says nothing: it is the same everywhere."
        assert found.hit == 0

    def test_a_map_without_a_positive_place_says_nothing(self, world):
        found = of(world, 0, lambda network, x: -grad_cam(network, x) - 0.1)
        assert found.nothing
        assert "says nothing" in found.verdict

    def test_a_map_that_points_elsewhere_fails_by_effect_and_by_place(self, world):
        found = of(world, 2, lambda network, x: grad_cam(network, x).flip(1, 2))
        assert {"faithfulness", "localisation"} <= set(found.failed)

    def test_an_image_that_moves_nothing_leaves_nothing_to_explain(self, world):
        flat = nn.Sequential(*untrained(4).children())
        flat[-1].weight.data *= 1e-4
        found = check(lambda network, x: torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(hash(network) % 99)),
                      flat, world.cases.x[:1], target=1)  # fmt: skip
        assert abs(found.span) < 0.1
        assert "little to explain" in found.verdict

    def test_is_one_sentence_whatever_fails(self):
        for values in ({}, {"rank": 0.1, "ssim": 0.2}, {"rank": 0.9, "ssim": 0.2}, {"rank": 0.9, "ssim": 0.8, "edges": 0.1},
                       {"completeness": 0.3, "repeated": 0.1, "reproduced": 0.2}, {"span": 0.01}):  # fmt: skip
            said = verdict(Checks(**values))
            assert said.startswith(("This map ", "Of this map "))
            assert said.endswith(".")
            assert ". " not in said

    def test_what_was_not_checked_is_said(self):
        assert "not checked: what it does to the probability" in verdict(Checks(rank=0.1, ssim=0.1))
        assert verdict(Checks()) == "This map was not checked."


def test_the_same_seed_checks_the_same(world):
    assert of(world, 1, seed=5) == of(world, 1, seed=5) != of(world, 1, seed=6)


def test_numbers_have_names_and_leave_out_what_was_not_checked(world):
    found = check(grad_cam, world.network, world.cases.x[:1], target=1, steps=0).numbers
    assert "insertion of a random map" in found
    assert "SSIM at random weights" not in found


class TestCompleteness:
    def test_is_small_of_captums_integrated_gradients_and_large_of_half_of_them(self, world):
        x, baseline = world.cases.x[:1], torch.zeros(1, 1, 28, 28)
        made, delta = IntegratedGradients(world.network).attribute(
            x, baseline, target=1, n_steps=200, return_convergence_delta=True
        )
        values = made.sum(dim=1)[0].detach().numpy()
        gap = completeness_gap(world.network, x, baseline, values, 1)
        with torch.no_grad():
            change = float((world.network(x) - world.network(baseline))[0, 1])
        assert gap == pytest.approx(abs(float(delta)) / abs(change), abs=1e-3)
        assert gap < 0.05
        assert completeness_gap(world.network, x, baseline, values / 2, 1) == pytest.approx(0.5, abs=0.03)

    def test_has_no_meaning_where_nothing_changes(self, world):
        x = world.cases.x[:1]
        assert math.isnan(completeness_gap(world.network, x, x, np.ones((28, 28)), 1))


class TestAgreement:
    def test_of_two_trainings_is_of_their_maps(self, world):
        x = world.cases.x[:1]
        (same, alike), = agreement(grad_cam, [world.network, world.other], x)  # fmt: skip
        assert same
        assert alike == likeness(*(grad_cam(each, x)[0].double().numpy() for each in (world.network, world.other)))
        found = of(world, 0, others=[world.network, world.other])
        assert found.repeated == alike.rank
        assert math.isnan(found.reproduced)

    def test_of_a_committee_is_that_of_its_members_and_other_networks_are_told_apart(self, world):
        other = nn.Sequential(*untrained().children())
        other.name = "another"
        committee = committee_of(world.network, world.other, other)

        def gradient(network, x):
            x = x.clone().requires_grad_()
            return torch.autograd.grad(network(x)[:, 1].sum(), x)[0].abs().sum(dim=1)

        found = check(gradient, committee, world.cases.x[:1], target=1, steps=0, insertion_steps=0)
        assert math.isfinite(found.repeated)
        assert math.isfinite(found.reproduced)
        assert found.repeated > found.reproduced


def test_an_edge_that_changes_is_no_fault_by_itself():
    assert Checks(edges=0.9, rank=0.1, ssim=0.1).failed == ()
    assert replace(Checks(edges=0.9, rank=0.7), ssim=0.7).failed == ("weight randomisation",)
