"""``overread time`` on a run of tracks: the curve, what it writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from overread.cli.main import app
from overread.core.files import write_json
from overread.evaluation.generalisation.lead_time import WHERE, LeadTime
from overread.evaluation.ledger import verify
from overread.study import steps
from overread.study.context import RunContext
from overread.study.question import Study
from overread.synthetic import draw_tracks

TINY = {"method": "scratch", "backbone": "lenet5", "image_size": 28, "epochs": 1, "batch_size": 16, "learning_rate": 2e-3,
        "augment": "none"}  # fmt: skip


def trained(folder: Path, table: Path, **recipe) -> Path:
    """A run up to its model."""
    study = Study.from_flat(table=str(table), case="track", time="time", label="lineage", patient="patient", positive=("erythroid",),
                            test=0.45, tuning=0.15, despite=("shortcut",), recipe=TINY | recipe)  # fmt: skip
    study, cases = steps.open_study(study, folder)
    context = RunContext(study, folder, folder.parent / "cache", False, table=cases)
    steps.begin(context, cases)
    for step in (steps.audit, steps.split, steps.train):
        step(context)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tracks")
    return trained(folder / "run", draw_tracks(folder, patients=32), fusion="recurrent", extra_inputs=["displacement"])


def asked(*words: object) -> str:
    done = CliRunner().invoke(app, ["time", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.output


def refused(*words: object) -> str:
    done = CliRunner().invoke(app, ["time", *map(str, words)])
    assert done.exit_code != 0
    return " ".join(str(done.exception or done.output).split())


def test_the_curve_of_a_run_whose_events_were_not_carried_along(run, tmp_path) -> None:
    rival = shutil.copytree(run, run.parent / "rival")
    said = asked(run, "--event-time", "event_time", "--marker", "marker_time", "--before-event", "0.9,0,0.3", "--part", "test",
                 "--against", rival, "--cache", run.parent / "cache")  # fmt: skip
    assert "before the event" in said
    found = LeadTime.load(run / "time")
    assert [m.lead for m in found.moments] == [0.0, 0.3, 0.9]
    assert found.moments[0].auc.images > found.moments[2].auc.images
    assert all(m.difference.value == 0 and m.p == 1 for m in found.moments)  # the run against its copy
    assert found.moments[0].marked.value > 0.5
    assert found.moments[2].marked.value == 0
    whole = json.loads((run / "time" / "metrics.json").read_text())
    assert {e["where"][WHERE] for e in whole if WHERE in e["where"]} == {"0", "0.3", "0.9"}
    assert [e["kind"] for home in (run, rival) for e in verify(home / "ledger.jsonl")] == ["look", "look"]
    page = (run / "time" / "time.html").read_text()
    assert "once for the whole curve" in page
    assert "auc-before-event" in page
    assert "P0001" not in page
    assert "T0001" not in page
    again = asked(run, "--event-time", "event_time", "--latest", 1, "-o", tmp_path / "last", "--json")
    assert json.loads(again[again.index("{") :])["part"] == "tuning"


def test_only_frames_from_before_are_shown(run, tmp_path, monkeypatch) -> None:
    """What the model is given at each time, seen where it is given."""
    from overread.study import early_answers

    seen = {}

    def spy(model, cases, **work):
        seen[len(seen)] = cases
        return genuine(model, cases, **work)

    genuine = early_answers.predict
    monkeypatch.setattr(early_answers, "predict", spy)
    asked(run, "--event-time", "event_time", "--before-event", "0.2,0.6", "--latest", 2, "-o", tmp_path)
    for number, lead in enumerate((0.2, 0.6)):
        table = seen[number].table
        before = table["event_time"].astype(float) - table["time"].astype(float)
        assert before.min() >= lead - 1e-6
        assert table.groupby("case").size().max() == 2
        assert np.all(before.groupby(table["case"]).min() < lead + 0.35)  # the latest, not any


def test_what_cannot_be_asked_is_refused_in_words(run, tmp_path) -> None:
    assert "no column" in refused(run, "--event-time", "evnt")
    assert "no model yet" in refused(tmp_path, "--event-time", "event_time")
    assert "--before-event" in refused(run, "--event-time", "event_time", "--before-event", "soon")
    assert "no case has an image at any of these times" in refused(
        run, "--event-time", "event_time", "--before-event", "99"
    )
    assert "more than one 'displacement'" in refused(run, "--event-time", "displacement")
    model = run.parent / "other" / "model"
    model.mkdir(parents=True)
    held = json.loads((run / "model" / "model.json").read_text())
    write_json(model / "model.json", held | {"names_salt": "another"})
    for name in ("model.safetensors", "history.json"):
        (model / name).write_bytes((run / "model" / name).read_bytes())
    assert "by other codes" in refused(run, "--event-time", "event_time", "--against", run.parent / "other")
