"""Targets derived by a rule: Kleene's logic, what is refused, and the probabilities of rules."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import overread as ov
from overread.cases.derived import Rule, chance_of, derived, rules_of
from overread.core.errors import ArgumentError, InputError

VALUES = {"1": True, "0": False, "": None}


def _or(a: bool | None, b: bool | None) -> bool | None:
    if a or b:
        return True
    return None if a is None or b is None else False


def _not(a: bool | None) -> bool | None:
    return None if a is None else not a


def test_rules_follow_kleenes_truth_tables() -> None:
    rows = list(product(VALUES, repeat=2))
    table = pd.DataFrame(rows, columns=["a", "b"])
    made, _ = derived(table, rules_of(["either = a == 1 or b", "both = a and b == 1", "neither = not (a or b)"]))
    for (a, b), row in zip(rows, made.to_dict("records"), strict=True):
        x, y = VALUES[a], VALUES[b]
        wanted = {"either": _or(x, y), "both": _not(_or(_not(x), _not(y))), "neither": _not(_or(x, y))}
        assert {k: None if np.isnan(v) else bool(v) for k, v in row.items()} == wanted


def test_an_ordered_grade_gives_several_findings_and_the_counts_are_said() -> None:
    table = pd.DataFrame({"grade": ["0", "1", "2", "4", "", "nan"], "oedema": ["0", "", "1", "0", "1", "0"]})
    rules = rules_of(["moderate = grade >= 2", "severe = grade >= 3", "referable = moderate or oedema == 1"])
    made, notes = derived(table, rules)
    assert made["moderate"].tolist()[:4] == [0, 0, 1, 1]
    assert made["moderate"].isna().tolist()[4:] == [True, True]
    assert made["severe"].tolist()[:4] == [0, 0, 0, 1]
    assert made["referable"].fillna(-1).tolist() == [0, -1, 1, 1, 1, -1]
    assert notes[-1] == "derived referable (moderate or oedema == 1): 3 present, 1 absent, 2 unknown"


def test_minus_one_is_unknown_to_rules_and_said() -> None:
    table = pd.DataFrame({"Edema": ["1.0", "-1.0", "0.0", ""]})
    made, notes = derived(table, [Rule("wet", "Edema == 1")])
    assert made["wet"].fillna(-9).tolist() == [1, -9, 0, -9]
    assert notes[0] == "Edema: 1 cells of −1 are unknown to the rules"
    absent, _ = derived(table, [Rule("wet", "Edema == 1")], blank="negative")
    assert absent["wet"].fillna(-9).tolist() == [1, -9, 0, 0]


@pytest.mark.parametrize("as_type", ["float64", "int64", "Int64", "int8"])
def test_minus_one_is_unknown_in_a_column_of_numbers_too(as_type: str) -> None:
    table = pd.DataFrame({"Edema": pd.Series([1, -1, 0], dtype=as_type), "grade": [3, -1, 0]})
    made, notes = derived(table, rules_of(["wet = Edema == 1", "dry = not Edema", "low = grade < 0"]))
    assert made["wet"].fillna(-9).tolist() == [1, -9, 0]
    assert made["dry"].fillna(-9).tolist() == [0, -9, 1]
    assert made["low"].tolist() == [0, 1, 0], "−1 is a number like another where there are others"
    assert notes[0] == "Edema: 1 cells of −1 are unknown to the rules"
    truth, _ = derived(pd.DataFrame({"a": [True, False]}), [Rule("x", "a")])
    assert truth["x"].tolist() == [1, 0]


def test_a_column_in_which_nothing_is_known_is_unknown_to_every_rule() -> None:
    table = pd.DataFrame({"grade": ["", "nan", ""], "none": [np.nan] * 3, "a": ["1", "0", ""]})
    made, _ = derived(table, rules_of(["x = grade >= 2", "y = none", "z = grade or a", "w = grade == 'bad'"]))
    assert made[["x", "y", "w"]].isna().all(axis=None)
    assert made["z"].fillna(-9).tolist() == [1, -9, -9]
    absent, notes = derived(table, [Rule("x", "none or a")], blank="negative")
    assert absent["x"].tolist() == [1, 0, 0]
    assert notes[0] == "none: 3 blank cells are taken for absent by the rules"


@pytest.mark.parametrize(
    ("rule", "what"),
    [("x = word >= 2", "words, which have no order"), ("x = grade", "no yes or no"), ("x = grad >= 2", "no column 'grad'"),
     ("x", "form name = rule"), ("x == 2", "form name = rule"), ("x != 2", "form name = rule")],
)  # fmt: skip
def test_a_rule_that_says_nothing_is_refused(rule: str, what: str) -> None:
    table = pd.DataFrame({"grade": ["0", "3"], "word": ["mild", "severe"]})
    with pytest.raises(InputError, match=what):
        derived(table, rules_of([rule]))


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two rules"):
        rules_of(["x = a", "x = b"])


def test_the_chance_of_a_rule_against_its_definition() -> None:
    chances = np.random.default_rng(0).random((50, 3))
    rule = Rule.read("referable = (a == 1 or b) and not c")
    a, b, c = chances.T
    assert np.allclose(chance_of(rule, chances, ["a", "b", "c"]), np.minimum(np.maximum(a, b), 1 - c))
    independent = chance_of(rule, chances, ["a", "b", "c"], "noisy-or")
    assert np.allclose(independent, (1 - (1 - a) * (1 - b)) * (1 - c))
    assert np.allclose(chance_of(Rule.read("r = a == 0"), chances, ["a", "b", "c"]), 1 - a)
    with pytest.raises(InputError, match="no output 'd'"):
        chance_of(Rule.read("r = a or d"), chances, ["a", "b", "c"])
    with pytest.raises(InputError, match="present or absent"):
        chance_of(Rule.read("r = a >= 1"), chances, ["a", "b", "c"])


def _predictions() -> ov.Predictions:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, (80, 2)).astype(float)
    truth[::7, 1] = np.nan
    chances = np.clip(0.5 + 0.3 * (np.nan_to_num(truth) - 0.5) + 0.2 * rng.normal(size=(80, 2)), 0, 1)
    table = pd.DataFrame({"case": [f"c{i}" for i in range(80)], "patient": [f"p{i // 2}" for i in range(80)], "split": "test", "source": "",
                          "label:moderate": truth[:, 0], "label:oedema": truth[:, 1], "p:moderate": chances[:, 0], "p:oedema": chances[:, 1]})  # fmt: skip
    return ov.Predictions.from_frame(table)


def test_a_derived_output_is_judged_like_a_finding() -> None:
    from sklearn.metrics import roc_auc_score

    made = _predictions().derive(rules_of(["referable = moderate or oedema"]))
    assert made.target.names == ("moderate", "oedema", "referable")
    label, score = made.table["label:referable"], made.scores[:, 2]
    assert label.isna().sum() == ((made.table["label:moderate"] == 0) & made.table["label:oedema"].isna()).sum()
    known = label.notna().to_numpy()
    found = ov.evaluate(made)["auc", "referable"]
    assert found.value == pytest.approx(roc_auc_score(label[known], score[known]))
    assert "by max" in made.notes[-1]
    with pytest.raises(InputError, match="already"):
        made.derive([Rule("referable", "moderate")])


def _table(folder: Path) -> Path:
    import cv2

    table = pd.DataFrame({"image": [f"{i}.png" for i in range(6)], "patient": [f"p{i}" for i in range(6)],
                          "grade": ["0", "1", "2", "3", "4", ""], "oedema": ["0", "1", "0", "", "1", "0"]})  # fmt: skip
    for name in table["image"]:
        cv2.imwrite(str(folder / name), np.full((8, 8), int(name[0]) * 20, np.uint8))
    table.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def test_a_table_with_rules_becomes_findings(tmp_path: Path) -> None:
    rules = ["moderate = grade >= 2", "referable = moderate or oedema"]
    cases = ov.read_cases(_table(tmp_path), patient="patient", labels=["oedema"], derive=rules)
    assert cases.target.names == ("oedema", "moderate", "referable")
    assert cases.table["label:referable"].fillna(-1).tolist() == [0, 1, 1, 1, 1, -1]
    assert "grade" not in cases.table  # what nobody asked for stays out
    alone = ov.read_cases(_table(tmp_path), patient="patient", derive=rules[:1])
    assert alone.target.names == ("moderate",)
    with pytest.raises(ArgumentError, match="no other label"):
        ov.read_cases(_table(tmp_path), patient="patient", label="grade", derive=rules)
    with pytest.raises(InputError, match="both a column and derived"):
        ov.read_cases(_table(tmp_path), patient="patient", labels=["oedema"], derive=["oedema = grade >= 2"])
