"""Maps of features over images of any size: tile by tile without a seam, merged by the strongest answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from overread.cells.few_patches.feature_network import REACH
from overread.cells.few_patches.pixel_source import PixelSource
from overread.core.errors import checked, require
from overread.core.files import publish
from overread.core.progress import Progress, silent

#: Side of a tile that is answered for at once.
TILE = 512


@checked
def write_maps(
    source: PixelSource, networks: Mapping[str, nn.Module], paths: Mapping[str, Path], merged: Path, *, threshold: float = 0.5,
    tile: int = TILE, device: str = "cpu", progress: Progress = silent,
) -> None:  # fmt: skip
    """Write a map of each feature, and their merged labels, of one image: TIFF of 8 bits, memory-mapped while they are made.

    A map holds the answer in 255ths. The merged map holds 0 where no answer reaches ``threshold``, else the number of the
    feature, from 1 in the order of ``networks``, that answers most strongly (the first of equals). Memory does not grow
    with the image. Files appear when they are whole.
    """
    import tifffile

    require(0 < threshold < 1, "the threshold must lie between 0 and 1", given=threshold)
    require(1 <= len(networks) <= 254, "there are 1 to 254 features", given=len(networks))
    names = list(networks)
    with _all_published([*(paths[name] for name in names), merged]) as places:
        maps = [
            tifffile.memmap(place, shape=source.size, dtype=np.uint8, photometric="minisblack", metadata=None)
            for place in places
        ]
        for (top, left), answers in answered(source, networks, tile=tile, device=device, progress=progress):
            window = (slice(top, top + answers.shape[1]), slice(left, left + answers.shape[2]))
            whole = np.rint(answers * 255).astype(np.uint8)
            for held, answer in zip(maps[:-1], whole, strict=True):
                held[window] = answer
            best = answers.argmax(0)
            maps[-1][window] = np.where(answers.max(0) >= threshold, best + 1, 0)
        for held in maps:
            held.flush()
        del maps


class _all_published:
    """Several files that appear together when all are whole."""

    def __init__(self, paths: list[Path]) -> None:
        self._each = [publish(path) for path in paths]

    def __enter__(self) -> list[Path]:
        return [each.__enter__() for each in self._each]

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        for each in reversed(self._each):
            each.__exit__(kind, error, trace)  # type: ignore[arg-type]


@checked
def answered(
    source: PixelSource, networks: Mapping[str, nn.Module], *, tile: int = TILE, device: str = "cpu", progress: Progress = silent
) -> Iterator[tuple[tuple[int, int], NDArray[np.float32]]]:  # fmt: skip
    """The upper left corner of every tile, and the answers (features, h, w) of all networks there, from 0 to 1.

    Tiles do not overlap. A network sees :data:`.REACH` pixels around each, which is as far as anything moves its answers,
    so that there are no seams.
    """
    require(tile >= 2 and tile % 2 == 0, "a tile has an even side", given=tile)
    height, width = source.size
    places = [(top, left) for top in range(0, height, tile) for left in range(0, width, tile)]
    for number, (top, left) in enumerate(places, 1):
        rows, columns = min(tile, height - top), min(tile, width - left)
        seen = source.window(top - REACH, left - REACH, rows + rows % 2 + 2 * REACH, columns + columns % 2 + 2 * REACH)
        x = torch.from_numpy(seen)[None, None].to(device)
        with torch.inference_mode():
            each = [
                network(x).sigmoid()[0, 0, REACH : REACH + rows, REACH : REACH + columns].float().cpu().numpy()
                for network in networks.values()
            ]
        yield (top, left), np.stack(each)
        progress("mapping features in tiles", number, len(places))
