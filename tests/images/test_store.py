"""The store: the right pixels, resumed after a kill, shared by processes, healed when damaged."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from overread.core import sandbox
from overread.core.errors import ArgumentError, InputError, UnavailableError
from overread.core.files import sha256_file
from overread.images import store as module
from overread.images.preprocess import Preprocess, load, resize
from overread.images.read import read_image
from overread.images.store import pack

PLAN = Preprocess((16, 16))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(4)
    for i in range(60):
        pixels = cv2.resize(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), (40, 36), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{i:03}.{'jpg' if i % 2 else 'png'}"), pixels)
    return [str(path) for path in sorted(folder.iterdir())]


def counting(seen: dict[str, int]):
    def progress(what: str, done: int, total: int) -> None:
        seen[what] = total

    return progress


def test_rows_are_the_prepared_images_in_order(files: list[str], tmp_path: Path) -> None:
    made = pack(files, PLAN, tmp_path, threads=2)
    assert isinstance(made.images, np.memmap)
    assert made.images.shape == (60, 16, 16, 3)
    assert (len(made), made.failed, made.rebuilt) == (60, {}, 0)
    assert made.digests == tuple(sha256_file(path) for path in files)
    for row, path in zip(made.images, files):
        assert np.array_equal(row, load(path, PLAN))
        plain = resize(read_image(path), PLAN)  # differs where a JPEG was decoded at half its size
        assert np.abs(row.astype(int) - plain).mean() < (5 if path.endswith("jpg") else 1e-9)
    with pytest.raises(ValueError):
        made.images[0] = 0  # read-only


def test_the_same_for_any_number_of_threads(files: list[str], tmp_path: Path) -> None:
    stores = [pack(files, PLAN, tmp_path / str(n), threads=n) for n in (1, 2, 5)]
    assert len({store.folder.name for store in stores}) == 1
    contents = [{p.name: p.read_bytes() for p in s.folder.iterdir() if p.name != ".lock"} for s in stores]
    assert contents[0] == contents[1] == contents[2]


def test_addressed_by_content_and_geometry(files: list[str], tmp_path: Path) -> None:
    seen: dict[str, int] = {}
    first = pack(files, PLAN, tmp_path)
    moved = tmp_path / "moved"
    shutil.copytree(Path(files[0]).parent, moved)
    copies = [str(moved / Path(path).name) for path in files]
    fitted = replace(PLAN, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0), normalise="z-score")
    again = pack(copies, fitted, tmp_path, progress=counting(seen))
    assert again.folder == first.folder
    assert "packing images" not in seen
    assert pack(files, replace(PLAN, fit="crop"), tmp_path).folder != first.folder
    assert pack(files[::-1], PLAN, tmp_path).folder != first.folder
    assert pack(files, PLAN, tmp_path, digests=first.digests).folder == first.folder


def test_unreadable_images_are_rows_of_zeros(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(Path(files[0]).read_bytes()[:200])
    (tmp_path / "empty.jpg").touch()
    mixed = [files[0], str(tmp_path / "cut.png"), str(tmp_path / "empty.jpg"), str(tmp_path / "none.png"), files[1]]
    for _ in range(2):  # when made, and when opened
        made = pack(mixed, PLAN, tmp_path / "cache")
        assert sorted(made.failed) == [1, 2, 3]
        assert "cut off" in made.failed[1]
        assert not any(
            name in reason for reason in made.failed.values() for name in ("cut.png", "empty.jpg", "none.png")
        )
        assert not made.images[1:4].any()
        assert made.images[0].any()
        assert made.images[4].any()
    volume = pack(files[:2], Preprocess((4, 8, 8), 1), tmp_path / "cache")
    assert sorted(volume.failed) == [0, 1]


#: Patches the reader in the processes that decode, which import it when they start: files of some names are traps.
TRAPS = """
    import ctypes, importlib.util, os, sys, time

    if "overread.core.sandbox_worker" in sys.orig_argv:
        from overread.images import read
        whole = read._read

        def trapped(text, *others):
            name = os.path.basename(text)
            if name.startswith("crash"):
                ctypes.string_at(0)
            if name.startswith("hang"):
                while True:
                    pass
            return whole(text, *others)

        read._read = trapped
"""


@pytest.fixture
def traps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "traps").mkdir()
    (tmp_path / "traps/sitecustomize.py").write_text(textwrap.dedent(TRAPS), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "traps")
    sandbox.close()  # processes that started without the traps
    yield
    sandbox.close()


def test_a_decoder_that_crashes_costs_a_row(
    files: list[str], tmp_path: Path, traps: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVERREAD_DECODE_SECONDS", "1")  # of the processor; by the clock five
    for name in ("crash.png", "hang.png"):
        shutil.copy(files[2], tmp_path / name)
    mixed = [*files[:2], str(tmp_path / "crash.png"), *files[2:10], str(tmp_path / "hang.png"), files[10]]
    made = pack(mixed, PLAN, tmp_path / "cache", threads=2)
    assert sorted(made.failed) == [2, 11]
    assert "crashed" in made.failed[2]
    assert "did not end within 1 s" in made.failed[11]
    assert not made.images[[2, 11]].any()
    good = [i for i in range(len(mixed)) if i not in (2, 11)]
    assert np.array_equal(made.images[good], [load(mixed[i], PLAN) for i in good])


def test_a_full_disk_is_told(files: list[str], tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with pytest.raises(UnavailableError, match="cannot be written"):
        module._put(Path("/dev/full"), 0, b"x")


def test_ctrl_c_ends_at_once_and_is_resumed(files: list[str], tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if what == "packing images" and done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(files, PLAN, tmp_path / "cache", threads=2, progress=stop)
    seen: dict[str, int] = {}
    resumed = pack(files, PLAN, tmp_path / "cache", progress=counting(seen))
    assert 0 < seen["packing images"] <= 41
    assert np.array_equal(resumed.images, pack(files, PLAN, tmp_path / "other").images)


def test_damaged_rows_are_rebuilt_and_counted(files: list[str], tmp_path: Path) -> None:
    made = pack(files, PLAN, tmp_path)
    before, size = np.array(made.images), 16 * 16 * 3
    with open(made.folder / "images.bin", "r+b") as handle:
        for row in (3, 4, 59):
            handle.seek(row * size + 100)
            handle.write(b"\xff\x00\xaa")
    healed = pack(files, PLAN, tmp_path)
    assert healed.rebuilt == 3
    assert np.array_equal(healed.images, before)
    assert pack(files, PLAN, tmp_path).rebuilt == 0
    os.truncate(made.folder / "images.bin", 50 * size)
    assert pack(files, PLAN, tmp_path).rebuilt == 10
    (made.folder / "images.bin").unlink()
    assert pack(files, PLAN, tmp_path).rebuilt == 60
    for damage in (b"", b"{}", b'{"crc32": [1, 2], "failed": {}}'):
        (made.folder / "index.json").write_bytes(damage)
        assert np.array_equal(pack(files, PLAN, tmp_path).images, before)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from overread.images.store import pack
    from overread.images.preprocess import Preprocess

    def progress(what, done, total):
        if what == "packing images" and done >= int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    if __name__ == "__main__":
        files = sorted(str(p) for p in Path(sys.argv[3]).iterdir())
        pack(files, Preprocess((160, 160)), Path(sys.argv[1]), threads=2, progress=progress)
"""


def test_a_killed_process_is_resumed(files: list[str], tmp_path: Path) -> None:
    plan = Preprocess((160, 160))  # several tasks of a few rows
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED), encoding="utf-8")
    command = [sys.executable, str(script), str(tmp_path / "cache"), "20", str(Path(files[0]).parent)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (folder,) = (tmp_path / "cache").iterdir()
    assert not (folder / "index.json").exists()
    with open(folder / "journal.bin", "ab") as journal:
        journal.write(b"torn")  # a record that was not finished
    with open(folder / "images.bin", "r+b") as rows:
        rows.write(b"\1\2\3")  # a row that did not reach the disk, though the journal says so
    seen: dict[str, int] = {}
    resumed = pack(files, plan, tmp_path / "cache", progress=counting(seen))
    assert 1 <= seen["packing images"] <= 41
    whole = pack(files, plan, tmp_path / "other")
    assert np.array_equal(resumed.images, whole.images)
    assert (resumed.folder / "index.json").read_bytes() == (whole.folder / "index.json").read_bytes()
    assert not (resumed.folder / "journal.bin").exists()


SHARED = """
    import sys
    from pathlib import Path
    from overread.images.store import pack
    from overread.images.preprocess import Preprocess

    if __name__ == "__main__":
        files = sorted(str(p) for p in Path(sys.argv[2]).iterdir())
        packed = []
        made = pack(files, Preprocess((160, 160)), Path(sys.argv[1]), threads=1,
                    progress=lambda what, done, total: packed.append(what))
        sys.stdout.write(f"{'packing images' in packed} {int(made.images.sum())} {made.rebuilt}")
"""


def test_two_processes_share_a_store(files: list[str], tmp_path: Path) -> None:
    script = tmp_path / "shared.py"
    script.write_text(textwrap.dedent(SHARED), encoding="utf-8")
    command = [sys.executable, str(script), str(tmp_path / "cache"), str(Path(files[0]).parent)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=120)[0].split() for process in running]
    assert sorted(answer[0] for answer in answers) == ["False", "True"]  # one packs, the other waits
    assert answers[0][1:] == answers[1][1:]


def test_rows_of_arrays(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).integers(0, 256, (300, 28, 28), dtype=np.uint8)
    np.savez_compressed(tmp_path / "a.npz", images=rows)
    made = pack([f"{tmp_path / 'a.npz'}#images/{i}" for i in range(300)], Preprocess((28, 28), 1), tmp_path)
    assert np.array_equal(made.images[..., 0], rows)


def test_a_file_that_changes_meanwhile_is_an_error(files: list[str], tmp_path: Path) -> None:
    wrong = ["0" * 64, *(sha256_file(path) for path in files[1:])]
    with pytest.raises(InputError, match="changed"):
        pack(files, PLAN, tmp_path, digests=wrong)


def test_a_disk_that_is_too_small_is_told_before(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UnavailableError, match="too small"):
        pack(files, PLAN, tmp_path)


def test_arguments(files: list[str], tmp_path: Path) -> None:
    for bad in ({"threads": -1}, {"digests": ["a"]}, {"addresses": []}):
        with pytest.raises(ArgumentError):
            pack(**{"addresses": files, "preprocess": PLAN, "cache": tmp_path, **bad})  # type: ignore[arg-type]
