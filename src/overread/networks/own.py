"""A network of one's own in our loop: any module that maps images (B, C, H, W) to (B, outputs)."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from overread.core.errors import checked


class OwnNetwork(nn.Module):
    """A copy of somebody's module, so that theirs stays as it is; it has no head that would be treated apart."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.head = copy.deepcopy(body), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) or (B, C, D, H, W) → (B, outputs)."""
        return self.body(x)


@checked
def own_name(network: nn.Module) -> str:
    """Module and class of a network: how a saved model names it. It has a dot, as no backbone of the table has.

    >>> own_name(nn.Linear(2, 2))
    'torch.nn.modules.linear.Linear'
    """
    kind = type(network)
    return f"{kind.__module__}.{kind.__qualname__}"


@checked
def first_channels(network: nn.Module) -> int:
    """Channels that the first convolution takes; 0 where there is none.

    >>> first_channels(nn.Sequential(nn.Conv2d(3, 8, 5)))
    3
    """
    found = (module for module in network.modules() if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)))
    return next((module.in_channels for module in found), 0)
