"""Our own small networks: their sums, their first steps, and that they learn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from overread.networks.backbones import build
from overread.networks.small import Residual, initialise

OURS_2D = ["lenet5", "cnn_small", "resnet_tiny", "resnet_small"]


def seeded(name: str, *, outputs: int = 2, channels: int = 1, dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return build(name, outputs=outputs, channels=channels, dropout=dropout)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_lenet_has_the_layers_of_the_paper() -> None:
    """LeCun 1998, figure 2: C1 156, C3 fully connected 2,416, C5 48,120, F6 10,164, output 850 parameters."""
    network = seeded("lenet5", outputs=10)
    sums = [sum(p.numel() for p in m.parameters()) for m in network.modules() if not list(m.children())]
    assert [s for s in sums if s] == [156, 2416, 48120, 10164, 850]
    assert network.maps(noise(1, 1, 32, 32)).shape == (1, 16, 5, 5)


def test_residual_network_has_seven_convolutions_on_its_path() -> None:
    network = seeded("resnet_small")
    kernels = [m.kernel_size for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert kernels.count((3, 3)) == 7
    assert network.maps(noise(1, 1, 28, 28)).shape == (1, 128, 7, 7)


@pytest.mark.parametrize("name", OURS_2D)
@pytest.mark.parametrize("shape", [(28, 28), (64, 64), (31, 45)])
def test_any_size_and_shape_goes_through(name: str, shape: tuple[int, int]) -> None:
    network = seeded(name, outputs=3, channels=3).eval()
    assert network(noise(2, 3, *shape)).shape == (2, 3)


def test_volumes_go_through() -> None:
    network = seeded("resnet3d_small", outputs=3).eval()
    x = noise(2, 1, 28, 28, 28)
    assert network(x).shape == (2, 3)
    assert network.maps(x).shape == (2, 128, 4, 4, 4)
    assert seeded("cnn3d_small", outputs=3).eval().maps(x).shape == (2, 128, 1, 1, 1)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("name", OURS_2D)
def test_first_loss_is_that_of_knowing_nothing(name: str, classes: int) -> None:
    network = seeded(name, outputs=classes)
    truth = torch.arange(40) % classes
    loss = nn.functional.cross_entropy(network(noise(40, 1, 28, 28)), truth)
    assert loss.item() == pytest.approx(math.log(classes), rel=0.1)


def test_convolutions_start_with_he_variance_by_fan_out() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        plain, grouped = nn.Conv2d(16, 256, 3), nn.Conv2d(256, 256, 3, groups=256)
        initialise(nn.Sequential(plain, grouped))
    assert plain.weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.03)
    assert grouped.weight.std().item() == pytest.approx(math.sqrt(2 / 9), rel=0.05)
    assert not plain.bias.any()


def test_a_fresh_residual_block_does_nothing_to_a_positive_input() -> None:
    block = Residual(8, 8).eval()
    initialise(block)
    x = noise(1, 8, 6, 6).abs()
    torch.testing.assert_close(block(x), x)


def test_dropout_stands_before_the_head_only() -> None:
    network = seeded("cnn_small", dropout=0.9)
    x = noise(2, 1, 28, 28)
    network.eval()
    torch.testing.assert_close(network(x), network.head(network.features(x)))
    network.train()
    features = network.features(x)
    assert (features != 0).float().mean() > 0.5
    dropped = network.dropout(torch.ones(4, 128))
    assert 0.02 < float((dropped != 0).float().mean()) < 0.3


@pytest.mark.parametrize("name", ["cnn_small", "resnet_tiny", "cnn3d_small", "resnet3d_small"])
def test_they_learn_which_half_is_bright(name: str) -> None:
    """A network that cannot overfit 16 images is broken."""
    volume = "3d" in name
    truth = torch.arange(16) % 2
    x = noise(16, 1, *(16, 16, 16) if volume else (12, 12))
    x[truth == 1, ..., : x.shape[-1] // 2] += 1.0
    network = seeded(name)
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.01)
    for _ in range(25):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x), truth).backward()
        optimiser.step()
    assert bool((network(x).argmax(1) == truth).all())
