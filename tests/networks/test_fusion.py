"""Cases of several images under one network."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from overread.core.errors import ArgumentError
from overread.networks.backbones import build
from overread.networks.fusion import Attention, Fused, GatedAttention, Mean, Recurrent, SideBySide, spread
from overread.tasks.target import Target

KINDS = ("mean", "late", "concat", "stacked", "recurrent", "attention", "gated-attention")
POOL = Target("classes", ("a", "b")).task.pooled


def fused(kind: str, name: str = "lenet5", places: int = 3, **options) -> Fused:
    torch.manual_seed(0)
    body = build(name, outputs=2, channels=1)
    network = Fused(body, kind, outputs=2, places=places, pool=POOL, **options)
    for part in network.fuse.parameters():  # nothing at its first value, so that everything counts
        torch.nn.init.normal_(part, std=0.3)
    return network.eval()


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_one_answer_a_case_by_the_head_on_the_features(kind) -> None:
    network, x = fused(kind), images(4, 3, 1, 28, 28)
    made = network(x)
    assert made.shape == (4, 2)
    assert network.features(x).shape == (4, network.width)
    assert torch.equal(made, network.head(network.features(x)))
    names = dict(network.named_parameters())
    assert not [name for name in names if name.startswith("body.head")]  # nothing that never learns


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_does_not_count_and_company_changes_nothing(kind) -> None:
    network, x = fused(kind), images(4, 3, 1, 28, 28)
    x[1, 2] = x[2, 0] = torch.nan
    x[3, :] = torch.nan
    made = network(x)
    assert made.isfinite().all()
    assert torch.allclose(network(x[1:2]), made[1:2], atol=1e-5)
    if kind in (
        "mean",
        "recurrent",
        "attention",
        "gated-attention",
    ):  # any number of images: without the place it is the same
        assert torch.allclose(network(x[1:2, :2]), made[1:2], atol=1e-5)
        assert torch.allclose(network(x[2:3, 1:]), made[2:3], atol=1e-5)
    else:
        assert not torch.allclose(
            network(x[:1]),
            network(x[:1].masked_fill(torch.tensor([True, False, False])[None, :, None, None, None], torch.nan)),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_counts_where_it_should(kind) -> None:
    network, x = fused(kind), images(4, 3, 1, 28, 28)
    same = torch.allclose(network(x), network(x.flip(1)), atol=1e-5)
    assert same == (kind in ("mean", "attention", "gated-attention"))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_what_learns_and_are_finite(kind) -> None:
    network, x = fused(kind).train(), images(6, 3, 1, 28, 28)
    x[0, 1:] = torch.nan
    network(x).square().sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(("name", "shape"), [("cnn_small", (28, 28)), ("resnet_tiny", (28, 28)), ("resnet3d_small", (16, 16, 16)), ("squeezenet1_1", (64, 64)),
                                             ("vit_tiny_patch16_224", (64, 64))])  # fmt: skip
def test_any_backbone_also_of_volumes(name, shape) -> None:
    network = fused("attention", name)
    x = images(2, 3, 1, *shape)
    x[0, 0] = torch.nan
    assert network(x).shape == (2, 2)
    alone = network.body.features(x[1])
    assert torch.allclose(network.each(x)[1], alone, atol=1e-4)
    with pytest.raises(ArgumentError, match="cases of several images"):
        network(x[0])


def test_the_sum_of_the_classifiers_until_there_is_a_second_stage() -> None:
    network, x = fused("stacked"), images(5, 3, 1, 28, 28)
    network.head = network.fuse.summed()
    assert not list(network.head.parameters())
    features, mask = network.each(x), network.present(x)
    each = torch.einsum("bvf,vkf->bvk", features, network.fuse.weight) + network.fuse.bias
    assert torch.allclose(network(x), each.sum(1), atol=1e-5)
    x[:, 1:] = torch.nan
    assert torch.allclose(network(x), each[:, 0], atol=1e-5)
    assert mask.all()


def test_a_mean_is_the_mean_and_attention_begins_as_one() -> None:
    features, mask = images(3, 4, 5), torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]]).bool()
    wanted = torch.stack([features[0].mean(0), features[1, [0, 2]].mean(0), torch.zeros(5)])
    assert torch.allclose(Mean(5)(features, mask), wanted, atol=1e-6)
    attention = Attention(5)
    assert torch.allclose(attention(features, mask), wanted, atol=1e-6)
    torch.nn.init.normal_(attention.weigh.weight)
    shares = attention.weights(features, mask)
    assert torch.allclose(shares.sum(1), torch.tensor([1.0, 1.0, 0.0]), atol=1e-6)
    assert (shares[~mask] == 0).all()
    score = (
        torch.tanh(features[1, [0, 2]] @ attention.look.weight.T + attention.look.bias) @ attention.weigh.weight[0]
    ).exp()  # equation 8
    assert torch.allclose(shares[1, [0, 2]], score / score.sum(), atol=1e-6)


def test_a_recurrent_network_ends_with_the_last_image_that_is_there() -> None:
    """Against the states of torch's own packed sequences."""
    fusion = Recurrent(6).eval()
    features, many = images(3, 4, 6), torch.tensor([4, 2, 1])
    mask = torch.arange(4)[None] < many[:, None]
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        fusion.norm(features), many, batch_first=True, enforce_sorted=False
    )
    _, state = fusion.gru(packed)
    assert torch.allclose(fusion(features, mask), state[0], atol=1e-6)


def test_side_by_side_says_which_views_there_are() -> None:
    plain = SideBySide(2, 2, learned=False)
    made = plain(torch.tensor([[[1.0, 2.0], [0.0, 0.0]]]), torch.tensor([[True, False]]))
    assert made.tolist() == [[1.0, 2.0, 0.0, 0.0, 1.0, 0.0]]
    assert plain.width == 6
    assert not list(plain.parameters())
    with pytest.raises(ArgumentError, match="place"):
        plain(torch.zeros(1, 3, 2), torch.ones(1, 3).bool())


def test_features_are_spread_to_their_places() -> None:
    mask = torch.tensor([[False, True], [True, True]])
    made = spread(torch.arange(6.0).reshape(3, 2), mask)
    assert torch.equal(made[mask], torch.arange(6.0).reshape(3, 2))
    assert (made[~mask] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_its_weights_are_all_that_it_is(kind) -> None:
    first, x = fused(kind, dropout=0.5), images(2, 3, 1, 28, 28)
    other = Fused(build("lenet5", outputs=2, channels=1), kind, outputs=2, places=3, pool=POOL).eval()
    other.load_state_dict(first.state_dict())
    assert torch.equal(first(x), other(x))
    assert torch.equal(copy.deepcopy(first)(x), first(x))


def test_late_is_the_mean_of_the_probabilities_of_one_classifier_a_view() -> None:
    network, x = fused("late"), images(4, 3, 1, 28, 28)
    x[1, 2] = torch.nan
    made = network(x).softmax(1)
    for case in range(4):  # slowly: each view by its own classifier, then the mean
        views = [v for v in range(3) if not x[case, v].isnan().any()]
        alone = [
            (network.body.features(x[case, v][None]) @ network.fuse.weight[v].T + network.fuse.bias[v]).softmax(1)
            for v in views
        ]
        assert torch.allclose(made[case], torch.stack(alone).mean(0)[0], atol=1e-6)
    assert network.head.weight.tolist() == [[1, 0], [0, 1]]
    assert not network.head.weight.requires_grad
    with pytest.raises(ArgumentError, match="what probabilities are"):
        Fused(build("lenet5", outputs=2, channels=1), "late", outputs=2, places=3)


def test_gated_attention_by_its_equation() -> None:
    """Ilse 2018, equation 9, for each image by itself: a_k ∝ exp(wᵀ (tanh(V h_k) · sigm(U h_k)))."""
    torch.manual_seed(0)
    fuse = GatedAttention(6)
    torch.nn.init.normal_(fuse.weigh.weight)
    features, mask = torch.randn(2, 5, 6), torch.ones(2, 5, dtype=torch.bool)
    mask[1, 3:] = False
    v, u, w = (layer.weight for layer in (fuse.look, fuse.gate, fuse.weigh))
    for case in range(2):
        there = features[case, mask[case]]
        each = [
            float(w.detach() @ (torch.tanh(v @ h + fuse.look.bias) * torch.sigmoid(u @ h + fuse.gate.bias)).detach())
            for h in there
        ]
        share = np.exp(each) / np.exp(each).sum()
        assert np.allclose(fuse.weights(features, mask)[case, mask[case]].detach().numpy(), share, atol=1e-6)
        assert np.allclose(fuse(features, mask)[case].detach().numpy(), share @ there.numpy(), atol=1e-5)


def test_what_is_above_the_body_says_what_the_whole_says() -> None:
    network, x = fused("gated-attention").eval(), images(3, 4, 1, 28, 28)
    x[1, 2:] = torch.nan
    features = network.each(x).masked_fill(~network.present(x)[..., None], torch.nan)
    assert torch.allclose(network.above()(features), network(x), atol=1e-6)
