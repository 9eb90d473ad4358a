"""A real server on loopback, in a process of its own: slow clients, killed servers, signals, and no connection to anywhere."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import served
from installed import program
from served import FAILS, STARTED, files, png, settings_of
from server_process import SOURCE, server, started

from overread.core.errors import UnavailableError
from overread.serving.private_folder import PrivateFolder, sweep
from overread.serving.server import listening


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[SimpleNamespace]:
    with server(tmp_path_factory.mktemp("server"), body_seconds=1.0, header_seconds=1.0, header_bytes=4096) as found:
        yield found


def uploads(folder: Path) -> list[Path]:
    return list(folder.glob("overread-serve-*/*/*"))


def ask(url: str) -> httpx.Response:
    return httpx.post(f"{url}predict", files=files(png()), timeout=60)


def unanswered(url: str) -> None:
    with pytest.raises(httpx.HTTPError):
        ask(url)


def within(seconds: float, wanted) -> bool:
    """Whether ``wanted()`` comes true in that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if wanted():
            return True
        time.sleep(0.02)
    return False


def test_it_answers_and_names_no_software(running):
    answer = ask(running.url)
    assert answer.status_code == 200, answer.text
    assert "server" not in answer.headers


def test_a_body_that_trickles_ends_in_408(running):
    """Fault 42: a slow body; the connection is closed after it."""
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 9999\r\n\r\n--b"
        )
        began = time.monotonic()
        client.settimeout(10)
        said = b""
        while part := client.recv(4096):
            said += part
    assert said.startswith(b"HTTP/1.1 408"), said
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nx: y\r\n"])
def test_a_head_that_never_ends_is_cut_off(running, start):
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(start)
        client.settimeout(8)
        assert client.recv(4096) == b""


def test_a_head_that_is_too_large_is_refused(running):
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n")
        client.settimeout(8)
        assert client.recv(64).startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


@pytest.mark.slow
def test_a_client_that_goes_frees_its_slot(tmp_path):
    with server(tmp_path, seconds=1.0, queue=1) as found:
        with socket.create_connection(("127.0.0.1", found.port)) as client:
            body = (
                b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
                + png()
                + b"\r\n--b--\r\n"
            )
            head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            assert within(60, lambda: uploads(tmp_path))
        began = time.monotonic()
        said = [ask(found.url).status_code for _ in range(2)]
        assert said == [200, 200]
        assert time.monotonic() - began < 60
        assert within(20, lambda: not uploads(tmp_path))


@pytest.mark.slow
def test_no_upload_survives_a_kill(tmp_path):
    """Killed in the middle of a request, the server can do nothing more: the process beside it removes what it left."""
    with server(tmp_path, seconds=30.0) as found:
        asking = threading.Thread(target=unanswered, args=(found.url,))
        asking.start()
        assert within(60, lambda: uploads(tmp_path)), "the upload lies in a folder while it is read"
        folder = next(tmp_path.glob("overread-serve-*"))
        assert folder.stat().st_mode & 0o777 == 0o700
        os.kill(found.process.pid, signal.SIGKILL)
        assert within(10, lambda: not folder.exists())
        asking.join(20)


def test_what_both_left_is_swept_by_the_next(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left, living, other = (
        tmp_path / f"overread-serve-{name}" for name in (f"{gone.pid}-abc", f"{os.getpid()}-abc", "notes")
    )
    for path in (left, living, other):
        (path / "request").mkdir(parents=True)
        (path / "request" / "00000.dcm").write_bytes(b"patient")
    (tmp_path / f"overread-serve-{gone.pid}-link").symlink_to(other)
    made = PrivateFolder(str(tmp_path))
    assert made.swept == 1
    assert not left.exists()
    assert living.exists()
    assert (other / "request").exists()
    made.close()
    assert not made.path.exists()
    assert sweep(tmp_path) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly(tmp_path, number):
    with server(tmp_path) as found:
        assert ask(found.url).status_code == 200
        found.process.send_signal(number)
        assert found.process.wait(20) == 0
        said = found.process.stderr.read()
        assert "closed" in said
        assert "Traceback" not in said
        assert not list(tmp_path.glob("overread-serve-*"))


def test_a_taken_port_is_told_in_one_line(running, tmp_path):
    with (
        pytest.raises(UnavailableError, match="the port is taken") as caught,
        listening(settings_of(tmp_path, port=running.port).address),
    ):
        pass
    assert "--port 0" in str(caught.value)


def test_it_listens_on_loopback_only(running):
    own = socket.gethostbyname(socket.gethostname())
    if own.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError):
        socket.create_connection((own, running.port), timeout=2)


@pytest.mark.slow
def test_several_workers_answer_count_together_and_end_together(tmp_path):
    with server(tmp_path, workers=2) as found:
        wanted = 12
        said = [ask(found.url).status_code for _ in range(wanted)]
        assert said == [200] * wanted
        for _ in range(4):
            assert (
                f'overread_requests_total{{action="predict",status="2xx"}} {wanted}'
                in httpx.get(f"{found.url}metrics").text
            )
        found.process.send_signal(signal.SIGTERM)
        assert found.process.wait(30) == 0
        assert within(10, lambda: not list(tmp_path.glob("overread-serve-*")))
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{found.url}healthz", timeout=2)


@pytest.mark.slow
def test_workers_that_fail_before_they_answer_are_not_started_for_ever(tmp_path):
    """The run opens in the first process, so that only workers fail, which says why in one sentence."""
    (tmp_path / FAILS).write_text("the graphics memory is full")
    process = started(tmp_path, workers=2)
    try:
        told, said = process.communicate(timeout=150)
    finally:
        process.kill()
    assert process.returncode == 1
    assert told == "", "it never said that it answers"
    (line,) = (line for line in said.splitlines() if line.startswith("overread.core.errors.UnavailableError: "))
    assert "the workers end before they can answer" in line
    assert "the graphics memory is full" in line
    assert "--workers" in line
    assert len((tmp_path / STARTED).read_text().splitlines()) in (3, 4), "two at once, and each again"
    assert not list(tmp_path.glob("overread-serve-*"))


def unshare() -> list[str]:
    """The start of a command line that gives a process a network and mounts of its own."""
    found, *_ = (program(name, package) for name, package in (("unshare", "util-linux"), ("mount", "mount"), ("ip", "iproute2")))  # fmt: skip
    if subprocess.run([found, "-rnm", "true"], capture_output=True).returncode:
        pytest.skip("the system lets no process here have a network of its own")  # which no package mends
    return [found, "-rnm"]


@pytest.mark.slow
def test_38_a_name_server_that_records_hears_nothing(tmp_path):
    """The whole server in a network of its own, whose name server and web server write down who asks."""
    path = os.pathsep.join([str(SOURCE), str(Path(served.__file__).parent)])
    done = subprocess.run([*unshare(), sys.executable, "-m", "name_server", str(tmp_path)], capture_output=True, text=True,
                          timeout=120, env={**os.environ, "PYTHONPATH": path})  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["answers"] == [200, 422, 422, 422, 422, 422, 415]
    assert found["heard"] == []
    assert found["heard when asked"], "the recorder records"
