"""Segmenters of every site, or microscope, judged at every one: the matrix, and what is lost away from home."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import InputError, checked, nearest
from overread.core.progress import Progress, silent
from overread.evaluation.estimators import Intervals
from overread.evaluation.generalisation.site_transfer import Cell, Shift, SiteGap
from overread.evaluation.instances.outline_counts import OutlineCounts, counted_outlines
from overread.evaluation.instances.outline_statistics import LayerStatistics
from overread.evaluation.instances.predicted_outlines import PredictedOutlines
from overread.evaluation.ledger import look_at
from overread.evaluation.metrics import shown
from overread.evaluation.subgroups import FEWEST
from overread.stats.arrays import distinct, normal_quantile, patient_codes
from overread.stats.estimate import Estimate, independent_difference, undefined
from overread.stats.hypotheses import holm

__all__ = ["outline_matrix"]


@checked
def outline_matrix(
    results: Mapping[str, PredictedOutlines],
    *,
    trained: Mapping[str, Sequence[str]] | None = None,
    metric: str = "ap@0.5",
    of: str = "",
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
    part: str = "",
    ledger: str | Path | None = None,
    models: Mapping[str, str] | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> Shift:
    """A metric of every training set at every source of its table, and internal minus external per training set.

    ``results``: by training set what its segmenter outlined, of all sources it is tested at. ``trained``: the sources that
    a training set holds; by default the one of its name. ``metric`` of all objects, or ``of`` a class. Otherwise as
    :func:`.shift_matrix`: internal are all tested patients of the sources that taught, external those of the others;
    sources of fewer than ten patients are counted, not judged, though they belong to the pools. Raises
    :class:`InputError` for no results, an unknown metric or class, and rows without a source.
    """
    normal_quantile(level)
    if not results:
        raise InputError("there are no outlines to compare sites by", given="an empty table")
    names = [m.name for m in shown("outlines")]
    if metric not in names:
        raise InputError(f"there is no metric {metric!r} of outlines", todo=nearest(metric, names))
    classes = tuple(sorted({name for table in results.values() for name in table.names}))
    if of and of not in classes:
        raise InputError(f"there is no class {of!r} of objects", todo=nearest(of, classes))
    counts = {
        n: counted_outlines(table, names=classes, workers=workers, progress=progress) for n, table in results.items()
    }
    blank = sum(int((c.table["source"].astype(str) == "").sum()) for c in counts.values())
    if blank:
        raise InputError("sites are compared where every image says its source", given=f"{blank:,} rows do not", todo="fill the column source")  # fmt: skip
    sources = sorted({s for c in counts.values() for s in c.table["source"].astype(str)})
    homes = {n: tuple((trained or {}).get(n, (n,))) for n in counts}
    layer, how = (classes.index(of) + 1 if of else 0), Intervals(level, seed, resamples or 0)

    def judged(c: OutlineCounts, rows: NDArray[np.bool_]) -> Estimate:
        return _judged(c, rows, metric, of, layer, how)

    cells = [Cell(n, s, s in homes[n], judged(c, _at(c, (s,)))) for n, c in counts.items() for s in sources if _at(c, (s,)).any()]  # fmt: skip
    gaps = [_gap(n, c, homes[n], judged) for n, c in counts.items()]
    corrected = tuple(replace(g, adjusted=float(q)) for g, q in zip(gaps, holm([g.p for g in gaps]), strict=True))
    looks = look_at(
        _all(list(counts.values())), ledger, [((models or {}).get(n, ""), results[n].digest) for n in counts]
    )
    return Shift(metric, of, tuple(counts), tuple(sources), tuple(cells), corrected, level, part, looks)


def _at(c: OutlineCounts, sources: Sequence[str]) -> NDArray[np.bool_]:
    return c.table["source"].astype(str).isin(list(sources)).to_numpy()


def _judged(c: OutlineCounts, rows: NDArray[np.bool_], metric: str, of: str, layer: int, how: Intervals) -> Estimate:
    codes = patient_codes(c.patients, len(c))
    patients, images = distinct(codes[rows]) if rows.any() else 0, int(rows.sum())
    if patients < FEWEST:
        return undefined(metric, f"fewer than {FEWEST} patients", of=of, images=images, patients=patients)
    found = {e.metric: e for e in LayerStatistics.of(c, codes, rows, (layer,)).estimates(how)}
    return found.get(metric) or undefined(metric, "not known of these images", of=of, images=images, patients=patients)


def _gap(name: str, c: OutlineCounts, homes: tuple[str, ...], judged) -> SiteGap:  # type: ignore[no-untyped-def]
    """Internal minus external of one training set."""
    inside = _at(c, homes)
    people = c.table["patient"].astype(str)
    known = people.isin(set(people[inside])).to_numpy() & ~inside
    shared = int(people[known].nunique())
    internal, external = judged(c, inside), judged(c, ~inside & ~known)
    found = independent_difference(internal, external, metric=f"{internal.metric} internal minus external")
    why = next((f"{side}: {e.undefined}" for side, e in (("internal", internal), ("external", external)) if e.undefined),
               found.difference.undefined)  # fmt: skip
    return SiteGap(
        name, homes, internal, external, replace(found.difference, undefined=why), found.p, float("nan"), shared
    )


def _all(several: Sequence[OutlineCounts]) -> OutlineCounts:
    """The images of several tables, each once: the test set that was looked at."""
    import pandas as pd

    table = pd.concat([c.table for c in several], ignore_index=True)
    first = np.flatnonzero(~table["case"].duplicated().to_numpy())
    truths = [truth for c in several for truth in c.truths]
    cells = np.concatenate([c.cells for c in several])[first]
    return OutlineCounts(table.iloc[first].reset_index(drop=True), several[0].names, cells, tuple(truths[i] for i in first), several[0].confusion)  # fmt: skip
