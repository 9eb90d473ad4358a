"""Figures show the stored numbers, as text, in equal bytes."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from overread.core.files import read_json, write_json
from overread.reporting import draw_all
from overread.reporting.figures.cohort import flow
from overread.reporting.figures.curves import training
from overread.reporting.page import DRAWN
from overread.reporting.run import read_evaluation, read_run
from overread.stats.estimate import rounded
from overread.tasks.target import Target


def redrawn(folder):
    return {path.stem: path.read_text(encoding="utf-8") for path in draw_all(folder)}


def text_of(svg: str) -> str:
    return " ".join(
        "".join(element.itertext()) for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")
    ).replace("\u00a0", " ")


def test_every_figure_is_sound_svg_with_a_title(kind, drawn):
    for name, svg in drawn(kind).items():
        root = ElementTree.fromstring(svg)  # raises where it is not well formed
        assert root.tag.endswith("svg"), name
        assert [child.tag.split("}")[1] for child in root][:2] == ["title", "desc"]
        assert not re.search(r"(?:href|src)=\"(?!#)", svg)
        assert "<script" not in svg


def test_the_kinds_have_their_figures(drawn):
    detection = {
        "flow",
        "training",
        "roc",
        "precision-recall",
        "scores",
        "calibration",
        "decision",
        "confusion",
        "forest",
        "gaps",
    }
    assert set(drawn("binary")) == detection == set(drawn("group"))
    assert set(drawn("classes")) == detection - {"scores", "decision"}
    assert set(drawn("findings")) == detection - {"scores", "decision"}
    assert set(drawn("quantity")) == {"flow", "training", "scatter", "forest", "gaps"}


def test_equal_bytes(finished, drawn):
    assert redrawn(finished("group")) == drawn("group")


def test_the_roc_curve_tells_its_auc_and_its_points(finished):
    run = read_run(finished("binary"))
    auc = run.estimate("auc", "malignant")
    figure = DRAWN["roc"](run)
    assert f"AUC {rounded(auc.value, 2)} ({rounded(auc.low, 2)} – {rounded(auc.high, 2)})" in text_of(figure.svg)
    assert "Operating point" in text_of(figure.svg)
    assert f"{auc.value:.2f}" in figure.alt


def test_the_confusion_matrix_shows_its_counts(finished, drawn):
    counts = read_json(finished("group") / "evaluation/curves.json")["confusion"]["counts"]
    said = text_of(drawn("group")["confusion"])
    assert all(str(number) in said.split() for row in counts for number in row)


def test_precision_recall_tells_the_no_skill_line(finished):
    run = read_run(finished("binary"))
    prevalence = run.curve.pr.prevalence
    assert f"{100 * prevalence:.1f}\u00a0%" in DRAWN["precision-recall"](run).caption


def test_the_forest_has_a_line_for_each_subgroup(finished):
    run = read_run(finished("binary"))
    said = text_of(DRAWN["forest"](run).svg)
    groups = {value for e in run.estimates for value in e.where.values()}
    assert {"female", "male", "A", "B", "C"} <= groups
    assert all(re.search(rf"{re.escape(value)}, n = \d+", said) for value in groups)


def test_a_subgroup_too_small_is_counted_not_judged(finished, tmp_path):
    folder = shutil.copytree(finished("binary"), tmp_path / "run")
    rows = read_json(folder / "evaluation/metrics.json")
    for row in rows:
        if row["where"] == {"sex": "female"}:
            row.update(value=None, low=None, high=None, patients=7, undefined="fewer than 10 patients")
    write_json(folder / "evaluation/metrics.json", rows)
    said = text_of(DRAWN["forest"](read_run(folder)).svg)
    assert "fewer than 10 patients" in said
    assert "female, n = 7" in said


def test_the_flow_shows_exclusions_parts_and_calls(finished):
    run = read_run(finished("binary"))
    said = text_of(flow(run).svg)
    (tn, fp), (fn, tp) = run.curve.point.confusion
    for text in ("1,004 images of 502 patients", "Excluded: 3 cases", "2 unreadable", "1 missing label", "700 images of 351 patients",
                 f"Flagged: {fp + tp}", f"Cleared: {fn + tn}", f"{fn} are malignant: missed"):  # fmt: skip
        assert text in re.sub(r" +", " ", said)


def test_linear_heads_show_their_penalties(finished, tmp_path):
    folder = shutil.copytree(finished("binary"), tmp_path / "run")
    rows = [{"penalty": 10.0**k, "held-out loss": 0.4 + 0.01 * abs(k), "chosen": k == 1} for k in range(-3, 4)]
    write_json(folder / "model/history.json", rows)
    svg = training(read_run(folder)).svg
    assert "Penalty of the linear head" in text_of(svg)
    assert "Chosen: 10 (circle), with a loss of 0.410" in svg
    assert "mathdefault" not in svg  # a number, not the source of a formula


def test_losses_without_scores_are_drawn_and_empty_histories_left_out(finished, tmp_path):
    folder = shutil.copytree(finished("binary"), tmp_path / "run")
    rows = [{"epoch": e, "train loss": 1 / e, "tuning loss": None, "tuning score": None} for e in (1, 2)]
    write_json(folder / "model/history.json", rows)
    assert "training loss" in text_of(training(read_run(folder)).svg)
    write_json(folder / "model/history.json", [])
    assert training(read_run(folder)) is None


@pytest.mark.parametrize("classes", [2, 17])
def test_many_classes(tmp_path, make, classes):
    target = Target("classes", tuple(f"class {i}" for i in range(classes + 1)))
    folder = make(tmp_path / "run", target, patients=60, by=(), sources=("A",))
    for svg in redrawn(folder).values():
        ElementTree.fromstring(svg)


def test_figures_that_the_numbers_no_longer_allow_are_removed(finished, tmp_path):
    folder = shutil.copytree(finished("quantity"), tmp_path / "run")
    assert "training" in redrawn(folder)
    (folder / "model/history.json").unlink()
    assert "training" not in redrawn(folder)
    assert not (folder / "evaluation/figures/training.svg").exists()


def test_a_gap_counts_the_patients_of_its_own_group(finished):
    run = read_run(finished("binary"))
    said = text_of(DRAWN["gaps"](run).svg)
    female, male = (run.estimate("auc", "malignant", {"sex": sex}).patients for sex in ("female", "male"))
    assert f"female – male, n = {female} and {male}" in said
    assert f"A, n = {run.estimate('auc', 'malignant', {'source': 'A'}).patients}" in said


def test_gaps_of_nothing_known_are_not_drawn(finished, tmp_path):
    folder = shutil.copytree(finished("binary"), tmp_path / "run")
    held = read_json(folder / "evaluation/curves.json")
    held["gaps"] = [
        {**gap, "value": None, "low": None, "high": None, "undefined": "0 positives"} for gap in held["gaps"]
    ]
    write_json(folder / "evaluation/curves.json", held)
    assert DRAWN["gaps"](read_run(folder)) is None


def test_the_level_is_named_as_it_was_asked(finished, tmp_path):
    folder = shutil.copytree(finished("binary"), tmp_path / "run")
    held = read_json(folder / "evaluation/curves.json")
    write_json(folder / "evaluation/curves.json", {**held, "level": 0.9})
    for name in ("roc", "calibration"):
        assert "90\u00a0%" in DRAWN[name](read_run(folder)).caption, name


def test_several_curves_are_named_under_the_square(finished):
    drawing = DRAWN["roc"](read_run(finished("classes"))).drawing
    (axes,) = drawing.axes
    assert axes.get_legend() is None
    (legend,) = drawing.legends
    assert legend.get_window_extent().y1 < axes.get_window_extent().y0


def test_a_class_without_cases_has_no_share(finished, tmp_path):
    folder = shutil.copytree(finished("binary"), tmp_path / "run")
    held = read_json(folder / "evaluation/curves.json")
    held["confusion"]["counts"] = [[5, 3], [0, 0]]
    write_json(folder / "evaluation/curves.json", held)
    said = text_of(DRAWN["confusion"](read_run(folder)).svg)
    assert "62 %" in said
    assert " 0 %" not in said


def test_many_classes_have_a_scale_in_place_of_numbers(tmp_path):
    names = [f"class {i}" for i in range(17)]
    write_json(
        tmp_path / "curves.json",
        {"confusion": {"labels": names, "counts": [[int(i == j) for j in range(17)] for i in range(17)]}},
    )
    said = text_of(DRAWN["confusion"](read_evaluation(tmp_path, Target("classes", tuple(names)))).svg)
    assert "Share of the true class" in said


def test_where_the_model_helps_is_told_of_one_unbroken_range(finished, tmp_path):
    folder = shutil.copytree(finished("binary"), tmp_path / "run")
    held = read_json(folder / "evaluation/curves.json")
    curve = held["curves"]["malignant"]["decision"]
    curve.update(
        {
            "threshold": [0, 0.1, 0.2, 0.3, 0.4],
            "net benefit": [0.4, 0.5, 0.1, 0.3, 0.3],
            "treat all": [0.4, 0.3, 0.2, 0.1, 0],
        }
    )
    curve.update(dict.fromkeys(("low", "high", "treat all low", "treat all high"), [None] * 5))
    write_json(folder / "evaluation/curves.json", held)
    caption = DRAWN["decision"](read_run(folder)).caption.replace("\u00a0", " ")
    assert "Between the risks 30 % and 40 %" in caption
    assert "At t = 0 everybody is treated." in caption


@pytest.mark.parametrize("name", ["forest", "gaps"])
def test_no_name_is_cut_in_print(finished, name):
    drawing = DRAWN[name](read_run(finished("binary"))).drawing
    drawing.set_dpi(220)
    FigureCanvasAgg(drawing).draw()
    wide = drawing.get_figwidth() * 220
    for axes in drawing.axes:
        for text in (*axes.get_yticklabels(), *(t for child in axes.child_axes for t in child.get_yticklabels())):
            if text.get_text() and text.get_visible():
                box = text.get_window_extent()
                assert -1 <= box.x0 <= box.x1 <= wide + 1, text.get_text()
