"""What is saved comes back equal: classes with ``save`` and ``load`` or ``read``, and plain dataclasses."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from examples import EXAMPLES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overread.core import files
from overread.core.errors import InputError, OverreadError
from overread.core.identifiers import identifiers

#: Tested where they are made, because an example needs training, or it is a picture: the class and the test that does it.
ELSEWHERE = {
    "Result": "every subclass above",
    "OfReaders": "both subclasses above",
    "Model": "tests/learning",
    "Tissue": "tests/images/slides/test_tissue.py",
    "GradedCases": "tests/cases/test_graders_labels.py",
}
ENDINGS = {
    "Cases": ".csv",
    "Predictions": ".csv",
    "PredictedOutlines": ".csv",
    "Split": ".csv",
    "Audit": ".json",
    "OperatingPoint": ".json",
    "ClassDecision": ".json",
    "Recalibration": ".json",
    "Recipe": ".toml",
    "Study": ".toml",
}


# -- the contracts ------------------------------------------------------------------------------------------


def _reader(made: object) -> Callable:
    """What reads it, by a path alone: what else it must be told is taken from what was made, as an index's model is."""
    read = getattr(type(made), "load", None) or type(made).read
    needed = [p.name for p in inspect.signature(read).parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]  # fmt: skip
    return partial(read, **{name: getattr(made, name) for name in needed[1:]})


def _savers(package) -> Iterator[type]:
    for module in package.values():
        if module.is_door:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            mine = inspect.isclass(value) and value.__module__ == module.name and not name.startswith("_")
            if mine and hasattr(value, "save") and (hasattr(value, "load") or hasattr(value, "read")):
                yield value


def test_everything_that_saves_itself_has_an_example(package):
    missing = {kind.__name__ for kind in _savers(package)} - {*EXAMPLES, *ELSEWHERE}
    assert not missing, f"add an example of each to {Path(__file__).name}"


@pytest.mark.parametrize(
    ("kind", "make"),
    [(kind, make) for kind, makes in EXAMPLES.items() for make in makes],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_saved_and_loaded_is_equal(kind, make, tmp_path):
    made = make()
    path = tmp_path / ("saved" + ENDINGS.get(kind, ""))
    back = _reader(made)(made.save(path))
    assert same(back, made)
    assert str(back) == str(made)
    again = tmp_path / ("again" + ENDINGS.get(kind, ""))
    back.save(again)
    assert _contents(again) == _contents(path), "saving what was loaded writes the same bytes"


def _contents(path: Path) -> dict[str, bytes]:
    if path.is_dir():
        return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}
    return {p.name[len(path.stem) :]: p.read_bytes() for p in sorted(path.parent.glob(f"{path.stem}*")) if p.is_file()}


def same(one: object, other: object) -> bool:
    """Equal, where NaN equals NaN and tables are compared cell by cell."""
    if dataclasses.is_dataclass(one):
        pairs = [(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one) if f.compare]
        return type(one) is type(other) and all(same(a, b) for a, b in pairs)
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other, check_dtype=False, rtol=1e-8)
        return True
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other or (one != one and other != other)


DAMAGES = {
    "empty": b"",
    "cut": b"{",
    "binary": b"\x00\xff\xfe" * 40,
    "list": b"[]",
    "null": b"null",
    "other": b'{"surprise": 1}',
}


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_loading_what_is_not_there_is_our_error(kind, tmp_path):
    with pytest.raises(OverreadError):
        _reader(EXAMPLES[kind][0]())(tmp_path / ("missing" + ENDINGS.get(kind, "")))


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
@pytest.mark.parametrize("damage", DAMAGES)
def test_loading_what_is_damaged_is_our_error(kind, damage, tmp_path):
    """Never an error from floors below; a list or an object may be read where it fits."""
    made = EXAMPLES[kind][0]()
    path = tmp_path / ("saved" + ENDINGS.get(kind, ""))
    saved = made.save(path)
    for file in [p for p in ([path] if path.is_file() else sorted(path.rglob("*"))) if p.is_file()]:
        whole = file.read_bytes()
        if damage == "empty" and file.suffix == ".toml":
            continue  # an empty TOML file is a table without keys: every default
        if file.suffix == ".png":
            continue  # for people to look at: it is not read
        file.write_bytes(DAMAGES[damage])
        try:
            _reader(made)(saved)
        except OverreadError:
            refused = True
        else:
            refused = False
        assert refused or DAMAGES[damage].startswith((b"[", b'{"')), f"{file.name} was accepted"
        file.write_bytes(whole)


# -- plain dataclasses through files.save and files.load ----------------------------------------------------

PLAIN = {
    "overread.cases.cases.Target": {"kind": "classes", "names": ("a", "b", "c"), "positive": ("b",)},
    "overread.stats.estimate.Estimate": {"metric": "auc", "value": 0.9, "low": 0.8, "high": 1.0, "where": {"sex": "f"}},
    "overread.images.preprocess.Preprocess": {"size": (28, 28), "channels": 1, "mean": (0.5,), "std": (0.25,)},
    "overread.images.augment.Augmentation": {"rotate": 10.0, "scale": (0.9, 1.1)},
    "overread.learning.recipe.Recipe": {"seed": 3},
}


@pytest.mark.parametrize("name", sorted(PLAIN))
@pytest.mark.parametrize("ending", [".json", ".toml"])
def test_plain_dataclasses_survive_a_file(name, ending, tmp_path):
    module, _, kind = name.rpartition(".")
    kind = getattr(importlib.import_module(module), kind)
    made = kind(**PLAIN[name])
    back = files.load(kind, files.save(made, tmp_path / f"it{ending}"))
    assert back == made
    assert hash(back) == hash(made)


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_plain_dataclasses_refuse_an_unknown_key_by_name(name):
    module, _, kind = name.rpartition(".")
    kind = getattr(importlib.import_module(module), kind)
    first = dataclasses.fields(kind)[0].name
    with pytest.raises(InputError, match=f"(?i){first}x.*did you mean '{first}'"):
        files.build(kind, {**PLAIN[name], f"{first}x": 1})


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)


def one_form(name: str) -> str:
    return str(identifiers(pd.Series([f"c{name}"])).iloc[0])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(TEXT, TEXT, st.floats(0, 1, width=32)), min_size=1, max_size=8, unique_by=lambda row: one_form(row[0])
    )
)
def test_predictions_survive_any_names(tmp_path, rows):
    """Names with commas, quotes, leading zeros, or such as ``NA`` come back in the one form of a name."""
    from overread.predictions import Predictions
    from overread.tasks.target import Target

    table = pd.DataFrame(
        {
            "case": [f"c{row[0]}" for row in rows],
            "patient": [f"{row[1]}." for row in rows],
            "split": "test",
            "source": [row[1] for row in rows],
            "label": "b",
            "p:a": np.float32([1 - row[2] for row in rows]).astype(float),
            "p:b": np.float32([row[2] for row in rows]).astype(float),
        }
    )
    made = Predictions(table, Target("binary", ("a", "b"), ("b",)), identifiers="as-written")
    back = Predictions.read(made.save(tmp_path / "p.csv"), identifiers="as-written")
    assert list(back.table["case"]) == list(identifiers(table["case"]))
    assert list(back.table["patient"]) == list(identifiers(table["patient"]))
    assert np.array_equal(np.float32(back.scores), np.float32(made.scores))
