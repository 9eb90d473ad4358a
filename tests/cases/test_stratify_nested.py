"""Nested beginnings of a training set, and fewer graders."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from overread.cases.annotators import Grades
from overread.cases.cases import Cases
from overread.cases.graded_cases import fewer_grades, graded
from overread.cases.stratify import beginning, nested_order
from overread.core.errors import ArgumentError, InputError
from overread.tasks.target import Target


def cohort(patients: int = 100, rate: float = 0.2, seed: int = 0) -> Cases:
    rng = np.random.default_rng(seed)
    ill = rng.random(patients) < rate
    who = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(len(who))], "case": [f"c{i}" for i in range(len(who))],
                          "patient": [f"p{i}" for i in who], "source": "", "view": "", "time": "", "split": "",
                          "label": np.where(ill[who], "ill", "well")})  # fmt: skip
    return Cases(table, Target("binary", ("well", "ill"), ("ill",)))


def people(cases: Cases) -> set[str]:
    return set(cases.table["patient"])


def test_beginnings_are_nested_by_patient_and_keep_the_classes_in_proportion() -> None:
    cases = cohort()
    order = nested_order(cases, seed=3)
    assert sorted(order) == sorted(people(cases))
    rate = cases.table[cases.table["label"] == "ill"]["patient"].nunique() / cases.patients
    before: set[str] = set()
    for share in (0.1, 0.2, 0.5, 1.0):
        part = beginning(cases, order, share=share)
        assert before <= people(part)
        before = people(part)
        assert part.patients == round(share * 100)
        whole = cases.table["patient"].isin(people(part))
        assert len(part) == whole.sum(), "a patient comes with all images"
        ill = part.table[part.table["label"] == "ill"]["patient"].nunique()
        assert abs(ill - rate * part.patients) <= 2
    assert len(beginning(cases, order, share=1.0)) == len(cases)


def test_every_class_is_there_from_the_start() -> None:
    cases = cohort(rate=0.03, seed=5)
    assert set(beginning(cases, nested_order(cases), share=0.02).table["label"]) == {"ill", "well"}


def test_the_order_of_rows_changes_nothing_and_another_repeat_does() -> None:
    cases = cohort()
    mixed = cases.take(np.random.default_rng(1).permutation(len(cases)))
    assert nested_order(mixed, seed=3) == nested_order(cases, seed=3)
    assert nested_order(cases, seed=3, repeat=1) != nested_order(cases, seed=3)
    assert nested_order(cases, seed=4) != nested_order(cases, seed=3)


def test_a_number_of_images_takes_as_few_patients_as_have_them() -> None:
    cases = cohort()
    order = nested_order(cases)
    part = beginning(cases, order, images=40)
    per = cases.table["patient"].value_counts()
    assert 40 <= len(part) < 40 + per.max()
    assert people(part) == set(order[: part.patients])
    assert len(beginning(cases, order, images=len(cases))) == len(cases)
    with pytest.raises(InputError, match="not so many"):
        beginning(cases, order, images=len(cases) + 1)
    with pytest.raises(ArgumentError):
        beginning(cases, order)


def answers(cases: Cases, readers: int = 5, seed: int = 0) -> Grades:
    rng = np.random.default_rng(seed)
    rows = [(c, f"r{r}", "", rng.choice(["well", "ill"])) for c in cases.table["case"] for r in range(readers)]
    return Grades(pd.DataFrame(rows, columns=["case", "reader", "modality", "label"]), "label")


def test_fewer_graders_are_nested_draws() -> None:
    grades = answers(cohort(20))
    before: set[tuple[str, str]] = set()
    for k in (1, 2, 3, 5):
        table = fewer_grades(grades, k, seed=2).table
        assert (table.groupby("case").size() == k).all()
        now = set(zip(table["case"], table["reader"], strict=True))
        assert before <= now
        before = now
    used = fewer_grades(grades, 1).table["reader"].value_counts()
    assert len(used) == 5, "each case draws its own reader"


def test_the_majority_becomes_the_label_and_the_first_drawn_breaks_ties() -> None:
    cases = cohort(20)
    grades = answers(cases)
    new, ties = graded(cases, grades)
    share = grades.table.groupby("case")["label"].agg(lambda x: (x == "ill").mean())
    assert list(new.table["label"]) == ["ill" if share[c] > 0.5 else "well" for c in new.table["case"]]
    assert ties == 0
    two = fewer_grades(grades, 2)
    new, ties = graded(cases, two)
    apart = two.table.groupby("case")["label"].nunique() == 2
    assert ties == apart.sum() > 0
    first = two.table.drop_duplicates("case").set_index("case")["label"]
    assert all(new.table.set_index("case")["label"][apart.index[apart]] == first[apart.index[apart]])
    assert len(new) == len(cases)


def test_missing_and_strange_grades_are_told() -> None:
    cases = cohort(20)
    grades = answers(cases.take(np.arange(10)))
    with pytest.raises(InputError, match="no grade"):
        graded(cases, grades)
    strange = Grades(answers(cases).table.assign(label="odd"), "label")
    with pytest.raises(InputError, match="none of the classes"):
        graded(cases, strange)
