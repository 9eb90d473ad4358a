"""The page of a simulation is drawn from its stored numbers only."""

import copy
import html
import re

import pytest

from overread.core.errors import InputError
from overread.core.files import write_json
from overread.reporting.pages.simulate import cautions, draw_simulation, summary, tell_simulation


def estimate(metric, value, low, high):
    return {
        "metric": metric,
        "value": value,
        "low": low,
        "high": high,
        "level": 0.95,
        "method": "Wilson",
        "images": 90,
        "patients": 45,
        "undefined": "",
    }


def way(name, sensitivity):
    rates = [estimate("sensitivity", sensitivity, sensitivity - 0.1, sensitivity + 0.05), estimate("specificity", 0.8, 0.7, 0.9),
             estimate("reads per case", 1.0, None, None)]  # fmt: skip
    return {"name": name, "says": "what happens", "estimates": rates, "differences": []}


@pytest.fixture
def held():
    alone, triage = way("reader alone", 0.8123), way("triage", 0.7654)
    triage["differences"] = [
        {"against": "reader alone", "p": 0.0004, **estimate("sensitivity difference", -0.0469, -0.08, -0.01)},
        {"against": "reader alone", "p": None, **estimate("reads per case difference", -0.6, -0.7, -0.5)},
    ]
    curve = {"threshold": [0.1, 0.5], "read": [1.0, 0.4], "sensitivity": [0.8, 0.7], "low": [0.7, 0.6], "high": [0.9, 0.8],
             "reader": {"sensitivity": 0.81, "specificity": 0.8}, "point": {"threshold": 0.3, "read": 0.4, "sensitivity": 0.7654},
             "prevalence": 0.1, "level": 0.95, "method": "Wilson"}  # fmt: skip
    counts = {"images": 90, "patients": 45, "readers": 2, "readings": 170, "positives": 30, "not read by triage": 50,
              "missed by triage": 2, "missed by triage, found by a reader": 1, "prevalence": 0.1}  # fmt: skip
    return {
        "counts": counts,
        "looks": 2,
        "workflows": [alone, triage],
        "triage": curve,
        "worklist": [estimate("place in the worklist", 0.2, 0.15, 0.25)],
    }


def test_the_page_says_the_stored_numbers(held, tmp_path):
    write_json(tmp_path / "simulation.json", held)
    files = tell_simulation(tmp_path)
    page = html.unescape(re.sub(r"<[^>]+>|\s+", " ", files[0].read_text("utf-8")))
    for text in (
        "81.2 (71.2 to 86.2)",
        "−4.7 (−8.0 to −1.0), p < .001",
        "90 images of 45 patients",
        "2 times",
        "2 have the disease",
    ):
        assert text in page, text
    assert {p.name for p in files[1:]} == {
        f"{n}.{e}" for n in ("workflows", "workflow-changes", "triage") for e in ("svg", "png")
    }
    assert all(figure.alt for figure in draw_simulation(held))


def test_undefined_numbers_and_no_readers(held, tmp_path):
    bare = copy.deepcopy(held)
    bare["triage"] = {"undefined": "0 negatives"}
    bare["counts"]["readers"] = 0
    bare["workflows"][1]["estimates"][0] |= {"value": None, "low": None, "high": None, "undefined": "0 positives"}
    bare["workflows"][1]["differences"] = []
    bare["worklist"][0] |= {"value": None, "undefined": "0 negatives"}
    write_json(tmp_path / "simulation.json", bare)
    assert "0 positives" in tell_simulation(tmp_path)[0].read_text("utf-8")
    assert "perfect" in summary(bare)[0]
    assert any("perfect" in line for line in cautions(bare))
    assert [f.name for f in draw_simulation(bare)] == ["workflows"]


def test_a_damaged_simulation_is_refused(tmp_path):
    write_json(tmp_path / "simulation.json", {"workflows": []})
    with pytest.raises(InputError, match="damaged"):
        tell_simulation(tmp_path)
