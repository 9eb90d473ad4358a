"""`overread leaderboard` on tables and runs."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.errors import InputError, OverreadError
from overread.study.context import RunContext
from overread.study.question import Study
from overread.study.steps import open_study, predict, set_up, train


def table(skill, split=""):
    rng, ill = np.random.default_rng(3), np.random.default_rng(7).random(120) < 0.4
    score = 1 / (1 + np.exp(-(skill * ill + rng.normal(size=120))))
    return pd.DataFrame({"case": [f"c{i}" for i in range(120)], "patient": [f"p{i // 2}" for i in range(120)], "split": split,
                         "label": np.where(ill, "mel", "nv"), "p:mel": score, "p:nv": 1 - score})  # fmt: skip


def call(*words):
    found = CliRunner().invoke(app, ["leaderboard", *map(str, words)])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


@pytest.fixture
def three(tmp_path):
    for name, skill in (("a", 0.5), ("b", 2.0), ("c", 1.0)):
        (tmp_path / name).mkdir()
        table(skill).to_csv(tmp_path / name / "test.csv", index=False)
    return [tmp_path / name / "test.csv" for name in "abc"]


def test_tables_are_ranked_and_each_look_is_kept(three, tmp_path):
    out = tmp_path / "board"
    found = call(*three, "--positive", "mel", "-o", out)
    assert found.exit_code == 0, found.output
    assert {p.name for p in out.iterdir()} == {"leaderboard.csv", "leaderboard.json", "leaderboard.html", "metrics.json"}  # fmt: skip
    held = json.loads((out / "leaderboard.json").read_text())
    assert held["systems"] == ["b/test", "c/test", "a/test"]
    assert "minus b/test" in found.output
    page = (out / "leaderboard.html").read_text("utf-8")
    assert "b/test leads" in page
    assert "flattered by that choice" in page
    assert all((path.parent / "evaluation" / "ledger.jsonl").exists() for path in three)
    again = call(*three, "--positive", "mel", "-o", out, "--json", "--against", "first", "--metric", "accuracy")
    told = json.loads(again.stdout)
    assert (told["reference"], told["metric"], told["looks"]) == ("a/test", "accuracy", [1, 1, 1])


def test_tuning_predictions_cost_no_look(tmp_path):
    for name, skill in (("a", 0.5), ("b", 2.0)):
        table(skill, "tuning").to_csv(tmp_path / f"{name}.csv", index=False)
    words = (tmp_path / "a.csv", tmp_path / "b.csv", "--positive", "mel", "-o", tmp_path / "board", "--allow-seen")
    found = call(*words)
    assert found.exit_code == 0, found.output
    assert "in training or tuning" in found.output
    assert not (tmp_path / "evaluation").exists()


def test_what_is_no_system_is_refused(three, tmp_path):
    (tmp_path / "mine.toml").write_text("epochs = 1")
    with pytest.raises(InputError, match="two or more runs, recipes or tables"):
        call(three[0])
    with pytest.raises(InputError, match="on the table and the split of a run"):
        call(three[0], tmp_path / "mine.toml")
    (tmp_path / "mine.toml").write_text("epoch = 1")
    with pytest.raises(InputError, match="epochs"):
        call(three[0], tmp_path / "mine.toml")
    (tmp_path / "mine.toml").write_text("epochs = 1")
    with pytest.raises(OverreadError, match="accuracy"):
        call(three[0], three[1], "--metric", "acuracy", "-o", tmp_path / "board")
    with pytest.raises(OverreadError, match="against"):
        call(three[0], three[1], "--against", "me", "-o", tmp_path / "board")
    assert not (tmp_path / "board").exists() or not list((tmp_path / "board").iterdir())
    with pytest.raises(InputError, match="given twice"):
        call(three[0], three[0], "-o", tmp_path / "board")


def test_recipes_are_trained_on_the_split_of_a_run_without_a_look_and_again_at_once(phantom, tmp_path):
    recipe = {"method": "scratch", "backbone": "cnn_small", "epochs": 1, "image_size": 32, "batch_size": 16}
    study = Study.from_flat(table=str(phantom), image="image", label="diagnosis", patient="patient", source="microscope", seed=3, threads=1,
                            recipe=recipe)  # fmt: skip
    run, board = tmp_path / "first", tmp_path / "board"
    study, cases = open_study(study, run)
    context = RunContext(study, run, table=cases)
    for step in (lambda context: set_up(context, cases), train, predict):
        step(context)
    (tmp_path / "quick.toml").write_text('method = "scratch"\nbackbone = "lenet5"\nepochs = 1\nimage_size = 32')
    words = (run, tmp_path / "quick.toml", "-o", board, "--offline")
    found = call(*words)
    assert found.exit_code == 0, found.output
    held = json.loads((board / "leaderboard.json").read_text())
    assert set(held["systems"]) == {"first", "quick"}
    made = board / "runs" / "quick"
    assert (made / "split.csv").read_bytes() == (run / "split.csv").read_bytes()
    assert "lenet5" in (made / "model" / "model.json").read_text()
    assert not (made / "ledger.jsonl").exists()
    weights = (made / "model" / "model.safetensors").stat().st_mtime_ns
    assert call(*words).exit_code == 0
    assert (made / "model" / "model.safetensors").stat().st_mtime_ns == weights


def test_a_report_compares_by_the_same_door(tmp_path):
    doors = (("report", "--compare"), ("leaderboard",))
    for number, words in enumerate(doors):
        home = tmp_path / str(number)
        home.mkdir()
        for name, skill in (("a", 0.5), ("b", 2.0)):
            renamed = table(skill).replace({"label": {"mel": "malignant", "nv": "benign"}})
            renamed.rename(columns={"p:mel": "p:malignant", "p:nv": "p:benign"}).to_csv(home / f"{name}.csv", index=False)  # fmt: skip
        systems = [str(home / "a.csv"), str(home / "b.csv")]
        found = CliRunner().invoke(app, [*words, *systems, "-o", str(home / "board")], catch_exceptions=False)
        assert found.exit_code == 0, found.output
    for name in ("leaderboard.json", "leaderboard.html", "leaderboard.csv"):
        assert (tmp_path / "0/board" / name).read_bytes() == (tmp_path / "1/board" / name).read_bytes()
    with pytest.raises(InputError, match="a report is of one run"):
        CliRunner().invoke(app, ["report", *systems], catch_exceptions=False)
