"""What the tests of captured models share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("torch")

import torch

from flowprov import guard


@pytest.fixture(autouse=True)
def no_internal_errors() -> Iterator[None]:
    """Fail a test in which flowprov had an internal error, even though the program saw nothing of it."""
    yield
    assert guard.internal_errors() == {}


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Reset what torch compiled and counted."""
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()
