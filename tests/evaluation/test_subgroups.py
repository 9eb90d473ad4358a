"""Bands and groups."""

import numpy as np
import pandas as pd
import pytest

from overread.core.errors import InputError
from overread.evaluation.subgroups import bands, subgroups


def series(values, name="x"):
    return pd.Series(values, name=name)


def test_few_numbers_stay_as_they_are():
    assert bands(series([1, 2, 2.0, None, 3])).tolist() == ["1", "2", "2", "unknown", "3"]


def test_words_are_trimmed_and_blanks_unknown():
    assert bands(series(["f", " m", "", "  ", None])).tolist() == ["f", "m", "unknown", "unknown", "unknown"]


@pytest.mark.parametrize("name", ["age", "Age", "patient_age", "age at scan"])
def test_ages_have_clinical_bands(name):
    found = bands(series([19, 39.9, 40, 59.5, 60, 90, 33, 44], name))
    assert found.tolist() == ["<40", "<40", "40–59", "40–59", "≥60", "≥60", "<40", "40–59"]
    young = bands(series([*range(5, 95, 5)], name))
    assert list(dict.fromkeys(young)) == ["<18", "18–39", "40–59", "≥60"]


def test_text_numbers_are_numbers():
    assert bands(series(["25", "70", "41", "50", "30", "61", "62", ""], "age")).iloc[-2:].tolist() == ["≥60", "unknown"]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 300), (-5, 5), (1.2, 9.7), (1e-6, 9e-6), (1e6, 3e6), (37.1, 41.3)]
)
def test_other_numbers_are_cut_at_round_places(low, high):
    values = np.linspace(low, high, 200)
    found = bands(series(values, "size"))
    assert 3 <= found.nunique() <= 7
    assert "unknown" not in set(found)
    order = list(dict.fromkeys(found))  # rising values pass through each band once
    assert len(order) == found.nunique()
    assert order[0].startswith("<")
    assert order[-1].startswith("≥")


def test_infinite_and_missing_numbers_do_not_disturb():
    found = bands(series([*range(20), np.inf, -np.inf, np.nan], "size"))
    assert found.iloc[-3:].tolist() == [found.iloc[19], found.iloc[0], "unknown"]


def test_groups_come_in_order_and_cover_every_row(predictions):
    test = predictions()
    found = list(subgroups(test, ("age", "sex")))
    assert [next(iter(w.values())) for w, _ in found] == ["<40", "40–59", "≥60", "female", "male"]
    assert sum(rows.sum() for where, rows in found if "age" in where) == len(test)


def test_unknown_columns_and_names_are_refused(predictions):
    with pytest.raises(InputError, match="Did you mean 'sex'"):
        list(subgroups(predictions(), ("Sex ",)))
    with pytest.raises(InputError, match="too many groups"):
        list(subgroups(predictions(), ("case",)))
