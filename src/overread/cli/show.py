"""A contact sheet before training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from overread.cases.sources.layout import Layout
from overread.cli.console import bars, end, say
from overread.cli.options import Machine, Only, RecipeChoice, Table, Training
from overread.cli.run import study_of
from overread.core.phrases import command_of
from overread.study.question import Columns, Images, OperatingRule, Resources, SplitRule


def show(
    table: Table, columns: Columns, layout: Layout, images: Images, recipe: RecipeChoice, training: Annotated[Training, Only(("weights",))],
    resources: Annotated[Resources, Only(("threads",))], machine: Annotated[Machine, Only(("cache",))],
    per_class: Annotated[int, typer.Option(min=1, help="pictures of each class")] = 8,
    most: Annotated[int, typer.Option(min=0, help="images to look at, some of each class and source among them; 0: all")] = 5000,
    seed: Annotated[int, typer.Option(min=0, help="of what is drawn and of the augmentation")] = 0,
    output: Annotated[Path, typer.Option("-o", "--output", help="the page to write, or a folder for show.html")] = Path("show.html"),
) -> None:  # fmt: skip
    """Look at the images as a network will see them, before training: by class, augmented, copies, extremes, sources."""
    from overread.core.files import cache_folder
    from overread.study.contact_sheet import show as write
    from overread.study.context import cases_of, recipe_of

    study = study_of(table, columns, layout, images, SplitRule(), OperatingRule(), recipe, training, resources)
    page = output if output.suffix == ".html" else output / "show.html"
    with bars() as progress:
        cases = cases_of(study, progress)
        for line in (str(cases), *(f"  {note}" for note in cases.notes)):
            say(line)
        write(cases, page, recipe=recipe_of(study), weights=study.training.weights or None, per_class=per_class, most=most, seed=seed,
              threads=resources.threads, cache=machine.cache or cache_folder(), progress=progress, say=say)  # fmt: skip
    end([page], f"{command_of(['open', page])}, then overread run {table} with the same options")
