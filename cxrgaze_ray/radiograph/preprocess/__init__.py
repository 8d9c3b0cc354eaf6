"""Radiograph to model image: named profiles, and the only resize and normalise there is."""

from __future__ import annotations

from cxrgaze_ray.radiograph.preprocess.geometry import fit
from cxrgaze_ray.radiograph.preprocess.image import ModelImage, draw_picture, prepare
from cxrgaze_ray.radiograph.preprocess.network import gaze_to_network, to_network
from cxrgaze_ray.radiograph.preprocess.profiles import (
    DEFAULT_PROFILE,
    Profile,
    check_reducible,
    profile_names,
    profile_sha256,
)

__all__ = [
    "DEFAULT_PROFILE",
    "ModelImage",
    "Profile",
    "check_reducible",
    "draw_picture",
    "fit",
    "gaze_to_network",
    "prepare",
    "profile_names",
    "profile_sha256",
    "to_network",
]
