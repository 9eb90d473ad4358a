"""What is said of one case equals what `predict` says of it, and what is wrong with an image is told."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from trained_run import first_images, make_run

from overread.cases.audit.image_checks import FILE
from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.core.errors import ImageError, InputError
from overread.evaluation.decision.class_decision import LARGEST
from overread.evaluation.recalibrate import fit_recalibration, recalibrate
from overread.learning.model import Model
from overread.learning.predict import load_model
from overread.predictions import Predictions
from overread.retrieval.embed import embed
from overread.retrieval.index import Index
from overread.study.context import predictions_of
from overread.study.opinion import open_reader
from overread.tasks.target import Target


@pytest.fixture(scope="module")
def run(tmp_path_factory, phantom):
    return make_run(tmp_path_factory.mktemp("opinion") / "run", phantom, image="image", label="diagnosis", patient="patient",
                    source="microscope", names="keep", sensitivity=0.9)  # fmt: skip


@pytest.fixture(scope="module")
def reader(run):
    return open_reader(run)


def kinds(opinion) -> list[str]:
    return [finding.kind for finding in opinion.findings]


def test_an_opinion_says_what_predict_says(run, reader, phantom):
    test = predictions_of(run, "test")
    names = first_images(run, "test")
    said = {name: reader.opinion(phantom.parent / name) for name in names}
    for name, case in zip(names, first_images(run, "test", "case"), strict=True):
        told = np.array([answer.value for answer in said[name].answers])
        assert told == pytest.approx(test.scores[list(test.table["case"]).index(case)], abs=1e-6)
    assert reader.opinion((phantom.parent / names[0]).read_bytes()).answers == said[names[0]].answers


def test_calls_are_those_of_the_frozen_point_with_what_it_had_on_the_test(run, reader, phantom):
    (point,) = reader.standards.points
    rows, positive, score = [], [], []
    for name in first_images(run, "test"):
        (call,) = (opinion := reader.opinion(phantom.parent / name)).calls
        assert call.positive == (call.score >= point.threshold)
        assert call.at == "at 90 % sensitivity"
        assert opinion.called == ("malignant" if call.positive else "benign")
        rows.append(name)
        positive.append(call.positive)
        score.append(call.score)
    assert call.sensitivity.value == pytest.approx(_value(run, "sensitivity"))
    assert call.specificity.value == pytest.approx(_value(run, "specificity"))
    assert 0 < call.sensitivity.low <= call.sensitivity.value <= call.sensitivity.high


def _value(run, metric):
    held = json.loads((run / "evaluation" / "metrics.json").read_text())
    return next(e["value"] for e in held if (e["metric"], e["of"], e["where"]) == (metric, "malignant", {}))


def test_a_fit_image_of_the_test_part_has_no_failed_check(run, reader, phantom):
    for name in first_images(run, "test")[:10]:
        opinion = reader.opinion(phantom.parent / name)
        assert (kinds(opinion), opinion.seen, opinion.trusted) == ([], "", True)


def test_an_image_or_a_patient_of_training_is_known_again(run, reader, phantom, tmp_path):
    name = first_images(run, "train")[0]
    patient = first_images(run, "train", "patient")[0]
    assert reader.opinion(phantom.parent / name).seen == "the very image"
    copy = tmp_path / "copy.bmp"  # the same pixels in another file
    Image.open(phantom.parent / name).save(copy)
    assert reader.opinion(copy).seen == "the very image"
    other = phantom.parent / first_images(run, "test")[0]
    assert reader.opinion(other, patient=patient).seen == "the patient"
    stranger = reader.opinion(other, patient="P-NOBODY")
    assert stranger.seen == ""
    assert not any("patient" in reason for reason in stranger.unchecked)
    assert any("no patient is named" in reason for reason in reader.opinion(other).unchecked)


FAULTS = {
    "blank": lambda x: np.full_like(x, 128),
    "size": lambda x: np.kron(x, np.ones((3, 3, 1), np.uint8)),
    "shape": lambda x: x[:, :20],
    "colour": lambda x: x[..., 0],
    "brightness": lambda x: (200 + x // 5).astype(np.uint8),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_told(kind, run, reader, phantom):
    pixels = np.asarray(Image.open(phantom.parent / first_images(run, "test")[0]).convert("RGB"))
    opinion = reader.opinion(np.ascontiguousarray(FAULTS[kind](pixels)))
    assert kind in kinds(opinion)
    assert not opinion.trusted
    assert len(opinion.warnings) == len(opinion.findings)


def test_several_images_of_a_case_count_alike(run, reader, phantom):
    first, second = (phantom.parent / name for name in first_images(run, "test")[:2])
    both = reader.opinion([first, second], case="both")
    apart = [np.array([answer.value for answer in reader.opinion(one).answers]) for one in (first, second)]
    assert np.array([answer.value for answer in both.answers]) == pytest.approx(np.mean(apart, axis=0), abs=1e-6)
    assert (both.case, len(both.images)) == ("both", 2)


def test_findings_of_several_images_say_which_by_place_and_name_no_file(run, reader, phantom, tmp_path):
    whole = phantom.parent / first_images(run, "test")[0]
    grey, cut = tmp_path / "DOE_JOHN.png", tmp_path / "DOE_JANE.png"
    Image.open(whole).convert("L").save(grey)
    cut.write_bytes(whole.read_bytes()[:200])
    table = pd.DataFrame({"image": [str(whole), str(grey), str(cut)], "case": "a", "patient": "", "source": "", "split": "", "view": "", "time": "", "label": ""})  # fmt: skip
    (found,) = reader.opinions(Cases(table, reader.model.target))
    said = found.renamed("k1", ("k2", "k3", "k4")).to_json() + str(found.renamed("k1", ("k2", "k3", "k4")))
    assert "DOE" not in said
    assert "(image 2 of 3)" in said
    assert "image 3 of 3 cannot be read and counts as missing" in said


def test_an_image_that_cannot_be_read_is_named_and_nothing_is_said_of_it(reader, phantom, run, tmp_path):
    cut = tmp_path / "cut.png"
    cut.write_bytes((phantom.parent / first_images(run, "test")[0]).read_bytes()[:200])
    with pytest.raises(ImageError, match=r"cut\.png"):
        reader.opinion(cut)
    with pytest.raises(InputError, match="no image"):
        reader.opinion([])


def test_json_holds_every_field(run, reader, phantom):
    opinion = reader.opinion(phantom.parent / first_images(run, "test")[0])
    held = json.loads(opinion.to_json())
    assert held["answers"][0]["name"] == "benign"
    assert held["calls"][0]["sensitivity"]["metric"] == "sensitivity"
    assert held["trusted"] is True
    assert held["novelty"]["distance"] is None


# -- unlike the training data -------------------------------------------------------------------------------------


def test_what_is_unlike_the_training_data_is_told_by_the_index(run, reader, phantom):
    assert "overread similar" in reader.opinion(phantom.parent / first_images(run, "test")[0]).novelty.why
    cases, parts, model = Cases.load(run / "cases.csv"), Split.load(run / "split.csv"), load_model(run)
    index = Index.build(model, cases.only(parts, "train"), tuning=cases.only(parts, "tuning"))
    try:
        index.save(run / "index")
        asked = open_reader(run)
        strange = np.indices((32, 32)).sum(0) % 2 * 255
        far = asked.opinion(np.repeat(strange[..., None], 3, 2).astype(np.uint8))
        assert far.novelty.unlike is True
        assert not far.trusted
        assert "UNLIKE" in str(far)
        near = asked.opinion(phantom.parent / first_images(run, "train")[0])
        assert near.novelty.unlike is False
        name, case = first_images(run, "test")[0], first_images(run, "test", "case")[0]
        told = asked.opinion(phantom.parent / name).novelty
        vector = embed(model, cases[case], [index.about.layer]).vectors[index.about.layer]
        assert len(cases[case]) == 1
        assert told.distance == pytest.approx(float(index.novelty(vector)[0]), abs=1e-5)
        assert told.limit == index.novelty_limit
        searches, search = [], Index.novelty
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                Index, "novelty", lambda self, vectors: searches.append(len(vectors)) or search(self, vectors)
            )
            list(asked.opinions(cases.only(parts, "test")))
        assert searches == [len(first_images(run, "test"))]  # the index is searched once for all cases
        changed = (run / "index" / "vectors.npy").read_bytes()
        (run / "index" / "vectors.npy").write_bytes(changed[:-1] + bytes([changed[-1] ^ 1]))
        broken = open_reader(run)
        assert broken.index is None
        assert "damaged" in broken.no_index
    finally:
        shutil.rmtree(run / "index")


# -- which probability is told ------------------------------------------------------------------------------------


def test_a_model_that_training_did_not_calibrate_is_calibrated_on_tuning_data(run, reader, phantom, tmp_path):
    bare = make_run(tmp_path / "bare", phantom, decisions=(), tuning=0.4, image="image", label="diagnosis", patient="patient", source="microscope", names="keep")  # fmt: skip
    image = phantom.parent / first_images(bare, "test")[0]
    mended = open_reader(bare)
    fitted = fit_recalibration(predictions_of(bare, "tuning"), method="auto")
    own = open_reader(bare, as_trained=True).opinion(image)
    wanted = recalibrate(_one(own), fitted).scores[0]
    assert [answer.value for answer in mended.opinion(image).answers] == pytest.approx(wanted, abs=1e-6)
    assert fitted.method in mended.calibration
    assert "as you asked" in own.calibration
    assert own.calls == mended.opinion(image).calls  # points are of the model's own probabilities
    assert "calibrated in training" in reader.calibration


def test_what_calibrate_made_is_taken_if_it_is_of_this_model(run, phantom, tmp_path):
    tuning = predictions_of(run, "tuning")
    made = fit_recalibration(tuning, method="temperature")
    stored = run / "calibration" / "recalibration.json"
    try:
        made.save(stored)
        image = phantom.parent / first_images(run, "test")[0]
        own = open_reader(run, as_trained=True).opinion(image)
        told = open_reader(run).opinion(image)
        assert [a.value for a in told.answers] == pytest.approx(recalibrate(_one(own), made).scores[0], abs=1e-6)
        replace(made, salt="of others").save(stored)
        other = open_reader(run)
        assert other.recalibration is None
        assert "left out" in other.calibration
    finally:
        stored.unlink()


def test_a_model_that_was_trained_again_has_nothing_of_the_one_before(run, phantom, tmp_path):
    again, image = tmp_path / "again", phantom.parent / first_images(run, "test")[0]
    shutil.copytree(run, again)
    model = load_model(run)
    Model(model.network, replace(model.about, decisions=(), recipe=model.about.recipe.changed(seed=7))).save(again / "model")  # fmt: skip
    opinion = open_reader(again).opinion(image)
    assert (opinion.calls, opinion.called_by, opinion.not_ruled_out) == ((), LARGEST, "")
    assert "NOT calibrated, since the tuning predictions are another model's" in opinion.calibration
    assert not any(line.startswith("judged on") for line in opinion.facts)
    assert any("of another model, trained before, and are left out" in line for line in opinion.facts)
    model.save(again / "model")  # the one of before has all of it again
    assert len(open_reader(again).opinion(image).calls) == 1
    held = json.loads((again / "evaluation" / "curves.json").read_text())
    held["model"] = "0" * 16  # predictions were made anew, and not judged
    (again / "evaluation" / "curves.json").write_text(json.dumps(held))
    assert open_reader(again).opinion(image).calls == ()


def test_tuning_cases_of_one_class_calibrate_nothing_and_that_is_said(phantom, tmp_path):
    bare = make_run(tmp_path / "bare", phantom, decisions=(), tuning=0.4, image="image", label="diagnosis", patient="patient", names="keep")  # fmt: skip
    tuning = Predictions.read(bare / "predictions" / "tuning.csv")
    replace(tuning, table=tuning.table.assign(label="benign")).save(bare / "predictions" / "tuning.csv")
    reader = open_reader(bare)
    assert reader.recalibration is None
    assert "NOT calibrated, since recalibration needs tuning cases of at least two classes" in reader.calibration


def _one(opinion) -> Predictions:
    row = {
        "case": "a",
        "patient": "a",
        "split": "",
        "source": "",
        "label": "",
        **{f"p:{a.name}": a.value for a in opinion.answers},
    }
    return Predictions(pd.DataFrame([row]), Target("binary", ("benign", "malignant"), ("malignant",)))


# -- other tasks, other models ------------------------------------------------------------------------------------


def test_members_of_an_ensemble_say_how_far_they_are_apart(phantom, tmp_path):
    run = make_run(
        tmp_path / "run", phantom, members=2, image="image", label="diagnosis", patient="patient", names="keep"
    )
    name, case = first_images(run, "test")[0], first_images(run, "test", "case")[0]
    opinion = open_reader(run).opinion(phantom.parent / name)
    for answer in opinion.answers:
        assert answer.low <= answer.value <= answer.high
    assert opinion.answers[0].low < opinion.answers[0].high
    test = predictions_of(run, "test")
    wanted = test.scores[list(test.table["case"]).index(case)]
    assert [answer.value for answer in opinion.answers] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("fields", [{"labels": ("mass", "fluid")}, {"value": "amount"}], ids=["findings", "quantity"])
def test_findings_and_quantities_too(fields, phantom, tmp_path):
    table = pd.read_csv(phantom)
    rng = np.random.default_rng(0)
    ill = (table["diagnosis"] == "malignant").astype(int)
    table = table.assign(mass=ill, fluid=rng.integers(0, 2, len(table)), amount=ill + rng.normal(size=len(table)), image=[str(phantom.parent / i) for i in table["image"]])  # fmt: skip
    table.drop(columns="diagnosis").to_csv(tmp_path / "t.csv", index=False)
    run = make_run(
        tmp_path / "run", tmp_path / "t.csv", image="image", patient="patient", names="keep", tuning=0.4, **fields
    )
    reader, test = open_reader(run), predictions_of(run, "test")
    name, case = first_images(run, "test")[0], first_images(run, "test", "case")[0]
    opinion = reader.opinion(tmp_path / name)
    wanted = test.scores[list(test.table["case"]).index(case)]
    assert [answer.value for answer in opinion.answers] == pytest.approx(wanted, abs=1e-5)
    assert str(opinion)
    if "labels" in fields:
        assert {call.of for call in opinion.calls} == {"mass", "fluid"}
        assert opinion.certainty.of in ("mass", "fluid")
    else:
        assert (opinion.called, opinion.certainty.word) == ("", "")
        assert "to" in opinion.not_ruled_out


def test_a_model_without_its_run_answers_and_says_what_is_missing(run, phantom, tmp_path):
    shutil.copytree(run / "model", tmp_path / "alone" / "model")
    (tmp_path / "alone" / "model" / FILE).unlink()
    opinion = open_reader(tmp_path / "alone").opinion(phantom.parent / first_images(run, "test")[0])
    assert opinion.calls == ()
    assert opinion.called in ("benign", "malignant")
    assert any("training images" in reason for reason in opinion.unchecked)
