"""Graded fundus phantoms: what is drawn, and that consensus and the field found are needed to learn from them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import overread as ov
from overread.cases.derived import rules_of
from overread.cases.graded_cases import fewer_grades, regraded
from overread.cases.several_questions import read_questions
from overread.evaluation.generalisation.learning_curve import JUDGED, learning_curve
from overread.images.crop import circular_field
from overread.synthetic.graded_fundus import draw_fundus

RULES = ("moderate = grade >= 2", "referable = moderate or oedema")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_fundus(tmp_path_factory.mktemp("fundus"), patients=60, size=56)


def test_each_image_has_three_to_seven_grades_and_an_ungradable_one_is_blank(small: Path) -> None:
    read = pd.read_csv(small.parent / "readers.csv")
    assert read.groupby("case").size().between(3, 7).all()
    assert read.loc[read["gradable"] == 0, ["grade", "oedema"]].isna().all(axis=None)
    truth = pd.read_csv(small.parent / "truth.csv").set_index("case")
    known = read.dropna(subset="grade")
    off = (known["grade"] - truth.loc[known["case"], "grade"].to_numpy()).abs().groupby(known["reader"]).mean()
    assert off["R1"] < off["R8"]


def test_the_same_seed_gives_the_same_bytes_and_the_field_is_found(small: Path, tmp_path: Path) -> None:
    again = draw_fundus(tmp_path, patients=60, size=56)
    names = pd.read_csv(small)["image"]
    assert (small.parent / "readers.csv").read_bytes() == (again.parent / "readers.csv").read_bytes()
    found = []
    for name in names:
        assert (small.parent / name).read_bytes() == (again.parent / name).read_bytes()
        found.append(circular_field(cv2.imread(str(small.parent / name))))
    assert sum(circle is not None for circle in found) >= 0.95 * len(names)
    radii = [circle.radius for circle in found if circle]
    assert max(radii) > 1.3 * min(radii)


def _cases(table: Path) -> ov.Cases:
    return ov.read_cases(
        table, patient="patient", graders=table.parent / "readers.csv", consensus="median", derive=RULES, names="keep"
    )


def test_more_grades_of_the_judged_images_tell_more_of_what_a_model_can(small: Path) -> None:
    """A perfect model: its AUC falls short of 1 where one grader says what is true."""
    from overread.distributed.repeated import judged_by_grades

    cases = _cases(small)
    truth = pd.read_csv(small.parent / "truth.csv").set_index("case").loc[cases.table["case"]]
    ill = {"moderate": truth["grade"] >= 2, "referable": (truth["grade"] >= 2) | (truth["oedema"] == 1)}
    table = cases.table[["case", "patient", "split", "source", *cases.target.columns]].reset_index(drop=True)
    table = table.assign(**{f"p:{name}": value.to_numpy().astype(float) for name, value in ill.items()})
    answers = read_questions(small.parent / "readers.csv", ["grade", "oedema"])
    steps, _ = judged_by_grades(
        ov.Predictions(table, cases.target), cases, answers, [1, 3, 7], repeats=2, rules=rules_of(RULES), rule="median"
    )
    found = learning_curve(steps, metric="macro auc", unit=JUDGED, resamples=50)
    values = [step.estimate.value for step in found.steps]
    assert values[0] < values[1] < 1
    assert values[0] < values[2] - 0.02


def _learned(cases: ov.Cases, split: ov.Split, truth: pd.Series, **fields: object) -> ov.Predictions:
    """A linear head on classical descriptors, judged against what is true."""
    recipe = ov.Recipe(method="features", image_size=48, normalise="z-score", **fields)  # type: ignore[arg-type]
    found = ov.predict(ov.train(cases, split, recipe), cases.only(split, "test"))
    return ov.Predictions.from_frame(
        found.table.assign(**{"label:moderate": truth.loc[found.table["case"]].to_numpy()})
    )


@pytest.mark.slow
def test_the_consensus_beats_a_single_grader_and_the_field_is_needed(tmp_path: Path) -> None:
    """Gulshan 2016: both differences with a paired interval above 0, and without the mechanism there is none."""
    table = draw_fundus(tmp_path, patients=420, size=56)
    truth = (pd.read_csv(tmp_path / "truth.csv").set_index("case")["grade"] >= 2).astype(float)
    cases = ov.read_cases(
        table, patient="patient", graders=tmp_path / "readers.csv", consensus="median", derive=RULES[:1], names="keep"
    )
    cases = cases.take(cases.labelled)
    split = ov.split(cases, test=0.78, tuning=0.05, seed=1)
    grades = fewer_grades(read_questions(tmp_path / "readers.csv", ["grade"])["grade"], 1)
    single, _ = regraded(cases, {"grade": grades}, rules_of(RULES[:1]))
    how = {"descriptors": ("colour", "intensity", "lbp"), "crop": "field"}
    panel, alone = (_learned(taught, split, truth, **how) for taught in (cases, single))
    gain = ov.compare(panel, alone)["auc", "moderate"].difference
    assert gain.low > 0
    everywhere = {"descriptors": ("hog", "lbp", "intensity")}
    field, none = (_learned(cases, split, truth, **everywhere, crop=crop) for crop in ("field", "none"))
    assert ov.compare(field, none)["auc", "moderate"].difference.low > 0
    same = draw_fundus(
        tmp_path / "same", patients=120, size=56, varying_field=False
    )  # nothing varies: no field is needed
    steady = _cases(same)
    steady = steady.take(~np.isnan(steady.labels[:, 0]))
    parts = ov.split(steady, test=0.6, tuning=0.05, seed=1)
    known = (pd.read_csv(same.parent / "truth.csv").set_index("case")["grade"] >= 2).astype(float)
    steady = ov.Cases(steady.table.drop(columns="label:referable"), ov.Target("findings", ("moderate",)), steady.root)
    one, other = (_learned(steady, parts, known, **everywhere, crop=crop) for crop in ("field", "none"))
    assert ov.compare(one, other)["auc", "moderate"].difference.low < 0.02
