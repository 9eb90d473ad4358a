"""From marked patches to maps of features: one network each, every image mapped, merged, and judged where the truth is known."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.cases.sources.tables import read_table
from overread.cells.few_patches.feature_maps import write_maps
from overread.cells.few_patches.feature_network import STEPS, FeatureNetwork, train_feature
from overread.cells.few_patches.feature_scores import (
    FeatureLearned,
    FeatureScores,
    counts_of,
    missing_truth,
    numbers_of,
    score_features,
)
from overread.cells.few_patches.marked_patches import MarkedPatches
from overread.cells.few_patches.pixel_source import open_pixels
from overread.core.errors import InputError, checked
from overread.core.files import fingerprint, publish, sha256_file, write_json
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.core.sandbox import contained_call
from overread.images.read import read_image
from overread.networks.state_dict import read_tensors, write_tensors

#: The column of a table of images that says what is independent, by its usual names.
INDEPENDENT = ("patient", "tomogram", "specimen", "sample", "case")


@dataclass(frozen=True)
class MappedImage:
    """An image to be mapped: its ``address``, a ``name`` for its files, what is ``independent``, and the addresses of the
    truth of each feature, where it is known."""

    address: str
    name: str
    independent: str
    truth: Mapping[str, str]


@checked
def read_images_to_map(path: str | os.PathLike[str], features: Sequence[str]) -> tuple[MappedImage, ...]:
    """The images of a table with a column ``image``, and, where it is known, ``truth:FEATURE`` and what is independent
    (``patient``, ``tomogram``, ``specimen`` or ``sample``; else each image). Raises :class:`InputError` without images.
    """
    table, root = read_table(Path(path)), Path(path).absolute().parent
    if "image" not in table.columns:
        raise InputError("the table of images has no column 'image'", given=", ".join(map(str, table.columns)))
    of = next((name for name in INDEPENDENT if name in table.columns), "image")
    known = [name for name in features if name not in set(missing_truth(features, list(table.columns)))]
    images = [str(root / image) for image in table["image"]]
    names = _names(images)
    truth = [
        {name: str(root / row[f"truth:{name}"]) for name in known if row[f"truth:{name}"]}
        for row in table.to_dict("records")
    ]
    return tuple(MappedImage(*each) for each in zip(images, names, table[of].astype(str), truth, strict=True))


@checked
def images_of_patches(marked: MarkedPatches) -> tuple[MappedImage, ...]:
    """The images that patches were marked in, to be mapped."""
    images = [marked.address(image) for image in marked.images]
    return tuple(MappedImage(image, name, image, {}) for image, name in zip(images, _names(images), strict=True))


def _names(images: Sequence[str]) -> list[str]:
    """Names of files for the maps: that of the image, with its number where two are called alike."""
    stems = [Path(image.partition("#")[0]).stem for image in images]
    return [stem if stems.count(stem) == 1 else f"{stem}-{place + 1}" for place, stem in enumerate(stems)]


@checked
def map_features(
    marked: MarkedPatches, images: Sequence[MappedImage], folder: str | os.PathLike[str], *, threshold: float = 0.5, exclusive: bool = True,
    steps: int = STEPS, seed: int = 0, level: float = 0.95, device: str = "cpu", progress: Progress = silent, say: Say = unheard,
) -> FeatureScores:  # fmt: skip
    """Train a network for each feature, map every image, merge by the strongest answer, and judge where the truth is known.

    Writes into ``folder``: ``networks/FEATURE.safetensors``, ``maps/IMAGE.FEATURE.tif`` (the answer in 255ths),
    ``maps/IMAGE.labels.tif`` (0 nothing, 1 … the features in their order), ``labels.json``, and ``evaluation/features.json`` with
    ``metrics.json``. Networks that were made of the same patches are not trained again. Images in which patches were marked,
    and others of what is ``independent`` in one of these, are mapped, never judged. Raises :class:`InputError` for features
    whose files would have one name.
    """
    home = Path(folder)
    _refuse_alike(marked.features)
    with ExitStack() as stack:
        sources = {image: stack.enter_context(open_pixels(marked.address(image))) for image in marked.images}
        made = {
            name: _network(marked, name, sources, home, exclusive, steps, seed, device, progress, say)
            for name in marked.features
        }
    networks = {name: network for name, (network, _) in made.items()}
    seen = {os.path.realpath(marked.address(image)) for image in marked.images}
    learned_from = {image.independent for image in images if os.path.realpath(image.address) in seen}
    counts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in marked.features}
    judged: list[str] = []
    for number, image in enumerate(images, 1):
        paths = {name: home / "maps" / f"{image.name}.{_file(name)}.tif" for name in networks}
        merged = home / "maps" / f"{image.name}.labels.tif"
        with open_pixels(image.address) as source:
            write_maps(source, networks, paths, merged, threshold=threshold, device=device)
        known = len(image.truth) == len(networks)
        if known and os.path.realpath(image.address) not in seen and image.independent not in learned_from:
            judged.append(image.independent)
            for place, name in enumerate(networks, 1):
                counts[name].append(_counted(paths[name], merged, place, image.truth[name]))
        progress("mapping images", number, len(images))
    codes = numbers_of(judged)
    estimates = (
        score_features({name: np.array(held) for name, held in counts.items()}, codes, level=level, seed=seed)
        if judged
        else ()
    )
    found = FeatureScores(tuple(told for _, told in made.values()), estimates, len(images), len(judged), len(set(judged)), threshold,
                          _notes(images, seen, len(judged), networks))  # fmt: skip
    write_json(home / "labels.json", {"0": "nothing", **{str(place): name for place, name in enumerate(networks, 1)}})
    found.save(home / "evaluation")
    return found


def _notes(images: Sequence[MappedImage], seen: set[str], judged: int, networks: Mapping[str, Any]) -> tuple[str, ...]:
    marked_too = [image for image in images if os.path.realpath(image.address) in seen]
    notes = [f"{count(len(marked_too), 'image')} with marked patches mapped, not judged"] if marked_too else []
    learned_from = {image.independent for image in marked_too}
    beside = sum(image.independent in learned_from for image in images) - len(marked_too)
    notes += [f"{count(beside, 'image')} of the same tomogram, patient or specimen as one with marked patches mapped, not judged"] if beside else []  # fmt: skip
    absent = len(seen) - len({os.path.realpath(image.address) for image in marked_too})
    notes += [f"{count(absent, 'image')} with marked patches not in the table of images: whether others are of the same tomogram or patient is not known"] if absent and judged else []  # fmt: skip
    partly = sum(0 < len(image.truth) < len(networks) for image in images)
    notes += [f"{count(partly, 'image')} whose truth is known of some features alone not judged"] if partly else []
    notes += (
        [] if judged else ["no image is judged: the truth of none is known that is independent of the marked patches"]
    )
    return tuple(notes)


def _network(
    marked: MarkedPatches, name: str, sources: Mapping[str, Any], home: Path, exclusive: bool, steps: int, seed: int, device: str,
    progress: Progress, say: Say,
) -> tuple[FeatureNetwork, FeatureLearned]:  # fmt: skip
    """The network of a feature, from its file where that was made of the same patches in the same way."""
    path = home / "networks" / f"{_file(name)}.safetensors"
    masks = [sha256_file(marked.address(patch.mask)) for patch in marked.patches if patch.mask]
    pixels = [sha256_file(marked.address(image).partition("#")[0]) for image in marked.images]
    key = fingerprint([1, [asdict(patch) for patch in marked.patches], masks, pixels, name, exclusive, steps, seed])
    if path.exists():
        tensors, about = read_tensors(path)
        if about.get("key") == key:
            network = FeatureNetwork().to(device)
            network.load_state_dict(tensors)
            say(f"{name}: the network that is there was made of these patches")
            told = {what: about[what] for what in ("with_it", "without", "hard", "mistaken", "loss")}
            return network.eval(), FeatureLearned(name, *(int(told[w]) for w in ("with_it", "without", "hard")), *(float(told[w]) for w in ("mistaken", "loss")))  # fmt: skip
    learned = train_feature(
        marked, name, sources, exclusive=exclusive, steps=steps, seed=seed, device=device, progress=progress
    )
    told_now = FeatureLearned(name, learned.with_it, learned.without, learned.hard, learned.mistaken, learned.loss)
    say(
        f"{name}: {count(learned.with_it, 'square')} with it, {learned.without} without; {count(learned.hard, 'hard negative')}"
    )
    with publish(path) as place:
        write_tensors(learned.network.state_dict(), place, {"key": key, **{what: repr(value) if isinstance(value, float) else str(value) for what, value in asdict(told_now).items()}})  # fmt: skip
    return learned.network, told_now


def _refuse_alike(features: Sequence[str]) -> None:
    """Raise :class:`InputError` for features whose files would be one, and for one whose maps would be the merged ones."""
    taken: dict[str, list[str]] = {"labels": []}
    for name in features:
        taken.setdefault(_file(name).casefold(), []).append(name)
    alike = [names for names in taken.values() if len(names) > 1]
    if alike:
        raise InputError("features are called so alike that their files would have one name", given="; ".join(" and ".join(map(repr, names)) for names in alike),
                         todo="call them by letters and digits that differ, in the table of patches: ER-plus and ER-minus")  # fmt: skip
    if taken["labels"]:
        raise InputError("a feature cannot be called as the merged map is", given=repr(taken["labels"][0]), todo="call it otherwise in the table of patches")  # fmt: skip


def _file(name: str) -> str:
    """A feature's name as a file may have it."""
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)


def _counted(answers: Path, merged: Path, place: int, truth: str) -> NDArray[np.float64]:
    import tifffile

    known = contained_call(read_image, truth).pixels.max(axis=-1) > 0
    seen, labels = (tifffile.memmap(path, mode="r") for path in (answers, merged))
    return counts_of(seen, labels == place, known)


@checked
def preview(
    folder: str | os.PathLike[str], image: MappedImage, side: int = 480
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A small picture (h, w) of an image, from the 1st to the 99th percentile, and its merged labels at the same places."""
    import tifffile

    labels = tifffile.memmap(Path(folder) / "maps" / f"{image.name}.labels.tif", mode="r")
    step = max(1, -(-max(labels.shape) // side))
    with open_pixels(image.address) as source:
        seen = np.asarray(source.pixels[::step, ::step], np.float64)
    low, high = np.percentile(seen, (1, 99))
    grey = np.clip((seen - low) / max(high - low, 1e-9), 0, 1) * 255
    return np.rint(grey).astype(np.uint8), np.asarray(labels[::step, ::step])
