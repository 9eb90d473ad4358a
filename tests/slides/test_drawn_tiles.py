"""Places and draws of tiles, against slow restatements."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage.draw import polygon2mask

from overread.cases.cases import Cases, paths
from overread.core.errors import InputError, UnsoundError
from overread.images.read import read_image
from overread.images.slides import tissue as tissue_module
from overread.images.slides.lesion_outlines import Lesion, Lesions, read_lesions
from overread.images.slides.slide import Level, Slide, open_slide, slide_at
from overread.images.slides.tile_settings import Tiles
from overread.images.slides.tissue import Tissue, tissue_key
from overread.slides import drawn_tiles
from overread.slides.drawn_tiles import (
    ASIDE,
    NORMAL,
    NOTHING,
    TUMOUR,
    TileTable,
    classify,
    draw_tiles,
    find_places,
    tile_cases,
    tumour_of,
)
from overread.slides.map_grid import grid_of, looked_at
from overread.tasks.target import Target

TILES = Tiles(size=32, mpp=(2.0, 8.0), centre=16, stride=16, jitter=4)


def circle(x: float, y: float, radius: float, group: str = "", ignored: bool = False) -> Lesion:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    return Lesion(np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1), group=group, ignored=ignored)


@pytest.fixture(scope="module")
def places(tiny_slides, slide_cache):
    return find_places(tiny_slides, np.arange(8), TILES, slide_cache, threads=2)


def test_tissue_is_that_of_the_cache(places, tiny_slides, slide_cache):
    """Of the audit's, where the settings are the same; each slide's is kept for its heat map."""
    kept = {path.name for path in (slide_cache / "slides").glob("tissue-*.png")}
    assert {f"tissue-{tissue_key(slide_at(one), TILES.tissue)}.png" for one in paths(tiny_slides)} <= kept


def test_what_a_place_is_by_every_micron_of_it():
    slide = Slide("", "generic-tiff", 1000, 700, 1.0, (Level(1000, 700, 1.0),))
    rng = np.random.default_rng(0)
    tissue = Tissue((rng.random((44, 63)) < 0.6).astype(np.uint8), 16.0)
    lesions = Lesions((circle(300, 300, 90), circle(700, 200, 12), circle(600, 500, 60, "Ignore*: fold", True), circle(640, 500, 40)))  # fmt: skip
    tiles = Tiles(size=64, mpp=(1.0,), centre=32, stride=32, least_tissue=0.4)
    found = classify(slide, tissue, lesions, tiles)
    fine = np.kron(tissue.kinds, np.ones((16, 16)))
    masks = [polygon2mask((900, 1200), each.polygon[:, ::-1]) for each in lesions.lesions]
    assert found.shape == (22, 32)
    checked = Counter()
    for row, column in np.ndindex(found.shape):
        top, left = 32 * row + 16, 32 * column + 16
        around = fine[top - 16 : top + 16, left - 16 : left + 16].sum() / 32**2
        inside = [mask[top - 16 : top + 16, left - 16 : left + 16].mean() for mask in masks]
        if any(0 < share < 0.01 for share in inside):
            continue  # too near to call by whole microns
        expected = NOTHING if around < 0.4 else ASIDE if inside[2] else TUMOUR if any(inside) else NORMAL
        assert found[row, column] == expected
        checked[expected] += 1
    assert set(checked) == {NOTHING, NORMAL, TUMOUR, ASIDE}
    assert sum(checked.values()) > 500


@pytest.mark.parametrize("size", [32, 128])
@pytest.mark.parametrize("least", [0.0, 0.25, 0.9])
def test_tiles_are_drawn_where_a_heat_map_looks_and_nowhere_else(size, least):
    slide = Slide("", "generic-tiff", 1003, 640, 0.993, (Level(1003, 640, 1.0),))
    tissue = Tissue((np.random.default_rng(1).random((40, 63)) < 0.5).astype(np.uint8), 16.0)
    tiles = Tiles(size=size, mpp=(1.0,), centre=24, stride=16, least_tissue=least)
    grid, drawn = grid_of(slide, tiles), classify(slide, tissue, Lesions(), tiles) != NOTHING
    looked = np.concatenate([looked_at(grid, tissue, tiles, band) for band in range(grid.bands)])
    assert np.array_equal(drawn, looked)
    assert 0.02 < drawn.mean() < 1


def test_a_draw_is_of_each_class_then_of_each_slide_alike(places, tiny_slides):
    drawn = draw_tiles(places, 800, TILES, seed=1, operation="train", threads=2).table
    assert drawn["tumour"].sum() == 400
    for which in (False, True):
        having = places.rows[places.counts[:, int(which)] > 0]
        many = drawn["slide"][drawn["tumour"] == which].value_counts().reindex(having, fill_value=0)
        assert ((many - 400 / len(having)) ** 2 / (400 / len(having))).sum() < 24.3  # chi² of 7 degrees: p = .001
    assert places.counts[:, 0].max() > 1.1 * places.counts[:, 0].min()  # though not all have as many places


def test_every_tile_has_the_label_of_its_place_also_when_moved(places, tiny_slides):
    drawn = draw_tiles(places, 200, TILES, seed=1, operation="train", threads=1).table
    addresses = paths(tiny_slides)
    for slide, some in drawn.groupby("slide"):
        file = tiny_slides.table["outlines"].iloc[slide]
        held = open_slide(addresses[slide].partition("#")[0])
        lesions = read_lesions(Path(tiny_slides.root) / file, held) if file else Lesions()
        mask = lesions.raster(held.size, 1.0) > 0 if len(lesions) else np.zeros((1, 1), bool)
        for row in some.itertuples():
            square = mask[int(row.y) - 15 : int(row.y) + 15, int(row.x) - 15 : int(row.x) + 15]
            around = mask[int(row.y) - 18 : int(row.y) + 18, int(row.x) - 18 : int(row.x) + 18]
            assert not square.any() if not row.tumour else around.any()
    moved = ((drawn["x"] - 16) % 32, (drawn["y"] - 16) % 32)
    shifts = np.unique(np.concatenate([np.minimum(each, 32 - each) for each in moved]))
    assert set(shifts) == {0, 2, 4, 6, 8}  # whole pixels of 2 µm, at most 4


def test_a_draw_depends_on_neither_the_order_of_the_table_nor_the_processes(places, tiny_slides, slide_cache):
    once = draw_tiles(places, 60, TILES, seed=5, operation="train", threads=1)
    shuffled = tiny_slides.take(np.array([3, 1, 7, 0, 2, 6, 5, 4]))
    again = draw_tiles(find_places(shuffled, np.arange(8), TILES, slide_cache, threads=1), 60, TILES, seed=5, operation="train", threads=2)  # fmt: skip
    one, two = (tile_cases(slides, {"train": made}, TILES)[0].table for slides, made in ((tiny_slides, once), (shuffled, again)))  # fmt: skip
    assert one.equals(two)
    other = tile_cases(tiny_slides, {"train": draw_tiles(places, 60, TILES, seed=6, operation="train")}, TILES)[0]
    assert not one["image"].equals(other.table["image"])


def test_tiles_are_cases_of_their_slide_s_patient_a_view_a_magnification(places, tiny_slides, tiny_split):
    parts = {part: draw_tiles(replace(places, counts=np.where(np.isin(places.rows, tiny_split.rows(tiny_slides, part))[:, None], places.counts, 0)),
                              20, TILES, seed=1, operation=part) for part in ("train", "tuning")}  # fmt: skip
    cases, split = tile_cases(tiny_slides, parts, TILES)
    assert len(cases) == 80
    assert cases.table.groupby("case")["view"].apply(sorted).map(tuple).unique().tolist() == [("2", "8")]
    whose = tiny_slides.table.set_index("case")["patient"]
    assert (cases.table["patient"] == cases.table["slide"].map(whose)).all()
    assert not {*cases.only(split, "train").table["patient"]} & {*cases.only(split, "tuning").table["patient"]}
    assert not cases.only(split, "test").table.size
    image = read_image(paths(cases)[0])
    assert image.pixels.shape == (32, 32, 3)


def test_slides_that_teach_nothing_are_told(tiny_slides, slide_cache):
    table = tiny_slides.table.copy()
    ill = table.index[table["label"] == "yes"]
    table.loc[ill[0], "outlines"] = ""
    table.loc[ill[1], "label"] = "no"
    said: list[str] = []
    found = find_places(replace(tiny_slides, table=table), np.arange(8), TILES, slide_cache, threads=2, say=said.append)
    assert set(found.rows) == set(range(8)) - {ill[0], ill[1]}
    assert [line.partition("—")[0].strip() for line in said] == ["slides that teach nothing: 1 of 8 in training"] * 2
    assert any("without outlines" in line and "pooling=attention" in line for line in said)
    assert any("correct the label" in line for line in said)


def test_outlines_that_cannot_be_read_set_their_slide_aside_with_the_reason(tiny_slides, slide_cache, tmp_path):
    """One absent, one that is no XML, one of an unknown group; the others teach as ever."""
    table = tiny_slides.table.copy()
    ill, well = (table.index[table["label"] == label] for label in ("yes", "no"))
    (tmp_path / "bad.xml").write_text("<ASAP_Annotations><Annotations>")
    (tmp_path / "other.geojson").write_text(
        '{"type": "Feature", "properties": {"classification": {"name": "Stroma"}}, '
        '"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [200, 0], [200, 200], [0, 0]]]}}'
    )
    for row, file in ((ill[0], tmp_path / "absent.xml"), (ill[1], tmp_path / "bad.xml"), (well[0], tmp_path / "other.geojson")):  # fmt: skip
        table.loc[row, "outlines"] = str(file)
    said: list[str] = []
    found = find_places(replace(tiny_slides, table=table), np.arange(8), TILES, slide_cache, threads=2, say=said.append)
    assert set(found.rows) == set(table.index) - {ill[0], ill[1], well[0]}
    assert len(said) == 3
    for words in ("does not exist", "XML", "no group of the outlines is known"):
        (line,) = [line for line in said if words in line]
        assert line.startswith("  slides that teach nothing: 1 of 8 in training — their outlines cannot be read (")
        assert not [name for name in ("absent", "bad", "other", str(tmp_path)) if name in line]


def test_what_was_found_is_found_again_unless_something_of_it_changed(tiny_slides, tmp_path, monkeypatch):
    """By the way tissue is found too; the size of a tile moves no place."""
    address = paths(tiny_slides)[int(np.flatnonzero(tiny_slides.table["label"] == "yes")[0])]
    outlines = str(Path(tiny_slides.root) / tiny_slides.table["outlines"][tiny_slides.table["label"] == "yes"].iloc[0])
    asked: list[str] = []
    for name in ("read_lesions", "classify"):
        whole = getattr(drawn_tiles, name)
        monkeypatch.setattr(drawn_tiles, name, lambda *given, name=name, whole=whole, **how: asked.append(name) or whole(*given, **how))  # fmt: skip

    def survey(tiles: Tiles = TILES) -> list[str]:
        asked.clear()
        made.append(drawn_tiles._survey(address, outlines, "", tiles, [], str(tmp_path)))
        return list(asked)

    made: list[dict] = []
    assert survey() == ["read_lesions", "classify"]
    assert survey() == survey(replace(TILES, size=64)) == []
    assert made[0] == made[1] == made[2]
    grid = tmp_path / made[0]["grid"]
    for file in (grid, grid.with_suffix(".npz")):
        file.write_bytes(file.read_bytes()[:-40])
        assert survey() == ["read_lesions", "classify"]
    monkeypatch.setattr(tissue_module, "_FOUND", 10**6)
    assert survey() == ["read_lesions", "classify"]


def test_outlines_that_were_kept_are_those_of_the_file(tmp_path):
    some = [circle(300, 300, 90), replace(circle(700, 200, 50), holes=(circle(700, 200, 9).polygon, circle(720, 200, 5).polygon))]  # fmt: skip
    drawn_tiles._keep_marked(tmp_path / "a.npz", drawn_tiles._marked(Lesions((*some, circle(500, 500, 20, "ignore", True)))))  # fmt: skip
    (one, ill), (other, aside) = drawn_tiles._kept_marked(tmp_path / "a.npz")
    assert (one, other, len(ill), len(aside)) == (TUMOUR, ASIDE, 2, 1)
    for kept, whole in zip(ill.lesions, some, strict=True):
        assert [ring.tolist() for ring in (kept.polygon, *kept.holes)] == [ring.tolist() for ring in (whole.polygon, *whole.holes)]  # fmt: skip
    with pytest.raises(InputError, match="gone from the cache"):
        drawn_tiles._kept_marked(tmp_path / "b.npz")


def test_a_slide_that_changed_and_a_part_without_tumour_are_refused(places, tiny_slides, slide_cache):
    with pytest.raises(InputError, match="changed"):
        find_places(tiny_slides, np.arange(2), TILES, slide_cache, digests={paths(tiny_slides)[0]: "0" * 64}, threads=1)
    healthy = replace(places, counts=places.counts * np.array([1, 0]))
    with pytest.raises(UnsoundError, match="yes, in 8 slides"):
        draw_tiles(healthy, 10, TILES, seed=1, operation="train")
    with pytest.raises(InputError, match="two classes"):
        tumour_of(Target("classes", ("a", "b", "c")))


def test_columns_of_slides_go_with_their_tiles(places, tiny_slides):
    aged = Cases(tiny_slides.table.assign(age=np.arange(8.0)), tiny_slides.target, tiny_slides.root)
    made, _ = tile_cases(aged, {"train": draw_tiles(places, 10, TILES, seed=1, operation="train")}, TILES)
    assert (made.table["age"] == made.table["slide"].map(aged.table.set_index("case")["age"])).all()
    assert "outlines" not in made.table


def test_a_slide_may_be_drawn_of_as_long_as_it_is_surveyed_and_an_outline_is_looked_at_once(
    places, tiny_slides, monkeypatch
):
    asked, before = [], drawn_tiles.contained
    monkeypatch.setattr(drawn_tiles, "contained", lambda *given, **how: asked.append(how["seconds"]) or before(*given, **how))  # fmt: skip
    draw_tiles(places, 8, TILES, seed=1, operation="train", threads=1)
    assert asked == [3600.0]
    file = next(file for file, counts in zip(places.outlines, places.counts, strict=True) if counts[1])
    shares = []
    share = Lesions.share
    monkeypatch.setattr(Lesions, "share", lambda self, *given, **how: shares.append(len(given[0])) or share(self, *given, **how))  # fmt: skip
    shifts = np.full((8, 2, 3), 4.0)
    drawn_tiles._moved(str(file), np.full(3, 90.0), np.full(3, 90.0), np.ones(3, np.uint8), shifts, TILES)  # fmt: skip
    assert shares == [24]


def test_no_tiles_that_were_kept_are_no_tiles_again(places):
    table = draw_tiles(places, 6, TILES, seed=1, operation="train").table.assign(round="1-")
    none = TileTable.of({name: [] for name in table})
    assert TileTable.of(table.to_dict("list")).table.equals(table)
    joined = TileTable(table.drop(columns="round")).joined(none).table
    assert (joined.dtypes[list(table.columns[:-1])] == table.dtypes[list(table.columns[:-1])]).all()
    assert (~joined["tumour"]).sum() == 3
