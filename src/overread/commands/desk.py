"""What commands on a run's folder share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from overread.commands.speaking import bars, say

if TYPE_CHECKING:
    from overread.cases.cases import Cases
    from overread.study import Desk, Study


def listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@contextmanager
def at_desk(
    study: Study,
    folder: Path,
    cache: str = "",
    *,
    offline: bool = False,
    quiet: bool = False,
    table: Cases | None = None,
) -> Iterator[Desk]:
    from overread.progress import Clock
    from overread.record import folder_lock
    from overread.study import Desk, seconds

    with folder_lock(folder), bars() as progress:
        yield Desk(study, folder, Path(cache) if cache else None, not offline, Clock(seconds(study.budget)), progress,
                   (lambda line: None) if quiet else say, table)  # fmt: skip
