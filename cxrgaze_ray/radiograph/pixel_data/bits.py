"""Which bits of a decoded sample are the pixel, where tags, the compressed image and the values do not agree on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.radiograph.pixel_data.bounds import BAD_DATA
from cxrgaze_ray.radiograph.pixel_data.codestream import Codestream
from cxrgaze_ray.radiograph.pixel_data.tags import integer
from cxrgaze_ray.schemas import Oddity, Reason

_MOST_PAIRS = 2**20
_CLEARLY = 0.8
"""Share of the neighbours between which two readings part that go on smoothly in a picture, and must not in the other
one: 0.87 to 0.96 in noisy pictures of 16 bits, half in noise that is no picture."""

_DROPPED = 0.95
"""The same before bits are dropped for being stray."""

_NEAR = 16
"""Neighbours go on smoothly if they differ by less than this part of the range: white letters on a dark picture do not,
whichever way their bits are read."""

_SPARSE = 0.01
"""Share of the samples that may be markers brighter than BitsStored allows."""

_SAME, _TOLD, _OTHER, _UNCLEAR = "same", "told", "other", "unclear"

_OTHER_BITS = (1, 24, 32, 64)
"""Of segmentations, colours, doses and floats (PS3.5 8.1.1)."""

_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)


@dataclass(frozen=True)
class Layout:
    """How a pixel lies in memory: as the tags say, or as the pixels themselves do.

    Attributes
    ----------
    rows, columns
        Size in pixels.
    samples
        Channels of a pixel.
    allocated, stored, high_bit
        Bits of a sample, those that are used, and the highest of these.
    signed
        Whether samples are in two's complement.
    overlays
        Bits of a sample in which the tags say that overlays lie.
    """

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    overlays: int = 0


def read_layout(dataset: Dataset, samples: int) -> Layout:
    """Read and check the tags that say how a pixel is stored; bits default to those of BitsAllocated."""
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    allocated = integer(dataset, "BitsAllocated") or 0
    stored = integer(dataset, "BitsStored") or allocated
    high_bit = integer(dataset, "HighBit")
    if allocated in _OTHER_BITS:
        raise RadiographError(Reason.UNSUPPORTED_BITS, "The pixels are not of 8 to 16 bits.")
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise RadiographError(Reason.CORRUPT, "The tags on the bits of a pixel can't be.")
    if high_bit is None or not stored <= high_bit + 1 <= allocated:
        high_bit = stored - 1
    signed = samples == 1 and integer(dataset, "PixelRepresentation") == 1
    return Layout(rows, columns, samples, allocated, stored, high_bit, signed, _overlays(dataset))


def settle(
    decoded: NDArray[np.integer], layout: Layout, header: Codestream | None, *, shifted: bool
) -> tuple[NDArray[np.integer], Layout, set[Oddity]]:
    """Take the stored values out of decoded samples, by the tags or by what the pixels say of themselves.

    Where the tags' reading and the other one are different pictures, the picture is the one that goes on smoothly
    where they part: a wrong sign or a lost high bit jumps there by half the range or more, a stray bit by all of it. If
    that does not tell, the compressed image is believed on its bits, as pydicom does, and so are a few values above
    BitsStored, which are markers; on the sign nobody is.

    Parameters
    ----------
    decoded
        (rows, columns) or (rows, columns, samples), 8 or 16 bits.
    layout
        The tags'.
    header
        What the compressed image says of itself; None if it says nothing.
    shifted
        Whether HighBit counts: compressed pixels always start at bit 0.

    Returns
    -------
    NDArray
        uint8, uint16, int8 or int16 with values that fit the layout.
    Layout
        The one that holds.
    set of Oddity
        What the tags were wrong about.

    Raises
    ------
    RadiographError
        CORRUPT if neither reading is clearly a picture.
    """
    decoded = _without_overlays(decoded, layout, shifted=shifted)
    told = mask(decoded, layout, shifted=shifted)
    others = _others(layout, header, shifted=shifted)
    oddities = _oddities(layout, others, header)
    if not others or (header is None and not _spills(decoded, layout)):
        return told, layout, oddities
    unclear = False
    for other in others:
        found = mask(decoded, other, shifted=shifted)
        period = 2 ** min(layout.stored, other.stored)
        verdict = _compare(found, told, period, dropped=other.stored > layout.stored)
        if verdict != _SAME:
            oddities = oddities or {Oddity.BITS}
        if verdict == _OTHER:
            return found, other, oddities
        unclear = unclear or verdict == _UNCLEAR
    if not unclear:
        return told, layout, oddities
    if (header is None or header.signed is None) and _is_sign(decoded, layout):
        return told, layout, _oddities(layout, others, header)
    sparse = header is None and _spilt(decoded, layout) <= _SPARSE * decoded.size
    if (header is None and not sparse) or Oddity.SIGN in oddities:
        raise RadiographError(Reason.CORRUPT, "The tags contradict the pixel values on their bits or their sign.")
    return mask(decoded, others[0], shifted=shifted), others[0], oddities


def mask(pixels: NDArray[np.integer], layout: Layout, *, shifted: bool) -> NDArray[np.integer]:
    """Keep the bits stored, and extend the sign.

    Parameters
    ----------
    pixels
        8 or 16 bits a sample, as decoded.
    layout
        BitsStored and HighBit.
    shifted
        Whether HighBit counts.

    Returns
    -------
    NDArray
        uint8, uint16, int8 or int16 with values that fit BitsStored.
    """
    width = 8 * pixels.dtype.itemsize
    if width > 16:
        pixels, width = pixels.astype(np.uint16), 16
    above = width - (layout.high_bit + 1 if shifted else layout.stored)
    unsigned = pixels.view(f"u{width // 8}")
    if layout.stored >= width:
        return pixels.view(f"i{width // 8}") if layout.signed else unsigned
    lifted = np.left_shift(unsigned, above) if above else unsigned
    lifted = lifted.view(f"i{width // 8}") if layout.signed else lifted
    return np.asarray(np.right_shift(lifted, width - layout.stored))


def _without_overlays(decoded: NDArray[np.integer], layout: Layout, *, shifted: bool) -> NDArray[np.integer]:
    """Clear the bits in which the tags say that overlays lie, where these are none of the pixel's."""
    pixel = (2**layout.stored - 1) << (layout.high_bit + 1 - layout.stored if shifted else 0)
    clear = layout.overlays & ~pixel & (2 ** (8 * decoded.itemsize) - 1)
    if not clear:
        return decoded
    unsigned = decoded.view(f"u{decoded.itemsize}")
    kept: NDArray[np.integer] = unsigned & unsigned.dtype.type(~clear & np.iinfo(unsigned.dtype).max)
    return kept.view(decoded.dtype)


def _others(layout: Layout, header: Codestream | None, *, shifted: bool) -> list[Layout]:
    """Return the layouts that are not the tags': of the compressed image, or with all the bits above those stored."""
    if header is not None:
        bits = replace(layout, stored=header.precision, high_bit=header.precision - 1)
        signed = layout.signed if header.signed is None else header.signed
        found = [replace(bits, signed=signed), bits]
    else:
        spare = layout.allocated - 1 - layout.high_bit if shifted else 0
        found = [replace(layout, stored=layout.stored + spare, high_bit=layout.high_bit + spare)]
    told = (layout.stored, layout.signed)
    return [other for other in dict.fromkeys(found) if (other.stored, other.signed) != told]


def _oddities(layout: Layout, others: list[Layout], header: Codestream | None) -> set[Oddity]:
    """Say on what a compressed image contradicts the tags."""
    if header is None or not others:
        return set()
    bits = {Oddity.BITS} if others[0].stored != layout.stored else set()
    return bits | ({Oddity.SIGN} if others[0].signed != layout.signed else set())


def _spills(decoded: NDArray[np.integer], layout: Layout) -> bool:
    """Say whether any sample has bits above those stored."""
    return bool(decoded.view(f"u{decoded.itemsize}").max(initial=0) >> (layout.high_bit + 1))


def _spilt(decoded: NDArray[np.integer], layout: Layout) -> int:
    """Count the samples that have bits above those stored."""
    return int(np.count_nonzero(decoded.view(f"u{decoded.itemsize}") >> (layout.high_bit + 1)))


def _is_sign(decoded: NDArray[np.integer], layout: Layout) -> bool:
    """Say whether the bits above those stored hold nothing but a sign, or zeros where a writer cut it off."""
    if not layout.signed:
        return False
    above = decoded.view(f"u{decoded.itemsize}") >> (layout.high_bit + 1)
    return bool(((above == 0) | (above == above.max(initial=0))).all())


def _compare(found: NDArray[np.integer], told: NDArray[np.integer], period: int, *, dropped: bool) -> str:
    """Say which of two readings is a picture, by the neighbours between which they part.

    Parameters
    ----------
    found, told
        The reading without the tags, and theirs.
    period
        Step by which a wrong reading jumps, or half of it.
    dropped
        Whether the tags' reading drops bits. Then the other one has a wider range, in which noise goes further.
    """
    step, parted = max(1, found.size // _MOST_PAIRS), 0
    near, within = np.zeros(2, np.int64), np.zeros(2, np.int64)
    for axis, lines in ((1, np.s_[::step]), (0, np.s_[:, ::step])):
        jumps = [np.abs(np.diff(one[lines].astype(np.int32), axis=axis)) for one in (found, told)]
        parts = jumps[0] != jumps[1]
        parted += int(parts.sum())
        near += [int((jump[parts] < period // _NEAR).sum()) for jump in jumps]
        within += [int((jump[parts] < period // 2).sum()) for jump in jumps]
    if not parted:  # one picture, but for a constant
        return _SAME
    smooth = within[0] if dropped else near[0]
    if smooth >= _CLEARLY * parted and within[1] <= (1 - _CLEARLY) * parted:
        return _OTHER
    needed = _DROPPED if dropped else _CLEARLY
    return _TOLD if near[1] >= needed * parted and within[0] <= (1 - needed) * parted else _UNCLEAR


def _overlays(dataset: Dataset) -> int:
    """Return the bits of a sample in which overlays lie (PS3.3 C.9.2, retired, of files before 2004)."""
    bits = 0
    for group in _OVERLAY_GROUPS:
        place = _element(dataset, group, 0x0102)
        if place is not None and 0 < place < 16 and (group, 0x3000) not in dataset:
            bits |= 1 << place
    return bits


def _element(dataset: Dataset, group: int, number: int) -> int | None:
    try:
        value: Any = dataset[group, number].value if (group, number) in dataset else None
        return int(value) if value is not None else None
    except BAD_DATA:
        return None
