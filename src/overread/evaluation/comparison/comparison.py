"""What comparing two models found: differences with their tests, in files and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from overread.core.errors import InputError, checked, nearest
from overread.core.files import build
from overread.evaluation.comparison.claims import Verdict
from overread.evaluation.ledger import looked
from overread.evaluation.metrics import shown
from overread.evaluation.results import Result, estimates
from overread.stats.estimate import Difference, Estimate

#: Under this key ``where`` says whose estimate it is, for the estimates of one side.
SIDE = "model compared"
CORRECTED = "Holm's correction over the p values of all metrics and classes; subgroups of a column by themselves"


@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """Differences, first minus second, and the numbers that figures are drawn from.

    ``adjusted``: the p values of ``differences`` after Holm's correction. ``verdict``: the claim at its margin,
    None where no margin was given. ``curves`` per class, finding or group; ``primary`` names the one that
    matters most. ``cautions``: what a reader must know.
    """

    file: ClassVar[str] = "comparison.json"

    differences: tuple[Difference, ...]
    adjusted: tuple[float, ...]
    names: tuple[str, str]
    paired: bool
    verdict: Verdict | None = None
    curves: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    looks: int = 0
    primary: str = ""
    cautions: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str | tuple[str, ...]) -> Difference:
        """``result["auc", "mel"]``, or ``result["auc"]``: over all classes, else of the primary one."""
        metric, *rest = (key,) if isinstance(key, str) else key
        found = {d.first.of: d for d in self.differences if d.first.metric == metric and not d.first.where}
        for of in rest[:1] or ("", self.primary, *found):
            if of in found:
                return found[of]
        if not found:
            known = dict.fromkeys(d.first.metric for d in self.differences)
            raise InputError(f"there is no metric {metric!r}", todo=nearest(metric, known))
        raise InputError(f"there is no {metric} of {rest[0]!r}", todo=nearest(rest[0], found))

    def where(self, column: str) -> tuple[Difference, ...]:
        """The differences in the subgroups of a column."""
        return tuple(d for d in self.differences if column in d.first.where)

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Each difference, then that metric of the first and of the second model."""
        return tuple(
            e
            for d in self.differences
            for e in (d.difference, *(_of_side(e, n) for e, n in zip((d.first, d.second), self.names)))
        )

    def __repr__(self) -> str:
        return f"comparison of {' with '.join(self.names)}, {len(self.differences):,} differences"

    def table(self) -> str:
        """The results as aligned text for a terminal."""

        return as_text(self)

    def held(self) -> dict[str, Any]:
        """Everything but the estimates; tests lie apart from their differences, and the correction is told."""
        tests = [
            {"metric": d.first.metric, "of": d.first.of, "where": d.first.where, "error": d.error,
             "statistic": d.statistic, "p": d.p, "adjusted": adjusted}
            for d, adjusted in zip(self.differences, self.adjusted)
        ]  # fmt: skip
        rest = {name: getattr(self, name) for name in _KEPT}
        return {**rest, "correction": CORRECTED, "tests": tests, "about": self.about}

    @classmethod
    def restored(cls, held: dict[str, Any], metrics: list[Any]) -> Comparison:
        """The comparison from what its two files hold."""
        if not {*_KEPT, "about", "tests"} <= {*held}:
            raise cls.damaged(cls.file)
        rest = build(_Held, {name: held[name] for name in (*_KEPT, "about", "tests")}, where=cls.file, null_is_nan=True)
        whole = estimates(metrics)
        if len(whole) != 3 * len(rest.tests):
            raise cls.damaged(cls.file)
        differences = tuple(_difference(whole[3 * i : 3 * i + 3], test) for i, test in enumerate(rest.tests))
        kept = {name: getattr(rest, name) for name in (*_KEPT, "about")}
        return cls(differences, tuple(test.adjusted for test in rest.tests), **kept)


_KEPT = ("names", "paired", "primary", "counts", "looks", "cautions", "verdict", "curves")


@dataclass(frozen=True)
class _Test:
    """A difference's test, beside its estimates."""

    metric: str
    of: str
    where: dict[str, str]
    error: float
    statistic: float
    p: float
    adjusted: float


@dataclass(frozen=True)
class _Held:
    """What ``comparison.json`` holds."""

    names: tuple[str, str]
    paired: bool
    primary: str
    counts: dict[str, Any]
    looks: int
    cautions: tuple[str, ...]
    verdict: Verdict | None
    curves: dict[str, Any]
    about: dict[str, Any]
    tests: tuple[_Test, ...]


def _of_side(e: Estimate, name: str) -> Estimate:
    return replace(e, where={**e.where, SIDE: name})


def _difference(parts: Sequence[Estimate], test: _Test) -> Difference:
    gap, *sides = parts
    first, second = (replace(e, where={k: v for k, v in e.where.items() if k != SIDE}) for e in sides)
    return Difference(first, second, gap, test.error, test.statistic, test.p)


# -- differences as aligned text for a terminal -------------------------------------------------------------------


def as_text(found: Comparison) -> str:
    """A line per difference: metric, class, both values, difference with interval, p; then the subgroups."""
    counts = found.counts
    how = "the same cases" if found.paired else "different patients"
    lines = [f"{counted(counts['images'], 'image')} of {counted(counts['patients'], 'patient')}, {how}"
             + looked(found.looks)]  # fmt: skip
    lines += [f"caution: {caution}" for caution in found.cautions]
    rows = list(zip(found.differences, found.adjusted))
    level = f"difference ({found.about.get('level', 0.95):.0%} interval)"
    head = ("metric", "of", found.names[0], found.names[1], level, "p", "p (Holm)")
    lines += aligned([head, *(_row(d, p) for d, p in rows if not d.first.where)])
    brief = {m.name for m in shown("brief comparison")}
    groups = [(d, p) for d, p in rows if d.first.where and d.first.metric in brief
              and d.first.of in ("", found.primary)]  # fmt: skip
    if groups:
        told = [(", ".join(f"{k} {v}" for k, v in d.first.where.items()), *_row(d, p)) for d, p in groups]
        lines += ["", *aligned([("subgroup", *head), *told])]
    if found.verdict:
        lines += ["", str(found.verdict), *(f"also claimed: {other}" for other in found.verdict.others)]
    return "\n".join(lines)


def _row(d: Difference, adjusted: float) -> tuple[str, ...]:
    values = ("–" if math.isnan(e.value) else f"{e.value:.3f}" for e in (d.first, d.second))
    return d.first.metric, d.first.of, *values, str(d.difference), p_text(d.p), p_text(adjusted)


@checked
def counted(number: int, thing: str) -> str:
    """A number of things.

    >>> counted(1, "image"), counted(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


@checked
def p_text(p: float) -> str:
    """A p value with two digits; small ones as a bound.

    >>> p_text(0.0312), p_text(1e-9), p_text(float("nan"))
    ('0.031', '<0.001', '–')
    """
    if math.isnan(p):
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of texts as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
