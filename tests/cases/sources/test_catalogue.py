from __future__ import annotations

import hashlib
import http.server
import threading
from dataclasses import replace

import pytest

from overread.cases.sources import catalogue
from overread.core.errors import ArgumentError, UnavailableError

DATA = bytes(range(256)) * 4000
NAME = "pneumoniamnist"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves DATA with Range; ``server.cut`` breaks off after so many bytes, ``server.ranges`` says what was asked."""

    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.ranges.append((self.path, asked))
        start = int(asked[6:-1]) if asked and self.server.resumes else 0
        if start >= len(DATA):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(DATA) - start))
        self.end_headers()
        body = DATA[start:]
        self.wfile.write(body[: self.server.cut] if self.server.cut else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    entry = catalogue.CATALOGUE[NAME]
    good = replace(entry, md5={28: hashlib.md5(DATA).hexdigest(), 64: "0" * 32})
    monkeypatch.setitem(catalogue.CATALOGUE, NAME, good)
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.ranges, served.cut, served.resumes = [], 0, True
    served.url = f"http://127.0.0.1:{served.server_port}/files"
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


def test_fetched_once(server, tmp_path):
    seen = []
    path = catalogue.fetch(NAME, tmp_path, base_url=server.url, progress=lambda *step: seen.append(step))
    assert path.read_bytes() == DATA
    assert seen[-1] == ("fetching", len(DATA), len(DATA))
    assert catalogue.fetch(NAME, tmp_path, base_url=server.url) == path
    assert server.ranges == [("/files/pneumoniamnist.npz", None)]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.cut = 300_000
    with pytest.raises(UnavailableError, match="what arrived is kept"):
        catalogue.fetch(NAME, tmp_path, base_url=server.url)
    assert (tmp_path / "pneumoniamnist.npz.part").stat().st_size == 300_000
    assert not (tmp_path / "pneumoniamnist.npz").exists()
    server.cut = 0
    assert catalogue.fetch(NAME, tmp_path, base_url=server.url).read_bytes() == DATA
    assert server.ranges[-1][1] == "bytes=300000-"
    assert not (tmp_path / "pneumoniamnist.npz.part").exists()


def test_a_server_that_cannot_resume_sends_all_again(server, tmp_path):
    server.resumes = False
    (tmp_path / "pneumoniamnist.npz.part").write_bytes(DATA[:1000])
    assert catalogue.fetch(NAME, tmp_path, base_url=server.url).read_bytes() == DATA


def test_a_whole_part_is_only_checked(server, tmp_path):
    (tmp_path / "pneumoniamnist.npz.part").write_bytes(DATA)
    assert catalogue.fetch(NAME, tmp_path, base_url=server.url).read_bytes() == DATA


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(UnavailableError, match="damaged and was removed"):
        catalogue.fetch(NAME, tmp_path, size=64, base_url=server.url)
    assert not [p for p in tmp_path.iterdir() if p.suffix != ".lock"]


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    (tmp_path / "pneumoniamnist.npz").write_bytes(b"half")
    assert catalogue.fetch(NAME, tmp_path, base_url=server.url).read_bytes() == DATA


def test_offline_is_one_line_with_the_way_around(tmp_path):
    with pytest.raises(UnavailableError) as caught:
        catalogue.fetch(NAME, tmp_path, base_url="http://127.0.0.1:9", timeout=2.0)
    text = str(caught.value)
    assert "\n" not in text
    assert "Download http://127.0.0.1:9/pneumoniamnist.npz" in text
    assert str(tmp_path) in text


def test_only_the_web_is_fetched(tmp_path):
    with pytest.raises(ArgumentError, match="http"):
        catalogue.fetch(NAME, tmp_path, base_url="file:///etc")


def test_names_and_sizes_are_checked(tmp_path):
    with pytest.raises(ArgumentError, match="id you mean 'pneumoniamnist'"):
        catalogue.fetch("pneumonia-mnist", tmp_path)
    with pytest.raises(ArgumentError, match="that size"):
        catalogue.fetch("adrenalmnist3d", tmp_path, size=128)


def test_the_table_is_complete():
    assert len(catalogue.CATALOGUE) == 18
    for name, entry in catalogue.CATALOGUE.items():
        assert set(entry.md5) == ({28, 64} if entry.dimensions == 3 else {28, 64, 128, 224})
        assert all(len(md5) == 32 for md5 in entry.md5.values())
        assert entry.licence in ("CC BY 4.0", "CC BY-NC 4.0")
        assert entry.name == name
        assert set(entry.images) == {"train", "val", "test"}
