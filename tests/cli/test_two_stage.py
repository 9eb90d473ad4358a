"""``overread two-stage`` and ``overread ceiling`` from the command line, and the page that is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drawn_smears import draw_smears
from typer.testing import CliRunner

from overread.cli.main import app


def asked(*words: object) -> str:
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    return done.stdout


@pytest.mark.slow
def test_from_a_table_to_the_page(tmp_path: Path) -> None:
    """The whole chain with networks that are trained here, small."""
    table = draw_smears(tmp_path / "smears", patients=48)
    common = ["--set", "method=scratch", "--set", "backbone=lenet5", "--set", "epochs=1", "--set", "batch_size=16", "--set", "learning_rate=0.002",
              "--set", "augment=none", "--image-size", "32"]  # fmt: skip
    said = asked("two-stage", table, "--image", "image", "--mask", "mask", "--label", "diagnosis", "--patient", "patient", "--positive", "cancer", "--test", 0.35,
                 "--tuning", 0.3, *common, "--cell-set", "method=features", "--cell-set", 'descriptors=["intensity", "size"]', "--offline", "--outline-set", "method=scratch", "--outline-set", "backbone=unet_small", "--outline-set", "epochs=4",
                 "--outline-set", "segmentation.tile=96", "--outline-set", "segmentation.tiles=40", "--outline-set", "batch_size=4",
                 "--despite", "shortcut", "--despite", "near-leak", "--threads", 1, "-o", tmp_path / "two")  # fmt: skip
    assert "what each stage costs" in said
    page = (tmp_path / "two" / "two-stages.html").read_text("utf-8")
    assert "What each stage costs" in page
    assert "0 patients shared" in page
    assert (tmp_path / "two" / "one-stage" / "report.html").exists()
    assert (tmp_path / "two" / "segmentation" / "report.html").exists()
    assert (tmp_path / "two" / "segmentation" / "evaluation" / "instances.json").exists(), (
        "masks with classes, of which one is asked"
    )
    held = json.loads(asked("ceiling", tmp_path / "two", "--json"))
    assert [step["stage"] for step in held["steps"]] == ["segmentation", "classification", "pooling"]


def test_a_table_without_masks_is_refused(tmp_path: Path) -> None:
    table = draw_smears(tmp_path / "smears", patients=4)
    done = CliRunner().invoke(
        app, ["two-stage", str(table), "--image", "image", "--label", "diagnosis", "-o", str(tmp_path / "two")]
    )
    assert done.exit_code != 0
    assert "need outlines" in str(done.exception)
    done = CliRunner().invoke(
        app, ["two-stage", str(table), "--mask", "mask", "--pool", "vote", "-o", str(tmp_path / "two")]
    )
    assert "vote" in str(done.exception)
    done = CliRunner().invoke(app, ["ceiling", str(tmp_path / "nowhere")])
    assert "no two stages" in str(done.exception)
