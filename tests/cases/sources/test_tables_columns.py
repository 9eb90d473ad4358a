from __future__ import annotations

import pandas as pd
import pytest

from overread.cases.sources.tables import Roles, find, guess, is_split, parts
from overread.core.errors import InputError


def test_the_nearest_column_is_named():
    with pytest.raises(InputError, match="id you mean 'diagnosis'"):
        find(["age", "diagnosis"], "diagnsis", "label")


def test_guesses_ignore_case_and_punctuation():
    assert guess("patient", ["Age", "Patient-ID"]) == "Patient-ID"
    assert guess("label", ["age", "sex"]) is None


def test_a_column_that_is_named_is_not_guessed_again():
    roles = Roles(pd.DataFrame({"image_id": ["a"], "dx": ["b"]}))
    assert roles.take("image", "image_id") == "image_id"
    assert roles.take("case", None) is None
    assert roles.notes == []


def test_guesses_are_told():
    roles = Roles(pd.DataFrame({"lesion_id": ["a"]}))
    assert roles.take("patient", None) == "lesion_id"
    assert roles.notes == ["patient: guessed column 'lesion_id'; override with --patient"]


def test_words_for_parts():
    assert parts(pd.Series(["Train", "val", "VALIDATION", "dev", "test", "fold 3"])).tolist() == [
        "train",
        "tuning",
        "tuning",
        "tuning",
        "test",
        "fold 3",
    ]
    assert is_split(pd.Series(["train", "test", ""]))
    assert not is_split(pd.Series(["train", "1"]))
    assert not is_split(pd.Series(["train", "train"]))
