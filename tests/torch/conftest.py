"""What the tests of captured models share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowprov import guard


@pytest.fixture(autouse=True)
def no_faults_of_ours() -> Iterator[None]:
    """Fail a test in which a fault of flowprov's own was met, even though the program saw nothing of it."""
    yield
    assert guard.faults() == {}
