"""The audit of masks: each flaw planted in an otherwise sound table of images, and found with its number."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from overread.cases.audit.audit import Audit, audit
from overread.cases.audit.mask_checks import describe_masks
from overread.cases.sources.read_cases import read_cases
from overread.images.outlines.mask_description import contrast, describe_mask

SIZE = (80, 100)


def discs(seed: int) -> np.ndarray:
    """Nine discs in a grid, none touching, of radius 6 to 8."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    labels = np.zeros(SIZE, np.uint16)
    for place in range(9):
        centre = 14 + 26 * (place // 3) + random.integers(-2, 3), 16 + 33 * (place % 3) + random.integers(-3, 4)
        labels[(rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= random.integers(36, 64)] = place + 1
    return labels


def stained(labels: np.ndarray, seed: int) -> np.ndarray:
    """What a microscope would show of them: bright objects under noise."""
    noise = np.random.default_rng(1000 + seed).normal(60, 12, SIZE)
    return np.clip(noise + 90 * ndimage.gaussian_filter((labels > 0).astype(float), 1), 0, 255).astype(np.uint8)


@pytest.fixture
def cohort(tmp_path):
    """Thirty sound images; ``write(i, labels)`` changes the mask of one, ``look()`` audits."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()

    def write(i: int, labels: np.ndarray) -> None:
        cv2.imwrite(str(tmp_path / f"labels/c{i}.png"), labels)

    rows = [{"image": f"images/c{i}.png", "mask": f"labels/c{i}.png", "microscope": "AB"[i % 2], "patient": f"p{i}"} for i in range(30)]  # fmt: skip
    for i in range(30):
        write(i, discs(i))
        cv2.imwrite(str(tmp_path / f"images/c{i}.png"), stained(discs(i), i))

    def look(**changes) -> Audit:
        table = pd.DataFrame(rows)
        for i, mask in changes.pop("masks", {}).items():
            table.loc[i, "mask"] = mask
        table.to_csv(tmp_path / "index.csv", index=False)
        cases = read_cases(tmp_path / "index.csv", mask="mask", source="microscope", names="keep", **changes)
        return audit(cases, threads=1)

    return tmp_path, write, look


FLAWS = ("unreadable-mask", "mask-size", "conflicting-mask", "mask-copied", "mask-elsewhere", "interpolated-mask", "split-object",
         "hollow-object", "merged-objects", "overlaps", "specks", "empty-mask", "one-mask", "object-scale", "missing-mask")  # fmt: skip


def test_sound_masks_have_no_flaw_and_are_counted(cohort):
    found = cohort[2](pixel_size="0.5")
    assert not [kind for kind in FLAWS if found.of(kind)]
    every, held = found.counts["objects"]["all"], [discs(i) for i in range(30)]
    areas = np.concatenate([np.bincount(labels.ravel())[1:] for labels in held])
    assert (every["masks"], every["objects"]) == (30, 270)
    assert every["pixels"]["median"] == np.median(areas)
    assert every["square microns"]["median"] == pytest.approx(np.median(areas) / 4)
    assert every["objects an image"]["median"] == 9
    one = np.concatenate([np.bincount(labels.ravel())[1:] for labels in held[::2]])
    assert found.counts["objects"]["A"]["pixels"]["max"] == one.max()
    assert found.of("objects").count == 270
    assert "µm²" in found.of("objects").message
    assert found.of("few-patients") is None


def test_every_flaw_is_found_with_its_number(cohort, tmp_path):
    root, write, look = cohort
    labels = discs(0)
    write(0, np.where(labels == 9, 1, labels))  # one number, two pieces
    hollow = discs(1)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    middle = ndimage.center_of_mass(hollow == 5)
    hollow[(rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 <= 5] = 0
    write(1, hollow)
    merged = discs(2)
    merged[merged == 2] = 1
    box = ndimage.find_objects(merged)[0]
    merged[box[0].start + 6 : box[0].start + 9, box[1]] = 1  # a bridge between two
    write(2, merged)
    speck = discs(3)
    speck[0, :2] = 77
    write(3, speck)
    write(4, np.zeros(SIZE, np.uint16))
    write(5, discs(5)[:, :-1])
    (root / "labels/c6.png").write_bytes(b"x")
    write(7, discs(8))  # the mask of another image
    write(9, np.roll(np.flipud(discs(9)), 13, (0, 1)))
    small = discs(10).astype(np.float32) * 20
    write(10, cv2.resize(cv2.resize(small, (50, 40)), SIZE[::-1], interpolation=cv2.INTER_LINEAR).astype(np.uint16))
    write(11, (discs(11) > 0).astype(np.uint8) * 255)
    cv2.imwrite(str(root / "images/c12.png"), stained(discs(13), 13))  # a copy of an image, with its own mask
    moved = np.roll(discs(13), 1, 0)
    write(12, moved)
    found = look(masks={14: ""})
    counts = {kind: (found.of(kind).count, found.of(kind).cases) for kind in FLAWS if found.of(kind)}
    assert counts["split-object"][0] >= 1
    assert "c0" in counts["split-object"][1]
    assert counts["hollow-object"] == (1, ("c1",))
    assert "c2" in counts["merged-objects"][1]
    assert "c3" in counts["specks"][1]
    assert counts["empty-mask"] == (1, ("c4",))
    assert counts["mask-size"] == (1, ("c5",))
    assert found.of("mask-size").severity == "error"
    assert counts["unreadable-mask"] == (1, ("c6",))
    assert counts["mask-copied"] == (2, ("c7", "c8"))
    assert "c9" in counts["mask-elsewhere"][1]
    assert counts["interpolated-mask"] == (1, ("c10",))
    assert counts["one-mask"] == (1, ("c11",))
    assert counts["conflicting-mask"] == (1, ("c12", "c13"))
    assert counts["missing-mask"] == (1, ("c14",))
    assert {case: reason.partition(":")[0] for case, reason in found.excluded} == {
        "c5": "mask",
        "c6": "mask",
        "c14": "no mask",
    }
    found.save(tmp_path / "audit.json")
    assert Audit.load(tmp_path / "audit.json") == found


def test_shapes_that_overlap_are_counted_and_sources_of_two_scales_are_told(cohort):
    root, _, look = cohort
    lines = ["image,xmin,ymin,xmax,ymax"]
    for i in range(30):
        side = 10 if i % 2 else 22
        lines += [f"c{i}.png,{x},{y},{x + side},{y + side}" for x, y in ((5, 5), (40, 5), (60, 40))]
    lines += ["c0.png,20,5,42,27"]
    (root / "boxes.csv").write_text("\n".join(lines))
    found = look(masks={i: f"boxes.csv#image=c{i}.png" for i in range(30)})
    assert found.of("overlaps").cases == ("c0",)
    assert found.of("object-scale") is not None
    assert found.of("object-scale").severity == "note"


def test_contrast_is_twice_the_distance_of_the_auc_from_a_half():
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    inside = random.random((50, 60)) < 0.3
    pixels = np.stack([random.integers(0, 40, (50, 60)), random.integers(0, 40, (50, 60)) - 9 * inside + 10], -1).astype(np.uint8)  # fmt: skip
    expected = max(abs(2 * roc_auc_score(inside.ravel(), pixels[..., k].ravel()) - 1) for k in range(2))
    assert contrast(pixels, inside) == pytest.approx(expected)
    assert np.isnan(contrast(pixels, np.zeros((50, 60), bool)))


def test_touching_objects_and_those_at_the_border_are_counted(tmp_path):
    labels = np.zeros((40, 60), np.uint8)
    labels[0:10, 5:15], labels[20:30, 20:30], labels[20:30, 30:40], labels[10:14, 50:54] = 1, 2, 3, 4
    cv2.imwrite(str(tmp_path / "m.png"), labels)
    cv2.imwrite(str(tmp_path / "i.png"), labels * 50 + 3)
    found = describe_mask(str(tmp_path / "m.png"), str(tmp_path / "i.png"))
    assert (found["objects"], found["touching"], found["border"], found["pieces"], found["rims"]) == (4, 2, 1, 0, 0)
    assert np.frombuffer(found["areas"], np.int32).tolist() == [100, 100, 100, 16]


def test_a_second_audit_reads_only_masks_that_changed(cohort, tmp_path):
    root, write, look = cohort
    look()
    cases = read_cases(root / "index.csv", mask="mask", names="keep")
    readable, told = np.ones(len(cases), bool), []
    readable[3] = False

    def again() -> pd.DataFrame:
        told.clear()
        return describe_masks(
            cases, readable, threads=1, progress=lambda *what: told.append(what), cache=tmp_path / "cache"
        )

    first = again()
    assert len(told) == 29
    assert first["objects"].tolist() == [9, 9, 9, 0, *[9] * 26]
    pd.testing.assert_frame_equal(again(), first)
    assert not told
    write(5, np.zeros(SIZE, np.uint16))
    assert again()["objects"][5] == 0
    assert len(told) == 1
    (tmp_path / "cache" / "masks.parquet").write_bytes(b"x")
    assert again()["objects"].sum() == first["objects"].sum() - 9
    assert len(told) == 29
