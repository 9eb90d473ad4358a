"""Workflows on recorded calls: each against a slow walk through the cases, with coverage, refusals and odd tables."""

import json

import numpy as np
import pandas as pd
import pytest

from overread.cases.annotators import grades_of
from overread.core.errors import ArgumentError, InputError, UnsoundError
from overread.evaluation.ledger import verify
from overread.evaluation.operating_point import choose_threshold
from overread.evaluation.workflow import PATHS, calls_of, simulate
from overread.stats.proportions import paired_proportions


def readers(test, count=3, seed=0, sensitivity=0.8, specificity=0.85, blank=0.1):
    """Calls of readers, (N, R) 0/1/NaN, and the same as :class:`Grades`."""
    rng = np.random.default_rng(seed)
    ill = test.truth == 1
    calls = (
        np.where(ill[:, None], rng.random((len(ill), count)) < sensitivity, rng.random((len(ill), count)) > specificity)
        * 1.0
    )
    calls[rng.random(calls.shape) < blank] = np.nan
    rows = [
        {"case": case, "reader": f"r{k}", "modality": "", "label": {1.0: "melanoma", 0.0: "benign"}.get(calls[i, k], "")}
        for i, case in enumerate(test.table["case"]) for k in range(count)
    ]  # fmt: skip
    return calls, grades_of(pd.DataFrame(rows), "label")


def walk(name, truth, score, calls, at, triage):
    """(truth, patient row, called, reads) of every reading that can be followed: a loop over cases and readers."""
    found = []
    for i in range(len(truth)):
        for r in range(calls.shape[1]):
            first = calls[i, r]
            if np.isnan(first):
                continue
            order = [calls[i, (r + k) % calls.shape[1]] for k in range(1, calls.shape[1])]
            others = [c for c in order if not np.isnan(c)]
            model = score[i] >= at
            if name == "reader alone":
                call, reads = first, 1
            elif name == "model alone":
                call, reads = model, 0
            elif name == "either positive":
                call, reads = first or model, 1
            elif name == "both positive":
                call, reads = first and model, 1
            elif name == "triage":
                call, reads = (first, 1) if score[i] >= triage else (0, 0)
            elif not others:
                continue
            elif name == "disagreement to a reader":
                call, reads = (first, 1) if first == model else (others[0], 2)
            elif first == others[0]:
                call, reads = first, 2
            elif len(others) > 1:
                call, reads = others[1], 3
            else:
                call, reads = 1, 2
            found.append((truth[i], i, bool(call), reads))
    return tuple(np.array(column) for column in zip(*found))


@pytest.fixture
def setting(predictions):
    tuning, test = predictions(prefix="tune", seed=1), predictions()
    calls, grades = readers(test)
    at, triage = choose_threshold(tuning), choose_threshold(tuning, sensitivity=0.95)
    return test, calls, grades, at, triage


def test_every_workflow_against_a_walk_through_the_cases(setting):
    test, calls, grades, at, triage = setting
    found = simulate(test, grades, at=at, triage=triage, resamples=50)
    truth, score = test.truth == 1, test.scores[:, 1]
    assert [w.name for w in found.workflows] == list(PATHS)
    for name in PATHS:
        ill, row, called, reads = walk(name, truth, score, calls, at.threshold, triage.threshold)
        assert found[name]["sensitivity"].value == pytest.approx(called[ill].mean())
        assert found[name]["specificity"].value == pytest.approx((~called[~ill]).mean())
        assert found[name]["reads per case"].value == pytest.approx(reads.mean())
        assert found[name]["called positive"].value == pytest.approx(called.mean())
        assert found[name]["sensitivity"].images == ill.sum()
        assert found[name]["sensitivity"].patients == len(set(test.patients[row[ill]]))


def test_differences_are_paired_on_the_same_readings(setting):
    test, calls, grades, at, triage = setting
    found = simulate(test, grades, at=at, triage=triage, resamples=50)
    truth, score = test.truth == 1, test.scores[:, 1]
    ill, row, called, reads = walk("triage", truth, score, calls, at.threshold, triage.threshold)
    alone = walk("reader alone", truth, score, calls, at.threshold, triage.threshold)[2]
    slow = paired_proportions(called[ill], alone[ill], test.patients[row[ill]], metric="sensitivity")
    quick = found["triage"].differences["reader alone"][0]
    assert (quick.difference.value, quick.difference.low, quick.p) == pytest.approx(
        (slow.difference.value, slow.difference.low, slow.p)
    )
    workload = found["triage"].differences["reader alone"][2].difference
    assert workload.value == pytest.approx(reads.mean() - 1)
    assert workload.low < workload.value < workload.high < 0
    fixed = found["either positive"].differences["reader alone"][2].difference
    assert fixed.value == 0
    assert "by design" in fixed.method
    assert set(found["triage"].differences) == {"reader alone", "two readers"}
    assert not found["reader alone"].differences


def test_prevalence_and_costs_weigh_positives_and_negatives(setting):
    test, calls, grades, at, triage = setting
    costs = {"read": 1.0, "miss": 50.0, "alarm": 2.0}
    found = simulate(test, grades, at=at, triage=triage, prevalence=0.02, costs=costs, resamples=50)
    ill, _, called, reads = walk("triage", test.truth == 1, test.scores[:, 1], calls, at.threshold, triage.threshold)
    price = reads + 50 * (ill & ~called) + 2 * (~ill & called)
    for metric, values in (("reads per case", reads), ("called positive", called), ("cost per case", price)):
        wanted = 0.02 * values[ill].mean() + 0.98 * values[~ill].mean()
        assert found["triage"][metric].value == pytest.approx(wanted)
    with pytest.raises(ArgumentError, match="cost is not known"):
        simulate(test, grades, at=at, costs={"scan": 1.0})
    with pytest.raises(ArgumentError, match="number from 0 on"):
        simulate(test, grades, at=at, costs={"read": -1.0})


def test_the_triage_curve_and_the_worklist(setting):
    test, calls, grades, at, triage = setting
    found = simulate(test, grades, at=at, triage=triage, resamples=50)
    t = found.triage
    for k in range(0, len(t.threshold), 17):
        ill, _, called, reads = walk("triage", test.truth == 1, test.scores[:, 1], calls, 2, t.threshold[k])
        assert t.sensitivity[k] == pytest.approx(called[ill].mean())
        assert t.read[k] == pytest.approx(reads.mean())
        assert t.low[k] <= t.sensitivity[k] <= t.high[k]
    assert len(t.threshold) <= 200
    assert t.point.sensitivity == pytest.approx(found["triage"]["sensitivity"].value)
    order = np.argsort(-test.scores[:, 1])
    place = np.empty(len(test))
    place[order] = (np.arange(len(test)) + 0.5) / len(test)
    listed = found.worklist[0]
    assert listed.value == pytest.approx(place[test.truth == 1].mean())
    assert listed.low < listed.value < listed.high < 0.5


def test_without_readers_reading_is_perfect(setting):
    test, _, _, _, triage = setting
    found = simulate(test, at=triage)
    above = test.scores[:, 1] >= triage.threshold
    assert [w.name for w in found.workflows] == ["reader alone", "model alone", "triage"]
    assert found["triage"]["sensitivity"].value == pytest.approx(above[test.truth == 1].mean())
    assert found["triage"]["specificity"].value == found["reader alone"]["sensitivity"].value == 1
    assert found["triage"]["reads per case"].value == pytest.approx(above.mean())
    assert found.counts["missed by triage"] == int((~above & (test.truth == 1)).sum())
    assert found.counts["not read by triage"] == int((~above).sum())


def test_patients_of_the_thresholds_are_refused_and_looks_counted(setting, predictions, tmp_path):
    test, _, grades, at, triage = setting
    with pytest.raises(UnsoundError, match="to choose the threshold"):
        simulate(test, grades, at=at, triage=choose_threshold(test))
    for looks in range(2):
        found = simulate(test, grades, at=at, triage=triage, ledger=tmp_path / "ledger.jsonl", resamples=20)
        assert found.looks == looks
    assert verify(tmp_path / "ledger.jsonl")[0]["threshold"] == [at.threshold, triage.threshold]
    held = json.loads((found.save(tmp_path) / "simulation.json").read_text())
    assert [w["name"] for w in held["workflows"]] == list(PATHS)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {"workflow": "triage", "against": "reader alone"} in [m["where"] for m in metrics]


def test_odd_tables(setting):
    test, _, grades, at, triage = setting
    _, own = readers(test, count=1)
    found = simulate(test, own, at=at, triage=triage, resamples=20)
    assert found["two readers"]["sensitivity"].undefined == "no case was read by a second reader"
    ill = test.take(test.truth == 1)
    found = simulate(ill, grades, at=at, triage=triage, resamples=20)
    assert found["triage"]["specificity"].undefined == "0 negatives"
    assert found["triage"].differences["reader alone"][1].difference.undefined == "0 negatives"
    assert found.triage.undefined
    assert found.worklist[0].undefined
    test.table.loc[0, "p:melanoma"] = np.nan
    found = simulate(test, grades, at=at, triage=triage, resamples=20)
    assert "not finite" in found["triage"]["sensitivity"].undefined
    assert not found["reader alone"]["sensitivity"].undefined
    lonely = test.take(np.arange(1, 2))
    assert simulate(lonely, grades, at=at, triage=triage, resamples=20)["reader alone"]["sensitivity"] is not None
    with pytest.raises(InputError, match="no workflow 'triag'"):
        found["triag"]
    with pytest.raises(ArgumentError, match="Did you mean 'triage'"):
        simulate(test, grades, at=at, workflows=["triag"])
    strangers = grades_of(grades.table.assign(case="x" + grades.table["case"]), "label")
    with pytest.raises(InputError, match="no case has a known truth"):
        simulate(test, strangers, at=at)


def test_calls_from_labels_words_and_scores(setting):
    test, calls, grades, _, _ = setting
    cases = list(test.table["case"])
    names = ("benign", "melanoma")
    assert np.array_equal(calls_of(grades, cases, ("melanoma",), names), calls, equal_nan=True)
    words = grades.table["label"].map({"melanoma": "Yes", "benign": "0", "": ""})
    again = grades_of(grades.table.assign(label=words), "label")
    assert np.array_equal(calls_of(again, cases, ("melanoma",), names), calls, equal_nan=True)
    strange = grades_of(grades.table.assign(label=grades.table["label"].replace("benign", "naevus")), "label")
    with pytest.raises(InputError, match="none of the classes"):
        calls_of(strange, cases, ("melanoma",), names)
    score = grades.table["label"].map({"melanoma": 4.0, "benign": 2.0, "": np.nan})
    scored = grades_of(
        grades.table.drop(columns="label").assign(score=score.astype(object).where(score.notna(), "")), "score"
    )
    with pytest.raises(InputError, match="need a threshold"):
        calls_of(scored, cases, ("melanoma",), names)
    assert np.array_equal(calls_of(scored, cases, ("melanoma",), names, threshold=3.0), calls, equal_nan=True)


def covered(runs, people, resamples):
    """How often intervals of differences against a reader alone hold the truth: three readers, two images a patient."""
    from overread.evaluation.workflow import Conditions, apart, readings, route

    def draw(seed, people):
        rng = np.random.default_rng(seed)
        who = np.repeat(np.arange(people), 2)
        truth = (rng.random(people) < 0.4)[who]
        trait = rng.normal(size=people)[who]  # images of a patient are alike, for the model and for readers
        score = trait + rng.normal(size=len(who)) + 1.6 * truth
        calls = (0.6 * trait[:, None] + rng.normal(size=(len(who), 3)) + 1.8 * truth[:, None] > 0.9) * 1.0
        return readings(truth, score, calls, who, 0.8, 0.0)

    names = ("triage", "disagreement to a reader")
    everyone = draw(10**6, 50_000)

    def values(reading, name, resamples=resamples):
        terms = Conditions(0.95, 0, resamples, None, None, "x")
        return [d.difference for d in apart(reading, route(reading, name), route(reading, "reader alone"), terms)[:3]]

    true = {name: [d.value for d in values(everyone, name, 2)] for name in names}
    held = np.zeros((2, 3))
    for seed in range(runs):
        reading = draw(seed, people)
        for k, name in enumerate(names):
            held[k] += [d.low <= t <= d.high for d, t in zip(values(reading, name), true[name])]
    return held / runs


@pytest.mark.slow
def test_coverage_of_the_differences():
    held = covered(2000, 100, 300)
    assert ((held >= 0.925) & (held <= 0.975)).all(), held
