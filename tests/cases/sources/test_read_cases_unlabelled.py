import numpy as np
import pandas as pd
import pytest
from PIL import Image

from overread.cases.sources.read_cases import read_images
from overread.core.errors import InputError
from overread.tasks.target import Target

TARGET = Target("binary", ("benign", "malignant"), ("malignant",))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("a.png", "b.png", "deep/c.png"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name)
    pd.DataFrame(
        {"file": ["a.png", "b.png"], "pid": ["p", "q"], "dx": ["benign", "malignant"], "sex": ["f", "m"]}
    ).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path


def test_a_folder_and_one_image(folder) -> None:
    cases = read_images(folder, TARGET)
    assert list(cases.table["image"]) == ["a.png", "b.png", "deep/c.png"]
    assert not cases.labelled.any()
    assert cases.patients == 3
    assert len(read_images(folder / "a.png", TARGET)) == 1


def test_a_table_with_and_without_labels(folder) -> None:
    bare = read_images(folder / "t.csv", TARGET, patient="pid", names="keep")
    assert not bare.labelled.any()
    assert list(bare.table["patient"]) == ["p", "q"]
    assert list(bare.table["sex"]) == ["f", "m"]
    assert list(read_images(folder / "t.csv", TARGET, label="dx").labels) == [0, 1]


def test_findings_and_quantities_are_unknown_numbers(folder) -> None:
    assert np.isnan(read_images(folder / "t.csv", Target("findings", ("x", "y"))).labels).all()
    assert np.isnan(read_images(folder / "t.csv", Target("quantity", ("v",))).labels).all()


def test_what_is_missing_or_strange_is_named(folder, tmp_path) -> None:
    with pytest.raises(InputError, match="no images"):
        read_images(folder / "absent.png", TARGET)
    with pytest.raises(InputError, match="does not exist|not exist|not there"):
        read_images(folder / "absent.csv", TARGET)
    other = Target("binary", ("benign", "melanoma"), ("melanoma",))
    with pytest.raises(InputError, match="malignant"):
        read_images(folder / "t.csv", other, label="dx")
