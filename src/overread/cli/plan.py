"""Before a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overread.cli.console import end, output_folder, table
from overread.cli.options import AsJson

if TYPE_CHECKING:
    from overread.evaluation.sample_size import Plan

_Share = {"min": 0.0, "max": 1.0}
Expected = Annotated[float, typer.Option(help="that you expect", **_Share)]
Width = Annotated[float, typer.Option(help="of the interval, from end to end, at most", **_Share)]
Against = Annotated[float, typer.Option(help="what the other reaches on the same cases", **_Share)]
Margin = Annotated[float, typer.Option(help="of non-inferiority to that; 0: to show a difference", **_Share)]
Power = Annotated[float, typer.Option(help="chance to show it", **_Share)]
Prevalence = Annotated[float, typer.Option(help="share of patients with the disease; .5 if not given", **_Share)]
Images = Annotated[float, typer.Option("--images-per-patient", help="on average", min=1.0)]
Correlation = Annotated[
    float, typer.Option(help="between images of one patient; 0: as if of different patients", **_Share)
]
Alike = Annotated[float, typer.Option(help="correlation of the two AUCs on the same cases", **_Share)]
Discordant = Annotated[
    float, typer.Option(help="share of cases on which the two disagree; independent errors if not given", **_Share)
]
Level = Annotated[float, typer.Option(help="of the interval; tests are one-sided at (1 − level)/2", **_Share)]
Variance = Annotated[str, typer.Option(help="of an AUC: hanley, normal or obuchowski, the most cautious")]
Output = Annotated[str, typer.Option("-o", "--output", help="folder")]


def plan(
    sensitivity: Expected = 0.0, specificity: Expected = 0.0, auc: Expected = 0.0, accuracy: Expected = 0.0, width: Width = 0.0,
    against: Against = 0.0, margin: Margin = 0.0, power: Power = 0.8, prevalence: Prevalence = 0.0, images: Images = 1.0,
    correlation: Correlation = 0.5, alike: Alike = 0.5, discordant: Discordant = 0.0, level: Level = 0.95,
    variance: Variance = "hanley", output: Output = "plan", as_json: AsJson = False,
) -> None:  # fmt: skip
    """How many patients a study needs: for an interval of a wanted width, or for a power."""
    from overread.evaluation.sample_size import plan as size
    from overread.reporting.pages.plan import plan_page

    found = size(sensitivity=sensitivity or None, specificity=specificity or None, auc=auc or None, accuracy=accuracy or None,
                 width=width or None, against=against or None, margin=margin, power=power, prevalence=prevalence or 0.5,
                 images=images, correlation=correlation, alike=alike, discordant=discordant or None, level=level,
                 variance=variance)  # fmt: skip
    folder = output_folder(output, Path("plan"))
    found.save(folder)
    pages = plan_page(found, folder)[:1]
    if as_json:
        typer.echo((folder / "plan.json").read_text("utf-8"))
        return
    _show(found, assumed=not prevalence)
    end([folder / "plan.json", folder / "metrics.json", *pages], f"open {pages[0]}")


def _show(found: Plan, *, assumed: bool) -> None:
    from overread.reporting.pages.plan import cautions

    typer.echo(f"{found}\n")
    if assumed:
        typer.echo("  the prevalence of 50 % is assumed: say --prevalence\n")
    heads = ("changed", "to", "patients", "positives", "negatives", "images")
    for goal in map(str, found.goals):
        if len(found.goals) > 1:
            typer.echo(goal)
        rows = [(row["changed"], f"{row['value']:g}", *(f"{row[n]:,}" for n in heads[2:])) for row in found.neighbours if row["goal"] == goal]  # fmt: skip
        table(heads, rows)
        typer.echo("")
    typer.echo("\n".join(cautions(found)))
