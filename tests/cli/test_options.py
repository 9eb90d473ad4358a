"""Options come from fields, help shows what most people need first, and the reference names every option."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import dataclass, fields

import pytest
import typer
from typer.testing import CliRunner

from overread.cases.sources.layout import Layout
from overread.cli import run
from overread.cli.main import app
from overread.cli.options import Machine, RecipeChoice, expanded
from overread.core.settings import setting, settings
from overread.learning.recipe import Recipe
from overread.study.question import ClassTree, Columns, Images, OperatingRule, Resources, SplitRule, Training

GROUPS = (Columns, Layout, Images, SplitRule, OperatingRule, RecipeChoice, Training, Resources, Machine, ClassTree)
STAGES = ("run", "audit", "split", "train", "predict")


def flag(kind: type, name: str) -> str:
    return settings(kind)[name].option or "--" + name.replace("_", "-")


def leaves(command, path=()) -> dict[str, object]:
    if hasattr(command, "commands"):
        return {k: v for name, child in command.commands.items() for k, v in leaves(child, (*path, name)).items()}
    return {" ".join(path): command}


COMMANDS = leaves(typer.main.get_command(app))


def options(name: str) -> dict[str, object]:
    found = {}
    for parameter in COMMANDS[name].params:
        if parameter.param_type_name == "option":
            found |= dict.fromkeys(parameter.opts, parameter)
    return found


def test_run_has_an_option_for_each_field_and_no_other() -> None:
    wanted = {flag(kind, name) for kind in GROUPS for name, about in settings(kind).items() if about.offered}
    wanted |= {entry.also for kind in GROUPS for entry in settings(kind).values() if entry.offered and entry.also}
    assert set(options("run")) == wanted | {"-o", "--output", "--verbose", "--readers"}


@pytest.mark.parametrize("stage", STAGES)
def test_an_option_says_what_its_field_says(stage) -> None:
    about = {flag(kind, name): entry for kind in GROUPS for name, entry in settings(kind).items() if entry.offered}
    about |= {entry.also: entry for entry in about.values() if entry.also}
    own = {
        "--output",
        "-o",
        "--json",
        "--seed",
        "--names",
        "--verbose",
        "--one-case",
        "--as-trained",
        "--readers",
    }  # of the command itself in some stages
    wrong = [name for name, option in options(stage).items() if name not in own and
             (option.help, option.min, option.max, option.envvar or "") != (about[name].help, about[name].least, about[name].most, about[name].env)]  # fmt: skip
    assert not wrong


def test_every_option_says_what_it_is_for() -> None:
    assert not [
        f"{command} {name}" for command in COMMANDS for name, option in options(command).items() if not option.help
    ]


def test_the_reference_names_every_option(root) -> None:
    text = (root / "docs/reference/command-line.md").read_text("utf-8")
    named = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", text))
    missing = {name for command in COMMANDS for name in options(command)} - named
    assert not {name for name in missing if not name.startswith("--no-")}


def test_the_recipe_has_what_its_options_set() -> None:
    defaults = {f.name: f.default for f in fields(Recipe)}
    chosen = {
        name: about.default for name, about in settings(RecipeChoice).items() if name not in ("recipe", "settings")
    }
    usual = {name: defaults[name] for name in chosen}
    assert {name: value or usual[name] for name, value in chosen.items()} == usual  # blank: what the recipe says


def test_help_shows_ten_options_first_then_the_rest_under_headings() -> None:
    said = CliRunner().invoke(app, ["run", "--help"]).output
    sections = dict(zip(re.findall(r"^(\S.*):$", said, re.M), re.split(r"^\S.*:$", said, flags=re.M)[1:], strict=True))
    first = set(re.findall(r"^  .*?(--[a-z-]+)", sections["Options"], re.M)) - {"--help"}
    assert first == {
        "--image",
        "--label",
        "--patient",
        "--source",
        "--subgroup",
        "--sensitivity",
        "--recipe",
        "--weights",
        "--budget",
        "--output",
    }
    assert {"What the table holds", "Who trains, who tests", "How to judge", "How to train"} <= set(sections)
    assert "--resplit" in sections["Who trains, who tests"]


def test_help_loads_nothing_heavy() -> None:
    code = ("import sys; from overread.cli.main import main; sys.argv = ['overread', 'run', '--help']\ntry: main()\nexcept SystemExit: pass\n"
            "print([m for m in ('numpy', 'pandas', 'torch', 'pydantic', 'beartype', 'rich', 'matplotlib') if m in sys.modules], file=sys.stderr)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr.strip() == "[]", done.stderr
    assert "--image" in done.stdout


@dataclass(frozen=True)
class Loan:
    """How to lend: books."""

    days: int = setting(14, "how long", least=1, most=60)
    to: tuple[str, ...] = setting((), "readers")
    about: tuple[str, ...] = setting((), "subjects", option="--subject", repeated=True)
    remind: bool = setting(True, "no letter", option="--silent")


def test_a_new_field_is_a_new_option() -> None:
    given = []
    loans = typer.Typer(rich_markup_mode=None)

    def lend(book: str, loan: Loan) -> None:
        given.append((book, loan))

    loans.command()(expanded(lend))
    answer = CliRunner().invoke(
        loans, ["atlas", "--days", "7", "--to", "a, b", "--subject", "x", "--subject", "y", "--silent"]
    )
    assert answer.exit_code == 0, answer.output
    assert CliRunner().invoke(loans, ["atlas"]).exit_code == 0
    assert CliRunner().invoke(loans, ["atlas", "--days", "61"]).exit_code == 2
    assert given == [("atlas", Loan(7, ("a", "b"), ("x", "y"), False)), ("atlas", Loan())]
    panel = inspect.signature(expanded(lend)).parameters["days"].annotation.__metadata__[0].rich_help_panel
    assert panel == "How to lend", "the first words of the group's docstring"


def test_a_recipe_holds_what_differs_from_the_defaults() -> None:
    choice = RecipeChoice("scratch", epochs=3, settings=("augmentation.rotate=20",))
    made = run.recipe_changes(choice)
    assert made["epochs"] == 3
    assert made["augmentation"]["rotate"] == 20
    assert made["augment"] == "given"
    assert "patience" not in made


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--sensitivity", "95"], "write 0.95"),
        (["--sensitivity=90%"], "write 0.9"),
        (["--prevalence", "3"], "write 0.03"),
        (["--sensitivity", "-1"], ""),
        (["--sensitivity", "high"], ""),
        (["--epochs", "-3"], ""),
    ],
)
def test_a_share_in_per_cent_is_told_how_to_write_it(words, hint):
    answer = CliRunner().invoke(app, ["run", "t.csv", *words])
    assert answer.exit_code == 2
    assert ("It is a share" in answer.output) == bool(hint)
    assert hint in answer.output
