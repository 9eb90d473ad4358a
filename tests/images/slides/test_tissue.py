"""Tissue and what else lies on a slide, on pictures whose every pixel is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import tifffile
from tests.fixtures.drawn_slides import slide_pixels, write_slide

from overread.core.errors import ImageError, InputError
from overread.images.slides import tissue as module
from overread.images.slides.artefacts import large_pieces, pen_marks
from overread.images.slides.slide import Level, Slide, open_slide
from overread.images.slides.tissue import (
    KINDS,
    Tissue,
    TissueSettings,
    cached_tissue,
    find_tissue,
    glass_colour,
    tissue_key,
)

#: Microns of a pixel of the pictures, and the colours of glass, eosin and haematoxylin on it.
MPP = 2.0
GLASS, EOSIN, NUCLEUS = (243, 242, 244), (228, 160, 200), (110, 70, 140)


class Picture:
    """A slide drawn in microns, and the code of every pixel of it."""

    def __init__(self, width=2048, height=2048, seed=1):
        self.shape = int(height / MPP), int(width / MPP)
        self.pixels = np.empty((*self.shape, 3), np.float32)
        self.pixels[:] = GLASS
        self.truth = np.zeros(self.shape, np.uint8)
        self.random = np.random.default_rng(seed)

    def tissue(self, x, y, radius, blur=0.0):
        """A disc with nuclei of 8 µm; ``blur`` in µm."""
        mask = self.disc(x, y, radius)
        texture = np.zeros(self.shape, np.uint8)
        for column, row in self.random.uniform(-radius, radius, (int(radius**2 / 300), 2)) + (x, y):
            cv2.circle(texture, (int(column / MPP), int(row / MPP)), 2, 255, -1)
        share = (texture / 255)[..., None]
        drawn = np.array(EOSIN) * (1 - share) + np.array(NUCLEUS) * share
        if blur:
            drawn = cv2.GaussianBlur(drawn, (0, 0), blur / MPP)
        self.paint(mask, drawn, "blur" if blur else "tissue")
        return self

    def disc(self, x, y, radius):
        return cv2.circle(np.zeros(self.shape, np.uint8), (int(x / MPP), int(y / MPP)), int(radius / MPP), 1, -1) > 0

    def line(self, points, width, colour, kind):
        mask = np.zeros(self.shape, np.uint8)
        cv2.polylines(mask, [(np.array(points) / MPP).astype(np.int32)], False, 1, max(1, int(width / MPP)))
        return self.paint(mask > 0, colour, kind)

    def paint(self, mask, colour, kind):
        self.pixels[mask] = np.broadcast_to(np.asarray(colour, np.float32), self.pixels.shape)[mask]
        self.truth[mask] = KINDS.index(kind)
        return self

    @property
    def slide(self):
        noisy = self.pixels + self.random.standard_normal(self.pixels.shape, np.float32)
        self.done = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        height, width = self.shape
        return Slide("drawn.tif", "drawn", width, height, MPP, (Level(width, height, 1.0),))

    def read(self, slide, x, y, width, height, mpp):
        """As :func:`read_region`, by affine maps: white beyond."""
        scale = mpp / MPP
        if scale > 1:
            step = round(scale)
            part = self.read(slide, x, y, width * step, height * step, MPP)
            return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
        matrix = np.array([[1.0, 0.0, round(x / MPP)], [0.0, 1.0, round(y / MPP)]])
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(self.done, matrix, (width, height), flags=flags, borderValue=(255, 255, 255))

    def found(self, monkeypatch, settings=None):
        slide = self.slide
        monkeypatch.setattr(module, "read_region", self.read)
        return find_tissue(slide, settings or TissueSettings())

    def right(self, found):
        """The share of cells of each kind that are found as such, 40 µm away from every border."""
        step = round(found.mpp / MPP)
        truth = self.truth[::step, ::step][: found.kinds.shape[0], : found.kinds.shape[1]]
        sure = cv2.erode(truth, np.ones((5, 5), np.uint8)) == cv2.dilate(truth, np.ones((5, 5), np.uint8))
        kinds = found.kinds[: truth.shape[0], : truth.shape[1]]
        return {KINDS[code]: float((kinds == code)[sure & (truth == code)].mean()) for code in np.unique(truth[sure])}


def test_each_kind_is_told(monkeypatch):
    picture = Picture().tissue(600, 600, 500).tissue(1600, 600, 350, blur=5.0)
    for at, colour in enumerate([(40, 60, 190), (30, 150, 70), (200, 40, 45), (30, 28, 32)]):
        picture.line([(150 + 500 * at, 1300), (350 + 500 * at, 1900)], 160, colour, "pen")
    found = picture.found(monkeypatch)
    right = picture.right(found)
    assert set(right) == {"background", "tissue", "pen", "blur"}
    assert min(right.values()) > 0.97, right
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert found.area == pytest.approx(np.pi * 0.5**2, rel=0.04)


@pytest.mark.parametrize("mpp", [0.504, 0.4965])
def test_the_mask_of_a_file_lies_where_the_tissue_does(tmp_path, mpp):
    """Levels of almost the mask's cells: 16.13 and 15.89 µm; a strip of tissue near the far corner."""
    width, height, left, right, top = 40_960, 2_048, 40_000, 40_640, 1_024
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for scale in (1, 32):
            pixels = np.full((height // scale, width // scale, 3), GLASS, np.uint8)
            pixels[top // scale :, left // scale : right // scale] = EOSIN
            tiff.write(pixels, tile=(256, 256), photometric="rgb", compression="deflate", subfiletype=int(scale > 1),
                       resolution=(10_000 / mpp,) * 2, resolutionunit="CENTIMETER", metadata=None)  # fmt: skip
    found = find_tissue(open_slide(path), TissueSettings(sharpness=0.0))
    rows, columns = np.nonzero(found.mask)
    cell = found.mpp
    edges = np.array([columns.min() * cell, (columns.max() + 1) * cell, rows.min() * cell])
    np.testing.assert_allclose(edges, np.array([left, right, top]) * mpp, atol=1.1 * cell)


def test_a_mask_of_a_slide_far_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(module, "read_region", None)
    with pytest.raises(ImageError, match="too large"):
        find_tissue(Slide("a.tif", "drawn", 10**6, 10**6, 0.25, (Level(10**6, 10**6, 1.0),)))


def test_ink_over_tissue_is_ink(monkeypatch):
    picture = Picture().tissue(1000, 1000, 800)
    picture.line([(400, 1000), (1600, 1000)], 300, (60, 70, 180), "pen")
    right = picture.right(picture.found(monkeypatch))
    assert min(right["pen"], right["tissue"]) > 0.97


@pytest.mark.parametrize("colour", ["blue", "green", "red", "black"])
def test_no_tissue_is_taken_for_ink_of_any_colour(monkeypatch, colour):
    found = Picture().tissue(1000, 1000, 800).found(monkeypatch, TissueSettings(pens=(colour,)))
    assert found.shares["pen"] == 0


def test_brown_stain_is_ink_only_where_red_is_looked_for(monkeypatch):
    picture = Picture().tissue(1000, 1000, 800)
    picture.paint(picture.disc(1000, 1000, 300), (140, 90, 50), "tissue")
    kept = picture.found(monkeypatch, TissueSettings(pens=("blue", "green", "black")))
    assert picture.right(kept)["tissue"] > 0.97


def test_edges_and_bubbles(monkeypatch):
    picture = Picture(3072, 2048).tissue(600, 600, 400).tissue(2000, 900, 250)
    picture.line([(100, 1700), (2900, 1800)], 48, (150, 150, 152), "edge")
    bubble = picture.disc(2000, 900, 600)
    picture.truth[bubble] = KINDS.index("bubble")  # tissue within cannot be relied on
    ring = bubble & ~picture.disc(2000, 900, 550)
    picture.pixels[ring] = (120, 121, 122)
    found = picture.found(monkeypatch)
    right = picture.right(found)
    assert right["bubble"] > 0.97
    assert right["tissue"] > 0.97
    edge = picture.truth[::8, ::8] == KINDS.index("edge")
    assert (found.kinds[: edge.shape[0]][edge] == KINDS.index("edge")).mean() > 0.9
    assert found.shares["pen"] == 0


def test_an_empty_slide_has_no_tissue_and_a_full_one_nothing_else(monkeypatch):
    assert Picture().found(monkeypatch).shares["background"] == 1
    grey = Picture()
    grey.pixels *= np.linspace(0.8, 1.0, grey.shape[1])[:, None]  # light that falls off
    assert grey.found(monkeypatch).shares["background"] == 1
    full = Picture(1024, 1024).tissue(512, 512, 2000)
    assert full.found(monkeypatch).shares["tissue"] > 0.99


def test_fat_is_background_and_small_holes_are_tissue(monkeypatch):
    picture = Picture(2048, 1024)
    walls = np.zeros(picture.shape, np.uint8)
    for x in range(100, 1000, 100):  # cells of 100 µm with walls of 4 µm
        for y in range(100, 1000, 100):
            cv2.circle(walls, (int(x / MPP), int(y / MPP)), int(48 / MPP), 1, 2)
    picture.pixels[walls > 0] = EOSIN
    picture.tissue(1520, 512, 450).paint(picture.disc(1520, 512, 30), GLASS, "tissue")
    found = picture.found(monkeypatch)
    assert found.mask[5:60, 5:60].mean() < 0.05
    assert picture.right(found)["tissue"] > 0.99


@pytest.mark.parametrize("sigma", [0.0, 1.0, 3.0, 4.0, 8.0])
def test_blur_is_told_from_three_microns_on(monkeypatch, sigma):
    found = Picture(1024, 1024).tissue(512, 512, 400, blur=sigma).found(monkeypatch)
    share = found.shares["blur"] / (found.shares["blur"] + found.shares["tissue"])
    assert share > 0.95 if sigma >= 3 else share < 0.02
    off = Picture(1024, 1024).tissue(512, 512, 400, blur=sigma).found(monkeypatch, TissueSettings(sharpness=0.0))
    assert off.shares["blur"] == 0


def test_what_was_never_scanned_and_the_colour_of_the_glass_do_not_matter(monkeypatch):
    tinted = Picture().tissue(1100, 1000, 700)
    tinted.pixels *= np.array([1.0, 0.95, 0.88])  # a yellow lamp
    tinted.pixels[:, : tinted.shape[1] // 20] = 255
    right = tinted.right(tinted.found(monkeypatch))
    assert min(right["tissue"], right["background"]) > 0.97


def test_covered_against_counting(monkeypatch):
    found = Picture().tissue(1000, 1000, 600).found(monkeypatch)
    x, y = np.array([1000.0, 1600.0, 100.0, 400.0]), np.array([1000.0, 1000.0, 100.0, 1000.0])
    restated = [found.mask[int((b - 64) / 16) : int((b + 64) / 16), int((a - 64) / 16) : int((a + 64) / 16)].mean() for a, b in zip(x.astype(int), y.astype(int))]  # fmt: skip
    mine = found.covered(np.floor(x / 16) * 16, np.floor(y / 16) * 16, 128.0)
    np.testing.assert_allclose(mine, restated, atol=0.15)
    assert mine[0] == 1
    assert mine[2] == 0
    assert found.covered(np.array([0.0]), np.array([0.0]), 100.0).tolist() == [0.0]


def test_saved_and_loaded(monkeypatch, tmp_path):
    found = Picture(1024, 1024).tissue(512, 512, 300).found(monkeypatch, TissueSettings(pens=("blue",)))
    path = found.save(tmp_path / "mask.png")
    again = Tissue.load(path)
    assert (again.kinds == found.kinds).all()
    assert (again.mpp, again.threshold, again.settings, again.shares) == (found.mpp, found.threshold, found.settings, found.shares)  # fmt: skip
    path.write_bytes(b"x")
    with pytest.raises(InputError, match="damaged"):
        Tissue.load(path)


def test_settings_out_of_range_are_refused():
    for wrong in ({"mpp": 0.5}, {"least": 0.2}, {"pens": ("pink",)}, {"sharpness": 1.0}, {"sharp_mpp": 9.0}, {"holes": -1.0}):  # fmt: skip
        with pytest.raises(InputError):
            TissueSettings(**wrong)


INKS = {"blue": [(0.45, 0.39, 0.19), (0.42, 0.35, 0.24), (0.41, 0.32, 0.17), (0.61, 0.54, 0.13)], "green": [(0.91, 0.21, 0.54)], "red": [(0.09, 0.79, 0.73)], "black": [(0.91, 0.94, 0.88)]}  # fmt: skip


@pytest.mark.parametrize("pen", INKS)
def test_inks_and_stains_by_their_densities(pen):
    """Inks of several makes and scanners; haematoxylin and eosin as published, and as bluer and redder laboratories have them."""
    for ink in INKS[pen]:
        for gain in (0.6, 1.0):
            assert pen_marks(np.full((20, 20, 3), gain * np.array(ink), np.float32), (pen,), 10).all(), ink
    for haematoxylin in ((0.65, 0.70, 0.29), (0.70, 0.64, 0.31), (0.49, 0.77, 0.41), (0.63, 0.67, 0.39)):
        for eosin in ((0.07, 0.99, 0.11), (0.27, 0.76, 0.59), (0.14, 0.85, 0.51)):
            for share in np.linspace(0, 1, 11):
                mixed = share * np.array(haematoxylin) + (1 - share) * np.array(eosin)
                assert not pen_marks(np.full((20, 20, 3), mixed, np.float32), (pen,), 10).any(), (haematoxylin, eosin, share)  # fmt: skip


def test_a_bubble_over_tissue_is_found_and_a_duct_is_none(monkeypatch):
    """The rim of a bubble takes all colours alike; the lining of a duct is haematoxylin around a clear middle."""
    picture = Picture().tissue(1000, 1000, 850)
    bubble = picture.disc(700, 1000, 220)
    picture.truth[bubble] = KINDS.index("bubble")
    picture.pixels[bubble & ~picture.disc(700, 1000, 200)] *= 0.5
    picture.paint(picture.disc(1350, 1000, 220), NUCLEUS, "tissue").paint(picture.disc(1350, 1000, 190), GLASS, "background")  # fmt: skip
    right = picture.right(picture.found(monkeypatch))
    assert right["bubble"] > 0.95
    assert right["tissue"] > 0.97


def test_pieces_by_their_size():
    mask = np.zeros((10, 10), bool)
    mask[1:4, 1:4] = mask[6, 6] = mask[7, 7] = mask[0, 9] = True
    assert large_pieces(mask, 3).sum() == 9
    assert large_pieces(mask, 2).sum() == 11
    assert large_pieces(mask, 2, corners=False).sum() == 9
    assert large_pieces(mask, 3, border=True).sum() == 10


def test_a_slide_without_a_pyramid_of_flat_memory(tmp_path):
    """Read through the real reader, strip by strip."""
    picture = Picture().tissue(1000, 1000, 600)
    assert picture.slide.mpp == MPP
    levels = {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(picture.done, tile=(256, 256), photometric="rgb", **levels)
        file.write(np.ascontiguousarray(picture.done[::4, ::4]), tile=(256, 256), photometric="rgb", subfiletype=1)
    from overread.images.slides.slide import open_slide

    found = find_tissue(open_slide(tmp_path / "a.tif", mpp=MPP))
    assert found.kinds.shape == (128, 128)
    assert picture.right(found)["tissue"] > 0.95


def test_the_colour_of_glass_is_told_apart_from_what_was_not_scanned_and_from_tissue():
    pixels = np.full((40, 40, 3), 255, np.uint8)
    pixels[:20] = (240, 242, 236)
    pixels[:5] = (150, 60, 140)
    assert glass_colour(pixels, (255, 255, 255)) == (240, 242, 236)
    assert glass_colour(pixels[20:], (255, 255, 255)) == (255, 255, 255)  # there is no other
    assert glass_colour(pixels[:5], (255, 255, 255)) is None


def test_tissue_is_found_once_for_all_who_ask_and_anew_for_other_settings(monkeypatch, tmp_path):
    path = write_slide(tmp_path / "a.tif", slide_pixels([(640.0, 640.0, 220.0)], seed=1))
    slide, plain, asked = open_slide(path), TissueSettings(), []

    def found(slide, settings):
        asked.append(settings)
        return find_tissue(slide, settings)

    monkeypatch.setattr(module, "find_tissue", found)
    first, again = (cached_tissue(slide, plain, tmp_path / "kept") for _ in range(2))
    assert (first.kinds == again.kinds).all()
    assert (first.mpp, first.threshold, first.settings) == (again.mpp, again.threshold, again.settings)
    assert asked == [plain]
    cached_tissue(slide, TissueSettings(mpp=32.0), tmp_path / "kept")
    cached_tissue(open_slide(write_slide(tmp_path / "b.tif", slide_pixels((), seed=2))), plain, tmp_path / "kept")
    assert len(asked) == 3
    (kept,) = (tmp_path / "kept").glob(f"tissue-{tissue_key(slide, plain)}.png")
    for left in (b"", b"\x89PNG torn"):
        kept.write_bytes(left)
        assert (cached_tissue(slide, plain, tmp_path / "kept").kinds == first.kinds).all()
    assert len(asked) == 5
    (tmp_path / "file").write_text("")
    assert (cached_tissue(slide, plain, tmp_path / "file").kinds == first.kinds).all()  # nothing can be kept there
