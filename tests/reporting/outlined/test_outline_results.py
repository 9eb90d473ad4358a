"""The report of a run that outlined objects: its numbers, its pictures, its words, and what it does not say."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from overread.core.files import read_json
from overread.reporting import card, report
from overread.reporting.advice import brief, trust
from overread.reporting.outlined.outline_results import lost_objects, outcome
from overread.reporting.run import read_run


def _made(folder: Path, **how) -> Path:
    spec = importlib.util.spec_from_file_location("outlined_runs", Path(__file__).parents[1] / "outlined_runs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_outlined_run(folder, **how)


class _Words(HTMLParser):
    """What a reader sees, and the elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.elements, self._silent = "", [], 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._silent += tag == "style"

    def handle_endtag(self, tag):
        self._silent -= tag == "style"

    def handle_data(self, data):
        self.text += "" if self._silent else data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = _made(tmp_path_factory.mktemp("outlined") / "run")
    report(made)
    card(made)
    return made


@pytest.fixture(scope="module")
def page(folder):
    return _Words((folder / "report.html").read_text("utf-8"))


def said(page) -> str:
    return re.sub(r"\s+", " ", page.text.replace("\u00a0", " "))


def test_the_numbers_are_those_of_the_file_in_words_of_the_field(folder, page):
    stored = {e["metric"]: e for e in read_json(folder / "evaluation/metrics.json") if not e["where"] and not e["of"]}
    text = said(page)
    recall, ap = stored["recall@0.5"], stored["ap@0.5"]
    assert f"Of the objects that are there it found {100 * recall['value']:.0f} %" in text
    assert f"{ap['value']:.2f} (95 % interval {ap['low']:.2f} to {ap['high']:.2f})" in text
    for metric in ("pq", "f1@0.5", "merges", "splits", "boundary distance"):
        assert f"{stored[metric]['value']:.3f}" in text, metric
    bias = stored["count error"]["value"]
    assert f"It counts {abs(bias):.1f} objects an image too {'many' if bias > 0 else 'few'}" in text
    assert "lost in the outline of a neighbour" in text


def test_what_became_of_the_objects_adds_up(folder):
    table = outcome(read_run(folder))
    whole, *sources = [[int(cell.replace(",", "")) for cell in row[1:]] for row in table.rows]
    assert [row[0] for row in table.rows] == ["All images", "A", "B", "C"]
    assert [sum(column) for column in zip(*sources, strict=True)] == whole
    true, predicted, hits, missed, false = whole[1:6]
    assert (hits + missed, hits + false) == (true, predicted)


def test_each_image_that_is_shown_has_its_outlines_and_the_legend_tells_them_apart(folder, page):
    text, html = said(page), (folder / "report.html").read_text("utf-8")
    rows = read_json(folder / "overlays/overlays.json")
    assert "The images that were outlined worst (4)" in text
    assert "Images drawn at random from the others (2)" in text
    drawn = [attributes for tag, attributes in page.elements if tag == "svg" and attributes.get("class") == "outlines"]
    assert len(drawn) == len(rows) == 6
    assert html.count("data:image/jpeg;base64,") == sum(bool(row["picture"]) for row in rows)
    assert "missed, or not told apart" in text
    assert "times brighter than it is" in text
    for row in rows:
        assert row["case"] not in text, "cases stand under keys"


def test_a_withheld_picture_leaves_its_outlines(tmp_path):
    made = _made(tmp_path / "run", images=12)
    rows = read_json(made / "overlays/overlays.json")
    hidden = [row for row in rows if row["withheld"]]
    for row in hidden:
        assert not row["picture"]
        assert row["shapes"]
    assert {row["case"] for row in rows if not row["picture"]} == {row["case"] for row in hidden}


def test_figures_of_the_task_are_there_and_those_of_another_are_not(page):
    titles = {attributes.get("id") for _, attributes in page.elements}
    assert {"ap-over-iou-title", "counts-title", "object-sizes-title", "forest-title", "training-title"} <= titles
    assert not {"roc-title", "calibration-title", "confusion-title"} & titles


def test_nothing_of_a_single_answer_is_told(page):
    text = said(page)
    for word in (
        "Operating point",
        "threshold was frozen",
        "AUC",
        "Youden",
        "Predictive values",
        "overread similar",
        "overread explain",
    ):
        assert word not in text, word
    assert "Tuning AP, IoU .5 to .95" in text
    assert "Images with their outlines" in text
    assert "Outlining objects in images" in text


def test_the_page_needs_no_network_and_no_script(folder):
    html = (folder / "report.html").read_text("utf-8")
    assert "<script" not in html
    assert not re.search(r'(?:src|href)="https?://', html)
    assert str(folder) not in html


def test_the_terminal_and_the_card_tell_the_same(folder):
    lines = "\n".join(brief(read_run(folder)))
    value = next(
        e["value"] for e in read_json(folder / "evaluation/metrics.json") if e["metric"] == "ap@0.5" and not e["where"]
    )
    assert f"AP at IoU .5 {value:.2f}" in lines
    told = (folder / "model_card.md").read_text("utf-8")
    assert "| AP at IoU .5 |" in told
    assert "by microscope or other source" in told or "## Groups" in told
    assert "AUC" not in told


def test_sizes_are_in_microns_where_every_pixel_size_is_known(tmp_path):
    made = _made(tmp_path / "run", images=12, pixel_size=0.5)
    rows = read_json(made / "overlays/sizes.json")
    assert {row["unit"] for row in rows} == {"µm²"}
    assert sum(row["objects"] for row in rows) == read_json(made / "evaluation/instances.json")["counts"]["true"]


def test_a_source_under_which_nothing_was_found_is_no_footnote(folder):
    """As the demo's microscope of three training patients: the number over all images hides it."""
    run = read_run(folder)
    assert not list(lost_objects(run))
    table = run.outlines.images.copy()
    table.loc[table["source"] == "C", "hits"] = 0
    lost = int(table.loc[table["source"] == "C", "true"].sum())
    blind = replace(run, outlines=replace(run.outlines, images=table))
    assert list(lost_objects(blind)) == [f"In images of C it found none of the {lost:,} objects."]
    assert trust(blind).verdict == "Do not rely on it yet."
    table["hits"] = table["true"] // 3
    told = list(lost_objects(replace(run, outlines=replace(run.outlines, images=table))))
    assert [line.split(" it found ")[0] for line in told] == ["Over all images", *(f"In images of {s}" for s in "ABC")]
    assert all(line.endswith("objects: fewer than half.") for line in told)
