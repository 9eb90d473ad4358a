"""An append-only, hash-chained record of every look at a test set, and of what was declared before.

Each line holds the hash of the line before, so an edited line breaks the chain; a small file beside it
(``ledger.head.json``) holds the count and the last hash, so that lines cut from the end are noticed too. A line is a
look, or a declaration: what a study sets out to show, written before the test set is opened.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overread.core.errors import UnsoundError, checked
from overread.core.files import folder_lock, plain, read_json, sha256, write_json, write_text
from overread.predictions import Predictions

_START = "0" * 64
_TRIES = 20  # readings, until no other process writes between the two files


@checked
def record_look(
    path: str | Path,
    model: str,
    threshold: float | list[float] | None,
    predictions: str,
    *,
    test: str = "",
    asked: dict[str, Any] | None = None,
) -> int:
    """Write down a look at the test set ``test`` and return how many looks at it came before.

    ``model`` and ``predictions`` are hashes, ``test`` the hash of cases and truth (by default that of the
    predictions), ``asked`` the claim that is looked into. The line carries what was declared until then. Two
    processes may write at once. Raises :class:`UnsoundError` if the ledger has been cut or edited.
    """
    path, test = Path(path), test or predictions
    with folder_lock(path.parent, wait=30, name=_lock(path)):
        entries = verify(path)
        before = len(looks_at(entries, test))
        declared = [e["declaration"] for e in entries if is_declaration(e)]
        look = {"kind": "look", "test": test, "model": model, "threshold": plain(threshold),
                "predictions": predictions, "looks before": before}  # fmt: skip
        look |= {"asked": plain(asked)} if asked else {}
        look |= {"declared": declared} if declared else {}
        _append(path, entries, look)
    return before


@checked
def record_declaration(path: str | Path, declaration: dict[str, Any]) -> bool:
    """Write down what a study sets out to show; False, and nothing written, if the last one said the same.

    Raises :class:`UnsoundError` if the ledger has been cut or edited.
    """
    path, declaration = Path(path), plain(declaration)
    with folder_lock(path.parent, wait=30, name=_lock(path)):
        entries = verify(path)
        before = [e["declaration"] for e in entries if is_declaration(e)]
        if before and before[-1] == declaration:
            return False
        _append(path, entries, {"kind": "declaration", "declaration": declaration})
    return True


@checked
def is_declaration(entry: dict[str, Any]) -> bool:
    """Whether a line is a declaration; lines of older ledgers say no kind and are looks."""
    return entry.get("kind") == "declaration"


@checked
def looks_at(entries: list[dict[str, Any]], test: str) -> list[dict[str, Any]]:
    """The looks at one test set."""
    return [e for e in entries if not is_declaration(e) and e.get("test") == test]


@checked
def ledger_beside(predictions: str | Path) -> Path:
    """Where looks at predictions are written down, wherever the results go: one ledger for all commands.

    Of a run's folder its ``ledger.jsonl``, also for a table in its ``predictions/``; of any other table
    ``evaluation/ledger.jsonl`` beside it.

    >>> ledger_beside("new.csv").as_posix()
    'evaluation/ledger.jsonl'
    """
    path = Path(predictions)
    run = path if path.is_dir() else path.absolute().parent.parent
    if path.is_dir() or (path.absolute().parent.name == "predictions" and (run / "study.toml").is_file()):
        return run / "ledger.jsonl"
    return path.parent / "evaluation" / "ledger.jsonl"


@checked
def looked(looks: int) -> str:
    """How often a test set was looked at before, to stand behind a sentence; blank if never.

    >>> looked(1), looked(3), looked(0)
    (', looked at once before', ', looked at 3 times before', '')
    """
    times = {1: "once", 2: "twice"}.get(looks, f"{looks:,} times")
    return f", looked at {times} before" if looks else ""


@checked
def truth_hash(test: Predictions) -> str:
    """The hash of cases and truth: the same for every model's predictions of one test set."""
    truth = test.table.loc[:, ["case", *test.target.columns]].sort_values("case")
    return sha256(truth.to_csv(index=False, lineterminator="\n").encode())[:16]


def _append(path: Path, entries: list[dict[str, Any]], body: dict[str, Any]) -> None:
    """Add a line to both files; the lock is held."""
    entry = {
        "entry": len(entries) + 1,
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **body,
        "previous": entries[-1]["hash"] if entries else _START,
    }
    entry["hash"] = _hash(entry)
    lines = [json.dumps(e, ensure_ascii=False) for e in (*entries, entry)]
    write_text(path, "\n".join(lines) + "\n")
    write_json(_head(path), {"entries": len(lines), "hash": entry["hash"]})


@checked
def verify(path: str | Path) -> list[dict[str, Any]]:
    """The entries of a ledger (none if there is no file); raises :class:`UnsoundError` if it was cut or edited."""
    path = Path(path)
    head, lines = _both(path)
    if lines is None:
        _require(head["entries"] == 0, "the ledger of looks at the test set is missing", str(path))
        return []
    entries, previous = [], _START
    for number, line in enumerate(lines, 1):
        entry = _entry(line)
        intact = bool(entry) and entry.get("previous") == previous and entry.get("hash") == _hash(entry)
        _require(
            intact and entry.get("entry") == number, "the ledger of looks at the test set was edited", f"line {number}"
        )
        entries.append(entry)
        previous = entry["hash"]
    # a crash between the two writes leaves the head one entry behind
    recorded = head["entries"]
    whole = recorded <= len(entries) <= recorded + 1 and (not recorded or entries[recorded - 1]["hash"] == head["hash"])
    _require(whole, "the ledger of looks at the test set was cut", f"{len(entries)} entries, {recorded} recorded")
    return entries


def _both(path: Path) -> tuple[dict[str, Any], list[bytes] | None]:
    """The head and the lines as of one moment: read again if another process wrote in between."""
    head = _read_head(path)
    for _ in range(_TRIES):
        lines = path.read_bytes().splitlines() if path.exists() else None
        before, head = head, _read_head(path)
        if head == before:
            break
    return head, lines


def _read_head(path: Path) -> dict[str, Any]:
    """What the head records: nothing before the first entry."""
    if not _head(path).exists():
        return {"entries": 0, "hash": _START}
    head = read_json(_head(path))
    good = isinstance(head, dict) and isinstance(head.get("entries"), int) and head["entries"] >= 0
    _require(good and "hash" in head, "the head of the ledger of looks was edited", _head(path).name)
    return head


def _require(condition: bool, what: str, given: str) -> None:
    if not condition:
        raise UnsoundError(what, given=given, todo="restore it, or report the results as not blinded")


def _entry(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}


def _hash(entry: dict[str, Any]) -> str:
    body = {key: value for key, value in entry.items() if key != "hash"}
    return sha256(json.dumps(body, sort_keys=True, ensure_ascii=False).encode())


def _head(path: Path) -> Path:
    return path.with_suffix(".head.json")


def _lock(path: Path) -> str:
    return f".{path.name}.lock"


@checked
def look_at(test: Predictions, ledger: str | Path | None, models: Sequence[tuple[str, str]]) -> int:
    """Write down that ``models`` (their hashes, and those of their predictions) are judged on a test set.

    Returns how many looks came before the first; 0 without a ledger.
    """
    if ledger is None or not models:
        return 0
    same = truth_hash(test)
    before = [record_look(ledger, model, None, digest, test=same) for model, digest in models]
    return min(before)
