"""A trained model that is asked about new images: opened once with all that was decided about it, then one opinion a case."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.arrange import BY_TIME, BY_VIEW
from overread.cases.audit.audit import Finding
from overread.cases.audit.image_checks import FILE, TrainingImages, image_findings, unchecked
from overread.cases.cases import Cases, paths
from overread.cases.privacy import patient_codes
from overread.core.display import Shown
from overread.core.errors import ImageError, InputError, UnsoundError, checked, require
from overread.core.files import cores, read_json
from overread.core.phrases import command_of, count
from overread.core.progress import Progress, Say, silent, unheard
from overread.core.sandbox import contained
from overread.evaluation.decision.single_case import WHETHER_SEEN, Novelty, Opinion, Standards, answers_of, certainty_of
from overread.evaluation.recalibrate import Recalibration, fit_recalibration, recalibrate
from overread.images.examine import examine
from overread.images.preprocess import geometry
from overread.images.read import shown
from overread.learning.device import pick_device
from overread.learning.ensemble import FEWEST_TO_CALIBRATE
from overread.learning.inputs import inputs
from overread.learning.model import Model
from overread.learning.predict import answers, load_model, tabulate
from overread.predictions import made_by
from overread.reporting.run import NOT_JUDGED, Run, Step, read_run
from overread.retrieval.embed import vectors_of
from overread.retrieval.index import Index
from overread.study.context import predictions_of, require_images

#: An image as it may be given: a path or an address, the bytes of a file, or pixels (H, W) or (H, W, 3).
Source: TypeAlias = str | os.PathLike | bytes | NDArray


@dataclass(frozen=True, eq=False)
class Reader(Shown):
    """A model with its points, its decision rule, what its training images were, and the facts to say of it.

    ``recalibration`` mends the probabilities that are told, None tells the model's own; ``calibration`` says so in
    words. Calls are made on the model's own, which the points were chosen on. ``index``: of the training images, by
    which a case is told to be unlike them; ``no_index`` why there is none.
    """

    model: Model
    standards: Standards
    training: TrainingImages
    facts: tuple[str, ...]
    calibration: str
    recalibration: Recalibration | None = None
    device: str = "cpu"
    threads: int = 0
    folder: Path = Path()
    index: Index | None = None
    no_index: str = "there is no index of the training images"

    @checked
    def opinion(
        self, images: Source | Sequence[Source], *, case: str = "", views: Sequence[str] = (), times: Sequence[str] = (), patient: str = ""
    ) -> Opinion:  # fmt: skip
        """What the model says of one case, of one image or several.

        ``images``: paths or addresses, bytes of files, or arrays (H, W) or (H, W, 3) of uint8 or uint16. ``case``: how
        to call it, by default as its first image. ``views`` and ``times``: of each image, where the model tells images
        of a case apart by them; what DICOM says of views is taken where none is given. ``patient``: the identifier, to
        say whether training has seen him; where DICOM names one it need not be given. No identifier is in the opinion.

        Raises :class:`ImageError` for an image that cannot be read, :class:`InputError` where images cannot be told
        apart as the model needs.
        """
        given = [images] if isinstance(images, (str, bytes, os.PathLike, np.ndarray)) else list(images)
        require(len(given) > 0, "there is no image to give an opinion on")
        fusion = self.model.about.recipe.fusion
        for name, each, used in (("view", views, fusion in BY_VIEW), ("time", times, fusion in BY_TIME)):
            require(not each or used, f"this model does not tell the images of a case apart by their {name}, so that it would change nothing",
                    given=", ".join(map(str, each)), todo=f"leave the {name} out; --one-case says that several images are of one")  # fmt: skip
            require(
                len(each) in (0, len(given)),
                f"each image needs its {name}",
                given=f"{len(each)} for {count(len(given), 'image')}",
            )
        sources = [_encoded(one) if isinstance(one, np.ndarray) else one for one in given]
        names = [
            f"image {place + 1}" if isinstance(one, bytes) else shown(os.fspath(one))
            for place, one in enumerate(sources)
        ]
        table = pd.DataFrame({"image": names, "case": case or names[0], "patient": patient, "source": "", "split": "",
                              "view": list(views) or self._views(sources), "time": list(times) or ""})  # fmt: skip
        task = self.model.target.task
        cases = Cases(table.assign(**dict.fromkeys(task.label_columns, task.unknown)), self.model.target)
        (found,) = self._opinions(
            cases, [one if isinstance(one, bytes) else os.fspath(one) for one in sources], strict=True
        )
        return found

    @checked
    def opinions(self, cases: Cases, *, progress: Progress = silent, say: Say = unheard) -> Iterator[Opinion]:
        """One opinion after the other, in the order of the cases; those of which no image can be read are left out.

        ``say`` hears of each image that cannot be read, by its name, and why. Raises :class:`InputError` if none can.
        """
        yield from self._opinions(cases, paths(cases), progress=progress, say=say)

    # -- how ------------------------------------------------------------------------------------------------------

    def _views(self, sources: Sequence[Any]) -> str | list[str]:
        """What DICOM says of the views, where the model tells images of a case apart by them."""
        if self.model.about.recipe.fusion not in BY_VIEW:
            return ""
        common = (geometry(self.model.about.preprocess),)
        with closing(contained(examine, ((one,) for one in sources), common=common, workers=self.threads)) as found:
            return ["" if isinstance(one, ImageError) else one[2].get("view", "") for one in found]

    def _opinions(
        self, cases: Cases, sources: Sequence[str | bytes], *, strict: bool = False, progress: Progress = silent, say: Say = unheard
    ) -> Iterator[Opinion]:  # fmt: skip
        """``strict``: an image that cannot be read is an error."""
        seen, names = _Seen(self, cases, sources, progress, say), cases.table["image"].tolist()
        for row, reason in sorted(seen.unread.items()):
            if strict:
                raise ImageError(f"{names[row]}: {reason}")
            say(f"  set aside: {names[row]}: {reason}")
        if np.isnan(seen.values).any(axis=1).all():
            raise InputError("none of the images can be read", given=next(iter(seen.unread.values()), "no image"))
        made = tabulate(seen.values, cases, self.model.target)
        mended = made if self.recalibration is None else recalibrate(made, self.recalibration)
        members = [tabulate(one, cases, self.model.target).scores for one in seen.members]
        for row, case in enumerate(made.table["case"]):
            yield self._opinion(
                seen, case, made.scores[row], mended.scores[row], np.array([one[row] for one in members])
            )

    def _opinion(
        self, seen: _Seen, case: str, own: NDArray[np.float64], told: NDArray[np.float64], members: NDArray[np.float64]
    ) -> Opinion:
        target, standards = self.model.target, self.standards
        calls = standards.calls(own)
        called, rule = standards.called(own, calls)
        known = seen.known(case)
        return Opinion(
            case, seen.images(case), target.kind, answers_of(target, told, members), called, rule, calls, certainty_of(target, told),
            self._novelty(seen.distances.get(case)), seen.findings(case), known, (*unchecked(self.training), *seen.doubts(case)),
            standards.ruled_in(own), standards.coverage, self.calibration, self.facts, target.positive,
        )  # fmt: skip

    def _novelty(self, distance: float | None) -> Novelty:
        """Whether a case is unlike those of training, by its distance to them."""
        if self.index is None or distance is None:
            return Novelty(why=self.no_index)
        limit = self.index.novelty_limit
        known = self.index.about.novelty
        if not (np.isfinite(limit) and np.isfinite(distance)):
            return Novelty(
                None, distance, limit, "the index has no limit, since there were no tuning patients to choose one"
            )
        why = f"{known.share:.0%} of {count(known.patients, 'tuning patient')} stay below it"
        return Novelty(distance > limit, distance, limit, why)


# -- opening ------------------------------------------------------------------------------------------------------


@checked
def open_reader(
    folder: str | os.PathLike[str], *, device: str = "", threads: int = 0, as_trained: bool = False
) -> Reader:
    """A run, or a model's folder, ready to be asked: the model, its frozen points, its decision, its training images.

    Probabilities are calibrated: by ``RUN/calibration`` where `overread calibrate RUN` has made one for this model, else
    inside the model, where training did so, else on the run's tuning predictions; ``as_trained`` tells the model's own.
    Points, calibration and test results that are of another model, since the run was trained again, are left out, and the
    facts say so. Raises :class:`InputError` for a folder without a model, or with a damaged file.
    """
    folder = Path(folder)
    require_images(folder, "an opinion on a case")
    model = load_model(folder)
    run = read_run(folder if (folder / "model").is_dir() else folder.parent if folder.name == "model" else folder)
    if not _is_judged(run, model):
        run = replace(run, evaluation=NOT_JUDGED)
    device = pick_device(device)
    recalibration, calibration = (
        (None, "probabilities as the model gives them, as you asked") if as_trained else _calibration(run, model)
    )
    index, no_index = _index(run, model)
    return Reader(model, _standards(run, model), _training_images(run, folder), _facts(run, model), calibration, recalibration, device,
                  threads or cores(), run.folder, index, no_index)  # fmt: skip


def _index(run: Run, model: Model) -> tuple[Index | None, str]:
    """The index of the training images, or why there is none that can be used."""
    make = f"make it with `{command_of(['overread', 'similar', run.folder, '--build-only'])}`"
    if not (run.folder / "index" / "index.json").exists():
        return None, f"there is no index of the training images; {make}"
    try:
        return Index.load(run.folder / "index", model), ""
    except InputError as error:
        return None, str(error)


def _calibration(run: Run, model: Model) -> tuple[Recalibration | None, str]:
    """The one place that decides which probabilities are told."""
    stored, made = run.folder / "calibration" / "recalibration.json", None
    tuning = run.folder / "predictions" / "tuning.csv"
    predictions = (
        predictions_of(run.folder, "tuning") if tuning.exists() and (run.folder / "cases.csv").exists() else None
    )
    lack, note = "there are no tuning predictions to do so", ""
    if predictions is not None and predictions.by and predictions.by.model != model.digest:
        predictions = None
        lack = f"the tuning predictions are another model's: make them with `{command_of(['overread', 'predict', run.folder])}`"
    if stored.exists():
        made = Recalibration.load(stored)
        if predictions is not None and made.salt == predictions.digest:
            return made, f"probabilities mended by {made} (calibration/recalibration.json; --as-trained leaves it out)"
        note = "; calibration/recalibration.json was fitted on other predictions and is left out"
    if model.target.task.continuous:
        return None, ""
    inside = next((d for d in model.about.decisions if d.what == "calibration" and d.choice != "none"), None)
    if inside is not None:
        return None, f"probabilities calibrated in training: {inside.choice}{note}"
    if predictions is not None:
        lack = f"that takes {FEWEST_TO_CALIBRATE} tuning cases with a known answer"
        if int(predictions.known.sum()) >= FEWEST_TO_CALIBRATE:
            try:
                fitted = fit_recalibration(predictions, method="auto")
            except UnsoundError as error:  # of one class only, say
                lack = str(error)
            else:
                return fitted, f"probabilities mended by {fitted} (the training calibrated nothing; --as-trained leaves it out){note}"  # fmt: skip
    return None, f"probabilities as the model gives them: NOT calibrated, since {lack}{note}"


def _is_judged(run: Run, model: Model) -> bool:
    """Whether the run's points and test results are of this model: it may have been trained again since.

    A training that the run's record knows stands in an evaluation under the key of its step, another under its digest.
    """
    trained = run.record.steps.get("model", Step()).key or model.digest
    return run.evaluation.about.model in ("", trained, model.digest) and all(
        by is None or by.model == model.digest for by in (made_by(run.folder / "predictions" / f"{part}.csv") for part in ("tuning", "test"))
    )  # fmt: skip


def _standards(run: Run, model: Model) -> Standards:
    sets, coverage = _sets(run, model)
    found = run.evaluation
    return Standards(model.target, found.operating, found.decision, found.estimates, sets, coverage)


def _sets(run: Run, model: Model) -> tuple[tuple[tuple[str, tuple[tuple[str, float], ...]], ...], float]:
    """The conformal sets that the evaluation fitted on tuning data, where they hold for all cases alike."""
    held = run.evaluation.more.get("conformal") or {}
    made = [row for row in held.get("thresholds", ()) if row.get("group") == "all"]
    simple = "LAC" in str(held.get("method", "")) or model.target.task.continuous
    if not made or not simple or any(value is None for row in made for value in _bounds(row).values()):
        return (), float("nan")
    return tuple((str(row["of"]), tuple(_bounds(row).items())) for row in made), float(held["level"])


def _bounds(row: Mapping[str, Any]) -> dict[str, Any]:
    return dict(row["score"]) if "score" in row else {"half width": row["half width"]}


def _training_images(run: Run, folder: Path) -> TrainingImages:
    home = next((path for path in (run.folder / "model", folder) if (path / FILE).exists()), None)
    if home is not None:
        return TrainingImages.load(home)
    audit = run.folder / "audit.json"
    counts = read_json(audit).get("counts") if audit.exists() else None
    return TrainingImages.of_counts(counts or {})


def _facts(run: Run, model: Model) -> tuple[str, ...]:
    """What a reader of an opinion has to know of the model, a line each."""
    about, part = model.about, run.split.proof.parts.get("train")
    names = ", ".join(model.target.names[:8]) + (" …" if len(model.target.names) > 8 else "")
    lines = [f"model: {about.backbone.name}, made to tell {model.target.task.question} of an image: {names}"]
    if part is not None:
        where = [name for name, tally in run.audit.counts.sources.items() if tally.images]
        of = f" of {', '.join(where[:5])}{' …' if len(where) > 5 else ''}" if where else ""
        lines.append(f"trained on {count(part.images, 'image')} of {count(part.patients, 'patient')}{of}")
    if run.judged:
        counts = run.evaluation.counts
        lines.append(
            f"judged on {count(counts.images, 'image')} of {count(counts.patients, 'patient')} that it had not seen"
        )
    elif (run.folder / "evaluation" / "metrics.json").exists():
        again = [f"`{command_of(['overread', step, run.folder])}`" for step in ("predict", "evaluate")]
        lines.append(f"NOT judged: the points and the test results in this folder are of another model, trained before, and are left out; {' and '.join(again)} choose and judge anew")  # fmt: skip
    else:
        lines.append(f"not judged yet: there are no frozen points; `{command_of(['overread', 'evaluate', run.folder])}` chooses and judges them")  # fmt: skip
    return tuple(lines)


# -- what a model sees of cases ------------------------------------------------------------------------------------


class _Seen:
    """Every image examined once where it can do no harm, and what the network says of the cases.

    ``values`` (images, K) and ``members`` (M, images, K) its answers, in the row of each image, or in the first row of a
    case whose images are seen together; NaN elsewhere, and where nothing could be read.
    """

    def __init__(self, reader: Reader, cases: Cases, sources: Sequence[Any], progress: Progress, say: Say) -> None:
        self.reader, self.cases = reader, cases
        self.rows = {
            str(case): np.asarray(rows) for case, rows in cases.table.groupby("case", sort=False).indices.items()
        }
        self.unread: dict[int, str] = {}
        self._findings: dict[int, tuple[Finding, ...]] = {}
        self._hits: set[int] = set()
        self._patients: dict[int, str] = {}
        vectors: dict[str, list[NDArray[np.float32]]] = {}
        model, members = reader.model, []
        together = model.about.recipe.fusion != "single"
        self.values = np.full((len(cases), model.target.outputs), np.nan, np.float32)
        for batch in inputs(model, cases, device=reader.device, threads=reader.threads, errors=self.unread, progress=progress, say=say,
                            doing="reading images", sources=sources, note=self._note):  # fmt: skip
            rows = np.array([self.rows[case][0] for case in batch.cases]) if together else batch.rows[:, 0]
            self.values[rows], each = answers(model, batch.x)
            if reader.index is not None:
                for case, vector in zip(batch.cases, vectors_of(model, batch.x, reader.index.about.layer), strict=True):
                    vectors.setdefault(case, []).append(vector)
            members.append((rows, each))
        self.members = np.full((members[0][1].shape[0] if members else 0, *self.values.shape), np.nan, np.float32)
        for rows, each in members:
            self.members[:, rows] = each
        self.distances: dict[str, float] = {}
        if reader.index is not None and vectors:  # all at once: each search reads the whole index
            means = np.stack([np.asarray(np.mean(held, axis=0), np.float32) for held in vectors.values()])
            self.distances = dict(zip(vectors, reader.index.novelty(means).tolist(), strict=True))

    def _note(self, row: int, image: Mapping[str, Any], header: Mapping[str, str]) -> None:
        training = self.reader.training
        self._findings[row] = image_findings(image, header, training)
        if training.has_seen(image["pixels"]):
            self._hits.add(row)
        self._patients[row] = header.get("patient", "")

    # -- what is told of a case ---------------------------------------------------------------------------------

    def images(self, case: str) -> tuple[str, ...]:
        """The names of its images."""
        return tuple(self.cases.table["image"].iloc[self.rows[case]])

    def findings(self, case: str) -> tuple[Finding, ...]:
        """Those of each image; of several images with the place of each, since names of files may name patients."""
        rows = [int(row) for row in self.rows[case]]
        places = {row: f"image {place} of {len(rows)}" for place, row in enumerate(rows, start=1)}
        found = [replace(one, message=f"{one.message} ({places[row]})" if len(rows) > 1 else one.message)
                 for row in rows for one in self._findings.get(row, ())]  # fmt: skip
        lost = [Finding("unreadable", "error", f"{places[row]} cannot be read and counts as missing: {self.unread[row]}", "", 1)
                for row in rows if row in self.unread]  # fmt: skip
        return tuple(sorted((*lost, *found), key=lambda one: ("error", "warning", "note").index(one.severity)))

    def known(self, case: str) -> str:
        """How training has seen a case; blank if it has not as far as can be told."""
        rows = [int(row) for row in self.rows[case]]
        told = []
        if hits := sum(row in self._hits for row in rows):
            told.append("the very image" if hits == 1 else f"{hits} of these very images")
        if (self.reader.model.saw(self._identifiers(rows))).any():
            told.append("the patient")
        return " and ".join(told)

    def doubts(self, case: str) -> tuple[str, ...]:
        """What cannot be looked at for want of an identifier."""
        if self._identifiers([int(row) for row in self.rows[case]]):
            return ()
        return (f"{WHETHER_SEEN} the patient: no patient is named",)

    def _identifiers(self, rows: Sequence[int]) -> list[str]:
        """The patients of these rows as the model knows them."""
        about = self.reader.model.about
        given = [str(self.cases.table["patient"].iloc[row]) for row in rows]
        names = sorted({name or self._patients.get(row, "") for name, row in zip(given, rows, strict=True)} - {""})
        coded = not about.names_salt or bool(self.cases.salt)
        return names if coded else patient_codes(names, about.names_salt, about.identifiers)


def _encoded(pixels: NDArray[Any]) -> bytes:
    """An array as the bytes of a PNG, which loses nothing."""
    sound = pixels.dtype in (np.uint8, np.uint16) and (
        pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (1, 3))
    )
    require(
        sound and pixels.size > 0,
        "an image is (H, W) or (H, W, 3) of uint8 or uint16",
        given=f"{pixels.dtype} {pixels.shape}",
    )
    done, data = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1] if pixels.ndim == 3 else pixels))
    require(done, "the image cannot be encoded", given=pixels.shape)
    return bytes(data.tobytes())
