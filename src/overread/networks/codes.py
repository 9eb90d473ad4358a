"""Descriptors as bits: a linear head that sees on which side of learned or random planes an image lies.

In place of PiCoDes (Bergamo 2011, "PiCoDes: learning a compact code for novel-category recognition"), whose planes were
learned from categories of ImageNet and are not published with weights that could be bundled: bits of the same kind, of the same kind of
descriptors, by planes that are

- ``hyperplanes``: random directions (Charikar 2002, doi:10.1145/509907.509965), as many as are asked for; or
- ``itq``: the principal components of the training images, turned such that little is lost by taking signs (Gong 2013,
  doi:10.1109/TPAMI.2012.193, section 3).

Both standardise each descriptor by the training images first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.core.errors import InputError, checked, one_of

#: Turns of the rotation, as in Gong 2013.
_TURNS = 50


class CodedLinear(nn.Linear):
    """A linear head on ``plain`` features as they are, and on ``bits`` of the ``raw`` descriptors behind them.

    ``forward`` takes raw features (B, plain + raw); ``weight`` belongs to the coded ones (B, plain + bits). The planes are
    learned by :meth:`learn`; before that all bits are 1.
    """

    def __init__(self, plain: int, raw: int, outputs: int, *, bits: int, kind: str) -> None:
        super().__init__(plain + bits, outputs)
        self.plain, self.raw, self.bits, self.kind = plain, raw, bits, kind
        self.register_buffer("middle", torch.zeros(raw))
        self.register_buffer("spread", torch.ones(raw))
        self.register_buffer("planes", torch.zeros(raw, bits))

    def coded(self, features: Tensor) -> Tensor:
        """(B, plain + raw) to (B, plain + bits); a bit is 1 on the upper side of its plane, else 0."""
        middle, spread, planes = (self.get_buffer(name) for name in ("middle", "spread", "planes"))
        signs = (((features[:, self.plain :] - middle) / spread) @ planes >= 0).to(features.dtype)
        return torch.cat([features[:, : self.plain], signs], dim=1)

    def forward(self, features: Tensor) -> Tensor:
        """The outputs (B, K) of raw features."""
        return super().forward(self.coded(features))

    def learn(self, features: Tensor, seed: int) -> None:
        """Learn the planes from the features (N, plain + raw) of training images, in place.

        Raises :class:`InputError` for more bits than ITQ can have of so many images.
        """
        given = features[:, self.plain :].double().cpu().numpy()
        middle, spread = given.mean(axis=0), given.std(axis=0) + 1e-4
        planes = planes_of((given - middle) / spread, self.bits, self.kind, seed)
        for name, values in (("middle", middle), ("spread", spread), ("planes", planes)):
            self.get_buffer(name).copy_(torch.from_numpy(np.asarray(values, np.float32)))


@checked
def planes_of(standardised: NDArray[np.float64], bits: int, kind: str, seed: int) -> NDArray[np.float64]:
    """(F, bits) normals of planes through the mean of standardised descriptors (N, F)."""
    one_of(kind, MAKERS, "the codes")
    return MAKERS[kind](standardised, bits, np.random.Generator(np.random.Philox(key=seed)))


def _hyperplanes(x: NDArray[np.float64], bits: int, random: np.random.Generator) -> NDArray[np.float64]:
    return random.standard_normal((x.shape[1], bits))


def _itq(x: NDArray[np.float64], bits: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Principal components, then the rotation that brings them nearest to their signs: two steps in turn, each the best."""
    most = min(len(x) - 1, x.shape[1])
    if bits > most:
        raise InputError("there are fewer principal components than bits", given=f"{bits} bits of {len(x)} images with {x.shape[1]} descriptors",
                         todo=f"--set bits={2 ** int(np.log2(max(most, 1)))}, or random planes: --set codes=\"hyperplanes\"")  # fmt: skip
    components = np.linalg.svd(x, full_matrices=False)[2][:bits].T
    projected = x @ components
    rotation = np.linalg.qr(random.standard_normal((bits, bits)))[0]
    for _ in range(_TURNS):
        left, _, right = np.linalg.svd(np.where(projected @ rotation >= 0, 1.0, -1.0).T @ projected)
        rotation = right.T @ left.T
    return components @ rotation


#: How descriptors may be coded: planes (descriptors, bits) of training images (N, descriptors).
MAKERS: dict[str, Callable[[NDArray[np.float64], int, np.random.Generator], NDArray[np.float64]]] = {
    "itq": _itq, "hyperplanes": _hyperplanes,
}  # fmt: skip
