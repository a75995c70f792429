"""Where the tensors lie in a safetensors file.

Flows in: a descriptor. Flows out: the stretches of the file that hold a tensor each, as its header says, or
an error for a header that cannot be true. Nothing of the file is trusted.
"""

from __future__ import annotations

import os
import struct

import msgspec

from flowprov.contents.stretches import DamagedError, Stretch, checked

_MAX_HEADER = 16 << 20  # a hundred thousand tensors have less; to decode more would hold up the program
_LENGTH = struct.Struct("<Q")


class _Tensor(msgspec.Struct):
    data_offsets: tuple[int, int] | None = None  # None: the metadata of the file


_decoder = msgspec.json.Decoder(dict[str, _Tensor])


def is_safetensors(head: bytes, size: int) -> bool:
    """Whether a file begins as a safetensors file does."""
    if len(head) < 10 or head[8:9] != b"{":
        return False
    (length,) = _LENGTH.unpack(head[:8])
    return bool(2 <= length <= size - 8)


def stretches(descriptor: int, size: int) -> list[Stretch]:
    """Return where the tensors lie, in the order of the file.

    Raises
    ------
    DamagedError
        If the header is damaged, or says what cannot be.
    OSError
        If the file cannot be read.
    """
    (length,) = _LENGTH.unpack(os.pread(descriptor, 8, 0).ljust(8, b"\0"))
    if length > _MAX_HEADER:
        raise DamagedError(f"a header of {length} bytes")
    header = os.pread(descriptor, length, 8)
    try:
        tensors = _decoder.decode(header)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedError("its header is no JSON of safetensors") from error
    begin = 8 + length
    placed = [tensor.data_offsets for tensor in tensors.values() if tensor.data_offsets is not None]
    if any(offset < 0 for offsets in placed for offset in offsets):
        raise DamagedError("an offset below zero")
    return checked([(begin + first, begin + end) for first, end in placed], size)
