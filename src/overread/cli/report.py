"""What a run says, on a page, and in the items of the reporting checklists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from overread.cli.console import end, open_run, say
from overread.cli.leaderboard import leaderboard
from overread.cli.options import Folder, Machine, PredictionTable
from overread.core.errors import InputError
from overread.core.phrases import command_of
from overread.study.question import Study


def report(
    folders: Annotated[list[Path], typer.Argument(help="a run's folder, such as runs/skin; with --compare several")],
    compare: Annotated[bool, typer.Option("--compare", help="one page that ranks several runs, as `overread leaderboard` does")] = False,
    part: Annotated[str, typer.Option(help="with --compare: tuning (no look at the test set), or test (a look in each run's ledger)")] = "tuning",
    output: Annotated[str, typer.Option("-o", "--output", help="with --compare: folder; leaderboard/ here if not given")] = "leaderboard",
) -> None:  # fmt: skip
    """Write report.html, model_card.md and the figures from what the run's folder holds; or one page that ranks several."""
    if compare:
        return leaderboard(folders, PredictionTable(), Machine(), part=part, output=output)
    if len(folders) > 1:
        raise InputError("a report is of one run", given=" ".join(map(str, folders)), todo="add --compare to rank them on one page")  # fmt: skip
    return _report(folders[0])


def _report(folder: Path) -> None:
    from overread.study import steps

    with open_run(Study.load(folder / "study.toml"), folder) as context:
        if (folder / "predictions" / "test.csv").exists():
            try:
                steps.show_errors(context)
            except InputError as error:  # the table, which says where the images lie, has moved
                say(f"  the pictures of the errors are not drawn anew: {error}")
        steps.report(context)
    end([folder / "report.html", folder / "model_card.md"], ["open", folder / "report.html"])


def checklist(
    folder: Folder,
    standard: Annotated[list[str], typer.Option(help="claim, stard-ai or tripod-ai; may be repeated; all three if not given")] = [],
) -> None:  # fmt: skip
    """CLAIM, STARD-AI and TRIPOD+AI, filled in from a run; what only people know is marked."""
    from overread.reporting.checklist import STANDARDS, fill_in
    from overread.reporting.checklist import standard as read
    from overread.reporting.pages.checklists import write_checklists
    from overread.reporting.run import read_run
    from overread.study.context import require_answers

    require_answers(folder, "what these checklists ask")
    names = standard or list(STANDARDS)
    run = read_run(folder)
    for each in map(read, names):
        answers = fill_in(run, each)
        say(f"{each.name}, {each.edition}: {sum(bool(a.found) for a in answers)} of {len(answers)} items have an answer in the run")  # fmt: skip
    written = write_checklists(folder, names)
    end(written, f"{command_of(['open', written[-1]])}, and complete what only you know")
