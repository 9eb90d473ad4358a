"""Errors beside correct cases, and what the audit found, as small pictures: where a reader's eye is worth most."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from overread.cases.audit.audit import Audit
from overread.cases.cases import Cases, paths
from overread.core.errors import checked, require
from overread.core.files import write_bytes, write_json
from overread.evaluation.decision.class_decision import ClassDecision
from overread.evaluation.questions import ScoredCases
from overread.predictions import Predictions
from overread.reporting.thumbnails import thumbnails

#: Of a kind of finding of the audit, so many are kept as pictures.
OF_A_KIND = 4


@checked
def confident_errors(predictions: Predictions, *, count: int = 12, positive: tuple[str, ...] = (),
                     threshold: float | None = None, decision: ClassDecision | None = None) -> pd.DataFrame:  # fmt: skip
    """The cases on which the model was most surely wrong, one row each: case, truth, predicted, probability.

    With ``positive`` classes and a ``threshold`` an error is a case on the wrong side of it; otherwise a class other
    than the one called (by ``decision``, else the most probable), a finding on the wrong side of 0.5, or the largest
    distance of a quantity. Unlabelled cases are left out. Raises ArgumentError for a count below 1.
    """
    require(count >= 1, "count must be at least 1", given=count)
    judged = _judged(predictions, positive, threshold, decision)
    return _surest(judged[~judged["correct"]]).head(count)[_SHOWN].reset_index(drop=True)


@checked
def errors_beside_correct(predictions: Predictions, *, count: int = 12, positive: tuple[str, ...] = (),
                          threshold: float | None = None, decision: ClassDecision | None = None) -> pd.DataFrame:  # fmt: skip
    """The same, then for each the surest correct case of the same truth: also ``correct``, and ``beside`` the case of which.

    Of a quantity, whose every case is an error, a correct case is one of the nearer half; the nearest of that truth stands
    beside. No case stands beside two; an error for which none is left stands alone.
    """
    judged = _judged(predictions, positive, threshold, decision)
    errors = confident_errors(predictions, count=count, positive=positive, threshold=threshold, decision=decision)
    right = _surest(judged[judged["correct"] & ~judged["case"].isin(errors["case"])])
    taken: list[int] = []
    for error in errors.to_dict("records"):
        left = right[~right.index.isin(taken)]
        if predictions.target.task.continuous:
            left = left.iloc[np.argsort(np.abs(left["truth"].astype(float) - float(error["truth"])), kind="stable")]
        else:
            left = left[left["truth"] == error["truth"]]
        taken.append(left.index[0] if len(left) else -1)
    found = [i for i in taken if i >= 0]
    beside = [case for case, i in zip(errors["case"], taken, strict=True) if i >= 0]
    correct = right.loc[found, _SHOWN].assign(correct=True, beside=beside)
    return pd.concat([errors.assign(correct=False, beside=""), correct], ignore_index=True)


_SHOWN = ["case", "truth", "predicted", "probability"]


def _surest(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a case, the surest first."""
    return rows.sort_values(["surprise", "case"], ascending=[False, True], kind="stable").drop_duplicates("case")


def _judged(
    predictions: Predictions, positive: tuple[str, ...], threshold: float | None, decision: ClassDecision | None
) -> pd.DataFrame:
    """Every labelled case, whether it was called right, and how surely (``surprise``, of errors how surely wrong)."""
    task = predictions.target.task
    if positive and threshold is not None:
        return _detection(predictions, positive, threshold)
    called = ScoredCases.of(predictions, decision).called if task.exclusive else None
    found = task.judged(predictions.truth, predictions.scores, called)
    return found.assign(case=predictions.table["case"].to_numpy()[found.pop("row")])


def _detection(predictions: Predictions, positive: tuple[str, ...], threshold: float) -> pd.DataFrame:
    names = list(predictions.target.names)
    positives = [names.index(name) for name in positive]
    score, truth = predictions.scores[:, positives].sum(axis=1), predictions.truth
    flagged, diseased = score >= threshold, np.isin(truth, positives)
    group = " or ".join(positive)
    predicted = np.where(flagged, group, f"not {group}")
    surprise = np.where(flagged, score - threshold, threshold - score)
    truths = np.array(names, dtype=object)[truth]
    table = pd.DataFrame({"case": predictions.table["case"].to_numpy(), "truth": truths, "predicted": predicted, "probability": score,
                          "surprise": surprise, "correct": flagged == diseased})  # fmt: skip
    return table[truth >= 0]


@checked
def write_gallery(folder: str | os.PathLike[str], cases: Cases, predictions: Predictions, *, count: int = 12,
                  positive: tuple[str, ...] = (), threshold: float | None = None, decision: ClassDecision | None = None, unseen: Collection[str] = ()) -> Path:  # fmt: skip
    """Write ``gallery.json`` and its thumbnails under ``folder/explanations``; gives the path of the list.

    See :func:`errors_beside_correct` for what stands there. An image that cannot be read gets no thumbnail, and neither
    do the ``unseen`` cases, whose pixels may name a patient.
    """
    home, first = Path(folder), _first_images(cases)
    table = errors_beside_correct(predictions, count=count, positive=positive, threshold=threshold, decision=decision)
    withheld = table["case"].isin(list(unseen))
    shown = table["case"][~withheld & table["case"].isin(list(first))].tolist()
    pictures = dict(zip(shown, _kept(home, "cases", thumbnails([first[case] for case in shown])), strict=True))
    table = table.assign(thumbnail=table["case"].map(pictures).fillna(""), withheld=withheld)
    return write_json(home / "explanations" / "gallery.json", table.to_dict("records"))


@checked
def write_audit_pictures(
    folder: str | os.PathLike[str], cases: Cases, found: Audit, *, written: Collection[str]
) -> Path:
    """Write ``audit.json`` and its thumbnails under ``folder/explanations``: copies side by side, and images with writing.

    ``written``: all cases with writing in their pixels, of which a finding names the first only. At most :data:`OF_A_KIND` of
    each; pairs of two patients come first. Writing in the pixels lies under boxes, in a picture too
    small to read what a box misses. A blank image and one that cannot be read stand without a picture.
    """
    home, first, truth = Path(folder), _first_images(cases), truths(cases)
    written = set(written)
    patient = dict(zip(cases.table["case"], cases.table["patient"], strict=True))
    rows = [*_pairs(found, patient), *(("burned-in", "writing in the pixels, covered here", (case,)) for case in sorted(written)[:OF_A_KIND])]  # fmt: skip
    wanted = {case for _, _, these in rows for case in these if case in first}
    clear, hidden = sorted(wanted - written), sorted(wanted & written)
    pictures = dict(zip(clear, _kept(home, "audit", thumbnails([first[case] for case in clear])), strict=True))
    boxed = thumbnails([first[case] for case in hidden], covered=True)
    pictures |= zip(hidden, _kept(home, "audit-covered", boxed), strict=True)
    entries = [
        {"kind": kind, "words": said, "cases": these, "labels": [truth.get(case, "") for case in these],
         "thumbnails": [pictures.get(case, "") for case in these]}
        for kind, said, these in rows
    ]  # fmt: skip
    return write_json(home / "explanations" / "audit.json", entries)


_COPIES = {
    "exact": "pixel for pixel the same",
    "near": "the same but for compression, brightness, size or a small shift",
}


def _pairs(found: Audit, patient: dict[str, str]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Kind, words and cases of some pairs of copies, those of two patients first."""
    for kind, said in _COPIES.items():
        pairs = [(a, b) for a, b, how in found.pairs if how == kind]
        pairs.sort(key=lambda pair: patient.get(pair[0]) == patient.get(pair[1]))
        for a, b in pairs[:OF_A_KIND]:
            whose = "of one patient" if patient.get(a) == patient.get(b) else "under two patients"
            yield f"{kind}-duplicate", f"{said}, {whose}", (a, b)


@checked
def truths(cases: Cases) -> dict[str, str]:
    """What the table says of each case, in words: its label, its value, or the findings that are there."""
    columns = cases.target.columns
    table = cases.table.drop_duplicates("case").set_index("case")[list(columns)]
    if len(columns) == 1:
        return {str(case): str(said) for case, said in table.iloc[:, 0].items()}
    has = table.apply(pd.to_numeric, errors="coerce") == 1
    names = np.array([column.removeprefix("label:") for column in columns], object)
    return {str(case): ", ".join(names[row]) or "none" for case, row in zip(table.index, has.to_numpy(), strict=True)}


def _first_images(cases: Cases) -> dict[str, str]:
    return dict(zip(cases.table["case"][::-1], paths(cases)[::-1], strict=True))


def _kept(home: Path, name: str, pictures: Iterable[bytes]) -> list[str]:
    """Write small pictures into ``explanations/name``, in the place of earlier ones; where each lies, "" of an unreadable one."""
    folder = Path("explanations") / name
    for old in (home / folder).glob("*.png"):
        old.unlink()
    written = []
    for number, data in enumerate(pictures, start=1):
        relative = (folder / f"{number:02d}.png").as_posix() if data else ""
        if data:
            write_bytes(home / relative, data)
        written.append(relative)
    return written
