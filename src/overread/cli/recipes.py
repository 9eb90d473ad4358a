"""Recipes: which there are, what a published one says line by line, and how it is run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overread.cli.console import end, say, table
from overread.cli.options import AsJson, Commands
from overread.core.errors import InputError, OverreadError, nearest
from overread.core.phrases import command_of

if TYPE_CHECKING:
    from overread.study.published import PublishedSystem

#: How typer says that a call is wrong; its class is told apart by one of those that it offers.
_WrongCall: type[Exception] = typer.BadParameter.__bases__[0]

recipes_app = typer.Typer(
    cls=Commands,
    invoke_without_command=True,
    help="Recipes that can be asked for: the general ones, and the published systems with what they need.",
)


@recipes_app.callback()
def recipes(
    context: typer.Context,
    networks: Annotated[bool, typer.Option("--networks", help="the networks that can be asked for by --backbone, with parameters, published accuracy, licence")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Recipes that can be asked for: the general ones, and the published systems with what they need."""
    from overread.core.files import plain
    from overread.learning.recipe import Recipe, bundled
    from overread.networks.backbones import BACKBONES
    from overread.study.published import systems

    if context.invoked_subcommand:
        return
    published = systems()
    if as_json:
        held = {"recipes": bundled(), "published": {name: asdict(system) for name, system in published.items()},
                "backbones": [asdict(b) for b in BACKBONES.values()], "fields": list(Recipe.__dataclass_fields__)}  # fmt: skip
        typer.echo(json.dumps(plain(held), indent=2))
        return
    if networks:
        rows = [
            (b.name, f"{b.parameters:,}", *(f"{share:.1f}" if share else "–" for share in (b.top1, b.top5)), str(b.size), b.licence, b.source)
            for b in BACKBONES.values()
        ]  # fmt: skip
        table(("backbone", "parameters", "top-1 %", "top-5 %", "input", "licence", "paper"), rows)
        return
    general = [name for name in bundled() if name not in published]
    typer.echo("general: " + ", ".join(general))
    if published:
        typer.echo("\npublished systems:")
        table(("recipe", "paper", "asks", "the table must hold"),
              [(name, s.paper.citation, s.paper.asks, ", ".join(s.needs) or "images and labels") for name, s in published.items()])  # fmt: skip
        typer.echo("\nline by line: overread recipes show NAME; on phantoms, in minutes: overread demo --recipe NAME")
    typer.echo("\nnetworks: overread recipes --networks\nfields for --set: " + ", ".join(Recipe.__dataclass_fields__))


@recipes_app.command()
def show(
    name: Annotated[str, typer.Argument(help="a name of `overread recipes`, or a .toml file")], as_json: AsJson = False
) -> None:
    """A recipe line by line: each field, what the paper says of it and where, and the paper's numbers."""
    from overread.core.files import plain
    from overread.learning.recipe import Recipe, recipe_file
    from overread.study.published import explained, load_system

    system = load_system(name)
    if as_json:
        typer.echo(json.dumps(plain(system if system is not None else Recipe.load(name)), indent=2))
        return
    if system is None:
        typer.echo(Path(recipe_file(name)).read_text("utf-8").rstrip())
        return
    paper = system.paper
    typer.echo(
        f"{system.name}: {paper.title}\n{paper.authors} ({paper.year}), doi:{paper.doi}\n{paper.asks}\nTheir data: {paper.data}"
    )
    for heading, rows in {
        "What the table must hold": list(system.needs.items()),
        "Line by line": [(field if not value else f"{field} = {value}", text) for field, value, text in explained(system)],
        "The paper's numbers": [(n.what, f"{n} [{n.where}]" + (f" beside {n.ours}" if n.ours else f"; nothing beside it: {n.why}")) for n in system.published],
        "On phantoms, in minutes": [("", line) for line in system.differences()],
    }.items():  # fmt: skip
        if rows:
            typer.echo(f"\n{heading}")
            for first, text in rows:
                typer.echo(f"  {first}" + (f"\n      {text}" if text and first else text))
    typer.echo("")
    needed = "".join(f" {option}" for option in system.needed_options)
    typer.echo(
        f"run it: overread run TABLE --recipe {name}{needed} -o runs/{system.name}\non phantoms: overread demo --recipe {name}"
    )


def follow(
    program: Any, system: PublishedSystem, folder: Path, places: dict[str, str], *, reduced: tuple[str, ...] = ()
) -> None:
    """Run the commands of ``program`` that follow a published system's run, and print the paper's table with the run's
    numbers beside it.

    A command that cannot be run is left out with its reason, which stands in the table.
    """
    from overread.core.files import read_json, write_json
    from overread.evaluation.comparison.beside_paper import BesidePaper
    from overread.study.published import TABLE_FOLDER, commands, judged_by, write_beside

    done, page = folder / TABLE_FOLDER / "judged.json", folder / TABLE_FOLDER / "published.html"
    if (
        done.exists() and page.exists() and read_json(done) == judged_by(system, folder, places)
    ):  # another look at the test set would tell nothing new
        found = BesidePaper.load(folder / TABLE_FOLDER)
    else:
        left_out, failed = [], False
        for line, (words, reason) in zip(system.then, commands(system, {**places, "run": str(folder)}), strict=True):
            say(f"\n{command_of(['overread', *words])}" + (f"\n  left out: {reason}" if reason else ""))
            if not reason and (reason := _run(program, words)):
                failed = True  # what was in its way may be gone the next time
            if reason:
                left_out.append(f"overread {line}: {reason}")  # as the recipe has it: paths may name people
        found = write_beside(system, folder, left_out=left_out, reduced=reduced)
        write_json(done, "" if failed else judged_by(system, folder, places))
        if (folder / "report.html").exists():
            _run(program, ["report", str(folder)])  # it names the pages that lie beside it now
    typer.echo("\n" + found.table())
    end([page, page.with_suffix(".json")], ["open", page])


def make(program: Any, system: PublishedSystem, folder: Path, places: dict[str, str], seed: int) -> None:
    """Make the run of a system that has a command of its own for it. Raises what that command raises."""
    from overread.study.published import maker

    words = [*maker(system, {**places, "run": str(folder)}), "--seed", str(seed)]
    say(command_of(["overread", *words]))
    if reason := _called(program, words):
        raise InputError(
            "the command of the recipe did not end well", given=command_of(["overread", *words]), todo=reason
        )


def _run(program: Any, words: list[str]) -> str:
    """Run one command of this program; why it did not end well, blank where it did."""
    try:
        return _called(program, words)
    except OverreadError as error:
        say(f"  left out: {error}")
        return error.what


def _called(program: Any, words: list[str]) -> str:
    try:
        code = program.main(words, prog_name="overread", standalone_mode=False)
    except _WrongCall as error:
        given = command_of(["overread", *words])
        raise InputError("a command of the recipe is wrong", given=given, todo=str(error)) from error
    return f"it ended with code {code}" if isinstance(code, int) and code else ""


def readers_beside(table_path: str, readers: str) -> str:
    """The table of readers' answers: as it was given, else ``readers.csv`` beside the study's table; blank where there is none."""
    if readers:
        if not Path(readers).exists():
            raise InputError("there is no such table of readers", given=readers, todo=nearest(Path(readers).name, [p.name for p in Path(readers).absolute().parent.glob("*.csv")]))  # fmt: skip
        return readers
    beside = Path(table_path).parent / "readers.csv"
    return str(beside) if beside.exists() else ""
