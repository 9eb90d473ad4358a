"""The waist: any table of predictions, ours or a stranger's."""

import numpy as np
import pandas as pd
import pytest

from overread.core.errors import InputError
from overread.predictions import Predictions
from overread.tasks.target import Target


def write(folder, text):
    path = folder / "predictions.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_strangers_table_needs_little(tmp_path):
    found = Predictions.read(write(tmp_path, "case,label,p:cat,p:dog,p:cow\na,cat,.5,.3,.2\nb,cow,0,0,1\n"))
    assert found.target == Target("classes", ("cat", "dog", "cow"))
    assert found.truth.tolist() == [0, 2]
    assert found.patients.tolist() == ["a", "b"]
    assert str(found) == "predictions for 2 cases of 2 patients"


def test_one_column_of_probabilities_is_enough_for_two_classes(tmp_path):
    found = Predictions.read(write(tmp_path, "case,label,p:1\na,0,.25\nb,1,.75\n"))
    assert found.target == Target("binary", ("0", "1"), ("1",))
    assert found.scores.tolist() == [[0.75, 0.25], [0.25, 0.75]]
    assert Predictions.read(write(tmp_path, "case,label,p:ill\na,ill,.25\n")).target.names == ("not ill", "ill")
    with pytest.raises(InputError, match="two values"):
        Predictions.read(write(tmp_path, "case,label,p:a\nx,a,.1\ny,b,.2\nz,c,.3\n"))


def test_findings_and_quantities_are_known_by_their_columns(tmp_path):
    found = Predictions.read(write(tmp_path, "case,label:mass,p:mass\na,1,.8\nb,,.3\nc,0,.1\n"))
    assert found.target.kind == "findings"
    np.testing.assert_array_equal(found.truth[:, 0], [1, np.nan, 0])
    found = Predictions.read(write(tmp_path, "case,value,predicted\na,1.5,2\nb,,3\n"))
    assert found.target.kind == "quantity"
    assert found.scores.tolist() == [[2], [3]]


def test_names_that_look_like_numbers_or_blanks_stay_text(tmp_path):
    found = Predictions.read(write(tmp_path, "case,patient,label,p:NA,p:01\n007,1e5,01,.1,.9\n008,,NA,.8,.2\n"))
    assert found.table["case"].tolist() == ["007", "008"]
    assert found.patients.tolist() == ["1e5", "008"]  # a blank patient is the case itself, not one with all blanks
    assert found.truth.tolist() == [1, 0]


def test_a_round_trip_keeps_a_float32(tmp_path):
    rng = np.random.default_rng(0)
    score = rng.random(200).astype(np.float32)
    table = pd.DataFrame({"case": [f"é{i}" for i in range(200)], "patient": "p", "split": "test", "source": "a,b\nc",
                          "sex": "f", "label": "yes", "p:no": 1 - score, "p:yes": score})  # fmt: skip
    ours = Predictions(table, Target("binary", ("no", "yes"), ("yes",)))
    again = Predictions.read(ours.save(tmp_path / "out" / "p.csv"), positive=("yes",))
    np.testing.assert_array_equal(again.scores.astype(np.float32), ours.scores.astype(np.float32))
    assert again.table["source"].tolist() == ours.table["source"].tolist()
    assert again.subgroups == ("sex",)
    assert Predictions.read(again.save(tmp_path / "two.csv"), positive=("yes",)) == again


def test_unknown_labels_are_unknown():
    table = pd.DataFrame({"case": list("abc"), "patient": list("abc"), "split": "", "source": "",
                          "label": ["x", "", None], "p:x": 0.5, "p:y": 0.5})  # fmt: skip
    assert Predictions(table, Target("binary", ("x", "y"), ("y",))).truth.tolist() == [0, -1, -1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,label\na,b\n", "no predictions"),
        ("label,p:a,p:b\na,.5,.5\n", "lack the column 'case'"),
        ("case,p:a,p:b\na,.5,.5\n", "lack the column 'label'"),
        ("case,label,p:a,p:b\nx,a,.5,.5\nx,a,.5,.5\n", "more than one prediction"),
        ("case,label,p:a,p:b\nx,a,high,.5\n", "'p:a' must hold numbers"),
        ("case,label:a,p:a\nx,yes,.5\n", "'label:a' must hold numbers"),
        ("case,label,p:a\nx,a,high\n", "must hold numbers"),
        ("", "cannot be read"),
    ],
)
def test_bad_tables_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        Predictions.read(write(tmp_path, text))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match="do not exist"):
        Predictions.read(tmp_path / "none.csv")
    with pytest.raises(InputError, match="cannot be read"):
        Predictions.read(tmp_path)


def test_an_empty_table_is_a_table(tmp_path):
    assert len(Predictions.read(write(tmp_path, "case,label,p:a,p:b\n"))) == 0
