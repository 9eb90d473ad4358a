"""What is saved comes back equal: classes with ``save`` and ``load`` or ``read``, and plain dataclasses."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overread.core import files
from overread.core.errors import InputError, OverreadError
from overread.core.identifiers import identifiers

# -- one example of everything that saves itself ------------------------------------------------------------


def a_cases():
    from overread.cases.cases import Cases
    from overread.tasks.target import Target

    table = pd.DataFrame(
        {
            "image": ["a.png", "b,ü.png", "c.npz#x/3", "d.png"],
            "case": ["1", "02", "3", "4"],
            "patient": ["p1", "p1", "007", "NA"],
            "source": ["A", "", "nan", "B"],
            "view": "",
            "time": "",
            "split": ["train", "", "test", ""],
            "label": ["yes", "no", "", "no"],
            "sex": ["f", "m", "", "f"],
        }
    )
    return Cases(table, Target("binary", ("no", "yes"), ("yes",)), "images", ("patient: guessed 'pid'",))


def some_findings():
    from overread.cases.cases import Cases
    from overread.tasks.target import Target

    table = pd.DataFrame({role: ["1", "2"] for role in ("image", "case", "patient")})
    for role in ("source", "view", "time", "split"):
        table[role] = ""
    table["label:oedema"], table["label:mass"] = [1.0, np.nan], [0.0, 1.0]
    return Cases(table, Target("findings", ("oedema", "mass")))


def some_predictions(n: int = 60):
    from overread.core.random import uniform
    from overread.predictions import Predictions
    from overread.tasks.target import Target

    truth = np.arange(n) % 3 == 0
    p = np.clip(0.35 * truth + 0.6 * uniform(3, 0, np.arange(n), "p"), 0, 1).astype(np.float32).astype(float)
    table = pd.DataFrame(
        {
            "case": [f"c{i}" for i in range(n)],
            "patient": [f"p{i // 2}" for i in range(n)],
            "split": "test",
            "source": np.where(np.arange(n) % 2, "A", "B"),
            "sex": np.where(np.arange(n) % 5 < 2, "f", "m"),
            "label": np.where(truth, "yes", "no"),
            "p:no": 1 - p,
            "p:yes": p,
        }
    )
    return Predictions(table, Target("binary", ("no", "yes"), ("yes",)))


def an_audit():
    from overread.cases.audit.audit import Audit, Finding

    findings = (
        Finding("leak", "error", "2 patients are in train and in test", "Cut them from train.", 2, ("a", "b")),
        Finding("imbalance", "note", "10 % are positive", "Look at precision.", 0, ()),
    )
    pairs = (("a", "b", "exact"),)
    return Audit(findings, {"images": 4, "patients": 3}, {"auc": 0.6}, pairs, (("c", "unreadable"),))


def a_split():
    from overread.cases.cases import Cases
    from overread.cases.split import split
    from overread.tasks.target import Target

    predicted = some_predictions().table
    table = predicted.assign(image=predicted["case"] + ".png", view="", time="", split="")
    cases = Cases(table, Target("binary", ("no", "yes"), ("yes",)))
    return split(cases, seed=7)


def a_point():
    from overread.evaluation.operating_point import choose_threshold

    return choose_threshold(some_predictions(), sensitivity=0.8)


def a_decision():
    from overread.evaluation.decision.choose_decision import choose_decision

    return choose_decision(some_classes(), rule="prior")


def some_classes():
    """200 cases of three classes, one of them rare."""
    from overread.predictions import Predictions
    from overread.tasks.target import Target

    rng = np.random.default_rng(4)
    truth = rng.choice(3, 200, p=(0.7, 0.2, 0.1))
    chance = np.exp(rng.normal(size=(200, 3)) + np.eye(3)[truth] + [1.5, 0.5, 0])
    chance /= chance.sum(axis=1, keepdims=True)
    who = [f"k{i}" for i in range(200)]
    table = pd.DataFrame(
        {"case": who, "patient": who, "split": "", "source": "", "label": np.array(["a", "b", "c"])[truth]}
    )
    scores = pd.DataFrame(chance, columns=["p:a", "p:b", "p:c"])
    return Predictions(pd.concat([table, scores], axis=1), Target("classes", ("a", "b", "c")))


def a_leaderboard():
    from overread.evaluation.comparison.leaderboard import leaderboard

    test = some_predictions()
    return leaderboard({"one": test, "other": test.with_scores(1 - test.scores)}, resamples=50)


def an_evaluation():
    from overread.evaluation.evaluate import evaluate

    return evaluate(some_predictions(), by=("sex",))


def a_recipe():
    from overread.learning.recipe import Recipe

    return Recipe(seed=7)


def a_study():
    from overread.study.question import Study

    recipe = {"method": "features", "penalties": [0.1, 1.0]}
    return Study.from_flat(
        table="a.csv", label="dx", subgroups=("sex", "age"), positive=("mel",), budget="15m", recipe=recipe
    )


def a_comparison():
    from overread.evaluation.comparison.compare import compare

    first = some_predictions()
    table = first.table.assign(**{"p:yes": first.table["p:yes"] * 0.9, "p:no": 1 - 0.9 * first.table["p:yes"]})
    return compare(first, dataclasses.replace(first, table=table), by=("sex",), margin=0.1, resamples=50)


def a_recalibration():
    from overread.evaluation.recalibrate import fit_recalibration

    return fit_recalibration(some_predictions(), method="platt")


def a_learning_curve():
    from overread.evaluation.generalisation.learning_curve import learning_curve

    steps = [(size, some_predictions()) for size in (10, 20, 40, 80)]
    return learning_curve(steps, metric="auc", resamples=50)


def a_shift():
    from overread.evaluation.generalisation.site_transfer import shift_matrix

    sites = {site: some_predictions().take(np.arange(30) + 30 * i) for i, site in enumerate("AB")}
    return shift_matrix({(one, other): sites[other] for one in "AB" for other in "AB"}, resamples=50)


def a_plan():
    from overread.evaluation.sample_size import plan

    return plan(sensitivity=0.9, width=0.2, prevalence=0.3)


def some_grades():
    from overread.cases.annotators import Grades

    rows = [(f"c{i}", f"reader {r}", "", "yes" if (i + r) % 3 == 0 or i % 7 == r else "no") for i in range(60) for r in range(3)]  # fmt: skip
    return Grades(pd.DataFrame(rows, columns=["case", "reader", "modality", "label"]), "label")


def a_reading():
    from overread.evaluation.readers.reader_study import judge_readers

    return judge_readers(some_grades(), some_predictions(), resamples=50)


def a_calibration_change():
    from overread.evaluation.comparison.calibration_change import CalibrationChange, DiagramPair
    from overread.evaluation.curves import ReliabilityDiagram
    from overread.stats.estimate import Estimate, undefined

    estimates = (Estimate("calibration slope", 0.8, where={"probabilities": "as given"}), undefined("ece", "no cases"))
    return CalibrationChange(
        estimates, {"images": 12, "patients": 10}, 2, {"mel": DiagramPair(ReliabilityDiagram(predicted=(0.1, 0.9)))}
    )


def a_localisation():
    from overread.evaluation.detection import Marks, judge_marks

    rows = {"reader": "", "image": [0, 0, 1], "score": [0.9, 0.5, 0.4], "hit": [0, -1, 1]}
    marks = Marks(2, np.arange(2), np.arange(2), pd.DataFrame(rows), "the lesion that each mark names", "")
    return judge_marks(marks, resamples=50)


def some_training_images():
    from overread.cases.audit.image_checks import TrainingImages

    return TrainingImages(4, (28.0, 30.0), (30.0, 64.0), (1.0, 1.0), (0.5, 1.0), (0.2, 0.8), 0.1, {"grey, 8 bit": 4}, {"CR": 4}, {}, 1, 0,
                          tuple(range(256)) * 4, 0.6, ("a1", "b2"), "salt")  # fmt: skip


EXAMPLES: dict[str, tuple[Callable[[], object], ...]] = {
    "Cases": (a_cases, some_findings),
    "Predictions": (some_predictions,),
    "Audit": (an_audit,),
    "TrainingImages": (some_training_images,),
    "Split": (a_split,),
    "OperatingPoint": (a_point,),
    "ClassDecision": (a_decision,),
    "Evaluation": (an_evaluation,),
    "Recipe": (a_recipe,),
    "Study": (a_study,),
    "Comparison": (a_comparison,),
    "Leaderboard": (a_leaderboard,),
    "Recalibration": (a_recalibration,),
    "LearningCurve": (a_learning_curve,),
    "Shift": (a_shift,),
    "Plan": (a_plan,),
    "Reading": (a_reading,),
    "Localisation": (a_localisation,),
    "CalibrationChange": (a_calibration_change,),
}
#: Tested where they are made, because an example needs training: the class and the test that does it.
ELSEWHERE = {
    "Result": "every subclass above",
    "Model": "tests/learning",
    "GradedCases": "tests/cases/test_graders_labels.py",
}
ENDINGS = {
    "Cases": ".csv",
    "Predictions": ".csv",
    "Split": ".csv",
    "Audit": ".json",
    "OperatingPoint": ".json",
    "ClassDecision": ".json",
    "Recalibration": ".json",
    "Recipe": ".toml",
    "Study": ".toml",
}


# -- the contracts ------------------------------------------------------------------------------------------


def _reader(kind: type) -> Callable:
    return getattr(kind, "load", None) or kind.read


def _savers(package) -> Iterator[type]:
    for module in package.values():
        if module.is_door:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            mine = inspect.isclass(value) and value.__module__ == module.name and not name.startswith("_")
            if mine and hasattr(value, "save") and (hasattr(value, "load") or hasattr(value, "read")):
                yield value


def test_everything_that_saves_itself_has_an_example(package):
    missing = {kind.__name__ for kind in _savers(package)} - {*EXAMPLES, *ELSEWHERE}
    assert not missing, f"add an example of each to {Path(__file__).name}"


@pytest.mark.parametrize(
    ("kind", "make"),
    [(kind, make) for kind, makes in EXAMPLES.items() for make in makes],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_saved_and_loaded_is_equal(kind, make, tmp_path):
    made = make()
    path = tmp_path / ("saved" + ENDINGS.get(kind, ""))
    made.save(path)
    back = _reader(type(made))(path)
    assert same(back, made)
    assert str(back) == str(made)
    again = tmp_path / ("again" + ENDINGS.get(kind, ""))
    back.save(again)
    assert _contents(again) == _contents(path), "saving what was loaded writes the same bytes"


def _contents(path: Path) -> dict[str, bytes]:
    if path.is_dir():
        return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}
    return {p.name[len(path.stem) :]: p.read_bytes() for p in sorted(path.parent.glob(f"{path.stem}*")) if p.is_file()}


def same(one: object, other: object) -> bool:
    """Equal, where NaN equals NaN and tables are compared cell by cell."""
    if dataclasses.is_dataclass(one):
        pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one) if f.compare]
        return type(one) is type(other) and all(same(a, b) for a, b in pairs)
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_dtype=False, rtol=1e-8)
        return True
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other or (one != one and other != other)


DAMAGES = {
    "empty": b"",
    "cut": b"{",
    "binary": b"\x00\xff\xfe" * 40,
    "list": b"[]",
    "null": b"null",
    "other": b'{"surprise": 1}',
}


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_loading_what_is_not_there_is_our_error(kind, tmp_path):
    with pytest.raises(OverreadError):
        _reader(type(EXAMPLES[kind][0]()))(tmp_path / ("missing" + ENDINGS.get(kind, "")))


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
@pytest.mark.parametrize("damage", DAMAGES)
def test_loading_what_is_damaged_is_our_error(kind, damage, tmp_path):
    """Never an error from floors below; a list or an object may be read where it fits."""
    made = EXAMPLES[kind][0]()
    path = tmp_path / ("saved" + ENDINGS.get(kind, ""))
    made.save(path)
    for file in [p for p in ([path] if path.is_file() else sorted(path.rglob("*"))) if p.is_file()]:
        whole = file.read_bytes()
        if damage == "empty" and file.suffix == ".toml":
            continue  # an empty TOML file is a table without keys: every default
        file.write_bytes(DAMAGES[damage])
        try:
            _reader(type(made))(path)
        except OverreadError:
            refused = True
        else:
            refused = False
        assert refused or DAMAGES[damage].startswith((b"[", b'{"')), f"{file.name} was accepted"
        file.write_bytes(whole)


# -- plain dataclasses through files.save and files.load ----------------------------------------------------

PLAIN = {
    "overread.cases.cases.Target": {"kind": "classes", "names": ("a", "b", "c"), "positive": ("b",)},
    "overread.stats.estimate.Estimate": {"metric": "auc", "value": 0.9, "low": 0.8, "high": 1.0, "where": {"sex": "f"}},
    "overread.images.preprocess.Preprocess": {"size": (28, 28), "channels": 1, "mean": (0.5,), "std": (0.25,)},
    "overread.images.augment.Augmentation": {"rotate": 10.0, "scale": (0.9, 1.1)},
    "overread.learning.recipe.Recipe": {"seed": 3},
}


@pytest.mark.parametrize("name", sorted(PLAIN))
@pytest.mark.parametrize("ending", [".json", ".toml"])
def test_plain_dataclasses_survive_a_file(name, ending, tmp_path):
    module, _, kind = name.rpartition(".")
    kind = getattr(importlib.import_module(module), kind)
    made = kind(**PLAIN[name])
    back = files.load(kind, files.save(made, tmp_path / f"it{ending}"))
    assert back == made
    assert hash(back) == hash(made)


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_plain_dataclasses_refuse_an_unknown_key_by_name(name):
    module, _, kind = name.rpartition(".")
    kind = getattr(importlib.import_module(module), kind)
    first = dataclasses.fields(kind)[0].name
    with pytest.raises(InputError, match=f"(?i){first}x.*did you mean '{first}'"):
        files.build(kind, {**PLAIN[name], f"{first}x": 1})


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)


def one_form(name: str) -> str:
    return str(identifiers(pd.Series([f"c{name}"])).iloc[0])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(TEXT, TEXT, st.floats(0, 1, width=32)), min_size=1, max_size=8, unique_by=lambda row: one_form(row[0])
    )
)
def test_predictions_survive_any_names(tmp_path, rows):
    """Names with commas, quotes, leading zeros, or such as ``NA`` come back in the one form of a name."""
    from overread.predictions import Predictions
    from overread.tasks.target import Target

    table = pd.DataFrame(
        {
            "case": [f"c{row[0]}" for row in rows],
            "patient": [f"{row[1]}." for row in rows],
            "split": "test",
            "source": [row[1] for row in rows],
            "label": "b",
            "p:a": np.float32([1 - row[2] for row in rows]).astype(float),
            "p:b": np.float32([row[2] for row in rows]).astype(float),
        }
    )
    made = Predictions(table, Target("binary", ("a", "b"), ("b",)), identifiers="as-written")
    back = Predictions.read(made.save(tmp_path / "p.csv"), identifiers="as-written")
    assert list(back.table["case"]) == list(identifiers(table["case"]))
    assert list(back.table["patient"]) == list(identifiers(table["patient"]))
    assert np.array_equal(np.float32(back.scores), np.float32(made.scores))
