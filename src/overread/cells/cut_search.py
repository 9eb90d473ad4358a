"""How objects are cut out, chosen on tuning images: thresholds, distances and the least size, never on test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from overread.cells.instance_cut import Maps, cut
from overread.core.errors import checked
from overread.core.progress import Progress, silent
from overread.networks.instance_heads import Cutting, Layout
from overread.stats.overlap import TWENTIETHS, Instances

#: What is tried of each field, one field after the other, twice.
_TRIED: dict[str, dict[str, tuple[float, ...]]] = {
    "sigmoid": {"foreground": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)},
    "boundary": {
        "foreground": (0.3, 0.4, 0.5, 0.6, 0.7),
        "centre": (0.2, 0.3, 0.4, 0.5, 0.6),
        "compactness": (0.0, 0.01, 0.1),
    },
    "offsets": {
        "centre": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
        "foreground": (0.35, 0.45, 0.5, 0.55, 0.65),
        "apart": (1.0, 2.0, 3.0, 4.0, 6.0),
    },
    "stars": {
        "centre": (0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
        "foreground": (0.35, 0.45, 0.5, 0.55, 0.65),
        "apart": (0.3, 0.5, 0.7, 0.9, 1.1),
    },
}
#: Where the search begins.
STARTS = {
    "sigmoid": Cutting(apart=1.0), "boundary": Cutting(centre=0.4, apart=1.0), "offsets": Cutting(centre=0.3, apart=3.0),
    "stars": Cutting(centre=0.4, apart=0.7),
}  # fmt: skip


@checked
def pooled_precision(pairs: Sequence[Instances], groups: Sequence[str] = ()) -> float:
    """The mean over groups of TP / (TP + FP + FN), counted over all images of a group, and over IoU .50 … .95.

    ``groups``: (N,) of each image, or none. A group without any object, true or predicted, does not count.
    """
    names = np.array(list(groups) or [""] * len(pairs))
    found = []
    for name in dict.fromkeys(names.tolist()):
        some = [pair for pair, own in zip(pairs, names, strict=True) if own == name]
        total = sum(len(pair.true) + len(pair.predicted) for pair in some)
        hits = np.array([sum(int(pair.matched(t).sum()) for pair in some) for t in TWENTIETHS])
        if total:
            found.append(float((hits / (total - hits)).mean()))
    return float(np.mean(found)) if found else 0.0


@checked
def snapshot_precision(
    maps: Sequence[Maps], truths: Sequence[NDArray[np.integer]], layout: Layout, *, groups: Sequence[str] = ()
) -> float:
    """The best :func:`pooled_precision` over the values of the head's first field, by which snapshots are told apart.

    A network that is young, or averaged over a few epochs, is unsure of everything alike: at one fixed threshold it finds
    nothing, and the first snapshot that finds something by chance would win.
    """
    start = STARTS[layout.head]
    (name, values), *_ = _TRIED[layout.head].items()
    tried = [replace(start, **{name: value}) for value in dict.fromkeys((getattr(start, name), *values))]
    return max(pooled_precision(_pairs(maps, truths, layout, cutting), groups) for cutting in tried)


def _pairs(
    maps: Sequence[Maps], truths: Sequence[NDArray[np.integer]], layout: Layout, cutting: Cutting
) -> list[Instances]:
    return [
        Instances.of(np.asarray(truth, np.int64), cut(each, layout, cutting))
        for each, truth in zip(maps, truths, strict=True)
    ]


@checked
def tune(
    maps: Sequence[Maps], truths: Sequence[NDArray[np.integer]], layout: Layout, *, groups: Sequence[str] = (),
    progress: Progress = silent,
) -> tuple[Cutting, float, float]:  # fmt: skip
    """The cutting with the best :func:`pooled_precision` on these images, its score, and that of the start.

    ``truths``: label images. One field after the other is changed, twice round; the least size last: of sizes up to the
    smallest hundredth of the true objects.
    """
    best = STARTS[layout.head]
    sizes = np.concatenate([np.bincount(truth.ravel())[1:] for truth in truths] or [np.zeros(0, np.int64)])
    sizes = sizes[sizes > 0]
    smallest = int(np.quantile(sizes, 0.01)) if len(sizes) else best.minimum
    best = replace(best, minimum=max(4, smallest // 2))
    fields = {**_TRIED[layout.head], "minimum": tuple(sorted({4, max(4, smallest // 2), max(4, smallest)}))}
    seen: dict[Cutting, float] = {}

    def score(cutting: Cutting) -> float:
        if cutting not in seen:
            pairs = [
                Instances.of(np.asarray(truth, np.int64), cut(each, layout, cutting).astype(np.int64))
                for each, truth in zip(maps, truths, strict=True)
            ]
            seen[cutting] = pooled_precision(pairs, groups)
        return seen[cutting]

    started = score(best)
    total = 2 * len(fields)
    for turn in range(2):
        for place, (name, values) in enumerate(fields.items()):
            tried = [replace(best, **{name: int(value) if name == "minimum" else value}) for value in values]  # type: ignore[arg-type]
            best = max([best, *tried], key=score)
            progress("choosing how objects are cut out", turn * len(fields) + place + 1, total)
    return best, score(best), started
