"""Mutations that know where a format keeps its sizes, lengths and tables."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from functools import cache

from pydicom._uid_dict import UID_dictionary

from tests.fuzz.draw import Draw

Mutation = Callable[[bytes, Draw], bytes]

WORDS = (0, 1, 2, 7, 8, 9, 12, 15, 16, 17, 31, 32, 33, 64, 255, 256, 0x7FFF, 0x8000, 60000, 0xFFFE, 0xFFFF)
LONGS = (0, 1, 8, 63, 64, 65, 1000, 2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 9, 2**32 - 2, 2**32 - 1)
TEXTS = (
    b"", b" ", b"0", b"-1", b"1e9", b"1e400", b"-1e-400", b"nan", b"inf", b"9" * 300, b"1\\2\\3", b"\\" * 50, b"\0\0",
    b"\xff\xfe", b"\x1b$B\x1b(B", b"abc", b"0x10", b"999Y", b"LL", b"RGB", b"INVERSE", b"SIGMOID", b"65536",
    b"4294967296",
)  # fmt: skip

_SIZES = (  # tags of 16-bit integers
    0x00280002, 0x00280004, 0x00280006, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103,
    0x00280120, 0x00280121, 0x00283002,
)  # fmt: skip
_STRINGS = (
    0x00080005, 0x00080008, 0x00080016, 0x00080060, 0x00080068, 0x00100040, 0x00101010, 0x00180015, 0x00185101,
    0x00200013, 0x00280004, 0x00280008, 0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281056, 0x20500020,
)  # fmt: skip
_VR = re.compile(rb"[\x02\x08\x10\x18\x20\x28\x50\x54\x60\x7f\xe0].{3}([A-Z]{2})", re.DOTALL)
_LONG_VRS = frozenset({b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF"})
_ITEM, _DELIMITER, _PIXELS = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0", b"\xe0\x7f\x10\x00"
_SYNTAXES = sorted(str(uid) for uid, facts in UID_dictionary.items() if facts[1] == "Transfer Syntax")


def mutations_of(data: bytes) -> tuple[Mutation, ...]:
    """Return what can be done to a file because of what it holds."""
    if data.startswith(b"\x89PNG"):
        return PNG
    if data.startswith(b"\xff\xd8"):
        return JPEG
    found = DICOM
    if b"1.2.840.10008.1.2.1.99" in data[:400]:
        found += (inside_deflate,) * 6
    if b"\xff\x4f\xff\x51" in data:
        found += (wavelet_size, wavelet_size, wavelet_coding, marker_segment)
    elif b"\xff\xd8\xff" in data:
        found += (jpeg_frame, jpeg_frame, marker_segment, marker_segment)
    elif b"1.2.840.10008.1.2.5" in data[:400]:
        found += (rle_header, rle_header, rle_header)
    return found


# --- DICOM


def _replace(data: bytes, start: int, end: int, with_: bytes) -> bytes:
    return data[:start] + with_ + data[end:]


def _element(data: bytes, tag: int) -> tuple[int, int, int, str] | None:
    """Return where an element's length and value lie, the width of its length, and the byte order."""
    for order in "<>":
        place = data.find(struct.pack(order + "HH", tag >> 16, tag & 0xFFFF))
        if place < 0:
            continue
        vr = data[place + 4 : place + 6]
        if vr.isalpha() and vr.isupper():
            return (place + 8, place + 12, 4, order) if vr in _LONG_VRS else (place + 6, place + 8, 2, order)
        return place + 4, place + 8, 4, order
    return None


def _set_value(data: bytes, tag: int, value: bytes) -> bytes:
    found = _element(data, tag)
    if found is None or found[1] > len(data):
        return data
    length_at, value_at, width, order = found
    code = order + {2: "H", 4: "I"}[width]
    (length,) = struct.unpack_from(code, data, length_at)
    return _replace(data, length_at, value_at + length, struct.pack(code, len(value)) + value)


def size_tag(data: bytes, draw: Draw) -> bytes:
    tag = draw.of(_SIZES)
    found = _element(data, tag)
    order = found[3] if found else "<"
    count = draw.of((1, 1, 1, 1, 3, 0))
    return _set_value(data, tag, b"".join(struct.pack(order + "H", draw.of(WORDS)) for _ in range(count)))


def two_size_tags(data: bytes, draw: Draw) -> bytes:
    return size_tag(size_tag(data, draw), draw)


def text_tag(data: bytes, draw: Draw) -> bytes:
    """Set a tag's text; a tag that is not there goes where the order of tags wants it, more or less."""
    tag, value = draw.of(_STRINGS), draw.of(TEXTS)
    if _element(data, tag) is not None:
        return _set_value(data, tag, value + b" " * (len(value) % 2))
    vr = draw.of((b"IS", b"DS", b"CS", b"LO", b"US"))
    value += b" " * (len(value) % 2)
    new = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr + struct.pack("<H", len(value)) + value
    pixels = data.find(_PIXELS)
    return _replace(data, pixels, pixels, new) if pixels >= 0 else data + new


def element_length(data: bytes, draw: Draw) -> bytes:
    """Set the length of some element."""
    places = [match.start() for match in _VR.finditer(data[:20000])]
    if not places:
        return data
    place = draw.of(places)
    if data[place + 4 : place + 6] in _LONG_VRS:
        return _replace(data, place + 8, place + 12, struct.pack("<I", draw.of(LONGS)))
    return _replace(data, place + 6, place + 8, struct.pack("<H", draw.of(WORDS)))


def pixel_length(data: bytes, draw: Draw) -> bytes:
    found = _element(data, 0x7FE00010)
    if found is None:
        return data
    return _replace(data, found[0], found[0] + 4, struct.pack(found[3] + "I", draw.of(LONGS)))


def representation(data: bytes, draw: Draw) -> bytes:
    """Set the type of some element."""
    places = [match.start(1) for match in _VR.finditer(data[:20000])]
    kinds = (b"SQ", b"UN", b"OB", b"OW", b"US", b"DS", b"IS", b"PN", b"AT", b"FD", b"UL", b"UR", b"OF", b"??")
    return _replace(data, place, place + 2, draw.of(kinds)) if (place := draw.of([*places, -1])) >= 0 else data


def syntax(data: bytes, draw: Draw) -> bytes:
    """Name another transfer syntax; the length of the group is mostly kept right."""
    value = draw.of(_SYNTAXES).encode()
    value += b"\0" * (len(value) % 2)
    found = _element(data[:600], 0x00020010)
    if found is None:
        return data
    (before,) = struct.unpack_from("<H", data, found[0])
    changed = _set_value(data, 0x00020010, value)
    if data[128:132] == b"DICM" and draw.chance(0.9):
        (group,) = struct.unpack_from("<I", data, 140)
        changed = _replace(changed, 140, 144, struct.pack("<I", (group + len(value) - before) & 0xFFFFFFFF))
    return changed


def nested(data: bytes, draw: Draw) -> bytes:
    """Put sequences within sequences before the pixels, some deep enough to end a recursion."""
    depth = draw.of((1, 5, 50, 1200, 20000))
    opening = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + _ITEM + b"\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0" + _DELIMITER + b"\0\0\0\0"
    bomb = opening * depth + closing * draw.of((0, depth // 2, depth))
    pixels = max(data.find(_PIXELS), 0)
    return _replace(data, pixels, pixels, bomb)


def item(data: bytes, draw: Draw) -> bytes:
    """Change the length of an item, leave it out, or put more of them."""
    places = [match.start() for match in re.finditer(re.escape(_ITEM), data)]
    if not places:
        return data
    place = draw.of(places)
    doing = draw.below(4)
    if doing == 0:
        return _replace(data, place, place + 8, b"")
    if doing == 1:
        return _replace(data, place, place, (_ITEM + b"\0\0\0\0") * draw.of((1, 3, 20000)))
    if doing == 2:
        return _replace(data, place, place, _DELIMITER + b"\0\0\0\0")
    return _replace(data, place + 4, place + 8, struct.pack("<I", draw.of(LONGS)))


def inside_deflate(data: bytes, draw: Draw) -> bytes:
    """Change what is inside a deflated file."""
    if len(data) < 144 or data[128:132] != b"DICM":
        return data
    start = 144 + int.from_bytes(data[140:144], "little")
    try:
        inside = zlib.decompressobj(-15).decompress(data[start:], 2**22)
    except zlib.error:
        return data
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = packer.compress(draw.of(DICOM)(inside, draw)) + packer.flush(zlib.Z_FULL_FLUSH)
    if draw.chance(0.1):
        packed += zeros(2**20) * draw.of((1, 200))
    return data[:start] + packed + packer.flush()


@cache
def zeros(count: int) -> bytes:
    """Return zeros as a piece of a deflate stream."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(count)) + packer.flush(zlib.Z_FULL_FLUSH)


DICOM: tuple[Mutation, ...] = (
    size_tag, two_size_tags, text_tag, text_tag, element_length, pixel_length, representation, syntax, nested, item,
)  # fmt: skip


# --- RLE


def rle_header(data: bytes, draw: Draw) -> bytes:
    """Change the segment count or offsets."""
    place = data.find(b"\0\0\0", data.find(_PIXELS))
    first = data.find(_ITEM, data.find(_ITEM, data.find(_PIXELS)) + 8) + 8
    if first < 8 or place < 0:
        return data
    word = first + 4 * draw.below(16)
    return _replace(data, word, word + 4, struct.pack("<I", draw.of((*LONGS, 3, 15, 16, draw.below(4000)))))


# --- JPEG 2000


def wavelet_size(data: bytes, draw: Draw) -> bytes:
    """Change a field of SIZ: sizes, offsets, tiles, components, depth, steps."""
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0:
        return data
    field = draw.below(13)
    if field < 8:
        place = start + 8 + 4 * field
        return _replace(data, place, place + 4, struct.pack(">I", draw.of((*LONGS, 1, 2, 36, 40, 60000))))
    place = start + (4, 6, 40, 42, 43)[field - 8]
    return _replace(data, place, place + 2, struct.pack(">H", draw.of(WORDS)))


def wavelet_coding(data: bytes, draw: Draw) -> bytes:
    """Change a byte of COD or QCD: order, layers, levels, block sizes, style (HTJ2K among them), precincts."""
    start = data.find(draw.of((b"\xff\x52", b"\xff\x52", b"\xff\x5c", b"\xff\x90")))
    if start < 0:
        return data
    place = start + 2 + draw.below(14)
    return _replace(data, place, place + 1, bytes([draw.of((0, 1, 4, 8, 10, 32, 33, 64, 127, 255))]))


# --- JPEG and JPEG-LS


def _segments(data: bytes) -> list[int]:
    """Return where marker segments start that have a length."""
    markers = re.compile(rb"\xff[\x4f-\x64\x90\xc0-\xc4\xc8\xc9-\xcf\xda-\xfe](?=..)", re.DOTALL)
    return [match.start() for match in markers.finditer(data)]


def jpeg_frame(data: bytes, draw: Draw) -> bytes:
    """Change the frame header: process, precision, sides, components, sampling."""
    found = re.search(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xf7]\x00", data)
    if found is None:
        return data
    place, field = found.start(), draw.below(5)
    if field == 0:
        return _replace(
            data, place + 1, place + 2, draw.of((b"\xc0", b"\xc1", b"\xc2", b"\xc3", b"\xc9", b"\xf7", b"\xca"))
        )
    if field in (1, 2):
        place += 5 if field == 1 else 7
        return _replace(data, place, place + 2, struct.pack(">H", draw.of((*WORDS, 36, 37, 40, 41))))
    place += (4, 9 + draw.below(5))[field - 3]
    return _replace(data, place, place + 1, bytes([draw.of((0, 1, 2, 3, 4, 8, 11, 12, 16, 17, 0x44, 255))]))


def marker_segment(data: bytes, draw: Draw) -> bytes:
    """Repeat, drop or lengthen a segment, or change a byte of it."""
    places = _segments(data)
    if not places:
        return data
    place = draw.of(places)
    length = int.from_bytes(data[place + 2 : place + 4], "big")
    end, doing = place + 2 + length, draw.below(5)
    if doing == 0:
        return _replace(data, place, end, b"")
    if doing == 1:
        return _replace(data, place, place, data[place:end] * draw.of((1, 3, 200)))
    if doing == 2:
        return _replace(data, place + 2, place + 4, struct.pack(">H", draw.of(WORDS)))
    if doing == 3:
        return _replace(data, place + 1, place + 2, bytes([draw.of((0xC0, 0xC4, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE1))]))
    place += 4 + draw.below(max(1, min(length, 40)))
    return _replace(data, place, place + 1, bytes([draw.of((0, 1, 15, 16, 127, 255, draw.below(256)))]))


def scans(data: bytes, draw: Draw) -> bytes:
    """Repeat the last scan many times: each costs a pass over the whole picture."""
    start = data.rfind(b"\xff\xda")
    return data[:-2] + data[start:-2] * draw.of((1, 30, 300)) + data[-2:] if start > 0 else data


JPEG: tuple[Mutation, ...] = (jpeg_frame, jpeg_frame, marker_segment, marker_segment, scans)


# --- PNG


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, place = [], 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    return chunks


def png_file(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Return chunks as a file, with their checksums."""
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_header(data: bytes, draw: Draw) -> bytes:
    """Change a field of IHDR, its checksum right."""
    chunks = _chunks(data)
    if not chunks or len(chunks[0][1]) != 13:
        return data
    fields = list(struct.unpack(">IIBBBBB", chunks[0][1]))
    field = draw.below(7)
    fields[field] = draw.of(LONGS) if field < 2 else draw.of((0, 1, 2, 3, 4, 6, 8, 16, 32, 255))
    return png_file([(chunks[0][0], struct.pack(">IIBBBBB", *fields)), *chunks[1:]])


def png_chunk(data: bytes, draw: Draw) -> bytes:
    """Change a chunk's bytes or kind, repeat or drop it; checksums right."""
    chunks = _chunks(data)
    if not chunks:
        return data
    place, doing = draw.below(len(chunks)), draw.below(4)
    kind, body = chunks[place]
    if doing == 0:
        chunks[place : place + 1] = []
    elif doing == 1:
        chunks[place : place + 1] = [(kind, body)] * draw.of((2, 500))
    elif doing == 2:
        chunks[place] = (
            draw.of((b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"iCCP", b"eXIf", b"IEND", b"IDAT")),
            body,
        )
    elif body:
        at = draw.below(len(body))
        chunks[place] = (kind, body[:at] + draw.bytes(1 + draw.below(4)) + body[at + 1 :])
    return png_file(chunks)


def png_bomb(data: bytes, draw: Draw) -> bytes:
    """Put a chunk that inflates to far more than it is."""
    inside = b"\x78\xda" + zeros(2**20) * draw.of((1, 80)) + b"\x03\0\0\0\0\0"
    bomb = draw.of(
        (
            (b"zTXt", b"k\0\0" + inside),
            (b"iTXt", b"k\0\1\0\0\0" + inside),
            (b"iCCP", b"k\0\0" + inside),
            (b"IDAT", inside),
        )
    )
    chunks = _chunks(data)
    return png_file([*chunks[:1], bomb, *chunks[1:]])


PNG: tuple[Mutation, ...] = (png_header, png_header, png_chunk, png_chunk, png_chunk, png_bomb)
