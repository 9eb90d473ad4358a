"""DICOM series and films as volumes, held against SimpleITK and places worked out by hand."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, RTDoseStorage

from overread.core.errors import ImageError
from overread.images.dicom.header import DicomHeader
from overread.images.dicom.series import order
from overread.images.image import Limits
from overread.images.read import content_digest, read_image
from overread.images.volumes.stack import Slices, arrange
from overread.images.volumes.volume import geometry_of, read_volume

RNG = np.random.default_rng(7)
VOXELS = RNG.integers(0, 3000, (8, 10, 12)).astype(np.uint16)  # slices, rows, columns
AXIAL, CORONAL, OBLIQUE = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0.96, 0.28, 0, -0.28, 0.96, 0)


def dicom(pixels: np.ndarray, **tags: object) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = tags.pop("kind", CTImageStorage)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = pydicom.uid.generate_uid()
    made.SeriesInstanceUID, made.StudyInstanceUID, made.Modality = "1.2.3", "1.2", "CT"
    made.Rows, made.Columns = pixels.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
    made.RescaleSlope, made.RescaleIntercept = 1, -1024
    if pixels.ndim == 3:
        made.NumberOfFrames = len(pixels)
    made.PixelData = pixels.astype("<u2").tobytes()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def positions(count: int, orientation: tuple[float, ...], step: float = 2.5, first=(-90.0, -60.0, 30.0)) -> np.ndarray:
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(first) + np.arange(count)[:, None] * step * normal


def series(folder: Path, places: np.ndarray, orientation: tuple[float, ...], voxels: np.ndarray = VOXELS) -> Path:
    """A file a slice, under names that say nothing about the order."""
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(np.random.default_rng(1).permutation(len(places))):
        slice_ = dicom(voxels[number], ImagePositionPatient=places[number].tolist(), PixelSpacing=[0.8, 0.6],
                       ImageOrientationPatient=list(orientation), InstanceNumber=int(name) + 1)  # fmt: skip
        slice_.save_as(folder / f"{name:03d}.dcm", enforce_file_format=True)
    return folder / "000.dcm"


def agrees(volume, image: sitk.Image) -> None:
    """Every voxel of SimpleITK's image stands at the same place in the volume."""
    theirs = sitk.GetArrayFromImage(image)
    for k, j, i in np.ndindex(theirs.shape):
        x, y, z = image.TransformIndexToPhysicalPoint((i, j, k))
        at = np.linalg.solve(volume.affine, [-x, -y, z, 1])[:3]
        assert np.allclose(at, np.rint(at), atol=1e-2)
        assert volume.voxels[tuple(np.rint(at).astype(int)[::-1])] == theirs[k, j, i]


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, OBLIQUE])
@pytest.mark.parametrize("step", [2.5, -2.5])
def test_a_series_as_simpleitk_reads_it(orientation, step, tmp_path: Path) -> None:
    first = series(tmp_path, positions(8, orientation, step), orientation)
    volume = read_volume(f"{first}#series")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    agrees(volume, reader.Execute())
    assert volume.voxels.dtype == np.int16
    assert (np.diag(volume.affine)[:3] > 0).all()
    assert geometry_of(f"{first}#series") == (volume.voxels.shape, pytest.approx(volume.spacing))


def test_planes_of_a_series(tmp_path: Path) -> None:
    first = series(tmp_path, positions(8, AXIAL), AXIAL)
    image = read_image(f"{first}#series&plane=axial&at=2", window="-200/3000")
    values = VOXELS[2].astype(float) - 1024
    wanted = np.clip((values + 200 + 0.5) / 2999 + 0.5, 0, 1) * 65535  # PS3.3 C.11.2.1.2.1
    # 0.8 mm between rows, 0.6 mm between columns: square pixels of 0.6 mm
    assert image.pixels.shape == (13, 12, 1)
    assert image.format == "DICOM"
    coarse = read_image(f"{first}#series", window="-200/3000")
    assert coarse.mode == "volume"
    assert np.abs(coarse.pixels[2, ..., 0] - wanted).max() <= 1
    assert content_digest(f"{first}#series") == coarse.digest
    assert content_digest(f"{first}#series&plane=axial&at=2") == image.digest != coarse.digest


def test_a_missing_slice_is_filled_between_its_neighbours_and_told(tmp_path: Path) -> None:
    places = np.delete(positions(8, AXIAL), 3, axis=0)
    first = series(tmp_path, places, AXIAL, np.delete(VOXELS, 3, axis=0))
    volume = read_volume(f"{first}#series")
    assert volume.voxels.shape[0] == 8
    assert volume.spacing[0] == pytest.approx(2.5)
    between = (VOXELS[2].astype(float) + VOXELS[4]) / 2 - 1024
    assert np.allclose(volume.voxels[3, ::-1, ::-1], between)
    assert np.array_equal(volume.voxels[4, ::-1, ::-1], VOXELS[4].astype(np.float32) - 1024)
    assert any("gap" in note for note in volume.notes)
    assert any("2.5 mm" in note for note in volume.notes)
    assert geometry_of(f"{first}#series")[0] == volume.voxels.shape


def test_mixed_steps_are_brought_to_one() -> None:
    places = np.array([[0.0, 0.0, z] for z in (0, 1, 2, 3, 5, 7, 9)])
    made = arrange(Slices(7, places, AXIAL, (1.0, 1.0), 1.0))
    step = 9 / (len(made.at) - 1)
    assert made.affine[2, 2] == pytest.approx(step)
    heights = np.interp(made.at, np.arange(7), places[:, 2])
    assert np.allclose(heights, np.arange(len(made.at)) * step)
    assert any("uneven" in note for note in made.notes)


@pytest.mark.parametrize(
    ("steps", "uneven"),
    [((1, 1, 1, 1), False), ((1, 1.1, 1, 1.1), False), ((1, 1.16, 1), False), ((1,) * 6 + (1.09,) * 6, True),
     ((1, 1.4, 1, 1), True), ((1, 1, 2, 1), True)],
)  # fmt: skip
def test_the_order_of_a_series_and_its_volume_agree_on_what_is_uneven(steps, uneven: bool) -> None:
    heights = np.r_[0.0, np.cumsum(steps)]
    headers = [DicomHeader(position=(0.0, 0.0, z), orientation=AXIAL, rows=4, columns=4) for z in heights]
    made = arrange(Slices(len(heights), np.array([head.position for head in headers]), AXIAL, (1.0, 1.0), 1.0))
    off = np.abs(heights - np.linspace(0, heights[-1], len(heights))).max()  # how far from an even grid
    assert bool(order(headers).problems) == any("uneven" in note for note in made.notes) == uneven
    assert uneven == (off > 0.1 * np.median(steps))


def test_slices_that_stand_twice_are_kept_once() -> None:
    places = np.array([[0.0, 0.0, z] for z in (2, 0, 1, 1, 0, 2)])
    made = arrange(Slices(6, places, AXIAL, (1.0, 1.0), 1.0))
    assert made.kept.tolist() == [1, 2, 0]
    assert "3 slices" in made.notes[0]


def test_without_positions_slices_stay_as_they_come() -> None:
    made = arrange(Slices(3, None, None, None, float("nan")))
    assert made.kept.tolist() == [0, 1, 2]
    assert np.allclose(made.affine, np.diag([-1, -1, 1, 1]))
    assert any("1 mm assumed" in note for note in made.notes)


def test_a_slice_far_away_is_refused() -> None:
    places = np.array([[0.0, 0.0, z] for z in (0, 1, 2, 1e7)])
    with pytest.raises(ImageError, match="too far apart"):
        arrange(Slices(4, places, AXIAL, (1.0, 1.0), 1.0))


def test_a_tilted_gantry_keeps_its_shear(tmp_path: Path) -> None:
    places = positions(8, AXIAL) + np.arange(8)[:, None] * [0.0, 0.7, 0.0]
    volume = read_volume(f"{series(tmp_path, places, AXIAL)}#series")
    top = volume.affine @ [0, 0, 7, 1] - volume.affine @ [0, 0, 0, 1]
    assert np.allclose(top[:3], [0, -7 * 0.7, 7 * 2.5], atol=1e-6)
    assert any("tilt" in note for note in volume.notes)


def test_a_series_within_an_archive(tmp_path: Path) -> None:
    first = series(tmp_path / "ct", positions(8, AXIAL), AXIAL)
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in (tmp_path / "ct").iterdir():
            archive.write(path, f"ct/{path.name}")
    address = f"{tmp_path}/study.zip#entry=ct/000.dcm&series"
    volume = read_volume(address)
    assert np.array_equal(volume.voxels, read_volume(f"{first}#series").voxels)
    assert geometry_of(address)[0] == volume.voxels.shape


def enhanced(places: np.ndarray, orientation: tuple[float, ...], voxels: np.ndarray) -> Dataset:
    film = dicom(voxels, kind=EnhancedCTImageStorage)
    measures, plane = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.8, 0.6], 2.5
    plane.ImageOrientationPatient = list(orientation)
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([plane])
    film.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for place in places:
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = place.tolist()
        frame.PlanePositionSequence = Sequence([position])
        frames.append(frame)
    film.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return film


def test_an_enhanced_film_in_any_order_of_frames(tmp_path: Path) -> None:
    places, order = positions(8, OBLIQUE), np.random.default_rng(2).permutation(8)
    wanted = read_volume(f"{series(tmp_path / 'ct', places, OBLIQUE)}#series")
    enhanced(places[order], OBLIQUE, VOXELS[order]).save_as(tmp_path / "film.dcm", enforce_file_format=True)
    film = read_volume(tmp_path / "film.dcm")
    assert np.array_equal(film.voxels, wanted.voxels)
    assert np.allclose(film.affine, wanted.affine, atol=1e-4)
    assert geometry_of(tmp_path / "film.dcm") == (film.voxels.shape, pytest.approx(film.spacing))
    assert read_image(f"{tmp_path}/film.dcm#plane=coronal").format == "DICOM"


def test_a_dose_grid_by_its_offsets(tmp_path: Path) -> None:
    dose = dicom(VOXELS, kind=RTDoseStorage, GridFrameOffsetVector=[0.0, 3, 6, 9, 12, 15, 18, 21], PixelSpacing=[2.0, 2.0],
                 ImagePositionPatient=[0.0, 0.0, 100.0], ImageOrientationPatient=list(AXIAL))  # fmt: skip
    dose.save_as(tmp_path / "dose.dcm", enforce_file_format=True)
    volume = read_volume(tmp_path / "dose.dcm")
    assert volume.spacing == pytest.approx((3, 2, 2))
    assert volume.affine[2, 3] == 100


def test_limits_hold_for_the_whole_series(tmp_path: Path) -> None:
    first = series(tmp_path, positions(8, AXIAL), AXIAL)
    for action in (read_volume, geometry_of):
        with pytest.raises(ImageError, match="larger than the limit"):
            action(f"{first}#series", limits=Limits(pixels=500))


def test_colour_makes_no_volume(tmp_path: Path) -> None:
    colour = dicom(
        VOXELS[0], SamplesPerPixel=3, PhotometricInterpretation="RGB", BitsAllocated=8, BitsStored=8, HighBit=7
    )
    colour.PlanarConfiguration, colour.PixelData = 0, bytes(10 * 12 * 3)
    colour.save_as(tmp_path / "c.dcm", enforce_file_format=True)
    with pytest.raises(ImageError, match="colour"):
        read_volume(f"{tmp_path}/c.dcm#series")
