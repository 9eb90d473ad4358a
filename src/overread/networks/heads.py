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

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from overread.core.errors import InputError, checked, one_of, require
from overread.core.progress import Progress, silent
from overread.networks.backbones import HEADS
from overread.tasks.task import Task

#: ``(parameters (K, …) of these problems, which problems (K,)) -> values (K,), gradients (K, …)``
Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

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

    def objective(parameters: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        centre, spread, part, penalty = mean[which], std[which], share[which], penalties[which]
        scaled = parameters[:, :-1] / spread[:, :, None]  # (K, F, C): standardisation folded into the weights
        bias = parameters[:, -1] - torch.einsum("kf,kfc->kc", centre, scaled)
        loss = penalty / 2 * parameters[:, :-1].square().sum(dim=(1, 2))
        total, pulled = torch.zeros_like(bias), torch.zeros_like(scaled)
        for rows in torch.arange(len(features), device=features.device).split(chunk):
            outputs = torch.einsum("nf,kfc->knc", features[rows], scaled) + bias[:, None]
            each, slope = slope_of(outputs, labels[rows], weights)  # (K, n), (K, n, C)
            slope = slope * part[:, rows, None]
            loss = loss + (each * part[:, rows]).sum(dim=1)
            total += slope.sum(dim=1)
            pulled += torch.einsum("nf,knc->kfc", features[rows], slope)
        pulled = (pulled - centre[:, :, None] * total[:, None]) / spread[:, :, None]
        return loss, torch.cat([pulled + penalty[:, None, None] * parameters[:, :-1], total[:, None]], 1)

    start = features.new_zeros(len(penalties), features.shape[1] + 1, task.outputs)
    best = _lbfgs(objective, start, steps, tolerance, progress)
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
    for problems, seen in _alike(masks):
        k = problems[0]
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


def _alike(masks: Tensor) -> Iterator[tuple[list[int], Tensor]]:
    """The problems that see the same rows, and these rows (N,)."""
    seen, which = torch.unique(masks > 0, dim=0, return_inverse=True)
    for number, rows in enumerate(seen):
        yield torch.nonzero(which == number)[:, 0].tolist(), rows


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
        if features.shape[1] > len(features):
            for problems, z, rows in _standardised(features, masks, mean, std):
                for problem, found in zip(
                    problems, _wide_ridge(z, aims[rows][:, outputs], share[rows], penalties[problems])
                ):
                    made[problem][:, outputs] = found
            continue
        for problems, square, beside, count in _products(features, aims[:, outputs], share, masks, mean, std):
            for problem in problems:
                made[problem][:, outputs] = _solved(square / count, float(penalties[problem]), beside / count)
    return made


def _wide_ridge(z: Tensor, aims: Tensor, share: Tensor, penalties: Tensor) -> Iterator[Tensor]:
    """The same for each penalty from the products of all pairs of rows, which are fewer than the features."""
    total = share.sum().clamp(min=1e-12)
    middle, centre = share @ z / total, share @ aims / total
    b, a = (z - middle) * share.sqrt()[:, None], (aims - centre) * share.sqrt()[:, None]
    products = b @ b.T / len(z)
    for penalty in penalties.tolist():
        weight = b.T @ _solved(products, penalty, a / len(z), intercept=False)
        yield torch.cat([weight, (centre - middle @ weight)[None]])


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
    wide = features.shape[1] > int(members.sum())
    for problems, centres, counts, of in (_means_of_rows if wide else _means)(features, members, masks, mean, std):
        for problem in problems:
            weight = of(float(penalties[problem]))  # (F, G)
            bias = -(centres * weight).sum(0) / 2
            bias = torch.where(counts > 0.5, bias, bias.min() - 10.0)  # of a group that nobody is in: far away
            made[problem] = torch.cat([weight @ contrast, (bias @ contrast)[None]])
    return made


#: Problems that see the same rows; means (F, G) and sizes (G,) of the groups; ``(S + penalty I)⁻¹`` times these means.
_Groups = Iterator[tuple[list[int], Tensor, Tensor, Callable[[float], Tensor]]]


def _means(features: Tensor, members: Tensor, masks: Tensor, mean: Tensor, std: Tensor) -> _Groups:
    share = members.sum(1)  # of every row that a group holds: 1, or the number of findings that are known
    beside = members / share.clamp(min=1)[:, None]
    for problems, square, sums, _ in _products(features, beside, share, masks, mean, std):
        counts = sums[-1]  # the last row belongs to the column of ones
        centres = sums[:-1] / counts.clamp(min=1e-9)
        within = (square[:-1, :-1] - (centres * counts) @ centres.T) / counts.sum().clamp(min=1)

        def of(penalty: float, s: Tensor = within, c: Tensor = centres) -> Tensor:
            return _solved(s, penalty, c, intercept=False)

        yield problems, centres, counts, of


def _means_of_rows(features: Tensor, members: Tensor, masks: Tensor, mean: Tensor, std: Tensor) -> _Groups:
    """The same from the products of all pairs of rows (Woodbury): for more features than rows."""
    for problems, z, rows in _standardised(features, masks, mean, std):
        inside = members[rows]
        counts = inside.sum(0)
        centres = z.T @ inside / counts.clamp(min=1e-9)
        b = torch.cat([z[inside[:, g] > 0] - centres[:, g] for g in range(len(counts))])  # a row for each membership
        b = b / counts.sum().clamp(min=1).sqrt()
        products, seen = b @ b.T, b @ centres

        def of(penalty: float, b: Tensor = b, k: Tensor = products, s: Tensor = seen, c: Tensor = centres) -> Tensor:
            return (c - b.T @ _solved(k, penalty, s, intercept=False)) / penalty

        yield problems, centres, counts, of


def _standardised(
    features: Tensor, masks: Tensor, mean: Tensor, std: Tensor
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """For the problems that see the same rows: which, the standardised features of these rows, and the rows."""
    for problems, seen in _alike(masks):
        yield problems, ((features[seen] - mean[problems[0]]) / std[problems[0]]).double(), seen


_CLOSED = {"ridge": _ridge, "nearest-mean": _nearest_mean}


def _solved(matrix: Tensor, penalty: float, aim: Tensor, *, intercept: bool = True) -> Tensor:
    """(matrix + penalty I)⁻¹ aim, without a penalty on the last row where it is the ``intercept``."""
    ridge = torch.full((len(matrix),), penalty, dtype=matrix.dtype)
    if intercept:
        ridge[-1] = 1e-12
    factor, failed = torch.linalg.cholesky_ex(matrix + torch.diag(ridge))
    if int(failed):  # nothing was seen that this output could learn from
        return torch.zeros_like(aim)
    return torch.cholesky_solve(aim, factor)


# -- outputs that mean what a probability says ---------------------------------------------------------------------------


@checked
def calibrate(given: Tensor, labels: Tensor, task: Task, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale (K, C) and shift (K, C) of outputs ``given`` (K, N, C) that minimise the task's loss, and the mean losses (K,).

    Vector scaling (Guo 2017, arXiv:1706.04599, section 4.2) with scales that are above 0 and drawn towards each other, so that
    a rare class follows the others. Fit it on held-out outputs.
    """

    def objective(parameters: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        rates, outputs = parameters[:, 0].exp(), given[which]  # (K, C), (K, N, C)
        spread = parameters[:, 0] - parameters[:, 0].mean(1, keepdim=True)
        each, slope = task.loss_and_slope(outputs * rates[:, None] + parameters[:, 1][:, None], labels, weights)
        slope = slope / outputs.shape[1]
        steep = (slope * outputs).sum(1) * rates + 2 * _SPREAD * spread
        return each.mean(1) + _SPREAD * spread.square().sum(1), torch.stack([steep, slope.sum(1)], 1)

    start = given.new_zeros(len(given), 2, given.shape[2])
    start[:, 0] = -given.std(dim=(1, 2), keepdim=True)[..., 0].clamp(min=1e-6).log()
    best = _lbfgs(objective, start, 100, 1e-5, silent)
    scale, shift = best[:, 0].exp(), best[:, 1]
    each, _ = task.loss_and_slope(given * scale[:, None] + shift[:, None], labels, weights)
    return scale, shift, each.mean(1)


_SPREAD = 0.01


# -- limited-memory BFGS ------------------------------------------------------------------------------------------------


def _lbfgs(objective: Objective, start: Tensor, steps: int, tolerance: float, progress: Progress) -> Tensor:
    """Minimise K problems at once; returns their parameters (K, …).

    Each stops on its own: where its objective gains less than a tenth of ``tolerance`` of itself, or no part of its
    gradient is above ten times ``tolerance`` (scikit-learn's 1e-4 by default). Those that go on are calculated alone.
    """
    found = start.clone()
    going = torch.arange(len(start))
    x = start
    f, g = objective(x, going)
    moves: list[Tensor] = []
    turns: list[Tensor] = []
    for step in range(steps):
        progress("fitting linear heads", step, steps)
        direction = -_two_loop(g, moves, turns)
        descent = _dot(direction, g)
        direction = torch.where((descent < 0)[:, None, None], direction, -g)
        new, f_new, g_new, moved = _backtrack(objective, going, x, f, g, direction, first=not moves)
        gain = (f - f_new) / f.abs().clamp(min=1e-8)
        moves, turns = [*moves, new - x][-_MEMORY:], [*turns, g_new - g][-_MEMORY:]
        x, f, g = new, f_new, g_new
        found[going] = x
        more = moved & (gain >= tolerance * 1e-1) & (g.abs().amax(dim=(1, 2)) > 10 * tolerance)
        if not more.any():
            break
        if not more.all():
            going, x, f, g = going[more], x[more], f[more], g[more]
            moves, turns = [each[more] for each in moves], [each[more] for each in turns]
    progress("fitting linear heads", steps, steps)
    return found


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


def _backtrack(
    objective: Objective, going: Tensor, x: Tensor, f: Tensor, g: Tensor, direction: Tensor, *, first: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Halve each problem's step until it descends enough (Armijo); problems that cannot stay where they are."""
    slope = _dot(direction, g)
    size = 1.0 / _dot(g, g).sqrt().clamp(min=1.0) if first else torch.ones_like(f)
    done = torch.zeros_like(f, dtype=torch.bool)
    new, f_new, g_new = x.clone(), f.clone(), g.clone()
    for _ in range(_HALVINGS):
        left = torch.nonzero(~done)[:, 0]
        trial = x[left] + size[left, None, None] * direction[left]
        f_trial, g_trial = objective(trial, going[left])
        good = f_trial <= f[left] + _ARMIJO * size[left] * slope[left]
        taken = left[good]
        new[taken], f_new[taken], g_new[taken] = trial[good], f_trial[good], g_trial[good]
        done[taken] = True
        if bool(done.all()):
            break
        size = torch.where(done, size, size / 2)
    return new, f_new, g_new, done
