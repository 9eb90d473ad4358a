"""What an exported model says of itself: what goes in, what comes out, where it comes from, how it was compared."""

from __future__ import annotations

import importlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overread import __version__
from overread.core.errors import InputError, UnavailableError, checked
from overread.core.files import plain, sha256, write_bytes, write_json, write_text
from overread.evaluation.decision.class_decision import Frozen
from overread.export import prepare
from overread.export.specimens import BATCHES, Preparation, Specimens
from overread.images.preprocess import Preprocess
from overread.learning.ensemble import sides_of
from overread.learning.model import Model

#: The file that makes a folder an export.
CONTRACT = "export.json"
_RESEARCH = "Research. Not a medical device: it must not guide the care of a patient."


@dataclass(frozen=True)
class Contract:
    """What stands in ``export.json``."""

    kind: str
    made_by: str
    question: str
    task: str
    outputs: tuple[str, ...]
    positive: tuple[str, ...]
    input: dict[str, Any]
    preprocessing: dict[str, Any]
    points: tuple[dict[str, Any], ...]
    network: str
    licence: str
    weights_source: str
    digest: str
    compared: dict[str, Any]
    how: str
    use: str = _RESEARCH
    format: int = 1

    @property
    def metadata(self) -> dict[str, str]:
        """As text by name, as an ONNX file holds it."""
        held = plain(self)
        return {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in held.items()
        }


@checked
def contract(
    model: Model, kind: str, held: Specimens, difference: float, limit: float, preparation: Preparation, frozen: Sequence[Frozen],
    how: str,
) -> Contract:  # fmt: skip
    """The contract of an export that was found to say what the model says."""
    about = model.about
    task, origin = about.target.task, about.backbone
    compared = {"images": len(held), "batch sizes": list(BATCHES), "largest difference": difference, "allowed": limit, "preparation": plain(preparation),
                "with": platform.platform(terse=True)}  # fmt: skip
    return Contract(kind, f"overread {__version__}", task.question, about.target.kind, tuple(about.target.names), about.target.positive,
                    _input(model, held), _preparation(about.preprocess), tuple(map(_point, frozen)), origin.name,
                    origin.licence, origin.weights_source, model.digest, compared, how)  # fmt: skip


def _input(model: Model, held: Specimens) -> dict[str, Any]:
    together = sides_of(model.network) > 0
    axes = [
        "batch",
        *(["images of a case"] if together else []),
        "channels",
        *(["depth"] if len(model.about.preprocess.size) == 3 else []),
        "height",
        "width",
    ]
    missing = (
        {"missing": "NaN in every pixel of an image that the case lacks", "views": list(model.about.views)}
        if together
        else {}
    )
    return {"name": "pixels", "type": "float32", "range": [0, 1], "axes": axes, "shape": ["batch", *held.pixels.shape[1:]],
            "normalisation": "inside", **missing}  # fmt: skip


def _preparation(preprocess: Preprocess) -> dict[str, Any]:
    """Size, channels and fit for a program; the steps in words for a person."""
    side = " × ".join(map(str, preprocess.size))
    cropped = {"border": ["cut off the black borders"], "field": ["cut to the circular field of the photograph"]}.get(
        preprocess.crop, []
    )
    steps = [
        "turn the image as its EXIF orientation says",
        f"DICOM and volumes: modality LUT or rescale slope, then the window ({preprocess.window or 'that of the file'}), then MONOCHROME1 inverted",
        *cropped,
        "colour to luminance (ITU-R BT.601)" if preprocess.channels == 1 else "grey images: the same value in all three channels",
        f"{preprocess.bits} bits, full scale to full scale",
        f"resize to {side} ({preprocess.fit}): whole boxes, then bilinearly below a factor of two, else by area",
        *([f"bring the stain of the slide to the usual look ({preprocess.stain}; overread.images.slides.stain)"] if preprocess.stain != "none" else []),
        f"divide by {preprocess.full}",
    ]  # fmt: skip
    return {"size": list(preprocess.size), "channels": preprocess.channels, "fit": preprocess.fit, "crop": preprocess.crop, "bits": preprocess.bits,
            "window": preprocess.window, "steps": steps}  # fmt: skip


def _point(frozen: Frozen) -> dict[str, Any]:
    """A frozen point or rule without the patients and cases that it was chosen on."""
    hidden = ("seen", "salt", "cases")
    return {name: value for name, value in plain(frozen).items() if name not in hidden}


@checked
def require_installed(*names: str) -> None:
    """Raise :class:`UnavailableError` with the command that installs it for a library of the extra that is not there."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UnavailableError(f"{name} is not installed", todo="run: pip install 'overread[export]'") from error


# -- the folder -------------------------------------------------------------------------------------------------------


@checked
def require_place(folder: Path, run: Path | None = None) -> None:
    """Raise :class:`InputError` unless the folder is new, empty or an earlier export, and apart from the run."""
    if run is not None and folder.resolve().is_relative_to(run.resolve()):
        raise InputError("an export must lie apart from the run, which holds more than is given away", given=str(folder),
                         todo=f"choose another folder: -o {run.resolve().name}-export")  # fmt: skip
    if folder.exists() and not folder.is_dir():
        raise InputError("the place for the export is no folder", given=str(folder), todo="choose another: -o FOLDER")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CONTRACT).is_file():
        raise InputError(
            "the folder holds files that no export has written",
            given=str(folder),
            todo="choose a new or empty one: -o FOLDER",
        )


@checked
def write_folder(folder: Path, made: Contract, files: dict[str, bytes], lines: str, card: str = "") -> list[Path]:
    """The exported files with their contract, the lines that use them, and the card; the contract is written last."""
    card = card or _card(made)
    texts = {
        "prepare.py": Path(prepare.__file__).read_text("utf-8"),
        "model_card.md": card,
        "README.md": _readme(made, lines),
    }
    written = [write_bytes(folder / name, data) for name, data in files.items()]
    written += [write_text(folder / name, text) for name, text in texts.items()]
    sums = {path.name: sha256(path.read_bytes()) for path in written}
    return [*written, write_json(folder / CONTRACT, {**plain(made), "files": sums})]


def _card(made: Contract) -> str:
    licence = made.licence or "that of the study"
    return (f"# Model for {made.question}\n\n{made.use}\n\n- answers: {', '.join(made.outputs)}\n- network: {made.network}\n"
            f"- licence of the initial weights: {licence}\n- digest: {made.digest}\n- made by: {made.made_by}\n")  # fmt: skip


def _readme(made: Contract, lines: str) -> str:
    prepared = made.compared["preparation"]
    if prepared["images"]:
        near = (f"`prepare.py` was compared on {prepared['images']} of these images: at most {prepared['grey_levels']:g} grey levels and "
                f"{prepared['probability']:.1e} in a probability from overread's own preparation.")  # fmt: skip
    else:
        near = "`prepare.py` does not read the files of this study; `export.json` says in words how pixels are made of them."
    steps = "\n".join(f"{number}. {step}" for number, step in enumerate(made.preprocessing["steps"], start=1))
    return f"""# {made.question}: {", ".join(made.outputs)}

{made.use} See `model_card.md`.

```python
{lines.strip()}
```

Calibration, normalisation and softmax or sigmoid are inside. Compared with overread on {made.compared["images"]} real images at batch
sizes 1 and 7: at most {made.compared["largest difference"]:.1e} in a probability. {made.how}

What goes in: {made.input["shape"]} {made.input["type"]} from 0 to 1. How pixels are made of a file:

{steps}

{near} The operating points, the licence and the SHA-256 of each file stand in `export.json`.
"""
