"""Volumes: NIfTI, NRRD, MetaImage, series; planes and patches in millimetres, RAS."""

from overread.images.volumes.volume import (
    Volume,
    centre_of,
    digest_of,
    geometry_of,
    patch,
    plane,
    read_image_of,
    read_volume,
    resample,
    scaled,
    shape_of,
    sniff,
    three_views,
)

__all__ = [
    "Volume",
    "centre_of",
    "digest_of",
    "geometry_of",
    "patch",
    "plane",
    "read_image_of",
    "read_volume",
    "resample",
    "scaled",
    "shape_of",
    "sniff",
    "three_views",
]
