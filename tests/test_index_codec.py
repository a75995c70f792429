"""Indices as text, and back."""

from __future__ import annotations

import contextlib
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprov.index_codec import count_indices, decode_indices, encode_indices

INDICES = st.lists(st.integers(-(2**62) + 1, 2**62 - 1) | st.integers(0, 50))


@given(INDICES)
def test_decoding_returns_the_indices_sorted(indices: list[int]) -> None:
    text = encode_indices(indices)
    assert decode_indices(text) == sorted(indices)
    assert count_indices(text) == len(indices)
    assert json.dumps(text) == f'"{text}"'


@given(st.text())
def test_any_text_is_decoded_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(decode_indices(text), list)
    assert 0 <= count_indices(text) <= 8 * len(text)


@pytest.mark.parametrize("size", [64, 256])
def test_shuffled_samples_take_three_bytes_at_most(size: int) -> None:
    order = random.Random(3).sample(range(1_000_000), 100 * size)  # noqa: S311 - no secret
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    around = len(b'{"type":"batch","of":123,"ix":""}\n')
    assert sum(len(encode_indices(batch)) + around for batch in batches) <= 3.02 * len(order)
