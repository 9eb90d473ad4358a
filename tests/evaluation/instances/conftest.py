"""Images of disks, of which some are moved, missed, made up, merged and split."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_outlines import disks


@pytest.fixture(scope="module")
def images():
    """24 images of nought to eight disks."""
    rng = np.random.default_rng(7)
    return [disks(rng, int(rng.integers(0, 9))) for _ in range(24)]
