"""Whole slides of scanners: what we read is what OpenSlide reads, and what is broken is told."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from installed import module

from overread.core.errors import ImageError
from overread.images.examine import examine
from overread.images.preprocess import Preprocess
from overread.images.read import read_image
from overread.images.slides.files.vendor_slide import VendorSlide
from overread.images.slides.slide import is_slide, open_slide, read_region, read_tile, slide_digest
from overread.images.store import pack


@pytest.fixture
def slides(shared) -> Path:
    folder = shared / "data" / "slides"
    if not folder.is_dir():
        pytest.skip("no slides")
    return folder


@pytest.fixture
def openslide():
    return module("openslide", "slides")


def test_a_slide_of_aperio_is_what_openslide_reads(slides, openslide):
    slide, other = open_slide(slides / "small_HE.svs"), openslide.OpenSlide(str(slides / "small_HE.svs"))
    assert (slide.format, slide.width, slide.height, slide.mpp, slide.objective) == ("aperio", 2220, 2967, 0.499, 20.0)
    expected = np.asarray(other.read_region((0, 0), 0, other.dimensions))[..., :3]
    np.testing.assert_array_equal(read_region(slide, 0, 0, 2220, 2967, slide.mpp), expected)
    tile = read_tile(slide, 500.0, 700.0, 128, 0.998)
    left, top = round(500 / 0.499 - 128), round(700 / 0.499 - 128)
    larger = expected[top : top + 256, left : left + 256].reshape(128, 2, 128, 2, 3).mean((1, 3))
    np.testing.assert_allclose(tile, larger, atol=1)


def test_its_label_and_its_photograph_are_no_levels(slides):
    overview = read_image(f"{slides / 'small_HE.svs'}#slide")
    assert overview.pixels.shape == (47, 35, 3)
    assert len(open_slide(slides / "small_HE.svs").levels) == 1
    whole = read_region(open_slide(slides / "small_HE.svs"), 0, 0, 2244, 3014, 0.499)  # 35 x 47 pixels of 32 µm
    expected = cv2.resize(whole, (35, 47), interpolation=cv2.INTER_AREA)
    assert np.abs(overview.pixels.astype(int) - expected).mean() < 1


def test_openslide_and_we_agree_on_every_level_of_a_pyramid(slides, openslide):
    slide, other = open_slide(slides / "boxes.tiff", mpp=0.25), openslide.OpenSlide(str(slides / "boxes.tiff"))
    assert [(level.width, level.height) for level in slide.levels] == list(other.level_dimensions)
    assert [level.downsample for level in slide.levels] == [1, 2, 4, 8]
    for number, level in enumerate(slide.levels):
        ours = read_region(slide, 0, 0, level.width, level.height, 0.25 * level.downsample)
        theirs = np.asarray(other.read_region((0, 0), number, (level.width, level.height)))[..., :3]
        np.testing.assert_array_equal(ours, theirs)


def test_microns_of_a_screen_are_asked_for(slides):
    assert is_slide(slides / "boxes.tiff")
    with pytest.raises(ImageError, match=r"boxes\.tiff.*352\.8 µm.*--mpp"):
        open_slide(slides / "boxes.tiff")


def test_a_slide_in_dicom_is_one_slide_whichever_file_is_named(slides, openslide):
    first, second = slides / "boxes_0.dcm", slides / "boxes_1.dcm"
    assert is_slide(first)
    assert open_slide(first).format == "dicom"
    assert slide_digest(first) == slide_digest(second)
    np.testing.assert_array_equal(
        read_tile(open_slide(first), 4, 4, 16, 0.499), read_tile(open_slide(second), 4, 4, 16, 0.499)
    )


@pytest.mark.parametrize("name", ["unreadable.svs", "unopenable.tiff"])
def test_broken_slides_end_in_our_error(slides, name, tmp_path):
    with pytest.raises(ImageError, match=name) as caught:
        read_image(f"{slides / name}#tile=4,4,8,0.5&mpp=0.499")
    assert str(slides) not in str(caught.value)
    with pytest.raises(ImageError, match=name):
        read_region(open_slide(slides / name), 0, 0, 8, 8, 0.499)
    found = pack(
        [f"{slides / name}#slide&mpp=0.499", f"{slides / 'small_HE.svs'}#slide"], Preprocess(size=(16, 16)), tmp_path
    )
    assert list(found.failed) == [0]


def test_after_an_error_the_next_place_is_read(slides, openslide, tmp_path):
    """OpenSlide answers everything with its first error: its handle is dropped."""
    handle = VendorSlide(str(slides / "unreadable.svs"))
    with pytest.raises(openslide.OpenSlideError):
        handle.read(0, 0, 0, 8, 8)
    with pytest.raises(openslide.OpenSlideError):
        handle.read(0, 0, 0, 8, 8)
    for _ in range(2):
        with pytest.raises(ImageError, match="a part of the slide cannot be read"):
            read_tile(open_slide(slides / "unreadable.svs"), 4, 4, 8, 0.499)


def test_a_slide_that_is_cut_off_is_told(slides, tmp_path):
    whole = (slides / "small_HE.svs").read_bytes()
    for part in (0.1, 0.5, 0.9, 0.999):
        cut = tmp_path / f"cut{part}.svs"
        cut.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(ImageError, match=cut.name):
            read_image(f"{cut}#slide")


def test_another_name_changes_nothing(slides, tmp_path):
    copy = tmp_path / "slide.jpg"
    copy.write_bytes((slides / "small_HE.svs").read_bytes())
    assert is_slide(copy)
    there, here = (
        read_image(f"{slides / 'small_HE.svs'}#tile=500,500,64,0.5"),
        read_image(f"{copy}#tile=500,500,64,0.5"),
    )
    np.testing.assert_array_equal(there.pixels, here.pixels)
    assert there.digest == here.digest
    assert "extension .jpg, content aperio" in here.notes


def test_a_new_slide_is_examined(slides):
    pixels, about, header = examine(f"{slides / 'small_HE.svs'}#slide", Preprocess(size=(32, 32)))
    assert pixels.shape[:2] == (32, 32)
    assert header == {}
    assert about
