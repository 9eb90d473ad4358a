"""The report in a browser: read, tried, on a telephone, in the dark, by keyboard, without script and in print."""

from __future__ import annotations

import shutil

import pytest
from browser import browser, page_at, violations

from overread.core.files import read_json, write_json
from overread.reporting import page as pages
from overread.reporting.run import read_run
from overread.reporting.threshold import sliders


@pytest.fixture(scope="module")
def opened():
    """One browser for all of these tests."""
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def report(finished, tmp_path_factory):
    """The address of a report with maps and neighbours."""
    home = shutil.copytree(finished("binary"), tmp_path_factory.mktemp("browser") / "run")
    cases = [entry["case"] for entry in read_json(home / "explanations/gallery.json")]
    picture = "explanations/errors/1.png"
    write_json(home / "explanations/maps.json", [{"case": c, "target": "malignant", "method": "grad-cam", "map": picture} for c in cases])  # fmt: skip
    near = {"case": "n", "label": "benign", "source": "B", "distance": 0.1, "thumbnail": picture}
    write_json(home / "index/neighbours.json", [{"case": c, "neighbours": [near] * 5} for c in cases])
    return pages.report(home).as_uri()


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light")])
def test_everybody_can_read_it(opened, report, width, scheme):
    with page_at(opened, report, width=width, scheme=scheme) as page:
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert dark == (scheme == "dark")


def numbers(page) -> list[int]:
    return [int(page.inner_text(f"[data-of={name}]").replace(",", "")) for name in ("hits", "missed", "alarms", "cleared")]  # fmt: skip


def test_the_slider_moves_by_keyboard_and_says_whose_threshold_it_is(opened, report, finished):
    (slider,) = sliders(read_run(finished("binary")))
    with page_at(opened, report) as page:
        start = numbers(page)
        assert start == [slider.shown.hits, slider.missed, slider.shown.alarms, slider.cleared]
        assert "This is the study’s point" in page.inner_text("[data-of=whose]")
        page.focus("#try-range")
        page.keyboard.press("ArrowRight")
        stop = slider.stops[slider.at + 1]
        assert numbers(page) == [stop.hits, slider.positives - stop.hits, stop.alarms, slider.negatives - stop.alarms]
        assert "not the study’s point" in page.inner_text("[data-of=whose]")
        assert stop.threshold in page.inner_text("[data-of=threshold]")
        assert stop.threshold in page.get_attribute("#try-range", "aria-valuetext")
        x, y = slider.place(slider.at + 1)
        assert float(page.get_attribute(".moved", "cx")) == pytest.approx(float(x), abs=1e-3)
        assert float(page.get_attribute(".moved", "cy")) == pytest.approx(float(y), abs=1e-3)
        assert float(page.get_attribute("circle.study", "cx")) == pytest.approx(float(slider.place(slider.at)[0]), abs=1e-3)  # fmt: skip
        sensitivity, specificity = stop.hits / slider.positives, 1 - stop.alarms / slider.negatives
        page.fill("#try-prevalence", "2")
        ppv = sensitivity * 0.02 / (sensitivity * 0.02 + (1 - specificity) * 0.98)  # Bayes
        npv = specificity * 0.98 / (specificity * 0.98 + (1 - sensitivity) * 0.02)
        assert page.inner_text("[data-of=ppv-there]") == f"{100 * ppv:.1f}\u00a0%"
        assert page.inner_text("[data-of=npv-there]") == f"{100 * npv:.1f}\u00a0%"
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert numbers(page) == start
        page.focus("#try-range")
        page.keyboard.press("Home")
        assert numbers(page) == [0, slider.positives, 0, slider.negatives]
        assert page.inner_text("[data-of=ppv]") == "–"


def test_a_keyboard_reaches_the_results_first(opened, report):
    with page_at(opened, report) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#results"
        page.focus("#try-range")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_without_script_the_frozen_point_stands(opened, report, finished):
    (slider,) = sliders(read_run(finished("binary")))
    with page_at(opened, report, script=False) as page:
        assert not page.is_visible("#try-range")
        assert numbers(page) == [slider.shown.hits, slider.missed, slider.shown.alarms, slider.cleared]
        assert page.is_visible("circle.study")


def test_it_can_be_printed(opened, report):
    with page_at(opened, report) as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(31, 41, 51)"  # ink on white paper
        assert not page.is_visible("#try-range")
        assert not page.is_visible("nav")
        assert page.pdf().startswith(b"%PDF")


def test_a_telephones_layout_is_not_printed(opened, report):
    with page_at(opened, report, width=680) as page:  # A4 within its margins
        page.emulate_media(media="print")
        columns = page.evaluate("getComputedStyle(document.querySelector('.figures')).gridTemplateColumns")
        assert len(columns.split()) == 2
        assert page.evaluate("document.documentElement.scrollWidth") <= 680


def test_several_findings_can_be_chosen(opened, finished):
    run = read_run(finished("findings"))
    with page_at(opened, (run.folder / "report.html").as_uri()) as page:
        assert violations(page) == []
        second = sliders(run)[1]
        page.select_option("#try-question", "1")
        assert numbers(page) == [second.shown.hits, second.missed, second.shown.alarms, second.cleared]
        assert "nodule" in page.inner_text(".two")
