"""The page of a calibration is drawn from its stored numbers only."""

import re

import pytest

from overread.core.errors import InputError
from overread.core.files import write_json
from overread.evaluation.comparison.calibration_change import CalibrationChange
from overread.reporting.pages.calibrate import calibration_page, draw_calibration


def diagram(shift):
    p = [0.1, 0.5, 0.9]
    return {"edges": [0, 0.33, 0.66, 1], "predicted": p, "observed": [x + shift for x in p], "low": [x - 0.05 for x in p],
            "high": [min(1, x + 0.1) for x in p], "count": [10, 20, 30], "null low": [0.0, 0.4, 0.8], "null high": [0.2, 0.6, 1.0]}  # fmt: skip


def estimate(metric, value, which, undefined=""):
    where = {"probabilities": which} if which else {}
    ends = {"low": None, "high": None} if undefined else {"low": value - 0.01, "high": value + 0.01}
    return {"metric": metric, "value": None if undefined else value, **ends, "level": 0.95, "method": "x", "images": 60, "patients": 30,
            "of": "mel", "where": where, "undefined": undefined}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    metrics = [estimate("brier", 0.2222, "as given"), estimate("brier", 0.1111, "recalibrated"), estimate("brier difference", -0.1111, ""),
               estimate("calibration slope", 0, "as given", "0 negatives"), estimate("calibration slope", 0, "recalibrated", "0 negatives")]  # fmt: skip
    curves = {"mel": {"before": diagram(0.05), "after": diagram(0.0)}, "odd": {"undefined": "no probabilities"}}
    write_json(tmp_path / "metrics.json", metrics)
    write_json(tmp_path / "calibration.json", {"counts": {"images": 60, "patients": 30}, "looks": 1, "curves": curves})
    fitted = {"method": "temperature", "kind": "binary", "names": ["nv", "mel"], "positive": ["mel"], "steps": {"": [{"temperature": [1.2345]}]},
              "shift": {"": {"training": [0.6, 0.4], "deployment": [0.95, 0.05]}}, "why": "lowest loss", "fitted_on": "80 answers"}  # fmt: skip
    write_json(tmp_path / "recalibration.json", fitted)
    return tmp_path


def test_the_page_says_the_stored_numbers(folder):
    files = calibration_page(folder)
    page = re.sub(r"<[^>]+>|\s+", " ", files[0].read_text("utf-8"))
    wanted = ("0.222 (0.212 to 0.232)", "−0.111 (−0.121 to −0.101)", "temperature 1.23", "60 images of 30 patients", "0 negatives",
              "once before", "another prevalence")  # fmt: skip
    for text in wanted:
        assert text in page, text
    assert [p.name for p in files[1:]] == ["reliability.svg", "reliability.png"]


def test_each_label_has_a_figure_and_one_without_numbers_none(folder):
    held = {
        "counts": {"images": 60, "patients": 30},
        "curves": {
            "a": {"before": diagram(0), "after": diagram(0)},
            "b": {"before": diagram(0), "after": diagram(0)},
            "c": {"undefined": "x"},
        },
    }
    drawn = draw_calibration(CalibrationChange.restored(held, []))
    assert [f.name for f in drawn] == ["reliability-1", "reliability-2"]
    assert "60 images of 30 patients" in drawn[0].svg


def test_damaged_files_are_refused(folder):
    write_json(folder / "calibration.json", [])
    with pytest.raises(InputError, match="damaged"):
        calibration_page(folder)
