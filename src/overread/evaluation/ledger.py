"""An append-only, hash-chained record of every look at a test set, and of what was declared before.

Each line holds the hash of the line before, so an edited line breaks the chain; a small file beside it
(``ledger.head.json``) holds the count and the last hash, so that lines cut from the end are noticed too. A line is a
look, or a declaration: what a study sets out to show, written before the test set is opened. A test set is known by its
cases: one with a row left out, added or mended is the same.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overread.core.errors import UnsoundError, checked
from overread.core.files import folder_lock, plain, read_json, sha256, write_json, write_text
from overread.predictions import KnownTruth, shared_cases

_START = "0" * 64
_KEPT = 1_000  # hashes of the cases of a test set
_TRIES = 20  # readings, until no other process writes between the two files


@checked
def record_look(
    path: str | Path, model: str, threshold: float | Sequence[float | str] | None, predictions: str, *,
    test: str | KnownTruth = "", asked: dict[str, Any] | None = None,
) -> int:  # fmt: skip
    """Write down a look, as :func:`write_look`, and return how many looks at this test set came before."""
    return int(write_look(path, model, threshold, predictions, test=test, asked=asked)["looks before"])


@checked
def write_look(
    path: str | Path,
    model: str,
    threshold: float | Sequence[float | str] | None,
    predictions: str,
    *,
    test: str | KnownTruth = "",
    asked: dict[str, Any] | None = None,
    by: Sequence[str] = (),
    pending: bool = False,
) -> dict[str, Any]:
    """Write down a look at the test set ``test`` and return its line, which says how many looks at it came before.

    ``model`` and ``predictions`` are hashes, ``test`` the table, or the hash of cases and truth (by default that of the
    predictions), ``asked`` the claim that is looked into, ``by`` the subgroups. The line carries what was declared
    until then, and hashes of the cases. A ``pending`` look has shown nothing until :func:`settle` says so: the same one
    again is that line, so one that was killed counts once. Two processes may write at once. Raises
    :class:`UnsoundError` if the ledger has been cut or edited.
    """
    path, test = Path(path), test or predictions
    with folder_lock(path.parent, wait=30, name=_lock(path)):
        entries = verify(path)
        declared = [e["declaration"] for e in entries if is_declaration(e)]
        name = test if isinstance(test, str) else truth_hash(test)
        look = {"kind": "look", "test": name, "model": model, "threshold": plain(threshold), "predictions": predictions}
        look |= {"asked": plain(asked)} if asked else {}
        look |= {"by": list(by)} if by else {}
        unshown = _unshown(path, entries)
        if unshown is not None and {k: unshown.get(k) for k in ("asked", "by", *look)} == {
            "asked": None,
            "by": None,
            **look,
        }:
            line = unshown
        else:
            before = {"looks before": len(looks_at(entries, test))}
            if pending:
                write_json(_pending(path), {"entry": len(entries) + 1})
            line = _append(
                path,
                entries,
                look | before | ({"declared": declared} if declared else {}) | _cases(entries, test, look),
            )
    if not pending:
        settle(path)
    return line


@checked
def settle(path: str | Path) -> None:
    """Say that what a pending look found has been written: the next one is another."""
    _pending(Path(path)).unlink(missing_ok=True)


def _unshown(path: Path, entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The last line, if it is a look whose results were never written."""
    held = read_json(_pending(path)) if _pending(path).exists() else {}
    last = isinstance(held, dict) and held.get("entry") == len(entries) and bool(entries)
    return entries[-1] if last else None


@checked
def record_declaration(path: str | Path, declaration: dict[str, Any]) -> bool:
    """Write down what a study sets out to show; False, and nothing written, if the last one of the same metric and class said the same.

    Raises :class:`UnsoundError` if the ledger has been cut or edited.
    """
    path, declaration = Path(path), plain(declaration)
    with folder_lock(path.parent, wait=30, name=_lock(path)):
        entries = verify(path)
        before = [e["declaration"] for e in entries if is_declaration(e)]
        of_the_same = [
            d for d in before if (d.get("metric"), d.get("of")) == (declaration.get("metric"), declaration.get("of"))
        ]
        if of_the_same and of_the_same[-1] == declaration:
            return False
        _append(path, entries, {"kind": "declaration", "declaration": declaration})
    return True


@checked
def is_declaration(entry: dict[str, Any]) -> bool:
    """Whether a line is a declaration; lines of older ledgers say no kind and are looks."""
    return entry.get("kind") == "declaration"


@checked
def looks_at(entries: list[dict[str, Any]], test: str | KnownTruth) -> list[dict[str, Any]]:
    """The looks at one test set; of a table, also those at other sets that share cases with it."""
    looks = [e for e in entries if not is_declaration(e)]
    if isinstance(test, str):
        return [e for e in looks if e.get("test") == test]
    name, salt = truth_hash(test), _salt(entries)
    mine = test.case_marks(salt) if salt else ()
    held: dict[str, bool] = {e["test"]: shared_cases(mine, e["cases"]) > 0 for e in looks if "cases" in e}
    return [e for e in looks if e.get("test") == name or held.get(e.get("test", ""), False)]


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
def truth_hash(test: KnownTruth) -> str:
    """The hash of cases and truth: the same for every model's predictions of one test set."""
    truth = test.truth_table.sort_values("case")
    return sha256(truth.to_csv(index=False, lineterminator="\n").encode())[:16]


def _cases(entries: list[dict[str, Any]], test: str | KnownTruth, look: dict[str, Any]) -> dict[str, Any]:
    """The hashes of the cases, once for each test set: the smallest, which tell how far two sets overlap (Broder 1997)."""
    if isinstance(test, str) or any(e.get("test") == look["test"] and "cases" in e for e in entries):
        return {}
    salt = _salt(entries) or look["predictions"][:16] or look["test"]
    return {"salt": salt, "cases": list(test.case_marks(salt)[:_KEPT])}


def _salt(entries: list[dict[str, Any]]) -> str:
    """What the cases of this ledger are hashed with; blank before the first."""
    return next((e["salt"] for e in entries if "cases" in e), "")


def _append(path: Path, entries: list[dict[str, Any]], body: dict[str, Any]) -> dict[str, Any]:
    """Add a line to both files and return it; the lock is held. The head goes before the first line: a line without it was left over."""
    if not _head(path).exists():
        write_json(_head(path), {"entries": 0, "hash": _START})
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
    return entry


@checked
def verify(path: str | Path) -> list[dict[str, Any]]:
    """The entries of a ledger (none if there is no file); raises :class:`UnsoundError` if it was cut or edited."""
    path = Path(path)
    head, lines = _both(path)
    if lines is None:
        _require(head["entries"] == 0, "the ledger of looks at the test set is missing", str(path))
        return []
    _require(not lines or _head(path).exists(), "the head of the ledger of looks is missing", _head(path).name)
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


@checked
def require_entry_of(folder: str | Path, ledger: str | Path) -> None:
    """Raise :class:`UnsoundError` unless the ledger holds the look that the evaluation in ``folder`` was, if there is
    one.

    So a ledger that was cut is noticed also where its head was cut with it.
    """
    entries = verify(ledger)
    for path in (Path(folder) / name for name in ("curves.json", "instances.json")):
        held = read_json(path) if path.exists() else {}
        told = _entry_of(held) if isinstance(held, dict) else {}
        if not told.get("entry"):
            continue
        number, code = told["entry"], told.get("hash")
        intact = isinstance(number, int) and 0 < number <= len(entries) and entries[number - 1]["hash"] == code
        _require(
            intact,
            "the ledger of looks at the test set was cut",
            f"{len(entries)} entries, and a result that lies here was entry {number}",
        )


def _entry_of(held: dict[str, Any]) -> dict[str, Any]:
    """What a result says of its entry, at its top or with the rest of what it is about."""
    about = held.get("about")
    told = held.get("ledger") or (about.get("ledger") if isinstance(about, dict) else None)
    return told if isinstance(told, dict) else {}


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


def _pending(path: Path) -> Path:
    return path.with_suffix(".pending.json")


def _lock(path: Path) -> str:
    return f".{path.name}.lock"


@checked
def look_at(test: KnownTruth, ledger: str | Path | None, models: Sequence[tuple[str, str]]) -> int:
    """Write down that ``models`` (their hashes, and those of their predictions) are judged on a test set.

    Returns how many looks came before the first; 0 without a ledger.
    """
    if ledger is None or not models:
        return 0
    before = [record_look(ledger, model, None, digest, test=test) for model, digest in models]
    return min(before)
