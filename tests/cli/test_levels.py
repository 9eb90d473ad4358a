"""Any command on a table of predictions at a level of a tree; of a run, with its own tree."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from overread.cli.main import app
from overread.predictions import Predictions
from overread.tasks.taxonomy import Taxonomy

TREE = Taxonomy(
    ("lesion", "malignant", "benign", "mel", "bcc", "nv", "bkl"), ("", "lesion", "lesion", "malignant", "malignant", "benign", "benign")
)  # fmt: skip


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Predictions of four classes by two systems, of 120 patients for the test and 120 for tuning."""
    folder, chance = tmp_path_factory.mktemp("levels"), np.random.default_rng(2)
    TREE.save(folder / "tree.csv")
    names = np.array(["mel", "bcc", "nv", "bkl"])
    for part in ("test", "tuning"):
        truth = chance.integers(0, 4, 120)
        for system, strength in (("a", 2.0), ("b", 1.2)):
            logits = chance.normal(size=(120, 4)) + strength * (truth[:, None] == np.arange(4))
            shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            cases = {"case": [f"{part}{i}" for i in range(120)], "patient": [f"{part}{i}" for i in range(120)]}
            made = pd.DataFrame(
                {**cases, "label": names[truth], **{f"p:{n}": shares[:, i] for i, n in enumerate(names)}}
            )
            made.to_csv(folder / f"{system}-{part}.csv", index=False)
    return folder


def _called(*words) -> str:
    answer = CliRunner().invoke(app, list(map(str, words)))
    assert answer.exit_code == 0, (answer.output, answer.exception)
    return answer.stdout


def test_anybodys_table_is_judged_at_a_level_as_its_sums_are(tables, tmp_path) -> None:
    asked = ("--taxonomy", tables / "tree.csv", "--judge-at", "level-1", "--no-figures", "--json")
    found = json.loads(_called("evaluate", tables / "a-test.csv", *asked, "--tuning", tables / "a-tuning.csv", "-o", tmp_path / "x", "--ledger", tmp_path / "l.jsonl"))  # fmt: skip
    made = Predictions.read(tables / "a-test.csv").table
    by_hand = pd.DataFrame({"case": made["case"], "patient": made["patient"], "label": made["label"].map(TREE.at("level-1")),
                            "p:malignant": made["p:mel"] + made["p:bcc"], "p:benign": made["p:nv"] + made["p:bkl"]})  # fmt: skip
    by_hand.to_csv(tmp_path / "sums.csv", index=False)
    same = json.loads(_called("evaluate", tmp_path / "sums.csv", "--no-figures", "--json", "-o", tmp_path / "y"))
    auc = [
        next(e["value"] for e in each if (e["metric"], e["of"], e["where"]) == ("auc", "malignant", {}))
        for each in (found, same)
    ]
    assert auc[0] == pytest.approx(auc[1])
    assert auc[0] > 0.8
    assert json.loads((tmp_path / "x" / "operating.json").read_text())[0]["positive"] == ["malignant"]


def test_two_systems_are_compared_at_a_level_with_a_margin(tables, tmp_path) -> None:
    said = _called("compare", tables / "a-test.csv", tables / "b-test.csv", "--taxonomy", tables / "tree.csv", "--judge-at", "level-1",
                   "--margin", "0.02", "-o", tmp_path / "c", "--ledger", tmp_path / "l.jsonl")  # fmt: skip
    assert "not inferior" in said or "non-inferior" in said.lower()
    held = json.loads((tmp_path / "c" / "metrics.json").read_text())
    assert any(e["metric"] == "auc" and e["of"] == "malignant" for e in held)


@pytest.mark.parametrize("words", [("--judge-at", "level-1"), ("--taxonomy", "tree.csv")])
def test_a_level_needs_a_tree_and_a_tree_a_level(tables, words) -> None:
    answer = CliRunner().invoke(app, ["evaluate", str(tables / "a-test.csv"), *words])
    assert answer.exit_code
    assert "give both" in str(answer.exception or answer.output).lower()
