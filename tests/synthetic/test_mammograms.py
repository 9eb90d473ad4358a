"""Mammograms of four views at two sites: what is planted, and that four views, the camera and readers are what they claim."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from overread import Recipe, evaluate, predict, split, train
from overread.cases.sources.read_cases import read_cases
from overread.core.errors import ArgumentError
from overread.synthetic import draw_mammograms
from overread.synthetic.mammograms import _readers

RECIPE = Recipe(method="scratch", backbone="cnn_small", image_size=32, epochs=20, batch_size=32, learning_rate=3e-3, precision="float32",
                augment="none", fusion="concat", seed=1)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return draw_mammograms(tmp_path_factory.mktemp("mammograms"), patients=60, seed=2).parent


def test_the_same_seed_gives_the_same_bytes_and_the_sites_their_shares(folder, tmp_path) -> None:
    again = draw_mammograms(tmp_path, patients=60, seed=2).parent
    for path in sorted(folder.rglob("*.*")):
        assert (again / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name
    table = pd.read_csv(folder / "metadata.csv")
    assert table.groupby("case")["view"].apply(tuple).unique().tolist() == [("L-CC", "L-MLO", "R-CC", "R-MLO")]
    ill = table.drop_duplicates("case").groupby("source")["diagnosis"].apply(lambda each: (each == "cancer").mean())
    assert ill["UK"] == pytest.approx(0.3, abs=0.02)
    assert ill["US"] == pytest.approx(0.5, abs=0.02)
    with pytest.raises(ArgumentError, match="between 0 and 1"):
        draw_mammograms(tmp_path, prevalence=(0.0, 0.5))


def test_the_mass_stands_in_one_view_and_the_cameras_see_it_the_other_way_round(folder) -> None:
    table = pd.read_csv(folder / "metadata.csv")
    for _, views in table.groupby("case"):
        grey = {
            row["view"]: cv2.imread(str(folder / row["image"]), 0).astype(float) for row in views.to_dict("records")
        }
        apart = [
            np.abs(cv2.GaussianBlur(grey[f"L-{p}"] - grey[f"R-{p}"][:, ::-1], (0, 0), 1.5)).max() for p in ("CC", "MLO")
        ]
        assert sum(a > 35 for a in apart) == (views["diagnosis"].iloc[0] == "cancer")  # one pair of views, or none
    middle = {site: np.mean([cv2.imread(str(folder / name), 0)[12:20, 3:9].mean() for name in some["image"][some["view"] == "L-CC"]])
              for site, some in table.groupby("source")}  # fmt: skip
    assert middle["US"] > middle["UK"] + 30


def test_readers_are_better_together_and_six_of_them_give_scores(folder) -> None:
    rng = np.random.default_rng(0)
    ill = rng.random(2000) < 0.4
    calls, scores = _readers(3, ill, rng.integers(0, 4, 2000))
    youden = {reader: called[ill].mean() - called[~ill].mean() for reader, called in calls.items()}
    assert youden["consensus"] > max(youden["first"], youden["second"]) + 0.05
    areas = [roc_auc_score(ill, score) for score in scores]
    assert 0.6 < min(areas) < max(areas) < 0.95
    said = pd.read_csv(folder / "readers.csv")
    assert said.groupby("reader").size().tolist() == [60] * 9
    assert said.loc[said["score"].notna(), "reader"].nunique() == 6


@pytest.mark.slow
def test_four_views_are_needed_and_another_camera_is_not_understood(tmp_path) -> None:
    table = draw_mammograms(tmp_path / "images", patients=300, seed=1, prevalence=(0.5, 0.5))
    cases = read_cases(
        table,
        image="image",
        label="diagnosis",
        patient="patient",
        case="case",
        view="view",
        source="source",
        names="keep",
        positive=["cancer"],
    )
    parts = split(cases, test=0.35, tuning=0.15, seed=1)

    def auc_of(some, tested, **fields) -> float:
        model = train(some, parts, RECIPE.changed(**fields), cache=tmp_path, threads=1)
        return evaluate(predict(model, tested.only(parts, "test"), threads=1))["auc", "cancer"].value

    assert auc_of(cases, cases) > 0.9
    one = cases.take((cases.table["view"] == "L-CC").to_numpy())
    assert auc_of(one, one, fusion="single") < 0.75
    uk, us = (cases.take((cases.table["source"] == site).to_numpy()) for site in ("UK", "US"))
    assert auc_of(uk, uk) > 0.85
    assert auc_of(uk, us) < 0.75
