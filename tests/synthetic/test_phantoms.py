"""What phantoms say of what was planted in them."""

from __future__ import annotations

import numpy as np

from overread.synthetic import phantoms
from overread.synthetic.phantoms import chest_opacity


def test_an_opacity_that_changes_nothing_is_nowhere(monkeypatch) -> None:
    assert chest_opacity(0, 1, size=32).any()
    monkeypatch.setattr(phantoms, "_air_and_heart", lambda u, y, x: (np.zeros(y.shape), np.ones(y.shape)))
    assert not chest_opacity(0, 1, size=32).any()
