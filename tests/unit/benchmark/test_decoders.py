"""The race of libraries: who is named first is who decodes here, and lossless ones agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cxrgaze_ray.benchmark import samples
from cxrgaze_ray.benchmark.decoders import bench_decoders
from cxrgaze_ray.benchmark.samples import Sample, archive_samples
from cxrgaze_ray.errors import UserError
from cxrgaze_ray.phantoms.anatomy import draw


def test_lossless_libraries_agree_to_the_bit() -> None:
    picture = draw(np.random.default_rng(0), 0, 96, 80).image
    drawn = [Sample(name, encode(picture)) for name, encode in samples._ENCODERS.items()]
    found = list(bench_decoders(drawn, 1))
    lossless = {"DICOM deflated", "DICOM HTJ2K", "DICOM JPEG 2000", "PNG 8 bit", "PNG 16 bit"}
    assert {one.format for one in found} == set(samples._ENCODERS), "no format is left out without a word"
    lonely = {one.format for one in found if one.same is None}
    assert lonely == set(samples._ENCODERS) - lossless - {"DICOM JPEG baseline", "JPEG"}
    others = {one.library for one in found if one.format in lossless and not one.same}
    assert others == {"Pillow (OpenJPEG)"}, "it stretches 12 bits to 16; ours undoes that where it is used"
    assert all(one.timing.seconds > 0 for one in found if one.timing)


def test_a_library_that_cannot_take_the_bytes_is_left_out() -> None:
    (one,) = bench_decoders([Sample("cut", b"\xff\xd8\xff\xe0")], 1)
    assert (one.format, one.library, one.timing, one.same) == ("cut", None, None, None)


def test_an_archive_of_broken_files_gives_nothing_to_race(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UserError, match=r"No file.*can be read.*archive look"):
        archive_samples(str(tmp_path), 3)
