"""Figures show the stored numbers, as text, in equal bytes."""

from __future__ import annotations

import re
import shutil
import xml.etree.ElementTree as ElementTree

import pytest

from overread.cases.cases import Target
from overread.record import read_json, write_json
from overread.reporting import draw_all
from overread.reporting.figures.all import figures
from overread.reporting.gather import gather


def redrawn(folder):
    return {path.stem: path.read_text(encoding="utf-8") for path in draw_all(folder)}


def text_of(svg: str) -> str:
    return " ".join(
        "".join(element.itertext())
        for element in ElementTree.fromstring(svg).iter()
        if element.tag.endswith("text")
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
    run = gather(finished("binary"))
    auc = run.estimate("auc", "malignant")
    figure = figures(run)["roc"]
    assert f"AUC {auc.value:.2f} ({auc.low:.2f} – {auc.high:.2f})" in text_of(figure.svg)
    assert "Operating point" in text_of(figure.svg)
    assert f"{auc.value:.2f}" in figure.alt


def test_the_confusion_matrix_shows_its_counts(finished, drawn):
    counts = read_json(finished("group") / "evaluation/curves.json")["confusion"]["counts"]
    said = text_of(drawn("group")["confusion"])
    assert all(str(number) in said.split() for row in counts for number in row)


def test_precision_recall_tells_the_no_skill_line(finished):
    run = gather(finished("binary"))
    prevalence = run.curve["pr"]["prevalence"]
    assert f"{100 * prevalence:.1f}\u00a0%" in figures(run)["precision-recall"].caption


def test_the_forest_has_a_line_for_each_subgroup(finished):
    run = gather(finished("binary"))
    said = text_of(figures(run)["forest"].svg)
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
    assert "female, n = 7" in text_of(redrawn(folder)["forest"])


def test_the_flow_shows_exclusions_parts_and_calls(finished):
    run = gather(finished("binary"))
    said = text_of(figures(run)["flow"].svg)
    (tn, fp), (fn, tp) = run.curve["point"]["confusion"]
    for text in ("1,004 images of 502 patients", "Excluded: 3 cases", "2 unreadable", "1 missing label", "700 images of 351 patients",
                 f"Flagged: {fp + tp}", f"Cleared: {fn + tn}", f"{fn} are malignant: missed"):  # fmt: skip
        assert text in re.sub(r" +", " ", said)


def test_linear_heads_show_their_penalties(finished, tmp_path):
    folder = shutil.copytree(finished("binary"), tmp_path / "run")
    rows = [
        {"penalty": 10.0**k, "held-out loss": 0.4 + 0.01 * abs(k), "chosen": k == 1} for k in range(-3, 4)
    ]
    write_json(folder / "model/history.json", rows)
    svg = redrawn(folder)["training"]
    assert "Penalty of the linear head" in text_of(svg)
    assert "Chosen: 10 (circle), with a loss of 0.410" in svg


def test_losses_without_scores_are_drawn_and_empty_histories_left_out(finished, tmp_path):
    folder = shutil.copytree(finished("binary"), tmp_path / "run")
    rows = [{"epoch": e, "train loss": 1 / e, "tuning loss": None, "tuning score": None} for e in (1, 2)]
    write_json(folder / "model/history.json", rows)
    assert "training loss" in text_of(redrawn(folder)["training"])
    write_json(folder / "model/history.json", [])
    assert figures(gather(folder))["training"] is None


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
