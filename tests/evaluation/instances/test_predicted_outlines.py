"""The waist for masks: what is read, what is refused, and another team's folder."""

from __future__ import annotations

import tracemalloc

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from drawn_outlines import written

from overread.core.errors import ImageError, InputError
from overread.evaluation.instances.evaluate_outlines import evaluate_outlines
from overread.evaluation.instances.predicted_outlines import PredictedOutlines, are_outlines, read_labels


def test_what_is_written_is_read(tmp_path, images):
    classes = pd.DataFrame(
        [{"case": "c1", "side": side, "object": 1, "class": "red", "score": 0.25} for side in ("truth", "")]
    )
    made = written(tmp_path, images, objects=classes, pixel_size=[0.5, ""] * 12, sex=["f", "m"] * 12)
    back = PredictedOutlines.read(made.save(tmp_path / "test.csv"))
    assert back == made
    assert back.names == ("red",)
    assert back.subgroups == ("sex",)
    assert back.objects["side"].tolist() == ["truth", "predicted"]
    assert np.isnan(back.pixel_sizes[1])
    for row, (truth, drawn) in enumerate(images):
        assert (
            np.unique(back.truth(row).labels, return_inverse=True)[1] == np.unique(truth, return_inverse=True)[1]
        ).all()
        assert len(back.labels(row)) == len(np.unique(drawn[drawn > 0]))
    assert are_outlines(tmp_path / "test.csv")


def test_the_images_go_along_to_another_folder(tmp_path, images):
    made = written(tmp_path / "a", images[:3])
    back = PredictedOutlines.read(made.save(tmp_path / "b" / "mine.csv"))
    assert back == made
    assert (tmp_path / "b/truth/2.png").exists()


def test_the_digest_is_that_of_the_content(tmp_path, images):
    one = written(tmp_path / "a", images)
    assert written(tmp_path / "b", images).digest == one.digest, "wherever it lies"
    moved = [*images[:-1], (images[-1][0], np.roll(images[-1][1], 1))]
    assert written(tmp_path / "c", moved).digest != one.digest, "one pixel of one image"


def test_another_teams_folder_is_judged_by_the_same_code(tmp_path, images):
    """A table with three columns, TIFF and 8-bit PNG, no patients, no splits."""
    rows = []
    for number, (truth, drawn) in enumerate(images):
        (tmp_path / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / f"masks/{number}_gt.tif", truth.astype(np.uint32) * 1000)
        cv2.imwrite(
            str(tmp_path / f"masks/{number}_pred.png"),
            np.unique(drawn, return_inverse=True)[1].reshape(drawn.shape).astype(np.uint8),
        )
        rows.append({"case": f"im{number}", "predicted": f"masks/{number}_pred.png", "truth": f"masks/{number}_gt.tif"})
    pd.DataFrame(rows).to_csv(tmp_path / "theirs.csv", index=False)
    table = PredictedOutlines.read(tmp_path / "theirs.csv")
    assert any("each case counts as a patient of its own" in note for note in table.notes)
    found, ours = (
        evaluate_outlines(table, resamples=50),
        evaluate_outlines(written(tmp_path / "ours", images), resamples=50),
    )
    for name in ("ap", "pq", "merges", "boundary distance"):
        assert found[name].value == ours[name].value


def test_one_number_in_two_pieces_is_one_object_and_a_mask_is_its_components(tmp_path):
    image = np.zeros((6, 9), np.uint8)
    image[1:3, 1:3] = image[1:3, 5:8] = 1
    cv2.imwrite(str(tmp_path / "labels.png"), image)
    cv2.imwrite(str(tmp_path / "mask.png"), image * 255)
    assert len(read_labels(tmp_path / "labels.png")) == 1
    mask = read_labels(tmp_path / "mask.png")
    assert len(mask) == 2
    assert "2 connected components count as the objects" in mask.notes[0]


def test_images_without_a_name_are_numbered_and_their_patients_stay(tmp_path, images):
    made = written(tmp_path, images[:12])
    table = made.table.drop(columns="case").assign(patient=[f"p{n % 3}" for n in range(12)])
    table.to_csv(tmp_path / "test.csv", index=False)
    back = PredictedOutlines.read(tmp_path / "test.csv")
    assert back.table["case"].tolist() == [str(n) for n in range(1, 13)]
    assert back.table["patient"].tolist() == [f"p{n % 3}" for n in range(12)]
    assert "case: no column names the images, so they are numbered" in back.notes
    table.drop(columns="patient").to_csv(tmp_path / "nobody.csv", index=False)
    alone = PredictedOutlines.read(tmp_path / "nobody.csv")
    assert alone.table["patient"].tolist() == alone.table["case"].tolist()
    assert any("each case counts as a patient of its own" in note for note in alone.notes)


def test_the_highest_numbers_take_no_room(tmp_path, images):
    """A number of a file is looked up, never counted up to."""
    made = written(tmp_path, images[:1])
    grey, colour = np.zeros((64, 80), np.uint32), np.zeros((64, 80, 3), np.uint8)
    grey[2:6, 2:6], grey[10:14, 2:6], grey[20:24, 2:6] = 3, 2**31, 4_000_000_000
    colour[2:6, 2:6], colour[10:14, 2:6] = (0, 0, 5), (7, 0, 200)  # blue, green, red
    tifffile.imwrite(tmp_path / "grey.tif", grey)
    cv2.imwrite(str(tmp_path / "colour.png"), colour)
    table = made.table.assign(predicted="grey.tif", truth="colour.png")
    named = [("predicted", 3, "red"), ("predicted", 4_000_000_000, "white"), ("truth", 1, "red")]
    objects = pd.DataFrame([{"case": "c0", "side": side, "object": n, "class": name} for side, n, name in named])
    tracemalloc.start()
    back = PredictedOutlines(table, made.folder, objects)
    assert back.labels(0).classes == ("red", "", "white")
    assert back.truth(0).classes == ("", "")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("path", ["../outside.png", "/etc/hostname", "link.png", "a\x00b.png"])
def test_a_path_out_of_the_folder_is_refused(tmp_path, images, path):
    made = written(tmp_path / "in", images[:2])
    (tmp_path / "outside.png").write_bytes((tmp_path / "in/truth/0.png").read_bytes())
    (tmp_path / "in/link.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(InputError, match="leads out of the table's folder.*row 2, column predicted"):
        PredictedOutlines(made.table.assign(predicted=[made.table["predicted"][0], path]), made.folder)


def test_what_cannot_be_read_is_refused(tmp_path, images):
    made = written(tmp_path, images[:3])
    table, folder = made.table, made.folder
    with pytest.raises(InputError, match="lacks the column 'truth'"):
        PredictedOutlines(table.drop(columns="truth"), folder)
    with pytest.raises(InputError, match="stands in the table twice"):
        PredictedOutlines(table.assign(case=["a", "a", "b"]), folder)
    with pytest.raises(InputError, match="a label image is missing"):
        PredictedOutlines(table.assign(truth=["none.png", "", ""]), folder)
    with pytest.raises(InputError, match="a pixel size is a number of microns above 0.*2 rows"):
        PredictedOutlines(table.assign(pixel_size=["0.5", "-1", "wide"]), folder)
    with pytest.raises(InputError, match="the outlines do not exist"):
        PredictedOutlines.read(tmp_path / "nowhere.csv")
    with pytest.raises(ImageError, match="the true outlines are not known"):
        PredictedOutlines(table.assign(truth=""), folder).truth(0)
    (tmp_path / "truth/0.png").write_bytes(b"no image at all")
    with pytest.raises(InputError, match=r"outlines cannot be judged.*row 1 of the table"):
        evaluate_outlines(made)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"case": "x", "object": 1, "class": "red"}, "names images that are not in the table"),
        ({"case": "c0", "object": 0, "class": "red"}, "names no object"),
        ({"case": "c0", "object": 2**32, "class": "red"}, "names no object"),
        ({"case": "c0", "side": "left", "object": 1, "class": "red"}, "names no object"),
        ({"case": "c0", "object": 1}, "lacks the column 'class'"),
    ],
)
def test_classes_of_no_object_are_refused(tmp_path, images, row, match):
    with pytest.raises(InputError, match=match):
        written(tmp_path, images[:2], objects=pd.DataFrame([row]))


def test_predictions_of_numbers_are_no_outlines(tmp_path):
    pd.DataFrame({"case": ["a"], "value": [1.0], "predicted": [2.0]}).to_csv(tmp_path / "numbers.csv", index=False)
    pd.DataFrame({"case": ["a"], "label": ["x"], "p:x": [0.5]}).to_csv(tmp_path / "classes.csv", index=False)
    assert not are_outlines(tmp_path / "numbers.csv")
    assert not are_outlines(tmp_path / "classes.csv")
