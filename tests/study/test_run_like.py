"""A run on another run's audit and split: under its classes, beside other numbers, and what a grid does not judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from overread.cases.cases import Cases
from overread.core.errors import InputError
from overread.study.context import RunContext, cases_of
from overread.study.factorial import grid
from overread.study.question import Study
from overread.study.run_like import begin_like, carrying_inputs
from overread.study.steps import set_up
from overread.synthetic.disease_tree import draw_disease_tree

RECIPE = {"method": "features", "descriptors": ["intensity"], "image_size": 28}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    path = draw_disease_tree(tmp_path_factory.mktemp("tree"), patients=60, size=28, images_per_patient=2, seed=4)
    table = pd.read_csv(path)
    table.assign(speed=20.0 + np.arange(len(table)) % 50).to_csv(path, index=False)
    return path


def asked(cohort: Path, recipe=RECIPE, **more) -> Study:
    return Study.from_flat(table=str(cohort), image="image", label="diagnosis", patient="patient", seed=1, threads=1, recipe=recipe, despite=("few-patients",),
                           taxonomy=str(cohort.with_name("taxonomy.csv")), **more)  # fmt: skip


def test_classes_cut_from_a_tree_are_those_of_the_run_it_is_like(cohort, tmp_path):
    study = asked(cohort, max_class_size=20)
    first = RunContext(study, tmp_path / "a", network=False, table=cases_of(study))
    set_up(first, first.labelled())
    second = replace(first, folder=tmp_path / "b", study=study.changed(recipe={**RECIPE, "descriptors": ["lbp"]}))
    for _ in range(2):
        begin_like(second, second.labelled(), first.folder)
        assert second.cases().target.names == first.cases().target.names
        for name in ("cases.csv", "partition.json", "taxonomy.csv", "split.csv"):
            assert (second.folder / name).read_bytes() == (first.folder / name).read_bytes()


def test_a_recipe_may_see_a_column_that_the_run_does_not_carry(cohort, tmp_path):
    study = asked(cohort, names="hash")
    cases = cases_of(study)
    study = study.changed(salt=cases.salt)
    first = RunContext(study, tmp_path / "a", network=False, table=cases)
    set_up(first, cases)
    other = study.changed(recipe={**RECIPE, "extra_inputs": ["speed"]})
    seen = cases_of(other)
    assert "speed" in seen.table
    assert "speed" not in cases.table
    begin_like(replace(first, folder=tmp_path / "b", study=other, table=seen), seen, first.folder)
    assert "speed" in Cases.load(tmp_path / "b" / "cases.csv").table
    turned = replace(seen, table=seen.table.assign(label=seen.table["label"].to_numpy()[::-1]))
    with pytest.raises(InputError, match="the table has changed"):
        begin_like(replace(first, folder=tmp_path / "c", study=other, table=turned), turned, first.folder)


def test_the_table_of_a_grid_carries_what_any_of_its_cells_sees(cohort):
    study = asked(cohort, names="hash")
    others = [study.changed(recipe={**RECIPE, "extra_inputs": names}) for names in ([], ["speed"], ["speed"])]
    carried = carrying_inputs(study, others)
    assert carried.columns.keep_columns == ("speed",)
    assert "speed" in cases_of(carried).table
    assert carrying_inputs(study, others[:1]) is study


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"judge_at": ("danger",)}, "no other level"),
        ({"max_class_size": 20, "folds": "4"}, "one for each fold"),
        ({"label_at": "danger", "folds": "4"}, "one for each fold"),
    ],
)
def test_levels_that_a_grid_would_ignore_are_refused_before_anything_is_read(cohort, tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        grid(asked(cohort, **more), {}, tmp_path / "g", network=False)
    assert not (tmp_path / "g").exists()
