"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Table = Annotated[
    str,
    typer.Argument(
        help="CSV, TSV, Parquet, MedMNIST .npz, a folder of class folders, DICOM files (folder, DICOMDIR, zip), or a study.toml"
    ),
]
Export = Annotated[str, typer.Argument(help="DICOM files: a folder, a DICOMDIR or a zip")]
Folder = Annotated[Path, typer.Argument(help="a run's folder, such as runs/skin")]
Out = Annotated[Path, typer.Option("-o", "--output", help="the run's folder")]
Column = Annotated[str, typer.Option(help="column of that name; guessed and said if not given")]
Labels = Annotated[str, typer.Option(help="columns of several findings, separated by commas (blank cells = unknown)")]
Subgroups = Annotated[list[str], typer.Option("--subgroup", help="column to judge by, such as sex; may be repeated")]
Positive = Annotated[str, typer.Option(help="classes that count as disease, separated by commas")]
Budget = Annotated[str, typer.Option(help="wall-clock time of the whole command, such as 15m or 1h30m")]
RecipeName = Annotated[str, typer.Option("--recipe", help="auto, features, finetune, scratch, or a .toml file")]
Weights = Annotated[str, typer.Option(help="folder with pretrained weights", envvar="OVERREAD_WEIGHTS")]
Settings = Annotated[list[str], typer.Option("--set", help="any other field of the recipe: key=value; may be repeated")]
Threads = Annotated[int, typer.Option(help="threads to use; 0: all cores of this process", min=0)]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for programs instead of text")]
Cache = Annotated[str, typer.Option(help="folder for decoded images and features", envvar="OVERREAD_CACHE")]
Names = Annotated[
    str,
    typer.Option(
        help="hash: codes in place of cases and patients; keep: as they stand, for data whose names identify nobody"
    ),
]
Where = Annotated[
    str, typer.Option(help="take the rows that fulfil this, such as \"modality == 'DX' and view in ('PA', 'AP')\"")
]
LabelsFrom = Annotated[str, typer.Option(help="for DICOM files: a table of labels to join")]
Key = Annotated[
    str,
    typer.Option(
        help="column of --labels-from to join by: patient, study, series, instance, accession or file; found out if not given"
    ),
]
Volumes = Annotated[
    str,
    typer.Option(
        help="whole: each volume as it is; views: three orthogonal views; slices: its axial slices, as images of one case"
    ),
]
Point = Annotated[
    str, typer.Option(help="columns x,y,z of a point in mm (RAS), or the column of a mask, that the views go through")
]
Side = Annotated[float, typer.Option(help="side in mm of the square around that point; 0: the whole plane", min=0)]
Window = Annotated[
    str, typer.Option(help="lung, bone, soft tissue, brain …, or centre/width; the file's own if not given")
]
Crop = Annotated[str, typer.Option(help="none, border (black borders), or field (the circle of a fundus photograph)")]
Graders = Annotated[
    str,
    typer.Option(
        help="several readers' answers: a table of case, reader and label, or columns of the table, separated by commas"
    ),
]
ConsensusRule = Annotated[
    str,
    typer.Option(
        "--consensus", help="one label of several readers: majority, median (of ordered classes) or dawid-skene"
    ),
]
Cost = Annotated[
    float, typer.Option(help="how much worse a missed case is than a false alarm: chooses the operating point", min=0)
]
Prevalence = Annotated[
    float,
    typer.Option(help="share of the diseased where the model will be used; 0: that of the test set", min=0, max=1),
]
Margin = Annotated[
    float, typer.Option(help="margin of non-inferiority, written down before the test set is opened", min=0, max=1)
]
MarginOf = Annotated[
    str, typer.Option(help="what the margin is of: auc, sensitivity or specificity; of one class: sensitivity:CLASS")
]
