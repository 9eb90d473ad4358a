"""The ladder on images whose class is known: what is kept, what is named and left, and what holds after a crash."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from overread.cases.cases import Cases
from overread.core import files
from overread.core.errors import UnavailableError, UnsoundError
from overread.core.progress import Clock
from overread.images.augment import apply, draw
from overread.images.preprocess import Preprocess
from overread.learning.ladder import SLIGHT, Candidate, Jury, Means, _Stand, climb, outputs_on
from overread.learning.loader import TrainingData
from overread.learning.model import Model
from overread.learning.recipe import Recipe
from overread.tasks.target import Target

TARGET = Target("binary", ("dark", "bright"), ("bright",))
RECIPE = Recipe(method="scratch", backbone="lenet5", image_size=16, views=1, normalise="channel mean and std", epochs=4, batch_size=16,
                learning_rate=5e-3, precision="float32", balance=1.0, seed=3)  # fmt: skip


def data(
    signal: float = 60.0, patients: int = 60, share: float = 0.3, kind: str = "binary", seed: int = 0
) -> TrainingData:
    """Two images a patient; the bright ones are ``signal`` grey levels brighter, ``share`` of the patients are bright."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), 2)
    label = (patient < share * patients).astype(int)
    images = (
        rng.normal(100, 30, (len(patient), 16, 16, 1))
        + signal * label[:, None, None, None] * rng.random((len(patient), 1, 1, 1)) * 2
    )
    table = pd.DataFrame(
        {
            "case": [f"c{i}" for i in range(len(patient))],
            "patient": [f"p{p}" for p in patient],
            "image": "x.png",
            "source": "",
            "view": "",
            "time": "",
            "split": "",
        }
    )
    target = TARGET if kind == "binary" else Target("quantity", ("light",))
    table = (
        table.assign(label=np.array(TARGET.names)[label]) if kind == "binary" else table.assign(value=5.0 * label + 100)
    )
    tuning = np.flatnonzero(patient % 5 == 0)
    return TrainingData(Cases(table, target, Path()), images.clip(0, 255).astype(np.uint8), tuple(f"d{i}" for i in range(len(patient))),
                        Preprocess(size=(16, 16), channels=1), np.flatnonzero(patient % 5 != 0), tuning)  # fmt: skip


def climbed(found: TrainingData, *candidates: Candidate, folds: int = 1, pairs=(), **means):
    return climb(
        candidates or (Candidate("network", RECIPE),), lambda recipe: found, Means(**means), folds=folds, pairs=pairs
    )


WORSE = Candidate("worse", RECIPE.changed(epochs=1, learning_rate=1e-5))
BETTER = Candidate("better", RECIPE.changed(epochs=6))


def test_a_rung_that_is_no_better_is_named_and_not_kept() -> None:
    found, said = data(), []
    up = climbed(found, WORSE, BETTER, say=said.append).model
    down = climbed(found, BETTER, WORSE, say=said.append).model
    assert [rung.taken for rung in up.rungs[:2]] == [True, True]
    assert [rung.taken for rung in down.rungs[:2]] == [True, False]
    assert up.rungs[1].gain > 0 > down.rungs[1].gain
    assert up.rungs[1].gain_low <= up.rungs[1].gain <= up.rungs[1].gain_high
    assert any("worse" in line and "not kept" in line for line in said)
    outputs = outputs_on(down, found, found.tuning)
    seen = [outputs, _if_tilted(down, found, found.tuning)]  # all of the few are judged a second time
    areas = [roc_auc_score(found.cases.labels[found.tuning], each[:, 1] - each[:, 0]) for each in seen]
    assert np.mean(areas) == pytest.approx(max(rung.score for rung in down.rungs), abs=1e-6)
    assert f"{areas[0]:.3f} as they are, {areas[1]:.3f} slightly changed" in "\n".join(said)


def _if_tilted(model: Model, found: TrainingData, rows: np.ndarray) -> np.ndarray:
    drawn = draw(SLIGHT, seed=RECIPE.seed, epoch=0, samples=rows, size=(16, 16), channels=1)
    images = np.array(found.images)
    images[rows] = apply(found.images, drawn, rows=rows)
    return outputs_on(model, replace(found, images=images), rows)


def test_of_two_that_tell_as_much_the_one_is_kept_that_slight_changes_do_not_mislead() -> None:
    """The brittle one is the better of images as they are, and guesses where they are changed."""
    rng = np.random.default_rng(4)
    jury = Jury.of(data(patients=200), 1, 3, changed=500)
    labels = np.concatenate([jury.labels, jury.labels[jury.changed]])
    clean = np.arange(len(labels)) < len(jury.rows)
    brittle = labels + rng.normal(0, np.where(clean, 0.3, 2.0))
    steady = labels + rng.normal(0, 0.45, len(labels))
    stands = [_Stand(name, "", (), (), np.stack([np.zeros(len(labels)), each], 1)) for name, each in (("brittle", brittle), ("steady", steady))]  # fmt: skip
    assert jury.compare(stands[1], stands[0], 0.0, Clock()).taken
    plain = replace(jury, changed=jury.changed[:0])
    short = [replace(each, outputs=each.outputs[clean]) for each in stands]
    assert not plain.compare(short[1], short[0], 0.0, Clock()).taken


def test_of_each_answer_as_many_are_changed_as_there_are() -> None:
    found = data(patients=400, share=0.02)  # 16 bright images of 800
    jury = Jury.of(found.on(np.arange(2), np.arange(2, 800)), 1, 3, changed=100)
    assert len(jury.changed) == 100 == len(set(jury.changed))
    assert jury.labels[jury.changed].sum() == jury.labels.sum() == 14
    assert not len(Jury.of(found, 1, 3).changed)


def test_what_folds_say_of_a_patient_was_not_learned_from_him(monkeypatch) -> None:
    """Labels of one fold turned around: its own held-out outputs stay as they were, for who is asked has not seen them."""
    found = data()
    fold = np.repeat(np.arange(60), 2) % 3
    monkeypatch.setattr("overread.learning.ladder.folds_of", lambda *_, **__: fold)
    table, mine = found.cases.table.copy(), fold == 1
    table.loc[mine, "label"] = np.where(table.loc[mine, "label"] == "dark", "bright", "dark")
    turned = replace(found, cases=replace(found.cases, table=table))
    candidate = Candidate("network", RECIPE.changed(balance=0.0))
    second, plain = (climbed(held, candidate, folds=3) for held in (turned, found))
    assert len(plain.outputs) == len(plain.jury.rows) == len(found.cases)
    assert len(plain.model.about.members) == 3
    order = [np.argsort(np.argsort(each.outputs[mine][:, 1] - each.outputs[mine][:, 0])) for each in (second, plain)]
    np.testing.assert_array_equal(*order)  # calibration sees the labels, and keeps the order


def test_patients_and_equal_images_stay_in_one_fold() -> None:
    found = data()
    digests = list(found.digests)
    digests[10] = digests[50]  # two patients with an image of the same bytes
    fold = Jury.of(replace(found, digests=tuple(digests)), 4, 0).fold
    patient = found.cases.table["patient"].to_numpy()
    assert all(len(set(fold[patient == p])) == 1 for p in set(patient))
    assert fold[10] == fold[50]
    assert set(fold) == {0, 1, 2, 3}


def test_like_cases_stay_in_one_fold_and_only_those_from_where_the_model_is_meant_for_judge() -> None:
    found = data()
    pairs = [("c4", "c90", "near"), ("c4", "c60", "near")]
    fold = Jury.of(found, 4, 0, pairs).fold
    assert fold[4] == fold[90] == fold[60]
    patient = np.arange(120) // 2
    sources = np.where(patient % 5 == 0, "C", np.where(patient % 2, "C", "A"))  # tuned in C alone, taught by both
    found = replace(found, cases=replace(found.cases, table=found.cases.table.assign(source=sources)))
    jury = Jury.of(found, 3, 0)
    assert set(sources[jury.rows]) == {"C"}
    assert (jury.fold >= 0).all()  # A teaches
    assert "folds" in jury.words
    made = climbed(found, folds=3)
    assert len(made.outputs) == (sources == "C").sum()


def test_the_gain_of_a_rung_is_that_of_resampled_patients() -> None:
    """Against a restatement: resample whole patients, the AUC of each, the deviation of their differences."""
    found = data(signal=30.0, patients=100)
    jury = Jury.of(found, 1, 3)
    rng = np.random.default_rng(0)
    labels = jury.labels
    outputs = [
        np.stack([np.zeros(len(labels)), labels + rng.normal(0, spread, len(labels))], 1) for spread in (1.0, 1.5)
    ]
    first, second = (_Stand(name, "", (), (), each) for name, each in zip("ab", outputs, strict=True))
    rung = jury.compare(second, first, 0.0, Clock())
    assert jury.compare(first, None, 0.0, Clock()).taken
    areas = [roc_auc_score(labels, each[:, 1]) for each in outputs]
    assert rung.gain == pytest.approx(areas[1] - areas[0], abs=1e-9)
    rows = [np.flatnonzero(jury.patients == p) for p in range(jury.patients.max() + 1)]
    drawn = []
    while len(drawn) < 2000:
        some = np.concatenate([rows[p] for p in rng.integers(0, len(rows), len(rows))])
        if 0 < labels[some].sum() < len(some):
            drawn.append(np.subtract(*(_won(labels[some], each[some, 1]) for each in outputs[::-1])))
    assert rung.gain_high - rung.gain_low == pytest.approx(np.subtract(*np.quantile(drawn, [0.975, 0.025])), rel=0.25)
    assert rung.taken == (rung.gain > np.std(drawn))


def test_a_gain_that_nobody_would_notice_is_not_kept_however_sure_it_is() -> None:
    found = data(signal=30.0, patients=400, share=0.5)
    jury = Jury.of(found.on(np.arange(2), np.arange(2, 800)), 1, 3)
    labels = jury.labels

    def stand(name: str, misplaced: int) -> _Stand:
        """All told apart, but for some healthy ones that stand above the twenty lowest ill ones."""
        score = labels * 2.0 + np.arange(len(labels)) / len(labels)
        score[np.flatnonzero(labels == 0)[:misplaced]] = np.sort(score[labels == 1])[20] - 1e-4
        return _Stand(name, "", (), (), np.stack([np.zeros(len(labels)), score], 1))

    rung = jury.compare(stand("better", 0), stand("worse", 10), 0.0, Clock())
    assert rung.gain_low > 0
    assert 0 < rung.gain < 0.002
    assert not rung.taken
    assert "not more than 0.002, which is the least that would be noticed" in rung.why


def _won(labels: np.ndarray, score: np.ndarray) -> float:
    """The share of pairs in which the positive one has the higher score: no two are equal but copies of one."""
    lead = score[labels == 1][:, None] - score[labels == 0]
    return float((lead > 0).mean() + (lead == 0).mean() / 2)


def test_a_jury_of_one_answer_judges_by_the_loss() -> None:
    found = data(share=0.3)
    healthy = np.flatnonzero(found.cases.labels == 0)[:20]
    found = found.on(np.setdiff1d(np.arange(120), healthy), healthy)
    made = climbed(found, WORSE, BETTER)
    assert np.isfinite([rung.score for rung in made.model.rungs]).all()
    assert all(rung.score < 0 for rung in made.model.rungs)  # minus the loss: there is no AUC


def test_folds_answer_together_better_than_chance_and_are_calibrated() -> None:
    found = data(signal=80.0, patients=120)
    made = climbed(found, folds=3)
    labels = found.cases.labels[made.jury.rows]
    chance = found.cases.target.task.probabilities(torch.from_numpy(made.outputs)).numpy()[:, 1]
    assert roc_auc_score(labels, chance) > 0.85
    assert chance.mean() == pytest.approx(labels.mean(), abs=0.05)  # though classes were weighted alike in training


def test_the_same_again_and_after_a_crash(tmp_path) -> None:
    found = data()
    whole = climbed(found, WORSE, BETTER, folds=2, folder=tmp_path / "whole" / "checkpoints")
    calls = []

    def stop(what: str, done: int, total: int) -> None:
        calls.append(what)
        if len([c for c in calls if "fold 2" in c and "training" in c]) == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        climbed(found, WORSE, BETTER, folds=2, folder=tmp_path / "cut" / "checkpoints", progress=stop)
    again = climbed(found, WORSE, BETTER, folds=2, folder=tmp_path / "cut" / "checkpoints")
    assert again.model.digest == whole.model.digest
    np.testing.assert_array_equal(again.outputs, whole.outputs)
    assert Model.load(again.model.save(tmp_path / "model")) == whole.model
    assert repr(Model.load(tmp_path / "model").rungs) == repr(again.model.rungs)


def test_a_quantity_is_averaged_over_folds_in_its_unit() -> None:
    found = data(kind="quantity", patients=60)
    made = climbed(found, Candidate("network", RECIPE.changed(learning_rate=2e-3, label_smoothing=0.0)), folds=3)
    task, about = found.cases.target.task, made.model.about
    said = task.unscaled(made.outputs, about.scale)[:, 0]
    assert np.abs(said - 101.5).max() < 10
    whole = task.unscaled(outputs_on(made.model, found, made.jury.rows), about.scale)[:, 0]
    assert np.corrcoef(said, whole)[0, 1] > 0.8


def test_a_rung_that_fails_is_left_out_and_said(monkeypatch) -> None:
    found, said = data(), []
    broken = Candidate("broken", RECIPE.changed(backbone="resnet18", method="finetune"), "")
    made = climbed(found, WORSE, broken, say=said.append)
    assert [rung.name for rung in made.model.rungs] in ([], ["worse"])
    assert any("broken: left out" in line for line in said)
    one_class = replace(found, cases=replace(found.cases, table=found.cases.table.assign(label="dark")))
    with pytest.raises(UnsoundError, match="one class"):
        climbed(one_class)


def test_each_fold_gets_its_share_of_the_time() -> None:
    """A clock that runs a second a look: no fold takes what belongs to the others."""

    class Ticking(Clock):
        ticks = 0.0

        @property
        def elapsed(self) -> float:
            self.ticks += 0.5
            return self.ticks

    found = data()
    made = climbed(found, Candidate("network", RECIPE.changed(epochs=50)), folds=3, clock=Ticking(300.0))
    epochs = [len(member.decisions) for member in made.model.about.members]
    assert len(epochs) == 3
    assert len(made.model.history) < 50


@pytest.mark.parametrize("fusion", ["mean", "concat"])
def test_cases_of_several_images_are_judged_together_in_folds(fusion) -> None:
    found = data(patients=40)
    table = found.cases.table
    table = table.assign(case=table["patient"], view=["left", "right"] * 40)
    found = replace(found, cases=replace(found.cases, table=table))
    made = climbed(found, Candidate("network", RECIPE.changed(fusion=fusion, views=2)), folds=2)
    pairs = made.outputs.reshape(40, 2, 2)
    np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])  # one answer a case
    assert made.model.about.members[0].views == made.model.about.views
    whole = outputs_on(made.model, found, made.jury.rows)
    each = [outputs_on(Model(member.network, about), found, made.jury.rows)
            for member, about in zip(made.model.network.members, made.model.about.members, strict=True)]  # fmt: skip
    np.testing.assert_allclose(whole, np.mean(each, axis=0), atol=1e-4)


@pytest.mark.parametrize(("loss", "undone"), [("", True), ("focal", False)])
def test_weights_of_the_classes_are_undone_of_a_proper_loss_only(loss, undone) -> None:
    model = climbed(data(), Candidate("network", RECIPE.changed(loss=loss, epochs=1))).model
    told = next(each for each in model.about.decisions if each.what == "calibration")
    assert ("weights of the classes are undone" in told.why) == undone


def test_a_source_of_few_patients_judges_though_some_folds_have_none_of_it() -> None:
    found = data()
    table = found.cases.table
    few = table["patient"].isin(["p0", "p55"])  # one of each class
    cases = replace(found.cases, table=table.assign(source=np.where(few, "here", "there")))
    tuning = np.flatnonzero(few.to_numpy())
    made = climbed(replace(found, cases=cases, training=np.flatnonzero(~few.to_numpy()), tuning=tuning), folds=3)
    assert len(made.outputs) == 4
    assert len(made.model.about.members) == 3


@pytest.mark.parametrize("write", [2, 7, 12])
def test_a_full_disk_ends_a_ladder_with_its_reason_and_the_next_call_goes_on(tmp_path, monkeypatch, write) -> None:
    found, real, writes = data(), files._sync, []
    whole = climbed(found, WORSE, BETTER, folds=2, folder=tmp_path / "whole" / "checkpoints")

    def full(path: Path) -> None:
        writes.append(path)
        if len(writes) == write:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path)

    monkeypatch.setattr(files, "_sync", full)
    with pytest.raises(UnavailableError, match="No space left"):
        climbed(found, WORSE, BETTER, folds=2, folder=tmp_path / "cut" / "checkpoints")
    again = climbed(found, WORSE, BETTER, folds=2, folder=tmp_path / "cut" / "checkpoints")
    assert again.model.digest == whole.model.digest
