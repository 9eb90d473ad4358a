"""``overread plan`` from the outside."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.errors import InputError
from overread.evaluation.sample_size import Plan, plan


def call(*words):
    found = CliRunner().invoke(app, ["plan", *map(str, words)])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_example_of_the_guide(tmp_path, print_form):
    with print_form():
        found = call("--sensitivity", 0.9, "--width", 0.05, "--prevalence", 0.1)
    need = plan(sensitivity=0.9, width=0.05, prevalence=0.1).needed
    assert f"{need.patients:,} patients: {need.positives:,} with and {need.negatives:,} without" in found.stdout
    assert Plan.load(tmp_path / "plan").needed == need
    for name in ("plan.json", "metrics.json", "plan.html", "figures/patients.svg", "figures/patients.png"):
        assert (tmp_path / "plan" / name).stat().st_size > 500


@pytest.mark.parametrize("words", [
    ("--auc", 0.85, "--width", 0.1), ("--auc", 0.9, "--against", 0.88, "--margin", 0.05, "--power", 0.8),
    pytest.param(("--sensitivity", 0.9, "--against", 0.85), marks=pytest.mark.slow),
    ("--specificity", 0.9, "--sensitivity", 0.8, "--width", 0.1),
    ("--auc", 0.85, "--width", 0.1, "--images-per-patient", 3, "--correlation", 0.4, "--level", 0.9),
])  # fmt: skip
def test_every_question(words, tmp_path, monkeypatch):
    monkeypatch.setattr("overread.reporting.page.save_figures", lambda figures, folder: [])
    held = json.loads(call(*words, "--json", "-o", tmp_path / "o").stdout)
    assert held["needed"]["patients"] > 10
    assert held["neighbours"]


def test_an_assumed_prevalence_is_said():
    assert "assumed" in call("--auc", 0.85, "--width", 0.1).stdout


def test_nothing_asked_is_said():
    with pytest.raises(InputError, match="nothing is asked"):
        call()
    with pytest.raises(InputError, match="how wide"):
        call("--auc", 0.85)
