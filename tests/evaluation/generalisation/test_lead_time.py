"""AUC over the time before the event, against scikit-learn, a slow restatement, and pairs of models."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from overread.core.errors import ArgumentError, InputError
from overread.evaluation.generalisation.lead_time import WHERE, LeadTime, lead_time, said
from overread.evaluation.ledger import verify
from overread.predictions import Predictions
from overread.stats.discrimination.delong import auc_difference
from overread.tasks.target import Target

TARGET = Target("binary", ("a", "b"), ("b",))
LEADS = (0.0, 0.3, 0.6, 0.9)


def step(lead: float, *, cases: int = 120, strength: float = 3.0, seed: int = 0) -> Predictions:
    """Cases that know the less the earlier; the earlier the fewer; three of a patient."""
    rng = np.random.default_rng([seed, int(100 * lead)])
    truth = np.random.default_rng(1).random(cases) < 0.5
    score = 1 / (1 + np.exp(-(strength * (1 - lead) * truth + rng.normal(size=cases))))
    table = pd.DataFrame({"case": [f"c{i}" for i in range(cases)], "patient": [f"p{i // 3}" for i in range(cases)],
                          "split": "test", "source": "", "label": np.where(truth, "b", "a"), "p:a": 1 - score, "p:b": score})  # fmt: skip
    return Predictions(table.iloc[: cases - int(40 * lead)].reset_index(drop=True), TARGET)


@pytest.fixture(scope="module")
def marked() -> dict[str, float]:
    rng = np.random.default_rng(7)
    return {f"c{i}": (math.nan if i % 10 == 0 else float(rng.uniform(-0.1, 0.5))) for i in range(120)}


@pytest.fixture(scope="module")
def found(marked) -> LeadTime:
    steps = [(lead, step(lead)) for lead in reversed(LEADS)]
    others = [(lead, step(lead, strength=0.4, seed=5)) for lead in LEADS]
    return lead_time(steps, cases=125, marker="marker_time", marked=marked, against=others, rival="single")


def test_each_moment_is_the_auc_of_the_cases_that_were_there(found) -> None:
    assert [m.lead for m in found.moments] == list(LEADS)
    assert [m.auc.images for m in found.moments] == [120, 108, 96, 84]
    for m in found.moments:
        p = step(m.lead)
        assert m.auc.value == pytest.approx(roc_auc_score(p.table["label"] == "b", p.table["p:b"]))
        assert m.auc.low < m.auc.value < m.auc.high
        held = p.table[p.table["case"].isin(step(0.9).table["case"])]
        assert m.same.images == 84
        assert m.same.value == pytest.approx(roc_auc_score(held["label"] == "b", held["p:b"]))


def test_before_the_marker_counts_those_whom_it_does_not_show_yet(found, marked) -> None:
    for m in found.moments:
        p = step(m.lead).table
        late = np.array([math.isnan(marked[c]) or marked[c] < m.lead for c in p["case"]])
        assert m.marked.value == pytest.approx(1 - late.mean())
        assert m.unmarked.images == late.sum()
        if not m.unmarked.undefined:
            assert m.unmarked.value == pytest.approx(roc_auc_score(p["label"][late] == "b", p["p:b"][late]))


def test_the_earliest_time_stops_at_the_first_that_fails(found, marked) -> None:
    clear = [m.auc.low > 0.5 for m in found.moments]
    reached = LEADS[clear.index(False) - 1] if False in clear else LEADS[-1]
    assert found.earliest == reached
    assert found.sooner.value == pytest.approx(np.mean([math.isnan(v) or v < reached for v in marked.values()]))
    seen = np.array([reached - v for v in marked.values() if not math.isnan(v)])
    assert found.gain == pytest.approx(tuple(np.quantile(seen, (0.5, 0.25, 0.75))))
    # an AUC below the bar in between ends the sequence, whatever lies beyond
    gap = [(0.0, step(0.0)), (0.3, step(0.3, strength=0.0, seed=2)), (0.6, step(0.6))]
    assert lead_time(gap).earliest == 0.0
    never = lead_time([(lead, step(lead)) for lead in LEADS], above=0.999)
    assert math.isnan(never.earliest)
    assert said(never)[0].startswith("At no time before the event")


def test_two_models_are_compared_on_the_same_cases_with_holm(found) -> None:
    for m in found.moments:
        one, other = step(m.lead).table, step(m.lead, strength=0.4, seed=5).table
        d = auc_difference(one["label"] == "b", one["p:b"], other["p:b"], one["patient"].to_numpy(str))
        assert (m.difference.value, m.p) == pytest.approx((d.difference.value, d.p))
        assert m.other.value == pytest.approx(roc_auc_score(other["label"] == "b", other["p:b"]))
    p = np.array([m.p for m in found.moments])
    assert min(m.adjusted for m in found.moments) == pytest.approx(min(1, p.min() * len(p)))


def test_it_saves_itself_and_says_who_was_left_out(found, tmp_path) -> None:
    again = LeadTime.load(found.save(tmp_path))
    assert again == found
    at = [e for e in again.estimates if e.where == {WHERE: "0.3"} and e.metric == "auc"]
    assert at == [type(at[0])(**{**vars(found.moments[1].auc), "where": {WHERE: "0.3"}})]
    assert "0.9: 41 cases of 125" in found.table()
    assert "earlier than marker_time in" in found.table()


def test_the_ledger_holds_one_look_for_the_whole_curve(tmp_path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    steps = [(lead, step(lead)) for lead in LEADS]
    assert lead_time(steps, ledger=ledger, model="m", part="test").looks == 0
    assert len(verify(ledger)) == 1
    assert lead_time(steps[:2], ledger=ledger, model="m", part="test").looks == 1


def test_a_rival_is_written_into_both_ledgers_with_its_hash(tmp_path) -> None:
    ledgers = [
        tmp_path / "a" / "ledger.jsonl",
        tmp_path / "b" / "ledger.jsonl",
        tmp_path / "b" / ".." / "b" / "ledger.jsonl",
    ]
    steps, others = ([(lead, step(lead, seed=seed)) for lead in LEADS[:2]] for seed in (0, 5))
    lead_time(steps, against=others, rival="x", ledger=ledgers, model="m", rival_model="r", part="test")
    assert [[e["model"] for e in verify(path)] for path in ledgers[:2]] == [["m against r"], ["m against r"]]
    assert lead_time(others, ledger=ledgers[1], model="r", part="test").looks == 1


def test_the_share_before_the_marker_counts_that_the_time_was_chosen_on_the_same_cases() -> None:
    """The farther of two times is known by a hair: half of the resamples stop at the nearer, where half show the marker."""
    steps = [(lead, step(lead)) for lead in (0.3, 0.6)]
    marks = {f"c{i}": 0.45 if i % 6 < 3 else math.nan for i in range(120)} | {"c0": 0.7}
    far = lead_time(steps, marker="m", marked=marks).sooner
    hair = lead_time(steps).moments[1].auc.low - 1e-4
    near = lead_time(steps, marker="m", marked=marks, above=hair).sooner
    assert near.value == far.value == pytest.approx(107 / 108)
    assert near.high - near.low > 3 * (far.high - far.low)
    assert near.low < 0.5 < 0.9 < far.low
    assert "found in each resample" in near.method


def test_few_patients_are_counted_and_not_judged_and_wrong_calls_are_refused() -> None:
    few = lead_time([(0.0, step(0.0, cases=24))])
    assert few.moments[0].auc.undefined == "fewer than 10 patients"
    assert math.isnan(few.earliest)
    with pytest.raises(ArgumentError, match="each once"):
        lead_time([(0.3, step(0.3)), (0.3, step(0.3))])
    with pytest.raises(ArgumentError, match="same times"):
        lead_time([(0.3, step(0.3))], against=[(0.0, step(0.0))], rival="x")
    with pytest.raises(InputError, match="same cases"):
        lead_time([(0.3, step(0.3))], against=[(0.3, step(0.6))], rival="x")
    value = Predictions(pd.DataFrame({"case": ["a"], "patient": ["a"], "split": "", "source": "", "value": [1.0], "predicted": [1.0]}), Target("quantity", ("age",)))  # fmt: skip
    with pytest.raises(InputError, match="a quantity has none"):
        lead_time([(0.0, value)])
