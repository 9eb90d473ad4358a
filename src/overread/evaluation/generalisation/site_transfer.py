"""Shift between sites: a model of every site judged at every site, and what is lost away from home."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from overread.core.errors import InputError, checked, nearest
from overread.core.files import unguarded, write_csv
from overread.evaluation.ledger import look_at
from overread.evaluation.metrics import estimate_of, group_of, metric_for, metric_named
from overread.evaluation.results import Result
from overread.evaluation.subgroups import FEWEST
from overread.predictions import Predictions
from overread.stats.arrays import normal_quantile
from overread.stats.estimate import Estimate, independent_difference, p_said, rounded, undefined
from overread.stats.hypotheses import holm

#: Begins the name of a training set of all sites but one.
ALL_BUT = "all but "


@dataclass(frozen=True)
class Cell:
    """A model trained on ``trained_on``, tested at ``source``; ``inside`` if that source was among its teachers."""

    trained_on: str
    source: str
    inside: bool
    estimate: Estimate


@dataclass(frozen=True)
class SiteGap:
    """Internal minus external of one training set: different patients, so unpaired; ``adjusted`` after Holm.

    ``shared``: patients seen at a source of either kind, who are left out of the external ones.
    """

    trained_on: str
    sources: tuple[str, ...]
    internal: Estimate
    external: Estimate
    gap: Estimate
    p: float
    adjusted: float
    shared: int = 0


@dataclass(frozen=True, eq=False)
class Shift(Result):
    """The matrix of a metric: a row per training set, a column per source, and each training set's gap."""

    file: ClassVar[str] = "shift.json"

    metric: str
    of: str
    trained: tuple[str, ...]
    sources: tuple[str, ...]
    cells: tuple[Cell, ...]
    gaps: tuple[SiteGap, ...]
    level: float
    part: str = ""
    looks: int = 0

    def cell(self, trained_on: str, source: str) -> Estimate | None:
        """The estimate of one field of the matrix; None where nothing was predicted."""
        found = (c.estimate for c in self.cells if (c.trained_on, c.source) == (trained_on, source))
        return next(found, None)

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Every number as an estimate."""
        cells = [replace(c.estimate, where={"trained on": c.trained_on, "source": c.source}) for c in self.cells]
        sides = [
            replace(e, where={"trained on": g.trained_on, "tested": side})
            for g in self.gaps
            for side, e in (("internal", g.internal), ("external", g.external))
        ]
        return (*cells, *sides, *(replace(g.gap, where={"trained on": g.trained_on}) for g in self.gaps))

    def table(self) -> str:
        """The matrix and the gaps as text for a terminal."""
        return "\n".join(said(self))


@checked
def shift_matrix(
    results: Mapping[tuple[str, str], Predictions],
    *,
    trained: Mapping[str, Sequence[str]] | None = None,
    metric: str = "",
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
    part: str = "",
    ledger: str | Path | None = None,
    models: Mapping[str, str] | None = None,
) -> Shift:
    """A metric of every training set at every source, and internal minus external per training set.

    ``results``: predictions by (training set, tested source). ``trained``: the sources that a training set holds; by
    default the one of its name. ``metric`` as :func:`metric_for`. Internal: all tested patients of the sources that
    taught the model; external: all of the others, pooled. They are different patients, so the gap's interval is made
    of the two (Zou & Donner 2008), its p value corrected over the training sets (Holm 1979). Sources with fewer than
    ten test patients are counted, not judged, though they belong to the pools. ``ledger``, ``models`` (hash by
    training set): for a test set. Raises :class:`InputError` for no results.
    """
    normal_quantile(level)
    if not results:
        raise InputError("there are no predictions to compare sites by", given="an empty table")
    sets, sources = list(dict.fromkeys(k for k, _ in results)), sorted({k for _, k in results})
    homes = {name: tuple((trained or {}).get(name, (name,))) for name in sets}
    one = _pooled(list(results.values()))
    metric = metric_for(one, metric)
    pools = {n: _pooled([p for (mine, _), p in results.items() if mine == n]) for n in sets}
    looks = look_at(one, ledger, [((models or {}).get(n, ""), pools[n].digest) for n in sets])

    def judged(p: Predictions) -> Estimate:
        return _judged(p, metric, level, seed, resamples)

    cells = [
        Cell(n, source, source in homes[n], judged(results[n, source]))
        for n in sets
        for source in sources
        if (n, source) in results
    ]
    made = [_gap(n, homes[n], {s: p for (k, s), p in results.items() if k == n}, judged) for n in sets]
    adjusted = holm([g.p for g in made])
    corrected = tuple(replace(g, adjusted=float(q)) for g, q in zip(made, adjusted, strict=True))
    return Shift(
        metric, group_of(one, metric), tuple(sets), tuple(sources), tuple(cells), corrected, level, part, looks
    )  # fmt: skip


def _pooled(parts: Sequence[Predictions]) -> Predictions:
    """All rows of several tables of one target; a case that stands in several once."""
    first = parts[0]
    for p in parts:
        if not p.target.asks_as(first.target):
            raise InputError("the tables of predictions are not of one target",
                             given=f"{', '.join(first.target.names)}; {', '.join(p.target.names)}"[:200])  # fmt: skip
    table = pd.concat([p.table for p in parts], ignore_index=True).drop_duplicates("case")
    return Predictions(table, first.target)


def _judged(p: Predictions, metric: str, level: float, seed: int, resamples: int | None) -> Estimate:
    patients = int(p.table["patient"].nunique())
    if patients < FEWEST:
        of = group_of(p, metric)
        why = f"fewer than {FEWEST} patients"
        return undefined(metric, why, of=of, images=len(p), patients=patients)
    return estimate_of(p, metric, level=level, seed=seed, resamples=resamples)


def _gap(name: str, homes: tuple[str, ...], mine: dict[str, Predictions], judged: Any) -> SiteGap:
    """Internal minus external of one training set."""
    any_table = next(iter(mine.values()))
    nothing = any_table.take(np.zeros(len(any_table), bool))
    inside = _pooled([nothing, *(p for s, p in mine.items() if s in homes)])
    outside = _pooled([nothing, *(p for s, p in mine.items() if s not in homes)])
    known = outside.table["patient"].isin(set(inside.table["patient"])).to_numpy()
    shared = int(outside.table["patient"][known].nunique())
    internal, external = judged(inside), judged(outside.take(~known))
    found = independent_difference(internal, external, metric=f"{internal.metric} internal minus external")
    sides = (("internal", internal), ("external", external))
    why = next((f"{side}: {e.undefined}" for side, e in sides if e.undefined), found.difference.undefined)
    return SiteGap(name, homes, internal, external, replace(found.difference, undefined=why), found.p, math.nan, shared)


# -- from one table -------------------------------------------------------------------------------------------------


@checked
def by_source(
    test: Predictions, trained_on: Sequence[str], *, name: str = "the model"
) -> tuple[dict[tuple[str, str], Predictions], dict[str, tuple[str, ...]]]:
    """``results`` and ``trained`` for :func:`shift_matrix` from one model's predictions, by their ``source``.

    ``trained_on``: the sources that taught the model. Raises :class:`InputError` for fewer than two sources, or a
    training source that no row is from.
    """
    sources = sorted(set(test.table["source"].astype(str)) - {""})
    if len(sources) < 2:
        raise InputError("sites can be compared where the predictions come from two or more",
                         given=f"{len(sources)} in the column source", todo="name the column that tells them: --source")  # fmt: skip
    for one in trained_on:
        if one not in sources:
            raise InputError(f"no prediction is from the source {one!r}", given=", ".join(sources)[:200],
                             todo=nearest(one, sources))  # fmt: skip
    rows = test.table["source"].astype(str)
    return {(name, s): test.take((rows == s).to_numpy()) for s in sources}, {name: tuple(trained_on)}


@checked
def read_shift(
    path: str | Path,
    *,
    trained_on: str = "trained_on",
    source: str = "source",
    positive: Sequence[str] = (),
    rename: Mapping[str, str] = MappingProxyType({}),
    identifiers: str = "",
) -> tuple[dict[tuple[str, str], Predictions], dict[str, tuple[str, ...]]]:
    """``results`` and ``trained`` from one CSV with the columns ``trained_on`` and ``source`` beside the predictions.

    A training set is a source's name, several joined by ``+``, or ``all but`` one. Raises :class:`InputError` for a
    missing file or column, or a case that one model predicts twice. ``positive``, ``rename`` and ``identifiers`` as in
    :meth:`.Predictions.read`.
    """
    table = _read(Path(path), (trained_on, source))
    names = table.pop(trained_on).to_numpy()
    table["source"] = table[source]
    case = table["case"].to_numpy() if "case" in table else np.arange(len(table)).astype(str)
    if "patient" not in table:
        table["patient"] = case
    table["case"] = np.arange(len(table)).astype(str)  # a case stands once for every model
    with tempfile.TemporaryDirectory() as folder:
        every = Predictions.read(
            write_csv(Path(folder) / Path(path).name, table), tuple(positive), rename=rename, identifiers=identifiers
        )
    results, sources = {}, sorted(set(table["source"]) - {""})
    sets = sorted(set(names), key=lambda name: (name not in sources, name))
    for name in sets:
        for one in sources:
            rows = (names == name) & (table["source"] == one).to_numpy()
            if rows.any():
                part = every.take(rows)
                results[name, one] = replace(part, table=part.table.assign(case=case[rows]))
    return results, {name: teachers(name, sources) for name in sets}


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    try:
        table = unguarded(pd.read_csv(path, dtype=str, keep_default_na=False))
    except FileNotFoundError as error:
        raise InputError("the predictions do not exist", given=str(path), todo="check the path") from error
    except (OSError, ValueError) as error:
        raise InputError("the predictions cannot be read", given=f"{path}: {error}") from error
    for column in columns:
        if column not in table:
            raise InputError(f"the predictions lack the column {column!r}",
                             given=", ".join(map(str, table.columns))[:200], todo=nearest(column, table.columns))  # fmt: skip
    return table


@checked
def teachers(name: str, sources: Sequence[str]) -> tuple[str, ...]:
    """The sources that a training set of this name holds: one, several joined by ``+``, ``all``, or ``all but`` one.

    >>> teachers("all but b", ["a", "b", "c"]), teachers("a+b", ["a", "b", "c"]), teachers("x", ["a"])
    (('a', 'c'), ('a', 'b'), ('x',))
    """
    if name in sources:
        return (name,)
    if name.startswith(ALL_BUT) and name[len(ALL_BUT) :] in sources:
        return tuple(s for s in sources if s != name[len(ALL_BUT) :])
    if name == "all":
        return tuple(sources)
    return tuple(name.split("+"))


# -- in words -------------------------------------------------------------------------------------------------------


@checked
def said(shift: Shift) -> tuple[str, ...]:
    """What a matrix says, in sentences: each training set's gap, and which are sure after Holm's correction."""
    lines = []
    word = shift.metric.upper() if shift.metric == "auc" else shift.metric
    for g in shift.gaps:
        if g.gap.undefined:
            lines.append(f"Trained on {g.trained_on}: internal minus external is undefined, {g.gap.undefined}.")
            continue
        lines.append(
            f"Trained on {g.trained_on}: {word} {rounded(g.internal.value)} at its own sources ({g.internal.patients:,} patients), "
            f"{rounded(g.external.value)} elsewhere ({g.external.patients:,}); internal minus external "
            f"{_signed(g.gap.value)} ({_signed(g.gap.low)} to {_signed(g.gap.high)}), {p_said(g.adjusted)} after Holm."
        )
    return (*lines, _verdict(shift))


def _verdict(shift: Shift) -> str:
    sign = -1 if metric_named(shift.metric).better == "lower" else 1
    judged = [g for g in shift.gaps if not g.gap.undefined]
    sure = [g for g in judged if g.adjusted < 1 - shift.level and sign * g.gap.value > 0]
    if not judged:
        return "Too few patients to tell whether anything is lost at another site."
    if sure:
        names = ", ".join(g.trained_on for g in sure)
        return f"Worse elsewhere than at home, by more than chance: trained on {names}."
    return "No loss at another site is shown; that is no proof that there is none: look at the intervals."


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
