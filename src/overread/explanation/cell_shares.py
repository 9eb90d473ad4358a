"""Which cells decided: a map of the network's answer, summed over each cell, and whether that finds those known to matter.

A map lies on what the network sees; cells lie on the image as it is. The map is carried over without losing any of it: what
a pixel of the network has goes to the pixels of the image that it was made of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata, spearmanr

from overread.core.errors import checked, require
from overread.core.phrases import aligned, count
from overread.evaluation.results import Result
from overread.images.crop import crop_alike
from overread.images.outlines.outlines import Outlines
from overread.images.preprocess import Preprocess
from overread.stats.arrays import distinct, patient_codes
from overread.stats.estimate import Estimate, level_text, p_said
from overread.stats.resample import Column, bootstrap, of_sums, per_patient

#: Rank correlation of cells from which on two rankings are alike, as maps are (Adebayo 2018).
ALIKE = 0.5


@checked
def on_image(values: NDArray[Any], size: tuple[int, int], preprocess: Preprocess) -> NDArray[np.float64]:
    """A map (h, w) of what a network sees as a map (H, W) of the image of that ``size``; both add up to the same.

    ``preprocess``: how the image became what the network sees, without its crop of borders. What the network sees beyond
    the image (``pad``) is lost, and where it sees nothing of it (``crop``) the map is 0.
    """
    rows, columns = (_shares(values.shape[axis], size, preprocess, axis) for axis in (0, 1))
    return np.asarray(rows @ values.astype(np.float64) @ columns.T)


def _shares(seen: int, size: tuple[int, int], preprocess: Preprocess, axis: int) -> NDArray[np.float64]:
    """(side, seen): which share of each place of the network lies in each pixel of the image, along one axis."""
    height, width = preprocess.size[-2:]
    have, want = size[axis], (height, width)[axis]
    require(seen == want, "the map has another size than what the network sees", given=(seen, want))
    first, step = 0.0, have / want  # squash: place j covers the pixels first + j·step … + step
    if preprocess.fit == "crop":
        scale = min(size[0] / height, size[1] / width)
        inner = min(have, max(1, round(want * scale)))
        first, step = float((have - inner) // 2), inner / want
    if preprocess.fit == "pad":
        scale = max(size[0] / height, size[1] / width)
        inner = min(want, max(1, round(have / scale)))
        step = have / inner
        first = -((want - inner) // 2) * step
    start, pixel = first + np.arange(want) * step, np.arange(have)[:, None]
    overlap = np.minimum(start + step, pixel + 1) - np.maximum(start, pixel)
    return np.asarray(np.clip(overlap, 0, None) / step)


@checked
def labels_seen(outlines: Outlines, pixels: NDArray[Any], preprocess: Preprocess) -> NDArray[np.int32]:
    """The labels cut as ``preprocess`` cuts the borders of their image's ``pixels`` (H, W, C)."""
    if preprocess.crop == "none":
        return outlines.labels
    cut = crop_alike(outlines.labels[..., None].astype(np.int32), pixels, preprocess.crop)
    return np.asarray(cut[..., 0], np.int32)


@checked
def cell_sums(labels: NDArray[np.int32], values: NDArray[Any], cells: int) -> NDArray[np.float64]:
    """(cells,) the sum of ``values`` (H, W) over each object 1 … ``cells`` of ``labels`` (H, W).

    >>> cell_sums(np.array([[0, 1], [2, 2]], np.int32), np.array([[9.0, 1.0], [2.0, 3.0]]), 3).tolist()
    [1.0, 5.0, 0.0]
    """
    require(labels.shape == values.shape, "the map lies on the labels", given=f"{values.shape}, {labels.shape}")
    return np.asarray(np.bincount(labels.ravel(), values.ravel(), cells + 1)[1 : cells + 1], np.float64)


# -- do they find the cells that are known to matter? -----------------------------------------------------------------


@dataclass(frozen=True)
class CellScore:
    """How well a number of each cell finds the cells that are known to matter, within their images.

    ``name``: what the number is. ``auc``: the chance that such a cell outscores another one of its image. ``ahead``: by how
    much the map does better (paired), with ``p`` of no difference; undefined for the map itself. ``rank``: rank correlation
    of its order of the cells with the map's, mean over images.
    """

    name: str
    auc: Estimate
    ahead: Estimate
    p: float = math.nan
    rank: float = math.nan


@dataclass(frozen=True, eq=False)
class ExplainedCells(Result):
    """Which cells a network's answer hangs on, over many images.

    ``scores``: the map first, then what knows nothing of the network or of what it learned: random weights, edges, size,
    intensity. Without planted cells their AUC is undefined and their ranks remain. ``cells`` of which ``planted`` are known
    to matter, of ``images`` and ``patients``. ``method``: of the map; ``target``: the answer; ``outlines``: ``true`` or
    ``predicted``.
    """

    file: ClassVar[str] = "explained_cells.json"

    scores: tuple[CellScore, ...]
    method: str
    target: str
    outlines: str
    cells: int
    planted: int
    images: int
    patients: int
    notes: tuple[str, ...] = field(default=())

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """The AUC of each score, and by how much the map is ahead."""
        return tuple(e for s in self.scores for e in (s.auc, *([s.ahead] if not s.ahead.undefined else [])))

    @property
    def verdict(self) -> str:
        """One sentence: whether the map finds the cells that matter, and whether what finds them was learned."""
        mine, others = self.scores[0], self.scores[1:]
        random = next((s for s in others if s.name == RANDOM), None)
        kept = random is not None and random.rank >= ALIKE
        if mine.auc.undefined:
            told = f"with random weights the order of the cells {'stays' if kept else 'changes'} (rank correlation {random.rank:.2f})" if random else "its order was not checked"  # fmt: skip
            return f"Which cells matter is not known here; {told}."
        if not mine.auc.low > 0.5:
            return f"The map does not find the cells that matter: AUC {mine.auc} within images."
        worse = [s for s in others if s.ahead.low > 0]
        same = [s for s in others if s not in worse]
        beyond = f", better than {', '.join(s.name for s in worse)}" if worse else ""
        but = f"; not shown to be better than {', '.join(s.name for s in same)}" if same else ""
        learned = f"; with random weights the order of the cells stays (rank correlation {random.rank:.2f}), so that it is not what was learned that orders them" if kept and random else ""  # fmt: skip
        return f"The map finds the cells that matter: AUC {mine.auc} within images{beyond}{but}{learned}."

    def __repr__(self) -> str:
        return f"{count(self.cells, 'cell')} in {count(self.images, 'image')} by {self.method} for {self.target}"

    def table(self) -> str:
        """A line a score, then the verdict and the notes."""
        head = ("score", f"AUC within images ({level_text(self.estimates)})", "the map is ahead by", "rank correlation")
        rows = [(s.name, str(s.auc), "" if s.ahead.undefined else f"{s.ahead}, {p_said(s.p)}", "" if math.isnan(s.rank) else f"{s.rank:.2f}")
                for s in self.scores]  # fmt: skip
        return "\n".join([repr(self), *aligned([head, *rows]), self.verdict, *self.notes])


#: The names of the scores; the first is that of the map.
MAP, RANDOM, EDGES, SIZE, INTENSITY = "share of the map", "random weights", "edges", "size", "intensity"


@checked
def judge_cells(
    scores: Mapping[str, Sequence[NDArray[np.float64]]], planted: Sequence[NDArray[np.bool_]], patients: Sequence[str], *,
    level: float = 0.95, seed: int = 0,
) -> tuple[CellScore, ...]:  # fmt: skip
    """The AUC within images of several scores of cells, and by how much the first is ahead of each.

    ``scores``: by name, of each of N images (cells,); ``planted``: which cells are known to matter, (cells,) each;
    ``patients`` (N,). The chance that a planted cell outscores another of its image, ties one half, over all such pairs
    (:func:`.stratified_auc`); intervals and paired differences by one bootstrap of patients.
    """
    names = list(scores)
    require(bool(names) and all(len(scores[name]) == len(planted) == len(patients) for name in names), "each image has its scores, its planted cells and its patient",
            given=f"{len(planted)} and {len(patients)} images")  # fmt: skip
    codes = patient_codes(np.asarray(patients, dtype=str), len(patients))
    won = np.array([[_wins(scores[name][i], planted[i]) for name in names] for i in range(len(planted))])  # (N, S)
    pairs = np.array([float(each.sum() * (~each).sum()) for each in planted])
    ranks = [_rank(scores[names[0]], scores[name]) for name in names]
    images, people = int((pairs > 0).sum()), distinct(codes[pairs > 0]) if (pairs > 0).any() else 0
    if not people:
        nothing = [Estimate("auc within images", math.nan, of=name, undefined="no image has both planted and other cells") for name in names]  # fmt: skip
        return tuple(
            CellScore(name, e, _none(name), rank=rank) for name, e, rank in zip(names, nothing, ranks, strict=True)
        )
    local = np.unique(codes[pairs > 0], return_inverse=True)[1]
    cells = per_patient(local, people, pairs[pairs > 0], *won[pairs > 0].T)
    columns = [Column("auc within images", name, images, people, "share", people) for name in names]
    columns += [Column("auc within images difference", name, images, people, "plain") for name in names[1:]]

    def made(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            areas = sums[:, 1:] / sums[:, :1]
        return np.concatenate([areas, areas[:, :1] - areas[:, 1:]], axis=1)

    found = bootstrap([of_sums(tuple(columns), cells, made)], people, images=images, level=level, seed=seed)
    ahead = [_none(names[0]), *found[len(names) :]]
    return tuple(CellScore(name, found[i], ahead[i], _p(ahead[i]), ranks[i]) for i, name in enumerate(names))


def _none(name: str) -> Estimate:
    return Estimate("auc within images difference", math.nan, of=name, undefined="there is nothing to compare with")


def _p(found: Estimate) -> float:
    """Two-sided p of no difference, from the width of its interval."""
    if found.undefined or not math.isfinite(found.low) or found.high <= found.low:
        return math.nan
    error = (found.high - found.low) / (2 * float(norm.ppf(0.5 + found.level / 2)))
    return float(2 * norm.sf(abs(found.value) / error))


def _wins(score: NDArray[np.float64], planted: NDArray[np.bool_]) -> float:
    """Pairs of an image in which the planted cell outscores the other, ties one half: Mann and Whitney's U."""
    many = int(planted.sum())
    return float(rankdata(score)[planted].sum() - many * (many + 1) / 2) if many and many < len(planted) else 0.0


def _rank(mine: Sequence[NDArray[np.float64]], other: Sequence[NDArray[np.float64]]) -> float:
    """Mean over images of Spearman's correlation of the order of the cells; of images of three cells and more."""
    found = [float(spearmanr(a, b).statistic) for a, b in zip(mine, other, strict=True) if len(a) > 2 and np.ptp(a) > 0 and np.ptp(b) > 0]  # fmt: skip
    return sum(found) / len(found) if found else math.nan
