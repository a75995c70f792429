"""Every test starts fresh: without settings of the machine, without open scopes, in a buffer of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowprov
from flowprov.runtime import runtime


@pytest.fixture(autouse=True)
def fresh_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Remove the state of earlier tests and the settings of the machine."""
    for name in list(os.environ):
        if name.startswith("FLOWPROV") and not name.startswith("FLOWPROV_TEST"):
            monkeypatch.delenv(name)
    runtime.reset()
    yield
    runtime.reset()


@pytest.fixture
def buffer(tmp_path: Path) -> Path:
    """Return a buffer folder into which this process records."""
    folder = tmp_path / "buffer"
    flowprov.configure(journal={"path": str(folder)})
    return folder
