"""Nothing that is learned in a fold has seen it: shown by moving the held-out fold far away, and against scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from overread.cases.cases import Cases
from overread.core.errors import UnsoundError
from overread.distributed.out_of_fold import learns_inside, out_of_fold
from overread.learning.recipe import Recipe
from overread.networks.codes import CodedLinear
from overread.tasks.target import Target

N = 90
RNG = np.random.default_rng(0)
ILL = np.arange(N) % 2 == 1
FEATURES = RNG.normal(size=(N, 12)) + 1.2 * ILL[:, None] * (np.arange(12) < 3)
FOLD = (np.arange(N) // 6) % 5


def cases() -> Cases:
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(N)], "case": [f"c{i:03}" for i in range(N)], "patient": [f"p{i // 2:03}" for i in range(N)],
                          "source": "", "view": "", "time": "", "split": "", "label": np.where(ILL, "ill", "well")})  # fmt: skip
    return Cases(table, Target("binary", ("well", "ill"), ("ill",)))


def judged(features: np.ndarray, recipe: Recipe):
    return out_of_fold(torch.from_numpy(features.astype(np.float32)), cases(), FOLD, recipe)


RECIPE = Recipe(method="features", head="svm", penalties=(1e-3, 1e-1, 10.0), folds=3, seed=1)


@pytest.mark.parametrize("head", ["svm", "logistic", "ridge"])
def test_what_was_held_out_moves_nothing_that_judges_it(head):
    """A leak of standardisation, penalty, head, calibration or inner folds would show: the fold is a thousand times as large."""
    recipe = RECIPE.changed(head=head)
    before = judged(FEATURES, recipe)
    inside = FOLD == 2
    moved = FEATURES.copy()
    moved[inside] = 1000 * moved[inside][::-1] + 500
    after = judged(moved, recipe)
    place = list(np.unique(FOLD)).index(2)
    assert before.penalties[place] == after.penalties[place]
    assert np.array_equal(before.inner[2][~inside], after.inner[2][~inside])
    assert np.isnan(before.inner[2][inside]).all()
    whole = judged(np.where(inside[:, None], FEATURES, moved), recipe)
    assert np.array_equal(before.held_out[inside], whole.held_out[inside])
    outside = FOLD == 1
    assert not np.array_equal(before.held_out[outside], after.held_out[outside]), "it does teach the others"


def test_heads_are_those_of_scikit_learn_fitted_in_each_fold():
    recipe = RECIPE.changed(head="logistic", penalties=(0.05,), balance=0.0)
    found = judged(FEATURES, recipe).held_out[:, 1]
    ranks = []
    for k in range(5):
        inside = k == FOLD
        scaler = StandardScaler().fit(FEATURES[~inside])
        model = LogisticRegression(C=1 / (0.05 * (~inside).sum() / 2), tol=1e-8, max_iter=1000)
        model.fit(scaler.transform(FEATURES[~inside]), ILL[~inside])
        theirs = model.decision_function(scaler.transform(FEATURES[inside]))
        ranks.append(np.corrcoef(np.log(found[inside] / (1 - found[inside])), theirs)[0, 1])
    assert min(ranks) > 0.999


def test_a_fold_that_leaves_one_class_is_refused():
    with pytest.raises(UnsoundError, match="one class"):
        out_of_fold(torch.from_numpy(FEATURES.astype(np.float32)), cases(), ILL.astype(int), RECIPE)


def test_what_learns_more_than_a_head_is_trained_anew():
    assert learns_inside(Recipe(method="features", backbone="resnet18"))
    assert not learns_inside(Recipe(method="features", backbone="resnet18", normalise="z-score"))
    assert not learns_inside(Recipe(method="features", backbone="resnet18", fusion="concat"))
    assert not learns_inside(Recipe(method="scratch"))


def test_numbers_beside_the_pixels_are_read_and_standardised_in_each_fold():
    """The pixels are noise, the column knows; what is held out moves neither its mean nor its deviation."""
    recipe = RECIPE.changed(head="logistic", extra_inputs=("speed",))
    noise, speed = np.random.default_rng(4).normal(size=(N, 3)).astype(np.float32), 5.0 + 3 * ILL + RNG.normal(size=N)
    speed[3] = np.nan

    def told(speed: np.ndarray, recipe: Recipe = recipe):
        held = cases()
        held = replace(held, table=held.table.assign(speed=speed))
        return out_of_fold(torch.from_numpy(noise), held, FOLD, recipe)

    found, blind = told(speed), told(speed, recipe.changed(extra_inputs=()))
    assert roc_auc_score(ILL, found.held_out[:, 1]) > 0.9
    assert roc_auc_score(ILL, blind.held_out[:, 1]) < 0.75
    inside = FOLD == 2
    moved = told(np.where(inside, 1000 * speed, speed))
    assert np.array_equal(found.inner[2][~inside], moved.inner[2][~inside])
    assert not np.array_equal(found.held_out[FOLD == 1], moved.held_out[FOLD == 1]), "it does teach the others"


def test_planes_of_codes_are_learned_in_each_fold():
    recipe = RECIPE.changed(descriptors=("gist",), codes="itq", bits=6)
    features = torch.from_numpy(FEATURES.astype(np.float32))
    moved = features.clone()
    moved[FOLD == 2] += 50
    told = [
        out_of_fold(each, cases(), FOLD, recipe, codes=CodedLinear(4, 8, 2, bits=6, kind="itq"))
        for each in (features, moved)
    ]
    outside = FOLD != 2
    assert np.array_equal(told[0].inner[2][outside], told[1].inner[2][outside])
    assert not np.array_equal(told[0].inner[1][FOLD == 3], told[1].inner[1][FOLD == 3])


@pytest.mark.filterwarnings("ignore:Liblinear failed")
def test_without_standardisation_what_is_planted_on_a_small_scale_is_lost():
    """The mechanism of Bar 2015: every feature at variance 1 inside the fold. Taken away, the same classifier fails."""
    features = FEATURES.copy()
    features[:, :3] *= 1e-3
    ours = judged(features, RECIPE.changed(penalties=(0.01,))).held_out[:, 1]
    raw = np.zeros(N)
    for k in range(5):
        inside = k == FOLD
        raw[inside] = (
            LinearSVC(C=1 / (0.01 * (~inside).sum()), max_iter=2000)
            .fit(features[~inside], ILL[~inside])
            .decision_function(features[inside])
        )
    assert roc_auc_score(ILL, ours) > 0.75
    assert roc_auc_score(ILL, raw) < roc_auc_score(ILL, ours) - 0.1
