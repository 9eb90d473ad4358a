"""The label of a study from several readers, and how far they agree."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from phantom_readers import draw_readings

import overread as ov
from overread.cases.annotators import grades_of, read_grades
from overread.cases.graded_cases import GradedCases, agreement, agreement_in_words, panel_of
from overread.cases.volumes import cut
from overread.core.errors import InputError

ROWS = {
    "image": ["img/a1.png", "img/a2.png", "img/b1.png", "img/c1.png"],
    "patient": ["a", "a", "b", "c"],
    "sex": ["f", "f", "m", "f"],
}
WIDE = {"ann": ["1", "0", "1", "1"], "bob": ["1", "0", "0", "1"], "cyd": ["0", "", "", "1"]}
LABELS = ["1", "0", "", "1"]


def _long(names: list[str]) -> pd.DataFrame:
    columns = [pd.DataFrame({"case": names, "reader": who, "label": given}) for who, given in WIDE.items()]
    return pd.concat(columns, ignore_index=True)


@pytest.mark.parametrize(
    "form", [lambda image: image, lambda image: image.split("/")[1], lambda image: image.split("/")[1].split(".")[0]]
)
def test_answers_are_joined_by_case_or_by_image(table, tmp_path, form):
    path = table(ROWS)
    _long([form(image) for image in ROWS["image"]]).to_csv(tmp_path / "answers.csv", index=False)
    cases = ov.read_cases(path, graders=tmp_path / "answers.csv", names="keep")
    assert cases.table["label"].tolist() == LABELS
    np.testing.assert_array_equal(cases.table["agreement"], [0.6667, 1, np.nan, 1])
    assert isinstance(cases, GradedCases)
    assert cases.grades.cases == tuple(cases.table["case"])
    assert cases.grades.patients(cases.grades.cases).tolist() == ["a", "a", "b", "c"]
    assert cases.undecided() == {cases.table["case"][2]: "the readers are tied"}
    assert cases.target.positive == ("1",)
    assert any("majority of 3 readers; 3 of 4 images" in note for note in cases.notes)


def test_columns_of_the_table_itself(table):
    cases = ov.read_cases(table({**ROWS, **WIDE}), graders=["ann", "bob", "cyd"], subgroups=["sex"])
    assert cases.table["label"].tolist() == LABELS
    assert not {"ann", "bob", "cyd"} & set(cases.table)  # they name people
    assert cases.table["sex"].tolist() == ROWS["sex"]
    assert cases.grades.readers == ("reader 1", "reader 2", "reader 3")
    assert cases.grades.cases == tuple(cases.table["case"])  # the same codes
    assert not any(name in note for name in WIDE for note in cases.notes)
    with pytest.raises(InputError, match="id you mean 'ann'"):
        ov.read_cases(table({**ROWS, **WIDE}), graders=["anm", "bob"])


def test_several_images_of_a_case(table, tmp_path):
    rows = {**ROWS, "exam": ["a", "a", "b", "c"], "view": ["l", "r", "l", "l"]}
    pd.DataFrame({"case": ["a", "b", "c"], "x": ["1", "0", "0"], "y": ["1", "0", "1"]}).to_csv(tmp_path / "w.csv", index=False)  # fmt: skip
    cases = ov.read_cases(table(rows), case="exam", graders=str(tmp_path / "w.csv"), names="keep")
    assert cases.table["label"].tolist() == ["1", "1", "0", ""]
    with pytest.raises(InputError, match="more than once"):  # two views, two answers
        ov.read_cases(table({**rows, "x": ["1", "0", "1", "1"], "y": ["1"] * 4}), case="exam", graders=["x", "y"])  # fmt: skip


def test_agreement_is_a_column_for_subgroups_and_queries(table, tmp_path):
    _long(ROWS["image"]).to_csv(tmp_path / "answers.csv", index=False)
    cases = ov.read_cases(table(ROWS), graders=tmp_path / "answers.csv", subgroups=["agreement", "sex"], names="keep")
    from overread.cases.query import matching

    assert matching(cases.table, "agreement == 1").tolist() == [False, True, False, True]
    assert ov.Cases.load(cases.save(tmp_path / "cases.csv")) == cases
    assert cut(cases, cases.planes).grades is cases.grades
    assert cases.take([0]).grades is cases.grades


def test_where_takes_rows_before_anybody_votes(table, tmp_path):
    _long(ROWS["image"]).to_csv(tmp_path / "answers.csv", index=False)
    cases = ov.read_cases(table(ROWS), graders=tmp_path / "answers.csv", where="sex == 'f'", names="keep")
    assert len(cases.grades.cases) == 3
    assert any("1 of 4 cases with answers have no image" in note for note in cases.notes)


def test_what_does_not_fit_is_refused(table, tmp_path):
    path = table(ROWS)
    _long(["w", "x", "y", "z"]).to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(InputError, match="do not fit.*0 of 4 images") as error:
        ov.read_cases(path, graders=tmp_path / "other.csv")
    assert "img/" not in str(error.value)
    pd.DataFrame({"case": ROWS["image"], "x": [0.5] * 4, "y": [0.25] * 4}).to_csv(tmp_path / "s.csv", index=False)  # fmt: skip
    with pytest.raises(InputError, match="readers gave scores"):
        ov.read_cases(path, graders=tmp_path / "s.csv")
    with pytest.raises(InputError, match="column that names the reader"):
        ov.read_cases(path, graders=tmp_path / "s.csv", label="sex")
    (tmp_path / "folder" / "a").mkdir(parents=True)
    with pytest.raises(InputError, match="--graders"):
        ov.read_cases(tmp_path / "folder", graders=["a", "b"])


def test_agreement_of_planted_readers():
    """Of two readers with sensitivity s and specificity c, apart given the truth, s² + (1−s)² agree among the sick."""
    truth = np.repeat([0, 1], [1200, 800])
    drawn = draw_readings(truth, readers=3, sensitivity=0.8, specificity=0.9, seed=4)
    found = {
        (e.metric, e.of): e for e in agreement(grades_of(drawn.assign(modality=""), "label"), seed=1, resamples=200)
    }
    expected = 0.6 * (0.81 + 0.01) + 0.4 * (0.64 + 0.04)
    assert found["agreement", ""].low < expected < found["agreement", ""].high
    assert found["agreement", ""].value == pytest.approx(expected, abs=0.02)
    yes = 0.6 * 0.1 + 0.4 * 0.8
    kappa = (expected - yes**2 - (1 - yes) ** 2) / (1 - yes**2 - (1 - yes) ** 2)
    for name in (
        ("fleiss kappa", ""),
        ("nominal alpha", ""),
        ("kappa", "reader 1 and reader 2"),
        ("kappa", "reader 2 and reader 3"),
    ):
        assert found[name].value == pytest.approx(kappa, abs=0.06)
    assert found["ceiling", ""].value == pytest.approx((1 + math.sqrt(2 * expected - 1)) / 2, abs=0.02)
    assert ("quadratic kappa", "reader 1 and reader 2") not in found  # two classes have no distance


def test_more_patients_repeat_more_the_interval_widens():
    truth = np.repeat(np.arange(40) % 2, 5)  # five images of each patient, who is read alike
    drawn = draw_readings(truth[::5], readers=3, seed=3)
    whole = pd.concat([drawn.assign(case=drawn["case"] + f"/{i}", patient=drawn["case"], modality="") for i in range(5)])  # fmt: skip
    alone = agreement(grades_of(whole.drop(columns="patient"), "label"), resamples=300)[0]
    together = agreement(grades_of(whole, "label"), resamples=300)[0]
    assert alone.value == pytest.approx(together.value)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)
    assert together.patients == 40


@pytest.mark.parametrize("answers", [[["1"]], [["1", "1"], ["1", "1"]], [["", ""]], [["1", ""], ["", "2"]]])
def test_few_answers_have_a_reason_and_no_exception(answers):
    rows = [{"case": f"c{i}", "reader": f"r{j}", "label": a, "modality": ""} for i, row in enumerate(answers) for j, a in enumerate(row)]  # fmt: skip
    for estimate in agreement(grades_of(pd.DataFrame(rows), "label"), resamples=100):
        assert estimate.undefined or math.isfinite(estimate.value)


def test_the_panel_of_ordered_grades(tmp_path):
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 4, 300)
    columns = {f"r{j}": np.clip(truth + rng.integers(-1, 2, 300), 0, 3) for j in range(3)}
    pd.DataFrame({"case": [f"c{i}" for i in range(300)], **columns}).to_csv(tmp_path / "w.csv", index=False)
    grades = read_grades(tmp_path / "w.csv")
    found = panel_of(grades, rule="dawid-skene")
    metrics = {e.metric for e in found["estimates"]}
    assert metrics >= {"ordinal alpha", "quadratic kappa", "specific agreement"}
    assert sum(found["model"]["prevalence"].values()) == pytest.approx(1)
    assert np.allclose(np.sum(found["model"]["confusion"]["r1"], axis=1), 1)
    assert found["answers"] == 900
    lines = agreement_in_words(found)
    assert len(lines) == 2
    assert "no accuracy can pass" in lines[1]
