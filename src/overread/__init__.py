"""overread: from a table of medical images to a classifier that people can trust.

The public functions are loaded when they are first used, so that ``import overread`` is quick.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "read_cases": "overread.cases.sources.read_cases",
    "write_dataset": "overread.cases.sources.dataset",
    "Cases": "overread.cases.cases",
    "Target": "overread.tasks.target",
    "audit": "overread.cases.audit.audit",
    "Audit": "overread.cases.audit.audit",
    "Finding": "overread.cases.audit.audit",
    "split": "overread.cases.split",
    "Split": "overread.cases.split",
    "folds": "overread.cases.split",
    "Predictions": "overread.predictions",
    "Estimate": "overread.stats.estimate",
    "evaluate": "overread.evaluation.evaluate",
    "Evaluation": "overread.evaluation.evaluate",
    "choose_threshold": "overread.evaluation.operating_point",
    "OperatingPoint": "overread.evaluation.operating_point",
    "choose_decision": "overread.evaluation.decision.choose_decision",
    "ClassDecision": "overread.evaluation.decision.class_decision",
    "leaderboard": "overread.evaluation.comparison.leaderboard",
    "Leaderboard": "overread.evaluation.comparison.leaderboard",
    "Recipe": "overread.learning.recipe",
    "Model": "overread.learning.model",
    "train": "overread.learning.train",
    "predict": "overread.learning.predict",
    "check": "overread.learning.preflight.check",
    "Preflight": "overread.learning.preflight.faults",
    "explain": "overread.explanation.explain",
    "Explanation": "overread.explanation.explanation",
    "search": "overread.distributed.search",
    "Search": "overread.distributed.search",
    "open_reader": "overread.study.opinion",
    "report": "overread.reporting.page",
    "plot": "overread.reporting.plot",
    "plots": "overread.reporting.plot",
    "run": "overread.study.steps",
    "Study": "overread.study.question",
    "OverreadError": "overread.core.errors",
    "read_grades": "overread.cases.annotators",
    "Grades": "overread.cases.annotators",
    "consensus": "overread.cases.annotators",
    "compare": "overread.evaluation.comparison.compare",
    "Comparison": "overread.evaluation.comparison.compare",
    "Declaration": "overread.evaluation.comparison.claims",
    "declare": "overread.evaluation.comparison.claims",
    "Difference": "overread.stats.estimate",
    "plan": "overread.evaluation.sample_size",
    "judge_readers": "overread.evaluation.readers.reader_study",
    "read_marks": "overread.evaluation.detection",
    "judge_marks": "overread.evaluation.detection",
    "fit_recalibration": "overread.evaluation.recalibrate",
    "recalibrate": "overread.evaluation.recalibrate",
    "uncertainty": "overread.evaluation.uncertainty",
    "simulate": "overread.evaluation.workflow",
    "threshold_uncertainty": "overread.evaluation.operating_point",
    "learning_curve": "overread.evaluation.generalisation.learning_curve",
    "shift_matrix": "overread.evaluation.generalisation.site_transfer",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'overread' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
