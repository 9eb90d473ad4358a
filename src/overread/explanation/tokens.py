"""Maps of networks of tokens: what a token adds to the answer, and how attention passes to it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from overread.core.errors import UnavailableError, checked
from overread.explanation.layers import as_maps, inner, run_heard, tapped


@checked
def token_map(network: nn.Module, x: Tensor, target: Tensor, name: str) -> Tensor:
    """Gradient times activation at each place of a layer, added up over its channels: (n, h, w), signed.

    ``x``, ``target`` and ``name`` as in :func:`overread.explanation.layers.tapped` (Draelos 2020, equation 6).
    """
    found = tapped(network, x, target, name)
    return (found.gradient * found.activations).sum(dim=1)


@checked
def attention_rollout(network: nn.Module, x: Tensor) -> Tensor:
    """How attention passes from the patches to the answer through all blocks: (n, h, w), each map with a sum of at most 1.

    The mean over the heads, half of it the token itself, block after block (Abnar 2020, equation 1); read at the class
    token, or as the mean over the patches where these are averaged. Raises :class:`UnavailableError` for a network whose
    blocks do not all look at all tokens.
    """
    body = inner(network)
    blocks = [part for part in body.modules() if hasattr(part, "q_norm") and hasattr(part, "k_norm") and hasattr(part, "scale")]  # fmt: skip
    if not blocks or not hasattr(body, "prefix"):
        raise UnavailableError("the network has no attention of every token to every other, which could be rolled out",
                               given=getattr(body, "name", type(body).__name__), todo="ask for --method grad-cam or token-gradients")  # fmt: skip
    rolled = _rolled_out(network, x, blocks)  # (n, N, N)
    first = int(body.prefix)  # type: ignore[arg-type]
    pooled = getattr(body.get_submodule("trunk"), "global_pool", "token")
    answer = rolled[:, 0] if pooled == "token" and first else rolled[:, first:].mean(dim=1)
    sides = tuple(x.shape[-2:])
    return as_maps(network, body, answer[..., None], sides)[:, 0]


def _rolled_out(network: nn.Module, x: Tensor, blocks: list[nn.Module]) -> Tensor:
    """The product of the blocks' attention (n, N, N), by the queries and keys that each of them makes."""
    made: dict[int, list[Tensor]] = {id(module): [] for block in blocks for module in (block.q_norm, block.k_norm)}  # type: ignore[misc]

    def keep(module: nn.Module, _: Any, output: Tensor) -> None:
        made[id(module)].append(output)  # (n, heads, N, width)

    run_heard(network, x, [part for block in blocks for part in (block.q_norm, block.k_norm)], keep)  # type: ignore[misc]
    product: Tensor | None = None
    for block in blocks:
        queries, keys = (torch.cat(made[id(part)]).float() for part in (block.q_norm, block.k_norm))
        attention = (queries @ keys.transpose(-2, -1) * float(block.scale)).softmax(dim=-1).mean(dim=1)  # type: ignore[arg-type]
        step = (attention + torch.eye(attention.shape[-1], device=x.device)) / 2
        product = step if product is None else step @ product
    assert product is not None
    return product
