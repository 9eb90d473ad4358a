"""`overread calibrate`: files, refusals, thresholds on mended data, tables without a truth."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.errors import OverreadError
from overread.evaluation.recalibrate import Recalibration
from overread.predictions import Predictions


def write(path, seed, prefix, count=300):
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.4
    logit = 2.5 * (rng.normal(size=count) + 2 * truth - 1)  # overconfident
    pd.DataFrame({
        "case": [f"{prefix}{i}" for i in range(count)], "patient": [f"{prefix}p{i // 2}" for i in range(count)],
        "label": np.where(truth, "ill", "well"), "p:ill": 1 / (1 + np.exp(-logit)),
    }).to_csv(path, index=False)  # fmt: skip
    return path


def run(*words):
    return CliRunner().invoke(app, ["calibrate", *map(str, words)])


def test_the_files_of_a_calibration(tmp_path):
    tuning, test = write(tmp_path / "tuning.csv", 0, "a"), write(tmp_path / "test.csv", 1, "b")
    result = run(tuning, test, "--sensitivity", 0.9, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    out = tmp_path / "out"
    names = {"recalibration.json", "calibrated.csv", "calibrated-tuning.csv", "operating.json", "metrics.json", "calibration.json",
             "calibrate.html"}  # fmt: skip
    assert names <= {p.name for p in out.iterdir()}
    assert {p.suffix for p in (out / "figures").iterdir()} == {".svg", ".png"}
    assert "brier" in result.output
    fitted = Recalibration.load(out / "recalibration.json")
    assert fitted.method in ("temperature", "platt")
    metrics = {
        (m["metric"], m["where"].get("probabilities", "")): m for m in json.loads((out / "metrics.json").read_text())
    }
    assert metrics["log loss difference", ""]["value"] < 0
    point = json.loads((out / "operating.json").read_text())[0]
    mended = Predictions.read(out / "calibrated-tuning.csv")
    ill = mended.truth == mended.target.names.index("ill")
    score = mended.table["p:ill"].to_numpy()
    assert "ill" in point["positive"]
    assert (score[ill] >= point["threshold"]).mean() == pytest.approx(point["sensitivity"])
    assert point["sensitivity"] >= 0.9


def test_json_goes_to_the_output_and_what_has_no_truth_is_only_mended(tmp_path):
    tuning, test = write(tmp_path / "tuning.csv", 0, "a"), write(tmp_path / "test.csv", 1, "b")
    table = pd.read_csv(test)
    table["p:well"] = 1 - table["p:ill"]
    table.assign(label="").to_csv(test, index=False)
    source = pd.read_csv(tuning)
    source["p:well"] = 1 - source["p:ill"]
    source.to_csv(tuning, index=False)
    result = run(tuning, test, "--method", "platt", "--prevalence", "estimate", "--json")
    assert result.exit_code == 0, result.output
    assert '"deployment"' in result.output
    assert (tmp_path / "calibration" / "calibrated.csv").exists()
    assert not (tmp_path / "calibration" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tuning.csv",), "no predictions to mend"),
        (("tuning.csv", "tuning.csv"), "used to recalibrate"),
        (("tuning.csv", "test.csv", "--prevalence", "rare"), "prevalence is not understood"),
        (("tuning.csv", "test.csv", "--method", "isotonic"), "by heart"),
    ],
)
def test_what_is_refused(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "tuning.csv", 0, "a")
    write(tmp_path / "test.csv", 1, "b")
    result = run(*words)
    assert result.exit_code != 0
    assert isinstance(result.exception, OverreadError)
    assert message in str(result.exception)
