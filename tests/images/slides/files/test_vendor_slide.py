"""OpenSlide's reading: the same pixels whatever the region they are asked with."""

from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from installed import module

from overread.core.errors import ImageError, UnavailableError
from overread.images.slides import slide as slides
from overread.images.slides.files import vendor_slide
from overread.images.slides.files.vendor_slide import VendorSlide
from overread.images.slides.slide import open_slide, read_region


@pytest.fixture(scope="module", autouse=True)
def openslide():
    return module("openslide", "slides")


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory) -> Path:
    """A level of 250 pixels of 1003: four times and a little more."""
    noise = np.random.default_rng(1).integers(0, 256, (777, 1003, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("slides") / "node.tif"
    with tifffile.TiffWriter(path) as tiff:
        for number, plane in enumerate((noise, cv2.resize(noise, (250, 194), interpolation=cv2.INTER_AREA))):
            tiff.write(plane, tile=(64, 64), photometric="rgb", compression="deflate", subfiletype=1 if number else 0,
                       resolution=(20_000, 20_000), resolutionunit="CENTIMETER")  # fmt: skip
    return path


def test_the_header(pyramid):
    header = VendorSlide(str(pyramid)).header
    assert (header.format, header.sizes, header.background) == (
        "generic-tiff",
        ((1003, 777), (250, 194)),
        (255, 255, 255),
    )
    assert header.mpp == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("level", [0, 1])
def test_a_part_is_a_part_of_the_whole(pyramid, level):
    handle = VendorSlide(str(pyramid))
    width, height = handle.header.sizes[level]
    whole = handle.read(level, 0, 0, width, height)
    rng = np.random.default_rng(2)
    for _ in range(20):
        left, top = int(rng.integers(width - 60)), int(rng.integers(height - 60))
        part = handle.read(level, left, top, 60, 50)
        np.testing.assert_array_equal(part, whole[top : top + 50, left : left + 60])


def test_a_region_larger_than_a_block_is_that_of_openslide(pyramid, openslide):
    theirs = np.asarray(openslide.OpenSlide(str(pyramid)).read_region((0, 0), 0, (1003, 777)))[..., :3]
    vendor_plain = VendorSlide(str(pyramid))
    np.testing.assert_array_equal(vendor_plain.read(0, 0, 0, 1003, 777), theirs)


def test_what_is_not_opaque_is_laid_on_the_background(pyramid):
    handle = VendorSlide(str(pyramid))
    outside = handle._block(0, 1003, 777, 10, 10)  # nothing is there
    assert (outside == 255).all()


def test_without_openslide_its_formats_say_how_to_get_it(monkeypatch, tmp_path, pyramid):
    def absent():
        raise UnavailableError("OpenSlide is not installed", todo="pip install 'overread[slides]'")

    monkeypatch.setattr(vendor_slide, "openslide_module", absent)
    monkeypatch.setattr(slides, "has_openslide", lambda: False)
    with tifffile.TiffWriter(tmp_path / "node.ndpi") as tiff:
        tiff.write(np.zeros((64, 64, 3), np.uint8), photometric="rgb", extratags=[(65420, 4, 1, 1, True)])
    with pytest.raises(UnavailableError, match=r"overread\[slides\]"):
        open_slide(tmp_path / "node.ndpi")
    copy = tmp_path / "plain.tif"
    copy.write_bytes(pyramid.read_bytes())
    np.testing.assert_array_equal(
        read_region(open_slide(copy), 0, 0, 20, 20, 0.5), read_region(open_slide(pyramid), 0, 0, 20, 20, 0.5)
    )


def test_threads_have_handles_of_their_own(pyramid):
    handles = [VendorSlide(str(pyramid)) for _ in range(4)]
    expected = handles[0].read(0, 0, 0, 500, 500)
    found: list[bool] = []

    def reads(handle: VendorSlide) -> None:
        found.extend(bool((handle.read(0, 0, 0, 500, 500) == expected).all()) for _ in range(5))

    threads = [threading.Thread(target=reads, args=(handle,)) for handle in handles]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 20


def test_what_openslide_cannot_open_is_told(tmp_path):
    (tmp_path / "node.mrxs").write_bytes(b"\xff\xd8\xff\xe0 no slide beside it")
    with pytest.raises(ImageError, match=r"node\.mrxs: this is not a slide"):
        open_slide(tmp_path / "node.mrxs")


def draw_vms(folder: Path, picture: np.ndarray) -> Path:
    """A slide of Hamamatsu's VMS: an index, a JPEG with restart markers in each row of blocks, a map an eighth of its size."""
    folder.mkdir()
    small = cv2.resize(picture, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
    for name, pixels, apart in (("a.jpg", picture, 16), ("map.jpg", small, 12)):
        form = [
            cv2.IMWRITE_JPEG_QUALITY,
            95,
            cv2.IMWRITE_JPEG_RST_INTERVAL,
            apart,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            0x111111,
        ]
        (folder / name).write_bytes(cv2.imencode(".jpg", pixels[..., ::-1], form)[1].tobytes())
    path = folder / "slide.vms"
    path.write_text(
        "[Virtual Microscope Specimen]\nNoLayers=1\nNoJpegColumns=1\nNoJpegRows=1\nImageFile=a.jpg\nMapFile=map.jpg\n"
        "PhysicalWidth=384000\nPhysicalHeight=256000\nSourceLens=20\n"  # nm: half a micron a pixel
    )
    return path


def test_a_slide_of_several_files_is_read_and_known_by_all_of_them(tmp_path):
    """The index alone is the same for every slide of one size."""
    picture = np.full((512, 768, 3), (220, 200, 230), np.uint8)
    picture[96:304, 192:512] = (150, 60, 200)
    first, again = draw_vms(tmp_path / "one", picture), draw_vms(tmp_path / "again", picture)
    other = draw_vms(tmp_path / "other", picture[::-1])
    assert slides.is_slide(first)
    slide = open_slide(first)
    assert (slide.width, slide.height, slide.mpp, slide.objective) == (768, 512, 0.5, 20.0)
    assert np.abs(read_region(slide, 112.0, 64.0, 64, 64, 0.5).astype(int) - (150, 60, 200)).max() <= 8
    assert np.abs(read_region(slide, 0.0, 0.0, 32, 32, 1.0).astype(int) - (220, 200, 230)).max() <= 8
    assert first.read_bytes() == other.read_bytes()
    assert slides.slide_digest(first) == slides.slide_digest(again) != slides.slide_digest(other)
