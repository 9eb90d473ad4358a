"""The stops of the threshold slider, against the calls counted anew from the predictions."""

from __future__ import annotations

import json

import numpy as np

from overread.predictions import Predictions
from overread.reporting.run import read_run
from overread.reporting.threshold import as_json, sliders


def counted(folder, of: str, threshold: float, target) -> tuple[int, int]:
    """Hits and false alarms of the test part from ``threshold`` on."""
    table = Predictions.read(folder / "predictions/test.csv").table
    names = of.split("+")
    label = f"label:{of}"
    sick = table[label].astype(float) == 1 if label in table else table["label"].isin(names)
    known = table[label].notna() if label in table else np.ones(len(table), bool)
    flagged = sum(table[f"p:{name}"] for name in names) >= threshold
    return int((flagged & sick & known).sum()), int((flagged & ~sick & known).sum())


def test_each_stop_counts_the_calls_from_its_threshold_on(finished):
    for kind, of in (("binary", "malignant"), ("group", "bcc+mel")):
        run = read_run(finished(kind))
        (slider,) = sliders(run)
        assert len(slider.stops) > 8
        for stop in slider.stops[1::3]:
            assert (stop.hits, stop.alarms) == counted(finished(kind), of, float(stop.threshold), run.target)
        assert slider.stops[0] == type(slider.stops[0])("", 0, 0)
        assert (slider.stops[-1].hits, slider.stops[-1].alarms) == (slider.positives, slider.negatives)


def test_it_begins_at_the_studys_point(finished):
    run = read_run(finished("binary"))
    (slider,) = sliders(run)
    (cleared, alarms), (missed, hits) = run.curve.point.confusion
    assert (slider.shown.hits, slider.shown.alarms) == (hits, alarms)
    assert (slider.missed, slider.cleared) == (missed, cleared)
    assert slider.study == slider.at
    assert 0 <= run.operating[0].threshold - float(slider.shown.threshold) < 1e-6
    assert "frozen on tuning data" in slider.point


def test_each_finding_has_its_own(finished):
    run = read_run(finished("findings"))
    found = sliders(run)
    assert [slider.name for slider in found] == ["effusion", "nodule"]
    for slider in found:
        stop = slider.stops[len(slider.stops) // 2]
        assert (stop.hits, stop.alarms) == counted(finished("findings"), slider.name, float(stop.threshold), run.target)


def test_a_quantity_has_none(finished):
    assert sliders(read_run(finished("quantity"))) == ()


def test_the_script_is_given_all_of_it(finished):
    found = sliders(read_run(finished("binary")))
    (told,) = json.loads(as_json(found))
    assert told["stops"][told["at"]] == [found[0].shown.threshold, found[0].shown.hits, found[0].shown.alarms]
