"""The readers who made the labels: what agreement.json holds is told, in words and in a table."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from overread.cases.annotators import read_grades
from overread.cases.graded_cases import panel_of
from overread.core.files import read_json, write_json
from overread.reporting import report
from overread.reporting.checklist import fill_in, standard
from overread.reporting.main_results import graders_table, graders_words
from overread.reporting.run import read_run


@pytest.fixture(scope="module")
def agreement(tmp_path_factory):
    """Three readers of sixty cases, each right in 85 of 100."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("grades") / "grades.csv"
    truth = rng.integers(0, 2, 60)
    rows = [(f"c{i}", reader, ("benign", "malignant")[truth[i] ^ (rng.random() < 0.15)]) for i in range(60) for reader in "ABC"]  # fmt: skip
    pd.DataFrame(rows, columns=["case", "reader", "label"]).to_csv(path, index=False)
    write_json(path.with_name("agreement.json"), panel_of(read_grades(path)))
    return read_json(path.with_name("agreement.json"))


@pytest.fixture
def graded(agreement, finished, tmp_path):
    folder = shutil.copytree(finished("binary"), tmp_path / "run")
    write_json(folder / "agreement.json", agreement)
    text = (folder / "study.toml").read_text("utf-8")
    (folder / "study.toml").write_text('graders = "A, B, C"\nconsensus = "majority"\n' + text, "utf-8")
    return folder


def number(agreement, metric):
    return next(e for e in agreement["estimates"] if e["metric"] == metric and not e["of"])["value"]


def test_the_words_hold_the_stored_numbers(graded, agreement):
    first, top = graders_words(read_run(graded))
    assert "3 readers gave 180 answers on 60 cases" in first
    assert f"{100 * number(agreement, 'agreement'):.0f}\u00a0%" in first
    assert f"{number(agreement, 'fleiss kappa'):.2f}" in first
    assert "got no label" not in first
    assert f"{100 * number(agreement, 'ceiling'):.0f}\u00a0%" in top
    assert f"{100 * number(agreement, 'panel accuracy'):.0f}\u00a0%" in top


def test_cases_without_a_label_are_told(graded, agreement):
    write_json(graded / "agreement.json", {**agreement, "undecided": {"tied": 4, "no answer": 1}})
    assert "5 cases got no label: 4 tied, 1 without an answer." in graders_words(read_run(graded))[0]


def test_the_table_has_a_row_for_every_estimate(graded, agreement):
    table = graders_table(read_run(graded))
    assert len(table.rows) == len(agreement["estimates"])
    assert {row[1] for row in table.rows} >= {"all", "malignant", "A and B"}


def test_the_report_and_the_checklists_tell_it(graded):
    page = report(graded).read_text("utf-8")
    assert 'id="readers"' in page
    assert "Every measure of agreement" in page
    said = {a.item.number: a.text for a in fill_in(read_run(graded), standard("claim"))}
    assert "consensus of 3 readers by the rule 'majority'" in said["14"].replace("C", "c", 1)
    assert "3 readers with 180 answers on 60 cases" in said["16"]
    assert "Fleiss' kappa" in said["18"]


def test_labels_of_nobody_in_particular_say_nothing(finished):
    run = read_run(finished("binary"))
    assert graders_words(run) == []
    assert graders_table(run) is None
    assert 'id="readers"' not in (finished("binary") / "report.html").read_text("utf-8")


def test_an_undefined_ceiling_is_left_out(graded, agreement):
    rows = [{**e, "value": None, "low": None, "high": None, "undefined": "one reader"} if e["metric"] in ("ceiling", "agreement") else e
            for e in agreement["estimates"]]  # fmt: skip
    write_json(graded / "agreement.json", {**agreement, "estimates": rows})
    (only,) = graders_words(read_run(graded))
    assert "same answer" not in only
