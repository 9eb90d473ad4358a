"""The page of a simulation says the numbers of its result."""

import html
import math
import re
from dataclasses import replace

import pytest

from overread.evaluation.workflow import ReaderRates, Simulation, TriageCurve, TriagePoint, Workflow
from overread.reporting.pages.simulate import cautions, draw_simulation, simulation_page, summary
from overread.stats.estimate import Difference, Estimate, undefined, without


def estimate(metric, value, low=math.nan, high=math.nan):
    return Estimate(metric, value, low, high, method="Wilson", images=90, patients=45)


def workflow(name, sensitivity, **differences):
    rates = (estimate("sensitivity", sensitivity, sensitivity - 0.1, sensitivity + 0.05), estimate("specificity", 0.8, 0.7, 0.9),
             estimate("reads per case", 1.0))  # fmt: skip
    return Workflow(name, "what happens", rates, {"reader alone": tuple(differences.values())} if differences else {})


@pytest.fixture
def made():
    alone = workflow("reader alone", 0.8123)
    first, second = alone.estimates[0], alone.estimates[2]
    changes = {
        "rate": Difference(first, first, estimate("sensitivity difference", -0.0469, -0.08, -0.01), 0.02, -3.5, 0.0004),
        "reads": without(second, second, estimate("reads per case difference", -0.6, -0.7, -0.5)),
    }
    triage = workflow("triage", 0.7654, **changes)
    curve = TriageCurve((0.1, 0.5), (1.0, 0.4), (0.8, 0.7), (0.7, 0.6), (0.9, 0.8), reader=ReaderRates(0.81, 0.8),
                        point=TriagePoint(0.3, 0.4, 0.7654), prevalence=0.1, method="Wilson")  # fmt: skip
    counts = {"images": 90, "patients": 45, "readers": 2, "readings": 170, "positives": 30, "not read by triage": 50,
              "missed by triage": 2, "missed by triage, found by a reader": 1, "prevalence": 0.1}  # fmt: skip
    return Simulation((alone, triage), curve, (estimate("place in the worklist", 0.2, 0.15, 0.25),), counts, (), 2)


def test_the_page_says_the_numbers(made, tmp_path):
    files = simulation_page(made, tmp_path)
    page = html.unescape(re.sub(r"<[^>]+>|\s+", " ", files[0].read_text("utf-8")))
    for text in (
        "81.2 (71.2 to 86.2)",
        "−4.7 (−8.0 to −1.0), p < 0.001",
        "90 images of 45 patients",
        "2 times",
        "2 have the disease",
    ):
        assert text in page, text
    assert {p.name for p in files[1:]} == {
        f"{n}.{e}" for n in ("workflows", "workflow-changes", "triage") for e in ("svg", "png")
    }
    assert all(figure.alt for figure in draw_simulation(made))


def test_undefined_numbers_and_no_readers(made, tmp_path):
    alone, triage = made.workflows
    rates = (undefined("sensitivity", "0 positives"), *triage.estimates[1:])
    bare = replace(
        made,
        workflows=(alone, replace(triage, estimates=rates, differences={})),
        triage=TriageCurve(undefined="0 negatives"),
        worklist=(undefined("place in the worklist", "0 negatives"),),
        counts={**made.counts, "readers": 0},
    )
    assert "0 positives" in simulation_page(bare, tmp_path)[0].read_text("utf-8")
    assert "perfect" in summary(bare)[0]
    assert any("perfect" in line for line in cautions(bare))
    assert [f.name for f in draw_simulation(bare)] == ["workflows"]
