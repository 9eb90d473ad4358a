"""Every backbone in one table, and one function that builds any of them.

The table can be read without torch; building imports what the network needs: timm, by its own contract
(``create_model``, ``forward_features``, ``forward_head``), and torchvision for the three that timm lacks. A
further CNN or ViT of timm's is one more row. Accuracies are ImageNet-1k, single centre crop, of the weights that
:mod:`overread.networks.weights` fetches, as torchvision and timm publish them. The licence is that of code and
weights; ImageNet's own images were given for research and teaching.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, cast

from overread.core.errors import ArgumentError, UnavailableError, checked, nearest, one_of, require

if TYPE_CHECKING:
    import torch

    import overread.networks.small

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Backbone:
    """One row of the table: what a network is, costs, reaches, and how its published weights want their images.

    ``parameters`` with the published head (1,000 classes; ours with ten and one channel) and without auxiliary
    heads. The input contract: pixels from 0 to 1 (``range``), less ``mean``, over ``std``, a channel each, at
    ``size`` pixels, resized by ``interpolation`` such that ``crop`` of the shorter side is kept. ``minimum`` is the
    smallest side that works. ``default_tap`` names the layer whose maps explain best. ``url`` is where the published
    weights lie, empty for what is trained from scratch. ``model`` is timm's name where it is not ours, ``options``
    what is given to ``timm.create_model`` besides.
    """

    name: str
    library: Literal["torchvision", "timm", "overread"]
    parameters: int
    size: int
    top1: float | None
    top5: float | None
    licence: str
    source: str
    minimum: int = 32
    default_tap: str = "trunk.features"
    url: str = ""
    dimensions: int = 2
    mean: tuple[float, ...] = _IMAGENET_MEAN
    std: tuple[float, ...] = _IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    crop: float = 0.875
    range: tuple[float, float] = (0.0, 1.0)
    model: str = ""
    options: tuple[tuple[str, Any], ...] = ()


_BSD, _APACHE, _MIT = "BSD-3-Clause", "Apache-2.0", "MIT"
_RESNET = "He 2015, arXiv:1512.03385"
_CONVNEXT = "Liu 2022, arXiv:2201.03545"
_TORCH = "https://download.pytorch.org/models/"
_HUB = "https://huggingface.co/timm/{}/resolve/main/model.safetensors"

# how the rows differ from ImageNet's usual contract, and from the defaults of timm's networks
_CENTRED: dict[str, Any] = {"mean": _HALF, "std": _HALF}
_CUBIC: dict[str, Any] = {"interpolation": "bicubic"}
_ANY_SIZE: dict[str, Any] = {"options": (("dynamic_img_size", True),), "crop": 0.9, **_CUBIC}
_EPSILON: dict[str, Any] = {"options": (("bn_eps", 1e-3),)}  # of torchvision's MobileNet-V3; timm's is 1e-5

# a family: library, licence, paper, minimum, default tap, and how its contract differs from ImageNet's usual one; then its
# networks: name, parameters, size, top-1, top-5, file of torchvision's weights or tag on timm's hub, what differs further
_FAMILIES: tuple[tuple[tuple[Any, ...], ...], ...] = (
    (("torchvision", _BSD, "Krizhevsky 2014, arXiv:1404.5997", 63, "features.11", {}),
     ("alexnet", 61_100_840, 224, 56.522, 79.066, "alexnet-owt-7be5be79.pth")),
    (("torchvision", _APACHE, "Szegedy 2014, arXiv:1409.4842", 15, "inception5b", _CENTRED),
     ("googlenet", 6_624_904, 224, 69.778, 89.53, "googlenet-1378be20.pth")),
    (("torchvision", _BSD, "Iandola 2016, arXiv:1602.07360", 21, "features", {}),
     ("squeezenet1_0", 1_248_424, 224, 58.092, 80.42, "squeezenet1_0-b66bff10.pth"),
     ("squeezenet1_1", 1_235_496, 224, 58.178, 80.624, "squeezenet1_1-b8a52dc0.pth", {"minimum": 17})),
    (("timm", _BSD, "Simonyan 2014, arXiv:1409.1556", 32, "features.29", {}),
     ("vgg16", 138_357_544, 224, 71.592, 90.382, "vgg16-397923af.pth"),
     ("vgg19", 143_667_240, 224, 72.376, 90.876, "vgg19-dcbb9e9d.pth", {"default_tap": "trunk.features.35"})),
    (("timm", _APACHE, "Szegedy 2015, arXiv:1512.00567", 75, "Mixed_7c", _CENTRED),
     ("inception_v3", 23_834_568, 299, 77.294, 93.45, "inception_v3_google-0cc3c7bd.pth")),
    (("timm", _BSD, _RESNET, 16, "layer4", {}),
     ("resnet18", 11_689_512, 224, 69.758, 89.078, "resnet18-f37072fd.pth"),
     ("resnet34", 21_797_672, 224, 73.314, 91.42, "resnet34-b627a593.pth"),
     ("resnet50", 25_557_032, 224, 76.13, 92.862, "resnet50-0676ba61.pth"),
     ("resnet101", 44_549_160, 224, 77.374, 93.546, "resnet101-63fe2227.pth"),
     ("resnet152", 60_192_808, 224, 78.312, 94.046, "resnet152-394f9c45.pth")),
    (("timm", _BSD, "Huang 2016, arXiv:1608.06993", 29, "features", {}),
     ("densenet121", 7_978_856, 224, 74.434, 91.972, "densenet121-a639ec97.pth")),
    (("timm", _BSD, "Sandler 2018, arXiv:1801.04381", 16, "bn2", {"model": "mobilenetv2_100"}),
     ("mobilenet_v2", 3_504_872, 224, 71.878, 90.286, "mobilenet_v2-b0353104.pth")),
    (("timm", _BSD, "Howard 2019, arXiv:1905.02244", 16, "blocks", _EPSILON),
     ("mobilenet_v3_small", 2_542_856, 224, 67.668, 87.402, "mobilenet_v3_small-047dcff4.pth", {"model": "mobilenetv3_small_100"}),
     ("mobilenet_v3_large", 5_483_032, 224, 74.042, 91.34, "mobilenet_v3_large-8738ca79.pth", {"model": "mobilenetv3_large_100"})),
    (("timm", _APACHE, "Tan 2019, arXiv:1905.11946", 16, "bn2", _CUBIC),
     ("efficientnet_b0", 5_288_548, 224, 77.692, 93.532, "efficientnet_b0_rwightman-7f5810bc.pth"),
     ("efficientnet_b1", 7_794_184, 240, 78.642, 94.186, "efficientnet_b1_rwightman-bac287d4.pth", {"crop": 0.9375}),
     ("efficientnet_b2", 9_109_994, 288, 80.608, 95.31, "efficientnet_b2_rwightman-c35c1473.pth", {"crop": 1.0}),
     ("efficientnet_b3", 12_233_232, 300, 82.008, 96.054, "efficientnet_b3_rwightman-b3899882.pth", {"crop": 0.9375}),
     ("efficientnet_lite0", 4_652_008, 224, 75.48, 92.522, "efficientnet_lite0.ra_in1k"),
     ("tf_efficientnet_lite0", 4_652_008, 224, 74.83, 92.172, "tf_efficientnet_lite0.in1k", _CENTRED),
     ("tf_efficientnet_lite2", 6_092_072, 260, 77.464, 93.75, "tf_efficientnet_lite2.in1k", {"crop": 0.89, **_CENTRED})),
    (("timm", _BSD, _CONVNEXT, 32, "stages", {"crop": 224 / 236}),
     ("convnext_tiny", 28_589_128, 224, 82.52, 96.146, "convnext_tiny-983f1562.pth")),
    (("timm", _APACHE, _CONVNEXT, 32, "stages", {"crop": 0.95, **_CUBIC}),
     ("convnext_atto", 3_695_520, 288, 77.008, 93.702, "convnext_atto.d2_in1k")),
    (("timm", _APACHE, _RESNET, 16, "layer4", {"crop": 0.95, **_CUBIC}),
     ("resnet10t", 5_435_488, 224, 68.358, 88.04, "resnet10t.c3_in1k")),
    (("timm", _APACHE, "Steiner 2021, arXiv:2106.10270", 16, "blocks.11.norm1", {**_CENTRED, **_ANY_SIZE}),
     ("vit_tiny_patch16_224", 5_717_416, 224, 75.454, 92.844, "vit_tiny_patch16_224.augreg_in21k_ft_in1k"),
     ("vit_small_patch16_224", 22_050_664, 224, 81.384, 96.136, "vit_small_patch16_224.augreg_in21k_ft_in1k")),
    (("timm", _APACHE, "Touvron 2020, arXiv:2012.12877", 16, "blocks.11.norm1", _ANY_SIZE),
     ("deit_tiny_patch16_224", 5_717_416, 224, 72.172, 91.112, "deit_tiny_patch16_224.fb_in1k")),
    (("timm", _MIT, "Liu 2021, arXiv:2103.14030", 32, "norm", {"options": (("strict_img_size", False),), "crop": 0.9, **_CUBIC}),
     ("swin_tiny_patch4_window7_224", 28_288_354, 224, 81.376, 95.544, "swin_tiny_patch4_window7_224.ms_in1k")),
)  # fmt: skip

# name, parameters, size, paper, minimum, default tap, dimensions
_OURS: tuple[tuple[Any, ...], ...] = (
    ("lenet5", 61_706, 32, "LeCun 1998, doi:10.1109/5.726791", 16, "tanh3", 2),
    ("cnn_small", 94_186, 28, "overread", 8, "relu3", 2),
    ("resnet_tiny", 77_754, 28, _RESNET, 8, "block3", 2),
    ("resnet_small", 308_074, 28, _RESNET, 8, "block3", 2),
    ("unet_small", 257_170, 64, "Ronneberger 2015, arXiv:1505.04597", 32, "block4", 2),
    ("cnn3d_small", 285_362, 28, "overread", 16, "relu4", 3),
    ("resnet3d_small", 898_474, 28, "Hara 2017, arXiv:1708.07632", 8, "block3", 3),
)


#: Channels of the plain ones after each convolution.
_PLAIN = {"cnn_small": (32, 64, 128), "cnn3d_small": (8, 32, 64, 128)}
#: Channels of those that begin at half the side: the contracting half of a U-Net.
_CONTRACTING = {"unet_small": (24, 48, 64, 96)}


def _rows() -> list[Backbone]:
    rows = []
    for name, parameters, size, paper, minimum, tapped, dimensions in _OURS:
        rows.append(Backbone(name, "overread", parameters, size, None, None, _APACHE, paper, minimum, f"trunk.{tapped}",
                             dimensions=dimensions, mean=(), std=()))  # fmt: skip
    for (library, licence, paper, minimum, tapped, shared), *networks in _FAMILIES:
        for name, parameters, size, top1, top5, file, *own in networks:
            url = _TORCH + file if file.endswith(".pth") else _HUB.format(file)
            row = Backbone(name, library, parameters, size, top1, top5, licence, paper, minimum, f"trunk.{tapped}", url)
            rows.append(replace(row, **shared, **dict(*own)))
    return rows


#: Every backbone by name, ours first.
BACKBONES: dict[str, Backbone] = {row.name: row for row in _rows()}

#: Pretrained networks, best first. On a CPU by balanced accuracy on skin lesions per second of one thread for 64 images
#: (docs/reference/measured.md), and after them those that were not measured, quick ones first; on a GPU by accuracy.
PREFERRED = {
    "cpu": ("mobilenet_v2", "squeezenet1_0", "tf_efficientnet_lite0", "resnet18", "efficientnet_b0",
            "mobilenet_v3_large", "squeezenet1_1", "densenet121", "resnet34", "resnet50"),
    "cuda": ("resnet50", "densenet121", "efficientnet_b0", "resnet34", "resnet18", "mobilenet_v2",
             "tf_efficientnet_lite0", "squeezenet1_0"),
}  # fmt: skip


#: How the activations of a frozen layer become numbers: the mean over space, the largest, or both.
POOLINGS = ("mean", "max", "both", "flat")
#: The linear heads on frozen features, see :mod:`overread.networks.heads`.
HEADS = ("logistic", "svm", "ridge", "nearest-mean")


@checked
def preferred(device: str) -> tuple[str, ...]:
    """Pretrained backbones in order of preference on this kind of device (``cpu``, or any other).

    >>> preferred("cpu")[0]
    'mobilenet_v2'
    """
    return PREFERRED["cpu" if device == "cpu" else "cuda"]


@checked
def build(
    name: str, *, outputs: int, channels: int = 3, dropout: float = 0.0, filters: float = 1.0
) -> overread.networks.small.Network:
    """A network with fresh weights: features, maps and a linear head of ``outputs``.

    Images are (B, channels, H, W), volumes (B, channels, D, H, W), each side at least the table's
    ``minimum``. Weights are drawn from torch's generator: fork and seed it around the call. Auxiliary heads
    are left out and the first convolution takes any number of channels. Activations work in place, as
    published (SqueezeNet's features are a quarter slower otherwise): for gradients with respect to the last
    maps use ``encode`` and ``pooled``, not hooks. ``filters``: each convolution has so many times its filters
    (:mod:`.fewer_filters`). Raises :class:`ArgumentError` for an unknown name, or for ``filters`` of a network that cannot
    have others, :class:`UnavailableError` if the library is missing or does not fit the torch that is installed.

    >>> build("lenet5", outputs=10, channels=1).width
    84
    """
    one_of(name, BACKBONES, "the backbone")
    require(outputs >= 1, "a network needs at least one output", given=outputs)
    require(channels >= 1, "a network needs at least one input channel", given=channels)
    require(0 <= dropout < 1, "dropout must lie in [0, 1)", given=dropout)
    makers = {"overread": _ours, "torchvision": _from_torchvision, "timm": _from_timm}
    made = makers[BACKBONES[name].library](name, outputs=outputs, channels=channels, dropout=dropout)
    if filters == 1:
        return made
    from overread.networks.fewer_filters import with_filters

    return with_filters(made, filters, side=BACKBONES[name].size)


def _ours(name: str, *, outputs: int, channels: int, dropout: float) -> overread.networks.small.Network:
    from overread.networks import small

    if name == "lenet5":
        return small.lenet5(outputs=outputs, channels=channels, dropout=dropout)
    dimensions = BACKBONES[name].dimensions
    if name in _PLAIN:
        return small.plain_cnn(name, outputs=outputs, channels=channels, dropout=dropout, widths=_PLAIN[name], dimensions=dimensions)  # fmt: skip
    contracting = name in _CONTRACTING
    widths = _CONTRACTING.get(name, (16, 32, 64) if name.endswith("_tiny") else (32, 64, 128))
    return small.residual(name, outputs=outputs, channels=channels, dropout=dropout, widths=widths,
                          dimensions=dimensions, stride=2 if contracting else dimensions - 1)  # fmt: skip


def _from_timm(name: str, *, outputs: int, channels: int, dropout: float) -> overread.networks.small.Network:
    from overread.networks.small import TimmNetwork

    row = BACKBONES[name]
    timm = library("timm")
    trunk = timm.create_model(row.model or name, in_chans=channels, num_classes=0, **dict(row.options))
    return TimmNetwork(name, trunk, outputs=outputs, channels=channels, dropout=dropout)


def _from_torchvision(name: str, *, outputs: int, channels: int, dropout: float) -> overread.networks.small.Network:
    """AlexNet, GoogLeNet or SqueezeNet as trunk and neck; layers keep their names, so published files fit."""
    from torch import nn

    from overread.networks.small import Network, initialise

    # GoogLeNet's own initialisation takes half a minute
    options = {"aux_logits": False, "transform_input": False, "init_weights": False} if name == "googlenet" else {}
    published = library("torchvision.models").get_model(name, weights=None, **options)
    if name in ("googlenet", "alexnet"):
        initialise(published)
    _rebuild_first_convolution(published, channels)
    layers = dict(published.named_children())
    tail = ("avgpool", "dropout", "fc", "classifier")
    trunk = OrderedDict((key, layer) for key, layer in layers.items() if key not in tail)
    neck: OrderedDict[str, nn.Module] = OrderedDict(avgpool=layers.get("avgpool") or nn.AdaptiveAvgPool2d(1))
    neck["flatten"] = nn.Flatten(1)
    width, original = (1024, "fc") if name == "googlenet" else (512, "classifier.1")
    if name == "alexnet":  # its last dense layer is the head, those before it stay
        width, original = 4096, "classifier.6"
        neck["classifier"] = nn.Sequential(OrderedDict(list(layers["classifier"].named_children())[:-1]))
    return Network(
        name, nn.Sequential(trunk), nn.Sequential(neck), width=width, outputs=outputs, channels=channels,
        dropout=dropout, original=original,
    )  # fmt: skip


@cache
def torchvision_names(name: str) -> dict[str, str]:
    """Torchvision's name of each tensor of a published network → timm's; empty where they do not differ.

    timm registers the same layers in the same order, so the two lists of names are laid side by side.
    """
    row = BACKBONES[name]
    if row.library != "timm" or not row.url.startswith(_TORCH):
        return {}
    import torch

    options = {"init_weights": False, "aux_logits": False} if name == "inception_v3" else {}
    with torch.device("meta"):
        theirs = library("torchvision.models").get_model(name, weights=None, **options).state_dict()
        ours = library("timm").create_model(row.model or name, pretrained=False).state_dict()
    return {} if set(theirs) == set(ours) else dict(zip(theirs, ours, strict=True))


def _rebuild_first_convolution(network: torch.nn.Module, channels: int) -> None:
    """Replace the first convolution by one of ``channels`` inputs, in place."""
    from torch import nn

    from overread.networks.small import initialise

    name, old = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if old.in_channels == channels:
        return
    new = nn.Conv2d(
        channels, old.out_channels, cast("Any", old.kernel_size), cast("Any", old.stride),
        cast("Any", old.padding), bias=old.bias is not None, device=old.weight.device,
    )  # fmt: skip
    initialise(new)
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, new)


@checked
def layer(network: torch.nn.Module, name: str) -> torch.nn.Module:
    """A network's layer by name; ``trunk.`` and ``neck.`` may be left out. Raises :class:`ArgumentError`.

    >>> layer(build("lenet5", outputs=2), "c3").out_channels
    16
    """
    modules = dict(network.named_modules())
    for prefix in ("", "trunk.", "neck."):
        if name and prefix + name in modules:
            return modules[prefix + name]
    known = [known.removeprefix("trunk.").removeprefix("neck.") for known in modules if known]
    raise ArgumentError("the network has no such layer", given=repr(name), todo=nearest(name, known))


@checked
def library(name: str) -> Any:
    """The module ``torchvision.models`` or ``timm``.

    Raises :class:`UnavailableError` if it is not installed, or does not fit the torch that is: a compiled torchvision
    works with one release of torch only, and timm imports it.
    """
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        package = name.partition(".")[0]
        installed = ", ".join(f"{each} {_version(each)}" for each in ("torch", "torchvision", "timm"))
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            todo = f"run: pip install {package}"
            raise UnavailableError(f"{package} is not installed", given=installed, todo=todo) from error
        raise UnavailableError(
            f"{package} cannot be imported; most likely torch and torchvision do not fit each other",
            given=f"{installed}; {' '.join(str(error).split())[:200]}",
            todo="install a pair that fits, both from one index: pip install --upgrade torch torchvision timm (tried: torch "
            "2.14.1 with torchvision 0.29.1)",
        ) from error  # fmt: skip


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
