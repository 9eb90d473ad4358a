"""The index of a run by its command: built, asked, judged through the ledger's door, told on a page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from overread import read_cases, split
from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.cli.main import app
from overread.core.errors import InputError
from overread.core.files import write_csv, write_json
from overread.images.preprocess import Preprocess
from overread.learning.device import seeded
from overread.learning.model import About, Model, Origin
from overread.learning.predict import predict
from overread.learning.recipe import Recipe
from overread.networks.backbones import build
from overread.reporting.figures.cases_map import cases_map
from overread.study.question import Columns, Study
from overread.study.run_index import build_index, open_index, reliability
from overread.synthetic.cohort import draw_cohort


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run's folder with a network of random weights, as far as the index reads it."""
    folder = tmp_path_factory.mktemp("run")
    table = draw_cohort(folder / "cohort", patients=50, size=32, seed=1)
    columns = Columns(image="image", label="diagnosis", patient="patient", source="microscope", names="keep")
    Study(str(table), columns).save(folder / "study.toml")
    cases = read_cases(table, image="image", label="diagnosis", patient="patient", source="microscope", names="keep")
    cases.save(folder / "cases.csv")
    parts = split(cases, test=0.3, tuning=0.3, seed=1)
    parts.save(folder / "split.csv")
    write_csv(folder / "excluded.csv", pd.DataFrame([], columns=["case", "reason"]))
    with seeded(0, 0, 0, "initial weights"):
        network = build("lenet5", outputs=2)
    preprocess = Preprocess(size=(28, 28), channels=3, mean=(0.5, 0.4, 0.5), std=(0.2, 0.2, 0.2))
    about = About(Recipe(backbone="lenet5", image_size=28), preprocess, cases.target, Origin("lenet5", 1), salt="abc")
    model = Model(network.eval(), about)
    model.save(folder / "model")
    predict(model, cases.only(parts, "test"), part="test", threads=1).save(folder / "predictions" / "test.csv")
    return folder


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def read(path: Path):
    return json.loads(path.read_text("utf-8"))


def parts_of(run: Path) -> dict[str, Cases]:
    cases, parts = Cases.load(run / "cases.csv"), Split.load(run / "split.csv")
    return {part: cases.only(parts, part) for part in ("train", "tuning", "test")}


def ask(run: Path, cache: Path, *words: str):
    return CliRunner().invoke(app, ["similar", str(run), "--cache", str(cache), "--threads", "1", *words])


def test_the_command_builds_asks_and_tells(run, cache) -> None:
    test = parts_of(run)["test"]
    case = str(test.table["case"].iloc[0])
    found = ask(run, cache, case, test.root + "/" + test.table["image"].iloc[1], "-k", "3")
    assert found.exit_code == 0, found.output
    assert f"{case}: the model says" in found.output
    assert "of the five nearest to a case of" in found.output
    rows = read(run / "index" / "neighbours.json")
    assert [len(row["neighbours"]) for row in rows] == [3, 3]
    assert all((run / each["thumbnail"]).is_file() for row in rows for each in row["neighbours"])
    owner = dict(zip(test.table["case"], test.table["patient"], strict=True))
    known = pd.read_csv(run / "index" / "rows.csv")
    assert owner[case] not in set(known["patient"])
    page = (run / "index" / "similar.html").read_text("utf-8")
    assert page.count("data:image/png") == 8
    assert "<circle" in page
    assert "<script" not in page
    again = ask(run, cache, case, "--json", "--other-source", "-k", "2")
    told = json.loads(again.stdout)
    assert told["cases"][0]["case"] == case
    assert "building" not in again.output
    own = test.table["source"].iloc[0]
    assert all(each["source"] != own for each in told["cases"][0]["neighbours"])
    assert len(read(run / "index" / "neighbours.json")) == 2  # what was asked before stays


def test_where_nothing_known_may_answer_it_is_said(run, cache) -> None:
    table = pd.read_csv(run / "cases.csv", dtype=str)
    table.assign(source="A").to_csv(run / "cases.csv", index=False)
    test = parts_of(run)["test"]
    names = [str(name) for name in test.table["case"].iloc[:2]]
    found = ask(run, cache, *names, "--other-source")
    assert found.exit_code == 0, found.output
    assert found.output.count("nothing known may answer") == 2
    assert [row["neighbours"] for row in read(run / "index" / "neighbours.json")] == [[], []]


def test_the_page_calls_cases_by_keys_where_names_were_kept(run, cache) -> None:
    write_json(run / "explanations" / "keys.json", {"k0": "before"})
    case = str(parts_of(run)["test"].table["case"].iloc[0])
    assert ask(run, cache, case).exit_code == 0
    page = (run / "index" / "similar.html").read_text("utf-8")
    keys = read(run / "explanations" / "keys.json")
    assert keys["k0"] == "before"
    assert {key for key, name in keys.items() if name == case} <= {key for key in keys if key in page}
    assert not [
        name for name in pd.read_csv(run / "cases.csv", dtype=str)["case"] if f">{name}<" in page or f"({name})" in page
    ]


def test_without_a_look_the_test_part_is_shown_and_not_judged(run, cache) -> None:
    write_json(run / "evaluation" / "metrics.json", [])
    index = build_index(Model.load(run / "model"), parts_of(run), run, cache=cache, threads=1, look=False)
    assert not (run / "ledger.jsonl").exists()
    assert {each.where["part"] for each in index.about.precision} == {"tuning"}
    assert set(pd.read_csv(run / "index" / "map.csv")["case"]) == set(parts_of(run)["test"].table["case"])


def test_the_test_part_stays_closed_until_it_was_evaluated_and_a_look_counts_once(run, cache) -> None:
    model, said = Model.load(run / "model"), []
    index = build_index(model, parts_of(run), run, cache=cache, threads=1, say=said.append)
    assert any("test part stays closed" in line for line in said)
    assert {each.where["part"] for each in index.about.precision} == {"tuning"}
    assert not (run / "ledger.jsonl").exists()
    assert set(pd.read_csv(run / "index" / "map.csv")["case"]) == set(parts_of(run)["tuning"].table["case"])
    write_json(run / "evaluation" / "metrics.json", [])
    for _ in range(2):
        index = build_index(model, parts_of(run), run, cache=cache, threads=1)
        assert len((run / "ledger.jsonl").read_text().splitlines()) == 1
    assert {each.where["part"] for each in index.about.precision} == {"tuning", "test"}
    table = pd.read_csv(run / "index" / "map.csv")
    assert set(table["case"]) == set(parts_of(run)["test"].table["case"])
    assert set(table["predicted"]) <= set(model.target.names)
    assert "(test part" in reliability(index)[0]
    (dealt,) = (each for each in index.about.precision if (each.metric, each.of, each.where["part"]) == ("shuffled precision@5", "benign", "test"))  # fmt: skip
    (line,) = (line for line in reliability(index) if " a case of benign," in line)
    assert f"of a shuffled index {dealt.value:.3f}" in line
    assert open_index(run, model).about.layer == index.about.layer


def test_the_neighbours_of_the_gallery_are_written(run, cache) -> None:
    write_json(run / "evaluation" / "metrics.json", [])
    shown = parts_of(run)["test"].table["case"].iloc[:2].tolist()
    write_json(run / "explanations" / "gallery.json", [{"case": case} for case in shown])
    build_index(Model.load(run / "model"), parts_of(run), run, cache=cache, threads=1)
    assert sorted(row["case"] for row in read(run / "index" / "neighbours.json")) == sorted(shown)


def test_what_is_asked_wrongly_is_refused_and_a_damaged_index_is_built_again(run, cache) -> None:
    unknown = ask(run, cache, "nobody")
    assert isinstance(unknown.exception, InputError)
    assert "no such case" in str(unknown.exception)
    assert isinstance(ask(run, cache, "a", "--build-only").exception, InputError)
    nowhere = ask(run, cache, "--distance", "manhattan")
    assert "euclidean" in str(nowhere.exception)
    assert "building" not in nowhere.output
    vectors = run / "index" / "vectors.npy"
    vectors.write_bytes(vectors.read_bytes()[:-1] + b"\x01")
    assert "building the index" in ask(run, cache).output
    changed = ask(run, cache, "--layer", "c3", "--distance", "euclidean")
    assert "asked for layer c3" in changed.output
    assert read(run / "index" / "index.json")["layer"] == "c3"


def test_a_map_escapes_what_stands_in_a_table() -> None:
    table = pd.DataFrame({"case": ["<script>", "b"], "x": [0.0, 1], "y": [0.0, np.nan], "label": ["<b>", "c"],
                          "predicted": ["", ""], "source": ["s", "s"]})  # fmt: skip
    assert cases_map(table, "x", "y", "m", "t", "") is None  # one point is no map
    drawn = cases_map(table.assign(y=[0.0, 2.0]), "x", "y", "m", "t", "")
    assert drawn is not None
    assert "<script>" not in drawn.svg
    assert drawn.svg.count("<circle") == 2 * 2 + 3  # a panel by label, one by source, and their keys
