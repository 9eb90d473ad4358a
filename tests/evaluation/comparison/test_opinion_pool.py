"""Weights of an ensemble from tables alone, against a search of every mixture and against the mean by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from overread.core.errors import InputError, OverreadError, UnsoundError
from overread.core.identifiers import marks
from overread.evaluation.comparison.opinion_pool import choose_shares, greedy_shares, on_shared_cases, pooled
from overread.evaluation.operating_point import refuse_training
from overread.predictions import PredictedBy, Predictions

ILL = np.random.default_rng(7).random(160) < 0.4


def table(skill: float, seed: int, rows: slice = slice(None)) -> Predictions:
    noise = np.random.default_rng(seed).normal(size=len(ILL))
    frame = pd.DataFrame({"case": [f"c{i}" for i in range(len(ILL))], "label": np.where(ILL, "ill", "well"),
                          "p:ill": 1 / (1 + np.exp(-(skill * ILL + noise)))})  # fmt: skip
    return Predictions.from_frame(frame[rows], ("ill",))


SYSTEMS = {"a": table(1.0, 1), "b": table(1.2, 2), "c": table(0.1, 3)}


def score_of(shares: dict[str, float]) -> float:
    mean = sum(
        share * SYSTEMS[name].scores[:, SYSTEMS[name].target.names.index("ill")] for name, share in shares.items()
    )
    return roc_auc_score(ILL, mean)


def test_the_chosen_mixture_is_near_the_best_of_all_and_above_each_alone():
    shares = choose_shares(SYSTEMS)
    assert sum(shares.values()) == pytest.approx(1)
    grid = [np.array(each) / 10 for each in itertools.product(range(11), repeat=3) if sum(each) == 10]
    best = max(score_of(dict(zip(SYSTEMS, each, strict=True))) for each in grid)
    alone = max(score_of({name: 1.0}) for name in SYSTEMS)
    assert alone < score_of(shares)
    assert score_of(shares) >= best - 0.003
    assert shares["c"] < min(shares["a"], shares["b"]), "what knows little gets little"


def test_the_pool_is_the_weighted_mean_of_the_probabilities():
    found = pooled(SYSTEMS, {"a": 0.25, "b": 0.75})
    for name in found.target.names:
        column = f"p:{name}"
        wanted = 0.25 * SYSTEMS["a"].table[column] + 0.75 * SYSTEMS["b"].table[column]
        assert np.allclose(found.table[column], wanted)


def test_a_patient_whom_any_member_has_seen_is_refused():
    """Each model hashes whom it has seen with a salt of its own; another table says it in its column ``split``."""
    first, other = SYSTEMS["a"], SYSTEMS["b"]
    by = {
        salt: PredictedBy("m", first.target, tuple(marks([who], salt)), salt) for salt, who in (("s", "x"), ("t", "c7"))
    }
    a, b = replace(first, by=by["s"]), replace(other, by=by["t"])
    share = {"a": 0.5, "b": 0.5}
    assert refuse_training(a) == 0
    assert refuse_training(pooled({"a": a, "b": replace(other, by=by["s"])}, share)) == 0
    with pytest.raises(UnsoundError, match="1 patient"):
        refuse_training(pooled({"a": a, "b": b}, share))
    assert refuse_training(pooled({"a": a, "b": b}, {"a": 1.0, "b": 0.0})) == 0, "a system without a share adds nothing"
    told = replace(other, table=other.table.assign(split=np.where(other.table["case"] == "c9", "train", "")))
    with pytest.raises(UnsoundError, match="1 patient"):
        refuse_training(pooled({"a": first, "b": told}, share))


def test_only_shared_cases_count_and_contradictions_are_refused():
    assert len(on_shared_cases({"a": table(1, 1, slice(0, 100)), "b": table(1, 2, slice(50, 160))})["a"]) == 50
    with pytest.raises(InputError, match="no case in common"):
        pooled({"a": table(1, 1, slice(0, 50)), "b": table(1, 2, slice(50, 160))}, {"a": 0.5, "b": 0.5})
    other = Predictions.from_frame(SYSTEMS["b"].table.assign(label="ill"), ("ill",))
    with pytest.raises(UnsoundError, match="different labels"):
        pooled({"a": SYSTEMS["a"], "b": other}, {"a": 0.5, "b": 0.5})
    with pytest.raises(OverreadError, match="add up to 1"):
        pooled(SYSTEMS, {"a": 0.5, "b": 0.2})


def test_a_quantity_is_mixed_by_its_squared_error():
    truth = np.random.default_rng(0).normal(size=80)
    made = {}
    for name, seed in (("a", 1), ("b", 2)):
        said = truth + np.random.default_rng(seed).normal(size=80)
        made[name] = Predictions.from_frame(
            pd.DataFrame({"case": [f"c{i}" for i in range(80)], "value": truth, "predicted": said})
        )
    shares = choose_shares(made)
    mixed = pooled(made, shares)
    errors = {name: float(np.mean((each.scores[:, 0] - truth) ** 2)) for name, each in made.items()}
    assert float(np.mean((mixed.scores[:, 0] - truth) ** 2)) < min(errors.values())


def test_greedy_selection_finds_the_members_that_help() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 3
    signal = np.eye(3)[labels]
    good = [signal + rng.normal(0, 1.5, (600, 3)) for _ in range(3)]
    noise = rng.normal(0, 3, (600, 3))

    def score(mean: np.ndarray) -> float:
        return roc_auc_score(labels, np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True), multi_class="ovr")

    shares = greedy_shares([*good, noise], score)
    assert sum(shares) == pytest.approx(1)
    assert all(share > 0.15 for share in shares[:3])
    assert shares[3] < 0.15
    alone = greedy_shares([signal * 5, noise], score)
    assert alone == (1.0, 0.0)
