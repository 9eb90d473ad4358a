"""Readers' answers: how tables are read, and the consensus against slow restatements and planted truths."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import median_high, median_low

import numpy as np
import pandas as pd
import pytest
from phantom_readers import draw_readings, draw_scores

from overread.cases.annotators import Grades, coded, consensus, in_order, latent_classes, read_grades
from overread.core.errors import ArgumentError, InputError


@pytest.fixture
def grades(tmp_path: Path):
    """Reads a table with these columns."""

    def build(columns: dict, *, name: str = "answers.csv", **how: object) -> Grades:
        frame = pd.DataFrame(columns)
        path = tmp_path / name
        if path.suffix == ".parquet":
            frame.to_parquet(path)
        else:
            frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
        return read_grades(path, **how)

    return build


LONG = {"case": ["a", "a", "b", "b", "c"], "reader": ["x", "y", "x", "y", "x"], "label": ["1", "2", "10", "", "2"]}


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.parquet"])
def test_a_long_table(grades, name):
    found = grades(LONG, name=name)
    assert (found.kind, found.readers, found.cases, found.modalities) == ("label", ("x", "y"), ("a", "b", "c"), ("",))
    assert found.classes == ("1", "2", "10")  # text, in natural order
    np.testing.assert_array_equal(found.ratings(["c", "a", "new", "a"], found.classes),
                                  [[1, np.nan], [0, 1], [np.nan, np.nan], [0, 1]])  # fmt: skip
    np.testing.assert_array_equal(found.ratings(["b"], ["10", "2", "1"]), [[0, np.nan]])
    with pytest.raises(InputError, match="labels, not scores"):
        found.scores(["a"])


def test_a_wide_table_says_the_same(grades):
    long = grades(LONG)
    wide = grades({"image_id": ["a", "b", "c"], "x": ["1", "10", "2"], "y": ["2", "", ""]}, name="w.csv")
    np.testing.assert_array_equal(wide.ratings(list("abc"), ()), long.ratings(list("abc"), ()))
    some = grades({"case": ["a"], "age": ["61"], "x": ["1"], "y": ["2"]}, readers=["x", "y"])
    assert some.readers == ("x", "y")


def test_floats_that_are_whole_are_classes(grades):
    found = grades({"case": ["a", "b"], "x": [1.0, np.nan], "y": [0.0, 2.0]})
    assert (found.kind, found.classes) == ("label", ("0", "1", "2"))


def test_scores_modalities_and_patients(grades):
    found = grades({"exam": ["a", "a", "b"], "rater": ["x", "x", "x"], "with_ai": ["no", "yes", "no"], "score": [0.25, "", 1e-3], "patient": ["p", "p", "q"]},
                   case="exam", modality="with_ai")  # fmt: skip
    assert (found.kind, found.modalities, found.readers) == ("score", ("no", "yes"), ("x",))
    np.testing.assert_array_equal(found.scores(["a", "b"], "no"), [[0.25], [1e-3]])
    np.testing.assert_array_equal(found.scores(["a", "b"], "yes"), [[np.nan], [np.nan]])
    assert found.patients(["b", "a", "z"]).tolist() == ["q", "p", "case z"]
    with pytest.raises(InputError, match="say which modality"):
        found.scores(["a"])
    with pytest.raises(InputError, match="id you mean 'yes'"):
        found.scores(["a"], "yess")
    with pytest.raises(InputError, match="scores, not labels"):
        found.ratings(["a"], ())


def test_a_table_with_labels_and_scores_has_both(grades):
    both = {**LONG, "score": [0.1, 0.9, 0.5, "", 0.2]}
    found = grades(both)
    assert found.kind == "label"
    assert found.scores(["a"])[0].tolist() == [0.1, 0.9]
    assert grades(both, kind="score").kind == "score"
    assert grades({"case": ["a", "b"], "x": [0.5, 1]}).kind == "score"
    assert grades({"case": ["a", "b"], "x": [2, 1]}, kind="score").scores(["a"]).tolist() == [[2.0]]


@pytest.mark.parametrize(
    ("columns", "how", "says"),
    [({**LONG, "reader": ["x"] * 5}, {}, r"more than once.*1 answers too many"),
     (LONG, {"case": "cass"}, "id you mean 'case'"), (LONG, {"reader": "radr"}, "id you mean 'reader'"),
     (LONG, {"label": "labl"}, "id you mean 'label'"), (LONG, {"modality": "ct"}, "no column 'ct'"), (LONG, {"kind": "score"}, "no column 'score'"),
     ({"case": ["a"], "reader": ["x"], "verdict": ["1"]}, {}, "what the readers answered"), ({"case": ["a"]}, {}, "no column holds"),
     ({"case": ["a"], "reader": ["x"], "score": ["high"]}, {}, "not a finite number.*1 of 1"), ({"case": ["a"], "reader": ["x"], "score": ["inf"]}, {}, "not a finite number"),
     ({"case": ["a", ""], "reader": ["x", "x"], "label": ["1", "1"]}, {}, "names no case"),
     ({"case": ["a", "a"], "reader": ["x", "y"], "label": ["1", "1"], "patient": ["p", "q"]}, {}, "two patients"),
     ({"case": ["a", "b"], "label": ["0", "1"], "p:0": [0.9, 0.2], "p:1": [0.1, 0.8]}, {}, "a table of a model's predictions.*p:0, p:1.*overread evaluate")],
)  # fmt: skip
def test_tables_that_cannot_be(grades, columns, how, says):
    with pytest.raises(InputError, match=says):
        grades(columns, **how)


def test_the_last_of_repeated_answers_on_request(grades):
    rows = {"case": ["a", "a", "a"], "reader": ["x", "x", "x"], "label": ["1", "2", ""]}
    found = grades(rows, repeats="last")
    assert found.table["label"].tolist() == ["2"]  # no answer does not undo one


def test_an_answer_that_is_no_class_is_refused(grades):
    with pytest.raises(InputError, match="none of the classes"):
        grades(LONG).ratings(["a"], ["1", "2"])


def _slow(grades: Grades, rule: str) -> dict[str, str]:
    """Majority and median, a case at a time."""
    classes, found = list(grades.classes), {}
    for case in grades.cases:
        given = [a for a in grades.table["label"][grades.table["case"] == case] if a]
        numbers = [classes.index(a) for a in given]
        if not given:
            found[case] = ""
        elif rule == "median":
            low, high = median_low(numbers), median_high(numbers)
            found[case] = classes[low] if low == high else ""
        else:
            most = Counter(given).most_common()
            found[case] = most[0][0] if len(most) == 1 or most[0][1] > most[1][1] else ""
    return found


@pytest.mark.parametrize("rule", ["majority", "median"])
@pytest.mark.parametrize("readers", [2, 3, 4])
def test_consensus_against_a_slow_restatement(grades, rule, readers):
    rng = np.random.default_rng(readers)
    columns = {f"r{j}": rng.choice(["", "0", "1", "2", "3"], 80) for j in range(readers)}
    found = grades({"case": [f"c{i}" for i in range(80)], **columns})
    made = consensus(found, rule=rule)
    slow = _slow(found, rule)
    assert dict(zip(made["case"], made["label"], strict=True)) == slow
    for row in made.itertuples():
        given = [a for a in found.table["label"][found.table["case"] == row.case] if a]
        assert row.answers == len(given)
        assert row.tied == (slow[row.case] == "" and bool(given))
        np.testing.assert_allclose(row.share, given.count(row.label) / len(given) if row.label else np.nan)


def test_a_median_needs_an_order(grades):
    found = grades({"case": ["a"], "x": ["benign"], "y": ["unclear"], "z": ["malignant"]})
    with pytest.raises(InputError, match="classes in order"):
        consensus(found, rule="median")
    made = consensus(found, rule="median", classes=["benign", "unclear", "malignant"])
    assert made["label"].tolist() == ["unclear"]
    assert in_order(["grade 1", "grade 2", "grade 10"])
    assert not in_order(["T1", "T2", "N1"])
    with pytest.raises(ArgumentError, match="majority"):
        consensus(found, rule="majorty")


def test_dawid_and_skene_find_what_was_planted(tmp_path):
    truth = (np.arange(4000) % 10 < 3).astype(int)
    sensitivity, specificity = [0.95, 0.8, 0.6, 0.9], [0.9, 0.95, 0.85, 0.7]
    drawn = draw_readings(truth, readers=4, sensitivity=sensitivity, specificity=specificity, missing=0.1, seed=5)  # fmt: skip
    drawn.to_csv(tmp_path / "a.csv", index=False)
    found = read_grades(tmp_path / "a.csv")
    model = latent_classes(found)
    assert model.converged
    np.testing.assert_allclose(model.prevalence[1], 0.3, atol=0.03)
    np.testing.assert_allclose(model.confusion[:, 1, 1], sensitivity, atol=0.04)
    np.testing.assert_allclose(model.confusion[:, 0, 0], specificity, atol=0.04)
    number = {case: int(case.split()[1]) for case in found.cases}

    def right(rule: str) -> float:
        made = consensus(found, rule=rule)
        return float(np.mean([a == str(truth[number[c]]) for c, a in zip(made["case"], made["label"], strict=True)]))

    assert right("dawid-skene") > right("majority") + 0.02
    made = consensus(found, rule="dawid-skene")
    known = made["label"] != ""
    assert known.mean() > 0.99
    assert made["chance"][known].between(0.5, 1).all()


def test_two_readers_cannot_tell_whose_error_it_was(grades):
    with pytest.raises(InputError, match="three readers"):
        consensus(grades(LONG), rule="dawid-skene")


def test_codes_in_place_of_names(grades):
    rows = {
        "case": ["a", "a", "b"],
        "reader": ["zoe", "adam", "zoe"],
        "label": ["1", "2", "1"],
        "patient": ["p", "p", ""],
    }
    found = coded(grades(rows), "salt", "ask")
    assert found.readers == ("reader 1", "reader 2")
    assert found.table["reader"].tolist() == ["reader 1", "reader 2", "reader 1"]
    assert not set(found.table["case"]) & {"a", "b"}
    assert found.table["patient"].tolist()[2] == ""
    np.testing.assert_array_equal(found.ratings(found.cases, ()), [[0, 1], [0, np.nan]])


@pytest.mark.slow
def test_half_a_million_answers(tmp_path):
    cases = 50_000
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"case": np.repeat(np.arange(cases), 10), "reader": np.tile(np.arange(10), cases), "label": rng.integers(0, 3, cases * 10)})  # fmt: skip
    table.to_parquet(tmp_path / "a.parquet")
    made = consensus(read_grades(tmp_path / "a.parquet"))
    assert len(made) == cases


def test_scores_of_a_reading_study_are_read_back(tmp_path):
    drawn = draw_scores(np.arange(30) % 2, readers=3, modalities=("ct", "mr"), missing=0.2, seed=1)
    drawn.to_csv(tmp_path / "s.csv", index=False)
    found = read_grades(tmp_path / "s.csv")
    scores = found.scores([f"case {i}" for i in range(30)], "mr")
    row = drawn[drawn["modality"] == "mr"].iloc[5]
    assert scores[int(row["case"].split()[1]), int(row["reader"].split()[1]) - 1] == row["score"]
    assert np.isnan(scores).mean() == pytest.approx(0.2, abs=0.12)


def test_it_does_not_bring_torch():
    code = "import sys, overread.cases.graded_cases, overread.cases.graded_cases; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
