from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import overread as ov
from overread.cases.cases import Cases
from overread.cases.split import leaked, without
from overread.core.errors import ArgumentError, InputError, UnsoundError

from .conftest import cohort, made


def parts_of(cases: Cases, made_split: ov.Split) -> pd.Series:
    return cases.table["case"].map(made_split.table.set_index("case")["part"])


def patients_shared(cases: Cases, made_split: ov.Split) -> int:
    """By definition, one patient after the other."""
    part = parts_of(cases, made_split)
    return sum(part[cases.table["patient"] == p].dropna().nunique() > 1 for p in cases.table["patient"].unique())


@pytest.fixture(scope="module")
def cases() -> Cases:
    return cohort(300)


def test_no_patient_is_in_two_parts_and_all_are_in_one(cases):
    made_split = ov.split(cases)
    assert patients_shared(cases, made_split) == 0
    assert sum(len(made_split.rows(cases, p)) for p in ("train", "tuning", "test")) == len(cases)
    assert made_split.proof["patients shared"] == made_split.proof["duplicate groups shared"] == 0
    assert len(cases.only(made_split, "test")) == len(made_split.rows(cases, "test"))


def test_shares_and_strata(cases):
    made_split = ov.split(cases, test=0.2, tuning=0.1)
    for share, part in ((0.7, "train"), (0.1, "tuning"), (0.2, "test")):
        assert made_split.counts()[part]["patients"] == pytest.approx(share * cases.patients, abs=4)
        for name, count in made_split.proof["parts"][part]["classes"].items():
            total = cases.table["patient"][cases.table["label"] == name].nunique()
            assert count == pytest.approx(share * total, abs=1.5)
    shares = [
        made_split.proof["parts"][p]["sources"]["x"] / made_split.proof["parts"][p]["images"] for p in ("train", "test")
    ]
    assert shares[0] == pytest.approx(shares[1], abs=0.06)


@given(seed=st.integers(0, 1000), order=st.integers(0, 1000))
@settings(max_examples=12, deadline=None)
def test_the_order_of_rows_does_not_matter(seed, order):
    cases = cohort(60)
    shuffled = cases.take(np.random.default_rng(order).permutation(len(cases)))
    for options in ({}, {"deploy_to": "source == x"}, {"leave_out": "y"}):
        assert ov.split(shuffled, seed=seed, **options) == ov.split(cases, seed=seed, **options)
    there = pd.Series(ov.folds(cases, k=4, seed=seed), index=cases.table["case"])
    back = pd.Series(ov.folds(shuffled, k=4, seed=seed), index=shuffled.table["case"])
    assert there.to_dict() == back.to_dict()


def test_another_seed_is_another_split(cases):
    assert ov.split(cases, seed=1) != ov.split(cases, seed=2)
    assert ov.split(cases, seed=1) == ov.split(cases, seed=1)


def test_a_rare_class_reaches_every_part():
    cases = made({"label": ["a"] * 60 + ["b"] * 3, "source": ["x", "y", "z"] * 21}, "classes", ("a", "b"))
    for seed in range(10):
        assert [ov.split(cases, seed=seed).proof["parts"][p]["classes"]["b"] for p in ("train", "tuning", "test")] == [
            1,
            1,
            1,
        ]


def test_a_patient_with_several_labels():
    rng = np.random.default_rng(0)
    patient = rng.integers(0, 80, 300)
    cases = made(
        {"patient": [f"p{i}" for i in patient], "label": rng.choice(["a", "b", "c"], 300)}, "classes", ("a", "b", "c")
    )
    made_split = ov.split(cases)
    assert patients_shared(cases, made_split) == 0
    assert min(n for p in made_split.proof["parts"].values() for n in p["classes"].values()) >= 3


def test_several_findings_are_stratified():
    rng = np.random.default_rng(1)
    prevalence = np.array([0.4, 0.1, 0.03])
    labels = (rng.uniform(size=(600, 3)) < prevalence).astype(float)
    labels[rng.uniform(size=labels.shape) < 0.1] = np.nan
    rows = {"patient": [f"p{i // 2}" for i in range(600)]} | {f"label:f{k}": labels[:, k] for k in range(3)}
    cases = made(rows, "findings", ("f0", "f1", "f2"))
    proof = ov.split(cases).proof
    for k in range(3):
        total = cases.table["patient"][labels[:, k] == 1].nunique()
        assert proof["parts"]["test"]["classes"][f"f{k}"] == pytest.approx(0.2 * total, abs=0.05 * total + 2)
    assert proof["patients shared"] == 0


def test_a_quantity_is_stratified_by_fifths():
    value = np.random.default_rng(0).normal(size=500)
    cases = made({"value": value}, "quantity", ("age",))
    made_split = ov.split(cases)
    means = [value[made_split.rows(cases, p)].mean() for p in ("train", "tuning", "test")]
    assert np.ptp(means) < 0.2
    assert "classes" not in made_split.proof["parts"]["test"]


def test_duplicates_stay_together(cases):
    some = cases.table["case"].tolist()
    pairs = tuple((a, b, "exact" if i % 2 else "near") for i, (a, b) in enumerate(zip(some[:40:2], some[200:240:2])))
    found = ov.Audit((), pairs=pairs)
    made_split = ov.split(cases, audit=found)
    where = made_split.table.set_index("case")["part"]
    assert all(where[a] == where[b] for a, b, _ in pairs)
    assert patients_shared(cases, made_split) == 0
    fold = pd.Series(ov.folds(cases, audit=found), index=cases.table["case"])
    assert all(fold[a] == fold[b] for a, b, _ in pairs)


def test_what_cannot_be_used_is_in_no_part():
    cases = made({"label": ["no", "yes"] * 20 + [""] * 3})
    found = ov.Audit((), excluded=(("c0", "unreadable: c0.png is damaged"), ("c40", "no label")))
    made_split = ov.split(cases, audit=found)
    assert set(cases.table["case"]) - set(made_split.table["case"]) == {"c0", "c40", "c41", "c42"}
    assert made_split.proof["left out"] == {"unreadable": 1, "no label": 3}


def test_deploy_to(cases):
    made_split = ov.split(cases, deploy_to="source == 'x'", test=0.3, tuning=0.1)
    part, source = parts_of(cases, made_split), cases.table["source"]
    assert set(source[part != "train"]) == {"x"}
    there = cases.table["patient"][source == "x"].groupby(part[source == "x"]).nunique()
    assert there["train"] > there["tuning"] + there["test"]
    assert there["test"] > there["tuning"] > 0
    assert any("smaller than asked" in w for w in made_split.proof["warnings"])
    images = pd.Series(part[source == "x"]).value_counts()
    assert images["train"] > images["tuning"] + images["test"]


def test_deploy_to_keeps_to_the_shares_where_it_can(cases):
    made_split = ov.split(cases, deploy_to="source == 'x'", test=0.05, tuning=0.05)
    assert made_split.counts()["test"]["patients"] == pytest.approx(0.05 * cases.patients, abs=3)
    assert made_split.proof["warnings"] == [w for w in made_split.proof["warnings"] if w.startswith("no patient")]


def test_deploy_to_says_which_class_is_missing_there():
    cases = made(
        {"label": ["a", "b"] * 30 + ["a", "b", "c"] * 10, "source": ["x"] * 60 + ["y"] * 30}, "classes", ("a", "b", "c")
    )
    warnings = ov.split(cases, deploy_to="source == x").proof["warnings"]
    assert any(w.startswith("no case of c in source == x") for w in warnings)


def test_a_patient_of_two_sources_trains():
    cases = made(
        {
            "label": ["no", "yes"] * 30,
            "patient": ["p0", "p0", *(f"p{i}" for i in range(1, 59))],
            "source": ["x", "y"] + ["x"] * 40 + ["y"] * 18,
        }
    )
    made_split = ov.split(cases, deploy_to="source == x")
    assert parts_of(cases, made_split)[:2].tolist() == ["train", "train"]


@pytest.mark.parametrize(
    ("query", "error"), [("source == zzz", UnsoundError), ("site == x", InputError), ("source == 'x", InputError)]
)
def test_deploy_to_nowhere(cases, query, error):
    with pytest.raises(error):
        ov.split(cases, deploy_to=query)


def test_a_column_read_as_a_role_is_asked_for_by_its_role(cases):
    with pytest.raises(InputError, match="read as one of .*source.* goes by that name"):
        ov.split(cases, deploy_to="dataset == 'x'")


def test_leave_one_source_out(cases):
    table = cases.table.copy()
    table.loc[[0, 1, 2], "patient"] = "both"
    table.loc[[0, 1, 2], "source"] = ["x", "y", "y"]
    cases = Cases(table, cases.target)
    made_split = ov.split(cases, leave_out="x")
    part = parts_of(cases, made_split)
    assert (part[cases.table["source"] == "x"] == "test").all()
    assert part[[1, 2]].isna().all()
    assert made_split.proof["left out"] == {"another source of a tested patient": 2}
    assert made_split.proof["patients shared"] == 0
    assert made_split.counts()["tuning"]["patients"] > 10
    with pytest.raises(InputError, match="Choose from x, y|id you mean"):
        ov.split(cases, leave_out="X1")


@pytest.mark.parametrize("when", [lambda i: f"20{i % 20 + 10}-03-1{i % 9}", lambda i: str((i * 37) % 101)])
def test_by_time(when):
    cases = made({"label": ["no", "yes"] * 50, "time": [when(i) for i in range(100)]})
    made_split = ov.split(cases, by_time=True)
    key = pd.to_numeric(cases.table["time"].str.replace("-", ""))
    part = parts_of(cases, made_split)
    assert (
        key[part == "train"].max()
        <= key[part == "tuning"].min()
        <= key[part == "tuning"].max()
        <= key[part == "test"].min()
    )
    assert made_split.counts()["test"]["cases"] == 20


def test_by_time_needs_a_time():
    with pytest.raises(InputError, match="3 cells are blank or no date"):
        ov.split(made({"label": ["no", "yes"] * 5, "time": ["2020"] * 7 + ["", "soon", ""]}), by_time=True)


GIVEN = ["train"] * 30 + ["tuning"] * 10 + ["test"] * 20


def test_a_given_split_is_kept_and_cleaned():
    patients = [f"p{i}" for i in range(60)]
    patients[0] = patients[45]  # in train and test
    patients[31] = patients[1]  # in train and tuning
    cases = made({"label": ["no", "yes"] * 30, "split": GIVEN, "patient": patients})
    found = ov.Audit((), pairs=(("c10", "c50", "exact"), ("c33", "c55", "near")))
    made_split = ov.split(cases, audit=found)
    assert parts_of(cases, made_split).tolist() == GIVEN
    assert made_split.proof["given"]
    assert (made_split.proof["patients shared"], made_split.proof["duplicate groups shared"]) == (2, 4)
    drop = leaked(cases, made_split, found)
    assert drop == {"c0", "c1", "c10", "c33"}
    clean = without(cases, made_split, drop, found)
    assert clean.counts()["test"]["cases"] == 20
    assert (clean.proof["patients shared"], clean.proof["duplicate groups shared"]) == (0, 0)
    assert clean.proof["left out"] == {"also in a later part of the given split": 4}
    assert leaked(cases, clean, found) == frozenset()


def test_a_given_split_without_tuning_gets_one_from_train():
    cases = made(
        {
            "label": ["no", "yes"] * 50,
            "split": ["train"] * 80 + ["test"] * 20,
            "patient": [f"p{i // 2}" for i in range(100)],
        }
    )
    made_split = ov.split(cases)
    part = parts_of(cases, made_split)
    assert (part[80:] == "test").all()
    assert (part == "tuning").sum() == pytest.approx(8, abs=2)
    assert patients_shared(cases, made_split) == 0


def test_a_given_split_without_test_and_one_with_blanks():
    cases = made({"label": ["no", "yes"] * 50, "split": ["train"] * 70 + ["tuning"] * 25 + [""] * 5})
    made_split = ov.split(cases)
    assert made_split.counts()["test"]["cases"] == 25
    assert "taken as the test" in made_split.method
    assert made_split.proof["left out"] == {"in no part of the given split": 5}
    assert ov.split(cases, keep_given=False).counts()["test"]["cases"] == 20


def test_by_another_column_keeps_it_whole(cases):
    table = cases.table.assign(family=cases.table["patient"].str[1:].astype(int) // 5)
    families = Cases(table, cases.target)
    part = parts_of(families, ov.split(families, by="family"))
    assert part.groupby(families.table["family"]).nunique().max() == 1


def test_a_giant_patient_trains():
    cases = made({"label": ["no", "yes"] * 100, "patient": ["giant"] * 120 + [f"p{i}" for i in range(80)]})
    made_split = ov.split(cases)
    assert set(parts_of(cases, made_split)[:120]) == {"train"}
    assert any("too large" in w for w in made_split.proof["warnings"])


@pytest.mark.parametrize(
    ("rows", "says"),
    [({"label": ["no"] * 20}, "same label"), ({"label": ["no", "yes"] * 9, "patient": ["SECRET"] * 18}, "one patient"),
     ({"label": ["no", "yes"] * 9, "patient": ["SECRET", "b"] * 9}, "fewer than three"), ({"label": [""] * 4}, "no case with a label")],
)  # fmt: skip
def test_unsound(rows, says):
    with pytest.raises(UnsoundError, match=says) as caught:
        ov.split(made(rows))
    assert "SECRET" not in str(caught.value)


def test_bad_arguments(cases):
    for options in (
        {"test": 0.0},
        {"test": 0.6, "tuning": 0.4},
        {"seed": -1},
        {"deploy_to": "source == x", "by_time": True},
    ):
        with pytest.raises(ArgumentError):
            ov.split(cases, **options)
    with pytest.raises(InputError, match="id you mean 'patient'"):
        ov.split(cases, by="patients")
    with pytest.raises(ArgumentError, match="no such part"):
        ov.split(cases).rows(cases, "training")


def test_a_round_trip_and_an_edit(cases, tmp_path):
    made_split = ov.split(cases)
    path = made_split.save(tmp_path / "split.csv")
    again = ov.Split.load(path)
    assert again == made_split
    assert hash(again) == hash(made_split)
    assert again.proof == made_split.proof
    assert (tmp_path / "split.proof.json").exists()
    path.write_text(path.read_text(encoding="utf-8").replace(",test", ",train", 1), encoding="utf-8")
    with pytest.raises(InputError, match="does not match its proof"):
        ov.Split.load(path)


def test_folds(cases):
    fold = ov.folds(cases, k=5)
    assert set(fold) == {0, 1, 2, 3, 4}
    assert pd.Series(fold).groupby(cases.table["patient"]).nunique().max() == 1
    for k in range(3):
        counts = np.bincount(fold[cases.labels == k], minlength=5)
        assert counts.max() - counts.min() <= 0.35 * counts.mean() + 3
    some = ov.folds(cases, k=3, rows=np.arange(50))
    assert (some[50:] == -1).all()
    assert (some[:50] >= 0).all()
    with pytest.raises(UnsoundError, match="independent patients"):
        ov.folds(cases.take(np.arange(6)), k=5)
