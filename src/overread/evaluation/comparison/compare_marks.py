"""Two readers' marks on the same images, or two models' lesions: what they differ by in sensitivity, by patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import InputError, checked, require
from overread.core.files import fingerprint, plain
from overread.core.phrases import count
from overread.evaluation.comparison.claims import Ledgers, look, paths_of
from overread.evaluation.comparison.compare import Comparison, adjusted_p
from overread.evaluation.detection import Marks, rates_of
from overread.evaluation.ledger import verify
from overread.evaluation.metrics import Endpoint, endpoint_of
from overread.stats.arrays import distinct
from overread.stats.froc import froc_difference

__all__ = ["MarkComparison", "as_readers", "compare_marks"]


@dataclass(frozen=True, eq=False)
class MarkComparison(Comparison):
    """Differences in sensitivity of two readers or models that marked the same images, first minus second.

    As :class:`.Comparison`: the mean sensitivity over the rates of false positives per image, then that at each of them.
    """

    def __repr__(self) -> str:
        return f"comparison of the marks of {' with '.join(self.names)}, {len(self.differences):,} differences"


@checked
def compare_marks(
    first: Marks,
    second: Marks,
    *,
    rates: str | Sequence[float] = "camelyon16",
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
    ledger: Ledgers = None,
    names: tuple[str, str] = ("first", "second"),
    primary: str = "",
) -> MarkComparison:
    """Compare the marks of two readers or models on the same images and lesions; differences are ``first`` − ``second``.

    ``rates`` as in :func:`.judge_marks`. Paired: both are judged on the same resamples of the patients. ``primary``: the
    primary endpoint, such as ``mean sensitivity``, which is not corrected beside the others (Holm). Each ``ledger`` gets
    the look. Raises :class:`InputError` where images or lesions of the two differ, or either holds marks of several readers.
    """
    at = rates_of(rates)
    require(names[0] != names[1], "the two need different names", given=names)
    several = [name for name, marks in zip(names, (first, second), strict=True) if len(marks.readers) > 1]
    if several:
        raise InputError("a table of marks holds several readers, and two are compared", given=", ".join(several),
                         todo="give each reader a table")  # fmt: skip
    if first.digest != second.digest or first.images != second.images:
        raise InputError("the two were not marked on the same images and lesions", given=f"{first}; {second}",
                         todo="read both with the same tables of lesions and images")  # fmt: skip
    for path in paths_of(ledger):
        verify(path)
    patients = _patients(first.patients, second.patients)
    found = froc_difference(first.lesion_image, _of(first), _of(second), first.images, patients, rates=at, level=level,
                            resamples=resamples, seed=seed)  # fmt: skip
    found = [replace(d, **{side: replace(getattr(d, side), metric=_named(getattr(d, side).metric)) for side in ("first", "second", "difference")}) for d in found]  # fmt: skip
    endpoint = endpoint_of(primary, ((d.first.metric, d.first.of) for d in found), "")
    looks, _ = look(ledger, [first.digest], None, model=" against ".join(names), threshold=None, predictions=" ".join(
        fingerprint(side.marks.to_dict("list")) for side in (first, second)))  # fmt: skip
    counts = {"images": first.images, "patients": distinct(patients), "lesions": len(first.lesion_image),
              "images with lesions": len(np.unique(first.lesion_image)), "first": {"marks": len(first.marks)}, "second": {"marks": len(second.marks)}}  # fmt: skip
    told = ("both tables hold the same marks",) if first.marks.equals(second.marks) else ()
    about = {"level": level, "seed": seed, "rates": list(at), "hits": first.rule, "test": first.digest, "kind": "marks"}
    return MarkComparison(
        tuple(found), adjusted_p(found, endpoint), names, True, None, {}, plain(counts), looks, "", told, about,
        endpoint.after(looks, kept=bool(paths_of(ledger))) if endpoint else Endpoint(),
    )  # fmt: skip


@checked
def as_readers(first: Marks, second: Marks, names: tuple[str, str]) -> Marks:
    """The marks of two tables on the same images and lesions as those of two readers, called so."""
    rows = [side.marks.assign(reader=name) for side, name in zip((first, second), names, strict=True)]
    return replace(first, patients=_patients(first.patients, second.patients), marks=pd.concat(rows, ignore_index=True))


def _of(marks: Marks) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    table = marks.marks
    return table["image"].to_numpy(np.int64), table["score"].to_numpy(np.float64), table["hit"].to_numpy(np.int64)


def _named(metric: str) -> str:
    return metric.replace("froc sensitivity", "mean sensitivity")


def _patients(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Who each image belongs to; where only one of the two says, that one."""
    alone = len(first)
    if len(np.unique(first)) == alone:
        return second
    if len(np.unique(second)) < alone and not np.array_equal(first, second):
        raise InputError("the two disagree about whose images they are", given=f"{count(alone, 'image')}",
                         todo="give both the same patients, in the table of images")  # fmt: skip
    return first
