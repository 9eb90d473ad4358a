"""Questions that are in order, and their answers."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from served import CLASSES, files, png, zipped

from overread.core.files import write_rows
from overread.explanation.explain import explain
from overread.explanation.verdict import Criterion
from overread.images.preprocess import load
from overread.learning.device import to_tensor
from overread.serving.page_files import page_files
from overread.serving.reading_room import case_of


def test_an_image_is_answered_with_what_the_model_says_of_it(opened, reader, tmp_path):
    (tmp_path / "same.png").write_bytes(png(3))
    model = reader.model
    pixels = load(tmp_path / "same.png", model.about.preprocess)
    with torch.inference_mode():
        outputs = model.network(to_tensor(pixels[None], model.about.preprocess, model.mean_image, "cpu"))
    wanted = model.target.task.probabilities(outputs).numpy()
    answer = opened(digits=8).post("/predict", files=files(png(3)))
    assert answer.status_code == 200, answer.text
    said = {row["name"]: row["value"] for row in answer.json()["answers"]}
    assert list(said) == list(CLASSES)
    np.testing.assert_allclose(list(said.values()), wanted[0], atol=1e-6)


def test_several_files_are_one_case_and_so_are_those_of_a_zip(opened):
    client = opened(digits=8)
    alone = [client.post("/predict", files=files(png(seed))).json()["answers"][0]["value"] for seed in range(3)]
    together = client.post("/predict", files=files(*map(png, range(3)))).json()["answers"][0]["value"]
    archive = zipped({f"a/{seed}.png": png(seed) for seed in range(3)} | {"__MACOSX/._0.png": b"x", ".DS_Store": b"y"})
    inside = client.post("/predict", files=files(archive, name="case.zip")).json()["answers"][0]["value"]
    assert together == pytest.approx(np.mean(alone), abs=1e-6)
    assert inside == pytest.approx(together, abs=1e-6)


def test_a_batch_tells_each_case_as_it_is_read_and_what_is_wrong_with_one(opened):
    client = opened()
    alone = client.post("/predict", files=files(png(1))).json()
    with client.stream("POST", "/batch", files=files(png(0), b"no image", zipped({"1.png": png(1)}))) as answer:
        assert answer.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in answer.iter_lines()]
    assert [(line["number"], line["of"]) for line in lines] == [(1, 3), (2, 3), (3, 3)]
    assert lines[2]["opinion"] == alone
    assert lines[1]["opinion"] is None
    assert lines[1]["error"] == "unreadable"


def test_nothing_is_left_of_uploads(opened, tmp_path):
    client = opened()
    for path, data in (("/predict", png()), ("/predict", b"no image"), ("/batch", png())):
        client.post(path, files=files(data))
    (folder,) = tmp_path.glob("overread-serve-*")
    assert not list(folder.iterdir())


def test_what_can_be_asked_is_told(opened):
    about = (
        opened(token="a token of some length", headers={"Authorization": "Bearer a token of some length"})
        .get("/about")
        .json()
    )
    assert about["outcomes"] == list(CLASSES)
    assert about["token"] is True
    assert about["report"] is False


def test_report_and_card_are_those_of_the_run(opened, tmp_path):
    (tmp_path / "report.html").write_text("<script>go()</script><script src='x.js'></script><p>fine</p>", "utf-8")
    (tmp_path / "model_card.md").write_text("# Card <script>alert(1)</script>", "utf-8")
    client = opened(run=tmp_path, log="none")
    report, card = client.get("/report"), client.get("/model-card")
    policy = report.headers["content-security-policy"]
    assert report.text.endswith("<p>fine</p>")
    assert "sandbox allow-scripts" in policy
    assert policy.count("'sha256-") == 1
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert card.headers["content-type"].startswith("text/plain")
    assert client.get("/about").json()["report"] is True


def test_the_page_works_without_anything_from_elsewhere(opened):
    client = opened()
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for name in ("page/page.css", "page/page.js"):
        assert name in page.text
        assert client.get(f"/{name}").status_code == 200
    assert "http" not in page.text.replace("http-equiv", "")
    assert "<script>" not in page.text
    assert " style=" not in page.text


@pytest.mark.parametrize("name", ["index.html", "slides.html"])
def test_each_page_says_what_it_is_not_and_asks_for_a_token(name):
    """What is around the subject of a page is written once, and no page comes without it; what it is made of is not served."""
    held = page_files()
    page = held[name].data.decode()
    for said in ("Not a medical device.", 'id="token-box"', 'id="key-list"', 'id="to-about"', "<noscript>", "</html>"):
        assert said in page
    assert "{%" not in page
    assert "{{" not in page
    assert not any("j2" in other or "frame.html" in other for other in held)


def test_metrics_count_what_was_asked(opened):
    client = opened()
    client.post("/predict", files=files(png(0), png(1)))
    client.post("/predict", files=files(b"no image"))
    text = client.get("/metrics").text
    assert 'overread_requests_total{action="predict",status="2xx"} 1' in text
    assert 'overread_requests_total{action="predict",status="4xx"} 1' in text
    assert "overread_images_total 3" in text
    assert 'overread_request_seconds_count{action="predict"} 2' in text


def test_a_proxy_may_offer_it_below_a_path(opened):
    client = opened(root_path="/rooms/skin", base="http://127.0.0.1:8765")
    assert client.get("/rooms/skin/healthz").json() == {"status": "ok"}
    assert client.get("/healthz").status_code == 200


def test_a_full_queue_says_when_to_come_again(opened, model_held):
    client = opened(reader=model_held.reader, queue=0)
    with model_held.busy(client):
        answer = client.post("/predict", files=files(png()))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"] == "queue-full"
    assert client.post("/predict", files=files(png())).status_code == 200


def pixels_of(data_url: str) -> np.ndarray:
    kind, _, data = data_url.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize(("method", "signed"), [("grad-cam", False), ("gradient-x-input", True)])
def test_a_map_is_that_of_the_method_as_bytes_and_as_an_overlay(opened, reader, tmp_path, method, signed):
    (tmp_path / "same.png").write_bytes(png(3))
    wanted = explain(reader.model, case_of(reader.model, [str(tmp_path / "same.png")]), target="ill", method=method)
    answer = opened().post("/explain", files=files(png(3)), data={"method": method, "target": "ill"})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    (panel,) = told["panels"]
    values = (
        np.frombuffer(base64.b64decode(panel["map"]), np.uint8).reshape(panel["height"], panel["width"]).astype(float)
    )
    share = (values - 128) / 127 if signed else values / 255
    np.testing.assert_allclose(share * panel["strongest"], np.nan_to_num(wanted.map), atol=panel["strongest"] / 200)
    assert pixels_of(panel["overlay"]).shape == pixels_of(panel["image"]).shape
    assert told["target"] == "ill"
    assert told["method"]["signed"] is signed
    assert told["nothing"] is wanted.nothing


def test_each_image_of_a_case_has_its_map(opened):
    told = opened().post("/explain", files=files(png(0), png(1))).json()
    assert [panel["name"] for panel in told["panels"]] == ["image 1", "image 2"]
    assert told["target"] in CLASSES


@pytest.mark.parametrize(
    "field", [{"method": "grad-cat"}, {"target": "il"}, {"layer": "nowhere"}, {"method": "attention-rollout"}], ids=str
)
def test_what_cannot_be_explained_is_said(opened, field):
    answer = opened().post("/explain", files=files(png()), data=field)
    assert answer.status_code == 422, answer.text
    assert answer.json()["todo"]


def test_what_a_method_was_found_to_be_worth_stands_with_it(opened, tmp_path):
    row = Criterion("grad-cam", "faithfulness", 0.1, 0.05, 0.15, 30, 0.2, False, "no better than a spot in the centre")
    (tmp_path / "explanations").mkdir()
    write_rows(tmp_path / "explanations" / "methods.json", [row])
    client = opened(run=tmp_path, log="none")
    told = client.post("/explain", files=files(png())).json()["method"]
    assert told["criteria"] == [{"criterion": "faithfulness", "passed": False, "words": row.words, "value": 0.1, "low": 0.05, "high": 0.15,
                                 "baseline": 0.2, "cases": 30}]  # fmt: skip
    assert client.get("/about").json()["methods"][0] == told
