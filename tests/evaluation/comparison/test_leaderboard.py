"""Several systems on the same cases: places, differences, Holm, looks, and what cannot be ranked."""

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

import overread as ov
from overread.core.errors import ArgumentError, InputError, UnsoundError
from overread.evaluation.comparison.compare import compare
from overread.evaluation.comparison.leaderboard import leaderboard
from overread.evaluation.ledger import verify


def noisy(test, amount, seed=0):
    """The same cases by a system that is worse by so much."""
    logits = np.log(test.scores) + amount * np.random.default_rng(seed).normal(size=test.scores.shape)
    chance = np.exp(logits - logits.max(axis=1, keepdims=True))
    return test.with_scores(chance / chance.sum(axis=1, keepdims=True))


@pytest.fixture
def three(predictions):
    def made(kind="binary", **more):
        test = predictions(kind, **more)
        return {"worst": noisy(test, 3), "best": test, "middle": noisy(test, 1)}

    return made


@pytest.mark.parametrize(("kind", "metric"), [("binary", "auc"), ("classes", "balanced accuracy"), ("findings", "macro auc")])  # fmt: skip
def test_places_values_and_differences_are_those_of_compare(three, kind, metric):
    tables = three(kind, patients=100)
    board = leaderboard(tables, metric=metric if kind == "classes" else "", resamples=50)
    assert board.systems == ("best", "middle", "worst")
    assert board.reference == "best"
    assert (board.metric, board.metrics[0][0]) == (metric, metric)
    for name in ("worst", "middle"):
        pair = compare(tables[name], tables["best"], resamples=50)
        for m, of in board.metrics:
            assert board.difference(name, m, of).value == pytest.approx(pair[m, of].difference.value, nan_ok=True)
            assert board.value(name, m, of).value == pytest.approx(pair[m, of].first.value, nan_ok=True)
    alone = ov.evaluate(tables["best"], resamples=50)
    assert board.value("best", *board.metrics[0]).value == pytest.approx(alone[board.metrics[0]].value)
    assert any("flattered by that choice" in caution for caution in board.cautions)


def test_p_values_are_corrected_over_the_whole_board(three):
    board = leaderboard(three(patients=100), resamples=50)
    known = [s for s in board.standings if np.isfinite(s.p)]
    expected = multipletests([s.p for s in known], method="holm")[1]
    assert [s.adjusted for s in known] == pytest.approx(expected.tolist())


def test_the_reference_may_be_named(three):
    tables = three(patients=80)
    assert leaderboard(tables, against="first", resamples=50).reference == "worst"
    board = leaderboard(tables, against="middle", resamples=50)
    assert board.reference == "middle"
    assert board.difference("best", *board.metrics[0]).value > 0
    assert not any("flattered" in caution for caution in board.cautions)
    with pytest.raises(ArgumentError):
        leaderboard(tables, against="nobody")


def test_errors_rank_from_the_smallest(predictions):
    test = predictions("quantity")
    board = leaderboard({"far": test.with_scores(test.scores + 9), "near": test}, resamples=50)
    assert board.metric == "mae"
    assert board.systems[0] == "near"


def test_only_cases_that_all_have_count_and_the_rest_is_said(three):
    tables = three(patients=80)
    tables["middle"] = tables["middle"].take(np.arange(len(tables["middle"]))[::-1][:100])
    board = leaderboard(tables, resamples=50)
    assert board.images == 100
    assert "60 cases of best are not in every table and are left out" in board.cautions
    assert leaderboard(tables, resamples=50) == board


def test_systems_that_share_no_case_cannot_be_ranked(predictions):
    with pytest.raises(InputError, match="no case in common"):
        leaderboard({"a": predictions(), "b": predictions(prefix="other")})
    with pytest.raises(ArgumentError, match="two systems"):
        leaderboard({"a": predictions()})
    with pytest.raises(InputError, match="different"):
        leaderboard({"a": predictions(), "b": predictions("classes")})


def test_each_system_is_called_by_its_own_rule(predictions):
    tuning, test = predictions("classes", prefix="tune"), predictions("classes", patients=80)
    rule = ov.choose_decision(tuning, rule="prior")
    board = leaderboard({"plain": test, "ruled": noisy(test, 0.5)}, at={"ruled": rule}, resamples=50)
    assert dict(zip(board.systems, board.called_by, strict=True)) == {"plain": "largest probability", "ruled": rule.called_by}  # fmt: skip
    by_calls = leaderboard({"plain": test, "ruled": test}, at={"ruled": rule}, metric="accuracy", resamples=50)
    assert by_calls.value("ruled", "accuracy").value == ov.evaluate(test, at=rule, resamples=50)["accuracy", ""].value
    with pytest.raises(UnsoundError, match="choose the decision rule"):
        leaderboard({"plain": tuning, "ruled": noisy(tuning, 0.5)}, at={"ruled": rule}, allow_seen=True)


def test_each_ledger_gets_one_look_and_none_where_nothing_could_be_ranked(three, tmp_path):
    tables = three(patients=80)
    ledgers = {name: tmp_path / name / "ledger.jsonl" for name in tables}
    with pytest.raises(InputError):
        leaderboard(tables, metric="luck", ledgers=ledgers)
    assert not any(path.exists() for path in ledgers.values())
    assert leaderboard(tables, ledgers=ledgers, resamples=50).looks == (0, 0, 0)
    assert [len(verify(path)) for path in ledgers.values()] == [1, 1, 1]
    again = leaderboard(tables, ledgers=ledgers, resamples=50)
    assert again.looks == (1, 1, 1)
    assert any(note.startswith("looks at these test cases before: 1 in the ledger of best") for note in again.cautions)


def test_rows_hold_every_number_once(three):
    board = leaderboard(three(patients=80), resamples=50)
    rows = board.to_frame()
    assert len(rows) == 3 * len(board.metrics)
    assert rows.loc[rows["system"] == "best", "p holm"].isna().all()
    assert "minus best" in str(board)
