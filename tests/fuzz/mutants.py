"""Broken and hostile files made of sound ones: a seed and a number name each, on every machine."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.fuzz import formats
from tests.fuzz.draw import Draw

EXTREMES = (
    0,
    1,
    2,
    7,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFE,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
)


@dataclass(frozen=True)
class Mutant:
    """A file, and how it came about.

    Attributes
    ----------
    index
        Its number; with the seed, its name.
    parent
        The corpus file that it was made of.
    steps
        What was done to that.
    data
        The file.
    """

    index: int
    parent: str
    steps: tuple[str, ...]
    data: bytes


def mutants(corpus: Mapping[str, bytes], seed: int, numbers: range) -> Iterator[Mutant]:
    """Make mutants one after another; each depends on its number and the seed only."""
    names = sorted(corpus)
    for index in numbers:
        draw = Draw(f"{seed}/{index}")
        parent = names[index % len(names)]
        yield _mutate(index, parent, corpus, draw)


def _mutate(index: int, parent: str, corpus: Mapping[str, bytes], draw: Draw) -> Mutant:
    data, steps = corpus[parent], []
    for _ in range(draw.of((1, 1, 1, 2, 2, 3, 5))):
        if draw.chance(0.03):
            other = draw.of(sorted(corpus))
            data, step = _splice(data, corpus[other], draw), f"splice {other}"
        else:
            data, step = _step(data, draw)
        steps.append(step)
    return Mutant(index, parent, tuple(steps), data)


def _step(data: bytes, draw: Draw) -> tuple[bytes, str]:
    """Do one thing to a file: mostly something that its format calls for."""
    special = formats.mutations_of(data)
    mutation = draw.of(special if special and draw.chance(0.6) else GENERIC)
    return mutation(data, draw), mutation.__name__.strip("_")


def _splice(data: bytes, other: bytes, draw: Draw) -> bytes:
    return data[: draw.below(len(data) + 1)] + other[draw.below(len(other) + 1) :]


def _flip_bits(data: bytes, draw: Draw) -> bytes:
    out = bytearray(data)
    for _ in range(draw.of((1, 1, 2, 4, 16, 64)) if out else 0):
        out[draw.below(len(out))] ^= 1 << draw.below(8)
    return bytes(out)


def _set_bytes(data: bytes, draw: Draw) -> bytes:
    out = bytearray(data)
    for _ in range(draw.of((1, 1, 2, 8)) if out else 0):
        out[draw.below(len(out))] = draw.of((0, 0xFF, 0x7F, 0x80, draw.below(256)))
    return bytes(out)


def _set_integer(data: bytes, draw: Draw) -> bytes:
    width, order = draw.of((2, 4)), draw.of("<>")
    if len(data) < width:
        return data
    place = draw.below(len(data) - width + 1)
    value = draw.of(EXTREMES) & (2 ** (8 * width) - 1)
    return data[:place] + struct.pack(order + {2: "H", 4: "I"}[width], value) + data[place + width :]


def _insert(data: bytes, draw: Draw) -> bytes:
    place = draw.below(len(data) + 1)
    return data[:place] + draw.bytes(1 + draw.below(draw.of((1, 4, 300)))) + data[place:]


def _delete(data: bytes, draw: Draw) -> bytes:
    start, end = draw.span(len(data))
    return data[:start] + data[end:]


def _duplicate(data: bytes, draw: Draw) -> bytes:
    start, end = draw.span(len(data))
    return data[:end] + data[start:end] * draw.of((1, 2, 50)) + data[end:]


def _move(data: bytes, draw: Draw) -> bytes:
    start, end = draw.span(len(data))
    rest = data[:start] + data[end:]
    place = draw.below(len(rest) + 1)
    return rest[:place] + data[start:end] + rest[place:]


def _fill(data: bytes, draw: Draw) -> bytes:
    start, end = draw.span(len(data))
    return data[:start] + bytes([draw.of((0, 0xFF, draw.below(256)))]) * (end - start) + data[end:]


def _truncate(data: bytes, draw: Draw) -> bytes:
    return data[: draw.below(len(data) + 1)]


def _extend(data: bytes, draw: Draw) -> bytes:
    return data + draw.of((bytes(draw.of((1, 100, 2**20))), draw.bytes(100), data))


GENERIC: tuple[formats.Mutation, ...] = (
    _flip_bits, _flip_bits, _set_bytes, _set_integer, _insert, _delete, _duplicate, _move, _fill, _truncate, _extend,
)  # fmt: skip
