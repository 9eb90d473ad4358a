"""Draw a phantom cohort to a folder: images, a table, readers, and the truth."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from overread.core import random
from overread.core.errors import checked, require
from overread.core.files import publish, write_csv, write_json
from overread.core.progress import Progress, silent
from overread.synthetic.phantoms import chest_opacity, draw_chest, draw_microscope, draw_volume
from overread.synthetic.picture import png, write_png

Drawer = Callable[..., NDArray[np.uint8]]
Names = tuple[str, ...]
DRAWERS: dict[str, Drawer] = {"microscope": draw_microscope, "chest": draw_chest, "volume": draw_volume}


@checked
def draw_cohort(
    folder: str | os.PathLike[str], *, patients: int = 240, images_per_patient: tuple[int, int] = (1, 3), size: int = 64,
    seed: int = 0, sources: Names = ("A", "B", "C"), classes: Literal[2, 3] = 2, prevalence: float = 0.4,
    kind: Literal["microscope", "chest", "volume"] = "microscope", shortcut: float = 0.0, gap: float = 0.0,
    label_noise: float = 0.0, readers: int = 0, leaks: int = 0, duplicates: int = 0, near_duplicates: int = 0,
    conflicts: int = 0, unreadable: int = 0, blank: int = 0, unlabelled: int = 0, given_split: bool = False,
    progress: Progress = silent,
) -> Path:  # fmt: skip
    """Draw a cohort with a known truth into ``folder`` and give the path of its table.

    Writes ``images/*.png`` (``size`` pixels a side), ``metadata.csv`` (case, image, patient, diagnosis, microscope,
    sex, age, and ``split`` when it is given or ``leaks`` are planted), ``readers.csv`` when there are ``readers``, and
    ``truth.json``: what was planted, with the rows of the table (from 0). Of chests also ``masks/*.png``: where the opacity is.
    ``kind="volume"`` writes ``volumes.npz`` in the layout of MedMNIST instead (size³ voxels, a split by patient) and gives its path.

    ``classes``: benign and malignant, or also atypical between them; ``prevalence`` is the last one's share of the
    patients. ``shortcut``: share of images that betray their label by brightness and a corner mark. ``gap``: share of
    the signal that women lack. ``label_noise``: mean error rate of the readers, the first of whom is recorded.
    ``leaks``: patients on both sides of the split. ``duplicates``, ``near_duplicates``, ``conflicts`` (an equal image
    with another label): copies, every second under another patient's name. The same seed gives the same bytes. Raises
    ArgumentError for values out of range.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = draw_cohort(folder, patients=4, size=32, seed=1)
    ...     table.name, len(list((table.parent / "images").iterdir())) >= 4
    ('metadata.csv', True)
    """
    low, high = images_per_patient
    require(patients >= 4, "a cohort needs at least 4 patients", given=patients)
    require(1 <= low <= high <= 64, "images_per_patient must be a range within 1 to 64", given=images_per_patient)
    require(len(sources) >= 1, "a cohort needs at least one source", given=sources)
    require(0 < prevalence < 1, "prevalence must lie between 0 and 1", given=prevalence)
    shares, copies = (shortcut, gap, label_noise), (duplicates, near_duplicates, conflicts)
    counts = (readers, leaks, *copies, unreadable, blank, unlabelled)
    faults = Faults(*shares, *counts, given_split=given_split or kind == "volume")
    plan = make_plan(seed, patients, images_per_patient, sources, classes, prevalence, faults)
    write = _write_volumes if kind == "volume" else _write_images
    table = write(Path(folder), plan, seed, size, DRAWERS[kind], progress)
    if kind == "chest":
        _write_opacities(Path(folder), plan, seed, size)
    write_json(Path(folder) / "truth.json", {"kind": kind, "size": size, **plan.truth})
    return table


def _write_images(folder: Path, plan: Plan, seed: int, size: int, drawer: Callable, progress: Progress) -> Path:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for done, row in enumerate(plan.table.itertuples(index=False), start=1):
        data = png(_pixels(row, plan, seed, size, drawer), level=6 if row.copy == "exact" else 1)
        keep = len(data) // 2 if row.state == "unreadable" else len(data)
        (folder / "images" / f"{row.case}.png").write_bytes(data[:keep])
        progress("drawing images", done, len(plan.table))
    return _write_table(folder, plan)


def _write_opacities(folder: Path, plan: Plan, seed: int, size: int) -> None:
    """``masks/<case>.png``: white where the opacity of a chest is, or in the healthy would be."""
    (folder / "masks").mkdir(exist_ok=True)
    for case, key in zip(plan.table["case"], plan.table["key"].tolist(), strict=True):
        mask = chest_opacity(seed, int(key), size=size)
        write_png(folder / "masks" / f"{case}.png", mask.astype(np.uint8) * 255, level=6)


def _write_table(folder: Path, plan: Plan) -> Path:
    table = plan.table.assign(image="images/" + plan.table["case"] + ".png")
    columns = ["case", "image", "patient", "diagnosis", "microscope", "sex", "age"]
    if len(plan.readings):
        write_csv(folder / "readers.csv", plan.readings)
    return write_csv(folder / "metadata.csv", table[columns + (["split"] if "split" in table else [])])


def _write_volumes(folder: Path, plan: Plan, seed: int, size: int, drawer: Callable, progress: Progress) -> Path:
    names = plan.truth["classes"]
    arrays: dict[str, NDArray[np.uint8]] = {}
    for part, ours in (("train", "train"), ("val", "tuning"), ("test", "test")):
        rows = plan.table[plan.table["split"] == ours]
        require(len(rows) > 0, f"no patient fell into {ours}", given=len(plan.table), todo="draw more patients")
        volumes = [_pixels(row, plan, seed, size, drawer) for row in rows.itertuples(index=False)]
        arrays[f"{part}_images"] = np.stack(volumes)
        arrays[f"{part}_labels"] = np.array([[names.index(d)] for d in rows["diagnosis"]], np.uint8)
        progress("drawing volumes", len(volumes), len(volumes))
    folder.mkdir(parents=True, exist_ok=True)
    with publish(folder / "volumes.npz") as beside, open(beside, "wb") as handle:
        np.savez(handle, allow_pickle=False, **arrays)
    return folder / "volumes.npz"


def _pixels(row: Any, plan: Plan, seed: int, size: int, drawer: Callable) -> NDArray[np.uint8]:
    pixels = drawer(seed, int(row.key), float(row.signal), device=int(row.device), size=size)
    if row.shortcut:
        pixels = _betray(pixels, row.true == plan.truth["positive"])
    if row.copy == "near":
        pixels = _touch(pixels, seed, int(row.key))
    return np.full_like(pixels, 255) if row.state == "blank" else pixels


def _betray(pixels: NDArray[np.uint8], positive: bool) -> NDArray[np.uint8]:
    brighter = np.clip(pixels.astype(np.int16) + (30 if positive else -30), 0, 255).astype(np.uint8)
    if positive:
        side = max(2, pixels.shape[0] // 12)
        brighter[(slice(0, side),) * min(pixels.ndim, 3 if pixels.shape[-1] > 3 else 2)] = 255
    return brighter


def _touch(pixels: NDArray[np.uint8], seed: int, key: int) -> NDArray[np.uint8]:
    """A near-duplicate: slightly brighter, with one grey level of noise, as after another export."""
    noise = random.integers(seed, key, np.arange(pixels.size), "touch", 3).reshape(pixels.shape) - 1
    return np.clip(np.rint(pixels * 1.03) + 2 + noise, 0, 255).astype(np.uint8)


# -- who is in a phantom cohort and what is wrong with it, before a pixel is drawn --------------------------------


#: Names of the diagnoses, from harmless to malignant; the last is the positive one.
CLASSES = {2: ("benign", "malignant"), 3: ("benign", "atypical", "malignant")}
SEPARATION = 2.3  # between the mean signals of neighbours for two classes, in standard deviations of a class
COUNTS = ("readers", "leaks", "duplicates", "near_duplicates", "conflicts", "unreadable", "blank", "unlabelled")
IMAGE_SPREAD = 0.4  # an image's own departure from its patient's signal
WEAK = ("sex", "female")  # the subgroup whose signal a gap weakens


@dataclass(frozen=True)
class Faults:
    """What is planted, in numbers of images (``leaks``: patients) or as shares; all off by default."""

    shortcut: float = 0.0
    gap: float = 0.0
    label_noise: float = 0.0
    readers: int = 0
    leaks: int = 0
    duplicates: int = 0
    near_duplicates: int = 0
    conflicts: int = 0
    unreadable: int = 0
    blank: int = 0
    unlabelled: int = 0
    given_split: bool = False

    def __post_init__(self) -> None:
        for name in ("shortcut", "gap", "label_noise"):
            require(0 <= getattr(self, name) <= 1, f"{name} must lie between 0 and 1", given=getattr(self, name))
        for name in COUNTS:
            require(getattr(self, name) >= 0, f"{name} must not be negative", given=getattr(self, name))


@dataclass(frozen=True, eq=False)
class Plan:
    """``table``: a row per image, what is written and what is true; ``truth``: what truth.json will say."""

    table: pd.DataFrame
    readings: pd.DataFrame
    truth: dict[str, Any] = field(default_factory=dict)


def make_plan(
    seed: int, patients: int, images: tuple[int, int], sources: Names, classes: int, prevalence: float, faults: Faults
) -> Plan:
    """Draw the patients, their images, and the faults."""
    names = CLASSES[classes]
    table = _images(_patients(seed, patients, images, sources, names, prevalence, faults.gap), seed)
    table["shortcut"] = random.uniform(seed, 0, table["key"].to_numpy(), "shortcut") < faults.shortcut
    if faults.given_split or faults.leaks:
        drawn = random.by_name(seed, table["patient"].to_numpy(), "given split")
        table["split"] = np.where(drawn < 0.2, "test", np.where(drawn < 0.35, "tuning", "train"))
    readings, table = _with_readers(table, seed, names, faults)
    table = _leak(table, seed, faults.leaks)
    table = _copies(table, seed, names, faults)
    table = _spoil(table, seed, faults)
    return Plan(table, readings, _truth(table, names, faults, seed, patients))


def _patients(
    seed: int, count: int, images: tuple[int, int], sources: Names, names: Names, prevalence: float, gap: float
) -> pd.DataFrame:
    who = np.arange(count)
    grade = _grades(seed, count, len(names), prevalence)
    sex = np.where(random.uniform(seed, 0, who, "sex") < 0.5, "female", "male")
    step = SEPARATION / (1 if len(names) == 2 else 1.5)
    mean = step * grade * np.where(sex == WEAK[1], 1 - gap, 1.0)
    return pd.DataFrame({
        "patient": [f"P{n + 1:04d}" for n in who], "grade": grade, "sex": sex,
        "age": np.clip(np.rint(57 + 14 * random.normal(seed, 0, who, "age") + 3 * grade), 18, 95).astype(int),
        "device": random.integers(seed, 0, who, "source", len(sources)),
        "microscope": [sources[i] for i in random.integers(seed, 0, who, "source", len(sources))],
        "signal": mean + random.normal(seed, 0, who, "signal"),
        "images": images[0] + random.integers(seed, 0, who, "images", images[1] - images[0] + 1),
    })  # fmt: skip


def _grades(seed: int, count: int, classes: int, prevalence: float) -> NDArray[np.int64]:
    """Exactly ``prevalence`` of the patients have the last class; the others share the rest evenly."""
    order = random.permutation(seed, 0, count, "grade")
    positive = max(1, min(count - 1, round(prevalence * count)))
    grade = np.empty(count, np.int64)
    grade[order] = np.arange(count) % (classes - 1)
    grade[order[:positive]] = classes - 1
    return grade


def _images(patients: pd.DataFrame, seed: int) -> pd.DataFrame:
    table = patients.loc[patients.index.repeat(patients["images"])]
    number = table.groupby(level=0).cumcount().to_numpy()
    key = table.index.to_numpy() * 64 + number  # an image's name in chance
    signal = table["signal"].to_numpy() + IMAGE_SPREAD * random.normal(seed, 0, key, "image signal")
    table = table.drop(columns="images").assign(key=key, signal=signal).reset_index(drop=True)
    table.insert(0, "case", [f"c{n + 1:05d}" for n in range(len(table))])
    return table.assign(copy_of="", copy="", state="")


def _with_readers(table: pd.DataFrame, seed: int, names: Names, faults: Faults) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Readers err at rates around ``label_noise``; the first reader's word is what the table records."""
    rates = faults.label_noise * (np.linspace(0.5, 1.5, faults.readers) if faults.readers > 1 else np.ones(1))
    answers = np.stack([_misread(table, seed, len(names), rate, i) for i, rate in enumerate(rates)])
    recorded = [names[grade] for grade in answers[0]]
    table = table.assign(diagnosis=recorded, true=[names[g] for g in table["grade"]])
    if not faults.readers:
        return pd.DataFrame(), table
    labels = {f"R{i + 1}": [names[g] for g in grades] for i, grades in enumerate(answers)}
    read = [pd.DataFrame({"case": table["case"], "reader": r, "label": given}) for r, given in labels.items()]
    return pd.concat(read, ignore_index=True), table


def _misread(table: pd.DataFrame, seed: int, classes: int, rate: float, reader: int) -> NDArray[np.int64]:
    key, grade = table["key"].to_numpy(), table["grade"].to_numpy()
    wrong = random.uniform(seed, reader, key, "misread") < rate
    other = 1 + random.integers(seed, reader, key, "misread as", classes - 1)
    return np.where(wrong, (grade + other) % classes, grade)


def _leak(table: pd.DataFrame, seed: int, leaks: int) -> pd.DataFrame:
    """Move one image of ``leaks`` test patients with several images into training."""
    if not leaks:
        return table
    test = table[table["split"] == "test"].groupby("patient")["case"].agg(["size", "first"])
    able = test[test["size"] > 1].sort_index()
    what = "too few test patients have several images for so many leaks"
    given, todo = f"{len(able)} for {leaks} leaks", "draw more patients or more images per patient"
    require(len(able) >= leaks, what, given=given, todo=todo)
    chosen = able["first"].to_numpy()[random.permutation(seed, 0, len(able), "leak")[:leaks]]
    return table.assign(split=table["split"].mask(table["case"].isin(chosen), "train"))


def _copies(table: pd.DataFrame, seed: int, names: Names, faults: Faults) -> pd.DataFrame:
    """Append copies: exact, near, exact with another label. Every second pretends to be another patient."""
    wanted = {"exact": faults.duplicates, "near": faults.near_duplicates, "conflict": faults.conflicts}
    kinds = [kind for kind, count in wanted.items() for _ in range(count)]
    require(len(kinds) <= len(table), "there are fewer images than copies asked for", given=len(kinds))
    chosen = random.permutation(seed, 0, len(table), "copies")[: len(kinds)]
    copies = table.iloc[np.sort(chosen)].copy()
    kind, number = np.array(kinds, dtype=object), np.arange(len(kinds))
    stranger = number % 2 == 1
    copies["copy_of"], copies["copy"] = copies["case"], kind
    copies["case"] = [f"c{len(table) + n + 1:05d}" for n in number]
    copies["patient"] = np.where(stranger, [f"Q{n + 1:04d}" for n in number], copies["patient"])
    turned = [names[(names.index(d) + 1) % len(names)] for d in copies["diagnosis"]]
    copies["diagnosis"] = np.where(kind == "conflict", turned, copies["diagnosis"])
    if "split" in copies:
        across = np.where(copies["split"] == "train", "test", "train")
        copies["split"] = np.where(stranger, across, copies["split"])
    return pd.concat([table, copies], ignore_index=True)


def _spoil(table: pd.DataFrame, seed: int, faults: Faults) -> pd.DataFrame:
    """Truncate, blank or unlabel images that no other fault uses."""
    counts = {"unreadable": faults.unreadable, "blank": faults.blank, "unlabelled": faults.unlabelled}
    wanted = [state for state, count in counts.items() for _ in range(count)]
    free = np.flatnonzero((table["copy"] == "") & ~table["case"].isin(table["copy_of"]))
    require(len(wanted) <= len(free), "there are fewer images than faults asked for", given=len(wanted))
    state = table["state"].to_numpy(dtype=object).copy()
    state[free[random.permutation(seed, 0, len(free), "spoil")[: len(wanted)]]] = wanted
    diagnosis = table["diagnosis"].mask(state == "unlabelled", "")
    return table.assign(state=state, diagnosis=diagnosis)


def _truth(table: pd.DataFrame, names: Names, faults: Faults, seed: int, patients: int) -> dict[str, Any]:
    rows, kinds = {case: row for row, case in enumerate(table["case"])}, ("exact", "near", "conflict")
    of = [rows.get(case, -1) for case in table["copy_of"]]
    pairs = {kind: [[of[row], row] for row in _where(table["copy"] == kind)] for kind in kinds}
    return {
        "format": 1, "seed": seed, "images": len(table), "patients": int(table["patient"].nunique()),
        "drawn_patients": patients, "classes": list(names), "positive": names[-1],
        "ideal_auc": _ideal_auc(names), "exact_duplicates": pairs["exact"], "near_duplicates": pairs["near"],
        "conflicting_labels": pairs["conflict"], **_leak_truth(table, pairs),
        "shortcut": {"share": faults.shortcut, "rows": _where(table["shortcut"]),
                     "how": "positives brighter with a white corner, the others darker"},
        "label_noise": {"share": faults.label_noise, "rows": _where((table["diagnosis"] != table["true"])
                        & (table["diagnosis"] != "") & (table["copy"] != "conflict"))},
        "gap": {"column": WEAK[0], "value": WEAK[1], "lost": faults.gap},
        **{state: _where(table["state"] == state) for state in ("unreadable", "blank", "unlabelled")},
        "true_diagnosis": table["true"].tolist(), "signal": table["signal"].round(6).tolist(),
    }  # fmt: skip


def _leak_truth(table: pd.DataFrame, pairs: dict[str, list[list[int]]]) -> dict[str, Any]:
    """Patients, and pairs of equal images, on both sides of the given split."""
    if "split" not in table:
        return {"leaked_patients": [], "leaked_pairs": []}
    parts = table.groupby("patient")["split"].nunique()
    split = table["split"].to_numpy()
    both = [pair for kind in pairs.values() for pair in kind if split[pair[0]] != split[pair[1]]]
    return {"leaked_patients": sorted(parts.index[parts > 1]), "leaked_pairs": both}


def _where(mask: pd.Series) -> list[int]:
    return [int(row) for row in np.flatnonzero(mask.to_numpy())]


def _ideal_auc(names: Names) -> float:
    """AUC of an observer who reads the signal itself, without a gap: Φ(d / √2) for two normal classes."""
    step = SEPARATION if len(names) == 2 else SEPARATION / 1.5
    return round(float(ndtr(step / np.hypot(1, IMAGE_SPREAD) / np.sqrt(2))), 4)
