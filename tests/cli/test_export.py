"""``overread export``: what it refuses before it calculates, and a whole run's folder from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from overread.cli.export import export
from overread.core.errors import InputError


def test_something_must_be_asked_for(tmp_path) -> None:
    with pytest.raises(InputError, match="--onnx, --torch and --dicom"):
        export(tmp_path)
    with pytest.raises(InputError, match="one folder for several"):
        export(tmp_path, onnx=True, torch=True, output="out")


def test_a_folder_without_a_model_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match=r"model\.json"):
        export(tmp_path, onnx=True)


def test_places_that_would_be_spoiled_are_refused(make_model, tmp_path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    make_model().save(run / "model")
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    for place, said in (
        (run, "apart from the run"),
        (run / "model", "apart from the run"),
        (other, "no export has written"),
    ):
        with pytest.raises(InputError, match=said):
            export(run, onnx=True, output=str(place))
    with pytest.raises(InputError, match="--images"):
        export(run, onnx=True, output=str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_an_image_that_is_no_dicom_file_is_refused_before_a_model_is_opened(files, tmp_path) -> None:
    image = next(files.rglob("*.png"))
    with pytest.raises(InputError, match=rf"{image.name} is no DICOM file.*overread predict"):
        export(tmp_path / "run", dicom=[str(image)], output=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_too_few_images_are_refused_and_fewer_can_be_asked_for(make_model, files, tmp_path) -> None:
    make_model().save(tmp_path / "model")
    with pytest.raises(InputError, match="18, at least 32"):
        export(tmp_path / "model", onnx=True, output=str(tmp_path / "out"), images=str(files / "benign"))
    assert not (tmp_path / "out").exists()
    export(tmp_path / "model", onnx=True, output=str(tmp_path / "out"), images=str(files / "benign"), fewest=10)
    compared = json.loads((tmp_path / "out" / "export.json").read_text())["compared"]
    assert compared["images"] == 18
    assert compared["preparation"] == {"images": 18, "grey_levels": 0.0, "probability": pytest.approx(0, abs=1e-5)}
    export(
        tmp_path / "model", onnx=True, output=str(tmp_path / "out"), images=str(files / "benign"), fewest=10
    )  # again


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of DICOM files: a study of two images, and one whose header says that text is burned in."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("one", "two", "text"), start=1):
        held = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
        held.SOPInstanceUID = held.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.8.498.{number}"
        held.StudyInstanceUID = f"1.2.826.0.1.3680043.8.498.9.{number == 3:d}"
        held.PixelData = rng.integers(0, 2000, (128, 128), dtype=np.int16).tobytes()
        held.BurnedInAnnotation = "YES" if name == "text" else "NO"
        (tmp_path / "scans").mkdir(exist_ok=True)
        held.save_as(tmp_path / "scans" / f"{name}.dcm")
    return tmp_path / "scans"


def pictures(folder: Path) -> dict[str, pydicom.Dataset]:
    """The pictures by the last number of the image that each shows."""
    made = [pydicom.dcmread(path) for path in sorted(folder.glob("*-map*.dcm"))]
    return {one.SourceImageSequence[0].ReferencedSOPInstanceUID[-1]: one for one in made}


def test_each_image_of_a_case_has_its_own_picture_which_names_it(make_model, scans, tmp_path) -> None:
    make_model().save(tmp_path / "run" / "model")
    export(tmp_path / "run", dicom=[str(scans)], output=str(tmp_path / "out"))
    made = pictures(tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*-report.dcm"))) == 2
    assert sorted(made) == ["1", "2", "3"]
    assert made["1"].pixel_array.tobytes() != made["2"].pixel_array.tobytes()


def test_an_image_that_may_hold_text_is_not_in_its_picture(make_model, scans, tmp_path, capsys) -> None:
    make_model().save(tmp_path / "run" / "model")
    left = slice(40, 500), slice(20, 440)  # where the image stands, beside its map
    export(tmp_path / "run", dicom=[str(scans)], output=str(tmp_path / "out"))
    made = pictures(tmp_path / "out")
    assert made["1"].pixel_array[left].std() > 5
    assert np.ptp(made["3"].pixel_array[left]) == 0
    assert made["3"].BurnedInAnnotation == "NO"
    assert "1 picture without the image" in capsys.readouterr().err
    export(tmp_path / "run", dicom=[str(scans / "text.dcm")], output=str(tmp_path / "nobody"), deidentified=True)
    (path,) = (tmp_path / "nobody").glob("*-map.dcm")
    assert np.ptp(pydicom.dcmread(path).pixel_array[left]) == 0
