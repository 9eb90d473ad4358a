"""Masks of a table's images: a column, or a folder of files named like the images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.cases.audit.audit import audit
from overread.cases.cases import Cases, mask_paths, paths
from overread.cases.sources.read_cases import read_cases, read_images
from overread.cases.split import split
from overread.core.errors import ArgumentError, InputError
from overread.images.outlines.outlines import read_outlines
from overread.images.read import read_image
from overread.tasks.target import Target

from ..conftest import picture, write


@pytest.fixture
def cohort(tmp_path):
    """Twelve images of three microscopes with label images, in two folders and a table."""
    rows = []
    for i in range(12):
        random = np.random.default_rng(i)
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"images/c{i}.png"), random.integers(0, 255, (40, 50), np.uint8))
        labels = np.zeros((40, 50), np.uint8)
        labels[5:15, 5 : 15 + i], labels[20:30, 5:15] = 1, 2
        cv2.imwrite(str(tmp_path / f"labels/c{i}.png"), labels)
        rows.append({"image": f"images/c{i}.png", "mask": f"labels/c{i}.png", "microscope": "ABC"[i % 3], "size": "0.5"})  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "index.csv", index=False)
    return tmp_path


def test_a_table_with_masks_needs_no_label(cohort):
    cases = read_cases(cohort / "index.csv", mask="mask", source="microscope", names="keep")
    assert str(cases) == "12 images of 12 patients, outlines of objects"
    assert cases.target.names == ("object",)
    assert cases.labelled.all()
    assert mask_paths(cases)[3] == str(cohort / "labels/c3.png")


def test_audit_and_split_work_and_masks_that_are_missing_are_set_aside(cohort):
    table = pd.read_csv(cohort / "index.csv", dtype=str)
    table.loc[[2, 5], "mask"] = ""
    table.to_csv(cohort / "index.csv", index=False)
    cases = read_cases(cohort / "index.csv", mask="mask", source="microscope", names="keep")
    assert "mask: 2 images without one can neither train nor be judged" in cases.notes
    found = audit(cases, threads=1)
    assert dict(found.excluded) == {"c2": "no mask", "c5": "no mask"}
    assert found.of("missing-mask").count == 2
    assert found.of("one-class") is None
    made = split(cases, audit=found, test=0.3, tuning=0.2, seed=1)
    assert set(made.table["case"]) == set(cases.table["case"]) - {"c2", "c5"}
    assert made.proof["left out"] == {"no mask": 2}


def test_a_folder_of_masks_is_matched_by_name(cohort):
    by_column = read_cases(cohort / "index.csv", mask="mask", names="keep")
    by_folder = read_cases(cohort / "index.csv", mask="labels", names="keep")
    assert mask_paths(by_folder) == mask_paths(by_column)
    for i in range(12):
        (cohort / f"labels/c{i}.png").rename(cohort / f"labels/C{i}_mask.png")
    (cohort / "labels/c3_mask_old.png").write_bytes((cohort / "labels/C3_mask.png").read_bytes())
    found = read_cases(cohort / "index.csv", mask=str(cohort / "labels"), names="keep")
    assert found.labelled.all()
    assert "mask: 1 file of labels is named like no image, and not used" in found.notes
    (cohort / "labels/c3.tif").write_bytes(b"x")
    with pytest.raises(InputError, match="two masks fit one image"):
        read_cases(cohort / "index.csv", mask="labels", names="keep")


def test_a_run_holds_no_path_of_a_mask(cohort, tmp_path):
    cases = read_cases(cohort / "index.csv", mask="mask", salt="s")
    saved = Cases.load(cases.save(tmp_path / "cases.csv"))
    assert "labels/" not in (tmp_path / "cases.csv").read_text()
    assert saved.labelled.all()
    with pytest.raises(InputError, match="saved without the paths of their masks"):
        mask_paths(saved)
    kept = read_cases(cohort / "index.csv", mask="mask", names="keep")
    assert Cases.load(kept.save(tmp_path / "kept.csv")) == kept
    assert (read_cases(kept.to_frame(), mask="mask", names="keep").table["mask"] == mask_paths(kept)).all()


def test_beside_a_label_masks_are_carried_along(cohort):
    table = pd.read_csv(cohort / "index.csv", dtype=str).assign(cancer=["yes", "no"] * 6)
    table.to_csv(cohort / "index.csv", index=False)
    cases = read_cases(cohort / "index.csv", label="cancer", mask="mask", salt="s")
    assert cases.target.task.binary
    assert mask_paths(cases)[0].endswith("labels/c0.png")
    assert not cases.target.task.dense
    saved = Cases.load(cases.save(cohort / "cases.csv"))
    assert saved.masks
    assert "labels/" not in (cohort / "cases.csv").read_text()
    with pytest.raises(ArgumentError, match="beside no findings"):
        read_cases(cohort / "index.csv", mask="mask", value="size")
    with pytest.raises(InputError, match="have no masks"):
        mask_paths(read_cases(cohort / "index.csv", label="cancer"))


def test_microns_of_a_pixel_are_a_number_or_a_column(cohort):
    for asked, size in (("0.25", 0.25), ("size", 0.5)):
        cases = read_cases(cohort / "index.csv", mask="mask", pixel_size=asked)
        assert (cases.table["pixel_size"] == size).all()
    for wrong, words in (("-1", "above 0"), ("microscope", "number of microns"), ("nothing", "no column")):
        with pytest.raises(InputError, match=words):
            read_cases(cohort / "index.csv", mask="mask", pixel_size=wrong)


def test_masks_that_are_not_there_are_refused_or_told(cohort):
    table = pd.read_csv(cohort / "index.csv", dtype=str)
    (cohort / "labels/c4.png").unlink()
    assert any("1 of 12 files are not there" in note for note in read_cases(table.set_index(table.index).assign(image=str(cohort) + "/" + table["image"], mask=str(cohort) + "/" + table["mask"]), mask="mask", names="keep").notes)  # fmt: skip
    table.assign(mask="nowhere/" + table["mask"]).to_csv(cohort / "index.csv", index=False)
    with pytest.raises(InputError, match="12 of 12 masks are not there"):
        read_cases(cohort / "index.csv", mask="mask")
    with pytest.raises(InputError, match="no column 'maks'"):
        read_cases(cohort / "index.csv", mask="maks")


def objects(cases):
    """How many objects each case has, by case."""
    sizes = [read_image(path).pixels.shape[:2] for path in paths(cases)]
    many = [len(read_outlines(mask, size=size)) for mask, size in zip(mask_paths(cases), sizes, strict=True)]
    return dict(zip(cases.table["case"], many, strict=True))


def test_a_file_of_annotations_holds_the_masks_of_all_images(cohort):
    lines = ["file,cell,xmin,ymin,xmax,ymax"] + [f"c{i}.png,{'red' if i % 2 else 'white'},5,5,15,15" for i in range(11)]
    (cohort / "boxes.csv").write_text("\n".join([*lines, "c3.png,red,20,20,30,30", "other.png,red,1,1,2,2"]))
    cases = read_cases(cohort / "index.csv", mask="boxes.csv", names="keep")
    assert cases.target.names == ("red", "white")
    assert "mask: boxes.csv holds 11 images of the table" in cases.notes
    assert "mask: 1 image of boxes.csv is not in the table" in cases.notes
    assert cases.labelled.sum() == 11
    labelled = cases.take(cases.labelled)
    assert objects(labelled)["c3"] == 2
    outlined = read_outlines(mask_paths(labelled)[3], size=(40, 50), classes=cases.target.names)
    assert outlined.classes == ("red", "red")
    (cohort / "none.csv").write_text("file,xmin,ymin,xmax,ymax\nx.png,1,1,2,2\n")
    with pytest.raises(InputError, match="holds none of the images"):
        read_cases(cohort / "index.csv", mask="none.csv", names="keep")


def test_a_column_of_class_masks_says_what_numbers_mean(cohort):
    cases = read_cases(cohort / "index.csv", mask="mask#classes=1:red,2:white", names="keep")
    assert cases.target.names == ("red", "white")
    assert read_outlines(mask_paths(cases)[0]).classes == ("red", "white")
    with pytest.raises(InputError, match="numbers above 0 with names"):
        read_cases(cohort / "index.csv", mask="mask#classes=x:red", names="keep")


def test_masks_beside_the_images_of_a_folder_as_of_busi(tmp_path):
    for name in ("benign (1)", "benign (10)", "normal (1)"):
        write(tmp_path / f"ward/{name}.png", picture(len(name)))
        mask = np.zeros((48, 48), np.uint8)
        mask[10:20, 10:20] = 0 if "normal" in name else 255
        write(tmp_path / f"ward/{name}_mask.png", mask)
    second = np.zeros((48, 48), np.uint8)
    second[30:40, 30:40] = 255
    write(tmp_path / "ward/benign (1)_mask_1.png", second)
    cases = read_cases(tmp_path, mask="beside", names="keep")
    assert objects(cases) == {"benign (1)": 2, "benign (10)": 1, "normal (1)": 0}
    assert "mask: 3 images have masks beside them, 1 several" in cases.notes
    by_pattern = read_cases(tmp_path, mask="{folder}/{stem}_mask*.png", names="keep")
    assert objects(by_pattern) == objects(cases)


@pytest.mark.parametrize(
    ("here", "asked"), [(".", "data/masks"), (".", "masks"), ("data", "masks"), ("elsewhere", "../data/masks")]
)
def test_masks_in_a_folder_among_the_images_are_none_of_them_wherever_it_is_seen_from(
    tmp_path, monkeypatch, here, asked
):
    for name in ("data/masks", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"data/{i}.png"), np.full((20, 20), 10 + i, np.uint8))
        cv2.imwrite(str(tmp_path / f"data/masks/{i}.png"), np.pad(np.full((5, 5), 255, np.uint8), (i, 15 - i)))
    monkeypatch.chdir(tmp_path / here)
    cases = read_cases(Path("data") if here == "." else tmp_path / "data", mask=asked, names="keep")
    assert sorted(cases.table["image"]) == [f"{i}.png" for i in range(4)]
    assert sorted(mask_paths(cases)) == [str(tmp_path / f"data/masks/{i}.png") for i in range(4)]


@pytest.mark.parametrize("asked", ["beside", "{folder}/../masks", "{root}"])
def test_a_folder_of_masks_for_each_image_as_of_the_data_science_bowl(tmp_path, asked):
    for image, many in (("aa", 3), ("bb", 1), ("cc", 2)):
        write(tmp_path / f"{image}/images/{image}.png", picture(many))
        for place in range(many):
            mask = np.zeros((48, 48), np.uint8)
            mask[5 + 10 * place : 15 + 10 * place, 20:30] = 255
            write(tmp_path / f"{image}/masks/{place}{image}.png", mask)
    cases = read_cases(tmp_path, mask=asked.replace("{root}", str(tmp_path)), names="keep")
    assert objects(cases) == {"aa": 3, "bb": 1, "cc": 2}


def test_nothing_beside_an_image_and_patterns_that_find_nothing_are_told(cohort):
    with pytest.raises(InputError, match="finds none"):
        read_cases(cohort / "index.csv", mask="{folder}/{stem}_mask.png", names="keep")
    found = read_cases(cohort / "index.csv", mask="beside", names="keep")  # labels/ lies beside images/
    assert found.labelled.all()
    with pytest.raises(InputError, match="one file, and no annotations"):
        read_cases(cohort / "index.csv", mask="labels/c1.png", names="keep")


def test_rows_that_name_the_mask_of_one_object_each_are_taken_together(cohort):
    table = pd.read_csv(cohort / "index.csv", dtype=str)
    second = table.iloc[[0, 3]].assign(mask=["labels/c7.png", "labels/c8.png"])
    pd.concat([table, second]).to_csv(cohort / "index.csv", index=False)
    cases = read_cases(cohort / "index.csv", mask="mask", names="keep")
    assert len(cases) == 12
    assert mask_paths(cases)[0] == f"{cohort / 'labels/c0.png'}|{cohort / 'labels/c7.png'}"
    assert "mask: 4 rows name several masks of 2 images, whose objects are taken together" in cases.notes
    assert objects(cases)["c0"] == 3  # one of the four lies under a smaller one


def test_new_images_with_masks_are_cases_of_a_model_that_outlines(cohort):
    target = Target("segmentation", ("object",))
    cases = read_images(cohort / "index.csv", target, mask="mask", names="keep")
    assert cases.labelled.all()
    assert cases.target == target
    bare = read_images(cohort / "images", target, names="keep")
    assert len(bare) == 12
    assert not bare.labelled.any()
    with pytest.raises(InputError, match="classes that the model does not know"):
        read_images(cohort / "index.csv", target, mask="mask#classes=1:red")
    with pytest.raises(ArgumentError, match="a model that outlines"):
        read_images(cohort / "index.csv", Target("quantity", ("size",)), mask="mask")
