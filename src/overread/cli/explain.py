"""Where a model looked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overread.cli.console import end, open_run, output_folder, say
from overread.cli.options import AsJson, Folder, Only
from overread.core.errors import InputError, one_of
from overread.core.phrases import count
from overread.study.question import Resources, Study

if TYPE_CHECKING:
    from overread.explanation.cell_shares import ExplainedCells
    from overread.explanation.checks.regions import RegionShare
    from overread.explanation.map_files import MapEntry
    from overread.explanation.verdict import Criterion
    from overread.reporting.run import Run
    from overread.study.cells.explained_cells import CellWish
    from overread.study.context import RunContext

SAMPLED, JUDGED, FILTERS = "Where no case is named", "The methods, over many cases", "What the network looks for"
CELLS = "Which cells decided"


def explain(
    folder: Folder,
    resources: Annotated[Resources, Only(("device", "threads"))],
    cases: Annotated[list[str], typer.Argument(help="cases of the run, by name or code, or paths of images that are not in it; if not given, errors and correct cases beside them")] = [],
    method: Annotated[list[str], typer.Option(help="grad-cam, grad-cam++, cam, gradient, gradient-x-input, integrated-gradients, smoothgrad, occlusion, token-gradients, attention-rollout; may be repeated; grad-cam and gradient if not given")] = [],
    target: Annotated[str, typer.Option(help="class or finding to explain; the one that each case was called if not given")] = "",
    layer: Annotated[str, typer.Option(help="of the network; the last one with more than one place along each side if not given")] = "",
    views: Annotated[int, typer.Option(help="average maps over so many orientations of the image: 1, 2, 4 or 8")] = 1,
    checks: Annotated[bool, typer.Option("--checks/--no-checks", help="hold each map against maps that know nothing of the model; some hundred passes a map")] = True,
    masks: Annotated[str, typer.Option(help="column of the table with the addresses of masks of what a map should point at, of a study that keeps it (--keep-column); maps and methods are held against them")] = "",
    sample: Annotated[int, typer.Option(min=1, help="cases, half of them the surest errors", rich_help_panel=SAMPLED)] = 8,
    part: Annotated[str, typer.Option(help="test or tuning", rich_help_panel=SAMPLED)] = "test",
    judge: Annotated[int, typer.Option(min=0, help="judge the methods on so many tuning cases, instead of showing maps", rich_help_panel=JUDGED)] = 0,
    filters: Annotated[bool, typer.Option("--filters", help="the first filters and the patches that excite units of --layer most, instead of maps", rich_help_panel=FILTERS)] = False,
    unit: Annotated[list[int], typer.Option(min=0, help="a channel of the layer; may be repeated; the eight that vary most if not given", rich_help_panel=FILTERS)] = [],
    cells: Annotated[str, typer.Option(help="rank the cells of each image by their share of the map, instead of showing maps: masks (of the run's table), or a run that outlines cells", rich_help_panel=CELLS)] = "",
    planted: Annotated[list[str], typer.Option(help="class of cells that are known to matter, by which the ranking is judged; may be repeated", rich_help_panel=CELLS)] = [],
    every_image: Annotated[bool, typer.Option("--every-image", help="cells of images of any class; of the explained class alone if not given", rich_help_panel=CELLS)] = False,
    seed: Annotated[int, typer.Option(min=0, help="of noise and of the checks")] = 0,
    output: Annotated[str, typer.Option("-o", "--output", help="folder for explanations/ and explanations.html; the run's if not given")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Maps of where the model looked, each with what it is worth, side by side on a page.

    Writes explanations/maps.json with its pictures, and explanations.html; with --judge methods.json and regions.json, with --cells cells.csv. Maps of the test part are no look at
    it: the errors that the report shows are shown; before the test part is judged, cases of the tuning part.
    """
    from overread.explanation.checks.regions import region_lines
    from overread.explanation.methods import method_of
    from overread.explanation.verdict import methods_lines
    from overread.reporting.pages.explain import explanations_page
    from overread.reporting.run import read_run
    from overread.study.cells.explained_cells import CellWish
    from overread.study.context import require_images
    from overread.study.explained import METHODS, Wish, explain_run, filters_of_run, judge_run

    require_images(folder, "overread explain")
    one_of(str(views), ("1", "2", "4", "8"), "the number of orientations")
    if masks and (other := "--cells" if cells else "--filters" if filters else ""):
        raise InputError("masks are held against maps and methods, of which there are none here", given=f"--masks beside {other}", todo="leave --masks out")  # fmt: skip
    methods = tuple(dict.fromkeys(method_of(each).name for each in method)) or METHODS
    wish = Wish(tuple(cases), methods, target, layer, sample, part, views, checks, seed, masks="" if judge else masks)
    home = output_folder(output, folder)
    with open_run(Study.load(folder / "study.toml").changed(device=resources.device, threads=resources.threads), folder, quiet=as_json) as context:  # fmt: skip
        if cells:
            ranked = _rank_cells(context, CellWish(cells, methods[0] if method else "gradient", target, tuple(planted), part, 0, not every_image, seed), home)  # fmt: skip
        elif filters:
            made = filters_of_run(context, layer, tuple(unit), home)
        elif judge:
            rows, regions = judge_run(context, wish, judge, masks, home)
        else:
            found = explain_run(context, wish, home)
    if cells:
        typer.echo((home / "explanations" / "cells" / ranked[0].file).read_text("utf-8") if as_json else str(ranked[0]))
        end([home / "explanations" / "cells.csv", ranked[1]], ["open", ranked[1]])
        return
    if filters:
        end(made, ["open", made[0]])
        return
    if judge:
        _tell_methods(rows, regions, as_json)
        end([home / "explanations" / name for name in ("methods.json", "regions.json")], "")
        return
    run = read_run(folder)
    page = explanations_page(
        home, found.maps, found.methods, found.regions, names=_names(run, home, found.maps), facts=_facts(run)
    )
    if as_json:
        from overread.core.files import plain

        typer.echo(
            json.dumps(
                {"maps": plain(found.maps), "methods": plain(found.methods), "regions": plain(found.regions)},
                indent=2,
                ensure_ascii=False,
            )
        )
        return
    for entry in found.maps:
        typer.echo(_line(entry))
    for line in (*methods_lines(found.methods), *region_lines(found.regions)):
        typer.echo(line)
    if empty := sum(entry.nothing for entry in found.maps):
        say(f"{count(empty, 'map')} of {len(found.maps)} say nothing: no value is above 0")
    end([home / "explanations" / "maps.json", page], ["open", page])


def _rank_cells(context: RunContext, wish: CellWish, home: Path) -> tuple[ExplainedCells, Path]:
    """The cells of the run's images, ranked and judged, and the page of it."""
    import pandas as pd

    from overread.reporting.pages.cells.two_stage import explained_cells_page
    from overread.study.cells.explained_cells import RANKED, explain_cells, told_of

    found = explain_cells(context, wish, home)
    told = told_of(pd.read_csv(home / "explanations" / RANKED))
    return found, explained_cells_page(found, home / "explanations", tuple(told))[0]


def _tell_methods(rows: tuple[Criterion, ...], regions: tuple[RegionShare, ...], as_json: bool) -> None:
    from overread.core.files import plain
    from overread.explanation.checks.regions import region_lines
    from overread.explanation.verdict import methods_lines

    if as_json:
        typer.echo(json.dumps({"methods": plain(rows), "regions": plain(regions)}, indent=2, ensure_ascii=False))
        return
    for line in (*methods_lines(rows), *region_lines(regions)):
        typer.echo(line)


def _line(entry: MapEntry) -> str:
    from overread.explanation.explanation import NOTHING

    layer = f" at {entry.layer}" if entry.layer else ""
    said = NOTHING if entry.nothing else entry.verdict or "Not checked."
    return f"{entry.case}: {entry.method}{layer} for {entry.target} ({entry.probability:.2f}). {said}"


def _names(run: Run, home: Path, entries: tuple[MapEntry, ...]) -> dict[str, str]:
    """How the page calls each case: by its code where the study has codes, else by a key that ``keys.json`` resolves."""
    from overread.reporting.shown_cases import Names

    names = Names.of(run, run.study.names != "keep")
    names.keep(home, (entry.case for entry in entries))
    return {entry.case: names[entry.case] for entry in entries}


def _facts(run: Run) -> dict[str, str]:
    """What the run says of the cases that its report shows."""
    from overread.reporting import words

    return {row.case: f"{'Correct' if row.correct else 'Error'}: {words.name(row.truth)}, called {words.name(row.predicted)}."
            for row in run.gallery}  # fmt: skip
