"""Tables of lesions: which place lies on which true lesion, what is left out, what is not known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests.fixtures.drawn_slides import slide_pixels, write_outlines, write_slide

from overread.cases.sources.read_cases import read_cases
from overread.core.errors import InputError
from overread.evaluation.detection import judge_marks, read_marks
from overread.slides.heat_map import MapAbout, write_map
from overread.slides.lesions import lowest_code
from overread.study.slides.lesion_search import search_tables
from overread.study.slides.lesion_tables import (
    found_places,
    lesions_of,
    outlines_digest,
    read_places,
    refuse_unfit_slides,
    regions_at,
    save_places,
    true_lesions,
)

CELL = 32.0
#: One lesion 300 µm wide, and one of isolated tumour cells.
LARGE, ISOLATED = (400.0, 400.0, 150.0), (900.0, 900.0, 50.0)


@pytest.fixture
def cases(tmp_path):
    """Three slides: both lesions on the first, none on the second; the third has the label alone."""
    write_slide(tmp_path / "s0.tif", slide_pixels([LARGE, ISOLATED]))
    write_outlines(tmp_path / "s0.xml", [LARGE, ISOLATED])
    for name in ("s1", "s2"):
        write_slide(tmp_path / f"{name}.tif", slide_pixels([], seed=1))
    pd.DataFrame({"slide": ["s0.tif", "s1.tif", "s2.tif"], "tumour": ["yes", "no", "yes"], "patient": list("abc"), "outlines": ["s0.xml", "", ""]}).to_csv(tmp_path / "t.csv", index=False)  # fmt: skip
    return read_cases(
        tmp_path / "t.csv",
        image="slide",
        label="tumour",
        positive=["yes"],
        patient="patient",
        outlines="outlines",
        names="keep",
    )


def heat_map(path, peaks):
    codes = np.ones((40, 40), np.uint8)
    for x, y, p in peaks:
        codes[int(y // CELL), int(x // CELL)] = 1 + round(p * 254)
    about = MapAbout(cell=CELL, shape=codes.shape, size=(1280.0, 1280.0), bits=8, stride=16, mpp=(2.0,), tile=32, centre=16, least_tissue=0.25, views=1,
                     model="m", slide="s", tissue="t", looked=1600)  # fmt: skip
    return write_map(path, codes, about)


def test_places_know_the_lesion_that_they_lie_on(cases, tmp_path):
    said = []
    lesions = lesions_of(cases, said.append)
    assert [None if one is None else len(one) for one in lesions] == [2, 0, None]
    assert said == ["  1 slide with disease, or of unknown label, without outlines: lesions are not known there, and not judged"]  # fmt: skip
    peaks = [(410, 390, 0.9), (900, 910, 0.8), (400, 1000, 0.7)]
    maps = {row: heat_map(tmp_path / f"{row}.map.tif", peaks) for row in range(3)}
    found = found_places(cases, maps, lesions, 100.0, 0.02)
    assert found["case"].tolist() == ["s0"] * 3 + ["s1"] * 3 + ["s2"] * 3
    assert found["region"].tolist() == [0, -2, -1, -1, -1, -1, -2, -2, -2]
    assert found["score"][0] == pytest.approx(0.9, abs=0.002)
    assert (found["x"][0], found["y"][0]) == (400.0, 400.0)
    assert read_places(save_places(found, tmp_path / "places.csv"))["region"].tolist() == found["region"].tolist()
    assert read_places(save_places(found.head(0), tmp_path / "none.csv")).empty


def test_where_label_and_outlines_contradict_lesions_are_not_known(tmp_path):
    """As in training: disease whose outlines hold none, and none whose outlines hold some; areas to be ignored are none."""
    rows = []
    for name, label, spots, group in (("ill", "yes", [LARGE], "_0"), ("bare", "yes", [], "_0"), ("ignored", "yes", [LARGE], "ignore"), ("well", "no", [], "_0"),
                                      ("shown", "no", [LARGE], "_0"), ("small", "yes", [ISOLATED], "_0"), ("broken", "yes", [], "")):  # fmt: skip
        write_slide(tmp_path / f"{name}.tif", slide_pixels(spots))
        write_outlines(tmp_path / f"{name}.xml", spots, group=group)
        if not group:
            (tmp_path / f"{name}.xml").write_text("<none/>")
        rows.append({"slide": f"{name}.tif", "tumour": label, "patient": name, "outlines": f"{name}.xml"})
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    cases = read_cases(tmp_path / "t.csv", image="slide", label="tumour", positive=["yes"], patient="patient", outlines="outlines", names="keep")  # fmt: skip
    said = []
    lesions = lesions_of(cases, said.append)
    known = dict(zip(cases.table["case"], [None if one is None else len(one) for one in lesions], strict=True))
    assert known == {"ill": 1, "bare": None, "ignored": None, "well": 0, "shown": None, "small": 1, "broken": None}
    assert said[:2] == ["  2 slides with disease by their label, whose outlines hold none: lesions are not known there, and not judged",
                        "  1 slide without disease by their label, whose outlines hold some: lesions are not known there, and not judged"]  # fmt: skip
    assert said[2].startswith("  1 slide whose outlines cannot be read (")
    assert not any("broken" in line for line in said)


def test_a_model_that_gives_tumour_low_probabilities_is_judged_too(cases, tmp_path):
    """A place of .012 on the lesion, which nothing else reaches; of new slides what stands out is listed alone."""
    maps = {0: heat_map(tmp_path / "m.tif", [(410, 390, 0.012), (100, 1000, 0.008)])}
    found = found_places(cases, maps, lesions_of(cases), 100.0)
    assert found["score"].head(2).to_numpy() == pytest.approx([3 / 254, 2 / 254])
    assert found["region"].tolist()[:2] == [0, -1]
    assert found["area"].tolist()[:2] == [CELL**2] * 2
    assert 20 < len(found) <= 500
    assert found_places(cases, maps, lesions_of(cases), 100.0, 0.02).empty
    wide = {0: heat_map(tmp_path / "w.tif", [(410, 390, 0.9), (390, 390, 0.1), (1000, 100, 0.5)])}
    assert found_places(cases, wide, lesions_of(cases), 100.0)["area"].tolist()[:2] == [1 * CELL**2, 1 * CELL**2]


def test_a_score_that_was_saved_reaches_the_threshold_that_it_chose(tmp_path):
    scores = (np.arange(65535)) / 65534
    table = pd.DataFrame({"case": "c", "score": scores})
    read = read_places(save_places(table, tmp_path / "p.csv"))["score"].to_numpy()
    assert [lowest_code(score, 16) for score in read] == list(range(1, 65536))


def test_the_area_is_that_above_the_threshold(cases, tmp_path):
    made = heat_map(tmp_path / "a.map.tif", [(400, 400, 0.9), (432, 400, 0.6), (464, 400, 0.3), (1000, 1000, 0.2)])
    plain = found_places(cases, {0: made}, lesions_of(cases), 100.0)
    assert plain["area"].tolist()[:2] == [3 * CELL**2, CELL**2]
    frozen = write_map(tmp_path / "b.map.tif", made.cells(), replace(made.about, threshold=0.5))
    assert found_places(cases, {0: frozen}, lesions_of(cases), 100.0)["area"].tolist()[:2] == [2 * CELL**2, CELL**2]


def test_the_score_of_a_place_may_be_the_mean_over_a_window(cases, tmp_path):
    """One bright place is none where a window of three is read; nine are."""
    lesion = [(400 + 32 * i, 400 + 32 * j, 0.8) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    maps = {0: heat_map(tmp_path / "m.tif", [(1000, 200, 1.0), *lesion])}
    alone = found_places(cases, maps, lesions_of(cases), 100.0, 0.02)
    assert alone["region"].tolist()[:2] == [-1, 0]
    held = found_places(cases, maps, lesions_of(cases), 100.0, 0.02, window=3)
    assert held["region"].tolist()[:2] == [0, -1]
    assert held["score"].head(2).to_numpy() == pytest.approx([0.8, 1 / 9], abs=0.003)


def test_true_lesions_are_measured_in_microns(cases):
    table = true_lesions(cases, lesions_of(cases))
    assert table["judged"].tolist() == [1, 0]
    assert table[["x", "y"]].to_numpy() == pytest.approx(np.array([LARGE[:2], ISOLATED[:2]]), abs=8)
    assert table["longest"].to_numpy() == pytest.approx([300, 100], rel=0.01)
    assert table["area"].to_numpy() == pytest.approx(np.pi * np.array([150.0, 50.0]) ** 2, rel=0.02)


def test_a_place_beyond_all_lesions_is_on_none(cases):
    truth = lesions_of(cases)[0]
    places = pd.DataFrame({"x": [400.0, 1200.0], "y": [400.0, 30.0]})
    assert regions_at(truth, places).tolist() == [0, -1]
    assert regions_at(None, places).tolist() == [-2, -2]


def test_the_tables_of_a_search_are_those_of_froc(cases, tmp_path):
    """What is judged here is what `overread froc` judges: what is not judged stands in none of them."""
    lesions = lesions_of(cases)
    maps = {row: heat_map(tmp_path / f"{row}.map.tif", [(410, 390, 0.9 * dim), (900, 910, 0.8 * dim), (400, 1000, 0.7 * dim)]) for row, dim in ((0, 1.0), (1, 0.3))}  # fmt: skip
    places, truth = found_places(cases, maps, lesions, 100.0, 0.02), true_lesions(cases, lesions)
    images = pd.DataFrame({"image": ["s0", "s1"], "patient": ["a", "b"], "source": ["", ""]})
    given = read_marks(*search_tables(tmp_path / "search", places, truth[truth["judged"] == 1], images))
    assert (given.images, len(given.lesion_image), len(given.marks)) == (2, 1, 5)
    found = judge_marks(given, resamples=20)
    assert found["sensitivity at 0.25 false positives per image"].value == 1.0
    assert found.counts["lesions"] == 1


def test_outlines_that_change_change_the_digest(cases, tmp_path):
    before = outlines_digest(cases)
    write_outlines(tmp_path / "s0.xml", [LARGE])
    assert before != outlines_digest(cases) != ""
    assert outlines_digest(cases.take([1])) == ""


def test_slides_have_one_of_two_classes(cases, tmp_path):
    refuse_unfit_slides(cases)
    table = pd.read_csv(tmp_path / "t.csv").assign(tumour=["a", "b", "c"])
    table.to_csv(tmp_path / "three.csv", index=False)
    three = read_cases(tmp_path / "three.csv", image="slide", label="tumour", patient="patient")
    with pytest.raises(InputError, match="one of two classes"):
        refuse_unfit_slides(three)


def test_a_run_without_places_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="overread predict RUN"):
        read_places(tmp_path / "places.csv")
