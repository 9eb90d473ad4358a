"""A dataset of one's own becomes a table that is read like any other."""

from __future__ import annotations

import numpy as np
import pytest

import overread as ov
from overread.cases.cases import paths
from overread.cases.sources import dataset as module
from overread.core.errors import InputError
from overread.images.read import read_image


class Own:
    """Images of growing width, grey and coloured, of two patients an even number apart."""

    def __init__(self, count: int = 8, pixels=None, row=None) -> None:
        self.count, self.pixels, self.row, self.asked = count, pixels, row, []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        self.asked.append(index)
        rng = np.random.default_rng(index)
        pixels = rng.integers(0, 256, (12, 10 + index // 3, 3) if index % 4 == 3 else (12, 10 + index // 3)).astype(
            np.uint8
        )
        row = {"dx": "mel" if index % 3 else "nv", "who": f"p{index // 2}", "age": 40 + index}
        return (pixels if self.pixels is None else self.pixels), (row if self.row is None else self.row)


def test_each_image_comes_back_with_its_row(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "_MOST_ROWS", 2)
    own = Own()
    path = ov.write_dataset(own, tmp_path / "own")
    assert own.asked == list(range(8))
    cases = ov.read_cases(path, label="dx", patient="who", positive=["mel"], names="keep")
    assert cases.table["label"].tolist() == [own[i][1]["dx"] for i in range(8)]
    assert cases.table["patient"].tolist() == [own[i][1]["who"] for i in range(8)]
    for i, address in enumerate(paths(cases)):
        pixels = own[i][0]
        assert (read_image(address).pixels == pixels.reshape(*pixels.shape[:2], -1)).all()
    assert sorted(p.name for p in (tmp_path / "own").iterdir()) == ["images.npz", "table.csv"]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_volumes_and_sixteen_bits(tmp_path, kind) -> None:
    volume = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (6, 7, 8)).astype(kind)
    cases = ov.read_cases(ov.write_dataset(Own(4, volume), tmp_path), label="dx", patient="who", positive=["mel"])
    image = read_image(paths(cases)[0])
    assert image.mode == "volume"
    assert (image.pixels[..., 0] == volume).all()


@pytest.mark.parametrize(
    ("made", "words"),
    [(Own(0), "empty"), (Own(pixels=np.zeros((4, 4))), "item 0: float64.*kept with the model"), (Own(pixels=np.zeros(4, np.uint8)), r"shape \(4,\)"),
     (Own(pixels=np.zeros((0, 4), np.uint8)), "shape"), (Own(row={"image": "x"}), "made here"), (Own(row=["mel"]), "no pair")],
)  # fmt: skip
def test_what_is_no_image_with_a_row_is_refused_and_leaves_nothing(tmp_path, made, words) -> None:
    with pytest.raises(ov.OverreadError, match=words):
        ov.write_dataset(made, tmp_path / "own")
    assert not (tmp_path / "own").exists() or not list((tmp_path / "own").iterdir())


def test_rows_of_other_columns_are_refused_with_their_number(tmp_path) -> None:
    class Uneven(Own):
        def __getitem__(self, index: int):
            pixels, row = super().__getitem__(index)
            return pixels, {name: value for name, value in row.items() if index < 5 or name != "age"}

    with pytest.raises(InputError, match="item 5: dx, who; the first: dx, who, age"):
        ov.write_dataset(Uneven(), tmp_path)
