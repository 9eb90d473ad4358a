"""Linear heads on frozen features: all folds and penalties in one batched L-BFGS.

The objective of problem k is ``mean_i m_ki w_i loss(x_i W_k + b_k, y_i) + penalty_k / 2 |W_k|²``: penalised logistic
regression for classes and findings, ridge regression for a quantity. Limited-memory BFGS after Nocedal & Wright 2006,
algorithm 7.4 and 7.5, with Armijo backtracking; every problem has its own history and step, one matrix product serves
them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.cases.split import folds as folds_of
from overread.core.errors import InputError, checked, require
from overread.core.files import fingerprint, publish
from overread.core.progress import Progress, Say, silent, unheard
from overread.images.preprocess import Preprocess
from overread.learning.checkpoint import digest_of
from overread.learning.device import mean_over, to_tensor
from overread.learning.loader import TrainingData
from overread.learning.recipe import Recipe
from overread.networks.state_dict import read_tensors, write_tensors
from overread.tasks.task import Task

_MEMORY, _ARMIJO, _HALVINGS = 10, 1e-4, 20
_CELLS = 20_000_000


@dataclass(frozen=True, eq=False)
class Heads:
    """``weight`` (K, F, outputs) and ``bias`` (K, outputs) of K problems, for raw (not standardised) features."""

    weight: Tensor
    bias: Tensor
    loss: Tensor  # (K,) final objective


@checked
def fit_heads(
    features: Tensor,
    labels: Tensor,
    task: Task,
    *,
    weights: Tensor,
    masks: Tensor,
    penalties: Tensor,
    steps: int = 150,
    tolerance: float = 1e-5,
    progress: Progress = silent,
) -> Heads:
    """Fit K linear heads at once.

    ``features`` (N, F) float32; ``labels`` as :attr:`Cases.labels`; ``weights`` (classes,) or (findings,); ``masks``
    (K, N) of 0 and 1: which rows problem k sees; ``penalties`` (K,). Features are standardised inside each problem by
    the rows that it sees, and the heads are returned for raw features.
    """
    require(masks.shape == (len(penalties), len(features)), "masks must be (problems, rows)", given=tuple(masks.shape))
    counts = masks.sum(dim=1, keepdim=True).clamp(min=1)  # (K, 1)
    mean = masks @ features / counts  # (K, F)
    std = ((masks @ features.square()) / counts - mean.square()).clamp(min=1e-12).sqrt() + 1e-4
    share = masks / counts  # (K, N)
    chunk = max(1, _CELLS // (len(penalties) * task.outputs))  # rows at a time: bounded memory at any N

    def objective(parameters: Tensor) -> tuple[Tensor, Tensor]:
        scaled = parameters[:, :-1] / std[:, :, None]  # (K, F, C): standardisation folded into the weights
        bias = parameters[:, -1] - torch.einsum("kf,kfc->kc", mean, scaled)
        loss = penalties / 2 * parameters[:, :-1].square().sum(dim=(1, 2))
        total, pulled = torch.zeros_like(bias), torch.zeros_like(scaled)
        for rows in torch.arange(len(features), device=features.device).split(chunk):
            outputs = torch.einsum("nf,kfc->knc", features[rows], scaled) + bias[:, None]
            each, slope = task.loss_and_slope(outputs, labels[rows], weights)  # (K, n), (K, n, C)
            slope = slope * share[:, rows, None]
            loss = loss + (each * share[:, rows]).sum(dim=1)
            total += slope.sum(dim=1)
            pulled += torch.einsum("nf,knc->kfc", features[rows], slope)
        pulled = (pulled - mean[:, :, None] * total[:, None]) / std[:, :, None]
        return loss, torch.cat([pulled + penalties[:, None, None] * parameters[:, :-1], total[:, None]], 1)

    start = features.new_zeros(len(penalties), features.shape[1] + 1, task.outputs)
    best, loss = _lbfgs(objective, start, steps, tolerance, progress)
    weight = best[:, :-1] / std[:, :, None]
    return Heads(weight, best[:, -1] - torch.einsum("kf,kfc->kc", mean, weight), loss)


def _lbfgs(objective, start, steps, tolerance, progress):  # type: ignore[no-untyped-def]
    """Minimise K problems at once; returns (K, …) parameters and (K,) objectives."""
    x = start
    f, g = objective(x)
    moves: list[Tensor] = []
    turns: list[Tensor] = []
    for step in range(steps):
        progress("fitting linear heads", step, steps)
        direction = -_two_loop(g, moves, turns)
        descent = _dot(direction, g)
        direction = torch.where((descent < 0)[:, None, None], direction, -g)
        new, f_new, g_new, moved = _backtrack(objective, x, f, g, direction, first=not moves)
        gain = (f - f_new) / f.abs().clamp(min=1e-8)
        moves, turns = [*moves, new - x][-_MEMORY:], [*turns, g_new - g][-_MEMORY:]
        x, f, g = new, f_new, g_new
        if not moved.any() or bool((gain < tolerance * 1e-1).all()):
            break
    progress("fitting linear heads", steps, steps)
    return x, f


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(dim=(1, 2))


def _two_loop(g: Tensor, moves: list[Tensor], turns: list[Tensor]) -> Tensor:
    """Nocedal & Wright, algorithm 7.4; a pair without curvature is passed over."""
    q, kept = g, []
    for s, y in zip(reversed(moves), reversed(turns), strict=True):
        curve = _dot(s, y)
        rho = torch.where(curve > 1e-12, 1.0 / curve.clamp(min=1e-12), 0.0)
        alpha = rho * _dot(s, q)
        q = q - alpha[:, None, None] * y
        kept.append((rho, alpha, s, y))
    if moves:
        s, y = moves[-1], turns[-1]
        scale = _dot(s, y) / _dot(y, y).clamp(min=1e-20)
        q = q * torch.where(scale > 0, scale, 1.0)[:, None, None]
    for rho, alpha, s, y in reversed(kept):
        q = q + (alpha - rho * _dot(y, q))[:, None, None] * s
    return q


def _backtrack(objective, x, f, g, direction, first):  # type: ignore[no-untyped-def]
    """Halve each problem's step until it descends enough (Armijo); problems that cannot stay where they are."""
    slope = _dot(direction, g)
    size = 1.0 / _dot(g, g).sqrt().clamp(min=1.0) if first else torch.ones_like(f)
    done = torch.zeros_like(f, dtype=torch.bool)
    new, f_new, g_new = x, f, g
    for _ in range(_HALVINGS):
        trial = x + size[:, None, None] * direction
        f_trial, g_trial = objective(trial)
        good = (f_trial <= f + _ARMIJO * size * slope) & ~done
        pick = good[:, None, None]
        new, g_new = torch.where(pick, trial, new), torch.where(pick, g_trial, g_new)
        f_new = torch.where(good, f_trial, f_new)
        done = done | good
        if bool(done.all()):
            break
        size = torch.where(done, size, size / 2)
    return new, f_new, g_new, done


@checked
def choose_penalty(
    features: Tensor,
    labels: Tensor,
    task: Task,
    *,
    weights: Tensor,
    folds: NDArray,
    penalties: tuple[float, ...],
    progress: Progress = silent,
) -> tuple[Heads, float, list[dict[str, float]]]:
    """Fit every penalty on every fold and on all rows, choose the penalty by the held-out loss.

    ``folds`` (N,) whole numbers: patients never stand in two. Returns the head of the chosen penalty on all rows
    (K = 1), the penalty, and a table of held-out losses.
    """
    numbers = np.unique(folds)
    fold = torch.as_tensor(folds, device=features.device)
    inside = torch.stack([fold != k for k in [*numbers, numbers.max() + 1]]).to(features.dtype)  # the last: all rows
    count = len(penalties)
    heads = fit_heads(features, labels, task, weights=weights, masks=inside.repeat_interleave(count, 0),
                      penalties=features.new_tensor(penalties).repeat(len(inside)), progress=progress)  # fmt: skip
    outside = (1 - inside[:-1]).repeat_interleave(count, 0)
    some = slice(0, len(outside))
    outputs = torch.einsum("nf,kfc->knc", features, heads.weight[some]) + heads.bias[some][:, None]
    each, _ = task.loss_and_slope(outputs, labels, weights)
    held = ((each * outside).sum(1) / outside.sum(1).clamp(min=1)).reshape(-1, count).mean(0)  # (penalties,)
    best = int(held.argmin())
    pick = slice(len(outside) + best, len(outside) + best + 1)
    table = [{"penalty": p, "held-out loss": float(h)} for p, h in zip(penalties, held, strict=True)]
    return Heads(heads.weight[pick], heads.bias[pick], heads.loss[pick]), penalties[best], table


@checked
def fit_head(
    network: nn.Module,
    data: TrainingData,
    recipe: Recipe,
    preprocess: Preprocess,
    labels: Tensor,
    weights: Tensor,
    *,
    key: object,
    cache: Path | None = None,
    device: str = "cpu",
    mean_image: NDArray | None = None,
    progress: Progress = silent,
    say: Say = unheard,
) -> tuple[dict[str, Any], ...]:
    """Fit the network's head, in place, on frozen features of the training rows; the penalty by folds of patients.

    ``labels`` of all rows, ``weights`` of the classes, ``key`` as in :func:`extract`. Returns the held-out loss of each
    penalty, and which was chosen.
    """
    views = recipe.views if recipe.method == "features" else 1
    features = extract(network, data.images, preprocess, key=key, views=views, cache=cache, device=device,
                       mean_image=mean_image, progress=progress, say=say)  # fmt: skip
    training, rows = data.cases.take(data.training), torch.from_numpy(data.training)
    heads, penalty, table = choose_penalty(
        features[rows], labels[rows], data.cases.target.task, weights=weights,
        folds=folds_of(training, k=recipe.folds, seed=recipe.seed), penalties=recipe.penalties, progress=progress,
    )  # fmt: skip
    head = network.get_submodule("head")
    with torch.no_grad():
        head.weight.copy_(heads.weight[0].T)  # type: ignore[operator, union-attr]
        head.bias.copy_(heads.bias[0])  # type: ignore[operator, union-attr]
    return tuple({**row, "chosen": row["penalty"] == penalty} for row in table)


# -- frozen features: one pass over the images through a pretrained network, cached by content --------------------


_BATCH = 16


@checked
def extract(
    network: nn.Module,
    images: NDArray[Any],
    preprocess: Preprocess,
    *,
    key: object,
    views: int = 1,
    cache: Path | None = None,
    device: str = "cpu",
    mean_image: NDArray | None = None,
    progress: Progress = silent,
    say: Say = unheard,
) -> Tensor:
    """Pooled features (N, F) float32 of packed images, the mean over ``views``.

    ``key``: plain data that names weights, layers and images; equal keys share a cache entry, which carries a checksum:
    a damaged one is made anew, and ``say`` hears of it.
    """
    path = cache / "features" / f"{fingerprint([key, preprocess, views])}.safetensors" if cache else None
    if path and path.exists():
        if (found := _cached(path, len(images))) is not None:
            return found
        say(f"  the features of {len(images)} images were damaged in the cache: they are calculated again")
    features = _forward(network.eval(), images, preprocess, views, device, mean_image, progress)
    if path:
        with publish(path) as beside:
            write_tensors({"features": features}, beside, {"digest": digest_of({"features": features})})
    return features


def _cached(path: Path, count: int) -> Tensor | None:
    """The features of a cache entry; None where its checksum does not match."""
    try:
        tensors, header = read_tensors(path)
    except InputError:
        return None
    found = tensors.get("features")
    whole = found is not None and len(found) == count and header.get("digest") == digest_of(tensors)
    return found if whole else None


@torch.inference_mode()
def _forward(
    network: Any,
    images: NDArray[Any],
    preprocess: Preprocess,
    views: int,
    device: str,
    mean_image: Any,
    progress: Progress,
) -> Tensor:
    parts = []
    for start in range(0, len(images), _BATCH):
        x = to_tensor(images[start : start + _BATCH], preprocess, mean_image, device)
        parts.append(mean_over(network.features, x, views).cpu())
        progress("extracting features", min(start + _BATCH, len(images)), len(images))
    return torch.cat(parts)
