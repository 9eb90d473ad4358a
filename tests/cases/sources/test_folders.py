"""Images in folders: which are cases, which folder means what, and where the files of a table lie."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest

from overread.cases.sources.folders import arrange, by_pattern, images_below, locate, masks_among, offered_patient
from overread.cases.sources.layout import Layout
from overread.core.errors import ArgumentError, InputError

from ..conftest import picture, write


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def found(root, *cells, **layout):
    images, notes = locate(pd.Series(cells, dtype=object), root, Layout(**layout))
    return images.tolist(), "; ".join(notes)


# -- where the images of a table lie


@pytest.mark.parametrize("ending", [".png", ".PNG", ".jpeg", ".dcm", ".nii.gz"])
@pytest.mark.parametrize("folder", ["", "images/", "train_images/", "a/b/c/"])
def test_a_name_is_found_in_any_folder_with_any_ending(tmp_path, ending, folder):
    touch(tmp_path, f"{folder}c0{ending}", f"{folder}c1{ending}")
    assert found(tmp_path, "c0", "C1")[0] == [f"{folder}c0{ending}", f"{folder}c1{ending}"]


def test_mixed_endings_are_all_found_and_counted(tmp_path):
    touch(tmp_path, "images/a.png", "images/b.jpg", "images/c.PNG")
    images, notes = found(tmp_path, "a", "b", "c")
    assert images == ["images/a.png", "images/b.jpg", "images/c.PNG"]
    assert "3 files are found by name in images (1 .png, 1 .jpg, 1 .PNG)" in notes


def test_another_ending_than_written_is_said(tmp_path):
    touch(tmp_path, "a.jpg", "b.jpg")
    images, notes = found(tmp_path, "a.png", "b.png")
    assert images == ["a.jpg", "b.jpg"]
    assert "2 files are found with another ending" in notes


def test_identifiers_with_points_keep_what_is_behind_the_last(tmp_path):
    touch(tmp_path, "1.2.840.113.dcm", "1.2.840.114.dcm")
    assert found(tmp_path, "1.2.840.114", "1.2.840.113")[0] == ["1.2.840.114.dcm", "1.2.840.113.dcm"]


def test_the_beginning_of_a_path_from_another_machine_is_left_out(tmp_path):
    touch(tmp_path, "set/p1/view1.png", "set/p2/view1.png")
    images, notes = found(tmp_path, "/home/x/set/p1/view1.png", "/home/x/set/p2/view1.png")
    assert images == ["set/p1/view1.png", "set/p2/view1.png"]
    assert "without the first 2 folders" in notes


def test_a_file_is_never_taken_for_that_of_another_patient(tmp_path):
    touch(tmp_path, "p1/view1.png")
    images, notes = found(tmp_path, "p1/view1.png", "p2/view1.png")
    assert images == ["p1/view1.png", "p2/view1.png"]
    assert "1 of 2 files are not there" in notes
    touch(tmp_path, "a.png")
    assert "1 of 2 files are not there" in found(tmp_path, "a.png", "a.jpg")[1]


def test_two_files_for_a_name_and_two_names_for_a_file_are_refused(tmp_path):
    touch(tmp_path, "train/a.png", "test/a.png")
    with pytest.raises(InputError, match="fit several files.*--images"):
        found(tmp_path, "a.png")
    assert found(tmp_path, "a.png", images_in=str(tmp_path / "test"))[0] == ["test/a.png"]
    touch(tmp_path, "b.png")
    with pytest.raises(InputError, match="two names of images fit one file"):
        found(tmp_path, "B.png", "b.jpg")


def test_the_folder_of_the_images_may_lie_elsewhere(tmp_path):
    touch(tmp_path, "pictures/deep/a.png", "tables/x.txt")
    images, _ = found(tmp_path / "tables", "a", images_in=str(tmp_path / "pictures"))
    assert images == [f"{tmp_path}/pictures/deep/a.png"]
    with pytest.raises(InputError, match="folder of --images is not there"):
        found(tmp_path, "a", images_in=str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"tried .*/tables/b"):
        found(tmp_path / "tables", "b")


def test_a_mask_of_the_same_name_is_no_second_file(tmp_path):
    for i in range(3):
        write(tmp_path / "scans" / f"a{i}.png", picture(i))
        write(tmp_path / "masks" / f"a{i}.png", (picture(i) > 128).astype(np.uint8)[..., 0] * 255)
    assert found(tmp_path, "a0", "a1", "a2")[0] == ["scans/a0.png", "scans/a1.png", "scans/a2.png"]


def test_frames_keep_their_number(tmp_path):
    touch(tmp_path, "images/a.dcm")
    assert found(tmp_path, "A.dcm#frame=3", "A.dcm#frame=4")[0] == ["images/a.dcm#frame=3", "images/a.dcm#frame=4"]


# -- masks, runs, and other things that are no cases


@pytest.mark.parametrize(
    "called", ["{}_mask", "{}_mask_1", "{}-segmentation", "{} Mask", "{}_gt", "masks/{}", "masks/{}_mask"]
)
def test_masks_are_set_aside_by_name_and_look(tmp_path, called):
    names = [f"c/scan ({i}).png" for i in range(4)]
    for i, name in enumerate(names):
        write(tmp_path / name, picture(i))
        mask = (picture(i)[..., 0] > 128).astype(np.uint8) * 255
        write(tmp_path / "c" / f"{called.format(f'scan ({i})')}.png", mask)
    images, notes = images_below(tmp_path)
    assert images == names
    assert "4 masks of other images are set aside (--masks keep" in notes[0]
    assert len(images_below(tmp_path, Layout(masks="keep"))[0]) == 8


def test_a_photograph_that_is_called_a_mask_is_kept_and_said(tmp_path):
    for i in range(4):
        write(tmp_path / f"{i}.png", picture(i))
        write(tmp_path / f"{i}_roi.png", picture(i + 10))
    images, notes = images_below(tmp_path)
    assert len(images) == 8
    assert "do not look so" in notes[0]
    assert masks_among(["with_mask/with_mask_1.png", "without_mask/without_mask_1.png"], tmp_path) == (set(), [])


def test_runs_links_and_other_pictures_are_counted(tmp_path):
    touch(tmp_path, "no/1.png", "yes/2.png", "no/3.gif", "yes/runs/a/study.toml", "yes/runs/a/record.json", "yes/runs/a/figures/x.png",
          "no/.DS_Store", "no/Thumbs.db", "__MACOSX/no/._1.png")  # fmt: skip
    (tmp_path / "link").symlink_to(tmp_path / "no")
    images, notes = images_below(tmp_path)
    assert images == ["no/1.png", "yes/2.png"]
    assert notes == ["folder: 1 files ending in .gif are left out", "folder: 1 folders of runs are left out",
                     "folder: 1 links to folders are not followed"]  # fmt: skip


# -- what folders mean


def paths(*parts):
    return ["/".join(p) for p in parts]


def test_a_folder_around_everything_is_no_class():
    table, notes = arrange(["set/images/no/1.png", "set/images/yes/2.png"])
    assert table["label"].tolist() == ["no", "yes"]
    assert "within set/images" in notes[0]


def test_what_stands_beside_train_and_test_is_left_out_with_its_number():
    table, notes = arrange(["train/no/1.png", "test/yes/2.png", "copy/train/no/1.png", "x.png"])
    assert table["image"].tolist() == ["train/no/1.png", "test/yes/2.png"]
    assert "2 images beside the parts test, train are left out, in the folder itself, copy" in notes[0]


def test_an_inner_copy_of_the_classes_is_left_out():
    table, notes = arrange(["no/1.png", "yes/2.png", "brain_tumor/no/1.png", "brain_tumor/yes/2.png"])
    assert table["label"].tolist() == ["no", "yes"]
    assert "2 images in brain_tumor are left out" in notes[0]


def test_a_folder_of_images_within_each_class_is_no_patient():
    table, notes = arrange([f"{c}/images/{i}.png" for c in ("COVID", "Normal") for i in range(3)])
    assert set(table["patient"]) == {""}
    assert not any("patient" in note for note in notes)


def test_data_sets_beside_each_other_are_no_classes():
    with pytest.raises(InputError, match="a data set of its own"):
        arrange(["a/train/no/1.png", "a/test/yes/2.png", "b/train/no/3.png", "b/test/yes/4.png"])


def test_parts_within_classes_are_parts():
    table, _ = arrange(["no/train/1.png", "no/test/2.png", "yes/train/3.png", "yes/test/4.png"])
    assert table["split"].tolist() == ["train", "test", "train", "test"]
    assert table["patient"].tolist() == [""] * 4


def test_a_deeper_folder_that_names_the_disease_is_asked_about():
    images = [f"{part}/XR_{b}/patient{p}/study1_{s}/{k}.png" for part in ("train", "valid") for b in ("HAND", "ELBOW")
              for p in range(4) for s in ("negative", "positive") for k in (1, 2)]  # fmt: skip
    with pytest.raises(InputError, match=r"--label-from '\(negative\|positive\)'"):
        arrange(images)
    table, notes = arrange(images, Layout(label_from="(negative|positive)"))
    assert set(table["label"]) == {"negative", "positive"}
    assert table["patient"].nunique() == 4
    assert any(r"'patient(\d+)/'" in note for note in notes)


def test_several_folders_within_the_class_are_asked_about():
    images = [f"breast/{c}/SOB/{t}-{c}/slide{c[0]}{t[0]}{s}/{m}X/{s}-{m}.png" for c in ("benign", "malignant") for t in ("aden", "fibro")
              for s in range(4) for m in (40, 100)]  # fmt: skip
    with pytest.raises(
        InputError,
        match=r"--patient-from '\(\[\^/\]\+\)/\[\^/\]\+/\[\^/\]\+\$' \(16 patients\)|--patient-from '\(\[\^/\]\+\)/\[\^/\]\+\$'",
    ):
        arrange(images)
    table, _ = arrange(images, Layout(patient_from="([^/]+)/[^/]+/[^/]+$"))
    assert table["patient"].nunique() == 16


def test_patients_and_their_studies_are_told_apart():
    images = [
        f"{c}/P{c[0]}{p}/study{s}/{k}.png"
        for c in ("benign", "malignant")
        for p in range(4)
        for s in range(2)
        for k in range(2)
    ]
    table, notes = arrange(images)
    assert table["patient"].nunique() == 8
    assert any("within the class's folder" in note for note in notes)


def test_a_test_part_without_classes_is_left_out_with_its_number():
    train = [f"train/{c}/{k}.png" for c in ("no", "yes") for k in range(2)]
    for rest in ("test/1.png", "unlabeled/1.png"):
        table, notes = arrange([*train, rest])
        assert table["image"].tolist() == train
        assert any("1 images" in note and "left out" in note for note in notes)


def test_the_class_in_the_names_is_offered():
    with pytest.raises(InputError, match=r"--label-from '\(benign\|malignant\)'"):
        arrange([f"{p}/{c}.{k}.jpg" for p in ("train", "test") for c in ("benign", "malignant") for k in range(4)])
    with pytest.raises(InputError, match="--label-from PATTERN"):
        arrange(["1.png", "2.png"])


def test_a_folder_that_each_class_has_is_asked_about():
    images = [f"{c}/{m}X/{k}.png" for c in ("benign", "malignant") for m in (40, 100) for k in range(3)]
    with pytest.raises(InputError, match="--patient-from"):
        arrange(images)


def test_images_beside_class_folders_are_counted():
    with pytest.raises(InputError, match=r"1 of 3 images"):
        arrange(["no/1.png", "yes/2.png", "3.png"])


# -- patterns


def test_a_pattern_takes_its_group_or_the_whole_match():
    images = pd.Series(["person1_a.png", "IM-1-b.png", "other.png"])
    assert by_pattern(images, r"person(\d+)", "patient")[0].tolist() == ["1", "", ""]
    assert by_pattern(images, r"(person)(\d+)|IM-\d+", "patient")[0].tolist() == ["person1", "IM-1", ""]
    assert "1 of 3" in by_pattern(images, r"person(\d+)", "patient")[1][0]
    with pytest.raises(ArgumentError, match="no pattern"):
        Layout(patient_from="person(")


@pytest.mark.parametrize(
    ("names", "offered"),
    [([f"person{p}_bacteria_{k}.jpeg" for p in range(20) for k in (1, 2)], r"'person(\d+)'"), ([f"{p}_{e}" for p in range(20) for e in ("left", "right")], "20 in the paths of 40"),
     ([f"sub-{p:02d}_run-{k}.nii.gz" for p in range(20) for k in (1, 2)], r"'sub-(\d+)'"), ([f"{p:08d}_{k:03d}.png" for p in range(20) for k in (0, 1)], "20 in the paths"),
     ([f"OAS1_{p:04d}_MR1_mpr-1_{k}.jpg" for p in range(20) for k in (100, 101)], r"OAS1_(\d+)[-_ ]"), ([f"x/Tr-gl_{i:04d}.jpg" for i in range(40)], ""),
     ([f"Mass-Training_P_{i // 2:05d}_{('LEFT', 'RIGHT')[i % 2]}_CC" for i in range(40)], "20 in the paths of 40"), ([f"IMG_{i}.png" for i in range(40)], ""), ([f"benign ({i}).png" for i in range(40)], ""), ([f"ISIC_{i:07d}" for i in range(40)], ""),
     ([f"{i % 2}_{i}.png" for i in range(400)], ""), ([f"person{i}.png" for i in range(40)], "")],
)  # fmt: skip
def test_a_pattern_is_offered_where_it_groups_sensibly(names, offered):
    said = offered_patient(pd.Series(names))
    assert offered in said
    assert bool(said) == bool(offered)


def test_a_folder_with_a_table_and_no_classes_names_the_table(tmp_path):
    from overread import read_cases

    write(tmp_path / "images" / "a.png", picture(1))
    touch(tmp_path, "runs/x/study.toml", "runs/x/record.json", "runs/x/explanations/a.png")
    (tmp_path / "metadata.csv").write_text("image,label\na.png,no\n")
    with pytest.raises(InputError, match=r"no classes.*metadata\.csv"):
        read_cases(tmp_path)
    shutil.rmtree(tmp_path / "images")
    with pytest.raises(InputError, match="no images"):
        read_cases(tmp_path)
