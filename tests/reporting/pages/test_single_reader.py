"""The calculator of one reader's labels: the page, and its script in a browser against the same numbers in Python."""

from __future__ import annotations

import json

import pytest
from browser import browser, page_at, violations

from overread.evaluation.readers.single_reader_truth import SingleReaderTruth, single_reader_truth
from overread.reporting.pages.single_reader import calculator_data, reader_rows, single_reader_page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    found = single_reader_truth(reader_sensitivity=0.95, reader_specificity=0.98, prevalence=0.3)
    folder = tmp_path_factory.mktemp("single")
    paths = single_reader_page(SingleReaderTruth.load(found.save(folder)), folder)
    assert [p.name for p in paths if p.suffix == ".svg"] == ["labels.svg", "panel.svg"]
    return paths[0]


def test_the_page_reads_without_a_script(page):
    text = page.read_text()
    assert "97.1\u00a0%" in text
    assert "script-src 'sha256-" in text
    assert " onclick" not in text
    assert " oninput" not in text


def test_a_row_for_every_panel():
    found = single_reader_truth(reader_accuracy=0.9, panel=11)
    assert [row[0] for row in reader_rows(found).rows] == [p.name for p in found.panels]
    assert calculator_data(found)["right"] == "90.0\u00a0%"


SETTINGS = [
    {},
    {"accuracy": 0.9, "other": 0.95, "cases": 120},
    {"sensitivity": 0.8, "specificity": 0.99, "prevalence": 0.05, "panel": 5},
    {"panel": 15, "alike": 0.3, "sensitivity": 0.7},
    {"shared": 0.6},
    {"shared": 1.0, "accuracy": 0.93, "other": 0.93, "sensitivity": 0.9, "specificity": 0.95},
    {"sensitivity": 1.0, "specificity": 1.0},
    {"accuracy": 1.0, "other": 0.5, "cases": 10},
    {"panel": 9, "alike": 0.9, "prevalence": 0.999},
]


def test_the_script_reckons_as_python_does(page):
    start = {"accuracy": 0.99, "other": 0.97, "cases": 1000, "sensitivity": 0.95, "specificity": 0.98, "prevalence": 0.3, "panel": 1, "alike": 0.0, "shared": 0.0}  # fmt: skip
    scaled = {"accuracy", "other", "sensitivity", "specificity", "prevalence"}
    with browser() as opened, page_at(opened, page.as_uri()) as shown:
        assert violations(shown) == []
        for setting in SETTINGS:
            given = start | setting
            for name, value in given.items():
                shown.evaluate("([id, value]) => { const i = document.getElementById(id); i.value = value; i.dispatchEvent(new Event('input')); }",
                               [f"truth-{name}", str(round(100 * value, 6) if name in scaled else value)])  # fmt: skip
            said = {name: json.loads(value) for name, value in shown.evaluate(
                "Object.fromEntries([...document.querySelectorAll('#truth [data-value]')].map((e) => [e.dataset.of, e.dataset.value]))").items()}  # fmt: skip
            rates = {f"reader_{name}": given.pop(name) for name in ("sensitivity", "specificity")}
            found = single_reader_truth(**given, **rates)
            panel = found[given["panel"]]
            assert said["right"] == pytest.approx(panel.accuracy, abs=1e-9)
            assert said["gap"] == pytest.approx([panel.gap_low, panel.gap_high], abs=1e-9)
            assert said["settles"] == found.settles
            assert ("Either" in shown.inner_text("[data-of=order]")) != panel.certain
            for of, model in zip(("first", "second"), panel.models):
                assert said[f"{of}-fits"] == pytest.approx([model.low, model.high], abs=1e-9)
                assert said[f"{of}-sampled"] == pytest.approx([model.sampled_low, model.sampled_high], abs=1e-9)
                assert said[f"{of}-independent"] == pytest.approx(list(model.independent), abs=1e-9)
                assert said[f"{of}-shared"] == pytest.approx(list(model.shared), abs=1e-9)
                assert said[f"{of}-repeated"] == pytest.approx(model.repeated, abs=1e-9)
        shown.click("#truth button")
        assert json.loads(shown.get_attribute("[data-of=first-measured]", "data-value")) == 0.99
