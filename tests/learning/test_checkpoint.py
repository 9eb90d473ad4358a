import pytest
import torch

from overread.core.errors import UnavailableError
from overread.learning.checkpoint import load_checkpoint, save_checkpoint


def _save(folder, value: float):
    return save_checkpoint(folder, {"a/weight": torch.full((3, 2), value), "b": torch.tensor(7)}, {"epoch": int(value)})


def test_round_trip_and_an_empty_folder(tmp_path) -> None:
    assert load_checkpoint(tmp_path) is None
    _save(tmp_path, 1.0)
    tensors, state = load_checkpoint(tmp_path)
    assert state == {"epoch": 1}
    assert torch.equal(tensors["a/weight"], torch.ones(3, 2))
    assert tensors["b"].item() == 7


def test_a_damaged_newest_gives_way_to_the_one_before(tmp_path) -> None:
    _save(tmp_path, 1.0)
    path = _save(tmp_path, 2.0)
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF  # a flipped bit in the weights: the header still reads well
    path.write_bytes(data)
    assert load_checkpoint(tmp_path)[1] == {"epoch": 1}
    path.write_bytes(data[: len(data) // 2])
    assert load_checkpoint(tmp_path)[1] == {"epoch": 1}


def test_only_damaged_ones_are_an_error(tmp_path) -> None:
    _save(tmp_path, 1.0).write_bytes(b"not a checkpoint")
    with pytest.raises(UnavailableError, match="no checkpoint"):
        load_checkpoint(tmp_path)


def test_a_crash_between_the_renames_leaves_the_previous(tmp_path) -> None:
    path = _save(tmp_path, 1.0)
    path.rename(path.with_name("previous.safetensors"))
    assert load_checkpoint(tmp_path)[1] == {"epoch": 1}
