"""Faults 24 to 27 and 37 to 48 as a web client meets them: refused, without a path, a name or a traceback, at little cost."""

from __future__ import annotations

import io
import json
import re
import socket
import stat
import time
import tracemalloc
import unicodedata
import warnings
import zipfile
from dataclasses import replace
from urllib.parse import unquote

import anyio
import numpy as np
import pydicom
import pytest
from httpx import Response
from pydicom.data import get_testdata_file
from served import files, png, zipped

from overread.core.errors import InputError
from overread.evaluation.decision.single_case import Novelty
from overread.serving.policy import Address

CANARY = "KANARIENVOGEL"
TOKEN = "a token that is long enough"


def problem(answer, status, *codes):
    """The body of a refusal, held against the common rule."""
    assert answer.status_code == status, answer.text
    held = answer.json()
    assert set(held) == {"error", "what", "todo", "id"}
    assert held["what"]
    assert not codes or held["error"] in codes, held
    assert "Traceback" not in answer.text
    assert CANARY not in answer.text
    assert not re.search(r"(/tmp|/dev|/home|/usr|site-packages|overread-serve|\.py\b)", answer.text), answer.text
    return held


# -- 37 ---------------------------------------------------------------------------------------------------------------

TRAVERSALS = [
    "../etc/passwd", "..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "%252e%252e%252fetc%252fpasswd", "/etc/passwd",
    "..%5c..%5cwindows%5cwin.ini", "page.css%00.html", "..;/page.css", "%c0%ae%c0%ae/etc/passwd", "page.css/", ".", "",
    "link", "//etc/passwd", "PAGE.CSS", "index.html/../page.css",
]  # fmt: skip


@pytest.mark.parametrize("root", ["page/", "", "report/", "model-card/", "runs/"])
def test_37_every_way_out_is_the_same_404(opened, root, tmp_path):
    (tmp_path / "report.html").write_text("<p>fine", "utf-8")
    (tmp_path / "link").symlink_to("/etc")
    client = opened(run=tmp_path, log="none")
    answers = [client.request("GET", "/", extensions={"target": f"/{root}{path}".encode()}) for path in TRAVERSALS]
    answers += [raw(client, f"/{root}{path}") for path in TRAVERSALS if path not in ("", ".")]
    known = [answer for answer in answers if answer.status_code != 404]
    assert all(answer.status_code == 200 and answer.headers["content-type"].startswith("text/html") for answer in known)
    bodies = {
        tuple(sorted((k, v) for k, v in problem(a, 404).items() if k != "id")) for a in answers if a.status_code == 404
    }
    assert len(bodies) == 1


def raw(client, path, method="GET", headers=(), chunks=(b"",)):
    """The answer to a path and a body as they stand, which clients would tidy, or read beforehand."""
    found, parts = {"body": b""}, iter(chunks)

    async def receive():
        part = next(parts, None)
        return (
            {"type": "http.disconnect"} if part is None else {"type": "http.request", "body": part, "more_body": True}
        )

    async def send(message):
        if message["type"] == "http.response.start":
            found.update(status=message["status"], headers={k.decode(): v.decode() for k, v in message["headers"]})
        else:
            found["body"] += message.get("body", b"")

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http", "path": unquote(path),
             "raw_path": path.encode(), "query_string": b"", "root_path": "", "server": ("127.0.0.1", 8765),
             "headers": [(b"host", b"127.0.0.1:8765"), *headers], "client": ("127.0.0.1", 1)}  # fmt: skip
    anyio.run(client.app, scope, receive, send)
    return Response(found["status"], headers=found["headers"], content=found["body"])


# -- 38 ---------------------------------------------------------------------------------------------------------------


def test_38_an_address_is_never_fetched(opened, monkeypatch):
    """Neither in a field, nor as a file, nor in the headers of one; see also the name server in test_server.py."""
    asked: list[object] = []
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, lambda *a, **k: asked.append(a) or pytest.fail("it looked something up"))
    monkeypatch.setattr(socket.socket, "connect", lambda self, to: asked.append(to) or pytest.fail("it connected"))
    client = opened()
    url = "http://canary.example/image.png"
    problem(client.post("/predict", files=[("file", (None, url))]), 422)
    problem(client.post("/predict", files=files(png()), data={"url": url}), 422)
    problem(client.post("/predict", json={"url": url}), 415)
    for data in (url.encode(), f"[InternetShortcut]\nURL={url}".encode(), f'<svg><image href="{url}"/></svg>'.encode(),
                 f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "{url}">]><a>&b;</a>'.encode(),
                 f"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 2 2\nencoding: raw\ndata file: {url}\n\n".encode()):  # fmt: skip
        problem(client.post("/predict", files=files(data, name=url)), 422, "unreadable")
    assert client.post("/predict?url=" + url, files=files(png())).status_code == 200
    assert not asked


# -- 39, 40, 41 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "",
        "[::ffff:1.2.3.4]",
        "127.0.0.2",
        "a b",
    ],
)
def test_39_a_host_that_is_not_ours(opened, host):
    client = opened()
    problem(client.get("/about", headers={"Host": host}), 421, "host")
    problem(client.post("/predict", files=files(png()), headers={"Host": host}), 421, "host")


def test_39_the_names_that_are_ours(opened):
    client = opened(allow_host=("Reading.Hospital.Example",))
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8765", "reading.hospital.example"):
        assert client.get("/about", headers={"Host": host}).status_code == 200, host


@pytest.mark.parametrize("headers", [
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:9999"}, {"Origin": "http://127.0.0.1:8765@evil.example"},
    {"Origin": "file://"}, {"Origin": "http://[broken"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
], ids=str)  # fmt: skip
def test_40_a_post_from_elsewhere(opened, headers):
    client = opened()
    for path in ("/predict", "/batch", "/session"):
        problem(client.post(path, files=files(png()), headers=headers), 403, "origin")


def test_40_a_post_from_our_own_page(opened):
    client = opened(allow_host=("reading.hospital.example",))
    for headers in ({"Origin": "http://127.0.0.1:8765", "Sec-Fetch-Site": "same-origin"}, {}, {"Sec-Fetch-Site": "none"},
                    {"Origin": "https://reading.hospital.example"}):  # fmt: skip
        answer = client.post("/predict", files=files(png()), headers=headers)
        assert answer.status_code == 200, headers
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.7", "reader.hospital.example", "8.8.8.8", "", "127.0.0.1.evil.example"]
)
def test_41_a_public_address_without_a_token_is_refused(host):
    with pytest.raises(InputError, match="demands a token"):
        Address(host=host)
    assert Address(host=host, token=TOKEN, allow_host=("x",)).token


def test_41_a_guessable_token_is_refused():
    for token in ("hunter2", "x" * 15, "with\nnewline and length", "ümläutsundlang genug"):
        with pytest.raises(InputError) as caught:
            Address(host="0.0.0.0", token=token, allow_host=("x",))
        assert token not in str(caught.value)


def test_41_nothing_of_the_run_is_told_without_the_token(opened, tmp_path):
    client = opened(token=TOKEN, run=tmp_path)
    right = {"Authorization": f"Bearer {TOKEN}"}
    for path in ("/about", "/metrics", "/report", "/openapi.json", "/nothing"):
        problem(client.get(path), 401, "token")
    for wrong in ("", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", f"bearer{TOKEN}", "Bearer \xff"):
        problem(
            client.post("/predict", files=files(png()), headers={"Authorization": wrong.encode("latin-1")}),
            401,
            "token",
        )
    problem(client.get(f"/about?token={TOKEN}"), 401)
    assert client.get("/about", headers=right).status_code == 200
    assert client.get("/healthz").status_code == client.get("/").status_code == 200
    assert TOKEN not in (tmp_path / "serving" / "audit.jsonl").read_text("utf-8")


def test_41_a_browser_brings_the_token_once(opened):
    client = opened(token=TOKEN)
    answer = client.post("/session", headers={"Authorization": f"Bearer {TOKEN}"})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/about").status_code == 200
    name, _, value = cookie.partition(";")[0].partition("=")
    until, _, seal = value.partition(".")
    client.cookies.clear()
    for forged in (f"{int(until) + 1}.{seal}", f"1.{seal}", f".{seal}", seal, f"{until}.", ""):
        problem(client.get("/about", headers={"Cookie": f"{name}={forged}"}), 401)


def test_41_tokens_cannot_be_guessed_at_speed(opened):
    client = opened(token=TOKEN)
    said = [client.get("/about", headers={"Authorization": f"Bearer {i:032}"}).status_code for i in range(60)]
    assert said.count(429) >= 25
    assert client.get("/about", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


# -- 42 ---------------------------------------------------------------------------------------------------------------


def test_42_ten_thousand_parts(opened):
    client = opened()
    problem(client.post("/predict", files=files(*[b"x"] * 10_000)), 413, "too-many-parts")
    problem(client.post("/predict", files=[("k", (None, "1"))] * 10_000), 413, "too-many-parts")
    problem(client.post("/predict", files=[("k", (None, "1" * 2_000_000))]), 413, "too-many-parts")


def test_42_a_gigabyte_costs_no_memory(opened):
    client = opened(upload=1.0)
    sent = []

    def body():
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        for i in range(1024):
            sent.append(i)
            yield bytes(1 << 20)

    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    tracemalloc.start()
    answer = raw(client, "/predict", "POST", [(b"content-type", b"multipart/form-data; boundary=b")], body())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    problem(answer, 413, "too-large")  # its size was not told before
    assert peak < 8 << 20
    assert len(sent) < 4, "what is too much is not read to its end"
    problem(client.post("/predict", content=b"x", headers={**kind, "Content-Length": "1000000000"}), 413, "too-large")


def test_42_many_small_headers_and_a_long_path(opened):
    client = opened(header_bytes=4096)
    problem(client.get("/about", headers={f"x-{i}": "y" for i in range(1000)}), 431)
    problem(client.get("/" + "a" * 5000), 431)
    for twice in ("host", "origin", "authorization", "content-type"):
        assert client.get("/about", headers=[(twice, "127.0.0.1"), (twice, "127.0.0.1")]).status_code in (400, 421)


# -- 43 ---------------------------------------------------------------------------------------------------------------


def test_43_ten_thousand_ranges(opened, tmp_path):
    (tmp_path / "report.html").write_text("<p>" + "x" * 1_000_000, "utf-8")
    client = opened(run=tmp_path, log="none", header_bytes=1_000_000)
    ranges = "bytes=" + ",".join(f"{i}-{i + 1}" for i in range(10_000))
    began = time.monotonic()
    for path in ("/report", "/page/page.js", "/"):
        problem(client.get(path, headers={"Range": ranges}), 416)
        answer = client.get(path, headers={"Range": "bytes=0-1"})
        assert answer.status_code == 200, "a range is no reason to cut a page"
        assert "content-range" not in answer.headers
    assert time.monotonic() - began < 5


# -- 44, 45 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/page/page.js", "/healthz", "/about", "/nothing", "/openapi.json", "/metrics"])
def test_44_every_answer_is_strict(opened, path):
    headers = opened().get(path).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "http:", "https:"} & set(
        headers["content-security-policy"].replace(";", " ").split()
    )
    wanted = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cross-origin-opener-policy": "same-origin",
              "cross-origin-resource-policy": "same-origin", "x-frame-options": "DENY"}  # fmt: skip
    assert wanted.items() <= dict(headers).items()
    assert "server" not in headers


def test_44_script_in_names_comes_back_as_text_or_not_at_all(opened):
    client = opened()
    name = "<script>alert(1)</script>.png"
    assert "script" not in client.post("/predict", files=files(png(), name=name)).text
    answer = client.post("/predict", files=[("<img src=x onerror=alert(1)>", (name, png()))])
    assert "<" not in problem(answer, 422)["what"]
    assert answer.headers["content-type"] == "application/json"


def dicom(**tags):
    held = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    for key, value in tags.items():
        setattr(held, key, value)
    buffer = io.BytesIO()
    held.save_as(buffer)
    return buffer.getvalue()


def test_45_errors_and_answers_name_no_patient(opened, tmp_path):
    named = dicom(PatientName=CANARY, PatientID=CANARY, StudyDescription=CANARY, InstitutionName=CANARY)
    client = opened(run=tmp_path)
    answer = client.post("/predict", files=files(named, name=f"{CANARY}.dcm"))
    assert answer.status_code == 200, answer.text
    assert CANARY not in answer.text
    for data in (
        named[:5000],
        named[:1500],
        CANARY.encode(),
        b"",
        dicom(PatientName=CANARY, Rows=60_000, Columns=60_000),
    ):
        problem(client.post("/predict", files=files(data, name=f"{CANARY}/{CANARY}.dcm")), 422, "unreadable")
    problem(
        client.post(
            "/predict", files=files(zipped({f"{CANARY}.png": b"x", f"{CANARY}/../../b.png": b"y"}), name="c.zip")
        ),
        422,
    )
    problem(client.get(f"/{CANARY}"), 404)
    with client.stream("POST", "/batch", files=files(named, b"x", name=f"{CANARY}.dcm")) as stream:
        assert CANARY not in stream.read().decode()
    log = (tmp_path / "serving" / "audit.jsonl").read_text("utf-8")
    assert log.count("\n") == 9
    assert CANARY not in log
    assert ".dcm" not in log


def test_45_a_fault_of_ours_is_told_without_a_word_of_it(opened, reader, tmp_path):
    def broken():
        raise RuntimeError(f"{CANARY} in /usr/lib/secret.py")

    held = type(reader)(reader.model, [broken])
    client = opened(reader=held, run=tmp_path)
    told = problem(client.post("/predict", files=files(png())), 500)
    assert "RuntimeError" in told["error"]
    log = (tmp_path / "serving" / "audit.jsonl").read_text("utf-8")
    assert told["id"] in log
    assert CANARY not in log


# -- 46, 47, 48 -------------------------------------------------------------------------------------------------------


def test_46_there_is_nothing_to_guess(opened):
    client = opened()
    paths = client.get("/openapi.json").json()["paths"]
    assert not [path for path in paths if "{" in path], "no identifier stands in any address"
    ids = {client.get("/healthz").headers["x-request-id"] for _ in range(50)}
    assert len(ids) == 50
    assert all(re.fullmatch("[0-9a-f]{16}", identifier) for identifier in ids)


def test_47_numbers_are_rounded_and_queries_are_limited(opened):
    client = opened(digits=2, rate=3)
    answers = [client.post("/predict", files=files(png(seed))) for seed in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2
    for answer in answers[:3]:
        for number in re.findall(r"\d+\.(\d+)", answer.text):
            assert len(number) <= 2
    assert 15 <= int(answers[3].headers["retry-after"]) <= 21
    problem(answers[4], 429, "rate")


def test_47_a_batch_counts_every_image(opened):
    client = opened(rate=2)
    with client.stream("POST", "/batch", files=files(zipped({f"{i}.png": png() for i in range(12)}))) as stream:
        assert stream.read().count(b"\n") == 12
    problem(client.post("/predict", files=files(png())), 429, "rate")


def test_48_no_loss_of_a_case_is_served(opened, tmp_path):
    client = opened(run=tmp_path)
    assert "loss" not in client.post("/predict", files=files(png())).text
    assert "loss" not in client.get("/openapi.json").text.replace("lossless", "")
    (tmp_path / "model").mkdir()
    for name in (
        "history.json",
        "model/history.json",
        "model/model.json",
        "predictions/tuning.csv",
        "cases.csv",
        "audit.json",
    ):
        problem(client.get(f"/{name}"), 404)


@pytest.mark.parametrize("tell", [False, True])
def test_48_a_stranger_does_not_learn_who_was_in_the_training(opened, reader, tell):
    """Neither by a word nor by how near the image is to those of training, unless the operator wants it said."""
    known = replace(reader, seen="the very image", novelty=Novelty(False, 0.0, 0.4, "95% stay below it"))
    client = opened(reader=known, tell_seen=tell)
    told = client.post("/predict", files=files(png())).json()
    lines = [json.loads(line)["opinion"] for line in client.post("/batch", files=files(png())).text.splitlines()]
    assert lines == [told]
    assert told["novelty"]["unlike"] is False
    assert (told["seen"] == "the very image") is tell
    assert any("in the training" in line for line in told["warnings"]) is tell
    assert (told["novelty"]["distance"] == 0.0) is tell
    assert (
        "whether training has seen this image or its patient: that is not told here" in told["unchecked"]
    ) is not tell


def test_48_how_far_an_unlike_image_is_may_be_told(opened, reader):
    client = opened(reader=replace(reader, novelty=Novelty(True, 0.9, 0.4, "")))
    assert client.post("/predict", files=files(png())).json()["novelty"]["distance"] == 0.9


# -- 24 to 27 ---------------------------------------------------------------------------------------------------------


def link_zip():
    info = zipfile.ZipInfo("link.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("fine.png", png())
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def twice_zip():
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")
        for name in ("é.png", unicodedata.normalize("NFD", "é.png")):
            archive.writestr(name, png())
    return buffer.getvalue()


ARCHIVES = {
    "slip": zipped({"fine.png": png(), "../out.png": png()}), "absolute": zipped({"/tmp/out.png": png()}),
    "drive": zipped({"C:/out.png": png()}), "backslash": zipped({"..\\out.png": png()}), "link": link_zip(), "twins": twice_zip(),
    "case": zipped({"a.png": png(), "A.PNG": png()}), "newline": zipped({"a\n.png": png()}), "bomb": zipped({"a.png": bytes(1 << 28)}),
    "cut off": zipped({"a.png": png()})[:-30], "empty": zipped({}),
}  # fmt: skip


@pytest.mark.parametrize("data", ARCHIVES.values(), ids=ARCHIVES)
def test_24_to_27_an_archive_is_refused_whole(opened, data, tmp_path):
    client = opened()
    before = {path for path in tmp_path.parent.rglob("*") if "overread-serve" not in str(path)}
    for path in ("/predict", "/batch"):
        problem(client.post(path, files=files(data, name="a.zip")), 422, "unreadable")
    assert {path for path in tmp_path.parent.rglob("*") if "overread-serve" not in str(path)} == before


def test_26_an_archive_beyond_our_own_limits(opened):
    client = opened(parts=5, inflated=0.01)
    problem(client.post("/predict", files=files(zipped({f"{i}.png": png() for i in range(6)}))), 422, "unreadable")
    problem(client.post("/predict", files=files(zipped({"a.bmp": bytes(20_000)}))), 422, "unreadable")
    problem(
        client.post("/batch", files=files(*[zipped({f"{i}.png": b"x" for i in range(4)})] * 2)), 413, "too-many-parts"
    )


def test_an_image_of_more_pixels_than_the_limit_is_refused_from_its_head(opened):
    client = opened(megapixels=0.0005)
    assert client.post("/predict", files=files(png(side=22))).status_code == 200
    problem(client.post("/predict", files=files(png(side=23))), 422, "unreadable")
    huge = bytearray(png())
    huge[16:24] = (50_000).to_bytes(4, "big") * 2
    problem(client.post("/predict", files=files(bytes(huge))), 422, "unreadable")


def test_a_decoder_that_crashes_costs_one_request(opened):
    client = opened()
    for data in (
        b"\x89PNG\r\n\x1a\n" + bytes(40),
        b"II*\0" + b"\xff" * 64,
        b"\xff\xd8\xff" + b"\0" * 50,
        np.zeros(9).tobytes(),
    ):
        problem(client.post("/predict", files=files(data)), 422, "unreadable")
    assert client.post("/predict", files=files(png())).status_code == 200
