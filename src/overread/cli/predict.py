"""What a model says: of a run's own parts, of a table, of one case for people, or of a folder as a page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overread.cases.sources.layout import Layout
from overread.cli.console import bars, end, open_run, require_apart, say
from overread.cli.options import AsJson, Only, listed
from overread.core.errors import InputError
from overread.core.phrases import command_of, count
from overread.study.question import Columns, Resources, Study

if TYPE_CHECKING:
    from overread.cases.cases import Cases
    from overread.core.progress import Progress
    from overread.evaluation.decision.single_case import Opinion
    from overread.learning.model import Model
    from overread.study.opinion import Reader

#: The roles of a table that is to be predicted; of images given one by one what they say of them.
PREDICTED = ("image", "label", "patient", "case", "source", "view", "time")
#: Those of a table whose objects are outlined, and whose outlines may be known.
OUTLINED = ("mask", "pixel_size")
#: Those of slides: microns of a pixel, and the outlines of lesions, where they are known.
OF_SLIDES = ("pixel_size", "outlines")
#: What of its layout counts then.
LAID_OUT = ("images_in", "patient_from", "masks", "sheet", "encoding", "rename_label", "identifiers")
#: Columns of it that go along into the predictions.
CARRIED = ("subgroups", "keep_columns")
#: Where predictions of new images go by default.
USUAL = "predictions.csv"


def predict(
    model: Annotated[Path, typer.Argument(help="a run's folder, or a model's folder")],
    columns: Annotated[Columns, Only((*PREDICTED, *OUTLINED, "outlines", *CARRIED))],
    layout: Annotated[Layout, Only(LAID_OUT)],
    resources: Annotated[Resources, Only(("device", "threads"))],
    images: Annotated[list[str], typer.Argument(help="images (one: printed for people; several, a folder, a zip or \"*.dcm\": a row each and a page), or a table; without any, the run's tuning and test parts")] = [],
    output: Annotated[str, typer.Option("-o", "--output", help=f"the predictions, {USUAL} if not given; of outlines a folder, outlines if not given, of slides too, slides if not given")] = "",
    names: Annotated[str, typer.Option(help="hash or keep: whether files stand under their names; keep if not given, of a table as when the model was trained")] = "",
    together: Annotated[bool | None, typer.Option("--one-case/--each-a-case", help="several images are those of one case (with --view or --time a value for each, behind commas), or a case each")] = None,
    as_trained: Annotated[bool, typer.Option("--as-trained", help="the model's own probabilities, without calibration by tuning data")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Predict the run's tuning and test parts, the images of a table, or new images: for people, with what to think of it."""
    from overread.cases.sources.new_images import expanded, holds_images
    from overread.study.context import outlines_objects, reads_slides

    given = expanded(images)
    told: dict[str, object] = {"--one-case or --each-a-case": together is not None, "--json": as_json}
    if not given:
        told |= {"--output": output, "--names": names, "--as-trained": as_trained, "a column": columns != Columns(),
                 "a layout": layout != Layout(), "--device or --threads": resources != Resources()}  # fmt: skip
        _refuse_unused(told, "the run's own parts are predicted as its study.toml says")
        _predict_parts(model)
    elif outlines_objects(model):
        told |= {"--as-trained": as_trained, "--label": columns.label, "--view or --time": columns.view or columns.time}
        _refuse_unused(told, "objects are outlined in each image by itself")
        _outline(model, given, columns, layout, names, resources, Path(output or "outlines"))
    elif reads_slides(model):
        told |= {"--as-trained": as_trained, "--mask": columns.mask, "--view or --time": columns.view or columns.time}
        _refuse_unused(told, "a slide is read by its tiles")
        _read_slides(model, given, columns, layout, names, resources, Path(output or "slides"))
    elif columns.mask or columns.pixel_size or columns.outlines:
        raise InputError("masks, outlines and pixel sizes are of models that outline objects or read slides, and this one does not", given="--mask, --outlines or --pixel-size", todo="leave them out")  # fmt: skip
    elif len(given) == 1 and (columns.label or not holds_images(given[0])):
        _refuse_unused(told, "a table's predictions are a table")
        if not as_trained:
            say(
                "probabilities are the model's own, as with --as-trained: those that `overread calibrate` or the tuning part would mend are told of images only"
            )
        _predict_table(model, given[0], columns, layout, names, resources, Path(output or USUAL))
    else:
        _refuse_columns(columns)
        from overread.study.opinion import open_reader

        reader = open_reader(model, device=resources.device, threads=resources.threads, as_trained=as_trained)
        if _is_one(reader, given, columns, together):
            _predict_case(reader, given, columns, output, names, as_json)
        else:
            _predict_each(reader, given, layout, names, Path(output or USUAL), as_json)


# -- the run's own parts, and tables ------------------------------------------------------------------------------


def _predict_parts(folder: Path) -> None:
    from overread.study import steps

    with open_run(Study.load(folder / "study.toml"), folder) as context:
        steps.predict(context)
    written = [folder / "predictions" / f"{part}.csv" for part in ("tuning", "test")]
    end(written, ["overread", "evaluate", folder])


def _outline(
    folder: Path, given: Sequence[str], columns: Columns, layout: Layout, names: str, resources: Resources, home: Path
) -> None:
    """Outline the objects of images, a folder, a zip or a table of them."""
    from overread.cases.cases import paths
    from overread.cases.sources.new_images import image_cases
    from overread.study.cells.new_outlines import FOUND, TRUE, outline_new

    require_apart(home, given, (FOUND, TRUE))
    model, table, hide, layout = _opened(folder, given, layout, names, home)
    kept = (*columns.subgroups, *columns.keep_columns)
    with bars() as progress:
        if table:
            cases = _table_of(model, given[0], columns, layout, progress)
        else:
            _refuse_columns(columns, "mask", "patient", "case")
            cases = image_cases(given, model.target, planes=model.about.planes, layout=layout)
        cases = cases if columns.mask else _sized(cases, columns.pixel_size)
        require_apart(home, paths(cases), (FOUND, TRUE))
        _say_notes(cases)
        made = outline_new(model, cases, home, hide=hide, keep=kept, device=resources.device, threads=resources.threads, progress=progress, say=say)  # fmt: skip
    say(f"{count(made.objects, 'object')} in {count(made.images, 'image')}")
    then = ["overread", "evaluate", made.table] if made.judged else ["overread", "measure", made.table]
    end([made.table, made.page], then)


def _read_slides(
    folder: Path, given: Sequence[str], columns: Columns, layout: Layout, names: str, resources: Resources, home: Path
) -> None:
    """Map slides of a table, a folder or one by one, and say what they show."""
    from overread.cases.cases import paths
    from overread.cases.sources.new_images import image_cases
    from overread.cases.sources.outline_files import slides_among
    from overread.learning.inputs import new_cases
    from overread.study.slides.new_slides import MAPS, read_new_slides
    from overread.study.slides.slide_rule import SlideReading

    require_apart(home, given, (MAPS,))
    model, table, hide, layout = _opened(folder, given, layout, names, home)
    reading = SlideReading.load(folder / "model" if (folder / "model").is_dir() else folder)
    kept = (*columns.subgroups, *columns.keep_columns)
    with bars() as progress:
        if table:
            roles = {name: getattr(columns, name) or None for name in (*PREDICTED, *OF_SLIDES)}
            cases = new_cases(
                model,
                given[0],
                names="hash" if hide else "keep",
                roles=roles,
                layout=layout,
                keep=kept,
                progress=progress,
            )
        else:
            _refuse_columns(columns, "patient", "case")
            whole = replace(model.about.planes, slides=False, tumour=())
            cases = image_cases(given, model.target, planes=whole, layout=layout)
            cases = _sized(cases, columns.pixel_size)
            cases = slides_among(cases, "yes", columns.outlines or None, model.about.planes, bool(columns.pixel_size))
        require_apart(home, paths(cases), (MAPS,))
        _say_notes(cases)
        made = read_new_slides(model, reading, cases, home, hide=hide, keep=kept, device=resources.device, threads=resources.threads, progress=progress, say=say)  # fmt: skip
    say(
        f"{count(made.slides, 'slide')}; {count(made.places, 'place')} from {reading.threshold:.3f} on, the threshold of tuning slides"
    )
    if made.seen:
        say(
            f"{count(made.seen, 'patient')} trained or tuned the model (split: seen): what is said of them is no test of it"
        )
    written = [
        path
        for name in ("predictions.csv", "slides.html", "places.csv", "lesions.csv", "slides.csv", "maps")
        if (path := home / name).exists()
    ]
    end(
        written,
        ["overread", "evaluate", made.answers]
        if columns.label
        else f"{command_of(['open', made.page])}: the slides beside their heat maps, the highest scores first; places.csv: where to look, in µm",
    )


def _opened(folder: Path, given: Sequence[str], layout: Layout, names: str, home: Path) -> tuple[Model, bool, bool, Layout]:  # fmt: skip
    """The model, whether a table was given, whether names are hidden, and the layout with the model's answer to who is the same patient;
    the folder of what is written can be written into."""
    from overread.cases.sources.new_images import holds_images
    from overread.cli.console import output_folder
    from overread.core.errors import one_of
    from overread.learning.predict import load_model

    model, table = load_model(folder), len(given) == 1 and not holds_images(given[0])
    usual = "hash" if table and model.about.names_salt else "keep"
    hide = one_of(names or usual, ("keep", "hash"), "names") == "hash"
    layout = _layout(model, layout)
    output_folder(str(home), home)
    return model, table, hide, layout


def _sized(cases: Cases, pixel_size: str) -> Cases:
    """With what was said of the microns of a pixel: a number, or a column; blank for nothing."""
    from overread.cases.sources.mask_files import microns

    return replace(cases, table=cases.table.assign(pixel_size=microns(pixel_size, cases.table))) if pixel_size else cases  # fmt: skip


def _say_notes(cases: Cases) -> None:
    for note in cases.notes:
        say(f"  {note}")


def _table_of(model: Model, table: str, columns: Columns, layout: Layout, progress: Progress) -> Cases:
    """A table of images to outline, with its masks where it has some; names as they stand, for hiding them comes later."""
    from overread.cases.sources.read_cases import read_cases
    from overread.learning.inputs import new_cases

    kept = (*columns.subgroups, *columns.keep_columns)
    roles: dict[str, Any] = {role: getattr(columns, role) or None for role in ("image", "patient", "case", "source")}
    if not columns.mask:
        return new_cases(model, table, names="keep", roles=roles, layout=layout, keep=kept, progress=progress)
    return read_cases(table, **roles, mask=columns.mask, pixel_size=columns.pixel_size, names="keep", planes=model.about.planes, layout=layout, keep=kept, progress=progress)  # fmt: skip


def _predict_table(
    folder: Path, table: str, columns: Columns, layout: Layout, names: str, resources: Resources, output: Path
) -> None:
    from overread.learning.inputs import new_cases
    from overread.learning.predict import load_model
    from overread.learning.predict import predict as predict_cases
    from overread.study.class_levels import as_learned

    if output.resolve() == Path(table).resolve():
        raise InputError("the predictions would be written over the table of the images", given=f"-o {output}", todo="choose another file with -o")  # fmt: skip
    model = load_model(folder)
    roles: dict[str, str | None] = {name: getattr(columns, name) or None for name in PREDICTED}
    with bars() as progress:
        cases = new_cases(model, table, names=names, roles=roles, layout=_layout(model, layout), keep=(*columns.subgroups, *columns.keep_columns),
                          progress=progress, learned=as_learned(folder))  # fmt: skip
        made = predict_cases(
            model, cases, device=resources.device, threads=resources.threads, progress=progress, say=say
        )
    _say_notes(cases)
    if left_out := cases.table["case"].nunique() - len(made):
        say(f"{count(left_out, 'case')} left out: the images cannot be read")
    if many := made.table["patient"][made.table["split"] == "seen"].nunique():
        say(
            f"{many:,} of {made.table['patient'].nunique():,} patients trained or tuned the model (split: seen): what is said of them is no test of it"
        )
    made.save(output)
    end([output], ["overread", "evaluate", output] if columns.label else "")


def _layout(model: Model, layout: Layout) -> Layout:
    """The layout with the model's answer to who is the same patient."""
    about, answer = model.about, layout.identifiers
    if about.names_salt and about.identifiers and answer not in ("ask", about.identifiers):
        raise InputError("the model knows patients by codes, and takes identifiers otherwise", given=f"{answer}, the model's: {about.identifiers}",
                         todo="train with the same --identifiers, or with --names keep")  # fmt: skip
    return replace(layout, identifiers=about.identifiers or answer) if answer == "ask" else layout


# -- what was given ------------------------------------------------------------------------------------------------


def _refuse_unused(told: Mapping[str, object], why: str) -> None:
    """Raise :class:`InputError` for options that say nothing here: none is left out in silence."""
    if unused := [option for option, given in told.items() if given]:
        raise InputError(f"{why}, and an option that was given means nothing there", given=", ".join(unused),
                         todo="leave it out, or give images: files, a folder, a zip")  # fmt: skip


def _refuse_columns(columns: Columns, *more: str) -> None:
    for name in ("image", "label", "source", *CARRIED, *more):
        if getattr(columns, name):
            raise InputError(f"--{name.replace('_', '-').removesuffix('s')} names a column, and there is no table", given=str(getattr(columns, name)),
                             todo="give a table of the images, or leave it out")  # fmt: skip


def _is_one(reader: Reader, given: Sequence[str], columns: Columns, together: bool | None) -> bool:
    """Whether the images are those of one case; asked where a guess could be wrong."""
    from overread.cases.sources.new_images import is_image

    if len(given) == 1 and is_image(given[0]):
        return True
    if not all(map(is_image, given)):
        if together:
            raise InputError(
                "the images of one case are given one by one", given=", ".join(given)[:200], todo="name its files"
            )
        return False
    if together is None and reader.model.about.recipe.fusion != "single" and not (columns.view or columns.time):
        raise InputError("the model sees the images of a case together, and nobody says whether these are of one", given=count(len(given), "image"),
                         todo="say --one-case, with --view A,B where it tells views apart, or --each-a-case")  # fmt: skip
    return bool(columns.view or columns.time) if together is None else together


# -- one case ------------------------------------------------------------------------------------------------------


def _predict_case(
    reader: Reader, given: Sequence[str], columns: Columns, output: str, names: str, as_json: bool
) -> None:
    opinion = reader.opinion(given, case=columns.case, views=listed(columns.view), times=listed(columns.time), patient=columns.patient)  # fmt: skip
    if names == "hash":
        (opinion,) = _under_codes(reader, [opinion])
    typer.echo(opinion.to_json() if as_json else str(opinion))
    if output:
        end([_save(reader, [opinion], {}, Path(output))], "")


# -- many ----------------------------------------------------------------------------------------------------------


def _predict_each(
    reader: Reader, given: Sequence[str], layout: Layout, names: str, output: Path, as_json: bool
) -> None:
    from overread.cases.sources.new_images import image_cases
    from overread.core.errors import one_of
    from overread.reporting.pages.predict import predictions_page

    hide = one_of(names or "keep", ("keep", "hash"), "names") == "hash"
    aside: list[str] = []
    with bars() as progress:
        about = reader.model.about
        alone = about.recipe.fusion == "single" and about.planes.how == "whole"
        cases = image_cases(
            given, reader.model.target, alone=alone, planes=about.planes, layout=_layout(reader.model, layout)
        )
        _say_notes(cases)
        found = list(reader.opinions(cases, progress=progress, say=aside.append))
        places = _places(cases)
        patients = _patients(reader.model, cases)
    for line in () if hide else aside[:10]:
        say(line)
    left = cases.table["case"].nunique() - len(found)
    if left:
        say(f"{count(left, 'case')} set aside: the images cannot be read")
    if hide:
        found, places, patients = _coded(reader, found, places, patients)
    written = _save(reader, found, patients, output)
    page = predictions_page(output.with_suffix(".html"), found, places, set_aside=left)
    if as_json:
        typer.echo(json.dumps([opinion.plain() for opinion in found], indent=2, ensure_ascii=False))
    for line in _summary(found):
        say(line)
    end([written, page], ["open", page])


def _places(cases: Cases) -> dict[str, str]:
    """The address of the first image of each case."""
    from overread.cases.cases import paths

    return dict(zip(cases.table["case"][::-1], paths(cases)[::-1], strict=True))


def _patients(model: Model, cases: Cases) -> dict[str, str]:
    """A code for the patient of each case: what DICOM names is in no file of ours. A case without one is its own."""
    from overread.cases.privacy import patient_codes, salt_of

    one = cases.table.drop_duplicates("case")
    coded = patient_codes(one["patient"], model.about.names_salt or salt_of(cases.table), model.about.identifiers)
    return {case: code or case for case, code in zip(one["case"], coded, strict=True)}


def _under_codes(reader: Reader, found: Iterable[Opinion]) -> list[Opinion]:
    """The opinions under codes in place of the names of files."""
    from overread.cases.privacy import codes

    opinions, salt = list(found), reader.model.about.names_salt or reader.model.digest
    made = codes([opinion.case for opinion in opinions], salt)
    return [opinion.renamed(code, codes(opinion.images, salt)) for opinion, code in zip(opinions, made, strict=True)]


def _coded(
    reader: Reader, found: list[Opinion], places: dict[str, str], patients: dict[str, str]
) -> tuple[list[Opinion], dict[str, str], dict[str, str]]:
    made = _under_codes(reader, found)
    new = {old.case: fresh.case for old, fresh in zip(found, made, strict=True)}
    whose = {new[case]: new.get(who, who) for case, who in patients.items() if case in new}
    return made, {new[case]: place for case, place in places.items() if case in new}, whose


def _save(reader: Reader, found: Sequence[Opinion], patients: dict[str, str], output: Path) -> Path:
    """The table of predictions, which every command that judges reads."""
    import pandas as pd

    from overread.predictions import Predictions

    target = reader.model.target
    rows = []
    for opinion in found:
        values = dict(zip(target.task.prediction_columns, (answer.value for answer in opinion.answers), strict=True))
        who = {"case": opinion.case, "patient": patients.get(opinion.case, opinion.case), "split": "seen" if opinion.seen else "", "source": ""}  # fmt: skip
        rows.append({**who, **opinion.row(), **dict.fromkeys(target.columns, target.task.unknown), **values})
    made = Predictions(pd.DataFrame(rows), target, by=reader.model.facts, identifiers="as-written")
    return made.save(output)


def _summary(found: Sequence[Opinion]) -> list[str]:
    """How many are called what, and how many are not to be relied on."""
    from collections import Counter

    called = Counter(opinion.called for opinion in found if opinion.called)
    lines = [f"{count(len(found), 'case')}: " + ", ".join(f"{many:,} called {name}" for name, many in called.most_common(8))] if called else []  # fmt: skip
    doubtful = sum(not opinion.trusted for opinion in found)
    if doubtful:
        lines.append(f"{count(doubtful, 'case')} with a warning: unlike the training data, or a failed check of the image (columns unlike and failed_checks)")  # fmt: skip
    if seen := sum(bool(opinion.seen) for opinion in found):
        lines.append(
            f"{count(seen, 'case')} of the training (split: seen): what is said of them is no test of the model"
        )
    return [*lines, *([found[0].calibration] if found[0].calibration else []), f"more of one of them: {command_of(['overread', 'predict', 'RUN', 'IMAGE'])}"]  # fmt: skip
