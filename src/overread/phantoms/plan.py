"""Who is in a phantom cohort and what is wrong with it, before a pixel is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from overread import chance
from overread.errors import require

#: Names of the diagnoses, from harmless to malignant; the last is the positive one.
CLASSES = {2: ("benign", "malignant"), 3: ("benign", "atypical", "malignant")}
SEPARATION = 2.3  # between the mean signals of neighbours for two classes, in standard deviations of a class
COUNTS = (
    "readers",
    "leaks",
    "duplicates",
    "near_duplicates",
    "conflicts",
    "unreadable",
    "blank",
    "unlabelled",
)
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
            require(
                0 <= getattr(self, name) <= 1, f"{name} must lie between 0 and 1", given=getattr(self, name)
            )
        for name in COUNTS:
            require(getattr(self, name) >= 0, f"{name} must not be negative", given=getattr(self, name))


@dataclass(frozen=True, eq=False)
class Plan:
    """``table``: a row per image, what is written and what is true; ``truth``: what truth.json will say."""

    table: pd.DataFrame
    readings: pd.DataFrame
    truth: dict[str, Any] = field(default_factory=dict)


def make_plan(
    seed: int,
    patients: int,
    images: tuple[int, int],
    sources: tuple[str, ...],
    classes: int,
    prevalence: float,
    faults: Faults,
) -> Plan:
    """Draw the patients, their images, and the faults."""
    names = CLASSES[classes]
    table = _images(_patients(seed, patients, images, sources, names, prevalence, faults.gap), seed)
    table = _shortcut(table, seed, faults.shortcut)
    if faults.given_split or faults.leaks:
        table["split"] = _given_split(table, seed)
    readings, table = _read(table, seed, names, faults)
    table = _leak(table, seed, faults.leaks)
    table = _copies(table, seed, names, faults)
    table = _spoil(table, seed, faults)
    return Plan(table, readings, _truth(table, names, faults, seed, patients))


def _patients(
    seed: int,
    count: int,
    images: tuple[int, int],
    sources: tuple[str, ...],
    names: tuple[str, ...],
    prevalence: float,
    gap: float,
) -> pd.DataFrame:
    who = np.arange(count)
    grade = _grades(seed, count, len(names), prevalence)
    sex = np.where(chance.uniform(seed, 0, who, "sex") < 0.5, "female", "male")
    step = SEPARATION / (1 if len(names) == 2 else 1.5)
    mean = step * grade * np.where(sex == WEAK[1], 1 - gap, 1.0)
    return pd.DataFrame({
        "patient": [f"P{n + 1:04d}" for n in who], "grade": grade, "sex": sex,
        "age": np.clip(np.rint(57 + 14 * chance.normal(seed, 0, who, "age") + 3 * grade), 18, 95).astype(int),
        "device": chance.integers(seed, 0, who, "source", len(sources)),
        "microscope": [sources[i] for i in chance.integers(seed, 0, who, "source", len(sources))],
        "signal": mean + chance.normal(seed, 0, who, "signal"),
        "images": images[0] + chance.integers(seed, 0, who, "images", images[1] - images[0] + 1),
    })  # fmt: skip


def _grades(seed: int, count: int, classes: int, prevalence: float) -> NDArray[np.int64]:
    """Exactly ``prevalence`` of the patients have the last class; the others share the rest evenly."""
    order = chance.permutation(seed, 0, count, "grade")
    positive = max(1, min(count - 1, round(prevalence * count)))
    grade = np.empty(count, np.int64)
    grade[order] = np.arange(count) % (classes - 1)
    grade[order[:positive]] = classes - 1
    return grade


def _images(patients: pd.DataFrame, seed: int) -> pd.DataFrame:
    table = patients.loc[patients.index.repeat(patients["images"])]
    number = table.groupby(level=0).cumcount().to_numpy()
    key = table.index.to_numpy() * 64 + number  # an image's name in chance
    signal = table["signal"].to_numpy() + IMAGE_SPREAD * chance.normal(seed, 0, key, "image signal")
    table = table.drop(columns="images").assign(key=key, signal=signal).reset_index(drop=True)
    table.insert(0, "case", [f"c{n + 1:05d}" for n in range(len(table))])
    return table.assign(shortcut=False, copy_of="", copy="", state="")


def _shortcut(table: pd.DataFrame, seed: int, share: float) -> pd.DataFrame:
    """A share of the images betrays its diagnosis by brightness and a mark."""
    return table.assign(shortcut=chance.uniform(seed, 0, table["key"].to_numpy(), "shortcut") < share)


def _given_split(table: pd.DataFrame, seed: int) -> NDArray[Any]:
    drawn = chance.by_name(seed, table["patient"].to_numpy(), "given split")
    return np.where(drawn < 0.2, "test", np.where(drawn < 0.35, "tuning", "train"))


def _read(
    table: pd.DataFrame, seed: int, names: tuple[str, ...], faults: Faults
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Readers err at rates around ``label_noise``; the first reader's word is what the table records."""
    rates = faults.label_noise * (np.linspace(0.5, 1.5, faults.readers) if faults.readers > 1 else np.ones(1))
    said = np.stack([_misread(table, seed, len(names), rate, i) for i, rate in enumerate(rates)])
    recorded = [names[grade] for grade in said[0]]
    table = table.assign(diagnosis=recorded, true=[names[g] for g in table["grade"]])
    if not faults.readers:
        return pd.DataFrame(), table
    parts = [
        pd.DataFrame({"case": table["case"], "reader": f"R{i + 1}", "label": [names[g] for g in grades]})
        for i, grades in enumerate(said)
    ]
    return pd.concat(parts, ignore_index=True), table


def _misread(table: pd.DataFrame, seed: int, classes: int, rate: float, reader: int) -> NDArray[np.int64]:
    key, grade = table["key"].to_numpy(), table["grade"].to_numpy()
    wrong = chance.uniform(seed, reader, key, "misread") < rate
    other = 1 + chance.integers(seed, reader, key, "misread as", classes - 1)
    return np.where(wrong, (grade + other) % classes, grade)


def _leak(table: pd.DataFrame, seed: int, leaks: int) -> pd.DataFrame:
    """Move one image of ``leaks`` test patients with several images into training."""
    if not leaks:
        return table
    test = table[table["split"] == "test"].groupby("patient")["case"].agg(["size", "first"])
    able = test[test["size"] > 1].sort_index()
    require(
        len(able) >= leaks,
        "too few test patients have several images for so many leaks",
        given=f"{len(able)} for {leaks} leaks",
        todo="draw more patients or more images per patient",
    )
    chosen = able["first"].to_numpy()[chance.permutation(seed, 0, len(able), "leak")[:leaks]]
    return table.assign(split=table["split"].mask(table["case"].isin(chosen), "train"))


def _copies(table: pd.DataFrame, seed: int, names: tuple[str, ...], faults: Faults) -> pd.DataFrame:
    """Append copies: exact, near, exact with another label. Every second pretends to be another patient."""
    wanted = {"exact": faults.duplicates, "near": faults.near_duplicates, "conflict": faults.conflicts}
    kinds = [kind for kind, count in wanted.items() for _ in range(count)]
    require(len(kinds) <= len(table), "there are fewer images than copies asked for", given=len(kinds))
    chosen = chance.permutation(seed, 0, len(table), "copies")[: len(kinds)]
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
    state[free[chance.permutation(seed, 0, len(free), "spoil")[: len(wanted)]]] = wanted
    diagnosis = table["diagnosis"].mask(state == "unlabelled", "")
    return table.assign(state=state, diagnosis=diagnosis)


def _truth(
    table: pd.DataFrame, names: tuple[str, ...], faults: Faults, seed: int, patients: int
) -> dict[str, Any]:
    rows = {case: row for row, case in enumerate(table["case"])}
    pairs: dict[str, list[list[int]]] = {
        kind: [[rows[table["copy_of"][row]], row] for row in _where(table["copy"] == kind)]
        for kind in ("exact", "near", "conflict")
    }
    return {
        "format": 1, "seed": seed, "images": len(table), "patients": int(table["patient"].nunique()),
        "drawn_patients": patients, "classes": list(names), "positive": names[-1],
        "ideal_auc": _ideal_auc(names), "exact_duplicates": pairs["exact"],
        "near_duplicates": pairs["near"],
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


def _ideal_auc(names: tuple[str, ...]) -> float:
    """AUC of an observer who reads the signal itself, without a gap: Φ(d / √2) for two normal classes."""
    step = SEPARATION if len(names) == 2 else SEPARATION / 1.5
    return round(float(ndtr(step / np.hypot(1, IMAGE_SPREAD) / np.sqrt(2))), 4)
