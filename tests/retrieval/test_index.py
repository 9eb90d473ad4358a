"""The index: never the same patient nor a copy; saved whole, and refused where it is not what was saved."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from overread.cases.cases import paths
from overread.core.errors import ArgumentError, InputError
from overread.core.files import plain
from overread.learning.inputs import inputs
from overread.retrieval import index as module
from overread.retrieval.index import FILES, Index, patient_hashes


def test_neighbours_are_the_nearest_of_other_patients(cohort, index, cache) -> None:
    """Every query lies in the index itself, beside images of the same patient: they would be nearest."""
    cases, parts = cohort
    train = cases.only(parts, "train")
    found, asked = (ask(train, cache=cache, threads=1) for ask in (index.search, index.ask))
    owner = dict(zip(cases.table["case"], cases.table["patient"], strict=True))
    assert len(found) == len(train)
    assert all(owner[row.case] != owner[row.neighbour] for row in found.table.itertuples())
    far = np.linalg.norm(asked.vectors[:, None].astype(float) - index.vectors[None], axis=2)  # the same order as cosine
    assert (far.argmin(axis=1) == np.arange(len(train))).all()
    owners = train.table["patient"].to_numpy()
    far[owners[:, None] == owners[None]] = np.inf
    far[asked.copies[:, 0], asked.copies[:, 1]] = np.inf
    assert (found.rows[:, 0] == far.argmin(axis=1)).all()


def test_with_other_source_the_own_source_never_comes(cohort, index, cache) -> None:
    cases, parts = cohort
    test = cases.only(parts, "test")
    found = index.search(test, 4, other_source=True, cache=cache, threads=1).table
    own = dict(zip(cases.table["case"], cases.table["source"], strict=True))
    assert (found["case"].map(own) != found["source"]).all()
    assert (index.search(test, 4, cache=cache, threads=1).table["source"] == found["case"].map(own)).any()
    blank = replace(test, table=test.table.assign(source=""))
    with pytest.raises(InputError, match="--other-source"):
        index.search(blank, other_source=True, cache=cache, threads=1)


def test_a_copy_under_another_name_never_comes(cohort, index, cache, tmp_path) -> None:
    """A planted copy is nearer than anything, of a patient with another name: it must not be the answer."""
    cases, parts = cohort
    train = cases.only(parts, "train")
    one, pixels = train.take([0]), cv2.imread(paths(train)[0])
    cv2.imwrite(str(tmp_path / "copy.png"), np.clip(pixels * 0.98 + 2, 0, 255).astype(np.uint8))
    row = one.table.assign(image="copy.png", case="new", patient="new", source="Z")
    copy, original = replace(one, root=str(tmp_path), table=row), one.table["case"].iloc[0]
    asked = index.ask(copy, cache=cache, threads=1)
    assert index.search_asked(replace(asked, copies=asked.copies[:0]), 1).table["neighbour"].tolist() == [original]
    assert original not in set(index.search(copy, len(train), cache=cache, threads=1).table["neighbour"])


def test_an_index_comes_back_whole_and_mapped(cohort, model, index, cache, tmp_path) -> None:
    cases, parts = cohort
    again = Index.load(index.save(tmp_path / "index"), model)
    assert isinstance(again.vectors, np.memmap)
    assert (again.vectors == index.vectors).all()
    assert again.rows.equals(index.rows)
    assert plain(replace(again.about, files={})) == plain(index.about)
    one, other = (each.search(cases.only(parts, "test"), 5, cache=cache, threads=1) for each in (index, again))
    assert one.table.equals(other.table)
    built = Index.build(model, cases.only(parts, "train"), tuning=cases.only(parts, "tuning"), cache=cache, threads=1)
    built.save(tmp_path / "twice")
    assert all((tmp_path / "twice" / n).read_bytes() == (tmp_path / "index" / n).read_bytes() for n in FILES)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_flipped_byte_or_a_missing_file_is_refused(index, model, tmp_path, name) -> None:
    path = index.save(tmp_path) / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=name):
        Index.load(tmp_path, model)
    path.unlink()
    with pytest.raises(InputError, match="does not exist"):
        Index.load(tmp_path, model)


@pytest.mark.parametrize("written", range(4))
def test_killed_between_two_files_there_is_the_old_index_or_none(
    index, model, cohort, cache, tmp_path, monkeypatch, written
) -> None:
    other = Index.build(
        model, cohort[0].only(cohort[1], "train"), layer="c3", distance="euclidean", cache=cache, threads=1
    )
    folder, left = index.save(tmp_path), [written]

    def killed_after(real):
        def call(*given, **named):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return real(*given, **named)

        return call

    for name in ("publish", "write_csv", "write_json"):
        monkeypatch.setattr(module, name, killed_after(getattr(module, name)))
    with pytest.raises(KeyboardInterrupt):
        other.save(folder)
    if written:
        with pytest.raises(InputError, match="not what the index was saved with"):
            Index.load(folder, model)
    else:
        assert Index.load(folder, model).about.layer == index.about.layer


def test_another_model_a_later_format_and_unknown_fields_are_refused(index, model, make_model, tmp_path) -> None:
    folder = index.save(tmp_path)
    with pytest.raises(InputError, match="another model"):
        Index.load(folder, make_model(1))
    held = json.loads((folder / "index.json").read_text())
    for changed, said in (
        ({"format": 99}, "later overread"),
        ({"surprise": 1}, "surprise"),
        ({"width": 3}, "do not fit"),
    ):
        (folder / "index.json").write_text(json.dumps({**held, **changed}))
        with pytest.raises(InputError, match=said):
            Index.load(folder, model)


def test_layer_and_distance_are_those_that_did_best_on_tuning(cohort, model, index, cache) -> None:
    cases, parts = cohort
    train, about = cases.only(parts, "train"), index.about
    best = max(about.tried, key=lambda each: each.score)
    assert (about.layer, about.distance) == (best.layer, best.distance)
    assert {each.distance for each in about.tried} == {"cosine", "euclidean"}
    assert sum(e.chosen for e in about.tried) == 1
    macro = next(e for e in about.precision if e.metric == "macro precision@5")
    assert macro.value == pytest.approx(best.score, abs=0.02)
    assert macro.where == {"part": "tuning"}
    bare = Index.build(model, train, cache=cache, threads=1)
    assert (bare.about.layer, bare.about.distance) == ("features", "cosine")
    assert bare.about.notes
    assert np.isnan(bare.novelty_limit)
    assert not bare.about.precision
    for wrong, said in (({"layer": "c33"}, "no such layer"), ({"distance": "cosin"}, "cosine")):
        with pytest.raises(ArgumentError, match=said):
            Index.build(model, train, cache=cache, threads=1, **wrong)


def test_vectors_are_those_of_the_network(cohort, model, cache) -> None:
    """Against a plain forward pass, image by image."""
    cases, parts = cohort
    train, rows = cases.only(parts, "train"), []
    bare = Index.build(model, train, layer="features", distance="euclidean", cache=cache, threads=1)
    with torch.inference_mode():
        for batch in inputs(model, train, threads=1):
            rows += [model.network.features(x[None])[0].numpy() for x in batch.x]
    assert np.allclose(bare.vectors, np.stack(rows), atol=1e-5)


def test_what_is_far_from_everything_is_novel(cohort, index, cache) -> None:
    cases, parts = cohort
    tuning = index.ask(cases.only(parts, "tuning"), cache=cache, threads=1)
    below, owners = index.novelty_of(tuning) <= index.novelty_limit, tuning.patients
    assert 0.95 <= np.mean([below[owners == patient].mean() for patient in set(owners)]) <= 1
    away = -1000 * index.vectors.mean(axis=0, keepdims=True)
    assert (index.novelty(away) > index.novelty_limit).all()


def test_patients_are_hashed_and_two_forms_of_one_are_one(cohort, model, index) -> None:
    one = cohort[0].take([0, 0, 1])
    named = replace(one, table=one.table.assign(patient=["P007", "p-7", "P008"]))
    first, second, third = patient_hashes(model, named)
    assert first == second != third
    assert not set(index.rows["patient"]) & set(cohort[0].table["patient"])
    salted = replace(model, about=replace(model.about, names_salt="x"))
    with pytest.raises(InputError, match="another study"):
        patient_hashes(salted, replace(named, salt="y"))


def test_vectors_of_another_width_or_source_are_refused(index) -> None:
    with pytest.raises(ArgumentError, match="index's layer"):
        index.search(np.zeros((1, 3), np.float32))
    with pytest.raises(ArgumentError, match="other_source"):
        index.search(np.zeros((1, index.about.width), np.float32), other_source=True)
