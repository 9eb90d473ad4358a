"""The server: a socket, uvicorn around the application, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h11
import torch
import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from overread.core.errors import OverreadError, UnavailableError, checked
from overread.core.files import cores, write_text
from overread.core.phrases import count
from overread.core.progress import Say
from overread.serving.application import application, log_path
from overread.serving.policy import Address, ServingSettings, bracketed
from overread.serving.private_folder import PrivateFolder
from overread.serving.reading_room import Reader, SlideShower, warm_up
from overread.serving.slides.slide_reader import open_slide_reader
from overread.study.cells.outline_reader import open_outline_reader
from overread.study.context import outlines_objects, reads_slides
from overread.study.opinion import open_reader

#: Seconds for requests under way when the server ends.
_GRACE = 10
#: Seconds for a worker that has loaded to answer that it lives, before it is replaced.
_ALIVE = 30
#: Workers that may end before their application is there, within so many seconds, until no more are started.
_FAILURES, _WITHIN = 3, 1800
#: Connections that a worker holds at a time; one more is answered 503.
_CONNECTIONS = 512


@checked
def serve(folder: Path, settings: ServingSettings, *, say: Say, ready: Callable[[str], None]) -> None:
    """Serve a run until SIGINT or SIGTERM; ``ready`` hears the address once it answers.

    Raises :class:`UnavailableError` where the port is taken or workers end again and again before they can answer, and
    what opening the run raises, before anything is served.
    """
    threads = settings.operation.threads or max(1, cores() // settings.operation.workers)
    folder = folder.resolve()  # so that it is known where sentences name it, and left out of them
    with listening(settings.address) as door:
        url = f"http://{bracketed(_name(settings.address))}:{door.getsockname()[1]}{settings.address.root_path}/"
        if settings.operation.workers == 1:
            app = _made(folder, settings, threads, None)
            _tell(say, folder, settings, threads)
            _Server(_config(app, settings), ready=partial(ready, url)).run(sockets=[door])
        else:
            _made(folder, settings, threads, None, keep=False)  # what is wrong with the run is said here, once
            _tell(say, folder, settings, threads)
            _serve_together(folder, settings, threads, door, partial(ready, url))
    say("the reading room is closed; no upload was kept")


@checked
@contextmanager
def listening(address: Address) -> Iterator[socket.socket]:
    """A socket that listens where ``address`` says. Raises :class:`UnavailableError` where it cannot."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        door = socket.create_server((address.host.strip("[]"), address.port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        what = "the port is taken" if taken else "the server cannot listen there"
        raise UnavailableError(what, given=f"{address.host} port {address.port}{'' if taken else f': {error}'}",
                               todo="choose another with --port; --port 0 takes a free one") from error  # fmt: skip
    door.set_inheritable(True)
    with door:
        yield door


def _name(address: Address) -> str:
    """How a browser here calls it."""
    return next(iter(address.allow_host)) if address.everywhere else address.host


def _made(
    folder: Path, settings: ServingSettings, threads: int, counts: Path | None, *, keep: bool = True
) -> FastAPI | None:
    torch.set_num_threads(threads)
    opened: Callable[..., Reader] = (
        open_slide_reader if reads_slides(folder) else open_outline_reader if outlines_objects(folder) else open_reader
    )
    reader = opened(folder, device=settings.operation.device, threads=threads)
    if keep:
        if not isinstance(reader, SlideShower):
            warm_up(reader)
        return application(reader, settings, run=folder, counts=counts)
    del reader
    gc.collect()
    return None


def _tell(say: Say, folder: Path, settings: ServingSettings, threads: int) -> None:
    operation, address = settings.operation, settings.address
    workers, each = operation.workers, _megabytes()
    size = f"; each takes about {each:,.0f} MB, together {workers * each:,.0f} MB" if each else ""
    say(f"  {count(workers, 'worker')} of {count(threads, 'thread')}{size}")
    log = log_path(settings, folder)
    say(f"  audit log, of codes only: {log}" if log else "  no audit log is kept")
    say(
        "  only this machine can reach it"
        if address.local and not address.token
        else "  every request must bring the token"
    )
    say("  nothing is sent anywhere: images are read here, and go with their request")


def _megabytes() -> float:
    """What this process took at most, 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _config(app: Any, settings: ServingSettings, *, factory: bool = False) -> _Config:
    return _Config(
        app, factory=factory, workers=settings.operation.workers, http=_Protocol, ws="none", loop="asyncio", lifespan="on",
        log_config=None, access_log=False,  # it holds query strings, and ours holds codes
        server_header=False, proxy_headers=False, limit_concurrency=_CONNECTIONS, timeout_keep_alive=5,
        timeout_graceful_shutdown=_GRACE, timeout_worker_healthcheck=_ALIVE, h11_max_incomplete_event_size=settings.limits.header_bytes,
        header_seconds=settings.limits.header_seconds,
    )  # fmt: skip


class _Config(uvicorn.Config):
    """As uvicorn's, with the seconds within which the head of a request must have arrived."""

    def __init__(self, app: Any, *, header_seconds: float, **rest: Any) -> None:
        super().__init__(app, **rest)
        self.header_seconds = header_seconds


class _Protocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose next head does not arrive in time, first byte or not."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        if self._late is not None:
            self._late.cancel()

    def _watch(self) -> None:
        if self.conn.their_state is h11.IDLE:
            if self._late is None:
                self._late = self.loop.call_later(self.config.header_seconds, self.transport.close)  # type: ignore[attr-defined]
        elif self._late is not None:
            self._late.cancel()
            self._late = None


class _Server(uvicorn.Server):
    """A server that ends at a signal and then lets the program go on, and that says when it answers."""

    def __init__(self, config: uvicorn.Config, *, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        wanted = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


# -- several workers ------------------------------------------------------------------------------------------------


def _serve_together(
    folder: Path, settings: ServingSettings, threads: int, door: socket.socket, ready: Callable[[], None]
) -> None:
    shared = PrivateFolder()
    try:
        config = _config(partial(worker, folder, settings, threads, shared.path), settings, factory=True)
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        workers = _Workers(config, door, shared.path, ready)
        workers.run()
        for number, handler in before.items():
            signal.signal(number, handler)
        if workers.failure:
            raise UnavailableError("the workers end before they can answer, so no more are started", given=workers.failure,
                                   todo="mend that, or serve with fewer --workers where memory is short")  # fmt: skip
    finally:
        shared.close()


class _Workers(Multiprocess):
    """Servers at one socket, which says that it answers once all do.

    uvicorn asks a worker whether it lives from the start, and kills one that is silent; but a worker is silent while it
    imports torch, for minutes on a busy machine, and would be started and killed for ever. So it is asked once its
    application is there, which shows by its file of counts, and before that only an ended process is replaced, a few times:
    ``failure`` then says how they ended, and the others are told to end.
    """

    def __init__(self, config: uvicorn.Config, door: socket.socket, counts: Path, ready: Callable[[], None]) -> None:
        super().__init__(config, sockets=[door])
        self._counts, self._ready, self._told = counts, ready, False
        self._failed: dict[int | None, float] = {}
        self.failure = ""

    def keep_subprocess_alive(self) -> None:
        if self._give_up() or any(self._loads(process) for process in self.processes):
            return
        if not self._told and all(process.process.is_alive() for process in self.processes):
            self._told = True
            self._ready()
        super().keep_subprocess_alive()

    def terminate_all(self) -> None:
        super().terminate_all()
        for process in self.processes:
            process.process.join(_GRACE + 5)
            if process.process.is_alive():
                process.process.kill()

    def _loads(self, process: Process) -> bool:
        return process.process.is_alive() and not self._opened(process)

    def _opened(self, process: Process) -> bool:
        return (self._counts / f"counts-{process.pid}").exists()

    def _give_up(self) -> bool:
        """Count the workers that ended before their application was there; whether they are too many."""
        for process in self.processes:
            if process.process.is_alive():
                continue
            hopeless = process.exitcode == STARTUP_FAILURE  # uvicorn's: it would fail the same way again
            if hopeless or not self._opened(process):
                now = time.monotonic()
                self._failed.setdefault(process.pid, now)
                self._failed = {pid: at for pid, at in self._failed.items() if now - at < _WITHIN}
                if hopeless or len(self._failed) >= _FAILURES:
                    self.failure = f"{count(len(self._failed), 'start')}, the last: {self._end_of(process)}"
                    self.should_exit.set()
                    return True
        return False

    def _end_of(self, process: Process) -> str:
        said, code = self._counts / f"failed-{process.pid}", process.exitcode or 0
        if said.exists():
            return said.read_text("utf-8")
        return f"ended by signal {-code}" if code < 0 else f"exit code {code}"


@checked
def worker(folder: Path, settings: ServingSettings, threads: int, counts: Path) -> FastAPI | None:
    """The application of one of several workers, which ends when the process that started it does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        return _made(folder, settings, threads, counts)
    except OverreadError as error:  # the process that started this one says it, once
        write_text(counts / f"failed-{os.getpid()}", str(error))
        sys.exit(1)


def _end_with(parent: Any) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
