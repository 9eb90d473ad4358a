"""How far another program is from the model, in the unit that it is judged by."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from overread.core.errors import UnsoundError
from overread.export.specimens import Specimens, difference, require_equal


def test_a_quantity_is_compared_in_its_deviations_and_not_in_its_own_unit() -> None:
    months = np.float32([[200.0], [120.0]])
    near = np.nextafter(months, np.float32(300))  # one step of a 32-bit number: 1.5e-5 months
    held = Specimens(torch.zeros(2, 3, 4, 4), months, (), scale=40.0)
    require_equal(difference(near, held), 1e-5, held, "network.py")
    with pytest.raises(UnsoundError):
        require_equal(difference(months + 0.01, held), 1e-5, held, "network.py")
    assert difference(months * np.nan, held) == np.inf
