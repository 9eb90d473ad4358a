"""Phantom slides: what is planted is in the pixels, tiles fit each other, and nothing but tumour tells the label."""

from __future__ import annotations

import hashlib
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from sklearn.metrics import roc_auc_score

from overread.core.errors import ArgumentError
from overread.synthetic.draw import draw
from overread.synthetic.slides.slide_cohort import draw_slides
from overread.synthetic.slides.slide_pixels import draw_tile
from overread.synthetic.slides.slide_plan import ISLANDS, Blob, Region, SlidePlan, plan_slide
from overread.synthetic.slides.slide_scanners import SCANNERS, nuclei_stamps


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.relative_to(folder).as_posix().encode() + path.read_bytes() for path in files)).hexdigest()  # fmt: skip


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> Path:
    return draw(tmp_path_factory.mktemp("slides"), "slides", {"slides": 6, "patients": 6, "side": 900.0, "islands": ["detail", "plain"]}, seed=2)  # fmt: skip


def tissue_of(kind: str, *, seed: int = 0) -> SlidePlan:
    """A slide that is all of one region."""
    far = Blob(500.0, 500.0, 4000.0)
    return SlidePlan(seed, 0, 1000.0, 1000.0, (far,), (Region(far, kind),) if kind else ())


def square(plan: SlidePlan, *, mpp: float = 0.5, tile: int = 256, scanner: int = 0) -> np.ndarray:
    return np.vstack([np.hstack([draw_tile(plan, SCANNERS[scanner], r, c, mpp=mpp, tile=tile) for c in (1, 2, 3)]) for r in (1, 2, 3)])  # fmt: skip


def test_the_same_seed_gives_the_same_bytes(tmp_path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        draw_slides(tmp_path / name, slides=4, patients=4, side=420.0, mpp=1.0, seed=seed)
    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")
    for wrong in ({"patients": 3}, {"scanners": 4}, {"islands": ("odd",)}, {"side": 100.0}, {"shortcut": 2.0}):
        with pytest.raises(ArgumentError):
            draw_slides(tmp_path / "d", **({"slides": 4, "patients": 4} | wrong))


def test_tiles_fit_and_a_tile_drawn_alone_is_the_same() -> None:
    plan = plan_slide(3, 1, width=900.0, height=700.0, tumour="yes", tissue_share=0.6)
    for scanner, mpp in ((0, 0.5), (1, 0.45)):
        whole = draw_tile(plan, SCANNERS[scanner], 0, 0, mpp=mpp, tile=1536).astype(int)
        for row, column in ((0, 0), (2, 2), (3, 5), (1, 3)):
            part = draw_tile(plan, SCANNERS[scanner], row, column, mpp=mpp)
            there = whole[256 * row : 256 * (row + 1), 256 * column : 256 * (column + 1)]
            assert np.abs(part.astype(int) - there).max() <= 1, (scanner, row, column)


def test_bare_glass_is_one_array() -> None:
    plan = plan_slide(3, 1, width=9000.0, height=9000.0, tissue_share=0.05, artefacts=False)
    tiles = [draw_tile(plan, SCANNERS[0], 0, column, mpp=0.5) for column in (0, 1)]
    assert tiles[0] is tiles[1]
    assert (tiles[0] == np.array(SCANNERS[0].glass, np.uint8)).all()


def energy(pixels: np.ndarray, microns: float, mpp: float = 0.5) -> float:
    """Variance of detail near ``microns``, within the dark half of the nuclei."""
    grey = pixels[..., 1].astype(np.float32)
    band = cv2.GaussianBlur(grey, (0, 0), microns / mpp / 4) - cv2.GaussianBlur(grey, (0, 0), microns / mpp / 2)
    inner = cv2.erode((grey < 150).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    return float(band[inner].var())


@pytest.mark.parametrize("scanner", [0, 1, 2])
def test_coarse_chromatin_is_seen_in_detail_alone(scanner) -> None:
    fine, coarse = (square(tissue_of(kind), scanner=scanner) for kind in ("", "detail"))
    assert energy(coarse, 1.2) > 4 * energy(fine, 1.2)
    eight = [cv2.resize(pixels, (96, 96), interpolation=cv2.INTER_AREA).astype(float) for pixels in (fine, coarse)]
    assert abs(eight[0].mean(axis=(0, 1)) - eight[1].mean(axis=(0, 1))).max() < 0.4  # of 255
    assert abs(eight[0].std(axis=(0, 1)) - eight[1].std(axis=(0, 1))).max() < 0.5


def test_grains_take_no_light() -> None:
    dye, grain = nuclei_stamps(0.5)
    assert np.abs(grain.mean(axis=(2, 3))).max() < 1e-4
    assert grain[0].std() > 0.15
    assert (dye[1].sum(axis=(1, 2)) > 1.3 * dye[0].sum(axis=(1, 2))).all()


def test_rings_and_cords_are_locally_alike() -> None:
    """In squares of 32 µm the amount of nuclei is spread alike; over 300 µm only rings look the same in all directions."""
    dark = {kind: (square(tissue_of(kind), tile=640)[..., 1] < 150).astype(np.float32) for kind in ("context", "ducts")}
    local = {kind: np.sort(cv2.resize(d, (30, 30), interpolation=cv2.INTER_AREA).ravel()) for kind, d in dark.items()}
    assert np.abs(local["context"] - local["ducts"]).mean() < 0.06
    lean = {}
    for kind, d in dark.items():
        gy, gx = np.gradient(cv2.GaussianBlur(cv2.resize(d, (240, 240), interpolation=cv2.INTER_AREA), (0, 0), 5))
        xx, yy, xy = (float((a * b).mean()) for a, b in ((gx, gx), (gy, gy), (gx, gy)))
        lean[kind] = np.hypot(xx - yy, 2 * xy) / (xx + yy)
    assert lean["ducts"] > 0.5 > 0.25 > lean["context"]


def test_small_fields_of_rings_are_those_of_normal_tissue() -> None:
    """In squares of 32 µm, those of rings are seldom sparser or more crowded than normal tissue is here and there."""
    covered = {}
    for kind in ("context", ""):
        dark = (square(tissue_of(kind, seed=4), tile=640)[..., 1] < 150).astype(np.float32)
        covered[kind] = cv2.resize(dark, (30, 30), interpolation=cv2.INTER_AREA).ravel()
    low, high = np.quantile(covered[""], [0.05, 0.95])
    assert (covered["context"] < low).mean() < 0.2
    assert (covered["context"] > high).mean() < 0.2
    even = roc_auc_score(np.repeat([0, 1], 900), np.r_[covered[""], covered["context"]])
    assert 0.4 < even < 0.65


def test_outlines_hold_the_islands(cohort) -> None:
    table, islands = pd.read_csv(cohort), pd.read_csv(cohort.parent / "islands.csv")
    assert set(islands["kind"]) <= {"detail", "plain"}
    assert (islands["longest"] < 200).eq(islands["isolated"] == "yes").all()
    for row in table.itertuples():
        assert (row.tumour == "yes") == isinstance(row.outlines, str) == (row.slide in set(islands["slide"]))
        if row.tumour == "no":
            continue
        with tifffile.TiffFile(cohort.parent / row.slide) as file:
            mpp = 1e4 / file.pages[0].resolution[0]
            assert mpp == pytest.approx(0.5 if row.scanner == "north" else 0.45, rel=1e-3)
            assert file.pages[0].shape[0] == pytest.approx(900 / mpp, abs=1)
            grey = file.pages[0].asarray()[..., 1]
        shapes = ElementTree.parse(cohort.parent / row.outlines).getroot().findall("./Annotations/Annotation")
        own = islands[islands["slide"] == row.slide]
        assert len(shapes) == len(own)
        for shape, island in zip(shapes, own.itertuples(), strict=True):
            xy = np.array([(float(c.get("X")), float(c.get("Y"))) for c in shape.iter("Coordinate")])
            assert np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1)).max() * mpp == pytest.approx(
                island.longest, abs=0.2
            )
            assert cv2.pointPolygonTest(xy.astype(np.float32), (island.x / mpp, island.y / mpp), False) > 0
            if island.kind == "plain" and island.longest > 150:  # more nuclei than around it
                inside = np.zeros(grey.shape, np.uint8)
                cv2.fillPoly(inside, [np.rint(xy).astype(np.int32)], 1)
                around = (cv2.dilate(inside, np.ones((121, 121), np.uint8)) - inside) * (grey < 225)
                assert (grey[inside > 0] < 150).mean() > 1.5 * (grey[around > 0] < 150).mean()


def test_the_scanner_tells_nothing_unless_asked(tmp_path) -> None:
    how = {"slides": 8, "patients": 8, "side": 400.0, "mpp": 1.0, "isolated": 0.0}
    fair, lured = (pd.read_csv(draw_slides(tmp_path / str(s), shortcut=s, **how)) for s in (0.0, 1.0))
    assert pd.crosstab(fair["scanner"], fair["tumour"]).to_numpy().tolist() == [[2, 2], [2, 2]]
    assert (lured["scanner"] == "north").eq(lured["tumour"] == "yes").all()


def test_a_slide_of_isolated_cells_says_so(tmp_path) -> None:
    table = pd.read_csv(draw_slides(tmp_path, slides=6, patients=6, side=600.0, mpp=1.0, isolated=1.0))
    assert (table["isolated"] == table["tumour"]).all()
    assert (pd.read_csv(tmp_path / "islands.csv")["longest"] < 200).all()


def test_lookalikes_and_artefacts_know_nothing_of_the_tumour() -> None:
    plans = {t: [plan_slide(9, key, width=2000.0, height=2000.0, tumour=t) for key in range(40)] for t in ("no", "yes")}
    for trait in (lambda p: len(p.fat), lambda p: len(p.pen), lambda p: len(p.bubbles), lambda p: p.coverslip, lambda p: len(p.tissue), lambda p: len(p.regions) - len(p.islands),
                  lambda p: sum(region.longest for region in p.regions if not region.tumour)):  # fmt: skip
        both = [[trait(plan) for plan in plans[t]] for t in ("no", "yes")]
        assert abs(roc_auc_score([0] * 40 + [1] * 40, both[0] + both[1]) - 0.5) < 0.16
    kinds = [{region.kind for region in plan.regions} for plan in plans["no"]]
    assert np.mean([kind == {"ducts", "reactive", "follicle"} for kind in kinds]) > 0.9
    sizes = [region.longest for plan in plans["yes"] for region in plan.islands]
    assert min(sizes) < 30
    assert np.mean([bool(plan.islands) for plan in plans["yes"]]) == 1
    assert {region.kind for plan in plans["yes"] for region in plan.islands} == set(ISLANDS)
    large = plan_slide(9, 0, width=20_000.0, height=20_000.0, tumour="yes")
    assert max(region.longest for region in large.islands) > 600
