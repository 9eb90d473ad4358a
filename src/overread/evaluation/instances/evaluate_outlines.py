"""How good outlines of objects are: found, missed, merged, split, and how well drawn, with intervals by patient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.display import Overview, Panel
from overread.core.errors import InputError, checked
from overread.core.files import fingerprint, unguarded, write_csv
from overread.core.phrases import aligned, count
from overread.core.progress import Progress, silent
from overread.evaluation.estimators import Intervals
from overread.evaluation.group_values import GroupValue
from overread.evaluation.instances.outline_counts import AT, HITS, NONE, OutlineCounts, counted_outlines
from overread.evaluation.instances.outline_statistics import AT_IOU, LayerStatistics, image_ap, left_empty
from overread.evaluation.instances.predicted_outlines import PIXEL_SIZE, PredictedOutlines
from overread.evaluation.ledger import verify, write_look
from overread.evaluation.metrics import defined, metric_named, shown
from overread.evaluation.operating_point import refuse_training
from overread.evaluation.results import (
    Content,
    LedgerEntry,
    Result,
    Tally,
    estimates_panel,
    groups_panel,
    lookup,
    to_file_form,
)
from overread.evaluation.subgroups import (
    FEWEST,
    GroupGap,
    GroupTest,
    gap_estimates,
    gaps_of_rows,
    largest_gaps,
    subgroups,
)
from overread.stats.arrays import Integers, distinct, normal_quantile, patient_codes
from overread.stats.estimate import Estimate, undefined
from overread.stats.overlap import TWENTIETHS
from overread.stats.resample import resamples_for

__all__ = [
    "ApCurve",
    "ClassConfusion",
    "InstanceEvaluation",
    "OutlineCohort",
    "OutlineProvenance",
    "evaluate_outlines",
    "image_table",
    "judged_rows",
]

#: IoU of the points of a curve.
IOUS = tuple(t / 20 for t in TWENTIETHS)
#: Fewer images (patients) than this, and the intervals are the result, not the values.
FEW = 20


@dataclass(frozen=True)
class ApCurve(Content):
    """AP = TP / (TP + FP + FN) above each IoU, pooled, with its interval."""

    iou: tuple[float, ...] = ()
    ap: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True)
class ClassConfusion(Content):
    """Objects by true class (rows) and predicted class (columns); the last of either, ``none``: without a match."""

    names: tuple[str, ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class OutlineCohort(Tally):
    """What was judged: images and patients, objects, what became of them at IoU .5; images by source.

    ``unknown``: images left out, since prediction or truth is missing; ``empty``: without a true object, of which in
    ``left_empty`` nothing was drawn; ``nothing``: with no object on either side. ``per_class``: true and predicted objects.
    """

    true: int = 0
    predicted: int = 0
    hits: int = 0
    missed: int = 0
    false: int = 0
    merges: int = 0
    splits: int = 0
    unknown: int = 0
    empty: int = 0
    left_empty: int = 0
    sized: int = 0
    per_class: dict[str, tuple[int, int]] = field(default_factory=dict, hash=False)
    unclassed: int = 0
    sources: dict[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class OutlineProvenance:
    """What was judged and how: hashes of model and predictions, level, seed and resamples; ``seen``: patients that the
    model had seen and that were judged all the same; ``notes``: what was changed or guessed in reading."""

    ledger: LedgerEntry = LedgerEntry()  # noqa: RUF009
    model: str = ""
    predictions: str = ""
    level: float = 0.95
    seed: int = 0
    resamples: int = 0
    seen: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class InstanceEvaluation(Result):
    """Estimates of outlines, and what figures are drawn from.

    ``estimates``: of all objects (``of`` blank) and of each class, then in subgroups, then gaps. ``curves``: AP over IoU
    of all objects (under ``""``), of each class, and of each source (``source A``). ``images``: a row an image, in the
    columns of :func:`image_table`. ``looks``: how often this test set was looked at before.
    """

    file: ClassVar[str] = "instances.json"

    estimates: tuple[Estimate, ...]
    curves: dict[str, ApCurve] = field(default_factory=dict)
    confusion: ClassConfusion = ClassConfusion()
    counts: OutlineCohort = OutlineCohort()
    looks: int = 0
    about: OutlineProvenance = OutlineProvenance()
    gaps: tuple[GroupGap, ...] = ()
    heterogeneity: tuple[GroupTest, ...] = ()
    images: Any = field(default_factory=pd.DataFrame)  # a DataFrame, which the reader of fields does not know

    def __getitem__(self, key: str | tuple[str, ...]) -> Estimate:
        """``result["ap@0.5"]``, of all objects; ``result["ap@0.5", "red cell"]``, of a class."""
        return lookup(((e.metric, e.of, e) for e in self.estimates if not e.where), key, ("",))

    def where(self, column: str) -> tuple[Estimate, ...]:
        """The estimates of the subgroups of a column."""
        return tuple(e for e in self.estimates if column in e.where)

    @property
    def digest(self) -> str:
        """The hash of all that is held."""
        return fingerprint([self.held(), list(self.estimates), self.images.to_csv(index=False, float_format="%.9g")])

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader must know before believing the numbers."""
        return tuple(_cautions(self))

    def __repr__(self) -> str:
        return f"evaluation of {count(self.counts.true, 'object')} in {count(self.counts.images, 'image')}, {count(len(self.estimates), 'estimate')}"

    def overview(self) -> Overview:
        """The main numbers of all objects, then of each class and of each subgroup."""
        main = [e for e in self.estimates if not e.where and not e.of]
        brief = {m.name for m in shown("outlines subgroups")}
        classes = [e for e in self.estimates if not e.where and e.of and e.metric in brief]
        groups = [e for e in self.estimates if e.where and not e.of and e.metric in brief]
        panels = (estimates_panel(main), estimates_panel(classes, "By class"), estimates_panel(groups, "In subgroups"))
        head = f"Outlines of {count(self.counts.true, 'object')} in {count(self.counts.images, 'image')} of {count(self.counts.patients, 'patient')}"
        return Overview(head, tuple(p for p in panels if p.rows), self.cautions)

    def asked(self) -> tuple[Panel, ...]:
        """Its metrics with their definitions, and its groups."""
        return defined(self.estimates), groups_panel(self.estimates)

    def table(self) -> str:
        """The results as aligned text for a terminal."""
        return as_text(self)

    def held(self) -> dict[str, Any]:
        """Everything but the estimates and the rows of images."""
        names = [f.name for f in fields(self) if f.name not in ("estimates", "images")]
        typed = ("curves", "confusion", "counts", "about")
        return {name: to_file_form(getattr(self, name)) if name in typed else getattr(self, name) for name in names}

    def save(self, folder: str | Path) -> Path:
        """Write ``metrics.json``, ``instances.json`` and ``images.csv`` into ``folder``."""
        write_csv(Path(folder) / "images.csv", self.images, float_format="%.9g")
        return super().save(folder)

    @classmethod
    def load(cls, folder: str | Path) -> InstanceEvaluation:
        """Read what :meth:`save` wrote. Raises :class:`InputError` if a file is missing or damaged."""
        return replace(super().load(folder), images=_images(Path(folder) / "images.csv"))


def _images(path: Path) -> pd.DataFrame:
    try:
        head = pd.read_csv(path, nrows=0).columns
        text = {c: str for c in head if c in ("case", "patient", "split", "source")}
        table = pd.read_csv(
            path,
            dtype=text,
            keep_default_na=False,
            na_values={c: [""] for c in head if c in (PIXEL_SIZE, *IMAGE_NUMBERS)},
        )
    except (OSError, ValueError) as error:
        raise InputError(
            "images.csv is missing or damaged", given=path.name, todo="run the command that made it again"
        ) from error
    if "case" not in table or "true" not in table:
        raise InputError("images.csv is damaged", given=path.name, todo="run the command that made it again")
    return unguarded(table)


@checked
def evaluate_outlines(
    predicted: PredictedOutlines,
    *,
    by: Sequence[str] = (),
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
    ledger: str | Path | None = None,
    model: str = "",
    allow_seen: bool = False,
    pending: bool = False,
    centre_distance: float = 0.0,
    workers: int = 1,
    progress: Progress = silent,
) -> InstanceEvaluation:
    """Judge outlines whose truth is known, with intervals by patient.

    Objects are matched where their intersection over union exceeds a threshold, each with one other at most. Pooled
    numbers are ratios of sums over all images; an image with no object on either side adds nothing to them and has no AP
    of its own, and what is drawn in an image without a true object is false. Of a class: true and predicted objects of
    that class alone, so that a hit has the right one. ``centre_distance`` in pixels: objects are also matched by the distance
    of their centres, as neurons are. ``by``: columns to report by, besides the source where there are
    several. ``ledger``, ``model``, ``allow_seen`` and ``pending`` as in :func:`.evaluate`; ``workers`` as in
    :func:`.counted_outlines`. Intervals: patient bootstrap, on the logit or logarithmic scale, with Student's t.
    Raises :class:`UnsoundError` if a patient was seen by the model or the ledger was cut; :class:`InputError` where no
    image has both, a label image cannot be read or is of another size than its truth.
    """
    normal_quantile(level)
    seen = refuse_training(predicted, allow_seen)
    if ledger is not None:
        verify(ledger)
    if by and predicted.known.any():
        list(
            subgroups(predicted.only(predicted.known), by)
        )  # a column that is not there is said before images are read
    counts = counted_outlines(predicted, centre_distance=centre_distance, workers=workers, progress=progress)
    several = ["source"] if counts.table["source"].nunique() > 1 else []
    groups = list(subgroups(counts, list(dict.fromkeys((*by, *several)))))
    how = Intervals(level, seed, resamples or 0)
    codes, every = patient_codes(counts.patients, len(counts)), np.ones(len(counts), bool)
    found, curves = judged_rows(counts, codes, every, how)
    for where, rows in groups:
        part, drawn = _within(counts, codes, rows, how, where, found)
        found += part
        if "source" in where and drawn:
            curves[f"source {where['source']}"] = drawn
    gaps, mixed = _gaps(counts, codes, groups, how)
    name = model or (predicted.by.model if predicted.by else "")
    about = OutlineProvenance(LedgerEntry(), name, predicted.digest, level, seed, how.resamples or resamples_for(len(counts)),
                              seen, (*predicted.notes, *counts.notes))  # fmt: skip
    result = InstanceEvaluation((*found, *gap_estimates(gaps)), curves, _confusion(counts), _cohort(predicted, counts, codes), 0,
                                about, tuple(gaps), tuple(mixed), image_table(counts))  # fmt: skip
    if ledger is None:
        return result
    line = write_look(ledger, about.model, None, about.predictions, test=counts, by=list(by), pending=pending)
    return replace(
        result, looks=line["looks before"], about=replace(about, ledger=LedgerEntry(line["entry"], line["hash"]))
    )


@checked
def judged_rows(
    counts: OutlineCounts, codes: Integers, rows: NDArray[np.bool_], how: Intervals
) -> tuple[list[Estimate], dict[str, ApCurve]]:
    """Every estimate of the images in ``rows`` (N,), of all objects and of each class, and the curves of AP by class."""
    layers = range(1 + len(counts.names))
    every = LayerStatistics.of(counts, codes, rows, layers).estimates(how)
    curves = {}
    for of in ("", *counts.names):
        points = [e for e in every if e.of == of and e.metric in AT_IOU]
        if points and not all(e.undefined for e in points):
            curves[of] = ApCurve(
                IOUS, *(tuple(float(getattr(e, end)) for e in points) for end in ("value", "low", "high"))
            )
    told = [e for e in every if e.metric not in AT_IOU[1:]]
    return [*told, *left_empty(counts, rows, how.level)], curves


def _within(
    counts: OutlineCounts, codes: Integers, rows: NDArray[np.bool_], how: Intervals, where: dict[str, str], overall: Sequence[Estimate]
) -> tuple[list[Estimate], ApCurve | None]:  # fmt: skip
    """The estimates of a subgroup; without judging it where it has too few patients."""
    patients = distinct(codes[rows])
    if patients >= FEWEST:
        found, curves = judged_rows(counts, codes, rows, how)
        return [replace(e, where=where) for e in found], curves.get("")
    few, images = f"fewer than {FEWEST} patients", int(rows.sum())
    names = [(e.metric, e.of) for e in overall if not e.where]
    return [replace(undefined(m, few, of=of, images=images, patients=patients), where=where) for m, of in names], None


def _gaps(
    counts: OutlineCounts, codes: Integers, groups: Sequence[tuple[dict[str, str], NDArray[np.bool_]]], how: Intervals
) -> tuple[list[GroupGap], list[GroupTest]]:
    """How far each subgroup is from the others, in the metrics whose gaps are told."""
    metrics, every = shown("outlines gaps"), int(codes.max()) + 1
    kept: dict[bytes, dict[str, GroupValue]] = {}

    def value(name: str, rows: NDArray[np.bool_]) -> GroupValue:
        key = rows.tobytes()
        if key not in kept:
            kept[key] = LayerStatistics.of(counts, codes, rows, (0,)).group_values(
                how, every, [m.name for m in metrics]
            )
        return kept[key][name]

    def of(name: str):  # type: ignore[no-untyped-def]
        return lambda rows: value(name, rows)

    return gaps_of_rows([(m, of(m.name)) for m in metrics], codes, groups)


def _confusion(counts: OutlineCounts) -> ClassConfusion:
    if not counts.names:
        return ClassConfusion()
    rows = tuple(tuple(int(number) for number in row) for row in counts.confusion)
    return ClassConfusion((*counts.names, NONE), rows)


def _cohort(predicted: PredictedOutlines, counts: OutlineCounts, codes: Integers) -> OutlineCohort:
    sums = counts.cells.sum(axis=0)
    true, drawn, hits = (int(sums[0, AT[name]]) for name in ("true", "predicted", "hits 10"))
    empty = counts.of("true") == 0
    per_class = {n: (int(sums[k, AT["true"]]), int(sums[k, AT["predicted"]])) for k, n in enumerate(counts.names, 1)}
    sources = counts.table["source"].astype(str).value_counts(sort=False)
    return OutlineCohort(
        images=len(counts), patients=distinct(codes), true=true, predicted=drawn, hits=hits, missed=true - hits, false=drawn - hits,
        merges=int(sums[0, AT["merges"]]), splits=int(sums[0, AT["splits"]]), unknown=len(predicted) - len(counts),
        empty=int(empty.sum()), left_empty=int((empty & (counts.of("predicted") == 0)).sum()),
        sized=int((np.isfinite(predicted.pixel_sizes) & predicted.known).sum()), per_class=per_class,
        unclassed=true + drawn - sum(map(sum, per_class.values())) if per_class else 0,
        sources={str(name): int(many) for name, many in sources.items()},
    )  # fmt: skip


# -- a row an image -------------------------------------------------------------------------------------------------


IMAGE_NUMBERS = ("true", "predicted", "hits", "missed", "false", "merges", "splits", "count error", "ap@0.5", "ap", "f1@0.5",
                 "precision@0.5", "recall@0.5", "pq", "dice", "jaccard", "size bias", "boundary distance",
                 "boundary distance 95 %")  # fmt: skip


@checked
def image_table(counts: OutlineCounts) -> pd.DataFrame:
    """A row an image: who it is, then :data:`IMAGE_NUMBERS` of all its objects; blank where undefined."""
    s = {name: counts.of(name) for name in AT}
    hit, objects = s["hits 10"], s["true"] + s["predicted"]
    with np.errstate(invalid="ignore", divide="ignore"):
        pixels = s["true pixels"] + s["predicted pixels"]
        values = (
            s["true"], s["predicted"], hit, s["true"] - hit, s["predicted"] - hit, s["merges"], s["splits"],
            s["predicted"] - s["true"], counts.cells[:, 0, HITS][:, 0] / (objects - hit), image_ap(counts.cells[:, 0]),
            2 * hit / objects, hit / s["predicted"], hit / s["true"], 2 * s["iou"] / objects, 2 * s["shared"] / pixels,
            s["shared"] / (pixels - s["shared"]), np.exp(s["log size"] / hit), s["distance"] / hit, s["far"] / hit,
        )  # fmt: skip
    made = pd.DataFrame(dict(zip(IMAGE_NUMBERS, values)))
    whole = dict.fromkeys(IMAGE_NUMBERS[:8], np.int64)
    return pd.concat([counts.table.reset_index(drop=True), made.astype(whole)], axis=1)


# -- in words -------------------------------------------------------------------------------------------------------


def _cautions(found: InstanceEvaluation) -> list[str]:
    """In the order of harm."""
    counts, told = found.counts, []
    if found.about.seen:
        told.append(
            f"this is no test of the model: it has seen {found.about.seen:,} of these patients in training or tuning"
        )
    if found.looks:
        times = "once" if found.looks == 1 else f"{found.looks:,} times"
        told.append(f"this test set had been looked at {times} before this result")
    if counts.patients < FEW:
        told.append(f"only {count(counts.patients, 'patient')}: the intervals and not the values are the result")
    if counts.unknown:
        told.append(
            f"{count(counts.unknown, 'image')} without a prediction or a truth {'was' if counts.unknown == 1 else 'were'} left out"
        )
    if counts.empty:
        told.append(f"{count(counts.empty, 'image')} without a true object: what is drawn there is false; in {counts.left_empty:,} nothing is, "
                    "which adds nothing to pooled numbers")  # fmt: skip
    if counts.unclassed:
        told.append(
            f"{count(counts.unclassed, 'object')} of no known class: counted among all objects, not in the numbers of a class"
        )
    if 0 < counts.sized < counts.images:
        told.append(
            f"microns are of the {count(counts.sized, 'image')} of known pixel size, pixels of all {counts.images:,}"
        )
    told += [f"in reading: {note}" for note in found.about.notes]
    lost = sorted({e.undefined for e in found.estimates if e.undefined and not e.where})
    if lost:
        told.append(f"some numbers are undefined: {'; '.join(lost)[:300]}")
    return told


def as_text(found: InstanceEvaluation) -> str:
    """Counts and cautions, a line an estimate, the classes, the subgroups by their main metrics, the largest gaps."""
    c = found.counts
    lines = [f"{count(c.true, 'true object')} in {count(c.images, 'image')} of {count(c.patients, 'patient')}; {count(c.predicted, 'predicted object')}",
             f"at IoU above .5: {c.hits:,} found, {c.missed:,} missed, {c.false:,} false; {count(c.merges, 'merge')}, {count(c.splits, 'split')}"]  # fmt: skip
    lines += [f"caution: {caution}" for caution in found.cautions]
    whole = [e for e in found.estimates if not e.where and not e.of]
    level = f"{100 * found.about.level:g} % interval"
    lines += aligned([("metric", f"value ({level})", "images", "patients"), *(_row(e) for e in whole)], 1)
    brief = {m.name for m in shown("outlines subgroups")}
    if classes := [e for e in found.estimates if not e.where and e.of and e.metric in brief]:
        lines += ["", *aligned([("class", "metric", f"value ({level})", "images", "patients"), *((e.of, *_row(e)) for e in classes)], 2)]  # fmt: skip
    if groups := [e for e in found.estimates if e.where and not e.of and e.metric in brief]:
        rows = [(", ".join(f"{k} {v}" for k, v in e.where.items()), *_row(e)) for e in groups]
        lines += ["", *aligned([("subgroup", "metric", f"value ({level})", "images", "patients"), *rows], 2)]
    if largest := largest_gaps(list(found.gaps)):
        lines += ["", *aligned([("largest gap", "subgroup", "minus", f"value ({level})", "p after Holm"), *largest], 2)]
    return "\n".join(lines)


def _row(e: Estimate) -> tuple[str, ...]:
    value = "undefined" if e.undefined else str(e)
    share = metric_named(e.metric).name
    return share, value, f"{e.images:,}", f"{e.patients:,}" if math.isfinite(e.patients) else ""
