"""Numbers beside the pixels, and recurrent units against torch's own bidirectional ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from overread.core.errors import ArgumentError, UnavailableError
from overread.learning.ensemble import Member
from overread.networks.backbones import build
from overread.networks.fusion import Fused, Recurrent
from overread.networks.numeric_inputs import WithNumbers, extra_of, require_pixels_alone, with_planes

SCALES = [(5.0, 2.0), (0.0, 1.0)]


def network(fusion: str = "", **options) -> nn.Module:
    torch.manual_seed(0)
    made = WithNumbers(build("lenet5", outputs=2, channels=1), SCALES, outputs=2)
    return (Fused(made, fusion, outputs=2, **options) if fusion else made).eval()


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_the_head_sees_the_bodys_features_and_the_standardised_numbers_and_which_are_missing() -> None:
    made, pixels = network(), images(2, 1, 28, 28)
    x = with_planes(pixels, np.array([[9, -1], [np.nan, 3]], np.float32))
    assert x.shape == (2, 3, 28, 28)
    features = made.features(x)
    assert torch.allclose(
        features[:, :-4], made.body.features(pixels), atol=1e-6
    )  # the body is shown a part of x: another order of sums
    assert features[:, -4:].tolist() == [[2, -1, 0, 0], [0, 3, 1, 0]]
    assert torch.equal(made(x), made.head(features))
    assert made(x).isfinite().all()
    assert torch.equal(
        made(x.flip(-1))[:, 0], made(with_planes(pixels.flip(-1), np.array([[9, -1], [np.nan, 3]], np.float32)))[:, 0]
    )
    assert not [name for name in made.state_dict() if "mean" in name or "std" in name or name.startswith("body.head")]


@pytest.mark.parametrize("fusion", ["mean", "recurrent", "attention"])
def test_a_missing_number_is_not_a_missing_image(fusion) -> None:
    made = network(fusion)
    x = with_planes(images(3, 1, 28, 28), np.array([[np.nan, 1], [2, 2], [4, 0]], np.float32))[None]
    assert made.present(x).all()
    assert made(x).isfinite().all()
    gone = torch.cat([x, torch.full_like(x[:, :1], torch.nan)], 1)
    assert torch.allclose(made(gone), made(x), atol=1e-6)


def test_a_member_of_an_ensemble_leaves_the_numbers_as_they_are() -> None:
    from overread.images.preprocess import Preprocess

    whole = Preprocess(size=(28, 28), channels=1, normalise="channel mean and std", mean=(0.5,), std=(0.25,))
    own = Preprocess(size=(28, 28), channels=1, normalise="channel mean and std", mean=(0.4,), std=(0.5,))
    x = with_planes(images(2, 1, 28, 28), np.array([[7, np.nan], [8, 2]], np.float32))
    seen = Member(network(), own, whole).prepared(x)
    assert torch.equal(seen[:, 1:].nan_to_num(-9), x[:, 1:].nan_to_num(-9))
    assert torch.allclose(seen[:, 0], (x[:, 0] * 0.25 + 0.5 - 0.4) / 0.5, atol=1e-6)


def test_what_is_made_of_pixels_alone_says_so() -> None:
    assert extra_of(network("mean")) == 2
    assert extra_of(build("lenet5", outputs=2)) == 0
    require_pixels_alone(build("lenet5", outputs=2), "a graph", "x")
    with pytest.raises(UnavailableError, match="2 numbers beside"):
        require_pixels_alone(network("mean"), "a graph", "train without --inputs")
    with pytest.raises(ArgumentError, match="each image needs its numbers"):
        with_planes(images(2, 1, 4, 4), np.zeros((3, 1), np.float32))


@pytest.mark.parametrize("units", ["gru", "lstm", "bi-gru", "bi-lstm"])
def test_recurrent_units_are_those_of_torch_on_packed_sequences(units) -> None:
    """Independent: torch's own packing takes the images that are there, and its own bidirectional layer both ways."""
    torch.manual_seed(2)
    made = Recurrent(6, units)
    features = torch.randn(3, 5, 6)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 1, 1], [0, 0, 1, 0, 0]], dtype=torch.bool)
    both = units.startswith("bi-")
    theirs = {"gru": nn.GRU, "lstm": nn.LSTM}[units.removeprefix("bi-")](6, 6, batch_first=True, bidirectional=both)
    held = made.gru.state_dict() | ({f"{k}_reverse": v for k, v in made.back.state_dict().items()} if both else {})
    theirs.load_state_dict(held)
    rows = [made.norm(features[i][mask[i]]) for i in range(3)]
    packed = nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)
    _, state = theirs(packed)
    state = state[0] if isinstance(state, tuple) else state  # (1 or 2, B, 6)
    assert torch.allclose(made(features, mask), torch.cat(list(state), 1), atol=1e-5)
    assert made(features, torch.zeros_like(mask)).eq(0).all()
