"""The bit sum of a tensor: a number that tells two tensors apart, even if a single bit of one was flipped.

Flows in: a tensor. Flows out: ``bit_sum`` in its description, 16 hexadecimal digits.

It is the sum of the elements, each read as the integer that its bits make, modulo 2 to the power of 64. The
order of the elements does not matter. So a device may add them up in any order, and the sum is the same each
time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from flowprov.capture.torch.modes import widest_float

PIECES = 4
"""The number of pieces of a bit sum. Each has 16 bits, which every floating-point type of 32 bits holds."""

_BITS = 16
_MASK = (1 << 64) - 1
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of an element


def compute(tensor: torch.Tensor) -> torch.Tensor:
    """Compute the bit sum of a tensor on its device, where it stays.

    Returns
    -------
    torch.Tensor
        One number of 64 bits, with a sign.
    """
    elements = tensor.detach()
    if elements.is_complex():
        elements = torch.view_as_real(elements.resolve_conj())
    elements = elements.resolve_neg()
    return elements.view(_INTEGERS[elements.element_size()]).sum(dtype=torch.int64)


def to_pieces(total: torch.Tensor) -> torch.Tensor:
    """Return a bit sum as floating-point numbers, which can be copied together with others."""
    shifts = torch.arange(0, PIECES * _BITS, _BITS, device=total.device)
    return ((total >> shifts) & ((1 << _BITS) - 1)).to(widest_float(total.device))


def from_pieces(pieces: Sequence[float]) -> int:
    """Return the bit sum of which :func:`to_pieces` made these."""
    return sum(int(piece) << (position * _BITS) for position, piece in enumerate(pieces))


def field(total: int) -> bytes:
    """Encode a bit sum: the part of a tensor's JSON that holds it."""
    return b',"bit_sum":"%016x"' % (total & _MASK)
