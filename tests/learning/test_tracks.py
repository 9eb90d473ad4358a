"""Tracks with an event: the order of the frames and a number beside the pixels, each needed by its phantom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from overread import Recipe, evaluate, explain, predict, read_cases, split, train
from overread.cases.before_event import followed
from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.core.errors import ArgumentError, InputError, UnavailableError
from overread.learning.ladder import outputs_on
from overread.learning.loader import decode
from overread.learning.model import Model
from overread.retrieval.embed import embed
from overread.synthetic import draw_tracks

TINY = Recipe(method="scratch", backbone="lenet5", image_size=28, epochs=1, batch_size=8, learning_rate=2e-3, folds=2,
              precision="float32", seed=1, augment="none", fusion="recurrent", extra_inputs=("displacement",))  # fmt: skip


def read(table: Path, **more) -> Cases:
    return read_cases(table, image="image", label="lineage", patient="patient", case="track", time="time", names="keep",
                      positive=["erythroid"], keep=["displacement", "event_time", "marker_time"], **more)  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> tuple[Cases, Split, Path]:
    folder = tmp_path_factory.mktemp("tracks")
    cases = read(draw_tracks(folder, patients=10, seed=3))
    return cases, split(cases, test=0.3, tuning=0.2, seed=1), folder / "cache"


@pytest.mark.parametrize("fields", [{}, {"fusion": "single"}, {"members": 2, "recurrent": "bi-lstm"}])
def test_the_numbers_go_with_the_model_and_a_table_without_them_is_refused(cohort, tmp_path, fields) -> None:
    cases, parts, cache = cohort
    said: list[str] = []
    model = train(cases, parts, TINY.changed(**fields), cache=cache, threads=1, say=said.append)
    assert any(line.startswith("  beside the pixels: displacement") and "missing, and masked" in line for line in said)
    again, test = Model.load(model.save(tmp_path)), cases.only(parts, "test")
    assert again == model
    heard: list[str] = []
    made = predict(again, test, threads=1, say=heard.append)
    assert any("missing, and masked: displacement" in line for line in heard)
    assert made == predict(model, test, threads=1)
    table = test.table.assign(displacement=test.table["displacement"] * 3)
    moved = predict(model, Cases(table, test.target, test.root), threads=1)
    assert not np.allclose(moved.scores, made.scores)
    lacking = Cases(test.table.drop(columns="displacement"), test.target, test.root)
    with pytest.raises(InputError, match="has none of this name"):
        predict(model, lacking, threads=1)
    about = model.about.members[0] if model.about.members else model.about
    (scale,) = about.extra_inputs
    if not fields.get("members"):
        known = cases.only(parts, "train").table["displacement"]
        assert (scale.mean, scale.std) == pytest.approx((known.mean(), known.std(ddof=0)))
    assert len(embed(model, test, ["features"], threads=1).rows) == test.table["case"].nunique()


@pytest.mark.parametrize("fusion", ["single", "mean"])
def test_a_linear_head_on_frozen_features_learns_from_the_numbers_too(cohort, tmp_path, fusion) -> None:
    """The number is the label itself, which texture alone does not tell."""
    cases, parts, cache = cohort
    told = (cases.table["label"] == "erythroid").astype(float)
    told = Cases(cases.table.assign(displacement=told), cases.target, cases.root)
    recipe = Recipe(
        method="features", descriptors=("lbp",), image_size=28, folds=2, fusion=fusion, extra_inputs=("displacement",)
    )
    model = train(told, parts, recipe, cache=cache, threads=1)
    test = told.only(parts, "test")
    made = predict(Model.load(model.save(tmp_path)), test, threads=1)
    assert ((made.table["p:erythroid"] > 0.5) == (made.table["label"] == "erythroid")).all()
    blind = train(told, parts, recipe.changed(extra_inputs=()), cache=cache, threads=1)
    assert not np.allclose(predict(blind, test, threads=1).scores, made.scores)


def test_the_same_answers_from_decoded_images_and_from_files(cohort) -> None:
    cases, parts, cache = cohort
    model = train(cases, parts, TINY, cache=cache, threads=1)
    rows = {part: parts.rows(cases, part) for part in ("train", "tuning")}
    data = decode(cases, rows["train"], rows["tuning"], model.about.preprocess, cache, threads=1)
    outputs = outputs_on(model, data, rows["tuning"])
    said = predict(model, cases.only(parts, "tuning"), threads=1)
    of_rows = said.table.set_index("case").loc[
        cases.table["case"].iloc[rows["tuning"]], said.target.task.prediction_columns
    ]
    exp = np.exp(outputs - outputs.max(1, keepdims=True))
    assert np.allclose(exp / exp.sum(1, keepdims=True), of_rows.to_numpy(), atol=1e-5)


def test_maps_of_a_layer_are_had_and_those_of_the_input_are_refused_in_words(cohort) -> None:
    cases, parts, cache = cohort
    model = train(cases, parts, TINY, cache=cache, threads=1)
    one = cases[cases.only(parts, "test").table["case"].iloc[0]]
    found = explain(model, one, method="grad-cam", threads=1)
    assert any("numbers beside the pixels (displacement)" in note for note in found.notes)
    with pytest.raises(UnavailableError, match="--method grad-cam"):
        explain(model, one, method="gradient", threads=1)


def test_fields_that_do_not_go_together_are_refused(cohort) -> None:
    cases, parts, cache = cohort
    with pytest.raises(ArgumentError, match="recurrent units belong"):
        Recipe(recurrent="lstm")
    with pytest.raises(ArgumentError, match="cannot be mixed"):
        Recipe(extra_inputs=("a",), mix="mixup", method="scratch")
    with pytest.raises(InputError, match="has none of this name"):
        train(cases, parts, TINY.changed(extra_inputs=("speed",)), cache=cache, threads=1)


def taught(folder: Path, table: Path, **fields) -> tuple[Model, Cases]:
    """A model of tracks, and the cases of the test part."""
    cases = read(table)
    parts = split(cases, test=0.35, tuning=0.15, seed=1)
    recipe = TINY.changed(**({"backbone": "cnn_small", "epochs": 14, "batch_size": 8} | fields))
    return train(cases, parts, recipe, threads=1, cache=folder / "cache"), cases.only(parts, "test")


def area(folder: Path, kind: str, *, patients: int = 150, shuffled: bool = False, **fields) -> float:
    """AUC of the test part, of tracks as they are or with their times shuffled within each track."""
    table = draw_tracks(folder, kind=kind, patients=patients)
    if shuffled:
        rows = pd.read_csv(table)
        drawn = np.random.default_rng(0)
        rows["time"] = rows.groupby("track")["time"].transform(lambda times: drawn.permutation(times))
        rows.to_csv(table, index=False)
    model, test = taught(folder, table, **fields)
    return evaluate(predict(model, test, threads=1))["auc"].value


@pytest.mark.slow
def test_a_trend_is_found_in_frames_in_their_order_and_not_in_shuffled_ones(tmp_path) -> None:
    assert area(tmp_path, "trend", extra_inputs=(), recurrent="bi-lstm") >= 0.9
    assert area(tmp_path, "trend", extra_inputs=(), recurrent="bi-lstm", shuffled=True) <= 0.65


@pytest.mark.slow
def test_a_movement_is_found_with_its_column_and_not_without(tmp_path) -> None:
    """The mean displacement itself, which nothing has to learn, reaches .84 on these tracks."""
    small = {
        "patients": 300,
        "backbone": "lenet5",
        "epochs": 10,
        "batch_size": 16,
    }  # fewer teach the noise of the frames
    assert area(tmp_path, "movement", **small) >= 0.74
    assert area(tmp_path, "movement", **small, extra_inputs=()) <= 0.6


@pytest.mark.slow
def test_a_track_tells_its_outcome_before_the_event_where_a_single_frame_does_not(tmp_path) -> None:
    """The bar: .3 before the event, and before the marker shows, at least .80 by the track and at most .65 by its last frame."""
    table = draw_tracks(tmp_path, patients=150)
    model, test = taught(tmp_path, table, recurrent="bi-lstm")
    found = followed(test, "event_time", "marker_time")
    shown = found.until(0.3)
    assert evaluate(predict(model, shown, threads=1))["auc"].value >= 0.80
    assert np.nanmax([found.marked[case] for case in shown.table["case"]]) < 0.3
    alone, _ = taught(tmp_path, table, fusion="single", extra_inputs=(), batch_size=64)
    last = shown.table["time"].astype(float).groupby(shown.table["case"]).idxmax().to_numpy()
    assert evaluate(predict(alone, shown.take(np.sort(last)), threads=1))["auc"].value <= 0.65
