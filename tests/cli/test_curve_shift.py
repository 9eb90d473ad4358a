"""``overread curve`` and ``overread shift``: from tables without torch, and from a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from overread.cases.split import Split
from overread.cli.main import app
from overread.core.errors import InputError
from overread.evaluation.ledger import verify
from overread.study import steps
from overread.study.question import Study

RECIPE = {"method": "scratch", "backbone": "cnn_small", "epochs": 1, "image_size": 32, "batch_size": 16, "views": 1}


@pytest.fixture(scope="module")
def done(phantom, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "done"
    two = pd.read_csv(phantom, dtype=str)
    two["microscope"] = two["microscope"].replace({"C": "B"})  # few patients: two sites in the place of three
    two.to_csv(phantom.parent / "two.csv", index=False)
    study = Study.from_flat(table=str(phantom.parent / "two.csv"), image="image", label="diagnosis", patient="patient", source="microscope", seed=3, threads=1,
                  recipe=RECIPE, tuning=0.4)  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:  # the report takes half of the time, and nothing here looks at it
        patch.setattr(steps, "STEPS", tuple(step for step in steps.STEPS if step.__name__ != "report"))
        steps.run(study, folder, network=False)
    return folder


def table(path: Path, skill: float, *, seed: int = 0, sites: int = 1, **columns: str) -> Path:
    rng = np.random.default_rng(seed)
    ill = rng.random(120) < 0.4
    p = 1 / (1 + np.exp(-(rng.normal(size=120) + skill * ill)))
    found = pd.DataFrame(
        {"case": np.arange(120), "patient": np.arange(120) // 2, "label": np.where(ill, "ill", "well"), "p:ill": p}
    )
    found["source"] = [f"site {i % sites}" for i in range(120)]
    found["patient"] = found["patient"].astype(str) + found["source"]
    found.assign(**columns).to_csv(path, index=False)
    return path


def call(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_curve_from_tables(tmp_path) -> None:
    paths = [table(tmp_path / f"{n}.csv", s) for n, s in ((100, 0.5), (200, 1.0), (400, 1.4), (800, 1.6))]
    answer = call("curve", *paths, "--sizes", "100,200,400,800")
    assert answer.exit_code == 0, answer.output
    assert "Doubling the images (from 400 to 800)" in answer.output
    folder = tmp_path / "curve"
    for name in (
        "curve.json",
        "metrics.json",
        "curve.html",
        "figures/learning-curve.svg",
        "figures/learning-curve.png",
        "../evaluation/ledger.jsonl",  # beside the predictions, wherever the results go
    ):
        assert (folder / name).stat().st_size > 0, name
    assert [s["size"]["value"] for s in json.loads((folder / "curve.json").read_text("utf-8"))["steps"]] == [
        100,
        200,
        400,
        800,
    ]
    assert all("metric" in e for e in json.loads((folder / "metrics.json").read_text("utf-8")))
    told = call("curve", *paths, "--sizes", "100,200,400,800", "--json", "-o", tmp_path / "again")
    assert json.loads(told.stdout)["metric"] == "auc"
    assert isinstance(call("curve", *paths, "--sizes", "100,200").exception, InputError)
    assert isinstance(call("curve", *paths, "--sizes", "a,b,c,d").exception, InputError)


def test_a_shift_from_one_table(tmp_path) -> None:
    parts = [pd.read_csv(table(tmp_path / "x.csv", 1.0 + i, seed=i, sites=2, trained_on=f"site {i}")) for i in (0, 1)]
    pd.concat(parts).to_csv(tmp_path / "p.csv", index=False)
    answer = call("shift", tmp_path / "p.csv")
    assert answer.exit_code == 0, answer.output
    assert "Trained on site 1: AUC" in answer.output
    for name in ("shift.json", "metrics.json", "shift.html", "figures/shift-matrix.svg", "figures/shift-gaps.png"):
        assert (tmp_path / "shift" / name).stat().st_size > 0, name
    one = table(tmp_path / "one.csv", 1.0, sites=3)
    assert (
        "Trained on site 0+site 2" in call("shift", one, "--trained-on", "site 0+site 2", "-o", tmp_path / "o").output
    )
    assert "nothing says which site" in str(call("shift", one).exception)
    assert "no prediction is from" in str(call("shift", one, "--trained-on", "site 9").exception)
    assert "'hospital'" in str(call("shift", one, "--trained-on", "site 0", "--source", "hospital").exception)


def test_tables_need_no_torch(tmp_path) -> None:
    paths = [str(table(tmp_path / f"{n}.csv", 1.0, seed=n)) for n in (1,)] * 2
    code = ("import sys; from overread.cli.main import app\ntry: app()\nexcept SystemExit: pass\n"
            "assert 'torch' not in sys.modules")  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, "curve", *paths, "--sizes", "1,2"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_a_curve_of_a_run_leaves_the_test_set_closed_and_goes_on(done, monkeypatch) -> None:
    before = (done / "ledger.jsonl").read_bytes()
    answer = call("curve", done, "--sizes", "50%,100%", "--repeats", "1", "--offline")
    assert answer.exit_code == 0, (answer.output, answer.exception)
    assert "2 models to train" in answer.output
    assert (done / "ledger.jsonl").read_bytes() == before
    stored = json.loads((done / "curve" / "curve.json").read_text("utf-8"))
    tuning = Split.load(done / "split.csv").table.query("part == 'tuning'")
    assert stored["part"] == "tuning"
    assert stored["steps"][0]["estimate"]["patients"] == tuning["patient"].nunique()
    assert stored["steps"][0]["size"]["patients"] < stored["steps"][1]["size"]["patients"]
    page = (done / "curve" / "curve.html").read_text("utf-8")
    assert "chose the snapshot" in page
    assert not any(name in page for name in tuning["case"]), "no case is named"
    monkeypatch.setattr("overread.distributed.repeated.train", None)
    again = call("curve", done, "--sizes", "50%,100%", "--repeats", "1", "--offline")
    assert again.exit_code == 0, again.exception
    assert "kept from before" in again.output


def test_the_test_part_goes_through_the_ledger(done) -> None:
    looks = len(verify(done / "ledger.jsonl"))
    answer = call(
        "curve", done, "--sizes", "60%,100%", "--repeats", "1", "--offline", "--part", "test", "-o", done / "curve-test"
    )
    assert answer.exit_code == 0, answer.exception
    assert "opens the test set" in answer.output
    entries = verify(done / "ledger.jsonl")
    assert len(entries) == looks + 2
    assert len({e["test"] for e in entries}) == 1, "the test set that the study opened"
    assert "The test set was opened" in (done / "curve-test" / "curve.html").read_text("utf-8")


def test_a_curve_over_grades(done, tmp_path) -> None:
    study = Study.load(done / "study.toml")
    named = pd.read_csv(study.table, dtype=str)
    from overread.study.context import key_of

    names = key_of(study)["case"]
    label = named["diagnosis"].to_numpy()
    rng = np.random.default_rng(0)
    rows = {"case": list(names)}
    for r in range(3):
        wrong = rng.random(len(names)) < 0.3
        rows[f"reader {r}"] = list(np.where(wrong, rng.permutation(label), label))
    pd.DataFrame(rows).drop_duplicates("case").to_csv(tmp_path / "grades.csv", index=False)
    answer = call("curve", done, "--grades", tmp_path / "grades.csv", "--per-image", "1,3", "--repeats", "1", "--offline", "-o", tmp_path / "g")  # fmt: skip
    assert answer.exit_code == 0, (answer.output, answer.exception)
    assert "Taking 3 times as many grades per image (from 1 to 3)" in answer.output
    assert isinstance(
        call("curve", done, "--grades", tmp_path / "grades.csv", "--per-image", "0,3").exception, InputError
    )


def test_a_shift_of_a_run(done) -> None:
    answer = call("shift", done, "--offline", "--metric", "accuracy")
    assert answer.exit_code == 0, (answer.output, answer.exception)
    stored = json.loads((done / "shift" / "shift.json").read_text("utf-8"))
    assert len(stored["sources"]) >= 2
    parts = Split.load(done / "split.csv").table
    tuning = parts[parts["part"] == "tuning"]
    for name in stored["trained"]:
        cells = [c for c in stored["cells"] if c["trained_on"] == name]
        assert sum(c["estimate"]["patients"] for c in cells) >= tuning["patient"].nunique()
    assert (done / "shift" / "shift.html").exists()


def test_what_is_wrong_is_told_before_anything_is_trained(done, tmp_path) -> None:
    for arguments, text in (
        (("curve", done, "--metric", "aucc"), "auc"),
        (("curve", done, "--part", "train"), "tuning or the test"),
        (("curve", tmp_path), "no model yet"),
        (("curve", done, "--sizes", "lots"), "a share or a number"),
        (("shift", done, "--metric", "mae"), "cannot be told"),
        (("shift", tmp_path / "none.csv"), "does not exist"),
    ):
        answer = call(*arguments)
        assert isinstance(answer.exception, InputError), (arguments, answer.exception)
        assert text in str(answer.exception)


def test_a_mistyped_folder_is_said_to_be_missing(tmp_path):
    done = CliRunner().invoke(app, ["curve", str(tmp_path / "nowhere")])
    assert done.exit_code != 0
    assert "no such run folder" in str(done.exception)
