"""Many requests at once, and many in a row: no error, bounded waiting, flat memory; and whatever OpenAPI allows to be sent."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from served import StandIn, a_model, client_of, files, png
from server_process import server

IN_FLIGHT = 8


def timed(client: httpx.Client, url: str, seed: int) -> tuple[int, float]:
    began = time.monotonic()
    answer = client.post(f"{url}predict", files=files(png(seed % 7, 256)))
    return answer.status_code, time.monotonic() - began


def resident(pid: int) -> int:
    """Megabytes of a process and its children, which decode."""
    status = Path(f"/proc/{pid}/status").read_text("ascii")
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    children = [
        int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text("ascii").split()
    ]
    return own // 1024 + sum(resident(child) for child in children)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_two_hundred_requests_with_eight_in_flight(tmp_path, workers):
    with (
        server(tmp_path, workers=workers, rate=0) as found,
        httpx.Client(timeout=120, limits=httpx.Limits(max_connections=IN_FLIGHT)) as client,
    ):
        for seed in range(10):
            timed(client, found.url, seed)
        alone = float(np.median([timed(client, found.url, seed)[1] for seed in range(20)]))
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            answers = list(pool.map(lambda seed: timed(client, found.url, seed), range(200)))
    seconds = np.array([took for _, took in answers])
    bound = 3 * alone * IN_FLIGHT / workers  # each waits for those before it
    print(
        f"{workers} workers: one {alone:.3f} s, p50 {np.median(seconds):.3f} s, p95 {np.quantile(seconds, 0.95):.3f} s, bound {bound:.3f} s"
    )
    assert {status for status, _ in answers} == {200}
    assert np.quantile(seconds, 0.95) <= bound


@pytest.mark.slow
def test_memory_is_flat_over_two_thousand_requests(tmp_path):
    with server(tmp_path, rate=0) as found, httpx.Client(timeout=120) as client:
        for seed in range(200):
            timed(client, found.url, seed)
        before = resident(found.process.pid)
        for seed in range(2000):
            assert timed(client, found.url, seed)[0] == 200
        after = resident(found.process.pid)
    print(f"{before} MB before, {after} MB after")
    assert after <= 1.05 * before + 10


@pytest.fixture
def api(tmp_path):
    client = client_of(StandIn(a_model()), tmp_path, run=tmp_path, rate=0, log="none")
    with client:
        yield schemathesis.openapi.from_asgi("/openapi.json", client.app)


schema = schemathesis.pytest.from_fixture("api")


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_openapi_allows_is_answered_as_it_says(case):
    case.call_and_validate()
