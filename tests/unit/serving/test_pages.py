"""The pages' own files."""

from __future__ import annotations

import re
from importlib import resources

import cv2
import numpy as np

from cxrgaze_ray.serving.pages import _FILES

FILES = resources.files("cxrgaze_ray.serving") / "static"


def test_the_map_has_the_colours_of_the_reports() -> None:
    source = (FILES / "overlay.js").read_text().partition("const INFERNO")[2].partition("];")[0]
    stops = [[int(value) for value in stop] for stop in re.findall(r"\[(\d+), (\d+), (\d+)\]", source)]
    levels = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    assert stops == [levels[min(255, 16 * index)].tolist() for index in range(17)]


def test_pages_ask_for_files_that_are_served_and_for_nothing_else() -> None:
    for page in ("try.html", "docs.html"):
        text = (FILES / page).read_text()
        asked = re.findall(r'(?:src|href)="([^"]+)"', text)
        assert {one.removeprefix("static/") for one in asked} - {"docs", "openapi.json"} <= _FILES.keys()
        assert "style=" not in text
        assert not re.search(r"<script(?![^>]*src=)|\son[a-z]+=", text), "the policy forbids scripts in a page"


def test_every_file_is_there_and_leads_nowhere_else() -> None:
    ours = {one.name for one in FILES.iterdir()} - {"try.html", "docs.html"}
    assert ours == {name for name, (package, _) in _FILES.items() if package == "cxrgaze_ray.serving"}
    for name in ours - {"icon.svg"}:
        assert "://" not in (FILES / name).read_text()
    for name, (package, _) in _FILES.items():
        assert (resources.files(package) / "static" / name).is_file()
