"""A primary endpoint, what a paper needs beside it, and what to beware of."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from overread.core.errors import ArgumentError, InputError
from overread.evaluation.comparison.compare import Comparison, compare
from overread.evaluation.evaluate import Evaluation, evaluate
from overread.evaluation.operating_point import choose_threshold
from overread.stats.hypotheses import holm


def noisier(given, noise=0.4):
    """Another model on the same cases."""
    rng, table, columns = np.random.default_rng(5), given.table.copy(), list(given.outputs)
    table[columns] = (table[columns] + rng.normal(0, noise, (len(table), len(columns)))).clip(0.001, 1)
    if given.target.task.exclusive:
        table[columns] = table[columns].div(table[columns].sum(axis=1), axis=0)
    return replace(given, table=table)


# -- the endpoint -------------------------------------------------------------------------------------------------


def test_a_primary_endpoint_is_not_corrected_and_the_others_are_among_themselves(predictions, tmp_path):
    one, two = predictions(patients=150), noisier(predictions(patients=150))
    plain, named = compare(one, two, resamples=100), compare(one, two, resamples=100, primary="auc")
    main = named["auc"]
    at = named.differences.index(main)
    assert named.adjusted[at] == main.p
    rest = [i for i, d in enumerate(named.differences) if i != at]
    assert [named.adjusted[i] for i in rest] == pytest.approx(
        list(holm([named.differences[i].p for i in rest])), nan_ok=True
    )
    assert plain.adjusted[at] > main.p
    assert named.endpoint.key == ("auc", "melanoma")
    assert "primary endpoint: auc of melanoma" in named.table()
    assert "not corrected" in named.table()
    assert "no ledger" in named.endpoint.named
    again = Comparison.load(named.save(tmp_path))
    assert (again.endpoint, again.adjusted, again.table()) == (named.endpoint, named.adjusted, named.table())
    assert "primary" not in plain.table()
    assert json.loads((tmp_path / "comparison.json").read_text())["correction"].endswith("not corrected")


def test_subgroups_keep_their_own_correction(predictions):
    one, two = predictions(patients=150), noisier(predictions(patients=150))
    found = [compare(one, two, by=("sex",), resamples=50, primary=name) for name in ("", "auc")]
    within = [[a for d, a in zip(f.differences, f.adjusted) if d.first.where] for f in found]
    assert within[0] == pytest.approx(within[1], nan_ok=True)


@pytest.mark.parametrize("judge", ["evaluate", "compare"])
def test_when_it_was_named_is_told(predictions, judge, tmp_path):
    one, two = predictions(), noisier(predictions())

    def look(primary):
        how = {"resamples": 20, "ledger": tmp_path / "ledger.jsonl", "primary": primary}
        return evaluate(one, **how) if judge == "evaluate" else compare(one, two, **how)

    assert look("sensitivity:melanoma").endpoint.named == "named with the first look at this test set"
    late = look("auc")
    assert "post hoc" in late.endpoint.named
    assert late.endpoint.named in late.table()


@pytest.mark.parametrize(
    ("kind", "primary", "key"),
    [
        ("binary", "auc", ("auc", "melanoma")), ("binary", "accuracy", ("accuracy", "")), ("binary", "accuracy:melanoma", ("accuracy", "")), ("binary", " lr+ : melanoma ", ("lr+", "melanoma")),
        ("classes", "macro auc", ("macro auc", "")), ("classes", "auc", ("auc", "melanoma+other")), ("classes", "auc:nevus", ("auc", "nevus")),
        ("findings", "auc:nevus", ("auc", "nevus")), ("findings", "macro auc", ("macro auc", "")), ("quantity", "mae", ("mae", "value")),
    ],
)  # fmt: skip
def test_what_a_name_stands_for(predictions, kind, primary, key, tmp_path):
    found = evaluate(predictions(kind), resamples=20, primary=primary)
    assert found.endpoint.key == key
    assert not found[key].undefined
    assert Evaluation.load(found.save(tmp_path)).endpoint == found.endpoint


@pytest.mark.parametrize(
    ("kind", "primary", "why"),
    [
        ("binary", "auk", "auc"), ("findings", "auc", "Say of which"), ("classes", "auc:naevus", "nevus"), ("binary", "macro auc", "auc"),
        ("quantity", "auc", "no metric"), ("binary", "accuracy:benign", "of all together: accuracy"), ("binary", ":melanoma", "no metric"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_refused_before_the_look_is_written_down(predictions, kind, primary, why, tmp_path):
    for judge in (evaluate, lambda test, **how: compare(test, noisier(test) if kind != "quantity" else test, **how)):
        with pytest.raises(InputError, match=why):
            judge(predictions(kind), resamples=20, primary=primary, ledger=tmp_path / "ledger.jsonl")
    assert not (tmp_path / "ledger.jsonl").exists()


# -- what a paper needs -------------------------------------------------------------------------------------------


def test_threshold_counts_and_shares_stand_in_the_table_and_in_the_file(predictions, tmp_path):
    test, at = (
        predictions(patients=200),
        choose_threshold(predictions(patients=200, prefix="tune", seed=1), sensitivity=0.9),
    )
    found = evaluate(test, at=at, by=("sex",), resamples=20)
    truth, called = test.truth == 1, test.scores[:, 1] >= at.threshold
    cells = [(truth & called).sum(), (~truth & called).sum(), (truth & ~called).sum(), (~truth & ~called).sum()]
    assert [found[n].value for n in ("true positives", "false positives", "false negatives", "true negatives")] == cells
    assert found["threshold"].value == at.threshold
    assert (found["sensitivity"].count, found["sensitivity"].images) == (cells[0], truth.sum())
    assert (found["npv"].count, found["npv"].images) == (cells[3], (~called).sum())
    assert found["auc"].count is None
    assert found["brier uncertainty"].count is None
    table = found.table()
    assert f"{cells[0]}/{truth.sum()}" in table
    (line,) = [line for line in table.splitlines() if "frozen on tuning data" in line and line.startswith("melanoma")]
    assert line.split()[-5:] == [f"{at.threshold:.4g}", *map(str, cells)]
    held = {
        (e["metric"], e["of"]): e
        for e in json.loads((found.save(tmp_path) / "metrics.json").read_text())
        if not e["where"]
    }
    assert held["sensitivity", "melanoma"]["count"] == cells[0]
    assert held["threshold", "melanoma"]["value"] == at.threshold
    women = [e for e in found.where("sex") if e.metric == "true positives" and e.where["sex"] == "female"]
    assert women[0].value == (truth & called & (test.table["sex"] == "female").to_numpy()).sum()


def test_what_was_asked_for_is_kept_and_named(predictions, tmp_path):
    found = evaluate(predictions(), resamples=20, fixed=0.8, net_benefit_at=0.15, prevalence=0.05)
    assert {"specificity at sensitivity 0.8", "net benefit 0.15", "npv at prevalence 0.05"} <= {
        line.split("  ")[0] for line in found.table().splitlines()}  # fmt: skip
    again = Evaluation.load(found.save(tmp_path))
    assert (again.about.fixed, again.about.net_benefit_at) == (0.8, 0.15)
    curve = found.curves["melanoma"].decision
    assert found["net benefit"].value == pytest.approx(curve.net_benefit[curve.threshold.index(0.15)])
    for wrong in (
        {"fixed": 1.0},
        {"fixed": 0.0},
        {"net_benefit_at": 1.0},
        {"net_benefit_at": 0.0},
        {"prevalence": 1.5},
    ):
        with pytest.raises(ArgumentError, match="between 0 and 1"):
            evaluate(predictions(), resamples=20, **wrong)


def test_net_benefit_of_two_models_at_a_risk(predictions):
    one, two = predictions(patients=200), noisier(predictions(patients=200))
    gap = compare(one, two, resamples=20, net_benefit_at=0.3)["net benefit"]
    truth = one.truth == 1

    def benefit(p):
        treated = p.scores[:, 1] >= 0.3
        return (treated & truth).mean() - (treated & ~truth).mean() * 0.3 / 0.7

    assert gap.difference.value == pytest.approx(benefit(one) - benefit(two))
    assert gap.first.value == pytest.approx(benefit(one))
    assert 0 <= gap.p <= 1
    assert "net benefit" not in {d.first.metric for d in compare(one, two, resamples=20).differences}


def test_a_smooth_curve_is_stored_for_what_is_judged_in_full(predictions):
    curves = evaluate(predictions("classes"), resamples=20).curves
    assert curves["melanoma+other"].smooth.method.startswith("logistic")
    assert not curves["nevus"].smooth


# -- what to beware of --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patients", [30, 400])
def test_few_events_are_said_in_the_terminal(predictions, patients):
    test = predictions(patients=patients, images=1)
    told = [line for line in evaluate(test, resamples=20).table().splitlines() if "few events" in line]
    ill = int((test.truth == 1).sum())
    assert told == [] if patients == 400 else f"{ill} patients with melanoma, {patients - ill} without" in told[0]
    other = [c for c in compare(test, noisier(test), resamples=20).cautions if "few events" in c]
    assert bool(other) == (patients == 30)


def test_cautions_are_those_of_the_page(predictions, tmp_path):
    from overread.reporting.pages.evaluate import cautions
    from overread.reporting.run import read_evaluation

    test = predictions()
    test.table.loc[:2, "label"] = ""
    found = evaluate(test, resamples=20, ledger=tmp_path / "ledger.jsonl")
    found = evaluate(test, resamples=20, ledger=tmp_path / "ledger.jsonl")
    run = read_evaluation(found.save(tmp_path), test.target)
    assert [c.rstrip(".").lower() for c in cautions(run)] == [c.lower() for c in found.cautions]
    for part in ("looked at once", "3 images without a known truth", "no threshold was frozen", "few events"):
        assert sum(part in c for c in found.cautions) == 1, part
    at = choose_threshold(predictions(prefix="tune", seed=1))
    assert not any("no threshold" in c for c in evaluate(test, at=at, resamples=20).cautions)
