"""By which score a slide is told, and from which probability on a place is a lesion: chosen on tuning slides."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from overread.learning.recipe import Recipe
from overread.slides.heat_map import MapAbout, SlideMaps, write_map
from overread.study.slides.slide_rule import FALSE_ALLOWED, SlideReading, choose_reading, windows


def maps(tmp_path, peaks):
    """A map for each slide with so many cells of the highest code, the rest low."""
    found = {}
    for row, (cells, code) in enumerate(peaks):
        codes = np.full((20, 20), 10, np.uint8)
        codes.ravel()[:cells] = code
        about = MapAbout(cell=64.0, shape=codes.shape, size=(1280.0, 1280.0), bits=8, stride=128, mpp=(0.5,), tile=256, centre=128, least_tissue=0.25,
                         views=1, model="m", slide="s", tissue="t", looked=400)  # fmt: skip
        found[row] = write_map(tmp_path / f"{row}.tif", codes, about)
    return SlideMaps(found)


def marks(rows):
    return pd.DataFrame(rows, columns=["case", "score", "region"])


NOTHING = marks([]).astype({"score": float, "region": int})


def test_the_score_that_orders_tuning_slides_best_is_taken(tmp_path):
    """One bright cell is an artefact on these slides, thirty are a lesion: the maximum cannot tell them apart."""
    mapped = maps(tmp_path, [(1, 250), (1, 252), (1, 254), (40, 240), (40, 241), (40, 242)])
    found = choose_reading(Recipe(), mapped, np.array([0, 0, 0, 1, 1, 1]), {1: NOTHING}, 0, 0)
    assert found.score.startswith("mean of")
    assert found.areas["maximum"] < found.areas[found.score] == 1.0
    asked = choose_reading(_with_score("maximum"), mapped, np.array([0, 0, 0, 1, 1, 1]), {1: NOTHING}, 0, 0)  # fmt: skip
    assert (asked.score, asked.score_why) == ("maximum", "the recipe says so")


def _with_score(rule):
    recipe = Recipe()
    return recipe.changed(tiles=replace(recipe.tiles, score=rule))


def slow_threshold(table, outlined):
    """The definition: of all thresholds with at most so many false positives those with the most lesions, the highest of them."""
    best = None
    for threshold in sorted(set(table["score"]), reverse=True):
        over = table[table["score"] >= threshold]
        if (over["region"] == -1).sum() > FALSE_ALLOWED * outlined:
            break
        found = len({(case, region) for case, region in zip(over["case"], over["region"]) if region >= 0})
        if found and (best is None or found > best[0]):
            best = (found, threshold)
    return None if best is None else best[1]


@pytest.mark.parametrize("seed", range(12))
def test_the_threshold_is_that_of_its_definition(seed, tmp_path):
    draw = np.random.default_rng(seed)
    rows = [(f"s{draw.integers(5)}", round(float(draw.random()), 2), int(draw.integers(-2, 3))) for _ in range(60)]
    table = marks(rows)
    found = choose_reading(_with_score("maximum"), SlideMaps(), np.zeros(0, np.int64), {1: table}, 5, 0)
    wanted = slow_threshold(table, 5)
    assert found.threshold == pytest.approx(wanted, abs=1e-9) if wanted is not None else found.threshold >= 0.5


def test_without_known_lesions_the_threshold_is_that_of_the_paper():
    found = choose_reading(_with_score("maximum"), SlideMaps(), np.zeros(0, np.int64), {1: NOTHING}, 0, 0)
    assert (found.threshold, found.threshold_why) == (0.5, "no tuning slide has known lesions to choose by")


def test_where_nothing_is_hit_no_false_alarm_more_than_allowed_passes():
    table = marks([("a", 0.9, -1), ("a", 0.8, -1), ("a", 0.7, -1), ("b", 0.6, -2)])
    found = choose_reading(_with_score("maximum"), SlideMaps(), np.zeros(0, np.int64), {1: table}, 2, 0)
    assert 0.7 < found.threshold < math.nextafter(0.7, 1.0) + 1e-9
    assert "no lesion was found" in found.threshold_why


def test_to_a_file_and_back(tmp_path):
    reading = SlideReading("mean of 3", "why", 0.25, "why too", {"maximum": 0.5}, 5, "and why")
    reading.save(tmp_path)
    assert SlideReading.load(tmp_path) == reading
    assert "mean of 3" in reading.lines[0]
    assert reading.lines[1] == "  places: means over 5 × 5 places — and why"
    assert "from 0.250 on" in reading.lines[2]


def slow_mean_sensitivity(table, outlined, lesions):
    """At each rate the most lesions that any threshold finds with at most so many false positives a slide; no two scores are alike."""
    found = []
    for rate in (0.25, 0.5, 1, 2, 4, 8):
        best = 0
        for threshold in table["score"]:
            over = table[table["score"] >= threshold]
            if (over["region"] == -1).sum() <= rate * outlined:
                best = max(best, len({(case, region) for case, region in zip(over["case"], over["region"]) if region >= 0}))  # fmt: skip
        found.append(best / lesions)
    return sum(found) / 6


@pytest.mark.parametrize("seed", range(4))
def test_the_window_finds_the_most_lesions_of_tuning_slides(seed):
    draw = np.random.default_rng(seed)
    tables = {}
    for window in (1, 3, 5):
        scores = draw.permutation(60) / 60  # none alike
        tables[window] = marks([(f"s{draw.integers(4)}", scores[k], int(draw.integers(-2, 3))) for k in range(60)])
    found = choose_reading(_with_score("maximum"), SlideMaps(), np.zeros(0, np.int64), tables, 4, 12)
    values = {window: slow_mean_sensitivity(table, 4, 12) for window, table in tables.items()}
    assert found.window == max(values, key=lambda window: (round(values[window], 9), -window))
    assert f"{values[found.window]:.3f} (places a side: " in found.window_why
    assert found.threshold == pytest.approx(slow_threshold(tables[found.window], 4), abs=1e-9), "of that window"


def test_of_equal_windows_the_smallest_of_few_lesions_too_and_what_the_recipe_says():
    table = marks([("a", 0.9, 0), ("b", 0.8, 0), ("c", 0.7, 0), ("c", 0.6, -1)])
    tables = {1: table, 3: table, 5: table}
    nothing = SlideMaps(), np.zeros(0, np.int64)
    assert choose_reading(_with_score("maximum"), *nothing, tables, 3, 3).window == 1
    few = choose_reading(_with_score("maximum"), *nothing, tables, 3, 2)
    assert (few.window, few.window_why) == (1, "the tuning part has 2 known lesions, too few to choose by")
    recipe = Recipe().changed(tiles=replace(Recipe().tiles, window=3))
    assert windows(recipe) == (3,)
    assert choose_reading(recipe, *nothing, {3: table}, 3, 3).window_why == "the recipe says so"


def test_a_place_reaches_the_threshold_that_it_chose_also_as_tables_write_it():
    score = 40_000 / 65_534  # .610370799..., which nine digits round up
    found = choose_reading(
        _with_score("maximum"), SlideMaps(), np.zeros(0, np.int64), {1: marks([("a", score, 0)])}, 1, 1
    )
    assert found.threshold <= min(score, float(f"{score:.9g}"))
    assert found.threshold == pytest.approx(score, rel=1e-8)
