"""A drawn slide with its heat map, which pages show."""

from __future__ import annotations

import pytest
from served_slides import draw_map, draw_slide


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """The address of a drawn slide, and its heat map."""
    home = tmp_path_factory.mktemp("slide")
    slide = draw_slide(home / "a.tif")
    return f"{slide}#slide", draw_map(home / "map.tif", slide)
