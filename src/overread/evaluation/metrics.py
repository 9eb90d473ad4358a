"""The table of metrics: what each is called, what it means, where it is shown; and every estimate of a set of rows."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from overread.core.display import Panel
from overread.core.errors import InputError, checked, nearest, one_of
from overread.evaluation import estimators as of
from overread.evaluation import group_values as groups
from overread.evaluation.estimators import Estimator, Intervals, Measures, PairedEstimator
from overread.evaluation.group_values import GapEstimator
from overread.evaluation.operating_point import positives
from overread.evaluation.questions import Question, Sample, ScoredCases, Subject, ask, sample_of, samples
from overread.evaluation.results import Content, metrics_panel
from overread.predictions import Predictions
from overread.stats.arrays import distinct, patient_codes
from overread.stats.estimate import Estimate
from overread.stats.resample import Column, Scale, Statistic, bootstrap
from overread.tasks.target import Target


@dataclass(frozen=True)
class Metric:
    """All that is to be known of a metric: what it is of, how it is written, and where it is shown.

    ``subject``: a yes-or-no ``question`` (a binary label, a finding, a class against the rest), ``all`` classes or
    findings together, a ``quantity``, or ``other``: what another result than an evaluation tells. ``definition`` is a
    sentence without its full stop. ``shown``: place → the rank there, from 1 on. The places are ``top`` (the numbers
    that head a page), ``main`` table, ``further`` measures, ``each class``, ``subgroups`` of a page, ``brief`` table of
    subgroups in a terminal, ``gaps``, ``comparison`` and its ``brief comparison``, ``margin`` (what a claim can be of),
    ``curve`` (over sizes and sites); of others the page's name. ``unit``: ``%`` for a share that is written as a
    percentage, ``images`` for a count of them. ``better``: ``higher``, ``lower``, or empty. ``scale``: where errors are
    stable, as :class:`overread.stats.resample.Column`. ``tasks``: the words of
    :attr:`overread.tasks.task.Task.metrics_of` that have it; empty: all that have its subject (of ``all``: several
    classes).

    ``estimator`` gives the estimates or the statistic of a sample (one estimator may serve several metrics).
    ``difference`` of two models on the same cases: without one, that of the statistic in the same resamples.
    ``resampled``: the statistic, where the estimator has a closed form. ``gap``: the value in a subgroup with what each
    patient adds to it. ``computed_of``: the subject whose sample the estimator takes, if not its own.
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
    estimator: Estimator | None = None
    difference: PairedEstimator | None = None
    resampled: Estimator | None = None
    gap: GapEstimator | None = None
    computed_of: Subject | None = None

    def fits(self, sample: Sample) -> bool:
        """Whether the metric is computed from a sample like this one."""
        tasks = self.tasks or (("classes",) if self.subject == "all" else ())
        return sample.subject == (self.computed_of or self.subject) and (
            not tasks or not set(tasks).isdisjoint(sample.target.task.metrics_of)
        )

    def along_curve(self, sample: Sample, how: Intervals) -> Measures:
        """The metric as a statistic of a sample, where it is followed over sizes or sites."""
        estimator = self.resampled or self.estimator
        return estimator(sample, how).only(lambda metric, of: metric == self.name) if estimator else Measures()


#: In the order in which they are told.
METRICS: tuple[Metric, ...] = (
    Metric("macro auc", "all", "Macro AUC", "mean over the classes of the AUC of each against the rest",
           shown={"top": 1, "main": 1, "subgroups": 1, "brief": 1, "comparison": 1, "brief comparison": 1, "margin": 4, "curve": 2, "gaps": 1}, tasks=("classes", "findings"),
           estimator=of.ranking, gap=groups.group_macro_area, resampled=of.macro_area),
    Metric("auc", "question", "AUC", "chance that a case with the disease scores higher than one without",
           shown={"top": 1, "main": 1, "each class": 1, "subgroups": 1, "brief": 2, "comparison": 2, "brief comparison": 2, "margin": 1, "curve": 1, "gaps": 1},
           estimator=of.area, difference=of.area_difference, gap=groups.group_area, resampled=of.area_resampled),
    Metric("auc within sources", "question", "AUC within sources", "the same among pairs of cases of one source: what it is worth where the source tells nothing",
           shown={"further": 2}),
    Metric("macro auc within sources", "all", "Macro AUC within sources", "the same among pairs of cases of one source: what it is worth where the source tells nothing",
           shown={"main": 8}, tasks=("classes", "findings")),
    Metric("standardised partial auc", "question", "Partial AUC, standardised", "AUC of the part with few false alarms alone; 0.5 is chance, 1 is perfect",
           shown={"further": 1, "comparison": 3},
           estimator=of.specific_area, difference=of.specific_area_difference),
    Metric("specificity at sensitivity", "question", "Specificity at fixed sensitivity", "the best specificity of a threshold that finds so many of the diseased",
           shown={"further": 13}, unit="%",
           estimator=of.fixed_rates),
    Metric("sensitivity at specificity", "question", "Sensitivity at fixed specificity", "the best sensitivity of a threshold that clears so many of the others",
           shown={"further": 14}, unit="%",
           estimator=of.fixed_rates),
    Metric("average precision", "question", "Average precision", "mean precision over all sensitivities; the no-skill value is the prevalence",
           shown={"main": 2, "each class": 2, "comparison": 4, "curve": 3},
           estimator=of.ranking, resampled=of.precision_resampled, computed_of="all"),
    Metric("accuracy", "question", "Accuracy at the threshold", "cases called correctly at the threshold; depends on the mix of classes",
           shown={"main": 9, "comparison": 7}, unit="%",
           estimator=of.rates, difference=of.rates_difference),
    Metric("accuracy", "all", "Accuracy", "cases called correctly; depends on the mix of classes",
           shown={"top": 3, "main": 2, "subgroups": 3, "comparison": 7, "curve": 4, "gaps": 2}, unit="%",
           estimator=of.class_accuracy, difference=of.top_choice_difference, gap=groups.group_top_choice, resampled=of.top_choice_resampled),
    Metric("top accuracy", "question", "Accuracy by argmax", "the same where each case is called its more probable class, as papers without a threshold do",
           shown={"main": 10, "further": 8}, unit="%", tasks=("binary",),
           estimator=of.top_choice, computed_of="all"),
    Metric("top accuracy", "all", "Accuracy by argmax", "the same where each case is called its most probable class",
           shown={"main": 3}, unit="%",
           estimator=of.top_choice),
    Metric("balanced accuracy", "question", "Balanced accuracy", "mean over the classes of the share called correctly",
           shown={"further": 9, "brief": 5, "comparison": 8, "gaps": 4}, unit="%",
           estimator=of.calls, gap=groups.group_balanced_accuracy),
    Metric("balanced accuracy", "all", "Balanced accuracy", "mean over the classes of the share called correctly",
           shown={"top": 2, "main": 4, "subgroups": 2, "brief": 5, "comparison": 8}, unit="%",
           estimator=of.class_calls),
    Metric("top balanced accuracy", "all", "Balanced accuracy by argmax", "the same where each case is called its most probable class",
           shown={"main": 5}, unit="%",
           estimator=of.top_choice),
    Metric("mean cost", "all", "Mean cost of a case", "what a call costs on average, by the stated table of costs",
           shown={"main": 13}, better="lower", scale="plain",
           estimator=of.cost),
    Metric("mean cost by argmax", "all", "Mean cost by argmax", "the same where each case is called its most probable class",
           shown={"main": 14}, better="lower", scale="plain",
           estimator=of.cost),
    Metric("macro f1", "all", "Macro F1", "mean of F1 over the classes",
           shown={"top": 4, "main": 6, "comparison": 10},
           estimator=of.class_calls),
    Metric("sensitivity", "question", "Sensitivity", "of the cases with the disease, how many are flagged",
           shown={"top": 2, "main": 3, "each class": 3, "subgroups": 2, "brief": 3, "comparison": 5, "brief comparison": 3, "margin": 2, "gaps": 2}, unit="%",
           estimator=of.rates, difference=of.rates_difference, gap=groups.group_sensitivity),
    Metric("specificity", "question", "Specificity", "of the cases without the disease, how many are cleared",
           shown={"top": 3, "main": 4, "each class": 4, "subgroups": 3, "brief": 4, "comparison": 6, "brief comparison": 4, "margin": 3, "gaps": 3}, unit="%",
           estimator=of.rates, difference=of.rates_difference, gap=groups.group_specificity),
    Metric("ppv", "question", "Positive predictive value", "of the flagged cases, how many have the disease, at this prevalence",
           shown={"top": 4, "main": 5, "each class": 5}, unit="%",
           estimator=of.rates),
    Metric("npv", "question", "Negative predictive value", "of the cleared cases, how many are free of it, at this prevalence",
           shown={"main": 6}, unit="%",
           estimator=of.rates),
    Metric("ppv at prevalence", "question", "PPV at the asked prevalence", "of the flagged cases, how many would have the disease where it is that common",
           shown={"main": 7}, unit="%",
           estimator=of.clinic_values),
    Metric("npv at prevalence", "question", "NPV at the asked prevalence", "of the cleared cases, how many would be free of it where it is that common",
           shown={"main": 8}, unit="%",
           estimator=of.clinic_values),
    Metric("lr+", "question", "Likelihood ratio of a positive call (LR+)", "how many times likelier the diseased are flagged than the others; 1 tells nothing",
           shown={"further": 4}, scale="positive",
           estimator=of.likelihoods),
    Metric("lr-", "question", "Likelihood ratio of a negative call (LR−)", "how many times likelier the diseased are cleared than the others; 1 tells nothing, 0 is perfect",
           shown={"further": 5}, better="lower", scale="positive",
           estimator=of.likelihoods),
    Metric("threshold", "question", "Threshold", "the score from which a case is called positive",
           shown={"calls": 1, "operating point": 1}, better="", scale="plain",
           estimator=of.counts),
    Metric("true positives", "question", "True positives", "cases with the disease that are flagged",
           shown={"calls": 2}, unit="images", better="", scale="positive",
           estimator=of.counts),
    Metric("false positives", "question", "False positives", "cases without the disease that are flagged",
           shown={"calls": 3}, unit="images", better="", scale="positive",
           estimator=of.counts),
    Metric("false negatives", "question", "False negatives", "cases with the disease that are cleared",
           shown={"calls": 4}, unit="images", better="", scale="positive",
           estimator=of.counts),
    Metric("true negatives", "question", "True negatives", "cases without the disease that are cleared",
           shown={"calls": 5}, unit="images", better="", scale="positive",
           estimator=of.counts),
    Metric("f1", "question", "F1", "harmonic mean of sensitivity and positive predictive value",
           shown={"further": 6, "each class": 6, "comparison": 11},
           estimator=of.calls),
    Metric("mcc", "question", "Matthews correlation (MCC)", "correlation of call and truth; 0 is chance, 1 is perfect",
           shown={"further": 7, "comparison": 9}, scale="correlation",
           estimator=of.correlation),
    Metric("mcc", "all", "Matthews correlation (MCC)", "correlation of call and truth; 0 is chance, 1 is perfect",
           shown={"main": 7, "comparison": 9}, scale="correlation",
           estimator=of.correlation),
    Metric("quadratic kappa", "all", "Quadratic kappa", "agreement beyond chance; far misses weigh more",
           shown={"main": 9}, scale="correlation",
           estimator=of.grade_agreement),
    Metric("brier", "question", "Brier score", "mean squared error of the probabilities; 0 is perfect",
           shown={"main": 11, "comparison": 12, "curve": 5}, better="lower", scale="positive",
           estimator=of.squared_error),
    Metric("brier", "all", "Brier score", "mean squared error of the probabilities; 0 is perfect",
           shown={"main": 10, "comparison": 12, "curve": 5}, better="lower", scale="positive",
           estimator=of.squared_error_of_classes),
    Metric("brier reliability", "question", "Brier: reliability", "part of the Brier score from probabilities that are off; 0 is perfect",
           shown={"further": 10}, better="lower", scale="positive",
           estimator=of.decomposition),
    Metric("brier resolution", "question", "Brier: resolution", "part by which telling cases apart lowers it; larger is better",
           shown={"further": 11}, scale="positive",
           estimator=of.decomposition),
    Metric("brier uncertainty", "question", "Brier: uncertainty", "part that the prevalence alone brings",
           shown={"further": 12}, better="", scale="positive",
           estimator=of.decomposition),
    Metric("ece", "question", "Calibration error (ECE)", "mean gap between stated probability and observed frequency",
           shown={"main": 14}, better="lower", scale="positive",
           estimator=of.calibration_error),
    Metric("ece", "all", "Calibration error (ECE)", "mean gap between stated probability and observed frequency",
           shown={"main": 11}, better="lower", scale="positive",
           estimator=of.confidence_error),
    Metric("ece if calibrated", "question", "ECE to expect by chance", "range for a perfectly calibrated model of this size",
           shown={"main": 15}, better="", scale="positive"),
    Metric("ece if calibrated", "all", "ECE to expect by chance", "range for a perfectly calibrated model of this size",
           shown={"main": 12}, better="", scale="positive"),
    Metric("calibration intercept", "question", "Calibration intercept", "0 is ideal; below 0, risks are overstated",
           shown={"main": 13}, better="", scale="plain",
           estimator=of.calibration_line),
    Metric("calibration slope", "question", "Calibration slope", "1 is ideal; below 1, probabilities are too extreme; above 1, too cautious",
           shown={"main": 12}, better="", scale="plain",
           estimator=of.calibration_line),
    Metric("o/e ratio", "question", "Observed to expected (O:E)", "cases with the disease over how many the probabilities promise; 1 is ideal, above 1 risks are understated",
           shown={"main": 16}, better="", scale="positive",
           estimator=of.promised),
    Metric("net benefit", "question", "Net benefit at the asked risk", "true positives per image, less the false alarms weighed by the odds of that risk",
           shown={"main": 17, "comparison": 18, "decision curve": 1}, scale="plain",
           estimator=of.benefit, difference=of.benefit_difference),
    Metric("mae", "quantity", "Mean absolute error", "mean distance between prediction and truth",
           shown={"top": 1, "main": 1, "subgroups": 4, "brief": 6, "comparison": 13, "brief comparison": 5, "curve": 6, "gaps": 1}, better="lower", scale="positive",
           estimator=of.errors, gap=groups.group_mean_error),
    Metric("rmse", "quantity", "Root mean squared error", "like it, but large errors weigh more",
           shown={"top": 2, "main": 2, "comparison": 14, "curve": 7}, better="lower", scale="positive",
           estimator=of.errors),
    Metric("bias", "quantity", "Bias", "mean of prediction minus truth",
           shown={"main": 3, "comparison": 15}, better="", scale="plain",
           estimator=of.errors),
    Metric("r2", "quantity", "R²", "share of the variance explained",
           shown={"top": 3, "main": 4, "subgroups": 5, "brief": 7, "comparison": 16, "curve": 8}, scale="below one",
           estimator=of.errors),
    Metric("pearson", "quantity", "Correlation", "Pearson's correlation of prediction and truth",
           shown={"top": 4, "main": 5, "comparison": 17}, scale="correlation",
           estimator=of.errors),
    Metric("concordance", "quantity", "Concordance (C-index)", "share of pairs of cases put in the right order; 0.5 is chance",
           shown={"main": 6},
           estimator=of.order),
)  # fmt: skip

#: What other results tell, under the same words.
OTHER_METRICS: tuple[Metric, ...] = (
    Metric("auc within folds", "other", "AUC within folds", "AUC among pairs of cases of one fold of a cross-validation, which one model scored", {"grid": 1}),
    Metric("shortcut auc", "other", "AUC without looking", "AUC of source, image size, brightness and frame alone, on the same test cases", {"trust": 1}),
    Metric("auc beyond shortcut", "other", "AUC beyond that", "AUC of the model minus the AUC of source, image size, brightness and frame alone", {"trust": 2}),
    Metric("kappa", "other", "Cohen's kappa", "agreement of two readers beyond chance; 1 is perfect", {"readers": 1}),
    Metric("partial auc", "other", "Partial AUC", "area under the useful part of the ROC curve", {"python": 1}),
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
    Metric("lowest true accuracy", "other", "Lowest true accuracy", "that fits what was measured against labels that are wrong now and then", {"single reader": 1}, unit="%"),
    Metric("highest true accuracy", "other", "Highest true accuracy", "that fits what was measured against labels that are wrong now and then", {"single reader": 2}, unit="%"),
    Metric("panel accuracy", "other", "Accuracy of the panel against one reader", "what the majority of the readers reaches", {"readers": 1}, unit="%"),
    Metric("afroc area", "other", "AFROC area", "chance that a lesion outscores the worst false alarm of an image without lesions", {"marks": 1}),
    Metric("weighted afroc area", "other", "AFROC area, weighted", "the same, where each image with lesions weighs alike", {"marks": 1}),
    Metric("log loss", "other", "Log loss", "mean surprise at the truth; 0 is perfect", {"calibration": 1}),
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
    Metric("ap@0.5", "other", "AP at IoU .5", "objects found with an IoU above .5 over all that are true or predicted: TP / (TP + FP + FN)", {"outlines top": 1, "outlines": 1, "outlines subgroups": 1, "outlines gaps": 1, "outlines comparison": 1}),
    Metric("ap", "other", "AP, IoU .5 to .95", "the mean of TP / (TP + FP + FN) over IoU above .5, .55 … .95, pooled over the images", {"outlines top": 2, "outlines": 2, "outlines subgroups": 2, "outlines gaps": 2, "outlines comparison": 2}),
    Metric("ap per image", "other", "AP of an image, mean", "the same of each image with an object, true or predicted, and their mean: each image weighs alike", {"outlines": 3, "outlines comparison": 3}),
    Metric("f1@0.5", "other", "F1 at IoU .5", "2·TP / (2·TP + FP + FN): harmonic mean of precision and recall of objects", {"outlines top": 3, "outlines": 4, "outlines subgroups": 3, "outlines gaps": 3, "outlines comparison": 4}),
    Metric("precision@0.5", "other", "Precision at IoU .5", "of the predicted objects, how many are a true one", {"outlines": 5, "outlines comparison": 5}, unit="%"),
    Metric("recall@0.5", "other", "Recall at IoU .5", "of the true objects, how many were found", {"outlines": 6, "outlines comparison": 6}, unit="%"),
    Metric("pq", "other", "Panoptic quality (PQ)", "sum of the IoU of the hits over TP + FP/2 + FN/2: objects found, times how well", {"outlines top": 4, "outlines": 7, "outlines subgroups": 4, "outlines gaps": 4, "outlines comparison": 7}),
    Metric("sq", "other", "Segmentation quality (SQ)", "mean IoU of the hits", {"outlines": 8, "outlines comparison": 8}),
    Metric("dice", "other", "Dice", "overlap of two regions, twice what they share over their sum; 1 is perfect", {"python": 1, "outlines": 9, "outlines subgroups": 5, "outlines comparison": 9}),
    Metric("jaccard", "other", "Jaccard (IoU)", "overlap of two regions over their union; 1 is perfect", {"python": 1, "outlines": 10, "outlines comparison": 10}),
    Metric("merges", "other", "Merges, per 100 true objects", "true objects too few that were drawn, where one holds more than half of each of several", {"outlines": 11, "outlines subgroups": 6, "outlines comparison": 11}, better="lower", scale="positive"),
    Metric("splits", "other", "Splits, per 100 true objects", "predicted objects too many, where a true one holds more than half of each of several", {"outlines": 12, "outlines subgroups": 7, "outlines comparison": 12}, better="lower", scale="positive"),
    Metric("count error", "other", "Error of the count, bias", "mean of predicted minus true objects of an image", {"outlines": 13, "outlines subgroups": 8, "outlines comparison": 13}, better="", scale="plain"),
    Metric("count error, lower limit", "other", "Error of the count, lower limit of agreement", "bias less 1.96 standard deviations between images: between the limits lie 95 % of images, where errors are normal", {"outlines": 14}, better="", scale="plain"),
    Metric("count error, upper limit", "other", "Error of the count, upper limit of agreement", "bias and 1.96 standard deviations between images", {"outlines": 15}, better="", scale="plain"),
    Metric("size bias", "other", "Size, predicted over true", "geometric mean over the hits of their areas' ratio; 1 is none, 1.05 is 5 % too large", {"outlines": 16, "outlines subgroups": 9, "outlines comparison": 14}, better="", scale="positive"),
    Metric("boundary distance", "other", "Distance of borders, pixels", "mean over the hits of the mean distance from each border pixel of either to the other's border", {"outlines": 17, "outlines subgroups": 10, "outlines comparison": 15}, better="lower", scale="positive"),
    Metric("boundary distance 95 %", "other", "Distance of borders, 95 %, pixels", "mean over the hits of the distance within which 95 % of each border lies (Hausdorff 95 %)", {"outlines": 18, "outlines comparison": 16}, better="lower", scale="positive"),
    Metric("boundary distance µm", "other", "Distance of borders, µm", "the mean distance in microns, of images of known pixel size", {"outlines": 19}, better="lower", scale="positive"),
    Metric("boundary distance 95 % µm", "other", "Distance of borders, 95 %, µm", "the Hausdorff 95 % in microns, of images of known pixel size", {"outlines": 20}, better="lower", scale="positive"),
    Metric("class agreement", "other", "Class of the hits", "of the hits whose class is known on both sides, how many have the right one", {"outlines": 21, "outlines comparison": 17}, unit="%"),
    Metric("left empty", "other", "Empty images left empty", "of the images without a true object, in how many nothing was drawn", {"outlines": 22}, unit="%"),
    Metric("centre precision", "other", "Precision by distance of centres", "of the predicted objects, how many have their centre within the stated distance of a true one's", {"outlines": 23, "outlines comparison": 18}),
    Metric("centre recall", "other", "Recall by distance of centres", "of the true objects, how many have a predicted centre within the stated distance", {"outlines": 24, "outlines comparison": 19}),
    Metric("centre f1", "other", "F1 by distance of centres", "harmonic mean of the two", {"outlines": 25, "outlines comparison": 20}),
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


@checked
def shown(place: str, subjects: tuple[Subject, ...] = ()) -> list[Metric]:
    """The metrics that are shown at a place, in their order there; of all subjects, or of those named."""
    found = [m for m in (*METRICS, *OTHER_METRICS) if place in m.shown and (not subjects or m.subject in subjects)]
    return sorted(found, key=lambda m: m.shown[place])


#: A sensitivity of a search for lesions, at a rate of false positives per image; rates that are written as fractions.
_AT_RATE = re.compile(r"sensitivity at (\d*\.?\d+) false positives per image")
FRACTIONS = {0.125: "⅛", 0.25: "¼", 0.5: "½"}


@checked
def metric_named(name: str) -> Metric:
    """The metric of that name; differences, gaps and gains after theirs; of an unknown one only the name is known.

    >>> metric_named("auc gap").label, metric_named("sensitivity difference").unit
    ('AUC, gap', '%')
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    if at_rate := _AT_RATE.fullmatch(name):
        rate = float(at_rate[1])
        return Metric(name, "other", f"Sensitivity at {FRACTIONS.get(rate, f'{rate:g}')} false positives per image", "share of lesions found at so many false alarms per image", {}, unit="%")  # fmt: skip
    base, _, ending = name.rpartition(" ")
    if base and ending in ENDINGS:
        of = metric_named(base)
        return replace(of, name=name, label=f"{of.label}, {ending}", definition=ENDINGS[ending], shown={})
    return Metric(name, "other", name, "", {})


@checked
def defined(found: Iterable[Estimate]) -> Panel:
    """The metrics of a result by which it can be asked, with what each means."""

    def meaning(name: str) -> str:
        record = metric_named(name)
        return f"{record.label}: {record.definition}" if record.definition else record.label

    return metrics_panel(found, meaning)


#: Of one name, that of all classes before that of one question: its words hold for both.
_BY_NAME = {m.name: m for m in sorted((*METRICS, *OTHER_METRICS), key=lambda m: m.subject == "all")}


# -- every estimate of a set of rows --------------------------------------------------------------------------------


def judge(
    test: Predictions | ScoredCases,
    asked: Sequence[Question],
    codes: NDArray[np.int64],
    inside: NDArray[np.bool_],
    how: Intervals,
) -> list[Estimate]:
    """Every estimate of the rows where ``inside`` (N,) is true. ``codes`` (N,) number the patients."""
    cases = ScoredCases.of(test)
    inside = inside if asked else inside & cases.known
    rows, local = np.flatnonzero(inside), np.full(len(codes), -1)
    local[rows] = patient_codes(codes[rows], len(rows))
    patients = int(local.max(initial=-1)) + 1
    found = Measures()
    for sample in samples(cases, [q.only(inside) for q in asked], local, patients, inside):
        for estimator in estimators_of(sample):
            found += estimator(sample, how)
    resampled = bootstrap(found.statistics, max(patients, 1), images=len(rows), level=how.level, seed=how.seed,
                          resamples=how.resamples or None)  # fmt: skip
    return _in_order([*found.estimates, *resampled], ["", *(q.of for q in asked)])


def estimators_of(sample: Sample) -> list[Estimator]:
    """The estimators of all metrics that a sample has, each once."""
    fitting = (m for m in METRICS if m.fits(sample) and m.estimator)
    return list(dict.fromkeys(m.estimator for m in fitting if m.estimator))


def _in_order(found: list[Estimate], names: list[str]) -> list[Estimate]:
    metric, of = {m.name: i for i, m in reversed(list(enumerate(METRICS)))}, {n: i for i, n in enumerate(names)}
    return sorted(found, key=lambda e: (of.get(e.of, len(of)), metric.get(e.metric, len(metric))))


# -- the number that a study sets out to tell ---------------------------------------------------------------------


@dataclass(frozen=True)
class Endpoint(Content):
    """The primary endpoint: a metric and the class, group or finding that it is ``of``; ``named`` says when it was named."""

    metric: str = ""
    of: str = ""
    named: str = ""

    def __str__(self) -> str:
        return f"{self.metric} of {self.of}" if self.of else self.metric

    @property
    def key(self) -> tuple[str, str]:
        """Under what its estimate stands."""
        return self.metric, self.of

    def after(self, looks: int, *, kept: bool) -> Endpoint:
        """With when it was named: ``looks`` at the test set were ``kept`` in a ledger before."""
        times = "once" if looks == 1 else f"{looks:,} times"
        late = f"named when this test set had been looked at {times}: post hoc"
        first = "named with the first look at this test set" if kept else "no ledger tells when it was named"
        return replace(self, named=late if looks else first)


@checked
def endpoint_of(primary: str, offered: Iterable[tuple[str, str]], usual: str) -> Endpoint:
    """What ``primary`` names, ``metric`` or ``metric:class``, among the (metric, of) that are ``offered``.

    Without a class: over all classes, else of the ``usual`` one, or the only one. Empty for an empty name. Raises
    :class:`InputError` naming the nearest.

    >>> print(endpoint_of("auc", [("auc", "mel"), ("auc", "bcc")], "mel"))
    auc of mel
    """
    if not primary.strip():
        return Endpoint()
    found = list(offered)
    metric, _, of = (part.strip() for part in primary.partition(":"))
    names = [o for m, o in found if m == metric]
    if not names:
        raise InputError(f"there is no metric {metric!r} for a primary endpoint", todo=nearest(metric, dict.fromkeys(m for m, _ in found)))  # fmt: skip
    if of and not (names == [""] and of == usual):  # the accuracy of two classes is that of either
        if of not in names:
            whole = f"it is of all together: {metric}"
            raise InputError(f"there is no {metric} of {of!r} for a primary endpoint",
                             todo=nearest(of, [name for name in names if name]) if any(names) else whole)  # fmt: skip
        return Endpoint(metric, of)
    which = next((o for o in ("", usual) if o in names), names[0] if len(names) == 1 else None)
    if which is None:
        raise InputError("the primary endpoint is one number, and there are several", given=f"{metric} of {', '.join(names[:10])}",
                         todo=f"say of which, such as {metric}:{names[0]}")  # fmt: skip
    return Endpoint(metric, which)


# -- one metric of a table, as it is followed over sizes and sites ------------------------------------------------


@checked
def metric_for(test: Predictions, metric: str = "") -> str:
    """``metric``, or the first choice of the target: ``auc``, ``macro auc`` where there is no positive class, ``mae``.

    Raises :class:`InputError` for a metric that is not known, or not of this kind of target.
    """
    names = list(dict.fromkeys(m.name for m in shown("curve")))
    options = list(dict.fromkeys(m.name for m in shown("curve") if _followed_of(m, test.target)))
    if metric in names and metric not in options and metric != "auc":
        raise InputError(f"{metric} cannot be told of this target", given=test.target.kind,
                         todo=f"choose from {', '.join(options)}, or name the positive classes")  # fmt: skip
    return options[0] if metric in ("", "auc") else one_of(metric, tuple(names), "metric")


def _followed_of(m: Metric, target: Target) -> bool:
    """Whether one number of that metric stands for the target: of findings only one over all, of classes also."""
    task = target.task
    if m.subject == "quantity" or task.continuous:
        return m.subject == "quantity" and task.continuous
    if m.subject == "question":
        return task.binary or (task.exclusive and bool(target.positive))
    return task.exclusive or "findings" in m.tasks


def _record_of(target: Target, metric: str) -> Metric:
    """Of a metric that is told of a question and of all classes, the one of all, unless there is one question."""
    found = [m for m in shown("curve") if m.name == metric and _followed_of(m, target)]
    wanted = "question" if target.task.binary else "all"
    return min(found, key=lambda m: m.subject != wanted)


@checked
def group_of(test: Predictions, metric: str) -> str:
    """The class, or positive classes, that a metric is of; empty for one over all classes."""
    return "+".join(positives(test, None, None)) if _record_of(test.target, metric).subject == "question" else ""


@checked
def statistic_of(test: Predictions, metric: str, codes: NDArray, patients: int) -> Statistic:
    """The metric as a function of how often each patient is drawn; NaN with its reason where it is undefined.

    ``codes`` (N,) number the patients 0 … ``patients`` − 1.
    """
    record, target = _record_of(test.target, metric), test.target
    names = positives(test, None, None) if record.subject == "question" else ()
    several = [] if target.task.continuous else [(name,) for name in target.names]
    facts = ScoredCases.of(test)
    asked = [ask(facts, group, {}) for group in ([names] if names else several)]
    every = samples(facts, asked, codes.astype(np.int64), patients)
    sample = every[0] if record.subject == "question" else every[-1]
    found = record.along_curve(sample, Intervals())
    if found.statistics:
        return found.statistics[0]
    e = found.estimates[0]
    column = Column(metric, e.of, e.images or len(test), e.patients or patients, reason=e.undefined)
    return Statistic((column,), lambda weights: np.full((len(weights), 1), math.nan))


@checked
def estimate_of(
    test: Predictions, metric: str, *, level: float = 0.95, seed: int = 0, resamples: int | None = None
) -> Estimate:
    """The metric with its interval: DeLong's, clustered by patient, for one AUC, else a bootstrap over patients."""
    codes = patient_codes(test.patients, len(test))
    patients = max(distinct(codes), 1)
    if metric == "auc":
        asked = ask(test, positives(test, None, None), {})
        return of.area(sample_of(asked, codes, patients, test.target), Intervals(level)).estimates[0]
    one = statistic_of(test, metric, codes, patients)
    return bootstrap([one], patients, images=len(test), level=level, seed=seed, resamples=resamples)[0]
