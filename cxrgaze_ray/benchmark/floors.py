"""The least that ratios may be, beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import yaml


@dataclass(frozen=True)
class Miss:
    """A ratio below its floor."""

    name: str
    ratio: float
    floor: float


def misses(kind: str, ratios: Mapping[str, float]) -> list[Miss]:
    """Return the ratios below their floors in floors.yaml; those without a floor are not judged.

    Parameters
    ----------
    kind
        Key of the file: what was measured, on which kind of hardware.
    ratios
        By name.
    """
    floors = yaml.safe_load(files(__package__).joinpath("floors.yaml").read_text())
    return [
        Miss(name, ratios[name], floor)
        for name, floor in floors.get(kind, {}).items()
        if name in ratios and ratios[name] < floor
    ]
