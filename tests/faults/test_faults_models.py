"""A model folder that somebody sends: each file and each field of it, wrong. Refused soon, in one paragraph, nothing half loaded."""

from __future__ import annotations

import json
import os
import socket
import struct

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from overread.cases.cases import Cases
from overread.core.errors import InputError, UnsoundError
from overread.images.preprocess import Preprocess
from overread.learning.device import seeded
from overread.learning.model import About, Model, Origin, make_network
from overread.learning.predict import predict
from overread.learning.recipe import Recipe
from overread.networks.weights import find, load_into
from overread.tasks.target import Target

TARGET = Target("binary", ("n", "p"), ("p",))
FILES = ("model.json", "model.safetensors", "history.json")


def _model(normalise: str = "channel mean and std", backbone: str = "resnet_tiny") -> Model:
    preprocess = Preprocess(size=(28, 28), channels=1, normalise=normalise, mean=(0.4,), std=(0.2,))
    about = About(Recipe(method="scratch"), preprocess, TARGET, Origin(backbone, 77_754))
    with seeded(0, 0, 0, "test"):
        network = make_network(about)
    mean_image = np.full((28, 28, 1), 0.25, np.float32) if normalise == "mean image" else None
    return Model(network.eval(), about, mean_image, ({"epoch": 1},))


@pytest.fixture
def folder(tmp_path):
    """The folder of a model that loads."""
    _model().save(tmp_path / "model")
    Model.load(tmp_path / "model")
    return tmp_path / "model"


def _rewrite(folder, *path: str, value: object, unsigned: bool = True) -> None:
    """Another value in ``model.json``."""
    held = json.loads((folder / "model.json").read_text())
    inner = held
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    if unsigned:
        held.pop("weights digest", None)
    (folder / "model.json").write_text(json.dumps(held))  # Python writes NaN and Infinity, which are no JSON


def _reweigh(folder, change) -> None:
    """Other tensors in ``model.safetensors``, for which ``model.json`` does not vouch."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    _rewrite(folder, "format", value=1)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", ["FIFO", "folder", "socket", "device", "loop", "absent"])
def test_what_is_no_file_is_refused_and_never_waited_for(folder, file, kind, refused, monkeypatch) -> None:
    path = folder / file
    path.unlink()
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        monkeypatch.chdir(folder)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(file)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    elif file == "history.json":
        assert Model.load(folder).history == ()
        return
    if (kind, file) == ("loop", "history.json"):  # the system says that there is nothing
        return
    assert isinstance(refused(Model.load, folder), InputError)


def _set(name: str, value: float):
    def change(tensors) -> None:
        tensors[name].view(-1)[-1] = value

    return change


def _replace(name: str, make):
    def change(tensors) -> None:
        tensors[name] = make(tensors[name])

    return change


NORM = "trunk.norm.running_var"
TENSORS = {
    "NaN": (_set("head.weight", float("nan")), "finite"),
    "infinity": (_set("head.bias", float("inf")), "finite"),
    "half precision": (_replace("head.weight", lambda t: t.half()), "float16"),
    "double precision": (_replace("head.weight", lambda t: t.double()), "float64"),
    "whole numbers": (_replace("head.weight", lambda t: t.long()), "int64"),
    "complex": (_replace("head.weight", lambda t: t.to(torch.complex64)), "complex64"),
    "eight bits": (_replace("head.weight", lambda t: t.to(torch.float8_e4m3fn)), "float8"),
    "another shape": (_replace("head.weight", lambda t: t[:, :-1].clone()), r"\[?2, 63"),
    "turned": (_replace("head.weight", lambda t: t.T.contiguous()), "64, 2"),
    "no images": (_replace("head.weight", lambda t: t[:0].clone()), "0, 64"),
    "more classes": (lambda t: t.update({"head.weight": torch.zeros(9, 64), "head.bias": torch.zeros(9)}), "9"),
    "one more": (lambda t: t.update({"extra": torch.zeros(3)}), "extra"),
    "one less": (lambda t: t.pop("head.bias"), "head.bias"),
    "none": (lambda t: t.clear(), "no tensors"),
    "a mean image that nobody asked for": (lambda t: t.update({"preprocess.mean_image": torch.zeros(28, 28, 1)}), "mean image"),
    "an input scale of another size": (lambda t: t.update({"input_scale": torch.ones(7), "input_shift": torch.ones(7)}), "input_s"),
    "under a head on layers": (lambda t: [t.update({f"body.{k}": t.pop(k)}) for k in list(t)], "body"),
    "a name with a line break": (lambda t: t.update({"a\nb\x1b[31m": torch.zeros(1)}), "do not fit"),
}  # fmt: skip


@pytest.mark.parametrize("what", TENSORS)
def test_weights_that_are_none_are_refused(folder, what, refused) -> None:
    change, words = TENSORS[what]
    _reweigh(folder, change)
    assert refused(Model.load, folder).args[0].lower().find(words.strip("\\[?").lower()) >= 0


def test_a_negative_variance_is_refused(folder, refused) -> None:
    name = next(name for name in load_file(folder / "model.safetensors") if name.endswith("running_var"))
    _reweigh(folder, _set(name, -1.0))
    assert "variance" in str(refused(Model.load, folder))


@pytest.mark.parametrize("where", ["weights", "another training"])
def test_weights_that_the_description_does_not_vouch_for(folder, where, refused, tmp_path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    if where == "weights":
        data[-7] ^= 1
        path.write_bytes(data)
    else:
        other = _model()
        with torch.no_grad():
            other.network.get_submodule("head").bias.add_(1.0)
        other.save(tmp_path / "other")
        path.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    assert "checksum" in str(refused(Model.load, folder))


@pytest.mark.parametrize(
    ("image", "words"),
    [(None, "none"), (torch.zeros(27, 28, 1), "27"), (torch.zeros(28, 28, 3), "28, 28, 3"), (torch.zeros(28, 28, 1).double(), "float64"),
     (torch.full((28, 28, 1), 2.0), "black and white"), (torch.full((28, 28, 1), torch.nan), "black and white"), (torch.zeros(0), "(0,)")],
)  # fmt: skip
def test_a_wrong_mean_image_is_refused(tmp_path, image, words, refused) -> None:
    _model("mean image").save(tmp_path)
    assert Model.load(tmp_path).mean_image is not None
    _reweigh(
        tmp_path,
        lambda t: t.pop("preprocess.mean_image") if image is None else t.update({"preprocess.mean_image": image}),
    )
    assert words in str(refused(Model.load, tmp_path))


FIELDS = {
    ("preprocess", "std"): [[0.0], [-1.0], [float("nan")], [float("inf")], [], [0.2, 0.2], None, "0.2", [None], [1e400]],
    ("preprocess", "mean"): [[float("nan")], [float("-inf")], [], [0.1, 0.1, 0.1]],
    ("preprocess", "size"): [[0, 28], [-28, 28], [28], [28, 28, 28], [16384, 16384, 16384], [28.5, 28], "28", []],
    ("preprocess", "channels"): [0, -1, 2, 3, 1.5, "x"],
    ("preprocess", "bits"): [0, 7, 32, -8],
    ("preprocess", "normalise"): ["mean image", "", "none", 3],
    ("preprocess", "window"): ["a/b", "0/0", "nan/1"],
    ("preprocess", "crop"): ["all", None],
    ("target", "names"): [[], ["n"], ["n", "n"], ["n", "p", "q"], "np", [1, 2], [["n"], ["p"]], {"n": 1}],
    ("target", "kind"): ["segmentation", "", 3, None],
    ("target", "positive"): [["x"], "p"],
    ("backbone", "name"): ["", "resnet_tinyy", "../../x", "os.system", "x" * 100_000, "resnet_small", None],
    ("backbone", "parameters"): [-1, 1e9 + 0.5, "many"],
    ("recipe", "dropout"): [1.0, -0.1, float("nan")],
    ("recipe", "layers"): [["no.such"], ["trunk", "trunk"], "trunk", [3]],
    ("recipe", "views"): [-1, 3, 10**9],
    ("recipe", "method"): ["", "magic"],
    ("recipe", "epochs"): [-1, "all"],
    ("recipe", "penalties"): [[], [0.0], [-1.0]],
    ("scale",): [[0.0, 0.0], [0.0, -1.0], [float("nan"), 1.0], [0.0, float("inf")], [1.0], [0, 1, 2]],
    ("seen",): [["0123456789abcdef"], "abc", [3]],
    ("salt",): [3, None],
    ("planes",): [{"volumes": "half"}, None, {"side": -1.0}],
    ("decisions",): [[{"what": "x"}], "none", [3]],
    ("format",): [0, -1, 99, 1.5, "one"],
    ("pickle",): ["cos\nsystem\n(S'ls'\ntR."],
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"), [(path, value) for path, values in FIELDS.items() for value in values], ids=lambda v: str(v)[:40]
)
def test_a_field_out_of_its_range_is_refused(folder, path, value, refused) -> None:
    _rewrite(folder, *path, value=value)
    refused(Model.load, folder)


@pytest.mark.parametrize("name", ["preprocess", "target", "recipe", "backbone"])
@pytest.mark.parametrize("value", [None, [], {}, 3, "x"])
def test_a_group_of_fields_that_is_none(folder, name, value, refused) -> None:
    if (name, value) == ("recipe", {}):  # all its defaults
        return
    _rewrite(folder, name, value=value)
    refused(Model.load, folder)


@pytest.mark.parametrize("file", ["model.json", "history.json"])
@pytest.mark.parametrize(
    "text", ["", "{", "[1", "3", '"x"', "{}", "[3]", "null", '{"a": 1, "a": 2}', "[" * 100_000, "\x00", "NaN"]
)
def test_text_that_is_no_description(folder, file, text, refused) -> None:
    (folder / file).write_text(text)
    refused(Model.load, folder)


# -- too much of it -------------------------------------------------------------------------------------------------


def _header(path, header: bytes, body: int = 8) -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(body))


def test_a_hundred_thousand_tensors(folder, refused) -> None:
    about = {f"t{k}": {"dtype": "F32", "shape": [1], "data_offsets": [4 * k, 4 * k + 4]} for k in range(100_000)}
    _header(folder / "model.safetensors", json.dumps(about).encode(), 400_000)
    assert "too many" in str(refused(Model.load, folder))


@pytest.mark.parametrize("length", [0, 1, 2**32, 2**63, 2**64 - 1, 90_000_000])
def test_a_header_longer_than_the_file_or_any_header(folder, length, refused) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}" + bytes(100))
    refused(Model.load, folder)


@pytest.mark.parametrize(
    "about",
    [{"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}, {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
     {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}, {"dtype": "F32", "shape": [2], "data_offsets": [0, 2**60]},
     {"dtype": "PICKLE", "shape": [2], "data_offsets": [0, 8]}, {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 8]}],
    ids=["huge", "negative", "backwards", "beyond", "no type", "no number"],
)  # fmt: skip
def test_a_tensor_that_cannot_be(folder, about, refused) -> None:
    _header(folder / "model.safetensors", json.dumps({"head.bias": about}).encode())
    refused(Model.load, folder)


def test_three_million_names_of_classes(folder, refused) -> None:
    _rewrite(
        folder, "target", value={"kind": "classes", "names": [f"class {k}" for k in range(3_000_000)], "positive": []}
    )
    assert len(str(refused(Model.load, folder))) < 3000


def test_a_name_as_long_as_a_book(folder, refused) -> None:
    _rewrite(folder, "target", "names", value=["n" * 3_000_000] * 2)
    assert len(str(refused(Model.load, folder))) < 3000


@pytest.mark.parametrize("file", ["model.json", "history.json"])
def test_a_description_larger_than_any_is_not_read(folder, file, refused) -> None:
    with open(folder / file, "r+b") as handle:
        handle.truncate(20_000_000_000)  # sparse: it takes no space
    assert "too large" in str(refused(Model.load, folder))


# -- what passes all that and still gives no number -------------------------------------------------------------------


def test_answers_that_are_no_numbers_are_no_unreadable_images(folder, tmp_path) -> None:
    """Finite weights may overflow: the cases were left out as if their images could not be read."""
    _reweigh(folder, lambda t: [t[name].fill_(3e38) for name in t if t[name].is_floating_point()])
    model = Model.load(folder)
    Image.fromarray(np.full((28, 28), 200, np.uint8)).save(tmp_path / "a.png")
    row = {
        "image": "a.png",
        "case": "a",
        "patient": "a",
        "source": "",
        "view": "",
        "time": "",
        "split": "",
        "label": "n",
    }
    with pytest.raises(UnsoundError, match="1 of 1 images"):
        predict(model, Cases(pd.DataFrame([row]), TARGET, tmp_path), threads=1)


# -- the same for a folder of initial weights -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["FIFO", "device", "absent"])
def test_a_folder_of_weights_that_is_none(tmp_path, kind, refused) -> None:
    path = tmp_path / "resnet18.safetensors"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    assert "folder of weights" in str(refused(find, "resnet18", folder=path))


@pytest.mark.parametrize("what", ["NaN", "whole numbers", "infinity", "another shape"])
def test_initial_weights_that_are_none(tmp_path, what, refused) -> None:
    model = _model()
    tensors = model.network.state_dict()
    name = next(name for name in tensors if name.startswith("trunk") and tensors[name].ndim == 4)
    tensors["head.weight"] = tensors[name].clone()
    TENSORS[what][0](
        {"head.weight": tensors["head.weight"], "head.bias": tensors["head.weight"]}
        if what != "whole numbers"
        else tensors
    )
    tensors[name] = tensors.pop("head.weight") if what != "another shape" else tensors[name][:1].clone()
    save_file(tensors, tmp_path / "resnet_tiny.safetensors")
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    found = find("resnet_tiny", folder=tmp_path)
    refused(load_into, model.network, found)
    assert all(torch.equal(value, before[key]) for key, value in model.network.state_dict().items())
