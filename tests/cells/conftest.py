"""Label images with known objects."""

import numpy as np
import pytest


def discs(height, width, seed=0, count=12, radii=(5, 11)):
    """Discs drawn over each other: touching, cut and of several sizes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    labels = np.zeros((height, width), np.int32)
    for name in range(1, count + 1):
        cy, cx, r = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(*radii)
        labels[((y - cy) ** 2 + (x - cx) ** 2 < r**2) & (labels == 0)] = name
    return labels


@pytest.fixture
def make_discs():
    return discs
