import numpy as np
import pytest
import torch

from overread.core.errors import InputError, UnavailableError
from overread.images.preprocess import Preprocess, normalise
from overread.learning.device import (
    choose_precision,
    for_inference,
    halved,
    mean_over,
    memory_left,
    oriented,
    pick_device,
    seeded,
    time_step,
    to_tensor,
)
from overread.networks.backbones import build


@pytest.mark.parametrize("kind", ["min-max", "z-score", "mean image", "channel mean", "channel mean and std"])
@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 8, 9, 3), np.uint8), ((3, 8, 9, 1), np.uint16), ((2, 4, 8, 9, 1), np.uint8)]
)
def test_the_same_numbers_as_the_numpy_truth(kind, shape, dtype) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    channels = shape[-1]
    preprocess = Preprocess(size=shape[1:-1], channels=channels, normalise=kind, mean=(0.4,) * channels, std=(0.2,) * channels,
                            bits=8 if dtype == np.uint8 else 16)  # fmt: skip
    mean_image = rng.random(shape[1:], dtype=np.float32)
    wanted = normalise(images, preprocess, mean_image if kind == "mean image" else None)
    ours = to_tensor(images, preprocess, mean_image if kind == "mean image" else None)
    assert np.allclose(ours.movedim(1, -1).numpy(), wanted, atol=2e-5)
    assert ours.shape == (shape[0], channels, *shape[1:-1])


def test_photographs_are_channels_last_without_a_copy_of_a_read_only_map() -> None:
    images = np.zeros((2, 8, 8, 3), np.uint8)
    images.flags.writeable = False
    preprocess = Preprocess(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
    assert to_tensor(images, preprocess).is_contiguous(memory_format=torch.channels_last)


def test_seeded_draws_repeat_and_leave_the_generator_alone() -> None:
    before = torch.random.get_rng_state()
    with seeded(1, 2, 3, "dropout"):
        a = torch.rand(3)
    with seeded(1, 2, 3, "dropout"):
        b = torch.rand(3)
    with seeded(1, 2, 4, "dropout"):
        c = torch.rand(3)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(before, torch.random.get_rng_state())


def test_precision_is_probed_only_where_it_could_help(monkeypatch) -> None:
    monkeypatch.setattr("overread.learning.device._cpu_bfloat16", lambda: False)
    assert choose_precision("auto", "cpu", lambda precision: pytest.fail("probed in vain"))[0] == "float32"
    assert choose_precision("bfloat16", "cpu", lambda precision: 0.0) == ("bfloat16", "asked for")
    monkeypatch.setattr("overread.learning.device._cpu_bfloat16", lambda: True)
    assert choose_precision("auto", "cpu", {"float32": 2.0, "bfloat16": 1.0}.__getitem__)[0] == "bfloat16"
    assert (
        choose_precision("auto", "cpu", lambda precision: pytest.fail("a clock decided"), timed=False)[0] == "float32"
    )
    assert choose_precision("auto", "cuda", {"float32": 2.0, "bfloat16": 1.0}.__getitem__, timed=False)[0] == "bfloat16"
    assert pick_device("cpu") == "cpu"


def test_a_timed_step_counts_forward_and_backward_and_takes_the_quickest(monkeypatch) -> None:
    times = iter([0.0, 9.0, 10.0, 12.0, 20.0, 23.0])
    monkeypatch.setattr("overread.learning.device.time.monotonic", lambda: next(times))
    network = torch.nn.Conv2d(1, 2, 3)
    assert time_step(network, torch.zeros(2, 1, 8, 8), "float32") == 2.0
    assert network.weight.grad is not None


def test_a_forward_pass_is_halved_until_the_memory_suffices() -> None:
    sizes = []

    def forward(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 2 * x

    x = torch.arange(7.0)[:, None]
    assert torch.equal(halved(forward, x), 2 * x)
    assert max(sizes[-1], 2) == 2
    with pytest.raises(UnavailableError, match="1 images at a time"):
        halved(lambda x: torch.empty(2**50), x)
    with pytest.raises(RuntimeError, match="shapes"):
        halved(lambda x: x @ x, torch.zeros(3, 2))


@pytest.mark.parametrize("wanted", ["gpu", "CUDA", "cuda:", "cuda:x", "cuda:-1", "nvidia", "0", "meta", "cpu:x"])
def test_a_device_of_no_kind_is_refused(wanted) -> None:
    with pytest.raises(InputError, match="cuda"):
        pick_device(wanted)


def test_a_device_that_is_not_here_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for wanted in ("cuda", "cuda:0", "cpu:1"):
        with pytest.raises(UnavailableError, match="--device"):
            pick_device(wanted)
    assert pick_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == "cuda:1"
    with pytest.raises(UnavailableError):
        pick_device("cuda:2")


@pytest.mark.parametrize(("shape", "views"), [((1, 1, 3, 3), v) for v in (1, 2, 4, 8)] + [((1, 1, 2, 2, 2), 8)])
def test_orientations_are_different_ones_of_the_same_pixels(shape, views):
    x = torch.arange(float(np.prod(shape))).reshape(shape)
    found = list(oriented(x, views))
    assert len(found) == views == len({tuple(view.flatten().tolist()) for view in found})
    assert torch.equal(found[0], x)
    assert all(view.sum() == x.sum() for view in found)


def test_a_mean_over_orientations_is_the_same_for_each_of_them():
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    turned = [mean_over(network, view, 8) for view in oriented(x, 8)]
    assert all(torch.allclose(turned[0], each, atol=1e-6) for each in turned)
    assert not torch.allclose(network(x), turned[0], atol=1e-3)


def test_what_a_container_caches_may_still_be_taken(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("overread.learning.device._CONTAINER", tmp_path)
    free = memory_left()
    for name, text in (("max", "5000"), ("current", "4000"), ("stat", "anon 1000\ninactive_file 3000\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory_left() == 4000.0
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_left() > 4000.0
    assert free > 4000.0


# -- prediction ------------------------------------------------------------------------------------------------------


def moved(network: torch.nn.Module) -> torch.nn.Module:
    """With norms that have seen something, and learned."""
    draw = torch.Generator().manual_seed(1)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3, generator=draw)
            part.running_var.uniform_(0.5, 2, generator=draw)
            torch.nn.init.uniform_(part.weight, 0.5, 1.5, generator=draw)
            torch.nn.init.normal_(part.bias, 0, 0.3, generator=draw)
    return network.eval()


@pytest.mark.parametrize(("name", "left"), [("mobilenet_v2", 0), ("resnet_tiny", 0), ("cnn_small", 0), ("densenet121", 62), ("squeezenet1_1", 0)])  # fmt: skip
def test_norms_are_folded_into_the_convolutions_before_them(name, left):
    """Densely connected networks take the norm of several convolutions' outputs, which is none's alone."""
    network = moved(build(name, outputs=3, channels=3))
    x = torch.randn(4, 3, 64, 64)
    kept = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.inference_mode():
        wanted = network(x)
        made = for_inference(network, "cpu", x)
        torch.testing.assert_close(made(x), wanted, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(network(x), wanted, atol=1e-6, rtol=1e-5)
    assert sum(isinstance(part, torch.nn.BatchNorm2d) for part in made.modules()) == left
    assert all(torch.equal(value, kept[key]) for key, value in network.state_dict().items())


class Twice(torch.nn.Module):
    """A convolution whose output goes to its norm and past it, or a norm that two convolutions share."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(3, 4, 1)
        self.norm, self.shared = torch.nn.BatchNorm2d(4), shared

    def forward(self, x):
        made = self.first(x)
        return self.norm(made) + (self.norm(self.second(x)) if self.shared else made)


@pytest.mark.parametrize("shared", [True, False])
def test_what_cannot_be_folded_stays_as_it_is(shared):
    network, x = moved(Twice(shared)), torch.randn(2, 3, 8, 8)
    made = for_inference(network, "cpu", x)
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in made.modules())
    with torch.inference_mode():
        torch.testing.assert_close(made(x), network(x))


class Several(torch.nn.Module):
    """Images of a case seen one after the other, as a fusion does with many."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU())

    def forward(self, x):
        return torch.stack([self.body(part).mean(dim=(2, 3)) for part in x.unbind(1)], dim=1).mean(1)


class Curious(torch.nn.Module):
    """One's own network, which asks its norm for what a folded one has not, or calls it by name."""

    def __init__(self, named: bool) -> None:
        super().__init__()
        self.convolution, self.norm, self.named = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), named

    def forward(self, x):
        made = self.convolution(x)
        return self.norm(input=made) if self.named else self.norm(made) * self.norm.num_features


def test_a_body_that_runs_several_times_is_folded():
    network, x = moved(Several()), torch.randn(2, 3, 3, 8, 8)
    made = for_inference(network, "cpu", x)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in made.modules())
    with torch.inference_mode():
        torch.testing.assert_close(made(x), network(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("named", [True, False])
def test_a_network_that_does_not_run_without_its_norms_is_left_alone(named):
    network, x = moved(Curious(named)), torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(for_inference(network, "cpu", x)(x), network(x))
