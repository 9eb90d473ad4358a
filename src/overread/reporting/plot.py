"""Any result as a matplotlib figure: the figures of the report, for a notebook.

Results stand on lower floors and know nothing of figures. They ask the front door of the package, which finds this module
by name (docs/decisions/notebook.md); here the figures of each class are listed by the names of their functions, so that
nothing of matplotlib is imported before something is drawn.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overread.core.display import Shown
from overread.core.errors import InputError, checked, one_of
from overread.evaluation.evaluate import Evaluation
from overread.evaluation.results import Estimated, from_file_form
from overread.reporting.run import Run, TrainingRow
from overread.tasks.target import Target

if TYPE_CHECKING:
    from overread.reporting.figures.canvas import Figure


@dataclass(frozen=True)
class Drawn:
    """A figure: ``by`` which function, ``module:name`` within reporting, ``of`` which attribute; blank: of the result."""

    by: str
    of: str = ""

    def draw(self, result: Any) -> Figure | list[Figure] | None:
        """What the function makes of it; None where there is nothing to draw."""
        module, _, name = self.by.partition(":")
        function = getattr(importlib.import_module(f"overread.reporting.{module}"), name)
        return function(getattr(result, self.of) if self.of else result)  # type: ignore[no-any-return]


#: By class, the kinds of figures, that which is drawn unasked first; where that has nothing to draw, the next.
FIGURES: dict[str, dict[str, Drawn]] = {
    "Evaluation": {
        "roc": Drawn("figures.curves:roc"),
        "scatter": Drawn("figures.curves:scatter"),
        "precision recall": Drawn("figures.curves:precision_recall"),
        "calibration": Drawn("figures.calibration:calibration"),
        "confusion": Drawn("figures.cohort:confusion"),
        "confusions": Drawn("figures.cohort:confusions"),
        "scores": Drawn("figures.calibration:scores"),
        "net benefit": Drawn("figures.calibration:decision"),
        "subgroups": Drawn("figures.groups:forest"),
        "gaps": Drawn("figures.groups:gaps"),
    },
    "Comparison": {
        "differences": Drawn("figures.comparison:forest"),
        "claim": Drawn("figures.comparison:claim_figure"),
        "subgroups": Drawn("figures.comparison:subgroup_forest"),
        "all": Drawn("figures.comparison:draw_comparison"),
    },
    "InstanceEvaluation": {
        "ap over iou": Drawn("pages.cells.judged_outlines:ap_figure"),
        "counts": Drawn("pages.cells.judged_outlines:counts_figure"),
    },
    "OutlineComparison": {
        "differences": Drawn("pages.cells.judged_outlines:outline_differences_figure"),
        "ap over iou": Drawn("pages.cells.judged_outlines:both_curves_figure"),
    },
    "OutlineReading": {"readers": Drawn("pages.cells.judged_outlines:readers_figure")},
    "Model": {"training": Drawn("figures.curves:training"), "ladder": Drawn("figures.curves:ladder")},
    "Search": {
        "trials": Drawn("pages.search:coordinates", "trials"),
        "importance": Drawn("pages.search:importance_bars", "importance"),
    },
    "Reading": {
        "roc": Drawn("figures.readers:roc_figure"),
        "differences": Drawn("figures.readers:difference_figure"),
        "agreement": Drawn("figures.readers:agreement_figure"),
        "modalities": Drawn("figures.readers:modality_figure"),
    },
    "LearningCurve": {"curve": Drawn("pages.curve_shift:curve_figure")},
    "Shift": {"matrix": Drawn("pages.curve_shift:matrix_figure"), "gaps": Drawn("pages.curve_shift:gaps_figure")},
    "Plan": {"size": Drawn("pages.plan:draw_plan")},
    "Simulation": {"workflows": Drawn("pages.simulate:draw_simulation")},
    "Localisation": {"froc": Drawn("figures.froc_curve:froc_figure")},
    "CalibrationChange": {"calibration": Drawn("pages.calibrate:draw_calibration")},
    "Explanation": {"map": Drawn("figures.explain:map_figure")},
    "Index": {"precision": Drawn("figures.answers:forest", "precision")},
    "Cases": {"labels": Drawn("figures.counts:labels"), "sources": Drawn("figures.counts:sources")},
    "Split": {"parts": Drawn("figures.counts:parts")},
    "Audit": {"findings": Drawn("figures.counts:findings")},
    "Predictions": {"scores": Drawn("figures.answers:scores"), "scatter": Drawn("figures.answers:scatter")},
    "OperatingPoint": {"point": Drawn("figures.answers:point")},
    "Estimate": {"interval": Drawn("figures.answers:interval")},
    "Difference": {"interval": Drawn("figures.answers:difference")},
}


@checked
def plot(result: Shown, kind: str = "") -> Any:
    """A result as a :class:`matplotlib.figure.Figure`, white, to show, to change and to save; ``kind`` as :func:`plots` names them.

    Of what is made of estimates, a metric's name is a kind too: its values by class and subgroup. Raises
    :class:`ArgumentError` for a kind that it has not, :class:`InputError` where there is nothing to draw.
    """
    known, metrics = _figures(result), _metrics(result)
    what = type(result).__name__
    if kind and kind not in known:
        one_of(kind, [*known, *metrics], f"the kind of figure of {what}")
    drawn = {kind: known[kind]} if kind in known else {} if kind in metrics else known
    found: Any = next(filter(None, (figure.draw(_readable(result)) for figure in drawn.values())), None)
    if found is None and metrics and kind not in known:
        found = _forest(result, kind or metrics[0])
    figure = found[0] if isinstance(found, list) else found
    if figure is None:
        given, others = kind or ", ".join(known) or "no figure", ", ".join(name for name in known if name != kind)
        raise InputError(f"there is nothing to draw of this {what}", given=given, todo=f"choose from {others}" if others else "")  # fmt: skip
    figure.drawing.set_facecolor("white")
    return figure.drawing


@checked
def plots(result: Shown) -> tuple[str, ...]:
    """The kinds of figures that a result may have, that which is drawn unasked first; none where it has none.

    >>> from overread.stats.estimate import Estimate
    >>> plots(Estimate("auc", 0.9))
    ('interval',)
    """
    return tuple(_figures(result))


def _figures(result: Shown) -> dict[str, Drawn]:
    return next((FIGURES[base.__name__] for base in type(result).__mro__ if base.__name__ in FIGURES), {})


def _metrics(result: Shown) -> list[str]:
    found = result.estimates if isinstance(result, Estimated) else ()
    return list(dict.fromkeys(e.metric for e in found if not e.undefined))


def _forest(result: Any, metric: str) -> Figure | None:
    by: Callable[..., Figure | None] = importlib.import_module("overread.reporting.figures.answers").forest
    return by([e for e in result.estimates if e.metric == metric])


def _readable(result: Any) -> Any:
    """What the figures of the report read: a run, of which there is an evaluation, or a training, and no more."""
    name = type(result).__name__
    return _READ[name](result) if name in _READ else result


def _run_of_model(model: Any) -> Run:
    history = tuple(from_file_form(TrainingRow, row, where="the history") for row in model.history)
    return Run(Path(), model.target, history=history, rungs=model.rungs)


def _target(found: Evaluation) -> Target:
    """What was asked, as far as figures tell it: the evaluation holds the names and not the question."""
    if found.scatter:
        return Target("quantity", ("value",))
    labels = found.confusion.labels
    if labels:
        return Target("binary" if len(labels) == 2 else "classes", labels, labels[1:] if len(labels) == 2 else ())
    return Target("findings", tuple(found.curves) or ("",))


_READ: dict[str, Callable[[Any], Run]] = {
    "Evaluation": lambda found: Run(Path(), _target(found), found),
    "Model": _run_of_model,
}
