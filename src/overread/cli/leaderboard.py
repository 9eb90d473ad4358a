"""Ranking several systems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from overread.cli.console import PointChoice, System, end, json_with_metrics, output_folder
from overread.cli.options import AllowSeen, AsJson, BootstrapSeed, Level, PredictionTable
from overread.core.errors import InputError, one_of


def leaderboard(
    systems: Annotated[list[Path], typer.Argument(help="runs' folders, or predictions .csv: two or more")],
    form: PredictionTable,
    part: Annotated[str, typer.Option(help="of a run: tuning (no look at the test set), or test (a look in each run's ledger)")] = "tuning",
    metric: Annotated[str, typer.Option(help="what to rank by; auc, macro auc or mae if not given")] = "",
    against: Annotated[str, typer.Option(help="what each is compared with: best, first, or one by its name")] = "best",
    level: Level = 0.95, seed: BootstrapSeed = 0, allow_seen: AllowSeen = False,
    output: Annotated[str, typer.Option("-o", "--output", help="folder; leaderboard/ here if not given")] = "leaderboard",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Rank runs or tables of predictions on the same cases: each metric with its interval, each difference with its own.

    Writes leaderboard.json, leaderboard.csv, metrics.json and leaderboard.html.
    """
    from overread.core.files import write_csv
    from overread.evaluation.comparison.leaderboard import leaderboard as rank
    from overread.evaluation.ledger import ledger_beside
    from overread.evaluation.operating_point import SEEN
    from overread.reporting.pages.leaderboard import leaderboard_page

    one_of(part, ("tuning", "test"), "part")
    if len(systems) < 2 or any(path.suffix == ".toml" for path in systems):
        raise InputError("a leaderboard ranks two or more runs or tables of predictions", given=" ".join(map(str, systems)),
                         todo="train each recipe first: overread run TABLE --recipe mine.toml -o runs/mine")  # fmt: skip
    folder = output_folder(output, Path("leaderboard"))
    names = _names(systems)
    found = {name: _system(path, part, form) for name, path in zip(names, systems, strict=True)}
    tables = {name: system.test for name, system in found.items()}
    tuned = {name: part == "tuning" and path.is_dir() for name, path in zip(names, systems, strict=True)}
    ledgers = {name: ledger_beside(path) for name, path in zip(names, systems, strict=True)
               if not (tuned[name] or tables[name].table["split"].isin(SEEN).all())}  # fmt: skip
    board = rank(tables, at={name: system.points for name, system in found.items()}, metric=metric, against=against,
                 level=level, seed=seed, ledgers=ledgers, allow_seen=allow_seen or any(tuned.values()))  # fmt: skip
    board.save(folder)
    write_csv(folder / "leaderboard.csv", board.rows())
    page = leaderboard_page(board, folder)
    if as_json:
        typer.echo(json_with_metrics(folder / "leaderboard.json"))
        return
    typer.echo(board.table())
    end([folder / "leaderboard.csv", folder / "leaderboard.json", page], f"open {page}")


def _system(path: Path, part: str, form: PredictionTable) -> System:
    """Of a run its part: the test part at what it has frozen, the tuning part at nothing, for that was chosen there."""
    from overread.study.steps import predictions_of

    if path.is_dir() and part == "tuning":
        return System(predictions_of(path, "tuning"), ())
    return PointChoice(form).system(path, "", "")


def _names(paths: list[Path]) -> list[str]:
    """The shortest endings of the paths that tell all of them apart."""
    parts = [[*p.resolve().parts[:-1], p.resolve().name if p.is_dir() else p.stem] for p in paths]
    for size in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-size:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    raise InputError("a system is given twice", given=" ".join(map(str, paths)), todo="give each once")
