"""Recipes on the command line: the list, one line by line, one run to the paper's table."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from overread.cli.main import app
from overread.cli.recipes import follow
from overread.core.errors import InputError
from overread.core.files import read_json, write_json
from overread.stats.estimate import Estimate
from overread.study.published import commands, load_system, maker, systems

FILE = """
name = "someone2015"
method = "features"
descriptors = ["colour"]
image_size = 64
penalties = [0.01]
then = ["evaluate {run}", "readers {readers} {run} -o {run}/readers", "leaderboard {run} {table}"]
[paper]
title = "A title"
authors = "Someone A, Other B"
year = 2015
doi = "10.1/x"
data = "93 films"
asks = "Healthy or ill?"
[study]
test = 0.3
[[published]]
what = "AUC"
value = 0.93
where = "Table 1"
ours = { file = "evaluation", metric = "auc" }
[[published]]
what = "kappa"
value = 0.6
where = "Table 2"
ours = { file = "readers", metric = "fleiss kappa" }
[sections]
descriptors = "Section 2.2: colour histograms"
[reduced]
phantom = { kind = "microscope", patients = 60, images_per_patient = [1, 1], size = 28 }
study = { image = "image", label = "diagnosis", patient = "patient", source = "microscope", names = "keep" }
recipe = { image_size = 28 }
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "someone2015.toml"
    path.write_text(FILE)
    return path


def call(*words: object) -> tuple[int, str]:
    answer = CliRunner().invoke(app, list(map(str, words)))
    return answer.exit_code, answer.output or repr(answer.exception)


def test_a_published_recipe_is_told_line_by_line(file) -> None:
    code, said = call("recipes", "show", file)
    assert code == 0
    for part in (
        "Someone A, Other B (2015)",
        "descriptors = colour\n      Section 2.2",
        "0.930 [Table 1] beside auc",
        "image_size 28 in place of 64",
        "overread demo --recipe",
    ):
        assert part in said


class Program:
    """A program whose ``evaluate`` ends well, and no other command."""

    def main(self, words: list[str], **how: object) -> int:
        if words[0] != "evaluate":
            raise InputError("these are no predictions")
        write_json(Path(words[1]) / "evaluation" / "metrics.json", [Estimate("auc", 0.8, 0.7, 0.9, of="ill")])
        return 0


def test_what_cannot_follow_is_left_out_with_its_reason(file, tmp_path, capsys) -> None:
    follow(Program(), load_system(file), tmp_path / "run", {"table": "t.csv", "readers": ""})
    said = capsys.readouterr().out
    assert "0.800 (0.700–0.900)" in said
    assert "left out: overread readers {readers} {run}" in said
    assert "there is no table of readers: give --readers FILE" in said
    assert "these are no predictions" in said
    assert "not made: fleiss kappa in readers/metrics.json" in said


def test_what_failed_is_tried_again_and_what_ended_well_is_not(file, tmp_path, capsys) -> None:
    places = {"table": "t.csv", "readers": ""}
    file.write_text(FILE.replace(', "leaderboard {run} {table}"', ""))  # the readers alone are left out: there are none
    for program in (Program(), None, None):  # whoever has ended well is not asked again
        follow(program, load_system(file), tmp_path / "well", places)
    file.write_text(FILE)
    follow(Program(), load_system(file), tmp_path / "ill", places)
    with pytest.raises(AttributeError):
        follow(None, load_system(file), tmp_path / "ill", places)


def test_a_demo_of_a_system_refuses_what_its_file_decides(file) -> None:
    with pytest.raises(InputError, match="--patients"):
        CliRunner().invoke(app, ["demo", "--recipe", str(file), "--patients", "60"], catch_exceptions=False)


@pytest.mark.slow
def test_a_demo_ends_in_the_papers_table(file, tmp_path) -> None:
    code, said = call("demo", "--recipe", file, "-o", tmp_path / "run")
    assert code == 0, said
    assert "left out: there is no table of readers: give --readers FILE" in said
    held = read_json(tmp_path / "run" / "published" / "published.json")
    auc, kappa = held["rows"]
    ours = [
        e
        for e in read_json(tmp_path / "run" / "evaluation" / "metrics.json")
        if e["metric"] == "auc" and not e["where"]
    ]
    assert auc["ours"]["value"] == ours[0]["value"]
    assert (kappa["ours"], kappa["missing"][:8]) == (None, "not made")
    assert len(held["left_out"]) == 2, "the leaderboard of a table without predictions is left out, too"
    page = (tmp_path / "run" / "published" / "published.html").read_text()
    assert "Section 2.2: colour histograms" in page
    assert "Run in a reduced form" in page


@pytest.mark.parametrize("name", sorted(systems()))
def test_the_commands_that_follow_a_system_are_ones_that_exist(name) -> None:
    program = typer.main.get_command(app)
    system = systems()[name]
    for each in (system, system.smaller()):
        made = [words for words, _ in commands(each, dict.fromkeys(("run", "table", "readers"), "x"))]
        made += [[*maker(each, {"run": "x", "table": "x"}), "--seed", "1"]] if each.command else []
        for words in made:
            program.commands[words[0]].make_context(words[0], words[1:])  # type: ignore[attr-defined]


PATCHES = """
name = "someone2017"
command = "patches {table} -o {run} --steps 4"
[paper]
title = "A title"
authors = "Someone A, Other B"
year = 2017
doi = "10.1/x"
data = "tomograms"
asks = "Where are membranes?"
[needs]
table = "marked patches"
[[published]]
what = "Dice of ribosomes"
value = nan
where = "Table 1"
ours = { file = "evaluation", metric = "dice", of = "ribosome" }
[sections]
command = "Section 2: a network a feature"
[reduced]
phantom = { kind = "tomogram", slices = 3, annotated = 1, size = 192, patches = 2 }
study = { names = "keep" }
command = "patches {table} -o {run} --steps 2"
"""


def test_a_system_whose_run_another_command_makes_ends_in_the_papers_table(tmp_path) -> None:
    file = tmp_path / "someone2017.toml"
    file.write_text(PATCHES)
    code, said = call("recipes", "show", file)
    assert code == 0
    assert "command = patches {table} -o {run} --steps 4\n      Section 2" in said
    assert "not at hand [Table 1]" in said
    assert (
        "`overread patches {table} -o {run} --steps 2` in place of `overread patches {table} -o {run} --steps 4`"
        in said
    )
    for _ in range(2):  # the second time what is there is kept
        code, said = call("demo", "--recipe", file, "-o", tmp_path / "run", "--seed", 3)
        assert code == 0, said
    assert "the network that is there" in said
    held = read_json(tmp_path / "run/published/published.json")
    (row,) = held["rows"]
    assert row["published"]["value"] is None
    dice = [
        e for e in read_json(tmp_path / "run/evaluation/metrics.json") if (e["metric"], e["of"]) == ("dice", "ribosome")
    ]
    assert row["ours"]["value"] == dice[0]["value"]
    assert "not at hand" in (tmp_path / "run/published/published.html").read_text()
    with pytest.raises(InputError, match="another cohort"):
        CliRunner().invoke(
            app, ["demo", "--recipe", str(file), "-o", str(tmp_path / "run"), "--seed", "4"], catch_exceptions=False
        )
    table = tmp_path / "run/cohort/patches.csv"
    with pytest.raises(InputError, match="takes other options.*overread patches --help"):
        CliRunner().invoke(
            app,
            ["run", str(table), "--recipe", str(file), "--test", "0.3", "-o", str(tmp_path / "x")],
            catch_exceptions=False,
        )
    code, said = call("run", table, "--recipe", file, "-o", tmp_path / "mine")
    assert code == 0, said
    assert (tmp_path / "mine/published.toml").exists()
    with pytest.raises(InputError, match="another form"):
        CliRunner().invoke(
            app, ["run", str(table), "--recipe", str(file), "-o", str(tmp_path / "run")], catch_exceptions=False
        )
