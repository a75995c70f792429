"""What the tests of adapters share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")

import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Leave the cores to others: models so small gain nothing by them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
