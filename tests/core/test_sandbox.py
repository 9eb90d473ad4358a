"""Children that crash, hang, eat the memory or lie cost one task each, and never the parent."""

from __future__ import annotations

import ast
import importlib
import io
import os
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from overread.core import sandbox as module
from overread.core import sandbox_worker as child
from overread.core.errors import ArgumentError, ImageError, InputError, UnavailableError
from overread.core.sandbox import Lost, contained, contained_call
from overread.images.preprocess import Preprocess, geometry

posix = pytest.mark.skipif(os.name != "posix", reason="signals and /proc")

TRICKS = '''
    """Functions that the package itself must not have."""

    import ctypes
    import os
    import sys
    import time
    from dataclasses import dataclass

    import numpy as np

    from overread.core.errors import ImageError, InputError


    @dataclass(frozen=True)
    class Pair:
        left: int
        right: tuple


    @dataclass(frozen=True)
    class Other:
        left: int


    def double(x):
        return 2 * x

    def pid(x):
        return os.getpid()

    def crash(x, how):
        if how == "segfault":
            ctypes.string_at(0)
        if how == "abort":
            os.abort()
        if how == "exit":
            os._exit(7)
        if how == "system exit":
            sys.exit(7)
        if how == "kill":
            os.kill(os.getpid(), 9)
        if how == "hang":
            while True:
                pass
        if how == "hang in C":  # holds the interpreter's lock, like a decoder that never comes back
            ctypes.PyDLL(None).sleep(1000)
        if how == "memory":
            return len(bytearray(3 << 30))
        if how == "error":
            error = ImageError("not an image", given=3, todo="look again")
            error.reason = "nothing in it"
            raise error
        if how == "changed":
            raise InputError("it changed")
        if how == "bug":
            return [][x]
        if how == "print":
            print("y" * 1_000_000)
            os.write(1, b"x" * 1_000_000)
            os.write(2, b"x" * 1_000_000)
            sys.stdout.flush()
        if how == "set":
            return {1}
        if how == "objects":
            return np.array([None])
        if how == "garbage":  # straight to the other end
            for handle in range(3, 20):
                try:
                    os.write(handle, b"{}" * 40)
                except OSError:
                    pass
            os._exit(0)
        return x

    def echo(x):
        return x

    def sized(preprocess):
        return preprocess.shape

    def pair(x) -> Pair:
        return Pair(x, (x, x))

    def maybe(x) -> "Pair | None":
        return Pair(x, ()) if x else None

    def other(x) -> Pair:
        return Other(x)

    def where(x):
        return os.getcwd(), os.environ["OMP_NUM_THREADS"], os.nice(0)

    def slow(x, seconds):
        time.sleep(seconds)
        return x

    def threads(x):
        import cv2
        return cv2.getNumThreads()
'''


@pytest.fixture(scope="module")
def tricks(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("tricks")
    (folder / "overread_tricks.py").write_text(textwrap.dedent(TRICKS), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("overread_tricks")


def among(tricks: ModuleType, how: str, **limits) -> list:
    """Ten tasks, of which the fifth is a trick."""
    return list(contained(tricks.crash, [(i, how if i == 4 else "") for i in range(10)], workers=2, **limits))


# -- what it is for ------------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("segfault", "signal 11"),
        ("abort", "signal 6"),
        ("kill", "signal 9"),
        ("exit", "exit code 7"),
        ("hang", "did not end within 0.5 s"),
        ("hang in C", "did not end within 0.5 s"),
        ("memory", "more than 1 GB of memory"),
        ("garbage", "crashed"),
    ],
)
def test_one_task_is_lost_and_no_other(tricks: ModuleType, how: str, reason: str) -> None:
    if how == "memory" and not Path("/proc/self/statm").exists():
        pytest.skip("the system does not hold a process to its memory")
    found = among(tricks, how, seconds=0.5, memory=10**9)
    assert isinstance(found[4], Lost)
    assert reason in found[4].reason
    assert reason in str(found[4])
    assert [x for i, x in enumerate(found) if i != 4] == [0, 1, 2, 3, 5, 6, 7, 8, 9]


@posix
def test_a_task_that_waits_for_others_is_not_lost(tricks: ModuleType) -> None:
    """The seconds are those of its own work: on a busy machine a healthy decoder gets little of the processor."""
    assert list(contained(tricks.slow, [(i, 1.2) for i in range(2)], seconds=1.0)) == [0, 1]


def test_every_task_may_be_lost(tricks: ModuleType) -> None:
    found = list(contained(tricks.crash, [(i, "exit") for i in range(12)]))
    assert [type(x) for x in found] == [Lost] * 12


def test_what_a_decoder_prints_goes_nowhere(tricks: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    assert among(tricks, "print") == list(range(10))
    assert capfd.readouterr() == ("", "")


def test_our_errors_come_back_in_their_place(tricks: ModuleType) -> None:
    found = among(tricks, "error")
    error = found.pop(4)
    assert type(error) is ImageError
    assert (error.what, error.given, error.todo) == ("not an image", "3", "look again")
    assert error.reason == "nothing in it"
    assert found == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    with pytest.raises(ImageError, match="Look again"):
        contained_call(tricks.crash, 0, "error")


def test_an_error_that_is_not_the_image_s_is_raised(tricks: ModuleType) -> None:
    found = contained(tricks.crash, [(i, "changed" if i == 4 else "") for i in range(10)])
    assert [next(found) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(InputError, match="it changed") as caught:
        next(found)
    assert type(caught.value) is InputError


@pytest.mark.parametrize("how", ["bug", "system exit", "set", "objects"])
def test_a_bug_is_a_bug(tricks: ModuleType, how: str) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)overread_tricks:crash.*Traceback"):
        among(tricks, how)
    assert contained_call(tricks.double, 4) == 8  # and the next call finds no answers of the last one


def test_common_arguments_come_last(tricks: ModuleType) -> None:
    assert list(contained(tricks.slow, [(i,) for i in range(9)], common=(0.0,))) == list(range(9))


def test_one_call(tricks: ModuleType) -> None:
    assert contained_call(tricks.double, 4) == 8
    with pytest.raises(Lost, match="exit code 7"):
        contained_call(tricks.crash, 1, "exit")


# -- order, amounts, reuse -----------------------------------------------------------------------------------------


def test_results_come_in_order_whatever_they_take(tricks: ModuleType) -> None:
    tasks = [(i, 0.05 if i % 7 == 0 else 0.0) for i in range(60)]
    assert list(contained(tricks.slow, tasks, workers=3)) == list(range(60))


def test_very_many_tasks_queue_nothing(tricks: ModuleType) -> None:
    drawn, most = 0, 0

    def tasks():
        nonlocal drawn
        for i in range(20_000):
            drawn += 1
            yield (i,)

    for i, found in enumerate(contained(tricks.double, tasks(), workers=2)):
        assert found == 2 * i
        most = max(most, drawn - i)
    assert drawn == 20_000
    assert most <= 2 * 4 * 64 + 1


def test_nothing_is_drawn_before_it_is_asked_for(tricks: ModuleType) -> None:
    def endless():
        i = 0
        while True:
            yield (i,)
            i += 1

    found = contained(tricks.double, endless(), workers=1)
    assert [next(found) for _ in range(5)] == [0, 2, 4, 6, 8]
    found.close()
    assert list(contained(tricks.double, [])) == []


def test_children_are_reused(tricks: ModuleType) -> None:
    first = contained_call(tricks.pid, 0)
    assert contained_call(tricks.pid, 0) == first != os.getpid()
    assert len(set(contained(tricks.pid, [(i,) for i in range(3)]))) == 1  # a few tasks: no further process


def test_an_idle_child_that_died_is_replaced(tricks: ModuleType) -> None:
    old = contained_call(tricks.pid, 0)
    os.kill(old, 9 if os.name == "posix" else signal.SIGTERM)
    time.sleep(0.1)
    assert contained_call(tricks.pid, 0) != old


def test_several_calls_at_a_time(tricks: ModuleType) -> None:
    one, two = (contained(tricks.double, [(i,) for i in range(50)]) for _ in range(2))
    assert list(zip(one, two)) == [(2 * i, 2 * i) for i in range(50)]


def test_errors_of_the_tasks_themselves_come_through(tricks: ModuleType) -> None:
    def tasks():
        yield (1,)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        list(contained(tricks.double, tasks()))
    with pytest.raises(TypeError, match="cannot be sent"):
        list(contained(tricks.double, [({1, 2},)]))


def test_a_child_works_where_its_parent_is(tricks: ModuleType, tmp_path, monkeypatch) -> None:
    for folder in (tmp_path, tmp_path.parent):
        monkeypatch.chdir(folder)
        assert contained_call(tricks.where, 0)[:2] == [str(folder), "1"]
    assert contained_call(tricks.threads, 0) == 1


# -- messages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -5,
        2**64 - 1,
        0.1,
        "ü \udc80 \n \0",
        b"\x00\xff" * 100_000,
        [1, [2, {"a": [b"x", "y"]}], b""],
        {"a": None},
        np.arange(24, dtype=">u2").reshape(2, 3, 4)[:, ::2],
        np.zeros((0, 5), np.float32),
        np.array([True, False]),
        [np.array([np.nan, np.inf]), np.array(3.5)],
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_survive_the_way_there_and_back(tricks: ModuleType, value: object) -> None:
    np.testing.assert_equal(contained_call(tricks.echo, value), value)
    if isinstance(value, np.ndarray):
        assert contained_call(tricks.echo, value).dtype == value.dtype


def test_scalars_of_numpy_and_paths_become_plain(tricks: ModuleType) -> None:
    found = contained_call(tricks.echo, [np.uint64(2**63), np.float32(0.5), np.bool_(True), Path("a"), (1, 2)])
    assert found == [2**63, 0.5, True, "a", [1, 2]]


def test_dataclasses_go_there(tricks: ModuleType) -> None:
    assert contained_call(tricks.sized, geometry(Preprocess((8, 9)))) == [8, 9, 3]


def test_only_the_dataclass_that_was_promised_comes_back(tricks: ModuleType) -> None:
    assert contained_call(tricks.pair, 3) == tricks.Pair(3, (3, 3))
    assert contained_call(tricks.maybe, 0) is None
    assert contained_call(tricks.maybe, 2) == tricks.Pair(2, ())
    with pytest.raises(Lost):
        contained_call(tricks.other, 3)
    with pytest.raises(Lost):  # echo promises nothing
        contained_call(tricks.echo, tricks.Other(1))


def test_an_image_comes_back_whole(tmp_path: Path) -> None:
    from PIL import Image as Pillow

    from overread.images.read import read_image

    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    there, here = contained_call(read_image, str(tmp_path / "a.png")), read_image(tmp_path / "a.png")
    assert type(there) is type(here)
    assert np.array_equal(there.pixels, pixels)
    assert (there.digest, there.notes, there.mode) == (here.digest, here.notes, here.mode)
    with pytest.raises(ImageError, match=r"^none\.png: the file does not exist") as caught:
        contained_call(read_image, str(tmp_path / "none.png"))
    assert caught.value.reason.startswith("the file does not exist")


def received(data: bytes, most: int = 1000):
    return child._receive(io.BytesIO(data), most, {})[0]


def message(text: bytes, *blobs: bytes) -> bytes:
    head = struct.pack("<II", len(text), len(blobs)) + struct.pack(f"<{len(blobs)}Q", *map(len, blobs))
    return b"".join([head, text, *blobs])


def test_forged_messages_are_nonsense() -> None:
    mark = '{"\\u0000kind": '
    assert received(message(b"[1]")) == [1]
    assert received(b"") is None
    for bad in [
        b"\x01",
        message(b"[1"),
        message(b"[1]")[:-1],
        b"\xff" * 8,
        struct.pack("<IIQ", 2, 1, 2**63) + b"[]",
        message(b"[]", b"x" * 1001),
        message(b"[" * 1_000_000),
        message(f'{mark}"bytes", "blob": 0}}'.encode()),
        message(f'{mark}"array", "blob": 0, "type": "O", "shape": [1]}}'.encode(), b"x" * 8),
        message(f'{mark}"array", "blob": 0, "type": "u1,O", "shape": [1]}}'.encode(), b"x" * 9),
        message(f'{mark}"array", "blob": 0, "type": "u1", "shape": [1000]}}'.encode(), b"x" * 8),
        message(f'{mark}"array", "blob": 0, "type": "no such", "shape": [1]}}'.encode(), b"x"),
        message(f'{mark}"record", "name": "subprocess:Popen", "fields": {{"args": "ls"}}}}'.encode()),
        message(f'{mark}"what"}}'.encode()),
    ]:
        with pytest.raises(child.NONSENSE):
            received(bad)


def test_a_length_is_not_believed_before_the_bytes_are_there() -> None:
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(EOFError):
        received(struct.pack("<IIQ", 2, 1, 2**40), most=2**41)
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_the_protocol_knows_no_pickle() -> None:
    for file in (module.__file__, child.__file__, module.__file__):
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert not {"pickle", "marshal", "multiprocessing", "shelve"} & (names | imported)


# -- starting and ending -------------------------------------------------------------------------------------------

PARENT = """
    import signal, sys, time
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a test run in the background ignores
    sys.path.insert(0, sys.argv[1])
    from overread.core.sandbox import contained
    import overread_tricks
    for pid in contained(overread_tricks.pid, [(i,) for i in range(20)], workers=2):
        print(pid, flush=True)
    print("begin", flush=True)
    try:
        list(contained(overread_tricks.crash, [(i, sys.argv[2]) for i in range(20)], workers=2, seconds=100))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def started(tricks: ModuleType, how: str) -> tuple[subprocess.Popen[str], set[int]]:
    """A script, without a guard for its main part, whose children are busy; and these."""
    command = [sys.executable, "-c", textwrap.dedent(PARENT), str(Path(tricks.__file__).parent), how]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    children = set()
    while (line := parent.stdout.readline().strip()) != "begin":
        children.add(int(line))
    time.sleep(0.3)
    assert all(alive(pid) for pid in children)
    return parent, children


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return False


def gone(children: set[int], within: float = 5.0) -> bool:
    limit = time.monotonic() + within
    while any(map(alive, children)) and time.monotonic() < limit:
        time.sleep(0.05)
    return not any(map(alive, children))


linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc")


@linux
def test_children_of_a_killed_parent_end(tricks: ModuleType) -> None:
    parent, children = started(tricks, "hang")
    parent.kill()
    parent.wait()
    assert gone(children)
    parent.stdout.close()


@linux
def test_a_child_stuck_in_c_ends_by_the_clock_at_the_latest(tricks: ModuleType) -> None:
    script = textwrap.dedent(PARENT).replace("seconds=100", "seconds=0.5")
    command = [sys.executable, "-c", script, str(Path(tricks.__file__).parent), "hang in C"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        children = {int(pid) for pid in iter(lambda: parent.stdout.readline().strip(), "begin")}
        time.sleep(0.3)
        parent.kill()
    assert gone(children)


@linux
def test_ctrl_c_ends_the_children_and_is_told(tricks: ModuleType) -> None:
    parent, children = started(tricks, "hang")
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to the children as well
    assert parent.stdout.read().strip() == "interrupted"
    assert parent.wait(10) == 0
    assert gone(children)
    parent.stdout.close()


@linux
def test_an_abandoned_call_ends_what_is_under_way(tricks: ModuleType) -> None:
    found = contained(tricks.slow, [(i, 0.0 if i < 2 else 3600.0) for i in range(20)], workers=2)
    assert next(found) == 0
    time.sleep(0.2)
    before = mine()
    found.close()  # waits for none of them: the test would run out of its time
    assert len(mine()) < len(before)
    assert not [pid for pid in before if not alive(pid) and Path(f"/proc/{pid}").exists()], "a zombie"


def mine() -> set[int]:
    """Children of this process, zombies included."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has just ended
            found |= set(map(int, (task / "children").read_text(encoding="ascii").split()))
    return found


@linux
def test_no_zombies_stay(tricks: ModuleType) -> None:
    list(contained(tricks.crash, [(i, "exit") for i in range(8)]))
    assert all(alive(pid) for pid in mine())


@posix
@pytest.mark.parametrize("executable", ["", "/no/such/python", shutil.which("true")])
def test_no_interpreter_no_process(tricks: ModuleType, monkeypatch, executable: str) -> None:
    module.close()
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(UnavailableError):
        contained_call(tricks.double, 1)


def test_a_function_that_cannot_be_found_there(tricks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def inner(x: int) -> int:
        return x

    for bad in (inner, lambda x: x):
        with pytest.raises(ArgumentError, match="of a module"):
            contained(bad, [(1,)])
    monkeypatch.setattr(tricks.double, "__qualname__", "gone")
    with pytest.raises(RuntimeError, match="gone"):
        contained_call(tricks.double, 1)
    monkeypatch.undo()
    assert contained_call(tricks.double, 1) == 2


def test_limits_from_the_environment(tricks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERREAD_DECODE_SECONDS", "0.3")
    with pytest.raises(Lost, match=r"0\.3 s"):
        contained_call(tricks.crash, 1, "hang")
    for name in ("OVERREAD_DECODE_SECONDS", "OVERREAD_DECODE_MEMORY"):
        for bad in ("-1", "soon"):
            monkeypatch.setenv(name, bad)
            with pytest.raises(InputError, match=name):
                contained_call(tricks.double, 1)
        monkeypatch.delenv(name)


def test_arguments(tricks: ModuleType) -> None:
    for bad in ({"workers": -1}, {"seconds": -1.0}, {"memory": -5}, {"tasks": 3}):
        with pytest.raises(ArgumentError):
            contained(**{"function": tricks.double, "tasks": [], **bad})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Local:
    """Of a module that no child can import."""

    x: int


def test_a_task_that_the_child_cannot_understand_is_lost(tricks: ModuleType) -> None:
    with pytest.raises(Lost):
        contained_call(tricks.echo, Local(1))
