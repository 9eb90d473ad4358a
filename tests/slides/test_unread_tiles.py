"""Tiles that cannot be read: a few are left out and told, and slides that lose many are set aside."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tifffile

from overread.cases.cases import Cases, paths
from overread.core.errors import ImageError
from overread.core.progress import Clock, silent, unheard
from overread.images.address import parse
from overread.images.read import read_image
from overread.images.slides.tile_settings import Tiles
from overread.images.slides.tissue import TissueSettings
from overread.learning.recipe import Recipe
from overread.slides import slide_attention, tile_classifier
from overread.slides.drawn_tiles import TileTable
from overread.slides.tile_classifier import train_on_slides
from overread.slides.unread_tiles import torn_slides

TILES = Tiles(size=32, mpp=(2.0,), centre=16, stride=16, jitter=4, number=32, tissue=TissueSettings(sharpness=0.0))
TINY = Recipe(method="scratch", backbone="cnn_small", epochs=1, batch_size=16, learning_rate=2e-3, precision="float32", tiles=TILES, seed=2)  # fmt: skip
BAGS = Recipe(method="features", descriptors=("colour",), epochs=5, tiles=replace(TILES, stride=32, pooling="attention", bag=40), seed=2)  # fmt: skip


def damage(path: str, share: float) -> None:
    """Overwrite the first tiles of level 0, this share of them."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        held = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    with open(path, "r+b") as file:
        for offset, size in held[: max(1, round(share * len(held)))]:
            file.seek(offset)
            file.write(b"\xff" * size)


@pytest.fixture
def damaged(tiny_slides, tiny_split, tmp_path) -> tuple[Cases, int]:
    """The slides, one for training with unreadable level 0 in its lower levels' place; and its row."""
    shutil.copytree(tiny_slides.root, tmp_path / "slides")
    cases = replace(tiny_slides, root=str(tmp_path / "slides"))
    train = tiny_split.rows(cases, "train")
    row = int(train[cases.table["label"].to_numpy()[train] == "no"][0])
    damage(parse(paths(cases)[row]).path, 0.6)
    return cases, row


def unread(addresses: list[str]) -> int:
    many = 0
    for address in addresses:
        try:
            read_image(address)
        except ImageError:
            many += 1
    return many


def test_a_slide_is_torn_by_more_than_a_tenth_and_more_than_one():
    slides, said = np.repeat([4, 7, 9, 11], [10, 20, 20, 5]), []
    lost = np.zeros(55, bool)
    lost[[0]] = True  # one of ten
    lost[[10, 11]] = True  # two of twenty
    lost[[30, 31, 32]] = True  # three of twenty
    lost[[50]] = True  # one of five
    assert torn_slides(slides, lost, said.append, "train").tolist() == [9]
    assert "7 of 55 in train, of 4 slides" in said[0]
    assert "1 of 4 in train: number 10 of the table" in said[1]
    said.clear()
    assert not len(torn_slides(slides, np.zeros(55, bool), said.append, "train"))
    assert not said


def test_a_training_goes_on_without_a_slide_whose_tiles_cannot_be_read(damaged, tiny_split, tmp_path, monkeypatch):
    cases, row = damaged
    tables, said, taught = [], [], tile_classifier.train

    def watched(drawn, *rest, **how):
        tables.append(drawn)
        return taught(drawn, *rest, **how)

    monkeypatch.setattr(tile_classifier, "train", watched)
    how = {"cache": tmp_path / "cache", "folder": tmp_path / "run", "threads": 1, "device": "cpu"}
    model = train_on_slides(cases, tiny_split, TINY, say=said.append, **how)
    assert len(tables) == 2
    assert unread(paths(tables[0]))
    assert not unread(paths(tables[1]))
    name = cases.table["case"].iloc[row]
    assert name in set(tables[0].table["slide"])
    assert name not in set(tables[1].table["slide"])
    assert len(tables[1]) == len(tables[0]) == 32 + 32  # others are drawn in place of those of the slide
    assert any("slides set aside" in line and f"number {row + 1} of" in line for line in said)
    again = train_on_slides(cases, tiny_split, TINY, **how)  # goes on with the tiles that can be read
    assert len(tables) == 3
    assert again.digest == model.digest


def test_attention_learns_without_it_too(damaged, tiny_split, tmp_path, monkeypatch):
    """The bag of the slide is in the first attempt and not in the one that is finished; the bags of the others are the same."""
    cases, row = damaged
    said, bags, taught = list[str](), list[Cases](), slide_attention.train

    def watched(shown, *rest, **how):
        bags.append(shown)
        return taught(shown, *rest, **how)

    monkeypatch.setattr(slide_attention, "train", watched)
    model = slide_attention.train_on_bags(cases, tiny_split, BAGS, cache=tmp_path / "cache", threads=1, device="cpu", say=said.append)  # fmt: skip
    assert any("slides set aside" in line and f"number {row + 1} of" in line for line in said)
    first, last = bags
    name = cases.table["case"].iloc[row]
    assert name in set(first.table["case"])
    assert sorted(last.table["image"]) == sorted(first.table["image"][first.table["case"] != name])
    assert unread(paths(first))
    assert not unread(paths(last))
    assert model.about.recipe.tiles.pooling == "attention"


def test_of_hard_tiles_those_that_cannot_be_read_have_no_answer(damaged, slide_model):
    cases, row = damaged
    model, other = slide_model(tiles=TILES), next(at for at in range(len(cases)) if at != row)
    table = TileTable(pd.DataFrame({"slide": [row, other, other], "x": [40.0, 40.0, 400.0], "y": [40.0, 40.0, 400.0], "tumour": False, "place": 0, "draw": [0, 1, 2]}))  # fmt: skip
    job = tile_classifier.SlideTraining(cases, {}, TINY, None, "", Clock(), 0.0, 1, "cpu", silent, unheard, {})
    assert np.isnan(job.answers(model, table, "train")).all(axis=1).tolist() == [True, False, False]
