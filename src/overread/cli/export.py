"""The command that writes what other programs take: ONNX, a folder of plain torch, results as DICOM objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overread import __version__
from overread.cli.console import bars, end, require_room, say
from overread.cli.options import Threads
from overread.core.errors import InputError
from overread.core.phrases import count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from overread.cases.cases import Cases
    from overread.core.progress import Progress
    from overread.evaluation.decision.class_decision import Frozen
    from overread.evaluation.decision.single_case import Opinion
    from overread.explanation.explanation import Explanation
    from overread.learning.model import Model
    from overread.study.opinion import Reader


def export(
    model: Annotated[Path, typer.Argument(help="a run's folder, or its model/")],
    onnx: Annotated[bool, typer.Option("--onnx", help="one ONNX file; needs overread[export]")] = False,
    torch: Annotated[bool, typer.Option("--torch", help="a folder that a few lines of plain torch load")] = False,
    dicom: Annotated[list[str], typer.Option("--dicom", help="a DICOM image or a folder of them: a structured report and a picture with the map for each case; may be repeated; needs overread[export]")] = [],
    labels: Annotated[bool, typer.Option("--labels", help="of a run that outlines objects: a label TIFF and a table of objects for each image, as napari and Fiji open them")] = False,
    geojson: Annotated[bool, typer.Option("--geojson", help="of a run that outlines objects, or of slides: GeoJSON for QuPath, of slides the lesions found")] = False,
    part: Annotated[str, typer.Option(help="test or tuning, of --labels and --geojson")] = "test",
    output: Annotated[str, typer.Option("-o", "--output", help="the folder to write; beside the run if not given")] = "",
    deidentified: Annotated[bool, typer.Option("--deidentified", help="DICOM results without the patient, by the basic profile; they carry patient and study as your PACS needs them if not given")] = False,
    no_map: Annotated[bool, typer.Option("--no-map", help="DICOM results without the picture")] = False,
    images: Annotated[str, typer.Option(help="images to compare on: a folder or a table; the run's own, but for its test part, if not given")] = "",
    fewest: Annotated[int, typer.Option(min=1, help="images that must be compared")] = 32,
    threads: Threads = 0,
) -> None:  # fmt: skip
    """A model for other programs, compared with the model itself before anything is written; or the objects it outlined."""
    kinds = (("onnx", onnx), ("torch", torch), ("dicom", dicom), ("labels", labels), ("geojson", geojson))
    from overread.study.context import require_images

    wanted = [kind for kind, asked in kinds if asked]
    if not wanted:
        raise InputError("nothing is asked for", todo="give one of --onnx, --torch and --dicom IMAGE; of outlines --labels and --geojson")  # fmt: skip
    if output and len(wanted) > 1:
        raise InputError(
            "one folder for several exports", given=output, todo="give -o with one of them, or leave it out"
        )
    run = model.parent if model.name == "model" and (model.parent / "study.toml").exists() else model
    places = {
        kind: Path(output) if output else run.resolve().with_name(f"{run.resolve().name}-{kind}") for kind in wanted
    }
    if onnx or torch or dicom:
        require_images(run, "an export as --onnx, --torch or --dicom")
    _require_places(places, run)
    for kind in ("labels", "geojson"):
        if kind in places:
            _export_objects(run, places[kind], kind, part)
    if dicom:
        _export_dicom(model, dicom, places["dicom"], threads, deidentified=deidentified, with_map=not no_map)
    if onnx or torch:
        _export_model(model, run, places, images, fewest, threads)


def _export_objects(run: Path, place: Path, kind: str, part: str) -> None:
    """The outlined objects of a part of a run, for napari, Fiji and QuPath."""
    from overread.core.errors import one_of
    from overread.core.files import write_json
    from overread.export.contract import CONTRACT
    from overread.export.object_files import write_geojson, write_label_folder
    from overread.study.context import reads_slides
    from overread.study.outline_steps import exported_images

    if reads_slides(run):
        return _export_lesions(run, place, kind, one_of(part, ("test", "tuning"), "part"))
    images = exported_images(run, one_of(part, ("test", "tuning"), "part"))
    written = write_geojson(place, images) if kind == "geojson" else write_label_folder(place, images)
    then = (
        f"drag one onto the open image in QuPath: {written[0].name}"
        if kind == "geojson"
        else f"read {place / 'README.md'}: the line that opens one in napari"
    )
    write_json(place / CONTRACT, {"kind": kind, "made_by": f"overread {__version__}", "part": part})
    say(f"{count(sum(path.suffix in ('.tif', '.geojson') for path in written), 'image')} of the {part} part")
    end([place], then)


def _export_lesions(run: Path, place: Path, kind: str, part: str) -> None:
    """The lesions found on the slides of a part of a run, for QuPath."""
    from overread.core.files import write_json
    from overread.export.contract import CONTRACT
    from overread.export.lesion_files import write_lesions
    from overread.study.slides.lesion_export import exported_lesions

    if kind != "geojson":
        raise InputError("label images are of runs that outline objects, and this one finds lesions on slides", given=f"--{kind}", todo="say --geojson")  # fmt: skip
    written = write_lesions(place, exported_lesions(run, part))
    write_json(place / CONTRACT, {"kind": kind, "made_by": f"overread {__version__}", "part": part})
    say(f"{count(len(written), 'slide')} of the {part} part")
    end([place], f"drag one onto the open slide in QuPath: {written[0].name}" if written else "")


def _export_model(model: Path, run: Path, places: dict[str, Path], images: str, fewest: int, threads: int) -> None:
    from overread.learning.predict import load_model

    loaded, frozen, card = load_model(model), _frozen(run), run / "model_card.md"
    from overread.export.onnx_file import export_onnx
    from overread.export.specimens import specimens
    from overread.export.torch_folder import export_torch

    written: list[Path] = []
    with bars() as progress:
        held = specimens(
            loaded, _cases(loaded, run, images, progress), fewest=fewest, threads=threads, progress=progress, say=say
        )
        text = card.read_text("utf-8") if card.is_file() else ""
        if "onnx" in places:
            written += export_onnx(loaded, held, places["onnx"], frozen=frozen, card=text, progress=progress, say=say)
        if "torch" in places:
            written += export_torch(loaded, held, places["torch"], frozen=frozen, card=text, progress=progress)
    for kind in ("onnx", "torch"):
        if kind in places:
            _tell(places[kind])
    end(written, f"read {written[0].parent / 'README.md'}: the lines that use it")


def _require_places(places: dict[str, Path], run: Path) -> None:
    """Refuse before anything is calculated what could not be written in the end."""
    from overread.export.contract import require_place
    from overread.export.dicom_objects import require_highdicom
    from overread.export.onnx_file import require_libraries

    if "onnx" in places:
        require_libraries()
    if "dicom" in places:
        require_highdicom()
    for place in places.values():
        require_place(place, run)
        require_room(place.parent)


def _frozen(run: Path) -> tuple[Frozen, ...]:
    from overread.evaluation.decision.class_decision import load_frozen

    path = run / "evaluation" / "operating.json"
    return load_frozen(path) if path.is_file() else ()


def _cases(model: Model, run: Path, images: str, progress: Progress) -> Cases:
    """The images to compare on: those that were named, or the run's own of its tuning and training parts."""
    if images:
        from overread.learning.inputs import new_cases

        return new_cases(model, images, progress=progress)
    if not (run / "study.toml").exists():
        raise InputError(
            "the folder is no run, so there are no images to compare the exported model on",
            given=str(run),
            todo="name some: --images FOLDER",
        )
    from overread.cases.split import Split
    from overread.study.question import Study
    from overread.study.steps import open_study

    _, cases = open_study(Study.load(run / "study.toml"), run, progress)
    parts = Split.load(run / "split.csv").table
    known = parts["case"][parts["part"] != "test"]
    return cases.take(cases.table["case"].isin(known).to_numpy())


def _tell(place: Path) -> None:
    from overread.core.files import read_json
    from overread.export.contract import CONTRACT

    held = read_json(place / CONTRACT)
    compared, prepared = held["compared"], held["compared"]["preparation"]
    say(
        f"{place.name}: at most {compared['largest difference']:.1e} in a probability from the model on {compared['images']} images at batch sizes 1 and 7"
    )
    say(f"  {held['how']}")
    if prepared["images"]:
        say(
            f"  prepare.py: at most {prepared['grey_levels']:g} grey levels, {prepared['probability']:.1e} in a probability on {prepared['images']} of them"
        )
    else:
        say("  prepare.py (numpy and Pillow) does not read these files: export.json says how their pixels are prepared")


def _export_dicom(
    model: Path, wanted: list[str], place: Path, threads: int, *, deidentified: bool, with_map: bool
) -> None:
    """For each case of the images a structured report and a picture, as new files of ``place``."""
    from overread.cases.cases import paths
    from overread.cases.sources.new_images import holds_images, is_image
    from overread.deidentify.rules import Rules, new_salt
    from overread.export.dicom_objects import (
        Algorithm,
        may_name_patient,
        picture_of,
        read_source,
        report_of,
        write_object,
    )
    from overread.images.address import parse
    from overread.images.dicom.header import is_dicom_file
    from overread.learning.inputs import new_cases
    from overread.study.opinion import open_reader

    for source in wanted:
        if is_image(source) and holds_images(source) and not is_dicom_file(parse(source).path):
            raise InputError(f"{Path(source).name} is no DICOM file, and results are filed beside DICOM images only", given=source,
                             todo="give a DICOM file, or a folder of them; `overread predict` and `overread explain` take other images")  # fmt: skip

    reader, rules = open_reader(model, threads=threads), Rules(new_salt()) if deidentified else None
    about, written, reports, covered = reader.model.about, list[Path](), 0, 0
    algorithm = Algorithm(f"overread {about.backbone.name}", __version__, reader.model.digest)
    with bars() as progress:
        for source in wanted:
            cases = new_cases(reader.model, source, progress=progress)
            found = {one.case: one for one in reader.opinions(cases, progress=progress, say=say)}
            maps = _maps(reader, cases, found, progress) if with_map else {}
            addresses, names = paths(cases), cases.table["case"].astype(str)
            for case, opinion in found.items():
                reports += 1
                rows = (names == case).to_numpy().nonzero()[0].tolist()
                headers = {row: read_source(addresses[row], rules) for row in rows}
                frames = [parse(addresses[row]).frame for row in rows]
                start = place / f"{reports:04}"
                written.append(
                    write_object(report_of([*headers.values()], opinion, algorithm, frames), f"{start}-report.dcm")
                )
                hide = with_map and (
                    any(finding.kind == "burned-in" for finding in opinion.findings)
                    or any(may_name_patient(addresses[row]) for row in rows)
                )
                for number, (shows, one) in enumerate(maps.get(case, ()), start=1):
                    which = f"image {rows.index(shows[0]) + 1} of {len(rows)}; " if len(shows) < len(rows) else ""
                    picture = picture_of([headers[row] for row in shows], _shown(one.on_grey() if hide else one), opinion, algorithm,
                                         which + _caption(one))  # fmt: skip
                    written.append(
                        write_object(picture, f"{start}-map{f'-{number}' if len(maps[case]) > 1 else ''}.dcm")
                    )
                    covered += hide
    if covered:
        say(f"{count(covered, 'picture')} without the image, the map on grey: its pixels may hold text that names the patient")  # fmt: skip
    if not deidentified:
        say("these files name the patient and the study, as your PACS needs them; --deidentified leaves both out")
    end(written, "look at them in your viewer before they are sent anywhere; nothing was sent")


def _maps(
    reader: Reader, cases: Cases, found: dict[str, Opinion], progress: Progress
) -> dict[str, list[tuple[list[int], Explanation]]]:
    """Of each case its maps for what is called, else for the largest answer: the rows of the images that each shows, and it."""
    from overread.explanation.explain import explanations

    names, known, unread = cases.table["case"].astype(str).to_numpy(), reader.model.target.names, dict[int, str]()
    targets = {case: one.called if one.called in known else max(one.answers, key=lambda answer: answer.value).name
               for case, one in found.items()}  # fmt: skip
    made: dict[str, list[Explanation]] = {}
    for one in explanations(
        reader.model, cases, targets=targets, threads=reader.threads, errors=unread, progress=progress, say=say
    ):
        made.setdefault(one.case, []).append(one)
    together = reader.model.about.recipe.fusion != "single"
    shown = {}
    for case, each in made.items():
        rows = [int(row) for row in (names == case).nonzero()[0] if row not in unread]
        shown[case] = [(rows if together else [row], one) for row, one in zip(rows, each, strict=not together)]
    return shown


def _caption(found: Explanation) -> str:
    """Of what and by what the map is, and what its checks say where they were made."""
    layer = f", layer {found.layer}" if found.layer else ""
    verdict = "it says nothing for the target" if found.nothing else found.verdict or "its checks were not made"
    return f"right: {found.method} for {found.target}{layer}: {verdict}"


def _shown(found: Explanation) -> NDArray[np.uint8]:
    """What the network saw and its map over it, side by side, each image of the case under the one before."""
    import numpy as np

    from overread.explanation.overlay import grey_or_colour, overlay, strongest

    scale, signed = max(map(strongest, found.maps)), found.about.signed
    rows = []
    for image, values in zip(found.images, found.maps, strict=True):
        if values.ndim == 3:  # of a volume the plane with the strongest value
            plane = int(np.nan_to_num(np.abs(values)).max(axis=(1, 2)).argmax())
            image, values = image[plane], values[plane]
        rows.append(np.concatenate([grey_or_colour(image), overlay(image, values, signed=signed, scale=scale)], axis=1))
    return np.concatenate(rows)
