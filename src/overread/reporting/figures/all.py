"""Figures from stored numbers: each takes what a file of the run holds and computes nothing of its own."""

from __future__ import annotations

import os
from pathlib import Path

from overread.errors import checked
from overread.reporting.figures.canvas import Figure, save_figures
from overread.reporting.figures.counts import confusion, confusions
from overread.reporting.figures.flow import flow
from overread.reporting.figures.groups import forest, gaps
from overread.reporting.figures.probability import calibration, decision, scores
from overread.reporting.figures.ranking import precision_recall, roc
from overread.reporting.figures.training import scatter, training
from overread.reporting.figures.uncertainty import abstention, conformal
from overread.reporting.gather import Run, gather

#: What is drawn from an evaluation alone, in the order of the page.
DRAWN = {
    "roc": roc,
    "precision-recall": precision_recall,
    "scores": scores,
    "calibration": calibration,
    "decision": decision,
    "confusion": lambda run: confusion(run) or confusions(run),
    "scatter": scatter,
    "abstention": abstention,
    "conformal": conformal,
    "forest": forest,
    "gaps": gaps,
}


@checked
def draw_all(folder: str | os.PathLike[str], *, png: bool = False) -> list[Path]:
    """Draw every figure that the run's stored numbers allow, as ``evaluation/figures/*.svg``; gives their paths.

    ``png``: for print as well. Figures of an earlier state of the run that its numbers no longer allow are removed.
    Raises InputError if the folder does not exist or one of its files is damaged.
    """
    run = gather(folder)
    return replace_figures(figures(run), run.folder / "evaluation" / "figures", png=png)


@checked
def replace_figures(drawn: dict[str, Figure | None], home: Path, *, png: bool = True) -> list[Path]:
    """Write the figures into ``home``, and remove there what is of an earlier state: missing ones, and old PNG."""
    for name, figure in drawn.items():
        for ending in (".svg", ".png"):
            if figure is None or (ending == ".png" and not png):
                (home / f"{name}{ending}").unlink(missing_ok=True)
    return save_figures([figure for figure in drawn.values() if figure], home, png=png)


@checked
def figures(run: Run) -> dict[str, Figure | None]:
    """Every figure of a run by its name; None where its numbers are not there yet."""
    return {"flow": flow(run), "training": training(run), **{name: draw(run) for name, draw in DRAWN.items()}}
