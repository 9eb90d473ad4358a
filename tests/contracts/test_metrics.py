"""Every metric is shown somewhere, documented, and recomputed here by something independent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from overread.evaluation.decision.class_decision import ClassDecision
from overread.evaluation.evaluate import evaluate
from overread.evaluation.metrics import METRICS, OTHER_METRICS
from overread.predictions import Predictions
from overread.tasks.target import Target

DOCS = Path(__file__).parents[2] / "docs/reference/metrics.md"
PREVALENCE, RISK = 0.1, 0.3


def binned(truth, score):
    """(cases, mean probability, share of positives) of each of ten bins that hold a case."""
    place = np.minimum((score * 10).astype(int), 9)
    return [(int((place == b).sum()), score[place == b].mean(), truth[place == b].mean()) for b in np.unique(place)]


def ece(truth, score):
    return sum(n * abs(p - o) for n, p, o in binned(truth, score)) / len(truth)


def ece_of_calibrated(score):
    rng = np.random.default_rng(0)
    return np.mean([ece(rng.random(len(score)) < score, score) for _ in range(2000)])


def line(truth, score, *, slope):
    """Cox's line by maximum likelihood; the intercept is that at a slope of one."""
    logit = np.log(score / (1 - score))
    if slope:
        return LogisticRegression(C=np.inf, tol=1e-10).fit(logit[:, None], truth).coef_[0, 0]
    at = 0.0
    for _ in range(50):  # Newton's steps
        chance = 1 / (1 + np.exp(-(at + logit)))
        at += (truth - chance).sum() / (chance * (1 - chance)).sum()
    return at


def at_clinic(truth, called, positive):
    sensitivity, specificity = called[truth].mean(), (~called[~truth]).mean()
    ill, well = PREVALENCE, 1 - PREVALENCE
    if positive:
        return sensitivity * ill / (sensitivity * ill + (1 - specificity) * well)
    return specificity * well / (specificity * well + (1 - sensitivity) * ill)


#: Where the cases come from, three sites in turn.
SITE = np.arange(200) % 3


def within_sites(truth, score):
    """The share of pairs of one site that are put in the right order, counted one by one."""
    right, pairs = 0.0, 0
    for site in np.unique(SITE):
        here = np.equal(SITE, site)
        ill, well = score[truth & here], score[~truth & here]
        right += sum((a > b) + (a == b) / 2 for a in ill for b in well)
        pairs += len(ill) * len(well)
    return right / pairs


def counted(t, s, *, truly, called):
    return sum(a == truly and (b >= 0.5) == called for a, b in zip(t, s))


def best(t, s, *, of_specificity):
    """Over the steps of the ROC curve: the best of one rate where the other is at least .9."""
    fpr, tpr, _ = sk.roc_curve(t, s, drop_intermediate=False)
    return max(1 - fpr[tpr >= 0.9]) if of_specificity else max(tpr[1 - fpr >= 0.9])


def net_benefit(t, s):
    """At a prevalence other than that of the cases: their risks are moved there by Bayes, their rates weighed by it."""
    odds = s / (1 - s) * (PREVALENCE / (1 - PREVALENCE)) / (t.mean() / (1 - t.mean()))
    treated, at = odds / (1 + odds) >= RISK, RISK / (1 - RISK)
    return PREVALENCE * treated[t].mean() - (1 - PREVALENCE) * treated[~t].mean() * at


#: Of (truth, score) of a question, called positive at .5.
QUESTION = {
    "auc": sk.roc_auc_score,
    "auc within sources": within_sites,
    "standardised partial auc": lambda t, s: sk.roc_auc_score(t, s, max_fpr=0.2),
    "average precision": sk.average_precision_score,
    "accuracy": lambda t, s: sk.accuracy_score(t, s >= 0.5),
    "top accuracy": lambda t, s: sk.accuracy_score(t, s > 0.5),
    "balanced accuracy": lambda t, s: sk.balanced_accuracy_score(t, s >= 0.5),
    "sensitivity": lambda t, s: sk.recall_score(t, s >= 0.5),
    "specificity": lambda t, s: sk.recall_score(~t, s < 0.5),
    "ppv": lambda t, s: sk.precision_score(t, s >= 0.5),
    "npv": lambda t, s: sk.precision_score(~t, s < 0.5),
    "ppv at prevalence": lambda t, s: at_clinic(t, s >= 0.5, True),
    "npv at prevalence": lambda t, s: at_clinic(t, s >= 0.5, False),
    "lr+": lambda t, s: sk.class_likelihood_ratios(t, s >= 0.5)[0],
    "lr-": lambda t, s: sk.class_likelihood_ratios(t, s >= 0.5)[1],
    "specificity at sensitivity": lambda t, s: best(t, s, of_specificity=True),
    "sensitivity at specificity": lambda t, s: best(t, s, of_specificity=False),
    "threshold": lambda t, s: 0.5,
    "true positives": lambda t, s: counted(t, s, truly=True, called=True),
    "false positives": lambda t, s: counted(t, s, truly=False, called=True),
    "false negatives": lambda t, s: counted(t, s, truly=True, called=False),
    "true negatives": lambda t, s: counted(t, s, truly=False, called=False),
    "o/e ratio": lambda t, s: sum(t) / sum(s),
    "net benefit": net_benefit,
    "f1": lambda t, s: sk.f1_score(t, s >= 0.5),
    "mcc": lambda t, s: sk.matthews_corrcoef(t, s >= 0.5),
    "brier": sk.brier_score_loss,
    "brier reliability": lambda t, s: sum(n * (p - o) ** 2 for n, p, o in binned(t, s)) / len(t),
    # what the other parts leave, so that spread within a bin counts here (Stephenson, Coelho & Jolliffe 2008)
    "brier resolution": lambda t, s: (
        sum(n * (p - o) ** 2 for n, p, o in binned(t, s)) / len(t)
        + t.mean() * (1 - t.mean())
        - sk.brier_score_loss(t, s)
    ),
    "brier uncertainty": lambda t, s: t.mean() * (1 - t.mean()),
    "ece": ece,
    "ece if calibrated": lambda t, s: ece_of_calibrated(s),
    "calibration intercept": lambda t, s: line(t, s, slope=False),
    "calibration slope": lambda t, s: line(t, s, slope=True),
}
#: What each call costs for each truth of three grades.
COSTS = ((0.0, 1.0, 4.0), (2.0, 0.0, 1.0), (9.0, 3.0, 0.0))


def cheapest(score):
    """(N,) the call of the smallest expected cost."""
    return np.array([np.argmin([sum(p * COSTS[k][j] for k, p in enumerate(row)) for j in range(3)]) for row in score])


#: Of class numbers (N,) and probabilities (N, C), called at the smallest cost.
ALL = {
    "macro auc": lambda t, s: sk.roc_auc_score(t, s, multi_class="ovr", average="macro"),
    "macro auc within sources": lambda t, s: np.mean([within_sites(t == k, s[:, k]) for k in range(s.shape[1])]),
    "accuracy": lambda t, s: sk.accuracy_score(t, cheapest(s)),
    "top accuracy": lambda t, s: sk.accuracy_score(t, s.argmax(axis=1)),
    "balanced accuracy": lambda t, s: sk.balanced_accuracy_score(t, cheapest(s)),
    "top balanced accuracy": lambda t, s: sk.balanced_accuracy_score(t, s.argmax(axis=1)),
    "macro f1": lambda t, s: sk.f1_score(t, cheapest(s), average="macro"),
    "mcc": lambda t, s: sk.matthews_corrcoef(t, cheapest(s)),
    "quadratic kappa": lambda t, s: sk.cohen_kappa_score(t, cheapest(s), weights="quadratic"),
    "mean cost": lambda t, s: sum(COSTS[a][b] for a, b in zip(t, cheapest(s))) / len(t),
    "mean cost by argmax": lambda t, s: sum(COSTS[a][b] for a, b in zip(t, s.argmax(axis=1))) / len(t),
    "brier": lambda t, s: np.mean(
        [sum((s[i, k] - (t[i] == k)) ** 2 for k in range(s.shape[1])) for i in range(len(t))]
    ),
    "ece": lambda t, s: ece(s.argmax(axis=1) == t, s.max(axis=1)),
    "ece if calibrated": lambda t, s: ece_of_calibrated(s.max(axis=1)),
}
#: Of true and predicted numbers (N,).
QUANTITY = {
    "mae": sk.mean_absolute_error,
    "rmse": lambda t, p: sk.mean_squared_error(t, p) ** 0.5,
    "bias": lambda t, p: sum(b - a for a, b in zip(t, p)) / len(t),
    "r2": sk.r2_score,
    "pearson": lambda t, p: scipy_stats.pearsonr(t, p).statistic,
    "concordance": lambda t, p: (1 + scipy_stats.somersd(t, p).statistic) / 2,
}
RECOMPUTED = {("question", n): f for n, f in QUESTION.items()} | {("all", n): f for n, f in ALL.items()}
RECOMPUTED |= {("quantity", n): f for n, f in QUANTITY.items()}


def table(subject: str) -> Predictions:
    """200 patients with one image each: two classes, three grades, or a number."""
    rng = np.random.default_rng(4)
    who = [f"p{i}" for i in range(200)]
    rows = pd.DataFrame({"case": who, "patient": who, "split": "test", "source": np.array(["A", "B", "C"])[SITE]})
    if subject == "quantity":
        value = rng.normal(size=200)
        rows = rows.assign(value=value, predicted=value + rng.normal(size=200))
        return Predictions(rows, Target("quantity", ("value",)))
    names = ("0", "1") if subject == "question" else ("0", "1", "2")
    truth = rng.integers(0, len(names), 200)
    score = np.exp(rng.normal(size=(200, len(names))) + 1.2 * np.eye(len(names))[truth])
    score /= score.sum(axis=1, keepdims=True)
    rows["label"] = np.array(names)[truth]
    for i, name in enumerate(names):
        rows[f"p:{name}"] = score[:, i]
    kind = "binary" if subject == "question" else "classes"
    return Predictions(rows, Target(kind, names, ("1",) if subject == "question" else ()))


def test_every_metric_is_shown_documented_and_recomputed() -> None:
    docs = DOCS.read_text("utf-8")
    found = [f"{m.name} of {m.subject}: shown nowhere" for m in (*METRICS, *OTHER_METRICS) if not m.shown]
    found += [f"{m.name}: not in {DOCS.name}" for m in METRICS if f"`{m.name}`" not in docs]
    found += [f"{m.name} of {m.subject}: not recomputed" for m in METRICS if (m.subject, m.name) not in RECOMPUTED]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("subject", ["question", "all", "quantity"])
def test_every_metric_is_what_something_independent_says(subject) -> None:
    test = table(subject)
    gains = tuple(tuple(-cost for cost in row) for row in COSTS)
    decision = ClassDecision(("0", "1", "2"), gains, "cost", "the smallest expected cost", "given", "nothing")
    asked = {"question": {"prevalence": PREVALENCE, "net_benefit_at": RISK}, "all": {"at": decision}}.get(subject, {})
    result = evaluate(test, resamples=50, **asked)
    truth, score = test.truth, test.scores
    truth, score = (truth == 1, score[:, 1]) if subject == "question" else (truth, score)
    score = score[:, 0] if subject == "quantity" else score
    wrong = []
    for (of, name), again in RECOMPUTED.items():
        if of != subject:
            continue
        value, wanted = (result[name, ""] if of == "all" else result[name]).value, again(truth, score)
        near = 0.003 if name == "ece if calibrated" else 1e-6
        wrong += [] if abs(value - wanted) < near else [f"{name}: {value}, by the other way {wanted}"]
    assert not wrong, "\n".join(wrong)


def test_no_metric_and_no_rank_is_given_twice() -> None:
    keys = [(m.subject, m.name) for m in (*METRICS, *OTHER_METRICS)]
    assert len(set(keys)) == len(keys)
    ranks = [(place, m.subject, rank) for m in METRICS for place, rank in m.shown.items()]
    assert len(set(ranks)) == len(ranks), sorted(r for r in ranks if ranks.count(r) > 1)
