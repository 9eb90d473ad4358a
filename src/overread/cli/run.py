"""The whole path in one command, and each of its stages as one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from overread.cases.sources.layout import Layout
from overread.cli.console import bars, end, open_run, say
from overread.cli.options import AsJson, Budget, Folder, Machine, Only, Out, RecipeChoice, Table, Verbose, given_options
from overread.core.errors import InputError
from overread.core.phrases import count
from overread.study.question import ClassTree, Columns, Images, OperatingRule, Resources, SplitRule, Study, Training

if TYPE_CHECKING:
    from overread.study.published import PublishedSystem


def run(
    context: typer.Context, table: Table, columns: Columns, layout: Layout, images: Images, split: SplitRule, operating_point: OperatingRule,
    recipe: RecipeChoice, training: Training, resources: Resources, machine: Machine, class_tree: ClassTree, output: Out = Path("runs/study"),
    verbose: Verbose = False,
    readers: Annotated[str, typer.Option(help="of a published system: the readers' answers to the test part; readers.csv beside the table if not given", rich_help_panel="How to train")] = "",
) -> None:  # fmt: skip
    """From a table of images to report.html; called again, it goes on where it was stopped.

    With the recipe of a published system (see `overread recipes`) the commands of the paper follow, and its own table
    with this run's numbers beside it.
    """
    from overread.study.published import as_published, copy_in, kept_copy, load_system

    study = study_of(table, columns, layout, images, split, operating_point, recipe, training, resources, class_tree)
    again = copy_in(Path(table).parent) if Path(table).suffix == ".toml" else None
    fresh = load_system(recipe.recipe) if Path(table).suffix != ".toml" else None
    if again is None and fresh is None:
        if study.split.folds:
            return _run_grid(study, {}, machine, output)
        if readers:
            raise InputError("readers follow a published system only", given=f"--readers {readers}", todo="see overread recipes, or call: overread readers")  # fmt: skip
        return _run(study, machine, output, verbose)
    if again is not None:
        system, file, reduced = again
    else:
        system, file, reduced = cast("PublishedSystem", fresh), Path(recipe.recipe), ()
        given = given_options(context)
        if system.command and (
            unused := sorted(
                given - {"table", "recipe", "output", "seed", "readers", "verbose", "cache", "weights", "offline"}
            )
        ):
            raise InputError("the run of this system is made by another command, which takes other options", given=", ".join(unused),
                             todo=f"leave them out, or call it yourself: overread {system.command.split()[0]} --help")  # fmt: skip
        study = as_published(study, system, given)
    with kept_copy(file, output, reduced=bool(reduced)):
        _run_system(context, system, study, machine, output, verbose, readers, reduced)


def _run(study: Study, machine: Machine, output: Path, verbose: bool) -> None:
    from overread.study import steps

    cache, network = machine.cache or None, not machine.offline
    with bars() as progress:
        page = steps.run(study, output, cache=cache, network=network, progress=progress, say=say, verbose=verbose)
    _show_result(output, verbose)
    end([page, output / "model", output / "evaluation" / "metrics.json"], ["open", page])


def _run_grid(study: Study, vary: dict[str, list[Any]], machine: Machine, output: Path, readers: str = "") -> None:
    """Every cell of a factorial, judged on the test part or, where the study has folds, by cross-validation."""
    from overread.study.factorial import Readers, grid

    asked = None if study.split.folds else Readers(readers)
    with bars() as progress:
        found = grid(study, vary, output, part="test", readers=asked, cache=machine.cache or None, network=not machine.offline, progress=progress, say=say)  # fmt: skip
    typer.echo(found.table())
    end([output / "grid.html", output / "grid.csv"], ["open", output / "grid.html"])


def _run_system(
    context: typer.Context, system: PublishedSystem, study: Study, machine: Machine, output: Path, verbose: bool, readers: str = "", reduced: tuple[str, ...] = ()
) -> None:  # fmt: skip
    """A published system: its run, the commands that follow, the paper's table with ours beside it."""
    from overread.cli.recipes import follow, make, readers_beside

    places = {"table": study.table, "readers": readers_beside(study.table, readers)}
    say(f"{system.name}: {system.paper.title} ({system.paper.citation})")
    for line in reduced:
        say(f"  reduced: {line}")
    if system.command:
        make(context.find_root().command, system, output, places, study.training.seed)
    elif system.vary or study.split.folds:
        _run_grid(study, system.vary, machine, output, places["readers"])
    else:
        _run(study, machine, output, verbose)
    follow(context.find_root().command, system, output, places, reduced=reduced)


def study_of(
    table: str, columns: Columns, layout: Layout, images: Images, split: SplitRule, operating_point: OperatingRule, recipe: RecipeChoice,
    training: Training, resources: Resources, class_tree: ClassTree | None = None,
) -> Study:  # fmt: skip
    """The question of a ``study.toml``, or of a table with its options."""
    if Path(table).suffix == ".toml":
        return Study.load(table, say).seen_from(Path(table).parent)
    training = replace(training, recipe=recipe_changes(recipe))
    return Study(
        table, columns, images, split, operating_point, training, resources, layout, class_tree or ClassTree()
    ).seen_from(Path())


def refuse_masks(study: Study, what: str) -> None:
    """Refuse for outlines of objects what needs one answer a case."""
    if study.columns.mask:
        raise InputError(f"{what} is of models that give an answer to each case, and masks ask for outlines", given=f"--mask {study.columns.mask}",
                         todo="train one recipe after the other: overread run TABLE --mask … -o FOLDER, then overread compare FOLDER FOLDER")  # fmt: skip


def demo(
    context: typer.Context,
    output: Out = Path("runs/demo"),
    patients: Annotated[int, typer.Option(min=40, help="patients of the phantom cohort")] = 240,
    seed: Annotated[int, typer.Option(min=0, help="of the cohort and of the training")] = 0,
    budget: Budget = "2m",
    recipe: Annotated[str, typer.Option(help="a published system of `overread recipes`, on phantoms and made smaller, as its file says")] = "",
    kind: Annotated[str, typer.Option(help="classes: a diagnosis of each image; cells: outlines of touching cells under three microscopes; slides: metastases on whole slides of two scanners")] = "classes",
    verbose: Verbose = False,
) -> None:  # fmt: skip
    """The whole path on a phantom cohort: CPU, no network, about two minutes."""
    from overread.core.errors import one_of
    from overread.synthetic.cohort import draw_cohort

    given = given_options(context)
    if one_of(kind, ("classes", "cells", "slides"), "the kind of demo") != "classes":
        if unused := [f"--{name}" for name in ("patients", "recipe") if name in given]:
            raise InputError(f"the demo of {kind} draws its own images and has its own recipe", given=" and ".join(unused), todo="leave it out")  # fmt: skip
        demo_of = _demo_cells if kind == "cells" else _demo_slides
        return demo_of(output if "output" in given else Path("runs") / kind, seed, budget, verbose)
    if recipe:
        if unused := [f"--{name}" for name in ("patients", "budget") if name in given]:
            raise InputError("the file of a published system says how large its demo is", given=" and ".join(unused),
                             todo="leave them out, or copy the file, change its [reduced] and give its path to --recipe")  # fmt: skip
        home = output if "output" in given else Path("runs") / Path(recipe).stem
        return _demo_system(context, recipe, home, seed, verbose)
    table = output / "cohort" / "metadata.csv"
    if not table.exists():
        say(f"drawing a phantom cohort of {count(patients, 'patient')} under three microscopes")
        draw_cohort(output / "cohort", patients=patients, seed=seed)
    columns = Columns(
        image="image", label="diagnosis", patient="patient", source="microscope", subgroups=("sex", "age"), names="keep"
    )
    training = Training(seed=seed, recipe=recipe_changes(RecipeChoice()))
    study = Study(str(table.absolute()), columns, training=training, resources=Resources(budget=budget))
    _run(study, Machine(offline=True), output, verbose)
    say("next: try your own table: overread run TABLE -o runs/mine")


def _demo_cells(output: Path, seed: int, budget: str, verbose: bool) -> None:
    """Touching cells under three microscopes: outlined, judged by microscope, shown."""
    from overread.synthetic.cells.microscopes import draw_microscopes

    table = output / "cohort" / "metadata.csv"
    if not table.exists():
        say("drawing phantoms of touching cells under three microscopes, with the outline of each cell")
        with bars() as progress:
            draw_microscopes(output / "cohort", seed=seed, progress=progress)
    columns = Columns(
        image="image", mask="mask", patient="patient", source="microscope", pixel_size="pixel_size", names="keep"
    )
    small = RecipeChoice(
        recipe="scratch", settings=("segmentation.tile=128",)
    )  # the phantoms are small, and the time short
    training = Training(seed=seed, recipe=recipe_changes(small))
    study = Study(str(table.absolute()), columns, split=SplitRule(test=0.3, tuning=0.15), training=training, resources=Resources(budget=budget))  # fmt: skip
    _run(study, Machine(offline=True), output, verbose)
    say("next: try your own table: overread run TABLE --image image --mask mask -o runs/mine")


def _demo_slides(output: Path, seed: int, budget: str, verbose: bool) -> None:
    """Slides with islands of tumour under two scanners: learned by tiles, mapped, their lesions found and judged.

    Slides and tiles are those on which the system of Liu 2017 is shown; how it is learned and how a slide is scored is the plan's.
    """
    from overread.study.published import load_system
    from overread.synthetic import draw

    system = load_system(SLIDES_LIKE)
    assert system is not None
    small, table = system.reduced, output / "cohort" / "metadata.csv"
    if not table.exists():
        say("drawing phantom slides of two scanners, with the outlines of tumour")
        phantom = dict(small.phantom)
        with bars() as progress:
            draw(output / "cohort", phantom.pop("kind"), phantom, seed=seed, progress=progress)
    tiles = {name: value for name, value in small.recipe["tiles"].items() if name not in ("score", "window")}
    recipe = {name: small.recipe[name] for name in ("method", "backbone", "views")} | {"tiles": tiles}
    study = Study.from_flat(table=str(table.absolute()), **small.study, recipe=recipe, seed=seed, budget=budget)
    _run(study, Machine(offline=True), output, verbose)
    say("next: try your own table: overread run TABLE --image slide --label tumour --outlines FOLDER -o runs/mine")


#: The published system on whose phantom slides the demo of slides is.
SLIDES_LIKE = "liu2017"


def _demo_system(context: typer.Context, recipe: str, output: Path, seed: int, verbose: bool) -> None:
    """A published system on its phantom, made smaller as its file says."""
    from overread.core.files import plain, read_json, write_json
    from overread.study.published import kept_copy, load_system
    from overread.synthetic import draw

    system = load_system(recipe)
    if system is None or not system.reduced.phantom:
        raise InputError("the recipe is no published system with a phantom", given=recipe, todo="see overread recipes")
    phantom = dict(system.reduced.phantom)
    told = output / "cohort" / "drawn.json"
    held = read_json(told) if told.exists() else {}
    table = output / "cohort" / held.pop("table", "metadata.csv")
    drawn = plain({"phantom": phantom, "seed": seed})
    if table.exists() and held != drawn:
        raise InputError("the folder holds another cohort", given=str(output / "cohort"), todo="choose another folder with -o, or delete this one")  # fmt: skip
    if not table.exists():
        say(f"drawing phantoms: {', '.join(f'{name} {value}' for name, value in phantom.items())}")
        with bars() as progress:
            table = draw(output / "cohort", phantom.pop("kind"), phantom, seed=seed, progress=progress)
        write_json(told, drawn | {"table": table.name})
    small = system.smaller()
    fields = {name: value for name, value in small.recipe.items() if name != "seed"}
    study = Study.from_flat(table=str(table.absolute()), **small.options, recipe=fields, seed=seed).seen_from(Path())
    with kept_copy(recipe, output, reduced=True):
        _run_system(context, small, study, Machine(offline=True), output, verbose, reduced=system.differences())


# -- one stage each -----------------------------------------------------------------------------------------------


def audit(
    table: Table, columns: Columns, layout: Layout, images: Images, resources: Annotated[Resources, Only(("threads",))],
    machine: Annotated[Machine, Only(("cache",))], class_tree: ClassTree, output: Out = Path("runs/study"), as_json: AsJson = False,
) -> None:  # fmt: skip
    """Is the table sound? Writes cases.csv, excluded.csv and audit.json; exit code 1 if there are errors."""
    from overread.cases.audit.audit import Audit
    from overread.study import steps

    study = Study(table, columns, images, resources=resources, layout=layout, class_tree=class_tree).seen_from(Path())
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
        typer.echo((run.outlines or Evaluation.load(folder / "evaluation")).table())
    for line in brief(run):
        typer.echo(line)


def recipe_changes(choice: RecipeChoice) -> dict[str, Any]:
    """The recipe's fields that differ from the defaults."""
    from overread.learning.recipe import Recipe, differing, override

    chosen = {name: value for name, value in vars(choice).items() if value and name not in ("recipe", "settings")}
    return differing(override(Recipe.load(choice.recipe).changed(**chosen), list(choice.settings)))


def _amended(folder: Path, changes: dict[str, Any]) -> Study:
    """The folder's study with what this stage was asked for; written back, since it is the question now."""
    path = folder / "study.toml"
    if not path.exists():
        todo = "start with `overread audit TABLE -o FOLDER`"
        raise InputError("the folder holds no study", given=str(folder), todo=todo)
    study = Study.load(path, say).changed(**changes)
    study.save(path)
    return study
