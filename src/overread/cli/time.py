"""How early does the model know? Its AUC given only the images from before some time before the event."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from overread.cli.console import end, open_run, say
from overread.cli.options import AsJson, Cache, Level, listed
from overread.core.errors import InputError, one_of
from overread.core.phrases import count
from overread.study.question import Study

#: Fewer patients than this, and the curve says little: the page tells so.
FEW = 30


def time(
    run: Annotated[Path, typer.Argument(help="a run's folder: a case is what is followed, --time was named when it was run")],
    event_time: Annotated[str, typer.Option(help="column of the time of each case's event; or 0, where the table's times are relative to it")],
    before_event: Annotated[str, typer.Option(help="times before the event, such as 0,0.3,0.5; round steps if not given")] = "",
    marker: Annotated[str, typer.Option(help="column of the time at which another sign showed in a case, such as a marker; blank where it never did")] = "",
    against: Annotated[str, typer.Option(help="another run's folder: its model is asked about the same cases at the same times")] = "",
    latest: Annotated[int, typer.Option(min=0, help="show only so many images of a case, the latest by then; 0: all")] = 0,
    above: Annotated[float, typer.Option(min=0, max=0.999, help="the AUC that an interval has to lie above for the model to know")] = 0.5,
    part: Annotated[str, typer.Option(help="tuning, or test: opens the test set, which the ledger writes down once")] = "tuning",
    level: Level = 0.95, cache: Cache = "",
    output: Annotated[str, typer.Option("-o", "--output", help="folder for what is written; RUN/time if not given")] = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """How early the model knows: AUC over the time before an event, and against when a marker shows.

    Writes time.json, metrics.json, the figure and time.html.
    """
    from overread.cases.before_event import asked_moments, followed
    from overread.cases.split import Split
    from overread.evaluation.generalisation.lead_time import lead_time
    from overread.learning.predict import load_model
    from overread.reporting.pages.curve_shift import time_page
    from overread.study.early_answers import early_answers, rival_of, with_columns

    one_of(part, ("tuning", "test"), "--part")
    if not (run / "model" / "model.json").exists():
        raise InputError("the run has no model yet, so nothing can be asked", given=str(run), todo="run it to its end first: overread run")  # fmt: skip
    folder = Path(output) if output else run / "time"
    model = load_model(run)
    with open_run(Study.load(run / "study.toml"), run, cache, quiet=as_json) as context:
        cases = context.usable().only(Split.load(run / "split.csv"), part)
        cases = cases.take(cases.labelled)
        rival = rival_of(against, cases) if against else None
        extra = list(rival.about.recipe.extra_inputs) if rival else []
        event = "" if _is_number(event_time) else event_time
        found = followed(with_columns(context, cases, [event, marker, *extra]), event_time, marker)
        moments = asked_moments(listed(before_event), found)
        if part == "test":
            where = "the ledgers of both runs write" if against else "the ledger writes"
            say(f"  this opens the test set: {where} it down, once for the whole curve")
        steps = early_answers(context, model, found, moments, part=part, latest=latest)
        others = (
            early_answers(context, rival, found, [lead for lead, _ in steps], part=part, latest=latest) if rival else []
        )
        notes = [*found.notes, *([f"Of each case the latest {count(latest, 'image')} by then."] if latest else [])]
        known = found.names[found.before == found.before]
        result = lead_time(steps, cases=len(set(known)), unit=found.unit, marker=marker, marked=found.marked, against=others,
                           rival=Path(against).name if against else "", above=above, level=level, part=part,
                           ledger=_ledgers(run, against) if part == "test" else None, model=model.digest,
                           rival_model=rival.digest if rival else "", notes=notes)  # fmt: skip
        cautions = []
        if part == "tuning":
            cautions.append("The tuning cases also chose the model's snapshot, so the values are on the optimistic side: publish those of --part test.")  # fmt: skip
        if result.patients < FEW:
            cautions.append(f"{count(result.patients, 'patient')}: the intervals are wide, and that one does not lie above {above:g} is no proof that the model does not know.")  # fmt: skip
        result.save(folder)
        pages = time_page(folder, result, cautions=cautions)
    typer.echo((folder / "time.json").read_text("utf-8") if as_json else str(result))
    if not as_json:
        for caution in cautions:
            say(caution)
        end([folder / "time.json", folder / "metrics.json", *pages], ["open", pages[-1]])


def _ledgers(run: Path, against: str) -> list[Path]:
    """Where a look at the test set is written down: the models of both runs are judged on it."""
    from overread.evaluation.ledger import ledger_beside

    return [ledger_beside(Path(folder)) for folder in (run, against) if folder]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
