"""The table of objects and its summary, against what pandas makes of the whole table."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from skimage.draw import disk

from overread.cells.object_summary import IMAGES, OBJECTS, MarkedImage, ObjectSummary, write_objects
from overread.core.errors import InputError
from overread.images.outlines.outlines import outlines_of


def some_images(many: int = 12, channels: int = 1, seed: int = 0) -> Iterator[MarkedImage]:
    rng = np.random.default_rng(seed)
    for number in range(many):
        labels = np.zeros((96, 96), np.int32)
        kinds = []
        for y in range(4, 96, 30):  # the first row touches the border
            for x in range(16, 96, 30):
                kinds.append("big" if rng.random() < 0.4 else "small")
                labels[disk((y, x), 11 if kinds[-1] == "big" else 5, shape=labels.shape)] = len(kinds)
        pixels = rng.integers(0, 255, (96, 96, channels), dtype=np.uint8)
        yield MarkedImage(f"i{number}", f"p{number // 2}", "AB"[number % 2], outlines_of(labels, classes=kinds), pixels, 0.5, "test")  # fmt: skip


def test_the_table_and_its_means(tmp_path) -> None:
    found = write_objects(tmp_path, some_images(), 12, microns=True)
    table, images = pd.read_csv(tmp_path / OBJECTS), pd.read_csv(tmp_path / IMAGES)
    assert found.objects == len(table) == 12 * 12
    assert found.images == 12
    assert found.patients == 6
    assert found.touching == int(table["touches border"].sum()) > 0
    whole = table[table["touches border"] == 0]
    assert float(found["mean area"]) == pytest.approx(whole["area um2"].mean())
    assert float(found["mean area", "big"]) == pytest.approx(whole.loc[whole["class"] == "big", "area um2"].mean())
    assert float(found["mean circularity", "small"]) == pytest.approx(whole.loc[whole["class"] == "small", "circularity"].mean())  # fmt: skip
    assert float(found["objects per image", "big"]) == pytest.approx((table["class"] == "big").sum() / 12)
    of_a = [e for e in found.estimates if e.where == {"source": "A"} and e.metric == "mean area" and not e.of]
    assert of_a[0].value == pytest.approx(whole[whole["case"].isin([f"i{i}" for i in range(0, 12, 2)])]["area um2"].mean())  # fmt: skip
    assert of_a[0].low < of_a[0].value < of_a[0].high
    assert "touch the border" in str(found)
    assert set(images["part"]) == {"test"}
    assert images.loc[images["class"].isna(), "objects"].sum() == found.objects


def test_it_comes_back_from_its_files(tmp_path) -> None:
    found = write_objects(tmp_path, some_images(), 12)
    found.save(tmp_path)
    assert ObjectSummary.load(tmp_path) == found
    assert found.unit == "pixels"


def test_intervals_are_those_of_patients(tmp_path) -> None:
    """Two images of one patient count once: copies of every image of every patient change no interval."""
    alone = write_objects(tmp_path, some_images(), 12)
    again = [*some_images(), *(MarkedImage(f"{i.case}b", i.patient, i.source, i.outlines, i.pixels) for i in some_images())]  # fmt: skip
    twice = write_objects(tmp_path, iter(again), 24)
    first, second = alone["mean area"], twice["mean area"]
    assert (first.low, first.high) == pytest.approx((second.low, second.high))


def test_images_of_other_channels_are_made_alike_and_said(tmp_path) -> None:
    found = write_objects(tmp_path, iter([*some_images(2, channels=3), *some_images(2)]), 4)
    assert "2 images of other channels" in str(found)
    table = pd.read_csv(tmp_path / OBJECTS)
    grey = table.iloc[-1]
    assert grey["intensity mean 1"] == grey["intensity mean 3"]


def test_memory_is_that_of_an_image(tmp_path) -> None:
    held: list[int] = []

    def watched() -> Iterator[MarkedImage]:
        for image in some_images(14):
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
            yield image

    tracemalloc.start()
    write_objects(tmp_path, watched(), 14, texture=False)
    tracemalloc.stop()
    assert held[-1] - held[4] < 9 * 8_000  # three rows an image, of its sums; nothing of its objects


def test_no_image_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="no image"):
        write_objects(tmp_path, iter(()), 0)
