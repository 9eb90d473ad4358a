from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest

import overread as ov
from overread.cases.sources.layout import Layout
from overread.core.errors import ArgumentError, InputError, UnsoundError

from ..conftest import picture, write

#: Names as they stand; codes in their place are in test_private.py.
read = partial(ov.read_cases, names="keep")

ROWS = {
    "file": ["img/1.png", "img/2.png", "img/3.png", "img/4.png"],
    "pid": ["007", "007", "8", "9"],
    "dx": ["malignant", "benign", "benign", ""],
    "site": ["x", "x", "y", "y"],
    "age": ["40", "", "55.5", "61"],
    "sex": ["f", "m", "unknown", ""],
}


def test_roles_are_mapped_and_the_rest_carried(table):
    cases = read(table(ROWS, image="file"), image="file", label="dx", patient="pid", source="site")
    assert cases.table["patient"].tolist() == ["007", "007", "8", "9"]
    assert cases.table["case"].tolist() == ["1", "2", "3", "4"]
    assert cases.target == ov.Target("binary", ("benign", "malignant"), ("malignant",))
    assert cases.labelled.tolist() == [True, True, True, False]
    np.testing.assert_array_equal(cases.table["age"], [40, np.nan, 55.5, 61])
    assert cases.table["sex"].tolist() == ["f", "m", "unknown", ""]
    assert not any("guessed column" in note for note in cases.notes)


def test_guesses_are_noted(table):
    cases = read(table(ROWS, image="file"))
    assert cases.table["source"].tolist() == ["x", "x", "y", "y"]
    for role, column in (("image", "file"), ("patient", "pid"), ("label", "dx"), ("source", "site")):
        assert f"{role}: guessed column {column!r}; override with --{role}" in cases.notes


def test_a_round_trip(table, tmp_path):
    cases = read(table(ROWS, image="file"))
    saved = cases.save(tmp_path / "out" / "cases.csv")
    again = ov.Cases.load(saved)
    assert again == cases
    assert again.table["age"].dtype == float
    assert read(saved) == cases


def test_without_a_patient_column_it_warns(table):
    rows = {k: v for k, v in ROWS.items() if k != "pid"}
    cases = read(table(rows, image="file"))
    assert cases.patients == 4
    assert any("counts as a patient of its own" in note for note in cases.notes)


@pytest.mark.parametrize("pair", [("7", "00007"), ("p007", "P007"), ("P-7", "p7")])
def test_a_patient_written_two_ways_is_asked_about_before_anything_is_split(table, pair):
    """22 of 23 patients of a test were in training, and the proof of the split said that none was."""
    path = table(ROWS | {"pid": [pair[0], pair[1], "8", "9"]}, image="file")

    def patients(answer):
        layout = Layout(identifiers=answer)
        return read(path, image="file", label="dx", patient="pid", layout=layout).table["patient"].tolist()

    with pytest.raises(UnsoundError, match="--identifiers same") as error:
        patients("ask")
    assert not any(name in str(error.value) for name in pair if not name.isdigit())
    assert len(set(patients("same"))) == 3
    assert len(set(patients("as-written"))) == 4


def test_a_number_of_a_patient_is_one_however_it_is_written(table):
    cases = read(table(ROWS | {"pid": ["7", "7.0", " 7", "9"]}, image="file"), image="file", label="dx", patient="pid")
    assert cases.table["patient"].tolist() == ["7", "7", "7", "9"]
    assert any(note.startswith("patient: ") and "read in another form" in note for note in cases.notes)


def test_blank_patients_stay_apart(table):
    rows = ROWS | {"pid": ["a", "", "", "nan"]}
    cases = read(table(rows, image="file"))
    assert cases.patients == 4
    assert any("3 images without one" in note for note in cases.notes)


@pytest.mark.parametrize(
    ("flags", "says"),
    [({"label": "dxx"}, "id you mean 'dx'"), ({"patient": "pd"}, "id you mean 'pid'"), ({"subgroups": ["gender"]}, "no column 'gender' for --subgroup"),
     ({"image": "sex"}, "the images are not there"), ({"positive": ["maligant"]}, "id you mean .malignant"), ({"case": "pid"}, "stands on more than one row"),
     ({"kind": "quantity", "label": "sex"}, "must be a number"), ({"value": "sex"}, "must be a number"), ({"labels": ["dx"]}, "1, 0 or blank")],
)  # fmt: skip
def test_wrong_flags(table, flags, says):
    with pytest.raises(InputError, match=says) as caught:
        read(table(ROWS, image="file"), **flags)
    assert "007" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_target_only(table):
    with pytest.raises(ArgumentError, match="one of label"):
        read(table(ROWS, image="file"), label="dx", value="age")


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "none.csv")


def test_missing_images_are_counted_and_named(table, tmp_path):
    path = table(ROWS, image="file")
    (tmp_path / "img/3.png").unlink()
    cases = read(path)
    assert any("1 of 4 files are not there, first that of row 3" in note for note in cases.notes)
    (tmp_path / "img/2.png").unlink()
    (tmp_path / "img/4.png").unlink()
    with pytest.raises(InputError, match=r"3 of 4 images are not there \(given: first that of row 2"):
        read(path)


def test_files_are_found_in_a_usual_folder_with_an_ending(tmp_path):
    for name in "abc":
        write(tmp_path / "images" / f"{name}.png", picture(1, 8))
    pd.DataFrame({"image_id": list("abc"), "dx": ["no", "yes", "no"]}).to_csv(tmp_path / "t.csv", index=False)
    cases = read(tmp_path / "t.csv")
    assert cases.table["image"].tolist() == ["images/a.png", "images/b.png", "images/c.png"]
    assert any("3 files are found by name in images (3 .png)" in note for note in cases.notes)


@pytest.mark.parametrize("address", ["https://example.org/a.png", "file:///etc/passwd", "s3://bucket/a"])
def test_the_network_is_never_asked(tmp_path, address):
    pd.DataFrame({"image": [address], "label": ["a"]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match="never from the network"):
        read(tmp_path / "t.csv")


def test_several_images_of_a_case_need_a_view(table):
    rows = ROWS | {"exam": ["e1", "e1", "e2", "e3"], "plane": ["L", "R", "L", "L"]}
    with pytest.raises(InputError, match=r"2 rows, first rows 1 and 2.*--view"):
        read(table(rows, image="file"), case="exam")
    assert len(read(table(rows, image="file"), case="exam", view="plane")["e1"]) == 2


def test_a_case_of_two_patients_is_refused_without_naming_them(table):
    rows = ROWS | {"exam": ["e1", "e2", "e2", "e3"], "plane": list("LLRL")}
    with pytest.raises(InputError, match="belongs to two patients") as caught:
        read(table(rows, image="file"), case="exam", view="plane")
    assert "007" not in str(caught.value)


def test_findings_and_quantity(table):
    rows = ROWS | {"edema": ["1", "0", "", "1"], "mass": ["0", "0", "1", ""]}
    path = table(rows, image="file")
    findings = read(path, labels=["edema", "mass"])
    assert findings.target.kind == "findings"
    np.testing.assert_array_equal(findings.labels, np.array([[1, 0], [0, 0], [np.nan, 1], [1, np.nan]], np.float32))
    years = read(path, value="age")
    assert years.target == ov.Target("quantity", ("age",))
    assert years.labelled.tolist() == [True, False, True, True]


def test_a_subgroup_that_is_also_a_role_keeps_its_name(table):
    cases = read(table(ROWS, image="file"), source="site", subgroups=["site", "sex"])
    assert cases.table["site"].tolist() == cases.table["source"].tolist()


def test_a_given_split_is_kept(table):
    cases = read(table(ROWS | {"split": ["Train", "val", "test", "train"]}, image="file"))
    assert cases.table["split"].tolist() == ["train", "tuning", "test", "train"]


def test_folder_of_class_folders(tmp_path):
    for part in ("train", "val", "test"):
        for label in ("benign", "malignant"):
            write(tmp_path / part / label / f"{part}.png", picture(1, 8))
    cases = read(tmp_path)
    assert cases.target.names == ("benign", "malignant")
    assert sorted(set(cases.table["split"])) == ["test", "train", "tuning"]
    assert cases.table["case"].is_unique
    assert (
        cases.table["image"]
        == cases.table["split"].replace("tuning", "val")
        + "/"
        + cases.table["label"]
        + "/"
        + cases.table["split"].replace("tuning", "val")
        + ".png"
    ).all()


def test_folders_of_patients_within_classes(tmp_path):
    for label, patient in (("benign", "p1"), ("benign", "p2"), ("malignant", "p3")):
        for name in "ab":
            write(tmp_path / label / patient / f"{name}.png", picture(1, 8))
    cases = read(tmp_path)
    assert cases.patients == 3
    assert len(cases) == 6


@pytest.mark.parametrize(
    "make", [lambda p: None, lambda p: write(p / "a.png", picture(1, 8)), lambda p: (p / "x.csv").write_text("a\n1\n")]
)
def test_folders_that_are_none(tmp_path, make):
    make(tmp_path)
    with pytest.raises(InputError, match="class folders"):
        read(tmp_path)
    with pytest.raises(InputError, match="no columns"):
        read(tmp_path, patient="x")


def archive(path, labels, shape=(8, 8), **more):
    arrays = {}
    for part, values in labels.items():
        arrays[f"{part}_images"] = np.zeros((len(values), *shape), np.uint8)
        arrays[f"{part}_labels"] = np.asarray(values, np.uint8)
    np.savez_compressed(path, **(arrays | more))
    return path


def test_an_archive_keeps_its_parts(tmp_path):
    path = archive(tmp_path / "x.npz", {"train": [[0], [1], [2]], "val": [[1]], "test": [[0], [2]]}, (4, 4, 4))
    cases = read(path)
    assert cases.table["split"].tolist() == ["train"] * 3 + ["tuning"] + ["test"] * 2
    assert cases.table["image"].iloc[3] == "x.npz#val_images/0"
    assert cases.target == ov.Target("classes", ("0", "1", "2"))
    assert cases.labels.tolist() == [0, 1, 2, 1, 0, 2]


def test_an_archive_of_the_catalogue_gets_its_names(tmp_path):
    cases = read(archive(tmp_path / "adrenalmnist3d.npz", {"train": [[0], [1]], "test": [[1]]}))
    assert cases.target == ov.Target("binary", ("normal", "hyperplasia"), ("hyperplasia",))
    chest = read(archive(tmp_path / "chestmnist_64.npz", {"train": np.eye(14), "test": np.eye(14)}))
    assert chest.target.kind == "findings"
    assert chest.target.names[0] == "atelectasis"


@pytest.mark.parametrize(
    ("arrays", "says"),
    [({"a": np.zeros(3)}, "no images"), ({"train_images": np.zeros((2, 4, 4))}, "no 'train_labels'"),
     ({"train_images": np.zeros((2, 4, 4)), "train_labels": np.zeros((3, 1))}, "2 images but 3 labels"),
     ({"train_images": np.array([{}], object), "train_labels": np.zeros((1, 1))}, "Python objects")],
)  # fmt: skip
def test_archives_that_are_none(tmp_path, arrays, says):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=says):
        read(tmp_path / "x.npz")


def test_a_damaged_archive(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "x.npz")


def test_a_row_is_named_as_it_stands_in_the_table(table, tmp_path):
    path = table(ROWS, image="file")
    (tmp_path / "img/4.png").unlink()
    cases = read(path, where="site == 'y'")
    assert len(cases) == 2
    assert any("first that of row 4" in note for note in cases.notes)
    assert list(cases.table["image"]) == ["img/3.png", "img/4.png"]
