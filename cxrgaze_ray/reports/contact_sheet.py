"""Contact sheet: what a profile makes of a sample of an archive, so that a person sees what is wrong at once.

Captions name nobody, but the pictures are of patients: a sheet is to be kept as its archive is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cxrgaze_ray.archive.manifest import Manifest, fetch_listed
from cxrgaze_ray.errors import RadiographError
from cxrgaze_ray.gaze.saliency import png_bytes
from cxrgaze_ray.radiograph.decoding import Decoder
from cxrgaze_ray.radiograph.preprocess import check_reducible
from cxrgaze_ray.radiograph.reading import Reading
from cxrgaze_ray.schemas import REASON_HELP, RESEARCH_ONLY, SKIPS, Oddity, Reason, split_oddities

THUMB = (250, 200)
"""Height and width of a model image on the sheet."""

_GAP, _LINE, _MARGIN = 14, 16, 24
_TITLE, _TEXT, _WORD = 22, 12, 15
_BACKGROUND, _EMPTY, _FAINT, _PLAIN, _BRIGHT = (20, 22, 26), (36, 39, 45), (140, 146, 156), (205, 209, 216), (255,) * 3
_RED, _YELLOW, _ORANGE = (255, 66, 66), (250, 204, 72), (255, 158, 84)
_MARKS = {"disagrees": (_RED, "POLARITY DISAGREES", 5), "unsure": (_YELLOW, "polarity unsure", 2)}

Colour = tuple[int, ...]


@dataclass(frozen=True)
class Tile:
    """One image of the sheet.

    Attributes
    ----------
    lines
        Caption: no patient data, and nothing of the file's place.
    picture
        uint8 of `THUMB`, the whole model image, padding included; None if there is none.
    reason
        Why there is none.
    polarity
        `Facts.photometric_check`.
    oddities
        What was odd about the file.
    """

    lines: tuple[str, ...]
    picture: NDArray[np.uint8] | None = None
    reason: Reason | None = None
    polarity: str | None = None
    oddities: tuple[Oddity, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """A drawn sheet, and what stands on it.

    Attributes
    ----------
    png
        The picture.
    files, sampled
        Files of the archive, and those that were looked at.
    shown, reasons
        Images with a picture under every profile; first reasons of the others, by code.
    polarity
        Images by `Facts.photometric_check`.
    oddities
        Images by what was odd about them; one may have several.
    """

    png: bytes
    files: int
    sampled: int
    shown: int
    reasons: dict[str, int] = field(default_factory=dict)
    polarity: dict[str, int] = field(default_factory=dict)
    oddities: dict[str, int] = field(default_factory=dict)


def sample_rows(table: pa.Table, count: int, seed: int) -> pa.Table:
    """Return rows spread over a manifest: a random one of each of `count` equal parts, the same for the same seed."""
    bounds = np.linspace(0, table.num_rows, min(count, table.num_rows) + 1).astype(np.int64)
    return table.take(np.random.default_rng(seed).integers(bounds[:-1], bounds[1:]))


def make_sheet(
    manifest: Manifest,
    profiles: Sequence[str],
    *,
    sample: int = 24,
    seed: int = 0,
    reading: Reading | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Sheet:
    """Decode a sample of an archive, and draw it.

    Parameters
    ----------
    profiles
        One gives a grid of images; several stand side by side, a row an image.
    sample, seed
        How many files, and which.
    reading
        As for scoring.

    Raises
    ------
    ConfigError
        If a profile is unknown, or can't be combined with reduced decoding.
    EnvironmentFault
        If the store can't be read.
    """
    reading = reading or Reading()
    for profile in profiles if reading.reduced else ():
        check_reducible(profile)
    rows = sample_rows(manifest.table, sample, seed).to_pylist()
    looks = []
    with ExitStack() as open_until_done:
        decoders = {name: open_until_done.enter_context(Decoder(name, reading=reading)) for name in profiles}
        for done, row in enumerate(rows):
            on_progress(done, len(rows))
            looks.append(_look(row, decoders))
    on_progress(len(rows), len(rows))
    reasons = Counter(str(next(tile.reason for tile in look if tile.reason)) for look in looks if _refused(look))
    polarity = Counter(next((tile.polarity for tile in look if tile.polarity), "unknown") for look in looks)
    oddities = Counter(str(word) for look in looks for word in {word for tile in look for word in tile.oddities})
    title = f"{' | '.join(profiles)}: {len(rows)} of {manifest.table.num_rows} files, seed {seed}" + (
        ", reduced decoding" if reading.reduced else ""
    )
    shown = len(looks) - reasons.total()
    png = draw(title, _told(shown, reasons, polarity, oddities), looks)
    return Sheet(png, manifest.table.num_rows, len(rows), shown, dict(reasons), dict(polarity), dict(oddities))


def _refused(look: Sequence[Tile]) -> bool:
    return any(tile.reason for tile in look)


def _told(shown: int, reasons: Counter[str], polarity: Counter[str], oddities: Counter[str]) -> str:
    marks = [f"{polarity[name]} of polarity that {words}" for name, words in _DOUBTS.items() if polarity[name]]
    odd = [f"{count} odd: {_words(word)}" for word, count in oddities.most_common()]
    counts = [f"{count} {reason}" for reason, count in reasons.most_common()]
    return ", ".join([f"{shown} shown", *counts, *marks, *odd])


def _words(word: str) -> str:
    return word.replace("_", " ")


_DOUBTS = {"disagrees": "disagrees with the tag", "unsure": "the picture does not tell"}


def _look(row: dict[str, Any], decoders: dict[str, Decoder]) -> list[Tile]:
    try:
        data = fetch_listed(row)
    except RadiographError as error:
        return [_refusal(row, error)] * len(decoders)
    return [_tile(row, data, name if len(decoders) > 1 else "", decoder) for name, decoder in decoders.items()]


def _tile(row: dict[str, Any], data: bytes, profile: str, decoder: Decoder) -> Tile:
    try:
        decoded = decoder.decode(data, row["view_position"], row["view_source"])
    except RadiographError as error:
        return _refusal(row, error, profile)
    grey = (decoded.pixels >> 8).astype(np.uint8)
    picture = np.asarray(cv2.resize(grey, THUMB[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    check = decoded.facts.get("photometric_check")
    odd = tuple(split_oddities(decoded.facts.get("oddities")))
    return Tile(caption(row, decoded.facts, profile), picture, polarity=check, oddities=odd)


def _refusal(row: dict[str, Any], error: RadiographError, profile: str = "") -> Tile:
    return Tile(caption(row, error.facts, profile), reason=Reason(error.reason))


def caption(row: dict[str, Any], facts: dict[str, Any], profile: str = "") -> tuple[str, ...]:
    """Say what is known of an image in up to three lines: closed words, numbers and the start of its row's id only."""
    view = facts.get("view_position") or row["view_position"] or "view unknown"
    bits = facts.get("bits_stored")
    size = f"{facts['rows']}x{facts['columns']}" if facts.get("rows") and facts.get("columns") else ""
    decode = facts.get("decode") or "full"
    lines = (
        ((row["image_id"] or "")[:8], profile or view),
        (facts.get("photometric"), f"{bits} bit" if bits else ""),
        (row["format"], size, decode if decode != "full" else ""),
    )
    return tuple("  ".join(filter(None, line)) for line in lines if any(line))


def draw(title: str, subtitle: str, looks: Sequence[Sequence[Tile]], across: int = 6) -> bytes:
    """Draw tiles as a PNG: several of an image in a row of their own, single ones in a grid.

    Parameters
    ----------
    looks
        The tiles of every image.
    across
        Columns of the grid.
    """
    single = all(len(look) == 1 for look in looks)
    columns = min(across, len(looks)) if single else max(len(look) for look in looks)
    places = [(i // columns, i % columns, look[0]) for i, look in enumerate(looks)] if single else [
        (i, j, tile) for i, look in enumerate(looks) for j, tile in enumerate(look)
    ]  # fmt: skip
    step_y, step_x = THUMB[0] + 3 * _LINE + 2 * _GAP, THUMB[1] + _GAP
    head = _MARGIN + _TITLE + 3 * _LINE + _GAP
    width = max(2 * _MARGIN + columns * step_x - _GAP, 2 * _MARGIN + 3 * step_x)
    height = head + (places[-1][0] + 1 if places else 0) * step_y + _LINE + _MARGIN
    image = Image.new("RGB", (width, height), _BACKGROUND)
    pen = ImageDraw.Draw(image)
    _write(pen, (_MARGIN, _MARGIN - 6), title, _TITLE, _BRIGHT, width - 2 * _MARGIN)
    _write(pen, (_MARGIN, _MARGIN + _TITLE + 6), subtitle, _WORD, _PLAIN, width - 2 * _MARGIN, lines=2)
    for row, column, tile in places:
        _draw_tile(image, pen, (_MARGIN + column * step_x, head + row * step_y), tile)
    _write(pen, (_MARGIN, height - _MARGIN - 6), RESEARCH_ONLY, _TEXT, _FAINT, width - 2 * _MARGIN)
    return png_bytes(np.asarray(image))


def _draw_tile(image: Image.Image, pen: ImageDraw.ImageDraw, place: tuple[int, int], tile: Tile) -> None:
    x, y = place
    box = (x, y, x + THUMB[1] - 1, y + THUMB[0] - 1)
    if tile.picture is not None:
        image.paste(Image.fromarray(tile.picture), place)
    elif tile.reason is not None:
        colour = _FAINT if tile.reason in SKIPS else _ORANGE
        pen.rectangle(box, fill=_EMPTY, outline=colour)
        pen.rectangle((x, y, box[2], y + 3), fill=colour)
        below = _write(pen, (x + 12, y + 70), str(tile.reason), _TEXT + 1, colour, THUMB[1] - 18)
        _write(pen, (x + 12, below + 6), REASON_HELP[tile.reason], _TEXT, _PLAIN, THUMB[1] - 24, lines=7)
    if tile.oddities:
        below = box[3] - (22 if tile.polarity in _MARKS else 0)  # at the foot: the head may hold the side's letter
        pen.rectangle((x, below - 22, box[2], below), fill=_YELLOW)
        _write(pen, (x + 8, below - 19), ", ".join(map(_words, tile.oddities)), _TEXT + 1, _BACKGROUND, THUMB[1] - 12)
    if tile.polarity in _MARKS:
        colour, word, strength = _MARKS[tile.polarity]
        pen.rectangle(box, outline=colour, width=strength)
        pen.rectangle((x, box[3] - 22, box[2], box[3]), fill=colour)
        _write(pen, (x + 8, box[3] - 19), word, _TEXT + 1, _BACKGROUND, THUMB[1] - 12)
    for number, line in enumerate(tile.lines):
        colour = _BRIGHT if number == 0 else _PLAIN if number == 1 else _FAINT
        _write(pen, (x, y + THUMB[0] + 4 + number * _LINE), line, _TEXT, colour, THUMB[1])


def _write(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, colour: Colour, width: int, lines: int = 1
) -> int:
    """Write text in at most so many lines of a width; return where the next line would begin."""
    font = ImageFont.load_default(size)
    x, y = place
    for line in _wrapped(pen, text, font, width, lines):
        pen.text((x, y), line, font=font, fill=colour)
        y += size + 4
    return y


def _wrapped(pen: ImageDraw.ImageDraw, text: str, font: Any, width: int, lines: int) -> list[str]:
    """Cut text into lines at blanks; what goes beyond the last line, or is wider than one, ends with an ellipsis."""
    found = [""]
    for word in text.split(" ") if lines > 1 else [text]:
        longer = f"{found[-1]} {word}" if found[-1] else word
        if not found[-1] or pen.textlength(longer, font=font) <= width:
            found[-1] = longer
        else:
            found.append(word)
    if len(found) > lines:
        found = [*found[: lines - 1], f"{found[lines - 1]}..."]
    return [_shortened(pen, line, font, width) for line in found]


def _shortened(pen: ImageDraw.ImageDraw, line: str, font: Any, width: int) -> str:
    while len(line) > 4 and pen.textlength(line, font=font) > width:
        line = line[:-4] + "..."
    return line
