"""Predictions with a known make-up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from overread.predictions import Predictions
from overread.tasks.target import Target


def make(
    kind: str = "binary",
    *,
    patients: int = 60,
    images: int = 2,
    classes: int = 4,
    seed: int = 0,
    prefix: str = "test",
    skill: float = 1.5,
) -> Predictions:
    """Predictions of ``patients`` with ``images`` each, two sources, sex and age, and columns by kind of target."""
    rng = np.random.default_rng(seed if prefix == "test" else [seed, *prefix.encode()])  # others have other patients
    count = patients * images
    classes = 2 if kind == "binary" else classes
    truth = np.repeat(rng.integers(0, classes, patients), images)
    score = rng.normal(size=(count, classes)) + skill * np.eye(classes)[truth]
    chance = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    who = np.repeat(np.arange(patients), images)
    table = pd.DataFrame({
        "case": [f"{prefix}-{i}" for i in range(count)],
        "patient": [f"{prefix}-p{i}" for i in who],
        "split": prefix, "source": np.where(who % 3 == 0, "north", "south"),
        "sex": np.where(who % 2 == 0, "female", "male"),
        "age": 20.0 + who % 60,
    })  # fmt: skip
    names = ("benign", "melanoma", "nevus", "other")[:classes]
    if kind in ("binary", "classes"):
        table["label"] = np.array(names)[truth]
        for i, name in enumerate(names):
            table[f"p:{name}"] = chance[:, i]
        return Predictions(table, Target(kind, names, ("melanoma",) if kind == "binary" else ("melanoma", "other")))
    if kind == "findings":
        for i, name in enumerate(names):
            table[f"label:{name}"] = np.where(rng.random(count) < 0.1, np.nan, truth == i)
            table[f"p:{name}"] = 1 / (1 + np.exp(-score[:, i]))
        return Predictions(table, Target("findings", names))
    table["value"] = 10.0 + truth + rng.normal(size=count)
    table["predicted"] = table["value"] + rng.normal(size=count)
    return Predictions(table, Target("quantity", ("value",)))


@pytest.fixture
def predictions() -> Callable[..., Predictions]:
    """:func:`make`."""
    return make
