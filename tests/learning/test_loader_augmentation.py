import cv2
import numpy as np
import pytest
import torch

from overread.core.errors import ArgumentError
from overread.images.augment import Augmentation, apply, draw
from overread.learning.loader import augment


def _pictures(shape: tuple[int, ...]) -> np.ndarray:
    """Smooth images, on which two interpolations agree."""
    noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    flat = noise.reshape(-1, *shape[-3:])
    smooth = np.stack([cv2.GaussianBlur(picture, (0, 0), 3).reshape(picture.shape) for picture in flat])
    return np.clip((smooth - 128) * 4 + 128, 0, 255).astype(np.uint8).reshape(shape)


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(flip_horizontal=0.5, flip_vertical=0.5),
        Augmentation(rotate=180, scale=(0.7, 1.3), shift=0.2),
        Augmentation(rotate=30, shift=0.3, border="zero"),
        Augmentation(brightness=0.2, contrast=0.3, saturation=0.4, hue=0.1),
        Augmentation(blur=2.0),
        Augmentation(flip_depth=0.5, turn=0.7),
        Augmentation(flip_depth=0.5, turn_depth=0.7),
        Augmentation(rotate=180, inscribed=True),
        Augmentation(gamma=1.0),
        Augmentation(erase=0.7),
        Augmentation(stain=0.2),
    ],
    ids=[
        "flips",
        "affine",
        "zero border",
        "colours",
        "blur",
        "turns",
        "turns of depth",
        "inscribed",
        "gamma",
        "erasing",
        "stain",
    ],
)
@pytest.mark.parametrize(
    "shape",
    [(6, 40, 50, 3), (6, 33, 33, 1), (4, 3, 24, 24, 1), (4, 24, 24, 24, 1)],
    ids=["colour", "grey", "volume", "cube"],
)
def test_the_same_parameters_give_the_same_images_as_opencv(augmentation, shape) -> None:
    images = _pictures(shape)
    drawn = draw(augmentation, seed=1, epoch=2, samples=np.arange(len(images)), size=shape[-3:-1], channels=shape[-1])
    wanted = apply(images, drawn).astype(np.float32)
    ours = augment(torch.from_numpy(images).movedim(-1, 1).float() / 255, drawn).movedim(1, -1).numpy() * 255
    difference = np.abs(ours - wanted)
    assert np.median(difference) <= 1
    assert np.quantile(difference, 0.99) <= 6  # cv2 warps at 1/32 of a pixel; a zero border has an edge


def test_noise_has_the_drawn_strength_and_repeats() -> None:
    images = torch.full((2, 1, 64, 64), 0.5)
    drawn = draw(Augmentation(noise=0.1), seed=1, epoch=0, samples=np.array([3, 4]), size=(64, 64), channels=1)
    made = augment(images, drawn)
    assert made.std(dim=(1, 2, 3)).numpy() == pytest.approx(drawn.noise, rel=0.1)
    assert torch.equal(made, augment(images, drawn))
    alone = draw(Augmentation(noise=0.1), seed=1, epoch=0, samples=np.array([4]), size=(64, 64), channels=1)
    assert torch.equal(augment(images[1:], alone)[0], made[1])  # its company changes nothing


def test_clahe_is_left_to_the_cpu() -> None:
    drawn = draw(Augmentation(clahe=1.0), seed=1, epoch=0, samples=np.arange(2), size=(16, 16), channels=1)
    with pytest.raises(ArgumentError, match="CLAHE"):
        augment(torch.zeros(2, 1, 16, 16), drawn)
