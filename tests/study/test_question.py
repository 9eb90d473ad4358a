"""What a study file holds: groups, the old form without them, paths, and what is refused."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from overread.cases.annotators import RULES
from overread.cases.sources.layout import Layout
from overread.core.errors import ArgumentError, InputError
from overread.core.settings import settings
from overread.study.question import (
    ClassTree,
    Columns,
    Images,
    OperatingRule,
    Resources,
    SplitRule,
    Study,
    Training,
    seconds,
)

GROUPS = {"columns": Columns, "images": Images, "split": SplitRule, "operating_point": OperatingRule, "training": Training,
          "resources": Resources, "layout": Layout, "class_tree": ClassTree}  # fmt: skip

#: A file as versions before the groups wrote it.
OLD = """
table = "metadata.csv"
image = "file"
label = "dx"
split = "part"
subgroups = ["sex", "age"]
test = 0.25
keep_given = false
sensitivity = 0.95
seed = 7
budget = "15m"
salt = "abc"
volumes = "whole"
margin_of = "auc"

[recipe]
method = "scratch"
epochs = 3
"""


def test_every_field_says_what_it_is_for() -> None:
    kinds = {"study": Study, **GROUPS}
    silent = [f"{group}.{f.name}" for group, kind in kinds.items() for f in fields(kind)
              if f.name not in GROUPS and not (settings(kind).get(f.name) and settings(kind)[f.name].help.strip())]  # fmt: skip
    assert not silent
    assert not [g for g, kind in GROUPS.items() if not (kind.__doc__ or "").partition("\n")[0].endswith(".")]


def test_no_two_groups_share_a_name() -> None:
    names = [name for kind in GROUPS.values() for name in settings(kind)]
    assert len(names) == len(set(names))


def test_a_file_in_the_old_form_means_the_same_and_is_said_to_be_old(tmp_path) -> None:
    (tmp_path / "study.toml").write_text(OLD)
    said: list[str] = []
    study = Study.load(tmp_path / "study.toml", said.append)
    assert len(said) == 1
    assert "old form" in said[0]
    values = tomllib.loads(OLD)
    wanted = {**values, "subgroups": tuple(values["subgroups"])}
    assert {name: study.flat()[name] for name in wanted} == wanted
    assert study == Study.from_flat(**wanted)
    study.save(tmp_path / "new.toml")
    said.clear()
    assert Study.load(tmp_path / "new.toml", said.append) == study
    assert not said
    written = tomllib.loads((tmp_path / "new.toml").read_text())
    assert list(written) == ["table", *GROUPS]
    assert written["columns"]["split"] == "part"
    assert written["training"]["recipe"] == values["recipe"]


@pytest.mark.parametrize(("line", "words"), [('patiant = "p"', "'patient'"), ('[columns]\nlabell = "dx"', "'label'"), ("[colums]", "'columns'")])  # fmt: skip
def test_an_unknown_key_is_refused_and_the_nearest_named(tmp_path, line, words) -> None:
    (tmp_path / "study.toml").write_text(f'table = "x.csv"\n{line}\n')
    with pytest.raises(InputError, match=words):
        Study.load(tmp_path / "study.toml")


def test_a_wrong_type_is_refused_by_its_name(tmp_path) -> None:
    (tmp_path / "study.toml").write_text('table = "x.csv"\n[training]\nseed = "seven"\n')
    with pytest.raises(InputError, match="training.seed"):
        Study.load(tmp_path / "study.toml")


def test_the_old_constructor_says_how_it_is_written_now() -> None:
    for old in ({"image": "file"}, {"split": "part"}, {"recipe": {"epochs": 3}}):
        with pytest.raises(ArgumentError, match=r"Study\.from_flat\(table=…"):
            Study(table="t.csv", **old)
    with pytest.raises(ArgumentError, match=r"Study\.from_flat"):
        Study("t.csv", "file")
    with pytest.raises(InputError, match="'subgroups'"):
        Study.from_flat(table="t.csv", subgroup=("sex",))


def test_fields_and_groups_say_the_same() -> None:
    flat = Study.from_flat(
        table="t.csv", image="file", split="part", test=0.3, seed=4, device="cpu", volumes="slices", cost=3.0
    )
    assert flat == Study("t.csv", Columns(image="file", split="part"), Images(volumes="slices"), SplitRule(test=0.3), OperatingRule(cost=3.0),
                         Training(seed=4), Resources(device="cpu"))  # fmt: skip
    assert Study.from_flat(**flat.flat()) == flat


def test_paths_are_seen_from_where_the_file_lies(tmp_path) -> None:
    study = Study.from_flat(table="t.csv", weights="w", labels_from="/there/labels.csv", graders="a,b", image="file")
    seen = study.seen_from(tmp_path)
    assert seen.table == str(tmp_path / "t.csv")
    assert seen.training.weights == str(tmp_path / "w")
    assert seen.columns.labels_from == str(Path("/there/labels.csv"))
    assert seen.columns.graders == "a,b", "columns are no path"
    assert seen.columns.image == "file"
    (tmp_path / "a,b").touch()
    assert study.seen_from(tmp_path).columns.graders == str(tmp_path / "a,b")
    assert study.changed(graders="answers.csv").seen_from(tmp_path).columns.graders == str(tmp_path / "answers.csv")
    assert study.changed(weights="").seen_from(tmp_path).training.weights == ""


def test_a_path_that_means_two_things_is_asked_for(tmp_path) -> None:
    (tmp_path / "data" / "masks").mkdir(parents=True)
    (tmp_path / "data" / "t.csv").touch()
    study = Study.from_flat(table="data/t.csv", mask="masks", image="file")
    assert study.seen_from(tmp_path).columns.mask == str(tmp_path / "data" / "masks"), "also beside the table"
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match="from here and from the table"):
        study.seen_from(tmp_path)
    (tmp_path / "masks").rmdir()
    (tmp_path / "masks").symlink_to(tmp_path / "data" / "masks")
    assert study.seen_from(tmp_path).columns.mask.endswith("masks"), "both are the same"


@pytest.mark.parametrize(("name", "asked"), [("mask", "masks"), ("mask", "masks#cut=1"), ("outlines", "masks"), ("graders", "masks, first")])  # fmt: skip
def test_a_column_stays_one_whatever_lies_in_the_folders(tmp_path, name, asked) -> None:
    here, beside = ((tmp_path / where / asked.partition("#")[0]) for where in (".", "data"))
    study = Study.from_flat(table="data/t.csv", image="file", **{name: asked})
    for path in (beside, here):  # one of them, then both, which without the column are two things
        path.mkdir(parents=True)
        (tmp_path / "data" / "t.csv").write_text("file;masks;first\n1.png;a;b\n")
        assert study.seen_from(tmp_path).flat()[name] == asked
    if "#" in asked:
        return
    (tmp_path / "data" / "t.csv").write_text("file;other\n1.png;a\n")
    with pytest.raises(InputError, match="from here and from the table"):
        study.seen_from(tmp_path)
    here.rmdir()
    assert study.seen_from(tmp_path).flat()[name] != asked, "a path"


def test_the_rules_of_consensus_are_those_that_there_are() -> None:
    assert settings(Columns)["consensus"].choices == RULES


@pytest.mark.parametrize(
    "values",
    [{"cost": -1.0}, {"cost": float("nan")}, {"cost": float("inf")}, {"prevalence": 1.0}, {"prevalence": -0.1}, {"margin": 1.0},
     {"margin_of": "acc"}, {"consensus": "mean"}, {"cost": 2.0, "sensitivity": 0.9}, {"graders": "a.csv", "value": "age"},
     {"sensitivity": 1.5}, {"seed": -1}, {"threads": -1}, {"test": 0.9, "tuning": 0.2}, {"test": 0.0}, {"volumes": "half"},
     {"volumes": "slices", "point": ("x", "y", "z")}, {"side": 20.0}],
    ids=str,
)  # fmt: skip
def test_a_study_that_asks_for_nonsense_is_refused(values) -> None:
    with pytest.raises(ArgumentError):
        Study.from_flat(table="t.csv", **values)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
        ("2.5m", 150),
        ("45 s", 45),
        ("10 minutes", 600),
        ("2 Hours 5min", 7500),
        ("1h 30m 10sec", 5410),
        (" 1.5h ", 5400),
        ("", None),
    ],
)
def test_lengths_of_time(text, wanted) -> None:
    assert seconds(text) == wanted


@pytest.mark.parametrize("text", ["soon", "0s", "-3m", "m", "5 mm", "1,5h", "1e3s", "30m1h", "m10", "inf h"])
def test_what_is_no_length_of_time_is_refused(text) -> None:
    with pytest.raises(InputError, match="length of time"):
        Resources(budget=text)


@pytest.mark.parametrize("text", ["10", "1h30", "90.5", "0", "2 h 5", "1:30"])
def test_a_number_without_unit_is_asked_about(text) -> None:
    """Ten what? And the 30 of 1h30 are minutes to a person; once they were seconds."""
    with pytest.raises(InputError, match="unit"):
        Resources(budget=text)


def test_columns_and_paths_of_readers_are_told_apart(tmp_path) -> None:
    assert Columns().readers is None
    assert Columns(graders="answers.csv").readers == "answers.csv"
    assert Columns(graders="first, second").readers == ("first", "second")
    (tmp_path / "a, b.csv").touch()
    assert Columns(graders=str(tmp_path / "a, b.csv")).readers == str(tmp_path / "a, b.csv")
