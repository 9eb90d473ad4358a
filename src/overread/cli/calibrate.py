"""Mending probabilities on tuning data."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overread.cli.console import Pair, end, pair_of, say, table
from overread.cli.options import AsJson, PredictionTable, listed
from overread.core.errors import InputError

if TYPE_CHECKING:
    from overread.evaluation.comparison.calibration_change import CalibrationChange
    from overread.evaluation.recalibrate import Recalibration
    from overread.predictions import Predictions


def calibrate(
    tuning: Annotated[Path, typer.Argument(help="predictions of the tuning part (.csv), or a run's folder")],
    form: PredictionTable,
    test: Annotated[str, typer.Argument(help="predictions to mend (.csv)")] = "",
    method: Annotated[str, typer.Option(help="auto, none, temperature, platt, isotonic or prior")] = "auto",
    prevalence: Annotated[str, typer.Option(help="of the clinic: .05, or effusion=.1,mass=.02, or estimate (from the test predictions, without labels)")] = "",
    sensitivity: Annotated[float, typer.Option(help="choose the threshold on mended tuning data for this sensitivity", min=0, max=1)] = 0.0,
    specificity: Annotated[float, typer.Option(help="or for this specificity", min=0, max=1)] = 0.0,
    cost: Annotated[float, typer.Option(help="or for a missed case that is so many times as bad as a false alarm", min=0)] = 0.0,
    seed: Annotated[int, typer.Option(help="of folds and resamples", min=0)] = 0,
    output: Annotated[str, typer.Option("-o", "--output", help="folder for the results; beside the test predictions if not given")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Mend probabilities on tuning data, apply the same to others, and tell what changed."""
    from overread.core.files import write_json
    from overread.evaluation.operating_point import choose_thresholds
    from overread.evaluation.recalibrate import fit_recalibration, recalibrate

    if not tuning.is_dir() and not test:
        raise InputError("there are no predictions to mend", given=str(tuning),
                         todo="give both tables: overread calibrate tuning.csv test.csv")  # fmt: skip
    first = tuning if tuning.is_dir() else Path(test)
    pair = pair_of(first, str(tuning), form, "calibration", output)
    if not len(pair.test):
        empty = f"{first}: an empty table"
        raise InputError("there are no predictions to mend", given=empty, todo="give a table with rows")
    given, estimated = _prevalence(prevalence)
    unlabelled = pair.test if estimated else None
    fitted = fit_recalibration(pair.tuning, method=method, prevalence=given, unlabelled=unlabelled, seed=seed)
    mended = recalibrate(pair.test, fitted)
    tuned = recalibrate(pair.tuning, fitted, tuning=True)
    points = choose_thresholds(
        tuned, sensitivity=sensitivity or None, specificity=specificity or None, cost=cost or None
    )
    folder = pair.folder
    files = [
        fitted.save(folder / "recalibration.json"),
        mended.save(folder / "calibrated.csv"),
        tuned.save(folder / "calibrated-tuning.csv"),
        write_json(folder / "operating.json", list(points)),
    ]
    found = _judged(pair, mended, seed)
    files += _write(found, fitted, folder)
    if as_json:
        typer.echo((folder / ("metrics.json" if found else "recalibration.json")).read_text("utf-8"))
        return
    say(str(fitted))
    for point in points:
        say(f"threshold on mended tuning data: {point}")
    if found:
        _show(found)
    disease = f" --positive {shlex.quote(','.join(form.positive))}" if form.positive else ""
    end(files, f"overread evaluate {shlex.quote(str(files[1]))} --tuning {shlex.quote(str(files[2]))}{disease}")


def _prevalence(text: str) -> tuple[float | dict[str, float] | None, bool]:
    if text.strip().lower() == "estimate":
        return None, True
    try:
        if "=" not in text:
            return (float(text) if text else None), False
        parts = (part.rpartition("=") for part in listed(text))
        return {name.strip(): float(value) for name, _, value in parts}, False
    except ValueError as error:
        todo = "write .05, or effusion=.1,mass=.02, or estimate"
        raise InputError("the prevalence is not understood", given=text, todo=todo) from error


def _judged(pair: Pair, mended: Predictions, seed: int) -> CalibrationChange | None:
    """Before and after, where the test predictions come with their truth."""
    from overread.evaluation.comparison.calibration_change import judge_calibration

    if not pair.test.known.any():
        say("no truth in the test predictions: they are mended, and not judged")
        return None
    return judge_calibration(pair.test, mended, seed=seed, ledger=pair.ledger, model=pair.model)


def _write(found: CalibrationChange | None, fitted: Recalibration, folder: Path) -> list[Path]:
    from overread.reporting.pages.calibrate import calibration_page

    if found is None:
        for name in ("metrics.json", "calibration.json", "calibrate.html"):  # of another table, mended here before
            (folder / name).unlink(missing_ok=True)
        return []
    found.save(folder)
    return [folder / "metrics.json", calibration_page(folder)[0]]


def _show(found: CalibrationChange) -> None:
    from overread.evaluation.comparison.calibration_change import said

    by_place = {(e.metric, e.of, e.where.get("probabilities", "")): str(e) for e in reversed(found.estimates)}
    names = list(dict.fromkeys((e.metric.removesuffix(" difference"), e.of) for e in found.estimates))

    def cell(metric: str, of: str, which: str) -> str:
        return by_place.get((metric, of, which), "–")

    rows = [(m, of, cell(m, of, "as given"), cell(m, of, "recalibrated"), cell(f"{m} difference", of, "")) for m, of in names]  # fmt: skip
    table(("metric", "of", "as given", "recalibrated", "difference"), rows)
    for line in said(found.estimates):
        say(line)
