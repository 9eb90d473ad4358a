"""Whatever the predictions: an evaluation or an error that says why; never a silent NaN."""

from __future__ import annotations

import math
import tempfile
import warnings

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overread.core.errors import OverreadError
from overread.evaluation.evaluate import Evaluation, evaluate
from overread.predictions import Predictions
from overread.tasks.target import Target

NASTY = (math.nan, math.inf, -math.inf)
#: A group of equals, ends, the smallest and largest of their kind, and what is no probability.
SCORES = (0.0, 1.0, 0.5, 0.25, 0.2500000001, 1e-308, 1e-12, 1 - 1e-12, 1e300, -1e300, 7.0, -3.0)
KINDS = {
    "ties": st.sampled_from((0.0, 0.25, 0.5, 1.0)),
    "probabilities": st.floats(0, 1),
    "float32": st.floats(0, 1, width=32),
    "constant": st.just(0.5),
    "magnitudes": st.sampled_from(SCORES),
    "nasty": st.one_of(st.floats(0, 1), st.sampled_from(NASTY)),
}


@st.composite
def tables(draw, kind: str) -> Predictions:
    """Predictions of 1 to 26 cases: any scores, any answers, any patients."""
    count = draw(st.integers(1, 26))

    def column(values) -> list:
        return draw(st.lists(values, min_size=count, max_size=count))

    scores = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    people = draw(st.sampled_from((1, 2, 3, count, 1000)))
    table = pd.DataFrame(
        {
            "case": [f"c{i}" for i in range(count)],
            "patient": [f"p{i % people}" for i in range(count)],
            "split": "test",
            "source": column(st.sampled_from(("A", "B"))) if draw(st.booleans()) else "A",
            "eye": column(st.sampled_from(("left", "right", ""))),
        }
    )
    names = draw(st.sampled_from((("0", "1", "2"), ("a", "b", "c")))) if kind == "classes" else ("no", "yes")
    if kind in ("binary", "classes"):
        labels = draw(st.sampled_from(((names[0],), (*names, ""), names)))
        table["label"] = column(st.sampled_from(labels))
        positive = names[1:] if draw(st.booleans()) or kind == "binary" else ()
        target = Target(kind, names, positive)
    elif kind == "findings":
        target = Target(kind, names)
        for name in names:
            table[f"label:{name}"] = column(st.sampled_from((0.0, 1.0, math.nan)))
    else:
        target = Target(kind, ("value",))
        table["value"] = column(draw(st.sampled_from((scores, st.sampled_from((1.0, 2.0, math.nan))))))
    for output in ("predicted",) if kind == "quantity" else (f"p:{name}" for name in names):
        table[output] = column(scores)
    if draw(st.booleans()):
        floats = [c for c in table if table[c].dtype == float and c.startswith("p")]
        with np.errstate(over="ignore"):
            table[floats] = table[floats].astype(np.float32)
    return Predictions(table, target)


def sound(result: Evaluation) -> None:
    """Every number has a value in its interval, or its reason."""
    for e in result.estimates:
        named = (e.metric, e.of, e.where, e.value, e.low, e.high, e.method, e.undefined)
        assert math.isnan(e.value) == bool(e.undefined), named
        assert math.isnan(e.low) == math.isnan(e.high), named
        assert e.undefined or e.method, named
        if e.undefined:
            assert math.isnan(e.low), named
        elif math.isnan(e.low):
            assert "no interval" in e.method, named
        elif e.metric != "ece if calibrated":  # its range is that of draws, its value their mean
            tiny = 1e-9 * max(1.0, abs(e.value))
            assert e.low - tiny <= e.value <= e.high + tiny, named
    for gap in (*result.gaps, *result.heterogeneity):
        assert math.isnan(gap.p) == bool(gap.undefined), gap
        assert math.isnan(gap.p) or 0 <= gap.p <= 1, gap


def judged(test: Predictions, prevalence: float | None) -> None:
    result, refused = None, ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = evaluate(test, by=("eye",), resamples=20, prevalence=prevalence)
        except OverreadError as error:
            refused = str(error)
    if result is None:
        assert refused.startswith(("no prediction has a known truth", "there are no predictions"))
        return
    sound(result)
    result.table()
    with tempfile.TemporaryDirectory() as folder:
        assert Evaluation.load(result.save(folder)) == result


def properties(kind: str):
    @settings(max_examples=15, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(tables(kind), st.sampled_from((None, 0.01)))
    def test(test: Predictions, prevalence: float | None) -> None:
        judged(test, prevalence)

    return test


test_binary = properties("binary")
test_classes = properties("classes")
test_findings = properties("findings")
test_quantity = properties("quantity")
