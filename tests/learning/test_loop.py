import math
from dataclasses import replace

import pytest
import torch

from overread.core.errors import UnavailableError, UnsoundError
from overread.core.progress import Clock
from overread.learning import loop
from overread.learning.loop import LoopState, make_optimizer, optimise, schedule, update_average
from overread.learning.recipe import Recipe
from overread.tasks.target import Target


def _same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_learns_and_remembers(make_training) -> None:
    network, state = optimise(**make_training(epochs=8))
    assert state.best > 0.9
    assert [row["epoch"] for row in state.history] == list(range(1, 9))
    assert not network.training


@pytest.mark.parametrize("at", [1, 4, 5, 6, 9, 12])  # four steps an epoch
def test_a_stopped_run_ends_byte_for_byte_like_an_unbroken_one(make_training, tmp_path, monkeypatch, at) -> None:
    """Stopped in the middle of an epoch, after any step, and resumed in new objects."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    unbroken, whole = optimise(**make_training())

    def stop(what: str, done: int, total: int) -> None:
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimise(**make_training(tmp_path), progress=stop)
    resumed, state = optimise(**make_training(tmp_path))
    assert _same(unbroken, resumed)
    assert [r["train loss"] for r in state.history] == [r["train loss"] for r in whole.history]


def test_a_finished_run_is_not_trained_again(make_training, tmp_path) -> None:
    first, _ = optimise(**make_training(tmp_path))
    again, state = optimise(**{**make_training(tmp_path), "loss": lambda outputs, labels: pytest.fail("trained again")})
    assert _same(first, again)
    assert len(state.history) == 3


def test_another_seed_is_another_result(make_training) -> None:
    training = make_training()
    other = {**training, "batches": replace(training["batches"], seed=4)}
    assert not _same(optimise(**make_training())[0], optimise(**other)[0])


def test_a_loss_that_is_not_finite_stops_within_the_step(make_training, tmp_path) -> None:
    steps = []

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        steps.append(1)
        return outputs.mean() * (math.nan if len(steps) == 3 else 1.0)

    with pytest.raises(UnsoundError, match="epoch 1, step 3.*rows"):
        optimise(**{**make_training(tmp_path), "loss": loss})
    assert len(steps) == 3
    resumed, _ = optimise(**make_training(tmp_path))
    assert all(torch.isfinite(t).all() for t in resumed.state_dict().values())


def test_the_best_snapshot_is_kept_and_patience_ends(make_training) -> None:
    scores = iter([0.5, 0.6, 0.9, *[0.7] * 50])
    training = make_training(epochs=30, patience=0.2)
    _, state = optimise(**{**training, "judge": lambda network: {"score": next(scores), "loss": 1.0}})
    assert (state.best, state.best_epoch) == (0.9, 2)
    assert len(state.history) == 9  # six epochs without a gain: a fifth of thirty
    assert "no better tuning score since epoch 3" in state.stopped


def test_under_a_budget_the_number_of_epochs_follows_the_time(make_training) -> None:
    class Slow(Clock):
        ticks = 0

        @property
        def elapsed(self) -> float:
            self.ticks += 1
            return self.ticks * 0.01

    _, state = optimise(**make_training(epochs=1000, clock=Slow(0.6), patience=9.0), reserve=0.1)
    assert 1 <= len(state.history) < 40
    assert state.decisions or state.stopped


def test_a_budget_buys_no_more_epochs_than_were_asked_for(make_training) -> None:
    _, state = optimise(**make_training(epochs=3, clock=Clock(1000.0), patience=9.0), reserve=0.1, most_epochs=3)
    assert len(state.history) == 3
    assert not [decision for decision in state.decisions if decision["what"] == "epochs"]


def test_a_budget_takes_no_planned_epochs_from_what_learns_above_a_frozen_network() -> None:
    recipe = Recipe(method="features", backbone="mobilenet_v2", fusion="attention", epochs=60)
    state = loop.LoopState(epochs=60, epoch=1)
    loop._fit_budget(recipe, state, left=1000.0, seconds=1.0)
    assert state.epochs == 60
    loop._fit_budget(recipe, state, left=9.5, seconds=1.0)
    assert state.epochs == 11


def test_the_number_of_epochs_is_told_once_however_often_it_was_planned_anew() -> None:
    recipe, state = (
        Recipe(method="scratch"),
        loop.LoopState(epochs=30, decisions=[{"what": "precision", "choice": "float32", "why": ""}]),
    )
    for epoch in range(1, 17):
        state.epoch = epoch
        loop._fit_budget(recipe, state, left=40.0 - epoch, seconds=1.0 + epoch % 3)
    assert [decision["what"] for decision in state.decisions] == ["precision", "epochs"]
    assert state.decisions[1]["choice"] == str(state.epochs)


def test_schedule_rises_then_falls_to_nothing() -> None:
    rates = [schedule(k / 100, 0.1) for k in range(101)]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(1.0)
    assert rates[10] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.0)
    assert sorted(rates[10:], reverse=True) == rates[10:]


def test_average_against_its_definition() -> None:
    average, network = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    start = average.weight.detach().clone()
    update_average(average, network, span=2.0, step=1000, steps=50)
    assert torch.allclose(average.weight, start * 0.99 + network.weight * 0.01, atol=1e-6)
    update_average(average, network, span=0.0, step=0, steps=50)
    assert torch.equal(average.weight, network.weight)


def test_a_pretrained_body_learns_slowly_and_norms_do_not_decay(make_training) -> None:
    training = make_training()
    groups = make_optimizer(training["network"], training["recipe"].changed(method="finetune")).param_groups
    sizes = {(g["share"], g["weight_decay"]): sum(p.numel() for p in g["params"]) for g in groups}
    assert sizes == {(0.5, 0.05): 36, (0.5, 0.0): 4 + 8, (1.0, 0.05): 8, (1.0, 0.0): 2}


# -- a memory that does not suffice -----------------------------------------------------------------------------------


def _allocator() -> torch.Tensor:
    return torch.empty(2**50)  # raises what the allocator of this machine says


def _raise(error: BaseException):
    def fail() -> None:
        raise error

    return fail


ERRORS = {
    "CUDA": _raise(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")),
    "MPS": _raise(RuntimeError("MPS backend out of memory (MPS allocated: 8.11 GB, other allocations: 1.2 GB)")),
    "CPU": _allocator,
    "Windows": _raise(RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you")),
    "cuDNN": _raise(RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")),
    "Python": _raise(MemoryError()),
}  # fmt: skip


def _short(training, most: int, fail=ERRORS["CUDA"], *, late: bool = True, after: int = 0):
    """The training with a memory for ``most`` images at a time in training, from step ``after`` on.

    ``late``: it ends after batch normalisation has moved its averages.
    """
    seen = []

    watched = training["network"].head if late else training["network"]

    def check(module, inputs) -> None:
        if module is watched and training["network"].training:  # not its copy, the average of the weights
            seen.append(len(inputs[0]))
            if len(inputs[0]) > most and len(seen) > after:
                fail()

    watched.register_forward_pre_hook(check)
    return training, seen


@pytest.mark.parametrize("kind", ERRORS)
def test_out_of_memory_takes_the_batch_in_parts_and_says_so(make_training, kind) -> None:
    training, seen = _short(make_training(), 5, ERRORS[kind])
    network, state = optimise(**training)
    assert state.parts == 4
    assert seen[:3] == [16, 8, 4]  # the step is made again, and those after it begin with what suffices
    assert set(seen[3:]) == {4}
    assert len(seen) == 2 + 4 * 12  # four parts in each of twelve steps
    told = [d for d in state.decisions if d["what"] == "images at a time"]
    assert [d["choice"] for d in told] == ["4 of 16"]
    assert "epoch 1, step 1" in told[0]["why"]
    assert "batch normalisation" in told[0]["why"]
    assert all(torch.isfinite(t).all() for t in network.state_dict().values())


def test_a_step_made_again_is_as_if_nothing_had_happened(make_training) -> None:
    """Whether the memory ends before or after batch normalisation moved its averages makes no difference."""
    early, _ = optimise(**_short(make_training(), 8, late=False)[0])
    late, _ = optimise(**_short(make_training(), 8, late=True)[0])
    assert _same(early, late)


def test_parts_give_the_gradients_of_the_batch(make_training) -> None:
    """Without batch normalisation and dropout, a training in parts is the training: rounding alone tells them apart."""

    def plain():
        training = make_training()
        training["network"].body[1] = torch.nn.Identity()
        training["network"].dropout = torch.nn.Identity()
        return training

    whole, _ = optimise(**plain())
    parts, state = optimise(**_short(plain(), 3)[0])
    assert state.parts == 8
    assert "batch normalisation" not in state.decisions[0]["why"]
    for a, b in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=2e-4)


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_unknown_findings_count_in_parts_as_in_the_batch(parts) -> None:
    torch.manual_seed(0)
    target = Target("findings", ("a", "b", "c"))
    x, y = torch.randn(9, 5), (torch.rand(9, 3) > 0.5).float()
    y[torch.rand(9, 3) > 0.4] = math.nan
    y[:3] = math.nan  # one part may know nothing
    loss = target.task.loss([1.0, 2.0, 3.0], 0.1)
    network = torch.nn.Linear(5, 3)
    loss(network(x), y).backward()
    wanted = network.weight.grad.clone()
    network.zero_grad()
    value = loop.backward(network, loss, Recipe(precision="float32"), LoopState(1, parts=parts), x, [(y, None)])
    assert torch.allclose(network.weight.grad, wanted, atol=1e-6)
    assert value == pytest.approx(loss(network(x), y).item(), abs=1e-6)


@pytest.mark.parametrize("at", [6, 9])
def test_a_run_in_parts_resumes_byte_for_byte_where_memory_suffices_again(make_training, tmp_path, at) -> None:
    """The parts are kept in the checkpoint, which is written with the step that took them."""
    unbroken, whole = optimise(**_short(make_training(), 8, after=5)[0])

    def stop(what: str, done: int, total: int) -> None:
        if done == at + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimise(**_short(make_training(tmp_path), 8, after=5)[0], progress=stop)
    resumed, state = optimise(**make_training(tmp_path))
    assert (state.parts, state.decisions) == (2, whole.decisions)
    assert _same(unbroken, resumed)


def test_a_memory_for_less_than_two_images_is_one_error(make_training) -> None:
    with pytest.raises(UnavailableError, match=r"2 images at a time.*--image-size"):
        optimise(**_short(make_training(), 1)[0])


def test_another_error_is_no_want_of_memory(make_training) -> None:
    with pytest.raises(RuntimeError, match="mat1"):
        optimise(**_short(make_training(), 1, _raise(RuntimeError("mat1 and mat2 shapes cannot be multiplied")))[0])


def test_a_budget_that_ends_within_the_first_epoch_leaves_no_model(make_training) -> None:
    with pytest.raises(UnsoundError, match=r"1 of 4 steps.*--budget"):
        optimise(**make_training(clock=Clock(0.0)))
    _, state = optimise(**make_training(clock=Clock(0.0)), fitted=True)  # a linear head was there before
    assert state.stopped
