"""Seeded phantom chest radiographs and scan paths, in the MIMIC-CXR and EGD-CXR layouts.

`anatomy` draws, `scanpath` looks, `files` writes one image as a hospital's device would, `faults` writes broken ones,
`drift` shifts what they do, `archive` puts them together.
"""

from cxrgaze_ray.phantoms.anatomy import Phantom, draw
from cxrgaze_ray.phantoms.archive import GAZE_FOLDER, PhantomReport, Planted, make_archive
from cxrgaze_ray.phantoms.drift import Drift

__all__ = ["GAZE_FOLDER", "Drift", "Phantom", "PhantomReport", "Planted", "draw", "make_archive"]
