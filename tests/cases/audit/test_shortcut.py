from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from overread.cases.audit.shortcut import shortcut, shortcut_scores

from ..conftest import cohort, made


def prints(count: int, **columns: object) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "error": [""] * count,
            "height": 64,
            "width": 64,
            "depth": 1,
            "channels": 3,
            "bits": 8,
            "format": "PNG",
            "mean": 0.5,
            "std": 0.1,
            "border": 0.0,
            "circle": False,
            "text": 0,
        }
    )
    return table.assign(**columns)


def test_nothing_to_tell_from():
    cases = made({"label": ["no", "yes"] * 50})
    found = shortcut(cases, prints(100))
    assert found["verdict"] == ""
    assert "the same everywhere" in found["undefined"]


def test_chance_is_low():
    rng = np.random.default_rng(0)
    found = shortcut(made({"label": ["no", "yes"] * 300}), prints(600, mean=rng.uniform(size=600)))
    assert found["verdict"] == "low"
    assert 0.4 < found["auc"] < 0.6
    assert found["low"] < 0.5 < found["high"] + 0.08


@pytest.mark.parametrize(
    ("feature", "columns"), [("size", {"width": [64, 80] * 200}), ("intensity", {"mean": [0.4, 0.6] * 200})]
)
def test_what_tells_the_label_is_named(feature, columns):
    found = shortcut(made({"label": ["no", "yes"] * 200}), prints(400, **columns))
    assert list(found["by feature"]) == [feature]
    assert found["by feature"][feature]["auc"] == pytest.approx(1)
    assert found["verdict"] == "high"


def test_the_middle_can_tell_too():
    """Both very dark and very bright images are ill: a straight line would miss it."""
    rng = np.random.default_rng(0)
    mean = rng.uniform(size=500)
    ill = np.abs(mean - 0.5) > 0.3
    found = shortcut(made({"label": np.where(ill, "yes", "no")}), prints(500, mean=mean))
    assert found["auc"] > 0.9
    assert roc_auc_score(ill, mean) < 0.6


def test_a_source_tells_as_much_as_its_prevalence():
    rng = np.random.default_rng(1)
    source = rng.choice(["x", "y", "z"], 3000)
    ill = rng.uniform(size=3000) < pd.Series(source).map({"x": 0.1, "y": 0.3, "z": 0.8}).to_numpy()
    found = shortcut(made({"label": np.where(ill, "yes", "no"), "source": source}), prints(3000))
    expected = roc_auc_score(ill, pd.Series(source).map({"x": 0.1, "y": 0.3, "z": 0.8}))
    assert found["by feature"]["source"]["auc"] == pytest.approx(expected, abs=0.01)
    assert found["low"] < expected < found["high"]


def test_a_patient_is_never_on_both_sides():
    """Brightness names the patient exactly, and patients have one label: only leaking folds could tell it."""
    rng = np.random.default_rng(2)
    patient = np.repeat(np.arange(60), 10)
    label = rng.permutation(np.repeat([0, 1], 30))[patient]
    cases = made({"label": np.where(label, "yes", "no"), "patient": [f"p{i}" for i in patient]})
    found = shortcut(cases, prints(600, mean=rng.permutation(60)[patient] / 60))
    assert found["auc"] < 0.72


def test_classes_findings_and_quantities():
    cases = cohort(200)
    found = shortcut(cases, prints(len(cases), mean=cases.labels / 3.0))
    assert set(found["by class"]) <= {"a", "b", "c"}
    assert found["auc"] == pytest.approx(1)
    rng = np.random.default_rng(0)
    has = rng.integers(0, 2, (300, 2)).astype(float)
    has[:30, 0] = np.nan
    findings = made({"label:f": has[:, 0], "label:g": has[:, 1]}, "findings", ("f", "g"))
    found = shortcut(findings, prints(300, mean=has[:, 1] / 2))
    assert found["by class"]["g"]["auc"] == pytest.approx(1)
    assert found["by class"]["f"]["auc"] < 0.65
    age = rng.normal(size=300)
    assert shortcut(made({"value": age}, "quantity", ("age",)), prints(300, mean=age))["auc"] > 0.95


def test_unreadable_and_unlabelled_rows_do_not_count():
    cases = made({"label": ["no", "yes"] * 100 + [""] * 5})
    table = prints(205, mean=[0.2, 0.8] * 100 + [np.nan] * 5, error=["x"] * 4 + [""] * 201)
    assert shortcut(cases, table)["images"] == 196


def test_few_patients_are_not_judged():
    found = shortcut(made({"label": ["no", "yes"] * 9}), prints(18, mean=[0.1, 0.9] * 9))
    assert "10 patients" in found["undefined"]


def test_the_baseline_of_a_test_is_learnt_on_training_alone():
    """In training the source tells the label, in the test it is the other way round."""
    labels = ["no", "yes"] * 100 + ["yes", "no"] * 50
    cases = made({"label": labels, "source": ["A", "B"] * 150})
    told = shortcut_scores(cases, prints(300), np.arange(200), np.arange(200, 300))
    assert told.shape == (100, 1)
    assert roc_auc_score([name == "yes" for name in labels[200:]], told[:, 0]) == 0
    assert ((told > 0) & (told < 1)).all()


def test_the_baseline_of_classes_sums_to_one_and_of_nothing_it_is_the_prevalence():
    cases = made({"label": ["a", "b", "c"] * 60}, "classes", ("a", "b", "c"))
    told = shortcut_scores(cases, prints(180, mean=np.tile([0.2, 0.4, 0.6], 60)), np.arange(120), np.arange(120, 180))
    assert told.sum(axis=1) == pytest.approx(1)
    assert told.argmax(axis=1).tolist() == [0, 1, 2] * 20
    same = shortcut_scores(cases, prints(180), np.arange(120), np.arange(120, 180))
    assert same == pytest.approx(1 / 3)


def test_a_class_that_training_lacks_has_no_baseline():
    cases = made({"label": ["no"] * 50 + ["yes"] * 50})
    assert np.isnan(shortcut_scores(cases, prints(100), np.arange(40), np.arange(40, 100))).all()
