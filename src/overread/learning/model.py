"""The model: a network with everything that belongs to it, saved without pickle."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.cases.cases import WHOLE, Planes
from overread.core.errors import InputError, UnavailableError, checked
from overread.core.files import FORMAT, EqualByDigest, build, fingerprint, hashed, plain, publish, read_json, write_json
from overread.images.preprocess import Preprocess
from overread.learning.checkpoint import digest_of
from overread.learning.device import seeded
from overread.learning.recipe import Recipe
from overread.networks import backbones
from overread.networks import weights as stores
from overread.networks.small import Network
from overread.networks.state_dict import renamed
from overread.tasks.target import Target

_MEAN_IMAGE = "preprocess.mean_image"


@dataclass(frozen=True)
class Origin:
    """Where a network came from: its name, size, and the initial weights with their licence."""

    name: str
    parameters: int
    pretrained: bool = False
    licence: str = ""
    weights_source: str = ""
    weights_sha256: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """Something that was chosen for the user, and why."""

    what: str
    choice: str
    why: str


@dataclass(frozen=True)
class About:
    """What ``model.json`` holds. ``seen`` are hashed patients of training and tuning, by ``salt``.

    ``names_salt``: what the codes of the study's cases and patients were made with; "" where names were kept.
    ``planes``: what it was shown of volumes.
    """

    recipe: Recipe
    preprocess: Preprocess
    target: Target
    backbone: Origin
    seen: tuple[str, ...] = ()
    salt: str = ""
    names_salt: str = ""
    planes: Planes = WHOLE
    scale: tuple[float, float] = (0.0, 1.0)  # mean and standard deviation of a quantity in training
    decisions: tuple[Decision, ...] = ()
    format: int = FORMAT


class Tapped(nn.Module):
    """A network's pooled activations of several layers, concatenated, under one linear head."""

    def __init__(self, body: nn.Module, layers: tuple[str, ...], width: int, outputs: int) -> None:
        super().__init__()
        self.body, self.layers, self.width = body, layers, width
        self.head = nn.Linear(width, outputs)

    def features(self, x: Tensor) -> Tensor:
        """Pooled activations (B, F)."""
        return backbones.tap(self.body, self.layers, x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, outputs)."""
        return self.head(self.features(x))


@dataclass(frozen=True, eq=False)
class Model(EqualByDigest):
    """A trained network with its contract. ``history`` is a list of one dict per epoch (or per penalty)."""

    network: nn.Module
    about: About
    mean_image: NDArray[np.float32] | None = None
    history: tuple[dict[str, Any], ...] = field(default=())

    @property
    def target(self) -> Target:
        """What it predicts."""
        return self.about.target

    @property
    def digest(self) -> str:
        """Hash of weights and contract."""
        return fingerprint([digest_of(self.network.state_dict()), plain(self.about)])

    def __str__(self) -> str:
        origin = self.about.backbone
        return f"{origin.name} ({origin.parameters:,} parameters), {self.about.recipe.method}, for {', '.join(self.target.names)}"

    __repr__ = __str__

    def has_seen(self, patients: list[str]) -> int:
        """How many of these patients were in training or tuning."""
        return len(set(hashed(sorted(set(patients)), self.about.salt)) & set(self.about.seen)) if self.about.salt else 0

    def save(self, folder: str | Path) -> Path:
        """Write ``model.safetensors``, ``model.json`` and ``history.json`` into ``folder``."""
        folder = Path(folder)
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.network.state_dict().items()}
        if self.mean_image is not None:
            tensors[_MEAN_IMAGE] = torch.from_numpy(np.ascontiguousarray(self.mean_image))
        with publish(folder / "model.safetensors") as beside:
            safetensors.torch.save_file(tensors, beside, metadata={"format": "pt"})
        write_json(folder / "history.json", self.history)
        write_json(folder / "model.json", self.about)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> Model:
        """Read what :meth:`save` wrote; nothing is unpickled or evaluated.

        Raises :class:`InputError` where a file is missing, of a later format, or does not fit the network.
        """
        folder = Path(folder)
        about = build(About, read_json(folder / "model.json"), where="model.json")
        if about.format > FORMAT:
            given = f"format {about.format}"
            raise InputError("the model was saved by a later overread", given=given, todo="upgrade overread")
        try:
            tensors = safetensors.torch.load_file(folder / "model.safetensors")
        except (OSError, safetensors.SafetensorError) as error:
            raise InputError("the weights of the model cannot be read", given=f"{folder}: {error}") from error
        mean_image = tensors.pop(_MEAN_IMAGE, None)
        network = make_network(about)
        _load_exactly(network, renamed(network, tensors), folder)
        history = read_json(folder / "history.json") if (folder / "history.json").exists() else []
        return cls(network.eval(), about, None if mean_image is None else mean_image.numpy(), tuple(history))


@checked
def initial_network(
    recipe: Recipe, preprocess: Preprocess, outputs: int, *, weights: str | Path | None = None
) -> tuple[nn.Module, Origin]:
    """The network of a recipe with its initial weights: drawn from the seed, or pretrained ones from a file.

    With ``layers``, the method ``features`` gets a head on several of them. Raises :class:`UnavailableError` where
    ``features`` or ``finetune`` would work on random weights.
    """
    found = stores.find(recipe.backbone, folder=weights) if weights else None
    if found is None and recipe.method != "scratch":
        raise UnavailableError(f"{recipe.method} needs pretrained weights of {recipe.backbone}", given=repr(weights),
                               todo="give their file, or use the method scratch")  # fmt: skip
    with seeded(recipe.seed, 0, 0, "initial weights"):
        network = _built(recipe.backbone, recipe, preprocess, outputs)
    origin = Origin(recipe.backbone, sum(p.numel() for p in network.parameters()))
    if found is not None:
        loaded = stores.load_into(network, found)
        origin = Origin(origin.name, origin.parameters, True, loaded.licence, loaded.source, loaded.sha256, tuple(loaded.notes))  # fmt: skip
    tapped = recipe.layers and recipe.method == "features"
    return (with_taps(network, recipe.layers, preprocess, outputs) if tapped else network), origin


@checked
def make_network(about: About) -> nn.Module:
    """The empty network that a model's contract describes."""
    outputs, recipe = about.target.outputs, about.recipe
    network = _built(about.backbone.name, recipe, about.preprocess, outputs)
    return with_taps(network, recipe.layers, about.preprocess, outputs) if recipe.layers else network


def _built(name: str, recipe: Recipe, preprocess: Preprocess, outputs: int) -> Network:
    return backbones.build(name, outputs=outputs, channels=preprocess.channels, dropout=recipe.dropout)


@checked
def with_taps(network: nn.Module, layers: tuple[str, ...], preprocess: Preprocess, outputs: int) -> Tapped:
    """``network`` under a head on several of its layers; the width is found by one forward pass of zeros."""
    with torch.inference_mode():
        blank = torch.zeros(1, preprocess.channels, *preprocess.size)
        width = backbones.tap(network.eval(), layers, blank).shape[1]
    return Tapped(network, layers, width, outputs)


def _load_exactly(network: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    wanted, held = ({name: tensor.shape for name, tensor in each.items()} for each in (network.state_dict(), tensors))
    wrong = sorted(name for name in {*wanted, *held} if wanted.get(name) != held.get(name))
    if wrong:
        given = f"{folder}: {len(wrong)} tensors, first {wrong[0]}"
        raise InputError("the weights do not fit the model's description", given=given)
    network.load_state_dict(tensors)
