"""Optimisers, schedules, stages and the pace of a machine, against torch's own and slow restatements."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from overread.core.errors import ArgumentError, UnavailableError
from overread.core.progress import Clock
from overread.learning import loop
from overread.learning.loader import Mixture, draw_mixture
from overread.learning.loop import LoopState, hold_still, make_optimizer, optimise, schedule
from overread.learning.recipe import OPTIMIZERS, SCHEDULES, Recipe, override
from overread.networks.backbones import build
from overread.networks.stages import stage_of, stages
from overread.tasks.target import Target

OWN = {
    "adamw": lambda w: torch.optim.AdamW(w, lr=0.01, weight_decay=0.1),
    "adam": lambda w: torch.optim.Adam(w, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda w: torch.optim.RMSprop(w, lr=0.01, weight_decay=0.1),
    "momentum": lambda w: torch.optim.SGD(w, lr=0.01, weight_decay=0.1, momentum=0.8),
    "sgd": lambda w: torch.optim.SGD(w, lr=0.01, weight_decay=0.1),
}


def _same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_are_torchs(name) -> None:
    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(3, 2, bias=False)

    torch.manual_seed(0)
    ours = Line()
    theirs = torch.nn.Parameter(ours.head.weight.detach().clone())
    recipe = Recipe(optimizer=name, learning_rate=0.01, weight_decay=0.1, momentum=0.8)
    pairs = [(make_optimizer(ours, recipe), ours.head.weight), (OWN[name]([theirs]), theirs)]
    for _ in range(5):
        for optimizer, weight in pairs:
            optimizer.zero_grad()
            weight.square().sum().sin().backward()
            optimizer.step()
    assert torch.equal(ours.head.weight, theirs)


@pytest.mark.parametrize("fields", [{"optimizer": name} for name in OPTIMIZERS] + [{"schedule": name} for name in SCHEDULES]
                         + [{"mix": "mixup"}, {"mix": "cutmix"}, {"method": "finetune", "unfreeze": (1, 2), "layer_decay": 0.5}])  # fmt: skip
def test_a_stopped_run_ends_like_an_unbroken_one_whatever_it_learns_by(
    make_training, tmp_path, monkeypatch, fields
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    recipe = {"epochs": 4, "plateau": 1, "patience": 9.0, **fields}

    def training(folder=None):
        made = make_training(folder, **recipe)
        return {**made, "batches": replace(made["batches"], mix=recipe.get("mix", "none"))}

    unbroken, whole = optimise(**training())

    def stop(what: str, done: int, total: int) -> None:
        if done == 10:  # of sixteen steps
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimise(**training(tmp_path), progress=stop)
    resumed, state = optimise(**training(tmp_path))
    assert _same(unbroken, resumed)
    assert [row["learning rate"] for row in state.history] == [row["learning rate"] for row in whole.history]
    assert state.reductions == whole.reductions


# -- schedules --------------------------------------------------------------------------------------------------------


def _torch_rates(scheduler, optimizer, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def _sgd(rate: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def test_one_cycle_is_torchs() -> None:
    optimizer = _sgd(1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=101, pct_start=0.3, div_factor=25, final_div_factor=1e4)  # fmt: skip
    wanted = _torch_rates(theirs, optimizer, 101)
    recipe = Recipe(schedule="one-cycle", warmup=0.3)
    ours = [schedule(k / 100, 0.3, recipe) for k in range(101)]
    # torch peaks at step .3 × 101 − 1, ours at .3 of the way: the same half cosines with their peak a step apart
    assert max(ours) == pytest.approx(1.0)
    assert (ours[0], ours[-1]) == (pytest.approx(1 / 25), pytest.approx(1 / 250_000))
    assert max(abs(a - b) for a, b in zip(ours, wanted, strict=True)) < 0.05


def test_steps_are_torchs() -> None:
    optimizer = _sgd(1.0)
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimizer, [50, 75], gamma=0.2)
    recipe = Recipe(schedule="steps", warmup=0.0, factor=0.2)
    ours = [schedule(k / 100, 0.0, recipe) for k in range(100)]
    assert ours == pytest.approx(_torch_rates(theirs, optimizer, 100))


def test_cosine_is_torchs() -> None:
    optimizer = _sgd(1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    ours = [schedule(k / 100, 0.0, Recipe()) for k in range(100)]
    assert ours == pytest.approx(_torch_rates(theirs, optimizer, 100))


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_the_rate_falls_on_a_plateau_as_torchs_does(patience) -> None:
    """torch lowers it after more than its patience of epochs without a gain."""
    scores = [0.5, 0.6, 0.6, 0.59, 0.61, 0.6, 0.6, 0.6, 0.6, 0.6, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6]
    optimizer = _sgd(1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", 0.5, patience - 1, 1e-4, "abs")
    recipe, state = Recipe(schedule="plateau", warmup=0.0, factor=0.5, plateau=patience), LoopState(epochs=16)
    for score in scores:
        theirs.step(score)
        loop._notice_plateau(recipe, state, score)
        assert schedule(0.5, 0.0, recipe, state.reductions) == optimizer.param_groups[0]["lr"]


def test_a_constant_rate_stays() -> None:
    assert {schedule(k / 10, 0.1, Recipe(schedule="constant")) for k in range(1, 11)} == {1.0}
    assert schedule(0.05, 0.1, Recipe(schedule="constant")) == 0.5


# -- a machine that becomes slower or quicker -------------------------------------------------------------------------


class Simulated(Clock):
    """A clock that goes by steps of training and by judging, not by the time."""

    now = 0.0

    @property
    def elapsed(self) -> float:
        return self.now


def _simulate(make_training, seconds, *, limit: float, judging: float = 1.0, retuned: list | None = None, **fields):
    """A training on a machine whose step number k takes ``seconds(k)``; the rates of all steps, and where it ended.

    ``retuned`` gets the steps after which the threads are chosen anew.
    """
    retuned = [] if retuned is None else retuned
    clock, rates, latest = Simulated(limit), [], [0.0]
    training = make_training(**{"epochs": 12, "patience": 99.0, "clock": clock, **fields})
    loss, judge = training["loss"], training["judge"]

    def timed(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        clock.now += seconds(len(rates))
        rates.append(latest[0] / training["recipe"].learning_rate)
        return loss(outputs, labels)

    def judged(network: torch.nn.Module) -> dict[str, float]:
        clock.now += judging
        return judge(network)

    real = loop._rate

    def rate(recipe, state, steps):
        latest[0] = real(recipe, state, steps)
        return latest[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_rate", rate)
        patch.setattr(loop, "_row", lambda *arguments: {"epoch": 1, "train loss": 0, "tuning loss": 0, "tuning score": 0,
                                                         "learning rate": 0})  # fmt: skip
        _, state = optimise(
            **{**training, "loss": timed, "judge": judged, "retune": lambda: retuned.append(len(rates))}
        )
    return rates, state, clock


PACES = {
    "steady": lambda k: 1.0,
    "three times slower midway": lambda k: 1.0 if k < 24 else 3.0,
    "three times slower in the last third": lambda k: 1.0 if k < 34 else 3.0,
    "slower for a while": lambda k: 4.0 if 10 <= k < 20 else 1.0,
    "quicker midway": lambda k: 3.0 if k < 12 else 1.0,
    "uneven": lambda k: 0.5 + 1.5 * (k % 3),
    "a slow first step": lambda k: 6.0 if k == 0 else 1.0,
}


def test_threads_are_chosen_anew_when_the_machine_becomes_busier_or_freer(make_training) -> None:
    asked = {"epochs": 12, "batch_size": 4}  # 192 steps
    for seconds, wanted in ((lambda k: 1.0, 0), (lambda k: 1.0 + 0.4 * (k % 2), 0), (lambda k: 1.0 if k < 60 else 3.0, 1),
                            (lambda k: 3.0 if k < 60 else 1.0, 1), (lambda k: 3.0 if 60 <= k < 120 else 1.0, 2)):  # fmt: skip
        retuned: list[int] = []
        _simulate(make_training, seconds, limit=330.0, retuned=retuned, **asked)
        begun = [step for i, step in enumerate(retuned) if i == 0 or step - retuned[i - 1] > 45]
        assert len(begun) == wanted, retuned
        assert all(60 < step < 80 or 120 < step < 140 for step in begun)
        assert len(retuned) <= 2 * wanted  # an average follows in two steps of half as much again
    retuned = []
    _simulate(make_training, lambda k: 1.0 if k < 60 else 3.0, limit=None, retuned=retuned, **asked)
    assert not retuned  # without a budget nothing is chosen by the time that it takes


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("name", ["cosine", "one-cycle"])
def test_a_schedule_is_never_cut(make_training, pace, name) -> None:
    """Sixteen steps an epoch of a second each and one for judging: three epochs fit into the time of a steady machine."""
    rates, _, clock = _simulate(make_training, PACES[pace], limit=52.0, schedule=name, epochs=3, batch_size=4)
    assert max(rates) > 0.9
    assert rates[-1] < 0.08, rates[-6:]  # whole: its end is all but nothing
    assert clock.now <= 52.0 + 3.0  # a step and judging late at most
    assert clock.now > 42.0  # and the time was used


def test_no_budget_no_watch(make_training) -> None:
    rates, state, _ = _simulate(make_training, PACES["three times slower midway"], limit=math.inf)
    assert len(rates) == 48
    assert state.end == math.inf


# -- labels of a batch ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 3])
def test_mixed_labels_are_soft_labels(parts) -> None:
    """The loss of two labels by their shares is torch's cross-entropy with soft labels."""
    torch.manual_seed(0)
    x, y = torch.randn(9, 5), torch.arange(9) % 3
    rows, network = np.arange(9), torch.nn.Linear(5, 3)
    mixture = draw_mixture(0.5, (), seed=0, epoch=0, rows=rows)
    own = torch.from_numpy(mixture.own).float()[:, None]
    soft = torch.eye(3)[y] * own + torch.eye(3)[y[torch.from_numpy(mixture.partner)]] * (1 - own)
    wanted = torch.nn.functional.cross_entropy(network(x), soft, label_smoothing=0.1)
    wanted.backward()
    slope = network.weight.grad.clone()
    network.zero_grad()
    loss = Target("classes", ("a", "b", "c")).task.loss(np.ones(3, np.float32), 0.1)
    answers = loop.answers_of(y, rows, mixture, None)
    value = loop.backward(network, loss, Recipe(precision="float32"), LoopState(1, parts=parts), x, answers)
    assert value == pytest.approx(wanted.item(), rel=1e-5)
    assert torch.allclose(network.weight.grad, slope, atol=1e-6)


def test_rows_count_by_their_shares_also_where_they_are_mixed() -> None:
    y, rows = torch.tensor([0, 1, 2, 0]), np.array([5, 6, 7, 8])
    shares = torch.arange(10.0)
    assert loop.answers_of(y, rows, None, shares)[0][1].tolist() == [5, 6, 7, 8]
    mixture = Mixture(np.array([1, 2, 3, 0]), np.array([0.5, 0.25, 1.0, 0.0]))
    (first, own), (second, other) = loop.answers_of(y, rows, mixture, shares)
    assert (first.tolist(), second.tolist()) == ([0, 1, 2, 0], [1, 2, 0, 0])
    assert own.tolist() == [2.5, 1.5, 7.0, 0.0]
    assert other.tolist() == [3.0, 5.25, 0.0, 5.0]


def test_a_row_without_a_share_teaches_nothing(make_training) -> None:
    """Wrong labels of rows that count nothing leave no trace."""
    training = make_training()
    wrong = training["batches"].labels.clone()
    wrong[:16] = 1 - wrong[:16]
    shares = torch.ones(96)
    shares[:16] = 0
    right, _ = optimise(**training, shares=shares)
    again = make_training()
    other, _ = optimise(**{**again, "batches": replace(again["batches"], labels=wrong)}, shares=shares)
    assert _same(right, other)


# -- stages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lenet5", "cnn_small", "resnet_small", "resnet18", "squeezenet1_1", "mobilenet_v2",
                                  "densenet121", "vit_tiny_patch16_224", "convnext_atto", "efficientnet_b0"])  # fmt: skip
def test_every_parameter_belongs_to_one_stage_and_stages_go_from_the_image_on(name) -> None:
    with torch.device("meta"):
        network = build(name, outputs=2)
    found = stages(network)
    assert 3 <= len(found) <= 20
    places = [stage_of(path, found) for path, _ in network.named_parameters()]
    assert places == sorted(places)
    assert set(places) == set(range(len(found) + 1))
    for stage in found:
        assert any(p.ndim > 1 for path, p in network.named_parameters() if stage.holds(path)), stage


def test_a_network_of_ones_own_has_stages_too() -> None:
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = torch.nn.Parameter(torch.zeros(1, 3))
            self.a, self.b = torch.nn.Linear(3, 3), torch.nn.GRU(3, 5)
            self.norm, self.head = torch.nn.LayerNorm(5), torch.nn.Linear(5, 2)

    found = stages(Own())
    assert [stage.modules for stage in found] == [("a",), ("b", "norm")]
    assert [stage_of(name, found) for name in ("token", "a.weight", "b.bias_hh_l0", "norm.bias", "head.bias")] == [
        0,
        0,
        1,
        1,
        2,
    ]
    assert stages(torch.nn.Linear(2, 2)) == ()


def test_a_stage_learns_at_a_share_of_the_next_ones_rate() -> None:
    network = build("resnet_tiny", outputs=2)
    recipe = Recipe(method="finetune", layer_decay=0.5, body_rate=0.8)
    groups = make_optimizer(network, recipe).param_groups
    share = {id(p): group["share"] for group in groups for p in group["params"]}
    wanted = {
        "trunk.stem": 0.8 / 16,
        "trunk.block1": 0.8 / 8,
        "trunk.block2": 0.8 / 4,
        "trunk.block3": 0.8 / 2,
        "head": 1.0,
    }
    for name, parameter in network.named_parameters():
        assert share[id(parameter)] == pytest.approx(next(v for k, v in wanted.items() if name.startswith(k))), name


def _moving(network) -> set[str]:
    return {name.split(".")[1] if name.startswith("trunk") else "head" for name, p in network.named_parameters() if p.requires_grad}  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "moving"),
    [({}, ["stem block1 block2 block3 head"] * 4),
     ({"frozen": 2}, ["block2 block3 head"] * 4),
     ({"frozen": 4}, ["head"] * 4),
     ({"unfreeze": (1,)}, ["head", *["stem block1 block2 block3 head"] * 3]),
     ({"unfreeze": (1, 3)}, ["head", "block3 head", "block3 head", "stem block1 block2 block3 head"]),
     ({"unfreeze": (1, 2), "frozen": 1}, ["head", "block3 head", *["block1 block2 block3 head"] * 2])],
)  # fmt: skip
def test_stages_begin_to_move_when_they_are_told_to(fields, moving) -> None:
    network = build("resnet_tiny", outputs=2)
    for epoch, wanted in enumerate(moving):
        network.train()
        hold_still(network, Recipe(method="finetune", **fields), epoch)
        assert _moving(network) == set(wanted.split()), epoch
        for name, module in network.named_modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                assert module.training == (name.split(".")[1] in wanted.split()), name


def test_what_is_held_still_does_not_move_and_the_rest_does(make_training) -> None:
    training = make_training(method="finetune", frozen=1, average=0.0)
    before = {name: tensor.clone() for name, tensor in training["network"].state_dict().items()}
    network, _ = optimise(**training)
    found = stages(network)
    for name, tensor in network.state_dict().items():
        still = stage_of(name, found) < 1
        assert torch.equal(tensor, before[name]) == still, name


def test_frozen_norms_keep_statistics_and_weights(make_training) -> None:
    training = make_training(method="finetune", frozen_norms=True, average=0.0)
    before = {name: tensor.clone() for name, tensor in training["network"].state_dict().items()}
    network, _ = optimise(**training)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("body.1."), name


# -- what a recipe refuses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"loss": "hing"}, "hinge"), ({"optimizer": "adm"}, "adam"), ({"schedule": "linear"}, "cosine"),
     ({"mix": "mix"}, "mixup"), ({"sampling": "random"}, "balanced"), ({"milestones": (0.8, 0.5)}, "rise"),
     ({"milestones": (0.5, 1.5)}, "between"), ({"unfreeze": (0,)}, "from 1"), ({"layer_decay": 0.0}, "above 0"),
     ({"factor": 2.0}, "at most 1"), ({"plateau": 0}, "at least 1"), ({"mix_alpha": 0.0}, "above 0"),
     ({"source_weights": {"a": -1.0}}, "negative"), ({"method": "scratch", "frozen": 1}, "finetune"),
     ({"method": "scratch", "frozen_norms": True}, "finetune"), ({"frozen": -1}, "negative")],
)  # fmt: skip
def test_fields_that_make_no_sense_are_refused(fields, message) -> None:
    with pytest.raises(ArgumentError, match=message):
        Recipe(**fields)


def test_every_field_is_set_from_the_command_line() -> None:
    made = override(Recipe(), ["loss=focal", "gamma=1", "finding_weights.mass=2", "source_weights.site b=0.5", "optimizer=sgd",
                               "schedule=steps", "milestones=[0.3, 0.6]", "sampling=balanced", "mix=cutmix", "frozen=2",
                               "unfreeze=[1, 2]", "layer_decay=0.7", "frozen_norms=true"])  # fmt: skip
    assert made.finding_weights == {"mass": 2.0}
    assert made.source_weights == {"site b": 0.5}
    assert (made.loss, made.milestones, made.unfreeze, made.frozen_norms) == ("focal", (0.3, 0.6), (1, 2), True)


def test_what_cannot_be_compiled_here_is_said(make_training, monkeypatch) -> None:
    def broken(*_: object, **__: object):
        raise RuntimeError("no C++ compiler\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(UnavailableError, match=r"cannot compile on this machine \(given: no C\+\+ compiler\)"):
        optimise(**make_training(compile=True))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler is installed")
def test_a_compiled_network_learns_the_same_and_is_saved_under_the_same_names(make_training) -> None:
    plain, before = optimise(**make_training(epochs=2))
    compiled, after = optimise(**make_training(epochs=2, compile=True))
    assert list(plain.state_dict()) == list(compiled.state_dict())
    for one, other in zip(plain.state_dict().values(), compiled.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)
    assert after.history[-1]["train loss"] == pytest.approx(before.history[-1]["train loss"], rel=1e-3)
