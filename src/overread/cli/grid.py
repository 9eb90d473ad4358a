"""The factorial of recipe settings on one table, and cross-validation of one recipe or many."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overread.cases.sources.layout import Layout
from overread.cli.console import bars, end, json_with_metrics, output_folder, say
from overread.cli.options import AsJson, Level, Machine, Only, Out, RecipeChoice, Table, given_options
from overread.cli.run import refuse_masks, study_of
from overread.core.errors import InputError
from overread.study.question import Columns, Images, OperatingRule, Resources, SplitRule, Study, Training

if TYPE_CHECKING:
    from overread.study.factorial import Readers

#: Of the recipe all but the folds of an ensemble: here they are those of cross-validation.
_RECIPE = Only(("recipe", "epochs", "backbone", "image_size", "batch_size", "window", "crop", "fusion", "settings"))

#: Of the judgement all that the table tells.
_RULE = Only(
    (
        "rule",
        "sensitivity",
        "specificity",
        "cost",
        "prevalence",
        "decide",
        "cost_matrix",
        "primary",
        "margin",
        "margin_of",
    )
)
#: What may be said anew of a grid that is there: its judgement, and what it may use of the machine.
_ANEW = frozenset({*_RULE.names, "budget", "preset", "device", "threads"}) - {"margin", "margin_of"}
#: Options of the command itself.
_OWN = frozenset({"table", "vary", "folds", "part", "readers", "disagree", "finding", "reader_threshold", "modality", "metric", "against", "level",
                  "as_json", *(f.name for f in fields(Machine))})  # fmt: skip


def grid(
    context: typer.Context, table: Table, columns: Columns, layout: Layout, images: Images, split: SplitRule, operating_point: Annotated[OperatingRule, _RULE], recipe: Annotated[RecipeChoice, _RECIPE],
    training: Training, resources: Resources, machine: Machine,
    vary: Annotated[list[str], typer.Option(help="a factor: setting=value,value, or an array of TOML, 'augmentation=[{name=\"none\"}, {name=\"extra\", augmentation={turn=0.75}}]'; may be repeated")] = [],
    folds: Annotated[str, typer.Option(help="judge by cross-validation over all cases instead of a split: a number, or leave-one-out (by patient)")] = "",
    part: Annotated[str, typer.Option(help="tuning (no look at the test set), or test (a look in the ledgers)")] = "tuning",
    readers: Annotated[str, typer.Option(help="table of readers' calls who decide where two systems disagree: case, reader, label (or score); perfect: one who is never wrong")] = "",
    disagree: Annotated[list[str], typer.Option(help="a system of that rule, by its name in the table, given twice; the best two on tuning data if not given")] = [],
    finding: Annotated[str, typer.Option(help="what that rule is told of, where there are several findings; the first if not given")] = "",
    reader_threshold: Annotated[float | None, typer.Option(help="least score of a reader that counts as positive")] = None,
    modality: Annotated[str, typer.Option(help="which modality of the readers' table")] = "",
    metric: Annotated[str, typer.Option(help="what to rank by; auc, macro auc or mae if not given")] = "",
    against: Annotated[str, typer.Option(help="what each is compared with: best, first, or one by its name")] = "best",
    level: Level = 0.95, output: Out = Path("runs/grid"), as_json: AsJson = False,
) -> None:  # fmt: skip
    """Train every combination of settings on one table and one split, and judge all; called again, it goes on.

    Writes grid.json, grid.csv, metrics.json, grid.html, a run for each cell below cells/, and disagreement/ for the rule.
    TABLE may be the folder of a grid: what is missing is trained, and it is judged again, by another rule if one is given.
    """
    from overread.study.factorial import factors_of, parse_vary
    from overread.study.factorial import grid as train_grid
    from overread.study.published import as_published, load_system

    if again := (Path(table) / "vary.json").exists():
        study, varied = _reopened(Path(table), vary, folds)
        study = _changed_by(context, study, output, Path(table))
        output = Path(table)
    else:
        study = study_of(table, columns, layout, images, split, operating_point, recipe, training, resources)
        refuse_masks(study, "a grid of trainings")
        system, varied = load_system(recipe.recipe), parse_vary(vary)
        if system is not None:
            study, varied = as_published(study, system, given_options(context)), varied or dict(system.vary)
        study = study.changed(folds=folds) if folds else study
    factors_of(varied)
    output_folder(str(output), output)
    asked = _readers(readers, disagree, reader_threshold, modality, finding)
    with bars() as progress:
        found = train_grid(study, varied, output, part=part, readers=asked, metric=metric, against=against, level=level,
                           cache=machine.cache or None, network=not machine.offline, progress=progress, say=say)  # fmt: skip
    if as_json:
        typer.echo(json_with_metrics(output / "grid.json"))
        return
    typer.echo(found.table())
    if asked and (output / "disagreement" / "disagreement.json").exists():
        from overread.evaluation.comparison.disagreement import Disagreement

        typer.echo("\n" + Disagreement.load(output / "disagreement").table())
    page = output / "grid.html"
    more = "" if part == "test" or found.folds or again else f"; overread grid {output} --part test opens the test set"
    end([output / "grid.csv", output / "grid.json", page], f"open {page}{more}")


def _reopened(folder: Path, vary: list[str], folds: str) -> tuple[Study, dict[str, Any]]:
    """The study and the factors of a grid that is there, with the levels that are given besides."""
    from overread.core.files import read_json
    from overread.study.factorial import parse_vary

    held, study = read_json(folder / "vary.json"), Study.load(folder / "study.toml")
    kept = {name: [{"name": level, **fields} for level, fields in levels.items()] for name, levels in held.items()}
    for name, values in parse_vary(vary).items():
        if name not in kept:
            raise InputError("a grid that is there can have more levels, and no more factors", given=name,
                             todo="make another grid: -o FOLDER")  # fmt: skip
        kept[name] += [value for value in values if not _is_known(name, value, kept[name])]
    if folds and folds != study.split.folds:
        raise InputError("the grid was judged otherwise", given=f"--folds {folds}; before: {study.split.folds or 'one split'}",
                         todo="make another grid: -o FOLDER")  # fmt: skip
    return study, kept


def _is_known(factor: str, value: Any, kept: list[dict[str, Any]]) -> bool:
    """Whether a level that is typed sets what one does that is there, under its name; a table without a name: under any."""
    from overread.study.factorial import factors_of

    ((level,),) = (found.levels for found in factors_of({factor: [value]}))
    unnamed = isinstance(value, dict) and "name" not in value
    return any(
        level.changes == {k: v for k, v in each.items() if k != "name"} and (unnamed or level.name == each["name"])
        for each in kept
    )


def _changed_by(context: typer.Context, study: Study, output: Path, folder: Path) -> Study:
    """The study of a grid that is there, judged by what was typed. Raises :class:`InputError` for what would be another grid."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    typed = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"} - _OWN
    if output.absolute() == folder.absolute():
        typed -= {"output"}
    if other := sorted(typed - _ANEW):
        raise InputError("a grid that is there keeps its table, its split and its recipe", given=", ".join(f"--{name.replace('_', '-')}" for name in other),
                         todo="leave this out, or make another grid from the table: -o FOLDER")  # fmt: skip
    changes = {name: context.params[name] for name in typed}
    if typed & {"rule", "sensitivity", "specificity", "cost"}:  # one way to choose takes the place of another
        changes = {"rule": "youden", "sensitivity": 0.0, "specificity": 0.0, "cost": 0.0} | changes
    if typed & {"budget", "preset"}:
        changes = {"budget": "", "preset": ""} | changes
    return study.changed(**changes).seen_from(Path())


def _readers(table: str, systems: list[str], threshold: float | None, modality: str, finding: str) -> Readers | None:
    from overread.study.factorial import Readers

    if not table and not systems:
        return None
    return Readers("" if table == "perfect" else table, tuple(systems), threshold, modality, finding)
