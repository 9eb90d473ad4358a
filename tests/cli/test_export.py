"""``overread export``: what it refuses before it calculates, and a whole run's folder from end to end."""

from __future__ import annotations

import json

import pytest

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
