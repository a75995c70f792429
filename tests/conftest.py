"""Every test starts from nothing: no settings of the machine, no open scope, a buffer of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowprov
from flowprov.runtime import runtime


@pytest.fixture(autouse=True)
def fresh_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Forget what the tests before have left, and what the machine has set."""
    for name in list(os.environ):
        if name.startswith("FLOWPROV") and not name.startswith("FLOWPROV_TEST"):
            monkeypatch.delenv(name)
    runtime.reset()
    yield
    runtime.reset()


@pytest.fixture
def buffer(tmp_path: Path) -> Path:
    """A buffer folder into which this process records."""
    folder = tmp_path / "buffer"
    flowprov.configure(journal={"path": str(folder)})
    return folder
