"""The contact sheet: what a network will see, to the pixel, and what it says of what it has not looked at."""

from __future__ import annotations

import base64
import re

import cv2
import numpy as np
import pandas as pd
import pytest
from browser import browser, page_at, violations

from overread.cases.audit.fingerprints import take_fingerprints
from overread.cases.cases import Cases, paths
from overread.core.errors import ArgumentError, InputError
from overread.images.preprocess import load
from overread.learning.recipe import Recipe
from overread.study.contact_sheet import (
    AUGMENTED,
    OF_CLASSES,
    TIMES,
    by_class,
    drawn_rows,
    extremes,
    planned,
    prepare,
    several,
    show,
    shown,
    side_by_side,
)
from overread.synthetic import draw_cohort
from overread.tasks.target import Target

RECIPE = Recipe(method="scratch", backbone="lenet5", image_size=28, epochs=1)
TARGET = Target("binary", ("benign", "malignant"), ("malignant",))


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A cohort with a copy, a file that cannot be read, one with writing, and cases of two views."""
    home = tmp_path_factory.mktemp("sheet")
    table = pd.read_csv(draw_cohort(home, patients=20, size=64, seed=3))
    (home / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    written = np.full((256, 256), 90, np.uint8)
    cv2.putText(written, "ANNA SMITH 1961", (10, 120), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2)
    cv2.imwrite(str(home / "written.png"), written)
    table.loc[0, "image"] = "broken.png"
    table.loc[1, "image"] = "written.png"
    table.loc[3, "image"] = table.loc[2, "image"]
    table["view"] = ""
    table.loc[[5, 6], "case"] = "two-views"
    table.loc[[5, 6], "patient"] = table.loc[5, "patient"]
    table.loc[[5, 6], "diagnosis"] = table.loc[5, "diagnosis"]
    table.loc[[5, 6], "view"] = ["front", "side"]
    roles = {"source": table["microscope"], "time": "", "split": "", "label": table["diagnosis"]}
    return Cases(table.assign(**roles), TARGET, str(home))


@pytest.fixture(scope="module")
def page(cases, tmp_path_factory):
    """The page as text."""
    return show(cases, tmp_path_factory.mktemp("page") / "show.html", recipe=RECIPE, per_class=4).read_text("utf-8")


def pictures(html: str, alt: str) -> list[np.ndarray]:
    """The pictures whose words begin so, RGB."""
    found = re.findall(rf'<img src="data:image/png;base64,([^"]+)" alt="{alt}', html)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), 1)[..., ::-1] for data in found]


def test_the_pictures_are_what_the_network_is_given(cases, page):
    rows = {str(case): i for i, case in reversed(list(enumerate(cases.table["case"])))}
    prints = take_fingerprints(cases)
    _, preprocess, _ = planned(cases, cases, prints, RECIPE, None)
    assert preprocess.size == (28, 28)
    seen = re.findall(r'alt="Class: malignant: ([^,"]+)', page)
    assert len(seen) == 4
    for case, picture in zip(seen, pictures(page, "Class: malignant"), strict=True):
        if case != cases.table["case"][1]:
            assert (picture == shown(load(paths(cases)[rows[case]], preprocess))).all()
    labels = dict(zip(cases.table["case"], cases.table["label"], strict=True))
    assert {labels[case] for case in seen} == {"malignant"}


def test_each_section_tells_what_it_is_of(cases, page):
    titles = re.findall(r'<h2 id="part-\d+"><span class="no">\d+</span>([^<]+)</h2>', page)
    assert titles == ["What there is", "What a network will see", "Augmented", "Class: benign", "Class: malignant", "Copies side by side", "Largest", "Smallest",
                      "Darkest", "Brightest", *(f"Source: {name}" for name in sorted(set(cases.table["source"]))), "All images of a case", "Cannot be read"]  # fmt: skip
    assert "pixel for pixel the same" in page
    assert "two-views: 2 images — front, side" in page
    assert re.search(rf'<th scope="row">{cases.table["case"][0]}</th><td>[^<]+</td>', page)
    assert "1 image of those looked at cannot be read" in page
    assert "28 × 28 pixels" in page
    assert "Every image was looked at." in page
    assert "No two of them are copies" not in page
    assert "<script" not in page


def test_everybody_can_read_it(page, tmp_path):
    (tmp_path / "show.html").write_text(page, encoding="utf-8")
    with browser() as opened:
        for width, scheme in ((1200, "light"), (360, "dark")):
            with page_at(opened, (tmp_path / "show.html").as_uri(), width=width, scheme=scheme) as seen:
                assert violations(seen) == []
                assert seen.evaluate("document.documentElement.scrollWidth") <= width


def test_augmented_ones_stand_beside_their_image(page):
    found = pictures(page, "An image and")
    assert 1 <= len(found) <= AUGMENTED
    width = found[0].shape[0]
    for picture in found:
        parts = [picture[:, i * (width + 6) : i * (width + 6) + width] for i in range(TIMES + 1)]
        assert all((parts[0] != part).any() for part in parts[1:])
    assert pictures(page, "An image and")[0].shape[1] == (TIMES + 1) * width + TIMES * 6


def test_writing_is_covered(cases, page):
    prints = take_fingerprints(cases)
    assert prints["text"][1] > 0
    (covered,) = prepare(
        cases, [1], planned(cases, cases, prints, RECIPE, None)[1], prints, 1, lambda *a: None
    ).values()
    assert max(covered.shape) <= 64
    assert (covered == 128).mean() > 0.1
    assert (covered == 255).mean() == 0
    assert "1 image with writing in the pixels" in page


def test_extremes_are_those_of_the_numbers(cases):
    prints = take_fingerprints(cases)
    found = {group.title: [row for (row,) in group.items] for group in extremes(prints)}
    assert found["Largest"][0] == 1
    readable = prints[prints["error"] == ""]
    assert found["Darkest"][0] == readable["mean"].idxmin()
    assert found["Brightest"][0] == readable["mean"].idxmax()
    assert all(0 not in rows for rows in found.values())


def test_a_large_table_is_sampled_with_every_class_and_source():
    n = 100_000
    rng = np.random.default_rng(0)
    label = np.where(rng.random(n) < 0.0002, "malignant", "benign")
    source = np.where(np.arange(n) < 3, "rare", "common")
    table = pd.DataFrame({"case": np.arange(n).astype(str), "patient": (np.arange(n) // 2).astype(str), "image": "x.png", "source": source, "view": "", "time": "", "split": "", "label": label})  # fmt: skip
    many = Cases(table, TARGET, ".")
    rows = drawn_rows(many, 500, 0)
    assert len(rows) == len(set(rows)) == 500
    assert (label[rows] == "malignant").sum() >= 6
    assert (source[rows] == "rare").sum() == 3
    assert (drawn_rows(many, 500, 0) == rows).all()
    assert (drawn_rows(many, 500, 1) != rows).any()
    assert len(drawn_rows(many, 0, 0)) == n


def test_many_classes_do_not_make_a_page_without_end(cases):
    names = tuple(f"c{i:03d}" for i in range(100))
    table = cases.table.assign(label=[names[i % 100] for i in range(len(cases))])
    many = Cases(table, Target("classes", names), cases.root)
    groups = by_class(many, take_fingerprints(cases), 50, 0)
    assert len(groups) == 40
    assert sum(len(group.items) for group in groups) <= OF_CLASSES
    assert "The first 40 of 100" in groups[0].words


def test_volumes_are_shown_as_slices():
    volume = np.arange(27, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    picture = shown(volume)
    assert picture.shape == (144, 144, 3)
    assert picture[24, 24, 0] == 1
    assert picture[120, 120, 0] == 25
    assert picture[72, 72, 0] == 13
    assert side_by_side([picture, picture]).shape == (144, 294, 3)


def test_the_same_seed_gives_the_same_bytes_and_a_sample_is_told(cases, tmp_path):
    first, again, other = (show(cases, tmp_path / f"{i}.html", recipe=RECIPE, per_class=2, most=20, seed=seed).read_bytes() for i, seed in enumerate((0, 0, 1)))  # fmt: skip
    assert first == again != other
    assert b"20 of " in first
    assert b"drawn with seed 0" in first
    assert b"--most 0 looks at all" in first


def test_wrong_numbers_and_unreadable_tables_are_refused(cases, tmp_path):
    with pytest.raises(ArgumentError, match="per_class"):
        show(cases, tmp_path / "x.html", recipe=RECIPE, per_class=0)
    with pytest.raises(InputError, match="none of the"):
        show(cases.take([0]), tmp_path / "x.html", recipe=RECIPE)


def test_cases_of_one_image_have_no_section_of_several(cases):
    alone = cases.take(np.flatnonzero((cases.table["case"] != "two-views").to_numpy()))
    (group,) = several(alone, take_fingerprints(alone))
    assert group.items == ()
