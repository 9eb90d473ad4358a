"""What a model says of the tiles of a slide that are in memory: the probability of a positive class at each place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from overread.core.errors import UnsoundError, checked, require
from overread.images.address import Address
from overread.images.crop import crop
from overread.images.preprocess import resize
from overread.images.slides.slide import Slide
from overread.images.slides.stain import with_stain
from overread.learning.device import for_inference, to_tensor
from overread.learning.model import Model
from overread.learning.predict import outputs_of


@dataclass(frozen=True, eq=False)
class TileAnswers:
    """A network that is asked of places of the slide at ``address``, ``cells`` of them at a time.

    ``order``: which magnification stands in each place of the network. Tiles are prepared as the model's contract says, and
    turned in as many orientations as its recipe names, whose outputs are averaged, as in prediction.
    """

    network: nn.Module
    model: Model
    device: str
    cells: int
    order: tuple[int, ...]
    address: Address

    @classmethod
    def of(cls, model: Model, slide: Slide, device: str, tiles_at_a_time: int) -> TileAnswers:
        """``model`` on a device, asked of so many tiles of a slide at a time. Raises :class:`ArgumentError` where its views are not the
        magnifications of its tiles."""
        views = model.about.recipe.tiles.views
        known = model.about.views or views
        require(set(known) <= set(views), "the model's views are not the magnifications of its tiles", given=f"{', '.join(known)}; tiles {', '.join(views)}")  # fmt: skip
        order, looks = tuple(views.index(view) for view in known), model.about.preprocess
        together = (len(order),) if model.about.recipe.fusion != "single" else ()
        sample = torch.randn((1, *together, looks.channels, *looks.size), generator=torch.Generator().manual_seed(0))
        return cls(
            for_inference(model.network, device, sample),
            model,
            device,
            max(1, tiles_at_a_time // len(order)),
            order,
            Address(slide.path, slide=True, mpp=slide.mpp),
        )

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The probability (n,) of places by their tiles (n, V, size, size, 3), a magnification each, the finest first."""
        about, task = self.model.about, self.model.target.task
        shown = tiles[:, list(self.order)]
        places, views = shown.shape[:2]
        pixels = np.stack([self._prepared(tile) for tile in shown.reshape(-1, *shown.shape[2:])])
        x = to_tensor(pixels, about.preprocess, self.model.mean_image, self.device)  # (n V, C, H, W)
        together = about.recipe.fusion != "single"
        x = x.unflatten(0, (places, views)) if together else x
        outputs = outputs_of(self.network, x, about.recipe.views, x.device.type)
        made = task.probabilities(outputs).cpu().numpy().astype(np.float64)
        made = made if together else made.reshape(places, views, -1).mean(axis=1)  # as of the images of a case
        if not np.isfinite(made).all():
            raise UnsoundError(
                "the model's answers are not finite numbers", given=f"{places} places of a slide", todo="train it again"
            )
        return made[:, [self.model.target.names.index(name) for name in self.model.target.positive]].sum(axis=1)

    def _prepared(self, tile: NDArray[np.uint8]) -> NDArray[Any]:
        """A tile (size, size, 3) as :func:`overread.images.preprocess.prepared` makes it of an image that was read."""
        preprocess = self.model.about.preprocess
        made = resize(crop(tile, preprocess.crop)[0] if preprocess.crop != "none" else tile, preprocess)
        return with_stain(made, preprocess.stain, self.address)


#: Pixels that a processor sees at a time: 4 tiles of 256 pixels, 64 of 64. More are no quicker and take memory; 4 of 64 pixels take
#: nearly twice as long each.
_PIXELS = 4 * 256**2


@checked
def largest_batch(device: str, size: int) -> int:
    """Tiles of ``size`` pixels a side that a network sees at a time: on a processor about a quarter of a megapixel, elsewhere 128 tiles."""
    return max(1, min(64, _PIXELS // size**2)) if device.partition(":")[0] == "cpu" else 128
