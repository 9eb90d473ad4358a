"""The whole path in one command, and each of its stages as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from overread.cases.sources.layout import Layout
from overread.cli.console import bars, end, open_run, say
from overread.cli.options import AsJson, Budget, Folder, Machine, Only, Out, RecipeChoice, Table, Verbose
from overread.core.errors import InputError
from overread.core.phrases import command_of, count
from overread.study.question import Columns, Images, OperatingRule, Resources, SplitRule, Study, Training


def run(
    table: Table, columns: Columns, layout: Layout, images: Images, split: SplitRule, operating_point: OperatingRule, recipe: RecipeChoice,
    training: Training, resources: Resources, machine: Machine, output: Out = Path("runs/study"), verbose: Verbose = False,
) -> None:  # fmt: skip
    """From a table of images to report.html; called again, it goes on where it was stopped."""
    from overread.study import steps

    study = study_of(table, columns, layout, images, split, operating_point, recipe, training, resources)
    cache, network = machine.cache or None, not machine.offline
    with bars() as progress:
        page = steps.run(study, output, cache=cache, network=network, progress=progress, say=say, verbose=verbose)
    _show_result(output, verbose)
    end([page, output / "model", output / "evaluation" / "metrics.json"], ["open", page])


def study_of(
    table: str, columns: Columns, layout: Layout, images: Images, split: SplitRule, operating_point: OperatingRule, recipe: RecipeChoice,
    training: Training, resources: Resources,
) -> Study:  # fmt: skip
    """The question of a ``study.toml``, or of a table with its options."""
    if Path(table).suffix == ".toml":
        return Study.load(table, say).seen_from(Path(table).parent)
    training = replace(training, recipe=recipe_changes(recipe))
    return Study(table, columns, images, split, operating_point, training, resources, layout).seen_from(Path())


def demo(
    output: Out = Path("runs/demo"),
    patients: Annotated[int, typer.Option(min=40, help="patients of the phantom cohort")] = 240,
    seed: Annotated[int, typer.Option(min=0, help="of the cohort and of the training")] = 0,
    budget: Budget = "2m",
    verbose: Verbose = False,
) -> None:
    """The whole path on a phantom cohort: CPU, no network, about two minutes."""
    from overread.study import steps
    from overread.synthetic.cohort import draw_cohort

    table = output / "cohort" / "metadata.csv"
    if not table.exists():
        say(f"drawing a phantom cohort of {count(patients, 'patient')} under three microscopes")
        draw_cohort(output / "cohort", patients=patients, seed=seed)
    columns = Columns(
        image="image", label="diagnosis", patient="patient", source="microscope", subgroups=("sex", "age"), names="keep"
    )
    training = Training(seed=seed, recipe=recipe_changes(RecipeChoice()))
    study = Study(str(table.absolute()), columns, training=training, resources=Resources(budget=budget))
    with bars() as progress:
        page = steps.run(study, output, network=False, progress=progress, say=say, verbose=verbose)
    _show_result(output, verbose)
    end([page], f"{command_of(['open', page])}, then try your own table: overread run TABLE -o runs/mine")


# -- one stage each -----------------------------------------------------------------------------------------------


def audit(
    table: Table, columns: Columns, layout: Layout, images: Images, resources: Annotated[Resources, Only(("threads",))],
    machine: Annotated[Machine, Only(("cache",))], output: Out = Path("runs/study"), as_json: AsJson = False,
) -> None:  # fmt: skip
    """Is the table sound? Writes cases.csv, excluded.csv and audit.json; exit code 1 if there are errors."""
    from overread.cases.audit.audit import Audit
    from overread.study import steps

    study = Study(table, columns, images, resources=resources, layout=layout).seen_from(Path())
    with bars() as progress:
        study, cases = steps.open_study(study, output, progress)
    with open_run(study, output, machine.cache, quiet=as_json, table=cases) as context:
        steps.begin(context, cases)
        steps.audit(context)
    found = Audit.load(output / "audit.json")
    if as_json:
        typer.echo((output / "audit.json").read_text("utf-8"))
    else:
        typer.echo(str(found))
        end([output / "audit.json", output / "excluded.csv", output / "cases.csv"], ["overread", "split", output])
    if any(finding.severity == "error" for finding in found.findings):
        raise typer.Exit(1)


def split(folder: Folder, split: SplitRule, training: Annotated[Training, Only(("seed",))]) -> None:
    """Who trains, who tunes, who tests: by patient, with a proof. Writes split.csv and split.proof.json."""
    from overread.study import steps

    study = _amended(folder, vars(split) | {"seed": training.seed})
    with open_run(study, folder) as context:
        steps.split(context)
    end([folder / "split.csv", folder / "split.proof.json"], ["overread", "train", folder])


def train(
    folder: Folder, recipe: RecipeChoice, training: Annotated[Training, Only(("weights",))], resources: Resources, machine: Machine,
    seed: Annotated[int | None, typer.Option(min=0, help="that of the split if not given", rich_help_panel="How to train")] = None,
) -> None:  # fmt: skip
    """Train by a recipe; called again, it goes on where it was stopped. Writes model/."""
    from overread.study import steps

    weights = str(Path(training.weights).absolute()) if training.weights else ""
    changes = {"recipe": recipe_changes(recipe), "weights": weights, **vars(resources)}
    study = _amended(folder, changes if seed is None else {**changes, "seed": seed})
    steps.require_trainable(study, not machine.offline)
    with open_run(study, folder, machine.cache, offline=machine.offline) as context:
        steps.train(context)
    end([folder / "model" / "model.safetensors", folder / "model" / "model.json"], ["overread", "predict", folder])


# -- what they share ------------------------------------------------------------------------------------------------


def _show_result(folder: Path, verbose: bool) -> None:
    """The result in six lines, or every number of it."""
    from overread.evaluation.evaluate import Evaluation
    from overread.reporting.advice import brief
    from overread.reporting.run import read_run

    run = read_run(folder)
    if verbose and run.estimates:
        typer.echo(Evaluation.load(folder / "evaluation").table())
    for line in brief(run):
        typer.echo(line)


def recipe_changes(choice: RecipeChoice) -> dict[str, Any]:
    """The recipe's fields that differ from the defaults."""
    from overread.core.files import plain
    from overread.learning.recipe import Recipe, override

    chosen = {name: value for name, value in vars(choice).items() if value and name not in ("recipe", "settings")}
    recipe = override(Recipe.load(choice.recipe), list(choice.settings)).changed(**chosen)
    usual = plain(Recipe())
    return {name: value for name, value in plain(recipe).items() if value != usual[name] and name != "seed"}


def _amended(folder: Path, changes: dict[str, Any]) -> Study:
    """The folder's study with what this stage was asked for; written back, since it is the question now."""
    path = folder / "study.toml"
    if not path.exists():
        todo = "start with `overread audit TABLE -o FOLDER`"
        raise InputError("the folder holds no study", given=str(folder), todo=todo)
    study = Study.load(path, say).changed(**changes)
    study.save(path)
    return study
