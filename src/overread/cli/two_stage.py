"""Segment the cells, then tell them apart, against one network that sees the whole image; and what each stage costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from overread.cases.sources.layout import Layout
from overread.cli.console import bars, end, json_with_metrics, say
from overread.cli.options import AsJson, Cache, Folder, Machine, Only, Out, RecipeChoice, Table
from overread.cli.run import recipe_changes, study_of
from overread.study.question import Columns, Images, OperatingRule, Resources, SplitRule, Training

STAGES = "The two stages"


def two_stage(
    table: Table, columns: Columns, layout: Layout, split: SplitRule, operating_point: OperatingRule, recipe: RecipeChoice,
    training: Training, resources: Resources, machine: Machine, output: Out = Path("runs/two-stages"),
    segmenter: Annotated[str, typer.Option(help="a run that outlines objects, trained already; one is trained here if not given", rich_help_panel=STAGES)] = "",
    cell_window: Annotated[float, typer.Option(min=0, help="pixels of a side of the window around a cell; 0: what holds 95 % of the training cells", rich_help_panel=STAGES)] = 0.0,
    cell_microns: Annotated[float, typer.Option(min=0, help="the same in microns, for images whose pixel size is known", rich_help_panel=STAGES)] = 0.0,
    cell_size: Annotated[int, typer.Option(min=4, max=1024, help="pixels of a side of a crop as a network sees it", rich_help_panel=STAGES)] = 64,
    masked: Annotated[bool, typer.Option("--masked", help="show nothing of a window but its cell", rich_help_panel=STAGES)] = False,
    pool: Annotated[str, typer.Option(help="how cells become the answer for the image: rule (so many cells called), mean, or attention (learned); the rule where cells have classes, if not given", rich_help_panel=STAGES)] = "",
    count: Annotated[list[str], typer.Option(help="class of cells that counts for the rule; may be repeated; the one called like the positive class if not given", rich_help_panel=STAGES)] = [],
    cell_set: Annotated[list[str], typer.Option(help="a field of the recipe that tells cells apart: key=value; may be repeated", rich_help_panel=STAGES)] = [],
    pool_set: Annotated[list[str], typer.Option(help="a field of the recipe that pools them; may be repeated", rich_help_panel=STAGES)] = [],
    outline_set: Annotated[list[str], typer.Option(help="a field of the recipe that outlines them; may be repeated", rich_help_panel=STAGES)] = [],
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Two stages against one, on the same images, split and budget: segment → classify cells → pool, and end to end.

    With --label the answer is that of each image; without one it is the class of each cell, and the one stage outlines
    every class. Cells of one image, and of one patient, are never on two sides. Called again, it goes on where it was stopped.
    """
    from overread.cells.stages.cell_crops import Window
    from overread.reporting.pages.cells.two_stage import two_stage_page
    from overread.study.cells.stage_run import StageChoice
    from overread.study.cells.two_stage_run import two_stages

    study = study_of(table, columns, layout, Images(), split, operating_point, recipe, training, resources)
    asked = StageChoice(segmenter, Window(cell_window, cell_microns, cell_size, masked), pool, tuple(count), _fields(cell_set), _fields(pool_set), _fields(outline_set))  # fmt: skip
    with bars() as progress:
        found = two_stages(
            study, asked, output, cache=machine.cache or None, network=not machine.offline, progress=progress, say=say
        )
    page = two_stage_page(found, output)[0]
    if as_json:
        typer.echo(json_with_metrics(output / found.file))
        return
    typer.echo(str(found))
    end([page, output / found.file, output / "comparison", output / "one-stage" / "report.html"], ["open", page])


def _fields(settings: list[str]) -> dict[str, Any]:
    return recipe_changes(RecipeChoice(settings=tuple(settings))) if settings else {}


def ceiling(
    folder: Folder,
    resources: Annotated[Resources, Only(("device", "threads"))],
    part: Annotated[str, typer.Option(help="tuning, or test: a look at the test set, which the ledger writes down")] = "tuning",
    cache: Cache = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """What each stage of two stages costs: it is replaced by the truth in turn, and what the whole gains is what it loses.

    On tuning images by default, since who reads the table decides by it what to work on.
    """
    from overread.study.cells.two_stage_run import ceiling_of_run

    if part == "test":
        say("  this opens the test set: the ledger writes it down")
    with bars() as progress:
        found = ceiling_of_run(folder, part, resources=resources, cache=cache or None, progress=progress, say=say)
    home = folder / "ceiling" / part if part == "test" else folder / "ceiling"
    if as_json:
        typer.echo(json_with_metrics(home / found.file))
        return
    typer.echo(str(found))
    end([home / found.file, home / "metrics.json"], "")
