"""The command line. Heavy imports happen inside the commands: ``--help`` must be quick."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overread import __version__
from overread.cli import (
    calibrate,
    checklist,
    compare,
    curve_shift,
    deidentify,
    evaluate,
    froc,
    inventory,
    plan,
    readers,
    scan,
    simulate,
)
from overread.cli.console import at_desk, bars, end, listed, say
from overread.cli.options import (
    AsJson,
    Budget,
    Cache,
    Column,
    ConsensusRule,
    Cost,
    Crop,
    Folder,
    Graders,
    Key,
    Labels,
    LabelsFrom,
    Margin,
    MarginOf,
    Names,
    Out,
    Point,
    Positive,
    Prevalence,
    RecipeName,
    Settings,
    Side,
    Subgroups,
    Table,
    Threads,
    Volumes,
    Weights,
    Where,
    Window,
)
from overread.core.errors import InputError, OverreadError

if TYPE_CHECKING:
    from overread.study.steps import Study

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
                  help="From a table of medical images to a classifier that people can trust.",
                  epilog="Start with `overread demo`, or `overread run TABLE -o runs/mine`. Nothing is ever sent anywhere.")  # fmt: skip


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="print the version and stop")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


# -- the whole path -----------------------------------------------------------------------------------------------


@app.command()
def run(
    table: Table, output: Out = Path("runs/study"), image: Column = "", label: Column = "", labels: Labels = "", value: Column = "",
    patient: Column = "", case: Column = "", source: Column = "", view: Column = "", time: Column = "", split: Column = "",
    subgroup: Subgroups = [], positive: Positive = "", where: Where = "", labels_from: LabelsFrom = "", key: Key = "", names: Names = "hash",
    volumes: Volumes = "whole", point: Point = "", side: Side = 0.0, window: Window = "", crop: Crop = "none",
    test: Annotated[float, typer.Option(help="share of the patients for the test")] = 0.2,
    tuning: Annotated[float, typer.Option(help="share of the patients for tuning")] = 0.1,
    deploy_to: Annotated[str, typer.Option(help="where the model will be used, such as \"source == 'rosendahl'\"")] = "",
    leave_out: Annotated[str, typer.Option(help="a source that is kept for the test alone")] = "",
    by_time: Annotated[bool, typer.Option("--by-time", help="train on the past, test on the latest")] = False,
    resplit: Annotated[bool, typer.Option("--resplit", help="split anew even if the table brings a split")] = False,
    sensitivity: Annotated[float, typer.Option(help="choose the operating point for this sensitivity", min=0, max=1)] = 0.0,
    specificity: Annotated[float, typer.Option(help="choose the operating point for this specificity", min=0, max=1)] = 0.0,
    recipe: RecipeName = "auto", weights: Weights = "", budget: Budget = "",
    seed: Annotated[int, typer.Option(min=0, help="same seed, same machine: same result, byte for byte")] = 0,
    epochs: Annotated[int, typer.Option(min=0, help="passes over the training images; 0: chosen")] = 0,
    backbone: Annotated[str, typer.Option(help="the network, see `overread recipes`")] = "",
    image_size: Annotated[int, typer.Option(min=0, help="side in pixels; 0: chosen")] = 0,
    batch_size: Annotated[int, typer.Option(min=0, help="images in a step; 0: chosen")] = 0,
    settings: Settings = [],
    device: Annotated[str, typer.Option(help="cpu, cuda, mps; the best if not given")] = "",
    graders: Graders = "", consensus: ConsensusRule = "majority", cost: Cost = 0.0, prevalence: Prevalence = 0.0,
    margin: Margin = 0.0, margin_of: MarginOf = "auc",
    threads: Threads = 0, cache: Cache = "",
    offline: Annotated[bool, typer.Option("--offline", help="do not even try to fetch weights")] = False,
) -> None:  # fmt: skip
    """From a table of images to report.html; called again, it goes on where it was stopped."""
    from overread.study import steps as studies

    if Path(table).suffix == ".toml":
        study = studies.Study.load(table)
        study = _relative_to(study, Path(table).parent)
    else:
        chosen = {
            "epochs": epochs,
            "backbone": backbone,
            "image_size": image_size,
            "batch_size": batch_size,
            "window": window,
            "crop": crop,
        }
        study = studies.Study(
            table=str(Path(table).absolute()), where=where, labels_from=_absolute(labels_from), key=key, names=names, volumes=volumes, point=listed(point),
            side=side, image=image, label=label, labels=listed(labels), value=value, patient=patient, case=case,
            source=source, view=view, time=time, split=split, subgroups=tuple(subgroup), positive=listed(positive), test=test,
            tuning=tuning, deploy_to=deploy_to, leave_out=leave_out, by_time=by_time, keep_given=not resplit, sensitivity=sensitivity,
            specificity=specificity, weights=_absolute(weights), budget=budget, device=device,
            threads=threads, seed=seed, recipe=_recipe(recipe, chosen, settings),
            graders=_graders(graders), consensus=consensus, cost=cost, prevalence=prevalence, margin=margin, margin_of=margin_of,
        )  # fmt: skip
    with bars() as progress:
        report = studies.run(study, output, cache=cache or None, network=not offline, progress=progress, say=say)
    _show_metrics(output)
    end([report, output / "model", output / "evaluation" / "metrics.json"], f"open {report}")


@app.command()
def demo(
    output: Out = Path("runs/demo"),
    patients: Annotated[int, typer.Option(min=40, help="patients of the phantom cohort")] = 240,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    budget: Budget = "2m",
) -> None:
    """The whole path on a phantom cohort: CPU, no network, about two minutes."""
    from overread.study import steps as studies
    from overread.synthetic.cohort import draw_cohort

    table = output / "cohort" / "metadata.csv"
    if not table.exists():
        say(f"drawing a phantom cohort of {patients} patients under three microscopes")
        draw_cohort(output / "cohort", patients=patients, seed=seed)
    study = studies.Study(table=str(table.absolute()), image="image", label="diagnosis", patient="patient", source="microscope",
                          subgroups=("sex", "age"), seed=seed, budget=budget, recipe=_recipe("auto", {}, []), names="keep")  # fmt: skip
    with bars() as progress:
        report = studies.run(study, output, network=False, progress=progress, say=say)
    _show_metrics(output)
    end([report], f"open {report}, then try your own table: overread run TABLE -o runs/mine")


# -- one stage each -----------------------------------------------------------------------------------------------


@app.command()
def audit(
    table: Table, output: Out = Path("runs/study"), image: Column = "", label: Column = "", labels: Labels = "", value: Column = "",
    patient: Column = "", case: Column = "", source: Column = "", view: Column = "", time: Column = "", split: Column = "",
    subgroup: Subgroups = [], positive: Positive = "", where: Where = "", labels_from: LabelsFrom = "", key: Key = "", names: Names = "hash",
    volumes: Volumes = "whole", point: Point = "", side: Side = 0.0, graders: Graders = "", consensus: ConsensusRule = "majority",
    threads: Threads = 0, cache: Cache = "", as_json: AsJson = False,
) -> None:  # fmt: skip
    """Is the table sound? Writes cases.csv, excluded.csv and audit.json; exit code 1 if there are errors."""
    from overread.cases.audit.audit import Audit
    from overread.study import steps as studies

    study = studies.Study(
        table=str(Path(table).absolute()), where=where, labels_from=_absolute(labels_from), key=key, names=names, volumes=volumes, point=listed(point),
        side=side, image=image, label=label, labels=listed(labels), value=value, patient=patient, case=case,
        source=source, view=view, time=time, split=split, subgroups=tuple(subgroup), positive=listed(positive), threads=threads,
        graders=_graders(graders), consensus=consensus)  # fmt: skip
    with bars() as progress:
        study, cases = studies.opened(study, output, progress)
    with at_desk(study, output, cache, quiet=as_json, table=cases) as desk:
        studies.begin(desk, cases)
        studies.inspect(desk)
    found = Audit.load(output / "audit.json")
    if as_json:
        typer.echo((output / "audit.json").read_text("utf-8"))
    else:
        typer.echo(str(found))
        end([output / "audit.json", output / "excluded.csv", output / "cases.csv"], f"overread split {output}")
    if any(finding.severity == "error" for finding in found.findings):
        raise typer.Exit(1)


@app.command()
def split(
    folder: Folder,
    test: Annotated[float, typer.Option(help="share of the patients for the test")] = 0.2,
    tuning: Annotated[float, typer.Option(help="share of the patients for tuning")] = 0.1,
    deploy_to: Annotated[
        str, typer.Option(help="where the model will be used, such as \"source == 'rosendahl'\"")
    ] = "",
    leave_out: Annotated[str, typer.Option(help="a source that is kept for the test alone")] = "",
    by_time: Annotated[bool, typer.Option("--by-time", help="train on the past, test on the latest")] = False,
    resplit: Annotated[bool, typer.Option("--resplit", help="split anew even if the table brings a split")] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Who trains, who tunes, who tests: by patient, with a proof. Writes split.csv and split.proof.json."""
    from overread.study import steps as studies

    changes = {"test": test, "tuning": tuning, "deploy_to": deploy_to, "leave_out": leave_out, "by_time": by_time,
               "keep_given": not resplit, "seed": seed}  # fmt: skip
    study = _amended(folder, changes)
    with at_desk(study, folder) as desk:
        studies.divide(desk)
    end([folder / "split.csv", folder / "split.proof.json"], f"overread train {folder}")


@app.command()
def train(
    folder: Folder, recipe: RecipeName = "auto", weights: Weights = "", budget: Budget = "",
    seed: Annotated[int | None, typer.Option(min=0, help="that of the split if not given")] = None, epochs: Annotated[int, typer.Option(min=0)] = 0,
    backbone: Annotated[str, typer.Option()] = "", image_size: Annotated[int, typer.Option(min=0)] = 0,
    batch_size: Annotated[int, typer.Option(min=0)] = 0, window: Window = "", crop: Crop = "none", settings: Settings = [],
    device: Annotated[str, typer.Option(help="cpu, cuda, mps; the best if not given")] = "", threads: Threads = 0, cache: Cache = "",
    offline: Annotated[bool, typer.Option("--offline", help="do not even try to fetch weights")] = False,
) -> None:  # fmt: skip
    """Train by a recipe; called again, it goes on where it was stopped. Writes model/."""
    from overread.study import steps as studies

    chosen = {
        "epochs": epochs,
        "backbone": backbone,
        "image_size": image_size,
        "batch_size": batch_size,
        "window": window,
        "crop": crop,
    }
    changes: dict[str, Any] = {"recipe": _recipe(recipe, chosen, settings), "weights": _absolute(weights), "budget": budget,
               "device": device, "threads": threads}  # fmt: skip
    changes |= {} if seed is None else {"seed": seed}
    study = _amended(folder, changes)
    with at_desk(study, folder, cache, offline=offline) as desk:
        studies.learn(desk)
    end([folder / "model" / "model.safetensors", folder / "model" / "model.json"], f"overread predict {folder}")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="a run's folder, or a model's folder")],
    table: Annotated[str, typer.Argument(help="a table of new images; without it, the run's tuning and test parts")] = "",
    output: Annotated[Path, typer.Option("-o", "--output", help="the predictions of a new table")] = Path("predictions.csv"),
    image: Column = "", label: Column = "", patient: Column = "", case: Column = "", source: Column = "", names: Names = "",
    device: Annotated[str, typer.Option()] = "", threads: Threads = 0,
) -> None:  # fmt: skip
    """Predict the run's tuning and test parts, or the images of a new table."""
    from overread.study import steps as studies

    if not table:
        with at_desk(studies.Study.load(model / "study.toml"), model) as desk:
            studies.foresee(desk)
        end([model / "predictions" / "tuning.csv", model / "predictions" / "test.csv"], f"overread evaluate {model}")
        return
    from overread.cases.sources.read_cases import read_images
    from overread.learning.predict import load_model
    from overread.learning.predict import predict as predict_cases

    loaded = load_model(model)
    about = loaded.about
    with bars() as progress:
        cases = read_images(table, loaded.target, image=image or None, label=label or None, patient=patient or None, case=case or None,
                            source=source or None, names=names or ("hash" if about.names_salt else "keep"), salt=about.names_salt,
                            planes=about.planes, progress=progress)  # fmt: skip
        made = predict_cases(loaded, cases, device=device, threads=threads, progress=progress)
    if len(made) < cases.table["case"].nunique():
        say(f"{cases.table['case'].nunique() - len(made)} cases are left out: their images cannot be read")
    made.save(output)
    end([output], f"overread evaluate {output}" if label else "")


@app.command()
def report(folder: Folder) -> None:
    """Write report.html, model_card.md and the figures from what the run's folder holds."""
    from overread.study import steps as studies

    with at_desk(studies.Study.load(folder / "study.toml"), folder) as desk:
        if (folder / "predictions" / "test.csv").exists():
            try:
                studies.show_errors(desk)
            except InputError as error:  # the table, which says where the images lie, has moved
                say(f"  the pictures of the errors are not drawn anew: {error}")
        studies.tell(desk)
    end([folder / "report.html", folder / "model_card.md"], f"open {folder / 'report.html'}")


# -- speaking -----------------------------------------------------------------------------------------------------


def _show_metrics(folder: Path) -> None:
    from overread.evaluation.evaluate import Evaluation

    typer.echo(Evaluation.load(folder / "evaluation").table())


def _absolute(path: str) -> str:
    return str(Path(path).absolute()) if path else ""


def _graders(text: str, folder: Path = Path()) -> str:
    """The absolute path of a table of answers; columns, separated by commas, as they stand."""
    path = (folder / text).absolute()
    return str(path) if text and ("," not in text or path.exists()) else text


def _recipe(name: str, chosen: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """The recipe's fields that differ from the defaults."""
    from overread.core.files import plain
    from overread.learning.recipe import Recipe, override

    recipe = override(Recipe.load(name), settings).changed(**{k: v for k, v in chosen.items() if v})
    usual = plain(Recipe())
    return {k: v for k, v in plain(recipe).items() if v != usual[k] and k != "seed"}


def _relative_to(study: Study, folder: Path) -> Study:
    from dataclasses import replace

    beside = lambda path: str((folder / path).absolute()) if path else ""
    return replace(study, table=beside(study.table), weights=beside(study.weights), labels_from=beside(study.labels_from),
                   graders=_graders(study.graders, folder))  # fmt: skip


def _amended(folder: Path, changes: dict[str, Any]) -> Study:
    """The folder's study with what this stage was asked for; written back, since it is the question now."""
    from dataclasses import replace

    from overread.study.steps import Study

    if not (folder / "study.toml").exists():
        raise InputError(
            "the folder holds no study", given=str(folder), todo="start with `overread audit TABLE -o FOLDER`"
        )
    study = replace(Study.load(folder / "study.toml"), **changes)
    study.save(folder / "study.toml")
    return study


app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(readers.readers)
app.command()(plan.plan)
app.command()(froc.froc)
app.command()(calibrate.calibrate)
app.command()(simulate.simulate)
app.command()(curve_shift.curve)
app.command()(curve_shift.shift)
app.command()(checklist.checklist)
app.command()(inventory.recipes)
app.command()(inventory.doctor)
app.command()(scan.scan)
app.command()(scan.key)
app.command()(deidentify.deidentify)
app.add_typer(inventory.data_app, name="data")
app.add_typer(inventory.weights_app, name="weights")


class _Stopped(BaseException):
    """Ctrl-C, as something that no library on the way takes for its own."""


def _stop(number: int, frame: object) -> None:
    raise _Stopped


def main() -> None:
    """The entry point: errors as one paragraph, exit codes 0 done, 1 unsound, 2 wrong input, 130 stopped."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGINT, _stop)
    try:
        app()
    except OverreadError as error:
        if "--debug" in sys.argv:
            raise
        say(f"overread: {error}")
        sys.exit(error.exit_code)
    except _Stopped:
        say("overread: stopped. What was done is kept: run the same command again to go on.")
        sys.exit(130)


if __name__ == "__main__":
    main()
