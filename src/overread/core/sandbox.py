"""Run a function on untrusted input in processes of its own: what crashes, hangs or eats the memory takes nothing
along.

Decoders of images are written in C and meet files from anywhere. Here a module-level function runs in a few worker
processes (:mod:`overread.core.sandbox_worker`) that are sent tasks over pipes and answer over pipes. A worker that dies
or does not end costs the one task it was at, which comes back as :class:`Lost`; another worker goes on with the rest.
"""

from __future__ import annotations

import atexit
import dataclasses
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
import typing
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import UnionType
from typing import Any, BinaryIO, cast

from overread.core import errors
from overread.core.errors import ImageError, OverreadError, UnavailableError, checked, require
from overread.core.files import cores
from overread.core.sandbox_worker import NONSENSE, PATIENCE, _name, _packed, _receive, _send

__all__ = ["MEMORY", "SECONDS", "TOO_LONG", "Lost", "contained", "contained_call"]

#: What one task may take: seconds of the processor (by the clock :data:`~overread.core.sandbox_worker.PATIENCE` times
#: as many), and bytes of memory beyond what the process needs for itself. The environment variables
#: OVERREAD_DECODE_SECONDS and OVERREAD_DECODE_MEMORY (in MB) raise or lower them.
SECONDS, MEMORY = 60.0, 4 << 30
#: What the reason of a task begins with that was given up for its time, which depends on the machine.
TOO_LONG = "the decoder did not end within"
_FEW = 4  # tasks that are not worth a further process
_BATCH = 64  # tasks sent at once
_BEAT = 0.04  # seconds of work that are sent at once
_NAP, _PIPE = 0.01, 32 << 10  # seconds in which short answers gather, bytes of them that fit into a pipe


@checked
def contained(
    function: Callable[..., Any], tasks: Iterable[Sequence[Any]], *, common: Sequence[Any] = (), workers: int = 0,
    seconds: float = 0.0, memory: int = 0,
) -> Generator[Any, None, None]:  # fmt: skip
    """``function(*task, *common)`` for every task, in their order, in child processes that a malicious file may crash.

    ``function``: of a module that can be imported. Tasks: JSON values, bytes, arrays of numbers, frozen dataclasses.
    Results: the same, dataclasses only as the function's return annotation names them; tuples come as lists. An
    :class:`ImageError` that the function raises is handed out in its place as a result, and so is a :class:`Lost`
    for a task that crashed, took longer than ``seconds`` (0: :data:`SECONDS`) or more ``memory`` in bytes (0:
    :data:`MEMORY`; held where the system can). ``workers``: processes at a time, 0 for as many as there are cores.
    A few tasks per process are under way, so ``tasks`` may be endless. Raises any other :class:`OverreadError` of the
    function, :class:`UnavailableError` where no process can be started, and RuntimeError with the other end's
    traceback for any other exception.

    >>> from overread.images.formats.npz import short_name
    >>> list(contained(short_name, [("a/b.png",), ("c.npz#images/7",)]))
    ['b.png', 'c.npz#images/7']
    """
    require(workers >= 0, "workers must not be negative", given=workers)
    require(seconds >= 0 and memory >= 0, "a limit must not be negative", given=f"{seconds} s, {memory} bytes")
    seconds = seconds or _setting("OVERREAD_DECODE_SECONDS", SECONDS)
    memory = memory or int(_setting("OVERREAD_DECODE_MEMORY", MEMORY / 1e6) * 1e6)
    kinds = {_name(kind): kind for kind in _dataclasses(function)}
    call = Call(_importable(function), common, seconds, memory, kinds)
    return _Pool(call, workers or cores()).results(iter(tasks))


@checked
def contained_call(function: Callable[..., Any], *arguments: object) -> Any:
    """``function(*arguments)`` in a child process: see :func:`contained`.

    Raises what the function raises of ours, and :class:`Lost`, an :class:`ImageError`, where it costs the process.
    """
    (result,) = contained(function, [arguments], workers=1)
    if isinstance(result, ImageError):
        raise result
    return result


def _importable(function: Callable[..., Any]) -> str:
    named = hasattr(function, "__qualname__")
    name = _name(inspect.unwrap(function)) if named else repr(function)
    importable = named and "<" not in name and not name.startswith("__main__:")
    require(importable, "the function must be one of a module, that a process can import", given=name)
    return name


def _dataclasses(function: Callable[..., Any]) -> list[type]:
    """Those that the return annotation names, also within a union."""
    try:
        told = typing.get_type_hints(inspect.unwrap(function)).get("return")
    except NameError:  # a name imported for type checkers only
        return []
    union = typing.get_origin(told) in (typing.Union, UnionType)
    return [kind for kind in (typing.get_args(told) if union else (told,)) if dataclasses.is_dataclass(kind)]  # type: ignore[misc]


def _setting(name: str, default: float) -> float:
    try:
        value = float(os.environ.get(name) or default)
    except ValueError:
        value = 0.0
    require(value > 0, f"{name} must be a number above 0", given=repr(os.environ.get(name)))
    return value


# -- those that work ---------------------------------------------------------------------------------------------


class _Pool:
    """Threads that each speak with one worker, and the tasks and results between them and who asks."""

    def __init__(self, call: Call, workers: int) -> None:
        self.call, self.workers = call, workers
        self._todo: deque[tuple[int, Sequence[Any]]] = deque()
        self._done: dict[int, Any] = {}
        self._threads: list[threading.Thread] = []
        self._busy: set[Worker] = set()
        self._size, self._pulled, self._wanted, self._taken = 1, 0, 0, 0
        self._stopped = False
        self._failure: BaseException | None = None
        lock = threading.Lock()
        self._work, self._answer = threading.Condition(lock), threading.Condition(lock)

    # -- asked by who wants the results

    def results(self, tasks: Iterator[Sequence[Any]]) -> Generator[Any, None, None]:
        """The results of all tasks, in their order."""
        index = 0
        try:
            while self.fill(tasks, index):
                yield self.result(index)
                index += 1
        finally:
            self.terminate()

    def fill(self, tasks: Iterator[Sequence[Any]], index: int) -> bool:
        """Have enough tasks under way to get at the result ``index``; False if there is no such task."""
        most = index + self.workers * max(8, 4 * self._size)
        fresh = []
        while self._pulled < most and (task := next(tasks, None)) is not None:
            fresh.append((self._pulled, task))
            self._pulled += 1
        if fresh:
            with self._work:
                self._todo.extend(fresh)
                self._work.notify_all()
            while len(self._threads) < min(self.workers, -(-self._pulled // _FEW)):
                self._threads.append(threading.Thread(target=self._run, daemon=True))
                self._threads[-1].start()
        return index < self._pulled

    def result(self, index: int) -> Any:
        """The result of the task ``index``, as soon as it is there."""
        with self._answer:
            self._wanted = index
            while index not in self._done:
                if self._failure is not None:
                    raise self._failure
                self._answer.wait(0.5)
                for worker in self._busy:
                    if worker.late:
                        worker.kill()
            outcome, self._taken = self._done.pop(index), index + 1
        if isinstance(outcome, OverreadError) and not isinstance(outcome, ImageError):
            raise outcome
        return outcome

    def terminate(self) -> None:
        """End what is under way."""
        with self._work:
            self._stopped = True
            for worker in self._busy if self._taken < self._pulled else ():
                worker.kill()
            self._work.notify_all()
        for thread in self._threads:
            thread.join(GRACE)

    # -- the life of a thread

    def _run(self) -> None:
        worker: Worker | None = None
        with ExitStack() as stack:
            stack.push(self._note)
            while batch := self._take(wait=True):
                worker = self._serve(worker or self._start(), batch)
            if worker is not None:
                _keep(worker)

    def _note(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        with self._answer:
            if error is not None:
                self._failure = self._failure or error
                self._answer.notify_all()
        return True

    def _take(self, *, wait: bool) -> list[tuple[int, Sequence[Any]]]:
        """The next tasks: no more than a fair share of what there is. Empty when there is nothing left to do."""
        with self._work:
            while wait and not self._todo and not self._stopped:
                self._work.wait()
            share = -(-len(self._todo) // max(1, len(self._threads)))
            count = 0 if self._stopped else min(self._size, share)
            return [self._todo.popleft() for _ in range(count)]

    def _start(self) -> Worker:
        """A worker that knows the call: one that is idle and alive, or a new one."""
        while True:
            idle = _kept()
            worker = idle or Worker()
            with self._held(worker):
                if worker.begin(self.call):
                    return worker
            worker.end()
            if idle is None:
                raise UnavailableError("a process for decoding ended before it began", given=sys.executable,
                                       todo="check that this interpreter can import overread")  # fmt: skip

    @contextmanager
    def _held(self, worker: Worker) -> Iterator[None]:
        """Hold ``worker`` to its time meanwhile, and end it if anything goes wrong."""
        with self._work:
            self._busy.add(worker)
            if self._stopped:
                worker.kill()
        with ExitStack() as stack:
            stack.callback(worker.end)
            yield
            stack.pop_all()
        with self._work:
            self._busy.discard(worker)

    def _serve(self, worker: Worker, batch: list[tuple[int, Sequence[Any]]]) -> Worker | None:
        """Have ``worker`` do the tasks, and more while there are any: it never waits for the next ones.

        If one costs it its life, those behind go back to the front of the queue.
        """
        given, pace, answered = deque(batch), _BEAT, 0
        with self._held(worker):
            worker.give([task for _, task in batch])
            while given:
                outcome, alive = worker.answer(self.call)
                index, _ = given.popleft()
                self._put(index, outcome, [] if alive else [*given])
                if not alive:
                    return None
                answered += 1
                pace += (worker.took - pace) / min(answered, 20)
                self._size = min(_BATCH, 2 * self._size, max(1, int(_BEAT / max(pace, 1e-6))))
                if len(given) <= self._size // 2 and (more := self._take(wait=False)):
                    worker.give([task for _, task in more])
                    given.extend(more)
                _gather(answered, pace, len(given), worker.size)
        return worker

    def _put(self, index: int, outcome: Any, back: list[tuple[int, Sequence[Any]]]) -> None:
        with self._work:
            self._done[index] = outcome
            if back:
                self._todo.extendleft(reversed(back))
                self._work.notify_all()
            if index == self._wanted:
                self._answer.notify_all()


def _gather(answered: int, pace: float, given: int, size: int) -> None:
    """Now and then let short answers gather: to wake up for each costs a tenth of what a small image costs."""
    together = min(int(_NAP / max(pace, 1e-6)), _PIPE // max(size, 1))
    if 1 < together <= given and answered % together == 0:
        time.sleep(_NAP)


# -- the near end of a worker: started, spoken with, ended, and kept for the next call -----------------------------


#: Seconds for a process to start and import, and those after which one that should have ended by itself is ended.
START, GRACE = 120.0, 5.0
_KEPT = 8  # idle processes kept for the next call


class Lost(ImageError):
    """A task that cost its process, or asked for too much memory. ``reason`` says how."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Call:
    """What all tasks share: the function by name, last arguments, limits, and the dataclasses it may answer with."""

    function: str
    common: Sequence[Any]
    seconds: float
    memory: int
    kinds: dict[str, type]


class Worker:
    """One process at the other end of two pipes. One thread speaks with it; any may end it."""

    def __init__(self) -> None:
        if not sys.executable:
            raise UnavailableError("no process can be started for decoding", given="no Python interpreter is known")
        hidden = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # of Windows
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "overread.core.sandbox_worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment(),
                creationflags=hidden,
            )  # fmt: skip
        except OSError as error:
            raise UnavailableError("no process can be started for decoding", given=str(error)) from error
        self._since, self._limit = time.monotonic(), START
        self.size, self.took = 0, 0.0  # bytes of the last answer, and the seconds it cost

    def begin(self, call: Call) -> bool:
        """Tell it what is to be done; False if it is not alive."""
        self._since, self._limit = time.monotonic(), START
        order = {"function": call.function, "common": list(call.common), "seconds": call.seconds,
                 "memory": call.memory, "path": _path(), "folder": _here()}  # fmt: skip
        answer = self._send(order) and self._receive(call)
        self._limit = PATIENCE * call.seconds + GRACE
        if answer and "bug" in answer:
            raise RuntimeError(f"{call.function} cannot be run in a process of its own:\n{answer['bug']}")
        return bool(answer)

    def give(self, tasks: list[Sequence[Any]]) -> None:
        """Send tasks; a dead worker is noticed when its answers are awaited."""
        self._send({"tasks": [list(task) for task in tasks]})
        self._since = time.monotonic()

    def answer(self, call: Call) -> tuple[Any, bool]:
        """What became of the next task, and whether the worker lives on."""
        message = self._receive(call)
        if message is None:
            return Lost(self._reason(call)), False
        self._since = time.monotonic()
        if "value" in message:
            took = message.get("took")
            self.took = took if isinstance(took, float) and 0 <= took < START else 0.0
            return message["value"], True
        return _failure(message, call), True

    def _send(self, order: dict[str, Any]) -> bool:
        try:
            _send(cast(BinaryIO, self._process.stdin), _packed(order))
        except OSError:
            return False
        return True

    def _receive(self, call: Call) -> dict[str, Any] | None:
        """The next message; None if there is none, or nonsense: then the worker has ended."""
        try:
            message, self.size = _receive(cast(BinaryIO, self._process.stdout), call.memory, call.kinds)
        except (*NONSENSE, OSError):
            message = None
        if not isinstance(message, dict):
            self.end(patience=1.0)
            return None
        return message

    def _reason(self, call: Call) -> str:
        code = self._process.returncode
        timers = [-getattr(signal, name, 1) for name in ("SIGPROF", "SIGALRM")]
        if code in timers or time.monotonic() - self._since >= PATIENCE * call.seconds:
            return f"{TOO_LONG} {call.seconds:g} s"
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


def _failure(message: dict[str, Any], call: Call) -> OverreadError:
    if "memory" in message:
        return Lost(f"the decoder needs more than {call.memory / 1e9:.3g} GB of memory")
    if "bug" in message:
        raise RuntimeError(f"{call.function} failed in a process of its own:\n{message['bug']}")
    kind = vars(errors).get(str(message.get("error")).lstrip("_"))
    kind = kind if isinstance(kind, type) and issubclass(kind, OverreadError) else OverreadError
    made = kind(str(message.get("what")), given=message.get("given"), todo=str(message.get("todo") or ""))
    if message.get("reason") is not None:
        vars(made)["reason"] = str(message["reason"])
    return made


def _environment() -> dict[str, str]:
    """This process's environment, one thread a worker, and the modules found where they are found here."""
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


#: Idle workers by process, since a fork must not speak with its parent's: to start one takes a third of a second.
_IDLE: dict[int, deque[Worker]] = {}


def _keep(worker: Worker) -> None:
    """Have ``worker``, which owes no answer, wait for the next call; one too many is ended."""
    idle = _IDLE.setdefault(os.getpid(), deque())
    if len(idle) < _KEPT:
        idle.append(worker)
    else:
        worker.end()


def _kept() -> Worker | None:
    """An idle worker, or None if there is none."""
    with suppress(IndexError):
        return _IDLE.setdefault(os.getpid(), deque()).pop()
    return None


@atexit.register
def close() -> None:
    """End the idle workers of this process."""
    while worker := _kept():
        worker.end()
