"""What a run's fine classes sum to, against the same study trained on the coarse classes themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from overread.cli.compare import CLAIM, compare
from overread.cli.console import bars, say
from overread.cli.options import AsJson, Folder, Machine, Margin, PredictionTable
from overread.core.errors import InputError


def direct(
    folder: Folder, machine: Machine,
    judge_at: Annotated[str, typer.Option("--judge-at", help="the level of the run's tree; may be left out where the run was judged at one")] = "",
    margin: Margin = 0.0,
    margin_of: Annotated[str, typer.Option(help="auc, sensitivity, specificity or macro auc; of one class: auc:melanoma", rich_help_panel=CLAIM)] = "auc",
    output: Annotated[str, typer.Option("-o", "--output", help="folder of the direct run; direct/LEVEL in the run if not given")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Train the run's study anew on the classes of a level, and compare what the run's finer classes sum to with it.

    The same table, split and recipe; only the labels differ. Called again, it goes on where it was stopped.
    """
    from overread.study import steps
    from overread.study.class_levels import require_same_split
    from overread.study.question import Study, level_folder

    study = Study.load(folder / "study.toml", say)
    level = judge_at or _only(study.class_tree.judge_at, folder)
    home = Path(output) if output else folder / "direct" / level_folder(level)
    rule, tree = study.operating_point, study.class_tree
    margin, margin_of = margin or rule.margin, margin_of if margin else rule.margin_of
    asked = replace(study, operating_point=replace(rule, margin=margin, margin_of=margin_of, primary="", cost_matrix="", decide="auto" if rule.cost_matrix else rule.decide),
                    class_tree=replace(tree, max_class_size=0, label_at=level, judge_at=()))  # fmt: skip
    with bars() as progress:
        steps.run(asked, home, cache=machine.cache or None, network=not machine.offline, progress=progress, say=say)
    require_same_split(folder, home)
    compare(
        folder,
        home,
        PredictionTable(judge_at=level),
        margin=margin,
        margin_of=margin_of,
        output=str(home / "comparison"),
        as_json=as_json,
    )


def _only(levels: tuple[str, ...], folder: Path) -> str:
    if len(levels) != 1:
        raise InputError("nobody says at which level", given=f"{folder.name} is judged at {', '.join(levels) or 'none'}",
                         todo=f"say it: --judge-at {levels[0] if levels else 'LEVEL'}")  # fmt: skip
    return levels[0]
