"""Every backbone in one table, and one function that builds any of them.

The table can be read without torch; building imports what the network needs. Accuracies are ImageNet-1k,
single centre crop, of the weights that :mod:`overread.networks.weights` fetches, as torchvision and timm
publish them. The licence is that of code and weights; ImageNet's own images were given for research and
teaching.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, cast

from overread.core.errors import ArgumentError, UnavailableError, checked, nearest, one_of, require

if TYPE_CHECKING:
    import torch

    import overread.networks.small


@dataclass(frozen=True)
class Backbone:
    """One row of the table: what a network is, costs and reaches.

    ``parameters`` with the published head (1,000 classes; ours with ten and one channel) and without
    auxiliary heads. ``input`` is the published side in pixels, ``minimum`` the smallest that works.
    ``default_tap`` names the layer whose maps explain best. ``url`` is where the published weights lie,
    empty for what is trained from scratch.
    """

    name: str
    library: Literal["torchvision", "timm", "overread"]
    parameters: int
    input: int
    top1: float | None
    top5: float | None
    licence: str
    source: str
    dimensions: int = 2
    minimum: int = 32
    default_tap: str = "trunk.features"
    url: str = ""


_BSD = "BSD-3-Clause"
_ALEX = "Krizhevsky 2014, arXiv:1404.5997"
_VGG = "Simonyan 2014, arXiv:1409.1556"
_GOOGLENET = "Szegedy 2014, arXiv:1409.4842"
_INCEPTION = "Szegedy 2015, arXiv:1512.00567"
_RESNET = "He 2015, arXiv:1512.03385"
_DENSENET = "Huang 2016, arXiv:1608.06993"
_MOBILE2 = "Sandler 2018, arXiv:1801.04381"
_MOBILE3 = "Howard 2019, arXiv:1905.02244"
_EFFICIENT = "Tan 2019, arXiv:1905.11946"
_SQUEEZE = "Iandola 2016, arXiv:1602.07360"
_CONVNEXT = "Liu 2022, arXiv:2201.03545"
_APACHE = "Apache-2.0"
# weights carried over from TensorFlow's or timm's, which are Apache-2.0
_FROM_TENSORFLOW = (_GOOGLENET, _INCEPTION, _EFFICIENT)

# name, parameters, input, top-1, top-5, paper, minimum, default tap, file
_FROM_TORCHVISION: tuple[tuple[Any, ...], ...] = (
    ("alexnet", 61_100_840, 224, 56.522, 79.066, _ALEX, 63, "features.11", "alexnet-owt-7be5be79.pth"),
    ("vgg16", 138_357_544, 224, 71.592, 90.382, _VGG, 32, "features.29", "vgg16-397923af.pth"),
    ("vgg19", 143_667_240, 224, 72.376, 90.876, _VGG, 32, "features.35", "vgg19-dcbb9e9d.pth"),
    ("googlenet", 6_624_904, 224, 69.778, 89.53, _GOOGLENET, 15, "inception5b", "googlenet-1378be20.pth"),
    ("inception_v3", 23_834_568, 299, 77.294, 93.45, _INCEPTION, 75, "Mixed_7c",
     "inception_v3_google-0cc3c7bd.pth"),
    ("resnet18", 11_689_512, 224, 69.758, 89.078, _RESNET, 16, "layer4", "resnet18-f37072fd.pth"),
    ("resnet34", 21_797_672, 224, 73.314, 91.42, _RESNET, 16, "layer4", "resnet34-b627a593.pth"),
    ("resnet50", 25_557_032, 224, 76.13, 92.862, _RESNET, 16, "layer4", "resnet50-0676ba61.pth"),
    ("resnet101", 44_549_160, 224, 77.374, 93.546, _RESNET, 16, "layer4", "resnet101-63fe2227.pth"),
    ("resnet152", 60_192_808, 224, 78.312, 94.046, _RESNET, 16, "layer4", "resnet152-394f9c45.pth"),
    ("densenet121", 7_978_856, 224, 74.434, 91.972, _DENSENET, 29, "relu", "densenet121-a639ec97.pth"),
    ("mobilenet_v2", 3_504_872, 224, 71.878, 90.286, _MOBILE2, 16, "features", "mobilenet_v2-b0353104.pth"),
    ("mobilenet_v3_small", 2_542_856, 224, 67.668, 87.402, _MOBILE3, 16, "features",
     "mobilenet_v3_small-047dcff4.pth"),
    ("mobilenet_v3_large", 5_483_032, 224, 74.042, 91.34, _MOBILE3, 16, "features",
     "mobilenet_v3_large-8738ca79.pth"),
    ("efficientnet_b0", 5_288_548, 224, 77.692, 93.532, _EFFICIENT, 16, "features",
     "efficientnet_b0_rwightman-7f5810bc.pth"),
    ("efficientnet_b1", 7_794_184, 240, 78.642, 94.186, _EFFICIENT, 16, "features",
     "efficientnet_b1_rwightman-bac287d4.pth"),
    ("efficientnet_b2", 9_109_994, 288, 80.608, 95.31, _EFFICIENT, 16, "features",
     "efficientnet_b2_rwightman-c35c1473.pth"),
    ("efficientnet_b3", 12_233_232, 300, 82.008, 96.054, _EFFICIENT, 16, "features",
     "efficientnet_b3_rwightman-b3899882.pth"),
    ("squeezenet1_0", 1_248_424, 224, 58.092, 80.42, _SQUEEZE, 21, "features", "squeezenet1_0-b66bff10.pth"),
    ("squeezenet1_1", 1_235_496, 224, 58.178, 80.624, _SQUEEZE, 17, "features", "squeezenet1_1-b8a52dc0.pth"),
    ("convnext_tiny", 28_589_128, 224, 82.52, 96.146, _CONVNEXT, 32, "features",
     "convnext_tiny-983f1562.pth"),
)  # fmt: skip

# as above; the file is the tag on the hub of timm's organisation
_FROM_TIMM: tuple[tuple[Any, ...], ...] = (
    ("convnext_atto", 3_695_520, 288, 77.008, 93.702, _CONVNEXT, 32, "stages", "convnext_atto.d2_in1k"),
    ("efficientnet_lite0", 4_652_008, 224, 75.48, 92.522, _EFFICIENT, 16, "bn2",
     "efficientnet_lite0.ra_in1k"),
    ("resnet10t", 5_435_488, 224, 68.358, 88.04, _RESNET, 16, "layer4", "resnet10t.c3_in1k"),
)  # fmt: skip

# name, parameters, input, paper, minimum, default tap, dimensions
_OURS: tuple[tuple[Any, ...], ...] = (
    ("lenet5", 61_706, 32, "LeCun 1998, doi:10.1109/5.726791", 16, "tanh3", 2),
    ("cnn_small", 94_186, 28, "overread", 8, "relu3", 2),
    ("resnet_tiny", 77_754, 28, _RESNET, 8, "block3", 2),
    ("resnet_small", 308_074, 28, _RESNET, 8, "block3", 2),
    ("resnet3d_small", 898_474, 28, "Hara 2017, arXiv:1708.07632", 8, "block3", 3),
)


def _rows() -> list[Backbone]:
    rows = []
    for name, parameters, side, top1, top5, paper, minimum, tapped, file in _FROM_TORCHVISION:
        licence = _APACHE if paper in _FROM_TENSORFLOW else _BSD
        row = Backbone(name, "torchvision", parameters, side, top1, top5, licence, paper)
        url = f"https://download.pytorch.org/models/{file}"
        rows.append(replace(row, minimum=minimum, default_tap=f"trunk.{tapped}", url=url))
    for name, parameters, side, top1, top5, paper, minimum, tapped, tag in _FROM_TIMM:
        row = Backbone(name, "timm", parameters, side, top1, top5, _APACHE, paper)
        url = f"https://huggingface.co/timm/{tag}/resolve/main/model.safetensors"
        rows.append(replace(row, minimum=minimum, default_tap=f"trunk.{tapped}", url=url))
    for name, parameters, side, paper, minimum, tapped, dimensions in _OURS:
        row = Backbone(name, "overread", parameters, side, None, None, _APACHE, paper, dimensions, minimum)
        rows.append(replace(row, default_tap=f"trunk.{tapped}"))
    return rows


#: Every backbone by name, ours first.
BACKBONES: dict[str, Backbone] = {row.name: row for row in sorted(_rows(), key=lambda r: r.library)}


@checked
def build(name: str, *, outputs: int, channels: int = 3, dropout: float = 0.0) -> overread.networks.small.Network:
    """A network with fresh weights: features, maps and a linear head of ``outputs``.

    Images are (B, channels, H, W), volumes (B, channels, D, H, W), each side at least the table's
    ``minimum``. Weights are drawn from torch's generator: fork and seed it around the call. Auxiliary heads
    are left out and the first convolution takes any number of channels. Activations work in place, as
    published (SqueezeNet's features are a quarter slower otherwise): for gradients with respect to the last
    maps use ``maps`` and ``pooled``, not hooks. Raises :class:`ArgumentError` for an unknown name,
    :class:`UnavailableError` if the library is missing.

    >>> build("lenet5", outputs=10, channels=1).width
    84
    """
    one_of(name, BACKBONES, "the backbone")
    require(outputs >= 1, "a network needs at least one output", given=outputs)
    require(channels >= 1, "a network needs at least one input channel", given=channels)
    require(0 <= dropout < 1, "dropout must lie in [0, 1)", given=dropout)
    makers = {"overread": _ours, "torchvision": _from_library, "timm": _from_library}
    return makers[BACKBONES[name].library](name, outputs=outputs, channels=channels, dropout=dropout)


def _ours(name: str, *, outputs: int, channels: int, dropout: float) -> overread.networks.small.Network:
    from overread.networks import small

    if name == "lenet5":
        return small.lenet5(outputs=outputs, channels=channels, dropout=dropout)
    if name == "cnn_small":
        return small.cnn_small(outputs=outputs, channels=channels, dropout=dropout)
    volume = BACKBONES[name].dimensions == 3
    widths = (16, 32, 64) if name == "resnet_tiny" else (32, 64, 128)
    return small.residual(
        name, outputs=outputs, channels=channels, dropout=dropout, widths=widths,
        dimensions=3 if volume else 2, stride=2 if volume else 1,
    )  # fmt: skip


def _from_library(name: str, *, outputs: int, channels: int, dropout: float) -> overread.networks.small.Network:
    from overread.networks.small import Network

    published = _published(name)
    _rebuild_first_convolution(published, channels)
    original, width = _classification_layer(published)
    trunk, neck = _cut(published, original)
    return Network(
        name, trunk, neck, width=width, outputs=outputs, channels=channels, dropout=dropout,
        original=original, recentre=name in ("googlenet", "inception_v3"),
    )  # fmt: skip


def _published(name: str) -> torch.nn.Module:
    """The library's own network, 1,000 classes, fresh, without auxiliary heads."""
    from overread.networks.small import initialise

    models = torchvision_models()
    if BACKBONES[name].library == "timm":
        return _timm().create_model(name, pretrained=False)
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):  # their own initialisation takes half a minute
        options = {"aux_logits": False, "transform_input": False, "init_weights": False}
    elif name.startswith("vgg"):
        options = {"init_weights": False}
    elif name.startswith("resnet"):
        options = {"zero_init_residual": True}
    network = models.get_model(name, weights=None, **options)
    if name in ("googlenet", "inception_v3", "alexnet") or name.startswith("vgg"):
        initialise(network)
    return network


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


def _classification_layer(network: torch.nn.Module) -> tuple[str, int]:
    """Name and inputs of the layer the head replaces: the last dense one, or SqueezeNet's 1×1 convolution."""
    from torch import nn

    dense = [(n, m.in_features) for n, m in network.named_modules() if isinstance(m, nn.Linear)]
    return dense[-1] if dense else ("classifier.1", 512)


_TAIL = ("avgpool", "global_pool", "dropout", "fc", "classifier", "head")


def _cut(network: torch.nn.Module, original: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The published network as trunk and neck; parts keep their names, so published state dicts fit."""
    from torch import nn

    parts = dict(network.named_children())
    trunk = OrderedDict((name, part) for name, part in parts.items() if name not in _TAIL)
    if type(network).__name__ == "DenseNet":
        trunk["relu"] = nn.ReLU()  # torchvision applies it as a function
    if "head" in parts:  # timm's ConvNeXt: pooling, norm and dense layer in one
        setattr(network.get_submodule("head"), original.rpartition(".")[2], nn.Identity())
        return nn.Sequential(trunk), nn.Sequential(OrderedDict(head=parts["head"]))
    neck: OrderedDict[str, nn.Module] = OrderedDict()
    neck["avgpool"] = parts.get("avgpool") or nn.AdaptiveAvgPool2d(1)
    between = _before_the_last(parts.get("classifier"), original)
    if between is None or not any(isinstance(part, nn.Flatten) for part in between.children()):
        neck["flatten"] = nn.Flatten(1)
    if between is not None:
        neck["classifier"] = between
    return nn.Sequential(trunk), nn.Sequential(neck)


def _before_the_last(classifier: torch.nn.Module | None, original: str) -> torch.nn.Module | None:
    """What stands in a classifier before its last layer, without a dropout at the end."""
    from torch import nn

    if not isinstance(classifier, nn.Sequential):
        return None
    names = [name for name, _ in classifier.named_children()]
    names = names[: names.index(original.rpartition(".")[2])]
    while names and isinstance(classifier.get_submodule(names[-1]), nn.Dropout):
        names.pop()
    return nn.Sequential(OrderedDict((n, classifier.get_submodule(n)) for n in names)) if names else None


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
def tap(network: torch.nn.Module, layers: Sequence[str], x: torch.Tensor) -> torch.Tensor:
    """The activations of named layers, averaged over space and concatenated, (B, sum of their channels).

    Where a layer runs more than once, its last activation counts. Hooks live inside the call only; training
    mode and gradients are the caller's. Raises :class:`ArgumentError` for an unknown layer. After Bar 2015
    (layers 5, 6, 7).

    >>> import torch
    >>> tap(build("lenet5", outputs=2), ["c1", "f6"], torch.zeros(4, 3, 32, 32)).shape
    torch.Size([4, 90])
    """
    import torch

    require(len(layers) > 0, "name at least one layer")
    found = [layer(network, name) for name in layers]
    kept: dict[int, torch.Tensor] = {}

    def keep(module: torch.nn.Module, _: Any, output: torch.Tensor) -> None:
        kept[id(module)] = output.mean(dim=tuple(range(2, output.ndim))) if output.ndim > 2 else output.clone()

    hooks = [module.register_forward_hook(keep) for module in dict.fromkeys(found)]
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat([kept[id(module)] for module in found], dim=1)


# Kept for the life of the process: the operators below vanish with it.
_OPERATORS: list[object] = []


def torchvision_models() -> ModuleType:
    """``torchvision.models``, also where its compiled part does not fit the torch that is installed.

    Such a torchvision cannot be imported, because it describes operators of boxes (``nms``) that nobody has
    defined. We define their names without code and import again. That is sound here: only classification
    networks are used, which are pure Python on torch's own operators; calling ``nms`` itself would still
    fail.
    """
    try:
        import torchvision.models as models
    except ImportError as error:
        raise UnavailableError("torchvision is not installed", todo="run: pip install torchvision") from error
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _OPERATORS:
            raise
        _define_missing_operators()
        import torchvision.models as models
    return models


def _define_missing_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _OPERATORS.append(library)
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported


def _timm() -> ModuleType:
    torchvision_models()  # timm imports it too
    try:
        import timm
    except ImportError as error:
        raise UnavailableError("timm is not installed", todo="run: pip install timm") from error
    return timm
