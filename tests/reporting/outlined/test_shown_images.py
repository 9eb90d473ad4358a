"""Which images are shown and what is said of their objects, on label images whose errors are known by construction."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.core.files import read_rows
from overread.evaluation.instances.evaluate_outlines import evaluate_outlines
from overread.evaluation.instances.predicted_outlines import PredictedOutlines
from overread.images.outlines.outlines import outlines_of, write_labels
from overread.reporting.case_rows import OverlayEntry
from overread.reporting.outlined.shown_images import LIST, chosen_images, judged_entry, write_overlays


def squares(*corners: tuple[int, int, int, int]) -> np.ndarray:
    labels = np.zeros((60, 80), np.int32)
    for number, (top, left, high, wide) in enumerate(corners, start=1):
        labels[top : top + high, left : left + wide] = number
    return labels


TRUE = squares((2, 2, 10, 10), (2, 20, 10, 10), (2, 31, 10, 6), (20, 2, 10, 30), (40, 40, 9, 9))
#: A hit; one over two of which it matches the larger; a cut one; nothing at the last; and one where nothing is.
DRAWN = squares((2, 3, 10, 10), (2, 20, 10, 17), (20, 2, 10, 14), (20, 17, 10, 15), (50, 2, 5, 5))


def test_each_object_is_drawn_as_what_became_of_it():
    entry, _ = judged_entry("c", np.full((60, 80), 99, np.uint8), outlines_of(TRUE), outlines_of(DRAWN))
    said = [(shape.status, shape.said.partition(":")[0]) for shape in entry.shapes]
    assert said == [("miss", "not told apart"), ("miss", "cut into pieces"), ("miss", "missed"),
                    ("hit", "found"), ("hit", "found"), ("split", "a piece of a true object"), ("split", "a piece of a true object"), ("false", "false")]  # fmt: skip
    assert entry.counts == {"hit": 2, "miss": 3, "split": 2, "false": 1}
    assert "IoU 0.82" in entry.shapes[3].said, "90 shared pixels of 110"


def test_a_merge_and_a_wrong_class_say_so():
    true = outlines_of(squares((2, 2, 10, 10), (2, 12, 10, 10), (30, 30, 8, 8)), classes=("red", "red", "red"))
    drawn = outlines_of(squares((2, 2, 10, 20), (30, 30, 8, 8)), classes=("red", "white"))
    entry, _ = judged_entry("c", np.zeros((60, 80), np.uint8), true, drawn)
    words = {shape.status: shape.said for shape in entry.shapes}
    assert words["merge"] == "merge of 2 true objects: red, 200 pixels"
    assert words["hit"] == "found: white, 64 pixels; true 64 pixels, IoU 1.00, truly red"


def test_the_worst_and_some_of_the_others_are_shown_and_the_same_seed_draws_the_same():
    images = pd.DataFrame({"case": [f"c{n}" for n in range(20)], "ap": [0.9, np.nan, *np.linspace(0.1, 0.8, 18)]})
    chosen = chosen_images(images, worst=3, others=4, seed=1)
    assert [case for case, why in chosen if why == "worst"] == ["c2", "c3", "c4"]
    drawn = [case for case, why in chosen if why == "random"]
    assert len(set(drawn)) == 4
    assert not {"c1", "c2", "c3", "c4"} & set(drawn)
    assert chosen == chosen_images(images.iloc[::-1], worst=3, others=4, seed=1)
    assert drawn != [case for case, why in chosen_images(images, worst=3, others=4, seed=2) if why == "random"]
    assert chosen_images(images[:2], worst=3, others=4) == [("c0", "worst")]


@pytest.fixture
def run(tmp_path):
    """Twelve images with their label images; the further back, the more is missed."""
    names = [f"c{n:02d}" for n in range(12)]
    for number, name in enumerate(names):
        grey = np.where(TRUE > 0, 180, 30).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{name}.png"), grey)
        write_labels(tmp_path / "predictions" / "truth" / f"{name}.png", TRUE)
        write_labels(
            tmp_path / "predictions" / "test" / f"{name}.png", np.where(max(1, 5 - number // 2) >= TRUE, TRUE, 0)
        )
    table = pd.DataFrame({"case": names, "patient": names, "split": "test", "source": ["A", "B"] * 6,
                          "predicted": [f"test/{n}.png" for n in names], "truth": [f"truth/{n}.png" for n in names]})  # fmt: skip
    outlines = PredictedOutlines(table, str(tmp_path / "predictions"))
    return tmp_path, outlines, evaluate_outlines(outlines, resamples=50)


def test_pictures_lie_in_the_run_and_come_back_typed(run):
    home, test, judged = run
    addresses = {name: str(home / f"{name}.png") for name in test.table["case"]}
    path = write_overlays(home, addresses, test, judged, withheld={"c11"}, worst=3, others=2)
    rows = read_rows(OverlayEntry, path)
    assert [row.why for row in rows] == ["worst"] * 3 + ["random"] * 2
    assert [row.case for row in rows[:3]] == ["c08", "c09", "c10"] or rows[0].ap <= rows[1].ap <= rows[2].ap
    assert rows[0].counts["hit"] + rows[0].counts["miss"] == 5
    kept = [row for row in rows if not row.withheld]
    assert all(cv2.imread(str(home / row.picture), 0).shape == (60, 80) for row in kept)
    hidden = [row for row in rows if row.case == "c11"]
    assert all(row.withheld and not row.picture and row.shapes for row in hidden)
    text = (home / LIST).read_text("utf-8")
    assert str(home) not in text, "no path of this machine"
    before = {file.name: file.read_bytes() for file in (home / "overlays").iterdir()}
    write_overlays(home, addresses, test, judged, withheld={"c11"}, worst=3, others=2)
    assert before == {file.name: file.read_bytes() for file in (home / "overlays").iterdir()}


def test_an_image_that_is_gone_has_outlines_without_a_picture(run):
    home, test, judged = run
    rows = read_rows(OverlayEntry, write_overlays(home, {}, test, judged, worst=1, others=1))
    assert all(not row.picture and not row.withheld and row.shapes for row in rows)
