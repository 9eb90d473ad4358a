"""The ledger: it counts, and notices what was cut or edited."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from overread.core.errors import InputError, UnsoundError
from overread.evaluation.evaluate import evaluate
from overread.evaluation.ledger import (
    is_declaration,
    ledger_beside,
    looks_at,
    record_declaration,
    record_look,
    require_entry_of,
    settle,
    verify,
    write_look,
)  # fmt: skip


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


def test_an_old_ledger_still_verifies_and_its_lines_are_looks(tmp_path):
    path = tmp_path / "ledger.jsonl"
    for i in range(2):  # as written before lines had a kind
        entries = verify(path)
        entry = {"entry": i + 1, "when": "2025-01-01T00:00:00+00:00", "test": "here", "model": "m", "threshold": None,
                 "predictions": "p", "looks before": i, "previous": entries[-1]["hash"] if entries else "0" * 64}  # fmt: skip
        body = json.dumps(entry, sort_keys=True, ensure_ascii=False).encode()
        entry["hash"] = hashlib.sha256(body).hexdigest()
        path.write_text("".join(json.dumps(e) + "\n" for e in (*entries, entry)))
        path.with_suffix(".head.json").write_text(json.dumps({"entries": i + 1, "hash": entry["hash"]}))
    assert len(looks_at(verify(path), "here")) == 2
    assert record_look(path, "m", 0.5, "p", test="here") == 2


def test_a_declaration_is_no_look_and_is_carried_by_later_looks(tmp_path):
    path = tmp_path / "ledger.jsonl"
    assert record_declaration(path, {"metric": "auc", "margin": 0.05})
    assert not record_declaration(path, {"metric": "auc", "margin": 0.05})
    assert record_look(path, "m", 0.5, "p", asked={"metric": "auc", "margin": 0.04}) == 0
    assert record_declaration(path, {"metric": "auc", "margin": 0.04})
    assert record_look(path, "m", 0.5, "p") == 1
    entries = verify(path)
    assert [is_declaration(e) for e in entries] == [True, False, True, False]
    assert [d["margin"] for d in entries[3]["declared"]] == [0.05, 0.04]
    assert entries[1]["asked"]["margin"] == 0.04


def test_an_edited_declaration_is_noticed(tmp_path):
    path = tmp_path / "ledger.jsonl"
    record_declaration(path, {"metric": "auc", "margin": 0.05})
    record_look(path, "m", 0.5, "p")
    path.write_text(path.read_text().replace('"margin": 0.05', '"margin": 0.10'))
    with pytest.raises(UnsoundError, match=r"edited.*line 1"):
        verify(path)


def test_a_half_written_line_is_noticed(ledger):
    whole = ledger.read_bytes()
    for kept in (len(whole) - 1, len(whole) - 2, len(whole) - 40, len(whole) // 2):
        ledger.write_bytes(whole[:kept])
        if kept == len(whole) - 1:  # the last line end alone says nothing
            assert len(verify(ledger)) == 4
            continue
        with pytest.raises(UnsoundError, match="edited|cut"):
            verify(ledger)


@pytest.mark.parametrize("head", ["{}", "[]", '{"entries": -1, "hash": ""}', '{"entries": "4", "hash": ""}'])
def test_an_edited_head_is_noticed(ledger, head):
    ledger.with_suffix(".head.json").write_text(head)
    with pytest.raises(UnsoundError, match="head"):
        verify(ledger)


@pytest.mark.parametrize("dies", ["write_text", "write_json"])
def test_a_kill_at_either_write_leaves_a_whole_ledger(ledger, dies, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"overread.evaluation.ledger.{dies}", killed)
        with pytest.raises(KeyboardInterrupt):
            record_look(ledger, "m", 0.5, "predictions", test="here")
    kept = 4 if dies == "write_text" else 5
    assert len(verify(ledger)) == kept
    assert record_look(ledger, "m", 0.5, "predictions", test="here") == kept


def test_who_reads_while_others_write_sees_a_whole_ledger(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(record_look, path, str(i), 0.5, "p") for i in range(16)]
        seen = [len(verify(path)) for _ in range(60)]
        assert sorted(w.result() for w in writers) == list(range(16))
    assert seen == sorted(seen)


def test_one_ledger_for_all_commands(tmp_path):
    run = tmp_path / "run"
    (run / "predictions").mkdir(parents=True)
    table = run / "predictions" / "test.csv"
    assert ledger_beside(tmp_path / "new.csv") == tmp_path / "evaluation" / "ledger.jsonl"
    assert ledger_beside(table) == run / "predictions" / "evaluation" / "ledger.jsonl"
    (run / "study.toml").touch()
    assert ledger_beside(table) == ledger_beside(run) == run / "ledger.jsonl"


# -- a test set is known by its cases; a look that showed nothing counts once --------------------------------------


def test_a_row_left_out_added_or_mended_is_no_new_test_set(tmp_path, predictions):
    path, test = tmp_path / "ledger.jsonl", predictions()
    assert record_look(path, "m", 0.5, test.digest, test=test) == 0
    shorter = test.take(np.arange(1, len(test)))
    assert record_look(path, "m", 0.5, shorter.digest, test=shorter) == 1
    mended = replace(test, table=test.table.assign(label=["benign", *test.table["label"][1:]]))
    assert record_look(path, "m", 0.5, mended.digest, test=mended) == 2
    other = predictions(prefix="other")
    assert record_look(path, "m", 0.5, other.digest, test=other) == 0
    few = test.take(np.arange(5, 8))
    assert record_look(path, "m", 0.5, few.digest, test=few) == 3
    assert not any(name in path.read_text() for name in test.table["case"])


def test_large_test_sets_are_known_by_a_part_of_their_cases(tmp_path, predictions):
    path, test = tmp_path / "ledger.jsonl", predictions(patients=3000)
    assert record_look(path, "m", 0.5, test.digest, test=test) == 0
    half = test.take(np.arange(0, len(test), 2))
    assert record_look(path, "m", 0.5, half.digest, test=half) == 1
    assert len(path.read_text().splitlines()[0]) < 30_000


def test_the_same_names_of_other_cases_are_another_test_set(tmp_path, predictions):
    path, test = tmp_path / "ledger.jsonl", predictions()
    other = predictions(prefix="other")
    other = replace(other, table=other.table.assign(case=test.table["case"]))
    assert record_look(path, "m", 0.5, test.digest, test=test) == 0
    assert record_look(path, "m", 0.5, other.digest, test=other) == 0


def test_a_look_that_was_killed_counts_once(tmp_path):
    path = tmp_path / "ledger.jsonl"
    record_look(path, "a", 0.5, "p", test="here")
    killed = write_look(path, "b", 0.5, "p", test="here", pending=True)
    assert write_look(path, "b", 0.5, "p", test="here", pending=True) == killed
    assert killed["looks before"] == 1
    settle(path)
    assert write_look(path, "b", 0.5, "p", test="here", pending=True)["looks before"] == 2
    assert write_look(path, "b", 0.6, "p", test="here", pending=True)["looks before"] == 3, "with another threshold"
    assert len(verify(path)) == 4


def test_a_ledger_without_its_head_is_noticed(ledger):
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.with_suffix(".head.json").unlink()
    for kept in (4, 3, 1):
        ledger.write_text("".join(lines[:kept]))
        with pytest.raises(UnsoundError, match="head .* missing|cut"):
            verify(ledger)


def test_a_result_is_a_witness_of_a_ledger_that_was_cut_with_its_head(tmp_path, predictions):
    path, folder = tmp_path / "ledger.jsonl", tmp_path / "out"
    test = predictions()
    evaluate(test, ledger=path, resamples=20).save(folder)
    require_entry_of(folder, path)
    require_entry_of(tmp_path / "nothing here", path)
    path.unlink()
    path.with_suffix(".head.json").unlink()
    assert verify(path) == []
    with pytest.raises(UnsoundError, match="cut.*entry 1"):
        require_entry_of(folder, path)


def test_what_cannot_be_judged_is_no_look(tmp_path, predictions):
    path, test = tmp_path / "ledger.jsonl", predictions()
    with pytest.raises(InputError):
        evaluate(test, by=["no such column"], ledger=path)
    assert verify(path) == []
