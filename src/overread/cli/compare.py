"""Comparing two systems."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from overread.cli.console import PointChoice, System, bars, end_judged, names_of, output_folder, say
from overread.cli.options import AllowSeen, AsJson, Level, NetBenefitAt, PredictionTable, Subgroups
from overread.core.errors import InputError
from overread.core.phrases import count

CLAIM = "A claim, written down before the test set is opened"


def compare(
    first: Annotated[Path, typer.Argument(help="a run's folder, or predictions .csv: the new one")],
    second: Annotated[Path, typer.Argument(help="a run's folder, or predictions .csv: what it is compared with")],
    form: PredictionTable,
    tuning: Annotated[str, typer.Option(help="predictions of the tuning part, to choose the first one's operating point on")] = "",
    other_tuning: Annotated[str, typer.Option(help="the same for the second")] = "",
    at: Annotated[str, typer.Option("--at", help="the first one's operating points, frozen before: an operating.json")] = "",
    other_at: Annotated[str, typer.Option(help="the same for the second")] = "",
    subgroup: Subgroups = [], allow_seen: AllowSeen = False,
    sensitivity: Annotated[float, typer.Option(min=0, max=1, help="on tuning data; Youden's point if not given")] = 0.0,
    specificity: Annotated[float, typer.Option(min=0, max=1, help="on tuning data, in place of a sensitivity")] = 0.0,
    margin: Annotated[float, typer.Option(min=0, max=1, help="that the first must not be worse by (of --claim); a run's own if not given", rich_help_panel=CLAIM)] = 0.0,
    margin_of: Annotated[str, typer.Option(help="auc, sensitivity, specificity or macro auc; of one class: auc:melanoma", rich_help_panel=CLAIM)] = "",
    claim: Annotated[str, typer.Option(help="non-inferiority, equivalence or superiority of the first", rich_help_panel=CLAIM)] = "non-inferiority",
    primary: Annotated[str, typer.Option(help="the primary endpoint, not corrected beside the others: auc, sensitivity …; of one class: auc:melanoma; a run's own if not given", rich_help_panel=CLAIM)] = "",
    net_benefit_at: NetBenefitAt = 0.0,
    level: Level = 0.95,
    ledger: Annotated[str, typer.Option(help="file of looks at the test set; else each run's own, or evaluation/ledger.jsonl beside each table")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="folder; comparison/ in the run, or beside the first")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Two tables of predictions on the same or on different patients: every difference with its interval.

    Two tables of outlines (columns predicted and truth) on the same images.
    """
    from overread.evaluation.comparison.compare import compare as judge
    from overread.evaluation.instances.predicted_outlines import are_outlines
    from overread.evaluation.ledger import ledger_beside
    from overread.reporting.pages.compare import comparison_page

    tables = [path / "predictions" / "test.csv" if path.is_dir() else path for path in (first, second)]
    drawn = [are_outlines(path) for path in tables]
    if any(drawn):
        if not all(drawn):
            raise InputError("outlines are compared with outlines", given=f"{first.name}, {second.name}", todo="give two tables with the columns predicted and truth")  # fmt: skip
        unfit = {"--tuning": tuning, "--other-tuning": other_tuning, "--at": at, "--other-at": other_at, "--sensitivity": sensitivity, "--specificity": specificity,
                 "--margin": margin, "--margin-of": margin_of, "--claim": claim != "non-inferiority", "--net-benefit-at": net_benefit_at, "--positive": form.positive, "--rename-label": form.rename_label,
                 "--derive": form.derive, "--taxonomy": form.taxonomy, "--judge-at": form.judge_at}  # fmt: skip
        if given := [flag for flag, held in unfit.items() if held]:
            raise InputError(
                "outlines are compared without this", given=" ".join(given), todo="leave it out: it is of scores"
            )
        _compare_outlines(
            (first, second), tables, form.identifiers, subgroup, level, ledger, primary, allow_seen, output, as_json
        )
        return
    wanted = PointChoice(form, sensitivity, specificity)
    wanted.require_tuning(tuning, other_tuning)
    mine, other = wanted.system(first, tuning, at), wanted.system(second, other_tuning, other_at)
    mine, other = _coded(mine, other), _coded(other, mine)
    study = mine.study
    if study and not margin:
        margin, margin_of = study.operating_point.margin, margin_of or study.operating_point.margin_metrics[0]
    if study:
        primary = primary or (
            "" if form.judge_at else study.operating_point.primary
        )  # that is of the run's own classes
        net_benefit_at = net_benefit_at or study.operating_point.net_benefit_at
    home = first if study else first.parent
    ledgers = [Path(ledger)] if ledger else [ledger_beside(path) for path in (first, second)]
    folder = output_folder(output, home / "comparison")
    if len(mine.test) > 100_000:
        say(f"comparing {count(len(mine.test), 'case')}")
    found = judge(mine.test, other.test, at=mine.points, other_at=other.points, by=subgroup, margin=margin or None,
                  margin_of=margin_of or "auc", claim=claim, level=level, ledger=ledgers, names=names_of(first, second), primary=primary,
                  net_benefit_at=net_benefit_at or None, allow_seen=allow_seen)  # fmt: skip
    found.save(folder)
    end_judged(found, folder / "comparison.json", comparison_page(found, folder)[:1], as_json, "curves")


def _compare_outlines(
    given: tuple[Path, Path], tables: list[Path], identifiers: str, by: list[str], level: float, ledger: str, primary: str,
    allow_seen: bool, output: str, as_json: bool,
) -> None:  # fmt: skip
    """Compare two tables of outlines, or those of two runs."""
    from overread.evaluation.instances.compare_outlines import compare_outlines
    from overread.evaluation.instances.predicted_outlines import PredictedOutlines
    from overread.evaluation.ledger import ledger_beside
    from overread.reporting.pages.cells.judged_outlines import outline_comparison_page

    first, second = given
    ledgers = [Path(ledger)] if ledger else list(dict.fromkeys(ledger_beside(path) for path in given))
    folder = output_folder(output, (first if first.is_dir() else first.parent) / "comparison")
    sides = [PredictedOutlines.read(path, identifiers=identifiers) for path in tables]
    with bars() as progress:
        found = compare_outlines(*sides, by=by, level=level, ledger=ledgers, names=names_of(first, second), primary=primary,
                                 allow_seen=allow_seen, workers=0, progress=progress)  # fmt: skip
    found.save(folder)
    end_judged(found, folder / "comparison.json", outline_comparison_page(found, folder)[:1], as_json, "curves")


def _coded(table: System, run: System) -> System:
    """A table with names, beside a run with codes: its cases and patients under the run's codes."""
    from overread.cases.privacy import codes, patient_codes

    theirs = set(run.test.table["case"])
    if not run.salt or table.study or theirs & set(table.test.table["case"]):
        return table
    names = table.test.table
    made = {
        "case": codes(names["case"], run.salt),
        "patient": patient_codes(names["patient"], run.salt, run.identifiers),
    }
    if not theirs & set(made["case"]):
        return table
    return replace(table, test=replace(table.test, table=table.test.table.assign(**made)))
