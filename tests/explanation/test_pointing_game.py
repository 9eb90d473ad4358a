"""A map of a trained network points at what was planted; one of random weights does not; and the verdicts say so."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import overread as ov
from overread.explanation.checks.criteria import judge_methods
from overread.explanation.checks.faithfulness import points_at
from overread.explanation.explain import explanations
from overread.explanation.verdict import Criterion
from overread.learning.device import seeded
from overread.learning.model import Model, make_network
from overread.synthetic.phantoms import chest_opacity, draw_chest
from overread.synthetic.planted_nodule import draw_planted_nodules

SEED, SIDE = 3, 64


def hits(model: Model, cases: ov.Cases, folder: Path) -> tuple[float, float]:
    """The share of maps whose largest value lies in the planted nodule, and the nodule's share of the image."""
    found, area = [], []
    for each in explanations(model, cases, targets="nodule", checks=False):
        mask = cv2.imread(str(folder / "masks" / f"{each.case}.png"), cv2.IMREAD_GRAYSCALE) > 127
        found.append(0.0 if each.nothing else points_at(each.map.astype(float), mask))
        area.append(mask.mean())
    return float(np.mean(found)), float(np.mean(area))


def judged(model: Model, cases: ov.Cases) -> dict[str, Criterion]:
    rows, _ = judge_methods(model, cases, target="nodule", masks="mask", most=len(cases), steps=0, insertion_steps=0)
    return {row.criterion: row for row in rows}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Model, ov.Cases, Path]:
    """A model of chests with a nodule or none, its test cases with one, and the folder of the phantoms."""
    folder = tmp_path_factory.mktemp("nodules")
    table = draw_planted_nodules(folder, patients=400, size=SIDE, seed=SEED)
    cases = ov.read_cases(table, image="image", label="diagnosis", patient="patient", case="case", positive=("nodule",), names="keep",
                          keep=["mask"])  # fmt: skip
    parts = ov.split(cases, test=0.25, tuning=0.15, seed=SEED)
    recipe = ov.Recipe(method="scratch", backbone="cnn_small", image_size=SIDE, epochs=24, learning_rate=3e-3, batch_size=16, seed=SEED, views=1)  # fmt: skip
    test = cases.only(parts, "test")
    return ov.train(cases, parts, recipe), test.take((test.table["label"] == "nodule").to_numpy()), folder


@pytest.mark.slow
def test_the_planted_nodule_is_hit_by_a_trained_network_and_the_verdict_says_so(trained) -> None:
    model, ill, folder = trained
    rate, chance = hits(model, ill, folder)
    assert rate >= 0.8
    found = judged(model, ill)
    assert found["pointing game"].value == pytest.approx(rate)
    assert found["pointing game"].baseline == pytest.approx(chance, rel=0.05)
    assert found["pointing game"].passed
    assert found["localisation"].passed


@pytest.mark.slow
def test_random_weights_hit_it_no_more_than_chance_and_the_verdict_says_so(trained) -> None:
    model, ill, folder = trained
    with seeded(SEED, 0, 0, "random weights"):
        blank = Model(make_network(model.about).eval(), model.about)
    rate, chance = hits(blank, ill, folder)
    assert rate <= chance + 0.1
    found = judged(blank, ill)
    assert not found["pointing game"].passed
    assert not found["localisation"].passed


@pytest.mark.parametrize("key", range(6))
def test_the_mask_of_the_opacity_is_where_the_signal_changes_the_lung_and_nowhere_else(key) -> None:
    ill, well = (draw_chest(SEED, key, signal, size=SIDE, device=0).astype(float) for signal in (4.5, -9.0))
    mask = chest_opacity(SEED, key, size=SIDE)
    change = ill - well
    change -= np.median(change)  # exposure: an opacity makes the rest darker
    inside = cv2.erode(mask.astype(np.uint8), np.ones((3, 3))) > 0
    outside = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))) == 0
    assert change[inside].min() > 0.4 * change.max()
    assert np.percentile(change[outside], 99) < 0.55 * change.max()
