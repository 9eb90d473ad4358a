"""Two segmenters on the same images: every difference with its interval and its p value, by patient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import InputError, UnsoundError, checked, require
from overread.core.files import plain
from overread.core.phrases import aligned, count
from overread.core.progress import Progress, silent
from overread.evaluation.comparison.claims import Ledgers, look, paths_of
from overread.evaluation.comparison.compare import Comparison, adjusted_p
from overread.evaluation.estimators import Intervals, missing_difference, relabelled
from overread.evaluation.instances.evaluate_outlines import IOUS, OutlineCohort
from overread.evaluation.instances.outline_counts import AT, OutlineCounts, counted_outlines
from overread.evaluation.instances.outline_statistics import AT_IOU, LayerStatistics, with_open_ends
from overread.evaluation.instances.predicted_outlines import PredictedOutlines
from overread.evaluation.ledger import looked, verify
from overread.evaluation.metrics import Endpoint, endpoint_of, shown
from overread.evaluation.operating_point import refuse_training
from overread.evaluation.subgroups import FEWEST, subgroups
from overread.stats.arrays import Integers, distinct, normal_quantile, patient_codes
from overread.stats.discrimination.delong import bootstrap_difference
from overread.stats.estimate import Difference, p_text, rounded, without

__all__ = ["OutlineComparison", "compare_outlines"]

#: The largest part of the images that may stand in one table alone without a word.
FEW = 0.5


@dataclass(frozen=True, eq=False)
class OutlineComparison(Comparison):
    """Differences of two segmenters, first minus second, on the same images.

    As :class:`.Comparison`; ``curves``: under ``""`` and each class the AP at each ``iou`` of ``first`` and ``second``, and
    their ``difference`` with ``low`` and ``high``. ``counts``: images, patients, those in one table only, and what became
    of the objects of each.
    """

    def __repr__(self) -> str:
        return f"comparison of the outlines of {' with '.join(self.names)}, {len(self.differences):,} differences"

    def table(self) -> str:
        """The results as aligned text for a terminal."""
        return as_text(self)


@checked
def compare_outlines(
    first: PredictedOutlines,
    second: PredictedOutlines,
    *,
    by: Sequence[str] = (),
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
    ledger: Ledgers = None,
    names: tuple[str, str] = ("first", "second"),
    primary: str = "",
    allow_seen: bool = False,
    centre_distance: float = 0.0,
    workers: int = 1,
    progress: Progress = silent,
) -> OutlineComparison:
    """Compare two segmenters on the images that both have outlined, with one truth; differences are ``first`` − ``second``.

    Paired by image, whatever the order; resampled by patient, with the same resamples for both. ``by``: columns to report
    by, besides the source where there are several. ``primary``: the primary endpoint, ``metric`` or ``metric:class``, not
    corrected beside the others (Holm). ``centre_distance`` as in :func:`.evaluate_outlines`. Of several ``ledger`` files each gets the look. Raises :class:`InputError` where no
    image is shared, or truth or patients of a shared one differ; :class:`UnsoundError` where a model has seen a patient.
    """
    normal_quantile(level)
    require(names[0] != names[1], "the two segmenters need different names", given=names)
    seen = [refuse_training(test, allow_seen) for test in (first, second)]
    for path in paths_of(ledger):
        verify(path)
    classes = tuple(sorted({*first.names, *second.names}))
    sides = [
        counted_outlines(test, names=classes, centre_distance=centre_distance, workers=workers, progress=progress)
        for test in (first, second)
    ]
    pair, left_out, notes = _paired(*sides)
    how = Intervals(level, seed, resamples or 0)
    codes = patient_codes(pair[0].patients, len(pair[0]))
    several = ["source"] if pair[0].table["source"].nunique() > 1 else []
    found, curves = _differences(pair, codes, np.ones(len(codes), bool), how)
    overall = list(found)
    for where, rows in subgroups(pair[0], list(dict.fromkeys((*by, *several)))):
        found += _within(pair, codes, rows, how, where, overall)
    endpoint = endpoint_of(primary, ((d.first.metric, d.first.of) for d in overall), "")
    looks, _ = look(ledger, [pair[0]], None, model=" against ".join(names), threshold=None,
                    predictions=f"{first.digest} {second.digest}")  # fmt: skip
    counts = {"images": len(codes), "patients": distinct(codes), "only in first": left_out[0], "only in second": left_out[1],
              **{which: _cohort(side) for which, side in zip(("first", "second"), pair)}}  # fmt: skip
    told = [*(f"this is no test of {name}: it has seen {many:,} of these patients in training or tuning"
              for name, many in zip(names, seen) if many), *notes]  # fmt: skip
    told += [f"{count(many, 'image')} stand in {name} only and are left out" if many > 1 else f"1 image stands in {name} only and is left out"
             for many, name in zip(left_out, names) if many]  # fmt: skip
    if first.digest == second.digest:
        told.append("both tables hold the same outlines")
    about = {"level": level, "seed": seed, "predictions": [first.digest, second.digest], "kind": "outlines"}
    return OutlineComparison(
        tuple(found), adjusted_p(found, endpoint), names, True, None, plain(curves), plain(counts), looks, "", tuple(told), about,
        endpoint.after(looks, kept=bool(paths_of(ledger))) if endpoint else Endpoint(),
    )  # fmt: skip


def _paired(first: OutlineCounts, second: OutlineCounts) -> tuple[tuple[OutlineCounts, OutlineCounts], tuple[int, int], list[str]]:  # fmt: skip
    """The images that both have, in the order of the first, with one patient each; how many either has alone."""
    place = pd.Index(second.table["case"]).get_indexer(pd.Index(first.table["case"]))
    rows = np.flatnonzero(place >= 0)
    if not len(rows):
        raise InputError("the two tables share no image", given=f"{count(len(first), 'image')} and {count(len(second), 'image')}",
                         todo="name the images alike in the column case of both")  # fmt: skip
    left_out = len(first) - len(rows), len(second) - len(rows)
    a, b = first.take(rows), second.take(place[rows])
    truths = [tuple(code.partition("/") for code in side.truths) for side in (a, b)]
    differ = sum(one[0] != other[0] for one, other in zip(*truths))
    if differ:
        raise InputError("the two tables disagree about the truth", given=f"{differ:,} of {count(len(rows), 'shared image')}",
                         todo="a comparison needs one reference standard: give both the same label images in the column truth")  # fmt: skip
    patients, notes = _patients(a, b)
    source = a.table["source"].astype(str).to_numpy()
    source = np.where(source == "", b.table["source"].astype(str).to_numpy(), source)
    a, b = (replace(side, table=side.table.assign(patient=patients, source=source)) for side in (a, b))
    if any(one[2] != other[2] for one, other in zip(*truths)):
        a, b = (replace(side, names=(), cells=side.cells[:, :1]) for side in (a, b))
        notes.append(
            "the two tables disagree about the classes of true objects: objects are compared whatever their class"
        )
    if len(rows) < FEW * (len(rows) + min(left_out)):
        notes.append("fewer than half of the images of either table stand in both: are these the same test set?")
    return (a, b), left_out, notes


def _patients(a: OutlineCounts, b: OutlineCounts) -> tuple[NDArray[Any], list[str]]:
    """Who each image belongs to; a table that names none (each image its own patient) follows the other."""
    one, other, case = (t.astype(str).to_numpy() for t in (a.table["patient"], b.table["patient"], a.table["case"]))
    if (one == other).all():
        return one, []
    for mine, theirs, which in ((one, other, "second"), (other, one, "first")):
        if (theirs == case).all():
            return mine, [f"the {which} table names no patients: those of the other are used"]
    raise UnsoundError("the two tables disagree about who the patients are", given=f"{int((one != other).sum()):,} of {count(len(case), 'shared image')}",
                       todo="give both tables the same patient column")  # fmt: skip


def _differences(
    pair: tuple[OutlineCounts, OutlineCounts], codes: Integers, rows: NDArray[np.bool_], how: Intervals
) -> tuple[list[Difference], dict[str, Any]]:
    """Every difference on the images in ``rows``, in the order of the table of metrics, and the curves of AP."""
    layers = range(1 + len(pair[0].names))
    a, b = (LayerStatistics.of(side, codes, rows, layers, bounds=False) for side in pair)
    found: list[Difference] = []
    curves: dict[str, Any] = {}
    order = {m.name: m.shown["outlines comparison"] for m in shown("outlines comparison")}
    for of, one, other in zip(("", *pair[0].names), a.statistics, b.statistics):
        kept = [i for i, c in enumerate(one.columns) if c.metric in order or c.metric in AT_IOU]
        made = bootstrap_difference(one.only(kept), other.only(kept), max(a.patients, 1), images=a.images, level=how.level,
                                    resamples=how.resamples or None, seed=how.seed)  # fmt: skip
        each = [_with_open_ends(d) for d in made]
        points = [d for d in each if d.first.metric in AT_IOU]
        if not any(d.difference.undefined for d in points):
            curves[of] = {"iou": IOUS, "first": [d.first.value for d in points], "second": [d.second.value for d in points],
                          "difference": [d.difference.value for d in points], "low": [d.difference.low for d in points],
                          "high": [d.difference.high for d in points]}  # fmt: skip
        found += sorted((d for d in each if d.first.metric in order), key=lambda d: order[d.first.metric])
    return found, curves


def _with_open_ends(d: Difference) -> Difference:
    """Without an interval where no resample differs, as where neither has a merge: that proves no equality."""
    gap = with_open_ends(d.difference)
    return d if gap is d.difference else without(d.first, d.second, gap)


def _within(
    pair: tuple[OutlineCounts, OutlineCounts], codes: Integers, rows: NDArray[np.bool_], how: Intervals, where: dict[str, str],
    overall: Sequence[Difference],
) -> list[Difference]:  # fmt: skip
    people = distinct(codes[rows])
    if people >= FEWEST:
        part = _differences(pair, codes, rows, how)[0]
    else:
        few = f"fewer than {FEWEST} patients"
        part = [
            missing_difference(d.first.metric, few, of=d.first.of, images=int(rows.sum()), patients=people)
            for d in overall
        ]
    return [relabelled(d, where=where) for d in part]


def _cohort(side: OutlineCounts) -> OutlineCohort:
    sums = side.cells[:, 0].sum(axis=0)
    true, drawn, hits, merges, splits = (
        int(sums[AT[name]]) for name in ("true", "predicted", "hits 10", "merges", "splits")
    )
    return OutlineCohort(len(side), distinct(patient_codes(side.patients, len(side))), true=true, predicted=drawn, hits=hits,
                         missed=true - hits, false=drawn - hits, merges=merges, splits=splits)  # fmt: skip


def as_text(found: OutlineComparison) -> str:
    """A line a difference: metric, class, both values, difference with interval, p; then the subgroups."""
    counts = found.counts
    lines = [
        f"{count(counts['images'], 'image')} of {count(counts['patients'], 'patient')}, the same for both{looked(found.looks)}"
    ]
    lines += [f"caution: {caution}" for caution in found.cautions]
    if found.endpoint:
        lines.append(
            f"primary endpoint: {found.endpoint}, {found[found.endpoint.key]}, not corrected; {found.endpoint.named}"
        )
    rows = list(zip(found.differences, found.adjusted))
    level = f"difference ({100 * found.about.get('level', 0.95):g} % interval)"
    head = ("metric", "of", *found.names, level, "p", "p (Holm)")
    lines += aligned([head, *(_row(d, p) for d, p in rows if not d.first.where)])
    brief = {m.name for m in shown("outlines subgroups")}
    if groups := [(d, p) for d, p in rows if d.first.where and not d.first.of and d.first.metric in brief]:
        told = [(", ".join(f"{k} {v}" for k, v in d.first.where.items()), *_row(d, p)) for d, p in groups]
        lines += ["", *aligned([("subgroup", *head), *told])]
    return "\n".join(lines)


def _row(d: Difference, adjusted: float) -> tuple[str, ...]:
    values = ("–" if math.isnan(e.value) else rounded(e.value) for e in (d.first, d.second))
    return d.first.metric, d.first.of, *values, str(d.difference), p_text(d.p), p_text(adjusted)
