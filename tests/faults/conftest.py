"""The common rule of every fault: a typed error in one paragraph, soon, in little memory, without a name in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from overread.core.errors import OverreadError

#: Stands for a patient: it is planted where names hide and must come out nowhere.
CANARY = "KANARIENVOGEL"
#: What a fault may cost at most.
SECONDS, MEGABYTES = 10.0, 1000


def _refused(action: Callable[..., Any], *arguments: Any, **options: Any) -> OverreadError:
    """The error of ``action``, held against the common rule E0."""
    before, began = _peak(), _spent()
    with pytest.raises(OverreadError) as caught:
        action(*arguments, **options)
    _cheap(before, began)
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    assert CANARY not in text
    assert caught.value.exit_code != 0
    return caught.value


def _survived(action: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """The result of ``action``, or the error that refused it, within the same bounds."""
    before, began = _peak(), _spent()
    try:
        result = action(*arguments, **options)
    except OverreadError as error:
        result = error
    _cheap(before, began)
    assert not (isinstance(result, OverreadError) and CANARY in str(result))
    return result


def _spent() -> float:
    """Seconds of processor time of this process and of the children that ended: not those that others took."""
    return sum(os.times()[:4])


def _cheap(before: float, began: float) -> None:
    """Assert that no more than the allowed seconds and memory went by since ``before`` and ``began``."""
    assert _spent() - began < SECONDS
    assert _peak() - before < MEGABYTES


def _peak() -> float:
    """The largest resident memory of this process so far, in MB; 0 where the system does not say."""
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return 0.0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**20 if sys.platform == "darwin" else used / 2**10


@pytest.fixture(scope="session")
def refused() -> Callable[..., OverreadError]:
    """``refused(function, *arguments)``: the error that the common rule asks for."""
    return _refused


@pytest.fixture(scope="session")
def survived() -> Callable[..., Any]:
    """``survived(function, *arguments)``: the result or the error, soon and in little memory."""
    return _survived


@pytest.fixture(scope="session")
def canary() -> str:
    """A patient's name that must come out nowhere."""
    return CANARY


def _sixteenths(path: Path, data: bytes) -> Iterator[None]:
    """The file cut at each sixteenth of its bytes, one after the other, and then whole."""
    for part in range(16):
        path.write_bytes(data[: len(data) * part // 16])
        yield
    path.write_bytes(data)


@pytest.fixture(scope="session")
def sixteenths() -> Callable[[Path, bytes], Iterator[None]]:
    """``for _ in sixteenths(path, data)``: a file cut at each sixteenth, whole after the last."""
    return _sixteenths
