"""One written form for identifiers; what may be one or two is asked."""

from __future__ import annotations

import pandas as pd
import pytest

from overread.core.errors import InputError, UnsoundError
from overread.core.identifiers import alike, among, counted, distinct, identifiers, marks, rewritten, shape, trimmed


def column(*values: object) -> pd.Series:
    return pd.Series(values, dtype=object)


@pytest.mark.parametrize(
    "written",
    [
        "7",
        " 7",
        "7\n",
        "7.0",
        "7.00",
        "7.",
        "7,0",
        "7e+00",
        "7.000000e+00",
        "\uff17",
        "\u0667",
        "7\u00a0",
        "\ufeff7",
        "7\u200b",
        7,
        7.0,
    ],
)
def test_a_number_has_one_form(written):
    assert identifiers(column(written)).tolist() == ["7"]


@pytest.mark.parametrize(
    "written", ["07", "7e0", "P007", "7.5", "1,000", "1.1", "1.10", "-7", "k00a1", "DOE^JANE", "none", "1.2.840.0"]
)
def test_what_differs_in_more_stays(written):
    assert identifiers(column(written)).tolist() == [written]


@pytest.mark.parametrize(
    "blank", ["", " ", "nan", "NaN", "NA", "n/a", "null", "<NA>", None, float("nan"), pd.NA, "\u00a0"]
)
def test_what_is_missing_is_blank(blank):
    assert identifiers(column("a", blank)).tolist() == ["a", ""]


def test_columns_of_any_type_and_index():
    assert identifiers(pd.Series([7, 8], index=[5, 3])).to_dict() == {5: "7", 3: "8"}
    assert identifiers(pd.Series([7.0, None])).tolist() == ["7", ""]
    assert identifiers(column(7, "7.0", 7.0, "x")).tolist() == ["7", "7", "7", "x"]
    assert identifiers(column()).tolist() == alike(column()).tolist() == []
    assert trimmed(column(" a\u200b", None, "M\u0075\u0308ller")).tolist() == ["a", "", "M\u00fcller"]


@pytest.mark.parametrize("cut", ["1.23457E+15", "1e+16", "12345678901234567.0", "1.0E+05"])
def test_numbers_whose_digits_were_cut_are_refused(cut):
    with pytest.raises(InputError, match="digits of them are lost") as error:
        identifiers(column("5", cut))
    assert cut not in str(error.value)


@pytest.mark.parametrize(
    "pair",
    [("7", "00007"), ("7", "7e0"), ("p007", "P007"), ("P-007", "P7"), ("P 007", "p_7"), ("site1_p07", "Site1-P7"), ("Doe^Jane", "DOE JANE"),
     ("\uff307", "P7"), ('="007"', "007")],
)  # fmt: skip
def test_what_may_be_one_or_two_is_asked(pair):
    values = column(*pair, "another")
    with pytest.raises(UnsoundError, match="--identifiers same if they are one, --identifiers as-written") as error:
        distinct(values, "patient")
    assert not any(name in str(error.value) for name in pair if not name.isdigit())
    assert distinct(values, "patient", "as-written").nunique() == 3
    assert distinct(values, "patient", "same").nunique() == 2


@pytest.mark.parametrize(
    "names",
    [("1-23", "12-3"), ("1.1", "1.10"), ("1.2.840.1", "1.2.8401"), ("00a1b", "0a01b"), ("k00a1b07", "k0a01b07"), ("A7", "B7"),
     ("p1", "p10", "p100"), ("M\u00fcller", "Muller"), ("+", "-")],
)  # fmt: skip
def test_honest_names_are_not_asked_about(names):
    assert distinct(column(*names), "patient").tolist() == list(names)


def test_what_was_changed_is_said_by_its_shape():
    before = column("7", "7.0", " 12")
    assert rewritten(before, identifiers(before), "patient").startswith(
        "patient: 2 of 3 cells are read in another form"
    )
    assert "9 in place of 9.9" in rewritten(before, identifiers(before), "patient")
    assert rewritten(column("7", ""), column("7", ""), "patient") == ""
    assert shape("DOE^Jane 7") == "AAA^Aaaa 9"


def test_hashes_know_a_patient_again_and_what_may_be_the_patient():
    held = marks(["P007", "8", "8.0", "nan"], "salt")
    assert counted(held) == 2
    assert not any("P007" in code for code in held)
    asked = ["P007", "p-7", "8.0", "08", "9", ""]
    assert among(asked, held, "salt").tolist() == ["same", "alike", "same", "alike", "", ""]
    assert among(asked, held, "salt", "as-written").tolist() == ["same", "", "same", "", "", ""]
    assert among(asked, held, "pepper").tolist() == [""] * 6
    assert among(asked, (), "salt").tolist() == [""] * 6


def test_the_form_of_a_value_does_not_depend_on_the_others():
    values = ["7.0", "07", "P7", "1.5", "7e+00"]
    together = identifiers(column(*values)).tolist()
    assert together == [identifiers(column(value)).iloc[0] for value in values]


def test_a_hundred_thousand_are_read_in_a_moment():
    names = pd.Series([f"IMG_{i:06d}.0" for i in range(100_000)])
    assert distinct(names, "patient").nunique() == 100_000
