import numpy as np
import pytest
import torch

from overread.learning.loader import ahead


def _all(batches, epoch, start=0):
    return list(batches.epoch(epoch, start))


def test_an_epoch_holds_every_training_row_once_and_no_other(make_training) -> None:
    batches = make_training()["batches"]
    rows = np.concatenate([rows for rows, _, _ in _all(batches, 0)])
    assert sorted(rows) == list(range(64))
    other = np.concatenate([rows for rows, _, _ in _all(batches, 1)])
    assert sorted(other) == sorted(rows)
    assert list(other) != list(rows)


def test_starting_in_the_middle_gives_the_same_batches(make_training) -> None:
    batches = make_training()["batches"]
    for (_, x, y), (_, x2, y2) in zip(_all(batches, 2)[2:], _all(batches, 2, 2), strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_labels_follow_their_rows(make_training) -> None:
    batches = make_training()["batches"]
    for rows, x, y in batches.epoch(0):
        assert torch.equal(y, batches.labels[torch.from_numpy(rows)])
        assert x.shape == (len(rows), 1, 12, 12)


def test_ahead_keeps_order_and_passes_errors_on() -> None:
    assert list(ahead(range(5))) == [0, 1, 2, 3, 4]

    def broken():
        yield 1
        raise ValueError("broken")

    made = ahead(broken())
    assert next(made) == 1
    with pytest.raises(ValueError, match="broken"):
        next(made)
