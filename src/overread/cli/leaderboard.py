"""Ranking several systems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from overread.cli.console import (
    PointChoice,
    System,
    at_level,
    bars,
    end,
    json_with_metrics,
    open_run,
    output_folder,
    say,
)
from overread.cli.options import AllowSeen, AsJson, BootstrapSeed, Level, Machine, PredictionTable, RecipeChoice
from overread.cli.run import recipe_changes
from overread.core.errors import InputError, one_of
from overread.study.question import Study


def leaderboard(
    systems: Annotated[list[Path], typer.Argument(help="runs' folders, predictions .csv, or recipes .toml, which are trained on the table and the split of the first run")],
    form: PredictionTable, machine: Machine,
    part: Annotated[str, typer.Option(help="of a run: tuning (no look at the test set), or test (a look in each run's ledger)")] = "tuning",
    metric: Annotated[str, typer.Option(help="what to rank by; auc, macro auc or mae if not given")] = "",
    against: Annotated[str, typer.Option(help="what each is compared with: best, first, or one by its name")] = "best",
    level: Level = 0.95, seed: BootstrapSeed = 0, allow_seen: AllowSeen = False,
    output: Annotated[str, typer.Option("-o", "--output", help="folder; leaderboard/ here if not given")] = "leaderboard",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Rank runs, recipes or tables of predictions on the same cases: each metric with its interval, each difference too.

    Writes leaderboard.json, leaderboard.csv, metrics.json, leaderboard.html, and a run for each recipe.
    """
    from overread.core.files import write_csv
    from overread.evaluation.comparison.leaderboard import leaderboard as rank
    from overread.evaluation.ledger import ledger_beside
    from overread.evaluation.metrics import METRICS
    from overread.evaluation.operating_point import SEEN
    from overread.reporting.pages.leaderboard import leaderboard_page

    one_of(part, ("tuning", "test"), "part")
    if len(systems) < 2:
        raise InputError(
            "a leaderboard ranks two or more runs, recipes or tables of predictions", given=" ".join(map(str, systems))
        )
    recipes, first = _recipes(systems), next((path for path in systems if path.is_dir()), None)
    if recipes and first is None:
        raise InputError("recipes are trained on the table and the split of a run, and none is given", given=" ".join(map(str, recipes)),
                         todo="name a run too: overread run TABLE -o runs/mine")  # fmt: skip
    names = _names(systems)
    one_of(against, ("best", "first", *names), "against")
    folder = output_folder(output, Path("leaderboard"))
    given = {path: _system(path, part, form) for path in systems if path not in recipes}  # what is wrong is said now
    if metric:
        one_of(metric.partition(":")[0].strip(), dict.fromkeys(each.name for each in METRICS), "metric")
    trained = {path: _trained(path, first, folder / "runs" / path.stem, machine) for path in recipes if first}
    found = {name: given[path] if path in given else _system(trained[path], part, form) for name, path in zip(names, systems, strict=True)}  # fmt: skip
    systems = [trained.get(path, path) for path in systems]
    tables = {name: system.test for name, system in found.items()}
    tuned = {name: part == "tuning" and path.is_dir() for name, path in zip(names, systems, strict=True)}
    ledgers = {name: ledger_beside(path) for name, path in zip(names, systems, strict=True)
               if not (tuned[name] or tables[name].table["split"].isin(SEEN).all())}  # fmt: skip
    board = rank(tables, at={name: system.points for name, system in found.items()}, metric=metric, against=against,
                 level=level, seed=seed, ledgers=ledgers, allow_seen=allow_seen or any(tuned.values()))  # fmt: skip
    board.save(folder)
    write_csv(folder / "leaderboard.csv", board.to_frame())
    page = leaderboard_page(board, folder)
    if as_json:
        typer.echo(json_with_metrics(folder / "leaderboard.json"))
        return
    typer.echo(board.table())
    end([folder / "leaderboard.csv", folder / "leaderboard.json", page], f"open {page}")


def _recipes(systems: list[Path]) -> list[Path]:
    """The recipes among the systems; all can be read before the first is trained."""
    found = [path for path in systems if path.suffix == ".toml"]
    for path in found:
        recipe_changes(RecipeChoice(recipe=str(path)))
    if len({path.stem for path in found}) < len(found):
        raise InputError(
            "recipes need names of their own", given=" ".join(map(str, found)), todo="rename one of the files"
        )
    return found


def _trained(recipe: Path, like: Path, folder: Path, machine: Machine) -> Path:
    """The run of a recipe on the table and the split of the run ``like``, up to its predictions: no look at its test part."""
    from overread.study import steps
    from overread.study.run_like import run_like

    study = Study.load(like / "study.toml").changed(recipe=recipe_changes(RecipeChoice(recipe=str(recipe))))
    steps.require_trainable(study, not machine.offline)
    say(f"{recipe} on the table and the split of {like}:")
    with bars() as progress:
        study, cases = steps.open_study(study, folder, progress)
    with open_run(study, folder, machine.cache, offline=machine.offline, table=cases) as context:
        run_like(context, cases, like)
    return folder


def _system(path: Path, part: str, form: PredictionTable) -> System:
    """Of a run its part: the test part at what it has frozen, the tuning part at nothing, for that was chosen there."""
    from overread.study.context import predictions_of

    if path.is_dir() and part == "tuning":
        return System(at_level(path, predictions_of(path, "tuning"), form), ())
    return PointChoice(form).system(path, "", "")


def _names(paths: list[Path]) -> list[str]:
    """The shortest endings of the paths that tell all of them apart."""
    parts = [[*p.resolve().parts[:-1], p.resolve().name if p.is_dir() else p.stem] for p in paths]
    for size in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-size:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError("a system is given twice", given=" ".join(map(str, paths)), todo="give each once")
