"""Several systems on the same cases: every metric of each, and how far each is from one of them, with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd

from overread.core.display import Overview, Panel
from overread.core.errors import InputError, checked, one_of, require
from overread.core.phrases import aligned, count
from overread.evaluation.comparison.compare import Comparison, compare
from overread.evaluation.comparison.opinion_pool import on_shared_cases
from overread.evaluation.decision.class_decision import Frozen, thresholds_of
from overread.evaluation.ledger import record_look, verify
from overread.evaluation.metrics import Endpoint, defined, endpoint_of, metric_for, metric_named
from overread.evaluation.results import Result
from overread.predictions import Predictions
from overread.stats.estimate import Difference, Estimate, p_text
from overread.stats.hypotheses import holm

#: Under these keys ``where`` says whose estimate it is, and which other it is compared with.
SYSTEM, AGAINST = "system", "against"


@dataclass(frozen=True)
class Standing:
    """A system's difference from the reference in one metric: ``p`` of none, ``adjusted`` after Holm's correction."""

    system: str
    metric: str
    of: str
    p: float
    adjusted: float


@dataclass(frozen=True, eq=False)
class Leaderboard(Result):
    """Systems from the best to the worst by one ``metric`` (``of`` a class, or of all).

    ``estimates``: of each system in turn its metrics, with ``where`` naming it, then their differences from the
    ``reference``, which is the ``best`` of them or was named. ``standings``: the tests of the differences. ``looks``:
    how often each one's test set had been looked at, where looks were written down.
    """

    file: ClassVar[str] = "leaderboard.json"

    estimates: tuple[Estimate, ...]
    systems: tuple[str, ...]
    reference: str
    metric: str
    of: str
    images: int
    patients: int
    standings: tuple[Standing, ...] = ()
    called_by: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    looks: tuple[int, ...] = ()

    @property
    def metrics(self) -> tuple[tuple[str, str], ...]:
        """(metric, of) of the columns, that which ranks first."""
        known = dict.fromkeys((e.metric, e.of) for e in self.estimates if AGAINST not in e.where)
        return tuple(sorted(known, key=lambda key: key != (self.metric, self.of)))

    def value(self, system: str, metric: str, of: str = "") -> Estimate:
        """A system's own number. Raises :class:`InputError` where there is none."""
        return self._one({SYSTEM: system}, metric, of)

    def difference(self, system: str, metric: str, of: str = "") -> Estimate:
        """What it is above the reference. Raises :class:`InputError` where there is none."""
        return self._one({SYSTEM: system, AGAINST: self.reference}, f"{metric} difference", of)

    def _one(self, where: dict[str, str], metric: str, of: str) -> Estimate:
        found = next((e for e in self.estimates if (e.where, e.metric, e.of) == (where, metric, of)), None)
        if found is None:
            raise InputError(f"the leaderboard has no {metric} of {where[SYSTEM]!r}", todo=", ".join(m for m, _ in self.metrics))  # fmt: skip
        return found

    def overview(self) -> Overview:
        """A row a system, the best first: its value, how far it is from the reference, and p."""
        panels = tuple(Panel(head, rows) for head, rows in self._tables())
        return Overview(f"{count(len(self.systems), 'system')} on the same {count(self.images, 'image')} of {count(self.patients, 'patient')}",
                        panels, self.cautions)  # fmt: skip

    def asked(self) -> tuple[Panel, ...]:
        """The metrics that are compared, with their definitions, and the systems."""
        places = tuple(enumerate(self.systems, start=1))
        return defined(e for e in self.estimates if AGAINST not in e.where), Panel(
            ("place", "system"), places, "Systems", most=10**6
        )

    def to_frame(self) -> pd.DataFrame:
        """One row for each system and metric, the best system first: for a spreadsheet."""
        tests = {(s.system, s.metric, s.of): s for s in self.standings}
        rows = []
        for place, system in enumerate(self.systems, start=1):
            for metric, of in self.metrics:
                own, test = self.value(system, metric, of), tests.get((system, metric, of))
                gap = self.difference(system, metric, of) if test else None
                rows.append({
                    "place": place, "system": system, "metric": metric, "of": of, "value": own.value, "low": own.low, "high": own.high,
                    "against": self.reference if gap else "", "difference": gap.value if gap else math.nan,
                    "difference low": gap.low if gap else math.nan, "difference high": gap.high if gap else math.nan,
                    "p": test.p if test else math.nan, "p holm": test.adjusted if test else math.nan,
                })  # fmt: skip
        return pd.DataFrame(rows)

    def table(self) -> str:
        """A line for each system and metric, as aligned text for a terminal."""
        lines = [f"{count(len(self.systems), 'system')} on the same {count(self.images, 'image')} of {count(self.patients, 'patient')}"]  # fmt: skip
        lines += [f"caution: {caution}" for caution in self.cautions]
        for head, rows in self._tables():
            lines += ["", *aligned([head, *rows])]
        return "\n".join(lines)

    def _tables(self) -> Iterator[tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]]:
        """The head and the rows of the table of each metric."""
        tests = {(s.system, s.metric, s.of): s for s in self.standings}
        for metric, of in self.metrics:
            level = f"{100 * self.value(self.systems[0], metric, of).level:g} % interval"
            head = (f"{metric}{f' of {of}' if of else ''}", f"value ({level})", f"minus {self.reference}", "p (Holm)")
            body = []
            for system in self.systems:
                test = tests.get((system, metric, of))
                gap = (str(self.difference(system, metric, of)), p_text(test.adjusted)) if test else ("–", "–")
                body.append((system, str(self.value(system, metric, of)), *gap))
            yield head, tuple(body)


@checked
def leaderboard(
    systems: Mapping[str, Predictions],
    *,
    at: Mapping[str, Frozen | Sequence[Frozen]] | None = None,
    metric: str = "",
    against: str = "best",
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
    ledgers: Mapping[str, str | Path] | None = None,
    allow_seen: bool = False,
) -> Leaderboard:
    """Rank two or more systems on the cases that all of them predicted, by ``metric`` (of one class: ``auc:mel``); by
    default by AUC, macro AUC where there is no positive class, or MAE.

    ``at``: of each system what was frozen on its tuning data. ``against``: the ``best`` of them, the ``first``, or one
    by its name: every other is compared with it case by case, as :func:`~overread.evaluation.comparison.compare.compare`
    does, and p values are corrected over all systems and metrics (Holm 1979). A best one that was found on these very
    cases is flattered by the choice; that is said. ``ledgers``: where the look of each system is written down, once,
    after everything is computed. Raises :class:`InputError` where the tables ask different things or share no case,
    :class:`UnsoundError` for patients that a system has seen.
    """
    require(len(systems) > 1, "a leaderboard needs two systems", given=", ".join(systems))
    names, at, ledgers = tuple(systems), dict(at or {}), dict(ledgers or {})
    if against not in ("best", "first"):
        one_of(against, names, "against")
    tests, notes = _common(systems)
    for path in ledgers.values():
        verify(path)

    def against_one(reference: str) -> dict[str, Comparison]:
        return {
            name: compare(tests[name], tests[reference], at=at.get(name), other_at=at.get(reference), level=level, seed=seed,
                          names=(name, reference), resamples=resamples, allow_seen=allow_seen)
            for name in names if name != reference
        }  # fmt: skip

    first, found = tests[names[0]], against_one(names[0])
    by = _ranked_by(found[names[1]], metric or metric_for(first))
    order = _order(names, found, by)
    reference = order[0] if against == "best" else names[0] if against == "first" else against
    found = found if reference == names[0] else against_one(reference)
    found = {name: found[name] for name in order if name != reference}
    ranked, of = by.key
    gaps = {name: _told(c, ranked, of) for name, c in found.items()}
    looks = [
        record_look(ledgers[name], _model(tests[name]), thresholds_of(_items(at.get(name))), tests[name].digest, test=tests[name])
        for name in order if name in ledgers
    ]  # fmt: skip
    if any(looks):
        notes.append(f"looks at these test cases before: {', '.join(f'{many:,} in the ledger of {name}' for name, many in zip((n for n in order if n in ledgers), looks, strict=True))}")  # fmt: skip
    if against == "best":
        notes.append(
            f"the best of {len(names)} on these very cases is {reference}: its lead is flattered by that choice"
        )
    notes += dict.fromkeys(caution for c in found.values() for caution in c.cautions)
    return Leaderboard(
        _estimates(order, reference, gaps), order, reference, ranked, of, len(first), int(first.table["patient"].nunique()),
        _standings(gaps), _rules(order, reference, found), tuple(notes), tuple(looks),
    )  # fmt: skip


def _ranked_by(found: Comparison, metric: str) -> Endpoint:
    """The ``metric``, of a class if one is named behind a colon, among those that are compared."""
    return endpoint_of(metric, ((d.first.metric, d.first.of) for d in found.differences if not d.first.where), found.primary)  # fmt: skip


def _order(names: Sequence[str], found: Mapping[str, Comparison], by: Endpoint) -> tuple[str, ...]:
    """From the best to the worst; of equals, and of those without a value, as they were given."""
    own = {name: c[by.key].first.value for name, c in found.items()}
    own[names[0]] = found[names[1]][by.key].second.value
    way = 1 if metric_named(by.metric).better == "lower" else -1
    return tuple(sorted(names, key=lambda name: math.inf if math.isnan(own[name]) else way * own[name]))


def _model(test: Predictions) -> str:
    """The hash of the model that made them, where they know it."""
    return test.by.model if test.by else ""


def _items(frozen: Frozen | Sequence[Frozen] | None) -> list[Frozen]:
    return list(frozen) if isinstance(frozen, (list, tuple)) else [frozen] if frozen else []  # type: ignore[list-item]


def _common(systems: Mapping[str, Predictions]) -> tuple[dict[str, Predictions], list[str]]:
    """Every table's rows of the cases that stand in all, in the order of the first; and what was left out."""
    tests = on_shared_cases(systems)
    lost = ((name, len(systems[name]) - len(test)) for name, test in tests.items())
    notes = [f"{count(left, 'case')} of {name} {'is' if left == 1 else 'are'} not in every table and {'is' if left == 1 else 'are'} left out"
             for name, left in lost if left]  # fmt: skip
    return tests, notes


def _told(found: Comparison, metric: str, of: str) -> list[Difference]:
    """Differences over all cases: the one that ranks, then those of all classes together or of the primary question."""
    whole = [d for d in found.differences if not d.first.where and d.first.of in {"", of, found.primary}]
    return sorted(whole, key=lambda d: (d.first.metric, d.first.of) != (metric, of))


def _estimates(order: Sequence[str], reference: str, gaps: Mapping[str, list[Difference]]) -> tuple[Estimate, ...]:
    kept: list[Estimate] = []
    for name in order:
        sides = [d.first for d in gaps[name]] if name in gaps else [d.second for d in next(iter(gaps.values()))]
        kept += [replace(e, where={SYSTEM: name}) for e in sides]
        about = {SYSTEM: name, AGAINST: reference}
        kept += [replace(d.difference, metric=f"{d.first.metric} difference", where=about) for d in gaps.get(name, ())]
    return tuple(kept)


def _standings(gaps: Mapping[str, list[Difference]]) -> tuple[Standing, ...]:
    flat = [(name, d) for name, each in gaps.items() for d in each]
    adjusted = holm([d.p for _, d in flat])
    return tuple(Standing(name, d.first.metric, d.first.of, d.p, float(p)) for (name, d), p in zip(flat, adjusted, strict=True))  # fmt: skip


def _rules(order: Sequence[str], reference: str, found: Mapping[str, Comparison]) -> tuple[str, ...]:
    """By what several classes are called in each; nothing for other targets."""
    told = {name: c.about["called by"] for name, c in found.items() if c.about["called by"]}
    if not told:
        return ()
    return tuple(told[name][0] if name in told else next(iter(told.values()))[1] for name in order)
