"""Published systems: files that a reader can hold beside the paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from overread.core.errors import InputError, OverreadError
from overread.core.files import write_json
from overread.learning.recipe import Recipe
from overread.study.published import (
    PLACES,
    as_published,
    commands,
    copy_in,
    explained,
    judged_by,
    kept_copy,
    load_system,
    systems,
)
from overread.study.question import Study

FILE = """
name = "someone2015"
method = "features"
descriptors = ["lbp", "gist"]
image_size = 64
then = ["simulate {run} --readers {readers}", "curve {run} --sizes 50%,100%"]
[paper]
title = "A title"
authors = "Someone A, Other B"
year = 2015
doi = "10.1/x"
data = "93 films"
asks = "Healthy or ill?"
[study]
test = 0.3
sensitivity = 0.9
[needs]
label = "the diagnosis"
view = "two views of each case"
[[published]]
what = "AUC"
value = 0.93
where = "Table 1"
ours = { file = "evaluation", metric = "auc" }
[sections]
descriptors = "Section 2.2"
[reduced]
phantom = { kind = "chest", patients = 120 }
study = { image = "image" }
recipe = { image_size = 32 }
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "someone2015.toml"
    path.write_text(FILE)
    return path


def test_a_file_is_a_recipe_and_a_study_without_its_table(file) -> None:
    system = load_system(file)
    assert system is not None
    assert system.paper.citation == "Someone 2015"
    recipe = Recipe.load(file)
    assert (recipe.descriptors, recipe.image_size, recipe.published) == (("lbp", "gist"), 64, {"AUC": 0.93})
    study = as_published(Study.from_flat(table="t.csv", view="side"), system, given=())
    assert (study.split.test, study.operating_point.sensitivity, study.columns.view) == (0.3, 0.9, "side")


def test_what_was_given_stands_over_what_the_paper_fixes(file) -> None:
    study = Study.from_flat(table="t.csv", view="side", test=0.2, tuning=0.2)
    study = as_published(study, load_system(file), given={"test", "tuning"})
    assert (study.split.test, study.operating_point.sensitivity) == (0.2, 0.9)


def test_a_column_that_the_paper_needs_is_asked_for(file) -> None:
    with pytest.raises(InputError, match=r"needs to know more.*two views of each case.*--view COLUMN"):
        as_published(Study("t.csv"), load_system(file), given=())


def test_the_reduced_form_says_what_it_changes(file) -> None:
    system = load_system(file)
    small = system.smaller()
    assert (small.recipe["image_size"], small.study["image"], small.study["test"]) == (32, "image", 0.3)
    assert "image_size 32 in place of 64" in system.differences()
    assert any("a phantom in place of 93 films" in line for line in system.differences())
    file.write_text(
        FILE.replace(
            'study = { image = "image" }',
            'study = { image = "image", sensitivity = 0.8 }\nthen = ["curve {run} --sizes 50%,100%"]',
        )
    )
    told = load_system(file).differences()
    assert "sensitivity 0.8 in place of 0.9" in told
    assert "without `overread simulate {run} --readers {readers}`" in told
    assert not any(line.startswith("image ") for line in told), "a column's name is no reduction"


def test_commands_that_follow_know_their_places(file) -> None:
    made = commands(load_system(file), {"run": "runs/x", "readers": ""})
    assert made[0][1].startswith("there is no table of readers")
    assert made[1] == (["curve", "runs/x", "--sizes", "50%,100%"], "")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("curve {run}", "serve {run}", "a command that follows a run"),
        ("curve {run}", "curve {rum}", "id you mean 'run'"),
        ("curve {run}", "curve {run} -o elsewhere", "writes into its folder"),
        ("curve {run}", "curve {run} --output={run}/../x", "writes into its folder"),
        ("curve {run}", "run other.csv", "a command that follows a run"),
        ("test = 0.3", "tset = 0.3", "id you mean 'test'"),
        ("image_size = 64", "image_siz = 64", "image_siz"),
        ('where = "Table 1"', 'were = "Table 1"', "were"),
        ("ours = {", "hours = {", "hours"),
        ("recipe = { image_size = 32 }", "recipe = { image_siez = 32 }", "image_siez"),
        ("image_size = 64", 'image_size = 64\ncommand = "train {table} -o {run}"', "a command that makes a run"),
        ("image_size = 64", 'image_size = 64\ncommand = "patches {table} -o elsewhere"', "writes into its folder"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(file, old, new, said) -> None:
    file.write_text(FILE.replace(old, new))
    with pytest.raises(OverreadError, match=said):
        load_system(file)


def test_the_folder_of_a_run_keeps_the_file_in_its_form(file, tmp_path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(InputError, match="no such table"), kept_copy(file, folder):
        raise InputError("there is no such table")
    assert not folder.exists(), "a run that cannot begin leaves nothing behind"
    with kept_copy(file, folder, reduced=True):
        (folder / "study.toml").write_text("")
    system, kept, reduced = copy_in(folder)
    assert (system.recipe["image_size"], kept.name) == (32, "published-reduced.toml")
    assert "image_size 32 in place of 64" in reduced
    with pytest.raises(InputError, match="another form"), kept_copy(file, folder):
        pass
    assert copy_in(tmp_path) is None


def test_commands_are_run_again_where_what_they_depend_on_has_changed(file, tmp_path) -> None:
    system, readers = load_system(file), tmp_path / "readers.csv"
    places = {"readers": str(readers), "table": ""}
    known = {judged_by(system, tmp_path, places)}
    readers.write_text("case,reader,label")
    known.add(judged_by(system, tmp_path, places))
    write_json(tmp_path / "evaluation" / "metrics.json", [])
    known.add(judged_by(system, tmp_path, places))
    assert len(known) == 3
    assert judged_by(system, tmp_path, places) in known


def test_a_plain_recipe_is_no_published_system() -> None:
    assert load_system("features") is None
    with pytest.raises(InputError, match="no such recipe"):
        load_system("gulshan2061")


@pytest.mark.parametrize("name", sorted(systems()))
def test_every_system_that_comes_along_can_be_read_line_by_line(name) -> None:
    """Each field of each recipe says where the paper says it; each is drawn as a phantom; each number has its place."""
    system = systems()[name]
    assert system.name == name == Recipe.load(name).name
    silent = [field for field, value, told in explained(system) if value and not told and field not in ("name", "then")]
    assert not silent, f"the recipe does not say what the paper says of {', '.join(silent)}"
    assert system.reduced.phantom, "it cannot be tried"
    assert system.published
    assert set(system.needs) <= {*Study("t.csv").flat(), *PLACES}, "what is needed is named by its option"
    made = Study.from_flat(table="t.csv", **system.smaller().options)
    assert made.columns.names == "keep", "names of phantoms identify nobody"


@pytest.mark.parametrize("name", sorted(systems()))
def test_the_page_of_published_systems_tells_the_numbers_of_the_files(name) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "published.md").read_text("utf-8")
    part = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
    missing = [
        number.what
        for number in systems()[name].published
        if f"| {number.what} ({number.where}) | {number} |" not in part
    ]
    assert not missing, "make the page anew: make recipes"
