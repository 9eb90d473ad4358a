"""The most confident errors, against a slow restatement, and their thumbnails."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.cases.audit.audit import Audit, Finding
from overread.cases.cases import Cases
from overread.core.errors import ArgumentError
from overread.core.files import read_json
from overread.predictions import Predictions
from overread.reporting.gallery import confident_errors, errors_beside_correct, write_audit_pictures, write_gallery
from overread.reporting.thumbnails import THUMBNAIL, UNREADABLE
from overread.synthetic import draw_cohort
from overread.tasks.target import Target


def predictions(target: Target, **columns) -> Predictions:
    n = len(next(iter(columns.values())))
    cases = [f"c{i}" for i in range(n)]
    names = {k.replace("__", ":"): v for k, v in columns.items()}
    return Predictions(pd.DataFrame({"case": cases, "patient": cases, "split": "test", "source": "", **names}), target)


def test_classes():
    target = Target("classes", ("a", "b", "c"))
    made = predictions(target, label=["a", "a", "b", "", "c"], p__a=[0.1, 0.2, 0.6, 0.9, 0.05], p__b=[0.8, 0.7, 0.3, 0.05, 0.05],
                       p__c=[0.1, 0.1, 0.1, 0.05, 0.9])  # fmt: skip
    found = confident_errors(made)
    assert found.to_dict("records") == [
        {"case": "c0", "truth": "a", "predicted": "b", "probability": 0.8},
        {"case": "c1", "truth": "a", "predicted": "b", "probability": 0.7},
        {"case": "c2", "truth": "b", "predicted": "a", "probability": 0.6},
    ]
    assert list(confident_errors(made, count=1)["case"]) == ["c0"]


def test_detection_orders_by_the_distance_from_the_threshold():
    target = Target("binary", ("well", "ill"), ("ill",))
    ill = np.array([0.05, 0.25, 0.9, 0.5, 0.31])
    made = predictions(target, label=["ill", "ill", "well", "well", "ill"], p__well=1 - ill, p__ill=ill)
    found = confident_errors(made, positive=("ill",), threshold=0.3)
    assert list(found["case"]) == ["c2", "c0", "c3", "c1"]
    assert list(found["predicted"]) == ["ill", "not ill", "ill", "not ill"]


def test_findings_take_a_case_once_and_skip_what_is_unknown():
    made = predictions(
        Target("findings", ("x", "y")),
        label__x=[1, 0, np.nan],
        label__y=[0, 0, 1],
        p__x=[0.2, 0.9, 0.9],
        p__y=[0.7, 0.6, 0.8],
    )
    found = confident_errors(made)
    assert list(found["case"]) == ["c1", "c0"]
    assert list(found["predicted"]) == ["x", "no x"]


def test_quantities_by_their_distance():
    found = confident_errors(
        predictions(Target("quantity", ("age",)), value=[50.0, 60.0, np.nan], predicted=[55.0, 40.0, 10.0])
    )
    assert list(found["case"]) == ["c1", "c0"]


def test_count_must_be_positive():
    with pytest.raises(ArgumentError):
        confident_errors(predictions(Target("quantity", ("age",)), value=[1.0], predicted=[2.0]), count=0)


def test_beside_each_error_stands_the_surest_correct_case_of_its_truth():
    target = Target("classes", ("a", "b"))
    made = predictions(target, label=["a", "a", "a", "b", "b", "a"], p__a=[0.1, 0.7, 0.9, 0.8, 0.6, 0.3], p__b=[0.9, 0.3, 0.1, 0.2, 0.4, 0.7])  # fmt: skip
    found = errors_beside_correct(made)
    errors, right = found[~found["correct"]], found[found["correct"]]
    assert list(errors["case"]) == ["c0", "c3", "c5", "c4"]
    assert dict(zip(right["beside"], right["case"], strict=True)) == {"c0": "c2", "c5": "c1"}  # of b none was right
    assert (right["truth"] == right["predicted"]).all()


def test_beside_the_worst_quantity_stands_a_near_one_of_that_size():
    made = predictions(Target("quantity", ("age",)), value=[50.0, 52.0, 80.0, 81.0, 20.0], predicted=[90.0, 52.5, 80.0, 82.0, 60.0])  # fmt: skip
    found = errors_beside_correct(made, count=2)
    assert list(found["case"]) == ["c0", "c4", "c1", "c2"]
    assert list(found["beside"]) == ["", "", "c0", "c4"]


def cohort_cases(folder, table, **more):
    target = Target("binary", ("benign", "malignant"), ("malignant",))
    roles = {"source": table["microscope"], "view": "", "time": "", "split": "", "label": table["diagnosis"], **more}
    return Cases(table.assign(**roles), target, str(folder))


def test_the_audit_keeps_pictures_of_copies_and_covers_writing(tmp_path):
    table = pd.read_csv(draw_cohort(tmp_path, patients=8, size=128))
    names, files = list(table["case"]), list(table["image"])
    written = cv2.imread(str(tmp_path / files[0]))
    cv2.putText(written, "ANNA SMITH 1961", (4, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1)
    cv2.imwrite(str(tmp_path / files[0]), written)
    pairs = ((names[1], names[2], "near"), *((names[i], names[i + 1], "exact") for i in range(3, 12, 2)))
    found = Audit((Finding("burned-in", "warning", "", "", 1, (names[0],)),), pairs=pairs)
    entries = read_json(write_audit_pictures(tmp_path / "run", cohort_cases(tmp_path, table), found, written=names[:1]))
    kinds = [entry["kind"] for entry in entries]
    assert kinds == ["exact-duplicate"] * 4 + ["near-duplicate", "burned-in"]
    patient = dict(zip(table["case"], table["patient"], strict=True))
    two = [patient[a] != patient[b] for a, b in (entry["cases"] for entry in entries[:4])]
    assert two == sorted(two, reverse=True)
    assert entries[4]["labels"] == [table["diagnosis"][1], table["diagnosis"][2]]
    for entry in entries:
        sides = [max(cv2.imread(str(tmp_path / "run" / path)).shape) for path in entry["thumbnails"]]
        assert sides == [128 // 4] if entry["kind"] == "burned-in" else [THUMBNAIL] * 2
    covered = cv2.imread(str(tmp_path / "run" / entries[-1]["thumbnails"][0]))
    assert max(covered.shape) <= UNREADABLE
    assert (covered.reshape(-1, 3) == 128).all(axis=1).mean() > 0.05  # the boxes


def test_writing_is_covered_in_copies_that_no_finding_names(tmp_path):
    """A finding names its first cases only."""
    table = pd.read_csv(draw_cohort(tmp_path, patients=8, size=128))
    names = list(table["case"])
    found = Audit((Finding("burned-in", "warning", "", "", 2, (names[0],)),), pairs=((names[3], names[4], "exact"),))
    write_audit_pictures(tmp_path / "run", cohort_cases(tmp_path, table), found, written=[names[0], names[4]])
    entry = next(row for row in read_json(tmp_path / "run/explanations/audit.json") if row["kind"] == "exact-duplicate")
    sides = [max(cv2.imread(str(tmp_path / "run" / path)).shape) for path in entry["thumbnails"]]
    assert sides == [THUMBNAIL, 128 // 4]


def test_thumbnails_are_written_small(tmp_path):
    table = pd.read_csv(draw_cohort(tmp_path, patients=8, size=32, unreadable=1))
    deep = (np.arange(40 * 300, dtype=np.uint16) * 5).reshape(40, 300)
    cv2.imwrite(str(tmp_path / "images/deep.png"), deep)
    table.loc[0, "image"] = "images/deep.png"
    truth = read_json(tmp_path / "truth.json")
    cases, target = cohort_cases(tmp_path, table), Target("binary", ("benign", "malignant"), ("malignant",))
    sick = (table["diagnosis"] == "malignant").to_numpy()
    wrong = np.where(sick, 0.1, 0.9)
    made = Predictions(pd.DataFrame({"case": table["case"], "patient": table["patient"], "split": "test", "source": "",
                                     "label": table["diagnosis"], "p:benign": 1 - wrong, "p:malignant": wrong}), target)  # fmt: skip
    entries = read_json(write_gallery(tmp_path / "run", cases, made, count=len(table)))
    pictures = {e["case"]: e["thumbnail"] for e in entries}
    assert len(pictures) == len(table)
    assert [case for case, picture in pictures.items() if not picture] == [
        table["case"][row] for row in truth["unreadable"]
    ]
    for picture in filter(None, pictures.values()):
        pixels = cv2.imread(str(tmp_path / "run" / picture), cv2.IMREAD_UNCHANGED)
        assert max(pixels.shape[:2]) == THUMBNAIL
        assert pixels.dtype == np.uint8
    assert cv2.imread(str(tmp_path / "run" / pictures[table["case"][0]]), cv2.IMREAD_UNCHANGED).std() > 40
