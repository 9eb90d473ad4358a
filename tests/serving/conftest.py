"""The application around a tiny reader, without a port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from served import Held, StandIn, a_model, client_of
from starlette.testclient import TestClient


@pytest.fixture(scope="session")
def reader() -> StandIn:
    return StandIn(a_model())


@pytest.fixture
def opened(reader: StandIn, tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """A client of the application, with settings by the names of their fields."""
    with ExitStack() as stack:

        def open_(**given: Any) -> TestClient:
            return stack.enter_context(client_of(given.pop("reader", reader), tmp_path, **given))

        yield open_


@pytest.fixture
def model_held() -> Iterator[Held]:
    held = Held()
    yield held
    held.go.set()
