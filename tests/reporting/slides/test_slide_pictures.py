"""The slides of a report: what is counted of their places and lesions, in which colours their maps are, and what a page says."""

from __future__ import annotations

import shutil
from dataclasses import replace

import cv2
import matplotlib
import numpy as np
import pandas as pd
import pytest
from served_slides import codes

from overread.core.files import write_csv
from overread.images.slides.lesion_outlines import Lesion, Lesions
from overread.reporting import report
from overread.reporting.run import read_run
from overread.reporting.shown_cases import Names
from overread.reporting.slides.slide_pictures import SlideToShow, heat_png, read_slides, write_slides
from overread.reporting.slides.slide_results import read_slide_results, shown_slides


def circle(x: float, y: float, radius: float) -> Lesion:
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return Lesion(np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1))


def places(*regions: int) -> pd.DataFrame:
    """Places with these regions, the highest score first."""
    many = np.arange(len(regions), dtype=float)
    return pd.DataFrame({"x": 20 + many, "y": 30.0, "score": 0.99 - many / 1000, "region": regions})


def shown(held, tmp_path, lesions: Lesions | None, found: pd.DataFrame):
    address, heat = held
    one = SlideToShow("n1", "A", "tumour" if lesions else "normal", 0.9, address, heat, lesions, found)
    write_slides(tmp_path, [(one, "missed")])
    return read_slides(tmp_path)[0]


def test_places_are_counted_before_they_are_cut(held, tmp_path):
    one = shown(held, tmp_path, Lesions(), places(*[-1] * 75))
    assert (len(one.places), one.alarms, one.false, one.known, one.lesions) == (60, 75, 75, True, 0)


def test_lesions_are_counted_as_the_search_counts_them(held, tmp_path):
    """Two outlines that nearly touch are one region; isolated tumour cells, below 200 µm, are neither found nor missed, nor is a place on them false."""
    lesions = Lesions((circle(400, 400, 150), circle(715, 400, 150), circle(400, 900, 160), circle(1200, 300, 50)))  # fmt: skip
    assert [region.outlines for region in lesions.regions] == [(0, 1), (2,), (3,)]
    one = shown(held, tmp_path, lesions, places(0, 0, 2, -2, -1))
    assert (one.lesions, one.found, one.alarms, one.false, one.known) == (2, 1, 5, 1, True)
    assert [(outline.judged, outline.found) for outline in one.outlines[:3]] == [(True, True), (True, True), (True, False)]  # fmt: skip


def test_a_heat_map_has_the_colours_of_the_viewer(held):
    data, covers = heat_png(held[1])
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[..., [2, 1, 0, 3]]
    truth = codes()
    assert covers == (0.0, 0.0, truth.shape[1] * 32.0, truth.shape[0] * 32.0)
    seen = truth > 0
    assert np.array_equal(pixels[..., 3] == 255, seen)
    wanted = matplotlib.colormaps["viridis"]((truth[seen].astype(float) - 1) / 254, bytes=True)[:, :3]
    assert np.abs(pixels[seen][:, :3].astype(int) - wanted).max() <= 2  # a step of the scale where a value is rounded


@pytest.mark.parametrize(
    ("lesions", "found", "said"),
    [
        (None, (-2, -2), "Lesions not known; 2 places from the threshold on."),
        (Lesions(), (-1,), "No lesion to find; 1 false alarm."),
        (Lesions((circle(400, 400, 150),)), (0, -1, -1), "1 of 1 lesion found; 2 false alarms."),
        (Lesions((circle(400, 400, 150),)), (0, *[-1] * 69), "1 of 1 lesion found; 69 false alarms. The 60 highest of 70 places are drawn."),
    ],
)  # fmt: skip
def test_what_was_found_is_said_and_nothing_of_lesions_that_are_not_known(finished, held, tmp_path, lesions, found, said):  # fmt: skip
    run = read_run(finished("binary"))
    shown(held, tmp_path, lesions, places(*found))
    names = Names.of(run, True)
    ((_, (figure,)),) = shown_slides(replace(run, folder=tmp_path), read_slide_results(tmp_path), names)
    assert figure.caption.endswith(f" mm. {said}")


def test_a_run_of_slides_of_which_none_is_shown_asks_for_no_map_of_whole_images(finished, tmp_path):
    assert "There are no maps of where the model looked" in (finished("binary") / "report.html").read_text("utf-8")
    run = tmp_path / "run"
    shutil.copytree(finished("binary"), run)
    looked = pd.DataFrame({"case": ["n1"], "name": ["n1"], "width": 1280.0, "height": 640.0, "looked": 3, "unread": 0, "share tissue": 0.5})  # fmt: skip
    write_csv(run / "predictions" / "slides-test.csv", looked)
    page = report(run).read_text("utf-8")
    assert "There are no maps of where the model looked" not in page
    assert "There are no nearest training cases" not in page
