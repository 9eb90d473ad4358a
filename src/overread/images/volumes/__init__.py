"""Volumes: NIfTI, NRRD, MetaImage, series; planes and patches in millimetres, RAS."""

from overread.images.volumes.grid import Volume, centre_of, patch, plane, resample, scaled, three_views
from overread.images.volumes.volume import geometry_of, read_volume

__all__ = ["Volume", "centre_of", "geometry_of", "patch", "plane", "read_volume", "resample", "scaled", "three_views"]
