"""A paper's own table with our numbers beside it: what was published, what this run found, and what cannot be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from overread.core.errors import InputError, checked, require
from overread.core.files import read_json
from overread.core.phrases import aligned
from overread.evaluation.results import Result, estimates
from overread.stats.estimate import Estimate, level_text, rounded


@dataclass(frozen=True)
class Place:
    """Where one of our numbers stands: the ``metric`` of a class or finding (``of``) and of a subgroup (``where``) in a
    ``file`` of the run, as seen from its folder; of a folder it is the ``metrics.json``."""

    file: str
    metric: str
    of: str = ""
    where: dict[str, str] = field(default_factory=dict, hash=False)

    def found_in(self, all_estimates: Sequence[Estimate]) -> tuple[Estimate | None, str]:
        """The estimate at this place; None and the reason where there is none.

        Without ``of`` it is that of all cases, or the only one: the positive class of two.
        """
        same = [e for e in all_estimates if (e.metric, e.where) == (self.metric, self.where)]
        exact = [e for e in same if e.of == self.of] or ([] if self.of else same)
        if len(exact) == 1:
            return exact[0], ""
        several = f": there is one of {', '.join(e.of or 'all' for e in same)}" if same else ""
        return None, f"not found: {self}{several}"

    def __str__(self) -> str:
        of = f" of {self.of}" if self.of else ""
        group = "".join(f", {column} {value}" for column, value in self.where.items())
        return f"{self.metric}{of}{group} in {self.path}"

    @property
    def path(self) -> str:
        """The path of the file, as seen from the run's folder.

        >>> Place("evaluation", "auc").path
        'evaluation/metrics.json'
        """
        return self.file if self.file.endswith(".json") else f"{self.file}/metrics.json"


@dataclass(frozen=True)
class PublishedNumber:
    """One number of a paper: ``what`` it is, its ``value`` (NaN where the paper was not at hand) with its interval as far as
    the paper gives one (NaN where it does not), ``where`` it stands there, and the place of ``ours``; where nothing of ours compares, ``why``."""

    what: str
    value: float
    where: str
    low: float = math.nan
    high: float = math.nan
    ours: Place | None = None
    why: str = ""

    def __post_init__(self) -> None:
        require(
            bool(self.what and self.where),
            "a published number says what it is and where it stands",
            given=self.what or "nothing",
        )
        require((self.ours is None) == bool(self.why), "a published number has ours beside it, or why nothing of ours is",
                given=self.what, todo="give ours = {file, metric}, or why")  # fmt: skip

    def __str__(self) -> str:
        interval = "" if math.isnan(self.low) else f" ({_number(self.low)} to {_number(self.high)})"
        return _number(self.value) + interval


@dataclass(frozen=True)
class BesideRow:
    """A published number, ours beside it, and where ours is missing the reason."""

    published: PublishedNumber
    ours: Estimate | None = None
    missing: str = ""


@dataclass(frozen=True, eq=False)
class BesidePaper(Result):
    """The table of a paper with our numbers beside it.

    ``system`` is the recipe's name, ``paper`` its citation, ``reduced`` what was made smaller than the paper had it, and
    ``left_out`` the commands of the recipe that were not run, each with its reason.
    """

    file: ClassVar[str] = "published.json"

    system: str
    paper: str
    rows: tuple[BesideRow, ...]
    reduced: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Our numbers, in the order of the paper's."""
        return tuple(row.ours for row in self.rows if row.ours is not None)

    def table(self) -> str:
        """The table as text for a terminal."""
        head = (self.paper, "paper", f"here ({level_text(self.estimates)})" if self.estimates else "here")
        rows = [(row.published.what, str(row.published), _said(row)) for row in self.rows]
        return "\n".join([*aligned([head, *rows]), *(f"reduced: {line}" for line in self.reduced),
                          *(f"left out: {line}" for line in self.left_out)])  # fmt: skip


@checked
def beside_paper(
    folder: str | Path, published: Sequence[PublishedNumber], *, system: str, paper: str, reduced: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> BesidePaper:  # fmt: skip
    """What stands in the ``metrics.json`` files of a run's ``folder`` beside what was published.

    A number that the run does not hold is a row with the reason. Raises :class:`InputError` for a damaged file.
    """
    held: dict[str, tuple[Estimate, ...] | None] = {}
    rows = []
    for number in published:
        place = number.ours
        if place is None:
            rows.append(BesideRow(number, None, number.why))
            continue
        if place.path not in held:
            held[place.path] = _estimates_of(Path(folder) / place.path)
        there = held[place.path]
        found, reason = (None, f"not made: {place}") if there is None else place.found_in(there)
        rows.append(BesideRow(number, found, reason))
    return BesidePaper(system, paper, tuple(rows), tuple(reduced), tuple(left_out))


def _estimates_of(path: Path) -> tuple[Estimate, ...] | None:
    """What a metrics.json holds; None where it is not there."""
    if not path.exists():
        return None
    held = read_json(path)
    if not isinstance(held, list):
        raise InputError(f"{path.name} is damaged", given=str(path), todo="run the command that made it again")
    return estimates(held, where=str(path))


def _said(row: BesideRow) -> str:
    return str(row.ours) if row.ours is not None else f"– {row.missing}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "not at hand"
    return rounded(value) if abs(value) <= 1 else f"{value:g}"
