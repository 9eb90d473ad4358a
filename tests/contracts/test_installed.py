"""What is absent skips a test, and fails it where everything must be there."""

from __future__ import annotations

import re

import installed
import pytest


@pytest.mark.parametrize(("required", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_an_absent_module_skips_or_fails(required, outcome, monkeypatch):
    monkeypatch.setenv(installed.REQUIRE, required)
    with pytest.raises(outcome, match=r"overread\[slides\]"):
        installed.module("no_such_module", "slides")
    assert installed.module("json", "slides").dumps(1) == "1"


def test_a_module_that_cannot_import_another_is_no_reason_to_skip(tmp_path, monkeypatch):
    (tmp_path / "half_a_module.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        installed.module("half_a_module", "slides")


def test_slides_of_scanners_are_never_skipped_in_silence(root):
    """``pytest.importorskip`` does not know of what the continuous integration wants."""
    found = [path.name for path in (root / "tests").rglob("*.py") if re.search(r"""importorskip\(["']openslide""", path.read_text("utf-8"))]  # fmt: skip
    assert found == []
