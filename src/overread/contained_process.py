"""The near end of a child of :mod:`overread.contained`: started, spoken with, ended, and kept for the next call."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from overread import errors
from overread.contained_child import NONSENSE, _packed, _receive, _send
from overread.errors import ImageError, OverreadError, UnavailableError, checked

#: Seconds for a process to start and import, and those after which one that should have ended by itself is ended.
START, GRACE = 120.0, 5.0
_KEPT = 8  # idle processes kept for the next call


class Lost(ImageError):
    """A task that cost its process, or asked for too much memory. ``reason`` says how."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Job:
    """What all tasks share: the function by name, last arguments, limits, and the dataclasses it may answer with."""

    function: str
    common: Sequence[Any]
    seconds: float
    memory: int
    kinds: dict[str, type]


# -- a child -----------------------------------------------------------------------------------------------------


class Child:
    """One process at the other end of two pipes. One thread speaks with it; any may end it."""

    def __init__(self) -> None:
        if not sys.executable:
            raise UnavailableError(
                "no process can be started for decoding", given="no Python interpreter is known"
            )
        hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # of Windows
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "overread.contained_child"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment(),
                creationflags=hidden,
            )  # fmt: skip
        except OSError as error:
            raise UnavailableError("no process can be started for decoding", given=str(error)) from error
        self._since, self._limit = time.monotonic(), START
        self.size, self.took = 0, 0.0  # bytes of the last answer, and the seconds it cost

    def begin(self, job: Job) -> bool:
        """Tell it what is to be done; False if it is not alive."""
        self._since, self._limit = time.monotonic(), START
        order = {"function": job.function, "common": list(job.common), "seconds": job.seconds,
                 "memory": job.memory, "path": _path(), "folder": _here()}  # fmt: skip
        answer = self._said(order) and self._heard(job)
        self._limit = job.seconds + GRACE
        if answer and "bug" in answer:
            raise RuntimeError(f"{job.function} cannot be run in a process of its own:\n{answer['bug']}")
        return bool(answer)

    def give(self, tasks: list[Sequence[Any]]) -> None:
        """Send tasks; a dead child is noticed when its answers are awaited."""
        self._said({"tasks": [list(task) for task in tasks]})
        self._since = time.monotonic()

    def answer(self, job: Job) -> tuple[Any, bool]:
        """What became of the next task, and whether the child lives on."""
        heard = self._heard(job)
        if heard is None:
            return Lost(self._obituary(job)), False
        self._since = time.monotonic()
        if "value" in heard:
            took = heard.get("took")
            self.took = took if isinstance(took, float) and 0 <= took < START else 0.0
            return heard["value"], True
        return _failure(heard, job), True

    def _said(self, order: dict[str, Any]) -> bool:
        try:
            _send(cast(BinaryIO, self._process.stdin), _packed(order))
        except OSError:
            return False
        return True

    def _heard(self, job: Job) -> dict[str, Any] | None:
        """The next message; None if there is none, or nonsense: then the child has ended."""
        try:
            heard, self.size = _receive(cast(BinaryIO, self._process.stdout), job.memory, job.kinds)
        except (*NONSENSE, OSError):
            heard = None
        if not isinstance(heard, dict):
            self.end(patience=1.0)
            return None
        return heard

    def _obituary(self, job: Job) -> str:
        code = self._process.returncode
        if code == -getattr(signal, "SIGALRM", 1) or time.monotonic() - self._since >= job.seconds:
            return f"the decoder did not end within {job.seconds:g} s"
        if code == -9:
            return "the decoder crashed (signal 9, perhaps for want of memory)"
        return f"the decoder crashed ({f'signal {-code}' if code < 0 else f'exit code {code}'})"

    @property
    def late(self) -> bool:
        """Whether it should have answered, or ended, by now."""
        return time.monotonic() - self._since > self._limit

    def kill(self) -> None:
        """End it; who waits for its answer learns that it died."""
        self._process.kill()

    def end(self, patience: float = 0.0) -> None:
        """End it, after ``patience`` seconds for its own way to end, and clear away what is left of it."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                cast(BinaryIO, pipe).close()


def _failure(heard: dict[str, Any], job: Job) -> OverreadError:
    if "memory" in heard:
        return Lost(f"the decoder needs more than {job.memory / 1e9:.3g} GB of memory")
    if "bug" in heard:
        raise RuntimeError(f"{job.function} failed in a process of its own:\n{heard['bug']}")
    kind = vars(errors).get(str(heard.get("error")).lstrip("_"))
    kind = kind if isinstance(kind, type) and issubclass(kind, OverreadError) else OverreadError
    made = kind(str(heard.get("what")), given=heard.get("given"), todo=str(heard.get("todo") or ""))
    if heard.get("reason") is not None:
        vars(made)["reason"] = str(heard["reason"])
    return made


def _environment() -> dict[str, str]:
    """This process's environment, one thread a child, and the modules found where they are found here."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
                         "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OPENCV_FOR_THREADS_NUM"), "1")  # fmt: skip
    utf8 = {"PYTHONUTF8": "1"} if sys.flags.utf8_mode else {}
    return {**os.environ, **one, **utf8, "PYTHONPATH": os.pathsep.join(_path())}


def _path() -> list[str]:
    return [entry for entry in sys.path if isinstance(entry, str) and entry]


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return ""


# -- those that wait for the next call ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pool:
    """Idle children of this process: to start one takes a third of a second."""

    idle: list[Child] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


_POOLS: dict[int, _Pool] = {}  # by process: a fork must not speak with its parent's children


def _pool() -> _Pool:
    return _POOLS.setdefault(os.getpid(), _Pool())


@checked
def keep(child: Child) -> None:
    """Have ``child``, which owes no answer, wait for the next call; one too many is ended."""
    pool = _pool()
    with pool.lock:
        if room := len(pool.idle) < _KEPT:
            pool.idle.append(child)
    if not room:
        child.end()


@checked
def kept() -> Child | None:
    """An idle child, or None if there is none."""
    pool = _pool()
    with pool.lock:
        return pool.idle.pop() if pool.idle else None


@atexit.register
def close() -> None:
    """End the idle children of this process."""
    while child := kept():
        child.end()
