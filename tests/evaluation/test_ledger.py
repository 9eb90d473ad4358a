"""The ledger: it counts, and notices what was cut or edited."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from overread.errors import UnsoundError
from overread.evaluation.ledger import record_look, verify


@pytest.fixture
def ledger(tmp_path):
    path = tmp_path / "ledger.jsonl"
    for i in range(4):
        assert record_look(path, f"model{i}", 0.5, "predictions", test="here") == i
    return path


def test_each_entry_holds_the_hash_of_the_one_before(ledger):
    entries = verify(ledger)
    assert [e["entry"] for e in entries] == [1, 2, 3, 4]
    assert all(b["previous"] == a["hash"] for a, b in pairwise(entries))
    assert record_look(ledger, "m", [0.1, 0.2], "other predictions") == 0
    assert verify(ledger)[-1]["threshold"] == [0.1, 0.2]


@pytest.mark.parametrize("line", range(4))
@pytest.mark.parametrize("key", ["model", "looks before", "when", "threshold"])
def test_an_edited_line_is_noticed(ledger, line, key):
    lines = ledger.read_text().splitlines()
    entry = json.loads(lines[line])
    entry[key] = "changed"
    lines[line] = json.dumps(entry)
    ledger.write_text("\n".join(lines) + "\n")
    with pytest.raises(UnsoundError, match=f"edited.*line {line + 1}"):
        record_look(ledger, "m", 0.5, "p")


@pytest.mark.parametrize("kept", [[0, 1, 2], [1, 2, 3], [0, 2, 3], [1, 0, 2, 3], []])
def test_cut_and_shuffled_lines_are_noticed(ledger, kept):
    lines = ledger.read_text().splitlines()
    ledger.write_text("".join(lines[i] + "\n" for i in kept))
    with pytest.raises(UnsoundError, match="cut|edited"):
        verify(ledger)


@pytest.mark.parametrize("junk", [b"{", b"[1]", b"\xff\xfe", b"null", b'{"entry": 5}', b"[" * 100_000])
def test_junk_is_noticed(ledger, junk):
    ledger.write_bytes(ledger.read_bytes() + junk + b"\n")
    with pytest.raises(UnsoundError, match="edited"):
        verify(ledger)


def test_a_ledger_that_was_removed_is_noticed(ledger):
    ledger.unlink()
    with pytest.raises(UnsoundError, match="missing"):
        verify(ledger)


def test_a_crash_between_the_two_writes_is_survived(ledger):
    head = ledger.with_suffix(".head.json")
    before = head.read_bytes()
    record_look(ledger, "m", None, "p")
    head.write_bytes(before)
    assert len(verify(ledger)) == 5
    assert record_look(ledger, "m", None, "p") == 1


def test_no_ledger_has_no_entries(tmp_path):
    assert verify(tmp_path / "ledger.jsonl") == []


def test_writers_at_once_lose_nothing(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with ThreadPoolExecutor(4) as pool:
        looks = list(pool.map(lambda i: record_look(path, str(i), 0.5, "p"), range(12)))
    assert sorted(looks) == list(range(12))
    assert len(verify(path)) == 12
