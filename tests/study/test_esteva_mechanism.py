"""Fine classes for coarse answers, on phantoms: without the sum, or without the partition, it does not hold."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from overread.core.errors import UnsoundError
from overread.evaluation.evaluate import Evaluation
from overread.learning.recipe import refuse_unfit
from overread.predictions import Predictions
from overread.study.context import RunContext, cases_of, recipe_of
from overread.study.published import load_system
from overread.study.question import Study
from overread.study.steps import evaluate, predict, run, set_up, train
from overread.synthetic.disease_tree import draw_disease_tree
from overread.tasks.taxonomy import read_taxonomy


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    small = load_system("esteva2017").smaller()
    table = draw_disease_tree(tmp_path_factory.mktemp("cohort"), patients=240, size=48, seed=0)
    recipe = {name: value for name, value in small.recipe.items() if name != "seed"}
    return Study.from_flat(table=str(table), **small.options, recipe=recipe, threads=1)


@pytest.mark.slow
def test_the_sum_over_the_kinds_is_the_probability_of_a_group_and_the_likeliest_kind_is_not(study, tmp_path) -> None:
    context = RunContext(study, tmp_path, network=False, table=cases_of(study))
    set_up(context, context.labelled())
    for step in (train, predict, evaluate):
        step(context)
    tree, test = read_taxonomy(tmp_path / "taxonomy.csv"), Predictions.read(tmp_path / "predictions" / "test.csv")
    held = json.loads((tmp_path / "partition.json").read_text())
    assert "signet ring" not in [c["name"] for c in held["classes"]], "too rare to be a class of its own"
    over = tree.at("danger")
    truth = test.table["table label"].map(over) == "malignant"
    below = [f"p:{name}" for name in test.target.names if over[name] == "malignant"]
    summed, likeliest = test.table[below].sum(axis=1), test.table[below].max(axis=1)
    found = Evaluation.load(tmp_path / "evaluation" / "levels" / "danger")
    assert found["auc", "malignant"].low > 0.7
    assert abs(summed.mean() - truth.mean()) < 0.12, "a risk: as many as there are"
    assert abs(likeliest.mean() - truth.mean()) > 0.2, "without the sum it is none"
    called = pd.Series(np.array(test.target.names)[test.scores.argmax(axis=1)]).map(over) == "malignant"
    assert (summed > 0.5)[truth].mean() > called[truth].mean() + 0.1, "and more of the ill are missed"


def test_without_the_partition_the_rare_kind_stops_it(study, tmp_path) -> None:
    alone = study.changed(max_class_size=0)
    refuse_unfit(cases_of(alone), recipe_of(alone))
    with pytest.raises(UnsoundError, match="fewer than 3 patients with .*signet ring"):
        run(replace(alone), tmp_path, network=False)
