"""Draw a frontal chest radiograph: thicknesses of tissue, then what an X-ray beam leaves of them.

`canvas` has the coordinates and the brushes, `film` what follows the drawing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from cxrgaze_ray.phantoms.canvas import Canvas, Floats, mottle, quartic, smooth_curve, soft_step
from cxrgaze_ray.phantoms.film import USUAL, Technique, expose, finish
from cxrgaze_ray.schemas import CLASSES


@dataclass(frozen=True)
class Phantom:
    """One drawn radiograph.

    Attributes
    ----------
    image
        float32 (rows, columns) in [0,1], brighter is denser.
    label
        Index into CLASSES.
    landmarks
        Name to (y, x) in source pixels; ``finding`` are the abnormal places, if any.
    findings
        (y, x, radius) of what a reader would dwell on.
    cardiothoracic_ratio
        Widest heart over widest thorax.
    """

    image: Floats
    label: int
    landmarks: dict[str, tuple[float, float]]
    findings: tuple[tuple[float, float, float], ...]
    cardiothoracic_ratio: float


@dataclass(frozen=True)
class _Body:
    """Proportions of one patient."""

    half_width: float
    apex: float
    dome_right: float
    dome_left: float
    base: float
    ratio: float
    tilt: float
    ap: bool


@dataclass(frozen=True)
class _Finding:
    u: float
    v: float
    radius: float


def draw(
    rng: Generator,
    label: int,
    rows: int,
    columns: int,
    *,
    technique: Technique = USUAL,
    view: str = "PA",
    marker: bool = True,
) -> Phantom:
    """Draw one phantom.

    Parameters
    ----------
    rng
        All that varies comes from it.
    label
        Index into CLASSES: heart failure widens the heart, blunts the angles and hazes the hila; pneumonia
        consolidates a zone of one lung.
    rows, columns
        Size in pixels.
    technique
        How the detector turns the beam into greys.
    view
        PA or AP; AP magnifies the heart and stands less deep.
    """
    body = _body(rng, label, ap=view == "AP")
    canvas = Canvas(rows, columns, body.tilt)
    lungs = _lungs(canvas, body, rng)
    tissue = _torso(canvas, body, rng) - lungs * _lung_air(canvas, rng)
    tissue += _centre(canvas, body, rng) + _bones(canvas, body, rng) + _vessels(canvas, lungs, rng, label)
    tissue -= 0.30 * canvas.blob(0.36, body.dome_left + 0.13, 0.16, 0.055, 4) * rng.uniform(0.3, 1)  # stomach bubble
    change, findings = _disease(canvas, body, lungs, rng, label)
    film = expose(canvas, tissue + change, rng, technique)
    image = finish(film, rows, columns, rng, technique, marker=marker)
    size = (rows / canvas.height, columns / canvas.width)
    return Phantom(
        image=image,
        label=label,
        landmarks={name: _scaled(canvas.point(u, v), size) for name, (u, v) in _landmarks(body).items()},
        findings=tuple((*_scaled(canvas.point(f.u, f.v), size), f.radius * rows) for f in findings),
        cardiothoracic_ratio=body.ratio,
    )


def _scaled(point: tuple[float, float], size: tuple[float, float]) -> tuple[float, float]:
    return point[0] * size[0], point[1] * size[1]


def _body(rng: Generator, label: int, *, ap: bool) -> _Body:
    ratio = rng.uniform(0.53, 0.66) if CLASSES[label] == "heart_failure" else rng.uniform(0.42, 0.52)
    depth = rng.uniform(-0.02, 0.05) - (0.03 if ap else 0.0)
    return _Body(
        half_width=rng.uniform(0.74, 0.84),
        apex=rng.uniform(0.09, 0.13),
        dome_right=0.70 + depth + rng.uniform(-0.015, 0.015),
        dome_left=0.73 + depth + rng.uniform(-0.015, 0.015),
        base=0.86 + depth,
        ratio=ratio + (0.015 if ap else 0.0),
        tilt=rng.uniform(-0.03, 0.03),
        ap=ap,
    )


def _landmarks(body: _Body) -> dict[str, tuple[float, float]]:
    right = -2 * body.half_width * body.ratio * 0.36
    left = right + 2 * body.half_width * body.ratio
    return {
        "trachea": (0.0, 0.22),
        "apex_right": (-0.36, body.apex + 0.07),
        "apex_left": (0.36, body.apex + 0.07),
        "hilum_right": (-0.22, 0.44),
        "hilum_left": (0.24, 0.42),
        "mid_right": (-0.5, 0.5),
        "mid_left": (0.5, 0.5),
        "heart_right": (right, 0.66),
        "heart_left": (left, 0.68),
        "heart": ((left + right) / 2, 0.64),
        "angle_right": (-body.half_width + 0.04, body.base - 0.02),
        "angle_left": (body.half_width - 0.04, body.base - 0.02),
        "dome_right": (-0.36, body.dome_right),
        "dome_left": (0.4, body.dome_left),
    }


def _torso(canvas: Canvas, body: _Body, rng: Generator) -> Floats:
    """Soft tissue: neck, sloping shoulders, chest wall, and the abdomen below."""
    v = canvas.v
    shoulder = 0.34 + 0.86 * soft_step((v - 0.10) / 0.030)
    reach = np.where(v < 0.35, shoulder, 1.20 - 0.10 * np.clip((v - 0.35) / 0.5, 0, 1))
    inside = np.clip(1 - (np.abs(canvas.u) / (reach * (body.half_width / 0.80))) ** 5, 0, 1)
    wall: Floats = (1.05 * np.sqrt(inside)).astype(np.float32)
    breast = sum(canvas.blob(side * 0.47, 0.70, 0.34, 0.13, 4) for side in (-1, 1)) * rng.uniform(0.0, 0.16)
    belly = 0.55 * soft_step((v - body.base) / 0.05)
    return np.asarray(wall + breast * inside + belly * inside, np.float32)


def _lung_outline(body: _Body, side: int) -> NDArray[np.float64]:
    """Return a lung's outline: apex, lateral wall, costophrenic angle, dome, mediastinal side."""
    dome = body.dome_right if side < 0 else body.dome_left
    wall, angle = body.half_width, body.base + 0.01
    knots = np.array(
        [
            (0.13, 0.27), (0.15, body.apex + 0.07), (0.30, body.apex), (0.46, body.apex + 0.05), (0.60, 0.26),
            (wall - 0.07, 0.42), (wall - 0.015, 0.60), (wall, 0.74), (wall - 0.02, angle), (wall - 0.06, angle - 0.025),
            (wall - 0.19, dome + 0.05), (0.42, dome), (0.26, dome + 0.012), (0.12, dome + 0.06), (0.10, 0.55),
        ]
    )  # fmt: skip
    mirrored: NDArray[np.float64] = smooth_curve(knots, closed=True) * np.array([side, 1.0])
    return mirrored


def _lungs(canvas: Canvas, body: _Body, rng: Generator) -> Floats:
    both = sum(canvas.polygon(_lung_outline(body, side), blur=0.006) for side in (-1, 1))
    return np.clip(both, 0, 1).astype(np.float32) * np.float32(rng.uniform(0.94, 1.0))


def _lung_air(canvas: Canvas, rng: Generator) -> Floats:
    """Return how much tissue a lung takes away: more towards its middle, with a slow mottle."""
    depth = 0.72 + 0.16 * np.exp(-(((np.abs(canvas.u) - 0.45) / 0.30) ** 2)) - 0.10 * (canvas.v - 0.4)
    return np.asarray(depth * (1 + 0.05 * mottle(canvas, rng, 24)), np.float32)


def _centre(canvas: Canvas, body: _Body, rng: Generator) -> Floats:
    """Mediastinum, heart, aortic knob, spine and trachea."""
    band = np.exp(-quartic(canvas.u / (0.135 + 0.05 * canvas.v))) * 0.44
    spine = np.exp(-quartic(canvas.u / 0.075)) * (0.10 + 0.06 * np.cos(2 * np.pi * canvas.v / 0.052))
    knob = 0.30 * canvas.blob(0.13, 0.335, 0.085, 0.048, 4)
    trachea = np.exp(-quartic((canvas.u - 0.005) / 0.035)) * soft_step((0.36 - canvas.v) / 0.012) * 0.30
    bronchi = [
        smooth_curve(np.array([(0.0, 0.36), (s * 0.10, 0.40), (s * 0.17, 0.435)]), closed=False) for s in (-1, 1)
    ]
    airway = trachea + 0.18 * canvas.lines(bronchi, 0.016, 0.004)
    return np.asarray(band + spine + knob + _heart(canvas, body) - airway + 0.02 * mottle(canvas, rng, 12), np.float32)


def _heart(canvas: Canvas, body: _Body) -> Floats:
    width = 2 * body.half_width * body.ratio
    right, left = -0.36 * width, 0.64 * width
    bottom = (body.dome_left + body.dome_right) / 2 + 0.05
    knots = np.array(
        [
            (-0.08, 0.38), (0.10, 0.38), (0.17, 0.44), (0.55 * left + 0.06, 0.52), (0.90 * left, 0.62),
            (left, bottom - 0.075), (0.88 * left, bottom), (0.3 * left, bottom + 0.03),
            (0.6 * right, bottom + 0.01), (right, bottom - 0.09),
            (0.93 * right, bottom - 0.17), (0.75 * right - 0.03, 0.47),
        ]
    )  # fmt: skip
    # below the domes it lies on the liver, and adds little to it
    above = 0.25 + 0.75 * soft_step((bottom - 0.035 - canvas.v) / 0.02)
    return 0.62 * canvas.polygon(smooth_curve(knots, closed=True), blur=0.008) * above


def _rib(side: int, v: float, reach: float, drop: float) -> NDArray[np.float64]:
    """Return a posterior rib's course: up and out from the spine, then down along the wall."""
    t = np.linspace(0, 1, 40)
    u = 0.10 + (reach - 0.10) * np.sin(t * np.pi / 2) ** 0.9
    return np.stack([side * u, v - 0.035 * np.sin(np.pi * t) + drop * t**2.2], axis=1)


def _front_rib(side: int, v: float, reach: float) -> NDArray[np.float64]:
    t = np.linspace(0, 1, 30)
    return np.stack([side * (reach - (reach - 0.28) * t), v + 0.10 * t**1.3 + 0.015 * np.sin(np.pi * t)], axis=1)


def _bones(canvas: Canvas, body: _Body, rng: Generator) -> Floats:
    """Ribs as bands with denser edges, clavicles, edges of the shoulder blades."""
    bones = np.zeros((canvas.height, canvas.width), np.float32)
    strength = rng.uniform(0.8, 1.25)
    ribs = []
    for index in range(10):
        v = 0.135 + 0.069 * index + rng.uniform(-0.004, 0.004)
        reach = body.half_width * (0.62 + 0.38 * min(1.0, (index + 0.6) / 4))
        ribs += [_rib(side, v, reach, 0.05 + 0.017 * index) for side in (-1, 1)]
    edges = [rib + np.array([0.0, offset]) for rib in ribs for offset in (-0.0105, 0.0105)]
    bones += strength * (0.095 * canvas.lines(ribs, 0.021, 0.003) + 0.055 * canvas.lines(edges, 0.003, 0.0015))
    front = [
        _front_rib(side, 0.20 + 0.085 * index, body.half_width * 0.97) for side in (-1, 1) for index in range(1, 6)
    ]
    bones += strength * 0.055 * canvas.lines(front, 0.024, 0.004)
    lift = rng.uniform(-0.02, 0.02)
    knots = np.array([(0.07, 0.195), (0.22, 0.165 + lift), (0.42, 0.150 + lift), (0.62, 0.115 + lift), (0.86, 0.105)])
    clavicles = [smooth_curve(knots * np.array([side, 1.0]), closed=False) for side in (-1, 1)]
    edges = [curve + np.array([0.0, offset]) for curve in clavicles for offset in (-0.012, 0.012)]
    bones += 0.20 * canvas.lines(clavicles, 0.026, 0.003) + 0.08 * canvas.lines(edges, 0.004, 0.0015)
    blade = np.array([(0.66, 0.16), (0.72, 0.26), (0.78, 0.38), (0.84, 0.44), (0.93, 0.36)])
    blades = [smooth_curve(blade * np.array([side, 1.0]), closed=False) for side in (-1, 1)]
    return bones + 0.10 * canvas.lines(blades, 0.012, 0.003)


def _vessels(canvas: Canvas, lungs: Floats, rng: Generator, label: int) -> Floats:
    """Vessels that branch out from the hila and thin towards the wall; congestion feeds the upper ones too."""
    total = np.zeros((canvas.height, canvas.width), np.float32)
    failing = CLASSES[label] == "heart_failure"
    by_width: dict[int, list[NDArray[np.float64]]] = {0: [], 1: [], 2: [], 3: []}
    for side, v in ((-1, 0.44), (1, 0.42)):
        for _ in range(13):
            angle = rng.uniform(-1.35, 1.45) if failing else rng.uniform(-0.95, 1.45)
            _branch(by_width, rng, np.array([side * 0.17, v + rng.uniform(-0.03, 0.04)]), side, angle, 0)
        total += 0.20 * canvas.blob(side * 0.20, v + 0.01, 0.085, 0.060, 2) * (1.5 if failing else 1.0)
    for order, width in enumerate((0.0105, 0.007, 0.0045, 0.003)):
        total += (0.15, 0.11, 0.08, 0.05)[order] * canvas.lines(by_width[order], width, 0.0018) * lungs
    return total


def _branch(
    out: dict[int, list[NDArray[np.float64]]],
    rng: Generator,
    start: NDArray[np.float64],
    side: int,
    angle: float,
    order: int,
) -> None:
    length = rng.uniform(0.10, 0.17) * 0.82**order
    t = np.linspace(0, 1, 8)[:, None]
    bend = rng.uniform(-0.35, 0.35)
    heading = angle + bend * t
    step = np.concatenate([side * 1.35 * np.cos(heading), np.sin(heading)], axis=1) * length
    curve = start + step * t
    out[order].append(curve)
    if order < 3:
        for turn in (rng.uniform(0.15, 0.6), -rng.uniform(0.15, 0.6)):
            _branch(out, rng, curve[-1], side, angle + bend + turn, order + 1)


def _disease(
    canvas: Canvas, body: _Body, lungs: Floats, rng: Generator, label: int
) -> tuple[Floats, tuple[_Finding, ...]]:
    name = CLASSES[label]
    if name == "heart_failure":
        return _failure(canvas, body, lungs, rng)
    if name == "pneumonia":
        return _consolidation(canvas, lungs, rng)
    return np.zeros((canvas.height, canvas.width), np.float32), ()


def _failure(canvas: Canvas, body: _Body, lungs: Floats, rng: Generator) -> tuple[Floats, tuple[_Finding, ...]]:
    """Effusions that blunt the angles, haze about the hila, short septal lines near the base."""
    change = np.zeros((canvas.height, canvas.width), np.float32)
    places = _landmarks(body)
    findings = [_Finding(*places["heart"], 0.10), _Finding(*places["heart_left"], 0.05)]
    for side, angle in ((-1, "angle_right"), (1, "angle_left")):
        height = rng.uniform(0.03, 0.13)
        # fluid climbs along the wall: a meniscus
        lateral = np.clip((side * canvas.u - 0.15) / (body.half_width - 0.15), 0, 1)
        level = body.base + 0.03 - height * (0.35 + 0.65 * lateral**3)
        change += 0.75 * lungs * soft_step((canvas.v - level) / 0.010) * (side * canvas.u > 0)
        findings.append(_Finding(*places[angle], 0.05))
        haze = canvas.blob(side * 0.26, 0.45, 0.24, 0.16) * (1 + 0.3 * mottle(canvas, rng, 20))
        change += rng.uniform(0.08, 0.24) * haze * lungs
        wall = body.half_width - 0.03
        septal = [np.array([(side * (wall - 0.07), v), (side * wall, v + 0.004)]) for v in rng.uniform(0.62, 0.82, 6)]
        change += 0.09 * canvas.lines(septal, 0.0025, 0.001)
    return change.astype(np.float32), tuple(findings)


def _consolidation(canvas: Canvas, lungs: Floats, rng: Generator) -> tuple[Floats, tuple[_Finding, ...]]:
    """A cloud in one zone of one lung, some subtle, with hints of air-filled bronchi."""
    side = int(rng.choice([-1, 1]))
    zone = rng.choice(3, p=[0.25, 0.3, 0.45])
    u, v = side * rng.uniform(0.36, 0.56), (0.24, 0.46, 0.64)[zone] + rng.uniform(-0.04, 0.04)
    radius_v = rng.uniform(0.07, 0.13)
    radius_u = radius_v * rng.uniform(1.5, 2.3)
    texture = 1 + 0.35 * mottle(canvas, rng, 18) + 0.2 * mottle(canvas, rng, 40)
    cloud = canvas.blob(u, v, radius_u, radius_v, 3) * np.clip(texture, 0.2, 1.8)
    bronchi: dict[int, list[NDArray[np.float64]]] = {0: [], 1: [], 2: [], 3: []}
    _branch(bronchi, rng, np.array([side * 0.25, v]), side, 0.0, 0)
    air = canvas.lines(bronchi[0] + bronchi[1], 0.005, 0.0015)
    density = rng.uniform(0.26, 0.62)
    change = density * cloud * lungs * (1 - 0.35 * air)
    return change.astype(np.float32), (_Finding(u, v, float(radius_v)),)
