"""`overread simulate`: with readers, without, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.errors import OverreadError


@pytest.fixture
def tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("tuning", "test")):
        rng = np.random.default_rng(seed)
        truth = rng.random(200) < 0.4
        pd.DataFrame({
            "case": [f"{name}{i}" for i in range(200)], "patient": [f"{name}p{i // 2}" for i in range(200)],
            "label": np.where(truth, "yes", "no"), "p:yes": 1 / (1 + np.exp(-rng.normal(size=200) - 2 * truth + 1)),
        }).to_csv(f"{name}.csv", index=False)  # fmt: skip
    rows = [
        {"case": f"test{i}", "reader": r, "label": int(rng.random() < 0.2 + 0.6 * truth[i])}
        for i in range(200)
        for r in "abc"
    ]
    pd.DataFrame(rows).to_csv("readers.csv", index=False)
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, ["simulate", *map(str, words)])


def test_workflows_side_by_side(tables):
    result = run("test.csv", "--readers", "readers.csv", "--tuning", "tuning.csv", "--sensitivity", 0.95, "--costs",
                 "read=1,miss=50", "-o", "out")  # fmt: skip
    assert result.exit_code == 0, result.output
    for word in ("reader alone", "two readers", "triage", "cost per case"):
        assert word in result.output
    names = {p.name for p in (tables / "out").iterdir()}
    assert {"simulation.json", "metrics.json", "operating.json", "simulation.html", "figures"} <= names
    assert {"triage.svg", "triage.png", "workflows.svg"} <= {p.name for p in (tables / "out" / "figures").iterdir()}
    points = json.loads((tables / "out" / "operating.json").read_text())
    assert points[1]["rule"] == "sensitivity ≥ 0.95"


def test_without_readers_as_json(tables):
    result = run("test.csv", "--tuning", "tuning.csv", "--json", "--prevalence", 0.05)
    assert result.exit_code == 0, result.output
    held = json.loads(result.stdout)
    assert [w["name"] for w in held["workflows"]] == ["reader alone", "model alone", "triage"]
    assert held["counts"]["prevalence"] == 0.05
    assert (tables / "simulation" / "simulation.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("test.csv",), "no tuning predictions"),
        (("test.csv", "--tuning", "test.csv"), "to choose the threshold"),
        (("test.csv", "--tuning", "tuning.csv", "--costs", "read"), "cost is not understood"),
        (("test.csv", "--tuning", "tuning.csv", "--readers", "nobody.csv"), "nobody.csv"),
    ],
)
def test_what_is_refused(tables, words, message):
    result = run(*words)
    assert result.exit_code != 0
    assert isinstance(result.exception, OverreadError)
    assert message in str(result.exception)


def test_what_an_accuracy_against_one_reader_can_mean(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("--single-reader-truth", "--reader-accuracy", 0.97)
    assert result.exit_code == 0, result.output
    assert "A perfect model would show 97.0 %" in result.output
    assert {"single_reader.json", "metrics.json", "single_reader.html"} <= {
        p.name for p in (tmp_path / "single-reader").iterdir()
    }
    held = json.loads(run("--single-reader-truth", "--reader-sensitivity", 0.9, "--reader-specificity", 0.95, "--prevalence", 0.2, "--panel", 5, "--json", "-o", "o").stdout)  # fmt: skip
    assert held["terms"]["prevalence"] == 0.2
    assert held["settles"] > 1


@pytest.mark.parametrize(("words", "message"), [
    (("--single-reader-truth",), "how often such a reader is right"),
    (("test.csv", "--single-reader-truth", "--reader-accuracy", 0.9), "looks at no cases"),
    (("--single-reader-truth", "--reader-accuracy", 0.9, "--readers", "readers.csv"), "looks at no cases"),
    (("--single-reader-truth", "--reader-accuracy", 0.9, "--sensitivity", 0.9), "given: --sensitivity"),
    (("--single-reader-truth", "--reader-accuracy", 0.9, "--specificity", 0.9, "--seed", 1, "--positive", "yes"), "--specificity, --seed, --positive"),
    (("test.csv", "--tuning", "tuning.csv", "--reader-accuracy", 0.9, "--cases", 500), "--cases, --reader-accuracy"),
    ((), "no predictions"),
])  # fmt: skip
def test_the_calculator_looks_at_no_cases(tables, words, message):
    result = run(*words)
    assert isinstance(result.exception, OverreadError)
    assert message in str(result.exception)
