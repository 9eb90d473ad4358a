"""What an image is, in numbers, held against numpy, hashlib and pictures whose answer is plain."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from overread.core.errors import ArgumentError
from overread.images.perceptual_hash import NOTHING, THUMB, describe, flat, perceptual_hash, pixel_hash

RNG = np.random.default_rng(5)
SCENE = cv2.resize(RNG.integers(40, 255, (5, 5, 3), dtype=np.uint8), (90, 60), interpolation=cv2.INTER_CUBIC)


def saved(folder: Path, pixels: np.ndarray, name: str = "a.png") -> str:
    assert cv2.imwrite(str(folder / name), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    return str(folder / name)


def test_numbers_of_a_colour_image(tmp_path: Path) -> None:
    path = saved(tmp_path, SCENE)
    told = describe(path)
    assert list(told) == list(NOTHING)
    assert told["digest"] == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    sizes = [told[key] for key in ("height", "width", "depth", "channels", "bits", "mode", "format", "error")]
    assert sizes == [60, 90, 1, 3, 8, "colour", "PNG", ""]
    grey = (SCENE @ np.array([0.299, 0.587, 0.114])).mean() / 255  # ITU-R BT.601
    assert told["mean"] == pytest.approx(grey, abs=2e-3)
    assert told["std"] == pytest.approx(SCENE.std(axis=(0, 1)).mean() / 255, abs=1e-6)
    assert len(told["thumb"]) == THUMB * THUMB
    assert {min(told["thumb"]), max(told["thumb"])} == {0, 255}


def test_numbers_of_a_volume(tmp_path: Path) -> None:
    voxels = RNG.integers(0, 255, (2, 7, 20, 16), dtype=np.uint8)
    np.savez(tmp_path / "v.npz", scans=voxels)
    told = describe(f"{tmp_path / 'v.npz'}#scans/1")
    assert [told[key] for key in ("height", "width", "depth", "channels", "mode")] == [20, 16, 7, 1, "volume"]
    assert told["mean"] == pytest.approx(voxels[1].mean() / 255, abs=1e-6)
    assert (told["border"], told["circle"], told["text"]) == (0.0, False, 0)


def test_the_reason_names_no_file(tmp_path: Path) -> None:
    (tmp_path / "Jane_Doe.png").write_bytes(b"nothing of the kind")
    for path in (tmp_path / "Jane_Doe.png", tmp_path / "Jane_Roe.png"):
        told = describe(str(path))
        assert told["error"]
        assert "Jane" not in told["error"]
        assert {key: value for key, value in told.items() if key not in ("error", "mean", "std")} == {
            key: value for key, value in NOTHING.items() if key not in ("error", "mean", "std")
        }


def test_the_digest_is_of_the_bytes_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is exchanged while it is read: one reading serves for the hash and for the pixels."""
    from overread.images import image as module

    first = cv2.imencode(".png", SCENE)[1].tobytes()
    second = cv2.imencode(".png", 255 - SCENE)[1].tobytes()
    path = tmp_path / "a.png"
    path.write_bytes(first)
    whole = module.open if hasattr(module, "open") else open

    def exchanged(*arguments, **options):
        handle = whole(*arguments, **options)
        if str(arguments[0]) == str(path):
            beside = tmp_path / "b.png"
            beside.write_bytes(second)
            beside.replace(path)
        return handle

    monkeypatch.setattr(module, "open", exchanged, raising=False)
    told = describe(str(path))
    monkeypatch.undo()
    assert path.read_bytes() == second
    assert told["digest"] == hashlib.sha256(first).hexdigest()
    assert told["pixels"] == pixel_hash(np.ascontiguousarray(SCENE[..., ::-1]))


def test_borders_circles_and_text_are_told(tmp_path: Path) -> None:
    framed = np.zeros((200, 200, 3), np.uint8)
    framed[50:150, 20:180] = cv2.resize(SCENE, (160, 100))
    told = describe(saved(tmp_path, framed))
    assert told["border"] == pytest.approx(1 - 100 * 160 / 200**2, abs=0.03)
    assert not told["circle"]
    eye = np.zeros((400, 400, 3), np.uint8)
    cv2.circle(eye, (200, 200), 180, (200, 90, 60), -1)
    assert describe(saved(tmp_path, eye))["circle"]
    assert describe(saved(tmp_path, SCENE))["border"] == 0.0


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_writing_in_the_slices_of_a_volume_is_told(axis: int, tmp_path: Path) -> None:
    """As a device writes it into every slice of a series, whichever way the series runs."""
    import nibabel

    rows, columns, slices = 160, 240, 12
    ground = (40 + 100 * cv2.GaussianBlur(np.random.default_rng(2).random((rows, columns)), (0, 0), 8)).astype(np.uint8)
    written = ground.copy()
    cv2.putText(written, "DOE JANE 1950", (10, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2, cv2.LINE_AA)
    for name, plane, found in (("plain", ground, False), ("written", written, True)):
        # planes are looked at upright: axial rows run from anterior, others from superior, columns from the right
        voxels = np.moveaxis(np.repeat(plane[::-1, ::-1, None], slices, axis=2), 2, 0)  # (slice, row, column)
        stored = np.moveaxis(voxels, 0, axis).astype(np.float32)  # (k, j, i)
        nibabel.save(nibabel.Nifti1Image(stored.transpose(2, 1, 0), np.eye(4)), tmp_path / f"{name}.nii")
        assert (describe(str(tmp_path / f"{name}.nii"))["text"] > 0) is found


def test_flat_planes() -> None:
    volume = RNG.integers(0, 255, (4, 6, 5, 1), dtype=np.uint8)
    np.testing.assert_allclose(flat(volume), volume[..., 0].mean(axis=0), rtol=1e-6)
    grey = RNG.integers(0, 65535, (6, 5, 1), dtype=np.uint16)
    np.testing.assert_array_equal(flat(grey), grey[..., 0])


def test_grey_as_three_channels_is_grey() -> None:
    grey = SCENE[..., :1]
    assert pixel_hash(grey) == pixel_hash(np.repeat(grey, 3, axis=2)) != pixel_hash(SCENE)


def test_a_blank_image_has_a_blank_likeness(tmp_path: Path) -> None:
    assert describe(saved(tmp_path, np.full((40, 40), 7, np.uint8)))["thumb"] == bytes(THUMB * THUMB)


def test_the_perceptual_hash_by_the_sum_of_its_definition() -> None:
    """The signs of a cosine transform written out as a double sum."""
    small = cv2.resize(SCENE[..., 0].astype(np.float32), (THUMB, THUMB))
    k = np.arange(THUMB)
    basis = np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / (2 * THUMB))
    spectrum = basis @ small.astype(np.float64) @ basis.T
    order = sorted(((i, j) for i in range(THUMB) for j in range(THUMB) if i + j), key=lambda at: (sum(at), at[0]))
    bits = "".join("1" if spectrum[at] > 0 else "0" for at in order[:64])
    assert f"{perceptual_hash(small):064b}" == bits


def test_it_loads_without_the_heavy_ones() -> None:
    """Children start quickly: no pandas, no DICOM, no torch."""
    code = "import sys, overread.images.perceptual_hash; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pandas", "pydicom", "torch", "SimpleITK", "nibabel", "scipy", "sklearn"} & set(loaded)


def test_arguments() -> None:
    for function in (describe, flat, pixel_hash, perceptual_hash):
        with pytest.raises(ArgumentError):
            function(3)
