"""Cells cut out of images: what is seen of them, that they come back from their file, and that no image is on two sides."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from skimage.draw import disk

from overread.cases.cases import Cases
from overread.cases.split import split
from overread.cells.stages.cell_crops import (
    IMAGE_CASE,
    CutImage,
    Window,
    carried_split,
    cells_as_cases,
    cells_of_cases,
    cut_cells,
    window_side,
    write_crops,
)
from overread.core.errors import ArgumentError, InputError, UnsoundError
from overread.images.outlines.outlines import Outlines, outlines_of
from overread.images.read import read_image
from overread.tasks.target import Target


def marked(*places: tuple[int, int, int]) -> Outlines:
    labels = np.zeros((100, 120), np.int32)
    for number, (y, x, radius) in enumerate(places, 1):
        labels[disk((y, x), radius, shape=labels.shape)] = number
    return outlines_of(labels)


def images(many: int = 40) -> Cases:
    table = pd.DataFrame({
        "image": [f"{i}.png" for i in range(many)], "case": [f"c{i}" for i in range(many)], "patient": [f"p{i // 2}" for i in range(many)],
        "source": ["A", "B"] * (many // 2), "view": "", "time": "", "split": "", "label": ["ill" if i % 4 < 2 else "well" for i in range(many)],
    })  # fmt: skip
    return Cases(table, Target("binary", ("well", "ill"), ("ill",)))


def cut(many: int = 40) -> list[CutImage]:
    return [CutImage(i, tuple(f"x{i}.npz#cells/{k}" for k in range(3)), ("red", "white", "")) for i in range(many)]


def test_a_window_shows_the_cell_in_its_middle_as_the_image_has_it() -> None:
    outlines = marked((40, 50, 10), (70, 20, 6))
    pixels = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
    crops = cut_cells(pixels, outlines, Window(side=32, size=32))
    assert crops.shape == (2, 32, 32, 3)
    assert np.array_equal(crops[0], pixels[40 - 16 : 40 + 16, 50 - 16 : 50 + 16]) or np.array_equal(
        crops[0], pixels[41 - 16 : 41 + 16, 51 - 16 : 51 + 16]
    )


def test_what_is_around_a_masked_cell_is_gone_and_size_stays_visible() -> None:
    outlines = marked((40, 50, 10), (70, 20, 5))
    pixels = np.full((100, 120), 200, np.uint8)
    pixels[outlines.labels > 0] = 50
    pixels[:, 60:64] = 0
    crops = cut_cells(pixels, outlines, Window(side=40, size=40, masked=True))
    assert set(np.unique(crops)) == {50, 200}
    ratio = (crops[0] == 50).sum() / (crops[1] == 50).sum()
    assert ratio == pytest.approx(outlines.areas[0] / outlines.areas[1], rel=0.01)


def test_beyond_the_image_the_edge_is_repeated() -> None:
    outlines = marked((2, 3, 6))
    pixels = np.tile(np.arange(120, dtype=np.uint8), (100, 1))
    crop = cut_cells(pixels, outlines, Window(side=30, size=30))[0, ..., 0]
    assert (crop[:, :8] == 0).all()
    assert (crop[0] == crop[-1]).all()


def test_a_window_in_microns_needs_the_pixel_size() -> None:
    outlines, pixels = marked((40, 50, 10)), np.zeros((100, 120), np.uint8)
    with pytest.raises(InputError, match="pixel size"):
        cut_cells(pixels, outlines, Window(microns=20))
    pixels[:, 50:] = 255
    wide = cut_cells(pixels, outlines, Window(microns=20, size=40), pixel_size=0.5)  # 40 pixels
    assert np.array_equal(wide, cut_cells(pixels, outlines, Window(side=40, size=40)))
    with pytest.raises(ArgumentError, match="one way"):
        Window(side=3, microns=4)


def test_the_side_is_that_of_most_cells_with_room() -> None:
    found = window_side([marked((40, 50, 10), (70, 20, 10)), marked((50, 50, 10))])
    assert found % 2 == 0
    assert 1.25 * 19 <= found <= 1.25 * 19 + 2
    with pytest.raises(InputError, match="no cell"):
        window_side([Outlines(np.zeros((9, 9), np.int32))])


def test_crops_are_images_like_any_other_and_the_same_bytes_each_time(tmp_path) -> None:
    crops = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    addresses = write_crops(tmp_path / "a.npz", crops)
    assert all(np.array_equal(read_image(address).pixels, crop) for address, crop in zip(addresses, crops, strict=True))
    write_crops(tmp_path / "b.npz", crops)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_cells_take_patient_and_part_from_their_image() -> None:
    whole, parts = images(), split(images(), test=0.2, tuning=0.2, seed=3)
    cells = cells_as_cases(whole, cut(), Target("classes", ("red", "white", "platelet")))
    assert len(cells) == 120
    assert cells.table["case"].is_unique
    carried = carried_split(parts, cells)
    part = dict(zip(parts.table["case"], parts.table["part"], strict=True))
    found = cells.table.merge(carried.table[["case", "part"]], on="case")
    assert (found["part"] == found[IMAGE_CASE].map(part)).all()
    assert found.groupby("patient")["part"].nunique().max() == 1
    assert carried.proof["patients shared"] == 0
    assert carried.counts()["test"]["cases"] == 3 * parts.counts()["test"]["cases"]
    assert int((cells.labels < 0).sum()) == 40  # of no class: predicted, and nothing is learned from them


def test_cells_of_a_case_have_its_label() -> None:
    whole = images()
    bags = cells_of_cases(whole, cut())
    assert bags.target == whole.target
    assert (bags.table.groupby("case")["label"].nunique() == 1).all()
    parts = split(whole, test=0.2, tuning=0.2, seed=3)
    assert carried_split(parts, bags).table.equals(parts.table)


def test_a_cell_that_strays_to_another_side_is_refused() -> None:
    whole, parts = images(), split(images(), test=0.2, tuning=0.2, seed=3)
    cells = cells_as_cases(whole, cut(), Target("classes", ("red", "white")))
    tested = parts.table["case"][parts.table["part"] == "test"].iloc[0]
    stray = cells.table.copy()
    first = stray.index[stray[IMAGE_CASE] == tested][0]
    trained = parts.table["case"][parts.table["part"] == "train"].iloc[0]
    stray.loc[first, IMAGE_CASE] = trained  # a cell of a tested image that passes for one of a training image
    with pytest.raises(UnsoundError, match="two parts"):
        carried_split(parts, Cases(stray, cells.target, ""))
    with pytest.raises(UnsoundError, match="no part"):
        carried_split(parts, Cases(cells.table.assign(**{IMAGE_CASE: "elsewhere"}), cells.target, ""))
