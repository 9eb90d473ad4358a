"""Opinions on real DICOM files of every encoding: an answer or a reason, and nobody's name."""

from __future__ import annotations

import pydicom
import pytest
from trained_run import make_run

from overread.core.errors import ImageError
from overread.study.opinion import open_reader


@pytest.fixture(scope="module")
def reader(tmp_path_factory, phantom):
    return open_reader(make_run(tmp_path_factory.mktemp("real") / "run", phantom, image="image", label="diagnosis", patient="patient", names="keep"))  # fmt: skip


def test_every_dicom_file_is_answered_or_refused_and_names_nobody(reader, shared):
    answered = refused = 0
    for path in sorted((shared / "data" / "dicom").glob("*.dcm"))[::2]:
        held = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        names = [
            str(value) for value in (held.get("PatientName", ""), held.get("PatientID", "")) if len(str(value)) > 5
        ]
        try:
            opinion = reader.opinion(path)
        except ImageError as error:
            refused += 1
            said = str(error)
        else:
            answered += 1
            assert abs(sum(answer.value for answer in opinion.answers) - 1) < 1e-5
            assert not opinion.trusted or "colour" not in {f.kind for f in opinion.findings}
            said = str(opinion) + opinion.to_json()
        assert not any(name in said.replace(path.name, "") for name in names), path.name
    assert answered >= 20
    assert refused >= 1, "reports, plans and waveforms hold no picture"
