"""Declarations and what becomes of them."""

from __future__ import annotations

import pytest

from overread.core.errors import ArgumentError, InputError
from overread.evaluation.comparison.claims import Declaration, declare, declared_at_first, look, met, standing, subject
from overread.evaluation.ledger import record_look, verify
from overread.stats.estimate import Estimate

AUC = Declaration("auc", 0.05)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.jsonl"


def test_a_margin_is_read_from_a_study():
    assert Declaration.read(0.05, "auc") == AUC
    assert Declaration.read(0.05, "auc: mel", "equivalence", 0.9) == Declaration(
        "auc", 0.05, "equivalence", 0.05, "mel"
    )


@pytest.mark.parametrize("wrong", [
    {"metric": "brier"}, {"margin": 0.0}, {"margin": -0.1}, {"margin": 1.0}, {"claim": "better"}, {"alpha": 0.0},
])  # fmt: skip
def test_what_cannot_be_declared(wrong):
    with pytest.raises(InputError):
        Declaration(**{"metric": "auc", "margin": 0.05, **wrong})


def test_declared_before_the_first_look(path):
    assert declare(path, AUC)
    assert not declare(path, AUC)
    record_look(path, "m", 0.5, "p", test="t")
    assert standing(path, ["t"], AUC)[0]
    assert standing(path, ["another"], AUC)[0]


def test_declared_after_the_first_look(path):
    record_look(path, "m", 0.5, "p", test="t")
    assert standing(path, ["t"], AUC)[:2] == (False, "nothing was declared before the first look at this test set")
    declare(path, AUC)
    stands, why, _ = standing(path, ["t"], AUC)
    assert not stands
    assert "only after" in why
    assert standing(path, ["unseen"], AUC)[0]
    assert not standing(path, ["unseen", "t"], AUC)[0]


def test_the_last_declaration_before_the_look_counts_and_the_others_are_listed(path):
    for margin in (0.05, 0.1):
        declare(path, Declaration("auc", margin))
    declare(path, Declaration("sensitivity", 0.02))
    record_look(path, "m", 0.5, "p", test="t")
    stands, why, others = standing(path, ["t"], AUC)
    assert not stands
    assert "margin 0.1" in why
    assert others == ("non-inferiority of auc, margin 0.1, one-sided α 0.025",)
    stands, _, others = standing(path, ["t"], Declaration("auc", 0.1))
    assert stands
    assert others == ("non-inferiority of auc, margin 0.05, one-sided α 0.025",)


@pytest.mark.parametrize("other", [
    Declaration("auc", 0.05, "equivalence"), Declaration("auc", 0.05, alpha=0.05), Declaration("auc", 0.05, of="mel"),
])  # fmt: skip
def test_another_claim_is_not_the_one_declared(path, other):
    declare(path, AUC)
    record_look(path, "m", 0.5, "p", test="t")
    assert not standing(path, ["t"], other)[0]


def test_the_first_look_may_declare_and_the_second_not(path):
    assert declared_at_first(path, ["t"], AUC)
    record_look(path, "m", 0.5, "p", test="t")
    assert not declared_at_first(path, ["t"], Declaration("auc", 0.1))
    assert len(verify(path)) == 2


def test_claims_meet_their_margins():
    gap = Estimate("auc difference", -0.01, -0.04, 0.02)
    assert met(gap, AUC).shown
    assert met(gap, Declaration("auc", 0.05, "equivalence")).shown
    assert not met(gap, Declaration("auc", 0.0, "superiority")).shown
    assert not met(gap, Declaration("auc", 0.03)).shown


def test_what_a_declaration_is_about():
    assert subject(AUC, ["mel", "nv"], "mel") == ("auc", "mel")
    assert subject(AUC, ["mel"], "") == ("auc", "mel")
    assert subject(Declaration("auc", 0.05, of="nv"), ["mel", "nv"], "mel") == ("auc", "nv")
    assert subject(Declaration("macro auc", 0.05), ["mel", "nv"], "") == ("macro auc", "")
    with pytest.raises(InputError, match="auc:mel"):
        subject(AUC, ["mel", "nv"], "")
    with pytest.raises(ArgumentError, match="quantity"):
        subject(AUC, [], "")


def test_a_look_in_another_ledger_is_a_look(tmp_path):
    mine, theirs = tmp_path / "mine.jsonl", tmp_path / "theirs.jsonl"
    about = {"model": "a against b", "threshold": [], "predictions": "p"}
    assert look((mine, theirs, mine), ["t"], AUC, **about) == (0, standing(mine, ["t"], AUC))
    assert [len(verify(path)) for path in (mine, theirs)] == [2, 1]  # the declaration stands in the first
    assert look((mine, theirs), ["t"], AUC, **about)[1][0]
    assert not look((theirs, mine), ["t"], AUC, **about)[1][0]
    early, late = tmp_path / "early.jsonl", tmp_path / "late.jsonl"
    look(early, ["t"], None, **about)
    looks, (stands, why, _) = look((late, early), ["t"], AUC, **about)
    assert (looks, stands) == (1, False)
    assert "nothing was declared" in why
    assert look(None, ["t"], AUC, **about) == (0, (False, "no ledger was kept", ()))
