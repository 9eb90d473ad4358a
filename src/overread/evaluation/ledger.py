"""An append-only, hash-chained record of every look at a test set.

Each line holds the hash of the line before, so an edited line breaks the chain; a small file beside it
(``ledger.head.json``) holds the count and the last hash, so that lines cut from the end are noticed too.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from overread.errors import UnsoundError, checked
from overread.record import folder_lock, plain, read_json, sha256, write_json, write_text

_START = "0" * 64


@checked
def record_look(
    path: str | Path, model: str, threshold: float | list[float] | None, predictions: str, *, test: str = ""
) -> int:
    """Write down a look at the test set ``test`` and return how many looks at it came before.

    ``model`` and ``predictions`` are hashes, ``test`` the hash of cases and truth (by default that of the
    predictions). Two processes may write at once. Raises :class:`UnsoundError` if the ledger has been cut or
    edited.
    """
    path, test = Path(path), test or predictions
    with folder_lock(path.parent, wait=30, name=f".{path.name}.lock"):
        entries = verify(path)
        before = sum(entry["test"] == test for entry in entries)
        entry = {
            "entry": len(entries) + 1,
            "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "test": test,
            "model": model,
            "threshold": plain(threshold),
            "predictions": predictions,
            "looks before": before,
            "previous": entries[-1]["hash"] if entries else _START,
        }
        entry["hash"] = _hash(entry)
        lines = [json.dumps(e, ensure_ascii=False) for e in (*entries, entry)]
        write_text(path, "\n".join(lines) + "\n")
        write_json(_head(path), {"entries": len(lines), "hash": entry["hash"]})
    return before


@checked
def verify(path: str | Path) -> list[dict[str, Any]]:
    """The entries of a ledger (none if there is no file); raises :class:`UnsoundError` if it was cut or edited."""
    path = Path(path)
    head: dict[str, Any] = read_json(_head(path)) if _head(path).exists() else {"entries": 0, "hash": _START}
    if not path.exists():
        _require(head["entries"] == 0, "the ledger of looks at the test set is missing", str(path))
        return []
    entries, previous = [], _START
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        entry = _entry(line)
        intact = bool(entry) and entry.get("previous") == previous and entry.get("hash") == _hash(entry)
        _require(
            intact and entry.get("entry") == number,
            "the ledger of looks at the test set was edited",
            f"line {number}",
        )
        entries.append(entry)
        previous = entry["hash"]
    # a crash between the two writes leaves the head one entry behind
    recorded = head["entries"]
    whole = recorded <= len(entries) <= recorded + 1 and (
        not recorded or entries[recorded - 1]["hash"] == head["hash"]
    )
    _require(
        whole, "the ledger of looks at the test set was cut", f"{len(entries)} entries, {recorded} recorded"
    )
    return entries


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
