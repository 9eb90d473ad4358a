"""overread: from a table of medical images to a classifier that people can trust.

The public functions are loaded when they are first used, so that ``import overread`` is quick.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "read_cases": "overread.cases.sources",
    "Cases": "overread.cases.cases",
    "Target": "overread.cases.cases",
    "audit": "overread.cases.audit",
    "Audit": "overread.cases.audit",
    "Finding": "overread.cases.audit",
    "split": "overread.cases.split",
    "Split": "overread.cases.split",
    "folds": "overread.cases.split",
    "Predictions": "overread.predictions",
    "Estimate": "overread.stats.estimate",
    "evaluate": "overread.evaluation.evaluate",
    "Evaluation": "overread.evaluation.evaluate",
    "choose_threshold": "overread.evaluation.operating",
    "OperatingPoint": "overread.evaluation.operating",
    "Recipe": "overread.learning.recipe",
    "Model": "overread.learning.model",
    "train": "overread.learning.train",
    "predict": "overread.learning.predict",
    "report": "overread.reporting.page",
    "run": "overread.study",
    "Study": "overread.question",
    "OverreadError": "overread.errors",
    "read_grades": "overread.cases.graders",
    "Grades": "overread.cases.graders",
    "consensus": "overread.cases.graders",
    "compare": "overread.evaluation.comparing.compare",
    "Comparison": "overread.evaluation.comparing.comparison",
    "Declaration": "overread.evaluation.comparing.claims",
    "declare": "overread.evaluation.comparing.claims",
    "Difference": "overread.stats.difference",
    "plan": "overread.evaluation.planning",
    "judge_readers": "overread.evaluation.reading.reading",
    "read_marks": "overread.evaluation.marking.marks",
    "judge_marks": "overread.evaluation.marking.marks",
    "fit_recalibration": "overread.evaluation.mending.recalibrate",
    "recalibrate": "overread.evaluation.mending.recalibrate",
    "uncertainty": "overread.evaluation.uncertainty",
    "simulate": "overread.evaluation.workflow.simulate",
    "threshold_uncertainty": "overread.evaluation.operating",
    "learning_curve": "overread.evaluation.growing.learning_curve",
    "shift_matrix": "overread.evaluation.growing.shift",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'overread' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
