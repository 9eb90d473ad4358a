"""``overread readers``: the command, its files, its page."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from phantom_readers import draw_readings, draw_scores
from typer.testing import CliRunner

from overread.cli.main import app
from overread.cli.readers import _Asked
from overread.evaluation.readers.reader_study import Reading

NAMES = ("benign", "malignant")
TRUTH = (np.arange(60) % 3 == 0).astype(int)
CASES = [f"MRN-{1000 + i}" for i in range(60)]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    score = 1 / (1 + np.exp(-(2 * TRUTH - 1 + rng.normal(size=60))))
    label = [NAMES[t] for t in TRUTH]
    pd.DataFrame(
        {"case": CASES, "patient": [f"p{i // 2}" for i in range(60)], "label": label, "p:malignant": score}
    ).to_csv(tmp_path / "predictions.csv", index=False)
    pd.DataFrame({"case": CASES, "label": label}).to_csv(tmp_path / "truth.csv", index=False)
    table = draw_readings(TRUTH, readers=3, names=NAMES, cases=CASES, missing=0.02)
    table.to_csv(tmp_path / "readers.csv", index=False)
    table.pivot(index="case", columns="reader", values="label").reset_index().to_csv(tmp_path / "wide.csv", index=False)
    draw_scores(TRUTH, readers=3, modalities=("unaided", "aided"), cases=CASES).to_csv(
        tmp_path / "scores.csv", index=False
    )
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, ["readers", *map(str, words)])


@pytest.fixture
def undrawn(monkeypatch):
    """Without files of figures, which take longest and are looked at elsewhere."""
    monkeypatch.setattr("overread.reporting.page.save_figures", lambda figures, folder: [])


def test_what_is_asked_of_readers_makes_a_folder_when_told_to_alone(tmp_path):
    asked = _Asked(tmp_path / "t.csv", None, {}, (), False, "auto", "majority", 0.95, 0, "", "", False)
    for name in dir(asked):
        getattr(asked, name)
    assert list(tmp_path.iterdir()) == []
    assert asked.make_folder() == tmp_path / "readers"
    assert (tmp_path / "readers").is_dir()


def test_readers_beside_a_model(folder):
    found = run(folder / "readers.csv", folder / "predictions.csv", "--margin", "0.2", "--margin-of", "sensitivity")
    assert found.exit_code == 0, found.output
    assert "mean of readers" in found.output
    assert "pre-declared: non-inferiority" in found.output
    made = folder / "readers"
    names = {p.name for p in made.rglob("*") if p.is_file()}
    assert {"metrics.json", "readers.json", "readers.html", "readers-roc.svg", "readers-roc.png", "readers-differences.png",
            "readers-agreement.svg"} <= names  # fmt: skip
    assert len((folder / "evaluation" / "ledger.jsonl").read_text().splitlines()) == 2  # the declaration and one look
    metrics = json.loads((made / "metrics.json").read_text())
    assert len(metrics) == len(Reading.load(made).all)
    everything = found.output + "".join(
        p.read_text() for p in made.rglob("*") if p.suffix in (".json", ".html", ".svg")
    )
    assert "MRN-1" not in everything
    assert "reader 2" in everything


def test_wide_tables_give_the_same_numbers(folder, undrawn):
    for name in ("readers", "wide"):
        assert run(folder / f"{name}.csv", folder / "predictions.csv", "-o", folder / name).exit_code == 0
    one, other = (Reading.load(folder / name) for name in ("readers", "wide"))
    assert one.estimates == other.estimates


def test_readers_among_themselves_open_nothing(folder, undrawn):
    found = run(folder / "readers.csv", "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert {"agreement", "fleiss kappa", "ceiling"} <= {e["metric"] for e in told["metrics"]}
    assert not (folder / "evaluation" / "ledger.jsonl").exists()


def test_two_modalities_against_a_truth_table(folder):
    found = run(folder / "scores.csv", "--truth", folder / "truth.csv", "-o", folder / "out")
    assert found.exit_code == 0, found.output
    assert "aided − unaided  auc difference" in found.output
    assert (folder / "out" / "figures" / "readers-modalities.svg").exists()
    assert (folder / "out" / "figures" / "readers-roc-2.png").exists()


def test_the_threshold_is_frozen_on_tuning_data(folder, undrawn):
    tuning = pd.read_csv(folder / "predictions.csv")
    tuning["case"], tuning["patient"] = "t" + tuning["case"], "t" + tuning["patient"]
    tuning.to_csv(folder / "tuning.csv", index=False)
    found = run(
        folder / "readers.csv", folder / "predictions.csv", "--tuning", folder / "tuning.csv", "--sensitivity", "0.9"
    )
    assert found.exit_code == 0, found.output
    assert ".5 on" not in found.output
    assert (
        run(folder / "readers.csv", folder / "predictions.csv", "--tuning", folder / "predictions.csv").exit_code == 1
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--margin", "0.1"), "--margin-of"),
        (("--cut", "high"), "--cut is not a number"),
        (("--reference", "gold"), "--reference is not known"),
        (("--positive", "cancer"), "'cancer'"),
        (("--reader", "radiologist"), "radiologist"),
        (("--reference", "consensus", "--consensus", "dawid-skene"), "four in all"),
        (("--sensitivity", "0.9"), "there are none"),
    ],
)
def test_faults_are_told_in_one_paragraph(folder, words, told):
    from overread.core.errors import OverreadError

    found = run(folder / "readers.csv", folder / "predictions.csv", *words)
    assert found.exit_code == 2 or isinstance(found.exception, OverreadError)
    assert told in found.output + str(found.exception)
    assert not (folder / "evaluation" / "ledger.jsonl").exists()  # refused before anybody looked


@pytest.mark.slow
def test_no_torch_is_imported(folder):
    code = "import sys; from overread.cli.main import app; app(sys.argv[1:], standalone_mode=False); assert 'torch' not in sys.modules"
    words = ["readers", str(folder / "readers.csv"), str(folder / "predictions.csv")]
    made = subprocess.run([sys.executable, "-c", code, *words], env={**os.environ}, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


def test_a_median_of_names_without_an_order_is_no_look(folder):
    table = pd.read_csv(folder / "readers.csv")
    table["label"] = table["label"].where(table.index % 7 > 0, "unclear")
    table.to_csv(folder / "readers.csv", index=False)
    found = run(folder / "readers.csv", "--consensus", "median")
    assert "a median needs classes in order" in str(found.exception)


def test_readers_stand_under_numbers_unless_their_names_are_kept(folder, undrawn):
    table = pd.read_csv(folder / "readers.csv")
    names = dict(zip(sorted(table["reader"].unique()), ["Dr Anna Smith", "Dr Jones", "Weber"]))
    table.assign(reader=table["reader"].map(names)).to_csv(folder / "named.csv", index=False)
    found = run(folder / "named.csv", folder / "predictions.csv", "-o", folder / "coded")
    assert found.exit_code == 0, found.output
    assert "--names keep" in found.output
    written = found.stdout + "".join(p.read_text("utf-8") for p in (folder / "coded").rglob("*") if p.suffix in (".json", ".html"))  # fmt: skip
    assert not [name for name in names.values() if name in written]
    assert "reader 2" in written
    kept = run(folder / "named.csv", folder / "predictions.csv", "-o", folder / "kept", "--names", "keep")
    assert "Dr Anna Smith" in kept.stdout


def test_a_reader_of_several_findings_has_one_number(tmp_path):
    """Bob answers first about the mass; Ann, who always says yes, is reader 1 of both findings."""
    rng = np.random.default_rng(3)
    noisy = {name: np.where(rng.random(60) < 0.3, 1 - TRUTH, TRUTH) for name in ("Bob", "Cem")}
    rows = [(case, who, what, 1 if who == "Ann" else noisy[who][i]) for what, order in (("nodule", ("Ann", "Bob", "Cem")), ("mass", ("Bob", "Cem", "Ann")))
            for who in order for i, case in enumerate(CASES)]  # fmt: skip
    pd.DataFrame(rows, columns=["case", "reader", "question", "answer"]).to_csv(tmp_path / "long.csv", index=False)
    found = run(tmp_path / "long.csv", "--questions", "nodule,mass", "-o", tmp_path / "out")
    assert found.exit_code == 0, found.output
    assert "3 readers under numbers" in found.output
    held = json.loads((tmp_path / "out" / "metrics.json").read_text())
    sure = {
        (e["of"], e["where"]["reader"])
        for e in held
        if e["metric"] == "sensitivity" and e["value"] == 1 and "reader" in e["where"]
    }
    assert {(what, "reader 1") for what in ("nodule", "mass")} <= sure
    assert not {who for _, who in sure} - {"reader 1"}
