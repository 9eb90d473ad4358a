import re

import pytest
import torch
from safetensors import SafetensorError

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


@pytest.mark.parametrize("what", ["the state", "a name", "a type", "a shape", "the checksum", "the weights"])
def test_one_changed_byte_anywhere_makes_a_checkpoint_count_as_damaged(tmp_path, what) -> None:
    _save(tmp_path, 1.0)
    path = _save(tmp_path, 2.0)
    data = path.read_bytes()
    digest = re.search(rb'"digest":"([0-9a-f]{32})"', data)[1]
    changes = {"the state": (rb'{\"epoch\": 2}', rb'{\"epoch\": 3}'), "a name": (b'"a/weight"', b'"a/weighs"'),
               "a type": (b'"F32"', b'"I32"'), "a shape": (b"[3,2]", b"[2,3]"), "the checksum": (digest, digest[::-1]),
               "the weights": (b"\x00\x40", b"\x00\x41")}  # fmt: skip
    old, new = changes[what]
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    assert load_checkpoint(tmp_path)[1] == {"epoch": 1}


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch) -> None:
    """safetensors has an error of its own for it."""
    path = _save(tmp_path, 1.0)
    before = path.read_bytes()

    def full(tensors, file, metadata=None):
        file.write_bytes(b"half of it")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(UnavailableError, match=r"No space left.*[Ff]ree some space"):
        _save(tmp_path, 2.0)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before
