"""Every command answers ``--help``, and a wrong call ends with one paragraph and exit code 2."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

if importlib.util.find_spec("overread.cli.main") is None:
    pytest.skip("there is no command line yet", allow_module_level=True)

import typer
from click import Command, Group
from typer.testing import CliRunner

from overread.cli.main import app

WANTED = {"demo", "run", "audit", "split", "train", "predict", "evaluate", "report", "weights", "data"}


def commands(command: Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    if isinstance(command, Group) or hasattr(command, "commands"):
        for name, child in command.commands.items():
            found += commands(child, (*path, name))
    return found


ALL = commands(typer.main.get_command(app))


def test_every_command_answers_help():
    answers = {" ".join(command): CliRunner().invoke(app, [*command, "--help"]) for command in ALL}
    assert not {name: a.output for name, a in answers.items() if a.exit_code or "Usage" not in a.output}


def test_the_commands_of_the_design_exist():
    assert not WANTED - {command[0] for command in ALL if command}


ANSWERS = [("recipes",), ("doctor",), ("data", "list"), ("weights", "list"), ("weights", "where")]


@pytest.mark.parametrize("command", ANSWERS, ids=" ".join)
def test_what_only_answers_does(command):
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 0, answer.exception
    assert answer.output.strip()
    assert "Path(" not in answer.output, "a person reads this"


@pytest.mark.parametrize("command", ANSWERS[:-1], ids=" ".join)
def test_json_is_json(command):
    answer = CliRunner().invoke(app, [*command, "--json"])
    assert answer.exit_code == 0, answer.exception
    json.loads(answer.stdout)


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("run",), ("run", "no such table.csv", "-o", "no such folder"), ("run", "--seed", "x", "y.csv")],
    ids=" ".join,
)
def test_a_wrong_call_ends_with_two_and_no_traceback(arguments, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "from overread.cli.main import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stderr.strip()
    assert not list(tmp_path.iterdir()), "a refused call leaves nothing behind"
