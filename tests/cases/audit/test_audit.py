from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import overread as ov
from overread.cases.audit.fingerprints import take_fingerprints
from overread.cases.cases import paths
from overread.core.errors import InputError, UnsoundError

from ..conftest import made, picture, write


@pytest.fixture
def study(tmp_path):
    """Builds cases with real files: ``pictures`` says which picture each row shows."""

    def build(pictures: list[int | None], size: int = 32, **columns: object) -> ov.Cases:
        names = []
        for row, seed in enumerate(pictures):
            names.append(f"{row}.png")
            if seed is None:
                (tmp_path / names[-1]).write_bytes(b"\x89PNG\r\n\x1a\n cut off")
            else:
                write(tmp_path / names[-1], picture(seed, size))
        columns.setdefault("label", ["no", "yes"] * (len(names) // 2) + ["no"] * (len(names) % 2))
        columns.setdefault("patient", [f"SECRET{i}" for i in range(len(names))])
        cases = made({"image": names} | columns)
        return ov.Cases(cases.table, cases.target, str(tmp_path))

    return build


def test_a_sound_table_says_little(study):
    found = ov.audit(study(list(range(80))))
    assert {f.kind for f in found.findings} == {"few-patients"}
    assert found.pairs == found.excluded == ()
    assert found.counts["images"] == found.counts["patients"] == 80
    assert found.counts["sizes"] == {"32×32": 80}
    assert found.counts["modes"] == {"colour, 8 bit": 80}
    assert found.counts["classes"] == {"no": {"images": 40, "patients": 40}, "yes": {"images": 40, "patients": 40}}


def test_unreadable_images_and_missing_labels_are_set_aside(study):
    cases = study([0, None, 2, 3, None, 5], label=["no", "yes", "", "no", "", "yes"])
    found = ov.audit(cases)
    assert found.of("unreadable").count == 2
    assert "the PNG is cut off" in found.of("unreadable").message
    assert "1.png" not in found.of("unreadable").message  # a name of a file may be that of a person
    assert found.of("unreadable").severity == "error"  # a third of the images
    assert found.of("missing-label").count == 2
    reasons = dict(found.excluded)
    assert set(reasons) == {"c1", "c2", "c4"}
    assert reasons["c2"] == "no label"
    assert reasons["c1"].startswith("unreadable: the PNG is cut off")


def test_a_reason_that_ends_with_advice_ends_once(study):
    cases = study([0, 1, 2, 3, 4, 5])
    Path(paths(cases)[1]).unlink()
    message = ov.audit(cases).of("unreadable").message
    assert "the file does not exist. Check the image column and the folder" in message
    assert not message.endswith(".")  # what follows begins with one


def test_if_nothing_can_be_read_it_stops(study):
    with pytest.raises(InputError, match="none of the 3 images can be read") as caught:
        ov.audit(study([None, None, None]))
    assert "\n" not in str(caught.value)
    assert "The first: " in str(caught.value)
    assert str(caught.value).count("(given: ") == 1  # that of the first, and no bracket around it


def test_duplicates_leaks_and_conflicts(study):
    pictures = [0, 1, 2, 3, 4, 5, 0, 1, 1, 9, 10, 11]
    split = ["train"] * 6 + ["test", "train", "tuning", "test", "test", "tuning"]
    patients = [f"SECRET{i}" for i in range(12)]
    patients[9] = patients[3]
    labels = ["no", "yes"] * 6
    labels[7] = "no"
    found = ov.audit(study(pictures, split=split, patient=patients, label=labels))
    images, people = found.all("leak")
    assert "2 distinct images" in images.message
    assert "1 in both train and tuning; 1 in both train and test" in images.message
    assert set(images.cases) == {"c0", "c6", "c1", "c7", "c8"}
    assert (people.count, set(people.cases)) == (1, {"c3", "c9"})
    assert found.of("exact-duplicate").count == 3
    assert found.of("conflicting-label").count == 1
    assert set(found.pairs) == {("c0", "c6", "exact"), ("c1", "c7", "exact"), ("c1", "c8", "exact")}
    with pytest.raises(UnsoundError, match="leaks"):
        found.require_none("unreadable", "leak")
    found.require_none("unreadable", "blank")
    assert "SECRET" not in str(found)


def test_near_duplicates_across_a_split(study, tmp_path):
    cases = study(list(range(8)), size=96, split=["train"] * 4 + ["test"] * 4)
    write(tmp_path / "5.png", np.clip(picture(1, 96).astype(float) * 1.05 + 3, 0, 255).astype(np.uint8))
    found = ov.audit(cases)
    assert found.pairs == (("c1", "c5", "near"),)
    assert found.of("near-leak").severity == "error"
    assert "of different patients" in found.of("near-duplicate").message


def test_a_long_chain_of_near_duplicates_is_told(study, tmp_path):
    cases = study(list(range(30)), size=64)
    for i in range(24):
        write(tmp_path / f"{i}.png", np.clip(picture(0, 64).astype(float) * 0.8 + i, 0, 255).astype(np.uint8))
    found = ov.audit(cases)
    assert found.of("near-chain").count == found.of("near-duplicate").count == 24 * 23 // 2
    assert "more than 20 patients" in found.of("near-chain").message
    made_split = ov.split(cases, audit=found)
    assert any("long chains" in warning for warning in made_split.proof["warnings"])
    assert made_split.proof["duplicate groups shared"] == 0


def test_few_patients_by_class(study):
    labels = ["no"] * 45 + ["yes"] * 13 + ["rare"] * 2
    cases = study(list(range(60)), label=labels)
    cases = ov.Cases(cases.table, ov.Target("classes", ("no", "rare", "yes")), cases.root)
    found = {f.severity: f.message for f in ov.audit(cases).all("few-patients")}
    assert "rare (2)" in found["error"]
    assert "yes (13)" in found["warning"]
    assert "no (45)" in found["note"]
    assert "22 times" in ov.audit(cases).of("imbalance").message


def test_one_class_one_patient_no_patient(study):
    assert ov.audit(study([0, 1, 2], label=["no"] * 3)).of("one-class").severity == "error"
    assert (
        ov.audit(study([0, 1, 2], patient=["a"] * 3)).of("few-patients").message == "all images belong to one patient"
    )
    assert ov.audit(study([0, 1, 2], patient=["c0", "c1", "c2"])).of("no-patient").severity == "warning"
    twice = study([0, 1, 2, 3], case=["a", "a", "b", "b"], patient=["a", "a", "b", "b"], view=["1", "2"] * 2, label=["no"] * 2 + ["yes"] * 2)  # fmt: skip
    assert "so each case counts as a patient" in ov.audit(twice).of("no-patient").message


def test_blank_images_sizes_and_modes(study, tmp_path):
    cases = study(list(range(12)))
    write(tmp_path / "3.png", np.full((32, 32), 9, np.uint8))
    write(tmp_path / "4.png", picture(4, 40))
    found = ov.audit(cases)
    assert found.of("blank").cases == ("c3",)
    assert found.of("mixed-sizes").count == 2
    assert "grey, 8 bit (1)" in found.of("mixed-modes").message


def test_a_source_with_one_class(study):
    found = ov.audit(study(list(range(8)), source=["x", "x"] * 3 + ["y", "x"]))
    assert found.of("source-class").cases == ("c6",)
    assert found.counts["sources"]["y"] == {"images": 1, "patients": 1, "classes": {"no": 1, "yes": 0}}


def test_a_shortcut_is_a_warning(study, tmp_path):
    cases = study(list(range(60)))
    for i in range(60):
        write(tmp_path / f"{i}.png", (picture(i, 32) // (2 + 2 * (i % 2))))
    found = ov.audit(cases)
    assert found.of("shortcut").severity == "error"
    assert "intensity 1.00" in found.of("shortcut").message


def test_findings_and_quantities(study):
    cases = study(list(range(6)))
    findings = made(
        {"image": cases.table["image"], "label:f": [1, 0, 1, np.nan, 0, 1], "label:g": [0, 0, 1, np.nan, 0, 0]},
        "findings",
        ("f", "g"),
    )
    findings = ov.Cases(findings.table, findings.target, cases.root)
    found = ov.audit(findings)
    assert found.counts["classes"]["f"] == {"images": 3, "patients": 3, "absent": 2, "unknown": 1}
    assert found.excluded == (("c3", "no label"),)
    years = made({"image": cases.table["image"], "value": [1, 2, 3, 4, 5, np.nan]}, "quantity", ("age",))
    found = ov.audit(ov.Cases(years.table, years.target, cases.root))
    assert found.counts["value"] == {"images": 5, "min": 1.0, "median": 3.0, "max": 5.0, "mean": 3.0}


def test_a_round_trip(study, tmp_path):
    found = ov.audit(study([0, 1, 1, None, 4], label=["no", "yes", "no", "no", ""]))
    again = ov.Audit.load(found.save(tmp_path / "audit.json"))
    assert again == found
    assert hash(again) == hash(found)
    assert str(again) == str(found)
    assert ov.Audit.load(tmp_path / "audit.json").findings[0] == found.findings[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 99}',
        '{"format": 1, "findings": [], "more": 1}',
        '{"format": 1, "findings": [{"kind": 3}]}',
    ],
)
def test_a_damaged_audit_is_refused(tmp_path, text):
    (tmp_path / "audit.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        ov.Audit.load(tmp_path / "audit.json")


def test_fingerprints_of_other_cases_are_refused(study):
    cases = study([0, 1, 2, 3])
    prints = take_fingerprints(cases)
    assert ov.audit(cases, fingerprints=prints) == ov.audit(cases)
    with pytest.raises(InputError, match="other cases"):
        ov.audit(cases.take([0, 1]), fingerprints=prints)


def test_findings_stand_worst_first_and_name_at_most_a_thousand(study):
    found = ov.audit(study([0, 1, 2, None], split=["train", "train", "test", "test"], patient=["a", "b", "a", "c"]))
    order = [f.severity for f in found.findings]
    assert order == sorted(order, key=["error", "warning", "note"].index)
    assert all(len(f.cases) <= 1000 for f in found.findings)
    assert all(f.message and f.advice for f in found.findings)
    assert pd.Series([f.kind for f in found.findings]).isin(["leak", "unreadable", "few-patients", "imbalance"]).all()
