"""Outlines in the GeoJSON that QuPath exports: polygons in pixels of level 0, with the name of their classification.

A FeatureCollection, a list of features, one feature, or a bare geometry (RFC 7946; qupath.readthedocs.io, "Exporting
annotations"). In older files the name stands in ``classification.name``, in newer ones in ``classification.names``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from overread.core.errors import ImageError, InputError, checked
from overread.core.phrases import count
from overread.images.outlines.outline_shapes import ring_of
from overread.images.slides.lesion_files.drawn_outlines import DrawnOutline, DrawnOutlines

#: Outlines that one file may hold; a slide has thousands at most.
MOST_OUTLINES = 1_000_000
#: Levels of a classification that are looked at.
_DEEPEST = 16
_GEOMETRIES = ("Polygon", "MultiPolygon", "GeometryCollection")


@checked
def read_geojson(value: dict[str, Any] | list[Any]) -> DrawnOutlines:
    """The outlines of a parsed file; each polygon of several in one feature is an outline of its own.

    Raises :class:`InputError` for what is no GeoJSON, and :class:`ImageError` for corners that are no numbers.
    """
    drawn: list[DrawnOutline] = []
    told: Counter[tuple[str, str]] = Counter()
    for feature in _features(value):
        about = feature.get("properties") or {}
        if not isinstance(about, dict):
            raise InputError("the properties of a feature are no object", given=str(about)[:80])
        if about.get("objectType") in ("cell", "tile"):
            told["cell or tile left out", "cells or tiles left out"] += 1
            continue
        groups = _groups(about)
        for polygon in _polygons(feature.get("geometry"), told):
            drawn.append(DrawnOutline(polygon[0], groups, tuple(polygon[1:])))
            if len(drawn) > MOST_OUTLINES:
                raise InputError("the file holds too many outlines", given=f"more than {MOST_OUTLINES:,}")
    return DrawnOutlines(tuple(drawn), tuple(count(many, *words) for words, many in told.items()))


def _features(value: dict[str, Any] | list[Any]) -> Iterator[dict[str, Any]]:
    held = value.get("features") if isinstance(value, dict) and value.get("type") == "FeatureCollection" else value
    for each in held if isinstance(held, list) else [held]:
        if not isinstance(each, dict):
            raise InputError(
                "this is no GeoJSON", given=str(each)[:80], todo="its type is FeatureCollection or Feature"
            )
        if each.get("type") == "Feature":
            yield each
        elif each.get("type") in _GEOMETRIES:
            yield {"geometry": each}
        else:
            raise InputError("this is no GeoJSON", given=f"type {str(each.get('type'))[:40]}", todo="its type is FeatureCollection or Feature")  # fmt: skip


def _groups(about: dict[str, Any]) -> tuple[str, ...]:
    """The classification; ``Tumor: Positive`` lies in ``Tumor``."""
    held = about.get("classification")
    if isinstance(held, dict):
        names = held.get("names") if isinstance(held.get("names"), list) else str(held.get("name") or "").split(":")
    else:
        names = held.split(":") if isinstance(held, str) else []
    parts = [str(name).strip() for name in names or [] if str(name).strip()]
    parts = parts[:_DEEPEST]
    return tuple(": ".join(parts[:many]) for many in range(len(parts), 0, -1))


def _polygons(geometry: Any, told: Counter[tuple[str, str]], depth: int = 0) -> Iterator[list[Any]]:
    """Each polygon of a geometry as its ring and the rings of its holes."""
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind == "GeometryCollection" and depth < 8:
        for each in _list(geometry.get("geometries")):
            yield from _polygons(each, told, depth + 1)
    elif kind == "Polygon":
        yield _rings(geometry.get("coordinates"))
    elif kind == "MultiPolygon":
        for each in _list(geometry.get("coordinates")):
            yield _rings(each)
    else:  # a point or a line; a feature may also have no place at all
        told["object without an area (points, lines) left out", "objects without an area (points, lines) left out"] += 1


def _rings(value: Any) -> list[Any]:
    rings = [ring_of(_corners(ring)) for ring in _list(value)]
    if not rings:
        raise ImageError("a polygon has no ring")
    return rings


def _corners(ring: Any) -> list[Any]:
    """The corners of a closed line without its last, which is its first; a third number is a plane, left out."""
    corners = [point[:2] if isinstance(point, list) else point for point in _list(ring)]
    return corners[:-1] if len(corners) > 3 and corners[0] == corners[-1] else corners


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ImageError("the coordinates of an outline are no list", given=str(value)[:80])
    return value
