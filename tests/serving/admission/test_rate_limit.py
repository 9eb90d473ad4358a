"""How many images an address may have read: whatever they come in is counted, and nothing is let in for ever or never."""

from __future__ import annotations

import pytest
from served import files, png, zipped

from overread.serving.admission.rate_limit import RateLimit


def test_what_many_images_cost_is_owed_however_few_are_left():
    now = [0.0]
    limit = RateLimit(3, clock=lambda: now[0])
    assert [limit.take("a") for _ in range(3)] == [0.0] * 3
    limit.charge("a", 300)
    now[0] = 60 * 100
    assert limit.take("a") == pytest.approx(20.0), "a hundred minutes have paid for 300 images, and not for the next"
    assert limit.take("b") == 0.0


def test_less_than_one_image_a_minute_is_one_now_and_then():
    """Of 2 a minute each of 4 workers lets a half through."""
    now = [0.0]
    limit = RateLimit(2 / 4, clock=lambda: now[0])
    assert limit.take("a") == 0.0
    assert limit.take("a") == pytest.approx(120.0)
    now[0] = 120.0
    assert limit.take("a") == 0.0


@pytest.mark.parametrize("path", ["/predict", "/explain", "/view", "/batch"])
def test_the_images_of_an_archive_are_counted(opened, path):
    client = opened(rate=4)
    archive = files(zipped({f"{seed}.png": png(seed) for seed in range(6)}))
    assert client.post(path, files=archive).status_code == 200
    assert "overread_images_total 6" in client.get("/metrics").text
    refused = client.post(path, files=files(png()))
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 30


def test_views_are_counted_as_what_they_are(opened):
    client = opened()
    client.post("/view", files=files(png()))
    assert 'overread_requests_total{action="view",status="2xx"} 1' in client.get("/metrics").text


def test_images_that_are_not_read_are_not_counted(opened):
    client = opened(rate=1)
    client.post("/session")
    assert [client.post("/predict", files=files(png())).status_code for _ in range(3)] == [200, 429, 429]
    assert client.post("/predict", content=b"").status_code in (415, 429)
    assert "overread_images_total 1\n" in client.get("/metrics").text
