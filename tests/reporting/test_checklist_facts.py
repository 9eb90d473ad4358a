"""What a run says to a standard is true of that kind of run, and nothing is said where nothing is known."""

from __future__ import annotations

import shutil

from overread.core.files import read_json, write_json
from overread.reporting.checklist import facts
from overread.reporting.run import read_run


def said(folder, *names):
    return " ".join(facts(read_run(folder), list(names))).replace("\u00a0", " ")


def copied(finished, tmp_path, kind="binary", **study):
    folder = shutil.copytree(finished(kind), tmp_path / "run")
    lines = "".join(f'{key} = "{value}"\n' for key, value in study.items())
    text = (folder / "study.toml").read_text("utf-8")
    (folder / "study.toml").write_text(lines + text, "utf-8")
    return folder


def test_a_threshold_is_told_or_why_there_is_none(finished, tmp_path):
    assert "frozen" in said(finished("binary"), "threshold")
    assert said(finished("quantity"), "threshold") == "None: the output is a number."
    assert said(finished("classes"), "threshold") == "None: the most probable answer counts."
    folder = copied(finished, tmp_path, "findings")
    points = [
        {
            "positive": [n],
            "threshold": t,
            "rule": "youden",
            "chosen_on": "tuning data",
            "sensitivity": 0.9,
            "specificity": 0.8,
        }
        for n, t in (("effusion", 0.31), ("nodule", 0.42))
    ]
    write_json(folder / "evaluation" / "operating.json", points)
    assert "effusion 0.310, nodule 0.420" in said(folder, "threshold")


def test_a_point_that_was_not_chosen_is_not_called_prespecified(finished, tmp_path):
    folder = copied(finished, tmp_path)
    write_json(folder / "evaluation" / "operating.json", [])
    assert said(folder, "threshold").startswith("Not prespecified")


def test_external_is_said_only_of_what_is(finished, tmp_path):
    assert said(finished("binary"), "external").startswith("No external test")
    folder = copied(finished, tmp_path, leave_out="B")
    assert "of which no image was trained on" in said(folder, "external")
    assert said(folder, "internal") == ""


def test_prevalence_and_calibration_by_kind(finished):
    assert "are malignant; what is expected in use only the authors know" in said(finished("binary"), "prevalence")
    assert "effusion" in said(finished("findings"), "prevalence")
    assert "nodule" in said(finished("findings"), "prevalence")
    assert said(finished("quantity"), "prevalence") == "Does not apply to a quantity."
    assert said(finished("quantity"), "calibration").startswith("Bias")
    assert said(finished("quantity"), "balance") == ""


def test_images_without_patients_are_not_called_patients(finished, tmp_path):
    folder = copied(finished, tmp_path)
    assert "level of the patient" in said(folder, "disjoint")
    assert "cluster" in said(folder, "clusters")
    held = read_json(folder / "cases.target.json")
    held["notes"] = ["patient: no column says who the patient is, so each image counts as a patient of its own"]
    write_json(folder / "cases.target.json", held)
    assert "level of the image" in said(folder, "disjoint")
    assert said(folder, "clusters") == ""


def test_the_note_that_is_looked_for_is_the_one_that_is_written():
    from overread.cases.sources.tables import NO_PATIENT

    assert NO_PATIENT.startswith("patient: no column")


def test_the_last_word_on_each_decision_is_told_first(finished, tmp_path):
    folder = copied(finished, tmp_path)
    held = read_json(folder / "model" / "model.json")
    held["decisions"] = [{"what": w, "choice": c, "why": "y"} for w, c in (
        ("method", "m"), ("a", "1"), ("b", "2"), ("epochs", "13"), ("c", "3"), ("d", "4"), ("epochs", "12"), ("snapshot", "epoch 4"))]  # fmt: skip
    write_json(folder / "model" / "model.json", held)
    text = said(folder, "selection")
    assert text.startswith("Snapshot: epoch 4")
    assert "epochs: 13" not in text


def test_findings_have_a_cross_table_to_look_at(finished):
    assert "truly benign" in said(finished("binary"), "crosstab").lower()
    assert said(finished("quantity"), "crosstab") == ""


def test_the_margin_is_in_the_words_of_its_measure(finished, tmp_path):
    folder = copied(finished, tmp_path, margin_of="sensitivity")
    text = (folder / "study.toml").read_text("utf-8")
    (folder / "study.toml").write_text("margin = 0.05\n" + text, "utf-8")
    assert "non-inferiority in Sensitivity by a margin of 5 percentage points" in said(folder, "margin").replace(
        "Non", "non"
    )
    assert said(finished("binary"), "margin") == ""


def test_no_update_is_claimed_that_nobody_recorded(finished):
    assert said(finished("binary"), "updating") == "No recalibration or other updating is recorded in this run."
