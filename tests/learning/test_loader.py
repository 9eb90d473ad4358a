from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest

from overread.images.augment import Augmentation
from overread.learning.loader import ahead, balanced, draw_mixture


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


# -- drawn alike ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [(90, 9, 1), (50, 50), (7, 3, 2, 1), (5,)])
def test_an_epoch_drawn_alike_holds_as_many_of_each(counts) -> None:
    strata = np.repeat(np.arange(len(counts)) * 3, counts)  # the numbers of strata need not be 0, 1, 2
    np.random.default_rng(0).shuffle(strata)
    total = np.zeros(len(counts))
    for epoch in range(len(counts)):
        places, copies = balanced(strata, seed=1, epoch=epoch)
        drawn = np.bincount(strata[places] // 3, minlength=len(counts))
        assert drawn.sum() == len(strata)
        assert np.ptp(drawn) <= 1
        total += drawn
        times = np.bincount(places, minlength=len(strata))
        for stratum in np.unique(strata):
            assert np.ptp(times[strata == stratum]) <= 1  # each once before any comes again
        assert len({*zip(places.tolist(), copies.tolist(), strict=True)}) == len(places)
    assert np.ptp(total) == 0  # what does not divide goes round
    again, _ = balanced(strata, seed=1, epoch=0)
    assert (again == balanced(strata, seed=1, epoch=0)[0]).all()
    assert len(strata) < 10 or (again != balanced(strata, seed=2, epoch=0)[0]).any()


def test_a_row_that_comes_twice_is_not_augmented_alike(make_training) -> None:
    strata = np.r_[np.zeros(63, int), 1]
    batches = replace(make_training()["batches"], strata=strata, augmentation=Augmentation(rotate=90))
    images = [x[i] for rows, x, _ in batches.epoch(0) for i, row in enumerate(rows) if row == 63]
    assert len(images) == 32
    assert len({image.numpy().tobytes() for image in images}) == 32
    for (_, x, y), (_, x2, y2) in zip(_all(batches, 2)[2:], _all(batches, 2, 2), strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


# -- mixed ------------------------------------------------------------------------------------------------------------


def test_mixup_against_a_loop_over_images(make_training) -> None:
    plain = make_training()["batches"]
    mixed = replace(plain, mix="mixup", mix_alpha=0.4)
    for (rows, x, y), (rows2, x2, y2) in zip(plain.epoch(1), mixed.epoch(1), strict=True):
        assert (rows == rows2).all()
        assert torch.equal(y, y2)
        mixture = mixed.mixture(rows, 1)
        assert sorted(mixture.partner) == list(range(len(rows)))
        for i in range(len(rows)):
            j, own = mixture.partner[i], mixture.own[i]
            assert i != j
            assert torch.allclose(x2[i], x[i] * own + x[j] * (1 - own), atol=1e-6)


@pytest.mark.parametrize("sides", [(12, 12), (10, 17), (8, 9, 10)])
def test_cutmix_keeps_the_share_of_pixels_that_its_labels_say(sides) -> None:
    x = torch.arange(40.0).reshape(40, *[1] * (1 + len(sides))).expand(40, 1, *sides)
    mixture = draw_mixture(1.0, sides, seed=3, epoch=2, rows=np.arange(40))
    made = mixture.apply(x)
    for i in range(40):
        own = made[i] == i
        assert float(own.float().mean()) == pytest.approx(mixture.own[i], abs=1e-6)
        assert ((made[i] == mixture.partner[i]) | own).all()
    assert 0.3 < mixture.own.mean() < 0.85  # boxes are cut off at the edge


def test_shares_are_drawn_from_beta_and_belong_to_their_rows() -> None:
    rows = np.arange(5000)
    assert kstest(draw_mixture(0.4, (), seed=0, epoch=0, rows=rows).own, beta(0.4, 0.4).cdf).pvalue > 0.01
    few = draw_mixture(0.4, (), seed=0, epoch=0, rows=np.array([7, 3]))
    assert few.own.tolist() == draw_mixture(0.4, (), seed=0, epoch=0, rows=np.array([3, 7])).own[::-1].tolist()
    assert few.partner.tolist() == [1, 0]
    alone = draw_mixture(0.4, (5, 5), seed=0, epoch=0, rows=np.array([7]))
    assert alone.partner.tolist() == [0]
