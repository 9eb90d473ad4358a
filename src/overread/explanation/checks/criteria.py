"""The criteria of methods over a sample of cases: what Arun et al. 2021 ask of a method before its maps are believed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.cases.cases import Cases, paths
from overread.core import random
from overread.core.errors import ImageError, InputError, checked, nearest, require
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.core.sandbox import contained
from overread.explanation.attribute import attributions
from overread.explanation.checks.faithfulness import Curves, Score
from overread.explanation.checks.randomisation import Method, as_maps
from overread.explanation.checks.regions import RegionShare, region_shares, regions_of, shares
from overread.explanation.methods import method_of
from overread.explanation.sanity import between_patients, blind_curves, check, probability_of
from overread.explanation.verdict import Checks, Criterion, judge_method
from overread.images.preprocess import geometry, load_mask
from overread.learning.device import layout, pick_device
from overread.learning.inputs import Inputs, inputs
from overread.learning.model import Model
from overread.learning.predict import outputs_of

__all__ = ["Sampled", "check_methods", "judge_methods", "sample_cases"]

#: Cases that methods are judged on by default.
SAMPLE = 50


@dataclass(frozen=True, eq=False)
class Sampled:
    """A case of the sample that methods are judged on: what the network sees, (1, …), and whose it is.

    ``target``: the output that is explained. ``mask``: where the finding is, where that is known, of a map's shape.
    ``pixels``: its images before normalisation, ([D,] H, W, C) each, None where one is missing. ``case``: its name.
    """

    x: Tensor
    patient: str
    target: int = 0
    mask: NDArray[np.bool_] | None = None
    pixels: tuple[NDArray[Any] | None, ...] = ()
    case: str = ""


@checked
def judge_methods(
    model: Model, cases: Cases, *, methods: Sequence[str] = ("grad-cam",), target: str = "", masks: str = "", most: int = SAMPLE,
    steps: int = 4, draws: int = 1, insertion_steps: int = 8, seed: int = 0, device: str = "", threads: int = 0,
    progress: Progress = silent, say: Say = unheard,
) -> tuple[tuple[Criterion, ...], tuple[RegionShare, ...]]:  # fmt: skip
    """The criteria of several methods over a sample of ``cases``, and in which regions their maps lie.

    ``methods``: of :data:`overread.explanation.methods.METHODS`, each with the layer that is chosen for the network. The
    sample, ``target`` and ``masks``: see :func:`sample_cases`; the rest: see :func:`check_methods`. Raises
    :class:`InputError` where none of the images can be read.
    """
    abouts = [method_of(name) for name in methods]
    require(len(abouts) > 0, "name at least one method")
    found = sample_cases(
        model, cases, target=target, masks=masks, most=most, seed=seed, device=device, threads=threads, say=say
    )
    task, network = model.target.task, layout(model.network, pick_device(device)).eval()

    def explained(name: str) -> Callable[[int], Method]:
        return lambda index: lambda network, x: attributions(network, x, index, name, seed=seed)

    def probability(index: int) -> Score:
        return lambda outputs: task.probabilities(outputs)[:, index]

    return check_methods(
        {about.name: explained(about.name) for about in abouts}, network, found, score=probability,
        complete=[about.name for about in abouts if about.complete], steps=steps, draws=draws, insertion_steps=insertion_steps,
        seed=seed, progress=progress, total=min(most, cases.table["case"].nunique()),
    )  # fmt: skip


@checked
def check_methods(
    methods: Mapping[str, Callable[[int], Method]], network: nn.Module, cases: Iterable[Sampled], *, score: Callable[[int], Score]
    = probability_of, complete: Sequence[str] = (), steps: int = 4, draws: int = 1, insertion_steps: int = 8, seed: int = 0,
    progress: Progress = silent, total: int = 0,
) -> tuple[tuple[Criterion, ...], tuple[RegionShare, ...]]:  # fmt: skip
    """The table of criteria (Arun 2021, and two more) of several methods over a sample of cases, and where their maps
    lie (:mod:`overread.explanation.checks.regions`), with intervals by patient.

    ``methods``: by name, from an output to the method that explains it. ``score``: from an output to what its number is.
    ``complete``: the methods that promise that their maps add up to the change from an image of zeros. The rest as
    :func:`~overread.explanation.sanity.check` takes it; ``total`` is how many cases there are, for the progress. Cases are held one at a time, their maps as single precision.
    """
    checks: dict[str, list[Checks]] = {name: [] for name in methods}
    maps: dict[str, list[NDArray[np.float32]]] = {name: [] for name in methods}
    lying: dict[str, list[dict[str, tuple[float, float]]]] = {name: [] for name in methods}
    patients: list[str] = []
    for done, case in enumerate(cases, start=1):
        patients.append(case.patient)
        places = _places(case)
        blind: Curves | None = None
        for name, make in methods.items():
            method = make(case.target)
            made = method(network, case.x)
            if insertion_steps and blind is None:
                shape = tuple(made.shape[1:])
                blind = blind_curves(network, case.x, score(case.target), shape, steps=insertion_steps, seed=seed)
            maps[name].append(as_maps(made)[0].astype(np.float32))
            lying[name].append(shares(maps[name][-1], places))
            checks[name].append(check(
                method, network, case.x, target=case.target, score=score(case.target), made=made, mask=case.mask, steps=steps,
                baseline=torch.zeros_like(case.x) if name in complete else None, draws=draws, insertion_steps=insertion_steps,
                seed=seed, blind=blind,
            ))  # fmt: skip
        progress("checking methods", done, max(total, done))
    require(bool(patients), "there are no cases to judge the methods on")
    criteria = [
        judge_method(name, checks[name], patients, between=between_patients(maps[name], patients, seed=seed))
        for name in methods
    ]
    regions = [region_shares(name, lying[name], patients) for name in methods]
    return tuple(row for rows in criteria for row in rows), tuple(row for rows in regions for row in rows)


def _places(case: Sampled) -> dict[str, NDArray[np.bool_]]:
    """The regions of a case's images, of the shape of its maps; one that a view lacks is nowhere in it."""
    if not case.pixels:
        return {}
    several = len(case.pixels) > 1
    masks = case.mask if several and case.mask is not None else [case.mask] * len(case.pixels)
    each = [{} if image is None else regions_of(image, mask) for image, mask in zip(case.pixels, masks, strict=True)]
    if not several:
        return each[0]
    shape = next(image for image in case.pixels if image is not None).shape[:-1]
    names = dict.fromkeys(name for found in each for name in found)
    return {name: np.stack([found.get(name, np.zeros(shape, bool)) for found in each]) for name in names}


# -- the sample -------------------------------------------------------------------------------------------------------


@checked
def sample_cases(
    model: Model, cases: Cases, *, target: str = "", masks: str = "", most: int = SAMPLE, seed: int = 0, device: str = "",
    threads: int = 0, progress: Progress = silent, say: Say = unheard,
) -> Iterator[Sampled]:  # fmt: skip
    """At most ``most`` of ``cases`` as :func:`check_methods` takes them, of as many patients as can be, drawn by ``seed``.

    ``target``: the class or finding that is explained, blank for the most probable one of each case. ``masks``: the column
    of the table with the addresses of masks, relative to where the images are; blank cells have none. ``say`` hears of how
    many there are. Raises :class:`InputError` for an unknown target or column.
    """
    table, names = cases.table, list(model.target.names)
    if target and target not in names:
        raise InputError("the model does not know this target", given=repr(target), todo=nearest(target, names))
    require_column(cases, masks)
    chosen = _drawn(table["case"].tolist(), table["patient"].tolist(), most, seed)
    kept = cases.take(np.flatnonzero(table["case"].isin(chosen)))
    held = kept.table.drop_duplicates("case")
    say(f"  judged on {count(len(held), 'case')} of {count(held['patient'].nunique(), 'patient')}, of"
        f" {count(table['case'].nunique(), 'case')} in all")  # fmt: skip
    patient = dict(zip(held["case"].astype(str), held["patient"].astype(str), strict=True))
    unread, network = 0, layout(model.network, pick_device(device)).eval()
    for batch in inputs(model, kept, device=device, threads=threads, batch=8, progress=progress, say=say):
        made = masks_of(model, kept, masks, batch, threads)
        unread += sum(each is None for each in made) if masks else 0
        outputs = model.target.task.probabilities(outputs_of(network, batch.x, 1, batch.x.device.type)).cpu().numpy()
        for i, case in enumerate(batch.cases):
            index = names.index(target) if target else int(np.argmax(outputs[i]))
            yield Sampled(batch.x[i : i + 1], patient[case], index, made[i], batch.pixels[i], case)
    if unread:
        say(f"  {count(unread, 'case')} without a mask, or with one that cannot be read")


def _drawn(cases: Sequence[str], patients: Sequence[str], most: int, seed: int) -> set[str]:
    """At most ``most`` cases, one of each patient first."""
    require(most >= 1, "the sample must hold a case at least", given=most)
    owner = dict(zip(cases, patients, strict=True))
    names = list(owner)
    order = random.by_name(seed, names, "sample of cases").argsort(kind="stable").tolist()
    taken: dict[str, int] = {}
    ranked = []
    for place, name in enumerate(names[i] for i in order):
        ranked.append((taken.get(owner[name], 0), place, name))
        taken[owner[name]] = taken.get(owner[name], 0) + 1
    return {name for *_, name in sorted(ranked)[:most]}


@checked
def require_column(cases: Cases, masks: str) -> None:
    """Raise :class:`InputError` where a table has no column of masks of this name, if it is not blank; it names the nearest."""
    if masks and masks not in cases.table:
        raise InputError("there is no column of masks of this name", given=repr(masks), todo=nearest(masks, cases.table.columns))  # fmt: skip


@checked
def masks_of(
    model: Model, cases: Cases, column: str, batch: Inputs, threads: int = 0
) -> list[NDArray[np.bool_] | None]:
    """The mask of each case of a batch, of the shape of its maps; None where there is none, or one of its images' cannot be read.

    ``column``: of the table, with addresses relative to where the images are; blank: there are none. Where some images of a
    case have a mask, it is empty in those whose cell is blank.
    """
    if not column:
        return [None] * len(batch)
    addresses, told = paths(cases), cases.table[column].fillna("").astype(str).tolist()
    rows = [int(row) for case in batch.rows for row in case if row >= 0 and told[row]]
    tasks = [(str(Path(cases.root) / told[row]), addresses[row]) for row in rows]
    with closing(contained(load_mask, tasks, common=(geometry(model.about.preprocess),), workers=threads)) as found:
        read = {
            row: np.asarray(made, bool)
            for row, made in zip(rows, found, strict=True)
            if not isinstance(made, ImageError)
        }
    made: list[NDArray[np.bool_] | None] = []
    blank = np.zeros(model.about.preprocess.size, bool)
    for case in batch.rows:
        addressed = [int(row) for row in case if row >= 0 and told[row]]
        if not addressed or not all(row in read for row in addressed):
            made.append(None)
            continue
        stacked = np.stack([read.get(int(row), blank) for row in case])
        made.append(stacked if len(case) > 1 else stacked[0])
    return made
