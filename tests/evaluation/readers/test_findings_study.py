"""Readers of several findings, and a model beside them: F1 by hand, masked blanks, ties, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score, recall_score

from overread.cases.several_questions import asks_several, read_questions
from overread.core.errors import InputError
from overread.evaluation.operating_point import OperatingPoint
from overread.evaluation.readers.contrasts import MEAN, MODEL
from overread.evaluation.readers.findings_study import FindingsReading, judge_findings
from overread.predictions import Predictions

NAMES, READERS, CASES = ("Mass", "Nodule", "Hernia"), 4, 160


def _drawn(seed: int = 0, skill: float = 0.22) -> tuple[pd.DataFrame, Predictions]:
    """Answers with blanks, a row a case and reader, and predictions of the same cases; two images a patient."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((CASES, 3)) < [0.35, 0.3, 0.1]).astype(int)
    parts = []
    for r in range(READERS):
        said = np.where(rng.random(truth.shape) < 0.1 + 0.04 * r, 1 - truth, truth).astype(object)
        said[rng.random(truth.shape) < 0.06] = ""
        parts.append(
            pd.DataFrame(said, columns=list(NAMES)).assign(case=[f"c{i}" for i in range(CASES)], reader=f"Dr {r}")
        )
    chance = np.clip(0.5 + 0.7 * (truth - 0.5) + skill * rng.normal(size=truth.shape), 0, 1)
    table = pd.DataFrame({"case": [f"c{i}" for i in range(CASES)], "patient": [f"p{i // 2}" for i in range(CASES)], "split": "test", "source": ""})  # fmt: skip
    for k, name in enumerate(NAMES):
        table[f"label:{name}"], table[f"p:{name}"] = truth[:, k], chance[:, k]
    return pd.concat(parts, ignore_index=True), Predictions.from_frame(table)


def _written(answers: pd.DataFrame, folder: Path) -> Path:
    answers.to_csv(folder / "readers.csv", index=False)
    return folder / "readers.csv"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Predictions, FindingsReading]:
    answers, predictions = _drawn()
    path = _written(answers, tmp_path_factory.mktemp("readers"))
    return answers, predictions, judge_findings(read_questions(path), predictions, resamples=400)


def _by_hand(answers: pd.DataFrame, predictions: Predictions, cuts: dict[str, float]) -> dict[tuple[str, str], float]:
    """F1 of each reader and of the model, case by case: the others' majority, ties and blanks left out."""
    found: dict[tuple[str, str], float] = {}
    for name in NAMES:
        wide = answers.assign(said=pd.to_numeric(answers[name])).pivot(index="case", columns="reader", values="said")
        wide = wide.loc[predictions.table["case"]]
        called = (predictions.table[f"p:{name}"] >= cuts.get(name, 0.5)).to_numpy().astype(int)
        own, model = [], []
        for reader in wide:
            others = wide.drop(columns=reader)
            yes, no = (others == 1).sum(axis=1), (others == 0).sum(axis=1)
            rows = ((yes != no) & wide[reader].notna()).to_numpy()
            truth = (yes > no).to_numpy()[rows].astype(int)
            found[name, reader] = f1_score(truth, wide[reader].to_numpy()[rows].astype(int))
            own.append(found[name, reader])
            model.append(f1_score(truth, called[rows]))
            found[f"sensitivity {name}", reader] = recall_score(truth, wide[reader].to_numpy()[rows].astype(int))
        found[name, MEAN], found[name, MODEL] = float(np.mean(own)), float(np.mean(model))
    return found


def test_f1_of_readers_and_model_against_the_others_majority_by_hand(study) -> None:  # type: ignore[no-untyped-def]
    answers, predictions, found = study
    wanted = _by_hand(answers, predictions, {})
    who = [*(f"Dr {r}" for r in range(READERS)), MEAN, MODEL]
    for name in NAMES:
        for reader in who:
            assert found["f1", reader, name].value == pytest.approx(wanted[name, reader])
        assert found["sensitivity", "Dr 1", name].value == pytest.approx(wanted[f"sensitivity {name}", "Dr 1"])
    for reader in who:
        assert found["f1", reader].value == pytest.approx(np.mean([wanted[name, reader] for name in NAMES]))
    gap = found.contrast("f1").gap.difference
    assert gap.value == pytest.approx(found["f1"].value - found["f1", MEAN].value)
    assert gap.low < gap.value < gap.high


def test_the_interval_of_the_difference_against_a_slow_bootstrap(study) -> None:  # type: ignore[no-untyped-def]
    answers, predictions, found = study
    rng, people = np.random.default_rng(3), predictions.table["patient"].unique()
    rows = {p: np.flatnonzero(predictions.table["patient"] == p) for p in people}
    order = {case: i for i, case in enumerate(predictions.table["case"])}
    said = np.stack([answers.assign(at=answers["case"].map(order)).pivot(index="at", columns="reader", values=n).replace("", np.nan).to_numpy(float) for n in NAMES])  # fmt: skip
    called = np.stack([(predictions.table[f"p:{n}"] >= 0.5).to_numpy() for n in NAMES])
    gaps = []
    for _ in range(200):
        drawn = np.concatenate([rows[p] for p in rng.choice(people, len(people))])
        each = []
        for f in range(3):
            for r in range(READERS):
                others = np.delete(said[f][drawn], r, axis=1)
                yes, no = (others == 1).sum(1), (others == 0).sum(1)
                keep = (yes != no) & np.isfinite(said[f][drawn, r])
                truth, own, model = (yes > no)[keep], said[f][drawn, r][keep] == 1, called[f][drawn][keep]
                one, other = (2 * (truth & x).sum() / max(truth.sum() + x.sum(), 1) for x in (own, model))
                each.append(other - one)
        gaps.append(np.mean(each))
    low, high = np.percentile(gaps, [2.5, 97.5])
    gap = found.contrast("f1").gap.difference
    assert gap.low == pytest.approx(low, abs=0.03)
    assert gap.high == pytest.approx(high, abs=0.03)


def test_a_frozen_point_of_each_finding_is_used_and_its_patients_refused(study, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    answers, predictions, _ = study
    at = [OperatingPoint(0.8, ("Mass",), "given", "", 0.9, 0.9)]
    found = judge_findings(read_questions(_written(answers, tmp_path)), predictions, at=at, resamples=50)
    assert found["f1", MODEL, "Mass"].value == pytest.approx(
        _by_hand(answers, predictions, {"Mass": 0.8})["Mass", MODEL]
    )
    assert any("Nodule, Hernia" in caution for caution in found.cautions)


def test_against_a_known_truth(study, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    answers, predictions, _ = study
    found = judge_findings(read_questions(_written(answers, tmp_path)), predictions, reference="truth", resamples=50)
    wide = (
        answers.assign(said=pd.to_numeric(answers["Mass"]))
        .pivot(index="case", columns="reader", values="said")
        .loc[predictions.table["case"]]
    )
    rows, truth = wide["Dr 2"].notna().to_numpy(), predictions.table["label:Mass"].to_numpy()
    assert found["f1", "Dr 2", "Mass"].value == pytest.approx(f1_score(truth[rows], wide["Dr 2"].to_numpy()[rows]))
    assert "truth" in found.about["reference"]


def test_ties_a_finding_of_nobody_and_readers_of_few_cases_are_said(tmp_path: Path) -> None:
    answers, predictions = _drawn(4)
    answers = answers[answers["reader"] != "Dr 3"].assign(Hernia=0).astype(object)
    few = answers[(answers["reader"] == "Dr 2") & ~answers["case"].isin([f"c{i}" for i in range(5)])].index
    answers.loc[few, list(NAMES)] = ""
    table = predictions.table.assign(**{"p:Hernia": 0.1})
    found = judge_findings(read_questions(_written(answers, tmp_path)), Predictions.from_frame(table), resamples=50)
    told = "; ".join(found.cautions)
    assert all(words in told for words in ("tied in", "fewer than 10 cases: 1 reader", "present for nobody: Hernia"))
    assert found.readers == ("Dr 0", "Dr 1")
    assert found["f1"].value == pytest.approx(np.mean([found["f1", MODEL, name].value for name in NAMES[:2]]))


def test_long_and_wide_tables_say_the_same(tmp_path: Path) -> None:
    answers, _ = _drawn(1)
    long = answers.melt(["case", "reader"], list(NAMES), "question", "answer")
    first = read_questions(_written(answers, tmp_path))
    long.to_csv(tmp_path / "long.csv", index=False)
    second = read_questions(tmp_path / "long.csv", NAMES)
    assert list(first) == list(second) == list(NAMES)
    for name in NAMES:
        one, other = (
            held[name].table[["case", "reader", "label"]].sort_values(["case", "reader"]).reset_index(drop=True)
            for held in (first, second)
        )
        pd.testing.assert_frame_equal(one, other)
    assert asks_several(tmp_path / "readers.csv")
    assert asks_several(tmp_path / "long.csv")
    with pytest.raises(InputError, match="Edema"):
        read_questions(tmp_path / "readers.csv", ["Edema"])


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    answers, predictions = _drawn(2)
    path = _written(answers.rename(columns={"Mass": "grade"}).assign(grade=3), tmp_path)
    with pytest.raises(InputError, match="no yes or no"):
        judge_findings(read_questions(path, ["grade"]))
    with pytest.raises(InputError, match="share no finding"):
        judge_findings(read_questions(path, ["grade"]), predictions)
    other = Predictions.from_frame(predictions.table.assign(case=[f"x{i}" for i in range(CASES)]))
    with pytest.raises(InputError, match="share no case"):
        judge_findings(read_questions(_written(answers, tmp_path)), other)


def test_it_is_kept_and_read_back(study, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    *_, found = study
    found.save(tmp_path)
    again = FindingsReading.load(tmp_path)
    assert again.table() == found.table()
    assert again == found
