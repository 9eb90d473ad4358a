"""The Web cases of faults for the routes of slides: what is asked is held to its exact form, bounded, and names nobody."""

from __future__ import annotations

import json
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from served import files, png
from served_slides import ShowsSlides, draw_map, draw_slide, shown_slides

from overread.core.errors import ArgumentError
from overread.images.slides.files import handles
from overread.serving.admission.refusal import Refusal
from overread.serving.slides import run_slides

CANARY = "KANARIENVOGEL"
TOKEN = "a token that is long enough"


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> ShowsSlides:
    return shown_slides(tmp_path_factory.mktemp("slides"))


@pytest.fixture
def client(opened, shown):
    return opened(reader=shown, tiles=0)


def keys(client) -> list[str]:
    return [line["key"] for line in client.get("/slides").json()["slides"]]


def tile(client, key, layer="slide", level=0, column=0, row=0, headers=None, **more):
    held = {"slide": key, "layer": layer, "level": level, "column": column, "row": row, **more}
    return client.get("/tile", params=held, headers=headers or {})


def problem(answer, status, *codes):
    """The body of a refusal, held against the common rule."""
    assert answer.status_code == status, answer.text
    held = answer.json()
    assert set(held) == {"error", "what", "todo", "id"}
    assert not codes or held["error"] in codes, held
    assert CANARY not in answer.text
    assert not re.search(r"(/tmp|/dev|/home|/usr|site-packages|\.py\b|\.tif|Traceback)", answer.text), answer.text
    return held


# -- 37: paths ----------------------------------------------------------------------------------------------------------


TRAVERSALS = ["../etc/passwd", "..%2fetc%2fpasswd", "/etc/passwd", "k../../../../x", "C:\\x", "kef6/../671c41", "k41dfc1cfbaf2\0", "K41DFC1CFBAF2",
              "k41dfc1cfbaf2/", " k41dfc1cfbaf2", "node-1", "http://canary.example/a.svs", "k41dfc1cfbaf", "k41dfc1cfbaf22", "", "k41dfc1cfbaf2\n"]  # fmt: skip


@pytest.mark.parametrize("key", TRAVERSALS)
def test_37_a_key_is_a_key_and_never_a_path(client, key):
    for path in ("/slide", "/skipped"):
        problem(client.get(path, params={"slide": key}), 422, "address")
    problem(tile(client, key), 422, "address")


def test_37_no_further_path_below_the_routes(client):
    key = keys(client)[0]
    bodies = set()
    for path in (
        f"/tile/{key}",
        f"/slide/{key}",
        "/slides/",
        "/tile/",
        "/slides/..%2f..%2fetc",
        "/tile/%2e%2e%2fslides",
        f"/slides/{key}/label",
        f"/tile/{key}/macro",
        "/TILE",
    ):
        held = problem(client.get(path), 404)
        bodies.add((held["error"], held["what"], held["todo"]))
    assert len(bodies) == 1


def test_46_an_unknown_key_is_the_same_404_as_a_tile_that_is_not_there(client):
    key = keys(client)[0]
    told = {json.dumps({k: v for k, v in problem(answer, 404).items() if k != "id"}) for answer in (
        tile(client, "k000000000000"), client.get("/slide", params={"slide": "k000000000000"}), client.get("/skipped", params={"slide": "kffffffffffff"}),
        tile(client, key, level=9), tile(client, key, column=1), tile(client, key, level=2, row=5), tile(client, keys(client)[1], "heat-map"))}  # fmt: skip
    assert len(told) == 1


def test_46_keys_are_other_ones_on_another_server(client, opened, shown):
    assert not set(keys(client)) & set(keys(opened(reader=shown)))


# -- numbers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", ["-1", "1e3", "0x1", "1.0", " 1", "+1", "01", "٣", "10000000", "9" * 40, "NaN", "", "1\n", "1;2", "None"]
)
@pytest.mark.parametrize("field", ["level", "column", "row", "least"])
def test_a_number_is_a_whole_one_within_bounds(client, field, number):
    problem(tile(client, keys(client)[0], **{field: number}), 422, "address")


@pytest.mark.parametrize(
    ("field", "number"), [("level", 9_999_999), ("column", 9_999_999), ("row", 9_999_999), ("level", 64)]
)
def test_a_number_beyond_the_slide_is_no_tile(client, field, number):
    problem(tile(client, keys(client)[0], **{field: number}), 404)
    problem(tile(client, keys(client)[0], "heat-map", **{field: number}), 404)
    problem(tile(client, keys(client)[0], "skipped", **{field: number}), 404)


def test_a_threshold_beyond_one_is_refused(client):
    problem(tile(client, keys(client)[0], "heat-map", least=1001), 422, "address")
    assert tile(client, keys(client)[0], "heat-map", least=1000).status_code == 200


@pytest.mark.parametrize(
    "layer", ["label", "macro", "thumbnail", "", "Slide", "slide,heat-map", "../slide", "outlines"]
)
def test_the_label_of_the_glass_is_in_no_layer(client, layer):
    problem(tile(client, keys(client)[0], layer), 422, "address")


@pytest.mark.parametrize("query", ["", "?", "&&&&", "slide=k000000000000", "slide=a&slide=a", "level=0&level=1", "a=1", "%", "slide=%ff%fe", "x" * 3000,
                                   "&".join(f"a{n}=1" for n in range(500)), "slide[]=k000000000000", "slide=k000000000000;layer=slide"])  # fmt: skip
def test_the_query_has_the_wanted_fields_once_each(client, query):
    problem(client.get(f"/tile?{query}"), 422, "address")


def test_a_field_too_many_or_twice_is_refused_wherever_it_stands(client):
    key = keys(client)[0]
    good = f"/tile?slide={key}&layer=slide&level=0&column=0&row=0"
    assert client.get(good).status_code == 200
    for more in ("&row=0", f"&slide={key}", "&path=/etc/passwd", "&mpp=0.1", "&", "&least"):
        problem(client.get(good + more), 422, "address")
    problem(client.get("/slides?all=1"), 422, "address")
    problem(client.get(f"/slide?slide={key}&layer=slide"), 422, "address")


# -- 39 to 42: who, how, how much ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(client, method):
    key = keys(client)[0]
    for path in (
        "/slides",
        f"/slide?slide={key}",
        f"/skipped?slide={key}",
        f"/tile?slide={key}&layer=slide&level=0&column=0&row=0",
    ):
        assert client.request(method, path, headers={"Origin": "http://127.0.0.1:8765"}).status_code == 405, path


def test_39_to_41_host_and_token_are_asked_for_as_everywhere(opened, shown):
    client = opened(reader=shown, token=TOKEN)
    routes = (
        "/slides",
        "/slide?slide=k000000000000",
        "/skipped?slide=k000000000000",
        "/tile?slide=k000000000000&layer=slide&level=0&column=0&row=0",
    )
    for path in routes:
        problem(client.get(path), 401, "token")
        problem(client.get(path, headers={"Host": "evil.example"}), 421, "host")
    client.post("/session", headers={"Authorization": f"Bearer {TOKEN}"})
    assert [client.get(path).status_code for path in routes] == [200, 404, 404, 404], (
        "the cookie stands for the token, also for a picture"
    )


def test_47_tiles_a_minute_are_limited(opened, shown):
    client = opened(reader=shown, tiles=5)
    key = keys(client)[0]
    said = [tile(client, key).status_code for _ in range(8)]
    assert said == [200] * 5 + [429] * 3
    refused = tile(client, key)
    problem(refused, 429, "rate")
    assert 1 <= int(refused.headers["retry-after"]) <= 13
    problem(client.get("/slide", params={"slide": key}), 429, "rate")


def test_42_many_at_once_are_bounded_and_the_rest_told_to_come_again(opened, shown, monkeypatch):
    client = opened(reader=shown, tiles=0, queue=1)
    key, at_once, most, lock = keys(client)[0], 0, 0, threading.Lock()
    held = run_slides.slide_tile

    def counted(*given):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        try:
            threading.Event().wait(0.02)
            return held(*given)
        finally:
            with lock:
                at_once -= 1

    monkeypatch.setattr(run_slides, "slide_tile", counted)
    with ThreadPoolExecutor(40) as pool:
        said = list(pool.map(lambda n: tile(client, key, level=2, column=n % 3, row=n % 3), range(120)))
    assert {answer.status_code for answer in said} == {200, 503}
    assert most == 2, "as many as work at a time"
    busy = next(answer for answer in said if answer.status_code == 503)
    problem(busy, 503, "queue-full")
    assert int(busy.headers["retry-after"]) >= 1
    assert tile(client, key).status_code == 200


def test_many_slides_leave_few_of_them_open(opened, tmp_path):
    """A thousand slides that stay open are what eats the memory of others."""
    from shutil import copyfile

    first = draw_slide(tmp_path / "0.tif")
    reader = shown_slides(tmp_path / "slides")
    lines = []
    for number in range(20):
        path = tmp_path / f"{number}.tif"
        if path != first:
            copyfile(first, path)
        lines.append(run_slides.RunSlide(f"n{number}", "test", f"{path}#slide"))
    client = opened(reader=ShowsSlides(replace(reader.slides, slides=tuple(lines))), tiles=0)
    for key in keys(client):
        assert tile(client, key).status_code == 200
    open_now = [
        target
        for file in Path("/proc/self/fd").iterdir()
        if (target := _target(file)).startswith(str(tmp_path)) and target.endswith(".tif")
    ]
    assert len(set(open_now)) <= 2 * handles.HANDLES


def _target(file: Path) -> str:
    try:
        return str(file.readlink())
    except OSError:
        return ""


# -- 44, 45: what stands in answers and logs ----------------------------------------------------------------------------


def test_45_neither_answers_nor_the_log_name_a_file_or_a_slide(opened, shown, tmp_path):
    client = opened(reader=shown, run=tmp_path)
    for line in client.get("/slides").json()["slides"]:
        for answer in (
            client.get("/slide", params={"slide": line["key"]}),
            tile(client, line["key"]),
            tile(client, line["key"], "heat-map"),
            client.get("/skipped", params={"slide": line["key"]}),
        ):
            assert CANARY.encode() not in answer.content
            assert b"/tmp" not in answer.content
            assert b".tif" not in answer.content
    log = (tmp_path / "serving" / "audit.jsonl").read_text("utf-8")
    entries = [json.loads(line) for line in log.splitlines()]
    assert {entry["action"] for entry in entries} == {"slides", "slide", "skipped", "tile"}
    for word in (CANARY, "node-1", keys(client)[0], ".tif", "level"):
        assert word not in log


def test_what_has_moved_and_what_is_damaged_is_said_and_never_white(client):
    lines = client.get("/slides").json()["slides"]
    assert [bool(line["missing"]) for line in lines] == [False, False, True, False]
    for path in ("/slide", "/skipped"):
        moved = problem(client.get(path, params={"slide": lines[2]["key"]}), 404, "moved")
        assert "not where" in moved["todo"]
        problem(client.get(path, params={"slide": lines[3]["key"]}), 422, "unreadable")
    problem(tile(client, lines[2]["key"]), 404, "moved")
    problem(tile(client, lines[3]["key"]), 422, "unreadable")


def test_a_place_that_cannot_be_read_is_an_error_and_never_white(opened, tmp_path):
    import tifffile

    path = draw_slide(tmp_path / "a.tif")
    with tifffile.TiffFile(path) as file:
        offset, size = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + size] = b"\xff" * size
    path.write_bytes(data)
    from overread.serving.slides.run_slides import RunSlide, SlidesOfRun

    client = opened(reader=ShowsSlides(SlidesOfRun((RunSlide("a", "test", f"{path}#slide"),))), tiles=0)
    (key,) = keys(client)
    problem(tile(client, key, level=2), 422, "unreadable")
    assert tile(client, key, level=2, column=2, row=2).status_code == 200


@pytest.mark.parametrize("layer", ["slide", "heat-map", "skipped"])
def test_a_tile_is_private_and_known_again(client, layer):
    key = keys(client)[0]
    first = tile(client, key, layer)
    assert first.status_code == 200
    assert first.headers["cache-control"] == "private, no-cache"
    assert first.headers["content-type"] == ("image/jpeg" if layer == "slide" else "image/png")
    assert first.headers["content-security-policy"].startswith("default-src 'none'")
    assert {"Authorization", "Cookie"} == {each.strip() for each in first.headers["vary"].split(",")}
    again = tile(client, key, layer, headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert tile(client, key, layer, headers={"If-None-Match": '"other"'}).content == first.content
    tags = {tile(client, key, layer, **place).headers["etag"] for place in ({}, {"least": 700})}
    assert len(tags) == 2


def test_a_tile_is_another_one_once_its_file_has_changed(opened, tmp_path):

    reader = shown_slides(tmp_path / "slides")
    client = opened(reader=reader, tiles=0)
    key = keys(client)[0]
    before = tile(client, key, "heat-map").headers["etag"]
    draw_map(tmp_path / "slides" / "map.tif", tmp_path / "slides" / f"patient {CANARY}.tif", threshold=0.25)
    assert tile(client, key, "heat-map", headers={"If-None-Match": before}).status_code == 200


def test_43_a_range_is_no_reason_to_cut_a_tile(client):
    answer = tile(client, keys(client)[0], headers={"Range": "bytes=0-1"})
    assert answer.status_code == 200
    assert "content-range" not in answer.headers


def test_what_is_of_images_that_are_sent_is_refused_in_one_sentence(client):
    for path in ("/predict", "/explain", "/similar", "/batch"):
        told = problem(client.post(path, files=files(png())), 404, "slides")
        assert "whole slides" in told["what"]
    assert client.get("/about").json()["slides"] is True


def test_a_run_of_images_has_no_such_routes(opened):
    client = opened()
    assert client.get("/about").json()["slides"] is False
    for path in (
        "/slides",
        "/slide?slide=k000000000000",
        "/tile?slide=k000000000000&layer=slide&level=0&column=0&row=0",
    ):
        problem(client.get(path), 404)


# -- what belongs to a slide and cannot be had --------------------------------------------------------------------------


def test_slides_that_share_a_name_are_refused_and_not_dropped(shown):
    both = replace(shown.slides, slides=(shown.slides.slides[1],) * 2)
    with pytest.raises(ArgumentError, match="names of their own"):
        run_slides.RunSlides(both, "salt", 3)


def test_a_folder_that_nobody_may_enter_hides_its_own_slides_alone(client, monkeypatch):
    held = os.stat

    def shut(path, *given, **how):
        if "damaged" in str(path):  # which is there
            raise PermissionError(13, "Permission denied", str(path))
        return held(path, *given, **how)

    monkeypatch.setattr(os, "stat", shut)
    answer = client.get("/slides")
    assert answer.status_code == 200
    assert [bool(line["missing"]) for line in answer.json()["slides"]] == [False, False, True, True]


@pytest.mark.parametrize("harm", ["damaged", "of another slide"])
def test_a_heat_map_that_is_damaged_or_anothers_is_left_out_and_said(opened, tmp_path, harm):
    reader = shown_slides(tmp_path / "slides")
    path = tmp_path / "slides" / "map.tif"
    if harm == "damaged":
        path.write_bytes(path.read_bytes()[:300])
    else:
        draw_map(path, draw_slide(tmp_path / "other.tif", mpp=2.0))
    client = opened(reader=reader, tiles=0)
    key = keys(client)[0]
    told = client.get("/slide", params={"slide": key})
    assert told.status_code == 200, told.text
    assert [layer["name"] for layer in told.json()["layers"]] == ["slide"]
    assert any("heat map cannot be shown" in fact for fact in told.json()["facts"])
    assert told.json()["outlines"]
    assert tile(client, key).status_code == 200
    assert tile(client, key, "heat-map").status_code == 422


def test_what_is_told_of_a_slide_is_made_once_until_a_file_changes(opened, tmp_path, monkeypatch):
    client = opened(reader=shown_slides(tmp_path / "slides"), tiles=0)
    key, many, held = keys(client)[0], [], run_slides.read_lesions
    monkeypatch.setattr(run_slides, "read_lesions", lambda *given, **how: many.append(1) or held(*given, **how))
    first = client.get("/slide", params={"slide": key}).json()
    assert client.get("/slide", params={"slide": key}).json() == first
    assert len(many) == 1
    outlines = tmp_path / "slides" / "outlines.xml"
    outlines.write_text(outlines.read_text().replace("metastasis", "tumour"))
    assert client.get("/slide", params={"slide": key}).json() != first
    assert len(many) == 2


def test_outlines_are_bounded_in_number_and_every_ring_stays_one(opened, shown, monkeypatch):
    monkeypatch.setattr(run_slides, "_OUTLINES", 1)
    monkeypatch.setattr(run_slides, "_CORNERS", 2)
    client = opened(reader=shown, tiles=0)
    told = client.get("/slide", params={"slide": keys(client)[0]}).json()
    (one,) = told["outlines"]
    assert one["longest"] > 200, "the larger one"
    assert [len(ring) >= 3 for ring in one["rings"]] == [True]
    assert any("of 2 outlines the 1 largest" in fact for fact in told["facts"])


def test_masks_of_slides_hold_up_no_tile_and_end_with_whoever_asked(opened, shown, monkeypatch):
    going, go_on = threading.Event(), threading.Event()

    def slow(slide, settings, *, progress):
        going.set()
        go_on.wait(20)
        progress("looking for tissue", 1, 2)
        raise AssertionError("nobody ended it")

    monkeypatch.setattr(run_slides, "find_tissue", slow)
    client = opened(reader=shown, tiles=0)
    first, second = keys(client)[:2]
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(client.get, "/skipped", params={"slide": key}) for key in (first, second)]
        asked.append(pool.submit(tile, client, second, "skipped"))
        assert going.wait(10)
        try:
            with ThreadPoolExecutor(1) as another:
                assert another.submit(tile, client, first).result(timeout=10).status_code == 200
        finally:
            monkeypatch.setattr(run_slides, "find_tissue", _ended)
            go_on.set()
        for one in asked:
            one.exception()

    def gone(what, done, of):
        raise Refusal(499, "gone")

    slides = run_slides.RunSlides(shown.slides, "salt", 3)
    with pytest.raises(Refusal, match="gone"):
        slides.skipped(slides.listed().slides[0].key, gone)


def _ended(slide, settings, *, progress):
    progress("looking for tissue", 1, 2)
    raise Refusal(499, "nobody ended it")
