"""Tiles of real slides: what OpenSlide reads, no more of the file than that, and an error for what is broken."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from installed import module
from served import client_of
from served_slides import ShowsSlides

from overread.serving.slides.run_slides import RunSlide, SlidesOfRun


@pytest.fixture
def folder(shared) -> Path:
    found = shared / "data" / "slides"
    if not found.is_dir():
        pytest.skip("no slides")
    return found


def client(folder: Path, scratch: Path, *names: str):
    slides = tuple(
        RunSlide(f"case {number}", "test", f"{folder / name}#slide{mpp and '&mpp=' + mpp}")
        for number, (name, _, mpp) in enumerate(each.partition(":") for each in names)
    )
    return client_of(ShowsSlides(SlidesOfRun(slides)), scratch, tiles=0)


def test_a_tile_of_a_real_slide_is_what_openslide_reads_and_nothing_else(folder, tmp_path):
    openslide = module("openslide", "slides")
    held = openslide.OpenSlide(str(folder / "small_HE.svs"))
    assert {"label", "macro"} <= set(held.associated_images), "the file has what must not be shown"
    with client(folder, tmp_path, "small_HE.svs") as opened:
        key = opened.get("/slides").json()["slides"][0]["key"]
        told = opened.get("/slide", params={"slide": key}).json()
        (layer,) = told["layers"]
        assert (layer["width"], layer["height"], told["mpp"], told["objective"]) == (2220, 2967, 0.499, 20.0)
        assert layer["least"] == 0
        answer = opened.get(
            "/tile", params={"slide": key, "layer": "slide", "level": layer["most"], "column": 2, "row": 3}
        )
        shown = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
        expected = np.asarray(held.read_region((1024, 1536), 0, (512, 512)))[..., :3].astype(int)
        assert shown.shape == expected.shape
        assert np.abs(shown - expected).mean() < 4
        small = cv2.imdecode(
            np.frombuffer(
                opened.get("/tile", params={"slide": key, "layer": "slide", "level": 0, "column": 0, "row": 0}).content,
                np.uint8,
            ),
            cv2.IMREAD_COLOR,
        )
        assert small.shape == (371, 278, 3)
        for name in ("label", "macro"):
            image = np.asarray(held.associated_images[name].convert("RGB").resize((278, 371)))
            assert np.abs(small[..., ::-1].astype(int) - image.astype(int)).mean() > 20
        words = held.properties["aperio.Filename"], held.properties["aperio.Date"]
        for text in (opened.get("/slide", params={"slide": key}).text, opened.get("/slides").text):
            assert not any(word in text for word in words if len(word) > 4)
        assert opened.get("/skipped", params={"slide": key}).status_code == 200


def test_broken_slides_end_in_our_error(folder, tmp_path):
    with client(folder, tmp_path, "unreadable.svs:0.5", "unopenable.tiff:0.5", "boxes.tiff") as opened:
        for line in opened.get("/slides").json()["slides"]:
            answers = [
                opened.get("/slide", params={"slide": line["key"]}),
                opened.get("/tile", params={"slide": line["key"], "layer": "slide", "level": 0, "column": 0, "row": 0}),
            ]
            assert answers[1].status_code == 422, line
            assert answers[1].json()["error"] == "unreadable"
            assert not any(word in answer.text for answer in answers for word in (".svs", ".tiff", "/work", "/tmp"))
