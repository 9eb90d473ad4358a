"""The model: a network with everything that belongs to it, saved without pickle."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.cases.cases import WHOLE, Planes
from overread.cases.extra_inputs import ExtraInput
from overread.core.display import Overview, Panel, Shown
from overread.core.errors import InputError, UnavailableError, checked, one_of, require
from overread.core.files import (
    FORMAT,
    EqualByDigest,
    build,
    fingerprint,
    later,
    plain,
    publish,
    read_fields,
    read_json,
    read_rows,
    require_file,
    write_json,
)
from overread.core.identifiers import among
from overread.images.preprocess import Preprocess
from overread.learning.checkpoint import digest_of
from overread.learning.device import seeded
from overread.learning.ensemble import Committee, Member, shared_preprocess
from overread.learning.recipe import Recipe
from overread.networks import backbones
from overread.networks import weights as stores
from overread.networks.fusion import Fused, Pool
from overread.networks.instance_heads import Cutting, layout_of
from overread.networks.numeric_inputs import WithNumbers
from overread.networks.own import OwnNetwork, own_name
from overread.networks.small import Network
from overread.networks.stages import stage_of, stages
from overread.networks.state_dict import read_tensors, renamed, write_tensors
from overread.networks.taps import Tapped
from overread.networks.unet import UNet, build_unet
from overread.predictions import PredictedBy, Predictions
from overread.tasks.target import Target

_MEAN_IMAGE = "preprocess.mean_image"
#: The name under which a model stands that has no network: classical descriptors alone.
NO_BACKBONE = "descriptors"
#: Longest ``model.json`` and ``history.json`` in bytes: four million hashed patients.
MAX_JSON = 100_000_000


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

    def __post_init__(self) -> None:
        require(self.parameters >= 0, "a network cannot have fewer than no parameters", given=self.parameters)


@dataclass(frozen=True)
class Decision:
    """Something that was chosen for the user, and why."""

    what: str
    choice: str
    why: str

    @property
    def line(self) -> str:
        """As the terminal tells it."""
        return f"  {self.what}: {self.choice} — {self.why}"


@dataclass(frozen=True)
class Rung:
    """What one rung gave.

    ``score``: the snapshot score (mean AUC of classes and findings) on the held-out cases, with its interval ``low`` …
    ``high``; ``gain`` over the best rung before it, paired by patient, with the interval ``gain_low`` … ``gain_high`` and
    its standard error; of the first rung NaN. ``began`` and ``seconds`` by the clock of the run.
    """

    name: str
    what: str
    began: float
    seconds: float
    score: float
    low: float
    high: float
    gain: float = math.nan
    gain_low: float = math.nan
    gain_high: float = math.nan
    taken: bool = True
    why: str = "the first rung"
    judged: str = ""

    @property
    def line(self) -> str:
        """As the terminal tells it."""
        return f"  {self.name}: {self.score:.3f} ({self.low:.3f}–{self.high:.3f}), {'kept' if self.taken else 'not kept'} — {self.why}"


@dataclass(frozen=True)
class About:
    """What ``model.json`` holds. ``seen`` are hashed patients of training and tuning, by ``salt``.

    ``names_salt``: what the codes of the study's cases and patients were made with; "" where names were kept.
    ``planes``: what it was shown of volumes; ``views``: the views of a case, in the order of their places in the network,
    where they have places. ``identifiers``: whether two forms of one are the same patient, see
    :mod:`overread.core.identifiers`; blank: of before this was asked. ``members`` and ``shares`` of an ensemble: what
    each of its networks is, and how much it counts; the patients that any of them has seen stand in ``seen``.
    ``extra_inputs``: the columns that it is shown beside the pixels, in their order, as the training rows scaled them.
    ``cutting``: how objects are cut out of what it says, of a model that outlines objects; ``pixel_size``: microns a
    pixel of the images that it learned from, 0 where that is not known.
    """

    recipe: Recipe
    preprocess: Preprocess
    target: Target
    backbone: Origin
    seen: tuple[str, ...] = ()
    salt: str = ""
    names_salt: str = ""
    planes: Planes = WHOLE
    views: tuple[str, ...] = ()
    scale: tuple[float, float] = (0.0, 1.0)  # mean and standard deviation of a quantity in training
    decisions: tuple[Decision, ...] = ()
    identifiers: str = ""
    members: tuple[About, ...] = ()
    shares: tuple[float, ...] = ()
    extra_inputs: tuple[ExtraInput, ...] = later(())
    cutting: Cutting | None = later(None)  # noqa: RUF009
    pixel_size: float = later(0.0)
    format: int = FORMAT

    def __post_init__(self) -> None:
        mean, deviation = self.scale
        require(bool(np.isfinite(mean) and np.isfinite(deviation) and deviation > 0),
                "the scale of a quantity needs a mean and a deviation above 0", given=self.scale)  # fmt: skip
        require(bool(self.salt) or not self.seen, "hashed patients cannot be known again without their salt",
                given=f"{len(self.seen)} patients")  # fmt: skip
        require(self.format >= 1, "there is no such format of a model", given=self.format)
        sound = len(self.shares) == len(self.members) and all(0 < share <= 1 for share in self.shares)
        require(sound and not any(member.members for member in self.members),
                "each member of an ensemble is a single network with a share above 0", given=self.shares)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Model(EqualByDigest, Shown):
    """A trained network with its contract. ``history`` is a list of one dict per epoch (or per penalty), ``rungs`` the
    ladder that led to it. ``held_out``, of a model that was just made of folds: what it says of patients of training and
    tuning, each by networks that have not seen him, with the column ``fold``; not saved with it."""

    network: nn.Module
    about: About
    mean_image: NDArray[np.float32] | None = None
    history: tuple[dict[str, Any], ...] = field(default=())
    rungs: tuple[Rung, ...] = ()
    held_out: Predictions | None = None

    @property
    def target(self) -> Target:
        """What it predicts."""
        return self.about.target

    @property
    def digest(self) -> str:
        """Hash of weights and contract."""
        return fingerprint([digest_of(self.network.state_dict()), self.about])

    def to_frame(self) -> pd.DataFrame:
        """A row an epoch (or a penalty), in the columns of ``history.json``."""
        return pd.DataFrame(list(self.history))

    def overview(self) -> Overview:
        """What it is, what it was trained with and on, what was decided, and the ladder that led to it."""
        about, origin = self.about, self.about.backbone
        facts = (
            ("network", origin.name), ("parameters", origin.parameters), ("method", about.recipe.method),
            ("initial weights", origin.weights_source or ("none" if not origin.pretrained else "pretrained")),
            ("licence of these", origin.licence), ("predicts", ", ".join(about.target.names[:20])),
            ("image size", " × ".join(map(str, about.preprocess.size))), ("members", len(about.members) or 1),
            ("patients seen", len(about.seen)), ("hash", self.digest),
        )  # fmt: skip
        rungs = tuple((r.name, f"{r.score:.3f} ({r.low:.3f}–{r.high:.3f})", r.taken, r.why) for r in self.rungs)
        decisions = tuple((d.what, d.choice, d.why) for d in about.decisions)
        panels = (Panel(("fact", "value"), tuple(row for row in facts if row[1] != "")),
                  Panel(("rung", "on held-out cases", "kept", "why"), rungs, "Ladder"),
                  Panel(("what", "choice", "why"), decisions, "Decided for you"))  # fmt: skip
        return Overview(str(self), panels, origin.notes)

    def __str__(self) -> str:
        origin = self.about.backbone
        return f"{origin.name} ({origin.parameters:,} parameters), {self.about.recipe.method}, for {', '.join(self.target.names)}"

    __repr__ = __str__

    @classmethod
    def of_members(cls, members: Sequence[Model], shares: Sequence[float], seen: About) -> Model:
        """An ensemble of models; those with a share of 0 stay out, and of one model there is no ensemble.

        ``seen``: the contract whose patients, salts and decisions the ensemble takes over. Raises
        :class:`ArgumentError` where the members' images cannot be made of one another.
        """
        held = [(model, share) for model, share in zip(members, shares, strict=True) if share > 0]
        first = max(held, key=lambda each: each[1])[0]
        base = replace(first.about, seen=seen.seen, salt=seen.salt, decisions=seen.decisions)
        if len(held) == 1:
            return replace(first, about=base)
        abouts = tuple(replace(model.about, seen=(), salt="", decisions=()) for model, _ in held)
        names = dict.fromkeys(about.backbone.name for about in abouts)
        origin = Origin(
            f"ensemble of {len(abouts)}: {', '.join(names)}", sum(about.backbone.parameters for about in abouts),
            any(about.backbone.pretrained for about in abouts), _joined(about.backbone.licence for about in abouts),
            _joined(about.backbone.weights_source for about in abouts), notes=tuple(dict.fromkeys(note for about in abouts for note in about.backbone.notes)),
        )  # fmt: skip
        whole = shared_preprocess([about.preprocess for about in abouts])
        views = max(about.recipe.views for about in abouts)
        about = replace(base, backbone=origin, preprocess=whole, members=abouts, shares=tuple(share for _, share in held),
                        recipe=first.about.recipe.changed(views=views))  # fmt: skip
        network = Committee(
            [Member(model.network, each.preprocess, whole) for (model, _), each in zip(held, abouts, strict=True)],
            about.shares,
        )
        return cls(network.eval(), about, None, first.history)

    def has_seen(self, patients: Sequence[str]) -> int:
        """How many of these patients were in training or tuning, or may have been: in another written form."""
        return int(self.saw(sorted(set(patients))).sum())

    def saw(self, patients: Sequence[str]) -> NDArray[np.bool_]:
        """(N,) which of these patients :meth:`has_seen` counts."""
        about = self.about
        if not about.salt:
            return np.zeros(len(patients), bool)
        return np.asarray(among(patients, about.seen, about.salt, about.identifiers or "ask") != "")

    @property
    def facts(self) -> PredictedBy:
        """What it says of itself beside its predictions."""
        about = self.about
        return PredictedBy(self.digest, about.target, about.seen, about.salt, about.identifiers or "ask")

    def save(self, folder: str | Path) -> Path:
        """Write ``model.safetensors``, ``model.json``, ``history.json`` and ``ladder.json`` into ``folder``."""
        folder = Path(folder)
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.network.state_dict().items()}
        if self.mean_image is not None:
            tensors[_MEAN_IMAGE] = torch.from_numpy(np.ascontiguousarray(self.mean_image))
        with publish(folder / "model.safetensors") as beside:
            write_tensors(tensors, beside, {"format": "pt"})
        write_json(folder / "history.json", self.history)
        write_json(folder / "ladder.json", self.rungs)
        write_json(folder / "model.json", plain(self.about) | {"weights digest": digest_of(tensors)})
        return folder

    @classmethod
    def load(cls, folder: str | Path, network: nn.Module | None = None) -> Model:
        """Read what :meth:`save` wrote; nothing is unpickled, evaluated or imported by a name that stands in a file.

        ``network``: of a model of one's own network, another of the same class, which takes its weights: a copy of it.

        Raises :class:`InputError` where a file is missing, no file, too large, of a later format, damaged, or does not
        fit the others; it takes no longer than reading the files.
        """
        folder = Path(folder)
        held = read_fields(_small(folder / "model.json"))
        digest = held.pop("weights digest", "")
        if isinstance(saved := held.get("format", FORMAT), int) and saved > FORMAT:
            raise InputError(
                "the model was saved by a later overread", given=f"format {saved}", todo="upgrade overread"
            )
        about = build(About, held, where="model.json")
        tensors, _ = read_tensors(folder / "model.safetensors")
        found = digest_of(tensors)
        mean_image = tensors.pop(_MEAN_IMAGE, None)
        _refuse_wrong_normalisation(about.preprocess, mean_image)
        with torch.device("meta"):  # a network without weights costs nothing, whatever its size
            empty = _network_of(about, network)
        _refuse_misfits(empty, renamed(empty, tensors), folder)
        if digest not in ("", found):
            raise InputError("the weights are not those that model.json was written with, or they are damaged",
                             given=f"{folder}: their checksum differs", todo="take both files from one training")  # fmt: skip
        _refuse_broken(tensors)
        whole = _network_of(about, network)
        whole.load_state_dict(renamed(whole, tensors))
        return cls(
            whole.eval(), about, None if mean_image is None else mean_image.numpy(), _history(folder), _rungs(folder)
        )


def _network_of(about: About, own: nn.Module | None) -> nn.Module:
    """The empty network of a contract; one's own has to be given again, for nothing is imported by name."""
    name = about.backbone.name
    if "." not in name:
        require(own is None, "the model is of no network of your own", given=name, todo="load it without network=")
        return make_network(about)
    if own is None:
        raise InputError("the model is of a network of your own, which has to be given again", given=name,
                         todo=f"ov.Model.load(folder, network={name.rpartition('.')[2]}(…))")  # fmt: skip
    if own_name(own) != name:
        raise InputError("the network is of another class than the model's", given=f"{own_name(own)}, the model's: {name}",
                         todo="give one made by the class that was trained")  # fmt: skip
    return OwnNetwork(own)


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))


def _small(path: Path) -> Path:
    """The path of a file of text that is not too large to be read."""
    size = require_file(path).stat().st_size
    if size > MAX_JSON:
        raise InputError(f"{path.name} is far too large", given=f"{size:,} bytes; at most {MAX_JSON:,}")
    return path


def _history(folder: Path) -> tuple[dict[str, Any], ...]:
    path = folder / "history.json"
    held = read_json(_small(path)) if path.exists() else []
    if not isinstance(held, list) or not all(isinstance(row, dict) for row in held):
        raise InputError("history.json does not hold a list of epochs", given=type(held).__name__)
    return tuple(held)


def _rungs(folder: Path) -> tuple[Rung, ...]:
    path = folder / "ladder.json"
    return read_rows(Rung, _small(path)) if path.exists() else ()


def _refuse_broken(tensors: dict[str, Tensor]) -> None:
    """Raise :class:`InputError` for weights with which nothing can be predicted."""
    broken = [name for name, tensor in tensors.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    broken += [name for name, tensor in tensors.items() if name.endswith("running_var") and bool((tensor < 0).any())]
    if broken:
        raise InputError("the weights of the model hold values that are not finite numbers, or negative variances",
                         given=f"{len(broken)} tensors, first {broken[0][:80]}", todo="train it again")  # fmt: skip


def _refuse_wrong_normalisation(preprocess: Preprocess, mean_image: Tensor | None) -> None:
    if not len(preprocess.mean) == len(preprocess.std) == preprocess.channels:
        given = f"{len(preprocess.mean)} and {len(preprocess.std)} for {preprocess.channels}"
        raise InputError("model.json lacks the mean and std of each channel", given=given)
    wanted = (preprocess.shape, torch.float32) if preprocess.normalise == "mean image" else None
    found = None if mean_image is None else (tuple(mean_image.shape), mean_image.dtype)
    if found != wanted:
        shown = [" of ".join(map(str, each)) if each else "none" for each in (found, wanted)]
        given = f"normalisation {preprocess.normalise!r}: {shown[0]}, wanted {shown[1]}"
        raise InputError("the model's mean image does not belong to its preprocessing", given=given)
    if mean_image is not None and not bool(((mean_image >= 0) & (mean_image <= 1)).all()):
        raise InputError("the model's mean image lies outside of black and white", given="values beyond 0 … 1")


@checked
def initial_network(
    recipe: Recipe,
    preprocess: Preprocess,
    outputs: int,
    *,
    weights: str | Path | None = None,
    places: int = 0,
    pool: Pool | None = None,
    extra: Sequence[ExtraInput] = (),
) -> tuple[nn.Module, Origin]:
    """The network of a recipe with its initial weights: drawn from the seed, or pretrained ones from a file.

    With ``layers``, ``pooling`` or ``descriptors``, the method ``features`` gets a head on these; without a backbone, on
    descriptors alone. ``places``: views that have their place in a fusion; ``pool``: the task's own
    :meth:`~overread.tasks.task.Task.pooled`, for the fusion ``late``; ``extra``: what is shown beside the pixels. Raises
    :class:`UnavailableError` where ``features`` or ``finetune`` would work on random weights.
    """
    if not recipe.backbone:
        with seeded(recipe.seed, 0, 0, "initial weights of the fusion"):
            return _whole(_with_taps(None, recipe, preprocess, outputs), recipe, outputs, places, pool, extra), Origin(NO_BACKBONE, 0)  # fmt: skip
    found = stores.find(recipe.backbone, folder=weights) if weights else None
    if found is None and recipe.method != "scratch":
        raise UnavailableError(f"{recipe.method} needs pretrained weights of {recipe.backbone}", given=repr(weights),
                               todo="give their file, or use the method scratch")  # fmt: skip
    with seeded(recipe.seed, 0, 0, "initial weights"):
        network = _built(recipe.backbone, recipe, preprocess, outputs)
    origin = Origin(recipe.backbone, sum(p.numel() for p in network.parameters()))
    if found is not None:
        drawn = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        loaded = stores.load_into(network, found)
        _redraw(network, drawn, recipe.fresh)
        origin = Origin(origin.name, origin.parameters, True, loaded.licence, loaded.source, loaded.sha256, tuple(loaded.notes))  # fmt: skip
    with seeded(recipe.seed, 0, 0, "initial weights of the fusion"):
        return _whole(_with_taps(network, recipe, preprocess, outputs), recipe, outputs, places, pool, extra), origin


def _redraw(network: nn.Module, drawn: dict[str, Tensor], fresh: int) -> None:
    """Put back what was drawn for the last ``fresh`` stages; raises :class:`ArgumentError` where there are fewer."""
    found = stages(network)
    require(fresh <= len(found), "the network has fewer stages than are to be drawn anew", given=f"fresh = {fresh} of {len(found)}: "
            + ", ".join(stage.name for stage in found))  # fmt: skip
    for name, tensor in network.state_dict().items() if fresh else ():
        if len(found) - fresh <= stage_of(name, found) < len(found):
            tensor.copy_(drawn[name])


@checked
def own_network(network: nn.Module) -> tuple[nn.Module, Origin]:
    """A copy of one's own network, with the weights that it brings, and where it came from."""
    return OwnNetwork(network), Origin(own_name(network), sum(p.numel() for p in network.parameters()))


@checked
def make_network(about: About) -> nn.Module:
    """The empty network that a model's contract describes."""
    if about.members:
        members = [Member(make_network(each), each.preprocess, about.preprocess) for each in about.members]
        return Committee(members, about.shares)
    outputs, recipe, name = about.target.outputs, about.recipe, about.backbone.name
    if about.target.task.dense:
        return make_unet(recipe, about.preprocess, outputs)
    places, pool = len(about.views), about.target.task.pooled
    if name == NO_BACKBONE:
        tapped = _with_taps(None, recipe, about.preprocess, outputs)
        return _whole(tapped, recipe, outputs, places, pool, about.extra_inputs)
    sides = backbones.BACKBONES[one_of(name, backbones.BACKBONES, "the backbone")].dimensions
    if len(about.preprocess.size) != sides:
        raise InputError(f"the backbone {name} does not take images of this size", given=about.preprocess.size)
    network = _built(name, recipe, about.preprocess, outputs)
    tapped = _with_taps(network, recipe, about.preprocess, outputs)
    return _whole(tapped, recipe, outputs, places, pool, about.extra_inputs)


@checked
def make_unet(recipe: Recipe, preprocess: Preprocess, classes: int) -> UNet:
    """The U-Net of a recipe, with fresh weights, for outlines of objects of so many classes."""
    asked = recipe.segmentation
    layout = layout_of(asked, classes)
    return build_unet(
        recipe.backbone, outputs=layout.channels, channels=preprocess.channels, depth=asked.depth, stride=asked.stride
    )


def _whole(
    network: nn.Module, recipe: Recipe, outputs: int, places: int, pool: Pool | None, extra: Sequence[ExtraInput]
) -> nn.Module:
    """The network with the numbers beside the pixels, under the recipe's fusion; as it is where it has neither."""
    if extra:
        scales = [(each.mean, each.std) for each in extra]
        network = WithNumbers(network, scales, outputs=outputs, dropout=recipe.dropout)
    if recipe.fusion == "single":
        return network
    return Fused(
        network,
        recipe.fusion,
        outputs=outputs,
        places=places,
        dropout=recipe.dropout,
        learned=recipe.method != "features",
        pool=pool,
        units=recipe.recurrent,
    )


def _built(name: str, recipe: Recipe, preprocess: Preprocess, outputs: int) -> Network:
    return backbones.build(
        name, outputs=outputs, channels=preprocess.channels, dropout=recipe.dropout, filters=recipe.filters
    )


def _with_taps(network: Network | None, recipe: Recipe, preprocess: Preprocess, outputs: int) -> nn.Module:
    """``network``, or what a recipe of frozen features wants to see of it and of the image, under one head."""
    if network is not None and (recipe.method != "features" or not recipe.taps_more):
        return network
    return Tapped(network, recipe.layers, preprocess, outputs, pooling=recipe.pooling, descriptors=recipe.descriptors,
                  codes=recipe.codes, bits=recipe.bits)  # fmt: skip


def _refuse_misfits(network: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    wanted, held = ({name: (tuple(tensor.shape), tensor.dtype) for name, tensor in each.items()}
                    for each in (network.state_dict(), tensors))  # fmt: skip
    wrong = sorted(name for name in {*wanted, *held} if wanted.get(name) != held.get(name))
    if wrong:
        shown = [" of ".join(map(str, each[wrong[0]])) if wrong[0] in each else "none" for each in (held, wanted)]
        given = f"{folder}: {len(wrong)} tensors, first {wrong[0][:80]}: {shown[0]}, wanted {shown[1]}"
        raise InputError("the weights do not fit the model's description", given=given)
