"""An ONNX file says what the model says, of every kind of model, or is not written."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from overread.core.errors import InputError, UnavailableError, UnsoundError
from overread.evaluation.operating_point import OperatingPoint
from overread.export import onnx_file
from overread.export.onnx_file import export_onnx
from overread.export.specimens import specimens
from overread.learning.model import Model
from overread.learning.predict import predict_images
from overread.networks.backbones import BACKBONES
from overread.tasks.target import Target

FINDINGS = Target("findings", ("nodule", "effusion", "mass"))
QUANTITY = Target("quantity", ("age",))
POINT = OperatingPoint(
    0.4, ("malignant",), "at 95 % sensitivity", "tuning", 0.95, 0.5, seen=("a1b2",), salt="secret", cases=("c3d4",)
)


def said(folder, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": pixels})[0]


def _slow(*values: object):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "target", "fields"), [
    ("classes", None, {}),
    _slow("findings, turned", FINDINGS, {"views": 8}),
    _slow("quantity", QUANTITY, {"scale": (54.0, 12.0)}),
    _slow("a network of several resolutions", None, {"backbone": "resnet_tiny", "fit": "pad"}),
    _slow("layers of a frozen network", None, {"method": "features", "layers": ("c1", "f6"), "pooling": "both"}),
])  # fmt: skip
def test_a_file_says_what_predict_says(make_model, cases, tmp_path, name, target, fields) -> None:
    model = make_model(**({"target": target} if target else {}), **fields)
    held = specimens(model, cases, threads=1)
    export_onnx(model, held, tmp_path / "out", frozen=(POINT,))
    made = np.concatenate([said(tmp_path / "out", part.numpy()) for part in held.pixels.split(5)])
    values, errors = predict_images(model, cases, threads=1)
    assert not errors
    assert np.abs(made - values).max() < 1e-4
    assert made.std(axis=0).max() > 1e-3  # a constant would be equal too


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["mean", "concat", "stacked", "recurrent", "attention"])
def test_cases_of_several_images_some_missing(make_model, pairs, tmp_path, fusion) -> None:
    places = ("left", "right") if fusion in ("concat", "stacked") else ()
    model = make_model(fusion=fusion, places=places)
    held = specimens(model, pairs, threads=1)
    assert held.pixels.isnan().any()
    export_onnx(model, held, tmp_path / "out")
    assert np.abs(said(tmp_path / "out", held.pixels.numpy()) - held.probabilities).max() < 1e-4
    assert json.loads((tmp_path / "out" / "export.json").read_text())["input"]["missing"].startswith("NaN")


@pytest.mark.slow
def test_an_ensemble_of_two_sizes_and_normalisations(make_model, cases, tmp_path) -> None:
    members = [
        make_model(seed=1),
        make_model(seed=2, size=(20, 20), mean=0.3),
        make_model(seed=3, backbone="resnet_tiny"),
    ]
    model = Model.of_members(members, (0.5, 0.25, 0.25), members[0].about)
    held = specimens(model, cases, threads=1)
    export_onnx(model, held, tmp_path / "out")
    assert np.abs(said(tmp_path / "out", held.pixels[:7].numpy()) - held.probabilities[:7]).max() < 1e-4


@pytest.mark.slow
def test_a_volume_goes_through_at_any_batch(make_model, tmp_path) -> None:
    from overread.export.specimens import Specimens

    model = make_model(backbone="cnn3d_small", size=(16, 18, 20), channels=1)
    pixels = torch.rand(8, 1, 16, 18, 20)
    with torch.inference_mode():
        truth = model.network((pixels - 0.5) / 0.25).softmax(1).numpy()
    export_onnx(model, Specimens(pixels, truth, ()), tmp_path / "out")
    assert np.abs(said(tmp_path / "out", pixels[:3].numpy()) - truth[:3]).max() < 1e-5


@pytest.mark.slow
def test_a_mean_image_is_inside(make_model, cases, tmp_path) -> None:
    model = make_model()
    image = np.random.default_rng(0).random((28, 28, 3), np.float32)
    preprocess = replace(model.about.preprocess, normalise="mean image", mean=(0.0,) * 3, std=(1.0,) * 3)
    model = Model(model.network, replace(model.about, preprocess=preprocess), image)
    held = specimens(model, cases, threads=1)
    export_onnx(model, held, tmp_path / "out")
    assert np.abs(said(tmp_path / "out", held.pixels.numpy()) - held.probabilities).max() < 1e-4


def test_the_file_names_itself_and_no_patient(make_model, cases, tmp_path) -> None:
    model = make_model()
    written = export_onnx(
        model, specimens(model, cases, threads=1), tmp_path / "out", frozen=(POINT,), card="# The card"
    )
    held = {entry.key: entry.value for entry in onnx.load(tmp_path / "out" / "model.onnx").metadata_props}
    assert json.loads(held["outputs"]) == ["benign", "malignant"]
    assert (held["digest"], held["licence"]) == (model.digest, "Apache-2.0")
    assert "Not a medical device" in held["use"]
    assert json.loads(held["points"])[0]["threshold"] == 0.4
    assert json.loads(held["compared"])["images"] >= 32
    assert (tmp_path / "out" / "model_card.md").read_text() == "# The card"
    for path in written:
        assert not any(secret in path.read_bytes() for secret in (b"a1b2", b"secret", b"c3d4", b"/files")), path


def test_nothing_is_written_where_the_file_says_something_else(make_model, cases, tmp_path, monkeypatch) -> None:
    monkeypatch.delitem(onnx_file._EXPORTERS, "dynamo")
    model = make_model()
    held = specimens(model, cases, threads=1)
    wrong = replace(held, probabilities=held.probabilities + np.float32(2e-4))
    with pytest.raises(UnsoundError, match="neither exporter"):
        export_onnx(model, wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_second_exporter_is_tried_once_and_named(make_model, cases, tmp_path, monkeypatch) -> None:
    model, said_lines = make_model(), list[str]()

    def failing(graph: nn.Module, example: torch.Tensor) -> bytes:
        raise RuntimeError("no such operator")

    monkeypatch.setitem(onnx_file._EXPORTERS, "torchscript", failing)
    held = specimens(model, cases, threads=1)
    export_onnx(model, held, tmp_path / "out", say=said_lines.append)
    how = json.loads((tmp_path / "out" / "export.json").read_text())["how"]
    assert "`dynamo`, as the other failed: the exporter torchscript failed: no such operator" in how
    assert len(said_lines) == 1
    assert np.abs(said(tmp_path / "out", held.pixels[:3].numpy()) - held.probabilities[:3]).max() < 1e-4


def test_descriptors_are_refused_by_name(make_model, cases, tmp_path) -> None:
    model = make_model("", method="features", descriptors=("lbp", "gist"))
    with pytest.raises(InputError, match="gist, lbp"):
        export_onnx(model, specimens(model, cases, threads=1), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_named_with_its_command(make_model, cases, tmp_path, monkeypatch) -> None:
    model = make_model()
    held = specimens(model, cases, threads=1)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UnavailableError, match=r"onnx is not installed.*pip install 'overread\[export\]'"):
        export_onnx(model, held, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_network_of_the_table_is_equal(make_model, tmp_path, name) -> None:
    from overread.export.specimens import Specimens

    row = BACKBONES[name]
    size = (max(row.minimum, 64 if row.dimensions == 2 else 16),) * row.dimensions
    if "vit" in name or "deit" in name or "swin" in name:
        size = (row.size,) * 2
    model = make_model(name, size=size, channels=3 if row.dimensions == 2 else 1)
    pixels = torch.rand(8, model.about.preprocess.channels, *size)
    with torch.inference_mode():
        truth = model.network((pixels - 0.5) / 0.25).softmax(1).numpy()
    export_onnx(model, Specimens(pixels, truth, ()), tmp_path / "out")
    assert np.abs(said(tmp_path / "out", pixels[:3].numpy()) - truth[:3]).max() < 1e-4
