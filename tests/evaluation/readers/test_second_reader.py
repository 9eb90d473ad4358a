"""A model against the readers of a double reading, held against counts by hand, and against what is random."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from overread.cases.annotators import Grades
from overread.core.errors import InputError
from overread.evaluation.comparison.claims import declare
from overread.evaluation.ledger import verify
from overread.evaluation.operating_point import choose_threshold
from overread.evaluation.readers.second_reader import MODEL_SECOND, declarations, judge_second_reader, specificity_on
from overread.predictions import Predictions
from overread.synthetic.mammograms import _readers
from overread.tasks.target import Target

TARGET = Target("binary", ("normal", "cancer"), ("cancer",))


def women(seed: int, many: int, distance: float, name: str) -> tuple[Predictions, Grades, pd.DataFrame]:
    """Women of two sites, the readers of the phantom, and a model whose scores lie so far apart."""
    rng = np.random.default_rng(seed)
    ill, density = rng.random(many) < 0.4, rng.integers(0, 4, many)
    calls, _ = _readers(seed, ill, density)
    score = 1 / (1 + np.exp(-rng.normal(size=many) - distance * ill))
    label = np.where(ill, "cancer", "normal")
    cases = [f"{name}{i}" for i in range(many)]
    table = pd.DataFrame({"case": cases, "patient": cases, "split": name, "source": np.where(rng.random(many) < 0.5, "UK", "US"),
                          "label": label, "p:normal": 1 - score, "p:cancer": score})  # fmt: skip
    said = pd.DataFrame({"case": np.tile(cases, 3), "reader": np.repeat(list(calls), many),
                         "label": np.where(np.concatenate(list(calls.values())), "cancer", "normal")})  # fmt: skip
    facts = pd.DataFrame({"ill": ill, **calls, "score": score, "source": table["source"]})
    return Predictions(table, TARGET), Grades(said.assign(modality=""), "label"), facts


def judged(distance: float, **named):
    tuning, _, _ = women(1, 400, distance, "tuning")
    test, grades, facts = women(2, 600, distance, "test")
    at = choose_threshold(tuning, specificity=0.92)
    return judge_second_reader(test, grades, at=at, resamples=200, **named), facts, at


def test_the_paper_s_table_counted_by_hand() -> None:
    found, facts, at = judged(3.0)
    model = facts["score"] >= at.threshold
    table = found.to_table()
    assert list(table["against"]) == [r for r in ("first", "second", "consensus") for _ in range(3)]
    assert list(table["source"][:3]) == ["all", "UK", "US"]
    for row in table.to_dict("records"):
        some = facts if row["source"] == "all" else facts[facts["source"] == row["source"]]
        ill, reader, called = some["ill"], some[row["against"]].astype(bool), model[some.index]
        assert row["fewer false negatives"] == pytest.approx(
            (~reader & ill).sum() / ill.sum() - (~called & ill).sum() / ill.sum()
        )
        assert row["fewer false positives"] == pytest.approx(
            ((reader & ~ill).sum() - (called & ~ill).sum()) / (~ill).sum()
        )
        assert row["cases"] == len(some)
        assert row["fewer false positives: low"] <= row["fewer false positives"] <= row["fewer false positives: high"]
    first = found.contrasts[0].differences[0]
    ill = facts["ill"]
    a, b = model[ill], facts["first"][ill].astype(bool)
    exact = mcnemar([[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]], exact=True)
    assert first.p == pytest.approx(exact.pvalue, rel=0.3)


def test_where_the_model_reads_second_it_saves_what_it_agrees_on() -> None:
    found, facts, at = judged(3.0)
    model, first = facts["score"] >= at.threshold, facts["first"].astype(bool)
    assert found.saved.value == pytest.approx((model == first).mean())
    assert found.saved.low < found.saved.value < found.saved.high
    called = np.where(model == first, first, facts["consensus"].astype(bool))
    sensitivity, specificity, reads = found.workflow[MODEL_SECOND]
    assert sensitivity.value == pytest.approx(called[facts["ill"]].mean())
    assert specificity.value == pytest.approx(1 - called[~facts["ill"]].mean())
    apart = model != first
    assert reads.value == pytest.approx(1 + (apart * (1 + (first != facts["second"]))).mean())
    clinic, _, _ = judged(3.0, prevalence=0.01)
    agree = model == first
    assert clinic.saved.value == pytest.approx(0.01 * agree[facts["ill"]].mean() + 0.99 * agree[~facts["ill"]].mean())


def test_a_good_model_keeps_second_reader_and_a_random_one_is_not_said_to() -> None:
    good, bad = judged(3.5)[0], judged(0.0)[0]
    assert good.keeps
    assert not bad.keeps
    against = {c.reader: c for c in good.contrasts if not c.source}
    assert all(v.claim.shown for v, _ in against["first"].claims)
    assert against["first"].claims[0][1].shown  # better in sensitivity
    assert not any(v.claim.shown for c in bad.contrasts for v, _ in c.claims[:1])
    assert good.saved.value > bad.saved.value


def test_the_margin_counts_as_declared_only_before_the_first_look(tmp_path) -> None:
    early, late = tmp_path / "early" / "ledger.jsonl", tmp_path / "late" / "ledger.jsonl"
    for declaration in declarations(0.05):
        assert declare(early, declaration)
    found, _, _ = judged(3.0, ledger=early)
    assert {v.status for c in found.contrasts for v, _ in c.claims} == {"pre-declared"}
    assert not any("post hoc" in line for line in found.cautions)
    judged(3.0, ledger=late, margin=0.1)
    again, _, _ = judged(3.0, ledger=late, margin=0.05)
    assert {v.status for c in again.contrasts for v, _ in c.claims} == {"not pre-declared (post hoc)"}
    assert any("post hoc" in line for line in again.cautions)
    assert again.looks == 1
    assert [e["kind"] for e in verify(late)] == ["declaration", "declaration", "look", "look"]


def test_it_is_saved_and_missing_roles_are_named(tmp_path) -> None:
    found, _, at = judged(3.0)
    held = json.loads((found.save(tmp_path) / "second_reader.json").read_text())
    assert held["cases"] == 600
    assert len(held["contrasts"]) == 10
    assert pd.read_csv(tmp_path / "second_reader.csv").shape == (9, 13)
    estimates = json.loads((tmp_path / "metrics.json").read_text())
    assert sum(e["metric"] == "sensitivity difference" for e in estimates) == 10
    test, grades, facts = women(2, 600, 3.0, "test")
    with pytest.raises(InputError, match="no such reader.*--first"):
        judge_second_reader(test, grades, at=at, roles=("first", "zweite", "consensus"))
    few = Grades(grades.table[(grades.table["reader"] != "second") | (grades.table.index % 3 > 0)], "label")
    lost = judge_second_reader(test, few, at=at, resamples=50)
    assert 0 < lost.left_out < 600
    assert any("are left out" in line for line in lost.cautions)
    assert specificity_on(test, grades, "first") == pytest.approx(1 - facts["first"][~facts["ill"]].mean())
