"""Whether this machine, and a study on it, are sound: looked at in seconds, before an hour is spent."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from overread.cases.sources.layout import Layout
from overread.cli.console import bars, open_run, say
from overread.cli.options import AsJson, Machine, RecipeChoice
from overread.cli.run import study_of
from overread.study.question import Columns, Images, OperatingRule, Resources, SplitRule, Training

if TYPE_CHECKING:
    from overread.learning.preflight.faults import Preflight
    from overread.study.question import Study

#: Free space of the cache below which a warning is given: decoded images of a few studies.
LITTLE_SPACE = 2e9


def doctor(
    columns: Columns, layout: Layout, images: Images, split: SplitRule, operating_point: OperatingRule, recipe: RecipeChoice,
    training: Training, resources: Resources, machine: Machine,
    table: Annotated[str, typer.Argument(help="a study.toml, or a table as for `overread run`; without it, the machine alone")] = "",
    as_json: AsJson = False,
    sbom: Annotated[bool, typer.Option("--sbom", help="print what overread is made of, a software bill of materials (CycloneDX JSON), and stop")] = False,
) -> None:  # fmt: skip
    """Is this machine sound, and this study on it? Trains nothing, opens no test, leaves nothing behind."""
    if sbom:
        from overread.core.bill_of_materials import bill_of_materials

        typer.echo(json.dumps(bill_of_materials(), indent=2))
        return
    unsound, found = look_at_machine(training.weights, machine.cache)
    if not table:
        typer.echo(json.dumps(found, indent=2) if as_json else "\n".join(f"{k:24} {v}" for k, v in found.items()))
    else:
        for line in unsound:
            say(f"  {line}")
        study = study_of(table, columns, layout, images, split, operating_point, recipe, training, resources)
        seen = rehearse_study(study, machine, quiet=as_json)
        typer.echo(_as_json(seen) if as_json else "\n".join(line.strip() for line in (*seen.lines, _verdict(seen))))
        unsound += [str(fault) for fault in seen if fault.severity == "error"]
    if unsound:
        raise typer.Exit(1)


def look_at_machine(weights: str, cache: str) -> tuple[list[str], dict[str, str]]:
    """What is unsound, and what there is: versions, cores, memory, devices, free space, weights, decoders."""
    from overread.core.errors import UnavailableError
    from overread.core.files import cache_folder, hardware, versions
    from overread.learning.device import memory_left, pick_device
    from overread.networks import weights as stores
    from overread.networks.backbones import library

    unsound = []
    try:
        library("torchvision.models")
        library("timm")
    except UnavailableError as error:
        unsound.append(str(error))
    folder = Path(cache) if cache else cache_folder()
    free = shutil.disk_usage(next(part for part in (folder, *folder.absolute().parents) if part.exists())).free
    at_hand = [f.name for f in stores.listing(folder=Path(weights) if weights else None)]
    found = {**hardware(), "threads": _threads(), "memory free": f"{memory_left('cpu') / 1e9:.1f} GB", "device": pick_device(), "cache": str(folder),
             "cache, space free": f"{free / 1e9:.1f} GB" + (": little; --cache names another folder" if free < LITTLE_SPACE else ""), **versions(),
             "networks": unsound[0] if unsound else "torch, torchvision and timm fit each other",
             "weights": ", ".join(at_hand) or "none at hand", "decoders": _decoders(), "slides": _slides()}  # fmt: skip
    return unsound, found


def _threads() -> str:
    import torch

    from overread.core.files import cores

    used = torch.get_num_threads()
    return f"{used}" + (
        f": more than the {cores()} cores of this process; --threads {cores()} is quicker" if used > cores() else ""
    )


def _decoders() -> str:
    """Compressed DICOM that can be read here, and what is missing for the rest."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import JPEG2000, HTJ2KLossless, JPEGBaseline8Bit, JPEGLossless, JPEGLSLossless, RLELossless

    kinds = {"JPEG": JPEGBaseline8Bit, "lossless JPEG": JPEGLossless, "JPEG-LS": JPEGLSLossless, "JPEG 2000": JPEG2000,
             "HTJ2K": HTJ2KLossless, "RLE": RLELossless}  # fmt: skip
    can = {name: get_decoder(uid).is_available for name, uid in kinds.items()}
    missing = [name for name, here in can.items() if not here]
    told = f"DICOM in {', '.join(name for name, here in can.items() if here)}"
    return told + (f"; not in {', '.join(missing)}: pip install pylibjpeg[all]" if missing else "")


def _slides() -> str:
    """Which whole slides can be read here."""
    from overread.core.errors import UnavailableError
    from overread.images.slides.files.vendor_slide import openslide_module

    try:
        version = openslide_module().__library_version__
    except UnavailableError:
        return "tiled TIFF and OME-TIFF; for the formats of scanners: pip install 'overread[slides]'"
    return f"tiled TIFF, OME-TIFF, and the formats of scanners by OpenSlide {version}"


def rehearse_study(study: Study, machine: Machine, *, quiet: bool) -> Preflight:
    """The steps of a run up to its training, in a folder that is removed again, and the pre-flight check of that."""
    from overread.study import steps

    steps.require_trainable(study, not machine.offline)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with bars() as progress:
            study, cases = steps.open_study(study, folder, progress)
        with open_run(study, folder, machine.cache, offline=machine.offline, quiet=quiet, table=cases) as context:
            steps.set_up(context, cases)
            return steps.rehearse(context)


def _verdict(seen: Preflight) -> str:
    if not seen.sound:
        worst = [fault for fault in seen if fault.severity == "error"]
        return "stop: this would fail or learn nothing" if worst else "go, but see the warnings"
    return "go: nothing stands against training"


def _as_json(seen: Preflight) -> str:
    from dataclasses import asdict

    held: dict[str, Any] = {"faults": [asdict(fault) for fault in seen], "measured": seen.measured}
    if seen.forecast is not None:
        known = {name: value for name, value in asdict(seen.forecast).items() if value != float("inf")}
        held["forecast"] = {**known, "bottleneck": seen.forecast.bottleneck}
    return json.dumps(held, indent=2)
