"""Choose fields of a recipe by trying them, on the training part alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from overread.cases.sources.layout import Layout
from overread.cli.console import bars, end, open_run, say
from overread.cli.options import AsJson, Machine, Out, RecipeChoice, Table
from overread.cli.run import refuse_masks, study_of
from overread.study.question import Columns, Images, OperatingRule, Resources, SplitRule, Training


def search(
    table: Table, columns: Columns, layout: Layout, images: Images, split: SplitRule, operating_point: OperatingRule, recipe: RecipeChoice,
    training: Training, resources: Resources, machine: Machine,
    space: Annotated[Path, typer.Option(help="TOML: a field of the recipe = [choices], or {low, high} with log = true or step")],
    trials: Annotated[int, typer.Option(min=1, help="recipes to try, those of other processes in the same folder included")] = 30,
    search_folds: Annotated[int, typer.Option(min=1, help="judge each by grouped folds of the training patients; 1: a quarter of them is held out")] = 1,
    output: Out = Path("runs/search"), as_json: AsJson = False,
) -> None:  # fmt: skip
    """Search a recipe over a declared space; called again, or in several shells at once, it goes on."""
    from overread.cases.sources.slides import refuse_overviews
    from overread.cases.split import Split
    from overread.distributed.search import read_space
    from overread.distributed.search import search as search_recipes
    from overread.reporting.pages.search import search_page
    from overread.study import steps
    from overread.study.context import recipe_of

    study = study_of(table, columns, layout, images, split, operating_point, recipe, training, resources)
    refuse_masks(study, "a search of recipes")
    steps.require_trainable(study, not machine.offline)
    asked = recipe_of(study)
    read_space(space, asked)  # a wrong space leaves nothing behind
    study, cases = steps.open_study(study, output)
    refuse_overviews(cases)
    with open_run(
        study, output, machine.cache, offline=machine.offline, quiet=as_json, table=cases, wait=SETTING_UP
    ) as context:
        if not (output / "split.csv").exists():
            steps.set_up(context, cases)
    with bars() as progress:
        found = search_recipes(context.usable(), Split.load(output / "split.csv"), space, folder=output, recipe=asked, trials=trials, folds=search_folds,
                               seed=study.training.seed, weights=study.training.weights or None, cache=context.cache, clock=context.clock,
                               device=resources.device, threads=resources.threads, network=context.network, progress=progress, say=context.say)  # fmt: skip
    page = search_page(found.trials, found.importance, output)[0]
    if as_json:
        typer.echo(found.trials.to_json(orient="records", indent=2))
        return
    say(str(found))
    end(
        [page, output / "trials.csv", output / "recipe.toml"],
        ["overread", "train", output, "--recipe", output / "recipe.toml"],
    )


#: Seconds that a process waits while another one reads the table and splits it.
SETTING_UP = 600.0
