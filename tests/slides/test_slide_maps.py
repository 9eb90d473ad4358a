"""Maps of several slides: what is set aside and why, what is told before, and what an earlier call left."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from overread.cases.cases import Cases
from overread.core.errors import InputError
from overread.core.files import folder_lock
from overread.images.slides.slide import open_slide, slide_at
from overread.images.slides.tile_settings import Tiles
from overread.images.slides.tissue import Tissue, TissueSettings
from overread.slides.map_slide import map_slide
from overread.slides.slide_maps import map_slides

from .conftest import TUMOUR, Redness

TILES = Tiles(size=32, centre=16, stride=32, mpp=(1.0,), tissue=TissueSettings(sharpness=0.0, mpp=4.0))


@pytest.fixture
def cases(make_slide, tmp_path) -> Cases:
    """Two slides, one of glass alone, one that is none, one that is missing."""
    files = [
        make_slide(160, 208, seed=1),
        make_slide(200, 160, seed=2, mpp=2.0),
        make_slide(160, 160, glass=True),
        tmp_path / "none.tif",
    ]
    files[3].write_bytes(b"nothing")
    files.append(tmp_path / "missing.tif")
    table = pd.DataFrame({"image": [f"{file}#slide" for file in files], "case": [f"c{i}" for i in range(5)]})
    table = table.assign(
        patient=table["case"], source="", view="", time="", split="", label=["tumour", "normal"] * 2 + [""]
    )
    return Cases(table, TUMOUR)


def test_each_slide_has_its_map_or_a_reason(cases, slide_model, tmp_path):
    model, said, seen = slide_model(Redness(), TILES), list[str](), list[tuple[str, int, int]]()
    found = map_slides(
        model,
        cases,
        tmp_path / "maps",
        [f"m{i}" for i in range(5)],
        progress=lambda *step: seen.append(step),
        say=said.append,
    )
    assert list(found.maps) == [0, 1]
    assert list(found.errors) == [2, 3, 4]
    assert found.errors[2] == "no tissue was found on the slide"
    assert not any(
        "none.tif" in text or "missing.tif" in text or str(tmp_path) in text for text in found.errors.values()
    )
    for row in (0, 1):
        slide = slide_at(cases.table["image"][row])
        tissue = Tissue.load(tmp_path / "maps" / f"m{row}.tissue.png")
        alone = map_slide(model, slide, tmp_path / f"alone{row}.tif", tissue=tissue)
        assert alone.path.read_bytes() == found.maps[row].path.read_bytes()
    places = sum(held.about.looked for held in found.maps.values())
    assert said[0].startswith(f"  {places:,} tiles of 2 slides will be read at {places:,} places, about ")
    assert said[-1].startswith("  3 slides of 5 are set aside: ")
    steps = [done for what, done, total in seen if what == "mapping slides"]
    assert steps == sorted(steps)
    assert seen[-1] == ("mapping slides", places, places)
    assert steps.count(places) == 1
    names = {path.name for path in (tmp_path / "maps").iterdir()}
    assert not any(name.endswith(".part") for name in names)


def test_a_second_call_reads_nothing_again(cases, slide_model, tmp_path, monkeypatch):
    model, home, names = slide_model(Redness(), TILES), tmp_path / "maps", [f"m{i}" for i in range(5)]
    first = map_slides(model, cases, home, names)
    times = {path.name: path.stat().st_mtime_ns for path in home.iterdir()}

    def refuse(*given, **named):
        raise AssertionError("read again")

    monkeypatch.setattr("overread.slides.slide_maps.cached_tissue", refuse)
    monkeypatch.setattr("overread.slides.map_slide.read_block", refuse)
    kept = cases.take(np.array([0, 1]))
    again = map_slides(model, kept, home, names[:2])
    assert again.maps == first.maps
    assert {path.name: path.stat().st_mtime_ns for path in home.iterdir()} == times


def test_tissue_of_another_slide_is_not_taken(cases, slide_model, tmp_path):
    model, home = slide_model(Redness(), TILES), tmp_path / "maps"
    one = map_slides(model, cases.take(np.array([0])), home, ["m"])
    other = map_slides(model, cases.take(np.array([1])), home, ["m"])
    assert one.maps[0].about.slide != other.maps[0].about.slide
    assert Tissue.load(home / "m.tissue.png").kinds.shape == (100, 80)
    assert json.loads((home / "m.tissue.of.json").read_text(encoding="utf-8"))["of"]


def test_a_slide_that_another_process_maps_comes_last(cases, slide_model, tmp_path, monkeypatch):
    model, home, order = slide_model(Redness(), TILES), tmp_path / "maps", list[str]()
    waits: list[float] = []

    def watched(model, slide, path: Path, *, wait: float, **named):
        waits.append(wait)
        if path.name == "m0.tif" and wait == 0.0:
            with folder_lock(path.with_name("m0.tif.part")):
                return map_slide(model, slide, path, wait=wait, **named)
        order.append(path.name)
        return map_slide(model, slide, path, wait=wait, **named)

    monkeypatch.setattr("overread.slides.slide_maps.map_slide", watched)
    found = map_slides(model, cases.take(np.array([0, 1])), home, ["m0", "m1"])
    assert order == ["m1.tif", "m0.tif"]
    assert waits == [0.0, 0.0, -1.0]
    assert list(found.maps) == [0, 1]


def test_what_is_left_alone_is_foretold(cases, slide_model, tmp_path):
    model, home, said = slide_model(Redness(), TILES), tmp_path / "maps", list[str]()
    first = map_slides(model, cases.take(np.array([0, 1])), home, ["m0", "m1"])
    first.maps[1].path.unlink()
    again = map_slides(model, cases.take(np.array([0, 1])), home, ["m0", "m1"], say=said.append)
    assert said[0] == "  1 heat map is there already"
    assert said[1].startswith(f"  {again.maps[1].about.looked:,} tiles of 1 slide will be read at ")
    assert len(said) == 2
    map_slides(model, cases.take(np.array([0, 1])), home, ["m0", "m1"], say=said.append)
    assert said[2:] == ["  2 heat maps are there already"]


@pytest.mark.parametrize("left", [b"", b"\x89PNG torn"])
def test_tissue_that_is_damaged_is_found_anew(left, cases, slide_model, tmp_path):
    model, home = slide_model(Redness(), TILES), tmp_path / "maps"
    first = map_slides(model, cases.take(np.array([0])), home, ["m"])
    whole = (home / "m.tissue.png").read_bytes()
    (home / "m.tissue.png").write_bytes(left)
    again = map_slides(model, cases.take(np.array([0])), home, ["m"])
    assert (home / "m.tissue.png").read_bytes() == whole
    assert again.maps == first.maps
    (home / "m.tissue.of.json").write_text("{")
    assert map_slides(model, cases.take(np.array([0])), home, ["m"]).maps == first.maps


def test_tissue_that_was_found_before_is_taken_from_the_cache(cases, slide_model, tmp_path, monkeypatch):
    model, two, cache = slide_model(Redness(), TILES), cases.take(np.array([0, 1])), tmp_path / "cache"
    first = map_slides(model, two, tmp_path / "maps", ["m0", "m1"], cache=cache)
    monkeypatch.setattr("overread.images.slides.tissue.find_tissue", None)
    again = map_slides(model, two, tmp_path / "again", ["m0", "m1"], cache=cache)
    assert {row: held.about for row, held in again.maps.items()} == {
        row: held.about for row, held in first.maps.items()
    }
    with pytest.raises(TypeError):
        map_slides(model, two, tmp_path / "anew", ["m0", "m1"], cache=tmp_path / "other")


def test_two_slides_cannot_have_one_file(cases, slide_model, tmp_path):
    with pytest.raises(InputError, match="two slides cannot have one file"):
        map_slides(slide_model(Redness(), TILES), cases.take(np.array([0, 1])), tmp_path / "maps", ["m", "M"])


def test_a_slide_is_opened_with_the_microns_of_its_address(make_slide):
    path = make_slide(160, 208, seed=1)
    assert slide_at(f"{path}#slide") == open_slide(path)
    assert slide_at(f"{path}#slide&mpp=1.001").mpp == pytest.approx(1.0)
