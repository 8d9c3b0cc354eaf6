"""Pictures that other systems got wrong in silence: here each is the control's picture, or refused for what is true."""

from __future__ import annotations

import numpy as np
import pytest

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.preprocess import prepare
from cxrgaze_ray.radiograph import Reading, read_radiograph
from cxrgaze_ray.schemas import Reason
from tests.awkward_files import control, refused, same_picture
from tests.dicom_files import make_dicom

SAME = same_picture()
REFUSED = refused()
CONTROL = prepare(read_radiograph(make_dicom(control(), BitsStored=12)))
TOLERANCE = 3 / 255


def apart(data: bytes, reading: Reading | None = None) -> float:
    image = prepare(read_radiograph(data, reading))
    return float(np.abs(image.pixels.astype(np.int64) - CONTROL.pixels).mean() / 65535)


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("reduced", [False, True], ids=["full", "reduced"])
def test_it_is_the_controls_picture(name: str, reduced: bool) -> None:
    radiograph = read_radiograph(SAME[name], Reading(reduced=reduced))
    assert apart(SAME[name], Reading(reduced=reduced)) < TOLERANCE
    assert radiograph.facts.photometric_check in ("agrees", "unsure")


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_transfer_syntax_is_not_called_a_cut_file(name: str) -> None:
    with pytest.raises(RadiographError) as caught:
        read_radiograph(REFUSED[name])
    assert caught.value.reason == Reason.WRONG_TRANSFER_SYNTAX
