"""`overread evaluate` on any table: numbers, figures, a page; for every kind, and for tables that hold little."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.errors import UnavailableError
from overread.reporting.page import draw_evaluation
from overread.reporting.run import read_evaluation
from overread.tasks.target import Target

NASTY = "ill<script>alert(1)</script>"


def table(n: int, seed: int = 0, who: str = "p") -> pd.DataFrame:
    rows = np.arange(n)
    return pd.DataFrame({"case": [f"secret-{who}{i}" for i in rows], "patient": [f"hidden-{who}{i // 2}" for i in rows], "split": "test",
                         "source": np.where(rows // 2 % 3 == 0, "A", "B"), "sex": np.where(rows // 2 % 2 == 0, "f", "m")})  # fmt: skip


def binary(n: int, seed: int = 0, who: str = "p", ill: str = "ill") -> pd.DataFrame:
    rng, t = np.random.default_rng(seed), table(n, seed, who)
    truth = rng.random(n) < 0.4
    t["label"] = np.where(truth, ill, "well")
    t[f"p:{ill}"] = 1 / (1 + np.exp(-(2.0 * truth - 1 + rng.normal(size=n))))
    t["p:well"] = 1 - t[f"p:{ill}"]
    return t


def classes(n: int) -> pd.DataFrame:
    rng, t, names = np.random.default_rng(1), table(n), ["normal", "naevus " + "long " * 30, "mel"]
    truth = rng.integers(0, 3, n)
    p = np.exp(rng.normal(size=(n, 3)) + 2 * np.eye(3)[truth])
    t["label"] = np.array(names)[truth]
    for i, name in enumerate(names):
        t[f"p:{name}"] = p[:, i] / p.sum(axis=1)
    return t


def findings(n: int, seed: int = 0, who: str = "p") -> pd.DataFrame:
    rng, t = np.random.default_rng(seed), table(n, seed, who)
    for name in ("effusion", "nodule"):
        truth = rng.random(n) < 0.3
        t[f"label:{name}"] = np.where(rng.random(n) < 0.1, "", truth.astype(int).astype(str))
        t[f"p:{name}"] = 1 / (1 + np.exp(-(2.0 * truth - 1 + rng.normal(size=n))))
    return t


def quantity(n: int, seed: int = 0, who: str = "p") -> pd.DataFrame:
    rng, t = np.random.default_rng(seed), table(n, seed, who)
    t["value"] = rng.normal(60, 10, n)
    t["predicted"] = t["value"] + rng.normal(0, 5, n)
    return t


def evaluate(folder: Path, test: pd.DataFrame, *options: str, tuning: pd.DataFrame | None = None):
    test.to_csv(folder / "test.csv", index=False)
    if tuning is not None:
        tuning.to_csv(folder / "tuning.csv", index=False)
        options = (*options, "--tuning", str(folder / "tuning.csv"))
    return CliRunner().invoke(app, ["evaluate", str(folder / "test.csv"), "-o", str(folder / "out"), *options])


EVERYTHING = ("--positive", NASTY, "--subgroup", "sex", "--prevalence", "0.05", "--sensitivity", "0.9")


@pytest.fixture(scope="module")
def judged(tmp_path_factory, print_form):
    """A binary table with everything asked for, judged once."""
    folder = tmp_path_factory.mktemp("judged")
    with print_form():
        said = evaluate(folder, binary(240, ill=NASTY), *EVERYTHING, tuning=binary(200, 1, "q", NASTY))
    assert said.exit_code == 0, said.output
    return folder / "out", said


def test_it_writes_numbers_figures_and_a_page(judged):
    folder, said = judged
    names = {
        "roc",
        "precision-recall",
        "scores",
        "calibration",
        "decision",
        "confusion",
        "forest",
        "gaps",
        "abstention",
        "conformal",
    }
    assert {p.stem for p in (folder / "figures").glob("*.svg")} == names
    assert {p.stem for p in (folder / "figures").glob("*.png")} == names
    assert "evaluation.html" in said.output
    assert "no threshold was frozen" not in said.output
    for path in (folder / "figures").glob("*.svg"):
        assert "<script" not in path.read_text("utf-8")
        ElementTree.fromstring(path.read_text("utf-8"))


def test_the_page_tells_the_stored_numbers_and_names_nobody(judged):
    folder, _ = judged
    page = (folder / "evaluation.html").read_text("utf-8")
    metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
    auc = next(m for m in metrics if m["metric"] == "auc" and not m["where"])
    there = next(m for m in metrics if m["metric"] == "ppv at prevalence")
    text = page.replace("\u00a0", " ")
    assert f"{auc['value']:.3f}" in text
    assert f"{auc['low']:.3f} – {auc['high']:.3f}" in text
    assert "Where 5 % of all cases are" in text
    assert f"{100 * there['value']:.0f} %" in text
    assert "Sets made on the tuning data to hold the truth of 90 %" in text
    assert "This was the first look at this test set." in text
    assert "<script" not in page
    assert "secret-" not in page
    assert "hidden-" not in page
    assert not re.search(r"(?:src|href)=\"(?!#)", page)


def test_every_figure_says_its_n(judged):
    for path in (judged[0] / "figures").glob("*.svg"):
        assert "240 images of 120 patients" in path.read_text("utf-8"), path.name


def test_equal_input_gives_equal_bytes(judged, tmp_path, print_form):
    folder, _ = judged
    with print_form():
        again = evaluate(tmp_path, binary(240, ill=NASTY), *EVERYTHING, tuning=binary(200, 1, "q", NASTY))
    assert again.exit_code == 0
    for path in sorted((folder / "figures").iterdir()):
        assert path.read_bytes() == (tmp_path / "out/figures" / path.name).read_bytes(), path.name

    def stable(place: Path) -> str:  # the ledger's hash holds the time
        return re.sub(r"Entry in the ledger.*", "", (place / "evaluation.html").read_text("utf-8"))

    assert stable(folder) == stable(tmp_path / "out")


def test_a_second_look_is_said(tmp_path):
    evaluate(tmp_path, binary(60), "--positive", "ill", "--no-figures")
    said = evaluate(tmp_path, binary(60), "--positive", "ill")
    assert "no threshold was frozen on tuning data (--tuning)" in said.output
    page = (tmp_path / "out/evaluation.html").read_text("utf-8")
    assert "looked at once before" in page
    assert "No threshold was frozen on tuning data" in page


@pytest.mark.parametrize(("make", "options", "drawn"), [
    (classes, (), {"roc", "precision-recall", "calibration", "confusion", "forest", "gaps"}),
    (findings, ("--tuning",), {"roc", "precision-recall", "calibration", "confusion", "forest", "gaps", "abstention", "conformal"}),
    (quantity, ("--tuning",), {"scatter", "forest", "gaps", "conformal"}),
])  # fmt: skip
def test_other_kinds(tmp_path, make, options, drawn):
    said = evaluate(tmp_path, make(150), "--subgroup", "sex", tuning=make(120, 1, "q") if options else None)
    assert said.exit_code == 0, said.output
    assert {p.stem for p in (tmp_path / "out/figures").glob("*.svg")} == drawn
    assert "no threshold was frozen" not in said.output  # the most probable class needs no threshold


@pytest.mark.parametrize("rows", [binary(12), binary(1), binary(40).assign(label="well")], ids=["12 images", "1 image", "one class"])  # fmt: skip
def test_little_is_no_exception(tmp_path, rows):
    said = evaluate(tmp_path, rows, "--positive", "ill", "--subgroup", "sex", "--allow-few")
    assert said.exit_code == 0, said.output
    page = (tmp_path / "out/evaluation.html").read_text("utf-8")
    assert "Before relying on these numbers" in page
    assert "AUC of –" not in page
    assert ">nan<" not in page


def test_fewer_than_ten_patients_are_judged_only_if_asked(tmp_path):
    rows = binary(60).assign(patient=[f"p{i % 10}" for i in range(60)])
    unknown = rows.assign(label=rows["label"].where(rows["patient"] != "p9", ""))  # nine with a known truth
    said = evaluate(tmp_path, unknown, "--positive", "ill", "--no-figures")
    assert said.exit_code == 1
    assert "9 patients with a known truth" in str(said.exception)
    assert "--allow-few" in str(said.exception)
    assert not [*tmp_path.rglob("ledger.jsonl"), *tmp_path.rglob("metrics.json")]
    for table, options in ((unknown, ["--allow-few"]), (rows, [])):
        assert evaluate(tmp_path, table, "--positive", "ill", "--no-figures", *options).exit_code == 0, options


def test_json_is_only_json_and_figures_can_be_left_out(tmp_path):
    binary(60).to_csv(tmp_path / "test.csv", index=False)
    ran = CliRunner().invoke(app, ["evaluate", str(tmp_path / "test.csv"), "--json", "--no-figures", "--level", "0.9"])
    found = json.loads(ran.stdout)
    assert found == json.loads((tmp_path / "evaluation/metrics.json").read_text("utf-8"))
    assert {m["level"] for m in found if m["low"] is not None} == {0.9}
    assert not (tmp_path / "evaluation/figures").exists()


def test_the_same_numbers_give_the_same_figures(judged, print_form):
    folder, _ = judged
    target = Target("binary", (NASTY, "well"), (NASTY,))
    before = {p.name: p.read_bytes() for p in (folder / "figures").iterdir()}
    with print_form():
        assert {figure.name for figure in draw_evaluation(folder, target)} >= {"roc", "forest"}
    assert before == {p.name: p.read_bytes() for p in (folder / "figures").iterdir()}


def test_readers_and_the_region_stand_on_the_roc(judged):
    from overread.reporting.figures.curves import roc

    run = read_evaluation(judged[0], Target("binary", (NASTY, "well")))
    run.evaluation.more["readers"] = [{"reader": "A", "sensitivity": {"value": 0.8, "low": 0.7, "high": 0.9},
                                          "specificity": {"value": 0.7, "low": 0.6, "high": 0.8}}]  # fmt: skip
    figure = roc(run)
    assert "Readers (1)" in figure.svg
    assert "Diamonds: readers" in figure.caption
    assert "Shaded" in figure.caption


# -- looks, checks before them, and who may not be judged ------------------------------------------------------------


def called(*words):
    found = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    return found.exit_code, found.output, found.exception


@pytest.fixture
def undrawn(monkeypatch):
    """Without figures, which take longest and are looked at elsewhere."""
    monkeypatch.setattr("overread.reporting.page.draw_evaluation", lambda folder, target: [])


@pytest.fixture
def parts(tmp_path):
    binary(160, 1).to_csv(tmp_path / "test.csv", index=False)
    binary(160, 2, who="t").assign(split="tuning").to_csv(tmp_path / "tuning.csv", index=False)
    return tmp_path


def looks(folder):
    path = folder / "evaluation" / "ledger.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_frozen_before_the_test_set_was_opened_is_said_once(parts, undrawn):
    words = (parts / "test.csv", "--tuning", parts / "tuning.csv")
    assert called(*words, "--sensitivity", 0.8)[0] == 0
    page = parts / "evaluation" / "evaluation.html"
    assert "frozen before the test set was opened" in page.read_text("utf-8")
    code, out, _ = called(*words, "--sensitivity", 0.95)
    assert code == 0
    assert "looked at once before" in out
    assert "frozen before the test set was opened" not in page.read_text("utf-8")
    assert "when the test set had been looked at once before" in page.read_text("utf-8")


def test_the_order_of_columns_changes_nothing(parts):
    frame = pd.read_csv(parts / "tuning.csv")
    turned = frame[[*(c for c in frame if not c.startswith("p:")), "p:well", "p:ill"]]
    turned.to_csv(parts / "turned.csv", index=False)
    found = []
    for name in ("tuning", "turned"):
        assert called(parts / "test.csv", "--tuning", parts / f"{name}.csv", "--no-figures", "-o", parts / name)[0] == 0
        found.append(json.loads((parts / name / "metrics.json").read_text()))
    assert found[0] == found[1]


def test_a_look_is_not_burnt_when_nothing_can_be_written(parts, monkeypatch):
    (parts / "file").write_text("x")
    assert called(parts / "test.csv", "--no-figures", "-o", parts / "file")[2] is not None
    assert looks(parts) == []
    monkeypatch.setattr("overread.cli.console.require_room", full)
    assert called(parts / "test.csv", "--no-figures")[2] is not None
    assert looks(parts) == []


def full(folder):
    raise UnavailableError("the disk is full", given=str(folder))


def test_a_command_that_is_killed_after_its_look_counts_once(parts, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("overread.evaluation.evaluate.Evaluation.save", killed)
        called(parts / "test.csv", "--no-figures")
    assert len(looks(parts)) == 1
    code, out, _ = called(parts / "test.csv", "--no-figures")
    assert code == 0
    assert "looked at" not in out
    assert len(looks(parts)) == 1
    assert "looked at once before" in called(parts / "test.csv", "--no-figures")[1]


def test_a_ledger_cut_with_its_head_stops_the_next_evaluation(parts):
    assert called(parts / "test.csv", "--no-figures")[0] == 0
    for name in ("ledger.jsonl", "ledger.head.json"):
        (parts / "evaluation" / name).unlink()
    error = called(parts / "test.csv", "--no-figures")[2]
    assert "was cut" in str(error)


def test_the_same_cases_under_other_patients_choose_no_threshold(parts):
    frame = pd.read_csv(parts / "test.csv")
    frame.assign(patient="q" + frame["patient"]).to_csv(parts / "renamed.csv", index=False)
    assert "under other patients" in str(
        called(parts / "test.csv", "--tuning", parts / "renamed.csv", "--no-figures")[2]
    )
    frame.assign(patient="q" + frame["patient"], case="q" + frame["case"]).to_csv(parts / "renamed.csv", index=False)
    assert "under other names" in str(called(parts / "test.csv", "--tuning", parts / "renamed.csv", "--no-figures")[2])
    assert looks(parts) == []


def test_seen_patients_are_told_on_the_page(parts, undrawn):
    frame = pd.read_csv(parts / "test.csv")
    frame.assign(split=np.where(frame.index < 10, "seen", "")).to_csv(parts / "seen.csv", index=False)
    assert "5 patients of this test set were used to train" in str(called(parts / "seen.csv", "--no-figures")[2])
    assert called(parts / "seen.csv", "--allow-seen")[0] == 0
    assert "is no test of the model: it has seen 5 of these patients" in (
        parts / "evaluation" / "evaluation.html"
    ).read_text("utf-8")


def test_what_was_changed_in_reading_is_told_on_the_page(parts, undrawn):
    frame = pd.read_csv(parts / "test.csv")
    frame.assign(label=frame["label"] + np.where(frame.index < 7, " ", "")).to_csv(parts / "blanks.csv", index=False)
    assert called(parts / "blanks.csv")[0] == 0
    assert "7 of 160 cells are read in another form" in (parts / "evaluation" / "evaluation.html").read_text("utf-8")
    frame.assign(label=frame["label"].str.title()).to_csv(parts / "title.csv", index=False)
    assert "--rename-label" in str(called(parts / "title.csv", "--no-figures")[2])
    words = ("--rename-label", "Ill=ill", "--rename-label", "Well=well", "--no-figures")
    assert called(parts / "title.csv", *words)[0] == 0
