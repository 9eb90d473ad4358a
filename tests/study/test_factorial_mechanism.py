"""What the grids of Bar 2015 and Lakhani 2017 rest on, on radiographs with planted signs: without it, they fail."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from overread.evaluation.comparison.disagreement import ROUTED, Disagreement
from overread.evaluation.comparison.grid_result import ENSEMBLE
from overread.study.factorial import Readers, grid
from overread.study.question import Study
from overread.synthetic.chest import draw_chest

pytestmark = pytest.mark.slow


def test_descriptors_see_what_is_planted_by_cross_validation_and_nothing_where_nothing_is(tmp_path):
    """Effusion, heart and either (Bar 2015); of a coin that nobody sees in the image the same features tell nothing."""
    table = draw_chest(tmp_path / "chest", patients=93, seed=1)
    coin = np.where(np.random.default_rng(0).random(93) < 0.5, "present", "absent")
    pd.read_csv(table).assign(coin=coin).to_csv(table, index=False)
    recipe = {"method": "features", "image_size": 64, "head": "svm", "penalties": [0.01]}
    vary = {
        "features": [
            {"name": "LBP", "descriptors": ["lbp"]},
            {"name": "fused", "descriptors": ["gist", "lbp", "intensity"]},
        ]
    }
    found = {}
    for label in ("effusion", "enlarged heart", "abnormal", "coin"):
        study = Study.from_flat(table=str(table), image="image", label=label, patient="patient", positive=("present",), seed=1, threads=1,
                                recipe=recipe, folds="10", names="keep")  # fmt: skip
        board = grid(study, vary, tmp_path / label.replace(" ", "-"), network=False)
        found[label] = board.told("fused", "auc", "present").value
    assert min(found[name] for name in ("effusion", "enlarged heart", "abnormal")) > 0.85, found
    assert 0.3 < found["coin"] < 0.7, found


def test_turns_are_needed_where_films_lie_turned_and_two_networks_with_a_reader_miss_less(tmp_path):
    """Trained on upright radiographs, judged on films that lie turned: only the level with turns can tell (Lakhani 2017)."""
    table = draw_chest(tmp_path / "chest", patients=260, size=48, films=0.3, seed=2)
    recipe = {
        "method": "scratch",
        "image_size": 48,
        "epochs": 25,
        "batch_size": 16,
        "learning_rate": 0.003,
        "backbone": "cnn_small",
        "augment": "given",
    }
    vary = {
        "augmentation": [
            {"name": "usual", "augmentation": {"flip_horizontal": 0.5}},
            {"name": "extra", "augmentation": {"flip_horizontal": 0.5, "turn": 0.75}},
        ]
    }
    study = Study.from_flat(table=str(table), image="image", label="tuberculosis", patient="patient", source="source", positive=("present",), seed=2,
                            threads=1, recipe=recipe, leave_out="film", despite=("shortcut",), names="keep")  # fmt: skip
    board = grid(study, vary, tmp_path / "grid", part="test", readers=Readers(), network=False)
    usual, extra = (board.told(name, "auc", "present").value for name in ("usual", "extra"))
    assert extra > 0.8, (usual, extra)
    assert usual < extra - 0.1, (usual, extra)
    assert board.told(ENSEMBLE, "auc", "present").value >= usual
    routed = Disagreement.load(tmp_path / "grid" / "disagreement")
    for metric in ("sensitivity", "specificity"):
        assert routed.value(ROUTED, metric).value >= max(
            routed.value(name, metric).value for name in ("usual", "extra")
        )
    assert 0 < routed.value(ROUTED, "reads per case").value < 1
