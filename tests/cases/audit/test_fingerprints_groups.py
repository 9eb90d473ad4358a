from __future__ import annotations

import numpy as np

from overread.cases.audit.fingerprints import group, longest

from ..conftest import made


def cases(patients, **columns):
    return made({"patient": patients, "label": ["no"] * len(patients)} | columns).table


def test_patients_and_duplicates_are_tied():
    found = group(cases(["b", "a", "b", "c", "d"]), "patient", [("c1", "c3", "exact"), ("c0", "gone", "near")])
    assert found.of[0] == found.of[2]
    assert found.of[1] == found.of[3]
    assert len(found.names) == 3
    assert found.names[found.of].tolist() == ["b", "a", "b", "a", "d"]
    assert found.sizes.sum() == 5


def test_another_column_ties_too_but_never_tears():
    found = group(cases(["a", "a", "b", "c"], source=["x", "y", "y", ""]), "source")
    assert len(set(found.of[:3])) == 1
    assert found.of[3] != found.of[0]


def test_a_long_chain_is_loosened_but_copies_hold():
    count = longest(0) + 10
    table = cases([f"p{i:03}" for i in range(count)])
    chain = [(f"c{i}", f"c{i + 1}", "near") for i in range(count - 1)]
    found = group(table, "patient", [*chain, ("c0", "c5", "exact")])
    assert found.loosened == len(chain)
    assert found.of[0] == found.of[5]
    assert len(found.names) == count - 1
    short = group(table, "patient", chain[:10])
    assert short.loosened == 0
    assert len(set(short.of[:11])) == 1


def test_many_copies_are_no_chain():
    count = longest(0) * 2
    star = [("c0", f"c{i}", "exact") for i in range(1, count)]
    found = group(cases([f"p{i}" for i in range(count)]), "patient", [*star, ("c0", "c1", "near")])
    assert (len(found.names), found.loosened) == (1, 0)


def test_the_order_of_rows_does_not_matter():
    table = cases(["b", "a", "b", "c", "d"])
    pairs = [("c1", "c3", "exact")]
    order = np.array([3, 1, 4, 0, 2])
    there, back = (group(table, "patient", pairs), group(table.iloc[order].reset_index(drop=True), "patient", pairs))
    np.testing.assert_array_equal(back.of, there.of[order])
    assert back.names.tolist() == there.names.tolist()
