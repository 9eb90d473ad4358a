from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread.core.errors import ArgumentError, ImageError
from overread.images.address import PLANES, Address, file_of, parse

NAMES = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=30)
NUMBERS = st.floats(-1e4, 1e4).map(lambda x: float(f"{x:.6g}"))
POINTS = st.builds(
    lambda plane, point, side: {"plane": plane, "point": point, "side": side},
    st.sampled_from(PLANES), st.tuples(NUMBERS, NUMBERS, NUMBERS), st.floats(0, 500).map(lambda x: float(f"{x:.6g}")),
)  # fmt: skip
PARTS = st.one_of(
    st.builds(lambda name: {"entry": name}, NAMES),
    st.builds(lambda frame: {"frame": frame}, st.integers(0, 10**6)),
    st.just({"series": True}),
    st.builds(lambda plane, at: {"plane": plane, "at": at}, st.sampled_from(PLANES), st.integers(0, 999) | st.none()),
    POINTS,
)


@given(NAMES.filter(lambda name: parse(name).path == name), PARTS)
def test_a_round_trip(path, parts) -> None:
    address = Address(path, **parts)
    assert parse(str(address)) == address
    assert file_of(str(address)) == path


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text) -> None:
    with suppress(ImageError, ArgumentError):
        assert text.startswith(parse(text).path)


@pytest.mark.parametrize("name", ["a#b.png", "a#frames=3", "frame=3", "a.png#", "x#series2", "#frame=1"])
def test_a_hash_in_a_name_is_a_name(name) -> None:
    assert parse(name) == Address(name)


@pytest.mark.parametrize("text", ["a#frame=x", "a#plane=axial&point=1,2", "a#plane=oblique", "a#at=3", "a#plane=axial&at=1&point=1,2,3",
                                  "a#plane=axial&side=4", "a#plane=axial&point=1,2,3&side=-4"])  # fmt: skip
def test_what_cannot_be(text) -> None:
    with pytest.raises((ImageError, ArgumentError)):
        parse(text)
