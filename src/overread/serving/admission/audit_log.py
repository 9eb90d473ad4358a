"""The audit log of a server: one line of JSON for each request, of codes only. No name, no file name, no address, no pixel."""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from overread.core.errors import UnavailableError
from overread.core.files import folder_lock, unwritable

#: Old logs that are kept beside the one that is written.
KEPT = 5


@dataclass(frozen=True)
class Entry:
    """One request: what was asked, by a random ``id`` that the answer bears too, and what became of it.

    ``outcome``: a code such as answered, rate or too-large. ``user``: salted hash of who asked, where a proxy says it.
    ``time`` in UTC; sizes in bytes; ``seconds`` by the monotonic clock.
    """

    action: str
    id: str
    status: int
    outcome: str
    seconds: float
    received: int = 0
    sent: int = 0
    images: int = 0
    user: str = ""
    time: str = ""


class AuditLog:
    """A file that entries are appended to by any number of processes; turned over when it has ``most_bytes``.

    Raises :class:`UnavailableError` at once where it cannot be written. A disk that fills up later does not stop the
    server: what could not be written is counted in :attr:`lost`.
    """

    def __init__(self, path: Path | None, most_bytes: int) -> None:
        self._path, self._most = path, most_bytes
        self._lock = threading.Lock()
        self.lost = 0
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.close(self._opened(path))
            except OSError as error:
                raise unwritable(path, error) from error

    def write(self, entry: Entry) -> None:
        """Append ``entry`` with the time of now."""
        if self._path is None:
            return
        held = {
            **asdict(entry),
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "seconds": round(entry.seconds, 4),
        }
        line = json.dumps(held, ensure_ascii=True) + "\n"
        try:
            with self._lock:
                handle = self._opened(self._path)
                try:
                    os.write(handle, line.encode())  # one call: lines of several processes do not mix
                    full = os.fstat(handle).st_size >= self._most
                finally:
                    os.close(handle)
                if full:
                    self._turn_over(self._path)
        except (OSError, UnavailableError):
            self.lost += 1

    @staticmethod
    def _opened(path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def _turn_over(self, path: Path) -> None:
        """Rename the log to .1, that to .2, and so on; whoever comes second finds a short log and leaves it."""
        with folder_lock(path.parent, wait=5.0, name=f".{path.name}.lock"):
            if path.stat().st_size < self._most:
                return
            for number in range(KEPT, 0, -1):
                older = path.with_name(f"{path.name}.{number}")
                newer = path.with_name(f"{path.name}.{number - 1}") if number > 1 else path
                with suppress(FileNotFoundError):
                    os.replace(newer, older)
