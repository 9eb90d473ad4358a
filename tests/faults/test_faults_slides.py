"""Faults 1, 7, 8, 12 and 50 of whole slides: cut, absurd, endless and exchanged files, a decoder that dies, a disk that is full.

What is read of a slide for tiles and audits is read in processes of their own; heat maps and the page of slides read in ours, where
a decoder that dies takes the process with it: what was made of a map so far stays on the disk (:mod:`tests.slides.test_map_slide`).
"""

from __future__ import annotations

import errno
import os
import signal
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.fixtures.drawn_slides import draw_study

from overread.cases.audit.audit import audit
from overread.cases.cases import Cases, outline_paths, paths
from overread.cases.sources.read_cases import read_cases
from overread.core.errors import ImageError, InputError, UnavailableError
from overread.images.slides.slide import is_slide, open_slide, read_region
from overread.images.slides.slide_description import describe_slide
from overread.images.slides.tile_settings import Tiles
from overread.slides import heat_map
from overread.slides.drawn_tiles import find_places
from overread.study.slides.lesion_tables import lesions_of

SIDE = 512
PLANE = np.random.default_rng(8).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
#: Where the levels below lie: every second pixel, and every fourth.
PLANES = (PLANE, PLANE[::2, ::2], PLANE[::4, ::4])
SMOOTH = np.kron(np.random.default_rng(9).integers(60, 200, (8, 8, 3)), np.ones((64, 64, 1))).astype(np.uint8)
KINDS = {"plain": {}, "deflate": {"compression": "deflate"}, "JPEG": {"compression": "jpeg"}, "BigTIFF": {"bigtiff": True}}  # fmt: skip


def draw(path: Path, kind: str = "plain") -> Path:
    form = dict(KINDS[kind])
    planes = (SMOOTH, SMOOTH[::2, ::2]) if kind == "JPEG" else PLANES
    with tifffile.TiffWriter(path, bigtiff=bool(form.pop("bigtiff", False))) as tiff:
        for number, plane in enumerate(planes):
            tiff.write(plane, tile=(128, 128), photometric="rgb", subfiletype=1 if number else 0, resolution=(20_000 / 2**number,) * 2,
                       resolutionunit="CENTIMETER", **form)  # fmt: skip
    return path


def everything(path: Path) -> list[np.ndarray]:
    """All pixels of all levels."""
    slide = open_slide(path)
    return [read_region(slide, 0, 0, one.width, one.height, slide.mpp * one.downsample) for one in slide.levels]


@pytest.mark.parametrize("kind", KINDS)
def test_01_a_slide_cut_at_every_sixteenth_is_refused_and_never_filled(kind, refused, sixteenths, tmp_path, canary):
    data = draw(tmp_path / "whole.tif", kind).read_bytes()
    path = tmp_path / canary / "slide.tif"
    path.parent.mkdir()
    for _ in sixteenths(path, data):
        error = refused(everything, path)
        assert isinstance(error, ImageError)
        assert "slide.tif" in str(error)
    assert all(np.array_equal(found, plane) for found, plane in zip(everything(path), everything(tmp_path / "whole.tif"), strict=True))  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_01_a_damaged_byte_never_ends_in_anything_else_than_pixels_or_an_error(kind, survived, tmp_path):
    data = draw(tmp_path / "whole.tif", kind).read_bytes()
    path = tmp_path / "slide.tif"
    head = tifffile.TiffFile(tmp_path / "whole.tif").pages[0].offset
    for at in [*range(0, 16), *range(head, min(head + 300, len(data)), 3), *np.linspace(0, len(data) - 1, 30).astype(int)]:  # fmt: skip
        broken = bytearray(data)
        broken[at] ^= 0xFF
        path.unlink(missing_ok=True)
        path.write_bytes(broken)
        survived(everything, path)


def _tag(path: Path, code: int) -> tuple[int, str]:
    """Where the value of a tag of the first directory stands, and how it is packed."""
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags[code]
        return tag.offset, tiff.byteorder


@pytest.mark.parametrize("code", [256, 257, 322, 323, 324, 325], ids=["width", "height", "tile width", "tile height", "offsets", "counts"])  # fmt: skip
def test_07_absurd_numbers_in_a_directory(code, refused, tmp_path):
    """The count of its values and the values themselves, as large as they can be."""
    for place, form in ((4, "I"), (8, "I")):
        path = draw(tmp_path / f"{code}-{place}.tif")
        at, order = _tag(path, code)
        data = bytearray(path.read_bytes())
        struct.pack_into(f"{order}H", data, at + 2, 4)  # a long
        struct.pack_into(f"{order}{form}", data, at + place, 2**31 - 1)
        path.write_bytes(data)
        refused(everything, path)


@pytest.mark.parametrize("back", ["itself", "the first"])
def test_08_directories_in_a_circle(back, survived, tmp_path):
    path = draw(tmp_path / "slide.tif")
    with tifffile.TiffFile(path) as tiff:
        first, last, order = tiff.pages[0].offset, tiff.pages[-1].offset, tiff.byteorder
        many = len(tiff.pages[-1].tags)
    data = bytearray(path.read_bytes())
    struct.pack_into(f"{order}I", data, last + 2 + 12 * many, last if back == "itself" else first)
    path.write_bytes(data)
    found = survived(everything, path)
    assert isinstance(found, ImageError) or np.array_equal(found[0], PLANE)
    survived(is_slide, path)


def study(tmp_path: Path) -> Cases:
    table = draw_study(tmp_path / "drawn", patients=6, small=0)
    return read_cases(table, image="slide", label="tumour", patient="patient", source="scanner", outlines=str(tmp_path / "drawn" / "outlines"), positive=("tumour",))  # fmt: skip


def test_12_a_decoder_that_dies_sets_one_slide_aside(tmp_path, monkeypatch):
    cases = study(tmp_path)
    assert DEADLY in paths(cases)[2]
    monkeypatch.setattr("overread.cases.audit.slide_checks.describe_slide", dies)
    found = audit(cases, threads=1)
    assert [name for name, why in found.excluded if "unreadable" in why] == [cases.table["case"].iloc[2]]


#: The slide that kills its reader.
DEADLY = "s02.tif"


def dies(address: str, *given: object) -> object:
    if DEADLY in address:  # of an environment a process that was there before knows nothing
        os.kill(os.getpid(), signal.SIGSEGV)
    return describe_slide(address, *given)  # type: ignore[arg-type]


def test_50_a_slide_exchanged_after_its_digest_was_taken_teaches_nothing(tmp_path):
    cases = study(tmp_path)
    digests = dict.fromkeys(paths(cases), "0" * 64)
    with pytest.raises(InputError, match="has changed since it was audited"):
        find_places(cases, np.arange(2), Tiles(size=32, centre=16, stride=16, mpp=(1.0,)), tmp_path / "cache", digests=digests, threads=1)  # fmt: skip


def test_outlines_that_vanish_leave_lesions_unknown_and_are_counted(tmp_path):
    cases, said = study(tmp_path), list[str]()
    gone = [file for file in outline_paths(cases) if file]
    Path(gone[0]).unlink()
    found = lesions_of(cases, said.append)
    assert sum(one is None for one in found) == 1
    assert any("1 slide whose outlines cannot be read" in line for line in said)


def test_a_full_disk_leaves_the_map_that_was_there(tmp_path, monkeypatch):
    codes = np.full((40, 40), 9, np.uint8)
    about = heat_map.MapAbout(cell=16.0, shape=codes.shape, size=(640.0, 640.0), bits=8, stride=16, mpp=(1.0,), tile=32, centre=16, least_tissue=0.25,
                              views=1, model="m", slide="s", tissue="t")  # fmt: skip
    path = tmp_path / "map.tif"
    before = heat_map.write_map(path, codes, about).path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(tifffile.TiffWriter, "write", full)
        with pytest.raises(UnavailableError, match=r"No space left"):
            heat_map.write_map(path, codes + 1, about)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["map.tif"]
