"""Bits of descriptors: signs of projections, ITQ against a slow search, and learned of training images alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from overread.core.errors import InputError
from overread.learning.recipe import CODES
from overread.networks.codes import MAKERS, CodedLinear, planes_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4)) @ np.diag([3.0, 2.0, 1.0, 0.5])
X = (X - X.mean(0)) / X.std(0)


def head(kind: str = "hyperplanes", bits: int = 16) -> CodedLinear:
    made = CodedLinear(2, 4, 3, bits=bits, kind=kind)
    made.learn(torch.from_numpy(np.hstack([np.ones((200, 2)), 5 * X + 7]).astype(np.float32)), seed=3)
    return made


def test_bits_are_the_sides_of_the_planes_and_the_rest_stays():
    coded = head()
    given = torch.from_numpy(np.hstack([RNG.normal(size=(9, 2)), 5 * RNG.normal(size=(9, 4)) + 7]).astype(np.float32))
    found = coded.coded(given)
    assert torch.equal(found[:, :2], given[:, :2])
    standardised = (given[:, 2:] - coded.middle) / coded.spread
    assert torch.equal(found[:, 2:], (standardised @ coded.planes >= 0).float())
    assert torch.allclose(coded(given), found @ coded.weight.T + coded.bias)
    assert 0.2 < found[:, 2:].mean() < 0.8


def test_random_planes_keep_angles():
    """The share of bits that differ is the angle over π (Charikar 2002, section 3)."""
    planes = planes_of(X, 20_000, "hyperplanes", 1)
    a, b = X[0], X[1]
    share = np.mean((a @ planes >= 0) != (b @ planes >= 0))
    assert share == pytest.approx(np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) / np.pi, abs=0.01)


def test_itq_loses_less_by_taking_signs_than_any_of_many_rotations():
    data = np.sign(RNG.normal(size=(300, 2))) @ np.array(
        [[np.cos(0.6), np.sin(0.6)], [-np.sin(0.6), np.cos(0.6)]]
    ) + 0.1 * RNG.normal(size=(300, 2))
    data = data - data.mean(0)

    def lost(projected):
        return np.square(np.where(projected >= 0, 1, -1) - projected).sum()

    found = lost(data @ planes_of(data, 2, "itq", 0))
    angles = np.linspace(0, np.pi, 181)
    best = min(lost(data @ np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]])) for t in angles)
    components = np.linalg.svd(data, full_matrices=False)[2].T
    assert found <= best * 1.001
    assert found < 0.8 * lost(data @ components), "principal components alone lose more"


def test_more_bits_than_components_are_refused_and_a_seed_is_a_seed():
    with pytest.raises(InputError, match="fewer principal components"):
        planes_of(X, 5, "itq", 0)
    assert torch.equal(head().planes, head().planes)


def test_a_recipe_names_the_codes_that_there_are():
    assert ("none", *MAKERS) == CODES
