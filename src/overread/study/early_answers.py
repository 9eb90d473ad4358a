"""What a run's model says of cases that are followed until an event, given only the images that were there some time before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from overread.cases.before_event import Followed
from overread.cases.cases import Cases
from overread.core.errors import InputError, UnsoundError, checked
from overread.core.phrases import count
from overread.learning.model import Model
from overread.learning.predict import load_model, predict
from overread.predictions import Predictions
from overread.study.context import RunContext, cases_of


@checked
def with_columns(context: RunContext, cases: Cases, columns: Sequence[str]) -> Cases:
    """The cases with columns of the study's table that were not carried along when it was run: one value a case.

    Raises :class:`InputError` for a column that is not there, and where the table itself is gone.
    """
    lacking = [name for name in dict.fromkeys(columns) if name and name not in cases.table]
    if not lacking:
        return cases
    kept = (*context.study.columns.keep_columns, *lacking)
    whole = cases_of(context.study.changed(keep_columns=kept), context.progress).table
    found = whole.drop_duplicates(["case", "image"]).set_index(["case", "image"])[lacking]
    keys = pd.MultiIndex.from_frame(cases.table[["case", "image"]])
    if not keys.isin(found.index).all():
        raise InputError("the table has changed since the study began", given=context.study.table,
                         todo="run the study again in another folder")  # fmt: skip
    return replace(cases, table=cases.table.assign(**{name: found.loc[keys, name].to_numpy() for name in lacking}))


@checked
def rival_of(folder: str | Path, cases: Cases) -> Model:
    """The model of another run, to be asked about the same cases.

    Raises :class:`InputError` where it answers another question or knows patients by other codes, and
    :class:`UnsoundError` where it has seen some of them.
    """
    model = load_model(folder)
    if not model.target.asks_as(cases.target):
        raise InputError("the other run asks another question", given=f"{', '.join(model.target.names)}; here {', '.join(cases.target.names)}"[:300],
                         todo="give a run on the same labels: --against RUN")  # fmt: skip
    if model.about.names_salt != cases.salt:
        raise InputError("the other run knows patients by other codes, so nobody can say whom it has seen", given=str(folder),
                         todo="run both studies on one table with one split, or both with --names keep")  # fmt: skip
    if seen := model.has_seen(list(cases.table["patient"].unique())):
        raise UnsoundError(f"the other run's model has seen {count(seen, 'patient')} of these", given=str(folder),
                           todo="run both studies with the same --seed and split")  # fmt: skip
    return model


@checked
def early_answers(
    context: RunContext, model: Model, found: Followed, moments: Sequence[float], *, part: str, latest: int = 0
) -> list[tuple[float, Predictions]]:  # fmt: skip
    """The predictions at each time before the event, from the images that were there by then; ``latest``: of those the last
    so many, 0 for all. A time by which no case had an image is said and left out.

    Raises :class:`InputError` where none is left.
    """
    made = []
    for moment in sorted(moments):
        shown = _last(found, found.until(moment), latest)
        if not len(shown):
            context.say(f"  {moment:g} before the event: no case has an image so early")
            continue
        context.say(
            f"  {moment:g} before the event: {count(len(shown), 'image')} of {count(shown.table['case'].nunique(), 'case')}"
        )
        resources = context.study.resources
        made.append((float(moment), predict(model, shown, device=resources.device, threads=resources.threads, part=part,
                                            progress=context.progress)))  # fmt: skip
    if not made:
        raise InputError("no case has an image at any of these times before its event", given=", ".join(f"{m:g}" for m in moments),
                         todo="--before-event with shorter times")  # fmt: skip
    return made


def _last(found: Followed, shown: Cases, latest: int) -> Cases:
    """The latest images of each case, in the order of the table."""
    if not latest or not len(shown):
        return shown
    before = dict(zip(found.cases.table["image"], found.before, strict=True))
    rank = shown.table["image"].map(before).groupby(shown.table["case"].to_numpy(str)).rank(method="first")
    return shown.take(np.flatnonzero(rank.to_numpy() <= latest))
