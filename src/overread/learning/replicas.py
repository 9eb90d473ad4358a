"""One training on several devices of a machine: a process for each, started by ``torchrun``; the first one leads.

The first process does what a single one would do: it reads, plans, augments, keeps the budget, writes checkpoints and
judges. Of each batch it sends every other process its part; each finds the gradient of its part, and their sum moves the
weights of the first, which it sends with the next batch. So the order of the data is that of one process, and so is the
result, but for the order in which numbers are added, for dropout, which each part draws for itself, and for batch norms,
which see their part alone. Where a process fails, it leaves at once, and ``torchrun`` ends the others.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.core.errors import OverreadError, UnavailableError
from overread.learning.device import free_memory, layout, out_of_memory
from overread.learning.loop import Answer, LoopState, backward, hold_still, known_labels
from overread.learning.model import Model
from overread.learning.recipe import Recipe
from overread.tasks.task import Loss


def processes() -> int:
    """How many processes ``torchrun`` has started for this training; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if {"WORLD_SIZE", "RANK", "MASTER_ADDR"} <= os.environ.keys() else 1


def leads() -> bool:
    """Whether this process is the first of them."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def process_group() -> Iterator[None]:
    """Connect the processes; at the end of the first one the others are told to stop.

    Raises :class:`UnavailableError` where the processes stand on several machines, or more than there are devices.
    """
    here, local = int(os.environ.get("LOCAL_WORLD_SIZE", processes())), int(os.environ.get("LOCAL_RANK", "0"))
    if here != processes():
        raise UnavailableError("one training runs on the devices of one machine", given=f"{processes()} processes, {here} here",
                               todo="start torchrun with --nnodes 1")  # fmt: skip
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if cards and here > cards:
        raise UnavailableError("there are fewer graphics cards than processes", given=f"{cards} and {here}",
                               todo=f"torchrun --nproc-per-node {cards}")  # fmt: skip
    if cards:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if cards else "gloo", timeout=timedelta(days=30))  # while the first reads and judges
    try:
        yield
    except (OverreadError, SystemExit):  # between two steps; after any other error the others may wait for one's end
        _dismiss()
        raise
    _dismiss()
    dist.destroy_process_group()


def _dismiss() -> None:
    """Tell the others to stop."""
    if leads():
        _tell({"do": "stop"})
        dist.barrier()


def joined() -> int:
    """How many processes train together in this one's :func:`process_group`; 1 outside of one."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def reach(device: str) -> bool:
    """Whether the processes can help a network on this device: each has the one of its own number."""
    return device in ("cuda", "cuda:0") if dist.get_backend() == "nccl" else device == "cpu"


class Replicas:
    """The other processes, as the first one sees them: copies of its network that find the gradients of their parts."""

    def __init__(self, model: Model, weights: NDArray[np.float32]) -> None:
        """``model``: as training begins, of a network that can be made from its description; ``weights`` of the classes."""
        with tempfile.TemporaryDirectory() as folder:
            model.save(folder)
            _tell({"do": "network", "folder": folder, "weights": weights.tolist()})
            dist.barrier()

    def __call__(
        self, network: nn.Module, loss: Loss, recipe: Recipe, state: LoopState, x: Tensor, answers: list[Answer]
    ) -> float:
        """The loss of a batch, as :func:`.loop.backward` gives it, its gradients found by all processes together."""
        many = max(1, min(joined(), len(x) // 2))
        rows = torch.arange(len(x), device=x.device).tensor_split(many)
        parts = [[x[some], *(one[some] for answer in answers for one in answer if one is not None)] for some in rows]
        known = known_labels(answers[0][0])
        _tell({"do": "step", "epoch": state.epoch, "step": state.step, "parts": state.parts, "known": known, "processes": many,
               "shares": [counted is not None for _, counted in answers]})  # fmt: skip
        for tensor in network.state_dict().values():
            dist.broadcast(tensor.data, 0)
        for rank, part in enumerate(parts[1:], 1):
            for tensor in part:
                _send(tensor, rank)
        own = [(labels[rows[0]], None if counted is None else counted[rows[0]]) for labels, counted in answers]
        return _together(network, partial(backward, network, loss, recipe, state, x[rows[0]], own, known))


def follow() -> None:
    """What every process but the first does: find gradients until it is told to stop."""
    device = _device()
    network, recipe = nn.Module(), Recipe()
    loss: Loss = _nothing
    while (told := _hear(device))["do"] != "stop":
        if told["do"] == "network":
            model = Model.load(Path(told["folder"]))
            dist.barrier()
            recipe, task = model.about.recipe, model.target.task
            network = layout(model.network, device)
            loss = task.loss(np.asarray(told["weights"], np.float32), recipe.label_smoothing, device, name=recipe.loss,
                             gamma=recipe.gamma, heads=recipe.finding_weights)  # fmt: skip
            continue
        for tensor in network.state_dict().values():
            dist.broadcast(tensor.data, 0)
        hold_still(network.train(), recipe, told["epoch"])
        network.zero_grad(set_to_none=True)
        mine = dist.get_rank() < told["processes"]
        _together(network, partial(_part, network, loss, recipe, told, device) if mine else lambda: 0.0)
    dist.barrier()


def _nothing(*_: object) -> Tensor:
    raise RuntimeError("a step was asked for before a network was told")


def _part(network: nn.Module, loss: Loss, recipe: Recipe, told: dict[str, Any], device: str) -> float:
    """Receive a part of a batch and find its gradients."""
    x = _receive(device)
    answers = [(_receive(device), _receive(device) if counted else None) for counted in told["shares"]]
    state = LoopState(epochs=1, epoch=told["epoch"], step=told["step"], parts=told["parts"])
    return backward(network, loss, recipe, state, x, answers, told["known"], dist.get_rank())


def _together(network: nn.Module, gradients: Callable[[], float]) -> float:
    """The loss of all processes' parts, their gradients added up in each network.

    Where the memory of one does not suffice, all of them are told by an error that says so.
    """
    failed, value = None, 0.0
    try:
        value = gradients()
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        failed = error
        free_memory()
    told = torch.tensor([value, float(failed is not None)], dtype=torch.float64, device=_device())
    dist.all_reduce(told)
    if told[1]:
        if leads():
            raise failed or MemoryError("out of memory in another process of this training")
        return 0.0
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.contiguous()
            dist.all_reduce(parameter.grad)
    return float(told[0])


# -- messages: JSON and tensors, so that nothing is unpickled ----------------------------------------------------------


_KINDS = (torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool)


def _device() -> str:
    return f"cuda:{torch.cuda.current_device()}" if dist.get_backend() == "nccl" else "cpu"


def _tell(message: dict[str, Any]) -> None:
    """Send a message to all other processes."""
    text = torch.from_numpy(np.frombuffer(json.dumps(message).encode(), np.uint8).copy()).to(_device())
    dist.broadcast(torch.tensor([len(text)], device=text.device), 0)
    dist.broadcast(text, 0)


def _hear(device: str) -> dict[str, Any]:
    """The next message of the first process."""
    length = torch.zeros(1, dtype=torch.int64, device=device)
    dist.broadcast(length, 0)
    text = torch.zeros(int(length), dtype=torch.uint8, device=device)
    dist.broadcast(text, 0)
    found: dict[str, Any] = json.loads(bytes(text.cpu().numpy()))
    return found


def _send(tensor: Tensor, rank: int) -> None:
    head = [_KINDS.index(tensor.dtype), tensor.ndim, *tensor.shape, *[0] * (6 - tensor.ndim)]
    dist.send(torch.tensor(head, device=tensor.device), rank)
    dist.send(tensor.contiguous(), rank)


def _receive(device: str) -> Tensor:
    head = torch.zeros(8, dtype=torch.int64, device=device)
    dist.recv(head, 0)
    kind, many, *shape = head.tolist()
    tensor = torch.zeros(shape[:many], dtype=_KINDS[kind], device=device)
    dist.recv(tensor, 0)
    return tensor
