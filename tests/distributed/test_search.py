"""The search: a declared space, trials judged within the training part, stopped early, resumed after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from overread import Recipe, read_cases, search, split
from overread.cli import main
from overread.core.errors import InputError, UnavailableError, UnsoundError
from overread.core.progress import Clock
from overread.distributed import search as module
from overread.distributed.search import read_space, rungs

pytest.importorskip("optuna")
BASE = Recipe(method="scratch", backbone="lenet5", image_size=28, batch_size=16, epochs=2, precision="float32")
SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "augmentation": {"rotate": [0.0, 15.0]}}


@pytest.fixture(scope="module")
def cohort(phantom):
    cases = read_cases(phantom, image="image", label="diagnosis", patient="patient", source="microscope")
    return cases, split(cases, test=0.2, tuning=0.2, seed=1)


@pytest.fixture
def scored(monkeypatch):
    """Trials are judged by a formula instead of a training: quick, best at a rate of 0.001; keeps what was asked."""
    asked: list[tuple[float, int]] = []

    def score(self, recipe, file, data, place):
        asked.append((recipe.learning_rate, recipe.epochs))
        return 0.9 - abs(np.log10(recipe.learning_rate) + 3) / 10 + recipe.epochs / 1000

    monkeypatch.setattr(module.Trainer, "score", score)
    return asked


def test_a_space_is_read_from_toml_with_groups_and_dots(tmp_path) -> None:
    path = tmp_path / "space.toml"
    path.write_text('learning_rate = {low = 1e-4, high = 1e-2, log = true}\nbatch_size = {low = 8, high = 32, step = 8}\n'
                    'backbone = ["lenet5", "cnn_small"]\naverage = [0, 1.0]\n"augmentation.rotate" = [0, 15]\n[augmentation]\nscale = [[0.9, 1.1], [0.8, 1.2]]\n')  # fmt: skip
    found = {d.field: d for d in read_space(path)}
    assert set(found) == {"learning_rate", "batch_size", "backbone", "average", "augmentation.rotate", "augmentation.scale"}  # fmt: skip
    assert found["batch_size"].whole
    assert found["augmentation.scale"].choices == ([0.9, 1.1], [0.8, 1.2])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "names no field"),
        ({"learningrate": [1]}, "Did you mean 'learning_rate'"),
        ({"augmentation": {"rotat": [1]}}, "Did you mean 'rotate'"),
        ({"seed": [1, 2]}, "is no choice"),
        ({"epochs": []}, "choices that differ"),
        ({"epochs": [2, 2]}, "choices that differ"),
        ({"epochs": 5}, "neither choices nor a range"),
        ({"epochs": {"low": 1, "hi": 3}}, "neither choices nor a range"),
        ({"backbone": {"low": 1, "high": 3}}, "neither choices nor a range"),
        ({"epochs": {"low": 9, "high": 3}}, "impossible range"),
        ({"epochs": {"low": 1.5, "high": 3}}, "impossible range"),
        ({"dropout": {"low": 0.0, "high": 0.5, "log": True}}, "impossible range"),
        ({"dropout": {"low": 0.0, "high": 1.5}}, "dropout must lie in"),
        ({"backbone": ["lenet5", "lenet6"]}, "lenet5"),
    ],
)
def test_a_wrong_space_is_refused_with_the_way_out(space, message) -> None:
    with pytest.raises(InputError, match=message):
        read_space(space)


def test_the_best_trial_wins_and_the_table_says_all(cohort, tmp_path, scored) -> None:
    cases, parts = cohort
    found = search(
        cases, parts, SPACE, recipe=BASE.changed(epochs=9), trials=12, folder=tmp_path, cache=tmp_path, seed=3
    )
    table = pd.read_csv(tmp_path / "trials.csv")
    assert len(table) == 12
    assert table["state"].isin(["finished", "stopped early"]).all()
    assert (table["state"] == "stopped early").any(), "successive halving over epochs"
    assert table["score"].iloc[0] == table.loc[table["state"] == "finished", "score"].max()
    assert Recipe.load(tmp_path / "recipe.toml") == found.recipe
    assert found.recipe.learning_rate == pytest.approx(table["learning_rate"].iloc[0])
    assert found.recipe.epochs == 9
    assert set(found.importance) == {"learning_rate", "augmentation.rotate"}
    assert found.importance["learning_rate"] > 0.9
    assert json.loads((tmp_path / "importance.json").read_text()) == found.importance
    assert {epochs for _, epochs in scored} == {1, 3, 9}


def test_epochs_that_are_searched_stand_beside_those_that_were_trained(cohort, tmp_path, scored) -> None:
    from overread.reporting.pages.search import search_page

    space = {"epochs": [3, 9], "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}
    found = search(*cohort, space, recipe=BASE, trials=8, folder=tmp_path, cache=tmp_path, seed=3)
    assert set(found.trials["epochs"]) == {3, 9}
    assert (found.trials["trained epochs"] <= found.trials["epochs"]).all()
    assert found.recipe.epochs == found.trials["epochs"].iloc[0]
    page = search_page(found.trials, found.importance, tmp_path)[0].read_text("utf-8")
    chosen = page[page.index("The best trial") : page.index("What each trial took")]
    assert "epochs" in chosen
    assert "learning_rate" in chosen


def test_the_same_seed_asks_the_same_and_an_interrupted_search_goes_on_as_if_it_had_not_been(cohort, tmp_path, scored) -> None:  # fmt: skip
    cases, parts = cohort
    tables = []
    for name, stops in (("whole", (8,)), ("again", (8,)), ("in parts", (3, 5, 8))):
        for trials in stops:
            found = search(
                cases, parts, SPACE, recipe=BASE, trials=trials, folder=tmp_path / name, cache=tmp_path, seed=5
            )
        tables.append(found.trials.drop(columns="seconds"))
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])
    other = search(cases, parts, SPACE, recipe=BASE, trials=8, folder=tmp_path / "other", cache=tmp_path, seed=6)
    assert not other.trials["learning_rate"].equals(tables[0]["learning_rate"])


def test_only_training_patients_are_asked(cohort, tmp_path, monkeypatch) -> None:
    """The tuning and the test part may say anything: nothing of the search changes."""
    from dataclasses import replace

    cases, parts = cohort
    found = []
    for kind in ("as they are", "missing files, other labels"):
        if kind != "as they are":
            rows = np.r_[parts.rows(cases, "test"), parts.rows(cases, "tuning")]
            table = cases.table.copy()
            table.loc[rows, "image"] = "missing.png"
            table.loc[rows, "label"] = table["label"].iloc[0]
            cases = replace(cases, table=table)
        found.append(
            search(cases, parts, SPACE, recipe=BASE, trials=2, folder=tmp_path / kind[:2], cache=tmp_path, threads=1)
        )
    assert found[0].trials.drop(columns="seconds").equals(found[1].trials.drop(columns="seconds"))
    assert list(found[0].trials["score"].between(0, 1)) == [True, True]


def test_folds_are_grouped_by_patient_and_averaged(cohort, tmp_path, monkeypatch) -> None:
    cases, parts = cohort
    seen: list[tuple[set, set]] = []

    def fit(part, recipe, **_):
        patients = part.cases.table["patient"].to_numpy()
        seen.append((set(patients[part.training]), set(patients[part.tuning])))
        raise UnsoundError("enough")

    monkeypatch.setattr(module, "fit", fit)
    with pytest.raises(UnsoundError, match="no trial of the search could be finished.*enough"):
        search(cases, parts, SPACE, recipe=BASE, trials=1, folds=3, folder=tmp_path, cache=tmp_path)
    teach, held = seen[0]
    assert not teach & held
    assert teach | held == set(cases.table["patient"].iloc[parts.rows(cases, "train")])


def test_another_question_in_the_same_folder_is_refused(cohort, tmp_path, scored) -> None:
    cases, parts = cohort
    search(cases, parts, SPACE, recipe=BASE, trials=1, folder=tmp_path, cache=tmp_path)
    with pytest.raises(InputError, match="another search"):
        search(cases, parts, {"dropout": [0.0, 0.5]}, recipe=BASE, trials=1, folder=tmp_path, cache=tmp_path)


def test_no_trial_begins_that_would_not_end(cohort, tmp_path, scored) -> None:
    cases, parts = cohort
    heard: list[str] = []
    with pytest.raises(UnsoundError, match="no trial"):
        search(
            cases,
            parts,
            SPACE,
            recipe=BASE,
            trials=5,
            folder=tmp_path,
            cache=tmp_path,
            clock=Clock(1e-9),
            say=heard.append,
        )
    assert any("the time ends" in line for line in heard)


def test_without_optuna_the_extra_is_named(cohort, tmp_path, monkeypatch) -> None:
    cases, parts = cohort
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UnavailableError, match=r"pip install 'overread\[search\]'"):
        search(cases, parts, SPACE, folder=tmp_path)


def test_rungs_are_whole_schedules_of_a_ninth_a_third_and_all() -> None:
    assert rungs(9) == [1, 3, 9]
    assert rungs(1) == [1]


COMMAND = "from overread.cli.main import main; main()"


@pytest.mark.slow
def test_a_search_goes_on_after_kill_9_in_the_midst_of_a_trial(phantom, tmp_path) -> None:
    space = tmp_path / "space.toml"
    space.write_text("learning_rate = [0.001, 0.003, 0.01]\ndropout = {low = 0.0, high = 0.5}\n")
    folder = tmp_path / "runs"
    words = [sys.executable, "-c", COMMAND, "search", str(phantom), "--image", "image", "--label", "diagnosis", "--patient", "patient",
             "--space", str(space), "--trials", "3", "--recipe", "scratch", "--backbone", "lenet5", "--image-size", "28", "--epochs", "3",
             "--threads", "1", "--cache", str(tmp_path / "cache"), "--offline", "-o", str(folder)]  # fmt: skip
    first = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begun = time.monotonic()
    while not list(folder.glob("trials/*/*")) and first.poll() is None and time.monotonic() - begun < 240:
        time.sleep(0.02)
    assert first.poll() is None, "it ended before it could be killed"
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    done = subprocess.run(words, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert "was interrupted and is taken up again" in done.stderr
    table = pd.read_csv(folder / "trials.csv")
    assert len(table) == 3
    assert not table["state"].isin(["running", "failed"]).any()
    assert "overread train" in done.stdout + done.stderr


@pytest.mark.slow
def test_two_processes_share_one_search(phantom, tmp_path) -> None:
    space = tmp_path / "space.toml"
    space.write_text("dropout = {low = 0.0, high = 0.5}\n")
    words = ["search", str(phantom), "--image", "image", "--label", "diagnosis", "--patient", "patient", "--space", str(space), "--trials", "6",
             "--recipe", "scratch", "--backbone", "lenet5", "--image-size", "28", "--epochs", "1", "--threads", "1",
             "--cache", str(tmp_path / "cache"), "--offline", "-o", str(tmp_path / "runs")]  # fmt: skip
    both = [subprocess.Popen([sys.executable, "-c", COMMAND, *words], stderr=subprocess.PIPE, text=True) for _ in range(2)]  # fmt: skip
    told = [process.communicate(timeout=400)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    table = pd.read_csv(tmp_path / "runs" / "trials.csv")
    assert sorted(table["trial"]) == list(range(6))
    assert table["dropout"].nunique() == 6, "no values are tried twice"


def test_the_command_refuses_a_missing_space(phantom, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["overread", "search", str(phantom), "--space", "no.toml"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert "no.toml" in capsys.readouterr().err
