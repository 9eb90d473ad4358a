"""Names in pixels: what is said by the file, what is drawn, what is hidden in bits; and what is only a picture."""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from overread.deidentify.clean import at_risk, burned_in, may_show_a_face
from overread.images.image import LIMITS

ULTRASOUND, CT, CAPTURE = ("1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7")


def speckle(height: int, width: int) -> np.ndarray:
    """A sector of ultrasound-like texture on black."""
    rows, columns = np.mgrid[:height, :width]
    noise = cv2.GaussianBlur(np.random.default_rng(0).random((height, width)), (0, 0), 6)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    sector = (np.hypot(rows + 0.1 * height, columns - width / 2) < height * 0.95) & (
        abs(columns - width / 2) < rows * 0.6 + 8
    )
    return np.where(sector, 30 + 150 * noise, 0).astype(np.uint8)


def written(picture: np.ndarray, scale: float = 0.5, level: int = 255) -> np.ndarray:
    out = picture.copy()
    cv2.putText(out, "KANARIENVOGEL ANNA", (10, 26), cv2.FONT_HERSHEY_SIMPLEX, scale, level, 1, cv2.LINE_AA)
    return out


def image(pixels: np.ndarray, modality: str = "US", kind: str = ULTRASOUND, **changes: object) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID, made.Modality = kind, "1.2.3", modality
    made.Rows, made.Columns = pixels.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit = made.BitsStored - 1
    if pixels.ndim == 3:
        made.NumberOfFrames = len(pixels)
    made.PixelData = pixels.tobytes() + bytes(pixels.nbytes % 2)
    made["PixelData"].VR = "OW"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return made


def judged(made: Dataset) -> str:
    data = BytesIO()
    pydicom.dcmwrite(data, made, enforce_file_format=True)
    return burned_in(pydicom.dcmread(BytesIO(data.getvalue())), data.getvalue(), LIMITS)


@pytest.mark.parametrize("shape", [(240, 320), (480, 640), (768, 1024)])
def test_text_in_ultrasound_is_found_and_a_picture_is_none(shape):
    picture = speckle(*shape)
    assert judged(image(picture)) == ""
    assert "text is found" in judged(image(written(picture)))
    assert "text is found" in judged(image(written(picture, level=90)))


def test_small_letters_of_small_images_are_found():
    assert "text is found" in judged(image(written(speckle(240, 320), 0.3)))


def test_text_on_one_frame_of_a_film_is_found():
    frames = np.stack([speckle(240, 320)] * 5)
    assert judged(image(frames)) == ""
    frames[3] = written(frames[3])
    assert "text is found" in judged(image(frames))


def test_what_the_file_says_of_itself():
    picture = speckle(240, 320)
    assert "says so" in judged(image(picture, "CT", CT, BurnedInAnnotation="YES"))
    assert "text is found" in judged(image(written(picture), BurnedInAnnotation="NO")), (
        "text is there whatever the file says"
    )
    assert "label" in judged(image(picture, "SM", ImageType=["ORIGINAL", "PRIMARY", "LABEL", "NONE"]))


@pytest.mark.parametrize("modality", ["CT", "MR", "PT", "MG", "DX"])
def test_other_kinds_are_searched_as_they_are(modality):
    assert "text" in judged(image(written(speckle(480, 640)), modality, CT))
    assert judged(image(speckle(480, 640), modality, CT)) == ""
    assert judged(image(speckle(24, 24), modality, CT)) == ""


def test_values_that_are_no_picture_are_not_searched():
    assert judged(image(written(speckle(480, 640)), "SEG", CT)) == ""


@pytest.mark.parametrize(
    ("changes", "risk"),
    [
        ({"Modality": "CT", "SOPClassUID": CT}, False),
        ({"Modality": "CT", "SOPClassUID": CT, "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, True),
        ({"Modality": "CT", "SOPClassUID": CAPTURE}, True),
        ({"Modality": "CT", "SOPClassUID": CT, "ConversionType": "WSD"}, True),
        ({"Modality": "MG", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2"}, False),
        ({"Modality": "XA", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.12.1"}, True),
        ({"Modality": "", "SOPClassUID": CT}, True),
        ({"Modality": "US", "SOPClassUID": ULTRASOUND}, True),
        ({"Modality": "XC", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.4"}, True),
    ],
)
def test_kinds_at_risk(changes, risk):
    made = image(speckle(16, 16), **changes)
    assert at_risk(made, {str(t) for t in made.get("ImageType", [])}) is risk


def test_pixels_at_risk_that_cannot_be_decoded_count():
    made = image(speckle(64, 64))
    made.PhotometricInterpretation = "YBR_PARTIAL_420"
    assert "cannot be searched" in judged(made)


# -- bits beside the pixels ---------------------------------------------------------------------------------------


def twelve_bits(values: np.ndarray, **changes: object) -> Dataset:
    made = image(values.astype(np.uint16), "CT", CT)
    made.BitsStored, made.HighBit = 12, 11
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return made


def test_an_overlay_in_the_unused_bits_is_found():
    picture = speckle(64, 64).astype(np.uint16) * 16
    assert judged(twelve_bits(picture)) == ""
    overlay = (written(np.zeros((64, 64), np.uint8), 0.4) > 128).astype(np.uint16) << 14
    assert "bits beside" in judged(twelve_bits(picture | overlay))
    assert "bits beside" in judged(twelve_bits(picture << 1 | 1, HighBit=12))
    declared = twelve_bits(picture)
    declared.add_new(0x60000102, "US", 12)  # Overlay Bit Position, and no Overlay Data
    assert "bits beside" in judged(declared)


def test_signs_and_padding_are_no_overlay():
    values = speckle(64, 64).astype(np.int16) - 100
    assert judged(twelve_bits(values.view(np.uint16), PixelRepresentation=1)) == ""
    padded = speckle(64, 64).astype(np.uint16)
    padded[:4] = 63536
    made = twelve_bits(padded)
    made.PixelPaddingValue = 63536
    made["PixelPaddingValue"].VR = "US"
    assert judged(made) == ""


@pytest.mark.parametrize(
    ("modality", "part", "face"),
    [
        ("CT", "HEAD", True),
        ("MR", "BRAIN", True),
        ("CT", "", True),
        ("CT", "CHEST", False),
        ("CR", "SKULL", False),
        ("PT", "HEADNECK", True),
    ],
)
def test_faces(modality, part, face):
    made = Dataset()
    made.Modality, made.BodyPartExamined = modality, part
    assert may_show_a_face(made) is face
