"""Each bug that costs an hour, put into somebody's torch code once; and sound networks, which pass."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import overread as ov
from overread.networks.backbones import build

G = torch.Generator().manual_seed(0)
X = torch.randn(20, 1, 12, 12, generator=G)
Y = torch.arange(20) % 10
HOT = F.one_hot(Y, 10)


def convolutional(*tail: nn.Module, outputs: int = 10, norm: bool = False) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        middle = [nn.BatchNorm2d(8)] if norm else []
        return nn.Sequential(nn.Conv2d(1, 8, 3), *middle, nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, outputs), *tail)  # fmt: skip


class Dropped(nn.Module):
    """Dropout that nothing turns off."""

    def __init__(self) -> None:
        super().__init__()
        self.body = convolutional()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(F.dropout(x, 0.5))


class Cut(nn.Module):
    """The gradient ends before the body."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)).detach())


class Mixed(nn.Module):
    """``view`` with a wrong number of features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 8, 3), nn.Linear(400, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).reshape(-1, 400))


class Odd(nn.Module):
    class Strange(Exception):
        pass

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise self.Strange("no error of torch")


class Judged(nn.Module):
    """Its evaluation mode depends on the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.body = convolutional()
        self.body[1] = nn.BatchNorm2d(8, track_running_stats=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class Renewed:
    """A loader whose images are new in every pass."""

    def __iter__(self):
        yield X + torch.randn(X.shape, generator=G), Y


def adam(network: nn.Module, rate: float = 1e-3) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), rate)


def frozen(network: nn.Module) -> nn.Module:
    return network.requires_grad_(False)


FLATTENED = nn.Sequential(nn.Flatten(), nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(400, 10))
RESHAPED = nn.Sequential(
    nn.Flatten(), nn.Unflatten(1, (144, 1, 1)), nn.Conv2d(144, 4, 1), nn.Flatten(), nn.Linear(4, 10)
)
UNPOOLED = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Linear(400, 10))
WIDE_MAPS = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(10, 10))
DEAD = nn.Sequential(nn.Flatten(), nn.Linear(144, 10), nn.Threshold(1e6, 0.0), nn.Linear(10, 10))

#: kind → (network, batch, loss, other arguments)
BUGS = {
    "flattened": [(FLATTENED, X, Y, None), (RESHAPED, X, Y, None), (convolutional(), X.flatten(1), Y, None)],
    "channels": [(convolutional(), X[:, 0], Y, None), (convolutional(), X.permute(0, 2, 3, 1), Y, None), (convolutional(), X.repeat(1, 3, 1, 1), Y, None)],
    "no-flatten": [(UNPOOLED, X, Y, None), (WIDE_MAPS, X, Y, None), (nn.Conv2d(1, 10, 3), X, Y, None)],
    "dense-size": [(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(256, 10)), X, Y, None)],
    "outputs": [(convolutional(outputs=1), X, Y, None), (convolutional(outputs=4), X, Y, None), (convolutional(outputs=200), X, Y, None),
                (Mixed(), X, Y, None), (convolutional(), X, Y + 1, None)],
    "one-hot-labels": [(convolutional(), X, HOT, F.cross_entropy), (convolutional(nn.LogSoftmax(1)), X, HOT.float(), F.nll_loss)],
    "integer-labels": [(convolutional(), X, Y, F.binary_cross_entropy_with_logits), (convolutional(), X[:10], Y[:10], nn.MSELoss())],
    "label-shape": [(convolutional(outputs=1), X, (Y % 2).float(), nn.MSELoss()),
                    (convolutional(outputs=1), X, (Y % 2).float(), lambda p, y: (p - y).square().mean()),
                    (convolutional(outputs=1), X, Y % 2, nn.BCEWithLogitsLoss()),
                    (convolutional(), X, Y[:, None], None)],
    "label-type": [(convolutional(), X, Y.float(), F.cross_entropy)],
    "label-range": [(convolutional(outputs=1), X, Y[:, None].float(), nn.BCEWithLogitsLoss()), (convolutional(), X, Y - 3, F.cross_entropy)],
    "last-activation": [(convolutional(nn.ReLU()), X, Y, None), (convolutional(nn.Softmax(1)), X, Y, F.cross_entropy),
                        (convolutional(nn.Sigmoid(), outputs=1), X, (Y % 2)[:, None].float(), nn.BCEWithLogitsLoss()),
                        (convolutional(nn.Softmax(1)), X, Y, F.nll_loss), (convolutional(), X, Y, nn.NLLLoss()),
                        (convolutional(nn.ReLU(), outputs=1), X, torch.randn(20, 1, generator=G), F.mse_loss)],
    "cannot-overfit": [(nn.Sequential(nn.Conv2d(1, 8, 3), nn.InstanceNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)), X, Y, None)],
    "constant": [(convolutional(), torch.zeros(20, 1, 12, 12), Y, None), (convolutional(), X[:1].repeat(20, 1, 1, 1), Y, None)],
    "image-values": [(convolutional(), X.masked_fill(X > 3, torch.nan), Y, None)],
    "image-type": [(convolutional(), (X * 50 + 128).byte(), Y, None), (convolutional(), X.double(), Y, None)],
    "normalisation": [(convolutional(), X * 40 + 128, Y, None), (convolutional(), X * 1e-3, Y, None)],
    "first-loss": [(convolutional(), X * 40 + 128, Y, None)],
    "frozen": [(frozen(convolutional()), X, Y, None)],
    "no-gradient": [(Cut(), X, Y, None)],
    "zero-gradient": [(DEAD, X, Y, None)],
    "batch-of-one": [(convolutional(norm=True), X[:1], Y[:1], None)],
    "eval-mode": [(Dropped(), X, Y, None), (Judged(), X, Y, None)],
    "one-class": [(convolutional(), X, torch.zeros(20).long(), None)],
    "alignment": [(convolutional(), X, Y[:-1], None)],
    "forward": [(Odd(), X, Y, None)],
}  # fmt: skip
CASES = [(kind, *case) for kind, cases in BUGS.items() for case in cases]


@pytest.mark.parametrize(("kind", "network", "x", "y", "loss"), CASES, ids=[f"{kind}-{i}" for i, (kind, *_) in enumerate(CASES)])  # fmt: skip
def test_a_bug_is_found_with_its_value_and_its_fix(kind, network, x, y, loss) -> None:
    found = ov.check(network, (x, y), loss=loss)
    fault = found.of(kind)
    assert fault is not None, found
    assert not found.sound
    assert fault.found
    assert fault.fix
    assert str(fault) in str(found)


@pytest.mark.parametrize("rate", [1e7, 1e-7, 0.0, 50.0])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_a_rate_far_off_is_found(rate, kind) -> None:
    network = convolutional()
    fault = ov.check(network, (X, Y), optimizer=kind(network.parameters(), rate)).of("learning-rate")
    assert fault.severity == "error"
    assert f"{rate:g}" in fault.found


def test_a_schedule_that_warms_up_from_0_is_sound() -> None:
    network = convolutional()
    optimizer = adam(network)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 100)
    assert ov.check(network, (X, Y), optimizer=optimizer).of("learning-rate") is None


def test_a_rate_that_diverges_is_found_by_trying_it() -> None:
    network = convolutional(outputs=1)
    optimizer = torch.optim.SGD(network.parameters(), 5.0, momentum=0.9)
    fault = ov.check(network, (X, torch.randn(20, 1, generator=G)), optimizer=optimizer).of("learning-rate")
    assert "rises" in fault.what


def test_an_optimizer_of_another_network_or_of_the_head_alone_is_found() -> None:
    network = convolutional()
    other = ov.check(network, (X, Y), optimizer=adam(convolutional())).of("optimizer")
    assert "not of this network" in other.what
    head = ov.check(network, (X, Y), optimizer=adam(network[-1])).of("optimizer")
    assert "2 of 4 are missing" in head.found


def test_the_same_patients_and_the_same_images_on_both_sides() -> None:
    found = ov.check(convolutional(), (X, Y), validation=(X[5:12], Y[5:12]), patients=(["a", "b"], ["b", "c"]))
    assert found.of("same-patient").found == "1 of 2 patients of the validation"
    assert found.of("same-images") is not None
    assert "'b'" not in str(found), "a patient is never named"


def test_validation_that_differs_from_pass_to_pass_is_found() -> None:
    other = torch.randn(9, 1, 12, 12, generator=G)
    rest = TensorDataset(other, Y[:9])
    assert ov.check(convolutional(), (X, Y), validation=DataLoader(rest, 9)).sound
    assert ov.check(convolutional(), (X, Y), validation=Renewed()).of("validation").severity == "error"
    assert ov.check(convolutional(), (X, Y), validation=DataLoader(rest, 9, shuffle=True)).of("validation").severity == "warning"  # fmt: skip


def test_judging_in_training_mode_is_found() -> None:
    def forgetful(network: nn.Module) -> float:
        return float((network(X).argmax(1) == Y).float().mean())

    def careful(network: nn.Module) -> float:
        return forgetful(network.eval())

    assert ov.check(convolutional(), (X, Y), validation=forgetful).of("eval-mode") is not None
    assert ov.check(convolutional(), (X, Y), validation=careful).sound


def test_labels_that_part_from_their_images_in_a_shuffle_are_found() -> None:
    class Parted:
        """Images are shuffled, labels are not."""

        def __iter__(self):
            yield X[torch.randperm(len(X), generator=G)], Y

    assert ov.check(convolutional(), Parted()).of("alignment") is not None
    loader = DataLoader(TensorDataset(X, Y), 10, shuffle=True)
    assert ov.check(convolutional(), loader).of("alignment") is None
    twice = ov.check(convolutional(), (torch.cat([X, X]), torch.cat([Y, Y.roll(1)])))
    assert twice.of("alignment") is not None


def test_a_loader_that_ends_with_one_image_is_found() -> None:
    loader = DataLoader(TensorDataset(X, Y), 19)
    assert "20 images in batches of 19" in ov.check(convolutional(norm=True), loader).of("batch-of-one").found


def test_a_network_in_evaluation_mode_before_training_is_found() -> None:
    network = convolutional(norm=True).eval()
    assert ov.check(network, (X, Y), optimizer=adam(network)).of("eval-mode").severity == "warning"


@pytest.mark.parametrize("batch", [None, 3, "text", (X,), [], (X, None), {"x": X}, ([1, 2], [3, 4])])
def test_what_is_no_batch_is_a_finding_and_no_error(batch) -> None:
    assert not ov.check(convolutional(), batch).sound


@pytest.mark.parametrize("name", ["lenet5", "cnn_small", "resnet_tiny", "resnet_small", "resnet3d_small", "mobilenet_v3_small"])  # fmt: skip
def test_a_sound_network_passes_without_a_finding(name) -> None:
    channels, shape = (3, (32, 32)) if name == "mobilenet_v3_small" else (1, (28, 28))
    x = torch.randn(10, channels, *((8, 16, 16) if "3d" in name else shape), generator=G)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(name, outputs=10, channels=channels)
    found = ov.check(network, (x, Y[:10]), optimizer=torch.optim.AdamW(network.parameters(), 1e-3), seconds=60)
    assert not len(found), found
    assert "knowing nothing 2.3" in found.measured["first loss"]


@pytest.mark.parametrize(
    ("network", "y", "loss"),
    [
        (convolutional(), Y, nn.CrossEntropyLoss(label_smoothing=0.2, weight=torch.arange(1.0, 11))),
        (convolutional(), HOT.float(), F.cross_entropy),
        (convolutional(nn.LogSoftmax(1)), Y, nn.NLLLoss()),
        (convolutional(nn.Sigmoid(), outputs=1), (Y % 2)[:, None].float(), nn.BCELoss()),
        (convolutional(outputs=1), (Y % 2)[:, None].float(), nn.BCEWithLogitsLoss()),
        (convolutional(), HOT.float(), None),
        (convolutional(), Y, nn.MultiMarginLoss()),
        (convolutional(outputs=1), torch.randn(20, 1, generator=G), None),
        (nn.Sequential(convolutional(outputs=1), nn.Flatten(0)), torch.randn(20, generator=G), None),
    ],
)
def test_sound_ways_to_learn_pass(network, y, loss) -> None:
    assert ov.check(network, (X, y), loss=loss).sound


def test_nothing_of_the_users_is_changed() -> None:
    network = convolutional(nn.Dropout(0.5), norm=True)
    loader = DataLoader(TensorDataset(X, Y), 10, shuffle=True, generator=torch.Generator().manual_seed(4))
    optimizer = adam(network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state, own = torch.get_rng_state(), loader.generator.get_state()
    ov.check(network.eval(), loader, optimizer=optimizer, validation=loader)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not network.training
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(own, loader.generator.get_state())
    assert not optimizer.state
    assert all(p.grad is None for p in network.parameters())
    assert not list(itertools.chain(*(m._forward_pre_hooks.values() for m in network.modules())))


def test_errors_stop_and_name_the_first_fix() -> None:
    found = ov.check(convolutional(outputs=1), (X, Y))
    with pytest.raises(
        ov.OverreadError, match=r"one output unit for 10 classes.*[Mm]ake the last layer nn.Linear\(…, 10\)"
    ):
        found.require_sound()
    ov.check(convolutional(), (X, Y)).require_sound()
