"""Files survive crashes, locks die with their process, and what is wrong in a file is named."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overread.core import files
from overread.core.errors import InputError, UnavailableError


@dataclass(frozen=True)
class Inner:
    size: tuple[int, int] = (1, 2)
    note: str | None = None


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 0.5
    flags: tuple[bool, ...] = ()
    inner: Inner = Inner()
    where: dict[str, str] = field(default_factory=dict, hash=False)


OUTER = Outer('ü, "quoted"\nline', 1e-300, (True, False), Inner((3, 4), "x"), {"sex": "f"})

# -- writing ------------------------------------------------------------------------------------------------


def test_a_failure_inside_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.publish(path) as beside:  # noqa: PT012
        beside.write_text("half of the new")
        raise RuntimeError("crash")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_missing_folders_are_made(tmp_path):
    assert files.write_text(tmp_path / "a" / "b" / "c.txt", "ü\n").read_bytes() == b"\xc3\xbc\n"


def test_the_file_is_synced_before_it_is_renamed_and_its_folder_after(tmp_path, monkeypatch):
    events = []
    replace, fsync = os.replace, os.fsync

    def watched_fsync(handle):
        events.append("sync folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "sync file")
        return fsync(handle)

    def watched_replace(*paths):
        events.append("rename")
        return replace(*paths)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    files.write_text(tmp_path / "a.txt", "x")
    assert [event.split()[0] for event in events] == ["sync", "rename", "sync"]
    if Path("/proc/self/fd").is_dir():
        assert events == ["sync file", "rename", "sync folder"]


WRITER = """
import sys
from overread.core import files as record
n = 0
while True:
    n += 1
    record.write_json(sys.argv[1], {"n": n, "body": ["x" * 1000] * 200})
    if n == 1:
        print("started", flush=True)
"""


def _start(code: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_a_process_killed_while_writing_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a.json"
    last = 0
    for wait in (0.0, 0.003, 0.011, 0.02):
        with _start(WRITER, path) as writer:
            assert writer.stdout.readline() == "started\n"
            time.sleep(wait)
            writer.send_signal(signal.SIGKILL)
        read = files.read_json(path)
        assert len(read["body"]) == 200
        last = max(last, read["n"])
    assert last >= 1


def test_a_full_disk_is_one_clear_error_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = files.write_text(tmp_path / "a.txt", "old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnavailableError, match=r"a.txt cannot be written.*No space left on device.*Free some space"):
        files.write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_write_that_the_system_refuses_is_one_clear_error(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(UnavailableError, match="No space left"), files.publish(path) as beside:  # noqa: PT012
        beside.symlink_to("/dev/full")
        beside.write_text("x" * 10)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "a").write_text("x")
    with pytest.raises(UnavailableError, match="b.txt cannot be written"):
        files.write_text(tmp_path / "a" / "b.txt", "x")


def test_two_threads_may_publish_the_same_file(tmp_path):
    """Whoever renames last wins, and what is there is whole."""
    from concurrent.futures import ThreadPoolExecutor

    path = tmp_path / "a.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: files.write_json(path, [n] * 2000), range(40)))
    assert len(set(files.read_json(path))) == 1
    assert os.listdir(tmp_path) == ["a.json"]


# -- locks --------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from overread.core import files as record
with record.folder_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_held_folder_is_refused_at_once_and_the_message_says_why(tmp_path):
    with _start(HOLDER, tmp_path) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UnavailableError, match="another overread process"), files.folder_lock(tmp_path):
            pass
        assert holder.poll() is None, "refused while it is held, not after"
        holder.communicate("\n")
    with files.folder_lock(tmp_path):
        pass


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL on Windows")
def test_the_lock_of_a_killed_process_is_free(tmp_path):
    with _start(HOLDER, tmp_path) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGKILL)
    with files.folder_lock(tmp_path, wait=5):
        pass


def test_a_second_process_can_wait_for_the_first(tmp_path):
    with _start(HOLDER, tmp_path) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.stdin.write("\n")
        holder.stdin.flush()
        with files.folder_lock(tmp_path, wait=20):
            pass
    assert holder.returncode == 0


# -- plain values, JSON, TOML -------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".json", ".toml"])
def test_a_dataclass_comes_back_equal(ending, tmp_path):
    path = files.save(OUTER, tmp_path / f"a{ending}")
    assert files.load(Outer, path) == OUTER
    again = files.save(files.load(Outer, path), tmp_path / f"b{ending}")
    assert again.read_bytes() == path.read_bytes()


def test_plain_knows_numpy_and_paths_and_what_is_not_a_number():
    value = {"a": np.float32(0.5), "b": np.arange(3), 1: math.nan, "p": Path("x"), "s": (math.inf, -math.inf, True)}
    assert files.plain(value) == {"a": 0.5, "b": [0, 1, 2], "1": None, "p": "x", "s": [None, None, True]}
    json.dumps(files.plain(value), allow_nan=False)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(JSON)
def test_json_survives(tmp_path, value):
    try:
        path = files.write_json(tmp_path / "a.json", value)
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    assert files.read_json(path) == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"a": ', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("", "not valid JSON"),
    ],
    ids=["twice", "cut", "deep", "empty"],
)
def test_broken_json_is_named(text, says, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        files.read_json(path)


def test_what_is_not_text_or_not_there_is_named(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(InputError, match="cannot be read"):
        files.read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match="does not exist.*Check the path"):
        files.read_json(tmp_path / "b.json")
    with pytest.raises(InputError):
        files.read_json(tmp_path)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"name": "x", "rte": 1.0}, "unknown key 'rte'.*did you mean 'rate'"),
        ({"name": "x", "rate": "fast"}, "rate is wrong"),
        ({"rate": 1.0}, "name is wrong"),
        ({"name": "x", "inner": {"size": [1, 2, 3]}}, r"inner\.size"),
        ({"name": "x", "inner": {"size": [1, "two"]}}, r"inner\.size\.1"),
        (["name"], "does not hold a table"),
    ],
)
def test_a_wrong_field_is_named(value, says):
    with pytest.raises(InputError, match=rf"(?i)study\.toml.*{says}"):
        files.build(Outer, value, where="study.toml")


def test_an_unknown_key_further_in_is_refused_too():
    with pytest.raises(InputError, match="sise"):
        files.build(Outer, {"name": "x", "inner": {"sise": [1, 2]}})


def test_rows_come_back_and_what_is_no_row_is_named(tmp_path):
    path = tmp_path / "rows.json"
    assert files.read_rows(Outer, path) == ()
    files.write_rows(path, [Outer("a", math.nan), Outer("b", 1.0, inner=Inner((3, 4)))])
    first, second = files.read_rows(Outer, path)
    assert math.isnan(first.rate)
    assert second == Outer("b", 1.0, inner=Inner((3, 4)))
    files.write_json(path, [{"name": "a", "colour": "red"}])
    with pytest.raises(InputError, match=r"rows\.json has an unknown key 'colour'"):
        files.read_rows(Outer, path)
    assert files.read_rows(Outer, path, by=lambda kind, row, where: kind(f"{row['name']} of {where}")) == (
        Outer("a of rows.json"),
    )
    files.write_json(path, {"name": "a"})
    with pytest.raises(InputError, match="does not hold a list"):
        files.read_rows(Outer, path)


def test_broken_toml_is_named(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("name = 'x'\nname = 'y'\n")
    with pytest.raises(InputError, match=r"a\.toml is not valid TOML"):
        files.load(Outer, path)


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"only \.json and \.toml"):
        files.save(OUTER, tmp_path / "a.yaml")


# -- hashes and surroundings --------------------------------------------------------------------------------


def test_hashes_agree_with_each_other_and_with_the_standard(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    standard = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4, "abc"
    assert files.sha256(b"abc") == files.sha256_file(tmp_path / "a") == standard
    with pytest.raises(InputError):
        files.sha256_file(tmp_path / "missing")


def test_equal_content_has_an_equal_fingerprint():
    assert files.fingerprint({"a": 1, "b": 2}) == files.fingerprint({"b": 2, "a": 1})
    assert files.fingerprint(Inner()) == files.fingerprint({"size": [1, 2], "note": None})
    assert files.fingerprint({"a": 1}) != files.fingerprint({"a": 2})


def test_hashed_names_hide_and_repeat():
    hashes = files.hashed(["p1", "p2", "p1"], "salt")
    assert hashes[0] == hashes[2] != hashes[1]
    assert files.hashed(["p1"], "other")[0] != hashes[0]
    assert all(len(h) == 16 and "p1" not in h for h in hashes)


def test_versions_and_hardware_name_no_person_and_no_host():
    import getpass
    import platform

    assert {"python", "overread", "numpy", "torch"} <= set(files.versions())
    said = " ".join(files.hardware().values())
    assert platform.node() not in said
    assert getpass.getuser() not in said.split()


def test_cores_respect_the_affinity_mask():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from overread.core import files; print(files.cores())"
    )
    assert 1 <= files.cores() <= (os.cpu_count() or 1)
    if hasattr(os, "sched_setaffinity"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "1"


# -- tables that a spreadsheet opens --------------------------------------------------------------------------

HARMLESS = ["", "a", "it's", "-1.5", "+3e-7", "-.5", "12", "ü=1", "'a", " =1", "a@b.c"]
GUARDED = ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "-", "'=1", "''@x", "-1-2", '=HYPERLINK("x","y")']


def test_cells_that_a_spreadsheet_would_compute_get_an_apostrophe():
    table = pd.DataFrame({"text": HARMLESS + GUARDED, "=cmd": 1})
    made = files.guarded(table)
    assert list(made["text"]) == HARMLESS + [f"'{cell}" for cell in GUARDED]
    assert list(made.columns) == ["text", "'=cmd"]
    assert list(table.columns) == ["text", "=cmd"], "the table itself stays as it was"


def test_what_is_no_text_stays_as_it_is():
    table = pd.DataFrame({"a": [-1, 2], "b": [-1.5, np.nan], "c": [None, -3], "d": pd.Categorical(["x", "y"])})
    assert files.guarded(table).equals(table)
    empty = pd.DataFrame({"a": []}, dtype=str)
    assert files.guarded(empty).equals(empty)
    assert files.guarded(pd.DataFrame()).empty


def test_a_table_survives_its_file(tmp_path):
    table = pd.DataFrame({"@id": HARMLESS + GUARDED, "b": ['a\nb,"c"'] * (len(HARMLESS) + len(GUARDED))})
    path = files.write_csv(tmp_path / "t.csv", table)
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    assert not [cell for row in rows for cell in row if cell[:1] in ("=", "@", "\t", "\r", "\n")]
    read = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert files.unguarded(read).equals(table)


def test_numbers_are_written_as_asked(tmp_path):
    path = files.write_csv(tmp_path / "t.csv", pd.DataFrame({"p": [-1 / 3]}), float_format="%.3g")
    assert path.read_text("utf-8") == "p\n-0.333\n"


@given(st.lists(st.text(), min_size=1))
def test_unguarding_undoes_guarding(cells):
    table = pd.DataFrame({"a": cells})
    assert list(files.unguarded(files.guarded(table))["a"]) == cells


def test_a_later_field_counts_only_where_it_differs() -> None:
    """What was made before there was such a field is still the same."""

    @dataclass(frozen=True)
    class Before:
        epochs: int = 3

    @dataclass(frozen=True)
    class After:
        epochs: int = 3
        codes: str = files.later("none")

    old, new = files.fingerprint([Before(), {"of": Before(4)}]), files.fingerprint([After(), {"of": After(4)}])
    assert old == new
    assert files.fingerprint(After(codes="itq")) != files.fingerprint(After())
    assert After().codes == "none"
