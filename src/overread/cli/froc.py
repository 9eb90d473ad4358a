"""Marks on images: localisation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from overread.cli.console import bars, end, end_judged, names_of, number, output_folder
from overread.cli.options import AsJson, BootstrapSeed, Level, listed
from overread.core.errors import InputError


def froc(
    marks: Annotated[Path, typer.Argument(help="marks: image, score, and lesion (blank: false positive) or x, y")],
    lesions: Annotated[Path, typer.Argument(help="lesions: image, lesion, and for places x, y, radius")],
    images: Annotated[str, typer.Option(help="number of images, or a table with a column image (and patient)")] = "",
    tolerance: Annotated[str, typer.Option(help="radius of lesions that have none, in the unit of x and y")] = "",
    rates: Annotated[str, typer.Option(help="false positives per image: camelyon16 (1/4 … 8), luna16 (1/8 … 8), or numbers, separated by commas")] = "camelyon16",
    against: Annotated[str, typer.Option(help="other marks on the same images: what the two differ by, paired by patient")] = "",
    names: Annotated[str, typer.Option(help="what the two are called, separated by a comma; else the names of the files")] = "",
    primary: Annotated[str, typer.Option(help="with --against: the primary endpoint, such as 'mean sensitivity', not corrected beside the others")] = "",
    level: Level = 0.95, seed: BootstrapSeed = 0,
    ledger: Annotated[str, typer.Option(help="file of looks at the test set; else evaluation/ledger.jsonl beside the marks")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="folder for what is written; froc/ beside the marks")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Marks on images against lesions: FROC, its mean sensitivity, AFROC area, with intervals; or against other marks. Needs no torch."""
    from overread.evaluation.comparison.compare_marks import as_readers, compare_marks
    from overread.evaluation.detection import judge_marks, read_marks
    from overread.evaluation.ledger import ledger_beside
    from overread.reporting.pages.froc import froc_page, marks_comparison_page

    for word, said in (("--names", names), ("--primary", primary)):
        if said and not against:
            raise InputError(f"{word} is of two tables of marks", given=f"{word} {said}", todo="name the other with --against, or leave it out")  # fmt: skip
    count = int(images) if images.isdecimal() else images or None
    given = read_marks(marks, lesions, count, tolerance=number(tolerance, "--tolerance"))
    folder = output_folder(output, marks.parent / ("froc-against" if against else "froc"))
    books = Path(ledger) if ledger else ledger_beside(marks)
    if against:
        other = read_marks(against, lesions, count, tolerance=number(tolerance, "--tolerance"))
        called = _names(names, marks, Path(against))
        compared = compare_marks(given, other, rates=_rates(rates), level=level, seed=seed, ledger=books, names=called, primary=primary)  # fmt: skip
        compared.save(folder)
        curves = judge_marks(as_readers(given, other, called), rates=_rates(rates), level=level, seed=seed)
        end_judged(compared, folder / "comparison.json", marks_comparison_page(compared, curves, folder)[:1], as_json, "curves")  # fmt: skip
        return
    with bars() as progress:
        progress("judging readers", 0, len(given.readers))
        found = judge_marks(given, rates=_rates(rates), level=level, seed=seed,
                            ledger=books)  # fmt: skip
        progress("judging readers", len(given.readers), len(given.readers))
    found.save(folder)
    pages = froc_page(found, folder)
    if as_json:
        typer.echo((folder / "metrics.json").read_text("utf-8"))
        return
    typer.echo(found.table())
    end([folder / "metrics.json", folder / "froc.json", pages[0]], f"open {pages[0]}")


def _rates(text: str) -> str | tuple[float, ...]:
    if not text[:1].isdigit() and not text.startswith("."):
        return text
    return tuple(rate for part in listed(text) if (rate := number(part, "--rates")) is not None)


def _names(names: str, marks: Path, other: Path) -> tuple[str, str]:
    """What two tables of marks are called: as given, else by what tells them apart."""
    given = listed(names)
    if given and (len(given) != 2 or given[0] == given[1]):
        raise InputError("--names gives two different names", given=names, todo="as --names model,reader")
    return (given[0], given[1]) if given else names_of(marks, other)
