"""Which cases of a run are shown, and what stands in its folder afterwards."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.cli.main import app
from overread.core.errors import InputError
from overread.core.files import read_rows, write_json, write_rows
from overread.explanation.checks.regions import EDGE, LESION, RegionShare
from overread.explanation.map_files import MapEntry, read_entries
from overread.explanation.methods import METHODS
from overread.explanation.verdict import CRITERIA, Criterion
from overread.images.preprocess import Preprocess
from overread.learning.device import seeded
from overread.learning.model import About, Model, Origin, make_network
from overread.learning.predict import predict
from overread.learning.recipe import Recipe
from overread.study.context import RunContext
from overread.study.explained import Wish, called_of, explain_run, judge_run
from overread.study.question import Study
from overread.tasks.target import Target

TARGET = Target("binary", ("n", "p"), ("p",))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The folder of a run of random weights: what its steps would have left."""
    home = tmp_path_factory.mktemp("run")
    row, column = np.mgrid[:30, :30]
    for i in range(8):  # rings: in noise some pieces look like letters
        rings = 40 + 15 * i + 3 * np.hypot(row - 15 - i, column - 10 - i)
        Image.fromarray(rings.clip(0, 200).astype(np.uint8)).save(home / f"{i}.png")
    named = np.full((200, 300), 70, np.uint8)
    cv2.putText(named, "DOE^JOHN 1950", (10, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 220, 2)
    Image.fromarray(named).save(home / "8.png")
    names = [f"case{i}" for i in range(9)]
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(9)], "case": names, "patient": [f"pat{i}" for i in range(9)], "source": "x",
                          "view": "", "time": "", "split": "", "label": list("nnppnnppn")})  # fmt: skip
    table.to_csv(home / "table.csv", index=False)
    cases = Cases(table, TARGET, str(home))
    run = home / "run"
    cases.save(run / "cases.csv")
    study = Study.load(_study(home))
    study.save(run / "study.toml")
    (run / "excluded.csv").write_text("case,reason\n", encoding="utf-8")
    write_json(run / "record.json", {"steps": {}})
    about = About(Recipe(method="scratch", backbone="cnn_small", views=1), Preprocess((28, 28), 1, mean=(0.4,), std=(0.2,)), TARGET, Origin("cnn_small", 1))  # fmt: skip
    with seeded(1, 0, 0, "test"):
        model = Model(make_network(about).eval(), about)
    model.save(run / "model")
    predict(model, cases.take(range(6)), part="tuning").save(run / "predictions" / "tuning.csv")
    predict(model, cases.take([6, 7]), part="test").save(run / "predictions" / "test.csv")
    return run


def _study(home: Path) -> Path:
    text = f'table = "{home}/table.csv"\n[columns]\nimage = "image"\nlabel = "label"\npatient = "patient"\ncase = "case"\nnames = "keep"\npositive = ["p"]\n'
    (home / "asked.toml").write_text(text, encoding="utf-8")
    return home / "asked.toml"


@pytest.fixture
def run(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def context_of(run: Path, said: list[str] | None = None) -> RunContext:
    return RunContext(Study.load(run / "study.toml"), run, say=(said if said is not None else []).append)


QUICK = Wish(methods=("grad-cam",), checks=False, sample=4)


def test_before_the_test_part_is_judged_cases_of_the_tuning_part_are_shown(run) -> None:
    said: list[str] = []
    found = explain_run(context_of(run, said), QUICK)
    assert any("stays closed" in line for line in said)
    assert len(found.maps) == 4
    assert {entry.case for entry in found.maps} <= {f"case{i}" for i in range(6)}
    assert not (run / "ledger.jsonl").exists()
    for entry in found.maps:
        assert (run / entry.image).read_bytes().startswith(b"\x89PNG")
        assert np.load((run / entry.map).with_suffix(".npy")).shape == (1, 28, 28)
    assert read_entries(run) == found.maps
    assert not found.methods


def test_then_those_that_the_report_shows_an_error_and_a_correct_one_in_turn(run) -> None:
    rows = [
        ("case6", "p", "n", False),
        ("case1", "n", "p", False),
        ("case7", "p", "p", True),
        ("case0", "n", "n", True),
    ]
    write_json(run / "explanations" / "gallery.json", [{"case": c, "truth": t, "predicted": p, "probability": 0.5, "correct": ok} for c, t, p, ok in rows])  # fmt: skip
    found = explain_run(context_of(run), replace(QUICK, sample=3))
    assert [(entry.case, entry.target) for entry in found.maps] == [("case6", "n"), ("case7", "p"), ("case1", "p")]


def test_maps_of_an_earlier_call_stay_while_the_model_is_the_same(run) -> None:
    first = explain_run(context_of(run), replace(QUICK, named=("case1",)))
    explain_run(context_of(run), replace(QUICK, named=("case2", "case1"), methods=("gradient",)))
    assert [(entry.case, entry.method) for entry in read_entries(run)] == [
        ("case2", "gradient"), ("case1", "gradient"), ("case1", "grad-cam")]  # fmt: skip
    assert (run / first.maps[0].map).exists()
    again = explain_run(context_of(run), replace(QUICK, named=("case1",)))
    assert again.maps == first.maps, "same seed, same bytes"
    assert len(read_entries(run)) == 3
    about = json.loads((run / "model" / "model.json").read_text(encoding="utf-8"))
    (run / "model" / "model.json").write_text(json.dumps({**about, "names_salt": "other"}), encoding="utf-8")
    explain_run(context_of(run), replace(QUICK, named=("case3",)))
    assert [entry.case for entry in read_entries(run)] == ["case3"]
    assert not (run / first.maps[0].map).exists(), "another model's map is no longer shown"


def test_an_image_that_is_not_in_the_run_is_explained_by_its_path(run, tmp_path) -> None:
    Image.fromarray(np.full((40, 40), 90, np.uint8)).save(tmp_path / "new.png")
    (entry,) = explain_run(context_of(run), replace(QUICK, named=(str(tmp_path / "new.png"),), target="p")).maps
    assert entry.target == "p"
    with pytest.raises(InputError, match="explained apart"):
        explain_run(context_of(run), replace(QUICK, named=(str(tmp_path / "new.png"), "case1")))
    with pytest.raises(InputError, match="no such case"):
        explain_run(context_of(run), replace(QUICK, named=("case99",)))


def test_an_image_with_writing_is_shown_nowhere(run) -> None:
    said: list[str] = []
    hidden, shown = explain_run(context_of(run, said), replace(QUICK, named=("case8", "case2"))).maps
    assert hidden.image == ""
    assert shown.image
    assert sum("1 case with writing in the pixels" in line for line in said) == 1
    drawn, values = cv2.imread(str(run / hidden.map)), np.load((run / hidden.map).with_suffix(".npy"))[0]
    quiet = cv2.resize((values <= 0).astype(np.uint8), drawn.shape[1::-1], interpolation=cv2.INTER_AREA) == 1
    assert (np.abs(drawn[quiet].astype(int) - 127) <= 1).all(), "the map stands on grey"
    assert {path.name for path in (run / "explanations" / "maps").glob("seen-*")} == {Path(shown.image).name}


def test_a_call_in_the_words_of_the_gallery_names_a_class() -> None:
    three, findings = Target("classes", ("a", "b", "c")), Target("findings", ("x", "y"))
    assert [called_of(three, word) for word in ("b", "not b", "a or b")] == ["b", "", ""]
    assert [called_of(TARGET, word) for word in ("p", "not p")] == ["p", "n"]
    assert [called_of(findings, word) for word in ("x", "no y")] == ["x", "y"]
    assert called_of(Target("quantity", ("age",)), "41.2") == ""


def test_the_command_names_files_and_says_what_the_maps_are_worth(run) -> None:
    done = CliRunner().invoke(
        app, ["explain", str(run), "case1", "--method", "gradient", "--method", "occlusion", "--no-checks"]
    )
    assert done.exit_code == 0, done.exception
    assert "case1: gradient for" in done.stdout
    assert "Not checked." in done.stdout
    assert "wrote" in done.stderr
    assert "explanations.html" in done.stderr
    page = (run / "explanations.html").read_text(encoding="utf-8")
    assert "case1" not in page, "a name that was kept stands under a key"
    assert "Occlusion for" in page
    assert json.loads((run / "explanations" / "keys.json").read_text(encoding="utf-8"))
    answered = CliRunner().invoke(app, ["explain", str(run), "case1", "--method", "grad-cam", "--json"])
    held = json.loads(answered.stdout)
    assert held["maps"][0]["verdict"]
    assert held["maps"][0]["checks"]["SSIM at random weights"] <= 1
    assert set(held["maps"][0]) == set(MapEntry.__dataclass_fields__)
    wrong = CliRunner().invoke(app, ["explain", str(run), "case1", "--method", "gradcam"])
    assert "grad-cam" in str(wrong.exception)


def test_the_help_names_every_method() -> None:
    text = CliRunner().invoke(app, ["explain", "--help"], env={"COLUMNS": "400", "TERMINAL_WIDTH": "400"}).output
    assert not [
        name
        for name in METHODS
        if name not in "".join(letter for letter in text if letter in "-+," or letter.isalnum())
    ]


def test_the_folder_of_the_results_can_be_another(run, tmp_path) -> None:
    done = CliRunner().invoke(app, ["explain", str(run), "--sample", "2", "--method", "gradient", "-o", str(tmp_path / "away"), "--no-checks"])  # fmt: skip
    assert done.exit_code == 0, done.exception
    assert not (run / "explanations").exists()
    assert len(read_entries(tmp_path / "away")) == 2
    assert (tmp_path / "away" / "explanations.html").exists()


def test_methods_are_judged_on_tuning_cases_and_those_known_before_stay(run) -> None:
    first, regions = judge_run(context_of(run), replace(QUICK, methods=("gradient",)), 3)
    judge_run(context_of(run), QUICK, 3)
    held = read_rows(Criterion, run / "explanations" / "methods.json")
    assert [row.method for row in held] == ["grad-cam"] * len(CRITERIA) + ["gradient"] * len(CRITERIA)
    assert max(row.cases for row in first) <= 3
    assert {row.region for row in regions} >= {EDGE}
    share = RegionShare(
        "grad-cam", LESION, 0.75, 0.6, 0.9, 0.5, 3, 3, "The model looks outside the lesion more than by chance."
    )
    write_rows(run / "explanations" / "regions.json", [share])
    told = CliRunner().invoke(app, ["explain", str(run), "case1", "--method", "gradient", "--no-checks"])
    assert "outside the lesion: 75.0% of the attribution (60.0% to 90.0%)" in told.stdout
    page = (run / "explanations.html").read_text(encoding="utf-8").replace("\xa0", " ")
    assert "Grad-CAM: The model looks outside the lesion more than by chance." in page
    assert "75.0 % (60.0 % to 90.0 %)" in page
    write_rows(run / "explanations" / "regions.json", [replace(share, finding="")])
    assert CliRunner().invoke(app, ["explain", str(run), "case1", "--method", "gradient", "--no-checks"]).exit_code == 0
    assert "is more of the attribution shown to lie than by chance" in (run / "explanations.html").read_text(
        encoding="utf-8"
    )
    wrong = CliRunner().invoke(app, ["explain", str(run), "--judge", "2", "--masks", "lesion"])
    assert "no column of masks" in str(wrong.exception)


@pytest.mark.parametrize("other", [("--filters",), ("--cells", "masks"), ("--filters", "--judge", "2")])
def test_masks_are_refused_where_nothing_is_held_against_them(run, other) -> None:
    before = sorted(run.rglob("*"))
    wrong = CliRunner().invoke(app, ["explain", str(run), *other, "--masks", "mask"])
    assert isinstance(wrong.exception, InputError)
    assert f"of which there are none here (given: --masks beside {other[0]})" in str(wrong.exception)
    assert sorted(run.rglob("*")) == before


def test_filters_come_from_training_images_and_none_with_writing(run) -> None:
    names, parts = [f"case{i}" for i in range(9)], ["train"] * 5 + ["tuning"] * 2 + ["test", "train"]
    table = pd.DataFrame({"case": names, "patient": [f"pat{i}" for i in range(9)], "part": parts})
    found = Split(table, "given", 0)
    replace(found, proof={"digest": found.digest}).save(run / "split.csv")
    done = CliRunner().invoke(app, ["explain", str(run), "--filters", "--unit", "0", "--unit", "2"])
    assert done.exit_code == 0, done.output
    told = json.loads((run / "explanations" / "filters" / "patches.json").read_text(encoding="utf-8"))
    assert [unit["unit"] for unit in told["units"]] == [0, 2]
    assert {patch["case"] for unit in told["units"] for patch in unit["patches"]} <= {f"case{i}" for i in range(5)}


def test_two_images_of_one_name_are_two_cases(made, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    for place, source in (("a", "0.png"), ("b", "3.png")):
        (tmp_path / place).mkdir()
        shutil.copy(made.parent / source, tmp_path / place / "x.png")
    answer = CliRunner().invoke(
        app, ["explain", str(run), str(tmp_path / "a" / "x.png"), str(tmp_path / "b" / "x.png"), "--no-checks"]
    )
    assert answer.exit_code == 0, answer.output
    entries = read_entries(run)
    assert {entry.case for entry in entries} == {"x.png", "x.png (2)"}
