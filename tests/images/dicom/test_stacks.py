"""Several stacks under one SeriesInstanceUID, against how they were made; in any order of the files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from overread.images.dicom.header import TRAITS, DicomHeader
from overread.images.dicom.stacks import stacks

RNG = np.random.default_rng(8)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def slice_of(place: float, traits: dict[str, object], **fields: Any) -> DicomHeader:
    known = tuple(str(traits.get(name, "")) for name in TRAITS)
    about: dict[str, Any] = {"rows": 4, "columns": 4, "spacing": (1.0, 1.0), "series": "1.2", "orientation": AXIAL}
    return DicomHeader(position=(0.0, 0.0, float(place)), traits=known, **(about | fields))


def mixed(kinds: list[dict[str, Any]], places: int = 7, *, kept: float = 1.0) -> tuple[list[DicomHeader], list[int]]:
    """Shuffled slices of each kind in the same places, a part of them ``kept``, and which kind each is of."""
    fields = ("image_type", "acquisition", "number")
    made = []
    for n, kind in enumerate(kinds):
        for at in range(places):
            values = {k: v(at) if callable(v) else v for k, v in kind.items()}
            own = {k: values.pop(k) for k in fields if k in values}
            made.append((slice_of(3 * at, values, **own), n))
    chosen = [made[i] for i in RNG.permutation(len(made)) if RNG.random() < kept]
    return [header for header, _ in chosen], [kind for _, kind in chosen]


KINDS: dict[str, list[dict[str, Any]]] = {
    "echo time": [{"echo time": 20}, {"echo time": 90}],
    "three echoes": [{"echo time": 5 * n} for n in (1, 2, 3)],
    "echo number": [{"echo number": 1}, {"echo number": 2}],
    "b-value": [{"b-value": 0}, {"b-value": 1000}],
    "blank and b-value": [{}, {"b-value": 1000}],
    "b-values and directions": [{"b-value": 0}, *({"b-value": 1000, "gradient direction": f"{d} 0 1"} for d in range(6))],
    "inversion time": [{"inversion time": 100}, {"inversion time": 2500}],
    "flip angle": [{"flip angle": 3}, {"flip angle": 15}],
    "component": [{"component": "MAGNITUDE"}, {"component": "PHASE"}],
    "image type": [{"image_type": ("ORIGINAL", "PRIMARY", c)} for c in ("M", "P", "R", "I")],
    "temporal position": [{"temporal position": n} for n in range(12)],
    "tube voltage": [{"tube voltage": 80}, {"tube voltage": 140}],
    "kernel": [{"reconstruction kernel": "B30f"}, {"reconstruction kernel": "B70f"}],
    "acquisition": [{"acquisition": 1}, {"acquisition": 2}],
    "trigger times that differ by slice": [{"trigger time": lambda at, n=n: 40 * n + at / 7} for n in range(5)],
    "times of phases": [{"acquisition time": lambda at, n=n: 101000 + 30 * n + at} for n in range(3)],
    "times of interleaved slices": [{"content time": lambda at, n=n: 101000 + 30 * n + at * 3 % 7} for n in range(3)],
    "numbers one after the other": [{"number": lambda at, n=n: 7 * n + at} for n in range(3)],
    "numbers by turns": [{"number": lambda at, n=n: 3 * at + n} for n in range(3)],
    "echo and phase": [{"echo time": e, "acquisition": a} for e in (20, 90) for a in (1, 2)],
    "echo, and times that say nothing": [{"echo time": e, "content time": lambda at: RNG.random()} for e in (20, 90)],
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_stacks_of_one_plane_are_told_apart(name: str) -> None:
    headers, kinds = mixed(KINDS[name])
    found = stacks(headers)
    assert sorted(len(stack.indices) for stack in found) == [7] * len(KINDS[name])
    for stack in found:
        assert len({kinds[i] for i in stack.indices}) == 1
        assert (stack.of, stack.apart != "") == (len(KINDS[name]), True)
    assert [stack.number for stack in found] == list(range(1, len(found) + 1))


def test_they_are_numbered_by_value_whatever_the_order() -> None:
    for _ in range(4):
        headers, _ = mixed([{"echo time": 100}, {"echo time": 20}])
        assert [headers[stack.indices[0]].traits[0] for stack in stacks(headers)] == ["20", "100"]
        assert {stack.apart for stack in stacks(headers)} == {"echo time"}


@pytest.mark.parametrize("name", ["echo time", "b-value", "image type", "acquisition", "temporal position"])
def test_a_few_lost_slices_do_not_matter(name: str) -> None:
    headers, kinds = mixed(KINDS[name], places=40, kept=0.95)
    found = stacks(headers)
    assert len(found) == len(KINDS[name])
    assert all(len({kinds[i] for i in stack.indices}) == 1 for stack in found)


def test_numbers_without_order_tell_nothing() -> None:
    numbers = iter(RNG.permutation(100).tolist())
    headers, _ = mixed([{"number": lambda at: next(numbers)} for _ in range(2)])
    (found,) = stacks(headers)
    assert (len(found.indices), found.apart) == (14, "")


def test_one_plain_stack_stays_one_whatever_differs_along_it() -> None:
    fields = {
        "acquisition": lambda at: at // 4,
        "number": lambda at: at,
        "image_type": lambda at: ("A", "B") if at % 2 else ("A",),
    }
    traits = {
        "echo time": lambda at: 20 + at % 2,
        "content time": lambda at: 101000 + at,
        "trigger time": lambda at: at * 3.7,
    }
    headers, _ = mixed([fields | traits])
    (found,) = stacks(headers)
    assert (len(found.indices), found.apart) == (7, "")


def test_a_slice_that_was_taken_again_makes_no_second_stack() -> None:
    headers, _ = mixed([{"acquisition": 1, "acquisition time": 101010}])
    again = replace(headers[2], acquisition=2)
    (found,) = stacks([*headers, again])
    assert len(found.indices) == 8


@pytest.mark.parametrize(("gap", "parts"), [(1, 1), (2, 1), (4, 1), (5, 2), (72, 2)])
def test_a_wide_gap_parts_a_stack(gap: int, parts: int) -> None:
    places = [*range(12), *range(11 + gap, 21 + gap)]
    headers = [slice_of(1.25 * place, {}) for place in places]
    found = stacks([headers[i] for i in RNG.permutation(len(headers))])
    assert sorted(len(stack.indices) for stack in found) == ([10, 12] if parts == 2 else [22])
    assert {stack.apart for stack in found} == ({"place"} if parts == 2 else {""})


def test_echoes_and_a_gap_together() -> None:
    headers = [slice_of(place, {"echo time": echo}) for place in (*range(5), *range(90, 95)) for echo in (20, 90)]
    found = stacks(headers)
    assert [(len(stack.indices), stack.apart, stack.number, stack.of) for stack in found] == [
        (5, "echo time and place", n, 4) for n in (1, 2, 3, 4)
    ]
