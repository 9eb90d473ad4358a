"""A folder for uploads that does not outlive its process, however that ends.

It lies in memory where there is room. A second process waits at a pipe that only the first holds open: when the first
is gone, by whatever signal, the pipe ends and the second removes the folder. If both were killed, the next server that
starts sweeps it away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from overread.core.errors import UnavailableError
from overread.core.files import unwritable
from overread.serving import folder_guard
from overread.serving.folder_guard import NAME

_MEMORY = Path("/dev/shm")


class PrivateFolder:
    """A folder that only this user may enter, for what is there during a request.

    ``place``: where it is made; blank for the memory, if it has ``room`` bytes, and for the folder of temporary files
    otherwise. What servers left there that no longer live is swept away first. Raises :class:`UnavailableError` where
    it cannot be made.
    """

    def __init__(self, place: str = "", room: int = 0) -> None:
        base = Path(place) if place else _roomiest(room)
        try:
            self.swept = sweep(base)
            self.path = Path(tempfile.mkdtemp(prefix=f"overread-serve-{os.getpid()}-", dir=base))  # mode 0700
        except OSError as error:
            raise unwritable(base, error) from error
        self._guard: IO[bytes] | None = self._guarded()

    def _guarded(self) -> IO[bytes] | None:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", folder_guard.__file__, str(self.path)], stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,  # Ctrl-C is not for it
            )  # fmt: skip
        except OSError as error:
            shutil.rmtree(self.path, ignore_errors=True)
            raise UnavailableError(
                "no process can be started that removes uploads after a crash", given=str(error)
            ) from error
        self._process = process
        return process.stdin

    @contextmanager
    def request(self) -> Iterator[Path]:
        """An empty folder for one request, gone with it."""
        folder = Path(tempfile.mkdtemp(dir=self.path))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove the folder, and end the process that waits to do so."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._guard is not None:
            self._guard.close()
            self._guard = None
            self._process.kill()  # its work is done
            self._process.wait()


def _roomiest(room: int) -> Path:
    with suppress(OSError):
        if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= room:
            return _MEMORY
    return Path(tempfile.gettempdir())


def sweep(base: Path) -> int:
    """Remove the folders below ``base`` that servers left which no longer live, and tell how many."""
    dead = [path for path in base.glob("overread-serve-*") if _is_dead(path)]
    for path in dead:
        shutil.rmtree(path, ignore_errors=True)
    return len(dead)


def _is_dead(path: Path) -> bool:
    match = NAME.fullmatch(path.name)
    if (
        match is None
        or path.is_symlink()
        or not path.is_dir()
        or (os.name != "nt" and path.stat().st_uid != os.getuid())
    ):
        return False
    if os.name == "nt":  # where signal 0 would end the process
        return False
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
