"""The audit finds each fault that a phantom cohort plants, and nothing where none is planted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from overread.cases.audit.audit import audit
from overread.cases.audit.fingerprints import take_fingerprints
from overread.cases.sources.read_cases import read_cases
from overread.cases.split import leaked, split, without
from overread.synthetic import draw_cohort


def look(path: Path):
    """The cases of a phantom cohort, what the audit finds, and the truth."""
    cases = read_cases(path, label="diagnosis", patient="patient", source="microscope", positive=["malignant"])
    return (
        cases,
        audit(cases, fingerprints=take_fingerprints(cases)),
        json.loads((path.parent / "truth.json").read_text("utf-8")),
    )


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faulty")
    return look(draw_cohort(folder, patients=150, size=48, seed=4, leaks=4, duplicates=5, near_duplicates=6, conflicts=3,
                            unreadable=2, blank=1, unlabelled=4))  # fmt: skip


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return look(draw_cohort(tmp_path_factory.mktemp("clean"), patients=150, size=48, seed=8))


def names(cases, rows) -> set[str]:
    return set(cases.table["case"].iloc[list(rows)])


def pairs(cases, planted) -> set[frozenset[str]]:
    return {frozenset(cases.table["case"].iloc[pair]) for pair in planted}


def test_exact_duplicates(faulty):
    cases, found, truth = faulty
    equal = {frozenset(pair[:2]) for pair in found.pairs if pair[2] == "exact"}
    assert equal == pairs(cases, truth["exact_duplicates"]) | pairs(cases, truth["conflicting_labels"])
    assert found.of("exact-duplicate") is not None


def test_near_duplicates(faulty):
    cases, found, truth = faulty
    near = {frozenset(pair[:2]) for pair in found.pairs if pair[2] == "near"}
    assert near == pairs(cases, truth["near_duplicates"])


def test_one_image_with_two_labels(faulty):
    cases, found, truth = faulty
    planted = names(cases, [row for pair in truth["conflicting_labels"] for row in pair])
    assert planted <= set(found.of("conflicting-label").cases)


def test_leaks_across_the_given_split(faulty):
    cases, found, truth = faulty
    table = cases.table
    images = set(table.loc[table["patient"].isin(truth["leaked_patients"]), "case"])
    told = {case for finding in found.all("leak") + found.all("near-leak") for case in finding.cases}
    assert images <= told
    assert names(cases, [row for pair in truth["leaked_pairs"] for row in pair]) <= told


def test_a_kept_split_is_clean_once_the_leaks_are_dropped(faulty):
    cases, found, _ = faulty
    usable = cases.drop([case for case, _ in found.excluded])
    made = split(usable, audit=found)
    dropped = leaked(usable, made, found)
    kept = without(usable, made, dropped, found)
    assert dropped
    assert kept.proof["patients shared"] == kept.proof["duplicate groups shared"] == 0


def test_unreadable_blank_and_unlabelled(faulty):
    cases, found, truth = faulty
    assert set(found.of("unreadable").cases) == names(cases, truth["unreadable"])
    assert set(found.of("blank").cases) == names(cases, truth["blank"])
    assert set(found.of("missing-label").cases) == names(cases, truth["unlabelled"])
    assert {case for case, _ in found.excluded} == names(cases, truth["unreadable"] + truth["unlabelled"])


def test_a_shortcut(tmp_path, clean):
    _, found, _ = look(draw_cohort(tmp_path, patients=150, size=48, seed=4, shortcut=0.9))
    assert found.of("shortcut") is not None
    assert found.shortcut["verdict"] == "high"
    assert found.shortcut["auc"] > 0.8
    assert clean[1].of("shortcut") is None


def test_nothing_is_found_where_nothing_is_planted(clean):
    _, found, _ = clean
    planted = {"unreadable", "exact-duplicate", "near-duplicate", "conflicting-label", "leak", "near-leak", "missing-label", "blank",
               "shortcut", "one-class", "no-patient", "mixed-sizes", "mixed-modes"}  # fmt: skip
    assert not planted & {finding.kind for finding in found.findings}
