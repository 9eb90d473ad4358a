import json

import numpy as np
import pytest
import safetensors.torch
import torch

from overread.core.errors import InputError
from overread.core.files import hashed
from overread.images.preprocess import Preprocess
from overread.learning.device import seeded
from overread.learning.model import About, Decision, Model, Origin, make_network
from overread.learning.recipe import Recipe
from overread.networks import backbones
from overread.networks.taps import Tapped
from overread.tasks.target import Target


def _model(layers=(), mean_image=None) -> Model:
    normalise = "channel mean and std" if mean_image is None else "mean image"
    preprocess = Preprocess(size=(28, 28), channels=1, normalise=normalise, mean=(0.4,), std=(0.2,))
    about = About(Recipe(method="features" if layers else "scratch", layers=layers), preprocess, Target("binary", ("n", "p"), ("p",)), Origin("resnet_small", 1),
                  seen=tuple(hashed(["zebulon", "bob"], "salt")), salt="salt", decisions=(Decision("a", "b", "c"),))  # fmt: skip
    with seeded(0, 0, 0, "test"):
        network = make_network(about)
    return Model(network.eval(), about, mean_image, ({"epoch": 1, "train loss": 0.5},))


@pytest.mark.parametrize("layers", [(), ("trunk.0",)])
def test_a_loaded_model_gives_the_same_outputs(tmp_path, layers) -> None:
    if layers:
        network = backbones.build("resnet_small", outputs=2, channels=1)
        layers = (
            next(name for name, _ in network.named_modules() if name.count(".") == 1 and name.startswith("trunk")),
        )
    model = _model(layers, np.full((28, 28, 1), 0.25, np.float32))
    again = Model.load(model.save(tmp_path))
    x = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(model.network(x), again.network(x))
    assert again == model
    assert again.about == model.about
    assert np.array_equal(again.mean_image, model.mean_image)


def test_seen_patients_are_counted_by_hash_alone(tmp_path) -> None:
    model = _model()
    assert model.has_seen(["zebulon", "carl", "zebulon"]) == 1
    model.save(tmp_path)
    assert b"zebulon" not in (tmp_path / "model.json").read_bytes()


def test_nothing_half_loaded(tmp_path) -> None:
    model = _model()
    model.save(tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    safetensors.torch.save_file({k: v for k, v in tensors.items() if k != "head.bias"}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"head\.bias"):
        Model.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(InputError, match="broken"):
        Model.load(tmp_path)


def test_a_later_format_and_an_unknown_key_are_refused(tmp_path) -> None:
    _model().save(tmp_path)
    told = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**told, "format": 99}))
    with pytest.raises(InputError, match="later overread"):
        Model.load(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({**told, "pickle": "x"}))
    with pytest.raises(InputError, match="unknown key"):
        Model.load(tmp_path)


def test_taps_widen_the_head() -> None:
    network = backbones.build("resnet_small", outputs=2, channels=1)
    names = [name for name, _ in network.named_modules() if name.count(".") == 1 and name.startswith("trunk")][:2]
    tapped = Tapped(network, tuple(names), Preprocess(size=(28, 28), channels=1), 5)
    assert tapped(torch.zeros(3, 1, 28, 28)).shape == (3, 5)
    assert tapped.features(torch.zeros(3, 1, 28, 28)).shape == (3, tapped.width)
