"""Readers who outlined the same images, and a model beside them: agreement, each against the others, within their spread?

Each reader is judged against the consensus of the *other* readers, and the model against the same references on the same
images (as Rajpurkar 2017 does with findings), or all against a known truth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, checked, nearest, one_of, require
from overread.core.files import plain, sha256, write_csv
from overread.core.phrases import aligned, count
from overread.core.progress import Progress, silent
from overread.core.sandbox import contained
from overread.evaluation.comparison.claims import look
from overread.evaluation.instances.outline_consensus import SHAPES, consensus_outlines
from overread.evaluation.instances.outline_counts import FIELDS, OutlineTruths, counted_pair, sent_classes, truth_code
from overread.evaluation.instances.outline_statistics import METRIC_SCALES, metrics_of_sums, with_extras
from overread.evaluation.instances.predicted_outlines import FIRST, PredictedOutlines, read_labels, table_of
from overread.evaluation.ledger import looked, verify
from overread.evaluation.operating_point import refuse_training
from overread.evaluation.readers.answers import FEWEST_CASES
from overread.evaluation.readers.contrasts import MEAN, MODEL, AgreementMatrix, Contrast
from overread.evaluation.results import Result, lookup, to_file_form
from overread.images.outlines.outlines import Outlines, write_labels
from overread.predictions import with_people
from overread.stats.arrays import Floats, Integers, distinct, normal_quantile, patient_codes
from overread.stats.estimate import Estimate, implied, p_text, undefined
from overread.stats.hypotheses import holm
from overread.stats.resample import Column, Scale, bootstrapped, of_sums, per_patient

__all__ = ["OutlineReading", "read_readings", "study_outlines", "write_consensus"]

#: How far two readers agree: numbers that are the same whichever of them is called the truth.
AGREEMENT = ("ap@0.5", "ap", "f1@0.5", "pq", "dice", "boundary distance")
#: What is told of each reader, and of the model.
METRICS = ("ap@0.5", "ap", "f1@0.5", "precision@0.5", "recall@0.5", "pq", "dice", "merges", "splits", "count error", "size bias",
           "boundary distance")  # fmt: skip
REFERENCES = ("auto", "consensus", "truth")
#: Under this key ``where`` says of which two readers an agreement is.
PAIR = "pair"
PANEL = "all pairs"


@dataclass(frozen=True, eq=False)
class OutlineReading(Result):
    """What a study of readers who outlined found.

    ``estimates``: the agreement of all pairs (``where["pair"]`` ``all pairs``) and of each pair; then every metric of each
    reader, of the readers' mean and of the model (``where["reader"]``). ``contrasts``: the model minus the readers' mean, and
    minus each reader. ``matrix``: AP at IoU .5 of every pair. ``spread``: of each metric the lowest and the highest reader.
    """

    file: ClassVar[str] = "readers.json"

    estimates: tuple[Estimate, ...]
    contrasts: tuple[Contrast, ...] = ()
    matrix: AgreementMatrix = AgreementMatrix()  # noqa: RUF009
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)
    readers: tuple[str, ...] = ()
    counts: dict[str, Any] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    looks: int = 0
    about: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str | tuple[str, str]) -> Estimate:
        """``result["ap@0.5"]``: the agreement of all pairs; ``result["ap@0.5", "reader 2"]``, ``result["ap@0.5", "model"]``."""
        return lookup(
            ((e.metric, e.where.get("reader", e.where.get(PAIR, "")), e) for e in self.estimates), key, (PANEL,)
        )

    def contrast(self, metric: str = "ap@0.5", who: str = MEAN) -> Contrast:
        """The model minus the mean reader, or a reader, in a metric."""
        for c in self.contrasts:
            if (c.gap.first.metric, c.reader) == (metric, who):
                return c
        raise InputError(f"there is no difference in {metric} to {who}", todo=nearest(metric, METRICS))

    def within(self, metric: str = "ap@0.5") -> str:
        """Where the model lies: ``within`` the readers' spread, ``above`` or ``below`` it; empty without a model."""
        model = next(
            (e.value for e in self.estimates if (e.metric, e.where.get("reader")) == (metric, MODEL)), math.nan
        )
        low, high = self.spread.get(metric, (math.nan, math.nan))
        if not (math.isfinite(model) and math.isfinite(low)):
            return ""
        return "within" if low <= model <= high else "above" if model > high else "below"

    @property
    def all(self) -> tuple[Estimate, ...]:
        """Every estimate: those of people, then the differences."""
        return (*self.estimates, *(c.estimate for c in self.contrasts))

    def __repr__(self) -> str:
        return f"reading of the outlines of {count(len(self.readers), 'reader')} in {count(self.counts.get('images', 0), 'image')}"

    def held(self) -> dict[str, Any]:
        """Everything but the estimates, of which it says how many are not of differences."""
        fields = {name: value for name, value in super().held().items() if name != "contrasts"}
        return {
            **fields,
            "matrix": to_file_form(self.matrix),
            "estimates": len(self.estimates),
            "contrasts": list(self.contrasts),
        }

    @classmethod
    def restored(cls, held: dict[str, Any], metrics: list[Any]) -> OutlineReading:
        """The reading from what its two files hold."""
        own, contrasts = held.get("estimates"), held.get("contrasts")
        if not isinstance(own, int) or not isinstance(contrasts, list) or len(metrics) != own + len(contrasts):
            raise cls.damaged(cls.file)
        return super().restored(held, metrics[:own])

    def table(self) -> str:
        """The results as aligned text for a terminal."""
        return "\n".join(as_text(self))


@checked
def read_readings(path: str | Path, *, identifiers: str = "ask") -> dict[str, PredictedOutlines]:
    """Readers' outlines from a table: ``case``, ``reader`` and ``predicted`` (the label image beside it), a row a reading.

    ``patient``, ``source`` and the rest as in :class:`.PredictedOutlines`. A reader who found nothing has an empty label
    image; one who has not read has no row. Raises :class:`InputError` for missing columns or files, and a case that a
    reader has twice.
    """
    path = Path(path)
    table, notes = with_people(table_of(path, (*FIRST, "predicted", "truth", "reader")), identifiers)
    for column in ("case", "reader", "predicted"):
        if column not in table:
            raise InputError(f"the readers' table lacks the column {column!r}", given=", ".join(map(str, table.columns))[:200],
                             todo=nearest(column, table.columns))  # fmt: skip
    blank = int((table["reader"].astype(str).str.strip() == "").sum())
    if blank:
        raise InputError("a row names no reader", given=count(blank, "row"), todo="fill the column reader")
    table = table.assign(truth=table.get("truth", ""))
    parts = {str(name): part.drop(columns="reader") for name, part in table.groupby("reader", sort=True)}
    return {name: PredictedOutlines(part, str(path.parent), notes=tuple(notes), identifiers=identifiers) for name, part in parts.items()}  # fmt: skip


@checked
def write_consensus(readings: Mapping[str, PredictedOutlines], folder: str | Path, *, shape: str = "staple") -> Path:
    """Write the consensus of all readers of each image: ``consensus.csv`` and, beside it, ``consensus/0001.png`` and so on.

    The table has ``case``, ``patient``, ``source``, ``mask`` and ``readers``, how many have outlined the image; another
    run takes it by ``--mask mask``. As :func:`.consensus_outlines`. Returns its path.
    """
    rows = _rows(readings)
    made = []
    for number, case in enumerate(dict.fromkeys(case for held in rows.values() for case in held), 1):
        who = [name for name in readings if case in rows[name]]
        drawn = [readings[name].labels(rows[name][case]).labels for name in who]
        if len({d.shape for d in drawn}) > 1:
            raise InputError("outlines of one image differ in size", given=f"image {number} of those read", todo="write label images in the size of the image")  # fmt: skip
        path = write_labels(
            Path(folder) / "consensus" / f"{number:04d}.png", consensus_outlines(drawn, shape=shape).labels
        )
        line = readings[who[0]].table.iloc[rows[who[0]][case]]
        made.append(
            {
                "case": case,
                "patient": line["patient"],
                "source": line["source"],
                "mask": f"consensus/{path.name}",
                "readers": len(who),
            }
        )
    return write_csv(Path(folder) / "consensus.csv", pd.DataFrame(made))


@dataclass(frozen=True, eq=False)
class _Counted:
    """N images, R readers: cells of each pair (N, pairs, F), of each reader against his reference, and of the model
    against the same (N, R, 2, F); ``read`` (N, R) who is judged on which image; ``truths`` (N,) the hash of each truth,
    blank where none is known."""

    cases: tuple[str, ...]
    codes: Integers
    pairs: Floats
    each: Floats
    read: NDArray[np.bool_]
    both: NDArray[np.bool_]  # (N, pairs)
    truths: tuple[str, ...]


@checked
def study_outlines(
    readings: Mapping[str, PredictedOutlines],
    model: PredictedOutlines | None = None,
    *,
    reference: str = "auto",
    shape: str = "staple",
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
    ledger: str | Path | None = None,
    name: str = "",
    workers: int = 1,
    progress: Progress = silent,
) -> OutlineReading:
    """Judge readers among themselves, and a model beside them on the same images, with intervals by patient.

    ``readings``: by reader what he outlined. ``reference``: the ``consensus`` of the other readers
    (:func:`.consensus_outlines` in the given ``shape``; no reader is part of his own), the ``truth`` of the model's table,
    or the truth where that knows any (``auto``). The model is judged against each reader's reference on that reader's
    images, and its number is the mean, as theirs is. ``name``: of the model in the ``ledger``, which gets a look where there
    is a model; ``workers`` as in :func:`.counted_outlines`. Readers of fewer than ten images are counted, not judged. The intervals are for these readers. Raises
    :class:`InputError` for fewer than two readers without a truth, and where no image is shared; :class:`UnsoundError`
    where the model has seen a patient.
    """
    normal_quantile(level)
    one_of(reference, REFERENCES, "reference")
    one_of(shape, SHAPES, "shape")
    if model is not None:
        refuse_training(model)
    if ledger is not None:
        verify(ledger)
    known = _truth_is_known(readings, model, reference)
    readers = tuple(readings)
    counted, cautions = _counted(readings, model, known, shape, workers, progress)
    judged = counted.read.sum(axis=0) >= FEWEST_CASES
    require(
        bool(judged.any()),
        f"no reader has outlined {FEWEST_CASES} images that count",
        given=f"{len(counted.cases):,} images",
    )
    if not judged.all():
        cautions.append(
            f"counted, but not judged, because they outlined fewer than {FEWEST_CASES} images: {count(int((~judged).sum()), 'reader')}"
        )
    agreement, matrix = _agreement(counted, readers, level, seed, resamples)
    names = [n for n, good in zip(readers, judged, strict=True) if good]
    found, contrasts = _each(counted, judged, names, model is not None, level, seed, resamples)
    spread = {m: _range([e.value for e in found if e.metric == m and e.where["reader"] in names]) for m in METRICS}
    told = (
        "the truth of the predictions"
        if known
        else f"consensus of the other readers (objects of more than half, shape by {shape})"
    )
    if not known:
        cautions.append("readers and model are judged against the consensus of the other readers, not against a truth: no reader is part of "
                        "his own reference, and the intervals are for these readers only")  # fmt: skip
    looks = 0 if model is None else _look(ledger, readings, model, counted if known else None, name)
    counts = {"images": len(counted.cases), "patients": distinct(counted.codes), "readers": len(readers),
              "readings": {n: int(many) for n, many in zip(readers, counted.read.sum(axis=0))}}  # fmt: skip
    about = {
        "level": level,
        "seed": seed,
        "reference": told,
        "model": name,
        "predictions": model.digest if model else "",
    }
    return OutlineReading(
        (*agreement, *found),
        tuple(contrasts),
        matrix,
        spread,
        tuple(names),
        plain(counts),
        tuple(cautions),
        looks,
        plain(about),
    )


def _truth_is_known(readings: Mapping[str, PredictedOutlines], model: PredictedOutlines | None, reference: str) -> bool:
    """Whether all are judged against the truth of the model's table. Raises :class:`InputError` for a truth that nobody knows, and for
    readers too few to be judged without one."""
    known = reference != "consensus" and model is not None and bool((model.table["truth"] != "").any())
    if reference == "truth" and not known:
        raise InputError(
            "no image that was read has a known truth",
            todo="give it in the column truth of the predictions, or choose the consensus",
        )
    require(
        len(readings) > 1 or (known and len(readings) == 1),
        "one reader has no other readers to be judged against",
        given=", ".join(readings),
    )
    return known


def _look(
    ledger: str | Path | None, readings: Mapping[str, PredictedOutlines], model: PredictedOutlines, truths: _Counted | None, name: str
) -> int:  # fmt: skip
    """Earlier looks at this test set: a truth is that of every command; without one it is what the readers drew."""
    drawn = sha256("\n".join(f"{n} {readings[n].digest}" for n in sorted(readings)).encode())[:16]
    test = OutlineTruths(truths.cases, truths.truths) if truths else drawn
    looks, _ = look(ledger, [test], None, model=name or MODEL, threshold=None, predictions=model.digest)
    return looks


def _range(values: Sequence[float]) -> tuple[float, float]:
    known = [v for v in values if math.isfinite(v)]
    return (min(known), max(known)) if known else (math.nan, math.nan)


def _counted(
    readings: Mapping[str, PredictedOutlines], model: PredictedOutlines | None, known: bool, shape: str, workers: int, progress: Progress
) -> tuple[_Counted, list[str]]:  # fmt: skip
    """Read every image of every reader once, make its references, and count."""
    rows = _rows(readings)
    every = list(dict.fromkeys(case for held in rows.values() for case in held))
    own: dict[str, int] = {}
    if model is not None:
        there = model.known if known else (model.table["predicted"] != "").to_numpy()
        own = {case: row for row, case in enumerate(model.table["case"]) if there[row]}
    cases = [case for case in every if model is None or case in own]
    if not cases:
        raise InputError("the readers and the model share no image", given=f"{len(every):,} read, {len(own):,} predicted",
                         todo="name images in both tables alike; a run's predictions hold codes unless it kept the names")  # fmt: skip
    notes = []
    if lost := len(every) - len(cases):
        notes.append(
            f"{count(lost, 'image')} read, but not predicted{' with a known truth' if known else ''}, and left out"
        )
    if more := len(own) - len(cases) if model is not None else 0:
        notes.append(f"{count(more, 'image')} predicted, but not read, and left out")
    tasks, people = [], []
    for case in cases:
        drawn = [_address(table, rows[name].get(case), "predicted") for name, table in readings.items()]
        beside = [_address(model, own[case], side) if model is not None else "" for side in ("predicted", "truth")]
        classes = sent_classes(model, case, "truth") if model is not None and known else []
        tasks.append((drawn, beside[0], beside[1] if known else "", shape, classes))
        first = next(name for name in readings if case in rows[name])
        people.append(model.patients[own[case]] if model is not None else readings[first].patients[rows[first][case]])
    found: Iterator[Any] = contained(counted_readings, tasks, workers=workers) if workers != 1 else _here(tasks)
    parts: list[CountedReadings] = []
    for number, one in enumerate(found, 1):
        if isinstance(one, ImageError):
            raise InputError("outlines cannot be judged", given=f"image {number} of those read: {one}", todo="mend the label image, or leave the image out")  # fmt: skip
        parts.append(one)
        progress("comparing readers", number, len(tasks))
    pairs, each, read, both = (
        np.stack([getattr(part, name) for part in parts]) for name in ("pairs", "each", "read", "both")
    )
    codes = patient_codes(np.array(people, object), len(cases))
    return _Counted(
        tuple(cases),
        codes,
        pairs.astype(np.float64),
        each.astype(np.float64),
        read.astype(bool),
        both.astype(bool),
        tuple(part.truth for part in parts),
    ), notes


def _rows(readings: Mapping[str, PredictedOutlines]) -> dict[str, dict[str, int]]:
    """Of each reader the row of every image that he has read."""
    return {
        name: {case: row for row, (case, path) in enumerate(zip(t.table["case"], t.table["predicted"])) if path}
        for name, t in readings.items()
    }


def _address(table: PredictedOutlines, row: int | None, side: str) -> str:
    path = "" if row is None else str(table.table[side].iloc[row])
    return str(Path(table.folder) / path) if path else ""


def _here(tasks: Sequence[tuple[Any, ...]]) -> Iterator[CountedReadings | ImageError]:
    for task in tasks:
        try:
            yield counted_readings(*task)
        except ImageError as error:
            yield error


@dataclass(frozen=True)
class CountedReadings:
    """What is counted of one image: ``pairs`` (pairs, fields), ``each`` (R, 2, fields) reader and model, ``read`` (R,),
    ``both`` (pairs,), and the hash of the ``truth``."""

    pairs: NDArray[Any]
    each: NDArray[Any]
    read: NDArray[Any]
    both: NDArray[Any]
    truth: str = ""


@checked
def counted_readings(
    drawn: list[str], predicted: str, truth: str, shape: str, classes: list[list[Any]]
) -> CountedReadings:
    """Count one image: ``drawn`` the label images of R readers, blank of one who has not read it; of the model and the
    truth, blank where there is none; ``classes`` of the truth, pairs of number and name, by which it is known again. Raises :class:`ImageError` for what cannot be read, or differs in size."""
    held = {r: read_labels(path) for r, path in enumerate(drawn) if path}
    model, known = read_labels(predicted) if predicted else None, read_labels(truth, dict(classes)) if truth else None
    sizes = {o.size for o in (*held.values(), model, known) if o is not None}
    if len(sizes) > 1:
        raise ImageError(
            "outlines of one image differ in size",
            given=sorted(sizes),
            todo="write label images in the size of the image",
        )
    pairs = list(combinations(range(len(drawn)), 2))
    both = np.array([a in held and b in held for a, b in pairs], bool)
    between = np.zeros((len(pairs), len(FIELDS)))
    for place in np.flatnonzero(both):
        between[place] = _cells(*(held[r] for r in pairs[place]))
    each, read = np.zeros((len(drawn), 2, len(FIELDS))), np.zeros(len(drawn), bool)
    for r, mine in held.items():
        others = [held[o].labels for o in held if o != r]
        if known is None and not others:
            continue
        against = known if known is not None else consensus_outlines(others, shape=shape)
        each[r, 0] = _cells(against, mine)
        if model is not None:
            each[r, 1] = _cells(against, model)
        read[r] = True
    return CountedReadings(between, each, read, both, truth_code(known) if known is not None else "")


def _cells(truth: Outlines, predicted: Outlines) -> Floats:
    return np.asarray(counted_pair(truth, predicted).cells[0], np.float64)


# -- numbers ----------------------------------------------------------------------------------------------------------


def _columns(metrics: Sequence[str], images: int, people: int, note: str) -> list[Column]:
    scales: Mapping[str, Scale] = METRIC_SCALES
    return [Column(m, "", images, people, scales[m], max(people, 1) if scales[m] == "share" else 1, max(people - 1, 0),
                   "nothing was outlined", note) for m in metrics]  # fmt: skip


def _agreement(
    counted: _Counted, readers: tuple[str, ...], level: float, seed: int, resamples: int | None
) -> tuple[list[Estimate], AgreementMatrix]:
    """How far readers agree: of all pairs together, and of each; AP at IoU .5 as a matrix."""
    pairs = list(combinations(range(len(readers)), 2))
    if not pairs:
        return [], AgreementMatrix()
    found = []
    value = np.full((len(readers), len(readers)), math.nan)
    for place in (None, *range(len(pairs))):
        both = counted.both.any(axis=1) if place is None else counted.both[:, place]
        where = {PAIR: PANEL if place is None else " and ".join(readers[i] for i in pairs[place])}
        if not both.any():
            found += [replace(undefined(m, "no image that both outlined"), where=where) for m in AGREEMENT]
            continue
        cells = counted.pairs[both].sum(axis=1) if place is None else counted.pairs[both][:, place]
        codes = patient_codes(counted.codes[both], int(both.sum()))
        people = int(codes.max()) + 1
        rows = with_extras(cells)

        def compute(sums: Floats) -> Floats:
            values = metrics_of_sums(sums)
            return np.column_stack([values[m] for m in AGREEMENT])

        note = f"{count(len(pairs), 'pair')} of readers, fixed" if place is None else ""
        one = of_sums(
            tuple(_columns(AGREEMENT, int(both.sum()), people, note)), per_patient(codes, people, *rows.T), compute
        )
        made = bootstrapped(one, codes, level=level, resamples=resamples, seed=seed)
        found += [replace(e, where=where) for e in made]
        if place is not None:
            value[pairs[place]] = value[pairs[place][::-1]] = made[0].value
    return found, AgreementMatrix(AGREEMENT[0], readers, tuple(tuple(map(float, row)) for row in value))


def _each(
    counted: _Counted, judged: NDArray[np.bool_], readers: list[str], beside: bool, level: float, seed: int, resamples: int | None
) -> tuple[list[Estimate], list[Contrast]]:  # fmt: skip
    """Every metric of each reader, of their mean and of the model, from one bootstrap of the patients; and the contrasts."""
    rows = counted.read[:, judged].any(axis=1)
    codes = patient_codes(counted.codes[rows], int(rows.sum()))
    people, many = int(codes.max()) + 1, len(readers)
    cells = counted.each[rows][:, judged]  # (N, R, 2, F)
    read = counted.read[rows][:, judged]
    blocks = with_extras(cells.reshape(-1, len(FIELDS))).reshape(*cells.shape[:3], -1)
    blocks = blocks * read[:, :, None, None]  # an image that was not read is none, not one without objects
    width = blocks.shape[-1]

    def compute(sums: Floats) -> Floats:
        """(B, R·2·K) → (B, (2R + 3)·metrics): readers, mean, model, model minus mean, model minus each."""
        values = metrics_of_sums(sums.reshape(-1, width))
        told = np.column_stack([values[m] for m in METRICS]).reshape(len(sums), many, 2, len(METRICS))
        own, others = told[:, :, 0], told[:, :, 1]
        mean, model = own.mean(axis=1, keepdims=True), others.mean(axis=1, keepdims=True)
        return np.concatenate((own, mean, model, model - mean, others - own), axis=1).reshape(len(sums), -1)

    note = f"{count(many, 'reader')}, fixed"
    columns = _columns(METRICS, int(rows.sum()), people, note)
    apart = [replace(c, metric=f"{c.metric} difference", scale="plain", effective=1) for c in columns]
    statistic = of_sums(
        (*columns * (many + 2), *apart * (many + 1)),
        per_patient(codes, people, *blocks.reshape(len(blocks), -1).T),
        compute,
    )
    made = np.array(bootstrapped(statistic, codes, level=level, resamples=resamples, seed=seed), object).reshape(
        2 * many + 3, -1
    )
    who = [*readers, MEAN, *([MODEL] if beside else [])]
    found = [replace(made[w, m], where={"reader": name}) for m in range(len(METRICS)) for w, name in enumerate(who)]
    if not beside:
        return found, []
    contrasts = []
    for m in range(len(METRICS)):
        model, mean = made[many + 1, m], made[many, m]
        contrasts.append(_contrast(model, mean, made[many + 2, m], MEAN))
        each = [_contrast(model, made[r, m], made[many + 3 + r, m], name) for r, name in enumerate(readers)]
        contrasts += [replace(c, adjusted=float(p)) for c, p in zip(each, holm([c.gap.p for c in each]), strict=True)]
    return found, contrasts


def _contrast(model: Estimate, reader: Estimate, gap: Estimate, who: str) -> Contrast:
    sides = replace(model, where={"reader": MODEL}), replace(reader, where={"reader": who})
    freedom = max(gap.patients - 1, 0)
    return Contrast(implied(*sides, gap, freedom=freedom), {"reader": who}, float(freedom) or math.inf)


# -- as text ----------------------------------------------------------------------------------------------------------


def as_text(found: OutlineReading) -> list[str]:
    """Counts and cautions; agreement; each reader, their mean and the model; where the model lies."""
    counts = found.counts
    lines = [f"{count(counts['readers'], 'reader')} of {count(counts['images'], 'image')} of {count(counts['patients'], 'patient')}, "
             f"reference: {found.about['reference']}{looked(found.looks)}"]  # fmt: skip
    lines += [f"caution: {caution}" for caution in found.cautions]
    cells = {(e.metric, e.where.get(PAIR)): str(e) for e in found.estimates if PAIR in e.where}
    pairs = list(dict.fromkeys(pair for _, pair in cells))
    if pairs:
        lines += [
            "",
            *aligned([("agreement", *AGREEMENT), *((str(p), *(cells[m, p] for m in AGREEMENT)) for p in pairs)]),
        ]
    held = {(e.metric, e.where["reader"]): str(e) for e in found.estimates if "reader" in e.where}
    who = list(dict.fromkeys(name for _, name in held))
    gaps = {
        c.gap.first.metric: (str(c.estimate), p_text(c.gap.p), found.within(c.gap.first.metric))
        for c in found.contrasts
        if c.reader == MEAN
    }
    head = ("metric", *who, *(("model − mean reader", "p", "readers' spread") if gaps else ()))
    lines += ["", *aligned([head, *((m, *(held[m, name] for name in who), *gaps.get(m, ())) for m in METRICS)])]
    return lines
