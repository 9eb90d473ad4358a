"""``overread checklist``."""

from __future__ import annotations

from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.files import write_json, write_text


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_it_writes_all_three_and_says_how_many_items_it_could_answer(tmp_path):
    write_text(tmp_path / "study.toml", 'table = "t.csv"\nlabel = "dx"\nnames = "hash"\n')
    write_json(tmp_path / "audit.json", {"counts": {"images": 12, "patients": 6, "labelled": 11}})
    done = run("checklist", tmp_path)
    assert done.exit_code == 0, done.output
    assert "CLAIM, 2024 update, 44 items" in done.output
    assert (tmp_path / "checklists" / "checklists.html").exists()
    assert "12 images of 6 patients" in (tmp_path / "checklists" / "claim.md").read_text("utf-8")
    assert "1 image without a label" in (tmp_path / "checklists" / "tripod_ai.md").read_text("utf-8")


def test_one_can_be_asked_for(tmp_path):
    write_text(tmp_path / "study.toml", 'table = "t.csv"\n')
    assert run("checklist", tmp_path, "--standard", "stard-ai").exit_code == 0
    assert sorted(p.name for p in (tmp_path / "checklists").iterdir()) == ["checklists.html", "stard_ai.csv", "stard_ai.md"]  # fmt: skip


def test_an_unknown_standard_is_an_error_that_names_the_known_ones(tmp_path):
    write_text(tmp_path / "study.toml", 'table = "t.csv"\n')
    done = run("checklist", tmp_path, "--standard", "consort")
    assert "the standard is not known" in str(done.exception)


def test_the_demo_of_slides_is_on_the_phantom_of_the_published_system(tmp_path, monkeypatch):
    """The slides and tiles are written once, in the file of the system; how a slide is scored is chosen, as in every study."""
    import tomllib
    from importlib.resources import files

    from overread import synthetic
    from overread.cli import run as cli_run

    held = tomllib.loads((files("overread") / "recipes" / "liu2017.toml").read_text("utf-8"))["reduced"]
    drawn, studies = [], []
    monkeypatch.setattr(synthetic, "draw", lambda folder, kind, options, **how: drawn.append({"kind": kind, **options}))
    monkeypatch.setattr(cli_run, "_run", lambda study, *rest: studies.append(study))
    done = CliRunner().invoke(app, ["demo", "--kind", "slides", "--seed", "5", "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert drawn == [held["phantom"]]
    (study,) = studies
    recipe = study.training.recipe
    assert {name: recipe["tiles"][name] for name in ("size", "mpp", "centre", "stride", "jitter", "number")} == {
        name: held["recipe"]["tiles"][name] for name in ("size", "mpp", "centre", "stride", "jitter", "number")
    }
    assert not {"score", "window"} & set(recipe["tiles"])
    assert (study.columns.outlines, study.training.seed, study.split.test) == ("outlines", 5, held["study"]["test"])
