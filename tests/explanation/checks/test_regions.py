"""Where no finding can be, and how much of a map lies there."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from overread.core.errors import ArgumentError
from overread.core.files import read_rows, write_rows
from overread.explanation.checks.regions import (
    BODY,
    EDGE,
    FIELD,
    LESION,
    TEXT,
    RegionShare,
    region_lines,
    region_shares,
    regions_of,
    shares,
)

RNG = np.random.Generator(np.random.Philox(key=9))


def body(side=120):
    pixels = np.zeros((side, side, 1), np.uint8)
    cv2.ellipse(pixels, (side // 2, side // 2), (side // 3, side // 4), 0, 0, 360, 180, -1)
    pixels[55:60, 55:60] = 0  # a hole is of the body
    return pixels


class TestRegions:
    def test_the_ground_around_a_body_is_outside_and_a_hole_is_not(self):
        pixels = body()
        filled = pixels[..., 0] > 0
        filled[55:60, 55:60] = True
        assert (regions_of(pixels)[BODY] != ~filled).mean() < 0.005

    def test_a_bright_image_has_no_ground(self):
        assert set(regions_of(RNG.integers(90, 200, (64, 64, 3)).astype(np.uint8))) == {EDGE}

    def test_a_field_is_a_circle(self):
        pixels = np.zeros((200, 200, 3), np.uint8)
        cv2.circle(pixels, (100, 100), 80, (150, 90, 60), -1)
        found = regions_of(pixels)
        assert BODY not in found
        assert found[FIELD].mean() == pytest.approx(1 - math.pi * 0.16, abs=0.01)

    def test_writing_is_found_and_the_border_is_a_twentieth(self):
        pixels = np.full((200, 300, 1), 90, np.uint8)
        cv2.putText(pixels, "PORTABLE AP", (40, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2)
        found = regions_of(pixels)
        assert found[TEXT][28:40, 45:200].mean() > 0.8
        assert not found[TEXT][80:].any()
        assert found[EDGE].mean() == pytest.approx(1 - 0.9**2)

    def test_of_a_lesion_the_rest_is_outside_and_an_empty_mask_says_nothing(self):
        mask = np.zeros((64, 64), bool)
        pixels = np.full((64, 64, 1), 99, np.uint8)
        assert LESION not in regions_of(pixels, mask)
        mask[5:9, 5:9] = True
        assert (regions_of(pixels, mask)[LESION] == ~mask).all()
        with pytest.raises(ArgumentError, match="one size"):
            regions_of(pixels, mask[1:])

    def test_volumes_have_a_border_and_a_ground(self):
        volume = np.zeros((20, 30, 30, 1), np.uint8)
        volume[5:15, 8:22, 8:22] = 200
        found = regions_of(volume)
        assert set(found) == {EDGE, BODY}
        assert found[BODY].mean() == pytest.approx(1 - 10 * 14 * 14 / (20 * 900), abs=0.02)


class TestShares:
    def test_of_an_even_map_are_those_of_the_area(self):
        regions = regions_of(body())
        for share, area in shares(np.full((120, 120), -2.0), regions).values():
            assert share == pytest.approx(area)

    def test_a_map_of_nothing_has_none(self):
        assert shares(np.zeros((4, 4)), {"all": np.ones((4, 4), bool)}) == {}

    def test_a_model_that_looks_at_the_writing_is_found_out(self, tmp_path):
        found = [{TEXT: (0.2 + 0.1 * RNG.uniform(), 0.02), EDGE: (0.19 + 0.01 * RNG.normal(), 0.19)} for _ in range(30)]
        rows = region_shares("grad-cam", found, [f"p{i}" for i in range(30)])
        text, edge = rows
        assert text.finding.startswith("The model looks on burned-in text more than by chance: 25%")
        assert not edge.finding
        assert text.low < text.share < text.high
        assert edge.low < 0.19 < edge.high
        assert read_rows(RegionShare, write_rows(tmp_path / "regions.json", rows)) == rows
        assert any("on burned-in text" in line for line in region_lines(rows))

    def test_the_difference_counts_case_by_case(self):
        """A region that is large in one image and small in another spreads shares, not differences."""
        areas = RNG.uniform(0.05, 0.9, 40)
        rows = region_shares("m", [{EDGE: (a + 0.03, a)} for a in areas], [str(i) for i in range(40)])
        assert rows[0].low == pytest.approx(areas.mean() + 0.03)
        assert rows[0].finding

    def test_one_patient_gives_no_finding_and_few_are_said(self):
        assert region_shares("m", [{EDGE: (0.9, 0.1)}] * 5, ["a"] * 5)[0].finding == ""
        few = region_shares("m", [{EDGE: (0.8 + 0.01 * i, 0.1)} for i in range(4)], list("abcd"))[0]
        assert "4 patients only" in few.finding
