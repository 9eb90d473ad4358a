"""Sets of answers and silence, in sentences that hold the stored numbers."""

from __future__ import annotations

from pathlib import Path

from overread.evaluation.curves import AbstentionCurve
from overread.evaluation.evaluate import Evaluation, Provenance
from overread.evaluation.results import from_file_form
from overread.reporting.main_results import surest_half, unsure
from overread.reporting.run import Run
from overread.tasks.target import Target


def run(kind: str, names: list[str], **more: object) -> Run:
    judged = Evaluation((), about=Provenance(level=0.9), more=more)
    return Run(folder=Path(), target=Target(kind, tuple(names)), evaluation=judged)


def group(of: str = "", **held: object) -> dict[str, object]:
    return {"of": of, "group": "all", "coverage": {"value": 0.87, "low": 0.82, "high": 0.91}, "size": 1.06, **held}


def plain(lines: list[str]) -> str:
    return " ".join(lines).replace("\u00a0", " ")


def test_sets_of_classes():
    said = plain(
        unsure(
            run("classes", ["a", "b"], conformal={"level": 0.8, "groups": [group(), {"of": "", "group": "truth: a"}]})
        )
    )
    assert "hold the truth of 80 % of new images" in said
    assert "87 % (90 % interval 82 to 91 %), with a mean of 1.06 answers" in said


def test_each_finding_is_named_up_to_a_limit():
    names = [f"f{i}" for i in range(10)]
    said = plain(unsure(run("findings", names, conformal={"level": 0.9, "groups": [group(n) for n in names]})))
    assert "for f7" in said
    assert "for f8" not in said
    assert "2 more are in the figure" in said


def test_intervals_of_a_quantity_have_a_width():
    said = plain(unsure(run("quantity", ["age"], conformal={"level": 0.9, "groups": [group("age", size=15.7)]})))
    assert "an interval" in said
    assert "mean width of 15.70 in the unit of the table" in said


def test_an_undefined_share_says_why():
    none = {"value": None, "low": None, "high": None}
    held = {"level": 0.9, "groups": [group(coverage=none, undefined="no tuning case")]}
    assert "no tuning case" in plain(unsure(run("binary", ["a", "b"], conformal=held)))


def test_silence_is_told_only_where_it_helps():
    falls = {"": {"coverage": [0.25, 0.52, 1.0], "risk": [0.0, 0.1, 0.24]}}
    flat = {"": {"coverage": [0.5, 1.0], "risk": [0.2, 0.2]}}
    said = plain(unsure(run("binary", ["a", "b"], abstention=falls)))
    assert "24.0 % of all cases, 10.0 % of the half it is surest of" in said
    assert "needed most" in said
    assert "needed most" not in plain(unsure(run("binary", ["a", "b"], abstention=flat)))


def test_missing_risk_is_no_error():
    every, half = surest_half(from_file_form(AbstentionCurve, {"coverage": [0.5, 1.0], "risk": [None, 0.2]}))
    assert (every, half != half) == (0.2, True)


def test_nothing_stored_nothing_said():
    assert unsure(run("binary", ["a", "b"])) == []
    assert unsure(run("binary", ["a", "b"], conformal={"undefined": "x"}, abstention={"undefined": "x"})) == []
