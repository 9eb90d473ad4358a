"""The range test of the learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from overread.cli.console import end, open_run
from overread.cli.options import Folder, Machine, Only
from overread.study.question import Resources, Study


def lr_find(
    folder: Folder, resources: Annotated[Resources, Only(("device", "threads"))], machine: Machine,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="folder; learning-rate/ in the run if not given")] = None,
) -> None:  # fmt: skip
    """Which learning rate? Trains a copy at growing rates and draws its loss; changes nothing."""
    from overread.cases.split import Split
    from overread.core.files import write_json
    from overread.learning.train import find_rate
    from overread.reporting.figures.canvas import save_figures
    from overread.reporting.figures.learning_rate import learning_rate
    from overread.study.context import recipe_of, require_images

    require_images(folder, "overread lr-find")
    study, output = Study.load(folder / "study.toml"), output or folder / "learning-rate"
    with open_run(study, folder, machine.cache, offline=machine.offline) as context:
        found = find_rate(context.usable(), Split.load(folder / "split.csv"), recipe_of(study), weights=study.training.weights or None,
                          cache=context.cache, device=resources.device, threads=resources.threads, network=context.network,
                          progress=context.progress)  # fmt: skip
    written = save_figures([learning_rate(found.rates, found.losses, found.smoothed, found.suggested)], output)
    typer.echo(f"  {found}")
    table = write_json(output / "rates.json", vars(found))
    end([*written, table], ["overread", "train", folder, "--set", f"learning_rate={found.suggested:.1g}"])
