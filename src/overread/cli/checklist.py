"""Reporting standards."""

from __future__ import annotations

from typing import Annotated

import typer

from overread.cli.console import end, say
from overread.cli.options import Folder


def checklist(
    folder: Folder,
    standard: Annotated[
        list[str], typer.Option(help="claim, stard-ai or tripod-ai; may be repeated; all three if not given")
    ] = [],
) -> None:
    """CLAIM, STARD-AI and TRIPOD+AI, filled in from a run; what only people know is marked."""
    from overread.reporting.checklist import STANDARDS, fill_in, write_checklists
    from overread.reporting.checklist import standard as read
    from overread.reporting.run import gather

    names = standard or list(STANDARDS)
    run = gather(folder)
    for each in map(read, names):
        answers = fill_in(run, each)
        say(f"{each.name}, {each.edition}: {sum(bool(a.found) for a in answers)} of {len(answers)} items have an answer in the run")  # fmt: skip
    written = write_checklists(folder, names)
    end(written, f"open {written[-1]}, and complete what only you know")
