"""Regions of slides: placed in microns, equal to what an independent reading of the same pixels gives."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from overread.core.errors import ArgumentError, ImageError
from overread.images.image import Limits
from overread.images.preprocess import Preprocess
from overread.images.read import content_digest, read_image
from overread.images.slides.files.handles import _POOL, HANDLES
from overread.images.slides.files.vendor_slide import has_openslide
from overread.images.slides.slide import is_slide, open_slide, read_region, read_tile, slide_digest, slide_seconds
from overread.images.store import pack

WIDTH, HEIGHT = 1003, 777


def texture(width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def halved(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels, (pixels.shape[1] // 2, pixels.shape[0] // 2), interpolation=cv2.INTER_AREA)


def write(
    path: Path, planes, *, mpp: float | None = 0.5, tile: int = 128, compression="deflate", description=None, **more
):
    """A pyramid written by tifffile, not by us."""
    per_cm = None if mpp is None else (10_000 / mpp, 10_000 / mpp)
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for number, plane in enumerate(planes):
            tiff.write(
                plane, tile=(tile, tile), photometric=more.get("photometric", "rgb"), compression=compression,
                subfiletype=1 if number else 0, resolution=per_cm, resolutionunit="CENTIMETER" if per_cm else None,
                description=description if number == 0 else None, metadata=None,
            )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def planes() -> list[np.ndarray]:
    finest = texture()
    return [finest, halved(finest), halved(halved(finest))]


@pytest.fixture(scope="module")
def pyramid(planes, tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("slides") / "node.tif", planes)


# -- what a slide is -------------------------------------------------------------------------------------------------


def test_a_slide_says_what_it_is(pyramid):
    slide = open_slide(pyramid)
    assert (slide.format, slide.width, slide.height, slide.mpp) == ("generic-tiff", WIDTH, HEIGHT, 0.5)
    assert [level.downsample for level in slide.levels] == [1, 2, 4]
    assert slide.size == (501.5, 388.5)
    assert is_slide(pyramid)


def test_a_slide_that_is_too_large_as_an_image_is_told_how_it_is_read(pyramid, tmp_path):
    few = Limits(pixels=1000)
    with pytest.raises(ImageError, match="larger than the limit.*or read it as a slide, with #slide behind its name"):
        read_image(pyramid, limits=few)
    assert read_image(f"{pyramid}#slide").pixels.ndim == 3
    cv2.imwrite(str(plain := tmp_path / "plain.png"), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ImageError, match="larger than the limit") as caught:
        read_image(plain, limits=few)
    assert "slide" not in str(caught.value)


def test_microns_that_no_slide_has_are_asked_for(planes, tmp_path):
    for name, mpp in (("without.tif", None), ("screen.tif", 25_400 / 72)):
        path = write(tmp_path / name, planes, mpp=mpp)
        with pytest.raises(ImageError, match=f"{name}: the slide does not say how large.*--mpp"):
            open_slide(path)
        assert open_slide(path, mpp=0.25).mpp == 0.25
        assert is_slide(path)


def test_microns_that_contradict_the_file_are_refused(pyramid):
    assert open_slide(pyramid, mpp=0.505).mpp == 0.5
    with pytest.raises(ImageError, match=r"another size of its pixels.*0\.5 µm in the file, 0\.25 µm told"):
        open_slide(pyramid, mpp=0.25)
    with pytest.raises(ArgumentError, match="mpp must"):
        open_slide(pyramid, mpp=-1.0)


def test_pixels_that_are_not_square_are_refused(planes, tmp_path):
    with tifffile.TiffWriter(tmp_path / "flat.tif") as tiff:
        tiff.write(
            planes[0], tile=(128, 128), photometric="rgb", resolution=(20_000, 10_000), resolutionunit="CENTIMETER"
        )
        tiff.write(planes[1], tile=(128, 128), photometric="rgb", subfiletype=1)
    with pytest.raises(ImageError, match="not square"):
        open_slide(tmp_path / "flat.tif")


def test_what_is_no_slide_is_none(tmp_path):
    pixels = texture(64, 64)
    tifffile.imwrite(tmp_path / "photo.tif", pixels, photometric="rgb")
    cv2.imwrite(str(tmp_path / "photo.png"), pixels)
    (tmp_path / "empty.svs").write_bytes(b"")
    (tmp_path / "text.svs").write_text("not a slide")
    for name in ("photo.tif", "photo.png", "empty.svs", "text.svs", "missing.svs"):
        assert not is_slide(tmp_path / name), name
        with pytest.raises(ImageError, match=name) as caught:
            open_slide(tmp_path / name)
        assert str(tmp_path) not in str(caught.value)


# -- regions ---------------------------------------------------------------------------------------------------------


def test_a_region_of_a_level_is_its_pixels(pyramid, planes):
    slide = open_slide(pyramid)
    for number, mpp in enumerate((0.5, 1.0, 2.0)):
        region = read_region(slide, 30 * mpp, 17 * mpp, 100, 80, mpp)
        np.testing.assert_array_equal(region, planes[number][17:97, 30:130])


def test_pixels_of_almost_the_size_asked_for_do_not_drift(planes, tmp_path):
    """Each is the pixel of the level whose corner is nearest to its own; a tile and a wide region show the same."""
    slide = open_slide(write(tmp_path / "a.tif", planes, mpp=0.504))
    wide = read_region(slide, 0, 0, 1000, 700, 0.5)
    x, y = (np.floor(0.5 * np.arange(many) / slide.mpp + 0.5).astype(int) for many in (1000, 700))
    np.testing.assert_array_equal(wide, planes[0][y][:, x])
    tile = read_region(slide, 800 * 0.5, 600 * 0.5, 60, 60, 0.5)
    np.testing.assert_array_equal(tile, wide[600:660, 800:860])


def test_the_corner_is_rounded_to_the_nearest_pixel(pyramid, planes):
    slide = open_slide(pyramid)
    np.testing.assert_array_equal(read_region(slide, 10.24, 10.25, 9, 9, 0.5), planes[0][21:30, 20:29])


def test_other_sizes_are_means_over_areas(pyramid, planes):
    """Against sums over areas, in float64, of the level that is just finer."""
    slide = open_slide(pyramid)
    region = read_region(slide, 100.0, 60.0, 40, 30, 1.5)  # from the level of 1 µm: 60 x 45 pixels
    source = planes[1][60:105, 100:160].astype(float)
    np.testing.assert_allclose(region, area_mean(source, 30, 40), atol=1)


def area_mean(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mean over each of height x width equal areas, by sums up to fractions of pixels."""
    for axis, count in ((0, height), (1, width)):
        sums = np.insert(np.cumsum(pixels, axis), 0, 0, axis)
        edges = np.linspace(0, pixels.shape[axis], count + 1)
        whole = np.minimum(edges.astype(int), pixels.shape[axis] - 1)
        part = np.expand_dims(edges - whole, [a for a in range(3) if a != axis])
        at = sums.take(whole, axis) + part * pixels.take(whole, axis)
        pixels = np.diff(at, axis=axis) / (pixels.shape[axis] / count)
    return pixels


def test_far_away_is_the_mean_of_all_pixels_in_blocks(planes, tmp_path):
    path = write(tmp_path / "flat.tif", [texture(4500, 2100, 3)])
    path = path.rename(path.with_name("level.tif"))
    slide = open_slide(path)  # one level only, read in blocks
    region = read_region(slide, 0, 0, 45, 21, 50.0)
    expected = texture(4500, 2100, 3).reshape(21, 100, 45, 100, 3).mean((1, 3))
    np.testing.assert_allclose(region, expected, atol=1)
    assert any("no pyramid" in note for note in slide.notes)


def test_beyond_the_slide_is_its_background(pyramid, planes):
    slide = open_slide(pyramid)
    region = read_region(slide, -20.0, -10.0, 100, 50, 0.5)
    assert (region[:20] == 255).all()
    assert (region[:, :40] == 255).all()
    np.testing.assert_array_equal(region[20:, 40:], planes[0][:30, :60])
    assert (read_region(slide, 5000.0, 5000.0, 10, 10, 0.5) == 255).all()


def test_a_finer_look_than_the_slide_is_interpolated(pyramid, planes):
    region = read_region(open_slide(pyramid), 50.0, 50.0, 64, 64, 0.25)
    expected = cv2.resize(planes[0][100:132, 100:132], (64, 64), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(region, expected)


def test_a_tile_is_centred(pyramid, planes):
    tile = read_tile(open_slide(pyramid), 100.0, 120.0, 32, 0.5)
    np.testing.assert_array_equal(tile, planes[0][224:256, 184:216])


def test_regions_of_no_size_are_refused(pyramid):
    slide = open_slide(pyramid)
    for wrong in (
        (0.0, 0.0, 0, 5, 0.5),
        (0.0, 0.0, 5, 5, 0.0),
        (float("nan"), 0.0, 5, 5, 0.5),
        (0.0, 0.0, 10**5, 10**5, 0.5),
    ):
        with pytest.raises(ArgumentError):
            read_region(slide, *wrong)


# -- kinds of files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["deflate", "lzw", "zstd", "jpeg", None])
def test_compressions(planes, tmp_path, compression):
    path = write(tmp_path / "node.tif", planes, compression=compression)
    region = read_region(open_slide(path), 0, 0, WIDTH, HEIGHT, 0.5)
    with tifffile.TiffFile(path) as tiff:
        np.testing.assert_array_equal(region, tiff.pages[0].asarray())


def test_a_grey_slide_is_read_as_three_equal_channels(planes, tmp_path):
    grey = [plane[..., 0] for plane in planes]
    path = write(tmp_path / "grey.tif", grey, photometric="minisblack")
    region = read_region(open_slide(path), 0, 0, WIDTH, HEIGHT, 0.5)
    np.testing.assert_array_equal(region, np.repeat(grey[0][..., None], 3, -1))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_ome_tiff_with_its_levels_below_the_first(planes, tmp_path, planar):
    path = tmp_path / "node.ome.tif"
    separate = planar == "separate"
    stored = [np.moveaxis(plane, -1, 0) if separate else plane for plane in planes]
    with tifffile.TiffWriter(path, ome=True) as tiff:
        how = {"tile": (128, 128), "photometric": "rgb", "planarconfig": planar, "compression": "deflate"}
        axes = {
            "axes": "CYX" if separate else "YXS",
            "PhysicalSizeX": 0.5,
            "PhysicalSizeY": 0.5,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeYUnit": "µm",
        }
        tiff.write(stored[0], subifds=2, metadata=axes, **how)
        for plane in stored[1:]:
            tiff.write(plane, subfiletype=1, metadata=None, **how)
    slide = open_slide(path)
    assert (slide.format, slide.mpp, len(slide.levels)) == ("ome-tiff", 0.5, 3)
    assert is_slide(path)
    for number, mpp in enumerate((0.5, 1.0, 2.0)):
        region = read_region(slide, 0, 0, 200, 150, mpp)
        np.testing.assert_array_equal(region, planes[number][:150, :200])
    np.testing.assert_array_equal(read_region(slide, 0, 0, 250, 194, 2.0), planes[2][:194, :250])


def test_other_pages_are_never_read(planes, tmp_path):
    """A label beside the pyramid is no level of it."""
    path = tmp_path / "labelled.tif"
    with tifffile.TiffWriter(path) as tiff:
        how = {"photometric": "rgb", "resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
        tiff.write(planes[0], tile=(128, 128), **how)
        tiff.write(planes[1], tile=(128, 128), subfiletype=1, **how)
        tiff.write(texture(300, 300), tile=(128, 128), subfiletype=1, **how)  # of another shape
        tiff.write(texture(200, 100), **how)
    assert [level.width for level in open_slide(path).levels] == [WIDTH, WIDTH // 2]


def test_sixteen_bits_are_refused(tmp_path):
    path = tmp_path / "deep.tif"
    with tifffile.TiffWriter(path) as tiff:
        for number, side in enumerate((512, 256)):
            tiff.write(np.zeros((side, side), np.uint16), tile=(128, 128), subfiletype=1 if number else 0, photometric="minisblack",
                       resolution=(20_000, 20_000), resolutionunit="CENTIMETER")  # fmt: skip
    with pytest.raises(ImageError, match=r"8 bits.*16 bits"):
        open_slide(path)


# -- damage ----------------------------------------------------------------------------------------------------------


def test_a_slide_that_is_cut_off_in_the_middle_is_told_and_never_white(planes, tmp_path):
    whole = write(tmp_path / "whole.tif", planes)
    with tifffile.TiffFile(whole) as tiff:
        offsets = [offset for page in tiff.pages for offset in page.dataoffsets]
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole.read_bytes()[: max(offsets) - 100])
    with pytest.raises(ImageError, match=r"cut\.tif"):
        read_image(f"{cut}#slide")


def test_a_tile_that_is_damaged_is_named_and_the_rest_is_read(planes, tmp_path):
    path = write(tmp_path / "node.tif", planes)
    with tifffile.TiffFile(path) as tiff:
        at, count = tiff.pages[0].dataoffsets[0], tiff.pages[0].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[at : at + count] = b"\xff" * count
    path.write_bytes(data)
    slide = open_slide(path)
    with pytest.raises(ImageError, match=r"node\.tif: a part of the slide cannot be read.*at x 0 µm, y 0 µm"):
        read_region(slide, 0, 0, 100, 100, 0.5)
    np.testing.assert_array_equal(read_region(slide, 128.0, 64.0, 50, 50, 0.5), planes[0][128:178, 256:306])


def test_a_tile_that_was_never_scanned_is_background(tmp_path):
    path = tmp_path / "sparse.tif"
    tiles = [np.full((128, 128, 3), 7, np.uint8), None, None, np.full((128, 128, 3), 9, np.uint8)]
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(iter(tiles), shape=(256, 256, 3), dtype=np.uint8, tile=(128, 128), photometric="rgb", compression="deflate",
                   resolution=(20_000, 20_000), resolutionunit="CENTIMETER")  # fmt: skip
    region = read_region(open_slide(path), 0, 0, 256, 256, 0.5)
    assert [int(region[y, x, 0]) for y in (5, 200) for x in (5, 200)] == [7, 255, 255, 9]


# -- addresses, digests, handles ---------------------------------------------------------------------------------------


def test_addresses_are_read_as_images(pyramid):
    overview = read_image(f"{pyramid}#slide")
    assert overview.pixels.shape == (13, 16, 3)
    assert overview.format == "slide (generic-tiff)"
    tile = read_image(f"{pyramid}#tile=100,120,32,0.5")
    np.testing.assert_array_equal(tile.pixels, read_tile(open_slide(pyramid), 100.0, 120.0, 32, 0.5))
    digests = {one.digest for one in (overview, tile, read_image(f"{pyramid}#tile=100,121,32,0.5"))}
    assert len(digests) == 3
    assert content_digest(f"{pyramid}#slide") == overview.digest


def test_the_digest_is_of_the_content(pyramid, tmp_path):
    copy = tmp_path / "copy.tif"
    copy.write_bytes(pyramid.read_bytes())
    assert slide_digest(copy) == slide_digest(pyramid)
    os.truncate(copy, copy.stat().st_size - 1)
    assert slide_digest(copy) != slide_digest(pyramid)


def test_the_store_is_the_same_with_one_worker_and_with_two(pyramid, tmp_path):
    addresses = [
        f"{pyramid}#slide",
        *(f"{pyramid}#tile={x},{y},64,{mpp}" for x in (60, 200) for y in (50, 310) for mpp in (0.5, 0.8)),
    ]
    stores = [
        pack(addresses, Preprocess(size=(32, 32)), tmp_path / str(threads), threads=threads) for threads in (1, 2)
    ]
    assert not stores[0].failed
    assert stores[0].images.tobytes() == stores[1].images.tobytes()
    assert stores[0].digests == stores[1].digests


def test_a_thread_keeps_few_slides_open(pyramid, tmp_path):
    paths = [tmp_path / f"{number}.tif" for number in range(HANDLES + 5)]
    for path in paths:
        path.write_bytes(pyramid.read_bytes())
    for path in [*paths, *paths]:
        read_tile(open_slide(path), 100.0, 100.0, 8, 0.5)
    assert len(_POOL.opened) == HANDLES


def test_threads_and_forked_processes_read_the_same(pyramid):
    slide = open_slide(pyramid)
    expected = [read_tile(slide, x, 100.0, 64, 0.5).tobytes() for x in range(50, 400, 7)]
    found: dict[int, list[bytes]] = {}

    def reads(number: int) -> None:
        found[number] = [read_tile(slide, x, 100.0, 64, 0.5).tobytes() for x in range(50, 400, 7)]

    threads = [threading.Thread(target=reads, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one == expected for one in found.values())
    assert len(found) == 4
    with multiprocessing.get_context("fork").Pool(2) as pool:
        tiles = pool.starmap(read_tile, [(slide, float(x), 100.0, 64, 0.5) for x in range(50, 400, 7)])
    assert [tile.tobytes() for tile in tiles] == expected


# -- microns of OME, and files that are odd ------------------------------------------------------------------------------


def ome(path, planes, images, *, macro=False):
    """OME-TIFF with this XML for each image of the file."""
    held = "".join(
        f'<Image ID="Image:{at}"><Pixels ID="Pixels:{at}" DimensionOrder="XYCZT" Type="uint8" SizeX="{width}" SizeY="{height}" SizeC="3" SizeZ="1" SizeT="1" '
        f'{told}><Channel ID="Channel:{at}:0" SamplesPerPixel="3"/><TiffData IFD="{at}" PlaneCount="1"/></Pixels></Image>'
        for at, (width, height, told) in enumerate(images)
    )
    xml = f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{held}</OME>'
    with tifffile.TiffWriter(path, ome=False) as tiff:
        first = {"description": xml.encode(), "metadata": None, "photometric": "rgb"}
        if macro:
            tiff.write(texture(320, 200), tile=(128, 128), **first)
            first.pop("description")
        tiff.write(planes[0], tile=(128, 128), subifds=1, **first)
        tiff.write(planes[1], tile=(128, 128), subfiletype=1, metadata=None, photometric="rgb")
    return path


SAID = 'PhysicalSizeX="{0}" PhysicalSizeXUnit="{1}" PhysicalSizeY="{0}" PhysicalSizeYUnit="{1}"'


@pytest.mark.parametrize("unit", ["µm", "&#181;m", "&#xB5;m", "nm"])
def test_ome_says_its_microns_in_any_spelling(planes, tmp_path, unit):
    path = ome(tmp_path / "a.ome.tif", planes, [(WIDTH, HEIGHT, SAID.format(500 if unit == "nm" else 0.5, unit))])
    assert open_slide(path).mpp == pytest.approx(0.5)


def test_ome_says_them_of_the_image_that_is_read(planes, tmp_path):
    """Not of the photograph of the glass before it, whose unit is another."""
    images = [(320, 200, SAID.format(0.05, "mm")), (WIDTH, HEIGHT, 'PhysicalSizeX="0.5" PhysicalSizeY="0.5"')]
    slide = open_slide(ome(tmp_path / "a.ome.tif", planes, images, macro=True))
    assert (slide.width, slide.mpp) == (WIDTH, 0.5)


def test_planes_in_strips_are_not_in_tiles(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        tiff.write(
            np.zeros((3, 300, 400), np.uint8), photometric="rgb", planarconfig="separate", metadata={"axes": "CYX"}
        )
    with pytest.raises(ImageError, match="not in tiles"):
        open_slide(path, mpp=0.5)


def test_a_large_slide_may_take_longer(tmp_path):
    with open(tmp_path / "a.svs", "wb") as file:
        file.truncate(4 << 30)
    assert slide_seconds([str(tmp_path / "none.svs")]) == 3600
    assert slide_seconds([f"{tmp_path / 'a.svs'}#slide", "b.svs"]) > 20_000


def test_without_the_library_of_openslide_plain_slides_are_read(pyramid, tmp_path, monkeypatch):
    """Its binding may be there alone, which raises an error of its own when it is imported."""

    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "openslide":
                raise OSError("cannot open the library")

    with tifffile.TiffFile(pyramid) as tiff:
        levels = [page.asarray() for page in tiff.pages]
    copy = tmp_path / "copy.tif"  # that no handle is open of
    copy.write_bytes(pyramid.read_bytes())
    monkeypatch.delitem(sys.modules, "openslide", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    has_openslide.cache_clear()
    try:
        assert not has_openslide()
        assert is_slide(copy)
        slide = open_slide(copy, mpp=0.5)
        for level, pixels in zip(slide.levels, levels, strict=True):
            assert (level.height, level.width) == pixels.shape[:2]
            found = read_region(slide, 0, 0, level.width, level.height, 0.5 * level.downsample)
            np.testing.assert_array_equal(found, pixels)
    finally:
        has_openslide.cache_clear()
