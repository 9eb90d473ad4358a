"""How well maps of features fit what is known: Dice of the merged map and average precision of each feature's own map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, checked, nearest
from overread.core.files import plain
from overread.core.phrases import aligned, count
from overread.evaluation.results import Result
from overread.stats.estimate import Estimate, level_text
from overread.stats.resample import Column, Statistic, Weights, bootstrap

#: Answers of a map: 0 … 255.
LEVELS = 256
METRICS = ("dice", "precision", "recall", "average precision")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureLearned:
    """What the network of a feature learned from: patches ``with_it`` and squares ``without`` it, the ``hard`` ones that it had
    ``mistaken`` so strongly on average, and the mean loss of its last steps."""

    feature: str
    with_it: int
    without: int
    hard: int
    mistaken: float
    loss: float


@dataclass(frozen=True, eq=False)
class FeatureScores(Result):
    """Every feature of a set of maps: what its network learned from, and its scores where the truth is known.

    ``images``: mapped and judged; ``independent``: tomograms, films or patients that were judged. ``notes``: what was left out.
    """

    file: ClassVar[str] = "features.json"

    learned: tuple[FeatureLearned, ...]
    estimates: tuple[Estimate, ...] = ()
    mapped: int = 0
    judged: int = 0
    independent: int = 0
    threshold: float = 0.5
    notes: tuple[str, ...] = field(default_factory=tuple)

    def __getitem__(self, key: tuple[str, str]) -> Estimate:
        """``scores["dice", "membrane"]``."""
        found = {(e.metric, e.of): e for e in self.estimates}
        if key not in found:
            raise InputError(
                "there is no such score",
                given=" of ".join(key),
                todo=nearest(key[1], dict.fromkeys(e.of for e in self.estimates)),
            )
        return found[key]

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader of the numbers must know."""
        return self.notes

    @classmethod
    def restored(cls, held: dict[str, Any], metrics: list[Any]) -> FeatureScores:
        """The result from what its two files hold."""
        found = super().restored(held, metrics)
        if plain(found.estimates) != metrics:
            raise cls.damaged(cls.file)
        return found

    def __repr__(self) -> str:
        return f"maps of {count(len(self.learned), 'feature')} in {count(self.mapped, 'image')}"

    def table(self) -> str:
        """The scores as text for a terminal."""
        head = (
            "feature",
            "with",
            "without",
            "hard",
            *(f"{m} ({level_text(self.estimates)})" for m in METRICS if self.estimates),
        )
        rows = []
        for each in self.learned:
            scores = [str(self[metric, each.feature]) for metric in METRICS] if self.estimates else []
            rows.append((each.feature, str(each.with_it), str(each.without), str(each.hard), *scores))
        return "\n".join([*aligned([head, *rows]), *self.notes])


@checked
def counts_of(answers: NDArray[np.uint8], called: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Floats:
    """What the scores of a feature hang on, (3 + 2·256,): pixels called rightly, called wrongly and missed; then how many pixels
    with and without the feature have each answer. All (H, W). Raises :class:`ImageError` for another size of the truth.
    """
    if truth.shape != answers.shape:
        raise ImageError("the truth has another size than its image", given=f"{truth.shape[1]} x {truth.shape[0]} for {answers.shape[1]} x {answers.shape[0]}")  # fmt: skip
    sums = np.zeros(3 + 2 * LEVELS)
    for top in range(0, len(answers), 512):
        rows = slice(top, top + 512)
        here, there, seen = np.asarray(called[rows]), np.asarray(truth[rows]), np.asarray(answers[rows])
        sums[:3] += (here & there).sum(), (here & ~there).sum(), (~here & there).sum()
        sums[3 : 3 + LEVELS] += np.bincount(seen[there], minlength=LEVELS)
        sums[3 + LEVELS :] += np.bincount(seen[~there], minlength=LEVELS)
    return sums


@checked
def score_features(
    counts: Mapping[str, Floats],
    codes: NDArray[np.int64],
    *,
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
) -> tuple[Estimate, ...]:
    """Dice, precision, recall and average precision of pixels, pooled over images, of every feature.

    ``counts``: of each feature (N, 3 + 2·256) by :func:`counts_of`; ``codes`` (N,) number what is independent. Average precision
    is Σ recall step × precision over the 256 answers, ties together. Bootstrap by what is independent, logit.
    """
    many = int(codes.max()) + 1 if len(codes) else 0
    if not many:
        return ()
    statistics = []
    for feature, held in counts.items():
        cells = np.zeros((many, held.shape[1]))
        np.add.at(cells, codes, held)
        columns = tuple(
            Column(metric, feature, len(codes), many, effective=many, reason="the feature is nowhere")
            for metric in METRICS
        )
        statistics.append(Statistic(columns, _pooled(cells)))
    return tuple(bootstrap(statistics, many, images=len(codes), level=level, seed=seed, resamples=resamples))


def _pooled(cells: Floats) -> Callable[[Weights], Floats]:
    return lambda weights: _scores(weights @ cells)


def _scores(sums: Floats) -> Floats:
    """(B, 4) from (B, 3 + 2·256)."""
    hits, alarms, missed = sums[:, 0], sums[:, 1], sums[:, 2]
    true, false = (np.flip(part, 1).cumsum(1) for part in (sums[:, 3 : 3 + LEVELS], sums[:, 3 + LEVELS :]))
    with np.errstate(invalid="ignore", divide="ignore"):
        total = true[:, -1:]
        precision = np.where(true + false > 0, true / (true + false), 1.0)
        steps = np.diff(true, axis=1, prepend=0) / total
        found = [
            2 * hits / (2 * hits + alarms + missed),
            hits / (hits + alarms),
            hits / (hits + missed),
            (steps * precision).sum(1),
        ]
    scores = np.stack(found, axis=1)
    scores[:, 1] = np.where((hits + alarms == 0) & (missed > 0), 0.0, scores[:, 1])  # nothing called, something there
    scores[(hits + missed) == 0] = np.nan
    return scores


@checked
def numbers_of(names: Sequence[str]) -> NDArray[np.int64]:
    """(N,) equal names as equal numbers, from 0 in the order of their first place."""
    places = {name: at for at, name in enumerate(dict.fromkeys(names))}
    return np.array([places[name] for name in names], np.int64)


@checked
def missing_truth(features: Sequence[str], columns: Sequence[str]) -> Iterator[str]:
    """The features whose truth no column of a table names."""
    return (name for name in features if f"truth:{name}" not in columns)
