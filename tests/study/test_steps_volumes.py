"""Volumes through the whole path: cut into views, a window kept inside the model, new volumes predicted alike."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from overread.cases.sources.read_cases import read_images
from overread.learning.model import Model
from overread.learning.predict import predict
from overread.predictions import Predictions
from overread.study import steps
from overread.study.question import Study
from overread.study.steps import run

RECIPE = {
    "method": "scratch",
    "backbone": "cnn_small",
    "epochs": 1,
    "image_size": 24,
    "batch_size": 8,
    "window": "soft tissue",
}
PATIENTS = 24


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Volumes in Hounsfield units with a bright ball in half of them, and the place of its centre in mm."""
    home, rows = tmp_path_factory.mktemp("volumes"), []
    for number in range(PATIENTS):
        random = np.random.default_rng(number)
        voxels = random.normal(40, 30, (18, 20, 12)).astype(np.int16)
        centre = random.integers(4, 8, 3)
        if number % 2:
            voxels[tuple(slice(c - 2, c + 3) for c in centre)] += 150
        image = nibabel.Nifti1Image(voxels, np.diag([2.0, 2.0, 3.0, 1.0]))
        nibabel.save(image, home / f"scan{number}.nii.gz")
        x, y, z = centre * [2.0, 2.0, 3.0]
        rows.append({"image": f"scan{number}.nii.gz", "patient": f"p{number}", "label": "ball" if number % 2 else "none", "x": x, "y": y, "z": z})  # fmt: skip
    pd.DataFrame(rows).to_csv(home / "table.csv", index=False)
    return home / "table.csv"


@pytest.fixture(autouse=True)
def no_report(monkeypatch) -> None:
    """Runs end with the evaluation: the report takes half of the time, and is looked at elsewhere."""
    monkeypatch.setattr(steps, "STEPS", (steps.audit, steps.split, steps.train, steps.predict, steps.evaluate))


def test_views_through_a_point(table, tmp_path) -> None:
    study = Study.from_flat(table=str(table), image="image", label="label", patient="patient", volumes="views", point=("x", "y", "z"), side=20.0,
                  tuning=0.15, test=0.45, despite=("shortcut",), threads=1, recipe=RECIPE)  # fmt: skip
    run(study, tmp_path / "run", network=False)
    cases = pd.read_csv(tmp_path / "run" / "cases.csv")
    assert len(cases) == 3 * PATIENTS
    assert cases["case"].nunique() == PATIENTS
    test = Predictions.read(tmp_path / "run" / "predictions" / "test.csv")
    assert len(test) == test.table["case"].nunique()  # one prediction for three views
    model = Model.load(tmp_path / "run" / "model")
    assert model.about.planes == study.images.planes
    assert model.about.preprocess.window == "soft tissue"
    assert len(model.about.preprocess.size) == 2

    new = read_images(
        table, model.target, image="image", patient="patient", salt=model.about.names_salt, planes=model.about.planes
    )
    again = predict(model, new, threads=1).table.set_index("case")
    wanted = test.table.set_index("case")
    assert np.allclose(again.loc[wanted.index, "p:ball"], wanted["p:ball"], atol=1e-6)


def test_whole_volumes_and_slices(table, tmp_path) -> None:
    for how, size in (("whole", 3), ("slices", 2)):
        study = Study.from_flat(table=str(table), image="image", label="label", patient="patient", volumes=how, tuning=0.15, test=0.45, despite=("shortcut",), threads=1,
                      recipe=RECIPE | {"backbone": "", "image_size": 16})  # fmt: skip
        run(study, tmp_path / how, network=False)
        model = Model.load(tmp_path / how / "model")
        assert len(model.about.preprocess.size) == size
        parts = pd.read_csv(tmp_path / how / "split.csv")
        assert not parts.groupby("patient")["part"].nunique().gt(1).any()
