"""Tissue, ink, blur, stain and audit on a real section in haematoxylin and eosin: OpenSlide's CMU-1-Small-Region."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from skimage.color import rgb2hsv

import overread as ov
from overread.images.address import parse
from overread.images.slides.slide import open_slide, read_region
from overread.images.slides.stain import TARGET, TARGET_COLOURS, normalise, slide_stain
from overread.images.slides.tissue import KINDS, find_tissue


@pytest.fixture(scope="module")
def section(shared):
    return shared / "data/slides/small_HE.svs"


@pytest.fixture(scope="module")
def pixels(section):
    slide = open_slide(section)
    return read_region(slide, 0.0, 0.0, slide.width, slide.height, slide.mpp)


@pytest.fixture(scope="module")
def tissue(section):
    return find_tissue(open_slide(section))


def written(path, pixels, mpp=0.499):
    with tifffile.TiffWriter(path) as file:
        for level in range(3):
            small = cv2.resize(pixels, None, fx=0.25**level, fy=0.25**level, interpolation=cv2.INTER_AREA)
            file.write(small, tile=(256, 256), photometric="rgb", compression="jpeg", compressionargs={"level": 90}, subfiletype=1 if level else 0,
                       resolution=(1e4 / mpp, 1e4 / mpp), resolutionunit="CENTIMETER")  # fmt: skip
    return path


def test_tissue_is_what_has_colour(pixels, tissue):
    """Against the saturation of another colour model."""
    cells = cv2.resize(pixels, tissue.kinds.shape[::-1], interpolation=cv2.INTER_AREA)
    coloured = rgb2hsv(cells)[..., 1] > 0.12
    assert (coloured & tissue.mask).sum() / (coloured | tissue.mask).sum() > 0.85  # small holes are filled
    assert tissue.shares["tissue"] == pytest.approx(0.35, abs=0.02)
    assert tissue.shares["blur"] + tissue.shares["bubble"] + tissue.shares["edge"] < 0.005


def test_ink_over_it_is_found(pixels, tmp_path):
    inked, truth = pixels.copy(), np.zeros(pixels.shape[:2], np.uint8)
    cv2.line(truth, (300, 1500), (1900, 1700), 1, 260)
    inked[truth > 0] = (inked[truth > 0].astype(float) * np.array((60, 80, 190)) / 245).astype(np.uint8)
    found = find_tissue(open_slide(written(tmp_path / "a.tif", inked)))
    drawn = cv2.resize(truth * 255, found.kinds.shape[::-1], interpolation=cv2.INTER_AREA)
    assert (found.kinds == KINDS.index("pen"))[drawn == 255].mean() > 0.85  # not all where it lies on dense eosin
    assert found.mask[cv2.dilate(drawn, np.ones((9, 9), np.uint8)) == 0].sum() > 0.5 * found.mask.sum()


@pytest.mark.parametrize(("sigma", "low", "high"), [(1.0, 0.0, 0.02), (4.0, 0.9, 1.0)])
def test_blur_is_told_by_its_width(pixels, tmp_path, sigma, low, high):
    """``sigma``: microns."""
    found = find_tissue(open_slide(written(tmp_path / "a.tif", cv2.GaussianBlur(pixels, (0, 0), sigma / 0.499))))
    share = found.shares["blur"] / (found.shares["blur"] + found.shares["tissue"])
    assert low <= share <= high


def test_the_target_of_stains_is_this_section(section, pixels):
    address = parse(f"{section}#slide")
    found, colours = slide_stain(address, "macenko"), slide_stain(address, "reinhard")
    for name in ("haematoxylin", "eosin", "amounts"):
        np.testing.assert_allclose(getattr(found, name), getattr(TARGET, name), atol=0.002)
    for name in ("mean", "std"):
        np.testing.assert_allclose(getattr(colours, name), getattr(TARGET_COLOURS, name), atol=0.0005)
    part = pixels[1200:1700, 900:1400]
    assert np.abs(normalise(part, colours).astype(int) - part).mean() < 1
    assert (
        np.abs(normalise(part, found).astype(int) - part).mean() < 8
    )  # what lies outside of the plane of two stains is dropped


def test_its_audit_has_nothing_to_blame_but_that_it_is_alone(section, tmp_path):
    pd.DataFrame({"slide": [str(section)], "tumour": ["normal"], "patient": ["p"]}).to_csv(tmp_path / "t.csv", index=False)  # fmt: skip
    cases = ov.read_cases(tmp_path / "t.csv", image="slide", label="tumour", patient="patient")
    kinds = {finding.kind for finding in ov.audit(cases, threads=1).findings}
    assert {"tissue", "no-pyramid"} <= kinds
    assert not kinds & {"little-tissue", "spoilt-slide", "outlines-elsewhere", "burned-in", "damaged-slide"}
