"""Numbers in words: how the report and the figures write estimates, counts and names."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from dataclasses import dataclass

from overread.core.errors import checked
from overread.stats.estimate import Estimate

NOTHING = "–"
PERCENT = "\u00a0%"  # the sign stays with its number
POINTS = "\u00a0points"


@dataclass(frozen=True)
class Metric:
    """How a metric is written: its name, whether it is a percentage, and what it says in plain words."""

    name: str
    percent: bool = False
    says: str = ""


METRICS = {
    "auc": Metric("AUC", says="chance that a case with the disease scores higher than one without"),
    "macro auc": Metric("Macro AUC", says="mean over the classes of the AUC of each against the rest"),
    "average precision": Metric("Average precision", says="mean precision over all sensitivities; the no-skill value is the prevalence"),
    "sensitivity": Metric("Sensitivity", True, "of the cases with the disease, how many are flagged"),
    "specificity": Metric("Specificity", True, "of the cases without the disease, how many are cleared"),
    "ppv": Metric("Positive predictive value", True, "of the flagged cases, how many have the disease, at this prevalence"),
    "npv": Metric("Negative predictive value", True, "of the cleared cases, how many are free of it, at this prevalence"),
    "f1": Metric("F1", says="harmonic mean of sensitivity and positive predictive value"),
    "macro f1": Metric("Macro F1", says="mean of F1 over the classes"),
    "accuracy": Metric("Accuracy", True, "cases called correctly; depends on the mix of classes"),
    "top accuracy": Metric("Accuracy without a threshold", True, "the same, by the more probable class"),
    "balanced accuracy": Metric("Balanced accuracy", True, "mean over the classes of the share called correctly"),
    "brier": Metric("Brier score", says="mean squared error of the probabilities; 0 is perfect"),
    "ece": Metric("Calibration error (ECE)", says="mean gap between stated probability and observed frequency"),
    "ece if calibrated": Metric("ECE to expect by chance", says="range for a perfectly calibrated model of this size"),
    "calibration intercept": Metric("Calibration intercept", says="0 is ideal; below 0, risks are overstated"),
    "calibration slope": Metric("Calibration slope", says="1 is ideal; below 1, probabilities are too extreme; above 1, too cautious"),
    "mae": Metric("Mean absolute error", says="mean distance between prediction and truth"),
    "rmse": Metric("Root mean squared error", says="like it, but large errors weigh more"),
    "r2": Metric("R²", says="share of the variance explained"),
    "pearson": Metric("Correlation", says="Pearson's correlation of prediction and truth"),
    "bias": Metric("Bias", says="mean of prediction minus truth"),
    "kappa": Metric("Cohen's kappa", says="agreement of two readers beyond chance; 1 is perfect"),
    "quadratic kappa": Metric("Quadratic kappa", says="agreement beyond chance; far misses weigh more"),
    "mcc": Metric("Matthews correlation (MCC)", says="correlation of call and truth; 0 is chance, 1 is perfect"),
    "standardised partial auc": Metric("Partial AUC, standardised", says="AUC of the part with few false alarms alone; 0.5 is chance, 1 is perfect"),
    "partial auc": Metric("Partial AUC", says="area under the useful part of the ROC curve"),
    "ppv at prevalence": Metric("PPV at the asked prevalence", True, "of the flagged cases, how many would have the disease where it is that common"),
    "npv at prevalence": Metric("NPV at the asked prevalence", True, "of the cleared cases, how many would be free of it where it is that common"),
    "brier reliability": Metric("Brier: reliability", says="part of the Brier score from probabilities that are off; 0 is perfect"),
    "brier resolution": Metric("Brier: resolution", says="part by which telling cases apart lowers it; larger is better"),
    "brier uncertainty": Metric("Brier: uncertainty", says="part that the prevalence alone brings"),
    "concordance": Metric("Concordance (C-index)", says="share of pairs of cases put in the right order; 0.5 is chance"),
    "c-index": Metric("Concordance (C-index)", says="share of pairs of cases put in the right order; 0.5 is chance"),
    "net benefit": Metric("Net benefit", says="true positives per case, less the false alarms weighed by the threshold"),
    "mean sensitivity": Metric("Mean sensitivity (FROC)", True, "mean share of lesions found, over the stated rates of false alarms per image"),
    "set coverage": Metric("Sets that hold the truth", True, "how often the set of answers holds the true one"),
    "set size": Metric("Mean size of the sets", says="answers per set; 1 is sure"),
    "sets of one class": Metric("Sets of one answer", True, "how often the model is sure of a single answer"),
    "empty sets": Metric("Empty sets", True, "how often no answer is probable enough"),
    "interval coverage": Metric("Intervals that hold the truth", True, "how often the predicted interval holds the true value"),
    "interval width": Metric("Mean width of the intervals", says="in the unit of the quantity"),
    "agreement": Metric("Agreement", True, "how often two readers of a case give one answer"),
    "specific agreement": Metric("Specific agreement", True, "where a reader gives this answer, how often another does too"),
    "fleiss kappa": Metric("Fleiss' kappa", says="agreement of any readers beyond chance; 1 is perfect"),
    "nominal alpha": Metric("Krippendorff's alpha", says="agreement of any readers beyond chance, with missing answers; 1 is perfect"),
    "ordinal alpha": Metric("Krippendorff's alpha (ordered)", says="the same, where far disagreements weigh more"),
    "interval alpha": Metric("Krippendorff's alpha (scores)", says="the same, for scores"),
    "icc(2,1)": Metric("Intraclass correlation, ICC(2,1)", says="share of the variance of one reader's scores that belongs to the cases; absolute agreement"),
    "icc(3,1)": Metric("Intraclass correlation, ICC(3,1)", says="the same, where readers may differ by a constant"),
    "ceiling": Metric("Highest possible accuracy against one reader", True, "what no classifier can pass, given how readers disagree"),
    "panel accuracy": Metric("Accuracy of the panel against one reader", True, "what the majority of the readers reaches"),
    "afroc area": Metric("AFROC area", says="chance that a lesion outscores the worst false alarm of an image without lesions"),
    "weighted afroc area": Metric("AFROC area, weighted", says="the same, where each image with lesions weighs alike"),
    "log loss": Metric("Log loss", says="mean surprise at the truth; 0 is perfect"),
    "threshold": Metric("Threshold", says="the score from which a case is called positive"),
    "reads per case": Metric("Reads per case", says="how often a case is read by a person"),
    "called positive": Metric("Called positive", True, "of all cases, how many"),
    "cost per case": Metric("Cost per case", says="by the stated costs of reads, misses and false alarms"),
    "place in the worklist": Metric("Place of the diseased in the worklist", True, "50 % is first come, first read; lower is earlier"),
    "internal minus external": Metric("Internal minus external", says="what is lost at sites that nobody trained on"),
    "asymptote": Metric("Where the curve levels off", says="by the fitted power law"),
    "extrapolated": Metric("At twice the size, extrapolated", says="by the fitted power law"),
    "learning exponent": Metric("Exponent of the learning curve", says="of the fitted power law"),
    "patients needed": Metric("Patients needed"),
    "positives needed": Metric("Of them with the disease"),
    "negatives needed": Metric("Of them without"),
    "images needed": Metric("Images needed"),
    "dice": Metric("Dice", says="overlap of two regions; 1 is perfect"),
    "jaccard": Metric("Jaccard (IoU)", says="overlap of two regions over their union; 1 is perfect"),
    "panoptic quality": Metric("Panoptic quality", says="objects found, times how well; 1 is perfect"),
    "psnr": Metric("PSNR, dB"),
    "ssim": Metric("SSIM", says="structural similarity of two images; 1 is equal"),
    "risk-coverage area": Metric("Area under the risk–coverage curve", says="mean error over all shares of cases answered; lower is better"),
}  # fmt: skip

#: Endings that make a metric of a metric.
_MADE = {
    "gap": "the group minus its reference",
    "difference": "the first minus the second",
    "gain": "what the last step added",
}


def metric(name: str) -> Metric:
    """How ``name`` is written; differences and gaps after their metric, unknown metrics by their own name.

    >>> metric("auc gap").name, metric("sensitivity difference").percent
    ('AUC, gap', True)
    """
    base, _, ending = name.rpartition(" ")
    if name not in METRICS and base and ending in _MADE:
        return Metric(f"{metric(base).name}, {ending}", metric(base).percent, _MADE[ending])
    return METRICS.get(name, Metric(name))


def probability(p: float) -> str:
    """A p-value as it is written: three digits, small ones as a bound.

    >>> probability(0.0312), probability(1e-9)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {number(p)}"


def number(value: float | None, digits: int = 3) -> str:
    """A number with fixed digits, a true minus sign, and a dash for what is not known.

    >>> number(0.9127), number(-1.5, 1), number(None)
    ('0.913', '−1.5', '–')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:,.{digits}f}"
    zero = not text.strip("-0.,")  # what is rounded to nothing has no sign
    return text.removeprefix("-") if zero else text.replace("-", "−")


def percent(value: float | None, digits: int = 0) -> str:
    """A share as a percentage.

    >>> percent(0.837).replace("\\xa0", " ")
    '84 %'
    """
    return NOTHING if value is None or not math.isfinite(value) else f"{number(100 * value, digits)}{PERCENT}"


def share(value: float) -> str:
    """A share that was given, with the digits it needs.

    >>> share(0.05).replace("\\xa0", " "), share(0.0125).replace("\\xa0", " ")
    ('5 %', '1.25 %')
    """
    return f"{100 * value:.3g}{PERCENT}"


def value(estimate: Estimate | None, digits: int = 3) -> str:
    """The estimate's value alone, as its metric is written."""
    if estimate is None or estimate.undefined:
        return NOTHING
    if metric(estimate.metric).percent:
        return number(100 * estimate.value, max(0, digits - 2)) + unit(estimate)
    return number(estimate.value, digits)


def interval(estimate: Estimate | None, digits: int = 3, joint: str = " – ") -> str:
    """The estimate's interval alone, ``""`` where there is none; ``to`` in place of a dash beside a minus sign."""
    if estimate is None or estimate.undefined or not math.isfinite(estimate.low):
        return ""
    scale, places = (100, max(0, digits - 2)) if metric(estimate.metric).percent else (1, digits)
    low, high = (number(scale * edge, places) for edge in (estimate.low, estimate.high))
    return f"{low}{' to ' if low.startswith('−') else joint}{high}"


def unit(estimate: Estimate | None) -> str:
    """The percent sign of metrics that are percentages; percentages differ by points.

    >>> unit(Estimate("sensitivity difference", 0.022)).strip(), unit(Estimate("auc", 0.9))
    ('points', '')
    """
    if estimate is None or not metric(estimate.metric).percent:
        return ""
    return POINTS if estimate.metric.rpartition(" ")[2] in _MADE else PERCENT


def spoken(estimate: Estimate | None) -> str:
    """An estimate within a sentence: ``0.91 (95 % interval 0.86 to 0.95)``."""
    between = interval(estimate, 2, " to ")
    if estimate is None or not between:
        return value(estimate, 2)
    return f"{value(estimate, 2)} ({percent(estimate.level)} interval {between}{unit(estimate)})"


def count(how_many: int | float | None, noun: str, plural: str = "") -> str:
    """A number with its noun.

    >>> count(1, "patient"), count(1203, "patient"), count(2, "class", "classes")
    ('1 patient', '1,203 patients', '2 classes')
    """
    if how_many is None:
        return f"an unknown number of {plural or noun + 's'}"
    return f"{int(how_many):,} {noun if how_many == 1 else plural or noun + 's'}"


def times(how_many: int) -> str:
    """How often.

    >>> times(1), times(3)
    ('once', '3 times')
    """
    return "once" if how_many == 1 else f"{how_many:,} times"


def size(images: int | None, patients: int | None) -> str:
    """How many images of how many patients: what stands on every figure."""
    return f"{count(images, 'image')} of {count(patients, 'patient')}"


def name(text: object, limit: int = 40) -> str:
    """A name from the data, fit to be shown: no control characters, not too long.

    >>> name("a\\x00b"), name("x" * 50, 5)
    ('a�b', 'xxxx…')
    """
    clean = "".join("�" if unicodedata.category(c) in ("Cc", "Cs", "Cn", "Co") or c in _TURNS else c for c in str(text))
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # would reorder the text around them


def sentence(text: object, limit: int = 500) -> str:
    """A text from a file as a sentence: a capital at its start, a full stop at its end.

    >>> sentence("two images are equal")
    'Two images are equal.'
    """
    said = name(text, limit).strip()
    said = said[:1].upper() + said[1:]
    return said if not said or said.endswith((".", "!", "?", "…")) else said + "."


def group(of: str, names: tuple[str, ...] = (), limit: int = 60) -> str:
    """A class, or the positive group, in words; ``names`` are the classes, which may themselves hold a plus sign.

    >>> group("mel+bcc+akiec"), group("HER2+", ("HER2+", "HER2-"))
    ('mel, bcc or akiec', 'HER2+')
    """
    parts = [name(part) for part in ([of] if of in names else of.split("+"))]
    parts = [f"class {part}" if part.isdigit() else part for part in parts]
    text = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " or " + parts[-1]
    return name(text, limit)


@checked
def case_key(case: str, salt: str) -> str:
    """A short key that stands for a case where its name must not be shown (8 hexadecimal digits).

    >>> len(case_key("ISIC_0027419", "salt"))
    8
    """
    return hashlib.blake2b(case.encode(), key=salt.encode()[:64], digest_size=4).hexdigest()


@checked
def duration(seconds: float | None) -> str:
    """Seconds as people say them.

    >>> duration(45), duration(605), duration(9000)
    ('45 seconds', '10 minutes', '2 h 30 min')
    """
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 90:
        return count(round(seconds), "second")
    if seconds < 5400:
        return count(round(seconds / 60), "minute")
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
