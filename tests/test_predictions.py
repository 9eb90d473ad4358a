"""The waist: any table of predictions, ours or a stranger's."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from overread.core.errors import InputError, UnsoundError
from overread.core.identifiers import marks
from overread.predictions import PredictedBy, Predictions, predicted_by, shared_cases
from overread.tasks.target import Target
from overread.tasks.taxonomy import Taxonomy


def write(folder, text):
    path = folder / "predictions.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_strangers_table_needs_little(tmp_path):
    found = Predictions.read(write(tmp_path, "case,label,p:cat,p:dog,p:cow\na,cat,.5,.3,.2\nb,cow,0,0,1\n"))
    assert found.target == Target("classes", ("cat", "dog", "cow"))
    assert found.truth.tolist() == [0, 2]
    assert found.patients.tolist() == ["a", "b"]
    assert str(found) == "predictions for 2 cases of 2 patients"


def test_one_column_of_probabilities_is_enough_for_two_classes(tmp_path):
    found = Predictions.read(write(tmp_path, "case,label,p:1\na,0,.25\nb,1,.75\n"))
    assert found.target == Target("binary", ("0", "1"), ("1",))
    assert found.scores.tolist() == [[0.75, 0.25], [0.25, 0.75]]
    assert Predictions.read(write(tmp_path, "case,label,p:ill\na,ill,.25\n")).target.names == ("not ill", "ill")
    with pytest.raises(InputError, match="two values"):
        Predictions.read(write(tmp_path, "case,label,p:a\nx,a,.1\ny,b,.2\nz,c,.3\n"))


def test_findings_and_quantities_are_known_by_their_columns(tmp_path):
    found = Predictions.read(write(tmp_path, "case,label:mass,p:mass\na,1,.8\nb,,.3\nc,0,.1\n"))
    assert found.target.kind == "findings"
    np.testing.assert_array_equal(found.truth[:, 0], [1, np.nan, 0])
    found = Predictions.read(write(tmp_path, "case,value,predicted\na,1.5,2\nb,,3\n"))
    assert found.target.kind == "quantity"
    assert found.scores.tolist() == [[2], [3]]


def test_names_that_look_like_numbers_or_blanks_stay_text(tmp_path):
    found = Predictions.read(write(tmp_path, "case,patient,label,p:NA,p:01\n007,1e5,01,.1,.9\n008,,NA,.8,.2\n"))
    assert found.table["case"].tolist() == ["007", "008"]
    assert found.patients.tolist() == ["1e5", "008"]  # a blank patient is the case itself, not one with all blanks
    assert found.truth.tolist() == [1, 0]


def test_a_round_trip_keeps_a_float32(tmp_path):
    rng = np.random.default_rng(0)
    score = rng.random(200).astype(np.float32)
    table = pd.DataFrame({"case": [f"é{i}" for i in range(200)], "patient": "p", "split": "test", "source": "a,b\nc",
                          "sex": "f", "label": "yes", "p:no": 1 - score, "p:yes": score})  # fmt: skip
    ours = Predictions(table, Target("binary", ("no", "yes"), ("yes",)))
    again = Predictions.read(ours.save(tmp_path / "out" / "p.csv"), positive=("yes",))
    np.testing.assert_array_equal(again.scores.astype(np.float32), ours.scores.astype(np.float32))
    assert again.table["source"].tolist() == ours.table["source"].tolist()
    assert again.subgroups == ("sex",)
    assert Predictions.read(again.save(tmp_path / "two.csv"), positive=("yes",)) == again


def test_unknown_labels_are_unknown():
    table = pd.DataFrame({"case": list("abc"), "patient": list("abc"), "split": "", "source": "",
                          "label": ["x", "", None], "p:x": 0.5, "p:y": 0.5})  # fmt: skip
    assert Predictions(table, Target("binary", ("x", "y"), ("y",))).truth.tolist() == [0, -1, -1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,label\na,b\n", "no predictions"),
        ("label,p:a,p:b\na,.5,.5\n", "lack the column 'case'"),
        ("case,p:a,p:b\na,.5,.5\n", "lack the column 'label'"),
        ("case,label,p:a,p:b\nx,a,.5,.5\nx,a,.5,.5\n", "more than one prediction"),
        ("case,label,p:a,p:b\nx,a,high,.5\n", "'p:a' must hold numbers"),
        ("case,label:a,p:a\nx,yes,.5\n", "'label:a' must hold numbers"),
        ("case,label,p:a\nx,a,high\n", "must hold numbers"),
        ("", "cannot be read"),
    ],
)
def test_bad_tables_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        Predictions.read(write(tmp_path, text))


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match="do not exist"):
        Predictions.read(tmp_path / "none.csv")
    with pytest.raises(InputError, match="cannot be read"):
        Predictions.read(tmp_path)


def test_an_empty_table_is_a_table(tmp_path):
    assert len(Predictions.read(write(tmp_path, "case,label,p:a,p:b\n"))) == 0


# -- labels: no case leaves in silence ----------------------------------------------------------------------------

TWO = "case,label,p:benign,p:malignant\na,benign,.9,.1\nb,malignant,.2,.8\n"


@pytest.mark.parametrize("cell", ["malignant ", " malignant", "malignant\u00a0", "\u200bmalignant"])
def test_blanks_around_a_label_go_and_it_is_said(tmp_path, cell):
    found = Predictions.read(write(tmp_path, TWO + f"c,{cell},.4,.6\n"))
    assert found.truth.tolist() == [0, 1, 1]
    assert any(note.startswith("label: 1 of 3 cells is read in another form") for note in found.notes)


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("Malignant", "if these are the same, say --rename-label Malignant=malignant"),
        ("MALIGNANT", "--rename-label MALIGNANT=malignant"),
        ("carcinoma", "--rename-label carcinoma=CLASS"),
        ("malignnat", "did you mean 'malignant'"),
        ("1", "--rename-label 1=CLASS"),
    ],
)
def test_a_label_that_is_no_class_is_refused_with_the_way(tmp_path, cell, says):
    path = write(tmp_path, TWO + f"c,{cell},.4,.6\n")
    with pytest.raises(InputError, match="none of the classes that are predicted: benign, malignant") as error:
        Predictions.read(path)
    assert says.lower() in str(error.value).lower()
    assert f"{cell!r} in 1 rows" in str(error.value)
    found = Predictions.read(path, rename={cell: "malignant"})
    assert found.truth.tolist() == [0, 1, 1]
    assert any(repr(cell) in note for note in found.notes)
    assert Predictions.read(path, rename={cell: ""}).truth.tolist() == [0, 1, -1]


@pytest.mark.parametrize(
    ("names", "labels"), [(("0", "1"), ("0.0", "1.0")), (("0.0", "1.0"), ("0", "1")), (("1", "0"), ("0.00", " 1"))]
)
def test_a_number_is_the_same_class_however_it_is_written(tmp_path, names, labels):
    found = Predictions.read(
        write(tmp_path, f"case,label,p:{names[0]},p:{names[1]}\na,{labels[0]},.9,.1\nb,{labels[1]},.2,.8\n")
    )
    assert set(found.target.names) == {"0", "1"}
    assert (found.truth >= 0).all()
    assert found.target.positive == ("1",)


def test_one_column_asks_too(tmp_path):
    text = "case,label,p:malignant\na,benign,.1\nb,malignant,.8\nc,Malignant,.9\n"
    with pytest.raises(InputError, match="--rename-label"):
        Predictions.read(write(tmp_path, text))
    assert Predictions.read(write(tmp_path, text), rename={"Malignant": "malignant"}).truth.tolist() == [0, 1, 1]
    with pytest.raises(InputError, match="--rename-label"):
        Predictions.read(write(tmp_path, "case,label,p:malignant\na,Malignant,.1\nb,malignant,.8\n"))


def test_marks_of_findings_are_one_nothing_or_unknown(tmp_path):
    found = Predictions.read(write(tmp_path, "case,label:mass,p:mass\na,1.0,.8\nb,-1,.3\nc,0,.1\n"))
    np.testing.assert_array_equal(found.truth[:, 0], [1, np.nan, 0])
    assert any("1 uncertain marks" in note for note in found.notes)
    with pytest.raises(InputError, match="must be 1, 0 or blank"):
        Predictions.read(write(tmp_path, "case,label:mass,p:mass\na,2,.8\nb,0,.3\n"))
    spare = Predictions.read(write(tmp_path, "case,label:mass,label:node,p:mass\na,1,1,.8\nb,0,0,.3\n"))
    assert any("not judged: label:node" in note for note in spare.notes)


# -- who is who -----------------------------------------------------------------------------------------------------


def test_patients_written_as_numbers_are_one(tmp_path):
    found = Predictions.read(
        write(tmp_path, "case,patient,label,p:0,p:1\na,7,0,.9,.1\nb,7.0,1,.2,.8\nc, 7,1,.2,.8\nd,nan,1,.2,.8\n")
    )
    assert found.patients.tolist() == ["7", "7", "7", "d"]
    assert any(note.startswith("patient: 2 of 4 cells are read in another form") for note in found.notes)
    assert any("1 of 4 cases name none" in note for note in found.notes)
    table = found.table.assign(patient=[7, "7.0", 7.0, "8"])
    assert Predictions(table, found.target).patients.tolist() == ["7", "7", "7", "8"]


def test_patients_who_may_be_one_are_asked_about(tmp_path):
    path = write(tmp_path, "case,patient,label,p:0,p:1\na,P007,0,.9,.1\nb,p007,1,.2,.8\n")
    with pytest.raises(UnsoundError, match="--identifiers same"):
        Predictions.read(path)
    assert len(set(Predictions.read(path, identifiers="same").patients)) == 1
    assert len(set(Predictions.read(path, identifiers="as-written").patients)) == 2


def test_a_table_without_patients_says_so(tmp_path):
    assert any("no column says who the patient is" in note for note in Predictions.read(write(tmp_path, TWO)).notes)


@pytest.mark.parametrize("header", ["case,label,p:benign,p:malignant", "case,label,p:malignant,p:benign"])
def test_the_positive_class_does_not_follow_the_order_of_columns(tmp_path, header):
    found = Predictions.read(write(tmp_path, header + "\na,benign,.9,.1\nb,malignant,.2,.8\n"))
    assert found.target.positive == ("malignant",)
    assert any("guessed 'malignant'; override with --positive" in note for note in found.notes)
    doubt = Predictions.read(write(tmp_path, "case,label,p:nv,p:bkl\na,nv,.9,.1\nb,bkl,.2,.8\n"))
    assert doubt.target.positive == ()


# -- what the model says of itself --------------------------------------------------------------------------------


def test_what_the_model_says_goes_with_its_predictions(tmp_path):
    ours = Predictions.read(write(tmp_path, TWO))
    target = Target("binary", ("malignant", "benign"), ("benign",))
    by = PredictedBy("0123", target, marks(["P1", "P2"], "salt"), "salt", "as-written")
    path = replace(ours, by=by).save(tmp_path / "by.csv")
    assert "P1" not in path.with_suffix(".model.json").read_text()
    again = Predictions.read(path)
    assert again.by == by
    assert again.target == target
    assert again.identifiers == "as-written"
    assert again.take(np.array([0])).by == by
    ours.save(path)
    assert Predictions.read(path).by is None, "what stood here before is gone"


def test_a_model_is_known_by_its_description_alone(tmp_path):
    (tmp_path / "model.json").write_text(
        '{"target": {"kind": "binary", "names": ["a", "b"], "positive": ["b"]}, "seen": ["x"], "salt": "s", "names_salt": "n", "recipe": {}}'
    )
    by, salt = predicted_by(tmp_path / "model.json")
    assert (by.seen, by.salt, salt) == (("x",), "s", "n")


def test_shared_cases_are_told_from_the_same_numbers():
    rng = np.random.default_rng(0)

    def table(cases, truth):
        made = pd.DataFrame(
            {"case": cases, "patient": cases, "split": "", "source": "", "label": np.where(truth, "y", "n")}
        )
        return Predictions(made.assign(**{"p:n": 0.5, "p:y": 0.5}), Target("binary", ("n", "y"), ("y",)))

    names, truth = [str(i) for i in range(200)], rng.random(200) < 0.1
    held = table(names, truth).case_marks("salt")
    assert shared_cases(table(names[50:], truth[50:]).case_marks("salt"), held) == 150
    mended = truth.copy()
    mended[:2] = ~mended[:2]
    assert shared_cases(table(names, mended).case_marks("salt"), held) == 200
    assert shared_cases(table(names, rng.random(200) < 0.1).case_marks("salt"), held) == 0, "numbers of other cases"
    assert shared_cases(table([f"x{n}" for n in names], truth).case_marks("salt"), held) == 0
    assert shared_cases((), held) == 0


TREE = Taxonomy(
    ("all", "ill", "mel", "bcc", "well", "nv", "bkl"), ("", "all", "ill", "ill", "all", "well", "well"),
    ("", "health", "", "", "health", "", ""),
)  # fmt: skip


def test_a_coarse_class_has_the_sum_over_those_below_it():
    chance = np.random.default_rng(3)
    shares = chance.dirichlet(np.ones(4), 50)
    names = ("bkl", "mel", "nv", "bcc")
    frame = pd.DataFrame({"case": [f"c{i}" for i in range(50)], "label": chance.choice([*names, ""], 50), "sex": "f"})
    fine = Predictions.from_frame(frame.assign(**{f"p:{n}": shares[:, i] for i, n in enumerate(names)}))
    coarse = fine.at_level(TREE, "health", positive=("ill",))
    assert coarse.target == Target("binary", ("ill", "well"), ("ill",))
    assert coarse.subgroups == ("sex", "table label")
    assert shared_cases(fine.case_marks("s"), coarse.case_marks("s")) == 50, "the same test set at any level"
    for row in range(50):
        said = sum(shares[row, names.index(name)] for name in ("mel", "bcc"))
        assert coarse.scores[row, 0] == pytest.approx(said)
        assert coarse.scores[row].sum() == pytest.approx(1)
        label = frame["label"][row]
        assert coarse.table["label"][row] == {"mel": "ill", "bcc": "ill", "": ""}.get(label, "well")
    assert fine.at_level(TREE, "level-2").scores.tolist() == fine.scores[:, [1, 3, 2, 0]].tolist(), (
        "the leaves, in the tree's order"
    )
    assert coarse.at_level(TREE, "level-1", positive=("ill",)).scores.tolist() == coarse.scores.tolist(), (
        "of a coarse model too"
    )


def test_the_label_of_the_study_judges_what_no_training_class_has():
    frame = pd.DataFrame({
        "label": ["mel", "", "", ""], "table label": ["mel", "bcc", "well", "all"], "p:mel": [0.4, 0.7, 0.1, 0.1], "p:nv": [0.6, 0.3, 0.9, 0.9],
    })  # fmt: skip
    coarse = Predictions.from_frame(frame).at_level(TREE, "health", positive=("ill",))
    assert coarse.table["label"].tolist() == ["ill", "ill", "well", ""]
    assert any("1 case labelled above the level 'health'" in note for note in coarse.notes)
    three = Predictions.from_frame(frame).at_level(TREE, "level-2")
    assert three.target.names == ("mel", "bcc", "nv")
    assert not three.scores[:, 1].any()
    assert any("have the probability 0: bcc" in note for note in three.notes)


def test_what_cannot_be_judged_at_a_level_is_refused():
    made = Predictions.from_frame(pd.DataFrame({"label": ["well", "mel"], "p:well": [0.6, 0.5], "p:mel": [0.4, 0.5]}))
    with pytest.raises(InputError, match="lies above the level 'level-2'"):
        made.at_level(TREE, "level-2")
    only = Predictions.from_frame(
        pd.DataFrame({"label": ["bcc", "mel"], "p:bcc": [0.6, 0.5], "p:mel": [0.4, 0.5]}), positive=("mel",)
    )
    with pytest.raises(InputError, match="one class only"):
        only.at_level(TREE, "health")
    with pytest.raises(InputError, match="lacks 1 label of the predictions"):
        Predictions.from_frame(
            pd.DataFrame({"label": ["Nv", "mel"], "p:Nv": [0.6, 0.5], "p:mel": [0.4, 0.5]})
        ).at_level(TREE, "health")
    with pytest.raises(InputError, match="of which a case has one"):
        Predictions.from_frame(pd.DataFrame({"label:mel": [1, 0], "p:mel": [0.4, 0.5]})).at_level(TREE, "health")


def test_coarse_predictions_survive_a_file_with_what_the_model_says(tmp_path):
    by = PredictedBy("a", Target("classes", ("mel", "bcc", "nv")), marks(["p1"], "salt"), "salt")
    frame = pd.DataFrame({"label": ["mel", "nv"], "p:mel": [0.4, 0.1], "p:bcc": [0.3, 0.2], "p:nv": [0.3, 0.7]})
    coarse = replace(Predictions.from_frame(frame), by=by).at_level(TREE, "health", positive=("ill",))
    coarse.save(tmp_path / "coarse.csv")
    again = Predictions.read(tmp_path / "coarse.csv")
    assert again.target == coarse.target
    assert again.by.seen == by.seen
