"""What a run can be asked about images that lie on this machine: an opinion, a map, the nearest known cases.

Blocking functions of addresses; who may ask, how often and how much is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import pandas as pd

from overread import __version__
from overread.cases.cases import ROLES, Cases
from overread.core.errors import OverreadError, UnavailableError, checked, nearest
from overread.core.sandbox import contained_call
from overread.explanation.explain import explain
from overread.images.outlines.outlines import Outlines
from overread.images.outlines.polygons import object_polygons
from overread.learning.model import Model
from overread.serving.admission.refusal import Refusal, without_paths
from overread.serving.admission.slots import Call
from overread.serving.known_cases import known_cases
from overread.serving.maps import explain_answer, methods_of
from overread.serving.policy import ServingSettings
from overread.serving.rest import (
    About,
    ExplainAnswer,
    ObjectOf,
    OpinionAnswer,
    OutlineAnswer,
    SimilarAnswer,
    picked,
    rounded,
)
from overread.serving.slides.run_slides import RunSlides, SlidesOfRun
from overread.serving.undecoded import within
from overread.serving.uploads import images_of, one_case, patient_of, require_pixels
from overread.serving.viewed import viewed
from overread.study.cells.outline_reader import numbers_of

#: Neighbours that are shown at most.
MOST_NEIGHBOURS = 50
#: What an opinion says in sentences; its other texts are names of classes, findings and points, and stay as they are.
_SENTENCES = ("calibration", "novelty", "facts", "warnings", "findings", "unchecked")


@runtime_checkable
class Opinionated(Protocol):
    """What is asked of an opinion here."""

    def plain(self) -> dict[str, Any]: ...

    def discreet(self) -> Opinionated: ...


@runtime_checkable
class Reader(Protocol):
    """What is asked of a reader here: :class:`overread.study.opinion.Reader` is one."""

    @property
    def model(self) -> Model: ...

    @property
    def device(self) -> str: ...

    @property
    def threads(self) -> int: ...

    def opinion(self, images: Any, *, case: str = "") -> Opinionated: ...


@checked
def case_of(model: Model, addresses: Sequence[str], patient: str = "") -> Cases:
    """One case of which nothing is known but where its images are, and perhaps whose."""
    task = model.target.task
    table = pd.DataFrame({"image": list(addresses), **dict.fromkeys([role for role in ROLES if role != "image"], "")})
    table = table.assign(case="case", patient=patient, **dict.fromkeys(task.label_columns, task.unknown))
    return Cases(table[[*ROLES, *task.label_columns]], model.target)


@checked
def warm_up(reader: Reader) -> None:
    """Have everything loaded that the first question would wait for: processes that decode, and the network."""
    side = 64
    grey = bytes(cv2.imencode(".png", np.full((side, side), 128, np.uint8))[1])
    contained_call(within, grey, side**2)
    with suppress(OverreadError):  # of a network that sees volumes, or several views
        if isinstance(reader, Outliner):
            reader.outline(grey)
        else:
            reader.opinion([grey], case="warm-up")


@runtime_checkable
class Outliner(Reader, Protocol):
    """A reader that outlines objects: :class:`overread.study.cells.outline_reader.OutlineReader` is one."""

    @property
    def facts(self) -> tuple[str, ...]: ...

    def outline(self, image: str | bytes) -> Any: ...


@runtime_checkable
class SlideShower(Reader, Protocol):
    """A reader of whole slides, which are looked at where they lie rather than sent: :class:`overread.serving.slides.slide_reader.SlideReader` is one."""

    @property
    def slides(self) -> SlidesOfRun: ...


class ReadingRoom:
    """A reader, and what is served of it."""

    def __init__(self, reader: Reader, settings: ServingSettings, run: Path | None = None) -> None:
        self._reader, self._settings, self._run = reader, settings, run
        self._limits = settings.limits
        self.outlines = isinstance(reader, Outliner)
        self.slides = (
            RunSlides(reader.slides, settings.operation.salt, settings.limits.digits)
            if isinstance(reader, SlideShower)
            else None
        )
        answers = not self.outlines and self.slides is None
        self.methods = methods_of(run, settings.limits.digits) if answers else []
        self._known, self._why = (
            known_cases(run, reader.model) if answers else (None, "this model gives no answer to an image that is sent")
        )
        if settings.operation.no_neighbours:
            self._known, self._why = None, "this server does not show training images"

    @property
    def volume(self) -> bool:
        """Whether the network sees volumes."""
        return len(self._reader.model.about.preprocess.size) == 3

    def about(self, *, report: bool, model_card: bool) -> About:
        """What can be asked here."""
        target, limits, about = self._reader.model.target, self._limits, self._reader.model.about
        whole = about.preprocess.fit == "squash" and about.preprocess.crop == "none"
        held = {"upload_megabytes": limits.upload, "files": limits.parts, "megapixels": limits.megapixels, "images_a_minute": limits.rate,
                "digits": limits.digits, "seconds": limits.body_seconds}  # fmt: skip
        return About(__version__, target.task.question, list(target.names), self.volume, self.methods, self._known is not None, report, model_card,
                     bool(self._settings.address.token), held, about.recipe.fusion != "single", whole, self.outlines, self.slides is not None)  # fmt: skip

    def outline(self, files: Sequence[Path], call: Call) -> OutlineAnswer:
        """The objects in the one image that was sent. Raises :class:`Refusal` for several, and of a model that outlines none."""
        if not isinstance(self._reader, Outliner):
            raise Refusal(404, "this model does not outline objects", "ask /predict", code="no-outlines")
        addresses = self._images(files, call)
        if len(addresses) > 1:
            raise Refusal(422, "objects are outlined in one image at a time", "send one file", code="several")
        require_pixels(addresses, self._limits)
        found = self._reader.outline(addresses[0])
        return _outline_answer(
            found.outlines, found.measures, [self._placeless(fact) for fact in self._reader.facts], self._limits.digits
        )

    def _require_answers(self) -> None:
        if self.slides is not None:
            raise Refusal(
                404, "this model reads whole slides, which are looked at where they lie", "ask /slides", code="slides"
            )
        if self.outlines:
            raise Refusal(
                404, "this model outlines objects, and gives no answer to a case", "ask /outline", code="outlines"
            )

    def cases(self, files: Sequence[Path], call: Call) -> list[list[str]]:
        """Every file, and every file in an archive, as a case of its own; of volumes every upload is one."""
        self._require_answers()
        if not self.volume:
            return [[address] for address in self._images(files, call)]
        found = [images_of([file], self._limits) for file in files]
        call.count(sum(map(len, found)))
        return [one_case(images, volume=True) for images in found]

    def predict(self, files: Sequence[Path], call: Call) -> OpinionAnswer:
        """The opinion on the one case that all files are."""
        self._require_answers()
        return self.opinion(self._case(files, call))

    def opinion(self, case: Sequence[str]) -> OpinionAnswer:
        """The opinion on images at these addresses. Raises :class:`ImageError` where one is too large or cannot be read."""
        require_pixels(case, self._limits)
        said = self._reader.opinion(list(case), case="case")
        told = (said if self._settings.operation.tell_seen else said.discreet()).plain()
        clean = {name: self._placeless(told[name]) for name in _SENTENCES if name in told}
        return picked(OpinionAnswer, {**told, **clean}, self._limits.digits)

    def _placeless(self, value: Any) -> Any:
        """``value`` without a path in any of its texts: an opinion may name a command, and that the run's folder."""
        if isinstance(value, str):
            named = self._run is not None and self._run.is_absolute()
            return without_paths(value.replace(str(self._run), "RUN") if named else value)
        if isinstance(value, dict):
            return {key: self._placeless(item) for key, item in value.items()}
        return [self._placeless(item) for item in value] if isinstance(value, (list, tuple)) else value

    def explain(self, files: Sequence[Path], fields: Mapping[str, str], call: Call) -> ExplainAnswer:
        """Where the network looked on the one case that all files are: by ``method``, for ``target``, at ``layer``."""
        self._require_answers()
        model = self._reader.model
        name, target = fields.get("method") or "grad-cam", fields.get("target", "")
        method = next((each for each in self.methods if each.name == name), None)
        if method is None:
            raise Refusal(
                422, "the method is not known", nearest(name[:40], [each.name for each in self.methods]), code="method"
            )
        if target not in ("", *model.target.names):
            raise Refusal(422, "the target is not known", nearest(target[:40], model.target.names), code="target")
        addresses = self._case(files, call)
        require_pixels(addresses, self._limits)
        try:
            found = explain(
                model,
                case_of(model, addresses),
                target=target,
                method=name,
                layer=fields.get("layer", ""),
                device=self._reader.device,
                threads=self._reader.threads,
                progress=call.progress,
            )
        except UnavailableError as error:
            raise Refusal(422, without_paths(error.what), without_paths(error.todo), code="method") from error
        return explain_answer(found if isinstance(found, tuple) else (found,), method, self._limits.digits)

    def similar(self, files: Sequence[Path], fields: Mapping[str, str], call: Call) -> SimilarAnswer:
        """The ``k`` nearest known cases of the one that all files are."""
        self._require_answers()
        k = fields.get("k") or "5"
        if not (k.isascii() and k.isdecimal() and 1 <= int(k[:4]) <= MOST_NEIGHBOURS and len(k) < 4):
            raise Refusal(422, "k is no number of neighbours", f"give one from 1 to {MOST_NEIGHBOURS}", code="k")
        if self._known is None:
            raise Refusal(404, "no known cases can be shown", self._why, code="no-index")
        addresses = self._case(files, call)
        require_pixels(addresses, self._limits)
        asked = case_of(self._reader.model, addresses, patient_of(addresses))
        return self._known.similar(asked, int(k), self._limits.digits, cache=files[0].parent / "fingerprints",
                                   device=self._reader.device, threads=self._reader.threads, progress=call.progress)  # fmt: skip

    def view(self, files: Sequence[Path], call: Call) -> bytes:
        """The pixels of the one case that all files are: see :func:`overread.serving.viewed.viewed`."""
        addresses = self._case(files, call)
        require_pixels(addresses, self._limits)
        return viewed(addresses, self._limits)

    def _images(self, files: Sequence[Path], call: Call) -> list[str]:
        found = images_of(files, self._limits)
        call.count(len(found))
        return found

    def _case(self, files: Sequence[Path], call: Call) -> list[str]:
        return one_case(self._images(files, call), volume=self.volume)


def _outline_answer(found: Outlines, measures: pd.DataFrame, facts: Sequence[str], digits: int) -> OutlineAnswer:
    """Every object of an image; measures rounded to ``digits``, corners are whole numbers."""
    rows = {int(row["object"]): row for row in measures.to_dict("records")}
    objects = []
    for number, pieces in object_polygons(found.labels):
        told = rounded(numbers_of(rows.get(number, {})), digits)
        corners = [[ring.tolist() for ring in piece] for piece in pieces]
        objects.append(
            ObjectOf(number, found.classes[number - 1], told.pop("x", None), told.pop("y", None), told, corners)
        )
    height, width = found.size
    return OutlineAnswer(width, height, objects, list(facts))
