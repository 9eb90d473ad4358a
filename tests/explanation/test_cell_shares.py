"""Maps carried over to the image and summed over cells, and the AUC of cells within their images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from overread.core.errors import ArgumentError
from overread.explanation.cell_shares import (
    EDGES,
    MAP,
    RANDOM,
    ExplainedCells,
    cell_sums,
    judge_cells,
    labels_seen,
    on_image,
)
from overread.images.outlines.outlines import outlines_of
from overread.images.preprocess import Preprocess, resize
from overread.stats.discrimination.stratified import stratified_auc


@pytest.mark.parametrize("size", [(64, 96), (20, 31), (48, 48)])
@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_a_map_lies_on_the_image_where_the_network_saw_it(fit: str, size: tuple[int, int]) -> None:
    """A bright spot of the image, as the network sees it, comes back to where it was."""
    preprocess = Preprocess((32, 32), 1, fit=fit)
    for at in ((size[0] // 2, size[1] // 2), (size[0] // 2 - 4, size[1] // 2 + 5)):
        image = np.zeros((*size, 1), np.uint8)
        image[at[0] - 1 : at[0] + 2, at[1] - 1 : at[1] + 2] = 255
        seen = resize(image, preprocess)[..., 0].astype(float)
        back = on_image(seen, size, preprocess)
        assert back.shape == size
        assert back.sum() == pytest.approx(seen.sum())
        rows, columns = np.indices(size)
        centre = ((back * rows).sum() / back.sum(), (back * columns).sum() / back.sum())
        assert centre == pytest.approx(at, abs=max(1.0, 0.7 * max(size) / 32))


def test_nothing_of_a_map_is_lost_but_beyond_the_image() -> None:
    values = np.random.default_rng(0).random((32, 32))
    assert on_image(values, (50, 80), Preprocess((32, 32), 1)).sum() == pytest.approx(values.sum())
    assert on_image(values, (50, 80), Preprocess((32, 32), 1, fit="crop")).sum() == pytest.approx(values.sum())
    padded = on_image(values, (50, 100), Preprocess((32, 32), 1, fit="pad"))
    assert padded.sum() == pytest.approx(values[8:24].sum())
    with pytest.raises(ArgumentError, match="another size"):
        on_image(values, (50, 80), Preprocess((16, 16), 1))


def test_sums_over_cells_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(1)
    labels, values = rng.integers(0, 9, (30, 40)).astype(np.int32), rng.normal(size=(30, 40))
    assert cell_sums(labels, values, 10) == pytest.approx([values[labels == k].sum() for k in range(1, 11)])


def test_labels_are_cut_as_their_image_is() -> None:
    pixels = np.zeros((60, 80, 1), np.uint8)
    pixels[10:50, 20:70] = 200
    labels = np.zeros((60, 80), np.int32)
    labels[20:30, 30:40] = 1
    cut = labels_seen(outlines_of(labels), pixels, Preprocess((32, 32), 1, crop="border"))
    assert cut.shape == (40, 50)
    assert (cut > 0).sum() == 100
    assert cut[10, 10] == 1


def some_cells(images: int = 30, seed: int = 0, gap: float = 2.0):
    rng = np.random.default_rng(seed)
    planted = [np.arange(12) < rng.integers(0, 4) for _ in range(images)]
    level = rng.normal(size=images) * 5  # of an image as a whole: within images it tells nothing
    mine = [rng.normal(size=12) + gap * p + lv for p, lv in zip(planted, level, strict=True)]
    other = [rng.normal(size=12) + lv for lv in level]
    return planted, mine, other, [f"p{i // 2}" for i in range(images)]


def test_the_auc_is_that_of_pairs_within_images() -> None:
    planted, mine, other, patients = some_cells()
    found = judge_cells({MAP: mine, RANDOM: other}, planted, patients)
    strata = np.repeat(np.arange(30), 12)
    expected = stratified_auc(np.concatenate(planted), np.concatenate(mine), strata, np.repeat(patients, 12))
    assert found[0].auc.value == pytest.approx(expected.value)
    spread = resampled(planted, mine, patients).std()
    assert found[0].auc.high - found[0].auc.low == pytest.approx(2 * 1.96 * spread, rel=0.15)
    assert found[1].ahead.value == pytest.approx(found[0].auc.value - found[1].auc.value)
    assert found[1].ahead.low > 0
    assert found[1].p < 0.01
    pooled = roc_auc_score(np.concatenate(planted), np.concatenate(mine))
    assert abs(pooled - found[0].auc.value) > 0.1, "images of other levels must not help or harm"


def resampled(planted, scores, patients) -> np.ndarray:
    """The AUC within images of 400 draws of patients, each from all pairs of its images."""
    rng, names = np.random.default_rng(3), sorted(set(patients))
    found = []
    for _ in range(400):
        wins = pairs = 0.0
        for name in rng.choice(names, len(names)):
            for i in (i for i, patient in enumerate(patients) if patient == name):
                a, b = scores[i][planted[i]], scores[i][~planted[i]]
                wins, pairs = wins + (a[:, None] > b).sum(), pairs + len(a) * len(b)
        found.append(wins / pairs)
    return np.array(found)


def explained(scores) -> ExplainedCells:
    return ExplainedCells(scores, "gradient", "cancer", "true", 360, 40, 30, 15)


def test_the_verdict_says_what_is_found() -> None:
    planted, mine, other, patients = some_cells()
    good = explained(judge_cells({MAP: mine, RANDOM: other, EDGES: mine}, planted, patients))
    assert "finds the cells that matter" in good.verdict
    assert "better than random weights" in good.verdict
    assert "not shown to be better than edges" in good.verdict
    kept = explained(judge_cells({MAP: mine, RANDOM: mine}, planted, patients))
    assert "not what was learned" in kept.verdict
    bad = explained(judge_cells({MAP: other, RANDOM: mine}, planted, patients))
    assert "does not find" in bad.verdict
    nobody = explained(judge_cells({MAP: mine, RANDOM: other}, [p & False for p in planted], patients))
    assert "not known here" in nobody.verdict
    assert "changes" in nobody.verdict


def test_it_comes_back_from_its_files(tmp_path) -> None:
    planted, mine, other, patients = some_cells()
    found = explained(judge_cells({MAP: mine, RANDOM: other}, planted, patients))
    found.save(tmp_path)
    assert ExplainedCells.load(tmp_path) == found


@pytest.mark.slow
@pytest.mark.parametrize("patients", [20, 60])
def test_intervals_hold_the_truth_as_often_as_they_say(patients: int) -> None:
    """Patients differ in how well their cells are told apart; the truth is the mean over all patients there could be."""
    held, runs = 0, 300
    rng = np.random.default_rng(5)
    gaps = rng.normal(1.2, 0.5, 200_000)
    truth = norm.cdf(gaps / np.sqrt(2)).mean()  # the chance that a planted cell outscores another of its image
    for _ in range(runs):
        gap = rng.normal(1.2, 0.5, patients)
        planted = [np.arange(12) < 3 for _ in range(patients)]
        scores = [rng.normal(size=12) + g * p for g, p in zip(gap, planted, strict=True)]
        (found,) = judge_cells({MAP: scores}, planted, [f"p{i}" for i in range(patients)])
        held += found.auc.low <= truth <= found.auc.high
    assert 0.90 <= held / runs <= 0.99
