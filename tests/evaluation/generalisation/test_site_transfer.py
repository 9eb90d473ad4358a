"""The matrix of sites against scikit-learn and slow restatements; the coverage of internal minus external."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from overread.core.errors import InputError
from overread.evaluation.generalisation.site_transfer import Shift, by_source, read_shift, said, shift_matrix, teachers
from overread.evaluation.ledger import verify
from overread.predictions import Predictions
from overread.stats.discrimination.roc import auc
from overread.stats.estimate import independent_difference
from overread.stats.hypotheses import holm
from overread.tasks.target import Target

TARGET = Target("binary", ("well", "ill"), ("ill",))


def judged_at(
    source: str, area: float, seed: int, *, patients: int = 60, images: int = 2, rate: float = 0.4
) -> Predictions:
    rng = np.random.default_rng(seed)
    ill = np.repeat(rng.random(patients) < rate, images)
    hard = np.repeat(rng.normal(size=patients), images)
    score = norm.cdf(np.sqrt(0.5) * (hard + rng.normal(size=len(ill))) + norm.ppf(area) * np.sqrt(2) * ill)
    table = pd.DataFrame({"case": [f"{source}{i}" for i in range(len(ill))], "patient": [f"{source}p{i // images}" for i in range(len(ill))],
                          "split": "test", "source": source, "label": np.where(ill, "ill", "well"), "p:well": 1 - score, "p:ill": score})  # fmt: skip
    return Predictions(table, TARGET)


def matrix(seed: int = 0, *, home: float = 0.95, away: float = 0.8, sites=("a", "b", "c"), **how):
    return {
        (t, s): judged_at(s, home if t == s else away, 100 * seed + 10 * i + j, **how)
        for i, t in enumerate(sites)
        for j, s in enumerate(sites)
    }


def area(*parts: Predictions) -> float:
    return roc_auc_score(np.concatenate([p.truth == 1 for p in parts]), np.concatenate([p.scores[:, 1] for p in parts]))


def test_every_field_and_both_pools_as_scikit_learn_tells_them() -> None:
    results = matrix()
    found = shift_matrix(results)
    assert (found.trained, found.sources) == (("a", "b", "c"), ("a", "b", "c"))
    for (t, s), p in results.items():
        e = found.cell(t, s)
        assert e.value == pytest.approx(area(p), abs=1e-12)
        assert (e.images, e.patients) == (120, 60)
    for g in found.gaps:
        others = [p for (t, s), p in results.items() if t == g.trained_on and s != t]
        assert g.internal.value == pytest.approx(area(results[g.trained_on, g.trained_on]), abs=1e-12)
        assert g.external.value == pytest.approx(area(*others), abs=1e-12)
        assert g.external.patients == 120
        assert g.gap.value == pytest.approx(g.internal.value - g.external.value)
    assert [c.inside for c in found.cells] == [c.trained_on == c.source for c in found.cells]


def test_the_gap_is_that_of_two_independent_estimates_and_holm_corrects_it() -> None:
    results = matrix()
    found = shift_matrix(results)
    wanted = []
    for name in ("a", "b", "c"):
        inside = results[name, name]
        outside = pd.concat([p.table for (t, s), p in results.items() if t == name and s != name])
        first = auc(inside.truth == 1, inside.scores[:, 1], inside.patients)
        second = auc(outside["label"] == "ill", outside["p:ill"], outside["patient"].to_numpy())
        wanted.append(independent_difference(first, second))
    for g, w, q in zip(found.gaps, wanted, holm([w.p for w in wanted]), strict=True):
        assert (g.gap.low, g.gap.high, g.p) == pytest.approx((w.difference.low, w.difference.high, w.p), abs=1e-12)
        assert g.adjusted == pytest.approx(q)
    assert "Worse elsewhere than at home" in said(found)[-1]


def test_a_loss_is_worse_when_it_is_larger() -> None:
    found = shift_matrix(matrix(patients=150), metric="brier", resamples=200)
    assert all(g.gap.value < 0 for g in found.gaps)
    assert "Worse elsewhere" in said(found)[-1]


def test_few_patients_are_counted_not_judged_but_belong_to_the_pool() -> None:
    results = matrix(sites=("a", "b"))
    results["a", "c"], results["b", "c"] = (judged_at("c", 0.8, s, patients=8) for s in (5, 6))
    found = shift_matrix(results)
    e = found.cell("a", "c")
    assert e.undefined == "fewer than 10 patients"
    assert (e.patients, e.images) == (8, 16)
    assert found.gaps[0].external.patients == 68
    alone = shift_matrix({("a", "a"): judged_at("a", 0.9, 1), ("a", "c"): judged_at("c", 0.8, 2, patients=8)})
    assert "fewer than 10" in alone.gaps[0].gap.undefined
    assert math.isnan(alone.gaps[0].adjusted)
    assert "Too few" in said(alone)[-1]


def test_a_patient_of_both_kinds_of_sites_is_left_out_of_the_external() -> None:
    results = matrix(sites=("a", "b"))
    both = results["a", "b"].table["patient"].replace({"bp0": "ap0", "bp1": "ap1"})
    results["a", "b"] = replace(results["a", "b"], table=results["a", "b"].table.assign(patient=both))
    g = shift_matrix(results).gaps[0]
    assert g.shared == 2
    assert g.external.patients == 58
    assert g.internal.patients == 60


def test_one_class_wild_scores_and_nothing() -> None:
    results = matrix(sites=("a", "b"))
    p = results["a", "a"]
    sick = {**results, ("a", "a"): p.take(p.truth == 1)}
    assert shift_matrix(sick).gaps[0].gap.undefined
    wild = {**results, ("a", "a"): replace(p, table=p.table.assign(**{"p:ill": np.nan}))}
    found = shift_matrix(wild)
    assert "not finite" in found.cell("a", "a").undefined
    assert "undefined" in str(found)
    with pytest.raises(InputError):
        shift_matrix({})
    other = replace(p, target=Target("binary", ("well", "ill"), ("well",)))
    assert shift_matrix({("a", "a"): other}).of == "well"


def test_all_but_one_site_knows_its_teachers() -> None:
    results = matrix() | {("all but a", s): judged_at(s, 0.85, i) for i, s in enumerate("abc")}
    found = shift_matrix(results, trained={"all but a": ("b", "c")})
    g = next(g for g in found.gaps if g.trained_on == "all but a")
    assert (g.internal.patients, g.external.patients) == (120, 60)
    assert found.cell("all but a", "a").value == pytest.approx(g.external.value)
    assert teachers("all but a", ["a", "b", "c"]) == ("b", "c")
    assert teachers("all", ["a", "b"]) == ("a", "b")


def test_one_model_and_its_sources() -> None:
    every = [judged_at("a", 0.95, 1), judged_at("b", 0.8, 2), judged_at("c", 0.8, 3)]
    test = Predictions(pd.concat([p.table for p in every], ignore_index=True), TARGET)
    results, trained = by_source(test, ["a", "b"], name="ours")
    g = shift_matrix(results, trained=trained).gaps[0]
    assert g.internal.value == pytest.approx(area(*every[:2]))
    assert g.external.value == pytest.approx(area(every[2]))
    with pytest.raises(InputError, match="no prediction is from"):
        by_source(test, ["north"])
    with pytest.raises(InputError, match="two or more"):
        by_source(every[0], ["a"])


def test_a_table_with_a_column_for_the_training_site(tmp_path) -> None:
    results = matrix()
    table = pd.concat([p.table.assign(trained_on=t) for (t, _), p in results.items()])
    table.drop(columns="p:well").to_csv(tmp_path / "p.csv", index=False)
    read, trained = read_shift(tmp_path / "p.csv")
    assert set(read) == set(results)
    assert trained == {s: (s,) for s in "abc"}
    assert str(shift_matrix(read, trained=trained)) == str(shift_matrix(results))
    assert list(read["a", "b"].table["case"]) == list(results["a", "b"].table["case"])
    with pytest.raises(InputError, match="trained_with"):
        read_shift(tmp_path / "p.csv", trained_on="trained_with")
    with pytest.raises(InputError, match="do not exist"):
        read_shift(tmp_path / "q.csv")
    table = pd.concat([table, table[table["trained_on"] == "a"]])
    table.to_csv(tmp_path / "twice.csv", index=False)
    with pytest.raises(InputError, match="more than one prediction"):
        read_shift(tmp_path / "twice.csv")


def test_saved_and_loaded_it_is_the_same(tmp_path) -> None:
    results = matrix() | {("a", "d"): judged_at("d", 0.8, 3, patients=4)}
    found = shift_matrix(results, ledger=tmp_path / "l.jsonl", models={"a": "hash"}, part="test")
    found.save(tmp_path)
    again = Shift.load(tmp_path)
    assert str(again) == str(found)
    assert again.cell("a", "b") == found.cell("a", "b")
    assert [e["model"] for e in verify(tmp_path / "l.jsonl")] == ["hash", "", ""]
    assert len(found.estimates) == 10 + 6 + 3


def hits(runs: int, **how) -> float:
    inside = 0
    for seed in range(runs):
        results = {
            ("a", "a"): judged_at("a", 0.9, 10 * seed, **how),
            ("a", "b"): judged_at("b", 0.8, 10 * seed + 1, **how),
        }
        gap = shift_matrix(results).gaps[0].gap
        inside += gap.low <= 0.1 <= gap.high
    return inside / runs


@pytest.mark.slow
@pytest.mark.parametrize(
    "how", [{"patients": 60}, {"patients": 25, "images": 1}, {"patients": 150, "images": 3, "rate": 0.2}]
)
def test_the_gaps_interval_holds_what_it_says(how) -> None:
    assert 0.925 <= hits(1500, **how) <= 0.975
