"""Whatever a public verb returns shows itself in a notebook, as a DataFrame, as a figure, and says what can be asked."""

from __future__ import annotations

import inspect
import typing
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from examples import (
    EXAMPLES,
    HOSTILE,
    a_model,
    a_partition,
    a_taxonomy,
    an_index,
    some_classes,
    some_grades,
    some_predictions,
)

import overread
from overread.core.display import Shown


@cache
def returned() -> dict[str, type]:
    """Our classes that public functions return, and what these give when they are indexed; an overview is what they show."""
    verbs = [getattr(overread, name) for name in overread.__all__ if inspect.isfunction(getattr(overread, name))]
    found = {kind for verb in verbs for kind in classes(typing.get_type_hints(inspect.unwrap(verb)).get("return"))}
    for kind in list(found):
        if hasattr(kind, "__getitem__"):
            found |= set(classes(typing.get_type_hints(kind.__getitem__).get("return")))
    found = {kind for kind in found if kind.__module__ != Shown.__module__}
    return {kind.__name__: kind for kind in sorted(found, key=lambda kind: kind.__name__)}


def classes(hint) -> list[type]:
    inside = [kind for each in typing.get_args(hint) for kind in classes(each)]
    return inside + ([hint] if inspect.isclass(hint) and hint.__module__.startswith("overread.") else [])


def test_every_result_shows_itself():
    kinds = returned()
    assert {"Cases", "Audit", "Split", "Model", "Predictions", "Evaluation", "Estimate", "Search"} <= {*kinds}
    bare = [
        name
        for name, kind in kinds.items()
        if not issubclass(kind, Shown) or not all(callable(getattr(kind, door, None)) for door in ("_repr_html_", "to_frame", "plot", "help"))
    ]  # fmt: skip
    assert not bare, "make them inherit overread.core.display.Shown"


def test_every_result_says_what_its_frame_holds():
    vague = [name for name, kind in returned().items() if "row" not in (inspect.getdoc(kind.to_frame) or "")]
    assert not vague, "the docstring of to_frame says what a row is, and the columns"


# -- each of them, shown ------------------------------------------------------------------------------------


def a_reader():
    from overread.study.opinion import Reader

    return Reader(made("Model"), None, None, (HOSTILE,), "as the model says")


def an_opinion():
    from overread.evaluation.decision.single_case import Answer, Call, Certainty, Opinion

    answers = (Answer("no", 0.3, 0.2, 0.5), Answer("yes", 0.7, 0.5, 0.8))
    return Opinion(HOSTILE, ("a.png",), "binary", answers, "yes", "score ≥ 0.4", (Call("yes", True, 0.7, 0.4, "at 95 % sensitivity"),),
                   Certainty("unsure", 0.4, 0.88), seen="its patient", positive=("yes",))  # fmt: skip


def some_neighbours():
    return an_index().search(np.eye(3, dtype=np.float32)[:2], k=3)


def a_search():
    from pathlib import Path

    from overread.distributed.search import Search
    from overread.learning.recipe import Recipe

    trials = pd.DataFrame({"trial": [1, 0, 2], "state": ["finished", "finished", "stopped early"], "score": [0.8, 0.7, 0.6],
                           "trained epochs": [9, 9, 1], "seconds": [1.0, 2.0, 3.0], "learning_rate": [1e-3, 1e-4, 1e-2]})  # fmt: skip
    return Search(trials, Recipe(), 0.8, {"learning_rate": 1.0}, Path("search"))


def a_preflight():
    from overread.learning.preflight.faults import Fault, Preflight

    return Preflight((Fault("loss", "error", "the loss is NaN", HOSTILE, "lower it"),), {"step": "0.1 s"})


def some_marks():
    from overread.evaluation.detection import Marks

    rows = {"reader": "", "image": [0, 0, 1], "score": [0.9, 0.5, 0.4], "hit": [0, -1, 1]}
    return Marks(2, np.arange(2), np.arange(2), pd.DataFrame(rows), "the lesion that each mark names", "")


def a_match():
    return overread.match_instances(np.array([[1, 1, 0, 2, 2]]), np.array([[1, 1, 0, 0, 3]]))


def an_uncertainty():
    from overread.evaluation.uncertainty import uncertainty

    return uncertainty(some_tuning(), some_predictions(), resamples=50)


def a_simulation():
    from overread.evaluation.workflow import simulate

    return simulate(some_predictions(), at=overread.choose_threshold(some_tuning(), sensitivity=0.8), resamples=50)


def some_tuning():
    """Other patients, of whom the model is less sure."""
    table = some_predictions().table
    table = table.assign(patient="q" + table["patient"], case="q" + table["case"])
    table["p:yes"] = 0.9 * table["p:yes"] + 0.01
    return replace(some_predictions(), table=table.assign(**{"p:no": 1 - table["p:yes"]}))


MORE = {
    "Estimate": lambda: made("Evaluation")["auc"],
    "Difference": lambda: made("Comparison")["auc"],
    "Model": a_model,
    "Taxonomy": a_taxonomy,
    "Partition": a_partition,
    "Reader": a_reader,
    "Opinion": an_opinion,
    "Index": an_index,
    "Neighbours": some_neighbours,
    "Search": a_search,
    "Preflight": a_preflight,
    "Marks": some_marks,
    "InstanceMatch": a_match,
    "Grades": some_grades,
    "Uncertainty": an_uncertainty,
    "Simulation": a_simulation,
    "Workflow": lambda: made("Simulation").workflows[0],
    "Classes": lambda: overread.evaluate(some_classes(), resamples=50),
}  # fmt: skip
ALL = {name: make for name, (make, *_) in EXAMPLES.items() if name in returned()} | MORE
#: What has no figure of its own.
NO_FIGURE = {
    "Taxonomy",
    "Partition",
    "ClassDecision",
    "Recalibration",
    "Grades",
    "Marks",
    "InstanceMatch",
    "Preflight",
    "Reader",
    "Opinion",
    "Neighbours",
}


def test_every_result_has_an_example():
    missing = {*returned()} - {*ALL}
    assert not missing, "add an example of each"


class Page(HTMLParser):
    tags: tuple[str, ...] = ()

    def handle_starttag(self, tag, attributes):
        self.tags = (*self.tags, tag)


def shown(result) -> str:
    page = result._repr_html_()
    reader = Page()
    reader.feed(page)
    assert set(reader.tags) <= {
        "div",
        "style",
        "p",
        "strong",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "ul",
        "li",
    }
    assert len(page) < 60_000, "short enough for a notebook"
    return page


@cache
def made(name: str):
    return ALL[name]()


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_result_is_a_safe_page_a_frame_and_a_help(name):
    result = made(name)
    assert "<table>" in shown(result)
    frame = result.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) > 0
    assert not frame.columns.duplicated().any()
    told = str(result.help())
    assert told.startswith(f"{type(result).__name__}: ")
    assert ".to_frame()" in told
    for kind in overread.plots(result):
        assert f'.plot("{kind}")' in told


@pytest.mark.parametrize("name", sorted({*ALL} - NO_FIGURE))
def test_a_result_draws_itself(name, print_form):
    from matplotlib.figure import Figure

    drawn = made(name).plot()
    assert isinstance(drawn, Figure)
    assert drawn.axes
    with print_form():
        png, size = drawn._repr_png_()
    assert png.startswith(b"\x89PNG")
    assert size["width"] > 200
    with pytest.raises(overread.OverreadError, match=f"the kind of figure of {type(made(name)).__name__} is not known"):
        made(name).plot("pie")


@pytest.mark.parametrize("name", sorted(NO_FIGURE))
def test_what_has_no_figure_says_so(name):
    with pytest.raises(overread.OverreadError, match="there is nothing to draw"):
        made(name).plot()


def test_the_frame_is_a_copy():
    for name in ("Cases", "Predictions", "Split", "Grades", "Search"):
        frame = made(name).to_frame()
        before = made(name).to_frame()
        frame.iloc[0, 0] = frame.iloc[-1, 0]
        pd.testing.assert_frame_equal(made(name).to_frame(), before)
