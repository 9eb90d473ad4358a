"""The far end of :mod:`overread.core.sandbox`: a process that runs one function on what it is sent, and answers.

A message is two numbers (bytes of JSON, number of blobs), the length of each blob, the JSON, the blobs. Bytes and
arrays travel as blobs, dataclasses by name and fields. Nothing is pickled: whoever takes over this process by a
malicious image can send numbers and text to the other end, and no code.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import importlib
import json
import os
import queue
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

from overread.core.errors import OverreadError

#: Times its seconds of work that a task may take by the clock: it waits for a disk, or behind other programs.
PATIENCE = 5.0
_HEAD = struct.Struct("<II")
_MARK = "\0kind"  # in a JSON object that stands for something else
_MOST_TEXT = 64 << 20  # bytes of JSON
_MOST_BLOBS = 1 << 16
_CHUNK = 16 << 20  # bytes believed at once of a length that the other end claims
_WORN = 1 << 30  # bytes left behind by earlier work after which a fresh process is better

#: What damaged or forged messages raise in :func:`_receive`.
NONSENSE = (ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, RecursionError, MemoryError)


# -- messages ----------------------------------------------------------------------------------------------------


def _packed(value: Any) -> list[bytes | memoryview]:
    """The parts of a message that says ``value``: JSON values, bytes, arrays of numbers, dataclasses of these."""
    blobs: list[bytes | memoryview] = []

    def stand_in(item: Any) -> Any:
        if isinstance(item, (bytes, bytearray, memoryview)):
            blobs.append(memoryview(item).cast("B"))
            return {_MARK: "bytes", "blob": len(blobs) - 1}
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            fields = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
            return {_MARK: "record", "name": _name(type(item)), "fields": fields}
        if isinstance(item, os.PathLike):
            return os.fspath(item)
        if getattr(item, "ndim", None) == 0 and item.dtype.kind in "biufUS":
            return item.item()
        return _array(item, blobs)

    text = json.dumps(value, default=stand_in).encode("ascii")
    lengths = struct.pack(f"<{len(blobs)}Q", *map(len, blobs))
    return [_HEAD.pack(len(text), len(blobs)), lengths, text, *blobs]


def _array(item: Any, blobs: list[bytes | memoryview]) -> dict[str, Any]:
    kind = getattr(getattr(item, "dtype", None), "kind", "")
    if kind not in tuple("biufc"):
        raise TypeError(f"{type(item).__name__} cannot be sent to another process")
    import numpy as np

    blobs.append(np.ascontiguousarray(item).reshape(-1).view(np.uint8).data)
    return {_MARK: "array", "blob": len(blobs) - 1, "type": item.dtype.str, "shape": list(item.shape)}


def _name(thing: Any) -> str:
    return f"{thing.__module__}:{thing.__qualname__}"


def _send(stream: BinaryIO, parts: list[bytes | memoryview]) -> None:
    for part in parts:
        stream.write(part)
    stream.flush()


def _receive(stream: BinaryIO, most: int, kinds: Mapping[str, type] | None) -> tuple[Any, int]:
    """The next message and its bytes; None at the end of the stream.

    ``most``: bytes of blobs that are accepted. ``kinds``: the dataclasses that may be made, by name; None: any, for
    the end that trusts the other. Raises one of :data:`NONSENSE`.
    """
    first = stream.read(_HEAD.size)
    if not first:
        return None, 0
    size, count = _HEAD.unpack(first) if len(first) == _HEAD.size else (0, _MOST_BLOBS + 1)
    if size > _MOST_TEXT or count > _MOST_BLOBS:
        raise ValueError("not a message")
    lengths = struct.unpack(f"<{count}Q", _exactly(stream, 8 * count))
    if sum(lengths) > most:
        raise ValueError("a message beyond the limit")
    text = _exactly(stream, size)
    blobs = [_exactly(stream, length) for length in lengths]
    return json.loads(text, object_hook=lambda found: _meant(found, blobs, kinds)), size + sum(lengths)


def _exactly(stream: BinaryIO, size: int) -> bytearray:
    data = bytearray()
    while len(data) < size:
        part = stream.read(min(size - len(data), _CHUNK))
        if not part:
            raise EOFError
        data += part
    return data


def _meant(found: dict[str, Any], blobs: list[bytearray], kinds: Mapping[str, type] | None) -> Any:
    """What a JSON object stands for."""
    kind = found.get(_MARK)
    if kind is None:
        return found
    if kind == "bytes":
        return bytes(blobs[found["blob"]])
    if kind == "array":
        import numpy as np

        dtype = np.dtype(str(found["type"]))
        if dtype.kind not in "biufc":
            raise ValueError("not an array of numbers")
        return np.frombuffer(blobs[found["blob"]], dtype).reshape(found["shape"])
    made = _found(found["name"]) if kinds is None else kinds[found["name"]]
    return made(**{name: _tuples(value) for name, value in found["fields"].items()})


def _tuples(value: Any) -> Any:
    """JSON knows no tuples; frozen dataclasses hold no lists."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _found(name: str) -> Any:
    """The module-level thing of that name, ``module:name``."""
    module, _, inside = name.partition(":")
    thing: Any = importlib.import_module(module)
    for part in inside.split("."):
        thing = getattr(thing, part)
    return thing


# -- the process -------------------------------------------------------------------------------------------------


def main() -> None:
    """Answer until the other end goes away."""
    inbox, outbox = _pipes()
    _settle()
    fresh = _used()
    orders: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(inbox, orders), daemon=True).start()
    work, common, seconds = _begin, [], 0.0
    while True:
        order = orders.get()
        if "function" in order:
            common, seconds = order["common"], order["seconds"]
            work, wrong = _tried(_begin, [order, fresh])
            _send(outbox, _packed(wrong or {"ready": True}))
        for task in order.get("tasks", ()):
            _alarm(seconds)
            parts, wrong = _tried(_worked, [work, [*task, *common]])
            _alarm(0.0)
            _send(outbox, _packed(wrong) if wrong else parts)


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes, moved away from standard input and output: decoders in C print to where they think best."""
    inbox, outbox = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    return os.fdopen(inbox, "rb"), os.fdopen(outbox, "wb")


def _settle() -> None:
    """Ctrl-C is the other end's business; no core dump holds a patient; out of memory ends this process first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "setitimer"):
        for limit in (signal.SIGPROF, signal.SIGALRM):
            signal.signal(limit, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF, signal.SIGALRM])
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500", "ascii")
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _listen(inbox: BinaryIO, orders: queue.SimpleQueue[Any]) -> None:
    """Hand on what comes in; when the other end goes away, so does this process, whatever it is at."""
    try:
        while (order := _receive(inbox, sys.maxsize, None)[0]) is not None:
            orders.put(order)
    finally:
        os._exit(0)


def _begin(order: dict[str, Any], fresh: int) -> Callable[..., Any]:
    """Make this process fit for the function that is ordered, and find it. ``fresh``: bytes in use at birth."""
    if _used() > fresh + _WORN:
        os._exit(0)
    sys.path[:] = order["path"]
    if order["folder"]:
        os.chdir(order["folder"])
    work: Callable[..., Any] = _found(order["function"])
    _bound_memory(order["memory"])
    return work


def _used() -> int:
    """Bytes of data of this process; 0 where the system does not say."""
    try:
        import resource

        return int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()
    except (ImportError, OSError, ValueError, IndexError):
        return 0


def _bound_memory(memory: int) -> None:
    """Let the data of this process grow by ``memory`` bytes at most, where the system can hold it to that."""
    if used := _used():
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = used + memory if hard == resource.RLIM_INFINITY else min(used + memory, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def _worked(work: Callable[..., Any], task: list[Any]) -> list[bytes | memoryview]:
    began = time.perf_counter()
    value = work(*task)
    return _packed({"value": value, "took": time.perf_counter() - began})


def _tried(work: Callable[..., Any], arguments: list[Any]) -> tuple[Any, dict[str, Any]]:
    """What ``work`` gives, and what went wrong: whatever it is, it goes to the other end."""
    value, wrong = None, {}

    def note(kind: Any, error: BaseException | None, trace: Any) -> bool:
        if error is not None:
            wrong.update(_failure(error))
        return True

    with ExitStack() as stack:
        stack.push(note)
        value = work(*arguments)
    return value, wrong


def _failure(error: BaseException) -> dict[str, Any]:
    if isinstance(error, OverreadError):
        given = None if error.given is None else str(error.given)
        reason = getattr(error, "reason", None)
        public = next(kind.__name__ for kind in type(error).__mro__ if kind.__name__[0] != "_")
        return {"error": public, "what": error.what, "given": given, "todo": error.todo, "reason": reason}
    if isinstance(error, MemoryError):
        return {"memory": True}
    return {"bug": "".join(traceback.format_exception(error))}


def _alarm(seconds: float) -> None:
    """End this process after ``seconds`` of its own work, also in a decoder that never comes back; 0: never.

    On a busy machine a healthy decoder waits for the processor, so the clock on the wall is :data:`PATIENCE` times
    slower.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds)
    elif seconds:
        faulthandler.dump_traceback_later(PATIENCE * seconds, exit=True, file=2)
    else:
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
