"""Phantoms whose diseases stand in a tree: who is there, and that the same seed gives the same bytes."""

from __future__ import annotations

import pandas as pd
import pytest

from overread.core.errors import ArgumentError
from overread.synthetic.disease_tree import RARE, TREE, draw_disease_tree
from overread.tasks.taxonomy import read_taxonomy


def test_nine_kinds_of_which_one_is_rare(tmp_path) -> None:
    path = draw_disease_tree(tmp_path / "a", patients=100, size=28, images_per_patient=1, rare=2, readers=2, seed=5)
    table = pd.read_csv(path)
    assert table["diagnosis"].value_counts().min() == 2
    assert (table["diagnosis"] == RARE).sum() == 2
    assert set(table["diagnosis"]) == set(TREE.leaves)
    assert len(table) == 100
    assert read_taxonomy(tmp_path / "a" / "taxonomy.csv") == TREE
    read = pd.read_csv(tmp_path / "a" / "readers.csv").merge(table, on="case")
    right = read["label"] == read["diagnosis"].map(TREE.at("danger"))
    assert 0.7 < right.mean() < 1
    assert read["reader"].nunique() == 2
    again = draw_disease_tree(tmp_path / "b", patients=100, size=28, images_per_patient=1, rare=2, readers=2, seed=5)
    for file in sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*")):
        assert (tmp_path / "a" / file).read_bytes() == (again.parent / file).read_bytes()


def test_what_cannot_be_drawn_is_refused(tmp_path) -> None:
    for wrong in ({"patients": 10}, {"rare": 50}, {"images_per_patient": 0}, {"readers": -1}):
        with pytest.raises(ArgumentError):
            draw_disease_tree(tmp_path, **wrong)
