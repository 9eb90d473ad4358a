"""Embeddings: what a layer of a model says of each case, as one vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from overread.cases.cases import Cases
from overread.core.errors import InputError, checked, require
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.images.preprocess import Preprocess
from overread.learning.device import layout, pick_device
from overread.learning.ensemble import Committee
from overread.learning.inputs import inputs
from overread.learning.model import Model
from overread.networks.backbones import layer as layer_named
from overread.networks.fusion import Fused, spread
from overread.networks.numeric_inputs import WithNumbers
from overread.networks.stages import stages
from overread.networks.taps import Tapped, layers_to_tap, taps

#: What the head sees: the name of the last layer of every network.
FEATURES = "features"


@dataclass(frozen=True, eq=False)
class Embedded:
    """``vectors`` by layer, (M, F) float32, of M cases; ``rows`` (M,): the first row of each in the table.

    ``unreadable``: images of which there is nothing.
    """

    vectors: dict[str, NDArray[np.float32]]
    rows: NDArray[np.int64]
    unreadable: int = 0


@checked
def embed(
    model: Model, cases: Cases, layers: Sequence[str] = (FEATURES,), *, device: str = "", threads: int = 0,
    progress: Progress = silent, say: Say = unheard,
) -> Embedded:  # fmt: skip
    """What ``layers`` say of each case, pooled over space: one vector a case, in the order of their first images.

    Of images that the model sees one by one, it is the mean over those of a case; of an ensemble, the features of its
    members side by side, each at length 1. ``features`` is what the head sees; other layers are those of
    :func:`layers_of`, or any of the network's by name: of a fused network those of the body, averaged over the images
    that are there, of an ensemble those of its heaviest member. Raises :class:`ArgumentError` for an unknown layer,
    :class:`InputError` if no image can be read.
    """
    require(len(layers) > 0, "name at least one layer")
    network = layout(model.network, pick_device(device)).eval()
    for name in layers:
        if name != FEATURES:
            layer_named(_inner(model)[0], name)
    names = cases.table["case"].astype(str).to_numpy()
    order, first, code = np.unique(names, return_index=True, return_inverse=True)
    sums: dict[str, NDArray[np.float64]] = {}
    seen, errors = np.zeros(len(order)), dict[int, str]()
    for batch in inputs(
        model,
        cases,
        device=device,
        threads=threads,
        errors=errors,
        progress=progress,
        say=say,
        doing="embedding images",
    ):
        whose = code[batch.rows.max(axis=1)]
        with torch.inference_mode():
            said = _said(network, batch.x, layers)
        for name, activations in said.items():
            held = sums.setdefault(name, np.zeros((len(order), activations.shape[1])))
            np.add.at(held, whose, activations.float().cpu().numpy())
        np.add.at(seen, whose, 1)
    if not seen.any():
        raise InputError("none of the images can be read", given=next(iter(errors.values()), "an empty table"))
    there = np.argsort(first)[seen[np.argsort(first)] > 0]
    made = {name: (held[there] / seen[there, None]).astype(np.float32) for name, held in sums.items()}
    for name, vectors in made.items():
        if not np.isfinite(vectors).all():
            raise InputError("a layer says what are no numbers", given=name,
                             todo="choose another layer, or train the model again")  # fmt: skip
    if errors:
        say(f"  {count(len(errors), 'image')} cannot be read and {'is' if len(errors) == 1 else 'are'} left out")
    return Embedded(made, first[there], len(errors))


@checked
def vectors_of(model: Model, x: Tensor, layer: str = FEATURES) -> NDArray[np.float32]:
    """What a layer says of a model's input x, (B, F); see :class:`overread.learning.inputs.Inputs`."""
    with torch.inference_mode():
        made = _said(layout(model.network, str(x.device)).eval(), x, [layer])[layer]
    return np.asarray(made.float().cpu().numpy(), np.float32)


@checked
def layers_of(model: Model) -> tuple[str, ...]:
    """The layers that are worth a try: ``features``, then the last of each resolution, nearest to the head first."""
    network, preprocess = _inner(model)
    if network is None:  # descriptors alone
        return (FEATURES,)
    if any(name == "trunk" for name, _ in network.named_children()):
        return (FEATURES, *reversed(layers_to_tap(network, preprocess)))
    return (FEATURES, *(stage.name for stage in reversed(stages(network))))


def _inner(model: Model) -> tuple[Any, Preprocess]:
    """The innermost network, whose layers have names, and what it is shown; None of a model without one."""
    network, preprocess = model.network, model.about.preprocess
    if isinstance(network, Committee):
        which = int(np.argmax(network.shares))
        network, preprocess = network.members[which].network, model.about.members[which].preprocess  # type: ignore[assignment]
    if isinstance(network, Fused):
        network = network.body
    if isinstance(network, WithNumbers):
        network = network.body
    return (network.body if isinstance(network, Tapped) else network), preprocess


def _said(network: Any, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Vectors (B, F) of each layer, of what the network sees."""
    made = {FEATURES: _features(network, x)} if FEATURES in layers else {}
    named = [name for name in layers if name != FEATURES]
    return made | (_tapped(network, x, named) if named else {})


def _features(network: Any, x: Tensor) -> Tensor:
    if isinstance(network, Committee):
        members: list[Any] = list(network.members)
        each = [_features(member.network, member.prepared(x)).float() for member in members]
        return torch.cat([functional.normalize(features, dim=1) for features in each], dim=1)
    if hasattr(network, "features"):
        return network.features(x)  # type: ignore[no-any-return]
    return _before_last_layer(network, x)


def _before_last_layer(network: nn.Module, x: Tensor) -> Tensor:
    """What the last linear layer of somebody's own network sees, (B, F), tokens averaged; its outputs where it has none."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    kept: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        kept.append(given[0])

    hook = linear[-1].register_forward_pre_hook(keep) if linear else None
    try:
        outputs = network(x)
    finally:
        if hook is not None:
            hook.remove()
    found = kept[-1] if kept else outputs
    return found.flatten(1, -2).mean(1) if found.ndim > 2 else found


def _tapped(network: Any, x: Tensor, names: list[str]) -> dict[str, Tensor]:
    """The pooled activations of named layers of the innermost network."""
    if isinstance(network, Committee):
        heaviest: Any = network.members[int(np.argmax(network.shares))]
        return _tapped(heaviest.network, heaviest.prepared(x), names)
    if isinstance(network, Fused):
        mask = network.present(x)
        share = (mask / mask.sum(1, keepdim=True).clamp(min=1))[..., None]
        made = _tapped(network.body, x[mask], names)
        return {name: (spread(vectors.float(), mask) * share).sum(1) for name, vectors in made.items()}
    if isinstance(network, WithNumbers):
        return _tapped(network.body, x[:, : -network.extra], names)
    if isinstance(network, Tapped):
        return _tapped(network.body, x, names)
    return dict(zip(names, taps(network, names, x), strict=True))
