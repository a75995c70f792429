"""Probes that do as they are told, and what was sampled."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowprov.journal.format import find_journals
from flowprov.journal.merge_patch import apply
from flowprov.records import Sample
from tests.support import lines_of

ALL_HOST = {"cpu": True, "mem": True, "swap": True, "disk": True, "network": True, "process": True}


class Told:
    """A probe that calls a function for its reading."""

    def __init__(self, kind: str, read: Callable[[], dict[str, Any]]) -> None:
        self.kind = kind
        self._read = read
        self.closed = False

    def read(self) -> dict[str, Any]:
        """Read."""
        return self._read()

    def close(self) -> None:
        """Remember it."""
        self.closed = True


def unfolded(path: Path) -> list[dict[str, Any]]:
    """Give the samples of one journal, each with all its values."""
    made: list[dict[str, Any]] = []
    values: dict[str, Any] = {}
    for record in lines_of(path):
        if isinstance(record, Sample):
            values = record.values if record.values is not None else apply(values, record.changes or {})
            made.append(values)
    return made


def sampled(folder: Path) -> list[dict[str, Any]]:
    """Give the samples of all journals under a folder."""
    return [values for path in find_journals(folder) for values in unfolded(path)]


def await_samples(buffer: Path, count: int) -> None:
    """Wait until so many samples stand in the journals under a folder."""
    deadline = time.monotonic() + 20
    while len(sampled(buffer)) < count:
        assert time.monotonic() < deadline, "no sample came"
        time.sleep(0.005)


def threads() -> list[str]:
    """Name the threads of flowprov's that sample."""
    return [each.name for each in threading.enumerate() if each.name == "flowprov-sampler"]


def afresh(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Let a module be imported anew in this test, and forget what was imported then."""
    monkeypatch.setitem(sys.modules, module, sys)  # so that what was there is put back, or taken away
    monkeypatch.delitem(sys.modules, module)
