"""Whole slides without their labels: nothing of a planted name in any byte, the tissue pixel for pixel."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from installed import module
from pydicom.dataset import Dataset

from overread.core.errors import ImageError
from overread.deidentify import slide_file
from overread.deidentify.clean import shows_a_label
from overread.deidentify.export import Rules, deidentify, read_rows
from overread.deidentify.slide_file import clean_slide
from overread.images.slides.slide import open_slide, read_region, slide_digest

NAME = "KANARIENVOGEL"
RULES = Rules(b"a salt of sixteen bytes and more")


def tissue(height: int = 200, width: int = 300) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def jpeg_tile(pixels: np.ndarray) -> bytes:
    """A tile with a comment that holds a name."""
    coded = imagecodecs.jpeg8_encode(pixels, level=90, colorspace="RGB", outcolorspace="YCBCR", subsampling=(2, 2))
    comment = NAME.encode()
    return coded[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + coded[2:]


def tiles_of(pixels: np.ndarray, side: int = 128):
    for top in range(0, pixels.shape[0], side):
        for left in range(0, pixels.shape[1], side):
            part = pixels[top : top + side, left : left + side]
            missing = [(0, side - part.shape[0]), (0, side - part.shape[1]), (0, 0)]
            yield jpeg_tile(np.ascontiguousarray(np.pad(part, missing, mode="edge")))


def scanned(path: Path, pixels: np.ndarray) -> Path:
    """A slide as Aperio's scanners write it: two levels, thumbnail, label, macro; a name wherever one can be."""
    label = np.full((60, 90, 3), 250, np.uint8)
    cv2.putText(label, "NAME", (2, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2)
    about = f"Aperio Image Library v11.2.1 \r\n300x200 (128x128) JPEG/RGB Q=90|AppMag = 20|Filename = {NAME}|User = {NAME}|MPP = 0.5000|Date = 12/29/09"
    half = cv2.resize(pixels, (pixels.shape[1] // 2, pixels.shape[0] // 2), interpolation=cv2.INTER_AREA)
    more = {"metadata": None, "software": NAME, "datetime": "2009:12:29 09:59:15"}
    tiled = {"tile": (128, 128), "photometric": "rgb", "compression": "jpeg", "dtype": np.uint8, **more}
    extra = [(315, 2, len(NAME) + 1, NAME, True), (700, 1, len(NAME), NAME.encode(), True)]
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(
            tiles_of(pixels), shape=pixels.shape, description=about, extratags=extra, iccprofile=NAME.encode(), **tiled
        )
        tiff.write(
            half,
            photometric="rgb",
            description=f"Aperio Image Library v11.2.1 \r\n300x200 -> 150x100 - |Filename = {NAME}",
            **more,
        )
        tiff.write(tiles_of(half), shape=half.shape, description=about, **tiled)
        tiff.write(
            label,
            photometric="rgb",
            subfiletype=1,
            compression="lzw",
            description="Aperio Image Library v11.2.1 \r\nlabel 90x60",
            **more,
        )
        tiff.write(
            np.zeros((50, 100, 3), np.uint8),
            photometric="rgb",
            subfiletype=9,
            description="Aperio Image Library v11.2.1 \r\nmacro 100x50",
            **more,
        )
    return path


def test_the_tissue_stays_and_everything_else_goes(tmp_path):
    path = scanned(tmp_path / f"{NAME}.svs", tissue())
    assert path.read_bytes().count(NAME.encode()) > 12
    made = clean_slide(str(path), tmp_path / "clean.svs")
    assert (made.format, made.levels, made.dropped) == ("aperio", 2, ("thumbnail", "label", "photograph of the glass"))
    assert NAME.encode() not in (tmp_path / "clean.svs").read_bytes()
    assert b"2009" not in (tmp_path / "clean.svs").read_bytes()
    old, new = open_slide(path), open_slide(tmp_path / "clean.svs")
    assert (new.mpp, new.objective, new.levels) == (old.mpp, old.objective, old.levels) == (0.5, 20.0, old.levels)
    for level in old.levels:
        where = (0.0, 0.0, level.width, level.height, 0.5 * level.downsample)
        np.testing.assert_array_equal(read_region(old, *where), read_region(new, *where))


def test_other_programs_read_it_and_find_no_label(tmp_path):
    openslide = module("openslide", "slides")
    path = scanned(tmp_path / "node.svs", tissue())
    clean_slide(str(path), tmp_path / "clean.svs")
    old, new = openslide.OpenSlide(str(path)), openslide.OpenSlide(str(tmp_path / "clean.svs"))
    assert {"label", "macro"} <= set(old.associated_images)
    assert not set(new.associated_images)
    assert new.level_dimensions == old.level_dimensions
    assert new.properties["openslide.mpp-x"] == "0.5"
    assert NAME not in "".join(new.properties.values())
    theirs = (np.asarray(one.read_region((0, 0), 0, (300, 200))) for one in (old, new))
    np.testing.assert_array_equal(*theirs)
    with tifffile.TiffFile(tmp_path / "clean.svs") as tiff:
        assert len(tiff.pages) == 2
        assert set(tiff.pages[0].tags.keys()) <= {
            254,
            256,
            257,
            258,
            259,
            262,
            270,
            277,
            282,
            283,
            284,
            296,
            322,
            323,
            324,
            325,
            530,
            532,
        }


def test_ome_tiff_becomes_a_plain_pyramid(tmp_path):
    pixels = tissue()
    with tifffile.TiffWriter(tmp_path / "node.ome.tif", ome=True) as tiff:
        how = {"tile": (64, 64), "photometric": "rgb", "compression": "deflate"}
        tiff.write(
            pixels,
            subifds=1,
            metadata={"axes": "YXS", "Name": NAME, "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25},
            **how,
        )
        tiff.write(pixels[::2, ::2], subfiletype=1, metadata=None, **how)
    made = clean_slide(str(tmp_path / "node.ome.tif"), tmp_path / "clean.tif")
    new = open_slide(tmp_path / "clean.tif")
    assert (made.levels, new.format, len(new.levels), new.mpp) == (2, "generic-tiff", 2, 0.25)
    np.testing.assert_array_equal(read_region(new, 0, 0, 300, 200, 0.25), pixels)
    assert NAME.encode() not in (tmp_path / "clean.tif").read_bytes()


def test_formats_whose_label_stays_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "node.ndpi") as tiff:
        tiff.write(tissue(), photometric="rgb", extratags=[(65420, 4, 1, 1, True)])
    with pytest.raises(ImageError, match="label cannot be cut out of slides of this format.*hamamatsu"):
        clean_slide(str(tmp_path / "node.ndpi"), tmp_path / "clean.tif")
    assert not (tmp_path / "clean.tif").exists()


def stored(path, pixels, **how):
    with tifffile.TiffWriter(path, byteorder=how.pop("byteorder", "<")) as tiff:
        for number, plane in enumerate((pixels, pixels[::2, ::2])):
            tiff.write(plane, tile=(64, 64), subfiletype=number, photometric=how.get("photometric", "rgb"), compression=how.get("compression"),
                       extratags=how.get("extratags", ()), resolution=(20_000, 20_000), resolutionunit="CENTIMETER", metadata=None)  # fmt: skip
    return str(path)


@pytest.mark.parametrize(("how", "said"), [
    ({"byteorder": ">", "deep": True}, "big endian"), ({"compression": "webp"}, "may hold text"), ({"compression": "jpegxl"}, "may hold text"),
    ({"extratags": [(65000, 3, 1, 2, True)]}, "FillOrder 2"),
])  # fmt: skip
def test_tiles_that_would_mean_something_else_or_may_hold_text_are_refused(tmp_path, how, said):
    deep = how.pop("deep", False)
    pixels = tissue()[..., 0].astype(np.uint16) * 257 if deep else tissue()
    path = stored(tmp_path / "a.tif", pixels, **how, photometric="minisblack" if deep else "rgb")
    data = Path(path).read_bytes()  # a tag that tifffile does not write
    Path(path).write_bytes(data.replace(struct.pack("<HHI", 65000, 3, 1), struct.pack("<HHI", 266, 3, 1)))
    with pytest.raises(ImageError, match=said):
        clean_slide(path, tmp_path / "clean.tif")
    assert not (tmp_path / "clean.tif").exists()


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "zstd"])
def test_samples_are_the_same_in_the_copy(tmp_path, compression, byteorder):
    path = stored(tmp_path / "a.tif", tissue(), byteorder=byteorder, compression=compression)
    clean_slide(path, tmp_path / "clean.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "clean.tif"), tissue())


def test_a_copy_that_shows_something_else_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(slide_file, "_without_comments", lambda data, compression: bytes(len(data)))
    with pytest.raises(ImageError, match="shows something else"):
        clean_slide(stored(tmp_path / "a.tif", tissue()), tmp_path / "clean.tif")
    assert not (tmp_path / "clean.tif").exists()


def test_slides_that_differ_in_a_byte_are_two(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    data = bytearray(Path(stored(source / "1.tif", np.zeros((1536, 1536, 3), np.uint8))).read_bytes())
    data[100_000] ^= 1  # between the samples of the quick digest
    (source / "2.tif").write_bytes(data)
    assert slide_digest(source / "1.tif") == slide_digest(source / "2.tif")
    assert deidentify(source, tmp_path / "out", rules=RULES).written == 2


def test_a_folder_of_slides(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    scanned(source / f"{NAME} 1.svs", tissue())
    scanned(source / "2.svs", tissue(220, 320))
    damaged = bytearray((source / "2.svs").read_bytes())
    with tifffile.TiffFile(source / "2.svs") as tiff:
        at = tiff.pages[0].dataoffsets[3]
    damaged[at : at + 50] = bytes(50)
    (source / "3.svs").write_bytes(damaged)
    (source / "4.svs").write_bytes(damaged[:-40_000])  # without its last directories: nothing that is known
    (source / "letter.txt").write_text(NAME)
    made = deidentify(source, tmp_path / "out", rules=RULES)
    assert (made.written, made.slides, made.patients, made.not_dicom, sum(made.refused.values())) == (2, 2, 2, 2, 1)
    rows = [row for row in read_rows(tmp_path / "out" / "deidentified.csv") if row.outcome == "written"]
    assert {row.reason for row in rows} == {"not copied of the slide: label, photograph of the glass, thumbnail"}
    everything = b"".join(
        path.read_bytes() + str(path).encode() for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
    assert NAME.encode() not in everything
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.svs")}
    deidentify(source, tmp_path / "out", rules=RULES)  # goes on: nothing is new
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.svs")} == before


def test_labels_of_slides_in_dicom_are_known():
    one = Dataset()
    one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    for kind, label in (("VOLUME", False), ("LABEL", True), ("OVERVIEW", True), ("THUMBNAIL", False)):
        one.ImageType = ["ORIGINAL", "PRIMARY", kind, "NONE"]
        assert shows_a_label(one) is label, kind
    one.ImageType, one.SpecimenLabelInImage = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], "YES"
    assert shows_a_label(one)
    one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    assert not shows_a_label(one)
