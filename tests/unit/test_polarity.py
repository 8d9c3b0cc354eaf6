"""Polarity by the picture: right on films shown right, wrong on inverted ones, unsure on what is no chest film."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cxrgaze_ray.phantoms.anatomy import draw
from cxrgaze_ray.radiograph import Facts, Radiograph, read_radiograph
from cxrgaze_ray.radiograph.polarity import check_polarity
from tests.dicom_files import make_dicom, picture
