"""Cases that are followed until an event: how long before it each of their images was taken, and what was known by then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases
from overread.core.errors import InputError, checked, nearest, require
from overread.core.phrases import count

#: Two times differ by less than this share of the larger: they are the same.
_SAME = 1e-9
#: Times before the event that are looked at where none are asked for, at most.
_MOMENTS = 7


@dataclass(frozen=True, eq=False)
class Followed:
    """The images of a table in time.

    ``before`` (N,): how long before the event of its case each image was taken, negative after it, NaN of a case without
    an event. ``marked``: how long before its event the marker of a case showed, by case; NaN where it was not seen.
    ``unit``: ``days`` of dates, blank of numbers, which are in the table's unit. ``notes``: what is left out.
    """

    cases: Cases
    before: NDArray[np.float64]
    marked: dict[str, float]
    unit: str = ""
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> NDArray[np.str_]:
        """(N,) the case of each image."""
        return self.cases.table["case"].to_numpy(str)

    def until(self, lead: float) -> Cases:
        """The images that were there ``lead`` before the event, in the order of the table."""
        known = ~np.isnan(self.before)
        return self.cases.take(known & (self.before >= lead - _SAME * max(1.0, abs(lead))))

    def moments(self) -> tuple[float, ...]:
        """Times before the event that are worth a look: in round steps from 0 to where half of the cases begin."""
        known = ~np.isnan(self.before)
        begins = pd.Series(self.before[known]).groupby(self.names[known]).max()
        far = float(begins.median())
        if not far > 0:
            return (0.0,)
        rough = far / (_MOMENTS - 1)
        scale = 10.0 ** math.floor(math.log10(rough))
        step = next(each * scale for each in (1, 2, 2.5, 5, 10) if each * scale >= rough * (1 - 1e-9))
        return tuple(float(f"{step * k:.10g}") for k in range(int(far / step + 1e-9) + 1))


@checked
def followed(cases: Cases, event: str, marker: str = "") -> Followed:
    """How long before its event each image was taken.

    ``event``: the column of its time, the same in all rows of a case, blank where none is known; or a number, at which
    the event of every case is (0 where the table's times are relative to it). ``marker``: the column of when another sign
    showed. Times are numbers of one unit, or dates. Raises :class:`InputError` where an image has no time, where columns
    are missing or of another kind than the times, and where a case has two events.
    """
    table, notes = cases.table, []
    if blank := int((table["time"].astype(str).str.strip() == "").sum()):
        raise InputError("an image without a time is neither before nor after an event", given=f"{blank:,} of {count(len(table), 'image')}",
                         todo="name the column with --time when the study is run, or leave these images out with --where")  # fmt: skip
    dated = not _numeric(table["time"])
    time = _moments(table["time"], "time", dated)
    if np.isnan(time).any():
        raise InputError("a time cannot be read", given=repr(str(table["time"][np.isnan(time)].iloc[0])), todo="write dates as 2024-05-31, or numbers")  # fmt: skip
    when = _event(cases, event, dated)
    names = table["case"].to_numpy(str)
    if lost := len(set(names[np.isnan(when)])):
        notes.append(f"{count(lost, 'case')} of {len(set(names)):,} left out: without the time of an event ({event})")
    if not np.isfinite(when).any():
        raise InputError("no case has an event", given=f"the column {event!r} is blank", todo="give another column: --event-time COLUMN")  # fmt: skip
    marked = {}
    if marker:
        shown = when - _of_case(cases, marker, dated)
        marked = {str(name): float(lead) for name, lead in zip(names, shown, strict=True)}
    after = int((when - time < 0).sum())
    if after:
        notes.append(f"{count(after, 'image')} taken after the event {'is' if after == 1 else 'are'} never shown")
    return Followed(cases, when - time, marked, "days" if dated else "", tuple(notes))


def _event(cases: Cases, event: str, dated: bool) -> NDArray[np.float64]:
    require(
        bool(event), "nothing says when the event was", todo="--event-time COLUMN, or 0 where times are relative to it"
    )
    if event in cases.table:
        return _of_case(cases, event, dated)
    try:
        at = float(event)
    except ValueError:
        others = [str(name) for name in cases.table]
        raise InputError(f"there is no column {event!r}", given=", ".join(others)[:300], todo=nearest(event, others)) from None  # fmt: skip
    if dated or not math.isfinite(at):
        raise InputError("an event at one number needs times that are numbers", given=f"{event}, and times such as {cases.table['time'].iloc[0]!r}",
                         todo="give the column of the event: --event-time COLUMN")  # fmt: skip
    return np.full(len(cases), at)


def _of_case(cases: Cases, column: str, dated: bool) -> NDArray[np.float64]:
    """A time of each image's case (N,), NaN where blank."""
    if column not in cases.table:
        others = [str(name) for name in cases.table]
        raise InputError(f"there is no column {column!r}", given=", ".join(others)[:300], todo=nearest(column, others))
    when = _moments(cases.table[column], column, dated)
    span = pd.Series(when).groupby(cases.table["case"].to_numpy(str)).agg(["min", "max", "size", "count"])
    torn = (span["max"] - span["min"] > 0) | ((span["count"] > 0) & (span["count"] < span["size"]))
    if torn.any():
        raise InputError(f"a case has more than one {column!r}", given=f"{count(int(torn.sum()), 'case')} of {len(torn):,}",
                         todo="write the same time in all rows of a case, or give each event its own case (--case)")  # fmt: skip
    return when


def _blank(column: pd.Series) -> pd.Series:
    return column.isna() | column.astype(str).str.strip().isin(("", "nan", "NaN"))


def _numeric(column: pd.Series) -> bool:
    filled = column[~_blank(column)]
    return bool(pd.to_numeric(filled, errors="coerce").notna().all())


def _moments(column: pd.Series, name: str, dated: bool) -> NDArray[np.float64]:
    """A column as numbers, or dates as days; NaN where blank."""
    blank = _blank(column)
    if dated and not blank.all() and not _numeric(column):
        dates = pd.to_datetime(column.mask(blank), errors="coerce", utc=True, format="ISO8601")
        made = ((dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy()
    elif dated and not blank.all():
        raise InputError(f"the times of the images are dates, and the column {name!r} holds numbers", given=str(column[~blank].iloc[0]),
                         todo="write both as dates, or both as numbers of one unit")  # fmt: skip
    else:
        made = pd.to_numeric(column.mask(blank), errors="coerce").to_numpy()
    wrong = ~np.isfinite(made.astype(np.float64)) & ~blank.to_numpy()
    if wrong.any():
        raise InputError(f"the column {name!r} holds what is no time", given=repr(str(column[wrong].iloc[0])),
                         todo="write " + ("dates as 2024-05-31" if dated else "numbers in the unit of the images' times"))  # fmt: skip
    return np.asarray(made, np.float64)


@checked
def asked_moments(text: Sequence[str], found: Followed) -> tuple[float, ...]:
    """The times before the event that were asked for, from the event on, or those of :meth:`Followed.moments`.

    Raises :class:`InputError` for what is no number, is negative, or stands twice.
    """
    try:
        leads = [float(each) for each in text]
    except ValueError as error:
        raise InputError("a time before the event is a number", given=", ".join(text), todo="--before-event 0,0.3,0.5") from error  # fmt: skip
    if any(not math.isfinite(lead) or lead < 0 for lead in leads) or len(set(leads)) < len(leads):
        raise InputError("times before the event are numbers from 0 on, each once", given=", ".join(text), todo="--before-event 0,0.3,0.5")  # fmt: skip
    return tuple(sorted(leads)) or found.moments()
