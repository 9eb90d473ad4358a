"""The command that writes what other programs take: ONNX, a folder of plain torch, results as DICOM objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overread.cli.console import bars, end, require_room, say
from overread.cli.options import Threads
from overread.core.errors import InputError

if TYPE_CHECKING:
    from overread.cases.cases import Cases
    from overread.core.progress import Progress
    from overread.evaluation.decision.class_decision import Frozen
    from overread.learning.model import Model


def export(
    model: Annotated[Path, typer.Argument(help="a run's folder, or its model/")],
    onnx: Annotated[bool, typer.Option("--onnx", help="one ONNX file; needs overread[export]")] = False,
    torch: Annotated[bool, typer.Option("--torch", help="a folder that a few lines of plain torch load")] = False,
    output: Annotated[str, typer.Option("-o", "--output", help="the folder to write; beside the run if not given")] = "",
    images: Annotated[str, typer.Option(help="images to compare on: a folder or a table; the run's own, but for its test part, if not given")] = "",
    fewest: Annotated[int, typer.Option(min=1, help="images that must be compared")] = 32,
    threads: Threads = 0,
) -> None:  # fmt: skip
    """A model for other programs, compared with the model itself before anything is written."""
    wanted = [kind for kind, asked in (("onnx", onnx), ("torch", torch)) if asked]
    if not wanted:
        raise InputError("nothing is asked for", todo="give one of --onnx and --torch")
    if output and len(wanted) > 1:
        raise InputError("one folder for two exports", given=output, todo="give -o with one of them, or leave it out")
    from overread.learning.predict import load_model

    run = model.parent if model.name == "model" and (model.parent / "study.toml").exists() else model
    loaded, frozen, card = load_model(model), _frozen(run), run / "model_card.md"
    places = {
        kind: Path(output) if output else run.resolve().with_name(f"{run.resolve().name}-{kind}") for kind in wanted
    }
    _require_places(places, run)
    from overread.export.onnx_file import export_onnx
    from overread.export.specimens import specimens
    from overread.export.torch_folder import export_torch

    written: list[Path] = []
    with bars() as progress:
        held = specimens(
            loaded, _cases(loaded, run, images, progress), fewest=fewest, threads=threads, progress=progress, say=say
        )
        text = card.read_text("utf-8") if card.is_file() else ""
        if onnx:
            written += export_onnx(loaded, held, places["onnx"], frozen=frozen, card=text, progress=progress, say=say)
        if torch:
            written += export_torch(loaded, held, places["torch"], frozen=frozen, card=text, progress=progress)
    for place in places.values():
        _tell(place)
    end(written, f"read {written[0].parent / 'README.md'}: the lines that use it")


def _require_places(places: dict[str, Path], run: Path) -> None:
    """Refuse before anything is calculated what could not be written in the end."""
    from overread.export.contract import require_place
    from overread.export.onnx_file import require_libraries

    if "onnx" in places:
        require_libraries()
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
        from overread.cases.sources.read_cases import read_images

        about = model.about
        return read_images(images, model.target, names="hash" if about.names_salt else "keep", salt=about.names_salt,
                           planes=about.planes, progress=progress)  # fmt: skip
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
