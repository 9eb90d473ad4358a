"""What the checks of a map come to: one sentence about one map, and a table of criteria about a method.

Every threshold stands here with its source. Nothing is called right: a map can fail a check, or not fail it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from overread.core.errors import checked, require
from overread.core.phrases import count
from overread.stats.estimate import Estimate
from overread.stats.resample import bootstrapped, mean_statistic

__all__ = ["Checks", "Criterion", "judge_method", "methods_lines", "verdict"]

#: A completeness gap up to this is rounding of the path (Sundararajan, Taly & Yan 2017, section 5: "within 5%").
COMPLETE = 0.05
#: From here on a correlation is large (Cohen 1988, chapter 3); two maps this alike, in rank and in SSIM, count as one.
ALIKE = 0.5
#: Differences of areas and probabilities below this are not told apart (ours: a draw of the random maps moves them so far).
MARGIN = 0.02
#: Where parts of the image move the probability by less than this there is nothing to be explained (ours).
SPAN = 0.1
#: Pairs of maps of different patients that say how alike maps are anyway (Arun 2021, figure 3).
PAIRS = 50


@dataclass(frozen=True)
class Checks:
    """The checks of one map. A number is NaN where its check was not, or could not be, made.

    ``blank``: the map is the same everywhere or not finite; ``nothing``: nowhere above 0. ``completeness``: the gap
    between the sum of the map and what it should add up to, as a share of the latter. ``rank``, ``signed``, ``ssim``:
    likeness to the map of a network whose weights are all random; ``cascade``: the rank correlation after each step from the head
    down, the last of which has ``rank``; ``edges``: rank correlation with the image's edges.
    ``span``: between the least and the largest probability seen while parts were put in and taken away. ``insertion`` and ``deletion`` with those of
    the best of the random maps and of a spot in the centre. ``repeated`` and ``reproduced``: rank correlation and SSIM of
    trainings of one network, and of different networks. ``auprc`` against the mask with the same two baselines, ``hit``:
    the pointing game, ``hit_by_chance``: the mask's share of the area, which is how often a point at random lies in it.
    """

    blank: bool = False
    nothing: bool = False
    completeness: float = math.nan
    rank: float = math.nan
    signed: float = math.nan
    ssim: float = math.nan
    edges: float = math.nan
    span: float = math.nan
    insertion: float = math.nan
    deletion: float = math.nan
    insertion_random: float = math.nan
    deletion_random: float = math.nan
    insertion_centre: float = math.nan
    deletion_centre: float = math.nan
    repeated: float = math.nan
    repeated_ssim: float = math.nan
    reproduced: float = math.nan
    reproduced_ssim: float = math.nan
    auprc: float = math.nan
    auprc_random: float = math.nan
    auprc_centre: float = math.nan
    hit: float = math.nan
    hit_by_chance: float = math.nan
    cascade: tuple[float, ...] = ()

    @property
    def numbers(self) -> dict[str, float]:
        """Every number that was found, under the name that people read."""
        many = len(self.cascade)
        steps = {f"rank correlation at step {i} of {many} from the head down": value
                 for i, value in enumerate(self.cascade[:-1], 1)}  # fmt: skip
        found = {NAMES[f.name]: getattr(self, f.name) for f in fields(self) if f.name in NAMES}
        return {name: value for name, value in {**steps, **found}.items() if math.isfinite(value)}

    @property
    def effect(self) -> float:
        """Insertion less deletion: how well the map finds what moves the probability."""
        return self.insertion - self.deletion

    @property
    def effect_by_chance(self) -> float:
        """The larger effect of the two maps that know nothing: random, and a spot in the centre."""
        return max(self.insertion_random - self.deletion_random, self.insertion_centre - self.deletion_centre)

    @property
    def auprc_by_chance(self) -> float:
        """The larger AUPRC of the two maps that know nothing."""
        return max(self.auprc_random, self.auprc_centre)

    @property
    def failed(self) -> tuple[str, ...]:
        """The criteria that the map fails, gravest first; see :func:`verdict`."""
        return tuple(name for name, _ in _faults(self))

    @property
    def verdict(self) -> str:
        """One sentence; see :func:`verdict`."""
        return verdict(self)


NAMES = {
    "completeness": "completeness gap",
    "rank": "rank correlation at random weights",
    "signed": "rank correlation with sign at random weights",
    "ssim": "SSIM at random weights",
    "edges": "rank correlation with edges",
    "span": "span of the probability",
    "insertion": "insertion",
    "deletion": "deletion",
    "insertion_random": "insertion of a random map",
    "deletion_random": "deletion of a random map",
    "insertion_centre": "insertion of a spot in the centre",
    "deletion_centre": "deletion of a spot in the centre",
    "repeated": "rank correlation of two trainings",
    "repeated_ssim": "SSIM of two trainings",
    "reproduced": "rank correlation of different networks",
    "reproduced_ssim": "SSIM of different networks",
    "auprc": "AUPRC against the mask",
    "auprc_random": "AUPRC of a random map",
    "auprc_centre": "AUPRC of a spot in the centre",
    "hit": "largest value within the mask",
    "hit_by_chance": "largest value within the mask by chance",
}


@checked
def verdict(checks: Checks) -> str:
    """One sentence in plain words: what the map fails, gravest first, or which checks it did not fail.

    >>> verdict(Checks(blank=True))
    'This map says nothing: it is the same everywhere.'
    >>> verdict(Checks(rank=0.93, signed=0.93, ssim=0.91, edges=0.88))
    'This map is no better than an edge detector: with random weights it stays as it is (rank correlation 0.93, SSIM 0.91), and it follows the edges of the image (0.88).'
    """
    if checks.blank:
        return "This map says nothing: it is the same everywhere."
    if checks.nothing:
        return "This map says nothing: nowhere does it speak for this answer."
    faults = _faults(checks)
    if faults:
        first, *more = [words for _, words in faults]
        return f"This map {first}{''.join(f'; it also {each}' for each in more)}."
    passed, left = _passed(checks), _not_made(checks)
    without = f"; not checked: {', '.join(left)}" if left else ""
    part = f"; but {doubt}" if (doubt := _doubt(checks)) else ""
    if checks.span < SPAN:
        though = f", though {', '.join(passed)}" if passed else ""
        return f"This map has little to explain: no part of the image moves the probability by more than {checks.span:.2f}{though}{part}{without}."
    if not passed:
        return f"Of this map little can be said: {doubt}{without}." if doubt else "This map was not checked."
    return f"This map passed the checks that were made: {', '.join(passed)}{part}{without}."


def _faults(c: Checks) -> list[tuple[str, str]]:
    """What fails, gravest first: the criterion, and what the map does, in words."""
    found: list[tuple[str, str]] = []
    if min(c.rank, c.ssim) >= ALIKE:
        stays = f"(rank correlation {c.rank:.2f}, SSIM {c.ssim:.2f})"
        found.append(
            ("weight randomisation", f"is no better than an edge detector: with random weights it stays as it is {stays},"
             f" and it follows the edges of the image ({c.edges:.2f})")
            if c.edges >= ALIKE
            else ("weight randomisation", f"does not change when the weights are random {stays}: it shows the image, not"
                  " what the network learned")
        )  # fmt: skip
    if c.span >= SPAN and c.effect < c.effect_by_chance + MARGIN:
        found.append(("faithfulness", "finds what moves the probability no better than a map that knows nothing (insertion"
                      f" less deletion {c.effect:.2f}, of a random map or a spot in the centre {c.effect_by_chance:.2f})"))  # fmt: skip
    if c.auprc < c.auprc_by_chance + MARGIN:
        found.append(("localisation", "points at the marked place no better than a random map or a spot in the centre (AUPRC"
                      f" {c.auprc:.2f} against {c.auprc_by_chance:.2f})"))  # fmt: skip
    if c.repeated < ALIKE:
        found.append(("repeatability", f"is another one after another training (rank correlation {c.repeated:.2f})"))
    if c.reproduced < ALIKE:
        found.append(("reproducibility", f"is another one with another network (rank correlation {c.reproduced:.2f})"))
    if c.completeness > COMPLETE:
        found.append(("completeness", f"does not add up to the output: {c.completeness:.0%} are missing or too much"))
    return found


def _doubt(c: Checks) -> str:
    if not max(c.rank, c.ssim) >= ALIKE > min(c.rank, c.ssim):
        return ""
    return f"it changes only in part when the weights are random (rank correlation {c.rank:.2f}, SSIM {c.ssim:.2f})"


def _passed(c: Checks) -> list[str]:
    """In words, the checks that were made and not failed, for a map that fails none."""
    found = []
    if max(c.rank, c.ssim) < ALIKE:
        found.append("it changes when the weights are random")
    if c.span >= SPAN:
        found.append("it finds what moves the probability better than a random map and a spot in the centre")
    if math.isfinite(c.auprc):
        found.append(f"it points at the marked place better than these{_largest(c)}")
    if math.isfinite(c.repeated):
        found.append("trainings agree")
    if math.isfinite(c.reproduced):
        found.append("networks agree")
    if math.isfinite(c.completeness):
        found.append("it adds up to the output")
    return found


def _largest(c: Checks) -> str:
    if not math.isfinite(c.hit):
        return ""
    by_chance = f"where {c.hit_by_chance:.1%} of points at random do" if math.isfinite(c.hit_by_chance) else ""
    return f", with its largest value in it{f' ({by_chance})' if by_chance else ''}" if c.hit >= 0.5 else ", though its largest value lies elsewhere"  # fmt: skip


def _not_made(c: Checks) -> list[str]:
    made = {"random weights": c.rank, "what it does to the probability": c.insertion, "agreement of two trainings": c.repeated,
            "the place, for want of a mask": c.auprc}  # fmt: skip
    return [name for name, value in made.items() if not math.isfinite(value)]


# -- the criteria of a method, over a sample of cases -----------------------------------------------------------------

#: The four of Arun et al. 2021, and three more.
CRITERIA = (
    "localisation",
    "pointing game",
    "weight randomisation",
    "repeatability",
    "reproducibility",
    "faithfulness",
    "completeness",
)


@dataclass(frozen=True)
class Criterion:
    """One criterion of one method over a sample of ``cases``: its mean with an interval clustered by patient.

    ``baseline``: what ``value`` is held against, and ``passed`` whether the whole interval lies on its good side; ``words``
    say what the numbers are, or why there are none.
    """

    method: str
    criterion: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    cases: int = 0
    baseline: float = math.nan
    passed: bool = False
    words: str = ""


@checked
def judge_method(
    method: str, checks: Sequence[Checks], patients: Sequence[str], *, between: float = math.nan, level: float = 0.95
) -> tuple[Criterion, ...]:
    """The table of :data:`CRITERIA` of one method from the checks of a sample of cases.

    ``patients`` (N,) names or codes, the units of the intervals. ``between``: the mean SSIM of its maps of different
    patients (:func:`between_patients`), which maps of random weights must fall below, and those of two trainings exceed.

    Maps that say nothing count as no better than chance where a place is asked for; elsewhere ``words`` count them.
    """
    require(len(checks) == len(patients) > 0, "each case needs its checks and its patient",
            given=f"{len(checks)} checks, {len(patients)} patients")  # fmt: skip
    codes = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1].astype(np.int64)

    def mean(values: Sequence[float], metric: str) -> Estimate | None:
        held = np.isfinite(values)
        if not held.any():
            return None
        found = np.unique(codes[held], return_inverse=True)[1]
        statistic = mean_statistic(metric, np.asarray(values, float)[held], found, int(found.max()) + 1, scale="plain")
        return bootstrapped(statistic, found, level=level)[0]

    def row(
        criterion: str, found: Estimate | None, baseline: float, above: bool, words: str, otherwise: str
    ) -> Criterion:
        if found is None:
            return Criterion(method, criterion, words=otherwise)
        ends = (found.low, found.high) if math.isfinite(found.low) else (found.value, found.value)
        passed = math.isfinite(baseline) and (ends[0] > baseline if above else ends[1] < baseline)
        return Criterion(method, criterion, found.value, found.low, found.high, found.images, baseline, passed, words)

    def gained(value: str, chance: str) -> list[float]:
        return [0.0 if (c.blank or c.nothing) and math.isfinite(getattr(c, chance)) else getattr(c, value) - getattr(c, chance)
                for c in checks]  # fmt: skip

    place, effect = mean(gained("auprc", "auprc_by_chance"), "localisation"), mean(gained("effect", "effect_by_chance"), "faithfulness")  # fmt: skip
    hits, by_chance = [c.hit for c in checks if math.isfinite(c.hit)], _mean([c.hit_by_chance for c in checks])
    auprc = _mean([c.auprc for c in checks])
    ranks = {name: _mean([getattr(c, name) for c in checks]) for name in ("rank", "repeated", "reproduced")}
    apart = (
        f"; maps of different patients are alike by {between:.2f}"
        if math.isfinite(between)
        else "; too few maps of different patients to compare with"
    )
    blank = sum(c.blank or c.nothing for c in checks)
    said = f"; {count(blank, 'map')} said nothing" if blank else ""
    return (
        row("localisation", place, 0.0, True,
            f"AUPRC above the better of a random map and a spot in the centre; AUPRC {auprc:.2f}{said}",
            "not checked: no masks"),
        row("pointing game", mean([c.hit for c in checks], "pointing game"), by_chance, True,
            f"largest value in the mask in {sum(hits):.0f} of {len(hits)}; by chance {by_chance * len(hits):.1f}, by the area of the masks{said}",
            "not checked: no masks"),
        row("weight randomisation", mean([c.ssim for c in checks], "SSIM"), between, False,
            f"SSIM to the map of random weights, rank correlation {ranks['rank']:.2f}{apart}{said}",
            "not checked" if not blank else "not checked: the maps say nothing"),
        row("repeatability", mean([c.repeated_ssim for c in checks], "SSIM"), between, True,
            f"SSIM of two trainings of one network, rank correlation {ranks['repeated']:.2f}{apart}{said}",
            "not checked: the model is one training"),
        row("reproducibility", mean([c.reproduced_ssim for c in checks], "SSIM"), between, True,
            f"SSIM of different networks, rank correlation {ranks['reproduced']:.2f}{apart}{said}",
            "not checked: the model has one kind of network"),
        row("faithfulness", effect, 0.0, True,
            f"insertion less deletion, above the better of random maps and a spot in the centre{said}", "not checked"),
        row("completeness", mean([c.completeness for c in checks], "completeness gap"), COMPLETE, False,
            "share of the output that the map does not add up to", "the method promises no sum"),
    )  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    held = [value for value in values if math.isfinite(value)]
    return sum(held) / len(held) if held else math.nan


@checked
def methods_lines(rows: Sequence[Criterion]) -> list[str]:
    """The table as the terminal shows it: a line for each method and criterion."""
    return [
        f"  {r.method}, {r.criterion}: {r.words}"
        if not math.isfinite(r.value)
        else f"  {r.method}, {r.criterion}: {'passed' if r.passed else 'not shown' if _undecided(r) else 'failed'}, "
        f"{r.value:.3f} ({r.low:.3f} to {r.high:.3f}) against {r.baseline:.3f} in {count(r.cases, 'case')} — {r.words}"
        for r in rows
    ]


def _undecided(row: Criterion) -> bool:
    """Whether the interval holds the baseline, or there is none."""
    return not (math.isfinite(row.baseline) and math.isfinite(row.low)) or row.low <= row.baseline <= row.high
