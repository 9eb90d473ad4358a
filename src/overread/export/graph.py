"""A model as one module for other programs: pixels from 0 to 1 in, probabilities out, every shape but the batch fixed.

What changes its shape with its data, or has no counterpart elsewhere, is written in another way that gives the same
numbers: the images of a case all go through the body, and what is missing counts as nothing afterwards; a member's own
size is two matrix products, and so is adaptive pooling.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from overread.core.errors import InputError, checked
from overread.images.preprocess import Preprocess
from overread.learning.device import mean_over, standardise
from overread.learning.ensemble import Committee, Member, sides_of
from overread.learning.model import Model
from overread.networks.fusion import Fused
from overread.networks.numeric_inputs import require_pixels_alone
from overread.networks.taps import Tapped


class Whole(nn.Module):
    """Normalisation, network, the mean over orientations, softmax or sigmoid, and the unit of a quantity."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        about = model.about
        self.network = portable(model.network, about.preprocess)
        self.task, self.scale = about.target.task, about.scale
        self.views, self.sides = about.recipe.views, sides_of(model.network)
        self.images, self.axes = about.preprocess, len(about.preprocess.size)
        self.mean_image: NDArray[Any] | None = model.mean_image

    def forward(self, pixels: Tensor) -> Tensor:
        """Probabilities (B, K) of images (B, C, H, W), volumes (B, C, D, H, W) or cases (B, V, C, …) from 0 to 1."""
        together = self.sides > 0
        flat = pixels.flatten(0, 1) if together else pixels
        x = standardise(flat, self.images, self.mean_image)
        x = x.unflatten(0, (-1, int(pixels.shape[1]))) if together else x
        outputs = mean_over(self.network, x, self.views, self.axes)  # which lays them out plainly, as tracers want
        return self.task.unscaled(self.task.probabilities(outputs), self.scale)  # type: ignore[arg-type, return-value]


@checked
def whole(model: Model) -> Whole:
    """The module of a model, of weights of its own, ready to be traced on a CPU.

    Raises :class:`InputError` naming the part that no other program can calculate.
    """
    require_exportable(model.network)
    made = Whole(model).cpu().eval().to(memory_format=torch.contiguous_format)
    for parameter in made.parameters():
        parameter.requires_grad_(False)
    return made


@checked
def require_exportable(network: nn.Module) -> None:
    """Raise :class:`InputError` for what is calculated outside torch: descriptors of the image; and
    :class:`UnavailableError` for numbers beside the pixels."""
    require_pixels_alone(network, "a graph for other programs", "train without --inputs to take the model elsewhere")
    names = sorted({name for part in network.modules() if isinstance(part, Tapped) for name in part.descriptors})
    if names:
        raise InputError("the descriptors of this model are calculated by OpenCV and numpy, and cannot stand in a graph",
                         given=", ".join(names), todo="train without them: --set descriptors=[]; layers of a network can be exported")  # fmt: skip


# -- the same numbers in fixed shapes ---------------------------------------------------------------------------------


@checked
def portable(network: nn.Module, preprocess: Preprocess) -> nn.Module:
    """A copy of ``network`` whose shapes depend on nothing but the batch."""
    if isinstance(network, Committee):
        members = [_PortableMember(cast("Member", member), preprocess) for member in network.members]
        return _PortableCommittee(members, network.shares)
    made = copy.deepcopy(network)
    if isinstance(made, Fused):
        made.body = _fixed(made.body, preprocess)
        return _PortableCase(made)
    return _fixed(made, preprocess)


class _PortableCase(nn.Module):
    """A :class:`Fused` whose body sees black where an image is missing; its features count as 0 all the same."""

    def __init__(self, fused: Fused) -> None:
        super().__init__()
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        mask = ~x.flatten(2)[..., 0].isnan()  # (B, V)
        images = torch.where(x.isnan(), 0.0, x)
        features = self.fused.body.features(images.flatten(0, 1)).unflatten(0, (-1, int(x.shape[1])))
        features = features * mask[..., None].to(features.dtype)
        return self.fused.head(self.fused.fuse(features, mask))


class _PortableMember(nn.Module):
    """A :class:`Member` whose resizing is a product with two matrices, which bilinear interpolation is."""

    def __init__(self, member: Member, whole: Preprocess) -> None:  # type: ignore[override]
        super().__init__()
        own = _resized(whole, member.size)
        self.network, self.same, self.sides = portable(member.network, own), member.same, len(member.size)  # type: ignore[arg-type]
        self.register_buffer("scale", member.get_buffer("scale").clone())
        self.register_buffer("shift", member.get_buffer("shift").clone())
        self.resizes = member.other_size
        if member.other_size:
            for name, have, want in zip(("down", "across"), whole.size, member.size, strict=True):
                self.register_buffer(name, _bilinear(have, want))

    def forward(self, x: Tensor) -> Tensor:
        if self.resizes:
            x = self.get_buffer("down") @ x @ self.get_buffer("across").T
        if not self.same:
            shape = (-1, *([1] * self.sides))
            x = x * self.get_buffer("scale").view(shape) + self.get_buffer("shift").view(shape)
        return self.network(x)


class _PortableCommittee(nn.Module):
    def __init__(self, members: Iterable[nn.Module], shares: Iterable[float]) -> None:
        super().__init__()
        self.members, self.shares = nn.ModuleList(members), tuple(shares)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([share * member(x) for share, member in zip(self.shares, self.members, strict=True)]).sum(0)


class _FixedPool(nn.Module):
    """Adaptive average pooling of maps of one known size: a matrix of shares along each side."""

    def __init__(self, have: tuple[int, ...], want: tuple[int, ...]) -> None:
        super().__init__()
        self.sides = len(have)
        for axis, (old, new) in enumerate(zip(have, want, strict=True)):
            self.register_buffer(f"shares{axis}", functional.adaptive_avg_pool1d(torch.eye(old)[None], new)[0].T)

    def forward(self, x: Tensor) -> Tensor:
        last = self.sides + 1  # counted from the front: the tracer writes negative ones as they are
        for axis in range(self.sides):
            x = (x.transpose(2 + axis, last) @ self.get_buffer(f"shares{axis}").transpose(0, 1)).transpose(
                2 + axis, last
            )
        return x


def _fixed(network: nn.Module, preprocess: Preprocess) -> nn.Module:
    """``network``, in place, for images of one size: position embeddings resized once, uneven pooling as matrices."""
    for part in network.modules():
        if getattr(part, "dynamic_img_size", False):  # of timm's transformers
            part.set_input_size(img_size=preprocess.size)  # type: ignore[operator]
    _fix_pooling(network, preprocess)
    return network


def _fix_pooling(network: nn.Module, preprocess: Preprocess) -> None:
    pools = {
        name: part
        for name, part in network.named_modules()
        if isinstance(part, (nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d))
    }
    seen: dict[str, tuple[int, ...]] = {}

    def noting(name: str) -> Any:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen[name] = tuple(inputs[0].shape[2:])

        return note

    hooks = [part.register_forward_pre_hook(noting(name)) for name, part in pools.items()]
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, preprocess.channels, *preprocess.size))
    finally:
        for hook in hooks:
            hook.remove()
    for name, have in seen.items():
        size: Any = pools[name].output_size
        want = (
            (size,) * len(have)
            if isinstance(size, int)
            else tuple(new or old for new, old in zip(size, have, strict=True))
        )
        if any(old % new for old, new in zip(have, want, strict=True)):
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, _FixedPool(have, want))


def _bilinear(have: int, want: int) -> Tensor:
    """(want, have) weights of antialiased bilinear interpolation along one side: what it makes of the unit vectors."""
    unit = torch.eye(have)[None, None]  # (1, 1, have, have)
    return functional.interpolate(unit, (want, have), mode="bilinear", antialias=True, align_corners=False)[0, 0]


def _resized(preprocess: Preprocess, size: tuple[int, ...]) -> Preprocess:
    return replace(preprocess, size=size)
