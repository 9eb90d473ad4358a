"""The metrics of outlines as functions of sums over patients, for the bootstrap: no loop ever looks at an image again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked
from overread.evaluation.estimators import Intervals
from overread.evaluation.group_values import GroupValue
from overread.evaluation.instances.instance_match import CentreMatch
from overread.evaluation.instances.outline_counts import AT, FIELDS, HITS, OutlineCounts
from overread.stats.arrays import Floats, Integers, Patients, distinct, normal_quantile, patient_codes
from overread.stats.estimate import Estimate, Moved
from overread.stats.overlap import TWENTIETHS
from overread.stats.proportions import proportion, wilson
from overread.stats.resample import Column, Scale, Statistic, bootstrap, influence, of_sums, per_patient

__all__ = [
    "AT_IOU",
    "METRIC_SCALES",
    "LayerStatistics",
    "image_ap",
    "judge_centres",
    "left_empty",
    "metrics_of_sums",
    "outline_statistic",
    "with_extras",
    "with_open_ends",
]

#: Beside the fields of an image: images, AP of the image and whether it has one, error of the count, and its square.
_EXTRA = ("images", "ap", "has ap", "error", "error²")
_PLACE = AT | {name: len(FIELDS) + i for i, name in enumerate(_EXTRA)}
#: Each metric with its scale, and what must be there for it to be defined, in words.
_METRICS: tuple[tuple[str, Scale, str], ...] = (
    ("ap@0.5", "share", "no object, true or predicted"),
    ("ap", "share", "no object, true or predicted"),
    ("ap per image", "share", "no object, true or predicted"),
    ("f1@0.5", "share", "no object, true or predicted"),
    ("precision@0.5", "share", "no predicted object"),
    ("recall@0.5", "share", "no true object"),
    ("pq", "share", "no object, true or predicted"),
    ("sq", "share", "no hit"),
    ("dice", "share", "no object, true or predicted"),
    ("jaccard", "share", "no object, true or predicted"),
    ("merges", "positive", "no true object"),
    ("splits", "positive", "no true object"),
    ("count error", "plain", "no image"),
    ("count error, lower limit", "plain", "one image"),
    ("count error, upper limit", "plain", "one image"),
    ("size bias", "positive", "no hit"),
    ("boundary distance", "positive", "no hit"),
    ("boundary distance 95 %", "positive", "no hit"),
)
_PHYSICAL: tuple[tuple[str, Scale, str], ...] = (
    ("boundary distance µm", "positive", "no hit in an image of known pixel size"),
    ("boundary distance 95 % µm", "positive", "no hit in an image of known pixel size"),
)
_CLASSED: tuple[tuple[str, Scale, str], ...] = (("class agreement", "share", "no hit of a known class"),)
_CENTRED: tuple[tuple[str, Scale, str], ...] = (
    ("centre precision", "share", "no predicted object"),
    ("centre recall", "share", "no true object"),
    ("centre f1", "share", "no object, true or predicted"),
)
#: The scale of the interval of each metric.
METRIC_SCALES: dict[str, Scale] = {name: scale for name, scale, _ in (*_METRICS, *_PHYSICAL, *_CLASSED, *_CENTRED)}
#: AP at each IoU, for the curve.
AT_IOU = tuple(f"ap@{t / 20:g}" for t in TWENTIETHS)
#: Standard deviations between the limits of agreement and the bias (Bland & Altman 1986).
LIMITS_OF_AGREEMENT = 1.96


@checked
def outline_statistic(
    cells: Floats, codes: Integers, patients: int, *, of: str = "", physical: bool = False, classed: bool = False,
    centre_distance: float = 0.0, bounds: bool = True,
) -> Statistic:  # fmt: skip
    """Every metric of one layer of images, and AP at each IoU: see :data:`.outline_counts.FIELDS`.

    ``cells`` (N, fields), ``codes`` (N,) the patient of each image, 0 … ``patients`` − 1. ``physical``: also in microns;
    ``classed``: also the share of hits of the right class; ``centre_distance``: also by that distance of centres; ``bounds``: merges of which none was seen have a bound. An image
    with no object on either side adds nothing to a
    pooled number, and has no AP of its own.
    """
    rows = with_extras(cells)
    told = (
        *_METRICS,
        *(_PHYSICAL if physical else ()),
        *(_CLASSED if classed else ()),
        *(_CENTRED if centre_distance else ()),
    )
    there = {
        "no object, true or predicted": cells[:, AT["true"]] + cells[:, AT["predicted"]] > 0,
        "no predicted object": cells[:, AT["predicted"]] > 0,
        "no true object": cells[:, AT["true"]] > 0,
        "no hit": cells[:, AT["hits 10"]] > 0,
        "no hit in an image of known pixel size": cells[:, AT["sized"]] > 0,
        "no hit of a known class": cells[:, AT["classed"]] > 0,
    }
    columns = []
    for name, scale, reason in (*told, *((name, "share", "no object, true or predicted") for name in AT_IOU[1:])):
        inside = there.get(reason, np.ones(len(cells), bool))
        people = distinct(codes[inside]) if inside.any() else 0
        note = f"centres at most {centre_distance:g} pixels apart" if name.startswith("centre ") else ""
        column = Column(name, of, len(cells), distinct(codes), scale, max(people, 1) if scale == "share" else 1,
                        max(people - 1, 0), reason, note)  # fmt: skip
        none_seen = bounds and name in ("merges", "splits")
        columns.append(replace(column, closed=_none_seen(cells, column, people)) if none_seen else column)

    def compute(sums: Floats) -> Floats:
        found = metrics_of_sums(sums)
        return np.column_stack([found[c.metric] for c in columns])

    return of_sums(tuple(columns), per_patient(codes, patients, *rows.T), compute)


@checked
def with_extras(cells: Floats) -> Floats:
    """(N, fields) with what else is summed of an image: one, its AP and whether it has one, its error and the square."""
    true, predicted = cells[:, AT["true"]], cells[:, AT["predicted"]]
    own = image_ap(cells)
    error = predicted - true
    return np.column_stack((cells, np.ones(len(cells)), np.nan_to_num(own), np.isfinite(own), error, error**2))


@checked
def image_ap(cells: Floats) -> Floats:
    """(N,) the mean of TP / (TP + FP + FN) over IoU of each image (N, fields); NaN where it has no object on either side."""
    hits = cells[:, HITS]
    every = (cells[:, AT["true"]] + cells[:, AT["predicted"]])[:, None] - hits
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((hits / every).mean(axis=1), np.float64)


@checked
def metrics_of_sums(sums: Floats) -> dict[str, Floats]:
    """Every metric of sums (B, fields and extras) of :func:`with_extras`, by its name: (B,) each."""
    s = {name: sums[:, place] for name, place in _PLACE.items()}
    hits, objects = sums[:, HITS], s["true"] + s["predicted"]
    with np.errstate(invalid="ignore", divide="ignore"):
        precisions = hits / (objects[:, None] - hits)  # (B, 10)
        hit = hits[:, 0]
        bias = s["error"] / s["images"]
        spread = np.sqrt(np.maximum(s["error²"] - s["images"] * bias**2, 0.0) / (s["images"] - 1))
        limit = LIMITS_OF_AGREEMENT * np.where(s["images"] > 1, spread, math.nan)
        pixels = s["true pixels"] + s["predicted pixels"]
        return {
            **dict(zip(AT_IOU, precisions.T)),
            "ap": precisions.mean(axis=1),
            "ap per image": s["ap"] / s["has ap"],
            "f1@0.5": 2 * hit / objects,
            "precision@0.5": hit / s["predicted"],
            "recall@0.5": hit / s["true"],
            "pq": 2 * s["iou"] / objects,
            "sq": s["iou"] / hit,
            "dice": 2 * s["shared"] / pixels,
            "jaccard": s["shared"] / (pixels - s["shared"]),
            "merges": 100 * s["merges"] / s["true"],
            "splits": 100 * s["splits"] / s["true"],
            "count error": bias,
            "count error, lower limit": bias - limit,
            "count error, upper limit": bias + limit,
            "size bias": np.exp(s["log size"] / hit),
            "boundary distance": s["distance"] / hit,
            "boundary distance 95 %": s["far"] / hit,
            "boundary distance µm": s["distance um"] / s["sized"],
            "boundary distance 95 % µm": s["far um"] / s["sized"],
            "centre precision": s["centre hits"] / s["predicted"],
            "centre recall": s["centre hits"] / s["true"],
            "centre f1": 2 * s["centre hits"] / objects,
            "class agreement": s["right class"] / s["classed"],
        }


def _none_seen(cells: Floats, column: Column, people: int) -> Callable[[float], Moved] | None:
    """The interval of merges, or splits, where none was seen: as if at most Wilson's share of the patients had one each."""
    objects = float(cells[:, AT["true"]].sum())
    if cells[:, AT[column.metric]].any() or people < 2 or not objects:
        return None

    def closed(level: float) -> Moved:
        most = wilson(0.0, people, normal_quantile(level))[1] * people / objects * 100
        return Moved(0.0, 0.0, most, np.zeros(1), f"none seen: Wilson bound for {people:,} patients, one each")

    return closed


# -- estimates of the images in some rows ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """The statistics of every layer over some rows of counts, whose patients are numbered 0 … ``patients`` − 1."""

    statistics: tuple[Statistic, ...]
    patients: int
    images: int
    people: Integers  # (patients,) the number of each among all patients

    @classmethod
    def of(
        cls,
        counts: OutlineCounts,
        codes: Integers,
        rows: NDArray[np.bool_],
        layers: Sequence[int],
        *,
        bounds: bool = True,
    ) -> LayerStatistics:
        """Of the rows (N,) that are true; ``codes`` (N,) number all patients; ``bounds`` as :func:`outline_statistic`."""
        people, local = np.unique(codes[rows], return_inverse=True)
        names, cells = ("", *counts.names), counts.cells[rows]
        sized = bool(cells[:, 0, AT["sized"]].any())
        made = tuple(
            outline_statistic(cells[:, layer], local.astype(np.int64), len(people), of=names[layer], physical=sized,
                              classed=layer == 0 and bool(counts.names), centre_distance=counts.centre_distance, bounds=bounds)
            for layer in layers
        )  # fmt: skip
        return cls(made, len(people), int(rows.sum()), people.astype(np.int64))

    def estimates(self, how: Intervals) -> list[Estimate]:
        """Every metric with its interval, from the same resamples of the patients."""
        found = bootstrap(self.statistics, max(self.patients, 1), images=self.images, level=how.level, seed=how.seed,
                          resamples=how.resamples or None)  # fmt: skip
        return [with_open_ends(e) for e in found]

    def group_values(self, how: Intervals, every: int, metrics: Sequence[str]) -> dict[str, GroupValue]:
        """Metrics of the first layer, and how far each of ``every`` patients moves them."""
        first = self.statistics[0]
        assert first.sums is not None  # that is what they are made of
        places = {c.metric: i for i, c in enumerate(first.columns)}
        found = {e.metric: e for e in self.estimates(how)}
        present = np.zeros(every, bool)
        present[self.people] = True
        values = {}
        for metric in metrics:
            moved = np.zeros(every)
            moved[self.people] = np.nan_to_num(influence(first.sums, places[metric]))
            values[metric] = GroupValue(found[metric], moved, present)
        return values


@checked
def with_open_ends(e: Estimate) -> Estimate:
    """Without an interval where no resample differs: better none than one without width."""
    if e.undefined or not e.high - e.low <= 1e-12:
        return e
    return replace(e, low=math.nan, high=math.nan, method="no interval: no resample differs")


@checked
def left_empty(counts: OutlineCounts, rows: NDArray[np.bool_], level: float) -> list[Estimate]:
    """Of the images without a true object, the share in which nothing was drawn; nothing where there is no such image."""
    empty = rows & (counts.of("true") == 0)
    if not empty.any():
        return []
    clear = counts.of("predicted")[empty] == 0
    return [proportion(clear, counts.patients[empty], level=level, metric="left empty")]


@checked
def judge_centres(
    matches: Sequence[CentreMatch], patients: Patients = None, *, of: str = "", level: float = 0.95, seed: int = 0,
    resamples: int | None = None,
) -> list[Estimate]:  # fmt: skip
    """``centre precision``, ``centre recall`` and ``centre f1`` of N images, pooled, with intervals by patient bootstrap.

    ``matches``: :func:`.match_centres` of each; ``patients`` (N,) or None. An image without points on either side adds
    nothing. Undefined where nothing was predicted, or nothing is true.

    >>> from overread.evaluation.instances.instance_match import match_centres
    >>> found = judge_centres([match_centres([[0, 0], [5, 5]], [[0, 1]], 2)] * 4, resamples=50)
    >>> [round(e.value, 3) for e in found]
    [1.0, 0.5, 0.667]
    """
    codes = patient_codes(patients, len(matches))
    if not len(matches):
        return [
            Estimate(f"centre {name}", math.nan, of=of, undefined="no image") for name in ("precision", "recall", "f1")
        ]
    counts = np.array([(m.hits, m.predicted, m.true) for m in matches], np.float64)
    people = [distinct(codes[inside]) if inside.any() else 0 for inside in (counts[:, 1] > 0, counts[:, 2] > 0, counts[:, 1:].sum(axis=1) > 0)]  # fmt: skip
    told = zip(
        ("precision", "recall", "f1"), people, ("no predicted point", "no true point", "no point, true or predicted")
    )
    columns = tuple(Column(f"centre {name}", of, len(matches), distinct(codes), "share", max(many, 1), max(many - 1, 0), reason)
                    for name, many, reason in told)  # fmt: skip

    def rates(sums: Floats) -> Floats:
        hit, drawn, true = sums.T
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.column_stack((hit / drawn, hit / true, 2 * hit / (drawn + true)))

    patients_there = int(codes.max()) + 1
    one = of_sums(columns, per_patient(codes, patients_there, *counts.T), rates)
    return bootstrap([one], patients_there, images=len(matches), level=level, seed=seed, resamples=resamples)
