"""Would more images, more grades or another site help?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overread.cli.console import bars, end, open_run, say
from overread.cli.options import AsJson, Cache, Offline, PredictionTable, listed
from overread.core.errors import InputError, one_of
from overread.core.phrases import count

if TYPE_CHECKING:
    from overread.cases.annotators import Grades
    from overread.cases.cases import Cases
    from overread.cases.split import Split
    from overread.distributed.repeated import Training, Trainings
    from overread.learning.recipe import Recipe
    from overread.predictions import Predictions
    from overread.study.context import RunContext

Metric = Annotated[
    str, typer.Option(help="auc, macro auc, average precision, accuracy, brier, mae, rmse or r2; chosen if not given")
]
Part = Annotated[str, typer.Option(help="tuning, or test: opens the test set, which the ledger writes down")]
Seed = Annotated[int, typer.Option(min=0, help="who is drawn, and the bootstrap")]
Given = Annotated[str, typer.Option("-o", "--output", help="folder for what is written")]


def curve(
    what: Annotated[list[Path], typer.Argument(help="a run's folder; or a predictions .csv for every size")],
    form: PredictionTable,
    sizes: Annotated[str, typer.Option(help="of a run: shares or images, 10%,50%,100% or 100,200; of tables: the size behind each")] = "",
    repeats: Annotated[int, typer.Option(min=1, help="models for each size, taught by other patients; their spread needs three or more")] = 3,
    part: Part = "tuning",
    grades: Annotated[str, typer.Option(help="several graders' answers to the training images: a curve over grades per image")] = "",
    per_image: Annotated[str, typer.Option(help="numbers of grades per image, with --grades")] = "1,2,3",
    grades_of: Annotated[str, typer.Option(help="whose grades are fewer, with --grades: training (models are trained), or judged (the run's model is judged by labels of fewer grades)")] = "training",
    unit: Annotated[str, typer.Option(help="of the sizes of tables: images, patients, grades per image, or grades per judged image")] = "images",
    metric: Metric = "", seed: Seed = 0, output: Given = "", cache: Cache = "", offline: Offline = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """What more training images, or more grades per image, gained and would gain. Of tables without torch."""
    from overread.evaluation.generalisation.learning_curve import JUDGED, learning_curve
    from overread.evaluation.ledger import ledger_beside
    from overread.reporting.pages.curve_shift import curve_page

    if missing := [str(path) for path in what if not path.exists()]:
        raise InputError("there is no such run folder or table of predictions", given=missing[0], todo="check the path")
    if not (len(what) == 1 and what[0].is_dir()):
        places = [_number(text) for text in listed(sizes)]
        if len(places) != len(what):
            raise InputError("every table of predictions needs its size", given=f"tables: {len(what)}, sizes: {len(places)}",
                             todo="--sizes 100,200,… in the order of the tables; repeats of one size bear the same number")  # fmt: skip
        tables = [form.read(path) for path in what]
        folder = Path(output) if output else what[0].parent / "curve"
        found = learning_curve(list(zip(places, tables, strict=True)), metric=metric, unit=unit, seed=seed,
                               ledger=ledger_beside(what[0]))  # fmt: skip
        _write(found, folder, "curve", curve_page(folder, found), as_json)
        return
    from overread.cases.derived import rules_of
    from overread.distributed.repeated import judged_by_grades, trainings_by_grades, trainings_by_size

    _refuse_level(form, "a run is trained anew, and its metric is of the classes that it learns")
    run, folder = what[0], Path(output) if output else what[0] / "curve"
    with _opened(run, part, metric, cache, offline, as_json) as (context, cases, split):
        asked, rules, many = _grades(grades, cases, context), rules_of(context.study.columns.derive), _whole(per_image)
        ordered = context.study.columns.consensus == "median"
        rule = "median" if ordered else "majority"  # a model of the graders needs more of them
        if grades and one_of(grades_of, ("training", "judged"), "--grades-of") == "judged":
            steps, notes = judged_by_grades(
                context.predictions(part), cases, asked, many, repeats=repeats, seed=seed, rules=rules, rule=rule
            )
            found = learning_curve(
                steps,
                metric=metric,
                seed=seed,
                part=part,
                unit=JUDGED,
                ledger=run / "ledger.jsonl" if part == "test" else None,
            )
            _write(
                found,
                folder,
                "curve",
                curve_page(folder, found, notes=tuple(notes)),
                as_json,
                "overread shift " + str(run),
            )
            return
        if grades:
            trainings = trainings_by_grades(
                cases, split, asked, many, repeats=repeats, part=part, seed=seed, rules=rules, rule=rule
            )
        else:
            shares = listed(sizes) or ("12.5%", "25%", "50%", "100%")
            trainings = trainings_by_size(cases, split, shares, repeats=repeats, part=part, seed=seed)
        learned, cautions = _train(context, trainings, folder)
        found = learning_curve([(training.size, p) for training, p, _ in learned], metric=metric, seed=seed, part=part,
                               unit="grades per image" if grades else "images",
                               ledger=run / "ledger.jsonl" if part == "test" else None,
                               models=[model for _, _, model in learned])  # fmt: skip
        pages = curve_page(folder, found, notes=trainings.notes, cautions=cautions)
    _write(found, folder, "curve", pages, as_json, "overread shift " + str(run))


def shift(
    what: Annotated[Path, typer.Argument(help="a run's folder; or one predictions .csv")],
    form: PredictionTable,
    part: Part = "tuning",
    trained_on: Annotated[str, typer.Option(help="of a table: the column that names the training site; or the site that taught the one model, or several, a+b")] = "",
    source: Annotated[str, typer.Option(help="of a table: the column that names the tested site")] = "source",
    metric: Metric = "", seed: Seed = 0, output: Given = "", cache: Cache = "", offline: Offline = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Train on one site, test on every other: the matrix, and internal minus external. Of a table without torch."""
    from overread.evaluation.generalisation.site_transfer import by_source, shift_matrix
    from overread.evaluation.ledger import ledger_beside
    from overread.reporting.pages.curve_shift import shift_page
    from overread.study.context import outlines_objects

    if not what.is_dir() and (outlined := _shift_of_outlines(what, trained_on, metric, seed)):
        folder = Path(output) if output else what.parent / "shift"
        _write(outlined, folder, "shift", shift_page(folder, outlined), as_json)
        return
    if not what.is_dir():
        results, trained = _from_table(what, trained_on, source, form)
        folder = Path(output) if output else what.parent / "shift"
        found = shift_matrix(results, trained=trained, metric=metric, seed=seed, ledger=ledger_beside(what))
        _write(found, folder, "shift", shift_page(folder, found), as_json)
        return
    from overread.distributed.repeated import trainings_by_source

    _refuse_level(form, "a run is trained anew, and its metric is of the classes that it learns")
    folder = Path(output) if output else what / "shift"
    with _opened(what, part, metric, cache, offline, as_json, outlines=outlines_objects(what)) as (
        context,
        cases,
        split,
    ):
        trainings = trainings_by_source(cases, split, part=part, seed=seed)
        if cases.target.task.dense:
            from overread.study.cells.site_matrix import matrix_of_sites

            for note in trainings.notes:
                context.say(f"  {note}")
            _tell_time(context, trainings, f"{len(trainings.all)} segmenters to train, each as the run's own was")
            found = matrix_of_sites(context, trainings, folder / "steps", part=part, metric=metric, seed=seed)
            _write(found, folder, "shift", shift_page(folder, found, notes=trainings.notes), as_json)
            return
        learned, cautions = _train(context, trainings, folder)
        results, trained, models = {}, {}, {}
        for training, predictions, model in learned:
            results |= by_source(predictions, (), name=training.name)[0]
            trained[training.name], models[training.name] = training.sources, model
        found = shift_matrix(results, trained=trained, metric=metric, seed=seed, part=part, models=models,
                             ledger=what / "ledger.jsonl" if part == "test" else None)  # fmt: skip
        pages = shift_page(folder, found, notes=trainings.notes, cautions=cautions)
    _write(found, folder, "shift", pages, as_json, "overread curve " + str(what))


def _shift_of_outlines(path: Path, trained_on: str, metric: str, seed: int) -> Any:
    """The matrix of a table of outlines with a column of who was trained on what, or of one segmenter; None of any other."""
    from overread.evaluation.generalisation.site_transfer import teachers
    from overread.evaluation.instances.outline_matrix import outline_matrix
    from overread.evaluation.instances.predicted_outlines import PredictedOutlines, are_outlines, table_of
    from overread.evaluation.ledger import ledger_beside
    from overread.study.cells.site_matrix import by_training

    if not are_outlines(path):
        return None
    held, column = table_of(path, ("source",)), trained_on or "trained_on"
    sources = sorted(set(held["source"])) if "source" in held else []
    one = trained_on and column not in held and set(teachers(trained_on, sources)) <= set(sources)
    results = {trained_on: PredictedOutlines.read(path)} if one else by_training(path, column)
    trained = {name: teachers(name, sources) for name in results}
    with bars() as progress:
        return outline_matrix(results, trained=trained, metric=metric or "ap@0.5", seed=seed, ledger=ledger_beside(path), progress=progress)  # fmt: skip


def _refuse_level(form: PredictionTable, why: str) -> None:
    if form.judge_at or form.taxonomy:
        raise InputError(f"no level can be judged at here: {why}", given=f"--judge-at {form.judge_at}", todo="leave --taxonomy and --judge-at out")  # fmt: skip


def _write(found: Any, folder: Path, name: str, pages: list[Path], as_json: bool, then: str = "") -> None:
    found.save(folder)
    stored = folder / f"{name}.json"
    typer.echo(stored.read_text("utf-8") if as_json else str(found))
    if not as_json:
        end([stored, folder / "metrics.json", *pages], then)


def _from_table(path: Path, trained_on: str, source: str, form: PredictionTable) -> tuple[Any, Any]:
    """Results and training sets of one table: by its column, or of one model whose training sites are named."""
    from dataclasses import replace

    from overread.cases.sources.tables import read_table
    from overread.evaluation.generalisation.site_transfer import by_source, read_shift

    columns = list(read_table(path).columns)
    column = trained_on or "trained_on"
    if column in columns:
        _refuse_level(form, "of several trainings in one table each is judged at its own classes")
        return read_shift(path, trained_on=column, source=source, **form.how)
    if not trained_on:
        raise InputError("nothing says which site the model was trained on", given=", ".join(map(str, columns))[:200],
                         todo="--trained-on COLUMN, or --trained-on SITE for one model")  # fmt: skip
    test = form.read(path)
    if source not in test.table:
        raise InputError(f"there is no column {source!r}", given=", ".join(map(str, columns))[:200],
                         todo="--source COLUMN")  # fmt: skip
    test = replace(test, table=test.table.assign(source=test.table[source].astype(str)))
    return by_source(test, tuple(part.strip() for part in trained_on.split("+")), name=trained_on)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError("the size of a table is a number", given=repr(text), todo="--sizes 100,200") from error


@contextmanager
def _opened(
    run: Path, part: str, metric: str, cache: str, offline: bool, quiet: bool, *, outlines: bool = False
) -> Iterator[tuple[RunContext, Cases, Split]]:
    """A run that has a model, its cases and its split; what is asked wrongly is told before anything is trained."""
    from overread.cases.split import Split
    from overread.evaluation.metrics import metric_for
    from overread.study.context import require_images
    from overread.study.question import Study

    if not outlines:
        require_images(run, "what is trained many times")
    if part not in ("tuning", "test"):
        raise InputError("models are judged on the tuning or the test part", given=repr(part), todo="--part tuning")
    if part == "test":
        say("  this opens the test set: the ledger writes down every model that is judged on it")
    if not (run / "model" / "model.json").exists():
        raise InputError("the run has no model yet, so nothing says how to train", given=str(run),
                         todo="run it to its end first: overread run")  # fmt: skip
    with open_run(Study.load(run / "study.toml"), run, cache, offline=offline, quiet=quiet) as context:
        cases = context.usable()
        if not outlines:
            metric_for(_blank(cases), metric)
        yield context, cases, Split.load(run / "split.csv")


def _blank(cases: Cases) -> Predictions:
    """An empty table of the run's target."""
    import pandas as pd

    from overread.predictions import Predictions

    columns = ["case", "patient", "split", "source", *cases.target.columns, *cases.target.task.prediction_columns]
    return Predictions(pd.DataFrame(columns=columns), cases.target)


def _grades(path: str, cases: Cases, context: RunContext) -> dict[str, Grades]:
    """The answers to each question that the labels are made of; to the one label under a blank name."""
    from overread.cases.annotators import coded, read_grades, reader_numbers
    from overread.cases.derived import columns_used, rules_of
    from overread.cases.several_questions import read_questions

    if not path:
        return {}
    if cases.target.task.multilabel:
        every = read_questions(path)
        wanted = {*cases.target.names, *columns_used(rules_of(context.study.columns.derive), list(every))}
        asked = {name: grades for name, grades in every.items() if name in wanted}
    else:
        label = context.study.columns.label
        asked = {"": read_grades(path, label=label) if label and context.study.columns.graders else read_grades(path)}
    if not cases.salt:
        return asked
    numbers = reader_numbers(asked.values())
    return {name: coded(grades, cases.salt, cases.identifiers, numbers) for name, grades in asked.items()}


def _whole(text: str) -> list[int]:
    many = [_number(each) for each in listed(text)]
    if not many or any(k != int(k) or k < 1 for k in many):
        raise InputError("grades per image are whole numbers from 1 on", given=repr(text), todo="--per-image 1,2,3")
    return [int(k) for k in many]


def _train(
    context: RunContext, trainings: Trainings, folder: Path
) -> tuple[list[tuple[Training, Predictions, str]], tuple[str, ...]]:
    """Every training's predictions, after its cost was told, and what to be careful about."""
    from overread.distributed.repeated import recipe_again, train_each
    from overread.learning.predict import load_model
    from overread.study.context import recipe_of

    about, study = load_model(context.folder).about, context.study
    recipe = recipe_again(recipe_of(study), about.recipe, about.backbone.pretrained)
    for note in trainings.notes:
        context.say(f"  {note}")
    _tell_cost(context, trainings, recipe, quick=recipe.method != about.recipe.method)

    def announce(training: Training, new: bool) -> None:
        many = f"{len(training.train):,} training images of {count(training.train.patients, 'patient')}"
        context.say(f"  {training.name}: {many}{'' if new else ', kept from before'}")

    learned = train_each(
        trainings, recipe, folder / "steps", weights=study.training.weights or None, cache=context.cache,
        device=study.resources.device, threads=study.resources.threads, network=context.network,
        progress=context.progress, done=announce,
    )  # fmt: skip
    return learned, _cautions(trainings, recipe)


#: Fewer judged patients than this, and a curve says little: the page tells so.
FEW = 30


def _cautions(trainings: Trainings, recipe: Recipe) -> tuple[str, ...]:
    one = trainings.all[0]
    found = []
    if recipe.method != "features" and one.tuning.digest == one.judged.digest:
        found.append("The tuning patients also chose the snapshot of each model, so the values are on the optimistic side, and "
                     "more so for small training sets. They tell whether more images help; publish those of the test part.")  # fmt: skip
    if one.judged.patients < FEW:
        found.append(f"The {one.part} part has {count(one.judged.patients, 'patient')}: the intervals are wide. A study with a larger "
                     f"share for {one.part} would tell more.")  # fmt: skip
    return tuple(found)


def _tell_cost(context: RunContext, trainings: Trainings, recipe: Recipe, *, quick: bool) -> None:
    """How many trainings, and how long they will take if they go as the run's own did."""
    how = f"{len(trainings.all)} models to train ({recipe.method}, {recipe.backbone or ' + '.join(recipe.descriptors)})"
    if quick:
        how += "; frozen features in the place of fine-tuning, which is quicker"
    _tell_time(context, trainings, how, known=not quick)


def _tell_time(context: RunContext, trainings: Trainings, how: str, *, known: bool = True) -> None:
    """``how`` many trainings of which kind, and about how long they take, where the run's own is ``known`` to be alike."""
    from overread.cases.split import Split
    from overread.reporting.words import duration

    took = context.record().get("steps", {}).get("model", {}).get("seconds")
    own = len(Split.load(context.folder / "split.csv").rows(context.usable(), "train"))
    about = f", about {duration(took * trainings.images / own)} in all" if took and own and known else ""
    context.say(f"  {how}{about}; stop at any time: what is trained is kept")
