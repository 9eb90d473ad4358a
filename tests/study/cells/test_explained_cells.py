"""Which cells decided: a network that looks at dark pixels is found out by its gradient, and one that looks at the frame too."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from drawn_smears import Threshold, draw_smears
from torch import Tensor, nn
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.errors import InputError
from overread.explanation.cell_shares import INTENSITY, MAP, RANDOM, SIZE, ExplainedCells
from overread.learning.model import Model
from overread.study import steps
from overread.study.cells.explained_cells import RANKED, CellWish, explain_cells
from overread.study.context import RunContext
from overread.study.question import Study

TINY = {
    "method": "scratch",
    "backbone": "lenet5",
    "image_size": 96,
    "epochs": 1,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "augment": "none",
}


class Dark(nn.Module):
    """Says cancer by how many pixels are as dark as cancer cells are; its gradient is steepest there."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Parameter(torch.tensor([-1.8, 2.4]))
        self.slope = nn.Parameter(torch.tensor([3.0, -2.0]))

    def forward(self, x: Tensor) -> Tensor:
        dark = torch.relu(self.cut[0] - x.mean(dim=1)).square().mean(dim=(1, 2))
        return torch.stack([-dark, dark * self.slope[0]], dim=1)


class Frame(nn.Module):
    """Says cancer by the frame of the image, which holds no cell."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 0.5]))

    def forward(self, x: Tensor) -> Tensor:
        edge = x.mean(dim=1)[:, :2].square().mean(dim=(1, 2)) + 1e-4 * x.mean(dim=(1, 2, 3))
        return torch.stack([-edge, edge * self.weight[0]], dim=1)


@pytest.fixture(scope="module")
def context(tmp_path_factory) -> RunContext:
    home = tmp_path_factory.mktemp("explained")
    table = draw_smears(home / "smears", patients=40, seed=3)
    study = Study.from_flat(table=str(table), image="image", mask="mask", label="diagnosis", patient="patient", positive=("cancer",), test=0.3, tuning=0.4,
                            despite=("shortcut", "near-leak"), recipe=TINY, seed=1, threads=1)  # fmt: skip
    study, cases = steps.open_study(study, home / "run")
    made = RunContext(study, home / "run", home / "cache", False, table=cases)
    steps.begin(made, cases)
    for step in (steps.audit, steps.split, steps.train, steps.predict):
        step(made)
    return made


def looks_by(monkeypatch: pytest.MonkeyPatch, context: RunContext, network: nn.Module) -> None:
    """The run's model with another network in its place."""
    model = Model.load(context.folder / "model")
    monkeypatch.setattr("overread.study.cells.explained_cells.load_model", lambda folder: Model(network, model.about))


def test_the_planted_cells_are_found(context, monkeypatch) -> None:
    looks_by(monkeypatch, context, Dark())
    found = explain_cells(context, CellWish(part="tuning", planted=("cancer",)))
    by_name = {score.name: score for score in found.scores}
    assert by_name[MAP].auc.value > 0.95
    assert by_name[MAP].auc.low > 0.65  # eight patients
    assert not by_name[RANDOM].rank > 0.99, "another network has another order"
    assert {SIZE, INTENSITY} <= set(by_name)
    assert "finds the cells that matter" in found.verdict
    assert "maps held against their checks" in str(found)
    assert ExplainedCells.load(context.folder / "explanations" / "cells") == found
    table = pd.read_csv(context.folder / "explanations" / RANKED)
    assert (table.groupby("case")["rank"].min() == 1).all()
    assert (table.sort_values(["case", "rank"]).groupby("case")[MAP].diff().dropna() <= 0).all()
    assert table.loc[table["rank"] == 1, "class"].eq("cancer").mean() > 0.9
    assert table.groupby("case")[MAP].sum().max() <= 1 + 1e-9


def test_a_network_that_looks_elsewhere_is_found_out(context, monkeypatch) -> None:
    looks_by(monkeypatch, context, Frame())
    found = explain_cells(context, CellWish(part="tuning", planted=("cancer",)))
    table = pd.read_csv(context.folder / "explanations" / RANKED)
    assert table.groupby("case")[MAP].sum().max() < 0.05, "the cells have next to nothing of the map"
    assert not found.scores[0].auc.low > 0.9


def test_cells_of_a_run_that_outlines_them(context, monkeypatch, segmenter) -> None:
    looks_by(monkeypatch, context, Dark())
    segmenter(Threshold())
    found = explain_cells(context, CellWish(cells="somewhere", part="tuning", planted=("cancer",)))
    assert found.outlines == "predicted"
    assert found.scores[0].auc.value > 0.95
    nobody = explain_cells(context, CellWish(cells="somewhere", part="tuning", present=False))
    assert nobody.images > found.images
    assert nobody.planted == 0
    assert "not known here" in nobody.verdict


def test_the_command_and_its_page(context, monkeypatch) -> None:
    looks_by(monkeypatch, context, Dark())
    done = CliRunner().invoke(
        app, ["explain", str(context.folder), "--cells", "masks", "--planted", "cancer", "--part", "tuning"]
    )
    assert done.exit_code == 0, done.output
    assert "finds the cells that matter" in done.output
    page = (context.folder / "explanations" / "cells.html").read_text("utf-8")
    assert "random weights" in page
    refused = CliRunner().invoke(app, ["explain", str(context.folder), "--cells", "masks"])
    assert isinstance(refused.exception, InputError)
    assert "not judged yet" in str(refused.exception), "the test part stays closed"
