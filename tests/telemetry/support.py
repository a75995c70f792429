"""Helpers for tests of telemetry: a fake probe, and the samples of a journal or a folder."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowprov.journal.format import find_journals
from flowprov.journal.merge_patch import apply
from flowprov.records import Sample
from tests.support import lines_of, wait_until

ALL_HOST = {"cpu": True, "mem": True, "swap": True, "disk": True, "network": True, "process": True}


class FakeProbe:
    """A probe whose readings come from a function."""

    def __init__(self, kind: str, read: Callable[[], dict[str, Any]]) -> None:
        self.kind = kind
        self._read = read
        self.closed = False

    def read(self) -> dict[str, Any]:
        """Return what the function returns."""
        return self._read()

    def close(self) -> None:
        """Remember that the probe was closed."""
        self.closed = True


def full_samples_of(path: Path) -> list[dict[str, Any]]:
    """Return the samples of one journal, each with all its values."""
    samples: list[dict[str, Any]] = []
    values: dict[str, Any] = {}
    for record in lines_of(path):
        if isinstance(record, Sample):
            values = record.values if record.values is not None else apply(values, record.changes or {})
            samples.append(values)
    return samples


def all_samples(folder: Path) -> list[dict[str, Any]]:
    """Return the samples of all journals under a folder."""
    return [values for path in find_journals(folder) for values in full_samples_of(path)]


def await_samples(buffer: Path, count: int) -> None:
    """Wait until the journals under a folder hold so many samples."""
    wait_until(lambda: len(all_samples(buffer)) >= count)


def sampler_threads() -> list[str]:
    """Return the names of the sampler threads of this process."""
    return [thread.name for thread in threading.enumerate() if thread.name == "flowprov-sampler"]


def import_anew(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Make this test import a module anew, and restore the modules after the test."""
    monkeypatch.setitem(sys.modules, module, sys)  # so that monkeypatch restores or removes the entry
    monkeypatch.delitem(sys.modules, module)
