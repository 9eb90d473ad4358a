"""Every object of images as a row: size, shape, intensity, texture and neighbours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overread.cli.console import bars, end, number, output_folder, say
from overread.cli.options import AsJson, BootstrapSeed, Level, Only, Threads
from overread.core.errors import InputError
from overread.study.question import Columns, Study

if TYPE_CHECKING:
    from overread.core.progress import Progress
    from overread.study.cells.measured_objects import Marked

#: What a table says of its images.
ROLES = ("image", "mask", "pixel_size", "patient", "case", "source", "where", "names")


def measure(
    what: Annotated[Path, typer.Argument(help="a run that outlines objects, its predictions (.csv), a folder of masks, or a table of images with --mask")],
    columns: Annotated[Columns, Only(ROLES)],
    truth: Annotated[bool, typer.Option("--truth", help="the true objects of a run or of its predictions, in place of those that were predicted")] = False,
    part: Annotated[str, typer.Option(help="of a run: test or tuning")] = "test",
    reach: Annotated[float, typer.Option(min=0, help="objects within so many pixels of each other are neighbours")] = 10.0,
    texture: Annotated[bool, typer.Option("--texture/--no-texture", help="Haralick's features and local binary patterns too: half of the time")] = True,
    threads: Threads = 0, level: Level = 0.95, seed: BootstrapSeed = 0,
    output: Annotated[str, typer.Option("-o", "--output", help="folder for objects.csv; measures/ beside what is measured if not given")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Measure every object: objects.csv with a row an object, and means by source with intervals by patient.

    Of predictions or a folder of masks, --image names the folder of the images, without which nothing is said of
    intensity; --pixel-size the microns of a pixel, which are asked for and never guessed. Works in the memory of one image.
    """
    from overread.cells.object_summary import IMAGES, OBJECTS
    from overread.study.cells.measured_objects import measure_marked

    if not what.exists():
        raise InputError("the folder or file does not exist", given=what.name, todo="check the path")
    with bars() as progress:
        marked = _marked(what, columns, truth, part, progress)
        folder = output_folder(output, (what if what.is_dir() else what.parent) / "measures")
        found = measure_marked(marked, folder, reach=reach, texture=texture, level=level, seed=seed, threads=threads, progress=progress, say=say)  # fmt: skip
    if as_json:
        typer.echo((folder / found.file).read_text("utf-8"))
        return
    typer.echo(str(found))
    end([folder / name for name in (OBJECTS, IMAGES, found.file, "metrics.json")], "")


def _marked(what: Path, columns: Columns, truth: bool, part: str, progress: Progress) -> Marked:
    """What is to be measured, by what it is."""
    from overread.evaluation.instances.predicted_outlines import PredictedOutlines, are_outlines
    from overread.study.cells.measured_objects import images_of, marked_cases, marked_files, marked_outlines, marked_run
    from overread.study.context import cases_of

    if (what / "study.toml").exists():
        return marked_run(what, part, truth=truth, pixel_size=columns.pixel_size, progress=progress)
    if what.is_dir():
        if truth:
            raise InputError("a folder of masks holds one kind of outlines", given="--truth", todo="leave it out")
        return marked_files(what, columns.image, pixel_size=_microns(columns.pixel_size))
    if columns.mask:
        study = Study(str(what), columns=replace(columns, label="")).seen_from(Path())
        cases = cases_of(study, progress)
        for line in (str(cases), *(f"  {note}" for note in cases.notes)):
            say(line)
        return marked_cases(cases)
    if not are_outlines(what):
        raise InputError(
            "the table holds neither outlines nor masks",
            given=what.name,
            todo="name its masks: --mask COLUMN or FOLDER",
        )
    held, size = PredictedOutlines.read(what), _microns(columns.pixel_size)
    return marked_outlines(held, images_of(held, columns.image, what.parent), truth=truth, sizes=dict.fromkeys(held.table["case"], size))  # fmt: skip


def _microns(text: str) -> float:
    """Microns a pixel, NaN where nobody says."""
    size = number(text, "--pixel-size")
    if size is not None and size <= 0:
        raise InputError("a pixel size lies above 0 microns", given=text, todo="give microns of a pixel, such as 0.5")
    return float("nan") if size is None else size
