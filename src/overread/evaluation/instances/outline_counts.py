"""What is counted of each image: every metric of outlines is a function of sums of these over images.

An object's class counts in its own layer: layer 0 has all objects whatever their class, each further one the objects of
a class, true and predicted, so that a hit there has the right class.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, checked, require
from overread.core.files import hashed, sha256
from overread.core.phrases import count
from overread.core.progress import Progress, silent
from overread.core.sandbox import contained
from overread.evaluation.instances.instance_match import InstanceMatch, centres, match_centres, matched
from overread.evaluation.instances.predicted_outlines import FIRST, PredictedOutlines, read_labels
from overread.images.outlines.outlines import Outlines
from overread.stats.arrays import Booleans, Floats, Integers
from overread.stats.overlap import TWENTIETHS, Instances, border_distances

#: Of an image and a layer, in this order; hits at each IoU of .5, .55 … .95. Distances are sums over the hits, in pixels
#: and in microns; "sized" are the hits in images of known pixel size; "centre hits" by the distance of centres, where asked.
FIELDS = (
    "true", "predicted", *(f"hits {t}" for t in TWENTIETHS), "iou", "shared", "true pixels", "predicted pixels",
    "merges", "splits", "log size", "distance", "far", "sized", "distance um", "far um", "classed", "right class", "centre hits",
)  # fmt: skip
AT = {name: place for place, name in enumerate(FIELDS)}
HITS = slice(AT["hits 10"], AT["hits 19"] + 1)
#: The column and the row of a confusion for objects without a match.
NONE = "none"


@dataclass(frozen=True)
class OutlineTruths:
    """Images by their names and, of each, a hash of its true outlines (:func:`truth_code`): by this a test set is known,
    whoever drew on it."""

    cases: tuple[str, ...]
    codes: tuple[str, ...]

    @cached_property
    def truth_table(self) -> pd.DataFrame:
        """A row an image: its name, and the hash of its truth."""
        return pd.DataFrame({"case": self.cases, "truth": self.codes})

    def case_marks(self, salt: str) -> tuple[str, ...]:
        """As :meth:`.Predictions.case_marks`."""
        cases, marks = hashed(list(self.cases), salt), hashed(list(self.codes), salt)
        return tuple(sorted(f"{case}:{mark[:4]}" for case, mark in zip(cases, marks, strict=True)))


@dataclass(frozen=True, eq=False)
class OutlineCounts:
    """N images: ``table`` says who they are (the columns of the waist without paths), ``cells`` (N, 1 + classes, fields)
    what was counted, ``truths`` (N,) a hash of each truth, ``confusion`` (classes + 1, classes + 1) of all objects, the
    last for objects without a match; ``names`` the classes. ``notes``: how many label images were read with which note; ``centre_distance`` in
    pixels, 0 where centres were not matched."""

    table: pd.DataFrame
    names: tuple[str, ...]
    cells: Floats
    truths: tuple[str, ...]
    confusion: Integers
    notes: tuple[str, ...] = ()
    centre_distance: float = 0.0

    def __len__(self) -> int:
        return len(self.table)

    def of(self, field: str, layer: int = 0) -> Floats:
        """(N,) one field of a layer."""
        return np.asarray(self.cells[:, layer, AT[field]], np.float64)

    @property
    def patients(self) -> NDArray[Any]:
        """The patient of each row."""
        return self.table["patient"].to_numpy()

    @property
    def subgroups(self) -> tuple[str, ...]:
        """Columns that are no roles."""
        return tuple(c for c in self.table.columns if c not in FIRST)

    @cached_property
    def truth_table(self) -> pd.DataFrame:
        """As :attr:`OutlineTruths.truth_table`."""
        return self._known.truth_table

    def case_marks(self, salt: str) -> tuple[str, ...]:
        """As :meth:`.Predictions.case_marks`."""
        return self._known.case_marks(salt)

    @cached_property
    def _known(self) -> OutlineTruths:
        return OutlineTruths(tuple(self.table["case"]), self.truths)

    def take(self, rows: NDArray[Any]) -> OutlineCounts:
        """The images at these positions, or where a mask is true; the confusion stays that of all."""
        places = np.flatnonzero(rows) if rows.dtype == bool else rows
        return OutlineCounts(self.table.iloc[places].reset_index(drop=True), self.names, self.cells[places],
                             tuple(self.truths[i] for i in places), self.confusion, self.notes, self.centre_distance)  # fmt: skip


@checked
def counted_outlines(
    outlines: PredictedOutlines, *, names: Sequence[str] = (), centre_distance: float = 0.0, workers: int = 1,
    progress: Progress = silent,
) -> OutlineCounts:  # fmt: skip
    """Read the label images of every row that has both, and count; ``names``: the classes, by default those of the table.

    ``centre_distance``: pixels that the centres of an object and of its match lie apart at most; 0 matches by overlap alone.
    ``workers``: 1 reads in this process, others in so many child processes (0: a core each), which a malicious file may
    crash. Raises :class:`InputError` where no row has both, and where an image cannot be read.
    """
    require(workers >= 0, "workers must not be negative", given=workers)
    require(0 <= centre_distance < math.inf, "a distance of centres must not be negative", given=centre_distance)
    kept = np.flatnonzero(outlines.known)
    if not len(kept):
        raise InputError("no image has both outlines and their truth", given=str(outlines), todo="fill the columns predicted and truth")  # fmt: skip
    held, classes = outlines.only(kept), tuple(names) or outlines.names
    tasks = [(*_task(held, row, classes), float(centre_distance)) for row in range(len(held))]
    found: Iterator[Any] = contained(counted_files, tasks, workers=workers) if workers != 1 else _here(tasks)
    parts: list[CountedImage] = []
    for row, one in enumerate(found):
        if isinstance(one, ImageError):
            raise InputError("outlines cannot be judged", given=f"row {int(kept[row]) + 1} of the table: {one}", todo="mend the label image, or leave the row out")  # fmt: skip
        parts.append(one)
        progress("comparing outlines", row + 1, len(tasks))
    table = held.table.drop(columns=["predicted", "truth"]).reset_index(drop=True)
    told: dict[str, int] = {}
    for note in (note for part in parts for note in dict.fromkeys(part.notes)):
        told[note] = told.get(note, 0) + 1
    notes = tuple(
        f"{count(many, 'image')}: {note}" for note, many in sorted(told.items(), key=lambda pair: -pair[1])[:6]
    )
    cells = np.stack([part.cells for part in parts]).astype(np.float64)
    confusion = np.sum([part.confusion for part in parts], axis=0).astype(np.int64)
    return OutlineCounts(
        table, classes, cells, tuple(part.truth for part in parts), confusion, notes, float(centre_distance)
    )


@dataclass(frozen=True)
class CountedImage:
    """``cells`` (1 + classes, fields), ``confusion`` (classes + 1, classes + 1), and the hash of the truth, of one image."""

    cells: NDArray[Any]
    confusion: NDArray[Any]
    truth: str
    notes: tuple[str, ...] = ()


def _task(held: PredictedOutlines, row: int, names: tuple[str, ...]) -> tuple[Any, ...]:
    line = held.table.iloc[row]
    paths = [str(Path(held.folder) / line[side]) for side in ("truth", "predicted")]
    classes = [sent_classes(held, line["case"], side) if names else [] for side in ("truth", "predicted")]
    size = float(held.pixel_sizes[row])
    return (*paths, *classes, list(names), size if math.isfinite(size) else 0.0)


@checked
def sent_classes(held: PredictedOutlines, case: str, side: str) -> list[list[Any]]:
    """The classes of the objects of an image as pairs of number and name: a child process is sent no other keys than words."""
    return [[number, name] for number, name in held.classes_of(case, side).items()]


def _here(tasks: Sequence[tuple[Any, ...]]) -> Iterator[CountedImage | ImageError]:
    for task in tasks:
        try:
            yield counted_files(*task)
        except ImageError as error:
            yield error


@checked
def counted_files(
    truth: str,
    predicted: str,
    true_classes: list[list[Any]],
    predicted_classes: list[list[Any]],
    names: list[str],
    pixel_size: float,
    centre_distance: float = 0.0,
) -> CountedImage:
    """What is counted of two label images; ``pixel_size`` 0 where it is not known; classes as pairs of number and name.
    Raises :class:`ImageError`."""
    a, b = read_labels(truth, dict(true_classes)), read_labels(predicted, dict(predicted_classes))
    if a.size != b.size:
        raise ImageError("the outlines and their truth are images of different sizes", given=f"truth {a.size[1]} × {a.size[0]}, predicted {b.size[1]} × {b.size[0]}",
                         todo="write label images in the size of the image")  # fmt: skip
    return counted_pair(a, b, tuple(names), pixel_size, centre_distance)


@checked
def counted_pair(
    truth: Outlines,
    predicted: Outlines,
    names: tuple[str, ...] = (),
    pixel_size: float = 0.0,
    centre_distance: float = 0.0,
) -> CountedImage:
    """What is counted of the outlines of one image: see :data:`FIELDS`."""
    found = Instances.of(truth.labels, predicted.labels)
    kinds = np.array(truth.classes, object), np.array(predicted.classes, object)
    whole = matched(found)
    near = _distances(truth, predicted, whole)
    rows = [_layer(found, whole.pairs, near, pixel_size)]
    rows[0][AT["classed"]], rows[0][AT["right class"]] = _classed(kinds, whole) if names else (0, 0)
    for name in names:
        inside = kinds[0] == name, kinds[1] == name
        both = inside[0][whole.pairs[:, 0]] & inside[1][whole.pairs[:, 1]]
        part = found.only(np.asarray(inside[0], bool), np.asarray(inside[1], bool))
        rows.append(_layer(part, matched(part).pairs, near[both], pixel_size))
    if centre_distance:
        a, b = centres(truth.labels), centres(predicted.labels)
        for row, name in zip(rows, ("", *names)):
            mine, theirs = (np.flatnonzero([not name or k == name for k in held]) + 1 for held in kinds)
            one, other = a[np.isin(found.true_names, mine)], b[np.isin(found.predicted_names, theirs)]
            row[AT["centre hits"]] = match_centres(one, other, centre_distance).hits
    return CountedImage(
        np.stack(rows), _confusion(kinds, whole, names), truth_code(truth), (*truth.notes, *predicted.notes)
    )


@checked
def truth_code(truth: Outlines) -> str:
    """A hash of the labels, and behind a slash one of the classes where any object has one."""
    labels = sha256(repr(truth.labels.shape).encode() + np.ascontiguousarray(truth.labels).tobytes())[:16]
    return f"{labels}/{sha256(repr(truth.classes).encode())[:8]}" if any(truth.classes) else labels


def _layer(found: Instances, pairs: Integers, near: Floats, pixel_size: float) -> Floats:
    """The fields of one layer; ``near`` (M, 2): mean and far distance of the borders of each pair."""
    row = np.zeros(len(FIELDS))
    row[AT["true"]], row[AT["predicted"]] = len(found.true), len(found.predicted)
    row[HITS] = [np.count_nonzero(found.matched(t)) for t in TWENTIETHS]
    row[AT["iou"]] = found.iou[found.matched()].sum()
    row[AT["shared"]] = found.shared.sum()
    row[AT["true pixels"]], row[AT["predicted pixels"]] = found.true.sum(), found.predicted.sum()
    row[AT["merges"]], row[AT["splits"]] = found.merges, found.splits
    sizes = found.predicted[pairs[:, 1]] / found.true[pairs[:, 0]]
    row[AT["log size"]] = np.log(sizes).sum()
    row[AT["distance"]], row[AT["far"]] = near.sum(axis=0)
    if pixel_size:
        row[AT["sized"]] = len(pairs)
        row[AT["distance um"]], row[AT["far um"]] = near.sum(axis=0) * pixel_size
    return row


def _distances(truth: Outlines, predicted: Outlines, match: InstanceMatch) -> Floats:
    """(M, 2) how far the borders of the objects of each pair lie apart: mean, and the 95 % of either."""
    from scipy.ndimage import find_objects

    near = np.zeros((match.hits, 2))
    if not match.hits:
        return near
    boxes = find_objects(truth.labels), find_objects(predicted.labels)
    names = match.instances.true_names[match.pairs[:, 0]], match.instances.predicted_names[match.pairs[:, 1]]
    for place, (a, b) in enumerate(zip(*(held.tolist() for held in names))):
        one, other = boxes[0][a - 1], boxes[1][b - 1]
        box = tuple(slice(max(min(s.start, t.start) - 1, 0), max(s.stop, t.stop) + 1) for s, t in zip(one, other))
        near[place] = border_distances(truth.labels[box] == a, predicted.labels[box] == b)
    return near


def _classed(kinds: tuple[NDArray[Any], NDArray[Any]], match: InstanceMatch) -> tuple[int, int]:
    """Of the matched objects, those whose class is known on both sides, and those of them that have the right one."""
    a, b = kinds[0][match.pairs[:, 0]], kinds[1][match.pairs[:, 1]]
    known: Booleans = np.asarray((a != "") & (b != ""), bool)
    return int(known.sum()), int((known & (a == b)).sum())


def _confusion(kinds: tuple[NDArray[Any], NDArray[Any]], match: InstanceMatch, names: tuple[str, ...]) -> Integers:
    """(C + 1, C + 1): of true objects (rows) which were predicted as what; the last: no match. Objects without a class
    are left out."""
    many = len(names)
    table = np.zeros((many + 1, many + 1), np.int64)
    if not many:
        return table
    place = {name: number for number, name in enumerate(names)}
    a, b = (np.array([place.get(kind, -1) for kind in held], np.int64) for held in kinds)
    paired = np.zeros(len(b), bool)
    paired[match.pairs[:, 1]] = True
    partner = match.partner
    for true, other in zip(a, partner):
        to = many if other < 0 else b[other]
        if true >= 0 and to >= 0:
            table[true, to] += 1
    for other in np.flatnonzero(~paired & (b >= 0)):
        table[many, b[other]] += 1
    return table
