"""Every reason and every oddity is explained, and raised by a test that is there; every profile says what it does."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from cxrgaze_ray.radiograph.preprocess import profile_names
from cxrgaze_ray.radiograph.preprocess.profiles import find_profile
from cxrgaze_ray.schemas import ODDITY_HELP, REASON_HELP, Oddity, Reason

TESTS = Path(__file__).parents[2]

RAISED_BY = {
    **dict.fromkeys(Reason, "test_radiograph_refusals.py::test_reason"),
    Reason.CONSTANT_IMAGE: "test_preprocess.py::test_a_constant_image_has_its_reason",
    Reason.DECODER_CRASH: "test_decoding.py::test_a_crash_is_the_images_reason_and_the_next_one_decodes",
    Reason.DECODE_TIMEOUT: "test_decoding.py::test_a_slow_image_is_a_timeout_and_the_next_one_decodes",
    Reason.MISSING: "test_manifest.py::test_a_listed_but_absent_file_is_a_row",
    Reason.CHANGED: "test_manifest.py::test_another_file_at_the_place_is_changed",
    Reason.INVALID_URI: "test_manifest_lists.py::test_an_entry_that_names_no_place_is_a_row",
    Reason.UNREADABLE: "test_gaps.py::test_a_file_that_may_not_be_read_is_a_row",
    Reason.LINK_OUTSIDE: "test_gaps.py::test_a_link_that_leads_out_is_a_row_and_is_not_followed",
    Reason.NO_GAZE_IN_IMAGE: "test_gaze.py::test_points_off_the_image_are_ignored",
}
"""A test for each reason, which raises it."""


def test_every_reason_and_oddity_is_explained() -> None:
    assert list(REASON_HELP) == list(Reason)
    assert list(ODDITY_HELP) == list(Oddity)
    assert all(text.endswith(".") for text in [*REASON_HELP.values(), *ODDITY_HELP.values()])


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_raised_by_a_test(reason: Reason) -> None:
    file, _, test = RAISED_BY[reason].partition("::")
    (path,) = TESTS.rglob(file)
    source = path.read_text(encoding="utf-8")
    assert test in {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
    assert f"Reason.{reason.name}" in source or f'"{reason}"' in source


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_says_what_it_does_and_where_it_is_from(name: str) -> None:
    told = type(find_profile(name)).__doc__ or ""
    assert told.startswith(f"``{name}``")
    assert "Source: " in told
