import math
from dataclasses import replace

import pytest
import torch

from overread.core.errors import UnsoundError
from overread.core.progress import Clock
from overread.learning import loop
from overread.learning.loop import make_optimizer, optimise, schedule, update_average


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
