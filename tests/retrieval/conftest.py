"""A random network, a small cohort, and the index of one: nothing is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from overread import read_cases, split
from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.images.preprocess import Preprocess
from overread.learning.device import seeded
from overread.learning.model import About, Model, Origin
from overread.learning.recipe import Recipe
from overread.networks.backbones import build
from overread.retrieval.index import Index
from overread.synthetic.cohort import draw_cohort

torch.set_num_threads(1)
PREPROCESS = Preprocess(size=(28, 28), channels=3, mean=(0.5, 0.4, 0.5), std=(0.2, 0.2, 0.2))


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> tuple[Cases, Split]:
    table = draw_cohort(tmp_path_factory.mktemp("cohort"), patients=60, size=32, seed=1)
    cases = read_cases(table, image="image", label="diagnosis", patient="patient", source="microscope", names="keep")
    cases = replace(cases, table=cases.table.assign(case=[f"c{i}" for i in range(len(cases))]))
    return cases, split(cases, test=0.3, tuning=0.3, seed=1)


@pytest.fixture(scope="module")
def make_model(cohort) -> Callable[[int], Model]:
    """``make_model(seed)``: LeNet-5 with random weights."""
    cases = cohort[0]

    def make(seed: int) -> Model:
        with seeded(seed, 0, 0, "initial weights"):
            network = build("lenet5", outputs=cases.target.outputs)
        recipe = Recipe(backbone="lenet5", image_size=28)
        about = About(recipe, PREPROCESS, cases.target, Origin("lenet5", 1), salt="abc", names_salt=cases.salt)
        return Model(network.eval(), about)

    return make


@pytest.fixture(scope="module")
def model(make_model) -> Model:
    return make_model(0)


@pytest.fixture(scope="module")
def index(cohort, model, cache) -> Index:
    cases, parts = cohort
    return Index.build(model, cases.only(parts, "train"), tuning=cases.only(parts, "tuning"), cache=cache, threads=1)
