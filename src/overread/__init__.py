"""overread: from a table of medical images to a classifier that people can trust.

The public functions are loaded when they are first used, so that ``import overread`` is quick.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

#: Where each public name lives: the verbs in the order of the path, which is that of ``ov.help()``, then the nouns.
_HOMES = {
    "read_cases": "overread.cases.sources.read_cases",
    "read_grades": "overread.cases.annotators",
    "read_taxonomy": "overread.tasks.taxonomy",
    "partition": "overread.tasks.taxonomy",
    "consensus": "overread.cases.annotators",
    "audit": "overread.cases.audit.audit",
    "split": "overread.cases.split",
    "folds": "overread.cases.split",
    "conv_output": "overread.networks.arithmetic",
    "conv_parameters": "overread.networks.arithmetic",
    "dense_parameters": "overread.networks.arithmetic",
    "count_parameters": "overread.networks.arithmetic",
    "check": "overread.learning.preflight.check",
    "search": "overread.distributed.search",
    "train": "overread.learning.train",
    "predict": "overread.learning.predict",
    "measure": "overread.cells.measure",
    "fit_recalibration": "overread.evaluation.recalibrate",
    "recalibrate": "overread.evaluation.recalibrate",
    "choose_threshold": "overread.evaluation.operating_point",
    "threshold_uncertainty": "overread.evaluation.operating_point",
    "choose_decision": "overread.evaluation.decision.choose_decision",
    "evaluate": "overread.evaluation.evaluate",
    "uncertainty": "overread.evaluation.uncertainty",
    "compare": "overread.evaluation.comparison.compare",
    "leaderboard": "overread.evaluation.comparison.leaderboard",
    "grid": "overread.study.factorial",
    "choose_shares": "overread.evaluation.comparison.opinion_pool",
    "pooled": "overread.evaluation.comparison.opinion_pool",
    "disagreement": "overread.evaluation.comparison.disagreement",
    "write_dataset": "overread.cases.sources.dataset",
    "explain": "overread.explanation.explain",
    "open_reader": "overread.study.opinion",
    "Index": "overread.retrieval.index",
    "report": "overread.reporting.page",
    "plot": "overread.reporting.plot",
    "plots": "overread.reporting.plot",
    "run": "overread.study.steps",
    "Study": "overread.study.question",
    "show": "overread.study.contact_sheet",
    "OverreadError": "overread.core.errors",
    "Grades": "overread.cases.annotators",
    "Comparison": "overread.evaluation.comparison.compare",
    "Declaration": "overread.evaluation.comparison.claims",
    "declare": "overread.evaluation.comparison.claims",
    "plan": "overread.evaluation.sample_size",
    "judge_readers": "overread.evaluation.readers.reader_study",
    "read_marks": "overread.evaluation.detection",
    "judge_marks": "overread.evaluation.detection",
    "compare_marks": "overread.evaluation.comparison.compare_marks",
    "simulate": "overread.evaluation.workflow",
    "learning_curve": "overread.evaluation.generalisation.learning_curve",
    "PredictedOutlines": "overread.evaluation.instances.predicted_outlines",
    "match_instances": "overread.evaluation.instances.instance_match",
    "evaluate_outlines": "overread.evaluation.instances.evaluate_outlines",
    "compare_outlines": "overread.evaluation.instances.compare_outlines",
    "outline_matrix": "overread.evaluation.instances.outline_matrix",
    "study_outlines": "overread.evaluation.instances.outline_readers",
    "shift_matrix": "overread.evaluation.generalisation.site_transfer",
    "help": "overread.core.display",
    "Cases": "overread.cases.cases",
    "Target": "overread.tasks.target",
    "Taxonomy": "overread.tasks.taxonomy",
    "Audit": "overread.cases.audit.audit",
    "Finding": "overread.cases.audit.audit",
    "Split": "overread.cases.split",
    "Predictions": "overread.predictions",
    "Estimate": "overread.stats.estimate",
    "Evaluation": "overread.evaluation.evaluate",
    "OperatingPoint": "overread.evaluation.operating_point",
    "ClassDecision": "overread.evaluation.decision.class_decision",
    "Leaderboard": "overread.evaluation.comparison.leaderboard",
    "Grid": "overread.evaluation.comparison.grid_result",
    "Recipe": "overread.learning.recipe",
    "Model": "overread.learning.model",
    "Preflight": "overread.learning.preflight.faults",
    "Explanation": "overread.explanation.explanation",
    "Search": "overread.distributed.search",
    "Difference": "overread.stats.estimate",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    from overread.core.errors import nearest

    hint = "" if name.startswith("_") else f"; {nearest(name, _HOMES)}; ov.help() lists what there is"
    raise AttributeError(f"module 'overread' has no attribute {name!r}{hint}")


def __dir__() -> list[str]:
    return __all__
