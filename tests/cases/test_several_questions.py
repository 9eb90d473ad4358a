"""Several questions to several readers: a consensus each, findings by rule, and what is unknown stays unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import overread as ov
from overread.cases.annotators import coded, nameless, reader_numbers
from overread.cases.derived import rules_of
from overread.cases.graded_cases import GradedCases, agreement_in_words, panels_of, regraded
from overread.cases.several_questions import read_questions
from overread.core.errors import ArgumentError, InputError

RULES = ("moderate = grade >= 2", "referable = moderate or oedema")
#: case: (reader, grade, oedema, gradable) …; decided by hand: the medians stand in the tests.
READ = {
    "a": [("x", 0, 0, 1), ("y", 1, 0, 1), ("z", 0, 0, 1)],
    "b": [("x", 3, 0, 1), ("y", 2, 1, 1), ("z", 4, 1, 1)],
    "c": [("x", "", "", 0), ("y", "", "", 0), ("z", 1, 0, 1)],
    "d": [("x", "", "", 0), ("y", "", "", 0)],
    "e": [("x", 1, 1, 1), ("y", 3, 0, 1)],
    "f": [("x", 1, 1, 1), ("y", 3, 1, 1)],
}


def _written(folder: Path) -> tuple[Path, Path]:
    import cv2

    rows = [[case, *said] for case, read in READ.items() for said in read]
    pd.DataFrame(rows, columns=["case", "reader", "grade", "oedema", "gradable"]).to_csv(
        folder / "readers.csv", index=False
    )
    pd.DataFrame({"case": list(READ), "image": [f"{c}.png" for c in READ], "patient": list(READ)}).to_csv(
        folder / "table.csv", index=False
    )
    for i, case in enumerate(READ):
        cv2.imwrite(str(folder / f"{case}.png"), np.full((8, 8), 30 * i, np.uint8))
    return folder / "table.csv", folder / "readers.csv"


def _read(folder: Path, **more: object) -> GradedCases:
    table, readers = _written(folder)
    asked = {"labels": ["oedema", "gradable"], "derive": RULES, "consensus": "median", "names": "keep", **more}
    cases = ov.read_cases(table, patient="patient", graders=readers, **asked)  # type: ignore[arg-type]
    assert isinstance(cases, GradedCases)
    return cases


def test_each_question_has_its_consensus_and_ties_and_silence_are_said(tmp_path: Path) -> None:
    cases = _read(tmp_path)
    assert cases.target.names == ("oedema", "gradable", "moderate", "referable")
    wanted = {  # median of the answers; a tie (e: grades 1 and 3, oedema 1 and 0) or silence (d) is unknown
        "oedema": [0, 1, 0, -9, -9, 1], "gradable": [1, 1, 0, 0, 1, 1],
        "moderate": [0, 1, 0, -9, -9, -9], "referable": [0, 1, 0, -9, -9, 1],
    }  # fmt: skip
    found = {name: cases.table[f"label:{name}"].fillna(-9).astype(int).tolist() for name in wanted}
    assert found == wanted
    told = "; ".join(cases.notes)
    assert "grade: median of 3 readers; 3 of 6 images decided, 2 tied, 1 without an answer" in told
    assert "derived referable (moderate or oedema): 2 present, 2 absent, 2 unknown" in told


def test_names_are_coded_with_the_answers_under_the_same_codes(tmp_path: Path) -> None:
    cases = _read(tmp_path, names="hash")
    assert set(cases.questions) == {"oedema", "gradable", "grade"}
    for grades in cases.questions.values():
        assert set(grades.table["case"]) <= set(cases.table["case"])
        assert set(grades.table["reader"]) == {"reader 1", "reader 2", "reader 3"}


def test_a_reader_has_one_number_in_all_questions(tmp_path: Path) -> None:
    """Bob answers the second question first: he stays who he is in the first."""
    rows = [
        ("a", "Ann", "A", 1),
        ("a", "Bob", "A", 0),
        ("a", "Bob", "B", 0),
        ("a", "Ann", "B", 1),
        ("a", "Cem", "B", 1),
    ]
    pd.DataFrame(rows, columns=["case", "reader", "question", "answer"]).to_csv(tmp_path / "long.csv", index=False)
    asked = read_questions(tmp_path / "long.csv")
    numbers = reader_numbers(asked.values())
    assert numbers == {"Ann": "reader 1", "Bob": "reader 2", "Cem": "reader 3"}
    for held in (
        *(nameless(g, numbers) for g in asked.values()),
        *(coded(g, "s", "as-written", numbers) for g in asked.values()),
    ):
        said = dict(zip(held.table["reader"], held.table["label"], strict=True))
        assert (said["reader 1"], said["reader 2"]) == ("1", "0")


def test_rules_beside_readers_in_columns_are_refused_and_never_dropped(tmp_path: Path) -> None:
    table, _ = _written(tmp_path)
    pd.read_csv(table).assign(one=1, two=0).to_csv(table, index=False)
    with pytest.raises(InputError, match="readers in columns of the table answered one question"):
        ov.read_cases(table, patient="patient", graders=["one", "two"], derive=["ill = one == 1"], names="keep")


def test_agreement_is_told_of_each_question(tmp_path: Path) -> None:
    found = panels_of(_read(tmp_path).questions, rule="median")
    assert found["questions"] == ["oedema", "gradable", "grade"]
    assert {e.of for e in found["estimates"]} == {"oedema", "gradable", "grade"}
    assert [line.split(":")[0] for line in agreement_in_words(found)] == found["questions"]


def test_a_case_that_nothing_is_known_of_is_left_out_with_its_reason(tmp_path: Path) -> None:
    cases = _read(tmp_path, labels=["oedema"], derive=())
    assert cases.undecided() == {
        "d": "no reader answered",
        "e": "the readers are tied, or silent on what the label needs",
    }


def test_one_of_several_questions_is_a_label_with_classes(tmp_path: Path) -> None:
    table, readers = _written(tmp_path)
    cases = ov.read_cases(table, patient="patient", graders=readers, label="grade", consensus="median", names="keep")
    assert cases.target.kind == "classes"
    assert cases.table["label"].tolist() == ["0", "3", "1", "", "", ""]
    with pytest.raises(InputError, match="no column 'severity'"):
        ov.read_cases(table, patient="patient", graders=readers, label="severity")
    with pytest.raises(ArgumentError, match="graders answer questions"):
        ov.read_cases(table, patient="patient", graders=readers, value="grade")


def test_fewer_grades_give_the_findings_anew(tmp_path: Path) -> None:
    cases = _read(tmp_path)
    first = {
        name: type(held)(held.table.drop_duplicates("case", keep="first"), "label")
        for name, held in cases.questions.items()
    }
    made, ties = regraded(cases.take(cases.table["case"].isin(["a", "b", "e", "f"]).to_numpy()), first, rules_of(RULES))
    assert ties == 0
    assert made.table["label:moderate"].tolist() == [0, 1, 0, 0]
    assert made.table["label:referable"].tolist() == [0, 1, 1, 1]
    with pytest.raises(InputError, match="no finding of the study follows"):
        regraded(cases, {"other": cases.questions["grade"]}, ())
