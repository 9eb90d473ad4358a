"""Splits of tables with masks: for use on one microscope, by the rule of 90/5/5, and grouped by image without patients."""

from __future__ import annotations

import pandas as pd
import pytest

from overread.cases.cases import Cases
from overread.cases.split import split
from overread.core.errors import UnsoundError
from overread.tasks.target import Target


def table(patients_each: int = 1, **microscopes: int) -> Cases:
    """So many images of each microscope, every third without a patient's other image, all with masks but the first."""
    rows = [(f"{name}{i}", f"p{name}{i // patients_each}", name) for name, many in microscopes.items() for i in range(many)]  # fmt: skip
    made = pd.DataFrame(rows, columns=["case", "patient", "source"])
    made = made.assign(image=made["case"] + ".png", view="", time="", split="", mask=made["case"] + "_mask.png")
    made.loc[0, "mask"] = ""
    return Cases(made, Target("segmentation", ("object",)), masks=True)


@pytest.mark.parametrize("shares", [(0.05, 0.05), (0.2, 0.1), (0.1, 0.05)])
def test_tuning_and_test_come_from_the_microscope_of_use_and_most_of_it_trains(shares):
    cases = table(A=400, B=300, C=150)
    made = split(cases, test=shares[0], tuning=shares[1], deploy_to="source == 'C'", seed=3)
    joined = made.table.merge(cases.table[["case", "source"]], on="case")
    parts = joined.groupby("part")["source"].value_counts().unstack(fill_value=0)
    for part in ("tuning", "test"):  # from C alone
        assert parts.loc[part, ["A", "B"]].sum() == 0
        assert made.proof["parts"][part]["sources"] == {"C": parts.loc[part, "C"]}
    assert parts.loc["train", "C"] > parts.loc["tuning", "C"] + parts.loc["test", "C"]
    assert parts.loc["train", ["A", "B"]].sum() == 699  # all the others train, but for the one without a mask
    wanted = [share * 849 for share in shares]
    if sum(wanted) < 0.45 * 150:  # what was asked for, of all images
        assert parts.loc["test", "C"] == pytest.approx(wanted[0], abs=1)
        assert parts.loc["tuning", "C"] == pytest.approx(wanted[1], abs=1)
    else:
        assert any("smaller than asked" in warning for warning in made.proof["warnings"])
    assert made.proof["patients shared"] == 0
    assert made.proof["left out"] == {"no mask": 1}


def test_images_of_a_patient_stay_together_and_images_are_the_groups_where_no_patient_is_named():
    cases = table(3, A=90, C=90)
    made = split(cases, deploy_to="source == 'C'", seed=1)
    assert made.table.groupby("patient")["part"].nunique().max() == 1
    alone = table(1, A=60)
    made = split(alone, test=0.05, tuning=0.05, seed=1)
    assert made.counts()["test"]["cases"] == made.counts()["tuning"]["cases"] == 3
    assert made.proof["groups"] == 59
    shuffled = alone.take(list(range(59, -1, -1)))
    assert split(shuffled, test=0.05, tuning=0.05, seed=1) == made


def test_a_microscope_of_two_images_cannot_be_tested_on():
    with pytest.raises(UnsoundError, match="fewer than three patients"):
        split(table(A=50, C=2), deploy_to="source == 'C'")
