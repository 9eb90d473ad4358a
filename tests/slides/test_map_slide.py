"""Heat maps of slides against a slow reading of every tile alone; what cannot be read; what a killed process leaves."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from overread.core.errors import ImageError, InputError
from overread.images.preprocess import load, normalise
from overread.images.slides.slide import open_slide, read_tile
from overread.images.slides.tile_settings import Tiles
from overread.learning.device import to_tensor
from overread.learning.predict import answers, load_model
from overread.slides import map_grid
from overread.slides.heat_map import HeatMap
from overread.slides.map_grid import blocks_of, grid_of, looked_at, read_block
from overread.slides.map_slide import map_job, map_slide

from .conftest import Redness, tissue_of


def restated(model, slide, tissue):
    """The probabilities of a map: each tile read alone by :func:`read_tile`, the network asked of one place at a time."""
    import torch

    tiles, about = model.about.recipe.tiles, model.about
    rows, columns = (math.ceil(side / (tiles.stride * tiles.mpp[0])) for side in reversed(slide.size))
    found = np.full((rows, columns), np.nan)
    for row in range(rows):
        for column in range(columns):
            x, y = ((place + 0.5) * tiles.stride * tiles.mpp[0] for place in (column, row))
            if float(tissue.covered(np.array([x]), np.array([y]), tiles.centre * tiles.mpp[0])[0]) < tiles.least_tissue:
                continue
            images = np.stack(
                [normalise(read_tile(slide, x, y, tiles.size, mpp)[None], about.preprocess)[0] for mpp in tiles.mpp]
            )
            said = []
            for turn in range(max(1, about.recipe.views)):
                seen = images[:, :, ::-1] if turn & 1 else images
                seen = seen[:, ::-1] if turn & 2 else seen
                seen = seen.transpose(0, 2, 1, 3) if turn & 4 else seen
                x_in = torch.from_numpy(np.ascontiguousarray(np.moveaxis(seen, -1, 1)))
                with torch.inference_mode():
                    said.append(model.network(x_in[None] if about.recipe.fusion != "single" else x_in)[0].numpy())
            outputs = np.mean(said, axis=0)
            found[row, column] = 1 / (1 + np.exp(outputs[0] - outputs[1]))
    return found


@pytest.mark.parametrize(("tiles", "views", "mpp"), [
    (Tiles(size=32, centre=16, stride=16, mpp=(1.0,), bits=16), 1, 1.0),
    (Tiles(size=28, centre=12, stride=20, mpp=(0.5, 1.0, 2.0), bits=16), 8, 0.5),
    (Tiles(size=32, centre=16, stride=32, mpp=(1.0, 4.0), bits=8), 2, 1.009),
])  # fmt: skip
def test_a_map_says_of_each_place_what_the_network_says_of_its_tiles(
    tiles, views, mpp, slide_model, make_slide, tmp_path
):
    model = slide_model(tiles=tiles, views=views)
    slide = open_slide(make_slide(160, 208, mpp=mpp))
    tissue = tissue_of(slide)
    found = map_slide(model, slide, tmp_path / "map.tif", tissue=tissue)
    expected = restated(model, slide, tissue)
    values = found.values()
    assert values.shape == expected.shape == found.shape
    assert np.array_equal(np.isnan(values), np.isnan(expected))
    assert 10 < found.about.looked == int((~np.isnan(expected)).sum()) < expected.size
    assert np.nanmax(np.abs(values - expected)) <= 0.5 / (2**tiles.bits - 2) + 1e-5
    assert np.nanstd(expected) > 0.001  # a network that says the same of everything would prove nothing


@pytest.mark.parametrize("mpp", [1.0, 0.993, 0.7, 2.0, 3.7])
def test_tiles_cut_from_a_region_are_those_that_are_read_alone(mpp, make_slide):
    tiles = Tiles(size=32, centre=16, stride=24, mpp=(mpp,))
    slide = open_slide(make_slide(400, 500))
    tissue = tissue_of(slide)
    grid = grid_of(slide, tiles)
    block = blocks_of(grid, looked_at(grid, tissue, tiles, 0), 0)[0]
    pixels = read_block(slide, grid, tiles, block)
    assert pixels.regions
    some = np.arange(0, len(block), 3)
    away = []
    for place, tile in zip(some, pixels.tiles(some)[:, 0], strict=True):
        alone = read_tile(slide, *((each[place] + 0.5) * grid.cell for each in (block.columns, block.rows)), 32, mpp)
        away.append(np.abs(tile.astype(int) - alone).mean())
    # as it is, or made from whole pixels: the same; otherwise moved by less than a pixel of the level
    assert max(away) == 0 if mpp in (1.0, 0.993, 2.0) else max(away) < 12


def test_where_a_region_cannot_be_read_its_tiles_are_not_all_held(make_slide, monkeypatch):
    tiles = Tiles(size=32, centre=16, stride=8, mpp=(1.0, 2.0))
    slide = open_slide(make_slide(400, 500))
    grid = grid_of(slide, tiles)
    block = blocks_of(grid, looked_at(grid, tissue_of(slide), tiles, 0), 0)[0]
    whole, read = read_block(slide, grid, tiles, block), map_grid.read_region

    def torn(slide, x, y, width, height, mpp):
        if width > 32 or (x < 100 and mpp == 2.0):
            raise ImageError("a part of the slide cannot be read")
        return read(slide, x, y, width, height, mpp)

    monkeypatch.setattr(map_grid, "read_region", torn)
    found = read_block(slide, grid, tiles, block)
    assert not found.alone
    assert not found.regions
    assert "cannot be read" in found.reason
    assert 0 < found.read.sum() < len(block)
    assert np.array_equal(found.read, grid.centre(block.columns) - 32 >= 100)
    some = np.flatnonzero(found.read)[::7]
    assert np.array_equal(found.tiles(some), whole.tiles(some))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("workers", [1, 2])
def test_the_bytes_of_a_map_do_not_depend_on_how_many_work(
    threads, workers, slide_model, make_slide, tmp_path, monkeypatch
):
    monkeypatch.setattr("overread.slides.map_grid.REGION", 60)  # several rows of blocks
    model = slide_model(tiles=Tiles(size=28, centre=12, stride=16, mpp=(0.5, 1.0), bits=16), views=4)
    slide = open_slide(make_slide(160, 208, mpp=0.5))
    one = map_slide(model, slide, tmp_path / "one.tif", tissue=tissue_of(slide), threads=1, workers=1)
    other = map_slide(model, slide, tmp_path / "other.tif", tissue=tissue_of(slide), threads=threads, workers=workers)
    assert one.path.read_bytes() == other.path.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.tif", "other.tif"]


class Stop(Exception):
    """What ends a map in the middle."""


def test_a_map_that_was_stopped_goes_on_where_it_was(slide_model, make_slide, tmp_path, monkeypatch):
    monkeypatch.setattr("overread.slides.map_grid.REGION", 60)
    model, slide = (
        slide_model(tiles=Tiles(size=32, centre=16, stride=16, mpp=(1.0,), bits=16)),
        open_slide(make_slide(160, 208)),
    )
    tissue, asked = tissue_of(slide), []
    whole = map_slide(model, slide, tmp_path / "whole.tif", tissue=tissue)

    def stop(what, done, total):
        if done > total / 2:
            raise Stop

    path, part = tmp_path / "map.tif", tmp_path / "map.tif.part"
    with pytest.raises(Stop):
        map_slide(model, slide, path, tissue=tissue, threads=1, workers=1, progress=stop)
    assert not path.exists()
    with open(part / "journal.txt", "ab") as file:
        file.write(b"torn")
    codes = bytearray((part / "codes.bin").read_bytes())
    codes[2 * 13 * 4 + 2 * 6] ^= 1  # what a power cut did to the second row of blocks
    (part / "codes.bin").write_bytes(codes)
    monkeypatch.setattr(
        "overread.slides.map_slide.read_block", lambda *given: asked.append(len(given[3])) or read_block(*given)
    )
    said = []
    found = map_slide(model, slide, path, tissue=tissue, say=said.append)
    assert path.read_bytes() == whole.path.read_bytes()
    assert 0 < sum(asked) < found.about.looked
    assert "of the heat map" in said[0]
    assert not part.exists()


def test_what_was_kept_of_another_map_is_not_gone_on_with(slide_model, make_slide, tmp_path, monkeypatch):
    monkeypatch.setattr("overread.slides.map_grid.REGION", 60)
    slide = open_slide(make_slide(160, 208))
    tissue, path = tissue_of(slide), tmp_path / "map.tif"

    def stop(what, done, total):
        if done > total / 2:
            raise Stop

    with pytest.raises(Stop):
        map_slide(slide_model(Redness()), slide, path, tissue=tissue, progress=stop)
    other = slide_model(seed=3)
    found = map_slide(other, slide, path, tissue=tissue)
    assert found == replace(map_slide(other, slide, tmp_path / "alone.tif", tissue=tissue), path=path)
    assert path.read_bytes() == (tmp_path / "alone.tif").read_bytes()


_MAPS = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
import torch
from pathlib import Path
from overread.images.slides.slide import open_slide
from overread.images.slides.tissue import Tissue
from overread.learning.predict import load_model
from overread.slides import map_grid
from overread.slides.map_slide import map_slide
from tests.slides.conftest import tissue_of
map_grid.REGION = 60
slide = open_slide(sys.argv[3])
path, slow, most = Path(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6])
journal = path.with_name(path.name + ".part") / "journal.txt"

def progress(*given):
    time.sleep(slow)
    if most and journal.read_bytes().count(b"\\n") >= most:
        os.kill(os.getpid(), signal.SIGKILL)

map_slide(load_model(sys.argv[2]), slide, path, tissue=tissue_of(slide), workers=2, progress=progress)
"""


def process_of(model: Path, slide: Path, path: Path, *, slow: float = 0, most: int = 0) -> subprocess.Popen:
    """A process that makes a map, ``slow`` seconds a block; it kills itself after ``most`` rows of blocks."""
    words = [str(each) for each in (Path(__file__).parents[2], model, slide, path, slow, most)]
    return subprocess.Popen([sys.executable, "-c", _MAPS, *words])


def test_a_killed_process_leaves_what_any_number_of_workers_goes_on_with(
    slide_model, make_slide, tmp_path, monkeypatch
):
    """As ``kill -9`` in the middle: the bytes are those of a map that was never stopped."""
    monkeypatch.setattr("overread.slides.map_grid.REGION", 60)
    model = slide_model(tiles=Tiles(size=32, centre=16, stride=16, mpp=(1.0, 2.0), bits=16), views=2)
    folder, file = model.save(tmp_path / "model"), make_slide(160, 208)
    assert process_of(folder, file, tmp_path / "one.tif", most=2).wait(60) == -signal.SIGKILL
    assert not (tmp_path / "one.tif").exists()
    shutil.copytree(tmp_path / "one.tif.part", tmp_path / "two.tif.part")
    model, slide = load_model(folder), open_slide(file)
    whole = map_slide(model, slide, tmp_path / "whole.tif", tissue=tissue_of(slide)).path.read_bytes()
    for name, workers in (("one", 1), ("two", 2)):
        said = list[str]()
        made = map_slide(
            model, slide, tmp_path / f"{name}.tif", tissue=tissue_of(slide), workers=workers, say=said.append
        )
        assert said[0].startswith("  2 of ")  # rows that are there already
        assert made.path.read_bytes() == whole


@pytest.mark.slow
def test_processes_that_are_killed_at_any_time_leave_what_another_goes_on_with(slide_model, make_slide, tmp_path):
    model = slide_model(tiles=Tiles(size=32, centre=16, stride=16, mpp=(1.0, 2.0), bits=16), views=2)
    folder, file = model.save(tmp_path / "model"), make_slide(240, 320)
    assert process_of(folder, file, tmp_path / "whole.tif").wait(120) == 0
    killed, deaths = tmp_path / "killed.tif", 0
    for lines in (2, 5):
        process = process_of(folder, file, killed, slow=0.1)
        journal = killed.with_name("killed.tif.part") / "journal.txt"
        while process.poll() is None:
            if journal.exists() and journal.read_bytes().count(b"\n") >= lines:
                process.send_signal(signal.SIGKILL)
                deaths += 1
                break
            time.sleep(0.02)
        process.wait(60)
    assert deaths == 2
    assert not killed.exists()
    assert process_of(folder, file, killed).wait(120) == 0
    assert killed.read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_a_map_that_is_there_is_kept_and_another_is_made_anew(slide_model, make_slide, tmp_path):
    model, slide, path = slide_model(Redness()), open_slide(make_slide()), tmp_path / "map.tif"
    tissue = tissue_of(slide)
    first = map_slide(model, slide, path, tissue=tissue)
    written = path.stat().st_mtime_ns
    assert map_slide(model, slide, path, tissue=tissue) == first
    assert path.stat().st_mtime_ns == written
    told = map_slide(model, slide, path, tissue=tissue, threshold=0.7)
    assert (told.about.threshold, HeatMap.load(path).about.threshold) == (0.7, 0.7)
    assert np.array_equal(told.cells(), first.cells())
    other = slide_model(Redness(), tiles=Tiles(size=32, centre=16, stride=32, mpp=(1.0,)))
    assert map_slide(other, slide, path, tissue=tissue).shape == tuple(-(-side // 2) for side in first.shape)
    path.write_bytes(b"none")
    assert np.array_equal(map_slide(model, slide, path, tissue=tissue).cells(), first.cells())


def test_only_what_cannot_be_read_is_lost_and_it_is_told(slide_model, make_slide, tmp_path, monkeypatch):
    monkeypatch.setattr("overread.slides.map_grid.REGION", 256)
    model, said = slide_model(Redness()), list[str]()
    sound = open_slide(make_slide())
    whole = map_slide(model, sound, tmp_path / "whole.tif", tissue=tissue_of(sound))
    damaged = make_slide(damaged=((4, 6),))  # rows 256 … 319, columns 384 … 447, in tissue
    found = map_slide(model, open_slide(damaged), tmp_path / "damaged.tif", tissue=tissue_of(sound), say=said.append)
    lost = (found.cells() == 0) & (whole.cells() > 0)
    rows, columns = np.nonzero(lost)
    # tiles of 32 pixels that touch the damaged square
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (
        256 // 16 - 1,
        320 // 16 + 1,
        384 // 16 - 1,
        448 // 16 + 1,
    )
    assert found.about.unread == int(lost.sum()) == len(rows) == 36
    assert np.array_equal(found.cells()[~lost], whole.cells()[~lost])
    assert (min(y for _, y, _, _ in found.about.unread_places), min(x for x, _, _, _ in found.about.unread_places)) == (
        240.0,
        368.0,
    )
    assert any(
        line.startswith(f"  36 places of {whole.about.looked:,} cannot be read and are not looked at") for line in said
    )
    assert not any(damaged.stem in line for line in said)
    made = (tmp_path / "damaged.tif").stat().st_mtime_ns
    map_slide(model, open_slide(damaged), tmp_path / "damaged.tif", tissue=tissue_of(sound))
    assert (tmp_path / "damaged.tif").stat().st_mtime_ns == made
    os.utime(damaged)  # restored, say: its digest, which is of samples, need not tell
    map_slide(model, open_slide(damaged), tmp_path / "damaged.tif", tissue=tissue_of(sound))
    assert (tmp_path / "damaged.tif").stat().st_mtime_ns > made


def test_a_slide_of_which_much_cannot_be_read_is_refused(slide_model, make_slide, tmp_path):
    damaged = make_slide(damaged=tuple((row, column) for row in range(3, 7) for column in range(3, 9)))
    tissue = tissue_of(open_slide(make_slide()))
    with pytest.raises(ImageError, match="more than 10% of the slide's tissue cannot be read"):
        map_slide(slide_model(Redness()), open_slide(damaged), tmp_path / "map.tif", tissue=tissue)
    assert not (tmp_path / "map.tif").exists()
    assert not (tmp_path / "map.tif.part").exists()


def test_a_refused_slide_is_refused_again(slide_model, make_slide, tmp_path, monkeypatch):
    """Also where what was done of it is still there: the row of blocks that was too much is not among it."""
    monkeypatch.setattr("overread.slides.map_slide.shutil.rmtree", lambda *given, **named: None)
    damaged = make_slide(damaged=tuple((row, column) for row in range(3, 7) for column in range(3, 9)))
    tissue = tissue_of(open_slide(make_slide()))
    for _ in range(3):
        with pytest.raises(ImageError, match="more than 10% of the slide's tissue cannot be read"):
            map_slide(slide_model(Redness()), open_slide(damaged), tmp_path / "map.tif", tissue=tissue)
        assert not (tmp_path / "map.tif").exists()
    assert (tmp_path / "map.tif.part").exists()


def test_what_an_older_journal_holds_is_refused_too(slide_model, make_slide, tmp_path, monkeypatch):
    damaged = make_slide(damaged=tuple((row, column) for row in range(3, 7) for column in range(3, 9)))
    tissue, said = tissue_of(open_slide(make_slide())), list[str]()
    monkeypatch.setattr("overread.slides.map_slide.MOST_UNREAD", 1.0)
    monkeypatch.setattr("overread.slides.map_slide.write_map", lambda *given: 1 / 0)  # stopped before it is written
    with pytest.raises(ZeroDivisionError):
        map_slide(slide_model(Redness()), open_slide(damaged), tmp_path / "map.tif", tissue=tissue)
    monkeypatch.undo()
    with pytest.raises(ImageError, match="more than 10% of the slide's tissue cannot be read"):
        map_slide(slide_model(Redness()), open_slide(damaged), tmp_path / "map.tif", tissue=tissue, say=said.append)
    assert "there already" in said[0]
    assert not (tmp_path / "map.tif").exists()


def test_a_slide_without_tissue_is_refused(slide_model, make_slide, tmp_path):
    slide = open_slide(make_slide())
    tissue = tissue_of(slide)
    with pytest.raises(ImageError, match="no tissue was found"):
        map_slide(
            slide_model(Redness()),
            slide,
            tmp_path / "map.tif",
            tissue=replace(tissue, kinds=np.zeros_like(tissue.kinds)),
        )


def test_a_model_that_shows_no_place_is_refused(slide_model, make_slide):
    model = slide_model(Redness())
    without = replace(model, about=replace(model.about, target=replace(model.about.target, positive=())))
    with pytest.raises(InputError, match="positive class"):
        map_job(without, open_slide(make_slide()))


def test_attention_over_tiles_says_of_a_place_what_it_says_of_that_tile_alone(slide_model, make_slide, tmp_path):
    model, slide = slide_model(fusion="attention", tiles=Tiles(size=32, centre=16, stride=16, mpp=(1.0,), pooling="attention")), open_slide(make_slide(160, 160))  # fmt: skip
    tissue = tissue_of(slide)
    found, expected = (
        map_slide(model, slide, tmp_path / "map.tif", tissue=tissue).values(),
        restated(model, slide, tissue),
    )
    assert np.nanmax(np.abs(found - expected)) < 1e-4
    assert np.nanstd(expected) > 0.001


@pytest.mark.parametrize("stain", ["reinhard", "macenko"])
def test_tiles_have_the_look_of_their_slides_stain_as_in_training(stain, slide_model, make_slide, tmp_path):
    model, slide = slide_model(stain=stain), open_slide(make_slide(160, 208))
    tissue, tiles = tissue_of(slide), model.about.recipe.tiles
    found = map_slide(model, slide, tmp_path / "map.tif", tissue=tissue)
    rows, columns = np.nonzero(found.cells())
    assert len(rows) > 10
    for row, column in list(zip(rows.tolist(), columns.tolist(), strict=True))[::7]:
        x, y = ((place + 0.5) * tiles.step for place in (column, row))
        read = load(f"{slide.path}#tile={x},{y},{tiles.size},{tiles.mpp[0]}", model.about.preprocess)
        said = answers(model, to_tensor(read[None], model.about.preprocess))[0][0, 1]
        assert found.values()[row, column] == pytest.approx(said, abs=1e-4)


def test_ctrl_c_does_not_wait_for_the_rest_of_a_block(slide_model, make_slide, tmp_path, monkeypatch):
    """Ctrl-C comes while the network is at the first place of the second block: none of its other places is asked for."""
    first, at_second, interrupted = list[int](), threading.Event(), threading.Event()

    class Gated(Redness):
        passes = 0

        def forward(self, x):
            Gated.passes += 1
            if Gated.passes > first[0]:
                at_second.set()
                assert interrupted.wait(60), "nothing stopped what computes"
            return super().forward(x)

    class Stopping(threading.Event):
        def set(self):
            super().set()
            interrupted.set()

    def ctrl_c(what: str, done: int, total: int) -> None:
        assert at_second.wait(60), "the second block was not begun"
        raise KeyboardInterrupt

    monkeypatch.setattr(map_grid, "REGION", 256)
    monkeypatch.setattr("overread.slides.map_slide.largest_batch", lambda device, size: 1)
    monkeypatch.setattr("overread.slides.map_slide.Event", Stopping)
    monkeypatch.setattr(
        "overread.slides.tile_answers.for_inference", lambda network, *_: network
    )  # by no pass of its own
    model, slide = slide_model(Gated()), open_slide(make_slide())
    tissue = tissue_of(slide)
    grid = grid_of(slide, model.about.recipe.tiles)
    one, second, *_ = blocks_of(grid, looked_at(grid, tissue, model.about.recipe.tiles, 0), 0)
    first.append(len(one))
    with pytest.raises(KeyboardInterrupt):
        map_slide(model, slide, tmp_path / "map.tif", tissue=tissue, workers=1, progress=ctrl_c)
    assert Gated.passes == len(one) + 1 < len(one) + len(second)


def test_a_slide_of_one_block_is_answered_by_all_workers_at_once(slide_model, make_slide, tmp_path):
    """Each of two waits for the other at its first batch: where one worker had them all, neither would go on."""
    met, first = threading.Barrier(2), threading.local()

    class Meets(Redness):
        def forward(self, x):
            if threading.current_thread().name.startswith("slide-map") and not hasattr(first, "met"):
                first.met = True
                met.wait(60)
            return super().forward(x)

    def copied(self, memo):  # locks are not copied
        return self

    Meets.__deepcopy__ = copied
    slide = open_slide(make_slide(160, 208))
    model, tissue = slide_model(Meets()), tissue_of(slide)
    grid = grid_of(slide, model.about.recipe.tiles)
    assert len(blocks_of(grid, looked_at(grid, tissue, model.about.recipe.tiles, 0), 0)) == grid.bands == 1
    made = map_slide(model, slide, tmp_path / "map.tif", tissue=tissue, workers=2)
    assert made.about.looked > 0
    assert not met.broken
