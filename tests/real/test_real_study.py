"""Real images, real weights: each recipe end to end, small."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from overread.cases.cases import Cases
from overread.cases.sources.read_cases import read_cases
from overread.cases.split import split
from overread.learning.predict import predict
from overread.learning.recipe import Recipe
from overread.learning.train import train
from overread.study.question import Study
from overread.study.steps import run


def _few(cases: Cases, per_class: int) -> Cases:
    rows = np.concatenate([np.flatnonzero(cases.labels == k)[:per_class] for k in range(len(cases.target.names))])
    return cases.take(np.sort(rows))


@pytest.fixture(scope="module")
def skin(shared) -> Cases:
    cases = read_cases(shared / "data/ham10000/metadata.csv", image="file", label="dx", patient="lesion_id", source="dataset",
                       positive=["mel", "bcc", "akiec"])  # fmt: skip
    return _few(cases, 16)


def test_frozen_features_tell_skin_lesions_apart(skin, shared, tmp_path) -> None:
    parts = split(skin, test=0.25, tuning=0.15, seed=0)
    recipe = Recipe(method="features", image_size=96, folds=3, views=1)
    model = train(skin, parts, recipe, weights=shared / "weights", network=False, cache=tmp_path)
    assert model.about.backbone.pretrained
    assert "mobilenet_v2" in model.about.backbone.licence, "where the licence is not known, the file is named"
    made = predict(model, skin.only(parts, "test"))
    assert (made.scores.argmax(1) == made.truth).mean() > 2 / 7  # twice what guessing gives


def test_fine_tuning_starts_from_the_linear_head(skin, shared, tmp_path) -> None:
    parts = split(skin, test=0.25, tuning=0.15, seed=0)
    recipe = Recipe(method="finetune", backbone="squeezenet1_0", image_size=64, epochs=1, batch_size=16, folds=3)
    model = train(skin, parts, recipe, weights=shared / "weights", network=False, cache=tmp_path)
    assert model.history[0]["epoch"] == 1
    assert any(d.what == "snapshot" for d in model.about.decisions)


@pytest.mark.slow
def test_a_medmnist_file_with_its_own_split_and_leaks(shared, tmp_path) -> None:
    study = Study.from_flat(
        table=str(shared / "data/pneumoniamnist/pneumoniamnist.npz"),
        recipe={"method": "scratch", "backbone": "cnn_small", "epochs": 1},
    )
    said: list[str] = []
    run(study, tmp_path, network=False, say=said.append)
    parts = pd.read_csv(tmp_path / "split.csv")["part"].value_counts()
    assert parts["test"] == 624
    excluded = pd.read_csv(tmp_path / "excluded.csv")
    assert len(excluded) >= 8, "the eight leaked images leave training or tuning"
    assert any("leak" in line or "both" in line or "same image" in line for line in said)


def test_volumes_train_a_three_dimensional_network(shared, tmp_path) -> None:
    cases = read_cases(shared / "data/adrenalmnist3d/adrenalmnist3d.npz")
    few = cases.take(
        np.sort(np.concatenate([np.flatnonzero(cases.table["split"] == p)[:24] for p in ("train", "tuning", "test")]))
    )
    model = train(few, split(few, seed=0), Recipe(epochs=1, batch_size=8), network=False, cache=tmp_path)
    assert any("cnn3d_small" in rung.what for rung in model.rungs)
    assert np.isfinite(predict(model, few.take(np.arange(4))).scores).all()
