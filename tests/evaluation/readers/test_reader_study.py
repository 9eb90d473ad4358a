"""Readers and a model beside them: through the whole path, against slow restatements and other libraries."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from phantom_readers import Variances, draw_readings, draw_scores
from scipy import stats as scipy_stats
from statsmodels.stats import inter_rater

from overread.cases.annotators import grades_of, read_grades
from overread.core.errors import InputError, UnsoundError
from overread.evaluation.ledger import verify
from overread.evaluation.operating_point import choose_threshold
from overread.evaluation.readers.answers import read_truth
from overread.evaluation.readers.reader_study import Reading, judge_readers
from overread.predictions import Predictions
from overread.tasks.target import Target

NAMES = ("benign", "malignant")
TRUTH = (np.arange(90) % 3 == 0).astype(int)


def cases(count=90):
    return [f"c{i}" for i in range(count)]


def predictions(truth=TRUTH, *, seed=0, strength=1.5, patients=None, known=True):
    score = scipy_stats.norm.cdf(strength * truth - 0.7 + np.random.default_rng(seed).normal(size=len(truth)))
    table = pd.DataFrame({
        "case": cases(len(truth)), "patient": patients or cases(len(truth)), "split": "", "source": "",
        "label": [NAMES[t] if known else "" for t in truth], "p:benign": 1 - score, "p:malignant": score,
    })  # fmt: skip
    return Predictions(table, Target("binary", NAMES, ("malignant",)))


def labels(truth=TRUTH, readers=4, **how):
    table = draw_readings(truth, readers=readers, names=NAMES, cases=cases(len(truth)), **how)
    return grades_of(table.assign(modality=""), "label")


def scores(truth=TRUTH, readers=4, **how):
    return grades_of(draw_scores(truth, readers=readers, cases=cases(len(truth)), **how), "score")


def matrix(grades, column="score", modality=""):
    table = grades.table[grades.table["modality"] == modality]
    wide = table.pivot(index="case", columns="reader", values=column)
    return wide.loc[cases(len(wide)), sorted(wide.columns)].to_numpy()


# -- MRMC, restated slowly ----------------------------------------------------------------------------------------


def slow_auc(truth, score):
    ill, well = score[truth == 1], score[truth == 0]
    return float(np.mean((ill[:, None] > well) + 0.5 * (ill[:, None] == well)))


def slow_covariance(truth, columns):
    """DeLong 1988, case by case."""
    ill, well = np.flatnonzero(truth == 1), np.flatnonzero(truth == 0)

    def kernel(a, b):
        return 1.0 if a > b else 0.5 if a == b else 0.0

    found = np.empty((len(columns),) * 2)
    above = [[np.mean([kernel(c[i], c[j]) for j in well]) for i in ill] for c in columns]
    below = [[np.mean([kernel(c[i], c[j]) for i in ill]) for j in well] for c in columns]
    for a, b in product(range(len(columns)), repeat=2):
        found[a, b] = np.cov(above[a], above[b])[0, 1] / len(ill) + np.cov(below[a], below[b])[0, 1] / len(well)
    return found


def slow_against_mean(truth, model, readers):
    """Model minus readers' mean, its p and freedom: Obuchowski & Rockette with Hillis 2007 for one modality."""
    count = readers.shape[1]
    differences = np.array([slow_auc(truth, model) - slow_auc(truth, r) for r in readers.T])
    errors = slow_covariance(truth, [model, *readers.T])
    minus = np.column_stack((np.ones(count), -np.eye(count)))
    between = minus @ errors @ minus.T
    shared = max(0.0, np.mean([between[i, j] for i in range(count) for j in range(count) if i != j]))
    spread = differences.var(ddof=1)
    term = spread + count * shared
    freedom = (count - 1) * (term / spread) ** 2
    error = math.sqrt(term / count)
    value = differences.mean()
    return value, error, freedom, 2 * scipy_stats.t.sf(abs(value / error), freedom)


@pytest.mark.parametrize("seed", range(3))
def test_mrmc_of_scores_is_a_slow_restatement(seed):
    grades, model = scores(seed=seed, separation=1.2), predictions(seed=seed)
    contrast = judge_readers(grades, model).contrast("auc")
    value, error, freedom, p = slow_against_mean(TRUTH, model.scores[:, 1], matrix(grades))
    assert contrast.gap.difference.value == pytest.approx(value, abs=1e-10)
    assert contrast.gap.error == pytest.approx(error, abs=1e-10)
    assert contrast.freedom == pytest.approx(freedom, rel=1e-10)
    assert contrast.gap.p == pytest.approx(p, abs=1e-10)


def test_balanced_accuracy_is_the_area_of_calls():
    grades, model = labels(seed=3), predictions()
    contrast = judge_readers(grades, model).contrast("balanced accuracy")
    said = (matrix(grades, "label") == "malignant").astype(float)
    value, error, freedom, p = slow_against_mean(TRUTH, (model.scores[:, 1] >= 0.5).astype(float), said)
    assert (contrast.gap.difference.value, contrast.gap.error) == pytest.approx((value, error), abs=1e-10)
    assert (contrast.freedom, contrast.gap.p) == pytest.approx((freedom, p), rel=1e-9)
    shares = [judge_readers(grades, model).contrast(m).gap.difference.value for m in ("sensitivity", "specificity")]
    assert contrast.gap.difference.value == pytest.approx(np.mean(shares), abs=1e-12)


def test_accuracy_and_sensitivity_are_means_of_differences():
    grades, model = labels(seed=4), predictions()
    found = judge_readers(grades, model)
    said, flagged = matrix(grades, "label") == "malignant", model.scores[:, 1] >= 0.5
    ill = TRUTH == 1
    assert found.contrast("sensitivity").gap.difference.value == pytest.approx(flagged[ill].mean() - said[ill].mean())
    right = [(flagged == ill).mean() - (r == ill).mean() for r in said.T]
    assert found.contrast("accuracy").gap.difference.value == pytest.approx(np.mean(right))
    assert found["specificity", "mean of readers"].value == pytest.approx(1 - said[~ill].mean())


def test_two_modalities_are_a_slow_restatement():
    grades = scores(modalities=("unaided", "aided"), separation=(1.0, 1.6), seed=5)
    truth = pd.DataFrame({"case": cases(), "label": [NAMES[t] for t in TRUTH]})
    found = judge_readers(grades, truth=truth)
    contrast = next(c for c in found.contrasts if "reader" not in c.where and "design" not in c.where)
    first, second = matrix(grades, modality="aided"), matrix(grades, modality="unaided")
    table = np.array([[slow_auc(TRUTH, a), slow_auc(TRUTH, b)] for a, b in zip(first.T, second.T)])
    errors = slow_covariance(TRUTH, [c for pair in zip(first.T, second.T) for c in pair])
    count = len(table)
    same = np.mean([errors[2 * i + m, 2 * j + m] for i in range(count) for j in range(count) if i != j for m in (0, 1)])
    cross = np.mean(
        [errors[2 * i + m, 2 * j + 1 - m] for i in range(count) for j in range(count) if i != j for m in (0, 1)]
    )
    rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    spread = (rest**2).sum() / (count - 1)
    term = spread + count * max(0.0, same - cross)
    value, error = float(table[:, 0].mean() - table[:, 1].mean()), math.sqrt(2 * term / count)
    assert contrast.where == {"modality": "aided − unaided"}
    assert (contrast.gap.difference.value, contrast.gap.error) == pytest.approx((value, error), abs=1e-10)
    assert contrast.freedom == pytest.approx((count - 1) * (term / spread) ** 2, rel=1e-10)


# -- agreement, against statsmodels -------------------------------------------------------------------------------


def test_agreement_is_that_of_statsmodels():
    grades = labels(seed=6)
    found = judge_readers(grades)
    table = (matrix(grades, "label") == "malignant").astype(int)
    counts, _ = inter_rater.aggregate_raters(table)
    assert found["fleiss kappa"].value == pytest.approx(inter_rater.fleiss_kappa(counts), abs=1e-12)
    pair = inter_rater.cohens_kappa(inter_rater.to_table(table[:, :2])[0])
    kappa = next(e for e in found.estimates if e.metric == "kappa" and e.of == "reader 1 and reader 2")
    assert kappa.value == pytest.approx(pair.kappa, abs=1e-12)
    assert found.matrix[""].value[0][1] == found.matrix[""].value[1][0] == kappa.value


def test_agreement_knows_the_patients_of_the_predictions():
    patients = [f"p{i // 3}" for i in range(90)]
    plain, clustered = (judge_readers(labels(), predictions(patients=p))["agreement"] for p in (None, patients))
    assert plain.value == clustered.value
    assert (plain.patients, clustered.patients) == (90, 30)


# -- the consensus of the others ----------------------------------------------------------------------------------


def slow_others(table, model):
    """Accuracy against the majority of the others, by loops; ties left out."""
    found = []
    for r in range(table.shape[1]):
        mine, its = [], []
        for i, row in enumerate(table):
            votes = [v for k, v in enumerate(row) if k != r and v == v]
            yes = sum(votes)
            if row[r] != row[r] or 2 * yes == len(votes):
                continue
            reference = 2 * yes > len(votes)
            mine.append(row[r] == reference)
            its.append(model[i] == reference)
        found.append((np.mean(mine), np.mean(its)))
    return np.array(found)


def test_without_a_truth_no_reader_is_his_own_reference():
    grades, model = labels(readers=5, missing=0.1, seed=7), predictions(known=False)
    found = judge_readers(grades, model)
    wide = grades.table.pivot(index="case", columns="reader", values="label").loc[cases()]
    table = (wide == "malignant").astype(float).where(wide.notna() & (wide != "")).to_numpy()
    slow = slow_others(table, model.scores[:, 1] >= 0.5)
    assert found["accuracy", "reader 3"].value == pytest.approx(slow[2, 0])
    beside = next(e for e in found.estimates if e.where.get("beside") == "reader 3" and e.metric == "accuracy")
    assert beside.value == pytest.approx(slow[2, 1])
    gap = found.contrast("accuracy").gap
    assert (gap.first.value, gap.second.value) == pytest.approx(tuple(slow.mean(axis=0)[::-1]))
    assert gap.difference.value == pytest.approx(slow[:, 1].mean() - slow[:, 0].mean())
    assert any("no reader is part of his own reference" in c for c in found.cautions)


def test_a_reader_who_repeats_another_is_not_helped_by_himself():
    """Two who always agree, one who says the opposite: the third is never right, though he has a vote."""
    rows = [(c, r, NAMES[(i % 2) ^ (r == "c")]) for i, c in enumerate(cases(40)) for r in "abc"]
    grades = grades_of(pd.DataFrame(rows, columns=["case", "reader", "label"]).assign(modality=""), "label")
    found = judge_readers(grades)
    assert found["accuracy", "c"].value == 0
    assert found["accuracy", "a"].undefined  # the other two are always tied


def difference_interval(seed):
    """Model and readers of one accuracy .8: whether the interval of their difference holds 0."""
    rng = np.random.default_rng(seed)
    truth = (np.arange(80) % 2).astype(int)
    grades = labels(truth, readers=4, sensitivity=0.8, specificity=0.8, seed=seed)
    flag = np.where(rng.random(80) < 0.8, truth, 1 - truth)
    made = predictions(truth, known=False)
    table = made.table.assign(**{"p:malignant": flag * 0.8 + 0.1, "p:benign": 0.9 - flag * 0.8})
    gap = judge_readers(grades, Predictions(table, made.target), resamples=200).contrast("accuracy").gap.difference
    return gap.low <= 0 <= gap.high


@pytest.mark.simulation
@pytest.mark.parametrize("runs", [8, pytest.param(1500, marks=pytest.mark.slow)])
def test_the_interval_against_the_others_covers(runs):
    """Given these readers, model and reader have one expected accuracy against the others, up to the readers drawn."""
    share = np.mean([difference_interval(seed) for seed in range(runs)])
    assert 0.925 - 2.6 * math.sqrt(0.05 / runs) < share < 0.975 + 2.6 * math.sqrt(0.05 / runs)


# -- type I error through the whole path --------------------------------------------------------------------------


@pytest.mark.parametrize("runs", [6, pytest.param(2000, marks=pytest.mark.slow)])
def test_type_one_error_of_two_modalities(runs):
    """Two equal modalities, readers and cases drawn anew: 5 % of the tests may say that they differ."""
    truth = (np.arange(60) % 2).astype(int)
    table = pd.DataFrame({"case": cases(60), "label": [NAMES[t] for t in truth]})
    seen = 0
    for seed in range(runs):
        grades = scores(truth, readers=3, modalities=("a", "b"), separation=1.2, variances=Variances(), seed=seed)
        kept = grades_of(grades.table, "score")
        found = judge_readers(kept, truth=table, resamples=50)
        seen += next(c for c in found.contrasts if "reader" not in c.where and "design" not in c.where).gap.p < 0.05
    margin = 2.6 * math.sqrt(0.0475 / runs)
    assert 0.025 - margin < seen / runs < 0.075 + margin


# -- the claim, the ledger, the operating point -------------------------------------------------------------------


def test_the_claim_is_the_t_test_at_the_margin(tmp_path):
    grades, model = scores(separation=1.2), predictions()
    found = judge_readers(grades, model, margin=0.05, ledger=tmp_path / "ledger.jsonl")
    contrast, claim = found.contrast("auc"), found.verdict.claim
    statistic = (contrast.gap.difference.value + 0.05) / contrast.gap.error
    assert claim.p == pytest.approx(scipy_stats.t.sf(statistic, contrast.freedom), abs=1e-12)
    assert claim.shown == (contrast.gap.difference.low > -0.05)
    assert found.verdict.declared
    again = judge_readers(grades, model, margin=0.2, ledger=tmp_path / "ledger.jsonl")
    assert not again.verdict.declared
    assert again.looks == 1


def test_one_look_is_one_line(tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    judge_readers(labels(), ledger=ledger)
    assert not ledger.exists()  # readers among themselves open nothing
    judge_readers(labels(), predictions(), ledger=ledger)
    judge_readers(labels(), predictions(), reference="consensus", ledger=ledger)
    assert len(verify(ledger)) == 2


def test_the_threshold_remembers_its_patients():
    tuning = predictions(seed=9)
    point = choose_threshold(tuning)
    with pytest.raises(UnsoundError, match="used to choose the threshold"):
        judge_readers(labels(), predictions(), at=point)
    others = [f"other {i}" for i in range(90)]
    with pytest.raises(UnsoundError, match="90 cases of this test set were used to choose the threshold, under other"):
        judge_readers(labels(), predictions(patients=others), at=point)
    tuning = replace(tuning, table=tuning.table.assign(case=others, patient=others))
    point = choose_threshold(tuning)
    found = judge_readers(labels(), predictions(), at=point)
    flagged = predictions().scores[:, 1] >= point.threshold
    assert found["sensitivity", "model"].value == pytest.approx(flagged[TRUTH == 1].mean())


# -- tables that do not fit ---------------------------------------------------------------------------------------


def test_cases_read_by_some_are_left_out_and_said():
    grades = labels(missing=0.1, seed=1)
    found = judge_readers(grades, predictions())
    counts = found.counts["modalities"][""]
    whole = grades.table[grades.table["label"] != ""].groupby("case")["reader"].nunique().eq(4).sum()
    assert counts["read by all"] == whole
    assert counts["read by some"] == 90 - whole
    assert any("not all readers have read" in c for c in found.cautions)
    assert found.contrast("accuracy").gap.difference.images == whole


def test_readers_of_different_cases_have_no_mrmc_and_a_reason():
    table = labels(readers=2).table
    half = table["case"].map({c: i < 45 for i, c in enumerate(cases())})
    found = judge_readers(grades_of(table[half == (table["reader"] == "reader 1")], "label"), predictions())
    assert found.contrast("accuracy").gap.difference.undefined == "no cases"
    assert found["fleiss kappa"].undefined
    assert not found["sensitivity", "reader 1"].undefined


def test_few_cases_are_counted_not_judged():
    table = labels(readers=3).table
    few = table[(table["reader"] != "reader 3") | table["case"].isin(cases()[:9])]
    found = judge_readers(grades_of(few, "label"), predictions())
    assert found["accuracy", "reader 3"].undefined == "fewer than 10 cases"
    assert found.counts["modalities"][""]["readers"]["reader 3"] == 9
    assert found.contrast("accuracy").gap.difference.images == 90  # the third takes no case away


def test_one_reader_works_and_says_why_not():
    found = judge_readers(labels(readers=1), predictions())
    assert found.contrast("sensitivity").gap.difference.undefined == "one reader cannot stand for others"
    fixed = found.contrast("sensitivity", design="readers fixed, cases random").gap.difference
    assert math.isfinite(fixed.low)
    assert not found.contrast("sensitivity", "reader 1").gap.difference.undefined
    assert any("one reader cannot stand" in c for c in found.cautions)


@pytest.mark.parametrize("kind", ["one class", "one patient", "a NaN of the model", "constant"])
def test_degenerate_studies_have_values_or_reasons(kind):
    truth = np.zeros(90, int) if kind == "one class" else TRUTH
    model = predictions(truth, patients=["p"] * 90 if kind == "one patient" else None)
    if kind == "a NaN of the model":
        table = model.table.copy()
        table.loc[3, ["p:benign", "p:malignant"]] = math.nan
        model = Predictions(table, model.target)
    grades = labels(TRUTH, sensitivity=0.0, specificity=1.0) if kind == "constant" else labels(TRUTH)
    found = judge_readers(grades, model)
    assert all(e.undefined or math.isfinite(e.value) for e in found.all)
    if kind == "one class":
        assert found.contrast("sensitivity").gap.difference.undefined == "0 positives"
    if kind == "a NaN of the model":
        assert "not finite" in found.contrast("sensitivity").gap.difference.undefined


def test_scores_with_a_cut_have_points():
    grades, model = scores(), predictions()
    plain = judge_readers(grades, model)
    assert {e.where["reader"] for e in plain.estimates if e.metric == "sensitivity"} == {"model"}
    found = judge_readers(grades, model, cut=0.6)
    said = matrix(grades)[:, 0] >= 0.6
    assert found["sensitivity", "reader 1"].value == pytest.approx(said[TRUTH == 1].mean())


def test_faults_are_told(tmp_path):
    rows = [("c0", "a", "benign"), ("c0", "a", "malignant")]
    (tmp_path / "twice.csv").write_text("case,reader,label\n" + "\n".join(map(",".join, rows)))
    with pytest.raises(InputError, match="more than once"):
        read_grades(tmp_path / "twice.csv")
    with pytest.raises(InputError, match="none of the classes"):
        judge_readers(grades_of(labels().table.replace("benign", "bening"), "label"), predictions())
    with pytest.raises(InputError, match="share no case"):
        judge_readers(grades_of(labels().table.assign(case="x" + labels().table["case"]), "label"), predictions())
    with pytest.raises(InputError, match="margin is of nothing"):
        judge_readers(labels(), predictions(), margin=0.1, margin_of="auc")
    with pytest.raises(InputError, match="known truth"):
        judge_readers(labels(), predictions(known=False), reference="truth")
    (tmp_path / "truth.csv").write_text("case,label\na,1\na,0\n")
    with pytest.raises(InputError, match="more than one truth"):
        read_truth(tmp_path / "truth.csv")


def test_nothing_to_judge_by_is_said():
    found = judge_readers(scores(), predictions(known=False))
    assert any("judged against nothing" in c for c in found.cautions)
    assert not found.contrasts
    with pytest.raises(InputError, match="no reader gave any answer"):
        judge_readers(grades_of(labels().table.assign(label=""), "label"), predictions())


def test_no_case_stands_in_what_is_told():
    found = judge_readers(labels(missing=0.05), predictions(), margin=0.1, margin_of="sensitivity")
    text = found.table() + str(found.about) + str(found.counts) + str(found.cautions)
    assert "c17" not in text


def test_three_classes_without_a_disease_have_accuracy_only():
    rng = np.random.default_rng(0)
    names, truth = ("a", "b", "c"), np.arange(90) % 3
    p = rng.dirichlet(np.ones(3), 90) + np.eye(3)[truth]
    table = pd.DataFrame({"case": cases(), "patient": cases(), "split": "", "source": "", "label": [names[t] for t in truth],
                          **{f"p:{n}": p[:, i] / 2 for i, n in enumerate(names)}})  # fmt: skip
    said = [(c, r, names[t if rng.random() < 0.8 else (t + 1) % 3]) for c, t in zip(cases(), truth) for r in "xyz"]
    grades = grades_of(pd.DataFrame(said, columns=["case", "reader", "label"]).assign(modality=""), "label")
    found = judge_readers(grades, Predictions(table, Target("classes", names, ())))
    assert found["accuracy", "model"].value == pytest.approx((p.argmax(axis=1) == truth).mean())
    assert {c.gap.first.metric for c in found.contrasts} == {"accuracy"}


def test_to_files_and_back(tmp_path):
    found = judge_readers(labels(), predictions(), margin=0.1, margin_of="sensitivity", ledger=tmp_path / "l.jsonl")
    back = Reading.load(found.save(tmp_path))
    assert back == found
    assert back.contrast("accuracy").gap.p == found.contrast("accuracy").gap.p
    fixed = back.contrast("accuracy", design="readers fixed, cases random")
    assert math.isinf(fixed.freedom)
    (tmp_path / "readers.json").write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        Reading.load(tmp_path)
