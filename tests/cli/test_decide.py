"""`--decide`, `--cost-matrix` and `--rule`: how cases are called, on the command line and in a study."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.errors import ArgumentError, InputError
from overread.evaluation.operating_point import choose_threshold
from overread.predictions import Predictions
from overread.study.image_steps import frozen_by
from overread.study.question import OperatingRule, Study
from overread.tasks.target import Target

NAMES = ("naevus", "melanoma", "wart")


def draw(count, who, prior=(0.85, 0.1, 0.05)):
    rng, share = np.random.default_rng([*who.encode()]), np.array(prior)
    truth = rng.choice(3, count, p=share)
    chance = np.exp(1.5 * (rng.normal(size=(count, 3)) + 1.5 * np.eye(3)[truth]) + np.log(share))
    table = {"case": [f"{who}{i}" for i in range(count)], "patient": [f"{who}p{i}" for i in range(count)]}
    table |= {"label": np.array(NAMES)[truth]}
    return pd.DataFrame(table | {f"p:{n}": chance[:, i] / chance.sum(axis=1) for i, n in enumerate(NAMES)})


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """test.csv, tuning.csv and costs.csv; no figures, which take longest and are looked at elsewhere."""
    draw(300, "e").to_csv(tmp_path / "test.csv", index=False)
    draw(300, "t").to_csv(tmp_path / "tuning.csv", index=False)
    costs = pd.DataFrame([[0, 1, 1], [10, 0, 5], [2, 2, 0]], NAMES, NAMES)
    costs.to_csv(tmp_path / "costs.csv", index_label="truth")
    monkeypatch.setattr("overread.reporting.page.draw_evaluation", lambda folder, target: [])
    monkeypatch.setattr("overread.reporting.pages.compare.draw_comparison", lambda found: [])
    return tmp_path


def call(command, *words):
    found = CliRunner().invoke(app, [command, *map(str, words)])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def metrics(folder):
    listing = json.loads((folder / "metrics.json").read_text())
    return {(e["metric"], e["of"]): e["value"] for e in listing if not e["where"]}


def judged(parts, *words):
    found = call("evaluate", parts / "test.csv", "--tuning", parts / "tuning.csv", "-o", parts / "out", *words)
    assert found.exit_code == 0, found.output
    return found.output, metrics(parts / "out"), json.loads((parts / "out" / "operating.json").read_text())


def test_a_table_with_tuning_is_called_by_the_rule_chosen_there(parts):
    out, found, (rule,) = judged(parts)
    assert "called by prior-adjusted argmax" in out
    assert rule["rule"] == "prior"
    assert rule["names"] == list(NAMES)
    assert found["balanced accuracy", ""] > found["top balanced accuracy", ""]
    page = (parts / "out" / "evaluation.html").read_text("utf-8")
    assert "is called by prior-adjusted argmax" in page
    assert "Accuracy at the threshold" not in page  # which several classes have not
    assert "Balanced accuracy by argmax" in page


def test_argmax_and_costs_may_be_asked_for(parts):
    out, found, (rule,) = judged(parts, "--decide", "argmax")
    assert rule["rule"] == "argmax"
    assert "largest probability (asked for)" in out
    assert ("top accuracy", "") not in found
    _, costly, (rule,) = judged(parts, "--cost-matrix", parts / "costs.csv")
    assert rule["rule"] == "cost"
    assert costly["mean cost", ""] < costly["mean cost by argmax", ""]
    assert "Mean cost of a case" in (parts / "out" / "evaluation.html").read_text("utf-8")


def test_without_tuning_nothing_is_chosen_and_that_is_said(parts):
    found = call("evaluate", parts / "test.csv", "-o", parts / "out")
    assert "no decision rule was frozen on tuning data (--tuning)" in found.output
    for words in (("--decide", "prior"), ("--cost-matrix", parts / "costs.csv"), ("--rule", "accuracy"), ("--sensitivity", 0.9)):  # fmt: skip
        with pytest.raises(InputError, match="--tuning tuning.csv"):
            call("evaluate", parts / "test.csv", "-o", parts / "no", *words)
    for words in (("--decide", "argmax"), ("--decide", "auto")):
        assert call("evaluate", parts / "test.csv", "-o", parts / "out", *words).exit_code == 0


def test_a_run_is_judged_by_what_was_named_even_if_that_is_the_default(parts, monkeypatch):
    """What is not named stays as the study says; of what belongs together the rest goes back to its default."""
    said, run = OperatingRule(decide="argmax", rule="accuracy", fixed=0.8), parts / "run"
    seen = []
    monkeypatch.setattr(
        "overread.cli.evaluate.open_run", lambda study, folder: seen.append(study.operating_point) or 1 / 0
    )
    for words, expected in (
        ((), said),
        (("--decide", "auto"), replace(said, decide="auto")),
        (("--rule", "youden"), replace(said, rule="youden")),
        (("--sensitivity", 0.9), replace(said, rule="youden", sensitivity=0.9)),
        (("--cost-matrix", parts / "costs.csv"), replace(said, decide="auto", cost_matrix=str(parts / "costs.csv"))),
        (("--fixed", 0.9), replace(said, fixed=0.9)),
    ):
        Study.from_flat(table="t.csv", image="i", label="l", **vars(said)).save(run / "study.toml")
        with pytest.raises(ZeroDivisionError):
            call("evaluate", run, *words)
        assert seen[-1] == expected


def test_compare_calls_each_by_its_own_rule(parts):
    test = pd.read_csv(parts / "test.csv")
    test.iloc[::-1].to_csv(parts / "again.csv", index=False)
    found = call(
        "compare", parts / "test.csv", parts / "again.csv", "--tuning", parts / "tuning.csv", "-o", parts / "c"
    )
    assert found.exit_code == 0, found.output
    assert "for one model only" in found.output
    held = json.loads((parts / "c" / "comparison.json").read_text())
    assert held["about"]["called by"][0].startswith("prior-adjusted")
    assert held["about"]["called by"][1] == "largest probability"
    judged(parts)
    kept = ("--at", parts / "out" / "operating.json", "--other-at", parts / "out" / "operating.json")
    both = call("compare", parts / "test.csv", parts / "again.csv", *kept, "-o", parts / "d")
    assert "for one model only" not in both.output


def test_two_classes_keep_their_threshold(parts):
    two = [draw(80, who)[lambda t: t["label"] != "wart"].drop(columns="p:wart") for who in ("e", "t")]
    for name, table in zip(("test", "tuning"), two, strict=True):
        table.assign(**{"p:naevus": 1 - table["p:melanoma"]}).to_csv(parts / f"{name}.csv", index=False)
    words = (
        "evaluate",
        parts / "test.csv",
        "--tuning",
        parts / "tuning.csv",
        "--positive",
        "melanoma",
        "-o",
        parts / "out",
    )
    with pytest.raises(InputError, match="its threshold"):
        call(*words, "--decide", "prior")
    assert call(*words, "--rule", "accuracy").exit_code == 0
    found, point = metrics(parts / "out"), json.loads((parts / "out" / "operating.json").read_text())[0]
    assert point["rule"].startswith("highest accuracy")
    test = pd.read_csv(parts / "test.csv")
    called = np.where(test["p:melanoma"] >= point["threshold"], "melanoma", "naevus")
    assert found["accuracy", ""] == pytest.approx(accuracy_score(test["label"], called))
    top = np.where(test["p:melanoma"] > 0.5, "melanoma", "naevus")
    assert found["top accuracy", ""] == pytest.approx(accuracy_score(test["label"], top))
    page = (parts / "out" / "evaluation.html").read_text("utf-8")
    assert "Accuracy by argmax" in page
    assert "Accuracy at the threshold" in page


def test_the_threshold_of_highest_accuracy_is_the_best_of_all():
    rng = np.random.default_rng(0)
    truth = rng.random(300) < 0.2
    score = 1 / (1 + np.exp(2 - 1.5 * truth - rng.normal(size=300)))
    table = pd.DataFrame({"case": [f"c{i}" for i in range(300)], "patient": [f"p{i}" for i in range(300)], "split": "", "source": "",
                          "label": np.where(truth, "ill", "well"), "p:ill": score, "p:well": 1 - score})  # fmt: skip
    point = choose_threshold(Predictions(table, Target("binary", ("ill", "well"), ("ill",))), rule="accuracy")
    best = max(((score >= t) == truth).mean() for t in np.append(score, 2.0))
    assert ((score >= point.threshold) == truth).mean() == pytest.approx(best)


def test_a_study_freezes_points_and_rule_together(parts):
    tuning = Predictions.read(parts / "tuning.csv", ("melanoma",))
    point, rule = frozen_by(OperatingRule(sensitivity=0.9), tuning)
    assert point.positive == ("melanoma",)
    assert rule.rule == "prior"
    assert frozen_by(OperatingRule(decide="argmax"), tuning)[1].rule == "argmax"
    study = Study.from_flat(table="t.csv", image="i", label="l", decide="thresholds", rule="accuracy")
    study.save(parts / "study.toml")
    assert Study.load(parts / "study.toml").operating_point == OperatingRule(rule="accuracy", decide="thresholds")
    written = Study.from_flat(table="t.csv", cost_matrix="costs.csv").seen_from(parts)
    assert written.operating_point.cost_matrix == str(parts / "costs.csv")


@pytest.mark.parametrize("fields", [
    {"decide": "cost"}, {"decide": "prior", "cost_matrix": "c.csv"}, {"decide": "best"}, {"rule": "luck"},
    {"rule": "accuracy", "sensitivity": 0.9}, {"rule": "sensitivity", "cost": 2.0},
])  # fmt: skip
def test_rules_that_contradict_each_other_are_refused(fields):
    with pytest.raises(ArgumentError):
        OperatingRule(**fields)
