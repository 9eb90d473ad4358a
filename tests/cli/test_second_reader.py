"""`overread second-reader`: the paper's table on a run's or anybody's predictions, what is declared, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from overread.cases.annotators import Grades
from overread.cli.main import app
from overread.core.errors import OverreadError
from overread.predictions import Predictions
from overread.synthetic.mammograms import CLASSES, _readers


@pytest.fixture
def tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    for seed, name in enumerate(("tuning", "test")):
        rng = np.random.default_rng(seed)
        ill, many = rng.random(300) < 0.4, 300
        calls, scores = _readers(seed, ill, rng.integers(0, 4, many))
        cases = [f"{name}{i}" for i in range(many)]
        pd.DataFrame({"case": cases, "patient": cases, "source": np.where(rng.random(many) < 0.5, "UK", "US"),
                      "label": np.where(ill, "cancer", "normal"), "p:cancer": 1 / (1 + np.exp(1.5 - rng.normal(size=many) - 3 * ill))}
                     ).to_csv(f"{name}.csv", index=False)  # fmt: skip
        said += [
            [case, reader, CLASSES[int(called)], ""]
            for reader, each in calls.items()
            for case, called in zip(cases, each)
        ]
        said += [
            [case, f"reader {n}", CLASSES[int(s > 5)], s]
            for n, each in enumerate(scores)
            for case, s in zip(cases, each)
        ]
    pd.DataFrame(said, columns=["case", "reader", "label", "score"]).to_csv("readers.csv", index=False)
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, [*map(str, words)])


def test_declared_judged_and_written(tables):
    told = run("second-reader", "test.csv", "--declare", "--margin", 0.06)
    assert told.exit_code == 0, told.output
    assert "declared: non-inferiority of sensitivity, margin 0.06" in told.output
    assert "stood there already" in run("second-reader", "test.csv", "--declare", "--margin", 0.06).output
    result = run("second-reader", "test.csv", "--tuning", "tuning.csv", "--readers", "readers.csv", "--match", "first",
                 "--margin", 0.06, "--positive", "cancer")  # fmt: skip
    assert result.exit_code == 0, result.output
    for word in (
        "the first reader's specificity on tuning data",
        "Fewer false negatives",
        "consensus",
        "pre-declared",
        "second reads saved",
        "UK",
    ):
        assert word in result.output
    assert "post hoc" not in result.output
    names = {path.name for path in (tables / "second-reader").iterdir()}
    assert {"second_reader.json", "second_reader.csv", "metrics.json", "second_reader.html", "figures"} <= names
    page = (tables / "second-reader" / "second_reader.html").read_text()
    assert "Fewer false positives" in page
    held = json.loads(run("second-reader", "test.csv", "--tuning", "tuning.csv", "--readers", "readers.csv", "--specificity", 0.9,
                          "--positive", "cancer", "--json", "-o", "again").stdout)  # fmt: skip
    assert held["looks"] == 1
    assert held["operating"]["rule"] == "specificity ≥ 0.9"
    assert held["margin"] == 0.05
    assert "post hoc" in held["contrasts"][0]["claims"][0]["status"]  # another margin than the declared one


def test_six_readers_are_judged_without_the_roles_of_the_second_reader(tables):
    result = run("readers", "readers.csv", "test.csv", "--tuning", "tuning.csv", "--positive", "cancer", "--leave-out", "first,second,consensus",
                 "--names", "keep", "-o", "out")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "left out: 3 readers; 6 readers stay" in result.output
    held = json.loads((tables / "out" / "metrics.json").read_text())
    assert any(e["metric"] == "auc difference" for e in held)
    assert not any("consensus" in str(e["where"].values()) for e in held)


@pytest.mark.parametrize(
    ("words", "message"),
    [((), "--readers readers.csv"), (("--readers", "readers.csv", "--first", "erste"), "no such reader.*--first"),
     (("--readers", "readers.csv", "--match", "third"), "--match"),
     (("--readers", "readers.csv", "--match", "first", "--specificity", "0.9"), "one way")],
)  # fmt: skip
def test_what_cannot_be_is_refused(tables, words, message):
    result = run("second-reader", "test.csv", "--tuning", "tuning.csv", "--positive", "cancer", *words)
    assert result.exit_code != 0
    with pytest.raises(OverreadError, match=message):
        raise result.exception


def test_readers_names_of_cases_meet_the_codes_of_a_run(tmp_path):
    from overread.cases.privacy import codes
    from overread.cli.console import coded_for
    from overread.study.question import Study
    from overread.tasks.target import Target

    salt = "0" * 32
    study = Study.from_flat(table="t.csv")
    study.changed(salt=salt).save(tmp_path / "study.toml")
    grades = Grades(
        pd.DataFrame({"case": ["a", "b"], "reader": "first", "modality": "", "label": ["cancer", "normal"]}), "label"
    )
    coded = codes(pd.Series(["a", "b"]), salt)
    table = pd.DataFrame({"case": coded, "patient": coded, "split": "test", "source": "", "label": ["cancer", "normal"],
                          "p:normal": [0.1, 0.8], "p:cancer": [0.9, 0.2]})  # fmt: skip
    test = Predictions(table, Target("binary", ("normal", "cancer"), ("cancer",)))
    assert list(coded_for(tmp_path, grades, test).table["case"]) == list(coded)
    assert coded_for(tmp_path / "test.csv", grades, test) is grades
