"""Similar cases as they are served: those of the index, seen small, named by nothing."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from served import CLASSES, StandIn, a_model, files

from overread.core.files import cache_folder
from overread.retrieval.index import Index
from overread.study.context import cases_of
from overread.study.question import Columns, Study

CANARY = "KANARIENVOGEL"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with an index of twelve cases whose names must not be told, judged on six of tuning and four of test."""
    folder = tmp_path_factory.mktemp("run")
    study = drawn(folder, "table", range(12))
    study.save(folder / "study.toml")
    cases, tuning, test = (cases_of(each) for each in (study, drawn(folder, "tuning", range(12, 18)), drawn(folder, "test", range(18, 22))))  # fmt: skip
    cases.save(folder / "cases.csv")
    work = {"threads": 1, "cache": folder / "cache"}
    index = Index.build(a_model(), cases, layer="features", distance="cosine", tuning=tuning, **work)
    judged = (*index.about.precision, *index.judge(index.ask(test, **work), "test"))
    replace(index, about=replace(index.about, precision=judged)).save(folder / "index")
    return folder


def drawn(folder, name, numbers):
    """The study of a table of cases, every second one ill and brighter."""
    rows = ["image,label,patient,case,source"]
    for i in numbers:
        image = np.random.default_rng(i).integers(0, 120 + 120 * (i % 2), (40, 40), np.uint8)
        Image.fromarray(image).save(folder / f"{CANARY}-{i}.png")
        rows.append(f"{CANARY}-{i}.png,{CLASSES[i % 2]},{CANARY}-p{i},{CANARY}-c{i},site {i % 3}")
    (folder / f"{name}.csv").write_text("\n".join(rows), "utf-8")
    columns = Columns(image="image", label="label", patient="patient", case="case", source="source", positive=("ill",))
    return Study(table=str(folder / f"{name}.csv"), columns=columns)


def pixels(run, number):
    return (run / f"{CANARY}-{number}.png").read_bytes()


def changed(run, number):
    """Alike, and no copy: the image upside down, darker."""
    buffer = io.BytesIO()
    Image.fromarray((np.asarray(Image.open(run / f"{CANARY}-{number}.png"))[::-1, ::-1] * 0.6).astype(np.uint8)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def test_neighbours_are_those_of_the_index_without_their_names(opened, run):
    before = {path for path in cache_folder().rglob("*") if path.is_file()}
    client = opened(run=run, log="none", digits=6)
    answer = client.post("/similar", files=files(changed(run, 3)), data={"k": "4"})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert [row["rank"] for row in told["neighbours"]] == [1, 2, 3, 4]
    distances = [row["distance"] for row in told["neighbours"]]
    assert distances == sorted(distances)
    assert all(row["label"] in CLASSES and row["source"].startswith("site") for row in told["neighbours"])
    assert all(row["thumbnail"].startswith("data:image/png;base64,") for row in told["neighbours"])
    assert told["cases"] == 12
    assert CANARY not in answer.text
    assert {path for path in cache_folder().rglob("*") if path.is_file()} == before, (
        "nothing of what was sent stays in the cache"
    )
    assert client.get("/about").json()["neighbours"] is True


def test_it_is_told_how_reliable_neighbours_are_and_on_whom(opened, run):
    told = opened(run=run, log="none", digits=6).post("/similar", files=files(changed(run, 3))).json()["reliability"]
    parts = [row["part"] for row in told]
    assert parts == sorted(parts), "test first"
    held = {(row["part"], row["metric"], row["of"]): row["value"] for row in told}
    kept = Index.load(run / "index", a_model()).about.precision
    for part in ("test", "tuning"):
        for of in CLASSES:
            assert held[part, "prevalence", of] == 0.5, "six of twelve"
            (own,) = (each for each in kept if (each.where["part"], each.metric, each.of) == (part, "precision@5", of))
            assert held[part, "precision@5", of] == pytest.approx(own.value, abs=1e-6)
            assert (part, "shuffled precision@5", of) in held


def test_a_copy_is_no_neighbour(opened, run):
    told = opened(run=run, log="none", digits=8).post("/similar", files=files(pixels(run, 3)), data={"k": "11"}).json()
    assert len(told["neighbours"]) == 11
    assert min(row["distance"] for row in told["neighbours"]) > 1e-6, "itself, at no distance, is left out"


@pytest.mark.parametrize("k", ["0", "51", "-1", "five", "1e3", "٣", "9" * 100])
def test_what_is_no_number_of_neighbours_is_refused(opened, run, k):
    answer = opened(run=run, log="none").post("/similar", files=files(pixels(run, 0)), data={"k": k})
    assert (answer.status_code, answer.json()["error"]) == (422, "k")


def test_training_images_need_not_be_shown(opened, run, tmp_path):
    for given in ({"run": run, "no_neighbours": True}, {"run": tmp_path}):
        client = opened(log="none", **given)
        answer = client.post("/similar", files=files(pixels(run, 0)))
        assert (answer.status_code, answer.json()["error"]) == (404, "no-index")
        assert client.get("/about").json()["neighbours"] is False


def test_where_the_images_have_gone_neighbours_are_told_without_pictures(opened, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "study.toml").unlink()
    told = opened(run=tmp_path / "run", log="none").post("/similar", files=files(changed(run, 0))).json()
    assert [row["thumbnail"] for row in told["neighbours"]] == [""] * 5
    assert any("no pictures" in note for note in told["notes"])


def test_a_damaged_index_is_said_and_the_rest_is_served(opened, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "index" / "vectors.npy").write_bytes(b"broken")
    client = opened(run=tmp_path / "run", log="none")
    assert "vectors.npy" in client.post("/similar", files=files(pixels(run, 0))).json()["todo"]
    assert client.post("/predict", files=files(pixels(run, 0))).status_code == 200


def test_the_device_and_the_threads_of_the_reader_are_used(opened, reader, run, monkeypatch):
    used = []

    def asked(self, cases, *, device="", threads=0, **rest):
        used.append((device, threads))
        raise RuntimeError

    monkeypatch.setattr(Index, "ask", asked)
    client = opened(reader=replace(reader, device="cuda:1", threads=3), run=run, log="none")
    client.post("/similar", files=files(pixels(run, 0)))
    assert used == [("cuda:1", 3)]


def test_a_patient_that_dicom_names_is_no_neighbour_of_himself(opened, run, tmp_path):
    """Of a run that knows its patients by codes, as runs do."""
    cases, made = cases_of(Study.load(run / "study.toml")), a_model()
    model = replace(made, about=replace(made.about, names_salt=cases.salt, identifiers=cases.identifiers))
    index = Index.build(model, cases, layer="features", distance="cosine", threads=1, cache=tmp_path / "cache")
    index.save(tmp_path / "index")

    def distances(patient: str) -> list[float]:
        image, sent = pydicom.dcmread(get_testdata_file("CT_small.dcm")), io.BytesIO()
        image.PatientID = patient
        image.save_as(sent)
        answer = opened(reader=StandIn(model), run=tmp_path, log="none").post(
            "/similar", files=files(sent.getvalue()), data={"k": "12"}
        )
        assert CANARY not in answer.text
        return [row["distance"] for row in answer.json()["neighbours"]]

    unknown, known = distances("somebody else"), distances(f"{CANARY}-p3")
    assert len(unknown) == 12
    assert len(known) == 11
    assert set(known) < set(unknown)
