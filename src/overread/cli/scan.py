"""Commands about who and what is there: a look into an export of DICOM files, and the key to a run's codes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from overread.cli.console import bars, end, say
from overread.cli.options import Export, Folder, Names, Threads
from overread.core.errors import InputError


def scan(
    export: Export,
    output: Annotated[Path, typer.Option("-o", "--output", help="the table to write")] = Path("scan.csv"),
    names: Names = "hash",
    threads: Threads = 0,
) -> None:
    """What is in an export of DICOM files: a row per image or series, from headers alone, without identifiers."""
    from overread.cases.privacy import unnamed
    from overread.cases.sources.dicom_export import read_tree
    from overread.core.files import write_csv
    from overread.images.dicom.stacks import preferred_renderings

    with bars() as progress:
        found = read_tree(Path(export), progress=progress, threads=threads)
    write_csv(output, unnamed(found.table, names))
    for line in (
        *found.notes,
        *found.problems,
        *(f"run and train: {note}" for note in preferred_renderings(found.table)[1]),
    ):
        say(f"  {line}")
    end([output], f"overread run {export} --labels-from labels.csv --label LABEL -o runs/mine")


def key(
    folder: Folder,
    output: Annotated[Path, typer.Option("-o", "--output", help="the list to write; keep it apart from the run")],
) -> None:
    """Who the codes of a run are: reads its table again and lists code, case, patient and image. Holds identifiers."""
    from overread.core.files import write_csv
    from overread.study.context import key_of
    from overread.study.question import Study

    if output.resolve().is_relative_to(folder.resolve()):
        todo = "choose a place apart from it"
        raise InputError("the key must not lie in the run's folder", given=str(output), todo=todo)
    with bars() as progress:
        table = key_of(Study.load(folder / "study.toml"), progress)
    write_csv(output, table)
    output.chmod(0o600)
    end([output], "keep this file apart: it says who the patients are")
