"""Three views of a nodule: what each fusion finds, and that a second stage learns from out-of-fold outputs only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from overread import Recipe, evaluate, predict, split, train
from overread.cases.cases import Planes
from overread.cases.sources.read_cases import read_cases
from overread.core import random
from overread.learning import fit as fitting
from overread.synthetic import draw_cases, draw_nodules

RECIPE = Recipe(method="scratch", backbone="lenet5", image_size=28, epochs=12, batch_size=32, learning_rate=3e-3, folds=3,
                precision="float32", seed=1, augment="none", window="-1000:400")  # fmt: skip
THROUGH = Planes("views", ("x", "y", "z"), 26.0)


def nodules(folder, planes: Planes):
    return read_cases(folder / "metadata.csv", image="image", label="diagnosis", patient="patient", case="case", positive=["satellite"],
                      names="keep", planes=planes)  # fmt: skip


def auc_of(cases, cache, **fields) -> float:
    parts = split(cases, test=0.35, tuning=0.15, seed=1)
    model = train(cases, parts, RECIPE.changed(**fields), cache=cache, threads=1)
    return evaluate(predict(model, cases.only(parts, "test"), threads=1))["auc", "satellite"].value


@pytest.mark.slow
def test_three_views_through_the_point_find_what_one_view_and_the_middle_do_not(tmp_path) -> None:
    folder = draw_nodules(tmp_path / "nodules", patients=120).parent
    cases = nodules(folder, THROUGH)
    for fusion in ("late", "stacked", "concat"):
        assert auc_of(cases, tmp_path, fusion=fusion) > 0.95, fusion
    for view in ("axial", "coronal", "sagittal"):
        one = cases.take((cases.table["view"] == view).to_numpy())
        assert auc_of(one, tmp_path) < 0.85, view
    middle = nodules(folder, Planes("views"))  # no point
    assert 0.3 < auc_of(middle, tmp_path, fusion="stacked") < 0.7


def test_the_second_stage_learns_what_folds_say_of_random_labels_nothing(tmp_path, monkeypatch) -> None:
    """Fitted to the classifiers' answers for their own training patients it would find random labels easy."""
    table = draw_cases(tmp_path, kind="asymmetry", patients=60, size=28)
    cases = read_cases(
        table,
        image="image",
        label="diagnosis",
        patient="patient",
        case="case",
        view="view",
        names="keep",
        positive=["diseased"],
    )
    code, _ = np.unique(cases.table["case"].to_numpy(), return_inverse=True)
    drawn = dict(zip(code, np.where(random.permutation(0, 0, len(code)) % 2, "diseased", "healthy"), strict=True))
    cases = replace(cases, table=cases.table.assign(label=cases.table["case"].map(drawn)))
    heard: list[tuple[np.ndarray, np.ndarray, float]] = []
    whole = fitting.cross_validate

    def cross_validate(said, labels, *given, **named):
        found = whole(said, labels, *given, **named)
        heard.append((said.numpy(), labels.numpy(), min(found.losses)))
        return found

    monkeypatch.setattr(fitting, "cross_validate", cross_validate)
    overfit = Recipe(method="features", descriptors=("hog",), image_size=28, fusion="stacked", folds=4, seed=1,
                     penalties=(1e-6,))  # fmt: skip
    parts = split(cases, test=0.2, tuning=0.2, seed=1)
    model = train(cases, parts, overfit, cache=tmp_path, threads=1)
    ((said, labels, loss),) = heard
    summed = said[:, 1] - said[:, 0] + said[:, 3] - said[:, 2]
    assert 0.25 < roc_auc_score(labels, summed) < 0.75
    assert loss > 0.6  # held out: not better than a coin, of which it is log 2
    taught = cases.only(parts, "train")
    model.network.head = model.network.fuse.summed()
    own = predict(model, taught, threads=1)
    assert roc_auc_score(own.table["label"] == "diseased", own.table["p:diseased"]) > 0.9  # what a leak would look like
