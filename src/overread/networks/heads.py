"""Linear heads on frozen features, many problems at once: logistic regression, linear SVM, ridge, nearest class mean.

Problem k sees the rows i with ``m_ki`` = 1 and has an L2 penalty of its own; features are standardised by the rows that
it sees. With z = x W + b:

- ``logistic`` minimises ``mean_i m_ki w_i loss(z_i, y_i) + penalty_k / 2 |W|²``: penalised logistic regression for
  classes and findings, ridge regression for a quantity;
- ``svm`` the same with the squared hinge of each output against the rest (Fan 2008, LIBLINEAR, equation 2);
- ``ridge`` the same with the squared error of ±1, in closed form (Hoerl & Kennard 1970);
- ``nearest-mean`` gives the classes' means μ by ``W = (S + penalty I)⁻¹ μ``, S the covariance within classes: the
  nearest mean by a distance that shrinks from Mahalanobis's to Euclid's (Hastie 1995, penalised discriminant analysis).

The first two by limited-memory BFGS after Nocedal & Wright 2006, algorithm 7.4 and 7.5, with Armijo backtracking; every
problem has its own history and step, one matrix product serves them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from overread.core.errors import InputError, checked, one_of, require
from overread.core.progress import Progress, silent
from overread.networks.backbones import HEADS
from overread.tasks.task import Task

_MEMORY, _ARMIJO, _HALVINGS = 10, 1e-4, 20
_CELLS = 20_000_000


@dataclass(frozen=True, eq=False)
class Heads:
    """``weight`` (K, F, outputs) and ``bias`` (K, outputs) of K problems, for raw (not standardised) features."""

    weight: Tensor
    bias: Tensor

    def __getitem__(self, problems: slice) -> Heads:
        return Heads(self.weight[problems], self.bias[problems])

    def outputs(self, features: Tensor) -> Tensor:
        """What each head says (K, N, outputs) of features (N, F)."""
        return torch.einsum("nf,kfc->knc", features, self.weight) + self.bias[:, None]


@checked
def fit_heads(
    features: Tensor,
    labels: Tensor,
    task: Task,
    *,
    head: str = "logistic",
    weights: Tensor,
    masks: Tensor,
    penalties: Tensor,
    steps: int = 150,
    tolerance: float = 1e-5,
    progress: Progress = silent,
) -> Heads:
    """Fit K linear heads at once.

    ``features`` (N, F) float32; ``labels`` as :attr:`Cases.labels`; ``head`` of :data:`HEADS`; ``weights`` (classes,) or
    (findings,); ``masks`` (K, N) of 0 and 1: which rows problem k sees; ``penalties`` (K,). Features are standardised
    inside each problem by the rows that it sees, and the heads are returned for raw features. Raises
    :class:`InputError` for the means of classes where a task has none.
    """
    one_of(head, HEADS, "the head")
    require(masks.shape == (len(penalties), len(features)), "masks must be (problems, rows)", given=tuple(masks.shape))
    counts = masks.sum(dim=1, keepdim=True).clamp(min=1)  # (K, 1)
    mean, std = _moments(features, masks, counts)
    if head in _CLOSED:
        made = _CLOSED[head](features, labels, task, weights, masks, penalties, mean, std).to(features.dtype)
        return _raw(made[:, :-1], made[:, -1], mean, std)
    slope_of = {"logistic": task.loss_and_slope, "svm": task.hinge_and_slope}[head]
    share = masks / counts  # (K, N)
    chunk = max(1, _CELLS // (len(penalties) * task.outputs))  # rows at a time: bounded memory at any N

    def objective(parameters: Tensor) -> tuple[Tensor, Tensor]:
        scaled = parameters[:, :-1] / std[:, :, None]  # (K, F, C): standardisation folded into the weights
        bias = parameters[:, -1] - torch.einsum("kf,kfc->kc", mean, scaled)
        loss = penalties / 2 * parameters[:, :-1].square().sum(dim=(1, 2))
        total, pulled = torch.zeros_like(bias), torch.zeros_like(scaled)
        for rows in torch.arange(len(features), device=features.device).split(chunk):
            outputs = torch.einsum("nf,kfc->knc", features[rows], scaled) + bias[:, None]
            each, slope = slope_of(outputs, labels[rows], weights)  # (K, n), (K, n, C)
            slope = slope * share[:, rows, None]
            loss = loss + (each * share[:, rows]).sum(dim=1)
            total += slope.sum(dim=1)
            pulled += torch.einsum("nf,knc->kfc", features[rows], slope)
        pulled = (pulled - mean[:, :, None] * total[:, None]) / std[:, :, None]
        return loss, torch.cat([pulled + penalties[:, None, None] * parameters[:, :-1], total[:, None]], 1)

    start = features.new_zeros(len(penalties), features.shape[1] + 1, task.outputs)
    best, _ = _lbfgs(objective, start, steps, tolerance, progress)
    return _raw(best[:, :-1], best[:, -1], mean, std)


def _moments(features: Tensor, masks: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (K, F) of the rows that each problem sees."""
    mean = masks @ features / counts
    std = ((masks @ features.square()) / counts - mean.square()).clamp(min=1e-12).sqrt() + 1e-4
    return mean, std


def _raw(weight: Tensor, bias: Tensor, mean: Tensor, std: Tensor) -> Heads:
    """Heads for raw features from heads for standardised ones."""
    weight = weight / std[:, :, None]
    return Heads(weight, bias - torch.einsum("kf,kfc->kc", mean, weight))


# -- closed forms, from products of all pairs of features: those of a problem are those of all rows less those of the rest ---


def _products(
    features: Tensor, beside: Tensor, share: Tensor, masks: Tensor, mean: Tensor, std: Tensor
) -> Iterator[tuple[list[int], Tensor, Tensor, float]]:
    """For the problems that see the same rows: which, ``Zᵀ S Z``, ``Zᵀ S beside``, and the number of rows.

    Z (N, F + 1): features standardised as in these problems, and a column of ones; S the diagonal of ``share`` (N,);
    ``beside`` (N, C). In double precision, which a small penalty needs.
    """
    middle, width = features.mean(0).double(), features.shape[1]
    scale = features.std(0, correction=0).double() + 1e-4

    def products(rows: Tensor) -> Tensor:
        total = torch.zeros(width + 1, width + 1 + beside.shape[1], dtype=torch.float64)
        for some in rows.split(_ROWS):
            x = torch.ones(len(some), width + 1, dtype=torch.float64)
            x[:, :-1] = (features[some] - middle) / scale
            total += (x * share[some, None]).T @ torch.cat([x, beside[some]], 1)
        return total

    whole = products(torch.arange(len(features)))
    _, which = torch.unique(masks > 0, dim=0, return_inverse=True)
    for number in range(int(which.max()) + 1):
        problems = torch.nonzero(which == number)[:, 0].tolist()
        k = problems[0]
        seen = masks[k] > 0
        few = bool(seen.double().mean() < 0.5)
        made = products(torch.nonzero(seen)[:, 0]) if few else whole - products(torch.nonzero(~seen)[:, 0])
        stretch, move = scale / std[k], (middle - mean[k]) / std[k]  # what is left to do to standardise in the problem
        turn = torch.cat([stretch, stretch.new_ones(1)])[:, None]
        made = turn * made
        made[:-1] += move[:, None] * made[-1:]
        square = made[:, : width + 1] * turn.T
        square[:, :-1] += square[:, -1:] * move
        yield problems, square, made[:, width + 1 :], float(seen.sum())


_ROWS = 4096


def _ridge(
    features: Tensor, labels: Tensor, task: Task, weights: Tensor, masks: Tensor, penalties: Tensor,
    mean: Tensor, std: Tensor,
) -> Tensor:  # fmt: skip
    """Weighted least squares of each output on its aim; outputs with the same weights share their matrix."""
    aims, shares = (each.double() for each in task.aims(labels, weights))  # (N, C) both
    made = torch.zeros(len(masks), features.shape[1] + 1, aims.shape[1], dtype=torch.float64)
    columns, alike = torch.unique(shares, dim=1, return_inverse=True)
    for number, share in enumerate(columns.T):
        outputs = torch.nonzero(alike == number)[:, 0]
        for problems, square, beside, count in _products(features, aims[:, outputs], share, masks, mean, std):
            for problem in problems:
                made[problem][:, outputs] = _solved(square / count, float(penalties[problem]), beside / count)
    return made


def _nearest_mean(
    features: Tensor, labels: Tensor, task: Task, weights: Tensor, masks: Tensor, penalties: Tensor,
    mean: Tensor, std: Tensor,
) -> Tensor:  # fmt: skip
    """The linear part of minus half the squared distance from each group's mean, as the task contrasts the groups."""
    members, contrast = (each.double() for each in task.groups(labels))  # (N, G), (G, C)
    if not members.shape[1]:
        raise InputError(f"{task.summary} has no classes whose means could be the nearest", given="head nearest-mean",
                         todo="choose logistic, svm or ridge")  # fmt: skip
    made = torch.zeros(len(masks), features.shape[1] + 1, contrast.shape[1], dtype=torch.float64)
    share = members.sum(1)  # of every row that a group holds: 1, or the number of findings that are known
    beside = members / share.clamp(min=1)[:, None]
    for problems, square, sums, _ in _products(features, beside, share, masks, mean, std):
        counts = sums[-1]  # (G,) the last row belongs to the column of ones
        centres = sums[:-1] / counts.clamp(min=1e-9)  # (F, G)
        square[:-1, :-1] -= (centres * counts) @ centres.T
        square[:-1, -1], square[-1, :-1] = 0.0, 0.0
        for problem in problems:
            padded = torch.nn.functional.pad(centres, (0, 0, 0, 1))
            weight = _solved(square / counts.sum().clamp(min=1), float(penalties[problem]), padded)[:-1]  # (F, G)
            bias = -(centres * weight).sum(0) / 2
            bias = torch.where(counts > 0.5, bias, bias.min() - 10.0)  # of a group that nobody is in: far away
            made[problem] = torch.cat([weight @ contrast, (bias @ contrast)[None]])
    return made


_CLOSED = {"ridge": _ridge, "nearest-mean": _nearest_mean}


def _solved(matrix: Tensor, penalty: float, aim: Tensor) -> Tensor:
    """(matrix + penalty I)⁻¹ aim, without a penalty on the last row, which is the intercept."""
    ridge = torch.full((len(matrix),), penalty, dtype=matrix.dtype)
    ridge[-1] = 1e-12
    factor, failed = torch.linalg.cholesky_ex(matrix + torch.diag(ridge))
    if int(failed):  # nothing was seen that this output could learn from
        return torch.zeros_like(aim)
    return torch.cholesky_solve(aim, factor)


# -- outputs that mean what a probability says ---------------------------------------------------------------------------


@checked
def calibrate(outputs: Tensor, labels: Tensor, task: Task, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale (K, C) and shift (K, C) of outputs (K, N, C) that minimise the task's loss, and the mean losses (K,).

    Vector scaling (Guo 2017, arXiv:1706.04599, section 4.2) with scales that are above 0 and drawn towards each other, so that
    a rare class follows the others. Fit it on held-out outputs.
    """

    def objective(parameters: Tensor) -> tuple[Tensor, Tensor]:
        rates = parameters[:, 0].exp()  # (K, C)
        spread = parameters[:, 0] - parameters[:, 0].mean(1, keepdim=True)
        each, slope = task.loss_and_slope(outputs * rates[:, None] + parameters[:, 1][:, None], labels, weights)
        slope = slope / outputs.shape[1]
        steep = (slope * outputs).sum(1) * rates + 2 * _SPREAD * spread
        return each.mean(1) + _SPREAD * spread.square().sum(1), torch.stack([steep, slope.sum(1)], 1)

    start = outputs.new_zeros(len(outputs), 2, outputs.shape[2])
    start[:, 0] = -outputs.std(dim=(1, 2), keepdim=True)[..., 0].clamp(min=1e-6).log()
    best, _ = _lbfgs(objective, start, 100, 1e-5, silent)
    scale, shift = best[:, 0].exp(), best[:, 1]
    each, _ = task.loss_and_slope(outputs * scale[:, None] + shift[:, None], labels, weights)
    return scale, shift, each.mean(1)


_SPREAD = 0.01


# -- limited-memory BFGS ------------------------------------------------------------------------------------------------


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
