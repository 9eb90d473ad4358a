"""Is this map worth anything? Every map is checked beside maps that know nothing of the network.

The checks are those of Adebayo et al. 2018 (random weights), Petsiuk et al. 2018 (insertion and deletion), Sundararajan et
al. 2017 (completeness) and Arun et al. 2021 (place, repeatability, reproducibility); what they come to, see
:mod:`overread.explanation.verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from overread.core import random
from overread.core.errors import checked, require
from overread.explanation.checks.faithfulness import (
    Curves,
    Score,
    centred,
    insertion_deletion,
    points_at,
    precision_recall_area,
    random_maps,
)
from overread.explanation.checks.randomisation import (
    Likeness,
    Method,
    as_maps,
    cascade,
    edge_likeness,
    is_blank,
    likeness,
)
from overread.explanation.verdict import PAIRS, Checks
from overread.learning.ensemble import Committee, Member, sides_of

#: Random maps that a map has to be better than, each of them.
RANDOM_MAPS = 2


@checked
def check(
    method: Method, network: nn.Module, x: Tensor, *, target: int = 0, score: Score | None = None,
    made: Tensor | None = None, baseline: Tensor | None = None, mask: NDArray[np.bool_] | None = None,
    others: Sequence[nn.Module] | None = None, steps: int = 4, draws: int = 3, insertion_steps: int = 8, cell: int = 0,
    fill: str = "blurred", batch: int = 32, seed: int = 0, blind: Curves | None = None,
) -> Checks:  # fmt: skip
    """Every check of the map of one case ``x`` (1, [V,] C, [D,] H, W) for the output ``target``.

    ``method`` gives maps (B, [V,] [D,] H, W) of any network and images; ``made`` is its map, where it is at hand (1, …).
    ``score``: from outputs (B, K) to the number that is explained, by default the probability of ``target`` (softmax, of a
    single output sigmoid). ``baseline``: of a method that promises that its map adds up, the image that it starts from.
    ``mask``: where the finding is, of the map's shape without the batch. ``others``: networks trained on the same question
    that see the same images, by default the members of an ensemble; NaN where there is but one. ``steps`` and ``draws`` of
    the random weights, see :func:`~overread.explanation.checks.randomisation.cascade` (``steps=0`` leaves it out);
    ``insertion_steps``, ``cell``, ``fill`` and ``batch``, see
    :func:`~overread.explanation.checks.faithfulness.insertion_deletion` (0 steps leave it out). ``blind``: the curves of :func:`blind_curves` for this case with the same settings, which
    do not hang on the method and take most of the time.
    """
    require(len(x) == 1, "one case at a time is checked", given=tuple(x.shape))
    maps = method(network, x) if made is None else made
    values = as_maps(maps)[0]
    if is_blank(values) or not (values > 0).any():
        found = Checks(blank=is_blank(values), nothing=not (values > 0).any())
        chance = _chance(values, mask)
        return replace(
            found, auprc_random=chance, auprc=chance, hit=_blank_hit(values, mask), hit_by_chance=_share(mask)
        )
    sides = sides_of(network) or x.ndim - 2
    checks = Checks(edges=edge_likeness(values, x[0].cpu().numpy(), network))
    if baseline is not None:
        checks = replace(checks, completeness=completeness_gap(network, x, baseline, values, target))
    if steps:
        depths = cascade(method, network, x, maps=maps, steps=steps, draws=draws, seed=seed)[0]
        last = depths[-1]
        checks = replace(
            checks, rank=last.rank, signed=last.signed, ssim=last.ssim, cascade=tuple(step.rank for step in depths)
        )
    if insertion_steps:
        settings = {"steps": insertion_steps, "cell": cell, "fill": fill, "batch": batch, "seed": seed}
        score = score or probability_of(target)
        blind = blind or blind_curves(network, x, score, values.shape, **settings)  # type: ignore[arg-type]
        curves = insertion_deletion(network, x, values[None], score, **settings)  # type: ignore[arg-type]
        checks = _with_curves(checks, curves, blind)
    if mask is not None:
        areas = [precision_recall_area(each, mask) for each in (values, *_blind_maps(values.shape, sides, seed))]
        checks = replace(checks, auprc=areas[0], auprc_centre=areas[1], auprc_random=max(areas[2:]), hit=points_at(values, mask),
                         hit_by_chance=_share(mask))  # fmt: skip
    return _with_agreement(checks, method, network, x, others)


@checked
def blind_curves(
    network: nn.Module, x: Tensor, score: Score, shape: tuple[int, ...], *, steps: int = 8, cell: int = 0, fill: str = "blurred",
    batch: int = 32, seed: int = 0,
) -> Curves:  # fmt: skip
    """The curves of the maps that know nothing, a spot in the centre first, for one case whose maps have this shape."""
    maps = _blind_maps(shape, sides_of(network) or x.ndim - 2, seed)
    return insertion_deletion(network, x, maps, score, steps=steps, cell=cell, fill=fill, batch=batch, seed=seed)


def _blind_maps(shape: tuple[int, ...], sides: int, seed: int) -> NDArray[np.float64]:
    """A spot in the centre, then the random maps."""
    return np.concatenate([centred(shape, sides)[None], random_maps(shape, RANDOM_MAPS, seed, sides)])


def _with_curves(checks: Checks, own: Curves, blind: Curves) -> Checks:
    """With the areas of the map, of the spot, and of the random map with the largest effect."""
    inserted, deleted = blind.inserted.tolist(), blind.deleted.tolist()
    best = max(range(1, len(inserted)), key=lambda i: inserted[i] - deleted[i])
    return replace(
        checks, span=max(own.highest, blind.highest) - min(own.lowest, blind.lowest), insertion=float(own.inserted[0]),
        deletion=float(own.deleted[0]), insertion_centre=inserted[0], deletion_centre=deleted[0],
        insertion_random=inserted[best], deletion_random=deleted[best],
    )  # fmt: skip


def _chance(values: NDArray[Any], mask: NDArray[np.bool_] | None) -> float:
    """What a map that says nothing finds of a mask: its share of the area."""
    return precision_recall_area(np.zeros(values.shape), mask) if mask is not None else math.nan


def _blank_hit(values: NDArray[Any], mask: NDArray[np.bool_] | None) -> float:
    return 0.0 if mask is not None and mask.any() and not mask.all() else math.nan


def _share(mask: NDArray[np.bool_] | None) -> float:
    """How often a point at random lies in a mask: its share of the area; NaN where there is no mask, or it is empty or full."""
    return float(mask.mean()) if mask is not None and mask.any() and not mask.all() else math.nan


@checked
def probability_of(target: int) -> Score:
    """The score that is the probability of one class: softmax, or of a single output sigmoid.

    >>> probability_of(1)(torch.zeros(2, 2)).tolist()
    [0.5, 0.5]
    """

    def score(outputs: Tensor) -> Tensor:
        return (outputs.sigmoid() if outputs.shape[1] == 1 else outputs.softmax(dim=1))[:, target]

    return score


@checked
def completeness_gap(network: nn.Module, x: Tensor, baseline: Tensor, values: NDArray[Any], target: int = 0) -> float:
    """How much of the output a map (…) misses: |sum − (f(x) − f(baseline))| / |f(x) − f(baseline)|, f before softmax.

    Sundararajan, Taly & Yan 2017, proposition 1. NaN where image and baseline give the same output.
    """
    with torch.inference_mode():
        ends = network(torch.cat([x, baseline.expand_as(x)])).double()[:, target].cpu()
    change = float(ends[0] - ends[1])
    return abs(float(values.sum()) - change) / abs(change) if change else math.nan


# -- two trainings ----------------------------------------------------------------------------------------------------


@checked
def agreement(method: Method, networks: Sequence[nn.Module], x: Tensor) -> list[tuple[bool, Likeness]]:
    """Of each pair of networks trained on one question, whether they are of one kind, and how alike their maps of ``x`` are.

    ``x`` (1, …) is one case; a pair with a blank map is left out.
    """
    made = [(_kind(each), _own_map(method, each, x)) for each in networks]
    found = [(a[0] == b[0], likeness(a[1], b[1])) for a, b in combinations(made, 2)]
    return [(same, alike) for same, alike in found if math.isfinite(alike.rank)]


def _own_map(method: Method, network: nn.Module, x: Tensor) -> NDArray[np.float64]:
    """The map of one network; of an ensemble's member at the size of the ensemble's images."""
    if not isinstance(network, Member):
        return as_maps(method(network, x))[0]
    own = network.prepared(x)
    made = as_maps(method(network.network, own))[0]
    wanted = np.array(x.shape[-len(network.size) :]) / own.shape[-len(network.size) :]
    scale = [1.0] * (made.ndim - len(wanted)) + wanted.tolist()
    return made if (wanted == 1).all() else ndimage.zoom(made, scale, order=1, mode="nearest", grid_mode=True)


def _with_agreement(
    checks: Checks, method: Method, network: nn.Module, x: Tensor, others: Sequence[nn.Module] | None
) -> Checks:
    if others is None:
        others = list(network.members) if isinstance(network, Committee) else []
    found = agreement(method, others, x)
    same, other = ([alike for one, alike in found if one is kind] for kind in (True, False))
    if same:
        checks = replace(checks, repeated=_mean(same, "rank"), repeated_ssim=_mean(same, "ssim"))
    if other:
        checks = replace(checks, reproduced=_mean(other, "rank"), reproduced_ssim=_mean(other, "ssim"))
    return checks


def _mean(found: Sequence[Likeness], name: str) -> float:
    return float(np.mean([getattr(alike, name) for alike in found]))


def _kind(network: nn.Module) -> str:
    """The name of a network's architecture, below what wraps it."""
    inner: Any = network
    while isinstance(getattr(inner, "network", None) or getattr(inner, "body", None), nn.Module):
        inner = getattr(inner, "network", None) or inner.body
    return str(getattr(inner, "name", type(inner).__name__))


@checked
def between_patients(maps: Sequence[NDArray[Any]], patients: Sequence[str], *, seed: int = 0) -> float:
    """The mean SSIM of at most :data:`PAIRS` pairs of a network's maps of different patients: how alike maps are anyway.

    Arun 2021, figure 3: what maps of random weights must fall below. NaN where there is no such pair.
    """
    require(len(maps) == len(patients), "each map needs its patient", given=f"{len(maps)}, {len(patients)}")
    pairs = (
        [(i, j) for i, j in combinations(range(len(maps)), 2) if patients[i] != patients[j]] if len(maps) < 200 else []
    )
    if len(maps) >= 200:  # too many pairs to list
        drawn = random.integers(seed, np.arange(2)[:, None], np.arange(20 * PAIRS), "pairs of patients", len(maps))
        pairs = [(int(i), int(j)) for i, j in drawn.T if patients[i] != patients[j]]
    order = random.permutation(seed, 0, len(pairs), "pairs of patients")[:PAIRS]
    found = [likeness(maps[pairs[k][0]], maps[pairs[k][1]]).ssim for k in order]
    held = [value for value in found if math.isfinite(value)]
    return float(np.mean(held)) if held else math.nan
