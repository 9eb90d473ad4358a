"""Tables laid out as published data sets are: read as they come, or with the one flag that the message names."""

from __future__ import annotations

from functools import partial

import pandas as pd
import pytest

import overread as ov
from overread.cases.sources.labels import findings_in, from_one_hot, listed_findings
from overread.cases.sources.layout import Layout
from overread.core.errors import ArgumentError, InputError

read = partial(ov.read_cases, names="keep")


def lay(root, rows, folder="images", ending=".png", name="t.csv"):
    """A table, and a file for each name in its first column."""
    table = pd.DataFrame(rows).astype(str)
    for cell in table.iloc[:, 0]:
        path = root / folder / f"{cell}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    table.to_csv(root / name, index=False)
    return root / name


def text(*cells):
    return pd.Series(cells, dtype=object)


def test_bars_part_findings_and_the_official_lists_are_the_split(tmp_path):
    lists = ["No Finding", "Mass|Nodule", "Nodule", "Mass", "No Finding", ""]
    rows = {
        "Image Index": [f"{i}_0.png" for i in range(6)],
        "Finding Labels": lists,
        "Patient ID": range(6),
        "OriginalImage[x": 1,
        "y]": 2,
    }
    path = lay(tmp_path, rows, ending="")
    (tmp_path / "train_val_list.txt").write_text("0_0.png\n1_0.png\n2_0.png\n9_0.png\n")
    (tmp_path / "test_list.txt").write_text("3_0.png\r\n4_0.png\r\n")
    cases = read(path, layout=Layout(split_from=("train_val_list.txt", "test_list.txt")))
    assert cases.target == ov.Target("findings", ("Mass", "Nodule"))
    assert cases.labels[:5].tolist() == [[0, 0], [1, 1], [0, 1], [1, 0], [0, 0]]
    assert not cases.labelled[5]
    assert cases.table["split"].tolist() == ["train"] * 3 + ["test"] * 2 + [""]
    told = "; ".join(cases.notes)
    assert all(
        words in told
        for words in (
            "separated by '|'",
            "'No Finding' means",
            "lists 4 images, 3 of them here: train",
            "1 images are in no list",
        )
    )
    (tmp_path / "test_list.txt").write_text("0_0.png\n")
    with pytest.raises(InputError, match="in two lists"):
        read(path, layout=Layout(split_from=("train_val_list.txt", "test_list.txt")))
    (tmp_path / "list.txt").write_text("0_0.png")
    with pytest.raises(InputError, match="says no part"):
        read(path, layout=Layout(split_from=("list.txt",)))


@pytest.mark.parametrize(
    "cell", ["['nodule', 'mass']", '["nodule","mass"]', "[nodule, mass]", "['nodule' 'mass']", "[ 'nodule','mass' ]"]
)
def test_brackets_are_lists(cell):
    lists, notes = findings_in(text(cell, "['normal']", "nan", "[]"), "Labels")
    assert lists.tolist() == [("nodule", "mass"), ("normal",), None, ()]
    assert "in brackets" in notes[0]


def test_a_comma_in_doubt_is_asked_about():
    with pytest.raises(InputError, match=r"--list-separator ,.*--list-separator none"):
        findings_in(text("mass", "mass, nodule", "nodule"), "dx")
    assert findings_in(text("mass", "mass, nodule", "nodule"), "dx", "none") is None
    assert findings_in(text("mass", "mass, nodule"), "dx", ",")[0].tolist() == [("mass",), ("mass", "nodule")]


@pytest.mark.parametrize("cells", [("normal, benign", "malignant"), ("a|b", "c|d"), ("ER+", "ER-"), ("yes", "no"), ("mild/moderate", "severe"), ("", "nan")])  # fmt: skip
def test_classes_are_no_lists(cells):
    assert findings_in(text(*cells), "dx") is None


def test_lists_say_what_means_no_finding():
    made, target, notes = listed_findings(pd.Series([("Normal",), ("mass", "Normal"), None, ()], dtype=object), ())
    assert target.names == ("mass",)
    assert made["label:mass"].tolist()[:2] == [0, 1]
    assert "in 1 rows it stands beside findings" in notes[-1]
    assert listed_findings(pd.Series([("mass",), None], dtype=object), (), "negative")[0]["label:mass"].tolist() == [
        1,
        0,
    ]
    with pytest.raises(InputError, match="no finding"):
        listed_findings(pd.Series([("normal",)], dtype=object), ())


def test_columns_of_findings_are_named_and_the_patient_stands_in_the_path(tmp_path):
    rows = {"Path": [f"S/train/patient{p:05d}/study1/view{k}.jpg" for p in range(4) for k in (1, 2)], "Sex": list("FM") * 4,
            "No Finding": ["1.0", ""] * 4, "Edema": ["", "1.0", "0.0", "-1.0"] * 2}  # fmt: skip
    path = lay(tmp_path, rows, folder="inner", ending="")
    with pytest.raises(InputError, match="Say --labels 'No Finding,Edema'"):
        read(path)
    cases = read(path, labels=["No Finding", "Edema"])
    assert cases.patients == 4
    assert any("No Finding: is present or blank, never absent; --blank negative" in note for note in cases.notes)
    negative = read(path, labels=["No Finding", "Edema"], layout=Layout(blank="negative"))
    assert negative.labels[:2].tolist() == [[1, 0], [0, 1]]
    assert any("No Finding: 4 blank cells are taken for absent" in note for note in negative.notes)


def test_one_hot_columns_are_classes(tmp_path):
    names = ["MEL", "NV", "BCC"]
    path = lay(
        tmp_path,
        {"image": [f"I{i}" for i in range(6)]}
        | {n: [f"{float(i % 3 == k)}" for i in range(6)] for k, n in enumerate(names)},
    )
    with pytest.raises(InputError, match="--one-hot MEL,NV,BCC if they are classes, or --labels"):
        read(path)
    cases = read(path, layout=Layout(one_hot=tuple(names)))
    assert cases.target == ov.Target("classes", tuple(names))
    assert cases.labels.tolist() == [0, 1, 2] * 2
    with pytest.raises(InputError, match="no column 'MELA' for --one-hot"):
        read(path, layout=Layout(one_hot=("MELA", "NV")))


def test_one_hot_rows_without_and_with_several():
    table = pd.DataFrame({"a": text("1", "0", "0"), "b": text("0", "0", "1"), "c": text("0", "0", "0")})
    made, notes = from_one_hot(table, ["a", "b", "c"])
    assert made.tolist() == ["a", "", "b"]
    assert "1 rows have no class" in notes[0]
    assert "no row is c" in notes[1]
    with pytest.raises(InputError, match="several classes are 1 in one row.*--labels a,b"):
        from_one_hot(pd.DataFrame({"a": text("1"), "b": text("1")}), ["a", "b"])


def test_a_row_for_each_box_is_one_image(tmp_path):
    rows = {
        "patientId": ["p0", "p0", "p1", "p2"],
        "x": ["5", "9", "", ""],
        "y": ["1", "2", "", ""],
        "Target": ["1", "1", "0", "0"],
    }
    cases = read(lay(tmp_path, rows, ending=".dcm"))
    assert cases.table["patient"].tolist() == ["p0", "p1", "p2"]
    assert cases.table["image"].tolist() == ["images/p0.dcm", "images/p1.dcm", "images/p2.dcm"]
    assert any(
        "1 rows say again what another says of the same image (they differ in x, y)" in note for note in cases.notes
    )


def test_rows_that_contradict_each_other_are_refused_or_findings(tmp_path):
    rows = {
        "image_id": ["a", "a", "a", "b", "c"],
        "class_name": ["Mass", "Edema", "No finding", "No finding", "Mass"],
        "rad_id": ["R1", "R1", "R2", "R1", "R2"],
    }
    path = lay(tmp_path, rows)
    with pytest.raises(InputError, match=r"1 images, first rows 1 and 2.*--repeated findings.*--graders"):
        read(path)
    cases = read(path, layout=Layout(repeated="findings"))
    assert cases.target.names == ("Edema", "Mass")
    assert cases.labels.tolist() == [[1, 1], [0, 0], [0, 1]]
    assert any("2 rows add a label" in note for note in cases.notes)


def test_the_column_that_names_files_is_found_by_them(tmp_path):
    cases = read(lay(tmp_path, {"id_code": ["0a", "1b", "2c"], "diagnosis": ["0", "1", "2"], "batch": ["x"] * 3}))
    assert any("image: guessed column 'id_code', whose cells are names of files" in note for note in cases.notes)
    (tmp_path / "u.csv").write_text("code,diagnosis\nzz,0\nyy,1\n")
    with pytest.raises(InputError, match="no column names the images"):
        read(tmp_path / "u.csv")


def test_a_label_is_offered_by_what_columns_hold(tmp_path):
    path = lay(
        tmp_path,
        {"image": [f"{i}_{e}" for i in range(20) for e in ("left", "right")], "level": [str(i % 5) for i in range(40)]},
    )
    with pytest.raises(InputError, match="Name it: --label level"):
        read(path)
    cases = read(path, label="level")
    assert any("--patient-from" in note and "finds 20 in the paths of 40 of 40 images" in note for note in cases.notes)
    assert read(path, label="level", layout=Layout(patient_from=r"(\d+)_")).patients == 20


def test_the_class_can_stand_in_the_name(tmp_path):
    path = lay(tmp_path, {"image": [f"p{i}_{'benign' if i % 2 else 'malignant'}" for i in range(6)]})
    cases = read(path, layout=Layout(label_from="benign|malignant", patient_from=r"p\d+"))
    assert cases.target == ov.Target("binary", ("benign", "malignant"), ("malignant",))
    assert cases.patients == 6


def test_masks_that_a_table_lists_are_set_aside(tmp_path):
    from ..conftest import picture, write

    for i in range(4):
        write(tmp_path / f"s{i}.png", picture(i))
        write(tmp_path / f"s{i}_mask.png", (picture(i)[..., 0] > 128).astype("uint8") * 255)
    rows = {
        "image": [f"s{i}{m}.png" for i in range(4) for m in ("", "_mask")],
        "label": ["no", "no", "yes", "yes"] * 2,
        "sex": list("ffmm") * 2,
    }
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    cases = read(tmp_path / "t.csv")
    assert cases.table["image"].tolist() == [f"s{i}.png" for i in range(4)]
    assert cases.table["sex"].tolist() == list("fmfm")
    assert len(read(tmp_path / "t.csv", layout=Layout(masks="keep"))) == 8


def test_one_thing_is_said_in_one_way(tmp_path):
    path = lay(tmp_path, {"image": list("abcd"), "label": ["no", "yes"] * 2, "patient": list("pqrs")})
    for given in (
        {"patient": "patient", "layout": Layout(patient_from="[a-d]")},
        {"label": "label", "layout": Layout(label_from="[a-d]")},
    ):
        with pytest.raises(ArgumentError, match="from one place"):
            read(path, **given)
    with pytest.raises(InputError, match="--blank negative"):
        read(path, layout=Layout(blank="negative"))
    assert read(path, layout=Layout(patient_from="[ab]|[cd]")).patients == 4


def test_further_tables_are_parts_as_chexpert_publishes_them(tmp_path):
    first = lay(tmp_path, {"Path": ["train/p1/a", "train/p2/a"], "Patient": ["1", "2"], "Edema": ["1.0", "-1.0"], "Mass": ["", "0.0"]}, name="train.csv")  # fmt: skip
    lay(tmp_path, {"Path": ["valid/p3/a", "valid/p4/a", "valid/p5/a"], "Patient": ["3", "4", "5"], "Edema": 0, "Mass": 1}, name="valid.csv")  # fmt: skip
    asked = {"labels": ["Edema", "Mass"], "image": "Path", "patient": "Patient"}
    cases = read(first, layout=Layout(add_table=("valid.csv=test",)), **asked)
    assert cases.table["split"].tolist() == ["train"] * 2 + ["test"] * 3
    assert pd.isna(cases.labels[1, 0])
    assert "table: 3 rows of valid.csv are for test; 2 of train.csv" in cases.notes
    assert set(read(first, layout=Layout(add_table=("valid.csv",)), **asked).table["split"]) == {""}
    with pytest.raises(InputError, match="for no part"):
        read(first, layout=Layout(add_table=("valid.csv=later",)), **asked)
    with pytest.raises(InputError, match=r"valid2\.csv"):
        read(first, layout=Layout(add_table=("valid2.csv=test",)), **asked)
    (tmp_path / "valid.csv").write_text("Path,Edema\nvalid/p3/a,1\n")
    with pytest.raises(InputError, match="different columns"):
        read(first, layout=Layout(add_table=("valid.csv=test",)), **asked)
