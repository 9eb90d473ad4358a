"""Small tables and images whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.cases.cases import Cases
from overread.tasks.target import Target


def picture(seed: int, size: int = 48) -> np.ndarray:
    """A smooth colour image that no other seed resembles."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(0, 255, (7, 7, 3)).astype(np.float32)
    return np.clip(cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def write(path: Path, pixels: np.ndarray, *options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels, list(options))


def made(rows: dict, kind: str = "binary", names: tuple[str, ...] = ("no", "yes")) -> Cases:
    """Cases straight from columns, without files."""
    table = pd.DataFrame(rows)
    table["case"] = table.get("case", pd.Series([f"c{i}" for i in range(len(table))]))
    for column in ("image", "patient"):
        table[column] = table.get(column, table["case"])
    for column in ("source", "view", "time", "split"):
        table[column] = table.get(column, "")
    return Cases(table, Target(kind, names, names[1:2] if kind == "binary" else ()))


def cohort(patients: int = 200, seed: int = 0, names: tuple[str, ...] = ("a", "b", "c"), **columns: object) -> Cases:
    """Patients with one to three images; the classes get rarer, the sources differ in their mixture."""
    rng = np.random.default_rng(seed)
    images = rng.integers(1, 4, patients)
    label = rng.choice(len(names), patients, p=np.array([0.7, 0.25, 0.05]) if len(names) == 3 else None)
    source = np.where(rng.uniform(size=patients) < 0.3 + 0.3 * (label == 1), "x", "y")
    who = np.repeat(np.arange(patients), images)
    rows = {"patient": [f"p{i}" for i in who], "label": np.array(names, object)[label[who]], "source": source[who]}
    return made(rows | columns, "classes", names)


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Writes ``metadata.csv`` with the given columns and an image for each row."""

    def build(columns: dict, *, image: str = "image", name: str = "metadata.csv", sep: str = ",") -> Path:
        frame = pd.DataFrame(columns)
        for i, file in enumerate(frame.get(image, ())):
            if file:
                write(tmp_path / str(file), picture(i, 16))
        frame.to_csv(tmp_path / name, index=False, sep=sep)
        return tmp_path / name

    return build
