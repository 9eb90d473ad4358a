"""What two stages come to, segment the cells and tell them apart, beside one network that sees the whole image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from overread.cells.stages.stage_costs import Ceiling
from overread.core.errors import checked, one_of
from overread.core.phrases import aligned
from overread.evaluation.results import Result, lookup
from overread.stats.estimate import Difference, Estimate, level_text, p_text

#: How cells become an answer for the case: counted, or weighed by a network.
POOLS = ("rule", "mean", "attention")


@dataclass(frozen=True, eq=False)
class TwoStages(Result):
    """Two stages against one on the same images, split and budget.

    ``names``: of the two, the two stages first. ``differences``: first − second, paired by image and clustered by patient.
    ``pooled``: how cells become the answer, in words; blank where cells themselves are the answer. ``window``: what is cut
    out of a cell, in words. ``cells``: cells by kind of outlines and part. ``proof``: that no image has cells on two sides.
    ``seconds``: what each stage took of the shared ``budget`` (0: none). ``ceiling``: what each stage costs on tuning images,
    where that could be told. ``looks``: how often this test set was looked at before.
    """

    file: ClassVar[str] = "two_stages.json"

    names: tuple[str, str]
    differences: tuple[Difference, ...]
    pooled: str = ""
    window: str = ""
    cells: dict[str, int] = field(default_factory=dict, hash=False)
    proof: str = ""
    seconds: dict[str, float] = field(default_factory=dict, hash=False)
    budget: float = 0.0
    ceiling: Ceiling | None = None
    looks: int = 0
    notes: tuple[str, ...] = ()

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """The differences, then the costs of the stages."""
        return (*(d.difference for d in self.differences), *(self.ceiling.estimates if self.ceiling else ()))

    def __getitem__(self, key: str | tuple[str, str]) -> Difference:
        """``["auc"]`` or ``["f1@0.5", "WBC"]``: the difference of a metric."""
        return lookup([(d.first.metric, d.first.of, d) for d in self.differences if not d.first.where], key)

    def __repr__(self) -> str:
        return f"{self.names[0]} against {self.names[1]}"

    def table(self) -> str:
        """A line a difference, then how the stages were made and what they cost."""
        head = (
            "metric",
            "of",
            *self.names,
            f"difference ({level_text([d.difference for d in self.differences])})",
            "p",
        )
        rows = [(d.first.metric, d.first.of, str(d.first), str(d.second), str(d.difference), p_text(d.p)) for d in self.differences if not d.first.where]  # fmt: skip
        told = [line for line in (self.pooled, self.window, self.proof) if line]
        costs = (
            ["", f"what each stage costs, on {self.ceiling.part or 'these'} images", self.ceiling.table()]
            if self.ceiling
            else []
        )
        return "\n".join([repr(self), *aligned([head, *rows]), *told, *costs, *self.notes])


#: How a budget is shared out, and what is kept for comparing and writing; what one stage leaves, the later ones have.
SHARES = {"one stage": 0.4, "segmentation": 0.35, "cells": 0.2, "the rest": 0.05}


@checked
def share_of(stage: str, left: float) -> float:
    """Seconds of those ``left`` that a stage may take, in proportion to what is still to come.

    >>> share_of("one stage", 100.0), share_of("segmentation", 90.0)
    (40.0, 52.5)
    """
    names = list(SHARES)
    to_come = sum(SHARES[name] for name in names[names.index(one_of(stage, SHARES, "the stage")) :])
    return round(max(1.0, left * SHARES[stage] / to_come), 3)
