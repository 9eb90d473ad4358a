"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Table = Annotated[
    str, typer.Argument(help="CSV, TSV, Parquet, MedMNIST .npz, a folder of class folders, or a study.toml")
]
Folder = Annotated[Path, typer.Argument(help="a run's folder, such as runs/skin")]
Out = Annotated[Path, typer.Option("-o", "--output", help="the run's folder")]
Column = Annotated[str, typer.Option(help="column of that name; guessed and said if not given")]
Labels = Annotated[
    str, typer.Option(help="columns of several findings, separated by commas (blank cells = unknown)")
]
Subgroups = Annotated[
    list[str], typer.Option("--subgroup", help="column to judge by, such as sex; may be repeated")
]
Positive = Annotated[str, typer.Option(help="classes that count as disease, separated by commas")]
Budget = Annotated[str, typer.Option(help="wall-clock time of the whole command, such as 15m or 1h30m")]
RecipeName = Annotated[
    str, typer.Option("--recipe", help="auto, features, finetune, scratch, or a .toml file")
]
Weights = Annotated[str, typer.Option(help="folder with pretrained weights", envvar="OVERREAD_WEIGHTS")]
Settings = Annotated[
    list[str], typer.Option("--set", help="any other field of the recipe: key=value; may be repeated")
]
Threads = Annotated[int, typer.Option(help="threads to use; 0: all cores of this process", min=0)]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for programs instead of text")]
Cache = Annotated[str, typer.Option(help="folder for decoded images and features", envvar="OVERREAD_CACHE")]
