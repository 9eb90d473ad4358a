"""``overread compare`` from the outside."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from overread.cases.privacy import codes
from overread.cli.main import app
from overread.core.errors import InputError, OverreadError
from overread.evaluation.comparison.compare import Comparison
from overread.evaluation.evaluate import evaluate
from overread.evaluation.operating_point import choose_thresholds
from overread.predictions import Predictions
from overread.study.question import Study
from overread.tasks.target import Target

FILES = ("metrics.json", "comparison.json", "comparison.html", "figures/roc.svg", "figures/roc.png", "figures/differences.svg",
         "figures/net-benefit.png", "figures/scores.png")  # fmt: skip


def table(seed=0, skill=1.5, count=160, prefix="c"):
    rng, ill = np.random.default_rng(seed), np.random.default_rng(77).random(count) < 0.4
    score = skill * ill + rng.normal(size=count)
    return pd.DataFrame({
        "case": [f"{prefix}{i}" for i in range(count)], "patient": [f"{prefix}p{i // 2}" for i in range(count)],
        "sex": np.where(np.arange(count) % 4 < 2, "f", "m"), "label": np.where(ill, "mel", "nv"),
        "p:mel": 1 / (1 + np.exp(-score)),
    })  # fmt: skip


@pytest.fixture
def two(tmp_path):
    """a.csv, b.csv in another order, and a tuning table for each."""
    for name, made in (("a", table(1)), ("b", table(2, 0.8).sample(frac=1, random_state=1)),
                       ("ta", table(3, prefix="t")), ("tb", table(4, prefix="t"))):  # fmt: skip
        made.to_csv(tmp_path / f"{name}.csv", index=False)
    return tmp_path


def call(*words):
    found = CliRunner().invoke(app, ["compare", *map(str, words)])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


@pytest.fixture
def undrawn(monkeypatch):
    """Without figures, which take longest and are looked at elsewhere."""
    monkeypatch.setattr("overread.reporting.pages.compare.draw_comparison", lambda found: [])


def test_two_tables_end_with_numbers_figures_and_a_page(two, print_form):
    with print_form():
        found = call(two / "a.csv", two / "b.csv", "--positive", "mel", "--subgroup", "sex", "--tuning", two / "ta.csv",
                 "--other-tuning", two / "tb.csv", "--margin", 0.05)  # fmt: skip
    folder = two / "comparison"
    assert all((folder / name).stat().st_size > 500 for name in (*FILES, "figures/subgroups.svg", "figures/claim.svg"))
    assert "pre-declared: non-inferiority" in found.stdout
    loaded = Comparison.load(folder)
    assert loaded.names == ("a", "b")
    assert loaded.curves["mel"]["first"]["point"]["frozen"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"auc", "auc difference"} <= {m["metric"] for m in metrics}
    assert {m["where"].get("model compared") for m in metrics if m["metric"] == "auc"} == {"a", "b"}


def test_a_second_margin_is_post_hoc_everywhere(two, undrawn):
    call(two / "a.csv", two / "b.csv", "--positive", "mel", "--margin", 0.05)
    found = call(two / "a.csv", two / "b.csv", "--positive", "mel", "--margin", 0.1, "-o", two / "else")
    assert "not pre-declared (post hoc)" in found.stdout
    page = (two / "else" / "comparison.html").read_text()
    assert page.count("ot pre-declared (post hoc)") >= 2
    assert "margin 0.05" in page
    assert "looked at once before" in page


def test_frozen_points_are_read(two, undrawn):
    points = choose_thresholds(Predictions.read(two / "ta.csv", ("mel",)), sensitivity=0.9)
    evaluate(Predictions.read(two / "a.csv", ("mel",)), at=points, resamples=50).save(two / "judged")
    found = call(two / "a.csv", two / "b.csv", "--positive", "mel", "--at", two / "judged" / "operating.json", "--json")
    held = json.loads(found.stdout)
    assert held["paired"] is True
    assert len(held["metrics"]) == 3 * len(held["tests"])
    assert Comparison.load(two / "comparison").curves["mel"]["first"]["point"]["threshold"] == points[0].threshold


def test_errors_are_said(two):
    table(2).assign(label="nv").to_csv(two / "c.csv", index=False)
    with pytest.raises(InputError, match="disagree about the truth"):
        call(two / "a.csv", two / "c.csv", "--positive", "mel")
    with pytest.raises(InputError, match="do not exist"):
        call(two / "a.csv", two / "nothing.csv")


def run_of(folder, frame, salt="", margin=0.0):
    """What a run leaves that a comparison reads."""
    target = Target("binary", ("nv", "mel"), ("mel",))
    made = frame.assign(split="test", source="")
    if salt:
        made = made.assign(case=codes(made["case"], salt), patient=codes(made["patient"], salt))
    made.insert(4, "p:nv", 1 - made["p:mel"])
    for part in ("test", "tuning"):
        mine = made if part == "test" else made.assign(case="t" + made["case"], patient="t" + made["patient"])
        replace(Predictions(mine, target)).save(folder / "predictions" / f"{part}.csv")
    Study.from_flat(table="t.csv", salt=salt, names="hash" if salt else "keep", margin=margin).save(
        folder / "study.toml"
    )
    cases = made.assign(image="x.png", view="", time="")[["image", "case", "patient", "source", "label"]]
    _cases(cases, target).save(folder / "cases.csv")
    return folder


def _cases(frame, target):
    from overread.cases.cases import Cases

    return Cases(frame.assign(view="", time="", split=""), target)


def test_a_run_with_codes_against_a_table_with_names(two, undrawn):
    run = run_of(two / "run", table(1), "salty", margin=0.07)
    found = call(run, two / "b.csv")
    loaded = Comparison.load(run / "comparison")
    assert loaded.paired
    assert loaded.counts["images"] == 160
    assert loaded.verdict.claim.margin == 0.07
    assert (run / "ledger.jsonl").exists()
    assert "margin 0.07" in found.stdout


def test_two_runs_and_both_ledgers(two, undrawn, monkeypatch):
    one, other = run_of(two / "one", table(1)), run_of(two / "two", table(2))
    monkeypatch.chdir(one)
    call(".", other)
    assert Comparison.load(one / "comparison").names == ("one", "two")
    assert [len((run / "ledger.jsonl").read_text().splitlines()) for run in (one, other)] == [1, 1]
    test = one / "predictions" / "test.csv"  # a run's table: its ledger too, wherever the output goes
    found = call(test, other / "predictions" / "test.csv", "--positive", "mel", "-o", two / "else")
    assert "looked at once before" in found.stdout
    assert Comparison.load(two / "else").names == ("one", "two")
    assert len((one / "ledger.jsonl").read_text().splitlines()) == 2


def test_a_table_with_names_against_a_run_with_codes(two, undrawn):
    call(two / "b.csv", run_of(two / "run", table(1), "salty"))
    assert Comparison.load(two / "comparison").paired


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sensitivity", 0.9), "chosen on tuning data, and there are none"),
        (("--tuning", "ta.csv", "--at", "x.json"), "beside a file of operating points"),
        (("-o", "a.csv"), "cannot be made"),
        (("--positive", "mel", "--tuning", "a.csv"), "used to choose the threshold"),
    ],
)
def test_what_is_refused_is_no_look(two, monkeypatch, words, said):
    monkeypatch.chdir(two)
    with pytest.raises(OverreadError, match=said):
        call("a.csv", "b.csv", *words)
    assert not (two / "evaluation" / "ledger.jsonl").exists()


def test_an_error_says_which_table(two):
    table(2).drop(columns="label").to_csv(two / "c.csv", index=False)
    with pytest.raises(InputError, match=r"c\.csv.*label"):
        call(two / "a.csv", two / "c.csv")
    table(2).head(0).to_csv(two / "d.csv", index=False)
    with pytest.raises(InputError, match="holds no case"):
        call(two / "a.csv", two / "d.csv", "--positive", "mel")


@pytest.mark.slow
def test_no_torch(two):
    code = ("import sys; from overread.cli.main import app; app(standalone_mode=False); "
            "sys.exit(9 if 'torch' in sys.modules else 0)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, "compare", two / "a.csv", two / "b.csv", "--positive", "mel"],
                          capture_output=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
