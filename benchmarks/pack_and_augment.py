"""The first two bars: packing against bare decoding, and augmented batches against the peers' loaders.

    python benchmarks/pack_and_augment.py [--images 600] [--repeats 5] [--peers all] [--side 512] [--grey]

Every figure is the median of interleaved repeats in this process's machine state; only the ratios mean
anything on a shared machine. Sources are JPEGs of a smooth random field with fine noise, written to a
temporary folder.

Unlike parts of the work, named: our batches come from a pack made once before (its time is the first table)
and every peer decodes each epoch, as it is shipped, except MONAI, whose CacheDataset keeps decoded and
resized images in memory. All make uint8 or float batches of 32 at 224 pixels with the same kinds of change:
mirror, rotation ±15°, scale 0.9 … 1.1, shift, brightness and contrast; peers that lack one leave it out. A
peer that is not installed is a line.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np

from overread.core.files import cores
from overread.images.augment import Augmentation, apply, draw
from overread.images.preprocess import Preprocess, resize
from overread.images.read import read_image
from overread.images.store import pack
from overread.networks.backbones import torchvision_models

SIZE, BATCH = 224, 32
OURS = Augmentation(flip_horizontal=0.5, rotate=15, scale=(0.9, 1.1), shift=0.05, brightness=0.1, contrast=0.1)
WITH_HUE = Augmentation(0.5, 0.0, 15, (0.9, 1.1), 0.05, 0.1, 0.1, saturation=0.1, hue=0.03)
BARS = {"torchvision v2": 10.0, "MONAI CacheDataset": 10.0, "fastai": 15.0, "timm": 4.0, "albumentations": 3.5}


def write_sources(folder: Path, count: int, side: int, grey: bool) -> list[str]:
    """``count`` pictures: JPEG in colour, or PNG in grey."""
    rng, paths = np.random.default_rng(0), []
    for i in range(count):
        coarse = rng.integers(0, 256, (12, 12, 1 if grey else 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).reshape(side, side, -1)
        noisy = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
        path = folder / f"{i:05}.{'png' if grey else 'jpg'}"
        cv2.imwrite(str(path), noisy, [] if grey else [cv2.IMWRITE_JPEG_QUALITY, 90])
        paths.append(str(path))
    return paths


def busy_seconds() -> float:
    """Processor time of this process and, where the system tells, of those that decode for it."""
    seconds = time.process_time()
    for task in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended meanwhile
            for child in task.read_text(encoding="ascii").split():
                fields = Path(f"/proc/{child}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
                seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def rates(work: Callable[[], int]) -> tuple[float, float]:
    """Images per second of ``work``, which says how many it made: by the clock, and of processor time.

    The second is what the clock would show with one core to ourselves.
    """
    start, busy = time.perf_counter(), busy_seconds()
    made = work()
    return made / (time.perf_counter() - start), made / (busy_seconds() - busy)


def interleaved(works: dict[str, Callable[[], int]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median rates; the repeats take turns, so that a busy moment hits all alike."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            found[name].append(rates(work))
    return {name: tuple(np.median(pairs, axis=0).tolist()) for name, pairs in found.items()}


# -- packing ---------------------------------------------------------------------------------------------


def bare_decode(paths: list[str]) -> int:
    """Read and decode to RGB at full size, in as many threads as the pack."""

    def one(path: str) -> int:
        pixels = cv2.imdecode(np.frombuffer(Path(path).read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
        return len(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB) if pixels.ndim == 3 else pixels) > 0

    with ThreadPoolExecutor(cores()) as pool:
        return sum(pool.map(one, paths))


def decode_and_resize(paths: list[str]) -> int:
    """What the pack would do without its short cut: our reader at full size, then our resize."""
    with ThreadPoolExecutor(cores()) as pool:
        return sum(pool.map(lambda path: resize(read_image(path), Preprocess((SIZE, SIZE))).size > 0, paths))


def make_pack(paths: list[str], channels: int, digests: tuple[str, ...] | None = None) -> int:
    cache = Path(tempfile.mkdtemp(dir=Path(paths[0]).parents[1]))  # removed at the end, with its parent
    return len(pack(paths, Preprocess((SIZE, SIZE), channels), cache, digests=digests))


def open_pack(paths: list[str], channels: int, cache: Path) -> int:
    return len(pack(paths, Preprocess((SIZE, SIZE), channels), cache))


# -- batches ---------------------------------------------------------------------------------------------


def our_batches(images: np.ndarray, augmentation: Augmentation, epoch: list[int]) -> int:
    epoch[0] += 1
    order = np.random.default_rng(epoch[0]).permutation(len(images))
    made = 0
    for at in range(0, len(order), BATCH):
        rows = order[at : at + BATCH]
        drawn = draw(augmentation, seed=1, epoch=epoch[0], samples=rows, size=(SIZE, SIZE), channels=images.shape[-1])
        made += len(apply(images, drawn, rows=rows))
    return made


def epoch_of(loader: object) -> Callable[[], int]:
    def work() -> int:
        return sum(len(batch[0] if isinstance(batch, (tuple, list)) else batch) for batch in loader)  # type: ignore[attr-defined]

    return work


def torchvision_peer(paths: list[str]) -> Callable[[], int]:
    import torch
    from PIL import Image

    torchvision_models()  # makes a torchvision without its compiled part importable
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    change = v2.Compose(
        [
            v2.Resize((SIZE, SIZE), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomAffine(15, (0.05, 0.05), (0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR),
            v2.ColorJitter(0.1, 0.1),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )

    class Files(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, i: int):
            pixels = np.asarray(Image.open(paths[i]).convert("RGB"))
            return change(tv_tensors.Image(torch.from_numpy(pixels.copy()).permute(2, 0, 1))), 0

    return epoch_of(torch.utils.data.DataLoader(Files(), BATCH, shuffle=True, num_workers=2))


def timm_peer(paths: list[str]) -> Callable[[], int]:
    import torch
    from PIL import Image

    torchvision_models()
    from timm.data import create_loader

    class Files(torch.utils.data.Dataset):
        transform = None

        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, i: int):
            return self.transform(Image.open(paths[i]).convert("RGB")), 0

    loader = create_loader(
        Files(),
        (3, SIZE, SIZE),
        BATCH,
        is_training=True,
        scale=(0.8, 1.0),
        color_jitter=0.1,
        num_workers=2,
        device=torch.device("cpu"),
        use_prefetcher=False,
        persistent_workers=False,
    )
    return epoch_of(loader)


def albumentations_peer(paths: list[str]) -> Callable[[], int]:
    import albumentations as A
    import torch

    change = A.Compose(
        [
            A.Resize(SIZE, SIZE),
            A.HorizontalFlip(),
            A.Affine(rotate=(-15, 15), scale=(0.9, 1.1), translate_percent=0.05),
            A.RandomBrightnessContrast(0.1, 0.1),
        ]
    )

    class Files(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, i: int):
            pixels = cv2.cvtColor(cv2.imread(paths[i]), cv2.COLOR_BGR2RGB)
            return torch.from_numpy(change(image=pixels)["image"]), 0

    return epoch_of(torch.utils.data.DataLoader(Files(), BATCH, shuffle=True, num_workers=2))


def monai_peer(paths: list[str]) -> Callable[[], int]:
    import monai.transforms as M
    import torch
    from monai.data import CacheDataset

    change = M.Compose(
        [
            M.LoadImage(image_only=True, reader="PILReader"),
            M.EnsureChannelFirst(),
            M.Resize((SIZE, SIZE)),
            M.RandFlip(0.5, 1),
            M.RandAffine(1.0, 0.26, translate_range=11, scale_range=0.1, padding_mode="reflection"),
            M.RandShiftIntensity(25, prob=1.0),
            M.RandAdjustContrast(1.0, (0.9, 1.1)),
        ]
    )
    return epoch_of(
        torch.utils.data.DataLoader(CacheDataset(paths, change, progress=False), BATCH, shuffle=True, num_workers=2)
    )


def fastai_peer(paths: list[str]) -> Callable[[], int]:
    from fastai.vision.all import ImageDataLoaders, Resize, aug_transforms

    loaders = ImageDataLoaders.from_path_func(
        Path(paths[0]).parent,
        [Path(path) for path in paths],
        lambda path: "x",
        valid_pct=0.01,
        item_tfms=Resize(SIZE),
        batch_tfms=aug_transforms(max_rotate=15, max_lighting=0.1, max_warp=0),
        bs=BATCH,
        num_workers=2,
    )
    return epoch_of(loaders.train)


PEERS: dict[str, Callable[[list[str]], Callable[[], int]]] = {
    "torchvision v2": torchvision_peer,
    "timm": timm_peer,
    "albumentations": albumentations_peer,
    "MONAI CacheDataset": monai_peer,
    "fastai": fastai_peer,
}


def installed(paths: list[str], wanted: list[str]) -> Iterator[tuple[str, Callable[[], int]]]:
    for name in wanted:
        try:
            work = PEERS[name](paths)
            work()  # imports, caches, workers
        except (ImportError, RuntimeError, AttributeError, TypeError, ValueError, KeyError, OSError) as error:
            print(f"  {name}: left out, {type(error).__name__}: {str(error).splitlines()[0]}")
        else:
            yield name, work


# -- the tables ------------------------------------------------------------------------------------------


def packing(paths: list[str], channels: int, repeats: int, cache: Path) -> None:
    digests = pack(paths, Preprocess((SIZE, SIZE), channels), cache).digests
    bare = "bare decode, full size"
    works = {
        bare: lambda: bare_decode(paths),
        "decode and resize without the short cut": lambda: decode_and_resize(paths),
        "pack": lambda: make_pack(paths, channels),
        "pack, digests known from the audit": lambda: make_pack(paths, channels, digests),
        "open a pack, every row checked": lambda: open_pack(paths, channels, cache),
    }
    found = interleaved(works, repeats)
    for name, (clock, busy) in found.items():
        ratios = f"{clock / found[bare][0]:5.2f}x by the clock {busy / found[bare][1]:5.2f}x of processor time"
        print(f"  {name:42} {clock:7.0f} images/s {ratios}")
    print("  bar: pack at least 0.90x of bare decode")


def batches(paths: list[str], channels: int, repeats: int, cache: Path, wanted: list[str]) -> None:
    images = pack(paths, Preprocess((SIZE, SIZE), channels), cache).images
    epoch = [0]
    works: dict[str, Callable[[], int]] = {
        "overread": lambda: our_batches(images, OURS, epoch),
        "overread, with saturation and hue": lambda: our_batches(images, WITH_HUE, epoch),
    }
    works.update(installed(paths, wanted))
    found = interleaved(works, repeats)
    for name, (made, _) in found.items():
        bar = f"  bar {BARS[name]:g}x" if name in BARS else ""
        print(f"  {name:42} {made:7.0f} images/s  overread is {found['overread'][0] / made:5.1f}x{bar}")


def small(repeats: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (128, 28, 28, 1), dtype=np.uint8)
    times = []
    for epoch in range(max(20, repeats)):
        start = time.perf_counter()
        drawn = draw(OURS, seed=1, epoch=epoch, samples=np.arange(128), size=(28, 28), channels=1)
        apply(images, drawn)
        times.append(1e3 * (time.perf_counter() - start))
    print(f"  128 grey images of 28 pixels: {np.median(times):.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--grey", action="store_true", help="PNG with one channel instead of JPEG in colour")
    parser.add_argument("--peers", default="all", help="comma-separated names, all, or none")
    options = parser.parse_args()
    wanted = {"all": list(PEERS), "none": []}.get(options.peers, options.peers.split(","))
    channels = 1 if options.grey else 3
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder) / "sources"
        sources.mkdir()
        paths = write_sources(sources, options.images, options.side, options.grey)
        size = np.mean([Path(path).stat().st_size for path in paths]) / 1024
        print(
            f"{options.images} files of {options.side} pixels, {size:.0f} KiB on average, {cores()} threads\n\nPacking"
        )
        packing(paths, channels, options.repeats, Path(folder) / "cache")
        print("\nAugmented batches of 32 at 224 pixels, from the second epoch on")
        batches(paths, channels, options.repeats, Path(folder) / "cache", wanted)
        print("\nSmall images, draw and apply")
        small(options.repeats)


if __name__ == "__main__":
    main()
