"""Zip archives against zipfile's own reading; what is refused is in tests/faults/test_faults_archives.py."""

from __future__ import annotations

import io
import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from overread.core.errors import ArgumentError, ImageError
from overread.images.formats.archives import ArchiveLimits, is_archive, members, open_member, read_member
from overread.images.image import Limits

NOISE = np.random.default_rng(2).bytes(300_000)
CONTENT = {"IM/0001": b"abc" * 50_000, "IM/0002": NOISE, "Ärzte/Bild 1.dcm": b"", "a/b/c/d": b"x"}


def packed(path: Path, compression: int = zipfile.ZIP_DEFLATED, content: dict[str, bytes] = CONTENT) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.mkdir("IM")
        for name, data in content.items():
            archive.writestr(name, data)
    return path


@pytest.fixture(params=[zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED], ids=["deflated", "stored"])
def archive(request, tmp_path) -> Path:
    return packed(tmp_path / "study.zip", request.param)


def test_members_are_those_of_zipfile(archive):
    with zipfile.ZipFile(archive) as theirs:
        assert members(archive) == [name for name in theirs.namelist() if not name.endswith("/")]
        for name in members(archive):
            assert read_member(archive, name) == theirs.read(name)


def test_a_member_seeks_as_a_file_does(archive):
    for name, data in CONTENT.items():
        theirs = io.BytesIO(data)
        with open_member(archive, name) as ours:
            for at, whence, count in ((100_000, 0, 10), (-5, 2, 9), (0, 0, 132), (7, 1, 100), (10**9, 0, 1)):
                assert ours.seek(at, whence) == theirs.seek(max(at, -len(data)) if whence == 2 else at, whence)
                assert ours.read(count) == theirs.read(count)


def test_only_the_beginning_is_inflated(tmp_path):
    path = packed(tmp_path / "large.zip", content={"a": bytes(60 << 20)})
    with open_member(path, "a") as handle:
        assert handle.read(132) == bytes(132)
        assert len(handle.raw._kept) < 1 << 18


def test_it_is_read_from_several_threads(archive):
    wrong = []

    def read() -> None:
        wrong.extend(name for name in [*CONTENT] * 20 if read_member(archive, name) != CONTENT[name])

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_archive_that_changes_is_read_anew(tmp_path):
    path = packed(tmp_path / "study.zip")
    assert len(members(path)) == 4
    packed(path, content={"other": b"1"})
    os.utime(path, ns=(1, 1))
    assert members(path) == ["other"]


def test_what_is_no_archive(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("PK is not enough", encoding="utf-8")
    assert not is_archive(text)
    assert not is_archive(tmp_path)
    assert not is_archive(tmp_path / "absent")
    for path in (text, tmp_path, tmp_path / "absent"):
        with pytest.raises(ImageError):
            members(path)


def test_a_member_that_is_not_there(archive):
    with pytest.raises(ImageError, match="no such member") as caught:
        read_member(archive, "IM/KANARIENVOGEL")
    assert "KANARIENVOGEL" not in str(caught.value)


def test_every_limit_can_be_raised_and_lowered(tmp_path):
    path = packed(tmp_path / "study.zip")
    tight = {"members": 3, "total_bytes": 1000, "member_bytes": 299_999}
    for name, value in tight.items():
        with pytest.raises(ImageError, match=name):
            members(path, limits=ArchiveLimits(**{name: value}))
        assert members(path, limits=ArchiveLimits(**{name: value * 1000}))
    with pytest.raises(ImageError, match="ratio"):
        members(path, limits=ArchiveLimits(ratio=10, small_bytes=100_000))
    with pytest.raises(ImageError, match="file_bytes"):
        read_member(path, "IM/0002", Limits(file_bytes=299_999))
    with pytest.raises(ArgumentError):
        ArchiveLimits(ratio=0)


def test_zip64_and_a_comment_and_bytes_before_it(tmp_path):
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = b"from the archive of the clinic"
        with archive.open("big", "w", force_zip64=True) as member:
            member.write(b"abc")
    assert read_member(path, "big") == b"abc"
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    assert read_member(path, "big") == b"abc"
