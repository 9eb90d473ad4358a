"""The table of metrics: what each is called, what it means, where it is shown; and every estimate of a set of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked
from overread.evaluation.estimators import Parts, Terms, areas, classes, directly, quantity, resampled, top_accuracy
from overread.evaluation.questions import Facts, Question
from overread.predictions import Predictions
from overread.stats.arrays import patient_codes
from overread.stats.estimate import Estimate
from overread.stats.resample import Scale, bootstrap

Subject = Literal["question", "all", "quantity", "other"]


@dataclass(frozen=True)
class Metric:
    """All that is to be known of a metric: what it is of, how it is written, and where it is shown.

    ``subject``: a yes-or-no ``question`` (a binary label, a finding, a class against the rest), ``all`` classes or
    findings together, a ``quantity``, or ``other``: what another result than an evaluation tells. ``definition`` is a
    sentence without its full stop. ``shown``: place → the rank there, from 1 on. The places are ``top`` (the numbers
    that head a page), ``main`` table, ``further`` measures, ``each class``, ``subgroups`` of a page, ``brief`` table of
    subgroups in a terminal, ``gaps``, ``comparison`` and its ``brief comparison``, ``margin`` (what a claim can be of),
    ``curve`` (over sizes and sites); of others the page's name. ``unit``: ``%`` for a share that is written as a
    percentage. ``better``: ``higher``, ``lower``, or empty. ``scale``: where errors are stable, as
    :class:`overread.stats.resample.Column`. ``tasks``: the kinds of target that have it; empty: all that have its subject.
    """

    name: str
    subject: Subject
    label: str
    definition: str
    shown: dict[str, int] = field(hash=False)
    unit: str = ""
    better: str = "higher"
    scale: Scale = "share"
    tasks: tuple[str, ...] = ()


#: In the order in which they are told.
METRICS: tuple[Metric, ...] = (
    Metric("macro auc", "all", "Macro AUC", "mean over the classes of the AUC of each against the rest",
           shown={"top": 1, "main": 1, "subgroups": 1, "brief": 1, "comparison": 1, "brief comparison": 1, "margin": 4, "curve": 2, "gaps": 1}, tasks=("classes", "findings")),
    Metric("auc", "question", "AUC", "chance that a case with the disease scores higher than one without",
           shown={"top": 1, "main": 1, "each class": 1, "subgroups": 1, "brief": 2, "comparison": 2, "brief comparison": 2, "margin": 1, "curve": 1, "gaps": 1}),
    Metric("standardised partial auc", "question", "Partial AUC, standardised", "AUC of the part with few false alarms alone; 0.5 is chance, 1 is perfect",
           shown={"further": 1, "comparison": 3}),
    Metric("average precision", "question", "Average precision", "mean precision over all sensitivities; the no-skill value is the prevalence",
           shown={"main": 2, "each class": 2, "comparison": 4, "curve": 3}),
    Metric("accuracy", "question", "Accuracy", "cases called correctly; depends on the mix of classes",
           shown={"main": 9, "comparison": 7}, unit="%"),
    Metric("accuracy", "all", "Accuracy", "cases called correctly; depends on the mix of classes",
           shown={"top": 3, "main": 2, "subgroups": 3, "comparison": 7, "curve": 4, "gaps": 2}, unit="%"),
    Metric("top accuracy", "question", "Accuracy without a threshold", "the same, by the more probable class",
           shown={"further": 5}, unit="%", tasks=("binary",)),
    Metric("balanced accuracy", "question", "Balanced accuracy", "mean over the classes of the share called correctly",
           shown={"further": 6, "brief": 5, "comparison": 8, "gaps": 4}, unit="%"),
    Metric("balanced accuracy", "all", "Balanced accuracy", "mean over the classes of the share called correctly",
           shown={"top": 2, "main": 3, "subgroups": 2, "brief": 5, "comparison": 8}, unit="%"),
    Metric("macro f1", "all", "Macro F1", "mean of F1 over the classes",
           shown={"top": 4, "main": 4, "comparison": 10}),
    Metric("sensitivity", "question", "Sensitivity", "of the cases with the disease, how many are flagged",
           shown={"top": 2, "main": 3, "each class": 3, "subgroups": 2, "brief": 3, "comparison": 5, "brief comparison": 3, "margin": 2, "gaps": 2}, unit="%"),
    Metric("specificity", "question", "Specificity", "of the cases without the disease, how many are cleared",
           shown={"top": 3, "main": 4, "each class": 4, "subgroups": 3, "brief": 4, "comparison": 6, "brief comparison": 4, "margin": 3, "gaps": 3}, unit="%"),
    Metric("ppv", "question", "Positive predictive value", "of the flagged cases, how many have the disease, at this prevalence",
           shown={"top": 4, "main": 5, "each class": 5}, unit="%"),
    Metric("npv", "question", "Negative predictive value", "of the cleared cases, how many are free of it, at this prevalence",
           shown={"main": 6}, unit="%"),
    Metric("ppv at prevalence", "question", "PPV at the asked prevalence", "of the flagged cases, how many would have the disease where it is that common",
           shown={"main": 7}, unit="%"),
    Metric("npv at prevalence", "question", "NPV at the asked prevalence", "of the cleared cases, how many would be free of it where it is that common",
           shown={"main": 8}, unit="%"),
    Metric("f1", "question", "F1", "harmonic mean of sensitivity and positive predictive value",
           shown={"further": 3, "each class": 6, "comparison": 11}),
    Metric("mcc", "question", "Matthews correlation (MCC)", "correlation of call and truth; 0 is chance, 1 is perfect",
           shown={"further": 4, "comparison": 9}, scale="correlation"),
    Metric("mcc", "all", "Matthews correlation (MCC)", "correlation of call and truth; 0 is chance, 1 is perfect",
           shown={"main": 5, "comparison": 9}, scale="correlation"),
    Metric("quadratic kappa", "all", "Quadratic kappa", "agreement beyond chance; far misses weigh more",
           shown={"main": 7}, scale="correlation"),
    Metric("brier", "question", "Brier score", "mean squared error of the probabilities; 0 is perfect",
           shown={"main": 10, "comparison": 12, "curve": 5}, better="lower", scale="positive"),
    Metric("brier", "all", "Brier score", "mean squared error of the probabilities; 0 is perfect",
           shown={"main": 8, "comparison": 12, "curve": 5}, better="lower", scale="positive"),
    Metric("brier reliability", "question", "Brier: reliability", "part of the Brier score from probabilities that are off; 0 is perfect",
           shown={"further": 7}, better="lower", scale="positive"),
    Metric("brier resolution", "question", "Brier: resolution", "part by which telling cases apart lowers it; larger is better",
           shown={"further": 8}, scale="positive"),
    Metric("brier uncertainty", "question", "Brier: uncertainty", "part that the prevalence alone brings",
           shown={"further": 9}, better="", scale="positive"),
    Metric("ece", "question", "Calibration error (ECE)", "mean gap between stated probability and observed frequency",
           shown={"main": 13}, better="lower", scale="positive"),
    Metric("ece", "all", "Calibration error (ECE)", "mean gap between stated probability and observed frequency",
           shown={"main": 9}, better="lower", scale="positive"),
    Metric("ece if calibrated", "question", "ECE to expect by chance", "range for a perfectly calibrated model of this size",
           shown={"main": 14}, better="", scale="positive"),
    Metric("ece if calibrated", "all", "ECE to expect by chance", "range for a perfectly calibrated model of this size",
           shown={"main": 10}, better="", scale="positive"),
    Metric("calibration intercept", "question", "Calibration intercept", "0 is ideal; below 0, risks are overstated",
           shown={"main": 12}, better="", scale="plain"),
    Metric("calibration slope", "question", "Calibration slope", "1 is ideal; below 1, probabilities are too extreme; above 1, too cautious",
           shown={"main": 11}, better="", scale="plain"),
    Metric("mae", "quantity", "Mean absolute error", "mean distance between prediction and truth",
           shown={"top": 1, "main": 1, "subgroups": 4, "brief": 6, "comparison": 13, "brief comparison": 5, "curve": 6, "gaps": 1}, better="lower", scale="positive"),
    Metric("rmse", "quantity", "Root mean squared error", "like it, but large errors weigh more",
           shown={"top": 2, "main": 2, "comparison": 14, "curve": 7}, better="lower", scale="positive"),
    Metric("bias", "quantity", "Bias", "mean of prediction minus truth",
           shown={"main": 3, "comparison": 15}, better="", scale="plain"),
    Metric("r2", "quantity", "R²", "share of the variance explained",
           shown={"top": 3, "main": 4, "subgroups": 5, "brief": 7, "comparison": 16, "curve": 8}, scale="below one"),
    Metric("pearson", "quantity", "Correlation", "Pearson's correlation of prediction and truth",
           shown={"top": 4, "main": 5, "comparison": 17}, scale="correlation"),
    Metric("concordance", "quantity", "Concordance (C-index)", "share of pairs of cases put in the right order; 0.5 is chance",
           shown={"main": 6}),
)  # fmt: skip

#: What other results tell, under the same words.
OTHER_METRICS: tuple[Metric, ...] = (
    Metric("kappa", "other", "Cohen's kappa", "agreement of two readers beyond chance; 1 is perfect", {"readers": 1}),
    Metric("partial auc", "other", "Partial AUC", "area under the useful part of the ROC curve", {"python": 1}),
    Metric("net benefit", "other", "Net benefit", "true positives per case, less the false alarms weighed by the threshold", {"decision curve": 1}),
    Metric("mean sensitivity", "other", "Mean sensitivity (FROC)", "mean share of lesions found, over the stated rates of false alarms per image", {"marks": 1}, unit="%"),
    Metric("set coverage", "other", "Sets that hold the truth", "how often the set of answers holds the true one", {"uncertainty": 1}, unit="%"),
    Metric("set size", "other", "Mean size of the sets", "answers per set; 1 is sure", {"uncertainty": 1}),
    Metric("sets of one class", "other", "Sets of one answer", "how often the model is sure of a single answer", {"uncertainty": 1}, unit="%"),
    Metric("empty sets", "other", "Empty sets", "how often no answer is probable enough", {"uncertainty": 1}, unit="%"),
    Metric("interval coverage", "other", "Intervals that hold the truth", "how often the predicted interval holds the true value", {"uncertainty": 1}, unit="%"),
    Metric("interval width", "other", "Mean width of the intervals", "in the unit of the quantity", {"uncertainty": 1}),
    Metric("agreement", "other", "Agreement", "how often two readers of a case give one answer", {"readers": 1}, unit="%"),
    Metric("specific agreement", "other", "Specific agreement", "where a reader gives this answer, how often another does too", {"readers": 1}, unit="%"),
    Metric("fleiss kappa", "other", "Fleiss' kappa", "agreement of any readers beyond chance; 1 is perfect", {"readers": 1}),
    Metric("nominal alpha", "other", "Krippendorff's alpha", "agreement of any readers beyond chance, with missing answers; 1 is perfect", {"readers": 1}),
    Metric("ordinal alpha", "other", "Krippendorff's alpha (ordered)", "the same, where far disagreements weigh more", {"readers": 1}),
    Metric("interval alpha", "other", "Krippendorff's alpha (scores)", "the same, for scores", {"readers": 1}),
    Metric("icc(2,1)", "other", "Intraclass correlation, ICC(2,1)", "share of the variance of one reader's scores that belongs to the cases; absolute agreement", {"readers": 1}),
    Metric("icc(3,1)", "other", "Intraclass correlation, ICC(3,1)", "the same, where readers may differ by a constant", {"readers": 1}),
    Metric("ceiling", "other", "Highest possible accuracy against one reader", "what no classifier can pass, given how readers disagree", {"readers": 1}, unit="%"),
    Metric("panel accuracy", "other", "Accuracy of the panel against one reader", "what the majority of the readers reaches", {"readers": 1}, unit="%"),
    Metric("afroc area", "other", "AFROC area", "chance that a lesion outscores the worst false alarm of an image without lesions", {"marks": 1}),
    Metric("weighted afroc area", "other", "AFROC area, weighted", "the same, where each image with lesions weighs alike", {"marks": 1}),
    Metric("log loss", "other", "Log loss", "mean surprise at the truth; 0 is perfect", {"calibration": 1}),
    Metric("threshold", "other", "Threshold", "the score from which a case is called positive", {"operating point": 1}),
    Metric("reads per case", "other", "Reads per case", "how often a case is read by a person", {"workflow": 1}),
    Metric("called positive", "other", "Called positive", "of all cases, how many", {"workflow": 1}, unit="%"),
    Metric("cost per case", "other", "Cost per case", "by the stated costs of reads, misses and false alarms", {"workflow": 1}),
    Metric("place in the worklist", "other", "Place of the diseased in the worklist", "50 % is first come, first read; lower is earlier", {"workflow": 1}, unit="%"),
    Metric("internal minus external", "other", "Internal minus external", "what is lost at sites that nobody trained on", {"site transfer": 1}),
    Metric("asymptote", "other", "Where the curve levels off", "by the fitted power law", {"learning curve": 1}),
    Metric("extrapolated", "other", "At twice the size, extrapolated", "by the fitted power law", {"learning curve": 1}),
    Metric("learning exponent", "other", "Exponent of the learning curve", "of the fitted power law", {"learning curve": 1}),
    Metric("patients needed", "other", "Patients needed", "", {"sample size": 1}),
    Metric("positives needed", "other", "Of them with the disease", "", {"sample size": 1}),
    Metric("negatives needed", "other", "Of them without", "", {"sample size": 1}),
    Metric("images needed", "other", "Images needed", "", {"sample size": 1}),
    Metric("dice", "other", "Dice", "overlap of two regions; 1 is perfect", {"python": 1}),
    Metric("jaccard", "other", "Jaccard (IoU)", "overlap of two regions over their union; 1 is perfect", {"python": 1}),
    Metric("panoptic quality", "other", "Panoptic quality", "objects found, times how well; 1 is perfect", {"python": 1}),
    Metric("psnr", "other", "PSNR, dB", "", {"python": 1}),
    Metric("ssim", "other", "SSIM", "structural similarity of two images; 1 is equal", {"python": 1}),
    Metric("risk-coverage area", "other", "Area under the risk–coverage curve", "mean error over all shares of cases answered; lower is better", {"uncertainty": 1}),
)  # fmt: skip

#: Endings that make a metric of a metric.
ENDINGS = {
    "gap": "the group minus its reference",
    "difference": "the first minus the second",
    "gain": "what the last step added",
}


def shown(place: str, *subjects: Subject) -> list[Metric]:
    """The metrics that are shown at a place, in their order there; of all subjects, or of those named."""
    found = [m for m in (*METRICS, *OTHER_METRICS) if place in m.shown and (not subjects or m.subject in subjects)]
    return sorted(found, key=lambda m: m.shown[place])


@checked
def metric_named(name: str) -> Metric:
    """The metric of that name; differences, gaps and gains after theirs; of an unknown one only the name is known.

    >>> metric_named("auc gap").label, metric_named("sensitivity difference").unit
    ('AUC, gap', '%')
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    base, _, ending = name.rpartition(" ")
    if base and ending in ENDINGS:
        of = metric_named(base)
        return replace(of, name=name, label=f"{of.label}, {ending}", definition=ENDINGS[ending], shown={})
    return Metric(name, "other", name, "", {})


_BY_NAME = {m.name: m for m in reversed((*METRICS, *OTHER_METRICS))}


# -- every estimate of a set of rows --------------------------------------------------------------------------------

#: The same for either of two classes.
OF_BOTH = ("accuracy", "balanced accuracy", "mcc")


def judge(
    test: Predictions | Facts,
    asked: Sequence[Question],
    codes: NDArray[np.int64],
    inside: NDArray[np.bool_],
    terms: Terms,
) -> list[Estimate]:
    """Every estimate of the rows where ``inside`` (N,) is true. ``codes`` (N,) number the patients."""
    facts, rows = Facts.of(test), np.flatnonzero(inside)
    local = np.full(len(codes), -1)
    local[rows] = patient_codes(codes[rows], len(rows))
    if facts.target.kind == "quantity":
        return _in_order(quantity(facts, rows, local, terms), list(facts.target.names))
    kept, people = [q.only(inside) for q in asked], int(local.max(initial=-1)) + 1
    found = [estimate for q in kept for estimate in directly(q, local[q.rows], terms)]
    parts = _parts(facts, kept, rows, local, people, terms)
    found += parts.ready
    found += bootstrap(
        parts.statistics,
        max(people, 1),
        images=len(rows),
        level=terms.level,
        seed=terms.seed,
        resamples=terms.resamples or None,
    )
    if facts.target.kind == "binary":
        found = [replace(e, of="") if e.metric in OF_BOTH else e for e in found]
        found.append(top_accuracy(facts, rows, local, terms.level))
    return _in_order(found, ["", *(q.of for q in asked)])


def _parts(
    facts: Facts, kept: Sequence[Question], rows: NDArray[np.int64], local: NDArray[np.int64], people: int, terms: Terms
) -> Parts:
    parts = [
        areas([q for q in kept if not q.group], local, macro=facts.target.kind != "binary"),
        areas([q for q in kept if q.group], local, macro=False),
        *(resampled(q, local[q.rows], people, terms) for q in kept if q.full),
    ]
    if facts.target.kind == "classes":
        parts.append(classes(facts, kept, rows[facts.truth[rows] >= 0], local, people, terms))
    return sum(parts, Parts())


def _in_order(found: list[Estimate], names: list[str]) -> list[Estimate]:
    metric, of = {m.name: i for i, m in reversed(list(enumerate(METRICS)))}, {n: i for i, n in enumerate(names)}
    return sorted(found, key=lambda e: (of.get(e.of, len(of)), metric.get(e.metric, len(metric))))
