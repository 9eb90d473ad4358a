"""Scores of maps of features, against scikit-learn on all pixels at once."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from overread.cells.few_patches.feature_scores import FeatureScores, counts_of, numbers_of, score_features
from overread.core.errors import ImageError, InputError


def drawn(seed, size=(600, 31)):
    rng = np.random.default_rng(seed)
    truth = rng.random(size) < 0.2
    answers = np.clip(rng.normal(100 + 60 * truth, 50), 0, 255).astype(np.uint8)
    return answers, answers >= 150, truth


def test_pooled_scores_are_those_of_all_pixels():
    images = [drawn(seed) for seed in range(4)]
    counts = np.array([counts_of(*image) for image in images])
    found = {e.metric: e for e in score_features({"rib": counts}, numbers_of(["a", "b", "c", "c"]))}
    answers, called, truth = (np.concatenate([image[at].ravel() for image in images]) for at in range(3))
    assert found["dice"].value == pytest.approx(sk.f1_score(truth, called))
    assert found["precision"].value == pytest.approx(sk.precision_score(truth, called))
    assert found["recall"].value == pytest.approx(sk.recall_score(truth, called))
    assert found["average precision"].value == pytest.approx(sk.average_precision_score(truth, answers))
    for estimate in found.values():
        assert estimate.low < estimate.value < estimate.high
        assert (estimate.images, estimate.patients, estimate.of) == (4, 3, "rib")


def test_what_is_nowhere_has_no_score_and_what_is_missed_has_none_right():
    answers, called, truth = drawn(0)
    nowhere = counts_of(answers, called, np.zeros_like(truth))
    missed = counts_of(np.zeros_like(answers), np.zeros_like(called), truth)
    found = score_features({"a": nowhere[None], "b": missed[None]}, np.array([0]))
    assert all(e.undefined == "the feature is nowhere" for e in found if e.of == "a")
    assert {e.metric: e.value for e in found if e.of == "b"}["dice"] == 0
    assert {e.metric: e.value for e in found if e.of == "b"}["precision"] == 0
    assert {e.metric: e.value for e in found if e.of == "b"}["average precision"] == pytest.approx(truth.mean())
    assert score_features({"a": np.zeros((0, 515))}, np.zeros(0, np.int64)) == ()


def test_what_is_asked_for_wrongly_is_said():
    answers, called, truth = drawn(0)
    with pytest.raises(ImageError, match="another size"):
        counts_of(answers, called, truth[:5])
    with pytest.raises(InputError, match="no such score"):
        FeatureScores((), ())["dice", "rib"]
