from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from overread.cases.sources.labels import natural, one_label, quantity, several_findings
from overread.core.errors import InputError
from overread.tasks.target import TASKS


def text(*values: str) -> pd.Series:
    return pd.Series(values, dtype=object).astype(str)


def test_classes_do_not_depend_on_the_rows():
    there = one_label(text("b", "a", "10", "2"), (), None, "dx")[1]
    back = one_label(text("2", "10", "a", "b"), (), None, "dx")[1]
    assert there == back
    assert there.names == ("2", "10", "a", "b")


@pytest.mark.parametrize(
    ("values", "positive"),
    [(("normal", "pneumonia"), "pneumonia"), (("malignant", "normal, benign"), "malignant"), (("0", "1"), "1"),
     (("no", "yes"), "yes"), (("control", "case"), "case"), (("non-COVID", "COVID"), "COVID"), (("negative", "positive"), "positive")],
)  # fmt: skip
def test_the_positive_class_is_guessed_and_said(values, positive):
    _, target, notes = one_label(text(*values), (), None, "dx")
    assert target.positive == (positive,)
    assert "--positive" in notes[0]


def test_a_doubtful_positive_class_is_asked_for():
    with pytest.raises(InputError, match=r"'melanoma' and 'nevus'.*--positive melanoma or --positive nevus"):
        one_label(text("nevus", "melanoma"), (), None, "dx")
    assert one_label(text("nevus", "melanoma"), ("nevus",), None, "dx")[1].positive == ("nevus",)
    assert one_label(text("nevus", "melanoma"), (), TASKS["classes"], "dx")[1].positive == ()


def test_a_positive_class_may_hold_a_comma():
    values = text("lesion, left", "lesion, right")
    assert one_label(values, ("lesion", "left"), None, "dx")[1].positive == ("lesion, left",)


def test_blanks_are_unknown_but_none_is_a_class():
    made, target, _ = one_label(text("none", "NaN", "", "mild", "N/A"), (), None, "dx")
    assert target.names == ("mild", "none")
    assert made["label"].tolist() == ["none", "", "", "mild", ""]


@pytest.mark.parametrize(
    "values", [("1.0", "0.0", ""), ("1", "0.0", "0"), (" 1", "0.00"), ("1\u00a0", "\uff10", "n/a")]
)
def test_a_number_is_one_class_however_it_is_written(values):
    assert one_label(text(*values), (), None, "y")[1].names == ("0", "1")


def test_a_number_that_is_not_whole_stays():
    assert one_label(text("1.0", "0.5", "2"), (), None, "y")[1].names == ("0.5", "1", "2")


@pytest.mark.parametrize("pair", [("Benign", "benign"), ("no finding", "No_Finding"), ("No-Finding", "no  finding")])
def test_labels_that_differ_in_capitals_are_asked_about(pair):
    values = text(*pair, pair[1], "malignant")
    with pytest.raises(InputError, match=r"capitals.*rows.*--rename-label") as error:
        one_label(values, (), None, "y")
    assert all(name in str(error.value) for name in pair)
    label, target, notes = one_label(values, ("malignant",), None, "y", rename={pair[0]: pair[1]})
    assert set(target.names) == {pair[1], "malignant"}
    assert (label["label"] == pair[1]).sum() == 3
    assert any(f"1 cells of {pair[0]!r} are taken as {pair[1]!r}" in note for note in notes)
    assert len(one_label(values, ("malignant",), None, "y", rename={pair[0]: pair[0]})[1].names) == 3


def test_signs_behind_a_word_tell_two_classes():
    assert one_label(text("ER+", "ER-"), ("ER+",), None, "y")[1].names == ("ER+", "ER-")


def test_a_label_may_be_made_unknown_and_a_misspelt_one_is_named():
    label, target, _ = one_label(text("a", "b", "unclear"), ("b",), None, "y", rename={"unclear": ""})
    assert target.names == ("a", "b")
    assert label["label"].tolist() == ["a", "b", ""]
    with pytest.raises(InputError, match="id you mean 'unclear'"):
        one_label(text("a", "b", "unclear"), ("b",), None, "y", rename={"uncler": "a"})


@pytest.mark.parametrize(
    ("values", "positive", "kind", "says"),
    [(("", "nan"), (), None, "no label at all"), (("a", "b"), ("c",), None, "not among"), (("a", "b"), ("a", "b"), None, "every class"),
     (("a", "b", "c"), (), "binary", "two classes"), (tuple(f"{i}.5" for i in range(60)), (), None, "--value"),
     (tuple(f"id{i}" for i in range(60)), (), None, "60 different")],
)  # fmt: skip
def test_labels_that_cannot_be(values, positive, kind, says):
    with pytest.raises(InputError, match=says):
        one_label(text(*values), positive, kind and TASKS[kind], "dx")


def test_findings_keep_the_unknown():
    table = pd.DataFrame({"edema": text("1", "0", "", "-1"), "mass": text("yes", "No", "1.0", "TRUE")})
    made, target, notes = several_findings(table, ["edema", "mass"], ())
    assert target.kind == "findings"
    np.testing.assert_array_equal(made["label:edema"], [1, 0, np.nan, np.nan])
    np.testing.assert_array_equal(made["label:mass"], [1, 0, 1, 1])
    assert "uncertain" in notes[0]


def test_a_finding_with_a_word_is_refused():
    with pytest.raises(InputError, match="'severe'"):
        several_findings(pd.DataFrame({"edema": text("1", "severe")}), ["edema"], ())


def test_a_quantity_is_a_number_or_blank():
    made, target, _ = quantity(text("1.5", "", "-2e3"), "age")
    np.testing.assert_array_equal(made["value"], [1.5, np.nan, -2000])
    assert target.names == ("age",)
    for bad in ("old", "inf", "1,5"):
        with pytest.raises(InputError, match="must be a number"):
            quantity(text("1", bad), "age")
    with pytest.raises(InputError, match="no number at all"):
        quantity(text("", ""), "age")


def test_the_natural_order_reads_numbers_in_words():
    names = ["reader 10", "B", "reader 2", "10", "a", "9.5", "5²"]
    assert sorted(names, key=natural) == ["5²", "9.5", "10", "a", "B", "reader 2", "reader 10"]
