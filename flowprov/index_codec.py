"""The indices of a batch as short text, and back.

Flows in: the indices of the samples of one batch, in any order. Flows out: ASCII text without quotes, for a
line of a journal. Shuffled indices of a million samples, 64 in a batch, take 2.5 bytes each.

The indices are sorted; what is written is the smallest, and then the gaps, in a Golomb-Rice code: each gap as
a quotient in ones, a zero, and ``width`` bits of remainder. The order within a batch is not kept.
Source of the code: R. F. Rice, "Some practical universal noiseless coding techniques", JPL 79-22, 1979.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from itertools import pairwise

_MAX_WIDTH = 62
_MORE = 0x80  # a byte of a number that has further bytes
_BEGINNING = 15  # characters that hold the first number, whatever it is


def encode_indices(indices: Sequence[int]) -> str:
    """Return the text of some indices.

    Parameters
    ----------
    indices
        Integers below 2**62 in size; one may be there several times.
    """
    if not indices:
        return ""
    values = sorted(indices)
    gaps = [after - before for before, after in pairwise(values)]
    width = _best_width(gaps)
    mask, filler = (1 << width) - 1, f"0{width}b"
    remainders = [format(gap & mask, filler) for gap in gaps] if width else [""] * len(gaps)
    bits = "".join(["1" * (gap >> width) + "0" + rest for gap, rest in zip(gaps, remainders, strict=True)])
    head = _number(len(values)) + _number(_folded(values[0])) + bytes([width])
    length = -(-len(bits) // 8)
    packed = int(bits.ljust(8 * length, "1"), 2).to_bytes(length, "big") if bits else b""
    return base64.b85encode(head + packed).decode()


def count_indices(text: str | None) -> int:
    """Return how many indices a text holds, without decoding them; 0 of a damaged one."""
    try:
        packed = base64.b85decode((text or "")[:_BEGINNING])
        count = _read_number(packed, 0)[0] if packed else 0
    except ValueError:
        return 0
    return count if count <= 8 * len(text or "") else 0


def decode_indices(text: str) -> list[int]:
    """Return the indices, sorted.

    Raises
    ------
    ValueError
        If the text was not made by :func:`encode_indices`.
    """
    if not text:
        return []
    packed = base64.b85decode(text)
    count, position = _read_number(packed, 0)
    first, position = _read_number(packed, position)
    if position >= len(packed) or not 0 < count <= 8 * len(packed):
        raise ValueError("no indices: the beginning of the text is damaged")
    width = packed[position]
    rest = packed[position + 1 :]
    bits = format(int.from_bytes(rest, "big"), f"0{8 * len(rest)}b") if rest else ""
    values = [(first >> 1) ^ -(first & 1)]
    place = 0
    for _ in range(count - 1):
        zero = bits.find("0", place)
        end = zero + 1 + width
        if zero < 0 or end > len(bits) or width > _MAX_WIDTH:
            raise ValueError("no indices: the text ends too early")
        rest_of_gap = int(bits[zero + 1 : end], 2) if width else 0
        values.append(values[-1] + ((zero - place) << width | rest_of_gap))
        place = end
    return values


def _best_width(gaps: Sequence[int]) -> int:
    """Return the number of bits of a remainder with which the gaps are shortest."""
    total, count = sum(gaps), len(gaps)
    width = max((total // count).bit_length() - 1, 0) if count and total else 0
    return min((width, width + 1), key=lambda bits: sum([gap >> bits for gap in gaps]) + count * bits)


def _folded(value: int) -> int:
    return value << 1 if value >= 0 else ~(value << 1)


def _number(value: int) -> bytes:
    parts = bytearray()
    while value >= _MORE:
        parts.append(value & (_MORE - 1) | _MORE)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _read_number(packed: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(packed) and shift < 70:
        byte = packed[position]
        position += 1
        value |= (byte & (_MORE - 1)) << shift
        if byte < _MORE:
            return value, position
        shift += 7
    raise ValueError("no indices: a number has no end")
